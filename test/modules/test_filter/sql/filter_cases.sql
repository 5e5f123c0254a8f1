--
-- Filters, rule by rule: what matches, what does not, and what is no filter.
--
CREATE EXTENSION test_filter;

-- Both matchers of one document; the text may differ from what jsonb would print.
CREATE FUNCTION f(filter jsonb, doc text, OUT as_jsonb bool, OUT as_raw bool) LANGUAGE sql AS $$
	SELECT test_filter_jsonb(filter, doc::jsonb), test_filter_raw(filter, convert_to(doc, 'UTF8'))
$$;

-- Documents of a list that match; an error where the matchers disagree.
CREATE FUNCTION matching(filter jsonb, VARIADIC docs text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	found text[] := '{}';
	doc text;
	r record;
BEGIN
	FOREACH doc IN ARRAY docs LOOP
		SELECT * INTO r FROM f(filter, doc);
		IF r.as_jsonb <> r.as_raw THEN
			RAISE EXCEPTION '% of %: jsonb %, raw %', filter, doc, r.as_jsonb, r.as_raw;
		END IF;
		IF r.as_jsonb THEN
			found := found || doc;
		END IF;
	END LOOP;
	RETURN array_to_string(found, '  ');
END $$;

-- Equality: of one type, numbers by value.
SELECT matching('{"path": "a", "value": 1}', '{"a":1}', '{"a":1.0}', '{"a":1e0}', '{"a":10e-1}', '{"a":0.01E+2}', '{"a":2}', '{"a":"1"}',
	'{"a":true}', '{"a":null}', '{"a":[1]}', '{"a":{"a":1}}', '{"b":1}', '{}', '[]', '1');
SELECT matching('{"path": "a", "$eq": 0}', '{"a":0}', '{"a":-0}', '{"a":0.000}', '{"a":0e9}', '{"a":-0.0e-5}', '{"a":1e-9}', '{"a":""}');
SELECT matching('{"path": "a", "$eq": -12345.678}', '{"a":-12345.678}', '{"a":-12345.6780}', '{"a":-1.2345678e4}', '{"a":12345.678}', '{"a":-12345.677}');
SELECT matching('{"path": "a", "$eq": "x"}', '{"a":"x"}', '{"a":"\u0078"}', '{"a":"X"}', '{"a":"xx"}', '{"a":""}', '{"a":["x"]}');
SELECT matching('{"path": "a", "$eq": "a\"\\/\n\tä€😀"}', '{"a":"a\"\\/\n\tä€😀"}', '{"a":"\u0061\u0022\u005c\/\u000A\u0009\u00e4\u20AC\uD83D\ude00"}',
	'{"a":"a\"\\/\n\tä€"}', '{"a":"a\"\\/\n\tä€😀 "}');
SELECT matching('{"path": "a", "$eq": null}', '{"a":null}', '{"a":false}', '{"a":0}', '{"b":null}', '{}');
SELECT matching('{"path": "a", "$eq": true}', '{"a":true}', '{"a":false}', '{"a":1}', '{"a":"true"}');
SELECT matching('{"path": "a", "$eq": false}', '{"a":true}', '{"a":false}', '{"a":null}');
-- Of arrays and objects it is deep; the order of keys does not matter, that of elements does.
SELECT matching('{"path": "a", "$eq": {"x": 1, "y": [1, {"z": null}]}}', '{"a":{"x":1,"y":[1,{"z":null}]}}', '{"a":{ "y" : [ 1.0 , {"\u007a":null} ] , "x" : 1 }}',
	'{"a":{"x":1,"y":[{"z":null},1]}}', '{"a":{"x":1,"y":[1,{"z":null}],"w":0}}', '{"a":{"x":1}}', '{"a":{"x":1,"y":[1,{}]}}', '{"a":{"x":1,"y":[1,{"z":null},2]}}',
	'{"a":{"x":1,"y":[1]}}', '{"a":{"x":1,"y":[]}}', '{"a":{}}', '{"a":[]}');
SELECT matching('{"path": "a", "$eq": {}}', '{"a":{}}', '{"a":{ }}', '{"a":[]}', '{"a":{"b":1}}', '{"a":null}');
SELECT matching('{"path": "a", "$eq": []}', '{"a":[]}', '{"a":[ ]}', '{"a":{}}', '{"a":[null]}', '{"a":[[]]}');

-- $ne wants a value that is there, of whatever type.
SELECT matching('{"path": "a", "$ne": 1}', '{"a":1}', '{"a":1.0}', '{"a":2}', '{"a":"1"}', '{"a":null}', '{"a":[]}', '{"a":{}}', '{"b":2}', '{}');
SELECT matching('{"path": "a", "$ne": {"b": [1]}}', '{"a":1}', '{"a":{"b":[1]}}', '{"a":{"b":[2]}}', '{"a":[1]}', '{}');
SELECT matching('{"path": "a", "$ne": null}', '{"a":1}', '{"a":null}', '{}');

-- Order: numbers with numbers, strings with strings, nothing else.
SELECT matching('{"path": "a", "$gt": 10}', '{"a":10}', '{"a":10.0}', '{"a":10.000001}', '{"a":11}', '{"a":9}', '{"a":1e1}', '{"a":1.1e1}', '{"a":1e300}',
	'{"a":-11}', '{"a":"11"}', '{"a":true}', '{"a":null}', '{"a":[11]}', '{"a":{}}', '{}');
SELECT matching('{"path": "a", "$gte": 10}', '{"a":10}', '{"a":10.0}', '{"a":9.999999}', '{"a":11}', '{"a":9}', '{"a":1e1}');
SELECT matching('{"path": "a", "$lt": -2.5}', '{"a":-2.5}', '{"a":-2.50001}', '{"a":-3}', '{"a":-2}', '{"a":0}', '{"a":25}', '{"a":-1e2}', '{"a":-25e-1}');
SELECT matching('{"path": "a", "$lte": -2.5}', '{"a":-2.5}', '{"a":-2.50001}', '{"a":-3}', '{"a":-2}', '{"a":0}', '{"a":-25e-1}');
SELECT matching('{"path": "a", "$lt": 0}', '{"a":0}', '{"a":-0}', '{"a":-1e-20}', '{"a":1e-20}');
SELECT matching('{"path": "a", "$gt": 9007199254740992}', '{"a":9007199254740992}', '{"a":9007199254740993}', '{"a":9007199254740992.1}', '{"a":99999999999999999999}');
SELECT matching('{"path": "a", "$lt": 123456789012345678901234567890}', '{"a":123456789012345678901234567889}', '{"a":123456789012345678901234567890}',
	'{"a":123456789012345678901234567889.99}', '{"a":1e29}', '{"a":1e30}', '{"a":-1e99}');
SELECT matching('{"path": "a", "$gte": 1e-50}', '{"a":1e-50}', '{"a":0.1e-49}', '{"a":9e-51}', '{"a":1e-49}', '{"a":0}');
SELECT matching('{"path": "a", "$gt": "b"}', '{"a":"b"}', '{"a":"ba"}', '{"a":"c"}', '{"a":"a"}', '{"a":"Z"}', '{"a":""}', '{"a":"ä"}', '{"a":"\u0062\u0061"}', '{"a":3}', '{"a":null}');
SELECT matching('{"path": "a", "$lte": "b"}', '{"a":"b"}', '{"a":"ba"}', '{"a":"c"}', '{"a":"a"}', '{"a":"Z"}', '{"a":""}', '{"a":"ä"}', '{"a":1}');
-- Several operators mean all of them.
SELECT matching('{"path": "a", "$gte": 1, "$lt": 5}', '{"a":0}', '{"a":1}', '{"a":4.9}', '{"a":5}', '{"a":"2"}', '{}');
SELECT matching('{"$not": {"path": "a", "$gte": 1, "$lt": 5}}', '{"a":0}', '{"a":1}', '{"a":4.9}', '{"a":5}', '{"a":"2"}', '{}');
SELECT matching('{"path": "a", "value": 1, "$eq": 2}', '{"a":1}', '{"a":2}');

-- $in
SELECT matching('{"path": "a", "$in": [1, "x", null, {"b": 1}, [2], true]}', '{"a":1}', '{"a":1.00}', '{"a":"x"}', '{"a":null}', '{"a":{"b":1}}', '{"a":[2]}',
	'{"a":true}', '{"a":false}', '{"a":2}', '{"a":"y"}', '{"a":{"b":2}}', '{"a":[]}', '{"a":[1]}', '{}');
SELECT matching('{"path": "a", "$in": [5, 3, 1.5, -7, 100, 1e20, "b", "a", "", "ab"]}', '{"a":5}', '{"a":3}', '{"a":1.5}', '{"a":-7}', '{"a":100}', '{"a":1e20}',
	'{"a":4}', '{"a":-8}', '{"a":1e21}', '{"a":"b"}', '{"a":"a"}', '{"a":""}', '{"a":"ab"}', '{"a":"abc"}', '{"a":"\u0061b"}', '{"a":null}');
SELECT matching('{"path": "a", "$in": []}', '{"a":1}', '{}');
SELECT matching('{"$not": {"path": "a", "$in": []}}', '{"a":1}', '{}');
SELECT count(*) FILTER (WHERE test_filter_jsonb(filter, doc)), count(*) FILTER (WHERE test_filter_raw(filter, convert_to(doc::text, 'UTF8'))), count(*)
FROM (SELECT jsonb_build_object('path', 'a', '$in', jsonb_agg(i * 3) || jsonb_agg('k' || i * 3)) AS filter FROM generate_series(1, 500) i) AS one,
	(SELECT jsonb_build_object('a', i) AS doc FROM generate_series(-10, 1600) i UNION ALL SELECT jsonb_build_object('a', 'k' || i) FROM generate_series(-10, 1600) i) AS docs;

-- $exists and null, which is there.
SELECT matching('{"path": "a", "$exists": true}', '{"a":1}', '{"a":null}', '{"a":{}}', '{"b":1}', '{}', '[]', '"a"');
SELECT matching('{"path": "a", "$exists": false}', '{"a":1}', '{"a":null}', '{"a":{}}', '{"b":1}', '{}', '[]', '"a"');
SELECT matching('{"$not": {"path": "a", "$exists": false}}', '{"a":1}', '{"b":1}');
SELECT matching('{"$not": {"path": "a", "value": 1}}', '{"a":1}', '{"a":2}', '{"b":1}', '[]', '7');

-- $prefix
SELECT matching('{"path": "a", "$prefix": "ab"}', '{"a":"ab"}', '{"a":"abc"}', '{"a":"a"}', '{"a":""}', '{"a":"xab"}', '{"a":"\u0061\u0062c"}', '{"a":"\u0061"}', '{"a":["ab"]}', '{}');
SELECT matching('{"path": "a", "$prefix": ""}', '{"a":""}', '{"a":"x"}', '{"a":1}', '{}');
SELECT matching('{"path": "a", "$prefix": "ä😀"}', '{"a":"ä😀!"}', '{"a":"\u00e4\ud83d\ude00"}', '{"a":"ä"}');

-- Paths.
SELECT matching('{"path": "a.b.c", "value": 1}', '{"a":{"b":{"c":1}}}', '{"a":{"b":{"c":2}}}', '{"a":{"b":1}}', '{"a":1}', '{"a.b.c":1}', '{"a":[{"b":{"c":1}}]}');
SELECT matching('{"path": "a.1", "value": "x"}', '{"a":["y","x"]}', '{"a":{"1":"x"}}', '{"a":["x"]}', '{"a":{"01":"x"}}', '{"a":"x"}');
SELECT matching('{"path": "0.0", "value": 1}', '[[1]]', '[{"0":1}]', '{"0":[1]}', '[1]', '[[2],[1]]');
SELECT matching('{"path": "a.00", "$exists": true}', '{"a":[1]}', '{"a":{"00":1}}', '{"a":{"0":1}}');
SELECT matching('{"$or": [{"path": "a.+1", "$exists": true}, {"path": "a.-1", "$exists": true}, {"path": "a.1x", "$exists": true}, {"path": "a.99999999999999999999", "$exists": true},
	{"path": "a.4294967295", "$exists": true}, {"path": "a.4294967296", "$exists": true}, {"path": "a.foo", "$exists": true}, {"path": "a.100", "$exists": true}, {"path": "a.", "$exists": true}]}',
	'{"a":[1,2,3]}', '{"a":{"4294967295":1}}', '{"a":{"99999999999999999999":1}}', '{"a":{"":1}}', '{"a":{"+1":1}}');
