# A standby reads what its primary publishes: from rows alone, in order, nothing
# skipped that is yet to be committed, nothing withheld for long.  Promoted, it
# goes on with seqs that nobody can have seen.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use NetbusTest;

# A reader that waits has a snapshot, and replay would wait for it whenever a catalog
# is pruned.
my $primary = netbus_node('main', 'max_standby_streaming_delay = 2min', 'hot_standby_feedback = on');
my ($result, $stdout, $stderr, $session, @sessions);

netbus_db($primary, 'app');
if (!debug_build($primary, 'app'))
{
	$primary->stop;
	plan skip_all => 'needs a build with NETBUS_DEBUG';
}

my @logs = ('one', 'three', 'soon', 'soon3');
$primary->safe_psql('app', <<~'SQL');
	SELECT netbus.create_log('one'), netbus.create_log('three', shards => 3),
		netbus.create_log('soon', durability => 'async'), netbus.create_log('soon3', durability => 'async', shards => 3),
		netbus.create_log('blobs', format => 'bytea'), netbus.create_log('memory', durability => 'memory'),
		netbus.create_log('late', durability => 'async', ring_size => '64kB', flush_interval => '60 s'),
		netbus.create_log('short', ring_size => '64kB', retention_events => 600),
		netbus.create_log('idle', retention_events => 600);
	SQL
publish($primary, 'app', $_, 100) for @logs, 'memory';
$primary->safe_psql('app', "SELECT netbus.flush(log) FROM netbus.logs WHERE durability = 'async'");

my $standby = standby_of($primary, 'standby');
my $second = standby_of($primary, 'second');

# What is committed on the primary is on its standbys.
sub catch_up
{
	$primary->safe_psql('app', "SELECT netbus.flush(log) FROM netbus.logs WHERE durability = 'async' AND log <> 'late'");
	$primary->wait_for_catchup($_) for $standby, $second;
}

# All that the primary has can be read on a standby, within some seconds.
sub reads_all
{
	my ($log, $what) = @_;
	my $expected = events_in_full($primary, 'app', $log);
	my $found;

	for (1 .. 100)
	{
		catch_up();
		$found = events_in_full($standby, 'app', $log);
		last if $found eq $expected;
		$primary->safe_psql('app', 'SELECT pg_sleep(0.1)');
	}
	is($found, $expected, $what);
}

sub count_of
{
	my ($node, $log) = @_;

	return $node->safe_psql('app',
		"SELECT count(*) FROM netbus.logs l, generate_series(0, shards - 1) s, netbus.read_raw('$log', 0, s, max_events => 1000000) WHERE l.log = '$log'");
}

# --- Reading ---------------------------------------------------------------------

for my $log (@logs)
{
	is(count_of($standby, $log), 100, "log $log: what was there before the standby");
	publish($primary, 'app', $log, 50);
	reads_all($log, '... and what came since');
	is(join(',', heads($standby, 'app', $log)), join(',', heads($primary, 'app', $log)), '... the same heads');
}
is($standby->safe_psql('app', "SELECT seq, payload FROM netbus.get('one', 77)"), '77|77', 'get');
is($standby->safe_psql('app', "SELECT count(*) FROM netbus.get('one', 151)"), 0, '... of what is not there');
is($standby->safe_psql('app', "SELECT seq FROM netbus.read('one', 140, max_events => 3)"), "141\n142\n143", 'a few of many');
is($standby->safe_psql('app', "SELECT payload FROM netbus.read('three', key => 'key7')"), "7\n7", 'by key');
is(count_of($standby, 'memory'), 0, 'a memory log is empty');
is($standby->safe_psql('app', "SELECT count(*) >= 6 FROM netbus.stat_log"), 't', 'stat_log');
is($standby->safe_psql('app', 'SELECT count(*) FROM netbus.logs'), 9, '... and logs');
$standby->safe_psql('app', 'SELECT * FROM netbus.stat_worker');

for my $call ("publish('one', '1')", "publish('soon', '1')", "publish_batch('three', '[1]')", "create_log('x')", "alter_log('one', 'retention_events', '5')",
	"drop_log('one')", "purge('one')", "flush('one')")
{
	is(sqlstate($standby, 'app', "SELECT netbus.$call"), '25006', "$call is refused");
}

