--
-- Publishing and reading in C, through netbus.h.
--
CREATE EXTENSION test_netbus_api;
\pset null (null)
SELECT netbus.create_log('api_bytes', durability => 'memory', format => 'bytea', ring_size => '64kB');
SELECT netbus.create_log('api_json', durability => 'memory');
SELECT netbus.create_log('api_shards', format => 'bytea', shards => 3);

-- One event, with and without a key; empty ones; in a transaction and at once.
SELECT api_publish('api_bytes', '\x01');
SELECT api_publish('api_bytes', '\x0002', 'a key');
SELECT api_publish('api_bytes', '', '');
BEGIN;
SELECT api_publish('api_bytes', '\xff');
SELECT api_publish('api_bytes', '\x03', transactional => false);
ROLLBACK;
SELECT seq, key, payload, age BETWEEN '0' AND '1 hour' AS age FROM api_read('api_bytes', 0, 0);
SELECT seq, key, payload FROM netbus.read_raw('api_bytes');

-- Many, in batches and of equal length, over several frames.
SELECT api_publish_batch('api_bytes', '{"\\x10", "", "\\x12"}', '{k0, NULL, k2}');
SELECT api_publish_batch('api_bytes', '{"\\x13", "\\x14"}', transactional => false);
SELECT api_publish_batch('api_bytes', '{}');
SELECT seq, key, payload FROM api_read('api_bytes', 0, 4, 1);
SELECT api_publish_fixed('api_bytes', '\x000000000a0b0c', 1000);
SELECT api_publish_fixed('api_bytes', '\x000000000a0b0c', 1000, false);
SELECT api_publish_fixed('api_bytes', '', 3);
SELECT api_publish_fixed('api_bytes', '\x01', 0);
SELECT count(*), min(seq), max(seq), max(length(payload)),
	bool_and(get_byte(payload, 0) + 256 * get_byte(payload, 1) = (seq - 10) % 1000 + 1) AS in_order
FROM api_read('api_bytes', 0, 9, 7) WHERE seq < 2010;
SELECT seq, payload FROM api_read('api_bytes', 0, 2009);

-- Events of one transaction in order, however they were published.
BEGIN;
SELECT api_keep_publisher('api_bytes');
SELECT api_publish_fixed_kept('\x00000000', 2);
SELECT api_publish('api_bytes', '\xaa', 'key');
SELECT api_publish_fixed_kept('\x00000000', 2);
SELECT netbus.publish('api_bytes', '\xbb'::bytea);
SELECT api_publish_kept('\xcc');
COMMIT;
SELECT seq, key, payload FROM api_read('api_bytes', 0, 2012);

-- Where events were evicted the reader says how many, exactly.
DO $$
BEGIN
	FOR i IN 1 .. 20 LOOP
		PERFORM api_publish_fixed('api_bytes', decode(repeat('ab', 1000), 'hex'), 10, false);
	END LOOP;
END
$$;
SELECT evicted > 2019 AS evicted, netbus.head('api_bytes') FROM netbus.stat_log WHERE log = 'api_bytes';
SELECT count(*) BETWEEN 20 AND 65 AS warned FROM api_read('api_bytes', 0, netbus.head('api_bytes') - 200);
BEGIN;
SELECT api_keep_reader('api_bytes', 0, 0);
SELECT count(*) AS seen, max(seq) FROM api_read_kept() \gset
SELECT :seen < 100 AS overtaken, :seen + api_lost_kept() = netbus.head('api_bytes') AS exact, :max;
SELECT evicted = api_lost_kept() AS as_counted FROM netbus.stat_log WHERE log = 'api_bytes';
-- It goes on where it was, and counts on if it is overtaken.
SELECT api_publish('api_bytes', '\x77', transactional => false);
SELECT seq, payload FROM api_read_kept();
SELECT api_lost_kept() AS lost \gset
DO $$
BEGIN
	FOR i IN 1 .. 20 LOOP
		PERFORM api_publish_fixed('api_bytes', decode(repeat('cd', 2000), 'hex'), 5, false);
	END LOOP;
