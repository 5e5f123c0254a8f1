# netbus: build, install and test.
#
#   make, make install    build and install the extension (PGXS)
#   make deps             install what is missing on Debian
#   make check            format, layering, build, and all tests on a throw-away server
#   make demo, make bench the demonstration and the benchmarks, likewise
#   make soak             random load and crashes for SOAK_MINUTES (10); SEED=n repeats
#   make format           rewrite the C sources in the project's style
#
#   PG_MAJOR=15  PG_CONFIG=...      the PostgreSQL to build against
#   NETBUS_DEBUG=1                  assertions and the debug points of the tests
#   STAGE="regress tap" TESTS="a b" a part of make check (stages: see test/run.sh)

PG_MAJOR ?= 15
PG_CONFIG ?= $(firstword $(wildcard /usr/lib/postgresql/$(PG_MAJOR)/bin/pg_config) pg_config)

# These goals must work before PostgreSQL is installed, and PGXS has a
# "check" of its own: so they never see PGXS, and start a fresh make for it.
TOOL_GOALS := deps check demo bench soak format

ifneq ($(filter $(TOOL_GOALS),$(MAKECMDGOALS)),)

export PG_MAJOR STAGE TESTS
ifneq ($(filter command line environment,$(origin PG_CONFIG)),)
export PG_CONFIG
endif

.PHONY: $(TOOL_GOALS) $(filter-out $(TOOL_GOALS),$(MAKECMDGOALS))
.NOTPARALLEL:

deps:
	@test/deps.sh

check:
	@test/deps.sh || { echo '0 passed, 1 failed'; exit 1; }
	@test/run.sh

demo: deps
	@test/with_cluster.sh demo demo/run.sh

bench: deps
	@test/with_cluster.sh bench test/bench/run.sh

soak: deps
	@test/with_cluster.sh check test/soak/soak.pl
	@test/with_cluster.sh check test/soak/models.pl

format: deps
	@test/format.sh -i

# Other goals named in the same call.
$(filter-out $(TOOL_GOALS),$(MAKECMDGOALS)):
	@$(MAKE) $@

else

FOLDERS := core redex bus cortex watch rpc mesh adapters
EXTVERSION := 0.3.0

EXTENSION := netbus
MODULE_big := netbus
PGFILEDESC := "netbus - event bus inside PostgreSQL"

OBJS := $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
SQL_PARTS := $(wildcard $(foreach f,$(FOLDERS),src/$(f)/$(f).sql))
ALL_HEADERS := $(wildcard include/*.h src/*.h src/*/*.h)

DATA_built := netbus--$(EXTVERSION).sql
DATA := $(wildcard src/netbus--*--*.sql)
HEADERS_netbus := $(wildcard include/netbus.h)

# Nothing gains from inlining netbus into queries, and no bitcode means no clang.
override with_llvm := no

# The -Wno-* are what PostgreSQL's headers and calling conventions force.
WERROR ?= -Werror
PG_CPPFLAGS := -I$(CURDIR)/src -I$(CURDIR)/include
PG_CFLAGS := -Wall -Wextra $(WERROR) -Wno-unused-parameter -Wno-sign-compare
# Functions of the library call each other directly, whoever else has one of that name.
PG_CFLAGS += -fno-semantic-interposition
PG_LDFLAGS := -Wl,-Bsymbolic-functions
ifdef NETBUS_DEBUG
# Assertions of netbus itself; the server need not be built with them.
PG_CPPFLAGS += -DNETBUS_DEBUG -DUSE_ASSERT_CHECKING
endif

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifeq ($(wildcard $(PGXS)),)
$(error No PostgreSQL server headers found by "$(PG_CONFIG)": run "make deps", or set PG_CONFIG)
endif
include $(PGXS)

# A few hundred milliseconds of needless compiling buy freedom from stale objects.
$(OBJS): $(ALL_HEADERS) Makefile

# Without it the vector loop of xxh3 takes 2.5 times as long.
src/core/hash.o src/core/hash_avx2.o: override CFLAGS += $(CFLAGS_UNROLL_LOOPS)

# Chosen at run time, so only this file may use the instructions.
ifeq ($(host_cpu),x86_64)
src/core/hash_avx2.o: override CFLAGS += -mavx2
endif

netbus--$(EXTVERSION).sql: $(SQL_PARTS) Makefile
	@{ printf '%s\n' '\echo Use "CREATE EXTENSION netbus" to load this file. \quit'; \
	   for part in $(SQL_PARTS); do echo; cat $$part; done; } > $@

endif
