--
-- Consumers: receive, ack, nack, and what becomes of events
--
-- After each scenario: what was published = acknowledged + filtered + lag + retries + dead letters + lost.
CREATE VIEW account AS
	SELECT log, consumer, sum(netbus.head(log, shard))::bigint AS published, sum(acknowledged)::bigint AS acknowledged, sum(filtered)::bigint AS filtered,
		sum(lag)::bigint AS lag, sum(retries)::bigint AS retries, sum(dead_letters)::bigint AS dead_letters, sum(lost)::bigint AS lost,
		sum(netbus.head(log, shard) - acknowledged - filtered - lag - retries - dead_letters - lost) = 0 AS balanced
	FROM netbus.stat_consumer GROUP BY log, consumer ORDER BY log, consumer;
CREATE VIEW unbalanced AS SELECT * FROM account WHERE NOT balanced;
CREATE VIEW letters AS
	SELECT seq, key, payload - 'ts' - 'attempts' AS letter, payload->'attempts' AS attempts, (payload->>'ts')::timestamptz <= ts AS ts
	FROM netbus.read('dead') WHERE payload ? 'attempts';
CREATE FUNCTION publish(log text, first int, last int) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(netbus.publish(log, jsonb_build_object('n', n, 'kind', CASE WHEN n % 10 = 0 THEN 'rare' ELSE 'usual' END), 'key ' || n % 7)) FROM generate_series(first, last) n
$$;
-- The events of one call of receive(), in short.
CREATE FUNCTION take(log text, consumer text, max_events int DEFAULT 100, wait interval DEFAULT '0') RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT count(*) || CASE WHEN count(*) > 0 THEN ': ' || string_agg(payload->>'n', ' ' ORDER BY ordinality) || ' deliveries '
		|| CASE WHEN min(deliveries) = max(deliveries) THEN min(deliveries)::text ELSE min(deliveries) || '..' || max(deliveries) END ELSE '' END
	FROM ROWS FROM (netbus.receive($1, $2, $3, $4)) WITH ORDINALITY r
$$;
SET netbus.wait_timeout = '10s';
SELECT netbus.create_log('l');
SELECT netbus.create_log('dead', durability => 'memory');
SELECT netbus.create_log('raw', format => 'bytea');
SELECT netbus.create_log('wide', shards => 4);
SELECT netbus.create_log('m', durability => 'memory', ring_size => '64kB');
SELECT netbus.create_log('mb', durability => 'memory', ring_size => '64kB', backpressure => 'block');

--
-- Creating and dropping
--
SELECT netbus.create_consumer('l', 'c', 'earliest');
SELECT netbus.create_consumer('l', 'c');
SELECT netbus.create_consumer('l', 'c', if_not_exists => true);
SELECT netbus.create_consumer('l', 'c', start_at => 'nonsense', if_not_exists => true); -- it exists
SELECT netbus.create_consumer('none', 'c');
SELECT netbus.create_consumer(NULL, 'c');
SELECT netbus.create_consumer('l', NULL);
SELECT netbus.create_consumer('l', 'd', NULL);
SELECT netbus.create_consumer('l', '');
SELECT netbus.create_consumer('l', repeat('x', 64));
SELECT netbus.create_consumer('l', repeat('x', 63)), netbus.drop_consumer('l', repeat('x', 63));
SELECT netbus.create_consumer('l', E'with "quotes" and a \t', 'earliest');
SELECT consumer FROM netbus.stat_consumer ORDER BY 1;
SELECT netbus.drop_consumer('l', E'with "quotes" and a \t');
SELECT netbus.create_consumer('l', 'd', 'nonsense');
SELECT netbus.create_consumer('l', 'd', '');
SELECT netbus.create_consumer('l', 'd', 'seq:0');
SELECT netbus.create_consumer('l', 'd', 'seq:-1');
SELECT netbus.create_consumer('l', 'd', 'seq:1x');
SELECT netbus.create_consumer('l', 'd', 'seq:');
SELECT netbus.create_consumer('l', 'd', 'seq:9223372036854775808');
SELECT netbus.create_consumer('wide', 'd', 'seq:1');
SELECT netbus.create_consumer('l', 'd', max_deliveries => 3);
SELECT netbus.create_consumer('l', 'd', max_deliveries => 0, dead_letter_log => 'dead');
SELECT netbus.create_consumer('l', 'd', max_deliveries => 1000001, dead_letter_log => 'dead');
SELECT netbus.create_consumer('l', 'd', dead_letter_log => 'none');
SELECT netbus.create_consumer('l', 'd', dead_letter_log => 'raw');
SELECT netbus.create_consumer('l', 'd', dead_letter_log => 'l');
SELECT netbus.create_consumer('l', 'd', hold => 'much');
SELECT netbus.create_consumer('l', 'd', hold => '0');
SELECT netbus.create_consumer('l', 'd', hold => '-1');
SELECT netbus.create_consumer('m', 'd', hold => 'unlimited');
SELECT netbus.create_consumer('mb', 'd', hold => '1MB');
\set VERBOSITY sqlstate
SELECT netbus.create_consumer('l', 'd', filter => '{"path": 1}');
\set VERBOSITY default
SELECT count(*) FROM netbus.stat_consumer;
SELECT netbus.drop_consumer('l', 'd');
SELECT netbus.drop_consumer('l', 'd', if_exists => true);
SELECT netbus.drop_consumer('none', 'd', if_exists => true);
SELECT netbus.drop_consumer('l', NULL);
SELECT netbus.drop_consumer(NULL, 'c', true);

--
-- Receiving and acknowledging
--
SELECT publish('l', 1, 10);
-- Without a transaction around it, nothing is acknowledged.
SELECT take('l', 'c', 3);
SELECT netbus.ack('l', 'c');
BEGIN;
SELECT shard, seq, ts <= now() AS ts, key, payload, deliveries FROM netbus.receive('l', 'c', 2);
SELECT log, consumer, owner = current_user AS owner, shard, position_seq, lag, lag_seconds >= 0 AS lag_seconds, holder_pid = pg_backend_pid() AS mine,
	held_since BETWEEN now() AND clock_timestamp() AS held, waiting, paused, retries, deliveries, redeliveries, acknowledged, stalled_since <= clock_timestamp() AS stalled
FROM netbus.stat_consumer;
SELECT netbus.ack('l', 'c');
SELECT netbus.ack('l', 'c'); -- once is enough
-- The next call goes on.
SELECT take('l', 'c', 3);
SELECT netbus.ack('l', 'c', seq => 4);
SELECT netbus.ack('l', 'c', 0, 3);
SELECT netbus.ack('l', 'c', 0, 0);
COMMIT;
SELECT position_seq, lag, holder_pid, held_since, deliveries, redeliveries, acknowledged FROM netbus.stat_consumer;
SELECT * FROM unbalanced;
-- A commit without ack is no failure, a rollback is.
BEGIN;
SELECT take('l', 'c', 2);
COMMIT;
BEGIN;
SELECT take('l', 'c', 2);
ROLLBACK;
BEGIN;
SELECT take('l', 'c', 100); -- what has failed, and nothing else
SELECT take('l', 'c', 1);
ROLLBACK;
BEGIN;
SELECT take('l', 'c');
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT take('l', 'c');
SELECT lag, lag_seconds > 0 AS lag_seconds, stalled_since <= now() AS stalled FROM netbus.stat_consumer;
SELECT * FROM account;
-- Arguments.
SELECT * FROM netbus.receive('none', 'c');
SELECT * FROM netbus.receive('l', 'none');
SELECT * FROM netbus.receive('l', repeat('x', 64));
SELECT * FROM netbus.receive(NULL, 'c');
SELECT * FROM netbus.receive('l', NULL);
SELECT * FROM netbus.receive('l', 'c', -1);
SELECT * FROM netbus.receive('l', 'c', 0);
SELECT * FROM netbus.receive('l', 'c', NULL);
SELECT * FROM netbus.receive('l', 'c', wait => '-1 s');
SELECT seq FROM netbus.receive('l', 'c', wait => '1 month'); -- at most a minute
SELECT seq FROM netbus.receive('l', 'c', wait => '10 ms');
SELECT publish('l', 11, 20);
BEGIN;
SELECT netbus.ack('l', 'c');
ROLLBACK;
BEGIN;
SELECT netbus.nack('l', 'c', 0, 11);
ROLLBACK;
-- Received, though nothing was there.
BEGIN;
SELECT take('l', 'c', 0);
SELECT netbus.ack('l', 'c');
SAVEPOINT s;
SELECT netbus.ack('l', 'c', 0);
ROLLBACK TO s;
SELECT netbus.ack('l', 'c', seq => 11);
ROLLBACK;
BEGIN;
SELECT take('l', 'c', 3);
SAVEPOINT s;
SELECT netbus.ack('l', 'c', seq => 14);
ROLLBACK TO s;
SELECT netbus.ack('l', 'c', seq => -1);
ROLLBACK TO s;
SELECT netbus.ack('l', 'c', 1);
ROLLBACK TO s;
SELECT netbus.ack('l', 'c', -1, 12);
ROLLBACK TO s;
SELECT netbus.ack('l', NULL);
ROLLBACK TO s;
SELECT netbus.ack('none', 'c');
ROLLBACK TO s;
SELECT netbus.ack('l', 'none');
ROLLBACK TO s;
-- All of that has changed nothing.
SELECT netbus.ack('l', 'c', 0, 9);
COMMIT;
SELECT * FROM unbalanced;
-- Only two of ten rows are wanted: the others were not delivered.
BEGIN;
SELECT (netbus.receive('l', 'c')).seq LIMIT 2;
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT deliveries, acknowledged, position_seq FROM netbus.stat_consumer;
BEGIN;
SELECT (r).seq FROM (SELECT netbus.receive('l', 'c') AS r) s WHERE (r).seq > 16;
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT * FROM account;
SELECT netbus.drop_consumer('l', 'c');
SELECT * FROM account;
SELECT netbus.ack('l', 'c');

