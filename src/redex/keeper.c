/*-------------------------------------------------------------------------
 *
 * keeper.c
 *		What the worker of a database does for its logs: count what their tables
 *		hold, persist what is in memory only, seal holes, retain, reap.
 *
 * A log asks for it by bits in its shared memory (nb_log_notice), which the
 * worker clears before it looks; while it goes by a timer of its own it leaves
 * the bit set, so that publishers need not wake it.  An idle log costs nothing.
 *
 * Persisting.  Resolved frames of an async log are copied from the ring into
 * rows as they are: one that fills a page becomes a row, smaller ones share
 * a row as long as their seqs are contiguous.  Each log has a transaction of
 * its own; only when that is committed, and flushed, the rings are told (in
 * the commit callback, so that no error can come between).  If it fails, the
 * events stay in the ring, the publishers feel that it fills up, and the
 * worker tries again later and later.
 *
 * Retention.  The current segment takes rows until it has a sixth of what is
 * to be retained, or spans a sixth of the time; then the next one does.  The
 * oldest segment expires when the others suffice: readers stop seeing it at
 * once, and it is truncated as soon as nobody has it locked.  Eight tables are
 * enough for six full ones, the current one and one that is still being read.
 *
 * Locks: RowExclusiveLock on the log's tables, ShareUpdateExclusiveLock to count,
 * AccessExclusiveLock on a segment to truncate; all only if free (at a
 * shutdown: within seconds), for nobody may have to wait for the worker while
 * the worker waits for him.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/redex_internal.h"
#include "redex/store.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "replication/message.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define PERSIST_BYTES    (16 * 1024 * 1024) /* of a shard in one transaction */
#define SEAL_MS          200 /* a hole that waits so long without a claim is sealed */
#define RETAIN_MS        200 /* between two looks at a log that is in use */
#define SEGMENTS_FULL    (LOG_SEGMENTS - 2) /* that together have what is to be retained */
#define COUNT_ROWS       2000
#define SHUTDOWN_WAIT_MS 5000 /* for a lock, at a shutdown */
#define LOCK_RETRY_MS    20
#define MIN_RETRY_MS     100
#define MAX_RETRY_MS     10000

PG_FUNCTION_INFO_V1(netbus_flush);
PG_FUNCTION_INFO_V1(netbus_purge);

/* What the rings are told once the transaction is committed.  In TopTransactionContext. */
typedef struct Outcome
{
	struct Outcome *next;
	LogShared *shared;
	Ring *ring;
	enum
	{
		OUTCOME_PERSISTED,
		OUTCOME_SEALED,
		OUTCOME_TRUNCATED,
		OUTCOME_PURGED
	} kind;
	uint64 to_pos;
	uint64 to_seq; /* of a purge: the new floor */
	uint64 max_stable;
	int64 first_ts;
	int64 last_ts;
	uint32 segment;
	uint64 events; /* of a purge */
	uint64 bytes;
	RingTotals totals[RING_TERM_SLOTS];
} Outcome;

static Outcome *outcomes = NULL;

/* The log stays mapped until the transaction has ended: it is pinned. */
static Outcome *
add_outcome(NbLog *log, int shard, int kind)
{
	Outcome *outcome = MemoryContextAllocZero(TopTransactionContext, sizeof(Outcome));

	nb_log_pin(log);
	outcome->shared = log->shared;
	outcome->ring = log_ring(log->shared, shard);
	outcome->kind = kind;
	outcome->next = outcomes;
	outcomes = outcome;
	return outcome;
}

static void
keeper_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE && outcomes)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot PREPARE a transaction that has purged or altered a log")));
	if (event == XACT_EVENT_COMMIT)
		for (Outcome *o = outcomes; o; o = o->next)
		{
			if (o->kind == OUTCOME_PERSISTED)
				ring_persisted(o->ring, o->to_pos, o->to_seq, o->totals, o->max_stable, o->first_ts,
							   o->last_ts, o->segment);
			else if (o->kind == OUTCOME_TRUNCATED)
				o->shared->truncated = Max(o->shared->truncated, o->segment + 1);
			else if (o->kind == OUTCOME_SEALED)
				ring_sealed(o->ring, o->to_seq);
			else
				ring_expire_rows(o->ring, o->segment, o->events, o->bytes, o->to_seq);
		}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		outcomes = NULL;
}

/* ------------------------------------------------------------ persisting */

/* A row under construction: frames copied from the ring. */
typedef struct RowBuilder
{
	StoreWriter writer;
	Oid table;
	int shard;
	bool bulk;
	Size bytes;
	uint64 base_seq;
	uint64 next_seq;
} RowBuilder;

