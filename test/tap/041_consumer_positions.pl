# Where consumers are survives: restarts, rotation of the tables that say so, dumps,
# copies of the database, failover.  And what happens when the worker that
# consumers need is not there, and when retention takes what they have not read.

use strict;
use warnings;

use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use NetbusTest;
use NetbusWorkload;

my $node = netbus_node('main', 'jit = off', 'max_connections = 40', 'max_worker_processes = 12', 'netbus.wait_timeout = 5s');
my ($result, $stdout, $stderr, $session, @busy);

netbus_db($node, 'app');
$node->safe_psql('app', slurp_file(dirname(__FILE__) . '/consumers.sql'));
$node->safe_psql('app', <<~'SQL');
	SELECT netbus.create_log('jobs', shards => 3), netbus.create_log('line'), netbus.create_log('dead');
	SELECT netbus.create_consumer(log, consumer, 'earliest', max_deliveries => max, dead_letter_log => CASE WHEN max > 0 THEN 'dead' END)
		FROM (VALUES ('jobs', 'wide', NULL), ('line', 'busy', NULL), ('line', 'idle', NULL), ('line', 'late', 3), ('line', 'paused', NULL), ('line', 'still', NULL), ('line', 'release', 2)) v (log, consumer, max);
	SELECT send('jobs', 100), send('line', 100);
	SQL
my $debug = debug_build($node, 'app');

# What rows tell, options and all.
my $where = "SELECT log, consumer, owner, shard, position_seq, paused, retries FROM netbus.stat_consumer ORDER BY 1, 2, 4";

