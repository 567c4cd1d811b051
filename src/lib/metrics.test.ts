import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addProcessMetrics, createMetrics } from './metrics.ts'

test('a counter shows zero from its first use and what its children counted since', async () => {
  const metrics = createMetrics()
  const spins = metrics.counter({ name: 'moonyetis_spins_total', help: 'Spins.', labels: ['result'] })
  const won = spins.labels({ result: 'won' })
  assert.match(await metrics.render(), /moonyetis_spins_total\{result="won"\} 0/)
  won.inc()
  won.inc(2)
  spins.labels({ result: 'won' }).inc()
  assert.match(await metrics.render(), /moonyetis_spins_total\{result="won"\} 4/)
  assert.match(await metrics.render(), /moonyetis_spins_total\{result="won"\} 4/)
})

test('a counter without labels counts, and one with labels refuses to count without them', async () => {
  const metrics = createMetrics()
  metrics.counter({ name: 'moonyetis_a_total', help: 'A.' }).inc(5)
  assert.match(await metrics.render(), /moonyetis_a_total 5/)
  const labelled = metrics.counter({ name: 'moonyetis_b_total', help: 'B.', labels: ['x'] })
  assert.throws(() => labelled.inc(), /needs its labels/)
  assert.throws(() => labelled.labels({ y: '1' }), /has labels x, not y/)
  assert.throws(() => labelled.labels({ x: '1' }).inc(-1), RangeError)
})

test('names outside the prefix and counters without _total are refused', () => {
  const metrics = createMetrics()
  assert.throws(() => metrics.gauge({ name: 'other_thing', help: '' }), /must be moonyetis_/)
  assert.throws(() => metrics.counter({ name: 'moonyetis_thing', help: '' }), /must end in _total/)
})

test('a collected gauge is read at the scrape, and one that throws does not break the scrape', async () => {
  const metrics = createMetrics()
  let value = 1
  metrics.gauge({ name: 'moonyetis_queue_length', help: 'Q.', collect: () => value })
  metrics.gauge({
    name: 'moonyetis_broken_bytes',
    help: 'B.',
    collect: () => {
      throw new Error('no')
    },
  })
  value = 7
  const text = await metrics.render()
  assert.match(text, /moonyetis_queue_length 7/)
  assert.match(text, /moonyetis_broken_bytes N/i)
})

test('a gauge goes up and down per label', async () => {
  const metrics = createMetrics()
  const gauge = metrics.gauge({ name: 'moonyetis_connections', help: 'C.', labels: ['pool'] })
  const child = gauge.labels({ pool: 'read' })
  child.set(4)
  child.inc()
  child.dec(2)
  assert.match(await metrics.render(), /moonyetis_connections\{pool="read"\} 3/)
})

test('a histogram sorts observations into its buckets', async () => {
  const metrics = createMetrics()
  const child = metrics
    .histogram({ name: 'moonyetis_wait_seconds', help: 'W.', labels: ['what'], buckets: [0.1, 1] })
    .labels({ what: 'commit' })
  child.observe(0.05)
  child.observe(0.5)
  child.observe(5)
  const text = await metrics.render()
  assert.match(text, /_bucket\{le="0.1",what="commit"\} 1/)
  assert.match(text, /_bucket\{le="1",what="commit"\} 2/)
  assert.match(text, /_count\{what="commit"\} 3/)
})

test('label values are bounded: past the limit all share one series', async () => {
  const metrics = createMetrics()
  const counter = metrics.counter({ name: 'moonyetis_leaky_total', help: 'L.', labels: ['who'] })
  for (let i = 0; i < 3_000; i++) counter.labels({ who: `player-${i}` }).inc()
  const text = await metrics.render()
  assert.ok(text.split('\n').filter(line => line.startsWith('moonyetis_leaky_total{')).length <= 2_001)
  assert.match(text, /who="other"\} 1000/)
})

test('process metrics are there and sane', async () => {
  const metrics = createMetrics()
  addProcessMetrics(metrics)
  const text = await metrics.render()
  assert.ok(Number(/moonyetis_process_resident_memory_bytes (\d+)/.exec(text)?.[1]) > 1_000_000)
  assert.ok(Number(/moonyetis_process_cpu_seconds_total ([\d.]+)/.exec(text)?.[1]) > 0)
  assert.ok(Math.abs(Number(/start_time_seconds ([\d.]+)/.exec(text)?.[1]) - Date.now() / 1000) < 600)
})
