import { join } from 'node:path'
import { backupSlice } from '#backup/config.ts'
import { gameSlice } from '#game/config.ts'
import { httpSlice } from '#http/config.ts'
import { identitySlice } from '#identity/config.ts'
import { type Config, loadConfig, type Slice } from '#lib/config.ts'
import { postgresServerSlice } from '#postgres/server/config.ts'
import { replicationSlice } from '#replication/config.ts'
import { installationSlice } from './installation-slice.ts'
import { logSlice } from './log-slice.ts'
import type { Context } from './program.ts'

/** Every slice of the program, in the order of `config print`. */
export const slices: readonly Slice[] = [
  logSlice,
  installationSlice,
  httpSlice,
  postgresServerSlice,
  identitySlice,
  gameSlice,
  backupSlice,
  replicationSlice,
]

/**
 * Loads the slices that a role uses; keys of the others may be given, their values are not looked at.
 * Throws CONFIG_INVALID with every problem at once.
 */
export function loadSlices<const S extends readonly Slice[]>(
  wanted: S,
  context: Pick<Context, 'homeRoot' | 'env'>,
): Config<S> {
  const others = slices.filter(slice => !wanted.some(one => one.name === slice.name))
  return loadConfig(wanted, { file: join(context.homeRoot, 'config.json'), env: context.env, others })
}
