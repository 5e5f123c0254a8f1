# Logs give their shared memory back: when they are dropped, when their creation
# is rolled back, with the extension and with the database.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use NetbusTest;

my $node = netbus_node('main');
my ($result, $stdout, $stderr);

sub create_log
{
	my ($log) = @_;
	return "SELECT netbus.create_log('$log', durability => 'memory', ring_size => '8MB')";
}

netbus_db($node, $_) for qw(app other);
$node->safe_psql('app', create_log('base'));
publish($node, 'app', 'base', 10);
my $base = big_segments($node);
is($base, 1, 'a log is one segment');

$node->safe_psql('app', create_log('x') . "; SELECT netbus.publish('x', '1')");
is(big_segments($node), $base + 1, 'one more log');
$node->safe_psql('app', "SELECT netbus.drop_log('x')");
segments_become($node, 'app', $base, 'drop_log() frees its memory');

$node->safe_psql('app', create_log('x'));
$node->safe_psql('app', 'DROP TABLE netbus.log_x');
segments_become($node, 'app', $base, '... so does DROP TABLE');

$node->safe_psql('app', create_log('x'));
$node->safe_psql('app', "BEGIN; SELECT netbus.drop_log('x'); ROLLBACK; SELECT netbus.publish('x', '1')");
is(big_segments($node), $base + 1, 'drop_log() that is rolled back does not');
is($node->safe_psql('app', "SELECT count(*) FROM netbus.read('x')"), 1, '... and the log works');
$node->safe_psql('app', "SELECT netbus.drop_log('x')");

$node->safe_psql('app', 'BEGIN; ' . create_log('x') . "; SELECT netbus.publish('x', '1', transactional => false); ROLLBACK");
segments_become($node, 'app', $base, 'create_log() that is rolled back');
$node->safe_psql('app', 'BEGIN; SAVEPOINT a; ' . create_log('x') . "; SELECT netbus.publish('x', '1'); ROLLBACK TO a; " . create_log('x') . '; COMMIT');
segments_become($node, 'app', $base + 1, '... or to a savepoint, and made once more');
$node->safe_psql('app', 'BEGIN; ' . create_log('y') . "; SELECT netbus.drop_log('y'); COMMIT; SELECT netbus.drop_log('x')");
segments_become($node, 'app', $base, '... or dropped by the same transaction');
($result, $stdout, $stderr) = $node->psql('app', create_log('x') . ' / 0');
$node->psql('app', 'BEGIN; ' . create_log('x') . '; SELECT 1 / 0');
segments_become($node, 'app', $base, '... or ended by an error');

# A session that ends in the middle of it.
my $session = $node->background_psql('app');
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe('BEGIN; ' . create_log('x'));
is(big_segments($node), $base + 1, 'created, not committed');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
eval { $session->quit };
segments_become($node, 'app', $base, '... and its session terminated');

# While it is being created, the worker leaves it alone.
$session = $node->background_psql('app');
$session->query_safe('BEGIN; ' . create_log('x'));
$node->safe_psql('app', "SELECT netbus.create_log('small', ring_size => '64kB'); SELECT netbus.drop_log('small')");
$session->query_safe("SELECT netbus.publish('x', '1'); COMMIT");
is($node->safe_psql('app', "SELECT count(*) FROM netbus.read('x')"), 1, 'a log that others cannot see yet is not taken for a dropped one');
$session->quit;

# Others who have it mapped let go of it when they use netbus the next time.
$session = $node->background_psql('app');
$session->query_safe("SELECT netbus.head('x'), netbus.head('base')");
$node->safe_psql('app', "SELECT netbus.drop_log('x')");
is($session->query_safe("SELECT netbus.head('base')"), 10, 'a session that knew the log goes on');
segments_become($node, 'app', $base, '... and lets go of its memory');
$session->quit;

# With the extension.
$node->safe_psql('other', create_log($_)) for qw(a b);
is(big_segments($node), $base + 2, 'two logs in another database');
$node->safe_psql('other', 'BEGIN; DROP EXTENSION netbus CASCADE; ROLLBACK');
is($node->safe_psql('other', "SELECT count(*) FROM netbus.logs"), 2, 'DROP EXTENSION that is rolled back');
$node->safe_psql('other', 'DROP EXTENSION netbus CASCADE');
segments_become($node, 'app', $base, 'DROP EXTENSION ... CASCADE frees them');
$node->safe_psql('other', 'CREATE EXTENSION netbus');
$node->safe_psql('other', create_log('a'));
is($node->safe_psql('other', "SELECT netbus.publish('a', '1'); SELECT count(*) FROM netbus.read('a')"), "t\n1", '... and the next one begins anew');

# With an owner, with the database.
$node->safe_psql('other', <<~'SQL');
	CREATE ROLE clerk;
	GRANT netbus_admin TO clerk;
	SET ROLE clerk;
	SELECT netbus.create_log('mine', ring_size => '8MB');
	SQL
is(big_segments($node), $base + 2, 'a log of somebody else');
$node->safe_psql('other', 'DROP OWNED BY clerk');
segments_become($node, 'app', $base + 1, 'DROP OWNED frees it');
worker_runs($node, 'other');
$node->safe_psql('postgres', 'DROP DATABASE other');
segments_become($node, 'app', $base, 'DROP DATABASE frees what was in there');
($result, $stdout, $stderr) = $node->psql('postgres', 'DROP DATABASE app', extra_params => [ '-U', 'clerk' ]);
($result, $stdout, $stderr) = $node->psql('postgres', 'BEGIN; DROP DATABASE app');
is($node->safe_psql('app', "SELECT count(*) FROM netbus.read('base')"), 10, 'a DROP DATABASE that fails loses nothing');
$node->safe_psql('postgres', 'ALTER DATABASE app RENAME TO app2');
is($node->safe_psql('app2', "SELECT count(*) FROM netbus.read('base')"), 10, '... nor does ALTER DATABASE ... RENAME');

# A hundred times: nothing is left over.
$node->safe_psql('app2', <<~'SQL');
	DO $$
	BEGIN
		FOR i IN 1 .. 100 LOOP
			PERFORM netbus.create_log('often', durability => 'memory', ring_size => '8MB');
			PERFORM netbus.publish('often', '1', transactional => false);
			IF i % 3 = 0 THEN
				ROLLBACK;
				CONTINUE;
			END IF;
			COMMIT;
			PERFORM netbus.drop_log('often');
			COMMIT;
		END LOOP;
	END
	$$;
	SQL
segments_become($node, 'app2', $base, 'a hundred logs that came and went');

$node->stop;
is(scalar(glob($node->data_dir . '/pg_dynshmem/*') // ''), '', 'a server that has stopped leaves nothing');
done_testing();
