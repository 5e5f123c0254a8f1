-- core: roles, and the state of the workers.

-- The objects below trust what is in their schema, so nobody else may have put
-- anything there.
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
			WHERE n.nspname OPERATOR(pg_catalog.=) 'netbus' AND r.rolname OPERATOR(pg_catalog.<>) current_user AND NOT r.rolsuper)
		OR EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) 'netbus'::pg_catalog.regnamespace::pg_catalog.oid)
		OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace OPERATOR(pg_catalog.=) 'netbus'::pg_catalog.regnamespace::pg_catalog.oid)
		OR EXISTS (SELECT FROM pg_catalog.pg_operator WHERE oprnamespace OPERATOR(pg_catalog.=) 'netbus'::pg_catalog.regnamespace::pg_catalog.oid)
		OR EXISTS (SELECT FROM pg_catalog.pg_type WHERE typnamespace OPERATOR(pg_catalog.=) 'netbus'::pg_catalog.regnamespace::pg_catalog.oid)
	THEN
		RAISE EXCEPTION 'schema "netbus" exists and belongs to somebody else or is not empty'
			USING ERRCODE = 'duplicate_schema', HINT = 'Drop or rename it before CREATE EXTENSION netbus.';
	END IF;
END
$$;

-- Roles belong to the server, not to the database: they may exist already, or
-- come into being at this moment in another database.
DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY ARRAY['netbus_reader', 'netbus_writer', 'netbus_admin'] LOOP
		BEGIN
			IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
				EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', name);
			END IF;
		EXCEPTION WHEN duplicate_object OR unique_violation THEN
			NULL;
		END;
	END LOOP;

	FOREACH name IN ARRAY ARRAY['netbus_reader', 'netbus_writer'] LOOP
		BEGIN
			IF NOT pg_catalog.pg_has_role('netbus_admin', name, 'MEMBER') THEN
				EXECUTE pg_catalog.format('GRANT %I TO netbus_admin', name);
			END IF;
		EXCEPTION WHEN unique_violation THEN
			NULL;
		END;
	END LOOP;
END
$$;

GRANT USAGE ON SCHEMA netbus TO netbus_reader, netbus_writer, netbus_admin, pg_monitor;

CREATE FUNCTION netbus.stat_get_worker(
	OUT kind text,
	OUT database text,
	OUT pid int,
	OUT state text,
	OUT started timestamptz,
	OUT restarts int,
	OUT last_error text,
	OUT last_error_at timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
ROWS 2
AS 'MODULE_PATHNAME', 'netbus_stat_worker';

COMMENT ON FUNCTION netbus.stat_get_worker() IS
'the rows of the view netbus.stat_worker: SELECT * FROM netbus.stat_get_worker()';

REVOKE ALL ON FUNCTION netbus.stat_get_worker() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION netbus.stat_get_worker() TO netbus_admin, pg_monitor;

CREATE VIEW netbus.stat_worker AS
SELECT kind, database, pid, state, started, restarts, last_error, last_error_at
FROM netbus.stat_get_worker();

COMMENT ON VIEW netbus.stat_worker IS
'the launcher, and the worker of this database (state: starting, running, holding, backing off, stopped): SELECT kind, state, last_error FROM netbus.stat_worker';

REVOKE ALL ON netbus.stat_worker FROM PUBLIC;
GRANT SELECT ON netbus.stat_worker TO netbus_admin, pg_monitor;

CREATE FUNCTION netbus.stats_reset(kind text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'netbus_stats_reset';

COMMENT ON FUNCTION netbus.stats_reset(text) IS
'Let the counters of stat_log, stat_consumer, stat_model or stat_watch begin anew, or without kind those of all, in this database: SELECT netbus.stats_reset(''consumer'')';

REVOKE ALL ON FUNCTION netbus.stats_reset(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION netbus.stats_reset(text) TO netbus_admin;
