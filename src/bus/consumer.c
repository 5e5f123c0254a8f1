/*-------------------------------------------------------------------------
 *
 * consumer.c
 *		Consumers in shared memory, and as a process knows them.
 *
 * The catalog decides which consumers there are, and rows of two tables where
 * they are (progress.c).  Whoever is the first to use one after a start of the server
 * puts all that are missing into a DSA area in the main segment: a header with
 * one slot a shard.  From then on shared memory is ahead of the tables, by what
 * the filter has passed over.
 *
 * A consumer is found by walking its database's list, once in a process: Consumer,
 * the process's own record, keeps the pointer.  It is read again when
 * nb_log_generation has moved, which every change of a consumer causes through a
 * relcache invalidation of its log's table.
 *
 * Locks: consumers->lock (LWLock, tranche netbus_consumer) for lists, exclusively
 * to change them; no catalog is read under it.  A slot's spinlock for what is in the
 * slot.  Memory of consumers is not given back, but used again for others of
 * about as many shards, which bounds it by the most that there ever were.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/consumer.h"

#include "access/transam.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#define AREA_SIZE    (256 * 1024)
#define SIZE_CLASSES 9    /* 1, 2, 4, ... LOG_MAX_SHARDS shards */
#define MAX_KNOWN    4096 /* consumers that a process remembers */
#define MIN_RETRIES  16

/* In the main segment; constant after startup unless stated.  The DSA area follows. */
typedef struct ConsumersShared
{
	LWLock *lock;
	int tranche;
	dsa_pointer unused[SIZE_CLASSES]; /* lock; lists of ConsumerShared */
	int ndatabases;
	ConsumerDatabase databases[FLEXIBLE_ARRAY_MEMBER];
} ConsumersShared;

static ConsumersShared *consumers = NULL;
static dsa_area *area = NULL;
static ConsumerDatabase *my_database = NULL;
static HTAB *known = NULL; /* Consumer by ConsumerKey */

static Size
area_offset(void)
{
	/* As many as can have a worker, and some that are just being dropped. */
	return MAXALIGN(offsetof(ConsumersShared, databases) +
					(nb_max_databases + 4) * sizeof(ConsumerDatabase));
}

Size
nb_consumer_shmem_size(void)
{
	return area_offset() + AREA_SIZE;
}

/* Under AddinShmemInitLock, in the postmaster. */
void
nb_consumer_shmem_init(void)
{
	bool found;
	dsa_area *made;

	consumers = ShmemInitStruct("netbus consumers", nb_consumer_shmem_size(), &found);
	if (found)
		return;
	memset(consumers, 0, area_offset());
	consumers->lock = &GetNamedLWLockTranche("netbus_consumer")->lock;
	consumers->tranche = consumers->lock->tranche;
	consumers->ndatabases = nb_max_databases + 4;
	for (int i = 0; i < consumers->ndatabases; i++)
	{
		pg_atomic_init_u32(&consumers->databases[i].requests, 0);
		pg_atomic_init_u32(&consumers->databases[i].reap, 0);
		pg_atomic_init_u32(&consumers->databases[i].current, 0);
		pg_atomic_init_u32(&consumers->databases[i].rows, 0);
	}
	made =
		dsa_create_in_place((char *) consumers + area_offset(), AREA_SIZE, consumers->tranche, 0);
	dsa_pin(made);
	dsa_detach(made);
}

static void
attach(void)
{
	MemoryContext old;

	if (area)
		return;
	nb_require_preload();
	old = MemoryContextSwitchTo(TopMemoryContext);
	area = dsa_attach_in_place((char *) consumers + area_offset(), NULL);
	dsa_pin_mapping(area);
	MemoryContextSwitchTo(old);
}

static inline ConsumerShared *
shared_at(dsa_pointer pointer)
{
	return dsa_get_address(area, pointer);
}

