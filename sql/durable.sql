--
-- Commit and async logs from day to day: what both do, and where they differ
--
SELECT netbus.create_log('c', ring_size => '64kB');
SELECT netbus.create_log('a', durability => 'async', ring_size => '64kB');
CREATE VIEW both_logs(log) AS VALUES ('c'), ('a');
CREATE VIEW counters AS
	SELECT log, offered, accepted, rejected, evicted, expired, aborted, retained, next_seq, stable_seq,
		offered = accepted + rejected + sampled_out AND accepted = retained + expired + evicted + aborted AS identities
	FROM netbus.stat_log WHERE log IN ('c', 'a') ORDER BY log;
-- What of it can be read: how many, of which seqs, in order, each once.
CREATE FUNCTION readable(log text, after_seq bigint DEFAULT 0, OUT events bigint, OUT first bigint, OUT last bigint, OUT ascending boolean)
LANGUAGE sql AS $$
	SELECT count(*), min(seq), max(seq), bool_and(seq > before)
	FROM (SELECT (r).seq, coalesce(lag((r).seq) OVER (), 0) AS before FROM (SELECT netbus.read(log, after_seq, max_events => 1000000) AS r OFFSET 0) s) t
$$;

-- More than a ring takes, in many transactions: read where ring and table meet.
DO $$
BEGIN
	FOR i IN 1 .. 300 LOOP
		PERFORM netbus.publish(log, jsonb_build_array(i, repeat('x', 1000)), CASE WHEN i % 3 = 0 THEN 'third' END) FROM both_logs;
		COMMIT;
	END LOOP;
END $$;
SELECT log, r.* FROM both_logs, readable(log) r;
SELECT log, ring_used <= ring_size AND ring_size = 65536 AS ring, retained_bytes > 300000 AS bytes FROM netbus.stat_log WHERE log IN ('c', 'a') ORDER BY log;
SELECT log, count(*), bool_and((payload ->> 0)::int = seq) AS right_one, bool_and(length(payload ->> 1) = 1000) AS whole,
	count(key) AS keys, bool_and(key = 'third') AS key, bool_and((key IS NULL) = (seq % 3 > 0)) AS right_key
FROM both_logs, netbus.read(log) GROUP BY log ORDER BY log;
TABLE counters;
-- From anywhere, as many as one wants.
SELECT log, after_seq, count(r.seq), min(r.seq), max(r.seq)
FROM both_logs, generate_series(0, 300, 60) after_seq LEFT JOIN LATERAL netbus.read(log, after_seq, max_events => 50) r ON true
GROUP BY 1, 2 ORDER BY 1, 2;
SELECT log, count(*) AS wrong FROM both_logs, generate_series(0, 301) after_seq,
	LATERAL (SELECT count(*) AS n, min(seq) AS seq FROM netbus.read(log, after_seq, max_events => 2)) r
WHERE n <> least(2, greatest(0, 300 - after_seq)) OR seq <> after_seq + 1 GROUP BY log;
SELECT log, r.* FROM both_logs, readable(log, 299) r;
SELECT log, count(*), min(seq), max(seq) FROM both_logs, netbus.tail(log, 290, wait => '0') GROUP BY log ORDER BY log;
SELECT log, count(*), min(seq), max(seq) FROM both_logs, netbus.read(log, 100, key => 'third', max_events => 20) GROUP BY log ORDER BY log;
-- One of them.
SELECT log, count(*), bool_and(g.seq = s AND (payload ->> 0)::int = s) AS right_one FROM both_logs, generate_series(1, 300) s, netbus.get(log, s) g GROUP BY log ORDER BY log;
SELECT count(*) FROM both_logs, unnest(ARRAY[-1, 0, 301, 1000000, 9223372036854775807]) s, netbus.get(log, s);
SELECT log, netbus.head(log) FROM both_logs;

-- Shards and keys.
SELECT netbus.create_log('cs', shards => 4, ring_size => '64kB'), netbus.create_log('as', shards => 4, ring_size => '64kB', durability => 'async');
SELECT count(netbus.publish(log || 's', jsonb_build_array(i, repeat('x', 500)), 'key ' || i % 40)) FROM both_logs, generate_series(1, 2000) i;
SELECT log, count(*), count(DISTINCT payload ->> 0) AS events, count(DISTINCT shard) AS shards FROM both_logs, generate_series(0, 3) s,
	netbus.read(log || 's', shard => s, max_events => 2000) GROUP BY log ORDER BY log;
