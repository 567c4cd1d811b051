import { isUtf8 } from 'node:buffer'
import { commonFailure } from '#lib/errors.ts'

/**
 * JSON (RFC 8259) from a stranger. On top of the grammar it refuses what JSON.parse lets through in silence: duplicate
 * keys (the last would win), `__proto__` and `constructor` keys, integers that a double cannot hold, text that
 * PostgreSQL cannot store (NUL, half of a surrogate pair), nesting beyond reason and bytes that are not UTF-8.
 * Throws BAD_REQUEST or VALIDATION; an error never repeats the body.
 */
export function parseJson(bytes: Buffer): unknown {
  if (!isUtf8(bytes)) throw commonFailure('BAD_REQUEST', { reason: 'The body is not UTF-8.' })
  const text = bytes.toString('utf8')
  const value = parseGrammar(text)
  const fault = findFault(text)
  if (fault) throw invalidField(fault)
  // Only an escape can bring NUL or half a surrogate pair through the grammar and the UTF-8 check.
  if (text.includes('\\u')) {
    const field = findBadText(value, '')
    if (field !== undefined)
      throw invalidField({ field, message: 'must not hold NUL or half of a surrogate pair' })
  }
  return value
}

export interface JsonFault {
  /** Dotted path such as `bets.0.stake`; empty for the whole body. */
  field: string
  message: string
}

const deepest = 32
const doubleQuote = 0x22
const comma = 0x2c
const minus = 0x2d
const openBracket = 0x5b
const backslash = 0x5c
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d

/**
 * One pass over text that JSON.parse has accepted, so the grammar need not be checked again: inside an object, the
 * string after `{` or `,` is a key.
 */
export function findFault(text: string): JsonFault | undefined {
  const frames: Frame[] = []
  let frame: Frame | undefined
  let expectsKey = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === doubleQuote) {
      const end = endOfString(text, i)
      if (expectsKey && frame) {
        const key = decodeKey(text.slice(i + 1, end))
        const message = frame.refuse(key)
        if (message !== undefined) return { field: fieldPath(frames, key), message }
        expectsKey = false
      }
      i = end
    } else if (code === openBrace || code === openBracket) {
      if (frames.length === deepest)
        return { field: fieldPath(frames), message: `is nested more than ${deepest} deep` }
      frame = new Frame(code === openBrace)
      frames.push(frame)
      expectsKey = frame.isObject
    } else if (code === closeBrace || code === closeBracket) {
      frames.pop()
      frame = frames[frames.length - 1]
      expectsKey = false
    } else if (code === comma) {
      expectsKey = frame?.isObject === true
      if (frame && !frame.isObject) frame.index++
    } else if (code === minus || (code >= 0x30 && code <= 0x39)) {
      const end = endOfNumber(text, i)
      if (isUnsafe(text, i, end))
        return { field: fieldPath(frames), message: 'must be within -(2^53-1) and 2^53-1' }
      i = end - 1
    }
  }
  return undefined
}

// Up to this many keys a scan of the list is faster than a set; beyond, a set keeps thousands of keys linear.
const listedKeys = 8

class Frame {
  readonly isObject: boolean
  index = 0
  key = ''
  #keys: string[] | undefined
  #set: Set<string> | undefined

  constructor(isObject: boolean) {
    this.isObject = isObject
  }

  /** Notes the key; the message when it must be refused. */
  refuse(key: string): string | undefined {
    if (key === '__proto__' || key === 'constructor') return 'is not allowed as a name'
    this.key = key
    if (this.#keys === undefined) this.#keys = [key]
    else if (this.#set ? this.#set.has(key) : this.#keys.includes(key)) return 'is given twice'
    else if (this.#set) this.#set.add(key)
    else if (this.#keys.push(key) > listedKeys) this.#set = new Set(this.#keys)
    return undefined
  }
}

function parseGrammar(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    const place = /line \d+ column \d+/.exec((error as Error).message)?.[0]
    const where = place === undefined ? '' : ` (${place})`
    throw commonFailure('BAD_REQUEST', { reason: `The body is not valid JSON${where}.` })
  }
}

function invalidField(fault: JsonFault) {
  const subject = fault.field === '' ? 'it' : fault.field
  return commonFailure('VALIDATION', {
    reason: `The body is not valid: ${subject} ${fault.message}.`,
    errors: [fault],
  })
}

/** Index of the closing quote: the next one with an even run of backslashes before it. */
function endOfString(text: string, start: number): number {
  let end = text.indexOf('"', start + 1)
  for (;;) {
    let backslashes = 0
    while (text.charCodeAt(end - 1 - backslashes) === backslash) backslashes++
    if (backslashes % 2 === 0) return end
    end = text.indexOf('"', end + 1)
  }
}

function endOfNumber(text: string, start: number): number {
  let end = start + 1
  while (end < text.length && isNumberPart(text.charCodeAt(end))) end++
  return end
}

// Digits, plus, minus, point, E and e.
function isNumberPart(code: number): boolean {
  return (
    (code >= 0x30 && code <= 0x39) ||
    code === 0x2b ||
    code === minus ||
    code === 0x2e ||
    (code | 0x20) === 0x65
  )
}

function isUnsafe(text: string, start: number, end: number): boolean {
  // Fifteen digits always fit; only an exponent makes a shorter token large.
  if (end - start <= 15 && !/[eE]/.test(text.slice(start, end))) return false
  const value = Number(text.slice(start, end))
  return !Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value))
}

function decodeKey(raw: string): string {
  return raw.includes('\\') ? (JSON.parse(`"${raw}"`) as string) : raw
}

const longestField = 100

function fieldPath(frames: readonly Frame[], lastKey?: string): string {
  const steps = frames.map(frame => (frame.isObject ? frame.key : String(frame.index)))
  if (lastKey !== undefined) steps[steps.length - 1] = lastKey
  return steps.join('.').slice(0, longestField)
}

function findBadText(value: unknown, field: string): string | undefined {
  if (typeof value === 'string') return isBadText(value) ? field : undefined
  if (typeof value !== 'object' || value === null) return undefined
  for (const [key, inner] of Object.entries(value)) {
    const innerField = (field === '' ? key : `${field}.${key}`).slice(0, longestField).toWellFormed()
    const found = isBadText(key) ? innerField : findBadText(inner, innerField)
    if (found !== undefined) return found
  }
  return undefined
}

export function isBadText(text: string): boolean {
  return text.includes('\u0000') || !text.isWellFormed()
}
