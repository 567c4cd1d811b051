import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { historyFacts } from '#backup/archive/history.ts'
import { SealPool } from '#backup/envelope/pool.ts'
import type { DataKey } from '#backup/keys/data-keys.ts'
import { KeyRing, recoveryFrom } from '#backup/keys/ring.ts'
import { ensureBackupKeys, makeRecoveryKit } from '#backup/keys/setup.ts'
import { layout } from '#backup/layout.ts'
import { type BackupMarker, formatVersion, type ObjectFacts, type WalFacts } from '#backup/model.ts'
import { Repository } from '#backup/repository.ts'
import { Failure } from '#lib/errors.ts'
import { type Home, openHome, readSecret } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { DiskStorage } from '#storage/disk.ts'

const root = mkdtempSync(join(tmpdir(), 'moonyetis-repository-'))
const system = '7711677056603304589'

let pool: SealPool
let home: Home
let storage: DiskStorage
let repository: Repository
let dataKey: DataKey

before(async () => {
  pool = new SealPool({ threads: 2 })
  home = newHome('home')
  ensureBackupKeys({ home, chain: 'simulated' })
  storage = await openDisk('repository')
  repository = await Repository.create({ storage, home })
  dataKey = await repository.newDataKey()
})

after(async () => {
  await pool.close()
  rmSync(root, { recursive: true, force: true })
})

function newHome(name: string): Home {
  return openHome(join(root, name))
}

function openDisk(name: string): Promise<DiskStorage> {
  return DiskStorage.open({ root: join(root, name), log: silentLog })
}

function fileOf(key: string, name = 'repository'): string {
  return join(root, name, key)
}

/** Puts bytes where the storage finds them, without its promises: what a fault or an attacker does. */
function plant(key: string, bytes: Uint8Array, name?: string): void {
  mkdirSync(dirname(fileOf(key, name)), { recursive: true })
  writeFileSync(fileOf(key, name), bytes)
}

let objects = 0

function fresh(): string {
  return layout.files(`20261124T020000Z-files-${String(objects++).padStart(6, '0')}`)
}

async function write(
  bytes: Uint8Array,
  object = fresh(),
  into = repository,
  key = dataKey,
): Promise<ObjectFacts> {
  const written = await into.writeSealed({ object, kind: 'files', facts: {}, dataKey: key, bytes })
  assert(written.created)
  return { key: object, bytes: written.bytes, sha256: written.sha256 }
}

function reader(identities: readonly string[], from: DiskStorage = storage): Promise<Repository> {
  return Repository.open({ storage: from, ring: new KeyRing({ identities }), log: silentLog })
}

function ownIdentity(): string {
  return readSecret(home, 'backup_identity') as string
}

/** Each way to read must refuse, naming the object. */
async function assertRefused(
  object: string,
  code: string,
  reason: RegExp,
  expect?: ObjectFacts,
): Promise<void> {
  const named = (error: unknown) => {
    assert(error instanceof Failure, inspect(error))
    assert.equal(error.code, code)
    assert.equal(error.facts.object, object)
    assert.match(error.message, reason)
    assert(!inspect(error, { depth: 9 }).includes(dataKey.bytes.toString('hex')))
    return true
  }
  const o = expect ? { expect } : {}
  await assert.rejects(repository.checkSealed(object, expect), named)
  await assert.rejects(repository.readSealed(object, o), named)
  await assert.rejects(Array.fromAsync(repository.frames(object, { pool, ...o })), named)
}

test('what is written is read back in every way, and only whole', async () => {
  const bytes = Buffer.concat([randomBytes(3 << 20), Buffer.alloc(3 << 20, 'moon')])
  const facts = await write(bytes)
  assert(facts.bytes < (3 << 20) + 10_000)
  const expect = { expect: facts }
  assert((await repository.readSealed(facts.key)).bytes.equals(bytes))
  assert((await repository.readSealed(facts.key, { pool, ...expect })).bytes.equals(bytes))
  const frames = await Array.fromAsync(repository.frames(facts.key, { pool, ...expect }))
  assert(Buffer.concat(frames).equals(bytes))
  const header = await repository.checkSealed(facts.key, facts)
  assert.deepEqual(await repository.inspect(facts.key), header)
  assert.equal(header.dataKey, dataKey.id)
  assert.equal(header.repositoryId, repository.id)
})

