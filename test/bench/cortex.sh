# The benchmarks of models: sourced by run.sh, whose helpers they use.
#
#   ROWS=100000            memories that are asked; 1000000 takes some minutes
#   CONTENT=1000           bytes of each; with more than 100,000 rows 200
#
# The same rows are in model default, in a table with an index for each question
# (btree on source and created_at, GIN on tags, trigrams on content), and in a schema
# made for these questions: a table of tags with primary key (tag, created_at, id) and
# a btree on (source, created_at). Each question is a prepared statement that
# is executed inside the server, with 300 different parameters in turn, and its rows are
# deformed; the median of its executions counts in each round.

ROWS=${ROWS:-100000}
CONTENT=${CONTENT:-$([ "$ROWS" -gt 100000 ] && echo 200 || echo 1000)}

# make_rows ROWS BYTES: id, content, tags, source, created_at. Each row has 3 of 300 tags, a
# tenth of them "hot" as well, one of 20 sources, and one of 1000 needles in its content.
make_rows() {
	awk -v n="$1" -v bytes="$2" '
		function pick(n) { return int(rand() * n) }
		BEGIN {
			srand(7)
			split("ba ce di fo gu ha ki lem mon nur pas quo rin sel tok ul vam wex yo zan", part, " ")
			for (i = 0; i < 3000; i++)
				word[i] = part[1 + pick(20)] part[1 + pick(20)] (pick(2) ? part[1 + pick(20)] : "")
			for (i = 1; i <= n; i++) {
				content = ""
				while (length(content) < bytes - 8)
					content = content word[pick(3000)] " "
				a = pick(300); b = (a + 1 + pick(99)) % 300; c = (b + 1 + pick(99)) % 300
				printf "%d\t%sxq%dzv\t{t%d,t%d,t%d%s}\ts%d\t%s\n", i, content, pick(1000), a, b, c,
					pick(10) ? "" : ",hot", pick(20), strftime("%Y-%m-%d %H:%M:%S+00", 1760000000 - pick(31536000), 1)
			}
		}'
}

# fill MODEL TABLE: store all of a table, and wait until it is folded.
fill() {
	sql -c "select netbus.create_model('memories', '$1', if_not_exists => true)" \
		-c "select count(netbus.memory_store(content, tags, source, id => id, created => created_at, model => '$1')) from $2" \
		-c "set netbus.wait_timeout = '600 s'" -c "select netbus.memory_count(model => '$1')" >"$work/null"
}

make_memories() {
	[ -z "${memories_made:-}" ] || return 0
	memories_made=1
	make_rows "$ROWS" "$CONTENT" >"$work/memories.txt"
	sql -c "alter system set netbus.model_memory = '8GB'" -c "select pg_reload_conf()" \
		-c 'create extension if not exists pg_trgm' \
		-c 'create table plain (id bigint primary key, content text, tags text[], source text, created_at timestamptz)' \
		-c "\\copy plain from '$work/memories.txt'" \
		-c 'create table tuned as select * from plain' -c 'alter table tuned add primary key (id)' \
		-c 'create index on tuned (source, created_at)' \
		-c 'create table tuned_tags as select unnest(tags) tag, created_at, id from tuned' \
		-c 'alter table tuned_tags add primary key (tag, created_at, id)' \
		-c 'create index on plain using gin (tags)' -c 'create index on plain (source)' -c 'create index on plain (created_at)' \
		-c "set maintenance_work_mem = '1GB'" -c 'create index on plain using gin (content gin_trgm_ops)' \
		-c 'vacuum analyze plain' -c 'vacuum analyze tuned' -c 'vacuum analyze tuned_tags' >"$work/null"
	rm "$work/memories.txt"
	fill default plain
}

# --- questions