SELECT matching('{"path": "", "value": {"a": 1}}', '{"a":1}', ' { "a" : 1.0 } ', '{"a":1,"b":1}', '[]');
SELECT matching('{"path": "", "value": 5}', '5', ' 5.0 ', '6', '[5]', '"5"');
SELECT matching('{"path": "", "value": [5]}', '5', '[5]', '[5, 5]');
SELECT matching('{"path": "", "$exists": true}', '5', '[]', 'null', '{}');
SELECT matching('{"path": ".", "value": 1}', '{"":{"":1}}', '{"":1}', '{".":1}');
SELECT matching('{"path": ".a", "value": 1}', '{"":{"a":1}}', '{"a":1}');
SELECT matching('{"path": "a\"b.ä", "value": 1}', '{"a\"b":{"ä":1}}', '{"a\u0022b":{"\u00e4":1}}', '{"a\\b":{"ä":1}}');
SELECT matching('{"$and": [{"path": "a", "value": {"b": 1}}, {"path": "a.b", "value": 1}, {"path": "", "$exists": true}]}', '{"a":{"b":1}}', '{"a":{"b":1,"c":1}}');
-- Objects in which keys are searched in another way, because they are many.
SELECT count(*), bool_and(test_filter_jsonb(filter, doc) AND test_filter_raw(filter, convert_to(doc::text, 'UTF8'))) AS found,
	bool_or(test_filter_jsonb(other, doc) OR test_filter_raw(other, convert_to(doc::text, 'UTF8'))) AS found_none
