--
-- Polling: all shards, page by page
--
SELECT netbus.create_log('wide', shards => 4);
-- Page by page until there is no more: what the pages had.
CREATE FUNCTION pages(log text, max_events int, start text DEFAULT 'earliest', filter jsonb DEFAULT NULL, ordering text DEFAULT 'none', shards int[] DEFAULT NULL)
RETURNS TABLE (page int, shard int, seq bigint, ts timestamptz, key text, payload jsonb, next_cursor text, lost bigint, has_more bool) LANGUAGE plpgsql AS $$
DECLARE
	position text := start;
	r record;
BEGIN
	FOR i IN 1 .. 1000 LOOP
		r := NULL;
		FOR r IN SELECT * FROM netbus.poll($1, position, $2, $4, $5, $6) LOOP
			page := i;
			shard := r.shard; seq := r.seq; ts := r.ts; key := r.key; payload := r.payload;
			next_cursor := r.next_cursor; lost := r.lost; has_more := r.has_more;
			RETURN NEXT;
		END LOOP;
		IF r.next_cursor = position THEN
			RAISE 'page % does not move', i;
		END IF;
		EXIT WHEN r IS NULL OR NOT r.has_more;
		position := r.next_cursor;
	END LOOP;
END $$;

-- Nothing there: nothing to say, but where the end is.
SELECT * FROM netbus.poll('wide');
SELECT shard, seq, ts, key, payload, next_cursor ~ '^c1\.[A-Za-z0-9_-]+$' AS cursor, lost, has_more FROM netbus.poll('wide', 'latest');
SELECT next_cursor AS start FROM netbus.poll('wide', 'latest') \gset
SELECT * FROM netbus.poll('wide', :'start');
SELECT * FROM netbus.poll('wide', max_events => 0);
SELECT * FROM netbus.poll('wide', 'latest', max_events => 0);
SELECT * FROM netbus.poll('wide', 'latest', shards => '{}');

-- Every event once; every row of a page has the same cursor.
SELECT count(netbus.publish('wide', to_jsonb(i), 'key ' || i % 10)) FROM generate_series(1, 100) i;
SELECT count(*), count(DISTINCT (shard, seq)), sum(payload::int), count(DISTINCT next_cursor) AS cursors, sum(lost) AS lost, bool_or(has_more) AS has_more FROM netbus.poll('wide');
SELECT count(*), count(DISTINCT (shard, seq)), sum(payload::int), count(DISTINCT next_cursor) AS cursors FROM netbus.poll('wide', :'start');
SELECT page, count(*), count(DISTINCT next_cursor) AS cursors, bool_and(has_more) AS has_more, sum(lost) AS lost FROM pages('wide', 30) GROUP BY page ORDER BY page;
SELECT count(*), count(DISTINCT (shard, seq)), sum(payload::int), max(page) FROM pages('wide', 7);
SELECT count(*), count(DISTINCT (shard, seq)), sum(payload::int), max(page) FROM pages('wide', 1);
SELECT count(*), count(DISTINCT (shard, seq)), sum(payload::int), max(page) FROM pages('wide', 2147483647);
-- As read() has them, in seq order, and at the end of the page shard by shard.
SELECT p.key = r.key AND p.payload = r.payload AND p.ts = r.ts AS same, count(*) FROM pages('wide', 13) p
FULL JOIN (SELECT r.* FROM generate_series(0, 3) s, netbus.read('wide', shard => s) r) r USING (shard, seq) GROUP BY 1;
SELECT count(*) AS out_of_order FROM (SELECT shard, seq, lag(shard) OVER w AS prev_shard, lag(seq) OVER w AS prev_seq
	FROM netbus.poll('wide', max_events => 60) WITH ORDINALITY p WINDOW w AS (ORDER BY ordinality)) s
