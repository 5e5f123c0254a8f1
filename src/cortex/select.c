/*-------------------------------------------------------------------------
 *
 * select.c
 *		Queries over a state.
 *
 * All indexes but two are ordered by (created, id).  In that order a query
 * walks its lists side by side: the shortest leads, the others follow by
 * galloping, and where all are at the same record it is a match.  A list of
 * alternatives (any of these tags) is the union of several.  The walk starts at
 * the query's bound or at the last key of the former page, and ends when there
 * are enough rows.
 *
 * In another order there are two ways: walk the list that has the order and look at
 * each record; or walk the lists as above, keep the best matches in a heap,
 * and sort these.  Which is shorter follows from the lengths of the lists.
 *
 * A query may take long, and the writer waits for as long as a step.  So a step
 * ends after a number of entries, and the next one finds its place by key.
 *
 *-------------------------------------------------------------------------
 */
#include "cortex/select.h"

#include <stdlib.h>
#include <string.h>

#include "cortex/union.h"

#define MAX_UNIONS   64
#define MAX_CURSORS  1024
#define SCAN_COST    4    /* of looking at a record, in entries */
#define SCAN_BYTES   256  /* of a text are searched, */
#define SCAN_TERMS   8    /* terms compared, */
#define OPEN_LISTS   8    /* lists opened at the cost of an entry */
#define SORT_AT_ONCE 1024 /* matches: a matter of microseconds */
#define SORT_PART    20000
#define PREFETCH_AT  8
#define BATCH        16 /* matches that are emitted together */

/* The cursors of a step. */
typedef struct Walk
{
	Union unions[MAX_UNIONS];
	int nunions;
	PostingCursor cursors[MAX_CURSORS];
	PostingCursor *heaps[MAX_CURSORS];
	int ncursors;
	bool by_record; /* some terms have to be looked for in the record */

	/* Matches to be emitted. */
	ArenaRef batch[BATCH];
	int nbatch;
} Walk;

/* Add a list to a union.  There is room. */
static void
open_list(Walk *walk, Union *lists, const Select *select, const PostingList *list)
{
	PostingCursor *cursor = &walk->cursors[walk->ncursors++];

	cursor_open(cursor, &select->state->map, list, select->filter->backward);
	union_add(lists, cursor);
}

static Union *
union_new(Walk *walk, Select *select)
{
	Union *lists = &walk->unions[walk->nunions++];

	memset(lists, 0, sizeof(Union));
	lists->heap = &walk->heaps[walk->ncursors];
	lists->cost = &select->cost;
	return lists;
}

static inline bool
term_fits(const Walk *walk, const TermFilter *term)
{
	return walk->nunions < MAX_UNIONS - 2 && walk->ncursors + term->n < MAX_CURSORS - 2;
}

/* Open the lists of a query that are ordered by created.  False: one is empty, hence no match. */
static bool
open_lists(Walk *walk, Select *select)
{
	const State *state = select->state;
	const RecordFilter *filter = select->filter;

	walk->nunions = walk->ncursors = walk->nbatch = 0;
	walk->by_record = false;
	for (int t = 0; t < filter->nterms; t++)
	{
		const TermFilter *term = &filter->terms[t];
		Union *lists;

		if (!term_fits(walk, term))
		{
			walk->by_record = true;
			continue;
		}
		lists = union_new(walk, select);
		for (int i = 0; i < term->n; i++)
		{
			const PostingList *list =
				state_term(state, term->attr, term->values[i].data, term->values[i].len);

			if (list)
				open_list(walk, lists, select, list);
		}
		union_settle(lists);
		if (!lists->current)
			return false;
	}
	if (filter->state != FILTER_ANY_STATE || walk->nunions == 0)
	{
		Union *lists = union_new(walk, select);

		open_list(walk, lists, select,
				  filter->state != FILTER_ANY_STATE ? &state->shared->by_state[filter->state]
													: &state->shared->by_created);
		union_settle(lists);
	}

	select->cost += walk->ncursors / OPEN_LISTS;

	/* The shortest first. */
	for (int i = 1; i < walk->nunions; i++)
		for (int j = i; j > 0 && walk->unions[j].count < walk->unions[j - 1].count; j--)
		{
			Union swap = walk->unions[j];

			walk->unions[j] = walk->unions[j - 1];
			walk->unions[j - 1] = swap;
		}
	return walk->unions[0].current != NULL;
}

