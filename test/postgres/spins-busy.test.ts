import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { withDatabase } from '#test/database.ts'
import { newKey, openAccount, openTable } from '#test/play.ts'

const bet = { stakePerLine: 1, lines: 1 }

test('an account that somebody else holds costs its spins patience, not attempts, and holds up nobody', async t => {
  const database = await withDatabase(t)
  const other = await openTable(t, database)
  const table = await openTable(t, database)
  const held = await openAccount(database)
  const free = await openAccount(database)
  // This server's seat of the held account falls behind, so its spins are stale where the account is locked.
  await table.seats.get(held)
  await other.spins.spin({ accountId: held, key: newKey(), ...bet })
  const holder = new pg.Client(database.target('superuser'))
  // The database may go first when the test ends.
  holder.on('error', () => {})
  await holder.connect()
  t.after(() => holder.end())
  await holder.query('BEGIN')
  await holder.query('SELECT FROM accounts WHERE id = $1 FOR UPDATE', [held])

  const waiting = [1, 2].map(() => table.spins.spin({ accountId: held, key: newKey(), ...bet }))
  // Each of these is at least one statement in which the held account is passed over: more than the 50 attempts.
  for (let count = 0; count < 70; count++) {
    const { kind } = await table.spins.spin({ accountId: free, key: newKey(), ...bet })
    assert.equal(kind, 'settled')
  }
  await holder.query('ROLLBACK')
  assert.deepEqual(
    (await Promise.all(waiting)).map(result => result.kind),
    ['settled', 'settled'],
  )
  const rounds = await database.query<{ nonce: string }>(
    'SELECT nonce::text FROM rounds WHERE account_id = $1 ORDER BY id',
    [held],
  )
  assert.deepEqual(
    rounds.map(round => round.nonce),
    ['0', '1', '2'],
  )
})
