#!/bin/bash
# Install what building and testing need on Debian 12. Silent and quick when
# nothing is missing. Without root it prints the command and fails.
set -eu

major=${PG_MAJOR:-15}
packages=(
	"postgresql-$major" "postgresql-server-dev-$major" libpq-dev
	make gcc libc6-dev libxxhash-dev
	clang-14 libclang-rt-14-dev clang-format-14       # fuzzing, format check
	perl libipc-run-perl                              # TAP tests
	python3 python3-psycopg python3-asyncpg pgbouncer # driver tests
)

installed() {
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

if ! command -v apt-get >/dev/null; then
	[ -n "${PG_CONFIG:-}" ] || command -v pg_config >/dev/null || {
		echo "make deps knows Debian only; please install the equivalents of: ${packages[*]}" >&2
		exit 1
	}
	exit 0
fi

# Debian's node-pg needs Debian's nodejs; with another one the tests of that
# driver run if it finds a "pg" module, and are skipped otherwise.
if ! installed nodejs || dpkg-query -W -f='${Version}' nodejs | grep -q dfsg; then
	packages+=(nodejs node-pg)
fi

missing=()
for p in "${packages[@]}"; do
	installed "$p" || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "Missing packages. As root:" >&2
	echo "  apt-get install -y --no-install-recommends ${missing[*]}" >&2
	exit 1
fi

# Installing a server must neither create nor start a cluster on this machine.
policy=/usr/sbin/policy-rc.d
noclus=/etc/postgresql-common/createcluster.d/netbus-deps.conf
made=()
restore() {
	[ ${#made[@]} -eq 0 ] || rm -f "${made[@]}"
	rmdir --ignore-fail-on-non-empty "${noclus%/*}" 2>/dev/null || true
}
trap restore EXIT
trap 'exit 130' INT TERM

if [ ! -e $policy ]; then
	made+=($policy)
	printf '#!/bin/sh\nexit 101\n' > $policy
	chmod 755 $policy
fi
if ! installed "postgresql-$major"; then
	made+=($noclus)
	mkdir -p "${noclus%/*}"
	echo 'create_main_cluster = false' > $noclus
fi

echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y -qq --no-install-recommends "${missing[@]}"; }
log=$(mktemp)
made+=("$log")
if ! { apt-get update -qq && install; } > "$log" 2>&1; then
	tail -n 30 "$log" >&2
	exit 1
fi
