# A log's table in logical replication: the copy can be read as the original,
# nobody publishes to it, and when its subscription goes it is a log like any
# other whose seqs go on above the copied ones.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use NetbusTest;

my $source = netbus_node('source', 'wal_level = logical');
my $target = netbus_node('target');
my ($session, $before);

netbus_db($_, 'app') for $source, $target;
if (!debug_build($source, 'app'))
{
	$_->stop for $source, $target;
	plan skip_all => 'needs a build with NETBUS_DEBUG';
}

# The same logs on both sides, one of them with segments.
my @logs = ('plain', 'wide', 'soon', 'kept');
for ($source, $target)
{
	$_->safe_psql('app', <<~'SQL');
		SELECT netbus.create_log('plain'), netbus.create_log('wide', shards => 3), netbus.create_log('soon', durability => 'async'),
			netbus.create_log('kept', retention_events => 600), netbus.create_log('other');
		SQL
}
publish($source, 'app', $_, 100) for @logs;
$source->safe_psql('app', "SELECT netbus.publish('plain', to_jsonb(repeat('x', 3000000)))");
# Open in a session of the target before it is a copy.
my $old = $target->background_psql('app', on_error_stop => 0);
$old->set_query_timer_restart();
$old->query_safe("SELECT netbus.head('$_', 0)") for @logs;

my $connection = $source->connstr . ' dbname=app';
$source->safe_psql('app', "SELECT netbus.flush('soon'); CREATE PUBLICATION logs FOR TABLE " . join(', ', map { "netbus.log_$_" } @logs));
$target->safe_psql('app', "CREATE SUBSCRIPTION logs CONNECTION '$connection' PUBLICATION logs");
$target->wait_for_subscription_sync($source, 'logs');

# All that the source has can be read on the target, within some seconds.
sub reads_all
{
	my ($log, $what) = @_;
	my $expected = events_in_full($source, 'app', $log);
	my $found;

	for (1 .. 100)
	{
		$source->safe_psql('app', "SELECT netbus.flush('soon')");
		$source->wait_for_catchup('logs');
		$found = events_in_full($target, 'app', $log);
		last if $found eq $expected;
		$source->safe_psql('app', 'SELECT pg_sleep(0.1)');
	}
	is($found, $expected, $what);
}

# --- Reading ---------------------------------------------------------------------

for my $log (@logs)
{
	reads_all($log, "log $log: what was there");
	publish($source, 'app', $log, 50);
	reads_all($log, '... and what came since');
	is(join(',', heads($target, 'app', $log)), join(',', heads($source, 'app', $log)), '... the same heads');
	is(sqlstate($target, 'app', "SELECT netbus.publish('$log', '1')"), '55000', '... and nobody publishes to the copy');
	like(complaint($target, 'app', "SELECT netbus.publish('$log', '1')"), qr/cannot publish to log "$log": it is a copy that a subscription fills/, '... which says why');
	is(sqlstate($target, 'app', "SELECT netbus.purge('$log')"), '55000', '... nor purges it');
}
is($target->safe_psql('app', "SELECT seq, payload FROM netbus.get('plain', 77)"), '77|77', 'get');
is($target->safe_psql('app', "SELECT seq, length(payload) FROM netbus.get_raw('plain', 101)"), '101|3000002', '... of a large event');
is($target->safe_psql('app', "SELECT payload FROM netbus.read('wide', key => 'key7')"), "7\n7", 'by key');
$old->query("SELECT netbus.publish('plain', '1')");
like($old->{stderr}, qr/it is a copy/, 'a session that knew the log before does not publish');
$old->{stderr} = '';
is($old->query("SELECT count(*) FROM netbus.read('plain', 0)"), 151, '... and reads');
is($target->safe_psql('app', 'SELECT count(*) > 6 FROM netbus.stat_log'), 't', 'stat_log');
$target->safe_psql('app', "SELECT netbus.publish('other', '1')"); # which is no copy

for my $log ('plain', 'kept')
{
	my ($head) = heads($source, 'app', $log);

	$session = $target->background_psql('app');
	$session->query_until(qr/started/, "\\echo started\nSELECT payload FROM netbus.tail('$log', $head, wait => '60 s');\n\\echo ended\n");
	$source->safe_psql('app', "SELECT netbus.publish('$log', '\"woken\"')");
	is($session->query_until(qr/ended/, ''), "\"woken\"\nended\n", "tail of $log waits on the copy");
	$session->quit;
}

# --- Holes -------------------------------------------------------------------------

$before = events_in_full($target, 'app', 'plain');
$session = claiming_session($source, 'app', "SELECT netbus.publish('plain', '\"first\"')");
publish($source, 'app', 'plain', 10);
$source->wait_for_catchup('logs');
is(events_in_full($target, 'app', 'plain'), $before, 'what is behind an open transaction waits for it');
go_on($source, $session);
$session->quit;
reads_all('plain', '... and is there, in order, when that is committed');
for my $log (@logs)
{
	abort_claim($source, 'app', $log, 30);
	publish($source, 'app', $log, 5);
	reads_all($log, "log $log: a hole is passed when the log is idle");
}

