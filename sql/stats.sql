--
-- netbus.stats_reset(): counters begin anew, what there is stays
--
CREATE VIEW log_counters AS SELECT log, offered, accepted, rejected, sampled_out, evicted, expired, aborted, retained, retained_bytes > 0 AS bytes,
	offered = accepted + rejected + sampled_out AND accepted = retained + expired + evicted + aborted AS identities FROM netbus.stat_log WHERE log IN ('kept', 'durable');
-- What the worker counts is there a little later than what it has done.
CREATE FUNCTION wait_until(condition text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	met bool;
BEGIN
	FOR i IN 1 .. 6000 LOOP
		EXECUTE 'SELECT ' || condition INTO met;
		EXIT WHEN met;
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;

-- Logs.
SELECT netbus.create_log('kept', durability => 'memory', ring_size => '64kB'), netbus.create_log('durable');
SELECT count(netbus.publish('kept', to_jsonb(repeat('x', 1000)))) FROM generate_series(1, 100) i;
SELECT count(netbus.publish('durable', to_jsonb(i))) FROM generate_series(1, 10) i;
BEGIN;
SELECT netbus.publish('durable', '0');
ROLLBACK;
BEGIN;
SELECT netbus.publish_batch('kept', ARRAY['1', '2']::jsonb[]);
ROLLBACK;
SELECT netbus.purge('durable') > 0 AS purged;
SELECT netbus.publish('durable', '11');
SELECT log, offered > retained AS more, identities FROM log_counters ORDER BY log;
SELECT netbus.stats_reset('log');
SELECT log, offered = retained AS anew, accepted = retained AS accepted, rejected, sampled_out, evicted, expired, aborted, retained > 0 AS retained, bytes, identities FROM log_counters ORDER BY log;
SELECT netbus.publish('durable', '12');
SELECT * FROM log_counters WHERE log = 'durable';
-- In a transaction whose events are on their way, with more of them than the ring takes.
BEGIN;
SELECT count(netbus.publish('kept', to_jsonb(repeat('x', 1000)))) FROM generate_series(1, 200) i;
SELECT netbus.stats_reset('log');
ROLLBACK;
SELECT log, offered, evicted, aborted, identities FROM log_counters WHERE log = 'kept' AND offered < retained;
SELECT identities FROM log_counters WHERE log = 'kept';

-- Consumers.
SELECT netbus.create_consumer('durable', 'reader', 'earliest');
BEGIN;
SELECT count(*) FROM netbus.receive('durable', 'reader');
SELECT netbus.ack('durable', 'reader');
COMMIT;
SELECT lag, deliveries, acknowledged FROM netbus.stat_consumer;
SELECT netbus.stats_reset('log');
SELECT deliveries FROM netbus.stat_consumer;
SELECT netbus.stats_reset('consumer');
SELECT position_seq = netbus.head('durable') AS position, lag, deliveries, redeliveries, acknowledged, filtered, dead_letters, lost FROM netbus.stat_consumer;
SELECT netbus.publish('durable', '13');
BEGIN;
SELECT count(*) FROM netbus.receive('durable', 'reader');
SELECT netbus.stats_reset('consumer');
SELECT netbus.ack('durable', 'reader');
COMMIT;
SELECT lag, deliveries, acknowledged FROM netbus.stat_consumer;

-- Models; watches: watch_log.sql.
SELECT netbus.memory_store('one', '{a}', id => 1), netbus.memory_store('two', id => 2);
SELECT netbus.publish('memories', '{"v": 1, "op": "delete", "id": "77"}'), netbus.publish('memories', '"no event"');
SELECT netbus.memory_retag(1, '{a,b}');
SELECT wait_until('(SELECT events = 5 FROM netbus.stat_model)');
SELECT records, events, noops, errors, lost FROM netbus.stat_model;
SELECT netbus.stats_reset();
SELECT state, records, content_bytes, events, noops, errors, lost, (SELECT count(*) FROM netbus.model_error) AS set_aside FROM netbus.stat_model;
SELECT netbus.memory_retag(1, '{b}');
SELECT wait_until('(SELECT events = 1 FROM netbus.stat_model)');
SELECT events, noops FROM netbus.stat_model;
SELECT deliveries FROM netbus.stat_consumer;

-- Who may, and what there is.
SELECT netbus.stats_reset('worker');
SELECT netbus.stats_reset('');
CREATE ROLE regress_stats;
GRANT netbus_reader, netbus_writer TO regress_stats;
SET ROLE regress_stats;
SELECT netbus.stats_reset('log');
RESET ROLE;
GRANT netbus_admin TO regress_stats;
SET ROLE regress_stats;
SELECT netbus.stats_reset('log');
RESET ROLE;
DROP ROLE regress_stats;

SELECT netbus.drop_model('memories', 'default'), netbus.drop_log('kept'), netbus.drop_log('durable');
DROP VIEW log_counters;
DROP FUNCTION wait_until(text);