one_tag="select 't' || i * 7919 % 300 from generate_series(1, 300) i"
declare -A parameters=(
	[tag]=$one_tag [count]=$one_tag
	[any]="select array['t' || i * 7919 % 300, 't' || (i * 7919 + 7) % 300, 't' || (i * 7919 + 150) % 300] from generate_series(1, 300) i"
	[all]="select array['t' || i * 7919 % 300, 'hot'] from generate_series(1, 300) i"
	[source]="select 's' || i * 7919 % 20 from generate_series(1, 300) i"
	[find]="select 'xq' || i * 7919 % 1000 || 'zv' from generate_series(1, 300) i"
	[some]="select 'xq' || i * 7919 % 1000 || 'zv' from generate_series(1, 300) i"
	[ids]="select array(select (1 + (i * 7919::bigint + j * 104729) % $ROWS) from generate_series(1, 100) j) from generate_series(1, 300) i"
	[one]="select 1 + i * 7919::bigint % $ROWS from generate_series(1, 300) i"
	[pending]="select 'pending'::text"
)
columns='id, content, source, created'
declare -A in_netbus=(
	[tag]="select $columns from netbus.memories(tag => \$1, max_rows => 10)"
	[any]="select $columns from netbus.memories(any_tags => \$1, max_rows => 10)"
	[all]="select $columns from netbus.memories(all_tags => \$1, max_rows => 10)"
	[source]="select $columns from netbus.memories(source => \$1, max_rows => 10)"
	[find]="select $columns from netbus.memories(content_contains => \$1, max_rows => 10)"
	[some]="select $columns from netbus.memories(content_contains => \$1, max_rows => 10)"
	[ids]="select id, content from netbus.memories(ids => \$1)"
	[count]="select netbus.memory_count(tag => \$1)"
	[one]="select id, content, tags, source, created from netbus.memory(\$1)"
	[pending]="select id, title, created from netbus.tasks(status => \$1, max_rows => 20)"
)
columns='id, content, source, created_at'
newest='order by created_at desc limit 10'
declare -A in_plain=(
	[tag]="select $columns from plain where tags @> array[\$1] $newest"
	[any]="select $columns from plain where tags && \$1 $newest"
	[all]="select $columns from plain where tags @> \$1 $newest"
	[source]="select $columns from plain where source = \$1 $newest"
	[find]="select $columns from plain where content ilike '%' || \$1 || '%' $newest"
	[some]="select $columns from plain where content ilike '%' || \$1 || '%' limit 10"
	[ids]="select id, content from plain where id = any(\$1)"
	[count]="select count(*) from plain where tags @> array[\$1]"
	[one]="select id, content, tags, source, created_at from plain where id = \$1"
	[pending]="select id, title, created_at from task_rows where status = \$1 order by created_at desc limit 20"
)
columns='m.id, m.content, m.source, m.created_at'
ten="select created_at, id from tuned_tags where tag = (\$1)[%d] order by created_at desc, id desc limit 10"
declare -A in_tuned=(
	[tag]="select $columns from tuned_tags t join tuned m using (id) where t.tag = \$1 order by t.created_at desc limit 10"
	[any]="select $columns from (select distinct created_at, id from (($(printf "$ten" 1)) union all ($(printf "$ten" 2)) union all
		($(printf "$ten" 3))) s order by created_at desc limit 10) t join tuned m using (id) order by t.created_at desc"
	[all]="select $columns from tuned_tags t join tuned_tags u on u.tag = (\$1)[2] and u.created_at = t.created_at and u.id = t.id
		join tuned m on m.id = t.id where t.tag = (\$1)[1] order by t.created_at desc limit 10"
	[source]="select $columns from tuned m where source = \$1 $newest"
	[count]="select count(*) from tuned_tags where tag = \$1"
)

# ask QUESTION...: of all that can answer it, in turns.
ask() {
	local q r where
	for q; do
		for ((r = 0; r <= ROUNDS; r++)); do
			for where in $(rotated $r netbus plain tuned); do
				local -n statement=in_$where
				[ -n "${statement[$q]:-}" ] || continue
				echo "select '$([ $r -gt 0 ] || echo warm-up-)$where-$q', us from bench.execute(\$q\$${statement[$q]}\$q\$,
					\$q\$${parameters[$q]}\$q\$, $([ $where = netbus ] && echo 1500 || echo 300));"
			done
		done
		for where in netbus plain tuned; do
			local -n statement=in_$where
			[ -n "${statement[$q]:-}" ] || continue
			echo "select 'found-$q', found from bench.execute(\$q\$${statement[$q]}\$q\$, \$q\$${parameters[$q]}\$q\$, 300);"
		done
	done | sql -F ' ' >>"$values"
	for q; do
		[ "$(awk -v q="found-$q" '$1 == q { print $2 }' "$values" | sort -u | wc -l)" = 1 ] || die "not everybody finds the same by $q"
	done
}

