/*-------------------------------------------------------------------------
 *
 * state.h
 *		Keyed state: the records of a model, and their indexes.
 *
 * Plain C.  A record has an id, two times, a state (a small number) and
 * attributes: text, lists of texts, or jsonb.  Which, and which of them are
 * indexed, says the schema.  One writer changes the state, by whole records;
 * readers find records by id or through posting lists.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_STATE_H
#define NETBUS_STATE_H

#include "cortex/posting.h"

#define STATE_MAX_ATTRS  8
#define STATE_MAX_STATES 2
#define STATE_MAX_TEXTS  1000 /* texts of a list */

typedef enum AttrType
{
	ATTR_JSONB, /* first of all, for alignment; at most one */
	ATTR_TEXT,
	ATTR_TEXTS, /* up to STATE_MAX_TEXTS of (u16 length, bytes), no two the same */
} AttrType;

typedef struct Attribute
{
	const char *name;
	AttrType type;
	bool indexed;
	uint32_t max_bytes; /* of a text */
} Attribute;

typedef struct Schema
{
	int nattrs;
	Attribute attrs[STATE_MAX_ATTRS];
	int search; /* the attribute that is searched for substrings */
} Schema;

/* Bits of Record.flags */
#define RECORD_STATE    0x1 /* the state: below STATE_MAX_STATES */
#define RECORD_ASCII    0x2 /* the searched attribute is ASCII */
#define RECORD_ODD_CASE 0x4 /* it has a letter beyond ASCII whose lower case is in ASCII */

typedef struct Record
{
	int64_t id; /* first: posting.c */
	int64_t created;
	int64_t updated;
	uint64_t seq; /* of the event that changed it last */
	ArenaRef blob;
	uint32_t flags;
} Record;

/*
 * Attributes: their values back to back, each from where the one before ends.
 * Followed by bits of the digest (see search.h), then the values.
 */
typedef struct Blob
{
	uint32_t bytes; /* all of it */
	uint16_t nulls; /* bit: attribute is null */
	uint16_t digest_words;
	uint32_t ends[];
} Blob;

typedef struct HashTable
{
	ArenaRef slots; /* HashSlot[mask + 1] */
	uint32_t mask;
	uint64_t used;
} HashTable;

/* In shared memory. */
typedef struct StateShared
{
	Arena arena;
	uint64_t content; /* bytes of values */
	HashTable ids;
	HashTable terms;
	PostingList by_created;
	PostingList by_updated;
	PostingList by_id;
	PostingList by_state[STATE_MAX_STATES]; /* ordered by created */
} StateShared;

/* A process's view of it. */
typedef struct State
{
	ArenaMap map;
	StateShared *shared;
	const Schema *schema;

	/* Of the writer: keep readers out, let them in again. */
	void (*enter)(struct State *state);
	void (*leave)(struct State *state);

	/* Of the writer: records are put, but come into lists by updated and by id with state_complete(). */
	bool filling;
} State;

typedef struct Value
{
	const char *data; /* NULL: null */
	uint32_t len;
} Value;

/* A record as it shall be. */
typedef struct Image
{
	int64_t id;
	int64_t created;
	int64_t updated;
	uint64_t seq;
	uint32_t flags;
	bool same_values; /* as the record has already: values is not looked at */
	Value values[STATE_MAX_ATTRS];
} Image;

extern void state_init(StateShared *shared);

/* Insert or replace.  If there is no memory, grow() does not return, and nothing has changed. */
extern ArenaRef state_put(State *state, const Image *image);
extern bool state_remove(State *state, int64_t id);

/*
 * The end of filling a state that nobody looks at yet: makes the lists that were left out.
 * Room for as many entries as there are records, twice.
 */
extern void state_complete(State *state, PostingEntry *entries, PostingEntry *scratch);

/* 0: there is none. */
extern ArenaRef state_find(const State *state, int64_t id);

/* Bring into the cache what finding an id will look at: the table, or, if that has come, the record. */
extern void state_prefetch(const State *state, int64_t id, bool record);

/* The records with that value of an indexed attribute; NULL: none. */
extern const PostingList *state_term(const State *state, int attr, const char *text, uint32_t len);

/* For tests: false if what belongs together does not match. */
extern bool state_check(const State *state);

static inline Record *
state_record(const State *state, ArenaRef ref)
{
	return arena_at(&state->map, ref);
}

static inline const Blob *
state_blob(const State *state, const Record *record)
{
	return arena_at(&state->map, record->blob);
}

static inline const uint64_t *
blob_digest(const Blob *blob, int nattrs)
{
	/* Behind the ends, at a multiple of 8. */
	return (const uint64_t *) ((const char *) blob +
							   ((offsetof(Blob, ends) + nattrs * sizeof(uint32_t) + 7) & ~7));
}

static inline Value
blob_value(const Blob *blob, int nattrs, int attr)
{
	Value value = {NULL, 0};
	uint32_t start = attr == 0 ? 0 : blob->ends[attr - 1];

	if (blob->nulls & (1 << attr))
		return value;
	value.data = (const char *) (blob_digest(blob, nattrs) + blob->digest_words) + start;
	value.len = blob->ends[attr] - start;
	return value;
}

/* The next text of a list. */
static inline bool
texts_next(Value *rest, Value *text)
{
	if (rest->len < 2)
		return false;
	text->len = (uint8_t) rest->data[0] | (uint32_t) (uint8_t) rest->data[1] << 8;
	if (text->len > rest->len - 2)
		return false;
	text->data = rest->data + 2;
	rest->data += 2 + text->len;
	rest->len -= 2 + text->len;
	return true;
}

#endif /* NETBUS_STATE_H */
