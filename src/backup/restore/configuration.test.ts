import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cleaned } from './configuration.ts'

test('what belongs to the place of the original goes, the rest stays as it was', () => {
  const text = [
    '# a comment about archive_command',
    "archive_command = 'cp %p /elsewhere/%f'",
    "  Primary_Conninfo 'host=a password=secret'",
    'recovery_target_time = now',
    "include_dir = 'conf.d'",
    "include_if_exists = 'moonyetis.conf'",
    'work_mem = 8MB',
    'port=5433',
    "app.port = 'kept'",
    '',
  ].join('\n')
  const { text: kept, names } = cleaned(text)
  assert.deepEqual(names, [
    'archive_command',
    'primary_conninfo',
    'recovery_target_time',
    'include_dir',
    'port',
  ])
  assert.equal(
    kept,
    "# a comment about archive_command\ninclude_if_exists = 'moonyetis.conf'\nwork_mem = 8MB\napp.port = 'kept'\n",
  )
})
