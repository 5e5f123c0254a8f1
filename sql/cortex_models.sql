--
-- Models: which there are, who may use them, and the logs behind them
--
SELECT netbus.create_model('memories', 'team'), netbus.create_model('tasks', 'team'), netbus.create_model('memories', 'other');
SELECT kind, model, log FROM netbus.stat_model ORDER BY log;
SELECT log, shards, durability, format, owner = current_user AS mine FROM netbus.logs WHERE log ~ '_(team|other)$' ORDER BY log;
SELECT netbus.create_model('memories', 'team');
\echo :LAST_ERROR_SQLSTATE
SELECT netbus.create_model('memories', 'team', if_not_exists => true);
SELECT netbus.create_model('notes', 'team');
SELECT netbus.create_model('memories', 'Team');
SELECT netbus.create_model('memories', '');
SELECT netbus.create_model('memories', repeat('x', 39));
SELECT netbus.create_model('memories', repeat('x', 38)), netbus.drop_model('memories', repeat('x', 38));
SELECT netbus.create_model(NULL, 'team');
SELECT netbus.create_model('memories', NULL);
SELECT netbus.drop_model('memories', 'none');
\echo :LAST_ERROR_SQLSTATE
SELECT netbus.drop_model('memories', 'none', if_exists => true);
SELECT netbus.drop_model('notes', 'none', if_exists => true);
SELECT netbus.memory_count(model => 'it''s');
BEGIN READ ONLY;
SELECT netbus.create_model('memories', 'x');
ROLLBACK;
BEGIN READ ONLY;
SELECT netbus.drop_model('memories', 'team');
ROLLBACK;

-- Each has its own records.
SELECT netbus.memory_store('of the team', '{x}', id => 1, model => 'team'), netbus.memory_store('of others', '{x}', id => 1, model => 'other'),
	netbus.task_create('of the team', id => 1, model => 'team');
SELECT content FROM netbus.memories('x', model => 'team');
SELECT content FROM netbus.memory(1, 'other');
SELECT title FROM netbus.tasks(model => 'team');
SELECT netbus.memory_count(model => 'team'), netbus.memory_count('x', model => 'other'), netbus.memory_count(), netbus.task_count(model => 'team'), netbus.task_count();
SELECT netbus.memory_retag(1, '{y}', 'team'), netbus.memory_pin(1, 'team'), netbus.memory_unpin(1, 'other'), netbus.memory_delete(2, 'team'), netbus.memories_store('[]', 'team');
SELECT netbus.task_rename(1, 'new', 'team'), netbus.task_complete(1, 'team'), netbus.task_reopen(1, 'team'), netbus.task_delete(2, 'team');
SELECT netbus.memory_count(model => 'team'), netbus.memory_count(model => 'other'), netbus.task_count(model => 'team');
SELECT kind, model, state, lag, records, events, noops, errors, lost FROM netbus.stat_model ORDER BY log;

-- Dropped, as a model or as a log; by DROP TABLE; in a transaction that is rolled back.
BEGIN;
SELECT netbus.drop_model('memories', 'other');
SELECT netbus.memory_count(model => 'other');
ROLLBACK;
SELECT netbus.memory_count(model => 'other');
SELECT netbus.drop_model('memories', 'other');
SELECT netbus.memory_count(model => 'other');
SELECT netbus.create_model('memories', 'other');
SELECT netbus.memory_count(model => 'other');
SELECT netbus.memory_store('again', id => 1, model => 'other');
SELECT content FROM netbus.memory(1, 'other');
SELECT netbus.drop_log('memories_other');
SELECT netbus.memory_count(model => 'other');
SELECT netbus.create_model('memories', 'other');
SELECT netbus.memory_store('and again', model => 'other') > 0 AS stored;
SELECT content FROM netbus.memories(model => 'other');
DROP TABLE netbus.log_memories_other;
SELECT netbus.memory_count(model => 'other');
-- Created, written to and asked in one transaction; also behind a savepoint that is rolled back.
BEGIN;
SELECT netbus.create_model('memories', 'brief');
SELECT netbus.memory_store('x', id => 1, model => 'brief'), netbus.memory_pin(1, 'brief');
SELECT netbus.memory_count(model => 'brief');
SELECT * FROM netbus.memories(model => 'brief');
SELECT * FROM netbus.memory(1, 'brief');
ROLLBACK;
SELECT netbus.memory_count(model => 'brief');
BEGIN;
SAVEPOINT s;
SELECT netbus.create_model('tasks', 'brief');
SELECT netbus.task_create('never', id => 1, model => 'brief');
ROLLBACK TO s;
SELECT netbus.create_model('tasks', 'brief');
SELECT netbus.task_create('x', id => 2, model => 'brief'), netbus.task_count(model => 'brief');
COMMIT;
SELECT id, title FROM netbus.tasks(model => 'brief');
BEGIN;
SELECT netbus.drop_model('tasks', 'brief');
SELECT netbus.create_model('tasks', 'brief');
SELECT netbus.task_create('y', id => 3, model => 'brief'), netbus.task_count(model => 'brief');
COMMIT;
SELECT id, title FROM netbus.tasks(model => 'brief');
SELECT netbus.drop_model('tasks', 'brief');
SELECT kind, model FROM netbus.stat_model ORDER BY log;

