# Consumers whatever dies: workers that note what they do in a table do every
# event exactly once.  published = acknowledged + pending + dead-lettered + expired.

use strict;
use warnings;

use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use NetbusTest;
use NetbusWorkload;

my $node = netbus_node('main', 'jit = off', 'max_connections = 40', 'log_statement = none', 'log_min_duration_statement = -1');
my ($offset, $pid, $result, $stdout, $stderr);

netbus_db($node, 'app');
$node->safe_psql('app', slurp_file(dirname(__FILE__) . '/consumers.sql'));
$node->safe_psql('app', <<~'SQL');
	SELECT netbus.create_log('jobs', shards => 3, ring_size => '64kB'), netbus.create_log('line'), netbus.create_log('dead');
	SELECT netbus.create_consumer('jobs', 'plain'), netbus.create_consumer('line', 'plain'),
		netbus.create_consumer('jobs', 'careful', max_deliveries => 4, dead_letter_log => 'dead');
	SQL
my @CONSUMERS = ([ 'jobs', 'plain' ], [ 'jobs', 'careful' ], [ 'line', 'plain' ]);
my $debug = debug_build($node, 'app');

# Publishers and workers in full swing.
sub swing
{
	my ($seconds) = @_;
	my $n = 0;
	my @busy = map { background_sql($node, 'app', "CALL produce('$_', $seconds)") } 'jobs', 'jobs', 'line';

	for my $c (@CONSUMERS)
	{
		push @busy, map { background_sql($node, 'app', sprintf("CALL consume('%s', '%s', %d, %g)", @$c, ++$n, $seconds)) } 1 .. 2;
	}
	$node->safe_psql('app', 'SELECT pg_sleep(0.4)');
	return @busy;
}

# A process that works for a consumer, and probably has received something.
sub holder
{
	return $node->safe_psql('app', "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL consume%' ORDER BY random() LIMIT 1");
}

# Nothing is pending any more, and each event is where it belongs.
sub all_is_well
{
	my ($what) = @_;
	my @problems;

	for my $c (@CONSUMERS)
	{
		my $name = join '.', @$c;

		$node->safe_psql('app', sprintf("SELECT send('%s', 5); CALL drain('%s', '%s')", $c->[0], @$c));
		push @problems, map { "$name: $_" } split /\n/, $node->safe_psql('app', sprintf("SELECT problems('%s', '%s')", @$c));
		push @problems, map { "$name: pending: $_" } split /\n/,
		  $node->safe_psql('app', sprintf("SELECT s FROM netbus.stat_consumer s WHERE log = '%s' AND consumer = '%s' AND (lag > 0 OR retries > 0 OR holder_pid IS NOT NULL OR waiting > 0 OR lost > 0)", @$c));
	}
	is(join("\n", @problems), '', "$what: every event is done once, or set aside");
	counters_hold($node, 'app', '... and the counters hold');
}

sub crashed
{
	my ($what, @busy) = @_;

	await_recovery($node, 'app', $offset);
	await_sql(@busy);
	all_is_well($what);
}

sub started
{
	my ($what, @busy) = @_;

	await_sql(@busy);
	$node->start;
	worker_runs($node, 'app');
	all_is_well($what);
}

# --- Without accidents, but with rollbacks ---------------------------------------------

my @busy = swing(1.5);
ok(await_sql(@busy), 'workers do not disturb each other');
# Half-way: what is not done is behind the positions, or among the retries.
is($node->safe_psql('app', <<~'SQL'), '', 'what is not done is pending');
	SELECT * FROM (
		SELECT s.log, s.consumer, sum(s.retries) AS retries, sum((SELECT count(*) FROM netbus.read(s.log, s.position_seq, s.shard, max_events => 1000000))) AS unread,
			(SELECT count(*) FROM sent WHERE log = s.log) AS sent,
			(SELECT count(*) FROM work w WHERE w.log = s.log AND w.consumer = s.consumer) AS done,
			(SELECT count(*) FROM dead d WHERE d.log = s.log AND d.consumer = s.consumer) AS dead
		FROM netbus.stat_consumer s WHERE s.log IN ('jobs', 'line') GROUP BY 1, 2) t
	WHERE sent <> done + dead + unread + retries
	SQL
