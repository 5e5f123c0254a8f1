/*-------------------------------------------------------------------------
 *
 * info.c
 *		What models tell of themselves, and waiting for the fold.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cortex/model.h"

#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#define STAT_COLUMNS 16

PG_FUNCTION_INFO_V1(netbus_stat_model);
PG_FUNCTION_INFO_V1(netbus_wait_for);

/* How many seqs are to be folded yet, if the user may know; else false. */
static bool
lag_of(const ModelRow *row, ModelSlot *slot, int64 *lag)
{
	char *table = get_rel_name(row->log);
	Model *model;

	if (!table || RecoveryInProgress() ||
		pg_class_aclcheck(row->log, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		return false;
	model = model_local(row->log, row->kind);
	model->log = nb_log_open(table + strlen(LOG_TABLE_PREFIX), AccessShareLock, ACL_SELECT);
	if (!nb_log_live(model->log))
		return false;
	*lag = (int64) ring_committed_seq(log_ring(model->log->shared, 0)) -
		   (int64) pg_atomic_read_u64(&slot->folded_seq);
	*lag = Max(*lag, 0);
	return true;
}

/* Rows of the view stat_model. */
Datum
netbus_stat_model(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int count;
	ModelRow *rows;

	nb_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	rows = models_list(&count);
	for (int i = 0; i < count; i++)
	{
		ModelSlot *slot = model_find_slot(rows[i].log);
		Datum values[STAT_COLUMNS];
		bool nulls[STAT_COLUMNS] = {0};
		int n = 0;
		char *table = get_rel_name(rows[i].log);
		int64 lag = 0;
		uint64 at;

		if (!table)
			continue;
		values[n++] = CStringGetTextDatum(model_kinds[rows[i].kind]->name);
		values[n++] = CStringGetTextDatum(rows[i].name);
		values[n++] = CStringGetTextDatum(table + strlen(LOG_TABLE_PREFIX));
		values[n++] = CStringGetTextDatum(
			slot && pg_atomic_read_u32(&slot->phase) == MODEL_READY ? "ready" : "loading");
		if (!slot)
		{
			for (; n < STAT_COLUMNS; n++)
				nulls[n] = true;
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
			continue;
		}
		values[n++] = Int64GetDatum(pg_atomic_read_u64(&slot->folded_seq));
		nulls[n] = !lag_of(&rows[i], slot, &lag);
		values[n++] = Int64GetDatum(lag);
		LWLockAcquire(model_lock_of(slot), LW_SHARED);
		values[n++] = Int64GetDatum(slot->state.by_created.count);
		values[n++] = Int64GetDatum(slot->state.content);
		values[n++] = Int64GetDatum(slot->state.arena.used);
		values[n++] = Int64GetDatum((int64) slot->state.arena.nblocks * ARENA_BLOCK);
		LWLockRelease(model_lock_of(slot));
		values[n++] = Int64GetDatum(pg_atomic_read_u64(&slot->events) -
									pg_atomic_read_u64(&slot->events_before));
		values[n++] = Int64GetDatum(pg_atomic_read_u64(&slot->noops));
		values[n++] = Int64GetDatum(pg_atomic_read_u64(&slot->errors));
		values[n++] = Int64GetDatum(pg_atomic_read_u64(&slot->lost));
		at = pg_atomic_read_u64(&slot->snapshot_at);
		nulls[n] = at == 0;
		values[n++] = Int64GetDatum(pg_atomic_read_u64(&slot->snapshot_seq));
		nulls[n] = at == 0;
		values[n++] = TimestampTzGetDatum(NB_EPOCH_TO_TIMESTAMPTZ((int64) at));
		Assert(n == STAT_COLUMNS);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* Errors are those that netbus.model_error has: they stay. */
void
model_stats_reset(void)
{
	int count;
	ModelRow *rows = models_list(&count);

	for (int i = 0; i < count; i++)
	{
		ModelSlot *slot = model_find_slot(rows[i].log);

		if (!slot)
			continue;
		pg_atomic_write_u64(&slot->events_before, pg_atomic_read_u64(&slot->events));
		pg_atomic_write_u64(&slot->noops, 0);
		pg_atomic_write_u64(&slot->lost, 0);
	}
}

/* wait_for(log, seq, timeout) -> folded */
Datum
netbus_wait_for(PG_FUNCTION_ARGS)
{
	char *log = arg_text(fcinfo, 0, "log");
	int64 deadline = arg_deadline(fcinfo, 2, "timeout");
	Model *model;
	uint64 seq;

	PreventCommandDuringRecovery("netbus.wait_for()");
	model = model_open_by_log(log);
	seq = PG_ARGISNULL(1) ? model_committed_seq(model) : (uint64) Max(PG_GETARG_INT64(1), 0);
	PG_RETURN_BOOL(model_wait(model, seq, deadline));
}
