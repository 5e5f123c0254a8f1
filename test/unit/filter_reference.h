/*-------------------------------------------------------------------------
 *
 * filter_reference.h
 *		Filters the slow and plain way, for tests to compare with.
 *
 * Documents and filters are parsed into trees; a filter is evaluated by
 * walking both.  Nothing is shared with the sources under test but the
 * builder, through which the same tree of a filter becomes a program.
 *
 * All memory is of an arena, which reset_arena() frees.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_FILTER_REFERENCE_H
#define NETBUS_FILTER_REFERENCE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/filter_program.h"

typedef struct Chunk
{
	struct Chunk *next;
	max_align_t bytes[];
} Chunk;

static Chunk *arena;

__attribute__((unused)) static void *
arena_alloc(size_t size)
{
	Chunk *chunk = malloc(sizeof(Chunk) + size);

	if (chunk == NULL)
		abort();
	chunk->next = arena;
	arena = chunk;
	return chunk->bytes;
}

__attribute__((unused)) static void
reset_arena(void)
{
	while (arena != NULL)
	{
		Chunk *next = arena->next;

		free(arena);
		arena = next;
	}
}

/* A value; text is a decoded string, or the digits of a number without zeros at its ends. */
typedef struct Tree
{
	JsonType type;
	char *text;
	size_t len;
	bool negative;
	long long exponent; /* 0.text * 10^exponent */
	const char *written;
	size_t written_len;
	struct Tree *key; /* of a member */
	struct Tree *first;
	struct Tree *next;
	uint32_t count;
} Tree;

typedef struct Parser
{
	const char *p;
	const char *end;
	int depth;
} Parser;

static Tree *parse_value(Parser *in);

static void
parse_space(Parser *in)
{
	while (in->p < in->end && strchr(" \t\r\n", *in->p) != NULL && *in->p != '\0')
		in->p++;
}

static bool
parse_char(Parser *in, char c)
{
	if (in->p == in->end || *in->p != c)
		return false;
	in->p++;
	return true;
}

static void
append_character(Tree *string, uint32_t c)
{
	char *out = string->text + string->len;

	if (c < 0x80)
		string->len += sprintf(out, "%c", (int) c);
	else if (c < 0x800)
		string->len += sprintf(out, "%c%c", (int) (0xC0 + c / 64), (int) (0x80 + c % 64));
	else if (c < 0x10000)
		string->len += sprintf(out, "%c%c%c", (int) (0xE0 + c / 4096), (int) (0x80 + c / 64 % 64),
							   (int) (0x80 + c % 64));
	else
		string->len +=
			sprintf(out, "%c%c%c%c", (int) (0xF0 + c / 262144), (int) (0x80 + c / 4096 % 64),
					(int) (0x80 + c / 64 % 64), (int) (0x80 + c % 64));
}

