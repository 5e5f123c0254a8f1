/*-------------------------------------------------------------------------
 *
 * consumer_job.c
 *		What the worker of a database does for its consumers: what holders ask for,
 *		rotation of the tables, reaping.
 *
 * A holder's request is taken under the lock of the slot, which from then on is
 * busy: nobody else changes it until the worker is done, whether or not the holder
 * is still there.  Each request has a transaction of its own, which is flushed, and
 * whose commit callback updates the slot, so that the two agree whatever fails.
 *
 * An event is set aside with the rights of the consumer's owner: it is published to
 * the dead-letter log and passed in one transaction.
 *
 * A request that fails is answered so; the holder then delivers the event once more.
 * Nothing is tried again by the worker itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/claim.h"
#include "bus/reader.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define REQUEST_LOCK_TIMEOUT "2s"
#define REAP_RETRY_MS        1000

/* The request at hand; what its commit does to the slot. */
typedef struct Task
{
	ConsumerShared *shared;
	ConsumerShard *slot;
	int shard;
	uint64 id;
	ConsumerRequest request;
	bool of_retry; /* what is set aside is one */
	bool gone;     /* it is not there any more: nothing to publish */
	bool done;     /* committed */
} Task;

static Task *task = NULL;

static void
answer(ConsumerShared *shared, ConsumerShard *slot, bool done)
{
	int32 holder;

	SpinLockAcquire(&slot->lock);
	holder = slot->holder;
	if (holder < 0)
		slot->request = REQUEST_NONE;
	else
		slot->request_state = done ? REQUEST_DONE : REQUEST_FAILED;
	SpinLockRelease(&slot->lock);
	if (holder >= 0)
		SetLatch(&ProcGlobal->allProcs[holder].procLatch);
	else
		consumer_wake_one(shared); /* it is free only now */
}

/* Under the slot's lock. */
static void
apply_set_aside(ConsumerShard *slot, ConsumerRetry *retries)
{
	uint64 seq = slot->request_seq;

	if (task->of_retry)
	{
		/* Ahead of the position, it stays until that comes there. */
		consumer_find_retry(slot, retries, seq)->due = CONSUMER_NEVER;
		consumer_retries_changed(slot, retries);
	}
	else
	{
		slot->position = slot->stored = seq;
		slot->advanced_at = nb_now_us();
		memset(&slot->failure, 0, sizeof(slot->failure));
		consumer_retries_changed(slot, retries);
	}
	if (task->gone)
		slot->counters.lost++;
	else
		slot->counters.dead_letters++;
}

static ConsumerRetry *task_retries;

static void
job_xact_callback(XactEvent event, void *arg)
{
	ConsumerShard *slot;

	if (!task || event != XACT_EVENT_COMMIT)
		return;
	slot = task->slot;
	SpinLockAcquire(&slot->lock);
	slot->generation++;
	if (task->request == REQUEST_SET_ASIDE)
		apply_set_aside(slot, task_retries);
	else
	{
		slot->unsure = false;
		slot->recorded |= slot->request_failure.attempts > 0;
		for (uint32 i = 0; i < slot->nretries; i++)
		{
			task_retries[i].recorded |= task_retries[i].recording;
			task_retries[i].recording = false;
		}
	}
	SpinLockRelease(&slot->lock);
	task->done = true;
}

/* ---------------------------------------------------------------- requests */

static void
record(const ConsumerShard *slot)
{
	ProgressRow *rows = palloc0((slot->nretries + 1) * sizeof(ProgressRow));
	ConsumerRetry *delivered = palloc0((slot->nretries + 1) * sizeof(ConsumerRetry));
	int n = 0;

	for (uint32 i = 0; i < slot->nretries; i++)
		if (task_retries[i].recording)
		{
			delivered[n] = task_retries[i];
			delivered[n].attempts++;
			delivered[n].alone = slot->request_failure.alone;
			rows[n].retry = &delivered[n];
			n++;
		}
	if (slot->request_failure.attempts > 0)
	{
		rows[n].position = slot->position;
		rows[n++].failure = slot->request_failure;
	}
	for (int i = 0; i < n; i++)
	{
		rows[i].id = task->id;
		rows[i].shard = task->shard;
		rows[i].generation = slot->generation + 1;
	}
	progress_insert(rows, n);
	debug_point("record");
}

/* A consumer by its id. */
typedef struct Search
{
	uint64 id;
	Consumer found;
} Search;

static void
match_id(const Consumer *consumer, const uint64 *starts, int shards, TransactionId creator,
		 void *arg)
{
	Search *search = arg;

	if (consumer->id == search->id)
		search->found = *consumer;
}

