/*-------------------------------------------------------------------------
 *
 * state_test.c
 *		Records and their indexes: nothing is left of what goes, nothing changes
 *		where memory ends, and little is spent beside the contents.
 *
 * link: src/cortex/posting.c src/cortex/arena.c src/cortex/search.c src/core/hash.c src/core/hash_avx2.c
 *
 * What queries find is the subject of select_test.c; that any sequence of changes
 * gives what it should, that of the fuzz target "state".
 *
 *-------------------------------------------------------------------------
 */
#include "cortex/search.h"
#include "state_fixture.h"
#include "tap.h"

static State state;
static uint64_t seed = 88172645463325252ull;
static char text[1024 * 1024];
static char list[STATE_MAX_TEXTS * (2 + 256)];

static uint32_t
rnd(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t) ((seed >> 32) % n);
}

static void
start(void)
{
	memory_release();
	fixture_init(&state);
	memset(text, 'x', sizeof(text));
}

/* Tags named by the numbers from first on; each of that many bytes, at least. */
static Value
tags(int first, int n, int width)
{
	uint32_t len = 0;

	for (int i = 0; i < n; i++)
	{
		char tag[300];

		len = texts_add(list, len, tag, sprintf(tag, "%0*d", width, first + i));
	}
	return value_of(list, len);
}

static void
put(int64_t id, int64_t at, uint32_t content, const char *source, Value its_tags)
{
	Image image = {.id = id, .created = at, .updated = at};

	image.values[ATTR_CONTENT] = value_of(text, content);
	image.values[ATTR_SOURCE] = value_of(source, source ? strlen(source) : 0);
	image.values[ATTR_TAGS] = its_tags;
	state_put(&state, &image);
}

static uint64_t
tagged(const char *tag)
{
	const PostingList *found = state_term(&state, ATTR_TAGS, tag, strlen(tag));

	return found ? found->count : 0;
}

/* Ids of all sorts, whose differences may be any power of two. */
static void
test_ids(void)
{
	static const struct
	{
		int64_t first;
		int64_t step;
	} sorts[] = {{0, 1},
				 {-5000, 1},
				 {INT64_MAX - 10000, 1},
				 {INT64_MIN, 1},
				 {INT64_C(1) << 60, INT64_C(1) << 12},
				 {77, INT64_C(1) << 22},
				 {0, INT64_C(1) << 32},
				 {5, INT64_C(1) << 40},
				 {3, INT64_C(1) << 50},
				 {0, INT64_C(0x61C8864680B583EB)}};
	int bad = 0;

	for (unsigned s = 0; s < sizeof(sorts) / sizeof(sorts[0]); s++)
	{
		start();
		for (int round = 0; round < 2; round++)
		{
			for (int i = 0; i < 10000; i++)
				put((int64_t) ((uint64_t) sorts[s].first + (uint64_t) sorts[s].step * i), i, 0,
					NULL, value_of("", 0));
			for (int i = 0; i < 10000; i++)
			{
				int64_t id = (int64_t) ((uint64_t) sorts[s].first + (uint64_t) sorts[s].step * i);
				ArenaRef ref = state_find(&state, id);

				if (!ref || state_record(&state, ref)->id != id)
					bad++;
				if (i % 3 != round && !state_remove(&state, id))
					bad++;
				if (i % 3 != round && state_find(&state, id))
					bad++;
			}
			if (!state_check(&state))
				bad++;
		}
	}
	tap_is(bad, 0, "ids of any pattern are found, and gone when removed");
}

