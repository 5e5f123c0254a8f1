/*-------------------------------------------------------------------------
 *
 * filter_raw.c
 *		Matching the text of a JSON value, in one pass and without a tree.
 *
 * The scan follows the document and the trie of paths at once.  It enters
 * only containers that a path leads into and steps over all else.  At each
 * value that ends a path it answers the tests of that path, and each answer
 * is carried up through the groups until it decides the filter.  A filter that is
 * decided to be false ends the scan; one that is true goes on, because the rest may
 * turn out not to be JSON.  Paths that were not met by the end lead nowhere.
 *
 * Which of duplicate keys counts: the first, since an answer cannot be taken
 * back.  jsonb keeps the last.
 *
 * The text is UTF-8, whatever the encoding of the database, so it is compared
 * with the operands in UTF-8; the order of strings is that of their bytes.
 *
 * Plain C: no palloc, no ereport.  The recursion of raw_equal() is as deep as an operand.
 *
 *-------------------------------------------------------------------------
 */
#include "bus/filter_program.h"

#include <string.h>

#define CONTAINER_TYPES (1 << JSON_TYPE_ARRAY | 1 << JSON_TYPE_OBJECT)

typedef struct Scan
{
	const FilterProgram *program;
	const char *p;
	const char *end;
	uint32_t depth; /* open frames */
	bool decided;
	bool result; /* if decided */
} Scan;

/* A value that ends a path; of a string the part between its quotes. */
typedef struct RawValue
{
	JsonType type;
	bool escaped;
	const char *start;
	const char *end;
} RawValue;

static inline const char *
text_bytes(const FilterProgram *program, FilterText text)
{
	return program->bytes + text.at;
}

static inline bool
string_equal(const FilterProgram *program, const RawValue *value, FilterText text)
{
	size_t len = value->end - value->start;

	if (value->escaped)
		return json_string_compare(value->start, value->end, text_bytes(program, text), text.len,
								   false) == 0;
	return len == text.len && json_bytes_equal(value->start, text_bytes(program, text), len);
}

/* An integer of at most 18 digits, as most numbers are. */
static inline bool
small_integer(const char *p, const char *end, int64_t *result)
{
	bool negative = *p == '-';
	int64_t value = 0;

	if (negative)
		p++;
	if (end - p > 18)
		return false;
	for (; p < end; p++)
	{
		if (*p < '0' || *p > '9')
			return false;
		value = value * 10 + (*p - '0');
	}
	*result = negative ? -value : value;
	return true;
}

static int
compare_digits(const FilterProgram *program, const JsonDecimal *value, FilterText digits)
{
	const char *digit = text_bytes(program, digits);
	const char *last = digit + digits.len;

	for (const char *p = value->digits; p < value->end; p++)
	{
		char other = digit < last ? *digit : '0';

		if (*p == '.')
			continue;
		if (*p != other)
			return *p < other ? -1 : 1;
		digit++;
	}
	return digit < last ? -1 : 0;
}

static int
compare_number(const FilterProgram *program, const RawValue *value, const FilterNumber *number)
{
	JsonDecimal decimal;
	int64_t integer;
	int sign;
	int other;

	if (number->is_integer && small_integer(value->start, value->end, &integer))
		return (integer > number->integer) - (integer < number->integer);

	decimal = json_decimal(value->start, value->end);
	sign = decimal.digits == NULL ? 0 : decimal.negative ? -1 : 1;
	other = number->digits.len == 0 ? 0 : number->negative ? -1 : 1;
	if (sign != other || sign == 0)
		return sign - other;
	if (decimal.exponent != number->exponent)
		return decimal.exponent < number->exponent ? -sign : sign;
	return sign * compare_digits(program, &decimal, number->digits);
}

/* A scalar beside an operand of the same type. */
static int
compare_scalar(const FilterProgram *program, const RawValue *value, const FilterValue *operand)
{
	FilterText text;

	switch (value->type)
	{
		case JSON_TYPE_NUMBER:
			return compare_number(program, value, &operand->number);
		case JSON_TYPE_STRING:
			text = operand->text[FILTER_UTF8];
			if (!value->escaped)
			{
				size_t len = value->end - value->start;
				int result = memcmp(value->start, text_bytes(program, text),
									len < text.len ? len : text.len);

				return result != 0 ? result : (len > text.len) - (len < text.len);
			}
			return json_string_compare(value->start, value->end, text_bytes(program, text),
									   text.len, false);
		default:
			return 0;
	}
}

static const char *raw_equal(const FilterProgram *program, const FilterValue *operand,
							 const char *p, const char *end);