-- The default ones come into being when they are first written to, not by a question.
SELECT netbus.memory_count(), netbus.task_count(), (SELECT count(*) FROM netbus.memories()), (SELECT count(*) FROM netbus.task(1));
SELECT model FROM netbus.stat_model WHERE model = 'default';
SELECT netbus.snapshot_model('memories');
SELECT netbus.memory_delete(1), netbus.memory_retag(1, '{}'), netbus.memory_pin(1), netbus.memory_unpin(1), netbus.task_rename(1, 'x'), netbus.task_complete(1), netbus.task_reopen(1), netbus.task_delete(1);
SELECT model FROM netbus.stat_model WHERE model = 'default';
SELECT netbus.memories_store('[]');
SELECT kind, model, log FROM netbus.stat_model WHERE model = 'default';
BEGIN;
SELECT netbus.task_create('never', id => 1), netbus.task_count();
ROLLBACK;
SELECT netbus.task_create('ever', id => 1);
SELECT title FROM netbus.tasks();
SELECT netbus.drop_model('tasks', 'default');
SELECT netbus.task_count();
-- A log that happens to have the name stays what it is.
SELECT netbus.create_log('tasks');
SELECT netbus.task_create('x');
\echo :LAST_ERROR_SQLSTATE
SELECT netbus.task_count();
ALTER TABLE netbus.log_tasks RENAME TO log_not_a_model;
SELECT netbus.task_create('x', id => 1), netbus.task_count();
SELECT netbus.wait_for('not_a_model');
SELECT netbus.drop_log('not_a_model'), netbus.drop_model('tasks', 'default');
-- A model's log under another name is still its log.
ALTER TABLE netbus.log_memories_team RENAME TO log_ours;
SELECT netbus.memory_store('still there', id => 2, model => 'team');
SELECT id, content FROM netbus.memories(model => 'team');
SELECT netbus.wait_for('ours');
SELECT model, log FROM netbus.stat_model WHERE model = 'team' AND kind = 'memories';
ALTER TABLE netbus.log_ours RENAME TO log_memories_team;

-- The log is an ordinary one, of which nothing is cut off.
SELECT seq, payload - 'created' FROM netbus.read('memories_team', max_events => 2);
SELECT netbus.alter_log('memories_team', 'retention_events', '1000');
\echo :LAST_ERROR_SQLSTATE
SELECT netbus.alter_log('memories_team', 'retention_size', '1GB');
SELECT netbus.alter_log('memories_team', 'retention_age', '1 day');
SELECT netbus.purge('memories_team');
SELECT netbus.purge('tasks_team', now());
SELECT netbus.alter_log('memories_team', 'retention_events', NULL), netbus.alter_log('memories_team', 'backpressure', 'fail'), netbus.alter_log('memories_team', 'ring_size', '8MB');
SELECT netbus.alter_log('memories_team', 'durability', 'memory');
SELECT netbus.alter_log('memories_team', 'shards', '2');
SELECT netbus.alter_log('memories_team', 'backpressure', 'drop_oldest');
TRUNCATE netbus.log_memories_team;
DELETE FROM netbus.log_memories_team;
SELECT netbus.memory_count(model => 'team');
SELECT netbus.create_consumer('memories_team', 'indexer', 'earliest');
BEGIN;
SELECT seq, payload ->> 'op' AS op FROM netbus.receive('memories_team', 'indexer');
SELECT netbus.ack('memories_team', 'indexer');
COMMIT;
SELECT seq, payload ->> 'op' AS op FROM netbus.poll('memories_team', max_events => 1);
SELECT seq, payload ->> 'op' AS op FROM netbus.tail('memories_team', 3);

