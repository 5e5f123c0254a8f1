--
-- Random filters and documents: both matchers beside a slow reference, and the
-- scanner's idea of JSON beside that of jsonb_in().  Only what differs is shown.
--
CREATE EXTENSION test_filter;
SELECT setseed(0.4711);

CREATE FUNCTION pick(VARIADIC choices text[]) RETURNS text LANGUAGE sql AS $$
	SELECT choices[1 + floor(random() * array_length(choices, 1))::int]
$$;

CREATE FUNCTION random_space() RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN random() < 0.8 THEN '' ELSE pick(' ', E'\n', E'\t\r ', '  ') END
$$;

-- A string, with some characters escaped that need not be.
CREATE FUNCTION random_string(content text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text := '';
	c text;
BEGIN
	FOREACH c IN ARRAY string_to_array(content, NULL) LOOP
		IF c = '😀' THEN
			result := result || pick(c, c, '\ud83d\uDE00');
		ELSIF c IN ('"', '\', E'\n') THEN
			result := result || CASE WHEN random() < 0.5 THEN '\u' || lpad(to_hex(ascii(c)), 4, '0') WHEN c = E'\n' THEN '\n' ELSE '\' || c END;
		ELSE
			result := result || CASE WHEN random() < 0.1 THEN '\u' || lpad(to_hex(ascii(c)), 4, '0') ELSE c END;
		END IF;
	END LOOP;
	RETURN '"' || result || '"';
END $$;

-- Few values, in many ways to write them.
CREATE FUNCTION random_scalar() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	kind float8 := random();
BEGIN
	IF kind < 0.4 THEN
		RETURN pick('0', '-0', '0.0', '0e5', '1', '1.0', '1e0', '10e-1', '0.1e1', '-1', '-1.00', '2', '20e-1', '1.5', '15e-1', '-1.5', '12', '1.2e1', '10000', '1e4', '1E+4', '10001', '9999.99',
			'0.0001', '1e-4', '0.00001', '1e-5', '12345678901234567890', '1234567890123456789e1', '1e100', '10e99', '-1e100', '1e-100', '999999999999999999', '1e18', '1000000000000000000');
	ELSIF kind < 0.75 THEN
		RETURN random_string(pick('', 'a', 'ab', 'abc', 'b', 'ä', 'äb', '😀', 'a"b', 'a\', E'a\nb', 'Z', '1', 'true'));
	END IF;
	RETURN pick('null', 'true', 'false');
END $$;

CREATE FUNCTION random_key() RETURNS text LANGUAGE sql AS $$SELECT pick('a', 'b', 'c', 'ä', '', '0', '1', 'ab')$$;

CREATE FUNCTION random_json(depth int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	kind float8 := random();
	keys text[] := '{}';
	parts text[] := '{}';
	key text;
BEGIN
	IF depth = 0 OR kind < 0.3 THEN
		RETURN random_scalar();
	ELSIF kind < 0.5 THEN
		FOR i IN 1 .. floor(random() * 4)::int LOOP
			parts := parts || (random_space() || random_json(depth - 1) || random_space());
		END LOOP;
		RETURN '[' || CASE WHEN parts = '{}' THEN random_space() ELSE array_to_string(parts, ',') END || ']';
	END IF;
	FOR i IN 1 .. floor(random() * 5)::int LOOP
		key := random_key();
		CONTINUE WHEN key = ANY (keys);
		keys := keys || key;
		parts := parts || (random_space() || random_string(key) || random_space() || ':' || random_space() || random_json(depth - 1) || random_space());
	END LOOP;
	RETURN '{' || CASE WHEN parts = '{}' THEN random_space() ELSE array_to_string(parts, ',') END || '}';
END $$;

-- An operand: often a part of a document, so that it is found.
CREATE FUNCTION random_operand(doc jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	result jsonb := doc;
	part jsonb;
BEGIN
	IF random() < 0.3 THEN
		RETURN random_json(2)::jsonb;
	END IF;
	FOR i IN 1 .. 4 LOOP
		part := NULL;
		IF jsonb_typeof(result) = 'object' THEN
			SELECT value INTO part FROM jsonb_each(result) ORDER BY random() LIMIT 1;
		ELSIF jsonb_typeof(result) = 'array' THEN
			SELECT value INTO part FROM jsonb_array_elements(result) ORDER BY random() LIMIT 1;
		END IF;
		EXIT WHEN part IS NULL OR random() < 0.15;
		result := part;
	END LOOP;
	RETURN result;
END $$;

CREATE FUNCTION random_filter(doc jsonb, depth int) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	kind float8 := random();
	result jsonb;
	members jsonb := '[]';
	operator text;
BEGIN
	IF depth > 0 AND kind < 0.2 THEN
		RETURN jsonb_build_object('$not', random_filter(doc, depth - 1));
	ELSIF depth > 0 AND kind < 0.6 THEN
		FOR i IN 1 .. floor(random() * 4)::int LOOP
			members := members || jsonb_build_array(random_filter(doc, depth - 1));
		END LOOP;
		RETURN jsonb_build_object(pick('$and', '$or'), members);
	END IF;

	result := jsonb_build_object('path', array_to_string(ARRAY(SELECT random_key() FROM generate_series(1, floor(random() * 4)::int)), '.'));
	LOOP
		operator := pick('value', '$eq', '$ne', '$gt', '$gte', '$lt', '$lte', '$in', '$exists', '$prefix');
		result := result || jsonb_build_object(operator, CASE
			WHEN operator = '$in' THEN coalesce((SELECT jsonb_agg(random_operand(doc)) FROM generate_series(1, floor(random() * 7)::int)), '[]')
			WHEN operator = '$exists' THEN to_jsonb(random() < 0.5)
			WHEN operator = '$prefix' THEN random_string(pick('', 'a', 'ab', 'ä', '😀', 'a"'))::jsonb
			WHEN operator IN ('$gt', '$gte', '$lt', '$lte') THEN (SELECT s FROM (SELECT random_scalar()::jsonb AS s FROM generate_series(1, 50)) AS scalars WHERE jsonb_typeof(s) IN ('number', 'string') LIMIT 1)
			ELSE random_operand(doc) END);
		EXIT WHEN random() < 0.8;
	END LOOP;
	RETURN result;
END $$;

-- The reference: by the operators of jsonb, whose equality is deep.
CREATE FUNCTION reference_value(doc jsonb, path text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	segment text;
BEGIN
	IF path = '' THEN
		RETURN doc;
	END IF;
	FOREACH segment IN ARRAY string_to_array(path, '.') LOOP
		doc := CASE jsonb_typeof(doc)
			WHEN 'object' THEN doc -> segment
			WHEN 'array' THEN CASE WHEN segment ~ '^(0|[1-9][0-9]*)$' THEN doc -> segment::int END END;
	END LOOP;
	RETURN doc;
END $$;

CREATE FUNCTION reference(filter jsonb, doc jsonb) RETURNS bool LANGUAGE plpgsql AS $$
DECLARE
	found jsonb;
	member jsonb;
	operator text;
	operand jsonb;
	result bool := true;
BEGIN
	IF filter ? '$not' THEN
		RETURN NOT reference(filter -> '$not', doc);
	ELSIF filter ? '$and' THEN
		FOR member IN SELECT jsonb_array_elements(filter -> '$and') LOOP
			IF NOT reference(member, doc) THEN
				RETURN false;
			END IF;
		END LOOP;
		RETURN true;
	ELSIF filter ? '$or' THEN
		FOR member IN SELECT jsonb_array_elements(filter -> '$or') LOOP
			IF reference(member, doc) THEN
				RETURN true;
			END IF;
		END LOOP;
		RETURN false;
	END IF;

	found := reference_value(doc, filter ->> 'path');
	FOR operator, operand IN SELECT * FROM jsonb_each(filter - 'path') LOOP
		IF operator = '$exists' THEN
			result := result AND (found IS NOT NULL) = operand::bool;
		ELSIF found IS NULL THEN
			result := false;
		ELSIF operator IN ('value', '$eq') THEN
			result := result AND found = operand;
		ELSIF operator = '$ne' THEN
			result := result AND found <> operand;
		ELSIF operator = '$in' THEN
			result := result AND found IN (SELECT jsonb_array_elements(operand));
		ELSIF jsonb_typeof(found) <> jsonb_typeof(operand) THEN
			result := false;
		ELSIF operator = '$prefix' THEN
			result := result AND starts_with(found #>> '{}', operand #>> '{}');
		ELSIF jsonb_typeof(operand) = 'number' THEN
			result := result AND CASE operator WHEN '$gt' THEN found::numeric > operand::numeric WHEN '$gte' THEN found::numeric >= operand::numeric
				WHEN '$lt' THEN found::numeric < operand::numeric ELSE found::numeric <= operand::numeric END;
		ELSE
			result := result AND CASE operator WHEN '$gt' THEN (found #>> '{}') COLLATE "C" > operand #>> '{}' WHEN '$gte' THEN (found #>> '{}') COLLATE "C" >= operand #>> '{}'
				WHEN '$lt' THEN (found #>> '{}') COLLATE "C" < operand #>> '{}' ELSE (found #>> '{}') COLLATE "C" <= operand #>> '{}' END;
		END IF;
	END LOOP;
	RETURN result;
END $$;

-- Each filter meets the document that its operands are from, and others.
DO $$
DECLARE
	docs text[] := ARRAY(SELECT random_json(4) FROM generate_series(1, 2000));
	filter jsonb;
	doc text;
	expected bool;
	as_jsonb bool;
	as_raw bool;
	compared int := 0;
	matches int := 0;
	differences int := 0;
BEGIN
	FOR i IN 1 .. 5000 LOOP
		doc := docs[1 + i % 2000];
		filter := random_filter(doc::jsonb, i % 4);
		FOR j IN 1 .. 8 LOOP
			expected := reference(filter, doc::jsonb);
			as_jsonb := test_filter_jsonb(filter, doc::jsonb);
			as_raw := test_filter_raw(filter, convert_to(doc, 'UTF8'));
			compared := compared + 1;
			matches := matches + expected::int;
			IF as_jsonb IS DISTINCT FROM expected OR as_raw IS DISTINCT FROM expected THEN
				differences := differences + 1;
				IF differences <= 5 THEN
					RAISE NOTICE '% of %: expected %, jsonb %, raw %', filter, doc, expected, as_jsonb, as_raw;
				END IF;
			END IF;
			doc := docs[1 + floor(random() * 2000)::int];
		END LOOP;
	END LOOP;
	RAISE NOTICE '% matches compared, % differences', compared, differences;
	IF matches NOT BETWEEN compared / 5 AND compared * 4 / 5 THEN
		RAISE NOTICE 'the filters are not good: % of % match', matches, compared;
	END IF;
END $$;

-- Documents with a byte removed, added, or replaced by another one: are they JSON?
DO $$
DECLARE
	docs text[] := ARRAY(SELECT random_json(3) FROM generate_series(1, 1000));
	doc bytea;
	at int;
	kind float8;
	expected bool;
	wrong int := 0;
	differences int := 0;
BEGIN
	FOR i IN 1 .. 40000 LOOP
		doc := convert_to(docs[1 + floor(random() * 1000)::int], 'UTF8');
		FOR j IN 1 .. floor(random() * 3)::int LOOP
			at := floor(random() * length(doc))::int;
			kind := random();
			IF kind < 0.3 THEN
				doc := substr(doc, 1, at) || substr(doc, at + 2);
			ELSE
				doc := substr(doc, 1, at) || CASE WHEN random() < 0.8 THEN convert_to(pick('{', '}', '[', ']', ',', ':', '"', '\', '0', '1', '-', '.', 'e', 'u', 't', ' ', E'\n', E'\x01', 'ä', '\u0000', '\ud800', '\udc00', 'true'), 'UTF8')
					ELSE set_byte('\x00'::bytea, 0, 1 + floor(random() * 255)::int) END || substr(doc, at + CASE WHEN kind < 0.6 THEN 1 ELSE 2 END);
			END IF;
		END LOOP;
		BEGIN
			PERFORM convert_from(doc, 'UTF8')::jsonb;
			expected := true;
		EXCEPTION
			WHEN numeric_value_out_of_range THEN
				CONTINUE; -- a number for the one and not for the other
			WHEN data_exception THEN
				expected := false;
				wrong := wrong + 1;
		END;
		IF test_filter_raw('{"$and": []}', doc) <> expected OR test_filter_raw('{"$or": [{"path": "a.b", "$exists": true}, {"path": "a.b", "$exists": false}]}', doc) <> expected THEN
			differences := differences + 1;
			IF differences <= 5 THEN
				RAISE NOTICE '%: expected %', encode(doc, 'escape'), expected;
			END IF;
		END IF;
	END LOOP;
	RAISE NOTICE '% differences', differences;
	IF wrong NOT BETWEEN 8000 AND 32000 THEN
		RAISE NOTICE 'the documents are not good: % are not JSON', wrong;
	END IF;
END $$;
DROP EXTENSION test_filter;
