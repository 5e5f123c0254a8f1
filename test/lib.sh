# The sandbox in which everything is built and run: a copy of the sources, a
# private PostgreSQL installation and a throw-away cluster, all in one
# temporary folder and owned by an unprivileged user. Sourced, not run.

set -u

# enter_sandbox ARG...: returns inside the sandbox, as the unprivileged user,
# in the copy of the sources. Everything is removed when the script ends;
# NETBUS_KEEP=1 keeps the files (not the servers).
enter_sandbox() {
	if [ -z "${NETBUS_SANDBOX:-}" ]; then
		local src box as=()
		src=$(cd "$(dirname "$0")/.." && pwd)
		box=$(mktemp -d "${TMPDIR:-/tmp}/netbus.XXXXXX") || exit 1
		mkdir "$box/build"
		# Not the products of other builds: their flags may differ.
		tar -C "$src" --exclude=./.git --exclude='*.o' --exclude='*.so' \
			--exclude='./netbus--*.sql' -cf - . |
			tar -C "$box/build" --no-same-owner -xf - || exit 1
		if [ "$(id -u)" -eq 0 ]; then
			chown -R postgres: "$box"
			as=(setpriv --reuid=postgres --regid=postgres --init-groups)
		fi
		export NETBUS_SANDBOX=$box NETBUS_SRC=$src
		cd "$box/build" || exit 1
		exec env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS HOME="$box" TMPDIR="$box" LC_ALL=C.UTF-8 \
			"${as[@]}" bash "test/$(basename "$0")" "$@"
	fi

	BOX=$NETBUS_SANDBOX
	export NETBUS_BUILD=$BOX/build
	mkdir -p "$BOX/log"
	trap leave_sandbox EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

leave_sandbox() {
	local pidfile
	trap '' INT TERM HUP
	cd /
	# Also what an interrupted test left behind.
	for pidfile in $(find "$BOX" -name postmaster.pid 2>/dev/null); do
		pg_ctl -D "${pidfile%/*}" -m immediate -s stop >/dev/null 2>&1
	done
	if [ -n "${NETBUS_KEEP:-}" ]; then
		echo "kept: $BOX" >&2
	else
		rm -rf "$BOX"
	fi
}

# A private copy of the installation, so that nothing touches the system's.
# PostgreSQL finds its files relative to the real path of its programs: those
# are copied, the rest is links.
make_pg_tree() {
	local config dir
	config=${PG_CONFIG:-/usr/lib/postgresql/${PG_MAJOR:-15}/bin/pg_config}
	[ -x "$config" ] || config=$(command -v "$config" || command -v pg_config) || return 1

	dir=$("$config" --bindir)
	mkdir -p "$BOX/root$dir" && cp -p "$dir"/* "$BOX/root$dir/" || return 1
	PG_BIN=$BOX/root$dir
	for dir in "$("$config" --pkglibdir)" "$("$config" --sharedir)" "$("$config" --includedir-server)"; do
		mkdir -p "$BOX/root$dir" && cp -rs "$dir/." "$BOX/root$dir/" || return 1
	done
	find "$BOX/root" -name 'netbus*' -delete

	# Makefiles, here and of the test modules, take it from the environment.
	export PG_CONFIG=$PG_BIN/pg_config
	export PATH=$PG_BIN:$PATH
	PGXS_DIR=$(dirname "$(dirname "$(dirname "$("$PG_CONFIG" --pgxs)")")")
	export PG_REGRESS=$PGXS_DIR/src/test/regress/pg_regress
	[ "$("$PG_CONFIG" --bindir)" = "$PG_BIN" ]
}

# build_netbus [VARIABLE=VALUE]: build and install into the private tree.
build_netbus() {
	make_pg_tree && make -s -j"$(nproc)" "$@" all && make -s "$@" install
}

# start_cluster MODE: check, demo or bench; exports how to connect.
start_cluster() {
	local try
	export PGDATA=$BOX/data PGHOST=$BOX PGUSER=postgres PGDATABASE=postgres
	initdb -U postgres -A trust -E UTF8 --no-locale -N >"$BOX/log/initdb" || return 1
	{
		echo "shared_preload_libraries = 'netbus'"
		echo "unix_socket_directories = '$BOX'"
		echo "listen_addresses = '127.0.0.1'"
		echo "log_line_prefix = '%m [%p] %b '"
		case $1 in
			check) cat <<-END
				fsync = off
				max_connections = 60
				max_worker_processes = 16
				max_prepared_transactions = 10
				END
				;;
			bench) cat <<-END
				shared_buffers = 1GB
				max_wal_size = 8GB
				wal_level = replica
				jit = off
				max_parallel_workers_per_gather = 0
				END
				;;
		esac
	} >> "$PGDATA/postgresql.conf"

	# A port is free if the server can have it.
	for try in 1 2 3 4 5; do
		export PGPORT=$((20000 + RANDOM % 12000))
		pg_ctl -s -w -l "$BOX/log/server" -o "-p $PGPORT" start >/dev/null 2>&1 && return 0
		grep -q 'Address already in use' "$BOX/log/server" || break
	done
	tail -n 20 "$BOX/log/server" >&2
	return 1
}