static void
finish_row(RowBuilder *row)
{
	if (row->bytes == 0)
		return;
	debug_point("persist_row");
	store_insert(&row->writer, row->shard, row->base_seq, row->next_seq - row->base_seq,
				 row->bytes);
	row->bytes = 0;
}

/* Insert the frames [persisted, stable) of a shard as rows.  Returns false if there are more. */
static bool
persist_shard(NbLog *log, int shard, RowBuilder *row)
{
	Ring *ring = log_ring(log->shared, shard);
	uint64 stable_seq = pg_atomic_read_u64(&ring->stable_seq);
	uint64 stable_pos;
	uint64 pos;
	uint64 end;
	Outcome *outcome;
	bool overtaken = false;

	pg_read_barrier();
	stable_pos = pg_atomic_read_u64(&ring->stable_pos);
	pos = Max(pg_atomic_read_u64(&ring->persisted_pos), pg_atomic_read_u64(&ring->floor_pos));
	if (pg_atomic_read_u64(&ring->persisted_seq) >= stable_seq)
		return true;
	end = Min(stable_pos, pos + PERSIST_BYTES);

	outcome = add_outcome(log, shard, OUTCOME_PERSISTED);
	outcome->segment = ring->segment;
	row->shard = shard;
	while (pos < end)
	{
		FrameHeader header;
		uint64 length;
		char *to;

		if (!ring_get_header(ring, pos, &header))
		{
			/* Events may be lost here, and were: go on behind them. */
			pos = pg_atomic_read_u64(&ring->floor_pos);
			overtaken = true;
			continue;
		}
		length = frame_word_length(header.word);
		if (header.kind == FRAME_DATA && frame_word_state(header.word) == FRAME_READY)
		{
			RingTotals *total = &outcome->totals[(pos >> ring->term_shift) % RING_TERM_SLOTS];

			if (row->bytes > 0 &&
				(header.base_seq != row->next_seq || row->bytes + length > STORE_ROW_BYTES))
				finish_row(row);
			if (!row->writer.rel)
				store_open(&row->writer, row->table, row->bulk);
			to = store_row(&row->writer, Max(length, STORE_ROW_BYTES)) + row->bytes;
			memcpy(to, ring_frame(ring, pos), length);
			pg_read_barrier();
			if (pg_atomic_read_u64(&ring->floor_pos) > pos)
				continue; /* torn: the next look at the header will tell */

			if (row->bytes == 0)
				row->base_seq = header.base_seq;
			row->next_seq = frame_last_seq(&header) + 1;
			row->bytes += length;
			total->term = (pos >> ring->term_shift) + 1;
			total->events += header.count;
			total->bytes += header.body_bytes;
			outcome->max_stable = Max(outcome->max_stable, header.stable_seq);
			outcome->last_ts = header.ts;
			if (outcome->first_ts == 0)
				outcome->first_ts = header.ts;
		}
		if (header.kind == FRAME_DATA)
			outcome->to_seq = frame_last_seq(&header);
		pos += length;
	}
	finish_row(row);
	outcome->to_pos = pos;
	if (pos >= stable_pos)
		outcome->to_seq = stable_seq;
	return pos >= stable_pos || overtaken;
}

/* Comparison functions of an index may be anybody's: run them as the owner. */
static void
become_owner(NbLog *log, Oid *user, int *context)
{
	Relation rel = RelationIdGetRelation(log->relid);

	GetUserIdAndSecContext(user, context);
	SetUserIdAndSecContext(rel->rd_rel->relowner, *context | SECURITY_RESTRICTED_OPERATION);
	RelationClose(rel);
}

/*
 * Insert what an async log has in memory only, in the current transaction.
 * Returns false if there is more.  The log's table is locked.
 */
static bool
persist(NbLog *log)
{
	RowBuilder row = {.table = nb_log_table(log, log_ring(log->shared, 0)->segment)};
	bool done = true;
	uint64 bytes = 0;
	Oid user;
	int context;

	for (int i = 0; i < log->options.shards; i++)
		bytes += pg_atomic_read_u64(&log_ring(log->shared, i)->stable_pos) -
				 pg_atomic_read_u64(&log_ring(log->shared, i)->persisted_pos);
	row.bulk = bytes > 4 * STORE_ROW_BYTES;

	become_owner(log, &user, &context);
	for (int i = 0; i < log->options.shards; i++)
		done &= persist_shard(log, i, &row);
	store_close(&row.writer);
	SetUserIdAndSecContext(user, context);
	debug_point("persist");
	return done;
}