-- Events as columns.
SELECT netbus.create_model('memories', 'events'), netbus.create_model('tasks', 'events');
SELECT netbus.memory_store('all', '{b,a,b}', 's', 'x', '{"k": 1}', 9007199254740993, false, '1960-01-01 00:00:00.000001+00', 'events'),
	netbus.memory_store('little', id => -1, model => 'events');
SELECT netbus.memory_retag(-1, '{}', 'events'), netbus.memory_pin(-1, 'events'), netbus.memory_unpin(-1, 'events'), netbus.memory_delete(-1, 'events');
SELECT payload FROM netbus.read('memories_events');
SELECT seq, e.* FROM netbus.read('memories_events'), netbus.decode_event(payload) e;
SELECT netbus.task_create('do', 'x', '[]', 1, 'events');
SELECT netbus.task_rename(1, 'undo', 'events'), netbus.task_complete(1, 'events'), netbus.task_reopen(1, 'events'), netbus.task_delete(1, 'events');
SELECT payload FROM netbus.read('tasks_events');
SELECT seq, version, op, id, title, scope, data FROM netbus.read('tasks_events'), netbus.decode_event(payload);
-- What is not as it has to be is null.
SELECT e.* FROM unnest(ARRAY['{}', '5', '[1]', 'null', '{"v": "1", "op": 1, "id": 1, "content": {}, "title": 1, "tags": "a", "source": 1, "scope": [], "pinned": 1, "created": 1}',
	'{"v": 1e30, "id": "x", "tags": [1], "created": "1x"}', '{"v": 2, "id": "9223372036854775808", "op": "unknown", "tags": ["a", "a"], "data": 0, "created": "0"}']::jsonb[]) p, netbus.decode_event(p) e;
SELECT netbus.decode_event(NULL);

-- Anybody with the right may publish events; bad ones are set aside, with the reason.
SELECT netbus.publish('memories_events', '{"v": 1, "op": "store", "id": "5", "content": "by hand", "tags": ["a", "b", "a"], "more": "ignored"}'),
	netbus.publish('memories_events', '{"v": 1.0, "op": "store", "id": "6", "content": "", "tags": null, "data": null, "created": "-315619199999999"}', 'key');
SELECT id, content, tags, data, created < '1960-01-02' AS backdated FROM netbus.memories(model => 'events', order_by => 'id_asc');
SELECT count(netbus.publish('memories_events', p)) FROM unnest(ARRAY['null', '5', '"x"', '[]', '{}', '{"v": "1"}', '{"v": 2, "op": "store", "id": "1", "content": "x"}',
	'{"v": 1}', '{"v": 1, "id": 1}', '{"v": 1, "id": ""}', '{"v": 1, "id": "-"}', '{"v": 1, "id": "1.0"}', '{"v": 1, "id": " 1"}', '{"v": 1, "id": "9223372036854775808"}', '{"v": 1, "id": "-9223372036854775809"}',
	'{"v": 1, "id": "1"}', '{"v": 1, "id": "1", "op": 1}', '{"v": 1, "id": "1", "op": "stores"}', '{"v": 1, "id": "1", "op": "create"}',
	'{"v": 1, "id": "1", "op": "store"}', '{"v": 1, "id": "1", "op": "store", "content": null}', '{"v": 1, "id": "1", "op": "store", "content": 1}',
	'{"v": 1, "id": "1", "op": "store", "content": "x", "tags": "a"}', '{"v": 1, "id": "1", "op": "store", "content": "x", "tags": {"a": 1}}', '{"v": 1, "id": "1", "op": "store", "content": "x", "tags": ["a", 1]}',
	'{"v": 1, "id": "1", "op": "store", "content": "x", "source": {}}', '{"v": 1, "id": "1", "op": "store", "content": "x", "scope": 1}', '{"v": 1, "id": "1", "op": "store", "content": "x", "pinned": "t"}',
	'{"v": 1, "id": "1", "op": "store", "content": "x", "created": 5}', '{"v": 1, "id": "1", "op": "store", "content": "x", "created": "now"}', '{"v": 1, "id": "1", "op": "store", "content": "x", "created": "9223372036854775807"}',
	'{"v": 1, "id": "5", "op": "retag", "tags": 1}']::jsonb[]) p;