FROM generate_series(1, 200) n, generate_series(1, n, 7) k, LATERAL (SELECT jsonb_object_agg(repeat('k', i % 5) || i, i) AS doc FROM generate_series(1, n) i) AS docs,
	LATERAL (SELECT jsonb_build_object('path', repeat('k', k % 5) || k, 'value', k) AS filter, jsonb_build_object('path', repeat('k', k % 5) || k || 'x', '$exists', true) AS other) AS filters;
SELECT count(*), bool_and(test_filter_jsonb(filter, doc) AND test_filter_raw(filter, convert_to(doc::text, 'UTF8'))) AS found
FROM generate_series(1, 100) n, generate_series(1, n, 7) k, LATERAL (SELECT jsonb_agg(i) AS doc FROM generate_series(1, n) i) AS docs,
	LATERAL (SELECT jsonb_build_object('path', (k - 1)::text, 'value', k) AS filter) AS filters;

-- Combinators.
SELECT matching('{"$and": []}', '{}', '1');
SELECT matching('{"$or": []}', '{}', '1');
SELECT matching('{"$not": {"$and": []}}', '{}', '1');
SELECT matching('{"$not": {"$or": []}}', '{}', '1');
SELECT matching('{"$and": [{"path": "a", "value": 1}, {"path": "b", "value": 2}]}', '{"a":1,"b":2}', '{"b":2,"a":1}', '{"a":1}', '{"b":2}', '{}');
SELECT matching('{"$or": [{"path": "a", "value": 1}, {"path": "b", "value": 2}]}', '{"a":1,"b":2}', '{"b":2,"a":0}', '{"a":1}', '{"b":2}', '{"a":0,"b":0}', '{}');
SELECT matching('{"$not": {"$or": [{"path": "a", "value": 1}, {"$not": {"path": "b", "value": 2}}]}}', '{"a":1,"b":2}', '{"b":2,"a":0}', '{"a":1}', '{"b":2}', '{}');
SELECT matching('{"$or": [{"$and": [{"path": "a", "value": 1}, {"path": "b", "value": 1}]}, {"$and": [{"path": "a", "value": 2}, {"$or": [{"path": "b", "value": 2}, {"path": "c", "value": 2}]}]}, {"$or": []}]}',
	'{"a":1,"b":1}', '{"a":2,"b":1}', '{"a":2,"b":2}', '{"c":2,"a":2}', '{"a":1,"c":2}');
