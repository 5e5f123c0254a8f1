-- Writers who change the default models of memories and tasks at random, and in the same
-- transactions tables by the same rules; what there must be of it; readers
-- whom a half-made change would strike.  Whatever is wrong they tell the server log, in lines
-- that begin with "model check:".
--
-- What the tables cannot know is when an event took place.  But a lock on the id is held
-- until its transaction has committed, so the n-th event of an id is the n-th of that
-- id in the log, and the tables say by which event a record was created and updated.

CREATE TABLE memory_row (id bigint PRIMARY KEY, content text, tags text[], source text, scope text, data jsonb, pinned boolean,
	created timestamptz, created_by bigint, updated_by bigint);
CREATE TABLE task_row (id bigint PRIMARY KEY, title text, status text, scope text, data jsonb, created_by bigint, updated_by bigint);
CREATE TABLE event_count (log text, id bigint, n bigint, PRIMARY KEY (log, id));
CREATE TABLE version_row (id bigint PRIMARY KEY, n bigint);

CREATE FUNCTION wrong(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	RAISE LOG 'model check: %', what;
END $$;

CREATE FUNCTION pick(VARIADIC choices text[]) RETURNS text LANGUAGE sql AS
	'SELECT choices[1 + floor(random() * cardinality(choices))]';
CREATE FUNCTION some_tags(most int) RETURNS text[] LANGUAGE sql AS $$
	SELECT coalesce(array_agg(pick('red', 'green', 'blue', 'Red', 'ärgerlich', 'x', '', repeat('long ', 20))), '{}')
	FROM generate_series(1, floor(random() * (most + 1))::int)
$$;
CREATE FUNCTION some_words() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(pick('tea', 'COFFEE', 'Café', 'STRASSE', 'straße', 'Epsilon', 'İstanbul', '100%', repeat('pad ', floor(random() * 100)::int)), ' ')
	FROM generate_series(1, 1 + floor(random() * 5)::int)
$$;
CREATE FUNCTION some_time() RETURNS timestamptz LANGUAGE sql AS $$
	SELECT CASE WHEN random() < 0.5 THEN '2020-01-01'::timestamptz + floor(random() * 50) * interval '1 day'
		ELSE clock_timestamp() - random() * interval '30 s' END
$$;
CREATE FUNCTION distinct_tags(tags text[]) RETURNS text[] LANGUAGE sql AS
	'SELECT ARRAY(SELECT t FROM unnest(tags) WITH ORDINALITY u(t, n) GROUP BY t ORDER BY min(n))';

-- Another event of an id: its number.
CREATE FUNCTION count_event(of_log text, of_id bigint) RETURNS bigint LANGUAGE sql AS $$
	INSERT INTO event_count AS c VALUES (of_log, of_id, 1) ON CONFLICT (log, id) DO UPDATE SET n = c.n + 1 RETURNING n
$$;

-- An id, of few, so that they meet; sometimes one that was generated.
CREATE FUNCTION some_id(of_table regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	id bigint;
BEGIN
	IF random() < 0.2 THEN
		EXECUTE format('SELECT id FROM %s WHERE id > $1 ORDER BY id LIMIT 1', of_table) USING (SELECT max(b.n) * random() FROM (SELECT coalesce(max(m.id), 1) AS n FROM memory_row m) b)::bigint INTO id;
	END IF;
	RETURN coalesce(id, floor(random() * 300) - 20);
END $$;

-- What a store does to the table.
CREATE FUNCTION memory_stored(s_id bigint, s_content text, s_tags text[], s_source text, s_scope text, s_data jsonb, s_pinned boolean, s_created timestamptz)
RETURNS void LANGUAGE sql AS $$
	INSERT INTO memory_row AS m
		SELECT s_id, s_content, distinct_tags(s_tags), s_source, s_scope, s_data, coalesce(s_pinned, false), s_created, n, n FROM count_event('memories', s_id) n
	ON CONFLICT (id) DO UPDATE SET content = excluded.content, tags = excluded.tags, source = excluded.source, scope = excluded.scope,
		data = excluded.data, pinned = coalesce(s_pinned, m.pinned), updated_by = excluded.updated_by
$$;

-- One change.  seen: whether ids that this transaction has come to were there before it.
CREATE FUNCTION change_memory(INOUT seen jsonb) LANGUAGE plpgsql AS $$
DECLARE
	op text := pick('store', 'store', 'store', 'new', 'new', 'bulk', 'retag', 'retag', 'pin', 'unpin', 'delete', 'delete');
	the_id bigint := some_id('memory_row');
	visible boolean;
	done boolean;
	m record;
	ids bigint[];
BEGIN
	IF op IN ('new', 'bulk') THEN
		FOR m IN SELECT NULL::bigint AS id, some_words() AS content, some_tags(4) AS tags, pick('a', 'b', 'c', NULL) AS source, pick('s', 't', NULL) AS scope,
				CASE WHEN random() < 0.3 THEN jsonb_build_object('n', n) WHEN random() < 0.1 THEN '7' END AS data,
				CASE WHEN random() < 0.3 THEN random() < 0.5 END AS pinned, CASE WHEN random() < 0.3 THEN some_time() END AS created
				FROM generate_series(1, CASE WHEN op = 'new' THEN 1 ELSE floor(random() * 30) END::int) n LOOP
			IF op = 'new' THEN
				m.id := netbus.memory_store(m.content, m.tags, m.source, m.scope, m.data, m.id, m.pinned, m.created);
			ELSE
				ids := netbus.memories_store(jsonb_build_array(jsonb_strip_nulls(to_jsonb(m) - 'data') || CASE WHEN m.data IS NULL THEN '{}' ELSE jsonb_build_object('data', m.data) END,
					jsonb_build_object('content', 'second')));
				m.id := ids[1];
				PERFORM memory_stored(ids[2], 'second', '{}', NULL, NULL, NULL, NULL, NULL);
			END IF;
			PERFORM memory_stored(m.id, m.content, m.tags, m.source, m.scope, m.data, m.pinned, m.created);
			-- Somebody may find it in the table only when we have committed, but we may.
			seen := seen || jsonb_build_object('m' || m.id, false, 'm' || coalesce(ids[2], m.id), false);
		END LOOP;
		RETURN;
	END IF;

	IF NOT pg_try_advisory_xact_lock(1, hashint8(the_id)) THEN
		RETURN;
	END IF;
	visible := coalesce((seen ->> ('m' || the_id))::boolean, EXISTS (SELECT FROM memory_row r WHERE r.id = the_id));
	seen := seen || jsonb_build_object('m' || the_id, visible);
	IF op = 'store' THEN
		SELECT some_words() AS content, some_tags(4) AS tags, pick('a', 'b', 'c', NULL) AS source, pick('s', 't', NULL) AS scope,
			CASE WHEN random() < 0.3 THEN jsonb_build_array(random()) END AS data, CASE WHEN random() < 0.3 THEN random() < 0.5 END AS pinned,
			CASE WHEN random() < 0.3 THEN some_time() END AS created INTO m;
		IF netbus.memory_store(m.content, m.tags, m.source, m.scope, m.data, the_id, m.pinned, m.created) <> the_id THEN
			PERFORM wrong('memory_store() has not returned its id');
		END IF;
		PERFORM memory_stored(the_id, m.content, m.tags, m.source, m.scope, m.data, m.pinned, m.created);
		RETURN;
	END IF;
	m := ROW(some_tags(6));
	done := CASE op WHEN 'retag' THEN netbus.memory_retag(the_id, m.f1) WHEN 'pin' THEN netbus.memory_pin(the_id)
		WHEN 'unpin' THEN netbus.memory_unpin(the_id) ELSE netbus.memory_delete(the_id) END;
	IF done <> visible THEN
		PERFORM wrong(format('%s(%s) returned %s', op, the_id, done));
	END IF;
	IF NOT done THEN
		RETURN;
	END IF;
	PERFORM count_event('memories', the_id);
	IF op = 'delete' THEN
		DELETE FROM memory_row r WHERE r.id = the_id;
	ELSE
		UPDATE memory_row r SET tags = CASE op WHEN 'retag' THEN distinct_tags(m.f1) ELSE tags END,
			pinned = CASE op WHEN 'pin' THEN true WHEN 'unpin' THEN false ELSE pinned END,
			updated_by = (SELECT n FROM event_count c WHERE c.log = 'memories' AND c.id = the_id)
		WHERE r.id = the_id;
	END IF;
END $$;

CREATE FUNCTION change_task(INOUT seen jsonb) LANGUAGE plpgsql AS $$
DECLARE
	op text := pick('create', 'create', 'create', 'new', 'rename', 'rename', 'complete', 'complete', 'reopen', 'delete', 'delete');
	the_id bigint := some_id('task_row');
	visible boolean;
	done boolean;
	the_title text := some_words();
	the_scope text := pick('s', 't', NULL);
	the_data jsonb := CASE WHEN random() < 0.3 THEN jsonb_build_array(random()) END;
BEGIN
	IF op = 'new' THEN
		the_id := netbus.task_create(the_title, the_scope, the_data);
		INSERT INTO task_row SELECT the_id, the_title, 'pending', the_scope, the_data, n, n FROM count_event('tasks', the_id) n;
		seen := seen || jsonb_build_object('t' || the_id, false);
		RETURN;
	END IF;
	IF NOT pg_try_advisory_xact_lock(2, hashint8(the_id)) THEN
		RETURN;
	END IF;
	visible := coalesce((seen ->> ('t' || the_id))::boolean, EXISTS (SELECT FROM task_row r WHERE r.id = the_id));
	seen := seen || jsonb_build_object('t' || the_id, visible);
	IF op = 'create' THEN
		BEGIN
			PERFORM netbus.task_create(the_title, the_scope, the_data, the_id);
			done := true;
		EXCEPTION WHEN unique_violation THEN
			done := false;
		END;
		IF done = visible THEN
			PERFORM wrong(format('task_create(%s) went %s', the_id, done));
		END IF;
		IF done THEN
			INSERT INTO task_row SELECT the_id, the_title, 'pending', the_scope, the_data, n, n FROM count_event('tasks', the_id) n ON CONFLICT DO NOTHING;
		END IF;
		RETURN;
	END IF;
	done := CASE op WHEN 'rename' THEN netbus.task_rename(the_id, the_title) WHEN 'complete' THEN netbus.task_complete(the_id)
		WHEN 'reopen' THEN netbus.task_reopen(the_id) ELSE netbus.task_delete(the_id) END;
	IF done <> visible THEN
		PERFORM wrong(format('%s(%s) returned %s', op, the_id, done));
	END IF;
	IF NOT done THEN
		RETURN;
	END IF;
	PERFORM count_event('tasks', the_id);
	IF op = 'delete' THEN
		DELETE FROM task_row r WHERE r.id = the_id;
	ELSE
		UPDATE task_row r SET title = CASE op WHEN 'rename' THEN the_title ELSE title END,
			status = CASE op WHEN 'complete' THEN 'completed' WHEN 'reopen' THEN 'pending' ELSE status END,
			updated_by = (SELECT n FROM event_count c WHERE c.log = 'tasks' AND c.id = the_id)
		WHERE r.id = the_id;
	END IF;
END $$;

CREATE PROCEDURE change_models(seconds float8, seed float8) LANGUAGE plpgsql AS $$
DECLARE
	ends timestamptz := clock_timestamp() + seconds * interval '1 s';
	seen jsonb;
	before jsonb;
BEGIN
	PERFORM setseed(seed);
	PERFORM set_config('synchronous_commit', pick('on', 'off'), false);
	WHILE clock_timestamp() < ends LOOP
		seen := '{}';
		FOR i IN 0 .. floor(random() * random() * 20) LOOP
			before := seen;
			BEGIN
				FOR j IN 0 .. floor(random() * 3) LOOP
					seen := CASE WHEN random() < 0.6 THEN change_memory(seen) ELSE change_task(seen) END;
				END LOOP;
				IF random() < 0.15 THEN
					RAISE EXCEPTION 'to the savepoint';
				END IF;
			EXCEPTION WHEN raise_exception THEN
				seen := before; -- the locks are gone, too
			END;
		END LOOP;
		IF random() < 0.15 THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
	END LOOP;
END $$;

-- Memories of another model of which every attribute carries the same number.
CREATE PROCEDURE change_versions(seconds float8, seed float8) LANGUAGE plpgsql AS $$
DECLARE
	ends timestamptz := clock_timestamp() + seconds * interval '1 s';
	the_id bigint;
	v bigint;
BEGIN
	PERFORM setseed(seed);
	WHILE clock_timestamp() < ends LOOP
		the_id := 1 + floor(random() * 30);
		INSERT INTO version_row AS r VALUES (the_id, 1) ON CONFLICT (id) DO UPDATE SET n = r.n + 1 RETURNING n INTO v;
		IF random() < 0.1 THEN
			PERFORM netbus.memory_delete(the_id, 'versions');
		END IF;
		PERFORM netbus.memory_store(repeat('v' || v || ' ', floor(random() * 400)::int) || 'v' || v, ARRAY['a' || v % 10, 'n' || v, 'all'], 'n' || v, 'n' || v,
			jsonb_build_object('n', v), the_id, v % 2 = 0, CASE WHEN random() < 0.3 THEN some_time() END, 'versions');
		COMMIT;
	END LOOP;
END $$;

CREATE PROCEDURE watch_versions(seconds float8, seed float8) LANGUAGE plpgsql AS $$
DECLARE
	ends timestamptz := clock_timestamp() + seconds * interval '1 s';
	the_id bigint;
	v bigint;
	problem text;
	filter text;
	gone boolean;
BEGIN
	PERFORM setseed(seed);
	WHILE clock_timestamp() < ends LOOP
		filter := pick('', $f$tag => 'all',$f$, $f$any_tags => '{a1,a2}',$f$, $f$all_tags => '{a3,all}',$f$, 'pinned => true,', $f$content_contains => 'V1',$f$, 'ids => ARRAY[1, 5, 29],',
			$f$updated_from => clock_timestamp() - interval '1 s',$f$, $f$created_from => '2020-01-10', created_to => '2021-01-01',$f$);
		EXECUTE format($f$
			SELECT min(format('half a record: %%s', m)) FROM netbus.memories(%s order_by => %L, max_rows => 1 + (random() * 40)::int, model => 'versions') m
			WHERE source <> scope OR source <> tags[2] OR tags[1] <> 'a' || substr(source, 2)::bigint %% 10 OR tags[3] <> 'all' OR data ->> 'n' <> substr(source, 2) OR pinned <> (substr(source, 2)::bigint %% 2 = 0)
				OR replace(content, 'v' || substr(source, 2), '') !~ '^ *$'
			$f$, filter, pick('created_desc', 'created_asc', 'updated_desc', 'updated_asc', 'id_desc', 'id_asc')) INTO problem;
		PERFORM wrong(problem) WHERE problem IS NOT NULL;
		-- What is committed is seen.
		the_id := 1 + floor(random() * 30);
		SELECT r.n INTO v FROM version_row r WHERE r.id = the_id;
		COMMIT;
		CONTINUE WHEN v IS NULL;
		FOR i IN 1 .. 200 LOOP
			SELECT format('version %s of %s, not %s', substr(m.source, 2), the_id, v), m.source IS NULL INTO problem, gone
				FROM (SELECT) one LEFT JOIN netbus.memory(the_id, 'versions') m ON true WHERE coalesce(substr(m.source, 2)::bigint, 0) < v;
			COMMIT;
			-- Perhaps a transaction that deletes and stores it is being folded.
			EXIT WHEN gone IS NOT TRUE;
			PERFORM pg_sleep(0.001);
		END LOOP;
		PERFORM wrong(problem) WHERE problem IS NOT NULL;
		COMMIT;
	END LOOP;
END $$;

-- ----------------------------------------------------------------- comparing

-- The tables, with the times that the log has.
CREATE PROCEDURE collect() LANGUAGE plpgsql AS $$
BEGIN
	DROP TABLE IF EXISTS event, memory_now, task_now;
	CREATE TEMP TABLE event AS
		SELECT log, (payload ->> 'id')::bigint AS id, row_number() OVER (PARTITION BY log, payload ->> 'id' ORDER BY seq) AS n, ts
		FROM unnest(ARRAY['memories', 'tasks']) log, netbus.read(log, max_events => 100000000);
	CREATE INDEX ON event (log, id, n);
	ANALYZE event;
	CREATE TEMP TABLE memory_now AS
		SELECT m.id, m.content, m.tags, m.source, m.scope, m.data, m.pinned, coalesce(m.created, c.ts) AS created, u.ts AS updated
		FROM memory_row m LEFT JOIN event c ON (c.log, c.id, c.n) = ('memories', m.id, m.created_by) LEFT JOIN event u ON (u.log, u.id, u.n) = ('memories', m.id, m.updated_by);
	CREATE TEMP TABLE task_now AS
		SELECT m.id, m.title, m.status, m.scope, m.data, c.ts AS created, u.ts AS updated
		FROM task_row m LEFT JOIN event c ON (c.log, c.id, c.n) = ('tasks', m.id, m.created_by) LEFT JOIN event u ON (u.log, u.id, u.n) = ('tasks', m.id, m.updated_by);
	ANALYZE memory_now, task_now;
END $$;

CREATE FUNCTION order_of(order_by text, OUT columns text, OUT sign text, OUT at text) LANGUAGE sql AS $$
	SELECT CASE split_part(order_by, '_', 1) WHEN 'id' THEN format('id %s', d) ELSE format('%s %s, id %s', split_part(order_by, '_', 1), d, d) END,
		d, split_part(order_by, '_', 1)
	FROM (SELECT split_part(order_by, '_', 2) AS d) o
$$;

-- Random queries of the models and of the tables, whole and in pages: what is not the same.
CREATE FUNCTION differences(queries int) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	orders text[] := '{created_desc,created_asc,updated_desc,updated_asc,id_desc,id_asc}';
	kind text;
	given text;
	named text;
	order_by text;
	most int;
	o record;
	want bigint[];
	got bigint[];
	page bigint[];
	n bigint;
	at timestamptz;
	problem text;
BEGIN
	CALL collect();
	FOR problem IN
		SELECT 'not in the model: ' || x::text FROM (SELECT ROW(w.*)::netbus.memory AS x FROM memory_now w EXCEPT SELECT m FROM netbus.memories() m) d
		UNION ALL SELECT 'not in the table: ' || x::text FROM (SELECT m AS x FROM netbus.memories() m EXCEPT SELECT ROW(w.*)::netbus.memory FROM memory_now w) d
		UNION ALL SELECT 'not in the model: ' || x::text FROM (SELECT ROW(w.*)::netbus.task AS x FROM task_now w EXCEPT SELECT m FROM netbus.tasks() m) d
		UNION ALL SELECT 'not in the table: ' || x::text FROM (SELECT m AS x FROM netbus.tasks() m EXCEPT SELECT ROW(w.*)::netbus.task FROM task_now w) d
	LOOP
		RETURN NEXT left(problem, 300);
	END LOOP;
	FOR q IN 1 .. queries LOOP
		kind := pick('memories', 'memories', 'tasks');
		-- Conditions as the table has them, and as the function does.
		SELECT coalesce(string_agg(' AND ' || c, ''), ''), coalesce(string_agg(format('%s => %s, ', a, v), ''), '') INTO given, named FROM (
			SELECT a, v, format(CASE a
				WHEN 'tag' THEN '%1$s = ANY (tags)' WHEN 'any_tags' THEN '(tags && %1$s OR %1$s = ''{}'')' WHEN 'all_tags' THEN 'tags @> %1$s'
				WHEN 'source' THEN 'source = %1$s' WHEN 'scope' THEN 'scope = %1$s' WHEN 'pinned' THEN 'pinned = %1$s' WHEN 'status' THEN 'status = %1$s'
				WHEN 'content_contains' THEN 'strpos(lower(content), lower(%1$s)) > 0' WHEN 'title_contains' THEN 'strpos(lower(title), lower(%1$s)) > 0'
				WHEN 'ids' THEN 'id = ANY (%1$s)' WHEN 'created_from' THEN 'created >= %1$s' WHEN 'created_to' THEN 'created < %1$s'
				WHEN 'updated_from' THEN 'updated >= %1$s' WHEN 'updated_to' THEN 'updated < %1$s' END, v) AS c
			FROM (
				SELECT a, CASE
					WHEN a = 'tag' THEN quote_literal((some_tags(1) || '{x}')[1])
					WHEN a IN ('any_tags', 'all_tags') THEN quote_literal(some_tags(3)) || '::text[]'
					WHEN a = 'source' THEN quote_literal(pick('a', 'b', 'c', 'd'))
					WHEN a = 'scope' THEN quote_literal(pick('s', 't', 'u'))
					WHEN a = 'pinned' THEN pick('true', 'false')
					WHEN a = 'status' THEN quote_literal(pick('pending', 'completed'))
					WHEN a LIKE '%contains' THEN quote_literal(pick('', 'tea', 'ée', 'É', 'fé', 'SS', 'ß', 'i̇s', 'istanbul', 'PSI', '%', 'ffee 1', 'pad pad', 'K'))
					WHEN a = 'ids' THEN quote_literal(ARRAY(SELECT floor(random() * 300)::bigint FROM generate_series(1, 1 + (random() * 40)::int))
						|| ARRAY(SELECT id FROM memory_now ORDER BY random() LIMIT 5)) || '::bigint[]'
					ELSE quote_literal(CASE WHEN random() < 0.3 THEN some_time() WHEN kind = 'tasks' OR random() < 0.5 THEN (SELECT updated FROM task_now OFFSET (random() * 20)::int LIMIT 1)
						ELSE (SELECT created FROM memory_now OFFSET (random() * 50)::int LIMIT 1) END) || '::timestamptz' END AS v
				FROM unnest(CASE kind WHEN 'memories' THEN '{tag,any_tags,all_tags,source,scope,pinned,content_contains,ids,created_from,created_to,updated_from,updated_to}'::text[]
					ELSE '{status,title_contains,scope,ids,created_from,created_to,updated_from,updated_to}' END) a
				WHERE random() < 0.2) a WHERE v IS NOT NULL) c;
		order_by := orders[1 + floor(random() * 6)];
		most := CASE WHEN random() < 0.7 THEN floor(random() * random() * 50) END;
		o := order_of(order_by);
		EXECUTE format('SELECT coalesce(array_agg(id), ''{}'') FROM (SELECT id FROM %s WHERE true%s ORDER BY %s LIMIT %L) x',
			CASE kind WHEN 'memories' THEN 'memory_now' ELSE 'task_now' END, given, o.columns, most) INTO want;
		EXECUTE format('SELECT coalesce(array_agg(id ORDER BY ordinality), ''{}'') FROM netbus.%s(%s order_by => %L, max_rows => %L) WITH ORDINALITY', kind, named, order_by, most) INTO got;
		IF want <> got THEN
			RETURN NEXT format('%s(%s order_by => %s, max_rows => %s): %s, not %s', kind, named, order_by, most, left(got::text, 200), left(want::text, 200));
		END IF;
		CONTINUE WHEN most IS NOT NULL;
		EXECUTE format('SELECT netbus.%s_count(%s)', CASE kind WHEN 'memories' THEN 'memory' ELSE 'task' END, rtrim(named, ', ')) INTO n;
		IF n <> cardinality(want) THEN
			RETURN NEXT format('%s_count(%s): %s, not %s', kind, rtrim(named, ', '), n, cardinality(want));
		END IF;
		CONTINUE WHEN random() < 0.5;
		got := '{}';
		n := NULL;
		most := 1 + floor(random() * 40) + cardinality(want) / 50;
		LOOP
			EXECUTE format('SELECT coalesce(array_agg(id ORDER BY ordinality), ''{}''), (array_agg(%s ORDER BY ordinality DESC))[1] FROM netbus.%s(%s order_by => %L, max_rows => %L, after_id => %L%s) WITH ORDINALITY',
				CASE o.at WHEN 'id' THEN 'NULL::timestamptz' ELSE o.at END, kind, named, order_by, most, n, CASE WHEN o.at = 'id' OR n IS NULL THEN '' ELSE format(', after_at => %L', at) END) INTO page, at;
			EXIT WHEN page = '{}' OR cardinality(got) > cardinality(want);
			got := got || page;
			n := page[cardinality(page)];
		END LOOP;
		IF want <> got THEN
			RETURN NEXT format('%s(%s order_by => %s) in pages of %s: %s, not %s', kind, named, order_by, most, left(got::text, 200), left(want::text, 200));
		END IF;
	END LOOP;
	FOR problem IN
		SELECT format('%s_count(): %s of %s', c.k, c.n, c.of) FROM (VALUES ('memory', netbus.memory_count(), (SELECT count(*) FROM memory_now)), ('task', netbus.task_count(), (SELECT count(*) FROM task_now))) c(k, n, of)
			WHERE c.n <> c.of
		UNION ALL SELECT format('memory(%s): %s', w.id, m) FROM (SELECT * FROM memory_now ORDER BY random() LIMIT 20) w LEFT JOIN LATERAL netbus.memory(w.id) m ON true WHERE m IS DISTINCT FROM ROW(w.*)::netbus.memory
		UNION ALL SELECT format('version of %s: %s, not %s', r.id, m.source, r.n) FROM version_row r LEFT JOIN netbus.memories(model => 'versions') m ON m.id = r.id WHERE m.source IS DISTINCT FROM 'n' || r.n
	LOOP
		RETURN NEXT left(problem, 300);
	END LOOP;
END $$;
