# The benchmarks of consumers, filters and polling: sourced by run.sh, whose helpers they use.
#
#   BACKLOG=200000         events to consume each turn, a multiple of 100,000
#
# Whoever consumes commits each batch; synchronous_commit is off unless said otherwise.
# The events are those of the jsonb benchmark.

BACKLOG=${BACKLOG:-200000}

# for_backlog FORMAT: a statement for as many of the ten tables of 100,000 rows.
for_backlog() { for ((i = 0; i < BACKLOG / 100000; i++)); do printf "$1;\n" "j$i"; done; }

# --- receive and ack in batches of 100, against a table that is a queue

# loop BODY: in the server, until it finds nothing; the body sets n.
loop() {
	echo "do \$\$declare n bigint; total bigint := 0; begin loop $1 commit; exit when n = 0; total := total + n; end loop;"
	echo "if total <> $BACKLOG then raise 'consumed % events', total; end if; end\$\$;"
}

make_queues() {
	[ -z "${queues_made:-}" ] || return 0
	queues_made=1
	make_jsonb_tables
	sql -c "select netbus.create_log('q')" -c "select netbus.create_log('qr', durability => 'memory', ring_size => '64MB')" \
		-c "select netbus.create_log('qb', format => 'bytea')" \
		-c "select netbus.create_consumer(log, 'c', 'earliest') from unnest('{q,qr,qb}'::text[]) log" \
		-c "create table queue (id bigint generated always as identity primary key, payload jsonb)" >"$work/null"
}

# refill KIND: the backlog, committed and as good as an index can be.
refill() {
	case $1 in
		table) echo 'truncate queue;' ;;
		pgmq) echo 'truncate emulated.q_queue;' ;;
	esac
	case $1 in
		table) for_backlog 'insert into queue (payload) select p from %s' ;;
		pgmq) for_backlog 'insert into emulated.q_queue (vt, message) select now(), p from %s' ;;
		pgq) for ((i = 0; i < BACKLOG / 100000; i++)); do
			echo "select count(pgq.insert_event('queue', 'order.created', p::text)) from j$i;"
			echo "select pgq.force_tick('queue'); select pgq.ticker('queue');"
		done ;;
		qb) for_backlog "select count(netbus.publish('qb', p::text::bytea)) from %s" ;;
		*) for_backlog "select count(netbus.publish('$1', p)) from %s" ;;
	esac
	case $1 in
		table) echo 'vacuum freeze analyze queue;' ;;
		pgmq) echo 'vacuum freeze analyze emulated.q_queue;' ;;
		q | qb) echo "vacuum freeze netbus.log_$1;" ;;
	esac
}

bench_receive() {
	local q sync batch="select count(payload) into n from netbus.receive"
	make_queues
	{
		for ((r = 0; r <= ROUNDS; r++)); do
			for sync in off on; do
				for q in $(rotated $r q table qr); do
					[ $q$sync != qron ] || continue
					echo '#-'
					refill $q
					echo 'checkpoint;'
					echo "set synchronous_commit = $sync;"
					[ $r -gt 0 ] && echo "#receive-$q-$sync"
					case $q in
						table) loop "with d as (delete from queue where id = any(array(select id from queue order by id limit 100
							for update skip locked)) returning payload) select count(payload) into n from d;" ;;
						*) loop "$batch('$q', 'c', 100); if n > 0 then perform netbus.ack('$q', 'c'); end if;" ;;
					esac
				done
			done
		done
	} | timed
	for sync in off on; do
		row "receive and ack of 100 events a transaction, commit log, synchronous_commit $sync" "M/s" \
			"$(rate "$BACKLOG" receive-q-$sync)" "$(rate "$BACKLOG" receive-table-$sync)" "ratio >= 3" "DELETE .. SKIP LOCKED"
	done
	row "the same, events still in the ring, memory log" "M/s" "$(rate "$BACKLOG" receive-qr-off)" \
		"$(rate "$BACKLOG" receive-table-off)" "" "DELETE .. SKIP LOCKED"
}

# --- batches of 1000 to a client

