/*-------------------------------------------------------------------------
 *
 * state.c
 *		Keyed state: records and their indexes.
 *
 * A record stays where it is for as long as it lives; its attributes are in
 * a blob, which is replaced as a whole.  Records are found
 *
 *	- by id, in a hash table with linear probing;
 *	- in posting lists: all of them by created, by updated and by id; those of
 *	  each state, and those with each value ("term") of an indexed attribute,
 *	  by created.  Terms are found in a hash table, too; a term goes when its
 *	  list is empty.
 *
 * A change is prepared outside the lock: tables that are getting full are
 * copied into larger ones, memory for all that may be needed is found, the
 * blob is copied.  Between enter() and leave(), while no reader looks, only
 * references, list entries and times change, and nothing can fail.  What has been
 * replaced is freed afterwards.
 *
 *-------------------------------------------------------------------------
 */
#include "cortex/state.h"

#include <string.h>

#include "core/hash.h"
#include "cortex/search.h"

#define FIRST_TABLE   64 /* slots */
#define MATCH_BUCKETS 256

typedef struct HashSlot
{
	uint32_t hash;
	ArenaRef ref; /* 0: free */
} HashSlot;

/* A value of an indexed attribute. */
typedef struct Term
{
	PostingList list;
	uint32_t attr;
	uint32_t len;
	char text[];
} Term;

void
state_init(StateShared *shared)
{
	memset(shared, 0, sizeof(StateShared));
	arena_init(&shared->arena);
}

/* ------------------------------------------------------------ hash tables */

static inline HashSlot *
slots_of(const State *state, const HashTable *table)
{
	return arena_at(&state->map, table->slots);
}

static void
table_put(HashSlot *slots, uint32_t mask, uint32_t hash, ArenaRef ref)
{
	uint32_t i = hash & mask;

	while (slots[i].ref)
		i = (i + 1) & mask;
	slots[i].hash = hash;
	slots[i].ref = ref;
}

/*
 * Make room for so many more entries.  Readers may look meanwhile; the table is replaced
 * under the lock.
 */
static void
table_reserve(State *state, HashTable *table, uint64_t more)
{
	uint32_t size = table->slots ? table->mask + 1 : 0;
	uint32_t larger = size ? size : FIRST_TABLE;
	ArenaRef ref;
	HashSlot *slots;
	ArenaRef old = table->slots;

	while ((table->used + more) * 3 > (uint64_t) larger * 2)
		larger *= 2;
	if (larger == size || more == 0)
		return;
	ref = arena_alloc(&state->map, larger * sizeof(HashSlot));
	slots = arena_at(&state->map, ref);
	memset(slots, 0, larger * sizeof(HashSlot));
	for (uint32_t i = 0; i < size; i++)
	{
		const HashSlot *slot = &slots_of(state, table)[i];

		if (slot->ref)
			table_put(slots, larger - 1, slot->hash, slot->ref);
	}
	state->enter(state);
	table->slots = ref;
	table->mask = larger - 1;
	state->leave(state);
	if (old)
		arena_free(&state->map, old);
}

/* Remove what is at slot i: move up what only stood behind it for lack of room. */
static void
table_remove(State *state, HashTable *table, uint32_t i)
{
	HashSlot *slots = slots_of(state, table);
	uint32_t mask = table->mask;
	uint32_t hole = i;

	for (;;)
	{
		i = (i + 1) & mask;
		if (!slots[i].ref)
			break;
		if (((i - slots[i].hash) & mask) >= ((i - hole) & mask))
		{
			slots[hole] = slots[i];
			hole = i;
		}
	}
	slots[hole].ref = 0;
	table->used--;
}

/* All bits count, also for the lowest ones: ids may be multiples of anything. */
static inline uint32_t
id_hash(int64_t id)
{
	uint64_t x = (uint64_t) id;

	x = (x ^ x >> 32) * UINT64_C(0x9E3779B97F4A7C15);
	x = (x ^ x >> 32) * UINT64_C(0x9E3779B97F4A7C15);
	return (uint32_t) (x >> 32);
}

