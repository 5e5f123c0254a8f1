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
 * A change is prepared outside the lock: the blob is copied, tables that are
 * getting full are copied into larger ones.  Between enter() and leave(),
 * while no reader looks, only references, list entries and times change.  What
 * has been replaced is freed afterwards.
 *
 *-------------------------------------------------------------------------
 */
#include "cortex/state.h"

#include <string.h>

#include "core/hash.h"
#include "cortex/search.h"

#define FIRST_TABLE 64 /* slots */

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
	if (larger == size)
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

static inline uint32_t
id_hash(int64_t id)
{
	return (uint32_t) (((uint64_t) id * UINT64_C(0x9E3779B97F4A7C15)) >> 32);
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

/* ------------------------------------------------------------------ terms */

static inline uint32_t
term_hash(int attr, const char *text, uint32_t len)
{
	return (uint32_t) nb_hash64(text, len, attr);
}

static int64_t
term_slot(const State *state, int attr, const char *text, uint32_t len)
{
	const HashTable *table = &state->shared->terms;
	uint32_t hash = term_hash(attr, text, len);
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
	int64_t i = term_slot(state, attr, text, len);

	if (i < 0)
		return NULL;
	return &((Term *) arena_at(&state->map, slots_of(state, &state->shared->terms)[i].ref))->list;
}

static void
term_add(State *state, int attr, Value text, int64_t at, ArenaRef record)
{
	HashTable *table = &state->shared->terms;
	int64_t i = term_slot(state, attr, text.data, text.len);
	Term *term;

	if (i >= 0)
		term = arena_at(&state->map, slots_of(state, table)[i].ref);
	else
	{
		ArenaRef ref = arena_alloc(&state->map, sizeof(Term) + text.len);

		term = arena_at(&state->map, ref);
		memset(term, 0, sizeof(Term));
		term->attr = attr;
		term->len = text.len;
		memcpy(term->text, text.data, text.len);
		table_put(slots_of(state, table), table->mask, term_hash(attr, text.data, text.len), ref);
		table->used++;
	}
	posting_insert(&state->map, &term->list, at, record);
}

static void
term_drop(State *state, int attr, Value text, int64_t at, ArenaRef record)
{
	HashTable *table = &state->shared->terms;
	int64_t i = term_slot(state, attr, text.data, text.len);
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

/* Texts of indexed attributes, of a record as it is or as it shall be. */
typedef struct Texts
{
	int n;
	struct
	{
		int attr;
		Value text;
		bool kept; /* the other has it, too */
	} texts[STATE_MAX_TEXTS + STATE_MAX_ATTRS];
} Texts;

static void
add_text(Texts *texts, int attr, Value text)
{
	texts->texts[texts->n].attr = attr;
	texts->texts[texts->n].text = text;
	texts->texts[texts->n++].kept = false;
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

/* Mark what both have. */
static void
match_texts(Texts *a, Texts *b)
{
	for (int i = 0; i < a->n; i++)
		for (int j = 0; j < b->n; j++)
			if (!b->texts[j].kept && a->texts[i].attr == b->texts[j].attr &&
				a->texts[i].text.len == b->texts[j].text.len &&
				memcmp(a->texts[i].text.data, b->texts[j].text.data, a->texts[i].text.len) == 0)
			{
				a->texts[i].kept = b->texts[j].kept = true;
				break;
			}
}

static ArenaRef
make_blob(State *state, const Image *image, uint32_t *flags)
{
	const Schema *schema = state->schema;
	Value search = image->values[schema->search];
	uint32_t words = search.data ? digest_words(search.len) : 0;
	size_t head = (offsetof(Blob, ends) + schema->nattrs * sizeof(uint32_t) + 7) & ~(size_t) 7;
	size_t bytes = head + words * sizeof(uint64_t);
	uint32_t end = 0;
	ArenaRef ref;
	Blob *blob;
	char *to;
	bool ascii = true;

	for (int a = 0; a < schema->nattrs; a++)
		bytes += image->values[a].len;
	ref = arena_alloc(&state->map, bytes);
	blob = arena_at(&state->map, ref);
	blob->bytes = bytes;
	blob->nulls = 0;
	blob->digest_words = words;
	to = (char *) blob + head;
	if (words > 0)
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
	for (uint32_t i = 0; i < search.len && ascii; i++)
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

void
state_put(State *state, const Image *image)
{
	static Texts old_texts;
	static Texts new_texts;
	StateShared *shared = state->shared;
	ArenaMap *map = &state->map;
	ArenaRef ref = state_find(state, image->id);
	bool fresh = ref == 0;
	bool moves;
	Record *record;
	Record former = {0};
	ArenaRef blob;
	uint32_t flags = image->flags;

	old_texts.n = new_texts.n = 0;
	if (fresh)
	{
		table_reserve(state, &shared->ids, 1);
		ref = arena_alloc(map, sizeof(Record));
	}
	else
		former = *state_record(state, ref);
	record = state_record(state, ref);
	blob = former.blob;
	moves = fresh || former.created != image->created;
	if (!image->same_values || moves)
	{
		Value values[STATE_MAX_ATTRS] = {0};

		if (!fresh)
		{
			values_of(state, arena_at(map, former.blob), values);
			collect_texts(state->schema, values, &old_texts);
		}
		if (!image->same_values)
		{
			blob = make_blob(state, image, &flags);
			values_of(state, arena_at(map, blob), values);
		}
		collect_texts(state->schema, values, &new_texts);
		if (!moves)
			match_texts(&old_texts, &new_texts);
		table_reserve(state, &shared->terms, new_texts.n);
	}
	if (image->same_values)
		flags |= former.flags & (RECORD_ASCII | RECORD_ODD_CASE);

	state->enter(state);
	if (fresh)
	{
		record->id = image->id;
		table_put(slots_of(state, &shared->ids), shared->ids.mask, id_hash(image->id), ref);
		shared->ids.used++;
		posting_insert(map, &shared->by_id, image->id, ref);
	}
	for (int i = 0; i < old_texts.n; i++)
		if (!old_texts.texts[i].kept)
			term_drop(state, old_texts.texts[i].attr, old_texts.texts[i].text, former.created, ref);
	if (!fresh && former.updated != image->updated)
		posting_remove(map, &shared->by_updated, former.updated, ref);
	if (!fresh && moves)
		posting_remove(map, &shared->by_created, former.created, ref);
	if (!fresh && (moves || ((former.flags ^ flags) & RECORD_STATE)))
		posting_remove(map, &shared->by_state[former.flags & RECORD_STATE], former.created, ref);

	record->created = image->created;
	record->updated = image->updated;
	record->seq = image->seq;
	record->blob = blob;
	record->flags = flags;

	for (int i = 0; i < new_texts.n; i++)
		if (!new_texts.texts[i].kept)
			term_add(state, new_texts.texts[i].attr, new_texts.texts[i].text, image->created, ref);
	if (fresh || former.updated != image->updated)
		posting_insert(map, &shared->by_updated, image->updated, ref);
	if (moves)
		posting_insert(map, &shared->by_created, image->created, ref);
	if (moves || ((former.flags ^ flags) & RECORD_STATE))
		posting_insert(map, &shared->by_state[flags & RECORD_STATE], image->created, ref);
	if (blob != former.blob)
	{
		shared->content += value_bytes(state, arena_at(map, blob));
		if (!fresh)
			shared->content -= value_bytes(state, arena_at(map, former.blob));
	}
	state->leave(state);

	if (!fresh && blob != former.blob)
		arena_free(map, former.blob);
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
		term_drop(state, texts.texts[i].attr, texts.texts[i].text, record.created, ref);
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
	for (cursor_open(&cursor, &state->map, list, true); cursor.valid; cursor_next(&cursor))
		n--;
	return n == 0;
}

bool
state_check(const State *state)
{
	const StateShared *shared = state->shared;
	uint64_t count = shared->by_created.count;

	if (shared->by_updated.count != count || shared->by_id.count != count ||
		shared->ids.used != count || shared->by_state[0].count + shared->by_state[1].count != count)
		return false;
	for (uint32_t i = 0; shared->terms.slots && i <= shared->terms.mask; i++)
	{
		ArenaRef ref = slots_of(state, &shared->terms)[i].ref;

		if (ref && !check_list(state, &((Term *) arena_at(&state->map, ref))->list))
			return false;
	}
	return check_list(state, &shared->by_created) && check_list(state, &shared->by_updated) &&
		   check_list(state, &shared->by_id) && check_list(state, &shared->by_state[0]) &&
		   check_list(state, &shared->by_state[1]) && arena_check(&state->map);
}