WHERE (shard, seq) <= (prev_shard, prev_seq);
SELECT count(*) AS out_of_order FROM (SELECT shard, seq, lag(seq) OVER (PARTITION BY shard ORDER BY ordinality) AS prev_seq
	FROM ROWS FROM (pages('wide', 9)) WITH ORDINALITY p) s WHERE seq <= prev_seq;
-- The end: no row, also again and again.
SELECT DISTINCT next_cursor AS ended FROM netbus.poll('wide') \gset
SELECT * FROM netbus.poll('wide', :'ended');
SELECT * FROM netbus.poll('wide', :'ended', ordering => 'ts');
SELECT netbus.publish('wide', '101', 'key 1');
SELECT payload, has_more FROM netbus.poll('wide', :'ended');
SELECT payload, has_more FROM netbus.poll('wide', :'ended', ordering => 'ts');

-- Shards that are asked for; the others keep their place.
SELECT DISTINCT shard FROM netbus.poll('wide', shards => '{2}');
SELECT DISTINCT shard FROM netbus.poll('wide', shards => '{3, 1, 3}') ORDER BY 1;
SELECT count(*) FROM netbus.poll('wide', shards => '{{0, 1}, {2, 3}}');
SELECT DISTINCT next_cursor AS some FROM netbus.poll('wide', shards => '{0, 2}') \gset
SELECT DISTINCT shard FROM netbus.poll('wide', :'some') ORDER BY 1;
SELECT DISTINCT next_cursor AS rest FROM netbus.poll('wide', :'some', shards => '{1, 3}') \gset
SELECT count(*) FROM netbus.poll('wide', :'rest');
-- Also if it started at the end of all.
SELECT next_cursor AS latest0 FROM netbus.poll('wide', 'latest', shards => '{0}') \gset
SELECT * FROM netbus.poll('wide', :'latest0');

-- Fewer events than shards: nobody starves, in whatever order they come.
SELECT netbus.create_log('eight', shards => 8);
SELECT count(netbus.publish('eight', to_jsonb(i), i::text)) FROM generate_series(1, 400) i;
SELECT count(*), bool_and(has_more) AS has_more FROM netbus.poll('eight', max_events => 3);
SELECT count(DISTINCT shard) FROM pages('eight', 3) WHERE page <= 3;
SELECT count(DISTINCT shard) FROM pages('eight', 1) WHERE page <= 8;
-- A page is shared evenly, as long as each has enough.
SELECT min(n), max(n) FROM (SELECT count(*) AS n FROM netbus.poll('eight', max_events => 80) GROUP BY shard) s;
SELECT min(n), max(n) FROM (SELECT count(*) AS n FROM netbus.poll('eight', max_events => 81) GROUP BY shard) s;
SELECT count(*) FROM netbus.poll('eight', max_events => 399);

-- By time: a global order, across pages.
SELECT count(*), count(DISTINCT (shard, seq)), max(page) FROM pages('eight', 37, ordering => 'ts');
SELECT count(*) AS out_of_order FROM (SELECT (ts, shard, seq) AS place, lag((ts, shard, seq)) OVER (ORDER BY ordinality) AS prev
	FROM ROWS FROM (pages('eight', 37, ordering => 'ts')) WITH ORDINALITY p) s WHERE place <= prev;
DO $$ BEGIN FOR i IN 1 .. 100 LOOP PERFORM netbus.publish('eight', to_jsonb(400 + i), (i * 7919)::text); COMMIT; END LOOP; END $$;
SELECT count(*) AS out_of_order FROM (SELECT (ts, shard, seq) AS place, lag((ts, shard, seq)) OVER (ORDER BY ordinality) AS prev
	FROM ROWS FROM (pages('eight', 7, ordering => 'ts')) WITH ORDINALITY p) s WHERE place <= prev;
