--
-- Several members that wait at once (which the isolation tester cannot watch)
--
-- Each has a connection of its own.
CREATE EXTENSION dblink;
SELECT netbus.create_log('l'), netbus.create_log('four', shards => 4, durability => 'memory');
SELECT netbus.create_consumer('l', 'c', 'earliest'), netbus.create_consumer('four', 'c', 'earliest');
SELECT count(dblink_connect(c, format('dbname=%s application_name=%s', current_database(), c))) FROM unnest('{a,b,c,d}'::text[]) c;
-- The events of a receive(), acknowledged.
CREATE FUNCTION take(log text, max_events int, wait interval, OUT events text, OUT soon bool) LANGUAGE plpgsql AS $$
BEGIN
	SELECT string_agg(payload #>> '{}', ' ' ORDER BY seq) INTO events FROM netbus.receive(log, 'c', max_events, wait);
	PERFORM netbus.ack(log, 'c');
	soon := clock_timestamp() - statement_timestamp() < '20 s';
END $$;
CREATE FUNCTION do_now(c text, statement text) RETURNS text LANGUAGE sql AS $$ SELECT dblink_exec(c, statement) $$;
CREATE FUNCTION begin_take(c text, max_events int DEFAULT 1, log text DEFAULT 'l') RETURNS int LANGUAGE sql AS $$
	SELECT dblink_send_query(c, format('SELECT * FROM take(%L, %s, %L)', log, max_events, '40 s'))
$$;
-- Until so many members of the log's consumer sleep.
CREATE FUNCTION asleep(n int, log text DEFAULT 'l') RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 1500 LOOP
		PERFORM pg_stat_clear_snapshot();
		IF n = (SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('a', 'b', 'c', 'd') AND query LIKE '%FROM take(%' AND state = 'active' AND wait_event_type = 'Extension')
			AND n = (SELECT max(waiting) FROM netbus.stat_consumer s WHERE s.log = $2) THEN
			RETURN true;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN false;
END $$;
CREATE FUNCTION result(c text) RETURNS TABLE (events text, soon bool) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT * FROM dblink_get_result(c, false) AS r(events text, soon bool);
	PERFORM * FROM dblink_get_result(c, false) AS r(events text, soon bool);
END $$;
-- The results of several, of whom it is not known which has what.
CREATE FUNCTION results(VARIADIC connections text[]) RETURNS TABLE (events text, soon bool) LANGUAGE sql AS $$
	SELECT r.* FROM unnest(connections) c, result(c) r ORDER BY 1
$$;
CREATE FUNCTION signal(c text, kill bool DEFAULT false) RETURNS bool LANGUAGE sql AS $$
	SELECT CASE WHEN kill THEN pg_terminate_backend(pid) ELSE pg_cancel_backend(pid) END FROM pg_stat_activity WHERE application_name = c
$$;

-- Each event wakes one, and one who waits has it.
SELECT begin_take('a'), begin_take('b'), asleep(2);
SELECT netbus.publish('l', '1');
SELECT asleep(1);
SELECT netbus.publish('l', '2');
SELECT * FROM results('a', 'b');
-- A batch, of which each takes one and leaves the rest to the next.
SELECT begin_take('a'), begin_take('b'), begin_take('c'), asleep(3);
SELECT netbus.publish_batch('l', '[3, 4, 5]'::jsonb);
SELECT * FROM results('a', 'b', 'c');
-- Several shards at once.
SELECT begin_take('a', 100, 'four'), begin_take('b', 100, 'four'), begin_take('c', 100, 'four'), asleep(3, 'four');
SELECT count(netbus.publish('four', to_jsonb(i), i::text)) FROM generate_series(1, 40) i;
SELECT count(*), bool_and(soon) AS soon, bool_and(events <> '') AS some FROM results('a', 'b', 'c');
SELECT sum(acknowledged + lag) FROM netbus.stat_consumer WHERE log = 'four';
-- Whoever stops waiting passes on what he was to look for, and what he was woken for.
SELECT begin_take('a'), asleep(1);
SELECT begin_take('b'), asleep(2);
SELECT signal('a'), asleep(1);
SELECT * FROM result('a');
SELECT netbus.publish('l', '6');
SELECT * FROM result('b');
SELECT begin_take('a'), asleep(1);
SELECT begin_take('b'), asleep(2);
SELECT begin_take('c'), asleep(3);
SELECT signal('b'), asleep(2);
SELECT * FROM result('b');
SELECT netbus.publish('l', '7');
SELECT netbus.publish('l', '8');
SELECT * FROM results('a', 'c');
-- Woken and cancelled at the same time.
CREATE PROCEDURE race(first int, last int) LANGUAGE plpgsql AS $$
DECLARE
	had text;
	n int := 0;
BEGIN
	FOR i IN first .. last LOOP
		PERFORM begin_take('a');
		PERFORM asleep(1);
		PERFORM begin_take('b');
		PERFORM asleep(2);
		PERFORM netbus.publish('l', to_jsonb(i));
		COMMIT;
		PERFORM signal('a');
		SELECT string_agg(events, '') INTO had FROM result('a');
		IF had = i::text THEN
			-- It was faster; the other one waits on.
			PERFORM asleep(1);
			PERFORM netbus.publish('l', to_jsonb(-i));
			COMMIT;
		ELSIF had IS NOT NULL THEN
			RAISE WARNING 'event % and not %', had, i;
		END IF;
		SELECT string_agg(events, '') || CASE WHEN bool_and(soon) THEN '' ELSE ' late' END INTO had FROM result('b');
		IF had NOT IN (i::text, (-i)::text) OR had IS NULL THEN
			RAISE WARNING 'event % and not %', had, i;
		END IF;
		n := n + 1;
	END LOOP;
	RAISE WARNING '% times', n;
END $$;
SET client_min_messages = warning;
CALL race(101, 130);
RESET client_min_messages;
SELECT lag, retries, waiting FROM netbus.stat_consumer WHERE log = 'l';
-- The one who looks out is killed.
SELECT begin_take('a'), asleep(1);
SELECT begin_take('b'), asleep(2);
SELECT signal('a', true), asleep(1);
SELECT netbus.publish('l', '9');
SELECT * FROM result('b');
SELECT dblink_disconnect('a');
SELECT dblink_connect('a', format('dbname=%s application_name=a', current_database()));
-- Somebody has the shard: at the end of his transaction one gets it, and another one waits on.
SELECT netbus.publish('l', '10');
SELECT do_now('d', 'BEGIN');
SELECT count(*) FROM dblink('d', $$SELECT seq FROM netbus.receive('l', 'c')$$) AS r(seq bigint);
SELECT begin_take('a'), begin_take('b'), asleep(2);
SELECT do_now('d', 'ROLLBACK');
SELECT asleep(1);
SELECT netbus.publish('l', '11');
SELECT * FROM results('a', 'b');
SELECT netbus.publish_batch('l', '[12, 13, 14]'::jsonb);
SELECT do_now('d', 'BEGIN');
SELECT r.* FROM dblink('d', $$SELECT * FROM take('l', 1, '0')$$) AS r(events text, soon bool);
SELECT begin_take('a'), begin_take('b'), asleep(2);
SELECT do_now('d', 'COMMIT');
SELECT * FROM results('a', 'b');
-- Killed at work: it has failed once, and is free.  (How many were handed out again in the race above is not known.)
SELECT redeliveries AS before FROM netbus.stat_consumer WHERE log = 'l' \gset
SELECT netbus.publish('l', '15');
SELECT do_now('d', 'BEGIN');
SELECT r.* FROM dblink('d', $$SELECT * FROM take('l', 1, '0')$$) AS r(events text, soon bool);
SELECT begin_take('a'), begin_take('b'), asleep(2);
SELECT signal('d', true), asleep(1);
SELECT netbus.publish('l', '16');
SELECT * FROM results('a', 'b');
SELECT redeliveries - :before AS redeliveries FROM netbus.stat_consumer WHERE log = 'l';
SELECT dblink_disconnect('d');
SELECT dblink_connect('d', format('dbname=%s application_name=d', current_database()));
-- Paused, they wait on; then all may have something.
SELECT netbus.pause('l', 'c'), netbus.publish_batch('l', '[17, 18]'::jsonb);
SELECT begin_take('a'), begin_take('b'), asleep(2);
SELECT netbus.resume('l', 'c');
SELECT * FROM results('a', 'b');
-- All are told when it is dropped.
SELECT begin_take('a'), begin_take('b'), asleep(2);
SELECT netbus.drop_consumer('l', 'c');
SELECT * FROM result('a');
SELECT * FROM result('b');
SELECT netbus.create_consumer('l', 'c');
SELECT waiting FROM netbus.stat_consumer WHERE log = 'l';
-- What comes again wakes who waits, when it is due.
SELECT netbus.publish('l', '19');
SELECT do_now('d', 'BEGIN');
SELECT r.* FROM dblink('d', $$SELECT netbus.nack('l', 'c', shard, seq, delay => '0.3 s') FROM netbus.receive('l', 'c')$$) AS r(again bool);
SELECT netbus.publish('l', '20');
SELECT begin_take('a'), begin_take('b'), asleep(2);
SELECT do_now('d', 'COMMIT');
SELECT * FROM results('a', 'b');
-- Events whose claims are pending wake nobody before they are resolved. (Needs the debug points.)
SELECT do_now('c', 'BEGIN'), do_now('c', $$SET LOCAL netbus.debug_point = 'claimed:wait'$$);
SELECT * FROM dblink('c', $$SELECT netbus.publish('l', '21')$$) AS r(published bool);
SELECT dblink_send_query('c', 'COMMIT');
SELECT begin_take('a', 10), asleep(1);
SELECT netbus.publish('l', '22');
SELECT pg_sleep(0.1), asleep(1);
COPY (SELECT) TO PROGRAM 'cat >/dev/null; touch netbus_debug_continue';
SELECT * FROM result('a');
SELECT * FROM dblink_get_result('c') AS r(status text);
COPY (SELECT) TO PROGRAM 'cat >/dev/null; rm netbus_debug_continue';
SELECT lag, retries, waiting FROM netbus.stat_consumer WHERE log = 'l';

SELECT count(dblink_disconnect(c)) FROM unnest('{a,b,c,d}'::text[]) c;
SELECT netbus.drop_log('l'), netbus.drop_log('four');
DROP EXTENSION dblink;
DROP PROCEDURE race;
DROP FUNCTION take, do_now, begin_take, asleep, result, results, signal;
