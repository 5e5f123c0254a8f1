--
-- Reading
--
SELECT netbus.create_log('docs');
SELECT netbus.head('docs');
SELECT * FROM netbus.read('docs');
SELECT * FROM netbus.get('docs', 1);
SELECT netbus.publish_batch('docs', '[{"n": 1}, 2, "three", null, [5]]', ARRAY['a', NULL, '', 'a', 'b']);
SELECT netbus.publish('docs', '6');
SELECT netbus.publish('docs', '7', 'a');

SELECT shard, seq, key, payload FROM netbus.read('docs');
SELECT ts BETWEEN now() - interval '1 minute' AND clock_timestamp() AS recent,
	ts >= lag(ts) OVER (ORDER BY seq) AS ordered FROM netbus.read('docs');
SELECT seq FROM netbus.read('docs', 5);
SELECT seq FROM netbus.read('docs', after_seq => 7);
SELECT seq FROM netbus.read('docs', 1000);
SELECT seq FROM netbus.read('docs', 9223372036854775807);
SELECT seq FROM netbus.read('docs', 2, max_events => 3);
SELECT seq FROM netbus.read('docs', max_events => 0);
SELECT seq FROM netbus.read('docs', shard => 0, max_events => 1);
-- By key: those without a key are not those with the empty key.
SELECT seq, key, payload FROM netbus.read('docs', key => 'a');
SELECT seq, key, payload FROM netbus.read('docs', 1, key => 'a', max_events => 1);
SELECT seq, key, payload FROM netbus.read('docs', key => '');
SELECT seq, key, payload FROM netbus.read('docs', key => 'c');
SELECT seq, key, payload FROM netbus.read('docs', shard => 0, key => 'b');
SELECT count(*) FROM netbus.read('docs', key => NULL);
-- Payload as bytes: of a jsonb, its text.
SELECT seq, key, convert_from(payload, 'UTF8') FROM netbus.read_raw('docs', 0, max_events => 5);

SELECT netbus.head('docs'), netbus.head('docs', 0), netbus.head('docs', shard => NULL);
SELECT shard, seq, key, payload FROM netbus.get('docs', 1);
SELECT shard, seq, key, payload FROM netbus.get('docs', 7, shard => 0);
SELECT shard, seq, key, payload FROM netbus.get_raw('docs', 3);
SELECT * FROM netbus.get('docs', 0);
SELECT * FROM netbus.get('docs', -1);
SELECT * FROM netbus.get('docs', 8);
SELECT * FROM netbus.get('docs', 9223372036854775807);
SELECT seq, key, payload FROM netbus.tail('docs', 5, wait => '0');
SELECT seq, key, convert_from(payload, 'UTF8') FROM netbus.tail_raw('docs', 5, max_events => 1, wait => '0');
SELECT seq FROM netbus.tail('docs', 7, wait => '0');
SELECT seq FROM netbus.tail('docs', 7, wait => '10 ms');
SELECT seq FROM netbus.tail('docs', 0, key => 'b', wait => '0');
SELECT seq FROM netbus.tail('docs', 0, key => 'c', wait => '10 ms');
SELECT seq FROM netbus.tail('docs', 7, max_events => 0, wait => '1 hour');
SELECT seq FROM netbus.tail('docs', netbus.head('docs') - 1);

-- Wrong arguments.
SELECT * FROM netbus.read(NULL);
SELECT * FROM netbus.read('docs', NULL);
SELECT * FROM netbus.read('docs', -1);
SELECT * FROM netbus.read('docs', max_events => NULL);
SELECT * FROM netbus.read('docs', max_events => -1);
SELECT * FROM netbus.read('docs', shard => 1);
SELECT * FROM netbus.read('docs', shard => -1);
SELECT * FROM netbus.read('nowhere');
SELECT * FROM netbus.tail('docs', NULL);
SELECT * FROM netbus.tail('docs', 0, wait => NULL);
SELECT * FROM netbus.tail('docs', 0, wait => '-1 s');
SELECT * FROM netbus.get('docs', NULL);
SELECT netbus.head(NULL);
SELECT netbus.head('nowhere');
SELECT netbus.head('docs', 3);

-- As a set in the target list rows come one by one.
SELECT (r).shard, (r).seq, (r).key, (r).payload FROM (SELECT netbus.read('docs', 5) AS r OFFSET 0) s;
SELECT netbus.read_raw('docs', 6) IS NOT NULL;
SELECT (netbus.read('docs')).seq LIMIT 2;
SELECT (netbus.read('docs', 4)).seq AS a, (netbus.read('docs', 5)).seq AS b;
SELECT seq FROM netbus.read('docs') LIMIT 2;
BEGIN;
DECLARE c CURSOR FOR SELECT (netbus.read('docs')).seq;
FETCH 2 FROM c;
DECLARE d CURSOR FOR SELECT seq FROM netbus.read('docs');
FETCH 1 FROM d;
FETCH 2 FROM c;
FETCH 1 FROM d;
CLOSE d;
FETCH ALL FROM c;
COMMIT;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT seq FROM netbus.read('docs', 4);
FETCH ALL FROM c;
FETCH BACKWARD 2 FROM c;
ROLLBACK;
-- Within a savepoint that fails.
BEGIN;
SAVEPOINT s;
SELECT 1 / (seq - 3) FROM netbus.read('docs');
ROLLBACK TO s;
SELECT 1 / (6 - (netbus.read('docs')).seq);
ROLLBACK TO s;
SELECT count(*) FROM netbus.read('docs');
COMMIT;
SELECT seq, payload FROM netbus.read('docs', (SELECT netbus.head('docs') - 2));

