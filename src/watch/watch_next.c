/*-------------------------------------------------------------------------
 *
 * watch_next.c
 *		Pulling the changes of a watch, for those who cannot LISTEN.
 *
 * The first call, without a position, returns the rows that there are and, as the position
 * of all of them, a seq from which on all changes are kept.  Calls with the position of the
 * last row then return what has changed since, and wait for it.
 *
 * Deltas are kept for a watch from its first such call on (delta.h).  A change is kept if
 * the worker finds the ring when it has made the change.  So the ring is put up
 * first, and the rows are read after that: a change that they do not show is
 * made later, and under the lock of the model, after which the worker sees the ring.
 *
 * Reading many rows takes several steps, between which the fold goes on.  What
 * changed between the first and the last is among the deltas: these are applied to
 * the rows, one after the other, and the result is what there is as of the last
 * step, with no gap and no duplicate.
 *
 * A position that the ring does not reach back to gives one row, "resync", without a
 * position: calling with that begins anew.  Rings go when nobody has asked for a while, and
 * with the server.
 *
 * Locks: the log's table as a reader has it; the lock of the watch in shared memory
 * while deltas are copied; the model's lock as any query.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "watch/watch.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "bus/rows.h"

#define COLUMNS        3
#define NO_SEQ         PG_UINT64_MAX
#define STEP_BUDGET    2000
#define STEP_BYTES     (256 * 1024) /* copied in a step, about */
#define BEGIN_POLL_MS  5
#define MAX_ATTEMPTS   5
#define STRAGGLE_TRIES 1000

PG_FUNCTION_INFO_V1(netbus_watch_next);

static const char *const op_names[WATCH_OPS] = {"entered", "changed", "left"};

typedef struct Pull
{
	WatchRow row;
	Model *model;
	RecordFilter filter;
	ReturnSetInfo *rsinfo;
	MemoryContext row_context;
} Pull;

/* ------------------------------------------------------------------- rows */

/* A row; record NULL: it has none. */
static void
put_row(Pull *pull, uint64 seq, const char *op, Jsonb *record)
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {seq == NO_SEQ, false, record == NULL};

	values[0] = Int64GetDatum(seq);
	values[1] = CStringGetTextDatum(op);
	values[2] = JsonbPGetDatum(record);
	tuplestore_putvalues(pull->rsinfo->setResult, pull->rsinfo->setDesc, values, nulls);
}

static void
put_record(Pull *pull, uint64 seq, const char *op, const Record *record)
{
	MemoryContext old = MemoryContextSwitchTo(pull->row_context);

	put_row(pull, seq, op,
			watch_record_jsonb(pull->model->kind, record, (const Blob *) (record + 1)));
	MemoryContextSwitchTo(old);
	MemoryContextReset(pull->row_context);
}

static void
put_delta(Pull *pull, const Delta *delta)
{
	if (delta->op == WATCH_LEFT)
		put_row(pull, delta->seq, op_names[delta->op], watch_id_jsonb(delta->id));
	else
		put_record(pull, delta->seq, op_names[delta->op], (const Record *) (delta + 1));
}

/* ----------------------------------------------------------------- deltas */

/* Copies of deltas, back to back. */
typedef struct Deltas
{
	char *data;
	Size room;
	Size len;
	uint32 count;
} Deltas;

/* Copy at most so many that come after a seq.  False: the ring does not reach back so far. */
static bool
copy_deltas(int64 id, uint64 after_seq, uint32 max, Deltas *deltas)
{
	WatchShared *shared = watch_shared_find(id, false);
	DeltaRing *ring = NULL;
	bool found;

	deltas->len = deltas->count = 0;
	if (shared && DsaPointerIsValid(dsa_pointer_atomic_read(&shared->deltas)))
		ring = dsa_get_address(watch_area(), dsa_pointer_atomic_read(&shared->deltas));
	found = ring && ring->after_seq <= after_seq;
	if (found)
	{
		const Delta *delta = NULL;

		pg_atomic_write_u64(&shared->pulled_at, nb_now_us());
		/* It may be another ring than last time. */
		if (deltas->room < ring->size)
		{
			deltas->data = deltas->data ? repalloc(deltas->data, ring->size) : palloc(ring->size);
			deltas->room = ring->size;
		}
		while (deltas->count < max && (delta = delta_next(ring, delta)) != NULL)
		{
			if (delta->seq <= after_seq)
				continue;
			memcpy(deltas->data + deltas->len, delta, delta->bytes);
			deltas->len += delta->bytes;
			deltas->count++;
		}
	}
	if (shared)
		watch_shared_release(shared);
	return found;
}

