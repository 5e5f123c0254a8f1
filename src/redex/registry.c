/*-------------------------------------------------------------------------
 *
 * registry.c
 *		Which logs have rings in shared memory, and where.
 *
 * A dshash table in a DSA area inside the main shared memory segment, created
 * by the postmaster and attached by each process at first use (as the
 * statistics collector does it).  An entry says in which DSM segment a log's
 * rings are.  The catalog decides what logs there are; this is a cache of it,
 * keyed by database and table, with the log's incarnation to tell a new log
 * from a dropped one whose OID it got.
 *
 * An entry is made by whoever opens the log first, and removed when the
 * table is gone: the worker of the database is woken at the end of every
 * transaction that created or dropped a log, and reaps.  A log that is created
 * by a transaction still open is known to that transaction only, so its entry
 * carries the transaction id and the reaper leaves it alone until that ends.
 * Nobody else reaps the logs of a live database, for only the worker never has a
 * drop of its own that may be rolled back.  Entries of a dropped database are
 * reaped by the session that drops it, or by any that adds an entry.
 *
 * Locks: the partition locks of dshash, in tranche netbus_registry; no catalog
 * is read and no segment mapped while one is held.  Nothing here is called
 * after commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/redex_internal.h"

#include "access/transam.h"
#include "access/xact.h"
#include "lib/dshash.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/dsa.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#define REGISTRY_AREA_SIZE (256 * 1024)

/* In the main segment; constant after startup, but for the atomics.  The DSA area follows. */
typedef struct RegistryShared
{
	dshash_table_handle handle;
	int tranche;
	pg_atomic_uint64 changes; /* transactions that created or dropped a log, plus 1 */
	pg_atomic_uint64 version; /* entries that came or went, plus 1 */
} RegistryShared;

static RegistryShared *registry_shared = NULL;
static dsa_area *registry_area = NULL;
static dshash_table *registry = NULL;

#define registry_raw_area() ((char *) registry_shared + MAXALIGN(sizeof(RegistryShared)))

static dshash_parameters
registry_params(void)
{
	dshash_parameters params = {sizeof(RegistryKey), sizeof(RegistryEntry), NB_DSHASH_BINARY, 0};

	params.tranche_id = registry_shared->tranche;
	return params;
}

Size
nb_registry_shmem_size(void)
{
	return MAXALIGN(sizeof(RegistryShared)) + REGISTRY_AREA_SIZE;
}

/* Under AddinShmemInitLock, in the postmaster. */
void
nb_registry_shmem_init(void)
{
	bool found;

	registry_shared = ShmemInitStruct("netbus registry", nb_registry_shmem_size(), &found);
	if (!found)
	{
		dshash_parameters params;
		dsa_area *area;
		dshash_table *table;

		pg_atomic_init_u64(&registry_shared->changes, 1);
		pg_atomic_init_u64(&registry_shared->version, 1);
		registry_shared->tranche = GetNamedLWLockTranche("netbus_registry")->lock.tranche;
		params = registry_params();
		area = dsa_create_in_place(registry_raw_area(), REGISTRY_AREA_SIZE,
								   registry_shared->tranche, 0);
		dsa_pin(area);

		/* The postmaster cannot map DSM: keep the table's start in this area. */
		dsa_set_size_limit(area, REGISTRY_AREA_SIZE);
		table = dshash_create(area, &params, NULL);
		registry_shared->handle = dshash_get_hash_table_handle(table);
		dsa_set_size_limit(area, -1);
		dshash_detach(table);
		dsa_detach(area);
	}
}

/* Counts what makes a look at which logs there are worth while.  Cannot fail: callable after commit. */
uint64
nb_log_changes(void)
{
	return pg_atomic_read_u64(&registry_shared->changes);
}

void
registry_note_change(void)
{
	if (registry_shared)
		pg_atomic_fetch_add_u64(&registry_shared->changes, 1);
}

