--
-- The ring, case by case; each function raises an error that names the line.
--
CREATE EXTENSION test_ring;
SELECT test_ring_wrap();
SELECT test_ring_sizes();
SELECT test_ring_eviction();
SELECT test_ring_order();
SELECT test_ring_skipped();
SELECT test_ring_overtaken();
SELECT test_ring_room();
SELECT test_ring_full();
SELECT test_ring_clock();
SELECT test_ring_limit();
SELECT test_ring_write_behind();
SELECT test_ring_write_through();
SELECT test_ring_seals();
SELECT test_ring_segments();
SELECT test_ring_purging();
DROP EXTENSION test_ring;
