-- Who did what. Each role keeps its own journal in the home directory, chained by hash, and copies it here when the
-- database is up; (source, sequence) makes a repeated copy harmless.
CREATE TABLE audit_events (
  source        text        NOT NULL,
  sequence      bigint      NOT NULL,
  recorded_at   timestamptz NOT NULL,
  actor         text        NOT NULL,
  action        text        NOT NULL,
  target        text        NOT NULL,
  detail        jsonb       NOT NULL,
  previous_hash text        NOT NULL,
  hash          text        NOT NULL,
  PRIMARY KEY (source, sequence)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audit_events FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- events: a JSON array of objects with the columns above in camel case. Returns the highest sequence stored for source.
CREATE FUNCTION append_audit_events(source text, events jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  INSERT INTO audit_events (source, sequence, recorded_at, actor, action, target, detail, previous_hash, hash)
    SELECT append_audit_events.source, e."sequence", e."recordedAt", e.actor, e.action, e.target, e.detail,
           e."previousHash", e.hash
    FROM jsonb_to_recordset(events) AS e ("sequence" bigint, "recordedAt" timestamptz, actor text, action text,
      target text, detail jsonb, "previousHash" text, hash text)
    ON CONFLICT DO NOTHING;
  RETURN (SELECT max(a.sequence) FROM audit_events a WHERE a.source = append_audit_events.source);
END $$;
