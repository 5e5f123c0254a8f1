/*
 * What a window tells of many changes is what one would tell by comparing before and
 * after; and it keeps to its memory.
 */
#include "watch/window.h"

#include <stdlib.h>
#include <string.h>

#include "tap.h"

static bool memory_is_short = false;
static size_t allocated = 0;

/* With the size in front. */
static void *
resize(void *memory, size_t bytes)
{
	size_t *chunk = memory ? (size_t *) memory - 2 : NULL;
	size_t former = chunk ? chunk[0] : 0;

	if (bytes > former && memory_is_short)
		return NULL;
	allocated = allocated - former + bytes;
	if (bytes == 0)
	{
		free(chunk);
		return NULL;
	}
	chunk = realloc(chunk, bytes + 2 * sizeof(size_t));
	chunk[0] = bytes;
	return chunk + 2;
}

/* Of one record: the ops, then what the window tells, "-" for nothing. */
static void
tells(const char *ops, char expected)
{
	Window window = {0};
	WatchOp op;
	bool told;

	for (int i = 0; ops[i]; i++)
		window_add(&window,
				   ops[i] == 'e'   ? WATCH_ENTERED
				   : ops[i] == 'c' ? WATCH_CHANGED
								   : WATCH_LEFT,
				   7, i + 1, resize);
	told = window_op(&window.records[0], &op);
	tap_ok(window.nrecords == 1 && window.first_seq == 1 && window.last_seq == strlen(ops) &&
			   (expected == '-' ? !told : told && "ecl"[op] == expected) &&
			   window_idle(&window) == !told,
		   "%s is %c", ops, expected);
	window_clear(&window, 0, resize);
}

#define IDS 3000

static unsigned int seed = 1;

static unsigned int
rnd(unsigned int n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 8) % n;
}

/* Random changes of so many records, against two arrays. */
static bool
agrees(int ids, int changes)
{
	static bool rows[IDS]; /* from one window to the next */
	Window window = {0};
	bool good = true;

	for (int round = 0; round < 5; round++)
	{
		bool before[IDS];
		bool touched[IDS] = {0};
		int distinct = 0;

		memcpy(before, rows, sizeof(before));
		for (int i = 0; i < changes; i++)
		{
			int id = rnd(ids);
			bool is = rnd(2);
			bool again;

			if (!rows[id] && !is)
				continue;
			again = window_add(&window,
							   !rows[id] ? WATCH_ENTERED
							   : is      ? WATCH_CHANGED
										 : WATCH_LEFT,
							   (int64_t) id * 1000003 - 500, i + 1, resize);
			good &= again == touched[id] || window.overflow || (again <= touched[id]);
			distinct += !touched[id];
			touched[id] = true;
			rows[id] = is;
		}
		if (window.overflow)
			good &= distinct * 13 > WINDOW_MAX_BYTES / 2 && !window_idle(&window);
		for (int id = 0; id < ids && !window.overflow; id++)
		{
			bool found = false;

			for (uint32_t i = 0; i < window.nrecords; i++)
			{
				WatchOp op;
				bool told;

				if (window.records[i].id != (int64_t) id * 1000003 - 500)
					continue;
				good &= !found;
				found = true;
				told = window_op(&window.records[i], &op);
				good &= told == (before[id] || rows[id]);
				good &= !told || op == (!before[id] ? WATCH_ENTERED
										: rows[id]  ? WATCH_CHANGED
													: WATCH_LEFT);
			}
			/* One that came and went may be dropped; no other. */
			good &= found || !touched[id] || (!before[id] && !rows[id]);
			good &= !found || touched[id];
		}
		good &= window.room <= WINDOW_MAX_RECORDS;
		window_clear(&window, round == 3 ? 0 : 64, resize);
		good &= window.first_seq == 0 && window_idle(&window);
	}
	window_clear(&window, 0, resize);
	return good && allocated == 0;
}

