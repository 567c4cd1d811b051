import { Journal } from '#audit/journal.ts'
import { tokenVerbs } from '#identity/commands.ts'
import type { AddVerb } from '../program.ts'

export function addToken(add: AddVerb): void {
  for (const verb of tokenVerbs({ openAudit: home => new Journal({ home }) })) add(verb)
}
