/**
 * Durable spins per second: ours in process and over HTTP, the naive design, and pgbench, all on one PostgreSQL in one
 * run. `node bench/spin.ts [--repeats 3] [--seconds 3] [--json]`; nothing else should use the machine meanwhile.
 */
import { cpus, loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import { type Meter, processCpuUs, readMeter } from './spin/cost.ts'
import { type Design, functionCall, naive, ours } from './spin/designs.ts'
import { findWrk, type HttpServer, startServe, wrk } from './spin/http.ts'
import { closedLoop, type Window } from './spin/load.ts'
import { findPgbench, initialisePgbench, pgbench, pgbenchVersion } from './spin/pgbench.ts'
import { printReport, type Sample } from './spin/report.ts'
import { openWorld, type World } from './spin/world.ts'

const { values } = parseArgs({
  options: {
    repeats: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    json: { type: 'boolean', default: false },
  },
})
const seconds = Number(values.seconds)
const repeats = Number(values.repeats)
const say = (text: string) => process.stderr.write(`${text}\n`)

say('preparing: PostgreSQL, 9,000 players, pgbench scale 50')
const world = await openWorld(9_000)
const pgbenchProgram = findPgbench()
const wrkProgram = findWrk()
if (pgbenchProgram) await initialisePgbench(pgbenchProgram, world)
else say('pgbench is not installed: its rows are missing (apt-get install postgresql-15)')
if (!wrkProgram) say('wrk is not installed: the HTTP rows are missing (apt-get install wrk)')

const designs = { ours: await ours(world), naive: await naive(world), function: await functionCall(world) }
const server = wrkProgram ? await startServe(world) : undefined
const samples: Sample[] = []
// A server that has been up for a while knows its players: sessions and seats are read once each before the clock runs.
if (server && wrkProgram) await wrk(wrkProgram, world, server, { connections: 64, seconds: 8 })
// Once, as in production once in a quarter of an hour: right after it each page touched goes to the WAL whole.
await world.database.query('CHECKPOINT')
for (let repeat = 1; repeat <= repeats; repeat++) {
  for (const step of steps(world, designs, server)) {
    const before = await readMeter(world)
    const nodeBefore = nodeCpuUs(step.row, server)
    const window = await step.run()
    const sample = {
      row: step.row,
      repeat,
      ...window,
      ...cost(before, await readMeter(world), nodeCpuUs(step.row, server) - nodeBefore, window),
    }
    samples.push(sample)
    say(
      `${repeat}/${repeats} ${step.row.padEnd(28)} ${window.perSecond.toFixed(0).padStart(7)}/s  p50 ${window.p50Ms.toFixed(2)} p99 ${window.p99Ms.toFixed(2)} ms`,
    )
  }
}
printReport(samples, {
  json: values.json,
  facts: {
    node: process.version,
    postgres: (await world.database.query<{ version: string }>('SELECT version()'))[0]?.version ?? '',
    pgbench: pgbenchProgram ? await pgbenchVersion(pgbenchProgram) : 'absent',
    cpu: `${cpus().length} x ${cpus()[0]?.model}`,
    load: loadavg()
      .map(value => value.toFixed(1))
      .join(' '),
    fdatasyncPerSecond: await fdatasyncPerSecond(world.server.node.logDirectory),
    window: `${seconds} s, ${repeats} interleaved repeats, closed loop`,
  },
})
await server?.close()
for (const design of Object.values(designs)) await design.close()
await world.close()

interface Step {
  row: string
  run: () => Promise<Window>
}

function steps(
  on: World,
  by: Record<'ours' | 'naive' | 'function', Design>,
  http: HttpServer | undefined,
): Step[] {
  const loop = (name: keyof typeof by, clients: number, hot = false): Step => ({
    row: `${name} ${clients}${hot ? ' hot' : ''}`,
    run: () => closedLoop({ clients, seconds, spin: () => by[name].spin(hot) }),
  })
  const bench = (script: 'simple-update' | 'tpcb-like'): Step[] =>
    pgbenchProgram
      ? [
          {
            row: `pgbench ${script} 32`,
            run: () => pgbench(pgbenchProgram, on, { script, clients: 32, seconds }),
          },
        ]
      : []
  const overHttp = (connections: number): Step[] =>
    http && wrkProgram
      ? [
          {
            row: `http ${connections}`,
            run: async () => {
              const window = await wrk(wrkProgram, on, http, { connections, seconds })
              if (window.errors > 0) throw new Error(`${window.errors} answers were not 2xx`)
              return window
            },
          },
        ]
      : []
  return [
    ...bench('simple-update'),
    loop('naive', 128),
    loop('ours', 128),
    loop('ours', 128, true),
    ...overHttp(256),
    loop('function', 1),
    loop('ours', 1),
    loop('naive', 1),
    loop('ours', 32),
    loop('naive', 32),
    loop('ours', 512),
    loop('naive', 512),
    loop('naive', 128, true),
    ...[1, 32, 128, 512].flatMap(overHttp),
    ...bench('tpcb-like'),
  ]
}

function nodeCpuUs(row: string, http: HttpServer | undefined): number {
  if (row.startsWith('http') && http) return processCpuUs(http.pid)
  const { user, system } = process.cpuUsage()
  return user + system
}

function cost(before: Meter, after: Meter, nodeUs: number, window: Window) {
  const spins = window.operations
  return {
    nodeUsPerSpin: nodeUs / spins,
    postgresUsPerSpin: (after.postgresCpuUs - before.postgresCpuUs) / spins,
    walBytesPerSpin: (after.walBytes - before.walBytes) / spins,
    spinsPerFsync: spins / (after.walFsyncs - before.walFsyncs),
  }
}

async function fdatasyncPerSecond(directory: string): Promise<number> {
  const { measureFdatasync } = await import('./spin/disk.ts')
  return measureFdatasync(directory)
}
