/*-------------------------------------------------------------------------
 *
 * matcher.c
 *		From a changed record to the watches that the change concerns.
 *
 * A watch whose filter needs a certain id, tag, source, scope or state stands in an
 * index under that (under each, if any of several will do), and under one of these
 * only; the others are in a list that every change of their model goes through.  So for
 * the record as it is before a change, and as it is after it, there are
 * candidates: what the index has for its values.  The filter decides, with the
 * code that also answers queries.  Whether a watch's rows gained the record, lost it
 * or still have it follows from the two answers.
 *
 * The cost is that of the candidates; watches that stand elsewhere cost nothing.  A key
 * of the index is a hash of model, attribute and value: two values of the same hash
 * make for candidates in vain, not for wrong answers.
 *
 * The record before the change must be looked at before the change is made, because it
 * is changed in place.  Between the two calls the answers are kept in the watches, marked
 * by a stamp that counts the changes, and the record's values here: what a value brings
 * that is the same after the change are candidates already.
 *
 * Private to the worker, which is the only one that changes records: it looks at them
 * without a lock.  Deltas go to shared memory under the lock of the watch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "watch/watch.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#define MIN_BLIND_MS 1000
#define MAX_BLIND_MS 10000
#define FORMER_BYTES 1024

/* What a key is of, besides an attribute */
#define KEY_ID    STATE_MAX_ATTRS
#define KEY_STATE (STATE_MAX_ATTRS + 1)

typedef struct IndexEntry
{
	uint64 key;
	Watch **watches;
	int n;
	int room;
	char status;
} IndexEntry;

#define SH_PREFIX          entry
#define SH_ELEMENT_TYPE    IndexEntry
#define SH_KEY_TYPE        uint64
#define SH_KEY             key
#define SH_HASH_KEY(tb, k) ((uint32) (k))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE           static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static entry_hash *watch_index = NULL;

/*
 * Most values of records are not in the index.  A bit for each key that is, and for those
 * removed of late, says so without a look at the table, which is large.
 */
static uint64 *present = NULL;
static uint64 present_bits = 0; /* a power of two */
static uint64 present_stale = 0;

/* The record before the change. */
typedef struct Former
{
	bool exists; /* it was there */
	uint32 state;
	Value values[STATE_MAX_ATTRS]; /* of attributes in the index, as far as there is room in data */
	char data[FORMER_BYTES];
} Former;

static Former former;

static WatchedLog *watched = NULL; /* of the change at hand; NULL: it has no watches */
static uint64 stamp = 0;           /* counts changes */
static Watch **touched = NULL;     /* candidates of the change at hand */
static int ntouched = 0;
static int touched_room = 0;

/* ------------------------------------------------------------------ index */

static uint64
key_of(const WatchedLog *log, int what, const char *data, uint32 len)
{
	return nb_hash64(data, len, (uint64) log->relid << 8 | what);
}

static inline void
present_add(uint64 key)
{
	uint64 bit = (key >> 32) & (present_bits - 1);

	present[bit / 64] |= UINT64CONST(1) << bit % 64;
}

static inline bool
present_may_have(uint64 key)
{
	uint64 bit = (key >> 32) & (present_bits - 1);

	return present[bit / 64] >> bit % 64 & 1;
}

static void
present_fill(void)
{
	entry_iterator i;
	IndexEntry *entry;

	memset(present, 0, present_bits / 8);
	present_stale = 0;
	entry_start_iterate(watch_index, &i);
	while ((entry = entry_iterate(watch_index, &i)) != NULL)
		present_add(entry->key);
}

static void
present_grow(void)
{
	uint64 bits = Max(1024, present_bits * 2);
	uint64 *larger = MemoryContextAllocHuge(TopMemoryContext, bits / 8);

	if (present)
		pfree(present);
	present = larger;
	present_bits = bits;
	present_fill();
}

