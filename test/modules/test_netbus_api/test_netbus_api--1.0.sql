\echo Use "CREATE EXTENSION test_netbus_api" to load this file. \quit

-- A handle for each call.  All return whether the event is accepted, or how many are.
CREATE FUNCTION api_publish(log text, payload bytea, key text DEFAULT NULL, transactional bool DEFAULT true)
RETURNS bool LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION api_publish_batch(log text, payloads bytea[], keys text[] DEFAULT NULL, transactional bool DEFAULT true)
RETURNS int LANGUAGE C AS 'MODULE_PATHNAME';
-- n events: the payload, with its first four bytes overwritten by 1, 2, ...
CREATE FUNCTION api_publish_fixed(log text, payload bytea, n int, transactional bool DEFAULT true)
RETURNS int LANGUAGE C STRICT AS 'MODULE_PATHNAME';
CREATE FUNCTION api_read(log text, shard int, after_seq bigint, max int DEFAULT 100, wait_ms int DEFAULT 0,
	OUT seq bigint, OUT key text, OUT payload bytea, OUT age interval)
RETURNS SETOF record LANGUAGE C STRICT AS 'MODULE_PATHNAME';
CREATE FUNCTION api_read_jsonb(log text, shard int, after_seq bigint, max int DEFAULT 100, wait_ms int DEFAULT 0,
	OUT seq bigint, OUT key text, OUT payload jsonb, OUT age interval)
RETURNS SETOF record LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'api_read';

-- One publisher and one reader that are kept until the end of the transaction.
CREATE FUNCTION api_keep_publisher(log text) RETURNS void LANGUAGE C STRICT AS 'MODULE_PATHNAME';
CREATE FUNCTION api_publish_kept(payload bytea, transactional bool DEFAULT true)
RETURNS bool LANGUAGE C STRICT AS 'MODULE_PATHNAME';
CREATE FUNCTION api_publish_fixed_kept(payload bytea, n int, transactional bool DEFAULT true)
RETURNS int LANGUAGE C STRICT AS 'MODULE_PATHNAME';
CREATE FUNCTION api_keep_reader(log text, shard int, after_seq bigint) RETURNS void LANGUAGE C STRICT AS 'MODULE_PATHNAME';
CREATE FUNCTION api_read_kept(max int DEFAULT 100, OUT seq bigint, OUT key text, OUT payload bytea, OUT age interval)
RETURNS SETOF record LANGUAGE C STRICT AS 'MODULE_PATHNAME';
CREATE FUNCTION api_lost_kept() RETURNS bigint LANGUAGE C STRICT AS 'MODULE_PATHNAME';
CREATE FUNCTION api_close_kept() RETURNS void LANGUAGE C STRICT AS 'MODULE_PATHNAME';
