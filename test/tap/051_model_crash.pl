# Models when something goes wrong: at every interesting instant of folding,
# of writing a snapshot and of loading one; snapshots that are damaged;
# events that are bad; commits that others see before they are through.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use NetbusTest;
use NetbusWorkload;

my $node = netbus_node('main', 'jit = off', 'netbus.snapshot_interval = 0', 'log_statement = none', 'log_min_duration_statement = -1');
my ($offset, $worker, $session);

netbus_db($node, 'app');
if (!debug_build($node, 'app'))
{
	$node->stop;
	plan skip_all => 'needs a build with NETBUS_DEBUG';
}
$node->safe_psql('app', <<~'SQL');
	-- Stores memories in one transaction, and says so in a table.
	CREATE TABLE stored (id bigint PRIMARY KEY, n int);
	CREATE FUNCTION store(first int, last int) RETURNS bigint LANGUAGE sql AS $$
		INSERT INTO stored SELECT i, i FROM generate_series(first, last) i;
		SELECT count(netbus.memory_store('memory ' || i, ARRAY['all', 't' || i % 10], 's' || i % 7, id => i)) FROM generate_series(first, last) i;
	$$;
	CREATE VIEW difference AS
		SELECT s.id, m.content FROM stored s FULL JOIN netbus.memories() m USING (id) WHERE m.content IS DISTINCT FROM 'memory ' || s.n
		UNION ALL SELECT NULL, format('%s of %s with tag %s', m, n, t)
			FROM (SELECT 't' || n % 10 AS t, count(*) AS n FROM stored GROUP BY 1) c, netbus.memory_count(tag => t) m WHERE n <> m;
	SELECT store(1, 1000);
	SQL

sub set_point
{
	my ($value) = @_;

	$node->safe_psql('app', $value ? "ALTER SYSTEM SET netbus.debug_point = '$value'" : 'ALTER SYSTEM RESET netbus.debug_point');
	$node->reload;
}

# The same while the server is not up, or hardly.
sub set_point_offline
{
	my ($value) = @_;

	$node->append_conf('postgresql.auto.conf', "netbus.debug_point = '$value'");
}

sub same
{
	my ($what) = @_;

	is($node->safe_psql('app', 'SELECT * FROM difference LIMIT 5'), '', $what);
}

