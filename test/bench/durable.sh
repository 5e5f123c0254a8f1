# The benchmarks of logs with a table: sourced by run.sh, whose helpers they use.
#
#   COMMIT_SECONDS=4       one event a transaction, each turn
#   ASYNC_SECONDS=20       of publishing while the worker persists
#   COLD_EVENTS=10000000   in the log that is read from its table, a multiple of 1,000,000
#   PINNED_SECONDS=30      with a pinned snapshot; 600 for a figure that tells more
#
# What takes long has fewer rounds.

FEW_ROUNDS=$(((ROUNDS + 1) / 2))
COMMIT_SECONDS=${COMMIT_SECONDS:-4}
ASYNC_SECONDS=${ASYNC_SECONDS:-20}
COLD_EVENTS=${COLD_EVENTS:-10000000}
PINNED_SECONDS=${PINNED_SECONDS:-30}

# tps SCRIPT CLIENTS SECONDS PAYLOAD_BYTES [SETTING]
tps() {
	PGOPTIONS=${5:+-c $5} pgbench -n -M prepared -c "$2" -j 2 -T "$3" -f "$1" \
		-D payload="$(head -c "$4" /dev/zero | tr '\0' x)" 2>/dev/null | sed -n 's/^tps = \([0-9.]*\).*/\1/p'
}

# --- a transaction of 1,000,000 events

# bulk_part NAME ROUND FORMAT: a transaction over the ten tables, timed, and its WAL.
bulk_part() {
	echo '#-'
	echo 'checkpoint;'
	echo 'select pg_current_wal_insert_lsn() lsn \gset'
	[ "$2" -gt 0 ] && echo "#$1"
	echo 'begin;'
	each_table t "$3"
	echo 'commit;'
	echo '#-'
	[ "$2" -eq 0 ] ||
		echo "select '=$1-wal ' || pg_wal_lsn_diff(pg_current_wal_insert_lsn(), :'lsn') / (1e6 * 100);"
}

bench_bulk() {
	local q
	make_tables
	sql -c "select netbus.create_log('bulk', format => 'bytea')" \
		-c "create table bulk (id bigint generated always as identity primary key, payload bytea) with (autovacuum_enabled = off)" >"$work/null"
	{
		for ((r = 0; r <= ROUNDS; r++)); do
			for q in $(rotated $r bulk bulk-insert bulk-emit); do
				case $q in
					bulk) bulk_part $q $r "select count(netbus.publish('bulk', p)) from %s" ;;
					bulk-insert)
						# As the log's table, it grows from here on.
						echo 'truncate bulk;'
						bulk_part $q $r 'insert into bulk (payload) select p from %s' ;;
					bulk-emit) bulk_part $q $r "select count(pg_logical_emit_message(true, 'bulk', p)) from %s" ;;
				esac
			done
		done
		echo "select '=bulk-size ' || pg_total_relation_size('netbus.log_bulk') / (1e6 * ($ROUNDS + 1));"
		echo "select '=bulk-insert-size ' || pg_total_relation_size('bulk') / 1e6;"
	} | timed
	published bulk $((1000000 * (ROUNDS + 1)))
	row "publish(bytea) into a commit log, a transaction of 1,000,000" "M/s" "$(rate 1000000 bulk)" \
		"$(rate 1000000 bulk-insert)" "ratio >= 4.5" "INSERT..SELECT"
	row "the same" "M/s" "$(rate 1000000 bulk)" "$(rate 1000000 bulk-emit)" "" "pg_logical_emit_message"
	row "bytes of table and index an event" "B" "$(median bulk-size)" "$(median bulk-insert-size)" "<= 110" "INSERT..SELECT"
	row "WAL bytes a byte of payload" "" "$(median bulk-wal)" "$(median bulk-insert-wal)" "<= 1.1" "INSERT..SELECT"
	row "the same" "" "$(median bulk-wal)" "$(median bulk-emit-wal)" "" "pg_logical_emit_message"
	sql -c "select netbus.drop_log('bulk')" -c 'drop table bulk' >"$work/null"
}

# --- an event a transaction

