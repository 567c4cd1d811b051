-- Seed pairs, rounds, and what moves a player from one seed pair to the next.

CREATE TABLE game_versions (
  id         smallint    GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  hash       text        NOT NULL UNIQUE,
  config     jsonb       NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION register_game_version(version_hash text, version_config jsonb) RETURNS smallint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE version_id smallint;
BEGIN
  SELECT id INTO version_id FROM game_versions WHERE hash = version_hash;
  IF FOUND THEN RETURN version_id; END IF;
  INSERT INTO game_versions (hash, config) VALUES (version_hash, version_config)
    ON CONFLICT (hash) DO UPDATE SET hash = excluded.hash RETURNING id INTO version_id;
  RETURN version_id;
END $$;

-- next: the commit is published, no client seed yet. active: draws come from it. revealed: the server seed is public.
CREATE TABLE seed_pairs (
  id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  account_id       bigint      NOT NULL REFERENCES accounts (id),
  state            text        NOT NULL CHECK (state IN ('next', 'active', 'revealed')),
  server_seed_hash text        NOT NULL UNIQUE CHECK (server_seed_hash ~ '^[0-9a-f]{64}$'),
  sealed_seed      bytea,
  server_seed      text        CHECK (server_seed ~ '^[0-9a-f]{64}$'),
  client_seed      text        CHECK (client_seed ~ '^[A-Za-z0-9_-]{1,64}$'),
  rounds           bigint      CHECK (rounds >= 0),
  created_at       timestamptz NOT NULL DEFAULT now(),
  activated_at     timestamptz,
  revealed_at      timestamptz,
  CHECK ((state = 'next') = (client_seed IS NULL)),
  CHECK ((state = 'revealed') = (server_seed IS NOT NULL)),
  CHECK ((state = 'revealed') = (sealed_seed IS NULL)),
  CHECK ((state = 'revealed') = (rounds IS NOT NULL)),
  -- What is revealed is what was promised, whatever the server claims.
  CHECK (server_seed IS NULL OR encode(sha256(convert_to(server_seed, 'UTF8')), 'hex') = server_seed_hash)
);
CREATE UNIQUE INDEX seed_pairs_one_active ON seed_pairs (account_id) WHERE state = 'active';
CREATE UNIQUE INDEX seed_pairs_one_next ON seed_pairs (account_id) WHERE state = 'next';
CREATE INDEX seed_pairs_account_id ON seed_pairs (account_id);

-- Nonces are contiguous and unique per pair because they are allotted under the account's row lock; reconcile checks it.
-- A unique index on (seed_pair_id, nonce) cannot exist: a partitioned table's unique index must hold the partition key.
CREATE TABLE rounds (
  id             bigint      NOT NULL,
  account_id     bigint      NOT NULL,
  seed_pair_id   bigint      NOT NULL,
  nonce          bigint      NOT NULL CHECK (nonce >= 0),
  payout         bigint      NOT NULL CHECK (payout >= 0),
  balance_after  bigint      NOT NULL,
  created_at     timestamptz NOT NULL DEFAULT now(),
  stake_per_line integer     NOT NULL CHECK (stake_per_line BETWEEN 1 AND 1000000),
  stops          integer     NOT NULL CHECK (stops >= 0 AND stops < 1073741824),
  lines          smallint    NOT NULL CHECK (lines BETWEEN 1 AND 10),
  game_version   smallint    NOT NULL,
  PRIMARY KEY (account_id, id),
  -- The balance between stake and payout was not negative: the stake was there.
  CHECK (balance_after >= payout)
) PARTITION BY RANGE (id);
COMMENT ON COLUMN rounds.stops IS 'Five 6-bit stops packed in 30 bits, reel 0 highest.';
-- For reading a range of ids (roll-up, reconcile); costs next to nothing on an insert.
CREATE INDEX rounds_id ON rounds USING brin (id) WITH (pages_per_range = 32, autosummarize = on);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON rounds FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON rounds FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
INSERT INTO movement_tables VALUES ('rounds');
SELECT ensure_partitions();

-- Opens a player's chip account with its first two seed pairs. The first client seed is fixed by the contract.
CREATE FUNCTION open_account(player bigint, active_hash text, active_sealed bytea, next_hash text, next_sealed bytea)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE account bigint; pair bigint;
BEGIN
  INSERT INTO accounts (player_id) VALUES (player) RETURNING id INTO account;
  INSERT INTO seed_pairs (account_id, state, server_seed_hash, sealed_seed, client_seed, activated_at)
    VALUES (account, 'active', active_hash, active_sealed, 'moonyetis', now()) RETURNING id INTO pair;
  INSERT INTO seed_pairs (account_id, state, server_seed_hash, sealed_seed)
    VALUES (account, 'next', next_hash, next_sealed);
  UPDATE accounts SET seed_pair_id = pair WHERE id = account;
  RETURN account;
END $$;

-- A new play-money player, signed in. The database itself refuses it on mainnet.
CREATE FUNCTION open_demo_player(token_hash bytea, lifetime interval,
  active_hash text, active_sealed bytea, next_hash text, next_sealed bytea,
  OUT player_id bigint, OUT account_id bigint, OUT balance bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE movement bigint;
BEGIN
  PERFORM set_config('synchronous_commit', 'on', true);
  IF NOT EXISTS (SELECT FROM installation WHERE chain = 'simulated') THEN
    RAISE EXCEPTION 'demo players exist on the simulated chain only' USING ERRCODE = 'MY002';
  END IF;
  INSERT INTO players (kind) VALUES ('demo') RETURNING id INTO player_id;
  account_id := open_account(player_id, active_hash, active_sealed, next_hash, next_sealed);
  balance := 1000000;
  UPDATE accounts a SET balance = open_demo_player.balance WHERE a.id = account_id;
  movement := nextval('movement_ids');
  INSERT INTO postings (movement_id, source, destination, amount, kind) VALUES (movement, 2, account_id, balance, 3);
  PERFORM open_session(token_hash, player_id, lifetime);
END $$;

-- What a server needs to draw for an account. The seed is sealed; only a server with the key can open it.
CREATE FUNCTION read_seat(account bigint,
  OUT seed_pair_id bigint, OUT next_nonce bigint, OUT balance bigint, OUT server_seed_hash text, OUT sealed_seed bytea,
  OUT client_seed text, OUT next_server_seed_hash text)
RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT a.seed_pair_id, a.next_nonce, a.balance, p.server_seed_hash, p.sealed_seed, p.client_seed, n.server_seed_hash
  FROM accounts a
  JOIN seed_pairs p ON p.id = a.seed_pair_id
  JOIN seed_pairs n ON n.account_id = a.id AND n.state = 'next'
  WHERE a.id = account;
$$;

-- Reveals the active pair, activates the next one with the player's client seed and commits to a new next one.
-- status: 'rotated'; 'replayed' (the stored answer is in outcome); 'other_payload'; 'stale' (the active pair is not
-- the one whose seed the caller holds: read the seat again and retry).
CREATE FUNCTION rotate_seeds(account bigint, idempotency_key uuid, request_hash bigint, active_pair bigint,
  revealed_seed text, new_client_seed text, new_hash text, new_sealed bytea,
  OUT status text, OUT outcome text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE seat accounts; stored idempotency; old_pair seed_pairs; new_pair seed_pairs;
BEGIN
  PERFORM set_config('synchronous_commit', 'on', true);
  SELECT * INTO STRICT seat FROM accounts WHERE id = account FOR NO KEY UPDATE;
  SELECT * INTO stored FROM idempotency i WHERE i.account_id = account AND i.route = 2 AND i.key = idempotency_key;
  IF FOUND THEN
    IF stored.request_hash <> rotate_seeds.request_hash THEN status := 'other_payload'; RETURN; END IF;
    -- A record in this commit waits for the standby, so what is answered again is as durable as the first answer.
    PERFORM pg_logical_emit_message(true, 'moonyetis', 'replay');
    status := 'replayed'; outcome := stored.outcome; RETURN;
  END IF;
  IF seat.seed_pair_id <> active_pair THEN status := 'stale'; RETURN; END IF;
  UPDATE seed_pairs SET state = 'revealed', server_seed = revealed_seed, sealed_seed = NULL, rounds = seat.next_nonce,
    revealed_at = now() WHERE id = active_pair RETURNING * INTO STRICT old_pair;
  UPDATE seed_pairs SET state = 'active', client_seed = new_client_seed, activated_at = now()
    WHERE account_id = account AND state = 'next' RETURNING * INTO STRICT new_pair;
  INSERT INTO seed_pairs (account_id, state, server_seed_hash, sealed_seed) VALUES (account, 'next', new_hash, new_sealed);
  UPDATE accounts SET seed_pair_id = new_pair.id, next_nonce = 0 WHERE id = account;
  outcome := format(
    '{"revealed":{"serverSeed":"%s","serverSeedHash":"%s","clientSeed":"%s","lastNonce":%s},'
    '"current":{"serverSeedHash":"%s","nextServerSeedHash":"%s","clientSeed":"%s","nonce":0}}',
    revealed_seed, old_pair.server_seed_hash, old_pair.client_seed,
    CASE WHEN seat.next_nonce = 0 THEN 'null' ELSE (seat.next_nonce - 1)::text END,
    new_pair.server_seed_hash, new_hash, new_client_seed);
  INSERT INTO idempotency (account_id, route, key, request_hash, outcome)
    VALUES (account, 2, idempotency_key, rotate_seeds.request_hash, rotate_seeds.outcome);
  status := 'rotated';
END $$;
