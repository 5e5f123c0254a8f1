/*-------------------------------------------------------------------------
 *
 * options.c
 *		The options of a log: from SQL to value and back.
 *
 * What is not valid is refused with the list of what is.  The options that
 * create_log() takes and alter_log() changes are in one table, log_options: how
 * each is given, checked and stored.  options_check() then knows which of them
 * go together; an option that would be without effect is refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/redex_internal.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#define MIN_RETENTION_BYTES (1024 * 1024)
#define MAX_RETENTION_DAYS  (INT64CONST(100000) * MONTHS_PER_YEAR * DAYS_PER_MONTH)
#define MAX_FLUSH_INTERVAL  (60 * 1000)

typedef struct OptionValue
{
	const char *name;
	int value;
} OptionValue;

static const OptionValue durabilities[] = {
	{"memory", LOG_MEMORY}, {"async", LOG_ASYNC}, {"commit", LOG_COMMIT}, {NULL, 0}};

static const OptionValue formats[] = {
	{"jsonb", LOG_FORMAT_JSONB}, {"bytea", LOG_FORMAT_BYTEA}, {NULL, 0}};

static const OptionValue backpressures[] = {{"block", LOG_BLOCK},
											{"fail", LOG_FAIL},
											{"drop_newest", LOG_DROP_NEWEST},
											{"drop_oldest", LOG_DROP_OLDEST},
											{"sample", LOG_SAMPLE},
											{NULL, 0}};

/* Of a commit log: it drops nothing. */
static const OptionValue commit_backpressures[] = {
	{"block", LOG_BLOCK}, {"fail", LOG_FAIL}, {NULL, 0}};

static const char commit_loses_nothing[] = "A commit log loses nothing that is published to it.";

/* The value of that name; -1 if there is none. */
static int
value_of(const char *name, const OptionValue *valid)
{
	for (const OptionValue *v = valid; v->name; v++)
		if (strcmp(v->name, name) == 0)
			return v->value;
	return -1;
}

static const char *
name_of(int value, const OptionValue *valid)
{
	for (const OptionValue *v = valid; v->name; v++)
		if (v->value == value)
			return v->name;
	return NULL;
}

static int
values_hint(const OptionValue *valid)
{
	StringInfoData list;

	initStringInfo(&list);
	for (const OptionValue *v = valid; v->name; v++)
		appendStringInfo(&list, "%s\"%s\"", v == valid ? "" : ", ", v->name);
	return errhint("Valid values are %s.", list.data);
}

static int
lookup(const char *option, const char *name, const OptionValue *valid)
{
	int value = value_of(name, valid);

	if (value < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid value for option \"%s\": \"%s\"", option, name),
						values_hint(valid)));
	return value;
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
	if (!value)
		return durability == LOG_MEMORY ? LOG_DROP_OLDEST : LOG_BLOCK;
	if (durability != LOG_COMMIT)
		return lookup("backpressure", value, backpressures);
	if (value_of(value, backpressures) >= 0 && value_of(value, commit_backpressures) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backpressure \"%s\" is not possible with durability \"commit\"", value),
				 errdetail("%s", commit_loses_nothing), values_hint(commit_backpressures)));
	return lookup("backpressure", value, commit_backpressures);
}

/*
 * Microseconds of an interval, a month counting 30 days.  False if they are
 * out of range.
 */
bool
option_interval_us(const Interval *interval, int64 *us)
{
	int64 days = (int64) interval->month * DAYS_PER_MONTH + interval->day;

	return !pg_mul_s64_overflow(days, USECS_PER_DAY, us) &&
		   !pg_add_s64_overflow(*us, interval->time, us);
}

/* Error context: which option's value could not be read, and what could. */
static void
option_error_callback(void *arg)
{
	const LogOption *option = arg;

	errcontext("value of option \"%s\"", option->name);
	errhint("Valid values are %s.", option->valid);
}

