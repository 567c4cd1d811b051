/**
 * Started by s3-server.ts as a process of its own: s3rver, a server of the S3 protocol that checks version 4 signatures,
 * with our proxy in front. The proxy adds what s3rver lacks: If-None-Match: *, the check of x-amz-content-sha256, ranges
 * that are right at an object's ends, one change at a time so that no half-written object is seen; and it lets requests
 * fail as it was told to.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
// @ts-expect-error: it brings no types
import S3rver from '@20minutes/s3rver'
import type { Fault, ServerSetup } from './s3-server.ts'

interface Answer {
  status: number
  headers: http.IncomingHttpHeaders
  body: Buffer
}

type Planned = Fault & { left: number }

const setup: ServerSetup = JSON.parse(process.argv[2] as string)
const planned: Planned[] = []
const seen: string[] = []

const s3rver = new S3rver({
  address: '127.0.0.1',
  port: 0,
  silent: true,
  directory: setup.directory,
  configureBuckets: [{ name: setup.bucket, configs: [] }],
})
const { port: upstreamPort }: AddressInfo = await s3rver.run()

const proxy = http.createServer((request, response) => {
  answer(request, response).catch(error => {
    // A client that went away in the middle is what most tests are about.
    if (!request.destroyed) process.stderr.write(`s3 proxy: ${error.stack}\n`)
    response.destroy()
  })
})
proxy.listen(0, '127.0.0.1')
await once(proxy, 'listening')
process.on('message', (message: { id: number; name: string; argument: unknown }) => {
  process.send?.({ id: message.id, result: obey(message) })
})
// Without the test there is nothing to serve.
process.on('disconnect', () => process.exit())
process.send?.({ id: 0, result: (proxy.address() as AddressInfo).port })

function obey({ name, argument }: { name: string; argument: unknown }): unknown {
  if (name === 'inject') planned.push({ ...(argument as Fault), left: (argument as Fault).times ?? 1 })
  if (name === 'clear') planned.length = 0
  return name === 'seen' ? seen.splice(0) : undefined
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  seen.push(`${request.method} ${request.url}`)
  const fault = faultFor(request)
  if (fault?.kind === 'error' && fault.early) return send(response, errorAnswer(fault))
  const body = await buffer(request)
  if (fault?.kind === 'stall') return
  if (fault?.kind === 'drop') return void response.destroy()
  if (fault?.kind === 'error' && !fault.applied) return send(response, errorAnswer(fault))
  const given = await oneAtATime(() => apply(request, body))
  if (fault?.kind === 'drop-applied') return void response.destroy()
  if (fault?.kind === 'error') return send(response, errorAnswer(fault))
  if (fault?.kind === 'truncate') {
    const short = given.body.subarray(0, fault.bytes)
    return send(response, {
      ...given,
      headers: { ...given.headers, 'content-length': `${short.length}` },
      body: short,
    })
  }
  response.writeHead(given.status, given.headers)
  if (fault?.kind === 'slow') return drip(response, given.body, fault)
  if (fault?.kind !== 'cut' && fault?.kind !== 'stall-body') return void response.end(given.body)
  response.write(given.body.subarray(0, fault.bytes), () => {
    if (fault.kind === 'cut') response.destroy()
  })
}

async function drip(
  response: ServerResponse,
  body: Buffer,
  { bytes, everyMs }: { bytes: number; everyMs: number },
): Promise<void> {
  for (let at = 0; at < body.length && !response.destroyed; at += bytes) {
    response.write(body.subarray(at, at + bytes))
    await delay(everyMs)
  }
  response.end()
}

function faultFor(request: IncomingMessage): Planned | undefined {
  const fault = planned.find(
    one =>
      one.left > 0 &&
      (one.method === undefined || one.method === request.method) &&
      (one.url === undefined || request.url?.includes(one.url)),
  )
  if (fault) fault.left--
  return fault
}

let last: Promise<unknown> = Promise.resolve()

function oneAtATime<T>(work: () => Promise<T>): Promise<T> {
  const mine = last.then(work)
  last = mine.catch(() => {})
  return mine
}

async function apply(request: IncomingMessage, body: Buffer): Promise<Answer> {
  const announced = request.headers['x-amz-content-sha256']
  if (announced !== undefined && announced !== createHash('sha256').update(body).digest('hex'))
    return errorAnswer({ status: 400, code: 'XAmzContentSHA256Mismatch' })
  if (request.method === 'PUT' && request.headers['if-none-match'] === '*') {
    if (setup.conditions === 'unknown') return errorAnswer({ status: 501, code: 'NotImplemented' })
    if (setup.conditions === 'kept' && existsSync(fileOf(request.url as string)))
      return errorAnswer({ status: 412, code: 'PreconditionFailed' })
  }
  const { range, ...headers } = request.headers
  const whole = await forward(request, headers, body)
  return request.method === 'GET' && range && whole.status === 200 ? partOf(whole, range) : whole
}

/** RFC 9110, 14; of one range with a beginning. */
function partOf(whole: Answer, range: string): Answer {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range) ?? []
  const size = whole.body.length
  const from = Number(first)
  if (from >= size) return errorAnswer({ status: 416, code: 'InvalidRange' })
  const body = whole.body.subarray(from, last ? Number(last) + 1 : size)
  const range206 = {
    'content-length': `${body.length}`,
    'content-range': `bytes ${from}-${from + body.length - 1}/${size}`,
  }
  return { status: 206, headers: { ...whole.headers, ...range206 }, body }
}

/** Where s3rver keeps the object. */
function fileOf(url: string): string {
  return `${join(setup.directory, decodeURIComponent(new URL(url, 'http://localhost').pathname))}._S3rver_object`
}

async function forward(
  { method, url }: IncomingMessage,
  headers: http.IncomingHttpHeaders,
  body: Buffer,
): Promise<Answer> {
  const outgoing = http.request({ host: '127.0.0.1', port: upstreamPort, method, path: url, headers })
  outgoing.end(body)
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
  const { connection: _, 'transfer-encoding': chunked, ...rest } = incoming.headers
  const answered = await buffer(incoming)
  const length = chunked ? { 'content-length': String(answered.length) } : {}
  return { status: incoming.statusCode as number, headers: { ...rest, ...length }, body: answered }
}

function errorAnswer({ status, code }: { status: number; code?: string | undefined }): Answer {
  const document = code
    ? `<?xml version="1.0"?><Error><Code>${code}</Code><Message>As told</Message></Error>`
    : ''
  const body = Buffer.from(document)
  return { status, headers: { 'content-type': 'application/xml', 'content-length': `${body.length}` }, body }
}

function send(response: ServerResponse, given: Answer): void {
  response.writeHead(given.status, given.headers)
  response.end(given.body)
}
