/*-------------------------------------------------------------------------
 *
 * event.c
 *		The events of a model's log: making them, and reading them.
 *
 * An event is a JSON object:
 *
 *		{"v": 1, "op": "store", "id": "123", "content": "...", "tags": ["a"], ...}
 *
 * "v" is the version of the format; "op" and the other members are the kind's
 * (memories.c, tasks.c).  Ids and times are strings, because JavaScript loses
 * digits of larger numbers; a time is microseconds since 1970.  A member that is
 * missing or null is not given.
 *
 * Anybody with the right INSERT on the log may publish what he likes, so a fold
 * believes nothing: what is not as it has to be is a reason to set the event
 * aside.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cortex/model.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#define EVENT_VERSION 1

PG_FUNCTION_INFO_V1(netbus_decode_event);

/* Models that this transaction has written to. */
static Model *written = NULL;

/* ----------------------------------------------------------------- making */

void
event_put_key(JsonbParseState **parse, const char *key)
{
	JsonbValue value = {.type = jbvString};

	value.val.string.val = unconstify(char *, key);
	value.val.string.len = strlen(key);
	pushJsonbValue(parse, WJB_KEY, &value);
}

static void
put_string(JsonbParseState **parse, JsonbIteratorToken token, const char *text, int len)
{
	JsonbValue value = {.type = jbvString};

	value.val.string.val = unconstify(char *, text);
	value.val.string.len = len;
	pushJsonbValue(parse, token, &value);
}

void
event_begin(JsonbParseState **parse, const char *op, int64 id)
{
	static Datum version = 0;
	JsonbValue value = {.type = jbvNumeric};
	char digits[MAXINT8LEN + 1];
	int len;

	if (!version)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		version = NumericGetDatum(int64_to_numeric(EVENT_VERSION));
		MemoryContextSwitchTo(old);
	}
	*parse = NULL;
	pushJsonbValue(parse, WJB_BEGIN_OBJECT, NULL);
	event_put_key(parse, "v");
	value.val.numeric = DatumGetNumeric(version);
	pushJsonbValue(parse, WJB_VALUE, &value);
	event_put_text(parse, "op", op, strlen(op));
	len = pg_lltoa(id, digits);
	event_put_text(parse, "id", pstrdup(digits), len);
}

void
event_put_text(JsonbParseState **parse, const char *key, const char *text, int len)
{
	event_put_key(parse, key);
	put_string(parse, WJB_VALUE, text, len);
}

void
event_put_jsonb(JsonbParseState **parse, const char *key, Jsonb *jsonb)
{
	JsonbValue value;

	event_put_key(parse, key);
	if (JB_ROOT_IS_SCALAR(jsonb))
		(void) JsonbExtractScalar(&jsonb->root, &value);
	else
	{
		value.type = jbvBinary;
		value.val.binary.data = &jsonb->root;
		value.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	}
	pushJsonbValue(parse, WJB_VALUE, &value);
}

void
event_put_texts(JsonbParseState **parse, const char *key, const Value *texts, int n)
{
	event_put_key(parse, key);
	pushJsonbValue(parse, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < n; i++)
		put_string(parse, WJB_ELEM, texts[i].data, texts[i].len);
	pushJsonbValue(parse, WJB_END_ARRAY, NULL);
}

void
event_put_bool(JsonbParseState **parse, const char *key, bool given)
{
	JsonbValue value = {.type = jbvBool};

	event_put_key(parse, key);
	value.val.boolean = given;
	pushJsonbValue(parse, WJB_VALUE, &value);
}

void
event_put_time(JsonbParseState **parse, const char *key, int64 us)
{
	char digits[MAXINT8LEN + 1];
	int len = pg_lltoa(NB_TIMESTAMPTZ_TO_EPOCH(us), digits);

	event_put_text(parse, key, pstrdup(digits), len);
}

/* What would take so much memory is refused at the limit. */
void
event_check_memory(Model *model, uint64 bytes)
{
	uint64 pending = bytes;

	for (Model *m = written; m; m = m->next_written)
		pending += m->written_bytes;
	if (model_bytes_used() + pending > (uint64) model_memory * 1024 * 1024)
		ereport(
			ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("model \"%s\" of %s has no room for another %s", model->name, model->kind->name,
					model->kind->record),
			 errdetail("The models of this database take what netbus.model_memory (%d MB) allows.",
					   model_memory),
			 errhint("Delete what is not needed any more, or raise netbus.model_memory.")));
}

