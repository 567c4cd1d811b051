import { closeSync, fsyncSync, openSync, read, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { adoptOwner } from '#lib/home.ts'
import { formatLsn, type Lsn, segmentName, segmentStart } from '#lib/lsn.ts'
import { archiveError } from './errors.ts'
import { fillNow, readUsed, SegmentFile } from './segment-file.ts'
import { Spare } from './spare.ts'
import {
  type ClosedSegment,
  closedName,
  flushedName,
  flushedText,
  makeSpoolDirectory,
  partialName,
  readFlushed,
  readSpool,
  type SpooledSegment,
} from './spool-directory.ts'
import { realFiles, type SpoolFiles } from './spool-files.ts'

export interface OpenSegment extends SpooledSegment {
  flushLsn: Lsn
}

export interface SpoolOptions {
  root: string
  systemIdentifier: string
  segmentBytes: number
  limitBytes: number
  files?: SpoolFiles | undefined
}

/** A commit costs no second fdatasync; and what a power cut leaves in doubt is what was confirmed in so much time. */
const noteEveryMs = 1_000

/**
 * WAL that is on this disk and not in the repository yet: `<segment>.partial` while it is received, `<segment>` when it
 * is whole. Three things always hold. Each byte of a partial file is zero or what the server sent. What flush() answered
 * is on disk, under names that are on disk. Before any byte of a segment counts as flushed, all segments before it lie
 * under their final names; so a start finds one open segment.
 */
export class Spool {
  readonly directory: string
  readonly segmentBytes: number
  readonly systemIdentifier: string
  /** Called when there is something new for the repository. */
  onComplete: () => void = () => {}
  readonly #files: SpoolFiles
  readonly #limitBytes: number
  readonly #directoryFd: number
  readonly #spare: Spare
  #complete: SpooledSegment[]
  #closed: ClosedSegment[]
  /** Under their final names, which are not durable yet. */
  #renamed: SpooledSegment[] = []
  /** Received to the end. */
  #full: SegmentFile[] = []
  #current: SegmentFile | undefined
  #timeline = 0
  #writeLsn: Lsn | undefined
  #flushLsn: Lsn | undefined
  /** The open segment between two sessions. */
  #resting: OpenSegment | undefined
  readonly #flushedFd: number
  /** The furthest that was ever flushed of a segment, this time or before. */
  #noted = { segment: '', offset: 0 }
  #isNoteDirty = false
  #syncingNote: Promise<void> | undefined
  readonly #closing = new AbortController()
  #namesDirty = false
  #flushing: Promise<Lsn> | undefined
  #waiting: (() => void)[] = []

  constructor(o: SpoolOptions) {
    this.#files = o.files ?? realFiles
    this.#limitBytes = o.limitBytes
    this.segmentBytes = o.segmentBytes
    this.systemIdentifier = o.systemIdentifier
    this.directory = makeSpoolDirectory(o.root, o.systemIdentifier)
    const { complete, closed } = readSpool(this.directory, o.segmentBytes)
    this.#complete = complete
    this.#closed = closed
    this.#directoryFd = openSync(this.directory, 'r')
    // Names that a killed process gave are confirmed from now on.
    fsyncSync(this.#directoryFd)
    this.#flushedFd = this.#files.open(this.pathFor(flushedName))
    this.#resting = this.#lastOpen()
    this.#spare = new Spare({ files: this.#files, directory: this.directory, bytes: o.segmentBytes })
  }

  /** Whole segments, oldest first. */
  get complete(): readonly SpooledSegment[] {
    return this.#complete
  }

  /** Last segments of timelines that have ended. */
  get closed(): readonly ClosedSegment[] {
    return this.#closed
  }

  /** The segment that is being received, or was when the stream ended, and how far it is on disk for sure. */
  get open(): OpenSegment | undefined {
    const file = this.#full[0] ?? this.#current
    if (!file || this.#flushLsn === undefined) return this.#resting
    const { segment, timeline, start } = file
    return { segment, timeline, start, flushLsn: this.#flushLsn }
  }

  get writeLsn(): Lsn | undefined {
    return this.#writeLsn
  }

  get flushLsn(): Lsn | undefined {
    return this.#flushLsn
  }

  get usage(): { segments: number; bytes: number } {
    const files = [this.#complete, this.#closed, this.#renamed, this.#full].map(list => list.length)
    const segments = files.reduce((sum, count) => sum + count, this.#current ? 1 : 0)
    return { segments, bytes: segments * this.segmentBytes }
  }

  /** Where the next byte belongs; undefined in an empty spool. What is here may reach to `end`, or be lost before it. */
  position(): { timeline: number; lsn: Lsn; end: Lsn } | undefined {
    if (this.#flushLsn !== undefined && this.#isInPlace)
      return { timeline: this.#timeline, lsn: this.#flushLsn, end: this.#writeLsn ?? this.#flushLsn }
    const { partial, complete, closed } = readSpool(this.directory, this.segmentBytes)
    const ends = [
      ...complete.map(one => ({ ...one, end: one.start + BigInt(this.segmentBytes) })),
      ...closed,
    ].map(({ timeline, end }) => ({ timeline, lsn: end, end }))
    const [open] = partial
    // How much of it reached the disk nobody knows: it comes again from its beginning, and is compared.
    if (open) ends.push({ timeline: open.timeline, lsn: open.start, end: this.#endOf(open) })
    return ends.sort((a, b) => a.timeline - b.timeline || Number(a.lsn - b.lsn)).at(-1)
  }

  /** Says where the next write() begins: where the last flush ended, or at the beginning of a segment. */
  async beginAt(position: { timeline: number; lsn: Lsn }): Promise<void> {
    const { timeline, lsn } = position
    if (timeline !== this.#timeline || lsn !== this.#flushLsn || !this.#isInPlace) {
      await this.abandon()
      if (lsn !== segmentStart(lsn, this.segmentBytes))
        throw new Error(`${formatLsn(lsn)} is in the middle of a segment`)
    }
    this.#timeline = timeline
    this.#writeLsn = lsn
    this.#flushLsn = lsn
    if (this.#resting?.segment !== segmentName(timeline, lsn, this.segmentBytes)) this.#resting = undefined
  }

  /** Whether the bytes need a new file for which there is no room. */
  isFullFor(lsn: Lsn, bytes: number): boolean {
    const end = this.#current?.end ?? lsn
    if (lsn + BigInt(bytes) <= end) return false
    return this.usage.bytes + this.segmentBytes > this.#limitBytes
  }

  /** Resolves when remove() has made room, and when the session is given up. */
  room(): Promise<void> {
    return new Promise(resolve => this.#waiting.push(resolve))
  }

  /**
   * Takes the bytes at `lsn`, the next ones, over the ends of segments; they are not on disk before flush().
   * @throws ARCHIVE_WAL_DIFFERS when the file holds other bytes of an earlier session; what the file system says.
   */
  write(lsn: Lsn, bytes: Buffer): void {
    if (lsn !== this.#writeLsn)
      throw new Error(`${formatLsn(lsn)} came, ${formatLsn(this.#writeLsn ?? 0n)} was due`)
    let at = lsn
    for (let rest = bytes; rest.length > 0; ) {
      const file = this.#fileFor(at)
      const part = rest.subarray(0, Number(file.end - at))
      const different = file.write(at, part)
      if (different !== undefined) throw this.#differs(file, different)
      at += BigInt(part.length)
      rest = rest.subarray(part.length)
      this.#writeLsn = at
    }
  }

  /** Puts on disk what was written before the call; answers up to where. After a failure only beginAt() helps. */
  flush(): Promise<Lsn> {
    const run = (this.#flushing ?? Promise.resolve()).then(() => this.#flush())
    const done = () => {
      if (this.#flushing === run) this.#flushing = undefined
    }
    this.#flushing = run
    run.then(done, done)
    return run
  }

  /** Gives up the open file after a failure; what is in it stays and is written again from the segment's beginning. */
  async abandon(): Promise<void> {
    this.#wake()
    await this.#flushing?.catch(() => {})
    this.#resting = this.open
    for (const file of new Set([...this.#full, ...(this.#current ? [this.#current] : [])])) this.#close(file)
    this.#full = []
    this.#current = undefined
    this.#writeLsn = undefined
    this.#flushLsn = undefined
  }

  /**
   * Ends all open segments of timelines up to this one, of which the last goes to `switchLsn`. What they hold beyond it
   * is kept: a commit may have been acknowledged for it.
   */
  async closeTimeline(timeline: number, switchLsn: Lsn): Promise<void> {
    await this.abandon()
    const open = readSpool(this.directory, this.segmentBytes).partial.filter(one => one.timeline <= timeline)
    for (const one of open) {
      const end = this.#closingEnd(one, one.timeline === timeline ? switchLsn : one.start)
      const path = join(this.directory, partialName(one.segment))
      if (end === one.start) this.#files.remove(path)
      else {
        const name = closedName(one.segment, Number(end - one.start))
        this.#files.rename(path, join(this.directory, name))
        this.#closed.push({ ...one, end })
      }
    }
    this.#resting = undefined
    await this.#syncNames()
    if (open.length > 0) this.onComplete()
  }

  /** Bytes of a segment that lies here whole, closed or open; [from, to) are offsets. */
  async read(one: SpooledSegment, range: { from: number; to: number }): Promise<Buffer> {
    const path = this.#pathOf(one)
    const fd = openSync(path, 'r')
    try {
      const bytes = Buffer.allocUnsafe(range.to - range.from)
      for (let done = 0; done < bytes.length; ) {
        const count = await readOnce(fd, bytes.subarray(done), range.from + done)
        if (count === 0) throw archiveError('ARCHIVE_SPOOL_SHORT', { file: path, bytes: range.from + done })
        done += count
      }
      return bytes
    } finally {
      closeSync(fd)
    }
  }

  /** Frees a segment that is stored. If the removal is lost with the machine, the segment is compared and freed again. */
  remove(one: SpooledSegment | ClosedSegment): void {
    this.#files.remove(this.#pathOf(one))
    this.#complete = this.#complete.filter(other => other !== one)
    this.#closed = this.#closed.filter(other => other !== one)
    this.#wake()
  }

  /** Of a file beside the segments. */
  pathFor(name: string): string {
    return join(this.directory, name)
  }

  async close(): Promise<void> {
    await this.abandon()
    await this.#spare.close()
    this.#closing.abort()
    await this.#syncingNote
    this.#files.close(this.#flushedFd)
    closeSync(this.#directoryFd)
  }

  /** Whether a stream can go on in the open file; not when it has come to the next one, and the flush has not. */
  get #isInPlace(): boolean {
    const isBehind = this.#current && this.#flushLsn !== undefined && this.#flushLsn < this.#current.start
    return this.#full.length === 0 && !isBehind
  }

  async #flush(): Promise<Lsn> {
    const target = this.#writeLsn
    if (target === undefined) throw new Error('nothing was begun')
    const current = this.#current
    if (current?.end === target) this.#setFull(current)
    await this.#finishFull()
    if (this.#namesDirty) await this.#syncNames()
    const isPartial = current !== undefined && current.end > target
    if (isPartial && target > current.start) await this.#files.datasync(current.fd)
    this.#flushLsn = target
    if (isPartial) this.#noteFlushed(current.segment, Number(target - current.start))
    return target
  }

  /**
   * For the next process and for restores: all before it is on disk and was confirmed, or may have been. It is written
   * after the fdatasync that it reports and before the confirmation, so it never says too much, and says all of it as
   * long as the machine lives. It is put on disk by itself once a second: after a power cut it may be that old, and then
   * some of what follows it was confirmed as well.
   */
  #noteFlushed(segment: string, offset: number): void {
    if (this.#noted.segment === segment && this.#noted.offset >= offset) return
    this.#noted = { segment, offset }
    try {
      this.#files.write(this.#flushedFd, Buffer.from(flushedText({ segment, offset })), 0)
      this.#isNoteDirty = true
      this.#syncingNote ??= this.#syncNote()
    } catch {
      // A note that stays old says less, and nothing wrong.
    }
  }

  async #syncNote(): Promise<void> {
    while (this.#isNoteDirty) {
      await delay(noteEveryMs, undefined, { ref: false, signal: this.#closing.signal }).catch(() => {})
      this.#isNoteDirty = false
      await this.#files.datasync(this.#flushedFd).catch(() => {})
    }
    this.#syncingNote = undefined
  }

  #lastOpen(): OpenSegment | undefined {
    const noted = readFlushed(this.directory)
    const { partial } = readSpool(this.directory, this.segmentBytes)
    const open = partial.find(one => one.segment === noted?.segment)
    if (!open || !noted) return undefined
    this.#noted = noted
    return { ...open, flushLsn: open.start + BigInt(noted.offset) }
  }

  async #finishFull(): Promise<void> {
    for (const file of [...this.#full]) {
      await this.#files.datasync(file.fd)
      const { segment, timeline, start } = file
      this.#files.rename(this.pathFor(partialName(segment)), this.pathFor(segment))
      this.#namesDirty = true
      this.#full.shift()
      this.#renamed.push({ segment, timeline, start })
      this.#close(file)
    }
  }

  async #syncNames(): Promise<void> {
    const renamed = [...this.#renamed]
    this.#namesDirty = false
    try {
      await this.#files.syncDirectory(this.#directoryFd)
    } catch (error) {
      this.#namesDirty = true
      throw error
    }
    this.#renamed = this.#renamed.filter(one => !renamed.includes(one))
    this.#complete.push(...renamed)
    if (renamed.length > 0) this.onComplete()
  }

  #fileFor(lsn: Lsn): SegmentFile {
    const current = this.#current
    if (current && lsn < current.end) return current
    if (current) this.#setFull(current)
    this.#current = this.#openSegment(lsn)
    this.#spare.prepare()
    return this.#current
  }

  #setFull(file: SegmentFile): void {
    this.#full.push(file)
    if (this.#current === file) this.#current = undefined
  }

  #openSegment(lsn: Lsn): SegmentFile {
    const segment = segmentName(this.#timeline, lsn, this.segmentBytes)
    const path = this.pathFor(partialName(segment))
    const isNew = !this.#exists(path)
    if (isNew) this.#spare.take(path)
    const fd = this.#files.open(path)
    this.#namesDirty = true
    try {
      if (isNew) adoptOwner(path)
      const earlier = isNew ? undefined : this.#earlierContent(fd)
      const { size } = statSync(path)
      if (size < this.segmentBytes) fillNow(this.#files, fd, { from: size, to: this.segmentBytes })
      const { segmentBytes } = this
      this.#resting = undefined
      return new SegmentFile({ files: this.#files, fd, timeline: this.#timeline, lsn, segmentBytes, earlier })
    } catch (error) {
      this.#files.close(fd)
      throw error
    }
  }

  #exists(path: string): boolean {
    return statSync(path, { throwIfNoEntry: false }) !== undefined
  }

  /** Undefined where the disk cannot read it any more: then all of it is written again from the server. */
  #earlierContent(fd: number): Buffer | undefined {
    try {
      return readUsed(this.#files, fd, this.segmentBytes)
    } catch {
      return undefined
    }
  }

  #endOf(partial: SpooledSegment): Lsn {
    const fd = this.#files.open(this.pathFor(partialName(partial.segment)))
    try {
      return partial.start + BigInt(this.#earlierContent(fd)?.length ?? 0)
    } finally {
      this.#files.close(fd)
    }
  }

  /** Records may end in zeros, so the last byte that is none is not the only word about the end. */
  #closingEnd(one: SpooledSegment, switchLsn: Lsn): Lsn {
    const isInside = switchLsn > one.start && switchLsn < one.start + BigInt(this.segmentBytes)
    const flushed = this.#noted.segment === one.segment ? this.#noted.offset : 0
    const ends = [this.#endOf(one), one.start + BigInt(flushed), isInside ? switchLsn : one.start]
    return ends.reduce((a, b) => (b > a ? b : a))
  }

  #pathOf(one: SpooledSegment | ClosedSegment): string {
    const isWhole = [...this.#complete, ...this.#renamed].some(other => other.segment === one.segment)
    if ('end' in one) return this.pathFor(closedName(one.segment, Number(one.end - one.start)))
    return this.pathFor(isWhole ? one.segment : partialName(one.segment))
  }

  #differs(file: SegmentFile, lsn: Lsn) {
    return archiveError('ARCHIVE_WAL_DIFFERS', {
      file: this.pathFor(partialName(file.segment)),
      lsn: formatLsn(lsn),
    })
  }

  #close(file: SegmentFile): void {
    try {
      this.#files.close(file.fd)
    } catch {
      // What counted was datasync; a file that is given up had its error before.
    }
  }

  #wake(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const wake of waiting) wake()
  }
}

function readOnce(fd: number, into: Buffer, offset: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(fd, into, 0, into.length, offset, (error, count) => (error ? reject(error) : resolve(count)))
  })
}
