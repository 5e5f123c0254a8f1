/*-------------------------------------------------------------------------
 *
 * watch_shared.c
 *		What all processes see of watches: counters, and deltas for those who pull.
 *
 * A dshash table in a DSA area that begins in the main segment, bounded by
 * netbus.watch_memory.  Entries are made when the worker of a database first has a watch, and
 * stay for as long as there is the watch, whatever becomes of the worker: that is
 * how its successor knows what it need not tell again, and what was lost.
 *
 * Locks: the partition locks of dshash, tranche netbus_watch.  They are held for the
 * copying of deltas at the most.  What the worker writes without a lock, and
 * why it may, is said in watch.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "watch/watch.h"

#include "access/xlogrecovery.h"
#include "lib/dshash.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define AREA_SIZE    (256 * 1024)
#define WAITERS_SETS 16

/* In the main segment; constant after startup, but for the atomics.  The sets of waiters and the DSA area follow. */
typedef struct WatchesShared
{
	dshash_table_handle handle;
	int tranche;
	pg_atomic_uint64 began;    /* a TimestampTz */
	pg_atomic_uint32 promoted; /* 1: that is when the server was promoted */
	pg_atomic_uint64 changes;  /* transactions that have changed watches, plus 1 */
	Size waiters_off;
	Size area_off;
} WatchesShared;

int watch_max_per_role = 1000;
int watch_buffer = 256;
int watch_memory = 64;
int watch_idle_timeout = 600;

static WatchesShared *watches = NULL;
static dsa_area *area = NULL;
static dshash_table *table = NULL;

/* ---------------------------------------------------------- shared memory */

static Size
waiters_stride(void)
{
	return CACHELINEALIGN(nb_waiters_size());
}

static Size
waiters_offset(void)
{
	return CACHELINEALIGN(sizeof(WatchesShared));
}

static Size
area_offset(void)
{
	return add_size(waiters_offset(), mul_size(WAITERS_SETS, waiters_stride()));
}

Size
nb_watch_shmem_size(void)
{
	return add_size(area_offset(), AREA_SIZE);
}

void
nb_watch_shmem_request(void)
{
	RequestAddinShmemSpace(nb_watch_shmem_size());
	RequestNamedLWLockTranche("netbus_watch", 1);
}

static dshash_parameters
table_params(void)
{
	dshash_parameters params = {sizeof(WatchKey), sizeof(WatchShared), NB_DSHASH_BINARY, 0};

	params.tranche_id = watches->tranche;
	return params;
}

/* Under AddinShmemInitLock, in the postmaster. */
void
nb_watch_shmem_init(void)
{
	dshash_parameters params;
	dsa_area *made;
	dshash_table *made_table;
	bool found;

	watches = ShmemInitStruct("netbus watches", nb_watch_shmem_size(), &found);
	if (found)
		return;
	memset(watches, 0, sizeof(WatchesShared));
	watches->tranche = GetNamedLWLockTranche("netbus_watch")->lock.tranche;
	pg_atomic_init_u64(&watches->began, GetCurrentTimestamp());
	pg_atomic_init_u32(&watches->promoted, 0);
	pg_atomic_init_u64(&watches->changes, 1);
	watches->waiters_off = waiters_offset();
	watches->area_off = area_offset();
	for (int i = 0; i < WAITERS_SETS; i++)
		nb_waiters_init(watch_waiters(i));

	/* The postmaster cannot map DSM: keep the table's start in this area. */
	params = table_params();
	made =
		dsa_create_in_place((char *) watches + watches->area_off, AREA_SIZE, watches->tranche, 0);
	dsa_pin(made);
	dsa_set_size_limit(made, AREA_SIZE);
	made_table = dshash_create(made, &params, NULL);
	watches->handle = dshash_get_hash_table_handle(made_table);
	dsa_set_size_limit(made, (Size) watch_memory * 1024 * 1024);
	dshash_detach(made_table);
	dsa_detach(made);
}