static bool
has_unpersisted(NbLog *log, bool *urgent)
{
	bool any = false;

	for (int i = 0; i < log->options.shards; i++)
	{
		Ring *ring = log_ring(log->shared, i);

		if (pg_atomic_read_u64(&ring->stable_seq) > pg_atomic_read_u64(&ring->persisted_seq))
			any = true;
		if (pg_atomic_read_u32(&ring->blocked) > 0)
			*urgent = true;
	}
	return any;
}

/* --------------------------------------------------------------- sealing */

/* Write a row that vouches for the holes of a shard. */
static void
seal_shard(NbLog *log, int shard)
{
	Ring *ring = log_ring(log->shared, shard);
	StoreWriter writer;
	FrameHeader frame = {.version = FRAME_VERSION, .kind = FRAME_SEAL};
	uint64 hash = frame_hash_offsets(NULL, 0, frame_hash_bodies(NULL, 0));
	Oid user;
	int context;

	GetCurrentTransactionId();
	become_owner(log, &user, &context);
	store_open(&writer, nb_log_table(log, ring->segment), false);
	memset(store_row(&writer, sizeof(frame)), 0, sizeof(frame));
	if (ring_take_seal(ring, &frame.base_seq, &frame.stable_seq, &frame.ts))
	{
		frame.origin = ring->origin;
		frame.checksum = frame_checksum(&frame, hash);
		frame.word = frame_word(FRAME_READY, sizeof(frame));
		memcpy(store_row(&writer, sizeof(frame)), &frame, sizeof(frame));
		add_outcome(log, shard, OUTCOME_SEALED)->to_seq = frame.stable_seq;
		store_insert(&writer, shard, frame.base_seq, 0, sizeof(frame));
	}
	store_close(&writer);
	SetUserIdAndSecContext(user, context);
}

/* Seal what has waited long enough.  Returns whether some shard still waits. */
static bool
seal(NbLog *log)
{
	bool waits = false;

	for (int i = 0; i < log->options.shards; i++)
	{
		Ring *ring = log_ring(log->shared, i);
		bool settled;

		if (!ring_needs_seal(ring, &settled))
			continue;
		if (settled && (log->options.durability == LOG_COMMIT ||
						pg_atomic_read_u64(&ring->persisted_seq) + 1 == ring->next_seq))
			seal_shard(log, i);
		else
			waits = true;
	}
	return waits;
}

/* -------------------------------------------------------------- counting */

/*
 * Go on counting what the tables held when the rings were made, COUNT_ROWS rows at
 * a time, so that persisting does not wait for it.  What was there at the last
 * clean stop is known from then; a log with segments is counted whole, which
 * its retention bounds.  A purge keeps us out, and we keep it out.
 */
static void
count(NbLog *log)
{
	LogShared *shared = log->shared;
	int shard = shared->count_shard;
	Ring *ring = log_ring(shared, shard);
	SavedTotals *saved = palloc0(log->options.shards * sizeof(SavedTotals));
	uint64 events = 0;
	uint64 bytes = 0;
	uint64 from = shared->count_seq;
	StoreEnds ends;

	if (!ConditionalLockRelationOid(log->relid, ShareUpdateExclusiveLock))
		return;
	if (log->ntables == 1)
		catalog_saved_totals(log, saved);
	else if (from == 0 && shard == 0 && shared->count_segment == 0)
		catalog_own_segments(log->relid);
	if (from == 0)
	{
		from = saved[shard].next_seq;
		events = saved[shard].events;
		bytes = saved[shard].bytes;
	}
	if (from < ring->start_seq)
		from = store_count(nb_log_table(log, shared->count_segment), shard, from,
						   ring->start_seq - 1, COUNT_ROWS, &events, &bytes);
	store_ends(log, nb_log_table(log, shared->count_segment), shard, &ends);
	ring_count_found(ring, shared->count_segment, events, bytes, ends.empty ? 0 : ends.first_ts,
					 ends.empty ? 0 : ends.last_ts);

	/* Nothing fails from here on: what is counted is not counted again. */
	shared->count_seq = from;
	if (from < ring->start_seq)
		return;
	shared->count_seq = 0;
	if (++shared->count_shard < log->options.shards)
		return;
	shared->count_shard = 0;
	if (++shared->count_segment <= ring->segment)
		return;
	shared->counted = true;
}

/* ------------------------------------------------------------- retention */

static bool
segment_in_use(NbLog *log, uint32 segment)
{
	for (int i = 0; i < log->options.shards; i++)
		if (ring_segment_in_use(log_ring(log->shared, i), segment))
			return true;
	return false;
}

