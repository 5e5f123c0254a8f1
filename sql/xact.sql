--
-- Publishing and the transaction
--
SELECT netbus.create_log('l', durability => 'memory');
CREATE VIEW counters AS
	SELECT offered, accepted, rejected, evicted, aborted, retained, next_seq, stable_seq,
		offered = accepted + rejected + sampled_out AND accepted = retained + expired + evicted + aborted AS identities
	FROM netbus.stat_log WHERE log = 'l';

-- Nothing is there before the commit, not even for ourselves.
BEGIN;
SELECT netbus.publish('l', '1');
SELECT count(*) FROM netbus.read('l');
TABLE counters;
COMMIT;
SELECT seq, payload FROM netbus.read('l');
TABLE counters;
BEGIN;
SELECT netbus.publish('l', '"never"');
ROLLBACK;
TABLE counters;
-- An error rolls back, too.
BEGIN;
SELECT netbus.publish('l', '"never"');
SELECT 1 / 0;
COMMIT;
SELECT netbus.publish('l', '"never"'), 1 / (i - 3) FROM generate_series(1, 5) i;
TABLE counters;

-- Events that do not wait survive a rollback and come first.
BEGIN;
SELECT netbus.publish('l', '3');
SELECT netbus.publish('l', '2', transactional => false);
SELECT seq, payload FROM netbus.read('l', 1);
TABLE counters;
COMMIT;
BEGIN;
SELECT netbus.publish('l', '4', transactional => false);
SELECT netbus.publish('l', '"never"');
SAVEPOINT s;
SELECT netbus.publish_batch('l', '[5, 6]', transactional => false);
ROLLBACK TO s;
SELECT netbus.publish('l', to_jsonb(repeat('7', 600)), transactional => false);
ROLLBACK;
SELECT seq, left(payload::text, 5) AS payload FROM netbus.read('l', 1);
TABLE counters;

