/*-------------------------------------------------------------------------
 *
 * watch_args.c
 *		The filter of a watch, from SQL arguments to jsonb and back; records as jsonb.
 *
 * A watch has the filter of the query that it watches, and that is given by the same
 * arguments.  They are kept as a jsonb object, in a form that does not depend on
 * how they were written: lists sorted and without duplicates, times in UTC.  So
 * equal filters are equal bytes.  To be used the object is turned into the
 * arguments again, and these into a filter by what does that for queries
 * (query.c): there is one place that knows what they mean.
 *
 * Private memory only; no lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "watch/watch.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "datatype/timestamp.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/timestamp.h"

static const char *const time_names[MODEL_TIME_FILTERS] = {"created_from", "created_to",
														   "updated_from", "updated_to"};

/* --------------------------------------------------------------- encoding */

static void
put_id(JsonbParseState **parse, JsonbIteratorToken token, int64 id)
{
	char *digits = palloc(MAXINT8LEN + 1);
	JsonbValue value = {.type = jbvString};

	value.val.string.len = pg_lltoa(id, digits);
	value.val.string.val = digits;
	pushJsonbValue(parse, token, &value);
}

/* ISO 8601, in UTC. */
static void
put_time(JsonbParseState **parse, const char *key, TimestampTz time)
{
	static const int utc = 0;
	char *buffer = palloc(MAXDATELEN + 1);

	JsonEncodeDateTime(buffer, TimestampTzGetDatum(time), TIMESTAMPTZOID, &utc);
	event_put_text(parse, key, buffer, strlen(buffer));
}

static int
compare_values(const void *a, const void *b)
{
	const Value *x = a;
	const Value *y = b;
	int compared = memcmp(x->data, y->data, Min(x->len, y->len));

	return compared != 0 ? compared : x->len < y->len ? -1 : x->len > y->len;
}

static void
encode(FunctionCallInfo fcinfo, int n, const FilterArg *arg, JsonbParseState **parse)
{
	switch (arg->what)
	{
		case FILTER_VALUE:
		case FILTER_STATUS:
		case FILTER_SEARCH:
		{
			text *value = PG_GETARG_TEXT_PP(n);

			event_put_text(parse, arg->name, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
			break;
		}
		case FILTER_ANY:
		case FILTER_ALL:
		{
			Value *values;
			int count = arg_tags(fcinfo, n, arg->name, &values);

			if (count == 0)
				break; /* as if it had not been given */
			qsort(values, count, sizeof(Value), compare_values);
			event_put_texts(parse, arg->name, values, count);
			break;
		}
		case FILTER_FLAG:
			event_put_bool(parse, arg->name, PG_GETARG_BOOL(n));
			break;
		case FILTER_IDS:
		{
			RecordFilter filter = {0};

			/* Sorted and without duplicates. */
			query_filter_ids(&filter, PG_GETARG_ARRAYTYPE_P(n));
			event_put_key(parse, arg->name);
			pushJsonbValue(parse, WJB_BEGIN_ARRAY, NULL);
			for (int i = 0; i < filter.nids; i++)
				put_id(parse, WJB_ELEM, filter.ids[i]);
			pushJsonbValue(parse, WJB_END_ARRAY, NULL);
			break;
		}
	}
}

Jsonb *
watch_args_encode(FunctionCallInfo fcinfo, const ModelKind *kind)
{
	JsonbParseState *parse = NULL;
	Jsonb *args;

	pushJsonbValue(&parse, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < kind->nfilters; i++)
		if (!PG_ARGISNULL(i))
			encode(fcinfo, i, &kind->filters[i], &parse);
	for (int i = 0; i < MODEL_TIME_FILTERS; i++)
		if (!PG_ARGISNULL(kind->nfilters + i))
			put_time(&parse, time_names[i], PG_GETARG_TIMESTAMPTZ(kind->nfilters + i));
	args = JsonbValueToJsonb(pushJsonbValue(&parse, WJB_END_OBJECT, NULL));
	return JB_ROOT_COUNT(args) == 0 ? NULL : args;
}

/* --------------------------------------------------------------- decoding */

static void
bad_argument(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("argument \"%s\" of a watch is not what it has to be", name)));
}

static text *
string_of(const char *name, const JsonbValue *value)
{
	if (value->type != jbvString)
		bad_argument(name);
	return cstring_to_text_with_len(value->val.string.val, value->val.string.len);
}

