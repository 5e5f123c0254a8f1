# Those who do nothing but listen, or pull, have what the query returns: at the end of
# random changes by several sessions, while workers are terminated, fail or are
# killed.  Notes are believed as they are: what has entered was no row, what has
# changed or left was one.

use strict;
use warnings;

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use NetbusTest;
use NetbusWorkload;
use NetbusModels;

my $seed = $ENV{SEED} || int(time() * 1000) % 1_000_000_007;

diag("SEED=$seed");
srand($seed);

my $node = netbus_node('main', 'jit = off', 'max_connections = 40', 'log_statement = none', 'log_min_duration_statement = -1', 'netbus.watch_buffer = 4MB');

netbus_db($node, 'app');
models_init($node, 'app');
my $debug = debug_build($node, 'app');

# What is watched, and the rows as a listener has them.
my %queries;
my (%rows, %told);
my $filters = {
	memories => [ '', "tag => 'red',", "any_tags => '{green,blue}',", "all_tags => '{red,green}',", "source => 'a',", "scope => 's', pinned => true,", "source => 'b', tag => 'red',",
		'pinned => true,', "content_contains => 'coffee',", "content_contains => 'istanbul', scope => 't',", "created_from => '2020-02-01+00', source => 'c',", "tag => 'x', ids => '{1,2,3,4,5,6,7,8,9,10}'," ],
	tasks => [ '', "status => 'pending',", "status => 'completed', scope => 's',", "title_contains => 'tea'," ] };

for my $kind (sort keys %$filters)
{
	for my $filter (@{ $filters->{$kind} })
	{
		my $watch = $node->safe_psql('app', sprintf("SELECT netbus.watch_%s('changes', %s debounce => '%d ms')", $kind, $filter, (0, 5, 50)[ rand(3) ]));

		$queries{$watch} = "SELECT id FROM netbus.$kind($filter max_rows => NULL)";
	}
}
$node->safe_psql('app', <<~'SQL');
	CREATE TABLE mirror (watch bigint, id bigint, record jsonb, PRIMARY KEY (watch, id));
	CREATE TABLE place (watch bigint PRIMARY KEY, seq bigint, resyncs int NOT NULL DEFAULT 0);
	CREATE FUNCTION pull(w bigint) RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		r record;
		n int := 0;
	BEGIN
		FOR r IN SELECT * FROM netbus.watch_next(w, (SELECT seq FROM place WHERE watch = w), 1000, random() * interval '20 ms') LOOP
			n := n + 1;
			INSERT INTO place VALUES (w, r.seq) ON CONFLICT (watch) DO UPDATE SET seq = r.seq, resyncs = place.resyncs + (r.op = 'resync')::int;
			CASE r.op
				WHEN 'resync' THEN DELETE FROM mirror WHERE watch = w;
				WHEN 'left' THEN
					DELETE FROM mirror WHERE watch = w AND id = (r.record->>'id')::bigint;
					ASSERT FOUND, format('watch %s: %s has left at %s and was no row', w, r.record->>'id', r.seq);
				WHEN 'changed' THEN
					UPDATE mirror SET record = r.record WHERE watch = w AND id = (r.record->>'id')::bigint;
					ASSERT FOUND, format('watch %s: %s has changed at %s and was no row', w, r.record->>'id', r.seq);
				WHEN 'ready' THEN NULL;
				ELSE INSERT INTO mirror VALUES (w, (r.record->>'id')::bigint, r.record);
			END CASE;
		END LOOP;
		RETURN n;
	END $$;
	CREATE PROCEDURE pull_for(w bigint, seconds float8) LANGUAGE plpgsql AS $$
	DECLARE
		ends timestamptz := clock_timestamp() + seconds * interval '1 s';
	BEGIN
		WHILE clock_timestamp() < ends LOOP
			PERFORM pull(w);
			COMMIT;
		END LOOP;
	END $$;
	SQL
my @pulled = map { $node->safe_psql('app', "SELECT netbus.watch_memories(NULL, $_ debounce => '0')") } '', "tag => 'red',", "any_tags => '{green,blue}', pinned => true,";
$queries{$_} = "SELECT (record->>'id')::bigint FROM netbus.watch_next($_) WHERE op = 'current'" for @pulled;

my $session;

sub begin_listening
{
	$session = $node->background_psql('app', on_error_stop => 0);
	$session->set_query_timer_restart;
	$session->query_safe('LISTEN changes');
}

sub read_anew
{
	my ($watch) = @_;

	$rows{$watch} = { map { $_ => 1 } split /\n/, $node->safe_psql('app', $queries{$watch}) };
}

my @problems;

