import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { openHome } from '#lib/home.ts'
import { silentLog } from '#lib/log.ts'
import { openBackup } from '#roles/backup/open.ts'
import type { Context } from '#roles/program.ts'
import { startS3 } from '#test/storage/s3-server.ts'

test('a repository that is away is opened from memory within seconds', async t => {
  const s3 = await startS3(t)
  const root = mkdtempSync(join(tmpdir(), 'away-'))
  t.after(() => rmSync(root, { recursive: true, force: true }))
  const context = (name: string) =>
    ({
      homeRoot: join(root, name),
      openHome: () => openHome(join(root, name)),
      env: {
        BACKUP_REPOSITORY: s3.url,
        S3_ENDPOINT: s3.endpoint,
        MOONYETIS_BACKUP__S3_ACCESS_KEY_ID: s3.accessKeyId,
        MOONYETIS_BACKUP__S3_SECRET_ACCESS_KEY: s3.secretAccessKey,
      },
    }) as unknown as Context
  const open = (name: string) => openBackup(context(name), { for: 'write', log: silentLog })

  const first = await open('known')
  await first[Symbol.asyncDispose]()
  await s3.faults.inject({ kind: 'error', status: 503, times: 100_000 })
  const beganMs = performance.now()
  const second = await open('known')
  assert(performance.now() - beganMs < 15_000)
  assert.equal(second.repository.id, first.repository.id)
  await s3.faults.clear()
  const key = await second.repository.newDataKey()
  assert(await second.storage.head(`keys/${key.id}/${(await keysOf(second.storage, key.id))[0]}`))
  await second[Symbol.asyncDispose]()
})

async function keysOf(storage: { list(prefix: string): AsyncIterable<{ key: string }> }, id: string) {
  const names: string[] = []
  for await (const { key } of storage.list(`keys/${id}/`)) names.push(key.split('/').at(-1) ?? '')
  return names
}