all_is_well('with rollbacks');
is($node->safe_psql('app', <<~'SQL'), '', '... and the counters say so');
	SELECT log, consumer, s.*, d FROM (SELECT log, consumer, sum(acknowledged) AS acknowledged, sum(dead_letters) AS dead_letters, sum(lost) AS lost,
			sum(deliveries) >= sum(acknowledged) + sum(redeliveries) AS plausible FROM netbus.stat_consumer WHERE log IN ('jobs', 'line') GROUP BY 1, 2) s,
		LATERAL (SELECT count(*) AS done FROM work WHERE log = s.log AND consumer = s.consumer) w,
		LATERAL (SELECT count(*) AS dead FROM dead WHERE log = s.log AND consumer = s.consumer) d
	WHERE s.acknowledged <> done OR s.dead_letters <> dead OR lost <> 0 OR NOT plausible
	SQL

# --- Processes that die ------------------------------------------------------------------

@busy = swing(60);
$node->safe_psql('app', 'SELECT pg_terminate_backend(' . holder() . '), pg_sleep(0.2)') for 1 .. 3;
$node->safe_psql('app', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL %'");
await_sql(@busy);
all_is_well('workers that were terminated');

@busy = swing(1);
$node->safe_psql('app', 'SELECT pg_terminate_backend(pid), pg_sleep(0.3) FROM netbus.stat_worker WHERE state = \'running\' AND kind = \'worker\'') for 1 .. 2;
ok(await_sql(@busy), "netbus' own worker is terminated: nobody is disturbed");
worker_runs($node, 'app');
all_is_well('... and then');

for my $round (1 .. 2)
{
	@busy = swing(60);
	$offset = -s $node->logfile;
	kill 'KILL', holder();
	crashed("kill -9 of a worker, round $round", @busy);
}

@busy = swing(60);
kill_server($node);
started('kill -9 of all processes', @busy);

@busy = swing(60);
$node->stop('immediate');
started('immediate stop', @busy);

@busy = swing(60);
$node->stop('fast');
started('fast stop', @busy);

# --- An event that crashes the server ------------------------------------------------------

# Who works at it kills its own backend, as C code with a bug does.
$node->safe_psql('app', <<~'SQL');
	SELECT netbus.create_log('mine'), netbus.create_consumer('mine', 'miners', max_deliveries => 2, dead_letter_log => 'dead');
	CREATE TABLE poison (id bigint);
	CREATE FUNCTION explode() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.log = 'mine' AND EXISTS (SELECT FROM poison p WHERE p.id = NEW.id) THEN
			PERFORM kill(pg_backend_pid());
		END IF;
		RETURN NEW;
	END $$;
	SQL
$node->safe_psql('app', <<~"SQL");
	CREATE FUNCTION kill(pid int) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'cat >/dev/null; kill -9 ' || pid || '; sleep 0.2');
	END \$\$;
	CREATE TRIGGER explode BEFORE INSERT ON work FOR EACH ROW EXECUTE FUNCTION explode();
	SQL

# Consume until all is done, through crashes.  Returns how many there were.
sub consume_through
{
	my ($log, $consumer, $at_once) = @_;
	my $crashes = 0;

	while ($crashes < 40)
	{
		$offset = -s $node->logfile;
		($result) = $node->psql('app', "SET netbus.wait_timeout = '30 s'; SELECT take('$log', '$consumer', 9, $at_once)") ;
		if ($result == 2)
		{
			$crashes++;
			await_recovery($node, 'app', $offset);
			next;
		}
		last if $node->safe_psql('app', "SELECT sum(lag) + sum(retries) FROM netbus.stat_consumer WHERE log = '$log' AND consumer = '$consumer'") == 0;
	}
	return $crashes;
}

