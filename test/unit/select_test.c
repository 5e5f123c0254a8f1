/*-------------------------------------------------------------------------
 *
 * select_test.c
 *		The engine of CortEX beside an array that is searched from end to end.
 *
 * link: src/cortex/state.c src/cortex/union.c src/cortex/posting.c src/cortex/arena.c src/cortex/search.c src/core/hash.c src/core/hash_avx2.c
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
#define MAX_TERMS   80
#define MAX_VALUES  2000

typedef struct Row
{
	int64_t id;
	int64_t created;
	int64_t updated;
	uint32_t state;
	int source;    /* -1: null */
	uint32_t tags; /* bit: it has the tag */
	bool ascii;
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
	row->ascii = rnd(5) != 0 || row->content_len == 0;
	if (!row->ascii)
		row->content[rnd(row->content_len)] = (char) 0xe9;
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
		if (rnd(200) == 0)
			row->id = rnd(2) ? INT64_MAX - rnd(3) : INT64_MIN + rnd(3);
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
	RecordFilter filter;
	TermFilter terms[MAX_TERMS];
	Value values[MAX_VALUES];
	char names[MAX_VALUES][8];
	int numbers[MAX_VALUES];
	int nvalues;
	char needle[8];
	int64_t ids[20];
} Query;

static void
random_query(Query *q, int64_t now)
{
	RecordFilter *f = &q->filter;

	q->nvalues = 0;
	memset(f, 0, sizeof(RecordFilter));
	f->terms = q->terms;
	f->nterms = rnd(100) ? rnd(4) : rnd(MAX_TERMS);
	for (int t = 0; t < f->nterms; t++)
	{
		TermFilter *term = &q->terms[t];
		int few = 1 + rnd(4); /* so that there are some who have many */

		term->attr = f->nterms > 4 || rnd(4) ? ATTR_TAGS : ATTR_SOURCE;
		term->n = rnd(3) ? 1 : 1 + rnd(4);
		if (f->nterms <= 4 && rnd(50) == 0)
			term->n = rnd(3) ? rnd(100) : rnd(MAX_VALUES / 4);
		term->values = &q->values[q->nvalues];
		for (int i = 0; i < term->n; i++)
		{
			int v = q->nvalues++;

			/* Some that nobody has; some twice. */
			q->numbers[v] = rnd(f->nterms > 4             ? few
								: term->attr == ATTR_TAGS ? TAGS + 1
														  : SOURCES + 1);
			name_of(q->names[v], term->attr == ATTR_TAGS ? 't' : 's', q->numbers[v]);
			q->values[v] = value_of(q->names[v], strlen(q->names[v]));
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

		f->search_uncertain = rnd(10) == 0;
		f->search_beyond_ascii = rnd(3) == 0;

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

/* Can only the caller tell whether the text is there? */
static bool
uncertain(const RecordFilter *f, const Row *row)
{
	return f->search && (f->search_uncertain || (f->search_beyond_ascii && !row->ascii));
}

static bool
fits(const Query *q, const Row *row)
{
	const RecordFilter *f = &q->filter;

	for (int t = 0; t < f->nterms; t++)
	{
		const int *numbers = &q->numbers[f->terms[t].values - q->values];
		bool any = false;

		for (int i = 0; i < f->terms[t].n; i++)
			any |= f->terms[t].attr == ATTR_TAGS
					   ? (numbers[i] < TAGS && (row->tags >> numbers[i] & 1))
					   : row->source == numbers[i];
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
		   (!f->search || uncertain(f, row) || has(row, f->needle.text, f->needle.len));
}

static const RecordFilter *sorting;

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
	int compared =
		posting_compare(key_of(*(const Row *const *) a), key_of(*(const Row *const *) b));

	return sorting->backward ? -compared : compared;
}

typedef struct Found
{
	int64_t id;
	bool certain;
} Found;

static Found found[MAX_RECORDS * 2];
static uint32_t nfound;
static int plans[5]; /* how often each was made */

static bool
collect(void *arg, const Record *record, bool certain)
{
	(void) arg;
	found[nfound].id = record->id;
	found[nfound++].certain = certain;
	return rnd(10) != 0;
}

/* Run a query from the start, in steps. */
static void
run(const State *state, const RecordFilter *filter, int budget, Select *select)
{
	select_init(select, state, filter);
	select->emit = collect;
	select->resize = realloc;
	while (!select->done)
	{
		select_step(select, budget);
		plans[select->plan]++;
		if (select->unsorted)
			select_sort(select);
	}
	free(select->matches);
}

static bool
check_query(const State *state, const Query *q)
{
	static const Row *expected[MAX_RECORDS];
	uint32_t n = 0;
	uint32_t certain = 0;
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
				expected[n++] = &rows[i];
		}
	qsort(expected, n, sizeof(Row *), compare_rows);
	/* What is uncertain does not count. */
	for (uint32_t i = 0; i < n; i++)
		if (certain == q->filter.max_rows)
			n = i;
		else
			certain += !uncertain(&q->filter, expected[i]);

	nfound = 0;
	run(state, &q->filter, budget, &select);
	if (nfound != n || select.rows != certain)
	{
		tap_note("plan %d: %u rows, %u expected", select.plan, nfound, n);
		return false;
	}
	for (uint32_t i = 0; i < n; i++)
		if (found[i].id != expected[i]->id ||
			found[i].certain == uncertain(&q->filter, expected[i]))
			return false;
	if (!q->filter.after && select_count_fast(state, &q->filter, &count) && count != all)
	{
		tap_note("count %u, %u expected", (unsigned) count, all);
		return false;
	}
	/* Counting gives nothing but the number. */
	if (certain == n && rnd(4) == 0)
	{
		select_init(&select, state, &q->filter);
		select.resize = realloc;
		while (!select.done)
		{
			select_step(&select, budget);
			if (select.unsorted)
				select_sort(&select);
		}
		free(select.matches);
		if (select.rows != n)
			return false;
	}
	return true;
}

/* Page by page: the pages together are what one page of any length is. */
static bool
check_pages(const State *state, Query *q)
{
	static Found all[MAX_RECORDS];
	RecordFilter *filter = &q->filter;
	uint32_t n;
	uint32_t seen = 0;
	uint64_t page = 1 + rnd(rnd(3) ? 20 : 300);
	Select select;

	filter->search_uncertain = filter->search_beyond_ascii = false;
	filter->after = false;
	filter->max_rows = UINT64_MAX;
	nfound = 0;
	run(state, filter, 1000, &select);
	n = nfound;
	memcpy(all, found, n * sizeof(Found));
	filter->max_rows = page;
	do
	{
		nfound = 0;
		run(state, filter, 1000, &select);
		if (nfound > page || seen + nfound > n || (nfound < page && seen + nfound != n))
			return false;
		for (uint32_t i = 0; i < nfound; i++)
			if (found[i].id != all[seen++].id)
				return false;
		if (nfound > 0)
		{
			const Record *last = state_record(state, state_find(state, found[nfound - 1].id));

			filter->after = true;
			filter->after_key.id = last->id;
			filter->after_key.at = filter->order == ORDER_CREATED   ? last->created
								   : filter->order == ORDER_UPDATED ? last->updated
																	: last->id;
		}
	} while (nfound == page);
	return seen == n;
}

/* Every combination of filters, in every order, each way it may be planned. */
static int
check_combinations(const State *state, int64_t now)
{
	int bad = 0;

	for (int combination = 0; combination < 256; combination++)
		for (int order = 0; order < 6; order++)
		{
			static Query q;
			RecordFilter *f = &q.filter;

			/* Take from a random query what this combination has. */
			do
				random_query(&q, now);
			while (f->nterms == 0 || f->nterms > 4);
			f->nterms = combination & 1 ? f->nterms : 0;
			f->state = combination & 2 ? (int) rnd(2) : FILTER_ANY_STATE;
			f->created_from = combination & 4 ? (int64_t) rnd(now / 2 + 1) : INT64_MIN;
			f->created_to = combination & 8 ? now / 2 + (int64_t) rnd(now / 2 + 1) : INT64_MAX;
			f->updated_from = combination & 16 ? (int64_t) rnd(now / 2 + 1) : INT64_MIN;
			f->updated_to = combination & 16 ? now / 2 + (int64_t) rnd(now / 2 + 1) : INT64_MAX;
			f->by_ids = combination & 32 && f->nids > 0;
			f->search = (combination & 64) != 0;
			if (f->search)
				needle_init(&f->needle, q.needle, f->needle.len ? f->needle.len : 1);
			f->after = false;
			f->max_rows = combination & 128 ? 1 + rnd(20) : UINT64_MAX;
			f->order = order % 3;
			f->backward = order / 3;
			if (!check_query(state, &q))
				bad++;
			if (!check_pages(state, &q))
				bad++;
		}
	return bad;
}

/* ------------------------------------------------- changes between the steps */

static void
test_moving(State *state)
{
	static int times[MAX_RECORDS];
	int64_t now = 1000000;
	int bad = 0;

	for (int round = 0; round < 60; round++)
	{
		RecordFilter filter = {.state = FILTER_ANY_STATE,
							   .created_from = INT64_MIN,
							   .created_to = INT64_MAX,
							   .updated_from = INT64_MIN,
							   .updated_to = INT64_MAX,
							   .order = round % 3,
							   .backward = round / 3 % 2,
							   .max_rows = round / 6 % 2 ? (uint64_t) nrows / 3 : UINT64_MAX};
		char needle[] = "abca";
		Select select;
		uint64_t given = 0;

		if (round / 12 % 2)
		{
			filter.search = true;
			needle_init(&filter.needle, needle, 4);
		}
		nfound = 0;
		memset(times, 0, sizeof(times));
		select_init(&select, state, &filter);
		select.emit = collect;
		select.resize = realloc;
		while (!select.done)
		{
			select_step(&select, 300);
			if (select.unsorted)
				select_sort(&select);
			for (int i = 0; i < 20; i++)
			{
				Row *row = &rows[rnd(nrows)];

				row->updated = now++;
				row->state ^= 1;
				put(state, row, rnd(2));
			}
		}
		free(select.matches);
		for (int i = 0; i < nrows; i++)
			for (uint32_t f = 0; f < nfound; f++)
				times[i] += found[f].id == rows[i].id;
		for (int i = 0; i < nrows; i++)
		{
			bool fits_it = !filter.search || has(&rows[i], "abca", 4);

			given += times[i];
			if (times[i] > 1 || (filter.max_rows == UINT64_MAX && times[i] != fits_it))
				bad++;
		}
		if (given > filter.max_rows || given != nfound)
			bad++;
	}
	tap_is(bad, 0, "records that move while a query runs are given once");
}

/* How many steps a query takes; emitting nothing. */
static int
steps_of(State *state, const RecordFilter *filter)
{
	Select select;
	int steps = 0;

	select_init(&select, state, filter);
	select.resize = realloc;
	for (; !select.done; steps++)
	{
		select_step(&select, 2000);
		if (select.unsorted)
			select_sort(&select);
	}
	free(select.matches);
	return steps;
}

/* A step ends after so much work, of whatever sort it is. */
static void
test_budget(void)
{
	static char content[500000];
	static char list[1000 * 10];
	static TermFilter all[100];
	static Value values[1000];
	static char names[1000][8];
	State state;
	RecordFilter filter = {.state = FILTER_ANY_STATE,
						   .created_from = INT64_MIN,
						   .created_to = INT64_MAX,
						   .updated_from = INT64_MIN,
						   .updated_to = INT64_MAX,
						   .max_rows = UINT64_MAX};
	Select select;
	char needle[] = "ab"; /* too short for digests */
	uint32_t len = 0;
	int steps;

	memory_release();
	fixture_init(&state);
	memset(content, 'a', sizeof(content));
	for (int i = 0; i < 1000; i++)
	{
		sprintf(names[i], "t%d", i);
		values[i] = value_of(names[i], strlen(names[i]));
		len = texts_add(list, len, names[i], strlen(names[i]));
	}
	for (int i = 0; i < 60; i++)
	{
		Image image = {.id = i, .created = i, .updated = i};

		image.values[ATTR_CONTENT] = value_of(content, i < 30 ? sizeof(content) : 0);
		image.values[ATTR_TAGS] = value_of(list, i < 30 ? 0 : len);
		state_put(&state, &image);
	}
	filter.search = true;
	needle_init(&filter.needle, needle, 2);
	steps = steps_of(&state, &filter);
	tap_ok(steps >= 15 && steps < 50, "a step searches 1 MB at most");
	filter.search = false;

	filter.terms = all;
	filter.nterms = 1;
	all[0] = (TermFilter){ATTR_TAGS, 1000, values};
	steps = steps_of(&state, &filter);
	tap_ok(steps >= 10 && steps < 50, "a step looks at about 2000 entries of any lists");
	for (int i = 0; i < 100; i++)
		all[i] = (TermFilter){ATTR_TAGS, 1, &values[999]};
	filter.nterms = 100;
	steps = steps_of(&state, &filter);
	tap_ok(steps >= 30 && steps < 100, "a step compares about 16000 texts");
	filter.nterms = 0;

	/* All that was found has gone. */
	memory_release();
	fixture_init(&state);
	for (int i = 0; i < 20000; i++)
	{
		Image image = {.id = i, .created = i, .updated = i};

		image.values[ATTR_CONTENT] = value_of("", 0);
		image.values[ATTR_TAGS] = value_of("", 0);
		state_put(&state, &image);
	}
	filter.order = ORDER_UPDATED;
	select_init(&select, &state, &filter);
	select.resize = realloc;
	while (!select.unsorted)
		select_step(&select, 2000);
	for (steps = 0; select.unsorted; steps++)
		select_sort(&select);
	tap_ok(steps > 1, "to sort many is done in parts");
	for (int i = 0; i < 20000; i++)
		state_remove(&state, i);
	for (steps = 0; !select.done; steps++)
		select_step(&select, 2000);
	free(select.matches);
	tap_ok(steps > 20 && select.rows == 0, "a step passes about 500 records that have gone");
}

int
main(void)
{
	State state;
	int bad_checks = 0;
	int bad_queries = 0;
	int bad_pages = 0;
	int queries = 0;
	uint64_t used;

	fixture_init(&state);
	for (int round = 0; round < 200; round++)
	{
		static Query q;

		for (int i = 0; i < 80; i++)
			change(&state, round * 3 + i % 3);
		if (round % 10 == 0 && !state_check(&state))
			bad_checks++;
		for (int i = 0; i < 40; i++)
		{
			random_query(&q, round * 3 + 3);
			queries++;
			if (!check_query(&state, &q))
				bad_queries++;
		}
		random_query(&q, round * 3 + 3);
		if (!check_pages(&state, &q))
			bad_pages++;
	}
	tap_note("%d records, %d queries, %llu bytes", nrows, queries,
			 (unsigned long long) fixture_shared.arena.used);
	tap_is(bad_checks, 0, "the structure is sound after every round of changes");
	tap_is(bad_queries, 0, "queries give the rows that a search of all gives");
	tap_is(bad_pages, 0, "pages give all rows, once");
	tap_ok(nrows > 1000, "there were many records");
	tap_is(check_combinations(&state, 600), 0, "every combination of filters and orders");
	tap_ok(plans[SELECT_WALK] && plans[SELECT_FILTER] && plans[SELECT_COLLECT] &&
			   plans[SELECT_IDS] && plans[SELECT_SORTED],
		   "all plans were made");
	test_moving(&state);
	used = fixture_shared.arena.used;
	for (int i = 0; i < nrows; i++)
		if (!state_remove(&state, rows[i].id))
			bad_checks++;
	tap_ok(bad_checks == 0 && state_check(&state), "all can be removed");
	tap_ok(fixture_shared.arena.used < used / 10 && fixture_shared.content == 0 &&
			   fixture_shared.terms.used == 0,
		   "... and their memory is free again");
	test_budget();
	memory_release();
	return tap_done();
}
