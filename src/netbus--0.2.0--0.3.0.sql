\echo Use "ALTER EXTENSION netbus UPDATE TO '0.3.0'" to load this file. \quit

-- From 0.2.0 to filters, poll and consumers. What a view or a function of a user
-- depends on cannot be replaced: then drop that first.

CREATE FUNCTION netbus.stats_reset(kind text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'netbus_stats_reset';

COMMENT ON FUNCTION netbus.stats_reset(text) IS
'Let the counters of stat_log, stat_consumer, stat_model or stat_watch begin anew, or without kind those of all, in this database: SELECT netbus.stats_reset(''consumer'')';

REVOKE ALL ON FUNCTION netbus.stats_reset(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION netbus.stats_reset(text) TO netbus_admin;

DROP FUNCTION netbus.read(text, bigint, integer, text, integer);
DROP FUNCTION netbus.read_raw(text, bigint, integer, text, integer);
DROP FUNCTION netbus.tail(text, bigint, integer, text, integer, interval);
DROP FUNCTION netbus.tail_raw(text, bigint, integer, text, integer, interval);

CREATE FUNCTION netbus.read(log text, after_seq bigint DEFAULT 0, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000, filter jsonb DEFAULT NULL)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload jsonb)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_read';
CREATE FUNCTION netbus.read_raw(log text, after_seq bigint DEFAULT 0, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000, filter jsonb DEFAULT NULL)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload bytea)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_read_raw';
COMMENT ON FUNCTION netbus.read(text, bigint, integer, text, integer, jsonb) IS
'Events after a seq, oldest first: SELECT * FROM netbus.read(''orders'', after_seq => 41). A log with several shards needs shard or key; key also selects the events of that key, filter => ''{"path": "status", "value": "open"}'' those that match. Sees every committed event, also in REPEATABLE READ. A warning tells of events after after_seq that are not retained any more. In the target list it streams: SELECT (netbus.read(''orders'')).*';
COMMENT ON FUNCTION netbus.read_raw(text, bigint, integer, text, integer, jsonb) IS
'As netbus.read(), with the payload as bytes: SELECT * FROM netbus.read_raw(''frames'')';

CREATE FUNCTION netbus.tail(log text, after_seq bigint, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000, wait interval DEFAULT '1 s', filter jsonb DEFAULT NULL)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload jsonb)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_tail';
CREATE FUNCTION netbus.tail_raw(log text, after_seq bigint, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000, wait interval DEFAULT '1 s', filter jsonb DEFAULT NULL)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload bytea)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_tail_raw';
COMMENT ON FUNCTION netbus.tail(text, bigint, integer, text, integer, interval, jsonb) IS
'As netbus.read(), but waits up to wait (at most 60 s) for the first event: SELECT * FROM netbus.tail(''orders'', netbus.head(''orders''), wait => ''10 s''). Sleeps until a publisher wakes it.';
COMMENT ON FUNCTION netbus.tail_raw(text, bigint, integer, text, integer, interval, jsonb) IS
'As netbus.tail(), with the payload as bytes: SELECT * FROM netbus.tail_raw(''frames'', 0)';

CREATE FUNCTION netbus.poll(log text, cursor text DEFAULT 'earliest', max_events integer DEFAULT 1000, filter jsonb DEFAULT NULL, ordering text DEFAULT 'none', shards integer[] DEFAULT NULL, wait interval DEFAULT '0')
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload jsonb, next_cursor text, lost bigint, has_more boolean)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_poll';
CREATE FUNCTION netbus.poll_raw(log text, cursor text DEFAULT 'earliest', max_events integer DEFAULT 1000, filter jsonb DEFAULT NULL, ordering text DEFAULT 'none', shards integer[] DEFAULT NULL, wait interval DEFAULT '0')
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload bytea, next_cursor text, lost bigint, has_more boolean)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_poll_raw';
COMMENT ON FUNCTION netbus.poll(text, text, integer, jsonb, text, integer[], interval) IS
'A page of events from all shards, or those given: SELECT * FROM netbus.poll(''orders'', ''earliest'', max_events => 100, wait => ''10 s''). cursor: earliest, latest, a timestamp, or next_cursor of the page before, which every row carries, with how many events were lost and whether there are more. A row without event says that only the cursor moved. ordering => ''ts'' merges the shards by time, also across pages.';
COMMENT ON FUNCTION netbus.poll_raw(text, text, integer, jsonb, text, integer[], interval) IS
'As netbus.poll(), with the payload as bytes: SELECT * FROM netbus.poll_raw(''frames'', ''latest'')';