SELECT log, count(*) AS keys, bool_and(shards = 1) AS one_shard, bool_and(events = 50) AS events, bool_and(ordered) AS ordered FROM (
	SELECT log, k, count(DISTINCT shard) AS shards, count(*) AS events,
		array_agg((payload ->> 0)::int ORDER BY seq) = array_agg((payload ->> 0)::int ORDER BY (payload ->> 0)::int) AS ordered
	FROM both_logs, generate_series(0, 39) k, netbus.read(log || 's', key => 'key ' || k, max_events => 2000) GROUP BY log, k) s GROUP BY log ORDER BY log;
-- Keyless events of a transaction stay together.
BEGIN;
SELECT count(netbus.publish(log || 's', '"together"')) FROM both_logs, generate_series(1, 20) i;
COMMIT;
SELECT log, count(*), count(DISTINCT shard) AS shards, max(seq) - min(seq) + 1 AS seqs FROM both_logs, generate_series(0, 3) s,
	netbus.read(log || 's', shard => s, max_events => 3000) WHERE payload = '"together"' GROUP BY log ORDER BY log;
SELECT * FROM netbus.read('cs');
SELECT count(*) FROM netbus.get('as', 1, shard => 4);
SELECT log, count(*), sum(accepted) AS accepted, sum(retained) AS retained, bool_and(offered = accepted + rejected + sampled_out
	AND accepted = retained + expired + evicted + aborted) AS identities
FROM netbus.stat_log WHERE log IN ('as', 'cs') GROUP BY log ORDER BY log;
SELECT netbus.drop_log('cs'), netbus.drop_log('as');

-- A transaction that is larger than the ring, alone and with savepoints.
BEGIN;
SELECT count(netbus.publish(log, jsonb_build_array(300 + i, repeat('y', 300)))) FROM both_logs, generate_series(1, 1000) i;
SELECT log, r.* FROM both_logs, readable(log, 300) r;
COMMIT;
SELECT log, r.* FROM both_logs, readable(log, 300) r;
SELECT log, count(*), bool_and((payload ->> 0)::int = seq) AS right_one FROM both_logs, netbus.read(log, max_events => 2000) GROUP BY log ORDER BY log;
BEGIN;
SELECT count(netbus.publish(log, jsonb_build_array('never', repeat('n', 300)))) FROM both_logs, generate_series(1, 1000) i;
ROLLBACK;
BEGIN;
SELECT count(netbus.publish(log, jsonb_build_array(1300 + i, repeat('z', 300)))) FROM both_logs, generate_series(1, 500) i;
SAVEPOINT s;
SELECT count(netbus.publish(log, jsonb_build_array('never', repeat('n', 300)))) FROM both_logs, generate_series(1, 1000) i;
ROLLBACK TO s;
SELECT count(netbus.publish(log, jsonb_build_array(1800 + i, repeat('z', 300)))) FROM both_logs, generate_series(1, 500) i;
COMMIT;
SELECT log, r.* FROM both_logs, readable(log, 1300) r;
SELECT log, count(*), bool_and((payload ->> 0)::int = seq) AS right_one FROM both_logs, netbus.read(log, max_events => 3000) GROUP BY log ORDER BY log;
TABLE counters;

-- Nothing before the commit, nothing after a rollback; savepoints.
BEGIN;
SELECT log, netbus.publish(log, '"now"') FROM both_logs;
SELECT log, r.* FROM both_logs, readable(log, 2300) r;
TABLE counters;
ROLLBACK;
TABLE counters;
BEGIN;
SELECT log, netbus.publish(log, '"never"') FROM both_logs;
SELECT 1 / 0;
COMMIT;
BEGIN;
SELECT log, netbus.publish(log, '"first"') FROM both_logs;
SAVEPOINT a;
SELECT log, netbus.publish(log, '"never"') FROM both_logs;
SAVEPOINT b;
SELECT log, netbus.publish(log, '"never"') FROM both_logs;
RELEASE b;
ROLLBACK TO a;
SELECT log, netbus.publish(log, '"second"') FROM both_logs;
COMMIT;
SELECT log, seq, payload FROM both_logs, netbus.read(log, 2300);
-- An error at the very end.
CREATE TABLE late (id int PRIMARY KEY, ref int REFERENCES late DEFERRABLE INITIALLY DEFERRED);
BEGIN;
SELECT log, netbus.publish(log, '"never"') FROM both_logs;
INSERT INTO late VALUES (1, 2);
COMMIT;
DROP TABLE late;
TABLE counters;

-- Who would not wait for the commit.
SELECT netbus.publish('c', '1', transactional => false);
SELECT netbus.publish('c', '1', 'key', false);
SELECT netbus.publish_batch('c', '[1, 2]', transactional => false);
SELECT netbus.publish_batch('c', ARRAY['1', '2'], transactional => false);
SELECT netbus.publish_lines('c', E'1\n2', transactional => false);
BEGIN;
SELECT netbus.publish('a', '3', transactional => false), netbus.publish_batch('a', '[4, 5]', transactional => false), netbus.publish_lines('a', E'6\n7\n', transactional => false);
SELECT netbus.publish('a', '"never"');
SELECT string_agg(payload::text, ' ' ORDER BY seq) FROM netbus.read('a', 2302);
ROLLBACK;
SELECT log, string_agg(payload::text, ' ' ORDER BY seq) FROM both_logs LEFT JOIN LATERAL netbus.read(log, 2302) ON true GROUP BY log ORDER BY log;
TABLE counters;

