/*-------------------------------------------------------------------------
 *
 * test_filter.c
 *		Filters, called from SQL.
 *
 * A filter is compiled once for the calls of a query, so each match but the
 * first finds what earlier ones left in its memory.  Documents are matched at
 * every alignment, and raw ones without a byte behind them that could stop a scan.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/filter.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/jsonb.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(test_filter_jsonb);
PG_FUNCTION_INFO_V1(test_filter_raw);
PG_FUNCTION_INFO_V1(test_filter_time_jsonb);
PG_FUNCTION_INFO_V1(test_filter_time_raw);

#define ALIGNMENTS 8

typedef bool (*MatchFunction)(const Filter *filter, const char *bytes, uint32 len);

/* The last filter of a call site. */
typedef struct Compiled
{
	Jsonb *spec;
	Filter *filter;
} Compiled;

static const Filter *
get_filter(FunctionCallInfo fcinfo)
{
	Jsonb *spec = PG_GETARG_JSONB_P(0);
	Compiled *last = fcinfo->flinfo->fn_extra;
	MemoryContext old;

	if (last != NULL && VARSIZE(last->spec) == VARSIZE(spec) &&
		memcmp(last->spec, spec, VARSIZE(spec)) == 0)
		return last->filter;

	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	if (last == NULL)
		last = palloc(sizeof(Compiled));
	fcinfo->flinfo->fn_extra = NULL;
	last->filter = filter_compile(spec);
	last->spec = palloc(VARSIZE(spec));
	memcpy(last->spec, spec, VARSIZE(spec));
	fcinfo->flinfo->fn_extra = last;
	MemoryContextSwitchTo(old);
	return last->filter;
}

/* The same answer at every alignment, or an error. */
static bool
match(FunctionCallInfo fcinfo, MatchFunction function, const char *bytes, uint32 len)
{
	const Filter *filter = get_filter(fcinfo);
	char *buffer = palloc(len + ALIGNMENTS);
	bool result = false;

	for (int i = 0; i < ALIGNMENTS; i++)
	{
		bool found;

		/* what would go on a string, a number or white space */
		memset(buffer, i % 2 == 0 ? '0' : ' ', len + ALIGNMENTS);
		memcpy(buffer + i, bytes, len);
		found = function(filter, buffer + i, len);
		if (i > 0 && found != result)
			elog(ERROR, "result depends on alignment");
		result = found;
	}
	pfree(buffer);
	return result;
}

static float8
measure(FunctionCallInfo fcinfo, MatchFunction function, const char *bytes, uint32 len)
{
	const Filter *filter = get_filter(fcinfo);
	int matches = PG_GETARG_INT32(2);
	volatile int found = 0;
	instr_time start;
	instr_time duration;

	INSTR_TIME_SET_CURRENT(start);
	for (int i = 0; i < matches; i++)
	{
		if (i % 100000 == 0)
			CHECK_FOR_INTERRUPTS();
		found += function(filter, bytes, len);
	}
	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, start);
	return INSTR_TIME_GET_DOUBLE(duration) * 1e9 / matches;
}

Datum
test_filter_jsonb(PG_FUNCTION_ARGS)
{
	Jsonb *doc = PG_GETARG_JSONB_P(1);

	PG_RETURN_BOOL(match(fcinfo, filter_match_jsonb, VARDATA(doc), VARSIZE(doc) - VARHDRSZ));
}

Datum
test_filter_raw(PG_FUNCTION_ARGS)
{
	bytea *doc = PG_GETARG_BYTEA_PP(1);

	PG_RETURN_BOOL(match(fcinfo, filter_match_raw, VARDATA_ANY(doc), VARSIZE_ANY_EXHDR(doc)));
}

Datum
test_filter_time_jsonb(PG_FUNCTION_ARGS)
{
	Jsonb *doc = PG_GETARG_JSONB_P(1);

	PG_RETURN_FLOAT8(measure(fcinfo, filter_match_jsonb, VARDATA(doc), VARSIZE(doc) - VARHDRSZ));
}

Datum
test_filter_time_raw(PG_FUNCTION_ARGS)
{
	bytea *doc = PG_GETARG_BYTEA_PP(1);

	PG_RETURN_FLOAT8(measure(fcinfo, filter_match_raw, VARDATA_ANY(doc), VARSIZE_ANY_EXHDR(doc)));
}