static bool
has_term(Select *select, const Blob *blob, const TermFilter *term)
{
	const Schema *schema = select->state->schema;
	Value rest = blob_value(blob, schema->nattrs, term->attr);
	Value text;
	int compared = 0;
	bool found = false;

	if (!rest.data)
		return false;
	if (schema->attrs[term->attr].type == ATTR_TEXT)
	{
		for (int i = 0; i < term->n; i++)
			if (term->values[i].len == rest.len &&
				memcmp(term->values[i].data, rest.data, rest.len) == 0)
				return true;
		return false;
	}
	while (texts_next(&rest, &text))
	{
		compared += term->n;
		for (int i = 0; i < term->n; i++)
			if (term->values[i].len == text.len &&
				memcmp(term->values[i].data, text.data, text.len) == 0)
				found = true;
		if (found)
			break;
	}
	select->cost += compared / SCAN_TERMS;
	return found;
}

/* Does a record match?  Terms and state only if the lists have not told already. */
static bool
matches(Select *select, const Record *record, bool terms, bool *certain)
{
	const State *state = select->state;
	const RecordFilter *filter = select->filter;
	int nattrs = state->schema->nattrs;
	const Blob *blob;

	*certain = true;
	if (record->created < filter->created_from || record->created > filter->created_to ||
		record->updated < filter->updated_from || record->updated > filter->updated_to)
		return false;
	if (terms && filter->state != FILTER_ANY_STATE &&
		(int) (record->flags & RECORD_STATE) != filter->state)
		return false;
	if (!terms && !filter->search)
		return true;
	blob = state_blob(state, record);
	for (int t = 0; terms && t < filter->nterms; t++)
		if (!has_term(select, blob, &filter->terms[t]))
			return false;
	if (filter->search)
	{
		Value text;

		if (filter->search_uncertain || (record->flags & RECORD_ODD_CASE) ||
			(filter->search_beyond_ascii && !(record->flags & RECORD_ASCII)))
		{
			*certain = false;
			return true;
		}
		if (!digest_may_have(blob_digest(blob, nattrs), blob->digest_words, &filter->needle))
			return false;
		text = blob_value(blob, nattrs, state->schema->search);
		select->cost += text.len / SCAN_BYTES;
		return text.data && needle_in(&filter->needle, text.data, text.len);
	}
	return true;
}

bool
select_matches(const State *state, const RecordFilter *filter, const Record *record, bool *certain)
{
	Select select = {.state = state, .filter = filter};

	if (filter->by_ids)
	{
		int low = 0;
		int high = filter->nids;

		while (low < high)
		{
			int middle = low + (high - low) / 2;

			if (filter->ids[middle] < record->id)
				low = middle + 1;
			else
				high = middle;
		}
		if (low == filter->nids || filter->ids[low] != record->id)
			return false;
	}
	return matches(&select, record, true, certain);
}

static PostingKey
order_key(Order order, const Record *record)
{
	PostingKey key = {order == ORDER_CREATED   ? record->created
					  : order == ORDER_UPDATED ? record->updated
											   : record->id,
					  record->id};

	return key;
}

/* Is a behind b in the query's order? */
static inline bool
behind(const RecordFilter *filter, PostingKey a, PostingKey b)
{
	int compared = posting_compare(a, b);

	return filter->backward ? compared < 0 : compared > 0;
}