END
$$;
SELECT count(*) AS seen FROM api_read_kept() \gset
SELECT :seen BETWEEN 10 AND 50 AS overtaken, :seen + api_lost_kept() - :lost AS exact;
SELECT api_close_kept();
COMMIT;

-- Three shards: a key always goes to the same, keyless events of a transaction stay together.
SELECT api_publish_batch('api_shards', array_agg(convert_to(i::text, 'UTF8')), array_agg('key' || i % 10))
FROM generate_series(1, 100) i;
SELECT api_publish_fixed('api_shards', '\x0000000000', 50);
SELECT sum(n), count(*) FILTER (WHERE n > 0) > 1 AS spread
FROM (SELECT (SELECT count(*) FROM api_read('api_shards', s, 0) WHERE key IS NOT NULL) AS n FROM generate_series(0, 2) s) c;
SELECT count(*), bool_and(ordered) FROM (
	SELECT key, bool_and(later) AS ordered FROM (
		SELECT key, convert_from(payload, 'UTF8')::int > coalesce(lag(convert_from(payload, 'UTF8')::int)
			OVER (PARTITION BY key, s ORDER BY seq), 0) AS later
		FROM generate_series(0, 2) s, LATERAL api_read('api_shards', s, 0) WHERE key IS NOT NULL) o
	GROUP BY key) k;
SELECT n FROM (SELECT (SELECT count(*) FROM api_read('api_shards', s, 0) WHERE key IS NULL) AS n
	FROM generate_series(0, 2) s) c WHERE n > 0;

-- jsonb: text in, binary out.
SELECT api_publish('api_json', '{"a": [1, 2.50, "x"], "b": null}', 'k');
SELECT api_publish_batch('api_json', '{"1", "\"zwei\"", "[]"}');
SELECT api_publish_fixed('api_json', '123', 2);
SELECT seq, key, payload, jsonb_typeof(payload) FROM api_read_jsonb('api_json', 0, 0);
SELECT seq, payload FROM netbus.read('api_json', 1);

-- Savepoints, with one handle throughout.
BEGIN;
SELECT api_keep_publisher('api_bytes');
SELECT api_publish_kept('\x01');
SAVEPOINT a;
SELECT api_publish_kept('\xe1');
SELECT api_publish_fixed_kept('\x00000000', 3);
ROLLBACK TO a;
SELECT api_publish_kept('\x02');
SAVEPOINT b;
SELECT api_publish_fixed_kept('\x00000000', 1);
SAVEPOINT c;
SELECT api_publish_kept('\xe2');
ROLLBACK TO c;
SELECT api_publish_fixed_kept('\x00000000', 2);
RELEASE b;
SELECT api_publish_kept('\x03');
COMMIT;
SELECT payload FROM api_read('api_bytes', 0, netbus.head('api_bytes') - 6);

-- A handle made in a savepoint that is rolled back: its lock is gone, and it is taken anew.
BEGIN;
SAVEPOINT a;
SELECT api_keep_publisher('api_bytes');
SELECT api_publish_kept('\xe3');
ROLLBACK TO a;
SELECT count(*) FROM pg_locks WHERE relation = 'netbus.log_api_bytes'::regclass AND pid = pg_backend_pid();
SELECT api_publish_kept('\x04');
SELECT mode FROM pg_locks WHERE relation = 'netbus.log_api_bytes'::regclass AND pid = pg_backend_pid();
COMMIT;
SELECT payload FROM api_read('api_bytes', 0, netbus.head('api_bytes') - 1);

-- Refused by policy, because the worker cannot make room: it does not see a log that is not committed yet.
BEGIN;
SELECT netbus.create_log('api_refusing', durability => 'async', format => 'bytea', ring_size => '64kB', backpressure => 'drop_newest');
SELECT sum(n) AS accepted, bool_or(n = 0) AS some_not FROM (
	SELECT api_publish_fixed('api_refusing', decode(repeat('cd', 1000), 'hex'), 10, false) AS n FROM generate_series(1, 10)) s \gset
SELECT :accepted BETWEEN 40 AND 63 AS accepted, :'some_not' AS some_not;
SELECT api_publish('api_refusing', decode(repeat('cd', 8000), 'hex')),
	api_publish('api_refusing', decode(repeat('cd', 8000), 'hex'), transactional => false),
	api_publish_batch('api_refusing', ARRAY[decode(repeat('cd', 8000), 'hex'), decode(repeat('cd', 8000), 'hex')]);
