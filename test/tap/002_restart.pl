# No seq is ever issued twice, and none is skipped without need: after clean
# stops each shard goes on with the very next one; copies, dumps, standbys and
# new timelines go on above all that was issued.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use NetbusTest;

my $node = netbus_node('main');
my ($result, $stdout, $stderr, @before, @after);

netbus_db($node, 'app');
$node->safe_psql('app', "SELECT netbus.create_log('one', durability => 'memory')");
$node->safe_psql('app', "SELECT netbus.create_log('many', durability => 'memory', shards => 4, ring_size => '128kB')");
$node->safe_psql('app', "SELECT netbus.create_log('idle', durability => 'memory', shards => 2)");
$node->safe_psql('app', 'CREATE TABLE seen (log text, shard int, seq bigint, UNIQUE (log, shard, seq))');

# Every event is noted where a restart does not reach it; a seq that is issued
# anew fails there.
sub note_seen
{
	my ($log, $shard, $after_seq) = @_;

	$node->safe_psql('app',
		"INSERT INTO seen SELECT '$log', shard, seq FROM netbus.read('$log', $after_seq, $shard, max_events => 100000)");
}

# --- Clean stops -----------------------------------------------------------------

publish($node, 'app', 'one', 100);
publish($node, 'app', 'many', 1000);
note_seen('one', 0, 0);
note_seen('many', $_, 0) for 0 .. 3;
is(events($node, 'app', 'one', 95), '96,97,98,99,100', 'events are readable before the restart');

for my $mode ('fast', 'smart')
{
	@before = (next_seqs($node, 'app', 'one'), next_seqs($node, 'app', 'many'));
	$node->stop($mode);
	$node->start;
	worker_runs($node, 'app');
	@after = (next_seqs($node, 'app', 'one'), next_seqs($node, 'app', 'many'));
	is("@after", "@before", "$mode stop: every shard goes on where it was");
	is_deeply([ heads($node, 'app', 'many') ], [ map { $_ - 1 } @before[ 1 .. 4 ] ], '... and says so');
	is(events($node, 'app', 'one', 0), '', '... its events are gone');
	publish($node, 'app', 'one', 3);
	publish($node, 'app', 'many', 100);
	is(events($node, 'app', 'one', $before[0] - 1), join(',', $before[0] .. $before[0] + 2), '... and the next one follows the last');
	for my $shard (0 .. 3)
	{
		is($node->safe_psql('app', "SELECT min(seq) FROM netbus.read('many', 0, $shard)"), $before[ 1 + $shard ],
			"... in shard $shard, too");
		note_seen('many', $shard, 0);
	}
	note_seen('one', 0, 0);
	counters_hold($node, 'app', '... and the counters hold');
}

# A reader that comes back with its old position learns what it has missed.
($result, $stdout, $stderr) = $node->psql('app', "SELECT seq FROM netbus.read('one', 50)");
is($stdout, "104\n105\n106", 'an old position still works');
like($stderr, qr/WARNING:  log "one" shard 0: up to 53 of the events after the given seq are not retained any more/, '... and tells of what is lost');

@before = (next_seqs($node, 'app', 'one'), next_seqs($node, 'app', 'many'));
$node->restart for 1 .. 2;
worker_runs($node, 'app');
$node->restart;
@after = (next_seqs($node, 'app', 'one'), next_seqs($node, 'app', 'many'));
is("@after", "@before", 'three restarts without an event, without and with a look between');
$node->restart;
publish($node, 'app', 'one', 1);
is(events($node, 'app', 'one', 0), $before[0], '... and the next event has the next seq');
note_seen('one', 0, 0);

is(join(',', next_seqs($node, 'app', 'idle')), '1,1', 'a log that was never used begins with 1');
publish($node, 'app', 'idle', 10);

# Aborted seqs count as issued.
$node->safe_psql('app', "BEGIN; SELECT netbus.publish('one', '1'); ROLLBACK");
@before = next_seqs($node, 'app', 'one');
$node->restart;
publish($node, 'app', 'one', 1);
is(events($node, 'app', 'one', 0), $before[0], 'the same after a rollback');
note_seen('one', 0, 0);

# A log that changes its size.
$node->safe_psql('app', "SELECT netbus.alter_log('one', 'ring_size', '256kB')");
@before = next_seqs($node, 'app', 'one');
$node->restart;
is($node->safe_psql('app', "SELECT netbus.head('one'); SELECT ring_size FROM netbus.stat_log WHERE log = 'one'"),
	($before[0] - 1) . "\n262144", 'a new ring size takes effect at the restart, and the seqs go on');

