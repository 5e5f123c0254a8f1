# Durable logs across crashes.  Writers note every event in an ordinary table, so
# that afterwards the log can be compared with what was committed; whatever dies,
# and when: nothing committed is lost, twice, torn or out of order, nothing rolled
# back is seen, and no seq is issued again.  Of an async log a crash may take what
# no flush() has answered for.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use NetbusTest;
use NetbusWorkload;

# With a slow WAL writer, what nobody has flushed is lost indeed.
my $node = netbus_node('main', 'wal_writer_delay = 10s', 'jit = off', 'log_statement = none', 'log_min_duration_statement = -1');
my ($result, $stdout, $stderr, $offset, $pid, $session);

netbus_db($node, 'app');
workload_init($node, 'app');
$node->safe_psql('app', <<~'SQL');
	SELECT netbus.create_log('small', shards => 3, ring_size => '64kB'); -- read mostly from its table,
	SELECT netbus.create_log('large');                                  -- and mostly from its ring
	SELECT netbus.create_log('async', shards => 2, ring_size => '64kB', durability => 'async', flush_interval => '30 ms');
	SQL
my @LOGS = qw(small large async);
my %ALL = (logs => \@LOGS, free => ['async']);
my $debug = debug_build($node, 'app');

# Writers in full swing, and readers who remember what they have seen.
sub swing
{
	my @busy = (writers($node, 'app', 3, %ALL), background_sql($node, 'app', "CALL note_and_flush('async', 60)"));

	$node->safe_psql('app', 'SELECT pg_sleep(0.3)');
	look();
	return @busy;
}

# See what there is, and remember which seqs are taken.
sub look
{
	my $number = next_run();

	$node->safe_psql('app', "SELECT note(log, 0) FROM unnest(ARRAY['small', 'large']) log; SELECT mark_seqs($number)");
}

# After whatever happened.  lossy: events of the async log may be gone.
sub all_is_well
{
	my ($what, $lossy) = @_;
	my @problems;

	await_sql(writers($node, 'app', 2, %ALL, seconds => 0.1)) or push @problems, 'nothing can be published';
	counters_hold($node, 'app', "$what: the counters hold");
	push @problems, map { log_problems($node, 'app', $_, $_ ne 'async' || !$lossy) } @LOGS;
	is(join("\n", grep { $_ ne '' } @problems), '', '... events are what was committed');
	is(scalar(grep { !retained_become($node, 'app', $_) } @LOGS), 0, '... and counted right');
}

# Writers end by themselves when their server does.
sub crashed
{
	my ($what, @busy) = @_;

	await_recovery($node, 'app', $offset);
	await_sql(@busy);
	all_is_well($what, 1);
}

sub started
{
	my ($what, $lossy, @busy) = @_;

	await_sql(@busy);
	$node->start;
	worker_runs($node, 'app');
	all_is_well($what, $lossy);
}

# Keep what is to be compared small.
sub forget
{
	$node->safe_psql('app', 'SELECT forget(log) FROM netbus.logs WHERE log IN (' . join(',', map { "'$_'" } @LOGS) . ')');
	all_is_well('after a purge', 0);
}

all_is_well('at first', 0);
my @busy = writers($node, 'app', 4, %ALL, seconds => 1);
counters_hold($node, 'app', 'the counters hold while events are published');
ok(await_sql(@busy), 'writers do not disturb each other');
all_is_well('without a crash', 0);

# --- Processes that die --------------------------------------------------------------

for my $round (1 .. 2)
{
	@busy = swing();
	$offset = -s $node->logfile;
	kill 'KILL', $node->safe_psql('app', "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL churn%' ORDER BY random() LIMIT 1");
	crashed("kill -9 of a publisher, round $round", @busy);
}

@busy = swing();
$offset = -s $node->logfile;
kill 'KILL', worker_pid($node, 'app');
crashed('kill -9 of the worker', @busy);

@busy = swing();
kill_server($node);
started('kill -9 of all processes', 1, @busy);

@busy = swing();
$node->stop('immediate');
started('immediate stop', 1, @busy);