static void
index_put(uint64 key, Watch *watch)
{
	bool found;
	IndexEntry *entry;

	if (!watch_index)
		watch_index = entry_create(TopMemoryContext, 256, NULL);
	if ((watch_index->members + 1) * UINT64CONST(8) > present_bits)
		present_grow();
	present_add(key);
	entry = entry_insert(watch_index, key, &found);
	if (!found)
	{
		entry->n = entry->room = 0;
		entry->watches = NULL;
	}
	if (entry->n == entry->room)
	{
		int room = Max(2, entry->room * 2);

		entry->watches = entry->watches
							 ? repalloc_huge(entry->watches, room * sizeof(Watch *))
							 : MemoryContextAlloc(TopMemoryContext, room * sizeof(Watch *));
		entry->room = room;
	}
	entry->watches[entry->n++] = watch;
}

static void
index_take(uint64 key, Watch *watch)
{
	IndexEntry *entry = watch_index ? entry_lookup(watch_index, key) : NULL;

	for (int i = 0; entry && i < entry->n; i++)
		if (entry->watches[i] == watch)
		{
			entry->watches[i] = entry->watches[--entry->n];
			break;
		}
	if (entry && entry->n == 0)
	{
		if (entry->watches)
			pfree(entry->watches);
		entry_delete_item(watch_index, entry);
		if (++present_stale > present_bits / 16)
			present_fill();
	}
}

/* The term with the fewest values, which is the one to stand under; NULL: none, or too many. */
static const TermFilter *
best_term(const RecordFilter *filter)
{
	const TermFilter *best = NULL;

	for (int i = 0; i < filter->nterms; i++)
		if (!best || filter->terms[i].n < best->n)
			best = &filter->terms[i];
	return best && best->n <= WATCH_MAX_KEYS ? best : NULL;
}

/* Make the keys of a watch, in its context. */
static void
make_keys(Watch *watch)
{
	const RecordFilter *filter = watch->filter;
	const TermFilter *term = best_term(filter);
	int n = 0;

	if (filter->by_ids && filter->nids <= WATCH_MAX_KEYS)
	{
		watch->keys = palloc(sizeof(uint64) * Max(1, filter->nids));
		for (n = 0; n < filter->nids; n++)
			watch->keys[n] =
				key_of(watch->log, KEY_ID, (const char *) &filter->ids[n], sizeof(int64));
		watch->counter = &watch->log->id_keys;
	}
	else if (term)
	{
		watch->keys = palloc(sizeof(uint64) * Max(1, term->n));
		for (n = 0; n < term->n; n++)
			watch->keys[n] =
				key_of(watch->log, term->attr, term->values[n].data, term->values[n].len);
		watch->counter = &watch->log->attr_keys[term->attr];
	}
	else if (filter->state != FILTER_ANY_STATE)
	{
		watch->keys = palloc(sizeof(uint64));
		watch->keys[n++] =
			key_of(watch->log, KEY_STATE, (const char *) &filter->state, sizeof(int));
		watch->counter = &watch->log->state_keys;
	}
	watch->nkeys = n;
	if (watch->counter)
		*watch->counter += n;
}

static void
general_put(WatchedLog *log, Watch *watch)
{
	if (log->ngeneral == log->general_room)
	{
		int room = Max(4, log->general_room * 2);

		log->general = log->general ? repalloc_huge(log->general, room * sizeof(Watch *))
									: MemoryContextAlloc(TopMemoryContext, room * sizeof(Watch *));
		log->general_room = room;
	}
	log->general[log->ngeneral++] = watch;
}

void
matcher_add(Watch *watch)
{
	WatchedLog *log = watch->log;

	log->nmodel++;
	make_keys(watch);
	if (!watch->keys)
		general_put(log, watch);
	for (int i = 0; i < watch->nkeys; i++)
		index_put(watch->keys[i], watch);
}

/* Also of a watch that was added by halves, or not at all. */
void
matcher_remove(Watch *watch)
{
	WatchedLog *log = watch->log;

	/* It may be a candidate of a change that an error has cut short. */
	ntouched = 0;
	stamp++;
	if (!log)
		return;
	log->nmodel--;
	for (int i = 0; i < watch->nkeys; i++)
		index_take(watch->keys[i], watch);
	if (watch->counter)
		*watch->counter -= watch->nkeys;
	for (int i = 0; i < log->ngeneral; i++)
		if (log->general[i] == watch)
			log->general[i] = log->general[--log->ngeneral];
}

