# When there is no shared memory for a model to grow.  Segments are files here, and a
# limit on the size of the worker's files stands in for a /dev/shm that is full.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use NetbusTest;
use NetbusWorkload;

plan skip_all => 'needs prlimit' if system('prlimit --version >/dev/null 2>&1') != 0;

my $node = PostgreSQL::Test::Cluster->new('main');

$node->init(extra => ['--wal-segsize=1']);
$node->append_conf('postgresql.conf', join("\n", "shared_preload_libraries = 'netbus'", 'dynamic_shared_memory_type = mmap', 'autovacuum = off', 'min_wal_size = 32MB',
		'log_statement = none', 'log_min_duration_statement = -1', ''));
$node->start;
netbus_db($node, 'app');
$node->safe_psql('app', "SELECT netbus.create_log('plain', durability => 'async', ring_size => '64kB'); SELECT netbus.memory_store('small ' || i, id => i) FROM generate_series(1, 10) i; SELECT netbus.task_create('t', id => 1)");
is($node->safe_psql('app', 'SELECT netbus.memory_count(), netbus.task_count()'), '10|1', 'there is memory at first');

my $worker = worker_pid($node, 'app');
system_or_bail('prlimit', "--pid=$worker", '--fsize=1048576:');
$node->safe_psql('app', "SELECT netbus.memory_store(repeat('x', 1000000), id => 11), netbus.memory_store('behind', id => 12), netbus.memory_delete(1)");
ok($node->poll_query_until('app', "SELECT last_error ~ 'could not resize|File too large|No space' FROM netbus.stat_worker WHERE kind = 'worker'"), 'a model that cannot grow: the worker reports it');
like(slurp_file($node->logfile), qr/ERROR: .*CONTEXT:  allocating memory for model "default" of memories/s, '... and says for what');
is(sqlstate($node, 'app', "SET netbus.wait_timeout = '300ms'; SELECT netbus.memory_count()"), '55000', '... queries fail clearly');
is($node->safe_psql('app', "SET netbus.read_consistency = 'none'; SELECT netbus.memory_count()"), 10, '... or see what there was');
is($node->safe_psql('app', "SELECT netbus.task_create('u', id => 2); SELECT netbus.task_count()"), "2\n2", '... other models go on');
is($node->safe_psql('app', "SELECT count(netbus.publish('plain', to_jsonb(i))) FROM generate_series(1, 100) i; SELECT netbus.flush('plain'); SELECT count(*) > 0 FROM netbus.log_plain"), "100\nt\nt", '... and so do the other jobs');
is(worker_pid($node, 'app'), $worker, '... of the same worker');
is(sqlstate($node, 'app', "SET netbus.wait_timeout = '300ms'; SELECT netbus.snapshot_model('memories')"), '55000', '... a snapshot is not to be had');
system_or_bail('prlimit', "--pid=$worker", '--fsize=unlimited:');
is($node->safe_psql('app', 'SELECT count(*), max(length(content)), min(id) FROM netbus.memories()'), '11|1000000|2', '... until there is memory again');

# The same while a model is built anew, because an error came in the middle of a change.
if (debug_build($node, 'app'))
{
	$node->safe_psql('app', "SELECT netbus.snapshot_model('memories')");
	system_or_bail('prlimit', "--pid=$worker", '--fsize=1048576:');
	$node->safe_psql('app', "ALTER SYSTEM SET netbus.debug_point = 'fold_change:error'");
	$node->reload;
	$node->safe_psql('app', "SELECT netbus.memory_store('one more', id => 13)");
	$node->poll_query_until('app', "SELECT state = 'loading' FROM netbus.stat_model WHERE kind = 'memories'");
	$node->safe_psql('app', 'ALTER SYSTEM RESET netbus.debug_point');
	$node->reload;
	is(sqlstate($node, 'app', "SET netbus.wait_timeout = '500ms'; SELECT netbus.memory_count()"), '55000', 'a model that cannot be loaded is not ready');
	is(sqlstate($node, 'app', "SET netbus.wait_timeout = '300ms'; SET netbus.read_consistency = 'none'; SELECT netbus.memory_count()"), '55000', '... and shows no half of it');
	is($node->safe_psql('app', 'SELECT netbus.task_count()'), 2, '... others are');
	system_or_bail('prlimit', "--pid=$worker", '--fsize=unlimited:');
	is($node->safe_psql('app', 'SELECT netbus.memory_count()'), 12, '... until it can');
}
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|WARNING:  skipping/, 'no process has crashed, no snapshot is blamed');
$node->stop;
done_testing();
