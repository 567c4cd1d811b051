import { userInfo } from 'node:os'
import { commonFailure } from '#lib/errors.ts'
import type { Home } from '#lib/home.ts'
import { type OperatorRole, operatorRoles } from './operator-store.ts'
import { Operators, type TokenInfo } from './operators.ts'
import type { AuditTrail } from './refusals.ts'

/** What a verb is given; part of the command line's own context. */
export interface TokenContext {
  openHome(): Home
  json: boolean
  print(line: string): void
}

/** A verb in the form that the command line takes. */
export interface TokenVerb {
  name: string
  summary: string
  examples: readonly string[]
  options?: readonly (readonly [string, string])[]
  args?: readonly (readonly [string, string])[]
  run(context: TokenContext, options: Record<string, unknown>, args: string[]): Promise<void>
}

export interface TokenVerbsOptions {
  /** The journal of this home; closed again when the verb is done. */
  openAudit(home: Home): AuditTrail & { close(): void }
}

/** token create|list|revoke. They write the same file that `serve` reads, so they work with and without it. */
export function tokenVerbs({ openAudit }: TokenVerbsOptions): TokenVerb[] {
  const withOperators = async (context: TokenContext, work: (operators: Operators) => void) => {
    const home = context.openHome()
    const audit = openAudit(home)
    // No session is made here, so how long one would last does not matter.
    const operators = new Operators({ home, audit, config: { operatorSessionHours: 1 } })
    try {
      work(operators)
    } finally {
      operators.close()
      audit.close()
    }
  }
  return [
    {
      name: 'token create',
      summary: 'make an operator token and show it once',
      examples: [
        'npx moonyetis token create --role operator --label "Ana, night shift" --days 90',
        'npx moonyetis token create --role metrics --json',
      ],
      options: [
        ['--role <role>', `${operatorRoles.join(', ')}: each may do what those after it may`],
        ['--label <text>', 'what or whom it is for'],
        ['--days <n>', 'ends after this many days (default: never)'],
      ],
      run: (context, options) => withOperators(context, operators => create(context, operators, options)),
    },
    {
      name: 'token list',
      summary: 'list operator tokens, newest first, without their secrets',
      examples: ['npx moonyetis token list', 'npx moonyetis token list --json'],
      run: context => withOperators(context, operators => list(context, operators)),
    },
    {
      name: 'token revoke',
      summary: 'end an operator token and its sessions at once',
      examples: ['npx moonyetis token revoke 3f9a1c04d27e'],
      args: [['<id>', 'as in token list']],
      run: (context, _options, [id = '']) =>
        withOperators(context, operators => revoke(context, operators, id)),
    },
  ]
}

function create(context: TokenContext, operators: Operators, options: Record<string, unknown>): void {
  const role = roleOf(options.role)
  const label = labelOf(options.label)
  const days = daysOf(options.days)
  const made = operators.createToken({
    role,
    actor: actor(),
    ...(label === undefined ? {} : { label }),
    ...(days === undefined ? {} : { days }),
  })
  const end = made.expiresAt === undefined ? 'until it is revoked' : `until ${made.expiresAt.toISOString()}`
  const text = [made.token, `Token ${made.id}, role ${made.role}, valid ${end}. It is not shown again.`]
  printLines(context, made, text)
}

function list(context: TokenContext, operators: Operators): void {
  const tokens = operators.listTokens()
  printLines(context, { tokens }, tokens.length === 0 ? ['There are no operator tokens.'] : table(tokens))
}

function table(tokens: readonly TokenInfo[]): string[] {
  const rows = [['ID', 'ROLE', 'STATE', 'CREATED', 'ENDS', 'LABEL'], ...tokens.map(columns)]
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map(row => row[i]?.length ?? 0))) ?? []
  return rows.map(row =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

function columns(token: TokenInfo): string[] {
  const { id, role, state, createdAt, expiresAt, label } = token
  return [id, role, state, minute(createdAt), expiresAt === undefined ? 'never' : minute(expiresAt), label]
}

function minute(time: Date): string {
  return `${time.toISOString().slice(0, 16).replace('T', ' ')}Z`
}

function revoke(context: TokenContext, operators: Operators, id: string): void {
  const token = operators.revokeToken(id, actor())
  printLines(context, token, [`Token ${token.id} is revoked; its sessions have ended.`])
}

/** The document with --json, else the text. */
function printLines(context: TokenContext, document: object, text: readonly string[]): void {
  for (const line of context.json ? [JSON.stringify(document)] : text) context.print(line)
}

function roleOf(given: unknown): OperatorRole {
  const role = operatorRoles.find(one => one === given)
  if (role !== undefined) return role
  const reason = given === undefined ? 'is missing' : `cannot be ${JSON.stringify(given)}`
  throw commonFailure('USAGE', { reason: `--role ${reason}: give ${operatorRoles.join(', ')}` })
}

const longestLabel = 100

function labelOf(given: unknown): string | undefined {
  if (given === undefined) return undefined
  const label = String(given)
  // Control characters could rewrite the terminal of whoever lists tokens.
  if (label.length <= longestLabel && label.isWellFormed() && !/\p{Cc}/u.test(label)) return label
  throw commonFailure('USAGE', { reason: `--label must be at most ${longestLabel} printable characters` })
}

function daysOf(given: unknown): number | undefined {
  if (given === undefined) return undefined
  const days = /^[0-9]{1,4}$/.test(String(given)) ? Number(given) : 0
  if (days >= 1 && days <= 3650) return days
  throw commonFailure('USAGE', { reason: '--days must be a whole number from 1 to 3650' })
}

/** Who sits at this machine, for the journal. */
function actor(): string {
  try {
    return `cli:${userInfo().username}`
  } catch {
    // A uid without an entry in the password database.
    return `cli:uid ${process.getuid?.()}`
  }
}