/* Take a consumer off a list, by the link that leads to it, and keep it for another.  Under the lock. */
static void
recycle(dsa_pointer *link)
{
	dsa_pointer pointer = *link;
	ConsumerShared *shared = shared_at(pointer);

	*link = shared->next;
	pg_atomic_write_u64(&shared->id, 0);
	shared->next = consumers->unused[shared->size_class];
	consumers->unused[shared->size_class] = pointer;
}

ConsumerDatabase *
consumer_database(void)
{
	ConsumerDatabase *unused = NULL;

	attach();
	if (likely(my_database && my_database->database == MyDatabaseId))
		return my_database;

	LWLockAcquire(consumers->lock, LW_EXCLUSIVE);
	my_database = NULL;
	for (int i = 0; i < consumers->ndatabases && !my_database; i++)
	{
		ConsumerDatabase *d = &consumers->databases[i];

		if (d->database == MyDatabaseId)
			my_database = d;
		else if (!OidIsValid(d->database) && !unused)
			unused = d;
	}
	if (!my_database && unused)
	{
		unused->database = MyDatabaseId;
		unused->first = InvalidDsaPointer;
		pg_atomic_write_u32(&unused->requests, 0);
		pg_atomic_write_u32(&unused->reap, 0);
		pg_atomic_write_u32(&unused->current, 0);
		pg_atomic_write_u32(&unused->rows, 0);
		unused->counted = false;
		my_database = unused;
	}
	LWLockRelease(consumers->lock);
	if (!my_database)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("too many databases with consumers"),
						errhint("Raise netbus.max_databases.")));
	return my_database;
}

/* Forget the consumers of databases that are gone. */
static void
reap_databases(void)
{
	for (int i = 0; i < consumers->ndatabases; i++)
	{
		ConsumerDatabase *d = &consumers->databases[i];
		Oid database = d->database;

		if (!OidIsValid(database) || database == MyDatabaseId ||
			SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database)))
			continue;
		LWLockAcquire(consumers->lock, LW_EXCLUSIVE);
		if (d->database == database)
		{
			while (DsaPointerIsValid(d->first))
				recycle(&d->first);
			d->database = InvalidOid;
		}
		LWLockRelease(consumers->lock);
	}
}

static ConsumerShared *
find_locked(const ConsumerDatabase *database, uint64 id)
{
	ConsumerShared *shared = NULL;

	for (dsa_pointer p = database->first; DsaPointerIsValid(p); p = shared->next)
	{
		shared = shared_at(p);
		if (pg_atomic_read_u64(&shared->id) == id)
			return shared;
	}
	return NULL;
}

static ConsumerShared *
find(uint64 id)
{
	ConsumerDatabase *database = consumer_database();
	ConsumerShared *shared;

	LWLockAcquire(consumers->lock, LW_SHARED);
	shared = find_locked(database, id);
	LWLockRelease(consumers->lock);
	return shared;
}

ConsumerShared **
consumer_list(int *count)
{
	ConsumerDatabase *database = consumer_database();
	ConsumerShared **list = NULL;
	ConsumerShared *shared;
	int room = 16;

	for (;;)
	{
		list = palloc(room * sizeof(ConsumerShared *));
		*count = 0;
		LWLockAcquire(consumers->lock, LW_SHARED);
		for (dsa_pointer p = database->first; DsaPointerIsValid(p); p = shared->next)
		{
			shared = shared_at(p);
			if (*count < room)
				list[*count] = shared;
			(*count)++;
		}
		LWLockRelease(consumers->lock);
		if (*count <= room)
			return list;
		room = *count + 16;
		pfree(list);
	}
}

/* ------------------------------------------------------------- making one */

