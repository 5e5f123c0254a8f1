# Writers all of whose events can be accounted for, whatever happened to the
# server meanwhile (see workload.sql), and the ways in which things happen to it.

package NetbusWorkload;

use strict;
use warnings;

use Exporter 'import';
use File::Basename;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(usleep);
use NetbusTest;

our @EXPORT = qw(workload_init writers next_run background_sql await_sql worker_pid kill_server await_recovery
  log_problems retained_become);

my $run = 0;

# The number of the next run, by which events and seqs of different times are told apart.
sub next_run
{
	return ++$run;
}

sub workload_init
{
	my ($node, $db) = @_;

	$node->safe_psql($db, slurp_file(dirname(__FILE__) . '/workload.sql'));
}

# Statements that run in a session of their own until they end or are killed.
sub background_sql
{
	my ($node, $db, $sql) = @_;

	return IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-d', $node->connstr($db), '-c', $sql ],
		'<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
}

# Wait for such sessions.  True if all of them ended without an error.
sub await_sql
{
	my $all = 1;

	$all &= $_->finish for @_;
	return $all;
}

# Writers to some logs, as a run of their own.
#   writers($node, 'app', 3, logs => ['c', 'a'], free => ['a'], seconds => 2, seed => 0.5)
sub writers
{
	my ($node, $db, $n, %how) = @_;
	my $number = next_run();
	my ($logs, $free) = map { q('{) . join(',', @{ $how{$_} // [] }) . q(}') } qw(logs free);

	return map {
		background_sql($node, $db, sprintf('CALL churn(%d, %d, %s, %s, %g, %.6f)', $number, $_, $logs, $free,
				$how{seconds} // 60, $how{seed} // rand()))
	} 1 .. $n;
}

sub worker_pid
{
	my ($node, $db) = @_;

	return $node->safe_psql($db, "SELECT pid FROM netbus.stat_worker WHERE kind = 'worker' AND state = 'running'");
}

sub parent_of
{
	my ($pid) = @_;
	my $stat = '';

	if (open my $fh, '<', "/proc/$pid/stat")
	{
		$stat = <$fh> // '';
		close $fh;
	}
	return $stat =~ /.*\) \w (\d+)/s ? $1 : 0;
}

# kill -9 of the postmaster, then of all that it has started.
sub kill_server
{
	my ($node) = @_;
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @children = grep { parent_of($_) == $postmaster } map { m{(\d+)$} } glob('/proc/[0-9]*');

	$node->kill9;
	kill 'KILL', @children;
	# Somebody has to take note of their death, too: the lock file asks for the process.
	for (1 .. 100 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if !kill(0, $postmaster, @children);
		usleep(10_000);
	}
}

# Wait until a crash restart is over, without asking too early.
sub await_recovery
{
	my ($node, $db, $offset) = @_;

	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	$node->poll_query_until($db, 'SELECT true') or die 'the server does not come back';
	worker_runs($node, $db);
}

# What is wrong with a log that only such writers have written to; empty if nothing.
# whole: it has lost nothing.
sub log_problems
{
	my ($node, $db, $log, $whole) = @_;

	return $node->safe_psql($db, sprintf(
			q(SELECT format('%%s: %%s (%%s), e.g. %%s', '%s', problem, events, example) FROM problems('%s', %s) ORDER BY 1),
			$log, $log, $whole ? 'true' : 'false'));
}

# The counters agree with what log_problems() has read.  The worker counts in the
# background after an unclean stop.
sub retained_become
{
	my ($node, $db, $log) = @_;

	return $node->poll_query_until($db,
		"SELECT bool_and(s.retained = r.events) FROM netbus.stat_log s JOIN retained r USING (log, shard) WHERE log = '$log'");
}

1;