static void
test_terms(void)
{
	uint64_t used = 0;
	int bad = 0;

	start();
	for (int round = 0; round < 30; round++)
	{
		for (int i = 0; i < 100; i++)
			put(i, round * 100 + i, 10, i % 2 ? "even" : "odd", tags(round * 1000 + i, 10, 8));
		if (fixture_shared.terms.used != 109 + 2 || !state_check(&state))
			bad++;
		if (round == 5)
			used = fixture_shared.arena.used;
	}
	tap_is(bad, 0, "terms come and go with the records that have them");
	tap_ok(fixture_shared.arena.used < used + used / 10, "... and their memory with them");
	tap_ok(tagged("00029005") == 6 && tagged("00028005") == 0, "the records of a term are known");
	for (int i = 0; i < 100; i++)
		state_remove(&state, i);
	tap_ok(state_check(&state) && fixture_shared.terms.used == 0 && fixture_shared.content == 0,
		   "nothing is left");
	tap_ok(!state_remove(&state, 1) && !state_find(&state, 1), "what is not there is not removed");
}

/* As many tags as there may be, of all lengths, in any order. */
static void
test_many_tags(void)
{
	uint32_t len;
	Value all;

	start();
	put(1, 1, 100, "a", tags(0, STATE_MAX_TEXTS, 256));
	put(2, 2, 100, "a", tags(500, STATE_MAX_TEXTS, 256));
	tap_ok(state_check(&state) && fixture_shared.terms.used == 1501, "records of 1000 tags");
	put(1, 1, 100, "b", tags(999, 1, 256));
	tap_ok(state_check(&state) && fixture_shared.terms.used == 1002, "... that lose most of them");
	/* The same in another order. */
	len = 0;
	for (int i = STATE_MAX_TEXTS - 1; i >= 0; i--)
	{
		char tag[300];

		len = texts_add(list, len, tag, sprintf(tag, "%0256d", 500 + i));
	}
	put(2, 2, 100, "a", value_of(list, len));
	tap_ok(state_check(&state) && fixture_shared.terms.used == 1002, "... that change places");
	put(2, 1, 100, "a", value_of(list, len));
	tap_ok(state_check(&state), "... that get another time");
	state_remove(&state, 1);
	state_remove(&state, 2);
	tap_ok(state_check(&state) && fixture_shared.terms.used == 0, "... and are deleted");

	/* A list whose last length is a lie is read to there. */
	all = tags(0, 3, 8);
	list[all.len - 10] = 9;
	put(3, 3, 0, NULL, all);
	tap_ok(fixture_shared.terms.used == 2 && state_check(&state), "a broken list ends early");
}

static void
test_values(void)
{
	Image image = {.id = 1, .created = 5, .updated = 6, .seq = 7, .flags = RECORD_STATE};
	const Record *record;
	const Blob *blob;
	Value value;
	int bad = 0;

	start();
	image.values[ATTR_DATA] = value_of("12345", 5);
	image.values[ATTR_CONTENT] = value_of("caf\xc3\xa9", 5);
	image.values[ATTR_TAGS] = value_of("", 0);
	state_put(&state, &image);
	record = state_record(&state, state_find(&state, 1));
	blob = state_blob(&state, record);
	value = blob_value(blob, 4, ATTR_DATA);
	tap_ok(value.len == 5 && memcmp(value.data, "12345", 5) == 0 &&
			   ((uintptr_t) value.data & 7) == 0,
		   "the first attribute is aligned");
	value = blob_value(blob, 4, ATTR_CONTENT);
	tap_ok(value.len == 5 && memcmp(value.data, "caf\xc3\xa9", 5) == 0, "the second follows");
	tap_ok(blob_value(blob, 4, ATTR_SOURCE).data == NULL &&
			   blob_value(blob, 4, ATTR_TAGS).data != NULL &&
			   blob_value(blob, 4, ATTR_TAGS).len == 0,
		   "null is not empty");
	tap_ok(record->flags == RECORD_STATE, "what is not ASCII is known");

	/* Contents of all lengths, that come from the record itself. */
	for (uint32_t len = 0; len < 3000; len += 1 + len / 50)
	{
		put(2, 9, len, "s", tags(1, 2, 4));
		image = (Image){.id = 2, .created = 9, .updated = len, .flags = 0};
		blob = state_blob(&state, state_record(&state, state_find(&state, 2)));
		for (int a = 0; a < 4; a++)
			image.values[a] = blob_value(blob, 4, a);
		state_put(&state, &image);
		record = state_record(&state, state_find(&state, 2));
		value = blob_value(state_blob(&state, record), 4, ATTR_CONTENT);
		if (value.len != len || memcmp(value.data, text, len) != 0 ||
			!(record->flags & RECORD_ASCII) || record->updated != len || !state_check(&state))
			bad++;
		/* Only a time and the state. */
		image.same_values = true;
		image.updated++;
		image.flags = RECORD_STATE;
		state_put(&state, &image);
		value = blob_value(state_blob(&state, record), 4, ATTR_CONTENT);
		if (value.len != len || record->flags != (RECORD_STATE | RECORD_ASCII) ||
			!state_check(&state))
			bad++;
	}
	tap_is(bad, 0, "values are kept, also if they are put again");
}

