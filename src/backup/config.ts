import Type from 'typebox'
import { defineSlice } from '#lib/config.ts'

/** Where backups go, what is kept, and how the write-ahead log is archived. */
export const backupSlice = defineSlice({
  name: 'backup',
  schema: Type.Object({
    databaseUrl: Type.Optional(
      Type.String({
        description:
          'External topology: the URL by which the archive connects, as a role with REPLICATION; without it DATABASE_URL.',
      }),
    ),
    repository: Type.Optional(
      Type.String({
        description:
          'file:///directory or s3://bucket/prefix; without it the directory backups of the home. Another disk or another place survives more.',
      }),
    ),
    s3Endpoint: Type.Optional(
      Type.String({ description: 'URL of an S3-compatible store; without it Amazon S3 of s3Region.' }),
    ),
    s3Region: Type.String({ default: 'us-east-1', description: 'Region that requests are signed for.' }),
    s3AccessKeyId: Type.Optional(Type.String({ description: 'Access key id of the store.' })),
    s3SecretAccessKey: Type.Optional(Type.String({ description: 'Secret access key of the store.' })),
    walMode: Type.Union([Type.Literal('async'), Type.Literal('sync')], {
      default: 'async',
      description:
        'sync: a bet is acknowledged only when the WAL archive has it on disk too (recovery point zero); async: a moment later.',
    }),
    spool: Type.Optional(
      Type.String({
        description:
          'Directory where the WAL archive keeps what is not in the repository yet; without it wal-spool of the home. Best on another disk than PostgreSQL.',
      }),
    ),
    spoolLimitMegabytes: Type.Integer({
      default: 4096,
      minimum: 64,
      maximum: 1048576,
      description:
        'How much WAL the spool may hold while the repository is away; beyond it PostgreSQL keeps the rest.',
    }),
    slotKeepMegabytes: Type.Integer({
      default: 8192,
      minimum: 256,
      maximum: 1048576,
      description:
        'How much WAL PostgreSQL keeps for an absent archive (max_slot_wal_keep_size) before it gives the archive up.',
    }),
    tailSeconds: Type.Integer({
      default: 10,
      minimum: 1,
      maximum: 3600,
      description: 'How often the open WAL segment is stored in the repository, in seconds.',
    }),
    canarySeconds: Type.Integer({
      default: 10,
      minimum: 1,
      maximum: 3600,
      description: 'How often the canary row is written that restores are measured by, in seconds.',
    }),
    schedule: Type.String({
      default: '0 2 * * *',
      description: 'Cron expression of the daily full backup, in the time zone of timezone; empty for none.',
    }),
    firstAfterSeconds: Type.Integer({
      default: 60,
      minimum: 0,
      maximum: 86400,
      description: 'A database without any backup gets its first one this long after the start, in seconds.',
    }),
    drillSchedule: Type.String({
      default: '0 4 * * 0',
      description: 'Cron expression of the restore drill; empty for none.',
    }),
    verifySchedule: Type.String({
      default: '0 3 * * *',
      description: 'Cron expression of the repository check that comes before pruning; empty for none.',
    }),
    verifyEveryDays: Type.Integer({
      default: 7,
      minimum: 1,
      maximum: 365,
      description:
        'The scheduled check reads new backups at once and every other object once in so many days.',
    }),
    timezone: Type.String({ default: 'UTC', description: 'IANA time zone of the schedules.' }),
    keepDays: Type.Integer({
      default: 14,
      minimum: 1,
      maximum: 3650,
      description: 'Recovery window: any moment of this many days can be restored.',
    }),
    keepAtLeast: Type.Integer({
      default: 2,
      minimum: 1,
      maximum: 1000,
      description: 'Verified database backups that are kept however old they are.',
    }),
    keepFilesDays: Type.Integer({
      default: 30,
      minimum: 1,
      maximum: 3650,
      description: 'How long backups of files alone are kept, in days.',
    }),
    keepFilesAtLeast: Type.Integer({
      default: 2,
      minimum: 1,
      maximum: 1000,
      description: 'Backups of files alone that are kept however old they are.',
    }),
    threads: Type.Integer({
      default: 2,
      minimum: 1,
      maximum: 64,
      description: 'Worker threads that compress and encrypt, or decrypt and unpack.',
    }),
    identityFile: Type.Optional(
      Type.String({
        description: 'File with the recovery identity (AGE-SECRET-KEY-...), for restores of older backups.',
      }),
    ),
    passphrase: Type.Optional(
      Type.String({
        description:
          'Recovery passphrase, for restores without the identity; best given by its _FILE variable.',
      }),
    ),
    scratch: Type.Optional(
      Type.String({
        description:
          'Directory for restore drills, as large as the database; without it scratch of the home.',
      }),
    ),
  }),
  env: { repository: 'BACKUP_REPOSITORY', s3Endpoint: 'S3_ENDPOINT', timezone: 'TIMEZONE' },
  secrets: ['databaseUrl', 's3SecretAccessKey', 's3AccessKeyId', 'passphrase'],
})
