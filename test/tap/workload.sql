-- Publishers all of whose events can be accounted for afterwards, whatever
-- happened to the server meanwhile, and the account itself.
--
-- Every transaction notes its events in an ordinary table, so PostgreSQL itself
-- says which of them were committed.  An event is {"id": "run.writer.number",
-- "n": n, "pad": text}; n ascends with each key.  There are two kinds of keys.
-- "s.<i>" is shared by all writers: n comes from a locked row of "counter", so
-- the committed ones are 1, 2, 3 .. in the order of the commits, without a gap.
-- "w<writer>.<i>" belongs to one writer, so that writers need not wait for each
-- other.

CREATE TABLE witness (
	log text,
	id text,
	key text,
	n bigint,
	free boolean          -- published without waiting for the transaction
);
CREATE TABLE counter (log text, key text, n bigint, PRIMARY KEY (log, key)) WITH (fillfactor = 10);

-- What a reader has seen; of an async log it is sure only once flush() said so.
CREATE TABLE seen (log text, shard int, seq bigint, id text, batch int, PRIMARY KEY (log, shard, seq));
CREATE TABLE sure (batch int PRIMARY KEY);
CREATE SEQUENCE batches;

-- Seqs that later runs have to be above.
CREATE TABLE mark (run int, log text, shard int, seq bigint);