for my $commit ('on', 'off')
{
	$node->safe_psql('app', "ALTER DATABASE app SET synchronous_commit = $commit");
	# The first and the last of a batch, and two in the middle of it, side by side.
	for my $poison ($commit eq 'on' ? ([1], [ 9, 10 ]) : [20])
	{
		my @ids = split /\n/, $node->safe_psql('app', "SELECT send('mine', 30); SELECT id FROM sent WHERE log = 'mine' ORDER BY id DESC LIMIT 30");
		shift @ids;
		@ids = reverse @ids;
		my @bad = map { $ids[ $_ - 1 ] } @$poison;

		$node->safe_psql('app', "INSERT INTO poison VALUES (" . join('), (', @bad) . ')');
		$node->safe_psql('app', 'CHECKPOINT');
		my $crashes = consume_through('mine', 'miners', 20);
		cmp_ok($crashes, '<=', 4 * @bad, "events " . join(',', @$poison) . " of 20, synchronous_commit $commit: the server crashes at most 4 times for each");
		cmp_ok($crashes, '>=', 3, '... and more often than max_deliveries');
		is($node->safe_psql('app', "SELECT string_agg(id::text, ',' ORDER BY id) FROM dead WHERE consumer = 'miners' AND id >= $ids[0]"), join(',', @bad), '... they are set aside');
		is($node->safe_psql('app', "SELECT problems('mine', 'miners')"), '', '... and all others are done once');
	}
}
$node->safe_psql('app', 'ALTER DATABASE app RESET synchronous_commit');
is($node->safe_psql('app', "SELECT count(*) FROM dead WHERE consumer = 'miners' AND (reason !~ 'in vain' OR attempts < 2)"), 0, 'dead letters tell why');

