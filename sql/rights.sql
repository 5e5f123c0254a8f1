--
-- Who may do what
--
CREATE ROLE regress_netbus_nobody;
CREATE ROLE regress_netbus_writer IN ROLE netbus_writer;
CREATE ROLE regress_netbus_reader IN ROLE netbus_reader;
CREATE ROLE regress_netbus_admin IN ROLE netbus_admin;
CREATE ROLE regress_netbus_team;
GRANT regress_netbus_team TO regress_netbus_writer;

-- The roles of netbus.
SELECT rolname, rolcanlogin, rolsuper FROM pg_roles WHERE rolname IN ('netbus_reader', 'netbus_writer', 'netbus_admin') ORDER BY rolname;
SELECT a.rolname AS role, m.rolname AS member FROM pg_auth_members JOIN pg_roles a ON a.oid = roleid JOIN pg_roles m ON m.oid = member
WHERE m.rolname LIKE 'netbus\_%' ORDER BY 1, 2;
-- PUBLIC has no right on anything of netbus.
SELECT p.oid::regprocedure FROM pg_proc p WHERE pronamespace = 'netbus'::regnamespace
	AND (proacl IS NULL OR proacl::text ~ '[{,]=') ORDER BY 1;
SELECT relname FROM pg_class WHERE relnamespace = 'netbus'::regnamespace AND relacl::text ~ '[{,]=' ORDER BY 1;
SELECT nspacl::text ~ '[{,]=' AS public FROM pg_namespace WHERE nspname = 'netbus';
SELECT p.oid::regprocedure::text COLLATE "C" AS function,
	has_function_privilege('regress_netbus_reader', p.oid, 'EXECUTE') AS reader,
	has_function_privilege('regress_netbus_writer', p.oid, 'EXECUTE') AS writer,
	has_function_privilege('regress_netbus_admin', p.oid, 'EXECUTE') AS admin,
	has_function_privilege('pg_monitor', p.oid, 'EXECUTE') AS monitor
FROM pg_proc p WHERE pronamespace = 'netbus'::regnamespace ORDER BY 1;
SELECT relname,
	has_table_privilege('regress_netbus_reader', oid, 'SELECT') AS reader,
	has_table_privilege('regress_netbus_writer', oid, 'SELECT') AS writer,
	has_table_privilege('regress_netbus_admin', oid, 'SELECT') AS admin,
	has_table_privilege('pg_monitor', oid, 'SELECT') AS monitor
FROM pg_class WHERE relnamespace = 'netbus'::regnamespace AND relkind IN ('r', 'v') ORDER BY relname;
SELECT relname FROM pg_class, unnest(ARRAY['reader', 'writer', 'admin']) r
WHERE relnamespace = 'netbus'::regnamespace AND relkind IN ('r', 'v', 'S')
	AND has_table_privilege('regress_netbus_' || r, oid, 'INSERT, UPDATE, DELETE, TRUNCATE');

SET ROLE regress_netbus_nobody;
SELECT netbus.create_log('l');
SELECT netbus.publish('l', '1');
SELECT * FROM netbus.read('l');
SELECT * FROM netbus.logs;
RESET ROLE;
SET ROLE regress_netbus_writer;
SELECT netbus.create_log('l');
RESET ROLE;

-- An admin creates logs, and owns them.
SET ROLE regress_netbus_admin;
SELECT netbus.create_log('l', durability => 'memory');
SELECT log, owner FROM netbus.logs;
SELECT netbus.publish('l', '"by the owner"');
SELECT payload FROM netbus.read('l');
SELECT relname, pg_get_userbyid(relowner) AS owner FROM pg_class
WHERE relnamespace = 'netbus'::regnamespace AND relname ~ '_l$' ORDER BY 1;
SELECT netbus.create_log('l2');
-- Not more than that.
SELECT * FROM netbus.catalog_log;
CREATE TABLE netbus.mine (i int);
RESET ROLE;