SELECT array_agg(payload::int ORDER BY ordinality) = array_agg(payload::int ORDER BY payload::int) AS as_published
FROM ROWS FROM (pages('eight', 7, ordering => 'ts')) WITH ORDINALITY p WHERE payload::int > 400;
-- Equal timestamps: by shard, seq; the same each time.
SELECT count(DISTINCT a) FROM (SELECT i, array_agg((shard, seq) ORDER BY ordinality) AS a
	FROM generate_series(1, 20) i, netbus.poll('eight', max_events => 200, ordering => CASE WHEN i > 0 THEN 'ts' END) WITH ORDINALITY p GROUP BY i) s;
-- One order after the other with the same cursor, and only some of the shards.
SELECT DISTINCT next_cursor AS half FROM netbus.poll('eight', max_events => 250, ordering => 'ts') \gset
SELECT count(*), bool_or(has_more) AS has_more FROM netbus.poll('eight', :'half');
SELECT count(*), count(DISTINCT shard) FROM pages('eight', 11, ordering => 'ts', shards => '{5, 6}')
WHERE shard IN (5, 6);
SELECT netbus.drop_log('eight');

-- From a time on.
SELECT ts AS at FROM netbus.read('wide', key => 'key 1') WHERE payload = '101' \gset
SELECT payload FROM netbus.poll('wide', :'at');
SELECT count(*) FROM netbus.poll('wide', (SELECT min(ts)::text FROM netbus.poll('wide')));
SELECT count(*) FROM netbus.poll('wide', '-infinity');
SELECT shard, seq, lost, has_more FROM netbus.poll('wide', 'infinity');
SELECT count(*) FROM netbus.poll('wide', '2000-01-01');
DO $$ BEGIN FOR i IN 1 .. 50 LOOP PERFORM netbus.publish('wide', to_jsonb(1000 + i), (i * 7919)::text); COMMIT; END LOOP; END $$;
WITH e AS MATERIALIZED (SELECT * FROM netbus.poll('wide')), t AS (SELECT DISTINCT ts FROM e)
SELECT count(*) > 20 AS times, count(*) FILTER (WHERE (SELECT count(*) FROM netbus.poll('wide', t.ts::text)) IS DISTINCT FROM (SELECT count(*) FROM e WHERE e.ts >= t.ts)) AS wrong FROM t;
SELECT netbus.drop_log('wide');

-- A filter. What does not match is passed over, and the cursor knows.
SELECT netbus.create_log('docs', shards => 3);
SELECT count(netbus.publish('docs', jsonb_build_object('n', i, 'kind', CASE WHEN i % 20 = 0 THEN 'rare' ELSE 'usual' END), (i * 7919)::text)) FROM generate_series(1, 200) i;
SELECT count(*), bool_or(has_more) AS has_more FROM netbus.poll('docs', filter => '{"path": "kind", "value": "rare"}');
SELECT count(*), count(DISTINCT (shard, seq)), bool_and(payload->>'kind' = 'rare') AS match FROM pages('docs', 3, filter => '{"path": "kind", "value": "rare"}') WHERE seq IS NOT NULL;
SELECT count(*), count(DISTINCT (shard, seq)), bool_and(payload->>'kind' = 'rare') AS match FROM pages('docs', 3, filter => '{"path": "kind", "value": "rare"}', ordering => 'ts') WHERE seq IS NOT NULL;
SELECT shard, seq, ts, key, payload, lost, has_more FROM netbus.poll('docs', filter => '{"path": "kind", "value": "none"}');
SELECT next_cursor AS passed FROM netbus.poll('docs', filter => '{"path": "kind", "value": "none"}') \gset
SELECT * FROM netbus.poll('docs', :'passed');
SELECT shard, seq, ts, key, payload, lost, has_more FROM netbus.poll('docs', filter => '{"path": "kind", "value": "none"}', ordering => 'ts', wait => '10 ms');
\set VERBOSITY sqlstate
SELECT * FROM netbus.poll('docs', filter => '{"nonsense": 1}');
\set VERBOSITY default
SELECT netbus.drop_log('docs');

