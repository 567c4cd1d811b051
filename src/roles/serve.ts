import { join } from 'node:path'
import { Copier } from '#audit/copier.ts'
import { Journal } from '#audit/journal.ts'
import { auditMetrics } from '#audit/metrics.ts'
import { backupRoutes } from '#backup/routes.ts'
import { gameSlice } from '#game/config.ts'
import { hashServerSeed } from '#game/draw.ts'
import { recompute } from '#game/recompute.ts'
import { Retirement } from '#game/retirement.ts'
import { gameRoutes } from '#game/routes.ts'
import { newServerSeed } from '#game/seeds.ts'
import { httpSlice } from '#http/config.ts'
import { createHttp } from '#http/http.ts'
import { identitySlice } from '#identity/config.ts'
import { Doors } from '#identity/doors.ts'
import { identityMetrics } from '#identity/metrics.ts'
import { Operators } from '#identity/operators.ts'
import { Players } from '#identity/players.ts'
import { identityRoutes } from '#identity/routes.ts'
import { SessionListener } from '#identity/session-listener.ts'
import { Sessions } from '#identity/sessions.ts'
import { reconcile } from '#ledger/reconcile.ts'
import { serveControl } from '#lib/control.ts'
import { Lifecycle, onShutdown } from '#lib/lifecycle.ts'
import { createLog, type Log } from '#lib/log.ts'
import { addProcessMetrics, createMetrics } from '#lib/metrics.ts'
import { removeRecord, writeRecord } from '#lib/processes.ts'
import { Database } from '#postgres/client/database.ts'
import { postgresServerSlice } from '#postgres/server/config.ts'
import { loadSlices } from './config.ts'
import { errorRows } from './error-rows.ts'
import { installationSlice } from './installation-slice.ts'
import { logSlice } from './log-slice.ts'
import type { Context } from './program.ts'
import { refuseUnsafeInstallation } from './safety.ts'
import { archiveMetricsText, backupDoor } from './serve/archive-role.ts'
import { addChores } from './serve/chores.ts'
import { findDatabase } from './serve/database-target.ts'
import { openGame } from './serve/game.ts'
import { Readiness } from './serve/readiness.ts'
import { Recovery } from './serve/recovery.ts'
import { openSeedKeys } from './serve/seed-keys.ts'
import { mayReadMetrics, signedIn } from './serve/signed-in.ts'

const slices = [
  logSlice,
  httpSlice,
  postgresServerSlice,
  installationSlice,
  identitySlice,
  gameSlice,
] as const

/** The role that answers HTTP. Opens in order, listens last, closes in reverse on a signal. */
export async function serve(context: Context): Promise<void> {
  const { values } = loadSlices(slices, context)
  refuseUnsafeInstallation(values.installation, values.http)
  const home = context.openHome()
  const log = createLog({
    role: 'serve',
    level: values.log.level,
    fallbackFile: join(home.logs, 'orphans.log'),
  })
  const lifecycle = new Lifecycle({ log })
  const metrics = createMetrics()
  addProcessMetrics(metrics)
  const stopped = untilSignal(lifecycle, log)
  await lifecycle.open(
    'process record',
    () => writeRecord(home, 'serve', process.pid),
    () => removeRecord(home, 'serve'),
  )

  const { topology } = values.postgres
  const { chain, databaseUrl } = values.installation
  const target = await findDatabase({
    home,
    topology,
    user: 'moonyetis_app',
    ...(databaseUrl === undefined ? {} : { databaseUrl }),
  })
  const database = await lifecycle.open(
    'database pool',
    () => new Database({ target, applicationName: 'moonyetis serve', log }),
    pool => pool.close(),
  )
  const journal = await lifecycle.open(
    'audit journal',
    () => new Journal({ home }),
    one => one.close(),
  )
  const copier = new Copier({ journal, database, metrics: auditMetrics(metrics), log })
  await lifecycle.open(
    'audit copier',
    () => copier.start(),
    () => copier.close(),
  )

  const keys = openSeedKeys(home)
  // On a database of somebody else's there is one way in, which reads the books too.
  const books = topology === 'embedded' ? { ...target, user: 'moonyetis_monitor' } : target
  const recovery = new Recovery({
    database,
    retirement: new Retirement({ database, keys }),
    reconcile: onProgress => reconcile({ target: books, recompute, ...(onProgress ? { onProgress } : {}) }),
    log,
  })
  const readiness = new Readiness({ database, chain, recovery, log })
  const game = await openGame({
    lifecycle,
    database,
    target,
    keys,
    gameVersion: () => readiness.gameVersion(),
    config: values.game,
    log,
    metrics,
  })
  const identity = identityMetrics(metrics)
  const sessions = new Sessions({
    database,
    listener: new SessionListener({ target, applicationName: 'moonyetis sessions', log }),
    config: values.identity,
    metrics: identity,
  })
  await lifecycle.open(
    'sessions',
    () => sessions.start(),
    () => sessions.close(),
  )
  const operators = await lifecycle.open(
    'operators',
    () => new Operators({ home, audit: journal, config: values.identity, metrics: identity }),
    one => one.close(),
  )
  operators.ensureAdminToken()
  const seeds = {
    newSealedSeed() {
      const serverSeed = newServerSeed()
      const hash = hashServerSeed(serverSeed)
      return { hash, sealed: keys.seal(serverSeed, hash) }
    },
  }
  const players = new Players({ database, seeds, config: values.identity, metrics: identity })
  const doors = new Doors({
    sessions,
    operators,
    ...(values.http.publicUrl === undefined ? {} : { publicUrl: values.http.publicUrl }),
  })
  const chores = addChores({ log, database, game, sessions, everySeconds: values.game.leaderboardSeconds })
  await lifecycle.open(
    'chores',
    () => chores,
    one => one.close(),
  )

  const mayRead = mayReadMetrics(doors, { ...values.http, ...values.installation })
  const http = await createHttp({
    config: values.http,
    log,
    metrics,
    version: context.version,
    errorRows,
    ready: () => readiness.report(),
    mayReadMetrics: mayRead,
    moreMetrics: () => archiveMetricsText(home),
  })
  http.app.addHook('onRequest', recovery.refuse)
  await http.app.register(identityRoutes, { sessions, players, operators, doors, config: values.identity })
  // Until there is a page to play on, a browser lands where the API is described.
  http.app.get('/', { schema: { hide: true } }, async (_request, reply) => reply.redirect('/docs', 302))
  await http.app.register(backupRoutes, backupDoor({ home, doors, journal, mayRead }))
  await http.app.register(gameRoutes, { ...game, signedIn: signedIn(doors) })
  await lifecycle.open(
    'readiness',
    () => readiness.start(),
    () => readiness.close(),
  )
  const control = { path: home.socket('serve'), log, routes: { 'GET /status': () => readiness.report() } }
  await lifecycle.open(
    'control socket',
    () => serveControl(control),
    one => one.close(),
  )
  await lifecycle.open(
    'http',
    async () => log.info(await http.listen(), 'listening'),
    () => http.drain(values.http.drainMs),
    values.http.drainMs + 5000,
  )
  await Promise.race([stopped, readiness.unfit]).finally(() => lifecycle.close())
}

function untilSignal(lifecycle: Lifecycle, log: Log): Promise<void> {
  return new Promise(resolve => {
    onShutdown(['SIGTERM', 'SIGINT', 'SIGHUP'], (signal, count) => {
      log.info({ signal, count }, 'stop was asked for')
      if (count > 1) lifecycle.hurry()
      resolve()
    })
  })
}