/* Sums over the shards. */
static RingSegment
segment_totals(NbLog *log, uint32 segment)
{
	RingSegment sum = {0};

	for (int i = 0; i < log->options.shards; i++)
	{
		Ring *ring = log_ring(log->shared, i);
		RingSegment s;

		SpinLockAcquire(&ring->lock);
		s = ring->segments[segment % RING_SEGMENTS];
		SpinLockRelease(&ring->lock);
		sum.events += s.events;
		if (s.first_ts != 0 && (sum.first_ts == 0 || s.first_ts < sum.first_ts))
			sum.first_ts = s.first_ts;
		sum.last_ts = Max(sum.last_ts, s.last_ts);
	}
	return sum;
}

/* Bytes on disk, indexes and all. */
static uint64
segment_bytes(NbLog *log, uint32 segment)
{
	return DatumGetInt64(
		DirectFunctionCall1(pg_total_relation_size, ObjectIdGetDatum(nb_log_table(log, segment))));
}

/* Readers see nothing of the oldest segment any more. */
static void
expire_oldest(NbLog *log)
{
	uint32 oldest = log_ring(log->shared, 0)->oldest_segment;

	uint64 *floors = palloc0(log->options.shards * sizeof(uint64));

	for (int i = 0; i < log->options.shards; i++)
	{
		Ring *ring = log_ring(log->shared, i);
		StoreEnds ends;

		store_ends(log, nb_log_table(log, oldest), i, &ends);
		if (!ends.empty)
			floors[i] = ends.last_seq + 1;
		for (uint32 n = oldest + 1; n <= ring->segment && floors[i] > 0; n++)
		{
			/* Neighbours may overlap a little where several wrote rows at once. */
			store_ends(log, nb_log_table(log, n), i, &ends);
			if (!ends.empty)
				floors[i] = Min(floors[i], ends.first_seq);
		}
	}
	/* All shards or none: nothing fails here. */
	for (int i = 0; i < log->options.shards; i++)
	{
		Ring *ring = log_ring(log->shared, i);

		ring_expire_rows(ring, oldest, PG_UINT64_MAX, 0, floors[i]);
		ring_drop_segment(ring);
	}
	pfree(floors);
}

/* Empty the tables of expired segments that nobody is using.  Returns how many are left. */
static uint32
truncate_expired(NbLog *log)
{
	uint32 oldest = log_ring(log->shared, 0)->oldest_segment;

	for (uint32 n = log->shared->truncated; n < oldest; n++)
	{
		Oid table = nb_log_table(log, n);
		Outcome *outcome;

		if (!ConditionalLockRelationOid(table, AccessExclusiveLock))
			return oldest - n;
		/* With nobody else near: may it be truncated with our rights? */
		catalog_check_table(table, log->name, true);
		if (!store_truncate(table))
			return oldest - n;
		debug_point("truncate");
		outcome = add_outcome(log, 0, OUTCOME_TRUNCATED);
		outcome->segment = n;
	}
	return 0;
}

/*
 * Rotate, expire and truncate as far as the limits say.  Returns in how many
 * milliseconds there may be something to do again, -1: not before the log is
 * in use.  active: it has been since we looked last.
 */
static long
retain(NbLog *log, bool active)
{
	const LogOptions *options = &log->options;
	Ring *ring = log_ring(log->shared, 0); /* all shards have the same segments */
	int64 now = nb_now_us();
	uint64 events = 0;
	uint64 bytes = 0;
	uint32 left;
	RingSegment s = segment_totals(log, ring->segment);

	/* Is the current segment full? */
	if (s.events > 0 &&
		((options->retention_events > 0 &&
		  s.events >= Max(1, options->retention_events / SEGMENTS_FULL)) ||
		 (options->retention_bytes > 0 &&
		  segment_bytes(log, ring->segment) >= options->retention_bytes / SEGMENTS_FULL) ||
		 (options->retention_age > 0 &&
		  now - s.first_ts >= options->retention_age / SEGMENTS_FULL)) &&
		ring->segment + 1 - log->shared->truncated < LOG_SEGMENTS)
	{
		uint32 next = ring->segment + 1;

		for (int i = 0; i < options->shards; i++)
			ring_rotate(log_ring(log->shared, i), next);
	}

	for (uint32 n = ring->oldest_segment; n <= ring->segment; n++)
	{
		events += segment_totals(log, n).events;
		bytes += options->retention_bytes > 0 ? segment_bytes(log, n) : 0;
	}
	while (ring->oldest_segment < ring->segment)
	{
		uint64 oldest_bytes =
			options->retention_bytes > 0 ? segment_bytes(log, ring->oldest_segment) : 0;

		s = segment_totals(log, ring->oldest_segment);
		if (!((options->retention_events > 0 && events - s.events >= options->retention_events) ||
			  (options->retention_bytes > 0 && bytes - oldest_bytes >= options->retention_bytes) ||
			  (options->retention_age > 0 && s.last_ts < now - options->retention_age)) ||
			segment_in_use(log, ring->oldest_segment))
			break;
		events -= s.events;
		bytes -= oldest_bytes;
		expire_oldest(log);
	}

	left = truncate_expired(log);
	pg_atomic_write_u32(&log->shared->retention_holds, left);
	if (left > 0)
		return RETAIN_MS;
	if (options->retention_age > 0)
	{
		int64 due = 0;

		for (uint32 n = ring->oldest_segment; n <= ring->segment && due == 0; n++)
		{
			s = segment_totals(log, n);
			due = n == ring->segment ? s.first_ts : s.last_ts;
		}
		if (due > 0)
			return active ? RETAIN_MS
						  : Max(RETAIN_MS,
								Min((due + options->retention_age - now) / 1000, 3600 * 1000));
	}
	return active ? RETAIN_MS : -1;
}

