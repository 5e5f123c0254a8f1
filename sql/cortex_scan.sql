-- FROM netbus.memories(...) is a scan of its own (src/cortex/scan.c), which must answer as a function scan does.
SELECT count(netbus.memory_store('content ' || i, ARRAY['t' || i % 3, 'all'], 's' || i % 2, id => i, pinned => i % 5 = 0,
	created => timestamptz '2026-01-01 00:00:00+00' + i * interval '1 hour', data => CASE WHEN i % 2 = 0 THEN jsonb_build_object('i', i) END))
	FROM generate_series(1, 200) i;
SELECT count(netbus.task_create('task ' || i, id => i)) FROM generate_series(1, 9) i;

EXPLAIN (COSTS OFF) SELECT id FROM netbus.memories(tag => 't1') WHERE pinned ORDER BY id;
EXPLAIN (VERBOSE, COSTS OFF) SELECT title FROM netbus.task(3);
EXPLAIN (COSTS OFF) SELECT m.id, t.title FROM netbus.memories(max_rows => 5) m, netbus.task(m.id % 9) t;
-- Only what is needed is in the row; all of it, nothing, and what is null.
SELECT id, content, tags, source, scope, data, pinned, created AT TIME ZONE 'UTC' AS created FROM netbus.memories(tag => 't1', max_rows => 3);
SELECT data, id FROM netbus.memories(source => 's0', order_by => 'id_asc', max_rows => 2);
SELECT count(*), count(data), sum((data->>'i')::int) FROM netbus.memories();
SELECT count(*) FROM netbus.memories(), netbus.tasks();
SELECT id, title, status FROM netbus.tasks(order_by => 'id_desc', max_rows => 2);
SELECT id FROM netbus.memory(7), netbus.memory(8) e(b) WHERE b = 8;
SELECT id FROM netbus.memory(4711);
-- Arguments that change for each row of another item, and those that do not.
SELECT i, id FROM generate_series(1, 3) i LEFT JOIN LATERAL netbus.memories(tag => 't' || i, max_rows => 2) ON true ORDER BY i, id;
SELECT i, (SELECT string_agg(id::text, ' ' ORDER BY id) FROM netbus.memories(ids => ARRAY[i, i + 1, 1000])) FROM generate_series(1::bigint, 3) i;
SELECT i, s.c FROM (VALUES (1), (2), (3)) v(i) LEFT JOIN
	(SELECT id, coalesce(scope, source) || '!' AS c FROM netbus.memories(ids => '{1,2}')) s ON s.id = v.i;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_material = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM (VALUES (1), (2), (3)) v(i) LEFT JOIN netbus.memories(tag => 't1') m ON m.id % 3 = v.i % 3;
SELECT count(*) FROM (VALUES (1), (2), (3)) v(i) LEFT JOIN netbus.memories(tag => 't1') m ON m.id % 3 = v.i % 3;
-- The same with rows that go to a tuplestore.
SET work_mem = '64kB';
SELECT count(netbus.memory_store(repeat('x', 2000), '{large}', id => i)) FROM generate_series(1001, 1100) i;
SELECT count(*), count(DISTINCT m.id), sum(length(content)), min(m.id), max(m.id)
	FROM (VALUES (1), (2)) v(i) LEFT JOIN netbus.memories(tag => 'large') m ON m.id % 2 = v.i % 2;
