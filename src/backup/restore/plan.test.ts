import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Failure } from '#lib/errors.ts'
import { defaultSegmentBytes, formatLsn, type Lsn, parseLsn, segmentName } from '#lib/lsn.ts'
import type { BackupMarker, DatabaseFacts, RestorePoint } from '../model.ts'
import { isMeant } from './branches.ts'
import { type Catalogue, planRestore, timelineToProve } from './plan.ts'
import { parseRequest, type TargetOptions } from './target.ts'
import { addPiece, type WalPiece } from './wal-range.ts'

const size = BigInt(defaultSegmentBytes)
const system = '7711677056603304589'
const now = new Date('2026-11-24T12:00:00Z')
const lsn = (text: string) => parseLsn(text) as Lsn

/** A backup on timeline 1 unless told otherwise, taken at `hour` o'clock. */
function backup(id: string, hour: number, start: string, stop: string, more: Partial<DatabaseFacts> = {}) {
  const time = (minute: number) => new Date(Date.UTC(2026, 10, 24, hour, minute)).toISOString()
  return {
    id,
    kind: 'full',
    startedAt: time(0),
    finishedAt: time(5),
    files: { count: 1, bytes: 1, object: `backups/${id}/files` },
    database: {
      systemIdentifier: system,
      segmentBytes: defaultSegmentBytes,
      timeline: 1,
      stopTimeline: 1,
      start,
      stop,
      startTime: time(0),
      stopTime: time(4),
      ...more,
    },
  } as BackupMarker
}

/** Segments number `from` to `to` of a timeline; the last one goes to `end` when given. */
function wal(timeline: number, from: number, to: number, end?: string): WalPiece[] {
  return Array.from({ length: to - from + 1 }, (_, index) => {
    const start = BigInt(from + index) * size
    const last = from + index === to
    return { timeline, start, end: last && end !== undefined ? lsn(end) : start + size }
  })
}

function catalogue(o: {
  backups: BackupMarker[]
  wal: WalPiece[]
  histories?: Record<number, string>
  points?: RestorePoint[]
}): Catalogue {
  const stock = new Map<string, WalPiece>()
  for (const piece of o.wal) {
    addPiece(stock, segmentName(piece.timeline, piece.start, defaultSegmentBytes), piece)
  }
  const histories = new Map(
    Object.entries(o.histories ?? {}).map(([timeline, text]) => [Number(timeline), Buffer.from(text)]),
  )
  return {
    repository: 'file:///srv/backups',
    backups: o.backups,
    points: o.points ?? [],
    clusters: new Map([[system, { histories, stock }]]),
  }
}

const plan = (from: Catalogue, options: TargetOptions = {}) =>
  planRestore(from, parseRequest(options, 'UTC'), now)

function failureOf(work: () => unknown): Failure {
  try {
    work()
  } catch (error) {
    assert.ok(error instanceof Failure, String(error))
    return error
  }
  assert.fail('it did not fail')
}

const two = [backup('morning', 6, '0/2000028', '0/2000130'), backup('noon', 11, '0/5000028', '0/5000130')]
const one = catalogue({ backups: two, wal: wal(1, 2, 7, '0/7400000') })

describe('the backup that a restore begins with', () => {
  test('is the newest one for latest, with all the log there is, the open segment included', () => {
    const { backup, wal, timeline, files } = plan(one)
    assert.equal(backup.id, 'noon')
    assert.equal(timeline, 1)
    assert.deepEqual(wal.segments, [
      '000000010000000000000005',
      '000000010000000000000006',
      '000000010000000000000007',
    ])
    assert.equal(formatLsn(wal.to), '0/7400000')
    assert.equal(files?.id, 'noon')
  })

  test('is the newest one that was consistent before the target', () => {
    assert.equal(plan(one, { time: '2026-11-24T11:04:00Z' }).backup.id, 'noon')
    assert.equal(plan(one, { time: '2026-11-24T11:03:59Z' }).backup.id, 'morning')
    assert.equal(plan(one, { lsn: '0/5000130' }).backup.id, 'noon')
    assert.equal(plan(one, { lsn: '0/500012F' }).backup.id, 'morning')
  })

  test('is the one named by --id, and its target is latest unless another is given', () => {
    assert.deepEqual(plan(one, { id: 'morning' }).wal.segments.length, 6)
    assert.deepEqual(plan(one, { id: 'morning', lsn: '0/3000000' }).wal.segments, [
      '000000010000000000000002',
    ])
    assert.equal(failureOf(() => plan(one, { id: 'evening' })).code, 'BACKUP_NOT_FOUND')
  })

  test('is of the cluster that the newest backup is of', () => {
    const other = backup('other', 11, '0/9000028', '0/9000130', { systemIdentifier: '1' })
    const from = catalogue({ backups: [other, ...two], wal: wal(1, 2, 7) })
    other.finishedAt = '2026-11-24T05:00:00Z'
    assert.equal(plan(from).backup.id, 'noon')
  })

  test('reads no further than an LSN needs', () => {
    assert.deepEqual(plan(one, { lsn: '0/6000000' }).wal.segments, ['000000010000000000000005'])
    assert.equal(plan(one, { lsn: '0/6000001' }).wal.segments.length, 2)
  })
})