static void
registry_attach(void)
{
	dshash_parameters params;
	MemoryContext old;

	if (registry)
		return;
	nb_require_preload();
	params = registry_params();
	old = MemoryContextSwitchTo(TopMemoryContext);
	if (!registry_area)
	{
		registry_area = dsa_attach_in_place(registry_raw_area(), NULL);
		dsa_pin_mapping(registry_area);
	}
	registry = dshash_attach(registry_area, &params, registry_shared->handle, NULL);
	MemoryContextSwitchTo(old);
}

static RegistryKey
key_of(Oid relid)
{
	RegistryKey key = {MyDatabaseId, relid};

	return key;
}

/* Copy the entry of a log of this database.  False: it has no rings. */
bool
registry_find(Oid relid, RegistryEntry *entry)
{
	RegistryKey key = key_of(relid);
	RegistryEntry *found;

	registry_attach();
	found = dshash_find(registry, &key, false);
	if (!found)
		return false;
	*entry = *found;
	dshash_release_lock(registry, found);
	return true;
}

/* Add an entry; its segment is pinned.  False, and nothing done, if there is one already. */
bool
registry_insert(const RegistryEntry *entry)
{
	RegistryEntry *slot;
	bool found;

	slot = dshash_find_or_insert(registry, &entry->key, &found);
	if (!found)
		*slot = *entry;
	dshash_release_lock(registry, slot);
	if (!found)
		pg_atomic_fetch_add_u64(&registry_shared->version, 1);
	return !found;
}

/* Remove an entry, if it is still the same, and let go of its segment. */
void
registry_remove(const RegistryEntry *entry)
{
	RegistryEntry *found;

	registry_attach();
	found = dshash_find(registry, &entry->key, true);
	if (!found)
		return;
	if (found->handle == entry->handle)
	{
		dshash_delete_entry(registry, found);
		pg_atomic_fetch_add_u64(&registry_shared->version, 1);
		dsm_unpin_segment(entry->handle);
	}
	else
		dshash_release_lock(registry, found);
}

/* An entry that has come or gone raises it afterwards; none changes otherwise. */
uint64
registry_version(void)
{
	return pg_atomic_read_u64(&registry_shared->version);
}

/* Copies of all entries, of all databases, palloc'd. */
RegistryEntry *
registry_list(int *count)
{
	dshash_seq_status status;
	RegistryEntry *found;
	RegistryEntry *list;
	int room = 64;

	registry_attach();
	list = palloc(room * sizeof(RegistryEntry));
	*count = 0;
	dshash_seq_init(&status, registry, false);
	while ((found = dshash_seq_next(&status)) != NULL)
	{
		if (*count == room)
			list = repalloc(list, (room *= 2) * sizeof(RegistryEntry));
		list[(*count)++] = *found;
	}
	dshash_seq_term(&status);
	return list;
}

/*
 * Remove the entries of logs that are no more: of other databases, those whose
 * database is gone; with own_database, which only the worker passes because it
 * never has a drop of its own that may be rolled back, also those of this
 * database whose table is gone.  In a transaction.
 */
void
registry_reap(bool own_database)
{
	int count;
	RegistryEntry *list = registry_list(&count);

	for (int i = 0; i < count; i++)
	{
		RegistryEntry *entry = &list[i];
		bool exists;

		if (entry->key.database == MyDatabaseId && !own_database)
			continue;
		else if (entry->key.database != MyDatabaseId)
			exists = SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(entry->key.database));
		else if (TransactionIdIsValid(entry->creator) &&
				 (TransactionIdIsCurrentTransactionId(entry->creator) ||
				  TransactionIdIsInProgress(entry->creator)))
			continue;
		else
		{
			/* The creator may have ended after the snapshot of an earlier look-up was taken. */
			InvalidateCatalogSnapshot();
			exists = SearchSysCacheExists1(RELOID, ObjectIdGetDatum(entry->key.relid));
		}
		if (!exists)
			registry_remove(entry);
	}
	pfree(list);
}
