import { dirname, join } from 'node:path'
import type { Home } from '#lib/home.ts'

/** The first node of a home; later ones lie beside it. */
export const firstNode = 'node-a'

export function dataDirectoryOf(home: Home, node = firstNode): string {
  return join(home.postgres, node)
}

/** Short enough for every socket that PostgreSQL makes there, its lock file included. */
export function socketDirectoryOf(home: Home): string {
  return dirname(home.socket('.s.PGSQL.65535.lock'))
}

export function logDirectoryOf(home: Home): string {
  return join(home.logs, 'postgres')
}
