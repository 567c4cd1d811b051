// A restore as a process of its own, to be killed: node restore-process.ts DIRECTORY_OF_PLACE TARGET STALL_ON_KEY
// Says `stalled` when a read of that key stands still, which it does for ever.

import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { SealPool } from '#backup/envelope/pool.ts'
import { restore } from '#backup/restore/restore.ts'
import { silentLog } from '#lib/log.ts'
import { openStorage } from '#storage/open.ts'
import { faulty } from '../storage/faulty.ts'
import { recoveryRepository, restoreOptions } from './restoring.ts'

const [place = '', directory = '', stallOn = ''] = process.argv.slice(2)
const url = pathToFileURL(join(place, 'repository')).href
const storage = faulty(await openStorage({ url, log: silentLog }), call => {
  if (call.operation !== 'get' || !call.key.endsWith(stallOn)) return undefined
  process.stdout.write('stalled\n')
  return { kind: 'stall' }
})
const pool = new SealPool({ threads: 1 })
const options = restoreOptions({ pool, spool: undefined, bin: undefined, directory })
const repository = await recoveryRepository(place, storage)
// Keeps the process while nothing else does.
setInterval(() => {}, 1_000)
await restore({ ...options, repository, patience: 5 })
