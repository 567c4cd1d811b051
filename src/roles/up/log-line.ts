/** One line of a role, whether it came as JSON from its log or as plain text from anywhere. */
export interface LogLine {
  role: string
  level: string
  message: string
  /** RFC 3339, when the line had one. */
  time?: string
  facts: Record<string, unknown>
  /** The line as JSON, for the log files. */
  json: string
}

/** `fallback` is the level and time of text that is not JSON. */
export function parseLogLine(role: string, line: string, fallback: { level: string; time: string }): LogLine {
  const parsed = parseObject(line)
  if (!parsed || typeof parsed.msg !== 'string') {
    const { level, time } = fallback
    return {
      role,
      level,
      message: line,
      time,
      facts: {},
      json: JSON.stringify({ level, time, role, msg: line }),
    }
  }
  const { level, time, role: _role, pid: _pid, msg, ...facts } = parsed
  return {
    role,
    level: typeof level === 'string' ? level : fallback.level,
    message: msg,
    ...(typeof time === 'string' ? { time } : {}),
    facts,
    json: line,
  }
}

export function isTrouble(line: LogLine): boolean {
  return ['warn', 'error', 'fatal'].includes(line.level)
}

/** `serve     | 12:00:01 WARN  pool was slow  waitedMs=120`; the level is left out while all is well. */
export function formatForPeople(line: LogLine): string {
  const time = line.time?.slice(11, 19) ?? ''
  const level = line.level === 'info' ? '' : `${line.level.toUpperCase()} `
  const facts = Object.entries(line.facts).map(([name, value]) => `${name}=${showFact(value)}`)
  const text = [`${time} ${level}${line.message}`, ...facts].join('  ').trim()
  return `${line.role.padEnd(9)} | ${text}`
}

function showFact(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value)
  // Errors come serialised; on one line their message is what helps, the files hold the stack.
  const { message } = value as { message?: unknown }
  return typeof message === 'string' ? message : JSON.stringify(value)
}

function parseObject(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    return JSON.parse(line) as Record<string, unknown>
  } catch {
    return undefined
  }
}
