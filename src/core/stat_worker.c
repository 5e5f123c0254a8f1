/*-------------------------------------------------------------------------
 *
 * stat_worker.c
 *		The rows of netbus.stat_worker: the launcher, and the worker of the
 *		current database.
 *
 *-------------------------------------------------------------------------
 */
#include "core/worker_internal.h"

#include "commands/dbcommands.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/*
 * The launcher has no database and so perhaps another encoding.
 */
static text *
error_text(char *message)
{
	if (!pg_verifymbstr(message, strlen(message), true))
		for (char *c = message; *c != '\0'; c++)
			if (IS_HIGHBIT_SET(*c))
				*c = '?';
	return cstring_to_text(message);
}

static const char *
worker_state(const NbWorkerSlot *slot, bool held)
{
	if (slot->state == NB_SLOT_RUNNING && !held)
		return "running";
	if (slot->state == NB_SLOT_STARTING)
		return "starting";
	if (held)
		return "holding";
	if (slot->state == NB_SLOT_FREE ||
		(slot->state == NB_SLOT_EXITED && slot->result != NB_RESULT_ERROR))
		return "stopped";

	/* It will be started; was the last thing that happened an error? */
	return slot->last_error_at > slot->started ? "backing off" : "starting";
}

static void
put_row(ReturnSetInfo *rsinfo, const char *kind, const char *database, int pid, const char *state,
		TimestampTz started, int restarts, char *error, TimestampTz error_at)
{
	Datum values[8];
	bool nulls[8] = {false};

	values[0] = CStringGetTextDatum(kind);
	if (database)
		values[1] = CStringGetTextDatum(database);
	nulls[1] = database == NULL;
	values[2] = Int32GetDatum(pid);
	nulls[2] = pid == 0;
	values[3] = CStringGetTextDatum(state);
	values[4] = TimestampTzGetDatum(started);
	nulls[4] = started == 0;
	values[5] = Int32GetDatum(restarts);
	if (error_at != 0)
		values[6] = PointerGetDatum(error_text(error));
	values[7] = TimestampTzGetDatum(error_at);
	nulls[6] = nulls[7] = error_at == 0;

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(netbus_stat_worker);

/*
 * netbus.stat_get_worker()
 */
Datum
netbus_stat_worker(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	NbWorkerSlot slot;
	NbWorkerSlot *found;
	char launcher_error[NB_ERROR_SIZE];
	TimestampTz launcher_started;
	TimestampTz launcher_error_at;
	int launcher_pid;
	int launcher_restarts;
	bool held;

	nb_require_preload();
	InitMaterializedSRF(fcinfo, 0);

	/* Copy under the lock, make rows without it. */
	LWLockAcquire(nb_workers->lock, LW_SHARED);
	launcher_pid = nb_workers->launcher_pid;
	launcher_restarts = nb_workers->launcher_restarts;
	launcher_started = nb_workers->launcher_started;
	launcher_error_at = nb_workers->launcher_error_at;
	memcpy(launcher_error, nb_workers->launcher_error, NB_ERROR_SIZE);
	held = nb_worker_held(MyDatabaseId);
	found = nb_worker_find(MyDatabaseId);
	if (found)
		slot = *found;
	else
		memset(&slot, 0, sizeof(slot));
	LWLockRelease(nb_workers->lock);

	put_row(rsinfo, "launcher", NULL, launcher_pid, launcher_pid != 0 ? "running" : "stopped",
			launcher_started, launcher_restarts, launcher_error, launcher_error_at);
	put_row(rsinfo, "worker", get_database_name(MyDatabaseId), slot.pid, worker_state(&slot, held),
			slot.started, slot.restarts, slot.last_error, slot.last_error_at);

	return (Datum) 0;
}
