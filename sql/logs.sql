--
-- Creating, altering, renaming and dropping logs
--
SELECT netbus.create_log('orders');
SELECT log, owner = current_user AS mine, shards, durability, format, ring_size, backpressure, table_bytes > 0 AS has_table
FROM netbus.logs;
SELECT netbus.create_log('orders');
SELECT netbus.create_log('orders', if_not_exists => true);
SELECT netbus.create_log('frames', shards => 3, durability => 'memory', format => 'bytea', ring_size => '128kB', backpressure => 'fail');
SELECT log, shards, durability, format, ring_size, backpressure FROM netbus.logs ORDER BY log;
SELECT log, shard, next_seq, stable_seq, persisted_seq, floor_seq, offered, accepted, rejected, sampled_out, evicted, expired,
	aborted, retained, retained_bytes, ring_used, ring_size
FROM netbus.stat_log ORDER BY log, shard;
SELECT log, shard, blocked, blocked_ms, damaged, retention_holds, wakeups, oldest_pending_pid, oldest_pending_since
FROM netbus.stat_log ORDER BY log, shard;
SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute
WHERE attrelid = 'netbus.stat_log'::regclass AND attnum > 0 ORDER BY attnum;
SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute
WHERE attrelid = 'netbus.logs'::regclass AND attnum > 0 ORDER BY attnum;

-- The table behind a log.
\d netbus.log_orders
SELECT relname, relkind, reloptions FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE nspname = 'netbus' AND relname ~ '(^|_)orders$' ORDER BY relname;

-- Names.
SELECT netbus.create_log('');
SELECT netbus.create_log('Orders');
SELECT netbus.create_log('1st');
SELECT netbus.create_log('_orders');
SELECT netbus.create_log('or-ders');
SELECT netbus.create_log('or ders"; DROP TABLE x; --');
SELECT netbus.create_log('bestellungen_für');
SELECT netbus.create_log(repeat('a', 49));
SELECT netbus.create_log(repeat('a', 48));
SELECT netbus.publish(repeat('a', 48), '1');
SELECT payload FROM netbus.read(repeat('a', 48));
SELECT netbus.drop_log(repeat('a', 48));
SELECT netbus.create_log(NULL);
-- A keyword is as good a name as any.
SELECT netbus.create_log('select');
SELECT netbus.drop_log('select');

