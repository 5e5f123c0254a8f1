/*-------------------------------------------------------------------------
 *
 * filter_raw_fuzz.c
 *		Any bytes match a filter, or do not, or are no JSON: as the reference says.
 *
 * link: src/bus/json_scan.c src/bus/filter_program.c
 *
 * The first two bytes of the input choose one of 65,536 random filters, the
 * rest is the document.
 *
 *-------------------------------------------------------------------------
 */
#include "../unit/filter_reference.h"

#define require(condition)                                                            \
	do                                                                                \
	{                                                                                 \
		if (!(condition))                                                             \
		{                                                                             \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                  \
		}                                                                             \
	} while (0)

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static Writer filter_text;
	const char *bytes = (const char *) data + 2;
	const Tree *filter;
	const Tree *document;
	const FilterProgram *program;
	FilterVerdict verdict;
	const char *end;

	if (size < 2)
		return 0;
	size -= 2;
	random_state = data[0] * 256 + data[1];
	filter_text.len = 0;
	write_filter(&filter_text, 3);
	filter = parse_document(filter_text.bytes, filter_text.len);
	require(filter != NULL);
	program = build_program(filter);

	document = parse_document(bytes, size);
	verdict = filter_scan(program, bytes, size);
	if (document == NULL)
		require(verdict != FILTER_ACCEPTED);
	else
		require(verdict == (refer_filter(filter, document) ? FILTER_ACCEPTED : FILTER_REJECTED));
	/* what an earlier document left behind does not matter */
	require(filter_scan(program, bytes, size) == verdict);

	/* a value is stepped over exactly */
	end = json_scan_value(bytes, bytes + size, 0);
	if (document != NULL && size > 0 && json_type(*bytes) != JSON_TYPE_NONE)
		require(end != NULL && json_skip_space(end, bytes + size) == bytes + size);

	reset_arena();
	return 0;
}
