--
-- Publishing one event
--
SELECT netbus.create_log('docs', durability => 'memory');
SELECT netbus.create_log('raw', durability => 'memory', format => 'bytea');

-- Every overload.
SELECT netbus.publish('docs', '{"n": 1}'::jsonb);
SELECT netbus.publish('docs', '{"n": 2}'::json);
SELECT netbus.publish('docs', '{"n": 3}'::text);
SELECT netbus.publish('docs', '{"n": 4}');
SELECT netbus.publish('docs', row_to_json(t)) FROM (SELECT 5 AS n) t;
SELECT netbus.publish('docs', jsonb_build_object('n', 6), 'a key');
SELECT netbus.publish('docs', '7', key => 'a key');
SELECT netbus.publish('docs', '"8"', transactional => false);
SELECT netbus.publish(log => 'docs', payload => 'null', key => 'k', transactional => true);
SELECT netbus.publish('docs', '[1, [2]]');
SELECT netbus.publish('raw', '\x00ff'::bytea);
SELECT netbus.publish('raw', ''::bytea, '');
SELECT netbus.publish('raw', 'abc'::bytea, 'k', false);
SELECT shard, seq, key, payload FROM netbus.read('docs');
SELECT shard, seq, key, payload FROM netbus.read_raw('raw');
-- As a driver does with parameters of unknown type.
PREPARE p AS SELECT netbus.publish($1, $2, $3);
EXECUTE p('docs', '{"n": 11}', NULL);
DEALLOCATE p;
-- In other places of a query.
SELECT * FROM netbus.publish('docs', '12');
SELECT count(netbus.publish('docs', to_jsonb(i))) FROM generate_series(13, 15) i;
DO $$ BEGIN PERFORM netbus.publish('docs', '16'); END $$;
SELECT seq, payload FROM netbus.read('docs', 10);
-- Two logs by turns.
SELECT count(netbus.publish(log, '"turn"'::text)) FROM (VALUES ('docs'), ('docs2'), ('docs')) v(log);
SELECT netbus.create_log('docs2');
SELECT netbus.publish(log, payload) FROM (VALUES ('docs', '17'), ('docs2', '1'), ('docs', '18'), ('docs2', '2')) v(log, payload);
SELECT seq, payload FROM netbus.read('docs', 16);
SELECT seq, payload FROM netbus.read('docs2');
SELECT netbus.drop_log('docs2');

-- NULL
SELECT netbus.publish(NULL, '1');
SELECT netbus.publish('docs', NULL);
SELECT netbus.publish('docs', NULL::jsonb);
SELECT netbus.publish('raw', NULL::bytea);
SELECT netbus.publish('docs', '1', transactional => NULL);
SELECT netbus.publish('docs', '19', key => NULL);

-- Unknown logs.
SELECT netbus.publish('nowhere', '1');
SELECT netbus.publish('No Such Log', '1');
SELECT netbus.publish('', '1');

-- A log takes payloads of its format.
SELECT netbus.publish('raw', 'text');
SELECT netbus.publish('raw', 'text'::text);
SELECT netbus.publish('raw', '{}'::json);
SELECT netbus.publish('raw', '{}'::jsonb);
SELECT netbus.publish('raw', row_to_json(t)) FROM (SELECT 1 AS a) t;
SELECT netbus.publish('docs', '{}'::bytea);
-- As the hints say.
SELECT netbus.publish('raw', 'text'::text::bytea);
SELECT netbus.publish('raw', convert_to('text', 'UTF8'));
SELECT netbus.publish('raw', convert_to('{}'::jsonb::text, 'UTF8'));
SELECT netbus.publish('docs', convert_from('{}'::bytea, 'UTF8')::jsonb);

-- Text that is not JSON.
SELECT netbus.publish('docs', '{"a": 1');
SELECT netbus.publish('docs', 'hello');
SELECT netbus.publish('docs', '');
SELECT netbus.publish('docs', '{"a": "\u0000"}');
SELECT netbus.publish('docs', E'{"a": 1,\n"b": oops}');

-- Keys.
SELECT netbus.publish('docs', '20', repeat('k', 1024));
SELECT netbus.publish('docs', '21', repeat('k', 1025));
SELECT netbus.publish('docs', '21', repeat('k', 1025), transactional => false);
SELECT netbus.publish('docs', '21', 'schlüssel');
SELECT netbus.publish('docs', '22', '');
SELECT seq, length(key) AS length, left(key, 10) AS key, payload FROM netbus.read('docs', 18);