/* Slot of an id; -1: none. */
static int64_t
id_slot(const State *state, int64_t id)
{
	const HashTable *table = &state->shared->ids;
	uint32_t hash = id_hash(id);
	const HashSlot *slots;

	if (!table->slots)
		return -1;
	slots = slots_of(state, table);
	for (uint32_t i = hash & table->mask; slots[i].ref; i = (i + 1) & table->mask)
		if (slots[i].hash == hash && state_record(state, slots[i].ref)->id == id)
			return i;
	return -1;
}

ArenaRef
state_find(const State *state, int64_t id)
{
	int64_t i = id_slot(state, id);

	return i < 0 ? 0 : slots_of(state, &state->shared->ids)[i].ref;
}

void
state_prefetch(const State *state, int64_t id, bool record)
{
	const HashTable *table = &state->shared->ids;
	uint32_t hash = id_hash(id);
	uint32_t i = hash & table->mask;
	const HashSlot *slots;

	if (!table->slots)
		return;
	slots = slots_of(state, table);
	if (!record)
	{
		__builtin_prefetch(&slots[i]);
		return;
	}
	while (slots[i].ref && slots[i].hash != hash)
		i = (i + 1) & table->mask;
	if (slots[i].ref)
		__builtin_prefetch(state_record(state, slots[i].ref));
}

/* ------------------------------------------------------------------ terms */

static inline uint32_t
term_hash(int attr, const char *text, uint32_t len)
{
	return (uint32_t) nb_hash64(text, len, attr);
}

static int64_t
term_slot(const State *state, int attr, const char *text, uint32_t len, uint32_t hash)
{
	const HashTable *table = &state->shared->terms;
	const HashSlot *slots;

	if (!table->slots)
		return -1;
	slots = slots_of(state, table);
	for (uint32_t i = hash & table->mask; slots[i].ref; i = (i + 1) & table->mask)
		if (slots[i].hash == hash)
		{
			const Term *term = arena_at(&state->map, slots[i].ref);

			if (term->attr == (uint32_t) attr && term->len == len &&
				memcmp(term->text, text, len) == 0)
				return i;
		}
	return -1;
}

const PostingList *
state_term(const State *state, int attr, const char *text, uint32_t len)
{
	int64_t i = term_slot(state, attr, text, len, term_hash(attr, text, len));

	if (i < 0)
		return NULL;
	return &((Term *) arena_at(&state->map, slots_of(state, &state->shared->terms)[i].ref))->list;
}

/* A text of an indexed attribute, of a record as it is or as it shall be. */
typedef struct Text
{
	int attr;
	uint32_t hash;
	Value text;
	bool kept; /* the other has it, too */
} Text;

typedef struct Texts
{
	int n;
	Text texts[STATE_MAX_ATTRS * STATE_MAX_TEXTS];
} Texts;

static inline int64_t
text_slot(const State *state, const Text *text)
{
	return term_slot(state, text->attr, text->text.data, text->text.len, text->hash);
}

/* What term_add() allocates, at most. */
static size_t
term_need(const State *state, const Text *text)
{
	static const PostingList empty;
	int64_t i = text_slot(state, text);

	if (i < 0)
		return sizeof(Term) + text->text.len + ARENA_OVERHEAD + posting_need(&state->map, &empty);
	return posting_need(
		&state->map,
		&((Term *) arena_at(&state->map, slots_of(state, &state->shared->terms)[i].ref))->list);
}

static void
term_add(State *state, const Text *text, int64_t at, ArenaRef record)
{
	HashTable *table = &state->shared->terms;
	int64_t i = text_slot(state, text);
	Term *term;

	if (i >= 0)
		term = arena_at(&state->map, slots_of(state, table)[i].ref);
	else
	{
		ArenaRef ref = arena_alloc(&state->map, sizeof(Term) + text->text.len);

		term = arena_at(&state->map, ref);
		memset(term, 0, sizeof(Term));
		term->attr = text->attr;
		term->len = text->text.len;
		memcpy(term->text, text->text.data, text->text.len);
		table_put(slots_of(state, table), table->mask, text->hash, ref);
		table->used++;
	}
	posting_insert(&state->map, &term->list, at, record);
}

