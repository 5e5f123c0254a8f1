\echo Use "ALTER EXTENSION netbus UPDATE TO '0.2.0'" to load this file. \quit

-- From 0.1.0, which had memory logs only, to durable logs. What a view or a
-- table of a user depends on cannot be replaced: then drop that first.

ALTER TABLE netbus.catalog_log
	ADD COLUMN sample_rate float8,
	ADD COLUMN retention_events bigint,
	ADD COLUMN retention_bytes bigint,
	ADD COLUMN retention_age interval,
	ADD COLUMN flush_interval integer NOT NULL DEFAULT 10, -- milliseconds
	ADD COLUMN flush_events integer;

ALTER TABLE netbus.catalog_position
	ADD COLUMN events bigint NOT NULL DEFAULT 0,
	ADD COLUMN bytes bigint NOT NULL DEFAULT 0;

COMMENT ON FUNCTION netbus.guard() IS 'Trigger of every log''s table and of its segments: refuses direct writes';

DROP VIEW netbus.logs;
DROP VIEW netbus.stat_log;
DROP FUNCTION netbus.stat_log();
DROP FUNCTION netbus.create_log(text, integer, text, text, text, text, boolean);

CREATE FUNCTION netbus.create_log(log text, shards integer DEFAULT 1, durability text DEFAULT 'commit',
	format text DEFAULT 'jsonb', ring_size text DEFAULT '4MB', backpressure text DEFAULT NULL,
	sample_rate float8 DEFAULT NULL, retention_events bigint DEFAULT NULL, retention_size text DEFAULT NULL,
	retention_age interval DEFAULT NULL, flush_interval interval DEFAULT '10 ms', flush_events integer DEFAULT NULL,
	if_not_exists boolean DEFAULT false)
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_create_log';
COMMENT ON FUNCTION netbus.create_log(text, integer, text, text, text, text, float8, bigint, text, interval, interval, integer, boolean) IS
'Create a log, owned by the caller: SELECT netbus.create_log(''orders'', shards => 4, retention_size => ''10GB''). Durability commit (durable with the transaction), async (persisted within flush_interval, or when a shard has flush_events) or memory (lost at restart); format jsonb or bytea; ring_size is a power of two from 64kB to 1GB per shard; backpressure block, fail, drop_newest, drop_oldest or sample (with sample_rate from 0 to 1): what publishing does when the ring is full. Retention by events, size of the tables or age; without, nothing expires. False if it exists and if_not_exists.';

COMMENT ON FUNCTION netbus.alter_log(text, text, text) IS
'Change an option of a log you own: SELECT netbus.alter_log(''orders'', ''retention_age'', ''30 days''). Options: ring_size (takes effect at the next start of the server), backpressure, sample_rate, retention_events, retention_size, retention_age, flush_interval, flush_events. NULL gives the default back. The first retention of a log rewrites its table.';

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

REVOKE ALL ON FUNCTION
	netbus.create_log(text, integer, text, text, text, text, float8, bigint, text, interval, interval, integer, boolean),
	netbus.purge(text, timestamptz), netbus.flush(text), netbus.stat_log() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION netbus.create_log(text, integer, text, text, text, text, float8, bigint, text, interval, interval, integer, boolean)
	TO netbus_admin;
GRANT EXECUTE ON FUNCTION netbus.purge(text, timestamptz) TO netbus_admin, netbus_writer;
GRANT EXECUTE ON FUNCTION netbus.flush(text) TO netbus_writer;
GRANT EXECUTE ON FUNCTION netbus.stat_log() TO netbus_reader, netbus_writer, pg_monitor;
GRANT SELECT ON netbus.stat_log, netbus.logs TO netbus_reader, netbus_writer, pg_monitor;
