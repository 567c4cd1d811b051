import { unpackStops } from '#game/draw.ts'
import type { Call, History } from './history.ts'

/** A round as the database has it; all integers as text. */
export interface StoredRound {
  id: string
  nonce: string
  hash: string
  clientSeed: string | null
  stops: string
  stakePerLine: string
  lines: string
  payout: string
  balanceAfter: string
}

export interface StoredSeed {
  hash: string
  state: string
  seed: string | null
}

/** For people's psql and for the superuser alike. */
export const roundsSql = `SELECT r.id::text, r.nonce::text, p.server_seed_hash AS hash, p.client_seed AS "clientSeed",
  r.stops::text, r.stake_per_line::text AS "stakePerLine", r.lines::text, r.payout::text,
  r.balance_after::text AS "balanceAfter" FROM rounds r JOIN seed_pairs p ON p.id = r.seed_pair_id ORDER BY r.id`
export const seedsSql = 'SELECT server_seed_hash AS hash, state, server_seed AS seed FROM seed_pairs'

export interface ToldSpin {
  key: string
  id: string
  /** When the answer was here, on the monotonic clock. */
  toldAtMs: number
  values: Omit<StoredRound, 'id' | 'stops'> & { stops: string }
}

interface SpinBody {
  round: {
    id: string
    nonce: number
    serverSeedHash: string
    clientSeed: string
    stops: number[]
    payout: string
  }
  balance: string
}

interface RotateBody {
  revealed: { serverSeed: string; serverSeedHash: string }
  current: { serverSeedHash: string; nextServerSeedHash: string }
}

/** Every spin that was answered with 200, once. */
function toldSpins({ calls }: History): ToldSpin[] {
  const spins = new Map<string, ToldSpin>()
  for (const call of calls) {
    if (call.op !== 'spin' || call.outcome.kind !== 'ok') continue
    const { round, balance } = JSON.parse(call.outcome.body) as SpinBody
    const { stakePerLine, lines } = call.payload as { stakePerLine: string; lines: number }
    const values = {
      nonce: String(round.nonce),
      hash: round.serverSeedHash,
      clientSeed: round.clientSeed,
      stops: round.stops.join(' '),
      stakePerLine,
      lines: String(lines),
      payout: round.payout,
      balanceAfter: balance,
    }
    if (!spins.has(round.id))
      spins.set(round.id, {
        key: `${call.client} ${call.key}`,
        id: round.id,
        toldAtMs: call.completedAtMs,
        values,
      })
  }
  return [...spins.values()]
}

/** Hashes of server seeds that players were shown, as current or as next. */
export function toldHashes({ calls }: History): Set<string> {
  const hashes = new Set<string>()
  for (const { op, outcome } of calls) {
    if (outcome.kind !== 'ok') continue
    const body = JSON.parse(outcome.body) as SpinBody & RotateBody
    if (op === 'spin') hashes.add(body.round.serverSeedHash)
    else for (const hash of [body.current.serverSeedHash, body.current.nextServerSeedHash]) hashes.add(hash)
  }
  return hashes
}

export interface Comparison {
  told: number
  /** Told and not stored. */
  lost: ToldSpin[]
  /** Stored otherwise than told, or twice. */
  different: string[]
  /** Stored and not told to anybody: at most what ended without an answer. */
  untold: number
  unanswered: number
}

/** What players were told against what a database has. */
export function compareRounds(history: History, rounds: readonly StoredRound[]): Comparison {
  const stored = new Map(rounds.map(round => [round.id, round]))
  const different = rounds.length === stored.size ? [] : ['a round is there twice']
  const lost: ToldSpin[] = []
  const told = toldSpins(history)
  for (const spin of told) {
    const round = stored.get(spin.id)
    if (!round) lost.push(spin)
    else if (!isAsTold(spin, round))
      different.push(`${spin.key}: told ${JSON.stringify(spin.values)}, stored ${JSON.stringify(round)}`)
  }
  const ids = new Set(told.map(({ id }) => id))
  const unanswered = history.calls.filter(
    call => call.op === 'spin' && call.outcome.kind === 'unknown',
  ).length
  const untold = rounds.filter(({ id }) => !ids.has(id)).length
  return { told: told.length, lost, different, untold, unanswered }
}

function isAsTold({ values }: ToldSpin, { id: _, stops, ...round }: StoredRound): boolean {
  const seen = { ...round, stops: unpackStops(Number(stops)).join(' ') }
  return Object.entries(values).every(([name, value]) => seen[name as keyof typeof seen] === value)
}

/** Rotations that were answered with 200 and whose seed the database does not have as revealed. */
export function lostRotations(history: History, seeds: readonly StoredSeed[]): Call[] {
  const revealed = new Map(seeds.map(pair => [pair.hash, pair.seed]))
  return history.calls.filter(call => {
    if (call.op !== 'rotate' || call.outcome.kind !== 'ok') return false
    const { serverSeed, serverSeedHash } = (JSON.parse(call.outcome.body) as RotateBody).revealed
    return revealed.get(serverSeedHash) !== serverSeed
  })
}

/** From the first told spin that was lost to the kill. */
export function secondsLost({ lost }: Comparison, killedAtMs: number): number {
  return lost.length === 0 ? 0 : (killedAtMs - Math.min(...lost.map(spin => spin.toldAtMs))) / 1000
}

export function describeLoss(found: Comparison, killedAtMs: number): string {
  const ms = Math.round(secondsLost(found, killedAtMs) * 1000)
  return `${found.lost.length} of ${found.told} acknowledged spins are lost, ${ms} ms of play`
}
