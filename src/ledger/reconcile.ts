import pg from 'pg'
import { isConnectionTrouble } from '#postgres/client/database.ts'
import { databaseError } from '#postgres/client/errors.ts'
import { type DatabaseTarget, exactTypes } from '#postgres/client/target.ts'
import { type Check, checks, revealedCount, revealedRounds } from './checks.ts'

/** A stored round and the seeds that decided it; stakePerLine in chips. */
export interface RevealedRound {
  serverSeed: string
  clientSeed: string
  nonce: number
  stakePerLine: number
  lines: number
  /** The game's version that the round was played under. */
  version: string
}

/** What the seeds give: packed stops, chips. Undefined when this program does not know the version. */
export type Recompute = (round: RevealedRound) => { stops: number; payout: bigint } | undefined

export interface CheckResult {
  name: string
  promise: string
  /** How many rows were looked at. */
  rows: bigint
  mismatches: bigint
  /** Ids of the first few, in words where an id does not say it. */
  examples: string[]
  tookMs: number
  /** Why it was left out; rows is then what would have been looked at. */
  skipped?: string
}

export interface Reconciliation {
  /** True when nothing that was looked at is wrong. */
  clean: boolean
  /** When the snapshot was taken, by the database's clock. */
  takenAt: Date
  checks: CheckResult[]
}

export interface ReconcileOptions {
  /** A role that reads the books, such as moonyetis_monitor. */
  target: DatabaseTarget
  recompute: Recompute
  /** Recompute every round of revealed seeds: true, false, or undefined for "when they are few". */
  deep?: boolean | undefined
  /** Called before each check, and while rounds are recomputed. */
  onProgress?: (progress: { check: string; done: bigint; of?: bigint }) => void
}

// Some seconds of HMACs.
const fewRounds = 200_000n
const pageRows = 5000
const mostExamples = 5

/**
 * Reads the books as of one moment and answers whether they are whole. Reads only, under a snapshot, so it neither
 * waits for play nor holds it up; a long one keeps VACUUM from old row versions meanwhile.
 * @throws DATABASE_UNAVAILABLE
 */
export async function reconcile(o: ReconcileOptions): Promise<Reconciliation> {
  const client = new pg.Client({
    ...o.target,
    application_name: 'moonyetis reconcile',
    connectionTimeoutMillis: 3000,
    types: exactTypes,
  })
  // What is awaited rejects as well.
  client.on('error', () => undefined)
  try {
    await client.connect()
    return await readBooks(client, o)
  } catch (error) {
    if (!isConnectionTrouble(error)) throw error
    throw databaseError('DATABASE_UNAVAILABLE', { retryAfterSeconds: 1 }, { cause: error })
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function readBooks(client: pg.Client, o: ReconcileOptions): Promise<Reconciliation> {
  await client.query('BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY')
  await client.query(`SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;
    SET LOCAL work_mem = '64MB'`)
  const { rows } = await client.query<{ at: Date }>('SELECT now() AS at')
  const results: CheckResult[] = []
  for (const check of checks) {
    o.onProgress?.({ check: check.name, done: 0n })
    results.push(await ask(client, check))
  }
  results.push(await checkDraws(client, o))
  await client.query('COMMIT')
  const clean = results.every(result => result.mismatches === 0n)
  return { clean, takenAt: (rows[0] as { at: Date }).at, checks: results }
}

async function ask(client: pg.Client, { name, promise, sql }: Check): Promise<CheckResult> {
  const startedMs = performance.now()
  const { rows } = await client.query<{ rows: bigint; mismatches: bigint; examples: string[] }>(sql)
  const [answer] = rows as [{ rows: bigint; mismatches: bigint; examples: string[] }]
  return { name, promise, ...answer, tookMs: performance.now() - startedMs }
}

async function checkDraws(client: pg.Client, o: ReconcileOptions): Promise<CheckResult> {
  const startedMs = performance.now()
  const { rows } = await client.query<{ rounds: bigint }>(revealedCount)
  const of = (rows[0] as { rounds: bigint }).rounds
  const result: CheckResult = {
    name: 'draws',
    promise: 'Each round of a revealed seed is what its seeds give, in stops and payout.',
    rows: 0n,
    mismatches: 0n,
    examples: [],
    tookMs: 0,
  }
  if (!(o.deep ?? of <= fewRounds))
    return {
      ...result,
      rows: of,
      skipped: o.deep === false ? 'not asked for' : 'many rounds: ask with --deep',
    }
  await client.query(`DECLARE revealed NO SCROLL CURSOR FOR ${revealedRounds}`)
  for (;;) {
    o.onProgress?.({ check: result.name, done: result.rows, of })
    const page = await client.query<RoundRow>(`FETCH ${pageRows} FROM revealed`)
    for (const row of page.rows) judge(row, o.recompute, result)
    if (page.rows.length < pageRows) break
  }
  result.tookMs = performance.now() - startedMs
  return result
}

interface RoundRow {
  id: bigint
  server_seed: string
  client_seed: string
  nonce: bigint
  stake_per_line: number
  lines: number
  stops: number
  payout: bigint
  version: string | null
}

function judge(row: RoundRow, recompute: Recompute, result: CheckResult): void {
  result.rows++
  const drawn = recompute({
    serverSeed: row.server_seed,
    clientSeed: row.client_seed,
    nonce: Number(row.nonce),
    stakePerLine: row.stake_per_line,
    lines: row.lines,
    version: row.version ?? '',
  })
  if (drawn?.stops === row.stops && drawn.payout === row.payout) return
  result.mismatches++
  if (result.examples.length === mostExamples) return
  // Rules that are not here cannot vouch for a round.
  result.examples.push(drawn ? String(row.id) : `${row.id} (unknown game version ${row.version})`)
}
