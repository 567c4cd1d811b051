import assert from 'node:assert/strict'
import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { referenceDirectory, renderReference } from '../tools/reference.ts'

const root = join(import.meta.dirname, '..')

/** Names that `pattern` captures in the sources that `files` matches. */
function namesIn(files: string, pattern: RegExp): string[] {
  return globSync(files, { cwd: root })
    .filter(file => !file.endsWith('.test.ts'))
    .flatMap(file =>
      [...readFileSync(join(root, file), 'utf8').matchAll(pattern)].map(([, name]) => name as string),
    )
}

describe('docs/reference', () => {
  test('the committed pages are what the program says today', async () => {
    const pages = await renderReference()
    assert.deepEqual(readdirSync(referenceDirectory).sort(), Object.keys(pages).sort())
    for (const [name, text] of Object.entries(pages)) {
      const committed = readFileSync(join(referenceDirectory, name), 'utf8')
      assert.equal(committed, text, `docs/reference/${name} is out of date: run npm run docs`)
    }
  })

  const complete: Array<[what: string, page: string, files: string, pattern: RegExp, least: number]> = [
    ['error row', 'errors.md', 'src/**/errors.ts', /^ {2,4}([A-Z][A-Z_]+): \{/gm, 50],
    ['metric', 'metrics.md', 'src/**/*.ts', /name: '(moonyetis_[a-z_]+)'/g, 15],
    ['config slice', 'config.md', 'src/**/*.ts', /= defineSlice\(\{\s*name: '(\w+)'/g, 5],
    ['verb', 'cli.md', 'src/**/*.ts', /^ {4,6}name: '([a-z ]+)',\n\s+summary:/gm, 10],
    ['route', 'http.md', 'src/**/routes.ts', /app\.(?:get|post|delete)\(\s*'([^':]+)/g, 10],
  ]
  for (const [what, page, files, pattern, least] of complete) {
    test(`no ${what} of the source is missing`, async () => {
      const text = (await renderReference())[page] as string
      const names = namesIn(files, pattern)
      assert(
        names.length >= least,
        `only ${names.length} were found: the pattern of this test is out of date`,
      )
      assert.deepEqual(
        names.filter(name => !text.includes(name)),
        [],
      )
    })
  }
})

test('every link from one document to another leads somewhere', () => {
  const documents = globSync(['*.md', 'docs/**/*.md', 'src/**/README.md'], { cwd: root })
  const links = documents.flatMap(document =>
    [...readFileSync(join(root, document), 'utf8').matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(([, to]) => ({
      document,
      to: join(dirname(document), to as string),
    })),
  )
  assert(links.length > 30, 'the pattern of this test is out of date')
  assert.deepEqual(
    links.filter(({ to }) => !existsSync(join(root, to))),
    [],
  )
})
