--
-- Watches: making and dropping them, rights, and pulling changes
--
-- What is told by NOTIFY is tested in test/tap/060_watch.pl.
SET netbus.wait_timeout = '20s';
CREATE ROLE regress_netbus_watcher IN ROLE netbus_reader;
CREATE ROLE regress_netbus_other IN ROLE netbus_reader;
CREATE ROLE regress_netbus_member IN ROLE regress_netbus_watcher;
-- The rows of a watch, as somebody has them who does nothing but pull.
CREATE TABLE mirror (watch bigint, id bigint, record jsonb, PRIMARY KEY (watch, id));
CREATE TABLE place (watch bigint PRIMARY KEY, seq bigint);
CREATE TABLE ops (watch bigint, op text, n bigint, PRIMARY KEY (watch, op));
CREATE FUNCTION pull(w bigint, max_events int DEFAULT 100) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	r record;
	n int := 0;
BEGIN
	FOR r IN SELECT * FROM netbus.watch_next(w, (SELECT seq FROM place WHERE watch = w), max_events) LOOP
		n := n + 1;
		INSERT INTO ops VALUES (w, r.op, 1) ON CONFLICT (watch, op) DO UPDATE SET n = ops.n + 1;
		INSERT INTO place VALUES (w, r.seq) ON CONFLICT (watch) DO UPDATE SET seq = r.seq;
		CASE r.op
			WHEN 'resync' THEN DELETE FROM mirror WHERE watch = w;
			WHEN 'left' THEN
				DELETE FROM mirror WHERE watch = w AND id = (r.record->>'id')::bigint;
				ASSERT FOUND, format('watch %s: %s was no row', w, r.record->>'id');
			WHEN 'changed' THEN
				UPDATE mirror SET record = r.record WHERE watch = w AND id = (r.record->>'id')::bigint;
				ASSERT FOUND, format('watch %s: %s was no row', w, r.record->>'id');
			WHEN 'ready' THEN ASSERT r.record IS NULL;
			ELSE INSERT INTO mirror VALUES (w, (r.record->>'id')::bigint, r.record);
		END CASE;
	END LOOP;
	RETURN n;
END $$;
-- What a call returns, in short.
CREATE FUNCTION next(w bigint, after bigint DEFAULT NULL, max_events int DEFAULT 100, wait interval DEFAULT '0') RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' ', coalesce(seq::text, '-'), op, record->>'id', record->>'content', record->>'title', record->>'tags', record->>'status')
	FROM netbus.watch_next(w, after, max_events, wait)
$$;

--
-- Arguments
--
SELECT netbus.watch_memories('c', model => 'none');
SELECT netbus.create_model('memories', 'm'), netbus.create_model('tasks', 't'), netbus.create_log('l', shards => 2);
SELECT netbus.watch_memories('', model => 'm');
SELECT netbus.watch_memories('my-channel', model => 'm');
SELECT netbus.watch_memories('1st', model => 'm');
SELECT netbus.watch_memories('"open', model => 'm');
SELECT netbus.watch_memories('"', model => 'm');
SELECT netbus.watch_memories('""', model => 'm');
SELECT netbus.watch_memories('"a"b"', model => 'm');
SELECT netbus.watch_memories(repeat('x', 64), model => 'm');
SELECT netbus.watch_memories('c', debounce => '-1 s', model => 'm');
SELECT netbus.watch_memories('c', debounce => '2 days', model => 'm');
SELECT netbus.watch_memories('c', debounce => NULL, model => 'm');
SELECT netbus.watch_memories('c', payload => 'all', model => 'm');
SELECT netbus.watch_memories('c', payload => NULL, model => 'm');
SELECT netbus.watch_memories('c', model => NULL);
SELECT netbus.watch_memories('c', any_tags => '{a,NULL}', model => 'm');
SELECT netbus.watch_tasks('c', status => 'open', model => 't');
SELECT netbus.watch_log('none', 'c');
SELECT netbus.watch_log('l', NULL);
SELECT netbus.watch_log(NULL, 'c');
SELECT netbus.watch_log('l', 'c', '{"path": 1}');
SELECT netbus.unwatch(NULL);
SELECT netbus.unwatch(0);
SELECT * FROM netbus.watch_next(0);
SELECT * FROM netbus.watch_next(NULL);
SELECT count(*) FROM netbus.watches;

