--
-- Memories: what is stored, and what is found
--
-- Before the first write there is no model, and nothing in it.
SELECT * FROM netbus.memories();
SELECT * FROM netbus.memory(1);
SELECT netbus.memory_count(), netbus.memory_count('x');
SELECT * FROM netbus.stat_model;

-- The first write creates it.  An id is generated, unless one is given.
SELECT netbus.memory_store('first') AS generated \gset
SELECT :generated > 0 AS positive, count(*), min(content) AS content FROM netbus.memory(:generated);
SELECT netbus.memory_store('second', id => 2);
SELECT netbus.memory_store('everything', '{b,a,b,"",a}', 'chat', 'team/x', '{"n": [1, null]}', -9223372036854775808, true, '1999-12-31 23:59:59.123456+00');
SELECT id, content, tags, source, scope, data, pinned, created FROM netbus.memory(-9223372036854775808);
SELECT content, tags, source IS NULL AS no_source, scope IS NULL AS no_scope, data IS NULL AS no_data, pinned, created = updated AS just_created FROM netbus.memory(2);
SELECT * FROM netbus.memory(3);
SELECT count(DISTINCT netbus.memory_store('many')) FROM generate_series(1, 1000);
SELECT netbus.memory_count(content_contains => 'many');
SELECT bool_and(later > id) AS ascending FROM (SELECT id, lead(id) OVER (ORDER BY created, id) AS later FROM netbus.memories(content_contains => 'many')) m WHERE later IS NOT NULL;
SELECT count(netbus.memory_delete(id)) FROM netbus.memories(content_contains => 'many');
SELECT netbus.memory_delete(:generated), netbus.memory_delete(-9223372036854775808), netbus.memory_delete(-9223372036854775808);

-- To store again replaces, but keeps created and, unless it is given, pinned.
SELECT netbus.memory_store('old', '{a}', 's1', 'x', '1', 10, created => '2020-01-01');
SELECT netbus.memory_pin(10), netbus.memory_pin(10);
SELECT created AS created, updated AS updated FROM netbus.memory(10) \gset
SELECT netbus.memory_store('new', '{b}', 's2', id => 10, created => '2021-01-01');
SELECT id, content, tags, source, scope, data, pinned, created, updated > :'updated' AS later FROM netbus.memory(10);
SELECT netbus.memory_count('a'), netbus.memory_count('b'), netbus.memory_count(source => 's1'), netbus.memory_count(source => 's2'), netbus.memory_count(scope => 'x'), netbus.memory_count(pinned => true);
SELECT netbus.memory_store('new', id => 10, pinned => false);
SELECT pinned, tags FROM netbus.memory(10);

-- Changes: true for what is there, of which updated is the time.
SELECT updated AS updated FROM netbus.memory(10) \gset
SELECT netbus.memory_retag(10, '{x,y,x}'), netbus.memory_retag(11, '{x}');
SELECT tags, content, updated > :'updated' AS later FROM netbus.memory(10);
SELECT netbus.memory_retag(10, '{}');
SELECT tags, netbus.memory_count('x') FROM netbus.memory(10);
SELECT netbus.memory_pin(10), netbus.memory_pin(11);
SELECT netbus.memory_count(pinned => true), netbus.memory_count(pinned => false);
SELECT netbus.memory_unpin(10), netbus.memory_unpin(10), netbus.memory_unpin(11);
SELECT netbus.memory_count(pinned => true), netbus.memory_count(pinned => false);
SELECT netbus.memory_delete(10), netbus.memory_delete(10);
SELECT netbus.memory_pin(10);
SELECT id, content FROM netbus.memories();

