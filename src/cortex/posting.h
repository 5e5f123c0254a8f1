/*-------------------------------------------------------------------------
 *
 * posting.h
 *		Posting lists: records in the order of (at, id), in chunks.
 *
 * Plain C.  An entry is a time (or whatever the list is ordered by) and a
 * reference to a record; ties are broken by the record's id, which is its
 * first field.  Lists are changed by the single writer, under the lock that
 * readers hold while they have a cursor.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_POSTING_H
#define NETBUS_POSTING_H

#include "cortex/arena.h"

#define POSTING_CHUNK 256 /* entries of a full chunk */

/*
 * A list.  With one chunk, dir is that chunk; with more, it is an array of
 * PostingDir, with room for dir_room.
 */
typedef struct PostingList
{
	uint64_t count;
	ArenaRef dir;
	uint32_t nchunks;
	uint32_t dir_room; /* 0: dir is the only chunk */
	uint32_t pad;
} PostingList;

/* A chunk of a longer list, and the key of its first entry. */
typedef struct PostingDir
{
	int64_t at;
	int64_t id;
	ArenaRef chunk;
	uint32_t count;
} PostingDir;

typedef struct PostingKey
{
	int64_t at;
	int64_t id;
} PostingKey;

/* An entry on its own. */
typedef struct PostingEntry
{
	int64_t at;
	ArenaRef record;
} PostingEntry;

extern void posting_insert(ArenaMap *map, PostingList *list, int64_t at, ArenaRef record);

/*
 * Make an empty list of n entries at once, which come in the order of their records'
 * ids and are put into the list's; scratch has room for as many.  Nobody may look meanwhile.
 */
extern void posting_fill(ArenaMap *map, PostingList *list, PostingEntry *entries,
						 PostingEntry *scratch, size_t n);

/* What an insertion allocates, at most; see arena_reserve(). */
extern size_t posting_need(const ArenaMap *map, const PostingList *list);

/* False: it was not there. */
extern bool posting_remove(ArenaMap *map, PostingList *list, int64_t at, ArenaRef record);

/* Give the memory of a list back. */
extern void posting_clear(ArenaMap *map, PostingList *list);

/* How many entries come before a key. */
extern uint64_t posting_rank(const ArenaMap *map, const PostingList *list, PostingKey key);

/* A place in a list, in one direction.  Good for as long as the list is not changed. */
typedef struct PostingCursor
{
	const ArenaMap *map;
	const PostingList *list;
	bool backward;
	bool valid; /* there is an entry here: */
	int64_t at;
	ArenaRef record;

	uint32_t chunk; /* index in the directory */
	uint32_t i;     /* index in the chunk, */
	uint32_t n;     /* which has so many entries */
	const int64_t *ats;
	const ArenaRef *records;
} PostingCursor;

/* At the first entry in that direction. */
extern void cursor_open(PostingCursor *cursor, const ArenaMap *map, const PostingList *list,
						bool backward);
extern void cursor_next(PostingCursor *cursor);

/* The record so many entries ahead, at most in the next chunk; 0: there is none, or it is farther. */
extern ArenaRef cursor_ahead(const PostingCursor *cursor, uint32_t k);

/*
 * Go on, in the cursor's direction, to the first entry that is not before the key:
 * galloping, so that near is fast and far is logarithmic.
 */
extern void cursor_seek(PostingCursor *cursor, PostingKey key);

static inline int64_t
posting_record_id(const ArenaMap *map, ArenaRef record)
{
	return *(const int64_t *) arena_at(map, record);
}

static inline PostingKey
cursor_key(const PostingCursor *cursor)
{
	PostingKey key = {cursor->at, posting_record_id(cursor->map, cursor->record)};

	return key;
}

static inline int
posting_compare(PostingKey a, PostingKey b)
{
	if (a.at != b.at)
		return a.at < b.at ? -1 : 1;
	return a.id < b.id ? -1 : a.id > b.id;
}

#endif /* NETBUS_POSTING_H */