# A tail sleeps until something arrives.
for my $log ('one', 'soon')
{
	$session = $standby->background_psql('app');
	$session->query_until(qr/started/, "\\echo started\nSELECT payload FROM netbus.tail('$log', 150, wait => '60 s');\n\\echo ended\n");
	$primary->safe_psql('app', "SELECT netbus.publish('$log', '\"woken\"')");
	$stdout = $session->query_until(qr/ended/, '');
	is($stdout, "\"woken\"\nended\n", "tail of $log waits on the standby");
	$session->quit;
}
is($standby->safe_psql('app', "SELECT count(*) FROM netbus.tail('one', 151, wait => '100 ms')"), 0, '... for as long as it is told');

$primary->safe_psql('app', "SELECT netbus.publish('blobs', convert_to(repeat(chr(97 + i), 5000000 + i), 'UTF8')), netbus.publish('blobs', 'small'::bytea) FROM generate_series(1, 2) i");
reads_all('blobs', 'events of 5 MB');
is($standby->safe_psql('app', "SELECT length(payload), md5(payload) = md5(repeat('c', 5000002)) FROM netbus.get_raw('blobs', 3)"), '5000002|t', '... one of them');

# --- What is yet to be committed -----------------------------------------------------

for my $log ('one', 'three')
{
	my @expected = (count_of($primary, $log));
	my $before = events_in_full($standby, 'app', $log);
	my $head = join(',', heads($standby, 'app', $log));

	$session = claiming_session($primary, 'app',
		"SELECT count(netbus.publish('$log', '\"first\"', 'key' || i)) FROM generate_series(1, 30) i");
	publish($primary, 'app', $log, 60);
	publish($primary, 'app', $log, 60);
	catch_up();
	is(events_in_full($standby, 'app', $log), $before, "log $log: what is behind an open transaction waits for it");
	is(join(',', heads($standby, 'app', $log)), $head, '... also for head');
	go_on($primary, $session);
	$session->quit;
	reads_all($log, '... and is there, in order, when that is committed');
	is(count_of($standby, $log), $expected[0] + 150, '... all of it');
}

# Nothing is known to come before the oldest row there is, either.
$primary->safe_psql('app', "SELECT netbus.create_log('fresh'), netbus.create_log('emptied')");
publish($primary, 'app', 'emptied', 5);
$primary->safe_psql('app', "SELECT netbus.purge('emptied')");
for my $log ('fresh', 'emptied')
{
	my $head = join(',', heads($primary, 'app', $log));

	$session = claiming_session($primary, 'app', "SELECT netbus.publish('$log', '\"first\"')");
	publish($primary, 'app', $log, 2);
	catch_up();
	is(events_in_full($standby, 'app', $log), '', "log $log: the oldest row waits for what is open before it");
	is(join(',', heads($standby, 'app', $log)), $head, '... also for head');
	go_on($primary, $session);
	$session->quit;
	reads_all($log, '... and then all is there');
	is(count_of($standby, $log), 3, '... in order');
}

# The same, but it is given up: nothing else is published that could tell.
for my $log (@logs)
{
	my $before = count_of($primary, $log);

	abort_claim($primary, 'app', $log, 30);
	publish($primary, 'app', $log, 60);
	abort_claim($primary, 'app', $log, 1);
	abort_claim($primary, 'app', $log, 30);
	publish($primary, 'app', $log, 1);
	reads_all($log, "log $log: holes are passed when the log is idle");
	is(count_of($standby, $log), $before + 61, '... with all that is behind them');
}
# More than once, and under a reader who is at the hole.
for my $log ('one', 'soon')
{
	my ($head) = heads($primary, 'app', $log);

	$session = $standby->background_psql('app');
	$session->query_until(qr/started/, "\\echo started\nSELECT payload FROM netbus.tail('$log', $head, wait => '60 s');\n\\echo ended\n");
	abort_claim($primary, 'app', $log, 7);
	publish($primary, 'app', $log, 1);
	$stdout = $session->query_until(qr/ended/, '');
	is($stdout, "1\nended\n", "tail of $log passes a hole");
	$session->quit;
}

