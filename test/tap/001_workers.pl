# Workers and the launcher: where the extension is, there is a worker; where it
# is not, there is none; and nothing that one can do to a database, a process or
# the server changes that for long.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $RUNNING = "SELECT count(*) = 1 FROM netbus.stat_worker WHERE kind = 'worker' AND state = 'running'";
my $PID = "SELECT pid FROM netbus.stat_worker WHERE kind = 'worker' AND state = 'running'";

sub start_node
{
	my ($name, @conf) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	# The common code sets restart_after_crash = off.
	$node->init(allows_streaming => 1);
	$node->append_conf('postgresql.conf', join("\n",
		"shared_preload_libraries = 'netbus'", 'max_prepared_transactions = 4',
		'restart_after_crash = on', 'allow_in_place_tablespaces = on',
		"log_line_prefix = '%m [%p] %b '", @conf, ''));
	$node->start;
	return $node;
}

# There is a worker in the database, and another one than before, if given.
sub worker_runs
{
	my ($node, $db, $what, $before) = @_;
	my $query = $RUNNING . (defined $before ? " AND pid <> $before" : '');

	ok($node->poll_query_until($db, $query), $what);
	return $node->safe_psql($db, $PID);
}

sub workers_in
{
	my ($node, $db) = @_;
	return $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'netbus worker' AND datname = '$db'");
}