CREATE FUNCTION padding(id text, length int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT repeat(left(md5(id), 10), length / 10);
$$;

-- Note events and publish them.  bad: none of them may ever be seen.
CREATE FUNCTION emit(which text, payloads jsonb[], keys text[], how text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	taken bigint := 0;
BEGIN
	INSERT INTO witness SELECT which, e->>'id', k, (e->>'n')::bigint, how = 'free' FROM unnest(payloads, keys) u (e, k);
	IF how = 'batch' THEN
		taken := netbus.publish_batch(which, payloads, keys);
	ELSIF how = 'lines' THEN
		taken := netbus.publish_lines(which, (SELECT string_agg(e::text, E'\n' ORDER BY o) FROM unnest(payloads) WITH ORDINALITY u (e, o)));
	ELSE
		SELECT count(*) FILTER (WHERE netbus.publish(which, e, k, how <> 'free')) INTO taken FROM unnest(payloads, keys) u (e, k);
	END IF;
	IF taken < cardinality(payloads) THEN
		RAISE 'log % has refused events', which USING ERRCODE = 'insufficient_resources';
	END IF;
	RETURN taken;
END
$$;

CREATE FUNCTION make_events(run int, writer int, first int, count int, bytes int, bad boolean DEFAULT false)
RETURNS jsonb[] LANGUAGE sql AS $$
	SELECT array_agg(jsonb_build_object('id', id, 'n', run * 1000000000::bigint + first + i, 'pad', padding(id, bytes))
			|| CASE WHEN bad THEN jsonb '{"bad": true}' ELSE '{}' END ORDER BY i)
	FROM generate_series(0, count - 1) i, format('%s.%s.%s', run, writer, first + i) id;
$$;

-- "count" events with a key of all writers, in one frame or a few.
CREATE FUNCTION emit_shared(which text, run int, writer int, first int, count int, bytes int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	shared text := 's.' || floor(random() * 8);
	last bigint;
	payloads jsonb[];
BEGIN
	INSERT INTO counter AS c VALUES (which, shared, count) ON CONFLICT (log, key) DO UPDATE SET n = c.n + count RETURNING n INTO last;
	SELECT array_agg(e || jsonb_build_object('n', last - count + o) ORDER BY o) INTO payloads
		FROM unnest(make_events(run, writer, first, count, bytes)) WITH ORDINALITY u (e, o);
	PERFORM emit(which, payloads, array_fill(shared, ARRAY[count]), CASE WHEN count = 1 THEN 'single' ELSE 'batch' END);
END
$$;

CREATE FUNCTION writer_keys(writer int, count int) RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(CASE WHEN i % 4 > 0 THEN format('w%s.%s', writer, i % 7) END ORDER BY i) FROM generate_series(1, count) i;
$$;

-- A writer.  "free": logs that also take events which do not wait.
CREATE PROCEDURE churn(run int, writer int, logs text[], free text[], seconds float8, seed float8) LANGUAGE plpgsql AS $$
DECLARE
	ends timestamptz := clock_timestamp() + seconds * interval '1 s';
	i int := 0; -- number of the next event, also of those that are rolled back
	which text;
	kind float8;
	count int;
BEGIN
	PERFORM setseed(seed);
	WHILE clock_timestamp() < ends LOOP
		which := logs[1 + floor(random() * cardinality(logs))];
		kind := random();
		IF kind < 0.4 THEN
			count := 1 + floor(random() * 3);
			PERFORM emit_shared(which, run, writer, i, count, 10 * (random() * 20)::int);
		ELSIF kind < 0.6 THEN
			count := 1 + floor(random() * 20);
			PERFORM emit(which, make_events(run, writer, i, count, 50), writer_keys(writer, count), 'batch');
		ELSIF kind < 0.7 THEN
			count := 1 + floor(random() * 10);
			PERFORM emit(which, make_events(run, writer, i, count, 20), array_fill(NULL::text, ARRAY[count]), 'lines');
		ELSIF kind < 0.8 THEN
			-- Savepoints: the second and the third part are rolled back, the innermost with it.
			PERFORM emit(which, make_events(run, writer, i, 2, 100), writer_keys(writer, 2), 'single');
			BEGIN
				PERFORM emit(which, make_events(run, writer, i + 2, 3, 100, true), writer_keys(writer, 3), 'batch');
				BEGIN
					PERFORM emit(which, make_events(run, writer, i + 5, 20, 1000, true), writer_keys(writer, 20), 'batch');
				END;
				RAISE 'undo' USING ERRCODE = 'NB001';
			EXCEPTION WHEN SQLSTATE 'NB001' THEN
				NULL;
			END;
			BEGIN
				PERFORM emit(which, make_events(run, writer, i + 25, 2, 100), writer_keys(writer, 2), 'single');
			EXCEPTION WHEN division_by_zero THEN
				NULL;
			END;
			count := 27;
		ELSIF kind < 0.87 THEN
			count := 1 + floor(random() * 30);
			PERFORM emit(which, make_events(run, writer, i, count, 500, true), writer_keys(writer, count), 'batch');
			ROLLBACK;
		ELSIF kind < 0.92 THEN
			-- More than a quarter of the ring, in one shard and in many.
			count := 30 + floor(random() * 20);
			IF random() < 0.5 THEN
				PERFORM emit_shared(which, run, writer, i, count, 1000);
			ELSE
				PERFORM emit(which, make_events(run, writer, i, count, 1000), writer_keys(writer, count), 'batch');
			END IF;
		ELSIF kind < 0.94 THEN
			count := 1; -- larger than any frame of the ring
			PERFORM emit_shared(which, run, writer, i, 1, 20000);
		ELSIF cardinality(free) > 0 AND kind < 0.97 THEN
			which := free[1 + floor(random() * cardinality(free))];
			count := 1 + floor(random() * 3);
			PERFORM emit(which, (SELECT array_agg(e || '{"free": true}' ORDER BY o)
					FROM unnest(make_events(run, writer, i, count, 50)) WITH ORDINALITY u (e, o)),
				writer_keys(writer, count), 'free');
		ELSE
			count := 0;
			FOREACH which IN ARRAY logs LOOP
				PERFORM emit_shared(which, run, writer, i + count, 2, 30);
				count := count + 2;
			END LOOP;
		END IF;
		COMMIT;
		i := i + count;
	END LOOP;
END
$$;

-- Note everything of a log that readers can see.
CREATE FUNCTION note(which text, batch int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	noted bigint;
BEGIN
	INSERT INTO seen SELECT which, e.shard, e.seq, e.payload->>'id', batch
		FROM netbus.logs l, generate_series(0, l.shards - 1) s,
			LATERAL (SELECT coalesce(max(seq), 0) AS seq FROM seen WHERE seen.log = which AND shard = s) last,
			LATERAL netbus.read(which, last.seq, s, max_events => 2147483647) e
		WHERE l.log = which;
	GET DIAGNOSTICS noted = ROW_COUNT;
	RETURN noted;
END
$$;

-- What flush() says is persisted is what was to be seen before.
CREATE PROCEDURE note_and_flush(which text, seconds float8) LANGUAGE plpgsql AS $$
DECLARE
	ends timestamptz := clock_timestamp() + seconds * interval '1 s';
	batch int;
BEGIN
	WHILE clock_timestamp() < ends LOOP
		batch := nextval('batches');
		PERFORM note(which, batch);
		COMMIT;
		IF netbus.flush(which) THEN
			INSERT INTO sure VALUES (batch);
		END IF;
		COMMIT;
	END LOOP;
END
$$;

CREATE FUNCTION mark_seqs(run int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO mark SELECT run, log, shard, next_seq - 1 FROM netbus.stat_log;
$$;

-- What is wrong with a log.  whole: everything that was committed must be there;
-- else (an async log after a crash) only what is sure, and the rest is forgotten.
CREATE FUNCTION problems(which text, whole boolean) RETURNS TABLE (problem text, events bigint, example text)
LANGUAGE plpgsql AS $$
DECLARE
	nshards int;
	lasting boolean; -- nothing of it was ever lost
BEGIN
	SELECT shards, durability = 'commit' INTO nshards, lasting FROM netbus.logs l WHERE l.log = which;
	CREATE TEMP TABLE IF NOT EXISTS found (shard int, seq bigint, ts timestamptz, key text, id text, n bigint, free boolean, bad boolean,
		sound boolean, run int, place bigint);
	TRUNCATE found;
	INSERT INTO found SELECT s, e.seq, e.ts, e.key, e.payload->>'id', (e.payload->>'n')::bigint, e.payload ? 'free', e.payload ? 'bad',
			e.payload->>'pad' = padding(e.payload->>'id', length(e.payload->>'pad')) AND e.shard = s,
			split_part(e.payload->>'id', '.', 1)::int, e.ordinality
		FROM generate_series(0, nshards - 1) s, LATERAL netbus.read(which, 0, s, max_events => 2147483647) WITH ORDINALITY e;
	ANALYZE found;

	RETURN QUERY SELECT x.problem, count(*), min(x.example) FROM (
		SELECT 'in the log, but not committed' AS problem, x::text AS example FROM (
			SELECT f.id, f.key, f.n FROM found f WHERE NOT f.free
			EXCEPT ALL SELECT w.id, w.key, w.n FROM witness w WHERE w.log = which AND NOT w.free) x
		UNION ALL SELECT 'more than once in the log', f.id FROM found f GROUP BY f.id HAVING count(*) > 1
		UNION ALL SELECT 'committed, but not in the log', x::text FROM (
			SELECT w.id, w.key, w.n FROM witness w WHERE w.log = which AND whole
			EXCEPT ALL SELECT f.id, f.key, f.n FROM found f) x
		UNION ALL SELECT 'rolled back, but in the log', f.id FROM found f WHERE f.bad
		UNION ALL SELECT 'torn', f.id FROM found f WHERE f.sound IS NOT TRUE
		UNION ALL SELECT 'out of order', x::text FROM (
			SELECT f.shard, f.seq, lag(f.seq) OVER shard AS seq_before, f.ts, lag(f.ts) OVER shard AS ts_before
			FROM found f WINDOW shard AS (PARTITION BY f.shard ORDER BY f.place)) x WHERE x.seq <= x.seq_before OR x.ts < x.ts_before
		UNION ALL SELECT 'events of a key out of order', x::text FROM (
			SELECT f.key, f.seq, f.n, lag(f.n) OVER (PARTITION BY f.key ORDER BY f.seq) AS n_before
			FROM found f WHERE f.key IS NOT NULL) x WHERE x.n <= x.n_before
		UNION ALL SELECT 'gap between events of a key', x::text FROM (
			SELECT f.key, f.seq, f.n, lag(f.n) OVER (PARTITION BY f.key ORDER BY f.seq) AS n_before
			FROM found f WHERE lasting AND f.key LIKE 's.%') x WHERE x.n <> x.n_before + 1
		UNION ALL SELECT 'events of a key in several shards', f.key FROM found f WHERE f.key IS NOT NULL
			GROUP BY f.key HAVING count(DISTINCT f.shard) > 1
		UNION ALL SELECT 'seen before, and gone', s::text FROM seen s LEFT JOIN found f ON (f.shard, f.seq) = (s.shard, s.seq)
			WHERE s.log = which AND f.seq IS NULL AND (whole OR s.batch IN (SELECT batch FROM sure))
		UNION ALL SELECT 'seq issued twice', s::text FROM seen s JOIN found f ON (f.shard, f.seq) = (s.shard, s.seq)
			WHERE s.log = which AND s.id IS DISTINCT FROM f.id
		UNION ALL SELECT 'seq below one of an earlier run', f.id FROM found f
			JOIN (SELECT m.run, m.shard, max(m.seq) AS seq FROM mark m WHERE m.log = which GROUP BY 1, 2) m
				ON m.shard = f.shard AND m.run < f.run AND m.seq >= f.seq
		-- From the middle, where another part of the code has to find the place.
		UNION ALL SELECT 'read from the middle', format('shard %s after %s', p.shard, p.seq) FROM (
				SELECT f.* FROM found f ORDER BY random() LIMIT 20) p
			WHERE (SELECT (count(*), min(e.seq)) FROM netbus.read(which, p.seq, p.shard, max_events => 50) e)
				IS DISTINCT FROM (SELECT (count(*), min(f.seq)) FROM (
					SELECT f.seq FROM found f WHERE f.shard = p.shard AND f.seq > p.seq ORDER BY 1 LIMIT 50) f)
		UNION ALL SELECT 'get', p.id FROM (SELECT f.* FROM found f ORDER BY random() LIMIT 20) p
			WHERE p.id IS DISTINCT FROM (SELECT e.payload->>'id' FROM netbus.get(which, p.seq, p.shard) e)
	) x GROUP BY x.problem;

	IF NOT whole THEN
		DELETE FROM witness w WHERE w.log = which AND NOT EXISTS (SELECT FROM found f WHERE f.id = w.id);
		DELETE FROM seen s WHERE s.log = which AND NOT EXISTS (SELECT FROM found f WHERE (f.shard, f.seq) = (s.shard, s.seq));
	END IF;
	INSERT INTO retained SELECT which, s, (SELECT count(*) FROM found f WHERE f.shard = s) FROM generate_series(0, nshards - 1) s
		ON CONFLICT (log, shard) DO UPDATE SET events = excluded.events;
END
$$;
CREATE TABLE retained (log text, shard int, events bigint, PRIMARY KEY (log, shard));

-- Start again with an empty log.
CREATE FUNCTION forget(which text) RETURNS bigint LANGUAGE sql AS $$
	DELETE FROM witness WHERE log = which;
	DELETE FROM seen WHERE log = which;
	SELECT netbus.purge(which);
$$;
