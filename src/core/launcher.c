/*-------------------------------------------------------------------------
 *
 * launcher.c
 *		The one process that starts the workers of all databases.
 *
 * Only a process that is connected to a database can tell whether it has the
 * extension. So at its start the launcher sends a worker into each database
 * that allows connections; one that finds no extension leaves again. These
 * visits go one after the other, each only when the process of the last one is
 * gone for the postmaster too, so that besides the workers that stay they need
 * one of max_worker_processes. Afterwards sessions say when there is something
 * to see: CREATE EXTENSION, CREATE DATABASE, the end of a hold (lifecycle.c).
 *
 * A visit that is kept waiting, say by a lock on its database, does not hold
 * up the others for longer than VISIT_MS.
 *
 * What the launcher knows is in the slots, except for the queue of visits to
 * make, the postmaster's handles and two back-offs. If it dies, it is started
 * again, visits all databases and leaves alone those with a worker. The new one
 * has no handles for the old one's workers; their exit callbacks tell it.
 *
 * At a shutdown of the server it waits until the workers are gone, and pushes
 * one that stays stuck behind a lock (see worker.c).
 *
 *-------------------------------------------------------------------------
 */
#include "core/worker_internal.h"

#include <signal.h>

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Between attempts after errors of a worker, and when no process is to be had. */
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS (60 * 1000)

/* A worker that ran this long before an error starts from the shortest back-off again. */
#define GOOD_RUN_MS (60 * 1000)

/* After this time a visit no longer holds up the next one. */
#define VISIT_MS (10 * 1000)

/* A worker registered by a launcher that is gone must show up in this time. */
#define ORPHAN_MS (60 * 1000)

/* While something is under way; the rest is events. */
#define POLL_MS 1000

/* At shutdown: how often to look at the workers, and how long one may be stuck. */
#define STOP_POLL_MS 20
#define STUCK_MS     (30 * 1000)

/* A database as pg_database has it. */
typedef struct Database
{
	Oid oid;
	NameData name;
} Database;

/* Memory of this process; indexed like the slots. */
static BackgroundWorkerHandle **handles;

/* Databases to visit, in order; and those that found netbus.max_databases used up. */
static List *to_visit = NIL;
static List *refused = NIL;

/* When no background worker slot was free. */
static int64 register_after = 0;
static int64 register_backoff = 0;

static volatile sig_atomic_t server_stops = false;

/* ---------------------------------------------------------------------
 * What others call
 * --------------------------------------------------------------------- */

void
nb_launcher_wake(void)
{
	uint32 procno = pg_atomic_read_u32(&nb_workers->launcher_procno);

	if (procno != NB_NO_PROC)
		SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

/*
 * Ask for a visit; InvalidOid means to every database. Taking a lightweight lock is as safe after commit as it is
 * for the server's own code there: it waits, but does not fail.
 */
void
nb_launcher_visit(Oid database)
{
	bool queued = false;

	LWLockAcquire(nb_workers->lock, LW_EXCLUSIVE);
	if (!OidIsValid(database))
		queued = nb_workers->visit_all = true;
	for (int i = 0; i < nb_workers->nvisits; i++)
		if (nb_workers->visits[i] == database)
			queued = true;
	if (!queued)
	{
		if (nb_workers->nvisits < NB_MAX_VISITS)
			nb_workers->visits[nb_workers->nvisits++] = database;
		else
			nb_workers->visit_all = true;
	}
	LWLockRelease(nb_workers->lock);

	nb_launcher_wake();
}

void
nb_launcher_register(void)
{
	BackgroundWorker worker;

	/* pg_upgrade wants no connections but its own. */
	if (IsBinaryUpgrade)
		return;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "netbus", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "netbus_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "netbus launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "netbus launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/* ---------------------------------------------------------------------
 * Databases
 * --------------------------------------------------------------------- */

/*
 * The databases that one can connect to, in the current memory context. Not
 * connected to any ourselves, we can only read pg_database from end to end.
 */
static List *
read_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List *databases = NIL;
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;

	StartTransactionCommand();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;
		Database *database;

		if (!form->datallowconn || form->datconnlimit == NB_CONNLIMIT_INVALID)
			continue;

		old = MemoryContextSwitchTo(context);
		database = palloc(sizeof(Database));
		database->oid = form->oid;
		database->name = form->datname;
		databases = lappend(databases, database);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);

	return databases;
}

