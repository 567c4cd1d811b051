import type { AddVerb } from '../program.ts'

export function addArchive(add: AddVerb): void {
  add({
    name: 'archive',
    summary:
      'run the role that archives the write-ahead log and takes backups when they are due (part of up)',
    examples: ['npx moonyetis archive', 'BACKUP_REPOSITORY=s3://bucket/slots npx moonyetis archive'],
    run: async context => {
      const { archive } = await import('../archive.ts')
      await archive(context)
    },
  })
}
