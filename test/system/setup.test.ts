import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { recoveryFrom } from '#backup/keys/identities.ts'
import { openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { secretValuesOf } from '#roles/doctor/redact.ts'
import { openStorage } from '#storage/open.ts'
import { Client } from '#test/system/client.ts'
import { type Program, prepareMoonYetis, startMoonYetis } from '#test/system/program.ts'

interface SetupDocument {
  made: string[]
  kit: { passphrase: string; recipient: string; fingerprint: string; text: { en: string; es: string } } | null
  kitExists?: { fingerprint: string; mend: string }
  checks: { name: string; ok: boolean; seen: string }[]
  ok: boolean
}

async function verb(program: Program, ...args: string[]) {
  const launch = program.launch(args)
  const { code } = await launch.exit()
  return { code, out: launch.out.join('\n'), err: launch.err.join('\n') }
}

async function setUp(program: Program, ...args: string[]): Promise<SetupDocument> {
  const { code, out, err } = await verb(program, 'setup', '--json', ...args)
  assert.equal(code, 0, out + err)
  return JSON.parse(out) as SetupDocument
}

test('setup shows the recovery kit once, and what it shows opens the recovery identity', async t => {
  const program = await prepareMoonYetis(t)
  const first = await setUp(program)
  assert.ok(first.kit)
  assert.ok(first.made.includes('recovery kit') && first.made.includes('config.json'))
  const { passphrase, recipient, fingerprint, text } = first.kit
  assert.ok(text.en.includes(passphrase) && text.es.includes(passphrase))
  assert.match(text.es, /Imprímelo/)

  const again = await setUp(program)
  assert.deepEqual([again.kit, again.made, again.kitExists?.fingerprint], [null, [], fingerprint])
  assert.match(again.kitExists?.mend ?? '', /setup --new-kit/)
  const spoken = await verb(program, 'setup')
  assert.match(spoken.out, /was shown when it was made, and cannot be again/)
  assert.ok(!spoken.out.includes(passphrase))

  const storage = await openStorage({
    url: pathToFileURL(join(program.home, 'backups')).href,
    log: silentLog,
  })
  const opened = await recoveryFrom({ storage, passphrase: passphrase.toLowerCase() })
  const kept = readFileSync(join(program.home, '.secrets', 'backup_identity'), 'utf8')
  assert.ok(kept.includes(opened.identities[0] as string))
  assert.ok(readFileSync(join(program.home, '.secrets', 'backup_recipient'), 'utf8').includes(recipient))

  const anew = await setUp(program, '--new-kit')
  assert.ok(anew.kit && anew.kit.passphrase !== passphrase)
  await assert.rejects(recoveryFrom({ storage, passphrase }), { code: 'BACKUP_PASSPHRASE_WRONG' })
})

test('on mainnet nothing starts before the kit is made, and the key it makes is not on this machine', async t => {
  const env = { MOONYETIS_CHAIN: 'mainnet', PUBLIC_URL: 'https://play.example' }
  const program = await prepareMoonYetis(t, { env })
  const refused = await verb(program, 'up')
  assert.deepEqual([refused.code, refused.out], [3, ''])
  assert.match(refused.err, /There is no recovery key yet.*\nhint: Run `moonyetis setup`/)
  const sick = await verb(program, 'doctor')
  assert.match(sick.out, /FAIL recovery +there is no recovery key/)

  const { code, out } = await verb(program, 'setup', '--yes', '--language', 'es')
  assert.equal(code, 0, out)
  assert.match(out, /KIT DE RECUPERACIÓN[\s\S]*ninguna en este servidor/)
  assert.ok(!out.includes('RECOVERY KIT\n'))
  assert.ok(existsSync(join(program.home, '.secrets', 'backup_recipient')))
  const written = readdirSync(program.home, { recursive: true, encoding: 'utf8' })
    .map(name => join(program.home, name))
    .filter(path => statSync(path).isFile())
    .map(path => readFileSync(path, 'latin1'))
  const passphrase = /Frase +(\S+)/.exec(out)?.[1] as string
  for (const text of written)
    assert.ok(!/AGE-SECRET-KEY-1[0-9A-Z]{20}/i.test(text) && !text.includes(passphrase))
  assert.equal((await verb(program, 'setup', '--new-kit')).code, 3)
})

test('doctor finds a running home well, and its bundle holds what support needs and no secret', async t => {
  const program = await startMoonYetis(t)
  const client = new Client({ url: () => program.url })
  t.after(async () => client.close())
  const tokens: string[] = []
  for (let player = 0; player < 3; player++) {
    const { body } = await client.send({ method: 'POST', path: '/api/auth/demo' })
    tokens.push((JSON.parse(body) as { token: string }).token)
  }
  const file = join(program.home, 'support.tar.gz')
  const { code, out, err } = await verb(program, 'doctor', '--bundle', '--out', file, '--json')
  assert.equal(code, 0, out + err)
  const { checks, bundle } = JSON.parse(out) as {
    checks: { name: string; ok: boolean }[]
    bundle: { contents: string[] }
  }
  const names = checks.map(check => check.name)
  for (const name of ['recovery', 'key files', 'repository', 'archive', 'spool', 'backup', 'drill'])
    assert.ok(names.includes(name), name)
  for (const name of [
    'config.json',
    'files.txt',
    'roles/supervise.json',
    'roles/archive.json',
    'logs/server.log',
  ])
    assert.ok(bundle.contents.includes(name), name)
  assert.equal(statSync(file).mode & 0o777, 0o600)
  const tar = gunzipSync(readFileSync(file)).toString('latin1')
  assert.ok(tar.includes('moonyetis-support-') && tar.includes('the game is registered'))
  const secrets = secretValuesOf(openHome(program.home))
  assert.ok(secrets.length > 10)
  for (const secret of [...secrets, ...tokens]) assert.ok(!tar.includes(secret), 'no secret is in it')
  assert.ok(!/AGE-SECRET-KEY-1|PRIVATE KEY|myp_[A-Za-z0-9_-]{43}/.test(tar))

  for (const wrong of [
    ['--out', file],
    ['--bundle', '--out', '/nowhere/at-all/x'],
  ])
    assert.equal((await verb(program, 'doctor', ...wrong)).code, 2)
})