--
-- The same watch is one watch
--
SELECT netbus.watch_memories('Notes', tag => 'a', model => 'm') AS w \gset
SELECT netbus.watch_memories('notes', tag => 'a', model => 'm') = :w AS same;
SELECT netbus.watch_memories('"notes"', 'a', NULL, '{}', model => 'm', debounce => '1 s', payload => 'none') = :w AS same;
SELECT netbus.watch_memories('"Notes"', tag => 'a', model => 'm') = :w AS same;
SELECT netbus.watch_memories(NULL, tag => 'a', model => 'm') = :w AS same;
SELECT netbus.watch_memories('notes', model => 'm') = :w AS same;
SELECT netbus.watch_memories('n', any_tags => '{b,a,b}', ids => '{3,1,3}', created_from => '2024-01-01 12:00+02', created_to => 'infinity', model => 'm') AS w2 \gset
SET timezone = 'Asia/Tokyo';
SELECT netbus.watch_memories('n', any_tags => '{a,b}', ids => '{1,3}', created_from => '2024-01-01 10:00+00', created_to => 'infinity', model => 'm') = :w2 AS same;
RESET timezone;
SELECT netbus.watch_log('l', 'n', '{"path": "a", "value": 1}') = netbus.watch_log('l', 'n', '{"value": 1, "path": "a"}') AS same;
SELECT netbus.watch_log('l', '"a ""quoted"" name"') = netbus.watch_log('l', 'ordinary$1') AS same;
SELECT kind, model, log, channel, filter, debounce, payload, owner = current_user AS mine FROM netbus.watches ORDER BY watch;
-- It is part of the transaction.
BEGIN;
SELECT netbus.watch_memories(NULL, tag => 'never', model => 'm') AS w3 \gset
SELECT count(*) FROM netbus.watches WHERE watch = :w3;
SELECT * FROM netbus.watch_next(:w3);
ROLLBACK;
SELECT count(*) FROM netbus.watches WHERE watch = :w3;
SELECT * FROM netbus.watch_next(:w3);
BEGIN;
SELECT netbus.unwatch(:w2);
SELECT netbus.unwatch(:w2);
ROLLBACK;
SELECT netbus.unwatch(:w2);
SELECT netbus.unwatch(:w2);
BEGIN;
SELECT netbus.watch_memories(NULL, tag => 'prepared', model => 'm') > 0;
PREPARE TRANSACTION 'watch';
SELECT netbus.unwatch(watch) FROM netbus.watches ORDER BY watch;
SELECT count(*) FROM netbus.watches;
SELECT count(*) FROM netbus.stat_watch;

--
-- Rights and limits
--
SET ROLE regress_netbus_watcher;
SELECT netbus.watch_memories('c', model => 'm');
SELECT netbus.watch_log('l', 'c');
SELECT netbus.watch_memories('c'); -- a default model that there is not
RESET ROLE;
GRANT SELECT ON netbus.log_memories_m, netbus.log_l TO regress_netbus_watcher;
SET ROLE regress_netbus_watcher;
SELECT netbus.watch_memories('c', model => 'm') AS w \gset
SELECT netbus.watch_memories(NULL, model => 'm') AS pulled \gset
SELECT next(:pulled);
SET netbus.max_watches_per_role = 2;
RESET ROLE;
SET ROLE regress_netbus_other;
SELECT netbus.unwatch(:w);
SELECT * FROM netbus.watch_next(:w);
SELECT count(*) FROM netbus.watches;
SELECT count(*) FROM netbus.stat_watch;
SELECT * FROM netbus.catalog_watch;
SELECT nextval('netbus.catalog_watch_id');
RESET ROLE;
SET ROLE regress_netbus_member;
SELECT next(:pulled);
SELECT owner, channel FROM netbus.watches ORDER BY watch;
RESET ROLE;
REVOKE SELECT ON netbus.log_memories_m FROM regress_netbus_watcher;
SET ROLE regress_netbus_watcher;
SELECT * FROM netbus.watch_next(:pulled);
SELECT netbus.unwatch(:w), netbus.unwatch(:pulled);
RESET ROLE;
SET netbus.max_watches_per_role = 2;
SELECT netbus.watch_log('l', 'c1') > 0 AND netbus.watch_log('l', 'c2') > 0 AS two;
SELECT netbus.watch_log('l', 'c3');
SELECT netbus.watch_log('l', 'c1') > 0 AS known;
RESET netbus.max_watches_per_role;
SELECT * FROM netbus.watch_next((SELECT min(watch) FROM netbus.watches));
-- They go with their log.
SELECT netbus.drop_log('l');
SELECT count(*) FROM netbus.watches;

