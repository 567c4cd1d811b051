-- Players and their sessions. Only hashes of session tokens are stored.

CREATE TABLE players (
  id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind       text        NOT NULL CHECK (kind IN ('demo', 'wallet')),
  address    text        UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now(),
  CHECK ((kind = 'wallet') = (address IS NOT NULL))
);
ALTER TABLE accounts ADD FOREIGN KEY (player_id) REFERENCES players (id);

CREATE TABLE sessions (
  token_hash bytea       PRIMARY KEY CHECK (octet_length(token_hash) = 32),
  player_id  bigint      NOT NULL REFERENCES players (id),
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX sessions_player_id ON sessions (player_id);
CREATE INDEX sessions_expires_at ON sessions (expires_at);

-- Database time decides when a session ends, so two servers with skewed clocks agree.
CREATE FUNCTION open_session(token_hash bytea, player bigint, lifetime interval) RETURNS timestamptz
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  INSERT INTO sessions (token_hash, player_id, expires_at)
  VALUES (open_session.token_hash, player, now() + lifetime) RETURNING expires_at;
$$;

CREATE FUNCTION find_session(token_hash bytea,
  OUT player_id bigint, OUT account_id bigint, OUT kind text, OUT address text, OUT expires_in_ms double precision)
RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT p.id, a.id, p.kind, p.address, extract(epoch FROM s.expires_at - now()) * 1000
  FROM sessions s JOIN players p ON p.id = s.player_id JOIN accounts a ON a.player_id = p.id AND a.kind = 1
  WHERE s.token_hash = find_session.token_hash AND s.expires_at > now();
$$;

-- The notice lets every server drop the session from its cache at once.
CREATE FUNCTION close_session(token_hash bytea) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE found_one boolean;
BEGIN
  DELETE FROM sessions s WHERE s.token_hash = close_session.token_hash;
  found_one := FOUND;
  PERFORM pg_notify('session_closed', encode(close_session.token_hash, 'hex'));
  RETURN found_one;
END $$;

CREATE FUNCTION expire_sessions(row_limit integer DEFAULT 10000) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE gone bigint;
BEGIN
  DELETE FROM sessions s WHERE s.token_hash IN (
    SELECT o.token_hash FROM sessions o WHERE o.expires_at < now() LIMIT row_limit);
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END $$;
