/*-------------------------------------------------------------------------
 *
 * worker.c
 *		The worker of one database, and the shared memory of all workers.
 *
 * A worker runs the jobs that the other parts have added in _PG_init(). It
 * sleeps on its latch without a timeout unless a job wants a time; between
 * two rounds it has no transaction, no snapshot and no lock, so it holds up
 * nobody's vacuum, DDL or DROP DATABASE.
 *
 * How it ends:
 *
 * - The extension is dropped, or was never there: a session that drops it
 *	 asks the worker to look (NB_REQUEST_LOOK) when it has committed.
 *
 * - Somebody needs the database for himself (lifecycle.c): the worker runs
 *	 each job once more, with nb_worker_draining set, and leaves. The launcher
 *	 starts it anew when the hold is gone.
 *
 * - The server shuts down. The postmaster sends SIGTERM to sessions and
 *	 workers at the same moment, but sessions may still commit. So the worker
 *	 goes on until no job is busy(), then calls each job's shutdown().
 *
 * - pg_terminate_backend() sends the same signal, and then the worker must
 *	 leave at once and must not wait for publishers that stay. The postmaster
 *	 tells the two cases apart for us: before it signals anyone it writes
 *	 "stopping" into postmaster.pid, where pg_ctl looks for it too. Reading it
 *	 in the signal handler leaves no window. A record in shared memory made by
 *	 the launcher on its own SIGTERM would: nothing says who is signalled
 *	 first, and the launcher may just be dead.
 *
 *	 A worker that drains ignores further SIGTERMs; the postmaster sends each
 *	 of its own twice, to the process and to its process group. What can still
 *	 keep it is a lock that a prepared transaction holds, and then the server
 *	 would never stop. So the launcher, which outlives the workers, sends
 *	 SIGINT to one that has been stuck for long. That cancels the job, which is
 *	 then left out, and the others get their turn.
 *
 * - An error, in a job or here. It goes to the server log and into the slot,
 *	 and the launcher starts a new worker after a back-off.
 *
 * The process attaches to its slot before it connects, and so before it is
 * in the array of backends. Exit callbacks run in reverse, so the one that
 * marks the slot EXITED runs after the process has left that array, which is
 * what DROP DATABASE waits for; and before it gives up its PGPROC, without
 * which it could not take the lock.
 *
 *-------------------------------------------------------------------------
 */
#include "core/worker_internal.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/xact.h"
#include "commands/extension.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/pidfile.h"
#include "utils/timestamp.h"

#define MAX_JOBS 16

/* Between two looks at whether publishers are gone. */
#define DRAIN_POLL_MS 10

#define MAX_SLEEP_MS (3600 * 1000)

NbWorkerShared *nb_workers = NULL;
bool nb_worker_draining = false;

static const NbWorkerJob *jobs[MAX_JOBS];
static int njobs = 0;

/* Of this process, if it is a worker. */
static NbWorkerSlot *my_slot = NULL;
static uint32 my_generation;
static NbResult my_result = NB_RESULT_ERROR;
static volatile sig_atomic_t at_work = false;
static volatile sig_atomic_t server_stops = false;

static emit_log_hook_type prev_emit_log_hook = NULL;
static char captured_error[NB_ERROR_SIZE];

/* ---------------------------------------------------------------------
 * Shared memory
 * --------------------------------------------------------------------- */

static Size
holds_offset(void)
{
	return MAXALIGN(offsetof(NbWorkerShared, slots) +
					(nb_max_databases + NB_SPARE_SLOTS) * sizeof(NbWorkerSlot));
}

Size
nb_worker_shmem_size(void)
{
	return add_size(holds_offset(), mul_size(MaxBackends, sizeof(NbHold)));
}

