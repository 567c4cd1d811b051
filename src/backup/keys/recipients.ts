import { commonFailure } from '#lib/errors.ts'
import { type Home, readSecret } from '#lib/home.ts'
import { isRecipient } from './age-keys.ts'

export const recipientName = 'backup_recipient'

/** `age1...` lines of the home's secret; empty before the set-up. @throws CONFIG_INVALID */
export function recipientsOf(home: Home): string[] {
  const lines = (readSecret(home, recipientName) ?? '').split(/\r?\n/).map(line => line.trim())
  const recipients = lines.filter(line => line !== '' && !line.startsWith('#'))
  // A recipient with a typing error would be nobody, and its backups lost.
  if (!recipients.every(isRecipient))
    throw commonFailure('CONFIG_INVALID', {
      problems: `.secrets/${recipientName}: a line is no age1... recipient`,
    })
  return recipients
}
