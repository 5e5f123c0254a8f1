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
SELECT log, shard, next_seq, stable_seq, floor_seq, offered, accepted, rejected, evicted, aborted, retained, retained_bytes,
	ring_used, ring_size, wakeups, oldest_pending_pid, oldest_pending_since
FROM netbus.stat_log ORDER BY log, shard;

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
SELECT count(*) FROM netbus.logs WHERE log = 'bad';
-- The extremes.
SELECT netbus.create_log('wide', shards => 256, ring_size => '65536');
SELECT count(*), min(shard), max(shard), min(ring_size), max(ring_size) FROM netbus.stat_log WHERE log = 'wide';
SELECT netbus.drop_log('wide');

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
SELECT netbus.create_log('brief');
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