int
main(void)
{
	Window window = {0};
	bool good = true;

	tells("e", 'e');
	tells("c", 'c');
	tells("l", 'l');
	tells("ec", 'e');
	tells("ecc", 'e');
	tells("el", '-');
	tells("ele", 'e');
	tells("elel", '-');
	tells("cl", 'l');
	tells("le", 'c');
	tells("lec", 'c');
	tells("lel", 'l');
	tells("cle", 'c');

	tap_ok(agrees(1, 100), "one record");
	tap_ok(agrees(5, 100), "a few records");
	tap_ok(agrees(700, 5000), "many records");
	tap_ok(agrees(IDS, 9000), "too many records");

	/* Records that come and go need no room, however many. */
	for (int i = 1; i <= 100000; i++)
	{
		window_add(&window, WATCH_ENTERED, i, 2 * i, resize);
		window_add(&window, WATCH_LEFT, i, 2 * i + 1, resize);
	}
	tap_ok(!window.overflow && window_idle(&window) && window.last_seq == 200001,
		   "what comes and goes does not overflow");
	window_clear(&window, 0, resize);

	/* 318 long ids fit into a notification. */
	for (int i = 0; i < 318; i++)
		window_add(&window, WATCH_CHANGED, INT64_MAX - 1 - i, i + 1, resize);
	tap_ok(!window.overflow && window.nrecords == 318, "as many as can be told do not overflow");
	window_add(&window, WATCH_CHANGED, INT64_MAX - 318, 319, resize);
	tap_ok(!window.overflow && window.nrecords == 318, "... nor what has changed already");
	window_add(&window, WATCH_CHANGED, INT64_MIN, 320, resize);
	tap_ok(window.overflow && window.nrecords == 0, "one more does");
	window_clear(&window, 0, resize);
	/* Half of them are undone, and so give room to others, but not to so many that it would be slow. */
	for (int i = 0; i < 318; i++)
		window_add(&window, WATCH_ENTERED, INT64_MAX - 1 - i, i + 1, resize);
	for (int i = 0; i < 159; i++)
		window_add(&window, WATCH_LEFT, INT64_MAX - 1 - 2 * i, i + 319, resize);
	window_add(&window, WATCH_ENTERED, 12345, 500, resize);
	tap_ok(!window.overflow && window.nrecords == 160, "undone changes give room");
	window_clear(&window, 0, resize);
	for (int i = 0; i < 318; i++)
		window_add(&window, WATCH_ENTERED, INT64_MAX - 1 - i, i + 1, resize);
	window_add(&window, WATCH_LEFT, INT64_MAX - 1, 319, resize);
	window_add(&window, WATCH_ENTERED, 12345, 320, resize);
	tap_ok(window.overflow, "... if they are many");
	window_clear(&window, 0, resize);

	memory_is_short = true;
	window_add(&window, WATCH_ENTERED, 1, 5, resize);
	tap_ok(window.overflow && window.first_seq == 5 && window.last_seq == 5,
		   "no memory: it overflows");
	window_add(&window, WATCH_ENTERED, 2, 6, resize);
	tap_ok(window.overflow && window.last_seq == 6, "... and goes on");
	memory_is_short = false;
	window_clear(&window, 64, resize);
	for (int i = 1; i <= 6; i++)
		window_add(&window, WATCH_ENTERED, i, i, resize);
	memory_is_short = true;
	window_add(&window, WATCH_ENTERED, 7, 7, resize);
	for (int i = 1; i <= 20; i++)
		good &= !window_add(&window, WATCH_LEFT, i, i, resize);
	tap_ok(good && window.overflow && !window_idle(&window), "no more memory: it overflows");
	memory_is_short = false;
	window_clear(&window, 0, resize);
	for (int i = 0; i < 200; i++)
		window_add(&window, WATCH_ENTERED, i, i + 1, resize);
	window_clear(&window, 512, resize);
	tap_ok(allocated > 0 && window_idle(&window), "memory is kept where there is enough");
	good = !window_add(&window, WATCH_LEFT, 5, 1, resize) && window.nrecords == 1 &&
		   !window_idle(&window);
	window_clear(&window, 511, resize);
	tap_ok(good && allocated == 0, "all memory is given back");
	return tap_done();
}
