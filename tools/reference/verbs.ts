import { verbs } from '#roles/commands.ts'
import type { VerbDescription } from '#roles/program.ts'
import { code, page, table } from './text.ts'

/** Every verb of the command line, in the order of --help. */
export function verbsPage(): string {
  const descriptions: VerbDescription[] = []
  for (const addSome of verbs) addSome(description => descriptions.push(description))
  const intro = `\`npx moonyetis VERB\`. All verbs take \`--json\` (one document, or one line per event), \`--home <dir>\` (default:
\`MOONYETIS_HOME\`, else \`.moonyetis\` beside the program) and \`--help\`. Exit numbers are those of [errors.md](errors.md).`
  return page('Command line', intro, descriptions.map(verbSection))
}

function verbSection({ name, summary, examples, args = [], options = [] }: VerbDescription): string {
  const heading = [name, ...args.map(([arg]) => arg)].join(' ')
  const rows = [...args, ...options].map(([flags, text]) => [code(flags), text])
  return [
    `## ${heading}`,
    sentence(summary),
    ...(rows.length > 0 ? [table(['Takes', 'What'], rows)] : []),
    `\`\`\`\n${examples.join('\n')}\n\`\`\``,
  ].join('\n\n')
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`
}
