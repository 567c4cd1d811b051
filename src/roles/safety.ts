import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { commonFailure } from '#lib/errors.ts'

/** Combinations that would put real money or real players at risk. @throws REFUSED (exit 3) */
export function refuseUnsafeInstallation(
  installation: { chain: 'simulated' | 'mainnet'; nodeEnv?: string },
  http: { publicUrl?: string },
): void {
  if (installation.chain === 'simulated' && installation.nodeEnv === 'production') {
    throw commonFailure('REFUSED', {
      reason:
        'NODE_ENV=production refuses the simulated chain: set MOONYETIS_CHAIN=mainnet, or unset NODE_ENV.',
    })
  }
  if (installation.chain === 'mainnet' && http.publicUrl === undefined) {
    throw commonFailure('REFUSED', {
      reason:
        'MOONYETIS_CHAIN=mainnet needs PUBLIC_URL, the address that players type, such as https://play.example.',
    })
  }
}

/** A home that a restore has not finished looks like one and is none. @throws REFUSED (exit 3) */
export function refuseHalfRestored(homeRoot: string): void {
  if (!existsSync(join(homeRoot, 'RESTORE_INCOMPLETE'))) return
  throw commonFailure('REFUSED', {
    reason: `${homeRoot} holds a restore that did not end: restore again into an empty directory, or remove this one.`,
  })
}
