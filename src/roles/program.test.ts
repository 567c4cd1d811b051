import assert from 'node:assert/strict'
import { test } from 'node:test'
import { commonFailure } from '#lib/errors.ts'
import { verbs } from './commands.ts'
import { type AddVerb, homeOf, runProgram, type Verb } from './program.ts'

/** Runs a command line with one verb `do` and its group twin `group do`. */
async function runLine(args: string[], run: Verb = async () => {}) {
  let stdout = ''
  let stderr = ''
  const description = { summary: 'do it', examples: ['npx moonyetis do'], run }
  const exit = await runProgram({
    args,
    env: { MOONYETIS_HOME: '/srv/home' },
    stdout: text => {
      stdout += text
    },
    stderr: text => {
      stderr += text
    },
    addVerbs: [add => add({ name: 'do', ...description }), add => add({ name: 'group do', ...description })],
  })
  return { exit, stdout, stderr }
}

test('a verb gets its home and its answer becomes the exit number', async () => {
  const result = await runLine(['do', '--home', '/elsewhere'], async context => {
    context.print(context.homeRoot)
    return 1
  })
  assert.deepEqual(result, { exit: 1, stdout: '/elsewhere\n', stderr: '' })
})

test('a failure becomes text with its hint, or one JSON document, and the exit number of its row', async () => {
  const refuse: Verb = async () => {
    throw commonFailure('REFUSED', { reason: 'not now' })
  }
  assert.deepEqual(await runLine(['do'], refuse), { exit: 3, stdout: '', stderr: 'error: not now\n' })
  const json = await runLine(['group', 'do', '--json'], refuse)
  assert.deepEqual(JSON.parse(json.stderr), { error: { code: 'REFUSED', message: 'not now' } })
})

test('wrong usage exits 2 and names what was wrong', async () => {
  for (const [args, wrong] of [
    [['dance'], /dance/],
    [['do', '--fast'], /--fast/],
    [['do', 'now'], /too many arguments/],
    [['group'], /verb is missing/],
    [[], /verb is missing/],
  ] as const) {
    const { exit, stderr } = await runLine([...args])
    assert.equal(exit, 2, args.join(' '))
    assert.match(stderr, wrong)
  }
})

test('a fault of the program shows where it is', async () => {
  const { exit, stderr } = await runLine(['do'], async () => {
    throw new TypeError('undefined is not a function')
  })
  assert.equal(exit, 1)
  assert.match(stderr, /Something failed inside: undefined is not a function/)
  assert.match(stderr, /program\.test\.ts/)
})

test('every verb has --json, --home, a summary and examples', async () => {
  const names: string[] = []
  const collect: AddVerb = description => names.push(description.name)
  for (const add of verbs) add(collect)
  for (const name of names) {
    let help = ''
    const exit = await runProgram({
      args: [...name.split(' '), '--help'],
      env: {},
      stdout: text => {
        help += text
      },
      stderr: () => {},
      addVerbs: verbs,
    })
    assert.equal(exit, 0, name)
    for (const part of ['--json', '--home', 'Examples:', 'moonyetis'])
      assert.ok(help.includes(part), `${name}: ${part}`)
  }
})

test('the home is what was given, else the environment, else beside the program', () => {
  assert.deepEqual(homeOf('/a', { MOONYETIS_HOME: '/b' }), { homeRoot: '/a', homeIsDefault: false })
  assert.deepEqual(homeOf(undefined, { MOONYETIS_HOME: '/b' }), { homeRoot: '/b', homeIsDefault: false })
  const { homeRoot, homeIsDefault } = homeOf(undefined, {})
  assert.ok(homeRoot.endsWith('.moonyetis') && homeIsDefault)
})
