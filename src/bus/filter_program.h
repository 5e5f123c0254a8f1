/*-------------------------------------------------------------------------
 *
 * filter_program.h
 *		A compiled filter: what the matchers of jsonb and of raw bytes run.
 *
 * A filter is built as a tree of groups ($and, $or) and tests.  $not is no
 * part of it: a test always has an answer, also where its path leads nowhere,
 * so whoever builds pushes $not down to the tests by De Morgan's rules.
 * Building drops groups that are constant or have one member, dissolves groups
 * in groups of their kind, and puts tests that are cheap and selective first.
 *
 * The tree is then laid out in arrays, in one block of memory, twice over:
 *
 *	- tests, in order, each with the test to go on with when it is true and
 *	  when it is false.  This is how a jsonb is matched: it can be asked for any path.
 *	- groups, each with its own group and the number of its members.  Raw bytes
 *	  are read once, and tests are answered as the values come along: an
 *	  answer climbs from group to group as far as it decides them.
 *
 * Paths form a trie; a node is a path.  Texts are kept in the encoding of the
 * server, which is that of jsonb, and in UTF-8, which is that of raw JSON; the
 * two share their bytes where they are the same.  Numbers are kept in decimal
 * digits, to be compared with what is written, and in the base of numeric.
 *
 * This file and filter_program.c are plain C: no palloc, no ereport.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_FILTER_PROGRAM_H
#define NETBUS_FILTER_PROGRAM_H

#include "bus/json_scan.h"

#define FILTER_NONE   UINT32_MAX       /* no node, test, group, or index in arrays */
#define FILTER_ACCEPT (UINT32_MAX - 1) /* instead of a next test: it matches */
#define FILTER_REJECT (UINT32_MAX - 2) /* it does not */

#define FILTER_NBASE        10000 /* the base of numeric's digits */
#define FILTER_NBASE_DIGITS 4

typedef enum FilterOp
{
	FILTER_IN, /* equal to one of the operands */
	FILTER_NE,
	FILTER_GT,
	FILTER_GTE,
	FILTER_LT,
	FILTER_LTE,
	FILTER_PREFIX,
	FILTER_EXISTS
} FilterOp;

/* The encodings of a text. */
typedef enum FilterEncoding
{
	FILTER_SERVER,
	FILTER_UTF8,
	FILTER_ENCODINGS
} FilterEncoding;

/* Bytes of the program. */
typedef struct FilterText
{
	uint32_t at;
	uint32_t len;
} FilterText;

typedef struct FilterNumber
{
	int64_t integer; /* the value, if is_integer */
	bool is_integer;
	bool negative;
	int32_t exponent;  /* 0.ddd * 10^exponent */
	FilterText digits; /* in ASCII, without 0 at either end; none: the number is 0 */
	int32_t weight;    /* of the first digit of base FILTER_NBASE */
	FilterText nbase;  /* those digits, as int16_t, unaligned, without 0 at either end */
} FilterNumber;

/* An operand, or a part of one. */
typedef struct FilterValue
{
	JsonType type;
	uint32_t first; /* element or member, of count */
	uint32_t count;
	FilterText key[FILTER_ENCODINGS]; /* of a member */
	union
	{
		FilterText text[FILTER_ENCODINGS];
		FilterNumber number;
	};
} FilterValue;

typedef struct FilterTest
{
	uint8_t op;       /* FilterOp */
	bool negated;     /* so the answer, also where the path leads nowhere, is the other one */
	uint8_t types;    /* of the operands, 1 << JsonType each: values of another type equal none */
	uint32_t node;    /* the path */
	uint32_t first;   /* operand, of count; sorted if there are several */
	uint32_t count;   /* more than one only of FILTER_IN, 0 only of FILTER_EXISTS */
	uint32_t if_true; /* the next test, or FILTER_ACCEPT or _REJECT */
	uint32_t if_false;
	uint32_t group;     /* FILTER_NONE: this test is the whole filter */
	uint32_t same_path; /* the next test of this node */
} FilterTest;

typedef struct FilterGroup
{
	uint32_t group;   /* that it is a member of */
	uint32_t members; /* groups and tests */
	bool is_or;
} FilterGroup;

