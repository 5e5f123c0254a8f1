/*-------------------------------------------------------------------------
 *
 * filter_raw_test.c
 *		Filters on raw JSON: what is built, and that it finds what the reference does.
 *
 * link: src/bus/json_scan.c src/bus/filter_program.c
 *
 * Documents are allocations of exactly their size: the sanitizer sees each
 * byte read beyond.
 *
 *-------------------------------------------------------------------------
 */
#include "filter_reference.h"
#include "tap.h"

static FilterVerdict
scan_copy(const FilterProgram *program, const char *bytes, size_t len)
{
	char *copy = malloc(len > 0 ? len : 1);
	FilterVerdict verdict;

	if (len > 0)
		memcpy(copy, bytes, len);
	verdict = filter_scan(program, copy, len);
	free(copy);
	return verdict;
}

/* The program that a filter becomes; everything is freed by reset_arena(). */
static FilterProgram *
compile(const char *filter)
{
	Tree *tree = parse_document(filter, strlen(filter));

	if (tree == NULL)
		abort();
	return build_program(tree);
}

static void
verdict_is(const char *filter, const char *document, FilterVerdict expected)
{
	FilterVerdict found = scan_copy(compile(filter), document, strlen(document));

	tap_ok(found == expected, "%s of %s", filter, document);
	reset_arena();
}

/* The least that a filter can be reduced to. */
static void
size_is(const char *filter, uint32_t tests, uint32_t groups, const char *description)
{
	FilterProgram *program = compile(filter);

	if (program->n_tests != tests || program->n_groups != groups)
		tap_note("%u tests in %u groups", program->n_tests, program->n_groups);
	tap_ok(program->n_tests == tests && program->n_groups == groups, "%s", description);
	reset_arena();
}

#define A "{\"path\":\"a\",\"value\":1}"
#define B "{\"path\":\"b\",\"value\":1}"

static void
test_building(void)
{
	FilterProgram *program;

	size_is(A, 1, 0, "a test needs no group");
	size_is("{\"$and\":[]}", 0, 0, "nothing is tested where the result is known");
	size_is("{\"$or\":[" A ",{\"$not\":{\"$or\":[]}}," B "]}", 0, 0, "true in an $or is all of it");
	size_is("{\"$and\":[" A ",{\"$and\":[" B ",{\"$or\":[]}]}]}", 0, 0,
			"false in an $and is all of it");
	size_is("{\"$and\":[" A ",{\"$and\":[]},{\"$not\":{\"$or\":[]}}]}", 1, 0,
			"what is true in an $and is left out");
	size_is("{\"$or\":[{\"$and\":[{\"$or\":[" A "]}]}]}", 1, 0, "a group of one is that one");
	size_is("{\"$and\":[" A ",{\"$and\":[" A ",{\"$and\":[" A "," A "]}]}]}", 4, 1,
			"groups in groups of their kind are dissolved");
	size_is("{\"$and\":[" A ",{\"$not\":{\"$or\":[" A ",{\"$not\":{\"$and\":[" A "," A "]}}]}}]}",
			4, 1, "also below a $not");
	size_is("{\"$and\":[" A ",{\"$or\":[" A "," B "]}]}", 3, 2, "others are not");
	size_is("{\"path\":\"a\",\"$in\":[]}", 0, 0, "nothing is in an empty list");
	size_is("{\"path\":\"a\",\"$gt\":1,\"$lt\":2}", 2, 1, "two operators are two tests");

	program = compile("{\"$and\":[{\"path\":\"x\",\"value\":{}},{\"$or\":[" A "," B
					  "]},{\"path\":\"x\",\"$exists\":true},{\"path\":\"x\",\"$gt\":1}," A "]}");
	tap_ok(program->tests[0].op == FILTER_IN && program->tests[1].op == FILTER_GT &&
			   program->tests[2].op == FILTER_EXISTS && program->tests[3].op == FILTER_IN &&
			   program->tests[3].types == 1 << JSON_TYPE_OBJECT &&
			   program->tests[4].group != program->tests[3].group,
		   "what is cheap and selective comes first");
	tap_ok(program->tests[0].if_true == 1 && program->tests[0].if_false == FILTER_REJECT &&
			   program->tests[3].if_true == 4 && program->tests[4].if_true == FILTER_ACCEPT &&
			   program->tests[4].if_false == 5 && program->tests[5].if_false == FILTER_REJECT,
		   "each test says where to go on");
	reset_arena();
}

/* A number in the base of numeric, written as "weight: digits". */
static void
nbase_is(const char *text, const char *expected)
{
	FilterBuilder *b = filter_builder(arena_alloc);
	FilterSource path = {{"", ""}, {0, 0}};
	uint32_t value = filter_build_values(b, 1);
	FilterProgram *program;
	const FilterNumber *number;
	char found[256];
	int len;

	filter_build_number(b, value, text, strlen(text));
	program = filter_build_program(
		b, filter_build_test(b, filter_build_path(b, &path), FILTER_IN, false, value, 1),
		arena_alloc);
	number = &program->values[value].number;
	len = snprintf(found, sizeof(found), "%s%d:", number->negative ? "-" : "", number->weight);
	for (uint32_t i = 0; i < number->nbase.len; i += sizeof(int16_t))
	{
		int16_t digit;

		memcpy(&digit, program->bytes + number->nbase.at + i, sizeof(digit));
		len += snprintf(found + len, sizeof(found) - len, " %d", digit);
	}
	if (strcmp(found, expected) != 0)
		tap_note("found %s", found);
	tap_ok(strcmp(found, expected) == 0, "%s is %s", text, expected);
	reset_arena();
}

