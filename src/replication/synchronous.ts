import { formatLsn, type Lsn } from '#lib/lsn.ts'
import { inWords } from './names.ts'
import type { ReplicationMode } from './topology.ts'

/** What is asked for. */
export interface SynchronousRules {
  mode: ReplicationMode
  /** Members in the order of the list: data nodes, then the archive. */
  wanted: readonly string[]
  /** max-availability: how long commits wait for a member, and how long it may be away. */
  timeoutMs: number
}

/** What PostgreSQL shows at one look. */
export interface SynchronousView {
  /** Members in synchronous_standby_names; undefined when somebody else wrote it. */
  names: readonly string[] | undefined
  /** Flushed on the primary: every commit that waits is before it. */
  lsn: Lsn
  /** Commits that wait for a member. */
  waiting: number
  standbys: readonly Standby[]
}

/** One row of pg_stat_replication. */
export interface Standby {
  name: string
  state: string
  syncState: string
  /** Place in the list that its sender works with, from 1; 0 when it is not in it. */
  priority: number
  flushLsn: Lsn | undefined
}

/** A moment on both clocks: the monotonic one decides, the wall one is for people. */
export interface Instant {
  ms: number
  at: Date
}

/** What is remembered from look to look. Only `members` outlives the process. */
export interface SynchronousState {
  /** As recorded: these hold every commit that was acknowledged. */
  members: readonly string[]
  /** The list that this process wrote last and that PostgreSQL took; undefined before its first and after trouble. */
  applied?: readonly string[] | undefined
  /** Flushed on the primary when commits were proved to wait for the list that is in force. */
  provedLsn?: Lsn | undefined
  /** Of the last looks, oldest first. */
  lsns: readonly Lsn[]
  /** The oldest commits that are still waiting. */
  waits?: (Instant & { lsn: Lsn }) | undefined
  away: Readonly<Record<string, Instant>>
  /** Since when it follows closely. */
  steady: Readonly<Record<string, Instant>>
  /** When commits stopped waiting for a member, on the monotonic clock. */
  left: readonly number[]
}

/** One thing to do before the next look. */
export type Step =
  /** Durably: from now on exactly these hold every acknowledged commit. */
  | { kind: 'record'; members: readonly string[]; cause: string }
  /** Write synchronous_standby_names and have it read. `drops`: commits stop waiting for somebody. */
  | { kind: 'apply'; names: readonly string[]; drops: boolean }
  /** Find out whether commits wait by now. */
  | { kind: 'prove' }

export interface Decision {
  state: SynchronousState
  step: Step | undefined
  /** Commits that wait longer than one round trip: since when, for whom. */
  blocked: { since: Date; by: readonly string[] } | undefined
  /** In plain words, how things are and why. */
  reason: string
}

export function firstState(members: readonly string[]): SynchronousState {
  return { members, lsns: [], away: {}, steady: {}, left: [] }
}

/** The list that must be in force when PostgreSQL opens, so that no commit is acknowledged without a recorded member. */
export function namesAtStart(rules: SynchronousRules, members: readonly string[]): string[] {
  return rules.wanted.filter(name => rules.mode === 'max-protection' || members.includes(name))
}

/**
 * What should happen now? To leave: record first, then reload. To enter: reload, see that commits wait, see that the
 * member has flushed what was there by then, then record. In max-protection nobody leaves unless nobody asks for it any
 * more. In max-availability a member leaves when commits have waited for it, or it was away, for the timeout.
 */
export function decide(
  rules: SynchronousRules,
  view: SynchronousView,
  before: SynchronousState,
  now: Instant,
): Decision {
  const state = look(rules, view, before, now)
  const target = rules.wanted.filter(name => belongs(name, rules, view, state, now))
  const step = nextStep(rules, view, state, target, now)
  const blocked = blockedBy(view, state, now)
  return { state, step, blocked, reason: explain(rules, view, state, blocked) }
}

/** From here until it is known to have worked, no list counts as written. */
export function beforeApply(state: SynchronousState): SynchronousState {
  return { ...state, applied: undefined, provedLsn: undefined }
}

export function afterApply(
  state: SynchronousState,
  { names, drops }: { names: readonly string[]; drops: boolean },
  now: Instant,
): SynchronousState {
  const left = drops ? [...state.left, now.ms].slice(-20) : state.left
  return { ...state, applied: names, provedLsn: undefined, left }
}

export function afterProof(state: SynchronousState, provedLsn: Lsn): SynchronousState {
  return { ...state, provedLsn }
}