-- Options: an error tells what is valid.
SELECT netbus.create_log('bad', shards => 0);
SELECT netbus.create_log('bad', shards => 257);
SELECT netbus.create_log('bad', shards => -1);
SELECT netbus.create_log('bad', shards => NULL);
SELECT netbus.create_log('bad', durability => 'eternal');
SELECT netbus.create_log('bad', durability => NULL);
SELECT netbus.create_log('bad', format => 'xml');
SELECT netbus.create_log('bad', format => NULL);
SELECT netbus.create_log('bad', backpressure => 'panic');
SELECT netbus.create_log('bad', ring_size => '100kB');
SELECT netbus.create_log('bad', ring_size => '32kB');
SELECT netbus.create_log('bad', ring_size => '2GB');
SELECT netbus.create_log('bad', ring_size => '0');
SELECT netbus.create_log('bad', ring_size => '-64kB');
SELECT netbus.create_log('bad', ring_size => 'big');
SELECT netbus.create_log('bad', ring_size => '');
SELECT netbus.create_log('bad', ring_size => NULL);
SELECT netbus.create_log('bad', if_not_exists => true, format => 'xml');
-- Back-pressure: a commit log loses nothing that is published to it.
SELECT netbus.create_log('bad', backpressure => 'drop_newest');
SELECT netbus.create_log('bad', backpressure => 'drop_oldest');
SELECT netbus.create_log('bad', backpressure => 'sample', sample_rate => 0.5);
SELECT netbus.create_log('bad', durability => 'async', backpressure => 'panic');
SELECT netbus.create_log('bad', durability => 'memory', backpressure => '');
-- A rate belongs to sampling, and sampling needs one.
SELECT netbus.create_log('bad', durability => 'async', backpressure => 'sample');
SELECT netbus.create_log('bad', durability => 'memory', backpressure => 'sample');
SELECT netbus.create_log('bad', durability => 'async', sample_rate => 0.5);
SELECT netbus.create_log('bad', durability => 'memory', backpressure => 'drop_newest', sample_rate => 0.5);
SELECT netbus.create_log('bad', backpressure => 'block', sample_rate => 0.5);
SELECT netbus.create_log('bad', durability => 'async', backpressure => 'sample', sample_rate => -0.1);
SELECT netbus.create_log('bad', durability => 'async', backpressure => 'sample', sample_rate => 1.1);
SELECT netbus.create_log('bad', durability => 'async', backpressure => 'sample', sample_rate => 'NaN');
SELECT netbus.create_log('bad', durability => 'async', backpressure => 'sample', sample_rate => 'infinity');
-- Retention.
SELECT netbus.create_log('bad', retention_events => 0);
SELECT netbus.create_log('bad', retention_events => -1);
SELECT netbus.create_log('bad', retention_size => '0');
SELECT netbus.create_log('bad', retention_size => '-1GB');
SELECT netbus.create_log('bad', retention_size => '1048575');
SELECT netbus.create_log('bad', retention_size => '1 furlong');
SELECT netbus.create_log('bad', retention_size => '');
SELECT netbus.create_log('bad', retention_age => '0');
SELECT netbus.create_log('bad', retention_age => '-1 day');
SELECT netbus.create_log('bad', retention_age => '1 day -25 hours');
SELECT netbus.create_log('bad', retention_age => '100000 years 1 day');
SELECT netbus.create_log('bad', retention_age => '178000000 years');
SELECT netbus.create_log('bad', durability => 'memory', retention_events => 10);
SELECT netbus.create_log('bad', durability => 'memory', retention_size => '10MB');
SELECT netbus.create_log('bad', durability => 'memory', retention_age => '1 day');
-- How soon an async log persists; the others have no such choice.
SELECT netbus.create_log('bad', durability => 'async', flush_interval => '0');
SELECT netbus.create_log('bad', durability => 'async', flush_interval => '0.9 ms');
SELECT netbus.create_log('bad', durability => 'async', flush_interval => '1.5 ms');
SELECT netbus.create_log('bad', durability => 'async', flush_interval => '60.001 s');
SELECT netbus.create_log('bad', durability => 'async', flush_interval => '-10 ms');
SELECT netbus.create_log('bad', durability => 'async', flush_interval => '178000000 years');
SELECT netbus.create_log('bad', durability => 'async', flush_interval => NULL);
SELECT netbus.create_log('bad', durability => 'async', flush_events => 0);
SELECT netbus.create_log('bad', durability => 'async', flush_events => -1);
SELECT netbus.create_log('bad', flush_interval => '20 ms');
SELECT netbus.create_log('bad', flush_events => 100);
SELECT netbus.create_log('bad', durability => 'memory', flush_interval => '20 ms');
SELECT netbus.create_log('bad', durability => 'memory', flush_events => 100);
SELECT count(*) FROM netbus.logs WHERE log = 'bad';
-- The extremes.
SELECT netbus.create_log('wide', shards => 256, ring_size => '65536');
SELECT count(*), min(shard), max(shard), min(ring_size), max(ring_size) FROM netbus.stat_log WHERE log = 'wide';
SELECT netbus.drop_log('wide');

-- All that is given is shown.
SELECT netbus.create_log('o1', durability => 'async');
SELECT netbus.create_log('o2', durability => 'async', backpressure => 'sample', sample_rate => 0.123456789012345, retention_events => 9223372036854775807,
	retention_size => '1MB', retention_age => '1 month 2 days 03:00', flush_interval => '1 ms', flush_events => 1);
SELECT netbus.create_log('o3', durability => 'async', backpressure => 'drop_newest', retention_size => '2TB', retention_age => '100000 years',
	flush_interval => '1 minute', flush_events => 2147483647);
SELECT netbus.create_log('o4', durability => 'memory', backpressure => 'sample', sample_rate => 0, flush_interval => '10 ms');
SELECT netbus.create_log('o5', durability => 'memory', backpressure => 'block', ring_size => '1MB');
SELECT netbus.create_log('o6', durability => 'commit', backpressure => 'fail', retention_size => '1048577');
SELECT netbus.create_log('o7', durability => 'async', backpressure => 'drop_oldest', retention_size => '1025 kB', retention_age => '1 microsecond');
SELECT log, durability, ring_size, backpressure, sample_rate, retention_events, retention_size, retention_age, flush_interval, flush_events
FROM netbus.logs WHERE log ~ '^o[0-9]' ORDER BY log;
-- A size is shown as it can be given.
SELECT log, pg_size_bytes(retention_size) FROM netbus.logs WHERE retention_size IS NOT NULL ORDER BY log;

