import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { RestorePoint } from '#backup/model.ts'
import { parseLsn } from '#lib/lsn.ts'
import { Client } from './client.ts'
import { Launch } from './launch.ts'
import { type Program, prepareMoonYetis, programRoot, until } from './program.ts'
import { archiveStatus, succeed } from './verbs.ts'

/** A block of commands that is marked `<!-- run: NAME -->` in a runbook, as people would paste it. */
export interface Block {
  name: string
  commands: string
}

export function blocksOf(file: string): Block[] {
  const text = readFileSync(join(programRoot, 'docs', 'runbooks', file), 'utf8')
  const marked = /^<!-- run: ([a-z-]+) -->\n\n```sh\n(.*?)^```$/gms
  return [...text.matchAll(marked)].map(([, name = '', commands = '']) => ({ name, commands }))
}

/** What is left of a block when its words for people are gone: the same in every language. */
export function withoutComments({ commands }: Block): string {
  return commands.replace(/ +# .*$/gm, '')
}

/**
 * The program's commands of a clone that is installed: npx and npm would do the same, after a second each. `npm start`
 * stays in the background and gives the terminal back when it is ready, as a second terminal would.
 */
const preamble = `
npx() { shift; MOONYETIS_HOME="\${MOONYETIS_HOME:-$defaultHome}" "$node" "$root/src/main.ts" "$@"; }
npm() {
  local log="$PWD/up-$RANDOM.log"
  MOONYETIS_HOME="\${MOONYETIS_HOME:-$defaultHome}" setsid "$node" "$root/src/main.ts" up > "$log" 2>&1 < /dev/null &
  local pid=$!
  until grep -q ^ready "$log"; do kill -0 $pid && sleep 0.1; done
  cat "$log"
}
`

export interface Typing {
  cwd: string
  env: NodeJS.ProcessEnv
  defaultHome: string
  /** Examples in the text and what they are here. */
  replace?: Record<string, string>
}

/** Types the blocks one after the other into one shell that ends at the first failure. */
function runBlocks(blocks: readonly Block[], o: Typing): Launch {
  const replaced = Object.entries(o.replace ?? {}).reduce(
    (text, [from, to]) => text.replaceAll(from, to),
    blocks.map(one => one.commands).join(''),
  )
  return new Launch({
    command: ['bash', '-eu', '-c', `${preamble}\n${replaced}`],
    cwd: o.cwd,
    env: { ...o.env, node: process.execPath, root: programRoot, defaultHome: o.defaultHome },
  })
}

const typedWithinMs = 120_000

/** A game with a backup, a spin on either side of it and of a moment, and everything of it in the repository. */
export class Rehearsal {
  readonly program: Program
  readonly client: Client
  readonly passphrase: string
  /** As an operator writes it: after the second of three spins, before the third. */
  readonly moment: string
  readonly token: string
  readonly #blocks: readonly Block[]

  private constructor(
    o: Pick<Rehearsal, 'program' | 'client' | 'passphrase' | 'moment' | 'token'> & { blocks: Block[] },
  ) {
    this.program = o.program
    this.client = o.client
    this.passphrase = o.passphrase
    this.moment = o.moment
    this.token = o.token
    this.#blocks = o.blocks
  }

  static async of(t: TestContext, file: string): Promise<Rehearsal> {
    const env = { MOONYETIS_BACKUP__FIRST_AFTER_SECONDS: '86400', MOONYETIS_BACKUP__TAIL_SECONDS: '1' }
    const program = await prepareMoonYetis(t, { env })
    const { kit } = await succeed<{ kit: { passphrase: string } }>(program, ['setup'])
    await program.start()
    const client = new Client({ url: () => program.url })
    t.after(async () => client.close())
    const { body } = await client.send({ method: 'POST', path: '/api/auth/demo' })
    const { token } = JSON.parse(body) as { token: string }
    await spin(client, token, 'before-the-backup')
    await succeed(program, ['backup', 'full'])
    await spin(client, token, 'after-the-backup')
    // Commit times are the database's, which is on this machine.
    const moment = new Date().toISOString().replace('T', ' ').replace('Z', '')
    await spin(client, token, 'after-the-moment')
    await untilStored(program, 'all-of-it')
    return new Rehearsal({
      ...{ program, client, passphrase: kit.passphrase, moment, token },
      blocks: blocksOf(file),
    })
  }

  get place(): string {
    return this.program.place.root
  }

  /** The text of the whole session, which ended well. */
  async type(t: TestContext, names: readonly string[], o: Partial<Typing> = {}): Promise<string> {
    const cwd = join(this.place, names.join('-'))
    mkdirSync(cwd, { recursive: true })
    const { MOONYETIS_HOME: defaultHome = '', ...env } = this.program.environment()
    const replace = { '2026-11-24 14:31:59': this.moment, ...o.replace }
    const shell = runBlocks(this.#find(names), { cwd, env, defaultHome, ...o, replace })
    const { code } = await shell.exit(typedWithinMs)
    t.diagnostic(`${names.join(', ')}: ${((performance.now() - shell.startedAtMs) / 1000).toFixed(1)} s`)
    assert.equal(code, 0, shell.text)
    return shell.text
  }

  #find(names: readonly string[]): Block[] {
    return names.map(name => {
      const found = this.#blocks.find(one => one.name === name)
      assert.ok(found, `the runbook has no commands named ${name}`)
      return found
    })
  }
}

/** How many rounds reconcile has read. */
export function roundsIn(text: string): number {
  return Number(/^round-postings +(\d+) +0$/m.exec(text)?.[1])
}

async function spin(client: Client, token: string, key: string): Promise<void> {
  const answer = await client.json('/api/game/spin', { body: { stakePerLine: '1', lines: 1 }, token, key })
  assert.equal(answer.status, 200, answer.body)
}

async function untilStored(program: Program, name: string): Promise<void> {
  const { lsn } = await succeed<RestorePoint>(program, ['restore-point', name])
  const reaches = async () => {
    const { storedLsn } = (await archiveStatus(program)).archiver
    return (parseLsn(storedLsn ?? '') ?? 0n) >= (parseLsn(lsn) as bigint)
  }
  await until('the archive has stored it', reaches, 30_000)
}
