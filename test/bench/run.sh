#!/bin/bash
# The benchmarks: netbus beside its alternative, in the same run and in turns.
# Prints markdown. Called by "make bench", which gives it a cluster of its own.
#
#   BENCH="publish lines"  only these, or "memory", "durable", "consume", "cortex" or "watch"; all: see below
#   ROUNDS=5               rounds of each, of which the median counts
#   SECONDS_TAIL=10        how long producer and reader run
#
# More settings in durable.sh, which has the benchmarks of logs with a table, in
# consume.sh, which has those of consumers, filters and polling, in cortex.sh, which
# has those of models, and in watch.sh, which has those of watches.
#
# A round measures the alternatives one after the other in the same session,
# which has done the same once before. Times are the client's (psql's \timing)
# for statements that take milliseconds, and taken in C for short ones.

set -u -o pipefail

MEMORY="publish jsonb batch lines burst single wire latency read tail idle"
DURABLE="bulk commit async cold get open pinned"
CONSUME="receive client filter poll wakeup consumers"
CORTEX="ask tasks store change wait fold million"
WATCH="writers told watches same"
ALL="$MEMORY $DURABLE $CONSUME $CORTEX $WATCH"
BENCH=" ${BENCH:-$ALL} "
BENCH=${BENCH/ memory / $MEMORY }
BENCH=${BENCH/ durable / $DURABLE }
BENCH=${BENCH/ consume / $CONSUME }
BENCH=${BENCH/ cortex / $CORTEX }
BENCH=${BENCH/ watch / $WATCH }
ROUNDS=${ROUNDS:-5}
SECONDS_TAIL=${SECONDS_TAIL:-10}

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' TERM
values=$work/values
others=

# Ends the whole script, also from a subshell.
die() {
	echo "$*" >&2
	kill -s TERM $$
	exit 1
}
sql() { psql -X -qAt -v ON_ERROR_STOP=1 "$@" || die "psql failed"; }
wanted() { case " $BENCH " in *" $1 "*) return 0 ;; esac; return 1; }
repeat() { local i; for ((i = 0; i < $1; i++)); do echo "$2"; done; }
calc() { awk "BEGIN { printf \"%.9g\", $1 }"; }