bench_commit() {
	local mode
	sql -c "select netbus.create_log('one', format => 'bytea')" \
		-c "create table one (id bigint generated always as identity primary key, payload bytea)" >"$work/null"
	echo "select netbus.publish('one', :payload::bytea);" >"$work/one.sql"
	echo "insert into one (payload) values (:payload::bytea);" >"$work/one-insert.sql"
	for ((r = 0; r < FEW_ROUNDS; r++)); do
		for mode in $(rotated $r one:on one-insert:on one:off one-insert:off); do
			sql -c checkpoint
			note ${mode/:/-} "$(tps "$work/${mode%:*}.sql" 4 "$COMMIT_SECONDS" 100 "synchronous_commit=${mode#*:}")"
		done
	done
	row "publish into a commit log, an event a transaction, 4 clients" "tps" "$(median one-on)" \
		"$(median one-insert-on)" "ratio >= 0.9" "INSERT"
	row "the same, synchronous_commit off" "tps" "$(median one-off)" "$(median one-insert-off)" "ratio >= 0.9" "INSERT"
	sql -c "select netbus.drop_log('one')" -c 'drop table one' >"$work/null"
}

# --- publishing while the worker persists, and until it has

# async_run NAME BATCHES_A_TRANSACTION SECONDS: batches of 100 events; 0: not transactional.
async_run() {
	local head rows
	sql -c "select netbus.create_log('$1', durability => 'async', format => 'bytea', ring_size => '64MB')" -c checkpoint >"$work/null"
	timed <<-END
		#$1
		call bench.produce('$1', $3, 100, 100, $2, null, null);
		select '=$1-flushed ' || netbus.flush('$1')::int;
	END
	[ "$(median "$1-flushed")" = 1 ] || die "log \"$1\" was not flushed"
	head=$(sql -c "select netbus.head('$1')")
	rows=$(sql -F ' ' -c "select sum(events), min(base_seq), max(base_seq + events) - 1 from netbus.log_$1")
	[ "$rows" = "$head 1 $head" ] || die "log \"$1\" has $head events, its table $rows"
	note "$1-rate" "$(calc "$head / $(median "$1") / 1000")"
	note "$1-blocked" "$(sql -c "select blocked_ms / 1000 from netbus.stat_log where log = '$1'")"
	sql -c "select netbus.drop_log('$1')" -c checkpoint >"$work/null"
}

bench_async() {
	async_run async 0 "$ASYNC_SECONDS"
	async_run async_xact 10 "$(calc "$ASYNC_SECONDS / 4")"
	sql -c "create table async (id bigint generated always as identity primary key, payload bytea)"
	timed <<-END
		set synchronous_commit = off;
		#-
		checkpoint;
		#async-insert
		do \$\$declare a bytea[] := (select array_agg(decode(repeat('61', 100), 'hex')) from generate_series(1, 100));
			until timestamptz := clock_timestamp() + '$((ASYNC_SECONDS / 10 + 1)) s';
		begin
			while clock_timestamp() < until loop
				for i in 1..10 loop insert into async (payload) select unnest(a); end loop;
				commit;
			end loop;
		end\$\$;
		#-
		select '=async-insert-events ' || count(*) from async;
		drop table async;
	END
	row "publish into an async log, batches of 100, not transactional, $ASYNC_SECONDS s" "M/s" "$(median async-rate)" \
		"$(calc "$(median async-insert-events) / $(median async-insert) / 1000")" ">= 1" "INSERT, synchronous_commit off"
	row "seconds of these in which the publisher waited for room" "s" "$(median async-blocked)" "" ""
	row "the same, transactions of 1000" "M/s" "$(median async_xact-rate)" \
		"$(calc "$(median async-insert-events) / $(median async-insert) / 1000")" ">= 1" "INSERT, synchronous_commit off"
}

# --- the log that is read from its table, and a table with the same rows

make_cold() {
	local events
	[ -z "${cold_made:-}" ] || return 0
	cold_made=1
	make_tables
	sql -c "select netbus.create_log('cold', format => 'bytea', ring_size => '1MB')" \
		-c "create table cold (id bigint generated always as identity, payload bytea) with (autovacuum_enabled = off)" >"$work/null"
	{
		echo 'set synchronous_commit = off;'
		for ((events = 0; events < COLD_EVENTS; events += 1000000)); do
			echo 'begin;'
			each_table t "select count(netbus.publish('cold', p)) from %s"
			echo 'commit;'
			each_table t "insert into cold (payload) select p from %s"
		done
		# Packed more densely than by inserting, to the table's advantage.
		echo 'alter table cold add primary key (id);'
		echo 'vacuum freeze analyze cold;'
		echo 'vacuum freeze analyze netbus.log_cold;'
		echo 'checkpoint;'
	} | sql >"$work/null"
	published cold "$COLD_EVENTS"
}

# An ordered index scan without a sort, and one lookup after the other.
one_by_one='set enable_seqscan = off; set enable_bitmapscan = off; set enable_hashjoin = off;
	set enable_mergejoin = off; set enable_memoize = off; set enable_material = off;'

# netbus gives rows, of which the payload is taken: above the subquery, which costs
# less than in it. Whoever counts rows of the table visits them: netbus does, while an
# index-only scan asks the visibility map instead, and is no way to read a table.
bench_cold() {
	local q all="max_events => $COLD_EVENTS"
	make_cold
	{
		echo '#-'
		echo "$one_by_one"
		for ((r = 0; r <= FEW_ROUNDS; r++)); do
			for q in $(rotated $r cold-index cold cold-count-index cold-count); do
				echo "set enable_indexonlyscan = $([ $q = cold-count-index ] && echo off || echo on);"
				[ $r -gt 0 ] && echo "#$q"
				case $q in
					cold) echo "select sum(length((r).payload)) from (select netbus.read_raw('cold', $all) r) s;" ;;
					cold-index) echo "select sum(length(payload)) from (select payload from cold order by id offset 0) s;" ;;
					cold-count) echo "select count(*) from (select netbus.read_raw('cold', $all) r) s;" ;;
					cold-count-index) echo "select count(*) from (select id from cold order by id offset 0) s;" ;;
				esac
				echo '#-'
			done
		done
		echo '#cold-from'
		echo "select sum(length(payload)) from netbus.read_raw('cold', $all);"
	} | timed
	row "reading $((COLD_EVENTS / 1000000)) M events from the table, with the payload" "M/s" "$(rate "$COLD_EVENTS" cold)" \
		"$(rate "$COLD_EVENTS" cold-index)" "ratio >= 1.0" "index scan"
	row "the same, counting only" "M/s" "$(rate "$COLD_EVENTS" cold-count)" \
		"$(rate "$COLD_EVENTS" cold-count-index)" "ratio >= 2.0" "index scan"
	row "the same in FROM, materialised, with the payload" "M/s" "$(rate "$COLD_EVENTS" cold-from)" \
		"$(rate "$COLD_EVENTS" cold-index)" "" "index scan"
}

