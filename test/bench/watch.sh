# The benchmarks of watches: sourced by run.sh, whose helpers they use.
#
#   CHANGES=1000000        of one record in a burst
#   WATCHED=100000         memories that are stored, and then get other tags, each turn
#
# All watches are by one value each: a tag, a source, a scope or an id in turn, so that
# for each change the matcher has to look for all of these.

CHANGES=${CHANGES:-1000000}
WATCHED=${WATCHED:-100000}

# watch N MATCHING MODEL: that many watches, of which as many match what has tag "hot".
watch() {
	sql -c 'set netbus.max_watches_per_role = 1000000' \
		-c "select count(netbus.watch_memories('c' || i, tag => 'hot', model => '$3')) from generate_series(1, $2) i" \
		-c "select count(netbus.watch_memories('c', tag => case i % 4 when 0 then 'w' || i end, source => case i % 4 when 1 then 'w' || i end,
			scope => case i % 4 when 2 then 'w' || i end, ids => case i % 4 when 3 then array[i] end, model => '$3'))
			from generate_series(1, $1 - $2) i" >"$work/null"
	for ((i = 0; i < 600; i++)); do
		[ "$(sql -c "select count(*) from netbus.stat_watch where state = 'active'")" != "$1" ] || return 0
		sleep 0.1
	done
	die "not all watches are active"
}

unwatch() {
	sql -c 'select count(netbus.unwatch(watch)) from netbus.watches' -c 'vacuum netbus.catalog_watch' >"$work/null"
	for ((i = 0; i < 600; i++)); do
		[ "$(sql -c 'select count(*) from netbus.stat_get_watch()')" != 0 ] || return 0
		sleep 0.1
	done
	die "there still are watches"
}

# --- what watches cost those who write

# Fifty that listen to other channels, until they find the end of their script.
start_listeners() {
	local i
	listening=()
	mkfifo "$work/script"
	exec 8<>"$work/script"
	for ((i = 0; i < 50; i++)); do
		psql -X -q -c "listen idle$i" -f "$work/script" >"$work/null" 2>&1 8>&- &
		listening+=($!)
	done
	for ((i = 0; i < 600; i++)); do
		[ "$(sql -c "select count(*) from pg_stat_activity where query ~ '^listen' and state = 'idle'")" != 50 ] || return 0
		sleep 0.1
	done
	die "nobody listens"
}

stop_listeners() {
	exec 8>&-
	wait "${listening[@]}"
	rm "$work/script"
}

bench_writers() {
	local q r i listening store="select netbus.memory_store('somebody likes tea', '{hot,drinks}', 'chat', model => 'watched');"
	sql -c "select netbus.create_model('memories', 'watched')" \
		-c 'create table notes (id bigint generated always as identity primary key, content text, tags text[], source text, created_at timestamptz default now())' \
		-c "create function tell() returns trigger language plpgsql as \$\$begin perform pg_notify('notes', new.id::text); return null; end\$\$" \
		-c 'create trigger tell after insert on notes for each row execute function tell()' >"$work/null"
	start_listeners
	for ((r = 0; r < 2 * ROUNDS; r++)); do
		for q in $(rotated $r none watched trigger); do
			case $q in
				none) clients writers-none "$store" 4 ;;
				watched)
					watch 1000 10 watched
					clients writers-watched "$store" 4
					unwatch ;;
				trigger) clients writers-trigger "insert into notes (content, tags, source) values ('somebody likes tea', '{hot,drinks}', 'chat');" 4 ;;
			esac
		done
	done
	stop_listeners
	row "store one a transaction, 4 clients, 50 listen elsewhere; 1,000 watches, of which 10 match" "tps" "$(median writers-watched)" \
		"$(median writers-none)" "ratio >= 0.95" "no watches"
	row "the same" "tps" "$(median writers-watched)" "$(median writers-trigger)" "ratio >= 1.3" "a table, pg_notify() in a trigger"
	sql -c "select netbus.drop_model('memories', 'watched')" -c 'drop table notes' -c 'drop function tell' >"$work/null"
}

# --- from a commit to the notification

bench_told() {
	local r q median p99
	compile latency pq
	sql -c "select netbus.create_model('memories', 'lat')" \
		-c "select netbus.watch_memories('lat', tag => 'lat', debounce => '0', model => 'lat')" >"$work/null"
	for ((r = 0; r < 4 * ROUNDS; r++)); do
		for q in $(rotated $r notify watch notify-paced watch-paced); do
			"$work/latency" $q 500 >"$work/out" || die "latency failed"
			read -r median p99 <"$work/out"
			note told-$q $median
			note told-p99-$q $p99
		done
	done
	row "store to notification, debounce 0, closed loop, median" "µs" "$(median told-watch)" "$(median told-notify)" "ratio <= 3" "NOTIFY"
	row "p99" "µs" "$(median told-p99-watch)" "$(median told-p99-notify)" "" "NOTIFY"
	row "the same, the listener asleep for 0.1 ms, median" "µs" "$(median told-watch-paced)" "$(median told-notify-paced)" "ratio <= 3" "NOTIFY"
	sql -c "select netbus.drop_model('memories', 'lat')" >"$work/null"
}

