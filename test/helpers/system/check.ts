import { verify } from '#game/verify.ts'
import type { Call, History } from './history.ts'
import type { Books, SeenRound } from './player.ts'

export const demoGrant = 1_000_000n

export const violationKinds = [
  'UNRESOLVED',
  'LOST_SPIN',
  'DOUBLE_SPIN',
  'ROUND_WITHOUT_KEY',
  'DIFFERENT_VALUES',
  'DIFFERENT_REPLAY',
  'ANSWERED_TWICE',
  'KEY_TAKEN_TWICE',
  'WRONG_REFUSAL',
  'NONCE_GAP',
  'WRONG_BALANCE',
  'NEGATIVE_BALANCE',
  'OUT_OF_ORDER',
  'BROKEN_PROMISE',
  'WRONG_DRAW',
] as const

export interface Violation {
  kind: (typeof violationKinds)[number]
  client: string
  detail: string
}

interface Spun {
  round: Omit<SeenRound, 'stakePerLine' | 'lines' | 'balanceAfter'>
  balance: string
}

interface Rotated {
  revealed: { serverSeed: string; serverSeedHash: string; clientSeed: string; lastNonce: number | null }
  current: Books['seeds']
}

/** All calls with one key of one client. */
interface KeyCalls {
  op: Call['op']
  key: string
  calls: Call[]
  /** Bodies of the 2xx answers. */
  bodies: string[]
}

/**
 * Compares what clients were told with what the server now says of them. Empty when every promise was kept; pure, so
 * that its own tests can show it a broken server. Every unknown must have been asked again before (UNRESOLVED).
 */
export function check(history: History, books: readonly Books[]): Violation[] {
  const violations: Violation[] = history
    .unresolved()
    .map(call => ({ kind: 'UNRESOLVED', client: call.client, detail: `${call.op} ${call.key}` }))
  for (const book of books) {
    const keys = groupByKey(history.calls.filter(call => call.client === book.client))
    const report: Report = (kind, detail) => violations.push({ kind, client: book.client, detail })
    checkKeys(keys, report)
    checkRounds(keys, book, report)
    checkOrder(keys, report)
    checkBalances(book, report)
    checkSeeds(keys, book, report)
  }
  return violations
}

type Report = (kind: Violation['kind'], detail: string) => void

function groupByKey(calls: readonly Call[]): KeyCalls[] {
  const keys = new Map<string, KeyCalls>()
  for (const call of calls) {
    const id = `${call.op} ${call.key}`
    const group = keys.get(id) ?? { op: call.op, key: call.key, calls: [], bodies: [] }
    keys.set(id, group)
    group.calls.push(call)
    if (call.outcome.kind === 'ok') group.bodies.push(call.outcome.body)
  }
  return [...keys.values()]
}

/** One key, one payload, one outcome; the first answer says it is the first and the others that they are repeats. */
function checkKeys(keys: readonly KeyCalls[], report: Report): void {
  for (const { op, key, calls, bodies } of keys) {
    const accepted = calls.filter(call => call.outcome.kind === 'ok')
    if (new Set(bodies).size > 1)
      report('DIFFERENT_REPLAY', `${op} ${key}: ${[...new Set(bodies)].join(' / ')}`)
    const fresh = accepted.filter(({ outcome }) => outcome.kind === 'ok' && !outcome.replayed)
    if (fresh.length > 1)
      report('ANSWERED_TWICE', `${op} ${key}: ${fresh.length} answers say they are the first`)
    const payloads = new Set(accepted.map(call => JSON.stringify(call.payload)))
    if (payloads.size > 1) report('KEY_TAKEN_TWICE', `${op} ${key}: ${[...payloads].join(' / ')}`)
    const sent = new Set(calls.map(call => JSON.stringify(call.payload)))
    for (const { outcome } of calls) {
      if (outcome.kind !== 'refused' || isHonest(outcome, sent.size)) continue
      report('WRONG_REFUSAL', `${op} ${key}: ${outcome.status} ${outcome.code}`)
    }
  }
}

// A stake too high, a duplicate in flight, and another payload under a used key are all that may be refused here. Above
// all no 401: whoever was signed in stays so, whatever is down.
function isHonest(outcome: { status: number; code: string }, payloads: number): boolean {
  if (outcome.status === 422) return payloads > 1
  return outcome.status === 402 || outcome.status === 409
}