SELECT accepted = :accepted AS accepted, rejected, sampled_out, offered = accepted + rejected + sampled_out AS exact
FROM netbus.stat_log WHERE log = 'api_refusing';
COMMIT;
SELECT netbus.flush('api_refusing');
SELECT count(*) = :accepted AS all_there FROM api_read('api_refusing', 0, 0);
SELECT api_publish('api_refusing', decode(repeat('cd', 8000), 'hex'));
BEGIN;
SELECT netbus.create_log('api_sampling', durability => 'async', format => 'bytea', ring_size => '64kB', backpressure => 'sample',
	sample_rate => 0);
SELECT sum(api_publish_fixed('api_sampling', decode(repeat('cd', 1000), 'hex'), 1, false)) AS accepted
FROM generate_series(1, 100) \gset
SELECT :accepted BETWEEN 20 AND 30 AS accepted;
SELECT api_publish('api_sampling', decode(repeat('cd', 1000), 'hex'));
SELECT accepted = :accepted AS accepted, rejected, sampled_out = 101 - :accepted AS sampled_out, offered
FROM netbus.stat_log WHERE log = 'api_sampling';
COMMIT;

-- Errors.  What a failed call has begun to publish does not go out.
SELECT api_publish('nosuch', '\x01');
SELECT api_publish('Bad Name', '\x01');
SELECT * FROM api_read('nosuch', 0, 0);
SELECT * FROM api_read('api_shards', 3, 0);
SELECT * FROM api_read('api_shards', -1, 0);
SELECT api_publish('api_bytes', decode(repeat('ab', 8192), 'hex'));
SELECT api_publish('api_bytes', '\x01', repeat('k', 1025));
SELECT api_publish('api_bytes', '\x01', repeat('k', 1025), false);
SELECT api_publish('api_json', '{"a": }');
SELECT netbus.head('api_json') AS head \gset
BEGIN;
SAVEPOINT a;
SELECT api_publish_batch('api_json', '{"1", "2", "{"}');
ROLLBACK TO a;
SELECT api_publish_batch('api_json', '{"1", "2", "{"}', transactional => false);
ROLLBACK TO a;
SELECT api_publish('api_json', '"good"');
COMMIT;
SELECT seq - :head AS seq, payload FROM api_read_jsonb('api_json', 0, :head);
BEGIN READ ONLY;
SELECT api_publish('api_bytes', '\x01');
ROLLBACK;
BEGIN;
SELECT api_keep_publisher('api_bytes');
SET TRANSACTION READ ONLY;
SELECT api_publish_kept('\x01');
ROLLBACK;
BEGIN;
SELECT api_publish('api_bytes', '\x01');
PREPARE TRANSACTION 'api';
SELECT gid FROM pg_prepared_xacts;

-- Dropped in the same transaction.
BEGIN;
SELECT netbus.create_log('api_brief', durability => 'memory', format => 'bytea');
SELECT api_keep_publisher('api_brief');
SELECT api_keep_reader('api_brief', 0, 0);
SELECT api_publish_kept('\x01');
SELECT api_publish_kept('\x02', false);
SELECT payload FROM api_read_kept();
SELECT netbus.drop_log('api_brief');
SAVEPOINT a;
SELECT api_publish_kept('\x03');
ROLLBACK TO a;
SELECT api_publish_fixed_kept('\x0300000000', 10);
ROLLBACK TO a;
SELECT count(*) FROM api_read_kept();
SELECT api_lost_kept();
SELECT api_close_kept();
COMMIT;
-- The same, and made again under its name.
BEGIN;
SELECT netbus.create_log('api_brief', format => 'bytea');
SELECT api_keep_publisher('api_brief');
SELECT api_publish_kept('\x01');
SELECT netbus.drop_log('api_brief');
SELECT netbus.create_log('api_brief', format => 'bytea', shards => 2);
SELECT api_publish_kept('\x02');
COMMIT;
SELECT payload FROM generate_series(0, 1) s, LATERAL api_read('api_brief', s, 0);
-- Dropped and that rolled back: it is as before.
BEGIN;
SELECT api_keep_publisher('api_brief');
SELECT api_publish_kept('\x03');
SAVEPOINT a;
SELECT netbus.drop_log('api_brief');
ROLLBACK TO a;
SELECT api_publish_kept('\x04');
COMMIT;
SELECT count(*) FROM generate_series(0, 1) s, LATERAL api_read('api_brief', s, 0);