SELECT i, count(m.id), sum(length(content)) FROM (VALUES (0), (10), (100), (20)) v(i), netbus.memories(tag => 'large', max_rows => i) m GROUP BY 1 ORDER BY 1;
SELECT array_agg(id) = array_agg(id ORDER BY id DESC) AS ordered FROM (SELECT id FROM netbus.memories(tag => 'large', order_by => 'id_desc')) s;
RESET ALL;
-- Only its arguments make it another scan, not what its rows are compared with.
CREATE SEQUENCE calls;
SELECT i, (SELECT count(*) FROM netbus.memories(tag => 't' || (nextval('calls') - nextval('calls') + 2), max_rows => 5) m WHERE m.id > i) FROM (VALUES (190), (195)) v(i);
SELECT last_value FROM calls;
SELECT i, (SELECT count(*) FROM netbus.memories(tag => 't' || (nextval('calls') - nextval('calls') + i), max_rows => 5) m WHERE m.id > 190) FROM (VALUES (1), (2)) v(i);
SELECT last_value FROM calls;
SELECT i, (SELECT count(*) FROM netbus.memories(tag => (SELECT 't' || max(j) FROM generate_series(0, i) j), max_rows => 5) m WHERE m.id > 190) FROM (VALUES (1), (2)) v(i);
SELECT i, (SELECT min(id) FROM netbus.memories(ids => ARRAY(SELECT j FROM generate_series(i, 3) j))) FROM (VALUES (1), (2)) v(i);
DROP SEQUENCE calls;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id FROM netbus.memories(tag => 't1');
FETCH 2 FROM c;
FETCH BACKWARD 1 FROM c;
FETCH LAST FROM c;
COMMIT;
PREPARE newest(text, int) AS SELECT id FROM netbus.memories(tag => $1, max_rows => $2);
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE newest('t1', 2);
EXECUTE newest('t1', 2);
EXECUTE newest('t0', 1);
EXECUTE newest('t1', -1);
RESET plan_cache_mode;
EXECUTE newest('t2', 2);
-- What the function scan keeps: whole rows, commands that change or lock rows, ordinality, several functions, functions with settings.
EXPLAIN (COSTS OFF) SELECT m FROM netbus.memories() m;
SELECT id FROM netbus.memories(tag => 't1', max_rows => 2) m WHERE m::text LIKE '%content 19%';
SELECT (m).id, m IS NULL AS is_null FROM netbus.memory(7) m;
EXPLAIN (COSTS OFF) SELECT id, n FROM netbus.memories() WITH ORDINALITY AS m(id, a, b, c, d, e, f, g, h, n);
SELECT m.id, n FROM ROWS FROM (netbus.memories(tag => 't1', max_rows => 2), generate_series(1, 3)) AS m(id, a, b, c, d, e, f, g, h, n);
CREATE TABLE plain AS SELECT id, source FROM netbus.memories(max_rows => 3);
EXPLAIN (COSTS OFF) UPDATE plain SET source = m.content FROM netbus.memories(max_rows => 3) m WHERE m.id = plain.id;
UPDATE plain SET source = m.content FROM netbus.memories(max_rows => 3) m WHERE m.id = plain.id RETURNING length(plain.source);
EXPLAIN (COSTS OFF) SELECT 1 FROM netbus.memories() m, plain FOR UPDATE OF plain;
DROP TABLE plain;
BEGIN;
ALTER FUNCTION netbus.memory(bigint, text) SET enable_sort = off;
EXPLAIN (COSTS OFF) SELECT id FROM netbus.memory(1);
SELECT id FROM netbus.memory(1);
ROLLBACK;
SELECT (netbus.memory(7)).id, netbus.memory(4711);
-- Rights on the function and on the model.
CREATE ROLE regress_scan;
GRANT netbus_writer TO regress_scan;
SET ROLE regress_scan;
SELECT id FROM netbus.memory(1);
RESET ROLE;
GRANT netbus_reader TO regress_scan;
SET ROLE regress_scan;
SELECT id FROM netbus.memory(1);
RESET ROLE;
GRANT SELECT ON netbus.log_memories TO regress_scan;
SET ROLE regress_scan;
SELECT id FROM netbus.memory(1);
RESET ROLE;
REVOKE netbus_reader, netbus_writer FROM regress_scan;
DROP OWNED BY regress_scan;
DROP ROLE regress_scan;
SELECT netbus.drop_model('memories', 'default'), netbus.drop_model('tasks', 'default');