/* Who waits for deltas has not gone away, however long it is. */
static void
want_deltas(int64 id, int64 until)
{
	WatchShared *shared = watch_shared_find(id, false);
	uint64 former;

	if (!shared)
		return;
	former = pg_atomic_read_u64(&shared->wanted_until);
	while (former < (uint64) until &&
		   !pg_atomic_compare_exchange_u64(&shared->wanted_until, &former, until))
		;
	watch_shared_release(shared);
}

/* Have deltas kept. */
static void
keep_deltas(int64 id)
{
	WatchShared *shared = watch_shared_find(id, true);

	if (!shared)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("watch %lld does not exist any more", (long long) id)));
	pg_atomic_write_u64(&shared->pulled_at, nb_now_us());
	if (!watch_shared_keep_deltas(shared))
	{
		watch_shared_release(shared);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("no memory to keep the changes of watch %lld", (long long) id),
				 errdetail("The watches of all databases may take netbus.watch_memory (%d MB).",
						   watch_memory),
				 errhint("Raise netbus.watch_memory, or lower netbus.watch_buffer or "
						 "netbus.watch_idle_timeout.")));
	}
	watch_shared_release(shared);
}

/* The ring was there when the rows of that seq were read: it has all that came later. */
static void
deltas_begin(int64 id, uint64 after_seq)
{
	WatchShared *shared = watch_shared_find(id, true);

	if (shared && DsaPointerIsValid(dsa_pointer_atomic_read(&shared->deltas)))
	{
		DeltaRing *ring = dsa_get_address(watch_area(), dsa_pointer_atomic_read(&shared->deltas));

		/* Else somebody has said so before, or it has overflowed. */
		if (ring->after_seq == PG_UINT64_MAX)
			ring->after_seq = after_seq;
	}
	if (shared)
		watch_shared_release(shared);
}

/* ----------------------------------------------------------- current rows */

typedef struct CurrentRow
{
	int64 id;       /* hash key */
	Record *record; /* followed by its blob; NULL: gone */
} CurrentRow;

typedef struct Current
{
	MemoryContext context;
	HTAB *rows;
} Current;

static void
set_current(Current *current, int64 id, const Record *record, const Blob *blob)
{
	CurrentRow *row = hash_search(current->rows, &id, HASH_ENTER, NULL);

	row->record = NULL;
	if (!record)
		return;
	row->record = MemoryContextAllocHuge(current->context, sizeof(Record) + blob->bytes);
	*row->record = *record;
	memcpy(row->record + 1, blob, blob->bytes);
}

/* Records of a step, each followed by its blob. */
typedef struct Copy
{
	Size bytes; /* of all, a multiple of 8 */
	bool certain;
	Record record;
} Copy;

typedef struct Copies
{
	const State *state;
	char *data;
	Size len;
	Size room;
} Copies;

/* Called under the model's lock. */
static bool
copy_record(void *arg, const Record *record, bool certain)
{
	Copies *copies = arg;
	const Blob *blob = state_blob(copies->state, record);
	Size bytes = MAXALIGN(sizeof(Copy) + blob->bytes);
	Copy *copy;

	if (copies->len + bytes > copies->room)
	{
		copies->room = Max(copies->room * 2, copies->len + bytes);
		copies->data = repalloc_huge(copies->data, copies->room);
	}
	copy = (Copy *) (copies->data + copies->len);
	copy->bytes = bytes;
	copy->certain = certain;
	copy->record = *record;
	memcpy(copy + 1, blob, blob->bytes);
	copies->len += bytes;
	return copies->len < STEP_BYTES;
}

static void *
resize(void *memory, size_t bytes)
{
	return memory ? repalloc_huge(memory, bytes)
				  : MemoryContextAllocHuge(CurrentMemoryContext, bytes);
}

/* Between which seqs a query has looked: each row is as it was at one of them. */
typedef struct Span
{
	uint64 from;
	uint64 to;
} Span;

