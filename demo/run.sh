#!/bin/bash
# The demonstration: what the Debian changelogs of this machine say, as events.
# "make demo" runs it on a throw-away server. By hand it takes any server that
# has netbus preloaded and that PGHOST etc. lead to, and spares it the crash;
# it makes a database netbus_demo and drops it again. DEMO_ROOT: where to look
# for changelogs.
set -u
cd "$(dirname "$0")" || exit 1

export PGDATABASE=netbus_demo PGCLIENTENCODING=UTF8 PGOPTIONS='-c client_min_messages=notice -c timezone=UTC' PSQLRC=/dev/null
started=$EPOCHREALTIME
work=$(mktemp -d) || exit 1
checks=0 failed=0
SHARDS=4
MAX_BYTES=8000000 # all rings and memories together must fit into the 64 MB that a container may have
SMALL=300000       # events of 100 bytes, for what takes many
CLIENTS=4          # that publish when the server is killed

# shellcheck disable=SC2046
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"; dropdb --if-exists --force netbus_demo 2>/dev/null' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# title TEXT EXPLANATION...
title() {
	printf '\n== %s\n' "$1"
	shift
	printf '   %s\n' "$@"
	echo
}

# Output of SQL as tables; of a query as a bare value.
show() { psql -Xq -v ON_ERROR_STOP=1 -P footer=off -P null=- "$@" 2>&1 | sed 's/^/  /; s/ *$//' | cat -s | sed '${/^$/d}'; return "${PIPESTATUS[0]}"; }
value() { psql -XqAt -v ON_ERROR_STOP=1 -F ' ' -c "$1"; }
since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }
number() { sed -E ':a; s/([0-9])([0-9]{3})($|[^0-9])/\1,\2\3/; ta' <<<"$1"; }

# check WHAT EXPECTED ACTUAL
check() {
	checks=$((checks + 1))
	if [ "$2" = "$3" ] && [ -n "$2" ]; then
		printf '  ok      %-58s %s\n' "$1" "$(number "$3")"
	else
		printf '  FAILED  %-58s %s, not %s\n' "$1" "${3:-nothing}" "${2:-nothing}"
		failed=$((failed + 1))
	fi
}

die() { echo "  FAILED  $1"; exit 1; }

# ---------------------------------------------------------------------------
title "The data" "Debian's packages carry their history in /usr/share/doc: who changed what, when, how urgent."

at=$EPOCHREALTIME
read -r files entries distinct parsed bytes < <(python3 changelogs.py "$work/entries" $MAX_BYTES ${DEMO_ROOT:+"$DEMO_ROOT"})
[ "${parsed:-0}" -gt 0 ] || die "no changelog found in /usr/share/doc, and no package"
if [ "$files" -gt 0 ]; then
	printf '  %9s changelogs with entries\n' "$(number "$files")"
	printf '  %9s entries; several packages may share a changelog, so\n' "$(number "$entries")"
else
	echo '          0 changelogs: this system was installed without them. Its packages make do, an entry each:'
fi
printf '  %9s distinct entries\n' "$(number "$distinct")"
[ "$parsed" -eq "$distinct" ] || printf '  %9s of them, the newest, are used\n' "$(number "$parsed")"
printf '  %9s kB as JSON, a line an entry, in %s s\n' "$(number $((bytes / 1000)))" "$(since "$at")"

dropdb --if-exists --force netbus_demo 2>/dev/null
psql -Xq -d "${DEMO_MAINTENANCE_DB:-postgres}" -c 'CREATE DATABASE netbus_demo' || die "no server to work with"
psql -Xq -v ON_ERROR_STOP=1 -f setup.sql || die "could not set up"
psql -Xq -v ON_ERROR_STOP=1 -c "\\copy entry_line (line) FROM '$work/entries' WITH (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02')" \
	-c "INSERT INTO entry SELECT n, line, doc, doc->>'package', date, date_trunc('month', date)
			FROM entry_line, CAST(line AS jsonb) doc, CAST(doc->>'date' AS timestamptz) date ORDER BY n" \
	-c 'VACUUM ANALYZE entry' || die "could not load the entries"

# The events of a demonstration should all stay in the rings.
ring=4
[ $((bytes * 13 / 10)) -le $((ring * 1048576)) ] || ring=8

# ---------------------------------------------------------------------------
title "A log" \
	"A log is a named sequence of events in $SHARDS shards. Behind it: a ring in shared memory for what is new, and a table that keeps" \
	"the events and carries the rights. Durability commit, the default: events are stored with the transaction that publishes them."