-- Bytes.
SELECT netbus.create_log('raw', format => 'bytea');
SELECT netbus.publish_batch('raw', ARRAY['{"z":1.0,"a":2}', '[2]', '\xff']::bytea[], ARRAY['a', NULL, '']);
SELECT shard, seq, key, payload, lost, has_more FROM netbus.poll_raw('raw');
SELECT shard, seq, key, payload, lost, has_more FROM netbus.poll('raw', max_events => 2);
SELECT shard, seq, key, payload, lost, has_more FROM netbus.poll('raw');
-- Rows of all lengths and alignments.
SELECT netbus.purge('raw') > 0 AS purged;
SELECT count(netbus.publish('raw', decode(repeat('61', i % 17), 'hex'), CASE WHEN i % 3 > 0 THEN repeat('k', i % 19) END)) FROM generate_series(1, 400) i;
WITH p AS (SELECT row_number() OVER (ORDER BY seq) AS i, p.* FROM netbus.poll_raw('raw') p)
SELECT count(*), bool_and(length(payload) = i % 17 AND key IS NOT DISTINCT FROM CASE WHEN i % 3 > 0 THEN repeat('k', (i % 19)::int) END
	AND lost = 0 AND NOT has_more AND next_cursor = (SELECT max(next_cursor) FROM p)) AS sound FROM p;
-- Large events: a page of memory takes what it takes.
SELECT count(netbus.publish('raw', convert_to(repeat('x', 12 * 1024 * 1024), 'UTF8'))) FROM generate_series(1, 7);
SELECT DISTINCT next_cursor AS after_small FROM netbus.poll_raw('raw', max_events => 400) \gset
SELECT count(*), sum(length(payload)), bool_or(has_more) AS has_more FROM netbus.poll_raw('raw', :'after_small');

-- What was there once.
SELECT netbus.create_log('short', durability => 'memory', format => 'bytea', ring_size => '64kB', shards => 2);
SELECT DISTINCT next_cursor AS zero FROM netbus.poll('short', 'latest') \gset
SELECT count(netbus.publish('short', convert_to(repeat('x', 1000), 'UTF8'), i::text, transactional => false)) FROM generate_series(1, 300) i;
-- From the oldest on nothing is lost; from where the log was empty it is.
SELECT count(*) = (SELECT sum(retained) FROM netbus.stat_log WHERE log = 'short') AS retained, max(lost) AS lost FROM netbus.poll_raw('short');
SELECT count(*) + max(lost) AS events, max(lost) = (SELECT sum(evicted) FROM netbus.stat_log WHERE log = 'short') AS lost FROM netbus.poll_raw('short', :'zero');
SELECT max(lost) AS lost FROM netbus.poll_raw('short', '2000-01-01');
SELECT count(*) + max(lost) AS events FROM netbus.poll_raw('short', :'zero', ordering => 'ts');
-- Lost, but none left.
SELECT DISTINCT next_cursor AS start FROM netbus.poll_raw('short', max_events => 2) \gset
SELECT netbus.purge('short') > 0 AS purged;
SELECT shard, seq, key, payload, lost > 0 AS lost, has_more FROM netbus.poll_raw('short', :'start');
SELECT DISTINCT next_cursor AS gone FROM netbus.poll_raw('short', :'start') \gset
SELECT * FROM netbus.poll_raw('short', :'gone');
SELECT shard, seq, lost, has_more FROM netbus.poll_raw('short');