/* --------------------------------------------------------------- matching */

/* Does the record match?  Where only lower() of the database can tell, it is asked. */
static bool
matches(const Watch *watch, const State *state, const Record *record)
{
	const Schema *schema = state->schema;
	const Needle *needle = &watch->filter->needle;
	bool certain;
	Value text;

	if (!select_matches(state, watch->filter, record, &certain))
		return false;
	if (certain)
		return true;
	text = blob_value(state_blob(state, record), schema->nattrs, schema->search);
	return text.data && text_contains(text.data, text.len, needle->text, needle->len);
}

/* Ask a watch about a record, unless it is a candidate already. */
static void
look(Watch *watch, const State *state, uint64 seq, const Record *record, bool after)
{
	if (watch->stamp == stamp || watch->waits || seq <= watch->after_seq)
		return;
	if (ntouched == touched_room)
	{
		int room = Max(64, touched_room * 2);

		touched = touched ? repalloc_huge(touched, room * sizeof(Watch *))
						  : MemoryContextAlloc(TopMemoryContext, room * sizeof(Watch *));
		touched_room = room;
	}
	touched[ntouched++] = watch;
	watch->stamp = stamp;
	watch->was = !after && matches(watch, state, record);
	watch->is = after && matches(watch, state, record);
}

static void
look_up(uint64 key, const State *state, uint64 seq, const Record *record, bool after)
{
	IndexEntry *entry = present_may_have(key) ? entry_lookup(watch_index, key) : NULL;

	for (int i = 0; entry && i < entry->n; i++)
		look(entry->watches[i], state, seq, record, after);
}

/* Ask all about a record that are no candidates because of what it was before. */
static void
look_all(WatchedLog *log, const State *state, uint64 seq, const Record *record, bool after)
{
	const Schema *schema = state->schema;
	const Blob *blob = state_blob(state, record);
	int flag = record->flags & RECORD_STATE;

	if (!former.exists)
	{
		for (int i = 0; i < log->ngeneral; i++)
			look(log->general[i], state, seq, record, after);
		if (log->id_keys > 0)
			look_up(key_of(log, KEY_ID, (const char *) &record->id, sizeof(int64)), state, seq,
					record, after);
	}
	if (log->state_keys > 0 && !(former.exists && former.state == flag))
		look_up(key_of(log, KEY_STATE, (const char *) &flag, sizeof(int)), state, seq, record,
				after);
	for (int a = 0; a < schema->nattrs; a++)
	{
		const Value *same = &former.values[a];
		Value value;
		Value text;

		if (log->attr_keys[a] == 0)
			continue;
		value = blob_value(blob, schema->nattrs, a);
		if (!value.data || (former.exists && same->data && same->len == value.len &&
							memcmp(same->data, value.data, value.len) == 0))
			continue;
		if (schema->attrs[a].type == ATTR_TEXT)
			look_up(key_of(log, a, value.data, value.len), state, seq, record, after);
		else
			while (texts_next(&value, &text))
				look_up(key_of(log, a, text.data, text.len), state, seq, record, after);
	}
}

/* Keep what the record is before the change. */
static void
keep_former(const WatchedLog *log, const State *state, const Record *record)
{
	const Blob *blob = state_blob(state, record);
	char *to = former.data;

	former.exists = true;
	former.state = record->flags & RECORD_STATE;
	for (int a = 0; a < state->schema->nattrs; a++)
	{
		Value *value = &former.values[a];

		value->data = NULL;
		if (log->attr_keys[a] == 0)
			continue;
		*value = blob_value(blob, state->schema->nattrs, a);
		if (!value->data || value->len > former.data + FORMER_BYTES - to)
			value->data = NULL;
		else
		{
			memcpy(to, value->data, value->len);
			value->data = to;
			to += value->len;
		}
	}
}