show -c "SELECT netbus.create_log('changelog', shards => $SHARDS, ring_size => '${ring}MB') AS created" \
	-c "SELECT log, shards, durability, format, ring_size, backpressure FROM netbus.logs"

# ---------------------------------------------------------------------------
title "Publish, and follow from other sessions" \
	"One session publishes, with the package as key: a package stays in its shard, and in order. The entries of each month are" \
	"a transaction. $SHARDS other sessions tail a shard each, woken by every commit; what they say as it arrives:"
for ((shard = 0; shard < SHARDS; shard++)); do
	psql -Xq -v ON_ERROR_STOP=1 -v VERBOSITY=terse -c "CALL follow($shard)" 2>&1 | sed -u 's/^NOTICE:  */  /' &
done
at=$EPOCHREALTIME
psql -Xq -v ON_ERROR_STOP=1 -c 'CALL replay(0.004)' || die "could not publish"
wait
took=$(since "$at")
echo
show -c "
	SELECT shard, count(*) AS events, count(DISTINCT package) AS packages, min(date)::date AS oldest, max(date)::date AS newest,
		round(extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY delay)) * 1000, 2) AS median_delay_ms
	FROM arrived GROUP BY shard ORDER BY shard"
echo "  $took s, pauses between the months included. The delay is from the publisher's commit to the row in the other session."

# ---------------------------------------------------------------------------
title "On disk" \
	"The first 100 bytes of each entry, again and again: $(number $SMALL) of them, into a log and into an ordinary table, a transaction" \
	"each. A row of the log's table holds a page of events; what says shard, seq, time and checksum is said once for all of them."
psql -Xq -v ON_ERROR_STOP=1 <<-END || die "could not store"
	SET client_min_messages = warning;
	CREATE UNLOGGED TABLE small AS
		SELECT substr(convert_to(line, 'UTF8'), 1, 100) AS payload FROM generate_series(1, ($SMALL - 1) / $parsed + 1), entry LIMIT $SMALL;
	CREATE TABLE small_row (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea);
	VACUUM ANALYZE small;
	SELECT netbus.create_log('small', format => 'bytea', ring_size => '2MB') \\g /dev/null
	CALL store('log small', 'netbus.log_small', \$\$SELECT count(netbus.publish('small', payload)) FROM small\$\$);
	CALL store('table, with an identity key', 'small_row', \$\$
		WITH i AS (INSERT INTO small_row (payload) SELECT payload FROM small RETURNING 1) SELECT count(*) FROM i\$\$);
END
show -c "
	SELECT what, events, to_char(seconds * 1000, '999,990') AS ms, to_char(events / seconds, '9,999,999') AS events_per_s,
		payload / events AS payload, round(disk::numeric / events, 1) AS on_disk, round(wal / events, 1) AS in_wal
	FROM stored" \
	-c "SELECT base_seq, shard, events, length(frame) AS frame_bytes FROM netbus.log_small ORDER BY base_seq LIMIT 3" \
	-c "SELECT seq, ts, length(payload) FROM netbus.get_raw('small', $((SMALL / 2)))"
echo "  Bytes on disk (tables with their indexes) and in the WAL are those of one event."

# ---------------------------------------------------------------------------
title "As fast as it goes" "The same events again, without pauses, into memory logs with rings of 2 MB: what does not fit pushes the oldest out, and is counted."
psql -Xq -v ON_ERROR_STOP=1 >/dev/null <<-'END' || die "could not publish"
	SELECT netbus.create_log('fast', durability => 'memory', ring_size => '2MB'), netbus.create_log('bytes', durability => 'memory', ring_size => '2MB', format => 'bytea');
	CREATE TABLE batch AS
		SELECT n / 100 AS i, array_agg(doc ORDER BY n) AS docs, array_agg(package ORDER BY n) AS keys,
			string_agg(line, E'\n' ORDER BY n) AS lines
		FROM entry GROUP BY 1;
	VACUUM ANALYZE batch;
	CALL timed('warm up', 'fast', $$SELECT count(netbus.publish('fast', doc)) FROM entry$$);
	CALL timed('warm up', 'bytes', $$SELECT count(netbus.publish('bytes', convert_to(line, 'UTF8'))) FROM entry$$);
	TRUNCATE rate;
	CALL timed('publish(jsonb)', 'fast', $$SELECT count(netbus.publish('fast', doc)) FROM entry$$);
	CALL timed('publish(jsonb, key)', 'fast', $$SELECT count(netbus.publish('fast', doc, key => package)) FROM entry$$);
	CALL timed('publish(text), parsed', 'fast', $$SELECT count(netbus.publish('fast', line)) FROM entry$$);
	CALL timed('publish_batch(jsonb[], keys), by 100', 'fast', $$SELECT sum(netbus.publish_batch('fast', docs, keys)) FROM batch$$);
	CALL timed('publish_lines(text), by 100, parsed', 'fast', $$SELECT sum(netbus.publish_lines('fast', lines)) FROM batch$$);
	CALL timed('publish_lines(bytea), by 100', 'bytes', $$SELECT sum(netbus.publish_lines('bytes', convert_to(lines, 'UTF8'))) FROM batch$$);
	CREATE TABLE plain (doc jsonb);
	CALL timed('for comparison: INSERT .. SELECT doc', '-', $$
		WITH i AS (INSERT INTO plain SELECT doc FROM entry RETURNING 1) SELECT count(*) FROM i$$);
