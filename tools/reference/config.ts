import { environmentName, type Slice } from '#lib/config.ts'
import { describeExpected } from '#lib/schema-text.ts'
import { slices } from '#roles/config.ts'
import { code, page, table } from './text.ts'

/** Every configuration key, by slice. */
export function configPage(): string {
  const intro = `Order: defaults < \`<home>/config.json\` < environment < flags. The file is one object per slice: \`{"http": {"port": 8080}}\`.
Every key also has an environment name of its own, built from slice and key (\`http.drainMs\` is
\`${environmentName('http', 'drainMs')}\`); where a short name exists too, the long one wins. An unknown key or
\`MOONYETIS_…__…\` name is refused with the nearest known one; so is a short name with a slip in it. A secret is
masked in \`config print\`, and its environment names also work with \`_FILE\` at the end, naming a file that holds it.
\`MOONYETIS_HOME\` names the home directory and is read before all of these.`
  return page('Configuration', intro, slices.map(sliceSection))
}

function sliceSection(slice: Slice): string {
  const rows = Object.entries(slice.schema.properties).map(([key, schema]) => {
    const { default: standard, description = '' } = schema as { default?: unknown; description?: string }
    const names = [slice.env?.[key], environmentName(slice.name, key)].filter(name => name !== undefined)
    const secret = slice.secrets?.includes(key) ? ' Secret.' : ''
    return [
      code(`${slice.name}.${key}`),
      names.map(code).join('\n'),
      describeExpected(schema),
      standard === undefined ? 'not set' : code(JSON.stringify(standard)),
      `${description}${secret}`,
    ]
  })
  return `## ${slice.name}\n\n${table(['Key', 'Environment', 'Is', 'Default', 'What for'], rows)}`
}