/* Has a record what its text is searched by? */
static bool
searchable(int64_t id)
{
	static uint64_t digest[4096];
	const Record *record = state_record(&state, state_find(&state, id));
	const Blob *blob = state_blob(&state, record);
	Value value = blob_value(blob, 4, ATTR_CONTENT);
	bool ascii = memchr(value.data, 0xe9, value.len) == NULL;

	digest_make(digest, blob->digest_words, value.data, value.len);
	return blob->digest_words == digest_words(value.len) &&
		   memcmp(digest, blob_digest(blob, 4), blob->digest_words * sizeof(uint64_t)) == 0 &&
		   ascii == !!(record->flags & RECORD_ASCII);
}

static void
test_search(void)
{
	int bad = 0;

	start();
	for (uint32_t len = 1; len < 100000; len += 1 + len / 3)
		for (int beyond = 0; beyond < 2; beyond++)
		{
			Image image = {.id = 1};
			Value *content = &image.values[ATTR_CONTENT];
			const Blob *blob;

			for (uint32_t i = 0; i < len; i++)
				text[i] = 'a' + rnd(26);
			if (beyond)
				text[len - 1] = (char) 0xe9;
			put(1, 1, len, NULL, tags(0, 3, 5));
			if (!searchable(1))
				bad++;
			/* The same text with other tags, then a part of it. */
			blob = state_blob(&state, state_record(&state, state_find(&state, 1)));
			*content = blob_value(blob, 4, ATTR_CONTENT);
			image.values[ATTR_TAGS] = tags(1, 3, 5);
			state_put(&state, &image);
			if (!searchable(1) || tagged("00003") != 1)
				bad++;
			blob = state_blob(&state, state_record(&state, state_find(&state, 1)));
			*content = blob_value(blob, 4, ATTR_CONTENT);
			content->len /= 2;
			state_put(&state, &image);
			if (!searchable(1))
				bad++;
		}
	tap_is(bad, 0, "a text is searched by what it is, also if it stays when others change");
}

/* Put all at first, with lists by updated and by id made at the end; some come twice. */
static void
test_filling(void)
{
	static PostingEntry entries[5000];
	static PostingEntry scratch[5000];
	int bad = 0;

	for (int n = 0; n < 5000; n = n * 7 + 1)
	{
		start();
		state.filling = true;
		for (int i = 0; i < n + n / 10; i++)
		{
			Image image = {.id = (i % n * 7919 % 5003 - 2500) * 1000,
						   .created = rnd(3) ? i : i % n,
						   .updated = rnd(100),
						   .flags = rnd(2)};

			image.values[ATTR_CONTENT] = value_of(text, 10);
			image.values[ATTR_TAGS] = tags(rnd(20), 2, 4);
			state_put(&state, &image);
		}
		state_complete(&state, entries, scratch);
		if (fixture_shared.by_id.count != (uint64_t) n || !state_check(&state))
			bad++;
		for (int i = 0; i < 2 * n; i++)
			if (rnd(2))
				put((rnd(5003) - INT64_C(2500)) * 1000, rnd(n), 10, "s", tags(rnd(20), 2, 4));
			else
				state_remove(&state, (rnd(5003) - INT64_C(2500)) * 1000);
		if (!state_check(&state))
			bad++;
	}
	tap_is(bad, 0, "a state is filled, and changes like any other");
}