END

# From the client: newline-delimited JSON as it is, a megabyte a statement.
split -C 1m "$work/entries" "$work/part."
for part in "$work"/part.*; do
	printf "\\\\set lines \`cat '%s'\`\nSELECT netbus.publish_lines('fast', :'lines');\n" "$part"
done >"$work/lines.sql"
at=$EPOCHREALTIME
sent=$(psql -XqAt -v ON_ERROR_STOP=1 -f "$work/lines.sql" | awk '{ n += $1 } END { print n }')
value "INSERT INTO rate SELECT 'publish_lines(text) by psql, 1 MB each', 'fast', ${sent:-0}, $bytes, $EPOCHREALTIME - $at"
show -c "
	SELECT what, log, events, to_char(seconds * 1000, '99990.0') AS ms,
		to_char(events / seconds, '99,999,999') AS events_per_s, to_char(bytes / seconds / 1e6, '99,999') AS mb_per_s
	FROM rate"

# ---------------------------------------------------------------------------
title "Events belong to the transaction" "Nothing is visible before the commit, nothing stays after a rollback; a savepoint takes back what came after it."
show -P tuples_only=on -P format=unaligned <<-'END'
	SELECT netbus.create_log('orders', durability => 'memory', ring_size => '64kB') \g /dev/null
	\echo 'BEGIN; publish A; ROLLBACK'
	BEGIN;
	SELECT netbus.publish('orders', '{"order": "A"}') \g /dev/null
	ROLLBACK;
	SELECT '  the log has: ' || coalesce(string_agg(payload->>'order', ' '), 'nothing') FROM netbus.read('orders');
	\echo 'BEGIN; publish B; SAVEPOINT s; publish C; ROLLBACK TO s; publish D; COMMIT'
	BEGIN;
	SELECT netbus.publish('orders', '{"order": "B"}') \g /dev/null
	SAVEPOINT s;
	SELECT netbus.publish('orders', '{"order": "C"}') \g /dev/null
	ROLLBACK TO s;
	SELECT netbus.publish('orders', '{"order": "D"}') \g /dev/null
	SELECT '  before the commit: ' || coalesce(string_agg(payload->>'order', ' '), 'nothing') FROM netbus.read('orders');
	COMMIT;
	SELECT '  after it: ' || coalesce(string_agg(payload->>'order', ' '), 'nothing') FROM netbus.read('orders');
	\echo 'BEGIN; publish E with transactional => false; ROLLBACK'
	BEGIN;
	SELECT netbus.publish('orders', '{"order": "E"}', transactional => false) \g /dev/null
	ROLLBACK;
	SELECT '  the log has: ' || coalesce(string_agg(payload->>'order', ' '), 'nothing') FROM netbus.read('orders');
END

