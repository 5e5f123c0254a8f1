# Retention when something is in its way: errors of the worker, readers, restarts,
# a pinned snapshot, a table that is not fit any more.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use NetbusTest;

my $node = netbus_node('main', 'jit = off');
my $session;


netbus_db($node, 'app');
if (!debug_build($node, 'app'))
{
	$node->stop;
	plan skip_all => 'needs a build with NETBUS_DEBUG';
}
$node->safe_psql('app', <<~'SQL');
	CREATE EXTENSION pgstattuple;
	-- Transactions of some events of a kilobyte, with time for the worker to look in between.
	CREATE PROCEDURE publish(log text, first int, last int, at_once int, pause float8) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN first .. last BY at_once LOOP
			PERFORM netbus.publish(log, jsonb_build_array(n, repeat('x', 1000)), 'key' || n) FROM generate_series(i, i + at_once - 1) n;
			COMMIT;
			PERFORM pg_sleep(pause);
		END LOOP;
	END $$;
	-- What can be read of each shard.
	CREATE VIEW readable AS
		SELECT log, shard, (SELECT count(*) FROM netbus.read_raw(log, shard => shard, max_events => 1000000)) AS n
		FROM netbus.logs, generate_series(0, shards - 1) shard;
	SQL

# It becomes so, soon.
sub becomes
{
	my ($query, $what) = @_;

	ok($node->poll_query_until('app', $query), $what);
}

# The worker has counted what there is, and that is what can be read.
sub counted
{
	my ($what) = @_;
	my $wrong = 'SELECT * FROM readable r LEFT JOIN netbus.stat_log s USING (log, shard) WHERE retained IS DISTINCT FROM n';

	$node->safe_psql('app', 'TABLE readable'); # now all are in use
	$node->poll_query_until('app', "SELECT NOT EXISTS ($wrong)");
	is($node->safe_psql('app', $wrong), '', "$what: what is retained is what can be read");
	counters_hold($node, 'app', '... and the counters hold');
}

# What expired is not in the tables any more.
sub truncated
{
	my ($log, $what) = @_;

	becomes("SELECT sum(events) = (SELECT sum(retained) FROM netbus.stat_log WHERE log = '$log') FROM netbus.log_$log", $what);
	is($node->safe_psql('app', "SELECT max(retention_holds) FROM netbus.stat_log WHERE log = '$log'"), 0, '... none is held');
}

# --- Truncating fails ----------------------------------------------------------------

# Readers who read what is new, and remember where they are, of each shard.
my %seen = (one => [0], three => [ 0, 0, 0 ]);
my %got = (one => '', three => '');