-- Savepoints.
SELECT netbus.head('l') AS head \gset
BEGIN;
SELECT netbus.publish('l', '8');
SAVEPOINT a;
SELECT netbus.publish('l', '"never a"');
SAVEPOINT b;
SELECT netbus.publish('l', '"never b"');
ROLLBACK TO a;
SELECT netbus.publish('l', '9');
SAVEPOINT b;
SELECT netbus.publish('l', '10');
RELEASE b;
SAVEPOINT b;
SELECT netbus.publish('l', '"never b again"');
ROLLBACK TO b;
ROLLBACK TO b;
SELECT netbus.publish('l', '11');
RELEASE b;
SAVEPOINT c;
SAVEPOINT d;
SELECT netbus.publish('l', '"never d"');
RELEASE d;
ROLLBACK TO c;
RELEASE a;
SELECT netbus.publish('l', '12');
COMMIT;
SELECT seq - :head AS seq, payload FROM netbus.read('l', :head);
TABLE counters;
-- All of it rolled back: nothing was ever claimed.
BEGIN;
SAVEPOINT a;
SELECT netbus.publish('l', '"never"');
ROLLBACK TO a;
COMMIT;
TABLE counters;
BEGIN;
SAVEPOINT a;
SELECT netbus.publish('l', '"never"');
RELEASE a;
ROLLBACK;
TABLE counters;
SELECT netbus.head('l') AS head \gset
-- The first event of the transaction within a savepoint that is rolled back.
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
SELECT netbus.publish('l', '"never"');
RELEASE b;
ROLLBACK TO a;
SELECT netbus.publish('l', '13');
ROLLBACK TO a;
SELECT netbus.publish('l', '14');
COMMIT;
SELECT seq - :head AS seq, payload FROM netbus.read('l', :head);
-- Savepoints with events of many sizes, across frames.
SELECT netbus.head('l') AS head \gset
BEGIN;
SELECT count(netbus.publish('l', to_jsonb(repeat('a', 3000)))) FROM generate_series(1, 100);
SAVEPOINT a;
SELECT count(netbus.publish('l', to_jsonb(repeat('b', 3000)))) FROM generate_series(1, 100);
ROLLBACK TO a;
SELECT count(netbus.publish('l', to_jsonb(repeat('c', 30)))) FROM generate_series(1, 10);
SAVEPOINT b;
SELECT count(netbus.publish('l', to_jsonb(repeat('d', 3000)), 'key')) FROM generate_series(1, 50);
RELEASE b;
COMMIT;
SELECT substr(payload #>> '{}', 1, 1) AS payload, key, length(payload #>> '{}') AS length, count(*), max(seq) - min(seq) + 1 AS seqs
FROM netbus.read('l', :head) GROUP BY 1, 2, 3 ORDER BY 1;
TABLE counters;

-- Exception blocks.
SELECT netbus.head('l') AS head \gset
DO $$
BEGIN
	FOR i IN 1 .. 6 LOOP
		BEGIN
			PERFORM netbus.publish('l', to_jsonb(i));
			IF i % 2 = 0 THEN
				RAISE EXCEPTION 'even';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			PERFORM netbus.publish('l', to_jsonb(-i));
		END;
	END LOOP;
	BEGIN
		PERFORM netbus.publish('l', '"never"');
		BEGIN
			PERFORM netbus.publish('l', '"never"');
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
		PERFORM netbus.publish('l', '{not json');
	EXCEPTION WHEN invalid_text_representation THEN
		PERFORM netbus.publish('l', '"caught"');
	END;
END $$;
SELECT seq - :head AS seq, payload FROM netbus.read('l', :head);
TABLE counters;
-- A thousand of them.
SELECT netbus.head('l') AS head \gset
DO $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		BEGIN
			PERFORM netbus.publish('l', to_jsonb(i), 'loop');
			IF i % 10 <> 0 THEN
				RAISE EXCEPTION 'no';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT count(*), sum(payload::int), max(seq) - min(seq) + 1 AS seqs FROM netbus.read('l', :head, key => 'loop');
TABLE counters;

-- A procedure that commits.
SELECT netbus.head('l') AS head \gset
DO $$
BEGIN
	PERFORM netbus.publish('l', '"first"');
	COMMIT;
	PERFORM netbus.publish('l', '"never"');
	ROLLBACK;
	FOR i IN 1 .. 3 LOOP
		PERFORM netbus.publish('l', to_jsonb(i));
		COMMIT;
	END LOOP;
END $$;
SELECT seq - :head AS seq, payload FROM netbus.read('l', :head);
-- Also while it walks through the log.
SELECT netbus.head('l') - 3 AS head \gset
DO $$
DECLARE
	e record;
BEGIN
	FOR e IN SELECT * FROM netbus.read('l', netbus.head('l') - 3) LOOP
		PERFORM netbus.publish('l', jsonb_build_array(e.payload));
		COMMIT;
	END LOOP;
END $$;
SELECT seq - :head AS seq, payload FROM netbus.read('l', :head);

SELECT netbus.head('l') - 2 AS head \gset
-- A cursor sees what was committed when it was opened or later, never what was not.
BEGIN;
DECLARE c CURSOR FOR SELECT (r).seq - :head AS seq, (r).payload FROM (SELECT netbus.read('l', :head) AS r OFFSET 0) s;
FETCH 1 FROM c;
SELECT netbus.publish('l', '"at once"', transactional => false);
SELECT netbus.publish('l', '"at commit"');
FETCH ALL FROM c;
CLOSE c;
DECLARE h CURSOR WITH HOLD FOR SELECT seq - :head AS seq, payload FROM netbus.read('l', :head);
COMMIT;
FETCH ALL FROM h;
CLOSE h;
SELECT seq - :head AS seq, payload FROM netbus.read('l', :head);

SELECT netbus.head('l') AS head \gset
-- Deferred triggers publish, and so do cursors that run at commit.
CREATE TABLE t (id int);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM netbus.publish('l', jsonb_build_object('deferred', NEW.id));
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER tell AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tell();
BEGIN;
INSERT INTO t VALUES (1), (2);
SELECT netbus.publish('l', '"before"');
DECLARE h CURSOR WITH HOLD FOR SELECT netbus.publish('l', '"by a cursor"');
SELECT netbus.publish('l', '"after"');
COMMIT;
CLOSE h;
SELECT seq - :head AS seq, payload FROM netbus.read('l', :head);
SELECT netbus.head('l') AS head \gset
-- Their errors take back everything.
CREATE OR REPLACE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM netbus.publish('l', '"never"');
	RAISE EXCEPTION 'too late';
END $$;
BEGIN;
SELECT netbus.publish('l', '"never"');
INSERT INTO t VALUES (3);
COMMIT;
SELECT seq - :head AS seq, payload FROM netbus.read('l', :head);
TABLE counters;
DROP TABLE t;
DROP FUNCTION tell;

-- COMMIT AND CHAIN
BEGIN;
SELECT netbus.publish('l', '"chain 1"');
COMMIT AND CHAIN;
SELECT netbus.publish('l', '"chain 2"');
ROLLBACK AND CHAIN;
SELECT netbus.publish('l', '"chain 3"');
COMMIT;
SELECT seq - :head AS seq, payload FROM netbus.read('l', :head);
SELECT netbus.head('l') AS head \gset

-- Several logs in one transaction, one of them with several shards.
SELECT netbus.create_log('m', shards => 4);
BEGIN;
SELECT netbus.publish('l', '"l"');
SELECT count(netbus.publish('m', to_jsonb(i), 'key ' || i)) FROM generate_series(1, 100) i;
SAVEPOINT a;
SELECT count(netbus.publish('m', '"never"', 'key ' || i)) FROM generate_series(1, 100) i;
SELECT netbus.publish('l', '"never"');
ROLLBACK TO a;
SELECT count(netbus.publish('m', to_jsonb(i))) FROM generate_series(101, 200) i;
COMMIT;
SELECT count(*), sum(payload::int), count(DISTINCT payload), count(DISTINCT shard) AS shards,
	count(DISTINCT shard) FILTER (WHERE key IS NULL) AS keyless_shards
FROM generate_series(0, 3) s, netbus.read('m', shard => s);
SELECT sum(offered), sum(accepted), sum(retained), sum(aborted), bool_and(accepted = retained + evicted + aborted) AS identity
FROM netbus.stat_log WHERE log = 'm';
SELECT seq - :head AS seq, payload FROM netbus.read('l', :head);
SELECT netbus.drop_log('m');

-- A constraint that fails at the commit.
CREATE TABLE deferred (id int PRIMARY KEY, ref int REFERENCES deferred DEFERRABLE INITIALLY DEFERRED);
BEGIN;
SELECT netbus.publish('l', '"never"');
INSERT INTO deferred VALUES (1, 2);
COMMIT;
TABLE counters;
DROP TABLE deferred;

DROP VIEW counters;
SELECT netbus.drop_log('l');

-- A savepoint whose events push out those before it, rolled back: the rest of the transaction goes on.
SELECT netbus.create_log('small', durability => 'memory', format => 'bytea', ring_size => '64kB');
BEGIN;
SELECT netbus.publish('small', '\x01'::bytea);
SAVEPOINT a;
SELECT count(netbus.publish('small', convert_to(repeat('x', 1000), 'UTF8'))) FROM generate_series(1, 100);
ROLLBACK TO a;
COMMIT;
SELECT accepted, retained, evicted FROM netbus.stat_log WHERE log = 'small';
BEGIN;
SELECT netbus.publish('small', '\x02'::bytea);
SAVEPOINT a;
SELECT count(netbus.publish('small', convert_to(repeat('x', 1000), 'UTF8'))) FROM generate_series(1, 100);
ROLLBACK TO a;
SELECT netbus.publish('small', '\x03'::bytea);
COMMIT;
SELECT seq, payload FROM netbus.read_raw('small');
SELECT accepted, retained, evicted FROM netbus.stat_log WHERE log = 'small';
SELECT netbus.drop_log('small');

-- A parallel worker cannot publish: its events would go nowhere.
SELECT netbus.create_log('l');
CREATE FUNCTION publish_parallel(i int) RETURNS bool LANGUAGE plpgsql PARALLEL SAFE AS
$$BEGIN RETURN netbus.publish('l', to_jsonb(i)); END$$;
CREATE TABLE numbers AS SELECT i FROM generate_series(1, 100) i;
-- Has another name since 16.
SELECT name AS force_parallel FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query') \gset
SET :force_parallel = on;
SET parallel_leader_participation = off;
SELECT count(publish_parallel(i)) FROM numbers;
RESET :force_parallel;
RESET parallel_leader_participation;
SELECT count(*) FROM netbus.read('l');
DROP TABLE numbers;
DROP FUNCTION publish_parallel;
SELECT netbus.drop_log('l');
