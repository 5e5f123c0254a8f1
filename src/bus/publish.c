/*-------------------------------------------------------------------------
 *
 * publish.c
 *		publish, publish_batch, publish_lines and publish_row in SQL.
 *
 * The work is the publisher's; here arguments become events.  The first call
 * of a query finds the log and keeps it in fn_extra; the calls that follow
 * compare the name and a generation.  A log takes payloads of its own format;
 * text is parsed for a jsonb log and refused by a bytea log, so that nobody
 * stores text where he meant bytes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/publisher.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/json.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(netbus_publish_jsonb);
PG_FUNCTION_INFO_V1(netbus_publish_text);
PG_FUNCTION_INFO_V1(netbus_publish_bytea);
PG_FUNCTION_INFO_V1(netbus_publish_batch_jsonb_array);
PG_FUNCTION_INFO_V1(netbus_publish_batch_text_array);
PG_FUNCTION_INFO_V1(netbus_publish_batch_bytea_array);
PG_FUNCTION_INFO_V1(netbus_publish_batch_jsonb);
PG_FUNCTION_INFO_V1(netbus_publish_batch_text);
PG_FUNCTION_INFO_V1(netbus_publish_lines_text);
PG_FUNCTION_INFO_V1(netbus_publish_lines_bytea);
PG_FUNCTION_INFO_V1(netbus_publish_row);

/* What a payload is when it comes in. */
typedef enum PayloadKind
{
	PAYLOAD_JSONB,
	PAYLOAD_TEXT, /* json or text: to be parsed */
	PAYLOAD_BYTEA,
} PayloadKind;

/* In fn_extra: the log of the last call. */
typedef struct PublishCache
{
	Publisher *publisher;
	uint64 generation;
	uint32 name_len;
	char name[NAMEDATALEN];
} PublishCache;

static void
null_argument(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("argument \"%s\" must not be null", name)));
}

static pg_noinline Publisher *
open_and_cache(FunctionCallInfo fcinfo, const char *name, Size len)
{
	PublishCache *cache = fcinfo->flinfo->fn_extra;
	Publisher *publisher = publisher_open(pnstrdup(name, len));

	if (!cache)
		cache = fcinfo->flinfo->fn_extra =
			MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(PublishCache));
	cache->publisher = publisher;
	cache->generation = nb_log_generation;
	cache->name_len = len;
	memcpy(cache->name, name, len);
	return publisher;
}

/* The publisher of a log, ready for this transaction and user; from fn_extra if it is the same. */
static inline Publisher *
cached_publisher(FunctionCallInfo fcinfo, const char *name, Size len)
{
	PublishCache *cache = fcinfo->flinfo->fn_extra;

	if (likely(cache && cache->generation == nb_log_generation && cache->name_len == len &&
			   memcmp(cache->name, name, len) == 0 && publisher_ready(cache->publisher)))
		return cache->publisher;
	return open_and_cache(fcinfo, name, len);
}

/* That for argument 0. */
static inline Publisher *
publisher_arg(FunctionCallInfo fcinfo)
{
	text *name;

	if (unlikely(PG_ARGISNULL(0)))
		null_argument("log");
	name = PG_GETARG_TEXT_PP(0);
	return cached_publisher(fcinfo, VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name));
}

static pg_noinline void
wrong_format(FunctionCallInfo fcinfo, const Publisher *publisher)
{
	const char *log = publisher->log->name;

	if (publisher->log->options.format == LOG_FORMAT_BYTEA)
	{
		Oid type = get_fn_expr_argtype(fcinfo->flinfo, 1);
		bool is_text = type == TEXTOID || type == TEXTARRAYOID;

		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("log \"%s\" takes bytea, not %s", log,
						OidIsValid(type) ? format_type_be(type) : "text"),
				 is_text ? errhint("Cast to bytea, or use convert_to(payload, 'UTF8').")
						 : errhint("Convert the payload: convert_to(payload::text, 'UTF8').")));
	}
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("log \"%s\" takes jsonb, not bytea", log),
			 errhint("Convert the payload: convert_from(payload, 'UTF8')::jsonb.")));
}

/* Does a payload of that kind go into the log, perhaps after parsing? */
static inline void
check_format(FunctionCallInfo fcinfo, const Publisher *publisher, PayloadKind kind)
{
	if (unlikely((publisher->log->options.format == LOG_FORMAT_BYTEA) != (kind == PAYLOAD_BYTEA)))
		wrong_format(fcinfo, publisher);
}

