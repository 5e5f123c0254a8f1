#!/bin/bash
# with_cluster.sh MODE COMMAND...: build netbus, start a throw-away cluster
# that has it preloaded, run the command (a path is relative to the sources)
# as an unprivileged user, and remove everything. MODE is check (debug build,
# no fsync), demo or bench (release builds). For a look around:
#   test/with_cluster.sh check psql
. "$(dirname "$0")/lib.sh"
enter_sandbox "$@"

mode=$1
shift
options=()
[ "$mode" != check ] || options=(NETBUS_DEBUG=1)

if ! build_netbus "${options[@]}" >"$BOX/log/build" 2>&1; then
	cat "$BOX/log/build" >&2
	exit 1
fi
start_cluster "$mode" || exit 1
"$@"
status=$?
if [ $status -ne 0 ]; then
	echo "--- server log" >&2
	tail -n 20 "$BOX/log/server" >&2
fi
exit $status
