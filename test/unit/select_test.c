/*-------------------------------------------------------------------------
 *
 * select_test.c
 *		The engine of CortEX beside an array that is searched from end to end.
 *
 * link: src/cortex/state.c src/cortex/posting.c src/cortex/arena.c src/cortex/search.c src/core/hash.c src/core/hash_avx2.c
 *
 * Random changes are made to both; random queries must give the same rows in
 * the same order, in one step or in many.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "cortex/select.h"
#include "state_fixture.h"
#include "tap.h"

#define MAX_RECORDS 3000
#define TAGS        12
#define SOURCES     5

typedef struct Row
{
	int64_t id;
	int64_t created;
	int64_t updated;
	uint32_t state;
	int source; /* -1: null */
	uint32_t tags;
	int content_len;
	char content[400];
} Row;

static Row rows[MAX_RECORDS];
static int nrows;
static uint64_t seed = 88172645463325252ull;

static uint32_t
rnd(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t) ((seed >> 32) % n);
}

static void
name_of(char *to, char kind, int n)
{
	sprintf(to, "%c%d", kind, n);
}

static void
put(State *state, const Row *row, bool same)
{
	Image image = {.id = row->id,
				   .created = row->created,
				   .updated = row->updated,
				   .flags = row->state,
				   .same_values = same};
	char source[8];
	char tags[TAGS * 8];
	uint32_t len = 0;

	name_of(source, 's', row->source);
	for (int t = 0; t < TAGS; t++)
		if (row->tags >> t & 1)
		{
			char tag[8];

			name_of(tag, 't', t);
			len = texts_add(tags, len, tag, strlen(tag));
		}
	image.values[ATTR_CONTENT] = value_of(row->content, row->content_len);
	image.values[ATTR_SOURCE] = value_of(row->source < 0 ? NULL : source, strlen(source));
	image.values[ATTR_TAGS] = value_of(tags, len);
	state_put(state, &image);
}

static void
random_values(Row *row)
{
	row->source = (int) rnd(SOURCES + 1) - 1;
	row->tags = rnd(3) ? rnd(1 << TAGS) & rnd(1 << TAGS) & rnd(1 << TAGS) : 1u << rnd(TAGS);
	row->content_len = rnd(rnd(2) ? 20 : 400);
	for (int i = 0; i < row->content_len; i++)
		row->content[i] = "abcABC dDxX"[rnd(11)];
}

static void
change(State *state, int64_t now)
{
	int op = rnd(10);
	int i = nrows ? (int) rnd(nrows) : 0;

	if (nrows == 0 || (op < 5 && nrows < MAX_RECORDS))
	{
		Row *row = &rows[nrows];

		row->id = (int64_t) rnd(1000000) - 500000;
		for (i = 0; i < nrows; i++)
			if (rows[i].id == row->id)
				return;
		row->created = rnd(4) ? now : (int64_t) rnd(now + 1);
		row->updated = now;
		row->state = rnd(4) == 0;
		random_values(row);
		nrows++;
		put(state, row, false);
	}
	else if (op < 7)
	{
		if (rnd(2))
			rows[i].created = rnd(now + 1);
		rows[i].updated = now;
		random_values(&rows[i]);
		put(state, &rows[i], false);
	}
	else if (op < 9)
	{
		rows[i].updated = rnd(10) ? now : (int64_t) rnd(now + 1);
		rows[i].state ^= 1;
		if (rnd(4) == 0)
			rows[i].created = rnd(now + 1);
		put(state, &rows[i], true);
	}
	else
	{
		state_remove(state, rows[i].id);
		rows[i] = rows[--nrows];
	}
}

/* ---------------------------------------------------------------- queries */

typedef struct Query
{
	Filter filter;
	TermFilter terms[4];
	Value values[4][4];
	char names[4][4][8];
	int numbers[4][4];
	char needle[8];
	int64_t ids[20];
} Query;

