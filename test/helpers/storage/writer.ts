/** Writes three objects over and over until it is killed, each writing of one byte value. */
import { silentLog } from '#lib/log.ts'
import { openStorage } from '#storage/open.ts'

const storage = await openStorage({ url: process.argv[2] as string, log: silentLog })
process.on('disconnect', () => process.exit())
process.send?.('writing')
for (let round = 0; ; round++)
  await storage.put(`deep/er/${round % 3}`, Array(3).fill(Buffer.alloc(1_000_000, round)))