SELECT matching('{"$and": [{"$or": []}, {"path": "a", "value": 1}]}', '{"a":1}');
SELECT matching('{"$or": [{"$and": []}, {"path": "a", "value": 1}]}', '{"a":2}');
SELECT matching('{"$and": [{"$and": [{"$and": []}]}, {"$or": [{"path": "a", "value": 1}]}]}', '{"a":1}', '{"a":2}');
SELECT matching((repeat('{"$not":', 128) || '{"path": "a", "value": 1}' || repeat('}', 128))::jsonb, '{"a":1}', '{"a":2}');
SELECT matching((repeat('{"$not":', 127) || '{"path": "a", "value": 1}' || repeat('}', 127))::jsonb, '{"a":1}', '{"a":2}');
SELECT matching((repeat('{"$and":[', 64) || repeat('{"$or":[', 64) || '{"path": "a", "value": 1}' || repeat(']}', 128))::jsonb, '{"a":1}', '{"a":2}');
-- More tests, groups and paths than fit in one cache line.
SELECT count(*) FILTER (WHERE test_filter_jsonb(filter, doc)), count(*) FILTER (WHERE test_filter_raw(filter, convert_to(doc::text, 'UTF8')))
FROM (SELECT jsonb_build_object('$or', jsonb_agg(jsonb_build_object('$and', jsonb_build_array(jsonb_build_object('path', 'k' || i, 'value', i), jsonb_build_object('path', 'x.' || i, 'value', i))))) AS filter FROM generate_series(0, 300) i) AS one,
	(SELECT jsonb_build_object('k' || i, i, 'x', jsonb_build_array(0, 1, 2, 3, 4, 5)) AS doc FROM generate_series(0, 20) i) AS docs;

