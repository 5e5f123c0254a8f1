--
-- The trigger function publish_row
--
SELECT netbus.create_log('changes');
CREATE TABLE orders (id int PRIMARY KEY, customer text, gone int, amount numeric, twice numeric GENERATED ALWAYS AS (amount * 2) STORED);
ALTER TABLE orders DROP COLUMN gone;
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON orders
	FOR EACH ROW EXECUTE FUNCTION netbus.publish_row('changes', 'customer');

INSERT INTO orders VALUES (1, 'anna', 10.5), (2, NULL, 3);
UPDATE orders SET amount = 11, customer = 'berta' WHERE id = 1;
DELETE FROM orders WHERE id = 2;
SELECT seq, key, payload FROM netbus.read('changes');
-- With the table's change or not at all.
BEGIN;
INSERT INTO orders VALUES (3, 'clara', 1);
SAVEPOINT s;
INSERT INTO orders VALUES (4, 'dora', 1);
ROLLBACK TO s;
COMMIT;
INSERT INTO orders VALUES (5, 'emma', 1), (1, 'twice', 1);
INSERT INTO orders VALUES (1, 'x', 1) ON CONFLICT (id) DO UPDATE SET amount = 12;
SELECT seq, key, payload FROM netbus.read('changes', 4);
-- Many rows.
INSERT INTO orders SELECT i, 'c' || i % 7, i FROM generate_series(100, 1099) i;
SELECT count(*), count(DISTINCT key), sum((payload -> 'new' ->> 'id')::int) FROM netbus.read('changes', 6);

-- Another key, a quoted name, and a log of bytes.
SELECT netbus.create_log('raw', format => 'bytea');
CREATE SCHEMA regress_netbus;
CREATE TABLE regress_netbus."A ""b"" c" ("The Key" int, v jsonb);
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON regress_netbus."A ""b"" c"
	FOR EACH ROW EXECUTE FUNCTION netbus.publish_row('raw', 'The Key');
INSERT INTO regress_netbus."A ""b"" c" VALUES (7, '{"x": [1]}');
DELETE FROM regress_netbus."A ""b"" c";
SELECT seq, key, convert_from(payload, 'UTF8') AS payload FROM netbus.read_raw('raw');
SELECT seq, key, payload -> 'new' -> 'v' -> 'x' -> 0 AS x FROM netbus.read('raw', max_events => 1);
DROP SCHEMA regress_netbus CASCADE;

-- Without a key; for some rows only; deferred; on a partitioned table.
CREATE TABLE parts (id int, at int) PARTITION BY RANGE (at);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
CREATE CONSTRAINT TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON parts DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION netbus.publish_row('changes');
SELECT netbus.head('changes') AS head \gset
INSERT INTO parts VALUES (1, 5);
UPDATE parts SET at = 15;
SELECT seq - :head AS seq, key, payload FROM netbus.read('changes', :head);
DROP TABLE parts;
CREATE TABLE t (id int);
CREATE TRIGGER publish AFTER INSERT ON t FOR EACH ROW WHEN (NEW.id > 1) EXECUTE FUNCTION netbus.publish_row('changes');
SELECT netbus.head('changes') AS head \gset
INSERT INTO t VALUES (1), (2);
SELECT seq - :head AS seq, key, payload FROM netbus.read('changes', :head);
DROP TRIGGER publish ON t;

-- Wrong use.
SELECT netbus.publish_row();
CREATE TRIGGER publish BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION netbus.publish_row('changes');
INSERT INTO t VALUES (1);
DROP TRIGGER publish ON t;
CREATE TRIGGER publish AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION netbus.publish_row('changes');
INSERT INTO t VALUES (1);
DROP TRIGGER publish ON t;
CREATE TRIGGER publish AFTER TRUNCATE ON t FOR EACH STATEMENT EXECUTE FUNCTION netbus.publish_row('changes');
TRUNCATE t;
DROP TRIGGER publish ON t;
CREATE TRIGGER publish AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION netbus.publish_row();
INSERT INTO t VALUES (1);
DROP TRIGGER publish ON t;
CREATE TRIGGER publish AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION netbus.publish_row('changes', 'id', 'more');
INSERT INTO t VALUES (1);
DROP TRIGGER publish ON t;
CREATE TRIGGER publish AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION netbus.publish_row('nowhere');
INSERT INTO t VALUES (1);
DROP TRIGGER publish ON t;
CREATE TRIGGER publish AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION netbus.publish_row('changes', 'nothing');
INSERT INTO t VALUES (1);
DROP TRIGGER publish ON t;
CREATE TRIGGER publish AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION netbus.publish_row('changes', 'ctid');
INSERT INTO t VALUES (1);
DROP TABLE t;

-- Rights: those of the user who changes the row.
CREATE ROLE regress_netbus_trigger;
GRANT INSERT ON orders TO regress_netbus_trigger;
SET ROLE regress_netbus_trigger;
INSERT INTO orders VALUES (2000, 'x', 1);
RESET ROLE;
GRANT INSERT ON netbus.log_changes TO regress_netbus_trigger;
SET ROLE regress_netbus_trigger;
INSERT INTO orders VALUES (2000, 'x', 1);
RESET ROLE;
SELECT key, payload FROM netbus.read('changes', netbus.head('changes') - 1);
DROP TABLE orders;
SELECT netbus.drop_log('changes');
SELECT netbus.drop_log('raw');
DROP ROLE regress_netbus_trigger;
