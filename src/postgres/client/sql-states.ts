// What the server's own errors say about trying again (PostgreSQL documentation, appendix A). Each is rolled back for
// certain; an error without a severity is not the server's.

/** Serialization failure, deadlock, lock timeout, statement timeout: worth another try. */
export function isPassing(error: unknown): boolean {
  return ['40001', '40P01', '55P03', '57014'].includes(sqlStateOf(error))
}

/** Data exceptions and constraint violations lie in the values; everything else would meet any values. */
export function isPoison(error: unknown): boolean {
  return /^2[23]/.test(sqlStateOf(error))
}

/** The server is short of something (disk, memory, connections) or broken: nothing about this statement. */
export function isDistress(error: unknown): boolean {
  return /^(5[3458]|XX|F0)/.test(sqlStateOf(error))
}

/** A read-only server is one that is not the primary, or not yet. */
export function isReadOnly(error: unknown): boolean {
  return sqlStateOf(error) === '25006'
}

/** A restored database moves no chips before its recovery is finished (migrations/0009_recoveries.sql). */
export function isRecovering(error: unknown): boolean {
  return sqlStateOf(error) === 'MY004'
}

function sqlStateOf(error: unknown): string {
  const { code, severity } = error as { code?: string; severity?: string }
  return severity === undefined ? '' : (code ?? '')
}