/* NULL if it is gone, or does not allow connections. */
static const char *
database_name(Oid oid)
{
	ListCell *lc;

	foreach(lc, read_databases())
	{
		Database *database = lfirst(lc);

		if (database->oid == oid)
			return NameStr(database->name);
	}
	return NULL;
}

static void
remember(List **list, Oid database)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	*list = list_append_unique_oid(*list, database);
	MemoryContextSwitchTo(old);
}

/* Move what sessions ask for into our own queue. */
static void
take_requests(void)
{
	Oid visits[NB_MAX_VISITS];
	int nvisits;
	bool all;

	LWLockAcquire(nb_workers->lock, LW_EXCLUSIVE);
	all = nb_workers->visit_all;
	nvisits = nb_workers->nvisits;
	memcpy(visits, nb_workers->visits, nvisits * sizeof(Oid));
	nb_workers->visit_all = false;
	nb_workers->nvisits = 0;
	LWLockRelease(nb_workers->lock);

	for (int i = 0; i < nvisits; i++)
		remember(&to_visit, visits[i]);
	if (all)
	{
		ListCell *lc;

		foreach(lc, read_databases())
			remember(&to_visit, ((Database *) lfirst(lc))->oid);
	}
}

/* ---------------------------------------------------------------------
 * Slots
 * --------------------------------------------------------------------- */

static void
free_slot(NbWorkerSlot *slot)
{
	Assert(LWLockHeldByMeInMode(nb_workers->lock, LW_EXCLUSIVE));

	pg_atomic_write_u32(&slot->database, InvalidOid);
	slot->state = NB_SLOT_FREE;
	slot->known = false;
	slot->revisit = false;
	slot->errors = 0;
	slot->restarts = 0;
	slot->started = 0;
	slot->last_error[0] = '\0';
	slot->last_error_at = 0;
}

static int64
backoff(int failures)
{
	return Min(BACKOFF_MAX_MS, (int64) BACKOFF_MIN_MS << Min(failures - 1, 10));
}

static void
note_failure(NbWorkerSlot *slot)
{
	int64 now = nb_monotonic_ms();

	if (now - slot->registered >= GOOD_RUN_MS)
		slot->errors = 0;
	slot->errors++;
	slot->restarts++;
	slot->state = NB_SLOT_WAITING;
	slot->next_start = now + backoff(slot->errors);
}

/* Is the process gone for the postmaster too? Without a handle we take its own word. */
static bool
handle_stopped(int i)
{
	pid_t pid;

	return handles[i] == NULL || GetBackgroundWorkerPid(handles[i], &pid) == BGWH_STOPPED;
}

static void
forget_handle(int i)
{
	if (handles[i])
		pfree(handles[i]);
	handles[i] = NULL;
}