/* The character at in->p as UTF-8 writes it in the shortest way, or -1. */
static long
parse_utf8(Parser *in)
{
	unsigned char first = *in->p++;
	static const long least[] = {0, 0x80, 0x800, 0x10000};
	int more = first < 0x80 ? 0 : first < 0xC0 ? -1 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
	long c = more <= 0 ? first : first & (0x3F >> more);

	if (more < 0 || first >= 0xF8)
		return -1;
	for (int i = 0; i < more; i++)
	{
		if (in->p == in->end || (*in->p & 0xC0) != 0x80)
			return -1;
		c = c * 64 + (*in->p++ & 0x3F);
	}
	if (c < least[more] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
		return -1;
	return c;
}

static long
parse_hex(Parser *in)
{
	char digits[5] = {0};

	for (int i = 0; i < 4; i++)
	{
		if (in->p == in->end || *in->p == '\0' || strchr("0123456789abcdefABCDEF", *in->p) == NULL)
			return -1;
		digits[i] = *in->p++;
	}
	return strtol(digits, NULL, 16);
}

static Tree *
parse_string(Parser *in)
{
	Tree *tree = arena_alloc(sizeof(Tree));

	memset(tree, 0, sizeof(Tree));
	tree->type = JSON_TYPE_STRING;
	/* no character grows by decoding, but sprintf() ends with a 0 */
	tree->text = arena_alloc(in->end - in->p + 1);
	if (!parse_char(in, '"'))
		return NULL;
	while (!parse_char(in, '"'))
	{
		long c;

		if (in->p == in->end)
			return NULL;
		if (*in->p != '\\')
		{
			c = parse_utf8(in);
			if (c < 0x20)
				return NULL;
		}
		else
		{
			in->p++;
			if (in->p == in->end)
				return NULL;
			c = *in->p++;
			switch (c)
			{
				case '"':
				case '\\':
				case '/':
					break;
				case 'b':
					c = 8;
					break;
				case 't':
					c = 9;
					break;
				case 'n':
					c = 10;
					break;
				case 'f':
					c = 12;
					break;
				case 'r':
					c = 13;
					break;
				case 'u':
					c = parse_hex(in);
					if (c >= 0xD800 && c < 0xDC00)
					{
						long low;

						if (!parse_char(in, '\\') || !parse_char(in, 'u'))
							return NULL;
						low = parse_hex(in);
						if (low < 0xDC00 || low > 0xDFFF)
							return NULL;
						c = 0x10000 + (c - 0xD800) * 1024 + (low - 0xDC00);
					}
					else if (c <= 0 || (c >= 0xDC00 && c <= 0xDFFF))
						return NULL;
					break;
				default:
					return NULL;
			}
		}
		append_character(tree, c);
	}
	return tree;
}

static size_t
parse_digits(Parser *in, Tree *number)
{
	size_t count = 0;

	for (; in->p < in->end && *in->p >= '0' && *in->p <= '9'; count++)
		number->text[number->len++] = *in->p++;
	return count;
}

static Tree *
parse_number(Parser *in)
{
	Tree *tree = arena_alloc(sizeof(Tree));
	const char *start = in->p;
	long long written = 0;
	bool below = false;
	size_t whole;
	size_t zeros = 0;

	memset(tree, 0, sizeof(Tree));
	tree->type = JSON_TYPE_NUMBER;
	tree->text = arena_alloc(in->end - in->p + 1);
	tree->negative = parse_char(in, '-');
	whole = parse_digits(in, tree);
	if (whole == 0 || (whole > 1 && tree->text[0] == '0'))
		return NULL;
	if (parse_char(in, '.') && parse_digits(in, tree) == 0)
		return NULL;
	if (parse_char(in, 'e') || parse_char(in, 'E'))
	{
		int digits = 0;

		below = parse_char(in, '-');
		if (!below)
			parse_char(in, '+');
		for (; in->p < in->end && *in->p >= '0' && *in->p <= '9'; digits++)
		{
			written = written * 10 + (*in->p++ - '0');
			if (written > 1000000000000000)
				written = 1000000000000000;
		}
		if (digits == 0)
			return NULL;
	}
	tree->exponent = (long long) whole + (below ? -written : written);
	while (tree->len > 0 && tree->text[tree->len - 1] == '0')
		tree->len--;
	while (zeros < tree->len && tree->text[zeros] == '0')
		zeros++;
	tree->text += zeros;
	tree->len -= zeros;
	tree->exponent -= (long long) zeros;
	if (tree->len == 0)
	{
		tree->negative = false;
		tree->exponent = 0;
	}
	tree->written = start;
	tree->written_len = in->p - start;
	return tree;
}

static bool same_string(const Tree *left, const Tree *right);

static Tree *
parse_container(Parser *in, bool object)
{
	Tree *tree = arena_alloc(sizeof(Tree));
	Tree **last = &tree->first;

	memset(tree, 0, sizeof(Tree));
	tree->type = object ? JSON_TYPE_OBJECT : JSON_TYPE_ARRAY;
	in->p++;
	if (++in->depth > JSON_MAX_DEPTH)
		return NULL;
	parse_space(in);
	if (!parse_char(in, object ? '}' : ']'))
	{
		do
		{
			Tree *key = NULL;
			Tree *part;
			bool known = false;

			parse_space(in);
			if (object)
			{
				key = parse_string(in);
				if (key == NULL)
					return NULL;
				parse_space(in);
				if (!parse_char(in, ':'))
					return NULL;
				parse_space(in);
			}
			part = parse_value(in);
			if (part == NULL)
				return NULL;
			for (Tree *other = tree->first; object && other != NULL; other = other->next)
				known |= same_string(key, other->key);
			if (!known)
			{
				part->key = key;
				*last = part;
				last = &part->next;
				tree->count++;
			}
			parse_space(in);
		} while (parse_char(in, ','));
		if (!parse_char(in, object ? '}' : ']'))
			return NULL;
	}
	in->depth--;
	return tree;
}

static Tree *
parse_value(Parser *in)
{
	static const char *const words[] = {"null", "false", "true"};

	if (in->p == in->end)
		return NULL;
	if (*in->p == '"')
		return parse_string(in);
	if (*in->p == '{' || *in->p == '[')
		return parse_container(in, *in->p == '{');
	for (int i = 0; i < 3; i++)
	{
		size_t len = strlen(words[i]);

		if ((size_t) (in->end - in->p) >= len && strncmp(in->p, words[i], len) == 0)
		{
			Tree *tree = arena_alloc(sizeof(Tree));

			memset(tree, 0, sizeof(Tree));
			tree->type = JSON_TYPE_NULL + i;
			in->p += len;
			return tree;
		}
	}
	return parse_number(in);
}

/* The tree of a document, or NULL if it is not JSON. */
__attribute__((unused)) static Tree *
parse_document(const char *bytes, size_t len)
{
	Parser in = {bytes, bytes + len, 0};
	Tree *tree;

	parse_space(&in);
	tree = parse_value(&in);
	parse_space(&in);
	return in.p == in.end ? tree : NULL;
}

static bool
same_string(const Tree *left, const Tree *right)
{
	return left->len == right->len && memcmp(left->text, right->text, left->len) == 0;
}

static const Tree *
get_member(const Tree *object, const char *key, size_t len)
{
	Tree name = {.text = (char *) key, .len = len};

	for (const Tree *part = object->first; part != NULL; part = part->next)
	{
		if (same_string(part->key, &name))
			return part;
	}
	return NULL;
}

static bool
same_value(const Tree *left, const Tree *right)
{
	const Tree *other = right->first;

	if (left->type != right->type || left->count != right->count)
		return false;
	if (left->type == JSON_TYPE_NUMBER)
		return left->negative == right->negative && left->exponent == right->exponent &&
			   same_string(left, right);
	if (left->type == JSON_TYPE_STRING)
		return same_string(left, right);
	for (const Tree *part = left->first; part != NULL; part = part->next)
	{
		if (left->type == JSON_TYPE_OBJECT)
			other = get_member(right, part->key->text, part->key->len);
		if (other == NULL || !same_value(part, other))
			return false;
		if (left->type == JSON_TYPE_ARRAY)
			other = other->next;
	}
	return true;
}

static int
compare_text(const Tree *left, const Tree *right)
{
	for (size_t i = 0; i < left->len && i < right->len; i++)
	{
		if (left->text[i] != right->text[i])
			return (unsigned char) left->text[i] - (unsigned char) right->text[i];
	}
	return left->len < right->len ? -1 : left->len > right->len;
}

static int
compare_trees(const Tree *left, const Tree *right)
{
	int result;

	if (left->type == JSON_TYPE_STRING)
		return compare_text(left, right);
	if (left->len == 0 || right->len == 0 || left->negative != right->negative)
	{
		int l = left->len == 0 ? 0 : left->negative ? -1 : 1;
		int r = right->len == 0 ? 0 : right->negative ? -1 : 1;

		return l - r;
	}
	if (left->exponent != right->exponent)
		result = left->exponent < right->exponent ? -1 : 1;
	else
		result = compare_text(left, right);
	return left->negative ? -result : result;
}

/* What a path leads to, or NULL. */
static const Tree *
follow_path(const Tree *document, const Tree *path)
{
	const char *segment = path->text;
	const char *end = path->text + path->len;

	if (path->len == 0)
		return document;
	for (;;)
	{
		const char *dot = segment;
		size_t len;

		while (dot < end && *dot != '.')
			dot++;
		len = dot - segment;
		if (document->type == JSON_TYPE_OBJECT)
			document = get_member(document, segment, len);
		else if (document->type == JSON_TYPE_ARRAY)
		{
			char index[24];
			uint32_t i = 0;

			for (document = document->first; document != NULL; document = document->next)
			{
				if ((size_t) snprintf(index, sizeof(index), "%u", i++) == len &&
					memcmp(index, segment, len) == 0)
					break;
			}
		}
		else
			document = NULL;
		if (document == NULL || dot == end)
			return document;
		segment = dot + 1;
	}
}

static bool
key_is(const Tree *member, const char *name)
{
	return member->key->len == strlen(name) &&
		   memcmp(member->key->text, name, member->key->len) == 0;
}

static bool
refer_operator(const Tree *found, const Tree *operand)
{
	int order;

	if (key_is(operand, "$exists"))
		return (found != NULL) == (operand->type == JSON_TYPE_TRUE);
	if (found == NULL)
		return false;
	if (key_is(operand, "value") || key_is(operand, "$eq"))
		return same_value(found, operand);
	if (key_is(operand, "$ne"))
		return !same_value(found, operand);
	if (key_is(operand, "$in"))
	{
		for (const Tree *one = operand->first; one != NULL; one = one->next)
		{
			if (same_value(found, one))
				return true;
		}
		return false;
	}
	if (found->type != operand->type)
		return false;
	if (key_is(operand, "$prefix"))
		return found->len >= operand->len && memcmp(found->text, operand->text, operand->len) == 0;
	order = compare_trees(found, operand);
	if (key_is(operand, "$gt"))
		return order > 0;
	if (key_is(operand, "$gte"))
		return order >= 0;
	if (key_is(operand, "$lt"))
		return order < 0;
	return order <= 0;
}

/* Does a document match?  The filter is one. */
__attribute__((unused)) static bool
refer_filter(const Tree *filter, const Tree *document)
{
	const Tree *first = filter->first;
	const Tree *found;

	if (key_is(first, "$not"))
		return !refer_filter(first, document);
	if (key_is(first, "$and") || key_is(first, "$or"))
	{
		bool any = key_is(first, "$or");

		for (const Tree *member = first->first; member != NULL; member = member->next)
		{
			if (refer_filter(member, document) == any)
				return any;
		}
		return !any;
	}
	found = follow_path(document, get_member(filter, "path", 4));
	for (const Tree *operand = first; operand != NULL; operand = operand->next)
	{
		if (!key_is(operand, "path") && !refer_operator(found, operand))
			return false;
	}
	return true;
}

static FilterSource
get_source(const Tree *string)
{
	FilterSource source = {{string->text, string->text}, {string->len, string->len}};

	return source;
}

static void
build_value(FilterBuilder *b, uint32_t at, const Tree *value)
{
	FilterSource source;

	switch (value->type)
	{
		case JSON_TYPE_STRING:
			source = get_source(value);
			filter_build_string(b, at, &source);
			break;
		case JSON_TYPE_NUMBER:
			filter_build_number(b, at, value->written, value->written_len);
			break;
		case JSON_TYPE_ARRAY:
		case JSON_TYPE_OBJECT:
			at = filter_build_container(b, at, value->type, value->count);
			for (const Tree *part = value->first; part != NULL; part = part->next)
			{
				if (part->key != NULL && value->type == JSON_TYPE_OBJECT)
				{
					source = get_source(part->key);
					filter_build_key(b, at, &source);
				}
				build_value(b, at++, part);
			}
			break;
		default:
			filter_build_literal(b, at, value->type);
	}
}

static uint32_t
build_filter(FilterBuilder *b, const Tree *filter, bool negated)
{
	static const struct
	{
		const char *key;
		FilterOp op;
	} operators[] = {{"value", FILTER_IN}, {"$eq", FILTER_IN},   {"$ne", FILTER_NE},
					 {"$in", FILTER_IN},   {"$gt", FILTER_GT},   {"$gte", FILTER_GTE},
					 {"$lt", FILTER_LT},   {"$lte", FILTER_LTE}, {"$prefix", FILTER_PREFIX}};
	const Tree *first = filter->first;
	uint32_t group;
	uint32_t node;
	FilterSource source;

	if (key_is(first, "$not"))
		return build_filter(b, first, !negated);
	if (key_is(first, "$and") || key_is(first, "$or"))
	{
		group = filter_build_group(b, key_is(first, "$or") != negated);
		for (const Tree *member = first->first; member != NULL; member = member->next)
			filter_build_member(b, group, build_filter(b, member, negated));
		return group;
	}

	group = filter_build_group(b, negated);
	source = get_source(get_member(filter, "path", 4));
	node = filter_build_path(b, &source);
	for (const Tree *operand = first; operand != NULL; operand = operand->next)
	{
		bool list = key_is(operand, "$in");
		uint32_t count = list ? operand->count : 1;
		uint32_t at;

		if (key_is(operand, "path"))
			continue;
		if (key_is(operand, "$exists"))
		{
			filter_build_member(b, group,
								filter_build_test(b, node, FILTER_EXISTS,
												  negated == (operand->type == JSON_TYPE_TRUE), 0,
												  0));
			continue;
		}
		at = filter_build_values(b, count);
		if (list)
		{
			uint32_t i = at;

			for (const Tree *one = operand->first; one != NULL; one = one->next)
				build_value(b, i++, one);
		}
		else
			build_value(b, at, operand);
		for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++)
		{
			if (key_is(operand, operators[i].key))
				filter_build_member(
					b, group, filter_build_test(b, node, operators[i].op, negated, at, count));
		}
	}
	return group;
}