# rotated N WORD...: so that none always comes after the same other one.
rotated() {
	local by=$(($1 % ($# - 1)))
	shift
	echo "${@:by+1}" "${@:1:by}"
}

# timed: runs SQL from stdin in one session. A line "#name" begins a part, and
# the milliseconds of its statements are added up and noted under that name.
# What belongs to no part, or to "#-", does not count. A row "=name value" is noted.
timed() {
	sed 's/^#\(.*\)/\\echo #\1/' >"$work/script.sql"
	psql -X -qAt -v ON_ERROR_STOP=1 -c '\timing on' -f "$work/script.sql" >"$work/out" || die "psql failed"
	awk '
		/^#/ { note(); name = substr($0, 2); ms = 0; next }
		/^=/ { print substr($1, 2), $2; next }
		/^Time: / { ms += $2 }
		END { note() }
		function note() { if (name != "" && name != "-") print name, ms }' "$work/out" >>"$values"
}

# CPU time so far in ticks: all but idle, and that of this script and its server.
cpu() {
	{
		grep '^cpu ' /proc/stat
		cat /proc/[0-9]*/stat 2>/dev/null | sed 's/(.*)/-/'
	} | awk -v ours="$$" -v server="$(head -n 1 "$PGDATA/postmaster.pid")" '
		$1 == "cpu" { all = $2 + $3 + $4 + $7 + $8 + $9; next }
		{ parent[$1] = $4; ticks[$1] = $14 + $15 + $16 + $17 }
		END {
			for (p in ticks) {
				for (q = p; q in ticks && q != ours && q != server; )
					q = parent[q]
				if (q == ours || q == server)
					sum += ticks[p]
			}
			print all, sum + 0
		}'
}

# run NAME: one benchmark, and which part of the CPUs others used meanwhile.
run() {
	local all ours all2 ours2 share from=$EPOCHREALTIME server
	server=$(head -n 1 "$PGDATA/postmaster.pid")
	read -r all ours < <(cpu)
	bench_$1
	[ "$server" = "$(head -n 1 "$PGDATA/postmaster.pid")" ] || return 0 # nobody knows what it used
	read -r all2 ours2 < <(cpu)
	share=$(awk -v ticks=$((all2 - all - ours2 + ours)) -v from="$from" -v to="$EPOCHREALTIME" \
		-v cpus="$(nproc)" 'BEGIN { v = ticks / (to - from) / cpus; printf "%.0f", v < 0 ? 0 : v }')
	others="${others:+$others, }$1 $share %"
	[ "$share" -lt 15 ] || echo "| ^ others used $share % of the CPUs: repeat it | | | | | |"
}

note() {
	[ -n "$2" ] || die "nothing measured for $1"
	echo "$1 $2" >>"$values"
}

# median NAME
median() {
	awk -v name="$1" '$1 == name { print $2 }' "$values" | sort -g |
		awk '{ v[NR] = $1 } END { if (NR == 0) exit 1; print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }' ||
		die "nothing measured for $1"
}

# rate EVENTS NAME: millions a second, from a median in milliseconds.
rate() { calc "$1 / $(median "$2") / 1000"; }

heading() {
	echo
	echo '| Benchmark | netbus | alternative | ratio | goal | met |'
	echo '|---|---:|---:|---:|---|---|'
}

# row NAME UNIT NETBUS ALTERNATIVE GOAL [ALTERNATIVE'S NAME]: a goal is
# "ratio >= 10", "<= 80" (of the netbus value) or "" for none; ALTERNATIVE may be "".
row() {
	awk -v name="$1" -v unit="$2" -v x="$3" -v y="$4" -v goal="$5" -v what="${6:-}" '
		function show(v) {
			return v == "" ? "" : sprintf(v >= 100 || v == int(v) ? "%.0f" : v >= 10 ? "%.1f" : v >= 1 ? "%.2f" : "%.3f", v) " " unit
		}
		BEGIN {
			ratio = y == "" || y == 0 ? "" : x / y
			met = ""
			if (goal != "") {
				n = split(goal, g, " ")
				v = g[1] == "ratio" ? ratio : x
				met = (g[n - 1] == ">=" ? v >= g[n] + 0 : v <= g[n] + 0) ? "yes" : "**no**"
				goal = goal (g[1] == "ratio" ? "" : " " unit)
				gsub(/>=/, "≥", goal); gsub(/<=/, "≤", goal)
			}
			printf "| %s | %s | %s%s | %s | %s | %s |\n", name, show(x), show(y), what == "" ? "" : " " what,
				ratio == "" ? "" : sprintf("%.2f", ratio), goal, met
		}' | tee -a "$work/rows"
}

# The source tables: ten times 100,000 rows with 100 bytes, in memory, with
# hint bits; and what INSERT..SELECT writes to.
make_tables() {
	[ -z "${tables_made:-}" ] || return 0
	tables_made=1
	{
		cat <<-'END'
		create unlogged table t0 (p bytea) with (autovacuum_enabled = off);
		insert into t0 select sha512(i::text::bytea) || substr(sha512(('b' || i)::bytea), 1, 36)
			from generate_series(1, 100000) i;
		create unlogged table u (id bigint generated always as identity primary key, p bytea)
			with (autovacuum_enabled = off);
		END
		for i in 1 2 3 4 5 6 7 8 9; do
			echo "create unlogged table t$i with (autovacuum_enabled = off) as select p from t0;"
		done
		for i in 0 1 2 3 4 5 6 7 8 9; do echo "vacuum freeze analyze t$i;"; done
	} | sql
}

make_jsonb_tables() {
	[ -z "${jsonb_made:-}" ] || return 0
	jsonb_made=1
	{
		cat <<-'END'
		create unlogged table j0 (p jsonb) with (autovacuum_enabled = off);
		insert into j0 select format('{"id":%s,"type":"order.created","agent":"agent-%s","note":"%s"}',
			i, i % 90 + 10, substr(md5(i::text), 1, 27))::jsonb from generate_series(100001, 200000) i;
		create unlogged table uj (id bigint generated always as identity primary key, p jsonb)
			with (autovacuum_enabled = off);
		END
		for i in 1 2 3 4 5 6 7 8 9; do
			echo "create unlogged table j$i with (autovacuum_enabled = off) as select p from j0;"
		done
		for i in 0 1 2 3 4 5 6 7 8 9; do echo "vacuum freeze analyze j$i;"; done
	} | sql
}

# each_table PREFIX FORMAT: a statement for each of the ten tables.
each_table() { for i in 0 1 2 3 4 5 6 7 8 9; do printf "$2;\n" "$1$i"; done; }

# published LOG EVENTS: nothing that we timed was refused or forgotten.
published() {
	local got
	got=$(sql -c "select sum(accepted) from netbus.stat_log where log = '$1'")
	[ "$got" = "$2" ] || die "log \"$1\" has $got events instead of $2"
}

# --- publish(bytea), one call a row

bench_publish() {
	make_tables
	sql -c "select netbus.create_log('m', durability => 'memory', format => 'bytea', ring_size => '64MB')" >"$work/null"
	{
		for ((r = 0; r <= ROUNDS; r++)); do
			[ $r -gt 0 ] && echo '#publish' || echo '#-'
			each_table t "select count(netbus.publish('m', p)) from %s"
			[ $r -gt 0 ] && echo '#empty' || echo '#-'
			each_table t "select count(bench.f_empty('m', p)) from %s"
			[ $r -gt 0 ] && echo '#insert' || echo '#-'
			each_table t "insert into u (p) select p from %s"
			echo '#-'
			echo 'truncate u;'
		done
	} | timed
	for ((r = 0; r <= 2 * ROUNDS; r++)); do
		timed <<<$'#fresh\n'"select count(netbus.publish('m', p)) from t$((r % 10));"
		timed <<<$'#fresh-empty\n'"select count(bench.f_empty('m', p)) from t$((r % 10));"
		timed <<<$'#fresh-insert\n'"insert into u (p) select p from t$((r % 10));"$'\n#-\ntruncate u;'
	done
	published m $((1000000 * (ROUNDS + 1) + 100000 * (2 * ROUNDS + 1)))
	row "publish(bytea) a row, transactions of 100,000" "M/s" "$(rate 1000000 publish)" \
		"$(rate 1000000 insert)" "ratio >= 10" "INSERT..SELECT"
	row "the same, first transaction of a backend" "M/s" "$(rate 100000 fresh)" \
		"$(rate 100000 fresh-insert)" "ratio >= 6" "INSERT..SELECT"
	row "publish(bytea), net of an empty C function" "ns" \
		"$(calc "$(median publish) - $(median empty)")" "$(calc "$(median insert) - $(median empty)")" \
		"<= 80" "INSERT..SELECT"
	row "the same, first transaction of a backend" "ns" \
		"$(calc "($(median fresh) - $(median fresh-empty)) * 10")" \
		"$(calc "($(median fresh-insert) - $(median fresh-empty)) * 10")" "" "INSERT..SELECT"
}

bench_jsonb() {
	make_jsonb_tables
	sql -c "select netbus.create_log('j', durability => 'memory', format => 'jsonb', ring_size => '64MB')" >"$work/null"
	{
		for ((r = 0; r <= ROUNDS; r++)); do
			[ $r -gt 0 ] && echo '#j-publish' || echo '#-'
			each_table j "select count(netbus.publish('j', p)) from %s"
			[ $r -gt 0 ] && echo '#j-empty' || echo '#-'
			each_table j "select count(bench.f_empty('j', p)) from %s"
			[ $r -gt 0 ] && echo '#j-insert' || echo '#-'
			each_table j "insert into uj (p) select p from %s"
			echo '#-'
			echo 'truncate uj;'
		done
	} | timed
	published j $((1000000 * (ROUNDS + 1)))
	row "publish(jsonb) from a jsonb column" "M/s" "$(rate 1000000 j-publish)" \
		"$(rate 1000000 j-insert)" "ratio >= 8" "INSERT..SELECT"
	row "publish(jsonb), net of an empty C function" "ns" \
		"$(calc "$(median j-publish) - $(median j-empty)")" "$(calc "$(median j-insert) - $(median j-empty)")" \
		"" "INSERT..SELECT"
}

# --- publish_batch: an array of 100 events, made once, 1000 times a transaction

bench_batch() {
	local array="(select array_agg(p) from (select p from t0 limit 100) s)"
	make_tables
	sql -c "select netbus.create_log('b', durability => 'memory', format => 'bytea', ring_size => '64MB')" \
		-c "create table thousand (i int) with (autovacuum_enabled = off)" \
		-c "insert into thousand select generate_series(1, 1000)" -c "vacuum freeze analyze thousand" >"$work/null"
	{
		for ((r = 0; r <= ROUNDS; r++)); do
			[ $r -gt 0 ] && echo '#batch' || echo '#-'
			repeat 10 "select sum(netbus.publish_batch('b', $array)) from thousand;"
			[ $r -gt 0 ] && echo '#batch-immediate' || echo '#-'
			repeat 10 "select sum(netbus.publish_batch('b', $array, transactional => false)) from thousand;"
			[ $r -gt 0 ] && echo '#batch-insert' || echo '#-'
			repeat 2 "insert into u (p) select unnest($array) from thousand;"
			echo '#-'
			echo 'truncate u;'
		done
	} | timed
	published b $((2000000 * (ROUNDS + 1)))
	row "publish_batch of 100, flat arrays" "M/s" "$(rate 1000000 batch)" \
		"$(rate 200000 batch-insert)" ">= 18" "INSERT..SELECT unnest"
	row "the same, not transactional" "M/s" "$(rate 1000000 batch-immediate)" \
		"$(rate 200000 batch-insert)" "" "INSERT..SELECT unnest"
}

# --- publish_lines: 1000 lines in a PL/pgSQL variable, neither compressed nor in
# TOAST as a value that long in a table would be, 100 times a transaction

bench_lines() {
	local loop='begin for t in 1..10 loop for c in 1..100 loop n := n + %s; end loop; commit; end loop; end'
	make_jsonb_tables
	sql -c "select netbus.create_log('l', durability => 'memory', format => 'bytea', ring_size => '64MB')" \
		-c "select netbus.create_log('lj', durability => 'memory', format => 'jsonb', ring_size => '64MB')" \
		-c "create table lines as select string_agg(l, E'\n') b,
			(select string_agg(p::text, E'\n') from (select p from j0 limit 1000) s) j
			from (select rpad(md5(i::text), 99, md5('x' || i)) l from generate_series(1, 1000) i) s" \
		-c "create unlogged table ul (l text) with (autovacuum_enabled = off)" \
		-c "copy (select string_to_table(b, E'\n') from lines, generate_series(1, 100)) to '$work/lines.txt'" >"$work/null"
	{
		for ((r = 0; r <= ROUNDS; r++)); do
			[ $r -gt 0 ] && echo '#lines' || echo '#-'
			printf "do \$\$declare v bytea := (select b::bytea from lines); n bigint := 0; $loop\$\$;\n" \
				"netbus.publish_lines('l', v)"
			[ $r -gt 0 ] && echo '#lines-copy' || echo '#-'
			echo "copy ul from '$work/lines.txt';"
			echo '#-'
			echo 'truncate ul;'
			[ $r -gt 0 ] && echo '#lines-jsonb' || echo '#-'
			printf "do \$\$declare v text := (select j || '' from lines); n bigint := 0; $loop\$\$;\n" \
				"netbus.publish_lines('lj', v)"
			[ $r -gt 0 ] && echo '#lines-parse' || echo '#-'
			printf "do \$\$declare v text := (select j || '' from lines); n bigint := 0; $loop\$\$;\n" \
				"(select count(l::jsonb) from (select string_to_table(v, E'\\n') l offset 0) s)"
		done
	} | timed
	published l $((1000000 * (ROUNDS + 1)))
	published lj $((1000000 * (ROUNDS + 1)))
	row "publish_lines, bytea log, 1000 lines a call" "M/s" "$(rate 1000000 lines)" \
		"$(rate 100000 lines-copy)" ">= 15" "COPY"
	row "publish_lines, jsonb log" "M/s" "$(rate 1000000 lines-jsonb)" \
		"$(rate 1000000 lines-parse)" "ratio >= 1.1" "string_to_table()::jsonb, stored nowhere"
}

# --- C API: 10,000 events of 16 bytes in one call

bench_burst() {
	local frames
	sql -c "select netbus.create_log('mb', durability => 'memory', format => 'bytea', ring_size => '64MB')" >"$work/null"
	{
		for ((r = 0; r <= ROUNDS; r++)); do
			echo "select '#burst', bench.burst('mb', 10000, 16, 500, false);"
			echo "select '#burst-single', bench.burst('mb', 10000, 16, 20, true);"
		done
	} | sql -F ' ' | tail -n +3 | sed 's/^#//' >>"$values"
	frames=$(sql -c "select bench.burst('mb', 10000, 16, 1, false)" -c "select bench.frames('mb', netbus.head('mb') - 10000)" |
		tail -n 1)
	row "C API, 10,000 events of 16 bytes at once, frames: $frames" "M/s" "$(calc "1e7 / $(median burst)")" \
		"$(calc "1e7 / $(median burst-single)")" ">= 150" "one by one"
}

# --- a single publish, timed in C

bench_single() {
	local calls=10000000 null q
	sql -c "select netbus.create_log('s', durability => 'memory', format => 'bytea', ring_size => '64MB')" >"$work/null"
	{
		for ((r = 0; r < ROUNDS; r++)); do
			for q in 's' ''; do
				null=$([ "$q" ] && echo "'s'" || echo null)
				echo "select p50, p99, p999, max, mean from bench.single($null, $calls, 100);"
			done
		done
	} | sql -F ' ' | awk '{
			s = NR % 2 ? "single" : "clock"
			print s "-p50", $1; print s "-p99", $2; print s "-p999", $3; print s "-max", $4; print s "-mean", $5
		}' >>"$values"
	row "publish in C, not transactional, 10 M calls, p50" "ns" "$(median single-p50)" "$(median clock-p50)" "" "reading the clock"
	row "p99" "ns" "$(median single-p99)" "$(median clock-p99)" "<= 300" "reading the clock"
	row "p99.9" "ns" "$(median single-p999)" "$(median clock-p999)" "<= 1000" "reading the clock"
	row "longest" "ns" "$(median single-max)" "$(median clock-max)" "" "reading the clock"
}

# --- over the wire

bench_wire() {
	local name
	sql -c "select netbus.create_log('w', durability => 'memory', format => 'bytea')" >"$work/null"
	echo "select netbus.publish('w', :payload::bytea);" >"$work/wire.sql"
	echo "select netbus.publish('w', :payload::bytea, transactional => false);" >"$work/wire-immediate.sql"
	echo "select bench.f_empty('w', :payload::bytea);" >"$work/wire-empty.sql"
	for ((r = 0; r < 2 * ROUNDS; r++)); do
		for name in $(rotated $r wire wire-empty wire-immediate); do
			note $name "$(pgbench -n -M prepared -c 2 -j 1 -t 15000 -f "$work/$name.sql" \
				-D payload="$(printf 'x%.0s' {1..100})" 2>/dev/null | sed -n 's/^tps = \([0-9.]*\).*/\1/p')"
		done
	done
	row "publish over the wire, prepared, 2 clients" "tps" "$(median wire)" "$(median wire-empty)" \
		"ratio >= 0.85" "empty function"
	row "the same, not transactional" "tps" "$(median wire-immediate)" "$(median wire-empty)" \
		"ratio >= 0.85" "empty function"
}

# --- commit on one connection, tail on another

# compile NAME LIBRARY: a client, of which the sources are here.
compile() {
	# The private installation has no client headers: those of the original.
	gcc -O2 -Wall -I"$("$PG_CONFIG" --includedir | sed "s|^${NETBUS_SANDBOX:-/}/root||")" \
		"${NETBUS_BUILD:-.}/test/bench/$1.c" -o "$work/$1" "-l$2" || die "$1.c does not compile"
}

bench_latency() {
	local mode
	compile latency pq
	sql -c "select netbus.create_log('lat', durability => 'memory', format => 'bytea')" >"$work/null"
	for ((r = 0; r < 4 * ROUNDS; r++)); do
		for mode in $(rotated $r tail notify tail-paced notify-paced); do
			"$work/latency" $mode 500 >"$work/out" || die "latency failed"
			read -r median p99 <"$work/out"
			note $mode $median
			note $mode-p99 $p99
		done
	done
	row "commit to tail, closed loop, median" "µs" "$(median tail)" "$(median notify)" "ratio <= 0.9" "LISTEN/NOTIFY"
	row "p99" "µs" "$(median tail-p99)" "$(median notify-p99)" "" "LISTEN/NOTIFY"
	row "the same, the receiver asleep for 0.1 ms, median" "µs" "$(median tail-paced)" "$(median notify-paced)" "" "LISTEN/NOTIFY"
	row "p99" "µs" "$(median tail-paced-p99)" "$(median notify-paced-p99)" "" "LISTEN/NOTIFY"
}

# --- reading

bench_read() {
	local n=100000 from
	make_tables
	sql -c "select netbus.create_log('r', durability => 'memory', format => 'bytea', ring_size => '64MB')" >"$work/null"
	# 500,000 events in the ring, and the same in a table.
	{
		for i in 0 1 2 3 4; do
			echo "select count(netbus.publish('r', p)) from t$i;"
			echo "insert into u (p) select p from t$i;"
		done
		echo 'vacuum freeze analyze u;'
	} | sql >"$work/null"
	{
		for ((r = 0; r <= ROUNDS; r++)); do
			for q in read read-index read-from read-api; do
				[ $r -gt 0 ] && echo "#$q" || echo '#-'
				for from in 0 100000 200000 300000 400000; do
					case $q in
						read) echo "select count(r) from (select netbus.read_raw('r', $from, max_events => $n) r) s;" ;;
						read-from) echo "select count(payload) from netbus.read_raw('r', $from, max_events => $n);" ;;
						read-index) echo "select count(r) from (select u r from u where id > $from order by id limit $n) s;" ;;
					esac
				done
			done
		done
		echo '#-'
		echo 'truncate u restart identity;'
	} | timed
	row "read_raw from the ring, a value a call" "ns" "$(calc "$(median read) * 2")" \
		"$(calc "$(median read-index) * 2")" "<= 200" "index scan"
	row "read_raw in FROM, materialised" "ns" "$(calc "$(median read-from) * 2")" \
		"$(calc "$(median read-index) * 2")" "" "index scan"
}