static void
term_drop(State *state, const Text *text, int64_t at, ArenaRef record)
{
	HashTable *table = &state->shared->terms;
	int64_t i = text_slot(state, text);
	ArenaRef ref;
	Term *term;

	if (i < 0)
		return;
	ref = slots_of(state, table)[i].ref;
	term = arena_at(&state->map, ref);
	posting_remove(&state->map, &term->list, at, record);
	if (term->list.count == 0)
	{
		table_remove(state, table, i);
		arena_free(&state->map, ref);
	}
}

/* ---------------------------------------------------------------- records */

static void
add_text(Texts *texts, int attr, Value value)
{
	Text *text = &texts->texts[texts->n++];

	text->attr = attr;
	text->hash = term_hash(attr, value.data, value.len);
	text->text = value;
	text->kept = false;
}

static void
collect_texts(const Schema *schema, const Value *values, Texts *texts)
{
	texts->n = 0;
	for (int a = 0; a < schema->nattrs; a++)
	{
		const Attribute *attr = &schema->attrs[a];
		Value rest = values[a];
		Value text;

		if (!attr->indexed || !rest.data)
			continue;
		if (attr->type == ATTR_TEXT)
			add_text(texts, a, rest);
		else
			for (int n = 0; n < STATE_MAX_TEXTS && texts_next(&rest, &text); n++)
				add_text(texts, a, text);
	}
}

static inline bool
same_text(const Text *a, const Text *b)
{
	return a->hash == b->hash && a->attr == b->attr && a->text.len == b->text.len &&
		   memcmp(a->text.data, b->text.data, a->text.len) == 0;
}

/* Mark what both have.  There may be thousands, so that they are hashed. */
static void
match_texts(Texts *a, Texts *b)
{
	static int16_t next[STATE_MAX_ATTRS * STATE_MAX_TEXTS];
	int16_t buckets[MATCH_BUCKETS];

	if (a->n == 0 || b->n == 0)
		return;
	memset(buckets, -1, sizeof(buckets));
	for (int i = a->n - 1; i >= 0; i--)
	{
		int16_t *bucket = &buckets[a->texts[i].hash % MATCH_BUCKETS];

		next[i] = *bucket;
		*bucket = i;
	}
	for (int j = 0; j < b->n; j++)
		for (int i = buckets[b->texts[j].hash % MATCH_BUCKETS]; i >= 0; i = next[i])
			if (!a->texts[i].kept && same_text(&a->texts[i], &b->texts[j]))
			{
				a->texts[i].kept = b->texts[j].kept = true;
				break;
			}
}

/* Where the values begin, without the digest. */
static inline size_t
blob_head(const Schema *schema)
{
	return (offsetof(Blob, ends) + schema->nattrs * sizeof(uint32_t) + 7) & ~(size_t) 7;
}

static size_t
blob_size(const Schema *schema, const Value *values)
{
	size_t bytes = blob_head(schema);

	if (values[schema->search].data)
		bytes += digest_words(values[schema->search].len) * sizeof(uint64_t);
	for (int a = 0; a < schema->nattrs; a++)
		bytes += values[a].data ? values[a].len : 0;
	return bytes;
}