/** Every acknowledged spin is in the books exactly once, as it was told; nothing else is there. */
function checkRounds(keys: readonly KeyCalls[], book: Books, report: Report): void {
  const stored = new Map<string, SeenRound>()
  for (const round of book.rounds) {
    if (stored.has(round.id)) report('DOUBLE_SPIN', `round ${round.id} is listed twice`)
    stored.set(round.id, round)
  }
  const keyOf = new Map<string, string>()
  for (const { op, key, calls, bodies } of keys) {
    const [body] = bodies
    if (op !== 'spin' || body === undefined) continue
    const told = JSON.parse(body) as Spun
    const other = keyOf.get(told.round.id)
    if (other !== undefined) report('DOUBLE_SPIN', `round ${told.round.id} answers both ${other} and ${key}`)
    keyOf.set(told.round.id, key)
    const round = stored.get(told.round.id)
    if (round === undefined) report('LOST_SPIN', `${key}: round ${told.round.id} is not in the history`)
    else checkValues(told, round, calls, report)
  }
  for (const id of stored.keys())
    if (!keyOf.has(id)) report('ROUND_WITHOUT_KEY', `round ${id}: nobody was told of it`)
}

function checkValues(told: Spun, round: SeenRound, calls: readonly Call[], report: Report): void {
  const { stakePerLine, lines, balanceAfter, ...rest } = round
  const seen = Object.fromEntries(
    Object.keys(told.round).map(name => [name, rest[name as keyof typeof rest]]),
  )
  if (JSON.stringify(seen) !== JSON.stringify(told.round))
    report('DIFFERENT_VALUES', `${JSON.stringify(told.round)} is stored as ${JSON.stringify(seen)}`)
  if (told.balance !== balanceAfter)
    report('DIFFERENT_VALUES', `round ${round.id}: told balance ${told.balance}, stored ${balanceAfter}`)
  const asked = calls.find(call => call.outcome.kind === 'ok')?.payload
  if (JSON.stringify(asked) !== JSON.stringify({ stakePerLine, lines }))
    report(
      'DIFFERENT_VALUES',
      `round ${round.id}: asked ${JSON.stringify(asked)}, played ${stakePerLine} x ${lines}`,
    )
}

/** A spin that was answered before another was asked for is the earlier round. */
function checkOrder(keys: readonly KeyCalls[], report: Report): void {
  const spins = keys
    .filter(({ op, bodies }) => op === 'spin' && bodies.length > 0)
    .map(({ key, calls, bodies }) => ({
      key,
      id: BigInt((JSON.parse(bodies[0] as string) as Spun).round.id),
      askedAtMs: Math.min(...calls.map(call => call.invokedAtMs)),
      toldAtMs: Math.min(...calls.filter(call => call.outcome.kind === 'ok').map(call => call.completedAtMs)),
    }))
    .toSorted((a, b) => (a.id < b.id ? -1 : 1))
  // Going backwards, no later round may have been answered before this one was asked for.
  let earliestTold = { toldAtMs: Number.POSITIVE_INFINITY, key: '' }
  for (const spin of spins.toReversed()) {
    if (earliestTold.toldAtMs < spin.askedAtMs)
      report(
        'OUT_OF_ORDER',
        `${spin.key} was asked for after ${earliestTold.key} was answered, yet is earlier`,
      )
    if (spin.toldAtMs < earliestTold.toldAtMs) earliestTold = spin
  }
}

/** The grant, then each round's stake and payout, up to the balance of the session. */
function checkBalances(book: Books, report: Report): void {
  let balance = demoGrant
  for (const round of oldestFirst(book.rounds)) {
    if (balance < BigInt(round.stake))
      report('NEGATIVE_BALANCE', `round ${round.id}: stake ${round.stake} of ${balance}`)
    balance += BigInt(round.payout) - BigInt(round.stake)
    if (BigInt(round.balanceAfter) < 0n)
      report('NEGATIVE_BALANCE', `round ${round.id}: ${round.balanceAfter}`)
    if (BigInt(round.balanceAfter) !== balance) {
      report('WRONG_BALANCE', `round ${round.id}: ${round.balanceAfter}, the rounds give ${balance}`)
      balance = BigInt(round.balanceAfter)
    }
  }
  if (BigInt(book.balance) !== balance)
    report('WRONG_BALANCE', `now ${book.balance}, the rounds give ${balance}`)
}

