-- Publishers and workers all of whose events can be accounted for afterwards,
-- whatever happened to the server meanwhile, and the account itself.
--
-- Every transaction that publishes notes its events in an ordinary table, every
-- transaction that consumes notes what it acknowledges in another: so PostgreSQL
-- itself says what was published and what was done.

CREATE SEQUENCE ids;
CREATE TABLE sent (log text, id bigint);
CREATE TABLE work (log text, consumer text, shard int, seq bigint, id bigint, deliveries int, worker int, at timestamptz DEFAULT clock_timestamp());

CREATE FUNCTION send(which text, count int) RETURNS bigint LANGUAGE sql AS $$
	WITH made AS (INSERT INTO sent SELECT which, nextval('ids') FROM generate_series(1, count) RETURNING id)
	SELECT count(netbus.publish(which, to_jsonb(id), 'key' || id)) FROM made;
$$;

CREATE PROCEDURE produce(which text, seconds float8) LANGUAGE plpgsql AS $$
DECLARE
	ends timestamptz := clock_timestamp() + seconds * interval '1 s';
BEGIN
	WHILE clock_timestamp() < ends LOOP
		PERFORM send(which, 1 + floor(random() * 20)::int);
		IF random() < 0.1 THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
		PERFORM pg_sleep(0.005);
	END LOOP;
END
$$;

-- One delivery: received, worked at, acknowledged.  Returns how many events there were.
CREATE FUNCTION take(which text, who text, me int, at_once int, wait interval DEFAULT '0') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	INSERT INTO work SELECT which, who, e.shard, e.seq, (e.payload #>> '{}')::bigint, e.deliveries, me
		FROM netbus.receive(which, who, at_once, wait) e;
	GET DIAGNOSTICS n = ROW_COUNT;
	IF netbus.ack(which, who) <> n THEN
		RAISE 'of % events not all were acknowledged', n;
	END IF;
	RETURN n;
END
$$;

-- One delivery of which a part is done, and another refused: what of it is acknowledged is noted.
CREATE FUNCTION take_some(which text, who text, me int, at_once int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	n int := 0;
	keep int := 1 + floor(random() * at_once)::int;
	refused int := floor(random() * at_once)::int;
	e record;
	mode text := (ARRAY['retry', 'retry', 'release'])[1 + floor(random() * 3)::int];
	delay interval := CASE WHEN mode = 'retry' AND random() < 0.5 THEN interval '20 ms' END;
BEGIN
	FOR e IN SELECT * FROM netbus.receive(which, who, at_once, '20 ms') ORDER BY seq LOOP
		n := n + 1;
		EXIT WHEN n > keep;
		IF n = refused THEN
			PERFORM netbus.nack(which, who, e.shard, e.seq, 'some reason', mode, delay);
		ELSE
			INSERT INTO work VALUES (which, who, e.shard, e.seq, (e.payload #>> '{}')::bigint, e.deliveries, me);
		END IF;
		PERFORM netbus.ack(which, who, e.shard, e.seq);
	END LOOP;
END
$$;

CREATE PROCEDURE consume(which text, who text, me int, seconds float8) LANGUAGE plpgsql AS $$
DECLARE
	ends timestamptz := clock_timestamp() + seconds * interval '1 s';
	kind float8;
	at_once int;
BEGIN
	WHILE clock_timestamp() < ends LOOP
		kind := random();
		at_once := 1 + floor(random() * 40)::int;
		IF kind < 0.15 THEN
			PERFORM take_some(which, who, me, at_once);
		ELSIF kind < 0.25 THEN
			PERFORM take(which, who, me, at_once);
			ROLLBACK;
		ELSIF kind < 0.35 THEN
			-- Received, not acknowledged.
			PERFORM count(*) FROM netbus.receive(which, who, at_once);
		ELSIF kind < 0.5 THEN
			-- What a savepoint has undone was not delivered; what comes then is.
			PERFORM take(which, who, me, 3);
			BEGIN
				PERFORM take(which, who, me, at_once);
				RAISE 'undo' USING ERRCODE = 'NB001';
			EXCEPTION WHEN SQLSTATE 'NB001' THEN
				NULL;
			END;
			PERFORM take(which, who, me, at_once);
		ELSE
			PERFORM take(which, who, me, at_once, '20 ms');
			PERFORM pg_sleep(random() * 0.005);
		END IF;
		COMMIT;
	END LOOP;
END
$$;

-- Consume until nothing is left.
CREATE PROCEDURE drain(which text, who text) LANGUAGE plpgsql AS $$
DECLARE
	ends timestamptz := clock_timestamp() + interval '60 s';
BEGIN
	WHILE clock_timestamp() < ends LOOP
		PERFORM take(which, who, 0, 500);
		COMMIT;
		EXIT WHEN NOT EXISTS (SELECT FROM netbus.stat_consumer s WHERE s.log = which AND s.consumer = who AND (s.lag > 0 OR s.retries > 0 OR s.holder_pid IS NOT NULL));
	END LOOP;
END
$$;

-- What every consumer of a log has set aside.
CREATE VIEW dead AS
	SELECT payload ->> 'log' AS log, payload ->> 'consumer' AS consumer, (payload ->> 'shard')::int AS shard, (payload ->> 'seq')::bigint AS seq,
		(payload ->> 'payload')::bigint AS id, payload ->> 'reason' AS reason, (payload ->> 'attempts')::int AS attempts
	FROM netbus.logs l, netbus.read(l.log, max_events => 1000000) WHERE l.log = 'dead';

-- Every event that was sent is in one place: done, set aside, or yet to come.
CREATE FUNCTION problems(which text, who text) RETURNS SETOF text LANGUAGE sql AS $$
	WITH places AS (
		SELECT id, 'done' AS place FROM work w WHERE w.log = which AND w.consumer = who
		UNION ALL SELECT id, 'dead' FROM dead d WHERE d.log = which AND d.consumer = who),
	counted AS (SELECT id, count(*) AS n, string_agg(place, ', ') AS places FROM places GROUP BY id)
	SELECT format('%s events with %s places, e.g. %s: %s', count(*), coalesce(n, 0), min(id), min(places))
	FROM (SELECT id FROM sent WHERE log = which) s FULL JOIN counted USING (id) WHERE n IS DISTINCT FROM 1 OR s.id IS NULL GROUP BY n
$$;
