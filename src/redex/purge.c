/*-------------------------------------------------------------------------
 *
 * purge.c
 *		purge(): the owner of a log deletes its oldest events.
 *
 * In a memory log they are expired in the ring.  In a durable one whole rows are
 * deleted, in the caller's transaction, from the oldest on: a row stays if one of
 * its events is not older than the limit.  Readers see them until he commits;
 * then the rings are told (outcome.c).  As that knows no savepoints, purge()
 * does not run behind one.
 *
 * Locks: RowExclusiveLock on the log's tables, and ShareUpdateExclusiveLock on the
 * log's own, which keeps out another purge and the worker's counting.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/redex_internal.h"
#include "redex/store.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(netbus_purge);

/*
 * Delete the leading rows of a shard whose events are all older than "before".
 * Returns how many events.
 */
static uint64
purge_rows(NbLog *log, int shard, uint32 segment, uint64 to_seq, int64 before)
{
	uint64 events = 0;
	uint64 bytes = 0;
	uint64 last = store_delete(nb_log_table(log, segment), shard, to_seq, before, &events, &bytes);

	if (last > 0)
	{
		Outcome *outcome = outcome_add(log, shard, OUTCOME_PURGED);

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
	if (!nb_owns_table(log->relid, GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of log \"%s\"", log->name)));

	if (nb_log_cut_hook)
		nb_log_cut_hook(log->relid, log->name);
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
