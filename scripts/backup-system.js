// The name that the Phase 2 guide gives to `moonyetis backup full`, `db` and `schedule`.
process.argv.splice(2, 0, 'backup')
await import('../bin/moonyetis.mjs')