-- Dropped by somebody else, once a savepoint has given up the lock.
CREATE EXTENSION dblink;
SELECT dblink_connect('other', format('host=%s port=%s dbname=%s', split_part(current_setting('unix_socket_directories'), ',', 1),
	current_setting('port'), current_database()));
BEGIN;
SAVEPOINT a;
SELECT api_keep_publisher('api_brief');
SELECT api_publish_kept('\x05');
SELECT api_keep_reader('api_brief', 0, 0);
ROLLBACK TO a;
SELECT * FROM dblink('other', $$SELECT netbus.drop_log('api_brief')$$) AS (dropped bool);
SAVEPOINT b;
SELECT api_publish_kept('\x06');
ROLLBACK TO b;
SELECT count(*) <= 3 FROM api_read_kept();
SELECT api_publish('api_bytes', '\x55');
COMMIT;
SELECT payload FROM api_read('api_bytes', 0, netbus.head('api_bytes') - 1);

-- A reader that waits is woken: the wait is longer than anyone would watch this test.
SELECT netbus.head('api_bytes') AS head \gset
SELECT dblink_send_query('other', format($$SELECT payload FROM api_read('api_bytes', 0, %s, 10, 3600000)$$, :head));
DO $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE query ~ 'api_read.*3600000' AND wait_event = 'Extension') LOOP
		PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
	END LOOP;
END
$$;
SELECT api_publish('api_bytes', '\x4242');
SELECT * FROM dblink_get_result('other') AS (payload bytea);
SELECT * FROM dblink_get_result('other') AS (payload bytea);
-- A wait that is over in vain.
SELECT * FROM api_read('api_bytes', 0, :head + 1, 10, 50);
-- One that is cancelled.
SET statement_timeout = '100ms';
SELECT * FROM api_read('api_bytes', 0, :head + 1, 10, 3600000);
RESET statement_timeout;
SELECT dblink_disconnect('other');

-- Rights are those of the current user, at each call.
CREATE ROLE regress_netbus_api;
GRANT USAGE ON SCHEMA netbus TO regress_netbus_api;
BEGIN;
SELECT api_keep_publisher('api_bytes');
SET LOCAL ROLE regress_netbus_api;
SAVEPOINT a;
SELECT api_publish_kept('\x01');
ROLLBACK TO a;
SELECT api_publish('api_bytes', '\x01');
ROLLBACK TO a;
SELECT * FROM api_read('api_bytes', 0, 0);
ROLLBACK;
GRANT INSERT ON netbus.log_api_bytes TO regress_netbus_api;
SET ROLE regress_netbus_api;
SELECT api_publish('api_bytes', '\x99');
SELECT * FROM api_read('api_bytes', 0, 0);
RESET ROLE;
REVOKE INSERT ON netbus.log_api_bytes FROM regress_netbus_api;
GRANT SELECT ON netbus.log_api_bytes TO regress_netbus_api;
SET ROLE regress_netbus_api;
SELECT api_publish('api_bytes', '\x01');
SELECT payload FROM api_read('api_bytes', 0, :head + 1);
RESET ROLE;
REVOKE ALL ON netbus.log_api_bytes FROM regress_netbus_api;
REVOKE USAGE ON SCHEMA netbus FROM regress_netbus_api;
DROP ROLE regress_netbus_api;

SELECT bool_and(offered = accepted + rejected + sampled_out AND accepted = retained + expired + evicted + aborted) FROM netbus.stat_log;
SELECT netbus.drop_log(log) FROM netbus.logs WHERE log ~ '^api_' ORDER BY log;
DROP EXTENSION test_netbus_api;
DROP EXTENSION dblink;