-- flush: is it stored?
SELECT netbus.create_log('m', durability => 'memory'), netbus.create_log('slow', durability => 'async', flush_interval => '60 s');
SELECT log, netbus.publish(log, '1') FROM (VALUES ('m'), ('slow')) v(log);
SELECT coalesce(sum(events), 0) AS stored FROM netbus.log_slow;
SELECT log, netbus.flush(log) FROM (VALUES ('c'), ('a'), ('m'), ('slow')) v(log);
SELECT sum(events) AS stored FROM netbus.log_slow;
SELECT log, persisted_seq = stable_seq AS stored FROM netbus.stat_log WHERE log IN ('a', 'c', 'm', 'slow') ORDER BY log;
SELECT sum(events) AS stored, sum(events) = (SELECT retained FROM netbus.stat_log WHERE log = 'a') AS all_of_it FROM netbus.log_a;
-- Not what is not committed.
BEGIN;
SELECT netbus.publish('slow', '2'), netbus.publish('c', '"never"');
SELECT netbus.flush('slow'), netbus.flush('c');
ROLLBACK;
BEGIN;
SET LOCAL synchronous_commit = off;
SELECT netbus.publish('c', '"soon"');
COMMIT;
SELECT netbus.flush('c');
SELECT netbus.flush('nothing');
SELECT netbus.flush(NULL);
SELECT netbus.drop_log('slow'), netbus.drop_log('m');