REVOKE ALL ON FUNCTION netbus.read(text, bigint, integer, text, integer, jsonb),
	netbus.read_raw(text, bigint, integer, text, integer, jsonb),
	netbus.tail(text, bigint, integer, text, integer, interval, jsonb),
	netbus.tail_raw(text, bigint, integer, text, integer, interval, jsonb),
	netbus.poll(text, text, integer, jsonb, text, integer[], interval),
	netbus.poll_raw(text, text, integer, jsonb, text, integer[], interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION netbus.read(text, bigint, integer, text, integer, jsonb),
	netbus.read_raw(text, bigint, integer, text, integer, jsonb),
	netbus.tail(text, bigint, integer, text, integer, interval, jsonb),
	netbus.tail_raw(text, bigint, integer, text, integer, interval, jsonb),
	netbus.poll(text, text, integer, jsonb, text, integer[], interval),
	netbus.poll_raw(text, text, integer, jsonb, text, integer[], interval) TO netbus_reader;

-- Consumers. Written by netbus only; see src/bus/consumer_catalog.c and progress.c.
CREATE TABLE netbus.catalog_consumer (
	log regclass,
	consumer name,
	id bigint NOT NULL UNIQUE,
	owner regrole NOT NULL,
	starts bigint[] NOT NULL,
	paused boolean NOT NULL,
	filter jsonb,
	max_deliveries integer,
	dead_letter_log regclass,
	hold bigint, -- bytes; -1: unlimited
	PRIMARY KEY (log, consumer)
);
COMMENT ON TABLE netbus.catalog_consumer IS 'Every consumer with its options; where it is: netbus.stat_consumer';
SELECT pg_catalog.pg_extension_config_dump('netbus.catalog_consumer', '');

-- Two tables that are filled in rotation; the row of the highest generation counts.
CREATE TABLE netbus.catalog_ack_0 (
	consumer bigint NOT NULL,
	shard integer NOT NULL,
	generation bigint NOT NULL,
	position bigint NOT NULL,
	attempts integer NOT NULL,
	alone boolean NOT NULL,
	failed_to bigint NOT NULL,
	reset boolean NOT NULL,
	retry_seq bigint,
	retry_due timestamptz,
	reason varchar(96)
) WITH (autovacuum_enabled = off);
CREATE TABLE netbus.catalog_ack_1 (LIKE netbus.catalog_ack_0) WITH (autovacuum_enabled = off);
COMMENT ON TABLE netbus.catalog_ack_0 IS 'Where consumers are, and what is to be delivered to them again';
COMMENT ON TABLE netbus.catalog_ack_1 IS 'Where consumers are, and what is to be delivered to them again';
SELECT pg_catalog.pg_extension_config_dump('netbus.catalog_ack_0', '');
SELECT pg_catalog.pg_extension_config_dump('netbus.catalog_ack_1', '');
REVOKE ALL ON netbus.catalog_consumer, netbus.catalog_ack_0, netbus.catalog_ack_1 FROM PUBLIC;

CREATE FUNCTION netbus.create_consumer(log text, consumer text, start_at text DEFAULT 'latest', filter jsonb DEFAULT NULL,
	max_deliveries integer DEFAULT NULL, dead_letter_log text DEFAULT NULL, hold text DEFAULT NULL,
	if_not_exists boolean DEFAULT false)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_create_consumer';
COMMENT ON FUNCTION netbus.create_consumer(text, text, text, jsonb, integer, text, text, boolean) IS
'Create a consumer, a named position in a log whose members share its shards: SELECT netbus.create_consumer(''orders'', ''billing'', ''earliest''). start_at: earliest, latest, a timestamp, seq:N (one shard), or a cursor of poll(). After max_deliveries in vain an event goes to dead_letter_log. hold (a size, or unlimited): what retention must not take away before it is done. False if it exists and if_not_exists.';

CREATE FUNCTION netbus.alter_consumer(log text, consumer text, option text, value text)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_alter_consumer';
COMMENT ON FUNCTION netbus.alter_consumer(text, text, text, text) IS
'Change an option of a consumer you own, filter, max_deliveries, dead_letter_log or hold: SELECT netbus.alter_consumer(''orders'', ''billing'', ''hold'', ''10GB''). NULL: as if it had not been given.';

CREATE FUNCTION netbus.drop_consumer(log text, consumer text, if_exists boolean DEFAULT false)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_drop_consumer';
COMMENT ON FUNCTION netbus.drop_consumer(text, text, boolean) IS
'Drop a consumer you own: SELECT netbus.drop_consumer(''orders'', ''billing''). Waits for members that are at work, at most netbus.wait_timeout.';

CREATE FUNCTION netbus.pause(log text, consumer text)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_pause';
COMMENT ON FUNCTION netbus.pause(text, text) IS
'Have a consumer hand out nothing until it is resumed: SELECT netbus.pause(''orders'', ''billing''). What was received can be acknowledged. False if it is paused already.';
CREATE FUNCTION netbus.resume(log text, consumer text)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_resume';
COMMENT ON FUNCTION netbus.resume(text, text) IS
'Have a paused consumer go on: SELECT netbus.resume(''orders'', ''billing''). False if it is not paused.';

CREATE FUNCTION netbus.seek(log text, consumer text, start_at text)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_seek';
COMMENT ON FUNCTION netbus.seek(text, text, text) IS
'Move a consumer you own to another place, as with start_at of create_consumer(): SELECT netbus.seek(''orders'', ''billing'', ''earliest''). What was to be delivered again is forgotten. Waits for members that are at work, at most netbus.wait_timeout.';

CREATE FUNCTION netbus.receive(log text, consumer text, max_events integer DEFAULT 100, wait interval DEFAULT '0')
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload jsonb, deliveries integer)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'netbus_receive';
CREATE FUNCTION netbus.receive_raw(log text, consumer text, max_events integer DEFAULT 100, wait interval DEFAULT '0')
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload bytea, deliveries integer)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'netbus_receive_raw';
COMMENT ON FUNCTION netbus.receive(text, text, integer, interval) IS
'The next events of a consumer, of one shard, which is yours to the end of the transaction: BEGIN; SELECT * FROM netbus.receive(''orders'', ''billing'', wait => ''10 s''); SELECT netbus.ack(''orders'', ''billing''); COMMIT. deliveries: 1 at the first time. Waits up to wait (at most 60 s) for the first event.';
COMMENT ON FUNCTION netbus.receive_raw(text, text, integer, interval) IS
'As netbus.receive(), with the payload as bytes: SELECT * FROM netbus.receive_raw(''frames'', ''indexer'')';

