/*-------------------------------------------------------------------------
 *
 * fold.c
 *		The worker's job that folds logs into models.
 *
 * A model comes to life in three steps: the newest snapshot is loaded, the rest of
 * the log is folded, then it is ready and queries may look.  From then on each
 * committed event of its log wakes the worker (LogShared.folded).  Each call
 * of the job spends a bounded time, so that the worker's other jobs get their turn.
 *
 * What is in shared memory is the state, not this process: a worker that takes
 * over goes on after folded_seq.  Only if its predecessor died within a change, or
 * before the model was ready, the state is built anew.
 *
 * A bad event is set aside in netbus.catalog_model_error and counts as folded: nobody
 * waits for it.  What is folded is told when that is committed, so that whoever has
 * waited finds it there.
 *
 * Events come into the state one after the other: a query may see the first ones of
 * a transaction that is just being folded, which it does not have to wait for.
 *
 * An error costs only the model its turn; the worker tries again later and later, and
 * what is folded already is passed over, as each record has the seq of its last event.
 * Memory for a change is found before it begins; should it fail all the same half-way,
 * the state is not read any more but built anew.
 *
 * Locks: AccessShareLock on the log's table, only if it is free at once; the
 * model's lock around each change.  If somebody waits to change the table, those who have
 * it locked may wait for us, and he for them: then what the ring has is folded
 * without that lock, which only the rows need.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cortex/model.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "bus/reader.h"

#define SLICE_US      20000 /* of a model, in one call */
#define PUBLISH_EVERY 128   /* events between two looks at waiters and the clock */
#define LOCK_RETRY_MS 20
#define COPY_POLL_MS  100 /* of a log that a subscription fills */
#define MIN_RETRY_MS  100
#define MAX_RETRY_MS  10000
#define MAX_ERRORS    10000 /* rows that are kept of a model */
#define ROUND_US      60000 /* of all models, in one call */

enum
{
	ERROR_LOG = 1,
	ERROR_SEQ,
	ERROR_TS,
	ERROR_REASON,
	ERROR_EVENT,
	ERROR_COLUMNS = ERROR_EVENT
};

/* A model as its worker has it. */
typedef struct Folding
{
	Model *model;
	SnapshotLoad *load; /* NULL: none is being loaded */
	bool looked_for_snapshot;
	int64 retry_at;
	int retry_delay;
	struct Folding *next;
} Folding;

const ModelObserver *model_observer = NULL;

static Folding *foldings = NULL;
static MemoryContext event_context = NULL;
static bool aside = false; /* this transaction has set events aside */

/* ------------------------------------------------------------ bad events */

/* Does the table have the event already?  *count: rows of the model, if seq is 0. */
static bool
error_known(Relation rel, Oid log, uint64 seq, uint64 *count)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	bool found = false;

	ScanKeyInit(&keys[0], ERROR_LOG, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(log));
	ScanKeyInit(&keys[1], ERROR_SEQ, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(seq));
	scan = systable_beginscan(rel, nb_primary_key(rel), true, NULL, count ? 1 : 2, keys);
	while (HeapTupleIsValid(systable_getnext(scan)))
	{
		found = true;
		if (!count)
			break;
		(*count)++;
	}
	systable_endscan(scan);
	return found;
}

/* Set a bad event aside, unless that was done when the state was built before. */
static void
set_aside(Model *model, const Event *event, const char *payload, uint32 len)
{
	Oid relid = nb_catalog_table("catalog_model_error");
	Relation rel;

	if (!OidIsValid(relid))
		return;
	rel = table_open(relid, RowExclusiveLock);
	if (!error_known(rel, model->relid, event->seq, NULL))
	{
		uint64 count = pg_atomic_fetch_add_u64(&model->slot->errors, 1);

		if (count < MAX_ERRORS)
		{
			Datum values[ERROR_COLUMNS];
			bool nulls[ERROR_COLUMNS] = {0};
			Value value = {payload, len};

			values[ERROR_LOG - 1] = ObjectIdGetDatum(model->relid);
			values[ERROR_SEQ - 1] = Int64GetDatum(event->seq);
			values[ERROR_TS - 1] = TimestampTzGetDatum(event->ts);
			values[ERROR_REASON - 1] = CStringGetTextDatum(event->reason);
			values[ERROR_EVENT - 1] = value_jsonb(value);
			CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, nulls));
			CommandCounterIncrement();
			aside = true;
		}
	}
	table_close(rel, RowExclusiveLock);
}

