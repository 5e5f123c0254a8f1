/*-------------------------------------------------------------------------
 *
 * memories.c
 *		The kind "memories": declaration, events, and the functions that write.
 *
 *	store	content, tags, source, scope, data, pinned, created: a new record, or a
 *			replacement that keeps created, and pinned if that is not given
 *	retag	tags
 *	pin		unpin	delete
 *
 * An event for an id that is not there does nothing, but for store.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cortex/model.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

enum
{
	ATTR_DATA,
	ATTR_CONTENT,
	ATTR_SOURCE,
	ATTR_SCOPE,
	ATTR_TAGS,
};

#define MAX_SOURCE   1024
#define OVERHEAD     256 /* bytes that a record takes besides its values, about */
#define TAG_OVERHEAD 32

PG_FUNCTION_INFO_V1(netbus_memory_store);
PG_FUNCTION_INFO_V1(netbus_memories_store);
PG_FUNCTION_INFO_V1(netbus_memory_retag);
PG_FUNCTION_INFO_V1(netbus_memory_pin);
PG_FUNCTION_INFO_V1(netbus_memory_unpin);
PG_FUNCTION_INFO_V1(netbus_memory_delete);

static FoldResult
fold_store(const State *state, Event *event, const Record *record, Image *image)
{
	const Attribute *attrs = state->schema->attrs;
	bool pinned = record && (record->flags & RECORD_STATE);
	bool given;
	int64 created = image->created;

	if (!event_text(event, "content", &attrs[ATTR_CONTENT], true, &image->values[ATTR_CONTENT]) ||
		!event_text(event, "source", &attrs[ATTR_SOURCE], false, &image->values[ATTR_SOURCE]) ||
		!event_text(event, "scope", &attrs[ATTR_SCOPE], false, &image->values[ATTR_SCOPE]) ||
		!event_texts(event, "tags", &attrs[ATTR_TAGS], false, &image->values[ATTR_TAGS]) ||
		!event_jsonb(event, "data", &image->values[ATTR_DATA]) ||
		!event_bool(event, "pinned", &given, &pinned) ||
		!event_time(event, "created", &given, &created))
		return FOLD_BAD;
	if (!record)
		image->created = created;
	image->flags = pinned;
	if (text_has_odd_case(image->values[ATTR_CONTENT].data, image->values[ATTR_CONTENT].len))
		image->flags |= RECORD_ODD_CASE;
	image->same_values = false;
	return FOLD_PUT;
}

static FoldResult
fold_retag(const State *state, Event *event, const Record *record, Image *image)
{
	Value tags;

	if (!event_texts(event, "tags", &state->schema->attrs[ATTR_TAGS], true, &tags))
		return FOLD_BAD;
	if (!record)
		return FOLD_NOOP;
	image_keep_values(state, record, image);
	image->values[ATTR_TAGS] = tags;
	return FOLD_PUT;
}

static const EventKind events[] = {{"store", fold_store},
								   {"retag", fold_retag},
								   {"pin", event_fold_set},
								   {"unpin", event_fold_clear},
								   {"delete", event_fold_remove}};

