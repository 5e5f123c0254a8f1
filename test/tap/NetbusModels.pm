# Models that change at random beside tables that must have the same (see models.sql).

package NetbusModels;

use strict;
use warnings;

use Exporter 'import';
use File::Basename;
use PostgreSQL::Test::Utils;
use NetbusTest;
use NetbusWorkload;

our @EXPORT = qw(models_init model_writers model_problems models_ready);

sub models_init
{
	my ($node, $db) = @_;

	$node->safe_psql($db, slurp_file(dirname(__FILE__) . '/models.sql'));
	$node->safe_psql($db, "SELECT netbus.create_model('memories', 'default'), netbus.create_model('tasks', 'default'), netbus.create_model('memories', 'versions')");
}

# Sessions that change models, and readers, for so many seconds.
sub model_writers
{
	my ($node, $db, $n, $seconds) = @_;

	return map { background_sql($node, $db, sprintf('CALL %s(%g, %.6f)', $_, $seconds, rand())) }
	  (('change_models') x $n, 'change_versions', 'watch_versions', 'watch_versions');
}

# What is wrong; empty if nothing.  $offset: in the server log.
sub model_problems
{
	my ($node, $db, $queries, $offset) = @_;
	my $log = slurp_file($node->logfile, $offset);

	return join "\n", $node->safe_psql($db, sprintf("SELECT setseed(%.6f) \\gset\nSELECT * FROM differences(%d) LIMIT 10", rand(), $queries)) || (),
	  (grep { defined } ($log =~ /(model check: .*)/g)[ 0 .. 9 ]),
	  (grep { defined } ($log =~ /\[\d+\] .*?((?:PANIC|TRAP): .*)/g)[0]);
}

sub models_ready
{
	my ($node, $db) = @_;

	return $node->poll_query_until($db, "SELECT count(*) > 0 AND bool_and(state = 'ready' AND lag = 0) FROM netbus.stat_model");
}

1;
