/*-------------------------------------------------------------------------
 *
 * posting_test.c
 *		Posting lists beside a sorted array.
 *
 * link: src/cortex/arena.c
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "arena_memory.h"
#include "cortex/posting.h"
#include "tap.h"

#define MAX_ENTRIES 30000

typedef struct Entry
{
	PostingKey key;
	ArenaRef record;
} Entry;

static Arena arena;
static ArenaMap map;
static PostingList list;
static Entry entries[MAX_ENTRIES]; /* what the list should have */
static int nentries;
static uint64_t record_bytes;
static int64_t next_id = 1;
static uint64_t seed = 88172645463325252ull;
static int bad;

static uint32_t
rnd(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t) ((seed >> 32) % n);
}

/* The first entry that is not before the key. */
static int
find(PostingKey key)
{
	int low = 0;
	int high = nentries;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (posting_compare(entries[middle].key, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void
insert_id(int64_t at, int64_t id)
{
	ArenaRef record = arena_alloc(&map, sizeof(int64_t));
	Entry entry = {{at, id}, record};
	int i = find(entry.key);
	size_t need = posting_need(&map, &list);
	uint64_t used;

	*(int64_t *) arena_at(&map, record) = id;
	record_bytes += ARENA_OVERHEAD; /* what 8 bytes take */
	used = arena.used;
	posting_insert(&map, &list, at, record);
	if (arena.used > used + need)
		bad++;
	memmove(entries + i + 1, entries + i, (nentries - i) * sizeof(Entry));
	entries[i] = entry;
	nentries++;
}

static void
insert(int64_t at)
{
	insert_id(at, next_id++);
}

static void
remove_entry(int i)
{
	uint64_t used = arena.used;

	if (!posting_remove(&map, &list, entries[i].key.at, entries[i].record))
		bad++;
	if (posting_remove(&map, &list, entries[i].key.at, entries[i].record))
		bad++;
	if (arena.used > used)
		bad++;
	arena_free(&map, entries[i].record);
	record_bytes -= ARENA_OVERHEAD;
	nentries--;
	memmove(entries + i, entries + i + 1, (nentries - i) * sizeof(Entry));
}

/* Bytes that the list takes. */
static double
list_bytes(void)
{
	return (double) (arena.used - record_bytes);
}

static bool
same(const PostingCursor *cursor, int i)
{
	if (i < 0 || i >= nentries)
		return !cursor->valid;
	return cursor->valid && cursor->record == entries[i].record &&
		   posting_compare(cursor_key(cursor), entries[i].key) == 0;
}

/* A key of an entry, or near one, or anywhere. */
static PostingKey
random_key(void)
{
	PostingKey key = {(int64_t) rnd(100000) - 50, (int64_t) rnd(MAX_ENTRIES)};

	if (nentries > 0 && rnd(10))
	{
		key = entries[rnd(nentries)].key;
		switch (rnd(8))
		{
			case 0:
				key.id++;
				break;
			case 1:
				key.id--;
				break;
			case 2:
				key.id = INT64_MIN;
				break;
			case 3:
				key.id = INT64_MAX;
				break;
			case 4:
				key.at++;
				break;
			default:
				break;
		}
	}
	return key;
}

/* Does a cursor know what is ahead?  It may know nothing if that is too far for it. */
static bool
ahead(const PostingCursor *cursor, int i)
{
	uint32_t k = rnd(rnd(2) ? 20 : 300);
	ArenaRef record = cursor_ahead(cursor, k);
	int64_t at = cursor->backward ? (int64_t) i - k : (int64_t) i + k;

	if (at < 0 || at >= nentries)
		return record == 0;
	return record == entries[at].record || (record == 0 && k > 1);
}

/* Does the list say what the array says? */
static void
check(void)
{
	PostingCursor cursor;
	int i;

	if (list.count != (uint64_t) nentries || !arena_check(&map))
		bad++;
	for (i = 0, cursor_open(&cursor, &map, &list, false); cursor.valid; cursor_next(&cursor))
	{
		if (!ahead(&cursor, i) || !same(&cursor, i))
			bad++;
		i++;
	}
	if (i != nentries)
		bad++;
	for (cursor_open(&cursor, &map, &list, true); cursor.valid; cursor_next(&cursor))
	{
		i--;
		if (!ahead(&cursor, i) || !same(&cursor, i))
			bad++;
	}
	if (i != 0)
		bad++;

	/* Seek from wherever a cursor is, in both directions: near and far, also back. */
	for (int round = 0; round < 100; round++)
	{
		bool backward = rnd(2);

		cursor_open(&cursor, &map, &list, backward);
		i = backward ? nentries - 1 : 0;
		for (int step = 0; step < 8; step++)
		{
			PostingKey key = random_key();
			int to;

			if (step > 0 && rnd(3) == 0 && i >= 0 && i < nentries)
			{
				int n = i + (backward ? -(int) rnd(600) : (int) rnd(600));

				if (n >= 0 && n < nentries)
					key = entries[n].key;
			}
			to = find(key);
			if (backward && (to == nentries || posting_compare(entries[to].key, key) != 0))
				to--;
			/* It does not go back. */
			if (backward ? to < i : to > i)
				i = to;
			cursor_seek(&cursor, key);
			if (!same(&cursor, i))
				bad++;
			if (!cursor.valid)
				break;
			for (int n = rnd(4); n > 0 && cursor.valid; n--)
			{
				cursor_next(&cursor);
				i += backward ? -1 : 1;
				if (!same(&cursor, i))
					bad++;
			}
			if (!cursor.valid)
				break;
		}
	}
	for (int round = 0; round < 50; round++)
	{
		PostingKey key = random_key();

		if (posting_rank(&map, &list, key) != (uint64_t) find(key))
			bad++;
	}
}

static void
clear(void)
{
	posting_clear(&map, &list);
	for (int i = 0; i < nentries; i++)
		arena_free(&map, entries[i].record);
	nentries = 0;
	record_bytes = 0;
	tap_ok(bad == 0 && arena.used == 0 && arena_check(&map) && list.count == 0 && list.dir == 0,
		   "... and its memory comes back");
	bad = 0;
}

static void
test_append(void)
{
	for (int i = 0; i < 5000; i++)
	{
		insert(i / 3);
		/* Chunks begin and end here. */
		if (i < 20 || (i >= 250 && i < 260) || (i >= 510 && i < 515) || i == 4999)
			check();
	}
	tap_ok(bad == 0, "entries at the end");
	tap_note("%.1f bytes an entry", list_bytes() / nentries);
	tap_ok(list_bytes() < 13 * nentries, "... fill their chunks");
	clear();
}

static void
test_anywhere(void)
{
	for (int i = 0; i < 20000; i++)
	{
		insert(rnd(50000));
		if (i % 2000 == 0)
			check();
	}
	check();
	tap_ok(bad == 0, "entries anywhere");
	tap_note("%.1f bytes an entry", list_bytes() / nentries);
	tap_ok(list_bytes() < 20 * nentries, "... fill most of their chunks");
	clear();

	for (int i = 0; i < 5000; i++)
		insert(-i);
	check();
	tap_ok(bad == 0, "entries before all others");
	tap_ok(list_bytes() < 25.5 * nentries, "... fill half of their chunks");
	clear();
}

/* All of one time: the ids decide. */
static void
test_ties(void)
{
	for (int i = 0; i < 3000; i++)
		insert_id(7, i * 7 % 3001 * 3);
	insert_id(7, INT64_MAX);
	insert_id(7, INT64_MIN);
	insert_id(INT64_MAX, INT64_MAX);
	insert_id(INT64_MIN, INT64_MIN);
	insert_id(INT64_MAX, INT64_MIN);
	check();
	while (nentries > 1500)
		remove_entry(rnd(nentries));
	check();
	tap_ok(bad == 0, "entries of the same time are ordered by id");
	clear();
}

/* Times few or many, small and of any size, in order or not: made at once, then changed. */
static void
test_fill(void)
{
	static const int sizes[] = {0, 1, 3, 4, 5, 9, 255, 256, 257, 511, 2048, 2049, 10000};
	static PostingEntry filled[MAX_ENTRIES];
	static PostingEntry scratch[MAX_ENTRIES];

	for (unsigned s = 0; s < 4 * sizeof(sizes) / sizeof(sizes[0]); s++)
	{
		int n = sizes[s / 4];

		for (int i = 0; i < n; i++)
		{
			ArenaRef record = arena_alloc(&map, sizeof(int64_t));
			int64_t at = i;
			int to;

			if (s % 4 == 1)
				at = rnd(5);
			else if (s % 4 == 2)
				at = (int64_t) rnd(100000) - 50;
			else if (s % 4 == 3)
				at = (int64_t) ((uint64_t) rnd(UINT32_MAX) << 32 | (uint64_t) rnd(100) << 20);
			*(int64_t *) arena_at(&map, record) = next_id;
			record_bytes += ARENA_OVERHEAD;
			filled[i] = (PostingEntry){at, record};
			to = find((PostingKey){at, next_id});
			memmove(entries + to + 1, entries + to, (nentries - to) * sizeof(Entry));
			entries[to] = (Entry){{at, next_id++}, record};
			nentries++;
		}
		posting_fill(&map, &list, filled, scratch, n);
		check();
		if (list_bytes() > 13 * (n + POSTING_CHUNK))
			bad++;
		for (int i = 0; i < 500; i++)
			if (nentries > 0 && rnd(2))
				remove_entry(rnd(nentries));
			else
				insert(rnd(n + 1));
		check();
		posting_clear(&map, &list);
		for (int i = 0; i < nentries; i++)
			arena_free(&map, entries[i].record);
		nentries = 0;
		record_bytes = 0;
	}
	tap_ok(bad == 0, "a list is made at once");
	clear();
}

static void
test_remove(void)
{
	double most = 0;

	for (int i = 0; i < 20000; i++)
		insert(i);
	while (nentries > 0)
	{
		remove_entry(rnd(nentries));
		if (nentries % 1000 == 0 || nentries < 20 || nentries == 256 || nentries == 128)
			check();
		if (nentries >= 1000 && list_bytes() / nentries > most)
			most = list_bytes() / nentries;
		if (nentries == 10 && list_bytes() > 500)
			bad++;
	}
	tap_ok(bad == 0 && list.nchunks == 0, "entries are removed in any order");
	tap_note("at most %.1f bytes an entry", most);
	tap_ok(most < 36, "... and leave few holes");
	clear();

	/* From either end, as what is old is deleted, or what is new. */
	for (int i = 0; i < 3000; i++)
		insert(i);
	for (int i = 0; i < 1400; i++)
	{
		remove_entry(0);
		remove_entry(nentries - 1);
		if (i % 100 == 0)
			check();
	}
	check();
	tap_ok(bad == 0, "entries are removed from the ends");
	clear();

	/* What is not there. */
	for (int i = 0; i < 600; i++)
		insert(2 * i);
	for (int i = 0; i < 600; i++)
	{
		ArenaRef other = arena_alloc(&map, sizeof(int64_t));

		*(int64_t *) arena_at(&map, other) = entries[i].key.id;
		if (posting_remove(&map, &list, entries[i].key.at, other) ||
			posting_remove(&map, &list, entries[i].key.at + 1, entries[i].record))
			bad++;
		arena_free(&map, other);
	}
	check();
	tap_ok(bad == 0, "what is not in the list is not removed");
	clear();
}

/* As records are updated: out of the middle, in again at the end. */
static void
test_moves(void)
{
	double most = 0;

	for (int i = 0; i < 4000; i++)
		insert(i);
	for (int i = 0; i < 60000; i++)
	{
		remove_entry(rnd(nentries));
		insert(4000 + i);
		if (list_bytes() / nentries > most)
			most = list_bytes() / nentries;
		if (i % 6000 == 0)
			check();
	}
	check();
	tap_ok(bad == 0, "entries move to the end");
	tap_note("at most %.1f bytes an entry", most);
	tap_ok(most < 27, "... and leave few holes");
	clear();
}

static void
test_mixed(void)
{
	for (int i = 0; i < 40000; i++)
	{
		int growing = (i / 8000) % 2 == 0;

		if (nentries == 0 || rnd(10) < (growing ? 7u : 3u))
			insert(rnd(2) ? i : (int) rnd(i + 1));
		else
			remove_entry(rnd(nentries));
		if (i % 1000 == 0)
			check();
	}
	check();
	tap_ok(bad == 0, "insertions and removals at random");
	clear();
}

int
main(void)
{
	memory_init(&map, &arena);
	check();
	tap_ok(bad == 0, "an empty list");
	test_append();
	test_anywhere();
	test_ties();
	test_fill();
	test_remove();
	test_moves();
	test_mixed();
	memory_release();
	return tap_done();
}
