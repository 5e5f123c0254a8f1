/*-------------------------------------------------------------------------
 *
 * posting.c
 *		Posting lists in chunks.
 *
 * A chunk has up to 256 entries: their times, then their records, in two
 * arrays, so that a search reads times only.  The directory of a list has the
 * first key of each chunk; both are searched by halving, or by galloping from
 * where a cursor is.  A new entry at the end fills the last chunk and then
 * begins another; one in the middle moves at most a chunk's entries, and a full
 * chunk is split into halves.  An entry is removed at once: there are no
 * tombstones to pass, and a chunk that gets small joins its neighbour.  A short
 * list has one chunk, which grows from 4 entries, and shrinks.
 *
 *-------------------------------------------------------------------------
 */
#include "cortex/posting.h"

#include <string.h>

#define FIRST_ROOM 4
#define FIRST_DIR  8
#define WINDOW     16 /* entries */
#define DIGIT_BITS 8  /* of what is sorted */
#define DIGITS     (1 << DIGIT_BITS)

typedef struct Chunk
{
	uint32_t count;
	uint32_t room;
	int64_t ats[]; /* room; ArenaRef records[room] follow */
} Chunk;

static inline ArenaRef *
chunk_records(Chunk *chunk)
{
	return (ArenaRef *) (chunk->ats + chunk->room);
}

static inline size_t
chunk_size(uint32_t room)
{
	return sizeof(Chunk) + room * (sizeof(int64_t) + sizeof(ArenaRef));
}

static ArenaRef
chunk_new(ArenaMap *map, uint32_t room)
{
	ArenaRef ref = arena_alloc(map, chunk_size(room));
	Chunk *chunk = arena_at(map, ref);

	chunk->count = 0;
	chunk->room = room;
	return ref;
}

/* Entries [from, to) of a chunk to the place i of another. */
static void
copy_entries(Chunk *into, uint32_t i, Chunk *chunk, uint32_t from, uint32_t to)
{
	memcpy(into->ats + i, chunk->ats + from, (to - from) * sizeof(int64_t));
	memcpy(chunk_records(into) + i, chunk_records(chunk) + from, (to - from) * sizeof(ArenaRef));
}

static inline PostingDir *
dir_of(const ArenaMap *map, const PostingList *list)
{
	return arena_at(map, list->dir);
}

static inline ArenaRef
chunk_ref(const ArenaMap *map, const PostingList *list, uint32_t i)
{
	return list->dir_room == 0 ? list->dir : dir_of(map, list)[i].chunk;
}

/* How an entry compares with a key. */
static inline int
compare_entry(const ArenaMap *map, int64_t at, ArenaRef record, PostingKey key)
{
	int64_t id;

	if (at != key.at)
		return at < key.at ? -1 : 1;
	id = posting_record_id(map, record);
	return id < key.id ? -1 : id > key.id;
}

static inline int
compare_dir(const PostingDir *dir, PostingKey key)
{
	PostingKey first = {dir->at, dir->id};

	return posting_compare(first, key);
}