typedef struct FilterNode
{
	FilterText key[FILTER_ENCODINGS]; /* the last segment of the path */
	uint32_t index;                   /* the same as an array index; FILTER_NONE: it is none */
	uint32_t child;                   /* the first one, of children */
	uint32_t children;
	uint32_t sibling;
	uint32_t tests; /* the first one */
	uint32_t path;  /* nodes from the top (not the root) to this one, in paths, if it has tests */
	uint32_t path_len; /* their number: segments */
} FilterNode;

/* A container that the raw matcher is in, because paths lead into it. */
typedef struct FilterFrame
{
	const char *start;
	uint32_t node;
	uint32_t index; /* of the element at hand */
	uint32_t left;  /* children of the node that were not met yet */
	bool is_object;
	bool fresh; /* nothing of it is read yet */
} FilterFrame;

typedef struct Filter FilterProgram;

struct Filter
{
	const FilterTest *tests;
	const FilterGroup *groups;
	const FilterNode *nodes; /* the first one is the root: the path of no segments */
	const uint32_t *paths;
	const FilterValue *values;
	const char *bytes;
	uint32_t n_tests;
	uint32_t n_groups;
	uint32_t n_nodes;
	uint32_t n_values;
	bool constant; /* the result, if there are no tests */
	bool one_text; /* all texts are the same in both encodings */

	/* Memory of the raw matcher, the only part that changes: one match at a time. */
	uint32_t *undecided; /* by group: members still to be answered; 0: decided */
	FilterFrame *frames; /* as many as the longest path has segments, and one */
	uint8_t *seen;       /* by node: its value was met; a second one of the same key is ignored */
	uint8_t *met;        /* by value: the same, while comparing with an object */
};

/* The same text in both encodings, by pointers that may be the same. */
typedef struct FilterSource
{
	const char *bytes[FILTER_ENCODINGS];
	uint32_t len[FILTER_ENCODINGS];
} FilterSource;

typedef struct FilterBuilder FilterBuilder;

/* Memory comes from alloc, which does not fail and is not freed here. */
extern FilterBuilder *filter_builder(void *(*alloc)(size_t size));

/* The node of a path. */
extern uint32_t filter_build_path(FilterBuilder *b, const FilterSource *path);

/* Room for operands, or the parts of one; the result is the first.  Each is then set once. */
extern uint32_t filter_build_values(FilterBuilder *b, uint32_t count);
extern void filter_build_literal(FilterBuilder *b, uint32_t value, JsonType type);
extern void filter_build_string(FilterBuilder *b, uint32_t value, const FilterSource *text);
/* text: a finite number as JSON writes it, its exponent in the range of numeric */
extern void filter_build_number(FilterBuilder *b, uint32_t value, const char *text, size_t len);
/* The result is the first element or member, to be set next. */
extern uint32_t filter_build_container(FilterBuilder *b, uint32_t value, JsonType type,
									   uint32_t count);
/* A member has a key, too. */
extern void filter_build_key(FilterBuilder *b, uint32_t value, const FilterSource *key);

/* The results are terms: tests, and groups that start out empty. */
extern uint32_t filter_build_test(FilterBuilder *b, uint32_t node, FilterOp op, bool negated,
								  uint32_t first, uint32_t count);
extern uint32_t filter_build_group(FilterBuilder *b, bool is_or);
/* The term must be complete. */
extern void filter_build_member(FilterBuilder *b, uint32_t group, uint32_t term);

/* The program of a complete term, in one piece from alloc; nothing of it is the builder's. */
extern FilterProgram *filter_build_program(FilterBuilder *b, uint32_t term,
										   void *(*alloc)(size_t size));

/* What the raw matcher found. */
typedef enum FilterVerdict
{
	FILTER_REJECTED, /* it does not match, whether it is JSON or not */
	FILTER_ACCEPTED,
	FILTER_NOT_JSON
} FilterVerdict;

extern FilterVerdict filter_scan(const FilterProgram *program, const char *bytes, uint32_t len);

#endif /* NETBUS_FILTER_PROGRAM_H */
