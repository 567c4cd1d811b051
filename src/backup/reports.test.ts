import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { layout } from './layout.ts'
import { verifiedAt } from './reports.ts'

function found(finishedAt: string, wholeBackups: string[], objects: string[] = []) {
  const faults = objects.map(object => ({ object, problem: 'damaged' as const, reason: 'test' }))
  return { finishedAt, wholeBackups, faults }
}

describe('when a backup was proven whole', () => {
  test('is the last time that a check or a drill found it so', () => {
    const drills = [
      { backupId: 'a', finishedAt: '2', ok: true },
      { backupId: 'a', finishedAt: '3', ok: false },
    ]
    assert.deepEqual(
      [...verifiedAt([found('1', ['a', 'b'])], drills)],
      [
        ['a', '2'],
        ['b', '1'],
      ],
    )
  })

  test('is never, once a fault was found in it, until it is found whole again', () => {
    const fault = found('2', ['b'], [layout.pack('a', 'base', 0)])
    const before = found('1', ['a', 'b'])
    assert.deepEqual([...verifiedAt([fault, before], []).keys()], ['b'])
    assert.deepEqual([...verifiedAt([before, fault, found('3', ['a'])], []).keys()], ['b', 'a'])
  })

  test('is never, once log or keys had a fault, but for those that were found whole all the same', () => {
    const fault = found('2', ['b'], ['wal/1/00000001/0000000100000000/000000010000000000000001'])
    assert.deepEqual([...verifiedAt([found('1', ['a', 'b']), fault], []).keys()], ['b'])
  })
})
