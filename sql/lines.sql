--
-- Publishing lines
--
SELECT netbus.create_log('docs', durability => 'memory');
SELECT netbus.create_log('raw', durability => 'memory', format => 'bytea');

SELECT netbus.publish_lines('docs', E'{"n": 1}\n{"n": 2}\n{"n": 3}');
SELECT netbus.publish_lines('docs', E'{"n": 4}\r\n{"n": 5}\r\n');
-- Blank lines are no events.
SELECT netbus.publish_lines('docs', E'\n\n{"n": 6}\n  \n\t\n\r\n  {"n": 7}  \n   ');
SELECT netbus.publish_lines('docs', '');
SELECT netbus.publish_lines('docs', E'\n');
SELECT netbus.publish_lines('docs', '      ');
SELECT netbus.publish_lines('docs', E'8\n"nine"\nnull\n[]'::bytea);
SELECT netbus.publish_lines('docs', '12', transactional => false);
SELECT seq, payload FROM netbus.read('docs');

-- In a log of bytes a line is any bytes but a line end.
SELECT netbus.publish_lines('raw', '\x00ff0a0a410d0a20'::bytea);
SELECT netbus.publish_lines('raw', 'one'::bytea, false);
SELECT seq, payload FROM netbus.read_raw('raw');

-- The error tells which line is wrong; none is published.
SELECT netbus.publish_lines('docs', E'1\n\n{"n": \n4');
SELECT netbus.publish_lines('docs', E'1\n\n{"n": \n4', transactional => false);
SELECT netbus.publish_lines('docs', E'1\n2 3'::bytea);
SELECT netbus.publish_lines('docs', '\x310a22ff22'::bytea);
SELECT netbus.publish_lines('docs', '\x310a220022'::bytea);
SELECT netbus.publish_lines('raw', E'a\nb');
SELECT netbus.publish_lines('raw', E'a\nb'::text);
SELECT netbus.publish_lines('docs', NULL);
SELECT netbus.publish_lines('docs', '1', NULL);
SELECT netbus.publish_lines(NULL, '1');
SELECT netbus.publish_lines('nowhere', '1');
SELECT netbus.head('docs'), netbus.head('raw');

-- Many lines.
SELECT netbus.publish_lines('docs', string_agg('{"n": ' || i || '}', E'\n' ORDER BY i)) FROM generate_series(1, 20000) i;
SELECT count(*), sum((payload ->> 'n')::int), bool_and(seq = 12 + (payload ->> 'n')::int) AS ordered
FROM netbus.read('docs', 12, max_events => 100000);
SELECT netbus.publish_lines('raw', string_agg('{"n": ' || i || '}', E'\n' ORDER BY i)::bytea) FROM generate_series(1, 20000) i;
SELECT count(*), sum((payload ->> 'n')::int), bool_and(seq = 4 + (payload ->> 'n')::int) AS ordered
FROM netbus.read('raw', 4, max_events => 100000);

SELECT netbus.drop_log('docs');
SELECT netbus.drop_log('raw');