CREATE FUNCTION netbus.ack(log text, consumer text, shard integer DEFAULT NULL, seq bigint DEFAULT NULL)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_ack';
COMMENT ON FUNCTION netbus.ack(text, text, integer, bigint) IS
'Acknowledge what this transaction has received from a consumer, or what it has of a shard, or that up to a seq: SELECT netbus.ack(''orders'', ''billing''). Takes effect at commit. Returns how many events.';

CREATE FUNCTION netbus.nack(log text, consumer text, shard integer, seq bigint, reason text DEFAULT NULL,
	mode text DEFAULT 'retry', delay interval DEFAULT NULL)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_nack';
COMMENT ON FUNCTION netbus.nack(text, text, integer, bigint, text, text, interval) IS
'Refuse one event that this transaction has received: SELECT netbus.nack(''orders'', ''billing'', 0, 42, ''no such customer'', delay => ''1 min''). mode retry: it comes again, after delay, until max_deliveries; release: again, and this delivery does not count; poison: to the dead-letter log. Then acknowledge the others. False if it went to the dead-letter log.';

CREATE FUNCTION netbus.redrive(dead_letter_log text, to_log text)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_redrive';
COMMENT ON FUNCTION netbus.redrive(text, text) IS
'Publish the events of a dead-letter log that were not redriven yet to a log once more: SELECT netbus.redrive(''orders_dead'', ''orders''). Returns how many.';

