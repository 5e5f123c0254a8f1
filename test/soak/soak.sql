-- Readers that follow logs and keep their position, with what they have read,
-- in their transactions; and what must be true of what they have read.  Goes
-- with test/tap/workload.sql.

CREATE TABLE followed (reader int, log text, shard int, seq bigint, id text, PRIMARY KEY (reader, log, shard, seq));
CREATE TABLE place (reader int, log text, shard int, seq bigint NOT NULL, PRIMARY KEY (reader, log, shard));
CREATE TABLE trouble (problem text);

-- Read what is new of some logs, for a while.  0 seconds: once all that there is.
CREATE PROCEDURE follow(reader int, logs text[], seconds float8) LANGUAGE plpgsql AS $$
DECLARE
	ends timestamptz := clock_timestamp() + seconds * interval '1 s';
	s record;
	last bigint;
	found_seqs bigint[];
BEGIN
	LOOP
		FOR s IN SELECT l.log, n AS shard FROM netbus.logs l, generate_series(0, l.shards - 1) n WHERE l.log = ANY (logs) ORDER BY random() LOOP
			LOOP
				INSERT INTO place AS p VALUES (reader, s.log, s.shard, 0) ON CONFLICT DO NOTHING;
				SELECT p.seq INTO last FROM place p WHERE p.reader = follow.reader AND p.log = s.log AND p.shard = s.shard FOR UPDATE;
				WITH new AS MATERIALIZED (
					SELECT e.seq, e.payload->>'id' AS id, e.ordinality
					FROM netbus.tail(s.log, last, s.shard, max_events => 300, wait => '5 ms') WITH ORDINALITY e
				), noted AS (
					INSERT INTO followed SELECT reader, s.log, s.shard, new.seq, new.id FROM new
				)
				SELECT array_agg(new.seq ORDER BY new.ordinality) INTO found_seqs FROM new;
				IF last >= found_seqs[1] OR found_seqs <> (SELECT array_agg(x ORDER BY x) FROM unnest(found_seqs) x) THEN
					INSERT INTO trouble VALUES (format('tail(%s, %s, %s) returned %s', s.log, last, s.shard, found_seqs));
				END IF;
				UPDATE place p SET seq = found_seqs[cardinality(found_seqs)]
					WHERE p.reader = follow.reader AND p.log = s.log AND p.shard = s.shard AND cardinality(found_seqs) > 0;
				COMMIT;
				EXIT WHEN found_seqs IS NULL OR seconds > 0;
			END LOOP;
		END LOOP;
		EXIT WHEN clock_timestamp() >= ends;
	END LOOP;
END
$$;

-- What is wrong with what readers have, who have read to the end.  kept: all that
-- they have ever read is in the log.
CREATE FUNCTION follow_problems(which text, kept boolean) RETURNS TABLE (problem text, events bigint, example text) LANGUAGE sql AS $$
	WITH found AS MATERIALIZED (
		SELECT s AS shard, e.seq, e.payload->>'id' AS id
		FROM netbus.logs l, generate_series(0, l.shards - 1) s, netbus.read(which, 0, s, max_events => 2147483647) e WHERE l.log = which
	), readers AS (
		SELECT DISTINCT reader FROM followed
	), mine AS (
		SELECT * FROM followed WHERE log = which
	)
	SELECT x.problem, count(*), min(x.example) FROM (
		SELECT 'in the log, but not read' AS problem, x::text AS example FROM (
			SELECT reader, shard, seq FROM readers, found EXCEPT SELECT reader, shard, seq FROM mine) x
		UNION ALL SELECT 'read, but not in the log', x::text FROM (
			SELECT reader, shard, seq FROM mine WHERE kept EXCEPT SELECT reader, shard, seq FROM readers, found) x
		UNION ALL SELECT 'another event than was read', m::text FROM mine m JOIN found f USING (shard, seq) WHERE m.id IS DISTINCT FROM f.id
		UNION ALL SELECT 'read twice', m.id FROM mine m GROUP BY m.reader, m.id HAVING count(*) > 1
		UNION ALL SELECT trouble.problem, '' FROM trouble
	) x GROUP BY x.problem
$$;

CREATE FUNCTION forget_followed() RETURNS void LANGUAGE sql AS $$
	DELETE FROM followed;
	DELETE FROM trouble;
$$;
