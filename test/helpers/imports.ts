/** One import or re-export as it is written. */
export interface ImportStatement {
  specifier: string
  /** Erased before the program runs; still an arrow. */
  typeOnly: boolean
  /** `import('…')`, whose target is loaded only when that line runs. */
  dynamic: boolean
}

/**
 * The imports of a TypeScript module. A scanner first takes comments and strings out, so that nothing in a text is taken
 * for code; expressions then read what is left. Throws on `import(…)` of anything but a plain string: such an import
 * could be no arrow that anybody checks.
 */
export function importsOf(source: string): ImportStatement[] {
  const { code, strings } = withoutTexts(source)
  const textOf = (place: string | undefined) => strings[Number(place)] as string
  const fixed = [...code.matchAll(staticImport)].map(([, , type, place]) => {
    return { specifier: textOf(place), typeOnly: type !== undefined, dynamic: false }
  })
  const dynamic = [...code.matchAll(dynamicImport)].map(([whole, place]) => {
    if (place === undefined) throw new SyntaxError(`an import of something that is no plain string: ${whole}`)
    return { specifier: textOf(place), typeOnly: false, dynamic: true }
  })
  return [...fixed, ...dynamic]
}

// Strings stand in the code as "0", "1", …: places in the list of their texts.
const staticImport =
  /(?<![\w$.])(import|export)\b(\s+type\b(?!\s+from\b|\s*,))?(?:(?!\b(?:import|export)\b)[\w$\s{},*])*?(?<=\bfrom\s*|\bimport\s*)"(\d+)"/g
const dynamicImport = /(?<![\w$.])import\s*\(\s*(?:"(\d+)"\s*[,)])?/g

interface Scan {
  /** The source with each string replaced by its place and each comment, template text and expression by a space. */
  code: string
  strings: string[]
}

// In this order: a comment, a quoted string, a regular expression where a value may begin, a template's parts.
const comment = /\/\/[^\n]*|\/\*[\s\S]*?\*\//y
const quoted = /'((?:[^'\\\n]|\\.)*)'|"((?:[^"\\\n]|\\.)*)"/y
const regularExpression = /\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y
const templateText = /(?:[^`\\$]|\\[\s\S]|\$(?!\{))*/y
// What a value may follow. A division follows a name, a number or a closing bracket.
const beforeValue = /(?:^|[(,=:[!&|?{};+\-*%~^<>]|\b(?:return|typeof|case|in|of|await|yield|throw|new))\s*$/

function withoutTexts(source: string): Scan {
  const strings: string[] = []
  // One entry per open template: how many braces are open in its present ${…}.
  const templates: number[] = []
  let code = ''
  let at = 0
  const take = (expression: RegExp): RegExpExecArray | null => {
    expression.lastIndex = at
    const found = expression.exec(source)
    if (found) at = expression.lastIndex
    return found
  }
  // From inside a template's text to the end of the template or into its next ${…}.
  const readTemplate = (): void => {
    take(templateText)
    if (source[at] === '`') at++
    else if (source[at] === '$') {
      at += 2
      templates.push(0)
    }
    code += ' '
  }
  while (at < source.length) {
    const string = source[at] === "'" || source[at] === '"' ? take(quoted) : null
    if (string) {
      strings.push(string[1] ?? string[2] ?? '')
      code += `"${strings.length - 1}"`
    } else if (source[at] === '/' && (take(comment) || (beforeValue.test(code) && take(regularExpression)))) {
      code += ' '
    } else if (source[at] === '`') {
      at++
      readTemplate()
    } else if (source[at] === '}' && templates.at(-1) === 0) {
      at++
      templates.pop()
      readTemplate()
    } else {
      const open = templates.length - 1
      if (open >= 0 && source[at] === '{') templates[open] = (templates[open] as number) + 1
      if (open >= 0 && source[at] === '}') templates[open] = (templates[open] as number) - 1
      code += source[at]
      at++
    }
  }
  return { code, strings }
}