sub worker_leaves
{
	my ($node, $db, $what) = @_;
	ok($node->poll_query_until('postgres',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'netbus worker' AND datname = '$db'"), $what);
}

# All that was asked of the launcher so far has been done, because it serves
# requests in order: a worker that it starts last is there.
sub launcher_is_idle
{
	my ($node) = @_;
	$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS marker');
	$node->safe_psql('postgres', 'CREATE DATABASE marker');
	$node->safe_psql('marker', 'CREATE EXTENSION netbus');
	$node->poll_query_until('marker', $RUNNING) or die 'the launcher is stuck';
	$node->safe_psql('postgres', 'DROP DATABASE marker');
}

sub lines_of_log
{
	my ($node, $pattern, $offset) = @_;
	my $count = () = substr(slurp_file($node->logfile), $offset // 0) =~ /$pattern/g;
	return $count;
}

# --- The extension comes and goes -------------------------------------------

my $node = start_node('main');
my ($pid, $other, $result, $stdout, $stderr, $offset);

is($node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'netbus launcher' AND datname IS NULL"),
	'1', 'the launcher runs, connected to no database');

$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', 'CREATE EXTENSION netbus');
$pid = worker_runs($node, 'app', 'CREATE EXTENSION starts a worker');
is($node->safe_psql('postgres', "SELECT backend_type, application_name, datname FROM pg_stat_activity WHERE pid = $pid"),
	'netbus worker|netbus worker for database app|app', 'the worker is recognisable in pg_stat_activity');
is($node->safe_psql('app',
		"SELECT kind, database, pid IS NOT NULL, state, started <= now(), restarts, last_error, last_error_at FROM netbus.stat_worker ORDER BY kind"),
	"launcher||t|running|t|0||\nworker|app|t|running|t|0||", 'stat_worker shows both');
is(workers_in($node, 'postgres'), '0', 'there is none in a database without the extension');

is($node->safe_psql('app', <<~'SQL'), "t|f|t|t", 'rights: PUBLIC may not see it, pg_monitor and netbus_admin may');
	SELECT pg_has_role('netbus_admin', 'netbus_reader', 'MEMBER') AND pg_has_role('netbus_admin', 'netbus_writer', 'MEMBER'),
		has_table_privilege('public', 'netbus.stat_worker', 'SELECT') OR has_function_privilege('public', 'netbus.stat_get_worker()', 'EXECUTE'),
		has_table_privilege('pg_monitor', 'netbus.stat_worker', 'SELECT') AND has_schema_privilege('pg_monitor', 'netbus', 'USAGE'),
		has_table_privilege('netbus_admin', 'netbus.stat_worker', 'SELECT') AND has_function_privilege('netbus_admin', 'netbus.stat_get_worker()', 'EXECUTE')
	SQL

$offset = -s $node->logfile;
$node->restart;
worker_runs($node, 'app', 'a restarted server finds the extension again');
$node->stop('smart');
$node->start;
worker_runs($node, 'app', 'the same after a smart shutdown');
unlike(substr(slurp_file($node->logfile), $offset), qr/terminating background worker "netbus/,
	'at a shutdown launcher and worker leave by themselves');

$node->safe_psql('app', 'DROP EXTENSION netbus CASCADE');
worker_leaves($node, 'app', 'DROP EXTENSION stops the worker');

$node->safe_psql('app', 'BEGIN; CREATE EXTENSION netbus; ROLLBACK');
launcher_is_idle($node);
is(workers_in($node, 'app'), '0', 'a rolled-back CREATE EXTENSION starts none');

$node->safe_psql('app', 'CREATE EXTENSION netbus');
$pid = worker_runs($node, 'app', 'CREATE EXTENSION once more');
$node->safe_psql('app', 'BEGIN; DROP EXTENSION netbus CASCADE; ROLLBACK');
launcher_is_idle($node);
is($node->safe_psql('app', $PID), $pid, 'a rolled-back DROP EXTENSION leaves the worker alone');

for (1 .. 5)
{
	$node->safe_psql('app', 'DROP EXTENSION netbus CASCADE');
	$node->safe_psql('app', 'CREATE EXTENSION netbus');
}
worker_runs($node, 'app', 'dropped and created again in a hurry');

$node->safe_psql('app', 'DROP EXTENSION netbus CASCADE');
$node->safe_psql('app', <<~'SQL');
	CREATE ROLE installer SUPERUSER;
	SET SESSION AUTHORIZATION installer;
	CREATE EXTENSION netbus;
	SQL
worker_runs($node, 'app', 'installed by another role');
$node->safe_psql('app', 'DROP OWNED BY installer CASCADE');
worker_leaves($node, 'app', 'DROP OWNED stops the worker');

($result, $stdout, $stderr) = $node->psql('app', "BEGIN; CREATE EXTENSION netbus; PREPARE TRANSACTION 'p'");
like($stderr, qr/cannot PREPARE a transaction that has created or dropped extension "netbus"/,
	'CREATE EXTENSION cannot be prepared');

# --- Commands that need the database for themselves --------------------------

$node->safe_psql('app', 'CREATE EXTENSION netbus');
$pid = worker_runs($node, 'app', 'for the commands that follow');

$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE app');
pass('CREATE DATABASE ... TEMPLATE');
$pid = worker_runs($node, 'app', '... the worker of the template comes back', $pid);
worker_runs($node, 'copy', '... and the copy has one, too');

$node->safe_psql('postgres', 'DROP DATABASE copy');
pass('DROP DATABASE');
launcher_is_idle($node);

$node->safe_psql('template1', 'CREATE EXTENSION netbus');
worker_runs($node, 'template1', 'a worker in template1');
$node->safe_psql('postgres', 'CREATE DATABASE plain');
worker_runs($node, 'plain', 'CREATE DATABASE from the default template');
$node->safe_psql('postgres', 'DROP DATABASE plain');
$node->safe_psql('template1', 'DROP EXTENSION netbus CASCADE');
worker_leaves($node, 'template1', 'and gone again');

$node->safe_psql('postgres', 'ALTER DATABASE app RENAME TO app2');
$pid = worker_runs($node, 'app2', 'ALTER DATABASE ... RENAME', $pid);
is($node->safe_psql('postgres', "SELECT application_name FROM pg_stat_activity WHERE pid = $pid"),
	'netbus worker for database app2', '... the worker knows the new name');
$node->safe_psql('postgres', 'ALTER DATABASE app2 RENAME TO app');
$pid = worker_runs($node, 'app', '... and back');

($result, $stdout, $stderr) = $node->psql('postgres', 'ALTER DATABASE app RENAME TO postgres');
like($stderr, qr/database "postgres" already exists/, 'a RENAME that fails');
$pid = worker_runs($node, 'app', '... releases its hold', $pid);

$node->safe_psql('postgres', 'BEGIN; ALTER DATABASE app RENAME TO other; ROLLBACK');
$pid = worker_runs($node, 'app', 'so does one that is rolled back', $pid);

# An open transaction keeps the database locked; its hold keeps workers from
# queuing up behind that lock, and the launcher free for other databases.
my $session = $node->background_psql('postgres');
my $session_pid = $session->query_safe('SELECT pg_backend_pid()');
chomp $session_pid;
$session->query_safe('BEGIN; ALTER DATABASE app RENAME TO other');
launcher_is_idle($node);
is(workers_in($node, 'app'), '0', 'no worker while a RENAME is in progress');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($session_pid)");
eval { $session->quit };
$pid = worker_runs($node, 'app', 'a terminated session releases its hold', $pid);

$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION ''");
$node->safe_psql('postgres', 'ALTER DATABASE app SET TABLESPACE elsewhere');
$pid = worker_runs($node, 'app', 'ALTER DATABASE ... SET TABLESPACE', $pid);

$node->safe_psql('postgres', 'CREATE ROLE plain_user LOGIN CREATEDB');
for my $command ('DROP DATABASE app', 'CREATE DATABASE mine TEMPLATE app', 'ALTER DATABASE app RENAME TO mine',
	'ALTER DATABASE app SET TABLESPACE pg_default')
{
	($result, $stdout, $stderr) = $node->psql('postgres', $command, extra_params => ['-U', 'plain_user']);
	like($stderr, qr/must be owner|permission denied/, "not allowed: $command");
}
launcher_is_idle($node);
is($node->safe_psql('app', $PID), $pid, '... and the worker did not move');

($result, $stdout, $stderr) = $node->psql('app', 'DROP DATABASE app');
like($stderr, qr/cannot drop the currently open database/, 'nobody drops the current database');
is($node->safe_psql('app', $PID), $pid, '... and the worker did not move');

$node->safe_psql('postgres', 'ALTER DATABASE app ALLOW_CONNECTIONS false');
$node->restart;
launcher_is_idle($node);
is(workers_in($node, 'app'), '0', 'no worker in a database that allows no connections');
$node->safe_psql('postgres', 'ALTER DATABASE app ALLOW_CONNECTIONS true');
$pid = worker_runs($node, 'app', '... until it does');

# --- Processes that end --------------------------------------------------------

$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
$pid = worker_runs($node, 'app', 'a terminated worker comes back', $pid);
is($node->safe_psql('app', "SELECT restarts, last_error ~ 'terminating background worker', last_error_at IS NOT NULL FROM netbus.stat_worker WHERE kind = 'worker'"),
	'1|t|t', '... and stat_worker says why it went');

my $launcher = $node->safe_psql('app', "SELECT pid FROM netbus.stat_worker WHERE kind = 'launcher'");
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
ok($node->poll_query_until('app', "SELECT pid <> $launcher AND restarts = 1 FROM netbus.stat_worker WHERE kind = 'launcher'"),
	'a terminated launcher comes back');
launcher_is_idle($node);
is($node->safe_psql('app', $PID), $pid, '... and leaves the running worker alone');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
$pid = worker_runs($node, 'app', '... but restarts it, though another launcher had started it', $pid);

kill 'KILL', $pid;
$pid = worker_runs($node, 'app', 'a killed worker comes back after the crash restart', $pid);

SKIP:
{
	($result) = $node->psql('app', 'SHOW netbus.debug_point');
	skip 'needs a build with NETBUS_DEBUG', 3 if $result != 0;

	$node->safe_psql('app', "ALTER SYSTEM SET netbus.debug_point = 'worker_run:error'");
	$node->reload;
	ok($node->poll_query_until('app', "SELECT restarts >= 2 AND state = 'backing off' FROM netbus.stat_worker WHERE kind = 'worker'"),
		'a worker that fails is restarted with a back-off');
	is($node->safe_psql('app', "SELECT last_error FROM netbus.stat_worker WHERE kind = 'worker'"),
		'debug point "worker_run"', '... and stat_worker shows the error');
	$node->safe_psql('app', 'ALTER SYSTEM RESET netbus.debug_point');
	$node->reload;
	worker_runs($node, 'app', '... until it works');
}

# --- A standby -----------------------------------------------------------------

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('app', "SELECT string_agg(state, ',') FROM netbus.stat_worker"),
	'stopped,stopped', 'nothing runs on a standby');
$standby->promote;
worker_runs($standby, 'app', 'a promoted standby starts its workers');
$standby->stop;
$node->stop;

# --- Limits --------------------------------------------------------------------

# One slot for the launcher and one for a worker.
$node = start_node('few_processes', 'max_worker_processes = 2', 'max_logical_replication_workers = 0',
	'max_parallel_workers = 0');
$node->safe_psql('postgres', 'CREATE EXTENSION netbus');
$pid = worker_runs($node, 'postgres', 'the only worker that max_worker_processes allows');
$node->safe_psql('postgres', 'CREATE DATABASE second');
$node->safe_psql('second', 'CREATE EXTENSION netbus');
my $ERROR_AT = "SELECT last_error_at FROM netbus.stat_worker WHERE kind = 'worker'";
ok($node->poll_query_until('second', "SELECT state = 'backing off' AND last_error ~ 'max_worker_processes' FROM netbus.stat_worker WHERE kind = 'worker'"),
	'a second one has to wait, and stat_worker says for what');
for (1 .. 2)
{
	my $at = $node->safe_psql('second', $ERROR_AT);
	$node->poll_query_until('second', "SELECT ($ERROR_AT) > '$at'") or die 'no retry';
}
is(lines_of_log($node, qr/LOG:  no background worker slot is free/), 1, '... and the log says it once, not at every retry');
is($node->safe_psql('postgres', $PID), $pid, '... and the first one was not disturbed');
$node->safe_psql('postgres', 'DROP EXTENSION netbus CASCADE');
worker_runs($node, 'second', '... and starts when there is room');
$node->stop;

$node = start_node('few_databases', 'netbus.max_databases = 1');
$node->safe_psql('postgres', 'CREATE EXTENSION netbus');
worker_runs($node, 'postgres', 'the only worker that netbus.max_databases allows');
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(second third);
$node->safe_psql($_, 'CREATE EXTENSION netbus') for qw(second third);
ok($node->poll_query_until('postgres', 'SELECT true') && $node->wait_for_log(qr/netbus\.max_databases \(1\)/),
	'a second one is refused');
worker_leaves($node, $_, "no worker stays in database $_") for qw(second third);
is(lines_of_log($node, qr/netbus\.max_databases \(1\)/), 1, '... and the log says it once');
is($node->safe_psql('second', "SELECT state FROM netbus.stat_worker WHERE kind = 'worker'"), 'stopped',
	'... and stat_worker shows that there is none');
$node->safe_psql('postgres', 'DROP EXTENSION netbus CASCADE');
ok($node->poll_query_until('postgres',
		"SELECT string_agg(datname, ',') IN ('second', 'third') FROM pg_stat_activity WHERE backend_type = 'netbus worker'"),
	'... and one starts when there is room');
$node->stop;

# --- Without shared_preload_libraries ------------------------------------------

$node = PostgreSQL::Test::Cluster->new('not_preloaded');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION netbus');
pass('CREATE EXTENSION works without preloading');
($result, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT * FROM netbus.stat_worker");
like($stderr, qr/55000: netbus must be loaded through shared_preload_libraries\nHINT:  Add netbus to shared_preload_libraries in postgresql\.conf, then restart the server\./,
	'... its functions say what is missing');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'netbus'");
$node->restart;
worker_runs($node, 'postgres', '... and after that the worker starts');
$node->stop;

done_testing();
