-- Settlement of spins: money, nonce, round and idempotency key in one statement and one commit.
--
-- The caller has drawn each spin at the nonce it expects. A spin is accepted only if the account's active seed pair
-- and next nonce are the ones that it was drawn with and the balance covers the stakes; else nothing of that account
-- is written and the answer carries the account's true state, to draw again from.
--
-- Called by the application as a single autocommit statement. set_config(..., true) lasts to the end of that
-- transaction, whatever the role's or the database's default is; a SET clause would end with the function, before the
-- commit. Planner settings are SET clauses: they are needed inside only, and must not leak into a pooled session.
--
-- A session keeps the plans that it made when the tables were empty. LATERAL (... OFFSET 0) leaves the planner no way
-- but the right one, from the arrays into the index; a plain join was planned to read every key of the table.

-- Every settlement holds advisory lock 7236190 shared, to its commit. Who must know that each round up to N is visible
-- (the leaderboard's roll-up) takes it alone for a moment: under it no id is allotted but not yet committed.

-- One spin. status: 'settled'; 'replay' (the key has a stored outcome: read_outcomes); 'stale' (pair or nonce differ);
-- 'short' (the balance does not cover the stake); 'no_account'. pair, nonce and balance are the account's state after
-- the call.
CREATE FUNCTION settle_spin(
  account bigint, spin_pair bigint, spin_nonce bigint, idempotency_key uuid,
  stake_per_line integer, line_count integer, stops integer, payout bigint, version smallint,
  OUT status text, OUT round_id bigint, OUT pair bigint, OUT nonce bigint, OUT balance bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  stake CONSTANT bigint := settle_spin.stake_per_line::bigint * line_count;
  held accounts;
BEGIN
  PERFORM set_config('synchronous_commit', 'on', true), pg_advisory_xact_lock_shared(7236190);
  UPDATE accounts a SET balance = a.balance - stake + settle_spin.payout, next_nonce = a.next_nonce + 1
    WHERE a.id = account AND a.seed_pair_id = spin_pair AND a.next_nonce = spin_nonce AND a.balance >= stake
    RETURNING a.balance INTO settle_spin.balance;
  IF FOUND THEN
    round_id := nextval('movement_ids');
    INSERT INTO idempotency (account_id, route, key, request_hash, movement_id)
      VALUES (account, 1, idempotency_key, settle_spin.stake_per_line::bigint * 16 + line_count, settle_spin.round_id)
      ON CONFLICT DO NOTHING;
    IF FOUND THEN
      INSERT INTO rounds (id, account_id, seed_pair_id, nonce, stake_per_line, lines, stops, payout, balance_after,
                          game_version)
        VALUES (settle_spin.round_id, account, spin_pair, spin_nonce, settle_spin.stake_per_line, line_count,
                settle_spin.stops, settle_spin.payout, settle_spin.balance, version);
      IF settle_spin.payout > 0 THEN
        INSERT INTO postings (movement_id, source, destination, amount, kind)
          VALUES (settle_spin.round_id, account, 1, stake, 1), (settle_spin.round_id, 1, account, settle_spin.payout, 2);
      ELSE
        INSERT INTO postings (movement_id, source, destination, amount, kind)
          VALUES (settle_spin.round_id, account, 1, stake, 1);
      END IF;
      status := 'settled'; pair := spin_pair; nonce := spin_nonce + 1;
      RETURN;
    END IF;
    -- The key was used before: put the account back, in this same transaction.
    UPDATE accounts a SET balance = a.balance + stake - settle_spin.payout, next_nonce = a.next_nonce - 1
      WHERE a.id = account;
    status := 'replay'; round_id := NULL;
  END IF;
  -- A refusal is final, so it waits for a settlement that is still in its commit, such as one of a server that was killed
  -- a moment ago: that may bring the chips, or be this very spin.
  SELECT * INTO held FROM accounts a WHERE a.id = account FOR NO KEY UPDATE;
  IF NOT FOUND THEN status := 'no_account'; RETURN; END IF;
  pair := held.seed_pair_id; nonce := held.next_nonce; balance := held.balance;
  IF status IS NOT NULL THEN RETURN; END IF;
  IF EXISTS (SELECT FROM idempotency i WHERE i.account_id = account AND i.route = 1 AND i.key = idempotency_key) THEN
    status := 'replay';
  ELSIF pair <> spin_pair OR nonce <> spin_nonce THEN status := 'stale';
  -- The account may have changed between the two statements; then the spin is simply tried again.
  ELSIF balance < stake THEN status := 'short';
  ELSE status := 'stale';
  END IF;
END $$;

-- Many spins, grouped by account. Groups are sorted by account id, so concurrent batches lock in one order; the spins of
-- a group stand together, in the order in which they apply.
--   group_required  the least balance with which every spin of the group finds its stake
--   group_delta     payouts less stakes of the whole group
--   spin_request    stake per line * 16 + lines
--   spin_delta      payouts less stakes of the group up to and with this spin
-- Answers, as arrays in the order asked: round_ids (NULL = not settled), balances (per group, before the batch; NULL =
-- group not settled), and for the groups that were not settled refused = [[group, pair, nonce, balance], ...] and
-- replays = positions of spins whose key has a stored outcome. A group whose account another settlement holds has NULL
-- as pair, nonce and balance: nothing certain can be said of it yet. A group without an account is not in refused.
CREATE FUNCTION settle_spins(
  group_account bigint[], group_pair bigint[], group_nonce bigint[], group_required bigint[], group_delta bigint[],
  group_size integer[],
  spin_group integer[], spin_key uuid[], spin_nonce bigint[], spin_request integer[], spin_stops integer[],
  spin_payout bigint[], spin_delta bigint[],
  version smallint,
  OUT round_ids bigint[], OUT balances bigint[], OUT refused bigint[], OUT replays integer[])
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  groups  CONSTANT integer := cardinality(group_account);
  spins   CONSTANT integer := cardinality(spin_key);
  moved   bigint[];
  written integer;
  partial boolean := false;
BEGIN
  PERFORM set_config('synchronous_commit', 'on', true), pg_advisory_xact_lock_shared(7236190);
  WITH moved_accounts AS (
    UPDATE accounts a SET balance = a.balance + g.delta, next_nonce = a.next_nonce + g.size
    FROM unnest(group_account, group_pair, group_nonce, group_required, group_delta, group_size)
      AS g (account, pair, nonce, required, delta, size)
    WHERE a.id = g.account AND a.seed_pair_id = g.pair AND a.next_nonce = g.nonce AND a.balance >= g.required
    RETURNING a.id, a.balance - g.delta AS before)
  SELECT array_agg(id ORDER BY id), array_agg(before ORDER BY id) INTO moved, balances FROM moved_accounts;
  IF cardinality(moved) IS DISTINCT FROM groups THEN
    balances := align_to_groups(group_account, moved, balances);
    partial := true;
  END IF;

  round_ids := ARRAY(SELECT nextval('movement_ids') FROM generate_series(1, spins));
  INSERT INTO idempotency (account_id, route, key, request_hash, movement_id)
    SELECT group_account[s.grp], 1, s.key, s.request, s.id
    FROM unnest(round_ids, spin_key, spin_request, spin_group) AS s (id, key, request, grp)
    WHERE NOT partial OR balances[s.grp] IS NOT NULL
    ON CONFLICT DO NOTHING;
  GET DIAGNOSTICS written = ROW_COUNT;
  IF partial OR written <> spins THEN
    SELECT * FROM set_refused_groups_aside(group_account, group_delta, group_size, spin_group, spin_key, round_ids,
                                           balances)
      INTO balances, refused, replays;
    partial := true;
  END IF;

  INSERT INTO rounds (id, account_id, seed_pair_id, nonce, stake_per_line, lines, stops, payout, balance_after,
                      game_version)
    SELECT s.id, group_account[s.grp], group_pair[s.grp], s.nonce, s.request >> 4, s.request & 15, s.stops, s.payout,
           balances[s.grp] + s.delta, version
    FROM unnest(round_ids, spin_nonce, spin_request, spin_stops, spin_payout, spin_delta, spin_group)
      AS s (id, nonce, request, stops, payout, delta, grp)
    WHERE NOT partial OR balances[s.grp] IS NOT NULL;
  INSERT INTO postings (movement_id, source, destination, amount, kind)
    SELECT s.id, group_account[s.grp], 1, (s.request >> 4)::bigint * (s.request & 15), 1
    FROM unnest(round_ids, spin_request, spin_group) AS s (id, request, grp)
    WHERE NOT partial OR balances[s.grp] IS NOT NULL
    UNION ALL
    SELECT s.id, 1, group_account[s.grp], s.payout, 2
    FROM unnest(round_ids, spin_payout, spin_group) AS s (id, payout, grp)
    WHERE s.payout > 0 AND (NOT partial OR balances[s.grp] IS NOT NULL);

  IF partial THEN
    round_ids := ARRAY(
      SELECT CASE WHEN balances[s.grp] IS NOT NULL THEN s.id END
      FROM unnest(round_ids, spin_group) WITH ORDINALITY AS s (id, grp, position) ORDER BY position);
  END IF;
END $$;

-- moved and before are sorted by account like group_account; groups that did not move get NULL.
CREATE FUNCTION align_to_groups(group_account bigint[], moved bigint[], before bigint[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE aligned bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(group_account)]); next_moved integer := 1;
BEGIN
  FOR position IN 1..cardinality(group_account) LOOP
    IF moved[next_moved] = group_account[position] THEN
      aligned[position] := before[next_moved];
      next_moved := next_moved + 1;
    END IF;
  END LOOP;
  RETURN aligned;
END $$;

-- The uncommon half of settle_spins: some groups did not move (stale or short), or a key was used before. Puts moved
-- groups with a used key back as they were, within the transaction, and reports the state of every group left out. What
-- it reports refuses spins, so it is read under the account's lock; an account that is locked elsewhere is passed over,
-- because waiting here, out of order, could end in a deadlock.
CREATE FUNCTION set_refused_groups_aside(
  group_account bigint[], group_delta bigint[], group_size integer[],
  spin_group integer[], spin_key uuid[], round_ids bigint[], before bigint[],
  OUT balances bigint[], OUT refused bigint[], OUT replays integer[])
LANGUAGE plpgsql AS $$
DECLARE held bigint[]; used_again integer[]; used integer;
BEGIN
  balances := before;
  WITH locked AS MATERIALIZED (
    SELECT a.id FROM accounts a
    WHERE a.id = ANY (ARRAY(SELECT g.account FROM unnest(group_account, before) AS g (account, balance)
                            WHERE g.balance IS NULL))
    FOR NO KEY UPDATE SKIP LOCKED)
  SELECT array_agg(id ORDER BY id) INTO held FROM locked;
  held := align_to_groups(group_account, held, held);
  -- The next query has a newer snapshot: of the accounts held now it sees every key.
  SELECT array_agg(s.position::integer ORDER BY s.position), array_agg(DISTINCT s.grp)
    FILTER (WHERE before[s.grp] IS NOT NULL)
    INTO replays, used_again
    FROM unnest(round_ids, spin_key, spin_group) WITH ORDINALITY AS s (id, key, grp, position)
    CROSS JOIN LATERAL (
      SELECT FROM idempotency k WHERE k.account_id = group_account[s.grp] AND k.route = 1 AND k.key = s.key
        AND k.movement_id <> s.id OFFSET 0) AS i;
  FOREACH used IN ARRAY coalesce(used_again, '{}') LOOP
    UPDATE accounts a SET balance = a.balance - group_delta[used], next_nonce = a.next_nonce - group_size[used]
      WHERE a.id = group_account[used];
    DELETE FROM idempotency i USING unnest(round_ids, spin_key, spin_group) AS s (id, key, grp)
      WHERE s.grp = used AND i.account_id = group_account[used] AND i.route = 1 AND i.key = s.key
        AND i.movement_id = s.id;
    balances[used] := NULL;
  END LOOP;
  SELECT array_agg(CASE WHEN g.held IS NOT NULL OR before[g.position] IS NOT NULL
                     THEN ARRAY[g.position, a.seed_pair_id, a.next_nonce, a.balance]
                     ELSE ARRAY[g.position, NULL, NULL, NULL] END ORDER BY g.position) INTO refused
    FROM unnest(group_account, held) WITH ORDINALITY AS g (account, held, position)
    JOIN accounts a ON a.id = g.account
    WHERE balances[g.position] IS NULL;
END $$;

-- The stored outcomes of keys, to answer a replay or to resolve an unknown. The logical message is a WAL record in this
-- transaction, so its synchronous commit also waits for everything before it: what is answered here is as durable as
-- if it had been acknowledged the first time. Keys without an outcome give no row.
CREATE FUNCTION read_outcomes(account_ids bigint[], keys uuid[])
RETURNS TABLE (ordinal integer, request_hash bigint, round_id bigint, seed_pair_id bigint, nonce bigint,
  stake_per_line integer, lines smallint, stops integer, payout bigint, balance_after bigint,
  server_seed_hash text, client_seed text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
  PERFORM set_config('synchronous_commit', 'on', true), pg_logical_emit_message(true, 'moonyetis', 'outcomes read');
  RETURN QUERY
    SELECT s.ordinal::integer, i.request_hash, r.id, r.seed_pair_id, r.nonce, r.stake_per_line, r.lines, r.stops,
           r.payout, r.balance_after, p.server_seed_hash, p.client_seed
    FROM unnest(account_ids, keys) WITH ORDINALITY AS s (account, key, ordinal)
    CROSS JOIN LATERAL (
      SELECT * FROM idempotency k WHERE k.account_id = s.account AND k.route = 1 AND k.key = s.key OFFSET 0) AS i
    CROSS JOIN LATERAL (
      SELECT * FROM rounds o WHERE o.account_id = i.account_id AND o.id = i.movement_id OFFSET 0) AS r
    CROSS JOIN LATERAL (SELECT * FROM seed_pairs q WHERE q.id = r.seed_pair_id OFFSET 0) AS p;
END $$;
