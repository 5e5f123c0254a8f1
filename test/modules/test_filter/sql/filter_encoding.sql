--
-- Databases in other encodings: jsonb is in that of the server, raw JSON in UTF-8.
--
\set database :DBNAME
CREATE DATABASE netbus_latin1 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
CREATE DATABASE netbus_ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;

\c netbus_latin1
CREATE EXTENSION test_filter;
-- a-umlaut is e4 here, and c3a4 in UTF-8
SELECT filter::text ~ '^[ -~]*$' AS ascii, test_filter_jsonb(filter, '{"\u00e4": "\u00f6b"}') AS as_jsonb, test_filter_raw(filter, '{"\303\244": "\303\266b"}') AS as_utf8,
	test_filter_raw(filter, '{"\\u00e4": "\\u00f6\\u0062"}') AS escaped, test_filter_raw(filter, '{"\344": "\366b"}') AS as_latin1, test_filter_raw(filter, '{"\\u00e4": "\\u00f6\\u20ac"}') AS euro
FROM (VALUES ('{"path": "\u00e4", "$eq": "\u00f6b"}'::jsonb), ('{"path": "\u00e4", "$in": ["\u00f6b", "z", "\u00e5", "a", 1]}'), ('{"path": "\u00e4", "$prefix": "\u00f6"}'),
	('{"path": "", "$eq": {"\u00e4": "\u00f6b"}}'), ('{"$not": {"path": "\u00e5", "$eq": "\u00f6b"}}'), ('{"path": "x", "$exists": true}')) AS t (filter);

\c netbus_ascii
CREATE EXTENSION test_filter;
-- bytes are compared as they are
SELECT test_filter_jsonb(filter, doc::jsonb) AS as_jsonb, test_filter_raw(filter, doc::bytea) AS as_raw
FROM (VALUES (format('{"path": "%1$s", "$prefix": "%2$s"}', E'\303\244', E'\303\266')::jsonb, format('{"%1$s": "%2$sb"}', E'\303\244', E'\303\266')),
	(format('{"path": "%1$s", "$prefix": "%2$s"}', E'\344', E'\366')::jsonb, format('{"%1$s": "%2$sb"}', E'\344', E'\366'))) AS t (filter, doc);

\c :database
DROP DATABASE netbus_latin1;
DROP DATABASE netbus_ascii;