--
-- Where it begins, and moving it
--
SELECT netbus.create_consumer('l', 'earliest', 'earliest'), netbus.create_consumer('l', 'latest'), netbus.create_consumer('l', 'seq', 'seq:5'),
	netbus.create_consumer('l', 'future', 'seq:25'), netbus.create_consumer('l', 'time', (SELECT ts::text FROM netbus.get('l', 11))),
	netbus.create_consumer('l', 'cursor', (SELECT DISTINCT next_cursor FROM netbus.poll('l', max_events => 7)));
SELECT consumer, position_seq, lag FROM netbus.stat_consumer ORDER BY 1;
SELECT publish('l', 21, 30);
BEGIN;
SELECT take('l', c, 2) FROM unnest(ARRAY['earliest', 'latest', 'seq', 'future', 'time', 'cursor']) c;
SELECT sum(netbus.ack('l', c)) FROM unnest(ARRAY['earliest', 'latest', 'seq', 'future', 'time', 'cursor']) c;
COMMIT;
SELECT consumer, position_seq, lag FROM netbus.stat_consumer ORDER BY 1;
SELECT netbus.seek('l', 'earliest', 'latest');
SELECT netbus.seek('l', 'latest', 'earliest');
SELECT netbus.seek('l', 'seq', 'seq:30');
SELECT netbus.seek('l', 'future', 'seq:31');
SELECT netbus.seek('l', 'time', (SELECT ts::text FROM netbus.get('l', 21)));
SELECT netbus.seek('l', 'cursor', (SELECT DISTINCT next_cursor FROM netbus.poll('l', max_events => 3)));
SELECT consumer, position_seq, lag FROM netbus.stat_consumer ORDER BY 1;
SELECT c, take('l', c, 2) FROM unnest(ARRAY['earliest', 'latest', 'seq', 'future', 'time', 'cursor']) c;
SELECT netbus.seek('l', 'seq', 'nonsense');
SELECT netbus.seek('l', 'seq', NULL);
SELECT netbus.seek('l', 'none', 'earliest');
SELECT netbus.seek('l', 'seq', 'seq:0');
SELECT netbus.seek('l', 'seq', (SELECT next_cursor FROM netbus.poll('wide', 'latest')));
-- Part of the transaction.
BEGIN;
SELECT netbus.seek('l', 'seq', 'earliest');
ROLLBACK;
SELECT take('l', 'seq', 2);
BEGIN;
SAVEPOINT s;
SELECT netbus.seek('l', 'seq', 'earliest');
ROLLBACK TO s;
SELECT take('l', 'seq', 2);
SELECT netbus.seek('l', 'seq', 'earliest'); -- not while we are at work
ROLLBACK TO s;
SELECT netbus.drop_consumer('l', 'seq');
ROLLBACK;
-- Nor the other way round.
BEGIN;
SELECT netbus.seek('l', 'seq', 'seq:2');
SAVEPOINT s;
SELECT take('l', 'seq', 3);
ROLLBACK TO s;
SELECT netbus.seek('l', 'seq', 'seq:3');
ROLLBACK TO s;
SELECT netbus.ack('l', 'seq');
ROLLBACK TO s;
COMMIT;
-- What is to come again is forgotten.
BEGIN;
SELECT take('l', 'seq', 3);
SELECT netbus.nack('l', 'seq', 0, 3);
SELECT netbus.ack('l', 'seq');
COMMIT;
SELECT position_seq, retries FROM netbus.stat_consumer WHERE consumer = 'seq';
BEGIN;
SELECT netbus.seek('l', 'seq', 'seq:28');
ROLLBACK;
SELECT position_seq, retries FROM netbus.stat_consumer WHERE consumer = 'seq';
SELECT netbus.seek('l', 'seq', 'seq:28');
SELECT position_seq, retries FROM netbus.stat_consumer WHERE consumer = 'seq';
SELECT take('l', 'seq');
SELECT netbus.drop_consumer('l', c) FROM unnest(ARRAY['earliest', 'latest', 'seq', 'future', 'time', 'cursor']) c;

--
-- Savepoints
--
SELECT netbus.create_consumer('l', 'c', 'earliest');
BEGIN;
SAVEPOINT a;
SELECT take('l', 'c', 3);
SELECT netbus.ack('l', 'c');
ROLLBACK TO a;
SELECT netbus.ack('l', 'c'); -- nothing
SELECT take('l', 'c', 3); -- failed once
SAVEPOINT b;
SELECT netbus.ack('l', 'c');
ROLLBACK TO b;
SELECT netbus.ack('l', 'c', seq => 2);
SAVEPOINT c;
SELECT take('l', 'c', 3);
SELECT netbus.ack('l', 'c');
ROLLBACK TO c;
SELECT netbus.ack('l', 'c', seq => 4);
ROLLBACK TO c;
SELECT take('l', 'c', 2);
RELEASE c;
SAVEPOINT d;
SELECT netbus.nack('l', 'c', 0, 5, mode => 'retry');
ROLLBACK TO d;
SELECT netbus.nack('l', 'c', 0, 4, 'later', 'release');
RELEASE d;
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT position_seq, retries, acknowledged FROM netbus.stat_consumer;
SELECT * FROM unbalanced;
-- Deep.
BEGIN;
SELECT take('l', 'c', 1);
SAVEPOINT a;
SELECT take('l', 'c', 1);
SAVEPOINT b;
SELECT take('l', 'c', 1);
SAVEPOINT c;
SELECT take('l', 'c', 1);
RELEASE c;
ROLLBACK TO b;
SELECT take('l', 'c', 1);
RELEASE b;
RELEASE a;
SAVEPOINT e;
SELECT netbus.ack('l', 'c');
SELECT take('l', 'c', 4);
ROLLBACK TO e;
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT position_seq, retries, acknowledged FROM netbus.stat_consumer;
SELECT * FROM unbalanced;
-- Blocks with exceptions, as in a loop over the events of a batch.
DO $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT * FROM netbus.receive('l', 'c', 6) LOOP
		BEGIN
			IF r.seq = 9 THEN
				RAISE EXCEPTION 'cannot be done';
			ELSIF r.seq = 11 THEN
				PERFORM netbus.nack('l', 'c', r.shard, r.seq);
				RAISE EXCEPTION 'after all';
			END IF;
			PERFORM netbus.ack('l', 'c', r.shard, r.seq);
		EXCEPTION WHEN raise_exception THEN
			PERFORM netbus.nack('l', 'c', r.shard, r.seq, SQLERRM);
		END;
	END LOOP;
END $$;
SELECT position_seq, retries, acknowledged FROM netbus.stat_consumer;
SELECT * FROM unbalanced;
DO $$
BEGIN
	FOR i IN 1 .. 3 LOOP
		BEGIN
			RAISE NOTICE '%', take('l', 'c', 100);
			PERFORM netbus.ack('l', 'c');
			IF i < 3 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			RAISE NOTICE 'again, % acknowledged', netbus.ack('l', 'c');
		END;
	END LOOP;
END $$;
SELECT * FROM account;
-- Batch by batch, with commits in between.
SELECT netbus.seek('l', 'c', 'earliest');
DO $$
DECLARE
	n int;
BEGIN
	LOOP
		SELECT count(*) INTO n FROM netbus.receive('l', 'c', 7);
		EXIT WHEN n = 0;
		RAISE NOTICE '% events, % acknowledged', n, netbus.ack('l', 'c');
		COMMIT;
	END LOOP;