static inline bool
transactional_arg(FunctionCallInfo fcinfo, int n)
{
	if (unlikely(PG_ARGISNULL(n)))
		null_argument("transactional");
	return PG_GETARG_BOOL(n);
}

/*
 * One event of the log's own format, from a function that publishes just one.
 * False: the log's policy refuses it.
 */
static inline bool
publish_one(Publisher *publisher, bool transactional, const char *key, uint32 key_len,
			const void *payload, uint32 payload_len)
{
	if (!transactional &&
		frame_size(1, (uint64) payload_len + sizeof(uint16) + key_len) <= RING_SMALL)
	{
		/* Too small to have a key that is too long, or a forbidden size. */
		return publisher_append_small(publisher, publisher_shard(publisher, key, key_len), key,
									  key_len, payload, payload_len);
	}
	return publisher_append(publisher, transactional, key, key_len, payload, payload_len) &&
		   (transactional || publisher_flush_immediate(publisher) == 0);
}

/* publish() of a payload that is stored as it is: jsonb or bytea. */
static inline Datum
publish_varlena(FunctionCallInfo fcinfo, PayloadKind kind)
{
	Publisher *publisher = publisher_arg(fcinfo);
	struct varlena *payload;
	text *key = NULL;
	bool accepted;

	if (unlikely(PG_ARGISNULL(1)))
		null_argument("payload");
	check_format(fcinfo, publisher, kind);
	payload = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(1));
	if (!PG_ARGISNULL(2))
		key = PG_GETARG_TEXT_PP(2);
	accepted = publish_one(publisher, transactional_arg(fcinfo, 3), key ? VARDATA_ANY(key) : NULL,
						   key ? VARSIZE_ANY_EXHDR(key) : 0, VARDATA_ANY(payload),
						   VARSIZE_ANY_EXHDR(payload));
	if ((Pointer) payload != DatumGetPointer(PG_GETARG_DATUM(1)))
		pfree(payload);
	PG_RETURN_BOOL(accepted);
}

Datum
netbus_publish_jsonb(PG_FUNCTION_ARGS)
{
	return publish_varlena(fcinfo, PAYLOAD_JSONB);
}

Datum
netbus_publish_bytea(PG_FUNCTION_ARGS)
{
	return publish_varlena(fcinfo, PAYLOAD_BYTEA);
}

/* publish() of json or text */
Datum
netbus_publish_text(PG_FUNCTION_ARGS)
{
	Publisher *publisher = publisher_arg(fcinfo);
	text *payload;
	text *key = NULL;
	Jsonb *jsonb;
	bool accepted;

	if (PG_ARGISNULL(1))
		null_argument("payload");
	check_format(fcinfo, publisher, PAYLOAD_TEXT);
	payload = PG_GETARG_TEXT_PP(1);
	if (!PG_ARGISNULL(2))
		key = PG_GETARG_TEXT_PP(2);
	jsonb = publisher_parse_json(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload));
	accepted =
		publish_one(publisher, transactional_arg(fcinfo, 3), key ? VARDATA_ANY(key) : NULL,
					key ? VARSIZE_ANY_EXHDR(key) : 0, VARDATA(jsonb), VARSIZE(jsonb) - VARHDRSZ);
	pfree(jsonb);
	PG_RETURN_BOOL(accepted);
}

/* ---------------------------------------------------------------- batches */

/* The keys of a batch, walked beside its payloads. */
typedef struct KeyWalk
{
	ArrayType *array; /* NULL: no keys */
	const char *next;
	bits8 *nulls;
	int i;
} KeyWalk;

/* Number of elements of a one-dimensional array. */
static int
array_length_1(ArrayType *array, const char *name)
{
	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("argument \"%s\" must be a one-dimensional array", name)));
	return ARR_NDIM(array) == 0 ? 0 : ARR_DIMS(array)[0];
}

static inline bool
element_is_null(bits8 *nulls, int i)
{
	return nulls && !(nulls[i / 8] & (1 << (i % 8)));
}

static void
begin_keys(KeyWalk *keys, FunctionCallInfo fcinfo, int n, int payloads)
{
	int count;

	memset(keys, 0, sizeof(KeyWalk));
	if (PG_ARGISNULL(n))
		return;
	keys->array = PG_GETARG_ARRAYTYPE_P(n);
	keys->next = ARR_DATA_PTR(keys->array);
	keys->nulls = ARR_NULLBITMAP(keys->array);
	count = array_length_1(keys->array, "keys");
	if (count != payloads)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("number of keys (%d) does not match number of payloads (%d)", count,
							   payloads),
						errhint("Pass one key for each payload, null for none.")));
}

