-- What the demonstration needs beside netbus: the parsed entries, and a place
-- for what the tailing sessions and the stop watch have to say.

CREATE EXTENSION netbus;

CREATE TABLE entry_line (n int GENERATED ALWAYS AS IDENTITY, line text);
CREATE TABLE entry (n int PRIMARY KEY, line text, doc jsonb, package text, date timestamptz, month date);
CREATE INDEX ON entry (month);
CREATE TABLE arrived (shard int, seq bigint, package text, date timestamptz, delay interval);
CREATE TABLE all_published (at timestamptz);
CREATE TABLE rate (what text, log text, events bigint, bytes bigint, seconds float8);
CREATE TABLE stored (what text, events bigint, payload bigint, seconds float8, disk bigint, wal numeric);

-- Rows and events of the same transactions, for the crash.
CREATE TABLE account (n int PRIMARY KEY, package text);
CREATE TABLE acknowledged (n int);

-- Publish the entries as they happened: the entries of a month are a
-- transaction. Slowly enough that there is something to follow.
CREATE PROCEDURE replay(pause float8) LANGUAGE plpgsql AS $$
DECLARE
	this_month date;
BEGIN
	FOR this_month IN SELECT DISTINCT month FROM entry ORDER BY month LOOP
		PERFORM netbus.publish('changelog', doc, key => package)
			FROM (SELECT doc, package FROM entry WHERE month = this_month ORDER BY n) e;
		COMMIT;
		PERFORM pg_sleep(pause);
	END LOOP;
	INSERT INTO all_published VALUES (now());
END $$;

-- A consumer of one shard, in SQL: wait for events, store them, remember how
-- far we are. Reports the first event of every 16th year.
CREATE PROCEDURE follow(my_shard int) LANGUAGE plpgsql AS $$
DECLARE
	last_seq bigint := 0;
	report int := 1996 + 4 * my_shard;
	got int;
	e record;
	last_round bool;
BEGIN
	LOOP
		SELECT count(*) > 0 INTO last_round FROM all_published;
		got := 0;
		FOR e IN SELECT t.*, (payload->>'date')::timestamptz AS date, clock_timestamp() - ts AS delay
				FROM netbus.tail('changelog', last_seq, shard => my_shard, wait => '500 ms') t LOOP
			INSERT INTO arrived VALUES (e.shard, e.seq, e.key, e.date, e.delay);
			last_seq := e.seq;
			got := got + 1;
			IF extract(year FROM e.date) >= report THEN
				RAISE NOTICE 'shard %  seq %  %  %  % ms after it was published', my_shard, lpad(e.seq::text, 5),
					to_char(e.date, 'YYYY-MM-DD'), rpad(left(e.key || ' ' || (e.payload->>'version'), 38), 38),
					to_char(extract(epoch FROM e.delay) * 1000, 'FM9990.00');
				report := extract(year FROM e.date)::int + 16;
			END IF;
		END LOOP;
		COMMIT;
		EXIT WHEN got = 0 AND last_round;
	END LOOP;
END $$;

-- Run a query that returns a number of events, commit, and note how long it took.
CREATE PROCEDURE timed(what text, log text, query text) LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz := clock_timestamp();
	events bigint;
	stopped timestamptz;
BEGIN
	EXECUTE query INTO events;
	COMMIT;
	stopped := clock_timestamp();
	INSERT INTO rate SELECT what, log, events, sum(octet_length(line)), extract(epoch FROM stopped - started) FROM entry;
END $$;

-- Likewise for one that fills a log or a table which was empty: what it takes on disk and in the WAL.
CREATE PROCEDURE store(what text, relation regclass, query text) LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz := clock_timestamp();
	before pg_lsn := pg_current_wal_insert_lsn();
	events bigint;
	stopped timestamptz;
BEGIN
	EXECUTE query INTO events;
	COMMIT;
	stopped := clock_timestamp();
	INSERT INTO stored SELECT what, events, sum(length(payload)), extract(epoch FROM stopped - started),
		pg_total_relation_size(relation), pg_current_wal_insert_lsn() - before FROM small;
END $$;

-- The newest entry of each package as a memory, which the next one replaces: the entries of a month
-- are a transaction.
CREATE PROCEDURE store_newest(pause float8) LANGUAGE plpgsql AS $$
DECLARE
	this_month date;