/* former: the record as it is, which values may come from; NULL: there is none. */
static ArenaRef
make_blob(State *state, const Image *image, const Record *former, uint32_t *flags)
{
	const Schema *schema = state->schema;
	Value search = image->values[schema->search];
	uint32_t words = search.data ? digest_words(search.len) : 0;
	size_t bytes = blob_size(schema, image->values);
	uint32_t end = 0;
	ArenaRef ref;
	Blob *blob;
	char *to;
	bool ascii = true;
	const Blob *same = NULL; /* the former blob, if what is searched is still in there */

	if (former)
	{
		const Blob *old = state_blob(state, former);
		Value value = blob_value(old, schema->nattrs, schema->search);

		if (value.data == search.data && value.len == search.len)
			same = old;
	}
	ref = arena_alloc(&state->map, bytes);
	blob = arena_at(&state->map, ref);
	blob->bytes = bytes;
	blob->nulls = 0;
	blob->digest_words = words;
	to = (char *) blob + blob_head(schema);
	if (words > 0 && same)
		memcpy(to, blob_digest(same, schema->nattrs), words * sizeof(uint64_t));
	else if (words > 0)
		digest_make((uint64_t *) to, words, search.data, search.len);
	to += words * sizeof(uint64_t);
	for (int a = 0; a < schema->nattrs; a++)
	{
		const Value *value = &image->values[a];

		if (!value->data)
			blob->nulls |= 1 << a;
		else
			memcpy(to + end, value->data, value->len);
		end += value->data ? value->len : 0;
		blob->ends[a] = end;
	}
	if (same)
		ascii = former->flags & RECORD_ASCII;
	else
		for (uint32_t i = 0; search.data && i < search.len && ascii; i++)
			ascii = (search.data[i] & 0x80) == 0;
	*flags = (*flags & ~RECORD_ASCII) | (ascii ? RECORD_ASCII : 0);
	return ref;
}

static void
values_of(const State *state, const Blob *blob, Value *values)
{
	for (int a = 0; a < state->schema->nattrs; a++)
		values[a] = blob_value(blob, state->schema->nattrs, a);
}

static uint64_t
value_bytes(const State *state, const Blob *blob)
{
	return blob->ends[state->schema->nattrs - 1];
}

/* What a list needs for one entry more, if it is to get one. */
static inline size_t
list_need(const State *state, const PostingList *list, bool inserts)
{
	return inserts ? posting_need(&state->map, list) : 0;
}

