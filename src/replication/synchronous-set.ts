import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import { formatLsn } from '#lib/lsn.ts'
import type { PostgresNode } from '#postgres/server/node.ts'
import { formatNames, inWords } from './names.ts'
import { Observer } from './observer.ts'
import { neverOutside, type OutsideSummary, summarise } from './outside.ts'
import {
  afterApply,
  afterBlindness,
  afterProof,
  afterRecord,
  afterRestart,
  beforeApply,
  type Decision,
  decide,
  firstState,
  type Instant,
  namesAtStart,
  type Step,
  type SynchronousRules,
  type SynchronousState,
  type SynchronousView,
  standbyOf,
} from './synchronous.ts'
import { firstTopology, type Topology, type TopologyFile, withMembers } from './topology.ts'

export interface SynchronousOptions {
  node: PostgresNode
  topology: TopologyFile
  rules: SynchronousRules
  log: Log
  clock: Clock
}

export interface MemberStatus {
  name: string
  /** away, or as pg_stat_replication says. */
  state: string
  /** Whether it holds every commit that was acknowledged. */
  member: boolean
  syncState?: string
  flushLsn?: string
  lagBytes?: number
  /** Since when it is a member, or out. */
  since?: string
}

export interface SynchronousStatus {
  /** synchronous_standby_names as PostgreSQL has it; absent while it cannot be asked. */
  names?: string
  members: MemberStatus[]
  blockedSince?: string
  reason: string
  /** Time in which commits were acknowledged without a member that is asked for. */
  outside: OutsideSummary
}

// What a status tells is never older than a second.
const lookEveryMs = 250
// The postmaster reads its configuration within milliseconds; what takes longer is tried again.
const reloadWithinMs = 2_000
// Some seconds: longer than a checkpoint keeps PostgreSQL from reading its configuration on a healthy disk.
const tellUnprovedAt = 20
const setting = 'synchronous_standby_names'

/** Keeps synchronous_standby_names of one primary, alone: looks, decides, does one thing and looks again. */
export class SynchronousSet {
  readonly #o: SynchronousOptions
  readonly #observer: Observer
  readonly #stopping = new AbortController()
  #state: SynchronousState
  #seen: { view: SynchronousView; decision: Decision } | undefined
  #trouble = ''
  #unproved = 0
  #postmaster: number | undefined
  #blockedSince: Date | undefined
  #loop: Promise<void> | undefined

  constructor(options: SynchronousOptions) {
    this.#o = options
    this.#observer = new Observer(options.node)
    this.#state = firstState(membersOf(options.topology))
  }

  /**
   * Before the server is started: what is no longer asked for is taken off the record, and the list that must be in force
   * from the first moment is given to the node.
   */
  async prepare(): Promise<void> {
    const { topology, rules, node } = this.#o
    const { value } = topology
    if (value) topology.write({ ...value, mode: rules.mode })
    const asked = this.#state.members.filter(name => rules.wanted.includes(name))
    this.#record(asked, 'the configuration no longer asks for it')
    await node.changeSettings({ [setting]: formatNames(namesAtStart(rules, asked)) }, reloadWithinMs)
  }

  /** When the server runs and is known: writes the first topology, or what has changed of it. */
  identify(identity: { systemIdentifier: string; timeline: number }): void {
    const { topology, rules, node, log } = this.#o
    topology.refuseOther(node.dataDirectory, identity.systemIdentifier)
    const { value } = topology
    const { systemIdentifier, timeline } = identity
    if (value && timeline < value.timeline)
      log.warn(
        { recorded: value.timeline, timeline },
        'the data directory is on an older timeline than before',
      )
    topology.write(
      value
        ? { ...value, timeline }
        : firstTopology({ primary: node.name, mode: rules.mode, systemIdentifier, timeline }),
    )
    this.#record(this.#state.members, 'it has not been in yet')
  }

  start(): void {
    this.#loop ??= this.#run()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#observer.close()
    await this.#loop
  }

  get topology(): Topology | undefined {
    return this.#o.topology.value
  }

  status(): SynchronousStatus {
    const { topology, clock } = this.#o
    const view = this.#seen?.view
    const outside = topology.value?.outside ?? neverOutside
    const since = this.#blockedSince
    return {
      ...(view ? { names: view.names ? formatNames(view.names) : 'set by somebody else' } : {}),
      members: this.#memberStatus(view),
      ...(since ? { blockedSince: since.toISOString() } : {}),
      reason: this.#trouble || this.#seen?.decision.reason || 'PostgreSQL is not running yet',
      outside: summarise(outside, clock.now()),
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      const acted = await this.#turn()
      if (!acted) await delay(lookEveryMs, undefined, { signal }).catch(() => {})
    }
  }

