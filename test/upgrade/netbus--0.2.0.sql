\echo Use "CREATE EXTENSION netbus" to load this file. \quit

-- core: roles, and the state of the workers.

-- The objects below trust what is in their schema, so nobody else may have put
-- anything there.
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
			WHERE n.nspname OPERATOR(pg_catalog.=) 'netbus' AND r.rolname OPERATOR(pg_catalog.<>) current_user AND NOT r.rolsuper)
		OR EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) 'netbus'::pg_catalog.regnamespace::pg_catalog.oid)
		OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace OPERATOR(pg_catalog.=) 'netbus'::pg_catalog.regnamespace::pg_catalog.oid)
		OR EXISTS (SELECT FROM pg_catalog.pg_operator WHERE oprnamespace OPERATOR(pg_catalog.=) 'netbus'::pg_catalog.regnamespace::pg_catalog.oid)
		OR EXISTS (SELECT FROM pg_catalog.pg_type WHERE typnamespace OPERATOR(pg_catalog.=) 'netbus'::pg_catalog.regnamespace::pg_catalog.oid)
	THEN
		RAISE EXCEPTION 'schema "netbus" exists and belongs to somebody else or is not empty'
			USING ERRCODE = 'duplicate_schema', HINT = 'Drop or rename it before CREATE EXTENSION netbus.';
	END IF;
END
$$;

-- Roles belong to the server, not to the database: they may exist already, or
-- come into being at this moment in another database.
DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY ARRAY['netbus_reader', 'netbus_writer', 'netbus_admin'] LOOP
		BEGIN
			IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
				EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', name);
			END IF;
		EXCEPTION WHEN duplicate_object OR unique_violation THEN
			NULL;
		END;
	END LOOP;

	FOREACH name IN ARRAY ARRAY['netbus_reader', 'netbus_writer'] LOOP
		BEGIN
			IF NOT pg_catalog.pg_has_role('netbus_admin', name, 'MEMBER') THEN
				EXECUTE pg_catalog.format('GRANT %I TO netbus_admin', name);
			END IF;
		EXCEPTION WHEN unique_violation THEN
			NULL;
		END;
	END LOOP;
END
$$;

GRANT USAGE ON SCHEMA netbus TO netbus_reader, netbus_writer, netbus_admin, pg_monitor;

