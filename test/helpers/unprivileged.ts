import { chmodSync, chownSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { embeddedDirectory } from '#postgres/server/binaries.ts'
import type { RunAs } from '#postgres/server/data-directory.ts'
import { chooseAccount } from '#roles/unprivileged/account.ts'
import { placeProgram } from '#roles/unprivileged/placement.ts'

export interface TestProgram {
  /** The clone, or the copy of it that the unprivileged user can read. */
  programRoot: string
  /** Directory of postgres and initdb. */
  postgresBin: string
  /** Whom PostgreSQL must run as when the tests run as root; undefined otherwise. */
  runAs: RunAs | undefined
}

const clone = join(import.meta.dirname, '..', '..')
let program: TestProgram | undefined

/** What tests need to start PostgreSQL, whoever runs them and wherever the clone lies. */
export function testProgram(): TestProgram {
  program ??=
    process.geteuid?.() === 0
      ? programForRoot()
      : { programRoot: clone, postgresBin: embeddedDirectory(clone), runAs: undefined }
  return program
}

/** A new directory with a short path that PostgreSQL may write in; removed after the test. */
export function testDirectory(t: Pick<TestContext, 'after'>): string {
  const directory = mkdtempSync(join(tmpdir(), 'my-'))
  chmodSync(directory, 0o755)
  const { runAs } = testProgram()
  if (runAs) chownSync(directory, runAs.uid, runAs.gid)
  cleanUp(t, () => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }))
  return directory
}

const stacks = new WeakMap<object, (() => unknown)[]>()

/** Like t.after, but the last one given runs first: a server stops before its directory goes. */
export function cleanUp(t: Pick<TestContext, 'after'>, work: () => unknown): void {
  const known = stacks.get(t)
  if (known) {
    known.push(work)
    return
  }
  const stack = [work]
  stacks.set(t, stack)
  t.after(async () => {
    for (const one of stack.toReversed()) await one()
  })
}

function programForRoot(): TestProgram {
  // As for a home that is not there yet.
  const account = chooseAccount('/nonexistent')
  const { programRoot } = placeProgram({ account, clone, node: process.execPath })
  return {
    programRoot,
    postgresBin: embeddedDirectory(programRoot),
    runAs: { uid: account.uid, gid: account.gid },
  }
}