-- A raw event that is not JSON never matches, also where a part would.
CREATE FUNCTION raw(filter jsonb, doc bytea) RETURNS bool LANGUAGE sql AS $$SELECT test_filter_raw(filter, doc)$$;
SELECT doc, raw('{"$and": []}', doc) OR raw('{"$not": {"path": "a", "value": 2}}', doc) OR raw('{"path": "a", "value": 1}', doc) AS matches
FROM unnest(ARRAY['', ' ', '{', '{"a":1', '{"a":1,}', '{"a":1}}', '{"a":1} x', '{"a":1 "b":2}', '{"a" 1}', '{"a":1,"b":}', '{"a":1,"b":tru}', '{"a":1,"b":01}', '{"a":1,"b":1.}',
	'{"a":1,"b":.5}', '{"a":1,"b":1e}', '{"a":1,"b":+1}', '{"a":1,"b":-}', '{"a":1,"b":"x}', '{"a":1,"b":"\x"}', '{"a":1,"b":"\u12"}', '{"a":1,"b":"\u0000"}', '{"a":1,"b":"\ud800"}',
	'{"a":1,"b":"\ud800\u0041"}', '{"a":1,"b":"\udc00"}', '{"a":1,"b":[1,2}', '{"a":1,b:2}', '{"a":1,''b'':2}', '{"a":1}{"a":1}', '{"a":1},', 'nul', '[1 2]', '[,1]', '[1,]', '{,"a":1}', 'NaN',
	'{"a":1,"b":"' || chr(9) || '"}', '{"a":1}' || chr(11)]) AS t, LATERAL (SELECT convert_to(t, 'UTF8') AS doc) AS d
WHERE raw('{"$and": []}', doc) OR raw('{"$not": {"path": "a", "value": 2}}', doc) OR raw('{"path": "a", "value": 1}', doc);
SELECT count(*) AS "not UTF-8, but matches"
FROM unnest(ARRAY['\x80', '\xc0af', '\xc1bf', '\xe0809f', '\xeda080', '\xedbfbf', '\xf0808080', '\xf4908080', '\xf5808080', '\xff', '\xc3', '\xe282', '\xf09f98', '\xc328', '\xe28228', '\xfe', '\x00'::bytea]) AS bad,
	LATERAL (SELECT '{"a":1,"b":"'::bytea || bad || '"}'::bytea AS doc) AS d
