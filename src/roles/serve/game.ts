import type { Static } from 'typebox'
import type { gameSlice } from '#game/config.ts'
import { Leaderboard } from '#game/leaderboard.ts'
import { gameMetrics } from '#game/metrics.ts'
import { Rotation } from '#game/rotation.ts'
import { Rounds } from '#game/rounds.ts'
import { Seats } from '#game/seats.ts'
import { SeedStatus } from '#game/seed-status.ts'
import type { SeedKeys } from '#game/seeds.ts'
import { Spins } from '#game/spins.ts'
import { systemClock } from '#lib/clock.ts'
import type { Lifecycle } from '#lib/lifecycle.ts'
import type { Log } from '#lib/log.ts'
import type { Metrics } from '#lib/metrics.ts'
import { Channel } from '#postgres/client/channel.ts'
import type { Database } from '#postgres/client/database.ts'
import type { DatabaseTarget } from '#postgres/client/target.ts'

/** Everything that plays, opened in order; the channels close after the spins that use them. */
export async function openGame(o: {
  lifecycle: Lifecycle
  database: Database
  target: DatabaseTarget
  keys: SeedKeys
  gameVersion: () => number
  config: Static<(typeof gameSlice)['schema']>
  log: Log
  metrics: Metrics
}) {
  const { lifecycle, database, keys, config, log } = o
  const { patienceMs } = config
  const channel = (applicationName: string) =>
    lifecycle.open(
      applicationName,
      () => new Channel({ target: o.target, applicationName, log }),
      one => one.close(),
    )
  const settlement = await channel('moonyetis settlement')
  const rotations = await channel('moonyetis rotation')
  const seats = new Seats({ database, keys, most: config.seatCache })
  const clock = systemClock
  const metrics = gameMetrics(o.metrics)
  const spins = await lifecycle.open(
    'spins',
    () =>
      new Spins({
        channel: settlement,
        seats,
        gameVersion: o.gameVersion,
        clock,
        log,
        metrics,
        ...config,
      }),
    one => one.close(),
    patienceMs + 5000,
  )
  metrics.watchQueue(() => spins.queued)
  return {
    spins,
    rotation: new Rotation({ channel: rotations, database, seats, keys, clock, patienceMs }),
    rounds: new Rounds(database),
    leaderboard: new Leaderboard(database, clock),
    seeds: new SeedStatus(database),
  }
}
