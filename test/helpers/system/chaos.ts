import { setTimeout as delay } from 'node:timers/promises'
import { check } from './check.ts'
import { Client } from './client.ts'
import { type Call, History } from './history.ts'
import { Player } from './player.ts'
import { type Part, type Program, type Target, until } from './program.ts'
import type { Random } from './random.ts'

/** What is killed at one moment. */
export interface Strike {
  name: string
  targets: readonly Target[]
  signal?: NodeJS.Signals
}

export const strikes: readonly Strike[] = [
  { name: 'serve', targets: ['serve'] },
  { name: 'postgres', targets: ['postgres'] },
  { name: 'one backend', targets: ['backend'] },
  { name: 'one backend, politely', targets: ['backend'], signal: 'SIGTERM' },
  { name: 'serve and postgres', targets: ['serve', 'postgres'] },
  { name: 'up', targets: ['up'] },
  { name: 'supervise', targets: ['supervise'] },
  { name: 'supervise and postgres', targets: ['supervise', 'postgres'] },
  { name: 'archive', targets: ['archive'] },
  { name: 'everything', targets: ['up', 'supervise', 'archive', 'serve', 'postgres'] },
]

export interface ChaosOptions {
  program: Program
  random: Random
  players: number
  /** One round each, in this order. */
  strikes: readonly Strike[]
  say: (line: string) => void
}

// A restart that takes longer leaves players without a game for too long.
const recoveredWithinMs = 60_000
// up waits longer after each crash in a row; what is tested is the recovery, not that wait.
const strikesPerStart = 3

/**
 * Plays with many players at once, kills something in the middle of each round, waits for the recovery, goes on playing,
 * asks again for all that was left open and checks every promise. Throws on the first round that broke one.
 */
export async function runChaos(options: ChaosOptions): Promise<void> {
  const { program, random } = options
  const client = new Client({ url: () => program.url })
  const history = new History()
  const seats: Seat[] = []
  try {
    for (let number = 1; number <= options.players; number++) {
      const player = await Player.signIn({ name: `player ${number}`, client, history })
      seats.push({ player, random: random.fork(), spins: 0 })
    }
    for (const [index, strike] of options.strikes.entries()) {
      if (index > 0 && index % strikesPerStart === 0) await program.restart()
      await playRound(options, { number: index + 1, strike, seats, client, history })
    }
    await reconcile(program)
  } finally {
    client.close()
  }
}

/** The program's own look at its books: sums, balances, nonces, keys and every draw. */
async function reconcile(program: Program): Promise<void> {
  const launch = program.launch(['reconcile', '--json'])
  const { code } = await launch.exit()
  if (code !== 0) throw new Error(`reconcile ended with ${code}:\n${launch.text}`)
}

interface Seat {
  player: Player
  random: Random
  spins: number
}

interface Round {
  number: number
  strike: Strike
  seats: Seat[]
  client: Client
  history: History
}

async function playRound(options: ChaosOptions, round: Round): Promise<void> {
  const { program, random, say } = options
  const { strike, seats, client, history } = round
  const before = history.calls.length
  const table = { open: true }
  const playing = Promise.all(seats.map(seat => play(seat, table, history)))
  let recoveryMs: number
  let also = ''
  try {
    // The moment is the test's own choice, so it is a delay by design.
    await delay(random.whole(100, 700))
    const killed = strikeAt(program, strike)
    if (!killed.has('up') && random.chance(0.3)) also = await strikeAgain(program, random, killed)
    recoveryMs = await recover(program, killed, { client, name: `newcomer ${round.number}`, history, seats })
    await delay(random.whole(100, 300))
  } finally {
    table.open = false
    await playing
  }
  const unknown = history.unresolved()
  await resolve(unknown, seats, history)
  for (const { player, random: own } of seats) {
    const outcome = await player.rotate(`reveal-${round.number}`, `round-${own.whole(0, 99)}`)
    if (outcome.kind !== 'ok') throw new Error(`${player.name} cannot rotate: ${JSON.stringify(outcome)}`)
  }
  const books = await Promise.all(seats.map(({ player }) => player.books()))
  say(summary(round, also, history.calls.slice(before), unknown.length, recoveryMs))
  const violations = check(history, books)
  if (violations.length === 0) return
  const shown = violations.slice(0, 20).map(({ kind, client: who, detail }) => `${kind} ${who}: ${detail}`)
  throw new Error(`${violations.length} promises broken in round ${round.number}:\n${shown.join('\n')}`)
}

/** One player until the table closes: mostly spins, now and then a repeat, two at once, another payload, a rotation. */
async function play(seat: Seat, table: { open: boolean }, history: History): Promise<void> {
  const { player, random } = seat
  while (table.open) {
    const last = await playOnce(seat, history)
    // A real client also waits before it tries again; without that, 64 players would keep two cores busy failing.
    await delay(last.kind === 'unknown' ? random.whole(80, 300) : random.whole(0, 20))
    if (last.kind === 'unknown' && random.chance(0.5)) {
      const call = history.calls.findLast(one => one.client === player.name) as Call
      await player.repeat(call)
    }
  }
}

