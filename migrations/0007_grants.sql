-- Least privilege, by name. The application role reads what it shows and changes nothing but through these functions.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO moonyetis_app, moonyetis_monitor, moonyetis_user;

GRANT SELECT ON installation, accounts, rounds, game_versions, players, leaderboard_days, house_accounts
  TO moonyetis_app;
GRANT SELECT (id, account_id, state, server_seed_hash, server_seed, client_seed, rounds, created_at, activated_at,
              revealed_at) ON seed_pairs TO moonyetis_app, moonyetis_monitor, moonyetis_user;
GRANT EXECUTE ON FUNCTION
  settle_spin(bigint, bigint, bigint, uuid, integer, integer, integer, bigint, smallint),
  settle_spins(bigint[], bigint[], bigint[], bigint[], bigint[], integer[], integer[], uuid[], bigint[], integer[],
               integer[], bigint[], bigint[], smallint),
  read_outcomes(bigint[], uuid[]),
  rotate_seeds(bigint, uuid, bigint, bigint, text, text, text, bytea),
  open_demo_player(bytea, interval, text, bytea, text, bytea),
  read_seat(bigint),
  find_session(bytea), close_session(bytea), expire_sessions(integer),
  register_game_version(text, jsonb),
  ensure_partitions(), expire_idempotency(integer), roll_up_leaderboard(bigint),
  append_audit_events(text, jsonb)
  TO moonyetis_app;

-- People and checks read the books; sealed seeds and session hashes stay out of reach.
GRANT SELECT ON installation, house_accounts, accounts, postings, entries, account_balances, idempotency, rounds,
  game_versions, players, leaderboard_days, leaderboard_progress, audit_events, movement_tables
  TO moonyetis_monitor, moonyetis_user;
GRANT SELECT ON schema_migrations TO moonyetis_app, moonyetis_monitor, moonyetis_user;
