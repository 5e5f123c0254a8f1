# Watches: what listeners are told, whatever happens meanwhile.

use strict;
use warnings;

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use NetbusTest;
use NetbusWorkload;

my $node = netbus_node('main', 'jit = off', 'max_connections = 40');
my ($offset, $session, @notes, $pid);

netbus_db($node, 'app');
my $debug = debug_build($node, 'app');

sub sql
{
	my ($sql) = @_;

	return $node->safe_psql('app', $sql);
}

# A session that listens.
sub listener
{
	my ($channel, $db) = @_;
	my $session = $node->background_psql($db // 'app', on_error_stop => 0);

	$session->set_query_timer_restart;
	$session->query_safe("LISTEN $channel");
	return $session;
}

# What it has been told since the last call.
sub notes
{
	my ($session) = @_;
	my $out = $session->query('SELECT 1');

	return map { decode_json($_) } $out =~ /with payload "(\{.*?\})" received/g;
}

# What it is told until some condition holds of one of the notes.
sub notes_until
{
	my ($session, $holds) = @_;
	my $end = time() + $PostgreSQL::Test::Utils::timeout_default;
	my @notes;

	while (time() < $end)
	{
		my @new = notes($session);

		push @notes, @new;
		return @notes if grep { $holds->($_) } @new;
		sleep 0.02;
	}
	return (@notes, { timeout => 1 });
}

sub ids
{
	my ($note, $op) = @_;

	return join ',', sort { $a <=> $b } @{ $note->{$op} // [] };
}

# A note in short: "+1,2 ~3 -4".
sub short
{
	my ($note) = @_;

	return join ' ', grep { length > 1 } '+' . ids($note, 'entered'), '~' . ids($note, 'changed'), '-' . ids($note, 'left');
}

# What has become of each record after all notes: these, then a change of record 9999 that ends them.
sub told
{
	my ($session, $model) = @_;

	my $ends = sub { my ($op) = @_; return sub { grep { $_ eq '9999' } @{ $_[0]{$op} // [] } } };
	my @told;

	sql("SELECT netbus.memory_store('end', tags => '{a,end}', id => 9999, model => '$model')");
	my @notes = notes_until($session, $ends->('entered'));
	sql("SELECT netbus.memory_delete(9999, '$model')");
	push @notes, notes_until($session, $ends->('left'));
	for my $note (@notes)
	{
		$note->{$_} = [ grep { $_ ne '9999' } @{ $note->{$_} // [] } ] for qw(entered changed left);
		push @told, short($note) if short($note) ne '';
		push @told, 'timeout' if $note->{timeout};
	}
	return join '; ', @told;
}

sub set_conf
{
	my ($name, $value) = @_;

	sql("ALTER SYSTEM SET $name = '$value'");
	sql('SELECT pg_reload_conf()');
}

sub debug_point
{
	my ($point) = @_;

	set_conf('netbus.debug_point', $point);
	# The worker reads it when it wakes.
	sleep 0.5;
}

# End the worker, and wait for its successor.
sub next_worker
{
	my $pid = worker_pid($node, 'app');

	sql("SELECT pg_terminate_backend($pid)");
	$node->poll_query_until('app', "SELECT pid <> $pid FROM netbus.stat_worker WHERE kind = 'worker' AND state = 'running'") or die 'no other worker';
}

# All watches have been told to read anew, after a start of the server.
sub all_resync
{
	return $node->poll_query_until('app', "SELECT bool_and(s.resyncs >= 1) FROM netbus.stat_watch s JOIN netbus.watches w USING (watch) WHERE w.channel IS NOT NULL");
}

# --- What is told ------------------------------------------------------------------

sql("SELECT netbus.create_model('memories', 'm')");
$session = listener('c');
my $watch = sql("SELECT netbus.watch_memories('C', tag => 'a', debounce => '0', model => 'm')");
sql("SELECT netbus.memory_store('one', tags => '{a}', id => 1, model => 'm'), netbus.memory_store('two', tags => '{b}', id => 2, model => 'm')");
@notes = notes_until($session, sub { 1 });
is_deeply($notes[0], { watch => $watch, seq => [ '1', '1' ], entered => ['1'], changed => [], left => [] }, 'a note');
sql("SELECT netbus.memory_retag(2, '{a,b}', 'm')");
is(short((notes_until($session, sub { 1 }))[0]), '+2', 'entered');
sql("SELECT netbus.memory_pin(2, 'm')");
is(short((notes_until($session, sub { 1 }))[0]), '~2', 'changed');
sql("SELECT netbus.memory_delete(2, 'm')");
is(short((notes_until($session, sub { 1 }))[0]), '-2', 'left');
sql("BEGIN; SELECT netbus.memory_store('never', tags => '{a}', id => 3, model => 'm'); ROLLBACK");
is(told($session, 'm'), '', 'nothing of a transaction that rolls back');

# Within a window.  It begins with a change, so all changes are in one transaction.
sub within
{
	my ($what, $sql, $expected) = @_;

	sql($sql);
	is(told($session, 'm'), $expected, "within a window: $what");
}

sql("SELECT netbus.watch_memories('c', tag => 'a', debounce => '100 ms', model => 'm')");
sleep 0.2;
within('A, B, A', "SELECT netbus.memory_retag(1, '{b}', 'm'), netbus.memory_retag(1, '{a}', 'm')", '~1');
within('deleted and created again', "SELECT netbus.memory_delete(1, 'm'), netbus.memory_store('anew', tags => '{a}', id => 1, model => 'm')", '~1');
within('created and deleted again', "SELECT netbus.memory_store('new', tags => '{a}', id => 4, model => 'm'), netbus.publish('memories_m', '{\"v\": 1, \"op\": \"delete\", \"id\": \"4\"}')", '');
within('several', "SELECT netbus.memory_store('new', tags => '{a}', id => i, model => 'm') FROM generate_series(5, 9) i", '+5,6,7,8,9');
within('all at once', "SELECT netbus.memory_delete(5, 'm'), netbus.memory_pin(6, 'm'), netbus.memory_store('x', tags => '{a}', id => 10, model => 'm'), netbus.memory_pin(10, 'm'),"
	. " netbus.memory_retag(7, '{}', 'm'), netbus.memory_retag(7, '{a}', 'm'), netbus.memory_delete(7, 'm')", '+10 ~6 -5,7');

# However many changes, one note a window.
my $before = sql("SELECT notifications FROM netbus.stat_watch WHERE watch = $watch");
my $begin = time();
for (1 .. 10) { sql("SELECT count(netbus.memory_pin(1, 'm')) FROM generate_series(1, 200)") }
sql("SELECT netbus.wait_for('memories_m')");
sleep 0.3;
my $windows = (time() - $begin) / 0.1 + 1;
my $after = sql("SELECT notifications FROM netbus.stat_watch WHERE watch = $watch");
cmp_ok($after - $before, '<=', $windows, 'one note a window');
cmp_ok($after - $before, '>=', 1, '... at least');
notes($session);

# More than fits.
sql("SELECT count(netbus.memory_store('many', tags => '{a}', id => i, model => 'm')) FROM generate_series(100000, 101000) i");
@notes = notes_until($session, sub { $_[0]{overflow} });
ok($notes[-1]{overflow} && !exists $notes[-1]{entered} && $notes[-1]{seq}[1] - $notes[-1]{seq}[0] >= 300, 'too many ids');
is(sql("SELECT overflows >= 1 FROM netbus.stat_watch WHERE watch = $watch"), 't', '... are counted');
sql("SELECT count(netbus.memory_delete(i, 'm')) FROM generate_series(100000, 101000) i");
notes_until($session, sub { $_[0]{overflow} });

# A shorter debounce counts for what is already waiting.
sql("SELECT netbus.watch_memories('c', tag => 'a', debounce => '1 day', model => 'm')");
sql("SELECT netbus.memory_pin(1, 'm')");
sql("SELECT netbus.wait_for('memories_m')");
sql("SELECT netbus.watch_memories('c', tag => 'a', debounce => '0', model => 'm')");
is(short((notes_until($session, sub { 1 }))[0]), '~1', 'a shorter debounce');

# No ids.
sql("SELECT netbus.watch_memories('c', tag => 'a', payload => 'none', debounce => '0', model => 'm')");
sql("SELECT netbus.memory_pin(1, 'm')");
@notes = notes_until($session, sub { keys %{ $_[0] } == 1 });
is_deeply($notes[-1], { watch => $watch }, 'payload none');
sql("SELECT netbus.watch_memories('c', tag => 'a', debounce => '10 ms', model => 'm')");

# Logs.
sql("SELECT netbus.create_log('l', shards => 2), netbus.create_log('f', durability => 'memory', format => 'bytea')");
my $log_session = listener('"Log"');
my $log_watch = sql(q(SELECT netbus.watch_log('l', '"Log"', '{"path": "n", "$gt": 5}', debounce => '50 ms')));
my $frames = sql(q(SELECT netbus.watch_log('f', '"Log"', debounce => '0')));
sql("SELECT count(netbus.publish('l', jsonb_build_object('n', n), 'key ' || n)) FROM generate_series(1, 12) n");
@notes = notes_until($log_session, sub { 1 });
is($notes[0]{events}, 7, 'a log: as many events match');
is(sql("SELECT jsonb_object_agg(s, jsonb_build_array(min::text, max::text)) FROM (SELECT s, min(seq), max(seq) FROM generate_series(0, 1) s, netbus.read('l', 0, s) r WHERE (payload->>'n')::int > 5 GROUP BY s) t"),
	sql(sprintf(q(SELECT '%s'::jsonb), encode_json($notes[0]{seq}))), '... from the first to the last of each shard');
sql("SELECT netbus.publish('l', '{\"n\": 1}')");
sql("SELECT netbus.publish('f', 'x'::bytea, transactional => false)");
@notes = notes_until($log_session, sub { 1 });
is_deeply(\@notes, [ { watch => $frames, events => '1', seq => { 0 => [ '1', '1' ] } } ], 'a memory log, whose events are bytes');

# --- Who is told ------------------------------------------------------------------

sql("CREATE ROLE watcher LOGIN IN ROLE netbus_reader; GRANT SELECT ON netbus.log_memories_m TO watcher");
my $other = listener('w');
my $owned = sql("SET ROLE watcher; SELECT netbus.watch_memories('w', tag => 'a', model => 'm', debounce => '0')");
sql("SELECT netbus.memory_pin(1, 'm')");
is(short((notes_until($other, sub { 1 }))[0]), '~1', 'a role is told');
sql("REVOKE SELECT ON netbus.log_memories_m FROM watcher");
sql("SELECT netbus.memory_pin(1, 'm')");
ok($node->poll_query_until('app', "SELECT errors = 1 AND last_error ~ 'no right' FROM netbus.stat_watch WHERE watch = $owned"), 'without the right it is not told');
sleep 0.2;
is(scalar(notes($other)), 0, '... anything');
sql("GRANT SELECT ON netbus.log_memories_m TO watcher");
# Nothing changes meanwhile.
@notes = notes_until($other, sub { 1 });
is(sql("SELECT errors FROM netbus.stat_watch WHERE watch = $owned"), 1, '... one failure, however often the right was looked for');
ok($notes[0]{resync} && $notes[0]{watch} == $owned && $notes[0]{seq} == sql("SELECT netbus.head('memories_m')"), 'with the right again it has to read anew');
sql("SELECT netbus.memory_pin(1, 'm')");
is(short((notes_until($other, sub { 1 }))[0]), '~1', '... and is told again');
sql("REVOKE SELECT ON netbus.log_memories_m FROM watcher; SELECT netbus.unwatch($owned)");

# --- Which watches there are ---------------------------------------------------------

$pid = worker_pid($node, 'app');
sql("BEGIN; SELECT netbus.watch_memories('w', model => 'm'); ROLLBACK");
sql("SELECT netbus.memory_pin(1, 'm')");
notes_until($session, sub { 1 });
sleep 0.2;
is(scalar(notes($other)), 0, 'a watch of a transaction that rolls back');
# Rows that nobody of us has written.
$offset = -s $node->logfile;
sql(<<~'SQL');
	INSERT INTO netbus.catalog_watch SELECT nextval('netbus.catalog_watch_id'), 10, 'netbus.log_memories_m', kind, 'w', filter::jsonb, 0, 'ids', now(), starts::bigint[], n
	FROM (VALUES (1, 'memories', '{"tag": 1}', '{0}'), (2, 'memories', '{"colour": "red"}', '{0}'), (3, 'tasks', '{"status": "open"}', '{0}'), (4, 'weather', NULL, '{0}'),
		(5, 'memories', '[]', '{0}'), (6, 'log', '{"path": 1}', '{0}'), (7, 'memories', NULL, '{}'), (8, 'memories', '{"updated_to": "soon"}', '{0}'), (9, 'memories', NULL, '{0}')) t(n, kind, filter, starts)
	SQL
sql("SELECT netbus.memory_pin(1, 'm')");
@notes = notes_until($other, sub { 1 });
is(scalar(@notes), 1, 'rows that make no sense are no watches, others are');
$node->wait_for_log(qr/is not served: .*colour|is not served: the filter of a watch/, $offset);
is(worker_pid($node, 'app'), $pid, '... and the worker goes on');
sql("DELETE FROM netbus.catalog_watch WHERE channel = 'w'");
sql("SELECT netbus.memory_pin(1, 'm')");
sleep 0.2;
is(scalar(notes($other)), 0, '... until they are gone');
notes($session);

# All kinds of ways to the same place.
$node->safe_psql('postgres', 'ALTER DATABASE app RENAME TO app2') if $session->quit + $other->quit + $log_session->quit >= 0;
$node->safe_psql('postgres', 'ALTER DATABASE app2 RENAME TO app');
$session = listener('c');
sql("SELECT netbus.memory_pin(1, 'm')");
is(short((notes_until($session, sub { 1 }))[0]), '~1', 'a worker that has stepped aside leaves nothing to tell');
next_worker();
sql("SELECT netbus.memory_pin(1, 'm')");
is(short((notes_until($session, sub { 1 }))[0]), '~1', 'nor does one that was terminated with nothing to tell');

# --- Dump and restore ----------------------------------------------------------------

my $dump = $node->basedir . '/app.dump';

sql("SELECT count(netbus.publish('f', 'x'::bytea)) FROM generate_series(1, 100)");
sql("SELECT netbus.watch_log('f', 'frames', debounce => '0')");

$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('app') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $dump ], 'pg_restore');
is($node->safe_psql('restored', 'SELECT watch, kind, channel, filter, debounce, payload FROM netbus.watches ORDER BY watch'),
	sql('SELECT watch, kind, channel, filter, debounce, payload FROM netbus.watches ORDER BY watch'), 'watches are dumped');
my $restored = listener('c', 'restored');
# The events of a memory log are not in a dump, and its seqs begin anew.
my $restored_log = listener('frames', 'restored');
for my $n (1, 2)
{
	$node->safe_psql('restored', "SELECT netbus.publish('f', 'x'::bytea)");
	@notes = notes_until($restored_log, sub { $_[0]{resync} || $_[0]{events} });
	ok(!$notes[-1]{timeout}, "a watch of a memory log that begins anew is told, $n");
}
$restored_log->quit;
$node->safe_psql('restored', "SELECT netbus.memory_store('here', tags => '{a}', id => 77, model => 'm')");
@notes = notes_until($restored, sub { $_[0]{overflow} || $_[0]{resync} || grep { $_ eq '77' } @{ $_[0]{entered} } });
ok(!$notes[-1]{timeout}, 'a restored watch is told');
cmp_ok($node->safe_psql('restored', "SELECT netbus.watch_memories('new', model => 'm')"), '>', sql('SELECT max(watch) FROM netbus.watches'), 'a new one has another id');
$restored->quit;
$node->safe_psql('restored', 'DROP EXTENSION netbus CASCADE');
$node->safe_psql('postgres', 'DROP DATABASE restored');

# --- Restarts ---------------------------------------------------------------------

my $pulled = sql("SELECT netbus.watch_memories(NULL, tag => 'a', model => 'm')");
my $place = sql("SELECT max(seq) FROM netbus.watch_next($pulled)");
sql("SELECT netbus.memory_pin(1, 'm')");
$session->quit;
$node->restart;
worker_runs($node, 'app');
is(sql("SELECT op || coalesce(seq::text, '') FROM netbus.watch_next($pulled, $place)"), 'resync', 'after a restart of the server there are no changes to be pulled');
cmp_ok(sql("SELECT count(*) FROM netbus.watch_next($pulled)"), '>', 1, '... but rows');
ok($node->poll_query_until('app', "SELECT resyncs >= 1 FROM netbus.stat_watch WHERE watch = $watch"), 'listeners are told to read anew');
ok($node->poll_query_until('app', "SELECT resyncs >= 1 FROM netbus.stat_watch WHERE watch = $log_watch"), '... of logs, too');
$session = listener('c');
$log_session = listener('"Log"');
sql("SELECT netbus.memory_pin(1, 'm'); SELECT netbus.publish('l', '{\"n\": 10}')");
is(short((notes_until($session, sub { 1 }))[0]), '~1', '... and then of changes');
is((notes_until($log_session, sub { 1 }))[0]{events}, 1, '... and events');
$place = sql("SELECT max(seq) FROM netbus.watch_next($pulled)");
$session->quit;
$log_session->quit;
kill_server($node);
$node->start;
worker_runs($node, 'app');
is(sql("SELECT op FROM netbus.watch_next($pulled, $place)"), 'resync', 'nor after a crash');

# --- Failures ---------------------------------------------------------------------

SKIP:
{
	skip 'no debug points', 1 if !$debug;

	all_resync();
	$session = listener('c');
	$log_session = listener('"Log"');

	# NOTIFY fails: the fold goes on, and what happens meanwhile is told when it works again.
	debug_point('notify:error');
	sql("SELECT netbus.memory_store('while it fails', tags => '{a}', id => 20, model => 'm'); SELECT netbus.publish('l', '{\"n\": 10}')");
	ok($node->poll_query_until('app', "SELECT errors >= 3 AND last_error ~ 'debug point' AND last_error_at IS NOT NULL FROM netbus.stat_watch WHERE watch = $watch"), 'failures are counted and shown');
	is(sql("SELECT content FROM netbus.memory(20, 'm')"), 'while it fails', 'the fold goes on');
	sql("SELECT netbus.memory_store('while it fails', tags => '{a}', id => 21, model => 'm'), netbus.memory_pin(1, 'm'), netbus.memory_delete(20, 'm')");
	my $errors = sql("SELECT errors FROM netbus.stat_watch WHERE watch = $watch");
	sleep 2;
	cmp_ok(sql("SELECT errors FROM netbus.stat_watch WHERE watch = $watch") - $errors, '<=', 5, '... with pauses in between');
	is(scalar(notes($session)), 0, '... and nothing is told');
	debug_point('');
	@notes = notes_until($session, sub { 1 });
	is(short($notes[0]), '+21 ~1', 'all is told when it works again');
	is((notes_until($log_session, sub { 1 }))[0]{events}, 1, '... of logs, too');

	# What is tried several times is counted once.
	my $overflows = sql("SELECT overflows FROM netbus.stat_watch WHERE watch = $watch");
	debug_point('notify:error');
	sql("SELECT count(netbus.memory_store('many', tags => '{a}', id => i, model => 'm')) FROM generate_series(100000, 101000) i");
	$errors = sql("SELECT errors FROM netbus.stat_watch WHERE watch = $watch");
	sql("SELECT netbus.wait_for('memories_m', timeout => '60 s')");
	ok($node->poll_query_until('app', "SELECT errors >= $errors + 3 FROM netbus.stat_watch WHERE watch = $watch"), 'too many ids, and no NOTIFY');
	debug_point('');
	notes_until($session, sub { $_[0]{overflow} });
	is(sql("SELECT overflows - $overflows FROM netbus.stat_watch WHERE watch = $watch"), 1, '... is one overflow');
	sql("SELECT count(netbus.memory_delete(i, 'm')) FROM generate_series(100000, 101000) i");
	notes_until($session, sub { $_[0]{overflow} });

	# The worker goes between fold and NOTIFY.
	debug_point('notify:wait');
	sql("SELECT netbus.memory_pin(1, 'm')");
	$pid = worker_pid($node, 'app');
	ok($node->poll_query_until('app', "SELECT wait_event = 'Extension' FROM pg_stat_activity WHERE pid = $pid AND query = '' OR pid = $pid AND wait_event_type = 'Extension'"), 'the worker stands still');
	sleep 0.2;
	next_worker();
	debug_point('');
	@notes = notes_until($session, sub { $_[0]{resync} });
	ok($notes[-1]{resync} && $notes[-1]{seq} >= sql("SELECT netbus.head('memories_m')"), 'what a worker could not tell, its successor says');

	# An error between a change and the look at it.
	debug_point('match:error');
	sql("SELECT netbus.memory_store('not seen', tags => '{a}', id => 30, model => 'm')");
	$node->poll_query_until('app', "SELECT last_error ~ 'match' FROM netbus.stat_worker WHERE kind = 'worker'");
	debug_point('');
	@notes = notes_until($session, sub { $_[0]{resync} });
	ok($notes[-1]{resync}, 'a change that was not seen');
	is(sql("SELECT content FROM netbus.memory(30, 'm')"), 'not seen', '... is made');
	$place = sql("SELECT max(seq) FROM netbus.watch_next($pulled)");
	debug_point('match:error');
	sql("SELECT netbus.memory_delete(30, 'm')");
	$node->poll_query_until('app', "SELECT last_error ~ 'match' AND last_error_at > now() - interval '10 s' FROM netbus.stat_worker WHERE kind = 'worker'");
	sleep 0.2;
	debug_point('');
	notes_until($session, sub { $_[0]{resync} });
	is(sql("SELECT op FROM netbus.watch_next($pulled, $place, wait => '10 s')"), 'resync', '... by those who pull, either');
	notes($session);

	# Nothing that is committed after a watch is folded before the watch is known.
	debug_point('watch_load:wait');
	my $late = listener('late');
	my $later = sql("SELECT netbus.watch_memories('late', tag => 'a', model => 'm', debounce => '0')");
	sql("SELECT netbus.memory_store('after', tags => '{a}', id => 40, model => 'm')");
	sleep 0.3;
	debug_point('');
	is(short((notes_until($late, sub { 1 }))[0]), '+40', 'a change right behind the commit of a watch');
	# Rows that cannot be read: the fold goes on, and the watch is told so later.
	debug_point('watch_load:error');
	sql("SELECT netbus.unwatch($later)");
	$later = sql("SELECT netbus.watch_memories('late', tag => 'a', model => 'm')");
	sql("SELECT netbus.memory_store('after', tags => '{a}', id => 41, model => 'm')");
	is(sql("SELECT content FROM netbus.memory(41, 'm')"), 'after', 'rows of watches that cannot be read do not stop the fold');
	debug_point('');
	@notes = notes_until($late, sub { $_[0]{watch} == $later });
	ok($notes[-1]{resync}, '... but cost a note to read anew');
	# Locked rows.
	my $locker = $node->background_psql('app');
	$locker->query_safe('BEGIN; LOCK TABLE netbus.catalog_watch');
	sql("SELECT netbus.memory_store('locked', tags => '{a}', id => 42, model => 'm')");
	is(sql("SELECT content FROM netbus.memory(42, 'm')"), 'locked', 'nor do rows that somebody has locked');
	$locker->query_safe('COMMIT');
	$locker->quit;
	$late->quit;

	# Changes while rows are read that take several steps.
	sql("SELECT count(netbus.memory_store('n', tags => '{a}', id => i, model => 'm')) FROM generate_series(1001, 5000) i");
	my $reader = $node->background_psql('app', on_error_stop => 0);
	$reader->query_safe("SET netbus.debug_point = 'watch_rows:wait'");
	my $reader_pid = $reader->query_safe('SELECT pg_backend_pid()');
	chomp $reader_pid;
	$reader->query_until(qr/started/, "\\echo started\nCREATE TABLE snapshot AS SELECT * FROM netbus.watch_next($pulled);\n\\echo ended\n");
	$node->poll_query_until('app', "SELECT wait_event = 'Extension' FROM pg_stat_activity WHERE pid = $reader_pid");
	sql("SELECT netbus.memory_delete(1001, 'm'), netbus.memory_delete(5000, 'm'), netbus.memory_retag(1002, '{}', 'm'), netbus.memory_retag(4999, '{}', 'm'),"
		. " netbus.memory_pin(1003, 'm'), netbus.memory_pin(4998, 'm'), netbus.memory_store('new', tags => '{a}', id => 900, model => 'm'), netbus.memory_store('new', tags => '{a}', id => 6000, model => 'm'),"
		. " netbus.memory_delete(1004, 'm'), netbus.memory_store('again', tags => '{a}', id => 1004, model => 'm')");
	sql("SELECT netbus.wait_for('memories_m')");
	go_on($node, $reader);
	$place = sql("SELECT max(seq) FROM snapshot");
	is($place, sql("SELECT netbus.head('memories_m')"), 'changes racing the rows: these are as of the last step');
	is(sql(<<~SQL), '', '... and nothing else');
		SELECT s.record, m.id FROM (SELECT * FROM snapshot WHERE op = 'current') s FULL JOIN netbus.memories(tag => 'a', model => 'm') m ON m.id = (s.record->>'id')::bigint
		WHERE m.content IS DISTINCT FROM s.record->>'content' OR m.pinned IS DISTINCT FROM (s.record->>'pinned')::boolean
		SQL
	is(sql("SELECT count(*) FROM netbus.watch_next($pulled, $place)"), 0, '... with no change that is told again');
	$reader->quit;
	$log_session->quit;
	$session->quit;
}

# --- Waiting -----------------------------------------------------------------------

my $waiter = $node->background_psql('app');
$place = sql("SELECT max(seq) FROM netbus.watch_next($pulled)");
$waiter->query_until(qr/started/, "\\echo started\nCREATE TABLE got AS SELECT *, clock_timestamp() - statement_timestamp() < '20 s' AS soon FROM netbus.watch_next($pulled, $place, wait => '30 s');\n\\echo ended\n");
$node->poll_query_until('app', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^CREATE TABLE got' AND wait_event = 'Extension'");
sql("SELECT netbus.memory_store('not this', tags => '{b}', id => 50, model => 'm')");
sql("SELECT netbus.memory_retag(50, '{a}', 'm')");
$waiter->query_until(qr/ended/, '');
is(sql("SELECT op, record->>'id', soon FROM got"), 'entered|50|t', 'who waits is woken');
$waiter->quit;
sql("SELECT netbus.unwatch($pulled)");
like(complaint($node, 'app', "SELECT * FROM netbus.watch_next($pulled, $place)"), qr/does not exist/, 'a watch that is gone');

# Deltas that nobody pulls are given up.
$pulled = sql("SELECT netbus.watch_tasks(NULL)");
sql("SELECT count(*) FROM netbus.watch_next($pulled)");
is(sql("SELECT kept_bytes > 0 FROM netbus.stat_watch WHERE watch = $pulled"), 't', 'changes are kept');
my $waited = sql("SELECT netbus.watch_memories(NULL, tag => 'waited', model => 'm')");
$waiter = $node->background_psql('app');
$place = sql("SELECT max(seq) FROM netbus.watch_next($waited)");
$waiter->query_until(qr/started/, "\\echo started\nCREATE TABLE told AS SELECT * FROM netbus.watch_next($waited, $place, wait => '60 s');\n\\echo ended\n");
$node->poll_query_until('app', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^CREATE TABLE told' AND wait_event = 'Extension'");
set_conf('netbus.watch_idle_timeout', '1s');
ok($node->poll_query_until('app', "SELECT kept_bytes = 0 FROM netbus.stat_watch WHERE watch = $pulled"), '... for a while');
sql("SELECT netbus.memory_store('at last', tags => '{waited}', id => 51, model => 'm')");
$waiter->query_until(qr/ended/, '');
is(sql("SELECT op, record->>'id' FROM told"), 'entered|51', '... and as long as somebody waits for more');
$waiter->quit;
# Once more, when the worker has found that there is nothing to give back and does not look any more.
sleep 11;
sql("SELECT count(*) FROM netbus.watch_next($pulled)");
ok($node->poll_query_until('app', "SELECT kept_bytes = 0 FROM netbus.stat_watch WHERE watch = $pulled"), '... whenever they were kept');

is(sql("SELECT count(*) FROM netbus.stat_watch WHERE state <> 'active'"), 0, 'all watches are active');

# Without memory for them watches are not served, which is tried again.
set_conf('netbus.watch_idle_timeout', '1h');
set_conf('netbus.watch_memory', '2MB');
for (1 .. 100)
{
	my $one = sql("SELECT netbus.watch_memories(NULL, tag => 'keep $_', model => 'm')");

	last if complaint($node, 'app', "SELECT * FROM netbus.watch_next($one)") =~ /no memory/;
}
$session = listener('many');
my $last = sql("SET netbus.max_watches_per_role = 100000; SELECT max(netbus.watch_memories('many', ids => ARRAY[1, i], model => 'm', debounce => '0')) FROM generate_series(2, 3000) i");
ok($node->poll_query_until('app', "SELECT last_error ~ 'memory' FROM netbus.stat_worker WHERE kind = 'worker'"), 'there is no memory for all watches');
sql("SELECT netbus.memory_pin(1, 'm')");
sql("SELECT netbus.wait_for('memories_m')");
is(sql("SELECT state FROM netbus.stat_watch WHERE watch = $last"), 'starting', '... and some are not served');
set_conf('netbus.watch_memory', '64MB');
@notes = notes_until($session, sub { $_[0]{watch} == $last });
ok($notes[-1]{resync}, '... until there is, and then have to read anew');
$session->quit;
sql("SELECT netbus.unwatch(watch) FROM netbus.watches WHERE channel = 'many'");

# Ids begin anew with the extension; nothing of a former watch is taken for that of another.
sql("SELECT count(*) FROM netbus.watch_next($watch)");
sql("SELECT count(netbus.memory_store('former', tags => '{a}', id => i, model => 'm')) FROM generate_series(1, 50) i");
sql("SELECT netbus.wait_for('memories_m')");
sql(<<~SQL);
	BEGIN;
	DROP EXTENSION netbus CASCADE;
	CREATE EXTENSION netbus;
	SELECT netbus.create_log('l', shards => 2), netbus.create_model('memories', 'm');
	SELECT setval('netbus.catalog_watch_id', $watch, false);
	SELECT netbus.watch_memories(NULL, tag => 'a', model => 'm');
	SELECT setval('netbus.catalog_watch_id', $log_watch, false);
	SELECT netbus.watch_log('l', '"Log"', debounce => '0');
	COMMIT;
	SQL
$log_session = listener('"Log"');
sql("SELECT netbus.publish('l', '1', 'key'), netbus.memory_store('new', tags => '{a}', id => 1, model => 'm')");
is(sql("SELECT op, record->>'content' FROM netbus.watch_next($watch)"), "current|new\nready|", 'a watch with the id of another: its rows');
is(sql("SELECT count(*) FROM netbus.watch_next($watch, 1)"), 0, '... and changes');
is((notes_until($log_session, sub { 1 }))[0]{events}, 1, '... and its place in a log');
is(sql("SELECT string_agg(matches::text, ',' ORDER BY watch) FROM netbus.stat_watch WHERE watch IN ($watch, $log_watch)"), '1,1', '... and counts');
$log_session->quit;

sql('DROP EXTENSION netbus CASCADE');
sql('CREATE EXTENSION netbus');
worker_runs($node, 'app');
is(sql('SELECT count(*) FROM netbus.stat_watch'), 0, 'none is left');

$node->stop;
done_testing();
