# ALTER EXTENSION netbus UPDATE: from the objects of 0.1.0 come those that CREATE
# EXTENSION makes today, and the logs there are go on.

use strict;
use warnings;

use File::Copy qw(copy);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use NetbusTest;

# The script of 0.1.0 stands with those of the installation that is tested, for
# as long as the test runs.
chomp(my $share = `pg_config --sharedir`);
my $old_script = "$share/extension/netbus--0.1.0.sql";
my $brought = !-e $old_script;
copy('test/upgrade/netbus--0.1.0.sql', $old_script) or die "$old_script: $!" if $brought;
END { unlink $old_script if $brought }

my $node = netbus_node('main');
my ($result, $stdout, $stderr);

sub fails
{
	my ($db, $sql, $pattern, $what) = @_;
	my ($result, $stdout, $stderr) = $node->psql($db, $sql);

	like($stderr, $pattern, $what);
}

# All that an installation consists of, as text; in an order that does not
# depend on how it came about.
sub objects
{
	my ($db) = @_;

	return $node->safe_psql($db, <<~'SQL');
		CREATE FUNCTION pg_temp.acl(acl aclitem[], kind "char", owner oid) RETURNS text LANGUAGE sql AS $$
			SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(coalesce(acl, acldefault(kind, owner))) a
		$$;
		SELECT 'function', p.oid::regprocedure, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), proretset, prosrc, probin,
				provolatile, proparallel, proisstrict, prosecdef, prorows, procost, proconfig, pg_temp.acl(proacl, 'f', proowner), obj_description(p.oid, 'pg_proc')
			FROM pg_proc p WHERE pronamespace = 'netbus'::regnamespace ORDER BY p.oid::regprocedure::text;
		SELECT 'relation', relname, relkind, relpersistence, reloptions, pg_temp.acl(relacl, 'r', relowner), obj_description(oid, 'pg_class'),
				CASE relkind WHEN 'v' THEN pg_get_viewdef(oid) WHEN 'i' THEN pg_get_indexdef(oid) END
			FROM pg_class WHERE relnamespace = 'netbus'::regnamespace AND relname !~ '^(log|pkey|bound|segment)_' ORDER BY relname;
		SELECT 'column', relname, attname, attnum, format_type(atttypid, atttypmod), attnotnull, attstorage, pg_get_expr(adbin, adrelid), pg_temp.acl(attacl, 'c', relowner)
			FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid LEFT JOIN pg_attrdef ON adrelid = c.oid AND adnum = attnum
			WHERE relnamespace = 'netbus'::regnamespace AND relname !~ '^(log|pkey|bound|segment)_' AND attnum > 0 ORDER BY relname, attname;
		SELECT 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint
			WHERE connamespace = 'netbus'::regnamespace AND conrelid::regclass::text ~ 'catalog_' ORDER BY 2, 3;
		SELECT 'type', typname, typtype, obj_description(oid, 'pg_type') FROM pg_type WHERE typnamespace = 'netbus'::regnamespace
			AND typname !~ '^_?(log|segment)_' ORDER BY typname;
		SELECT 'member', pg_describe_object(classid, objid, objsubid) FROM pg_depend
			WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'netbus') AND deptype = 'e' ORDER BY 2;
		SELECT 'initial acl', pg_describe_object(classoid, objoid, objsubid), pg_temp.acl(initprivs, 'r', 10) FROM pg_init_privs
			WHERE privtype = 'e' AND pg_describe_object(classoid, objoid, objsubid) ~ 'netbus' ORDER BY 2;
		SELECT 'schema', pg_temp.acl(nspacl, 'n', nspowner) FROM pg_namespace WHERE nspname = 'netbus';
		SELECT 'extension', extversion, extrelocatable, extconfig::regclass[], extcondition FROM pg_extension WHERE extname = 'netbus';
		SQL
}

# The lines that only one of the two has.
sub differing
{
	my ($updated, $created) = map { { map { $_ => 1 } split /\n/ } } @_;

	return join "\n", (map { "updated only: $_" } grep { !$created->{$_} } sort keys %$updated),
		(map { "created only: $_" } grep { !$updated->{$_} } sort keys %$created);
}

# --- The objects of 0.1.0 with the library of today ---------------------------------

$node->safe_psql('postgres', 'CREATE DATABASE old');
$node->safe_psql('old', "CREATE EXTENSION netbus VERSION '0.1.0'");
worker_runs($node, 'old');
$node->safe_psql('old', "SELECT netbus.create_log('kept')");
$node->safe_psql('old', "SELECT netbus.create_log('fussy', 2, 'memory', 'bytea', '128kB', 'fail')");
$node->safe_psql('old', "SELECT netbus.create_log('fussy', if_not_exists => true)");
my $session = $node->background_psql('old');
$session->query_safe("SELECT netbus.publish('kept', '\"before\"')");
is($node->safe_psql('old', "SELECT payload FROM netbus.read('kept')"), '"before"', 'before the update logs are created, written and read');
is($node->safe_psql('old', "SELECT netbus.alter_log('kept', 'ring_size', '1MB'); SELECT log, ring_size, backpressure FROM netbus.logs ORDER BY log"),
	"t\nfussy|128kB|fail\nkept|1MB|drop_oldest", '... and altered and listed');
