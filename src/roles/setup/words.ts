import type { RecoveryKit } from '#backup/keys/setup.ts'

export type Language = 'en' | 'es'

/** The kit in each language, one below the other, with what to do with it. */
export function kitPages(kit: RecoveryKit, languages: readonly Language[]): string {
  const rule = '-'.repeat(78)
  const pages = languages.map(language => `${rule}\n${kit.text(language).trimEnd()}\n\n${advice[language]}`)
  return [...pages, rule].join('\n')
}

const advice: Record<Language, string> = {
  en: 'This is shown once, now. Keep two copies in two places, neither of them on this server.',
  es: 'Esto se muestra una sola vez, ahora. Guarda dos copias en dos lugares, ninguna en este servidor.',
}

/** What is asked after the kit was shown; the dash is where the group begins. */
export function confirmationQuestion(languages: readonly Language[]): string {
  const both = languages.map(
    language =>
      ({
        en: 'Written down? Type the last group of the passphrase (what follows its last dash)',
        es: '¿Anotada? Escribe el último grupo de la frase (lo que sigue a su último guion)',
      })[language],
  )
  return `${both.join('\n')}: `
}

/** Whether what was typed is the last group, as a passphrase is compared: case does not matter, O is 0, I and L are 1. */
export function isLastGroup(typed: string, passphrase: string): boolean {
  const group = passphrase.split('-').at(-1) ?? passphrase
  return plain(typed) === plain(group)
}

function plain(text: string): string {
  return text.trim().toUpperCase().replace(/^-/, '').replaceAll('O', '0').replace(/[IL]/g, '1')
}

/** `en`, `es` or `both`; undefined for anything else. */
export function languagesOf(given: string): Language[] | undefined {
  if (given === 'both') return ['en', 'es']
  return given === 'en' || given === 'es' ? [given] : undefined
}
