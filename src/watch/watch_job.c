/*-------------------------------------------------------------------------
 *
 * watch_job.c
 *		The worker's job for watches: which there are, and what runs when.
 *
 * The job that folds comes first in each round and shows every change to matcher.c; this
 * one then reads the rows of watches if some have changed, reads watched logs, and notifies.
 *
 * No change must pass that a watch should have seen.  A watch sees what is committed after
 * it; so when the fold has an event in its hands and the counter of changes to watches
 * says that there is something to read, it stops there until that is done
 * (watch_must_load()).  That the event was committed before the watch, in fact, is
 * told by its seq (WatchRow.starts).  A row that cannot be served, as for want of memory, is
 * tried again.
 *
 * What was missed all the same is told: a watch that was there before the server started, once
 * its model is loaded; one whose former worker has died with something to tell; all
 * of a model of which a change was made and not shown; those that were made while
 * rows could not be read, or that could not be served at first.
 *
 * All of it is private to the worker, but for WatchShared.  Locks: AccessShareLock on the
 * table of watches, if it is free.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "watch/watch.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "bus/filter.h"

#define LOCKED_RETRY_MS   20
#define LOCKED_MAX_US     1000000 /* for so long the fold waits for rows that are locked */
#define FAILED_RETRY_MS   1000
#define UNSERVED_RETRY_MS 5000
#define LOADING_POLL_MS   50
#define IDLE_CHECK_MS     10000 /* between two looks for deltas that nobody pulls */

static HTAB *watches = NULL;        /* Watch by id */
static HTAB *logs = NULL;           /* WatchedLog by relid */
static WatchedLog *last_log = NULL; /* that was asked for; NULL: none, or it is gone */
static int nwaiting = 0;            /* watches that wait for their models */

/* A row that could not be served, and so has missed something. */
typedef struct Unserved
{
	int64 id;     /* hash key */
	uint64 tried; /* the reading of rows at which that was tried last */
} Unserved;

static HTAB *unserved = NULL;
static uint64 readings = 0; /* of rows */

static uint64 loaded = 0;      /* watch_changes() when rows were read, or given up */
static bool read_once = false; /* this worker has read them */
static bool missed = false;    /* rows could not be read, and events have been folded since */
static int64 locked_since = 0;
static int64 reload_at = 0; /* 0: when something changes */

/* ---------------------------------------------------------------- helpers */

static long
earlier(long a, long b)
{
	return a < 0 ? b : b < 0 ? a : Min(a, b);
}