ArenaRef
state_put(State *state, const Image *image)
{
	static Texts old_texts;
	static Texts new_texts;
	StateShared *shared = state->shared;
	ArenaMap *map = &state->map;
	ArenaRef ref = state_find(state, image->id);
	bool fresh = ref == 0;
	bool moves;   /* in the lists that are ordered by created */
	bool updates; /* in the one that is ordered by updated */
	bool changes; /* its state, or its place among those of that state */
	Record *record;
	Record former = {0};
	ArenaRef blob;
	uint32_t flags = image->flags;
	size_t need;
	int terms = 0;

	if (!fresh)
		former = *state_record(state, ref);
	if (image->same_values)
		flags |= former.flags & (RECORD_ASCII | RECORD_ODD_CASE);
	moves = fresh || former.created != image->created;
	updates = !state->filling && (fresh || former.updated != image->updated);
	changes = moves || ((former.flags ^ flags) & RECORD_STATE);

	old_texts.n = new_texts.n = 0;
	if (!image->same_values || moves)
	{
		Value values[STATE_MAX_ATTRS] = {0};

		if (!fresh)
		{
			values_of(state, arena_at(map, former.blob), values);
			collect_texts(state->schema, values, &old_texts);
		}
		collect_texts(state->schema, image->same_values ? values : image->values, &new_texts);
		if (!moves)
			match_texts(&old_texts, &new_texts);
	}

	/* All memory is found before anything changes. */
	need = list_need(state, &shared->by_created, moves) +
		   list_need(state, &shared->by_updated, updates) +
		   list_need(state, &shared->by_state[flags & RECORD_STATE], changes) +
		   list_need(state, &shared->by_id, fresh && !state->filling);
	for (int i = 0; i < new_texts.n; i++)
		if (!new_texts.texts[i].kept)
		{
			need += term_need(state, &new_texts.texts[i]);
			terms++;
		}
	if (fresh)
		need += sizeof(Record) + ARENA_OVERHEAD;
	if (!image->same_values)
		need += blob_size(state->schema, image->values) + ARENA_OVERHEAD;
	table_reserve(state, &shared->ids, fresh);
	table_reserve(state, &shared->terms, terms);
	arena_reserve(map, need);

	if (fresh)
		ref = arena_alloc(map, sizeof(Record));
	record = state_record(state, ref);
	blob =
		image->same_values ? former.blob : make_blob(state, image, fresh ? NULL : &former, &flags);

	state->enter(state);
	if (fresh)
	{
		record->id = image->id;
		table_put(slots_of(state, &shared->ids), shared->ids.mask, id_hash(image->id), ref);
		shared->ids.used++;
		if (!state->filling)
			posting_insert(map, &shared->by_id, image->id, ref);
	}
	/* Entries come before others go, so that no list is given up in between. */
	for (int i = 0; i < new_texts.n; i++)
		if (!new_texts.texts[i].kept)
			term_add(state, &new_texts.texts[i], image->created, ref);
	for (int i = 0; i < old_texts.n; i++)
		if (!old_texts.texts[i].kept)
			term_drop(state, &old_texts.texts[i], former.created, ref);
	if (updates)
		posting_insert(map, &shared->by_updated, image->updated, ref);
	if (moves)
		posting_insert(map, &shared->by_created, image->created, ref);
	if (changes)
		posting_insert(map, &shared->by_state[flags & RECORD_STATE], image->created, ref);
	if (!fresh)
	{
		if (updates)
			posting_remove(map, &shared->by_updated, former.updated, ref);
		if (moves)
			posting_remove(map, &shared->by_created, former.created, ref);
		if (changes)
			posting_remove(map, &shared->by_state[former.flags & RECORD_STATE], former.created,
						   ref);
	}

	record->created = image->created;
	record->updated = image->updated;
	record->seq = image->seq;
	record->blob = blob;
	record->flags = flags;
	if (!image->same_values)
	{
		shared->content += value_bytes(state, arena_at(map, blob));
		if (!fresh)
			shared->content -= value_bytes(state, arena_at(map, former.blob));
	}
	state->leave(state);

	if (!fresh && !image->same_values)
		arena_free(map, former.blob);
	return ref;
}

bool
state_remove(State *state, int64_t id)
{
	static Texts texts;
	StateShared *shared = state->shared;
	ArenaMap *map = &state->map;
	int64_t slot = id_slot(state, id);
	ArenaRef ref;
	Record record;
	Value values[STATE_MAX_ATTRS];

	if (slot < 0)
		return false;
	ref = slots_of(state, &shared->ids)[slot].ref;
	record = *state_record(state, ref);
	values_of(state, arena_at(map, record.blob), values);
	collect_texts(state->schema, values, &texts);

	state->enter(state);
	for (int i = 0; i < texts.n; i++)
		term_drop(state, &texts.texts[i], record.created, ref);
	posting_remove(map, &shared->by_id, id, ref);
	posting_remove(map, &shared->by_created, record.created, ref);
	posting_remove(map, &shared->by_updated, record.updated, ref);
	posting_remove(map, &shared->by_state[record.flags & RECORD_STATE], record.created, ref);
	table_remove(state, &shared->ids, slot);
	shared->content -= value_bytes(state, arena_at(map, record.blob));
	state->leave(state);

	arena_free(map, record.blob);
	arena_free(map, ref);
	return true;
}

void
state_complete(State *state, PostingEntry *entries, PostingEntry *scratch)
{
	StateShared *shared = state->shared;
	ArenaMap *map = &state->map;
	size_t n = 0;
	PostingCursor cursor;

	for (cursor_open(&cursor, map, &shared->by_created, false); cursor.valid; cursor_next(&cursor))
	{
		entries[n].at = state_record(state, cursor.record)->id;
		entries[n++].record = cursor.record;
	}
	posting_fill(map, &shared->by_id, entries, scratch, n);
	n = 0;
	for (cursor_open(&cursor, map, &shared->by_id, false); cursor.valid; cursor_next(&cursor))
	{
		entries[n].at = state_record(state, cursor.record)->updated;
		entries[n++].record = cursor.record;
	}
	posting_fill(map, &shared->by_updated, entries, scratch, n);
	state->filling = false;
}