test('any bytes in any frames come back from the repository', async () => {
  const frames = fc.array(fc.uint8Array({ minLength: 1, maxLength: 70_000 }), { maxLength: 5 })
  await fc.assert(
    fc.asyncProperty(frames, async frames => {
      const object = fresh()
      const writer = repository.seal({ object, kind: 'files', facts: {}, dataKey, pool })
      for (const frame of frames) writer.frame(new Uint8Array(frame).buffer, frame.length)
      const { parts } = await writer.finish()
      plant(object, Buffer.concat(parts))
      const opened = await repository.readSealed(object, { pool })
      assert(opened.bytes.equals(Buffer.concat(frames)))
    }),
    { numRuns: 25 },
  )
})

test('an object is written once: a second one changes nothing', async () => {
  const facts = await write(Buffer.from('first'))
  const o = { object: facts.key, kind: 'files', facts: {}, dataKey } as const
  assert.equal((await repository.writeSealed({ ...o, bytes: Buffer.from('second') })).created, false)
  assert.equal((await repository.readSealed(facts.key)).bytes.toString(), 'first')
})

test('every byte flipped in turn, every truncation: refused by name, sealed and opened', async () => {
  const facts = await write(Buffer.from('a short secret'))
  const bytes = readFileSync(fileOf(facts.key))
  for (let at = 0; at < bytes.length; at++) {
    const flipped = Buffer.from(bytes)
    flipped[at] = (flipped[at] as number) ^ 0x20
    plant(facts.key, flipped)
    await assertRefused(facts.key, 'BACKUP_OBJECT_DAMAGED', /is damaged: .+\.$/)
    plant(facts.key, bytes.subarray(0, at))
    await assertRefused(facts.key, 'BACKUP_OBJECT_DAMAGED', /is damaged: .+\.$/)
    await assertRefused(facts.key, 'BACKUP_OBJECT_DAMAGED', /instead of/, facts)
  }
  rmSync(fileOf(facts.key))
  await assertRefused(facts.key, 'BACKUP_OBJECT_MISSING', /is missing/)
  plant(facts.key, bytes)
  await repository.checkSealed(facts.key, facts)
})

test('two objects swapped are both refused, and so is one with the header of the other', async () => {
  const [one, two] = [await write(Buffer.from('content 1')), await write(Buffer.from('content 2'))]
  const [first, second] = [readFileSync(fileOf(one.key)), readFileSync(fileOf(two.key))]
  plant(one.key, second)
  plant(two.key, first)
  await assertRefused(one.key, 'BACKUP_OBJECT_DAMAGED', new RegExp(`it belongs at ${two.key}`))
  await assertRefused(two.key, 'BACKUP_OBJECT_DAMAGED', new RegExp(`it belongs at ${one.key}`))
  const headEnd = 12 + first.readUInt32LE(8)
  plant(one.key, Buffer.concat([first.subarray(0, headEnd), second.subarray(headEnd)]))
  await assertRefused(one.key, 'BACKUP_OBJECT_DAMAGED', /its header or table of frames was changed/)
})

test('an older object of the same place is refused where a marker tells which one belongs there', async () => {
  const older = await write(Buffer.from('as it was'))
  const bytes = readFileSync(fileOf(older.key))
  rmSync(fileOf(older.key))
  const newer = await write(Buffer.from('as it is.'), older.key)
  plant(older.key, bytes)
  await assertRefused(older.key, 'BACKUP_OBJECT_DAMAGED', /another one than the backup wrote/, newer)
})

test('an object of another repository of the same owner is refused', async () => {
  const elsewhere = await Repository.create({ storage: await openDisk('second'), home })
  assert.notEqual(elsewhere.id, repository.id)
  const key = await elsewhere.newDataKey()
  const facts = await write(Buffer.from('content'), fresh(), elsewhere, key)
  plant(facts.key, readFileSync(fileOf(facts.key, 'second')))
  await assertRefused(facts.key, 'BACKUP_OBJECT_DAMAGED', /it belongs to another repository/)
})