__attribute__((unused)) static FilterProgram *
build_program(const Tree *filter)
{
	FilterBuilder *b = filter_builder(arena_alloc);

	return filter_build_program(b, build_filter(b, filter, false), arena_alloc);
}

/* Random numbers, the same everywhere. */
static uint64_t random_state = 1;

__attribute__((unused)) static uint32_t
pick(uint32_t choices)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t) (random_state >> 33) % choices;
}

/* A text that grows, in the arena. */
typedef struct Writer
{
	char bytes[65536];
	size_t len;
} Writer;

__attribute__((unused)) static void
write_text(Writer *out, const char *text)
{
	size_t len = strlen(text);

	if (out->len + len < sizeof(out->bytes))
	{
		memcpy(out->bytes + out->len, text, len + 1);
		out->len += len;
	}
}

static const char *const random_scalars[] = {
	"0",
	"-0",
	"0.0",
	"0e5",
	"1",
	"1.0",
	"1e0",
	"10e-1",
	"0.1e1",
	"-1",
	"-1.00",
	"2",
	"20e-1",
	"1.5",
	"15e-1",
	"-1.5",
	"12",
	"1.2e1",
	"10000",
	"1e4",
	"10001",
	"9999.99",
	"0.0001",
	"1e-4",
	"12345678901234567890",
	"1234567890123456789e1",
	"1e100",
	"10e99",
	"-1e100",
	"1e-100",
	"999999999999999999",
	"1e18",
	"1000000000000000000",
	"-999999999999999999",
	"null",
	"true",
	"false",
	"\"\"",
	"\"a\"",
	"\"ab\"",
	"\"\\u0061b\"",
	"\"abc\"",
	"\"b\"",
	"\"\xC3\xA4\"",
	"\"\\u00e4\"",
	"\"\xF0\x9F\x98\x80\"",
	"\"\\ud83d\\ude00\"",
	"\"a\\\"b\"",
	"\"a\\u0022b\"",
	"\"a\\nb\"",
	"\"a long string of plain text that takes several words\"",
	"\"a long string \\u006ff plain text that takes several words\""};