static void
count_errors(Model *model)
{
	Oid relid = nb_catalog_table("catalog_model_error");
	uint64 count = 0;
	Relation rel;

	if (!OidIsValid(relid))
		return;
	rel = table_open(relid, AccessShareLock);
	(void) error_known(rel, model->relid, 0, &count);
	table_close(rel, AccessShareLock);
	pg_atomic_write_u64(&model->slot->errors, count);
}

/* ---------------------------------------------------------------- folding */

/* Make a change, between the observer's two looks at it.  image: NULL removes the record. */
static void
change_record(Model *model, const Record *record, const Event *event, const Image *image)
{
	State *state = &model->state;
	pg_atomic_uint64 *observed = &model->slot->observed_seq;
	bool show = model_observer && event->seq > pg_atomic_read_u64(observed);
	ArenaRef ref = 0;

	model->event_seq = event->seq;
	if (show)
		model_observer->before(model, event->seq, event->id, record);
	if (image)
		ref = state_put(state, image);
	else
		(void) state_remove(state, event->id);
	if (show)
		model_observer->after(model, event->seq, event->id, ref ? state_record(state, ref) : NULL);
	if (event->seq > pg_atomic_read_u64(observed))
		pg_atomic_write_u64(observed, event->seq);
}

/* Fold one event into the state. */
static void
fold_event(Model *model, const ReaderEvent *read)
{
	State *state = &model->state;
	MemoryContext old = MemoryContextSwitchTo(event_context);
	char *payload = palloc(read->event.payload_len + 1); /* aligned, as a jsonb wants it */
	Event event = {.seq = read->seq, .ts = NB_EPOCH_TO_TIMESTAMPTZ(read->ts)};
	FoldResult result = FOLD_BAD;
	const EventKind *kind;
	const Record *record = NULL;
	Image image = {0};

	memcpy(payload, read->event.payload, read->event.payload_len);
	event.object = (JsonbContainer *) payload;
	kind = event_kind(model->kind, &event);
	if (kind)
	{
		ArenaRef ref = state_find(state, event.id);

		record = ref ? state_record(state, ref) : NULL;
		image.id = event.id;
		image.seq = event.seq;
		image.updated = event.ts;
		image.created = record ? record->created : event.ts;
		image.flags = record ? record->flags & (RECORD_STATE | RECORD_ODD_CASE) : 0;
		image.same_values = true;
		/* A snapshot may have had a later event of this record already. */
		if (record && record->seq >= event.seq)
			result = FOLD_NOOP;
		else
			result = kind->fold(state, &event, record, &image);
	}
	switch (result)
	{
		case FOLD_PUT:
			change_record(model, record, &event, &image);
			break;
		case FOLD_REMOVE:
			change_record(model, record, &event, NULL);
			break;
		case FOLD_NOOP:
			pg_atomic_fetch_add_u64(&model->slot->noops, 1);
			break;
		case FOLD_BAD:
			set_aside(model, &event, payload, read->event.payload_len);
			break;
	}
	debug_point("fold");
	MemoryContextSwitchTo(old);
	MemoryContextReset(event_context);
}

static void
publish_folded(ModelSlot *slot, uint64 seq)
{
	pg_write_barrier();
	pg_atomic_write_u64(&slot->folded_seq, seq);
	if (pg_atomic_read_u32(&slot->phase) == MODEL_READY)
		model_wake(slot);
	debug_point("folded");
}

/* So much of what was promised is in the state. */
static void
keep_promise(ModelSlot *slot, uint64 bytes)
{
	pg_atomic_fetch_sub_u64(&slot->promised, Min(bytes, pg_atomic_read_u64(&slot->promised)));
}

/*
 * Fold what the log has, until the deadline; without a lock on its table what the ring has.
 * True: all that there was.  *to is what is folded then, for the caller to tell.
 */