void
watch_shared_attach(void)
{
	dshash_parameters params;
	MemoryContext old;

	if (table)
		return;
	nb_require_preload();
	params = table_params();
	old = MemoryContextSwitchTo(TopMemoryContext);
	if (!area)
	{
		area = dsa_attach_in_place((char *) watches + watches->area_off, NULL);
		dsa_pin_mapping(area);
	}
	table = dshash_attach(area, &params, watches->handle, NULL);
	MemoryContextSwitchTo(old);
}

dsa_area *
watch_area(void)
{
	return area;
}

NbWaiters *
watch_waiters(int64 id)
{
	return (NbWaiters *) ((char *) watches + watches->waiters_off +
						  (uint64) id % WAITERS_SETS * waiters_stride());
}

TimestampTz
watch_life_began(void)
{
	return pg_atomic_read_u64(&watches->began);
}

void
watch_note_promotion(void)
{
	if (!PromoteIsTriggered() || pg_atomic_read_u32(&watches->promoted))
		return;
	pg_atomic_write_u64(&watches->began, GetCurrentTimestamp());
	pg_atomic_write_u32(&watches->promoted, 1);
}

uint64
watch_changes(void)
{
	return pg_atomic_read_u64(&watches->changes);
}

void
watch_note_change(void)
{
	if (!watches)
		return;
	pg_atomic_fetch_add_u64(&watches->changes, 1);
	nb_worker_wake(MyDatabaseId);
}

/* ---------------------------------------------------------------- entries */

static WatchKey
key_of(int64 id)
{
	WatchKey key = {.id = id, .database = MyDatabaseId};

	return key;
}

WatchShared *
watch_shared_find(int64 id, bool exclusive)
{
	WatchKey key = key_of(id);

	watch_shared_attach();
	return dshash_find(table, &key, exclusive);
}

void
watch_shared_release(WatchShared *shared)
{
	dshash_release_lock(table, shared);
}

static bool
is_of(const WatchShared *shared, const WatchRow *row)
{
	return shared->log == row->log && shared->created == row->created;
}

WatchShared *
watch_shared_of(const WatchRow *row, bool exclusive)
{
	WatchShared *shared = watch_shared_find(row->id, exclusive);

	if (!shared || is_of(shared, row))
		return shared;
	watch_shared_release(shared);
	return NULL;
}

bool
watch_shared_keep_deltas(WatchShared *shared)
{
	uint32 size = watch_buffer * 1024;
	dsa_pointer ring;

	if (DsaPointerIsValid(dsa_pointer_atomic_read(&shared->deltas)))
		return true;
	ring = dsa_allocate_extended(area, delta_ring_bytes(size), DSA_ALLOC_NO_OOM | DSA_ALLOC_HUGE);
	if (!DsaPointerIsValid(ring))
		return false;
	/* What it begins with the caller says when he knows. */
	delta_init(dsa_get_address(area, ring), size, PG_UINT64_MAX);
	pg_write_barrier();
	dsa_pointer_atomic_write(&shared->deltas, ring);
	nb_worker_wake(MyDatabaseId); /* who has to look when it is idle */
	return true;
}

void
watch_shared_drop_deltas(WatchShared *shared)
{
	dsa_pointer ring = dsa_pointer_atomic_read(&shared->deltas);

	if (!DsaPointerIsValid(ring))
		return;
	dsa_pointer_atomic_write(&shared->deltas, InvalidDsaPointer);
	dsa_free(area, ring);
}

static void
free_details(WatchShared *shared)
{
	watch_shared_drop_deltas(shared);
	if (DsaPointerIsValid(shared->positions))
		dsa_free(area, shared->positions);
	shared->positions = InvalidDsaPointer;
}

static void
init_entry(WatchShared *shared, const WatchRow *row)
{
	shared->log = row->log;
	shared->created = row->created;
	pg_atomic_init_u32(&shared->active, 0);
	pg_atomic_init_u32(&shared->pending, 0);
	pg_atomic_init_u64(&shared->matches, 0);
	pg_atomic_init_u64(&shared->notifications, 0);
	pg_atomic_init_u64(&shared->coalesced, 0);
	pg_atomic_init_u64(&shared->overflows, 0);
	pg_atomic_init_u64(&shared->resyncs, 0);
	pg_atomic_init_u64(&shared->errors, 0);
	pg_atomic_init_u64(&shared->notified_at, 0);
	shared->error_at = 0;
	shared->last_error[0] = '\0';
	dsa_pointer_atomic_init(&shared->deltas, InvalidDsaPointer);
	pg_atomic_init_u64(&shared->pulled_at, 0);
	pg_atomic_init_u64(&shared->wanted_until, 0);
	shared->shards = 0;
	shared->positions = InvalidDsaPointer;
}