static void
random_query(Query *q, int64_t now)
{
	Filter *f = &q->filter;

	memset(q, 0, sizeof(Query));
	f->terms = q->terms;
	f->nterms = rnd(4);
	for (int t = 0; t < f->nterms; t++)
	{
		TermFilter *term = &q->terms[t];

		term->attr = rnd(4) ? ATTR_TAGS : ATTR_SOURCE;
		term->n = rnd(3) ? 1 : 1 + rnd(4);
		term->values = q->values[t];
		for (int i = 0; i < term->n; i++)
		{
			/* Some that nobody has. */
			q->numbers[t][i] = rnd(term->attr == ATTR_TAGS ? TAGS + 1 : SOURCES + 1);
			name_of(q->names[t][i], term->attr == ATTR_TAGS ? 't' : 's', q->numbers[t][i]);
			q->values[t][i].data = q->names[t][i];
			q->values[t][i].len = strlen(q->names[t][i]);
		}
	}
	f->state = rnd(3) ? FILTER_ANY_STATE : (int) rnd(2);
	f->created_from = rnd(4) ? INT64_MIN : (int64_t) rnd(now + 1);
	f->created_to = rnd(4) ? INT64_MAX : (int64_t) rnd(now + 1);
	f->updated_from = rnd(6) ? INT64_MIN : (int64_t) rnd(now + 1);
	f->updated_to = rnd(6) ? INT64_MAX : (int64_t) rnd(now + 1);
	f->by_ids = rnd(8) == 0;
	if (f->by_ids)
	{
		f->ids = q->ids;
		for (int i = 0; i < 20 && nrows > 0; i++)
		{
			int64_t id = rnd(4) ? rows[rnd(nrows)].id : (int64_t) rnd(1000);
			bool known = false;

			for (int j = 0; j < f->nids; j++)
				known |= f->ids[j] == id;
			if (!known)
				f->ids[f->nids++] = id;
		}
	}
	f->search = rnd(5) == 0;
	if (f->search)
	{
		uint32_t len = rnd(5);

		for (uint32_t i = 0; i < len; i++)
			q->needle[i] = "aBcx "[rnd(5)];
		needle_init(&f->needle, q->needle, len);
	}
	f->order = rnd(3);
	f->backward = rnd(2);
	f->after = rnd(3) == 0 && nrows > 0;
	if (f->after)
	{
		const Row *row = &rows[rnd(nrows)];

		f->after_key.at = f->order == ORDER_CREATED   ? row->created
						  : f->order == ORDER_UPDATED ? row->updated
													  : row->id;
		f->after_key.id = rnd(4) || f->order == ORDER_ID ? row->id : (int64_t) rnd(1000);
		if (f->order == ORDER_ID)
			f->after_key.at = f->after_key.id;
	}
	f->max_rows = rnd(2) ? UINT64_MAX : rnd(30);
}

static bool
has(const Row *row, const char *needle, uint32_t len)
{
	for (int i = 0; i + (int) len <= row->content_len; i++)
	{
		uint32_t n = 0;

		while (n < len &&
			   (row->content[i + n] |
				(row->content[i + n] >= 'A' && row->content[i + n] <= 'Z' ? 0x20 : 0)) == needle[n])
			n++;
		if (n == len)
			return true;
	}
	return false;
}

static bool
fits(const Query *q, const Row *row)
{
	const Filter *f = &q->filter;

	for (int t = 0; t < f->nterms; t++)
	{
		bool any = false;

		for (int i = 0; i < f->terms[t].n; i++)
			any |= f->terms[t].attr == ATTR_TAGS
					   ? (q->numbers[t][i] < TAGS && (row->tags >> q->numbers[t][i] & 1))
					   : row->source == q->numbers[t][i];
		if (!any)
			return false;
	}
	if (f->by_ids)
	{
		bool any = false;

		for (int i = 0; i < f->nids; i++)
			any |= f->ids[i] == row->id;
		if (!any)
			return false;
	}
	return (f->state == FILTER_ANY_STATE || (int) row->state == f->state) &&
		   row->created >= f->created_from && row->created <= f->created_to &&
		   row->updated >= f->updated_from && row->updated <= f->updated_to &&
		   (!f->search || has(row, f->needle.text, f->needle.len));
}

