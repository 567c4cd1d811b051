/** A Markdown table; a bar or a line break in a cell would end it. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cellText).join(' | ')} |`
  return [line(head), `|${head.map(() => ' --- |').join('')}`, ...rows.map(line)].join('\n')
}

export function code(text: string): string {
  return text === '' ? '' : `\`${text}\``
}

/** A page: title, where it comes from, then its parts, separated by empty lines. */
export function page(title: string, intro: string, parts: readonly string[]): string {
  return `${[`# ${title}`, '<!-- Made by `npm run docs`; changes here are lost. -->', intro, ...parts].join('\n\n')}\n`
}

function cellText(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', '<br>')
}
