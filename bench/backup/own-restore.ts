// One restore of ours in a process of its own, as on a bare machine with nothing but the recovery key and the repository:
// `own-restore.ts OPTIONS`.
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { KeyRing, recoveryFrom } from '#backup/keys/ring.ts'
import { Repository } from '#backup/repository.ts'
import { layDatabase } from '#backup/restore/lay.ts'
import { planRestore } from '#backup/restore/plan.ts'
import { restore } from '#backup/restore/restore.ts'
import { survey } from '#backup/restore/survey.ts'
import type { RestoreRequest } from '#backup/restore/target.ts'
import { systemClock } from '#lib/clock.ts'
import { openHome } from '#lib/home.ts'
import { silentLog as log } from '#lib/log.ts'
import { findBinaries } from '#postgres/server/binaries.ts'
import { openStorage } from '#storage/open.ts'
import { beginWork, type OursPlace, openPool, untilEnded } from './own-process.ts'

export interface RestoreOptions extends OursPlace {
  to: string
  bin: string
  /** Goes on until the server has been promoted and stopped in order. */
  replay: boolean
}

const done = beginWork()
const o: RestoreOptions = JSON.parse(process.argv[2] ?? '')
const signal = untilEnded()
const request: RestoreRequest = { target: { kind: 'latest' } }
const repository = await openRepository()
await using pool = openPool()
await (o.replay ? restoreAll() : layOnly())
done()

async function openRepository(): Promise<Repository> {
  const storage = await openStorage({ url: pathToFileURL(o.repository).href, log })
  const { identities, trustedSigner } = await recoveryFrom({ home: openHome(o.home) })
  const ring = new KeyRing({ identities })
  return Repository.open({ storage, ring, log, ...(trustedSigner ? { trustedSigner } : {}) })
}

/** Choice, fetching, opening, checking against the manifest, writing, fsync. */
async function layOnly(): Promise<void> {
  const { backup } = planRestore(await survey({ repository }), request, systemClock.now())
  await layDatabase({
    repository,
    pool,
    backup,
    dataDirectory: join(o.to, 'data'),
    tablespaceDirectory: join(o.to, 'tablespaces'),
    durable: true,
    signal,
  })
}

async function restoreAll(): Promise<void> {
  await restore({
    repository,
    pool,
    request,
    directory: join(o.to, 'home'),
    binaries: findBinaries({ bin: o.bin, programRoot: o.to }),
    signal,
    log,
    clock: systemClock,
  })
}