END $$;
-- What was delivered behind a savepoint has failed with it, whoever had the shard before.
SELECT netbus.seek('l', 'c', 'earliest');
BEGIN;
SELECT take('l', 'c', 2);
SAVEPOINT s;
SELECT take('l', 'c', 2);
ROLLBACK TO s;
SELECT take('l', 'c', 5);
SELECT netbus.ack('l', 'c', seq => 2);
COMMIT;
SELECT take('l', 'c', 3);
-- Cursors: what was fetched was delivered. The rows end when something else has happened to the shard.
SELECT netbus.seek('l', 'c', 'earliest');
BEGIN;
DECLARE k CURSOR FOR SELECT (netbus.receive('l', 'c')).seq;
FETCH 2 FROM k;
SAVEPOINT s;
ROLLBACK TO s;
FETCH 1 FROM k;
SELECT netbus.ack('l', 'c', seq => 2);
SAVEPOINT s;
FETCH 2 FROM k;
ROLLBACK TO s;
FETCH 2 FROM k;
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT position_seq FROM netbus.stat_consumer;
BEGIN;
DECLARE k CURSOR FOR SELECT (netbus.receive('l', 'c')).seq;
SAVEPOINT s;
FETCH 2 FROM k;
ROLLBACK TO s;
FETCH 2 FROM k;
SELECT netbus.ack('l', 'c');
SELECT count(*) FROM netbus.stat_consumer WHERE holder_pid IS NOT NULL;
COMMIT;
SELECT netbus.seek('l', 'c', 'earliest');
BEGIN;
DECLARE k CURSOR FOR SELECT (netbus.receive('l', 'c')).seq;
DECLARE k2 CURSOR FOR SELECT (netbus.receive('l', 'c')).seq;
FETCH 2 FROM k;
FETCH 2 FROM k2;
FETCH 2 FROM k;
FETCH 2 FROM k2;
SELECT netbus.nack('l', 'c', 0, 2), netbus.nack('l', 'c', 0, 4), netbus.nack('l', 'c', 0, 5);
SELECT netbus.ack('l', 'c');
COMMIT;
BEGIN;
DECLARE k CURSOR FOR SELECT (netbus.receive('l', 'c')).seq;
DECLARE k2 CURSOR FOR SELECT (netbus.receive('l', 'c')).seq;
FETCH 1 FROM k;
FETCH 1 FROM k2;
FETCH 1 FROM k;
FETCH 1 FROM k2;
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT position_seq, retries FROM netbus.stat_consumer;
-- Two in one query.
BEGIN;
SELECT a.seq, b.seq, netbus.ack('l', 'c') FROM netbus.receive('l', 'c', 1) a, netbus.receive('l', 'c', 1) b;
SELECT count(*) FROM (SELECT netbus.receive('l', 'c', 3), netbus.receive('l', 'c', 3)) s;
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT position_seq, retries, holder_pid FROM netbus.stat_consumer;
-- A cursor that outlives its transaction has what it got in it.
BEGIN;
DECLARE k CURSOR WITH HOLD FOR SELECT (netbus.receive('l', 'c', 2)).seq;
COMMIT;
FETCH ALL FROM k;
CLOSE k;
SELECT netbus.drop_consumer('l', 'c');

--
-- Refusing
--
SELECT netbus.create_consumer('l', 'c', 'earliest');
BEGIN;
SELECT take('l', 'c', 10);
SAVEPOINT s;
SELECT netbus.nack(NULL, 'c', 0, 1);
ROLLBACK TO s;
SELECT netbus.nack('l', NULL, 0, 1);
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', NULL, 1);
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', 0, NULL);
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', 0, 1, mode => NULL);
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', 0, 1, mode => 'burn');
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', 0, 1, mode => 'release', delay => '1 s');
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', 0, 1, mode => 'poison', delay => '1 s');
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', 0, 1, delay => '-1 s');
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', 0, 1, delay => '1000 years');
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', 0, 11);
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', 0, 0);
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', 0, -5);
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', 1, 1);
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', 0, 1, mode => 'poison');
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', 0, 2, 'first'), netbus.nack('l', 'c', 0, 2, 'second', delay => '1 h'), netbus.nack('l', 'c', 0, 2, 'third');
SELECT netbus.nack('l', 'c', 0, 4, mode => 'release');
SELECT netbus.nack('l', 'c', 0, 6, repeat('long ', 100), delay => '2 s');
SELECT netbus.ack('l', 'c', seq => 5);
SELECT netbus.nack('l', 'c', 0, 3);
ROLLBACK TO s;
-- The savepoint is before all that.
SELECT netbus.nack('l', 'c', 0, 2, 'first'), netbus.nack('l', 'c', 0, 2, 'second', delay => '1 h'), netbus.nack('l', 'c', 0, 2, 'third');
SELECT netbus.nack('l', 'c', 0, 4, mode => 'release');
SELECT netbus.nack('l', 'c', 0, 6, repeat('long ', 100), delay => '2 s');
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT * FROM account;
BEGIN;
SELECT take('l', 'c', 2);
SELECT netbus.ack('l', 'c');
COMMIT;
BEGIN;
SELECT take('l', 'c'); -- the others meanwhile
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT * FROM account;
BEGIN;
SELECT take('l', 'c', wait => '20 s'); -- until it is due
SELECT netbus.nack('l', 'c', 0, 6);
COMMIT;
BEGIN;
SELECT take('l', 'c');
SELECT netbus.ack('l', 'c', seq => 5); -- not it
SELECT netbus.ack('l', 'c', seq => 6);
SELECT netbus.ack('l', 'c', seq => 6);
COMMIT;
SELECT * FROM account;
-- Refused, and nothing acknowledged: what was said of one event holds.
SELECT publish('l', 31, 36);
BEGIN;
SELECT take('l', 'c');
SELECT netbus.nack('l', 'c', 0, 32), netbus.nack('l', 'c', 0, 33, mode => 'release'), netbus.nack('l', 'c', 0, 34, delay => '2 s');
COMMIT;
SELECT position_seq, lag FROM netbus.stat_consumer;
BEGIN;
SELECT take('l', 'c', 1);
SELECT netbus.ack('l', 'c', 0, 32);
COMMIT;
BEGIN;
SELECT take('l', 'c');
SELECT netbus.ack('l', 'c', 0, 35);
COMMIT;
BEGIN;
SELECT take('l', 'c', wait => '20 s');
SELECT netbus.ack('l', 'c');
COMMIT;
BEGIN;
SELECT take('l', 'c', wait => '20 s');
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT take('l', 'c');
SELECT * FROM account;
SELECT netbus.drop_consumer('l', 'c');

--
-- Dead letters
--
SELECT netbus.create_consumer('l', 'c', 'earliest', max_deliveries => 3, dead_letter_log => 'dead');
-- At once.
BEGIN;
SELECT take('l', 'c', 4);
SELECT netbus.nack('l', 'c', 0, 2, 'bad', 'poison');
SAVEPOINT s;
SELECT netbus.nack('l', 'c', 0, 2, 'worse', 'poison');
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', 0, 3, 'bad', 'poison');
ROLLBACK TO s;
SELECT netbus.nack('l', 'c', 0, 4, mode => 'poison');
SELECT netbus.ack('l', 'c');
SELECT * FROM letters; -- not yet
COMMIT;
SELECT * FROM letters;
SELECT * FROM account WHERE log = 'l';
BEGIN;
SELECT take('l', 'c', 1);
SELECT netbus.nack('l', 'c', 0, 5, 'bad', 'poison');
ROLLBACK;
SELECT count(*) FROM letters;
-- After max_deliveries times, however often it was rolled back or released in between.
BEGIN;
SELECT take('l', 'c', 2);
SELECT netbus.nack('l', 'c', 0, 5, 'first');
SELECT netbus.ack('l', 'c');
COMMIT;
BEGIN;
SELECT take('l', 'c', 1);
SELECT netbus.nack('l', 'c', 0, 5, mode => 'release');
COMMIT;
BEGIN;
SELECT take('l', 'c', 1);
COMMIT;
BEGIN;
SELECT take('l', 'c', 2);
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT * FROM account WHERE log = 'l';
-- A batch that fails: as a whole, then one by one; what fails then is set aside, and nothing behind it waits.
CREATE PROCEDURE work(log text, consumer text, max_events int, poison int[]) LANGUAGE plpgsql AS $$
DECLARE
	r record;
	said text;