# In the manner of pgmq 1.5: the table, the work of read() and delete(), and that all is
# dynamic SQL in PL/pgSQL.
make_pgmq() {
	sql <<-'END'
		create schema emulated;
		create table emulated.q_queue (msg_id bigint primary key generated always as identity, read_ct int not null default 0,
			enqueued_at timestamptz not null default now(), vt timestamptz not null, message jsonb, headers jsonb);
		create index on emulated.q_queue (vt);
		create type emulated.message as (msg_id bigint, read_ct int, enqueued_at timestamptz, vt timestamptz, message jsonb, headers jsonb);
		create function emulated.name_of(queue text) returns text language plpgsql as $$begin
			if queue ~ '[$;'']|--' then raise exception 'invalid queue name'; end if;
			return lower('q_' || queue);
		end$$;
		create function emulated.read(queue text, seconds int, quantity int) returns setof emulated.message language plpgsql as $$begin
			return query execute format('
				with visible as (select msg_id from emulated.%1$I where vt <= clock_timestamp() order by msg_id limit $2
					for update skip locked)
				update emulated.%1$I q set vt = clock_timestamp() + make_interval(secs => $1), read_ct = q.read_ct + 1
				from visible where q.msg_id = visible.msg_id
				returning q.msg_id, q.read_ct, q.enqueued_at, q.vt, q.message, q.headers', emulated.name_of(queue))
				using seconds, quantity;
		end$$;
		create function emulated.delete(queue text, ids bigint[]) returns setof bigint language plpgsql as $$begin
			return query execute format('delete from emulated.%I where msg_id = any($1) returning msg_id', emulated.name_of(queue))
				using ids;
		end$$;
		END
}

make_pgq() {
	[ "$(sql -c "select count(*) from pg_available_extensions where name = 'pgq'")" = 1 ] || return 1
	sql -c 'set client_min_messages = warning' -c 'create extension pgq cascade' -c "select pgq.create_queue('queue')" \
		-c "select pgq.register_consumer('queue', 'c')" >"$work/null"
}

# start_redis: one that keeps nothing, at a socket; sets redis_pid.
start_redis() {
	local i
	command -v redis-server >"$work/null" && [ -e /usr/include/hiredis/hiredis.h ] || return 1
	compile consume_redis hiredis
	redis-server --port 0 --unixsocket "$work/redis" --save '' --appendonly no >"$work/redis.log" &
	redis_pid=$!
	for ((i = 0; i < 50; i++)); do
		[ ! -S "$work/redis" ] || return 0
		sleep 0.1
	done
	die "redis-server does not start"
}

# client NAME PROGRAM...: note the milliseconds.
client() {
	local name=$1 events ms
	shift
	read -r events ms < <("$@") || die "$1 failed"
	[ "$events" = "$BACKLOG" ] || die "$* has consumed $events events"
	[ "$r" -eq 0 ] || note "$name" "$ms"
}

bench_client() {
	local q r kinds="q qb pgmq pgmq_apart" redis_pid=
	local consume=$work/consume
	compile consume pq
	make_queues
	make_pgmq
	make_pgq && kinds="$kinds pgq"
	start_redis && kinds="$kinds redis"
	export PGOPTIONS='-c synchronous_commit=off'
	for ((r = 0; r <= ROUNDS; r++)); do
		for q in $(rotated $r $kinds); do
			[ $q = redis ] || { refill ${q%_apart}; echo 'checkpoint;'; } | sql >"$work/null"
			case $q in
				q) client client-$q "$consume" netbus $q c 1000 ;;
				qb) client client-$q "$consume" netbus_raw $q c 1000 ;;
				pgmq*) client client-$q "$consume" $q emulated queue 1000 ;;
				pgq) client client-$q "$consume" pgq queue c 1000 ;;
				redis) client client-$q "$work/consume_redis" "$work/redis" "$BACKLOG" 1000 ;;
			esac
		done
	done
	unset PGOPTIONS
	row "receive and ack of 1000 jsonb events a transaction, libpq client" "M/s" "$(rate "$BACKLOG" client-q)" \
		"$(rate "$BACKLOG" client-pgmq)" "ratio >= 20" "read and delete like pgmq"
	row "the same" "M/s" "$(rate "$BACKLOG" client-q)" "$(rate "$BACKLOG" client-pgmq_apart)" "" "like pgmq, two transactions"
	row "the same with bytes, binary" "M/s" "$(rate "$BACKLOG" client-qb)" \
		"$(rate "$BACKLOG" client-pgmq)" "ratio >= 20" "read and delete like pgmq"
	case $kinds in
		*pgq*)
			row "jsonb" "M/s" "$(rate "$BACKLOG" client-q)" "$(rate "$BACKLOG" client-pgq)" "" "PgQ, cursor"
			row "bytes, binary" "M/s" "$(rate "$BACKLOG" client-qb)" "$(rate "$BACKLOG" client-pgq)" "ratio >= 2" "PgQ, cursor" ;;
		*) echo '| ^ PgQ is not installed (postgresql-15-pgq3) | | | | | |' ;;
	esac
	if [ -n "$redis_pid" ]; then
		kill "$redis_pid"
		wait "$redis_pid"
		row "jsonb" "M/s" "$(rate "$BACKLOG" client-q)" "$(rate "$BACKLOG" client-redis)" "" "Redis XREADGROUP, XACK"
		row "bytes, binary" "M/s" "$(rate "$BACKLOG" client-qb)" "$(rate "$BACKLOG" client-redis)" "ratio >= 3" "Redis XREADGROUP, XACK"
	else
		echo '| ^ Redis is not installed (redis-server, libhiredis-dev) | | | | | |'
	fi
}