  /** Whether something was done, after which the next look comes at once. */
  async #turn(): Promise<boolean> {
    const { node, topology } = this.#o
    if (!node.running || !topology.value) {
      this.#blind('PostgreSQL is not running')
      return false
    }
    if (node.running.pid !== this.#postmaster) this.#state = afterRestart(this.#state)
    this.#postmaster = node.running.pid
    let view: SynchronousView
    try {
      view = await this.#observer.look()
    } catch (error) {
      this.#troubled(error)
      this.#blind(wordsOf(error))
      return false
    }
    const decision = decide(this.#o.rules, view, this.#state, this.#now())
    this.#state = decision.state
    this.#seen = { view, decision }
    this.#tellBlocked(decision)
    try {
      const acted = decision.step ? await this.#act(decision.step) : false
      this.#trouble = ''
      return acted
    } catch (error) {
      this.#troubled(error)
      return false
    }
  }

  async #act(step: Step): Promise<boolean> {
    if (this.#stopping.signal.aborted) return false
    if (step.kind === 'record') {
      this.#record(step.members, step.cause)
      return true
    }
    if (step.kind === 'apply') {
      const { node, log } = this.#o
      this.#state = beforeApply(this.#state)
      await node.changeSettings({ [setting]: formatNames(step.names) }, reloadWithinMs)
      this.#state = afterApply(this.#state, step, this.#now())
      log.info({ names: step.names }, 'the synchronous set was written')
      return true
    }
    return this.#prove()
  }

  async #prove(): Promise<boolean> {
    const lsn = await this.#observer.prove()
    this.#unproved = lsn === undefined ? this.#unproved + 1 : 0
    if (this.#unproved === tellUnprovedAt)
      this.#o.log.warn(
        'commits still do not wait for the synchronous set, or its archive claims to apply WAL',
      )
    if (lsn !== undefined) this.#state = afterProof(this.#state, lsn)
    return lsn !== undefined
  }

  /** Durable, then told. */
  #record(members: readonly string[], cause: string): void {
    const { topology, rules, log, clock } = this.#o
    const before = this.#state.members
    const { value } = topology
    if (value) topology.write(withMembers(value, { members, wanted: rules.wanted, cause, at: clock.now() }))
    this.#state = afterRecord(this.#state, members)
    const left = before.filter(name => !members.includes(name))
    const entered = members.filter(name => !before.includes(name))
    const { windows, totalSeconds } = summarise(topology.value?.outside ?? neverOutside, clock.now())
    if (left.length > 0)
      log.warn(
        { left, cause, windows },
        `commits no longer wait for ${inWords(left)}: what follows is not at recovery point zero`,
      )
    if (entered.length > 0)
      log.info(
        { entered, windows, outsideSeconds: totalSeconds },
        `every commit is with ${inWords(entered)} from now on`,
      )
  }

  #tellBlocked({ blocked }: Decision): void {
    const { log } = this.#o
    const before = this.#blockedSince
    this.#blockedSince = blocked?.since
    if (blocked && !before)
      log.warn({ by: blocked.by, since: blocked.since }, `commits wait for ${inWords(blocked.by)}`)
    if (!blocked && before)
      log.info({ waitedMs: this.#now().at.getTime() - before.getTime() }, 'commits go on')
  }

  #troubled(error: unknown): void {
    if (this.#stopping.signal.aborted) return
    const reason = wordsOf(error)
    // Four times a second the same would hide everything else.
    if (reason !== this.#trouble)
      this.#o.log.warn({ err: error }, 'the synchronous set cannot be kept, trying again')
    this.#trouble = reason
  }

  #blind(reason: string): void {
    this.#trouble = reason
    this.#seen = undefined
    this.#state = afterBlindness(this.#state)
  }

  #memberStatus(view: SynchronousView | undefined): MemberStatus[] {
    const { rules, topology } = this.#o
    const names = new Set([...rules.wanted, ...(view?.standbys ?? []).map(one => one.name)])
    return [...names].map(name => {
      const standby = view && standbyOf(view, name)
      const recorded = topology.value?.members.find(one => one.name === name)
      const out = topology.value?.outside.open.find(one => one.member === name)
      const since = recorded?.since ?? out?.since
      return {
        name,
        state: standby?.state ?? 'away',
        member: recorded !== undefined,
        ...(standby ? { syncState: standby.syncState } : {}),
        ...(view && standby?.flushLsn !== undefined
          ? {
              flushLsn: formatLsn(standby.flushLsn),
              lagBytes: Math.max(0, Number(view.lsn - standby.flushLsn)),
            }
          : {}),
        ...(since ? { since } : {}),
      }
    })
  }

  #now(): Instant {
    const { clock } = this.#o
    return { ms: clock.monotonicMs(), at: clock.now() }
  }
}

function membersOf(topology: TopologyFile): string[] {
  return topology.value?.members.map(member => member.name) ?? []
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
