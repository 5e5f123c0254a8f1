/*-------------------------------------------------------------------------
 *
 * notify.c
 *		Telling a watch what has happened, by NOTIFY.
 *
 * A watch with something to tell is in a queue by the time when its window ends, which is
 * its debounce after the window began, however much happens meanwhile.  Those that
 * are due are notified together, in a transaction that waits for no flush: whoever
 * has to know for sure reads again after a restart anyway.  NOTIFY takes a lock that all
 * of the server share until the commit, which is why nobody but the worker does it.
 *
 * What may fail is tried again, with growing pauses, and until then the window stays open:
 * the server's queue of notifications may be full, because a listener does not
 * read.  Each failure is noted where netbus.stat_watch shows it.  After one, watches are
 * tried one at a time, so that one that cannot be notified is not in the way of the rest.
 *
 * The owner must have the right to read the log when he is told.  Without, nothing is
 * told; it is looked for again with pauses, as nobody calls us when it is granted, and if it is
 * back he is told to read anew.
 *
 * Payloads: see build().  Private to the worker; no lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "watch/watch.h"

#include "access/xact.h"
#include "commands/async.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#define PAYLOAD_MAX  7168 /* bytes; NOTIFY takes 8000 */
#define MAX_BATCH    256
#define SLICE_US     20000
#define MIN_RETRY_MS 100
#define MAX_RETRY_MS 10000
#define WINDOWS_MAX  (32 * 1024 * 1024) /* bytes of all windows */
#define KEEP_RECORDS 64                 /* of an empty window, when half of that is used */

typedef struct Batch
{
	int n;
	Watch *watches[MAX_BATCH];
	bool sent[MAX_BATCH];
	bool overflow[MAX_BATCH];       /* without what there is to tell */
	const char *refused[MAX_BATCH]; /* why it is not told */
} Batch;

static const char no_right[] = "the owner of the watch has no right to read the log";

static pairingheap *queue = NULL;
static int max_batch = MAX_BATCH;
static Size window_memory = 0;
static Batch batch;

/* ------------------------------------------------------------------ queue */

static int
compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Watch *x = pairingheap_const_container(Watch, node, a);
	const Watch *y = pairingheap_const_container(Watch, node, b);

	return x->due < y->due ? 1 : x->due > y->due ? -1 : 0;
}

void
notify_queue(Watch *watch, int64 due)
{
	if (watch->queued && (watch->retry_delay > 0 || watch->due <= due))
		return;
	if (!queue)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		queue = pairingheap_allocate(compare_due, NULL);
		MemoryContextSwitchTo(old);
	}
	if (watch->queued)
		pairingheap_remove(queue, &watch->node);
	watch->due = due;
	watch->queued = true;
	pairingheap_add(queue, &watch->node);
	/* The fold may be what runs, and may be all that would run next. */
	if (pairingheap_first(queue) == &watch->node)
		nb_worker_wake(MyDatabaseId);
}

void
notify_forget(Watch *watch)
{
	if (watch->queued)
		pairingheap_remove(queue, &watch->node);
	watch->queued = false;
}

/* Memory for windows: at most so much of all; NULL: no more. */
void *
watch_resize(void *memory, size_t bytes)
{
	Size former = memory ? GetMemoryChunkSpace(memory) : 0;

	if (bytes > former && window_memory + bytes - former > WINDOWS_MAX)
		return NULL;
	if (bytes == 0)
	{
		if (memory)
			pfree(memory);
		memory = NULL;
	}
	else
		memory = memory ? repalloc(memory, bytes) : MemoryContextAlloc(TopMemoryContext, bytes);
	window_memory = window_memory - former + (memory ? GetMemoryChunkSpace(memory) : 0);
	return memory;
}

/* ---------------------------------------------------------------- payload */

/* The ids of records of which that has become. */
static void
put_ids(StringInfo payload, const Window *window, WatchOp op, const char *name)
{
	bool first = true;

	appendStringInfo(payload, ",\"%s\":[", name);
	for (uint32 i = 0; i < window->nrecords; i++)
	{
		WatchOp what;

		if (!window_op(&window->records[i], &what) || what != op)
			continue;
		appendStringInfo(payload, "%s\"" INT64_FORMAT "\"", first ? "" : ",",
						 window->records[i].id);
		first = false;
	}
	appendStringInfoChar(payload, ']');
}

/* Up to where a watch that has missed something has missed it; whatever comes later it is told. */
static uint64
seq_now(const Watch *watch)
{
	ModelSlot *slot = model_find_slot(watch->row.log);

	if (!slot)
		return 0;
	return Max(pg_atomic_read_u64(&slot->observed_seq), pg_atomic_read_u64(&slot->folded_seq));
}

/*
 * What a watch is told:
 *
 *		{"watch":"7","seq":["120","133"],"entered":[ids],"changed":[ids],"left":[ids]}
 *		{"watch":"7","seq":["120","133"],"overflow":true}		too many ids
 *		{"watch":"7","resync":true,"seq":"133"}					it has missed something up to 133
 *		{"watch":"7"}											payload "none"
 *		{"watch":"8","events":"3","seq":{"0":["41","57"]}}		a log, per shard
 *		{"watch":"8","resync":true,"seq":{"0":"57"}}			likewise
 *
 * False: nothing, because all that happened has been undone.
 */
