/** A question to the books whose right answer is known. */
export interface Check {
  name: string
  /** What holds when nothing is wrong. */
  promise: string
  /**
   * One row (rows bigint, mismatches bigint, examples text[]), of which examples holds at most five. Pasted into psql as
   * moonyetis_user it gives the same; each reads a table once, and PostgreSQL spills what does not fit in work_mem.
   */
  sql: string
}

/** `wrong` selects an `id` per mismatch; `rows` counts what was looked at. */
function check(name: string, promise: string, o: { rows: string; wrong: string }): Check {
  const sql = `WITH wrong AS MATERIALIZED (${o.wrong})
SELECT (${o.rows}) AS rows, (SELECT count(*) FROM wrong) AS mismatches,
       ARRAY(SELECT id::text FROM wrong ORDER BY id LIMIT 5) AS examples`
  return { name, promise, sql }
}

// From postings and not from the view entries, so that a view that was changed by hand is found by its own check.
const signed = `SELECT movement_id, source AS account_id, -amount AS amount FROM postings
    UNION ALL SELECT movement_id, destination, amount FROM postings`

export const checks: readonly Check[] = [
  check('entries', 'The signed entries are the postings, and sum to zero over each movement and over all.', {
    rows: 'SELECT count(*) FROM entries',
    wrong: `
  SELECT movement_id AS id FROM entries GROUP BY movement_id HAVING sum(amount) <> 0
  UNION ALL
  SELECT 0 WHERE (SELECT count(*) FROM entries) <> 2 * (SELECT count(*) FROM postings)
              OR (SELECT coalesce(sum(amount), 0) FROM entries) <> 0`,
  }),
  check('balances', 'The balance of each account is the sum of its postings.', {
    rows: 'SELECT count(*) FROM accounts',
    wrong: `
  SELECT coalesce(a.id, b.account_id) AS id
  FROM accounts a
  FULL JOIN (SELECT account_id, sum(amount) AS balance FROM (${signed}) AS entry
             WHERE account_id >= 1000 GROUP BY account_id) AS b ON b.account_id = a.id
  WHERE a.id IS NULL OR a.balance <> coalesce(b.balance, 0)`,
  }),
  check('not-negative', 'No account is below zero.', {
    rows: 'SELECT count(*) FROM accounts',
    wrong: 'SELECT id FROM accounts WHERE balance < 0',
  }),
  check(
    'posting-accounts',
    'Each posting moves between accounts that its kind may touch, one of them the house.',
    {
      rows: 'SELECT count(*) FROM postings',
      wrong: `
  SELECT p.movement_id AS id FROM postings p
  WHERE CASE p.kind
          WHEN 1 THEN p.source < 1000 OR p.destination <> 1
          WHEN 2 THEN p.source <> 1 OR p.destination < 1000
          WHEN 3 THEN p.source <> 2 OR p.destination < 1000
          ELSE true END
     OR NOT EXISTS (SELECT FROM house_accounts h WHERE h.id = least(p.source, p.destination))
     OR (p.kind = 3 AND NOT EXISTS (SELECT FROM installation WHERE chain = 'simulated'))`,
    },
  ),
  check(
    'round-postings',
    'Each round has its one stake and, where it won, its one payout; nothing else has any.',
    {
      rows: 'SELECT count(*) FROM rounds',
      wrong: `
  SELECT coalesce(r.id, p.movement_id) AS id
  FROM rounds r
  FULL JOIN (
    SELECT movement_id, count(*) FILTER (WHERE kind = 1) AS stakes, count(*) FILTER (WHERE kind = 2) AS payouts,
           count(*) FILTER (WHERE kind NOT IN (1, 2)) AS others,
           sum(amount) FILTER (WHERE kind = 1) AS stake, sum(amount) FILTER (WHERE kind = 2) AS payout,
           max(source) FILTER (WHERE kind = 1) AS staker, max(destination) FILTER (WHERE kind = 2) AS winner
    FROM postings GROUP BY movement_id) AS p ON p.movement_id = r.id
  WHERE CASE
    WHEN r.id IS NULL THEN p.stakes + p.payouts > 0
    WHEN p.movement_id IS NULL THEN true
    ELSE p.others > 0
      OR p.stakes <> 1 OR p.stake <> r.stake_per_line::bigint * r.lines OR p.staker <> r.account_id
      OR p.payouts <> (r.payout > 0)::int OR coalesce(p.payout, 0) <> r.payout
      OR coalesce(p.winner, r.account_id) <> r.account_id
    END`,
    },
  ),
  check('balance-chain', 'Each round has the balance that all postings of its account up to it give.', {
    rows: 'SELECT count(*) FROM rounds',
    wrong: `
  SELECT r.id
  FROM (SELECT account_id, movement_id, sum(sum(amount)) OVER (PARTITION BY account_id ORDER BY movement_id) AS balance
        FROM (${signed}) AS entry WHERE account_id >= 1000 GROUP BY account_id, movement_id) AS movement
  JOIN rounds r ON r.account_id = movement.account_id AND r.id = movement.movement_id
  WHERE r.balance_after <> movement.balance`,
  }),
  check('seed-pairs', 'Each account plays on its one active pair and has its one next pair.', {
    rows: 'SELECT count(*) FROM accounts',
    wrong: `
  SELECT a.id
  FROM accounts a
  LEFT JOIN seed_pairs p ON p.account_id = a.id AND p.state IN ('active', 'next')
  GROUP BY a.id, a.seed_pair_id
  HAVING count(*) FILTER (WHERE p.state = 'active' AND p.id = a.seed_pair_id) <> 1
      OR count(*) FILTER (WHERE p.state = 'active') <> 1 OR count(*) FILTER (WHERE p.state = 'next') <> 1`,
  }),
  check(
    'nonces',
    'The rounds of each seed pair are numbered from 0 without a gap or a twin, as many as were allotted.',
    {
      rows: 'SELECT count(*) FROM seed_pairs',
      wrong: `
  SELECT coalesce(p.id, r.seed_pair_id) AS id
  FROM (SELECT p.id, p.account_id,
               CASE p.state WHEN 'active' THEN a.next_nonce WHEN 'next' THEN 0 ELSE p.rounds END AS allotted
        FROM seed_pairs p LEFT JOIN accounts a ON a.id = p.account_id) AS p
  FULL JOIN (
    SELECT seed_pair_id, count(*) AS played, count(DISTINCT nonce) AS nonces, min(nonce) AS first, max(nonce) AS last,
           min(account_id) AS account_id, max(account_id) AS other_account
    FROM rounds GROUP BY seed_pair_id) AS r ON r.seed_pair_id = p.id
  WHERE p.id IS NULL OR coalesce(r.played, 0) <> coalesce(p.allotted, -1)
     OR r.nonces <> r.played OR r.first <> 0 OR r.last <> r.played - 1
     OR r.account_id <> p.account_id OR r.other_account <> p.account_id`,
    },
  ),
  check('nonce-order', 'The rounds of a seed pair follow each other in the order of their nonces.', {
    rows: 'SELECT count(*) FROM rounds',
    wrong: `
  SELECT id
  FROM (SELECT id, nonce, lag(nonce) OVER (PARTITION BY account_id, seed_pair_id ORDER BY id) AS before
        FROM rounds) AS r
  WHERE nonce <= before`,
  }),
  // An hour less than the seven days that keys are kept: expiry runs while we look.
  check('keys', 'Each key of a spin names the one round it was for, and each recent round has its key.', {
    rows: 'SELECT count(*) FROM idempotency',
    wrong: `
  SELECT coalesce(i.movement_id, r.id) AS id
  FROM (SELECT account_id, movement_id, count(*) AS keys, min(request_hash) AS request_hash
        FROM idempotency WHERE route = 1 GROUP BY account_id, movement_id) AS i
  FULL JOIN rounds r ON r.account_id = i.account_id AND r.id = i.movement_id
  WHERE CASE
    WHEN r.id IS NULL THEN true
    WHEN i.keys IS NULL THEN r.created_at > now() - interval '7 days' + interval '1 hour'
    ELSE i.keys <> 1 OR i.request_hash <> r.stake_per_line::bigint * 16 + r.lines
    END
  UNION ALL
  SELECT account_id FROM idempotency WHERE route = 2 AND (movement_id IS NOT NULL OR outcome IS NULL)`,
  }),
  check(
    'commitments',
    'Each revealed server seed is the one whose hash was published before it was played.',
    {
      rows: `SELECT count(*) FROM seed_pairs WHERE server_seed IS NOT NULL`,
      wrong: `
  SELECT id FROM seed_pairs
  WHERE (state = 'revealed' OR server_seed IS NOT NULL)
    AND encode(sha256(convert_to(server_seed, 'UTF8')), 'hex') IS DISTINCT FROM server_seed_hash`,
    },
  ),
]

/** Rounds that anyone can recompute, because their server seed is revealed. */
export const revealedRounds = `SELECT r.id, p.server_seed, p.client_seed, r.nonce, r.stake_per_line, r.lines, r.stops,
  r.payout, v.hash AS version
FROM seed_pairs p JOIN rounds r ON r.seed_pair_id = p.id AND r.account_id = p.account_id
LEFT JOIN game_versions v ON v.id = r.game_version
WHERE p.server_seed IS NOT NULL`

export const revealedCount = `SELECT coalesce(sum(rounds), 0)::bigint AS rounds FROM seed_pairs WHERE server_seed IS NOT NULL`