BEGIN
	FOR i IN 1 .. 100 LOOP
		BEGIN
			said := '';
			FOR r IN SELECT * FROM netbus.receive(log, consumer, max_events) LOOP
				said := said || ' ' || (r.payload->>'n') || '(' || r.deliveries || ')';
			END LOOP;
			EXIT WHEN said = '';
			IF EXISTS (SELECT FROM unnest(poison) p WHERE said LIKE '% ' || p || '(%') THEN
				RAISE EXCEPTION 'cannot be done';
			END IF;
			RAISE NOTICE 'done:%', said;
			PERFORM netbus.ack(log, consumer);
		EXCEPTION WHEN raise_exception THEN
			RAISE NOTICE 'failed:%', said;
		END;
		COMMIT;
	END LOOP;
END $$;
CALL work('l', 'c', 6, '{8, 11, 20}');
SELECT * FROM letters WHERE seq > 2;
SELECT * FROM account WHERE log = 'l';
SELECT position_seq, retries, deliveries, redeliveries FROM netbus.stat_consumer;
-- Retries likewise.
SELECT publish('l', 37, 40);
BEGIN;
SELECT take('l', 'c');
SELECT netbus.nack('l', 'c', 0, n, 'later') FROM generate_series(37, 39) n;
SELECT netbus.ack('l', 'c');
COMMIT;
CALL work('l', 'c', 6, '{38}');
SELECT * FROM letters WHERE seq > 5;
SELECT * FROM account WHERE log = 'l';
-- The last of its deliveries may refuse it, too.
SELECT publish('l', 41, 41);
BEGIN;
SELECT take('l', 'c');
ROLLBACK;
BEGIN;
SELECT take('l', 'c');
SELECT netbus.nack('l', 'c', 0, 41, 'once more');
COMMIT;
BEGIN;
SELECT take('l', 'c');
SELECT netbus.nack('l', 'c', 0, 41);
COMMIT;
SELECT take('l', 'c');
SELECT * FROM letters WHERE seq > 6;
SELECT * FROM account WHERE log = 'l';
-- An event that must be alone is: this transaction gets no other.
SELECT publish('l', 42, 44);
SELECT netbus.alter_consumer('l', 'c', 'max_deliveries', '1');
BEGIN;
SELECT take('l', 'c');
ROLLBACK;
BEGIN;
SELECT take('l', 'c');
SELECT take('l', 'c', wait => '10 s');
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT netbus.create_consumer('l', 'other', 'seq:44');
BEGIN;
SELECT take('l', 'other');
SELECT take('l', 'c'); -- not after others
SELECT netbus.ack('l', 'c');
ROLLBACK;
BEGIN;
SELECT take('l', 'c');
ROLLBACK;
BEGIN;
SELECT take('l', 'c');
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT netbus.drop_consumer('l', 'other');
SELECT * FROM letters WHERE seq > 7;
SELECT * FROM account WHERE log = 'l';
-- Refused ahead of the position: done is done.
SELECT netbus.alter_consumer('l', 'c', 'max_deliveries', NULL);
SELECT publish('l', 45, 50);
BEGIN;
SELECT take('l', 'c');
SELECT netbus.nack('l', 'c', 0, 45, 'bad', 'poison'), netbus.nack('l', 'c', 0, 47, 'bad', 'poison'), netbus.nack('l', 'c', 0, 49), netbus.nack('l', 'c', 0, 50);
COMMIT;
BEGIN;
SELECT take('l', 'c', 1);
SELECT netbus.ack('l', 'c');
SELECT take('l', 'c', 1);
SELECT netbus.nack('l', 'c', 0, 50, 'bad', 'poison');
COMMIT;
BEGIN;
SELECT take('l', 'c');
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT * FROM account WHERE log = 'l';
SELECT publish('l', 51, 51);
BEGIN;
SELECT take('l', 'c');
SELECT netbus.nack('l', 'c', 0, 51, 'bad', 'poison');
COMMIT;
SELECT take('l', 'c');
SELECT * FROM account WHERE log = 'l';
SELECT publish('l', 52, 53);
BEGIN;
SELECT take('l', 'c');
SELECT netbus.nack('l', 'c', 0, 53);
COMMIT;
SELECT netbus.alter_consumer('l', 'c', 'max_deliveries', '2');
BEGIN;
SELECT take('l', 'c', 1);
ROLLBACK;
BEGIN;
SELECT take('l', 'c', 2);
COMMIT;
SELECT take('l', 'c', 2);
BEGIN;
SELECT take('l', 'c', 2);
SELECT netbus.ack('l', 'c');
COMMIT;
SELECT letter FROM letters WHERE seq > 8;
SELECT * FROM account WHERE log = 'l';
SELECT netbus.drop_consumer('l', 'c');

-- Back to where they came from, once.
SELECT netbus.redrive('none', 'l');
SELECT netbus.redrive('dead', 'none');
SELECT netbus.redrive(NULL, 'l');
SELECT netbus.redrive('dead', NULL);
SELECT netbus.redrive('raw', 'l');
SELECT netbus.redrive('dead', 'dead');
SELECT netbus.create_log('again');
BEGIN;
SELECT netbus.redrive('dead', 'again') > 0 AS some;
SAVEPOINT s;
SELECT netbus.redrive('dead', 'again');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT netbus.redrive('dead', 'again') > 0 AS some;
ROLLBACK TO s;
SELECT netbus.redrive('dead', 'again');
COMMIT;
SELECT key, payload FROM netbus.read('again');
SELECT netbus.redrive('dead', 'again');
SELECT netbus.publish('dead', '"no letter"'), netbus.publish('dead', '{"payload": 1}'), netbus.publish('dead', '{"base64": "?"}'), netbus.publish('dead', '{"base64": "WzEsIDJd"}', 'k');
SELECT netbus.redrive('dead', 'again');
SELECT key, payload FROM netbus.read('again', (SELECT netbus.head('again') - 2));
SELECT * FROM account;
SELECT netbus.drop_consumer('dead', 'redrive');
-- Of what is lost, it takes note.
SELECT netbus.create_log('short', durability => 'memory', ring_size => '64kB');
SELECT netbus.redrive('short', 'again');
DO $$ BEGIN FOR i IN 1 .. 20 LOOP PERFORM count(netbus.publish('short', jsonb_build_object('payload', n))) FROM generate_series(1, 200) n; COMMIT; END LOOP; END $$;
SELECT netbus.redrive('short', 'again') > 0 AS some;
SELECT lost > 0 AS lost, lag, balanced FROM account WHERE consumer = 'redrive';
SELECT netbus.drop_log('short');
SELECT netbus.drop_log('again');

--
-- Options
--
SELECT netbus.create_log('o');
SELECT netbus.create_consumer('o', 'c', 'earliest');
CREATE VIEW options AS SELECT log, consumer, paused, filter, max_deliveries, dead_letter_log, hold FROM netbus.catalog_consumer ORDER BY 1, 2;
SELECT netbus.alter_consumer(NULL, 'c', 'hold', '1MB');
SELECT netbus.alter_consumer('o', NULL, 'hold', '1MB');
SELECT netbus.alter_consumer('o', 'c', NULL, '1MB');
SELECT netbus.alter_consumer('o', 'c', 'paused', 'true');
SELECT netbus.alter_consumer('o', 'none', 'hold', '1MB');
SELECT netbus.alter_consumer('o', 'c', 'hold', '');
SELECT netbus.alter_consumer('o', 'c', 'max_deliveries', '3');
SELECT netbus.alter_consumer('o', 'c', 'max_deliveries', 'three');
SELECT netbus.alter_consumer('o', 'c', 'dead_letter_log', 'o');
SELECT netbus.alter_consumer('o', 'c', 'filter', '{');
\set VERBOSITY sqlstate
SELECT netbus.alter_consumer('o', 'c', 'filter', '{}');
\set VERBOSITY default
-- Several in one transaction.
BEGIN;
SELECT netbus.alter_consumer('o', 'c', 'hold', '1MB'), netbus.alter_consumer('o', 'c', 'dead_letter_log', 'dead'), netbus.alter_consumer('o', 'c', 'max_deliveries', '3');
SELECT netbus.alter_consumer('o', 'c', 'filter', '{"path": "kind", "value": "rare"}');
SELECT netbus.pause('o', 'c'), netbus.pause('o', 'c');
COMMIT;
SELECT * FROM options;
SELECT publish('o', 1, 20);
SELECT take('o', 'c');
SELECT netbus.pause('o', 'c'), netbus.resume('o', 'c'), netbus.resume('o', 'c');
BEGIN;
SELECT netbus.pause('o', 'c');
SAVEPOINT s;
SELECT netbus.resume('o', 'c');
SELECT netbus.pause('o', 'c');
ROLLBACK TO s;
SELECT netbus.resume('o', 'c');
COMMIT;
SELECT * FROM options;
SELECT take('o', 'c');
BEGIN;
SELECT netbus.resume('o', 'c');
SELECT netbus.pause('o', 'c');
ROLLBACK;
SELECT take('o', 'c');
SELECT netbus.alter_consumer('o', 'c', 'dead_letter_log', NULL);
SELECT netbus.alter_consumer('o', 'c', 'max_deliveries', NULL), netbus.alter_consumer('o', 'c', 'dead_letter_log', NULL), netbus.alter_consumer('o', 'c', 'hold', NULL);
SELECT * FROM options;
-- Paused, what was received is acknowledged all the same.
BEGIN;
SELECT take('o', 'c');
SELECT netbus.pause('o', 'c');
SELECT netbus.ack('o', 'c');
COMMIT;
SELECT paused, position_seq FROM netbus.stat_consumer WHERE log = 'o';
SELECT netbus.pause(NULL, 'c');
SELECT netbus.pause('o', NULL);
SELECT netbus.pause('o', 'none');
SELECT netbus.resume('none', 'c');
SELECT netbus.resume('o', 'none');
SELECT netbus.resume('o', 'c');
SELECT * FROM account WHERE log = 'o';