-- Several shards.
SELECT netbus.create_log('wide', shards => 4);
SELECT count(netbus.publish('wide', to_jsonb(i), 'key ' || i % 10)) FROM generate_series(1, 100) i;
SELECT * FROM netbus.read('wide');
SELECT * FROM netbus.read_raw('wide');
SELECT * FROM netbus.tail('wide', 0, wait => '0');
SELECT * FROM netbus.get('wide', 1);
SELECT netbus.head('wide');
SELECT * FROM netbus.read('wide', shard => 4);
SELECT payload FROM netbus.read('wide', key => 'key 3');
SELECT count(*) FROM netbus.read('wide', key => 'key 3', shard => (SELECT (shard + 1) % 4 FROM netbus.read('wide', key => 'key 3') LIMIT 1));
SELECT count(*), sum(payload::int), sum(netbus.head('wide', s)) / count(*) > 0 AS heads
FROM generate_series(0, 3) s, LATERAL netbus.read('wide', shard => s);
SELECT sum(netbus.head('wide', s)) FROM generate_series(0, 3) s;
SELECT count(DISTINCT shard) AS shards_of_a_key FROM generate_series(0, 3) s, netbus.read('wide', shard => s) GROUP BY key ORDER BY key;
SELECT count(*) FROM netbus.read('wide', key => 'nobody');
SELECT count(*) FROM generate_series(0, 3) s, netbus.tail('wide', 0, s, wait => '0');
SELECT netbus.drop_log('wide');

-- A log of bytes, read as jsonb where it holds JSON.
SELECT netbus.create_log('raw', format => 'bytea');
SELECT netbus.publish_batch('raw', ARRAY['{"n": 1}', ' [2] ', '', '{"n": ', '\xff', '\x310032']::bytea[]);
SELECT seq, payload FROM netbus.read_raw('raw');
SELECT seq, payload, length(payload) FROM netbus.get_raw('raw', 3);
SELECT seq, payload FROM netbus.read('raw', max_events => 2);
SELECT seq, payload FROM netbus.get('raw', 3);
SELECT seq, payload FROM netbus.get('raw', 4);
SELECT seq, payload FROM netbus.get('raw', 5);
SELECT seq, payload FROM netbus.tail('raw', 5);
SELECT seq, payload FROM netbus.read('raw');

-- Large events among small ones.
SELECT count(netbus.publish('raw', convert_to(repeat(chr(96 + i), n), 'UTF8'), CASE WHEN i % 2 = 0 THEN 'even' END))
FROM (VALUES (1, 10), (2, 200000), (3, 10), (4, 300000), (5, 0), (6, 9000), (7, 200000)) s(i, n);
SELECT seq, key, length(payload), left(encode(payload, 'escape'), 3) AS starts FROM netbus.read_raw('raw', 6);
SELECT seq, length(payload) FROM netbus.read_raw('raw', 6, key => 'even');

-- Events that are not retained any more.
SELECT netbus.create_log('short', durability => 'memory', format => 'bytea', ring_size => '64kB');
SELECT count(netbus.publish('short', convert_to(repeat('x', 1000), 'UTF8'), transactional => false)) FROM generate_series(1, 300);
SELECT min(seq) = (SELECT floor_seq FROM netbus.stat_log WHERE log = 'short') AS from_the_floor, max(seq), max(seq) - min(seq) + 1 = count(*) AS contiguous
FROM netbus.read_raw('short');
SELECT max(seq) FROM netbus.read_raw('short', 300);
SELECT seq FROM netbus.read_raw('short', 299);
SELECT max(seq) FROM netbus.read_raw('short', (SELECT floor_seq - 1 FROM netbus.stat_log WHERE log = 'short'));
SELECT max(seq) FROM netbus.read_raw('short', (SELECT floor_seq - 11 FROM netbus.stat_log WHERE log = 'short'));
SELECT max(seq) FROM netbus.tail_raw('short', (SELECT floor_seq - 11 FROM netbus.stat_log WHERE log = 'short'));
SELECT seq FROM netbus.get_raw('short', 1);
SELECT seq FROM netbus.get_raw('short', 300);
-- Every seq that is retained is found, every other is not.
SELECT count(*) = max(floor_seq - 1) AS gone FROM netbus.stat_log s, generate_series(1, 300) i
WHERE s.log = 'short' AND NOT EXISTS (SELECT FROM netbus.get_raw('short', i));
-- More than one transaction's worth: what never came to the ring is lost, too.
SELECT netbus.head('short') AS head \gset
SELECT count(netbus.publish('short', convert_to(repeat('y', 1000), 'UTF8'))) FROM generate_series(1, 100);
SELECT max(seq) - :head AS last FROM netbus.read_raw('short', 290);
-- A reader that falls behind while it reads.
BEGIN;
DECLARE c CURSOR FOR SELECT (r).seq - :head AS seq FROM (SELECT netbus.read_raw('short', :head + 90) AS r OFFSET 0) s;
FETCH 1 FROM c;
SELECT count(netbus.publish('short', convert_to(repeat('z', 1000), 'UTF8'), transactional => false)) FROM generate_series(1, 100);
MOVE ALL FROM c;
COMMIT;
SELECT netbus.drop_log('short');

SELECT netbus.drop_log('raw');
SELECT netbus.drop_log('docs');