CREATE FUNCTION netbus.stat_consumer(OUT log text, OUT consumer text, OUT owner text, OUT shard integer, OUT position_seq bigint,
	OUT lag bigint, OUT lag_seconds float8, OUT holder_pid integer, OUT held_since timestamptz, OUT waiting integer,
	OUT paused boolean, OUT retries integer, OUT deliveries bigint, OUT redeliveries bigint, OUT acknowledged bigint,
	OUT filtered bigint, OUT dead_letters bigint, OUT lost bigint, OUT stalled_since timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_stat_consumer';
COMMENT ON FUNCTION netbus.stat_consumer() IS 'Rows of the view netbus.stat_consumer: SELECT * FROM netbus.stat_consumer()';
CREATE VIEW netbus.stat_consumer AS SELECT * FROM netbus.stat_consumer();
COMMENT ON VIEW netbus.stat_consumer IS
'Per shard of every consumer: its position, how far it lags behind in events and seconds, who has it, counters since the start of the server: SELECT * FROM netbus.stat_consumer';

REVOKE ALL ON FUNCTION netbus.create_consumer(text, text, text, jsonb, integer, text, text, boolean),
	netbus.alter_consumer(text, text, text, text), netbus.drop_consumer(text, text, boolean), netbus.pause(text, text),
	netbus.resume(text, text), netbus.seek(text, text, text), netbus.receive(text, text, integer, interval),
	netbus.receive_raw(text, text, integer, interval), netbus.ack(text, text, integer, bigint),
	netbus.nack(text, text, integer, bigint, text, text, interval), netbus.redrive(text, text), netbus.stat_consumer() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION netbus.create_consumer(text, text, text, jsonb, integer, text, text, boolean),
	netbus.alter_consumer(text, text, text, text), netbus.drop_consumer(text, text, boolean), netbus.pause(text, text),
	netbus.resume(text, text), netbus.seek(text, text, text), netbus.receive(text, text, integer, interval),
	netbus.receive_raw(text, text, integer, interval), netbus.ack(text, text, integer, bigint),
	netbus.nack(text, text, integer, bigint, text, text, interval) TO netbus_reader;
GRANT EXECUTE ON FUNCTION netbus.redrive(text, text) TO netbus_writer;
GRANT EXECUTE ON FUNCTION netbus.stat_consumer() TO netbus_reader, netbus_writer, pg_monitor;
GRANT SELECT ON netbus.stat_consumer TO netbus_reader, netbus_writer, pg_monitor;
--
-- Models: cortex.sql
--

-- Which logs are models.  Written by netbus only; see src/cortex/models.c.
CREATE TABLE netbus.catalog_model (
	log regclass PRIMARY KEY,
	kind text NOT NULL,
	model text NOT NULL,
	UNIQUE (kind, model)
);
COMMENT ON TABLE netbus.catalog_model IS 'Models and their logs; read them in the view netbus.stat_model';
SELECT pg_catalog.pg_extension_config_dump('netbus.catalog_model', '');

CREATE TABLE netbus.catalog_model_error (
	log oid,
	seq bigint,
	ts timestamptz NOT NULL,
	reason text NOT NULL,
	event jsonb NOT NULL,
	PRIMARY KEY (log, seq)
);
COMMENT ON TABLE netbus.catalog_model_error IS 'Events that a fold has set aside; read them in the view netbus.model_error';

-- Snapshots of models, filled in rotation; see src/cortex/snapshot.c.
CREATE TABLE netbus.catalog_snapshot_a (
	log oid,
	records integer NOT NULL,
	part bigint,
	data bytea NOT NULL,
	PRIMARY KEY (log, part)
) WITH (toast_tuple_target = 8160);
CREATE TABLE netbus.catalog_snapshot_b (LIKE netbus.catalog_snapshot_a INCLUDING ALL) WITH (toast_tuple_target = 8160);
ALTER TABLE netbus.catalog_snapshot_a ALTER data SET STORAGE EXTERNAL;
ALTER TABLE netbus.catalog_snapshot_b ALTER data SET STORAGE EXTERNAL;
COMMENT ON TABLE netbus.catalog_snapshot_a IS 'Snapshots of models, in rotation with netbus.catalog_snapshot_b';
COMMENT ON TABLE netbus.catalog_snapshot_b IS 'Snapshots of models, in rotation with netbus.catalog_snapshot_a';
REVOKE ALL ON netbus.catalog_model, netbus.catalog_model_error, netbus.catalog_snapshot_a, netbus.catalog_snapshot_b FROM PUBLIC;

CREATE TYPE netbus.memory AS (id bigint, content text, tags text[], source text, scope text, data jsonb, pinned boolean,
	created timestamptz, updated timestamptz);
COMMENT ON TYPE netbus.memory IS 'A memory, as netbus.memories() returns it';
CREATE TYPE netbus.task AS (id bigint, title text, status text, scope text, data jsonb, created timestamptz, updated timestamptz);
COMMENT ON TYPE netbus.task IS 'A task, as netbus.tasks() returns it';

CREATE FUNCTION netbus.create_model(kind text, model text, if_not_exists boolean DEFAULT false) RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_create_model';
COMMENT ON FUNCTION netbus.create_model(text, text, boolean) IS
'Create a model of kind memories or tasks, owned by the caller: SELECT netbus.create_model(''memories'', ''team''). Its log is memories_team (of the model default: memories); who may SELECT from or INSERT into that log''s table may query or change the model. The records are what all events of the log add up to: so retention and purge() are refused there. False if it exists and if_not_exists.';
CREATE FUNCTION netbus.drop_model(kind text, model text, if_exists boolean DEFAULT false) RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_drop_model';
COMMENT ON FUNCTION netbus.drop_model(text, text, boolean) IS
'Drop a model you own, with its log: SELECT netbus.drop_model(''memories'', ''team'')';
CREATE FUNCTION netbus.snapshot_model(kind text, model text DEFAULT 'default') RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_snapshot_model';
COMMENT ON FUNCTION netbus.snapshot_model(text, text) IS
'Have a snapshot written of a model you own, from which the next start goes on (and of the others of the database): SELECT netbus.snapshot_model(''memories''). Returns the seq that it covers.';
CREATE FUNCTION netbus.wait_for(log text, seq bigint DEFAULT NULL, timeout interval DEFAULT '5 s') RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_wait_for';
COMMENT ON FUNCTION netbus.wait_for(text, bigint, interval) IS
'Wait until the model of a log has folded up to a seq, by default all that is committed, at most 60 s: SELECT netbus.wait_for(''memories''). False if the time ran out.';

CREATE FUNCTION netbus.stat_get_model(OUT kind text, OUT model text, OUT log text, OUT state text, OUT folded_seq bigint,
	OUT lag bigint, OUT records bigint, OUT content_bytes bigint, OUT memory_bytes bigint, OUT allocated_bytes bigint,
	OUT events bigint, OUT noops bigint, OUT errors bigint, OUT lost bigint, OUT snapshot_seq bigint, OUT snapshot_at timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'netbus_stat_model';
COMMENT ON FUNCTION netbus.stat_get_model() IS 'Rows of the view netbus.stat_model: SELECT * FROM netbus.stat_get_model()';
CREATE VIEW netbus.stat_model AS SELECT * FROM netbus.stat_get_model();
COMMENT ON VIEW netbus.stat_model IS
'Every model: its log, whether it is ready, what it has folded and how much that lags behind (null without the right to read the log), records and bytes, events that did nothing, were set aside or were lost, and its newest snapshot: SELECT kind, model, state, lag, records FROM netbus.stat_model';
CREATE VIEW netbus.model_error AS
	SELECT m.kind, m.model, e.seq, e.ts, e.reason, e.event
	FROM netbus.catalog_model_error e JOIN netbus.catalog_model m ON m.log::pg_catalog.oid OPERATOR(pg_catalog.=) e.log
	WHERE pg_catalog.has_table_privilege(e.log, 'SELECT');
COMMENT ON VIEW netbus.model_error IS
'Events that a fold has set aside, with the reason, of models that you may query: SELECT kind, model, seq, reason FROM netbus.model_error';

CREATE FUNCTION netbus.decode_event(event jsonb, OUT version integer, OUT op text, OUT id bigint, OUT content text, OUT title text,
	OUT tags text[], OUT source text, OUT scope text, OUT data jsonb, OUT pinned boolean, OUT created timestamptz)
RETURNS record
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'netbus_decode_event';
COMMENT ON FUNCTION netbus.decode_event(jsonb) IS
'An event of a model''s log as columns, null where it has no such member, or not as it has to be: SELECT e.* FROM netbus.read(''memories'') r, netbus.decode_event(r.payload) e';

CREATE FUNCTION netbus.query_support(internal) RETURNS internal
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'netbus_query_support';
COMMENT ON FUNCTION netbus.query_support(internal) IS 'Tells the planner how many rows netbus.memories() and netbus.tasks() return; called by the planner only';

--
-- Memories
--
CREATE FUNCTION netbus.memory_store(content text, tags text[] DEFAULT '{}', source text DEFAULT NULL, scope text DEFAULT NULL,
	data jsonb DEFAULT NULL, id bigint DEFAULT NULL, pinned boolean DEFAULT NULL, created timestamptz DEFAULT NULL,
	model text DEFAULT 'default')
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_memory_store';
COMMENT ON FUNCTION netbus.memory_store(text, text[], text, text, jsonb, bigint, boolean, timestamptz, text) IS
'Store a memory, or replace the one with that id, which keeps created and, if that is not given, pinned: SELECT netbus.memory_store(''likes tea'', tags => ''{drinks}'', source => ''chat''). Returns the id, generated if it is not given. Visible to queries when the transaction has committed.';
CREATE FUNCTION netbus.memories_store(memories jsonb, model text DEFAULT 'default')
RETURNS bigint[] LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_memories_store';
COMMENT ON FUNCTION netbus.memories_store(jsonb, text) IS
'Store many memories, given as a JSON array of objects with members content, tags, source, scope, data, id, pinned and created: SELECT netbus.memories_store(''[{"content": "likes tea", "tags": ["drinks"]}]''). Returns their ids.';
CREATE FUNCTION netbus.memory_retag(id bigint, tags text[], model text DEFAULT 'default')
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_memory_retag';
COMMENT ON FUNCTION netbus.memory_retag(bigint, text[], text) IS
'Replace the tags of a memory: SELECT netbus.memory_retag(42, ''{drinks,morning}''). False if there is no memory with that id.';
CREATE FUNCTION netbus.memory_pin(id bigint, model text DEFAULT 'default')
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_memory_pin';
COMMENT ON FUNCTION netbus.memory_pin(bigint, text) IS 'Pin a memory: SELECT netbus.memory_pin(42). False if there is no memory with that id.';
CREATE FUNCTION netbus.memory_unpin(id bigint, model text DEFAULT 'default')
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_memory_unpin';
COMMENT ON FUNCTION netbus.memory_unpin(bigint, text) IS 'Unpin a memory: SELECT netbus.memory_unpin(42). False if there is no memory with that id.';
CREATE FUNCTION netbus.memory_delete(id bigint, model text DEFAULT 'default')
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_memory_delete';
COMMENT ON FUNCTION netbus.memory_delete(bigint, text) IS 'Delete a memory: SELECT netbus.memory_delete(42). False if there is no memory with that id.';

CREATE FUNCTION netbus.memories(tag text DEFAULT NULL, any_tags text[] DEFAULT NULL, all_tags text[] DEFAULT NULL, source text DEFAULT NULL,
	scope text DEFAULT NULL, pinned boolean DEFAULT NULL, content_contains text DEFAULT NULL, ids bigint[] DEFAULT NULL,
	created_from timestamptz DEFAULT NULL, created_to timestamptz DEFAULT NULL, updated_from timestamptz DEFAULT NULL,
	updated_to timestamptz DEFAULT NULL, order_by text DEFAULT 'created_desc', max_rows integer DEFAULT NULL,
	after_at timestamptz DEFAULT NULL, after_id bigint DEFAULT NULL, model text DEFAULT 'default')
RETURNS SETOF netbus.memory LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 SUPPORT netbus.query_support
AS 'MODULE_PATHNAME', 'netbus_memories';
COMMENT ON FUNCTION netbus.memories(text, text[], text[], text, text, boolean, text, bigint[], timestamptz, timestamptz, timestamptz, timestamptz, text, integer, timestamptz, bigint, text) IS
'Memories that match all filters given: SELECT * FROM netbus.memories(tag => ''drinks'', max_rows => 10). Times are [from, to); content_contains is a substring, whatever the case. Order created_desc, created_asc, updated_desc, updated_asc, id_desc or id_asc; ties break by id. The next page follows with after_at and after_id of the last row (by id: after_id alone).';
CREATE FUNCTION netbus.memory(id bigint, model text DEFAULT 'default')
RETURNS SETOF netbus.memory LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'netbus_memory';
COMMENT ON FUNCTION netbus.memory(bigint, text) IS 'One memory, no row if there is none with that id: SELECT content FROM netbus.memory(42)';
CREATE FUNCTION netbus.memory_count(tag text DEFAULT NULL, any_tags text[] DEFAULT NULL, all_tags text[] DEFAULT NULL, source text DEFAULT NULL,
	scope text DEFAULT NULL, pinned boolean DEFAULT NULL, content_contains text DEFAULT NULL, ids bigint[] DEFAULT NULL,
	created_from timestamptz DEFAULT NULL, created_to timestamptz DEFAULT NULL, updated_from timestamptz DEFAULT NULL,
	updated_to timestamptz DEFAULT NULL, model text DEFAULT 'default')
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_memory_count';
COMMENT ON FUNCTION netbus.memory_count(text, text[], text[], text, text, boolean, text, bigint[], timestamptz, timestamptz, timestamptz, timestamptz, text) IS
'How many memories match all filters given, which are those of netbus.memories(): SELECT netbus.memory_count(tag => ''drinks'')';

--
-- Tasks
--
CREATE FUNCTION netbus.task_create(title text, scope text DEFAULT NULL, data jsonb DEFAULT NULL, id bigint DEFAULT NULL, model text DEFAULT 'default')
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_task_create';
COMMENT ON FUNCTION netbus.task_create(text, text, jsonb, bigint, text) IS
'Create a pending task: SELECT netbus.task_create(''call back'', scope => ''sales''). Returns the id, generated if it is not given; an id that exists is an error.';
CREATE FUNCTION netbus.task_rename(id bigint, title text, model text DEFAULT 'default')
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_task_rename';
COMMENT ON FUNCTION netbus.task_rename(bigint, text, text) IS 'Give a task another title: SELECT netbus.task_rename(42, ''call back today''). False if there is no task with that id.';
CREATE FUNCTION netbus.task_complete(id bigint, model text DEFAULT 'default')
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_task_complete';
COMMENT ON FUNCTION netbus.task_complete(bigint, text) IS 'Complete a task: SELECT netbus.task_complete(42). False if there is no task with that id.';
CREATE FUNCTION netbus.task_reopen(id bigint, model text DEFAULT 'default')
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_task_reopen';
COMMENT ON FUNCTION netbus.task_reopen(bigint, text) IS 'Make a completed task pending again: SELECT netbus.task_reopen(42). False if there is no task with that id.';
CREATE FUNCTION netbus.task_delete(id bigint, model text DEFAULT 'default')
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_task_delete';
COMMENT ON FUNCTION netbus.task_delete(bigint, text) IS 'Delete a task: SELECT netbus.task_delete(42). False if there is no task with that id.';

CREATE FUNCTION netbus.tasks(status text DEFAULT NULL, title_contains text DEFAULT NULL, scope text DEFAULT NULL, ids bigint[] DEFAULT NULL,
	created_from timestamptz DEFAULT NULL, created_to timestamptz DEFAULT NULL, updated_from timestamptz DEFAULT NULL,
	updated_to timestamptz DEFAULT NULL, order_by text DEFAULT 'created_desc', max_rows integer DEFAULT NULL,
	after_at timestamptz DEFAULT NULL, after_id bigint DEFAULT NULL, model text DEFAULT 'default')
RETURNS SETOF netbus.task LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 SUPPORT netbus.query_support
AS 'MODULE_PATHNAME', 'netbus_tasks';
COMMENT ON FUNCTION netbus.tasks(text, text, text, bigint[], timestamptz, timestamptz, timestamptz, timestamptz, text, integer, timestamptz, bigint, text) IS
'Tasks that match all filters given; status is pending or completed: SELECT * FROM netbus.tasks(status => ''pending'', max_rows => 20). Times, order and pages as in netbus.memories().';
CREATE FUNCTION netbus.task(id bigint, model text DEFAULT 'default')
RETURNS SETOF netbus.task LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'netbus_task';
COMMENT ON FUNCTION netbus.task(bigint, text) IS 'One task, no row if there is none with that id: SELECT status FROM netbus.task(42)';
CREATE FUNCTION netbus.task_count(status text DEFAULT NULL, title_contains text DEFAULT NULL, scope text DEFAULT NULL, ids bigint[] DEFAULT NULL,
	created_from timestamptz DEFAULT NULL, created_to timestamptz DEFAULT NULL, updated_from timestamptz DEFAULT NULL,
	updated_to timestamptz DEFAULT NULL, model text DEFAULT 'default')
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_task_count';
COMMENT ON FUNCTION netbus.task_count(text, text, text, bigint[], timestamptz, timestamptz, timestamptz, timestamptz, text) IS
'How many tasks match all filters given, which are those of netbus.tasks(): SELECT netbus.task_count(status => ''pending'')';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA netbus FROM PUBLIC;
GRANT EXECUTE ON FUNCTION netbus.create_model(text, text, boolean), netbus.drop_model(text, text, boolean), netbus.snapshot_model(text, text) TO netbus_admin;
GRANT EXECUTE ON FUNCTION netbus.memory_store(text, text[], text, text, jsonb, bigint, boolean, timestamptz, text), netbus.memories_store(jsonb, text),
	netbus.memory_retag(bigint, text[], text), netbus.memory_pin(bigint, text), netbus.memory_unpin(bigint, text), netbus.memory_delete(bigint, text),
	netbus.task_create(text, text, jsonb, bigint, text), netbus.task_rename(bigint, text, text), netbus.task_complete(bigint, text),
	netbus.task_reopen(bigint, text), netbus.task_delete(bigint, text) TO netbus_writer;
GRANT EXECUTE ON FUNCTION
	netbus.memories(text, text[], text[], text, text, boolean, text, bigint[], timestamptz, timestamptz, timestamptz, timestamptz, text, integer, timestamptz, bigint, text),
	netbus.memory(bigint, text),
	netbus.memory_count(text, text[], text[], text, text, boolean, text, bigint[], timestamptz, timestamptz, timestamptz, timestamptz, text),
	netbus.tasks(text, text, text, bigint[], timestamptz, timestamptz, timestamptz, timestamptz, text, integer, timestamptz, bigint, text),
	netbus.task(bigint, text),
	netbus.task_count(text, text, text, bigint[], timestamptz, timestamptz, timestamptz, timestamptz, text) TO netbus_reader;
GRANT EXECUTE ON FUNCTION netbus.wait_for(text, bigint, interval), netbus.decode_event(jsonb) TO netbus_reader, netbus_writer;
GRANT EXECUTE ON FUNCTION netbus.stat_get_model() TO netbus_reader, netbus_writer, pg_monitor;
GRANT SELECT ON netbus.stat_model, netbus.model_error TO netbus_reader, netbus_writer, pg_monitor;

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