/*
 * Where a walk over a list in that order has to start: at this key, or behind it
 * (*behind_it); false: at its end.
 */
static bool
start_key(const Select *select, Order order, PostingKey *key, bool *behind_it)
{
	const RecordFilter *filter = select->filter;
	bool backward = filter->backward;
	bool bounded = false;
	int64_t limit = backward ? INT64_MAX : INT64_MIN;

	if (order == ORDER_CREATED)
		limit = backward ? filter->created_to : filter->created_from;
	else if (order == ORDER_UPDATED)
		limit = backward ? filter->updated_to : filter->updated_from;
	key->at = limit;
	key->id = backward ? INT64_MAX : INT64_MIN;
	bounded = limit != (backward ? INT64_MAX : INT64_MIN);
	*behind_it = false;

	if (filter->after && order == filter->order &&
		(!bounded || !behind(filter, *key, filter->after_key)))
	{
		*key = filter->after_key;
		*behind_it = bounded = true;
	}
	if (select->started)
	{
		*key = select->at;
		*behind_it = select->at_done;
		bounded = true;
	}
	return bounded;
}

/* Is a walk over a list in that order past all matches? */
static inline bool
past_end(const RecordFilter *filter, Order order, int64_t at)
{
	if (order == ORDER_CREATED)
		return filter->backward ? at < filter->created_from : at > filter->created_to;
	if (order == ORDER_UPDATED)
		return filter->backward ? at < filter->updated_from : at > filter->updated_to;
	return false;
}

/* ------------------------------------------------------------------- heap */

/* Is a to come after b? */
static inline bool
worse(const RecordFilter *filter, const SelectMatch *a, const SelectMatch *b)
{
	return behind(filter, a->key, b->key);
}

static void
sift_down(const RecordFilter *filter, SelectMatch *heap, size_t n, size_t i)
{
	for (;;)
	{
		size_t worst = i;
		SelectMatch swap;

		for (size_t c = 2 * i + 1; c <= 2 * i + 2 && c < n; c++)
			if (worse(filter, &heap[c], &heap[worst]))
				worst = c;
		if (worst == i)
			return;
		swap = heap[i];
		heap[i] = heap[worst];
		heap[worst] = swap;
		i = worst;
	}
}

/* Keep a match, if it is among the best max_rows. */
static void
keep_match(Select *select, const Record *record, bool certain)
{
	const RecordFilter *filter = select->filter;
	SelectMatch match = {order_key(filter->order, record), certain};
	bool bounded = filter->max_rows != UINT64_MAX && !filter->search;

	if (filter->after && !behind(filter, match.key, filter->after_key))
		return;
	if (bounded && select->nmatches >= filter->max_rows)
	{
		if (select->nmatches == 0 || !worse(filter, &select->matches[0], &match))
			return;
		select->matches[0] = match;
		sift_down(filter, select->matches, select->nmatches, 0);
		return;
	}
	if (select->nmatches == select->room)
	{
		select->room = select->room ? select->room * 2 : 64;
		select->matches = select->resize(select->matches, select->room * sizeof(SelectMatch));
	}
	select->matches[select->nmatches++] = match;
	if (bounded && select->nmatches == filter->max_rows)
		for (size_t i = select->nmatches; i-- > 0;)
			sift_down(filter, select->matches, select->nmatches, i);
}

/* Heapsort, because it needs no context and no memory, and can be left and gone on with. */
static void
sort_matches(Select *select, size_t most)
{
	const RecordFilter *filter = select->filter;
	SelectMatch *matches = select->matches;

	for (; select->unheaped > 0 && most > 0; most--)
		sift_down(filter, matches, select->nmatches, --select->unheaped);
	for (; select->unsorted_matches > 1 && most > 0; most--)
	{
		size_t last = --select->unsorted_matches;
		SelectMatch swap = matches[0];

		matches[0] = matches[last];
		matches[last] = swap;
		sift_down(filter, matches, last, 0);
	}
	select->unsorted = select->unheaped > 0 || select->unsorted_matches > 1;
}

