/*-------------------------------------------------------------------------
 *
 * filter_program.c
 *		Building a compiled filter.
 *
 * The arrays of the builder grow while terms are added; what a constant made
 * superfluous stays in them and is not copied to the program, except for
 * operands and paths, which harm nobody.
 *
 *-------------------------------------------------------------------------
 */
#include "bus/filter_program.h"

#include <string.h>

#define LEAST_ROOM 16 /* items, when an array is first needed */

/* A part of the tree: a test, or a group with its members. */
typedef struct Term
{
	bool is_test;
	bool is_or;
	bool absorbed;   /* a member decided the group: what comes now does not matter */
	uint32_t test;   /* among those of the builder */
	uint32_t first;  /* member */
	uint32_t last;   /* member */
	uint32_t next;   /* member of the same group */
	uint32_t tests;  /* in it; counted at the end */
	uint32_t groups; /* likewise, with itself */
} Term;

/* An array that grows. */
typedef struct Room
{
	void *items;
	size_t count;
	size_t max;
} Room;

struct FilterBuilder
{
	void *(*alloc)(size_t size);
	Room terms;
	Room tests;
	Room nodes;
	Room paths;
	Room values;
	Room bytes;
	bool one_text;
};

/* Room for count more items of a size; the result is the index of the first, all zero. */
static uint32_t
reserve(FilterBuilder *b, Room *room, size_t size, uint32_t count)
{
	size_t first = room->count;

	if (room->count + count > room->max)
	{
		size_t max = room->max > 0 ? room->max : LEAST_ROOM;
		char *items;

		while (max < room->count + count)
			max *= 2;
		items = b->alloc(max * size);
		if (room->count > 0)
			memcpy(items, room->items, room->count * size);
		room->items = items;
		room->max = max;
	}
	if (count > 0)
		memset((char *) room->items + first * size, 0, count * size);
	room->count += count;
	return first;
}

static Term *
get_term(FilterBuilder *b, uint32_t term)
{
	return (Term *) b->terms.items + term;
}

static FilterNode *
get_node(FilterBuilder *b, uint32_t node)
{
	return (FilterNode *) b->nodes.items + node;
}

static FilterValue *
get_value(FilterBuilder *b, uint32_t value)
{
	return (FilterValue *) b->values.items + value;
}

static const char *
get_bytes(FilterBuilder *b, FilterText text)
{
	return (const char *) b->bytes.items + text.at;
}

static FilterText
put_bytes(FilterBuilder *b, const void *bytes, uint32_t len)
{
	FilterText text = {reserve(b, &b->bytes, 1, len), len};

	if (len > 0)
		memcpy((char *) b->bytes.items + text.at, bytes, len);
	return text;
}

static void
put_text(FilterBuilder *b, FilterText *text, const FilterSource *source)
{
	uint32_t len = source->len[FILTER_SERVER];

	text[FILTER_SERVER] = put_bytes(b, source->bytes[FILTER_SERVER], len);
	text[FILTER_UTF8] = text[FILTER_SERVER];
	if (source->len[FILTER_UTF8] != len ||
		memcmp(source->bytes[FILTER_SERVER], source->bytes[FILTER_UTF8], len) != 0)
	{
		text[FILTER_UTF8] = put_bytes(b, source->bytes[FILTER_UTF8], source->len[FILTER_UTF8]);
		b->one_text = false;
	}
}

static uint32_t
new_node(FilterBuilder *b)
{
	uint32_t id = reserve(b, &b->nodes, sizeof(FilterNode), 1);
	FilterNode *node = get_node(b, id);

	node->index = FILTER_NONE;
	node->child = FILTER_NONE;
	node->sibling = FILTER_NONE;
	node->tests = FILTER_NONE;
	node->path = FILTER_NONE;
	return id;
}

FilterBuilder *
filter_builder(void *(*alloc)(size_t size))
{
	FilterBuilder *b = alloc(sizeof(FilterBuilder));

	memset(b, 0, sizeof(FilterBuilder));
	b->alloc = alloc;
	b->one_text = true;
	/* a byte for empty texts to be at */
	reserve(b, &b->bytes, 1, 1);
	/* the root, whose path is empty */
	get_node(b, new_node(b))->path = 0;
	return b;
}