/* ------------------------------------------------------------ the worker */

/* Of the log that keep() is busy with; NULL before it is open. */
static LogShared *kept = NULL;
static bool upkeep = false; /* it is about counting or retention */

/* Logs that could not be opened, and when to try again.  Bounded by the logs of the database. */
typedef struct Trouble
{
	Oid relid; /* hash key */
	int delay; /* milliseconds */
	int64 retry_at;
} Trouble;

static HTAB *troubles = NULL;

/* Until when a shutdown waits for locks, all logs together. */
static int64 shutdown_deadline = 0;

/* Lock a table if it is free, or becomes so in the time that a shutdown has for it. */
static bool
lock_table(Oid relid, bool wait)
{
	while (!ConditionalLockRelationOid(relid, RowExclusiveLock))
	{
		if (!wait)
			return false;
		if (nb_now_us() >= shutdown_deadline)
		{
			ereport(WARNING,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("gave up waiting for a lock on table \"%s\"", get_rel_name(relid)),
					 errdetail("What its log has in memory only is lost.")));
			return false;
		}
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOCK_RETRY_MS,
						 PG_WAIT_EXTENSION);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/*
 * Lock a log's table, in the current transaction, and open it.  NULL: it is
 * gone, or somebody has it.  First our own tables, for which we may have to wait
 * until DROP EXTENSION, which has the log's, is done.
 */
static NbLog *
open_log(Oid relid, bool wait)
{
	static const char *const ours[] = {"catalog_log", "catalog_position"};
	NbLog *log;

	for (int i = 0; i < lengthof(ours); i++)
	{
		Oid table = catalog_relation(ours[i]);

		if (OidIsValid(table))
			LockRelationOid(table, RowExclusiveLock);
	}
	if (!lock_table(relid, wait))
		return NULL;
	/* A lock may bring news of a change: then look again. */
	do
	{
		log = log_by_relid(relid);
		for (int i = 0; log && log->ntables > 1 && i < log->ntables; i++)
			if (!lock_table(log->tables[i], wait))
				return NULL;
	} while (log && !log->valid);
	if (log && nb_log_durable(log) && !log->checked)
	{
		catalog_check_table(relid, log->name, false);
		log->checked = OidIsValid(log->bound_relid);
	}
	return log;
}

static long
soonest(long a, long b)
{
	return a < 0 ? b : b < 0 ? a : Min(a, b);
}

/*
 * Look after one log, in transactions of its own.  Returns in how many
 * milliseconds to come again, -1: when called.
 */
