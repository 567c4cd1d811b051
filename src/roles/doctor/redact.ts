import { readFileSync } from 'node:fs'
import type { ConfigEntry } from '#lib/config.ts'
import type { Home } from '#lib/home.ts'
import { dataKeyFilesOf, keyFilesOf } from './key-files.ts'

const mask = '[redacted]'
// Shorter values would mask words; every secret that this program makes is longer.
const shortestSecret = 6

/**
 * A function that masks what may not leave this machine: every secret value of the home and of the configuration, and
 * everything that looks like a token, a key, a password or a sealed seed, whoever's it is.
 */
export function newRedactor(home: Home, entries: readonly ConfigEntry[]): (text: string) => string {
  const values = [...secretValuesOf(home), ...configSecrets(entries)]
  const known = [...new Set(values)]
    .filter(value => value.length >= shortestSecret)
    .sort((a, b) => b.length - a.length)
  const exact = known.length > 0 ? new RegExp(known.map(RegExp.escape).join('|'), 'g') : undefined
  return text => {
    let redacted = exact ? text.replace(exact, mask) : text
    for (const [pattern, replacement] of patterns) redacted = redacted.replace(pattern, replacement)
    return redacted
  }
}

/** Every value in the files that hold keys: whole, by line, and data keys as text would have them. */
export function secretValuesOf(home: Home): string[] {
  const dataKeys = new Set(dataKeyFilesOf(home))
  return keyFilesOf(home).flatMap(path => {
    const bytes = readFileSync(path)
    if (dataKeys.has(path))
      return [bytes.toString('hex'), bytes.toString('base64'), bytes.toString('base64url')]
    const text = bytes.toString('utf8').trim()
    const lines = text.split(/\r?\n/).map(line => line.trim())
    // A log line holds a PEM block with its line breaks escaped.
    return [text, text.replaceAll('\n', '\\n'), ...lines].filter(
      value => !/^(#|-----)/.test(value) || value === text,
    )
  })
}

function configSecrets(entries: readonly ConfigEntry[]): string[] {
  return entries.flatMap(entry => {
    if (!entry.secret || typeof entry.value !== 'string') return []
    // Of an address, its password counts alone too.
    const password = /^\w+:\/\/[^/@]*:([^/@]+)@/.exec(entry.value)?.[1]
    return [entry.value, ...(password ? [password, decodeURIComponent(password)] : [])]
  })
}

const patterns: readonly [RegExp, string][] = [
  [/\bmy[pos]_[A-Za-z0-9_-]{20,}/g, mask],
  [/AGE-SECRET-KEY-[0-9A-Z]+/gi, mask],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----/g, mask],
  [/(\w+:\/\/[^/\s:@]*:)[^/\s@]+@/g, `$1${mask}@`],
  [/\b(Bearer|Basic) +[A-Za-z0-9._~+/=-]{8,}/gi, `$1 ${mask}`],
  // name=value, name: value and "name":"value", as logs and statements have them.
  [
    /((?:password|passphrase|secret|token|cookie|authorization|serverSeed|server_seed|sealed_?seed)["']?\s*[:=]\s*)("(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;}]+)/gi,
    `$1"${mask}"`,
  ],
]
