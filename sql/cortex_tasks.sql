--
-- Tasks: from creation to completion, and how they are found
--
SELECT * FROM netbus.tasks();
SELECT netbus.task_count();
SELECT * FROM netbus.task(1);
SELECT netbus.task_create('generated') AS generated \gset
SELECT :generated > 0 AS positive, title, status, scope IS NULL AS no_scope, data IS NULL AS no_data, created = updated AS just_created FROM netbus.task(:generated);
SELECT netbus.task_delete(:generated), netbus.task_delete(:generated + 1);
SELECT netbus.task_create('Call back', 'sales', '{"phone": "123"}', 1);
SELECT id, title, status, scope, data FROM netbus.task(1);

-- An id that is there is an error; one that only this transaction has used will do nothing.
SELECT netbus.task_create('again', id => 1);
\echo :LAST_ERROR_SQLSTATE
SELECT noops FROM netbus.stat_model WHERE kind = 'tasks';
BEGIN;
SELECT netbus.task_create('first', id => 2), netbus.task_create('second', id => 2);
COMMIT;
SELECT title, status FROM netbus.task(2);
SELECT noops FROM netbus.stat_model WHERE kind = 'tasks';

-- The changes.
SELECT created AS created, updated AS updated FROM netbus.task(1) \gset
SELECT netbus.task_rename(1, 'Call back today'), netbus.task_rename(9, 'x');
SELECT title, status, scope, data, created = :'created' AS same_created, updated > :'updated' AS later FROM netbus.task(1);
SELECT netbus.task_complete(1), netbus.task_complete(9);
SELECT updated AS updated FROM netbus.task(1) \gset
SELECT netbus.task_complete(1);
SELECT title, status, created = :'created' AS same_created, updated > :'updated' AS later FROM netbus.task(1);
SELECT id FROM netbus.tasks('completed');
SELECT id FROM netbus.tasks('pending');
SELECT netbus.task_create('again', id => 1);
SELECT netbus.task_reopen(1), netbus.task_reopen(1), netbus.task_reopen(9);
SELECT status, netbus.task_count('completed'), netbus.task_count('pending') FROM netbus.task(1);
SELECT netbus.task_delete(1), netbus.task_delete(9);
SELECT netbus.task_delete(1), netbus.task_rename(1, 'x'), netbus.task_complete(1), netbus.task_reopen(1);
SELECT count(*) FROM netbus.task(1);
-- Deleted, an id is free again; and so in one transaction.
SELECT netbus.task_create('Anew', id => 1);
SELECT title, status, scope, data FROM netbus.task(1);
SELECT netbus.task_complete(1);
BEGIN;
SELECT netbus.task_delete(1);
SELECT netbus.task_create('too early', id => 1);
ROLLBACK;
SELECT title, status FROM netbus.task(1);
BEGIN;
SELECT netbus.task_create('three', id => 3);
SELECT netbus.task_complete(3), netbus.task_count();
SAVEPOINT s;
SELECT netbus.task_rename(1, 'never');
ROLLBACK TO s;
COMMIT;
SELECT id, title, status FROM netbus.tasks(order_by => 'id_asc');

-- Arguments.
SELECT netbus.task_create(NULL);
SELECT netbus.task_create('x', model => NULL);
SELECT netbus.task_create('x', model => 'other');
SELECT netbus.task_create(repeat('x', 1024 * 1024 + 1));
SELECT netbus.task_create('x', repeat('x', 1025));
SELECT netbus.task_create('x', data => to_jsonb(repeat('x', 1024 * 1024)));
SELECT netbus.task_rename(1, NULL);
SELECT netbus.task_rename(NULL, 'x');
SELECT netbus.task_rename(1, repeat('x', 1024 * 1024 + 1));
SELECT netbus.task_complete(NULL);
SELECT netbus.task_reopen(NULL);
SELECT netbus.task_delete(NULL);
SELECT * FROM netbus.task(NULL);
SELECT * FROM netbus.tasks('done');
SELECT * FROM netbus.tasks('Pending');
SELECT netbus.task_count('');
SELECT * FROM netbus.tasks(order_by => 'title');
SELECT * FROM netbus.tasks(max_rows => -1);
SELECT * FROM netbus.tasks(after_id => 1);
SELECT * FROM netbus.tasks(ids => '{NULL}');
SELECT * FROM netbus.tasks(model => 'other');
SELECT * FROM netbus.task(1, 'other');
BEGIN READ ONLY;
SELECT count(*) FROM netbus.tasks();
SELECT netbus.task_complete(1);
ROLLBACK;
SELECT netbus.task_create(repeat('t', 1024 * 1024), repeat('s', 1024), id => 4);
SELECT length(title) FROM netbus.tasks(scope => repeat('s', 1024));
SELECT count(netbus.task_delete(id)) FROM netbus.tasks();

--
-- Every filter and order, and the same from a table
--
CREATE TABLE mirror (id bigint, title text, status text, scope text, data jsonb, created timestamptz, updated timestamptz);
INSERT INTO mirror SELECT (i * 31) % 101, (ARRAY['Write', 'read', 'CALL'])[1 + i % 3] || ' ' || i, 'pending', CASE WHEN i % 4 > 0 THEN 'scope ' || i % 3 END,
	CASE WHEN i % 2 = 0 THEN to_jsonb(i) END FROM generate_series(1, 100) i;