static void
test_numbers(void)
{
	nbase_is("0", "0:");
	nbase_is("-0.00", "0:");
	nbase_is("1", "0: 1");
	nbase_is("-9999", "-0: 9999");
	nbase_is("10000", "1: 1");
	nbase_is("12345678", "1: 1234 5678");
	nbase_is("123450000", "2: 1 2345");
	nbase_is("1.5", "0: 1 5000");
	nbase_is("0.1", "-1: 1000");
	nbase_is("0.0001", "-1: 1");
	nbase_is("0.00001", "-2: 1000");
	nbase_is("0.00012345", "-1: 1 2345");
	nbase_is("1e-100", "-25: 1");
	nbase_is("1e99", "24: 1000");
	nbase_is("-12.0450e1", "-0: 120 4500");
}

static void
test_verdicts(void)
{
	/* decided at once, whatever follows */
	verdict_is(A, "{\"a\":2,", FILTER_REJECTED);
	verdict_is("{\"$and\":[" B "," A "]}", "{\"a\":2 garbage", FILTER_REJECTED);
	verdict_is("{\"path\":\"\",\"$gt\":1}", "{ garbage", FILTER_REJECTED);
	verdict_is("{\"$or\":[]}", "garbage", FILTER_REJECTED);
	/* true needs the rest to be JSON */
	verdict_is(A, "{\"a\":1,", FILTER_NOT_JSON);
	verdict_is(A, "{\"a\":1} ", FILTER_ACCEPTED);
	verdict_is("{\"$not\":" A "}", "{\"a\":2,", FILTER_NOT_JSON);
	verdict_is("{\"$not\":" A "}", "{\"b\":2}", FILTER_ACCEPTED);
	verdict_is("{\"$and\":[]}", "{\"b\":2]", FILTER_NOT_JSON);
	/* and so does what is not known yet */
	verdict_is(A, "{\"b\":1", FILTER_NOT_JSON);
	verdict_is(A, "{\"b\":1}", FILTER_REJECTED);
	/* only the first of a key counts, also if others are met between */
	verdict_is(A, "{\"a\":1,\"b\":1,\"a\":2}", FILTER_ACCEPTED);
	verdict_is("{\"path\":\"a.b\",\"$exists\":true}", "{\"a\":1,\"a\":{\"b\":1}}", FILTER_REJECTED);
	verdict_is("{\"path\":\"\",\"value\":{\"a\":{\"b\":1},\"c\":2}}",
			   "{\"a\":{\"b\":1,\"b\":2},\"a\":3,\"c\":2}", FILTER_ACCEPTED);
}

/* Random filters and documents; some documents are damaged. */
static void
test_random(void)
{
	enum
	{
		FILTERS = 6000,
		DOCUMENTS = 20
	};
	static Writer filter_text;
	static Writer text;
	int differences = 0;
	int accepted = 0;
	int rejected = 0;
	int not_json = 0;

	random_state = 20240607;
	for (int i = 0; i < FILTERS; i++)
	{
		Tree *filter;
		FilterProgram *program;

		filter_text.len = 0;
		write_filter(&filter_text, i % 4);
		filter = parse_document(filter_text.bytes, filter_text.len);
		program = build_program(filter);
		for (int j = 0; j < DOCUMENTS; j++)
		{
			FilterVerdict found;
			Tree *document;
			bool wrong;

			text.len = 0;
			write_json(&text, 4);
			if (j % 4 == 0)
			{
				size_t at = pick(text.len);

				if (pick(2) == 0)
					text.bytes[at] = (char) pick(256);
				else
				{
					memmove(text.bytes + at, text.bytes + at + 1, text.len - at - 1);
					text.len--;
				}
			}
			document = parse_document(text.bytes, text.len);
			found = scan_copy(program, text.bytes, text.len);
			if (document == NULL)
				wrong = found == FILTER_ACCEPTED;
			else
				wrong =
					found != (refer_filter(filter, document) ? FILTER_ACCEPTED : FILTER_REJECTED);
			if (wrong && differences++ < 5)
				tap_note("%.*s of %.*s: %d", (int) filter_text.len, filter_text.bytes,
						 (int) text.len, text.bytes, found);
			accepted += found == FILTER_ACCEPTED;
			rejected += found == FILTER_REJECTED;
			not_json += found == FILTER_NOT_JSON;
		}
		reset_arena();
	}
	tap_is(differences, 0, "random filters find what the reference finds");
	tap_ok(accepted > FILTERS * DOCUMENTS / 5 && rejected > FILTERS * DOCUMENTS / 5 &&
			   not_json > FILTERS * DOCUMENTS / 50,
		   "and that is all three");
}

int
main(void)
{
	test_building();
	test_numbers();
	test_verdicts();
	test_random();
	return tap_done();
}
