--
-- Retention and purge: what goes, what stays, and what readers and counters say of it
--
CREATE VIEW counters AS
	SELECT log, shard, accepted, expired, evicted, aborted, retained, floor_seq, stable_seq, retention_holds AS holds,
		offered = accepted + rejected + sampled_out AND accepted = retained + expired + evicted + aborted AS identities
	FROM netbus.stat_log ORDER BY log, shard;
-- Events of a kilobyte, in transactions of some, with time for the worker to look in between.
CREATE PROCEDURE publish(log text, first int, last int, at_once int DEFAULT 1000000, pause float8 DEFAULT 0) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN first .. last BY at_once LOOP
		PERFORM netbus.publish(log, jsonb_build_array(n, repeat('x', 1000)), 'key ' || n) FROM generate_series(i, least(last, i + at_once - 1)) n;
		COMMIT;
		PERFORM pg_sleep(pause);
	END LOOP;
END $$;
-- The worker does something soon.
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
-- What can be read of all shards.
CREATE FUNCTION readable(log text) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM netbus.logs l, generate_series(0, shards - 1) s, netbus.read_raw(l.log, shard => s, max_events => 1000000) WHERE l.log = $1
$$;
SET netbus.wait_timeout = '10s';

-- By events: the limit and up to a sixth more, besides what comes between two looks.
SELECT netbus.create_log('e', retention_events => 60, ring_size => '64kB');
CALL publish('e', 1, 60);
SELECT retained('e'), readable('e');
-- All of them in one segment; the others have to have as many before it goes.
CALL publish('e', 61, 260, 10, 0.21);
CALL eventually($$ retained('e') <= 70 + 10 $$);
SELECT retained('e') BETWEEN 60 AND 90 AS limited, readable('e') = retained('e') AS readable, accepted, retained + expired = accepted AS sum, identities FROM counters WHERE log = 'e';
SELECT min((payload ->> 0)::int) = 261 - count(*) AS newest, max((payload ->> 0)::int), bool_and((payload ->> 0)::int = seq) AS right_one, min(seq) = min(floor_seq) AS floor
FROM netbus.read('e'), counters WHERE log = 'e';
-- Who was behind is told so; who asks for what there is, is not; get knows nothing of it.
SELECT floor_seq AS floor FROM counters WHERE log = 'e' \gset
SELECT count(*) = 261 - :floor AS all_there FROM netbus.read('e');
\set VERBOSITY sqlstate
SELECT count(*) = 261 - :floor AS all_there FROM netbus.read('e', 1);
SELECT count(*) = 5 AND min(seq) = :floor AS all_there FROM netbus.tail('e', :floor - 2, max_events => 5);
SELECT count(*) = 261 - :floor AS all_there FROM netbus.read('e', :floor - 1);
\set VERBOSITY default
SELECT count(*) FROM netbus.get('e', 1);
SELECT count(*) FROM netbus.get('e', :floor - 1);
SELECT seq = :floor AS first FROM netbus.get('e', :floor);
-- Nothing of it was deleted, and no table holds what is gone.
SELECT sum(events) <= 90 AS gone, count(DISTINCT tableoid) BETWEEN 2 AND 8 AS segments FROM netbus.log_e;
SELECT count(*) FROM ONLY netbus.log_e;

-- A filled log: another limit shows when it is used next, none at all keeps everything from then on.
SELECT netbus.alter_log('e', 'retention_events', '20');
CALL publish('e', 261, 300, 2, 0.21);
CALL eventually($$ retained('e') <= 30 $$);
SELECT retained('e') >= 20 AS limited, readable('e') = retained('e') AS readable, identities FROM counters WHERE log = 'e';
SELECT netbus.alter_log('e', 'retention_events', NULL);
SELECT retained('e') AS before \gset
CALL publish('e', 301, 500, 50, 0.1);
SELECT pg_sleep(0.5);
SELECT retained('e') - :before AS more, readable('e') = retained('e') AS readable, holds, identities FROM counters WHERE log = 'e';
SELECT netbus.drop_log('e');
-- The first limit of a log that has none.
SELECT netbus.create_log('f', ring_size => '64kB');
CALL publish('f', 1, 200);
SELECT netbus.alter_log('f', 'retention_events', '50');
CALL eventually($$ retained('f') = 200 $$); -- the worker counts what was moved
SELECT retained('f'), readable('f') FROM counters WHERE log = 'f';
CALL publish('f', 201, 300, 10, 0.21);
CALL eventually($$ retained('f') <= 80 $$);
SELECT retained('f') >= 50 AS limited, readable('f') = retained('f') AS readable, holds, identities FROM counters WHERE log = 'f';
SELECT netbus.drop_log('f');

