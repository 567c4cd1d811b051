import type { Home } from '#lib/home.ts'
import type { Storage } from '#storage/storage.ts'

export type Chain = 'simulated' | 'mainnet'

export interface RecoveryKit {
  passphrase: string
  recipient: string
  fingerprint: string
  signer: string
  text(language: 'en' | 'es'): string
}

export function ensureBackupKeys(_o: { home: Home; chain: Chain }): { made: string[] } {
  throw new Error('being built')
}

export async function makeRecoveryKit(_o: {
  home: Home
  storage: Storage
  chain: Chain
  passphrase?: string
}): Promise<RecoveryKit> {
  throw new Error('being built')
}