BEGIN
	CREATE TEMP TABLE package_id AS SELECT package, min(n) AS id FROM entry GROUP BY package;
	FOR this_month IN SELECT DISTINCT month FROM entry ORDER BY month LOOP
		PERFORM netbus.memory_store(doc->>'version', ARRAY[doc->>'urgency'], package, id => id, model => 'newest')
			FROM (SELECT doc, package, id FROM entry JOIN package_id USING (package) WHERE month = this_month ORDER BY n) e;
		COMMIT;
		PERFORM pg_sleep(pause);
	END LOOP;
	INSERT INTO all_stored VALUES (now());
END $$;

-- The rows of a watch, by its changes alone; and what they were.
CREATE TABLE mirror (id bigint PRIMARY KEY, record jsonb);
CREATE TABLE pulled (seq bigint, op text, package text, delay interval);
CREATE TABLE all_stored (at timestamptz);

-- Pull them until all is stored. Reports every 100th of a kind.
CREATE PROCEDURE pull(my_watch bigint) LANGUAGE plpgsql AS $$
DECLARE
	last_seq bigint;
	seen jsonb := '{}';
	nth int;
	got int;
	e record;
	last_round bool;
BEGIN
	LOOP
		SELECT count(*) > 0 INTO last_round FROM all_stored;
		got := 0;
		FOR e IN SELECT seq, op, (record->>'id')::bigint AS id, record, clock_timestamp() - (record->>'updated')::timestamptz AS delay
				FROM netbus.watch_next(my_watch, last_seq, wait => '500 ms') LOOP
			got := got + 1;
			last_seq := e.seq;
			CONTINUE WHEN e.op = 'ready';
			IF e.op = 'resync' THEN
				DELETE FROM mirror;
				CONTINUE;
			ELSIF e.op = 'left' THEN
				DELETE FROM mirror WHERE id = e.id RETURNING record INTO e.record;
			ELSE
				INSERT INTO mirror VALUES (e.id, e.record) ON CONFLICT (id) DO UPDATE SET record = e.record;
			END IF;
			INSERT INTO pulled VALUES (e.seq, e.op, e.record->>'source', e.delay);
			nth := coalesce(seen->e.op, '0')::int;
			seen := seen || jsonb_build_object(e.op, nth + 1);
			IF nth % 100 = 0 THEN
				RAISE NOTICE 'seq %  %  %  %', lpad(e.seq::text, 5), rpad(e.op, 8),
					rpad(left((e.record->>'source') || ' ' || (e.record->>'content'), 46), 46),
					coalesce(to_char(extract(epoch FROM e.delay) * 1000, 'FM9990.00') || ' ms after it was stored', 'is no more');
			END IF;
		END LOOP;
		COMMIT;
		EXIT WHEN got = 0 AND last_round;
	END LOOP;
END $$;

-- What both answers to a question were, and the median of the times that a prepared statement took.
CREATE TABLE asked (n int GENERATED ALWAYS AS IDENTITY, question text, netbus text, in_netbus float8, in_table float8, same bool);

-- Ask the same question of the memories and of the table: each 100 times, in turns, as a static
-- statement of a function; the answers are what it returns, as text.
CREATE PROCEDURE ask(question text, of_netbus text, of_table text) LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz;
	netbus_us float8[] := '{}';
	table_us float8[] := '{}';
	netbus_answer text;
	table_answer text;
BEGIN
	EXECUTE format('CREATE OR REPLACE FUNCTION pg_temp.of_netbus() RETURNS text LANGUAGE plpgsql AS $f$BEGIN RETURN (%s); END$f$', of_netbus);
	EXECUTE format('CREATE OR REPLACE FUNCTION pg_temp.of_table() RETURNS text LANGUAGE plpgsql AS $f$BEGIN RETURN (%s); END$f$', of_table);
	FOR i IN 1..100 LOOP
		start := clock_timestamp();
		netbus_answer := pg_temp.of_netbus();
		netbus_us := netbus_us || extract(epoch FROM clock_timestamp() - start)::float8 * 1e6;
		start := clock_timestamp();
		table_answer := pg_temp.of_table();
		table_us := table_us || extract(epoch FROM clock_timestamp() - start)::float8 * 1e6;
	END LOOP;
	INSERT INTO asked (question, netbus, in_netbus, in_table, same)
		SELECT question, netbus_answer, (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY u) FROM unnest(netbus_us) u),
			(SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY u) FROM unnest(table_us) u),
			netbus_answer IS NOT DISTINCT FROM table_answer;
END $$;
