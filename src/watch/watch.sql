--
-- Watches: watch.sql
--

-- Every watch. Written by netbus only; see src/watch/watch_catalog.c.
CREATE SEQUENCE netbus.catalog_watch_id;
CREATE TABLE netbus.catalog_watch (
	id bigint PRIMARY KEY,
	owner regrole NOT NULL,
	log regclass NOT NULL,
	kind text NOT NULL,
	channel name,
	filter jsonb,
	debounce bigint NOT NULL, -- microseconds
	payload text NOT NULL,
	created timestamptz NOT NULL,
	starts bigint[] NOT NULL,
	fingerprint bigint NOT NULL, -- of kind, channel and filter
	UNIQUE (owner, log, fingerprint)
);
CREATE INDEX ON netbus.catalog_watch (log);
COMMENT ON TABLE netbus.catalog_watch IS 'Every watch; read them in the view netbus.watches';
COMMENT ON SEQUENCE netbus.catalog_watch_id IS 'Ids of watches';
SELECT pg_catalog.pg_extension_config_dump('netbus.catalog_watch_id', '');
SELECT pg_catalog.pg_extension_config_dump('netbus.catalog_watch', '');
REVOKE ALL ON netbus.catalog_watch FROM PUBLIC;

CREATE FUNCTION netbus.watch_changed() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'netbus_watch_changed';
COMMENT ON FUNCTION netbus.watch_changed() IS 'Trigger of netbus.catalog_watch: tells the worker of rows that a dump brings';
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON netbus.catalog_watch
	FOR EACH STATEMENT EXECUTE FUNCTION netbus.watch_changed();

CREATE FUNCTION netbus.watch_memories(channel text, tag text DEFAULT NULL, any_tags text[] DEFAULT NULL, all_tags text[] DEFAULT NULL,
	source text DEFAULT NULL, scope text DEFAULT NULL, pinned boolean DEFAULT NULL, content_contains text DEFAULT NULL,
	ids bigint[] DEFAULT NULL, created_from timestamptz DEFAULT NULL, created_to timestamptz DEFAULT NULL,
	updated_from timestamptz DEFAULT NULL, updated_to timestamptz DEFAULT NULL, debounce interval DEFAULT '10 ms',
	payload text DEFAULT 'ids', model text DEFAULT 'default')
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_watch_memories';
COMMENT ON FUNCTION netbus.watch_memories(text, text, text[], text[], text, text, boolean, text, bigint[], timestamptz, timestamptz, timestamptz, timestamptz, interval, text, text) IS
'Watch the result of netbus.memories() with these filters: LISTEN notes; SELECT netbus.watch_memories(''notes'', tag => ''drinks''). From the commit on, at most once per debounce, the channel is notified of {"watch": "7", "seq": ["120", "133"], "entered": [ids], "changed": [ids], "left": [ids]}; of too many ids with "overflow": true, and after something was missed with "resync": true: then read again. payload ''none'' tells nothing but the watch. The channel is written as in LISTEN; null: for netbus.watch_next() only. Returns the id; the same owner, model, channel and filter again give the same one.';
CREATE FUNCTION netbus.watch_tasks(channel text, status text DEFAULT NULL, title_contains text DEFAULT NULL, scope text DEFAULT NULL,
	ids bigint[] DEFAULT NULL, created_from timestamptz DEFAULT NULL, created_to timestamptz DEFAULT NULL,
	updated_from timestamptz DEFAULT NULL, updated_to timestamptz DEFAULT NULL, debounce interval DEFAULT '10 ms',
	payload text DEFAULT 'ids', model text DEFAULT 'default')
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_watch_tasks';
COMMENT ON FUNCTION netbus.watch_tasks(text, text, text, text, bigint[], timestamptz, timestamptz, timestamptz, timestamptz, interval, text, text) IS
'Watch the result of netbus.tasks() with these filters, as netbus.watch_memories() does: SELECT netbus.watch_tasks(''todo'', status => ''pending'')';
CREATE FUNCTION netbus.watch_log(log text, channel text, filter jsonb DEFAULT NULL, debounce interval DEFAULT '10 ms')
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_watch_log';
COMMENT ON FUNCTION netbus.watch_log(text, text, jsonb, interval) IS
'Watch a log for new events that match a filter: LISTEN new_orders; SELECT netbus.watch_log(''orders'', ''new_orders'', ''{"path": "total", "$gt": 1000}''). The channel is notified of how many there are, and per shard of the first and the last seq: {"watch": "8", "events": "3", "seq": {"0": ["41", "57"]}}.';
CREATE FUNCTION netbus.unwatch(watch bigint)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_unwatch';
COMMENT ON FUNCTION netbus.unwatch(bigint) IS 'Drop a watch you own: SELECT netbus.unwatch(7). False if there is none with that id.';
CREATE FUNCTION netbus.watch_next(watch bigint, after_seq bigint DEFAULT NULL, max_events integer DEFAULT 100, wait interval DEFAULT '0')
RETURNS TABLE (seq bigint, op text, record jsonb)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'netbus_watch_next';
COMMENT ON FUNCTION netbus.watch_next(bigint, bigint, integer, interval) IS
'Pull the changes of a watch you own: SELECT * FROM netbus.watch_next(7, after_seq => 133, wait => ''10 s''). after_seq is the seq of the last row of the call before; without, all rows that there are now (op current, then ready). Then changes, in order: op entered or changed with the record, left with its id, {"id": "42"}: ids are strings in records. One row resync, whose seq is null, says that the changes are not there any more: begin anew.';