-- A writer needs INSERT, a reader SELECT.
SET ROLE regress_netbus_writer;
SELECT netbus.publish('l', '1');
SELECT netbus.publish('l', '1', transactional => false);
SELECT netbus.publish_batch('l', '[]');
SELECT netbus.publish_lines('l', '');
SELECT * FROM netbus.read('l');
SET ROLE regress_netbus_reader;
SELECT * FROM netbus.read('l');
SELECT * FROM netbus.read_raw('l');
SELECT * FROM netbus.tail('l', 0, wait => '1 minute');
SELECT * FROM netbus.get('l', 1);
SELECT netbus.head('l');
SELECT netbus.publish('l', '1');
SELECT log, retained FROM netbus.stat_log ORDER BY log;
SET ROLE regress_netbus_admin;
GRANT INSERT ON netbus.log_l TO regress_netbus_writer;
GRANT SELECT ON netbus.log_l TO regress_netbus_reader;
SET ROLE regress_netbus_writer;
SELECT netbus.publish('l', '"by a writer"');
SELECT netbus.publish('l2', '1');
SET ROLE regress_netbus_reader;
SELECT payload FROM netbus.read('l');
SELECT payload FROM netbus.tail('l', netbus.head('l') - 1);
SELECT payload FROM netbus.get('l', 1);
-- The rows of the table are theirs to see, and nothing else.
SELECT count(*) FROM netbus.log_l;
INSERT INTO netbus.log_l VALUES (1, 0, 1, '');
RESET ROLE;

-- Only the owner alters and drops.
CREATE ROLE regress_netbus_admin2 IN ROLE netbus_admin;
SET ROLE regress_netbus_admin2;
SELECT netbus.alter_log('l', 'backpressure', 'fail');
SELECT netbus.drop_log('l');
SELECT netbus.publish('l', '1');
RESET ROLE;
GRANT regress_netbus_admin TO regress_netbus_admin2;
SET ROLE regress_netbus_admin2;
SELECT netbus.alter_log('l', 'backpressure', NULL);
SELECT netbus.publish('l', '"by a member of the owner"');
SELECT netbus.drop_log('l2');
RESET ROLE;
-- The right INSERT does not let anyone past the guard.
GRANT ALL ON netbus.log_l TO regress_netbus_writer;
SET ROLE regress_netbus_writer;
INSERT INTO netbus.log_l VALUES (1, 0, 1, '');
RESET ROLE;
REVOKE ALL ON netbus.log_l FROM regress_netbus_writer;
GRANT INSERT ON netbus.log_l TO regress_netbus_writer;

-- A right that is taken away is gone for the next call, also in the same transaction.
PREPARE say AS SELECT netbus.publish('l', '"prepared"');
PREPARE say_now AS SELECT netbus.publish('l', '"prepared"', transactional => false);
SET ROLE regress_netbus_writer;
EXECUTE say;
EXECUTE say_now;
RESET ROLE;
REVOKE INSERT ON netbus.log_l FROM regress_netbus_writer;
SET ROLE regress_netbus_writer;
EXECUTE say;
EXECUTE say_now;
RESET ROLE;
GRANT INSERT ON netbus.log_l TO regress_netbus_writer;
BEGIN;
SET LOCAL ROLE regress_netbus_writer;
SELECT netbus.publish('l', '"before REVOKE"');
RESET ROLE;
REVOKE INSERT ON netbus.log_l FROM regress_netbus_writer;
SET LOCAL ROLE regress_netbus_writer;
SELECT netbus.publish('l', '"after REVOKE"');
ROLLBACK;
-- A right that comes from a membership.
REVOKE INSERT ON netbus.log_l FROM regress_netbus_writer;
GRANT INSERT ON netbus.log_l TO regress_netbus_team;
BEGIN;
SET LOCAL ROLE regress_netbus_writer;
SELECT netbus.publish('l', '"as a member"');
RESET ROLE;
REVOKE regress_netbus_team FROM regress_netbus_writer;
SET LOCAL ROLE regress_netbus_writer;
SELECT netbus.publish('l', '"as no member"');
ROLLBACK;
-- Another role in the same transaction.
BEGIN;
SELECT netbus.publish('l', '"before SET ROLE"');
SET LOCAL ROLE regress_netbus_nobody;
SELECT netbus.publish('l', '"as nobody"');
ROLLBACK;
BEGIN;
SELECT netbus.publish('l', '"before SET ROLE"');
GRANT netbus_writer TO regress_netbus_nobody;
SET LOCAL ROLE regress_netbus_nobody;
SELECT netbus.publish('l', '"as a writer without INSERT"');
ROLLBACK;

