import type { Client } from './client.ts'
import type { History, Outcome, Payload } from './history.ts'

/** A round as GET /api/game/rounds shows it. */
export interface SeenRound {
  id: string
  nonce: number
  serverSeedHash: string
  clientSeed: string
  stops: number[]
  grid: string[][]
  wins: { line: number; symbol: string; count: number; payout: string }[]
  stake: string
  payout: string
  stakePerLine: string
  lines: number
  balanceAfter: string
}

/** What the server says of a player when all is quiet. */
export interface Books {
  client: string
  /** Newest first, all pages. */
  rounds: SeenRound[]
  balance: string
  seeds: { serverSeedHash: string; nextServerSeedHash: string; clientSeed: string; nonce: number }
}

/** A signed-in play-money player whose every spin and rotation goes into the history. */
export class Player {
  readonly name: string
  readonly token: string
  readonly #client: Client
  readonly #history: History

  constructor(o: { name: string; token: string; client: Client; history: History }) {
    this.name = o.name
    this.token = o.token
    this.#client = o.client
    this.#history = o.history
  }

  /** Throws when the server does not open one. */
  static async signIn(o: { name: string; client: Client; history: History }): Promise<Player> {
    const answer = await o.client.send({ method: 'POST', path: '/api/auth/demo' })
    if (answer.status !== 200) throw new Error(`sign-in answered ${answer.status} ${answer.body}`)
    return new Player({ ...o, token: (JSON.parse(answer.body) as { token: string }).token })
  }

  spin(key: string, payload: { stakePerLine: string; lines: number }): Promise<Outcome> {
    return this.#act('spin', '/api/game/spin', key, payload)
  }

  rotate(key: string, clientSeed: string): Promise<Outcome> {
    return this.#act('rotate', '/api/game/seeds/rotate', key, { clientSeed })
  }

  /** The same request once more. */
  repeat(call: { op: 'spin' | 'rotate'; key: string; payload: Payload }): Promise<Outcome> {
    const { op, key, payload } = call
    return this.#act(op, op === 'spin' ? '/api/game/spin' : '/api/game/seeds/rotate', key, payload)
  }

  async books(): Promise<Books> {
    const session = await this.#read<{ player: { balance: string } }>('/api/auth/session')
    const seeds = await this.#read<Books['seeds']>('/api/game/seeds')
    return { client: this.name, rounds: await this.#rounds(), balance: session.player.balance, seeds }
  }

  async #rounds(): Promise<SeenRound[]> {
    const rounds: SeenRound[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const after: string = cursor === '' ? '' : `&cursor=${cursor}`
      const page: { rounds: SeenRound[]; nextCursor: string | null } = await this.#read(
        `/api/game/rounds?limit=200${after}`,
      )
      rounds.push(...page.rounds)
      cursor = page.nextCursor
    }
    return rounds
  }

  async #read<T>(path: string): Promise<T> {
    const answer = await this.#client.json(path, { token: this.token })
    if (answer.status !== 200)
      throw new Error(`${this.name}: ${path} answered ${answer.status} ${answer.body}`)
    return JSON.parse(answer.body) as T
  }

  #act(op: 'spin' | 'rotate', path: string, key: string, payload: Payload): Promise<Outcome> {
    return this.#history.record({ client: this.name, op, key, payload }, async () => {
      try {
        const answer = await this.#client.json(path, { body: payload, token: this.token, key })
        return outcomeOf(answer)
      } catch (error) {
        return { kind: 'unknown', cause: (error as NodeJS.ErrnoException).code ?? (error as Error).message }
      }
    })
  }
}

function outcomeOf(answer: Awaited<ReturnType<Client['send']>>): Outcome {
  const { status, body, headers } = answer
  if (status >= 200 && status < 300)
    return { kind: 'ok', status, body, replayed: headers['idempotent-replayed'] === 'true' }
  const { code = 'NO_CODE' } = JSON.parse(body || '{}') as { code?: string }
  return status < 500 ? { kind: 'refused', status, code } : { kind: 'unknown', cause: `${status} ${code}` }
}