/* ------------------------------------------------------------------ tests */

static bool
check_list(const State *state, const PostingList *list)
{
	PostingCursor cursor;
	PostingKey last = {INT64_MIN, INT64_MIN};
	uint64_t n = 0;

	for (cursor_open(&cursor, &state->map, list, false); cursor.valid; cursor_next(&cursor))
	{
		if (n > 0 && posting_compare(last, cursor_key(&cursor)) >= 0)
			return false;
		last = cursor_key(&cursor);
		n++;
	}
	if (n != list->count)
		return false;
	for (cursor_open(&cursor, &state->map, list, true); cursor.valid; cursor_next(&cursor))
		n--;
	return n == 0;
}

static bool
list_has(const State *state, const PostingList *list, int64_t at, ArenaRef record)
{
	PostingKey key = {at, posting_record_id(&state->map, record)};
	PostingCursor cursor;

	cursor_open(&cursor, &state->map, list, false);
	cursor_seek(&cursor, key);
	return cursor.valid && cursor.at == at && cursor.record == record;
}

/* Is a record in all lists that it belongs to?  Counts its texts and bytes. */
static bool
check_record(const State *state, ArenaRef ref, uint64_t *ntexts, uint64_t *content)
{
	static Texts texts;
	const StateShared *shared = state->shared;
	const Record *record = state_record(state, ref);
	const Blob *blob = state_blob(state, record);
	Value values[STATE_MAX_ATTRS];

	if (state_find(state, record->id) != ref ||
		!list_has(state, &shared->by_created, record->created, ref) ||
		!list_has(state, &shared->by_updated, record->updated, ref) ||
		!list_has(state, &shared->by_state[record->flags & RECORD_STATE], record->created, ref))
		return false;
	values_of(state, blob, values);
	if (blob->bytes != blob_size(state->schema, values) ||
		blob->bytes > arena_room(&state->map, record->blob))
		return false;
	collect_texts(state->schema, values, &texts);
	for (int i = 0; i < texts.n; i++)
	{
		const PostingList *list = state_term(state, texts.texts[i].attr, texts.texts[i].text.data,
											 texts.texts[i].text.len);

		if (!list || !list_has(state, list, record->created, ref))
			return false;
	}
	*ntexts += texts.n;
	*content += value_bytes(state, blob);
	return true;
}

bool
state_check(const State *state)
{
	const StateShared *shared = state->shared;
	uint64_t count = shared->by_created.count;
	uint64_t nterms = 0;
	uint64_t entries = 0; /* of all terms */
	uint64_t ntexts = 0;  /* of all records */
	uint64_t content = 0;
	PostingCursor cursor;

	if (shared->by_updated.count != count || shared->by_id.count != count ||
		shared->ids.used != count || shared->by_state[0].count + shared->by_state[1].count != count)
		return false;
	for (uint32_t i = 0; shared->terms.slots && i <= shared->terms.mask; i++)
	{
		ArenaRef ref = slots_of(state, &shared->terms)[i].ref;
		const PostingList *list;

		if (!ref)
			continue;
		list = &((Term *) arena_at(&state->map, ref))->list;
		if (list->count == 0 || !check_list(state, list))
			return false;
		entries += list->count;
		nterms++;
	}
	if (nterms != shared->terms.used || !check_list(state, &shared->by_created) ||
		!check_list(state, &shared->by_updated) || !check_list(state, &shared->by_id) ||
		!check_list(state, &shared->by_state[0]) || !check_list(state, &shared->by_state[1]))
		return false;
	for (cursor_open(&cursor, &state->map, &shared->by_id, false); cursor.valid;
		 cursor_next(&cursor))
		if (!check_record(state, cursor.record, &ntexts, &content))
			return false;
	return ntexts == entries && content == shared->content && arena_check(&state->map);
}
