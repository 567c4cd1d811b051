import { existsSync } from 'node:fs'
import { type Home, writeDurably } from '#lib/home.ts'
import { ensurePasswords, missingPasswords } from '#postgres/server/passwords.ts'

export interface SetupResult {
  home: string
  /** What was made now; empty when everything was there. */
  made: string[]
}

/** Makes the home, the secrets of its database and an empty configuration file. What is there is never touched. */
export function setup(home: Home): SetupResult {
  const made = missingPasswords(home).map(name => `.secrets/${name}`)
  ensurePasswords(home)
  if (!existsSync(home.configFile)) {
    writeDurably(home.configFile, '{}\n', 0o640)
    made.push('config.json')
  }
  return { home: home.root, made }
}
