/*-------------------------------------------------------------------------
 *
 * log_index.c
 *		From an event to the watches of its log whose filters may match it.
 *
 * Most filters of watches say that some path has some value: {"path": "user", "value": 7}.
 * So of each filter one such key (filter.h) is taken, and an event is asked once for each
 * path that keys have; the values that are there lead to the watches.  Of several keys a
 * filter gives the one whose values it shares with the fewest others.  Filters without a
 * key, or of a path when there are MAX_PATHS others, are asked about every event, as all
 * are if events are raw bytes.
 *
 * Local to the worker.  Whoever changes the watches of a log throws the index away; it
 * is built when the next event comes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "watch/watch.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "bus/filter.h"
#include "bus/reader.h"

#define MAX_PATHS  16
#define MAX_KEYS   4  /* of a filter, that are looked at */
#define MAX_VALUES 64 /* of a key */

/* Those who want a value at a path. */
typedef struct Bucket
{
	uint64 hash; /* of path and value */
	char status;
	int wanted; /* by how many keys, before one of each filter is taken */
	int n;
	Watch **watches;
} Bucket;

#define SH_PREFIX            bucket
#define SH_ELEMENT_TYPE      Bucket
#define SH_KEY_TYPE          uint64
#define SH_KEY               hash
#define SH_HASH_KEY(tb, key) ((uint32) ((key) >> 32))
#define SH_EQUAL(tb, a, b)   ((a) == (b))
#define SH_SCOPE             static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct LogIndex
{
	MemoryContext context;
	FilterKey paths[MAX_PATHS]; /* a key of each */
	int npaths;
	bucket_hash *buckets;
	Watch **others;
	int nothers;
};

static uint64
bucket_key(int path, uint64 value)
{
	return hash_combine64(value, path);
}

/* The path of a key among those of the index; -1: there is no room for it. */
static int
path_of(LogIndex *index, const FilterKey *key)
{
	for (int i = 0; i < index->npaths; i++)
		if (filter_key_same_path(&index->paths[i], key))
			return i;
	if (index->npaths == MAX_PATHS)
		return -1;
	index->paths[index->npaths] = *key;
	return index->npaths++;
}

/* The keys of a watch with their paths; those that cannot be used are left out. */
static int
usable_keys(LogIndex *index, const Watch *watch, FilterKey *keys, int *paths)
{
	int found = watch->event_filter ? filter_keys(watch->event_filter, keys, MAX_KEYS) : 0;
	int n = 0;

	for (int i = 0; i < found; i++)
	{
		uint64 value;

		if (filter_key_hashes(&keys[i], &value, 1) > MAX_VALUES)
			continue;
		keys[n] = keys[i];
		paths[n] = path_of(index, &keys[n]);
		if (paths[n] >= 0)
			n++;
	}
	return n;
}

static void
count_wanted(LogIndex *index, const Watch *watch)
{
	FilterKey keys[MAX_KEYS];
	int paths[MAX_KEYS];
	int n = usable_keys(index, watch, keys, paths);

	for (int i = 0; i < n; i++)
	{
		uint64 values[MAX_VALUES];
		int nvalues = filter_key_hashes(&keys[i], values, MAX_VALUES);

		for (int v = 0; v < nvalues; v++)
		{
			bool known;
			Bucket *bucket = bucket_insert(index->buckets, bucket_key(paths[i], values[v]), &known);

			if (!known)
			{
				bucket->wanted = bucket->n = 0;
				bucket->watches = NULL;
			}
			bucket->wanted++;
		}
	}
}

static void
add_watch(LogIndex *index, Watch *watch)
{
	FilterKey keys[MAX_KEYS];
	int paths[MAX_KEYS];
	int n = usable_keys(index, watch, keys, paths);
	uint64 values[MAX_VALUES];
	int nvalues;
	int best = -1;
	int least = PG_INT32_MAX;

	for (int i = 0; i < n; i++)
	{
		int most = 0;

		nvalues = filter_key_hashes(&keys[i], values, MAX_VALUES);
		for (int v = 0; v < nvalues; v++)
			most =
				Max(most, bucket_lookup(index->buckets, bucket_key(paths[i], values[v]))->wanted);
		if (most < least)
		{
			least = most;
			best = i;
		}
	}
	if (best < 0)
	{
		index->others[index->nothers++] = watch;
		return;
	}
	nvalues = filter_key_hashes(&keys[best], values, MAX_VALUES);
	for (int v = 0; v < nvalues; v++)
	{
		Bucket *bucket = bucket_lookup(index->buckets, bucket_key(paths[best], values[v]));

		if (!bucket->watches)
			bucket->watches = palloc(bucket->wanted * sizeof(Watch *));
		bucket->watches[bucket->n++] = watch;
	}
}

static LogIndex *
build(WatchedLog *log)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "netbus log watches", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	LogIndex *index = palloc0(sizeof(LogIndex));

	index->context = context;
	index->buckets = bucket_create(context, 64, NULL);
	index->others = MemoryContextAllocHuge(context, (Size) log->nwatches * sizeof(Watch *));
	for (int i = 0; i < log->nwatches; i++)
		if (log->watches[i]->telling)
			count_wanted(index, log->watches[i]);
	for (int i = 0; i < log->nwatches; i++)
		if (log->watches[i]->telling)
			add_watch(index, log->watches[i]);
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(context, TopMemoryContext);
	return index;
}

void
log_index_forget(WatchedLog *log)
{
	if (log->index)
		MemoryContextDelete(log->index->context);
	log->index = NULL;
}

void
log_index_match(WatchedLog *log, const ReaderEvent *event, LogIndexVisitor visit, int shard)
{
	LogIndex *index;

	if (!(event->flags & FRAME_JSONB))
	{
		for (int i = 0; i < log->nwatches; i++)
			if (log->watches[i]->telling)
				visit(log->watches[i], shard, event);
		return;
	}
	if (!log->index)
		log->index = build(log);
	index = log->index;
	for (int i = 0; i < index->npaths; i++)
	{
		uint64 value = filter_key_find(&index->paths[i], event->event.payload);
		Bucket *bucket = value != 0 ? bucket_lookup(index->buckets, bucket_key(i, value)) : NULL;

		for (int w = 0; bucket && w < bucket->n; w++)
			visit(bucket->watches[w], shard, event);
	}
	for (int i = 0; i < index->nothers; i++)
		visit(index->others[i], shard, event);
}