--
-- Pulling
--
SELECT netbus.watch_memories(NULL, tag => 'tea', model => 'm') AS w \gset
SELECT next(:w);
SELECT netbus.memory_store('green', tags => '{tea}', source => 's', data => '{"a": [1]}', created => '2024-01-02 03:04:05.678901+00', id => 1, model => 'm');
SELECT netbus.memory_store('black', tags => '{coffee}', id => 2, model => 'm');
SELECT next(:w, 0);
SELECT record - 'updated' AS record FROM netbus.watch_next(:w, 0);
SELECT netbus.memory_retag(2, '{coffee,tea}', 'm');
SELECT netbus.memory_pin(1, 'm');
SELECT netbus.memory_delete(1, 'm');
SELECT netbus.memory_store('white', tags => '{tea}', id => 1, model => 'm');
SELECT netbus.memory_retag(2, '{}', 'm');
SELECT netbus.memory_unpin(2, 'm'); -- is no row any more
SELECT next(:w, 0);
SELECT next(:w, 1, 2);
SELECT next(:w, 4, 2);
SELECT next(:w, 7, 0);
SELECT next(:w, 7, wait => '10 ms');
SELECT next(:w, 1000000); -- nobody has told it such a position
SELECT next(:w, -1);
SELECT next(:w, 1, -1);
SELECT next(:w, 1, wait => '-1 s');
SELECT next(:w);
SELECT matches, notifications, kept, kept_bytes > 0 AS bytes, last_pulled_at <= now() AS pulled FROM netbus.stat_watch WHERE watch = :w;
-- Nothing of a transaction that rolls back.
BEGIN;
SELECT netbus.memory_store('red', tags => '{tea}', model => 'm') > 0;
ROLLBACK;
SELECT next(:w, 8);
-- Too far behind: large changes push each other out.
SELECT netbus.memory_store(repeat('x', 100000), tags => '{tea}', id => 3, model => 'm') FROM generate_series(1, 5);
SELECT next(:w, 8);
SELECT seq - 8, op, record->>'id' AS id, length(record->>'content') AS length FROM netbus.watch_next(:w, 12);
-- One alone is too large.
SELECT netbus.memory_store(repeat('x', 300000), tags => '{tea}', id => 3, model => 'm');
SELECT next(:w, 13);
SELECT seq, op, record->>'id' AS id, length(record->>'content') AS length FROM netbus.watch_next(:w);
SELECT netbus.memory_delete(3, 'm');
SELECT next(:w, 15);
-- Ids in JSON are strings, or JavaScript would lose digits: those of current rows, changes and filters, and in what has left.
SELECT netbus.memory_store('max', tags => '{tea}', id => 9223372036854775807, model => 'm');
SELECT op, record->'id' AS id, jsonb_typeof(record->'id') AS type FROM netbus.watch_next(:w, 15) UNION ALL
	SELECT op, record->'id', jsonb_typeof(record->'id') FROM netbus.watch_next(:w) WHERE record->>'id' = '9223372036854775807';
SELECT netbus.memory_delete(9223372036854775807, 'm');
SELECT op, record->'id' AS id, jsonb_typeof(record->'id') AS type FROM netbus.watch_next(:w, 16);
-- Those who start together with the first change of a model.
SELECT netbus.watch_tasks(NULL, status => 'pending') AS w \gset
SELECT netbus.task_create('a', id => 1), netbus.task_create('b', id => 2);
SELECT netbus.task_complete(1);
SELECT next(:w);
SELECT netbus.task_reopen(1), netbus.task_rename(1, 'c'), netbus.task_delete(2);
SELECT next(:w, 3);
SELECT netbus.unwatch(:w);
SELECT * FROM netbus.watch_next(:w, 3);