/* ------------------------------------------------------------------ steps */

/* A row of the result.  False: end the step. */
static inline bool
emit(Select *select, const Record *record, bool certain)
{
	if (certain)
		select->rows++;
	return !select->emit || select->emit(select->arg, record, certain);
}

static inline bool
enough(const Select *select)
{
	return select->rows >= select->filter->max_rows;
}

/* Bring memory that will be looked at soon into the cache: cache lines of 64 bytes. */
static inline void
prefetch_blob(const State *state, const Record *record, int lines)
{
	const char *blob = arena_at(&state->map, record->blob);

	for (int i = 0; i < lines; i++)
		__builtin_prefetch(blob + i * 64);
}

static inline void
prefetch(const Select *select, const Union *lists)
{
	const State *state = select->state;
	ArenaRef record;

	if (lists->n != 1)
		return;
	if ((record = cursor_ahead(lists->current, 2 * PREFETCH_AT)) != 0)
		__builtin_prefetch(arena_at(&state->map, record));
	if (select->filter->search && (record = cursor_ahead(lists->current, PREFETCH_AT)) != 0)
		prefetch_blob(state, state_record(state, record), 2);
}

/* Go on behind a record. */
static void
resume_behind(Select *select, Order order, const Record *record)
{
	select->at = order_key(order, record);
	select->at_done = true;
	select->started = true;
	select->done = false;
}

/* Emit what was found.  False: the step ends, with the next one to go on behind the last row. */
static bool
emit_batch(Select *select, Walk *walk)
{
	const State *state = select->state;
	int n = walk->nbatch;

	walk->nbatch = 0;
	for (int i = 0; i < n; i++)
		prefetch_blob(state, state_record(state, walk->batch[i]), 8);
	for (int i = 0; i < n; i++)
		if (!emit(select, state_record(state, walk->batch[i]), true))
		{
			resume_behind(select, ORDER_CREATED, state_record(state, walk->batch[i]));
			return false;
		}
	return true;
}

/*
 * Walk lists that are ordered by created, side by side.  Found records are
 * emitted, or kept as matches.
 */
static void
walk_lists(Select *select, Walk *walk, int budget)
{
	const RecordFilter *filter = select->filter;
	Union *lead;
	PostingKey key;
	bool behind_it;
	bool collect = select->plan == SELECT_COLLECT;
	bool certain;
	bool look =
		filter->search || filter->updated_from != INT64_MIN || filter->updated_to != INT64_MAX;

	select->done = true;
	if (enough(select) || !open_lists(walk, select))
		return;
	lead = &walk->unions[0];
	look |= walk->by_record;
	if (start_key(select, ORDER_CREATED, &key, &behind_it))
	{
		union_seek(lead, key);
		if (behind_it && lead->current && posting_compare(cursor_key(lead->current), key) == 0)
			union_next(lead);
	}
	while (lead->current && !past_end(filter, ORDER_CREATED, lead->current->at))
	{
		ArenaRef ref = lead->current->record;
		bool all = true;

		for (int i = 1; i < walk->nunions && all; i++)
		{
			Union *lists = &walk->unions[i];

			if (lists->current && lists->current->record != ref)
				union_follow(lists, lead->current);
			if (!lists->current)
				return;
			if (lists->current->record != ref)
			{
				/* Nothing before this can match. */
				union_follow(lead, lists->current);
				all = false;
			}
		}
		select->cost++;
		if (all && !look && !collect)
		{
			/* A match, and nothing else to look at in the record. */
			if (!select->emit)
				select->rows++;
			else
			{
				__builtin_prefetch(state_record(select->state, ref));
				walk->batch[walk->nbatch++] = ref;
				if ((walk->nbatch == BATCH || select->rows + walk->nbatch >= filter->max_rows) &&
					!emit_batch(select, walk))
					return;
			}
			if (enough(select))
				return;
		}
		else if (all)
		{
			const Record *record = state_record(select->state, ref);

			if (look)
				prefetch(select, lead);
			select->cost += look ? SCAN_COST : 0;
			certain = true;
			if (!look || matches(select, record, walk->by_record, &certain))
			{
				if (collect)
					keep_match(select, record, certain);
				else if (!emit(select, record, certain))
					budget = 0;
				else if (enough(select))
					return;
			}
		}
		if (select->cost >= budget && lead->current)
		{
			/* The one that the lead has just come to is still to be looked at. */
			select->at = cursor_key(lead->current);
			select->at_done = all;
			select->started = true;
			select->done = false;
			return;
		}
		if (all)
			union_next(lead);
	}
}