# ---------------------------------------------------------------------------
title "Changes of a table" "The trigger netbus.publish_row() makes an event of each row that changes: here, the newest version of each package."
show <<-'END'
	SELECT netbus.create_log('versions', ring_size => '2MB') \g /dev/null
	CREATE TABLE package (name text PRIMARY KEY, version text, changed timestamptz, entries int);
	CREATE TRIGGER events AFTER INSERT OR UPDATE OR DELETE ON package
		FOR EACH ROW EXECUTE FUNCTION netbus.publish_row('versions', 'name');
	-- One statement per year.
	DO $$
	BEGIN
		FOR y IN 1990..2100 LOOP
			INSERT INTO package
				SELECT DISTINCT ON (package) package, doc->>'version', date, count(*) OVER (PARTITION BY package)
				FROM entry WHERE extract(year FROM date) = y ORDER BY package, n DESC
			ON CONFLICT (name) DO UPDATE
				SET version = excluded.version, changed = excluded.changed, entries = package.entries + excluded.entries;
		END LOOP;
	END $$;
	DELETE FROM package WHERE changed < (SELECT max(changed) - interval '20 years' FROM package);
	SELECT payload->>'op' AS op, count(*) AS events FROM netbus.read('versions', max_events => 1000000)
		GROUP BY 1 ORDER BY 2 DESC;
	SELECT key AS package, seq, payload->'old'->>'version' AS old_version, payload->'new'->>'version' AS new_version
		FROM netbus.read('versions', key => (SELECT name FROM package ORDER BY changed DESC, name LIMIT 1)) ORDER BY seq DESC LIMIT 4;
END

# ---------------------------------------------------------------------------
title "Read back, in SQL" "netbus.read() gives rows. One view over all shards, and the log answers like a table."
show <<-END
	CREATE VIEW changelog AS
		SELECT e.shard, e.seq, e.ts, e.key AS package, payload->>'version' AS version, payload->>'urgency' AS urgency,
			payload->>'maintainer' AS maintainer, (payload->>'date')::timestamptz AS date, payload->>'text' AS text
		FROM generate_series(0, $SHARDS - 1) s, netbus.read('changelog', shard => s, max_events => 1000000000) e;
	\\echo 'The packages with most entries'
	SELECT package, shard, count(*) AS entries, round(avg(length(text))) AS letters_each, min(date)::date AS first, max(date)::date AS last
		FROM changelog GROUP BY 1, 2 ORDER BY entries DESC, package LIMIT 6;
	\\echo 'The newest of urgency high or above'
	SELECT date::date, package, version, urgency, left(ltrim(regexp_replace(text, '\\s+', ' ', 'g'), ' *'), 48) AS text
		FROM changelog WHERE urgency IN ('high', 'emergency', 'critical') ORDER BY date DESC LIMIT 6;
	\\echo 'Who wrote most, and for how many packages'
	SELECT maintainer, count(*) AS entries, count(DISTINCT package) AS packages FROM changelog
		GROUP BY 1 ORDER BY entries DESC, maintainer LIMIT 5;
	\\echo 'Entries by year'
	SELECT year, entries, repeat('#', (entries * 50.0 / max(entries) OVER ())::int) AS " "
		FROM (SELECT extract(year FROM date)::int AS year, count(*) AS entries FROM changelog GROUP BY 1) y ORDER BY year DESC LIMIT 8;
	\\echo 'One package by its key, the last entries after a seq'
	WITH last AS (SELECT package, max(seq) AS seq FROM changelog GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1)
	SELECT e.shard, e.seq, e.key, e.payload->>'version' AS version, e.payload->>'date' AS date
		FROM last, netbus.read('changelog', after_seq => greatest(last.seq - 300, 0), key => last.package) e ORDER BY e.seq DESC LIMIT 4;
END

# ---------------------------------------------------------------------------
title "Memories" \
	"Each entry becomes a memory: its package and urgency are tags, its maintainer is the source. The events are folded into indexes in" \
	"shared memory. Beside it the same in a table with GIN on the tags, btree on source and time, and trigrams of the text."
psql -Xq -v ON_ERROR_STOP=1 <<-'END' || die "could not store memories"
	SET client_min_messages = warning;
	CREATE EXTENSION IF NOT EXISTS pg_trgm;
	CREATE TABLE memory_row (id bigint PRIMARY KEY, content text, tags text[], source text, created timestamptz);
	CREATE INDEX ON memory_row USING gin (tags);
	CREATE INDEX ON memory_row (source);
	CREATE INDEX ON memory_row (created);
	CREATE INDEX ON memory_row USING gin (content gin_trgm_ops);
	CALL timed('memories, folded', 'memories', $$SELECT count(netbus.memory_store(doc->>'text', ARRAY[package, doc->>'urgency'],
		doc->>'maintainer', data => jsonb_build_object('version', doc->>'version'), id => n, created => date)) FROM entry$$);
	SELECT clock_timestamp() AS at, netbus.memory_count() AS memories \gset
	UPDATE rate SET seconds = seconds + extract(epoch FROM clock_timestamp() - :'at') WHERE log = 'memories';
	CALL timed('table, its indexes', 'memory_row', $$WITH i AS (INSERT INTO memory_row SELECT n, doc->>'text', ARRAY[package, doc->>'urgency'],
		doc->>'maintainer', date FROM entry RETURNING 1) SELECT count(*) FROM i$$);
	VACUUM ANALYZE memory_row;