/* As an array index: decimal, without leading zeros. */
static uint32_t
segment_index(const char *bytes, uint32_t len)
{
	uint64_t index = 0;

	if (len == 0 || len > 10 || (bytes[0] == '0' && len > 1))
		return FILTER_NONE;
	for (uint32_t i = 0; i < len; i++)
	{
		if (bytes[i] < '0' || bytes[i] > '9')
			return FILTER_NONE;
		index = index * 10 + (bytes[i] - '0');
	}
	return index < FILTER_NONE ? index : FILTER_NONE;
}

static uint32_t
child_node(FilterBuilder *b, uint32_t parent, const FilterSource *segment)
{
	uint32_t len = segment->len[FILTER_SERVER];
	uint32_t id;
	FilterNode *node;

	for (id = get_node(b, parent)->child; id != FILTER_NONE; id = node->sibling)
	{
		node = get_node(b, id);
		if (node->key[FILTER_SERVER].len == len &&
			memcmp(get_bytes(b, node->key[FILTER_SERVER]), segment->bytes[FILTER_SERVER], len) == 0)
			return id;
	}

	id = new_node(b);
	node = get_node(b, id);
	put_text(b, node->key, segment);
	node->index = segment_index(segment->bytes[FILTER_SERVER], len);
	node->sibling = get_node(b, parent)->child;
	get_node(b, parent)->child = id;
	get_node(b, parent)->children++;
	return id;
}

uint32_t
filter_build_path(FilterBuilder *b, const FilterSource *path)
{
	FilterSource rest = *path;
	uint32_t first = b->paths.count;
	uint32_t id = 0;
	uint32_t at;

	if (path->len[FILTER_SERVER] == 0)
		return id;

	/* No encoding of a server has '.' inside of a character, so the segments are as many in both. */
	for (bool more = true; more;)
	{
		FilterSource segment = rest;

		for (int i = 0; i < FILTER_ENCODINGS; i++)
		{
			const char *dot = rest.len[i] > 0 ? memchr(rest.bytes[i], '.', rest.len[i]) : NULL;

			more = dot != NULL;
			if (more)
			{
				segment.len[i] = dot - rest.bytes[i];
				rest.bytes[i] = dot + 1;
				rest.len[i] -= segment.len[i] + 1;
			}
		}
		id = child_node(b, id, &segment);
		at = reserve(b, &b->paths, sizeof(uint32_t), 1);
		((uint32_t *) b->paths.items)[at] = id;
	}

	if (get_node(b, id)->path == FILTER_NONE)
	{
		get_node(b, id)->path = first;
		get_node(b, id)->path_len = b->paths.count - first;
	}
	else
		b->paths.count = first;
	return id;
}

uint32_t
filter_build_values(FilterBuilder *b, uint32_t count)
{
	return reserve(b, &b->values, sizeof(FilterValue), count);
}

void
filter_build_literal(FilterBuilder *b, uint32_t value, JsonType type)
{
	get_value(b, value)->type = type;
}

void
filter_build_string(FilterBuilder *b, uint32_t value, const FilterSource *text)
{
	get_value(b, value)->type = JSON_TYPE_STRING;
	put_text(b, get_value(b, value)->text, text);
}

void
filter_build_key(FilterBuilder *b, uint32_t value, const FilterSource *key)
{
	put_text(b, get_value(b, value)->key, key);
}

uint32_t
filter_build_container(FilterBuilder *b, uint32_t value, JsonType type, uint32_t count)
{
	uint32_t first = filter_build_values(b, count);

	get_value(b, value)->type = type;
	get_value(b, value)->first = first;
	get_value(b, value)->count = count;
	return first;
}

/* Gather the digits of a number in the base of numeric, aligned at the point. */
static FilterText
put_nbase(FilterBuilder *b, FilterNumber *number)
{
	int32_t power = number->exponent - 1;
	int32_t place;
	FilterText nbase = {b->bytes.count, 0};

	number->weight = power >= 0 ? power / FILTER_NBASE_DIGITS
								: -((FILTER_NBASE_DIGITS - 1 - power) / FILTER_NBASE_DIGITS);
	place = power - number->weight * FILTER_NBASE_DIGITS;
	for (uint32_t i = 0; i < number->digits.len;)
	{
		int16_t digit = 0;

		for (; place >= 0; place--, i++)
		{
			digit *= 10;
			if (i < number->digits.len)
				digit += get_bytes(b, number->digits)[i] - '0';
		}
		place = FILTER_NBASE_DIGITS - 1;
		put_bytes(b, &digit, sizeof(digit));
	}
	nbase.len = b->bytes.count - nbase.at;
	return nbase;
}

