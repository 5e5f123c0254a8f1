/*-------------------------------------------------------------------------
 *
 * select.h
 *		Queries: which records, in which order, how many.
 *
 * Plain C.  A query runs in steps; during a step the state must not change
 * (readers hold the model's lock), between two steps it may.  A record is given
 * once, or not at all if it began or ceased to match meanwhile; with max_rows in the
 * order of updated, also if it moved.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_SELECT_H
#define NETBUS_SELECT_H

#include "cortex/search.h"
#include "cortex/state.h"

typedef enum Order
{
	ORDER_CREATED,
	ORDER_UPDATED,
	ORDER_ID,
} Order;

/* Records that have any of these values of an indexed attribute. */
typedef struct TermFilter
{
	int attr;
	int n;
	Value *values;
} TermFilter;

#define FILTER_ANY_STATE (-1)

/* Which records, and in which order: all of it must hold. */
typedef struct RecordFilter
{
	int nterms;
	TermFilter *terms;
	int state;
	int64_t created_from; /* inclusive; INT64_MIN: no bound */
	int64_t created_to;   /* inclusive; INT64_MAX: no bound */
	int64_t updated_from;
	int64_t updated_to;
	bool by_ids;
	int nids;
	int64_t *ids; /* ascending, no duplicates */

	/*
	 * A substring of the searched attribute.  Where only the caller can tell, he
	 * gets the record with certain = false.
	 */
	bool search;
	bool search_uncertain;    /* always */
	bool search_beyond_ascii; /* records that are not ASCII are uncertain */
	Needle needle;

	Order order;
	bool backward;
	bool after; /* only what comes behind this key in that order */
	PostingKey after_key;
	uint64_t max_rows; /* UINT64_MAX: all */
} RecordFilter;

/* A match whose order is not that of a list. */
typedef struct SelectMatch
{
	PostingKey key; /* in the query's order; its id is the record's */
	bool certain;
} SelectMatch;

typedef struct Select
{
	const State *state;
	const RecordFilter *filter;

	/*
	 * Called with each row, in order; false: no more of this step (the row is
	 * taken).  NULL: count only.
	 */
	bool (*emit)(void *arg, const Record *record, bool certain);
	void *arg;
	void *(*resize)(void *memory, size_t bytes); /* for matches; does not fail */

	bool done;
	bool unsorted; /* call select_sort(), before the next step can do anything */
	uint64_t rows; /* that are certain: emitted, or counted */

	/* private */
	enum
	{
		SELECT_WALK,    /* lists in the query's order */
		SELECT_FILTER,  /* a list in the query's order, the rest by looking at records */
		SELECT_COLLECT, /* lists in another order */
		SELECT_IDS,
		SELECT_SORTED, /* what the latter two have found */
	} plan;
	bool planned;
	bool started;
	PostingKey at;  /* go on at this key, */
	bool at_done;   /* or behind it */
	int64_t end_at; /* of a walk forward in the query's order */
	int cost;       /* of this step, in entries */
	int next_id;
	SelectMatch *matches;
	size_t nmatches;
	size_t room;
	size_t next_match;
	size_t unheaped;         /* of the sort: so many are still to be put in the heap, */
	size_t unsorted_matches; /* and taken out of it */
} Select;

extern void select_init(Select *select, const State *state, const RecordFilter *filter);

/* Do some more, examining about so many entries.  Sets done. */
extern void select_step(Select *select, int budget);

/* Sort some of what the steps have found: for milliseconds.  Needs no lock. */
extern void select_sort(Select *select);

/*
 * Does one record match, whatever the filter's order and page?  Where only the caller can
 * tell whether it has the substring: true, and not certain.
 */
extern bool select_matches(const State *state, const RecordFilter *filter, const Record *record,
						   bool *certain);

/*
 * The number of matches, if it is known without looking at any of them.  The
 * filter's order does not matter.
 */
extern bool select_count_fast(const State *state, const RecordFilter *filter, uint64_t *count);

#endif /* NETBUS_SELECT_H */