-- A filter: what does not match is passed over, and counted once.
SELECT publish('o', 21, 45);
BEGIN;
SELECT take('o', 'c', 1);
SELECT netbus.ack('o', 'c');
COMMIT;
SELECT * FROM account WHERE log = 'o';
BEGIN;
SELECT take('o', 'c');
ROLLBACK;
BEGIN;
SELECT take('o', 'c');
COMMIT;
SELECT * FROM account WHERE log = 'o';
BEGIN;
SAVEPOINT s;
SELECT take('o', 'c');
ROLLBACK TO s;
SELECT take('o', 'c');
SAVEPOINT s;
SELECT netbus.ack('o', 'c');
ROLLBACK TO s;
SELECT take('o', 'c');
SELECT netbus.ack('o', 'c');
COMMIT;
SELECT * FROM account WHERE log = 'o';
SELECT publish('o', 51, 59);
SELECT take('o', 'c');
SELECT * FROM account WHERE log = 'o';
-- A retry comes whatever the filter has become.
SELECT publish('o', 60, 65);
BEGIN;
SELECT take('o', 'c');
SELECT netbus.nack('o', 'c', 0, (SELECT max(seq) FROM netbus.read('o') WHERE payload->>'n' = '60'));
SELECT netbus.ack('o', 'c');
COMMIT;
SELECT netbus.alter_consumer('o', 'c', 'filter', '{"path": "n", "value": 71}');
SELECT publish('o', 66, 75);
BEGIN;
SELECT take('o', 'c');
SELECT take('o', 'c');
SELECT netbus.ack('o', 'c');
COMMIT;
SELECT * FROM account WHERE log = 'o';
-- Also when it lies ahead, and the filter would pass it over.
SELECT netbus.alter_consumer('o', 'c', 'filter', '{"path": "kind", "value": "rare"}');
SELECT publish('o', 80, 89);
BEGIN;
SELECT take('o', 'c');
SELECT netbus.nack('o', 'c', 0, 71);
COMMIT;
SELECT netbus.alter_consumer('o', 'c', 'filter', '{"path": "n", "value": 85}');
BEGIN;
SELECT take('o', 'c'), take('o', 'c'), take('o', 'c');
SELECT netbus.ack('o', 'c');
COMMIT;
SELECT * FROM account WHERE log = 'o';
-- Without it, the rest.
SELECT netbus.alter_consumer('o', 'c', 'filter', NULL);
SELECT publish('o', 76, 77);
BEGIN;
SELECT take('o', 'c');
SELECT netbus.ack('o', 'c');
COMMIT;
SELECT * FROM account WHERE log = 'o';
SELECT netbus.drop_log('o');

--
-- Transactions
--
-- What was created, changed or dropped is so from the commit on.
SELECT netbus.create_log('t');
SELECT publish('t', 1, 5);
BEGIN;
SELECT netbus.create_consumer('t', 'c', 'earliest');
SELECT take('t', 'c', 2);
SELECT netbus.ack('t', 'c');
SELECT position_seq, holder_pid IS NOT NULL AS held FROM netbus.stat_consumer WHERE log = 't';
ROLLBACK;
SELECT take('t', 'c', 2);
SELECT netbus.create_consumer('t', 'c', 'seq:4');
SELECT take('t', 'c', 2);
SELECT netbus.drop_consumer('t', 'c');
BEGIN;
SELECT netbus.create_consumer('t', 'c', 'earliest');
SELECT take('t', 'c', 2);
SELECT netbus.ack('t', 'c');
COMMIT;
SELECT * FROM account WHERE log = 't';
BEGIN;
SELECT netbus.drop_consumer('t', 'c');
SELECT take('t', 'c');
ROLLBACK;
BEGIN;
SELECT netbus.drop_consumer('t', 'c');
SAVEPOINT s;
SELECT netbus.drop_consumer('t', 'c', true);
SELECT netbus.create_consumer('t', 'c', 'earliest');
SELECT take('t', 'c');
SELECT netbus.ack('t', 'c');
ROLLBACK TO s;
SELECT netbus.create_consumer('t', 'c', 'seq:2');
SELECT take('t', 'c', 1);
SELECT netbus.ack('t', 'c');
ROLLBACK;
BEGIN;
SELECT take('t', 'c');
SELECT netbus.ack('t', 'c');
COMMIT;
SELECT * FROM account WHERE log = 't';
BEGIN;
SELECT netbus.drop_consumer('t', 'c');
SELECT netbus.create_consumer('t', 'c', 'seq:3');
SELECT take('t', 'c', 1);
SELECT netbus.ack('t', 'c');
COMMIT;
SELECT take('t', 'c', 1);
SELECT position_seq, acknowledged FROM netbus.stat_consumer WHERE log = 't';
BEGIN;
SELECT netbus.create_consumer('t', 'd', 'earliest');
SAVEPOINT s;
SELECT netbus.drop_consumer('t', 'd');
ROLLBACK TO s;
SELECT take('t', 'd', 1);
SELECT netbus.ack('t', 'd');
RELEASE s;
COMMIT;
SELECT * FROM account WHERE log = 't' AND consumer = 'd';
SELECT netbus.drop_consumer('t', 'd');
-- What the user writes and what is acknowledged are one.
CREATE TABLE done (n int PRIMARY KEY);
SELECT netbus.seek('t', 'c', 'earliest');
BEGIN;
INSERT INTO done SELECT (payload->>'n')::int FROM netbus.receive('t', 'c', 3);
SELECT netbus.ack('t', 'c');
INSERT INTO done VALUES (3);
ROLLBACK;
BEGIN;
INSERT INTO done SELECT (payload->>'n')::int FROM netbus.receive('t', 'c', 3);
SELECT netbus.ack('t', 'c');
COMMIT;
-- In one statement; in a function; with a statement that is prepared.
WITH r AS MATERIALIZED (SELECT * FROM netbus.receive('t', 'c', 1)), i AS (INSERT INTO done SELECT (payload->>'n')::int FROM r)
SELECT netbus.ack('t', 'c') FROM (SELECT count(*) FROM r) c;
PREPARE take_one AS SELECT seq FROM netbus.receive($1, $2, $3);
PREPARE ack AS SELECT netbus.ack($1, $2);
BEGIN;
EXECUTE take_one('t', 'c', 1);
EXECUTE ack('t', 'c');
COMMIT;
SELECT publish('t', 6, 7);
BEGIN;
EXECUTE take_one('t', 'c', 1);
EXECUTE ack('t', 'c');
EXECUTE take_one('t', 'c', 1);
COMMIT;
DEALLOCATE ALL;
TABLE done;
SELECT position_seq FROM netbus.stat_consumer WHERE log = 't';
-- Forwarding: what is published and what is acknowledged are one, too.
SELECT netbus.create_log('t2');
BEGIN;
SELECT count(netbus.publish('t2', payload, key)) FROM netbus.receive('t', 'c');
SELECT netbus.ack('t', 'c');
ROLLBACK;
SELECT netbus.head('t2');
BEGIN;
SELECT count(netbus.publish('t2', payload, key)) FROM netbus.receive('t', 'c');
SELECT netbus.ack('t', 'c');
COMMIT;
SELECT payload FROM netbus.read('t2');
SELECT netbus.drop_log('t2');
-- Other kinds of transactions.
BEGIN READ ONLY;
SELECT * FROM netbus.receive('t', 'c');
ROLLBACK;
BEGIN READ ONLY;
SELECT netbus.create_consumer('t', 'e');
ROLLBACK;
BEGIN READ ONLY;
SELECT netbus.seek('t', 'c', 'earliest');
ROLLBACK;
BEGIN READ ONLY;
SELECT netbus.pause('t', 'c');
ROLLBACK;
BEGIN READ ONLY;
SELECT netbus.drop_consumer('t', 'c');
ROLLBACK;
BEGIN READ ONLY;
SELECT netbus.alter_consumer('t', 'c', 'hold', '1MB');
ROLLBACK;
BEGIN READ ONLY;
SELECT netbus.redrive('dead', 't');
ROLLBACK;
SELECT publish('t', 8, 9);
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT take('t', 'c', 1);
SELECT netbus.ack('t', 'c');
COMMIT;
BEGIN;
SELECT take('t', 'c', 1);
PREPARE TRANSACTION 'p';
BEGIN;
SELECT netbus.pause('t', 'c');
PREPARE TRANSACTION 'p';
BEGIN;
SELECT netbus.create_consumer('t', 'e');
PREPARE TRANSACTION 'p';
BEGIN;
SELECT netbus.seek('t', 'c', 'earliest');
PREPARE TRANSACTION 'p';
SELECT count(*) FROM pg_prepared_xacts;
SELECT position_seq, paused, holder_pid FROM netbus.stat_consumer WHERE log = 't';
-- With the transaction almost over.
CREATE FUNCTION receive_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE '%', take('t', 'c', 1);
	RAISE NOTICE '% acknowledged', netbus.ack('t', 'c');
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON done DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION receive_late();
INSERT INTO done VALUES (100);
SELECT position_seq FROM netbus.stat_consumer WHERE log = 't';
-- The log goes, and its consumers go with it.
SELECT netbus.create_consumer('t', 'd', 'earliest');
BEGIN;
SELECT netbus.drop_log('t');
ROLLBACK;
SELECT consumer, position_seq FROM netbus.stat_consumer WHERE log = 't' ORDER BY 1;
BEGIN;
SELECT take('t', 'd', 1);
SELECT netbus.ack('t', 'd');
SELECT netbus.drop_log('t');
COMMIT;
SELECT count(*) FROM netbus.stat_consumer WHERE log = 't';
SELECT count(*) FROM netbus.catalog_consumer c WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = c.log);
SELECT netbus.create_log('t');
SELECT * FROM netbus.receive('t', 'c');
BEGIN;
SELECT netbus.create_consumer('t', 'c', 'earliest');
SELECT publish('t', 1, 1);
SELECT take('t', 'c'); -- not ours, before the commit
SELECT netbus.drop_log('t');
SELECT netbus.create_log('t', shards => 2);
SELECT netbus.create_consumer('t', 'c', 'earliest');
SELECT take('t', 'c');
COMMIT;
SELECT shard, position_seq FROM netbus.stat_consumer WHERE log = 't' ORDER BY 1;
SELECT netbus.drop_log('t');
DROP TABLE done;

