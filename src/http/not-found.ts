import type { FastifyReply, FastifyRequest } from 'fastify'
import { commonFailure } from '#lib/errors.ts'
import { sendFailure } from './problems.ts'

/** Which methods each route pattern takes; fed by onRoute, asked only when nothing matched. */
export class RouteTable {
  readonly #methods = new Map<string, Set<string>>()

  add(pattern: string, methods: readonly string[]): void {
    const known = this.#methods.get(pattern) ?? new Set()
    for (const method of methods) known.add(method)
    this.#methods.set(pattern, known)
  }

  /** Methods of all patterns that the path fits, sorted; empty when none does. */
  methodsFor(path: string): string[] {
    const steps = path.split('/')
    const found = new Set<string>()
    for (const [pattern, methods] of this.#methods) {
      if (fits(pattern.split('/'), steps)) for (const method of methods) found.add(method)
    }
    return [...found].sort()
  }
}

/** 405 with Allow for a known path, 404 for the rest. */
export function createNotFoundHandler(routes: RouteTable) {
  return (request: FastifyRequest, reply: FastifyReply): void => {
    const path = request.raw.url?.split('?', 1)[0] ?? ''
    const allow = routes.methodsFor(path).join(', ')
    const failure =
      allow === ''
        ? commonFailure('NOT_FOUND', { what: 'such path' })
        : commonFailure('METHOD_NOT_ALLOWED', { path: 'This path', method: request.method, allow })
    sendFailure(reply, failure)
  }
}

function fits(pattern: readonly string[], steps: readonly string[]): boolean {
  if (pattern.at(-1) === '*' && steps.length >= pattern.length) {
    return pattern.slice(0, -1).every((part, i) => fitsStep(part, steps[i] as string))
  }
  return pattern.length === steps.length && pattern.every((part, i) => fitsStep(part, steps[i] as string))
}

function fitsStep(part: string, step: string): boolean {
  return part.includes(':') ? step !== '' : part === step
}