-- What must be there, and how long it may be.
SELECT netbus.memory_store(NULL);
SELECT netbus.memory_store('x', '{a,NULL}');
SELECT netbus.memory_store('x', created => 'infinity');
SELECT netbus.memory_store('x', created => '294247-01-02 00:00:00+00');
SELECT netbus.memory_store('x', id => 294247, created => '294247-01-01 23:59:59.999999+00');
SELECT created AT TIME ZONE 'UTC' AS created, netbus.memory_delete(id) FROM netbus.memory(294247);
SELECT netbus.memory_store('x', model => NULL);
SELECT netbus.memory_store('x', model => 'other');
SELECT netbus.memory_retag(2, NULL);
SELECT netbus.memory_retag(NULL, '{a}');
SELECT netbus.memory_pin(NULL), netbus.memory_unpin(2);
SELECT netbus.memory_delete(NULL);
SELECT * FROM netbus.memory(NULL);
SELECT netbus.memory_store(repeat('x', 1024 * 1024 + 1));
SELECT netbus.memory_store('x', ARRAY['a', repeat('x', 257)]);
SELECT netbus.memory_store('x', ARRAY(SELECT i::text FROM generate_series(1, 1001) i));
SELECT netbus.memory_store('x', source => repeat('x', 1025));
SELECT netbus.memory_store('x', scope => repeat('x', 1025));
SELECT netbus.memory_store('x', data => to_jsonb(repeat('x', 1024 * 1024)));
SELECT netbus.memory_store(repeat('é', 512 * 1024), ARRAY(SELECT 'tag ' || i || repeat('x', 252 - length(i::text)) FROM generate_series(1, 1000) i),
	repeat('s', 1024), repeat('t', 1024), to_jsonb(repeat('d', 1024 * 1024 - 8)), 20);
