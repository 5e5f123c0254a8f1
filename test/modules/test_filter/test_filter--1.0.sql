\echo Use "CREATE EXTENSION test_filter" to load this file. \quit

-- Does a document match, as jsonb, and as the text of a JSON value?
CREATE FUNCTION test_filter_jsonb(filter jsonb, doc jsonb) RETURNS bool LANGUAGE C STRICT AS 'MODULE_PATHNAME';
CREATE FUNCTION test_filter_raw(filter jsonb, doc bytea) RETURNS bool LANGUAGE C STRICT AS 'MODULE_PATHNAME';

-- Nanoseconds for one match of many, for measurements by hand.
CREATE FUNCTION test_filter_time_jsonb(filter jsonb, doc jsonb, matches int) RETURNS float8 LANGUAGE C STRICT AS 'MODULE_PATHNAME';
CREATE FUNCTION test_filter_time_raw(filter jsonb, doc bytea, matches int) RETURNS float8 LANGUAGE C STRICT AS 'MODULE_PATHNAME';
