/** application_name of the WAL archive in the synchronous set. */
export const archiveMember = 'archive'

/**
 * `node-b` for node_b, as it announces itself to its primary, so that synchronous_standby_names needs no quotes; undefined
 * for the archive, which holds WAL and no data.
 */
export function nodeOfMember(member: string): string | undefined {
  return member === archiveMember ? undefined : member.replaceAll('_', '-')
}

/** For sentences. */
export function inWords(members: readonly string[]): string {
  return members.map(member => (member === archiveMember ? 'the archive' : member)).join(' and ')
}

const plainName = /^[a-z][a-z0-9_]{0,62}$/

/**
 * The value of synchronous_standby_names: every member of the list must confirm, so the number is always the length of
 * the list and the word never ANY, by which a commit could be confirmed by a member that is not promoted later.
 */
export function formatNames(members: readonly string[]): string {
  if (members.length === 0) return ''
  for (const member of members)
    if (!plainName.test(member)) throw new TypeError(`${member} is no name of a member`)
  return `FIRST ${members.length} (${members.join(', ')})`
}

/** The members of a value that formatNames could have written; undefined for any other. */
export function parseNames(value: string): string[] | undefined {
  if (value === '') return []
  const [, count, list = ''] = /^FIRST (\d{1,3}) \(([a-z0-9_, ]+)\)$/.exec(value) ?? []
  const members = list.split(', ')
  const isOurs = Number(count) === members.length && members.every(member => plainName.test(member))
  return isOurs ? members : undefined
}
