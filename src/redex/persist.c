/*-------------------------------------------------------------------------
 *
 * persist.c
 *		From the ring into rows: persisting async logs, sealing holes, flush().
 *
 * Persisting.  Resolved frames of an async log are copied from the ring into
 * rows as they are: one that fills a page becomes a row, smaller ones share a
 * row as long as their seqs are contiguous.  The rings hear of it when the
 * transaction is committed, and flushed (outcome.c).  Until then the events stay
 * in the ring: if it fails, the publishers feel that the ring fills up.
 *
 * Sealing.  A hole, left by an abort or by events that were lost, keeps those
 * who read the rows alone waiting until a later row's stable seq vouches for it.
 * If no such row comes, the worker writes one, without events (ring_rows.c).
 *
 * Flushing.  Whoever has to know that his events are persisted calls the worker
 * and sleeps until the rings tell that they are.  Publishers go on meanwhile.
 *
 * Rows are inserted with the rights of the table's owner.  The caller has locked
 * the log's tables (RowExclusiveLock); the frames are read as every reader
 * does it (ring.h).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/redex_internal.h"
#include "redex/store.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/message.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#define PERSIST_BYTES (16 * 1024 * 1024) /* of a shard in one transaction */

PG_FUNCTION_INFO_V1(netbus_flush);

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

	outcome = outcome_add(log, shard, OUTCOME_PERSISTED);
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

bool
log_persist(NbLog *log)
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

bool
log_has_unpersisted(NbLog *log, bool *urgent)
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
		outcome_add(log, shard, OUTCOME_SEALED)->to_seq = frame.stable_seq;
		store_insert(&writer, shard, frame.base_seq, 0, sizeof(frame));
	}
	store_close(&writer);
	SetUserIdAndSecContext(user, context);
}

bool
log_seal(NbLog *log)
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

/* -------------------------------------------------------------- flushing */

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
	XLogFlush(nb_log_logical_message("netbus"));
	return true;
}

void
log_prepare_rewrite(Oid relid)
{
	NbLog *log = log_by_relid(relid);

	if (!log || !nb_log_live(log))
		return;
	if (log->options.durability == LOG_ASYNC)
		while (!log_persist(log))
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
