-- The canary: one row that the WAL archive renews every few seconds. The newest one that comes back from a restore tells
-- how much was lost, and a drill that finds none after the end of its backup has replayed nothing.

CREATE TABLE canary (
  only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
  sequence bigint      NOT NULL,
  at       timestamptz NOT NULL,
  lsn      pg_lsn      NOT NULL
) WITH (fillfactor = 50);  -- Room for HOT updates.
COMMENT ON COLUMN canary.lsn IS 'Where the WAL stood before this update: a restore beyond it may hold the row, one that ends before it cannot.';
INSERT INTO canary (sequence, at, lsn) VALUES (0, now(), pg_current_wal_insert_lsn());

-- lsn: the end of the update's own record, so the commit follows right there. The commit waits for the local disk alone:
-- the archive that asks may be the very one that a synchronous commit waits for.
CREATE FUNCTION write_canary(OUT sequence bigint, OUT at timestamptz, OUT lsn pg_lsn)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  PERFORM set_config('synchronous_commit', 'local', true);
  UPDATE canary c SET sequence = c.sequence + 1, at = clock_timestamp(), lsn = pg_current_wal_insert_lsn()
    RETURNING c.sequence, c.at INTO STRICT write_canary.sequence, write_canary.at;
  lsn := pg_current_wal_insert_lsn();
END $$;

-- Archive and standbys: the canary and nothing else of what is in here.
GRANT USAGE ON SCHEMA public TO moonyetis_replication;
GRANT EXECUTE ON FUNCTION write_canary() TO moonyetis_replication;
GRANT SELECT ON canary TO moonyetis_monitor, moonyetis_user;
