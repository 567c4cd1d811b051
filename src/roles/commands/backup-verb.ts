import { commonFailure } from '#lib/errors.ts'
import type { OpenBackup } from '../backup/open.ts'
import type { Context } from '../program.ts'

/** Opens the repository for a verb, hands it a signal that Ctrl-C aborts, and lets go of all in the end. */
export async function withBackup(
  context: Context,
  o: { for: 'write' | 'read'; attached?: boolean; passphrase?: string },
  work: (backup: OpenBackup, signal: AbortSignal) => Promise<number>,
): Promise<number> {
  const { openBackup } = await import('../backup/open.ts')
  const { abortSignal } = await import('../backup/progress.ts')
  using signal = abortSignal({ attached: o.attached ?? false })
  await using backup = await openBackup(context, {
    for: o.for,
    log: await verbLog(context),
    ...(o.passphrase === undefined ? {} : { passphrase: o.passphrase }),
  })
  return await work(backup, signal).catch(error => {
    throw signal.aborted ? commonFailure('CANCELLED', {}, { cause: error }) : error
  })
}

/** Warnings and worse, on standard error: standard output is the verb's answer. */
async function verbLog(context: Context) {
  const { createLog, silentLog } = await import('#lib/log.ts')
  if (context.json) return silentLog
  const destination = { write: (line: string) => void process.stderr.write(warningText(line)) }
  return createLog({ role: 'cli', level: 'warn', destination })
}

function warningText(line: string): string {
  const { level, msg, err, reason } = JSON.parse(line) as Record<string, unknown>
  const why = reason ?? (err as { message?: string } | undefined)?.message
  return `${level}: ${msg}${why === undefined ? '' : `: ${why}`}\n`
}

export function wholeNumber(flag: string, given: unknown, least: number, most: number): number | undefined {
  if (given === undefined) return undefined
  const value = /^[0-9]{1,9}$/.test(String(given)) ? Number(given) : Number.NaN
  if (value >= least && value <= most) return value
  throw commonFailure('USAGE', { reason: `${flag} must be a whole number from ${least} to ${most}` })
}

/** Control characters could rewrite the terminal of whoever lists it. */
export function text(flag: string, given: unknown, longest: number): string | undefined {
  if (given === undefined) return undefined
  const value = String(given)
  if (value.length >= 1 && value.length <= longest && value.isWellFormed() && !/\p{Cc}/u.test(value))
    return value
  throw commonFailure('USAGE', { reason: `${flag} must be 1 to ${longest} printable characters` })
}

/** For verbs that the archive role starts. */
export const attached = [
  '--attached',
  'end when standard input closes: whoever started this is gone',
] as const
