# A transaction that fails, dies or stands still at any instant of publishing:
# its events are seen all or not at all, others publish on, nobody hangs.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use NetbusTest;

my $node = netbus_node('main');
my ($result, $stdout, $stderr);

netbus_db($node, 'app');
if (!debug_build($node, 'app'))
{
	$node->stop;
	plan skip_all => 'needs a build with NETBUS_DEBUG';
}
$node->safe_psql('app', "SELECT netbus.create_log('log', durability => 'memory', ring_size => '64kB')");
$node->safe_psql('app', "SELECT netbus.create_log('second', durability => 'memory', shards => 3)");
$node->safe_psql('app', 'CREATE TABLE witness (n int)');

# What a transaction that must not be seen publishes: to two logs, in several
# frames, beside an ordinary row.
my $bad = <<~'SQL';
	INSERT INTO witness VALUES (666);
	SELECT count(netbus.publish('log', to_jsonb('bad' || repeat('x', 500)))) FROM generate_series(1, 25) i;
	SELECT count(netbus.publish('second', to_jsonb('bad'::text), 'key' || i)) FROM generate_series(1, 30) i;
	SQL

sub at_point
{
	my ($point, $sql) = @_;

	return "BEGIN; SET LOCAL netbus.debug_point = '$point'; $sql; COMMIT";
}

sub bad_events
{
	return $node->safe_psql('app', <<~'SQL');
		SELECT (SELECT count(*) FROM netbus.read('log', max_events => 100000) WHERE payload::text ~ 'bad')
			+ (SELECT count(*) FROM generate_series(0, 2) s, LATERAL netbus.read('second', shard => s) WHERE payload::text ~ 'bad')
			+ (SELECT count(*) FROM witness WHERE n = 666)
		SQL
}

# An event published now is read now, in order, and the counters hold.
my $good = 0;
sub all_is_well
{
	my ($what) = @_;
	my $head = $node->safe_psql('app', "SELECT netbus.head('log')");

	$good++;
	$node->safe_psql('app', "SELECT netbus.publish('log', '$good'), count(netbus.publish('second', '$good', 'key' || i)) FROM generate_series(1, 9) i");
	is($node->safe_psql('app', "SELECT payload FROM netbus.read('log', $head)"), $good, "$what: others publish on");
	is(bad_events(), 0, '... nothing of it is seen');
	counters_hold($node, 'app', '... the counters hold');
	is($node->safe_psql('app', "SELECT count(*) FROM netbus.stat_log WHERE oldest_pending_pid IS NOT NULL OR stable_seq <> next_seq - 1"), 0,
		'... nothing is pending');
}

sub recovered
{
	my ($offset) = @_;

	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come back';
	worker_runs($node, 'app');
}

# Others who waits for what: the pid of whoever holds up a log.
sub wait_pending
{
	my ($pid) = @_;

	$node->poll_query_until('app', "SELECT count(*) > 0 FROM netbus.stat_log WHERE oldest_pending_pid = $pid")
	  or die 'the claim was not made';
}

sub wait_at_point
{
	my ($pid) = @_;

	$node->poll_query_until('app', "SELECT wait_event = 'Extension' FROM pg_stat_activity WHERE pid = $pid")
	  or die 'the debug point was not reached';
}

# A session that stands still at a point; to be continued.
my $continue = $node->data_dir . '/netbus_debug_continue';
sub session_at
{
	my ($point, $sql) = @_;
	my $session = $node->background_psql('app', on_error_stop => 0);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');

	chomp $pid;
	$session->query_until(qr/started/, "\\echo started\n" . at_point($point, $sql) . ";\n\\echo ended\n");
	wait_at_point($pid);
	return ($session, $pid);
}

sub go_on
{
	my ($session) = @_;

	append_to_file($continue, '');
	$session->query_until(qr/ended/, '');
	unlink $continue;
}

all_is_well('at first');

# --- Errors ----------------------------------------------------------------------

for my $point ('claim', 'claimed')
{
	($result, $stdout, $stderr) = $node->psql('app', at_point("$point:error", $bad));
	like($stderr, qr/ERROR:  debug point "$point"/, "an error at $point fails the commit");
	all_is_well('... ');
	# In one session again and again: nothing is left over from the last time.
	$node->psql('app', join(';', (at_point("$point:error", $bad)) x 5, "SELECT netbus.publish('log', '0')"), on_error_stop => 0);
	all_is_well("five times at $point");
}
for my $point ('copy', 'commit')
{
	$node->safe_psql('app', at_point("$point:error", "SELECT netbus.publish('log', '\"sure\"')"));
	is($node->safe_psql('app', "SELECT payload FROM netbus.read('log', netbus.head('log') - 1)"), '"sure"',
		"no error can happen at $point");
	all_is_well('... ');
}