void
nb_worker_shmem_init(void)
{
	bool found;

	nb_workers = ShmemInitStruct("netbus workers", nb_worker_shmem_size(), &found);
	if (found)
		return;

	memset(nb_workers, 0, nb_worker_shmem_size());
	nb_workers->lock = &GetNamedLWLockTranche("netbus_worker")->lock;
	ConditionVariableInit(&nb_workers->left);
	pg_atomic_init_u32(&nb_workers->launcher_procno, NB_NO_PROC);
	nb_workers->max_holds = MaxBackends;
	nb_workers->holds = (NbHold *) ((char *) nb_workers + holds_offset());
	nb_workers->nslots = nb_max_databases + NB_SPARE_SLOTS;
	for (int i = 0; i < nb_workers->nslots; i++)
	{
		pg_atomic_init_u32(&nb_workers->slots[i].database, InvalidOid);
		pg_atomic_init_u32(&nb_workers->slots[i].procno, NB_NO_PROC);
		pg_atomic_init_u32(&nb_workers->slots[i].requests, 0);
	}
}

NbWorkerSlot *
nb_worker_find(Oid database)
{
	Assert(LWLockHeldByMe(nb_workers->lock));

	for (int i = 0; i < nb_workers->nslots; i++)
		if (pg_atomic_read_u32(&nb_workers->slots[i].database) == database)
			return &nb_workers->slots[i];
	return NULL;
}

bool
nb_worker_held(Oid database)
{
	Assert(LWLockHeldByMe(nb_workers->lock));

	for (int i = 0; i < nb_workers->nholds; i++)
		if (nb_workers->holds[i].database == database)
			return true;
	return false;
}

int
nb_worker_count_known(void)
{
	int n = 0;

	Assert(LWLockHeldByMe(nb_workers->lock));

	for (int i = 0; i < nb_workers->nslots; i++)
		if (nb_workers->slots[i].known)
			n++;
	return n;
}

/*
 * Called after each commit that has work for the worker, so no lock and, as a
 * rule, no search and no write.
 *
 * The request bit, not the latch, is what the worker goes by: a job that waits
 * for a lock resets the latch, which may have been set for another job. The
 * worker takes the bits with a full barrier and then runs all jobs. So if the
 * bit is still set after our barrier, the worker has yet to look, and will see
 * what our caller has done.
 *
 * A slot that changes hands meanwhile costs some process a spurious wake-up.
 * A worker that is starting may be missed; it does its first round after it
 * has shown its procno, and the barriers here and there make sure that it then
 * sees what our caller has done.
 */
