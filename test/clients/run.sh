#!/bin/bash
# What drivers make of a call: psycopg 3 and node-postgres against a server
# that PGHOST etc. lead to. Prints TAP. A driver that is not installed is
# skipped.
set -u
cd "$(dirname "$0")" || exit 1

database=netbus_clients
tests=0
drop() { PGOPTIONS='-c client_min_messages=warning' psql -Xq -d postgres -c "DROP DATABASE IF EXISTS $database WITH (FORCE)"; }
drop && psql -Xq -d postgres -c "CREATE DATABASE $database" || exit 1
trap drop EXIT
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
if [ -n "$python" ]; then driver psycopg "$python" psycopg_test.py; else skip 'psycopg 3'; fi

# Where Debian puts modules; its own node knows.
export NODE_PATH=${NODE_PATH:+$NODE_PATH:}/usr/share/nodejs:/usr/lib/nodejs
if node -e 'require("pg")' 2>/dev/null; then driver node-postgres node pg_test.js; else skip 'node-postgres'; fi

echo "1..$tests"