SELECT length(content), octet_length(content), cardinality(tags), tags[1] = 'tag 1' || repeat('x', 251) AS first, tags[1000] = 'tag 1000' || repeat('x', 248) AS last,
	length(source) AS source, length(scope) AS scope, length(data #>> '{}') AS data FROM netbus.memory(20);
SELECT netbus.memory_count(repeat('x', 300));
SELECT netbus.memory_count('tag 500' || repeat('x', 249)), netbus.memory_count(source => repeat('s', 1024)), netbus.memory_count(scope => repeat('t', 1024)), netbus.memory_count(content_contains => repeat('é', 1000));
SELECT count(*) FROM netbus.memories(all_tags => ARRAY(SELECT 'tag ' || i || repeat('x', 252 - length(i::text)) FROM generate_series(1, 1000) i));
SELECT count(*) FROM netbus.memories(any_tags => ARRAY(SELECT 'tag ' || i || repeat('x', 252 - length(i::text)) FROM generate_series(1, 1000) i));
SELECT netbus.memory_retag(20, ARRAY(SELECT 'tag ' || i || repeat('x', 252 - length(i::text)) FROM generate_series(500, 1499) i));
SELECT netbus.memory_count('tag 499' || repeat('x', 249)), netbus.memory_count('tag 1000' || repeat('x', 248)), netbus.memory_count('tag 1499' || repeat('x', 248));
SELECT netbus.memory_store('', id => 21);
SELECT content, content = '' AS empty FROM netbus.memory(21);
SELECT netbus.memory_delete(2), netbus.memory_delete(20), netbus.memory_delete(21), netbus.memory_count();
-- NULL tags are no tags; a JSON null as data is no data, other scalars are.
SELECT netbus.memory_store('x', NULL, data => 'null', id => 1), netbus.memory_store('x', data => '7', id => 2), netbus.memory_store('x', data => '"s"', id => 3), netbus.memory_store('x', data => '[]', id => 4);
SELECT id, tags, data FROM netbus.memories(order_by => 'id_asc');
SELECT count(netbus.memory_delete(id)) FROM netbus.memories();

-- Many at once.
SELECT netbus.memories_store('[
	{"content": "all of it", "tags": ["b", "a", "b"], "source": "s", "scope": "x", "data": {"k": [1, {}]}, "id": 1, "pinned": true, "created": "2020-02-02 02:02:02+00"},
	{"content": "id as a string", "id": "9223372036854775807", "tags": [], "data": 5},
	{"content": "nulls", "id": 3, "tags": null, "source": null, "scope": null, "data": null, "pinned": null, "created": null},
	{"content": "ünï", "id": -4, "data": "text", "created": "2020-02-02T02:02:02.5+02:00"}]');
SELECT id, content, tags, source, scope, data, pinned, CASE WHEN created < '2021-01-01' THEN created END AS created FROM netbus.memories(order_by => 'id_asc');
SELECT cardinality(netbus.memories_store((SELECT jsonb_agg(jsonb_build_object('content', 'bulk ' || i, 'tags', ARRAY['bulk', (i % 7)::text])) FROM generate_series(1, 5000) i)));
SELECT netbus.memory_count('bulk'), netbus.memory_count('3'), count(DISTINCT id) FROM netbus.memories(tag => 'bulk');
SELECT netbus.memories_store('[]');
SELECT count(netbus.memory_delete(id)) FROM netbus.memories();
-- All or none of them.
SELECT netbus.memories_store('[{"content": "good"}, {"content": 5}]');
SELECT netbus.memory_count();
SELECT netbus.memories_store(NULL);
SELECT netbus.memories_store('{"content": "x"}');
SELECT netbus.memories_store('"x"');
SELECT netbus.memories_store('[[]]');
SELECT netbus.memories_store('["x"]');
SELECT netbus.memories_store('[{"content": "x"}, {}]');
SELECT netbus.memories_store('[{"content": null}]');
SELECT netbus.memories_store('[{"content": "x", "tag": ["a"]}]');
SELECT netbus.memories_store('[{"content": "x", "tags": "a"}]');
SELECT netbus.memories_store('[{"content": "x", "tags": {}}]');
SELECT netbus.memories_store('[{"content": "x", "tags": ["a", 1]}]');
SELECT netbus.memories_store('[{"content": "x", "tags": ["a", null]}]');
SELECT netbus.memories_store('[{"content": "x", "source": 1}]');
SELECT netbus.memories_store('[{"content": "x", "scope": []}]');
SELECT netbus.memories_store('[{"content": "x", "pinned": "true"}]');
SELECT netbus.memories_store('[{"content": "x", "id": 1.5}]');
SELECT netbus.memories_store('[{"content": "x", "id": 1e30}]');
SELECT netbus.memories_store('[{"content": "x", "id": "one"}]');
SELECT netbus.memories_store('[{"content": "x", "id": true}]');
SELECT netbus.memories_store('[{"content": "x", "created": 1}]');
SELECT netbus.memories_store('[{"content": "x", "created": "soon"}]');
SELECT netbus.memories_store('[{"content": "x", "created": "infinity"}]');
SELECT netbus.memories_store('[{"content": "x", "created": "294276-12-31 23:59:59+00"}]');
SELECT netbus.memories_store(jsonb_build_array(jsonb_build_object('content', repeat('x', 1024 * 1024 + 1))));
SELECT netbus.memories_store(jsonb_build_array(jsonb_build_object('content', 'x', 'tags', ARRAY[repeat('x', 257)])));
SELECT netbus.memories_store(jsonb_build_array(jsonb_build_object('content', 'x', 'tags', ARRAY(SELECT i::text FROM generate_series(1, 1001) i))));
SELECT netbus.memory_count();

-- A transaction does not see its own writes.  The last one to an id is what remains.
BEGIN;
SELECT netbus.memory_store('one', '{t}', id => 1);
SELECT netbus.memory_count(), netbus.memory_pin(1);
SELECT netbus.memory_store('two', '{t}', id => 1), netbus.memory_store('two', '{t}', id => 2);
SAVEPOINT s;
SELECT netbus.memory_store('never', '{t}', id => 3), netbus.memory_store('never', '{t}', id => 1);
ROLLBACK TO s;
SELECT netbus.memory_store('four', '{t}', id => 4);
SELECT netbus.memory_count();
COMMIT;
SELECT id, content FROM netbus.memories('t', order_by => 'id_asc');
BEGIN;
SELECT netbus.memory_delete(1), netbus.memory_delete(1);
SELECT netbus.memory_count('t');
ROLLBACK;
SELECT netbus.memory_count('t');
BEGIN;
SELECT netbus.memory_delete(1), netbus.memory_store('anew', id => 1), netbus.memory_retag(2, '{u}'), netbus.memory_delete(4);
COMMIT;
SELECT id, content, tags FROM netbus.memories(order_by => 'id_asc');
-- So in other isolation levels, which see every commit as well; and in a read-only transaction.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT netbus.memory_store('one', '{t}', id => 1);
SELECT netbus.memory_count('t');
COMMIT;
BEGIN READ ONLY;
SELECT netbus.memory_count('t');
SELECT netbus.memory_delete(99);
ROLLBACK;
BEGIN READ ONLY;
SELECT netbus.memory_store('x');
ROLLBACK;
BEGIN;
SELECT netbus.memory_store('x', id => 6);
PREPARE TRANSACTION 'never';
SELECT count(netbus.memory_delete(id)) FROM netbus.memories();

--
-- Filters, orders and pages
--
SELECT cardinality(netbus.memories_store((SELECT jsonb_agg(jsonb_build_object('id', id, 'content', content, 'tags', tags, 'source', source, 'scope', scope,
		'pinned', pinned, 'created', created)) FROM
	(VALUES (1, 'Tea', '{drink,hot}'::text[], 'chat', 'home', true, '2024-01-01 10:00+00'), (2, 'Coffee', '{drink,hot,black}', 'chat', 'work', false, '2024-01-01 11:00+00'),
		(3, 'Cola', '{drink,black}', 'mail', 'work', false, '2024-01-01 11:00+00'), (4, 'Toast', '{food,hot}', 'mail', NULL, true, '2024-01-01 09:00+00'),
		(5, 'Nothing', '{}', NULL, NULL, false, '2024-01-02 00:00+00')) v (id, content, tags, source, scope, pinned, created))));
SELECT id FROM netbus.memories('drink');
SELECT id FROM netbus.memories('Drink');
SELECT id FROM netbus.memories('drin');
SELECT id FROM netbus.memories(any_tags => '{food,black}');
SELECT id FROM netbus.memories(any_tags => '{food,none,food}');
SELECT id FROM netbus.memories(all_tags => '{hot,drink}');
SELECT id FROM netbus.memories(all_tags => '{hot,drink,none}');
SELECT id FROM netbus.memories('hot', any_tags => '{black,food}', all_tags => '{drink}');
-- An empty list of tags narrows nothing down; one of ids, all.
SELECT id FROM netbus.memories(any_tags => '{}', all_tags => '{}');
SELECT id FROM netbus.memories(ids => '{}');
SELECT id FROM netbus.memories(ids => '{2,4,99,2}', order_by => 'id_asc');
SELECT id FROM netbus.memories(ids => '{1,2,3,4}', tag => 'hot', max_rows => 2);
SELECT netbus.memory_count(ids => '{2,4,99,2}'), netbus.memory_count(ids => '{}'), netbus.memory_count(any_tags => '{}', all_tags => '{}');
SELECT id FROM netbus.memories(source => 'mail');
SELECT id FROM netbus.memories(source => 'Mail');
SELECT id FROM netbus.memories(scope => 'work', source => 'chat');
SELECT id FROM netbus.memories(pinned => true);
SELECT id FROM netbus.memories(pinned => false, tag => 'hot');
-- Times: [from, to).
SELECT id FROM netbus.memories(created_from => '2024-01-01 10:00+00', created_to => '2024-01-01 11:00+00');
SELECT id FROM netbus.memories(created_from => '2024-01-01 10:00+00', created_to => '2024-01-01 11:00:00.000001+00', order_by => 'created_asc');
SELECT id FROM netbus.memories(created_from => '2024-01-01 11:00+00', created_to => '2024-01-01 11:00+00');
SELECT id FROM netbus.memories(created_from => '2024-01-02', created_to => '2024-01-01');
SELECT count(*) FROM netbus.memories(created_from => '-infinity', created_to => 'infinity', updated_from => '-infinity', updated_to => 'infinity');
SELECT count(*) FROM netbus.memories(created_from => 'infinity');
SELECT count(*) FROM netbus.memories(created_to => '-infinity');
SELECT netbus.memory_count(created_from => 'infinity'), netbus.memory_count(created_to => '-infinity'), netbus.memory_count(created_from => '-infinity', created_to => 'infinity');
SELECT netbus.memory_pin(3);
SELECT updated AS at FROM netbus.memory(3) \gset
SELECT id FROM netbus.memories(updated_from => :'at');
SELECT id FROM netbus.memories(updated_to => :'at', order_by => 'id_asc');
SELECT id FROM netbus.memories('black', updated_to => :'at');
SELECT netbus.memory_count(updated_from => :'at'), netbus.memory_count(updated_to => :'at'), netbus.memory_count('black', updated_to => :'at');
-- Orders; ties break by id, in the direction of the order.
SELECT o, array_agg(id ORDER BY n) FROM unnest('{created_desc,created_asc,updated_desc,updated_asc,id_desc,id_asc}'::text[]) o,
	netbus.memories(order_by => o) WITH ORDINALITY m (id, content, tags, source, scope, data, pinned, created, updated, n) GROUP BY o ORDER BY o;
SELECT id FROM netbus.memories(max_rows => 2);
SELECT id FROM netbus.memories(max_rows => 0);
SELECT id FROM netbus.memories(after_at => '2024-01-01 11:00+00', after_id => 3);
SELECT id FROM netbus.memories(after_at => '2024-01-01 11:00+00', after_id => 2, order_by => 'created_asc');
-- A place in the order need not be that of a record.
SELECT id FROM netbus.memories(after_at => '2024-01-01 10:30+00', after_id => 77);
SELECT id FROM netbus.memories(order_by => 'id_asc', after_id => 3);
SELECT id FROM netbus.memories(order_by => 'id_desc', after_id => 3, after_at => '2000-01-01');
SELECT id FROM netbus.memories(order_by => 'id_desc', after_id => 3, ids => '{1,2,3,4}');
SELECT id FROM netbus.memories(max_rows => -1);
SELECT id FROM netbus.memories(order_by => 'created');
SELECT id FROM netbus.memories(order_by => NULL);
SELECT id FROM netbus.memories(after_id => 3);
SELECT id FROM netbus.memories(after_at => '2024-01-01');
SELECT id FROM netbus.memories(order_by => 'updated_asc', after_id => 3);
SELECT id FROM netbus.memories(order_by => 'id_asc', after_at => '2024-01-01');
SELECT id FROM netbus.memories(ids => '{1,NULL}');
SELECT id FROM netbus.memories(any_tags => '{a,NULL}');
SELECT id FROM netbus.memories(all_tags => '{a,NULL}');
SELECT id FROM netbus.memories(model => NULL);
SELECT id FROM netbus.memories(model => 'other');
SELECT netbus.memory_count(model => 'other');
SELECT * FROM netbus.memory(1, model => 'other');
-- In a target list, in a join, in a prepared statement.
SELECT (netbus.memories('food')).id, (netbus.memory(1)).content;
SELECT i, content FROM generate_series(1, 7) i LEFT JOIN LATERAL netbus.memory(i) ON true ORDER BY i;
SELECT i, (netbus.memory(i)).id FROM generate_series(4, 6) i;
PREPARE newest (text, int) AS SELECT id FROM netbus.memories($1, max_rows => $2);
EXECUTE newest ('hot', 2);
EXECUTE newest (NULL, 1);
SELECT count(netbus.memory_delete(id)) FROM netbus.memories();

--
-- The same as a table answers
--
CREATE TABLE mirror (id bigint, content text, tags text[], source text, scope text, data jsonb, pinned bool, created timestamptz, updated timestamptz);
INSERT INTO mirror
	SELECT (i * 7919) % 1009, (ARRAY['alpha', 'Beta', 'GAMMA delta', 'Épsilon', 'zeta%_', 'İstanbul ' || i])[1 + i % 6] || ' ' || i,
		ARRAY(SELECT 't' || t FROM generate_series(0, 9) t WHERE (i * (t + 3)) % (t + 2) = 0 AND (i + t) % 3 > 0),
		CASE WHEN i % 11 > 0 THEN 'source ' || i % 5 END, CASE WHEN i % 3 > 0 THEN 'scope ' || i % 2 END, CASE WHEN i % 4 = 0 THEN to_jsonb(i) END,
		i % 6 = 0, '2024-01-01 00:00+00'::timestamptz + (i * 31 % 40) * interval '1 hour'
	FROM generate_series(1, 400) i;
SELECT count(netbus.memory_store(content, tags, source, scope, data, id, pinned, created)) FROM (SELECT * FROM mirror ORDER BY content) m;
-- Some are changed, so that the order of updates is another one.
DO $$
DECLARE
	n bigint;
BEGIN
	FOR n IN SELECT id FROM mirror WHERE id % 5 = 0 ORDER BY id DESC LOOP
		PERFORM netbus.memory_retag(n, tags || '{retagged}') FROM mirror WHERE id = n;
		UPDATE mirror SET tags = tags || '{retagged}' WHERE id = n;
		COMMIT;
	END LOOP;
	FOR n IN SELECT id FROM mirror WHERE id % 7 = 0 LOOP
		PERFORM netbus.memory_pin(n);
		UPDATE mirror SET pinned = true WHERE id = n;
	END LOOP;
	PERFORM netbus.memory_delete(id) FROM mirror WHERE id % 13 = 0;
	DELETE FROM mirror WHERE id % 13 = 0;
END $$;
UPDATE mirror SET updated = m.updated FROM netbus.memories() m WHERE m.id = mirror.id;
SELECT count(*), count(DISTINCT updated) > 50 AS many_times, count(*) > count(DISTINCT created) AS ties FROM mirror;
(TABLE mirror EXCEPT SELECT * FROM netbus.memories()) UNION ALL (SELECT * FROM netbus.memories() EXCEPT TABLE mirror);
SELECT updated AS some_time FROM mirror ORDER BY updated, id OFFSET 170 LIMIT 1 \gset
-- Every filter as an argument and as a condition.  Of each group one is taken, or none.
CREATE TABLE filters (grp int, n int, arg text, cond text);
INSERT INTO filters VALUES
	(0, 0, $$tag => 't1'$$, $$'t1' = ANY (tags)$$), (0, 1, $$tag => 'retagged'$$, $$'retagged' = ANY (tags)$$), (0, 2, $$tag => 'none'$$, $$'none' = ANY (tags)$$),
	(1, 0, $$any_tags => '{t1,t5,t5}'$$, $$tags && '{t1,t5}'$$), (1, 1, $$any_tags => '{none,t9,t8,t7,t6}'$$, $$tags && '{t9,t8,t7,t6}'$$), (1, 2, $$any_tags => '{}'$$, 'true'),
	(2, 0, $$all_tags => '{t1,t2}'$$, $$tags @> '{t1,t2}'$$), (2, 1, $$all_tags => '{retagged,t0,t0}'$$, $$tags @> '{retagged,t0}'$$), (2, 2, $$all_tags => '{}'$$, 'true'),
	(3, 0, $$source => 'source 1'$$, $$source = 'source 1'$$), (3, 1, $$source => 'source 4'$$, $$source = 'source 4'$$), (3, 2, $$source => ''$$, $$source = ''$$),
	(4, 0, $$scope => 'scope 0'$$, $$scope = 'scope 0'$$), (4, 1, $$scope => 'scope 1'$$, $$scope = 'scope 1'$$), (4, 2, $$scope => 'SCOPE 1'$$, $$scope = 'SCOPE 1'$$),
	(5, 0, $$pinned => true$$, 'pinned'), (5, 1, $$pinned => false$$, 'NOT pinned'),
	(6, 0, $$content_contains => 'a 1'$$, $$lower(content) LIKE '%a 1%'$$), (6, 1, $$content_contains => 'ÉPS'$$, $$lower(content) LIKE lower('%ÉPS%')$$),
		(6, 2, $$content_contains => 'TA'$$, $$lower(content) LIKE '%ta%'$$),
	(7, 0, $$ids => ARRAY(SELECT i::bigint FROM generate_series(0, 500, 3) i)$$, 'id IN (SELECT generate_series(0, 500, 3))'), (7, 1, $$ids => '{}'$$, 'false'),
	(8, 0, $$created_from => '2024-01-01 10:00+00'$$, $$created >= '2024-01-01 10:00+00'$$), (8, 1, $$created_to => '2024-01-01 20:00+00'$$, $$created < '2024-01-01 20:00+00'$$),
		(8, 2, $$created_from => '2024-01-01 10:00+00', created_to => '2024-01-02 05:30+00'$$, $$created >= '2024-01-01 10:00+00' AND created < '2024-01-02 05:30+00'$$),
	(9, 0, format('updated_from => %L', :'some_time'), format('updated >= %L', :'some_time')), (9, 1, format('updated_to => %L', :'some_time'), format('updated < %L', :'some_time'));
CREATE FUNCTION ids_of(query text) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
	result bigint[];
BEGIN
	EXECUTE format('SELECT coalesce(array_agg(id), ''{}'') FROM (%s) q', query) INTO result;
	RETURN result;
END $$;
-- Page by page, by what the last row has.
CREATE FUNCTION paged(args text, ordering text, page int) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
	result bigint[] := '{}';
	r record;
	place text := '';
	n int;
BEGIN
	LOOP
		n := 0;
		FOR r IN EXECUTE format('SELECT id, CASE WHEN %1$L ~ ''^created'' THEN created ELSE updated END AS at FROM netbus.memories(%2$s order_by => %1$L, max_rows => %3$s%4$s)', ordering, args, page, place) LOOP
			result := result || r.id;
			n := n + 1;
		END LOOP;
		EXIT WHEN n < page OR cardinality(result) > 20000;
		place := format(', after_id => %s', r.id) || CASE WHEN ordering ~ '^id' THEN '' ELSE format(', after_at => %L', r.at) END;
	END LOOP;
	RETURN result;
END $$;
CREATE FUNCTION compare(args text, cond text, ordering text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	col text := regexp_replace(ordering, '_.*', '');
	dir text := regexp_replace(ordering, '.*_', '');
	wanted bigint[] := ids_of(format('SELECT id FROM mirror WHERE %1$s ORDER BY %2$s %3$s, id %3$s', cond, col, dir));
	found bigint[] := ids_of(format('SELECT id FROM netbus.memories(%s order_by => %L)', args, ordering));
	top bigint[] := ids_of(format('SELECT id FROM netbus.memories(%s order_by => %L, max_rows => 5)', args, ordering));
	n bigint;
BEGIN
	IF found <> wanted THEN
		RETURN NEXT left(format('%s order_by => %s: %s, not %s', args, ordering, found, wanted), 500);
	END IF;
	IF top <> wanted[1:5] THEN
		RETURN NEXT left(format('%s order_by => %s, max_rows => 5: %s, not %s', args, ordering, top, wanted[1:5]), 500);
	END IF;
	found := paged(args, ordering, 1 + cardinality(wanted) / 5);
	IF found <> wanted THEN
		RETURN NEXT left(format('%s order_by => %s, in pages: %s, not %s', args, ordering, found, wanted), 500);
	END IF;
	EXECUTE format('SELECT netbus.memory_count(%s)', rtrim(args, ', ')) INTO n;
	IF n <> cardinality(wanted) THEN
		RETURN NEXT left(format('count of %s: %s, not %s', args, n, cardinality(wanted)), 500);
	END IF;
END $$;
-- One filter at a time, all pairs, and many combinations, each in an order of its own.
CREATE TABLE orders AS SELECT o, n - 1 AS n FROM unnest('{created_desc,created_asc,updated_desc,updated_asc,id_desc,id_asc}'::text[]) WITH ORDINALITY o (o, n);
SELECT compare('', 'true', o) FROM orders;
SELECT compare(f.arg || ', ', f.cond, o) FROM filters f, orders;
SELECT compare(f.arg || ', ' || g.arg || ', ', f.cond || ' AND ' || g.cond, o) FROM filters f JOIN filters g ON f.grp < g.grp
	JOIN orders ON orders.n = (f.grp + f.n + g.grp + g.n) % 6;
CREATE TABLE combined AS SELECT k, string_agg(arg || ', ', '' ORDER BY grp) AS args, string_agg(cond, ' AND ' ORDER BY grp) AS cond
	FROM generate_series(1, 1000) k, filters
	WHERE ('x' || substr(md5(k || ':' || grp), 1, 6))::bit(24)::int % 8 = n GROUP BY k HAVING count(*) > 2;
SELECT compare(args, cond, o) FROM combined JOIN orders ON n = k % 6;
SELECT count(*) > 300 AS many FROM combined;
SELECT count(*) > 30 AS some_found FROM combined, LATERAL ids_of('SELECT id FROM mirror WHERE ' || cond) i WHERE i <> '{}';
-- So many that a query takes several steps, between which the fold may go on.
INSERT INTO mirror SELECT 2000 + (i * 7919) % 10007, 'more ' || (ARRAY['alpha', 'Beta', 'É'])[1 + i % 3] || ' ' || i, ARRAY['t' || i % 3, 't' || i % 2 + 1, 't' || i % 50 + 5], 'source ' || i % 3,
		'scope ' || i % 2, NULL, i % 5 = 0, '2024-01-01 00:00+00'::timestamptz + (i * 31 % 2000) * interval '1 minute'
	FROM generate_series(1, 10000) i;
SELECT count(netbus.memory_store(content, tags, source, scope, data, id, pinned, created)) FROM mirror WHERE id >= 2000;
UPDATE mirror SET tags = m.tags, updated = m.updated FROM netbus.memories() m WHERE m.id = mirror.id;
(TABLE mirror EXCEPT SELECT * FROM netbus.memories()) UNION ALL (SELECT * FROM netbus.memories() EXCEPT TABLE mirror);
SELECT compare(f.arg || ', ', f.cond, o) FROM filters f JOIN orders ON (grp + f.n + orders.n) % 2 = 0;
SELECT compare(args, cond, o) FROM combined JOIN orders ON n = k % 6 WHERE k % 20 = 0;
SELECT count(netbus.memory_delete(id)) = (SELECT count(*) FROM mirror) AS deleted FROM netbus.memories();
SELECT netbus.memory_count();

--
-- Substrings, whatever the case, by the rules of the database
--
-- What is literal, and what is found everywhere.
SELECT count(netbus.memory_store(t, id => n)) FROM unnest(ARRAY['100% sure', '100 percent', 'a_b', 'axb', 'back\slash', 'quo"te', '', E'TAB\there', 'ab', 'aab', 'aaab']) WITH ORDINALITY u (t, n);
SELECT id FROM netbus.memories(content_contains => '%', order_by => 'id_asc');
SELECT id FROM netbus.memories(content_contains => 'A_B', order_by => 'id_asc');
SELECT id FROM netbus.memories(content_contains => '\', order_by => 'id_asc');
SELECT id FROM netbus.memories(content_contains => E'\t', order_by => 'id_asc');
SELECT id FROM netbus.memories(content_contains => 'AAB', order_by => 'id_asc');
SELECT count(*), netbus.memory_count(content_contains => '') FROM netbus.memories(content_contains => '');
SELECT id FROM netbus.memories(content_contains => 'percent of that', order_by => 'id_asc');
SELECT count(netbus.memory_delete(id)) FROM netbus.memories();
DROP TABLE mirror, filters, orders, combined;
DROP FUNCTION ids_of, paged, compare;
SELECT netbus.drop_model('memories', 'default');
SELECT netbus.memory_count();