static const Filter *sorting;

static PostingKey
key_of(const Row *row)
{
	PostingKey key = {sorting->order == ORDER_CREATED   ? row->created
					  : sorting->order == ORDER_UPDATED ? row->updated
														: row->id,
					  row->id};

	return key;
}

static int
compare_rows(const void *a, const void *b)
{
	int compared = posting_compare(key_of(a), key_of(b));

	return sorting->backward ? -compared : compared;
}

static int64_t found[MAX_RECORDS];
static uint32_t nfound;

static bool
collect(void *arg, const Record *record, bool certain)
{
	(void) arg;
	(void) certain;
	found[nfound++] = record->id;
	return rnd(10) != 0;
}

static bool
check_query(const State *state, const Query *q)
{
	static Row expected[MAX_RECORDS];
	uint32_t n = 0;
	uint32_t all = 0;
	Select select;
	uint64_t count;
	int budget = rnd(2) ? 1000000 : 1 + (int) rnd(30);

	sorting = &q->filter;
	for (int i = 0; i < nrows; i++)
		if (fits(q, &rows[i]))
		{
			PostingKey key = key_of(&rows[i]);
			int compared = posting_compare(key, q->filter.after_key);

			all++;
			if (!q->filter.after || (q->filter.backward ? compared < 0 : compared > 0))
				expected[n++] = rows[i];
		}
	qsort(expected, n, sizeof(Row), compare_rows);
	if (n > q->filter.max_rows)
		n = q->filter.max_rows;

	nfound = 0;
	select_init(&select, state, &q->filter);
	select.emit = collect;
	select.resize = realloc;
	while (!select.done)
	{
		select_step(&select, budget);
		if (select.unsorted)
			select_sort(&select);
	}
	free(select.matches);
	if (nfound != n || select.rows != n)
	{
		tap_note("plan %d: %u rows, %u expected", select.plan, nfound, n);
		return false;
	}
	for (uint32_t i = 0; i < n; i++)
		if (found[i] != expected[i].id)
			return false;
	if (!q->filter.after && select_count_fast(state, &q->filter, &count) && count != all)
	{
		tap_note("count %u, %u expected", (unsigned) count, all);
		return false;
	}
	return true;
}

int
main(void)
{
	State state;
	int bad_checks = 0;
	int bad_queries = 0;
	int queries = 0;
	uint64_t used;

	fixture_init(&state);
	for (int round = 0; round < 400; round++)
	{
		Query q;

		for (int i = 0; i < 60; i++)
			change(&state, round * 3 + i % 3);
		if (!state_check(&state))
			bad_checks++;
		for (int i = 0; i < 60; i++)
		{
			random_query(&q, round * 3 + 3);
			queries++;
			if (!check_query(&state, &q))
				bad_queries++;
		}
	}
	tap_note("%d records, %d queries, %llu bytes", nrows, queries,
			 (unsigned long long) fixture_shared.arena.used);
	tap_is(bad_checks, 0, "the structure is sound after every round of changes");
	tap_is(bad_queries, 0, "queries give the rows that a search of all gives");
	tap_ok(nrows > 1000, "there were many records");
	used = fixture_shared.arena.used;
	for (int i = 0; i < nrows; i++)
		if (!state_remove(&state, rows[i].id))
			bad_checks++;
	tap_ok(bad_checks == 0 && state_check(&state), "all can be removed");
	tap_ok(fixture_shared.arena.used < used / 10 && fixture_shared.content == 0 &&
			   fixture_shared.terms.used == 0,
		   "... and their memory is free again");
	tap_ok(!state_remove(&state, 1), "what is not there is not removed");
	memory_release();
	return tap_done();
}
