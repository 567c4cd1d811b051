// The name that the Phase 2 guide gives to `moonyetis setup`.
process.argv.splice(2, 0, 'setup')
await import('../bin/moonyetis.mjs')
