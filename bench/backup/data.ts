// As a ledger is: numbers that grow, numbers from a small range, and random bytes that nothing compresses. zstd at level 1
// makes half of it, indexes included.
const perMegabyte = 4_300

/** SQL for tables and indexes of about that size. */
export function ledgerSql(megabytes: number): string[] {
  return [
    `CREATE TABLE ledger (id bigint NOT NULL, account_id bigint NOT NULL, round_id uuid NOT NULL, stake bigint NOT NULL,
       payout bigint NOT NULL, balance_after bigint NOT NULL, created_at timestamptz NOT NULL, kind text NOT NULL, request_hash bytea NOT NULL)`,
    `INSERT INTO ledger
     SELECT i, (random() * 200000)::bigint, gen_random_uuid(), stake, stake * (random() ^ 4 * 20)::bigint,
            (random() * 1e12)::bigint, timestamptz '2026-01-01 00:00Z' + i * interval '1.7 s', 'spin',
            sha384(uuid_send(gen_random_uuid()))
       FROM (SELECT i, (1 + random() * 100)::bigint * 10 AS stake
               FROM generate_series(1, ${Math.round(megabytes * perMegabyte)}) i) rows`,
    'ALTER TABLE ledger ADD PRIMARY KEY (id)',
    'CREATE UNIQUE INDEX ON ledger (round_id)',
    'CREATE INDEX ON ledger (account_id, id)',
    // Nothing is left that a later reader would change: every backup reads the same pages.
    'VACUUM (FREEZE, ANALYZE) ledger',
  ]
}

/** What the commits are made in; empty. */
export const commitsSql = `CREATE TABLE commits (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account_id bigint NOT NULL,
  round_id uuid NOT NULL, amount bigint NOT NULL, balance_after bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now())`

/** One commit, for pgbench. */
export const commitScript = `\\set account random(1, 200000)
\\set amount random(-1000, 1000)
INSERT INTO commits (account_id, round_id, amount, balance_after) VALUES (:account, gen_random_uuid(), :amount, 1000000 + :amount);
`
