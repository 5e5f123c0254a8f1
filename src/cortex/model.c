/*-------------------------------------------------------------------------
 *
 * model.c
 *		Models in shared memory: slots, memory, lock, and waiting for the fold.
 *
 * A slot in the main segment stands for a model; its records are in extents,
 * DSM segments of 1 MB blocks that the worker adds as the state grows, each
 * an eighth of what there is, so that there are few of them and little is
 * unused.  A process maps extents when it first needs them, and lets go of those
 * of a state that is no more with the next transaction that it commits, whatever that
 * does.
 *
 * Readers share the model's LWLock with each other; the worker takes it
 * exclusively for each change.  Both hold it for microseconds, so both try a while
 * before they sleep; and because shared holders overtake an exclusive waiter, the
 * worker says that it waits, and readers hold back.
 *
 * Locks: the slots lock (netbus_models) for taking and freeing slots; a slot's
 * lock (netbus_model).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cortex/model.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_bitutils.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"

#define FIRST_EXTENT_BLOCKS 1
#define MAX_EXTENT_BLOCKS   1024
#define LOCK_SPINS          2000

typedef struct CortexShared
{
	LWLock *slots_lock;
	LWLockPadded *locks;         /* one a slot */
	pg_atomic_uint64 changes;    /* models created or dropped, plus 1 */
	pg_atomic_uint32 generation; /* last one given to a state */
	pg_atomic_uint32 resets;     /* states that are no more */
	pg_atomic_uint64 last_id;    /* milliseconds and counter, see model_new_id() */
	uint32 node;                 /* constant: of ids */
	Size slots_off;
} CortexShared;

int model_max = 64;
int model_memory = 1024;
int model_snapshot_interval = 300;
int model_snapshot_events = 100000;
int model_node_id = -1;
int model_read_consistency = READ_COMMITTED_EVENTS;

static const struct config_enum_entry read_consistency_options[] = {
	{"committed", READ_COMMITTED_EVENTS, false},
	{"session", READ_SESSION_EVENTS, false},
	{"none", READ_NOW, false},
	{NULL, 0, false}};

static CortexShared *cortex = NULL;
static HTAB *models = NULL;    /* Model by relid */
static uint32 seen_resets = 0; /* up to which mappings have been looked at */

#define slot_at(i) ((ModelSlot *) ((char *) cortex + cortex->slots_off) + (i))

/* ---------------------------------------------------------- shared memory */

static Size
slots_size(void)
{
	return add_size(CACHELINEALIGN(sizeof(CortexShared)), mul_size(model_max, sizeof(ModelSlot)));
}

Size
nb_cortex_shmem_size(void)
{
	return add_size(CACHELINEALIGN(slots_size()), await_shmem_size());
}

void
nb_cortex_shmem_request(void)
{
	RequestAddinShmemSpace(nb_cortex_shmem_size());
	RequestNamedLWLockTranche("netbus_models", 1);
	RequestNamedLWLockTranche("netbus_model", model_max);
}

/* Under AddinShmemInitLock, in the postmaster. */
void
nb_cortex_shmem_init(void)
{
	bool found;
	Size size = slots_size();

	await_shmem_init();
	cortex = ShmemInitStruct("netbus models", size, &found);
	if (found)
		return;
	memset(cortex, 0, size);
	cortex->slots_off = CACHELINEALIGN(sizeof(CortexShared));
	cortex->slots_lock = &GetNamedLWLockTranche("netbus_models")->lock;
	cortex->locks = GetNamedLWLockTranche("netbus_model");
	pg_atomic_init_u64(&cortex->changes, 1);
	pg_atomic_init_u32(&cortex->generation, 0);
	pg_atomic_init_u32(&cortex->resets, 0);
	pg_atomic_init_u64(&cortex->last_id, 0);
	cortex->node = PG_UINT32_MAX;
	for (int i = 0; i < model_max; i++)
	{
		ModelSlot *slot = slot_at(i);

		pg_atomic_init_u32(&slot->database, InvalidOid);
		pg_atomic_init_u32(&slot->phase, MODEL_LOADING);
		pg_atomic_init_u32(&slot->changing, 0);
		pg_atomic_init_u32(&slot->writer_waits, 0);
		pg_atomic_init_u64(&slot->folded_seq, 0);
		pg_atomic_init_u64(&slot->deletes_to, 0);
		pg_atomic_init_u32(&slot->deleting, 0);
		pg_atomic_init_u32(&slot->refused, 0);
		pg_atomic_init_u64(&slot->promised, 0);
		pg_atomic_init_u64(&slot->observed_seq, 0);
		pg_atomic_init_u64(&slot->first_wanted, PG_UINT64_MAX);
		pg_atomic_init_u64(&slot->events, 0);
		pg_atomic_init_u64(&slot->events_before, 0);
		pg_atomic_init_u64(&slot->noops, 0);
		pg_atomic_init_u64(&slot->errors, 0);
		pg_atomic_init_u64(&slot->lost, 0);
		pg_atomic_init_u64(&slot->snapshot_seq, 0);
		pg_atomic_init_u64(&slot->snapshot_at, 0);
		pg_atomic_init_u32(&slot->snapshot_wanted, 0);
		slot->first_waiter = slot->last_waiter = -1;
	}
}

