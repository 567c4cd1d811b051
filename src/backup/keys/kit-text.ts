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
    ...(isBucket(kit)
      ? ['The address and the access keys of the store are not in here: keep them beside it.']
      : []),
    '',
    'What to type in every case, also without this program, is in docs/runbooks/restore.md.',
    '',
  ]
}

function spanish(kit: KitFacts): string[] {
  return [
    'KIT DE RECUPERACIÓN DE MOONYETIS',
    'Imprímelo o guárdalo en un gestor de contraseñas: lejos de esta máquina y del repositorio.',
    'Quien lo tenga puede leer las copias. Sin él no puede nadie.',
    '',
    `  Frase            ${kit.passphrase}`,
    `  Repositorio      ${kit.repository}`,
    `  Su id            ${kit.repositoryId}`,
    `  Clave            ${kit.fingerprint}  ${kit.recipient}`,
    `  Firmado por      ${kit.signer}`,
    '',
    'Para restaurar en una máquina vacía, escribe la frase en un archivo tuyo y después:',
    ...restoreCommand(kit, 'frase.txt', 'restaurado'),
    ...(isBucket(kit)
      ? ['La dirección y las claves de acceso del almacén no están aquí: guárdalas junto a él.']
      : []),
    '',
    'Qué escribir en cada caso, también sin este programa, está en docs/runbooks/restore.es.md.',
    '',
  ]
}

function isBucket({ repository }: KitFacts): boolean {
  return repository.startsWith('s3:')
}

function restoreCommand(kit: KitFacts, file: string, directory: string): string[] {
  return [
    `  export BACKUP_REPOSITORY=${kit.repository}`,
    `  export MOONYETIS_BACKUP__PASSPHRASE_FILE=$PWD/${file}`,
    `  npx moonyetis backup restore --to ${directory} --latest`,
  ]
}
