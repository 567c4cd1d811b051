import assert from 'node:assert/strict'
import { test } from 'node:test'
import { paylines } from './paylines.ts'
import { stopsPerReel, strips } from './strips.ts'

const counts = { yeti: 3, rocket: 5, moon: 6, coin: 7, star: 9, planet: 10, alien: 11, ufo: 13 }

test('every reel has 64 stops with the counts the contract names', () => {
  assert.equal(strips.length, 5)
  for (const strip of strips) {
    assert.equal(strip.length, stopsPerReel)
    for (const [symbol, count] of Object.entries(counts)) {
      assert.equal(strip.filter(other => other === symbol).length, count, symbol)
    }
  }
})

test('no column can show one symbol twice', () => {
  for (const strip of strips) {
    for (let stop = 0; stop < stopsPerReel; stop++) {
      const column = [0, 1, 2].map(row => strip[(stop + row) % stopsPerReel])
      assert.equal(new Set(column).size, 3, `stop ${stop}`)
    }
  }
})

test('no reel is another one turned', () => {
  const turns = (strip: readonly string[]) => `${strip.join()},${strip.join()}`
  strips.forEach((strip, reel) => {
    for (const other of strips.slice(reel + 1)) assert.ok(!turns(other).includes(strip.join()))
  })
})

test('the ten paylines are distinct, cross rows 0 to 2, and start with middle, top, bottom', () => {
  assert.equal(paylines.length, 10)
  assert.equal(new Set(paylines.map(String)).size, 10)
  for (const line of paylines) assert.match(String(line), /^[012](,[012]){4}$/)
  assert.deepEqual(paylines.slice(0, 3).map(String), ['1,1,1,1,1', '0,0,0,0,0', '2,2,2,2,2'])
})
