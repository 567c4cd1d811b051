/**
 * One of several processes that race for the same objects. It is told each round by its parent and answers what it got:
 *   { round, task: 'putNew', key }     -> whether it wrote
 *   { round, task: 'acquire', prefix } -> the epoch it got; 0 when another one holds the lease. Held until release.
 *   { round, task: 'release' }
 */
import { systemClock } from '#lib/clock.ts'
import { Failure } from '#lib/errors.ts'
import { silentLog } from '#lib/log.ts'
import { acquireLease, type Lease } from '#storage/lease.ts'
import { type OpenOptions, openStorage } from '#storage/open.ts'

interface Task {
  round: number
  task: 'putNew' | 'acquire' | 'release'
  key?: string
  prefix?: string
  ttlMs?: number
}

const options: Omit<OpenOptions, 'log'> = JSON.parse(process.argv[2] as string)
const storage = await openStorage({ ...options, log: silentLog })
let lease: Lease | undefined

process.on('message', (task: Task) => {
  perform(task).then(
    result => process.send?.({ round: task.round, result }),
    error => process.send?.({ round: task.round, error: String(error.stack) }),
  )
})
process.on('disconnect', () => process.exit())
process.send?.({ round: 0 })

async function perform({ task, key = '', prefix = '', ttlMs = 30_000 }: Task): Promise<unknown> {
  if (task === 'putNew') return storage.putNew(key, [Buffer.from(`${process.pid}`), Buffer.alloc(1000, 1)])
  if (task === 'release') return lease?.release()
  const holder = String(process.pid)
  try {
    lease = await acquireLease({ storage, prefix, holder, ttlMs, clock: systemClock, log: silentLog })
    return lease.epoch
  } catch (error) {
    if (!(error instanceof Failure && error.code === 'LEASE_HELD')) throw error
    lease = undefined
    return 0
  }
}
