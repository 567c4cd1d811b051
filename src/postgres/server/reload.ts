import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import type { Clock } from '#lib/clock.ts'
import { postgresServerError } from './errors.ts'
import { type Postmaster, sendSignal } from './postmaster.ts'

export interface ReloadOptions {
  running: Postmaster
  dataDirectory: string
  /** As superuser. */
  connection: pg.ClientConfig
  /** What must be in force afterwards, as SHOW prints it. */
  settings: Readonly<Record<string, string>>
  withinMs: number
  clock: Clock
}

const pollMs = 15

/**
 * Lets the server read its configuration files again, and looks with new sessions until they have the settings. A new
 * session has the postmaster's own values, and the postmaster passes the signal on to all its processes as it reads them.
 * Throws POSTGRES_SETTING_NOT_TAKEN.
 */
export async function reloadSettings(options: ReloadOptions): Promise<void> {
  const { running, settings, withinMs, dataDirectory, clock } = options
  const untilMs = clock.monotonicMs() + withinMs
  let missing: Missing | undefined
  sendSignal(running.pid, 'SIGHUP')
  for (;;) {
    missing = await look(options)
    if (!missing) return
    if (clock.monotonicMs() >= untilMs) break
    await delay(pollMs)
  }
  throw postgresServerError('POSTGRES_SETTING_NOT_TAKEN', { dataDirectory, withinMs, ...missing, settings })
}

interface Missing {
  name: string
  wanted: string
  reason: string
}

interface Shown {
  name: string
  value: string
  source: string | null
  needsRestart: boolean
}

async function look({ connection, settings, withinMs }: ReloadOptions): Promise<Missing | undefined> {
  const names = Object.keys(settings)
  const first = { name: names[0] ?? '', wanted: settings[names[0] ?? ''] ?? '' }
  const client = new pg.Client({ ...connection, query_timeout: withinMs })
  client.on('error', () => {})
  try {
    await client.connect()
    const { rows } = await client.query<Shown>(shownQuery, [names])
    for (const [name, wanted] of Object.entries(settings)) {
      const shown = rows.find(row => row.name === name)
      if (shown?.value !== wanted) return { name, wanted, reason: whyOther(shown) }
    }
    return undefined
  } catch (error) {
    return { ...first, reason: (error as Error).message || 'no connection' }
  } finally {
    void client.end().catch(() => {})
  }
}

const shownQuery = `
  SELECT name, current_setting(name) AS value, sourcefile AS source, pending_restart AS "needsRestart"
    FROM pg_settings WHERE name = ANY($1)`

function whyOther(shown: Shown | undefined): string {
  if (!shown) return 'it does not know it'
  if (shown.needsRestart) return 'it needs a restart for it'
  return `it has '${shown.value}'${shown.source ? ` from ${shown.source}` : ''}`
}
