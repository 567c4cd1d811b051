import { closeSync, fstatSync, lstatSync, openSync, readdirSync, readSync } from 'node:fs'
import { arch, cpus, platform, release, totalmem } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { gzipSync } from 'node:zlib'
import { callControl } from '#lib/control.ts'
import { commonFailure, Failure } from '#lib/errors.ts'
import { type Home, writeDurably } from '#lib/home.ts'
import { tarEnd, tarHeader, tarPadding } from '#postgres/wire/tar-writer.ts'
import { loadSlices, slices } from '../config.ts'
import type { Context } from '../program.ts'
import type { Check } from './check.ts'
import { newRedactor } from './redact.ts'

export interface BundleResult {
  file: string
  bytes: number
  /** Names of what is in it. */
  contents: string[]
}

interface Page {
  name: string
  text: string
}

// The end of each log; what is older seldom tells why something fails now.
const logTailBytes = 256 * 1024
const mostLogs = 40
const mostListed = 2000
const askWithinMs = 2_000

/**
 * Writes what support needs into one tar.gz (0600): findings, what each role says, configuration, versions, modes of
 * files and the ends of the logs. Every page goes through redaction: no secret of the home is in it.
 */
export async function writeSupportBundle(
  context: Context,
  checks: readonly Check[],
  o: { out?: string; now?: Date } = {},
): Promise<BundleResult> {
  const now = o.now ?? new Date()
  const home = context.openHome()
  const { entries } = loadSlices(slices, context)
  const redact = newRedactor(home, entries)
  const pages = [
    { name: 'README.txt', text: readme },
    { name: 'checks.json', text: pretty(checks) },
    { name: 'versions.json', text: pretty(versions(context)) },
    {
      name: 'config.json',
      text: pretty(
        entries.map(({ secret, value, ...rest }) => ({
          ...rest,
          value: secret && value !== undefined ? '********' : value,
        })),
      ),
    },
    { name: 'files.txt', text: listing(home) },
    ...(await rolePages(home)),
    ...logPages(home),
  ].map(page => ({ ...page, text: redact(page.text) }))
  const stamp = now.toISOString().replace(/[-:]|\.\d+/g, '')
  const file = resolve(o.out ?? join(home.root, `moonyetis-support-${stamp}.tar.gz`))
  const bytes = gzipSync(tarOf(pages, `moonyetis-support-${stamp}`, now))
  write(file, bytes)
  return { file, bytes: bytes.length, contents: pages.map(page => page.name) }
}

function write(file: string, bytes: Uint8Array): void {
  try {
    writeDurably(file, bytes, 0o600)
  } catch (cause) {
    // Started as root, this runs as the user of the home, who may not write everywhere.
    const reason = `${file} cannot be written (${(cause as NodeJS.ErrnoException).code}): choose another --out.`
    throw commonFailure('USAGE', { reason }, { cause })
  }
}

const readme = `What \`moonyetis doctor --bundle\` found on this home.

Secrets of the home and of the configuration are masked, as is everything that looks like one. Logs may still name
players' addresses and IP addresses: look through them before you send this to somebody.
`

function versions(context: Context) {
  return {
    program: context.version,
    node: process.version,
    platform: platform(),
    release: release(),
    arch: arch(),
    processors: cpus().length,
    memoryBytes: totalmem(),
    dependencies: process.versions,
  }
}

async function rolePages(home: Home): Promise<Page[]> {
  const roles = ['up', 'supervise', 'serve', 'archive']
  return Promise.all(
    roles.map(async role => ({ name: `roles/${role}.json`, text: pretty(await statusOf(home, role)) })),
  )
}

async function statusOf(home: Home, role: string): Promise<unknown> {
  try {
    return await callControl({ path: home.socket(role), route: '/status', timeoutMs: askWithinMs })
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return { error: { code: error.code, message: error.message } }
  }
}

/** Mode, owner, size and name of what lies in the home; of large directories only that they are there. */
function listing(home: Home): string {
  const lines: string[] = []
  const visit = (path: string, depth: number) => {
    if (lines.length >= mostListed) return
    const stats = lstatSync(path, { throwIfNoEntry: false })
    if (!stats) return
    const mode = (stats.mode & 0o7777).toString(8).padStart(4, '0')
    lines.push(
      `${mode} ${stats.uid}:${stats.gid} ${String(stats.size).padStart(12)} ${relative(home.root, path) || '.'}`,
    )
    if (!stats.isDirectory() || depth === deepest) return
    for (const name of namesIn(path)) visit(join(path, name), depth + 1)
  }
  visit(home.root, 0)
  return `${lines.join('\n')}\n`
}

const deepest = 2

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).sort()
  } catch {
    // Somebody else's, or gone by now: the listing says as much as it may.
    return []
  }
}

function logPages(home: Home): Page[] {
  const files = [
    home.logs,
    join(home.logs, 'backups'),
    join(home.logs, 'postgres'),
    join(home.logs, 'monitoring'),
  ]
    .flatMap(directory => namesIn(directory).map(name => join(directory, name)))
    .map(path => ({ path, stats: lstatSync(path, { throwIfNoEntry: false }) }))
    .filter(one => one.stats?.isFile())
    .sort((a, b) => (b.stats?.mtimeMs ?? 0) - (a.stats?.mtimeMs ?? 0))
  return files
    .slice(0, mostLogs)
    .map(({ path }) => ({ name: `logs/${relative(home.logs, path)}`, text: tailOf(path) }))
}

/** Whole lines: half a secret would not be found as one. */
function tailOf(path: string): string {
  const fd = openSync(path, 'r')
  try {
    const { size } = fstatSync(fd)
    const from = Math.max(0, size - logTailBytes)
    const bytes = Buffer.alloc(size - from)
    const text = bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, from)).toString('utf8')
    return from === 0 ? text : text.slice(text.indexOf('\n') + 1)
  } catch (error) {
    return `cannot be read: ${(error as Error).message}\n`
  } finally {
    closeSync(fd)
  }
}

function tarOf(pages: readonly Page[], directory: string, now: Date): Buffer {
  const common = { mode: 0o600, uid: 0, gid: 0, modifiedAt: now.getTime() / 1000 }
  const parts = pages.flatMap(({ name, text }) => {
    const content = Buffer.from(text)
    const header = tarHeader({ ...common, path: `${directory}/${name}`, type: 'file', bytes: content.length })
    return [header, content, tarPadding(content.length)]
  })
  return Buffer.concat([...parts, tarEnd])
}

function pretty(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}
