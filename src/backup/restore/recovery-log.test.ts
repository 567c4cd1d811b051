import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseRecoveryLog } from './recovery-log.ts'

test('times of a recovery are taken from the words of both versions', () => {
  const text = `2026-11-24 15:06:01.100 UTC [7] LOG:  starting point-in-time recovery to 2026-11-24 15:00:00+00
2026-11-24 15:06:01.200 UTC [7] LOG:  consistent recovery state reached at 0/2000120
2026-11-24 15:06:02.300 UTC [7] LOG:  redo done at 0/30002B0 system usage: CPU: user: 0.00 s
2026-11-24 15:06:02.301 UTC [7] LOG:  last completed transaction was at log time 2026-11-24 15:05:58.088123+00
2026-11-24 15:06:02.400 UTC [7] FATAL:  recovery ended before configured recovery target was reached
`
  assert.deepEqual(parseRecoveryLog(text), {
    consistentAt: new Date('2026-11-24T15:06:01.200Z'),
    replayedAt: new Date('2026-11-24T15:06:02.300Z'),
    lastCommitAt: new Date('2026-11-24T15:05:58.088Z'),
  })
})

test('a log that says nothing of it, or none, gives nothing', () => {
  assert.deepEqual(parseRecoveryLog(''), {})
  assert.deepEqual(parseRecoveryLog('2026-11-24 15:06:01.100 UTC [7] LOG:  consistent\n'), {})
})