SELECT count(netbus.publish('memories_events', p)) FROM (VALUES (jsonb_build_object('v', 1, 'id', '1', 'op', 'store', 'content', repeat('x', 1024 * 1024 + 1))),
	(jsonb_build_object('v', 1, 'id', '1', 'op', 'store', 'content', 'x', 'source', repeat('x', 1025))), (jsonb_build_object('v', 1, 'id', '1', 'op', 'store', 'content', 'x', 'tags', ARRAY[repeat('x', 257)])),
	(jsonb_build_object('v', 1, 'id', '1', 'op', 'store', 'content', 'x', 'tags', ARRAY(SELECT i::text FROM generate_series(1, 1001) i))),
	(jsonb_build_object('v', 1, 'id', '1', 'op', 'store', 'content', 'x', 'data', repeat('x', 1024 * 1024)))) v (p);
-- Good ones in between are folded; whoever waits is not held up.
SELECT netbus.memory_store('good', id => 7, model => 'events');
SELECT netbus.wait_for('memories_events');
SELECT id, content, tags FROM netbus.memories(model => 'events', order_by => 'id_asc');
SELECT reason, count(*), min(left(event::text, 60)) AS event, bool_and(event = r.payload) AS whole FROM netbus.model_error e JOIN netbus.read('memories_events') r USING (seq) WHERE kind = 'memories' AND model = 'events'
	GROUP BY reason ORDER BY min(seq);
SELECT records, events, noops, errors FROM netbus.stat_model WHERE kind = 'memories' AND model = 'events';
SELECT count(netbus.publish('tasks_events', p)) FROM unnest(ARRAY['{"v": 1, "id": "1", "op": "create"}', '{"v": 1, "id": "1", "op": "create", "title": 5}', '{"v": 1, "id": "1", "op": "create", "title": "x", "scope": 5}',
	'{"v": 1, "id": "1", "op": "rename"}', '{"v": 1, "id": "1", "op": "store", "content": "x"}', '{"v": 1, "id": "1", "op": "create", "title": "good"}', '{"v": 1, "id": "1", "op": "create", "title": "no-op"}',
	'{"v": 1, "id": "2", "op": "complete"}', '{"v": 1, "id": "2", "op": "rename", "title": "lost"}', '{"v": 1, "id": "2", "op": "reopen"}', '{"v": 1, "id": "2", "op": "delete"}']::jsonb[]) p;
SELECT id, title, status FROM netbus.tasks(model => 'events');
SELECT reason, event FROM netbus.model_error WHERE kind = 'tasks' ORDER BY seq;
SELECT records, noops, errors FROM netbus.stat_model WHERE kind = 'tasks' AND model = 'events';
-- They go with the model.
SELECT netbus.drop_model('memories', 'events'), netbus.drop_model('tasks', 'events');
SELECT count(*) FROM netbus.model_error;