# Receive all that there is now, and acknowledge it.
sub take
{
	my ($node, $db, $log, $consumer, $at_once) = @_;

	return $node->safe_psql($db, sprintf("SELECT take('%s', '%s', 0, %d)", $log, $consumer, $at_once // 1000));
}

# n transactions of the busy consumer.
sub keep_busy
{
	my ($node, $db, $n) = @_;

	$node->safe_psql($db, "DO \$\$ BEGIN FOR i IN 1 .. $n LOOP PERFORM send('line', 1), take('line', 'busy', 0, 100); COMMIT; END LOOP; END \$\$");
}

# A consumer has done every event once; it may have something to do yet.
sub complete
{
	my ($node, $db, $log, $consumer, $what) = @_;

	$node->safe_psql($db, "CALL drain('$log', '$consumer')");
	is($node->safe_psql($db, "SELECT problems('$log', '$consumer')"), '', $what);
}

# --- Restarts ------------------------------------------------------------------------

take($node, 'app', 'jobs', 'wide', 20) for 1 .. 2;
take($node, 'app', 'line', $_, 30) for 'busy', 'idle', 'late', 'paused';
$node->safe_psql('app', <<~'SQL');
	BEGIN; -- two of ten, one soon and one late; the others are done
	INSERT INTO work SELECT 'line', 'late', shard, seq, (payload #>> '{}')::bigint, deliveries, 0 FROM netbus.receive('line', 'late', 10) WHERE seq NOT IN (33, 35);
	SELECT netbus.nack('line', 'late', 0, 33, 'soon', delay => '3 s'), netbus.nack('line', 'late', 0, 35, 'late', delay => '1 hour'), netbus.ack('line', 'late');
	COMMIT;
	SELECT netbus.pause('line', 'paused');
	SQL
my $is = $node->safe_psql('app', $where);
like($is, qr/^line\|late\|\w+\|0\|40\|f\|2$/m, 'two events are to come again');

for my $how ('fast', 'immediate', 'kill -9', 'fast')
{
	$how =~ /kill/ ? kill_server($node) : $node->stop($how);
	$node->start;
	worker_runs($node, 'app');
	is($node->safe_psql('app', $where), $is, "$how: positions, retries and pauses are what they were");
	is(take($node, 'app', 'line', 'paused'), 0, '... who is paused gets nothing');
	# Received, given back: that must not count, however often the server starts.
	is($node->safe_psql('app', "SELECT max(deliveries) FROM netbus.receive('line', 'release', 5)"), 1, '... what is only looked at, is delivered for the first time');
}
is($node->safe_psql('app', "SELECT count(*) FROM dead"), 0, 'nothing was set aside');
my $delayed = '';
for (1 .. 50)
{
	$delayed = $node->safe_psql('app', "SELECT seq, deliveries FROM netbus.receive('line', 'late', 1, '1 s')");
	last if $delayed =~ /^33/;
	$node->safe_psql('app', 'SELECT pg_sleep(0.2)');
}
is($delayed, '33|2', 'what was delayed comes');
is($node->safe_psql('app', "SELECT netbus.resume('line', 'paused')"), 't', 'resumed');
complete($node, 'app', 'line', 'paused', '... it goes on where it was');
complete($node, 'app', 'jobs', 'wide', 'several shards go on where they were');

# A retry that is only looked at, too.
for (1 .. 3)
{
	$node->safe_psql('app', "SELECT count(*) FROM netbus.receive('line', 'late', 1)");
	$node->restart;
	worker_runs($node, 'app');
}
$node->safe_psql('app', "SELECT take('line', 'late', 0, 1000), take('line', 'late', 0, 1000)");
is($node->safe_psql('app', "SELECT deliveries FROM work WHERE consumer = 'late' AND seq = 33"), 2, 'what is to come again, too');
is($node->safe_psql('app', "SELECT string_agg(format('%s of %s', n, id), ', ') FROM (SELECT id, count(w.*) AS n FROM sent s LEFT JOIN work w USING (log, id) WHERE log = 'line' AND coalesce(consumer, 'late') = 'late' GROUP BY 1) t WHERE n <> 1"), '', '... and all of it once, but');
is($node->safe_psql('app', "SELECT retries FROM netbus.stat_consumer WHERE consumer = 'late'"), 1, '... what comes in an hour');

# --- Rotation ---------------------------------------------------------------------------

# Some events that come again, some that did, a seek: what rotation must not mix up.
sub unsettle
{
	$node->safe_psql('app', "CALL drain('line', 'idle')");
	$node->safe_psql('app', <<~'SQL');
		SELECT send('line', 6);
		BEGIN;
		INSERT INTO work SELECT 'line', 'idle', shard, seq, (payload #>> '{}')::bigint, deliveries, 0 FROM netbus.receive('line', 'idle', 1000) WHERE seq % 3 <> 0;
		SELECT netbus.nack('line', 'idle', 0, seq, 'one of three') FROM netbus.read('line', (SELECT position_seq FROM netbus.stat_consumer WHERE consumer = 'idle'), max_events => 1000) WHERE seq % 3 = 0;
		SELECT netbus.ack('line', 'idle');
		COMMIT;
		SELECT take('line', 'idle', 0, 1);
		SQL
}

SKIP:
{
	skip 'needs a build with NETBUS_DEBUG', 1 if !$debug;

	my $sizes = "SELECT greatest(pg_relation_size('netbus.catalog_ack_0'), pg_relation_size('netbus.catalog_ack_1')) / 8192";
	my $files = "SELECT string_agg(pg_relation_filenode(oid)::text, ',' ORDER BY relname) FROM pg_class WHERE relname ~ '^catalog_ack_.\$'";

	unsettle();
	for my $round (1 .. 8)
	{
		my $before = $node->safe_psql('app', $files);

		for (1 .. 5)
		{
			last if $node->safe_psql('app', $files) ne $before;
			keep_busy($node, 'app', 600);
			$node->safe_psql('app', 'SELECT pg_sleep(0.1)');
		}
		isnt($node->safe_psql('app', $files), $before, "rotation $round");
		unsettle() if $round % 3 == 0;
		$is = $node->safe_psql('app', $where);
		$round % 2 ? $node->restart : kill_server($node);
		$node->start if $round % 2 == 0;
		worker_runs($node, 'app');
		is($node->safe_psql('app', $where), $is, "... and a restart: positions and retries are what they were");
	}
	cmp_ok($node->safe_psql('app', $sizes), '<', 60, 'the tables stay small');

	# Restarts before a table is full do not keep it from being emptied some day.
	for (1 .. 14)
	{
		keep_busy($node, 'app', 350);
		$node->restart;
		worker_runs($node, 'app');
	}
	cmp_ok($node->safe_psql('app', $sizes), '<', 25, '... however often the server starts');

	# At each step.
	for my $round (1 .. 2)
	{
		$node->safe_psql('app', "ALTER SYSTEM SET netbus.debug_point = 'rotate:wait'");
		$node->reload;
		keep_busy($node, 'app', 600);
		$node->poll_query_until('app', "SELECT wait_event = 'Extension' AND state = 'active' FROM pg_stat_activity WHERE backend_type = 'netbus worker'")
		  or die 'the debug point was not reached';
		$is = $node->safe_psql('app', $where);
		$node->safe_psql('app', 'ALTER SYSTEM RESET netbus.debug_point');
		kill_server($node);
		$node->start;
		worker_runs($node, 'app');
		is($node->safe_psql('app', $where), $is, "kill -9 in the middle of a step, round $round");
		unsettle();
	}

	# An old snapshot keeps nothing from being emptied.
	$session = $node->background_psql('app');
	$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; SELECT count(*) FROM sent');
	my $before = $node->safe_psql('app', $files);
	keep_busy($node, 'app', 2500);
	isnt($node->safe_psql('app', $files), $before, 'the tables are rotated although a snapshot is old');
	cmp_ok($node->safe_psql('app', $sizes), '<', 60, '... and stay small');
	$session->query_safe('COMMIT');

	# pg_dump at work has both tables: they grow, and are emptied when it is through.
	$session->query_safe('BEGIN; LOCK TABLE netbus.catalog_ack_0, netbus.catalog_ack_1 IN ACCESS SHARE MODE');
	$before = $node->safe_psql('app', $files);
	keep_busy($node, 'app', 1500);
	is($node->safe_psql('app', $files), $before, 'with pg_dump at work they are not');
	$is = $node->safe_psql('app', $where);
	$session->query_safe('COMMIT');
	ok($node->poll_query_until('app', "SELECT ($files) <> '$before'"), '... but when it is through');
	$session->quit;
	$node->restart;
	worker_runs($node, 'app');
	is($node->safe_psql('app', $where), $is, '... positions and retries are what they were');
	complete($node, 'app', 'line', 'idle', '... and every event was done once');
	complete($node, 'app', 'line', 'busy', '... also by who was busy');
}

# Who reads the positions while rows move to the other table sees them in one or the other.
$is = $node->safe_psql('app', $where);
$node->restart;
worker_runs($node, 'app');
$session = $node->background_psql('app');
$session->query_safe('BEGIN; LOCK TABLE netbus.catalog_ack_0, netbus.catalog_ack_1');
my $reader = background_sql($node, 'app', "CREATE TABLE seen AS $where");
$node->poll_query_until('app', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'CREATE TABLE seen%' AND wait_event_type = 'Lock')") or die 'nobody waits';
$session->query_safe(<<~'SQL');
	CREATE TEMPORARY TABLE moved AS SELECT * FROM netbus.catalog_ack_0 UNION ALL SELECT * FROM netbus.catalog_ack_1;
	TRUNCATE netbus.catalog_ack_0, netbus.catalog_ack_1;
	INSERT INTO netbus.catalog_ack_0 SELECT * FROM moved;
	COMMIT;
	SQL
$session->quit;
ok(await_sql($reader), 'positions are read while rows are moved');
is($node->safe_psql('app', 'SELECT * FROM seen ORDER BY 1, 2, 4'), $is, '... and are what they were');
$node->safe_psql('app', 'DROP TABLE seen');

# --- Dumps -----------------------------------------------------------------------------------

my $options = "SELECT log, consumer, owner, paused, filter, max_deliveries, dead_letter_log::text, hold FROM netbus.catalog_consumer ORDER BY 1::text, 2";

unsettle();
$node->safe_psql('app', <<~'SQL');
	CREATE ROLE clerk IN ROLE netbus_admin;
	GRANT ALL ON ALL TABLES IN SCHEMA netbus, public TO clerk;
	SET ROLE clerk;
	SELECT netbus.create_consumer('line', 'odd name', 'latest', max_deliveries => 7, dead_letter_log => 'dead', hold => '10MB');
	RESET ROLE;
	SELECT netbus.pause('jobs', 'wide'), send('line', 20), send('jobs', 20);
	SQL

# A copy is where the original was when it was made, and both go on from there.
sub goes_on
{
	my ($node, $db, $what, $exact) = @_;

	worker_runs($node, $db);
	is($node->safe_psql($db, $options), $node->safe_psql('app', $options), "$what: consumers are there with their options");
	is($node->safe_psql($db, $where), $is, '... their positions and retries') if $exact;
	$node->safe_psql($db, "SELECT netbus.resume('jobs', 'wide')");
	complete($node, $db, @$_, "... $_->[1] goes on") for [ 'jobs', 'wide' ], [ 'line', 'idle' ], [ 'line', 'busy' ];
	# Rotation goes on as well, without a look at what was restored into which table.
	$node->safe_psql($db, "SELECT netbus.pause('jobs', 'wide')");
	my $before = $node->safe_psql($db, $where =~ s/FROM netbus.stat_consumer/$& WHERE consumer <> 'busy'/r);
	keep_busy($node, $db, 700) for 1 .. 3;
	$node->safe_psql($db, 'SELECT pg_sleep(0.3)');
	$node->restart;
	worker_runs($node, $db);
	is($node->safe_psql($db, $where =~ s/FROM netbus.stat_consumer/$& WHERE consumer <> 'busy'/r), $before, '... also after rotations and a restart');
}

# One consumer that only the second table knows, as it was filled last.
my $still = "(SELECT max(generation) FROM netbus.catalog_ack_%d WHERE consumer = id)";
for (1 .. 20)
{
	take($node, 'app', 'line', 'still', 1);
	last if $node->safe_psql('app', sprintf("SELECT $still > coalesce($still, 0) FROM netbus.catalog_consumer WHERE consumer = 'still'", 1, 0)) eq 't';
	keep_busy($node, 'app', 300);
}

$is = $node->safe_psql('app', $where);
for my $format ('plain', 'custom')
{
	my $file = $node->basedir . "/dump.$format";

	$node->safe_psql('postgres', "CREATE DATABASE copy_$format");
	command_ok([ 'pg_dump', '-d', $node->connstr('app'), "-F$format", '-f', $file ], "pg_dump, format $format");
	if ($format eq 'plain')
	{
		$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr("copy_$format"), '-f', $file ], '... restored');
	}
	else
	{
		# With time for the worker to begin before there are rows.
		$node->command_ok([ 'pg_restore', '-e', '--section=pre-data', '-d', $node->connstr("copy_$format"), $file ], '... restored');
		worker_runs($node, "copy_$format");
		$node->safe_psql("copy_$format", 'SELECT pg_sleep(0.5)');
		$node->command_ok([ 'pg_restore', '-e', '--section=data', '--section=post-data', '-d', $node->connstr("copy_$format"), $file ], '... and its data');
	}
	goes_on($node, "copy_$format", $format, 1);
}

# Of a consumer in use: as of some instant, so that it has done what it did.
@busy = map { background_sql($node, 'app', $_) } "CALL produce('line', 4)", "CALL consume('line', 'busy', 1, 4)", "CALL consume('line', 'busy', 2, 4)";
$node->safe_psql('postgres', 'CREATE DATABASE copy_use');
$node->safe_psql('app', 'SELECT pg_sleep(0.5)');
my $file = $node->basedir . '/dump.use';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('app'), '-Fc', '-f', $file ], 'pg_dump of a consumer in use');
$node->command_ok([ 'pg_restore', '-e', '-d', $node->connstr('copy_use'), $file ], '... restored');
ok(await_sql(@busy), '... which was not disturbed');
goes_on($node, 'copy_use', 'in use', 0);