--
-- Several shards, several consumers
--
SELECT netbus.create_consumer('wide', 'a', 'earliest'), netbus.create_consumer('wide', 'b', 'earliest', '{"path": "kind", "value": "rare"}');
SELECT publish('wide', 1, 100);
BEGIN;
SELECT count(DISTINCT shard), count(*) > 0 AS some FROM netbus.receive('wide', 'a');
SELECT count(*) FROM netbus.stat_consumer WHERE holder_pid = pg_backend_pid();
SELECT netbus.ack('wide', 'a', seq => 1);
ROLLBACK;
DO $$
DECLARE
	n int;
	events int := 0;
BEGIN
	LOOP
		SELECT count(*) INTO n FROM netbus.receive('wide', 'a', 7);
		EXIT WHEN n = 0;
		ASSERT n = netbus.ack('wide', 'a');
		events := events + n;
		COMMIT;
	END LOOP;
	RAISE NOTICE '% events', events;
END $$;
-- All shards in one transaction, one after the other.
BEGIN;
SELECT count(*), count(DISTINCT shard) AS shards, count(DISTINCT (shard, seq)) FROM generate_series(1, 12), LATERAL netbus.receive('wide', 'b', generate_series % 3 + 1);
SELECT netbus.ack('wide', 'b');
COMMIT;
SELECT * FROM account WHERE log = 'wide';
-- To a place in all of them.
SELECT DISTINCT next_cursor AS half FROM netbus.poll('wide', max_events => 20) \gset
SELECT netbus.seek('wide', 'a', :'half'), netbus.seek('wide', 'b', 'earliest');
SELECT sum(lag) FROM netbus.stat_consumer WHERE log = 'wide' AND consumer = 'a';
BEGIN;
SELECT count(*), count(DISTINCT (shard, seq)) FROM generate_series(1, 8) i, LATERAL netbus.receive('wide', 'a', 100 + 0 * i);
SELECT bool_and(netbus.nack('wide', 'a', shard, position_seq + 1)) FROM netbus.stat_consumer WHERE consumer = 'a' AND holder_pid = pg_backend_pid();
SELECT netbus.ack('wide', 'a');
COMMIT;
BEGIN;
SELECT count(*), count(DISTINCT shard) AS shards, min(deliveries), max(deliveries) FROM generate_series(1, 8) i, LATERAL netbus.receive('wide', 'a', 100 + 0 * i);
SELECT netbus.ack('wide', 'a');
COMMIT;
SELECT sum(lag) AS lag, sum(retries) AS retries FROM netbus.stat_consumer WHERE log = 'wide' AND consumer = 'a';
SELECT netbus.drop_log('wide');

--
-- Kinds of logs
--
-- Bytes.
SELECT netbus.create_consumer('raw', 'c', 'earliest', dead_letter_log => 'dead');
SELECT netbus.publish('raw', '\x00ff'::bytea, 'k'), netbus.publish('raw', '{"a":  1}'::bytea), netbus.publish('raw', ''::bytea);
BEGIN;
SELECT shard, seq, key, payload, deliveries FROM netbus.receive_raw('raw', 'c', 2);
SELECT netbus.nack('raw', 'c', 0, 1, E'caf\u00e9 ' || repeat('\u00e9', 60), 'poison'), netbus.nack('raw', 'c', 0, 2, mode => 'poison');
SELECT netbus.ack('raw', 'c');
COMMIT;
BEGIN;
SELECT * FROM netbus.receive('raw', 'c');
ROLLBACK;
BEGIN;
SELECT seq, payload, deliveries FROM netbus.receive_raw('raw', 'c');
SELECT netbus.nack('raw', 'c', 0, 3, mode => 'poison');
SELECT netbus.ack('raw', 'c');
COMMIT;
SELECT letter - 'log' - 'consumer' - 'shard' AS letter FROM letters WHERE letter->>'log' = 'raw';
SELECT netbus.create_log('raw2', format => 'bytea');
SELECT netbus.create_consumer('dead', 'redrive', 'seq:' || netbus.head('dead') - 2);
SELECT netbus.redrive('dead', 'raw2');
SELECT key, payload FROM netbus.read_raw('raw2');
SELECT netbus.drop_consumer('dead', 'redrive');
SELECT netbus.drop_log('raw2');
SELECT * FROM account WHERE log = 'raw';
SELECT netbus.drop_log('raw');
-- What is not persisted yet can be received.
SELECT netbus.create_log('as', durability => 'async');
SELECT netbus.create_consumer('as', 'c', 'earliest');
SELECT publish('as', 1, 5);
BEGIN;
SELECT take('as', 'c', 3, wait => '10 s');
SELECT netbus.ack('as', 'c');
COMMIT;
SELECT take('as', 'c', 3);
SELECT * FROM account WHERE log = 'as';
SELECT netbus.drop_log('as');
-- In memory: what is evicted before it was read is lost, and counted.
SELECT netbus.create_consumer('m', 'c', 'earliest'), netbus.create_consumer('m', 'rare', 'earliest', '{"path": "kind", "value": "rare"}');
SELECT publish('m', 1, 5000);
BEGIN;
SELECT count(*) > 0 AS some, min(seq) > 1 AS late, max(seq), netbus.ack('m', 'c') = count(*) AS acknowledged FROM netbus.receive('m', 'c', 10000);
SELECT netbus.ack('m', 'c') FROM take('m', 'rare', 1);
ROLLBACK;
SELECT consumer, lost > 0 AS lost, balanced FROM account WHERE log = 'm';
BEGIN;
SELECT count(*) > 0 AS some FROM netbus.receive('m', 'c', 10000);
SELECT netbus.ack('m', 'c') > 0 AS some;
SELECT count(*) > 0 AS some FROM netbus.receive('m', 'rare', 10000);
SELECT netbus.ack('m', 'rare') > 0 AS some;
COMMIT;
SELECT consumer, lag, lost > 0 AS lost, filtered > 0 AS filtered, balanced FROM account WHERE log = 'm';
-- Refused, and gone when it is its turn.
SELECT publish('m', 1, 10);
BEGIN;
SELECT take('m', 'c', 3);
SELECT netbus.nack('m', 'c', 0, 5002), netbus.nack('m', 'c', 0, 5003);
SELECT netbus.ack('m', 'c', 0, 5002);
COMMIT;
DO $$ BEGIN FOR i IN 1 .. 20 LOOP PERFORM publish('m', 1, 200); COMMIT; END LOOP; END $$;
BEGIN;
SELECT take('m', 'c');
SELECT count(*) > 0 AS some FROM netbus.receive('m', 'c', 10000);
SELECT netbus.ack('m', 'c') > 0 AS some;
COMMIT;
SELECT consumer, lag, retries, balanced FROM account WHERE log = 'm' AND consumer = 'c';
-- Gone, and passed over, before it is its turn; and one that was settled ahead.
SELECT publish('m', 1, 10);
BEGIN;
SELECT take('m', 'c');
SELECT netbus.nack('m', 'c', 0, 9011, delay => '2 s'), netbus.nack('m', 'c', 0, 9012), netbus.nack('m', 'c', 0, 9013);
COMMIT;
BEGIN;
SELECT take('m', 'c', 2);
SELECT netbus.ack('m', 'c', 0, 9012);
COMMIT;
SELECT retries, lag, balanced FROM account WHERE log = 'm' AND consumer = 'c';
DO $$ BEGIN FOR i IN 1 .. 20 LOOP PERFORM publish('m', 1, 200); COMMIT; END LOOP; END $$;
BEGIN;
SELECT netbus.ack('m', 'c') >= 0 AS taken FROM (SELECT max(seq) FROM netbus.receive('m', 'c', 10000)) r;
COMMIT;
BEGIN;
SELECT netbus.ack('m', 'c') >= 0 AS taken FROM (SELECT max(seq) FROM netbus.receive('m', 'c', 10000)) r;
COMMIT;
BEGIN;
SELECT take('m', 'c', wait => '10 s');
COMMIT;
SELECT consumer, lag, retries, balanced FROM account WHERE log = 'm' AND consumer = 'c';
SELECT netbus.drop_log('m');

