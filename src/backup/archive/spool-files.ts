import {
  closeSync,
  constants,
  fsync,
  openSync,
  readSync,
  renameSync,
  unlinkSync,
  write,
  writeSync,
} from 'node:fs'
import { Datasync } from './datasync.ts'

/** The file system as the spool uses it; tests put one with faults in its place. */
export interface SpoolFiles {
  /** For reading and writing; made when it is not there, 0600. */
  open(path: string): number
  close(fd: number): void
  /** All of the bytes, into the page cache. */
  write(fd: number, bytes: Uint8Array, offset: number): void
  /** As write, without holding the event loop up. */
  fill(fd: number, bytes: Uint8Array, offset: number): Promise<void>
  /** Bytes read, fewer at the end of the file. */
  read(fd: number, into: Uint8Array, offset: number): number
  /** A disk that stalls must not stall the answers to keepalives. */
  datasync(fd: number): Promise<void>
  syncDirectory(fd: number): Promise<void>
  rename(from: string, to: string): void
  remove(path: string): void
}

const datasync = new Datasync()

export const realFiles: SpoolFiles = {
  open: path => openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600),
  close: fd => closeSync(fd),
  write: (fd, bytes, offset) => {
    let written = 0
    while (written < bytes.length)
      written += writeSync(fd, bytes, written, bytes.length - written, offset + written)
  },
  fill: async (fd, bytes, offset) => {
    let written = 0
    while (written < bytes.length) written += await writeOnce(fd, bytes.subarray(written), offset + written)
  },
  read: (fd, into, offset) => {
    let read = 0
    while (read < into.length) {
      const count = readSync(fd, into, read, into.length - read, offset + read)
      if (count === 0) break
      read += count
    }
    return read
  },
  datasync: fd => datasync.sync(fd),
  syncDirectory: fd => settled(done => fsync(fd, done)),
  rename: (from, to) => renameSync(from, to),
  remove: path => unlinkSync(path),
}

function writeOnce(fd: number, bytes: Uint8Array, offset: number): Promise<number> {
  return new Promise((resolve, reject) => {
    write(fd, bytes, 0, bytes.length, offset, (error, count) => (error ? reject(error) : resolve(count)))
  })
}

function settled(start: (done: (error: Error | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => start(error => (error ? reject(error) : resolve())))
}
