import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { packStops, unpackStops } from './draw.ts'
import { evaluate, gridOf, wins } from './evaluate.ts'
import { renderRound, renderSpin } from './render.ts'

const record = {
  roundId: 7n,
  nonce: 0,
  serverSeedHash: 'c386d8e8d07342f2e39e189c8e6c57bb205bb373fe4e3a6f69404a8bb767b417',
  clientSeed: 'moonyetis',
  stops: packStops([3, 21, 27, 63, 14]),
  lines: 10,
  stakePerLine: 5,
  stake: 50n,
  payout: 0n,
  balanceAfter: 999_950n,
  version: '56c12bc93c21b66d',
  createdAt: new Date('2026-11-24T12:00:00.000Z'),
}

const goldenMembers =
  '"id":"7","nonce":0,"serverSeedHash":"c386d8e8d07342f2e39e189c8e6c57bb205bb373fe4e3a6f69404a8bb767b417",' +
  '"clientSeed":"moonyetis","stops":[3,21,27,63,14],"grid":[["alien","rocket","ufo"],["coin","alien","yeti"],' +
  '["star","alien","planet"],["planet","ufo","star"],["star","alien","ufo"]],"wins":[],"stake":"50","payout":"0"'

test('the bytes of a spin are pinned', () => {
  assert.equal(renderSpin(record), `{"round":{${goldenMembers}},"balance":"999950"}`)
})

test('the bytes of a winning spin are pinned', () => {
  const stops = packStops([20, 53, 16, 10, 20])
  const winner = { ...record, nonce: 13, stops, payout: 900n, balanceAfter: 1_000_850n }
  const expected =
    '{"round":{"id":"7","nonce":13,' +
    '"serverSeedHash":"c386d8e8d07342f2e39e189c8e6c57bb205bb373fe4e3a6f69404a8bb767b417",' +
    '"clientSeed":"moonyetis","stops":[20,53,16,10,20],"grid":[["coin","ufo","alien"],["planet","coin","ufo"],' +
    '["yeti","ufo","coin"],["ufo","coin","alien"],["alien","yeti","planet"]],' +
    '"wins":[{"line":4,"symbol":"coin","count":4,"payout":"250"},' +
    '{"line":9,"symbol":"ufo","count":5,"payout":"400"},{"line":10,"symbol":"coin","count":4,"payout":"250"}],' +
    '"stake":"50","payout":"900"},"balance":"1000850"}'
  assert.equal(renderSpin(winner), expected)
})

test('the bytes of a history entry are pinned', () => {
  const added =
    '"stakePerLine":"5","lines":10,"version":"56c12bc93c21b66d",' +
    '"createdAt":"2026-11-24T12:00:00.000Z","balanceAfter":"999950"'
  assert.equal(renderRound(record), `{${goldenMembers},${added}}`)
})

const records = fc
  .record({
    roundId: fc.bigInt({ min: 1n, max: 2n ** 63n - 1n }),
    nonce: fc.maxSafeNat(),
    serverSeedHash: fc.stringMatching(/^[0-9a-f]{64}$/),
    clientSeed: fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/),
    stops: fc.nat({ max: 2 ** 30 - 1 }),
    lines: fc.integer({ min: 1, max: 10 }),
    stakePerLine: fc.integer({ min: 1, max: 1_000_000 }),
    balanceAfter: fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
    createdAt: fc.date({ min: new Date(0), max: new Date('2100-01-01T00:00:00Z'), noInvalidDate: true }),
  })
  .map(part => ({
    ...part,
    version: '56c12bc93c21b66d',
    stake: BigInt(part.stakePerLine * part.lines),
    payout: BigInt(evaluate(part)),
  }))

function plainRound(spin: Omit<typeof record, 'version' | 'createdAt'>) {
  return {
    id: String(spin.roundId),
    nonce: spin.nonce,
    serverSeedHash: spin.serverSeedHash,
    clientSeed: spin.clientSeed,
    stops: unpackStops(spin.stops),
    grid: gridOf(spin.stops),
    wins: wins(spin).map(win => ({ ...win, payout: String(win.payout) })),
    stake: String(spin.stake),
    payout: String(spin.payout),
  }
}

test('the joined text is what JSON.stringify makes of the plain object', () => {
  const holds = fc.property(records, spin => {
    const plain = { round: plainRound(spin), balance: String(spin.balanceAfter) }
    assert.equal(renderSpin(spin), JSON.stringify(plain))
    assert.deepEqual(JSON.parse(renderSpin(spin)), plain)
    const round = {
      ...plainRound(spin),
      stakePerLine: String(spin.stakePerLine),
      lines: spin.lines,
      version: spin.version,
      createdAt: spin.createdAt.toISOString(),
      balanceAfter: String(spin.balanceAfter),
    }
    assert.equal(renderRound(spin), JSON.stringify(round))
  })
  fc.assert(holds, { seed: 1, numRuns: 2_000 })
})

test('numbers and text for ids and amounts render as bigints do', () => {
  const numbers = { ...record, roundId: '7', stake: 50, payout: 0, balanceAfter: 999_950 }
  assert.equal(renderSpin(numbers), renderSpin(record))
})