static void
step_lists(Select *select, int budget)
{
	static Walk walk;

	walk_lists(select, &walk, budget);
	(void) emit_batch(select, &walk);
}

/* Walk the list that has the query's order, and look at each record. */
static void
step_filter(Select *select, int budget)
{
	const State *state = select->state;
	const RecordFilter *filter = select->filter;
	PostingCursor cursor;
	PostingKey key;
	bool behind_it;
	bool certain;

	select->done = true;
	if (enough(select))
		return;
	cursor_open(&cursor, &state->map,
				filter->order == ORDER_UPDATED ? &state->shared->by_updated : &state->shared->by_id,
				filter->backward);
	if (!select->started)
	{
		/* What is changed meanwhile goes behind this, and is not seen again. */
		PostingCursor last;

		cursor_open(&last, &state->map, cursor.list, true);
		select->end_at = last.valid && !filter->backward ? last.at : INT64_MAX;
	}
	if (start_key(select, filter->order, &key, &behind_it))
	{
		cursor_seek(&cursor, key);
		if (behind_it && cursor.valid && posting_compare(cursor_key(&cursor), key) == 0)
			cursor_next(&cursor);
	}
	for (; cursor.valid && !past_end(filter, filter->order, cursor.at); cursor_next(&cursor))
	{
		const Record *record = state_record(state, cursor.record);

		if (!filter->backward && cursor.at > select->end_at)
			return;
		select->cost += SCAN_COST;
		if (matches(select, record, true, &certain))
		{
			if (!emit(select, record, certain))
				budget = 0;
			else if (enough(select))
				return;
		}
		if (select->cost >= budget)
		{
			resume_behind(select, filter->order, record);
			return;
		}
	}
}

static void
step_ids(Select *select, int budget)
{
	const State *state = select->state;
	const RecordFilter *filter = select->filter;
	bool certain;

	for (; select->next_id < filter->nids && select->cost < budget; select->cost += SCAN_COST)
	{
		const int64_t *id = &filter->ids[select->next_id++];
		int left = filter->nids - select->next_id;
		ArenaRef ref;

		if (left > 4 * PREFETCH_AT)
			state_prefetch(state, id[4 * PREFETCH_AT], false);
		if (left > 2 * PREFETCH_AT)
			state_prefetch(state, id[2 * PREFETCH_AT], true);
		ref = state_find(state, *id);
		if (ref && matches(select, state_record(state, ref), true, &certain))
			keep_match(select, state_record(state, ref), certain);
	}
	select->done = select->next_id == filter->nids;
}

/* Emit the matches that were found, in order. */
static void
step_sorted(Select *select, int budget)
{
	const State *state = select->state;

	while (select->next_match < select->nmatches && !enough(select))
	{
		const SelectMatch *match = &select->matches[select->next_match++];
		ArenaRef ref;
		bool certain;

		if (select->emit && select->next_match + PREFETCH_AT / 2 < select->nmatches &&
			(ref = state_find(state, match[PREFETCH_AT / 2].key.id)) != 0)
			prefetch_blob(state, state_record(state, ref), 16);
		ref = state_find(state, match->key.id);

		/* It may have changed since; then it still has the place where it was found. */
		select->cost += SCAN_COST;
		if (ref && matches(select, state_record(state, ref), true, &certain) &&
			!emit(select, state_record(state, ref), certain))
			break;
		if (select->cost >= budget)
			break;
	}
	select->done = select->next_match == select->nmatches || enough(select);
}