const ModelKind memories_kind = {
	.name = "memories",
	.record = "memory",
	.type = "memory",
	.schema = {.nattrs = 5,
			   .attrs = {[ATTR_DATA] = {"data", ATTR_JSONB, false, MODEL_MAX_TEXT},
						 [ATTR_CONTENT] = {"content", ATTR_TEXT, false, MODEL_MAX_TEXT},
						 [ATTR_SOURCE] = {"source", ATTR_TEXT, true, MAX_SOURCE},
						 [ATTR_SCOPE] = {"scope", ATTR_TEXT, true, MAX_SOURCE},
						 [ATTR_TAGS] = {"tags", ATTR_TEXTS, true, MODEL_MAX_TAG}},
			   .search = ATTR_CONTENT},
	.nevents = lengthof(events),
	.events = events,
	.nfilters = 8,
	.filters = {{"tag", FILTER_VALUE, ATTR_TAGS},
				{"any_tags", FILTER_ANY, ATTR_TAGS},
				{"all_tags", FILTER_ALL, ATTR_TAGS},
				{"source", FILTER_VALUE, ATTR_SOURCE},
				{"scope", FILTER_VALUE, ATTR_SCOPE},
				{"pinned", FILTER_FLAG, 0},
				{"content_contains", FILTER_SEARCH, ATTR_CONTENT},
				{"ids", FILTER_IDS, 0}},
	.ncolumns = 9,
	.columns = {{COLUMN_ID, 0},
				{COLUMN_ATTR, ATTR_CONTENT},
				{COLUMN_ATTR, ATTR_TAGS},
				{COLUMN_ATTR, ATTR_SOURCE},
				{COLUMN_ATTR, ATTR_SCOPE},
				{COLUMN_ATTR, ATTR_DATA},
				{COLUMN_FLAG, 0},
				{COLUMN_CREATED, 0},
				{COLUMN_UPDATED, 0}},
};

/* ------------------------------------------------------------------- SQL */

/* A memory that is to be stored, from arguments or from JSON. */
typedef struct NewMemory
{
	bool has_id;
	int64 id;
	Value content;
	int ntags;
	Value *tags;
	Value source;
	Value scope;
	Jsonb *data;
	bool has_pinned;
	bool pinned;
	bool has_created;
	int64 created;
} NewMemory;

/* What tags take, with their places in posting lists. */
static uint64
tags_bytes(const Value *tags, int n)
{
	uint64 bytes = 0;

	for (int i = 0; i < n; i++)
		bytes += TAG_OVERHEAD + tags[i].len;
	return bytes;
}

static int64
store(Model *model, const NewMemory *memory)
{
	JsonbParseState *parse;
	int64 id = memory->has_id ? memory->id : model_new_id();

	event_check_memory(model, OVERHEAD + memory->content.len + memory->source.len +
								  memory->scope.len + tags_bytes(memory->tags, memory->ntags) +
								  (memory->data ? VARSIZE(memory->data) : 0));
	event_begin(&parse, "store", id);
	event_put_text(&parse, "content", memory->content.data, memory->content.len);
	if (memory->ntags > 0)
		event_put_texts(&parse, "tags", memory->tags, memory->ntags);
	if (memory->source.data)
		event_put_text(&parse, "source", memory->source.data, memory->source.len);
	if (memory->scope.data)
		event_put_text(&parse, "scope", memory->scope.data, memory->scope.len);
	if (memory->data)
		event_put_jsonb(&parse, "data", memory->data);
	if (memory->has_pinned)
		event_put_bool(&parse, "pinned", memory->pinned);
	if (memory->has_created)
		event_put_time(&parse, "created", memory->created);
	event_publish(model, &parse, false);
	return id;
}

static Value
text_value(text *value)
{
	Value result = {NULL, 0};

	if (value)
	{
		result.data = VARDATA_ANY(value);
		result.len = VARSIZE_ANY_EXHDR(value);
	}
	return result;
}

static void
check_created(int64 created)
{
	if (TIMESTAMP_NOT_FINITE(created))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"created\" must be finite")));
	/* An event has it in microseconds of an epoch 30 years before ours, and must not overflow. */
	if (created >= NB_EPOCH_TO_TIMESTAMPTZ(END_TIMESTAMP))
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("argument \"created\" is out of range")));
}

