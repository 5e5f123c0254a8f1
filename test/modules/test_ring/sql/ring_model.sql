--
-- Random operations beside a model, everything compared after each.
--
CREATE EXTENSION test_ring;
SELECT * FROM test_ring_model(1, 'unbacked', 60000, 64 * 1024);
SELECT * FROM test_ring_model(2, 'unbacked', 60000, 64 * 1024);
SELECT * FROM test_ring_model(3, 'unbacked', 60000, 128 * 1024);
SELECT * FROM test_ring_model(4, 'write-behind', 60000, 64 * 1024);
SELECT * FROM test_ring_model(5, 'write-behind', 60000, 128 * 1024);
SELECT * FROM test_ring_model(6, 'write-through', 60000, 64 * 1024);
SELECT * FROM test_ring_model(7, 'write-through', 60000, 128 * 1024);
-- More blocks than terms, and more than one page of each.
SELECT * FROM test_ring_model(8, 'unbacked', 30000, 1024 * 1024);
SELECT * FROM test_ring_model(9, 'write-behind', 30000, 1024 * 1024);
DROP EXTENSION test_ring;
