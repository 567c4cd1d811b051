import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { RepositoryDescriptor } from '#backup/model.ts'
import { type Home, writeDurably } from '#lib/home.ts'

/** What a home knows of its repository from the last time that it answered. */
export interface KnownRepository {
  url: string
  conditional: boolean
  descriptor: RepositoryDescriptor
}

const fileOf = (home: Home) => join(home.state, 'backup-repository.json')

/** Undefined when nothing is known of the repository at this address. */
export function recall(home: Home, url: string): KnownRepository | undefined {
  try {
    const known = JSON.parse(readFileSync(fileOf(home), 'utf8')) as KnownRepository
    return known.url === url ? known : undefined
  } catch {
    // Never written, or unreadable: then the repository itself must tell.
    return undefined
  }
}

export function remember(home: Home, known: KnownRepository): void {
  const text = `${JSON.stringify(known)}\n`
  if (JSON.stringify(recall(home, known.url)) !== JSON.stringify(known)) writeDurably(fileOf(home), text)
}