SELECT count(netbus.task_create(title, scope, data, id)) FROM mirror WHERE id < 30;
SELECT count(netbus.task_create(title, scope, data, id)) FROM mirror WHERE id >= 30;
SELECT count(*) FILTER (WHERE netbus.task_complete(id)) FROM mirror WHERE id % 3 = 0;
SELECT count(*) FILTER (WHERE netbus.task_reopen(id)) FROM mirror WHERE id % 12 = 0;
SELECT count(*) FILTER (WHERE netbus.task_rename(id, title || ' now')) FROM mirror WHERE id % 5 = 0;
SELECT count(*) FILTER (WHERE netbus.task_delete(id)) FROM mirror WHERE id % 17 = 0;
UPDATE mirror SET status = CASE WHEN id % 3 = 0 AND id % 12 > 0 THEN 'completed' ELSE 'pending' END, title = title || CASE WHEN id % 5 = 0 THEN ' now' ELSE '' END;
DELETE FROM mirror WHERE id % 17 = 0;
UPDATE mirror SET created = t.created, updated = t.updated FROM netbus.tasks() t WHERE t.id = mirror.id;
(TABLE mirror EXCEPT SELECT * FROM netbus.tasks()) UNION ALL (SELECT * FROM netbus.tasks() EXCEPT TABLE mirror);
SELECT count(*) FROM mirror;
SELECT created AS some_created FROM mirror WHERE id = 40 \gset
SELECT max(updated) AS some_updated FROM mirror WHERE id % 3 = 0 AND id % 5 > 0 \gset
CREATE TABLE filters (grp int, arg text, cond text);
INSERT INTO filters VALUES (0, $$status => 'pending'$$, $$status = 'pending'$$), (0, $$status => 'completed'$$, $$status = 'completed'$$), (0, 'status => NULL', 'true'),
	(1, $$title_contains => 'CALL 1'$$, $$title ILIKE '%call 1%'$$), (1, $$title_contains => ' NOW'$$, $$title ILIKE '% now'$$), (1, $$title_contains => NULL$$, 'true'),
	(2, $$scope => 'scope 1'$$, $$scope = 'scope 1'$$), (2, $$scope => 'scope'$$, 'false'), (2, 'scope => NULL', 'true'),
	(3, $$ids => ARRAY(SELECT i::bigint FROM generate_series(90, 10, -2) i)$$, 'id % 2 = 0 AND id BETWEEN 10 AND 90'), (3, 'ids => NULL', 'true'),
	(4, format('created_from => %L', :'some_created'), format('created >= %L', :'some_created')), (4, format('created_to => %L', :'some_created'), format('created < %L', :'some_created')),
		(4, 'created_from => NULL, created_to => NULL', 'true'),
	(5, format('updated_from => %L', :'some_updated'), format('updated >= %L', :'some_updated')), (5, format('updated_to => %L', :'some_updated'), format('updated < %L', :'some_updated')),
		(5, 'updated_from => NULL, updated_to => NULL', 'true');
DO $$
DECLARE
	f record;
	wanted bigint[];
	found bigint[];
	n bigint;
	place text;
	r record;
	compared int := 0;
BEGIN
	FOR f IN SELECT concat_ws(', ', a.arg, b.arg, c.arg, d.arg, e.arg, g.arg) AS args, concat_ws(' AND ', a.cond, b.cond, c.cond, d.cond, e.cond, g.cond) AS cond, col, dir
		FROM filters a, filters b, filters c, filters d, filters e, filters g, unnest('{created,updated,id}'::text[]) col, unnest('{asc,desc}'::text[]) dir
		WHERE a.grp = 0 AND b.grp = 1 AND c.grp = 2 AND d.grp = 3 AND e.grp = 4 AND g.grp = 5 LOOP
		EXECUTE format('SELECT coalesce(array_agg(id), ''{}'') FROM (SELECT id FROM mirror WHERE %1$s ORDER BY %2$s %3$s, id %3$s) m', f.cond, f.col, f.dir) INTO wanted;
		EXECUTE format('SELECT coalesce(array_agg(id), ''{}'') FROM netbus.tasks(%s, order_by => %L)', f.args, f.col || '_' || f.dir) INTO found;
		EXECUTE format('SELECT netbus.task_count(%s)', f.args) INTO n;
		IF wanted <> found OR n <> cardinality(wanted) THEN
			RAISE NOTICE '% in order %_%: %, counted as %, not %', f.args, f.col, f.dir, found, n, wanted;
		END IF;
		compared := compared + 1;
		CONTINUE WHEN compared % 7 > 0;
		found := '{}';
		place := '';
		LOOP
			n := 0;
			FOR r IN EXECUTE format('SELECT id, %4$s AS at FROM netbus.tasks(%1$s, order_by => %2$L, max_rows => 7%3$s)', f.args, f.col || '_' || f.dir, place, replace(f.col, 'id', 'created')) LOOP
				found := found || r.id;
				n := n + 1;
			END LOOP;
			EXIT WHEN n < 7 OR cardinality(found) > 200;
			place := format(', after_id => %s', r.id) || CASE WHEN f.col = 'id' THEN '' ELSE format(', after_at => %L', r.at) END;
		END LOOP;
		IF wanted <> found THEN
			RAISE NOTICE '% in order %_%, in pages: %, not %', f.args, f.col, f.dir, found, wanted;
		END IF;
	END LOOP;
	RAISE NOTICE '% queries compared', compared;
END $$;
DROP TABLE mirror, filters;
SELECT netbus.drop_model('tasks', 'default');

-- Also in a session that has not used a model, its name is free when it is dropped.
SELECT netbus.create_model('tasks', 'again');
\c -
SELECT netbus.drop_model('tasks', 'again');
SELECT netbus.create_model('tasks', 'again');
SELECT netbus.task_create('one', id => 1, model => 'again');
SELECT netbus.drop_model('tasks', 'again');