/**
 * After somebody left, the list is written again in any case: a session shows what it has read of the files by itself,
 * which may be more than the server has.
 */
export function afterRecord(state: SynchronousState, members: readonly string[]): SynchronousState {
  const someLeft = state.members.some(name => !members.includes(name))
  return { ...(someLeft ? beforeApply(state) : state), members }
}

/** PostgreSQL could not be asked: what was seen in a row starts again, what waits and is away keeps its time. */
export function afterBlindness(state: SynchronousState): SynchronousState {
  return { ...state, lsns: [], steady: {}, provedLsn: undefined }
}

/** PostgreSQL was started again: nobody waits yet, and members get the whole timeout to come back. */
export function afterRestart(state: SynchronousState): SynchronousState {
  return { ...afterBlindness(state), waits: undefined, away: {} }
}

// As many looks as fit into a second: an archive under load is always some milliseconds behind.
const looksBehind = 4

function look(
  rules: SynchronousRules,
  view: SynchronousView,
  before: SynchronousState,
  now: Instant,
): SynchronousState {
  const all = [...new Set([...rules.wanted, ...before.members, ...(view.names ?? [])])]
  const marked = (known: Readonly<Record<string, Instant>>, holds: (name: string) => boolean) =>
    Object.fromEntries(all.filter(holds).map(name => [name, known[name] ?? now]))
  return {
    ...before,
    lsns: [...before.lsns, view.lsn].slice(-looksBehind),
    waits: waitsAfter(view, before, now),
    away: marked(before.away, name => !isConnected(standbyOf(view, name))),
    steady: marked(before.steady, name => followsClosely(standbyOf(view, name), before.lsns[0])),
  }
}

/** Moves on once everything that waited at the earlier look has been flushed by all. */
function waitsAfter(
  view: SynchronousView,
  before: SynchronousState,
  now: Instant,
): SynchronousState['waits'] {
  const { waits } = before
  if (view.waiting === 0) return undefined
  if (waits && laggards(view, waits.lsn).length > 0) return waits
  return { ...now, lsn: view.lsn }
}

/** Members of the list in force that have not flushed so far. */
function laggards(view: SynchronousView, lsn: Lsn): string[] {
  return (view.names ?? []).filter(name => !hasFlushed(standbyOf(view, name), lsn))
}

function belongs(
  name: string,
  rules: SynchronousRules,
  view: SynchronousView,
  state: SynchronousState,
  now: Instant,
): boolean {
  if (rules.mode === 'max-protection') return true
  const isIn = state.members.includes(name) || (view.names?.includes(name) ?? false)
  if (isIn) return whyOverdue(name, rules, view, state, now) === undefined
  const since = state.steady[name]
  return since !== undefined && now.ms - since.ms >= steadyForMs(state.left, now.ms)
}

/** In words why it must leave; undefined while it may stay. */
function whyOverdue(
  name: string,
  { timeoutMs }: SynchronousRules,
  view: SynchronousView,
  { waits, away }: SynchronousState,
  now: Instant,
): string | undefined {
  const awayMs = now.ms - (away[name]?.ms ?? now.ms)
  if (awayMs >= timeoutMs) return `it was not connected for ${seconds(awayMs)}`
  const waitedMs = now.ms - (waits?.ms ?? now.ms)
  if (waits && waitedMs >= timeoutMs && laggards(view, waits.lsn).includes(name))
    return `commits had waited ${seconds(waitedMs)} for it`
  return undefined
}

// A member that leaves again and again stops every player for the timeout each time: it has to hold out longer first.
const rememberLeavesMs = 600_000
const longestSteadyMs = 60_000

function steadyForMs(left: readonly number[], nowMs: number): number {
  const recent = left.filter(ms => nowMs - ms < rememberLeavesMs).length
  return recent === 0 ? 0 : Math.min(longestSteadyMs, 1000 * 2 ** (recent - 1))
}

function nextStep(
  rules: SynchronousRules,
  view: SynchronousView,
  state: SynchronousState,
  target: readonly string[],
  now: Instant,
): Step | undefined {
  const { members, applied, provedLsn } = state
  const kept = members.filter(name => target.includes(name) && view.names?.includes(name))
  if (kept.length < members.length) {
    const [gone] = members.filter(name => !kept.includes(name))
    return { kind: 'record', members: kept, cause: whyGone(gone as string, rules, view, state, now) }
  }
  if (!isSame(view.names, target) || !isSame(applied, target)) {
    const drops = view.names?.some(name => !target.includes(name)) ?? false
    return { kind: 'apply', names: target, drops }
  }
  if (target.every(name => members.includes(name))) return undefined
  const standbys = target.map(name => standbyOf(view, name))
  if (!standbys.every((standby, index) => isSynchronous(standby, index + 1))) return undefined
  if (provedLsn === undefined) return { kind: 'prove' }
  if (!standbys.every(standby => hasFlushed(standby, provedLsn))) return undefined
  return { kind: 'record', members: target, cause: 'it has everything and commits wait for it' }
}

