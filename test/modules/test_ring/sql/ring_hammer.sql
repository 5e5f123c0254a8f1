--
-- Several processes at one ring; nothing but errors and what must have occurred
-- is shown.
--
CREATE EXTENSION test_ring;
SELECT * FROM test_ring_hammer(64 * 1024, 2, 2, 3000000);
SELECT * FROM test_ring_hammer(64 * 1024, 4, 2, 3000000);
SELECT * FROM test_ring_hammer(1024 * 1024, 3, 2, 3000000);
-- A wake-up that is lost ends this with an error.
SELECT test_ring_ping_pong(20000);
DROP EXTENSION test_ring;