# Believe what has been told.
sub follow
{
	my $out = $session->query('SELECT 1');

	for my $note (map { decode_json($_) } $out =~ /with payload "(\{.*?\})" received/g)
	{
		my $watch = $note->{watch};
		my $rows = $rows{$watch};

		$told{ $note->{resync} ? 'resync' : $note->{overflow} ? 'overflow' : 'ids' }++;
		if ($note->{resync} || $note->{overflow})
		{
			read_anew($watch);
			$told{"$watch since"} = $node->safe_psql('app', "SELECT netbus.head(log) FROM netbus.watches WHERE watch = $watch");
			next;
		}
		# What was read anew may have been newer.
		my $believe = $note->{seq}[0] > ($told{"$watch since"} // 0);

		push @problems, "$watch: not in order" if $note->{seq}[0] <= ($told{"$watch seq"} // 0) || $note->{seq}[1] < $note->{seq}[0];
		$told{"$watch seq"} = $note->{seq}[1];
		for my $id (@{ $note->{entered} })
		{
			push @problems, "$watch: $id has entered twice" if $believe && $rows->{$id};
			$rows->{$id} = 1;
		}
		for my $id (@{ $note->{changed} })
		{
			push @problems, "$watch: $id has changed and was no row" if $believe && !$rows->{$id};
			$rows->{$id} = 1;
		}
		for my $id (@{ $note->{left} })
		{
			push @problems, "$watch: $id has left and was no row" if $believe && !$rows->{$id};
			delete $rows->{$id};
		}
	}
}

# Watches whose rows are not those of the query.
sub wrong
{
	my @wrong;

	for my $watch (grep { my $w = $_; !grep { $_ == $w } @pulled } sort keys %queries)
	{
		my $queried = join ' ', sort split /\n/, $node->safe_psql('app', $queries{$watch});

		push @wrong, "$watch, $queries{$watch}" if $queried ne join ' ', sort keys %{ $rows{$watch} };
	}
	return join "\n", @wrong;
}

sub wrong_pulled
{
	my @wrong;

	for my $watch (@pulled)
	{
		1 while $node->safe_psql('app', "SELECT pull($watch)") > 0;
		push @wrong, $node->safe_psql('app', <<~SQL) || ();
			SELECT 'watch $watch: ' || coalesce(m.id, n.id) FROM (SELECT * FROM mirror WHERE watch = $watch) m
				FULL JOIN (SELECT (record->>'id')::bigint AS id, record FROM netbus.watch_next($watch) WHERE op = 'current') n ON m.id = n.id
			WHERE m.record IS DISTINCT FROM n.record LIMIT 5
			SQL
	}
	return join "\n", @wrong;
}

sub terminate
{
	my $pid = worker_pid($node, 'app');

	$node->safe_psql('app', "SELECT pg_terminate_backend($pid)") if $pid;
}

sub failing
{
	my ($point) = @_;

	$node->safe_psql('app', "ALTER SYSTEM SET netbus.debug_point = '$point'");
	$node->safe_psql('app', 'SELECT pg_reload_conf()');
}

sub fail_at
{
	my ($point) = @_;

	failing("$point:error");
	# Who reads anew waits for the fold.
	sleep 0.5;
	failing('');
}

begin_listening();
read_anew($_) for keys %queries;
follow();

for my $step (
	[ 'nothing', sub { } ],
	[ 'a worker that is terminated', \&terminate ],
	$debug ? ([ 'NOTIFY that fails', sub { fail_at('notify') } ], [ 'changes that are not seen', sub { fail_at('match') } ],
		[ 'folding that fails', sub { fail_at('fold') } ], [ 'rows of watches that cannot be read', sub { fail_at('watch_load') } ]) : (),
	[ 'snapshots', sub { $node->safe_psql('app', "SELECT netbus.snapshot_model('memories')") for 1 .. 2 } ],
	[ 'kill -9 of the worker', sub {
			my $offset = -s $node->logfile;

			kill 'KILL', worker_pid($node, 'app');
			await_recovery($node, 'app', $offset);
			$session->{run}->kill_kill if $session->{run};
			%told = (ids => $told{ids}, resync => $told{resync}, overflow => $told{overflow});
			begin_listening();
			read_anew($_) for keys %queries;
			$told{"$_ since"} = $node->safe_psql('app', "SELECT netbus.head(log) FROM netbus.watches WHERE watch = $_") for keys %queries;
		} ])
{
	my ($what, $happen) = @$step;
	my $seconds = 2;
	my @busy = (model_writers($node, 'app', 2, $seconds), map { background_sql($node, 'app', "CALL pull_for($_, $seconds)") } @pulled);
	my $begin = time();
	my $happened = 0;
	my $ended;

	while (time() - $begin < $seconds)
	{
		follow();
		if (!$happened && time() - $begin > $seconds / 3)
		{
			$happen->();
			$happened = 1;
		}
		sleep 0.03;
	}
	$ended = await_sql(@busy);
	worker_runs($node, 'app');
	$node->safe_psql('app', "SELECT netbus.wait_for('memories'), netbus.wait_for('tasks')");
	# What the last windows had is told within a pause after the last failure.
	for (1 .. 300)
	{
		follow();
		last if wrong() eq '';
		sleep 0.1;
	}
	is(wrong(), '', "$what: who listens has what there is");
	is(join("\n", splice @problems), '', '... and was told nothing that cannot be');
	is(wrong_pulled(), '', '... and so has who pulls');
	# Nothing has happened to them, then.
	ok($ended, '... and no change was told that cannot be') if $what ne 'kill -9 of the worker';
}
note(join ', ', map { "$_: " . ($told{$_} // 0) } qw(ids overflow resync));
cmp_ok($told{ids}, '>', 100, 'much was told');
$session->quit;
$node->stop;
done_testing();