static void
note_written(Model *model, bool deletes, uint64 bytes)
{
	if (!model->written)
	{
		model->written = true;
		model->deletes = false;
		model->written_bytes = 0;
		(void) model_has_slot(model); /* to say at commit what is written */
		model->next_written = written;
		written = model;
	}
	model->deletes |= deletes;
	model->written_bytes += bytes;
}

/* Publish the event; it is committed with the transaction.  deletes: it removes a record. */
void
event_publish(Model *model, JsonbParseState **parse, bool deletes)
{
	Jsonb *jsonb = JsonbValueToJsonb(pushJsonbValue(parse, WJB_END_OBJECT, NULL));
	Publisher *publisher = model->log->publisher;

	if (unlikely(!publisher || !publisher_ready(publisher) ||
				 model->log_generation != nb_log_generation))
		publisher = publisher_open(model->log->name);
	(void) publisher_append(publisher, true, NULL, 0, VARDATA(jsonb), VARSIZE(jsonb) - VARHDRSZ);
	note_written(model, deletes, VARSIZE(jsonb));
}

/*
 * At commit: before the events become visible, what the session's later queries
 * and others' updates go by.  The claims have been made.
 *
 * Others may see what the transaction did before we come here.  So whoever removes
 * records says that before the commit, too.
 */
static void
event_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT)
		for (Model *model = written; model; model = model->next_written)
			if (model->deletes && model->slot)
			{
				model->deleting = model->slot;
				pg_atomic_fetch_add_u32(&model->deleting->deleting, 1);
			}
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	for (; written; written = written->next_written)
	{
		Model *model = written;

		model->written = false;
		if (event == XACT_EVENT_COMMIT && model->log && model->log->shared)
		{
			model->session_seq =
				*(volatile uint64 *) &log_ring(model->log->shared, 0)->next_seq - 1;
			if (model->slot)
				pg_atomic_fetch_add_u64(&model->slot->promised, model->written_bytes);
			if (model->deleting)
			{
				pg_atomic_uint64 *deletes_to = &model->deleting->deletes_to;
				uint64 to = pg_atomic_read_u64(deletes_to);

				while (to < model->session_seq &&
					   !pg_atomic_compare_exchange_u64(deletes_to, &to, model->session_seq))
					;
			}
		}
		if (model->deleting)
			pg_atomic_fetch_sub_u32(&model->deleting->deleting, 1);
		model->deleting = NULL;
	}
}

void
event_init(void)
{
	RegisterXactCallback(event_xact_callback, NULL);
}

Datum
event_update(FunctionCallInfo fcinfo, const ModelKind *kind, const char *op, bool deletes)
{
	int64 id = arg_int8(fcinfo, 0, "id");
	Model *model = model_open_to_update(fcinfo, kind, 1);
	JsonbParseState *parse;

	if (!record_visible(model, id))
		PG_RETURN_BOOL(false);
	event_begin(&parse, op, id);
	event_publish(model, &parse, deletes);
	PG_RETURN_BOOL(true);
}

/* ---------------------------------------------------------------- reading */

/* A member of an event; false: it is not given. */
static bool
event_get(const Event *event, const char *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(event->object, key, strlen(key), value) &&
		   value->type != jbvNull;
}

static bool
parse_int64(const char *text, int len, int64 *result)
{
	bool negative = len > 0 && text[0] == '-';
	int64 n = 0;

	if (len - negative < 1 || len > MAXINT8LEN)
		return false;
	for (int i = negative; i < len; i++)
		if (text[i] < '0' || text[i] > '9' || pg_mul_s64_overflow(n, 10, &n) ||
			pg_sub_s64_overflow(n, text[i] - '0', &n))
			return false;
	if (!negative && n == PG_INT64_MIN)
		return false;
	*result = negative ? n : -n;
	return true;
}

static bool
get_id(Event *event)
{
	JsonbValue value;

	return event_get(event, "id", &value) && value.type == jbvString &&
		   parse_int64(value.val.string.val, value.val.string.len, &event->id);
}