# One that was refused, comes as a retry and kills then.
$node->safe_psql('app', <<~'SQL');
	SELECT send('mine', 10);
	SELECT netbus.nack('mine', 'miners', shard, seq, 'not now', delay => '200 ms') FROM netbus.receive('mine', 'miners', 1) OFFSET 0;
	INSERT INTO poison SELECT (payload #>> '{}')::bigint FROM netbus.read('mine', (SELECT position_seq FROM netbus.stat_consumer WHERE log = 'mine')) LIMIT 1;
	SQL
is($node->safe_psql('app', "SELECT retries FROM netbus.stat_consumer WHERE log = 'mine'"), 1, 'an event is to come again');
cmp_ok(consume_through('mine', 'miners', 20), '<=', 4, '... crashes the server then, at most 4 times');
is($node->safe_psql('app', "SELECT count(*) FROM dead JOIN poison USING (id) WHERE consumer = 'miners'"), 5, '... is set aside');
is($node->safe_psql('app', "SELECT problems('mine', 'miners')"), '', '... and all others are done once');
$node->safe_psql('app', 'DROP TRIGGER explode ON work');
all_is_well('after poison');

SKIP:
{
	skip 'needs a build with NETBUS_DEBUG', 1 if !$debug;

	# --- Workers that stand still, die or fail at every point ------------------------------

	# Whose transaction is committed by then?
	my %committed = (ack => 0, commit => 1, release => 1);

	# What a worker does that dies at some point: two batches.
	sub victim
	{
		my ($point) = @_;

		$node->safe_psql('app', "SELECT send('line', 30)");
		return "BEGIN; SET LOCAL netbus.debug_point = '$point'; SELECT take('line', 'plain', 666, 5, '20 s'), take('line', 'plain', 666, 5); COMMIT";
	}

	sub traces
	{
		return $node->safe_psql('app', 'WITH gone AS (UPDATE work SET worker = 0 WHERE worker = 666 RETURNING 1) SELECT count(*) FROM gone');
	}

	for my $point ('ack', 'commit', 'release')
	{
		my $expected = $committed{$point} ? 10 : 0;
		my $sql = victim("$point:wait");
		my $victim = background_sql($node, 'app', $sql);

		$node->poll_query_until('app', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%$point:wait%' AND wait_event = 'Extension' AND pid <> pg_backend_pid()")
		  or die 'the debug point was not reached';
		@busy = swing(60);
		$node->stop('immediate');
		started("immediate stop with a worker at $point", @busy, $victim);
		is(traces(), $expected, '... of which ' . ($expected ? 'all' : 'nothing') . ' is done');

		for my $action ('panic', 'kill')
		{
			@busy = swing(60);
			$offset = -s $node->logfile;
			$victim = background_sql($node, 'app', victim("$point:$action"));
			crashed("$action at $point", @busy, $victim);
			like(traces(), $expected ? qr/^\d+$/ : qr/^0\z/, '... of which ' . ($expected ? 'all' : 'nothing') . ' is done');
		}
	}

	($result, $stdout, $stderr) = $node->psql('app', victim('ack:error'));
	like($stderr, qr/ERROR:  debug point "ack"/, 'an error at ack fails the transaction');
	is(traces(), 0, '... of which nothing is done');
	all_is_well('... ');

	# --- The worker of the database at every point ---------------------------------------------

	sub worker_file
	{
		my ($point) = @_;
		my $file = $node->data_dir . '/postgresql.auto.conf';

		unlink $file;
		append_to_file($file, $point ? "netbus.debug_point = '$point'\n" : '');
	}

	# By the file: the server may be about to crash at it once more.
	sub worker_point
	{
		my ($point) = @_;

		worker_file($point);
		$node->reload;
		usleep(200_000); # it is a signal to a signal
	}

	# What makes the worker come to a point.
	my %to_point = (
		record => "SELECT count(*) FROM netbus.receive('mine', 'miners', 5)",
		set_aside => "SELECT take('mine', 'miners', 666, 1)",
		rotate => "DO \$\$ BEGIN FOR i IN 1 .. 1200 LOOP PERFORM send('line', 1), take('line', 'plain', 0, 100); COMMIT; END LOOP; END \$\$");

	sub make_ready
	{
		my ($point) = @_;

		consume_through('mine', 'miners', 100);
		$node->safe_psql('app', "SELECT send('mine', 5)");
		return if $point eq 'rotate';
		# Twice in vain, alone for what shall be set aside.
		$node->psql('app', sprintf("BEGIN; SELECT count(*) FROM netbus.receive('mine', 'miners', %d); SELECT 1/0", $point eq 'record' ? 5 : 1)) for 1 .. ($point eq 'record' ? 1 : 2);
	}

	for my $point ('record', 'set_aside', 'rotate')
	{
		# It stands still: who needs it waits, and no longer than netbus.wait_timeout.
		make_ready($point);
		worker_point("$point:wait");
		if ($point ne 'rotate')
		{
			is(sqlstate($node, 'app', "SET netbus.wait_timeout = '300ms'; $to_point{$point}"), '55000', "$point: who waits for the worker gives up");
			is(sqlstate($node, 'app', "SET netbus.wait_timeout = '300ms'; SELECT netbus.drop_consumer('mine', 'miners')"), '55006', '... others wait for it');
		}
		else
		{
			$node->safe_psql('app', $to_point{$point});
		}
		$node->poll_query_until('app', "SELECT wait_event = 'Extension' AND state = 'active' FROM pg_stat_activity WHERE backend_type = 'netbus worker'")
		  or die 'the debug point was not reached';
		@busy = swing(60);
		worker_file('');
		$node->stop('immediate');
		started("immediate stop with the worker at $point", @busy);

		for my $action ('panic', 'kill')
		{
			make_ready($point);
			$offset = -s $node->logfile;
			worker_point("$point:$action");
			($result) = $node->psql('app', $to_point{$point});
			$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
			worker_point('');
			crashed("$action of the worker at $point");
		}

		make_ready($point);
		worker_point("$point:error");
		@busy = swing(1);
		($result, $stdout, $stderr) = $node->psql('app', $to_point{$point});
		is($result, 0, "an error of the worker at $point: consuming goes on");
		ok($node->poll_query_until('app', "SELECT last_error = 'debug point \"$point\"' FROM netbus.stat_worker WHERE kind = 'worker'"), '... it can be seen');
		ok(await_sql(@busy), '... and disturbs nobody');
		worker_point('');
		$node->safe_psql('app', $to_point{$point}) if $point eq 'rotate';
		all_is_well('... ');
		consume_through('mine', 'miners', 100);
		is($node->safe_psql('app', "SELECT problems('mine', 'miners')"), '', '... also where the worker was needed');
	}

	# Terminated in the middle of it.
	make_ready('record');
	worker_point('record:wait');
	my $waiter = background_sql($node, 'app', $to_point{record});
	$node->poll_query_until('app', "SELECT wait_event = 'Extension' AND state = 'active' FROM pg_stat_activity WHERE backend_type = 'netbus worker'")
	  or die 'the debug point was not reached';
	worker_point('');
	$node->psql('app', "SELECT pg_terminate_backend(" . worker_pid($node, 'app') . ')');
	ok(await_sql($waiter), 'the worker is terminated while somebody waits for it: he goes on');
	worker_runs($node, 'app');
	consume_through('mine', 'miners', 100);
	all_is_well('... ');

	# A wait for the worker that a savepoint ends: he is still at it, and has the shard.
	$node->safe_psql('app', <<~'SQL');
		SELECT send('mine', 1);
		BEGIN;
		SELECT netbus.nack('mine', 'miners', shard, seq, delay => '1 s') FROM netbus.receive('mine', 'miners');
		SELECT netbus.ack('mine', 'miners');
		COMMIT;
		SELECT send('mine', 1);
		SQL
	my $session = $node->background_psql('app', on_error_stop => 0);
	is($session->query("BEGIN; SELECT count(*) FROM netbus.receive('mine', 'miners')"), 1, 'one event, and another that is not due');
	worker_point('record:wait');
	$session->query("SELECT pg_sleep(1); SAVEPOINT s; SET LOCAL statement_timeout = '300ms'; SELECT netbus.receive('mine', 'miners')");
	like($session->{stderr}, qr/statement timeout/, 'the other one has to be recorded: cancelled');
	$session->{stderr} = '';
	$session->query("ROLLBACK TO s; SET LOCAL netbus.wait_timeout = '300ms'");
	$waiter = background_sql($node, 'app', "SELECT take('mine', 'miners', 666, 5, '40 s')");
	my $waiting = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%''40 s''%' AND wait_event = 'Extension' AND pid <> pg_backend_pid()";
	$node->poll_query_until('app', "SELECT EXISTS ($waiting) AND (SELECT max(waiting) = 1 FROM netbus.stat_consumer WHERE log = 'mine')") or die 'nobody waits';
	my $ticks = sprintf 'SELECT t[14]::int + t[15]::int FROM string_to_array(pg_read_file(\'/proc/%d/stat\'), \' \') t', $node->safe_psql('app', "SELECT pid FROM pg_stat_activity WHERE query LIKE '%''40 s''%' AND pid <> pg_backend_pid()");
	my $before = $node->safe_psql('app', $ticks);
	$session->query("SELECT netbus.ack('mine', 'miners')");
	like($session->{stderr}, qr/could not record/, '... nothing can be acknowledged');
	$node->safe_psql('app', 'SELECT pg_sleep(1)');
	cmp_ok($node->safe_psql('app', $ticks) - $before, '<', 20, '... who waits for what is due meanwhile sleeps');
	$session->query('ROLLBACK');
	$session->quit;
	my $since = time;
	worker_point('');
	ok(await_sql($waiter), 'the worker is done');
	cmp_ok(time - $since, '<', 20, '... and wakes who waits for the shard');
	consume_through('mine', 'miners', 100);
	is($node->safe_psql('app', "SELECT problems('mine', 'miners')"), '', '... every event is done once');
}

$node->stop;
done_testing();
