import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { openHome } from '#lib/home.ts'
import { neverOutside, outsideAfter, summarise } from './outside.ts'
import { firstTopology, type Topology, TopologyFile, withMembers } from './topology.ts'

function newHome(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), 'moonyetis-topology-'))
  t.after(() => rmSync(root, { recursive: true, force: true }))
  return openHome(root)
}

const facts = {
  primary: 'node-a',
  mode: 'max-availability',
  systemIdentifier: '7391234567890123456',
  timeline: 1,
} as const
const second = (n: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, n))
const wanted = ['node_b', 'archive']

function at(n: number, members: string[], before: Topology = firstTopology(facts)): Topology {
  return withMembers(before, { members, wanted, cause: `cause ${n}`, at: second(n) })
}

test('what was written is read again, by nobody but its owner, and syncSet has data nodes only', t => {
  const home = newHome(t)
  const file = new TopologyFile(home)
  assert.equal(file.value, undefined)
  const topology = at(1, ['node_b', 'archive'])
  file.write(topology)
  assert.deepEqual(new TopologyFile(home).value, topology)
  assert.deepEqual(topology.syncSet, ['node-b'])
  assert.equal(statSync(file.path).mode & 0o777, 0o600)
  const { epoch, primary, mode, systemIdentifier, timeline } = JSON.parse(readFileSync(file.path, 'utf8'))
  assert.deepEqual({ epoch, primary, mode, systemIdentifier, timeline }, { epoch: 1, ...facts })
})

test('a damaged record is refused with what is wrong, where, and what to do', t => {
  const home = newHome(t)
  const file = new TopologyFile(home)
  const whole = `${JSON.stringify(at(1, ['archive']), null, 2)}\n`
  const cases: Array<[text: string, reason: RegExp]> = [
    ['', /not JSON \(0 bytes\)/],
    [whole.slice(0, 100), /not JSON \(100 bytes\)/],
    ['null', /must be object/],
    [whole.replace('"epoch": 1', '"epoch": 0'), /epoch/],
    [whole.replace('"timeline": 1', '"timeline": "1"'), /timeline/],
    [whole.replace('"epoch": 1', '"epoch": 1, "tomorrow": true'), /\/tomorrow is not known to this version/],
    [whole.replace('"syncSet": []', '"syncSet": ["node-b"]'), /syncSet is not what members say/],
    [whole.replace('max-availability', 'max-luck'), /mode/],
  ]
  for (const [text, reason] of cases) {
    writeFileSync(file.path, text)
    assert.throws(
      () => new TopologyFile(home),
      (error: Error & { code?: string; hint?: string }) => {
        assert.equal(error.code, 'TOPOLOGY_INVALID', text)
        assert.match(error.message, reason)
        assert.ok(error.message.includes(file.path) && error.hint?.includes('move the file aside'))
        return true
      },
    )
  }
})

test('another data directory, and none where there was one, are refused', t => {
  const home = newHome(t)
  const file = new TopologyFile(home)
  file.refuseOther('/data', undefined)
  file.refuseOther('/data', '1')
  file.write(firstTopology(facts))
  file.refuseOther('/data', facts.systemIdentifier)
  assert.throws(() => file.refuseOther('/data', '1'), { code: 'TOPOLOGY_OTHER_SYSTEM' })
  assert.throws(() => file.refuseOther('/data', undefined), { code: 'TOPOLOGY_DATA_MISSING' })
})

test('time without a member is counted from its leave to its return, with the cause of both', () => {
  const both = at(3, ['node_b', 'archive'], at(1, []))
  assert.deepEqual(summarise(both.outside, second(60)), { windows: 2, totalSeconds: 4 })
  const without = at(10, ['node_b'], both)
  assert.deepEqual(without.outside.open, [
    { member: 'archive', since: second(10).toISOString(), cause: 'cause 10' },
  ])
  assert.deepEqual(summarise(without.outside, second(15)), {
    since: second(10).toISOString(),
    windows: 3,
    totalSeconds: 9,
  })
  const back = at(20, ['node_b', 'archive'], without)
  assert.deepEqual(back.outside.recent.at(-1), {
    member: 'archive',
    since: second(10).toISOString(),
    cause: 'cause 10',
    until: second(20).toISOString(),
    seconds: 10,
    end: 'cause 20',
  })
  assert.deepEqual(
    back.members.map(member => member.since),
    [second(3).toISOString(), second(20).toISOString()],
  )
})

test('only the last windows are kept, all are counted, and a clock that went back takes nothing away', () => {
  let record = neverOutside
  for (let n = 0; n < 200; n++) {
    const members = n % 2 === 0 ? [] : ['archive']
    record = outsideAfter(record, { members, wanted: ['archive'], cause: 'c', at: second(200 - n) })
  }
  assert.deepEqual([record.windows, record.recent.length, record.totalSeconds], [100, 50, 0])
})

test('what nobody asks for any more is outside of nothing', () => {
  const out = outsideAfter(neverOutside, { members: [], wanted: ['archive'], cause: 'c', at: second(1) })
  const ended = outsideAfter(out, { members: [], wanted: [], cause: 'not asked', at: second(4) })
  assert.deepEqual(ended.open, [])
  assert.deepEqual(summarise(ended, second(9)), { windows: 1, totalSeconds: 3 })
})
