import { randomInt } from 'node:crypto'

// Crockford's base 32: no letter that could be read as another one.
const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
// 130 bits: out of reach for guessing, whatever the scrypt cost.
const characters = 26
const generated = new RegExp(`^[${alphabet}]{${characters}}$`)

/** `XXXX-XXXX-XXXX-XXXX-XXXX-XXXX-XX`. */
export function newPassphrase(): string {
  return grouped(Array.from({ length: characters }, () => alphabet[randomInt(32)]).join(''))
}

/** What was typed, as it was generated: case, dashes and spaces do not matter. A passphrase of one's own stays as it is. */
export function normalPassphrase(typed: string): string {
  const bare = typed.toUpperCase().replace(/[\s-]/g, '').replaceAll('O', '0').replace(/[IL]/g, '1')
  return generated.test(bare) ? grouped(bare) : typed.trim()
}

function grouped(text: string): string {
  return (text.match(/.{1,4}/g) ?? []).join('-')
}
