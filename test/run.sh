#!/bin/bash
# make check: every stage prints a heading, what failed and a count; the last
# line is the sum. STAGE="..." selects stages, TESTS="..." tests by name.
#
#   format    clang-format
#   layers    who may include whom, comments on SQL objects
#   build     with assertions and warnings as errors
#   unit      test/unit/*_test.c       plain C under the sanitizers
#   fuzz      test/fuzz/*_fuzz.c       FUZZ_TIME seconds each (default 20)
#   modules   test/modules/*/          extensions on the C API; their sql/ too
#   regress   sql/*.sql                pg_regress
#   isolation test/isolation/specs/    isolation tester
#   tap       test/tap/*.pl            start their own servers
#   clients   test/clients/run.sh      drivers, over TCP
#   shutdown  the server stops cleanly, and no backend of it crashed
#
# unit, tap and clients print TAP: "ok" and "not ok" lines are counted. A unit
# test or fuzz target x is compiled with src/*/x.c, and with what a comment
# "link: FILE..." in it names.

. "$(dirname "$0")/lib.sh"
enter_sandbox

ALL_STAGES="format layers build unit fuzz modules regress isolation tap clients shutdown"
STAGE=${STAGE:-$ALL_STAGES}
TESTS=${TESTS:-}
LIMIT=${TEST_TIMEOUT:-900} # seconds for one program; a hang is a failure

passed=0 failed=0

for name in $STAGE; do
	case " $ALL_STAGES " in *" $name "*) ;; *)
		echo "unknown stage \"$name\"; stages: $ALL_STAGES"
		echo "0 passed, 1 failed"
		exit 1
	esac
done