# --- single events by seq

# In a target list, and in a nested loop over an index scan: what costs least, in both
# cases. The seqs are among those of which table and log fit into shared_buffers.
bench_get() {
	local q n=100000
	make_cold
	sql -c "select netbus.create_log('hot', format => 'bytea', ring_size => '64MB')" \
		-c "select setseed(0.5)" \
		-c "create table cold_seqs as select 1 + floor(random() * least($COLD_EVENTS, 3e6))::bigint s from generate_series(1, $n)" \
		-c "create table hot_seqs as select 1 + floor(random() * 300000)::bigint s from generate_series(1, $n)" \
		-c "vacuum analyze cold_seqs, hot_seqs" \
		-c "select count(netbus.publish('hot', p)) from t0" -c "select count(netbus.publish('hot', p)) from t1" \
		-c "select count(netbus.publish('hot', p)) from t2" >"$work/null"
	[ "$(sql -c "select ring_used > 300000 * 104 from netbus.stat_log where log = 'hot'")" = t ] ||
		die "log \"hot\" is not in its ring"
	{
		echo '#-'
		echo "$one_by_one"
		for ((r = -1; r <= ROUNDS; r++)); do
			for q in $(rotated $((r + 1)) cold hot); do
				[ $r -gt 0 ] && echo "#get-$q" || echo '#-'
				echo "select sum(length(payload)) from (select (netbus.get_raw('$q', s)).payload from ${q}_seqs) e;"
				[ $r -gt 0 ] && echo "#get-$q-index" || echo '#-'
				echo "select sum(length(e.payload)) from ${q}_seqs, lateral (select payload from cold where id = s) e;"
			done
		done
	} | timed
	row "get_raw from the table, random seqs" "ns" "$(calc "$(median get-cold) * 1e6 / $n")" \
		"$(calc "$(median get-cold-index) * 1e6 / $n")" "ratio <= 1.6" "primary key"
	row "get_raw from the ring, random seqs" "ns" "$(calc "$(median get-hot) * 1e6 / $n")" \
		"$(calc "$(median get-hot-index) * 1e6 / $n")" "ratio <= 0.5" "primary key"
	sql -c "select netbus.drop_log('hot')" -c 'drop table hot_seqs, cold_seqs' >"$work/null"
}

# --- the first use of a log after the server has started