void
filter_build_number(FilterBuilder *b, uint32_t value, const char *text, size_t len)
{
	JsonDecimal decimal = json_decimal(text, text + len);
	FilterNumber number = {0};

	number.digits.at = b->bytes.count;
	if (decimal.digits == NULL)
		number.is_integer = true;
	else
	{
		number.negative = decimal.negative;
		number.exponent = decimal.exponent;
		for (const char *p = decimal.digits; p < decimal.end; p++)
		{
			if (*p != '.')
				put_bytes(b, p, 1);
		}
		number.digits.len = b->bytes.count - number.digits.at;
		while (get_bytes(b, number.digits)[number.digits.len - 1] == '0')
			number.digits.len--;
		number.nbase = put_nbase(b, &number);

		/* 18 digits fit without a look */
		if (number.exponent <= 18 && number.exponent >= (int64_t) number.digits.len)
		{
			number.is_integer = true;
			for (int32_t i = 0; i < number.exponent; i++)
				number.integer =
					number.integer * 10 +
					(i < (int64_t) number.digits.len ? get_bytes(b, number.digits)[i] - '0' : 0);
			if (number.negative)
				number.integer = -number.integer;
		}
	}
	get_value(b, value)->type = JSON_TYPE_NUMBER;
	get_value(b, value)->number = number;
}

static int
compare_bytes(FilterBuilder *b, FilterText left, FilterText right)
{
	uint32_t len = left.len < right.len ? left.len : right.len;
	int result = len > 0 ? memcmp(get_bytes(b, left), get_bytes(b, right), len) : 0;

	return result != 0 ? result : (left.len > right.len) - (left.len < right.len);
}

static int
compare_numbers(FilterBuilder *b, const FilterNumber *left, const FilterNumber *right)
{
	int left_sign = left->digits.len == 0 ? 0 : left->negative ? -1 : 1;
	int right_sign = right->digits.len == 0 ? 0 : right->negative ? -1 : 1;
	int result;

	if (left_sign != right_sign || left_sign == 0)
		return left_sign - right_sign;
	result = left->exponent != right->exponent ? (left->exponent > right->exponent ? 1 : -1)
											   : compare_bytes(b, left->digits, right->digits);
	return left_sign * result;
}

/* The order in which operands are searched: by type, then value; containers of a type are equal. */
static int
compare_values(FilterBuilder *b, uint32_t left, uint32_t right)
{
	const FilterValue *l = get_value(b, left);
	const FilterValue *r = get_value(b, right);

	if (l->type != r->type)
		return l->type > r->type ? 1 : -1;
	if (l->type == JSON_TYPE_STRING)
		return compare_bytes(b, l->text[FILTER_SERVER], r->text[FILTER_SERVER]);
	if (l->type == JSON_TYPE_NUMBER)
		return compare_numbers(b, &l->number, &r->number);
	return 0;
}

/* Let the value at root sink in a heap of count values from first on. */
static void
sift(FilterBuilder *b, uint32_t first, uint32_t root, uint32_t count)
{
	for (;;)
	{
		uint32_t child = 2 * root + 1;
		FilterValue value;

		if (child >= count)
			return;
		if (child + 1 < count && compare_values(b, first + child, first + child + 1) < 0)
			child++;
		if (compare_values(b, first + root, first + child) >= 0)
			return;
		value = *get_value(b, first + root);
		*get_value(b, first + root) = *get_value(b, first + child);
		*get_value(b, first + child) = value;
		root = child;
	}
}

/* By heapsort: qsort() passes the builder to nobody. */
static void
sort_values(FilterBuilder *b, uint32_t first, uint32_t count)
{
	for (uint32_t i = count / 2; i > 0; i--)
		sift(b, first, i - 1, count);
	for (uint32_t i = count; i > 1; i--)
	{
		FilterValue value = *get_value(b, first);

		*get_value(b, first) = *get_value(b, first + i - 1);
		*get_value(b, first + i - 1) = value;
		sift(b, first, 0, i - 1);
	}
}

