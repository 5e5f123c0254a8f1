/*-------------------------------------------------------------------------
 *
 * keeper.c
 *		The worker's job for the logs of its database: look after each, when it
 *		is due or calls.
 *
 * A log asks for it by bits in its shared memory (nb_log_notice), which the
 * worker clears before it looks; while it goes by a timer of its own it leaves
 * the bit set, so that publishers need not wake it.  An idle log costs nothing.
 *
 * Each log has transactions of its own: one to persist and seal (persist.c), and
 * a less pressing one to count and retain (retain.c).  An error costs only this
 * log its turn; the worker tries again later and later, and what it did not get
 * to persist stays in the ring.  After a start the worker opens the logs that
 * retain by age, which are due even if nobody uses them.  At a shutdown it
 * persists the rest, and saves how far the logs got.
 *
 * Locks: RowExclusiveLock on the log's tables, only if free (at a shutdown:
 * within seconds), for nobody may have to wait for the worker while the worker
 * waits for him.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/redex_internal.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lwlock.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define SEAL_MS          200  /* a hole that waits so long without a claim is sealed */
#define SHUTDOWN_WAIT_MS 5000 /* for a lock, at a shutdown */
#define LOCK_RETRY_MS    20
#define MIN_RETRY_MS     100
#define MAX_RETRY_MS     10000

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

		if (log->options.durability == LOG_ASYNC && log_has_unpersisted(log, &urgent))
		{
			int64 due;

			if (shared->dirty_since == 0 || shared->dirty_since > now)
				shared->dirty_since = now;
			due = shared->dirty_since + (int64) log->options.flush_interval * 1000;
			if (urgent || due <= now)
			{
				more = !log_persist(log);
				shared->dirty_since = 0;
				next = log->options.flush_interval;
			}
			else
				next = (due - now) / 1000 + 1;
		}
		if (bits != 0 && log_seal(log))
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
					log_count_rows(log);
				if (!shared->counted)
					next = soonest(next, LOCK_RETRY_MS);
				else if (log_has_retention(&log->options) && log->ntables > 1)
					next = soonest(next, log_retain(log, bits != 0));
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
		HOLD_INTERRUPTS();
		(void) nb_worker_give_up(context);
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

/*
 * The entries of this database, good until the next call.  The registry, where those of
 * all databases are, is read when it has changed: that is seldom, and we come often.
 */
static RegistryEntry *
own_entries(int *count)
{
	static RegistryEntry *own = NULL;
	static int nown = 0;
	static uint64 seen = 0;
	uint64 version = registry_version();

	if (version != seen)
	{
		int all;
		RegistryEntry *list = registry_list(&all);

		if (own)
			pfree(own);
		own = NULL;
		nown = 0;
		own = MemoryContextAlloc(TopMemoryContext, sizeof(RegistryEntry) * Max(all, 1));
		for (int i = 0; i < all; i++)
			if (list[i].key.database == MyDatabaseId)
				own[nown++] = list[i];
		pfree(list);
		seen = version;
	}
	*count = nown;
	return own;
}

static long
keeper_run(void)
{
	static uint64 seen = 0;
	uint64 changes = nb_log_changes();
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

void
nb_keeper_init(void)
{
	static const NbWorkerJob job = {"logs", keeper_run, keeper_busy, keeper_shutdown};

	nb_worker_add_job(&job);
}