# --- a producer and a tailing reader at the same time

# tail_run PER_TRANSACTION SECONDS
tail_run() {
	local head seen lost bad published elapsed evicted before ok
	head=$(sql -c "select netbus.head('tail')")
	before=$(sql -c "select evicted from netbus.stat_log where log = 'tail'")
	sql -F ' ' -c "select * from bench.consume('tail', $head)" >"$work/consumed" &
	sql -F ' ' -c "call bench.produce('tail', $2, 100, 100, $1, null, null)" >"$work/produced"
	wait $! || die "reader failed"
	evicted=$(($(sql -c "select evicted from netbus.stat_log where log = 'tail'") - before))
	read -r published elapsed <"$work/produced"
	read -r seen lost bad <"$work/consumed"
	tail_rate=$(calc "$published / $elapsed / 1e6")
	ok='**no**'
	[ "$bad" -eq 0 ] && [ $((seen + lost)) -eq "$published" ] && [ "$lost" -le "$evicted" ] && ok=yes
	tail_counts="| published $published, seen $seen, lost $lost, evicted $evicted, wrong $bad \
| | | | seen + lost = published, lost ≤ evicted, none wrong | $ok |"
}

# The same with a table: batches of 100 inserted, 10,000 rows a transaction, and a reader that polls.
tail_table() {
	sql -c "drop table if exists ut" -c "create unlogged table ut (id bigint generated always as identity primary key, p bytea)
		with (autovacuum_enabled = off)" 2>/dev/null
	sql >"$work/consumed" <<-END &
		create temp table result (n bigint);
		do \$\$declare last bigint := 0; n bigint := 0; new_n bigint; until timestamptz := clock_timestamp() + '$1 s'; m bigint;
		begin
			while clock_timestamp() < until loop
				select count(*), max(id), sum(length(p)) into new_n, m from (select id, p from ut where id > last order by id limit 100000) s;
				if new_n = 0 then perform pg_sleep(0.001); else last := m; n := n + new_n; end if;
			end loop;
			insert into result values (n);
		end\$\$;
		select n from result;
		END
	sql <<-END
		do \$\$declare a bytea[] := (select array_agg(decode(repeat('61', 100), 'hex')) from generate_series(1, 100));
			until timestamptz := clock_timestamp() + '$1 s';
		begin
			while clock_timestamp() < until loop
				for i in 1..100 loop insert into ut (p) select unnest(a); end loop;
				commit;
			end loop;
		end\$\$;
		END
	wait $! || die "reader failed"
	tail_table_rate=$(calc "$(cat "$work/consumed") / $1 / 1e6")
}

