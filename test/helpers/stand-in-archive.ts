import pg from 'pg'
import { type Lsn, parseLsn } from '#lib/lsn.ts'

/** What pg has and its types do not know. */
interface RawConnection {
  stream: { destroy(): void }
  on(event: 'replicationStart', started: () => void): void
  on(event: 'copyData', take: (message: { chunk: Buffer }) => void): void
  sendCopyFromChunk(chunk: Buffer): void
}

/** A WAL receiver that keeps nothing and can be told to hang: what PostgreSQL sees of an archive, and no more. */
export class StandInArchive {
  readonly #client: pg.Client
  #flushed: Lsn
  #hangs = false

  private constructor(client: pg.Client, flushed: Lsn) {
    this.#client = client
    this.#flushed = flushed
  }

  /** `config` as for an ordinary connection of a role that may replicate. Streams from the end of the WAL. */
  static async connect(config: pg.ClientConfig, name = 'archive'): Promise<StandInArchive> {
    const client = new pg.Client({
      ...config,
      application_name: name,
      replication: 'true',
    } as pg.ClientConfig)
    client.on('error', () => {})
    await client.connect()
    const [system] = (await client.query('IDENTIFY_SYSTEM')).rows as { xlogpos: string; timeline: number }[]
    const { xlogpos, timeline } = system as { xlogpos: string; timeline: number }
    const archive = new StandInArchive(client, parseLsn(xlogpos) as Lsn)
    archive.#raw.on('replicationStart', () => archive.#reply())
    archive.#raw.on('copyData', ({ chunk }) => archive.#take(chunk))
    // It answers at the end of the stream only.
    client.query(`START_REPLICATION PHYSICAL ${xlogpos} TIMELINE ${timeline}`).catch(() => {})
    return archive
  }

  /** Takes what comes and says nothing any more, as a stopped process. */
  hang(): void {
    this.#hangs = true
  }

  goOn(): void {
    this.#hangs = false
    this.#reply()
  }

  close(): void {
    this.#raw.stream.destroy()
  }

  get #raw(): RawConnection {
    return (this.#client as unknown as { connection: RawConnection }).connection
  }

  #take(message: Buffer): void {
    // w: start, end, clock, bytes. k: end, clock, whether an answer is wanted.
    if (message[0] === 0x77) this.#flushed = message.readBigUInt64BE(1) + BigInt(message.length - 25)
    if (!this.#hangs) this.#reply()
  }

  /** Standby status update; applied stays 0, as an archive applies nothing. */
  #reply(): void {
    const reply = Buffer.alloc(34)
    reply[0] = 0x72
    reply.writeBigUInt64BE(this.#flushed, 1)
    reply.writeBigUInt64BE(this.#flushed, 9)
    this.#raw.sendCopyFromChunk(reply)
  }
}