/** Seed pairs follow each other as promised, each with nonces 0, 1, 2 ... and every revealed one draws what was played. */
function checkSeeds(keys: readonly KeyCalls[], book: Books, report: Report): void {
  const pairs = new Map<string, SeenRound[]>()
  for (const round of oldestFirst(book.rounds)) {
    pairs.set(round.serverSeedHash, [...(pairs.get(round.serverSeedHash) ?? []), round])
  }
  for (const [hash, rounds] of pairs) {
    rounds.forEach((round, index) => {
      if (round.nonce !== index)
        report('NONCE_GAP', `${hash}: round ${round.id} has nonce ${round.nonce}, not ${index}`)
    })
  }
  const rotations = keys
    .filter(({ op, bodies }) => op === 'rotate' && bodies.length > 0)
    .map(({ bodies }) => JSON.parse(bodies[0] as string) as Rotated)
  for (const { revealed } of rotations)
    checkReveal(revealed, pairs.get(revealed.serverSeedHash) ?? [], report)
  checkChain(rotations, book, pairs, report)
}

function checkReveal(revealed: Rotated['revealed'], rounds: readonly SeenRound[], report: Report): void {
  const { serverSeed, serverSeedHash, clientSeed, lastNonce } = revealed
  if ((lastNonce === null ? 0 : lastNonce + 1) !== rounds.length)
    report(
      'NONCE_GAP',
      `${serverSeedHash}: revealed after nonce ${lastNonce}, played ${rounds.length} rounds`,
    )
  for (const round of rounds) {
    const drawn = verify({
      serverSeed,
      clientSeed,
      nonce: round.nonce,
      stakePerLine: Number(round.stakePerLine),
      lines: round.lines,
    })
    if (drawn.serverSeedHash !== serverSeedHash) {
      report('BROKEN_PROMISE', `${serverSeedHash} hides another seed`)
      return
    }
    if (round.clientSeed !== clientSeed)
      report('BROKEN_PROMISE', `round ${round.id}: client seed ${round.clientSeed}`)
    for (const name of ['stops', 'grid', 'wins', 'stake', 'payout'] as const) {
      if (JSON.stringify(drawn[name]) !== JSON.stringify(round[name]))
        report(
          'WRONG_DRAW',
          `round ${round.id}: ${name} ${JSON.stringify(round[name])}, not ${JSON.stringify(drawn[name])}`,
        )
    }
  }
}

/** Each rotation reveals a pair once; what it promised as next is what then came; the last one leads to the pair of now. */
function checkChain(
  rotations: readonly Rotated[],
  book: Books,
  pairs: ReadonlyMap<string, SeenRound[]>,
  report: Report,
): void {
  const after = new Map<string, Rotated>()
  for (const rotation of rotations) {
    const { serverSeedHash } = rotation.revealed
    if (after.has(serverSeedHash)) report('BROKEN_PROMISE', `${serverSeedHash} was revealed by two rotations`)
    after.set(serverSeedHash, rotation)
  }
  const ends = rotations.filter(({ current }) => !after.has(current.serverSeedHash))
  for (const { current } of rotations) {
    const following = after.get(current.serverSeedHash)
    if (following && following.current.serverSeedHash !== current.nextServerSeedHash)
      report('BROKEN_PROMISE', `after ${current.serverSeedHash} came another pair than promised`)
  }
  if (rotations.length > 0 && ends.length !== 1) {
    report('BROKEN_PROMISE', `${ends.length} rotations are the last one`)
    return
  }
  const [last] = ends
  const { serverSeedHash, nextServerSeedHash, nonce } = book.seeds
  if (
    last &&
    (last.current.serverSeedHash !== serverSeedHash || last.current.nextServerSeedHash !== nextServerSeedHash)
  )
    report('BROKEN_PROMISE', `the pair of now (${serverSeedHash}) is not the one of the last rotation`)
  for (const hash of pairs.keys()) {
    if (hash !== serverSeedHash && !after.has(hash))
      report('BROKEN_PROMISE', `${hash} was played and never revealed`)
  }
  const played = pairs.get(serverSeedHash)?.length ?? 0
  if (played !== nonce) report('NONCE_GAP', `the next nonce is ${nonce}, ${played} rounds were played`)
}

function oldestFirst(rounds: readonly SeenRound[]): SeenRound[] {
  return rounds.toSorted((a, b) => (BigInt(a.id) < BigInt(b.id) ? -1 : 1))
}
