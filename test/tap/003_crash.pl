# Whatever crashes, and when: no seq that anybody may have seen is issued again,
# and publishing goes on at once.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use NetbusTest;

my $node = netbus_node('main');
my ($high, $next, $pid, $result, $stdout, $stderr);

netbus_db($node, 'app');
$node->safe_psql('app', "SELECT netbus.create_log('one', durability => 'memory')");
$node->safe_psql('app', "SELECT netbus.create_log('many', durability => 'memory', shards => 4, ring_size => '128kB')");

sub high
{
	my ($log) = @_;

	return (sort { $b <=> $a } heads($node, 'app', $log))[0];
}

# Wait until a crash restart is over, without asking too early.
sub recovered
{
	my ($offset) = @_;

	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come back';
	worker_runs($node, 'app');
}

# After an unclean stop: nothing twice, everything works.
sub goes_on
{
	my ($log, $seen, $what) = @_;
	my @next = next_seqs($node, 'app', $log);

	is(scalar(grep { $_ <= $seen } @next), 0, "$what: the next seqs are above all that were seen");
	is(scalar(grep { $_ % SEQ_STEP != 1 } @next), 0, '... and follow a bound');
	publish($node, 'app', $log, 40);
	is($node->safe_psql('app', "SELECT sum(n) FROM (SELECT (SELECT count(*) FROM netbus.read('$log', 0, s)) AS n FROM generate_series(0, $#next) s) c"),
		40, '... and events are published and read');
	counters_hold($node, 'app', '... and the counters hold');
	return @next;
}

# --- Immediate stops -----------------------------------------------------------

publish($node, 'app', 'one', 100);
publish($node, 'app', 'many', 400);
is($node->safe_psql('app', "SELECT count(*) FROM netbus.read('one')"), 100, 'events are readable before the crash');
for my $what ('immediate stop', 'another one')
{
	my %seen = map { $_ => high($_) } qw(one many);

	$node->stop('immediate');
	$node->start;
	worker_runs($node, 'app');
	goes_on($_, $seen{$_}, $what) for qw(one many);
}

# Unused since the last stop, the seqs stay where they are.
$node->restart;
my @before = next_seqs($node, 'app', 'many');
$node->stop('immediate');
$node->start;
is(join(' ', next_seqs($node, 'app', 'many')), "@before", 'a crash before the first event after a clean stop costs no seqs');
publish($node, 'app', 'many', 100);
$high = high('many');
$node->stop('immediate');
$node->start;
goes_on('many', $high, 'a crash soon after');

# The positions of the clean stop must not be believed any more.
$node->restart;
publish($node, 'app', 'one', 5);
$high = high('one');
$node->stop('immediate');
$node->start;
goes_on('one', $high, 'clean stop, five events, crash');

# A position that a reader kept.
publish($node, 'app', 'one', 1);
($result, $stdout, $stderr) = $node->psql('app', "SELECT count(*) FROM netbus.read('one', $high)");
is($stdout, 41, 'a reader that kept its position gets all that is new');

# --- Processes that are killed ----------------------------------------------------

# Two sessions publish without end; one of them is killed.  The others know
# their highest event only from what the server has told a reader.
my $endless = <<~'SQL';
	DO $$
	BEGIN
		LOOP
			PERFORM netbus.publish('many', to_jsonb(i), 'key' || i, transactional => i % 2 = 0) FROM generate_series(1, 50) i;
			COMMIT;
		END LOOP;
	END
	$$;
	SQL
for my $round (1 .. 3)
{
	my @sessions = map { $node->background_psql('app', on_error_stop => 0) } 1 .. 2;
	my $offset = -s $node->logfile;
	my $low = high('many');

	$pid = $sessions[0]->query_safe('SELECT pg_backend_pid()');
	$_->query_until(qr/started/, "\\echo started\n$endless") for @sessions;
	$node->poll_query_until('app', "SELECT netbus.head('many', 0) > $low + 1000") or die 'nothing is published';
	$high = high('many');
	kill 'KILL', $pid;
	recovered($offset);
	eval { $_->quit } for @sessions;
	goes_on('many', $high, "kill -9 of a publisher, round $round");
}

# The worker, and the postmaster with all it has.
my $offset = -s $node->logfile;
publish($node, 'app', 'one', 10);
$high = high('one');
kill 'KILL', $node->safe_psql('app', "SELECT pid FROM netbus.stat_worker WHERE kind = 'worker'");
recovered($offset);
goes_on('one', $high, 'kill -9 of the worker');

