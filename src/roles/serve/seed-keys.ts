import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { loadSeedKeys, newSeedKey, type SeedKeys } from '#game/seeds.ts'
import { ensureSecret, type Home, readSecret } from '#lib/home.ts'

const firstKid = 'k1'

/** The keys that seal server seeds: every file of .secrets/seed_keys. The newest name seals; older ones still open. */
export function openSeedKeys(home: Home): SeedKeys {
  ensureSecret(home, `seed_keys/${firstKid}`, newSeedKey)
  const kids = readdirSync(join(home.secrets, 'seed_keys'))
    .filter(name => /^k\d+$/.test(name))
    .sort((a, b) => Number(a.slice(1)) - Number(b.slice(1)))
  const read = (kid: string) => readSecret(home, `seed_keys/${kid}`)
  return loadSeedKeys({ currentKid: kids.at(-1) ?? firstKid, kids, read })
}
