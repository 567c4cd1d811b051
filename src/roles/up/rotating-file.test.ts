import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { RotatingFile } from './rotating-file.ts'

test('a full file moves on, the oldest goes, and no line is lost among those kept', t => {
  const directory = mkdtempSync(join(tmpdir(), 'my-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const path = join(directory, 'server.log')
  const file = new RotatingFile({ path, limitBytes: 40, keep: 3 })
  for (let number = 0; number < 20; number++) file.write(`line ${String(number).padStart(3, '0')}`)
  file.close()
  assert.deepEqual(readdirSync(directory).sort(), ['server.log.1', 'server.log.2'])
  const kept = ['server.log.2', 'server.log.1']
    .map(name => readFileSync(join(directory, name), 'utf8'))
    .join('')
  const expected = Array.from({ length: 10 }, (_, index) => `line 0${index + 10}\n`).join('')
  assert.equal(kept, expected)
})

test('a file that exists is continued and its size counts', t => {
  const directory = mkdtempSync(join(tmpdir(), 'my-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const path = join(directory, 'server.log')
  for (const text of ['first', 'second']) {
    const file = new RotatingFile({ path, limitBytes: 1000, keep: 3 })
    file.write(text)
    file.close()
  }
  assert.equal(readFileSync(path, 'utf8'), 'first\nsecond\n')
})

test('a log that cannot be written costs lines, not the process, and says how many', t => {
  const directory = mkdtempSync(join(tmpdir(), 'my-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const path = join(directory, 'missing', 'server.log')
  const file = new RotatingFile({ path, limitBytes: 1000, keep: 3 })
  file.write('lost 1')
  file.write('lost 2')
  mkdirSync(join(directory, 'missing'))
  file.write('there')
  file.close()
  assert.equal(readFileSync(path, 'utf8'), '{"level":"warn","msg":"log lines were lost","lost":2}\nthere\n')
})
