--
-- Watches of a log: each is told of the events that pass its filter, and of no others
--
CREATE FUNCTION wait_until(condition text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	met bool;
BEGIN
	FOR i IN 1 .. 6000 LOOP
		EXECUTE 'SELECT ' || condition INTO met;
		EXIT WHEN met;
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
SELECT setseed(0.5);
SELECT netbus.create_log('l', shards => 2), netbus.create_log('raw', format => 'bytea');
SET netbus.max_watches_per_role = 2000;
-- Filters of every kind: one value, several keys, several values, numbers written otherwise, no key at all.
CREATE TABLE filter (n serial, filter jsonb);
INSERT INTO filter (filter) VALUES (NULL), ('{"path": "kind", "value": "order"}'), ('{"path": "kind", "value": null}'), ('{"path": "kind", "value": true}'),
	('{"path": "kind", "$in": []}'), ('{"path": "kind", "$in": ["order", 1, null, [1]]}'), ('{"path": "kind", "value": {"a": 1}}'), ('{"path": "kind", "value": []}'),
	('{"path": "kind", "$ne": "order"}'), ('{"$not": {"path": "kind", "value": "order"}}'), ('{"$not": {"$not": {"path": "kind", "value": "order"}}}'),
	('{"path": "user", "value": 0}'), ('{"path": "user", "value": -0.0}'), ('{"path": "user", "value": 7.0}'), ('{"path": "user", "value": 7e0}'), ('{"path": "user", "value": "7"}'),
	('{"path": "user", "value": 1e20}'), ('{"path": "user", "value": -7.25}'), ('{"path": "user", "$gt": 5}'), ('{"path": "user", "$gte": 5, "$lt": 8, "$in": [6, 7]}'),
	('{"path": "", "value": 7}'), ('{"path": "", "value": "order"}'), ('{"path": "", "value": []}'), ('{"path": "0", "value": 7}'), ('{"path": "a.0.b", "value": 7}'), ('{"path": "a.0.b", "$exists": true}'),
	('{"$or": [{"path": "kind", "value": "order"}, {"path": "user", "value": 7}]}'), ('{"$or": [{"path": "kind", "value": "order"}]}'), ('{"$and": []}'), ('{"$or": []}'),
	('{"$and": [{"path": "kind", "value": "order"}, {"path": "user", "value": 7}]}'), ('{"$and": [{"path": "kind", "value": "order"}, {"$or": [{"path": "user", "value": 7}, {"path": "user", "value": 8}]}]}'),
	('{"path": "kind", "$prefix": "ord"}'), ('{"path": "kind", "value": ""}'), ('{"path": "", "$exists": true}');
INSERT INTO filter (filter) SELECT jsonb_build_object('$and', jsonb_build_array('{"path": "kind", "value": "order"}'::jsonb, jsonb_build_object('path', 'user', 'value', i))) FROM generate_series(0, 40) i;
INSERT INTO filter (filter) SELECT jsonb_build_object('path', 'user', '$in', (SELECT jsonb_agg((random() * 20)::int) FROM generate_series(1, 1 + i * 3))) FROM generate_series(1, 40) i;
-- More paths than the index has.
INSERT INTO filter (filter) SELECT jsonb_build_object('path', 'p' || i, 'value', i % 3) FROM generate_series(1, 40) i;
CREATE TABLE watched AS SELECT n, log, filter, netbus.watch_log(log, 'c' || n, filter, debounce => '0') AS watch FROM filter, (VALUES ('l'), ('raw')) v (log);
SELECT count(*) > 250 AS many, count(DISTINCT watch) = count(*) AS each_one FROM watched;
SELECT wait_until($$(SELECT bool_and(state = 'active') FROM netbus.stat_watch)$$);

CREATE FUNCTION document() RETURNS jsonb LANGUAGE sql VOLATILE AS $$
	SELECT CASE WHEN random() < 0.1 THEN (ARRAY['7', '7.00', '0', '"order"', '[]', '[7]', '{}', 'null', '[[7]]'])[1 + floor(random() * 9)::int]::jsonb
	ELSE jsonb_build_object(
		'kind', (ARRAY['"order"', '"orders"', '""', 'null', 'true', '1', '1.0', '[1]', '{"a": 1}', '[]'])[1 + floor(random() * 10)::int]::jsonb,
		'user', (ARRAY['"7"', '-7.25', '7.0', '100000000000000000000', '0.0', floor(random() * 45)::text, floor(random() * 45)::text])[1 + floor(random() * 7)::int]::jsonb,
		'p' || (1 + floor(random() * 40))::int, floor(random() * 3)::int,
		'a', (ARRAY['[{"b": 7}]', '{"0": {"b": 7.0}}', '[7]', '7'])[1 + floor(random() * 4)::int]::jsonb) END
$$;
DO $$
DECLARE
	d jsonb;
BEGIN
	FOR i IN 1 .. 1500 LOOP
		d := document();
		PERFORM netbus.publish('l', d, key => i::text), netbus.publish('raw', convert_to(d::text, 'UTF8'));
		IF i % 100 = 0 THEN
			COMMIT;
		END IF;
	END LOOP;
	PERFORM netbus.publish('raw', 'no JSON'::bytea), netbus.publish('raw', ''::bytea);
END $$;
CREATE VIEW wrong AS SELECT w.n, w.log, w.filter, s.matches, e.matching FROM watched w JOIN netbus.stat_watch s USING (watch), LATERAL (
	SELECT CASE w.log WHEN 'raw' THEN (SELECT count(*) FROM netbus.read_raw('raw', max_events => 100000, filter => w.filter))
		ELSE (SELECT count(*) FROM generate_series(0, 1) shard, netbus.read('l', shard => shard, max_events => 100000, filter => w.filter)) END AS matching) e
	WHERE s.matches <> e.matching;
SELECT wait_until('NOT EXISTS (SELECT FROM wrong)');
SELECT * FROM wrong ORDER BY n, log;
SELECT sum(matches) > 10000 AS many, count(*) FILTER (WHERE matches = 0) > 0 AS some_never, max(matches) AS most FROM netbus.stat_watch JOIN watched USING (watch) WHERE log = 'l';

-- Watches come and go: the others are told as before.
SELECT count(*) FILTER (WHERE netbus.unwatch(watch)) > 50 AS gone FROM watched WHERE n % 3 = 0;
DELETE FROM watched WHERE n % 3 = 0;
SELECT netbus.stats_reset('watch');
SELECT netbus.watch_log('l', 'late', '{"path": "user", "value": 7}', debounce => '0') AS late \gset
SELECT wait_until($$(SELECT bool_and(state = 'active') FROM netbus.stat_watch)$$);
CREATE TABLE head AS SELECT shard, netbus.head('l', shard) AS seq FROM generate_series(0, 1) shard;
SELECT count(netbus.publish('l', document(), key => i::text)) FROM generate_series(1, 300) i;
CREATE OR REPLACE VIEW wrong AS SELECT w.n, w.log, w.filter, s.matches, e.matching FROM watched w JOIN netbus.stat_watch s USING (watch), LATERAL (
	SELECT count(*) AS matching FROM head, netbus.read('l', shard => head.shard, after_seq => seq, max_events => 100000, filter => w.filter)) e
	WHERE w.log = 'l' AND s.matches <> e.matching;
SELECT wait_until('NOT EXISTS (SELECT FROM wrong)');
SELECT * FROM wrong ORDER BY n;
SELECT matches > 0 AS matches, matches = (SELECT matches FROM netbus.stat_watch JOIN watched USING (watch) WHERE log = 'l' AND filter = '{"path": "user", "value": 7.0}') AS as_the_other
	FROM netbus.stat_watch WHERE watch = :late;

SELECT netbus.drop_log('l'), netbus.drop_log('raw');
SELECT count(*) FROM netbus.watches;
DROP VIEW wrong;
DROP TABLE filter, watched, head;
DROP FUNCTION wait_until(text), document();