static long
keep(Oid relid, bool wait)
{
	long next = -1;
	bool more;

	do
	{
		NbLog *log;
		LogShared *shared;
		uint32 bits;
		bool urgent;
		int64 now = nb_now_us();

		more = false;
		next = -1;
		kept = NULL;
		upkeep = false;
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		log = open_log(relid, wait);
		if (!log)
			next = LOCK_RETRY_MS;
		/* One that has just become a copy may have something left. */
		if (!log || !nb_log_durable(log) || pg_atomic_read_u32(&log->shared->live) != 1)
		{
			PopActiveSnapshot();
			CommitTransactionCommand();
			return next;
		}
		kept = shared = log->shared;
		if (shared->retry_at > now && !wait)
		{
			next = (shared->retry_at - now) / 1000 + 1;
			shared->due_at = shared->retry_at;
			PopActiveSnapshot();
			CommitTransactionCommand();
			return next;
		}
		bits = pg_atomic_exchange_u32(&shared->attention, 0) & ~LOG_TIMER;
		urgent = nb_worker_draining || (bits & LOG_URGENT) != 0;

		if (log->options.durability == LOG_ASYNC && has_unpersisted(log, &urgent))
		{
			int64 due;

			if (shared->dirty_since == 0 || shared->dirty_since > now)
				shared->dirty_since = now;
			due = shared->dirty_since + (int64) log->options.flush_interval * 1000;
			if (urgent || due <= now)
			{
				more = !persist(log);
				shared->dirty_since = 0;
				next = log->options.flush_interval;
			}
			else
				next = (due - now) / 1000 + 1;
		}
		if (bits != 0 && seal(log))
			next = soonest(next, SEAL_MS);
		PopActiveSnapshot();
		CommitTransactionCommand();
		shared->retry_delay = 0;

		/* Less pressing, in a transaction of its own, and with a back-off of its own. */
		if (shared->upkeep_at > now && !nb_worker_draining)
			next = soonest(next, (shared->upkeep_at - now) / 1000 + 1);
		else if (!nb_worker_draining && (!shared->counted || log_has_retention(&log->options)))
		{
			kept = NULL;
			upkeep = true;
			StartTransactionCommand();
			PushActiveSnapshot(GetTransactionSnapshot());
			log = open_log(relid, wait);
			if (log && nb_log_durable(log) && pg_atomic_read_u32(&log->shared->live) == 1)
			{
				kept = shared = log->shared;
				if (!shared->counted)
					count(log);
				if (!shared->counted)
					next = soonest(next, LOCK_RETRY_MS);
				else if (log_has_retention(&log->options) && log->ntables > 1)
					next = soonest(next, retain(log, bits != 0));
			}
			PopActiveSnapshot();
			CommitTransactionCommand();
			if (!log)
				return LOCK_RETRY_MS;
			upkeep = false;
			shared = log->shared;
			shared->upkeep_delay = 0;
		}
		/* While we come soon enough anyway nobody needs to wake us. */
		if (next >= 0 && next <= (log->options.durability == LOG_ASYNC ? log->options.flush_interval
																	   : RETAIN_MS))
			pg_atomic_fetch_or_u32(&shared->attention, LOG_TIMER);
		shared->due_at = next < 0 ? PG_INT64_MAX : nb_now_us() + (int64) next * 1000;
	} while (more);
	return next;
}

/* keep(), where an error costs only this log its turn. */
static long
keep_guarded(Oid relid, bool wait)
{
	MemoryContext context = CurrentMemoryContext;
	volatile long next = -1;

	Trouble *trouble = troubles && !wait ? hash_search(troubles, &relid, HASH_FIND, NULL) : NULL;

	if (trouble && trouble->retry_at > nb_now_us())
		return (trouble->retry_at - nb_now_us()) / 1000 + 1;
	PG_TRY();
	{
		next = keep(relid, wait);
		if (trouble)
			hash_search(troubles, &relid, HASH_REMOVE, NULL);
	}
	PG_CATCH();
	{
		ErrorData *error;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		LWLockReleaseAll();
		FlushErrorState();
		MemoryContextSwitchTo(context);
		nb_worker_note_error(error->message);
		if (!kept)
		{
			bool found;

			if (!troubles)
			{
				HASHCTL ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(Trouble)};

				troubles = hash_create("netbus logs in trouble", 16, &ctl, HASH_ELEM | HASH_BLOBS);
			}
			trouble = hash_search(troubles, &relid, HASH_ENTER, &found);
			trouble->delay = found ? Min(trouble->delay * 2, MAX_RETRY_MS) : MIN_RETRY_MS;
			trouble->retry_at = nb_now_us() + (int64) trouble->delay * 1000;
			next = trouble->delay;
		}
		else if (upkeep)
		{
			kept->upkeep_delay = Min(Max(kept->upkeep_delay * 2, MIN_RETRY_MS), MAX_RETRY_MS);
			kept->upkeep_at = nb_now_us() + (int64) kept->upkeep_delay * 1000;
			next = kept->upkeep_delay;
			kept->due_at = kept->upkeep_at;
		}
		else
		{
			kept->retry_delay = Min(Max(kept->retry_delay * 2, MIN_RETRY_MS), MAX_RETRY_MS);
			kept->retry_at = nb_now_us() + (int64) kept->retry_delay * 1000;
			next = kept->retry_delay;
			pg_atomic_fetch_or_u32(&kept->attention, LOG_WORK | LOG_URGENT);
		}
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return next;
}