in_stage() { case " $STAGE " in *" $1 "*) return 0 ;; esac; return 1; }
wanted() { [ -z "$TESTS" ] || case " $TESTS " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
limited() { timeout --foreground -k 20 "$LIMIT" "$@"; }
indent() { sed 's/^/    /'; }

# result PASSED FAILED NAME [LOG]: print and count; on failure show the log.
result() {
	passed=$((passed + $1)) failed=$((failed + $2))
	if [ "$2" -eq 0 ]; then
		printf '  %-28s ok (%d)\n' "$3" "$1"
	else
		printf '  %-28s FAILED (%d passed, %d failed)\n' "$3" "$1" "$2"
		[ -z "${4:-}" ] || tail -n 60 "$4" | indent
	fi
}

# one NAME COMMAND...: a check that passes or fails as a whole.
one() {
	local name=$1 log=$BOX/log/${1//\//-}
	shift
	if "$@" >"$log" 2>&1; then result 1 0 "$name"; else result 0 1 "$name" "$log"; fi
}

# tap NAME COMMAND...: a program that prints TAP.
tap() {
	local name=$1 log=$BOX/log/${1//\//-} status ok bad all plan
	shift
	limited "$@" >"$log" 2>&1
	status=$?
	ok=$(grep '^ok\b' "$log" | grep -vcE '# (SKIP|TODO)')
	bad=$(grep '^not ok\b' "$log" | grep -vc '# TODO')
	grep -hE '^ok\b.*# SKIP|^1\.\.0 # SKIP' "$log" | sed 's/^/    skipped: /'
	[ $status -ne 124 ] || echo "timed out after $LIMIT s" >>"$log"
	# It died, or did not run all (or any) of its tests: a failure of its own.
	plan=$(sed -nE 's/^1\.\.([0-9]+).*/\1/p' "$log" | tail -n 1)
	all=$(grep -cE '^(not )?ok\b' "$log")
	if [ "$bad" -eq 0 ] && { [ $status -ne 0 ] || [ "${plan:-$((all ? all : -1))}" -ne "$all" ]; }; then
		echo "exit status $status, $all tests of ${plan:-an unknown number}" >>"$log"
		bad=1
	fi
	result "$ok" "$bad" "$name" "$log"
}

# pg_tests NAME PROGRAM INPUTDIR TEST...: pg_regress or its isolation variant.
pg_tests() {
	local name=$1 program=$2 input=$3 out=$BOX/log/$1.d status ok bad
	shift 3
	mkdir -p "$out"
	limited "$program" --bindir="$PG_BIN" --inputdir="$input" --outputdir="$out" \
		--dlpath="$("$PG_CONFIG" --pkglibdir)" --dbname="netbus_${name//[^a-z0-9]/_}" \
		--load-extension=netbus "$@" >"$out/log" 2>&1
	status=$?
	ok=$(grep -c ' \.\.\. ok ' "$out/log")
	bad=$(grep -c ' \.\.\. FAILED ' "$out/log")
	# It could not start, or did not reach the last test.
	if [ $status -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
	[ ! -e "$out/regression.diffs" ] || head -n 300 "$out/regression.diffs" >>"$out/log"
	if [ "$bad" -gt 0 ]; then
		passed=$((passed + ok)) failed=$((failed + bad))
		printf '  %-28s FAILED (%d passed, %d failed)\n' "$name" "$ok" "$bad"
		grep -vE '^(SET|(DROP|CREATE|ALTER) (DATABASE|EXTENSION)|=+ (dropping|creating) .*)$' "$out/log" | indent
	else
		result "$ok" 0 "$name"
	fi
}

# names DIR SUFFIX: the wanted tests in a folder, without the suffix.
names() {
	local f
	for f in "$1"/*"$2"; do
		f=$(basename "$f" "$2")
		[ "$f" = '*' ] || ! wanted "$f" || echo "$f"
	done
}

# compile_plain OUT TEST COMPILER...: a test with the plain C it is about.
compile_plain() {
	local out=$1 main=$2 name src flags objects=() sources
	shift 2
	name=$(basename "$main" .c)
	name=${name%_*}
	sources="$(ls src/*/"$name.c" 2>/dev/null) $(sed -nE 's/.*link: ([^*]*).*/\1/p' "$main")"
	for src in $main $sources; do
		flags=
		case $src in *_avx2.c) [ "$(uname -m)" != x86_64 ] || flags=-mavx2 ;; esac
		"$@" $flags -g -O1 -Wall -Wextra -fno-omit-frame-pointer -Isrc -Iinclude \
			-c "$src" -o "$out.${#objects[@]}.o" || return 1
		objects+=("$out.${#objects[@]}.o")
	done
	"$@" "${objects[@]}" -lm -lpthread -o "$out"
}

stage_format() { one format test/format.sh; }
stage_layers() { one layers test/check_layers.sh; }

stage_unit() {
	local t
	for t in $(names test/unit _test.c); do
		if compile_plain "$BOX/unit_$t" "test/unit/${t}_test.c" \
			gcc -fsanitize=address,undefined -fno-sanitize-recover=all >"$BOX/log/cc" 2>&1; then
			tap "unit/$t" "$BOX/unit_$t"
		else
			result 0 1 "unit/$t" "$BOX/log/cc"
		fi
	done
}

stage_fuzz() {
	local t
	for t in $(names test/fuzz _fuzz.c); do
		mkdir -p "$BOX/corpus/$t"
		[ ! -d "test/fuzz/corpus/$t" ] || cp -r "test/fuzz/corpus/$t/." "$BOX/corpus/$t/"
		if compile_plain "$BOX/fuzz_$t" "test/fuzz/${t}_fuzz.c" \
			clang-14 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all >"$BOX/log/cc" 2>&1; then
			one "fuzz/$t" limited "$BOX/fuzz_$t" -max_total_time="${FUZZ_TIME:-20}" -timeout=10 \
				-artifact_prefix="$BOX/log/" "$BOX/corpus/$t"
		else
			result 0 1 "fuzz/$t" "$BOX/log/cc"
		fi
	done
}

install_module() { make -s -C "$1" with_llvm=no all && make -s -C "$1" with_llvm=no install; }

# Built in any case, because other stages may use them.
build_modules() {
	local m
	for m in test/modules/*/Makefile; do
		[ -e "$m" ] || continue
		m=$(basename "$(dirname "$m")")
		one "modules/$m" install_module "test/modules/$m"
	done
}

stage_modules() {
	local m tests
	for m in test/modules/*/sql; do
		[ -d "$m" ] || continue
		m=$(dirname "$m")
		tests=$(names "$m/sql" .sql)
		[ -z "$tests" ] || pg_tests "modules/$(basename "$m")" "$PG_REGRESS" "$m" $tests
	done
}

stage_regress() {
	local tests
	tests=$(names sql .sql)
	[ -z "$tests" ] || pg_tests regress "$PG_REGRESS" . $tests
}

stage_isolation() {
	local tests
	tests=$(names test/isolation/specs .spec)
	[ -z "$tests" ] || pg_tests isolation "$PGXS_DIR/src/test/isolation/pg_isolation_regress" test/isolation $tests
}

stage_tap() {
	local t before
	for t in $(names test/tap .pl); do
		mkdir -p "$BOX/tap/$t"
		before=$failed
		TESTDIR=$BOX/tap/$t tap "tap/$t" perl -I"$PGXS_DIR/src/test/perl" -Itest/tap "test/tap/$t.pl"
		[ $failed -eq $before ] || tail -n 60 "$BOX/tap/$t"/tmp_check/log/regress_log_* 2>/dev/null | indent
		[ -n "${NETBUS_KEEP:-}" ] || rm -rf "$BOX/tap/$t"
	done
}

stage_clients() {
	[ ! -e test/clients/run.sh ] || PGHOST=127.0.0.1 tap clients test/clients/run.sh
}

stage_shutdown() {
	one shutdown pg_ctl -D "$PGDATA" -w -t 60 -m fast -s stop
	grep -nE 'PANIC|TRAP:|terminated by signal' "$BOX/log/server" >"$BOX/log/crashes"
	one "no crash" test ! -s "$BOX/log/crashes"
	[ ! -s "$BOX/log/crashes" ] || indent <"$BOX/log/crashes"
}

finish() {
	echo
	if [ $failed -gt 0 ] && [ -e "$BOX/log/server" ]; then
		echo "== the end of the server log"
		tail -n 30 "$BOX/log/server" | indent
		echo
	fi
	echo "$passed passed, $failed failed"
	[ $failed -eq 0 ] && [ $passed -gt 0 ]
	exit
}

for name in format layers; do
	if in_stage $name; then echo "== $name"; stage_$name; fi
done

case " $STAGE " in *\ build\ * | *\ modules\ * | *\ regress\ * | *\ isolation\ * | *\ tap\ * | *\ clients\ *)
	echo "== build"
	one build build_netbus NETBUS_DEBUG=1
	# one() runs in this shell, so the paths of the tree are known from here on.
	[ ! -s "$BOX/log/build" ] || [ $failed -gt 0 ] || indent <"$BOX/log/build"
	[ -e "$("$PG_CONFIG" --pkglibdir)/netbus.so" ] || finish
	build_modules ;;
esac

for name in unit fuzz; do
	if in_stage $name; then echo "== $name"; stage_$name; fi
done

case " $STAGE " in *\ modules\ * | *\ regress\ * | *\ isolation\ * | *\ clients\ *)
	echo "== server"
	start_cluster check >"$BOX/log/start" 2>&1 || { result 0 1 server "$BOX/log/start"; unset PGDATA; } ;;
esac

for name in modules regress isolation tap clients; do
	in_stage $name || continue
	[ $name = tap ] || [ -n "${PGDATA:-}" ] || continue
	echo "== $name"
	if [ $name = tap ]; then
		(unset PGDATA PGHOST PGPORT PGUSER PGDATABASE; stage_tap; echo "$passed $failed" >"$BOX/log/tap-count")
		read -r passed failed <"$BOX/log/tap-count"
	else
		stage_$name
	fi
done

if [ -n "${PGDATA:-}" ]; then echo "== shutdown"; stage_shutdown; fi
finish
