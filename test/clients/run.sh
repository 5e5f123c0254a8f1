#!/bin/bash
# What drivers make of a call: psycopg 3, asyncpg and node-postgres against a
# server that PGHOST etc. lead to, and psycopg through pgbouncer. Prints TAP.
# What is not installed is skipped.
set -u
cd "$(dirname "$0")" || exit 1

database=netbus_clients
tests=0
drop() { PGOPTIONS='-c client_min_messages=warning' psql -Xq -d postgres -c "DROP DATABASE IF EXISTS $database WITH (FORCE)"; }
drop && psql -Xq -d postgres -c "CREATE DATABASE $database" || exit 1
pooler=
clean_up() {
	[ -z "$pooler" ] || kill "$pooler"
	[ -z "${pool:-}" ] || rm -rf "$pool"
	drop
}
trap clean_up EXIT
export PGDATABASE=$database
psql -Xq -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION netbus' || exit 1

skip() {
	tests=$((tests + 1))
	echo "ok $tests # SKIP $1 is not installed"
}

# driver NAME COMMAND...: run its tests and number them. Its last line is "done",
# or it did not come to its end.
driver() {
	local name=$1 line end=
	shift
	while IFS= read -r line; do
		case $line in
			"ok - "*) tests=$((tests + 1)); echo "ok $tests - $name: ${line#ok - }" ;;
			"not ok - "*) tests=$((tests + 1)); echo "not ok $tests - $name: ${line#not ok - }" ;;
			done) end=1 ;;
			*) echo "# $line" ;;
		esac
	done < <("$@" 2>&1)
	if [ -z "$end" ]; then
		tests=$((tests + 1))
		echo "not ok $tests - $name: ran to its end"
	fi
}

# The module may belong to another Python than the first in the path.
python=
for candidate in python3 /usr/bin/python3; do
	if "$candidate" -c 'import psycopg; assert psycopg.__version__ >= "3"' 2>/dev/null; then
		python=$candidate
		break
	fi
done
if [ -n "$python" ]; then
	driver psycopg "$python" psycopg_test.py
	driver 'psycopg, consumers' "$python" psycopg_consume_test.py
	driver 'psycopg, watches' "$python" psycopg_watch_test.py
else
	skip 'psycopg 3'
fi

if [ -n "$python" ] && "$python" -c 'import asyncpg' 2>/dev/null; then
	driver asyncpg "$python" asyncpg_watch_test.py
else
	skip 'asyncpg'
fi

# start_pooler: pgbouncer in transaction mode with two backends, at a free port.
start_pooler() {
	local try i
	pool=$(mktemp -d) || return 1
	for try in 1 2 3 4 5; do
		pool_port=$((10000 + RANDOM % 9000))
		cat >"$pool/ini" <<-END
			[databases]
			$database = host=$PGHOST port=$PGPORT user=$PGUSER
			[pgbouncer]
			listen_addr = 127.0.0.1
			listen_port = $pool_port
			unix_socket_dir =
			auth_type = any
			pool_mode = transaction
			default_pool_size = 2
			END
		pgbouncer -q "$pool/ini" >"$pool/log" 2>&1 &
		pooler=$!
		for ((i = 0; i < 50; i++)); do
			PGHOST=127.0.0.1 PGPORT=$pool_port psql -Xqc 'SELECT' >>"$pool/log" 2>&1 && return 0
			kill -0 $pooler 2>/dev/null || break
			sleep 0.1
		done
		kill $pooler 2>/dev/null
		pooler=
	done
	sed 's/^/# /' "$pool/log"
	return 1
}

if [ -z "$python" ] || ! PATH=$PATH:/usr/sbin command -v pgbouncer >/dev/null; then
	skip 'pgbouncer'
else
	export PATH=$PATH:/usr/sbin
	if start_pooler; then
		driver pgbouncer env PGHOST=127.0.0.1 PGPORT="$pool_port" SERVER_PORT="$PGPORT" "$python" pgbouncer_test.py
	else
		driver pgbouncer false
	fi
fi

# Where Debian puts modules; its own node knows.
export NODE_PATH=${NODE_PATH:+$NODE_PATH:}/usr/share/nodejs:/usr/lib/nodejs
if node -e 'require("pg")' 2>/dev/null; then
	driver node-postgres node pg_test.js
	driver 'node-postgres, consumers' node pg_consume_test.js
	driver 'node-postgres, watches' node pg_watch_test.js
else
	skip 'node-postgres'
fi

echo "1..$tests"
