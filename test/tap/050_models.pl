# The life of models beside what PostgreSQL does to databases, tables and servers:
# dump and restore, templates, dropping, upgrades, standbys, subscriptions,
# maintenance of the log; limits; waiting.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use NetbusTest;
use NetbusWorkload;

my $node = netbus_node('main', 'jit = off', 'netbus.max_models = 12', 'netbus.model_memory = 16MB', 'netbus.snapshot_interval = 0', 'wal_level = logical', 'log_statement = none',
	'log_min_duration_statement = -1');
my ($session, $offset);

netbus_db($node, 'app');
$node->safe_psql('app', <<~'SQL');
	CREATE ROLE clerk IN ROLE netbus_admin;
	GRANT CREATE ON DATABASE app TO clerk;
	CREATE TABLE told (id bigint);
	SELECT count(netbus.memory_store('memory ' || i, ARRAY['t' || i % 7], 'source ' || i % 3, data => to_jsonb(i), id => i)) FROM generate_series(1, 500) i;
	SELECT netbus.memory_delete(i), netbus.memory_pin(i + 1), netbus.memory_retag(i + 2, '{other}') FROM generate_series(1, 100, 10) i;
	SELECT netbus.task_create('task ' || i, id => i) FROM generate_series(1, 20) i;
	SELECT netbus.task_complete(i) FROM generate_series(1, 5) i;
	SET ROLE clerk;
	SELECT netbus.create_model('memories', 'team');
	SELECT netbus.memory_store('ours', id => 1, model => 'team');
	SELECT netbus.publish('memories_team', '{"v": 7}');
	SQL

my $all = <<~'SQL';
	SELECT 'memory', m FROM netbus.memories() m UNION ALL SELECT 'task', t FROM netbus.tasks() t UNION ALL SELECT 'team', m FROM netbus.memories(model => 'team') m
	UNION ALL SELECT 'error', ROW(e.kind, model, seq, reason, event) FROM netbus.model_error e
	UNION ALL SELECT 'tag', ROW('t' || i, netbus.memory_count(tag => 't' || i)) FROM generate_series(0, 6) i
	SQL
$all = join ' UNION ALL ', map { s/SELECT '(\w+)', (.*?) FROM/SELECT '$1', ($2)::text FROM/sr } split / ?UNION ALL /, $all;
$all = "SELECT md5(string_agg(x::text, ',' ORDER BY x::text)), count(*) FROM ($all) x";

# Events that are set aside meanwhile are rows that a statement sees that begins later.
sub contents
{
	my ($node, $db) = @_;

	$node->safe_psql($db, "SELECT netbus.memory_count(model => 'team')");
	return $node->safe_psql($db, $all);
}

my $want = contents($node, 'app');
like($want, qr/\|51[0-9]$|\|5[0-9]{2}$/, 'there is something');

sub is_whole
{
	my ($node, $db, $what) = @_;

	is(contents($node, $db), $want, $what);
}

# MB of shared memory: a log has 4, a small model 1; besides, there is that of the statistics.
sub segments
{
	my $bytes = 0;

	$bytes += -s $_ // 0 for glob($node->data_dir . '/pg_dynshmem/*');
	return int($bytes / (1 << 20));
}

sub segments_fall_to
{
	my ($n, $what) = @_;

	for (1 .. 600)
	{
		last if segments() <= $n;
		sleep(0.1);
	}
	cmp_ok(segments(), '<=', $n, $what);
}

# --- Dump and restore -----------------------------------------------------------------------

my $dir = $node->backup_dir;
mkdir $dir;
my %dumps = (plain => [ '-Fp', '-f', "$dir/plain" ], custom => [ '-Fc', '-f', "$dir/custom" ], directory => [ '-Fd', '-j2', '-f', "$dir/directory" ]);
for my $format (sort keys %dumps)
{
	my $connstr = $node->connstr($format);

	$node->command_ok([ 'pg_dump', @{ $dumps{$format} }, '-d', $node->connstr('app') ], "pg_dump, $format format");
	$node->safe_psql('postgres', "CREATE DATABASE $format");
	$node->command_ok($format eq 'plain' ? [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $connstr, '-f', "$dir/plain" ]
		: [ 'pg_restore', '--exit-on-error', $format eq 'directory' ? '-j2' : '--single-transaction', '-d', $connstr, "$dir/$format" ], '... is restored');
	is_whole($node, $format, '... with all that is in models, although no snapshot is');
	is(sqlstate($node, $format, "SELECT netbus.memory_store('again', id => 3), netbus.memory_store('new')"), 'none: ', '... which go on');
	is($node->safe_psql($format, "SELECT content, netbus.memory_count() FROM netbus.memory(3)"), 'again|491', '... as they should');
	is(sqlstate($node, $format, "SET ROLE clerk; SELECT netbus.memory_store('mine', model => 'team'), netbus.snapshot_model('memories', 'team')"), 'none: ', '... with the same owners');
}