# --- a filter that 1 % of the events match

bench_filter() {
	local q n=500000 filter="filter => '{\"path\": \"agent\", \"value\": \"agent-42\"}'" json="convert_from(payload, 'UTF8')::jsonb"
	local match="@> '{\"agent\": \"agent-42\"}'"
	make_jsonb_tables
	sql -c "select netbus.create_log('f', durability => 'memory', ring_size => '128MB')" \
		-c "select netbus.create_log('fb', durability => 'memory', format => 'bytea', ring_size => '128MB')" >"$work/null"
	for i in 0 1 2 3 4; do
		echo "select count(netbus.publish('f', p)), count(netbus.publish('fb', p::text::bytea)) from j$i;"
	done | sql >"$work/null"
	{
		for ((r = 0; r <= ROUNDS; r++)); do
			for q in $(rotated $r filter filter-sql filter-stream filter-raw filter-raw-sql filter-raw-stream); do
				echo '#-'
				[ $r -gt 0 ] && echo "#$q"
				case $q in
					filter) echo "select count(*) n from netbus.read('f', max_events => $n, $filter) \\gset" ;;
					filter-sql) echo "select count(*) n from netbus.read('f', max_events => $n) where payload $match \\gset" ;;
					filter-stream) echo "select count(*) n from (select netbus.read('f', max_events => $n) r offset 0) s
						where (r).payload $match \\gset" ;;
					filter-raw) echo "select count(*) n from netbus.read_raw('fb', max_events => $n, $filter) \\gset" ;;
					filter-raw-sql) echo "select count(*) n from netbus.read_raw('fb', max_events => $n) where $json $match \\gset" ;;
					filter-raw-stream) echo "select count(*) n from (select netbus.read_raw('fb', max_events => $n) r offset 0) s
						where ${json/payload/(r).payload} $match \\gset" ;;
				esac
				echo '#-'
				echo "select '=found-$q ' || :n;"
			done
		done
	} | timed
	for q in filter filter-sql filter-stream filter-raw filter-raw-sql filter-raw-stream; do
		[ "$(median found-$q)" = 5555 ] || die "$q has found $(median found-$q) events"
	done
	row "filter that 1 % match, $n events, jsonb log" "ms" "$(median filter)" "$(median filter-sql)" \
		"ratio <= 0.167" "read all, @> in SQL"
	row "the same" "ms" "$(median filter)" "$(median filter-stream)" "" "read in a target list, @> above it"
	row "the same, bytea log" "ms" "$(median filter-raw)" "$(median filter-raw-sql)" \
		"ratio <= 0.1" "read all, cast to jsonb, @>"
	row "the same" "ms" "$(median filter-raw)" "$(median filter-raw-stream)" "" "read in a target list, cast, @>"
	sql -c "select netbus.drop_log(log) from unnest('{f,fb}'::text[]) log" >"$work/null"
}

# --- polling all of a log by pages of 1000

bench_poll() {
	local q n=400000
	make_jsonb_tables
	sql -c "select netbus.create_log('p1', durability => 'memory', ring_size => '128MB')" \
		-c "select netbus.create_log('p16', durability => 'memory', shards => 16, ring_size => '16MB')" >"$work/null"
	for i in 0 1 2 3; do
		echo "select count(netbus.publish('p1', p, p->>'id')), count(netbus.publish('p16', p, p->>'id')) from j$i;"
	done | sql >"$work/null"
	{
		for ((r = 0; r <= ROUNDS; r++)); do
			for q in $(rotated $r p1:none p16:none p16:ts p1:ts); do
				[ $r -gt 0 ] && echo "#poll-${q/:/-}" || echo '#-'
				cat <<-END
				do \$\$declare c text := 'earliest'; t text; n bigint := 0; k bigint; more bool := true; begin
					while more loop
						select count(payload), max(next_cursor), bool_or(has_more) into k, t, more
							from netbus.poll('${q%:*}', c, 1000, ordering => '${q#*:}');
						n := n + k; c := t;
					end loop;
					if n <> $n then raise 'polled % events', n; end if;
				end\$\$;
				END
			done
		done
	} | timed
	row "poll by 1000, $n events of 16 shards" "ms" "$(median poll-p16-none)" "$(median poll-p1-none)" "ratio <= 1.3" "of 1 shard"
	row "the same, ordering ts" "ms" "$(median poll-p16-ts)" "$(median poll-p16-none)" "ratio <= 1.5" "ordering none"
	row "the same, ordering ts, 1 shard" "ms" "$(median poll-p1-ts)" "$(median poll-p1-none)" "" "ordering none"
	sql -c "select netbus.drop_log(log) from unnest('{p1,p16}'::text[]) log" >"$work/null"
}