my $hint = qr/older version than its library.*HINT:  Run ALTER EXTENSION netbus UPDATE/s;
fails('old', "SELECT netbus.create_log('new', durability => 'commit')", $hint, '... a durable log needs the update');
fails('old', "SELECT netbus.alter_log('kept', 'retention_events', '10')", $hint, '... so does an option that is new');
fails('old', 'SELECT * FROM netbus.stat_log', $hint, '... and the view of statistics');
my $dump = $node->backup_dir . '/old.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('old') ], '... pg_dump works');

my $issued = $node->safe_psql('old', "SELECT netbus.head('kept')");
$session->quit;
$node->restart;
worker_runs($node, 'old');
$session = $node->background_psql('old');
$session->query_safe("SELECT netbus.publish('kept', '\"second\"')");
my $second = $node->safe_psql('old', "SELECT seq FROM netbus.read('kept')");
cmp_ok($second, '>', $issued, '... and over a restart no seq is issued again');

# --- The update ------------------------------------------------------------------------

# What a user has built on a view that changes stands in its way, and loses nothing.
$node->safe_psql('old', 'CREATE VIEW mine AS SELECT log FROM netbus.logs');
fails('old', 'ALTER EXTENSION netbus UPDATE', qr/cannot drop view logs because other objects depend on it.*public\.mine/s, "a user's view must go first");
is($node->safe_psql('old', "SELECT extversion FROM pg_extension WHERE extname = 'netbus'; SELECT log FROM mine ORDER BY 1"), "0.1.0\nfussy\nkept", '... all is as before');
$node->safe_psql('old', 'DROP VIEW mine');

$node->safe_psql('old', 'BEGIN; ALTER EXTENSION netbus UPDATE; ROLLBACK');
is($node->safe_psql('old', "SELECT netbus.publish('kept', '\"third\"'); SELECT count(*) FROM netbus.read('kept')"), "t\n2", 'an update that is rolled back');

$node->safe_psql('old', 'ALTER EXTENSION netbus UPDATE');
netbus_db($node, 'fresh');
my ($updated, $created) = (objects('old'), objects('fresh'));
cmp_ok(length($created), '>', 10000, 'what there is to compare');
is($updated, $created, 'an installation that was updated is as a new one') or diag(differing($updated, $created));

# --- After it ----------------------------------------------------------------------------

$session->query_safe("SELECT netbus.publish('kept', '\"fourth\"')");
is($session->query_safe("SELECT payload FROM netbus.read('kept')"), qq("second"\n"third"\n"fourth"),
	'a session that was there goes on with a log that was there');
$session->quit;
is($node->safe_psql('old', <<~'SQL'),
	SELECT log, shards, durability, format, ring_size, backpressure, sample_rate, retention_events, retention_size, retention_age,
		flush_interval, flush_events FROM netbus.logs ORDER BY log
	SQL
	"fussy|2|memory|bytea|128kB|fail||||||\nkept|1|memory|jsonb|1MB|drop_oldest||||||", 'logs have the options that they had');
is($node->safe_psql('old', "SELECT accepted, persisted_seq IS NULL FROM netbus.stat_log WHERE log = 'kept'"), '3|t', '... and statistics');
counters_hold($node, 'old', '... which hold');
$node->safe_psql('old', "SELECT netbus.create_log('new', shards => 2, retention_events => 100000), netbus.publish('fussy', '\\x01'::bytea)");
publish($node, 'old', 'new', 10);
is($node->safe_psql('old', "SELECT count(*) FROM generate_series(0, 1) s, netbus.read('new', shard => s)"), 10, 'a durable log with retention');
$node->safe_psql('old', "SELECT netbus.alter_log('kept', 'backpressure', 'drop_newest')");
$issued = $node->safe_psql('old', "SELECT netbus.head('kept')");
$node->restart;
worker_runs($node, 'old');
$node->safe_psql('old', "SELECT netbus.publish('kept', '\"fifth\"')");
is($node->safe_psql('old', "SELECT seq, payload FROM netbus.read('kept')"), ($issued + 1) . '|"fifth"', 'after a restart the seqs go on exactly');
is($node->safe_psql('old', "SELECT last_error FROM netbus.stat_worker WHERE kind = 'worker'"), '', 'the worker has met no error');
is($node->safe_psql('old', "SELECT count(netbus.drop_log(log)) FROM netbus.logs"), 3, 'logs can be dropped');
is($node->safe_psql('old', 'ALTER EXTENSION netbus UPDATE; DROP EXTENSION netbus CASCADE'), '', '... and the extension');

# A dump of the old installation comes back as a new one.
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), '--exit-on-error', $dump ], 'pg_restore of a dump from before the update');
worker_runs($node, 'restored');
is($node->safe_psql('restored', "SELECT extversion FROM pg_extension WHERE extname = 'netbus'; SELECT log, durability, backpressure FROM netbus.logs ORDER BY log"),
	"0.3.0\nfussy|memory|fail\nkept|memory|drop_oldest", '... gives its logs');
is($node->safe_psql('restored', "SELECT netbus.publish('kept', '1'); SELECT payload FROM netbus.read('kept')"), "t\n1", '... which work');

$node->stop;
done_testing();