CREATE FUNCTION netbus.stat_get_worker(
	OUT kind text,
	OUT database text,
	OUT pid int,
	OUT state text,
	OUT started timestamptz,
	OUT restarts int,
	OUT last_error text,
	OUT last_error_at timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
ROWS 2
AS 'MODULE_PATHNAME', 'netbus_stat_worker';

COMMENT ON FUNCTION netbus.stat_get_worker() IS
'the rows of the view netbus.stat_worker: SELECT * FROM netbus.stat_get_worker()';

REVOKE ALL ON FUNCTION netbus.stat_get_worker() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION netbus.stat_get_worker() TO netbus_admin, pg_monitor;

CREATE VIEW netbus.stat_worker AS
SELECT kind, database, pid, state, started, restarts, last_error, last_error_at
FROM netbus.stat_get_worker();

COMMENT ON VIEW netbus.stat_worker IS
'the launcher, and the worker of this database (state: starting, running, holding, backing off, stopped): SELECT kind, state, last_error FROM netbus.stat_worker';

REVOKE ALL ON netbus.stat_worker FROM PUBLIC;
GRANT SELECT ON netbus.stat_worker TO netbus_admin, pg_monitor;

--
-- Logs: redex.sql
--

-- A row of a log's table is a frame: events base_seq .. base_seq + events - 1
-- of a shard, where no transaction aborted.
CREATE TYPE netbus.frame AS (base_seq bigint, shard integer, events integer, frame bytea);
COMMENT ON TYPE netbus.frame IS 'Row of a log''s table: one frame, that is 1 to n contiguous events of a shard';

-- Written by netbus only, after its own checks; see src/redex/catalog.c.
CREATE TABLE netbus.catalog_log (
	log regclass PRIMARY KEY,
	shards integer NOT NULL,
	durability text NOT NULL,
	format text NOT NULL,
	ring_size bigint NOT NULL,
	backpressure text,
	incarnation bigint NOT NULL,
	sample_rate float8,
	retention_events bigint,
	retention_bytes bigint,
	retention_age interval,
	flush_interval integer NOT NULL DEFAULT 10, -- milliseconds
	flush_events integer
);
COMMENT ON TABLE netbus.catalog_log IS 'Options of every log, by its table; read them in the view netbus.logs';
SELECT pg_catalog.pg_extension_config_dump('netbus.catalog_log', '');

CREATE TABLE netbus.catalog_position (
	log oid,
	shard integer,
	next_seq bigint NOT NULL,
	bound bigint NOT NULL,
	events bigint NOT NULL DEFAULT 0,
	bytes bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (log, shard)
);
COMMENT ON TABLE netbus.catalog_position IS 'Where the shards of a log were at the last clean stop of the server';
REVOKE ALL ON netbus.catalog_log, netbus.catalog_position FROM PUBLIC;

CREATE FUNCTION netbus.guard() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'netbus_guard';
COMMENT ON FUNCTION netbus.guard() IS 'Trigger of every log''s table and of its segments: refuses direct writes';

CREATE FUNCTION netbus.create_log(log text, shards integer DEFAULT 1, durability text DEFAULT 'commit',
	format text DEFAULT 'jsonb', ring_size text DEFAULT '4MB', backpressure text DEFAULT NULL,
	sample_rate float8 DEFAULT NULL, retention_events bigint DEFAULT NULL, retention_size text DEFAULT NULL,
	retention_age interval DEFAULT NULL, flush_interval interval DEFAULT '10 ms', flush_events integer DEFAULT NULL,
	if_not_exists boolean DEFAULT false)
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_create_log';
COMMENT ON FUNCTION netbus.create_log(text, integer, text, text, text, text, float8, bigint, text, interval, interval, integer, boolean) IS
'Create a log, owned by the caller: SELECT netbus.create_log(''orders'', shards => 4, retention_size => ''10GB''). Durability commit (durable with the transaction), async (persisted within flush_interval, or when a shard has flush_events) or memory (lost at restart); format jsonb or bytea; ring_size is a power of two from 64kB to 1GB per shard; backpressure block, fail, drop_newest, drop_oldest or sample (with sample_rate from 0 to 1): what publishing does when the ring is full. Retention by events, size of the tables or age; without, nothing expires. False if it exists and if_not_exists.';

CREATE FUNCTION netbus.alter_log(log text, option text, value text)
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_alter_log';
COMMENT ON FUNCTION netbus.alter_log(text, text, text) IS
'Change an option of a log you own: SELECT netbus.alter_log(''orders'', ''retention_age'', ''30 days''). Options: ring_size (takes effect at the next start of the server), backpressure, sample_rate, retention_events, retention_size, retention_age, flush_interval, flush_events. NULL gives the default back. The first retention of a log rewrites its table.';

CREATE FUNCTION netbus.drop_log(log text, if_exists boolean DEFAULT false)
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_drop_log';
COMMENT ON FUNCTION netbus.drop_log(text, boolean) IS
'Drop a log you own, with its events: SELECT netbus.drop_log(''orders'')';

CREATE FUNCTION netbus.purge(log text, before timestamptz DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_purge';
COMMENT ON FUNCTION netbus.purge(text, timestamptz) IS
'Remove the events of a log you own up to a time, all that are stable if it is null: SELECT netbus.purge(''orders'', now() - interval ''7 days''). Returns how many.';

CREATE FUNCTION netbus.flush(log text)
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_flush';
COMMENT ON FUNCTION netbus.flush(text) IS
'Wait until everything that the log has accepted so far is persisted: SELECT netbus.flush(''orders''). False if netbus.wait_timeout ran out before, for a memory log, which persists nothing, or for a copy that a subscription fills.';

CREATE FUNCTION netbus.stat_log(OUT log text, OUT shard integer, OUT next_seq bigint, OUT stable_seq bigint,
	OUT persisted_seq bigint, OUT floor_seq bigint, OUT offered bigint, OUT accepted bigint, OUT rejected bigint,
	OUT sampled_out bigint, OUT evicted bigint, OUT expired bigint, OUT aborted bigint, OUT retained bigint,
	OUT retained_bytes bigint, OUT ring_used bigint, OUT ring_size bigint, OUT blocked integer,
	OUT blocked_ms float8, OUT damaged bigint, OUT retention_holds integer, OUT wakeups bigint,
	OUT oldest_pending_pid integer, OUT oldest_pending_since timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_stat_log';
COMMENT ON FUNCTION netbus.stat_log() IS 'Rows of the view netbus.stat_log: SELECT * FROM netbus.stat_log()';

CREATE VIEW netbus.stat_log AS SELECT * FROM netbus.stat_log();
COMMENT ON VIEW netbus.stat_log IS
'Per shard of every log in use since the start of the server: seqs and counters. At every instant offered = accepted + rejected + sampled_out and accepted = retained + expired + evicted + aborted. SELECT * FROM netbus.stat_log';

CREATE VIEW netbus.logs AS
	SELECT pg_catalog.substr(c.relname, 5) AS log, pg_catalog.pg_get_userbyid(c.relowner) AS owner,
		l.shards, l.durability, l.format, CASE WHEN l.ring_size < 1048576 THEN l.ring_size / 1024 || 'kB' ELSE l.ring_size / 1048576 || 'MB' END AS ring_size,
		coalesce(l.backpressure, CASE l.durability WHEN 'memory' THEN 'drop_oldest' ELSE 'block' END) AS backpressure,
		l.sample_rate, l.retention_events,
		CASE WHEN l.retention_bytes % 1073741824 = 0 THEN l.retention_bytes / 1073741824 || 'GB'
			WHEN l.retention_bytes % 1048576 = 0 THEN l.retention_bytes / 1048576 || 'MB'
			WHEN l.retention_bytes % 1024 = 0 THEN l.retention_bytes / 1024 || 'kB'
			ELSE l.retention_bytes::text END AS retention_size,
		l.retention_age,
		CASE l.durability WHEN 'async' THEN pg_catalog.make_interval(secs => l.flush_interval / 1000.0) END AS flush_interval,
		l.flush_events,
		pg_catalog.pg_total_relation_size(c.oid) + coalesce((
			SELECT pg_catalog.sum(pg_catalog.pg_total_relation_size(i.inhrelid))::bigint
			FROM pg_catalog.pg_inherits i WHERE i.inhparent OPERATOR(pg_catalog.=) c.oid), 0) AS table_bytes
	FROM netbus.catalog_log l JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) l.log::pg_catalog.oid;
COMMENT ON VIEW netbus.logs IS 'Every log with its owner, options and size on disk: SELECT * FROM netbus.logs';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA netbus FROM PUBLIC;
GRANT EXECUTE ON FUNCTION netbus.create_log(text, integer, text, text, text, text, float8, bigint, text, interval, interval, integer, boolean),
	netbus.alter_log(text, text, text), netbus.drop_log(text, boolean) TO netbus_admin;
GRANT EXECUTE ON FUNCTION netbus.purge(text, timestamptz) TO netbus_admin, netbus_writer;
GRANT EXECUTE ON FUNCTION netbus.flush(text) TO netbus_writer;
GRANT EXECUTE ON FUNCTION netbus.stat_log() TO netbus_reader, netbus_writer, pg_monitor;
GRANT SELECT ON netbus.stat_log, netbus.logs TO netbus_reader, netbus_writer, pg_monitor;

--
-- Publishing and reading: bus.sql
--

CREATE FUNCTION netbus.publish(log text, payload jsonb, key text DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_jsonb';
CREATE FUNCTION netbus.publish(log text, payload json, key text DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_text';
CREATE FUNCTION netbus.publish(log text, payload text, key text DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_text';
CREATE FUNCTION netbus.publish(log text, payload bytea, key text DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_bytea';
COMMENT ON FUNCTION netbus.publish(text, jsonb, text, boolean) IS
'Publish an event, visible at commit: SELECT netbus.publish(''orders'', ''{"id": 1}''::jsonb, key => ''c7''). Events of one key keep their order. transactional => false: visible at once, also if the transaction rolls back. True: accepted.';
COMMENT ON FUNCTION netbus.publish(text, json, text, boolean) IS
'Publish an event given as json: SELECT netbus.publish(''orders'', row_to_json(t)) FROM t';
COMMENT ON FUNCTION netbus.publish(text, text, text, boolean) IS
'Publish an event given as JSON text, which is parsed: SELECT netbus.publish(''orders'', ''{"id": 1}'')';
COMMENT ON FUNCTION netbus.publish(text, bytea, text, boolean) IS
'Publish bytes to a log of format bytea: SELECT netbus.publish(''frames'', ''\x0102''::bytea)';

CREATE FUNCTION netbus.publish_batch(log text, payloads jsonb[], keys text[] DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_batch_jsonb_array';
CREATE FUNCTION netbus.publish_batch(log text, payloads text[], keys text[] DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_batch_text_array';
CREATE FUNCTION netbus.publish_batch(log text, payloads bytea[], keys text[] DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_batch_bytea_array';
CREATE FUNCTION netbus.publish_batch(log text, payloads jsonb, keys text[] DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_batch_jsonb';
CREATE FUNCTION netbus.publish_batch(log text, payloads text, keys text[] DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_batch_text';
CREATE FUNCTION netbus.publish_batch(log text, payloads json[], keys text[] DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_batch_text_array';
CREATE FUNCTION netbus.publish_batch(log text, payloads json, keys text[] DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_batch_text';
COMMENT ON FUNCTION netbus.publish_batch(text, json[], text[], boolean) IS
'Publish many events given as json: SELECT netbus.publish_batch(''orders'', array_agg(row_to_json(t))) FROM t';
COMMENT ON FUNCTION netbus.publish_batch(text, json, text[], boolean) IS
'Publish the elements of a JSON array given as json: SELECT netbus.publish_batch(''orders'', json_agg(t)) FROM t';
COMMENT ON FUNCTION netbus.publish_batch(text, jsonb[], text[], boolean) IS
'Publish many events: SELECT netbus.publish_batch(''orders'', ARRAY[''{"id": 1}'', ''{"id": 2}'']::jsonb[]). keys: one for each payload, null for none. Returns how many were accepted.';
COMMENT ON FUNCTION netbus.publish_batch(text, text[], text[], boolean) IS
'Publish many events given as JSON texts: SELECT netbus.publish_batch(''orders'', ARRAY[''{"id": 1}'', ''{"id": 2}''])';
COMMENT ON FUNCTION netbus.publish_batch(text, bytea[], text[], boolean) IS
'Publish many events to a log of format bytea: SELECT netbus.publish_batch(''frames'', ARRAY[''\x01'', ''\x02'']::bytea[])';
COMMENT ON FUNCTION netbus.publish_batch(text, jsonb, text[], boolean) IS
'Publish the elements of a JSON array: SELECT netbus.publish_batch(''orders'', ''[{"id": 1}, {"id": 2}]''::jsonb)';
COMMENT ON FUNCTION netbus.publish_batch(text, text, text[], boolean) IS
'Publish the elements of a JSON array given as text, as drivers send it: SELECT netbus.publish_batch(''orders'', ''[{"id": 1}, {"id": 2}]'')';

CREATE FUNCTION netbus.publish_lines(log text, lines text, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_lines_text';
CREATE FUNCTION netbus.publish_lines(log text, lines bytea, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_lines_bytea';
COMMENT ON FUNCTION netbus.publish_lines(text, text, boolean) IS
'Publish newline-delimited JSON, an event a line, blank lines skipped: SELECT netbus.publish_lines(''orders'', E''{"id": 1}\n{"id": 2}'')';
COMMENT ON FUNCTION netbus.publish_lines(text, bytea, boolean) IS
'Publish lines of bytes, as they are to a log of format bytea, as JSON to one of format jsonb: SELECT netbus.publish_lines(''frames'', pg_read_binary_file(''events''))';

CREATE FUNCTION netbus.publish_row() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'netbus_publish_row';
COMMENT ON FUNCTION netbus.publish_row() IS
'Trigger: publish each changed row as {"op", "table", "new", "old"}: CREATE TRIGGER t AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION netbus.publish_row(''orders'', ''customer'')';

CREATE FUNCTION netbus.read(log text, after_seq bigint DEFAULT 0, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload jsonb)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_read';
CREATE FUNCTION netbus.read_raw(log text, after_seq bigint DEFAULT 0, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload bytea)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_read_raw';
COMMENT ON FUNCTION netbus.read(text, bigint, integer, text, integer) IS
'Events after a seq, oldest first: SELECT * FROM netbus.read(''orders'', after_seq => 41). A log with several shards needs shard or key; key also selects the events of that key. Sees every committed event, also in REPEATABLE READ. A warning tells of events after after_seq that are not retained any more. In the target list it streams: SELECT (netbus.read(''orders'')).*';
COMMENT ON FUNCTION netbus.read_raw(text, bigint, integer, text, integer) IS
'As netbus.read(), with the payload as bytes: SELECT * FROM netbus.read_raw(''frames'')';

CREATE FUNCTION netbus.tail(log text, after_seq bigint, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000, wait interval DEFAULT '1 s')
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload jsonb)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_tail';
CREATE FUNCTION netbus.tail_raw(log text, after_seq bigint, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000, wait interval DEFAULT '1 s')
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload bytea)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_tail_raw';
COMMENT ON FUNCTION netbus.tail(text, bigint, integer, text, integer, interval) IS
'As netbus.read(), but waits up to wait (at most 60 s) for the first event: SELECT * FROM netbus.tail(''orders'', netbus.head(''orders''), wait => ''10 s''). Sleeps until a publisher wakes it.';
COMMENT ON FUNCTION netbus.tail_raw(text, bigint, integer, text, integer, interval) IS
'As netbus.tail(), with the payload as bytes: SELECT * FROM netbus.tail_raw(''frames'', 0)';

CREATE FUNCTION netbus.get(log text, seq bigint, shard integer DEFAULT NULL)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload jsonb)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'netbus_get';
CREATE FUNCTION netbus.get_raw(log text, seq bigint, shard integer DEFAULT NULL)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload bytea)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'netbus_get_raw';
COMMENT ON FUNCTION netbus.get(text, bigint, integer) IS
'One event by its seq, no row if there is none: SELECT payload FROM netbus.get(''orders'', 42)';
COMMENT ON FUNCTION netbus.get_raw(text, bigint, integer) IS
'As netbus.get(), with the payload as bytes: SELECT payload FROM netbus.get_raw(''frames'', 42)';

CREATE FUNCTION netbus.head(log text, shard integer DEFAULT NULL)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_head';
COMMENT ON FUNCTION netbus.head(text, integer) IS
'The seq up to which all is resolved, where to start reading what is new: SELECT netbus.head(''orders'')';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA netbus FROM PUBLIC;
GRANT EXECUTE ON FUNCTION netbus.publish(text, jsonb, text, boolean), netbus.publish(text, json, text, boolean),
	netbus.publish(text, text, text, boolean), netbus.publish(text, bytea, text, boolean),
	netbus.publish_batch(text, json[], text[], boolean), netbus.publish_batch(text, json, text[], boolean),
	netbus.publish_batch(text, jsonb[], text[], boolean), netbus.publish_batch(text, text[], text[], boolean),
	netbus.publish_batch(text, bytea[], text[], boolean), netbus.publish_batch(text, jsonb, text[], boolean),
	netbus.publish_batch(text, text, text[], boolean), netbus.publish_lines(text, text, boolean),
	netbus.publish_lines(text, bytea, boolean), netbus.publish_row() TO netbus_writer;
GRANT EXECUTE ON FUNCTION netbus.read(text, bigint, integer, text, integer),
	netbus.read_raw(text, bigint, integer, text, integer),
	netbus.tail(text, bigint, integer, text, integer, interval),
	netbus.tail_raw(text, bigint, integer, text, integer, interval),
	netbus.get(text, bigint, integer), netbus.get_raw(text, bigint, integer),
	netbus.head(text, integer) TO netbus_reader;