# answered QUESTION WHAT GOAL GOAL_TUNED
answered() {
	row "$2" "µs" "$(median netbus-$1)" "$(median plain-$1)" "${3:+ratio <= $(calc "1 / $3")}" "indexed table, $(calc "int($(median plain-$1) / $(median netbus-$1) * 10) / 10")×"
	[ -z "${4:-}" ] ||
		row "the same" "µs" "$(median netbus-$1)" "$(median tuned-$1)" "ratio <= $(calc "1 / $4")" "tuned schema, $(calc "int($(median tuned-$1) / $(median netbus-$1) * 10) / 10")×"
}

bench_ask() {
	local million=$([ "$ROWS" -ge 1000000 ] && echo 1)
	make_memories
	ask tag any all source count ids one find some
	answered tag "newest 10 of a tag that 1 % have, $ROWS memories of $CONTENT bytes" 60 3
	answered any "newest 10 with any of 3 tags" 30 4
	answered all "newest 10 with all of 2 tags" 40 10
	answered source "newest 10 of a source" 10 2
	answered count "count of a tag" 200 20
	answered ids "100 ids" 4
	answered one "one by its id" 2
	answered find "newest 10 with a substring that 0.1 % have" $([ -n "$million" ] && echo 20 || echo 1)
	answered some "the same, where the table may give any 10" ""
	sql -F ' ' -c "select 'memory-bytes', memory_bytes::float8 / (select sum(octet_length(content) + octet_length(source)
			+ (select sum(octet_length(t)) from unnest(tags) t)) from plain),
		content_bytes from netbus.stat_model where kind = 'memories' and model = 'default'" >>"$values"
	row "memory, beside the bytes of content, tags and source" "×" "$(median memory-bytes)" "" "$([ "$CONTENT" = 1000 ] && echo '<= 1.35')"
}

bench_tasks() {
	sql -c "create table task_rows (id bigint primary key, title text, status text, created_at timestamptz, updated_at timestamptz)" \
		-c "insert into task_rows select i, 'task number ' || i, case when i % 10 = 0 then 'pending' else 'completed' end,
			timestamptz '2026-01-01' + i * interval '1 second', now() from generate_series(1, 100000) i" \
		-c 'create index on task_rows (status, created_at)' -c 'vacuum analyze task_rows' \
		-c "select count(netbus.task_create(title, id => id)) from task_rows" \
		-c "select count(netbus.task_complete(id)) from task_rows where status = 'completed'" \
		-c "select netbus.task_count()" >"$work/null"
	[ "$(sql -c "select netbus.task_count(status => 'pending')")" = 10000 ] || die "wrong number of tasks"
	ask pending
	answered pending "newest 20 of 10,000 pending tasks; the table has an index on (status, created_at)" 2
}

# --- storing

# An empty table with all indexes, and a row generator for both.
make_stores() {
	[ -z "${stores_made:-}" ] || return 0
	stores_made=1
	make_memories
	sql -c 'create unlogged table source_rows as select id i, content, tags, source, created_at from plain order by id limit 100000' \
		-c 'create unique index on source_rows (i)' -c 'vacuum analyze source_rows' \
		-c 'create table stored (like plain including indexes)' -c 'create sequence stored_id' >"$work/null"
}

bench_store() {
	local q r n
	make_stores
	n=$(sql -c 'select count(*) from source_rows')
	for ((r = 0; r < FEW_ROUNDS; r++)); do
		for q in $(rotated $r netbus table); do
			{
				echo 'checkpoint;'
				case $q in
					netbus) echo "select netbus.create_model('memories', 'bulk');"
						echo "set netbus.wait_timeout = '600 s';"
						echo "#bulk-netbus"
						echo "select count(netbus.memory_store(content, tags, source, created => created_at, model => 'bulk')) from source_rows;"
						echo "select netbus.memory_count(model => 'bulk');"
						echo "#-"
						echo "select netbus.drop_model('memories', 'bulk');" ;;
					table) echo "#bulk-table"
						echo "insert into stored select nextval('stored_id'), content, tags, source, created_at from source_rows;"
						echo "#-"
						echo 'truncate stored;' ;;
				esac
			} | timed
		done
	done
	row "store $n memories of $CONTENT bytes, committed and folded" "ms" "$(median bulk-netbus)" "$(median bulk-table)" \
		"ratio <= 0.1" "INSERT into the indexed table"
}

# clients NAME SCRIPT [N]: note the transactions a second of two clients, or more.
clients() {
	echo "$2" >"$work/clients.sql"
	PGOPTIONS='-c synchronous_commit=off' pgbench -n -M prepared -c "${3:-2}" -j 2 -T 4 -f "$work/clients.sql" >"$work/out" 2>&1 ||
		{ cat "$work/out" >&2; die "pgbench failed"; }
	note "$1" "$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' "$work/out")"
}

