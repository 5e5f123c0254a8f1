\echo Use "CREATE EXTENSION test_ring" to load this file. \quit

-- Single cases, in one process.
CREATE FUNCTION test_ring_wrap() RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION test_ring_sizes() RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION test_ring_eviction() RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION test_ring_order() RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION test_ring_skipped() RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION test_ring_overtaken() RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION test_ring_room() RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION test_ring_full() RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION test_ring_clock() RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION test_ring_limit() RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION test_ring_write_behind() RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION test_ring_write_through() RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION test_ring_seals() RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION test_ring_segments() RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION test_ring_purging() RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';

-- Random operations of many claimants, played by one process, beside a model.
CREATE FUNCTION test_ring_model(seed bigint, backing text, operations int, ring_size int, OUT wrapped bool,
	OUT given_up bool, OUT evicted bool, OUT aborted bool, OUT expired bool, OUT recovered bool, OUT sealed bool)
LANGUAGE C AS 'MODULE_PATHNAME';

-- Producers and readers in processes of their own.
CREATE FUNCTION test_ring_hammer(ring_size int, producers int, readers int, events int, OUT wrapped bool,
	OUT given_up bool, OUT overtaken bool, OUT aborted bool)
LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION test_ring_ping_pong(rounds int) RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';