char *
watch_guarded(void (*part)(void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	char *volatile message = NULL;

	PG_TRY();
	{
		part(arg);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		message = nb_worker_give_up(context);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return message;
}

void
watch_note_error(Watch *watch, const char *message)
{
	WatchShared *shared = watch_shared_find(watch->id, true);
	int len = pg_mbcliplen(message, strlen(message), WATCH_MAX_ERROR - 1);

	if (!shared)
		return;
	pg_atomic_fetch_add_u64(&shared->errors, 1);
	memcpy(shared->last_error, message, len);
	shared->last_error[len] = '\0';
	shared->error_at = nb_now_us();
	watch_shared_release(shared);
}

WatchedLog *
watched_log(Oid relid)
{
	if (last_log && last_log->relid == relid)
		return last_log;
	return last_log = logs ? hash_search(logs, &relid, HASH_FIND, NULL) : NULL;
}

void
watch_lose(Watch *watch, uint64 seq)
{
	if (seq > 0 && DsaPointerIsValid(dsa_pointer_atomic_read(&watch->shared->deltas)))
	{
		WatchShared *shared = watch_shared_find(watch->id, true);

		if (DsaPointerIsValid(dsa_pointer_atomic_read(&shared->deltas)))
			delta_forget(dsa_get_address(watch_area(), dsa_pointer_atomic_read(&shared->deltas)),
						 seq);
		watch_shared_release(shared);
		(void) nb_waiters_wake(watch_waiters(watch->id));
	}
	watch->lost = true;
	if (watch->row.channel[0] == '\0')
		return;
	pg_atomic_write_u32(&watch->shared->pending, 1);
	/* Of a log, only when it is known what comes later. */
	if (!watch->telling || watch_log_begun(watch))
		notify_queue(watch, nb_now_us());
}

bool
watch_model_lost(ModelSlot *slot)
{
	uint64 applied = slot->applied_seq;

	if (likely(applied <= pg_atomic_read_u64(&slot->observed_seq)))
		return false;
	pg_atomic_write_u64(&slot->observed_seq, applied);
	return true;
}

void
watch_lose_model(WatchedLog *log, ModelSlot *slot)
{
	for (int i = 0; i < log->nwatches; i++)
		if (log->watches[i]->row.kind != WATCH_LOG && !log->watches[i]->waits)
			watch_lose(log->watches[i],
					   Max(slot->applied_seq, pg_atomic_read_u64(&slot->observed_seq)));
}

/* ------------------------------------------------------- adding, removing */

static void
make_tables(void)
{
	HASHCTL ctl = {.keysize = sizeof(int64), .entrysize = sizeof(Watch), .hcxt = TopMemoryContext};

	if (watches)
		return;
	watches = hash_create("netbus watches", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(WatchedLog);
	logs = hash_create("netbus watched logs", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(Unserved);
	unserved =
		hash_create("netbus unserved watches", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
join_log(Watch *watch)
{
	bool found;
	WatchedLog *log = hash_search(logs, &watch->row.log, HASH_ENTER, &found);

	if (!found)
		memset((char *) log + sizeof(Oid), 0, sizeof(WatchedLog) - sizeof(Oid));
	watch->log = log;
	if (log->nwatches == log->room)
	{
		int room = Max(4, log->room * 2);

		log->watches = log->watches ? repalloc_huge(log->watches, room * sizeof(Watch *))
									: MemoryContextAlloc(TopMemoryContext, room * sizeof(Watch *));
		log->room = room;
	}
	watch->place = log->nwatches;
	log->watches[log->nwatches++] = watch;
}

static void
leave_log(Watch *watch)
{
	WatchedLog *log = watch->log;

	log->watches[watch->place] = log->watches[--log->nwatches];
	log->watches[watch->place]->place = watch->place;
	if (log->nwatches > 0)
		return;
	watch_log_free(log);
	pfree(log->watches);
	if (log->general)
		pfree(log->general);
	last_log = NULL;
	hash_search(logs, &log->relid, HASH_REMOVE, NULL);
}

/* Forget a watch, also one that has been made by halves. */
static void
remove_watch(Watch *watch)
{
	notify_forget(watch);
	window_clear(&watch->window, 0, watch_resize);
	if (watch->row.kind == WATCH_LOG)
		watch_log_remove(watch);
	else
		matcher_remove(watch);
	if (watch->waits)
		nwaiting--;
	if (watch->log)
		leave_log(watch);
	if (watch->context)
		MemoryContextDelete(watch->context);
	hash_search(watches, &watch->id, HASH_REMOVE, NULL);
}

static void
copy_row(Watch *watch, const WatchRow *row)
{
	watch->row = *row;
	watch->row.filter = NULL;
	if (row->filter)
	{
		watch->row.filter = palloc(VARSIZE(row->filter));
		memcpy(watch->row.filter, row->filter, VARSIZE(row->filter));
	}
	watch->row.starts = palloc(sizeof(uint64) * row->nstarts);
	memcpy(watch->row.starts, row->starts, sizeof(uint64) * row->nstarts);
}

/* Compile the filter and let the watch see what comes. */
static void
begin_watch(Watch *watch)
{
	MemoryContext old = MemoryContextSwitchTo(watch->context);
	const WatchRow *row = &watch->row;
	bool existed;
	bool active;

	if (row->kind == WATCH_LOG)
		watch->event_filter = row->filter ? filter_compile(row->filter) : NULL;
	else
	{
		watch->filter = palloc0(sizeof(RecordFilter));
		watch_args_decode(row->filter, model_kinds[row->kind], watch->filter);
	}
	watch->shared = watch_shared_make(row, &existed);
	active = existed && pg_atomic_read_u32(&watch->shared->active);
	join_log(watch);
	if (row->kind == WATCH_LOG)
		watch_log_add(watch, active);
	else
	{
		watch->after_seq = row->starts[0];
		watch->waits = !active && row->created < watch_life_began();
		nwaiting += watch->waits;
		matcher_add(watch);
	}
	if (!watch->waits)
		pg_atomic_write_u32(&watch->shared->active, 1);
	MemoryContextSwitchTo(old);
}

/* A row cannot be served.  That is said once. */
static void
note_unserved(int64 id, const char *message)
{
	bool found;
	Unserved *entry = hash_search(unserved, &id, HASH_ENTER, &found);

	entry->tried = readings;
	if (found)
		return;
	ereport(LOG, (errmsg("watch %lld is not served: %s", (long long) id, message)));
	nb_worker_note_error(message);
}

/* Forget those that are not there any more. */
static void
forget_unserved(void)
{
	HASH_SEQ_STATUS scan;
	Unserved *entry;

	hash_seq_init(&scan, unserved);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (entry->tried != readings)
		{
			watch_shared_remove(entry->id);
			hash_search(unserved, &entry->id, HASH_REMOVE, NULL);
		}
}

/* A row that is new to us: one that makes no sense costs nobody else anything. */
static void
add_watch(const WatchRow *row)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Watch *watch;
	bool late;

	make_tables();
	watch = hash_search(watches, &row->id, HASH_ENTER, NULL);
	memset((char *) watch + sizeof(int64), 0, sizeof(Watch) - sizeof(int64));
	watch->row.kind = row->kind;
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		watch->context =
			AllocSetContextCreate(TopMemoryContext, "netbus watch", ALLOCSET_SMALL_SIZES);
		MemoryContextSwitchTo(watch->context);
		copy_row(watch, row);
		begin_watch(watch);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		FlushErrorState();
		remove_watch(watch);
		note_unserved(row->id, error->message);
		return;
	}
	PG_END_TRY();

	watch->seen = true;
	late = hash_search(unserved, &row->id, HASH_REMOVE, NULL) != NULL;
	if (watch->waits)
		return;
	if (missed || late)
	{
		ModelSlot *slot = model_find_slot(watch->row.log);

		watch_lose(watch, slot ? pg_atomic_read_u64(&slot->observed_seq) : 0);
	}
	else if (pg_atomic_read_u32(&watch->shared->pending))
		watch_lose(watch, 0); /* deltas are where they were */
}

/* ------------------------------------------------------------------- rows */

static bool
row_known(int64 id, TransactionId xmin, ItemPointer tid)
{
	Watch *watch = watches ? hash_search(watches, &id, HASH_FIND, NULL) : NULL;

	if (!watch || watch->row.xmin != xmin || !ItemPointerEquals(&watch->row.tid, tid))
		return false;
	watch->seen = true;
	return true;
}

/* Only these change but for debounce and payload, unless somebody meddles with the rows. */
static bool
same_watch(const WatchRow *a, const WatchRow *b)
{
	return a->owner == b->owner && a->log == b->log && a->kind == b->kind &&
		   a->created == b->created && strcmp(a->channel, b->channel) == 0 &&
		   !a->filter == !b->filter &&
		   (!a->filter || (VARSIZE(a->filter) == VARSIZE(b->filter) &&
						   memcmp(a->filter, b->filter, VARSIZE(a->filter)) == 0));
}

static void
visit_row(const WatchRow *row, void *arg)
{
	Watch *watch = watches ? hash_search(watches, &row->id, HASH_FIND, NULL) : NULL;

	if (watch && !same_watch(&watch->row, row))
	{
		watch_shared_remove(watch->id);
		remove_watch(watch);
		watch = NULL;
	}
	if (!watch)
	{
		add_watch(row);
		return;
	}
	watch->row.debounce = row->debounce;
	watch->row.ids = row->ids;
	watch->row.xmin = row->xmin;
	watch->row.tid = row->tid;
	watch->seen = true;
	/* A window that is open ends by the new debounce, if that is sooner. */
	if (watch->queued)
		notify_queue(watch, nb_now_us() + row->debounce);
}

/* Forget the watches whose rows are gone. */
static void
remove_unseen(void)
{
	HASH_SEQ_STATUS scan;
	Watch *watch;

	if (!watches)
		return;
	hash_seq_init(&scan, watches);
	while ((watch = hash_seq_search(&scan)) != NULL)
		if (!watch->seen)
		{
			watch_shared_remove(watch->id);
			remove_watch(watch);
		}
	forget_unserved();
}

static bool
is_watch(int64 id)
{
	return watches && hash_search(watches, &id, HASH_FIND, NULL);
}

/* Read the rows.  *arg: false if the table is locked. */
static void
read_rows(void *arg)
{
	HASH_SEQ_STATUS scan;
	Watch *watch;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	debug_point("watch_load");
	if (watches)
	{
		hash_seq_init(&scan, watches);
		while ((watch = hash_seq_search(&scan)) != NULL)
			watch->seen = false;
	}
	watch_note_promotion();
	readings++;
	*(bool *) arg = watch_catalog_scan(row_known, visit_row, NULL);
	if (*(bool *) arg)
		remove_unseen();
	if (*(bool *) arg && !read_once)
		watch_shared_reap(is_watch);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * Models whose changes were made and not shown to anybody, and those that nobody has
 * told the worker of.  When to come again.
 */
static long
look_at_models(bool all)
{
	HASH_SEQ_STATUS scan;
	WatchedLog *log;
	long next = -1;

	hash_seq_init(&scan, logs);
	while ((log = hash_seq_search(&scan)) != NULL)
	{
		ModelSlot *slot = log->nmodel > 0 ? model_find_slot(log->relid) : NULL;

		if (slot && watch_model_lost(slot))
			watch_lose_model(log, slot);
		if (slot && log->blind_until != 0 && !matcher_sees(log, slot))
			next = earlier(next, (log->blind_until - nb_now_us()) / 1000 + 1);
		if (!slot && all && log->nmodel > 0)
			model_note_change(); /* as when a dump has been restored */
	}
	return next;
}

static void
give_up_loading(uint64 changes)
{
	loaded = changes;
	missed = true;
	reload_at = nb_now_us() + FAILED_RETRY_MS * 1000;
}

/* Read rows, if they may have changed.  In how many milliseconds to try again; -1: done. */
static long
load(void)
{
	uint64 changes = watch_changes();
	bool free = false;

	if (changes == loaded && (reload_at == 0 || nb_now_us() < reload_at))
		return reload_at == 0 ? -1 : Max(1, (reload_at - nb_now_us()) / 1000);
	if (watch_guarded(read_rows, &free))
	{
		give_up_loading(changes);
		return FAILED_RETRY_MS;
	}
	if (!free)
	{
		if (locked_since == 0)
			locked_since = nb_now_us();
		if (reload_at != 0 || nb_now_us() - locked_since > LOCKED_MAX_US)
			give_up_loading(changes);
		return LOCKED_RETRY_MS;
	}
	loaded = changes;
	read_once = true;
	missed = false;
	locked_since = 0;
	reload_at = 0;
	if (!unserved || hash_get_num_entries(unserved) == 0)
		return -1;
	reload_at = nb_now_us() + UNSERVED_RETRY_MS * 1000;
	return UNSERVED_RETRY_MS;
}

/* Also ModelObserver.hold: called with an event in hand that is committed. */
bool
watch_must_load(void)
{
	pg_read_barrier();
	if (likely(watch_changes() == loaded))
		return false;
	nb_worker_wake(MyDatabaseId); /* all jobs */
	return true;
}

/* ---------------------------------------------------------------- the job */

/* Let those begin that have waited for their models. */
static void
begin_waiting(void)
{
	HASH_SEQ_STATUS scan;
	Watch *watch;

	hash_seq_init(&scan, watches);
	while ((watch = hash_seq_search(&scan)) != NULL)
	{
		ModelSlot *slot = watch->waits ? model_find_slot(watch->row.log) : NULL;

		if (!slot || pg_atomic_read_u32(&slot->phase) != MODEL_READY)
			continue;
		watch->waits = false;
		nwaiting--;
		watch->after_seq = pg_atomic_read_u64(&slot->folded_seq);
		watch_lose(watch, watch->after_seq);
		pg_atomic_write_u32(&watch->shared->active, 1);
	}
}

/* Give back the memory of deltas that nobody pulls any more.  In how many milliseconds to look again; -1: there are none. */
static long
drop_idle_deltas(void)
{
	static int64 look_at = 0;
	int64 now = nb_now_us();
	HASH_SEQ_STATUS scan;
	Watch *watch;
	bool any = false;

	if (!watches)
		return -1;
	if (look_at > now)
		return (look_at - now) / 1000 + 1;
	hash_seq_init(&scan, watches);
	while ((watch = hash_seq_search(&scan)) != NULL)
	{
		WatchShared *shared = watch->shared;
		int64 used;

		if (!DsaPointerIsValid(dsa_pointer_atomic_read(&shared->deltas)))
			continue;
		any = true;
		used =
			Max(pg_atomic_read_u64(&shared->pulled_at), pg_atomic_read_u64(&shared->wanted_until));
		if (used + (int64) watch_idle_timeout * USECS_PER_SEC > now)
			continue;
		shared = watch_shared_find(watch->id, true);
		watch_shared_drop_deltas(shared);
		watch_shared_release(shared);
	}
	look_at = now + IDLE_CHECK_MS * 1000;
	return any ? IDLE_CHECK_MS : -1;
}

/* Read the logs that are watched for events.  When to come again. */
static long
read_logs(void)
{
	WatchedLog **reading = palloc(sizeof(WatchedLog *) * Max(1, hash_get_num_entries(logs)));
	HASH_SEQ_STATUS scan;
	WatchedLog *log;
	long next = -1;
	int n = 0;

	/* No transaction begins or ends within a scan. */
	hash_seq_init(&scan, logs);
	while ((log = hash_seq_search(&scan)) != NULL)
		if (log->reading)
			reading[n++] = log;
	for (int i = 0; i < n; i++)
		next = earlier(next, watch_log_run(reading[i]));
	pfree(reading);
	return next;
}

static long
watch_run(void)
{
	MemoryContext context = CurrentMemoryContext;
	uint64 changes = loaded;
	long next = load();

	if (!read_once || !watches)
		return next;
	if (nwaiting > 0)
	{
		begin_waiting();
		if (nwaiting > 0)
			next = earlier(next, LOADING_POLL_MS);
	}
	next = earlier(next, look_at_models(changes != loaded));
	next = earlier(next, read_logs());
	next = earlier(next, notify_run(nb_worker_draining));
	next = earlier(next, drop_idle_deltas());
	MemoryContextSwitchTo(context);
	return nb_worker_draining ? -1 : next;
}

void
watch_job_init(void)
{
	static const NbWorkerJob job = {"watches", watch_run, NULL, NULL};
	static const ModelObserver observer = {watch_must_load, matcher_before, matcher_after};

	nb_worker_add_job(&job);
	model_observer = &observer;
}
