# The randomised model check: every event of memories and tasks in random
# sequences, against tables that are maintained in the same transactions; after each round
# every filter, order and page is compared.  Meanwhile others read, processes
# are killed, the server restarts, snapshots are written.  "make soak" goes on for
# MODEL_MINUTES, with what happens at random.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use NetbusTest;
use NetbusWorkload;
use NetbusModels;

my $seed = $ENV{SEED} || int(time() * 1000) % 1_000_000_007;
my $seconds_in_all = 60 * ($ENV{MODEL_MINUTES} || 0);
my $limit = $seconds_in_all || 35;

diag("SEED=$seed");
srand($seed);

my $node = netbus_node('main', 'jit = off', 'wal_writer_delay = 1s', 'log_statement = none', 'log_min_duration_statement = -1',
	'netbus.snapshot_interval = 1s', 'netbus.snapshot_events = 500');
my $start = time();

netbus_db($node, 'app');
models_init($node, 'app');

sub victim
{
	my ($what) = @_;

	return $node->safe_psql('app', "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL $what%' ORDER BY random() LIMIT 1");
}

sub kill_one
{
	my ($pid) = @_;
	my $offset = -s $node->logfile;

	await_recovery($node, 'app', $offset) if $pid && kill('KILL', $pid);
}

sub snapshot
{
	$node->safe_psql('app', "SELECT netbus.snapshot_model('memories')");
}

my @events = (
	[ 'nothing', sub { } ],
	[ 'snapshots', sub { snapshot() for 1 .. 3 } ],
	[ 'fast restart', sub { $node->restart } ],
	[ 'snapshot, then kill -9 of the worker', sub { snapshot(); sleep(rand(0.3)); kill_one(worker_pid($node, 'app')) } ],
	[ 'kill -9 of a writer', sub { kill_one(victim('change_')) } ],
	[ 'immediate stop during a snapshot', sub {
			my $session = background_sql($node, 'app', "SELECT netbus.snapshot_model('tasks')");
			sleep(rand(0.05));
			$node->stop('immediate');
			$node->start;
			$session->finish;
		} ],
	[ 'kill -9 of a reader', sub { kill_one(victim('watch_')) } ],
	[ 'pg_terminate_backend() of the worker', sub { $node->safe_psql('app', "SELECT pg_terminate_backend($_)") for worker_pid($node, 'app') || () } ],
	[ 'VACUUM FULL and REINDEX of the logs', sub { $node->safe_psql('app', $_) for 'VACUUM FULL netbus.log_memories', 'REINDEX TABLE netbus.log_tasks', 'VACUUM FULL netbus.log_tasks' } ],
	[ 'snapshot, then fast restart', sub { snapshot(); sleep(rand(0.3)); $node->restart } ],
	[ 'kill -9 of all', sub { kill_server($node); $node->start } ]);

# All models go, and come again: it also keeps the long form quick.
sub begin_anew
{
	$node->safe_psql('app', <<~'SQL');
		BEGIN;
		SELECT netbus.drop_model('memories', 'default'), netbus.drop_model('tasks', 'default'), netbus.drop_model('memories', 'versions');
		TRUNCATE memory_row, task_row, version_row, event_count;
		SELECT netbus.create_model('memories', 'default'), netbus.create_model('tasks', 'default'), netbus.create_model('memories', 'versions');
		COMMIT;
		SQL
}

my $problems = '';
for (my $n = 0; $problems eq '' && ($seconds_in_all || $n < @events) && time() - $start < $limit; $n++)
{
	my ($what, $happen) = @{ $events[ $seconds_in_all ? rand(@events) : $n ] };
	my $offset = -s $node->logfile;
	my $seconds = $seconds_in_all ? 0.5 + rand(4) : 0.6 + rand(1);
	my @busy = model_writers($node, 'app', $seconds_in_all ? 1 + int(rand(4)) : 2, $seconds);

	sleep($seconds * rand(0.8));
	$happen->();
	worker_runs($node, 'app');
	await_sql(@busy);
	$problems = model_problems($node, 'app', 120, $offset);
	is($problems, '', "$what: models and tables are the same");
	begin_anew() if $seconds_in_all && rand() < 0.15;
}
is($node->safe_psql('app', 'SELECT count(*) FROM netbus.model_error'), 0, 'no event was bad');
is($node->safe_psql('app', 'SELECT sum(lost) FROM netbus.stat_model'), 0, '... nor lost');
diag($node->safe_psql('app', "SELECT string_agg(format('%s %s: %s events, %s records', kind, model, folded_seq, records), '; ') FROM netbus.stat_model"));
$node->stop;
done_testing();