$is = $node->safe_psql('app', $where);
$node->safe_psql('postgres', 'CREATE DATABASE twin TEMPLATE app');
goes_on($node, 'twin', 'CREATE DATABASE TEMPLATE', 1);
$node->safe_psql('app', "SELECT netbus.resume('jobs', 'wide')");
complete($node, 'app', @$_, "... and the original: $_->[1] goes on") for [ 'jobs', 'wide' ], [ 'line', 'idle' ], [ 'line', 'busy' ];

$node->safe_psql('twin', 'DROP EXTENSION netbus CASCADE; CREATE EXTENSION netbus');
worker_runs($node, 'twin');
$node->safe_psql('twin', "SELECT netbus.create_log('line'), netbus.create_consumer('line', 'busy', 'earliest'); TRUNCATE sent, work; SELECT send('line', 5)");
is(take($node, 'twin', 'line', 'busy'), 5, 'DROP EXTENSION CASCADE: then consumers begin anew');
for my $db ('twin', 'copy_plain', 'copy_custom', 'copy_use')
{
	$node->safe_psql('postgres', "DROP DATABASE $db");
}
netbus_db($node, "again$_") for 1 .. 2;
$node->safe_psql("again$_", "SELECT netbus.create_log('line'), netbus.create_consumer('line', 'busy')") for 1 .. 2;
is($node->safe_psql("again1", "SELECT count(*) FROM netbus.stat_consumer"), 1, 'DROP DATABASE: other databases take the place');
$node->safe_psql('postgres', "DROP DATABASE again$_") for 1 .. 2;