--
-- Mirrors: filters of every kind, random changes
--
SELECT netbus.create_model('memories', 'r'), netbus.create_model('tasks', 'r');
CREATE TABLE watched (watch bigint, query text);
CREATE FUNCTION watch_m(filters text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	w bigint;
BEGIN
	EXECUTE format('SELECT netbus.watch_memories(NULL, %s model => ''r'')', filters) INTO w;
	INSERT INTO watched VALUES (w, format('SELECT id FROM netbus.memories(%s model => ''r'')', filters));
END $$;
CREATE FUNCTION watch_t(filters text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	w bigint;
BEGIN
	EXECUTE format('SELECT netbus.watch_tasks(NULL, %s model => ''r'')', filters) INTO w;
	INSERT INTO watched VALUES (w, format('SELECT id FROM netbus.tasks(%s model => ''r'')', filters));
END $$;
SELECT watch_m(f) FROM unnest(ARRAY['', $$tag => 'a',$$, $$any_tags => '{a,b}',$$, $$all_tags => '{a,b}',$$, $$any_tags => '{b,c}', all_tags => '{a}',$$,
	$$source => 's1',$$, $$scope => 'k2',$$, $$source => 's1', tag => 'c',$$, $$pinned => true,$$, $$pinned => false, tag => 'b',$$,
	$$content_contains => 'x3',$$, $$content_contains => 'ÄÖ',$$, $$content_contains => 'kilo',$$, $$ids => '{1,2,3,4,50}',$$, $$ids => '{}',$$, $$ids => '{7,8,9}', tag => 'a',$$,
	$$created_from => '2024-01-10+00',$$, $$created_to => '2024-01-10+00', scope => 'k1',$$, $$updated_from => '2000-01-01+00', pinned => true,$$,
	$$updated_to => '2000-01-01+00',$$, $$tag => 'nowhere',$$]) f;
SELECT watch_t(f) FROM unnest(ARRAY['', $$status => 'pending',$$, $$status => 'completed', scope => 'k1',$$, $$title_contains => 'X1',$$, $$scope => 'k2',$$, $$ids => '{1,2,3}', status => 'completed',$$]) f;
CREATE FUNCTION change() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	i bigint := 1 + floor(random() * 30);
	k float8 := random();
	fresh text[] := (SELECT coalesce(array_agg(t), '{}') FROM unnest(ARRAY['a', 'b', 'c', 'd']) t WHERE random() < 0.4);
	words text[] := ARRAY['x1 y', 'X3', 'äö', 'Ä Ö', 'ÄÖÜ', U&'\212Ailo', 'KILO'];
BEGIN
	IF k < 0.35 THEN
		PERFORM netbus.memory_store(words[1 + floor(random() * 7)], fresh, 's' || floor(random() * 3), 'k' || floor(random() * 3), id => i,
			created => '2024-01-01+00'::timestamptz + i * interval '1 day', pinned => CASE WHEN random() < 0.3 THEN random() < 0.5 END, model => 'r');
	ELSIF k < 0.5 THEN PERFORM netbus.memory_retag(i, fresh, 'r');
	ELSIF k < 0.6 THEN PERFORM netbus.memory_pin(i, 'r');
	ELSIF k < 0.65 THEN PERFORM netbus.memory_unpin(i, 'r');
	ELSIF k < 0.75 THEN PERFORM netbus.memory_delete(i, 'r');
	ELSIF k < 0.85 THEN
		IF NOT EXISTS (SELECT FROM netbus.task(i, 'r')) THEN PERFORM netbus.task_create('x' || floor(random() * 3), 'k' || floor(random() * 3), id => i, model => 'r'); END IF;
	ELSIF k < 0.9 THEN PERFORM netbus.task_rename(i, 'X' || floor(random() * 3), 'r');
	ELSIF k < 0.95 THEN PERFORM netbus.task_complete(i, 'r');
	ELSIF k < 0.97 THEN PERFORM netbus.task_reopen(i, 'r');
	ELSE PERFORM netbus.task_delete(i, 'r');
	END IF;
END $$;
CREATE PROCEDURE run(n int) LANGUAGE plpgsql AS $$
DECLARE
	w bigint;
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM change();
		COMMIT;
		IF random() < 0.2 THEN
			FOR w IN SELECT watch FROM watched WHERE random() < 0.3 LOOP PERFORM pull(w, 1 + floor(random() * 20)::int); END LOOP;
			COMMIT;
		END IF;
	END LOOP;
	FOR w IN SELECT watch FROM watched LOOP
		WHILE pull(w) > 0 LOOP END LOOP;
	END LOOP;
END $$;
-- The watches whose mirror is not what the query returns, or not in all columns what it was told.
CREATE FUNCTION wrong() RETURNS TABLE (query text, mirrored bigint[], queried bigint[], content text) LANGUAGE plpgsql AS $$
DECLARE
	t record;
BEGIN
	FOR t IN SELECT * FROM watched LOOP
		query := t.query;
		EXECUTE format('SELECT array_agg(id ORDER BY id) FROM (%s) q', t.query) INTO queried;
		SELECT array_agg(m.id ORDER BY m.id) INTO mirrored FROM mirror m WHERE m.watch = t.watch;
		SELECT string_agg(coalesce(m.id, (n.record->>'id')::bigint)::text, ' ') INTO content
			FROM (SELECT * FROM mirror m WHERE m.watch = t.watch) m FULL JOIN (SELECT * FROM netbus.watch_next(t.watch) WHERE op = 'current') n ON m.id = (n.record->>'id')::bigint
			WHERE m.record IS DISTINCT FROM n.record;
		IF mirrored IS DISTINCT FROM queried OR content IS NOT NULL THEN RETURN NEXT; END IF;
	END LOOP;
END $$;
SELECT setseed(0.5);
CALL run(40);
SELECT * FROM wrong();
CALL run(600);
SELECT * FROM wrong();
SELECT op, sum(n) > 20 AS many FROM ops GROUP BY op ORDER BY op;
-- A record as netbus.memories() has it.
SELECT count(*) AS differing FROM netbus.watch_next((SELECT min(watch) FROM watched)) n JOIN netbus.memories(model => 'r') m ON m.id = (n.record->>'id')::bigint
	WHERE to_jsonb(m) - 'id' - 'created' - 'updated' <> n.record - 'id' - 'created' - 'updated'
		OR m.created <> (n.record->>'created')::timestamptz OR m.updated <> (n.record->>'updated')::timestamptz;

--
-- What a record still has after a change, and many keys that come and go
--
SELECT netbus.watch_memories(NULL, source => repeat('s', 1000), model => 'm') AS long, netbus.watch_memories(NULL, scope => 'k', model => 'm') AS short,
	netbus.watch_memories(NULL, tag => 'k600', model => 'm') AS one, netbus.watch_memories(NULL, pinned => true, model => 'm') AS state \gset
SELECT netbus.watch_memories(NULL, any_tags => (SELECT array_agg('k' || i) FROM generate_series(1, 900) i), model => 'm') AS many \gset
SELECT DISTINCT n.op FROM unnest(ARRAY[:long, :short, :one, :state, :many]) w, netbus.watch_next(w) n;
SELECT seq AS from FROM netbus.watch_next(:many) \gset
SELECT netbus.memory_store('x', tags => array_agg('k' || i), source => repeat('s', 1000), scope => 'k', id => 900, model => 'm') FROM generate_series(301, 700) i;
SELECT netbus.memory_pin(900, 'm');
SELECT netbus.memory_retag(900, array_agg('k' || i), 'm') FROM generate_series(501, 950) i;
SELECT netbus.memory_retag(900, '{k600,k901}', 'm');
SELECT netbus.wait_for('memories_m', timeout => '20 s');
SELECT string_agg(seq - :from || ' ' || op, ', ' ORDER BY seq) FROM netbus.watch_next(:many, :from);
SELECT netbus.unwatch(:many);
SELECT netbus.memory_unpin(900, 'm');
SELECT netbus.memory_retag(900, '{k1}', 'm');
SELECT netbus.memory_store('y', tags => '{k600}', source => 's', scope => 'k', id => 900, model => 'm');
SELECT netbus.memory_delete(900, 'm');
SELECT netbus.wait_for('memories_m', timeout => '20 s');
SELECT name, string_agg(seq - :from || ' ' || op, ', ' ORDER BY seq) FROM (VALUES ('long', :long), ('short', :short), ('one', :one), ('state', :state)) w (name, watch),
	netbus.watch_next(w.watch, :from) GROUP BY name ORDER BY name;
SELECT count(netbus.unwatch(watch)) FROM unnest(ARRAY[:long, :short, :one, :state]) watch;

--
-- The end
--
SELECT netbus.drop_model('memories', 'r'), netbus.drop_model('tasks', 'r'), netbus.drop_model('memories', 'm'), netbus.drop_model('tasks', 't'), netbus.drop_model('tasks', 'default');
SELECT count(*) FROM netbus.watches;
SELECT count(*) FROM netbus.stat_watch;
DROP FUNCTION pull, next, watch_m, watch_t, change, wrong;
DROP PROCEDURE run;
DROP TABLE mirror, place, ops, watched;
DROP ROLE regress_netbus_member, regress_netbus_other, regress_netbus_watcher;
