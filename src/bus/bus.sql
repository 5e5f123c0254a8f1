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

CREATE FUNCTION netbus.read(log text, after_seq bigint DEFAULT 0, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload jsonb)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_read';
CREATE FUNCTION netbus.read_raw(log text, after_seq bigint DEFAULT 0, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000)
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload bytea)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_read_raw';
COMMENT ON FUNCTION netbus.read(text, bigint, integer, text, integer) IS
'Events after a seq, oldest first: SELECT * FROM netbus.read(''orders'', after_seq => 41). A log with several shards needs shard or key; key also selects the events of that key. Sees every committed event, also in REPEATABLE READ. A warning tells of events after after_seq that are not retained any more. In the target list it streams: SELECT (netbus.read(''orders'')).*';
COMMENT ON FUNCTION netbus.read_raw(text, bigint, integer, text, integer) IS
'As netbus.read(), with the payload as bytes: SELECT * FROM netbus.read_raw(''frames'')';

CREATE FUNCTION netbus.tail(log text, after_seq bigint, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000, wait interval DEFAULT '1 s')
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload jsonb)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_tail';
CREATE FUNCTION netbus.tail_raw(log text, after_seq bigint, shard integer DEFAULT NULL, key text DEFAULT NULL, max_events integer DEFAULT 1000, wait interval DEFAULT '1 s')
RETURNS TABLE (shard integer, seq bigint, ts timestamptz, key text, payload bytea)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'netbus_tail_raw';
COMMENT ON FUNCTION netbus.tail(text, bigint, integer, text, integer, interval) IS
'As netbus.read(), but waits up to wait (at most 60 s) for the first event: SELECT * FROM netbus.tail(''orders'', netbus.head(''orders''), wait => ''10 s''). Sleeps until a publisher wakes it.';
COMMENT ON FUNCTION netbus.tail_raw(text, bigint, integer, text, integer, interval) IS
'As netbus.tail(), with the payload as bytes: SELECT * FROM netbus.tail_raw(''frames'', 0)';

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

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA netbus FROM PUBLIC;
GRANT EXECUTE ON FUNCTION netbus.publish(text, jsonb, text, boolean), netbus.publish(text, json, text, boolean),
	netbus.publish(text, text, text, boolean), netbus.publish(text, bytea, text, boolean),
	netbus.publish_batch(text, json[], text[], boolean), netbus.publish_batch(text, json, text[], boolean),
	netbus.publish_batch(text, jsonb[], text[], boolean), netbus.publish_batch(text, text[], text[], boolean),
	netbus.publish_batch(text, bytea[], text[], boolean), netbus.publish_batch(text, jsonb, text[], boolean),
	netbus.publish_batch(text, text, text[], boolean), netbus.publish_lines(text, text, boolean),
	netbus.publish_lines(text, bytea, boolean), netbus.publish_row() TO netbus_writer;
GRANT EXECUTE ON FUNCTION netbus.read(text, bigint, integer, text, integer),
	netbus.read_raw(text, bigint, integer, text, integer),
	netbus.tail(text, bigint, integer, text, integer, interval),
	netbus.tail_raw(text, bigint, integer, text, integer, interval),
	netbus.get(text, bigint, integer), netbus.get_raw(text, bigint, integer),
	netbus.head(text, integer) TO netbus_reader;