void
nb_worker_wake(Oid database)
{
	static int last = 0;
	NbWorkerSlot *slot;
	uint32 procno;

	if (nb_workers == NULL)
		return;

	pg_memory_barrier();
	if (pg_atomic_read_u32(&nb_workers->slots[last].database) != database)
	{
		int i;

		for (i = 0; i < nb_workers->nslots; i++)
			if (pg_atomic_read_u32(&nb_workers->slots[i].database) == database)
				break;
		if (i == nb_workers->nslots)
			return;
		last = i;
	}

	slot = &nb_workers->slots[last];
	if (pg_atomic_read_u32(&slot->requests) & NB_REQUEST_RUN)
		return;

	procno = pg_atomic_read_u32(&slot->procno);
	if (procno == NB_NO_PROC)
		return;
	pg_atomic_fetch_or_u32(&slot->requests, NB_REQUEST_RUN);
	SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

void
nb_worker_add_job(const NbWorkerJob *job)
{
	Assert(process_shared_preload_libraries_in_progress);

	if (njobs == MAX_JOBS)
		elog(ERROR, "too many netbus worker jobs");
	jobs[njobs++] = job;
}

void
nb_worker_init(void)
{
	nb_launcher_register();
	nb_lifecycle_init();
}

/* ---------------------------------------------------------------------
 * What the launcher needs too
 * --------------------------------------------------------------------- */

/* Keep the text of errors as they go to the log, including that of a FATAL. */
static void
capture_error(ErrorData *edata)
{
	if (edata->elevel >= ERROR && edata->message != NULL)
	{
		int len = pg_mbcliplen(edata->message, strlen(edata->message), NB_ERROR_SIZE - 1);

		memcpy(captured_error, edata->message, len);
		captured_error[len] = '\0';
	}
	if (prev_emit_log_hook)
		prev_emit_log_hook(edata);
}

void
nb_capture_errors(void)
{
	prev_emit_log_hook = emit_log_hook;
	emit_log_hook = capture_error;
}

const char *
nb_captured_error(void)
{
	/* With log_min_messages = panic, for example, we have not seen it. */
	return captured_error[0] != '\0' ? captured_error : "unknown error";
}

/*
 * Has the postmaster begun a fast or smart shutdown? Callable in a signal
 * handler. A file that cannot be read counts as yes: draining once too often
 * is better than once too rarely.
 */
bool
nb_server_is_stopping(void)
{
	char buf[BLCKSZ];
	char *line = buf;
	ssize_t len;
	int fd;

	fd = open("postmaster.pid", O_RDONLY | PG_BINARY, 0);
	if (fd < 0)
		return true;
	len = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (len <= 0)
		return true;
	buf[len] = '\0';

	for (int i = 1; i < LOCK_FILE_LINE_PM_STATUS; i++)
	{
		line = strchr(line, '\n');
		if (line == NULL)
			return true;
		line++;
	}
	return strncmp(line, PM_STATUS_STOPPING, strlen(PM_STATUS_STOPPING)) == 0;
}

/* ---------------------------------------------------------------------
 * The worker process
 * --------------------------------------------------------------------- */

static void
worker_sigterm(SIGNAL_ARGS)
{
	int save_errno = errno;

	if (at_work && nb_server_is_stopping())
	{
		server_stops = true;
		SetLatch(MyLatch);
	}
	else
		die(postgres_signal_arg);

	errno = save_errno;
}

/* on_shmem_exit callback: after the process has left the array of backends. */
static void
worker_detach(int code, Datum arg)
{
	LWLockAcquire(nb_workers->lock, LW_EXCLUSIVE);
	if (my_slot->generation == my_generation)
	{
		my_slot->pid = 0;
		pg_atomic_write_u32(&my_slot->procno, NB_NO_PROC);
		my_slot->state = NB_SLOT_EXITED;
		my_slot->result = code == 0 ? my_result : NB_RESULT_ERROR;
		if (code != 0)
		{
			strlcpy(my_slot->last_error, nb_captured_error(), NB_ERROR_SIZE);
			my_slot->last_error_at = GetCurrentTimestamp();
		}
	}
	LWLockRelease(nb_workers->lock);

	ConditionVariableBroadcast(&nb_workers->left);
	nb_launcher_wake();
}

pg_noreturn static void
worker_leave(NbResult result)
{
	my_result = result;
	proc_exit(result == NB_RESULT_ERROR ? 1 : 0);
}

static Oid
worker_attach(int slotno)
{
	Oid database;
	bool expected;

	my_slot = &nb_workers->slots[slotno];
	memcpy(&my_generation, MyBgworkerEntry->bgw_extra, sizeof(my_generation));

	LWLockAcquire(nb_workers->lock, LW_EXCLUSIVE);
	expected = my_slot->generation == my_generation && my_slot->state == NB_SLOT_STARTING;
	database = pg_atomic_read_u32(&my_slot->database);
	if (expected)
	{
		my_slot->pid = MyProcPid;
		my_slot->started = GetCurrentTimestamp();
		pg_atomic_write_u32(&my_slot->procno, NB_MY_PROCNO);
		on_shmem_exit(worker_detach, (Datum) 0);
	}
	LWLockRelease(nb_workers->lock);

	/* The launcher has given us up, or is another one by now. */
	if (!expected)
		proc_exit(0);

	pg_memory_barrier(); /* for nb_worker_wake() */
	return database;
}

/*
 * Nothing that a user sets for a database or for all may change what a job
 * does or keep it waiting. Local flush is what a job's durability means; to
 * wait for a standby here would only stall everybody behind the worker.
 */
static void
worker_settings(void)
{
	static const char *const settings[][2] = {
		{"role", "none"},
		{"search_path", "pg_catalog, pg_temp"},
		{"quote_all_identifiers", "off"},
		{"default_tablespace", ""},
		{"synchronous_commit", "local"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"zero_damaged_pages", "off"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("application_name", MyBgworkerEntry->bgw_name, PGC_USERSET, PGC_S_OVERRIDE);
}

void
nb_worker_note_error(const char *message)
{
	int len = pg_mbcliplen(message, strlen(message), NB_ERROR_SIZE - 1);

	LWLockAcquire(nb_workers->lock, LW_EXCLUSIVE);
	memcpy(my_slot->last_error, message, len);
	my_slot->last_error[len] = '\0';
	my_slot->last_error_at = GetCurrentTimestamp();
	LWLockRelease(nb_workers->lock);
}

char *
nb_worker_give_up(MemoryContext context)
{
	ErrorData *error;
	char *message;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	EmitErrorReport();
	AbortOutOfAnyTransaction();
	LWLockReleaseAll();
	FlushErrorState();
	MemoryContextSwitchTo(context);
	nb_worker_note_error(error->message);
	message = error->message;
	error->message = NULL;
	FreeErrorData(error);
	return message;
}

static bool
extension_exists(void)
{
	bool exists;

	StartTransactionCommand();
	exists = OidIsValid(get_extension_oid(NB_EXTENSION, true));
	CommitTransactionCommand();
	return exists;
}

/* The database has the extension: may we serve it? */
static void
worker_confirm(void)
{
	Oid database = pg_atomic_read_u32(&my_slot->database);
	NbResult refusal = NB_RESULT_STOPPED;
	bool run;

	LWLockAcquire(nb_workers->lock, LW_EXCLUSIVE);
	if (nb_worker_held(database))
		refusal = NB_RESULT_ASIDE;
	else if (!my_slot->known && nb_worker_count_known() >= nb_max_databases)
		refusal = NB_RESULT_FULL;
	run = refusal == NB_RESULT_STOPPED;
	if (run)
	{
		my_slot->known = true;
		my_slot->state = NB_SLOT_RUNNING;
	}
	LWLockRelease(nb_workers->lock);

	if (!run)
		worker_leave(refusal);
	nb_launcher_wake(); /* it may look into the next database now */
}

/* What a job is called for. */
typedef enum JobCall
{
	JOB_RUN,
	JOB_BUSY, /* *result: is it? */
	JOB_SHUTDOWN
} JobCall;

/*
 * Call a job; *result is what it returns. An error ends the worker, except when
 * the server is shutting down: then it must not cost the other jobs their last
 * run, and false tells that it happened.
 */
static bool
run_job(const NbWorkerJob *job, JobCall call, MemoryContext context, long *result)
{
	volatile bool ok = true;

	pgstat_report_activity(STATE_RUNNING, job->name);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		if (call == JOB_RUN)
			*result = job->run();
		else if (call == JOB_BUSY)
			*result = job->busy && job->busy();
		else if (job->shutdown)
			job->shutdown();
		Assert(!IsTransactionState());
	}
	PG_CATCH();
	{
		if (!server_stops)
			PG_RE_THROW();

		HOLD_INTERRUPTS();
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		LWLockReleaseAll();
		FlushErrorState();
		RESUME_INTERRUPTS();
		*result = 0;
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(context);
	return ok;
}

pg_noreturn static void
worker_drain_and_leave(MemoryContext context)
{
	bool failed[MAX_JOBS] = {false};
	bool any_failed = false;
	bool busy;
	long result;

	nb_worker_draining = true;
	do
	{
		ResetLatch(MyLatch);
		QueryCancelPending = false; /* the launcher's, and too late for the job it was meant for */
		CHECK_FOR_INTERRUPTS();

		/* First look, then run: nothing that was published may be left over. */
		busy = false;
		for (int i = 0; i < njobs; i++)
			if (!failed[i])
			{
				/* Whether it is busy may be unknown: that costs it nothing else. */
				(void) run_job(jobs[i], JOB_BUSY, context, &result);
				busy |= result != 0;
			}
		for (int i = 0; i < njobs; i++)
			if (!failed[i])
				failed[i] = !run_job(jobs[i], JOB_RUN, context, &result);

		/* Ends because the postmaster ends every session. */
		if (busy)
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 DRAIN_POLL_MS, PG_WAIT_EXTENSION);
	} while (busy);

	for (int i = 0; i < njobs; i++)
	{
		if (!failed[i])
			failed[i] = !run_job(jobs[i], JOB_SHUTDOWN, context, &result);
		any_failed |= failed[i];
	}
	pgstat_report_stat(true);
	worker_leave(any_failed ? NB_RESULT_ERROR : NB_RESULT_STOPPED);
}

pg_noreturn static void
worker_loop(void)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "netbus worker job", ALLOCSET_DEFAULT_SIZES);
	int64 due[MAX_JOBS] = {0}; /* of nb_monotonic_ms(); all at once in the first round */
	int64 stats_due = PG_INT64_MAX;

	for (;;)
	{
		int64 now;
		int64 next = PG_INT64_MAX;
		int flags = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
		uint32 requests;
		long stats_wait;
		long wait;
		bool gone;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (catchupInterruptPending)
			ProcessCatchupInterrupt();

		if (server_stops)
			worker_drain_and_leave(context);

		requests = pg_atomic_exchange_u32(&my_slot->requests, 0);
		gone = (requests & NB_REQUEST_LOOK) && !extension_exists();
		if (gone || (requests & NB_REQUEST_STEP_ASIDE))
		{
			/* The last round; with the extension gone it gives its memory back. */
			nb_worker_draining = true;
			for (int i = 0; i < njobs; i++)
				(void) run_job(jobs[i], JOB_RUN, context, &wait);
			pgstat_report_stat(true);
			worker_leave(gone ? NB_RESULT_ABSENT : NB_RESULT_ASIDE);
		}

		debug_point("worker_run");

		now = nb_monotonic_ms();
		for (int i = 0; i < njobs; i++)
		{
			if ((requests & NB_REQUEST_RUN) || due[i] <= now)
			{
				(void) run_job(jobs[i], JOB_RUN, context, &wait);
				due[i] = wait < 0 ? PG_INT64_MAX : nb_monotonic_ms() + wait;
			}
			next = Min(next, due[i]);
		}
		pgstat_report_activity(STATE_IDLE, NULL);

		/* As a session does: at most once a second, and when idle after a while by force. */
		now = nb_monotonic_ms();
		stats_wait = pgstat_report_stat(stats_due <= now);
		if (stats_wait <= 0)
			stats_due = PG_INT64_MAX;
		else if (stats_due == PG_INT64_MAX)
			stats_due = now + stats_wait;
		next = Min(next, stats_due);
		if (next != PG_INT64_MAX)
			flags |= WL_TIMEOUT;

		/* Whatever waited in a job may have reset the latch, so ask the flags, too. */
		if (pg_atomic_read_u32(&my_slot->requests) != 0 || server_stops || InterruptPending ||
			ConfigReloadPending || catchupInterruptPending)
			continue;
		(void) WaitLatch(MyLatch, flags, Max(0, Min(next - now, MAX_SLEEP_MS)), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

void
netbus_worker_main(Datum arg)
{
	Oid database;

	pqsignal(SIGTERM, worker_sigterm);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	nb_capture_errors();

	database = worker_attach(DatumGetInt32(arg));
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	worker_settings();

	if (!extension_exists())
		worker_leave(NB_RESULT_ABSENT);
	worker_confirm();

	at_work = true;
	worker_loop();
}
