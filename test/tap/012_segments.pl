# The tables behind a log with retention: whatever happens to the log's table
# happens to its segments, and a dump brings them back.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use NetbusTest;

my $node = netbus_node('main');
my ($result, $stdout, $stderr);

netbus_db($node, 'app');
$node->safe_psql('app', <<~'SQL');
	SET allow_in_place_tablespaces = on;
	CREATE TABLESPACE apart LOCATION '';
	CREATE ROLE clerk IN ROLE netbus_admin;
	CREATE ROLE heir IN ROLE netbus_admin;
	CREATE ROLE reader IN ROLE netbus_reader;
	SQL

# The relations of a log, with what matters of them.
my $relations = <<~'SQL';
	SELECT c.relname, c.relkind, i.inhparent::regclass, pg_get_userbyid(c.relowner), c.reloptions, spcname, c.relacl,
		(SELECT string_agg(attname || ' ' || format_type(atttypid, -1) || ' ' || attstorage::text || ' ' || attnotnull::text, ', ' ORDER BY attnum)
			FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND relkind = 'r'),
		(SELECT string_agg(pg_get_triggerdef(t.oid), ', ' ORDER BY tgname) FROM pg_trigger t WHERE tgrelid = c.oid),
		(SELECT string_agg(pg_get_constraintdef(t.oid), ', ' ORDER BY conname) FROM pg_constraint t WHERE conrelid = c.oid)
	FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
	WHERE c.relnamespace = 'netbus'::regnamespace AND c.relname ~ '^(log|segment|pkey|bound)_' ORDER BY c.relname
	SQL

sub owners
{
	my ($log) = @_;

	return $node->safe_psql('app',
		"SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'netbus'::regnamespace AND relname ~ '_$log\$' ORDER BY 1");
}

sub tables
{
	my ($db) = @_;

	return $node->safe_psql($db, "SELECT count(*) FROM pg_class WHERE relnamespace = 'netbus'::regnamespace AND relname ~ '^(log|segment|pkey|bound)_'");
}

# --- As somebody who is no superuser ----------------------------------------------

$node->safe_psql('app', <<~'SQL');
	SET ROLE clerk;
	SELECT netbus.create_log('pruned', shards => 2, retention_events => 1000000);
	SELECT netbus.create_log('late');
	SELECT count(netbus.publish('pruned', to_jsonb(i), 'k' || i)), count(netbus.publish('late', to_jsonb(i))) FROM generate_series(1, 50) i;
	GRANT SELECT ON netbus.log_late, netbus.log_pruned TO reader;
	SELECT netbus.alter_log('late', 'retention_size', '1GB');
	SQL
is(owners('pruned'), 'clerk', "segments are their log's owner's");
is(owners('late'), 'clerk', '... also those of the first retention');
is($node->safe_psql('app', "SET ROLE reader; SELECT count(*) FROM netbus.read('late')"), 50, 'a right on the table of the log is enough');
($result, $stdout, $stderr) = $node->psql('app', 'SET ROLE reader; SELECT * FROM netbus.segment_1_late');
like($stderr, qr/permission denied for table segment_1_late/, '... and gives none on the segments');
($result, $stdout, $stderr) = $node->psql('app', 'SET ROLE clerk; TRUNCATE netbus.segment_1_late');
like($stderr, qr/cannot write to table "segment_1_late" directly/, '... to which their owner does not write, either');
is($node->safe_psql('app', "SELECT payload FROM netbus.read('late', 49)"), 50, 'what was there before the first retention is still there');
is($node->safe_psql('app', 'SELECT count(*) FROM ONLY netbus.log_late'), 0, '... in the segments');

# --- The first retention, when it cannot be ----------------------------------------

$node->safe_psql('app', "SELECT netbus.create_log('plain'); SELECT netbus.publish('plain', '1')");
my $before = tables('app');
my $session = $node->background_psql('app', on_error_stop => 0);
$session->query_safe("BEGIN; SELECT netbus.publish('plain', '2')");
($result, $stdout, $stderr) = $node->psql('app', "SET lock_timeout = '50ms'; SELECT netbus.alter_log('plain', 'retention_age', '1 day')");
like($stderr, qr/canceling statement due to lock timeout/, 'it waits for publishers');
$session->query_safe('COMMIT');
$session->query_safe("BEGIN; DECLARE c CURSOR FOR SELECT * FROM netbus.log_plain; FETCH c");
$session->query("SELECT netbus.alter_log('plain', 'retention_age', '1 day')");
like($session->{stderr}, qr/cannot netbus.alter_log\(\) "log_plain" because it is being used by active queries in this session/, '... and fails where the table is in use');
$session->{stderr} = '';
$session->query_safe('ROLLBACK');
$session->query("INSERT INTO netbus.log_plain VALUES (1, 0, 1, '')");
like($session->{stderr}, qr/cannot write to table "log_plain" directly/, '... after which the table is guarded as before');
$session->{stderr} = '';
is(tables('app'), $before, '... and nothing is left of it');
is($node->safe_psql('app', "SELECT string_agg(payload::text, ' ') FROM netbus.read('plain')"), '1 2', '... and no event is lost');
$session->quit;

