import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** What postmaster.pid says; PostgreSQL fills it line by line while it starts (miscadmin.h, LOCK_FILE_LINE_*). */
export interface PidFile {
  pid: number
  dataDirectory: string
  /** Seconds since 1970. */
  startedAtSeconds: number
  port?: number
  socketDirectory?: string
  /** starting, stopping, ready, standby. */
  status?: string
}

export function pidFilePath(dataDirectory: string): string {
  return join(dataDirectory, 'postmaster.pid')
}

export function readPidFile(dataDirectory: string): PidFile | undefined {
  return readLockFile(pidFilePath(dataDirectory))
}

/** Undefined when there is none, or one that names no process. The lock of a socket begins with the same lines. */
export function readLockFile(path: string): PidFile | undefined {
  try {
    return parsePidFile(readFileSync(path, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

export function parsePidFile(text: string): PidFile | undefined {
  const [pidText, dataDirectory = '', started, port, socketDirectory, , , status] = text
    .split('\n')
    .map(line => line.trim())
  // A standalone backend writes its pid with a minus sign.
  const pid = Math.abs(Number(pidText))
  if (!Number.isSafeInteger(pid) || pid === 0) return undefined
  return {
    pid,
    dataDirectory,
    startedAtSeconds: Number(started) || 0,
    ...(Number(port) > 0 ? { port: Number(port) } : {}),
    ...(socketDirectory ? { socketDirectory } : {}),
    ...(status ? { status } : {}),
  }
}