# A worker that only ends takes nothing with it.
@busy = writers($node, 'app', 3, %ALL, seconds => 1);
$node->safe_psql('app', 'SELECT pg_sleep(0.3), pg_terminate_backend(pid) FROM netbus.stat_worker WHERE state = \'running\' AND kind = \'worker\'');
ok(await_sql(@busy), 'writers do without the worker for a while');
worker_runs($node, 'app');
all_is_well('a worker that was terminated', 0);
forget();

# --- Clean stops -----------------------------------------------------------------------

for my $round (1 .. 2)
{
	@busy = swing();
	$node->stop('fast');
	started("fast stop while events are published, round $round", 0, @busy);
}
my $counted = "SELECT log, shard, retained, retained_bytes FROM netbus.stat_log ORDER BY 1, 2";
my $before = $node->safe_psql('app', $counted);
$node->restart;
worker_runs($node, 'app');
$node->safe_psql('app', 'SELECT netbus.head(log, 0) FROM netbus.logs');
ok($node->poll_query_until('app', $counted, $before), 'the counters of a clean stop are those of the next start');

# --- flush() -----------------------------------------------------------------------------

# The transaction need not have waited for its WAL, flush() has to.
for my $case (
	[ 'large', 'an event of a commit log', 1, 10 ],
	[ 'async', 'a small event', 1, 10 ],
	[ 'async', 'an event that no ring takes', 1, 20000 ],
	[ 'async', 'more than a quarter of the ring', 40, 1000 ])
{
	my ($log, $what, $count, $bytes) = @$case;
	my $number = next_run();

	is($node->safe_psql('app', <<~"SQL"), "\nt", "flush() answers for $what");
		SET synchronous_commit = off;
		SELECT emit_shared('$log', $number, 1, 0, $count, $bytes);
		SELECT netbus.flush('$log');
		SQL
	$node->stop('immediate');
	$node->start;
	worker_runs($node, 'app');
	is($node->safe_psql('app', <<~"SQL"), $count, '... and keeps its promise');
		SELECT count(*) FROM generate_series(0, (SELECT shards - 1 FROM netbus.logs WHERE log = '$log')) s,
			netbus.read('$log', 0, s, max_events => 1000000) e WHERE e.payload->>'id' LIKE '$number.%'
		SQL
}
all_is_well('after all these promises', 1);
forget();

# --- Space ----------------------------------------------------------------------------------

# Rows go where others have been.
for my $durability ('commit', 'async')
{
	my $fill = "SELECT netbus.publish_batch('space', (SELECT array_agg(to_jsonb(repeat(md5(i::text), 30))) FROM generate_series(1, 1000) i)); SELECT netbus.flush('space')";
	my $size = "SELECT pg_relation_size('netbus.log_space')";

	$node->safe_psql('app', <<~"SQL");
		SELECT netbus.create_log('space', durability => '$durability');
		$fill;
		CREATE TABLE since AS SELECT clock_timestamp() AS t;
		SELECT netbus.publish('space', '"the last row stays"');
		SELECT netbus.flush('space');
		SELECT netbus.purge('space', t) FROM since;
		VACUUM netbus.log_space;
		SQL
	my $pages = $node->safe_psql('app', $size) / 8192;
	$node->safe_psql('app', $fill);
	cmp_ok($node->safe_psql('app', $size) / 8192, '<', $pages + 20, "$durability: new rows take the space of $pages pages that are free");
	$node->safe_psql('app', "SELECT netbus.drop_log('space'); DROP TABLE since");
}