/*
 * The functions that set an option take the value as given and leave it as it
 * is to be stored.  False: it is not valid.
 */
static bool
set_ring_size(LogOptions *options, NullableDatum *value)
{
	int64 size = DatumGetInt64(DirectFunctionCall1(pg_size_bytes, value->value));

	value->value = Int64GetDatum(size);
	options->ring_size = size;
	return size >= RING_MIN_SIZE && size <= RING_MAX_SIZE && (size & (size - 1)) == 0;
}

static bool
set_backpressure(LogOptions *options, NullableDatum *value)
{
	options->backpressure = option_backpressure(
		value->isnull ? NULL : TextDatumGetCString(value->value), options->durability);
	return true;
}

static bool
set_sample_rate(LogOptions *options, NullableDatum *value)
{
	options->sample_rate = value->isnull ? LOG_NO_SAMPLE_RATE : DatumGetFloat8(value->value);
	/* Not so for a NaN. */
	return value->isnull || (options->sample_rate >= 0 && options->sample_rate <= 1);
}

static bool
set_retention_events(LogOptions *options, NullableDatum *value)
{
	options->retention_events = value->isnull ? 0 : DatumGetInt64(value->value);
	return value->isnull || options->retention_events > 0;
}

static bool
set_retention_size(LogOptions *options, NullableDatum *value)
{
	options->retention_bytes = 0;
	if (value->isnull)
		return true;
	options->retention_bytes = DatumGetInt64(DirectFunctionCall1(pg_size_bytes, value->value));
	value->value = Int64GetDatum(options->retention_bytes);
	return options->retention_bytes >= MIN_RETENTION_BYTES;
}

static bool
set_retention_age(LogOptions *options, NullableDatum *value)
{
	options->retention_age = 0;
	return value->isnull ||
		   (option_interval_us(DatumGetIntervalP(value->value), &options->retention_age) &&
			options->retention_age > 0 &&
			options->retention_age <= MAX_RETENTION_DAYS * USECS_PER_DAY);
}

static bool
set_flush_interval(LogOptions *options, NullableDatum *value)
{
	int64 us;

	if (!option_interval_us(DatumGetIntervalP(value->value), &us) || us < 1000 ||
		us > MAX_FLUSH_INTERVAL * INT64CONST(1000) || us % 1000 != 0)
		return false;
	options->flush_interval = us / 1000;
	value->value = Int32GetDatum(options->flush_interval);
	return true;
}

static bool
set_flush_events(LogOptions *options, NullableDatum *value)
{
	options->flush_events = value->isnull ? 0 : DatumGetInt32(value->value);
	return value->isnull || options->flush_events > 0;
}

/* In the order in which create_log() takes them. */
const LogOption log_options[LOG_OPTIONS] = {
	{"ring_size", "ring_size", TEXTOID, INT8OID, "4MB", set_ring_size,
	 "powers of two from 64 kB to 1 GB"},
	{"backpressure", "backpressure", TEXTOID, TEXTOID, NULL, set_backpressure, NULL},
	{"sample_rate", "sample_rate", FLOAT8OID, FLOAT8OID, NULL, set_sample_rate, "0 to 1"},
	{"retention_events", "retention_events", INT8OID, INT8OID, NULL, set_retention_events,
	 "integers from 1"},
	{"retention_size", "retention_bytes", TEXTOID, INT8OID, NULL, set_retention_size,
	 "sizes from 1MB, such as \"500MB\" or \"10GB\""},
	{"retention_age", "retention_age", INTERVALOID, INTERVALOID, NULL, set_retention_age,
	 "intervals longer than 0, up to 100000 years"},
	{"flush_interval", "flush_interval", INTERVALOID, INT4OID, "10 ms", set_flush_interval,
	 "1 ms to 60 s, in whole milliseconds"},
	{"flush_events", "flush_events", INT4OID, INT4OID, NULL, set_flush_events, "integers from 1"}};