/* See which processes have ended, and decide what becomes of their slots. */
static void
reap(void)
{
	Oid report_full = InvalidOid;

	LWLockAcquire(nb_workers->lock, LW_EXCLUSIVE);
	for (int i = 0; i < nb_workers->nslots; i++)
	{
		NbWorkerSlot *slot = &nb_workers->slots[i];
		Oid database = pg_atomic_read_u32(&slot->database);

		if (slot->state == NB_SLOT_STARTING && slot->pid == 0)
		{
			if (handles[i] ? !handle_stopped(i) : nb_monotonic_ms() - slot->registered < ORPHAN_MS)
				continue;

			/* It never came: no fork, or our predecessor's end. */
			forget_handle(i);
			slot->generation++;
			strlcpy(slot->last_error, "could not start process", NB_ERROR_SIZE);
			slot->last_error_at = GetCurrentTimestamp();
			note_failure(slot);
			ConditionVariableBroadcast(&nb_workers->left);
			continue;
		}

		if (slot->state != NB_SLOT_EXITED || !handle_stopped(i))
			continue;

		forget_handle(i);
		register_after = 0; /* one of max_worker_processes is free now */
		switch (slot->result)
		{
			case NB_RESULT_ERROR:
				note_failure(slot);
				break;
			case NB_RESULT_ASIDE:
			case NB_RESULT_STOPPED:
				slot->state = NB_SLOT_WAITING;
				slot->next_start = 0;
				break;
			case NB_RESULT_FULL:
				if (refused == NIL)
					report_full = database;
				remember(&refused, database);
				free_slot(slot);
				break;
			case NB_RESULT_ABSENT:
				if (slot->revisit)
					remember(&to_visit, database);
				free_slot(slot);
				break;
		}
	}
	LWLockRelease(nb_workers->lock);

	/* Once, until there is room again. */
	if (OidIsValid(report_full))
	{
		const char *name = database_name(report_full);

		ereport(LOG, (errmsg("netbus does not serve database \"%s\", because it already serves "
							 "netbus.max_databases (%d) others",
							 name ? name : "?", nb_max_databases),
					  errhint("Increase netbus.max_databases and restart the server.")));
	}
}

/* Is a visit under way that the next one must wait for? */
static bool
visiting(void)
{
	for (int i = 0; i < nb_workers->nslots; i++)
	{
		NbWorkerSlot *slot = &nb_workers->slots[i];

		if (!slot->known && (slot->state == NB_SLOT_STARTING || slot->state == NB_SLOT_EXITED) &&
			nb_monotonic_ms() - slot->registered < VISIT_MS)
			return true;
	}
	return false;
}

/* When may a process be started here? PG_INT64_MAX: not before something else happens. */
static int64
start_time(NbWorkerSlot *slot)
{
	if (slot->state != NB_SLOT_WAITING || nb_worker_held(pg_atomic_read_u32(&slot->database)) ||
		(!slot->known && visiting()))
		return PG_INT64_MAX;
	return Max(slot->next_start, register_after);
}

/* Give the databases in the queue a slot each, as long as there are any. */
static void
assign_slots(void)
{
	LWLockAcquire(nb_workers->lock, LW_EXCLUSIVE);

	if (refused != NIL && nb_worker_count_known() < nb_max_databases)
	{
		ListCell *lc;

		foreach(lc, refused)
			remember(&to_visit, lfirst_oid(lc));
		list_free(refused);
		refused = NIL;
	}

	while (to_visit != NIL)
	{
		Oid database = linitial_oid(to_visit);
		NbWorkerSlot *slot = nb_worker_find(database);

		if (slot == NULL)
		{
			slot = nb_worker_find(InvalidOid);
			if (slot == NULL)
				break;
			pg_atomic_write_u32(&slot->database, database);
			slot->state = NB_SLOT_WAITING;
			slot->next_start = 0;
		}
		else if (slot->state == NB_SLOT_WAITING)
			slot->next_start = 0; /* whoever asks wants it now */
		else
			slot->revisit = true; /* the process may be about to find the extension absent */
		to_visit = list_delete_first(to_visit);
	}

	LWLockRelease(nb_workers->lock);
}

