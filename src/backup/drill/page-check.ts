import { type Dirent, existsSync, readdirSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { hasSoundChecksum, pageBytes } from './page-checksum.ts'

export interface PageCheck {
  pages: number
  files: number
  /** `base/5/1259 block 17`, the first few. */
  damaged: string[]
}

// A relation's file is cut every gigabyte (RELSEG_SIZE).
const pagesPerFile = 131_072
const readBytes = 128 * pageBytes
const mostExamples = 5
// `1259`, `1259.1`, `1259_vm`, `1259_fsm.2`, `1259_init`; pg_filenode.map and the like have no pages.
const relationFile = /^\d+(?:_(?:vm|fsm|init))?(?:\.(\d+))?$/

/** Reads every page of every relation of a stopped server and compares its checksum. */
export async function checkPages(dataDirectory: string, signal?: AbortSignal): Promise<PageCheck> {
  const found: PageCheck = { pages: 0, files: 0, damaged: [] }
  for (const path of relationFiles(dataDirectory)) {
    signal?.throwIfAborted()
    await checkFile(dataDirectory, path, found)
    found.files++
  }
  return found
}

async function checkFile(dataDirectory: string, path: string, found: PageCheck): Promise<void> {
  const part = Number(relationFile.exec(path.slice(path.lastIndexOf('/') + 1))?.[1] ?? 0)
  const file = await open(join(dataDirectory, path), 'r')
  const buffer = Buffer.alloc(readBytes)
  try {
    for (let at = 0; ; ) {
      const { bytesRead } = await file.read(buffer, 0, readBytes, at)
      if (bytesRead === 0) return
      for (let offset = 0; offset < bytesRead; offset += pageBytes) {
        const block = part * pagesPerFile + (at + offset) / pageBytes
        const isWhole = offset + pageBytes <= bytesRead
        const sound = isWhole && hasSoundChecksum(buffer.subarray(offset, offset + pageBytes), block)
        found.pages++
        if (!sound && found.damaged.length < mostExamples) found.damaged.push(`${path} block ${block}`)
      }
      at += bytesRead
    }
  } finally {
    await file.close()
  }
}

function* relationFiles(dataDirectory: string): Generator<string> {
  yield* filesIn(dataDirectory, 'global')
  for (const database of directoriesIn(dataDirectory, 'base')) yield* filesIn(dataDirectory, database)
  for (const tablespace of directoriesIn(dataDirectory, 'pg_tblspc'))
    for (const version of directoriesIn(dataDirectory, tablespace))
      for (const database of directoriesIn(dataDirectory, version)) yield* filesIn(dataDirectory, database)
}

function* filesIn(root: string, directory: string): Generator<string> {
  for (const { name } of entriesOf(root, directory)) if (relationFile.test(name)) yield `${directory}/${name}`
}

function directoriesIn(root: string, directory: string): string[] {
  // The links of tablespaces lead to directories.
  const inside = entriesOf(root, directory).filter(entry => entry.isDirectory() || entry.isSymbolicLink())
  return inside.map(entry => `${directory}/${entry.name}`)
}

function entriesOf(root: string, directory: string): Dirent[] {
  const path = join(root, directory)
  return existsSync(path) ? readdirSync(path, { withFileTypes: true }) : []
}