async function playOnce(seat: Seat, history: History) {
  const { player, random } = seat
  const dice = random.next()
  if (dice < 0.02) return player.rotate(`rotation-${seat.spins++}`, `seed-${random.whole(0, 999)}`)
  if (dice < 0.1) {
    const earlier = history.calls.findLast(call => call.client === player.name && random.chance(0.3))
    if (earlier) return player.repeat(earlier)
  }
  const key = `spin-${seat.spins++}`
  const bet = { stakePerLine: String(random.whole(1, 20)), lines: random.whole(1, 10) }
  if (dice < 0.12) return player.spin(key, { stakePerLine: '1000000', lines: 10 })
  if (dice > 0.92) {
    const both = await Promise.all([player.spin(key, bet), player.spin(key, bet)])
    return both[0]
  }
  return player.spin(key, bet)
}

function strikeAt(program: Program, strike: Strike): Map<Target, number> {
  const killed = new Map<Target, number>()
  for (const target of strike.targets) {
    const pid = program.kill(target, strike.signal)
    if (pid === undefined) throw new Error(`${target} does not run, so it cannot be killed`)
    killed.set(target, pid)
  }
  return killed
}

/** The recovery itself must survive a kill as well; what does not run at that moment cannot be hit. */
async function strikeAgain(program: Program, random: Random, killed: Map<Target, number>): Promise<string> {
  await delay(random.whole(50, 900))
  const target = random.pick(['serve', 'postgres', 'supervise', 'archive'] as const)
  const pid = program.kill(target)
  if (pid === undefined) return `, then ${target} (not running)`
  killed.set(target, pid)
  return `, then ${target}`
}

/** Starts again what nobody else would, and waits until every killed part is back and a newcomer can play. */
async function recover(
  program: Program,
  killed: ReadonlyMap<Target, number>,
  newcomer: { client: Client; name: string; history: History; seats: Seat[] },
): Promise<number> {
  const startedAtMs = performance.now()
  const upPid = killed.get('up')
  if (upPid !== undefined) {
    await program.up.exit()
    await program.start()
  }
  const isBack = ([target, pid]: readonly [Target, number]) => {
    const now = target === 'backend' ? pid : program.pidOf(target as Part)
    return now !== undefined && (target === 'backend' || now !== pid)
  }
  await until('every killed part runs again', () => [...killed].every(isBack), recoveredWithinMs)
  let player: Player | undefined
  const canPlay = async () => {
    player ??= await Player.signIn(newcomer).catch(() => undefined)
    return (await player?.spin('first-spin', { stakePerLine: '1', lines: 1 }))?.kind === 'ok'
  }
  await until('a newcomer can play', canPlay, recoveredWithinMs)
  const recoveryMs = performance.now() - startedAtMs
  if (recoveryMs > recoveredWithinMs) throw new Error(`the recovery took ${recoveryMs} ms`)
  newcomer.seats.push({ player: player as Player, random: newSeatRandom(newcomer.seats), spins: 0 })
  return recoveryMs
}

function newSeatRandom(seats: readonly Seat[]): Random {
  return (seats[0] as Seat).random.fork()
}

/** Asks again for everything whose outcome is unknown, until each has an answer. */
async function resolve(unknown: readonly Call[], seats: readonly Seat[], history: History): Promise<void> {
  const players = new Map(seats.map(({ player }) => [player.name, player]))
  let open = unknown
  for (let attempt = 1; open.length > 0; attempt++) {
    if (attempt > 20) throw new Error(`${open.length} calls stay unknown, such as ${JSON.stringify(open[0])}`)
    if (attempt > 1) await delay(250)
    await Promise.all(open.map(call => players.get(call.client)?.repeat(call)))
    open = history.unresolved()
  }
}

function summary(
  round: Round,
  also: string,
  calls: readonly Call[],
  resolved: number,
  recoveryMs: number,
): string {
  const count = (kind: Call['outcome']['kind']) => calls.filter(call => call.outcome.kind === kind).length
  const causes = new Map<string, number>()
  for (const { outcome } of calls) {
    if (outcome.kind === 'unknown') causes.set(outcome.cause, (causes.get(outcome.cause) ?? 0) + 1)
  }
  const list = [...causes].map(([cause, times]) => `${cause} ${times}`).join(', ')
  return (
    `round ${round.number}: killed ${round.strike.name}${also}, back in ${(recoveryMs / 1000).toFixed(1)} s; ` +
    `${count('ok')} acknowledged, ${count('refused')} refused, ${count('unknown')} unknown ` +
    `(${list || 'none'}), ${resolved} resolved by asking again`
  )
}