bench_tail() {
	sql -c "select netbus.create_log('tail', durability => 'memory', format => 'bytea', ring_size => '64MB')" >"$work/null"
	tail_run 100 1
	tail_table 3
	tail_run 100 "$SECONDS_TAIL"
	row "producer (batches of 100, 10,000 a transaction) and reader, C API, $SECONDS_TAIL s" "M/s" "$tail_rate" "$tail_table_rate" ">= 12" "INSERT, polling reader"
	echo "$tail_counts" | tee -a "$work/rows"
	tail_run 0 "$SECONDS_TAIL"
	row "the same, not transactional" "M/s" "$tail_rate" "$tail_table_rate" "" "INSERT, polling reader"
	echo "$tail_counts" | tee -a "$work/rows"
}

# --- nothing happens

switches() { awk '/ctxt_switches/ { n += $2 } END { print n }' "/proc/$1/status"; }

bench_idle() {
	local pid name before=() names=() pids=() i most=0 n other=0
	sleep 2
	while IFS='|' read -r pid name; do
		pids+=("$pid") names+=("$name")
	done < <(sql -c "select pid, backend_type from pg_stat_activity where backend_type ~ 'netbus|autovacuum launcher' order by 2, 1")
	[ ${#pids[@]} -ge 3 ] || die "launcher or worker is missing"
	for i in "${!pids[@]}"; do before[i]=$(switches "${pids[i]}"); done
	sleep 10
	for i in "${!pids[@]}"; do
		n=$(($(switches "${pids[i]}") - before[i]))
		case ${names[i]} in
			autovacuum*) other=$n ;;
			*) [ $n -le $most ] || most=$n ;;
		esac
	done
	row "idle, context switches a second, busier of launcher and worker" "/s" "$(calc "$most / 10")" "$(calc "$other / 10")" "<= 1" "autovacuum launcher"
}