static bool
fold_log(Model *model, bool locked, int64 deadline, uint64 *to)
{
	ModelSlot *slot = model->slot;
	NbLog *log = model->log;
	bool live = nb_log_live(log);
	Reader reader;
	ReaderEvent event;
	uint64 promised = pg_atomic_read_u64(&slot->promised);
	uint64 from = pg_atomic_read_u64(&slot->folded_seq);
	uint64 n = 0;
	uint64 bytes = 0; /* since promised was adjusted */
	uint64 head;
	bool done = true;

	*to = from;
	pg_read_barrier();
	head = live ? pg_atomic_read_u64(&log_ring(log->shared, 0)->stable_seq) : 0;
	pg_read_barrier();
	if (live && head <= from)
		return true;
	reader_open(&reader, log, 0, from);
	reader.ring_only = !locked;
	while (reader_next(&reader, UINT32_MAX, &event))
	{
		if (model_observer && model_observer->hold())
		{
			reader_unread(&reader);
			done = false;
			break;
		}
		fold_event(model, &event);
		bytes += event.event.payload_len;
		if (++n % PUBLISH_EVERY == 0)
		{
			/* What is folded for a second time was promised long ago. */
			if (pg_atomic_read_u32(&slot->phase) == MODEL_READY)
			{
				keep_promise(slot, bytes);
				promised -= Min(promised, bytes);
			}
			bytes = 0;
			if (!aside)
				publish_folded(slot, event.seq);
			CHECK_FOR_INTERRUPTS();
			if (aside || nb_now_us() >= deadline)
			{
				done = false;
				break;
			}
		}
	}
	if (reader.lost > 0)
		pg_atomic_fetch_add_u64(&slot->lost, reader.lost);
	pg_atomic_fetch_add_u64(&slot->events, n);
	done &= !reader.wants_rows;
	*to = done ? Max(head, reader.after_seq) : reader.after_seq;
	reader_close(&reader);
	if (done)
		keep_promise(slot, promised); /* the rest, and what has come to nothing */
	return done;
}

/* The same, and tell, unless events that are set aside have to be committed before. */
static bool
fold_and_tell(Model *model, bool locked, int64 deadline, uint64 *to)
{
	bool done = fold_log(model, locked, deadline, to);

	if (!aside && *to > 0)
		publish_folded(model->slot, *to);
	return done;
}

static void
no_lock(State *state)
{
}

/*
 * Before it is ready nobody looks, and if we die all is built anew: no lock is
 * needed around changes.
 */
static void
load_begin(Folding *folding)
{
	Model *model = folding->model;

	model_reset(model->slot);
	model_adopt(model, model->slot);
	model->state.enter = no_lock;
	model->state.leave = no_lock;
	model->state.filling = false;
	folding->looked_for_snapshot = false;
	if (folding->load)
		snapshot_close(folding->load);
	folding->load = NULL;
}

static void
load_end(Folding *folding)
{
	model_adopt(folding->model, folding->model->slot);
	pg_write_barrier();
	pg_atomic_write_u32(&folding->model->slot->phase, MODEL_READY);
	model_wake(folding->model->slot);
}

/* Some of loading the snapshot.  True: done. */
static bool
load_snapshot(Folding *folding, int64 deadline)
{
	Model *model = folding->model;
	uint64 head = nb_log_live(model->log)
					  ? *(volatile uint64 *) &log_ring(model->log->shared, 0)->next_seq - 1
					  : reader_head(model->log, 0);
	uint64 seq;
	bool valid;

	if (!folding->looked_for_snapshot)
	{
		folding->load = snapshot_open(model, head);
		folding->looked_for_snapshot = true;
		count_errors(model);
	}
	if (!folding->load)
		return true;
	if (!snapshot_load(folding->load, model, deadline, &seq, &valid))
		return false;
	if (valid)
	{
		snapshot_close(folding->load);
		folding->load = NULL;
		pg_atomic_write_u64(&model->slot->folded_seq, seq);
		return true;
	}
	/* Damaged: from the beginning, with the one before or without. */
	load_begin(folding);
	return false;
}

/* Is the model as it should be, and its log's ring at hand?  Then no lock is needed to look there. */
static bool
ring_at_hand(const Model *model)
{
	return model->log && model->log->relid == model->relid && model->log->shared &&
		   pg_atomic_read_u32(&model->slot->phase) == MODEL_READY && nb_log_live(model->log) &&
		   pg_atomic_read_u32(&model->log->shared->folded);
}

