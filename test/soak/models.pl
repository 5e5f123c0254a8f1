#!/usr/bin/perl
# The randomised check of models (test/tap/052_model_check.pl) for SOAK_MINUTES (default
# 10).  SEED repeats the choices, though not their timing.  Run by "make soak".

use strict;
use warnings;

my $pgxs = `"\${PG_CONFIG:-pg_config}" --pgxs`;

$pgxs =~ s{/makefiles/pgxs\.mk\s*$}{/test/perl} or die 'no pg_config';
delete @ENV{qw(PGDATA PGHOST PGPORT PGUSER PGDATABASE)};
$ENV{MODEL_MINUTES} = $ENV{SOAK_MINUTES} || 10;
exec $^X, "-I$pgxs", '-Itest/tap', 'test/tap/052_model_check.pl' or die $!;