describe('a target out of reach is refused with the window that restores reach', () => {
  const reasons: Array<[TargetOptions, RegExp]> = [
    [{ time: '2026-11-24T06:03:00Z' }, /the oldest backup morning is consistent only at 0\/2000130/],
    [{ lsn: '0/2000000' }, /reach from 2026-11-24T06:04:00.000Z \(LSN 0\/2000130\)/],
    [{ lsn: '0/7400001' }, /the write-ahead log ends at 0\/7400000.* to LSN 0\/7400000/],
    [{ time: '2026-11-24T12:00:01Z' }, /it lies in the future, now is 2026-11-24T12:00:00.000Z/],
    [{ id: 'noon', time: '2026-11-24T10:00:00Z' }, /the backup noon is consistent only at/],
    [{ timeline: 4 }, /no backup lies before it on that timeline/],
  ]
  for (const [options, message] of reasons) {
    test(JSON.stringify(options), () => {
      const failure = failureOf(() => plan(one, options))
      assert.equal(failure.code, 'RESTORE_TARGET_UNREACHABLE')
      assert.match(failure.message, message)
    })
  }
})

describe('a hole in the log', () => {
  const holed = catalogue({ backups: two, wal: [...wal(1, 2, 3), ...wal(1, 5, 5), ...wal(1, 7, 8)] })

  test('between backup and target is named from and to', () => {
    const failure = failureOf(() => plan(holed))
    assert.equal(failure.code, 'BACKUP_WAL_GAP')
    assert.deepEqual(failure.facts, { from: '0/6000000', to: '0/7000000', timeline: 1 })
  })

  test('behind the target does not matter', () => {
    assert.equal(plan(holed, { lsn: '0/6000000' }).backup.id, 'noon')
    assert.equal(formatLsn(plan(holed, { time: '2026-11-24T11:30:00Z' }).wal.to), '0/6000000')
  })

  test('inside the backup itself makes it useless', () => {
    const early = catalogue({ backups: two, wal: wal(1, 5, 5, '0/50000F0') })
    const failure = failureOf(() => plan(early))
    assert.deepEqual(failure.facts, { from: '0/50000F0', to: '0/5000130', timeline: 1 })
  })

  test('after an open segment counts from where its bytes end', () => {
    const from = catalogue({ backups: two, wal: [...wal(1, 5, 6, '0/6100000'), ...wal(1, 7, 7)] })
    assert.deepEqual(failureOf(() => plan(from)).facts, { from: '0/6100000', to: '0/7000000', timeline: 1 })
  })
})