test('what another signer forged is refused, even with the right data key', async () => {
  const forger = newHome('forger')
  ensureBackupKeys({ home: forger, chain: 'simulated' })
  const forgery = await openDisk('forgery')
  // He has the data key, from a stolen server say, and the place to write to, but not the signing key.
  const own = await Repository.create({ storage: forgery, home: forger })
  const facts = await write(Buffer.from('forged'), fresh(), own)
  plant(facts.key, readFileSync(fileOf(facts.key, 'forgery')))
  await assertRefused(facts.key, 'BACKUP_OBJECT_DAMAGED', /not signed by the signer/)
  await assert.rejects(Repository.create({ storage, home: forger }), { code: 'REPOSITORY_FOREIGN' })
  const ring = new KeyRing({ home: forger })
  const opening = { storage, ring, home: forger, log: silentLog }
  await assert.rejects(Repository.open(opening), { code: 'REPOSITORY_FOREIGN' })
  // The recovery key vouches for the repository, so a home of one's own does not stand in the way of reading.
  const read = await Repository.open({ ...opening, trustedSigner: repository.signer })
  assert.equal(read.trust.by, 'kit')
})

test('an object that was sealed with another key than it names does not open', async () => {
  const wrong = await repository.newDataKey()
  const object = fresh()
  const lying = { id: wrong.id, bytes: dataKey.bytes }
  await repository.writeSealed({ object, kind: 'files', facts: {}, dataKey: lying, bytes: Buffer.from('x') })
  const refusal = { code: 'BACKUP_OBJECT_DAMAGED', message: /a frame does not open/ }
  await assert.rejects(repository.readSealed(object), refusal)
  await assert.rejects(Array.fromAsync(repository.frames(object, { pool })), refusal)
})

test('with the identity alone everything opens; with another one or none the key is asked for', async () => {
  const facts = await write(Buffer.from('content'))
  const owner = await reader([ownIdentity()])
  assert.equal((await owner.readSealed(facts.key)).bytes.toString(), 'content')
  const stranger = newHome('stranger')
  ensureBackupKeys({ home: stranger, chain: 'simulated' })
  for (const identities of [[], [readSecret(stranger, 'backup_identity') as string]]) {
    const other = await reader(identities)
    // Sealed checks need no key.
    await other.checkSealed(facts.key, facts)
    const needed = { code: 'BACKUP_KEY_NEEDED', facts: { object: facts.key } }
    await assert.rejects(other.readSealed(facts.key), needed)
    await assert.rejects(Array.fromAsync(other.frames(facts.key, { pool })), needed)
  }
})

test('a data key is stored for its recipient before it is used, and a swapped or damaged one is named', async () => {
  const key = await repository.newDataKey()
  assert(repository.ring.remembered().includes(key.id))
  const facts = await write(Buffer.from('content'), fresh(), repository, key)
  const file = (await Array.fromAsync(storage.list(`${layout.dataKeys}${key.id}/`))).map(
    ({ key }) => key,
  )[0] as string
  const whole = readFileSync(fileOf(file))
  const other = (await Array.fromAsync(storage.list(`${layout.dataKeys}${dataKey.id}/`)))[0]?.key as string
  const refuses = async () =>
    assert.rejects((await reader([ownIdentity()])).readSealed(facts.key), {
      code: 'BACKUP_OBJECT_DAMAGED',
      message: new RegExp(`^${file} is damaged`),
    })
  plant(file, readFileSync(fileOf(other)))
  await refuses()
  const changed = Buffer.from(whole)
  changed[changed.length - 1] = (changed.at(-1) as number) ^ 1
  plant(file, changed)
  await refuses()
  plant(file, whole)
  assert.equal((await (await reader([ownIdentity()])).dataKey(key.id)).id, key.id)
})

test('a repository that is there is opened, whoever of two comes first', async () => {
  const at = await openDisk('raced')
  const [one, two] = await Promise.all([
    Repository.create({ storage: at, home }),
    Repository.create({ storage: at, home }),
  ])
  assert.equal(one.id, two.id)
  assert.equal(one.trust.by, 'home')
})

