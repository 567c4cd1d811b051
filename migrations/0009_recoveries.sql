-- After a restore: nothing that players have seen comes back to life.
--
-- A database that lost its newest rounds would draw the same results again for the same seeds and nonces, for players
-- who have seen them already; it would know sessions that were ended since, and seeds as secret that were revealed since.
-- So a restore begins a recovery, and until it is finished no chips move: every seed pair from before it is retired for
-- good and revealed, every account gets new ones, every session has ended, and the books were found whole.

CREATE TABLE recoveries (
  id            uuid        PRIMARY KEY,
  cause         text        NOT NULL,
  restored_to   text        NOT NULL,
  begun_at      timestamptz NOT NULL DEFAULT now(),
  finished_at   timestamptz,
  -- Seed pairs up to this id may have been played with, or shown, in the time that is lost.
  pairs_through bigint      NOT NULL,
  facts         jsonb       NOT NULL DEFAULT '{}'
);
COMMENT ON COLUMN recoveries.restored_to IS 'In words: a time, an LSN, a named point, or the end of the archive.';
CREATE INDEX recoveries_unfinished ON recoveries (pairs_through) WHERE finished_at IS NULL;

-- Whatever moves chips passes here, in every function of today and tomorrow. A server that was running while its
-- database was replaced draws from seeds in its memory; it must be stopped by the database, not by what it knows. One
-- look into an empty index per statement, however many accounts it moves.
CREATE FUNCTION refuse_while_recovering() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM public.recoveries WHERE finished_at IS NULL) THEN
    RAISE EXCEPTION 'no chips move before the recovery is finished' USING ERRCODE = 'MY004';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER refuse_while_recovering BEFORE UPDATE OF balance ON accounts
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_while_recovering();

-- retired: taken out of play by a recovery, with the rounds that are left of it. Its server seed is public as that of a
-- revealed pair is, so that each round stays verifiable; only where no server had the key is it sealed still.
ALTER TABLE seed_pairs ADD COLUMN recovery_id uuid REFERENCES recoveries (id);
ALTER TABLE seed_pairs
  DROP CONSTRAINT seed_pairs_state_check,
  DROP CONSTRAINT seed_pairs_check,
  DROP CONSTRAINT seed_pairs_check1,
  DROP CONSTRAINT seed_pairs_check2,
  DROP CONSTRAINT seed_pairs_check3,
  ADD CONSTRAINT seed_pairs_state CHECK (state IN ('next', 'active', 'revealed', 'retired')),
  -- A next pair has no client seed yet, and may be retired like that.
  ADD CONSTRAINT seed_pairs_client_seed CHECK (state = 'retired' OR (state = 'next') = (client_seed IS NULL)),
  ADD CONSTRAINT seed_pairs_one_seed CHECK ((server_seed IS NULL) = (sealed_seed IS NOT NULL)),
  ADD CONSTRAINT seed_pairs_secret CHECK (state = 'retired' OR (state = 'revealed') = (server_seed IS NOT NULL)),
  ADD CONSTRAINT seed_pairs_rounds CHECK ((state IN ('revealed', 'retired')) = (rounds IS NOT NULL)),
  ADD CONSTRAINT seed_pairs_recovery CHECK ((state = 'retired') = (recovery_id IS NOT NULL));
CREATE INDEX seed_pairs_unrevealed ON seed_pairs (id) WHERE state = 'retired' AND server_seed IS NULL;

-- Begins a recovery, once per id: true when it is a new one. As the owner, before anybody else may connect.
CREATE FUNCTION begin_recovery(recovery uuid, recovery_cause text, recovery_restored_to text, recovery_facts jsonb)
RETURNS boolean LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  -- Settlements that are under way end first, those to come see this commit.
  PERFORM set_config('synchronous_commit', 'on', true), pg_advisory_xact_lock(7236190);
  INSERT INTO recoveries (id, cause, restored_to, pairs_through, facts)
    VALUES (recovery, recovery_cause, recovery_restored_to, (SELECT coalesce(max(id), 0) FROM seed_pairs), recovery_facts)
    ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN RETURN false; END IF;
  TRUNCATE sessions;
  PERFORM pg_notify('session_closed', 'all');
  -- Ids of lost rounds are on players' screens, and none of them shall name another round: room for ten million.
  PERFORM setval('movement_ids', (SELECT last_value FROM movement_ids) + 10000000);
  PERFORM ensure_partitions();
  RETURN true;
END $$;