-- Functions with the rights of their owner.
CREATE SCHEMA regress_netbus;
GRANT ALL ON SCHEMA regress_netbus TO regress_netbus_admin;
GRANT USAGE ON SCHEMA regress_netbus TO PUBLIC;
SET ROLE regress_netbus_admin;
CREATE FUNCTION regress_netbus.say(what jsonb) RETURNS bool LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT netbus.publish('l', what) $$;
CREATE FUNCTION regress_netbus.heard() RETURNS SETOF jsonb LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT payload FROM netbus.read('l') $$;
CREATE VIEW regress_netbus.events AS SELECT seq, payload FROM netbus.read('l', 5);
GRANT SELECT ON regress_netbus.events TO PUBLIC;
RESET ROLE;
BEGIN;
SET LOCAL ROLE regress_netbus_nobody;
SELECT regress_netbus.say('"through a function"');
SELECT netbus.publish('l', '"directly"');
ROLLBACK;
SET ROLE regress_netbus_nobody;
SELECT regress_netbus.say('"through a function"');
SELECT regress_netbus.heard();
-- Functions in a view are called as the user of the view.
SELECT * FROM regress_netbus.events;
RESET ROLE;
SET ROLE regress_netbus_reader;
SELECT * FROM regress_netbus.events;
RESET ROLE;
-- And the other way round: the owner of the function lacks the right.
CREATE FUNCTION regress_netbus.say_as_nobody(what jsonb) RETURNS bool LANGUAGE plpgsql SECURITY DEFINER
AS $$ BEGIN RETURN netbus.publish('l', what); END $$;
ALTER FUNCTION regress_netbus.say_as_nobody OWNER TO regress_netbus_nobody;
GRANT netbus_writer TO regress_netbus_nobody;
BEGIN;
SELECT netbus.publish('l', '"as superuser"');
SELECT regress_netbus.say_as_nobody('"as nobody"');
ROLLBACK;
-- The same call of the same function, as one and as another.
CREATE FUNCTION regress_netbus.say_here(what jsonb, at_commit bool) RETURNS bool LANGUAGE plpgsql
AS $$ BEGIN RETURN netbus.publish('l', what, transactional => at_commit); END $$;
BEGIN;
SELECT regress_netbus.say_here('"as superuser"', true);
SET LOCAL ROLE regress_netbus_nobody;
SELECT regress_netbus.say_here('"as nobody"', true);
ROLLBACK;
BEGIN;
SELECT regress_netbus.say_here('"as superuser"', true);
SET LOCAL ROLE regress_netbus_nobody;
SELECT regress_netbus.say_here('"as nobody"', false);
ROLLBACK;
REVOKE netbus_writer FROM regress_netbus_nobody;

-- What create_log() does on the user's behalf cannot be hijacked.
GRANT CREATE ON SCHEMA regress_netbus TO regress_netbus_admin;
SET ROLE regress_netbus_admin;
CREATE FUNCTION regress_netbus.eq(regclass, regclass) RETURNS bool LANGUAGE plpgsql
AS $$ BEGIN RAISE NOTICE 'hijacked, as %', current_user; RETURN $1::oid OPERATOR(pg_catalog.=) $2::oid; END $$;
CREATE OPERATOR regress_netbus.= (LEFTARG = regclass, RIGHTARG = regclass, FUNCTION = regress_netbus.eq);
SET search_path = regress_netbus, pg_catalog;
SELECT netbus.create_log('l3');
SELECT netbus.alter_log('l3', 'backpressure', 'fail');
SELECT netbus.alter_log('l3', 'ring_size', '8MB');
SHOW search_path;
SELECT netbus.drop_log('l3');
RESET search_path;
RESET ROLE;

SELECT netbus.drop_log('l');
DROP SCHEMA regress_netbus CASCADE;
DROP ROLE regress_netbus_nobody, regress_netbus_writer, regress_netbus_reader, regress_netbus_admin2, regress_netbus_admin, regress_netbus_team;