test('a place without a repository says so, and a changed description is not believed', async () => {
  const at = await openDisk('empty')
  const opening = { storage: at, ring: new KeyRing({}), log: silentLog }
  await assert.rejects(Repository.open(opening), { code: 'REPOSITORY_NOT_FOUND' })
  await assert.rejects(Repository.create({ storage: at, home: newHome('keyless') }), {
    code: 'BACKUP_NOT_SET_UP',
  })
  await Repository.create({ storage: at, home })
  const bytes = readFileSync(fileOf(layout.repository, 'empty'))
  for (let index = 0; index < bytes.length; index++) {
    const flipped = Buffer.from(bytes)
    flipped[index] = (flipped[index] as number) ^ 1
    plant(layout.repository, flipped, 'empty')
    await assert.rejects(Repository.open(opening), {
      code: 'BACKUP_OBJECT_DAMAGED',
      message: /^repository\.json is damaged/,
    })
  }
})

test('a bare reader believes the repository with a warning, cannot write, and has no recipients', async () => {
  const bare = await reader([])
  assert.equal(bare.trust.by, 'repository')
  assert.match(bare.trust.warning ?? '', /Compare that with the recovery kit/)
  assert.deepEqual(bare.recipients(), [])
  assert.equal(repository.recipients().length, 1)
  const readOnly = { code: 'REPOSITORY_READ_ONLY' }
  await assert.rejects(bare.newDataKey(), readOnly)
  assert.throws(() => bare.seal({ object: fresh(), kind: 'files', facts: {}, dataKey, pool }), readOnly)
  await assert.rejects(bare.writeSigned(layout.pin('x'), {}), readOnly)
})

test('a signed document is bound to its place, and every flipped byte is noticed', async () => {
  const pin = {
    format: formatVersion,
    repositoryId: repository.id,
    backupId: 'a',
    reason: 'audit',
    at: 'now',
  }
  const key = layout.pin('a')
  assert.equal(await repository.writeSigned(key, pin), true)
  assert.equal(await repository.writeSigned(key, { ...pin, reason: 'other' }), false)
  assert.deepEqual(await repository.readSigned(key), pin)
  const bytes = readFileSync(fileOf(key))
  plant(layout.pin('b'), bytes)
  await assert.rejects(repository.readSigned(layout.pin('b')), { code: 'BACKUP_OBJECT_DAMAGED' })
  for (let at = 0; at < bytes.length; at++) {
    const flipped = Buffer.from(bytes)
    flipped[at] = (flipped[at] as number) ^ 1
    for (const changed of [flipped, bytes.subarray(0, at)]) {
      plant(key, changed)
      await assert.rejects(repository.readSigned(key), { code: 'BACKUP_OBJECT_DAMAGED' }, `byte ${at}`)
    }
  }
  assert.equal(await repository.writeSigned(key, { ...pin, reason: 'other' }, { replace: true }), true)
  assert.equal((await repository.readSigned<typeof pin>(key)).reason, 'other')
  await assert.rejects(repository.readSigned(layout.pin('none')), { code: 'BACKUP_OBJECT_MISSING' })
})

test('backups are those with a sound marker; the others are told', async () => {
  const marker = (id: string): BackupMarker => ({
    ...{ format: formatVersion, repositoryId: repository.id, id, kind: 'files', program: 'test' },
    ...{ startedAt: 'x', finishedAt: 'y', objects: [], dataKeys: [], rawBytes: 0, storedBytes: 0 },
  })
  const [older, newer] = ['20261120T020000Z-full-aaaaaa', '20261121T020000Z-full-bbbbbb']
  await repository.writeSigned(layout.complete(newer), marker(newer))
  await repository.writeSigned(layout.complete(older), marker(older))
  const damaged = '20261122T020000Z-full-cccccc'
  plant(layout.complete(damaged), readFileSync(fileOf(layout.complete(older))))
  plant(layout.manifest('20261123T020000Z-full-dddddd'), Buffer.from('no marker'))
  const told: string[] = []
  const backups = await repository.backups({ onDamaged: key => told.push(key) })
  assert.deepEqual(
    backups.map(({ id }) => id),
    [older, newer],
  )
  assert.deepEqual(told, [layout.complete(damaged)])
  assert.equal((await repository.backup(older)).id, older)
  for (const id of ['20261123T020000Z-full-dddddd', '../x', ''])
    await assert.rejects(repository.backup(id), { code: 'BACKUP_NOT_FOUND' })
})