static void
set_aside(const ConsumerShard *slot)
{
	Search search = {.id = task->id};
	const ConsumerRetry *retry = consumer_find_retry(slot, task_retries, slot->request_seq);
	ProgressRow row = {.id = task->id, .shard = task->shard, .generation = slot->generation + 1};
	ConsumerRetry settled;
	char reason[CONSUMER_REASON + 64];
	uint32 attempts = retry ? retry->attempts : slot->failure.attempts;
	NbLog *log;
	Reader reader;
	ReaderEvent event;

	consumer_catalog_scan(match_id, &search);
	if (search.found.id == 0)
		elog(ERROR, "consumer " UINT64_FORMAT " does not exist", task->id);
	log = nb_log_open(nb_log_name_of(task->shared->relid), AccessShareLock, ACL_SELECT);
	task->of_retry = retry != NULL;
	snprintf(reason, sizeof(reason), "delivered %u times in vain%s%s", attempts,
			 retry && retry->reason[0] ? ": " : "", retry ? retry->reason : "");

	reader_open(&reader, log, task->shard, slot->request_seq - 1);
	reader.only_one = true;
	task->gone = !reader_next(&reader, 1, &event) || event.seq != slot->request_seq;
	if (!task->gone)
		dead_letter_publish(&search.found, log, task->shard, &event, reason, attempts);
	reader_close(&reader);

	row.position = slot->request_seq;
	if (retry)
	{
		settled = *retry;
		settled.due = CONSUMER_NEVER;
		row.retry = &settled;
		row.retry_gone = retry->seq <= slot->position;
	}
	progress_insert(&row, 1);
	debug_point("set_aside");
}

/* Take the request of a slot, if there is one. */
static bool
take_request(ConsumerShared *shared, int shard, Task *taken)
{
	ConsumerShard *slot = &shared->shard[shard];
	bool open;

	SpinLockAcquire(&slot->lock);
	open = slot->request != REQUEST_NONE && slot->request_state == REQUEST_OPEN;
	if (open)
		slot->request_state = REQUEST_TAKEN;
	taken->request = slot->request;
	SpinLockRelease(&slot->lock);
	taken->shared = shared;
	taken->slot = slot;
	taken->shard = shard;
	taken->id = pg_atomic_read_u64(&shared->id);
	return open;
}

static void
fulfil(Task *taken)
{
	MemoryContext context = CurrentMemoryContext;

	/* The holder waits for us, and others may wait for him: let us not wait for them. */
	SetConfigOption("lock_timeout", REQUEST_LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	task = taken;
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		task_retries = consumer_retries(task->slot);
		if (task->request == REQUEST_RECORD)
			record(task->slot);
		else
			set_aside(task->slot);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		(void) nb_worker_give_up(context);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	answer(taken->shared, taken->slot, taken->done);
	task = NULL;
}

/* A former worker may have left in the middle of it: nobody is at it then. */
static void
reopen_requests(ConsumerShared *shared)
{
	for (int i = 0; i < shared->shards; i++)
	{
		ConsumerShard *slot = &shared->shard[i];

		SpinLockAcquire(&slot->lock);
		if (slot->request != REQUEST_NONE && slot->request_state == REQUEST_TAKEN)
		{
			if (slot->holder < 0)
				slot->request = REQUEST_NONE;
			else
				slot->request_state = REQUEST_FAILED;
		}
		SpinLockRelease(&slot->lock);
	}
}

/* ---------------------------------------------------------------- the job */

/* False: somebody has the tables. */
static bool
reap(void)
{
	bool locked;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	/* Before ALTER EXTENSION .. UPDATE there are no tables, and no consumers. */
	locked = !OidIsValid(nb_catalog_table("catalog_consumer")) || consumer_catalog_lock();
	if (locked)
		consumer_reap();
	PopActiveSnapshot();
	CommitTransactionCommand();
	return locked;
}

static void
fulfil_requests(void)
{
	int count;
	ConsumerShared **list = consumer_list(&count);

	for (int i = 0; i < count; i++)
		for (int shard = 0; shard < list[i]->shards; shard++)
		{
			Task taken = {0};

			if (take_request(list[i], shard, &taken))
				fulfil(&taken);
		}
}

static long
consumers_run(void)
{
	static bool started = false;
	static uint64 changes = 0; /* of logs: one that is dropped takes its consumers along */
	MemoryContext context = CurrentMemoryContext;
	ConsumerDatabase *database = consumer_database();
	long next;

	if (!started)
	{
		int count;
		ConsumerShared **list = consumer_list(&count);

		for (int i = 0; i < count; i++)
			reopen_requests(list[i]);
		started = true;
	}
	if (pg_atomic_exchange_u32(&database->requests, 0) != 0)
		fulfil_requests();
	next = nb_worker_draining ? -1 : progress_rotate();
	if (pg_atomic_exchange_u32(&database->reap, 0) != 0 || changes != nb_log_changes())
	{
		changes = nb_log_changes();
		if (!reap())
		{
			pg_atomic_write_u32(&database->reap, 1);
			next = next < 0 ? REAP_RETRY_MS : Min(next, REAP_RETRY_MS);
		}
	}
	MemoryContextSwitchTo(context);
	return next;
}

void
nb_consumer_job_init(void)
{
	static const NbWorkerJob job = {"consumers", consumers_run, NULL, NULL};

	nb_worker_add_job(&job);
	RegisterXactCallback(job_xact_callback, NULL);
}
