import type { Leaderboard } from '#game/leaderboard.ts'
import type { Sessions } from '#identity/sessions.ts'
import type { Log } from '#lib/log.ts'
import type { Database } from '#postgres/client/database.ts'
import { Housekeeping } from './housekeeping.ts'

const hourMs = 60 * 60 * 1000

/** What has to be done now and then; every server may do it, the database sees to it that one does. */
export function addChores(o: {
  log: Log
  database: Database
  game: { leaderboard: Leaderboard }
  sessions: Sessions
  everySeconds: number
}): Housekeeping {
  const { database } = o
  const chores = new Housekeeping(o.log)
  chores.add({ name: 'leaderboard', everyMs: o.everySeconds * 1000, work: () => o.game.leaderboard.rollUp() })
  chores.add({
    name: 'partitions',
    everyMs: hourMs,
    work: () => database.query('SELECT ensure_partitions()'),
  })
  chores.add({
    name: 'idempotency keys',
    everyMs: hourMs / 60,
    work: () => repeatWhileMoved(database, 'SELECT expire_idempotency() AS gone'),
  })
  chores.add({
    name: 'sessions',
    everyMs: hourMs / 60,
    work: () => repeatWhileMoved(database, 'SELECT expire_sessions() AS gone'),
  })
  return chores
}

// Each call deletes a bounded number of rows.
async function repeatWhileMoved(database: Database, query: string): Promise<void> {
  for (;;) {
    const { gone } = await database.one<{ gone: bigint }>(query)
    if (gone === 0n) return
  }
}
