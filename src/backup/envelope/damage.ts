/** What is wrong with an object, in words that end a sentence; who knows its name makes it a BACKUP_OBJECT_DAMAGED. */
export class Damage extends Error {
  override readonly name = 'Damage'
}

/** @throws Damage unless the condition holds */
export function requireSound(condition: unknown, reason: string): asserts condition {
  if (!condition) throw new Damage(reason)
}