-- alter_log
SELECT netbus.alter_log('orders', 'backpressure', 'fail');
SELECT netbus.alter_log('orders', 'ring_size', '8MB');
SELECT ring_size, backpressure FROM netbus.logs WHERE log = 'orders';
-- A ring keeps its size until the server starts anew.
SELECT ring_size FROM netbus.stat_log WHERE log = 'orders';
SELECT netbus.alter_log('orders', 'backpressure', NULL);
SELECT netbus.alter_log('orders', 'ring_size', NULL);
SELECT ring_size, backpressure FROM netbus.logs WHERE log = 'orders';
SELECT netbus.alter_log('orders', 'backpressure', 'panic');
SELECT netbus.alter_log('orders', 'ring_size', '5MB');
SELECT netbus.alter_log('orders', 'shards', '2');
SELECT netbus.alter_log('orders', 'colour', 'red');
SELECT netbus.alter_log('orders', NULL, '1');
SELECT netbus.alter_log('nowhere', 'ring_size', '8MB');
SELECT netbus.alter_log(NULL, 'ring_size', '8MB');
BEGIN;
SELECT netbus.alter_log('orders', 'backpressure', 'fail');
ROLLBACK;
SELECT backpressure FROM netbus.logs WHERE log = 'orders';
-- Values are checked as at the creation, also against the options there are.
SELECT netbus.alter_log('orders', 'backpressure', 'drop_oldest');
SELECT netbus.alter_log('orders', 'sample_rate', '0.5');
SELECT netbus.alter_log('orders', 'flush_interval', '20 ms');
SELECT netbus.alter_log('orders', 'flush_events', '20');
SELECT netbus.alter_log('orders', 'retention_events', '0');
SELECT netbus.alter_log('orders', 'retention_events', 'many');
SELECT netbus.alter_log('orders', 'retention_events', '9223372036854775808');
SELECT netbus.alter_log('orders', 'retention_size', '1kB');
SELECT netbus.alter_log('orders', 'retention_size', 'large');
SELECT netbus.alter_log('orders', 'retention_age', '-1 day');
SELECT netbus.alter_log('orders', 'retention_age', 'long');
SELECT netbus.alter_log('o5', 'retention_events', '10');
SELECT netbus.alter_log('o1', 'flush_interval', '2 minutes');
SELECT netbus.alter_log('o1', 'flush_interval', 'soon');
SELECT netbus.alter_log('o1', 'flush_events', '0');
SELECT netbus.alter_log('o1', 'flush_events', '2147483648');
SELECT netbus.alter_log('o1', 'sample_rate', 'NaN');
SELECT netbus.alter_log('o1', 'sample_rate', 'half');
-- The rate first, then the policy; and back in the other order.
SELECT netbus.alter_log('o1', 'backpressure', 'sample');
SELECT netbus.alter_log('o1', 'sample_rate', '0.25');
SELECT netbus.alter_log('o1', 'backpressure', 'sample');
SELECT netbus.alter_log('o1', 'sample_rate', '0.75');
SELECT backpressure, sample_rate FROM netbus.logs WHERE log = 'o1';
SELECT netbus.alter_log('o1', 'sample_rate', NULL);
SELECT netbus.alter_log('o1', 'backpressure', NULL);
SELECT netbus.alter_log('o1', 'sample_rate', NULL);
SELECT backpressure, sample_rate FROM netbus.logs WHERE log = 'o1';
-- NULL gives the defaults.
SELECT netbus.alter_log('o1', option, value) FROM (VALUES ('flush_interval', '1 s'), ('flush_events', '50'),
	('retention_events', '1000'), ('retention_size', '3GB'), ('retention_age', '36 hours')) v(option, value);
SELECT retention_events, retention_size, retention_age, flush_interval, flush_events FROM netbus.logs WHERE log = 'o1';
SELECT netbus.alter_log('o1', option, NULL) FROM (VALUES ('flush_interval'), ('flush_events'),
	('retention_events'), ('retention_size'), ('retention_age')) v(option);
SELECT retention_events, retention_size, retention_age, flush_interval, flush_events FROM netbus.logs WHERE log = 'o1';
-- Without effect, but as it is.
SELECT netbus.alter_log('orders', 'flush_interval', NULL), netbus.alter_log('orders', 'sample_rate', NULL), netbus.alter_log('o5', 'retention_age', NULL);
SELECT netbus.drop_log('o' || i) FROM generate_series(1, 7) i;