WHERE raw('{"$and": []}', doc) OR raw('{"path": "a", "value": 1}', doc);
SELECT bool_and(raw('{"path": "a", "value": 1}', '{"a":1,"b":"'::bytea || good || '"}'::bytea)) AS "UTF-8 matches"
FROM unnest(ARRAY['\x7f', '\xc280', '\xdfbf', '\xe0a080', '\xed9fbf', '\xee8080', '\xefbfbf', '\xf0908080', '\xf48fbfbf'::bytea]) AS good;
-- Nesting ends somewhere.
SELECT n, raw('{"$and": []}', convert_to(repeat('[', n) || repeat(']', n), 'UTF8')) AS arrays, raw('{"path": "a", "$exists": false}', convert_to(repeat('{"b":', n) || '1' || repeat('}', n), 'UTF8')) AS objects
FROM unnest(ARRAY[6400, 6401, 100000]) AS n;
SELECT raw(jsonb_build_object('path', repeat('0.', 6398) || '0', 'value', 1), convert_to(repeat('[', n) || 1 || repeat(']', n), 'UTF8')) AS found, raw(jsonb_build_object('path', repeat('0.', 9000) || '0', '$exists', false), convert_to(repeat('[', n) || 1 || repeat(']', n), 'UTF8')) AS missing
FROM unnest(ARRAY[6399, 6400, 6401]) AS n;
-- A result that is false may come before the end is read.
SELECT raw('{"path": "a", "value": 2}', '{"a":1') AS not_json, raw('{"$not": {"path": "a", "value": 2}}', '{"a":1') AS not_json_either;
-- The first of duplicate keys counts here, the last one in jsonb.
SELECT * FROM f('{"path": "a", "value": 1}', '{"a":1,"a":2}');
SELECT * FROM f('{"path": "a.b", "value": 1}', '{"a":{},"a":{"b":1}}');
SELECT * FROM f('{"path": "", "value": {"a": 1}}', '{"a":1,"\u0061":2}');
SELECT * FROM f('{"path": "", "value": {"a": 2}}', '{"a":1,"a":2}');
-- Numbers that no numeric can hold are numbers.
SELECT raw('{"path": "a", "$gt": 1}', '{"a":1e999999999999999999999}') AS huge, raw('{"path": "a", "$lt": 1e-300}', '{"a":1e-999999999999999999999}') AS tiny,
	raw('{"path": "a", "$gt": 0}', '{"a":1e-999999999999999999999}') AS positive, raw('{"path": "a", "$lt": -1e300}', '{"a":-1e999999999999999999999}') AS low, raw('{"path": "a", "value": 0}', '{"a":0e999999999999999999999}') AS zero;
SELECT matching('{"path": "a", "$lt": 1e131071}', '{"a":1e131070}', '{"a":1e131071}', '{"a":9.9e130000}');

-- What is no filter.
CREATE FUNCTION refused(VARIADIC filters text[]) RETURNS TABLE (filter text, message text) LANGUAGE plpgsql AS $$
DECLARE
	hint text;
	state text;
BEGIN
	FOREACH filter IN ARRAY filters LOOP
		BEGIN
			PERFORM test_filter_jsonb(filters.filter::jsonb, '{}') FROM (VALUES (filter)) AS filters (filter);
			message := 'accepted';
		EXCEPTION WHEN invalid_parameter_value THEN
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
			IF hint = '' THEN
				message := message || ' (without hint)';
			END IF;
		END;
		RETURN NEXT;
	END LOOP;
END $$;
SELECT * FROM refused('{}', '[]', '1', 'null', '"path"', '[{"path":"a","value":1}]', '{"path":"a"}', '{"value":1}', '{"$eq":1}', '{"foo":1}', '{"path":"a","value":1,"foo":2}', '{"path":"a","$regex":"x"}',
	'{"path":"a","Value":1}', '{"path":1,"value":1}', '{"path":null,"value":1}', '{"path":["a"],"value":1}', '{"path":"a","$gt":true}', '{"path":"a","$gte":null}', '{"path":"a","$lt":[1]}', '{"path":"a","$lte":{}}',
	'{"path":"a","$in":1}', '{"path":"a","$in":{}}', '{"path":"a","$in":"x"}', '{"path":"a","$exists":1}', '{"path":"a","$exists":"true"}', '{"path":"a","$exists":null}', '{"path":"a","$prefix":1}', '{"path":"a","$prefix":["x"]}',
	'{"$and":{}}', '{"$and":1}', '{"$and":[1]}', '{"$and":[[]]}', '{"$and":[{}]}', '{"$or":null}', '{"$or":["x"]}', '{"$not":[]}', '{"$not":1}', '{"$not":{}}', '{"$nor":[]}', '{"$and":[],"$or":[]}',
	'{"$and":[],"path":"a","value":1}', '{"$not":{"path":"a","value":1},"x":1}', '{"$eq":{"path":"a","value":1}}', '{"$and":[{"path":"a","value":1},{"path":"b"}]}',
	'{"$or":[{"$and":[]},{"bad":1}]}');
SELECT n, message FROM unnest(ARRAY[128, 129, 1000]) n, LATERAL refused(repeat('{"$not":', n) || '{"path":"a","value":1}' || repeat('}', n));
SELECT n, message FROM unnest(ARRAY[128, 129, 1000]) n, LATERAL refused('{"path":"a","value":' || repeat('[', n) || repeat(']', n) || '}');

SELECT test_filter_jsonb('{"path": "a", "$regex": "x"}', '{}');

SELECT test_filter_jsonb((repeat('{"$not":', 129) || '{"path":"a","value":1}' || repeat('}', 129))::jsonb, '{}');
DROP EXTENSION test_filter;