# What is in memory only goes along, and stays if nothing comes of it.
$node->safe_psql('app', "SELECT netbus.create_log('slow', durability => 'async', flush_interval => '60 s')");
publish($node, 'app', 'slow', 5);
$node->safe_psql('app', "BEGIN; SELECT netbus.alter_log('slow', 'retention_events', '1000'); ROLLBACK");
is($node->safe_psql('app', "SELECT count(*) FROM netbus.read('slow')"), 5, 'a rollback loses nothing of an async log');
$node->psql('app', "BEGIN; SELECT netbus.alter_log('slow', 'retention_events', '1000'); SELECT netbus.publish('slow', '1'); ROLLBACK");
is($node->safe_psql('app', "SELECT count(*) FROM netbus.read('slow')"), 5, '... nor does an attempt to use it meanwhile');
$session = $node->background_psql('app');
$session->query_safe("SELECT netbus.publish('slow', '6')");
$node->safe_psql('app', "SELECT netbus.alter_log('slow', 'retention_events', '1000')");
$session->query_safe("SELECT netbus.publish('slow', '7')");
is($node->safe_psql('app', "SELECT string_agg(payload::text, ' ' ORDER BY seq) FROM netbus.read('slow')"), '1 2 3 4 5 6 7', 'the first retention of an async log');
cmp_ok($node->safe_psql('app', 'SELECT sum(events) FROM netbus.segment_1_slow'), '>=', 6, '... has persisted all there was');
$session->quit;
counters_hold($node, 'app', '... and the counters hold');
$node->safe_psql('app', "SELECT netbus.drop_log('slow')");

# --- Tablespaces ---------------------------------------------------------------------

$node->safe_psql('app', <<~'SQL');
	ALTER TABLE netbus.log_plain SET TABLESPACE apart;
	SELECT netbus.alter_log('plain', 'retention_age', '1 day');
	SQL
is($node->safe_psql('app', <<~'SQL'), "i||9\nr|apart|9", "segments are in the tablespace of the log's table, their keys in that of its key");
	SELECT relkind, spcname, count(*) FROM pg_class c LEFT JOIN pg_tablespace t ON t.oid = reltablespace
	WHERE relnamespace = 'netbus'::regnamespace AND relname ~ '_plain$' AND relkind <> 'S' GROUP BY 1, 2 ORDER BY 1
	SQL
is($node->safe_psql('app', "SELECT string_agg(payload::text, ' ') FROM netbus.read('plain')"), '1 2', '... and the events there');

# --- Dump and restore ------------------------------------------------------------------

my $dump = $node->backup_dir . '/app.dump';
my $options = 'SELECT log, owner, shards, durability, retention_events, retention_size, retention_age FROM netbus.logs ORDER BY log';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('app') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), '--exit-on-error', $dump ], 'pg_restore into another database');
worker_runs($node, 'restored');
is($node->safe_psql('restored', $relations), $node->safe_psql('app', $relations), '... brings all tables back as they were');
is($node->safe_psql('restored', $options), $node->safe_psql('app', $options), '... and options');
is($node->safe_psql('restored', "SELECT count(*), sum(payload::int) FROM generate_series(0, 1) s, netbus.read('pruned', shard => s)"), '50|1275', '... and events');
$node->safe_psql('restored', "SELECT netbus.publish('late', '51'), netbus.publish('pruned', '51')");
is($node->safe_psql('restored', "SELECT max(payload::int), max(seq) > 50 FROM netbus.read('late')"), '51|t', '... to logs that go on');
($result, $stdout, $stderr) = $node->psql('restored', 'TRUNCATE netbus.segment_1_late');
like($stderr, qr/cannot write to table "segment_1_late" directly/, '... and are guarded');
$node->safe_psql('restored', 'SELECT netbus.drop_log(log) FROM netbus.logs');
is(tables('restored'), 0, '... and go as they came');
$node->command_ok([ 'pg_dump', '-Fp', '--no-owner', '--no-privileges', '-f', "$dump.sql", '-d', $node->connstr('app') ], 'pg_dump as a script without owners');
$node->safe_psql('postgres', 'DROP DATABASE restored');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', "$dump.sql" ], '... and that run');
is($node->safe_psql('restored', "SELECT count(*) FROM netbus.read('late')"), 50, '... gives the same events');

# --- Owners ------------------------------------------------------------------------------

$node->safe_psql('app', 'ALTER TABLE netbus.log_late OWNER TO heir');
is(owners('late'), 'heir', 'ALTER TABLE ... OWNER takes the segments along');
$node->safe_psql('app', "SET ROLE heir; SELECT netbus.publish('late', '51'), netbus.alter_log('late', 'retention_age', '1 year')");
($result, $stdout, $stderr) = $node->psql('app', 'SET ROLE clerk; SELECT * FROM netbus.segment_1_late');
like($stderr, qr/permission denied/, '... so that the old owner sees nothing any more');
$node->safe_psql('app', 'REASSIGN OWNED BY clerk TO heir');
is(owners('pruned'), 'heir', 'REASSIGN OWNED, too');
$node->safe_psql('app', 'REASSIGN OWNED BY heir TO clerk');
is(owners('(pruned|late)'), 'clerk', '... and back');
publish($node, 'app', 'pruned', 1);
$before = tables('app');
$node->safe_psql('app', 'DROP TABLE netbus.log_late');
is(tables('app'), $before - 19, 'DROP TABLE takes them along');
$node->safe_psql('app', 'DROP OWNED BY clerk');
is($node->safe_psql('app', 'SELECT log FROM netbus.logs'), 'plain', 'DROP OWNED');
is(tables('app'), 19, '... takes them along');
$node->safe_psql('app', 'DROP EXTENSION netbus CASCADE');
is($node->safe_psql('app', "SELECT count(*) FROM pg_class WHERE relname ~ '^(log|segment|pkey|bound)_'"), 0, 'DROP EXTENSION ... CASCADE leaves none');

$node->stop;
done_testing();
