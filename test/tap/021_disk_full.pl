# When the disk is full.  A limit on the size of files stands in for it: WAL
# segments stay below it, tables do not.  It can be lifted while the server runs.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use NetbusTest;
use NetbusWorkload;

use constant LIMIT => 2 * 1024 * 1024;

plan skip_all => 'needs prlimit' if system('prlimit --version >/dev/null 2>&1') != 0;

my $node = PostgreSQL::Test::Cluster->new('main');
my ($stderr, $session, $before);

$node->init(extra => ['--wal-segsize=1']);
$node->append_conf('postgresql.conf', <<~'CONF');
	shared_preload_libraries = 'netbus'
	autovacuum = off
	min_wal_size = 32MB
	log_statement = none
	log_min_duration_statement = -1
	netbus.wait_timeout = '300 ms'
	CONF
$node->start;
netbus_db($node, 'app');

# The postmaster hands it down to new sessions.
sub limit_files
{
	my ($bytes) = @_;
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @sessions = split /\n/, $node->safe_psql('app', <<~'SQL');
		SELECT pid FROM pg_stat_activity WHERE backend_type IN ('client backend', 'netbus worker') AND pid <> pg_backend_pid()
		SQL

	for my $pid ($postmaster, @sessions)
	{
		system_or_bail('prlimit', "--pid=$pid", "--fsize=$bytes:");
	}
}

# Run statements until one fails, which it says.  How often they did not.
sub until_it_fails
{
	my ($sql) = @_;

	for my $times (0 .. 1000)
	{
		my ($result, $stdout, $complaint) = $node->psql('app', $sql);

		return ($times, $complaint) if $result != 0;
	}
	die 'the disk does not get full';
}

sub visible
{
	my ($log) = @_;

	return $node->safe_psql('app', "SELECT count(*) FROM netbus.read('$log', max_events => 1000000)");
}

sub counter
{
	my ($log, $columns) = @_;

	return $node->safe_psql('app', "SELECT $columns FROM netbus.stat_log WHERE log = '$log'");
}

$node->safe_psql('app', <<~'SQL');
	CREATE FUNCTION noise(i int) RETURNS jsonb LANGUAGE sql AS
		$$SELECT jsonb_build_object('i', i, 'noise', (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 30 + 0 * i)))$$;
	CREATE SEQUENCE number;
	CREATE TABLE row (log text, i int);
	SELECT netbus.create_log('lasting', ring_size => '64kB'), netbus.create_log('memory', durability => 'memory', ring_size => '64kB');
	SELECT netbus.create_log(p, durability => 'async', ring_size => '64kB', backpressure => p) FROM unnest(ARRAY['block', 'fail', 'drop_newest']) p;
	SELECT count(netbus.publish(log, '1')) FROM netbus.logs;
	SELECT netbus.flush(log) FROM netbus.logs;
	SQL

# --- A commit log ---------------------------------------------------------------

# n events, and a row for each that was accepted.
sub some
{
	my ($log, $n) = @_;

	return <<~"SQL";
		WITH tried AS MATERIALIZED (SELECT i, netbus.publish('$log', noise(i)) AS taken
				FROM (SELECT nextval('number')::int AS i FROM generate_series(1, $n)) s),
			new AS (INSERT INTO row SELECT '$log', i FROM tried WHERE taken)
		SELECT count(*) FROM tried
		SQL
}

# Its events are the rows, but for the first one.
sub as_noted
{
	my ($log) = @_;

	return $node->safe_psql('app', <<~"SQL");
		SELECT (SELECT array_agg((payload->>'i')::int ORDER BY (payload->>'i')::int) FROM netbus.read('$log', 1, max_events => 1000000))
			IS NOT DISTINCT FROM (SELECT array_agg(i ORDER BY i) FROM row WHERE log = '$log')
		SQL
}

my $FULL = qr/ERROR:  could not (extend|write to) file "base/;

limit_files(LIMIT);
(my $times, $stderr) = until_it_fails(some('lasting', 60));
like($stderr, $FULL, 'commit log: a transaction fails when the disk is full');
cmp_ok($times, '>', 10, '... and did not before');
is(as_noted('lasting'), 't', '... of which neither rows nor events are left');
($times, $stderr) = until_it_fails(some('lasting', 60));
is($times, 0, '... nor does the next one succeed');
$session = $node->background_psql('app', on_error_stop => 0);
for (1 .. 2)
{
	$session->query(some('lasting', 60));
	like($session->{stderr}, $FULL, '... also in a session that goes on');
	$session->{stderr} = '';
}
is(as_noted('lasting'), 't', '... or leave anything');
is($node->safe_psql('app', "SELECT netbus.publish('memory', '2')"), 't', '... while a memory log does not mind');
is(counter('lasting', 'oldest_pending_pid IS NULL, stable_seq = next_seq - 1, aborted > 0'), 't|t|t', '... no commit is pending');
counters_hold($node, 'app', '... and the counters hold');