/* Memory for a consumer of so many shards, unused or new.  Under the lock. */
static dsa_pointer
allocate(int shards)
{
	int size_class = pg_ceil_log2_32(shards);
	dsa_pointer pointer = consumers->unused[size_class];
	int room = 1 << size_class;
	Size waiters_off = MAXALIGN(offsetof(ConsumerShared, shard) + room * sizeof(ConsumerShard));
	ConsumerShared *shared;

	if (DsaPointerIsValid(pointer))
	{
		consumers->unused[size_class] = shared_at(pointer)->next;
		return pointer;
	}
	pointer = dsa_allocate0(area, waiters_off + nb_waiters_size());
	shared = shared_at(pointer);
	pg_atomic_init_u64(&shared->id, 0);
	pg_atomic_init_u32(&shared->paused, 0);
	pg_atomic_init_u32(&shared->dropped, 0);
	pg_atomic_init_u64(&shared->hold, 0);
	pg_atomic_init_u32(&shared->next_shard, 0);
	pg_atomic_init_u32(&shared->lookout, 0);
	pg_atomic_init_u32(&shared->exclusive, 0);
	pg_atomic_init_u32(&shared->waiting, 0);
	shared->size_class = size_class;
	shared->waiters_off = waiters_off;
	nb_waiters_init(consumer_waiters(shared));
	for (int i = 0; i < room; i++)
		SpinLockInit(&shared->shard[i].lock);
	return pointer;
}

/* Room for n retries in all, keeping what is there. */
static void
resize_retries(ConsumerShard *slot, uint32 n)
{
	dsa_pointer former = slot->retries;
	dsa_pointer larger;
	uint32 room = pg_nextpower2_32(Max(n, MIN_RETRIES));

	if (n <= slot->max_retries)
		return;
	larger = dsa_allocate0(area, room * sizeof(ConsumerRetry));
	if (slot->nretries > 0)
		memcpy(dsa_get_address(area, larger), dsa_get_address(area, former),
			   slot->nretries * sizeof(ConsumerRetry));
	SpinLockAcquire(&slot->lock);
	slot->retries = larger;
	slot->max_retries = room;
	SpinLockRelease(&slot->lock);
	if (DsaPointerIsValid(former))
		dsa_free(area, former);
}

static void
fill_slot(ConsumerShard *slot, const ProgressShard *state)
{
	dsa_pointer retries = slot->retries;
	uint32 max_retries = slot->max_retries;
	ConsumerRetry *to;

	SpinLockAcquire(&slot->lock);
	memset((char *) slot + offsetof(ConsumerShard, holder), 0,
		   sizeof(ConsumerShard) - offsetof(ConsumerShard, holder));
	slot->holder = -1;
	slot->position = slot->stored = state->position;
	slot->generation = state->generation;
	slot->failure = state->failure;
	slot->unsure = true;
	slot->advanced_at = nb_now_us();
	slot->retries = retries;
	slot->max_retries = max_retries;
	slot->next_due = CONSUMER_NEVER;
	SpinLockRelease(&slot->lock);

	if (state->nretries == 0)
		return;
	resize_retries(slot, state->nretries);
	to = dsa_get_address(area, slot->retries);
	for (int i = 0; i < state->nretries; i++)
		to[i] = state->retries[i].retry;
	slot->nretries = state->nretries;
	consumer_retries_changed(slot, to);
}

static void
insert_consumer(const ProgressConsumer *consumer)
{
	ConsumerDatabase *database = consumer_database();
	const Consumer *options = &consumer->options;
	dsa_pointer pointer;
	ConsumerShared *shared;

	LWLockAcquire(consumers->lock, LW_EXCLUSIVE);
	if (!find_locked(database, consumer->id))
	{
		pointer = allocate(consumer->shards);
		shared = shared_at(pointer);
		/* Should memory run short in here, it is unused, and not lost. */
		shared->next = consumers->unused[shared->size_class];
		consumers->unused[shared->size_class] = pointer;
		for (int i = 0; i < consumer->shards; i++)
			fill_slot(&shared->shard[i], &consumer->shard[i]);
		consumers->unused[shared->size_class] = shared->next;

		shared->database = MyDatabaseId;
		shared->relid = options->key.relid;
		shared->creator = consumer->creator;
		shared->shards = consumer->shards;
		pg_atomic_write_u32(&shared->paused, options->paused);
		pg_atomic_write_u32(&shared->dropped, 0);
		pg_atomic_write_u64(&shared->hold, options->hold);
		pg_atomic_write_u32(&shared->lookout, 0);
		pg_atomic_write_u32(&shared->exclusive, 0);
		pg_write_barrier();
		pg_atomic_write_u64(&shared->id, consumer->id);
		shared->next = database->first;
		database->first = pointer;
	}
	LWLockRelease(consumers->lock);
}