END
show -c "SELECT what, events, to_char(seconds * 1000, '99,990') AS ms FROM rate WHERE log IN ('memories', 'memory_row')"
echo
show <<-'END'
	\echo 'The newest of high urgency about security'
	SELECT created::date, tags[1] AS package, data->>'version' AS version, left(regexp_replace(content, '[\s*]+', ' ', 'g'), 64) AS content
		FROM netbus.memories(tag => 'high', content_contains => 'security', max_rows => 5);
END
echo
psql -Xq -v ON_ERROR_STOP=1 <<-'END' || die "could not ask"
	SELECT package FROM entry GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1 \gset
	SELECT doc->>'maintainer' AS maintainer FROM entry GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1 \gset
	\set newest 'ORDER BY created DESC, id DESC LIMIT 10'
	\set ids 'SELECT string_agg(id || chr(58) || ascii(content), chr(32)) FROM'
	SELECT format('newest 10 of %s', :'package') AS question,
		format('%s netbus.memories(tag => %L, max_rows => 10)', :'ids', :'package') AS a,
		format('%s (SELECT id, content FROM memory_row WHERE tags @> ARRAY[%L] %s) s', :'ids', :'package', :'newest') AS b \gset
	CALL ask(:'question', :'a', :'b');
	SELECT format('newest 10 of %s, urgency high', :'package') AS question,
		format('%s netbus.memories(all_tags => ARRAY[%L, ''high''], max_rows => 10)', :'ids', :'package') AS a,
		format('%s (SELECT id, content FROM memory_row WHERE tags @> ARRAY[%L, ''high''] %s) s', :'ids', :'package', :'newest') AS b \gset
	CALL ask(:'question', :'a', :'b');
	SELECT 'newest 10 of urgency high, emergency or critical' AS question,
		format('%s netbus.memories(any_tags => ''{high,emergency,critical}'', max_rows => 10)', :'ids') AS a,
		format('%s (SELECT id, content FROM memory_row WHERE tags && ''{high,emergency,critical}'' %s) s', :'ids', :'newest') AS b \gset
	CALL ask(:'question', :'a', :'b');
	SELECT format('newest 10 by %s', split_part(:'maintainer', ' <', 1)) AS question,
		format('%s netbus.memories(source => %L, max_rows => 10)', :'ids', :'maintainer') AS a,
		format('%s (SELECT id, content FROM memory_row WHERE source = %L %s) s', :'ids', :'maintainer', :'newest') AS b \gset
	CALL ask(:'question', :'a', :'b');
	SELECT 'newest 10 that say "CVE-2024"' AS question,
		format('%s netbus.memories(content_contains => ''cve-2024'', max_rows => 10)', :'ids') AS a,
		format('%s (SELECT id, content FROM memory_row WHERE content ILIKE ''%%cve-2024%%'' %s) s', :'ids', :'newest') AS b \gset
	CALL ask(:'question', :'a', :'b');
	SELECT 'how many of urgency medium' AS question, 'netbus.memory_count(tag => ''medium'')' AS a,
		'SELECT count(*) FROM memory_row WHERE tags @> ''{medium}''' AS b \gset
	CALL ask(:'question', :'a', :'b');
	SELECT format('how many by %s since 2020', split_part(:'maintainer', ' <', 1)) AS question,
		format('netbus.memory_count(source => %L, created_from => ''2020-01-01'')', :'maintainer') AS a,
		format('SELECT count(*) FROM memory_row WHERE source = %L AND created >= ''2020-01-01''', :'maintainer') AS b \gset
	CALL ask(:'question', :'a', :'b');
END
show -c "
	SELECT question, CASE WHEN netbus ~ ' ' THEN array_length(string_to_array(netbus, ' '), 1) || ' texts' ELSE coalesce(netbus, 'none') END AS answer,
		to_char(in_netbus, '99,990.0') AS netbus_us, to_char(in_table, '99,990.0') AS table_us,
		to_char(in_table / greatest(in_netbus, 0.1), '9,990') || 'x' AS ratio, CASE WHEN same THEN 'same' ELSE 'DIFFERENT' END AS answers
	FROM asked ORDER BY n"