/* The elements of an array of strings. */
static Datum *
strings_of(const char *name, const JsonbValue *value, int *count)
{
	JsonbContainer *array = value->val.binary.data;
	Datum *elements;

	if (value->type != jbvBinary || !JsonContainerIsArray(array))
		bad_argument(name);
	*count = JsonContainerSize(array);
	elements = palloc(sizeof(Datum) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
		elements[i] = PointerGetDatum(string_of(name, getIthJsonbValueFromContainer(array, i)));
	return elements;
}

static Datum
decode(const FilterArg *arg, const JsonbValue *value)
{
	Datum *elements;
	int count;

	switch (arg->what)
	{
		case FILTER_VALUE:
		case FILTER_STATUS:
		case FILTER_SEARCH:
			return PointerGetDatum(string_of(arg->name, value));
		case FILTER_ANY:
		case FILTER_ALL:
			elements = strings_of(arg->name, value, &count);
			return PointerGetDatum(
				construct_array(elements, count, TEXTOID, -1, false, TYPALIGN_INT));
		case FILTER_FLAG:
			if (value->type != jbvBool)
				bad_argument(arg->name);
			return BoolGetDatum(value->val.boolean);
		case FILTER_IDS:
			elements = strings_of(arg->name, value, &count);
			for (int i = 0; i < count; i++)
				elements[i] = DirectFunctionCall1(
					int8in, CStringGetDatum(text_to_cstring(DatumGetTextPP(elements[i]))));
			return PointerGetDatum(construct_array(elements, count, INT8OID, sizeof(int64),
												   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	}
	pg_unreachable();
}

static Datum
decode_time(const char *name, const JsonbValue *value)
{
	return DirectFunctionCall3(timestamptz_in,
							   CStringGetDatum(text_to_cstring(string_of(name, value))),
							   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

void
watch_args_decode(Jsonb *args, const ModelKind *kind, RecordFilter *filter)
{
	LOCAL_FCINFO(fcinfo, MODEL_MAX_FILTERS + MODEL_TIME_FILTERS);
	uint32 known = 0;

	InitFunctionCallInfoData(*fcinfo, NULL, kind->nfilters + MODEL_TIME_FILTERS, InvalidOid, NULL,
							 NULL);
	for (int i = 0; i < fcinfo->nargs; i++)
	{
		bool is_time = i >= kind->nfilters;
		const char *name = is_time ? time_names[i - kind->nfilters] : kind->filters[i].name;
		JsonbValue value;

		fcinfo->args[i].isnull =
			!args || !JB_ROOT_IS_OBJECT(args) ||
			!getKeyJsonValueFromContainer(&args->root, name, strlen(name), &value);
		if (fcinfo->args[i].isnull)
			continue;
		known++;
		fcinfo->args[i].value =
			is_time ? decode_time(name, &value) : decode(&kind->filters[i], &value);
	}
	/* Of another version, perhaps: a watch that sees more than it shall is none. */
	if (args && (!JB_ROOT_IS_OBJECT(args) || known != JB_ROOT_COUNT(args)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the filter of a watch of %s has an argument that is not known",
							   kind->name)));
	query_filter(fcinfo, kind, filter);
}

/* ---------------------------------------------------------------- records */

static void
put_null(JsonbParseState **parse, const char *key)
{
	JsonbValue value = {.type = jbvNull};

	event_put_key(parse, key);
	pushJsonbValue(parse, WJB_VALUE, &value);
}

static void
put_attribute(JsonbParseState **parse, const Attribute *attr, Value value)
{
	if (!value.data && attr->type != ATTR_TEXTS)
		put_null(parse, attr->name);
	else if (attr->type == ATTR_TEXT)
		event_put_text(parse, attr->name, value.data, value.len);
	else if (attr->type == ATTR_JSONB)
		event_put_jsonb(parse, attr->name, DatumGetJsonbP(value_jsonb(value)));
	else
	{
		Value *texts = palloc(sizeof(Value) * STATE_MAX_TEXTS);
		int n = 0;

		while (value.data && n < STATE_MAX_TEXTS && texts_next(&value, &texts[n]))
			n++;
		event_put_texts(parse, attr->name, texts, n);
	}
}

/* The record's state, as the argument by which it is filtered calls it. */
static void
put_state(JsonbParseState **parse, const ModelKind *kind, int state)
{
	for (int i = 0; i < kind->nfilters; i++)
		if (kind->filters[i].what == FILTER_FLAG)
			event_put_bool(parse, kind->filters[i].name, state != 0);
		else if (kind->filters[i].what == FILTER_STATUS)
			event_put_text(parse, kind->filters[i].name, kind->states[state],
						   strlen(kind->states[state]));
}

Jsonb *
watch_record_jsonb(const ModelKind *kind, const Record *record, const Blob *blob)
{
	const Schema *schema = &kind->schema;
	JsonbParseState *parse = NULL;

	pushJsonbValue(&parse, WJB_BEGIN_OBJECT, NULL);
	event_put_key(&parse, "id");
	put_id(&parse, WJB_VALUE, record->id);
	for (int i = 0; i < schema->nattrs; i++)
		put_attribute(&parse, &schema->attrs[i], blob_value(blob, schema->nattrs, i));
	put_state(&parse, kind, record->flags & RECORD_STATE);
	put_time(&parse, "created", record->created);
	put_time(&parse, "updated", record->updated);
	return JsonbValueToJsonb(pushJsonbValue(&parse, WJB_END_OBJECT, NULL));
}

Jsonb *
watch_id_jsonb(int64 id)
{
	JsonbParseState *parse = NULL;

	pushJsonbValue(&parse, WJB_BEGIN_OBJECT, NULL);
	event_put_key(&parse, "id");
	put_id(&parse, WJB_VALUE, id);
	return JsonbValueToJsonb(pushJsonbValue(&parse, WJB_END_OBJECT, NULL));
}