/* After a start: open the logs that need the worker also if nobody uses them. */
static void
open_idle_logs(MemoryContext context)
{
	List *relids = NIL;
	ListCell *lc;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	if (catalog_current() && SPI_execute("SELECT log::pg_catalog.oid FROM netbus.catalog_log"
										 " WHERE retention_age IS NOT NULL",
										 true, 0) == SPI_OK_SELECT)
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			bool isnull;
			Oid relid = DatumGetObjectId(
				SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
			MemoryContext old = MemoryContextSwitchTo(context);

			if (!isnull)
				relids = lappend_oid(relids, relid);
			MemoryContextSwitchTo(old);
		}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);

	foreach(lc, relids)
		(void) keep_guarded(lfirst_oid(lc), false);
}

/* Lists survive the transactions of a round in the job's memory. */
static RegistryEntry *
own_entries(int *count)
{
	int all;
	RegistryEntry *list = registry_list(&all);

	*count = 0;
	for (int i = 0; i < all; i++)
		if (list[i].key.database == MyDatabaseId)
			list[(*count)++] = list[i];
	return list;
}

static long
keeper_run(void)
{
	static uint64 seen = 0;
	uint64 changes = registry_changes();
	bool look;
	long next = -1;
	int count;
	RegistryEntry *list;

	if (seen == 0)
		open_idle_logs(CurrentMemoryContext);
	look = changes != seen;
	if (look)
	{
		StartTransactionCommand();
		/* Whoever drops a log wakes us before his invalidations are sent: believe no cache. */
		InvalidateSystemCaches();
		registry_reap(true);
		log_forget_dropped();
		CommitTransactionCommand();
		seen = changes;
	}

	list = own_entries(&count);
	for (int i = 0; i < count; i++)
	{
		LogShared *shared = log_mapped(&list[i]);
		int64 now = nb_now_us();

		/* Most have nothing to do most of the time: find that out without a transaction. */
		if (!list[i].durable)
			continue;
		if (shared && !look && !nb_worker_draining && shared->due_at > now &&
			!(pg_atomic_read_u32(&shared->attention) & (LOG_WORK | LOG_URGENT)))
		{
			if (shared->due_at != PG_INT64_MAX)
				next = soonest(next, (shared->due_at - now) / 1000 + 1);
			continue;
		}
		next = soonest(next, keep_guarded(list[i].key.relid, false));
	}
	return next;
}

/*
 * Does any other process have rings of this database mapped?  Nobody publishes to
 * a log that the worker cannot map.
 */
static bool
keeper_busy(void)
{
	int count;
	RegistryEntry *list = own_entries(&count);

	for (int i = 0; i < count; i++)
	{
		LogShared *shared = log_mapped(&list[i]);
		dsm_segment *segment = NULL;
		bool busy;

		if (!shared && (segment = dsm_attach(list[i].handle)) != NULL)
			shared = dsm_segment_address(segment);
		busy = shared && pg_atomic_read_u32(&shared->attached) > (segment ? 0 : 1);
		if (segment)
			dsm_detach(segment);
		if (busy)
			return true;
	}
	return false;
}

/* Save the positions of one log.  What is wrong with it must not cost the others theirs. */
static void
save_positions(Oid relid)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		NbLog *log = NULL;

		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		log = open_log(relid, false);
		if (log && OidIsValid(log->bound_relid) && nb_log_live(log))
			catalog_save_positions(log);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		EmitErrorReport();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
}

static void
keeper_shutdown(void)
{
	int count;
	RegistryEntry *list = own_entries(&count);

	shutdown_deadline = nb_now_us() + (int64) SHUTDOWN_WAIT_MS * 1000;
	for (int i = 0; i < count; i++)
	{
		(void) keep_guarded(list[i].key.relid, true);
		save_positions(list[i].key.relid);
	}
}

/* --------------------------------------------------------- for everybody */

