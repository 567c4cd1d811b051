-- The ledger: accounts, append-only postings, idempotency keys.
-- Amounts are whole chips in bigint; 1 chip = 1 MOONYETIS = 10^18 base units.

-- Functions are executable by everyone unless told otherwise; here each right is granted by name (0007_grants.sql).
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- One row that says what this database is for. A server configured for another chain refuses to start on it.
CREATE TABLE installation (
  only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
  chain      text        NOT NULL CHECK (chain IN ('simulated', 'mainnet')),
  created_at timestamptz NOT NULL DEFAULT now()
);

-- House accounts have no balance row: a spin would turn it into the one row that every player waits for.
-- Their balance is derived from postings (view account_balances).
CREATE TABLE house_accounts (
  id      bigint PRIMARY KEY CHECK (id BETWEEN 1 AND 999),
  name    text   NOT NULL UNIQUE,
  purpose text   NOT NULL
);
INSERT INTO house_accounts (id, name, purpose) VALUES
  (1, 'house:gaming', 'Stakes come in, payouts go out.'),
  (2, 'house:demo_grants', 'Play money given to demo players; simulated chain only.');

CREATE SEQUENCE account_ids START 1000;

-- A player's chips. seed_pair_id and next_nonce live in this row, beside the balance, so that one row lock and one
-- update serve the money and the draw (docs/decisions/0004).
CREATE TABLE accounts (
  id           bigint      PRIMARY KEY DEFAULT nextval('account_ids') CHECK (id >= 1000),
  player_id    bigint      NOT NULL,
  balance      bigint      NOT NULL DEFAULT 0 CHECK (balance >= 0),
  seed_pair_id bigint,
  next_nonce   bigint      NOT NULL DEFAULT 0 CHECK (next_nonce >= 0),
  opened_at    timestamptz NOT NULL DEFAULT now(),
  kind         smallint    NOT NULL DEFAULT 1 CHECK (kind = 1),
  UNIQUE (player_id, kind)
) WITH (fillfactor = 50);  -- Room for HOT updates: no index names a column that a spin changes.
COMMENT ON COLUMN accounts.kind IS '1 = chips available to play. Holds and dust come with withdrawals and deposits.';

-- One number series for everything that moves money: rounds.id and postings.movement_id are the same series.
CREATE SEQUENCE movement_ids;

-- One posting moves an amount from a source to a destination, so the books balance by construction; the view entries
-- shows the same as signed double entries.
CREATE TABLE postings (
  movement_id bigint      NOT NULL,
  source      bigint      NOT NULL,
  destination bigint      NOT NULL,
  amount      bigint      NOT NULL CHECK (amount > 0),
  created_at  timestamptz NOT NULL DEFAULT now(),
  kind        smallint    NOT NULL CHECK (kind BETWEEN 1 AND 3),
  CHECK (source <> destination)
) PARTITION BY RANGE (movement_id);
COMMENT ON COLUMN postings.kind IS '1 = stake, 2 = payout, 3 = demo grant';
-- BRIN, not btree: movement ids grow with time, and one more btree entry is what a posting would mostly cost.
CREATE INDEX postings_movement_id ON postings USING brin (movement_id) WITH (pages_per_range = 32, autosummarize = on);

CREATE VIEW entries AS
  SELECT movement_id, source AS account_id, -amount AS amount, kind, created_at FROM postings
  UNION ALL
  SELECT movement_id, destination, amount, kind, created_at FROM postings;

-- Keys are kept seven days. `key` is the first 128 bits of SHA-256 of the key's text; `request_hash` tells a repeat from
-- another payload under the same key; a spin's outcome is its round (movement_id), others keep their answer as text.
CREATE TABLE idempotency (
  account_id   bigint      NOT NULL,
  key          uuid        NOT NULL,
  request_hash bigint      NOT NULL,
  movement_id  bigint,
  created_at   timestamptz NOT NULL DEFAULT now(),
  route        smallint    NOT NULL CHECK (route IN (1, 2)),
  outcome      text,
  PRIMARY KEY (account_id, route, key),
  CHECK ((movement_id IS NULL) <> (outcome IS NULL))
) PARTITION BY HASH (account_id);
COMMENT ON COLUMN idempotency.route IS '1 = POST /api/game/spin, 2 = POST /api/game/seeds/rotate';
CREATE INDEX idempotency_created_at ON idempotency USING brin (created_at) WITH (pages_per_range = 32);
DO $$
BEGIN
  FOR remainder IN 0..7 LOOP
    EXECUTE format('CREATE TABLE idempotency_%s PARTITION OF idempotency FOR VALUES WITH (MODULUS 8, REMAINDER %s)',
                   remainder, remainder);
  END LOOP;
END $$;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% on % is refused: history is append-only; correct it with a new posting', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'MY001';
END $$;

-- Row triggers reach every partition through the parent. TRUNCATE triggers do not, so each partition gets its own.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON postings FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON postings FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Keeps partitions of 100 million movements ready ahead of the series, on every table that is cut by movement. A table
-- made first and attached then locks its parent against other changes of shape only; PARTITION OF would wait for every
-- reader, and every spin would wait behind it.
CREATE TABLE movement_tables (name text PRIMARY KEY);
INSERT INTO movement_tables VALUES ('postings');

CREATE FUNCTION ensure_partitions() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  width   CONSTANT bigint := 100000000;
  newest  bigint;
  parent  text;
  made    integer := 0;
BEGIN
  -- Two processes may start at the same moment; the second waits and finds the work done.
  PERFORM pg_advisory_xact_lock(hashtext('moonyetis.ensure_partitions'));
  SELECT last_value / width INTO newest FROM movement_ids;
  FOR parent IN SELECT name FROM movement_tables ORDER BY name LOOP
    FOR section IN newest .. newest + 2 LOOP
      CONTINUE WHEN to_regclass(format('%I', parent || '_' || section)) IS NOT NULL;
      EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
                     parent || '_' || section, parent);
      EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                     parent, parent || '_' || section, section * width, (section + 1) * width);
      EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()',
                     parent || '_' || section);
      made := made + 1;
    END LOOP;
  END LOOP;
  RETURN made;
END $$;
SELECT ensure_partitions();

-- Every account, the house included, with the balance that its postings give.
CREATE VIEW account_balances AS
  SELECT account_id, sum(amount)::numeric AS balance FROM entries GROUP BY account_id;

CREATE FUNCTION expire_idempotency(row_limit integer DEFAULT 10000) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE gone bigint;
BEGIN
  DELETE FROM idempotency WHERE (account_id, route, key) IN (
    SELECT account_id, route, key FROM idempotency WHERE created_at < now() - interval '7 days' LIMIT row_limit);
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END $$;