-- A log with retention has segments, which are made as its table is.
CREATE VIEW parts AS
	SELECT c.relname, c.relkind, i.inhparent::regclass AS parent, c.reloptions, pg_get_userbyid(c.relowner) = current_user AS mine,
		(SELECT attstorage FROM pg_attribute a WHERE attrelid = c.oid AND attname = 'frame') AS storage,
		(SELECT deptype FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND refobjid = i.inhparent) AS dependency
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
	WHERE nspname = 'netbus' AND c.relname !~ '^catalog_' AND c.relkind IN ('r', 'i', 'S');
SELECT netbus.create_log('pruned', shards => 2, retention_size => '10MB');
SELECT * FROM parts WHERE relname ~ '_pruned$' ORDER BY relkind DESC, relname;
\d+ netbus.segment_1_pruned
SELECT count(netbus.publish('pruned', to_jsonb(i), 'k' || i)) FROM generate_series(1, 20) i;
SELECT count(*), sum(payload::int) FROM generate_series(0, 1) s, netbus.read('pruned', shard => s);
SELECT count(*) FROM ONLY netbus.log_pruned;
SELECT table_bytes = pg_total_relation_size('netbus.log_pruned') + (SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits
	WHERE inhparent = 'netbus.log_pruned'::regclass) AS with_segments FROM netbus.logs WHERE log = 'pruned';