/* The first of entries [low, high) that is not before the key. */
static uint32_t
search_entries(const ArenaMap *map, const int64_t *ats, const ArenaRef *records, uint32_t low,
			   uint32_t high, PostingKey key)
{
	while (low < high)
	{
		uint32_t middle = (low + high) / 2;

		if (compare_entry(map, ats[middle], records[middle], key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The last of chunks [low, high) whose first entry is not behind the key; low if none. */
static uint32_t
search_dir(const PostingDir *dir, uint32_t low, uint32_t high, PostingKey key)
{
	while (high - low > 1)
	{
		uint32_t middle = (low + high) / 2;

		if (compare_dir(&dir[middle], key) <= 0)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static uint32_t
find_chunk(const ArenaMap *map, const PostingList *list, PostingKey key)
{
	if (list->dir_room == 0)
		return 0;
	return search_dir(dir_of(map, list), 0, list->nchunks, key);
}

/* What the directory says of a chunk follows the chunk. */
static void
update_dir(ArenaMap *map, PostingList *list, uint32_t i)
{
	PostingDir *dir;
	Chunk *chunk;

	if (list->dir_room == 0)
		return;
	dir = &dir_of(map, list)[i];
	chunk = arena_at(map, dir->chunk);
	dir->at = chunk->ats[0];
	dir->id = posting_record_id(map, chunk_records(chunk)[0]);
	dir->count = chunk->count;
}

/* The same after a change at a place in a chunk: its first entry is seldom another. */
static inline void
update_count(ArenaMap *map, PostingList *list, uint32_t i, uint32_t place, uint32_t count)
{
	if (place == 0)
		update_dir(map, list, i);
	else if (list->dir_room > 0)
		dir_of(map, list)[i].count = count;
}

static void
insert_dir(ArenaMap *map, PostingList *list, uint32_t i, ArenaRef chunk)
{
	PostingDir *dir;

	if (list->nchunks >= list->dir_room)
	{
		uint32_t room = list->dir_room == 0 ? FIRST_DIR : list->dir_room * 2;
		ArenaRef ref = arena_alloc(map, room * sizeof(PostingDir));
		ArenaRef old = list->dir;

		dir = arena_at(map, ref);
		if (list->dir_room == 0)
		{
			list->dir = ref;
			list->dir_room = room;
			dir[0].chunk = old;
			update_dir(map, list, 0);
		}
		else
		{
			memcpy(dir, arena_at(map, old), list->nchunks * sizeof(PostingDir));
			list->dir = ref;
			list->dir_room = room;
			arena_free(map, old);
		}
	}
	dir = dir_of(map, list);
	memmove(dir + i + 1, dir + i, (list->nchunks - i) * sizeof(PostingDir));
	dir[i].chunk = chunk;
	list->nchunks++;
}

static void
remove_dir(ArenaMap *map, PostingList *list, uint32_t i)
{
	PostingDir *dir = dir_of(map, list);

	arena_free(map, dir[i].chunk);
	list->nchunks--;
	memmove(dir + i, dir + i + 1, (list->nchunks - i) * sizeof(PostingDir));
	if (list->nchunks == 1)
	{
		ArenaRef ref = list->dir;

		list->dir = dir[0].chunk;
		list->dir_room = 0;
		arena_free(map, ref);
	}
}

/* Make room in the full chunk i of a list.  Returns the chunk for an entry that belongs to its place "at". */
static uint32_t
make_room(ArenaMap *map, PostingList *list, uint32_t i, uint32_t at)
{
	ArenaRef ref = chunk_ref(map, list, i);
	Chunk *chunk = arena_at(map, ref);
	ArenaRef second;
	uint32_t keep;

	if (chunk->room < POSTING_CHUNK)
	{
		/* The only chunk: a larger one. */
		ArenaRef larger = chunk_new(map, chunk->room * 2);
		Chunk *into = arena_at(map, larger);

		copy_entries(into, 0, chunk, 0, chunk->count);
		into->count = chunk->count;
		if (list->dir_room == 0)
			list->dir = larger;
		else
			dir_of(map, list)[i].chunk = larger;
		arena_free(map, ref);
		return i;
	}

	second = chunk_new(map, POSTING_CHUNK);
	insert_dir(map, list, i + 1, second);
	/* What comes at the end of all begins a chunk; else both get a half. */
	keep = at == chunk->count && i + 2 == list->nchunks ? chunk->count : chunk->count / 2;
	if (keep == chunk->count)
		return i + 1;
	copy_entries(arena_at(map, second), 0, chunk, keep, chunk->count);
	((Chunk *) arena_at(map, second))->count = chunk->count - keep;
	chunk->count = keep;
	update_dir(map, list, i);
	update_dir(map, list, i + 1);
	return at <= keep ? i : i + 1;
}

size_t
posting_need(const ArenaMap *map, const PostingList *list)
{
	const Chunk *chunk;
	size_t dir = 0;

	if (list->nchunks == 0)
		return chunk_size(FIRST_ROOM) + ARENA_OVERHEAD;
	if (list->dir_room == 0)
	{
		chunk = arena_at(map, list->dir);
		if (chunk->count < chunk->room)
			return 0;
		if (chunk->room < POSTING_CHUNK)
			return chunk_size(chunk->room * 2) + ARENA_OVERHEAD;
	}
	/* Any chunk may be full. */
	if (list->nchunks >= list->dir_room)
		dir = (list->dir_room ? list->dir_room * 2 : FIRST_DIR) * sizeof(PostingDir);
	return chunk_size(POSTING_CHUNK) + dir + 2 * ARENA_OVERHEAD;
}

void
posting_insert(ArenaMap *map, PostingList *list, int64_t at, ArenaRef record)
{
	PostingKey key = {at, posting_record_id(map, record)};
	uint32_t i;
	uint32_t place;
	Chunk *chunk;

	if (list->nchunks == 0)
	{
		list->dir = chunk_new(map, FIRST_ROOM);
		list->nchunks = 1;
	}
	/* Most are the last. */
	i = list->nchunks - 1;
	if (list->dir_room > 0 && compare_dir(&dir_of(map, list)[i], key) > 0)
		i = find_chunk(map, list, key);
	chunk = arena_at(map, chunk_ref(map, list, i));
	place = chunk->count;
	if (place > 0 &&
		compare_entry(map, chunk->ats[place - 1], chunk_records(chunk)[place - 1], key) > 0)
		place = search_entries(map, chunk->ats, chunk_records(chunk), 0, place, key);
	if (chunk->count == chunk->room)
	{
		uint32_t into = make_room(map, list, i, place);

		chunk = arena_at(map, chunk_ref(map, list, into));
		if (into != i)
			place = chunk->count == 0 ? 0
									  : search_entries(map, chunk->ats, chunk_records(chunk), 0,
													   chunk->count, key);
		i = into;
	}
	memmove(chunk->ats + place + 1, chunk->ats + place, (chunk->count - place) * sizeof(int64_t));
	memmove(chunk_records(chunk) + place + 1, chunk_records(chunk) + place,
			(chunk->count - place) * sizeof(ArenaRef));
	chunk->ats[place] = at;
	chunk_records(chunk)[place] = record;
	chunk->count++;
	list->count++;
	update_count(map, list, i, place, chunk->count);
}

static inline uint64_t
sort_key(const PostingEntry *entry)
{
	return (uint64_t) entry->at ^ UINT64_C(1) << 63;
}

/*
 * Sort entries by time, digit by digit from the lowest; those of the same time stay as they
 * are.  Returns where they are then: one of the two arrays.
 */
static PostingEntry *
sort_entries(PostingEntry *entries, PostingEntry *scratch, size_t n)
{
	static size_t counts[sizeof(int64_t)][DIGITS];
	bool sorted = true;

	memset(counts, 0, sizeof(counts));
	for (size_t i = 0; i < n; i++)
	{
		uint64_t key = sort_key(&entries[i]);

		sorted = sorted && (i == 0 || entries[i - 1].at <= entries[i].at);
		for (unsigned d = 0; d < sizeof(int64_t); d++)
			counts[d][key >> d * DIGIT_BITS & (DIGITS - 1)]++;
	}
	if (sorted)
		return entries;
	for (unsigned d = 0; d < sizeof(int64_t); d++)
	{
		PostingEntry *from = entries;
		size_t place = 0;

		/* Many digits are the same in all. */
		if (counts[d][sort_key(&entries[0]) >> d * DIGIT_BITS & (DIGITS - 1)] == n)
			continue;
		for (unsigned v = 0; v < DIGITS; v++)
		{
			size_t count = counts[d][v];

			counts[d][v] = place;
			place += count;
		}
		for (size_t i = 0; i < n; i++)
			scratch[counts[d][sort_key(&from[i]) >> d * DIGIT_BITS & (DIGITS - 1)]++] = from[i];
		entries = scratch;
		scratch = from;
	}
	return entries;
}

void
posting_fill(ArenaMap *map, PostingList *list, PostingEntry *entries, PostingEntry *scratch,
			 size_t n)
{
	uint32_t nchunks = (n + POSTING_CHUNK - 1) / POSTING_CHUNK;

	if (n == 0)
		return;
	entries = sort_entries(entries, scratch, n);
	if (nchunks > 1)
	{
		uint32_t room = FIRST_DIR;

		while (room < nchunks)
			room *= 2;
		list->dir = arena_alloc(map, room * sizeof(PostingDir));
		list->dir_room = room;
	}
	for (uint32_t c = 0; c < nchunks; c++, entries += POSTING_CHUNK)
	{
		uint32_t count = c + 1 < nchunks ? POSTING_CHUNK : n - (size_t) c * POSTING_CHUNK;
		uint32_t room = nchunks > 1 ? POSTING_CHUNK : FIRST_ROOM;
		ArenaRef ref;
		Chunk *chunk;

		while (room < count)
			room *= 2;
		ref = chunk_new(map, room);
		chunk = arena_at(map, ref);
		for (uint32_t i = 0; i < count; i++)
		{
			chunk->ats[i] = entries[i].at;
			chunk_records(chunk)[i] = entries[i].record;
		}
		chunk->count = count;
		if (nchunks == 1)
			list->dir = ref;
		else
		{
			dir_of(map, list)[c].chunk = ref;
			update_dir(map, list, c);
		}
	}
	list->nchunks = nchunks;
	list->count = n;
}

/* Give back the memory of a chunk that got nearly empty, the only one of its list. */
static void
shrink_chunk(ArenaMap *map, const PostingList *list)
{
	Chunk *chunk = arena_at(map, list->dir);
	const ArenaRef *records = chunk_records(chunk);

	if (chunk->room <= FIRST_ROOM || chunk->count > chunk->room / 4)
		return;
	chunk->room /= 2;
	memmove(chunk_records(chunk), records, chunk->count * sizeof(ArenaRef));
	arena_trim(map, list->dir, chunk_size(chunk->room));
}

bool
posting_remove(ArenaMap *map, PostingList *list, int64_t at, ArenaRef record)
{
	PostingKey key = {at, posting_record_id(map, record)};
	uint32_t i;
	uint32_t place;
	Chunk *chunk;

	if (list->nchunks == 0)
		return false;
	i = find_chunk(map, list, key);
	chunk = arena_at(map, chunk_ref(map, list, i));
	place = search_entries(map, chunk->ats, chunk_records(chunk), 0, chunk->count, key);
	if (place == chunk->count || chunk_records(chunk)[place] != record || chunk->ats[place] != at)
		return false;
	chunk->count--;
	list->count--;
	memmove(chunk->ats + place, chunk->ats + place + 1, (chunk->count - place) * sizeof(int64_t));
	memmove(chunk_records(chunk) + place, chunk_records(chunk) + place + 1,
			(chunk->count - place) * sizeof(ArenaRef));

	if (list->dir_room == 0)
	{
		if (list->count == 0)
			posting_clear(map, list);
		else
			shrink_chunk(map, list);
		return true;
	}
	if (chunk->count == 0)
		remove_dir(map, list, i);
	else
	{
		update_count(map, list, i, place, chunk->count);
		/* Two that leave a quarter of one free become one. */
		for (uint32_t first = i > 0 ? i - 1 : 0; first <= i && first + 1 < list->nchunks; first++)
		{
			PostingDir *dir = dir_of(map, list) + first;

			if (dir[0].count + dir[1].count <= POSTING_CHUNK * 3 / 4)
			{
				Chunk *into = arena_at(map, dir[0].chunk);
				Chunk *from = arena_at(map, dir[1].chunk);

				if (into->room < into->count + from->count)
					continue;
				copy_entries(into, into->count, from, 0, from->count);
				into->count += from->count;
				dir[0].count = into->count;
				remove_dir(map, list, first + 1);
				break;
			}
		}
	}
	return true;
}

void
posting_clear(ArenaMap *map, PostingList *list)
{
	if (list->dir_room > 0)
		for (uint32_t i = 0; i < list->nchunks; i++)
			arena_free(map, dir_of(map, list)[i].chunk);
	if (list->nchunks > 0)
		arena_free(map, list->dir);
	memset(list, 0, sizeof(PostingList));
}

uint64_t
posting_rank(const ArenaMap *map, const PostingList *list, PostingKey key)
{
	uint64_t rank = 0;
	uint32_t i;
	Chunk *chunk;

	if (list->nchunks == 0)
		return 0;
	i = find_chunk(map, list, key);
	if (list->dir_room > 0)
		for (uint32_t c = 0; c < i; c++)
			rank += dir_of(map, list)[c].count;
	chunk = arena_at(map, chunk_ref(map, list, i));
	return rank + search_entries(map, chunk->ats, chunk_records(chunk), 0, chunk->count, key);
}

/* ---------------------------------------------------------------- cursors */

static void
show_entry(PostingCursor *cursor)
{
	cursor->valid = true;
	cursor->at = cursor->ats[cursor->i];
	cursor->record = cursor->records[cursor->i];
}

static void
enter_chunk(PostingCursor *cursor, uint32_t i)
{
	Chunk *chunk = arena_at(cursor->map, chunk_ref(cursor->map, cursor->list, i));

	cursor->chunk = i;
	cursor->n = chunk->count;
	cursor->ats = chunk->ats;
	cursor->records = chunk_records(chunk);
}

void
cursor_open(PostingCursor *cursor, const ArenaMap *map, const PostingList *list, bool backward)
{
	memset(cursor, 0, sizeof(PostingCursor));
	cursor->map = map;
	cursor->list = list;
	cursor->backward = backward;
	if (list->count == 0)
		return;
	enter_chunk(cursor, backward ? list->nchunks - 1 : 0);
	cursor->i = backward ? cursor->n - 1 : 0;
	show_entry(cursor);
}

void
cursor_next(PostingCursor *cursor)
{
	if (cursor->backward)
	{
		if (cursor->i > 0)
			cursor->i--;
		else if (cursor->chunk > 0)
		{
			enter_chunk(cursor, cursor->chunk - 1);
			cursor->i = cursor->n - 1;
		}
		else
		{
			cursor->valid = false;
			return;
		}
	}
	else if (++cursor->i == cursor->n)
	{
		if (cursor->chunk + 1 == cursor->list->nchunks)
		{
			cursor->valid = false;
			return;
		}
		enter_chunk(cursor, cursor->chunk + 1);
		cursor->i = 0;
	}
	show_entry(cursor);
}

/*
 * Of entries in a window whose first is not behind a time, and which ends with one that is:
 * the last that is not.  Four steps without a branch that nobody could predict.
 */
static inline uint32_t
last_in_window(const int64_t *ats, int64_t at)
{
	uint32_t low = 0;

	for (uint32_t half = WINDOW / 2; half > 0; half /= 2)
		low += ats[low + half] <= at ? half : 0;
	return low;
}

static void
seek_forward(PostingCursor *cursor, PostingKey key)
{
	const ArenaMap *map = cursor->map;
	const PostingList *list = cursor->list;
	uint32_t step = 1;
	uint32_t low;
	uint32_t high;

	/* Behind this chunk? */
	if (compare_entry(map, cursor->ats[cursor->n - 1], cursor->records[cursor->n - 1], key) < 0)
	{
		const PostingDir *dir;

		if (cursor->chunk + 1 == list->nchunks)
		{
			cursor->valid = false;
			return;
		}
		dir = dir_of(map, list);
		low = cursor->chunk + 1;
		high = low + 1;
		while (high < list->nchunks && compare_dir(&dir[high], key) <= 0)
		{
			low = high;
			high += step;
			step *= 2;
		}
		if (high > list->nchunks)
			high = list->nchunks;
		enter_chunk(cursor, search_dir(dir, low, high, key));
		cursor->i = search_entries(map, cursor->ats, cursor->records, 0, cursor->n, key);
		if (cursor->i == cursor->n)
		{
			/* Between two chunks. */
			if (cursor->chunk + 1 == list->nchunks)
			{
				cursor->valid = false;
				return;
			}
			enter_chunk(cursor, cursor->chunk + 1);
			cursor->i = 0;
		}
		show_entry(cursor);
		return;
	}
	low = cursor->i;
	if (key.id == INT64_MIN && low + WINDOW < cursor->n && cursor->ats[low + WINDOW] >= key.at)
	{
		/* Near, as a rule: what comes behind the last that is earlier. */
		cursor->i = low + last_in_window(cursor->ats + low, key.at - 1) + 1;
		show_entry(cursor);
		return;
	}
	high = low + 1;
	while (high < cursor->n &&
		   compare_entry(map, cursor->ats[high], cursor->records[high], key) < 0)
	{
		low = high;
		high += step;
		step *= 2;
	}
	if (high > cursor->n)
		high = cursor->n;
	cursor->i = search_entries(map, cursor->ats, cursor->records, low, high, key);
	show_entry(cursor);
}

static void
seek_backward(PostingCursor *cursor, PostingKey key)
{
	const ArenaMap *map = cursor->map;
	const PostingList *list = cursor->list;
	uint32_t step = 1;
	uint32_t low;
	uint32_t high;

	/* Before this chunk? */
	if (compare_entry(map, cursor->ats[0], cursor->records[0], key) > 0)
	{
		const PostingDir *dir;

		if (cursor->chunk == 0)
		{
			cursor->valid = false;
			return;
		}
		dir = dir_of(map, list);
		high = cursor->chunk; /* its first is behind the key */
		low = high - 1;
		while (low > 0 && compare_dir(&dir[low], key) > 0)
		{
			high = low;
			low = low > step ? low - step : 0;
			step *= 2;
		}
		low = search_dir(dir, low, high, key);
		if (compare_dir(&dir[low], key) > 0)
		{
			cursor->valid = false;
			return;
		}
		enter_chunk(cursor, low);
		low = 0;
		high = cursor->n;
	}
	else if (key.id == INT64_MAX && cursor->i >= WINDOW &&
			 cursor->ats[cursor->i - WINDOW] <= key.at)
	{
		/* Near, as a rule. */
		low = cursor->i - WINDOW;
		cursor->i = low + last_in_window(cursor->ats + low, key.at);
		show_entry(cursor);
		return;
	}
	else
	{
		high = cursor->i + 1;
		low = cursor->i;
		while (low > 0 && compare_entry(map, cursor->ats[low], cursor->records[low], key) > 0)
		{
			high = low;
			low = low > step ? low - step : 0;
			step *= 2;
		}
	}
	/* The last of [low, high) that is not behind the key; the one at low is not. */
	while (high - low > 1)
	{
		uint32_t middle = (low + high) / 2;

		if (compare_entry(map, cursor->ats[middle], cursor->records[middle], key) <= 0)
			low = middle;
		else
			high = middle;
	}
	cursor->i = low;
	show_entry(cursor);
}

ArenaRef
cursor_ahead(const PostingCursor *cursor, uint32_t k)
{
	const PostingDir *dir;
	Chunk *next;

	if (cursor->backward ? cursor->i >= k : cursor->i + k < cursor->n)
		return cursor->records[cursor->backward ? cursor->i - k : cursor->i + k];
	if (cursor->backward ? cursor->chunk == 0 : cursor->chunk + 1 >= cursor->list->nchunks)
		return 0;
	dir = dir_of(cursor->map, cursor->list) + cursor->chunk + (cursor->backward ? -1 : 1);
	next = arena_at(cursor->map, dir->chunk);
	k -= cursor->backward ? cursor->i + 1 : cursor->n - cursor->i;
	if (k >= next->count)
		return 0;
	return chunk_records(next)[cursor->backward ? next->count - 1 - k : k];
}

void
cursor_seek(PostingCursor *cursor, PostingKey key)
{
	int where;

	if (!cursor->valid)
		return;
	where = compare_entry(cursor->map, cursor->at, cursor->record, key);
	if (cursor->backward ? where <= 0 : where >= 0)
		return;
	if (cursor->backward)
		seek_backward(cursor, key);
	else
		seek_forward(cursor, key);
}