# --- Dropping -----------------------------------------------------------------------------------

$node->safe_psql('directory', "SELECT netbus.memory_store(repeat('x', 1000000)) FROM generate_series(1, 10); SELECT netbus.memory_count()");
my $segments = segments();
my $idle = $node->background_psql('directory');
$idle->query_safe('SELECT netbus.memory_count()');
$idle->query_safe('SELECT netbus.task_count()');
$node->safe_psql('directory', "SELECT netbus.drop_model('memories', 'default')");
$idle->query_safe('SELECT 1');
segments_fall_to($segments - 8, 'the memory of a model is given back when it is dropped, also by sessions that have asked it');
is($idle->query_safe('SELECT netbus.memory_count(), netbus.task_count()'), '0|20', '... to whom it is not there');
$node->safe_psql('directory', "SELECT netbus.memory_store('anew', id => 1)");
is($idle->query_safe('SELECT content FROM netbus.memories()'), 'anew', '... until there is another');
$idle->quit;
$node->safe_psql('directory', "BEGIN; SELECT netbus.memory_store('gone'), netbus.drop_model('memories', 'default'); COMMIT");
is($node->safe_psql('directory', 'SELECT netbus.memory_count()'), 0, 'stored and dropped in a transaction');
$node->safe_psql('directory', "BEGIN; SELECT netbus.memory_delete(1), netbus.task_delete(1), netbus.drop_model('tasks', 'default'); ROLLBACK");
is($node->safe_psql('directory', "SELECT netbus.task_count()"), 20, '... and rolled back');
is($node->safe_psql('directory', <<~'SQL'), "20\nt\nt\nt\nt\n0\n20", 'dropped and created again, rolled back, and so on');
	SELECT netbus.task_count();
	BEGIN;
	SELECT netbus.drop_model('tasks', 'default');
	SAVEPOINT a;
	SELECT netbus.create_model('tasks', 'default');
	ROLLBACK TO a;
	SELECT netbus.create_model('tasks', 'default');
	SELECT netbus.drop_model('tasks', 'default');
	SELECT netbus.task_count();
	ROLLBACK;
	SELECT netbus.task_count();
	SQL