static const char *const random_keys[] = {"a", "b", "c", "", "0", "1", "ab", "\xC3\xA4"};
static const char *const random_spaces[] = {"", "", "", "", "", " ", "\n", "\t \r"};

#define pick_from(list) list[pick(sizeof(list) / sizeof(list[0]))]

__attribute__((unused)) static void
write_json(Writer *out, int depth)
{
	uint32_t kind = pick(10);
	uint32_t count = pick(5);

	if (depth == 0 || kind < 4)
	{
		write_text(out, pick_from(random_scalars));
		return;
	}
	write_text(out, kind < 6 ? "[" : "{");
	for (uint32_t i = 0; i < count; i++)
	{
		if (i > 0)
			write_text(out, ",");
		write_text(out, pick_from(random_spaces));
		if (kind >= 6)
		{
			write_text(out, "\"");
			write_text(out, pick_from(random_keys));
			write_text(out, "\"");
			write_text(out, pick_from(random_spaces));
			write_text(out, ":");
			write_text(out, pick_from(random_spaces));
		}
		write_json(out, depth - 1);
		write_text(out, pick_from(random_spaces));
	}
	write_text(out, kind < 6 ? "]" : "}");
}

__attribute__((unused)) static void
write_filter(Writer *out, int depth)
{
	static const char *const operators[] = {"value", "$eq", "$ne", "$in", "$exists"};
	static const char *const orders[] = {"$gt", "$gte", "$lt", "$lte"};
	uint32_t kind = pick(10);
	uint32_t count = pick(4);

	if (depth > 0 && kind < 2)
	{
		write_text(out, "{\"$not\":");
		write_filter(out, depth - 1);
		write_text(out, "}");
		return;
	}
	if (depth > 0 && kind < 6)
	{
		write_text(out, kind < 4 ? "{\"$and\":[" : "{\"$or\":[");
		for (uint32_t i = 0; i < count; i++)
		{
			write_text(out, i > 0 ? "," : "");
			write_filter(out, depth - 1);
		}
		write_text(out, "]}");
		return;
	}

	write_text(out, "{\"path\":\"");
	for (uint32_t i = 0; i < count; i++)
	{
		write_text(out, i > 0 ? "." : "");
		write_text(out, pick_from(random_keys));
	}
	write_text(out, "\"");
	do
	{
		write_text(out, ",\"");
		kind = pick(8);
		if (kind < 2)
		{
			write_text(out, pick_from(orders));
			write_text(out, "\":");
			/* those before "null" are numbers */
			write_text(out, kind == 0 ? random_scalars[pick(34)] : "\"ab\"");
		}
		else if (kind == 2)
			write_text(out, pick(2) == 0 ? "$prefix\":\"a\"" : "$prefix\":\"\xC3\xA4\"");
		else
		{
			const char *operator_key = pick_from(operators);

			write_text(out, operator_key);
			write_text(out, "\":");
			if (strcmp(operator_key, "$exists") == 0)
				write_text(out, pick(2) == 0 ? "true" : "false");
			else if (strcmp(operator_key, "$in") != 0)
				write_json(out, 2);
			else
			{
				write_text(out, "[");
				count = pick(8);
				for (uint32_t i = 0; i < count; i++)
				{
					write_text(out, i > 0 ? "," : "");
					write_json(out, 1);
				}
				write_text(out, "]");
			}
		}
	} while (pick(5) == 0);
	write_text(out, "}");
}

#endif /* NETBUS_FILTER_REFERENCE_H */