--
-- Holding
--
-- In memory, publishers wait for who holds.
SELECT netbus.create_consumer('mb', 'c', 'earliest', hold => 'unlimited'), netbus.create_consumer('mb', 'free', 'earliest');
CREATE FUNCTION fill(log text, first int DEFAULT 1) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	n int := 0;
BEGIN
	FOR i IN first .. first + 4999 LOOP
		PERFORM netbus.publish(log, jsonb_build_object('n', i, 'pad', repeat('x', 100)), transactional => false);
		n := i;
	END LOOP;
	RETURN n;
EXCEPTION WHEN OTHERS THEN
	RAISE NOTICE '%', SQLERRM;
	RETURN n;
END $$;
SET netbus.wait_timeout = '50ms';
SELECT fill('mb') BETWEEN 100 AND 600 AS full;
SELECT netbus.publish('mb', to_jsonb(repeat('x', 1000))); -- at the commit
BEGIN;
SELECT count(*) FROM netbus.receive('mb', 'c', 100);
SELECT netbus.ack('mb', 'c');
SELECT fill('mb', 1000) AS nothing; -- it would wait for itself
ROLLBACK;
SELECT fill('mb', 1000) AS nothing;
BEGIN;
SELECT count(*) FROM netbus.receive('mb', 'c', 100);
SELECT netbus.ack('mb', 'c');
COMMIT;
SELECT fill('mb', 1000) > 1000 AS some;
-- What comes again is held, too.
BEGIN;
SELECT count(*) FROM netbus.receive('mb', 'c', 100);
SELECT netbus.nack('mb', 'c', 0, 150, delay => '1 h');
SELECT netbus.ack('mb', 'c');
COMMIT;
SELECT fill('mb', 2000) > 2000 AS some;
BEGIN;
SELECT count(*) > 0 AS some FROM netbus.receive('mb', 'c', 10000);
SELECT netbus.ack('mb', 'c') > 0 AS some;
COMMIT;
SELECT fill('mb', 3000) > 3000 AS some;
SELECT payload->>'n' FROM netbus.get('mb', 150);
SELECT balanced, lost, retries FROM account WHERE log = 'mb' AND consumer = 'c';
-- Nothing to receive, and yet full: until the consumer moves, or lets go.
SELECT netbus.seek('mb', 'c', 'latest');
SELECT fill('mb', 4000) > 4000 AS some;
BEGIN;
SELECT netbus.alter_consumer('mb', 'c', 'hold', NULL);
SELECT fill('mb', 5000) AS nothing;
ROLLBACK;
SELECT fill('mb', 5000) AS nothing;
BEGIN;
SELECT netbus.alter_consumer('mb', 'c', 'hold', NULL), netbus.alter_consumer('mb', 'c', 'hold', 'unlimited');
COMMIT;
SELECT fill('mb', 5000) AS nothing;
SELECT netbus.alter_consumer('mb', 'c', 'hold', NULL);
SELECT fill('mb', 5000);
-- A hold that was rolled back holds nothing.
BEGIN;
SELECT netbus.alter_consumer('mb', 'c', 'hold', 'unlimited');
SAVEPOINT s;
SELECT netbus.create_consumer('mb', 'd', 'earliest', hold => 'unlimited');
ROLLBACK;
SELECT fill('mb', 5000);
BEGIN;
SELECT netbus.create_consumer('mb', 'd', hold => 'unlimited');
SAVEPOINT s;
SELECT netbus.alter_consumer('mb', 'c', 'hold', 'unlimited');
ROLLBACK TO s;
SELECT netbus.drop_consumer('mb', 'd');
COMMIT;
SELECT fill('mb', 5000);
-- One that is created holds from then on, and one that is dropped no more.
SELECT netbus.create_consumer('mb', 'd', hold => 'unlimited');
SELECT fill('mb', 5000) BETWEEN 5100 AND 5600 AS full;
SELECT netbus.drop_consumer('mb', 'd');
SELECT fill('mb', 5000);
-- What the filter passes over is not held.
SELECT netbus.create_consumer('mb', 'd', hold => 'unlimited', filter => '{"path": "n", "value": 0}');
SELECT fill('mb', 5000) BETWEEN 5100 AND 5600 AS full;
SELECT take('mb', 'd');
SELECT fill('mb', 5000) BETWEEN 5100 AND 5600 AS full;
SELECT netbus.drop_log('mb');
SET netbus.wait_timeout = '10s';
-- Retention waits for who holds, as far as he holds; the others lose, and are told how much.
CREATE PROCEDURE publish_slowly(log text, first int, last int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN first .. last BY 20 LOOP
		PERFORM netbus.publish(log, jsonb_build_object('n', n, 'pad', repeat('x', 1000))) FROM generate_series(i, i + 19) n;
		COMMIT;
		PERFORM pg_sleep(0.21);
	END LOOP;
END $$;
CREATE PROCEDURE eventually(condition text) LANGUAGE plpgsql AS $$
DECLARE
	holds boolean;
BEGIN
	FOR i IN 1 .. 1500 LOOP
		EXECUTE 'SELECT ' || condition INTO holds;
		COMMIT;
		IF holds THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.02);
	END LOOP;
	RAISE WARNING 'never: %', condition;
