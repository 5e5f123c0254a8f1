--
-- Publishing and reading: bus.sql
--

CREATE FUNCTION netbus.publish(log text, payload jsonb, key text DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_jsonb';
CREATE FUNCTION netbus.publish(log text, payload json, key text DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_text';
CREATE FUNCTION netbus.publish(log text, payload text, key text DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_text';
CREATE FUNCTION netbus.publish(log text, payload bytea, key text DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_bytea';
COMMENT ON FUNCTION netbus.publish(text, jsonb, text, boolean) IS
'Publish an event, visible at commit: SELECT netbus.publish(''orders'', ''{"id": 1}''::jsonb, key => ''c7''). Events of one key keep their order. transactional => false: visible at once, also if the transaction rolls back. True: accepted.';
COMMENT ON FUNCTION netbus.publish(text, json, text, boolean) IS
'Publish an event given as json: SELECT netbus.publish(''orders'', row_to_json(t)) FROM t';
COMMENT ON FUNCTION netbus.publish(text, text, text, boolean) IS
'Publish an event given as JSON text, which is parsed: SELECT netbus.publish(''orders'', ''{"id": 1}'')';
COMMENT ON FUNCTION netbus.publish(text, bytea, text, boolean) IS
'Publish bytes to a log of format bytea: SELECT netbus.publish(''frames'', ''\x0102''::bytea)';

CREATE FUNCTION netbus.publish_batch(log text, payloads jsonb[], keys text[] DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_batch_jsonb_array';
CREATE FUNCTION netbus.publish_batch(log text, payloads text[], keys text[] DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_batch_text_array';
CREATE FUNCTION netbus.publish_batch(log text, payloads bytea[], keys text[] DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_batch_bytea_array';
CREATE FUNCTION netbus.publish_batch(log text, payloads jsonb, keys text[] DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_batch_jsonb';
CREATE FUNCTION netbus.publish_batch(log text, payloads text, keys text[] DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_batch_text';
CREATE FUNCTION netbus.publish_batch(log text, payloads json[], keys text[] DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_batch_text_array';
CREATE FUNCTION netbus.publish_batch(log text, payloads json, keys text[] DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_batch_text';
COMMENT ON FUNCTION netbus.publish_batch(text, json[], text[], boolean) IS
'Publish many events given as json: SELECT netbus.publish_batch(''orders'', array_agg(row_to_json(t))) FROM t';
COMMENT ON FUNCTION netbus.publish_batch(text, json, text[], boolean) IS
'Publish the elements of a JSON array given as json: SELECT netbus.publish_batch(''orders'', json_agg(t)) FROM t';
COMMENT ON FUNCTION netbus.publish_batch(text, jsonb[], text[], boolean) IS
'Publish many events: SELECT netbus.publish_batch(''orders'', ARRAY[''{"id": 1}'', ''{"id": 2}'']::jsonb[]). keys: one for each payload, null for none. Returns how many were accepted.';
COMMENT ON FUNCTION netbus.publish_batch(text, text[], text[], boolean) IS
'Publish many events given as JSON texts: SELECT netbus.publish_batch(''orders'', ARRAY[''{"id": 1}'', ''{"id": 2}''])';
COMMENT ON FUNCTION netbus.publish_batch(text, bytea[], text[], boolean) IS
'Publish many events to a log of format bytea: SELECT netbus.publish_batch(''frames'', ARRAY[''\x01'', ''\x02'']::bytea[])';
COMMENT ON FUNCTION netbus.publish_batch(text, jsonb, text[], boolean) IS
'Publish the elements of a JSON array: SELECT netbus.publish_batch(''orders'', ''[{"id": 1}, {"id": 2}]''::jsonb)';
COMMENT ON FUNCTION netbus.publish_batch(text, text, text[], boolean) IS
'Publish the elements of a JSON array given as text, as drivers send it: SELECT netbus.publish_batch(''orders'', ''[{"id": 1}, {"id": 2}]'')';

CREATE FUNCTION netbus.publish_lines(log text, lines text, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_lines_text';
CREATE FUNCTION netbus.publish_lines(log text, lines bytea, transactional boolean DEFAULT true)
RETURNS integer LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_publish_lines_bytea';
COMMENT ON FUNCTION netbus.publish_lines(text, text, boolean) IS
'Publish newline-delimited JSON, an event a line, blank lines skipped: SELECT netbus.publish_lines(''orders'', E''{"id": 1}\n{"id": 2}'')';
COMMENT ON FUNCTION netbus.publish_lines(text, bytea, boolean) IS
'Publish lines of bytes, as they are to a log of format bytea, as JSON to one of format jsonb: SELECT netbus.publish_lines(''frames'', pg_read_binary_file(''events''))';

CREATE FUNCTION netbus.publish_row() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'netbus_publish_row';
COMMENT ON FUNCTION netbus.publish_row() IS
'Trigger: publish each changed row as {"op", "table", "new", "old"}: CREATE TRIGGER t AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION netbus.publish_row(''orders'', ''customer'')';

CREATE FUNCTION netbus.read(log text, after_seq bigint DEFAULT 0, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000, filter jsonb DEFAULT NULL)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload jsonb)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_read';
CREATE FUNCTION netbus.read_raw(log text, after_seq bigint DEFAULT 0, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000, filter jsonb DEFAULT NULL)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload bytea)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_read_raw';
COMMENT ON FUNCTION netbus.read(text, bigint, integer, text, integer, jsonb) IS
'Events after a seq, oldest first: SELECT * FROM netbus.read(''orders'', after_seq => 41). A log with several shards needs shard or key; key also selects the events of that key, filter => ''{"path": "status", "value": "open"}'' those that match. Sees every committed event, also in REPEATABLE READ. A warning tells of events after after_seq that are not retained any more. In the target list it streams: SELECT (netbus.read(''orders'')).*';
COMMENT ON FUNCTION netbus.read_raw(text, bigint, integer, text, integer, jsonb) IS
'As netbus.read(), with the payload as bytes: SELECT * FROM netbus.read_raw(''frames'')';

CREATE FUNCTION netbus.tail(log text, after_seq bigint, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000, wait interval DEFAULT '1 s', filter jsonb DEFAULT NULL)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload jsonb)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_tail';
CREATE FUNCTION netbus.tail_raw(log text, after_seq bigint, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000, wait interval DEFAULT '1 s', filter jsonb DEFAULT NULL)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload bytea)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_tail_raw';
COMMENT ON FUNCTION netbus.tail(text, bigint, integer, text, integer, interval, jsonb) IS
'As netbus.read(), but waits up to wait (at most 60 s) for the first event: SELECT * FROM netbus.tail(''orders'', netbus.head(''orders''), wait => ''10 s''). Sleeps until a publisher wakes it.';
COMMENT ON FUNCTION netbus.tail_raw(text, bigint, integer, text, integer, interval, jsonb) IS
'As netbus.tail(), with the payload as bytes: SELECT * FROM netbus.tail_raw(''frames'', 0)';

CREATE FUNCTION netbus.poll(log text, cursor text DEFAULT 'earliest', max_events integer DEFAULT 1000, filter jsonb DEFAULT NULL, ordering text DEFAULT 'none', shards integer[] DEFAULT NULL, wait interval DEFAULT '0')
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload jsonb, next_cursor text, lost bigint, has_more boolean)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_poll';
CREATE FUNCTION netbus.poll_raw(log text, cursor text DEFAULT 'earliest', max_events integer DEFAULT 1000, filter jsonb DEFAULT NULL, ordering text DEFAULT 'none', shards integer[] DEFAULT NULL, wait interval DEFAULT '0')
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload bytea, next_cursor text, lost bigint, has_more boolean)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_poll_raw';
COMMENT ON FUNCTION netbus.poll(text, text, integer, jsonb, text, integer[], interval) IS
'A page of events from all shards, or those given: SELECT * FROM netbus.poll(''orders'', ''earliest'', max_events => 100, wait => ''10 s''). cursor: earliest, latest, a timestamp, or next_cursor of the page before, which every row carries, with how many events were lost and whether there are more. A row without event says that only the cursor moved. ordering => ''ts'' merges the shards by time, also across pages.';
COMMENT ON FUNCTION netbus.poll_raw(text, text, integer, jsonb, text, integer[], interval) IS
'As netbus.poll(), with the payload as bytes: SELECT * FROM netbus.poll_raw(''frames'', ''latest'')';

CREATE FUNCTION netbus.get(log text, seq bigint, shard integer DEFAULT NULL)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload jsonb)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'netbus_get';
CREATE FUNCTION netbus.get_raw(log text, seq bigint, shard integer DEFAULT NULL)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload bytea)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'netbus_get_raw';
COMMENT ON FUNCTION netbus.get(text, bigint, integer) IS
'One event by its seq, no row if there is none: SELECT payload FROM netbus.get(''orders'', 42)';
COMMENT ON FUNCTION netbus.get_raw(text, bigint, integer) IS
'As netbus.get(), with the payload as bytes: SELECT payload FROM netbus.get_raw(''frames'', 42)';

CREATE FUNCTION netbus.head(log text, shard integer DEFAULT NULL)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_head';
COMMENT ON FUNCTION netbus.head(text, integer) IS
'The seq up to which all is resolved, where to start reading what is new: SELECT netbus.head(''orders'')';

-- Consumers. Written by netbus only; see src/bus/consumer_catalog.c and progress.c.
CREATE TABLE netbus.catalog_consumer (
	log regclass,
	consumer name,
	id bigint NOT NULL UNIQUE,
	owner regrole NOT NULL,
	starts bigint[] NOT NULL,
	paused boolean NOT NULL,
	filter jsonb,
	max_deliveries integer,
	dead_letter_log regclass,
	hold bigint, -- bytes; -1: unlimited
	PRIMARY KEY (log, consumer)
);
COMMENT ON TABLE netbus.catalog_consumer IS 'Every consumer with its options; where it is: netbus.stat_consumer';
SELECT pg_catalog.pg_extension_config_dump('netbus.catalog_consumer', '');

-- Two tables that are filled in rotation; the row of the highest generation counts.
CREATE TABLE netbus.catalog_ack_0 (
	consumer bigint NOT NULL,
	shard integer NOT NULL,
	generation bigint NOT NULL,
	position bigint NOT NULL,
	attempts integer NOT NULL,
	alone boolean NOT NULL,
	failed_to bigint NOT NULL,
	reset boolean NOT NULL,
	retry_seq bigint,
	retry_due timestamptz,
	reason varchar(96)
) WITH (autovacuum_enabled = off);
CREATE TABLE netbus.catalog_ack_1 (LIKE netbus.catalog_ack_0) WITH (autovacuum_enabled = off);
COMMENT ON TABLE netbus.catalog_ack_0 IS 'Where consumers are, and what is to be delivered to them again';
COMMENT ON TABLE netbus.catalog_ack_1 IS 'Where consumers are, and what is to be delivered to them again';
SELECT pg_catalog.pg_extension_config_dump('netbus.catalog_ack_0', '');
SELECT pg_catalog.pg_extension_config_dump('netbus.catalog_ack_1', '');
REVOKE ALL ON netbus.catalog_consumer, netbus.catalog_ack_0, netbus.catalog_ack_1 FROM PUBLIC;

CREATE FUNCTION netbus.create_consumer(log text, consumer text, start_at text DEFAULT 'latest', filter jsonb DEFAULT NULL,
	max_deliveries integer DEFAULT NULL, dead_letter_log text DEFAULT NULL, hold text DEFAULT NULL,
	if_not_exists boolean DEFAULT false)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_create_consumer';
COMMENT ON FUNCTION netbus.create_consumer(text, text, text, jsonb, integer, text, text, boolean) IS
'Create a consumer, a named position in a log whose members share its shards: SELECT netbus.create_consumer(''orders'', ''billing'', ''earliest''). start_at: earliest, latest, a timestamp, seq:N (one shard), or a cursor of poll(). After max_deliveries in vain an event goes to dead_letter_log. hold (a size, or unlimited): what retention must not take away before it is done. False if it exists and if_not_exists.';

CREATE FUNCTION netbus.alter_consumer(log text, consumer text, option text, value text)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_alter_consumer';
COMMENT ON FUNCTION netbus.alter_consumer(text, text, text, text) IS
'Change an option of a consumer you own, filter, max_deliveries, dead_letter_log or hold: SELECT netbus.alter_consumer(''orders'', ''billing'', ''hold'', ''10GB''). NULL: as if it had not been given.';

CREATE FUNCTION netbus.drop_consumer(log text, consumer text, if_exists boolean DEFAULT false)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_drop_consumer';
COMMENT ON FUNCTION netbus.drop_consumer(text, text, boolean) IS
'Drop a consumer you own: SELECT netbus.drop_consumer(''orders'', ''billing''). Waits for members that are at work, at most netbus.wait_timeout.';

CREATE FUNCTION netbus.pause(log text, consumer text)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_pause';
COMMENT ON FUNCTION netbus.pause(text, text) IS
'Have a consumer hand out nothing until it is resumed: SELECT netbus.pause(''orders'', ''billing''). What was received can be acknowledged. False if it is paused already.';
CREATE FUNCTION netbus.resume(log text, consumer text)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_resume';
COMMENT ON FUNCTION netbus.resume(text, text) IS
'Have a paused consumer go on: SELECT netbus.resume(''orders'', ''billing''). False if it is not paused.';

CREATE FUNCTION netbus.seek(log text, consumer text, start_at text)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_seek';
COMMENT ON FUNCTION netbus.seek(text, text, text) IS
'Move a consumer you own to another place, as with start_at of create_consumer(): SELECT netbus.seek(''orders'', ''billing'', ''earliest''). What was to be delivered again is forgotten. Waits for members that are at work, at most netbus.wait_timeout.';

CREATE FUNCTION netbus.receive(log text, consumer text, max_events integer DEFAULT 100, wait interval DEFAULT '0')
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload jsonb, deliveries integer)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'netbus_receive';
CREATE FUNCTION netbus.receive_raw(log text, consumer text, max_events integer DEFAULT 100, wait interval DEFAULT '0')
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload bytea, deliveries integer)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'netbus_receive_raw';
COMMENT ON FUNCTION netbus.receive(text, text, integer, interval) IS
'The next events of a consumer, of one shard, which is yours to the end of the transaction: BEGIN; SELECT * FROM netbus.receive(''orders'', ''billing'', wait => ''10 s''); SELECT netbus.ack(''orders'', ''billing''); COMMIT. deliveries: 1 at the first time. Waits up to wait (at most 60 s) for the first event.';
COMMENT ON FUNCTION netbus.receive_raw(text, text, integer, interval) IS
'As netbus.receive(), with the payload as bytes: SELECT * FROM netbus.receive_raw(''frames'', ''indexer'')';

CREATE FUNCTION netbus.ack(log text, consumer text, shard integer DEFAULT NULL, seq bigint DEFAULT NULL)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_ack';
COMMENT ON FUNCTION netbus.ack(text, text, integer, bigint) IS
'Acknowledge what this transaction has received from a consumer, or what it has of a shard, or that up to a seq: SELECT netbus.ack(''orders'', ''billing''). Takes effect at commit. Returns how many events.';

CREATE FUNCTION netbus.nack(log text, consumer text, shard integer, seq bigint, reason text DEFAULT NULL,
	mode text DEFAULT 'retry', delay interval DEFAULT NULL)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_nack';
COMMENT ON FUNCTION netbus.nack(text, text, integer, bigint, text, text, interval) IS
'Refuse one event that this transaction has received: SELECT netbus.nack(''orders'', ''billing'', 0, 42, ''no such customer'', delay => ''1 min''). mode retry: it comes again, after delay, until max_deliveries; release: again, and this delivery does not count; poison: to the dead-letter log. Then acknowledge the others. False if it went to the dead-letter log.';

CREATE FUNCTION netbus.redrive(dead_letter_log text, to_log text)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_redrive';
COMMENT ON FUNCTION netbus.redrive(text, text) IS
'Publish the events of a dead-letter log that were not redriven yet to a log once more: SELECT netbus.redrive(''orders_dead'', ''orders''). Returns how many.';

CREATE FUNCTION netbus.stat_consumer(OUT log text, OUT consumer text, OUT owner text, OUT shard integer, OUT position_seq bigint,
	OUT lag bigint, OUT lag_seconds float8, OUT holder_pid integer, OUT held_since timestamptz, OUT waiting integer,
	OUT paused boolean, OUT retries integer, OUT deliveries bigint, OUT redeliveries bigint, OUT acknowledged bigint,
	OUT filtered bigint, OUT dead_letters bigint, OUT lost bigint, OUT stalled_since timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'netbus_stat_consumer';
COMMENT ON FUNCTION netbus.stat_consumer() IS 'Rows of the view netbus.stat_consumer: SELECT * FROM netbus.stat_consumer()';
CREATE VIEW netbus.stat_consumer AS SELECT * FROM netbus.stat_consumer();
COMMENT ON VIEW netbus.stat_consumer IS
'Per shard of every consumer: its position, how far it lags behind in events and seconds, who has it, counters since the start of the server: SELECT * FROM netbus.stat_consumer';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA netbus FROM PUBLIC;
GRANT EXECUTE ON FUNCTION netbus.publish(text, jsonb, text, boolean), netbus.publish(text, json, text, boolean),
	netbus.publish(text, text, text, boolean), netbus.publish(text, bytea, text, boolean),
	netbus.publish_batch(text, json[], text[], boolean), netbus.publish_batch(text, json, text[], boolean),
	netbus.publish_batch(text, jsonb[], text[], boolean), netbus.publish_batch(text, text[], text[], boolean),
	netbus.publish_batch(text, bytea[], text[], boolean), netbus.publish_batch(text, jsonb, text[], boolean),
	netbus.publish_batch(text, text, text[], boolean), netbus.publish_lines(text, text, boolean),
	netbus.publish_lines(text, bytea, boolean), netbus.publish_row() TO netbus_writer;
GRANT EXECUTE ON FUNCTION netbus.read(text, bigint, integer, text, integer, jsonb),
	netbus.read_raw(text, bigint, integer, text, integer, jsonb),
	netbus.tail(text, bigint, integer, text, integer, interval, jsonb),
	netbus.tail_raw(text, bigint, integer, text, integer, interval, jsonb),
	netbus.poll(text, text, integer, jsonb, text, integer[], interval),
	netbus.poll_raw(text, text, integer, jsonb, text, integer[], interval),
	netbus.get(text, bigint, integer), netbus.get_raw(text, bigint, integer),
	netbus.head(text, integer) TO netbus_reader;
GRANT EXECUTE ON FUNCTION netbus.create_consumer(text, text, text, jsonb, integer, text, text, boolean),
	netbus.alter_consumer(text, text, text, text), netbus.drop_consumer(text, text, boolean), netbus.pause(text, text),
	netbus.resume(text, text), netbus.seek(text, text, text), netbus.receive(text, text, integer, interval),
	netbus.receive_raw(text, text, integer, interval), netbus.ack(text, text, integer, bigint),
	netbus.nack(text, text, integer, bigint, text, text, interval) TO netbus_reader;
GRANT EXECUTE ON FUNCTION netbus.redrive(text, text) TO netbus_writer;
GRANT EXECUTE ON FUNCTION netbus.stat_consumer() TO netbus_reader, netbus_writer, pg_monitor;
GRANT SELECT ON netbus.stat_consumer TO netbus_reader, netbus_writer, pg_monitor;