static const char *
array_equal(const FilterProgram *program, const FilterValue *operand, const char *p,
			const char *end)
{
	for (uint32_t i = 0; i < operand->count; i++)
	{
		p = raw_equal(program, &program->values[operand->first + i], json_skip_space(p + 1, end),
					  end);
		if (p == NULL)
			return NULL;
		p = json_skip_space(p, end);
		if (*p != (i + 1 < operand->count ? ',' : ']'))
			return NULL;
	}
	if (operand->count == 0)
	{
		p = json_skip_space(p + 1, end);
		if (*p != ']')
			return NULL;
	}
	return p + 1;
}

static const char *
object_equal(const FilterProgram *program, const FilterValue *operand, const char *p,
			 const char *end)
{
	uint8_t *met = program->met + operand->first;
	uint32_t left = operand->count;
	uint32_t at = 0; /* keys often come in one order */

	memset(met, 0, operand->count);
	p = json_skip_space(p + 1, end);
	while (*p != '}')
	{
		RawValue key = {JSON_TYPE_STRING, false, p + 1, NULL};
		uint32_t tried = 0;

		p = json_scan_string(p + 1, end, &key.escaped);
		key.end = p - 1;
		while (tried < operand->count &&
			   !string_equal(program, &key, program->values[operand->first + at].key[FILTER_UTF8]))
		{
			at = at + 1 < operand->count ? at + 1 : 0;
			tried++;
		}
		if (tried == operand->count)
			return NULL;

		p = json_skip_space(json_skip_space(p, end) + 1, end);
		if (met[at])
			p = json_scan_value(p, end, 0);
		else
		{
			met[at] = 1;
			left--;
			p = raw_equal(program, &program->values[operand->first + at], p, end);
		}
		if (p == NULL)
			return NULL;
		at = at + 1 < operand->count ? at + 1 : 0;
		p = json_skip_space(p, end);
		if (*p == ',')
			p = json_skip_space(p + 1, end);
	}
	return left == 0 ? p + 1 : NULL;
}

/*
 * Is the value at p, which was scanned before and so is JSON, equal to an operand?
 * The result is where it ends, or NULL.
 */
static const char *
raw_equal(const FilterProgram *program, const FilterValue *operand, const char *p, const char *end)
{
	RawValue value = {json_type(*p), false, p, NULL};

	if (value.type != operand->type)
		return NULL;
	switch (value.type)
	{
		case JSON_TYPE_OBJECT:
			return object_equal(program, operand, p, end);
		case JSON_TYPE_ARRAY:
			return array_equal(program, operand, p, end);
		case JSON_TYPE_STRING:
			p = json_scan_string(p + 1, end, &value.escaped);
			value.start++;
			value.end = p - 1;
			return string_equal(program, &value, operand->text[FILTER_UTF8]) ? p : NULL;
		case JSON_TYPE_NUMBER:
			value.end = p = json_scan_number(p, end);
			return compare_number(program, &value, &operand->number) == 0 ? p : NULL;
		default:
			return json_scan_literal(p, end);
	}
}

