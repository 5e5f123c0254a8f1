--
-- Publishing many events with one call
--
SELECT netbus.create_log('docs', durability => 'memory', ring_size => '16MB');
SELECT netbus.create_log('raw', durability => 'memory', format => 'bytea', ring_size => '16MB');

-- Every overload.
SELECT netbus.publish_batch('docs', ARRAY['{"n": 1}', '{"n": 2}']::jsonb[]);
SELECT netbus.publish_batch('docs', ARRAY['{"n": 3}', '{"n": 4}']);
SELECT netbus.publish_batch('docs', '[{"n": 5}, 6, "seven", null, [8]]'::jsonb);
SELECT netbus.publish_batch('docs', '[{"n": 9}, {"n": 10}]'::text);
SELECT netbus.publish_batch('docs', '[{"n": 11}]');
SELECT netbus.publish_batch('raw', ARRAY['\x00', '', 'abc']::bytea[]);
SELECT netbus.publish_batch('docs', ARRAY['12', '13'], ARRAY['a', NULL]);
SELECT netbus.publish_batch('docs', '[14, 15]', keys => '{b,b}');
SELECT netbus.publish_batch('docs', ARRAY['16']::jsonb[], transactional => false);
SELECT netbus.publish_batch('docs', '{17,18}'::jsonb[]);
SELECT netbus.publish_batch('docs', array_agg(to_jsonb(i))) FROM generate_series(19, 21) i;
SELECT seq, key, payload FROM netbus.read('docs');
SELECT seq, key, payload FROM netbus.read_raw('raw');
-- As a driver does with parameters of unknown type.
PREPARE p AS SELECT netbus.publish_batch($1, $2);
EXECUTE p('docs', '[22, 23]');
EXECUTE p('docs', '{"24","25"}');
DEALLOCATE p;
PREPARE p(text, text[], text[]) AS SELECT netbus.publish_batch($1, $2, $3);
EXECUTE p('docs', '{"26","27"}', '{x,NULL}');
EXECUTE p('docs', '{}', '{}');
EXECUTE p('docs', '{}', NULL);
DEALLOCATE p;
SELECT seq, key, payload FROM netbus.read('docs', 21);

-- Nothing to publish.
SELECT netbus.publish_batch('docs', '{}'::jsonb[]);
SELECT netbus.publish_batch('docs', ARRAY[]::text[]);
SELECT netbus.publish_batch('docs', '[]');
SELECT netbus.publish_batch('docs', ' [ ] '::jsonb);
SELECT netbus.publish_batch('raw', '{}'::bytea[], '{}');
SELECT netbus.publish_batch('docs', '[]', transactional => false);

