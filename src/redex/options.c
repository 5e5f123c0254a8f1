/*-------------------------------------------------------------------------
 *
 * options.c
 *		The options of a log: from text to value and back.
 *
 * An unknown value is refused with the list of those that are valid.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/redex_internal.h"

#include "fmgr.h"
#include "utils/builtins.h"

typedef struct OptionValue
{
	const char *name;
	int value;
} OptionValue;

static const OptionValue durabilities[] = {{"memory", LOG_MEMORY}, {NULL, 0}};

static const OptionValue formats[] = {
	{"jsonb", LOG_FORMAT_JSONB}, {"bytea", LOG_FORMAT_BYTEA}, {NULL, 0}};

static const OptionValue backpressures[] = {
	{"drop_oldest", LOG_DROP_OLDEST}, {"fail", LOG_FAIL}, {NULL, 0}};

static int
lookup(const char *option, const char *value, const OptionValue *valid)
{
	StringInfoData list;

	for (const OptionValue *v = valid; v->name; v++)
		if (strcmp(v->name, value) == 0)
			return v->value;

	initStringInfo(&list);
	for (const OptionValue *v = valid; v->name; v++)
		appendStringInfo(&list, "%s\"%s\"", v == valid ? "" : ", ", v->name);
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid value for option \"%s\": \"%s\"", option, value),
					errhint("Valid values are %s.", list.data)));
}

static const char *
name_of(int value, const OptionValue *valid)
{
	for (const OptionValue *v = valid; v->name; v++)
		if (v->value == value)
			return v->name;
	return NULL;
}

LogDurability
option_durability(const char *value)
{
	return lookup("durability", value, durabilities);
}

LogFormat
option_format(const char *value)
{
	return lookup("format", value, formats);
}

/* NULL gives the default of the durability. */
LogBackpressure
option_backpressure(const char *value, LogDurability durability)
{
	return value ? lookup("backpressure", value, backpressures) : LOG_DROP_OLDEST;
}

static int
ring_size_hint(void)
{
	return errhint("Valid values are powers of two from %d kB to %d GB.", RING_MIN_SIZE / 1024,
				   RING_MAX_SIZE / (1024 * 1024 * 1024));
}

static void
ring_size_error_callback(void *arg)
{
	errcontext("value of option \"ring_size\"");
	(void) ring_size_hint();
}

/* As pg_size_bytes() reads it: "4MB", "64 kB", bytes without a unit. */
uint64
option_ring_size(const char *value)
{
	ErrorContextCallback where = {error_context_stack, ring_size_error_callback, NULL};
	int64 size;

	error_context_stack = &where;
	size =
		DatumGetInt64(DirectFunctionCall1(pg_size_bytes, PointerGetDatum(cstring_to_text(value))));
	error_context_stack = where.previous;

	if (size < RING_MIN_SIZE || size > RING_MAX_SIZE || (size & (size - 1)) != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid value for option \"ring_size\": \"%s\"", value),
						errdetail("It is %lld bytes.", (long long) size), ring_size_hint()));
	return size;
}

const char *
durability_name(LogDurability durability)
{
	return name_of(durability, durabilities);
}

const char *
format_name(LogFormat format)
{
	return name_of(format, formats);
}

const char *
backpressure_name(LogBackpressure backpressure)
{
	return name_of(backpressure, backpressures);
}