# restart [MODE]
restart() {
	pg_ctl -D "$PGDATA" -s -w -t 120 -m "${1:-fast}" -l "$NETBUS_SANDBOX/log/server" restart >"$work/restart" 2>&1 ||
		{ cat "$work/restart" >&2; die "restart failed"; }
	sleep 0.5 # its background processes have found their places
}

bench_open() {
	local q seq=$((COLD_EVENTS / 2))
	make_cold
	sql -c "select netbus.create_log('empty', format => 'bytea', ring_size => '1MB')" >"$work/null"
	for ((r = 0; r < FEW_ROUNDS; r++)); do
		for q in $(rotated $r open open-empty open-table open-crash); do
			case $q in
				open-crash) sql -c checkpoint; restart immediate ;;
				*) restart ;;
			esac
			case $q in
				open | open-crash) timed <<<"#$q"$'\n'"select count(*) from netbus.get_raw('cold', $seq);" ;;
				open-empty) timed <<<"#$q"$'\n'"select count(*) from netbus.get_raw('empty', $seq);" ;;
				open-table) timed <<<"#$q"$'\n'"select count(*) from cold where id = $seq;" ;;
			esac
		done
	done
	row "first get after a restart, log of $((COLD_EVENTS / 1000000)) M events, beyond that of an empty log" "ms" \
		"$(calc "$(median open) - $(median open-empty)")" "$(median open-table)" "<= 50" "first lookup in the table, all of it"
	row "first get after a restart, all of it" "ms" "$(median open)" "$(median open-table)" "" "first lookup in the table"
	row "the same, after an immediate stop" "ms" "$(median open-crash)" "$(median open-table)" "" "first lookup in the table"
}

# --- hours with a pinned snapshot, in short

# Two logs that keep 20,000 events, so that segments expire all the time.
bench_pinned() {
	local name tenth=$(((PINNED_SECONDS + 9) / 10)) dead dead_class
	for name in pin pin_async; do
		sql -c "select netbus.create_log('$name', durability => '$([ $name = pin ] && echo commit || echo async)', format => 'bytea',
			retention_events => 20000)" >"$work/null"
		echo "select netbus.publish('$name', :payload::bytea);" >"$work/$name.sql"
	done
	echo "select count(payload) from netbus.read_raw('pin', greatest(netbus.head('pin') - 10, 0));" >"$work/pin-read.sql"
	coproc HOLDER { psql -X -qAt; }
	echo 'begin isolation level repeatable read; select count(*) from pg_class;' >&"${HOLDER[1]}"
	read -r <&"${HOLDER[0]}"
	# Ten reports, of which the last may be a little late.
	PGOPTIONS='-c synchronous_commit=off' pgbench -n -M prepared -c 4 -j 2 -T $((tenth * 10 + 1)) -P $tenth \
		-f "$work/pin.sql@2" -f "$work/pin_async.sql@2" -f "$work/pin-read.sql@1" -D payload="$(printf 'x%.0s' {1..100})" \
		2>"$work/pinned" >"$work/null" || { cat "$work/pinned" >&2; die "pgbench failed"; }
	sleep 2
	[ "$(sql -c "select count(*) from pg_stat_activity where state = 'idle in transaction' and backend_xmin is not null")" = 1 ] ||
		die "the snapshot is not pinned any more"
	dead_class=$(sql -c "select n_dead_tup from pg_stat_all_tables where relid = 'pg_class'::regclass")
	dead=$(sql -c "select sum(n_dead_tup) from pg_stat_all_tables where schemaname = 'netbus'")
	sql -F ' ' -c "select log, expired, retained from netbus.stat_log where log ~ '^pin' order by 1" >"$work/pinned-logs"
	echo 'rollback;' >&"${HOLDER[1]}"
	eval "exec ${HOLDER[1]}>&-"
	wait
	awk '/^progress/ && ++n <= 10 { last = $4 } n == 1 { first = $4 } END { print "pinned-first", first; print "pinned-last", last }' "$work/pinned" >>"$values"
	row "publish, read and expire with a pinned snapshot, $PINNED_SECONDS s: last tenth" "tps" "$(median pinned-last)" \
		"$(median pinned-first)" "ratio >= 0.85" "first tenth"
	row "dead rows in all tables of netbus" "" "$dead" "" "<= 50"
	row "dead rows in pg_class, of truncated segments" "" "$dead_class" "" ""
	awk '{
			printf "| log \"%s\": expired %d, retained %d | | | | expired more than it retains | %s |\n", $1, $2, $3,
				($2 > $3 ? "yes" : "**no**")
		}' "$work/pinned-logs" | tee -a "$work/rows"
}