/* Which way is shorter? */
static void
make_plan(Select *select)
{
	static Walk walk;
	const RecordFilter *filter = select->filter;
	uint64_t all = select->state->shared->by_created.count;
	uint64_t shortest;

	select->planned = true;
	if (filter->by_ids)
	{
		select->plan = SELECT_IDS;
		return;
	}
	if (filter->order == ORDER_CREATED)
	{
		select->plan = SELECT_WALK;
		return;
	}
	if (!open_lists(&walk, select))
	{
		select->done = true;
		return;
	}
	shortest = walk.unions[0].count;
	/*
	 * Of so many in order one matches; a bound may leave far less to walk.  Records move
	 * in the order of updated, and who asks for all of them must not miss one.
	 */
	if ((shortest == all && filter->order != ORDER_UPDATED) ||
		(filter->max_rows < shortest && filter->max_rows * (all / shortest + 1) < shortest))
		select->plan = SELECT_FILTER;
	else
		select->plan = SELECT_COLLECT;
}

void
select_init(Select *select, const State *state, const RecordFilter *filter)
{
	memset(select, 0, sizeof(Select));
	select->state = state;
	select->filter = filter;
}

void
select_step(Select *select, int budget)
{
	if (select->unsorted)
		return;
	select->cost = 0;
	if (!select->planned)
	{
		make_plan(select);
		if (select->done)
			return;
	}
	switch (select->plan)
	{
		case SELECT_FILTER:
			step_filter(select, budget);
			break;
		case SELECT_SORTED:
			step_sorted(select, budget);
			break;
		case SELECT_WALK:
			step_lists(select, budget);
			break;
		default:
			if (select->plan == SELECT_IDS)
				step_ids(select, budget);
			else
				step_lists(select, budget);
			if (!select->done)
				break;
			/* All that match are known. */
			select->plan = SELECT_SORTED;
			select->unsorted = true;
			select->unheaped = select->nmatches / 2;
			select->unsorted_matches = select->nmatches;
			select->done = false;
			if (select->nmatches <= SORT_AT_ONCE)
			{
				select_sort(select);
				step_sorted(select, budget);
			}
	}
}

void
select_sort(Select *select)
{
	sort_matches(select, SORT_PART);
}

bool
select_count_fast(const State *state, const RecordFilter *filter, uint64_t *count)
{
	const PostingList *list;
	PostingKey from = {filter->created_from, INT64_MIN};
	uint64_t before = 0;

	if (filter->by_ids || filter->search || filter->updated_from != INT64_MIN ||
		filter->updated_to != INT64_MAX)
		return false;
	if (filter->nterms == 0)
		list = filter->state == FILTER_ANY_STATE ? &state->shared->by_created
												 : &state->shared->by_state[filter->state];
	else if (filter->nterms == 1 && filter->state == FILTER_ANY_STATE && filter->terms[0].n == 1)
		list = state_term(state, filter->terms[0].attr, filter->terms[0].values[0].data,
						  filter->terms[0].values[0].len);
	else
		return false;
	*count = list ? list->count : 0;
	if (!list || filter->created_from > filter->created_to)
	{
		*count = 0;
		return true;
	}
	if (filter->created_to != INT64_MAX)
	{
		PostingKey to = {filter->created_to + 1, INT64_MIN};

		*count = posting_rank(&state->map, list, to);
	}
	if (filter->created_from != INT64_MIN)
		before = posting_rank(&state->map, list, from);
	*count = *count > before ? *count - before : 0;
	return true;
}
