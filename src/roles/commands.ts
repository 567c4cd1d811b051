import { addArchive } from './commands/archive.ts'
import { addBackupLook } from './commands/backup-look.ts'
import { addBackupMore } from './commands/backup-more.ts'
import { addBackupRestore } from './commands/backup-restore.ts'
import { addBackupTake } from './commands/backup-take.ts'
import { addConfig } from './commands/config.ts'
import { addDoctor, addStatus } from './commands/home.ts'
import { addMigrate } from './commands/migrate.ts'
import { addReconcile } from './commands/reconcile.ts'
import { addSetup } from './commands/setup.ts'
import { addSupervise } from './commands/supervise.ts'
import { addToken } from './commands/token.ts'
import { addDown, addServe, addUp } from './commands/up.ts'
import type { AddVerb } from './program.ts'

/** Every verb of the command line, in the order of --help. Each file imports its role only when the verb runs. */
export const verbs: readonly ((add: AddVerb) => void)[] = [
  addUp,
  addDown,
  addSetup,
  addServe,
  addArchive,
  addSupervise,
  addStatus,
  addDoctor,
  addConfig,
  addMigrate,
  addBackupTake,
  addBackupLook,
  addBackupRestore,
  addBackupMore,
  addReconcile,
  addToken,
]