END $$;
CREATE FUNCTION retained(log text) RETURNS bigint LANGUAGE sql AS $$ SELECT sum(retained)::bigint FROM netbus.stat_log s WHERE s.log = $1 $$;
-- A consumer that was created and rolled back, to a savepoint, holds nothing.
SELECT netbus.create_log('rs', retention_events => 30, ring_size => '64kB');
BEGIN;
SAVEPOINT s;
SELECT netbus.create_consumer('rs', 'c', 'earliest', hold => 'unlimited');
ROLLBACK TO s;
SELECT pg_sleep(0.3);
COMMIT;
CALL publish_slowly('rs', 1, 200);
CALL eventually($$ retained('rs') < 200 $$);
SELECT netbus.drop_log('rs');
SELECT netbus.create_log('r', retention_events => 30, ring_size => '64kB');
SELECT netbus.create_consumer('r', 'unlimited', 'earliest', hold => 'unlimited'), netbus.create_consumer('r', 'some', 'earliest', hold => '100kB'), netbus.create_consumer('r', 'none', 'earliest');
CALL publish_slowly('r', 1, 200);
SELECT retained('r'), retention_holds > 0 AS holds FROM netbus.stat_log WHERE log = 'r';
BEGIN;
SELECT count(*), min(seq), max(seq) FROM netbus.receive('r', 'unlimited', 100);
SELECT netbus.nack('r', 'unlimited', 0, 90, delay => '1 h');
SELECT netbus.ack('r', 'unlimited');
COMMIT;
CALL eventually($$ retained('r') < 200 $$);
SELECT retained('r') >= 111 AS held;
BEGIN;
SELECT count(*) FROM netbus.receive('r', 'unlimited', 1000);
SELECT netbus.ack('r', 'unlimited');
COMMIT;
SELECT netbus.alter_consumer('r', 'unlimited', 'hold', NULL);
-- Some is up to 100 kB and a segment.
CALL eventually($$ retained('r') < 111 $$);
SELECT retained('r') >= 30 AS retained;
BEGIN;
SELECT count(*) BETWEEN 30 AND 111 AS rest, max(seq) FROM netbus.receive('r', 'none', 1000);
SELECT netbus.ack('r', 'none') > 0 AS some;
COMMIT;
SELECT consumer, retries, lost > 0 AS lost, balanced FROM account WHERE log = 'r' AND consumer <> 'some';
SELECT netbus.drop_consumer('r', 'some');
CALL publish_slowly('r', 201, 300);
CALL eventually($$ retained('r') < 60 $$);
BEGIN;
SELECT count(*) BETWEEN 30 AND 60 AS rest FROM netbus.receive('r', 'none', 1000);
SELECT netbus.ack('r', 'none') > 0 AS some;
COMMIT;
SELECT consumer, lag, retries, balanced FROM account WHERE log = 'r' AND consumer = 'none';
SELECT netbus.drop_log('r');

--
-- Rights
--
CREATE ROLE regress_netbus_nobody;
CREATE ROLE regress_netbus_reader IN ROLE netbus_reader;
CREATE ROLE regress_netbus_team IN ROLE netbus_reader;
CREATE ROLE regress_netbus_member IN ROLE regress_netbus_team;
CREATE ROLE regress_netbus_admin IN ROLE netbus_admin;
SELECT netbus.create_log('p'), netbus.create_log('p_dead');
SELECT publish('p', 1, 10);
GRANT USAGE ON SCHEMA netbus TO regress_netbus_nobody;
SET ROLE regress_netbus_nobody;
SELECT netbus.create_consumer('p', 'c');
SELECT * FROM netbus.receive('p', 'c');
SELECT netbus.ack('p', 'c');
SELECT * FROM netbus.stat_consumer;
SET ROLE regress_netbus_reader;
SELECT netbus.create_consumer('p', 'c');
SELECT netbus.redrive('p_dead', 'p');
RESET ROLE;
GRANT SELECT ON netbus.log_p TO regress_netbus_reader, regress_netbus_team, regress_netbus_admin;
SET ROLE regress_netbus_team;
SELECT netbus.create_consumer('p', 'c', 'earliest', dead_letter_log => 'p_dead');
RESET ROLE;
GRANT INSERT ON netbus.log_p_dead TO regress_netbus_team;
SET ROLE regress_netbus_team;
SELECT netbus.create_consumer('p', 'c', 'earliest', max_deliveries => 1, dead_letter_log => 'p_dead');
-- Others may work for it, and no more.
SET ROLE regress_netbus_reader;
SELECT owner, position_seq, lag FROM netbus.stat_consumer WHERE log = 'p';
BEGIN;
SELECT count(*) FROM netbus.receive('p', 'c', 3);
SELECT netbus.nack('p', 'c', 0, 1, 'bad', 'poison');
SELECT netbus.nack('p', 'c', 0, 2);
SELECT netbus.ack('p', 'c');
COMMIT;
SELECT count(*) FROM netbus.read('p_dead');
SELECT netbus.publish('p_dead', '1');
SELECT netbus.seek('p', 'c', 'earliest');
SELECT netbus.pause('p', 'c');
SELECT netbus.resume('p', 'c');
SELECT netbus.alter_consumer('p', 'c', 'hold', '1MB');
SELECT netbus.drop_consumer('p', 'c');
SELECT netbus.drop_consumer('p', 'c', true);
SELECT netbus.create_consumer('p', 'c', if_not_exists => true);
-- Members of the owner, and admins, may.
SET ROLE regress_netbus_member;
SELECT netbus.pause('p', 'c');
SET ROLE regress_netbus_admin;
SELECT netbus.resume('p', 'c');
SELECT netbus.alter_consumer('p', 'c', 'hold', '1MB');
SELECT netbus.alter_consumer('p', 'c', 'dead_letter_log', 'p_dead'); -- whose own right it is
SELECT netbus.create_consumer('p', 'a'), netbus.drop_consumer('p', 'a');
RESET ROLE;
SELECT count(*), current_user = session_user AS back FROM netbus.read('p_dead');
-- Nobody reads without the right on the log, whosever the consumer is.
REVOKE SELECT ON netbus.log_p FROM regress_netbus_team;
SET ROLE regress_netbus_team;
SELECT * FROM netbus.receive('p', 'c');
SELECT netbus.seek('p', 'c', 'earliest');
SELECT netbus.drop_consumer('p', 'c');
RESET ROLE;
GRANT SELECT ON netbus.log_p TO regress_netbus_team;
-- The owner may not publish there any more: an event cannot be set aside, and comes once more.
REVOKE INSERT ON netbus.log_p_dead FROM regress_netbus_team;
SET ROLE regress_netbus_reader;
BEGIN;
SELECT count(*) FROM netbus.receive('p', 'c', 1);
SAVEPOINT s;
SELECT netbus.nack('p', 'c', 0, 4, 'bad', 'poison');
ROLLBACK TO s;
SELECT current_user;
ROLLBACK;
BEGIN;
SELECT seq, deliveries FROM netbus.receive('p', 'c');
ROLLBACK;
RESET ROLE;
GRANT INSERT ON netbus.log_p_dead TO regress_netbus_team;
SET ROLE regress_netbus_reader;
BEGIN;
SELECT min(seq), max(seq) FROM netbus.receive('p', 'c');
SELECT netbus.ack('p', 'c');
COMMIT;
RESET ROLE;
SELECT payload->>'seq' AS seq, payload->>'reason' AS reason FROM netbus.read('p_dead');
SELECT * FROM account WHERE log = 'p';
-- Nor can it when the log is gone.
SELECT publish('p', 11, 12);
SELECT netbus.drop_log('p_dead');
BEGIN;
SELECT count(*) FROM netbus.receive('p', 'c', 1);
SAVEPOINT s;
SELECT netbus.nack('p', 'c', 0, 11);
ROLLBACK;
BEGIN;
SELECT seq, deliveries FROM netbus.receive('p', 'c');
SELECT netbus.ack('p', 'c');
COMMIT;
SELECT netbus.alter_consumer('p', 'c', 'max_deliveries', NULL);
SELECT netbus.alter_consumer('p', 'c', 'dead_letter_log', NULL);
SELECT * FROM account WHERE log = 'p';
SELECT netbus.drop_log('p');
DROP OWNED BY regress_netbus_nobody, regress_netbus_reader, regress_netbus_team, regress_netbus_member, regress_netbus_admin;
DROP ROLE regress_netbus_nobody, regress_netbus_reader, regress_netbus_team, regress_netbus_member, regress_netbus_admin;

-- A row that was restored may be anything: one of other shards than the log has is refused.
SELECT netbus.create_log('odd', shards => 2);
SELECT netbus.create_consumer('odd', 'good', 'earliest');
INSERT INTO netbus.catalog_consumer (log, consumer, id, owner, starts, paused)
	SELECT log, name, id + n, owner, v.starts, false FROM netbus.catalog_consumer, (VALUES ('few', 1, '{0}'::bigint[]), ('many', 2, '{0,0,0}')) v (name, n, starts) WHERE consumer = 'good';
SELECT netbus.receive('odd', 'few');
SELECT netbus.receive('odd', 'many');
SELECT netbus.seek('odd', 'few', 'latest');
SELECT consumer, shard, position_seq FROM netbus.stat_consumer WHERE log = 'odd' ORDER BY 1, 2;
DELETE FROM netbus.catalog_consumer WHERE consumer IN ('few', 'many');
SELECT netbus.drop_log('odd');

SELECT netbus.drop_log(log) FROM netbus.logs ORDER BY log;
SELECT count(*) FROM netbus.catalog_consumer;
DROP VIEW unbalanced, account, letters, options;
DROP FUNCTION publish, take, fill, retained, receive_late;
DROP PROCEDURE work, eventually, publish_slowly;
RESET netbus.wait_timeout;