describe('timelines', () => {
  // Timeline 2 left 1 at 0/6800000; 3 left 2 at 0/8000000, a segment's first byte; 4 left 1 early, at 0/3000100.
  const histories = {
    2: '1\t0/6800000\tno recovery target specified\n',
    3: '1\t0/6800000\tno recovery target specified\n\n2\t0/8000000\tat restore point\n',
  }
  const log = [...wal(1, 2, 6, '0/6900000'), ...wal(2, 6, 8, '0/8000100'), ...wal(3, 8, 9, '0/9100000')]
  const from = catalogue({ backups: two, wal: log, histories })

  test('latest follows the newest one that a backup belongs to, through every switch', () => {
    const { wal, timeline, path } = plan(from)
    assert.equal(timeline, 3)
    assert.deepEqual(
      path.map(stretch => stretch.timeline),
      [1, 2, 3],
    )
    assert.deepEqual(wal.segments, [
      '000000010000000000000005',
      '000000020000000000000006',
      '000000020000000000000007',
      '000000030000000000000008',
      '000000030000000000000009',
    ])
    assert.equal(formatLsn(wal.to), '0/9100000')
  })

  test('a timeline can be asked for', () => {
    assert.equal(formatLsn(plan(from, { timeline: 2 }).wal.to), '0/8000100')
    assert.equal(formatLsn(plan(from, { timeline: 1 }).wal.to), '0/6900000')
  })

  test('a backup that lies beyond where a timeline was left is not of its history', () => {
    const early = { ...histories, 4: '1\t0/3000100\tbefore 2026-11-24 07:00:00+00\n' }
    const branched = catalogue({ backups: two, wal: [...log, ...wal(4, 3, 4)], histories: early })
    assert.equal(failureOf(() => plan(branched)).code, 'RESTORE_TIMELINE_NEEDED')
    const { backup, timeline } = plan(branched, { timeline: 4 })
    assert.deepEqual([backup.id, timeline], ['morning', 4])
    assert.equal(plan(branched, { id: 'noon' }).timeline, 3)
  })

  test('until something of a new timeline is there, the old one is replayed to the switch', () => {
    const young = catalogue({ backups: two, wal: wal(1, 5, 6, '0/6900000'), histories })
    assert.equal(formatLsn(plan(young, { timeline: 2 }).wal.to), '0/6800000')
    const begun = catalogue({
      backups: two,
      wal: [...wal(1, 5, 6, '0/6900000'), ...wal(2, 6, 6, '0/6700000')],
      histories,
    })
    assert.deepEqual(plan(begun, { timeline: 2 }).wal.segments.at(-1), '000000010000000000000006')
  })

  test('a missing segment after a switch is a hole of the new timeline', () => {
    const holed = catalogue({ backups: two, wal: [...wal(1, 5, 6), ...wal(2, 7, 7)], histories })
    assert.deepEqual(failureOf(() => plan(holed, { timeline: 2 })).facts, {
      from: '0/6800000',
      to: '0/7000000',
      timeline: 2,
    })
  })

  test('a restore point is reached on its own timeline', () => {
    const point = {
      name: 'before-release',
      systemIdentifier: system,
      timeline: 2,
      lsn: '0/7000200',
      at: '2026-11-24T11:30:00Z',
    } as RestorePoint
    const named = catalogue({ backups: two, wal: log, histories, points: [point] })
    const { timeline, wal, backup } = plan(named, { name: 'before-release' })
    assert.deepEqual([timeline, backup.id, wal.segments.at(-1)], [2, 'noon', '000000020000000000000007'])
    const failure = failureOf(() => plan(named, { name: 'befor-release' }))
    assert.equal(failure.code, 'RESTORE_POINT_UNKNOWN')
    assert.match(failure.message, /Known: before-release/)
  })
})