# A transaction by way of the table is there before what an async log has not
# persisted yet.
$session = $primary->background_psql('app');
$session->query_safe("BEGIN; SELECT count(netbus.publish('late', to_jsonb(repeat('x', 1000)))) FROM generate_series(1, 200)");
$primary->safe_psql('app', "SELECT netbus.publish('late', '\"first\"')");
my $locker = $primary->background_psql('app');
$locker->query_until(qr/started/, "\\echo started\nBEGIN; LOCK TABLE netbus.log_late IN SHARE MODE;\n\\echo locked\n");
$primary->poll_query_until('app', "SELECT count(*) = 1 FROM pg_locks WHERE relation = 'netbus.log_late'::regclass AND NOT granted")
  or die 'nobody waits for the lock';
$session->query_safe('COMMIT');
$session->quit;
$locker->query_until(qr/locked/, '');
cmp_ok($primary->safe_psql('app', 'SELECT count(*) FROM netbus.log_late'), '>', 0, 'a large transaction of an async log has rows at once');
catch_up();
like(events_in_full($standby, 'app', 'late'), qr/^(0\|1\||\z)/, '... which are not read before those that are persisted later');
$locker->query_safe('COMMIT');
$locker->quit;
$primary->safe_psql('app', "SELECT netbus.flush('late')");
reads_all('late', '... and then all of them are');

# --- Retention -----------------------------------------------------------------------

is(sqlstate($standby, 'app', "SELECT netbus.read('idle')"), 'none: ', 'a log with segments that are all empty');
publish($primary, 'app', 'short', 50);
is(count_of($standby, 'short'), 50, 'a log with segments') if reads_all('short', 'a log with segments');
$session = $standby->background_psql('app', on_error_stop => 0);
$session->query_until(qr/started/, "\\echo started\nSELECT count(*) FROM netbus.tail('idle', 0, wait => '60 s');\n\\echo ended\n");
for (1 .. 4)
{
	publish($primary, 'app', 'short', 400);
	$primary->safe_psql('app', 'SELECT pg_sleep(1.1)'); # the worker looks every second
}
$primary->poll_query_until('app', "SELECT floor_seq > 400 AND retention_holds = 0 FROM netbus.stat_log WHERE log = 'short'")
  or die 'nothing expires';
# What is expired and still on disk can be read on a standby.
reads_all('short', 'what retention removes is gone there, too');
$stderr = complaint($standby, 'app', "SELECT count(*) FROM netbus.read('short', 5)");
like($stderr, qr/WARNING:  log "short" shard 0: up to \d+ of the events after the given seq are not retained any more/, '... and a reader is told');
publish($primary, 'app', 'idle', 1);
is($session->query_until(qr/ended/, ''), "1\nended\n", '... a reader that waits is not disturbed');
$session->quit;

$primary->safe_psql('app', "SELECT netbus.create_log('purged')");
publish($primary, 'app', 'purged', 20);
reads_all('purged', 'a log made since');
$primary->safe_psql('app', "SELECT netbus.purge('purged')");
catch_up();
is(count_of($standby, 'purged'), 0, '... is empty when it is purged');
is(join(',', heads($standby, 'app', 'purged')), 20, '... and its head stays');
publish($primary, 'app', 'purged', 5);
reads_all('purged', '... and goes on');

# --- Promotion -----------------------------------------------------------------------