sub read_on
{
	for my $log (sort keys %seen)
	{
		for my $shard (0 .. $#{ $seen{$log} })
		{
			my ($last, $all) = split /\|/, $node->safe_psql('app', sprintf(<<~'SQL', $log, $seen{$log}[$shard], $shard));
				SELECT coalesce(max(seq), 0), string_agg(payload ->> 0, ',' ORDER BY seq) FROM netbus.read('%s', %d, %d, max_events => 100000)
				SQL
			$seen{$log}[$shard] = $last if $last > 0;
			$got{$log} .= "$all," if $last > 0;
		}
	}
}

sub publish_and_read
{
	my ($first, $last) = @_;

	for (my $i = $first; $i < $last; $i += 20)
	{
		$node->safe_psql('app', "CALL publish('$_', $i, $i + 19, 20, 0)") for sort keys %seen;
		$node->safe_psql('app', "SELECT netbus.flush('three'), pg_sleep(0.21)");
		read_on();
	}
}

$node->safe_psql('app', <<~'SQL');
	SELECT netbus.create_log('one', retention_events => 60, ring_size => '64kB'),
		netbus.create_log('three', shards => 3, durability => 'async', retention_events => 60, ring_size => '64kB');
	ALTER SYSTEM SET netbus.debug_point = 'truncate:error';
	SELECT pg_reload_conf();
	SQL
my $worker = $node->safe_psql('app', "SELECT pid, restarts FROM netbus.stat_worker WHERE kind = 'worker'");
my $log_start = -s $node->logfile;
publish_and_read(1, 240);
becomes(q{SELECT last_error = 'debug point "truncate"' AND state = 'running' FROM netbus.stat_worker WHERE kind = 'worker'},
	'truncating fails: the worker reports it');
$node->safe_psql('app', 'SELECT pg_sleep(0.5)');
cmp_ok(scalar(() = slurp_file($node->logfile, $log_start) =~ /ERROR:  debug point "truncate"/g), '>', 1, '... and tries again');
is($node->safe_psql('app', "SELECT pid, restarts FROM netbus.stat_worker WHERE kind = 'worker'"), $worker, '... being the same');
is($node->safe_psql('app', 'SELECT log FROM netbus.stat_log GROUP BY log HAVING sum(expired) = 0'), '', '... events expire all the same');
for my $log (sort keys %seen)
{
	is($node->safe_psql('app', "SELECT sum(events) FROM netbus.log_$log"), 240, "... those of log $log are still in its tables");
}
counted('truncating fails');
publish_and_read(241, 300);
$node->safe_psql('app', 'ALTER SYSTEM RESET netbus.debug_point; SELECT pg_reload_conf()');
truncated($_, "when it does not fail any more, what expired of log $_ goes") for sort keys %seen;
publish_and_read(301, 400);
truncated($_, "... and later of log $_") for sort keys %seen;
counted('... and then');
for my $log (sort keys %seen)
{
	is(join(',', sort { $a <=> $b } split /,/, $got{$log}), join(',', 1 .. 400), "readers of log $log have seen every event once");
	is($node->safe_psql('app', <<~"SQL"), 't|t', '... and what is retained is the newest, and little');
		SELECT count(*) BETWEEN 60 AND 120, min((payload ->> 0)::int) = 401 - count(*)
		FROM netbus.logs l, generate_series(0, shards - 1) s, netbus.read('$log', shard => s, max_events => 100000) WHERE l.log = '$log'
		SQL
}

# --- Restarts -------------------------------------------------------------------------

$node->safe_psql('app', <<~'SQL');
	SELECT netbus.create_log('plain', ring_size => '64kB'), netbus.create_log('plain3', shards => 3),
		netbus.create_log('soon', shards => 2, durability => 'async', ring_size => '64kB'), netbus.create_log('moved'),
		netbus.create_log('held', retention_events => 60, ring_size => '64kB');
	SELECT count(netbus.publish('plain', to_jsonb(repeat('x', i * 100)))), count(netbus.publish('soon', to_jsonb(repeat('x', 1000)), 'key' || i))
		FROM generate_series(1, 200) i;
	SQL
publish($node, 'app', 'moved', 500);
$node->safe_psql('app', "SELECT netbus.alter_log('moved', 'retention_events', '10000')");

my $totals = 'SELECT log, shard, retained, retained_bytes, CASE WHEN retained > 0 THEN floor_seq END FROM netbus.stat_log ORDER BY log, shard';
for my $mode ('fast', 'immediate', 'fast')
{
	my $what = "restart, $mode";

	# A cursor that stands in the oldest segment, in a session that the restart ends.
	$node->safe_psql('app', "CALL publish('held', 1, 80, 40, 0.21)");
	$session = $node->background_psql('app', on_error_stop => 0);
	$session->query_safe("BEGIN; DECLARE c CURSOR FOR SELECT (netbus.read('held', max_events => 1000000)).seq; FETCH 2 FROM c");
	$node->safe_psql('app', "CALL publish('held', 81, 200, 20, 0.21)");
	becomes("SELECT retention_holds > 0 FROM netbus.stat_log WHERE log = 'held'", 'a cursor holds an expired segment');
	counted('... of which nobody else sees anything');

	for my $log ('plain', 'plain3', 'soon', 'moved', 'one', 'three')
	{
		publish($node, 'app', $log, 30);
		$node->safe_psql('app', "CALL publish('$log', 401, 440, 10, 0)");
		abort_claim($node, 'app', $log, 7);
	}
	$node->safe_psql('app', 'SELECT netbus.flush(log) FROM netbus.logs');
	$node->safe_psql('app', 'SELECT netbus.purge(log, clock_timestamp()), count(netbus.publish(log, to_jsonb(i))) FROM unnest(ARRAY[\'plain3\', \'soon\']) log, generate_series(1, 3) i GROUP BY log')
	  if $mode eq 'immediate'; # what the clean stop before has saved does not hold any more
	$node->safe_psql('app', "SELECT netbus.flush(log), pg_sleep(0.1) FROM netbus.logs");
	truncated($_, "$what: log $_") for 'one', 'three';
	counted('... before');
	my $before = join "\n", grep { !/^held/ } split /\n/, $node->safe_psql('app', $totals);

	$node->stop($mode);
	eval { $session->quit };
	$node->start;
	worker_runs($node, 'app');
	counted('... after');
	is(join("\n", grep { !/^held/ } split /\n/, $node->safe_psql('app', $totals)), $before, '... which is what was before');
	truncated('held', '... what was held goes with what expires next');
	is($node->safe_psql('app', "SELECT count(*) >= 60, bool_and((payload ->> 0)::int = 200 - lead) FROM (SELECT payload, row_number() OVER (ORDER BY seq DESC) - 1 AS lead FROM netbus.read('held', max_events => 100000) ORDER BY seq DESC LIMIT 60) e"),
		't|t', '... and the newest are there');
}

# --- Dead rows ------------------------------------------------------------------------

# Nothing that vacuum would have to remove comes of publishing, reading and expiring.
my $dead = <<~'SQL';
	SELECT sum(dead_tuple_count) FROM pg_class c, pgstattuple(c.oid)
	WHERE c.relkind IN ('r', 't') AND (c.relnamespace = 'netbus'::regnamespace
		OR c.oid IN (SELECT reltoastrelid FROM pg_class WHERE relnamespace = 'netbus'::regnamespace))
	SQL
$node->safe_psql('app', <<~'SQL');
	SELECT netbus.drop_log(log) FROM netbus.logs;
	SELECT netbus.create_log('busy', retention_events => 300, ring_size => '64kB'),
		netbus.create_log('busy3', shards => 3, durability => 'async', retention_size => '1MB', ring_size => '64kB'),
		netbus.create_log('young', retention_age => '2 s', ring_size => '64kB');
	SQL
$node->safe_psql('app', "VACUUM netbus.$_") for 'catalog_log', 'catalog_position';
my $dead_before = $node->safe_psql('app', $dead);
my $pin = $node->background_psql('app');
$pin->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class');
$node->safe_psql('app', <<~'SQL');
	DO $$
	DECLARE
		stop timestamptz := clock_timestamp() + '10 s';
		place bigint := 0;
		before bigint;
		n bigint;
	BEGIN
		WHILE clock_timestamp() < stop LOOP
			PERFORM netbus.publish(log, to_jsonb(repeat('x', 500)), 'key' || i)
				FROM unnest(ARRAY['busy', 'busy3', 'young']) log, generate_series(1, 10) i;
			PERFORM netbus.publish('young', to_jsonb(repeat('x', 10000)));
			COMMIT;
			SELECT max(seq), count(*) INTO before, n FROM netbus.tail('busy', place, wait => '10 s');
			ASSERT before = place + n AND n > 0;
			place := before;
			COMMIT;
			PERFORM pg_sleep(0.005);
		END LOOP;
	END $$
	SQL
is($node->safe_psql('app', 'SELECT log FROM netbus.stat_log GROUP BY log HAVING sum(expired) < 500'), '', 'many events expire while a snapshot is pinned');
becomes('SELECT max(retention_holds) = 0 FROM netbus.stat_log', '... which holds no segment');
cmp_ok($node->safe_psql('app', $dead), '<=', 50, "... and leaves hardly a dead row (before: $dead_before)");
$pin->query_safe('COMMIT');
$pin->quit;
counted('... and');

# --- A table without its guard --------------------------------------------------------

$node->safe_psql('app', <<~'SQL');
	CREATE ROLE clerk IN ROLE netbus_admin;
	SET ROLE clerk;
	SELECT netbus.create_log('owned', retention_events => 1000);
	SELECT netbus.publish('owned', '1');
	SQL
for my $table ('log_owned', 'segment_1_owned')
{
	is(sqlstate($node, 'app', "ALTER TABLE netbus.$table DISABLE TRIGGER netbus_guard"), 'none: ', 'the guard can be disabled');
	is(sqlstate($node, 'app', "SELECT netbus.publish('owned', '2')"), '42P16', '... but then it is no table of a log');
	$node->safe_psql('app', "ALTER TABLE netbus.$table ENABLE TRIGGER netbus_guard; SELECT netbus.publish('owned', '2')");
}
is($node->safe_psql('app', "SELECT string_agg(payload::text, ',') FROM netbus.read('owned')"), '1,2,2', '... until it is enabled again');

# --- A log that is not fit any more -------------------------------------------------------

$node->safe_psql('app', <<~'SQL');
	SELECT netbus.create_log('unfit', durability => 'async', flush_interval => '2 s', retention_events => 60),
		netbus.create_log('fit', durability => 'async', retention_events => 60);
	SELECT pg_sleep(0.3); -- the worker has looked at them
	SELECT netbus.publish('unfit', '1');
	CREATE STATISTICS netbus.extended ON base_seq, events FROM netbus.log_unfit;
	SQL
becomes(q{SELECT last_error = 'table "netbus.log_unfit" cannot be used as a log' FROM netbus.stat_worker WHERE kind = 'worker'},
	'the worker refuses a log with extended statistics');
is(sqlstate($node, 'app', "SELECT netbus.publish('unfit', '2')"), '42P16', '... as anybody does');
$node->safe_psql('app', "CALL publish('fit', 1, 200, 20, 0.21)");
is($node->safe_psql('app', "SELECT netbus.flush('fit')"), 't', '... and goes on with another');
truncated('fit', '... also with its retention');
is($node->safe_psql('app', 'SELECT count(*) FROM netbus.log_unfit'), 0, '... while that one gets no rows');
$node->safe_psql('app', 'DROP STATISTICS netbus.extended');
is($node->safe_psql('app', "SELECT netbus.flush('unfit'), netbus.publish('unfit', '2')"), 't|t', '... until it is fit again');
$node->safe_psql('app', "SELECT netbus.flush('unfit')");
is($node->safe_psql('app', "SELECT string_agg(payload::text, ','), (SELECT sum(events) FROM netbus.log_unfit) FROM netbus.read('unfit')"), '1,2|2', '... with nothing lost');
counted('in the end');

$node->stop;
done_testing();
