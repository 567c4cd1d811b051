-- The leaderboard is derived from rounds and rolled up by day; nothing writes to it but roll_up_leaderboard().

CREATE TABLE leaderboard_days (
  day         date   NOT NULL,
  player_id   bigint NOT NULL,
  rounds      bigint NOT NULL,
  staked      numeric NOT NULL,
  won         numeric NOT NULL,
  best_payout bigint NOT NULL,
  PRIMARY KEY (day, player_id)
);
CREATE TABLE leaderboard_progress (
  only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  through_id bigint  NOT NULL
);
INSERT INTO leaderboard_progress (through_id) VALUES (0);

-- Adds the rounds that were settled since the last call, at most row_limit ids of them. Returns how many ids are left.
-- Spins queue behind it while it waits for its lock, so it gives way soon (55P03) and is called again.
CREATE FUNCTION roll_up_leaderboard(row_limit bigint DEFAULT 100000) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '250ms' AS $$
DECLARE first_id bigint; newest_id bigint; last_id bigint;
BEGIN
  SELECT through_id INTO first_id FROM leaderboard_progress FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN RETURN 0; END IF;  -- Another server is at it.
  BEGIN
    -- Settlements hold this lock shared: once it is ours, every id allotted so far is committed or gone.
    PERFORM pg_advisory_xact_lock(7236190);
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END INTO newest_id FROM movement_ids;
    -- The lock ends with this block, whatever happens in it; held to the commit, it would stop all play.
    RAISE EXCEPTION 'seen' USING ERRCODE = 'MY003';
  EXCEPTION WHEN SQLSTATE 'MY003' THEN NULL;
  END;
  last_id := least(newest_id, first_id + row_limit);
  INSERT INTO leaderboard_days AS d (day, player_id, rounds, staked, won, best_payout)
    SELECT (r.created_at AT TIME ZONE 'UTC')::date, a.player_id, count(*), sum(r.stake_per_line::bigint * r.lines),
           sum(r.payout), max(r.payout)
    FROM rounds r JOIN accounts a ON a.id = r.account_id
    WHERE r.id > first_id AND r.id <= last_id
    GROUP BY 1, 2
    ON CONFLICT (day, player_id) DO UPDATE SET rounds = d.rounds + excluded.rounds, staked = d.staked + excluded.staked,
      won = d.won + excluded.won, best_payout = greatest(d.best_payout, excluded.best_payout);
  UPDATE leaderboard_progress SET through_id = last_id;
  RETURN newest_id - last_id;
END $$;
