# What the README says is so: its SQL works as printed in a fresh database, its
# C compiles, and its tables know every function, setting and SQLSTATE there is.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $readme = slurp_file('README.md');
$readme =~ s/\r//g;

sub blocks
{
	my ($language) = @_;
	return $readme =~ /^```$language\n(.*?)^```/msg;
}

# The text of a section, up to the next of its level.
sub section
{
	my ($title) = @_;
	my ($text) = $readme =~ /^## \Q$title\E\n(.*?)(?=^## |\z)/ms;
	return $text // '';
}

my $node = PostgreSQL::Test::Cluster->new('readme');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'netbus'\n");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE readme');

# One session for all, as a reader would do it.
my $n = 0;
my $script = "\\set ON_ERROR_STOP on\n";
for my $sql (blocks('sql'))
{
	$n++;
	$script .= "\\echo == block $n\n$sql\n";
}
cmp_ok($n, '>=', 8, 'the README has SQL');
my ($status, $stdout, $stderr) = $node->psql('readme', $script . '\echo == the end');
my ($last) = $stdout =~ /.*^(== .*)$/ms;
is($stderr, '', "SQL of the README: no error and no warning (got to: $last)");
is($last, '== the end', 'SQL of the README runs to its end');

is($node->safe_psql('readme', "SELECT (SELECT seq FROM position) = (SELECT max(seq) FROM netbus.read('orders') WHERE payload->>'id' IS DISTINCT FROM '10')"),
	't', 'its reader with a position has seen all that was published before');

# The C example, against the header where the README says it is.
my ($c) = blocks('c');
my $dir = PostgreSQL::Test::Utils::tempdir();
append_to_file("$dir/example.c", $c);
chomp(my $server = `pg_config --includedir-server`);
my @cc = ('gcc', '-fsyntax-only', '-Wall', '-Werror', "-I$server", "$dir/example.c");
is(system(@cc), 0, 'the C example compiles');

# Functions, views, settings and SQLSTATEs.
my $is_missing = sub {
	my ($text, $what, $query, $pattern) = @_;
	my @missing = grep { my $re = $pattern->($_); $text !~ $re } split /\n/, $node->safe_psql('readme', $query);
	is("@missing", '', "the README names every $what");
};

$is_missing->(section('Functions'), 'function that may be called',
	q{SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'netbus'::regnamespace AND proname !~ '^(guard|watch_changed|stat_)|_support$'},
	sub { qr/`(?:netbus\.)?\Q$_[0]\E[(`]/ });
$is_missing->(section('Functions'), 'argument',
	q{SELECT DISTINCT unnest(proargnames[1:pronargs]) FROM pg_proc WHERE pronamespace = 'netbus'::regnamespace AND pronargs > 0},
	sub { qr/\b\Q$_[0]\E\b/ });
$is_missing->($readme, 'view',
	q{SELECT relname FROM pg_class WHERE relnamespace = 'netbus'::regnamespace AND relkind = 'v'},
	sub { qr/`netbus\.\Q$_[0]\E`/ });
$is_missing->(section('Statistics'), 'column of stat_log',
	q{SELECT attname FROM pg_attribute WHERE attrelid = 'netbus.stat_log'::regclass AND attnum > 0},
	sub { qr/`\Q$_[0]\E`/ });
$is_missing->(section('Settings'), 'setting, with its default',
	q{SELECT name || ' ' || current_setting(name) FROM pg_settings WHERE name LIKE 'netbus.%' AND name <> 'netbus.debug_point'},
	sub { my ($name, $value) = split / /, $_[0]; qr/`\Q$name\E` \| \Q$value\E \|/ });

my %code;
chomp(my $share = `pg_config --sharedir`);
for (split /\n/, slurp_file("$share/errcodes.txt"))
{
	$code{$2} = $1 if /^(\S{5})\s+[EWS]\s+(ERRCODE_\w+)/;
}
my %raised;
for my $file (glob 'src/*/*.c include/*.h')
{
	my $text = slurp_file($file);
	$raised{$_} = 1 for $text =~ /errcode\(\s*[^()]*?\b(ERRCODE_(?!WARNING|INTERNAL|NB_)\w+)/g;
}
my @unlisted = grep { !defined $code{$_} || section('Errors') !~ /^\|[^|]*\b$code{$_}\b/m } sort keys %raised;
is("@unlisted", '', 'the README lists every SQLSTATE that is raised');

$node->stop;
done_testing();
