/*-------------------------------------------------------------------------
 *
 * args.c
 *		SQL arguments that must not be null, and how long to wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/args.h"
#include "core/core.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#define MAX_WAIT_US INT64CONST(60000000)

void
arg_null(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("argument \"%s\" must not be null", name)));
}

char *
arg_text(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		arg_null(name);
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

int64
arg_int8(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		arg_null(name);
	return PG_GETARG_INT64(n);
}

int64
arg_deadline(FunctionCallInfo fcinfo, int n, const char *name)
{
	Interval *wait;
	double us;

	if (PG_ARGISNULL(n))
		arg_null(name);
	wait = PG_GETARG_INTERVAL_P(n);
	us = (double) wait->time +
		 ((double) wait->day + (double) wait->month * DAYS_PER_MONTH) * USECS_PER_DAY;
	if (us < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s must not be negative", name)));
	return nb_now_us() + (us < MAX_WAIT_US ? (int64) us : MAX_WAIT_US);
}