echo "  Medians of 100, as prepared statements inside the server, which read the texts."

# ---------------------------------------------------------------------------
title "Watch it change" \
	"One session stores the newest entry of each package as a memory, which the next one replaces. Two others watch those of high" \
	"urgency: a package enters with such an entry, changes with another, and leaves with the next that is not urgent. One pulls" \
	"what changes, and says every 100th; the other LISTENs, and is told twice a second at most: which ids, in which events."
urgent='{high,emergency,critical}'
if [ "$(value "SELECT count(*) FROM entry WHERE doc->>'urgency' = ANY ('$urgent')")" -eq 0 ]; then
	urgent='{unknown}'
	printf '  None of these is urgent: those of unknown urgency make do.\n\n'
fi
value "SELECT netbus.create_model('memories', 'newest')" >/dev/null || die "could not make a model"
watch=$(value "SELECT netbus.watch_memories('urgent', any_tags => '$urgent', debounce => '500 ms', model => 'newest')") || die "could not watch"
psql -Xq -v ON_ERROR_STOP=1 -v VERBOSITY=terse -c "CALL pull($watch)" 2>&1 | sed -u 's/^NOTICE:  */  /' &
pulling=$!
# psql shows what it was told after each statement.
{
	echo 'LISTEN urgent;'
	until [ -e "$work/stored" ]; do echo 'SELECT pg_sleep(0.1) \g /dev/null'; sleep 0.1; done
	echo 'SELECT pg_sleep(0.7) \g /dev/null'
	echo 'SELECT \g /dev/null'
} | LC_ALL=C psql -Xq 2>&1 | sed -unE 's/^.* with payload "(.*)" received.*/\1/; s/^(.{118}).*/\1.../; s/^/  told: /p' &
psql -Xq -v ON_ERROR_STOP=1 -c 'CALL store_newest(0.004)' || die "could not store"
wait $pulling
touch "$work/stored"
wait
echo
show -c "
	SELECT op, count(*) AS changes, count(DISTINCT package) AS packages,
		round(extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY delay)) * 1000, 2) AS median_delay_ms
	FROM pulled GROUP BY op ORDER BY op" \
	-c "SELECT watch, matches, notifications, coalesced, overflows, resyncs, kept, kept_bytes FROM netbus.stat_watch"
