--
-- Substrings, whatever the case, by the rules of each database: content_contains
-- finds what strpos(lower(content), lower(needle)) finds
--
SELECT current_database() AS home \gset
SELECT $sql$
	CREATE EXTENSION netbus;
	-- Letters of either case, of other lengths in the other case, of none; the two beyond ASCII whose lower
	-- case is in ASCII; texts that are long.
	CREATE TABLE texts (id serial, content text);
	INSERT INTO texts (content) VALUES ('EPSILON'), ('epsilon'), ('PSI'), ('hello'), ('HELLO'), ('héllo'), ('HÉLLO'), ('h'), ('CAFÉ'), ('café'),
		('é'), ('É'), ('ß'), ('SS'), ('ss'), ('I'), ('i'), ('K'), ('k'), ('ÿ'), ('%'), ('_'), (''), ('éz'), ('ÉÉÉZ'), ('NEEDLE'), ('xneedley'), ('g k'),
		(repeat('É', 1000) || 'z'), (repeat('x', 5000) || 'Needle' || repeat('y', 5000)), (repeat('LONG ', 300) || 'K');
	CREATE VIEW found AS SELECT content AS needle, ARRAY(SELECT id::int FROM netbus.memories(content_contains => content, order_by => 'id_asc')) AS found,
		ARRAY(SELECT id FROM texts t WHERE strpos(lower(t.content), lower(texts.content)) > 0 ORDER BY id) AS wanted FROM texts WHERE length(content) < 20;
$sql$ AS setup, $sql$
	SELECT count(netbus.memory_store(content, id => id)) = (SELECT count(*) FROM texts) AS stored, count(netbus.task_create(content, id => id)) FROM texts;
	SELECT needle, found, wanted FROM found WHERE found <> wanted;
	SELECT needle, wanted AS not_counted FROM found WHERE netbus.memory_count(content_contains => needle) <> cardinality(wanted);
	SELECT needle, wanted AS not_paged FROM found
		WHERE ARRAY(SELECT id::int FROM netbus.memories(content_contains => needle, max_rows => 2, after_id => 2, order_by => 'id_asc')) <> ARRAY(SELECT w FROM unnest(wanted) w WHERE w > 2 LIMIT 2);
	SELECT needle, wanted AS not_a_title FROM found WHERE ARRAY(SELECT id::int FROM netbus.tasks(title_contains => needle, order_by => 'id_asc')) <> wanted
		OR netbus.task_count(title_contains => needle) <> cardinality(wanted);
	SELECT needle, found FROM found WHERE needle IN ('PSI', 'hello', 'CAFÉ', 'I', 'K', 'SS') ORDER BY needle COLLATE "C";
$sql$ AS compare, $sql$
	INSERT INTO texts (content) VALUES (U&'cafe\0301'), ('İstanbul'), ('istanbul'), ('ISTANBUL'), ('ıstanbul'), (U&'300 \212A'), ('300 k'), (U&'\212A'),
		('ΟΔΥΣΣΕΥΣ'), ('οδυσσευς'), ('οδυσσευσ'), ('Σ'), ('σ'), ('ς'), ('ο'), ('ẞ'), ('Ǆ'), ('ǅ'), ('ǆ'), ('ДОМ'), ('дО'), ('日本語'), ('本'), (U&'\2126'), ('ω'), ('Ω'),
		(U&'\+010400'), (U&'\+010428'), ('ı'), ('İ'), (U&'\0301'), (U&'i\0307'), (U&'J\0301'), (U&'\012E\0303'), ('long İ'), (repeat('long ', 300) || 'İ'), ('İK');
$sql$ AS beyond_latin1 \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS netbus_search;

-- C: only ASCII letters have cases.
CREATE DATABASE netbus_search TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
\c netbus_search
\encoding UTF8
:setup
:beyond_latin1
:compare
\c :home
\encoding UTF8
DROP DATABASE netbus_search;

-- A locale of the system.
CREATE DATABASE netbus_search TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8';
\c netbus_search
\encoding UTF8
:setup
:beyond_latin1
:compare
\c :home
\encoding UTF8
DROP DATABASE netbus_search;

-- ICU, where a letter may become two, or depend on its neighbours.
CREATE DATABASE netbus_search TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8' LOCALE_PROVIDER icu ICU_LOCALE 'en';
\c netbus_search
\encoding UTF8
:setup
:beyond_latin1
:compare
\c :home
\encoding UTF8
DROP DATABASE netbus_search;

-- Turkish, where not even ASCII is what it is elsewhere; Lithuanian, where dots are kept.
CREATE DATABASE netbus_search TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8' LOCALE_PROVIDER icu ICU_LOCALE 'tr';
\c netbus_search
\encoding UTF8
:setup
:beyond_latin1
:compare
\c :home
\encoding UTF8
DROP DATABASE netbus_search;
CREATE DATABASE netbus_search TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8' LOCALE_PROVIDER icu ICU_LOCALE 'lt';
\c netbus_search
\encoding UTF8
:setup
:beyond_latin1
:compare
\c :home
\encoding UTF8
DROP DATABASE netbus_search;

-- Other encodings, of one byte and of more.
CREATE DATABASE netbus_search TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER icu ICU_LOCALE 'fr' LOCALE 'C';
\c netbus_search
\encoding UTF8
:setup
:compare
\c :home
\encoding UTF8
DROP DATABASE netbus_search;
CREATE DATABASE netbus_search TEMPLATE template0 ENCODING 'EUC_JP' LOCALE 'C';
\c netbus_search
\encoding UTF8
:setup
INSERT INTO texts (content) VALUES ('日本語'), ('本'), ('日本'), ('ДОМ'), ('дом');
:compare
\c :home
\encoding UTF8
DROP DATABASE netbus_search;
