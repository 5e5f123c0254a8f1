--
-- The extension itself
--
-- Everything that users see tells how it is used.
SELECT p.oid::regprocedure FROM pg_proc p
WHERE pronamespace = 'netbus'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL ORDER BY 1;
SELECT oid::regclass FROM pg_class
WHERE relnamespace = 'netbus'::regnamespace AND relkind IN ('r', 'v') AND obj_description(oid, 'pg_class') IS NULL ORDER BY 1;
SELECT oid::regtype FROM pg_type
WHERE typnamespace = 'netbus'::regnamespace AND typrelid <> 0 AND obj_description(oid, 'pg_type') IS NULL
	AND (SELECT relkind FROM pg_class WHERE oid = typrelid) = 'c';
-- A call is part of it.
SELECT p.oid::regprocedure FROM pg_proc p
WHERE pronamespace = 'netbus'::regnamespace AND prorettype NOT IN ('trigger'::regtype, 'internal'::regtype)
	AND obj_description(p.oid, 'pg_proc') NOT LIKE '%SELECT %netbus.' || proname || '(%' ORDER BY 1;
SELECT relname FROM pg_class
WHERE relnamespace = 'netbus'::regnamespace AND relkind = 'v'
	AND obj_description(oid, 'pg_class') NOT LIKE '%SELECT % FROM netbus.' || relname || '%';
-- No argument or function needs quoting.
SELECT proname, arg FROM pg_proc, unnest(proname::text || coalesce(proargnames, '{}')) arg
WHERE pronamespace = 'netbus'::regnamespace AND arg <> '' AND quote_ident(arg) <> arg;
-- Functions that read or write shared memory are neither stable nor parallel safe: all but this one.
SELECT p.oid::regprocedure FROM pg_proc p
WHERE pronamespace = 'netbus'::regnamespace AND (provolatile <> 'v' OR proparallel = 's') ORDER BY 1;

-- No log goes by accident.
SELECT netbus.create_log('kept');
SELECT netbus.publish('kept', '1');
\set VERBOSITY terse
DROP EXTENSION netbus;
DROP SCHEMA netbus;
BEGIN;
DROP SCHEMA netbus CASCADE;
ROLLBACK;
\set VERBOSITY default
SELECT payload FROM netbus.read('kept');
ALTER EXTENSION netbus SET SCHEMA public;
-- Taken back.
BEGIN;
SET LOCAL client_min_messages = warning;
DROP EXTENSION netbus CASCADE;
SELECT netbus.publish('kept', '2');
ROLLBACK;
SELECT netbus.publish('kept', '2');
SELECT seq, payload FROM netbus.read('kept');

-- A transaction that publishes, then drops everything.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT netbus.publish('kept', '3');
DROP EXTENSION netbus CASCADE;
COMMIT;
SELECT nspname FROM pg_namespace WHERE nspname = 'netbus';
SELECT relname FROM pg_class WHERE relname LIKE 'log\_%';
SELECT netbus.publish('kept', '4');

-- In a database without the extension a schema called netbus is nothing to us, whatever it holds.
DROP SCHEMA netbus;
CREATE SCHEMA netbus;
CREATE TABLE netbus.catalog_log (log text, b int);
INSERT INTO netbus.catalog_log SELECT 'x' FROM generate_series(1, 1000);
CREATE TABLE netbus.log_a ();
ALTER TABLE netbus.log_a RENAME TO log_b;
ALTER TABLE netbus.log_b RENAME TO anything;
DROP TABLE netbus.anything;
CREATE EXTENSION netbus;
\set VERBOSITY terse
SET client_min_messages = warning;
DROP SCHEMA netbus CASCADE;
RESET client_min_messages;
\set VERBOSITY default

-- And anew.
CREATE EXTENSION netbus;
SELECT * FROM netbus.logs;
SELECT count(*) FROM netbus.stat_log;
SELECT netbus.create_log('kept', if_not_exists => true);
SELECT netbus.publish('kept', '1');
SELECT seq, payload FROM netbus.read('kept');
SELECT netbus.drop_log('kept');

-- Created and used in one transaction that does not commit.
SET client_min_messages = warning;
DROP EXTENSION netbus CASCADE;
RESET client_min_messages;
BEGIN;
CREATE EXTENSION netbus;
SELECT netbus.create_log('brief', durability => 'memory');
SELECT netbus.publish('brief', '1');
SELECT netbus.publish('brief', '2', transactional => false);
SELECT seq, payload FROM netbus.read('brief');
ROLLBACK;
CREATE EXTENSION netbus;
SELECT extversion, extrelocatable, nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'netbus';

-- The worker of this database comes (back), and tells who it is.
DO $$
BEGIN
	FOR i IN 1 .. 300 LOOP
		PERFORM FROM netbus.stat_worker WHERE database = current_database() AND state = 'running';
		EXIT WHEN FOUND;
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$;
SELECT kind, coalesce(database = current_database(), false) AS this_database, state, last_error FROM netbus.stat_worker ORDER BY kind;
