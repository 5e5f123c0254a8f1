--
-- Reading with a filter
--
SELECT netbus.create_log('docs');
SELECT netbus.publish_batch('docs', '[{"n": 1, "kind": "a"}, {"n": 2, "kind": "b"}, {"n": 3.0, "kind": "a", "tags": ["x", "y"]}, 4, "five", null, {"n": 7}]', ARRAY['k', NULL, 'k', 'k', NULL, NULL, 'k']);
SELECT seq, payload FROM netbus.read('docs', filter => '{"path": "kind", "value": "a"}');
-- max_events counts what matches, after_seq what there is.
SELECT seq, payload FROM netbus.read('docs', max_events => 1, filter => '{"path": "kind", "value": "a"}');
SELECT seq, payload FROM netbus.read('docs', 1, max_events => 1, filter => '{"path": "kind", "value": "a"}');
SELECT seq, payload FROM netbus.read('docs', 3, filter => '{"path": "kind", "value": "a"}');
SELECT seq FROM netbus.read('docs', filter => NULL, max_events => 2);
-- With a key: both have to fit.
SELECT seq, payload FROM netbus.read('docs', key => 'k', filter => '{"path": "kind", "value": "a"}');
SELECT seq, payload FROM netbus.read('docs', key => 'k', filter => '{"path": "kind", "value": "b"}');
SELECT seq, convert_from(payload, 'UTF8') FROM netbus.read_raw('docs', filter => '{"path": "kind", "value": "b"}');
SELECT seq, payload FROM netbus.tail('docs', 0, wait => '0', filter => '{"path": "n", "value": 3}');
SELECT seq FROM netbus.tail('docs', 0, wait => '10 ms', filter => '{"path": "n", "value": 8}');
SELECT seq, convert_from(payload, 'UTF8') FROM netbus.tail_raw('docs', 1, wait => '10 ms', filter => '{"path": "n", "value": 3}');
-- A transaction of one frame, of which little is wanted; and what is in the table only.
SELECT netbus.create_log('large', ring_size => '64kB');
SELECT count(netbus.publish('large', jsonb_build_object('n', i, 'tenth', i / 10000))) FROM generate_series(1, 100000) i;
SELECT count(*), min(seq), max(seq) FROM netbus.read('large', max_events => 1000000, filter => '{"path": "tenth", "value": 7}');
SELECT seq, payload FROM netbus.read('large', 70100, max_events => 2, filter => '{"path": "tenth", "value": 7}');
SELECT count(*), count(DISTINCT seq) FROM netbus.poll('large', max_events => 5000, filter => '{"path": "tenth", "value": 3}');
SELECT seq, payload, has_more FROM netbus.poll('large', max_events => 1, filter => '{"path": "n", "value": 99999}');
-- Every operator.
SELECT seq FROM netbus.read('docs', filter => '{"path": "n", "$gte": 2}');
SELECT seq FROM netbus.read('docs', filter => '{"path": "n", "$in": [1, 7]}');
SELECT seq FROM netbus.read('docs', filter => '{"path": "tags.1", "$prefix": "y"}');
SELECT seq FROM netbus.read('docs', filter => '{"path": "kind", "$exists": false}');
SELECT seq FROM netbus.read('docs', filter => '{"$and": [{"path": "kind", "$exists": true}, {"$not": {"path": "n", "$lt": 3}}]}');
SELECT seq FROM netbus.read('docs', filter => '{"$or": [{"path": "n", "value": 1}, {"path": "n", "$gt": 6}]}');
-- A log of bytes: what is no JSON never matches.
SELECT netbus.create_log('raw', format => 'bytea');
SELECT netbus.publish_batch('raw', ARRAY['{"n": 1}', ' [2] ', '', '{"n": ', '\xff', ' {"m": 0, "n": 1.0}']::bytea[]);
SELECT seq, payload FROM netbus.read('raw', filter => '{"path": "n", "value": 1}');
SELECT seq, convert_from(payload, 'UTF8') FROM netbus.read_raw('raw', filter => '{"$not": {"path": "n", "value": 1}}');
SELECT seq, convert_from(payload, 'UTF8') FROM netbus.poll_raw('raw', filter => '{"path": "m", "$exists": true}');
-- Wrong ones.
\set VERBOSITY sqlstate
SELECT * FROM netbus.read('docs', filter => '[]');
SELECT * FROM netbus.read('docs', filter => '{"path": "n"}');
SELECT * FROM netbus.tail('docs', 0, filter => '{"path": "kind", "$like": "a"}');
SELECT * FROM netbus.poll('docs', filter => '{"path": "n", "value": 1, "more": 2}');
SELECT * FROM netbus.poll('docs', max_events => 0, filter => '{}');
\set VERBOSITY default
SELECT netbus.drop_log('docs'), netbus.drop_log('large'), netbus.drop_log('raw');