/* Is a value equal to one of the operands of a test? */
static bool
raw_in(const FilterProgram *program, const FilterTest *test, const RawValue *value)
{
	const FilterValue *operands = program->values + test->first;
	uint32_t low = 0;
	uint32_t high = test->count;

	if (!(test->types & 1 << value->type))
		return false;

	if (1 << value->type & CONTAINER_TYPES ||
		(value->type == JSON_TYPE_STRING && !program->one_text))
	{
		/* no order, or not that of these bytes */
		for (uint32_t i = 0; i < test->count; i++)
		{
			if (operands[i].type != value->type)
				continue;
			if (value->type == JSON_TYPE_STRING
					? string_equal(program, value, operands[i].text[FILTER_UTF8])
					: raw_equal(program, &operands[i], value->start, value->end) != NULL)
				return true;
		}
		return false;
	}

	if (test->count == 1 && value->type == JSON_TYPE_STRING)
		return string_equal(program, value, operands->text[FILTER_UTF8]);
	while (low < high)
	{
		uint32_t middle = low + (high - low) / 2;
		const FilterValue *operand = &operands[middle];
		int order = operand->type != value->type ? (value->type > operand->type ? 1 : -1)
												 : compare_scalar(program, value, operand);

		if (order == 0)
			return true;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

static bool
raw_test(const FilterProgram *program, const FilterTest *test, const RawValue *value)
{
	const FilterValue *operand;
	FilterText text;

	if (test->op == FILTER_EXISTS)
		return true;
	if (test->op == FILTER_IN)
		return raw_in(program, test, value);
	if (test->op == FILTER_NE)
		return !raw_in(program, test, value);

	operand = &program->values[test->first];
	if (value->type != operand->type)
		return false;
	switch (test->op)
	{
		case FILTER_PREFIX:
			text = operand->text[FILTER_UTF8];
			if (value->escaped)
				return json_string_compare(value->start, value->end, text_bytes(program, text),
										   text.len, true) == 0;
			return value->end - value->start >= (ptrdiff_t) text.len &&
				   memcmp(value->start, text_bytes(program, text), text.len) == 0;
		case FILTER_GT:
			return compare_scalar(program, value, operand) > 0;
		case FILTER_GTE:
			return compare_scalar(program, value, operand) >= 0;
		case FILTER_LT:
			return compare_scalar(program, value, operand) < 0;
		default: /* FILTER_LTE */
			return compare_scalar(program, value, operand) <= 0;
	}
}

/*
 * A member of a group is answered; go on upwards as long as that decides
 * groups.  One that is decided early and one whose last member is
 * answered are decided by the same value.
 */
static void
answer(Scan *scan, uint32_t group, bool value)
{
	uint32_t *undecided = scan->program->undecided;

	for (; group != FILTER_NONE; group = scan->program->groups[group].group)
	{
		if (undecided[group] == 0)
			return;
		if (value == scan->program->groups[group].is_or)
			undecided[group] = 0;
		else if (--undecided[group] > 0)
			return;
	}
	scan->decided = true;
	scan->result = value;
}

/* Must a test see the whole of a container? */
static inline bool
compares_container(const FilterTest *test, JsonType type)
{
	return (test->op == FILTER_IN || test->op == FILTER_NE) &&
		   test->types & 1 << type & CONTAINER_TYPES;
}

/*
 * Answer the tests of a node at its value.  Of a container, those that compare
 * it are answered at its end, the others at its beginning.
 */
static void
answer_tests(Scan *scan, uint32_t node, const RawValue *value, bool comparing)
{
	const FilterProgram *program = scan->program;

	for (uint32_t i = program->nodes[node].tests; i != FILTER_NONE && !scan->decided;
		 i = program->tests[i].same_path)
	{
		const FilterTest *test = &program->tests[i];

		if (test->group != FILTER_NONE && program->undecided[test->group] == 0)
			continue;
		if (compares_container(test, value->type) == comparing)
			answer(scan, test->group, raw_test(program, test, value) != test->negated);
	}
}

/* Does a test of the node compare containers of this type? */
static bool
waits_for_end(const FilterProgram *program, uint32_t node, JsonType type)
{
	for (uint32_t i = program->nodes[node].tests; i != FILTER_NONE; i = program->tests[i].same_path)
	{
		if (compares_container(&program->tests[i], type))
			return true;
	}
	return false;
}

/*
 * The value of a node lies at scan->p: answer its tests and step over it, or into
 * it where that matters.
 */
static bool
scan_node(Scan *scan, uint32_t node)
{
	const FilterProgram *program = scan->program;
	const char *p = scan->p;
	RawValue value = {JSON_TYPE_NONE, false, p, NULL};
	FilterFrame *frame;

	if (p == scan->end)
		return false;
	value.type = json_type(*p);
	switch (value.type)
	{
		case JSON_TYPE_OBJECT:
		case JSON_TYPE_ARRAY:
			answer_tests(scan, node, &value, false);
			if (scan->decided && !scan->result)
				return true;
			if (scan->decided ||
				(program->nodes[node].children == 0 && !waits_for_end(program, node, value.type)))
			{
				scan->p = json_scan_value(p, scan->end, scan->depth);
				return scan->p != NULL;
			}
			if (scan->depth == JSON_MAX_DEPTH)
				return false;
			frame = &program->frames[scan->depth++];
			frame->start = p;
			frame->node = node;
			frame->index = 0;
			frame->left = program->nodes[node].children;
			frame->is_object = value.type == JSON_TYPE_OBJECT;
			frame->fresh = true;
			scan->p = p + 1;
			return true;
		case JSON_TYPE_STRING:
			p = json_scan_string(p + 1, scan->end, &value.escaped);
			if (p == NULL)
				return false;
			value.start++;
			value.end = p - 1;
			break;
		case JSON_TYPE_NUMBER:
			value.end = p = json_scan_number(p, scan->end);
			break;
		default:
			value.end = p = json_scan_literal(p, scan->end);
	}
	scan->p = p;
	if (p == NULL)
		return false;
	answer_tests(scan, node, &value, false);
	return true;
}

/* Where a key leads, if it was not met before. */
static uint32_t
child_by_key(const FilterProgram *program, uint32_t node, const RawValue *key)
{
	for (uint32_t id = program->nodes[node].child; id != FILTER_NONE;
		 id = program->nodes[id].sibling)
	{
		if (string_equal(program, key, program->nodes[id].key[FILTER_UTF8]))
			return program->seen[id] ? FILTER_NONE : id;
	}
	return FILTER_NONE;
}

static uint32_t
child_by_index(const FilterProgram *program, uint32_t node, uint32_t index)
{
	for (uint32_t id = program->nodes[node].child; id != FILTER_NONE;
		 id = program->nodes[id].sibling)
	{
		if (program->nodes[id].index == index)
			return id;
	}
	return FILTER_NONE;
}

/*
 * Go to the next value that a path leads to: its node, or FILTER_NONE at the
 * end of the document.  scan->p is NULL if that is no JSON.
 */
static uint32_t
next_node(Scan *scan)
{
	const FilterProgram *program = scan->program;
	const char *p = scan->p;
	const char *end = scan->end;

	while (scan->depth > 0 && p != NULL)
	{
		FilterFrame *frame = &program->frames[scan->depth - 1];
		bool wanted = frame->left > 0 && !scan->decided;
		uint32_t child = FILTER_NONE;

		p = json_skip_space(p, end);
		if (p == end)
			break;
		if (*p == (frame->is_object ? '}' : ']'))
		{
			p++;
			scan->depth--;
			if (!scan->decided)
			{
				RawValue value = {frame->is_object ? JSON_TYPE_OBJECT : JSON_TYPE_ARRAY, false,
								  frame->start, p};

				answer_tests(scan, frame->node, &value, true);
				if (scan->decided && !scan->result)
					break;
			}
			continue;
		}

		if (!frame->fresh)
		{
			if (*p != ',')
				break;
			p = json_skip_space(p + 1, end);
		}
		if (frame->is_object)
		{
			RawValue key = {JSON_TYPE_STRING, false, p + 1, NULL};

			if (p == end || *p != '"' || (p = json_scan_string(p + 1, end, &key.escaped)) == NULL)
				break;
			key.end = p - 1;
			p = json_skip_space(p, end);
			if (p == end || *p != ':')
				break;
			p = json_skip_space(p + 1, end);
			if (wanted)
				child = child_by_key(program, frame->node, &key);
		}
		else
		{
			if (!frame->fresh)
				frame->index++;
			if (wanted)
				child = child_by_index(program, frame->node, frame->index);
		}
		frame->fresh = false;

		if (child != FILTER_NONE)
		{
			program->seen[child] = 1;
			frame->left--;
			scan->p = p;
			return child;
		}
		p = json_scan_value(p, end, scan->depth);
	}

	if (p != NULL && scan->depth == 0)
	{
		p = json_skip_space(p, end);
		scan->p = p == end ? p : NULL;
	}
	else
		scan->p = NULL;
	return FILTER_NONE;
}

FilterVerdict
filter_scan(const FilterProgram *program, const char *bytes, uint32_t len)
{
	Scan scan = {program, bytes, bytes + len, 0, false, false};
	uint32_t node = 0;

	if (program->n_tests == 0)
	{
		scan.decided = true;
		scan.result = program->constant;
	}
	for (uint32_t i = 0; i < program->n_groups; i++)
		program->undecided[i] = program->groups[i].members;
	memset(program->seen, 0, program->n_nodes);
	program->seen[0] = 1;

	scan.p = json_skip_space(scan.p, scan.end);
	do
	{
		if (scan.decided && !scan.result)
			return FILTER_REJECTED;
		if (!scan_node(&scan, node))
			return FILTER_NOT_JSON;
		if (scan.decided && !scan.result)
			return FILTER_REJECTED;
		node = next_node(&scan);
	} while (node != FILTER_NONE);

	if (scan.decided && !scan.result)
		return FILTER_REJECTED;
	if (scan.p == NULL)
		return FILTER_NOT_JSON;

	/* What was not seen is not there. */
	for (uint32_t i = 0; i < program->n_tests && !scan.decided; i++)
	{
		const FilterTest *test = &program->tests[i];

		if (!program->seen[test->node])
			answer(&scan, test->group, test->negated);
	}
	return scan.result ? FILTER_ACCEPTED : FILTER_REJECTED;
}