-- Lower bounds do not matter, dimensions do.
SELECT netbus.publish_batch('docs', '[5:6]={28,29}'::jsonb[], '[3:4]={p,q}');
SELECT netbus.publish_batch('docs', ARRAY[['1', '2'], ['3', '4']]);
SELECT netbus.publish_batch('docs', ARRAY['1', '2', '3', '4'], ARRAY[['a', 'b'], ['c', 'd']]);
-- NULL
SELECT netbus.publish_batch('docs', ARRAY['1', NULL, '3']);
SELECT netbus.publish_batch('docs', ARRAY['1', NULL, '3']::jsonb[]);
SELECT netbus.publish_batch('raw', ARRAY['1', NULL]::bytea[]);
SELECT netbus.publish_batch(NULL, ARRAY['1']);
SELECT netbus.publish_batch('docs', NULL);
SELECT netbus.publish_batch('docs', NULL::jsonb[]);
SELECT netbus.publish_batch('docs', ARRAY['1'], transactional => NULL);
-- Keys.
SELECT netbus.publish_batch('docs', ARRAY['1', '2'], ARRAY['a']);
SELECT netbus.publish_batch('docs', ARRAY['1', '2'], ARRAY['a', 'b', 'c']);
SELECT netbus.publish_batch('docs', ARRAY['1', '2'], '{}');
SELECT netbus.publish_batch('docs', '[1, 2]', ARRAY['a']);
SELECT netbus.publish_batch('docs', ARRAY['1', '2'], ARRAY['a', repeat('b', 1025)]);
-- An array in the wrong place.
SELECT netbus.publish_batch('docs', '{1,2}');
SELECT netbus.publish_batch('docs', '{"{\"n\": 1}"}');
SELECT netbus.publish_batch('docs', '{}');
SELECT netbus.publish_batch('docs', '{"n": 1}'::jsonb);
SELECT netbus.publish_batch('docs', '1');
SELECT netbus.publish_batch('docs', '');
SELECT netbus.publish_batch('docs', '[1, 2');
SELECT netbus.publish_batch('docs', ARRAY[1, 2]);
-- Formats.
SELECT netbus.publish_batch('raw', ARRAY['a', 'b']);
SELECT netbus.publish_batch('raw', ARRAY['1']::jsonb[]);
SELECT netbus.publish_batch('raw', '["a"]');
SELECT netbus.publish_batch('raw', '["a"]'::jsonb);
SELECT netbus.publish_batch('docs', ARRAY['a']::bytea[]);
-- The error tells which one is wrong; none is published, not even at once.
SELECT netbus.publish_batch('docs', ARRAY['1', '{"n":']);
SELECT netbus.publish_batch('docs', ARRAY['1', '{"n":'], transactional => false);
BEGIN;
SAVEPOINT s;
SELECT netbus.publish_batch('docs', ARRAY['1', 'x'], transactional => false);
ROLLBACK TO s;
SELECT netbus.publish_batch('docs', ARRAY['30'], transactional => false);
COMMIT;
SELECT seq, key, payload FROM netbus.read('docs', 27);
SELECT offered, accepted, rejected, evicted, aborted, retained FROM netbus.stat_log WHERE log = 'docs';

-- Many, of many sizes, from toasted arrays.
CREATE TABLE t (docs jsonb[], keys text[]);
ALTER TABLE t ALTER docs SET STORAGE EXTERNAL;
INSERT INTO t SELECT array_agg(to_jsonb(repeat(chr(97 + i % 26), i)) ORDER BY i),
	array_agg(CASE WHEN i % 3 > 0 THEN 'k' || i % 5 END ORDER BY i)
FROM generate_series(1, 1300) i;
SELECT netbus.publish_batch('docs', docs, keys) FROM t;
SELECT count(*), min(seq), max(seq), bool_and(key IS NOT DISTINCT FROM k AND payload = d) AS same
FROM t, unnest(docs, keys) WITH ORDINALITY u(d, k, n), netbus.get('docs', 29 + n);
SELECT netbus.publish_batch('raw', (SELECT array_agg(convert_to(d #>> '{}', 'UTF8')) FROM unnest(docs) d), keys, false) FROM t;
SELECT count(*), bool_and(convert_from(r.payload, 'UTF8') = d #>> '{}' AND r.key IS NOT DISTINCT FROM k) AS same
FROM t, unnest(docs, keys) WITH ORDINALITY u(d, k, n), netbus.get_raw('raw', 3 + n) r;
SELECT netbus.publish_batch('docs', to_jsonb(docs)) FROM t;
SELECT count(*), bool_and(payload = d) AS same
FROM t, unnest(docs) WITH ORDINALITY u(d, n), netbus.get('docs', 1329 + n);
-- What is too much for the transaction's share of the ring loses its oldest.
SELECT netbus.publish_batch('docs', docs || docs || docs || docs || docs || docs) FROM t;
SELECT offered, accepted, next_seq, stable_seq, evicted > 1000 AS evicted, accepted = retained + evicted + aborted AS identity
FROM netbus.stat_log WHERE log = 'docs';
SELECT payload = docs[1300] AS last FROM t, netbus.get('docs', netbus.head('docs'));
DROP TABLE t;

SELECT netbus.drop_log('docs');
SELECT netbus.drop_log('raw');