# Events that do not wait for the transaction are claimed by the call itself.
($result, $stdout, $stderr) = $node->psql('app', <<~'SQL', on_error_stop => 0);
	SET netbus.debug_point = 'claim:error';
	SELECT netbus.publish_batch('log', array_fill('"bad"'::jsonb, '{2000}'), transactional => false);
	SET netbus.debug_point = '';
	SELECT netbus.publish('log', '"fine"');
	SQL
like($stderr, qr/debug point "claim"/, 'an error at claim fails a call that does not wait');
is($node->safe_psql('app', "SELECT payload FROM netbus.read('log', netbus.head('log') - 1)"), '"fine"', '... and the session goes on');
all_is_well('... ');

# In a function that catches it, only that part is undone: the error comes at the commit, or in a call.
$node->safe_psql('app', <<~'SQL');
	BEGIN;
	SELECT netbus.publish('log', '"first"');
	SET LOCAL netbus.debug_point = 'claim:error';
	DO $$
	BEGIN
		PERFORM netbus.publish('log', '"bad"');
		PERFORM netbus.publish_batch('log', array_fill('"bad"'::jsonb, '{3}'), transactional => false);
	EXCEPTION WHEN internal_error THEN
		SET LOCAL netbus.debug_point = '';
	END
	$$;
	SELECT netbus.publish('log', '"last"');
	COMMIT;
	SQL
is($node->safe_psql('app', "SELECT string_agg(payload::text, ' ' ORDER BY seq) FROM netbus.read('log', netbus.head('log') - 2)"),
	'"first" "last"', 'an error that is caught takes only its own events away');
all_is_well('... ');

# --- Standing still ------------------------------------------------------------------

my ($session, $pid, $head, $next);

# Claimed but not committed: what comes later has to wait, and is not lost.
$head = $node->safe_psql('app', "SELECT netbus.head('log')");
($session, $pid) = session_at('claimed:wait', "SELECT netbus.publish('log', '\"late\"')");
wait_pending($pid);
$node->safe_psql('app', "SELECT netbus.publish('log', '\"early\"')");
is($node->safe_psql('app', "SELECT netbus.head('log')"), $head, 'a claim that is open holds the head');
is($node->safe_psql('app', "SELECT count(*) FROM netbus.read('log', $head)"), 0, '... and what was committed after it');
is($node->safe_psql('app', "SELECT oldest_pending_pid = $pid, oldest_pending_since <= now() FROM netbus.stat_log WHERE log = 'log'"),
	't|t', '... and stat_log says who it is');
counters_hold($node, 'app', '... the counters hold meanwhile');
$node->safe_psql('app', "SELECT netbus.publish('second', '1', 'k')");
go_on($session);
$session->quit;
is($node->safe_psql('app', "SELECT string_agg(payload::text, ' ' ORDER BY seq) FROM netbus.read('log', $head)"),
	'"late" "early"', '... until it ends; then all comes in order');

# A reader that waits is woken by whoever ends last.
$head = $node->safe_psql('app', "SELECT netbus.head('log')");
($session, $pid) = session_at('claimed:wait', "SELECT netbus.publish('log', '\"late\"')");
my $tail = $node->background_psql('app');
my $tail_pid = $tail->query_safe('SELECT pg_backend_pid()');
$tail->query_until(qr/started/, "\\echo started\nSELECT string_agg(payload::text, ' ') FROM netbus.tail('log', $head, wait => '60 s');\n\\echo ended\n");
wait_at_point($tail_pid);
$node->safe_psql('app', "SELECT netbus.publish('log', '\"early\"')");
go_on($session);
$session->quit;
like($tail->query_until(qr/ended/, ''), qr/"late" "early"/, 'a reader is woken when the open claim ends');
$tail->quit;

# The ring fills behind it: nobody waits, the newest are given up and counted.
$head = $node->safe_psql('app', "SELECT netbus.head('log')");
($session, $pid) = session_at('claimed:wait', "SELECT netbus.publish('log', '\"late\"')");
$node->safe_psql('app', "SELECT count(netbus.publish('log', to_jsonb(repeat('y', 1000)), transactional => i % 2 = 0)) FROM generate_series(1, 300) i");
is($node->safe_psql('app', "SELECT netbus.head('log'), next_seq FROM netbus.stat_log WHERE log = 'log'"), "$head|" . ($head + 302),
	'a full ring behind an open claim holds nobody up');