/* What an event is, with its id; NULL, and a reason, if that cannot be told. */
const EventKind *
event_kind(const ModelKind *kind, Event *event)
{
	JsonbValue value;

	if (!JsonContainerIsObject(event->object))
		event->reason = "the event is not a JSON object";
	else if (!event_get(event, "v", &value) || value.type != jbvNumeric)
		event->reason = "member \"v\", the version of the format, is missing or not a number";
	else if (DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(value.val.numeric),
											   NumericGetDatum(int64_to_numeric(EVENT_VERSION)))) !=
			 0)
		event->reason = "the version of the format is not known";
	else if (!get_id(event))
		event->reason = "member \"id\" is missing or not a string of digits";
	else if (!event_get(event, "op", &value) || value.type != jbvString)
		event->reason = "member \"op\" is missing or not a string";
	else
	{
		for (int i = 0; i < kind->nevents; i++)
			if (value.val.string.len == (int) strlen(kind->events[i].op) &&
				memcmp(value.val.string.val, kind->events[i].op, value.val.string.len) == 0)
				return &kind->events[i];
		event->reason = "member \"op\" is not one of the model's";
	}
	return NULL;
}

/* The readers of members return false, and leave a reason, if what is given is wrong. */
static bool
wrong(Event *event, const char *format, const char *key)
{
	event->reason = psprintf(format, key);
	return false;
}

bool
event_text(Event *event, const char *key, const Attribute *attr, bool required, Value *result)
{
	JsonbValue value;

	result->data = NULL;
	result->len = 0;
	if (!event_get(event, key, &value))
		return !required || wrong(event, "member \"%s\" is missing", key);
	if (value.type != jbvString)
		return wrong(event, "member \"%s\" is not a string", key);
	if (value.val.string.len > (int) attr->max_bytes)
		return wrong(event, "member \"%s\" is too long", key);
	result->data = value.val.string.val;
	result->len = value.val.string.len;
	return true;
}

/* A list of texts, without duplicates.  Allocates. */
bool
event_texts(Event *event, const char *key, const Attribute *attr, bool required, Value *result)
{
	JsonbValue value;
	JsonbContainer *array;
	int count;
	Value *texts;
	char *to;
	Size bytes = 0;

	result->data = "";
	result->len = 0;
	if (!event_get(event, key, &value))
		return !required || wrong(event, "member \"%s\" is missing", key);
	if (value.type != jbvBinary || !JsonContainerIsArray(value.val.binary.data))
		return wrong(event, "member \"%s\" is not an array", key);
	array = value.val.binary.data;
	count = JsonContainerSize(array);
	if (count > STATE_MAX_TEXTS)
		return wrong(event, "member \"%s\" has too many elements", key);
	texts = palloc(sizeof(Value) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(array, i);

		if (element->type != jbvString)
			return wrong(event, "member \"%s\" has an element that is not a string", key);
		if (element->val.string.len > (int) attr->max_bytes)
			return wrong(event, "member \"%s\" has an element that is too long", key);
		texts[i].data = element->val.string.val;
		texts[i].len = element->val.string.len;
		bytes += 2 + texts[i].len;
	}
	count = tags_distinct(texts, count);
	to = palloc(Max(bytes, 1));
	result->data = to;
	for (int i = 0; i < count; i++)
	{
		*to++ = texts[i].len & 0xff;
		*to++ = texts[i].len >> 8;
		memcpy(to, texts[i].data, texts[i].len);
		to += texts[i].len;
	}
	result->len = to - result->data;
	return true;
}

/* Any JSON, as the bytes of a jsonb without its header.  Allocates. */
bool
event_jsonb(Event *event, const char *key, Value *result)
{
	JsonbValue value;
	Jsonb *jsonb;

	result->data = NULL;
	result->len = 0;
	if (!event_get(event, key, &value))
		return true;
	jsonb = JsonbValueToJsonb(&value);
	result->data = VARDATA(jsonb);
	result->len = VARSIZE(jsonb) - VARHDRSZ;
	if (result->len > MODEL_MAX_TEXT)
		return wrong(event, "member \"%s\" is too long", key);
	return true;
}

bool
event_bool(Event *event, const char *key, bool *given, bool *result)
{
	JsonbValue value;

	*given = event_get(event, key, &value);
	if (!*given)
		return true;
	if (value.type != jbvBool)
		return wrong(event, "member \"%s\" is not a boolean", key);
	*result = value.val.boolean;
	return true;
}

bool
event_time(Event *event, const char *key, bool *given, int64 *time)
{
	JsonbValue value;
	int64 us;

	*given = event_get(event, key, &value);
	if (!*given)
		return true;
	if (value.type != jbvString || !parse_int64(value.val.string.val, value.val.string.len, &us) ||
		!IS_VALID_TIMESTAMP(us) || !IS_VALID_TIMESTAMP(NB_EPOCH_TO_TIMESTAMPTZ(us)))
		return wrong(event, "member \"%s\" is not a string of microseconds since 1970", key);
	*time = NB_EPOCH_TO_TIMESTAMPTZ(us);
	return true;
}