$high = high('one');
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
$node->kill9;
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	# Its children leave when they notice.
	last if !kill(0, $postmaster) && $node->start(fail_ok => 1);
	usleep(100_000);
}
worker_runs($node, 'app');
goes_on('one', $high, 'kill -9 of the postmaster');

# --- The bound ---------------------------------------------------------------------

# More events at once than a step of the bound has seqs.
$node->safe_psql('app', "SELECT netbus.create_log('wide', durability => 'memory', format => 'bytea', ring_size => '64kB')");
$node->safe_psql('app', 'CREATE EXTENSION test_netbus_api');
$node->safe_psql('app', sprintf("SELECT api_publish_fixed('wide', '\\x0000000000', %d, false)", SEQ_STEP + 1000));
$high = high('wide');
is($high, SEQ_STEP + 1000, 'a transaction of more events than a step of the bound');
publish_bytes(10);
$node->stop('immediate');
$node->start;
worker_runs($node, 'app');
is(join(' ', next_seqs($node, 'app', 'wide')), 2 * SEQ_STEP + 1, '... raised it as far as needed');

# Up to the last seq below the bound, and one event across it.
$node->safe_psql('app', sprintf("SELECT api_publish_fixed('wide', '\\x0000000000', %d, false)", SEQ_STEP - 1));
is(high('wide'), 3 * SEQ_STEP - 1, 'up to one seq below the bound');
publish_bytes(1);
is(high('wide'), 3 * SEQ_STEP, '... the last one');
publish_bytes(1);
is(high('wide'), 3 * SEQ_STEP + 1, '... and the next, without a gap');
is(events_of_bytes(3 * SEQ_STEP - 2), join(',', map { 3 * SEQ_STEP + $_ } -1 .. 1), '... in order');
$node->stop('immediate');
$node->start;
is(join(' ', next_seqs($node, 'app', 'wide')), 4 * SEQ_STEP + 1, '... and the bound was raised before it was passed');

sub publish_bytes
{
	my ($n) = @_;

	$node->safe_psql('app', "SELECT netbus.publish('wide', '\\x01'::bytea) FROM generate_series(1, $n)");
}

sub events_of_bytes
{
	my ($after_seq) = @_;

	return $node->safe_psql('app', "SELECT string_agg(seq::text, ',' ORDER BY seq) FROM netbus.read_raw('wide', $after_seq)");
}

# The bound is durable even where the transaction that needed it is not.
$node->restart;
$next = (next_seqs($node, 'app', 'one'))[0];
$node->safe_psql('app', "SET synchronous_commit = off; SELECT netbus.publish('one', '1', transactional => false)");
$node->stop('immediate');
$node->start;
worker_runs($node, 'app');
goes_on('one', $next, 'crash right after an asynchronous commit');

# Aborted transactions, and a bound raised by one of them.
$node->restart;
$next = (next_seqs($node, 'app', 'one'))[0];
$node->safe_psql('app', "BEGIN; SELECT netbus.publish('one', '1', transactional => false); ROLLBACK");
is(events($node, 'app', 'one', 0), $next, 'an event that survives the rollback of its transaction');
$node->stop('immediate');
$node->start;
worker_runs($node, 'app');
goes_on('one', $next, '... raises the bound for good');

SKIP:
{
	skip 'needs a build with NETBUS_DEBUG', 1 if !debug_build($node, 'app');

	# Between the claim, which comes after the bound was raised, and anything else.
	for my $point ('copy:kill', 'claimed:kill', 'commit:kill')
	{
		$node->restart;
		$next = (next_seqs($node, 'app', 'one'))[0];
		$offset = -s $node->logfile;
		$node->psql('app', "BEGIN; SET LOCAL netbus.debug_point = '$point'; SELECT netbus.publish('one', '1'); COMMIT");
		recovered($offset);
		cmp_ok((next_seqs($node, 'app', 'one'))[0], '>', $next, "$point at the first event after a start");
		goes_on('one', $next, '... and after it');
	}

	# Before any seq is claimed.
	$node->restart;
	$next = (next_seqs($node, 'app', 'one'))[0];
	$offset = -s $node->logfile;
	$node->psql('app', "BEGIN; SET LOCAL netbus.debug_point = 'claim:kill'; SELECT netbus.publish('one', '1'); COMMIT");
	recovered($offset);
	cmp_ok((next_seqs($node, 'app', 'one'))[0], '>=', $next, 'claim:kill there');
	publish($node, 'app', 'one', 1);
	cmp_ok($node->safe_psql('app', "SELECT netbus.head('one')"), '>=', $next, '... and the next event');
}

$node->stop;
done_testing();