# --- The worker is not there -----------------------------------------------------------------

# Something that has failed once, of a consumer whose deliveries are recorded.
my $again = "SET netbus.wait_timeout = '500ms'; SELECT count(*) > 0 FROM netbus.receive('line', 'late', 3)";

$node->safe_psql('app', "SELECT send('line', 10); SELECT take('line', 'late', 0, 1)");
$node->psql('app', "BEGIN; SELECT count(*) FROM netbus.receive('line', 'late', 3); SELECT 1/0");
$node->append_conf('postgresql.conf', 'max_worker_processes = 1'); # the launcher
$node->restart;
is(sqlstate($node, 'app', $again), '55000', 'without a worker nothing is delivered again');
like(complaint($node, 'app', $again), qr/could not record that events of log "line" are delivered again.*DETAIL:.*500 ms.*HINT:.*netbus\.stat_worker/s, '... which is explained');
is(take($node, 'app', 'line', 'busy', 1), 1, '... for the first time it is');
$node->append_conf('postgresql.conf', 'max_worker_processes = 12');
$node->restart;
worker_runs($node, 'app');
is($node->safe_psql('app', $again), 't', '... with a worker it is again');
for (1 .. 3)
{
	worker_runs($node, 'app');
	my $worker = worker_pid($node, 'app');
	kill 'TERM', $worker;
	$node->poll_query_until('app', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker");
}
$node->psql('app', "BEGIN; SELECT count(*) FROM netbus.receive('line', 'late', 3); SELECT 1/0");
$node->safe_psql('app', "SELECT sum(n) FROM (SELECT take('line', 'late', 0, 1) AS n FROM generate_series(1, 100)) t");
worker_runs($node, 'app');
$node->safe_psql('app', "SELECT take('line', 'late', 0, 1000)") for 1 .. 3;
is($node->safe_psql('app', "SELECT n, count(*) FROM (SELECT id, count(*) AS n FROM work WHERE log = 'line' AND consumer = 'late' GROUP BY 1) t WHERE n > 1 GROUP BY 1"), '', '... and nothing was done twice');

# --- Retention -------------------------------------------------------------------------------

$node->safe_psql('app', <<~'SQL');
	SELECT netbus.create_log('short', retention_events => 100, ring_size => '64kB'), netbus.create_log('held', retention_events => 100, ring_size => '64kB');
	SELECT netbus.create_consumer('short', 'small', hold => '50kB'), netbus.create_consumer('short', 'none'), netbus.create_consumer('held', 'all', hold => 'unlimited');
	CREATE PROCEDURE fill(log text, n int) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. n LOOP
			PERFORM netbus.publish(log, jsonb_build_array(j, repeat('x', 1000))) FROM generate_series(1, 20) j;
			COMMIT;
			PERFORM pg_sleep(0.05);
		END LOOP;
	END $$;
	SQL
@busy = map { background_sql($node, 'app', "CALL fill('$_', 60)") } 'short', 'held';
ok(await_sql(@busy), 'logs are filled');
ok($node->poll_query_until('app', "SELECT max(retention_holds) > 0 FROM netbus.stat_log WHERE log = 'held'"), 'a consumer with an unlimited hold keeps segments');
ok($node->poll_query_until('app', "SELECT sum(expired) > 500 FROM netbus.stat_log WHERE log = 'short'"), '... a small hold does not keep what is beyond it');
my $count = "SELECT sum(n) FROM (SELECT (SELECT count(*) FROM netbus.receive(log, consumer, 10000)) AS n, netbus.ack(log, consumer) FROM (VALUES ('%s', '%s')) v (log, consumer)) t";
$node->restart;
worker_runs($node, 'app');
for my $c ([ 'held', 'all', 0 ], [ 'short', 'small', 1 ], [ 'short', 'none', 1 ])
{
	my ($log, $consumer, $loses) = @$c;

	$node->safe_psql('app', sprintf("BEGIN; SELECT count(*) FROM netbus.receive('%s', '%s', 10000); SELECT netbus.ack('%s', '%s'); COMMIT", $log, $consumer, $log, $consumer));
	is($node->safe_psql('app', "SELECT acknowledged + lost, lost > 0, lag FROM netbus.stat_consumer WHERE log = '$log' AND consumer = '$consumer'"), '1200|' . ($loses ? 't' : 'f') . '|0',
		"$log.$consumer: all events are done, or lost");
}
ok($node->poll_query_until('app', "SELECT max(retention_holds) = 0 AND sum(expired) > 0 FROM netbus.stat_log WHERE log = 'held'"), 'when they are done, segments go');

# --- A standby -------------------------------------------------------------------------------

$node->safe_psql('app', "SELECT send('line', 50), send('jobs', 50)");
$node->safe_psql('app', "SELECT take('line', 'idle', 0, 15), take('jobs', 'wide', 0, 10)");
unsettle();
my $standby = standby_of($node, 'standby');
take($node, 'app', 'line', 'idle', 10);
$node->safe_psql('app', "SELECT send('line', 5)");
$node->wait_for_catchup($standby);
is($standby->safe_psql('app', $where), $node->safe_psql('app', $where), 'a standby knows the positions');
is(sqlstate($standby, 'app', "SELECT * FROM netbus.receive('line', 'idle')"), '25006', '... nothing can be received there');
like(complaint($standby, 'app', "SELECT * FROM netbus.receive('line', 'idle')"), qr/cannot execute netbus\.receive\(\) in a read-only transaction/, '... which it says');
is(sqlstate($standby, 'app', "SELECT netbus.seek('line', 'idle', 'latest')"), '25006', '... nor moved');
$is = $node->safe_psql('app', $where);
$node->stop('immediate');
$standby->promote;
worker_runs($standby, 'app');
is($standby->safe_psql('app', $where), $is, 'promoted, it knows them still');
$standby->safe_psql('app', "SELECT send('line', 5), send('jobs', 5)");
complete($standby, 'app', @$_, "... $_->[1] goes on from there") for [ 'jobs', 'wide' ], [ 'line', 'idle' ], [ 'line', 'busy' ];
$standby->stop;
done_testing();