# --- Retention ---------------------------------------------------------------------

for (1 .. 4)
{
	publish($source, 'app', 'kept', 400);
	$source->safe_psql('app', 'SELECT pg_sleep(1.1)'); # the worker looks every second
}
$source->poll_query_until('app', "SELECT floor_seq > 400 AND retention_holds = 0 FROM netbus.stat_log WHERE log = 'kept'") or die 'nothing expires';
reads_all('kept', 'what retention removes from the source is gone from the copy');
$source->safe_psql('app', "SELECT netbus.purge('wide')");
$source->wait_for_catchup('logs');
is(events_in_full($target, 'app', 'wide'), '', 'what is purged, too');

# --- Without the subscription ---------------------------------------------------------

publish($source, 'app', $_, 20) for @logs;
reads_all($_, "log $_: before the subscription goes") for @logs;
my %before = map { $_ => events_in_full($target, 'app', $_) } @logs;
my %heads = map { $_ => [ heads($source, 'app', $_) ] } @logs;
$target->safe_psql('app', 'DROP SUBSCRIPTION logs');
for my $log (@logs)
{
	is(events_in_full($target, 'app', $log), $before{$log}, "log $log: it is still there without the subscription");
	my $publish = "SELECT count(netbus.publish('$log', to_jsonb(i), 'new' || i)) FROM generate_series(1, 60) i";
	my $error;

	# By a session that has not known the log before, or by one that has.
	if ($log eq 'plain' || $log eq 'soon')
	{
		$error = complaint($target, 'app', $publish);
	}
	else
	{
		$old->query($publish);
		$error = $old->{stderr};
	}
	is($error, '', '... a session publishes');
	my @above = map { $target->safe_psql('app', "SELECT min(seq) > $heads{$log}[$_] AND count(*) > 0 FROM netbus.read('$log', 0, $_, max_events => 100000) WHERE key LIKE 'new%'") } 0 .. $#{ $heads{$log} };
	is(join('', @above), 't' x @above, '... with seqs above the copied ones');
	publish($target, 'app', $log, 60);
	is($target->safe_psql('app', "SELECT count(*) FROM netbus.logs l, generate_series(0, shards - 1) s, netbus.read_raw('$log', 0, s, max_events => 100000) WHERE l.log = '$log'"),
		120 + (() = $before{$log} =~ /^/mg), '... and all of it is read');
}
is($target->safe_psql('app', "SET netbus.wait_timeout = '10 s'; SELECT netbus.flush('soon')"), 't', 'the worker persists what is published');
my $miscounted = <<~'SQL';
	SELECT log, shard, retained, n FROM netbus.stat_log l, LATERAL (SELECT count(*) AS n FROM netbus.read_raw(l.log, 0, l.shard, max_events => 1000000)) r
	WHERE retained <> n
	SQL
$target->poll_query_until('app', "SELECT NOT EXISTS ($miscounted)");
is($target->safe_psql('app', $miscounted), '', 'the worker counts what is there');
counters_hold($target, 'app', '... and the counters hold');

# Retention begins with the oldest.
my @published = split /\n/, events_in_full($target, 'app', 'kept');
sub retained_is_newest
{
	my @retained = split /\n/, events_in_full($target, 'app', 'kept');

	ok("@retained" eq "@published[@published - @retained .. $#published]",
		"what is retained is the newest: @{[scalar @retained]} events of @{[scalar @published]}");
}
for (1 .. 4)
{
	my $head = join('', heads($target, 'app', 'kept'));

	publish($target, 'app', 'kept', 400);
	push @published, split /\n/, events_in_full($target, 'app', 'kept', $head);
	$target->safe_psql('app', 'SELECT pg_sleep(1.1)');
	retained_is_newest();
}
$target->poll_query_until('app', "SELECT floor_seq > $heads{kept}[0] AND retained < 1200 FROM netbus.stat_log WHERE log = 'kept'");
is($target->safe_psql('app', "SELECT floor_seq > $heads{kept}[0], retained BETWEEN 600 AND 1200 FROM netbus.stat_log WHERE log = 'kept'"), 't|t', 'retention begins with the oldest');
retained_is_newest();

# --- After restarts ----------------------------------------------------------------

$old->quit;
$before = events_in_full($target, 'app', 'plain');
my @next = next_seqs($target, 'app', 'plain');
$target->restart;
is(join(',', next_seqs($target, 'app', 'plain')), $next[0], 'after a restart it goes on where it was');
is(events_in_full($target, 'app', 'plain'), $before, '... with all events');

$_->stop for $source, $target;
done_testing();