-- Waiting, and what a query waits for.
SELECT netbus.wait_for('memories_team'), netbus.wait_for('memories_team', 0), netbus.wait_for('memories_team', 1), netbus.wait_for('memories_team', -5);
SELECT netbus.wait_for('memories_team', 1000000, '0'), netbus.wait_for('memories_team', 1000000, '10 ms');
SELECT netbus.wait_for('memories_team', 1, NULL);
SELECT netbus.wait_for(NULL);
SELECT netbus.wait_for('memories_team', timeout => '-1 s');
SELECT netbus.wait_for('none');
BEGIN;
SET LOCAL statement_timeout = '100 ms';
SELECT netbus.wait_for('memories_team', 1000000, '1 minute');
ROLLBACK;
SET netbus.read_consistency = 'session';
SELECT netbus.memory_store('seen', id => 3, model => 'team');
SELECT content FROM netbus.memory(3, 'team');
SET netbus.read_consistency = 'none';
SELECT netbus.wait_for('memories_team');
SELECT content FROM netbus.memory(3, 'team');
SET netbus.read_consistency = 'sometimes';
RESET netbus.read_consistency;

-- What the planner expects: what the model has now, a share for each filter, no more than is asked for.
SELECT cardinality(netbus.memories_store((SELECT jsonb_agg(jsonb_build_object('content', 'plan ' || i, 'id', i)) FROM generate_series(1, 2000) i), 'team'));
SELECT netbus.memory_count(model => 'team');
CREATE FUNCTION rows_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
	RETURN plan -> 0 -> 'Plan' ->> 'Plan Rows';
END $$;
SELECT f, rows_of('SELECT * FROM netbus.memories(' || concat_ws(', ', NULLIF(f, ''), 'model => ''team''') || ')')
	FROM unnest(ARRAY['', $$tag => 'a'$$, $$tag => NULL$$, $$any_tags => '{a,b}'$$, $$source => 's', pinned => true$$, 'pinned => true', $$content_contains => 'x'$$, $$ids => '{1,2,3}'$$, 'ids => ARRAY[1,2,3]',
		$$ids => '{1,2,3}', max_rows => 2$$, 'max_rows => 10', 'max_rows => 0', $$created_from => '2024-01-01', created_to => '2025-01-01'$$, $$tag => 'a', source => 's', scope => 'x'$$]) WITH ORDINALITY u (f, n) ORDER BY n;
SELECT rows_of('SELECT * FROM netbus.memory(1)'), rows_of('SELECT * FROM netbus.tasks(''pending'', model => ''team'')'), rows_of('SELECT netbus.tasks(max_rows => 7)'), rows_of('SELECT * FROM netbus.memories(model => ''none'')');
CREATE TABLE people (id bigint PRIMARY KEY, name text);
INSERT INTO people SELECT i, 'name ' || i FROM generate_series(1, 20000) i;
ANALYZE people;
EXPLAIN (COSTS OFF) SELECT name, content FROM netbus.memories(max_rows => 5, model => 'team') m JOIN people p ON p.id = m.id;
EXPLAIN (COSTS OFF) SELECT name, content FROM people p, netbus.memory(p.id, 'team') m WHERE p.id < 5;
SELECT name, content FROM people p, netbus.memory(p.id, 'team') m WHERE p.id < 5 ORDER BY p.id;
DROP TABLE people;
DROP FUNCTION rows_of;

-- The memory of all models has a limit.
SELECT netbus.create_model('memories', 'big');
SELECT netbus.memory_count(model => 'big');
SELECT memory_bytes > 0 AS used, memory_bytes <= allocated_bytes AS allocated, content_bytes FROM netbus.stat_model WHERE model = 'big';
ALTER SYSTEM SET netbus.model_memory = '8MB';
SELECT pg_reload_conf();
SELECT pg_sleep(1);
SHOW netbus.model_memory;
SELECT count(netbus.memory_store(repeat('x', 1000000), model => 'big')) FROM generate_series(1, 20);
\echo :LAST_ERROR_SQLSTATE
SELECT netbus.memory_store(repeat('x', 1000000), id => 1, model => 'big') FROM generate_series(1, 5);
SELECT netbus.memory_count(model => 'big');
SELECT netbus.task_create(repeat('x', 1000000), model => 'team') IS NOT NULL AS stored FROM generate_series(1, 4);
SELECT netbus.memory_delete(1, 'big');
SELECT netbus.memory_count(model => 'big');
ALTER SYSTEM RESET netbus.model_memory;
SELECT pg_reload_conf();
SELECT pg_sleep(1);
SHOW netbus.model_memory;
SELECT netbus.drop_model('memories', 'big');