-- Cursors: of this log, and nothing else.
SELECT * FROM netbus.poll('raw', :'gone');
SELECT netbus.drop_log('short');
SELECT netbus.create_log('short', durability => 'memory', format => 'bytea', ring_size => '64kB', shards => 2);
\set VERBOSITY terse
SELECT * FROM netbus.poll('short', :'gone');
SELECT * FROM netbus.poll('short', left(:'gone', -1));
SELECT * FROM netbus.poll('short', :'gone' || 'A');
SELECT * FROM netbus.poll('short', overlay(:'gone' placing CASE WHEN substr(:'gone', 6, 1) = 'A' THEN 'B' ELSE 'A' END from 6));
\set VERBOSITY default
SELECT * FROM netbus.poll('short', 'c1.');
SELECT * FROM netbus.poll('short', 'c1.AAAA=');
SELECT * FROM netbus.poll('short', 'c2.AAAA');
SELECT * FROM netbus.poll('short', 'Latest');
SELECT * FROM netbus.poll('short', '');
-- The first retention moves the rows of a log, but it stays the same log; so does renaming it.
SELECT netbus.create_log('kept');
SELECT netbus.publish_batch('kept', '[1, 2, 3]');
SELECT DISTINCT next_cursor AS two FROM netbus.poll('kept', max_events => 2) \gset
SELECT netbus.alter_log('kept', 'retention_events', '1000');
SELECT payload FROM netbus.poll('kept', :'two');
ALTER TABLE netbus.log_kept RENAME TO log_kept2;
SELECT payload FROM netbus.poll('kept2', :'two');
SELECT netbus.drop_log('kept2');

-- From the table, where the ring has no more: the same, in both orders.
SELECT netbus.create_log('long', shards => 3, ring_size => '64kB');
DO $$ BEGIN FOR i IN 1 .. 300 LOOP
	PERFORM netbus.publish('long', jsonb_build_object('n', i * 10 + j, 'x', repeat('x', 100)), (i * 7919 + j)::text) FROM generate_series(0, 9) j;
	COMMIT;
END LOOP; END $$;
SELECT count(*), count(DISTINCT (shard, seq)), sum((payload->>'n')::int), sum(lost) AS lost FROM pages('long', 170);
SELECT count(*), count(DISTINCT (shard, seq)), sum((payload->>'n')::int), sum(lost) AS lost FROM pages('long', 170, ordering => 'ts');
SELECT count(*) AS out_of_order FROM (SELECT (ts, shard, seq) AS place, lag((ts, shard, seq)) OVER (ORDER BY ordinality) AS prev
	FROM ROWS FROM (pages('long', 170, ordering => 'ts')) WITH ORDINALITY p) s WHERE place <= prev;
SELECT count(*), sum((payload->>'n')::int) FROM pages('long', 2, filter => '{"path": "n", "value": 77}') WHERE seq IS NOT NULL;
WITH e AS MATERIALIZED (SELECT * FROM netbus.poll('long', max_events => 3000)), t AS (SELECT DISTINCT ts FROM e ORDER BY ts LIMIT 7)
SELECT count(*), count(*) FILTER (WHERE (SELECT count(*) FROM netbus.poll('long', t.ts::text, max_events => 3000)) IS DISTINCT FROM (SELECT count(*) FROM e WHERE e.ts >= t.ts)) AS wrong FROM t;
-- What was purged: lost, unless one starts with what there is.
SELECT DISTINCT next_cursor AS begun FROM netbus.poll('long', max_events => 30) \gset
SELECT netbus.purge('long');
SELECT sum(lost) AS lost, count(seq) FROM netbus.poll('long', :'begun');
SELECT sum(lost) AS lost, count(seq) FROM netbus.poll('long');
SELECT netbus.drop_log('long');