SKIP:
{
	skip 'needs a build with NETBUS_DEBUG', 1 if !$debug;

	# What a transaction that dies at some point publishes: to all logs, in frames
	# of every kind.
	sub victim
	{
		my ($point) = @_;
		my $number = next_run();

		return ($number, "BEGIN; SET LOCAL netbus.debug_point = '$point'; SELECT "
			  . join(',', map { "emit_shared('$_', $number, 1, 0, 2, 50), emit_shared('$_', $number, 1, 2, 40, 1000), emit_shared('$_', $number, 1, 42, 1, 20000)" } @LOGS)
			  . '; COMMIT');
	}

	sub traces
	{
		my ($number) = @_;

		return $node->safe_psql('app', <<~"SQL");
			SELECT count(*) FROM netbus.logs l, generate_series(0, shards - 1) s, netbus.read(log, 0, s, max_events => 1000000) e
			WHERE durability = 'commit' AND e.payload->>'id' LIKE '$number.%'
			SQL
	}

	# --- Publishers that stand still, die or fail at every point ---------------------------

	my ($number, $sql);

	for my $point ('claim', 'copy', 'copied', 'row', 'claimed', 'commit')
	{
		# What is visible of it afterwards: everything, or nothing.
		my $expected = $point eq 'commit' ? 86 : 0;

		($number, $sql) = victim("$point:wait");
		my $victim = background_sql($node, 'app', $sql);
		$node->poll_query_until('app', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%$point:wait%' AND wait_event = 'Extension' AND pid <> pg_backend_pid()")
		  or die 'the debug point was not reached';
		@busy = swing();
		$node->stop('immediate');
		started("immediate stop with a publisher at $point", 1, @busy, $victim);
		is(traces($number), $expected, '... of which ' . ($expected ? 'all' : 'nothing') . ' is left');

		@busy = swing();
		$offset = -s $node->logfile;
		($number, $sql) = victim("$point:panic");
		$victim = background_sql($node, 'app', $sql);
		crashed("panic at $point", @busy, $victim);
		is(traces($number), $expected, '... of which ' . ($expected ? 'all' : 'nothing') . ' is left');
		forget();
	}

	@busy = writers($node, 'app', 2, %ALL, seconds => 1.5);
	for my $point ('claim', 'copied', 'row', 'claimed')
	{
		($number, $sql) = victim("$point:error");
		($result, $stdout, $stderr) = $node->psql('app', $sql);
		like($stderr, qr/ERROR:  debug point "$point"/, "an error at $point fails the transaction");
		is(traces($number), 0, '... of which nothing is left');
	}
	ok(await_sql(@busy), '... and disturbs nobody');
	all_is_well('after these errors', 0);
	# Their rows are there still: the first to read from the table marks them.
	$node->restart;
	worker_runs($node, 'app');
	all_is_well("... whose rows are passed by the $_ reader", 0) for 'first', 'second';

	# --- The worker at every point -----------------------------------------------------------

	sub worker_point
	{
		my ($point) = @_;

		$node->safe_psql('app', $point ? "ALTER SYSTEM SET netbus.debug_point = '$point'" : 'ALTER SYSTEM RESET netbus.debug_point');
		$node->reload;
	}

	for my $point ('persist_row', 'persist')
	{
		worker_point("$point:wait");
		@busy = swing();
		$node->poll_query_until('app', "SELECT wait_event = 'Extension' AND state = 'active' FROM pg_stat_activity WHERE backend_type = 'netbus worker'")
		  or die 'the debug point was not reached';
		$node->safe_psql('app', 'ALTER SYSTEM RESET netbus.debug_point');
		$node->stop('immediate');
		started("immediate stop with the worker at $point", 1, @busy);

		@busy = swing();
		$offset = -s $node->logfile;
		worker_point("$point:panic");
		$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
		$node->poll_query_until('app', 'SELECT true');
		worker_point('');
		crashed("panic of the worker at $point", @busy);

		# It tries again, and meanwhile nothing is lost.
		worker_point("$point:error");
		@busy = writers($node, 'app', 2, %ALL, seconds => 0.5);
		ok($node->poll_query_until('app', "SELECT last_error = 'debug point \"$point\"' FROM netbus.stat_worker WHERE kind = 'worker'"),
			"an error of the worker at $point can be seen");
		worker_point('');
		ok(await_sql(@busy), '... and keeps nobody from publishing, after a while');
		is($node->safe_psql('app', "SELECT netbus.flush('async')"), 't', '... and all is persisted');
		all_is_well('... that was published', 0);
	}
	forget();
}

$node->stop;
done_testing();
