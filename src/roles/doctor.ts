import { accessSync, constants, statfsSync } from 'node:fs'
import { Failure } from '#lib/errors.ts'
import type { Home } from '#lib/home.ts'
import { findBinaries } from '#postgres/server/binaries.ts'
import { isFree } from '#postgres/server/port.ts'
import { loopbackAddresses, usableMemoryBytes } from '#postgres/server/settings.ts'
import type { BackupValues } from './backup/open.ts'
import { backupChecks } from './doctor/backups.ts'
import { type Check, gigabytes } from './doctor/check.ts'
import { readStatus } from './status.ts'

export type { Check } from './doctor/check.ts'

export interface DoctorOptions {
  home: Home
  programRoot: string
  http: { host: string; port: number }
  postgres: { topology: 'embedded' | 'external'; bin?: string }
  backup: BackupValues
}

/** Looks at everything a start needs, and whether it could be restored; changes nothing. */
export async function examine(options: DoctorOptions): Promise<Check[]> {
  const { home, postgres } = options
  const status = await readStatus(home)
  const checks = [nodeCheck(), homeCheck(home), spaceCheck(home), memoryCheck()]
  if (postgres.topology === 'embedded') checks.push(binariesCheck(options))
  if (status.up)
    checks.push({
      name: 'running',
      ok: status.ready,
      seen: status.up.state,
      mend: `see ${home.logs}/server.log`,
    })
  else checks.push(await portCheck(options.http))
  if (status.database) {
    const { ready, state, reason } = status.database
    checks.push({
      name: 'database',
      ok: ready,
      seen: `${state}: ${reason}`,
      mend: `see ${home.logs}/postgres`,
    })
  }
  checks.push(
    ...(await backupChecks({ home, values: options.backup, isUp: status.up !== null, now: new Date() })),
  )
  return checks
}

export function checksText(checks: readonly Check[]): string {
  return checks
    .map(
      ({ ok, name, seen, mend }) =>
        `${ok ? 'ok  ' : 'FAIL'} ${name.padEnd(10)} ${seen}${ok || !mend ? '' : `\n     mend: ${mend}`}`,
    )
    .join('\n')
}

function nodeCheck(): Check {
  const ok = Number.parseInt(process.versions.node, 10) >= 24
  return { name: 'node', ok, seen: process.version, mend: 'run npm ci; the program brings its own Node' }
}

function homeCheck(home: Home): Check {
  try {
    for (const path of [home.root, home.secrets, home.state, home.run, home.postgres]) {
      accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK)
    }
    return { name: 'home', ok: true, seen: home.root }
  } catch (error) {
    return {
      name: 'home',
      ok: false,
      seen: (error as Error).message,
      mend: `give ${home.root} to this user: chown -R`,
    }
  }
}

// A day of play, its WAL and the logs fit; below that a full disk is near.
const leastFreeBytes = 2 * 1024 ** 3

function spaceCheck(home: Home): Check {
  const { bavail, bsize } = statfsSync(home.root)
  const free = bavail * bsize
  return {
    name: 'disk',
    ok: free >= leastFreeBytes,
    seen: `${gigabytes(free)} GB free`,
    mend: 'free at least 2 GB',
  }
}

function memoryCheck(): Check {
  const bytes = usableMemoryBytes()
  return {
    name: 'memory',
    ok: bytes >= 900 * 1024 ** 2,
    seen: `${gigabytes(bytes)} GB`,
    mend: 'give it 1 GB or more',
  }
}

function binariesCheck(options: DoctorOptions): Check {
  try {
    const { version, directory } = findBinaries({
      bin: options.postgres.bin,
      programRoot: options.programRoot,
    })
    return { name: 'postgres', ok: true, seen: `${version} in ${directory}` }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return { name: 'postgres', ok: false, seen: error.message, ...(error.hint ? { mend: error.hint } : {}) }
  }
}

async function portCheck(http: { host: string; port: number }): Promise<Check> {
  const addresses = http.host === '127.0.0.1' ? loopbackAddresses().slice(0, 1) : [http.host]
  const ok = await isFree(http.port, addresses)
  return {
    name: 'http port',
    ok,
    seen: `${http.port} is ${ok ? 'free' : 'taken'}`,
    mend: 'choose another one with PORT',
  }
}