# While it is queried: not before the transaction has ended.
$session = $node->background_psql('custom', on_error_stop => 0);
$session->query_safe('BEGIN; SELECT netbus.memory_count()');
is(sqlstate($node, 'custom', "SET lock_timeout = '100ms'; SELECT netbus.drop_model('memories', 'default')"), '55P03', 'a model is not dropped below somebody who queries it');
is($session->query_safe('SELECT netbus.memory_count()'), 491, '... who goes on');
$session->query_safe('COMMIT');
my $queries = background_sql($node, 'custom', "DO \$\$ BEGIN LOOP PERFORM netbus.memories(tag => 't1'); COMMIT; END LOOP; END \$\$");
for (1 .. 5)
{
	$node->safe_psql('custom', "SELECT netbus.drop_model('memories', 'default')");
	$node->safe_psql('custom', "SELECT count(netbus.memory_store('m', '{t1}')) FROM generate_series(1, 1000)");
}
is($session->query_safe('SELECT netbus.memory_count()'), 1000, 'dropped and created while others query');
ok($queries->pumpable, '... who do not notice');
$node->safe_psql('custom', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO%'");
$queries->finish;
$session->quit;

$segments = segments();
$node->safe_psql('custom', 'SET client_min_messages = error; DROP EXTENSION netbus CASCADE');
segments_fall_to($segments - 14, 'DROP EXTENSION gives the memory back');
$node->safe_psql('custom', 'CREATE EXTENSION netbus');
is($node->safe_psql('custom', "SELECT netbus.memory_count(), netbus.memory_store('new', id => 1); SELECT netbus.memory_count()"), "0|1\n1", '... and the extension can come again');
$segments = segments();
$node->safe_psql('postgres', 'DROP DATABASE plain');
segments_fall_to($segments - 14, 'DROP DATABASE gives the memory back');
$node->safe_psql('postgres', 'DROP DATABASE directory');
$node->safe_psql('postgres', 'DROP DATABASE custom');

# --- Templates ------------------------------------------------------------------------------------

$node->safe_psql('app', "SELECT netbus.snapshot_model('memories')");
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE app');
is_whole($node, 'copy', 'a copy of a database has its models');
$node->safe_psql('copy', "SELECT netbus.memory_store('only here', id => 1000)");
is_whole($node, 'app', '... of its own');
is($node->safe_psql('copy', 'SELECT netbus.memory_count()'), 491, '... in which more can be stored');
$node->safe_psql('postgres', 'ALTER DATABASE copy RENAME TO renamed');
is($node->safe_psql('renamed', 'SELECT netbus.memory_count()'), 491, '... and that can be renamed');

# --- Slots -------------------------------------------------------------------------------------------

# There are 3 in each.
$node->safe_psql('renamed', "SELECT netbus.create_model('tasks', 'n' || i) FROM generate_series(1, 6) i");
$node->poll_query_until('renamed', "SELECT count(*) = 9 AND bool_and(state = 'ready') FROM netbus.stat_model") or die;
is(sqlstate($node, 'renamed', "SELECT netbus.create_model('tasks', 'more')"), '53400', 'a model too many cannot be created');
like(complaint($node, 'renamed', "SELECT netbus.create_model('tasks', 'more')"), qr/too many models.*netbus\.max_models \(12\).*raise netbus\.max_models/s, '... with the reason');
$offset = -s $node->logfile;
$node->safe_psql('postgres', 'CREATE DATABASE many TEMPLATE app');
worker_runs($node, 'many');
my $start = time();
is(sqlstate($node, 'many', 'SELECT netbus.memory_count()'), '53400', '... and not queried, if a database has it');
is(sqlstate($node, 'many', "SELECT netbus.wait_for('memories')"), '53400', '... nor waited for');
cmp_ok(time() - $start, '<', 10, '... which it does not take long to say');
$node->safe_psql('many', "SELECT netbus.create_log('plain', durability => 'async'); SELECT netbus.publish('plain', '1'); SELECT netbus.flush('plain')");
is(scalar(() = slurp_file($node->logfile, $offset) =~ /LOG:  no slot for model/g), 3, 'the worker, which does its other jobs, says so once of each');
$node->safe_psql('postgres', 'DROP DATABASE renamed');
is_whole($node, 'many', 'when there are slots again the models come to life');
$node->safe_psql('postgres', 'DROP DATABASE many');

# --- Retention ------------------------------------------------------------------------------------------

for my $cut ("netbus.alter_log('memories', 'retention_events', '10')", "netbus.alter_log('memories', 'retention_age', '1 day')", "netbus.purge('memories')", "netbus.purge('memories', now())")
{
	isnt(sqlstate($node, 'app', "SELECT $cut"), 'none: ', "refused: $cut");
}
$node->safe_psql('app', "SELECT netbus.create_consumer('memories', 'c', 'earliest', filter => '{\"path\": \"op\", \"value\": \"delete\"}')");
is($node->safe_psql('app', "SELECT count(*) FROM netbus.receive('memories', 'c')"), 10, 'a log of a model has consumers');
$node->safe_psql('app', "SELECT netbus.drop_consumer('memories', 'c')");

# --- Maintenance ------------------------------------------------------------------------------------------

for my $sql ('VACUUM FULL netbus.log_memories', 'REINDEX TABLE netbus.log_memories', 'REINDEX TABLE CONCURRENTLY netbus.log_memories', 'CLUSTER netbus.log_memories USING pkey_memories', 'VACUUM FULL netbus.catalog_model', 'VACUUM netbus.log_memories')
{
	my ($result, $stdout, $stderr) = $node->psql('app', $sql);

	next if $stderr =~ /index "pkey_memories" for table/;
	is($stderr, '', $sql);
	is_whole($node, 'app', '... changes nothing');
	$node->safe_psql('app', "SELECT netbus.memory_store('x', id => 5000); SELECT netbus.memory_delete(5000)");
	is_whole($node, 'app', '... and the fold goes on');
}
$session = $node->background_psql('app');
$session->query_safe('BEGIN; LOCK netbus.log_memories IN ACCESS EXCLUSIVE MODE');
is(sqlstate($node, 'app', "SET statement_timeout = '200ms'; SELECT netbus.memory_count()"), '57014', 'a log that is locked');
is($node->safe_psql('app', "SELECT netbus.task_create('meanwhile', id => 99); SELECT netbus.task_delete(99)"), "99\nt", '... holds up nobody else');
$session->query_safe('COMMIT');
$session->quit;
is_whole($node, 'app', '... nor what comes after');

# --- Waiting -----------------------------------------------------------------------------------------------

$node->safe_psql('app', 'ALTER SYSTEM SET netbus.wait_timeout = \'20s\'; SELECT pg_reload_conf()');
my $head = $node->safe_psql('app', "SELECT netbus.head('memories')");
is($node->safe_psql('app', "SELECT netbus.wait_for('memories', $head), netbus.wait_for('memories', 0), netbus.wait_for('memories')"), 't|t|t', 'what is folded is not waited for');
$start = time();
is($node->safe_psql('app', "SELECT netbus.wait_for('memories', $head + 1, '300 ms')"), 'f', 'what never comes is waited for');
cmp_ok(time() - $start, '<', 5, '... but not longer than was said');
is(sqlstate($node, 'app', "SET statement_timeout = '200ms'; SELECT netbus.wait_for('memories', $head + 1)"), '57014', '... or statement_timeout');
$session = $node->background_psql('app', on_error_stop => 0);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_until(qr/started/, "\\echo started\nSELECT netbus.wait_for('memories', $head + 1, '60 s');\n\\echo ended\n");
$node->poll_query_until('app', "SELECT wait_event = 'Extension' FROM pg_stat_activity WHERE pid = $pid");
$node->safe_psql('app', "SELECT pg_cancel_backend($pid)");
$session->query_until(qr/ended/, '');
like($session->{stderr}, qr/canceling statement due to user request/, '... or somebody cancels it');
$session->{stderr} = '';
$session->query_safe("SELECT netbus.memory_count()");

# Those for whom nothing has come yet sleep on.
my @waiters = map { $node->background_psql('app') } 1 .. 6;
my @pids = map { my $pid = $_->query_safe('SELECT pg_backend_pid()'); chomp $pid; $pid } @waiters;
$waiters[$_]->query_until(qr/started/, sprintf("\\echo started\nSELECT 'woken', netbus.wait_for('memories', %d, '60 s');\n\\echo ended\n", $head + ($_ == 0 ? 3 : 1000)))
  for 0 .. $#waiters;
$node->poll_query_until('app', sprintf("SELECT count(*) = 6 FROM pg_stat_activity WHERE pid IN (%s) AND wait_event = 'Extension'", join(',', @pids)));

sub switches
{
	my $sum = 0;

	$sum += slurp_file("/proc/$_/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m ? $1 : die for @_;
	return $sum;
}

my $before = switches(@pids[ 1 .. 5 ]);
$start = time();
$node->safe_psql('app', "DO \$\$ BEGIN FOR i IN 1 .. 300 LOOP PERFORM netbus.memory_pin(2); COMMIT; END LOOP; END \$\$; SELECT netbus.wait_for('memories')");
like($waiters[0]->query_until(qr/ended/, ''), qr/woken\|t/, 'who waits is woken when it is folded');
cmp_ok(switches(@pids[ 1 .. 5 ]) - $before, '<', 5 * (3 + 3 * (time() - $start)), '... while those who wait for more are not, by hundreds of events');
# An event that is bad releases them, too.
$node->safe_psql('app', "SELECT count(netbus.publish('memories', '{\"v\": 9}')) FROM generate_series(1, 1000)");
like($waiters[$_]->query_until(qr/ended/, ''), qr/woken\|t/, '... until that has come, were it of bad events') for 1 .. 5;
$_->quit for @waiters;
$session->quit;
$node->safe_psql('app', "SELECT netbus.drop_model('memories', 'default')"); # with its errors

# --- Memory --------------------------------------------------------------------------------------------------

is($node->safe_psql('app', 'SELECT count(*) FROM netbus.model_error'), 1, 'errors go with their model');
my $fill = "DO \$\$ BEGIN FOR i IN 1 .. 100000 LOOP PERFORM netbus.memory_store(repeat('x', 10000), ARRAY['t' || i % 10], id => i); COMMIT; END LOOP; END \$\$";
is(sqlstate($node, 'app', $fill), '53400', 'at netbus.model_memory a store fails');
$node->safe_psql('app', "SELECT netbus.wait_for('memories')"); # what is promised takes more than is needed
is(sqlstate($node, 'app', $fill =~ s/id => i/id => 200000 + i/r), '53400', '... and again');
$node->safe_psql('app', "SELECT netbus.wait_for('memories')");
my $used = $node->safe_psql('app', 'SELECT sum(memory_bytes) FROM netbus.stat_model');
cmp_ok($used, '>', 12 << 20, '... not before');
cmp_ok($used, '<', 18 << 20, '... and not much later');
like(complaint($node, 'app', $fill =~ s/id => i/id => 400000 + i/r), qr/model "default" of memories has no room for another memory.*netbus\.model_memory \(16 MB\).*raise netbus\.model_memory/s, '... with the reason');
is(sqlstate($node, 'app', "SELECT netbus.task_create(repeat('x', 1000000))"), '53400', '... of whatever kind');
is(sqlstate($node, 'app', "BEGIN; SELECT netbus.memory_store(repeat('x', 1000000), id => i) FROM generate_series(1, 30) i"), '53400', '... nor in a transaction');
my $count = $node->safe_psql('app', 'SELECT netbus.memory_count()');
$used = $node->safe_psql('app', 'SELECT sum(memory_bytes) FROM netbus.stat_model'); # a few more have been stored
$node->safe_psql('app', 'SELECT count(netbus.memory_delete(id)) FROM netbus.memories(tag => \'t3\')');
cmp_ok($node->safe_psql('app', 'SELECT netbus.memory_count()'), '<', $count, 'deleting works');
cmp_ok($node->safe_psql('app', 'SELECT sum(memory_bytes) FROM netbus.stat_model'), '<', $used * 0.95, '... and gives memory back');
is(sqlstate($node, 'app', "SELECT netbus.memory_store('room', id => 1)"), 'none: ', '... for others');
is(sqlstate($node, 'app', 'ALTER SYSTEM SET netbus.model_memory = \'40MB\'; SELECT pg_reload_conf(), pg_sleep(0.1); ' . "SELECT netbus.memory_store(repeat('x', 1000000), id => i) FROM generate_series(1, 5) i"), 'none: ', 'the limit can be raised at run time');
$node->safe_psql('app', 'ALTER SYSTEM SET netbus.model_memory = \'1MB\'');
$count = $node->safe_psql('app', 'SELECT netbus.memory_count()');
$node->restart;
is($node->safe_psql('app', 'SELECT netbus.memory_count()'), $count, '... and is none for what is stored already');
$node->safe_psql('app', 'ALTER SYSTEM RESET netbus.model_memory; SELECT pg_reload_conf()');
$node->safe_psql('app', "SELECT netbus.drop_model('memories', 'default')");

# --- Standby -----------------------------------------------------------------------------------------------------

$node->safe_psql('app', <<~'SQL');
	SELECT count(netbus.memory_store('memory ' || i, ARRAY['t' || i % 7], id => i)) FROM generate_series(1, 100) i;
	SELECT netbus.snapshot_model('memories');
	SELECT count(netbus.memory_store('memory ' || i, ARRAY['t' || i % 7], id => i)) FROM generate_series(101, 200) i;
	SQL
$want = contents($node, 'app');
my $standby = standby_of($node, 'standby');
for my $sql ('SELECT netbus.memories()', 'SELECT netbus.memory(1)', 'SELECT netbus.memory_count()', "SELECT netbus.memory_store('x')", "SELECT netbus.wait_for('memories')", "SELECT netbus.snapshot_model('memories')")
{
	like(sqlstate($standby, 'app', $sql), qr/^(25006|55000)$/, "on a standby: $sql");
}
like(complaint($standby, 'app', 'SELECT netbus.memories()'), qr/models are not folded on a standby.*Ask the primary/s, '... with the reason');
is($standby->safe_psql('app', "SELECT count(*) FROM netbus.read('memories')"), 200, '... its log can be read');
is($standby->safe_psql('app', 'SELECT count(*) FROM netbus.stat_model WHERE lag IS NULL'), 3, '... and the view is there');
$node->safe_psql('app', 'SELECT netbus.memory_delete(200)');
$want = contents($node, 'app');
# Of what was made before nobody there has told anything.
$node->safe_psql('app', "SELECT netbus.create_log('watched'), netbus.watch_memories('c')");
$node->safe_psql('app', "SELECT netbus.watch_log('watched', 'c')");
$node->safe_psql('app', "SELECT netbus.memory_store('watched', id => 778), count(netbus.publish('watched', '1')) FROM generate_series(1, 10)");
$node->safe_psql('app', 'SELECT netbus.memory_delete(778)');
$node->wait_for_catchup($standby);
$standby->promote;
is_whole($standby, 'app', 'when it is promoted it folds');
ok($standby->poll_query_until('app', 'SELECT count(*) = 2 AND bool_and(resyncs = 1) FROM netbus.stat_watch'), '... and says to read anew, once');
is($standby->safe_psql('app', 'SELECT sum(matches) FROM netbus.stat_watch'), 0, '... not what was long ago');
is($standby->safe_psql('app', "SELECT netbus.memory_store('here', id => 777); SELECT content FROM netbus.memory(777)"), "777\nhere", '... and goes on');
$standby->stop;

# --- A copy that a subscription fills -------------------------------------------------------------------------------

$node->safe_psql('app', 'CREATE PUBLICATION p FOR TABLE netbus.log_memories');
my $subscriber = netbus_node('subscriber');
netbus_db($subscriber, 'app');
$subscriber->safe_psql('app', "SELECT netbus.create_model('memories', 'default')");
$subscriber->safe_psql('app', sprintf("CREATE SUBSCRIPTION s CONNECTION '%s' PUBLICATION p", $node->connstr('app') =~ s/'/''/gr));
$node->wait_for_catchup('s');
ok($subscriber->poll_query_until('app', 'SELECT netbus.memory_count() = 199'), 'a copy is folded');
$node->safe_psql('app', "SELECT netbus.memory_store('more', '{t1}', id => 888), netbus.memory_delete(5)");
ok($subscriber->poll_query_until('app', "SELECT netbus.memory_count() = 199 AND EXISTS (SELECT FROM netbus.memories(tag => 't1') WHERE id = 888)"), '... as it comes');
is($subscriber->safe_psql('app', 'SELECT md5(string_agg(m::text, \',\')) FROM netbus.memories() m'), $node->safe_psql('app', 'SELECT md5(string_agg(m::text, \',\')) FROM netbus.memories() m'), '... to the same state');
isnt(sqlstate($subscriber, 'app', "SELECT netbus.memory_store('x')"), 'none: ', '... to which nobody else writes');
$subscriber->restart;
ok($subscriber->poll_query_until('app', 'SELECT netbus.memory_count() = 199'), '... also after a restart');
$subscriber->safe_psql('app', 'DROP SUBSCRIPTION s');
$subscriber->stop;

# --- pg_upgrade ---------------------------------------------------------------------------------------------------------

$node->safe_psql('app', "SELECT netbus.snapshot_model('memories')");
$want = contents($node, 'app');
$node->safe_psql('app', 'DROP PUBLICATION p');
$node->stop;
my $upgraded = PostgreSQL::Test::Cluster->new('upgraded');
$upgraded->init(allows_streaming => 1);
$upgraded->append_conf('postgresql.conf', join("\n", "shared_preload_libraries = 'netbus'", 'dynamic_shared_memory_type = mmap', ''));
my $bin = $node->config_data('--bindir');
chdir $dir; # where it may write
command_ok([ 'pg_upgrade', '--no-sync', '-b', $bin, '-B', $bin, '-d', $node->data_dir, '-D', $upgraded->data_dir,
		'-s', $upgraded->host, '-p', $node->port, '-P', $upgraded->port ], 'pg_upgrade');
$upgraded->start;
is_whole($upgraded, 'app', '... keeps models');
is($upgraded->safe_psql('app', "SELECT netbus.memory_store('here', id => 777); SELECT content FROM netbus.memory(777)"), "777\nhere", '... which go on');
$upgraded->stop;
done_testing();
