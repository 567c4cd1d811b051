import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { type Module, wrongArrows } from './helpers/arrows.ts'
import { importsOf } from './helpers/imports.ts'

const root = join(import.meta.dirname, '..')
const { imports: aliases } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

function readProgram(): Module[] {
  return globSync('src/**/*.ts', { cwd: root }).map(path => ({
    path: path.replaceAll('\\', '/'),
    source: readFileSync(join(root, path), 'utf8'),
  }))
}

/** Modules of an imagined program: `{ 'src/lib/a.ts': ['#http/b.ts'] }`. */
function imagined(files: Record<string, string[]>): Module[] {
  return Object.entries(files).map(([path, specifiers]) => ({
    path,
    source: specifiers.map(specifier => `import '${specifier}'`).join('\n'),
  }))
}

describe('arrows', () => {
  test('every import of the program follows the arrows of docs/architecture.md, without a cycle', () => {
    const modules = readProgram()
    assert(modules.length > 100, 'the program was not found')
    assert.deepEqual(wrongArrows(modules, aliases), [])
  })

  const wrong: Array<[name: string, files: Record<string, string[]>, fault: RegExp]> = [
    [
      'an arrow to the left',
      { 'src/lib/a.ts': ['#http/b.ts'], 'src/http/b.ts': [] },
      /^src\/lib\/a\.ts: lib may not import http/,
    ],
    [
      'an arrow between pillars',
      { 'src/identity/a.ts': ['#audit/b.ts'], 'src/audit/b.ts': [] },
      /identity may not import audit/,
    ],
    [
      'the step from game to ledger taken backwards',
      { 'src/ledger/a.ts': ['#game/b.ts'], 'src/game/b.ts': [] },
      /ledger may not import game/,
    ],
    [
      'the chain of the simulated mode asking the wallet',
      { 'src/simulator/a.ts': ['../wallet/b.ts'], 'src/wallet/b.ts': [] },
      /simulator may not import wallet/,
    ],
    [
      'a room that asks for a role',
      { 'src/postgres/a.ts': ['#roles/b.ts'], 'src/roles/b.ts': [] },
      /postgres may not import roles/,
    ],
    [
      'a role that asks for main',
      { 'src/roles/a.ts': ['../main.ts'], 'src/main.ts': [] },
      /roles may not import main/,
    ],
    [
      'a room that nobody planned',
      { 'src/casino/a.ts': ['#lib/b.ts'], 'src/lib/b.ts': [] },
      /not in the plan/,
    ],
    [
      'a test helper in the program',
      { 'src/lib/a.ts': ['#test/b.ts'] },
      /does not import test\/helpers\/b\.ts/,
    ],
    ['a tool in the program', { 'src/roles/a.ts': ['../../tools/test.ts'] }, /does not import tools/],
    [
      "a room's test server in the program",
      { 'src/http/a.ts': ['./testing.ts'], 'src/http/testing.ts': [] },
      /is for tests/,
    ],
    ['a file that is not there', { 'src/lib/a.ts': ['./b.ts'] }, /src\/lib\/b\.ts does not exist/],
    [
      'the supervisor reaching the game through a room it may ask',
      {
        'src/roles/supervise.ts': ['./config.ts'],
        'src/roles/config.ts': ['#game/b.ts'],
        'src/game/b.ts': [],
      },
      /^src\/roles\/supervise\.ts: it reaches src\/game\/b\.ts/,
    ],
    [
      'a cycle',
      { 'src/lib/a.ts': ['./b.ts'], 'src/lib/b.ts': ['./c.ts'], 'src/lib/c.ts': ['./a.ts'] },
      /^cycle: src\/lib\/a\.ts -> src\/lib\/b\.ts -> src\/lib\/c\.ts -> src\/lib\/a\.ts$/,
    ],
  ]
  for (const [name, files, fault] of wrong) {
    test(`${name} is caught`, () => {
      const faults = wrongArrows(imagined(files), aliases)
      assert(
        faults.some(one => fault.test(one)),
        `expected ${fault}, found ${faults.join('; ') || 'nothing'}`,
      )
    })
  }

  test('an arrow counts whether it is a type, a re-export or loaded later', () => {
    const sources = [
      "import type { B } from '#http/b.ts'",
      "export { b } from '#http/b.ts'",
      "const b = () => import('#http/b.ts')",
      "type B = import('#http/b.ts').B",
    ]
    for (const source of sources) {
      const modules = [{ path: 'src/lib/a.ts', source }, ...imagined({ 'src/http/b.ts': [] })]
      assert.equal(wrongArrows(modules, aliases).length, 1, source)
    }
  })

  test('game may ask ledger, and a test beside the code may use a test helper', () => {
    const modules = imagined({
      'src/game/a.ts': ['#ledger/b.ts', '#lib/c.ts', 'node:fs', 'pg'],
      'src/game/a.test.ts': ['./a.ts', '#test/draws.ts'],
      'src/ledger/b.ts': ['#postgres/d.ts'],
      'src/postgres/d.ts': [],
      'src/lib/c.ts': [],
    })
    assert.deepEqual(wrongArrows(modules, aliases), [])
  })
})

describe('reading imports', () => {
  const specifiers = (source: string) => importsOf(source).map(one => one.specifier)

  test('every form of import and export is read, over several lines too', () => {
    const source = `import a from './a.ts'
import * as b from "./b.ts"
import {
  c,
  type C,
} from './c.ts'
import './d.ts'
export * from './e.ts'
export { f as default } from './f.ts'
import type { G } from './g.ts'
export type { H } from './h.ts'
import type from './i.ts'
const j = await import('./j.ts')
type K = import('./k.ts').K`
    assert.deepEqual(
      importsOf(source).map(({ specifier, typeOnly, dynamic }) => [specifier.at(2), typeOnly, dynamic]),
      [
        ...['a', 'b', 'c', 'd', 'e', 'f'].map(name => [name, false, false]),
        ['g', true, false],
        ['h', true, false],
        ['i', false, false],
        ['j', false, true],
        ['k', false, true],
      ],
    )
  })

  test('comments, strings, templates and regular expressions that look like imports are not', () => {
    const source = [
      "// import a from './a.ts'",
      "/* export * from './b.ts' */",
      'const c = "import c from \'./c.ts\'"',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the text that is read holds a template
      "const d = `import d from './d.ts' ${1 + `${{ e: 2 }.e} import('./e.ts')`.length}`",
      "const f = /import '.\\/f.ts'/.test('x') ? 8 / 2 / 1 : 0",
      "const g = { import: 1 }.import; const from = './g.ts'",
      'export const h = 1',
      "export default './i.ts'",
      "import z from './z.ts'",
    ].join('\n')
    assert.deepEqual(specifiers(source), ['./z.ts'])
  })

  test('an import inside the expression of a template is read', () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the text that is read holds a template
    assert.deepEqual(specifiers("const a = `${await import('./a.ts')} and ${b}`"), ['./a.ts'])
  })

  test('an import of a computed name is refused, since nobody could check its arrow', () => {
    assert.throws(() => importsOf('await import(name)'), /no plain string/)
    assert.throws(() => importsOf("await import('./a' + name)"), /no plain string/)
  })
})