test('segments, timelines, histories and clusters are found by listing', async () => {
  const segments = ['0000000100000000000000FE', '0000000100000000000000FF', '000000010000000100000000']
  for (const segment of segments.toReversed()) await writeSegment(segment, 1)
  await writeSegment('0000000A0000000100000000', 10)
  const history = Buffer.from('1\t1/0\tno recovery target specified\n')
  const facts = { systemIdentifier: system, timeline: 2, parents: [{ timeline: 1, end: '1/0' }] }
  const object = layout.history(system, 2)
  await repository.writeSealed({ object, kind: 'history', facts, dataKey, bytes: history })
  assert.deepEqual(await repository.systems(), [system])
  assert.deepEqual(await repository.timelines(system), [1, 2, 10])
  assert((await repository.history(system, 2))?.equals(history))
  assert.equal(await repository.history(system, 3), undefined)
  // Written before histories stood in their headers, and one that does.
  const stranger = await reader([])
  await assert.rejects(stranger.history(system, 2), { code: 'BACKUP_KEY_NEEDED' })
  const next = Buffer.from('1\t1/0\tno recovery target specified\n\n2\t1/40\tbefore 2026-11-24 14:32:00+00\n')
  await repository.writeSealed({
    object: layout.history(system, 3),
    kind: 'history',
    facts: historyFacts(system, 3, next),
    dataKey,
    bytes: next,
  })
  assert((await stranger.history(system, 3))?.equals(next), 'no key is needed')
  const found = await Array.fromAsync(repository.segments(system, 1))
  assert.deepEqual(
    found.map(({ segment }) => segment),
    segments,
  )
  assert.deepEqual(await storage.head(found[0]?.key as string), {
    key: found[0]?.key,
    bytes: found[0]?.bytes,
  })
  const later = await Array.fromAsync(repository.segments(system, 1, { after: segments[1] as string }))
  assert.deepEqual(
    later.map(({ segment }) => segment),
    segments.slice(2),
  )
})

async function writeSegment(segment: string, timeline: number): Promise<void> {
  const base = { systemIdentifier: system, timeline, segment, segmentBytes: 16 << 20 }
  const facts: WalFacts = { ...base, start: '0/1000000', end: '0/2000000' }
  const object = layout.segment(system, segment)
  await repository.writeSealed({ object, kind: 'wal', facts, dataKey, bytes: Buffer.from('log'), pool })
}

// 2^10 instead of 2^18: the cost of guessing is not what these tests are about.
const workFactor = 10

test('the kit of real money opens the repository from nothing, and the server keeps no identity', async () => {
  const real = newHome('real')
  const at = await openDisk('real-repository')
  const made = { home: real, storage: at, chain: 'mainnet', workFactor } as const
  const kit = await makeRecoveryKit(made)
  assert.deepEqual(ensureBackupKeys({ home: real, chain: 'mainnet' }), { made: [] })
  assert.equal(readSecret(real, 'backup_identity'), undefined)
  assert.equal(readSecret(real, 'backup_recipient'), kit.recipient)
  assert(kit.text('en').includes(kit.passphrase) && kit.text('es').includes(kit.signer))
  const written = await Repository.create({ storage: at, home: real })
  const facts = await write(Buffer.from('content'), fresh(), written, await written.newDataKey())
  const passphrase = kit.passphrase.toLowerCase().replaceAll('-', ' ')
  const recovery = await recoveryFrom({ storage: at, passphrase })
  assert.equal(recovery.trustedSigner, kit.signer)
  assert.equal(recovery.repositoryId, written.id)
  const ring = new KeyRing({ identities: recovery.identities })
  const trustedSigner = recovery.trustedSigner as string
  const read = await Repository.open({ storage: at, ring, trustedSigner, log: silentLog })
  assert.deepEqual(read.trust, { by: 'kit' })
  assert.equal((await read.readSealed(facts.key, { expect: facts })).bytes.toString(), 'content')
  const foreign = { storage, ring, trustedSigner, log: silentLog }
  await assert.rejects(Repository.open(foreign), { code: 'REPOSITORY_FOREIGN' })
  const wrong = recoveryFrom({ storage: at, passphrase: 'wrong' })
  await assert.rejects(wrong, { code: 'BACKUP_PASSPHRASE_WRONG' })
  await assert.rejects(makeRecoveryKit(made), { code: 'BACKUP_KIT_EXISTS' })
  const locked = fileOf(layout.identity(kit.fingerprint), 'real-repository')
  assert.deepEqual(await recoveryFrom({ identityFile: locked, passphrase }), recovery)
  await assert.rejects(recoveryFrom({ identityFile: locked }), { code: 'BACKUP_IDENTITY_UNUSABLE' })
})