ModelSlot *
model_slots(void)
{
	return slot_at(0);
}

static inline int
slot_index(const ModelSlot *slot)
{
	return slot - slot_at(0);
}

LWLock *
model_lock_of(const ModelSlot *slot)
{
	return &cortex->locks[slot_index(slot)].lock;
}

uint64
model_changes(void)
{
	return pg_atomic_read_u64(&cortex->changes);
}

/* Models have come or gone: the worker has to look.  Cannot fail. */
void
model_note_change(void)
{
	if (!cortex)
		return;
	pg_atomic_fetch_add_u64(&cortex->changes, 1);
	nb_worker_wake(MyDatabaseId);
}

/* The slot of a model of this database; NULL: it has none. */
ModelSlot *
model_find_slot(Oid relid)
{
	for (int i = 0; i < model_max; i++)
	{
		ModelSlot *slot = slot_at(i);

		if (pg_atomic_read_u32(&slot->database) != MyDatabaseId)
			continue;
		pg_read_barrier();
		if (*(volatile Oid *) &slot->relid != relid)
			continue;
		/* It may have changed hands meanwhile, to a copy of this database. */
		pg_read_barrier();
		if (pg_atomic_read_u32(&slot->database) == MyDatabaseId)
			return slot;
	}
	return NULL;
}

/* Find the slot, if there is one by now. */
bool
model_has_slot(Model *model)
{
	if (!model->slot || model->slot->relid != model->relid ||
		pg_atomic_read_u32(&model->slot->database) != MyDatabaseId)
		model->slot = model_find_slot(model->relid);
	return model->slot != NULL;
}

bool
model_has_free_slot(void)
{
	for (int i = 0; i < model_max; i++)
		if (pg_atomic_read_u32(&slot_at(i)->database) == InvalidOid)
			return true;
	return false;
}

void
model_slots_exhausted(void)
{
	ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("too many models"),
					errdetail("netbus.max_models (%d) limits those of all databases.", model_max),
					errhint("Drop some, or raise netbus.max_models and restart the server.")));
}

/* Forget all records.  By the worker. */
void
model_reset(ModelSlot *slot)
{
	LWLockAcquire(model_lock_of(slot), LW_EXCLUSIVE);
	pg_atomic_write_u32(&slot->phase, MODEL_LOADING);
	pg_atomic_write_u32(&slot->changing, 0);
	pg_atomic_write_u64(&slot->folded_seq, 0);
	pg_atomic_write_u64(&slot->events_before, 0);
	pg_atomic_write_u64(&slot->events, 0);
	pg_atomic_write_u64(&slot->noops, 0);
	pg_atomic_write_u64(&slot->lost, 0);
	slot->generation = pg_atomic_add_fetch_u32(&cortex->generation, 1);
	for (int i = 0; i < slot->nextents; i++)
		dsm_unpin_segment(slot->extents[i]);
	slot->nextents = 0;
	state_init(&slot->state);
	LWLockRelease(model_lock_of(slot));
	pg_atomic_fetch_add_u32(&cortex->resets, 1);
}

/* A slot for a model of this database.  By its worker.  NULL: there is none free. */
ModelSlot *
model_take_slot(Oid relid, int kind)
{
	ModelSlot *slot = NULL;

	LWLockAcquire(cortex->slots_lock, LW_EXCLUSIVE);
	for (int i = 0; i < model_max && !slot; i++)
		if (pg_atomic_read_u32(&slot_at(i)->database) == InvalidOid)
			slot = slot_at(i);
	if (slot)
	{
		slot->relid = relid;
		slot->kind = kind;
		slot->applied_seq = 0;
		pg_atomic_write_u64(&slot->observed_seq, 0);
		pg_atomic_write_u64(&slot->deletes_to, 0);
		pg_atomic_write_u32(&slot->refused, 0);
		pg_atomic_write_u64(&slot->promised, 0);
		pg_atomic_write_u64(&slot->errors, 0);
		pg_atomic_write_u64(&slot->snapshot_seq, 0);
		pg_atomic_write_u64(&slot->snapshot_at, 0);
		pg_atomic_write_u32(&slot->snapshot_wanted, 0);
		model_reset(slot);
		pg_write_barrier();
		pg_atomic_write_u32(&slot->database, MyDatabaseId);
	}
	LWLockRelease(cortex->slots_lock);
	return slot;
}