/* memory_store(content, tags, source, scope, data, id, pinned, created, model) -> id */
Datum
netbus_memory_store(PG_FUNCTION_ARGS)
{
	Model *model = model_open_to_write(fcinfo, &memories_kind, 8);
	NewMemory memory = {0};

	memory.content = text_value(arg_sized_text(fcinfo, 0, "content", true, MODEL_MAX_TEXT));
	memory.ntags = arg_tags(fcinfo, 1, "tags", &memory.tags);
	memory.source = text_value(arg_sized_text(fcinfo, 2, "source", false, MAX_SOURCE));
	memory.scope = text_value(arg_sized_text(fcinfo, 3, "scope", false, MAX_SOURCE));
	if (!PG_ARGISNULL(4))
	{
		memory.data = PG_GETARG_JSONB_P(4);
		arg_check_size("data", VARSIZE(memory.data) - VARHDRSZ, MODEL_MAX_TEXT);
	}
	memory.has_id = !PG_ARGISNULL(5);
	memory.id = memory.has_id ? PG_GETARG_INT64(5) : 0;
	memory.has_pinned = !PG_ARGISNULL(6);
	memory.pinned = memory.has_pinned && PG_GETARG_BOOL(6);
	memory.has_created = !PG_ARGISNULL(7);
	if (memory.has_created)
		check_created(memory.created = PG_GETARG_TIMESTAMPTZ(7));
	PG_RETURN_INT64(store(model, &memory));
}

/* ------------------------------------------------------------------ many */

static void
bad_member(const char *key, const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("member \"%s\" of a memory must be %s", key, what)));
}

static Value
string_member(const char *key, const JsonbValue *value, uint32 max_bytes)
{
	Value result;

	if (value->type != jbvString)
		bad_member(key, "a string");
	arg_check_size(key, value->val.string.len, max_bytes);
	result.data = value->val.string.val;
	result.len = value->val.string.len;
	return result;
}

static void
tags_member(NewMemory *memory, const JsonbValue *value)
{
	JsonbContainer *array;
	int count;

	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		bad_member("tags", "an array of strings");
	array = value->val.binary.data;
	count = JsonContainerSize(array);
	if (count > MODEL_MAX_TAGS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("member \"tags\" has %d elements", count),
						errdetail("At most %d are allowed.", MODEL_MAX_TAGS)));
	memory->tags = palloc(sizeof(Value) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(array, i);

		if (element->type != jbvString)
			bad_member("tags", "an array of strings");
		memory->tags[i] = string_member("tag", element, MODEL_MAX_TAG);
	}
	memory->ntags = tags_distinct(memory->tags, count);
}

/* One member of an object of memories_store(). */
static void
take_member(NewMemory *memory, const char *key, const JsonbValue *value)
{
	if (value->type == jbvNull)
		return;
	if (strcmp(key, "content") == 0)
		memory->content = string_member(key, value, MODEL_MAX_TEXT);
	else if (strcmp(key, "tags") == 0)
		tags_member(memory, value);
	else if (strcmp(key, "source") == 0)
		memory->source = string_member(key, value, MAX_SOURCE);
	else if (strcmp(key, "scope") == 0)
		memory->scope = string_member(key, value, MAX_SOURCE);
	else if (strcmp(key, "data") == 0)
	{
		memory->data = JsonbValueToJsonb(unconstify(JsonbValue *, value));
		arg_check_size("data", VARSIZE(memory->data) - VARHDRSZ, MODEL_MAX_TEXT);
	}
	else if (strcmp(key, "pinned") == 0)
	{
		if (value->type != jbvBool)
			bad_member(key, "a boolean");
		memory->has_pinned = true;
		memory->pinned = value->val.boolean;
	}
	else if (strcmp(key, "id") == 0)
	{
		memory->has_id = true;
		if (value->type == jbvNumeric)
		{
			Datum number = NumericGetDatum(value->val.numeric);

			memory->id = DatumGetInt64(DirectFunctionCall1(numeric_int8, number));
			if (!DatumGetBool(DirectFunctionCall2(numeric_eq, number,
												  NumericGetDatum(int64_to_numeric(memory->id)))))
				bad_member(key, "an integer");
		}
		else if (value->type != jbvString)
			bad_member(key, "an integer, or a string of digits");
		else
		{
			Value digits = string_member(key, value, 20);

			memory->id = pg_strtoint64(pnstrdup(digits.data, digits.len));
		}
	}
	else if (strcmp(key, "created") == 0)
	{
		Value string = string_member(key, value, 200);

		memory->has_created = true;
		memory->created = DatumGetTimestampTz(
			DirectFunctionCall3(timestamptz_in, CStringGetDatum(pnstrdup(string.data, string.len)),
								ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
		check_created(memory->created);
	}
	else
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a memory has no member \"%s\"", key),
			 errhint("Members are content, tags, source, scope, data, id, pinned and created.")));
}

