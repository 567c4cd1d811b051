import type pg from 'pg'
import { BaseBackupExchange, type BaseBackupResult, baseBackupQuery } from './base-backup.ts'
import { wireError } from './errors.ts'
import { logIn } from './login.ts'
import { integerOf, lsnOf, quoteName, type Row, textOf } from './messages.ts'
import type {
  BaseBackupOptions,
  BaseBackupSink,
  OpenOptions,
  SlotState,
  StreamOptions,
  SystemIdentity,
  WalSink,
  WalStream,
} from './model.ts'
import { protocol } from './reader.ts'
import { RowsExchange } from './rows.ts'
import { Session } from './session.ts'
import { WalExchange } from './wal-stream.ts'

export type * from './model.ts'

/**
 * A physical replication connection to PostgreSQL 15 or newer (54.4 Streaming Replication Protocol). pg logs in; what
 * follows is read here, in place, by one command at a time. Every method rejects with a row of errors.ts, or with what a
 * sink threw. After the server refused a command the connection goes on; after anything else it is gone.
 */
export class ReplicationConnection {
  readonly #session: Session
  #stream: WalExchange | undefined

  private constructor(session: Session) {
    this.#session = session
  }

  /** @throws WIRE_UNREACHABLE, WIRE_LOGIN_REFUSED, WIRE_VERSION_UNFIT, WIRE_ABORTED */
  static async open(config: pg.ClientConfig, options: OpenOptions = {}): Promise<ReplicationConnection> {
    return new ReplicationConnection(new Session(await logIn(config, options), options))
  }

  /** Such as 150018. */
  get serverVersion(): number {
    return this.#session.serverVersion
  }

  /** Whether the next command has a chance. */
  get usable(): boolean {
    return this.#session.usable
  }

  async identifySystem(): Promise<SystemIdentity> {
    const row = await this.#row('IDENTIFY_SYSTEM')
    const systemIdentifier = textOf(row, 0) ?? ''
    if (!/^\d{1,20}$/.test(systemIdentifier)) throw protocol('a system without an identifier')
    return { systemIdentifier, timeline: integerOf(row, 1), flushLsn: lsnOf(row, 2) }
  }

  /** As PostgreSQL prints it, with a unit: wal_segment_size is `16MB`. */
  async show(setting: string): Promise<string> {
    if (!/^[a-z_.]+$/i.test(setting)) throw new TypeError(`${setting} is no name of a setting`)
    return textOf(await this.#row('SHOW', `SHOW ${setting}`), 0) ?? ''
  }

  /** undefined when there is no such slot. */
  async readSlot(name: string): Promise<SlotState | undefined> {
    const row = await this.#row('READ_REPLICATION_SLOT', `READ_REPLICATION_SLOT ${quoteName(name)}`)
    if (row?.[0] == null) return undefined
    return {
      ...(row[1] == null ? {} : { restartLsn: lsnOf(row, 1) }),
      ...(row[2] == null ? {} : { restartTimeline: integerOf(row, 2) }),
    }
  }

  /** A physical slot; with reserveWal the server keeps WAL from now on. @throws WIRE_SLOT_EXISTS */
  async createSlot(name: string, options: { reserveWal: boolean; temporary?: boolean }): Promise<void> {
    const temporary = options.temporary ? 'TEMPORARY ' : ''
    const query = `CREATE_REPLICATION_SLOT ${quoteName(name)} ${temporary}PHYSICAL (RESERVE_WAL ${options.reserveWal})`
    await this.#tables('CREATE_REPLICATION_SLOT', query)
  }

  /** @throws WIRE_SLOT_MISSING, WIRE_SLOT_IN_USE */
  async dropSlot(name: string): Promise<void> {
    await this.#tables('DROP_REPLICATION_SLOT', `DROP_REPLICATION_SLOT ${quoteName(name)}`)
  }

  /** The history file of a timeline; timeline 1 has none. */
  async timelineHistory(timeline: number): Promise<{ fileName: string; content: Buffer }> {
    const row = await this.#row('TIMELINE_HISTORY', `TIMELINE_HISTORY ${timeline}`)
    const fileName = textOf(row, 0)
    const content = row?.[1]
    if (!fileName || !content) throw protocol('a history without a file')
    return { fileName, content }
  }

  /** @throws WIRE_PAGES_DAMAGED at the very end, when pages did not fit their checksums. */
  async baseBackup(options: BaseBackupOptions, sink: BaseBackupSink): Promise<BaseBackupResult> {
    const exchange = new BaseBackupExchange(baseBackupQuery(options), sink)
    this.#session.start(exchange)
    return exchange.done
  }

  /**
   * Resolves when the server streams. `start` lies on `timeline`, best at the begin of a segment; a start at the very end
   * of an old timeline resolves with a stream that has ended already.
   * @throws WIRE_WAL_REMOVED, WIRE_SLOT_MISSING, WIRE_SLOT_IN_USE, WIRE_SLOT_LOST
   */
  async streamWal(options: StreamOptions, sink: WalSink): Promise<WalStream> {
    const exchange = new WalExchange(this.#session, options, sink)
    this.#session.start(exchange)
    this.#stream = exchange
    return exchange.started
  }

  /** Stops a stream, calls a backup off, says goodbye; a few seconds at most. */
  async close(): Promise<void> {
    if (this.#session.usable) await this.#stream?.stop()
    await this.#session.close()
  }

  /** Ends it at once; what is running rejects with WIRE_ABORTED. */
  destroy(): void {
    this.#session.fail(wireError('WIRE_ABORTED', { command: this.#session.command }))
  }

  async #row(command: string, query = command): Promise<Row | undefined> {
    return (await this.#tables(command, query))[0]?.[0]
  }

  async #tables(command: string, query: string): Promise<Row[][]> {
    const exchange = new RowsExchange(command, query)
    this.#session.start(exchange)
    return exchange.done
  }
}