/* Do some for a model.  Returns in how many milliseconds to come again; -1: when called. */
static long
fold_model(Folding *folding)
{
	Model *model = folding->model;
	int64 deadline = nb_now_us() + SLICE_US;
	int damaged = nb_damaged_frames;
	const char *table;
	uint64 to = 0;
	long next = -1;
	bool done;

	/* Without a transaction, if there is nothing to do. */
	if (ring_at_hand(model) && model->log->valid &&
		pg_atomic_read_u64(&log_ring(model->log->shared, 0)->stable_seq) <=
			pg_atomic_read_u64(&model->slot->folded_seq))
		return -1;

	aside = false;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!ConditionalLockRelationOid(model->relid, AccessShareLock))
	{
		uint64 from = pg_atomic_read_u64(&model->slot->folded_seq);

		done = false;
		next = LOCK_RETRY_MS;
		if (ring_at_hand(model))
			done = fold_and_tell(model, false, deadline, &to);
		if (done || to > from)
			pg_atomic_write_u32(&model->slot->refused, 0);
		else
			pg_atomic_write_u32(&model->slot->refused,
								pg_atomic_read_u32(&model->slot->refused) + 1);
	}
	else if ((table = get_rel_name(model->relid)) != NULL)
	{
		pg_atomic_write_u32(&model->slot->refused, 0);
		model->log = nb_log_open(table + strlen(LOG_TABLE_PREFIX), AccessShareLock, ACL_SELECT);
		pg_atomic_write_u32(&model->log->shared->folded, 1);
		pg_memory_barrier();
		nb_damaged_frames = NB_DAMAGED_SKIP;
		done = pg_atomic_read_u32(&model->slot->phase) == MODEL_READY ||
			   load_snapshot(folding, deadline);
		if (done)
		{
			done = fold_and_tell(model, true, deadline, &to);
			if (done && pg_atomic_read_u32(&model->slot->phase) != MODEL_READY)
				load_end(folding);
		}
		nb_damaged_frames = damaged;
		if (!done)
			next = 0;
		else if (!nb_log_live(model->log))
			next = COPY_POLL_MS;
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (aside)
		publish_folded(model->slot, to);
	aside = false;
	folding->retry_delay = 0;
	return next;
}

static int
next_delay(int delay)
{
	return Min(Max(delay * 2, MIN_RETRY_MS), MAX_RETRY_MS);
}