-- By size, of an async log with several shards: all tables together, indexes and all.
SELECT netbus.create_log('s', shards => 3, durability => 'async', ring_size => '64kB', retention_size => '2MB');
CALL publish('s', 1, 6000, 100, 0.05);
SELECT netbus.flush('s');
CALL eventually($$ (SELECT table_bytes < 4 * 1024 * 1024 FROM netbus.logs WHERE log = 's') $$);
SELECT table_bytes > 2 * 1024 * 1024 AS at_least, table_bytes < 4 * 1024 * 1024 AS at_most, retained('s') BETWEEN 1000 AND 4000 AS limited,
	readable('s') = retained('s') AS readable FROM netbus.logs WHERE log = 's';
SELECT shard, identities, expired > 0 AS expired, (SELECT min(seq) FROM netbus.read('s', shard => c.shard)) = floor_seq AS floor FROM counters c WHERE log = 's';
SELECT netbus.drop_log('s');

-- By age, also if nobody uses the log; by whichever limit is reached first.
SELECT netbus.create_log('t', shards => 2, retention_age => '1.5 s', retention_events => 1000000);
SELECT clock_timestamp() AS start \gset
CALL publish('t', 1, 100);
SELECT pg_sleep(0.8);
SELECT retained('t');
CALL eventually($$ retained('t') = 0 $$);
SELECT clock_timestamp() - :'start'::timestamptz > '1.5 s' AS not_before, clock_timestamp() - :'start'::timestamptz < '12 s' AS not_long_after;
SELECT readable('t');
SELECT shard, expired = accepted AS expired, floor_seq = stable_seq + 1 AS floor, identities FROM counters WHERE log = 't';
CALL publish('t', 101, 110);
SELECT retained('t'), readable('t');
SELECT netbus.drop_log('t');

-- A cursor that streams holds the segment that it is in: that goes once the cursor has left it.
SELECT netbus.create_log('h', retention_events => 60, ring_size => '64kB');
CALL publish('h', 1, 70, 70);
CALL publish('h', 71, 80, 10, 0.21);
BEGIN;
DECLARE c CURSOR FOR SELECT (r).seq, (r).payload ->> 0 AS n FROM (SELECT netbus.read('h', 0, max_events => 1000000) AS r OFFSET 0) s;
FETCH 2 FROM c;
-- Others go on.
\setenv PGDATABASE :DBNAME
\! psql -X -q -c "CALL publish('h', 81, 200, 10, 0.21)" -c "CALL eventually('retained(''h'') <= 90')" -c "CALL eventually('(SELECT holds > 0 FROM counters WHERE log = ''h'')')"
SELECT retained BETWEEN 60 AND 90 AS limited, holds > 0 AS holds, floor_seq > 100 AS floor, identities FROM counters WHERE log = 'h';
-- New readers see nothing of it, and this one reads on in order.
SELECT readable('h') = retained('h') AS readable;
CREATE TEMP TABLE seen (at serial, seq bigint, n int);
DO $$
DECLARE
	c refcursor := 'c';
	r record;
BEGIN
	LOOP
		FETCH c INTO r;
		EXIT WHEN NOT FOUND;
		INSERT INTO seen (seq, n) VALUES (r.seq, r.n::int);
	END LOOP;
END $$;
SELECT min(seq), max(seq), count(*) = count(DISTINCT seq) AS once, bool_and(seq = n) AS right_one, array_agg(seq ORDER BY at) = array_agg(seq ORDER BY seq) AS in_order FROM seen;
CLOSE c;
COMMIT;
CALL eventually('(SELECT holds = 0 FROM counters WHERE log = ''h'')');
SELECT sum(events) = retained('h') AS truncated FROM netbus.log_h;
-- Closed early.
BEGIN;
DECLARE c CURSOR FOR SELECT (netbus.read('h', max_events => 1000)).seq;
FETCH 1 FROM c \gset
\! psql -X -q -c "CALL publish('h', 201, 300, 10, 0.21)" -c "CALL eventually('(SELECT holds > 0 FROM counters WHERE log = ''h'')')"
CLOSE c;
\! psql -X -q -c "CALL eventually('(SELECT holds = 0 FROM counters WHERE log = ''h'')')"
COMMIT;
SELECT sum(events) = retained('h') AS truncated FROM netbus.log_h;
SELECT netbus.drop_log('h');

