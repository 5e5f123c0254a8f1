/*-------------------------------------------------------------------------
 *
 * filter.h
 *		Conditions on the payload of an event, given as jsonb, compiled once.
 *
 * The grammar, where v is any JSON value, s a number or a string, f a filter
 * and p a path such as "a.b.0":
 *
 *		{"path": p, "value": v}		equal, the same as {"path": p, "$eq": v}
 *		{"path": p, "$ne": v}, {"path": p, "$gt" | "$gte" | "$lt" | "$lte": s},
 *		{"path": p, "$in": [v, ..]}, {"path": p, "$exists": true | false},
 *		{"path": p, "$prefix": "text"}
 *		{"$and": [f, ..]}, {"$or": [f, ..]}, {"$not": f}
 *
 * Several operators of one path all have to hold.
 *
 * A path is split at each '.'; there is no escape.  "" is the whole document.  In
 * an object a segment is a key, in an array it is an index if it is a decimal
 * number without leading zeros.  Where a path leads nowhere, only $exists: false
 * and $not match; null is a value.
 *
 * Numbers are equal and ordered by value, so 1 is 1.0.  Strings are ordered by
 * their bytes.  $gt to $lte compare a number with a number and a string with a
 * string and match nothing else; $ne matches any other value, of whatever
 * type.  Arrays and objects are equal if all in them is, in whatever order
 * the keys of an object come.  $and of nothing is true, $or and $in of nothing are
 * false.
 *
 * An event whose payload is no JSON never matches.  What is JSON is what
 * jsonb_in() says, except that raw JSON is UTF-8 in databases of any
 * encoding (see filter.c), that its nesting ends at JSON_MAX_DEPTH, and that
 * its numbers may be too large for numeric.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_FILTER_H
#define NETBUS_FILTER_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "redex/frame.h"

#define FILTER_MAX_DEPTH 128 /* of $and, $or and $not; and of arrays and objects in an operand */

typedef struct Filter Filter;

/*
 * Compile a filter, in CurrentMemoryContext.  Everything it keeps is a copy.
 * Errors: INVALID_PARAMETER_VALUE, for unknown keys and operators, operands of a wrong
 * type, and nesting beyond FILTER_MAX_DEPTH.
 *
 * A filter does not change, but matching raw JSON uses memory in it: it is good
 * for one process and one match at a time.
 */
extern Filter *filter_compile(Jsonb *spec);

/*
 * Does a jsonb match, given as its container (a Jsonb without varlena header), 4-byte
 * aligned or not?  It must be a jsonb, see jsonb_check.h.
 */
extern bool filter_match_jsonb(const Filter *filter, const char *container, uint32 len);

/*
 * Does the text of a JSON value match?  bytes may be anything: what is not JSON in
 * UTF-8 does not match.  Builds no tree and stops as soon as the result is known to be
 * false; where an object has a key twice the first one counts.
 */
extern bool filter_match_raw(const Filter *filter, const char *bytes, uint32 len);

/* Does an event match?  flags: of its frame. */
static inline bool
filter_match(const Filter *filter, uint16 flags, const char *payload, uint32 len)
{
	return (flags & FRAME_JSONB) ? filter_match_jsonb(filter, payload, len)
								 : filter_match_raw(filter, payload, len);
}

/*
 * For an index of filters over jsonb: a filter may say of a path that one of a few scalars
 * has to be there, without which nothing matches.  That is a key; filters may have several.
 */
typedef struct FilterKey
{
	const Filter *filter;
	uint32 test;
} FilterKey;

/* The keys of a filter, as many as there is room for.  Returns how many. */
extern int filter_keys(const Filter *filter, FilterKey *keys, int room);

/* Are two keys of the same path? */
extern bool filter_key_same_path(const FilterKey *a, const FilterKey *b);

/* Hashes of a key's scalars: of the first ones, as many as there is room for.  Returns how many there are. */
extern int filter_key_hashes(const FilterKey *key, uint64 *hashes, int room);

/* The hash of the scalar that a jsonb has at a key's path; 0: none is there. */
extern uint64 filter_key_find(const FilterKey *key, const char *container);

#endif /* NETBUS_FILTER_H */
