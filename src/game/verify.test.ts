import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { drawStops, hashServerSeed } from './draw.ts'
import { evaluate } from './evaluate.ts'
import { renderRound } from './render.ts'
import { verify } from './verify.ts'
import { gameConfig, gameVersion } from './version.ts'

const serverSeed = `${'0'.repeat(63)}1`
const clientSeed = 'moonyetis'

test('the verifier reproduces the published example', () => {
  const result = verify({ serverSeed, clientSeed, nonce: 0, stakePerLine: 5, lines: 10 })
  assert.equal(result.serverSeedHash, 'c386d8e8d07342f2e39e189c8e6c57bb205bb373fe4e3a6f69404a8bb767b417')
  assert.equal(result.hmac, '0c87fcff568d8b9b6e82a0f7ff9d673c39321924cff26bcec010f0dd869f8b31')
  assert.deepEqual(result.stops, [3, 21, 27, 63, 14])
  assert.equal(result.stake, '50')
  assert.equal(result.version, gameVersion)
})

test('the verifier agrees with every member of the rendered round', () => {
  for (const round of history(200)) {
    const result = verify({ ...round, serverSeed, stakePerLine: Number(round.stakePerLine) })
    const { serverSeedHash, stops, grid, wins, stake, payout, version } = round
    const { hmac: _, ...compared } = result
    assert.deepEqual(compared, { serverSeedHash, stops, grid, wins, stake, payout, version })
  }
})

interface RoundJson {
  nonce: number
  clientSeed: string
  serverSeedHash: string
  stops: number[]
  grid: string[][]
  wins: { line: number; symbol: string; count: number; payout: string }[]
  lines: number
  stakePerLine: string
  stake: string
  payout: string
  version: string
}

/** Rounds of the example seed as GET /api/game/rounds gives them, with bets that vary. */
function history(count: number): RoundJson[] {
  return Array.from({ length: count }, (_, nonce) => {
    const stops = drawStops({ serverSeed, clientSeed, nonce })
    const bet = { stops, lines: (nonce % 10) + 1, stakePerLine: (nonce % 7) * 1000 + 1 }
    const stake = bet.lines * bet.stakePerLine
    const seeds = { serverSeedHash: hashServerSeed(serverSeed), clientSeed, nonce }
    const settled = { roundId: BigInt(nonce + 1), payout: evaluate(bet), stake, balanceAfter: 0n }
    const stored = { ...seeds, ...bet, ...settled, version: gameVersion, createdAt: new Date(0) }
    return JSON.parse(renderRound(stored)) as RoundJson
  })
}

function runVerifier(rounds: unknown[]) {
  const folder = mkdtempSync(join(tmpdir(), 'moonyetis-verify-'))
  try {
    const config = join(folder, 'config.json')
    const answer = join(folder, 'rounds.json')
    writeFileSync(config, JSON.stringify(gameConfig))
    writeFileSync(answer, JSON.stringify({ rounds }))
    const script = fileURLToPath(new URL('../../docs/verify.py', import.meta.url))
    return spawnSync('python3', [script, config, answer, serverSeed], { encoding: 'utf8', timeout: 60_000 })
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const pythonMissing = spawnSync('python3', ['--version']).error !== undefined
const maySkip = pythonMissing && process.env.MOONYETIS_REQUIRE_ALL !== '1'
const skip = maySkip ? 'python3 is absent: install it to check docs/verify.py' : false

test('docs/verify.py, sharing no code with us, reproduces every round', { skip }, () => {
  const stranger = { ...history(1)[0], serverSeedHash: '0'.repeat(64) }
  const { status, stdout, stderr } = runVerifier([...history(2_000), stranger])
  assert.equal(stderr, '')
  assert.equal(stdout, 'verified 2000 rounds\n')
  assert.equal(status, 0)
})

test('docs/verify.py exits 1 and names the first round that was tampered with', { skip }, () => {
  const rounds = history(50)
  const winner = rounds.findIndex(round => round.wins.length > 0)
  const changes: Partial<RoundJson>[] = [
    { payout: '1' },
    { stops: [0, 0, 0, 0, 0] },
    { wins: [] },
    { version: 'x' },
  ]
  for (const change of changes) {
    const tampered = rounds.map((round, nonce) => (nonce === winner ? { ...round, ...change } : round))
    const { status, stderr } = runVerifier(tampered)
    assert.equal(status, 1)
    assert.match(stderr, new RegExp(`nonce ${winner}: ${Object.keys(change)[0]} is`))
  }
})