facts() {
	local setting
	echo
	echo '| Machine | |'
	echo '|---|---|'
	echo "| CPU | $(nproc) × $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1) |"
	echo "| Memory | $(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1048576 }' /proc/meminfo) |"
	echo "| System | $(. /etc/os-release && echo "$PRETTY_NAME"), Linux $(uname -r), clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource 2>/dev/null) |"
	echo "| PostgreSQL | $(sql -c 'show server_version'), netbus $(sql -c "select extversion from pg_extension where extname = 'netbus'") |"
	echo "| Settings | $(sql -c "select string_agg(name || ' = ' || current_setting(name), ', ' order by name) from pg_settings
		where name in ('shared_buffers', 'jit', 'huge_pages', 'netbus.publish_buffer')") |"
	echo "| WAL | $(sql -c "select string_agg(name || ' = ' || current_setting(name), ', ' order by name) from pg_settings
		where name in ('wal_level', 'synchronous_commit', 'fsync', 'full_page_writes', 'wal_compression', 'max_wal_size', 'wal_sync_method')") |"
	echo "| Huge pages | $(awk '/^HugePages_Total/ { print $2 }' /proc/meminfo) reserved; THP $(sed 's/.*\[\(.*\)\].*/\1/' /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null), shared memory $(sed 's/.*\[\(.*\)\].*/\1/' /sys/kernel/mm/transparent_hugepage/shmem_enabled 2>/dev/null) |"
	echo "| Events | 100 bytes unless said otherwise; medians of $ROUNDS rounds in turns (commit, cold, open: $FEW_ROUNDS); client on the same machine, unix socket |"
	echo "| CPU used by others | $others |"
	echo "| Date | $(date -u '+%Y-%m-%d %H:%M UTC') |"
}

. "${BASH_SOURCE%/*}/durable.sh"
. "${BASH_SOURCE%/*}/consume.sh"
. "${BASH_SOURCE%/*}/cortex.sh"
. "${BASH_SOURCE%/*}/watch.sh"

for name in $BENCH; do
	case " $ALL " in *" $name "*) ;; *) die "unknown benchmark \"$name\"; there are: $ALL" ;; esac
done

make -s -C "${NETBUS_BUILD:-.}/test/bench/ext" all install >"$work/build" 2>&1 ||
	{ cat "$work/build" >&2; die "test/bench/ext does not build"; }
sql -c 'create extension netbus' -c 'create extension netbus_bench' >"$work/null"

start=$SECONDS
heading
for name in $ALL; do
	if wanted $name; then run $name; fi
done
facts
echo
awk -v seconds=$((SECONDS - start)) '
	/\| yes \|$/ { yes++ }
	/\| \*\*no\*\* \|$/ { no++ }
	END { printf "%d met, %d missed, %d s\n", yes, no, seconds }' "$work/rows"