/*
 * Two processes may read the tables at the same time: the first to insert a
 * consumer wins, and what the other has read is as good, for nobody can have moved a
 * position that was not in shared memory.
 */
void
consumer_load(void)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "netbus load", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	HASH_SEQ_STATUS status;
	ProgressConsumer *consumer;

	hash_seq_init(&status, progress_read(true));
	while ((consumer = hash_seq_search(&status)) != NULL)
		insert_consumer(consumer);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

static void
note_id(const Consumer *consumer, const uint64 *starts, int shards, TransactionId creator,
		void *arg)
{
	bool found;

	hash_search((HTAB *) arg, &consumer->id, HASH_ENTER, &found);
}

/*
 * First look who is here, then whether their creators are at work, then what the catalog
 * has: so one whose creation is just being committed is seen in one way or the other.
 */
void
consumer_reap(void)
{
	ConsumerDatabase *database = consumer_database();
	HASHCTL ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(uint64)};
	HTAB *ids;
	uint64 *gone;
	int ngone = 0;
	int count;
	ConsumerShared **list;

	reap_databases();
	list = consumer_list(&count);
	gone = palloc((count + 1) * sizeof(uint64));
	for (int i = 0; i < count; i++)
		if (!TransactionIdIsValid(list[i]->creator) || !TransactionIdIsInProgress(list[i]->creator))
			gone[ngone++] = pg_atomic_read_u64(&list[i]->id);
	ctl.hcxt = CurrentMemoryContext;
	ids = hash_create("netbus consumer ids", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	consumer_catalog_scan(note_id, ids);

	LWLockAcquire(consumers->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ngone; i++)
	{
		dsa_pointer *link = &database->first;

		if (hash_search(ids, &gone[i], HASH_FIND, NULL))
			continue;
		while (DsaPointerIsValid(*link))
		{
			ConsumerShared *shared = shared_at(*link);

			if (pg_atomic_read_u64(&shared->id) == gone[i])
			{
				recycle(link);
				break;
			}
			link = &shared->next;
		}
	}
	LWLockRelease(consumers->lock);
}

/* ---------------------------------------------------------- in a process */

static void
forget_known(void)
{
	HASH_SEQ_STATUS status;
	Consumer *consumer;

	hash_seq_init(&status, known);
	while ((consumer = hash_seq_search(&status)) != NULL)
		if (consumer->filter)
			pfree(consumer->filter);
	hash_destroy(known);
	known = NULL;
}

Consumer *
consumer_open(NbLog *log, const char *name)
{
	ConsumerKey key;
	Consumer read;
	Consumer *consumer;
	bool found;

	memset(&key, 0, sizeof(key));
	key.relid = log->relid;
	strlcpy(NameStr(key.name), name, NAMEDATALEN);

	if (known && hash_get_num_entries(known) > MAX_KNOWN)
		forget_known();
	if (!known)
	{
		HASHCTL ctl = {.keysize = sizeof(ConsumerKey), .entrysize = sizeof(Consumer)};

		ctl.hcxt = TopMemoryContext;
		known = hash_create("netbus consumers", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	consumer = hash_search(known, &key, HASH_FIND, NULL);
	if (likely(consumer && consumer->generation == nb_log_generation &&
			   pg_atomic_read_u64(&consumer->shared->id) == consumer->id))
		return consumer;

	if (strlen(name) >= NAMEDATALEN || !consumer_catalog_get(log->relid, name, &read))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("consumer \"%s\" of log \"%s\" does not exist", name, log->name),
						errhint("Create it with SELECT netbus.create_consumer(%s, %s).",
								quote_literal_cstr(log->name), quote_literal_cstr(name))));
	read.shared = find(read.id);
	if (!read.shared)
	{
		consumer_load();
		read.shared = find(read.id);
	}
	if (!read.shared)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("consumer \"%s\" of log \"%s\" was just dropped", name, log->name)));
	/* Rows that are restored may be anything. */
	if (read.shared->shards != log->options.shards)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("consumer \"%s\" has positions in %d shards, and log \"%s\" has %d",
							   name, read.shared->shards, log->name, log->options.shards),
						errhint("Delete its row of netbus.catalog_consumer.")));
	if (read.filter)
	{
		Jsonb *copy = MemoryContextAlloc(TopMemoryContext, VARSIZE(read.filter));

		memcpy(copy, read.filter, VARSIZE(read.filter));
		read.filter = copy;
	}
	consumer = hash_search(known, &key, HASH_ENTER, &found);
	if (found && consumer->filter)
		pfree(consumer->filter);
	*consumer = read;
	consumer->key = key;
	return consumer;
}