void
model_free_slot(ModelSlot *slot)
{
	LWLockAcquire(cortex->slots_lock, LW_EXCLUSIVE);
	model_reset(slot);
	slot->relid = InvalidOid;
	pg_write_barrier();
	pg_atomic_write_u32(&slot->database, InvalidOid);
	LWLockRelease(cortex->slots_lock);
}

/* Of a database that is being dropped: its worker is gone. */
void
model_free_slots(Oid database)
{
	for (int i = 0; cortex && i < model_max; i++)
		if (pg_atomic_read_u32(&slot_at(i)->database) == database)
			model_free_slot(slot_at(i));
}

/* Bytes that the models of this database take. */
uint64
model_bytes_used(void)
{
	uint64 used = 0;

	for (int i = 0; i < model_max; i++)
		if (pg_atomic_read_u32(&slot_at(i)->database) == MyDatabaseId)
			used += *(volatile uint64 *) &slot_at(i)->state.arena.used +
					pg_atomic_read_u64(&slot_at(i)->promised);
	return used;
}

/* ---------------------------------------------------------------- mapping */

static void unmap(Model *model);

/* Models whose logs are gone.  In a transaction. */
static void
forget_dropped(void)
{
	HASH_SEQ_STATUS status;
	Model *model;

	hash_seq_init(&status, models);
	while ((model = hash_seq_search(&status)) != NULL)
	{
		if (model->written || SearchSysCacheExists1(RELOID, ObjectIdGetDatum(model->relid)))
			continue;
		unmap(model);
		if (model->blocks)
			pfree(model->blocks);
		(void) hash_search(models, &model->relid, HASH_REMOVE, NULL);
	}
}

