export interface KitFacts {
  passphrase: string
  /** Description of the storage. */
  repository: string
  repositoryId: string
  recipient: string
  fingerprint: string
  signer: string
}

export type Language = 'en' | 'es'

/** The recovery kit as it is shown once, to be printed or kept in a password manager. */
export function kitText(kit: KitFacts, language: Language): string {
  return (language === 'es' ? spanish(kit) : english(kit)).join('\n')
}

function english(kit: KitFacts): string[] {
  return [
    'MOONYETIS RECOVERY KIT',
    'Print it, or keep it in a password manager: away from this machine and from the repository.',
    'Whoever has it can read the backups. Without it nobody can.',
    '',
    `  Passphrase    ${kit.passphrase}`,
    `  Repository    ${kit.repository}`,
    `  Its id        ${kit.repositoryId}`,
    `  Recovery key  ${kit.fingerprint}  ${kit.recipient}`,
    `  Signed by     ${kit.signer}`,
    '',
    'To restore on an empty machine, write the passphrase into a file of yours, then:',
    ...restoreCommand(kit, 'passphrase.txt', 'restored'),
    '',
    'Without this program: docs/backup-format.md tells how `age` and one small script open the backups.',
    '',
  ]
}

function spanish(kit: KitFacts): string[] {
  return [
    'KIT DE RECUPERACIÓN DE MOONYETIS',
    'Imprímalo o guárdelo en un gestor de contraseñas: lejos de esta máquina y del repositorio.',
    'Quien lo tenga puede leer las copias. Sin él no puede nadie.',
    '',
    `  Frase de paso    ${kit.passphrase}`,
    `  Repositorio      ${kit.repository}`,
    `  Su id            ${kit.repositoryId}`,
    `  Clave            ${kit.fingerprint}  ${kit.recipient}`,
    `  Firmado por      ${kit.signer}`,
    '',
    'Para restaurar en una máquina vacía, escriba la frase de paso en un archivo suyo y después:',
    ...restoreCommand(kit, 'frase.txt', 'restaurado'),
    '',
    'Sin este programa: docs/backup-format.md explica cómo `age` y un pequeño script abren las copias.',
    '',
  ]
}

function restoreCommand(kit: KitFacts, file: string, directory: string): string[] {
  return [
    `  export BACKUP_REPOSITORY=${kit.repository}`,
    `  export MOONYETIS_BACKUP__PASSPHRASE_FILE=$PWD/${file}`,
    `  npx moonyetis backup restore --to ${directory} --latest`,
  ]
}