/* Read the rows in steps, each under the model's lock. */
static void
read_rows(Pull *pull, Current *current, Span *span)
{
	Model *model = pull->model;
	const Schema *schema = &model->kind->schema;
	const Needle *needle = &pull->filter.needle;
	Copies copies = {.state = &model->state, .room = 16 * 1024};
	Select select;
	bool first = true;

	select_init(&select, &model->state, &pull->filter);
	select.emit = copy_record;
	select.arg = &copies;
	select.resize = resize;
	copies.data = palloc(copies.room);
	while (!select.done)
	{
		copies.len = 0;
		model_lock(model);
		span->to = model_seq(model);
		if (first)
			span->from = span->to;
		first = false;
		select_step(&select, STEP_BUDGET);
		model_unlock(model);
		if (select.unsorted)
			select_sort(&select);
		for (Size at = 0; at < copies.len;)
		{
			const Copy *copy = (const Copy *) (copies.data + at);
			const Blob *blob = (const Blob *) (copy + 1);
			Value text = blob_value(blob, schema->nattrs, schema->search);

			at += copy->bytes;
			if (copy->certain || text_contains(text.data, text.len, needle->text, needle->len))
				set_current(current, copy->record.id, &copy->record, blob);
		}
		CHECK_FOR_INTERRUPTS();
		debug_point("watch_rows");
	}
	if (select.matches)
		pfree(select.matches);
	pfree(copies.data);
}

/*
 * What was changed between the steps of the query.  The worker puts a delta into
 * the ring just after it has made the change.  False: some are not there any more.
 */
static bool
catch_up(Pull *pull, Current *current, const Span *span)
{
	ModelSlot *slot = pull->model->slot;
	Deltas deltas = {0};

	if (span->from == span->to)
		return true;
	for (int i = 0; pg_atomic_read_u64(&slot->observed_seq) < span->to &&
					pg_atomic_read_u64(&slot->folded_seq) < span->to;
		 i++)
	{
		if (i == STRAGGLE_TRIES)
			return false;
		pg_usleep(1000L);
		CHECK_FOR_INTERRUPTS();
	}
	pg_read_barrier();
	if (!copy_deltas(pull->row.id, span->from, PG_UINT32_MAX, &deltas))
		return false;
	for (Size at = 0; at < deltas.len;)
	{
		const Delta *delta = (const Delta *) (deltas.data + at);
		const Record *record = (const Record *) (delta + 1);

		at += delta->bytes;
		if (delta->seq > span->to)
			break;
		if (delta->op == WATCH_LEFT)
			set_current(current, delta->id, NULL, NULL);
		else
			set_current(current, delta->id, record, (const Blob *) (record + 1));
	}
	pfree(deltas.data);
	return true;
}

static int
compare_rows(const void *a, const void *b)
{
	const CurrentRow *x = *(CurrentRow *const *) a;
	const CurrentRow *y = *(CurrentRow *const *) b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static void
put_current(Pull *pull, Current *current, uint64 seq)
{
	long count = hash_get_num_entries(current->rows);
	CurrentRow **rows =
		MemoryContextAllocHuge(current->context, sizeof(CurrentRow *) * Max(count, 1));
	HASH_SEQ_STATUS scan;
	CurrentRow *row;
	long n = 0;

	hash_seq_init(&scan, current->rows);
	while ((row = hash_seq_search(&scan)) != NULL)
		if (row->record)
			rows[n++] = row;
	qsort(rows, n, sizeof(CurrentRow *), compare_rows);
	for (long i = 0; i < n; i++)
		put_record(pull, seq, "current", rows[i]->record);
	put_row(pull, seq, "ready", NULL);
}

/* Return the rows that there are. */
static void
pull_current(Pull *pull)
{
	for (int attempt = 0; attempt < MAX_ATTEMPTS; attempt++)
	{
		HASHCTL ctl = {.keysize = sizeof(int64), .entrysize = sizeof(CurrentRow)};
		Current current;
		Span span = {0};
		bool done;

		keep_deltas(pull->row.id);
		current.context = ctl.hcxt = AllocSetContextCreate(
			CurrentMemoryContext, "netbus watch rows", ALLOCSET_DEFAULT_SIZES);
		current.rows =
			hash_create("netbus watch rows", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		pull->filter.order = ORDER_ID;
		read_rows(pull, &current, &span);
		deltas_begin(pull->row.id, span.from);
		done = catch_up(pull, &current, &span);
		if (done)
			put_current(pull, &current, span.to);
		MemoryContextDelete(current.context);
		if (done)
			return;
	}
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("watch %lld changes faster than its rows can be read",
						   (long long) pull->row.id),
					errhint("Raise netbus.watch_buffer.")));
}