-- An event that no page takes.
SELECT string_agg(md5(i::text), '') AS large FROM generate_series(1, 98304) i \gset
SELECT log, netbus.publish(log, to_jsonb(:'large'::text), 'large') FROM both_logs;
SELECT log, netbus.publish(log, '"behind"') FROM both_logs;
SELECT log, length(payload #>> '{}'), payload = to_jsonb(:'large'::text) AS same FROM both_logs, netbus.read(log, 2302, key => 'large');
SELECT log, count(*), bool_and(payload = to_jsonb(:'large'::text)) AS same FROM both_logs, netbus.get(log, netbus.head(log) - 1) GROUP BY log ORDER BY log;
SELECT log, payload FROM both_logs, netbus.read(log, netbus.head(log) - 1);
SELECT netbus.flush('a');
SELECT log, pg_relation_size(t.oid) > 3000000 AS toasted FROM both_logs JOIN pg_class c ON c.oid = ('netbus.log_' || log)::regclass
	JOIN pg_class t ON t.oid = c.reltoastrelid;
BEGIN;
SELECT netbus.publish('c', to_jsonb(:'large'::text));
ROLLBACK;
TABLE counters;
-- Bytes are counted as they are.
SELECT netbus.create_log('b', format => 'bytea', ring_size => '64kB'), netbus.create_log('ab', format => 'bytea', durability => 'async');
SELECT count(netbus.publish(log, decode(repeat('5a', i), 'hex'))) FROM (VALUES ('b'), ('ab')) v(log), generate_series(0, 500) i;
SELECT log, retained, retained_bytes FROM netbus.stat_log WHERE log IN ('b', 'ab') ORDER BY log;
SELECT log, count(*), sum(length(payload)), bool_and(length(payload) = seq - 1) AS right_one FROM (VALUES ('b'), ('ab')) v(log), netbus.read_raw(log) GROUP BY log ORDER BY log;
SELECT netbus.drop_log('b'), netbus.drop_log('ab');

-- Reads are not snapshot reads.
\setenv PGDATABASE :DBNAME
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT log, netbus.head(log) AS head FROM both_logs;
SELECT netbus.head('c') AS c, netbus.head('a') AS a \gset
\! psql -X -q -At -c "SELECT netbus.publish(log, '7') FROM both_logs"
SELECT payload FROM netbus.read('c', :c) UNION ALL SELECT payload FROM netbus.read('a', :a);
SELECT log, netbus.head(log) - CASE log WHEN 'c' THEN :c ELSE :a END AS head FROM both_logs;
SELECT payload FROM netbus.get('c', :c + 1);
COMMIT;
-- Also of what has left the ring meanwhile.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT netbus.head('c') AS c, netbus.head('a') AS a \gset
\! psql -X -q -At -c "SELECT count(netbus.publish(log, to_jsonb(repeat('x', 1000)))) FROM both_logs, generate_series(1, 200)"
SELECT log, count(*) FROM both_logs, netbus.read(log, CASE log WHEN 'c' THEN :c ELSE :a END) GROUP BY log ORDER BY log;
COMMIT;

-- Nobody else writes to their tables.
INSERT INTO netbus.log_a VALUES (1, 0, 1, '');
INSERT INTO netbus.log_a SELECT * FROM netbus.log_a LIMIT 1 ON CONFLICT DO NOTHING;
UPDATE netbus.log_a SET shard = 0 WHERE false;
DELETE FROM netbus.log_a;
MERGE INTO netbus.log_a USING both_logs ON false WHEN MATCHED THEN DELETE;
TRUNCATE netbus.log_a, netbus.log_c;
COPY netbus.log_a FROM stdin;
\.
WITH gone AS (DELETE FROM netbus.log_c RETURNING *) SELECT count(*) FROM gone;
TABLE counters;

-- What a log's table must not have: refused by all who use it, until it is as it was.
BEGIN;
ALTER TABLE netbus.log_a ADD CHECK (events > 0);
SAVEPOINT s;
SELECT netbus.publish('a', '"never"');
ROLLBACK TO s;
SELECT netbus.read('a');
ROLLBACK TO s;
SELECT netbus.head('a');
ROLLBACK TO s;
SELECT netbus.flush('a');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.log_a ADD CHECK (events > 0);
SELECT netbus.purge('a');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.log_a ADD COLUMN more int;
ROLLBACK;
BEGIN;
ALTER TABLE netbus.log_a DISABLE TRIGGER netbus_guard;
SELECT netbus.publish('a', '"never"');
ROLLBACK;
BEGIN;
CREATE INDEX ON netbus.log_a (events) WHERE shard > 0;
SELECT netbus.publish('a', '"never"');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.log_a ENABLE ROW LEVEL SECURITY;
SELECT netbus.read('a');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.log_a DROP CONSTRAINT pkey_a;
SELECT netbus.get('a', 1);
ROLLBACK;
SELECT log, netbus.publish(log, '"fit"') FROM both_logs;
SELECT log, payload FROM both_logs, netbus.read(log, netbus.head(log) - 1);

-- Events that are refused are counted, too.
SELECT netbus.create_log('d', durability => 'async', ring_size => '64kB', backpressure => 'drop_newest'),
	netbus.create_log('s', durability => 'async', ring_size => '64kB', backpressure => 'sample', sample_rate => 0.1),
	netbus.create_log('o', durability => 'async', ring_size => '64kB', backpressure => 'drop_oldest');
SELECT log, count(*) FILTER (WHERE netbus.publish(log, to_jsonb(repeat('x', 400)), transactional => false)) AS accepted INTO TEMP accepted
FROM (VALUES ('d'), ('s'), ('o')) v(log), generate_series(1, 3000) GROUP BY log;
SELECT log, netbus.flush(log) FROM (VALUES ('d'), ('s'), ('o')) v(log);
SELECT log, offered, s.accepted = a.accepted AS accepted, retained = events AS retained,
	offered = s.accepted + rejected + sampled_out AND s.accepted = retained + expired + evicted + aborted AS identities
FROM netbus.stat_log s JOIN accepted a USING (log), LATERAL readable(log) ORDER BY log;
SELECT netbus.drop_log(log) FROM (VALUES ('d'), ('s'), ('o')) v(log);

-- All of it, once more.
TABLE counters;
SELECT log, r.events = s.retained AS retained, ascending FROM both_logs JOIN netbus.stat_log s USING (log), readable(log) r ORDER BY log;
DROP VIEW counters, both_logs CASCADE;
DROP FUNCTION readable;
SELECT netbus.drop_log('c'), netbus.drop_log('a');

-- An owner can write to his table behind the guard; what is no jsonb crashes nobody.
SELECT netbus.create_log('forged');
BEGIN;
ALTER TABLE netbus.log_forged DISABLE TRIGGER netbus_guard;
INSERT INTO netbus.log_forged VALUES (1000,0,1,'\x60000020010102000100000018000000e803000000000000e70300000000000001000000000000000000000000000000000000000000000001b7c932a62e840518000000ffffff20050000000000001000000000000000000000000000000000');
ALTER TABLE netbus.log_forged ENABLE TRIGGER netbus_guard;
COMMIT;
SELECT seq, payload FROM netbus.read('forged', 999);
SELECT seq, payload FROM netbus.get_raw('forged', 1000);
SET netbus.damaged_frames = 'skip';
SELECT netbus.publish('forged', '{"next": 1}');
SELECT payload FROM netbus.read('forged');
SELECT damaged FROM netbus.stat_log WHERE log = 'forged';
RESET netbus.damaged_frames;
SELECT netbus.drop_log('forged');
