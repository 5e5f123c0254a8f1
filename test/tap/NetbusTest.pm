# What the TAP tests of logs share: servers that have netbus, and what must hold
# of a log at any time.

package NetbusTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(netbus_node netbus_db worker_runs publish publish_failing next_seqs heads events counters_hold
  big_segments segments_become debug_build SEQ_STEP EPOCH);

# Steps of a log's bound, and where a new timeline starts.
use constant SEQ_STEP => 16 * 1024 * 1024;
use constant EPOCH => 1024 * 1024 * 1024 * 1024;

# A running server with netbus.  Its dynamic shared memory is in files below its
# data directory, so that they can be counted.
sub netbus_node
{
	my ($name, @conf) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(allows_streaming => 1);
	$node->append_conf('postgresql.conf', join("\n",
		"shared_preload_libraries = 'netbus'", 'restart_after_crash = on', 'dynamic_shared_memory_type = mmap',
		'autovacuum = off', "log_line_prefix = '%m [%p] %b '", @conf, ''));
	$node->start;
	return $node;
}

# A database of that name with the extension, and a worker in it.
sub netbus_db
{
	my ($node, $db) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION netbus');
	worker_runs($node, $db);
}

sub worker_runs
{
	my ($node, $db) = @_;

	$node->poll_query_until($db,
		"SELECT count(*) = 1 FROM netbus.stat_worker WHERE kind = 'worker' AND state = 'running'")
	  or die "no worker in database $db";
}

# n events in one transaction; with several shards their keys spread them.
sub publish
{
	my ($node, $db, $log, $n) = @_;

	$node->safe_psql($db,
		"SELECT count(netbus.publish('$log', to_jsonb(i), 'key' || i)) FROM generate_series(1, $n) i");
}

# What it says if it fails.
sub publish_failing
{
	my ($node, $db, $log) = @_;
	my ($result, $stdout, $stderr) = $node->psql($db, "SELECT netbus.publish('$log', '1')");

	return $stderr;
}

# Of each shard, in order: the seq it issues next, the seq up to which it is stable.
sub next_seqs
{
	my ($node, $db, $log) = @_;

	heads($node, $db, $log); # also attaches it
	return split /\n/, $node->safe_psql($db, "SELECT next_seq FROM netbus.stat_log WHERE log = '$log' ORDER BY shard");
}

sub heads
{
	my ($node, $db, $log) = @_;

	return split /\n/, $node->safe_psql($db,
		"SELECT netbus.head('$log', s) FROM netbus.logs, generate_series(0, shards - 1) s WHERE log = '$log' ORDER BY s");
}

# The seqs of the events of a shard after one, with commas.
sub events
{
	my ($node, $db, $log, $after_seq, $shard) = @_;

	return $node->safe_psql($db, sprintf("SELECT string_agg(seq::text, ',' ORDER BY seq) FROM netbus.read('%s', %s, %d)",
			$log, $after_seq, $shard // 0));
}

sub counters_hold
{
	my ($node, $db, $what) = @_;

	is($node->safe_psql($db, <<~'SQL'), 't', $what);
		SELECT bool_and(offered = accepted + rejected + sampled_out
			AND accepted = retained + expired + evicted + aborted
			AND floor_seq <= stable_seq + 1 AND stable_seq < next_seq) FROM netbus.stat_log
		SQL
}

# Segments that are large enough to hold the rings of a log.
sub big_segments
{
	my ($node) = @_;

	return scalar grep { (-s $_ // 0) > 4 * 1024 * 1024 } glob($node->data_dir . '/pg_dynshmem/*');
}

sub segments_become
{
	my ($node, $db, $n, $what) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if big_segments($node) == $n;
		$node->safe_psql($db, 'SELECT pg_sleep(0.1)');
	}
	is(big_segments($node), $n, $what);
}

# Does the server have debug points?
sub debug_build
{
	my ($node, $db) = @_;
	my ($result) = $node->psql($db, 'SHOW netbus.debug_point');

	return $result == 0;
}

# A standby that streams from a node and has caught up with it.
sub standby_of
{
	my ($node, $name, @conf) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name);

	$node->backup("for_$name", backup_options => [ '--checkpoint=fast' ]);
	$standby->init_from_backup($node, "for_$name", has_streaming => 1);
	$standby->append_conf('postgresql.conf', join("\n", @conf, ''));
	$standby->start;
	$node->wait_for_catchup($standby);
	return $standby;
}

# What psql says on standard error to statements of which one may fail.
sub complaint
{
	my ($node, $db, $sql) = @_;
	my ($result, $stdout, $stderr) = $node->psql($db, $sql, on_error_stop => 0);

	return $stderr;
}

# SQLSTATE of the first error.
sub sqlstate
{
	my ($node, $db, $sql) = @_;
	my ($result, $stdout, $stderr) = $node->psql($db, $sql, extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);

	return $stderr =~ /ERROR:\s+(\w{5})/ ? $1 : "none: $stderr";
}

# n seqs of a log that are claimed and given up: a hole.
sub abort_claim
{
	my ($node, $db, $log, $n) = @_;

	complaint($node, $db, "BEGIN; SET LOCAL netbus.debug_point = 'claimed:error';"
		. " SELECT count(netbus.publish('$log', '\"never\"', 'key' || i)) FROM generate_series(1, $n) i; COMMIT")
	  =~ /debug point "claimed"/ or die 'the claim was not made, or not given up';
}

# A session whose transaction has claimed its seqs, and stands still; go_on() continues it.
sub claiming_session
{
	my ($node, $db, $sql) = @_;
	my $session = $node->background_psql($db, on_error_stop => 0);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');

	chomp $pid;
	$session->query_until(qr/started/,
		"\\echo started\nBEGIN; SET LOCAL netbus.debug_point = 'claimed:wait'; $sql; COMMIT;\n\\echo ended\n");
	$node->poll_query_until($db, "SELECT wait_event = 'Extension' FROM pg_stat_activity WHERE pid = $pid")
	  or die 'the claim was not made';
	return $session;
}

# Let all sessions that stand still at a point go on, and wait for these.
sub go_on
{
	my ($node, @sessions) = @_;
	my $continue = $node->data_dir . '/netbus_debug_continue';

	append_to_file($continue, '');
	$_->query_until(qr/ended/, '') for @sessions;
	unlink $continue;
}

# All that the events of a log are, in the order in which read() gives them, a line each.
sub events_in_full
{
	my ($node, $db, $log, $after_seq) = @_;

	return $node->safe_psql($db, sprintf(<<~'SQL', $log, $after_seq // 0, $log));
		SELECT shard, seq, extract(epoch FROM ts), key, md5(payload)
		FROM netbus.logs l, generate_series(0, shards - 1) s, netbus.read_raw('%s', %s, s, max_events => 1000000) WHERE l.log = '%s'
		SQL
}

push @EXPORT, qw(standby_of complaint sqlstate abort_claim claiming_session go_on events_in_full);

1;