FoldResult
event_fold_set(const State *state, Event *event, const Record *record, Image *image)
{
	if (!record)
		return FOLD_NOOP;
	image->flags |= RECORD_STATE;
	return FOLD_PUT;
}

FoldResult
event_fold_clear(const State *state, Event *event, const Record *record, Image *image)
{
	if (!record)
		return FOLD_NOOP;
	image->flags &= ~RECORD_STATE;
	return FOLD_PUT;
}

FoldResult
event_fold_remove(const State *state, Event *event, const Record *record, Image *image)
{
	return record ? FOLD_REMOVE : FOLD_NOOP;
}

/* For an event that changes some attributes: the others as they are. */
void
image_keep_values(const State *state, const Record *record, Image *image)
{
	const Blob *blob = state_blob(state, record);

	for (int i = 0; i < state->schema->nattrs; i++)
		image->values[i] = blob_value(blob, state->schema->nattrs, i);
	image->same_values = false;
}

/* ------------------------------------------------------------------- SQL */

/* The columns of decode_event(). */
enum
{
	COL_VERSION,
	COL_OP,
	COL_ID,
	COL_CONTENT,
	COL_TITLE,
	COL_TAGS,
	COL_SOURCE,
	COL_SCOPE,
	COL_DATA,
	COL_PINNED,
	COL_CREATED,
	COLUMNS
};

static Datum
array_of_texts(Value list)
{
	ArrayBuildState *array = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	Value text;

	while (texts_next(&list, &text))
		accumArrayResult(array, PointerGetDatum(cstring_to_text_with_len(text.data, text.len)),
						 false, TEXTOID, CurrentMemoryContext);
	return makeArrayResult(array, CurrentMemoryContext);
}

/* decode_event(event) -> its members; null where one is not given, or not as it has to be */
Datum
netbus_decode_event(PG_FUNCTION_ARGS)
{
	static const struct
	{
		int column;
		const char *key;
	} texts[] = {{COL_OP, "op"},
				 {COL_CONTENT, "content"},
				 {COL_TITLE, "title"},
				 {COL_SOURCE, "source"},
				 {COL_SCOPE, "scope"}};
	static const Attribute any = {.max_bytes = PG_INT32_MAX};
	Jsonb *jsonb = PG_GETARG_JSONB_P(0);
	Event event = {.object = &jsonb->root};
	Datum values[COLUMNS];
	bool nulls[COLUMNS];
	bool given;
	JsonbValue member;
	Value value;
	int64 created;
	bool pinned;
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != COLUMNS)
		elog(ERROR, "return type must be a row type of %d columns", COLUMNS);
	memset(nulls, true, sizeof(nulls));
	if (!JB_ROOT_IS_OBJECT(jsonb))
		PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));

	for (int i = 0; i < lengthof(texts); i++)
		if (event_text(&event, texts[i].key, &any, true, &value))
		{
			values[texts[i].column] =
				PointerGetDatum(cstring_to_text_with_len(value.data, value.len));
			nulls[texts[i].column] = false;
		}
	if (event_get(&event, "v", &member) && member.type == jbvNumeric)
	{
		bool error = false;

		values[COL_VERSION] = Int32GetDatum(numeric_int4_opt_error(member.val.numeric, &error));
		nulls[COL_VERSION] = error;
	}
	nulls[COL_ID] = !get_id(&event);
	values[COL_ID] = Int64GetDatum(event.id);
	if (event_get(&event, "tags", &member) && event_texts(&event, "tags", &any, true, &value))
	{
		values[COL_TAGS] = array_of_texts(value);
		nulls[COL_TAGS] = false;
	}
	if (event_jsonb(&event, "data", &value) && value.data)
	{
		values[COL_DATA] = value_jsonb(value);
		nulls[COL_DATA] = false;
	}
	nulls[COL_PINNED] = !event_bool(&event, "pinned", &given, &pinned) || !given;
	if (!nulls[COL_PINNED])
		values[COL_PINNED] = BoolGetDatum(pinned);
	nulls[COL_CREATED] = !event_time(&event, "created", &given, &created) || !given;
	if (!nulls[COL_CREATED])
		values[COL_CREATED] = TimestampTzGetDatum(created);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