bool
nb_log_flush(NbLog *log)
{
	bool async = log->options.durability == LOG_ASYNC;
	int64 deadline = nb_now_us() + (int64) nb_wait_timeout * 1000;

	if (!nb_log_durable(log))
		return false;
	for (int i = 0; i < log->options.shards; i++)
	{
		Ring *ring = log_ring(log->shared, i);
		pg_atomic_uint64 *reached = async ? &ring->persisted_seq : &ring->stable_seq;
		NbWaiters *waiters = async ? ring_room(ring) : ring_waiters(ring);
		uint64 target;
		bool done;

		SpinLockAcquire(&ring->lock);
		target = ring->next_seq - 1;
		SpinLockRelease(&ring->lock);
		for (;;)
		{
			int64 left = deadline - nb_now_us();

			nb_waiters_add(waiters);
			done = pg_atomic_read_u64(reached) >= target;
			if (done || left <= 0)
				break;
			if (async)
				nb_log_notice(log, LOG_WORK | LOG_URGENT);
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 Min((left + 999) / 1000, 1000), PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
		nb_waiters_remove(waiters);
		if (!done)
			return false;
	}

	/* What is a row has its commit record in the WAL, but perhaps not on disk. */
	XLogFlush(LogLogicalMessage("netbus", "", 0, false));
	return true;
}

void
log_prepare_rewrite(Oid relid)
{
	NbLog *log = log_by_relid(relid);

	if (!log || !nb_log_live(log))
		return;
	if (log->options.durability == LOG_ASYNC)
		while (!persist(log))
			CHECK_FOR_INTERRUPTS();
	if (OidIsValid(log->bound_relid))
		catalog_save_positions(log);
}

/* flush(log) -> persisted */
Datum
netbus_flush(PG_FUNCTION_ARGS)
{
	NbLog *log;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"log\" must not be null")));
	PreventCommandDuringRecovery("netbus.flush()");
	log = nb_log_open(text_to_cstring(PG_GETARG_TEXT_PP(0)), AccessShareLock, ACL_INSERT);
	PG_RETURN_BOOL(nb_log_live(log) && nb_log_flush(log));
}

/* Delete the leading rows of a shard whose events are all older than "before".  Returns how many events. */
static uint64
purge_rows(NbLog *log, int shard, uint32 segment, uint64 to_seq, int64 before)
{
	uint64 events = 0;
	uint64 bytes = 0;
	uint64 last = store_delete(nb_log_table(log, segment), shard, to_seq, before, &events, &bytes);

	if (last > 0)
	{
		Outcome *outcome = add_outcome(log, shard, OUTCOME_PURGED);

		outcome->segment = segment;
		outcome->events = events;
		outcome->bytes = bytes;
		outcome->to_seq = last + 1;
	}
	return events;
}

/* purge(log, before) -> number of events */
Datum
netbus_purge(PG_FUNCTION_ARGS)
{
	int64 before = PG_INT64_MAX;
	uint64 events = 0;
	NbLog *log;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"log\" must not be null")));
	if (!PG_ARGISNULL(1))
	{
		TimestampTz ts = PG_GETARG_TIMESTAMPTZ(1);

		if (TIMESTAMP_IS_NOBEGIN(ts))
			PG_RETURN_INT64(0);
		if (!TIMESTAMP_IS_NOEND(ts))
			before = NB_TIMESTAMPTZ_TO_EPOCH(ts);
	}
	PreventCommandIfReadOnly("netbus.purge()");
	if (IsSubTransaction())
		ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
						errmsg("netbus.purge() cannot be called behind a savepoint"),
						errdetail("A block with EXCEPTION in PL/pgSQL is one, too.")));
	log = nb_log_open(text_to_cstring(PG_GETARG_TEXT_PP(0)), RowExclusiveLock, ACL_SELECT);
	if (!pg_class_ownercheck(log->relid, GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of log \"%s\"", log->name)));

	if (!nb_log_durable(log))
	{
		if (before != PG_INT64_MAX)
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("cannot purge a memory log up to a time"),
							errhint("Leave out \"before\" to remove everything.")));
		for (int i = 0; i < log->options.shards; i++)
			events += ring_purge(log_ring(log->shared, i));
		PG_RETURN_INT64(events);
	}
	if (log->copy)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("log \"%s\" is a copy that a subscription fills", log->name)));
	if (log->options.durability == LOG_ASYNC && !nb_log_flush(log))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("events of log \"%s\" could not be persisted in time", log->name),
				 errhint("The view netbus.stat_worker tells the worker's state and last error.")));

	/* One purge at a time; publishers and readers go on. */
	LockRelationOid(log->relid, ShareUpdateExclusiveLock);
	CommandCounterIncrement(); /* for what an earlier purge of this statement has deleted */
	catalog_forget_totals(log->relid);
	for (int i = 0; i < log->options.shards; i++)
	{
		Ring *ring = log_ring(log->shared, i);
		uint64 to_seq = pg_atomic_read_u64(&ring->stable_seq);

		pg_read_barrier();
		for (uint32 n = ring->oldest_segment; n <= ring->segment; n++)
			events += purge_rows(log, i, n, to_seq, before);
	}
	PG_RETURN_INT64(events);
}

void
nb_keeper_init(void)
{
	static const NbWorkerJob job = {"logs", keeper_run, keeper_busy, keeper_shutdown};

	nb_worker_add_job(&job);
	RegisterXactCallback(keeper_xact_callback, NULL);
}