/* The next key; NULL for none. */
static inline const char *
next_key(KeyWalk *keys, uint32 *len)
{
	const char *key;

	*len = 0;
	if (!keys->array || element_is_null(keys->nulls, keys->i++))
		return NULL;
	keys->next = (const char *) att_align_pointer(keys->next, TYPALIGN_INT, -1, keys->next);
	key = VARDATA_ANY(keys->next);
	*len = VARSIZE_ANY_EXHDR(keys->next);
	keys->next += VARSIZE_ANY(keys->next);
	return key;
}

/* The varlena that is next in an array's data; moves past it. */
static inline struct varlena *
next_element(const char **data)
{
	struct varlena *element;

	*data = (const char *) att_align_pointer(*data, TYPALIGN_INT, -1, *data);
	element = (struct varlena *) *data;
	*data += VARSIZE_ANY(element);
	return element;
}

/* Parse memory for JSON that is copied into a builder at once. */
static MemoryContext
parse_context(void)
{
	return AllocSetContextCreate(CurrentMemoryContext, "netbus parse", ALLOCSET_DEFAULT_SIZES);
}

/* Error context: which of many payloads is wrong. */
static void
batch_error_callback(void *arg)
{
	errcontext("payload %d of publish_batch()", *(int *) arg);
}

static Datum
publish_array(FunctionCallInfo fcinfo, PayloadKind kind)
{
	Publisher *publisher = publisher_arg(fcinfo);
	bool transactional = transactional_arg(fcinfo, 3);
	ArrayType *array;
	int count;
	bits8 *nulls;
	const char *data;
	KeyWalk keys;
	Builder *keyless = NULL; /* where all of them go if there are no keys */
	int level = publisher_level(transactional);
	MemoryContext context = NULL;
	ErrorContextCallback where;
	int accepted = 0;
	int i;

	if (PG_ARGISNULL(1))
		null_argument("payloads");
	check_format(fcinfo, publisher, kind);
	array = PG_GETARG_ARRAYTYPE_P(1);
	count = array_length_1(array, "payloads");
	nulls = ARR_NULLBITMAP(array);
	data = ARR_DATA_PTR(array);
	begin_keys(&keys, fcinfo, 2, count);
	if (!keys.array)
		keyless = publisher_builder(publisher, transactional, publisher_shard(publisher, NULL, 0));
	if (kind == PAYLOAD_TEXT)
		context = parse_context();

	where.callback = batch_error_callback;
	where.arg = &i;
	where.previous = error_context_stack;
	error_context_stack = &where;
	for (i = 1; i <= count; i++)
	{
		struct varlena *payload;
		const char *key;
		uint32 key_len;

		if (unlikely(element_is_null(nulls, i - 1)))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("argument \"payloads\" must not contain nulls")));
		payload = next_element(&data);
		key = next_key(&keys, &key_len);
		if (kind == PAYLOAD_TEXT)
		{
			MemoryContext old = MemoryContextSwitchTo(context);

			payload = (struct varlena *) publisher_parse_json(VARDATA_ANY(payload),
															  VARSIZE_ANY_EXHDR(payload));
			MemoryContextSwitchTo(old);
		}
		if (keyless)
			accepted += publisher_append_to(keyless, level, NULL, 0, VARDATA_ANY(payload),
											VARSIZE_ANY_EXHDR(payload));
		else
			accepted += publisher_append(publisher, transactional, key, key_len,
										 VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload));
		if (kind == PAYLOAD_TEXT)
			MemoryContextReset(context);
	}
	error_context_stack = where.previous;

	if (!transactional)
		accepted -= publisher_flush_immediate(publisher);
	if (context)
		MemoryContextDelete(context);
	PG_FREE_IF_COPY(array, 1);
	PG_RETURN_INT32(accepted);
}

Datum
netbus_publish_batch_jsonb_array(PG_FUNCTION_ARGS)
{
	return publish_array(fcinfo, PAYLOAD_JSONB);
}

Datum
netbus_publish_batch_text_array(PG_FUNCTION_ARGS)
{
	return publish_array(fcinfo, PAYLOAD_TEXT);
}

Datum
netbus_publish_batch_bytea_array(PG_FUNCTION_ARGS)
{
	return publish_array(fcinfo, PAYLOAD_BYTEA);
}

