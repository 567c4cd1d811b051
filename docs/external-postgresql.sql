-- What MoonYetis needs of a PostgreSQL that somebody else runs, version 15 or newer. Its administrator runs this once, as
-- a superuser, before the first `moonyetis migrate`; running it again changes nothing:
--   psql -h db.example -U postgres -f docs/external-postgresql.sql
-- Passwords and pg_hba.conf are the administrator's, as usual there. The WAL archive needs two lines of pg_hba.conf more
-- than the others, one of them for the database named replication:
--   hostssl replication      moonyetis_replication  10.0.0.0/8  scram-sha-256
--   hostssl moonyetis_slots  moonyetis_replication  10.0.0.0/8  scram-sha-256
-- and these settings: wal_level = replica, max_wal_senders and max_replication_slots with one to spare,
-- max_slot_wal_keep_size = 8GB (or what its disk can keep while the archive is away). The archive makes its slot,
-- moonyetis_archive, by itself.

\set ON_ERROR_STOP on

-- Owner migrates, application plays, monitor and user read, replication streams the log and takes backups.
SELECT format('CREATE ROLE %I LOGIN', name)
  FROM unnest(ARRAY['moonyetis_owner', 'moonyetis_app', 'moonyetis_monitor', 'moonyetis_user', 'moonyetis_replication']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE moonyetis_replication REPLICATION;
GRANT pg_monitor TO moonyetis_monitor;
GRANT pg_read_all_stats TO moonyetis_user;
SELECT 'CREATE DATABASE moonyetis_slots OWNER moonyetis_owner TEMPLATE template0'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'moonyetis_slots') \gexec

\connect moonyetis_slots

-- Nobody else connects, and nobody who plays or reads makes temporary tables.
REVOKE ALL ON DATABASE moonyetis_slots FROM PUBLIC;
GRANT CONNECT ON DATABASE moonyetis_slots
  TO moonyetis_owner, moonyetis_app, moonyetis_monitor, moonyetis_user, moonyetis_replication;
ALTER SCHEMA public OWNER TO moonyetis_owner;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- Who may only read may make no large object, and take no advisory lock: all play stands still behind one of them.
DO $$
DECLARE one regprocedure;
BEGIN
  FOR one IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
              AND proname ~ '^(lo_creat|lo_create|lo_from_bytea|pg_(try_)?advisory_.*)$' LOOP
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', one);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO moonyetis_owner', one);
  END LOOP;
END $$;

-- `moonyetis restore-point NAME`. What the archive writes besides, its canary, is granted by the migrations.
GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text) TO moonyetis_replication;