WatchShared *
watch_shared_make(const WatchRow *row, bool *existed)
{
	WatchKey key = key_of(row->id);
	WatchShared *shared;

	watch_shared_attach();
	shared = dshash_find_or_insert(table, &key, existed);
	if (*existed && !is_of(shared, row))
	{
		free_details(shared);
		*existed = false;
	}
	if (!*existed)
		init_entry(shared, row);
	dshash_release_lock(table, shared);
	return shared;
}

void
watch_shared_remove(int64 id)
{
	WatchShared *shared = watch_shared_find(id, true);

	if (!shared)
		return;
	free_details(shared);
	dshash_delete_entry(table, shared);
	(void) nb_waiters_wake(watch_waiters(id));
}

void
watch_shared_reap(bool (*known_watch)(int64 id))
{
	dshash_seq_status scan;
	WatchShared *shared;
	Oid *gone = NULL;
	int ngone = 0;
	Oid last = MyDatabaseId;

	/* No catalog is read under a lock. */
	watch_shared_attach();
	dshash_seq_init(&scan, table, false);
	while ((shared = dshash_seq_next(&scan)) != NULL)
	{
		bool known = shared->key.database == last || shared->key.database == MyDatabaseId;

		for (int i = 0; i < ngone && !known; i++)
			known = gone[i] == shared->key.database;
		last = shared->key.database;
		if (known)
			continue;
		if (ngone % 32 == 0)
			gone = gone ? repalloc(gone, (ngone + 32) * sizeof(Oid)) : palloc(32 * sizeof(Oid));
		gone[ngone++] = shared->key.database;
	}
	dshash_seq_term(&scan);

	for (int i = 0; i < ngone;)
		if (SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(gone[i])))
			gone[i] = gone[--ngone];
		else
			i++;
	dshash_seq_init(&scan, table, true);
	while ((shared = dshash_seq_next(&scan)) != NULL)
	{
		bool remove = shared->key.database == MyDatabaseId && !known_watch(shared->key.id);

		for (int i = 0; i < ngone && !remove; i++)
			remove = gone[i] == shared->key.database;
		if (!remove)
			continue;
		free_details(shared);
		dshash_delete_current(&scan);
	}
	dshash_seq_term(&scan);
}

/* --------------------------------------------------------------- settings */

static void
assign_memory(int megabytes, void *extra)
{
	if (area)
		dsa_set_size_limit(area, (Size) megabytes * 1024 * 1024);
}

static void
define_settings(void)
{
	DefineCustomIntVariable("netbus.max_watches_per_role",
							"Sets the maximum number of watches that a role may own in a database.",
							NULL, &watch_max_per_role, 1000, 0, 1000000, PGC_SUSET, 0, NULL, NULL,
							NULL);
	DefineCustomIntVariable(
		"netbus.watch_buffer",
		"Sets the memory in which the changes of a watch are kept for those who pull them.",
		"Used by watches on which netbus.watch_next() has been called.", &watch_buffer, 256, 16,
		64 * 1024, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"netbus.watch_memory", "Sets the shared memory that the watches of all databases may take.",
		NULL, &watch_memory, 64, 2, 16 * 1024, PGC_SIGHUP, GUC_UNIT_MB, NULL, assign_memory, NULL);
	DefineCustomIntVariable(
		"netbus.watch_idle_timeout",
		"Sets how long the changes of a watch are kept after they were last pulled.", NULL,
		&watch_idle_timeout, 600, 1, 24 * 3600, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
}

void
nb_watch_init(void)
{
	define_settings();
	watch_ddl_init();
	watch_job_init();
	nb_stats_add("watch", watch_stats_reset);
}
