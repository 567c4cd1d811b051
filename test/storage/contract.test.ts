import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { pathToFileURL } from 'node:url'
import { silentLog } from '#lib/log.ts'
import { openStorage } from '#storage/open.ts'
import { storageContract } from '#test/storage/contract.ts'
import { faulty } from '#test/storage/faulty.ts'
import { startS3 } from '#test/storage/s3-server.ts'

const directory = mkdtempSync(join(tmpdir(), 'my storage '))
after(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }))
const s3 = startS3({ after })

const openDisk = (name: string) =>
  openStorage({ url: pathToFileURL(join(directory, name)).href, log: silentLog })

storageContract('a directory', () => openDisk('plain'))

storageContract('a directory behind the faults of tests', async () => faulty(await openDisk('faulty')))

storageContract('an S3 bucket', async () => {
  const { url, options } = await s3
  return openStorage({ url, s3: options, log: silentLog })
})