static void
start_worker(int i, const char *name)
{
	NbWorkerSlot *slot = &nb_workers->slots[i];
	BackgroundWorker worker;
	MemoryContext old;
	bool ok;

	LWLockAcquire(nb_workers->lock, LW_EXCLUSIVE);
	if (nb_worker_held(pg_atomic_read_u32(&slot->database)))
	{
		LWLockRelease(nb_workers->lock);
		return;
	}
	slot->state = NB_SLOT_STARTING;
	slot->generation++;
	slot->registered = nb_monotonic_ms();
	slot->revisit = false;
	pg_atomic_write_u32(&slot->requests, 0);
	LWLockRelease(nb_workers->lock);

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = Int32GetDatum(i);
	strlcpy(worker.bgw_library_name, "netbus", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "netbus_worker_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "netbus worker for database %s", name);
	strlcpy(worker.bgw_type, "netbus worker", BGW_MAXLEN);
	memcpy(worker.bgw_extra, &slot->generation, sizeof(slot->generation));

	old = MemoryContextSwitchTo(TopMemoryContext);
	ok = RegisterDynamicBackgroundWorker(&worker, &handles[i]);
	MemoryContextSwitchTo(old);
	if (ok)
		return;

	/* Others use them all: not this database's failure, and every start's problem. */
	if (register_backoff == 0)
		ereport(LOG, (errmsg("no background worker slot is free for the netbus worker of database "
							 "\"%s\"; retrying until max_worker_processes allows it",
							 name)));
	register_backoff = register_backoff == 0 ? BACKOFF_MIN_MS : register_backoff * 2;
	register_backoff = Min(register_backoff, BACKOFF_MAX_MS);
	register_after = nb_monotonic_ms() + register_backoff;

	LWLockAcquire(nb_workers->lock, LW_EXCLUSIVE);
	slot->state = NB_SLOT_WAITING;
	strlcpy(slot->last_error, "no background worker slot is free, see max_worker_processes",
			NB_ERROR_SIZE);
	slot->last_error_at = GetCurrentTimestamp();
	LWLockRelease(nb_workers->lock);
	ConditionVariableBroadcast(&nb_workers->left);
}

/* Start every process whose time has come. */
static void
start_workers(void)
{
	for (int i = 0; i < nb_workers->nslots; i++)
	{
		NbWorkerSlot *slot = &nb_workers->slots[i];
		const char *name;
		bool due;

		LWLockAcquire(nb_workers->lock, LW_SHARED);
		due = start_time(slot) <= nb_monotonic_ms();
		LWLockRelease(nb_workers->lock);
		if (!due)
			continue;

		/* Only the launcher changes the database of a slot. */
		name = database_name(pg_atomic_read_u32(&slot->database));
		if (name != NULL)
			start_worker(i, name);
		else
		{
			LWLockAcquire(nb_workers->lock, LW_EXCLUSIVE);
			free_slot(slot);
			LWLockRelease(nb_workers->lock);
		}
	}
}

/* Once nobody has to wait any more, lack of processes is news again. */
static void
forget_register_backoff(void)
{
	bool waiting = to_visit != NIL;

	LWLockAcquire(nb_workers->lock, LW_SHARED);
	for (int i = 0; i < nb_workers->nslots; i++)
		waiting |= nb_workers->slots[i].state == NB_SLOT_WAITING;
	LWLockRelease(nb_workers->lock);

	if (!waiting)
		register_backoff = 0;
}

/* How long may we sleep? -1: until somebody wakes us. */
static long
sleep_time(void)
{
	int64 now = nb_monotonic_ms();
	int64 next = PG_INT64_MAX;

	LWLockAcquire(nb_workers->lock, LW_SHARED);
	if (nb_workers->nvisits > 0 || nb_workers->visit_all)
		next = now;
	for (int i = 0; i < nb_workers->nslots; i++)
	{
		NbWorkerSlot *slot = &nb_workers->slots[i];

		if (slot->state == NB_SLOT_STARTING || slot->state == NB_SLOT_EXITED)
			next = Min(next, now + POLL_MS);
		next = Min(next, start_time(slot));
	}
	LWLockRelease(nb_workers->lock);

	return next == PG_INT64_MAX ? -1 : Max(0, next - now);
}

/* ---------------------------------------------------------------------
 * The process
 * --------------------------------------------------------------------- */

static void
launcher_sigterm(SIGNAL_ARGS)
{
	int save_errno = errno;

	if (nb_server_is_stopping())
	{
		server_stops = true;
		SetLatch(MyLatch);
	}
	else
		die(postgres_signal_arg);

	errno = save_errno;
}

static void
launcher_detach(int code, Datum arg)
{
	LWLockAcquire(nb_workers->lock, LW_EXCLUSIVE);
	nb_workers->launcher_pid = 0;
	pg_atomic_write_u32(&nb_workers->launcher_procno, NB_NO_PROC);
	if (code != 0)
	{
		strlcpy(nb_workers->launcher_error, nb_captured_error(), NB_ERROR_SIZE);
		nb_workers->launcher_error_at = GetCurrentTimestamp();
	}
	LWLockRelease(nb_workers->lock);
}

static void
launcher_attach(void)
{
	LWLockAcquire(nb_workers->lock, LW_EXCLUSIVE);
	if (nb_workers->launcher_started != 0)
		nb_workers->launcher_restarts++;
	nb_workers->launcher_pid = MyProcPid;
	nb_workers->launcher_started = GetCurrentTimestamp();
	nb_workers->visit_all = true;
	pg_atomic_write_u32(&nb_workers->launcher_procno, NB_MY_PROCNO);
	LWLockRelease(nb_workers->lock);

	on_shmem_exit(launcher_detach, (Datum) 0);
}

/*
 * The sessions are being ended, the workers drain. All that can keep a worker
 * then is a lock of a prepared transaction: SIGINT cancels its wait.
 */
pg_noreturn static void
wait_for_workers_and_leave(void)
{
	int64 *stuck_since = palloc0(nb_workers->nslots * sizeof(int64));
	bool any;

	do
	{
		int64 now = nb_monotonic_ms();

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();

		any = false;
		LWLockAcquire(nb_workers->lock, LW_SHARED);
		for (int i = 0; i < nb_workers->nslots; i++)
		{
			NbWorkerSlot *slot = &nb_workers->slots[i];
			uint32 procno = pg_atomic_read_u32(&slot->procno);

			if (slot->pid == 0)
				continue;
			any = true;
			if ((ProcGlobal->allProcs[procno].wait_event_info & 0xFF000000U) != PG_WAIT_LOCK)
				stuck_since[i] = 0;
			else if (stuck_since[i] == 0)
				stuck_since[i] = now;
			else if (now - stuck_since[i] >= STUCK_MS)
			{
				/* Under the lock, so the process still exists. */
				kill(slot->pid, SIGINT);
				stuck_since[i] = 0;
			}
		}
		LWLockRelease(nb_workers->lock);

		if (any)
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, STOP_POLL_MS,
							 PG_WAIT_EXTENSION);
	} while (any);

	proc_exit(0);
}

void
netbus_launcher_main(Datum arg)
{
	MemoryContext context;

	pqsignal(SIGTERM, launcher_sigterm);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	nb_capture_errors();

	launcher_attach();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	handles = MemoryContextAllocZero(TopMemoryContext,
									 nb_workers->nslots * sizeof(BackgroundWorkerHandle *));
	context = AllocSetContextCreate(TopMemoryContext, "netbus launcher", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);

	for (;;)
	{
		int flags = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
		long timeout;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (catchupInterruptPending)
			ProcessCatchupInterrupt();
		if (server_stops)
			wait_for_workers_and_leave();

		take_requests();
		reap();
		assign_slots();
		start_workers();
		forget_register_backoff();

		MemoryContextSwitchTo(context);
		MemoryContextReset(context);

		timeout = sleep_time();
		if (timeout >= 0)
			flags |= WL_TIMEOUT;
		if (server_stops || InterruptPending || ConfigReloadPending || catchupInterruptPending)
			continue;
		(void) WaitLatch(MyLatch, flags, timeout, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}
