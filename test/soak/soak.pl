#!/usr/bin/perl
# Publishers and readers, and a server that is killed, stopped and restarted at
# random, for SOAK_MINUTES (default 10).  After each round: what was committed
# is there exactly once and in order, nothing else is, readers have missed and
# repeated nothing, and the counters agree.  An async log may lose its last
# events in a crash, but none that flush() has answered for.
#
# SEED repeats the choices, though not their timing.  Run by "make soak".

use strict;
use warnings;

BEGIN
{
	my $pgxs = `"\${PG_CONFIG:-pg_config}" --pgxs`;

	$pgxs =~ s{/makefiles/pgxs\.mk\s*$}{/test/perl} or die 'no pg_config';
	unshift @INC, $pgxs, 'test/tap';
	delete @ENV{qw(PGDATA PGHOST PGPORT PGUSER PGDATABASE)};
}

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use NetbusTest;
use NetbusWorkload;

my $minutes = $ENV{SOAK_MINUTES} || 10;
my $seed = $ENV{SEED} || int(time() * 1000) % 1_000_000_007;
my @WHOLE = qw(small large async);        # that keep everything
my @LOGS = (@WHOLE, 'ring_of_tables', 'metrics'); # and with retention
my $logs = q('{) . join(',', @LOGS) . q(}');

diag("SEED=$seed");
srand($seed);

my $node = netbus_node('soak', 'wal_writer_delay = 5s', 'log_statement = none', 'log_min_duration_statement = -1', 'max_connections = 50', 'jit = off');
my ($round, @busy) = (0);

netbus_db($node, 'app');
workload_init($node, 'app');
$node->safe_psql('app', slurp_file('test/soak/soak.sql'));
$node->safe_psql('app', <<~'SQL');
	SELECT netbus.create_log('small', shards => 3, ring_size => '64kB');
	SELECT netbus.create_log('large');
	SELECT netbus.create_log('async', shards => 2, ring_size => '64kB', durability => 'async', flush_interval => '30 ms');
	SELECT netbus.create_log('ring_of_tables', shards => 2, ring_size => '64kB', retention_events => 2000);
	SELECT netbus.create_log('metrics', ring_size => '64kB', durability => 'async', flush_events => 500, retention_events => 2000);
	SQL

sub pick
{
	return $_[ rand @_ ];
}

sub client_pid
{
	my ($what) = @_;

	return $node->safe_psql('app', "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL $what%' ORDER BY random() LIMIT 1");
}

# Kill one process.  True if it was there, so that the server has crashed.
sub kill_one
{
	my ($pid) = @_;
	my $offset = -s $node->logfile;

	return 0 if !$pid || !kill('KILL', $pid);
	await_recovery($node, 'app', $offset);
	return 1;
}

sub terminate
{
	my ($pid) = @_;

	$node->safe_psql('app', "SELECT pg_terminate_backend($pid)") if $pid;
	return 0;
}

sub start_again
{
	$node->start;
	# Again, perhaps before it is up and running.
	if (rand() < 0.2)
	{
		sleep(rand(0.5));
		pick(sub { $node->stop('immediate') }, sub { kill_server($node) })->();
		$node->start;
	}
	worker_runs($node, 'app');
	return 1;
}