/* Error context: which of them it was. */
static void
element_error_callback(void *arg)
{
	errcontext("element %d of memories", *(int *) arg + 1);
}

/* One element of the array of memories_store(). */
static NewMemory
take_memory(const JsonbValue *element)
{
	NewMemory memory = {0};
	JsonbIterator *members;
	JsonbValue member;

	if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a memory must be a JSON object")));
	members = JsonbIteratorInit(element->val.binary.data);
	(void) JsonbIteratorNext(&members, &member, true);
	while (JsonbIteratorNext(&members, &member, true) == WJB_KEY)
	{
		char *key = pnstrdup(member.val.string.val, member.val.string.len);

		(void) JsonbIteratorNext(&members, &member, true);
		take_member(&memory, key, &member);
	}
	if (!memory.content.data)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("a memory must have member \"content\"")));
	return memory;
}

/* memories_store(array, model) -> ids */
Datum
netbus_memories_store(PG_FUNCTION_ARGS)
{
	Model *model = model_open_to_write(fcinfo, &memories_kind, 1);
	MemoryContext context;
	Jsonb *array;
	Datum *ids;
	JsonbIterator *iterator;
	JsonbValue element;
	int n = 0;
	ErrorContextCallback where = {error_context_stack, element_error_callback, &n};

	if (PG_ARGISNULL(0))
		arg_null("memories");
	array = PG_GETARG_JSONB_P(0);
	if (!JB_ROOT_IS_ARRAY(array) || JB_ROOT_IS_SCALAR(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("memories must be a JSON array"),
				 errhint("Pass '[{\"content\": \"...\", \"tags\": [\"a\"]}, ...]'.")));
	ids = palloc(sizeof(Datum) * Max(JB_ROOT_COUNT(array), 1));
	context = AllocSetContextCreate(CurrentMemoryContext, "netbus memory", ALLOCSET_DEFAULT_SIZES);
	iterator = JsonbIteratorInit(&array->root);
	(void) JsonbIteratorNext(&iterator, &element, true);
	error_context_stack = &where;
	while (JsonbIteratorNext(&iterator, &element, true) == WJB_ELEM)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		NewMemory memory = take_memory(&element);

		ids[n] = Int64GetDatum(store(model, &memory));
		n++;
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		CHECK_FOR_INTERRUPTS();
	}
	error_context_stack = where.previous;
	MemoryContextDelete(context);
	PG_RETURN_ARRAYTYPE_P(construct_array(ids, n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* --------------------------------------------------------------- updates */

/* memory_retag(id, tags, model) -> it was there */
Datum
netbus_memory_retag(PG_FUNCTION_ARGS)
{
	int64 id = arg_int8(fcinfo, 0, "id");
	Model *model = model_open_to_update(fcinfo, &memories_kind, 2);
	Value *tags;
	int ntags = arg_tags(fcinfo, 1, "tags", &tags);
	JsonbParseState *parse;

	if (ntags < 0)
		arg_null("tags");
	if (!record_visible(model, id))
		PG_RETURN_BOOL(false);
	event_check_memory(model, tags_bytes(tags, ntags));
	event_begin(&parse, "retag", id);
	event_put_texts(&parse, "tags", tags, ntags);
	event_publish(model, &parse, false);
	PG_RETURN_BOOL(true);
}

Datum
netbus_memory_pin(PG_FUNCTION_ARGS)
{
	return event_update(fcinfo, &memories_kind, "pin", false);
}

Datum
netbus_memory_unpin(PG_FUNCTION_ARGS)
{
	return event_update(fcinfo, &memories_kind, "unpin", false);
}

Datum
netbus_memory_delete(PG_FUNCTION_ARGS)
{
	return event_update(fcinfo, &memories_kind, "delete", true);
}