describe('two living branches', () => {
  // A trial began timeline 2 in the morning; production went on with timeline 1.
  const histories = { 2: '1\t0/3000100\tno recovery target specified\n' }
  const log = [...wal(1, 2, 7, '0/7400000'), ...wal(2, 3, 3, '0/3900000')]
  const early = backup('early', 3, '0/1000028', '0/1000130')
  const [morning, noon] = two as [BackupMarker, BackupMarker]
  const trial = backup('trial', 9, '0/3200028', '0/3200130', { timeline: 2, stopTimeline: 2 })
  const from = catalogue({ backups: [early, ...two, trial], wal: [...wal(1, 1, 1), ...log], histories })
  const needed = (catalogue: Catalogue, options: TargetOptions = {}) => {
    const failure = failureOf(() => plan(catalogue, options))
    assert.equal(failure.code, 'RESTORE_TIMELINE_NEEDED')
    return failure.message
  }

  test('latest asks for one while the newest backup is of the other, and names where each goes', () => {
    const message = needed(from)
    assert.match(message, /the backup noon of 2026-11-24T11:04:00.000Z on timeline 1 is not of timeline 2's/)
    assert.match(message, /--timeline 2 \(last backup trial of 2026-11-24T09:04.*goes to 0\/3900000\)/)
    assert.match(message, /--timeline 1 \(last backup noon of 2026-11-24T11:04.*goes to 0\/7400000\)/)
    assert.equal(plan(from, { timeline: 1 }).backup.id, 'noon')
    assert.deepEqual(plan(from, { timeline: 1 }).branches, [])
    assert.equal(plan(from, { timeline: 2 }).backup.id, 'trial')
  })

  test('latest follows the branch of the newest backup when that is the newest timeline', () => {
    const left = catalogue({
      backups: [morning, { ...noon, finishedAt: trial.startedAt }],
      wal: log,
      histories,
    })
    const newest = backup('newest', 11, '0/3200028', '0/3200130', { timeline: 2, stopTimeline: 2 })
    const earlier = backup('left', 8, '0/5000028', '0/5000130')
    assert.equal(failureOf(() => plan(left)).code, 'RESTORE_TIMELINE_NEEDED')
    const { backup: chosen, branches } = plan(
      catalogue({ backups: [morning, earlier, newest], wal: log, histories }),
    )
    assert.equal(chosen.id, 'newest')
    assert.deepEqual(
      branches.map(one => [one.timeline, formatLsn(one.fork), formatLsn(one.wal.to), one.lastBackup?.id]),
      [[1, '0/3000100', '0/7400000', 'left']],
    )
    assert.equal(branches[0]?.passedAt?.toISOString(), '2026-11-24T11:04:00.000Z')
  })

  test('a time asks when a backup or a restore point before it is of the other', () => {
    needed(from, { time: '2026-11-24T11:10:00Z' })
    assert.equal(plan(from, { time: '2026-11-24T10:00:00Z' }).backup.id, 'trial')
    const point = { name: 'p', systemIdentifier: system, timeline: 1, lsn: '0/4000000' }
    const points = [{ ...point, at: '2026-11-24T09:30:00Z' } as RestorePoint]
    const named = catalogue({ backups: [morning, trial], wal: log, histories, points })
    assert.match(needed(named, { time: '2026-11-24T09:31:00Z' }), /the restore point p of .* on timeline 1/)
    assert.equal(plan(named, { time: '2026-11-24T09:29:00Z' }).timeline, 2)
    assert.equal(plan(named, { name: 'p' }).timeline, 1)
  })

  test('a backup by its id asks only when it leads to both', () => {
    needed(from, { id: 'morning' })
    assert.equal(plan(from, { id: 'noon' }).timeline, 1)
    assert.equal(plan(from, { id: 'trial' }).timeline, 2)
  })

  test('a drill asks nothing: it follows the newest backup as long as it can', () => {
    assert.deepEqual(
      [undefined, 'morning', 'trial', 'noon', 'gone'].map(id => timelineToProve(from, id)),
      [1, 1, 2, 1, undefined],
    )
    const one = catalogue({ backups: [morning], wal: log, histories })
    assert.equal(timelineToProve(one, undefined), 2)
  })
})

describe('commits on a branch beside the followed timeline', () => {
  const at = (hour: number, minute = 0) => new Date(Date.UTC(2026, 10, 24, hour, minute))
  const fork = lsn('0/3000100')
  const branch = { fork, wal: { segments: [], from: fork, to: lsn('0/7400000'), timeline: 1 } }
  const { target: latest } = parseRequest({}, 'UTC')
  const time = (hour: number) => parseRequest({ time: at(hour).toISOString() }, 'UTC').target
  // Timeline 1 went on from 12:00 to 14:50, timeline 2 began at 15:00.
  const left = { first: at(12), last: at(14, 50) }

  test('may be meant by a time that the followed timeline does not reach beyond the fork', () => {
    assert.deepEqual(
      [11, 13, 14.5, 16].map(hour => isMeant(branch, time(hour), left, at(15))),
      [false, true, true, false],
    )
  })

  test('are left behind by latest once the followed timeline has gone on without them', () => {
    assert.equal(isMeant(branch, latest, left, at(15)), false)
    assert.equal(isMeant(branch, latest, left, undefined), true)
  })

  test('may be meant as long as they go on beside it', () => {
    assert.equal(isMeant(branch, latest, { ...left, last: at(16) }, at(15)), true)
    assert.equal(isMeant(branch, time(17), { ...left, last: at(16) }, at(15)), true)
    const passed = { ...branch, passedAt: at(16, 30) }
    assert.equal(isMeant(passed, latest, { ...left, last: at(16) }, at(15)), false)
  })

  test('may be meant by an LSN that both have', () => {
    const target = (text: string) => parseRequest({ lsn: text }, 'UTC').target
    assert.deepEqual(
      ['0/3000100', '0/3000101', '0/7400001'].map(text => isMeant(branch, target(text), left, at(15))),
      [false, true, false],
    )
  })
})

describe('files', () => {
  const nightly = {
    ...backup('nightly', 3, '0/0', '0/0'),
    kind: 'files',
    database: undefined,
  } as BackupMarker
  const later = { ...nightly, id: 'later', startedAt: '2026-11-24T11:45:00Z' }
  const from = catalogue({ backups: [nightly, ...two, later], wal: wal(1, 2, 7) })

  test('are the newest for latest, else those of the next backup after the target', () => {
    assert.equal(plan(from).files?.id, 'later')
    assert.equal(plan(from, { time: '2026-11-24T11:30:00Z' }).files?.id, 'later')
    assert.equal(plan(from, { time: '2026-11-24T10:30:00Z' }).files?.id, 'noon')
    assert.equal(plan(from, { time: '2026-11-24T11:50:00Z' }).files?.id, 'later')
  })
})