-- Transactions: not one's own events before commit, what others have committed in any case.
SELECT netbus.create_log('docs', shards => 2);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT netbus.publish('docs', '1');
SELECT * FROM netbus.poll('docs');
COMMIT;
SELECT payload FROM netbus.poll('docs');
BEGIN READ ONLY;
SELECT payload FROM netbus.poll('docs', ordering => 'ts');
COMMIT;
-- A row at a time; left early; two at once.
SELECT count(netbus.publish('docs', to_jsonb(i), i::text)) FROM generate_series(2, 50) i;
SELECT count(*) FROM (SELECT (netbus.poll('docs')).seq LIMIT 3) s;
BEGIN;
DECLARE a CURSOR FOR SELECT (p).payload FROM (SELECT netbus.poll('docs', ordering => 'ts') AS p OFFSET 0) s;
FETCH 1 FROM a;
DECLARE b CURSOR FOR SELECT (p).payload FROM (SELECT netbus.poll('docs', ordering => 'ts') AS p OFFSET 0) s;
FETCH 1 FROM b;
FETCH 1 FROM a;
CLOSE b;
SELECT netbus.drop_log('docs');
SELECT netbus.create_log('docs', shards => 2);
MOVE ALL FROM a;
COMMIT;

-- Wrong arguments.
SELECT * FROM netbus.poll(NULL);
SELECT * FROM netbus.poll('docs', NULL);
SELECT * FROM netbus.poll('docs', max_events => NULL);
SELECT * FROM netbus.poll('docs', max_events => -1);
SELECT * FROM netbus.poll('docs', ordering => 'time');
SELECT * FROM netbus.poll('docs', ordering => NULL);
SELECT * FROM netbus.poll('docs', shards => '{2}');
SELECT * FROM netbus.poll('docs', shards => '{-1}');
SELECT * FROM netbus.poll('docs', shards => '{0, NULL}');
SELECT * FROM netbus.poll('docs', wait => NULL);
SELECT * FROM netbus.poll('docs', wait => '-1 s');
SELECT * FROM netbus.poll('nowhere');
-- It waits no longer than it is told.
SELECT * FROM netbus.poll('docs', wait => '10 ms');
SELECT * FROM netbus.poll('docs', ordering => 'ts', wait => '10 ms');
SELECT shard, has_more FROM netbus.poll('docs', 'latest', wait => '10 ms');
SELECT * FROM netbus.poll('docs', max_events => 0, wait => '1 hour');
-- Pages that are read in turns, one of them larger than what the process keeps.
SELECT netbus.create_log('wide', durability => 'memory', shards => 2, ring_size => '8MB');
SELECT count(netbus.publish('wide', jsonb_build_object('n', i, 't', repeat(md5(i::text), 8)), key => i::text))
    FROM generate_series(1, 6000) i;
DO $$
DECLARE
    a CURSOR (k int) FOR SELECT (e).payload p FROM (SELECT netbus.poll('wide', max_events => k) e) s;
    b CURSOR FOR SELECT (e).payload p FROM (SELECT netbus.poll('wide', max_events => 6000, ordering => 'ts') e) s;
    x jsonb;
    y jsonb;
    good int := 0;
BEGIN
    OPEN b;
    FOR page IN 1..3 LOOP
        OPEN a(page * 400);
        FOR i IN 1..page * 400 LOOP
            FETCH a INTO x;
            FETCH b INTO y;
            good := good + (x->>'t' = repeat(md5(x->>'n'), 8))::int + (y->>'t' = repeat(md5(y->>'n'), 8))::int;
        END LOOP;
        CLOSE a;
        BEGIN
            OPEN a(1000);
            FETCH a INTO x;
            PERFORM 1 / 0;
        EXCEPTION WHEN division_by_zero THEN NULL;
        END;
    END LOOP;
    RAISE NOTICE '% good events', good;
END$$;
SELECT netbus.drop_log('wide');

-- Rights.
CREATE ROLE regress_netbus_poll;
SET ROLE regress_netbus_poll;
SELECT * FROM netbus.poll('docs');
RESET ROLE;
GRANT netbus_reader TO regress_netbus_poll;
SET ROLE regress_netbus_poll;
SELECT * FROM netbus.poll('docs');
RESET ROLE;
DROP ROLE regress_netbus_poll;

SELECT netbus.drop_log('docs'), netbus.drop_log('raw'), netbus.drop_log('short');
DROP FUNCTION pages;