CREATE VIEW netbus.watches AS
	SELECT w.id AS watch, w.kind, m.model, pg_catalog.substr(c.relname, 5) AS log, pg_catalog.quote_ident(w.channel) AS channel, w.filter,
		pg_catalog.make_interval(secs => w.debounce / 1000000.0) AS debounce, w.payload, pg_catalog.pg_get_userbyid(w.owner) AS owner, w.created
	FROM netbus.catalog_watch w JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) w.log::pg_catalog.oid
		LEFT JOIN netbus.catalog_model m ON m.log OPERATOR(pg_catalog.=) w.log AND w.kind OPERATOR(pg_catalog.<>) 'log'
	WHERE pg_catalog.pg_has_role(w.owner, 'USAGE') OR pg_catalog.pg_has_role('netbus_admin', 'USAGE');
COMMENT ON VIEW netbus.watches IS
'Your watches (those of all roles for netbus_admin), the channel as LISTEN takes it: SELECT watch, channel, filter FROM netbus.watches';

CREATE FUNCTION netbus.stat_get_watch(OUT watch bigint, OUT state text, OUT matches bigint, OUT notifications bigint, OUT coalesced bigint,
	OUT overflows bigint, OUT resyncs bigint, OUT last_notified_at timestamptz, OUT errors bigint, OUT last_error text,
	OUT last_error_at timestamptz, OUT kept bigint, OUT kept_bytes bigint, OUT last_pulled_at timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'netbus_stat_watch';
COMMENT ON FUNCTION netbus.stat_get_watch() IS 'Rows of the view netbus.stat_watch: SELECT * FROM netbus.stat_get_watch()';
CREATE VIEW netbus.stat_watch AS
	SELECT s.* FROM netbus.stat_get_watch() s JOIN netbus.catalog_watch w ON w.id OPERATOR(pg_catalog.=) s.watch
	WHERE pg_catalog.pg_has_role(w.owner, 'USAGE') OR pg_catalog.pg_has_role('netbus_admin', 'USAGE')
		OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW netbus.stat_watch IS
'What became of your watches (of all for netbus_admin and pg_monitor) since the start of the server: changes that concerned them, notifications, changes that another in the same window made superfluous, notifications without ids, those that said to read again, failures, and changes that are kept for netbus.watch_next(): SELECT watch, state, matches, notifications, last_error FROM netbus.stat_watch';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA netbus FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	netbus.watch_memories(text, text, text[], text[], text, text, boolean, text, bigint[], timestamptz, timestamptz, timestamptz, timestamptz, interval, text, text),
	netbus.watch_tasks(text, text, text, text, bigint[], timestamptz, timestamptz, timestamptz, timestamptz, interval, text, text),
	netbus.watch_log(text, text, jsonb, interval), netbus.unwatch(bigint), netbus.watch_next(bigint, bigint, integer, interval) TO netbus_reader;
GRANT EXECUTE ON FUNCTION netbus.stat_get_watch() TO netbus_reader, netbus_writer, pg_monitor;
GRANT SELECT ON netbus.watches, netbus.stat_watch TO netbus_reader, netbus_writer, pg_monitor;