/* --------------------------------------------------------------- retries */

ConsumerRetry *
consumer_retries(ConsumerShard *slot)
{
	return DsaPointerIsValid(slot->retries) ? dsa_get_address(area, slot->retries) : NULL;
}

void
consumer_reserve_retries(ConsumerShard *slot, uint32 n)
{
	if (slot->nretries + n > CONSUMER_MAX_RETRIES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many events of a shard wait for another delivery"),
				 errdetail("There are %u, and may be %d.", slot->nretries, CONSUMER_MAX_RETRIES),
				 errhint("Leave the events unacknowledged, or move them to the dead-letter log "
						 "with mode \"poison\".")));
	resize_retries(slot, slot->nretries + n);
}

/* Where a seq is among the retries, or would be. */
static uint32
retry_place(const ConsumerShard *slot, const ConsumerRetry *retries, uint64 seq)
{
	uint32 lo = 0;
	uint32 hi = slot->nretries;

	while (lo < hi)
	{
		uint32 mid = lo + (hi - lo) / 2;

		if (retries[mid].seq < seq)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

ConsumerRetry *
consumer_find_retry(const ConsumerShard *slot, ConsumerRetry *retries, uint64 seq)
{
	uint32 at = slot->nretries > 0 ? retry_place(slot, retries, seq) : 0;

	return at < slot->nretries && retries[at].seq == seq ? &retries[at] : NULL;
}

uint32
consumer_count_retries(const ConsumerShard *slot, const ConsumerRetry *retries, uint64 after_seq,
					   uint64 to_seq)
{
	return to_seq > after_seq
			   ? retry_place(slot, retries, to_seq + 1) - retry_place(slot, retries, after_seq + 1)
			   : 0;
}

/* What is settled goes when the position has passed it; see when the next one is due. */
void
consumer_retries_changed(ConsumerShard *slot, ConsumerRetry *retries)
{
	uint32 n = 0;

	slot->next_due = CONSUMER_NEVER;
	slot->first_retry = 0;
	slot->ahead = slot->settled = 0;
	for (uint32 i = 0; i < slot->nretries; i++)
	{
		if (retries[i].due == CONSUMER_NEVER && retries[i].seq <= slot->position)
			continue;
		if (n != i)
			retries[n] = retries[i];
		slot->next_due = Min(slot->next_due, retries[n].due);
		if (slot->first_retry == 0 && retries[n].due != CONSUMER_NEVER)
			slot->first_retry = retries[n].seq;
		slot->ahead += retries[n].seq > slot->position;
		slot->settled += retries[n].due == CONSUMER_NEVER;
		n++;
	}
	slot->nretries = n;
}

/* --------------------------------------------------------------- waiting */

void
consumer_wake_one(ConsumerShared *shared)
{
	(void) nb_waiters_wake_one(consumer_waiters(shared));
}

void
consumer_wake_all(ConsumerShared *shared)
{
	(void) nb_waiters_wake(consumer_waiters(shared));
}
