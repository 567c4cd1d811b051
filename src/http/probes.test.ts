import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startServer } from './testing.ts'
import type { ReadyReport } from './types.ts'

const get = async (url: string) => {
  const response = await fetch(url)
  return { status: response.status, body: (await response.json()) as { status: string; reasons: string[] } }
}

test('liveness answers without asking anybody', async t => {
  const { url } = await startServer(t, { ready: () => assert.fail('liveness asked') })
  assert.deepEqual(await get(`${url}/livez`), { status: 200, body: { status: 'ok', reasons: [] } })
})

test('readiness follows the report and gives its reasons', async t => {
  let report: ReadyReport = { ready: false, reasons: ['database is away'] }
  const { url } = await startServer(t, { ready: () => report })
  assert.deepEqual(await get(`${url}/readyz`), {
    status: 503,
    body: { status: 'unavailable', reasons: ['database is away'] },
  })
  report = { ready: true, reasons: [] }
  assert.equal((await get(`${url}/readyz`)).status, 200)
})

test('startup is over for good once it was ready', async t => {
  let report: ReadyReport = { ready: false, reasons: ['migrating'] }
  const { url } = await startServer(t, { ready: () => report })
  assert.deepEqual((await get(`${url}/startupz`)).body.reasons, ['migrating'])
  report = { ready: true, reasons: [] }
  assert.equal((await get(`${url}/startupz`)).status, 200)
  report = { ready: false, reasons: ['database is away'] }
  assert.equal((await get(`${url}/startupz`)).status, 200)
  assert.equal((await get(`${url}/readyz`)).status, 503)
})

test('a readiness check that fails is not ready, says nothing of the error, and logs it', async t => {
  const ready = () => Promise.reject(new Error('password=x'))
  const { url, logged } = await startServer(t, { ready })
  const { status, body } = await get(`${url}/readyz`)
  assert.equal(status, 503)
  assert.deepEqual(body.reasons, ['the readiness check failed'])
  assert.ok(logged.some(line => line.msg === 'readiness check failed'))
})

test('however many probes ask at once, the check runs once', async t => {
  let asked = 0
  const answer = Promise.withResolvers<ReadyReport>()
  const { url } = await startServer(t, {
    ready: () => {
      asked++
      return answer.promise
    },
  })
  const probes = Array.from({ length: 20 }, () => get(`${url}/readyz`))
  // Liveness does not wait for the others, so its answer shows that the earlier requests have arrived.
  while (asked === 0) await get(`${url}/livez`)
  answer.resolve({ ready: true, reasons: [] })
  for (const probe of await Promise.all(probes)) assert.equal(probe.status, 200)
  assert.ok(asked <= 2, `asked ${asked} times`)
})
