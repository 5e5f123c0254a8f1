/*-------------------------------------------------------------------------
 *
 * retain.c
 *		What the tables of a log hold: counting it, and retaining no more than
 *		the options say.
 *
 * Counting.  Rings are made without looking at the rows, which may be many.  The
 * worker counts them afterwards, some at a time.  Until that is done nothing is
 * expired: the limits are about what there is.
 *
 * Retention.  The current segment takes rows until it has a sixth of what is
 * to be retained, or spans a sixth of the time; then the next one does.  The
 * oldest segment expires when the others suffice: readers stop seeing it at
 * once, and it is truncated as soon as nobody has it locked.  Eight tables are
 * enough for six full ones, the current one and one that is still being read.
 *
 * All this is the worker's, in transactions of its own; how far it has got is
 * in shared memory that only the worker uses (LogShared).
 *
 * Locks: ShareUpdateExclusiveLock on the log's table to count, AccessExclusiveLock
 * on a segment to truncate; both only if free.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/redex_internal.h"
#include "redex/store.h"

#include "fmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"

#define SEGMENTS_FULL (LOG_SEGMENTS - 2) /* that together have what is to be retained */
#define COUNT_ROWS    2000

/*
 * Go on counting what the tables held when the rings were made, COUNT_ROWS rows at
 * a time, so that persisting does not wait for it.  What was there at the last
 * clean stop is known from then; a log with segments is counted whole, which
 * its retention bounds.  A purge keeps us out, and we keep it out.
 */
void
log_count_rows(NbLog *log)
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

/* Does somebody still need an event of the oldest segment? */
static bool
oldest_needed(NbLog *log)
{
	Ring *ring = log_ring(log->shared, 0);
	uint64 *last_seqs;
	uint64 bytes = 0;
	bool needed;

	if (!nb_log_needed_hook)
		return false;
	last_seqs = palloc0(log->options.shards * sizeof(uint64));
	for (int i = 0; i < log->options.shards; i++)
	{
		StoreEnds ends;

		store_ends(log, nb_log_table(log, ring->oldest_segment), i, &ends);
		if (!ends.empty)
			last_seqs[i] = ends.last_seq;
	}
	for (uint32 n = ring->oldest_segment; n <= ring->segment; n++)
		bytes += segment_bytes(log, n);
	needed = nb_log_needed_hook(log, last_seqs, bytes);
	pfree(last_seqs);
	return needed;
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
		outcome = outcome_add(log, 0, OUTCOME_TRUNCATED);
		outcome->segment = n;
	}
	return 0;
}

long
log_retain(NbLog *log, bool active)
{
	const LogOptions *options = &log->options;
	Ring *ring = log_ring(log->shared, 0); /* all shards have the same segments */
	int64 now = nb_now_us();
	uint64 events = 0;
	uint64 bytes = 0;
	uint32 left;
	bool held = false; /* by somebody who has yet to read it */
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
		held = oldest_needed(log);
		if (held)
			break;
		events -= s.events;
		bytes -= oldest_bytes;
		expire_oldest(log);
	}

	left = truncate_expired(log);
	left += held;
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
