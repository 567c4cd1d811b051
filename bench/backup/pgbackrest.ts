import { chownSync, existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { superuserName } from '#postgres/server/access.ts'
import { run } from './processes.ts'
import { type BenchServer, type BenchWorld, idleArchiveCommand, makeDirectories } from './world.ts'

const stanza = 'bench'

/** Its path, or undefined when it is not installed. */
export function findPgbackrest(): string | undefined {
  const places = (process.env.PATH ?? '').split(':').map(directory => `${directory}/pgbackrest`)
  return [...places, '/usr/bin/pgbackrest'].find(existsSync)
}

/** A repository of pgBackRest for one server. */
export class Pgbackrest {
  readonly repository: string
  readonly #config: string
  readonly #server: BenchServer

  private constructor(server: BenchServer, directory: string) {
    this.#server = server
    this.repository = join(directory, 'stored')
    this.#config = join(directory, 'pgbackrest.conf')
  }

  /** Makes it below the directory, and lets the server archive to it: a backup without its log could not be started. */
  static async create(
    world: BenchWorld,
    server: BenchServer,
    o: { directory: string; encrypted: boolean },
  ): Promise<Pgbackrest> {
    const { directory, encrypted } = o
    const made = new Pgbackrest(server, directory)
    makeDirectories(world, ...['stored', 'lock', 'spool', 'log'].map(name => join(directory, name)))
    writeFileSync(made.#config, configuration(server, directory, encrypted), { mode: 0o600 })
    if (world.runAs) chownSync(made.#config, world.runAs.uid, world.runAs.gid)
    await run(made.#command('stanza-create'), world.runAs)
    const archive_command = made.#command('archive-push', '%p').join(' ')
    await server.node.changeSettings({ archive_command }, 30_000)
    return made
  }

  backup(): readonly string[] {
    return this.#command('backup', '--type=full')
  }

  /** Into a directory that is there and empty. */
  restore(to: string): readonly string[] {
    return this.#command('restore', `--pg1-path=${to}`, '--archive-mode=off')
  }

  /** Ends the archiving to it. */
  async detach(): Promise<void> {
    await this.#server.node.changeSettings({ archive_command: idleArchiveCommand }, 30_000)
  }

  #command(verb: string, ...rest: string[]): string[] {
    return [findPgbackrest() ?? 'pgbackrest', `--config=${this.#config}`, `--stanza=${stanza}`, verb, ...rest]
  }
}

function configuration({ node }: BenchServer, directory: string, encrypted: boolean): string {
  const { host, port } = node.connection({ user: superuserName, database: 'postgres' })
  return `[global]
repo1-path=${join(directory, 'stored')}
${encrypted ? 'repo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=the-bench-keeps-no-secret\n' : ''}repo1-retention-full=1
process-max=2
compress-type=zst
compress-level=1
start-fast=y
lock-path=${join(directory, 'lock')}
spool-path=${join(directory, 'spool')}
log-path=${join(directory, 'log')}
log-level-file=off
log-level-console=warn

[${stanza}]
pg1-path=${node.dataDirectory}
pg1-socket-path=${host}
pg1-port=${port}
pg1-user=${superuserName}
`
}