# --- A stop in the middle of it ----------------------------------------------------

# Sessions that never stop publishing, and one that never stops reading.
my $endless = <<~'SQL';
	DO $$
	BEGIN
		LOOP
			PERFORM netbus.publish('one', to_jsonb(i), transactional => i % 2 = 0) FROM generate_series(1, 10) i;
			COMMIT;
		END LOOP;
	END
	$$;
	SQL
for my $mode ('fast', 'fast', 'immediate')
{
	my @sessions = map { $node->background_psql('app', on_error_stop => 0) } 1 .. 2;
	my $low = $node->safe_psql('app', "SELECT netbus.head('one')");

	$_->query_until(qr/started/, "\\echo started\n$endless") for @sessions;
	$node->poll_query_until('app', "SELECT netbus.head('one') > $low + 2000") or die 'nothing is published';
	note_seen('one', 0, $low);
	my $high = $node->safe_psql('app', "SELECT netbus.head('one')");
	$node->stop($mode);
	eval { $_->quit } for @sessions;
	$node->start;
	worker_runs($node, 'app');
	@after = next_seqs($node, 'app', 'one');
	cmp_ok($after[0], '>', $high, "$mode stop while publishing: nothing is issued again");
	if ($mode eq 'fast')
	{
		cmp_ok($after[0], '<', SEQ_STEP, '... and no seq is wasted');
	}
	else
	{
		is($after[0] % SEQ_STEP, 1, '... the seqs go on above the bound');
	}
	publish($node, 'app', 'one', 5);
	note_seen('one', 0, $high);
	counters_hold($node, 'app', '... and the counters hold');
}

# --- Copies ------------------------------------------------------------------------

@before = (next_seqs($node, 'app', 'one'), next_seqs($node, 'app', 'many'));
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE app');
worker_runs($node, $_) for 'app', 'copy';
@after = (next_seqs($node, 'copy', 'one'), next_seqs($node, 'copy', 'many'));
is(scalar(grep { $after[$_] < $before[$_] } 0 .. 4), 0, 'a copy of the database goes on at or above what the original issued');
publish($node, 'copy', 'one', 7);
publish($node, 'copy', 'many', 70);
is($node->safe_psql('copy', "SELECT count(*) FROM netbus.read('one')"), 7, '... with events of its own');
@after = (next_seqs($node, 'app', 'one'), next_seqs($node, 'app', 'many'));
is("@after", "@before", '... of which the original does not know');
publish($node, 'app', 'one', 1);
is(events($node, 'app', 'one', $before[0] - 1), $before[0], '... whose own seqs go on');

# A dump into another database.
$node->safe_psql('app', <<~'SQL');
	CREATE ROLE clerk;
	GRANT netbus_writer, netbus_reader TO clerk;
	GRANT INSERT ON netbus.log_one TO clerk;
	GRANT SELECT ON netbus.log_many TO clerk;
	SELECT netbus.create_log('fussy', format => 'bytea', backpressure => 'fail');
	ALTER TABLE netbus.log_fussy OWNER TO clerk;
	SQL
my $dump = $node->backup_dir . '/app.dump';
my $logs = "SELECT string_agg(l::text, E'\\n' ORDER BY l.log) FROM (SELECT log, owner, shards, durability, format, ring_size, backpressure FROM netbus.logs) l";
my $rights = "SELECT string_agg(relname || coalesce(relacl::text, ''), E'\\n' ORDER BY relname) FROM pg_class WHERE relname ~ '^log_' AND relkind = 'r'";
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('app') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), '--exit-on-error', $dump ], 'pg_restore into another database');
worker_runs($node, 'restored');
is($node->safe_psql('restored', $logs), $node->safe_psql('app', $logs), '... the logs have their options');
is($node->safe_psql('restored', $rights), $node->safe_psql('app', $rights), '... and rights');
@before = (next_seqs($node, 'app', 'one'), next_seqs($node, 'app', 'many'));
@after = (next_seqs($node, 'restored', 'one'), next_seqs($node, 'restored', 'many'));
is(scalar(grep { $after[$_] < $before[$_] } 0 .. 4), 0, '... and seqs no lower than before');
publish($node, 'restored', 'one', 2);
is(events($node, 'restored', 'one', 0), join(',', $after[0], $after[0] + 1), '... and work');
is($node->safe_psql('restored', "SELECT next_seq > $after[0] FROM netbus.stat_log WHERE log = 'one'"), 't', '... on their own');
($result, $stdout, $stderr) = $node->psql('restored', 'INSERT INTO netbus.log_one VALUES (1, 0, 1, NULL)');
like($stderr, qr/cannot write to table "log_one" directly/, '... and are guarded');
$node->restart;
worker_runs($node, 'restored');
is($node->safe_psql('restored', "SELECT netbus.head('one')"), $after[0] + 1, '... and are there after a restart');