/* Where memory ends a change does not happen. */
static void
test_full(void)
{
	static int bad; /* static: of setjmp() */
	static int refused;
	static int op;
	static uint64_t count;
	static uint64_t content;
	static uint64_t used;
	static uint32_t slots;

	start();
	memory_limit = 3;
	for (op = 0; op < 6000; op++)
	{
		int64_t id = rnd(800);

		count = fixture_shared.by_id.count;
		content = fixture_shared.content;
		used = fixture_shared.arena.used;
		slots = fixture_shared.ids.mask + fixture_shared.terms.mask;
		if (setjmp(memory_full) == 0)
		{
			if (rnd(5) == 0)
				state_remove(&state, id);
			else
				put(id, rnd(10000), rnd(rnd(20) ? 4000 : 200000), rnd(2) ? "a" : NULL,
					tags(rnd(2000), rnd(rnd(50) ? 5 : STATE_MAX_TEXTS), 1 + rnd(20)));
		}
		else
		{
			refused++;
			/* A table may have become larger before. */
			if (memory_locked || fixture_shared.by_id.count != count ||
				fixture_shared.content != content ||
				(fixture_shared.arena.used != used &&
				 fixture_shared.ids.mask + fixture_shared.terms.mask == slots))
				bad++;
		}
		if (op % 100 == 0 && !state_check(&state))
			bad++;
	}
	tap_note("%d of %d changes were refused", refused, op);
	tap_ok(refused > 100, "there is an end of memory");
	tap_is(bad, 0, "a change that does not find memory changes nothing");
	tap_ok(state_check(&state), "all is sound");
	memory_limit = 0;
	for (int id = 0; id < 800; id++)
		state_remove(&state, id);
	tap_ok(state_check(&state) && fixture_shared.by_id.count == 0 && fixture_shared.content == 0,
		   "all can be removed");
	/* But the tables of ids and terms. */
	tap_ok(fixture_shared.arena.used < 200 * 1024, "... and leaves memory");
}

/* Bytes taken in all for a byte of content, tags and source. */
static double
overhead(int records, uint32_t content, bool churn)
{
	start();
	for (int i = 0; i < records; i++)
		put(i, i, content, i % 2 ? "agent one" : "agent two", tags(i % 50, 3, 12));
	for (int i = 0; churn && i < records * 3; i++)
	{
		int64_t id = rnd(records);

		if (i % 3 == 0)
			state_remove(&state, id);
		put(id, records + i, content - rnd(content / 2), "agent two", tags(rnd(50), 3, 12));
	}
	return (double) fixture_shared.arena.used / fixture_shared.content;
}

static void
test_overhead(void)
{
	double large = overhead(10000, 1000, false);
	double small = overhead(20000, 100, false);
	double churned = overhead(10000, 1000, true);

	tap_note("bytes for a byte of content, tags and source: %.3f at 1 kB, %.3f at 100 B", large,
			 small);
	tap_note("... %.3f at 750 B that were replaced at random", churned);
	tap_ok(large < 1.35, "at 1 kB a third is spent at most");
	tap_ok(small < 2.75, "at 100 B, not twice as much again");
	tap_ok(churned < 1.6, "after many changes it is not much more");
}

int
main(void)
{
	test_ids();
	test_terms();
	test_many_tags();
	test_values();
	test_search();
	test_filling();
	test_full();
	test_overhead();
	memory_release();
	return tap_done();
}
