import { readFileSync } from 'node:fs'

/** What PostgreSQL says about a recovery, with the times it said it. */
export interface RecoveryWords {
  consistentAt?: Date
  /** When the replay had ended. */
  replayedAt?: Date
  /** Server's clock in the last commit that was replayed. */
  lastCommitAt?: Date
}

// log_line_prefix '%m [%p] %q%u@%d ' with log_timezone UTC.
const line = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d\.\d+) UTC \[\d+\] LOG: +(.*)$/

/** Reads the log of one start; nothing of it is understood when it is not there. */
export function readRecoveryLog(file: string): RecoveryWords {
  return parseRecoveryLog(readIfThere(file))
}

export function parseRecoveryLog(text: string): RecoveryWords {
  const words: RecoveryWords = {}
  for (const one of text.split('\n')) {
    const [, day, time, said = ''] = line.exec(one) ?? []
    const at = new Date(`${day}T${time}Z`)
    if (said.startsWith('consistent recovery state reached')) words.consistentAt ??= at
    if (/^redo (done|is not required)/.test(said)) words.replayedAt = at
    const commit = /^last completed transaction was at log time (\S+) (\S+)\+00/.exec(said)
    if (commit) words.lastCommitAt = new Date(`${commit[1]}T${commit[2]}Z`)
  }
  return words
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