limit_files('unlimited');
$before = visible('lasting');
$session->query_safe(some('lasting', 60));
$session->quit;
$node->safe_psql('app', some('lasting', 60)) for 1 .. 3;
is(visible('lasting'), $before + 240, 'commit log: all is well when there is room again');
is(as_noted('lasting'), 't', '... each row has its event');
is(counter('lasting', 'retained'), $before + 240, '... and is counted');

# --- Async logs -----------------------------------------------------------------

sub persisted
{
	my ($log) = @_;

	return counter($log, 'persisted_seq = stable_seq');
}

limit_files(LIMIT);
# What is too large for the ring goes to the table at once.
for my $log ('block', 'fail', 'drop_newest')
{
	(undef, $stderr) = until_it_fails(some($log, 60));
	like($stderr, $FULL, "async log, $log: a large transaction fails when the disk is full");
	is(as_noted($log), 't', '... and leaves nothing');
}
# What the worker cannot store fills the ring, and then it is up to the policy.
(undef, $stderr) = until_it_fails(some('block', 10));
like($stderr, qr/ERROR:  log "block" is full\n.*Waited 300 ms for room/, 'async log, block: an error after netbus.wait_timeout');
like($node->safe_psql('app', "SELECT last_error FROM netbus.stat_worker WHERE kind = 'worker'"), qr/^could not (extend|write to) file "base/,
	'... netbus.stat_worker says why');
cmp_ok(counter('block', 'blocked_ms'), '>=', 300, '... and the time was counted');
is(sqlstate($node, 'app', "SELECT netbus.publish('block', noise(0), transactional => false) FROM generate_series(1, 100)"), '53000', '... also without a transaction');
$node->safe_psql('app', <<~'SQL');
	INSERT INTO row SELECT 'block', 0 FROM netbus.read('block', 1, max_events => 1000000) WHERE payload->>'i' = '0';
	SQL

(undef, $stderr) = until_it_fails(some('fail', 10));
like($stderr, qr/ERROR:  log "fail" is full\n.*not persisted yet/, 'async log, fail: an error');
is(sqlstate($node, 'app', some('fail', 10)), '53000', '... of class insufficient resources');
is(counter('fail', 'blocked_ms'), 0, '... at once');

my ($accepted, $refused) = split /\|/, counter('drop_newest', 'retained, rejected');
my $before_all = $refused;
while ($refused - $before_all < 100 && $accepted < 100_000)
{
	my ($yes, $no) = split /\|/, $node->safe_psql('app', <<~'SQL');
		WITH tried AS (SELECT i, netbus.publish('drop_newest', noise(i)) AS taken FROM (SELECT nextval('number')::int AS i FROM generate_series(1, 10)) s),
			new AS (INSERT INTO row SELECT 'drop_newest', i FROM tried WHERE taken)
		SELECT count(*) FILTER (WHERE taken), count(*) FILTER (WHERE NOT taken) FROM tried
		SQL
	$accepted += $yes;
	$refused += $no;
}
cmp_ok($refused - $before_all, '>=', 100, 'async log, drop_newest: events are refused');
is(counter('drop_newest', 'accepted - aborted, rejected, retained'), "$accepted|$refused|$accepted", '... and counted');

for my $log ('block', 'fail', 'drop_newest')
{
	is(persisted($log), 'f', "$log: not all is persisted");
	is(as_noted($log), 't', '... but all that was accepted can be read');
	is($node->safe_psql('app', "SELECT netbus.flush('$log')"), 'f', '... and flush() does not promise anything');
}
counters_hold($node, 'app', '... and the counters hold');
is(counter('memory', 'retained'), 2, '... while a memory log does not mind');

# Somebody waits when there is room again.
$session = $node->background_psql('app');
my $pid = $session->query_safe('SELECT pg_backend_pid()');
chomp $pid;
$session->query_until(qr/started/, "\\echo started\nSET netbus.wait_timeout = '1min';\n" . some('block', 10) . ";\n\\echo ended\n");
$node->poll_query_until('app', "SELECT blocked = 1 FROM netbus.stat_log WHERE log = 'block'") or die 'nobody waits';
limit_files('unlimited');
$session->query_until(qr/ended/, '');
$session->quit;
for my $log ('block', 'fail', 'drop_newest')
{
	is($node->safe_psql('app', "SET netbus.wait_timeout = '1min'; SELECT netbus.flush('$log')"), 't', "$log: when there is room again");
	is(persisted($log), 't', '... all is persisted');
	$node->safe_psql('app', some($log, 10));
	is($node->safe_psql('app', "SELECT netbus.flush('$log')"), 't', '... so is what follows');
	is(as_noted($log), 't', '... and nothing is lost');
}
counters_hold($node, 'app', '... and the counters hold');

# The tables have it.
$node->stop('immediate');
$node->start;
worker_runs($node, 'app');
is(as_noted($_), 't', "$_: after a crash nothing is lost") for 'lasting', 'block', 'fail', 'drop_newest';

$node->stop;
done_testing();