StaticAssertDecl(RING_MIN_SIZE == 64 * 1024 && RING_MAX_SIZE == 1024 * 1024 * 1024,
				 "log_options names the limits of ring_size");

/* NULL if there is no option of that name that can be altered. */
const LogOption *
option_by_name(const char *name)
{
	for (int i = 0; i < LOG_OPTIONS; i++)
		if (strcmp(log_options[i].name, name) == 0)
			return &log_options[i];
	return NULL;
}

/* A value given as text; NULL stands for the default. */
NullableDatum
option_parse(const LogOption *option, const char *text)
{
	NullableDatum value = {0, true};
	ErrorContextCallback where = {error_context_stack, option_error_callback, (void *) option};
	Oid input;
	Oid param;

	if (!text)
		text = option->initial;
	if (!text)
		return value;
	getTypeInputInfo(option->input, &input, &param);
	if (option->valid)
		error_context_stack = &where;
	value.value = OidInputFunctionCall(input, (char *) text, param, -1);
	value.isnull = false;
	error_context_stack = where.previous;
	return value;
}

/*
 * Set an option, whose durability and shards are set already, to a value of
 * its type in SQL.  Returns the value of its column.
 */
NullableDatum
option_set(LogOptions *options, const LogOption *option, NullableDatum value)
{
	NullableDatum stored = value;
	ErrorContextCallback where = {error_context_stack, option_error_callback, (void *) option};
	bool valid;
	Oid output;
	bool varlena;

	if (value.isnull && option->initial)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" must not be null", option->name)));
	if (option->valid)
		error_context_stack = &where;
	valid = option->set(options, &stored);
	error_context_stack = where.previous;
	if (valid)
		return stored;

	getTypeOutputInfo(option->input, &output, &varlena);
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid value for option \"%s\": \"%s\"", option->name,
						   OidOutputFunctionCall(output, value.value)),
					option->input == TEXTOID
						? errdetail("It is %lld bytes.", (long long) DatumGetInt64(stored.value))
						: 0,
					errhint("Valid values are %s.", option->valid)));
}

/*
 * Do the options go together?  "altered" is the one that alter_log() changes,
 * NULL in create_log().  A sample_rate may be set before the policy that needs
 * it, where the log can have that.
 */
void
options_check(const LogOptions *options, const LogOption *altered)
{
	bool sample = options->backpressure == LOG_SAMPLE;
	bool rate = options->sample_rate != LOG_NO_SAMPLE_RATE;

	if (sample && !rate)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backpressure \"sample\" needs option \"sample_rate\""),
				 !altered ? errhint("Give it, for instance sample_rate => 0.1.")
				 : altered->set == set_sample_rate
					 ? errhint("Set option \"backpressure\" to another policy first.")
					 : errhint("Set option \"sample_rate\" first, for instance to \"0.1\".")));
	if (rate && !sample && (!altered || options->durability == LOG_COMMIT))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"sample_rate\" applies to backpressure \"sample\" only"),
				 options->durability == LOG_COMMIT ? errdetail("%s", commit_loses_nothing) : 0));
	if (options->durability == LOG_MEMORY && log_has_retention(options))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" does not apply to memory logs",
							   options->retention_events > 0  ? "retention_events"
							   : options->retention_bytes > 0 ? "retention_size"
															  : "retention_age"),
						errdetail("The ring is the retention of a memory log."),
						errhint("Choose ring_size, or durability \"async\" or \"commit\".")));
	if (options->durability != LOG_ASYNC &&
		(options->flush_interval != LOG_FLUSH_INTERVAL || options->flush_events > 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" applies to async logs only",
						options->flush_events > 0 ? "flush_events" : "flush_interval"),
				 options->durability == LOG_COMMIT
					 ? errdetail("Events of a commit log are durable with their transaction.")
					 : errdetail("Events of a memory log are never written to its table.")));
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