-- Nobody writes there, either.
INSERT INTO netbus.segment_1_pruned VALUES (1, 0, 1, '');
DELETE FROM netbus.segment_8_pruned;
TRUNCATE netbus.segment_2_pruned;
TRUNCATE ONLY netbus.log_pruned;
-- What makes a segment unfit.
BEGIN;
DROP TABLE netbus.segment_3_pruned;
SELECT netbus.publish('pruned', '1');
ROLLBACK;
BEGIN;
CREATE TABLE mine () INHERITS (netbus.log_pruned);
SELECT netbus.publish('pruned', '1');
ROLLBACK;
BEGIN;
CREATE TABLE mine () INHERITS (netbus.segment_4_pruned);
SELECT netbus.publish('pruned', '1');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.segment_5_pruned ADD CHECK (events > 0);
SELECT netbus.publish('pruned', '1');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.segment_6_pruned ADD note text;
SELECT netbus.publish('pruned', '1');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.segment_7_pruned DISABLE TRIGGER netbus_guard;
SELECT netbus.publish('pruned', '1');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.segment_8_pruned SET SCHEMA public;
SELECT netbus.publish('pruned', '1');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.segment_1_pruned OWNER TO netbus_admin;
SELECT netbus.publish('pruned', '1');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.segment_2_pruned DROP CONSTRAINT pkey_2_pruned;
SELECT netbus.publish('pruned', '1');
ROLLBACK;
SELECT count(netbus.publish('pruned', '0', 'k' || i)) FROM generate_series(1, 20) i;
-- They go to a new owner with the log, and with it when it is dropped.
BEGIN;
CREATE ROLE regress_netbus_heir;
ALTER TABLE netbus.log_pruned OWNER TO regress_netbus_heir;
SELECT relkind, pg_get_userbyid(relowner) AS owner, count(*) FROM pg_class
WHERE relname ~ '_pruned$' AND relnamespace = 'netbus'::regnamespace GROUP BY 1, 2 ORDER BY 1;
SELECT count(netbus.publish('pruned', '0', 'k' || i)) FROM generate_series(1, 20) i;
ROLLBACK;
BEGIN;
DROP TABLE netbus.log_pruned;
SELECT count(*) FROM parts WHERE relname ~ '_pruned$';
ROLLBACK;
SELECT count(*), sum(payload::int) FROM generate_series(0, 1) s, netbus.read('pruned', shard => s);
SELECT netbus.drop_log('pruned');
SELECT count(*) FROM parts WHERE relname ~ '_pruned$';
-- As pg_restore leaves them, for drop_log() too.
SELECT netbus.create_log('pruned', retention_events => 1000);
UPDATE pg_depend SET deptype = 'n' WHERE refobjid = 'netbus.log_pruned'::regclass AND objid IN (SELECT inhrelid FROM pg_inherits);
SELECT netbus.drop_log('pruned');
SELECT count(*) FROM parts WHERE relname ~ '_pruned$';
-- Also with the longest name; and where a log that was renamed has left its segments' names in use.
SELECT netbus.create_log(repeat('z', 48), retention_age => '1 day');
SELECT relname, length(relname) FROM parts WHERE relname ~ 'zzz$' ORDER BY relname;
SELECT netbus.drop_log(repeat('z', 48));
SELECT netbus.create_log('x1', retention_age => '1 day');
ALTER TABLE netbus.log_x1 RENAME TO log_x2;
SELECT netbus.create_log('x1', retention_age => '1 day');
SELECT parent, count(*), min(relname) AS first, max(relname) AS last FROM parts WHERE parent IS NOT NULL GROUP BY parent ORDER BY parent::text;
SELECT netbus.publish('x1', '1'), netbus.publish('x2', '2');
SELECT payload FROM netbus.read('x1');
SELECT payload FROM netbus.read('x2');
SELECT netbus.drop_log('x2');
SELECT netbus.drop_log('x1');
-- The first retention of a log makes them, and moves its rows there.
SELECT netbus.create_log('late', format => 'bytea');
SELECT count(netbus.publish('late', decode(repeat(lpad(to_hex(i), 2, '0'), 5000), 'hex'))) FROM generate_series(1, 3) i;
SELECT count(*) FROM ONLY netbus.log_late;
BEGIN;
SELECT netbus.alter_log('late', 'retention_age', '1 year');
ROLLBACK;
SELECT count(*) FROM parts WHERE parent IS NOT NULL;
SELECT seq, length(payload), get_byte(payload, 4999) AS byte FROM netbus.read_raw('late');
SELECT netbus.alter_log('late', 'retention_age', '1 year');
SELECT count(*) FROM ONLY netbus.log_late;
SELECT tableoid::regclass, count(*) FROM netbus.log_late GROUP BY 1;
SELECT seq, length(payload), get_byte(payload, 4999) AS byte FROM netbus.read_raw('late');
SELECT netbus.publish('late', '\x04'::bytea);
SELECT seq, length(payload) FROM netbus.read_raw('late');
SELECT incarnation FROM netbus.catalog_log WHERE log = 'netbus.log_late'::regclass \gset
SELECT netbus.alter_log('late', 'retention_events', '1000'), netbus.alter_log('late', 'retention_age', NULL);
SELECT netbus.alter_log('late', 'retention_events', NULL);
-- They stay; once made, changes of retention leave the rings alone.
SELECT count(*), min(storage::text) AS storage, min(dependency::text) AS dependency FROM parts WHERE parent IS NOT NULL;
SELECT incarnation = :incarnation AS same FROM netbus.catalog_log WHERE log = 'netbus.log_late'::regclass;
SELECT netbus.publish('late', '\x05'::bytea);
SELECT seq, length(payload) FROM netbus.read_raw('late');
-- Nothing of an owner's runs when rows are moved.
SELECT netbus.create_log('trap');
CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'run as %', current_user; END $$;
BEGIN;
DROP TRIGGER netbus_guard ON netbus.log_trap;
CREATE TRIGGER netbus_guard BEFORE TRUNCATE ON netbus.log_trap FOR EACH STATEMENT EXECUTE FUNCTION trap();
SELECT netbus.alter_log('trap', 'retention_events', '10');
ROLLBACK;
BEGIN;
DROP TRIGGER netbus_guard ON netbus.log_trap;
CREATE TRIGGER netbus_guard BEFORE TRUNCATE ON netbus.log_trap FOR EACH STATEMENT WHEN (current_user = 'x') EXECUTE FUNCTION netbus.guard();
SELECT netbus.alter_log('trap', 'retention_events', '10');
ROLLBACK;
DROP FUNCTION trap;
SELECT netbus.drop_log('trap');
SELECT netbus.drop_log('late');
SELECT relname FROM parts WHERE relname !~ '(orders|frames)$';
DROP VIEW parts;

-- Where nothing can be changed.
BEGIN READ ONLY;
SELECT netbus.create_log('bad');
ROLLBACK;
BEGIN READ ONLY;
SELECT netbus.alter_log('orders', 'backpressure', 'fail');
ROLLBACK;
BEGIN READ ONLY;
SELECT netbus.drop_log('orders');
ROLLBACK;