--
-- Rights
--
CREATE ROLE regress_netbus_nobody;
CREATE ROLE regress_netbus_agent IN ROLE netbus_writer, netbus_reader;
CREATE ROLE regress_netbus_reader IN ROLE netbus_reader;
CREATE ROLE regress_netbus_admin IN ROLE netbus_admin;
SET ROLE regress_netbus_nobody;
SELECT netbus.memory_count();
SET ROLE regress_netbus_agent;
SELECT netbus.create_model('memories', 'mine');
SELECT netbus.memory_count(model => 'team');
SELECT * FROM netbus.memories(model => 'team');
SELECT * FROM netbus.memory(1, 'team');
SELECT netbus.memory_store('x', model => 'team');
SELECT netbus.memories_store('[]', 'team');
SELECT netbus.memory_delete(1, 'team');
SELECT netbus.wait_for('memories_team');
SELECT netbus.drop_model('memories', 'team');
SELECT netbus.snapshot_model('memories', 'team');
-- An agent does not create default models.
SELECT netbus.task_count();
SELECT netbus.task_complete(1), netbus.task_create('x');
\echo :LAST_ERROR_SQLSTATE
SELECT kind, model, lag, records > 0 AS some FROM netbus.stat_model WHERE model = 'team' ORDER BY kind;
RESET ROLE;
SET ROLE regress_netbus_admin;
SELECT netbus.create_model('memories', 'shared');
SELECT netbus.task_create('of the admin', id => 1);
GRANT INSERT ON netbus.log_memories_shared TO regress_netbus_agent;
SET ROLE regress_netbus_agent;
SELECT netbus.memory_store('by the agent', id => 1, model => 'shared');
SELECT netbus.memory_pin(1, 'shared'), netbus.memory_pin(2, 'shared');
SELECT content FROM netbus.memories(model => 'shared');
SET ROLE regress_netbus_admin;
GRANT SELECT ON netbus.log_memories_shared TO regress_netbus_agent, regress_netbus_reader;
SET ROLE regress_netbus_reader;
SELECT content, pinned FROM netbus.memories(model => 'shared');
SELECT netbus.memory_store('x', model => 'shared');
SELECT netbus.snapshot_model('memories', 'shared');
SET ROLE regress_netbus_agent;
SELECT content FROM netbus.memories(model => 'shared');
SELECT netbus.publish('memories_shared', '"bad"');
SELECT netbus.wait_for('memories_shared');
SELECT kind, model, event FROM netbus.model_error;
SELECT netbus.memory_count(model => 'shared');
SET ROLE regress_netbus_admin;
REVOKE INSERT, SELECT ON netbus.log_memories_shared FROM regress_netbus_agent;
SET ROLE regress_netbus_agent;
SELECT netbus.memory_count(model => 'shared');
SELECT netbus.memory_store('x', model => 'shared');
SELECT netbus.memory_pin(1, 'shared');
SELECT * FROM netbus.model_error;
SELECT * FROM netbus.catalog_model;
SELECT * FROM netbus.catalog_model_error;
SET ROLE regress_netbus_reader;
SELECT kind, model, event FROM netbus.model_error;
SET ROLE regress_netbus_admin;
SELECT netbus.snapshot_model('memories', 'shared') > 0 AS covered;
SELECT netbus.snapshot_model('memories', 'team');
SELECT netbus.drop_model('memories', 'team');
SELECT netbus.drop_model('memories', 'shared');
SELECT count(*) FROM netbus.model_error;
RESET ROLE;
SELECT owner FROM netbus.logs WHERE log = 'tasks';
-- By a function of the owner others may do what they have no right for.
CREATE FUNCTION note(what text) RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT netbus.memory_store(what, id => 77, model => 'team') $$;
SET ROLE regress_netbus_nobody;
SELECT note('by way of a function');
RESET ROLE;
SELECT content FROM netbus.memory(77, 'team');
DROP FUNCTION note;
SELECT netbus.drop_model(kind, model) FROM netbus.stat_model ORDER BY log;
SELECT count(*) FROM netbus.stat_model;
DROP ROLE regress_netbus_nobody, regress_netbus_agent, regress_netbus_reader, regress_netbus_admin;