test('play money keeps its identity beside the kit, which may be made again with a passphrase of one’s own', async () => {
  const made = { home, storage, chain: 'simulated', workFactor } as const
  const { recipient } = await makeRecoveryKit(made)
  const kit = await makeRecoveryKit({ ...made, passphrase: 'correct horse battery' })
  assert.equal(kit.recipient, recipient)
  const { identities } = await recoveryFrom({ storage, passphrase: 'correct horse battery' })
  assert.deepEqual(identities, [ownIdentity()])
  await assert.rejects(makeRecoveryKit({ ...made, passphrase: 'short' }), { code: 'VALIDATION' })
})

test('one small script opens an object with the data key alone, and refuses what was changed', async () => {
  const bytes = Buffer.concat([randomBytes(2_500_000), Buffer.alloc(2_500_000, 'yeti')])
  const facts = await write(bytes)
  const [keyFile, output] = [join(root, 'data-key'), join(root, 'plain')]
  const script = join(import.meta.dirname, '../../docs/open-backup.mjs')
  const open = (...more: string[]) => {
    rmSync(output, { force: true })
    return spawnSync(process.execPath, [script, keyFile, fileOf(facts.key), output, ...more], {
      encoding: 'utf8',
    })
  }
  writeFileSync(keyFile, dataKey.bytes)
  for (const more of [[], [repository.signer]]) {
    const { status, stderr } = open(...more)
    assert.equal(status, 0, stderr)
    assert(readFileSync(output).equals(bytes))
  }
  const stranger = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }).x as string
  assert.match(open(stranger).stderr, /not signed by that signer/)
  const changed = readFileSync(fileOf(facts.key))
  changed[2_400_000] = (changed[2_400_000] as number) ^ 1
  plant(facts.key, changed)
  const refused = open()
  assert.equal(refused.status, 1)
  assert.match(refused.stderr, /frame 1 was changed/)
  assert.throws(() => readFileSync(output), { code: 'ENOENT' })
  writeFileSync(keyFile, Buffer.alloc(32))
  assert.match(open().stderr, new RegExp(`it needs the data key ${dataKey.id}`))
})

function isThere(command: string): boolean {
  return spawnSync(command, ['--version']).error === undefined
}

const [age, script] = ['age', 'script']
const withoutAge = !isThere(age) && 'needs age: apt-get install age'

test('the age command opens data keys with the identity', { skip: withoutAge }, async () => {
  const identity = join(root, 'identity.txt')
  writeFileSync(identity, `${ownIdentity()}\n`, { mode: 0o600 })
  const [wrapped] = await Array.fromAsync(storage.list(`${layout.dataKeys}${dataKey.id}/`))
  const { stdout, status } = spawnSync(age, ['-d', '-i', identity, fileOf(wrapped?.key as string)])
  assert.equal(status, 0)
  assert(stdout.equals(dataKey.bytes))
})

const terminal = process.platform === 'linux' && isThere(script)
const withoutTerminal = withoutAge || (!terminal && 'needs script: apt-get install bsdutils')

test('the age command opens the identity with the passphrase', { skip: withoutTerminal }, async () => {
  const kit = await makeRecoveryKit({ home, storage, chain: 'simulated', workFactor })
  const [locked, output] = [fileOf(layout.identity(kit.fingerprint)), join(root, 'unlocked.txt')]
  // age asks on the terminal only, so it gets one.
  const command = `age -d -o '${output}' '${locked}'`
  spawnSync(script, ['-qec', command, '/dev/null'], { input: `${kit.passphrase}\n` })
  const text = readFileSync(output, 'utf8')
  assert(text.includes(`\n${ownIdentity()}\n`) && text.includes(`# signer ${kit.signer}\n`))
  const [wrapped] = await Array.fromAsync(storage.list(`${layout.dataKeys}${dataKey.id}/`))
  const opened = spawnSync(age, ['-d', '-i', output, fileOf(wrapped?.key as string)])
  assert(opened.stdout.equals(dataKey.bytes))
})
