import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import type { World } from './world.ts'

/** What the database had spent at a moment. */
export interface Meter {
  postgresCpuUs: number
  walBytes: number
  walFsyncs: number
}

export async function readMeter(world: World): Promise<Meter> {
  const [row] = await world.database.query<{ wal_bytes: string; fsyncs: bigint | null }>(
    `SELECT wal_bytes::text, (SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal')::bigint AS fsyncs FROM pg_stat_wal`,
  )
  return {
    postgresCpuUs: cpuUsOf(world.server.node.dataDirectory),
    walBytes: Number(row?.wal_bytes),
    walFsyncs: Number(row?.fsyncs ?? Number.NaN),
  }
}

/** CPU of a process, in microseconds; /proc counts in ticks of 10 ms. */
export function processCpuUs(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
    return (Number(fields[11]) + Number(fields[12])) * 10_000
  } catch {
    return 0
  }
}

// Every process of the server has its data directory as working directory. Reading links needs Linux and root or the
// same user; elsewhere the figure is 0 and the report says n/a.
function cpuUsOf(dataDirectory: string): number {
  const pids = readdirSync('/proc').filter(name => /^\d+$/.test(name))
  return pids
    .filter(pid => cwdOf(pid) === dataDirectory)
    .reduce((sum, pid) => sum + processCpuUs(Number(pid)), 0)
}

function cwdOf(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`)
  } catch {
    return undefined
  }
}