static bool
build(Watch *watch, StringInfo payload, bool *overflow)
{
	static const char *const names[WATCH_OPS] = {"entered", "changed", "left"};
	const Window *window = &watch->window;

	*overflow = false;
	if (!watch->lost && (watch->telling ? watch_log_idle(watch) : window_idle(window)))
		return false;
	resetStringInfo(payload);
	appendStringInfo(payload, "{\"watch\":\"" INT64_FORMAT "\"", watch->id);
	if (!watch->row.ids)
		; /* that is all */
	else if (watch->telling)
	{
		watch_log_seqs(watch, payload);
		if (payload->len > PAYLOAD_MAX)
		{
			resetStringInfo(payload);
			appendStringInfo(payload, "{\"watch\":\"" INT64_FORMAT "\"%s,\"overflow\":true",
							 watch->id, watch->lost ? ",\"resync\":true" : "");
			*overflow = true;
		}
	}
	else if (watch->lost)
		appendStringInfo(payload, ",\"resync\":true,\"seq\":\"" UINT64_FORMAT "\"", seq_now(watch));
	else
	{
		appendStringInfo(payload, ",\"seq\":[\"" UINT64_FORMAT "\",\"" UINT64_FORMAT "\"]",
						 window->first_seq, window->last_seq);
		for (WatchOp op = 0; op < WATCH_OPS && !window->overflow; op++)
			put_ids(payload, window, op, names[op]);
		if (window->overflow)
		{
			appendStringInfoString(payload, ",\"overflow\":true");
			*overflow = true;
		}
		Assert(payload->len < PAYLOAD_MAX);
	}
	appendStringInfoChar(payload, '}');
	return true;
}

/* Why the owner of a watch must not be told; NULL: he may. */
static const char *
refusal(const Watch *watch)
{
	bool missing = false;

	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(watch->row.owner)))
		return "the owner of the watch does not exist any more";
	if (pg_class_aclcheck_ext(watch->row.log, watch->row.owner, ACL_SELECT, &missing) !=
		ACLCHECK_OK)
		return missing ? "the log does not exist any more" : no_right;
	return NULL;
}

/* ---------------------------------------------------------------- sending */

/* Notify the batch. */
static void
send_batch(void *arg)
{
	StringInfoData payload;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) set_config_option("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE,
							 GUC_ACTION_LOCAL, true, 0, false);
	initStringInfo(&payload);
	for (int i = 0; i < batch.n; i++)
	{
		Watch *watch = batch.watches[i];

		batch.refused[i] = refusal(watch);
		batch.sent[i] = !batch.refused[i] && build(watch, &payload, &batch.overflow[i]);
		if (batch.sent[i])
			Async_Notify(watch->row.channel, payload.data);
	}
	debug_point("notify");
	CommitTransactionCommand();
	debug_point("notified");
}

/* Tell a watch later, after a pause that grows from attempt to attempt. */
static void
retry(Watch *watch)
{
	int delay = Min(Max(watch->retry_delay * 2, MIN_RETRY_MS), MAX_RETRY_MS);

	watch->retry_delay = 0;
	notify_queue(watch, nb_now_us() + (int64) delay * 1000);
	watch->retry_delay = delay;
}

/* Has it something to tell that is new since the last attempt? */
static bool
has_news(const Watch *watch)
{
	return watch->retry_delay == 0 ||
		   (watch->telling ? !watch_log_idle(watch) : watch->window.first_seq != 0);
}

/* The batch has been notified.  last: there will not be another. */
static void
batch_told(bool last)
{
	int64 now = nb_now_us();

	for (int i = 0; i < batch.n; i++)
	{
		Watch *watch = batch.watches[i];
		WatchShared *shared = watch->shared;

		if (batch.refused[i] && has_news(watch))
			watch_note_error(watch, batch.refused[i]);
		if (batch.sent[i])
		{
			pg_atomic_fetch_add_u64(&shared->notifications, 1);
			pg_atomic_write_u64(&shared->notified_at, now);
			if (watch->lost)
				pg_atomic_fetch_add_u64(&shared->resyncs, 1);
			if (batch.overflow[i])
				pg_atomic_fetch_add_u64(&shared->overflows, 1);
		}
		if (watch->telling)
			watch_log_told(watch);
		window_clear(&watch->window,
					 window_memory < WINDOWS_MAX / 2 ? WINDOW_MAX_RECORDS : KEEP_RECORDS,
					 watch_resize);
		watch->lost = batch.refused[i] != NULL;
		/* A successor would have to know that, too. */
		pg_atomic_write_u32(&shared->pending, watch->lost);
		if (batch.refused[i] == no_right && !last)
			retry(watch);
		else
			watch->retry_delay = 0;
	}
	max_batch = Min(max_batch * 2, MAX_BATCH);
}

static void
batch_failed(const char *message)
{
	for (int i = 0; i < batch.n; i++)
	{
		watch_note_error(batch.watches[i], message);
		retry(batch.watches[i]);
	}
	max_batch = 1;
}

long
notify_run(bool all)
{
	int64 now = nb_now_us();
	int64 deadline = now + SLICE_US;

	while (queue && !pairingheap_is_empty(queue))
	{
		Watch *watch = pairingheap_container(Watch, node, pairingheap_first(queue));
		char *message;

		if (watch->due > now && !all)
			return (watch->due - now) / 1000 + 1;
		if (nb_now_us() > deadline && !all)
			return 0;
		for (batch.n = 0; batch.n < max_batch && !pairingheap_is_empty(queue);)
		{
			watch = pairingheap_container(Watch, node, pairingheap_first(queue));
			if (watch->due > now && !all)
				break;
			pairingheap_remove_first(queue);
			watch->queued = false;
			batch.watches[batch.n++] = watch;
		}
		message = watch_guarded(send_batch, NULL);
		if (!message)
			batch_told(all);
		else
		{
			batch_failed(message);
			if (all)
				break; /* the server stops, and the successor will tell them to read anew */
		}
	}
	return -1;
}