/* A batch that is one JSON array. */
static Datum
publish_json_array(FunctionCallInfo fcinfo, Publisher *publisher, Jsonb *jsonb)
{
	bool transactional = transactional_arg(fcinfo, 3);
	KeyWalk keys;
	MemoryContext context;
	int accepted = 0;
	int count;

	check_format(fcinfo, publisher, PAYLOAD_JSONB);
	if (!JB_ROOT_IS_ARRAY(jsonb) || JB_ROOT_IS_SCALAR(jsonb))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("payloads must be a JSON array"),
			 errhint("Pass '[...]', or cast the array that the driver sends: payloads::jsonb[].")));
	count = JB_ROOT_COUNT(jsonb);
	begin_keys(&keys, fcinfo, 2, count);
	context = parse_context();
	for (int i = 0; i < count; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Jsonb *payload = JsonbValueToJsonb(getIthJsonbValueFromContainer(&jsonb->root, i));
		uint32 key_len;
		const char *key = next_key(&keys, &key_len);

		MemoryContextSwitchTo(old);
		accepted += publisher_append(publisher, transactional, key, key_len, VARDATA(payload),
									 VARSIZE(payload) - VARHDRSZ);
		MemoryContextReset(context);
	}
	if (!transactional)
		accepted -= publisher_flush_immediate(publisher);
	MemoryContextDelete(context);
	PG_RETURN_INT32(accepted);
}

Datum
netbus_publish_batch_jsonb(PG_FUNCTION_ARGS)
{
	Publisher *publisher = publisher_arg(fcinfo);

	if (PG_ARGISNULL(1))
		null_argument("payloads");
	return publish_json_array(fcinfo, publisher, PG_GETARG_JSONB_P(1));
}

/*
 * Error context: an array of a driver that does not say its type arrives here,
 * too, as '{..}'.
 */
static void
json_array_error_callback(void *arg)
{
	const text *payloads = arg;

	if (VARSIZE_ANY_EXHDR(payloads) == 0 || VARDATA_ANY(payloads)[0] != '{')
		return;
	if (geterrcode() == ERRCODE_DATATYPE_MISMATCH)
		errhint("Cast the array that the driver sends: payloads::bytea[].");
	else
		errhint(
			"Pass a JSON array, '[...]', or cast the array that the driver sends: payloads::jsonb[].");
}

Datum
netbus_publish_batch_text(PG_FUNCTION_ARGS)
{
	Publisher *publisher = publisher_arg(fcinfo);
	ErrorContextCallback where;
	text *payloads;
	Jsonb *jsonb;

	if (PG_ARGISNULL(1))
		null_argument("payloads");
	payloads = PG_GETARG_TEXT_PP(1);
	where.callback = json_array_error_callback;
	where.arg = payloads;
	where.previous = error_context_stack;
	error_context_stack = &where;
	check_format(fcinfo, publisher, PAYLOAD_TEXT);
	jsonb = publisher_parse_json(VARDATA_ANY(payloads), VARSIZE_ANY_EXHDR(payloads));
	error_context_stack = where.previous;
	return publish_json_array(fcinfo, publisher, jsonb);
}

/* ------------------------------------------------------------------ lines */

static void
line_error_callback(void *arg)
{
	errcontext("line %llu of publish_lines()", (unsigned long long) *(uint64 *) arg);
}

static bool
is_blank(const char *line, Size len)
{
	for (Size i = 0; i < len; i++)
		if (line[i] != ' ' && line[i] != '\t')
			return false;
	return true;
}