reads_all($_, "before the promotion: $_") for @logs, 'short';
my %before = map { $_ => events_in_full($primary, 'app', $_) } @logs, 'short', 'blobs', 'purged';
my %after;
my $seen = $standby->background_psql('app', on_error_stop => 0);
$seen->query_safe("SELECT count(*) FROM netbus.read('one')");
$primary->stop;
$standby->promote;
for my $log (sort keys %before)
{
	is(events_in_full($standby, 'app', $log), $before{$log}, "log $log: what was there can be read after the promotion");
}
worker_runs($standby, 'app');
for my $log (@logs, 'short', 'purged')
{
	publish($standby, 'app', $log, 60);
	$after{$log} = events_in_full($standby, 'app', $log);
	like($after{$log}, qr/^\Q$before{$log}\E/, "log $log: ... and after publishing") if $log !~ /three|soon3/;
	is($standby->safe_psql('app', <<~"SQL"), "60|t|t", '... which starts at the next multiple of 2^40');
		SELECT count(*), min(seq) >= @{[EPOCH]}, max(seq) <= @{[EPOCH]} + 60
		FROM netbus.logs l, generate_series(0, shards - 1) s, netbus.read('$log', shard => s, max_events => 100000) WHERE l.log = '$log' AND seq > 1000000
		SQL
	is($standby->safe_psql('app', <<~"SQL"), 0, '... at times that do not decrease');
		SELECT count(*) FROM (
			SELECT ts < lag(ts) OVER (PARTITION BY shard ORDER BY seq) AS back
			FROM netbus.logs l, generate_series(0, shards - 1) s, netbus.read('$log', shard => s, max_events => 100000) WHERE l.log = '$log') t WHERE back
		SQL
}
is($seen->query("SELECT count(*) FROM netbus.read('one', 10)"), count_of($standby, 'one') - 10, 'a session that was there before reads it all');
$seen->query_safe("SELECT netbus.publish('one', '\"seen\"')");
is($seen->query("SELECT payload FROM netbus.read('one', netbus.head('one') - 1)"), '"seen"', '... and publishes');
$seen->quit;
my $miscounted = <<~"SQL";
	SELECT log, shard, retained, n FROM netbus.stat_log l, LATERAL (SELECT count(*) AS n FROM netbus.read_raw(l.log, 0, l.shard, max_events => 1000000)) r
	WHERE retained <> n AND next_seq > @{[EPOCH]}
	SQL
$standby->poll_query_until('app', "SELECT NOT EXISTS ($miscounted)");
is($standby->safe_psql('app', $miscounted), '', 'the worker counts what is there');
counters_hold($standby, 'app', '... and the counters hold');

# Retention goes on where the primary has left it: what is retained is the newest.
my @published = split /\n/, $after{short};
sub retained_is_newest
{
	my @retained = split /\n/, events_in_full($standby, 'app', 'short');

	ok("@retained" eq "@published[@published - @retained .. $#published]",
		"what is retained is the newest: @{[scalar @retained]} events of @{[scalar @published]}");
}
for my $round (1 .. 4)
{
	my $head = join('', heads($standby, 'app', 'short'));

	publish($standby, 'app', 'short', 400);
	push @published, split /\n/, events_in_full($standby, 'app', 'short', $head);
	$standby->safe_psql('app', 'SELECT pg_sleep(1.1)');
	retained_is_newest();
}
$standby->poll_query_until('app', "SELECT floor_seq >= @{[EPOCH]} AND retained < 1200 FROM netbus.stat_log WHERE log = 'short'");
is($standby->safe_psql('app', "SELECT floor_seq >= @{[EPOCH]}, retained BETWEEN 600 AND 1200, expired > 0 FROM netbus.stat_log WHERE log = 'short'"),
	't|t|t', 'retention removes the oldest');
retained_is_newest();

# The other standby follows.
$second->enable_streaming($standby);
$second->reload;
$standby->wait_for_catchup($second);
$standby->safe_psql('app', "SELECT netbus.flush('soon'), netbus.flush('soon3')");
publish($standby, 'app', 'one', 3);
$standby->wait_for_catchup($second);
for my $log (@logs, 'purged', 'blobs')
{
	is(events_in_full($second, 'app', $log), events_in_full($standby, 'app', $log), "log $log: another standby follows the new timeline");
}
is($second->safe_psql('app', "SELECT payload FROM netbus.tail('one', netbus.head('one') - 1)"), 3, '... also with tail and head');
abort_claim($standby, 'app', 'one', 4);
publish($standby, 'app', 'one', 2);
ok($second->poll_query_until('app', "SELECT payload = '2' FROM netbus.read('one', netbus.head('one') - 1)"), '... and passes holes');

$second->stop;
$standby->stop;
done_testing();