-- The next accounts, after the given one, that still play on seeds from before the recovery. None when there is no
-- unfinished recovery.
CREATE FUNCTION read_seats_to_retire(after_account bigint, row_limit integer)
RETURNS TABLE (account_id bigint, active_pair bigint, active_hash text, active_sealed bytea,
  next_pair bigint, next_hash text, next_sealed bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT a.account_id, a.id, a.server_seed_hash, a.sealed_seed, n.id, n.server_seed_hash, n.sealed_seed
  FROM seed_pairs a JOIN seed_pairs n ON n.account_id = a.account_id AND n.state = 'next'
  WHERE a.state = 'active' AND a.account_id > after_account
    AND a.id <= (SELECT max(pairs_through) FROM recoveries WHERE finished_at IS NULL)
  ORDER BY a.account_id LIMIT row_limit;
$$;

-- Retires the active and the next pair of each account and puts new ones in their place; the client seed stays the
-- player's. A seed that no server can open is given as NULL and stays sealed. An account that another server has done
-- meanwhile is passed over. Returns how many accounts were done.
CREATE FUNCTION retire_seats(accounts_given bigint[], active_pairs bigint[], active_seeds text[],
  next_pairs bigint[], next_seeds text[], new_active_hashes text[], new_active_sealed bytea[],
  new_next_hashes text[], new_next_sealed bytea[])
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  recovery uuid;
  seat     record;
  held     accounts;
  pair     bigint;
  done     integer := 0;
BEGIN
  PERFORM set_config('synchronous_commit', 'on', true);
  SELECT id INTO recovery FROM recoveries WHERE finished_at IS NULL ORDER BY pairs_through DESC, begun_at DESC LIMIT 1;
  IF NOT FOUND THEN RETURN 0; END IF;
  -- In account order, as settlements lock.
  FOR seat IN
    SELECT * FROM unnest(accounts_given, active_pairs, active_seeds, next_pairs, next_seeds, new_active_hashes,
                         new_active_sealed, new_next_hashes, new_next_sealed)
      AS s (account, active_pair, active_seed, next_pair, next_seed, active_hash, active_sealed, next_hash, next_sealed)
    ORDER BY account
  LOOP
    SELECT * INTO held FROM accounts a WHERE a.id = seat.account AND a.seed_pair_id = seat.active_pair FOR NO KEY UPDATE;
    CONTINUE WHEN NOT FOUND;
    PERFORM retire_pair(recovery, seat.next_pair, seat.next_seed, 0);
    pair := retire_pair(recovery, seat.active_pair, seat.active_seed, held.next_nonce);
    INSERT INTO seed_pairs (account_id, state, server_seed_hash, sealed_seed, client_seed, activated_at)
      SELECT account_id, 'active', seat.active_hash, seat.active_sealed, client_seed, now() FROM seed_pairs WHERE id = pair
      RETURNING id INTO pair;
    INSERT INTO seed_pairs (account_id, state, server_seed_hash, sealed_seed)
      VALUES (seat.account, 'next', seat.next_hash, seat.next_sealed);
    UPDATE accounts SET seed_pair_id = pair, next_nonce = 0 WHERE id = seat.account;
    done := done + 1;
  END LOOP;
  RETURN done;
END $$;

CREATE FUNCTION retire_pair(recovery uuid, pair bigint, seed text, played bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
  UPDATE seed_pairs SET state = 'retired', recovery_id = recovery, rounds = played, server_seed = seed,
      sealed_seed = CASE WHEN seed IS NULL THEN sealed_seed END, revealed_at = CASE WHEN seed IS NOT NULL THEN now() END
    WHERE id = pair AND state IN ('active', 'next') RETURNING id INTO STRICT pair;
  RETURN pair;
END $$;

-- Retired pairs that were not revealed because their key was not there, to try again when it is.
CREATE FUNCTION read_unrevealed_seeds(after_pair bigint, row_limit integer)
RETURNS TABLE (pair bigint, server_seed_hash text, sealed_seed bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT p.id, p.server_seed_hash, p.sealed_seed FROM seed_pairs p
  WHERE p.state = 'retired' AND p.server_seed IS NULL AND p.id > after_pair ORDER BY p.id LIMIT row_limit;
$$;

CREATE FUNCTION reveal_seeds(pairs bigint[], seeds text[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE revealed integer;
BEGIN
  UPDATE seed_pairs p SET server_seed = s.seed, sealed_seed = NULL, revealed_at = now()
    FROM unnest(pairs, seeds) AS s (pair, seed)
    WHERE p.id = s.pair AND p.state = 'retired' AND p.server_seed IS NULL;
  GET DIAGNOSTICS revealed = ROW_COUNT;
  RETURN revealed;
END $$;

-- Ends a recovery, and with it those that it includes: false, and nothing, while an old pair is left to retire.
CREATE FUNCTION finish_recovery(recovery uuid, found_facts jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE through bigint;
BEGIN
  PERFORM set_config('synchronous_commit', 'on', true);
  SELECT pairs_through INTO STRICT through FROM recoveries WHERE id = recovery;
  IF EXISTS (SELECT FROM seed_pairs WHERE state IN ('active', 'next') AND id <= through) THEN RETURN false; END IF;
  UPDATE recoveries SET finished_at = clock_timestamp(), facts = facts || found_facts
    WHERE finished_at IS NULL AND pairs_through <= through;
  RETURN true;
END $$;

GRANT EXECUTE ON FUNCTION
  read_seats_to_retire(bigint, integer),
  retire_seats(bigint[], bigint[], text[], bigint[], text[], text[], bytea[], text[], bytea[]),
  read_unrevealed_seeds(bigint, integer), reveal_seeds(bigint[], text[]),
  finish_recovery(uuid, jsonb)
  TO moonyetis_app;
GRANT SELECT ON recoveries TO moonyetis_app, moonyetis_monitor, moonyetis_user;
GRANT SELECT (recovery_id) ON seed_pairs TO moonyetis_app, moonyetis_monitor, moonyetis_user;
-- The server itself proves the books after a restore, and an external database may know it by this role alone.
GRANT SELECT ON postings, entries, account_balances, idempotency TO moonyetis_app;