Model *
model_local(Oid relid, int kind)
{
	Model *model;
	bool found;

	if (!models)
	{
		HASHCTL ctl = {
			.keysize = sizeof(Oid), .entrysize = sizeof(Model), .hcxt = TopMemoryContext};

		models = hash_create("netbus models", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	model = hash_search(models, &relid, HASH_FIND, NULL);
	if (!model)
	{
		forget_dropped();
		model = hash_search(models, &relid, HASH_ENTER, &found);
		memset((char *) model + sizeof(Oid), 0, sizeof(Model) - sizeof(Oid));
		model->kind = model_kinds[kind];
		model->state.schema = &model->kind->schema;
	}
	return model;
}

static void
unmap(Model *model)
{
	for (int i = 0; i < model->nmapped; i++)
		dsm_detach(model->segments[i]);
	model->nmapped = 0;
	model->state.map.nmapped = 0;
}

static void
add_mapping(Model *model, dsm_segment *segment, uint32 nblocks)
{
	ArenaMap *map = &model->state.map;

	dsm_pin_mapping(segment);
	if (map->nmapped + nblocks > model->max_blocks)
	{
		uint32 room = pg_nextpower2_32(Max(64, map->nmapped + nblocks));

		model->blocks = model->blocks
							? repalloc_huge(model->blocks, room * sizeof(char *))
							: MemoryContextAllocHuge(TopMemoryContext, room * sizeof(char *));
		model->max_blocks = room;
		map->blocks = model->blocks;
	}
	arena_map(map, dsm_segment_address(segment), nblocks);
	model->segments[model->nmapped++] = segment;
}

/*
 * Let go of states that are no more, so that their memory can be given back.  It
 * costs a look at a counter, unless models have been dropped or built anew.
 */
static void
mapping_xact_callback(XactEvent event, void *arg)
{
	HASH_SEQ_STATUS status;
	Model *model;
	uint32 resets;

	if (event != XACT_EVENT_PRE_COMMIT || !models)
		return;
	resets = pg_atomic_read_u32(&cortex->resets);
	if (likely(resets == seen_resets))
		return;
	hash_seq_init(&status, models);
	while ((model = hash_seq_search(&status)) != NULL)
		if (model->nmapped > 0 &&
			*(volatile uint32 *) &model->slot->generation != model->generation)
			unmap(model);
	seen_resets = resets;
}

/* Is it mapped as it is?  Under the lock. */
static inline bool
is_mapped(const Model *model)
{
	return model->generation == model->slot->generation && model->nmapped == model->slot->nextents;
}

/* Map what is there.  Not under the lock. */
static void
map_extents(Model *model)
{
	ModelSlot *slot = model->slot;
	dsm_handle handles[MODEL_EXTENTS];
	uint32 blocks[MODEL_EXTENTS];
	uint32 generation;
	int n;

	LWLockAcquire(model_lock_of(slot), LW_SHARED);
	generation = slot->generation;
	n = slot->nextents;
	memcpy(handles, slot->extents, n * sizeof(dsm_handle));
	memcpy(blocks, slot->extent_blocks, n * sizeof(uint32));
	LWLockRelease(model_lock_of(slot));

	if (generation != model->generation)
	{
		unmap(model);
		model->generation = generation;
	}
	model->state.shared = &slot->state;
	model->state.map.arena = &slot->state.arena;
	for (int i = model->nmapped; i < n; i++)
	{
		dsm_segment *segment = dsm_attach(handles[i]);

		if (!segment)
			return; /* gone meanwhile: the caller looks again */
		add_mapping(model, segment, blocks[i]);
	}
}

/* Error context: why a model could not grow. */
static void
grow_error_callback(void *arg)
{
	Model *model = arg;

	errcontext("allocating memory for model \"%s\" of %s", model->name, model->kind->name);
	if (geterrcode() == ERRCODE_INSUFFICIENT_RESOURCES)
		errhint("Models use some dynamic shared memory segments each, whose number grows with "
				"max_connections.");
	else if (geterrcode() == ERRCODE_OUT_OF_MEMORY || geterrcode() == ERRCODE_DISK_FULL)
		errhint("Enlarge the server's /dev/shm, or lower netbus.model_memory.");
}

/* Of the worker: another extent for at least that many bytes.  Not within a change. */
static void
grow(ArenaMap *map, size_t bytes)
{
	Model *model = (Model *) ((char *) map - offsetof(Model, state.map));
	ModelSlot *slot = model->slot;
	uint32 nblocks = Max(bytes / ARENA_BLOCK + 1, map->arena->nblocks / 8);
	ErrorContextCallback context;
	dsm_segment *segment;

	nblocks = Max(nblocks, FIRST_EXTENT_BLOCKS);
	if (nblocks > MAX_EXTENT_BLOCKS && bytes < (Size) MAX_EXTENT_BLOCKS * ARENA_BLOCK)
		nblocks = MAX_EXTENT_BLOCKS;
	if (slot->nextents == MODEL_EXTENTS || map->arena->nblocks + nblocks > ARENA_MAX_BLOCKS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("model \"%s\" of %s is too large", model->name, model->kind->name)));
	context.callback = grow_error_callback;
	context.arg = model;
	context.previous = error_context_stack;
	error_context_stack = &context;
	segment = dsm_create((Size) nblocks * ARENA_BLOCK, 0);
	error_context_stack = context.previous;
	add_mapping(model, segment, nblocks);
	dsm_pin_segment(segment);

	LWLockAcquire(model_lock_of(slot), LW_EXCLUSIVE);
	slot->extents[slot->nextents] = dsm_segment_handle(segment);
	slot->extent_blocks[slot->nextents++] = nblocks;
	arena_add(map, nblocks);
	LWLockRelease(model_lock_of(slot));
}

/* ------------------------------------------------------------------- lock */

/* Readers hold the lock for less time than going to sleep and being woken takes. */
static void
acquire_exclusive(ModelSlot *slot)
{
	LWLock *lock = model_lock_of(slot);

	if (LWLockConditionalAcquire(lock, LW_EXCLUSIVE))
		return;
	pg_atomic_write_u32(&slot->writer_waits, 1);
	for (int spins = 0;; spins++)
	{
		if (spins == LOCK_SPINS)
		{
			LWLockAcquire(lock, LW_EXCLUSIVE);
			break;
		}
		pg_spin_delay();
		if (LWLockConditionalAcquire(lock, LW_EXCLUSIVE))
			break;
	}
	pg_atomic_write_u32(&slot->writer_waits, 0);
}

/* Of the worker: keep readers out. */
static void
enter(State *state)
{
	Model *model = (Model *) ((char *) state - offsetof(Model, state));

	acquire_exclusive(model->slot);
	pg_atomic_write_u32(&model->slot->changing, 1);
	pg_write_barrier();
}

static void
leave(State *state)
{
	Model *model = (Model *) ((char *) state - offsetof(Model, state));

	debug_point("fold_change");
	/* After an error events may be folded again. */
	if (model->event_seq > model->slot->applied_seq)
		model->slot->applied_seq = model->event_seq;
	pg_write_barrier();
	pg_atomic_write_u32(&model->slot->changing, 0);
	LWLockRelease(model_lock_of(model->slot));
}

void
model_adopt(Model *model, ModelSlot *slot)
{
	model->slot = slot;
	do
		map_extents(model);
	while (!is_mapped(model));
	model->state.map.grow = grow;
	model->state.enter = enter;
	model->state.leave = leave;
}

static void
acquire_shared(ModelSlot *slot)
{
	LWLock *lock = model_lock_of(slot);

	for (int spins = 0; spins < LOCK_SPINS; spins++)
	{
		if (pg_atomic_read_u32(&slot->writer_waits) == 0 &&
			LWLockConditionalAcquire(lock, LW_SHARED))
			return;
		pg_spin_delay();
	}
	LWLockAcquire(lock, LW_SHARED);
}

void
model_lock(Model *model)
{
	for (;;)
	{
		ModelSlot *slot = model->slot;

		acquire_shared(slot);
		if (likely(is_mapped(model) && slot->relid == model->relid &&
				   pg_atomic_read_u32(&slot->phase) == MODEL_READY))
			return;
		LWLockRelease(model_lock_of(slot));
		CHECK_FOR_INTERRUPTS();
		if (slot->relid != model->relid || pg_atomic_read_u32(&slot->database) != MyDatabaseId ||
			pg_atomic_read_u32(&slot->phase) != MODEL_READY)
			(void) model_await(model);
		else
			map_extents(model);
	}
}

void
model_unlock(Model *model)
{
	LWLockRelease(model_lock_of(model->slot));
}

/* -------------------------------------------------------------------- ids */

#define ID_EPOCH_MS     INT64CONST(1577836800000) /* 2020-01-01 */
#define ID_COUNTER_BITS 10
#define ID_NODE_BITS    12

/*
 * An id: 41 bits of milliseconds since 2020, 10 bits that count within one, and 12
 * bits of the node.  If more are needed in a millisecond it takes the next.
 */
int64
model_new_id(void)
{
	uint64 now = (uint64) (nb_now_us() / 1000 - ID_EPOCH_MS) << ID_COUNTER_BITS;
	uint64 last = pg_atomic_read_u64(&cortex->last_id);
	uint64 next;

	if (unlikely(cortex->node == PG_UINT32_MAX))
	{
		uint64 identity[2] = {GetSystemIdentifier(), GetWALInsertionTimeLine()};

		cortex->node = model_node_id >= 0
						   ? model_node_id
						   : nb_hash64(identity, sizeof(identity), 0) >> (64 - ID_NODE_BITS);
	}
	do
		next = Max(last + 1, now);
	while (!pg_atomic_compare_exchange_u64(&cortex->last_id, &last, next));
	return (int64) (next << ID_NODE_BITS | cortex->node);
}

/* --------------------------------------------------------------- settings */

static void
define_settings(void)
{
	DefineCustomIntVariable("netbus.max_models",
							"Sets the maximum number of models of all databases.", NULL, &model_max,
							64, 1, 1000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"netbus.model_memory", "Sets the memory that the models of a database may take.",
		"At the limit what would need more is refused when it is called.", &model_memory, 1024, 1,
		32 * 1024, PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"netbus.read_consistency", "Selects what a query of a model waits for.",
		"With \"committed\" for all that was committed when it was called, with "
		"\"session\" for what this session has committed, with \"none\" for "
		"nothing.",
		&model_read_consistency, READ_COMMITTED_EVENTS, read_consistency_options, PGC_USERSET, 0,
		NULL, NULL, NULL);
	DefineCustomIntVariable("netbus.snapshot_interval",
							"Sets the least time between two snapshots of models.",
							"Zero turns them off.", &model_snapshot_interval, 300, 0, 24 * 3600,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("netbus.snapshot_events",
							"Sets the least number of events between two snapshots of models.",
							NULL, &model_snapshot_events, 100000, 1, INT_MAX, PGC_SIGHUP, 0, NULL,
							NULL, NULL);
	DefineCustomIntVariable("netbus.node_id", "Sets the node that is part of generated ids.",
							"-1 derives it from the server's system identifier and timeline.",
							&model_node_id, -1, -1, (1 << ID_NODE_BITS) - 1, PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
}

void
nb_cortex_init(void)
{
	define_settings();
	RegisterXactCallback(mapping_xact_callback, NULL);
	models_init();
	fold_init();
	scan_init();
	nb_stats_add("model", model_stats_reset);
}