/* --------------------------------------------------------------- delivery */

/* Keep a delta for those who pull. */
static void
keep_delta(Watch *watch, const State *state, WatchOp op, int64 id, uint64 seq, const Record *record)
{
	WatchShared *shared = watch_shared_find(watch->id, true);
	dsa_pointer ring = dsa_pointer_atomic_read(&shared->deltas);

	if (DsaPointerIsValid(ring))
	{
		const Blob *blob = op == WATCH_LEFT ? NULL : state_blob(state, record);

		delta_append(dsa_get_address(watch_area(), ring), seq, id, op, record,
					 blob ? sizeof(Record) : 0, blob, blob ? blob->bytes : 0);
	}
	watch_shared_release(shared);
	(void) nb_waiters_wake(watch_waiters(watch->id));
}

/* *now: of the change, asked for by the first that needs it, so that windows that begin with it end together. */
static void
deliver(Watch *watch, const State *state, WatchOp op, int64 id, uint64 seq, const Record *record,
		int64 *now)
{
	WatchShared *shared = watch->shared;

	pg_atomic_fetch_add_u64(&shared->matches, 1);
	if (DsaPointerIsValid(dsa_pointer_atomic_read(&shared->deltas)))
		keep_delta(watch, state, op, id, seq, record);
	if (watch->row.channel[0] == '\0')
		return;
	if (watch->window.first_seq == 0)
		pg_atomic_write_u32(&shared->pending, 1);
	if (window_add(&watch->window, op, id, seq, watch_resize))
		pg_atomic_fetch_add_u64(&shared->coalesced, 1);
	if (watch->queued)
		return;
	if (*now == 0)
		*now = nb_now_us();
	notify_queue(watch, *now + watch->row.debounce);
}

/*
 * An error has ended our last look, and with it a turn of the fold.  Should there
 * be more of them: for a while the fold goes on without us, and then the watches
 * of the model have to read anew.
 */
static void
go_blind(WatchedLog *log)
{
	log->looking = false;
	log->blind_delay = Min(Max(log->blind_delay * 2, MIN_BLIND_MS), MAX_BLIND_MS);
	log->blind_until = nb_now_us() + (int64) log->blind_delay * 1000;
}

bool
matcher_sees(WatchedLog *log, ModelSlot *slot)
{
	if (nb_now_us() < log->blind_until)
		return false;
	log->blind_until = 0;
	watch_lose_model(log, slot);
	return true;
}

/* ModelObserver.before */
void
matcher_before(Model *model, uint64 seq, int64 id, const Record *record)
{
	WatchedLog *log = watched_log(model->relid);

	watched = NULL;
	if (!log || log->nmodel == 0)
		return;
	/* An error may have come between a change and our look at it. */
	if (unlikely(watch_model_lost(model->slot)))
		watch_lose_model(log, model->slot);
	if (unlikely(log->looking))
		go_blind(log);
	if (unlikely(log->blind_until != 0) && !matcher_sees(log, model->slot))
		return;
	log->looking = true;
	stamp++;
	ntouched = 0;
	former.exists = false;
	if (record)
	{
		look_all(log, &model->state, seq, record, false);
		keep_former(log, &model->state, record);
	}
	watched = log;
}

/* ModelObserver.after */
void
matcher_after(Model *model, uint64 seq, int64 id, const Record *record)
{
	WatchedLog *log = watched;
	int64 now = 0;

	if (!log)
		return;
	debug_point("match");
	for (int i = 0; record && i < ntouched; i++)
		touched[i]->is = matches(touched[i], &model->state, record);
	if (record)
		look_all(log, &model->state, seq, record, true);
	for (int i = 0; i < ntouched; i++)
	{
		Watch *watch = touched[i];

		if (watch->was || watch->is)
			deliver(watch, &model->state,
					!watch->was ? WATCH_ENTERED
					: watch->is ? WATCH_CHANGED
								: WATCH_LEFT,
					id, seq, record, &now);
	}
	ntouched = 0;
	log->looking = false;
	log->blind_delay = 0;
}