-- Large events.
SELECT netbus.publish('raw', convert_to(repeat('x', 16 * 1024 * 1024 + 1), 'UTF8'));
SELECT netbus.publish('raw', convert_to(repeat('x', 16 * 1024 * 1024), 'UTF8'));
SELECT netbus.publish('raw', convert_to(repeat('x', 524288 - 64 - 4), 'UTF8'));
SELECT netbus.publish('raw', convert_to(repeat('x', 524288 - 64 - 3), 'UTF8'));
SELECT netbus.publish('docs', to_jsonb(repeat('x', 600000)));
SELECT netbus.publish('raw', convert_to(repeat('y', 500000), 'UTF8'), transactional => false);
SELECT seq, length(payload) FROM netbus.read_raw('raw', 6);
SET netbus.max_event_size = '1kB';
SELECT netbus.publish('raw', convert_to(repeat('x', 1025), 'UTF8'));
SELECT netbus.publish('raw', convert_to(repeat('x', 1024), 'UTF8'));
RESET netbus.max_event_size;
SELECT netbus.create_log('huge', durability => 'memory', format => 'bytea', ring_size => '256MB');
SELECT netbus.publish('huge', convert_to(repeat('x', 16 * 1024 * 1024), 'UTF8'));
SELECT netbus.publish('huge', convert_to(repeat('x', 16 * 1024 * 1024 + 1), 'UTF8'));
SELECT netbus.publish('huge', convert_to(repeat('x', 16 * 1024 * 1024 + 1), 'UTF8'), transactional => false);
SELECT seq, length(payload), md5(payload) = md5(repeat('x', 16 * 1024 * 1024)) AS same FROM netbus.read_raw('huge');
SELECT netbus.drop_log('huge');

-- A transaction larger than the ring: policy fail refuses what can never fit.
SELECT netbus.create_log('small', durability => 'memory', format => 'bytea', ring_size => '64kB', backpressure => 'fail');
BEGIN;
SELECT count(netbus.publish('small', convert_to(repeat('x', 1000), 'UTF8'))) FROM generate_series(1, 15);
SAVEPOINT s;
SELECT count(netbus.publish('small', convert_to(repeat('y', 1000), 'UTF8'))) FROM generate_series(1, 5);
ROLLBACK TO s;
SELECT netbus.publish('small', 'last'::bytea);
COMMIT;
SELECT count(*), min(seq), max(seq), sum(length(payload)) FROM netbus.read_raw('small');
SELECT offered, accepted, rejected, evicted, aborted, retained FROM netbus.stat_log WHERE log = 'small';
-- Many small transactions go round the ring.
DO $$ BEGIN
	FOR i IN 1 .. 200 LOOP
		PERFORM netbus.publish('small', convert_to(repeat('z', 1000), 'UTF8'));
		COMMIT;
	END LOOP;
END $$;
SELECT offered, accepted, rejected, aborted, accepted = retained + evicted + aborted AS identity, evicted > 0 AS evicted,
	next_seq, stable_seq, floor_seq = next_seq - retained AS floor, ring_used <= ring_size AS fits
FROM netbus.stat_log WHERE log = 'small';
-- Policy drop_oldest keeps the newest quarter of a ring.
SELECT netbus.alter_log('small', 'backpressure', 'drop_oldest');
SELECT count(netbus.publish('small', convert_to(i::text || repeat('x', 1000), 'UTF8'))) FROM generate_series(1, 1000) i;
SELECT offered, accepted, accepted = retained + evicted + aborted AS identity, next_seq, stable_seq FROM netbus.stat_log WHERE log = 'small';
SELECT left(convert_from(payload, 'UTF8'), 5) AS payload FROM netbus.read_raw('small', netbus.head('small') - 1);
SELECT count(*) BETWEEN 10 AND 16 AS newest, max(seq) - min(seq) + 1 = count(*) AS contiguous
FROM netbus.read_raw('small') WHERE payload LIKE '%x'::bytea;
-- Only what can never fit is refused.
SELECT netbus.publish('small', convert_to(repeat('x', 9000), 'UTF8'));
SELECT netbus.drop_log('small');

-- Where publishing is refused.
BEGIN READ ONLY;
SELECT netbus.publish('docs', '1');
ROLLBACK;
BEGIN READ ONLY;
SELECT netbus.publish('docs', '1', transactional => false);
ROLLBACK;
BEGIN;
SELECT netbus.publish('docs', '23');
SET TRANSACTION READ ONLY;
SELECT netbus.publish('docs', '24');
ROLLBACK;
BEGIN;
SELECT netbus.publish('docs', '23');
PREPARE TRANSACTION 'netbus';
BEGIN;
SELECT netbus.publish('docs', '23', transactional => false);
PREPARE TRANSACTION 'netbus';
-- Reading does not hinder it.
BEGIN;
SELECT payload FROM netbus.read('docs', 21);
PREPARE TRANSACTION 'netbus';
ROLLBACK PREPARED 'netbus';
CREATE MATERIALIZED VIEW m AS SELECT netbus.publish('docs', '"from a view"');
CREATE MATERIALIZED VIEW m AS SELECT netbus.publish('docs', '"from a view"') WITH NO DATA;
REFRESH MATERIALIZED VIEW m;
DROP MATERIALIZED VIEW m;
CREATE TABLE t AS SELECT i FROM generate_series(1, 3) i;
CREATE FUNCTION sneak(i int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RETURN netbus.publish('docs', to_jsonb(i), transactional => false);
END $$;
CREATE INDEX ON t (sneak(i));
DROP TABLE t;
DROP FUNCTION sneak;
SELECT seq, payload FROM netbus.read('docs', 21);

SELECT netbus.drop_log('docs');
SELECT netbus.drop_log('raw');