static uint32_t
new_term(FilterBuilder *b)
{
	uint32_t id = reserve(b, &b->terms, sizeof(Term), 1);
	Term *term = get_term(b, id);

	term->first = FILTER_NONE;
	term->last = FILTER_NONE;
	term->next = FILTER_NONE;
	return id;
}

uint32_t
filter_build_test(FilterBuilder *b, uint32_t node, FilterOp op, bool negated, uint32_t first,
				  uint32_t count)
{
	uint32_t id;
	FilterTest *test;

	/* Nothing is equal to one of none: $or of nothing is false, $and of nothing is true. */
	if (op == FILTER_IN && count == 0)
		return filter_build_group(b, !negated);

	sort_values(b, first, count);
	id = reserve(b, &b->tests, sizeof(FilterTest), 1);
	test = (FilterTest *) b->tests.items + id;
	test->op = op;
	test->negated = negated;
	for (uint32_t i = 0; i < count; i++)
		test->types |= 1 << get_value(b, first + i)->type;
	test->node = node;
	test->first = first;
	test->count = count;

	id = new_term(b);
	get_term(b, id)->is_test = true;
	get_term(b, id)->test = b->tests.count - 1;
	return id;
}

uint32_t
filter_build_group(FilterBuilder *b, bool is_or)
{
	uint32_t id = new_term(b);

	get_term(b, id)->is_or = is_or;
	return id;
}

/* A group with one member is that member. */
static uint32_t
simplest(FilterBuilder *b, uint32_t id)
{
	Term *term = get_term(b, id);

	while (!term->is_test && term->first != FILTER_NONE && term->first == term->last)
	{
		id = term->first;
		term = get_term(b, id);
	}
	return id;
}

void
filter_build_member(FilterBuilder *b, uint32_t group_id, uint32_t id)
{
	Term *group = get_term(b, group_id);
	Term *term;
	uint32_t first;
	uint32_t last;

	id = simplest(b, id);
	term = get_term(b, id);
	if (group->absorbed)
		return;

	if (term->is_test || (term->is_or != group->is_or && term->first != FILTER_NONE))
		first = last = id;
	else if (term->is_or != group->is_or)
	{
		/* true in an $or or false in an $and: so is the whole */
		group->absorbed = true;
		group->is_or = !group->is_or;
		group->first = group->last = FILTER_NONE;
		return;
	}
	else
	{
		/* a group of this kind, whose members are as good here; or the constant that changes nothing */
		first = term->first;
		last = term->last;
		if (first == FILTER_NONE)
			return;
	}

	if (group->first == FILTER_NONE)
		group->first = first;
	else
		get_term(b, group->last)->next = first;
	group->last = last;
}

/* Groups nest in one another no deeper than who built them could recurse. */
static void
count_term(FilterBuilder *b, uint32_t id)
{
	Term *term = get_term(b, id);

	term->tests = term->is_test ? 1 : 0;
	term->groups = term->is_test ? 0 : 1;
	for (uint32_t member = term->first; member != FILTER_NONE; member = get_term(b, member)->next)
	{
		count_term(b, member);
		term->tests += get_term(b, member)->tests;
		term->groups += get_term(b, member)->groups;
	}
}

/*
 * When a member's turn comes: cheap tests first, and of those first the ones
 * that are seldom true.
 */
enum
{
	RANK_EQUAL,
	RANK_ORDER,
	RANK_COMMON, /* seldom false */
	RANK_DEEP,   /* compares containers */
	RANK_GROUP,
	RANKS
};

static int
rank_term(FilterBuilder *b, uint32_t id)
{
	const Term *term = get_term(b, id);
	const FilterTest *test;

	if (!term->is_test)
		return RANK_GROUP;
	test = (FilterTest *) b->tests.items + term->test;
	if (test->types & (1 << JSON_TYPE_ARRAY | 1 << JSON_TYPE_OBJECT))
		return RANK_DEEP;
	if (test->negated || test->op == FILTER_NE || test->op == FILTER_EXISTS)
		return RANK_COMMON;
	return test->op == FILTER_IN ? RANK_EQUAL : RANK_ORDER;
}

/* A program in the making. */
typedef struct Layout
{
	FilterBuilder *b;
	FilterTest *tests;
	FilterGroup *groups;
	FilterNode *nodes;
	uint32_t n_tests;
	uint32_t n_groups;
} Layout;