# What happens.  They return whether it was a crash.
my %events = (
	'nothing' => sub { 0 },
	'kill -9 of a publisher' => sub { kill_one(client_pid('churn')) },
	'kill -9 of a reader' => sub { kill_one(client_pid('follow')) },
	'kill -9 of the worker' => sub { kill_one(worker_pid($node, 'app')) },
	'kill -9 of all' => sub { kill_server($node); start_again() },
	'immediate stop' => sub { $node->stop('immediate'); start_again() },
	'fast stop' => sub { $node->stop('fast'); $node->start; worker_runs($node, 'app'); 0 },
	'fast restart' => sub { $node->restart; worker_runs($node, 'app'); 0 },
	'pg_terminate_backend() of a publisher' => sub { terminate(client_pid('churn')) },
	'pg_terminate_backend() of a reader' => sub { terminate(client_pid('follow')) },
	'pg_terminate_backend() of the worker' => sub { terminate(worker_pid($node, 'app')) },
	'pg_cancel_backend() of a publisher' => sub { my $pid = client_pid('churn'); $node->safe_psql('app', "SELECT pg_cancel_backend($pid)") if $pid; 0 },
);
my @maintenance = ('CHECKPOINT', (map { ("VACUUM FULL netbus.log_$_", "VACUUM netbus.log_$_", "REINDEX TABLE CONCURRENTLY netbus.log_$_") } @WHOLE),
	'VACUUM netbus.log_ring_of_tables', 'VACUUM FULL netbus.segment_1_ring_of_tables', 'VACUUM FULL netbus.segment_2_metrics',
	"SELECT netbus.alter_log('metrics', 'retention_events', '2500')", "SELECT netbus.flush('large')");

# All who work on logs, and somebody who looks after tables.
sub swing
{
	my ($seconds) = @_;
	my @all = (
		writers($node, 'app', 1 + int(rand(4)), logs => \@LOGS, free => [ 'async', 'metrics' ], seconds => $seconds),
		background_sql($node, 'app', "CALL note_and_flush('async', $seconds)"),
		map { background_sql($node, 'app', "CALL follow($_, $logs, $seconds)") } 1, 2);

	push @all, background_sql($node, 'app', pick(@maintenance)) if rand() < 0.5;
	$node->safe_psql('app', sprintf("SELECT note(log, 0) FROM unnest(ARRAY['small', 'large']) log; SELECT mark_seqs(%d)", next_run()));
	return @all;
}

# Until the worker expires nothing any more.
sub settle
{
	my $before = '';

	for (1 .. 60)
	{
		my $now = $node->safe_psql('app', 'SELECT log, shard, retained, expired FROM netbus.stat_log ORDER BY 1, 2');

		return if $now eq $before;
		$before = $now;
		sleep(1.2);
	}
	die 'the worker does not come to rest';
}

my $end = time() + 60 * $minutes;
while (time() < $end)
{
	my $what = pick(sort keys %events);
	my ($seconds, $after) = (0.5 + rand(2.5), rand());
	my @problems;

	$round++;
	@busy = swing($seconds);
	sleep($seconds * $after);
	my $lossy = $events{$what}->();
	await_sql(@busy);

	# It goes on as it should, and readers read to the end.
	await_sql(writers($node, 'app', 2, logs => \@LOGS, free => ['async'], seconds => 0.1)) or push @problems, 'nothing can be published';
	$node->safe_psql('app', "SELECT netbus.flush(log) FROM netbus.logs");
	settle();
	$node->safe_psql('app', "CALL follow($_, $logs, 0)") for 1, 2;
	$node->safe_psql('app', 'VACUUM ANALYZE witness, seen, followed, counter, place');
	for my $log (@LOGS)
	{
		my $whole = grep { $_ eq $log } @WHOLE;

		push @problems, log_problems($node, 'app', $log, $whole && ($log ne 'async' || !$lossy));
		push @problems, $node->safe_psql('app', sprintf("SELECT format('%%s: %%s (%%s), e.g. %%s', '%s', problem, events, example) FROM follow_problems('%s', %s)",
				$log, $log, $whole && $log ne 'async' ? 'true' : 'false'));
		push @problems, "$log: counters do not become what there is" if !retained_become($node, 'app', $log);
	}
	counters_hold($node, 'app', "round $round, $what: the counters hold");
	is(join("\n", grep { $_ ne '' } @problems), '', "round $round, $what: all is well") or last;
	if (rand() < 0.4) # keep it quick
	{
		$node->safe_psql('app', 'SELECT forget(log) FROM netbus.logs; SELECT forget_followed()');
	}
}

diag("$round rounds, SEED=$seed");
$node->stop;
done_testing();