# --- A standby ----------------------------------------------------------------------

publish($node, 'app', 'one', 10);
$node->safe_psql('app', "SELECT netbus.create_log('unused', durability => 'memory')");
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);

my $session = $standby->background_psql('app', on_error_stop => 0);
my $issued = $node->safe_psql('app', "SELECT netbus.head('one')");
like(publish_failing($standby, 'app', 'one'), qr/ERROR:  cannot execute netbus\.publish\(\) in a read-only transaction/,
	'no publishing on a standby');
($result, $stdout, $stderr) = $standby->psql('app', "SELECT netbus.create_log('x')");
like($stderr, qr/ERROR:  cannot execute netbus\.create_log\(\) in a read-only transaction/, '... no new logs');
is($standby->safe_psql('app', "SELECT count(*) FROM netbus.read('one')"), 0, '... reading finds nothing of a memory log');
cmp_ok($standby->safe_psql('app', "SELECT netbus.head('one')"), '>=', $issued, '... there is a head');
is($standby->safe_psql('app', "SELECT count(*) FROM netbus.tail('one', netbus.head('one'), wait => '10 ms')"), 0, '... and a tail');
counters_hold($standby, 'app', '... and statistics');
$session->query("SELECT netbus.publish('one', '0')");
like($session->{stderr}, qr/read-only transaction/, '... for a session that stays, too');
$session->{stderr} = '';

# What the standby never hears of: seqs issued on the old timeline.
$standby->stop;
undef $session;
publish($node, 'app', 'unused', 20);
publish($node, 'app', 'one', 20);
$issued = $node->safe_psql('app', "SELECT netbus.head('one')");
is($node->safe_psql('app', "SELECT netbus.head('unused')"), 20, 'the primary goes on');
$node->stop('immediate');
$standby->start;
$session = $standby->background_psql('app', on_error_stop => 0);
$session->query("SELECT netbus.publish('one', '0')");
like($session->{stderr}, qr/read-only transaction/, 'the standby alone');
$session->{stderr} = '';
$standby->promote;
$session->query("SELECT netbus.publish('one', '1')");
is($session->{stderr}, '', 'after its promotion the same session publishes');
is(events($standby, 'app', 'one', 0), EPOCH, 'the seqs of the new timeline begin at the next multiple of 2^40');
$standby->safe_psql('app', "SELECT netbus.publish('unused', '1')");
is(events($standby, 'app', 'unused', 0), EPOCH, '... also where the standby knew of none');
$session->quit;
worker_runs($standby, 'app');
publish($standby, 'app', 'one', 4);
$standby->restart;
worker_runs($standby, 'app');
is($standby->safe_psql('app', "SELECT netbus.head('one')"), EPOCH + 4, '... and go on exactly after a restart');
$standby->safe_psql('app', "SELECT netbus.create_log('young', durability => 'memory')");
publish($standby, 'app', 'young', 3);
is(events($standby, 'app', 'young', 0), '1,2,3', 'a new log on a later timeline begins with 1');
$standby->stop('immediate');
$standby->start;
publish($standby, 'app', 'young', 1);
is(events($standby, 'app', 'young', 0), SEQ_STEP + 1, '... and goes on above its bound after a crash');

# A second promotion, this time without any loss.
$standby->backup('again');
my $third = PostgreSQL::Test::Cluster->new('third');
$third->init_from_backup($standby, 'again', has_streaming => 1);
$third->start;
$standby->wait_for_catchup($third);
$standby->stop;
$third->promote;
publish($third, 'app', 'one', 1);
is(events($third, 'app', 'one', 0), 2 * EPOCH, 'the next timeline begins at the next multiple');
publish($third, 'app', 'young', 1);
is(events($third, 'app', 'young', 0), EPOCH, '... of each log');
$third->stop;

done_testing();
