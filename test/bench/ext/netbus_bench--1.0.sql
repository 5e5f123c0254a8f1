\echo Use "CREATE EXTENSION netbus_bench" to load this file. \quit

-- The parameters of netbus.publish(), and nothing done: what a call costs.
CREATE FUNCTION f_empty(log text, payload jsonb, key text DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bench_empty';
CREATE FUNCTION f_empty(log text, payload bytea, key text DEFAULT NULL, transactional boolean DEFAULT true)
RETURNS boolean LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bench_empty';

-- Each of many non-transactional publishes timed; log NULL: times nothing.
CREATE FUNCTION single(log text, calls bigint, len integer, OUT p50 float8, OUT p99 float8, OUT p999 float8,
	OUT mean float8, OUT max float8)
LANGUAGE C AS 'MODULE_PATHNAME', 'bench_single';

-- Median nanoseconds of a burst of n events, in one call or one by one.
CREATE FUNCTION burst(log text, n integer, len integer, bursts integer, one_by_one boolean)
RETURNS float8 LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'bench_burst';

-- How many frames there are after a seq.
CREATE FUNCTION frames(log text, after_seq bigint)
RETURNS integer LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'bench_frames';

-- Publish for some seconds, in batches; per_transaction batches a transaction,
-- 0: without waiting for transactions. The last event is empty.
CREATE PROCEDURE produce(log text, seconds float8, batch integer, len integer, per_transaction integer,
	INOUT published bigint, INOUT elapsed float8)
LANGUAGE C AS 'MODULE_PATHNAME', 'bench_produce';

-- Tail until the empty event; bad: events out of order or with a wrong content.
CREATE FUNCTION consume(log text, after_seq bigint, OUT seen bigint, OUT lost bigint, OUT bad bigint)
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'bench_consume';

-- Execute a prepared statement that many times, with the rows of a query as parameters in turn.
-- Returns the median of the microseconds that one takes, and how many rows all gave.
CREATE FUNCTION execute(statement text, parameters text, times integer, OUT us float8, OUT found bigint)
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'bench_execute';