static void
lay_out(Layout *l, uint32_t id, uint32_t group, uint32_t if_true, uint32_t if_false)
{
	const Term *term = get_term(l->b, id);
	FilterGroup *own;
	uint32_t own_id;
	uint32_t tests_left = term->tests;
	uint32_t first_test = l->n_tests;

	if (term->is_test)
	{
		FilterTest *test = &l->tests[l->n_tests];
		FilterNode *node;

		*test = ((FilterTest *) l->b->tests.items)[term->test];
		node = &l->nodes[test->node];
		test->group = group;
		test->if_true = if_true;
		test->if_false = if_false;
		test->same_path = node->tests;
		node->tests = l->n_tests++;
		return;
	}

	own_id = l->n_groups++;
	own = &l->groups[own_id];
	own->group = group;
	own->is_or = term->is_or;
	own->members = 0;
	for (int rank = 0; rank < RANKS; rank++)
	{
		for (uint32_t member = term->first; member != FILTER_NONE;
			 member = get_term(l->b, member)->next)
		{
			uint32_t next;

			if (rank_term(l->b, member) != rank)
				continue;
			tests_left -= get_term(l->b, member)->tests;
			next = first_test + term->tests - tests_left;
			own->members++;
			if (own->is_or)
				lay_out(l, member, own_id, if_true, tests_left > 0 ? next : if_false);
			else
				lay_out(l, member, own_id, tests_left > 0 ? next : if_true, if_false);
		}
	}
}

/* Take size bytes for an array, and fill them from where it is now. */
static void *
take(char **at, const void *from, size_t size)
{
	char *taken = *at;

	if (from != NULL)
		memcpy(taken, from, size);
	*at += (size + 7) & ~(size_t) 7;
	return taken;
}

FilterProgram *
filter_build_program(FilterBuilder *b, uint32_t term, void *(*alloc)(size_t size))
{
	const uint32_t frames_max = JSON_MAX_DEPTH;
	uint32_t n_frames = 1;
	FilterProgram *program;
	Layout layout = {0};
	size_t size;
	char *at;

	term = simplest(b, term);
	count_term(b, term);
	for (uint32_t i = 0; i < b->nodes.count; i++)
	{
		if (n_frames <= get_node(b, i)->path_len)
			n_frames = get_node(b, i)->path_len + 1;
	}
	if (n_frames > frames_max)
		n_frames = frames_max;

	/* each array may be followed by up to 7 bytes */
	size = sizeof(FilterProgram) + get_term(b, term)->tests * sizeof(FilterTest) +
		   get_term(b, term)->groups * (sizeof(FilterGroup) + sizeof(uint32_t)) +
		   b->nodes.count * (sizeof(FilterNode) + 1) + b->paths.count * sizeof(uint32_t) +
		   b->values.count * (sizeof(FilterValue) + 1) + b->bytes.count +
		   n_frames * sizeof(FilterFrame) + 10 * 8;
	program = alloc(size);
	memset(program, 0, size);
	at = (char *) program;
	take(&at, NULL, sizeof(FilterProgram));

	layout.b = b;
	layout.tests = take(&at, NULL, get_term(b, term)->tests * sizeof(FilterTest));
	layout.groups = take(&at, NULL, get_term(b, term)->groups * sizeof(FilterGroup));
	layout.nodes = take(&at, b->nodes.items, b->nodes.count * sizeof(FilterNode));
	program->constant = !get_term(b, term)->is_or;
	if (get_term(b, term)->tests > 0)
		lay_out(&layout, term, FILTER_NONE, FILTER_ACCEPT, FILTER_REJECT);

	program->tests = layout.tests;
	program->n_tests = layout.n_tests;
	program->groups = layout.groups;
	program->n_groups = layout.n_groups;
	program->nodes = layout.nodes;
	program->n_nodes = b->nodes.count;
	program->paths = take(&at, b->paths.items, b->paths.count * sizeof(uint32_t));
	program->bytes = take(&at, b->bytes.items, b->bytes.count);
	program->values = take(&at, b->values.items, b->values.count * sizeof(FilterValue));
	program->n_values = b->values.count;
	program->one_text = b->one_text;
	program->undecided = take(&at, NULL, program->n_groups * sizeof(uint32_t));
	program->frames = take(&at, NULL, n_frames * sizeof(FilterFrame));
	program->seen = take(&at, NULL, program->n_nodes);
	program->met = take(&at, NULL, program->n_values);
	return program;
}
