// Reads `keep PLACE` and `done PLACE` from a test process; when that is gone, sweeps what it kept and did not finish.

import { createInterface } from 'node:readline'
import { sweep } from './places.ts'

const kept = new Set<string>()
for await (const line of createInterface({ input: process.stdin })) {
  const place = line.slice('keep '.length)
  if (line.startsWith('keep ')) kept.add(place)
  else kept.delete(place)
}
await Promise.allSettled([...kept].map(sweep))