function whyGone(
  name: string,
  rules: SynchronousRules,
  view: SynchronousView,
  state: SynchronousState,
  now: Instant,
): string {
  if (!rules.wanted.includes(name)) return 'the configuration no longer asks for it'
  if (!view.names?.includes(name)) return 'somebody else took it out of synchronous_standby_names'
  return whyOverdue(name, rules, view, state, now) ?? 'it is not in the list any more'
}

// Shorter is a round trip on a busy disk; two looks in a row are still told within a second.
const blockedFromMs = 400

function blockedBy(view: SynchronousView, { waits }: SynchronousState, now: Instant): Decision['blocked'] {
  if (!waits || now.ms - waits.ms < blockedFromMs) return undefined
  const by = laggards(view, waits.lsn)
  return by.length === 0 ? undefined : { since: waits.at, by }
}

function explain(
  rules: SynchronousRules,
  view: SynchronousView,
  state: SynchronousState,
  blocked: Decision['blocked'],
): string {
  if (blocked) {
    const how = blocked.by.map(name => condition(name, view, state)).join(', ')
    return `commits wait for ${inWords(blocked.by)} since ${blocked.since.toISOString()}: ${how}`
  }
  if (rules.wanted.length === 0) return 'commits wait for the local disk only, as configured'
  const out = rules.wanted.filter(name => !state.members.includes(name))
  if (out.length > 0) {
    const how = out.map(name => condition(name, view, state)).join(', ')
    return `not every commit is known to be with ${inWords(out)}: ${how}`
  }
  const gone = rules.wanted.filter(name => state.away[name] !== undefined)
  if (gone.length > 0) return `the next commit waits for ${inWords(gone)}: it is not connected`
  return `every commit waits until ${inWords(rules.wanted)} has it on disk`
}

function condition(name: string, view: SynchronousView, { waits, provedLsn }: SynchronousState): string {
  const standby = standbyOf(view, name)
  if (!standby || !isConnected(standby)) return 'it is not connected'
  const behind = view.lsn - (standby.flushLsn ?? 0n)
  if (standby.state !== 'streaming' && behind > 0n) return `it is catching up and ${behind} bytes behind`
  if (waits && !hasFlushed(standby, waits.lsn)) return `it has not confirmed ${formatLsn(waits.lsn)}`
  if (provedLsn === undefined) return 'it is being taken in'
  return `it has not confirmed ${formatLsn(provedLsn)}`
}

/** Of several connections by one name the one that PostgreSQL counts, else the furthest. */
export function standbyOf(view: SynchronousView, name: string): Standby | undefined {
  return view.standbys
    .filter(standby => standby.name === name)
    .sort((a, b) => rank(b) - rank(a) || Number((b.flushLsn ?? 0n) - (a.flushLsn ?? 0n)))[0]
}

function rank(standby: Standby): number {
  return standby.syncState === 'sync' ? 1 : 0
}

function isConnected(standby: Standby | undefined): boolean {
  return standby?.state === 'streaming' || standby?.state === 'catchup'
}

function hasFlushed(standby: Standby | undefined, lsn: Lsn): boolean {
  return standby?.flushLsn !== undefined && isConnected(standby) && standby.flushLsn >= lsn
}

function followsClosely(standby: Standby | undefined, recentLsn: Lsn | undefined): boolean {
  return standby?.state === 'streaming' && recentLsn !== undefined && hasFlushed(standby, recentLsn)
}

/** Its sender has read the list that is in force, and PostgreSQL counts it. */
function isSynchronous(standby: Standby | undefined, priority: number): boolean {
  return standby?.state === 'streaming' && standby.syncState === 'sync' && standby.priority === priority
}

function isSame(a: readonly string[] | undefined, b: readonly string[]): boolean {
  return a !== undefined && a.length === b.length && a.every((name, index) => name === b[index])
}

function seconds(ms: number): string {
  return `${Math.round(ms / 100) / 10} s`
}
