import { chownSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { writeDurably } from '#lib/home.ts'
import type { RunAs } from '#postgres/server/data-directory.ts'

// What a copy must not do as the original does: replicate, archive, listen, recover, reach for files elsewhere.
const removed =
  /^(primary_|synchronous_standby_names|synchronized_standby_slots|sync_replication_slots|archive_|restore_command|recovery_|promote_trigger_file|listen_addresses|port|unix_socket_|hba_file|ident_file|data_directory|config_file|external_pid_file|ssl|krb_|log_directory|logging_collector|log_destination|cluster_name)/i
// A file elsewhere may be missing, which would keep the server from starting, or bring all of the above back.
const includes = /^(include|include_dir)$/i
const ownFile = "include_if_exists = 'moonyetis.conf'"

/**
 * Takes out of postgresql.conf and postgresql.auto.conf of a restored directory what belongs to the original's place:
 * connections, archiving, recovery, paths. Makes both where the original had its configuration elsewhere. Returns the
 * names of what was taken out.
 */
export function cleanConfiguration(dataDirectory: string, runAs: RunAs | undefined): string[] {
  const main = cleaned(readIfThere(join(dataDirectory, 'postgresql.conf')))
  const own = main.text.includes(ownFile) ? main.text : `${main.text}\n${ownFile}\n`
  const automatic = cleaned(readIfThere(join(dataDirectory, 'postgresql.auto.conf')))
  write(join(dataDirectory, 'postgresql.conf'), own, runAs)
  write(join(dataDirectory, 'postgresql.auto.conf'), automatic.text, runAs)
  return [...new Set([...main.names, ...automatic.names])]
}

/** Names are case-insensitive, the equals sign may be missing (PostgreSQL 20.1.2). */
export function cleaned(text: string): { text: string; names: string[] } {
  const names: string[] = []
  const kept = text.split('\n').filter(line => {
    const name = /^\s*([A-Za-z_][\w.]*)/.exec(line)?.[1]
    if (name === undefined || !(removed.test(name) || includes.test(name))) return true
    names.push(name.toLowerCase())
    return false
  })
  return { text: kept.join('\n'), names }
}

function write(path: string, text: string, runAs: RunAs | undefined): void {
  writeDurably(path, text, 0o600)
  if (runAs) chownSync(path, runAs.uid, runAs.gid)
}

function readIfThere(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : ''
}