sub stat_of
{
	my ($columns, $where) = @_;

	return $node->safe_psql('app', sprintf('SELECT %s FROM netbus.stat_model WHERE %s', $columns, $where // "kind = 'memories' AND model = 'default'"));
}

sub stat_becomes
{
	my ($condition, $what) = @_;

	ok($node->poll_query_until('app', "SELECT $condition FROM netbus.stat_model WHERE kind = 'memories' AND model = 'default'"), $what);
}

sub last_error_becomes
{
	my ($pattern, $what) = @_;

	ok($node->poll_query_until('app', "SELECT last_error ~ '$pattern' FROM netbus.stat_worker WHERE kind = 'worker'"), $what);
}

# What it logs from here on.
sub logged
{
	return slurp_file($node->logfile, $offset);
}

# --- Committed, but not through yet ----------------------------------------------------

same('what is stored is there');
$session = $node->background_psql('app');
$session->query_until(qr/started/, "\\echo started\nBEGIN; SET LOCAL netbus.debug_point = 'commit:wait'; SELECT store(1001, 1001); COMMIT;\n\\echo ended\n");
ok($node->poll_query_until('app', 'SELECT count(*) = 1 FROM stored WHERE id = 1001'), 'a transaction that others see is not through with its commit');
my $other = $node->background_psql('app');
$other->query_until(qr/started/, "\\echo started\nSELECT 'found', content FROM netbus.memory(1001);\n\\echo ended\n");
$node->safe_psql('app', 'SELECT pg_sleep(0.2)');
go_on($node, $session);
like($other->query_until(qr/ended/, ''), qr/found\|memory 1001/, '... and a query that begins then waits for its events');
$session->query_until(qr/started/, "\\echo started\nBEGIN; SET LOCAL netbus.debug_point = 'commit:wait'; SELECT netbus.memory_delete(1001); DELETE FROM stored WHERE id = 1001; COMMIT;\n\\echo ended\n");
ok($node->poll_query_until('app', 'SELECT count(*) = 0 FROM stored WHERE id = 1001'), '... one that deletes');
$other->query_until(qr/started/, "\\echo started\nSELECT 'pinned', netbus.memory_pin(1001);\n\\echo ended\n");
$node->safe_psql('app', 'SELECT pg_sleep(0.2)');
go_on($node, $session);
like($other->query_until(qr/ended/, ''), qr/pinned\|f/, '... and an update that begins then finds nothing');
$session->quit;
$other->quit;

# --- Errors of the fold -----------------------------------------------------------------

$worker = worker_pid($node, 'app');
for my $point ('fold', 'folded', 'fold_change')
{
	my $n = $node->safe_psql('app', 'SELECT max(id) FROM stored');

	set_point("$point:error");
	$node->safe_psql('app', sprintf('SELECT store(%d, %d)', $n + 1, $n + 300));
	last_error_becomes("debug point \"$point\"", "an error at point $point is reported");
	if ($point eq 'fold') # with the others it gets on
	{
		is(stat_of('state'), 'ready', '... what is there is left');
		is(sqlstate($node, 'app', "SET netbus.wait_timeout = '300ms'; SELECT netbus.memory_count()"), '55000', '... a query that cannot see all fails after a while');
		like(complaint($node, 'app', "SET netbus.wait_timeout = '300ms'; SELECT netbus.memory_count()"), qr/has not been folded up to what is committed/, '... and says why');
		is($node->safe_psql('app', "SELECT netbus.wait_for('memories', timeout => '100 ms')"), 'f', '... wait_for() too');
		is($node->safe_psql('app', "SET netbus.read_consistency = 'none'; SELECT netbus.memory_count() >= $n"), 't', '... others may go on with what there is');
	}
	else
	{
		same('... which does not keep it from folding');
	}
	set_point('');
	same('... and all is well when it is over');
	is(worker_pid($node, 'app'), $worker, '... with the same worker');
}

# --- Somebody drops what a query waits for ------------------------------------------------

$node->safe_psql('app', "SELECT netbus.create_model('memories', 'gone'), netbus.create_model('memories', 'brake')");
$node->safe_psql('app', "SELECT netbus.memory_store('x', id => 1, model => 'gone')");
is($node->safe_psql('app', "SELECT netbus.wait_for('memories_gone', timeout => '1 min')"), 't', 'a model');
set_point('fold:wait');
$node->poll_query_until('app', "SELECT netbus.memory_store('x', id => 1, model => 'brake') > 1 OR count(*) = 1 FROM pg_stat_activity WHERE pid = $worker AND wait_event = 'Extension' AND state = 'active'");
# So much that most of it is not in the ring, where the worker would find it without a lock.
$node->safe_psql('app', "SELECT netbus.memory_store(repeat('x', 1000000), id => i, model => 'gone') FROM generate_series(2, 9) i");
$session = $node->background_psql('app', on_error_stop => 0);
$session->query_until(qr/started/, "\\echo started\nSELECT 'a query', netbus.memory_count(model => 'gone');\n\\echo :SQLSTATE ended\n");
$node->poll_query_until('app', q[SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^SELECT .a query' AND wait_event = 'Extension']);
my $dropper = background_sql($node, 'app', "SELECT netbus.drop_model('memories', 'gone')");
$node->poll_query_until('app', q[SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock']);
set_point('');
like($session->query_until(qr/ended/, ''), qr/40P01 ended/, 'a query that waits for the fold is not what a drop waits for, for long');
$dropper->finish;
is($node->safe_psql('app', q[SELECT count(*) FROM netbus.stat_model WHERE model = 'gone']), 0, '... which then goes on');
$node->safe_psql('app', "SELECT netbus.drop_model('memories', 'brake')");
$session->quit;
same('... and nobody else is concerned');

# --- Bad events -----------------------------------------------------------------------

my @bad = ('[]', '7', '{}', '{"v": 1}', '{"v": 2, "op": "store", "id": "1", "content": "x"}', '{"v": 1, "op": "store", "content": "x"}',
	'{"v": 1, "op": "store", "id": 1, "content": "x"}', '{"v": 1, "op": "store", "id": "1x", "content": "x"}', '{"v": 1, "op": "forget", "id": "1"}',
	'{"v": 1, "op": "store", "id": "1"}', '{"v": 1, "op": "store", "id": "1", "content": 7}', '{"v": 1, "op": "retag", "id": "1", "tags": "x"}',
	'{"v": 1, "op": "retag", "id": "1"}',
	'{"v": 1, "op": "store", "id": "1", "content": "x", "created": "9223372036854775807"}', '{"v": 1, "op": "store", "id": "99999999999999999999", "content": "x"}');
my $errors = scalar @bad;
$node->safe_psql('app', sprintf("SELECT netbus.publish('memories', payload) FROM unnest(ARRAY[%s]) payload", join(', ', map { "'$_'::jsonb" } @bad)));
is($node->safe_psql('app', "SELECT netbus.wait_for('memories')"), 't', 'nobody waits for bad events');
same('... which do nothing');
is($node->safe_psql('app', 'SELECT count(*), count(DISTINCT reason) > 6, bool_and(event IS NOT NULL) FROM netbus.model_error'), "$errors|t|t", '... but are set aside with a reason');
is(stat_of('errors'), $errors, '... and counted');

# One whose transaction fails after others of the same batch count as folded.
set_point('folded:error');
$node->safe_psql('app', q[SELECT netbus.publish('memories', '{"v": 1, "op": "lost?", "id": "1"}'); SELECT store(10001, 10400)]);
last_error_becomes('debug point "folded"', 'an error behind a bad event');
set_point('');
same('... costs nothing');
$errors++;
is($node->safe_psql('app', q[SELECT count(*) FROM netbus.model_error WHERE event ->> 'op' = 'lost?']), 1, '... not even the event that was set aside');

# --- kill -9 of the worker while it folds ---------------------------------------------------

for my $point ('fold', 'folded', 'fold_change')
{
	my $n = $node->safe_psql('app', 'SELECT max(id) FROM stored');

	set_point("$point:wait");
	$node->safe_psql('app', sprintf('SELECT store(%d, %d); DELETE FROM stored WHERE id = %d; SET netbus.read_consistency = \'none\'; SELECT netbus.publish(\'memories\', \'{"v": 1, "op": "delete", "id": "%d"}\')', $n + 1, $n + 300, $n + 7, $n + 7));
	$worker = worker_pid($node, 'app');
	$node->poll_query_until('app', "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $worker AND wait_event = 'Extension' AND state = 'active'");
	$offset = -s $node->logfile;
	kill 'KILL', $worker;
	await_recovery($node, 'app', $offset);
	set_point('');
	same("kill -9 at point $point");
	is(stat_of('errors'), $errors, '... bad events are those of before');
}

# --- Snapshots --------------------------------------------------------------------------------

# Of each table: the parts it has of the default memories, with the manifest.
my $parts = "SELECT t, count(*), bool_or(part = -1) FROM (SELECT 'a' AS t, * FROM netbus.catalog_snapshot_a UNION ALL SELECT 'b', * FROM netbus.catalog_snapshot_b) s WHERE log = 'netbus.log_memories'::regclass GROUP BY t ORDER BY t";
is($node->safe_psql('app', $parts), '', 'snapshots are off: there is none');
$node->safe_psql('app', "SELECT netbus.task_create('a task')");
my $seq = $node->safe_psql('app', "SELECT netbus.snapshot_model('memories')");
is($seq, $node->safe_psql('app', "SELECT netbus.head('memories')"), '... but by hand');
like($node->safe_psql('app', $parts), qr/^a\|\d\d+\|t$/, '... which is in one table');
$node->safe_psql('app', 'SELECT store(20001, 20010)');
my $second = $node->safe_psql('app', "SELECT netbus.snapshot_model('memories')");
like($node->safe_psql('app', $parts), qr/^a\|\d+\|t\nb\|\d+\|t$/, '... and the next in another');
$node->safe_psql('app', 'SELECT store(20011, 20020), netbus.memory_delete(20001); DELETE FROM stored WHERE id = 20001');

$offset = -s $node->logfile;
$node->restart;
worker_runs($node, 'app');
same('a restart');
is(stat_of("snapshot_seq = $second, events < 100"), 't|t', '... goes on from the newest snapshot');
unlike(logged(), qr/WARNING/, '... which is sound');
is(stat_of('errors'), $errors, '... bad events are not forgotten');

# An error, or the end, at any instant of writing one.  There is always one to go on from.
for my $point ('snapshot_begin', 'snapshot', 'snapshot_commit')
{
	my $n = $node->safe_psql('app', 'SELECT max(id) FROM stored');

	$worker = worker_pid($node, 'app');
	set_point("$point:error");
	is(sqlstate($node, 'app', "SET netbus.wait_timeout = '500ms'; SELECT netbus.snapshot_model('memories')"), '55000', "an error at point $point");
	last_error_becomes("debug point \"$point\"", '... is reported');
	$node->safe_psql('app', sprintf("SELECT store(%d, %d)", $n + 1, $n + 10));
	same('... and the fold goes on');
	is(worker_pid($node, 'app'), $worker, '... of the same worker');
	set_point('');
	cmp_ok($node->safe_psql('app', "SELECT netbus.snapshot_model('memories')"), '>=', $second, '... which writes one when it can');
	$second = stat_of('snapshot_seq');

	$node->safe_psql('app', 'SELECT netbus.memory_pin(1)');
	set_point("$point:wait");
	$session = background_sql($node, 'app', "SELECT netbus.snapshot_model('memories')");
	$node->poll_query_until('app', "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $worker AND wait_event = 'Extension' AND state = 'active'");
	$offset = -s $node->logfile;
	kill 'KILL', $worker;
	await_recovery($node, 'app', $offset);
	set_point('');
	$session->finish;
	same('... after kill -9 there all is the same');
	cmp_ok(stat_of('snapshot_seq'), '>=', $second, '... from the snapshot before');
	unlike(logged(), qr/WARNING:  skipping/, '... without a warning');
	# Another crash: what was half written is what is written again.
	$node->stop('immediate');
	$node->start;
	worker_runs($node, 'app');
	same('... and once more');
}

# The end of who loads.
$node->safe_psql('app', "SELECT netbus.snapshot_model('memories')");
$node->stop;
set_point_offline('snapshot_load:wait');
$node->start;
for my $i (1 .. 2)
{
	$node->poll_query_until('app', "SELECT count(*) = 1 FROM pg_stat_activity a JOIN netbus.stat_worker w USING (pid) WHERE kind = 'worker' AND wait_event = 'Extension' AND a.state = 'active'");
	is(stat_of('state'), 'loading', 'who asks while a snapshot is loaded') if $i == 1;
	is(sqlstate($node, 'app', "SET netbus.wait_timeout = '100ms'; SELECT netbus.memory_count()"), '55000', '... sees nothing') if $i == 1;
	$offset = -s $node->logfile;
	kill 'KILL', worker_pid($node, 'app');
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	$node->poll_query_until('app', 'SELECT true');
}
set_point('');
same('kill -9 of a worker that loads: the next does');
# Terminated, not killed: what is loaded by half is in shared memory, and is not taken for a state.
set_point('snapshot_load:wait');
$node->restart;
$node->poll_query_until('app', "SELECT count(*) = 1 FROM pg_stat_activity a JOIN netbus.stat_worker w USING (pid) WHERE kind = 'worker' AND wait_event = 'Extension' AND a.state = 'active'");
$worker = worker_pid($node, 'app');
$node->safe_psql('app', "SELECT pg_terminate_backend($worker)");
$node->poll_query_until('app', "SELECT count(*) = 1 FROM netbus.stat_worker WHERE kind = 'worker' AND pid <> $worker AND state = 'running'");
set_point('');
same('... also if it is terminated');

# --- Damage ------------------------------------------------------------------------------------

# Which table has the newest one?
sub newest
{
	return $node->safe_psql('app', <<~'SQL');
		SELECT t FROM (SELECT 'a' AS t, * FROM netbus.catalog_snapshot_a UNION ALL SELECT 'b', * FROM netbus.catalog_snapshot_b) s
		WHERE log = 'netbus.log_memories'::regclass AND part = -1 ORDER BY CASE WHEN length(data) > 40 THEN get_byte(data, 32) + 256 * get_byte(data, 33) END DESC NULLS LAST LIMIT 1
		SQL
}

sub restart_with
{
	my ($what, $warnings, $from) = @_;

	$offset = -s $node->logfile;
	$node->restart;
	worker_runs($node, 'app');
	same("$what: the state is what it was");
	is(scalar(() = logged() =~ /WARNING:  skipping a/g), $warnings, "... after $warnings warnings");
	is(stat_of('coalesce(snapshot_seq, 0)'), $from, "... from seq $from");
}

for my $damage ("data = set_byte(data, length(data) / 2, get_byte(data, length(data) / 2) # 1) WHERE part = 3", "data = set_byte(data, 0, get_byte(data, 0) # 255) WHERE part = 0",
	"data = substr(data, 1, 100) WHERE part = 0", "data = '' WHERE part = 2", "part = 1000 WHERE part = 1", "data = set_byte(data, 12, get_byte(data, 12) + 1) WHERE part = -1",
	"data = substr(data, 1, 10) WHERE part = -1")
{
	my ($older, $newest);

	$node->safe_psql('app', 'SELECT netbus.memory_pin(1)');
	$older = $node->safe_psql('app', "SELECT netbus.snapshot_model('memories')");
	$node->safe_psql('app', 'SELECT netbus.memory_pin(1)');
	$node->safe_psql('app', "SELECT netbus.snapshot_model('memories')");
	$newest = newest();
	$node->safe_psql('app', "UPDATE netbus.catalog_snapshot_$newest SET $damage AND log = 'netbus.log_memories'::regclass");
	restart_with("damage: $damage", 1, $older);
	is($node->safe_psql('app', "SELECT count(*) FROM netbus.tasks()"), 1, '... other models are as they were');
	is(stat_of('snapshot_seq = folded_seq', "kind = 'tasks'"), 't', '... from their own') if $damage !~ /-1/;
	next if $damage !~ /part = 3$|10\)/;
	$node->safe_psql('app', sprintf("UPDATE netbus.catalog_snapshot_%s SET $damage AND log = 'netbus.log_memories'::regclass", $newest eq 'a' ? 'b' : 'a'));
	restart_with('... in both', 2, 0);
}

# One that was not finished, of which some models have nothing, is what is written next.
$node->safe_psql('app', "SELECT netbus.task_complete(id) FROM netbus.tasks(); SELECT netbus.memory_pin(1); SELECT netbus.snapshot_model('memories')") for 1 .. 2;
my $unfinished = newest();
$node->safe_psql('app', "DELETE FROM netbus.catalog_snapshot_$unfinished WHERE log = 'netbus.log_tasks'::regclass");
restart_with('a snapshot without tasks', 0, stat_of('snapshot_seq'));
is(stat_of('snapshot_seq > 0', "kind = 'tasks'"), 't', '... which come from the one before');
$node->safe_psql('app', "SELECT netbus.memory_pin(1); SELECT netbus.snapshot_model('memories')");
is(newest(), $unfinished, '... and that is not what is written over first');

# The disk's.
$node->safe_psql('app', "SELECT netbus.snapshot_model('memories')");
my $file = $node->data_dir . '/' . $node->safe_psql('app', sprintf("CHECKPOINT; SELECT pg_relation_filepath('netbus.catalog_snapshot_%s')", newest()));
$node->stop;
open my $fh, '+<', $file or die "$file: $!";
seek $fh, 8192, 0;
print $fh "\xff" x 8192;
close $fh;
$offset = -s $node->logfile;
$node->start;
worker_runs($node, 'app');
same('a page of a snapshot that cannot be read: the state is what it was');
like(logged(), qr/WARNING:  invalid page.*WARNING:  skipping a damaged snapshot of model "default" of memories/s, '... and it says so');
$node->safe_psql('app', "SELECT netbus.snapshot_model('memories')");
restart_with('... and the next snapshot is written over it', 0, stat_of('snapshot_seq'));

# --- A pinned snapshot of somebody's ---------------------------------------------------------------

$session = $node->background_psql('app');
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM stored');
$node->safe_psql('app', "SELECT netbus.memory_pin(1); SELECT netbus.snapshot_model('memories')") for 1 .. 2;
my $sizes = "SELECT pg_total_relation_size('netbus.catalog_snapshot_a'), pg_total_relation_size('netbus.catalog_snapshot_b')";
my $size = $node->safe_psql('app', $sizes);
$node->safe_psql('app', "SELECT netbus.memory_pin(1); SELECT netbus.snapshot_model('memories')") for 1 .. 6;
is($node->safe_psql('app', $sizes), $size, 'tables of snapshots do not grow while somebody keeps an old snapshot');
$session->quit;

# Somebody has a lock on the table: not now, but then.
$session = $node->background_psql('app');
$session->query_safe('BEGIN; LOCK netbus.catalog_snapshot_a, netbus.catalog_snapshot_b IN ACCESS SHARE MODE');
$node->safe_psql('app', 'SELECT netbus.memory_pin(1)');
is(sqlstate($node, 'app', "SET netbus.wait_timeout = '300ms'; SELECT netbus.snapshot_model('memories')"), '55000', 'a table that is in use is not waited for');
same('... by the fold');
$session->quit;
cmp_ok($node->safe_psql('app', "SELECT netbus.snapshot_model('memories')"), '>', 0, '... and served later');

# By itself.
$node->safe_psql('app', "ALTER SYSTEM SET netbus.snapshot_interval = '1s'; ALTER SYSTEM SET netbus.snapshot_events = 50");
$node->reload;
$seq = stat_of('folded_seq');
$node->safe_psql('app', 'SELECT count(netbus.memory_pin(id)) FROM stored WHERE id <= 60');
stat_becomes("snapshot_seq > $seq", 'a snapshot is written after so many events and so much time');
$node->safe_psql('app', 'ALTER SYSTEM SET netbus.snapshot_interval = 0');
$node->reload;

# --- A log that is damaged ----------------------------------------------------------------------------

$node->safe_psql('app', 'TRUNCATE netbus.catalog_snapshot_a, netbus.catalog_snapshot_b; SELECT store(30001, 30300)');
my $events = $node->safe_psql('app', <<~'SQL');
	SET session_replication_role = replica;
	UPDATE netbus.log_memories SET frame = set_byte(frame, 200, get_byte(frame, 200) # 255) WHERE base_seq = (SELECT max(base_seq) FROM netbus.log_memories WHERE events > 20) RETURNING events
	SQL
$node->restart;
worker_runs($node, 'app');
stat_becomes("state = 'ready'", 'a frame that is damaged does not stop the fold');
is(stat_of('lost'), $events, '... what it had is counted as lost');
is($node->safe_psql('app', 'SELECT count(*) FROM difference WHERE id IS NOT NULL'), $events, '... and missing');
$node->stop;
done_testing();