-- purge: everything,
SELECT netbus.create_log('p', shards => 2, ring_size => '64kB'), netbus.create_log('pa', durability => 'async', ring_size => '64kB', flush_interval => '60 s'),
	netbus.create_log('pr', retention_events => 1000000, ring_size => '64kB');
CREATE VIEW purged(log) AS VALUES ('p'), ('pa'), ('pr');
CALL publish('p', 1, 200, 20);
CALL publish('pa', 1, 200, 20);
CALL publish('pr', 1, 200, 20);
-- not when that is rolled back,
BEGIN;
SELECT log, netbus.purge(log) FROM purged;
SELECT log, netbus.purge(log) FROM purged;
ROLLBACK;
SELECT log, retained(log), readable(log) FROM purged;
SELECT DISTINCT expired, identities FROM counters;
-- nor by somebody else,
CREATE ROLE regress_netbus_purger IN ROLE netbus_admin;
GRANT ALL ON netbus.log_p TO regress_netbus_purger;
SET ROLE regress_netbus_purger;
SELECT netbus.purge('p');
SELECT netbus.purge('pa');
RESET ROLE;
-- nor where it could be taken back in part, nor read-only;
BEGIN;
SAVEPOINT s;
SELECT netbus.purge('p');
ROLLBACK;
DO $$ BEGIN PERFORM netbus.purge('p'); EXCEPTION WHEN division_by_zero THEN NULL; END $$;
BEGIN READ ONLY;
SELECT netbus.purge('p');
ROLLBACK;
SELECT netbus.purge('nothing');
SELECT netbus.purge(NULL);
SELECT log, netbus.purge(log) FROM purged;
SELECT log, retained(log), readable(log), netbus.purge(log) FROM purged;
SELECT log, expired = accepted AS expired, floor_seq = stable_seq + 1 AS floor, identities FROM counters;
\set VERBOSITY sqlstate
SELECT payload FROM netbus.read('pa', 10);
SELECT payload FROM netbus.read('pr', 200);
\set VERBOSITY default
CALL publish('p', 201, 210);
CALL publish('pa', 201, 210);
CALL publish('pr', 201, 210);
SELECT log, retained(log), readable(log) FROM purged;
SELECT payload ->> 0 AS n, seq FROM netbus.read('pr') LIMIT 1;
-- with what the same transaction has published left alone;
BEGIN;
SELECT netbus.publish('pr', '["mine"]');
SELECT netbus.purge('pr');
COMMIT;
SELECT payload FROM netbus.read('pr');
SELECT retained, expired, identities FROM counters WHERE log = 'pr';
-- up to a time, in whole rows.
SELECT pg_sleep(0.01);
SELECT clock_timestamp() AS before, pg_sleep(0.01) \gset
CALL publish('p', 211, 230, 5);
CALL publish('pa', 211, 230, 5);
CALL publish('pr', 211, 230, 5);
SELECT log, netbus.purge(log, '-infinity') AS none, netbus.purge(log, '2020-01-01') AS none FROM purged;
SELECT log, netbus.purge(log, :'before') FROM purged WHERE log <> 'pa';
SELECT n BETWEEN 0 AND 10 AS whole_rows FROM netbus.purge('pa', :'before') n;
SELECT log, retained(log) BETWEEN 20 AND 30 AS retained, readable(log) = retained(log) AS readable, (SELECT bool_and(identities) FROM counters c WHERE c.log = p.log) AS identities FROM purged p;
SELECT count(*) FROM netbus.read('pr') WHERE ts < :'before';
SELECT log, netbus.purge(log, 'infinity') > 0 AS rest FROM purged;
SELECT log, readable(log), retained(log) FROM purged;
-- Twice in one statement: the second finds nothing.
CALL publish('p', 231, 240);
SELECT netbus.purge('p') FROM generate_series(1, 2);
SELECT netbus.drop_log(log) FROM purged;
-- A memory log is purged as a whole, and at once.
SELECT netbus.create_log('pm', durability => 'memory');
CALL publish('pm', 1, 20);
SELECT netbus.purge('pm', now());
BEGIN;
SELECT netbus.purge('pm');
ROLLBACK;
SELECT readable('pm'), retained, expired, identities FROM counters;
BEGIN;
SAVEPOINT s;
SELECT netbus.purge('pm');
ROLLBACK;
SELECT netbus.drop_log('pm');

DROP ROLE regress_netbus_purger;
DROP VIEW purged, counters;
DROP FUNCTION retained, readable;
DROP PROCEDURE publish, eventually;