bench_change() {
	local q r n
	make_stores
	n=$(sql -c 'select count(*) from source_rows')
	sql -c "truncate stored" -c "select setval('stored_id', 1, false)" \
		-c "insert into stored select nextval('stored_id'), content, tags, source, created_at from source_rows" -c 'vacuum analyze stored' \
		-c "select netbus.create_model('memories', 'single')" >"$work/null"
	for ((r = 0; r < FEW_ROUNDS; r++)); do
		for q in $(rotated $r netbus-single table-single netbus-retag table-retag); do
			case $q in
				netbus-single) clients $q "\\set i random(1, $n)
					select netbus.memory_store(content, tags, source, model => 'single') from source_rows where i = :i;" ;;
				table-single) clients $q "\\set i random(1, $n)
					insert into stored select nextval('stored_id'), content, tags, source, now() from source_rows where i = :i;" ;;
				netbus-retag) clients $q "\\set i random(1, $n)
					\\set k random(0, 299)
					select netbus.memory_retag(:i, array['t' || :k, 't' || (:k + 5) % 300]);" ;;
				table-retag) clients $q "\\set i random(1, $n)
					\\set k random(0, 299)
					update stored set tags = array['t' || :k, 't' || (:k + 5) % 300] where id = :i;" ;;
			esac
		done
	done
	row "store one a transaction, 2 clients, synchronous_commit off" "tps" "$(median netbus-single)" "$(median table-single)" \
		"ratio >= 3" "INSERT into the indexed table"
	row "retag one a transaction, the same" "tps" "$(median netbus-retag)" "$(median table-retag)" "ratio >= 8" "UPDATE of the indexed table"
	sql -c "select netbus.drop_model('memories', 'single')" >"$work/null"
}

# --- waiting for the fold

# A question right after a commit, and the same again when the fold has caught up.
bench_wait() {
	local q r
	make_stores
	sql -c "select netbus.create_model('memories', 'waited')" -c 'create unlogged table waited (us float8)' >"$work/null"
	for ((r = 0; r <= ROUNDS; r++)); do
		sql -F ' ' <<-END
			set synchronous_commit = off;
			truncate waited;
			do \$\$declare t timestamptz; u timestamptz; n bigint; us float8[]; begin
				for i in 1..1000 loop
					perform netbus.memory_store(content, tags, source, model => 'waited') from source_rows s where s.i = 17;
					commit;
					t := clock_timestamp();
					n := netbus.memory_count(tag => 't1', model => 'waited');
					u := clock_timestamp();
					n := netbus.memory_count(tag => 't1', model => 'waited');
					us[i] := extract(epoch from (u - t) - (clock_timestamp() - u)) * 1e6;
				end loop;
				insert into waited select unnest(us);
			end\$\$;
			select '$([ $r -gt 0 ] || echo warm-up-)waited', percentile_cont(0.5) within group (order by us) from waited;
		END
	done >>"$values"
	for ((r = 0; r <= 3 * ROUNDS; r++)); do
		for q in $(rotated $r committed none); do
			echo "set netbus.read_consistency = $q;"
			echo "select '$([ $r -gt 0 ] || echo warm-up-)caught-up-$q', us from bench.execute('${in_netbus[count]}', \$q\$${parameters[count]}\$q\$, 5000);"
		done
	done | sql -F ' ' >>"$values"
	row "store, commit, count: what the count waits for the fold, median" "µs" "$(median waited)" "" "<= 100"
	row "the wait when the fold has caught up" "µs" "$(calc "$(median caught-up-committed) - $(median caught-up-none)")" "" "<= 1"
	row "the count itself" "µs" "$(median caught-up-committed)" "$(median caught-up-none)" "" "read_consistency none"
	sql -c "select netbus.drop_model('memories', 'waited')" -c 'drop table waited' >"$work/null"
}