# --- from a commit to a member of a consumer that waits

bench_wakeup() {
	local mode log median p99
	compile latency pq
	for log in commit async memory; do
		echo "select netbus.create_log('lat_$log', durability => '$log', format => 'bytea');"
		echo "select netbus.create_consumer('lat_$log', 'c');"
	done | sql >"$work/null"
	for ((r = 0; r < 4 * ROUNDS; r++)); do
		for mode in $(rotated $r notify: receive:lat_commit receive:lat_async receive:lat_memory notify-paced: receive-paced:lat_commit); do
			log=${mode#*:}
			"$work/latency" ${mode%:*} 500 $log >"$work/out" || die "latency failed"
			read -r median p99 <"$work/out"
			note wakeup-${mode/:/-} $median
			note wakeup-p99-${mode/:/-} $p99
		done
	done
	row "commit to receive, commit log, closed loop, median" "µs" "$(median wakeup-receive-lat_commit)" \
		"$(median wakeup-notify-)" "ratio <= 0.8" "LISTEN/NOTIFY"
	row "p99" "µs" "$(median wakeup-p99-receive-lat_commit)" "$(median wakeup-p99-notify-)" "" "LISTEN/NOTIFY"
	row "the same, the receiver asleep for 0.1 ms, median" "µs" "$(median wakeup-receive-paced-lat_commit)" \
		"$(median wakeup-notify-paced-)" "" "LISTEN/NOTIFY"
	row "async log, closed loop, median" "µs" "$(median wakeup-receive-lat_async)" "$(median wakeup-notify-)" "" "LISTEN/NOTIFY"
	row "memory log, closed loop, median" "µs" "$(median wakeup-receive-lat_memory)" "$(median wakeup-notify-)" "" "LISTEN/NOTIFY"
}

# --- what consumers cost those who publish

# Fifty that wait in receive() on five other logs; their pids are in waiting.
start_waiters() {
	local i
	waiting=()
	for ((i = 0; i < 50; i++)); do
		psql -X -qAt -c "select count(*) from netbus.receive('other$((i % 5))', 'c$i', wait => '60 s')" >"$work/null" 2>&1 &
		waiting+=($!)
	done
	for ((i = 0; i < 100; i++)); do
		if [ "$(sql -c "select sum(waiting) from netbus.stat_consumer where log ~ '^other'")" = 50 ]; then
			sleep 1 # and sleeps
			return 0
		fi
		sleep 0.05
	done
	die "nobody waits"
}

stop_waiters() {
	sql -c "select count(pg_terminate_backend(pid)) from pg_stat_activity where query ~ '^select count.*receive' and pid <> pg_backend_pid()" >"$work/null"
	wait "${waiting[@]}" 2>"$work/null"
	sleep 1
}

# In turns: a log without consumers while nobody waits, and one with 1000 while fifty do.
bench_consumers() {
	local q r i waiting
	make_jsonb_tables
	sql -c "select netbus.create_log('alone')" -c "select netbus.create_log('crowded')" \
		-c "select count(netbus.create_consumer('crowded', 'c' || i)) from generate_series(1, 1000) i" \
		-c "select count(netbus.create_log('other' || i)) from generate_series(0, 4) i" \
		-c "select count(netbus.create_consumer('other' || i % 5, 'c' || i)) from generate_series(0, 49) i" >"$work/null"
	for ((r = 0; r <= 3 * ROUNDS; r++)); do
		for q in $(rotated $r alone crowded); do
			[ $q = alone ] || start_waiters
			{
				echo 'set synchronous_commit = off;'
				[ $r -gt 0 ] && echo "#to-$q" || echo '#-'
				for i in 0 1 2 3 4; do echo "select count(netbus.publish('$q', p)) from j$i;"; done
				[ $r -gt 0 ] && echo "#commit-$q" || echo '#-'
				echo "do \$\$begin for i in 1..20000 loop perform netbus.publish('$q', '{\"agent\": \"agent-17\"}'::jsonb); commit; end loop; end\$\$;"
			} | timed
			[ $q = alone ] || stop_waiters
		done
	done
	row "publish into a log with 1000 consumers, 50 waiting elsewhere, transactions of 100,000" "M/s" "$(rate 500000 to-crowded)" \
		"$(rate 500000 to-alone)" "ratio >= 0.98" "no consumer"
	row "the same, an event a transaction" "M/s" "$(rate 20000 commit-crowded)" "$(rate 20000 commit-alone)" "ratio >= 0.98" "no consumer"
	sql -c "select netbus.drop_log(log) from netbus.logs where log ~ '^(alone|crowded|other.)$'" >"$work/null"
}
