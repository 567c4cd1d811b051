import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parsePidFile } from './pid-file.ts'
import { judgePostmaster } from './postmaster.ts'

const directory = '/home/postgres/node-a'
const live = { startTime: 'boot:1', program: 'postgres', workingDirectory: directory }

test('a live PostgreSQL in the directory is ours', () => {
  assert.equal(judgePostmaster(live, directory), 'ours')
})

test('a number that nobody has is dead', () => {
  assert.equal(judgePostmaster({ ...live, startTime: undefined }, directory), 'dead')
})

test('another program, or a PostgreSQL on another directory, is a stranger', () => {
  assert.equal(judgePostmaster({ ...live, program: 'node' }, directory), 'stranger')
  assert.equal(
    judgePostmaster({ ...live, program: 'node', workingDirectory: undefined }, directory),
    'stranger',
  )
  assert.equal(judgePostmaster({ ...live, workingDirectory: '/elsewhere' }, directory), 'stranger')
})

test('what cannot be seen is not taken for proof', () => {
  assert.equal(judgePostmaster({ ...live, workingDirectory: undefined }, directory), 'unclear')
  assert.equal(judgePostmaster({ ...live, program: undefined }, directory), 'unclear')
})

test('postmaster.pid is read in each stage of its writing', () => {
  const whole = '42\n/data dir\n1790000000\n5432\n/run\n127.0.0.1\n  123 456\nready   \n'
  assert.deepEqual(parsePidFile(whole), {
    pid: 42,
    dataDirectory: '/data dir',
    startedAtSeconds: 1_790_000_000,
    port: 5432,
    socketDirectory: '/run',
    status: 'ready',
  })
  assert.deepEqual(parsePidFile('42\n/data\n1790000000\n'), {
    pid: 42,
    dataDirectory: '/data',
    startedAtSeconds: 1_790_000_000,
  })
  assert.equal(parsePidFile('-42\n/data\n')?.pid, 42, 'a standalone backend')
  for (const broken of ['', '\n', 'x\n/data\n', '0\n']) assert.equal(parsePidFile(broken), undefined)
})