/* ------------------------------------------------------------------- calls */

/* Return what has changed since, waiting for it until the deadline. */
static void
pull_deltas(Pull *pull, uint64 after_seq, uint32 max, int64 deadline)
{
	NbWaiters *waiters = watch_waiters(pull->row.id);
	Deltas deltas = {0};
	bool known;
	bool found;

	/* From another life of the server, or invented. */
	model_lock(pull->model);
	known = after_seq <= model_seq(pull->model);
	model_unlock(pull->model);
	if (!known)
	{
		put_row(pull, NO_SEQ, "resync", NULL);
		return;
	}
	want_deltas(pull->row.id, deadline);
	for (;;)
	{
		int64 left;

		nb_waiters_add(waiters);
		found = copy_deltas(pull->row.id, after_seq, max, &deltas);
		left = deadline - nb_now_us();
		if (!found || deltas.count > 0 || left <= 0)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (left + 999) / 1000, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	nb_waiters_remove(waiters);
	if (!found)
		put_row(pull, NO_SEQ, "resync", NULL);
	for (Size at = 0; at < deltas.len;)
	{
		const Delta *delta = (const Delta *) (deltas.data + at);

		at += delta->bytes;
		put_delta(pull, delta);
	}
}

/* Wait until the worker serves the watch. */
static void
await_watch(const WatchRow *row)
{
	int64 deadline = nb_now_us() + (int64) nb_wait_timeout * 1000;
	bool called = false;

	for (;;)
	{
		WatchShared *shared = watch_shared_of(row, false);
		bool active = shared && pg_atomic_read_u32(&shared->active) != 0;

		if (shared)
			watch_shared_release(shared);
		if (active)
			return;
		if (TransactionIdIsCurrentTransactionId(row->xmin))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("watch %lld is not served before it is committed", (long long) row->id),
					 errhint("Commit the transaction that has made it.")));
		if (nb_now_us() >= deadline)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("watch %lld is not served", (long long) row->id),
							errdetail("netbus.wait_timeout is %d ms.", nb_wait_timeout),
							errhint("The view netbus.stat_worker tells what the worker does.")));
		if (!called)
			watch_note_change(); /* perhaps nobody has told it */
		called = true;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, BEGIN_POLL_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
open_watch(Pull *pull, int64 id)
{
	if (!watch_catalog_get(id, &pull->row))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("watch %lld does not exist", (long long) id),
						errhint("Make one with netbus.watch_memories() or netbus.watch_tasks().")));
	if (!has_privs_of_role(GetUserId(), pull->row.owner) &&
		!has_privs_of_role(GetUserId(), get_role_oid("netbus_admin", false)))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of watch %lld", (long long) id)));
	if (pull->row.kind == WATCH_LOG)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("watch %lld is of a log", (long long) id),
				 errhint("New events can be waited for with netbus.tail() and netbus.poll().")));
	pull->model = model_open_by_log(nb_log_name_of(pull->row.log));
	watch_args_decode(pull->row.filter, pull->model->kind, &pull->filter);
}

/* watch_next(watch, after_seq, max_events, wait) -> rows */
Datum
netbus_watch_next(PG_FUNCTION_ARGS)
{
	Pull pull = {0};
	int64 id = arg_int8(fcinfo, 0, "watch");
	uint64 max = arg_max_events(fcinfo, 2);
	int64 deadline = arg_deadline(fcinfo, 3, "wait");

	nb_require_preload();
	PreventCommandDuringRecovery("netbus.watch_next()");
	if (!PG_ARGISNULL(1) && PG_GETARG_INT64(1) < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"after_seq\" must not be negative")));
	open_watch(&pull, id);
	InitMaterializedSRF(fcinfo, 0);
	pull.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	pull.row_context =
		AllocSetContextCreate(CurrentMemoryContext, "netbus watch row", ALLOCSET_DEFAULT_SIZES);
	await_watch(&pull.row);
	(void) model_await(pull.model);
	if (PG_ARGISNULL(1))
		pull_current(&pull);
	else
		pull_deltas(&pull, PG_GETARG_INT64(1), Min(max, PG_UINT32_MAX), deadline);
	return (Datum) 0;
}