echo "  Coalesced: changes that another of the same package made superfluous before the other session was told."
mirrored=$(value "SELECT count(*) FROM mirror")
urgent_now=$(value "SELECT netbus.memory_count(any_tags => '$urgent', model => 'newest')")
mirror_differs=$(value "SELECT count(*) FROM mirror FULL JOIN netbus.memories(any_tags => '$urgent', model => 'newest') m ON m.id = mirror.id
	WHERE (record->>'content', record->>'source', record->'tags') IS DISTINCT FROM (content, source, to_jsonb(tags))")
value "SELECT netbus.drop_model('memories', 'newest')" >/dev/null

# ---------------------------------------------------------------------------
title "Statistics" "At every instant: offered = accepted + rejected + sampled_out, and accepted = retained + expired + evicted + aborted."
show -c "
	SELECT log, shard, next_seq, floor_seq, accepted, retained, evicted, aborted,
		pg_size_pretty(ring_used) AS ring_used, pg_size_pretty(ring_size) AS ring_size, wakeups
	FROM netbus.stat_log ORDER BY log, shard"

# ---------------------------------------------------------------------------
title "Do the numbers agree?" "Every entry that was parsed must have come out of every door, once, and in order."
check "parsed" "$parsed" "$(wc -l <"$work/entries")"
check "published to changelog (stat_log, accepted)" "$parsed" "$(value "SELECT sum(accepted) FROM netbus.stat_log WHERE log = 'changelog'")"
check "tailed by the other sessions" "$parsed" "$(value "SELECT count(DISTINCT (shard, seq)) FROM arrived")"
check "tailed before an older entry of the same package" 0 \
	"$(value "SELECT count(*) FROM (SELECT date < lag(date) OVER (PARTITION BY package ORDER BY seq) AS back FROM arrived) a WHERE back")"
check "read back" "$parsed" "$(value "SELECT count(*) FROM changelog")"
check "read back and equal to what was parsed" "$parsed" \
	"$(value "SELECT count(*) FROM entry e JOIN changelog c ON (c.package, c.version, c.date, c.text, c.maintainer) =
		(e.package, doc->>'version', e.date, doc->>'text', doc->>'maintainer')")"
check "packages in more than one shard" 0 \
	"$(value "SELECT count(*) FROM (SELECT package FROM changelog GROUP BY 1 HAVING count(DISTINCT shard) > 1) p")"
check "published at full speed, in nine rounds" "$((parsed * 9))" \
	"$(value "SELECT sum(accepted) FROM netbus.stat_log WHERE log IN ('fast', 'bytes')")"
check "lines published by psql" "$parsed" "$sent"
check "memories" "$parsed" "$(value "SELECT netbus.memory_count()")"
check "memories that are not as their entry" 0 \
	"$(value "SELECT count(*) FROM entry e LEFT JOIN netbus.memories() m ON m.id = e.n
		WHERE (m.content, m.tags, m.source, m.created) IS DISTINCT FROM (doc->>'text', ARRAY[package, doc->>'urgency'], doc->>'maintainer', date)")"
check "questions that memories and table answer alike" "$(value "SELECT count(*) FROM asked")" "$(value "SELECT count(*) FROM asked WHERE same")"
check "packages of high urgency, for the session that pulled" "$urgent_now" "$mirrored"
check "packages of which it has another entry" 0 "$mirror_differs"
check "orders: B and D by commit, E at once" "B D E" "$(value "SELECT string_agg(payload->>'order', ' ' ORDER BY seq) FROM netbus.read('orders')")"
check "packages left according to the events of the trigger" "$(value "SELECT count(*) FROM package")" \
	"$(value "SELECT sum(CASE payload->>'op' WHEN 'insert' THEN 1 WHEN 'delete' THEN -1 ELSE 0 END) FROM netbus.read('versions', max_events => 1000000)")"
check "shards whose counters do not add up" 0 \
	"$(value "SELECT count(*) FROM netbus.stat_log WHERE offered <> accepted + rejected + sampled_out OR accepted <> retained + expired + evicted + aborted")"

# ---------------------------------------------------------------------------
crash() {
	local client try at log

	title "Kill it" \
		"$CLIENTS sessions insert rows into a table and publish an event for each, in the same transaction, to a log of each durability." \
		"Every tenth transaction is rolled back. They note what the server has acknowledged, until it dies by kill -9 of the postmaster."
	psql -Xq -v ON_ERROR_STOP=1 >/dev/null -c "
		SELECT netbus.create_log('by_' || d, durability => d, ring_size => '1MB') FROM unnest(ARRAY['commit', 'async', 'memory']) d" || return 1
	for ((client = 0; client < CLIENTS; client++)); do
		awk -v n=$client -v step=$CLIENTS -v entries="$parsed" 'BEGIN {
			print "\\o /dev/null"
			print "PREPARE put (int) AS WITH r AS ("
			print "INSERT INTO account SELECT $1, package FROM entry WHERE entry.n = ($1 - 1) % " entries " + 1 RETURNING n, package)"
			print "SELECT netbus.publish(log, jsonb_build_object($$n$$, n, $$package$$, package), key => package)"
			print "FROM r, unnest(ARRAY[$$by_commit$$, $$by_async$$, $$by_memory$$]) log;"
			for (n++; n <= 100000; n += step)
				if (n % 10 == 0)
					printf "BEGIN; EXECUTE put(%d); ROLLBACK;\n", n
				else
					printf "EXECUTE put(%d);\n\\echo %d\n", n, n
		}' >"$work/client.$client"
		psql -Xq -v ON_ERROR_STOP=1 -f "$work/client.$client" >"$work/acknowledged.$client" 2>"$work/error.$client" &
	done
	sleep 1.5
	kill -9 "$(head -n 1 "$PGDATA/postmaster.pid")"
	wait
	sed -nE '1s/^[^:]*:[^:]*:[0-9]+: */  /p; 1q' "$work/error.0"

	# The dead postmaster's processes may take a moment to notice.
	at=$EPOCHREALTIME
	for ((try = 0; try < 100; try++)); do
		pg_ctl -s -w -l "$NETBUS_SANDBOX/log/server" -o "-p $PGPORT" start >/dev/null 2>&1 && break
		sleep 0.1
	done
	value 'SELECT 1' >/dev/null || return 1
	printf '  started again, WAL replayed, after %s s\n\n' "$(since "$at")"

	cat "$work"/acknowledged.[0-9]* >"$work/acknowledged"
	psql -Xq -v ON_ERROR_STOP=1 -c "\\copy acknowledged FROM '$work/acknowledged'" -c "
		CREATE TABLE found AS
			SELECT 'by_' || d AS log, e.seq, e.ts, (e.payload->>'n')::int AS n
			FROM unnest(ARRAY['commit', 'async', 'memory']) d, netbus.read('by_' || d, max_events => 1000000) e" || return 1
	show -c "
		SELECT what, count(r.n) AS found, count(a.n) FILTER (WHERE r.n IS NULL) AS acknowledged_but_lost
		FROM (VALUES ('table account'), ('log by_commit'), ('log by_async'), ('log by_memory')) w(what)
			LEFT JOIN acknowledged a ON true FULL JOIN (
				SELECT 'table account', n FROM account UNION ALL SELECT 'log ' || log, n FROM found) r(what, n) USING (what, n)
		GROUP BY what ORDER BY 2 DESC, 3, 1 DESC"
	echo "  A transaction may be committed and its acknowledgement lost, so there can be some more than were acknowledged. The async log"
	echo "  is written every 10 ms; a memory log keeps nothing."
	echo

	show -P tuples_only=on -P format=unaligned <<-'END'
		\echo 'Opening the log of small events for the first time since the crash'
		SELECT clock_timestamp() AS at \gset
		SELECT seq, length(payload) FROM netbus.get_raw('small', 150000) \g /dev/null
		SELECT '  one event of it:        ' || to_char(extract(epoch FROM clock_timestamp() - :'at') * 1000, '990.00') || ' ms';
		SELECT clock_timestamp() AS at \gset
		SELECT seq, length(payload) FROM netbus.get_raw('small', 100000) \g /dev/null
		SELECT '  another one after that: ' || to_char(extract(epoch FROM clock_timestamp() - :'at') * 1000, '990.00') || ' ms';
	END
	echo

	check "acknowledged" "$(wc -l <"$work/acknowledged")" "$(value "SELECT count(DISTINCT n) FROM acknowledged")"
	check "acknowledged, but not in the commit log" 0 \
		"$(value "SELECT count(*) FROM acknowledged WHERE n NOT IN (SELECT n FROM found WHERE log = 'by_commit')")"
	check "events of the commit log, rows of the table" "$(value "SELECT count(*) FROM account")" \
		"$(value "SELECT count(*) FROM found WHERE log = 'by_commit'")"
	for log in by_commit by_async; do
		check "$log: events without their row" 0 "$(value "SELECT count(*) FROM found WHERE log = '$log' AND n NOT IN (SELECT n FROM account)")"
		check "$log: events twice" 0 "$(value "SELECT count(*) - count(DISTINCT n) FROM found WHERE log = '$log'")"
		check "$log: events out of order" 0 "$(value "
			SELECT count(*) FROM (SELECT ts < lag(ts) OVER (ORDER BY seq) OR n < lag(n) OVER (PARTITION BY n % $CLIENTS ORDER BY seq) AS back
				FROM found WHERE log = '$log') f WHERE back")"
	done
	check "rows and events of transactions that were rolled back" 0 \
		"$(value "SELECT count(*) FROM (SELECT n FROM account UNION ALL SELECT n FROM found) r WHERE n % 10 = 0")"
	check "memories, folded again from their log" "$parsed" "$(value "SELECT netbus.memory_count()")"
	value "SELECT netbus.publish('by_' || d, '{}') FROM unnest(ARRAY['commit', 'async', 'memory']) d" >/dev/null
	check "logs that issue a seq again" 0 \
		"$(value "SELECT count(*) FROM (SELECT log, max(seq) AS seq FROM found GROUP BY 1) f WHERE netbus.head(log) <= seq")"
	check "read back once more and equal to what was parsed" "$parsed" \
		"$(value "SELECT count(*) FROM entry e JOIN changelog c ON (c.package, c.version, c.date, c.text, c.maintainer) =
			(e.package, doc->>'version', e.date, doc->>'text', doc->>'maintainer')")"
}

# Nobody else's server.
if [ -n "${NETBUS_SANDBOX:-}" ]; then
	crash || die "the server did not come back"
fi

echo
if [ $failed -eq 0 ]; then
	echo "All $checks checks hold. It all ran in $(since "$started") s."
else
	echo "$failed of $checks checks FAILED. It all ran in $(since "$started") s."
	exit 1
fi
