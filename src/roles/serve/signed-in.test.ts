import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FastifyRequest } from 'fastify'
import type { Doors } from '#identity/doors.ts'
import { mayReadMetrics } from './signed-in.ts'

const here = { chain: 'simulated', trustedProxies: [], host: '127.0.0.1' } as const

/** Whether a request without a token may read; `asked` replaces what a caller on this machine sends. */
function mayRead(
  asked: { method?: string; peer?: string; headers?: Record<string, string> } = {},
  installation: Partial<Parameters<typeof mayReadMetrics>[1]> = {},
): boolean {
  const { method = 'GET', peer = '127.0.0.1', headers = {} } = asked
  const doors = {
    requireOperator: () => {
      throw new Error('a token is needed')
    },
  } as unknown as Doors
  const request = {
    method,
    raw: { socket: { remoteAddress: peer } },
    headers: { host: 'localhost:3000', ...headers },
  } as unknown as FastifyRequest
  try {
    return mayReadMetrics(doors, { ...here, ...installation })(request)
  } catch {
    return false
  }
}

test('somebody on this machine reads the metrics without a token', () => {
  for (const host of ['localhost', 'localhost:3000', '127.0.0.1:3000', '[::1]:3000'])
    assert.ok(mayRead({ headers: { host } }), host)
  assert.ok(mayRead({ peer: '::1' }))
})

test('who comes from elsewhere, by another name, by another method or through a proxy needs a token', () => {
  for (const peer of ['127.0.0.2', '::ffff:127.0.0.1', '10.0.0.1']) assert.ok(!mayRead({ peer }), peer)
  for (const host of ['', 'evil.example', 'localhost.evil.example', '127.0.0.1.evil.example'])
    assert.ok(!mayRead({ headers: { host } }), host)
  assert.ok(!mayRead({ method: 'HEAD' }))
  const forwarding = [
    'forwarded',
    'x-forwarded-for',
    'x-forwarded-port',
    'x-forwarded-server',
    'x-real-ip',
    'via',
  ]
  for (const name of forwarding) assert.ok(!mayRead({ headers: { [name]: 'x' } }), name)
})

test('nobody reads without a token on mainnet, in production, behind proxies or beyond loopback', () => {
  assert.ok(!mayRead({}, { chain: 'mainnet' }))
  assert.ok(!mayRead({}, { nodeEnv: 'production' }))
  assert.ok(!mayRead({}, { trustedProxies: ['10.0.0.0/8'] }))
  assert.ok(!mayRead({}, { host: '0.0.0.0' }))
})
