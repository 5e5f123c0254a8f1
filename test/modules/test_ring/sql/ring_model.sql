--
-- Random operations beside a model, everything compared after each.
--
CREATE EXTENSION test_ring;
SELECT * FROM test_ring_model(1, 60000, 64 * 1024);
SELECT * FROM test_ring_model(2, 60000, 64 * 1024);
SELECT * FROM test_ring_model(3, 60000, 128 * 1024);
-- More blocks than terms, and more than one page of each.
SELECT * FROM test_ring_model(4, 30000, 1024 * 1024);
DROP EXTENSION test_ring;
