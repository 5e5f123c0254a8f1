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
