import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  defaultSharedBuffersMegabytes,
  rememberedPort,
  renderSettings,
  type SettingsInput,
} from './settings.ts'

const input: SettingsInput = {
  name: 'node-a',
  port: 5433,
  socketDirectory: '/home/o\'neil/a "b", c',
  listenAddresses: ['127.0.0.1', '::1'],
  logDirectory: '/logs\\new',
  sharedBuffersMegabytes: 256,
  major: 18,
}

test('durability is on in every configuration', () => {
  const text = renderSettings(input)
  for (const line of [
    'fsync = on',
    "synchronous_commit = 'on'",
    'full_page_writes = on',
    "wal_level = 'replica'",
  ]) {
    assert.ok(text.includes(`\n${line}\n`), line)
  }
})

test('parameters of statements are in no log', () => {
  const text = renderSettings(input)
  assert.match(text, /^log_parameter_max_length = 0$/m)
  assert.match(text, /^log_parameter_max_length_on_error = 0$/m)
})

test('quotes, commas and backslashes of paths are escaped as PostgreSQL reads them', () => {
  const text = renderSettings(input)
  assert.ok(text.includes(`unix_socket_directories = '"/home/o''neil/a ""b"", c"'`))
  assert.ok(text.includes(`log_directory = '/logs\\\\new'`))
})

test('an idle slot is kept where PostgreSQL could give it up, and older servers are not told what they do not know', () => {
  assert.match(renderSettings(input), /^idle_replication_slot_timeout = 0$/m)
  assert.doesNotMatch(renderSettings({ ...input, major: 17 }), /idle_replication_slot_timeout/)
})

test('extra settings win over the usual ones and appear once', () => {
  const text = renderSettings({ ...input, extra: { max_connections: 20 } })
  assert.deepEqual(text.match(/^max_connections = .*$/gm), ['max_connections = 20'])
})

test('the port of an earlier start is found in its configuration', () => {
  assert.equal(rememberedPort(renderSettings(input)), 5433)
  assert.equal(rememberedPort(''), undefined)
  assert.equal(rememberedPort('port = 0\n'), undefined)
})

test('shared_buffers is an eighth of the memory within 128 and 512 MB', () => {
  const gigabyte = 1024 ** 3
  assert.equal(defaultSharedBuffersMegabytes(gigabyte / 2), 128)
  assert.equal(defaultSharedBuffersMegabytes(2 * gigabyte), 256)
  assert.equal(defaultSharedBuffersMegabytes(64 * gigabyte), 512)
})
