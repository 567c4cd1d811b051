import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { type Lsn, parseLsn } from '#lib/lsn.ts'
import { superuserName } from '#postgres/server/access.ts'
import { withoutWaiting } from '#postgres/server/bootstrap.ts'
import type { PostgresNode } from '#postgres/server/node.ts'
import { parseNames } from './names.ts'
import type { SynchronousView } from './synchronous.ts'

// A look takes about a millisecond. A server that does not answer for this long is not seen at all.
const answerWithinMs = 2_000
const pollMs = 5
const proofName = 'moonyetis supervise proof'

interface Row {
  names: string
  lsn: string
  waiting: number
  standbys: { name: string; state: string; syncState: string; priority: number; flushLsn: string | null }[]
}

/** Looks at one server over a connection of its own, which it makes anew after trouble. */
export class Observer {
  readonly #node: PostgresNode
  #client: pg.Client | undefined

  constructor(node: PostgresNode) {
    this.#node = node
  }

  /** Rejects when the server does not answer in time. */
  async look(): Promise<SynchronousView> {
    const [row] = await this.#query<Row>(lookQuery, [proofName])
    if (!row) throw new Error('no row came')
    return {
      names: parseNames(row.names),
      lsn: lsnOf(row.lsn),
      waiting: row.waiting,
      standbys: row.standbys.map(one => ({
        ...one,
        flushLsn: one.flushLsn === null ? undefined : lsnOf(one.flushLsn),
      })),
    }
  }

  /**
   * Whether commits wait by now. That the list is shown proves nothing: backends wait only once the checkpointer has read
   * it, which may be busy with a checkpoint. So one commit asks to be applied remotely, which an archive never confirms,
   * since it applies nothing: while the list is not in force it returns at once, and when it is seen waiting it is ended.
   * (A data node can be made to hold it up as well, by pausing its replay.) Returns the flushed LSN after it was seen
   * waiting; undefined when it returned.
   */
  async prove(): Promise<Lsn | undefined> {
    await this.#endOldProofs()
    const options = '-c synchronous_commit=remote_apply'
    const prober = this.#newClient({ application_name: proofName, options })
    try {
      await prober.connect()
      const [self] = (await prober.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows
      let returned = false
      const commit = prober
        .query("SELECT pg_logical_emit_message(true, 'moonyetis', 'synchronous')")
        .then(() => {
          returned = true
        })
        .catch(() => {})
      const lsn = await this.#untilItWaits(self?.pid as number, () => returned)
      await this.#endOldProofs()
      await commit
      return lsn
    } finally {
      drop(prober)
    }
  }

  close(): void {
    if (this.#client) drop(this.#client)
    this.#client = undefined
  }

  async #untilItWaits(pid: number, hasReturned: () => boolean): Promise<Lsn | undefined> {
    const untilMs = performance.now() + answerWithinMs
    while (!hasReturned() && performance.now() < untilMs) {
      const [row] = await this.#query<{ waits: boolean | null; lsn: string }>(waitsQuery, [pid])
      if (row?.waits) return lsnOf(row.lsn)
      await delay(pollMs)
    }
    return undefined
  }

  /** A supervisor that was killed may have left one, which would wait for ever. */
  async #endOldProofs(): Promise<void> {
    await this.#query(endQuery, [proofName])
  }

  async #query<T extends pg.QueryResultRow>(text: string, values: unknown[]): Promise<T[]> {
    try {
      this.#client ??= await this.#connect()
      return (await this.#client.query<T>(text, values)).rows
    } catch (error) {
      this.close()
      throw error
    }
  }

  async #connect(): Promise<pg.Client> {
    const options = `${withoutWaiting} -c statement_timeout=${answerWithinMs}`
    const client = this.#newClient({ application_name: 'moonyetis supervise', options })
    try {
      await client.connect()
      return client
    } catch (error) {
      drop(client)
      throw error
    }
  }

  #newClient(extra: pg.ClientConfig): pg.Client {
    const connection = this.#node.connection({ user: superuserName, database: 'postgres' })
    const limits = { connectionTimeoutMillis: answerWithinMs, query_timeout: answerWithinMs + 1_000 }
    const client = new pg.Client({ ...connection, ...limits, ...extra })
    // What is awaited rejects as well; an event that nobody hears would end the process.
    client.on('error', () => {})
    return client
  }
}

const lookQuery = `
  SELECT current_setting('synchronous_standby_names') AS names,
         pg_current_wal_flush_lsn()::text AS lsn,
         (SELECT count(*)::int FROM pg_stat_activity
           WHERE wait_event = 'SyncRep' AND application_name <> $1) AS waiting,
         (SELECT coalesce(json_agg(one), '[]') FROM (
           SELECT application_name AS name, state, sync_state AS "syncState", sync_priority AS priority,
                  flush_lsn::text AS "flushLsn"
             FROM pg_stat_replication WHERE state <> 'backup' ORDER BY pid LIMIT 32) one) AS standbys`

const waitsQuery = `
  SELECT (SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $1) AS waits,
         pg_current_wal_flush_lsn()::text AS lsn`

const endQuery = 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1'

/** Without a goodbye: a server that hangs would never answer it. */
function drop(client: pg.Client): void {
  const { stream } = (client as unknown as { connection: { stream: { destroy(): void } } }).connection
  void client.end().catch(() => {})
  stream.destroy()
}

function lsnOf(text: string): Lsn {
  const lsn = parseLsn(text)
  if (lsn === undefined) throw new Error(`PostgreSQL gave ${text} for an LSN`)
  return lsn
}
