# The cursors of poll() survive restarts, crashes and the way to a standby, and
# know what expired meanwhile; ordering "ts" is one order under load.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use NetbusTest;

my $node = netbus_node('main');
netbus_db($node, 'app');
$node->safe_psql('app', <<~'SQL');
	SELECT netbus.create_log('safe', shards => 4), netbus.create_log('soon', shards => 4, durability => 'async'),
		netbus.create_log('brief', shards => 4, durability => 'memory'), netbus.create_log('busy', shards => 5, ring_size => '64kB'),
		netbus.create_log('kept', shards => 2, ring_size => '64kB', retention_events => 6000);

	-- All pages from a cursor on, until there is no more: events, lost, out of order, the last cursor.
	CREATE FUNCTION drain(log text, start text, ordering text DEFAULT 'none', max_events int DEFAULT 7,
		OUT events bigint, OUT lost bigint, OUT out_of_order bigint, OUT next_cursor text) LANGUAGE plpgsql AS $$
	DECLARE
		r record;
		more bool;
		ts timestamptz := '-infinity';
		shard int := -1;
		seq bigint := 0;
	BEGIN
		events := 0; lost := 0; out_of_order := 0; next_cursor := start;
		LOOP
			more := false;
			FOR r IN SELECT * FROM netbus.poll(log, next_cursor, max_events, ordering => $3) LOOP
				more := r.has_more;
				IF r.seq IS NOT NULL THEN
					events := events + 1;
					out_of_order := out_of_order + ((r.ts, r.shard, r.seq) <= (ts, shard, seq))::int;
					ts := r.ts; shard := r.shard; seq := r.seq;
				END IF;
			END LOOP;
			lost := lost + coalesce(r.lost, 0);
			next_cursor := coalesce(r.next_cursor, next_cursor);
			EXIT WHEN NOT more;
		END LOOP;
	END $$;
	SQL