-- Nobody writes to a log's table directly, not even its owner.
INSERT INTO netbus.log_orders VALUES (1, 0, 1, '');
UPDATE netbus.log_orders SET events = 2;
DELETE FROM netbus.log_orders;
TRUNCATE netbus.log_orders;
COPY netbus.log_orders FROM stdin;
\.
SELECT netbus.guard();

-- What cannot be done to a log's table, and what makes it unusable as a log.
ALTER TABLE netbus.log_orders SET SCHEMA public;
ALTER TABLE netbus.log_orders RENAME TO orders;
ALTER TABLE netbus.log_orders RENAME TO "log_Orders";
ALTER TABLE netbus.log_orders ADD COLUMN note text;
ALTER TABLE netbus.log_orders RENAME COLUMN frame TO body;
BEGIN;
ALTER TABLE netbus.log_orders ADD CHECK (events > 0);
SELECT netbus.publish('orders', '1');
ROLLBACK;
BEGIN;
CREATE UNIQUE INDEX ON netbus.log_orders ((shard + 1), base_seq);
SELECT netbus.publish('orders', '1');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.log_orders ENABLE ROW LEVEL SECURITY;
SELECT netbus.publish('orders', '1');
ROLLBACK;
BEGIN;
CREATE RULE quiet AS ON INSERT TO netbus.log_orders DO INSTEAD NOTHING;
SELECT netbus.publish('orders', '1');
ROLLBACK;
BEGIN;
CREATE TRIGGER mine AFTER INSERT ON netbus.log_orders FOR EACH ROW EXECUTE FUNCTION netbus.publish_row('orders');
SELECT netbus.publish('orders', '1');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.log_orders NOT OF;
SELECT netbus.publish('orders', '1');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.log_orders DROP CONSTRAINT pkey_orders;
SELECT netbus.publish('orders', '1');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.log_orders DROP CONSTRAINT pkey_orders, ADD PRIMARY KEY (base_seq, shard);
SELECT netbus.publish('orders', '1');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.log_orders DROP CONSTRAINT pkey_orders, ADD PRIMARY KEY (shard, base_seq) DEFERRABLE;
SELECT netbus.publish('orders', '1');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.log_orders ADD UNIQUE (shard, base_seq, events) DEFERRABLE;
SELECT netbus.publish('orders', '1');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.log_orders ADD EXCLUDE USING btree (base_seq WITH =, shard WITH =);
SELECT netbus.publish('orders', '1');
ROLLBACK;
BEGIN;
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
ALTER TABLE netbus.log_orders SET ACCESS METHOD heap2;
SELECT netbus.publish('orders', '1');
ROLLBACK;
BEGIN;
ALTER TABLE netbus.log_orders SET UNLOGGED;
SELECT netbus.publish('orders', '1');
ROLLBACK;
BEGIN;
CREATE TABLE mine () INHERITS (netbus.log_orders);
SELECT netbus.publish('orders', '1');
ROLLBACK;
BEGIN;
DROP TRIGGER netbus_guard ON netbus.log_orders;
SELECT netbus.publish('orders', '1');
ROLLBACK;
SELECT netbus.publish('orders', '"all is well again"');
SELECT seq, payload FROM netbus.read('orders');

-- The log's name follows its table's; events and seqs stay.
ALTER TABLE netbus.log_orders RENAME TO log_purchases;
SELECT netbus.publish('orders', '1');
SELECT netbus.publish('purchases', '2');
SELECT seq, payload FROM netbus.read('purchases');
SELECT log FROM netbus.logs ORDER BY log;
SELECT DISTINCT log FROM netbus.stat_log ORDER BY log;
-- Its old name is free.
SELECT netbus.create_log('orders');
SELECT netbus.publish('orders', '3');
SELECT seq, payload FROM netbus.read('orders');
SELECT netbus.drop_log('purchases');

-- drop_log
SELECT netbus.drop_log('purchases');
SELECT netbus.drop_log('purchases', if_exists => true);
SELECT netbus.drop_log('No Such', if_exists => true);
SELECT netbus.drop_log('No Such');
SELECT netbus.drop_log(NULL);
SELECT netbus.publish('purchases', '1');
SELECT * FROM netbus.read('purchases');
CREATE VIEW on_orders AS SELECT count(*) FROM netbus.log_orders;
SELECT netbus.drop_log('orders');
DROP VIEW on_orders;
BEGIN;
SELECT netbus.drop_log('orders');
SELECT netbus.publish('orders', '1');
ROLLBACK;
SELECT seq, payload FROM netbus.read('orders');

