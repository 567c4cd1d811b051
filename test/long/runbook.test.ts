import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, cpSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { findBinaries } from '#postgres/server/binaries.ts'
import { cleanEnvironment } from '#test/system/launch.ts'
import { isRoot, nobody, programRoot, until } from '#test/system/program.ts'
import { blocksOf, Rehearsal, roundsIn } from '#test/system/runbook.ts'
import { killEverything } from '#test/system/verbs.ts'

const isThere = (command: string) => spawnSync(command, ['--version']).error === undefined
const missing = ['age', 'script'].find(command => !isThere(command))
const withoutTools = missing !== undefined && `needs ${missing}: apt-get install age bsdutils`

test('the restore runbook brings back a moment, a lost machine, and a database without the program', async suite => {
  const rehearsal = await Rehearsal.of(suite, 'restore.md')
  const { program, place } = rehearsal
  const disk = join(place, 'disk')

  await suite.test('a database of a moment can be looked at beside the game', async t => {
    await rehearsal.type(t, ['c'])
    const before = `${program.home}.before`
    const env = { ...program.environment(), MOONYETIS_HOME: before }
    const supervise = program.launch(['supervise'], { env })
    t.after(async () => void supervise.signal('SIGTERM'))
    await supervise.line(/PostgreSQL started/)
    const shell = { ...program.environment(), H: before.replace(/\.before$/, '') }
    const text = await rehearsal.type(t, ['c-look'], { env: shell })
    assert.equal(roundsIn(text), 2, 'the third spin was after the moment')
    supervise.signal('SIGTERM')
    assert.equal((await supervise.exit()).code, 0)
  })

  await suite.test('a lost machine comes back from a disk and the kit', async t => {
    await killEverything(program)
    execFileSync('cp', ['-a', join(program.home, 'backups'), disk])
    renameSync(program.home, join(place, 'burnt'))
    const passphrase = join(place, 'passphrase.txt')
    writeFileSync(passphrase, rehearsal.passphrase.toLowerCase().replaceAll('-', ' '))
    const { MOONYETIS_HOME: _, ...env } = program.environment()
    const text = await rehearsal.type(t, ['b'], {
      defaultHome: join(place, 'clone', '.moonyetis'),
      env: cleanEnvironment({ ...env, MOONYETIS_BACKUP__PASSPHRASE_FILE: passphrase }),
      replace: { '/mnt/disk/backups': disk, '/srv/moonyetis': program.home },
    })
    assert.match(text, /recovery is finished: play goes on/)
    const { client, token } = rehearsal
    assert.equal((await client.send({ method: 'GET', path: '/readyz' })).status, 200)
    assert.equal((await client.json('/api/auth/session', { token })).status, 401, 'players sign in again')
    await killEverything(program)
  })

  await suite.test('age, one script and PostgreSQL open it all', { skip: withoutTools }, async t => {
    const copy = join(place, 'copy')
    cpSync(disk, copy, { recursive: true })
    copyFileSync(join(programRoot, 'docs', 'open-backup.mjs'), join(copy, 'open-backup.mjs'))
    const commands = join(copy, 'commands.sh')
    writeFileSync(commands, blocksOf('restore.md').find(one => one.name === 'e')?.commands ?? 'exit 1')
    // age asks on the terminal only, so it gets one.
    const typed = spawnSync('script', ['-qec', `bash -eu ${commands}`, '/dev/null'], {
      cwd: copy,
      input: `${rehearsal.passphrase}\n`,
      encoding: 'utf8',
    })
    assert.equal(typed.status, 0, typed.stdout)
    if (isRoot) execFileSync('chown', ['-R', `${nobody.uid}:${nobody.gid}`, copy])
    const control = (...args: string[]) =>
      spawnSync(join(findBinaries({ programRoot }).directory, 'pg_ctl'), ['-D', 'open/data', '-w', ...args], {
        cwd: copy,
        // The server keeps what it inherits.
        stdio: 'ignore',
        ...(isRoot ? nobody : {}),
      })
    const started = control('-l', 'open/log', 'start')
    t.after(() => void control('-m', 'immediate', 'stop'))
    const log = () => readFileSync(join(copy, 'open', 'log'), 'utf8')
    assert.equal(started.status, 0, log())
    await until('it takes writes', () => /ready to accept connections/.test(log()), 30_000)
    assert.match(log(), /last completed transaction was at log time/)
  })
})