sub drain
{
	my ($server, $log, $start, $ordering) = @_;

	return split /\|/, $server->safe_psql('app', "SELECT * FROM drain('$log', '$start', '" . ($ordering // 'none') . "')");
}

sub page
{
	my ($server, $log, $start, $n) = @_;

	return $server->safe_psql('app', "SELECT DISTINCT next_cursor FROM netbus.poll('$log', '$start', $n)");
}

# --- Restarts ----------------------------------------------------------------------

publish($node, 'app', $_, 100) for 'safe', 'soon', 'brief';
my %at = map { ($_ => page($node, $_, 'earliest', 30)) } 'safe', 'soon', 'brief';
my $start = $node->safe_psql('app', "SELECT min(ts) FROM netbus.poll('safe')");
$node->restart;
for my $log ('safe', 'soon')
{
	my ($events, $lost) = drain($node, $log, $at{$log});

	is("$events $lost", '70 0', "log $log after a restart: the rest of the events");
	is((drain($node, $log, $at{$log}, 'ts'))[2], 0, '... in order');
}
publish($node, 'app', $_, 50) for 'safe', 'soon', 'brief';
my ($events, $lost) = drain($node, 'brief', $at{brief});
is($events, 50, 'log brief: what came since');
cmp_ok($lost, '>=', 70, '... and what was lost is known');
is((drain($node, 'safe', $start))[0], 150, 'a time finds its place in rows');

$node->safe_psql('app', "SELECT netbus.flush('soon')");
$node->stop('immediate');
$node->start;
publish($node, 'app', $_, 10) for 'safe', 'soon', 'brief';
is(join(' ', (drain($node, $_, $at{$_}))[0, 1]), '130 0', "log $_ after a crash: the events behind the cursor, none lost") for 'safe', 'soon';
is(join(' ', (drain($node, $_, 'earliest', 'ts'))[0 .. 2]), '160 0 0', '... all of them in order') for 'safe', 'soon';
is((drain($node, 'brief', $at{brief}))[0], 10, 'log brief');

# --- Retention ---------------------------------------------------------------------

publish($node, 'app', 'kept', 1000);
$at{kept} = page($node, 'kept', 'earliest', 100);
for (1 .. 60)
{
	publish($node, 'app', 'kept', 1000);
	last if $node->safe_psql('app', "SELECT min(floor_seq) FROM netbus.stat_log WHERE log = 'kept'") > 2000;
	$node->safe_psql('app', 'SELECT pg_sleep(0.1)');
}
my $published = $node->safe_psql('app', "SELECT sum(accepted) FROM netbus.stat_log WHERE log = 'kept'");
($events, $lost) = split /\|/, $node->safe_psql('app', "SELECT * FROM drain('kept', '$at{kept}', max_events => 1000)");
cmp_ok($lost, '>', 0, 'events that expired before they were read');
is($events + $lost, $published - 100, '... are told of, no more and no less');
is($node->safe_psql('app', "SELECT lost FROM drain('kept', 'earliest', max_events => 1000)"), 0, 'none is lost to who starts with the oldest');

# --- One order under load ------------------------------------------------------------

my $script = PostgreSQL::Test::Utils::tempdir() . '/publish';
append_to_file($script, <<~'SQL');
	\set a random(1, 1000000)
	\set b random(1, 1000000)
	BEGIN;
	SELECT netbus.publish('busy', to_jsonb(:a), :a::text);
	SELECT netbus.publish('busy', to_jsonb(:b), :b::text);
	COMMIT;
	SQL
$node->safe_psql('app', <<~'SQL');
	CREATE TABLE seen (n bigserial, ts timestamptz, shard int, seq bigint);
	CREATE TABLE place (next_cursor text);
	INSERT INTO place VALUES ('earliest');
	CREATE PROCEDURE follow(seconds int) LANGUAGE plpgsql AS $$
	DECLARE
		until timestamptz := clock_timestamp() + make_interval(secs => seconds);
	BEGIN
		WHILE clock_timestamp() < until LOOP
			WITH page AS MATERIALIZED (
				SELECT p.* FROM place, netbus.poll('busy', place.next_cursor, 50, ordering => 'ts', wait => '10 ms') p
			), events AS (
				INSERT INTO seen (ts, shard, seq) SELECT ts, shard, seq FROM page WHERE seq IS NOT NULL
			)
			UPDATE place SET next_cursor = coalesce((SELECT max(page.next_cursor) FROM page), next_cursor);
			COMMIT;
		END LOOP;
	END $$;
	SQL
my $load = IPC::Run::start([ 'pgbench', '-n', '-c4', '-T4', '-f', $script, $node->connstr('app') ], '<', \'', '&>', "$script.out");
$node->safe_psql('app', 'CALL follow(5)');
$load->finish;
is($load->result(0), 0, 'publishers under way');
$node->safe_psql('app', 'CALL follow(1)');
is($node->safe_psql('app', "SELECT count(*) > 100, count(*) = (SELECT sum(accepted) FROM netbus.stat_log WHERE log = 'busy'), count(DISTINCT (shard, seq)) = count(*) FROM seen"),
	't|t|t', 'ordering ts: each event once');
is($node->safe_psql('app', 'SELECT count(*) FROM (SELECT (ts, shard, seq) AS e, lag((ts, shard, seq)) OVER (ORDER BY n) AS prev FROM seen) s WHERE e <= prev'),
	0, '... in one order across shards and pages');

# --- A standby -----------------------------------------------------------------------

my $standby = standby_of($node, 'standby');
is(join(' ', (drain($standby, 'safe', $at{safe}))[0, 1]), '130 0', 'a cursor of the primary on its standby');
my ($result, $stdout, $stderr) = $standby->psql('app', "SELECT * FROM netbus.poll('safe', ordering => 'ts')", extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
like($stderr, qr/0A000/, 'no ordering ts there');

# A place that the standby has yet to reach.
$standby->safe_psql('app', 'SELECT pg_wal_replay_pause()');
publish($node, 'app', 'safe', 20);
my $beyond = $node->safe_psql('app', "SELECT next_cursor FROM netbus.poll('safe', 'latest')");
is($standby->safe_psql('app', "SELECT count(*) FROM netbus.poll('safe', '$beyond')"), 0, 'a cursor beyond the end: nothing');
publish($node, 'app', 'safe', 5);
$standby->safe_psql('app', 'SELECT pg_wal_replay_resume()');
$node->wait_for_catchup($standby);
is($standby->safe_psql('app', "SELECT count(seq), sum(lost) FROM netbus.poll('safe', '$beyond', wait => '10 s')"), '5|0', '... until the log gets there');

# Woken, or rather looking again and again.
my $session = $standby->background_psql('app');
$session->query_until(qr/started/, "\\echo started\nSELECT count(seq) FROM netbus.poll('safe', 'latest', wait => '30 s');\n");
$standby->poll_query_until('app', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%poll%latest%' AND wait_event = 'Extension' AND pid <> pg_backend_pid()")
  or die 'poll does not wait';
publish($node, 'app', 'safe', 1);
like($session->query_safe('SELECT 1'), qr/^1$/m, 'a poll that waits on a standby sees what comes');
$session->quit;

$standby->stop;
$node->stop;
done_testing();