# --- what watches cost the fold

# From a commit to the end of the fold; one watch matches whatever is stored.
bench_watches() {
	local q r i
	make_rows "$WATCHED" 200 >"$work/watched.txt"
	sql -c 'create unlogged table watched (id bigint, content text, tags text[], source text, created_at timestamptz)' \
		-c "\\copy watched from '$work/watched.txt'" -c "update watched set tags = tags[:3] || '{hot}'" -c 'vacuum full analyze watched' >"$work/null"
	rm "$work/watched.txt"
	for ((r = 0; r <= ROUNDS; r++)); do
		for q in $(rotated $r none watched); do
			sql -c "select netbus.create_model('memories', 'watched')" >"$work/null"
			[ $q = none ] || watch 10000 1 watched
			{
				echo '#-'
				echo 'set synchronous_commit = off;'
				echo 'begin;'
				echo "select count(netbus.memory_store(content, tags, source, id => 1000000 + id, created => created_at, model => 'watched')) from watched;"
				[ $r -gt 0 ] && echo "#stored-$q" || echo '#-'
				echo 'commit;'
				echo "select netbus.wait_for('memories_watched', timeout => '60 s');"
				for i in 299 298 297 296 295; do
					echo '#-'
					echo 'begin;'
					echo "select count(netbus.memory_retag(1000000 + id, array['t' || id % 300, 't' || id % $i, tags[3], 'hot'], model => 'watched')) from watched;"
					[ $r -gt 0 ] && echo "#retagged-$q" || echo '#-'
					echo 'commit;'
					echo "select netbus.wait_for('memories_watched', timeout => '60 s');"
				done
			} | timed
			[ $q = none ] || [ "$(sql -c 'select max(matches) from netbus.stat_watch')" = $((6 * WATCHED)) ] || die "not all changes have matched"
			[ "$(sql -c "select records from netbus.stat_model where model = 'watched'")" = "$WATCHED" ] || die "not all is folded"
			[ $q = none ] || unwatch
			sql -c "select netbus.drop_model('memories', 'watched')" >"$work/null"
		done
	done
	row "$WATCHED memories stored, folded with 10,000 watches, of which 1 matches" "M/s" "$(rate "$WATCHED" stored-watched)" \
		"$(rate "$WATCHED" stored-none)" "ratio >= 0.9" "no watches"
	row "their tags changed, likewise" "M/s" "$(rate "$WATCHED" retagged-watched)" "$(rate "$WATCHED" retagged-none)" "ratio >= 0.9" "no watches"
	sql -c 'drop table watched' >"$work/null"
}

# --- a burst of changes of one record

# Transactions of 100 changes in the session that listens, which is told when it has done all of them.
bench_same() {
	local r notes windows
	sql -c "select netbus.create_model('memories', 'same')" -c "select netbus.memory_store('somebody likes tea', id => 1, model => 'same')" \
		-c "select netbus.wait_for('memories_same')" >"$work/null"
	for ((r = 0; r < FEW_ROUNDS; r++)); do
		sql >"$work/out" <<-END
			set synchronous_commit = off;
			listen same;
			select netbus.watch_memories('same', ids => '{1}', model => 'same') \\gset
			select clock_timestamp() began \\gset
			do \$\$begin
				for i in 1..$CHANGES / 100 loop
					perform case when j % 2 = 0 then netbus.memory_pin(1, 'same') else netbus.memory_unpin(1, 'same') end from generate_series(1, 100) j;
					commit;
				end loop;
			end\$\$;
			select netbus.wait_for('memories_same', timeout => '60 s') \\g $work/null
			select pg_sleep(1) \\g $work/null
			select '=changes ' || matches, extract(epoch from last_notified_at - :'began') / 0.01
				from netbus.stat_watch where watch = :watch_memories;
			select netbus.unwatch(:watch_memories) \\g $work/null
		END
		notes=$(grep -c '^Asynchronous notification "same"' "$work/out")
		windows=$(awk -F '|' '/^=changes/ { print $2 }' "$work/out")
		grep -q "^=changes $((CHANGES / 100 * 100))|" "$work/out" || die "not all changes have matched"
		note same-notes "$notes"
		note same-windows "$windows"
		note same-share "$(calc "$notes / $windows")"
	done
	row "$CHANGES changes of one record: notifications per window of 10 ms, of $(calc "int($(median same-windows))") windows" "" \
		"$(median same-share)" "" "<= 1"
	sql -c "select netbus.drop_model('memories', 'same')" >"$work/null"
}