# One session asks all the time, another stores in one transaction; what counts is between
# its commit and the end of the fold.
bench_fold() {
	local r reader question=${in_netbus[tag]/max_rows/model => \'folded\', max_rows}
	make_stores
	for ((r = 0; r < FEW_ROUNDS; r++)); do
		sql -c "select netbus.create_model('memories', 'folded')" \
			-c "select count(netbus.memory_store(content, tags, source, model => 'folded')) from source_rows" \
			-c "select netbus.memory_count(model => 'folded')" -c 'create unlogged table asked (at timestamptz, us float8)' >"$work/null"
		sql <<-END >"$work/null" &
			set netbus.read_consistency = none;
			do \$\$declare t timestamptz; begin
				loop
					t := clock_timestamp();
					perform bench.execute('${question//\'/\'\'}', \$q\$${parameters[tag]}\$q\$, 600);
					insert into asked values (t, extract(epoch from clock_timestamp() - t) * 1e6 / 600);
					commit;
					exit when (select count(*) from pg_class where relname = 'asked_enough') > 0;
				end loop;
			end\$\$;
		END
		reader=$!
		sleep 3
		sql <<-END >"$work/null"
			set synchronous_commit = off;
			create table period as select clock_timestamp() idle_to, clock_timestamp() fold_from, clock_timestamp() fold_to;
			begin;
			select count(netbus.memory_store(content, tags, source, model => 'folded')) from source_rows, generate_series(1, 3);
			commit;
			update period set fold_from = clock_timestamp();
			set netbus.wait_timeout = '600 s';
			select netbus.memory_count(model => 'folded');
			update period set fold_to = clock_timestamp();
			create table asked_enough ();
		END
		wait $reader
		sql -F ' ' -c "select 'asked-idle', 1e6 / avg(us) from asked, period where at < idle_to - interval '0.2 s' and at > idle_to - interval '2.5 s'" \
			-c "select 'asked-folding', 1e6 / avg(us) from asked, period where at between fold_from and fold_to" \
			-c "select 'folded', 3e5 / extract(epoch from fold_to - fold_from) from period" >>"$values"
		sql -c "select netbus.drop_model('memories', 'folded')" -c 'drop table asked, period, asked_enough' >"$work/null"
	done
	row "questions a second (newest 10 of a tag) while the fold runs at full speed" "/s" "$(median asked-folding)" "$(median asked-idle)" \
		"ratio >= 0.8" "while it is idle"
	row "events folded a second meanwhile" "/s" "$(median folded)" "" ""
}

# --- a million, which have come in the order of their times

bench_million() {
	local r q n from
	make_memories
	make_rows 1000000 200 >"$work/million.txt"
	sql -c 'create unlogged table random (like plain)' -c "\\copy random from '$work/million.txt'" \
		-c 'create unlogged table million as
			select row_number() over (order by created_at) id, content, tags, source, created_at from random order by 1' \
		-c 'drop table random' >"$work/null"
	rm "$work/million.txt"
	fill million million
	sql -c 'create unlogged table tenth as select * from million where id > 900000' >"$work/null"
	fill tenth tenth
	for q in tag any all source; do
		for ((r = 0; r <= ROUNDS; r++)); do
			for n in $(rotated $r million tenth); do
				echo "select '$([ $r -gt 0 ] || echo warm-up-)$n-$q', us from bench.execute(\$q\$${in_netbus[$q]/max_rows/model => \'$n\', max_rows}\$q\$,
					\$q\$${parameters[$q]}\$q\$, 1500);"
			done
		done
	done | sql -F ' ' >>"$values"
	for q in tag any all source; do
		row "newest 10 by $q, of 1 M memories of 200 bytes" "µs" "$(median million-$q)" "$(median tenth-$q)" "ratio <= 1.3" "of 100,000"
	done
	sql -c "select netbus.drop_model('memories', 'tenth')" -c "select netbus.drop_model('memories', 'default')" \
		-c "select netbus.snapshot_model('memories', 'million')" -c 'checkpoint' >"$work/null"
	memories_made= stores_made=
	for ((r = 0; r < FEW_ROUNDS; r++)); do
		pg_ctl -D "$PGDATA" -s -w -t 120 -m fast stop >"$work/restart" 2>&1 || die "the server does not stop"
		from=$EPOCHREALTIME
		pg_ctl -D "$PGDATA" -s -w -t 120 -l "$NETBUS_SANDBOX/log/server" start >"$work/restart" 2>&1 || die "the server does not start"
		[ "$(sql -c "set netbus.wait_timeout = '600 s'" -c "select netbus.memory_count(model => 'million')")" = 1000000 ] ||
			die "memories are missing"
		note million-restart "$(calc "($EPOCHREALTIME - $from) * 1000")"
	done
	row "restart with 1 M memories of 200 bytes, until a query is answered" "ms" "$(median million-restart)" "" "<= 3000"
	sql -c "select netbus.drop_model('memories', 'million')" -c 'drop table million, tenth' >"$work/null"
}