/* fold_model(), where an error costs only this model its turn. */
static long
fold_guarded(Folding *folding)
{
	MemoryContext context = CurrentMemoryContext;
	ModelSlot *slot = folding->model->slot;
	int damaged = nb_damaged_frames;
	volatile long next = -1;

	if (folding->retry_at > nb_now_us())
		return (folding->retry_at - nb_now_us()) / 1000 + 1;
	PG_TRY();
	{
		next = fold_model(folding);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		/* Nobody may look at half a change when the lock is gone. */
		if (pg_atomic_read_u32(&slot->changing))
			pg_atomic_write_u32(&slot->phase, MODEL_LOADING);
		(void) nb_worker_give_up(context);
		MemoryContextReset(event_context);
		nb_damaged_frames = damaged;
		aside = false;
		if (pg_atomic_read_u32(&slot->phase) != MODEL_READY)
			load_begin(folding);
		folding->retry_delay = next_delay(folding->retry_delay);
		folding->retry_at = nb_now_us() + (int64) folding->retry_delay * 1000;
		next = folding->retry_delay;
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return next;
}

/* snapshot_run(), where an error costs only the snapshot. */
static long
snapshot_guarded(Model **models, int n)
{
	static int64 retry_at = 0;
	static int retry_delay = 0;
	MemoryContext context = CurrentMemoryContext;
	volatile long next = -1;

	if (retry_at > nb_now_us())
		return (retry_at - nb_now_us()) / 1000 + 1;
	PG_TRY();
	{
		next = snapshot_run(models, n, nb_now_us() + SLICE_US);
		if (next != 0)
			retry_delay = 0; /* it is complete */
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		(void) nb_worker_give_up(context);
		next = retry_delay = next_delay(retry_delay);
		retry_at = nb_now_us() + (int64) retry_delay * 1000;
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return next;
}

/* The next call begins with this one. */
static void
begin_with(Folding *folding)
{
	Folding *first = foldings;
	Folding *before = foldings;
	Folding *last = folding;

	if (folding == first)
		return;
	while (before->next != folding)
		before = before->next;
	while (last->next)
		last = last->next;
	before->next = NULL;
	last->next = first;
	foldings = folding;
}

/* Find the models that came or went. */
static void
look(void)
{
	static bool complained = false;
	bool exhausted = false;
	ModelSlot *slots = model_slots();
	ModelRow *rows;
	int count;
	Folding **link;

	StartTransactionCommand();
	/* Whoever drops a model wakes us before his invalidations are sent: believe no cache. */
	InvalidateSystemCaches();
	rows = models_list(&count);
	for (int i = 0; i < count;)
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(rows[i].log)))
			i++;
		else
			rows[i] = rows[--count];

	for (int i = 0; i < model_max; i++)
	{
		Oid database = pg_atomic_read_u32(&slots[i].database);
		bool keep = database == InvalidOid;

		if (database == MyDatabaseId)
			for (int r = 0; r < count; r++)
				keep |= rows[r].log == slots[i].relid && rows[r].kind == slots[i].kind;
		else if (database != InvalidOid)
			keep = SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database));
		if (!keep)
		{
			for (link = &foldings; *link;)
			{
				Folding *folding = *link;

				if (folding->model->slot == &slots[i])
				{
					*link = folding->next;
					if (folding->load)
						snapshot_close(folding->load);
					pfree(folding);
				}
				else
					link = &folding->next;
			}
			model_free_slot(&slots[i]);
		}
	}
	for (int r = 0; r < count; r++)
	{
		ModelSlot *slot = model_find_slot(rows[r].log);
		bool known = false;
		Folding *folding;

		for (folding = foldings; folding; folding = folding->next)
			known |= folding->model->relid == rows[r].log;
		if (known)
			continue;
		if (!slot)
			slot = model_take_slot(rows[r].log, rows[r].kind);
		if (!slot)
		{
			/* Once, not whenever somebody asks for it. */
			if (!complained)
			{
				ereport(LOG, (errmsg("no slot for model \"%s\" of %s", rows[r].name,
									 model_kinds[rows[r].kind]->name),
							  errhint("Raise netbus.max_models and restart the server.")));
				nb_worker_note_error("there are more models than netbus.max_models");
			}
			exhausted = true;
			continue;
		}
		folding = MemoryContextAllocZero(TopMemoryContext, sizeof(Folding));
		folding->model = model_local(rows[r].log, rows[r].kind);
		folding->model->slot = slot;
		strlcpy(folding->model->name, rows[r].name, NAMEDATALEN);
		/* Our predecessor may have left something half done. */
		if (pg_atomic_read_u32(&slot->phase) != MODEL_READY || pg_atomic_read_u32(&slot->changing))
			load_begin(folding);
		else
			model_adopt(folding->model, slot);
		folding->next = foldings;
		foldings = folding;
	}
	complained = exhausted;
	CommitTransactionCommand();
}

static long
fold_run(void)
{
	static uint64 seen = 0;
	uint64 changes = model_changes();
	long next = -1;
	Model **models;
	int n = 0;
	int64 end = nb_now_us() + ROUND_US;
	MemoryContext context = CurrentMemoryContext;

	if (!event_context)
		event_context =
			AllocSetContextCreate(TopMemoryContext, "netbus event", ALLOCSET_DEFAULT_SIZES);
	if (changes != seen || nb_worker_draining)
	{
		look();
		MemoryContextSwitchTo(context);
		seen = changes;
	}
	if (nb_worker_draining)
		return -1;
	for (Folding *folding = foldings; folding; folding = folding->next)
	{
		long wait = fold_guarded(folding);

		next = next < 0 ? wait : wait < 0 ? next : Min(next, wait);
		if (folding->next && nb_now_us() > end)
		{
			begin_with(folding->next);
			next = 0;
			break;
		}
	}
	for (Folding *folding = foldings; folding; folding = folding->next)
		n++;
	if (n > 0)
	{
		long wait;

		models = palloc(sizeof(Model *) * n);
		n = 0;
		for (Folding *folding = foldings; folding; folding = folding->next)
			models[n++] = folding->model;
		wait = snapshot_guarded(models, n);
		next = next < 0 ? wait : wait < 0 ? next : Min(next, wait);
	}
	return next;
}

void
fold_init(void)
{
	static const NbWorkerJob job = {"models", fold_run, NULL, NULL};

	event_init();
	nb_worker_add_job(&job);
}