-- DROP TABLE forgets the log.
DROP TABLE netbus.log_orders;
SELECT log FROM netbus.logs ORDER BY log;
SELECT netbus.publish('orders', '1');

-- A new log of that name begins anew.
SELECT netbus.create_log('orders', format => 'bytea');
SELECT netbus.publish('orders', '\x01'::bytea);
SELECT seq, payload FROM netbus.read_raw('orders');
BEGIN;
SELECT netbus.publish('orders', '\x02'::bytea);
SELECT netbus.drop_log('orders');
SELECT netbus.create_log('orders');
SELECT netbus.publish('orders', '{"new": true}');
COMMIT;
SELECT seq, payload FROM netbus.read('orders');
-- Dropped, then taken back.
BEGIN;
SAVEPOINT s;
SELECT netbus.drop_log('orders');
ROLLBACK TO s;
SELECT netbus.publish('orders', '{"new": "still"}');
COMMIT;
SELECT seq, payload FROM netbus.read('orders');

-- Created, used and rolled back.
BEGIN;
SELECT netbus.create_log('brief', durability => 'memory');
SELECT netbus.publish('brief', '1');
SELECT netbus.publish('brief', '2', transactional => false);
SELECT seq, payload FROM netbus.read('brief');
SELECT next_seq, retained FROM netbus.stat_log WHERE log = 'brief';
ROLLBACK;
SELECT netbus.publish('brief', '1');
SELECT count(*) FROM netbus.logs WHERE log = 'brief';
SELECT count(*) FROM netbus.stat_log WHERE log = 'brief';
BEGIN;
SELECT netbus.create_log('brief');
SAVEPOINT s;
SELECT netbus.publish('brief', '1');
ROLLBACK TO s;
SELECT netbus.publish('brief', '2');
COMMIT;
SELECT seq, payload FROM netbus.read('brief');
SELECT netbus.drop_log('brief');

-- Dropped while the same transaction is still reading and has published.
SELECT netbus.publish('orders', to_jsonb(i)) FROM generate_series(1, 3) i;
BEGIN;
SELECT netbus.publish('orders', '4');
DECLARE c CURSOR FOR SELECT (netbus.read('orders', 2)).payload;
FETCH 1 FROM c;
SELECT netbus.drop_log('orders');
FETCH ALL FROM c;
COMMIT;

-- DROP OWNED and REASSIGN OWNED.
CREATE ROLE regress_netbus_logs IN ROLE netbus_admin;
SET ROLE regress_netbus_logs;
SELECT netbus.create_log('theirs');
SELECT netbus.create_log('kept');
RESET ROLE;
SELECT log, owner FROM netbus.logs WHERE owner = 'regress_netbus_logs' ORDER BY log;
BEGIN;
REASSIGN OWNED BY regress_netbus_logs TO CURRENT_USER;
SELECT log, owner = current_user AS mine FROM netbus.logs ORDER BY log;
ROLLBACK;
DROP OWNED BY regress_netbus_logs;
SELECT log FROM netbus.logs ORDER BY log;
SELECT netbus.head('theirs');
DROP ROLE regress_netbus_logs;

-- A drop that is rolled back loses nothing, also when another log is created in between.
SELECT netbus.create_log('kept');
SELECT netbus.publish('kept', '1');
BEGIN;
SELECT netbus.drop_log('kept');
SELECT netbus.create_log('other');
ROLLBACK;
SELECT seq, payload FROM netbus.read('kept');

-- A log whose table is unfit is refused, and does not get in the way of others.
ALTER TABLE netbus.log_kept ADD CHECK (events > 0);
SELECT netbus.publish('kept', '2');
SELECT netbus.read('kept');
SELECT log, next_seq FROM netbus.stat_log WHERE log = 'kept';
ALTER TABLE netbus.log_kept DROP CONSTRAINT log_kept_events_check;
SELECT netbus.publish('kept', '2');
SELECT netbus.drop_log('kept');

-- Nothing is left of dropped logs.
SELECT netbus.drop_log('frames');
SELECT * FROM netbus.logs;
SELECT count(*) FROM netbus.catalog_log;
SELECT count(*) FROM netbus.catalog_position;
SELECT count(*) FROM netbus.stat_log;
SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE nspname = 'netbus' AND relkind IN ('r', 'i', 'S', 't')
	AND relname !~ '^catalog_' ORDER BY 1;