/* publish_lines(): one event a line; blank lines are none. */
static Datum
publish_lines(FunctionCallInfo fcinfo, PayloadKind kind)
{
	Publisher *publisher = publisher_arg(fcinfo);
	bool transactional = transactional_arg(fcinfo, 2);
	bool jsonb = publisher->log->options.format == LOG_FORMAT_JSONB;
	struct varlena *lines;
	const char *at;
	const char *end;
	MemoryContext context = NULL;
	ErrorContextCallback where;
	uint64 line = 0;
	int32 accepted = 0;

	if (PG_ARGISNULL(1))
		null_argument("lines");
	if (!jsonb)
		check_format(fcinfo, publisher, kind);
	lines = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(1));
	at = VARDATA_ANY(lines);
	end = at + VARSIZE_ANY_EXHDR(lines);
	if (jsonb)
	{
		context = parse_context();
		if (kind == PAYLOAD_BYTEA)
			pg_verifymbstr(at, end - at, false);
	}

	where.callback = line_error_callback;
	where.arg = &line;
	where.previous = error_context_stack;
	error_context_stack = &where;
	while (at < end)
	{
		const char *newline = memchr(at, '\n', end - at);
		const char *line_end = newline ? newline : end;
		const char *payload = at;
		Size len = line_end - at;

		line++;
		at = newline ? newline + 1 : end;
		if (len > 0 && payload[len - 1] == '\r')
			len--;
		if (len == 0)
			continue;
		if (!jsonb)
			accepted += publisher_append(publisher, transactional, NULL, 0, payload, len);
		else if (!is_blank(payload, len))
		{
			MemoryContext old = MemoryContextSwitchTo(context);
			Jsonb *parsed = publisher_parse_json(payload, len);

			MemoryContextSwitchTo(old);
			accepted += publisher_append(publisher, transactional, NULL, 0, VARDATA(parsed),
										 VARSIZE(parsed) - VARHDRSZ);
			MemoryContextReset(context);
		}
	}
	error_context_stack = where.previous;

	if (!transactional)
		accepted -= publisher_flush_immediate(publisher);
	if (context)
		MemoryContextDelete(context);
	PG_RETURN_INT32(accepted);
}

Datum
netbus_publish_lines_text(PG_FUNCTION_ARGS)
{
	return publish_lines(fcinfo, PAYLOAD_TEXT);
}

Datum
netbus_publish_lines_bytea(PG_FUNCTION_ARGS)
{
	return publish_lines(fcinfo, PAYLOAD_BYTEA);
}

/* ---------------------------------------------------------------- trigger */

/* Append a row of the trigger's table as JSON, or null. */
static void
append_row(StringInfo json, TupleDesc desc, HeapTuple row)
{
	Datum composite;

	if (!row)
	{
		appendStringInfoString(json, "null");
		return;
	}
	composite = heap_copy_tuple_as_datum(row, desc);
	appendStringInfoString(json, TextDatumGetCString(DirectFunctionCall1(row_to_json, composite)));
}

/*
 * publish_row('log' [, 'key column']): AFTER trigger for each row of any table.
 * The event is {"op", "table", "new", "old"}.
 */
Datum
netbus_publish_row(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	Trigger *trigger;
	TupleDesc desc;
	HeapTuple row;
	const char *op;
	StringInfoData json;
	Publisher *publisher;
	char *key = NULL;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("netbus.publish_row() must be called by an AFTER trigger FOR EACH ROW")));
	trigger = data->tg_trigger;
	if (trigger->tgnargs < 1 || trigger->tgnargs > 2)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("netbus.publish_row() takes a log and at most a key column"),
						errhint("EXECUTE FUNCTION netbus.publish_row('log', 'column')")));

	desc = RelationGetDescr(data->tg_relation);
	row = data->tg_trigtuple;
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		op = "insert";
	else if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
	{
		op = "update";
		row = data->tg_newtuple;
	}
	else
		op = "delete";

	if (trigger->tgnargs == 2)
	{
		int column = SPI_fnumber(desc, trigger->tgargs[1]);

		if (column <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("table \"%s\" has no column \"%s\" for the key of its events",
							RelationGetRelationName(data->tg_relation), trigger->tgargs[1])));
		key = SPI_getvalue(row, desc, column);
	}

	initStringInfo(&json);
	appendStringInfo(&json, "{\"op\":\"%s\",\"table\":", op);
	escape_json(&json, quote_qualified_identifier(
						   get_namespace_name(RelationGetNamespace(data->tg_relation)),
						   RelationGetRelationName(data->tg_relation)));
	appendStringInfoString(&json, ",\"new\":");
	append_row(&json, desc, TRIGGER_FIRED_BY_DELETE(data->tg_event) ? NULL : row);
	appendStringInfoString(&json, ",\"old\":");
	append_row(&json, desc, TRIGGER_FIRED_BY_INSERT(data->tg_event) ? NULL : data->tg_trigtuple);
	appendStringInfoChar(&json, '}');

	publisher = cached_publisher(fcinfo, trigger->tgargs[0], strlen(trigger->tgargs[0]));
	if (publisher->log->options.format == LOG_FORMAT_BYTEA)
		publisher_append(publisher, true, key, key ? strlen(key) : 0, json.data, json.len);
	else
	{
		Jsonb *jsonb = publisher_parse_json(json.data, json.len);

		publisher_append(publisher, true, key, key ? strlen(key) : 0, VARDATA(jsonb),
						 VARSIZE(jsonb) - VARHDRSZ);
	}
	return PointerGetDatum(NULL);
}