counters_hold($node, 'app', '... the counters hold');
go_on($session);
$session->quit;
($result, $stdout, $stderr) = $node->psql('app', "SELECT count(*), min(payload::text) = '\"late\"' FROM (SELECT * FROM netbus.read('log', $head, max_events => 1000) ORDER BY seq LIMIT 1000) r");
my ($seen) = split /\|/, $stdout;
cmp_ok($seen, '<', 301, '... some events were given up');
my $lost = 0;
$lost += $1 while $stderr =~ /: up to (\d+) of the events after the given seq are not retained/g;
cmp_ok($seen + $lost, '<=', 301, '... and a reader is told of those in between');
all_is_well('after a full ring');

# Ended from outside: cancelled, terminated.
for my $how ('pg_cancel_backend', 'pg_terminate_backend')
{
	for my $point ('claim', 'claimed')
	{
		my $aborted = $node->safe_psql('app', "SELECT aborted FROM netbus.stat_log WHERE log = 'log'");

		($session, $pid) = session_at("$point:wait", $bad);
		wait_pending($pid) if $point eq 'claimed';
		$node->safe_psql('app', "SELECT netbus.publish('log', '\"behind\"')");
		$node->safe_psql('app', "SELECT $how($pid)");
		$node->poll_query_until('app', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid AND wait_event = 'Extension'");
		eval { $session->quit };
		$node->poll_query_until('app', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
		is($node->safe_psql('app', "SELECT aborted - $aborted FROM netbus.stat_log WHERE log = 'log'"), $point eq 'claimed' ? 25 : 0,
			"$how at $point: what was claimed is aborted");
		is($node->safe_psql('app', "SELECT payload FROM netbus.read('log', netbus.head('log') - 1)"), '"behind"', '... and what is behind it appears');
		all_is_well('... ');
	}
}

# Points where nothing can be interrupted: they end when the transaction does.
for my $point ('copy', 'commit')
{
	($session, $pid) = session_at("$point:wait", "SELECT netbus.publish('log', '\"slow\"')");
	wait_pending($pid);
	$node->safe_psql('app', "SELECT pg_cancel_backend($pid), netbus.publish('log', '\"behind\"')");
	is($node->safe_psql('app', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND wait_event = 'Extension'"), 1,
		"a transaction at $point cannot be cancelled");
	go_on($session);
	$session->quit;
	is($node->safe_psql('app', "SELECT string_agg(payload::text, ' ' ORDER BY seq) FROM netbus.read('log', netbus.head('log') - 2)"),
		'"slow" "behind"', '... and is seen whole');
	all_is_well('... ');
}

# Two logs, two sessions, standing still in either order: nobody waits for the other.
my @order = map { [ session_at('claimed:wait', $_) ] } (
	"SELECT netbus.publish('log', '1'); SELECT netbus.publish('second', '1', 'k')",
	"SELECT netbus.publish('second', '2', 'k'); SELECT netbus.publish('log', '2')");
append_to_file($continue, '');
for (@order)
{
	$_->[0]->query_until(qr/ended/, '');
	$_->[0]->quit;
}
unlink $continue;
all_is_well('two transactions over the same two logs');

# A log is not dropped under a claim.
$node->safe_psql('app', "SELECT netbus.create_log('brief')");
($session, $pid) = session_at('claimed:wait', "SELECT netbus.publish('brief', '1')");
($result, $stdout, $stderr) = $node->psql('app', "SET lock_timeout = '50ms'; SELECT netbus.drop_log('brief')");
like($stderr, qr/lock timeout/, 'a log with an open claim cannot be dropped');
go_on($session);
$session->quit;
is($node->safe_psql('app', "SELECT count(*) FROM netbus.read('brief'); SELECT netbus.drop_log('brief')"), "1\nt", '... until that ends');

# --- Crashes ---------------------------------------------------------------------------

for my $point ('claim:kill', 'copy:kill', 'claimed:kill', 'claimed:panic', 'commit:kill', 'commit:panic')
{
	my $offset = -s $node->logfile;
	my $committed = $point =~ /^commit/;

	$next = $node->safe_psql('app', "SELECT netbus.head('log') + 1");
	$node->psql('app', at_point($point, $committed ? "INSERT INTO witness VALUES (1); SELECT netbus.publish('log', '\"gone\"')" : $bad));
	recovered($offset);
	is($node->safe_psql('app', "SELECT netbus.head('log') >= $next - 1 AND count(*) = 0 FROM netbus.read('log')"), 't', "$point: the log is empty, its seqs go on");
	is($node->safe_psql('app', 'DELETE FROM witness WHERE n = 1 RETURNING n'), $committed ? 1 : '',
		$committed ? '... the transaction was committed' : '... the transaction was not');
	all_is_well('... ');
}

$node->stop;
done_testing();
