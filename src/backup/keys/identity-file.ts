import { recipientOf } from './age-keys.ts'
import { isSigner } from './signing.ts'

/** Text of an identity file: what `age -i` takes, with who may sign the repository in its comments. */
export function identityText(o: {
  identity: string
  repositoryId: string
  signer: string
  createdAt: Date
}): string {
  return [
    '# Recovery identity of a MoonYetis backup repository. Keep it secret.',
    `# created ${o.createdAt.toISOString()}`,
    `# repository ${o.repositoryId}`,
    `# signer ${o.signer}`,
    `# recipient ${recipientOf(o.identity)}`,
    o.identity,
    '',
  ].join('\n')
}

export interface IdentityFile {
  identities: string[]
  repositoryId?: string
  signer?: string
}

/** Undefined when a line is neither comment nor identity, or when there is no identity. */
export function parseIdentityText(text: string): IdentityFile | undefined {
  const lines = text.split(/\r?\n/).map(line => line.trim())
  const identities = lines.filter(line => line !== '' && !line.startsWith('#'))
  if (identities.length === 0 || identities.some(line => recipientOf(line) === undefined)) return undefined
  const comment = (name: string) => lines.find(line => line.startsWith(`# ${name} `))?.slice(name.length + 3)
  const [repositoryId, signer] = [comment('repository'), comment('signer')]
  return {
    identities,
    ...(repositoryId !== undefined && { repositoryId }),
    ...(signer !== undefined && isSigner(signer) && { signer }),
  }
}
