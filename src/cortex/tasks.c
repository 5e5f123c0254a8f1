/*-------------------------------------------------------------------------
 *
 * tasks.c
 *		The kind "tasks": declaration, events, and the functions that write.
 *
 *	create		title, scope, data: a new record, pending
 *	rename		title
 *	complete	reopen	delete
 *
 * An event for an id that is not there does nothing, nor does create for one
 * that is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cortex/model.h"

#include "utils/builtins.h"

enum
{
	ATTR_DATA,
	ATTR_TITLE,
	ATTR_SCOPE,
};

#define MAX_SCOPE 1024
#define OVERHEAD  256

PG_FUNCTION_INFO_V1(netbus_task_create);
PG_FUNCTION_INFO_V1(netbus_task_rename);
PG_FUNCTION_INFO_V1(netbus_task_complete);
PG_FUNCTION_INFO_V1(netbus_task_reopen);
PG_FUNCTION_INFO_V1(netbus_task_delete);

static void
set_title(Image *image, Value title)
{
	image->values[ATTR_TITLE] = title;
	image->flags &= ~RECORD_ODD_CASE;
	if (text_has_odd_case(title.data, title.len))
		image->flags |= RECORD_ODD_CASE;
	image->same_values = false;
}

static FoldResult
fold_create(const State *state, Event *event, const Record *record, Image *image)
{
	const Attribute *attrs = state->schema->attrs;
	Value title;

	if (!event_text(event, "title", &attrs[ATTR_TITLE], true, &title) ||
		!event_text(event, "scope", &attrs[ATTR_SCOPE], false, &image->values[ATTR_SCOPE]) ||
		!event_jsonb(event, "data", &image->values[ATTR_DATA]))
		return FOLD_BAD;
	if (record)
		return FOLD_NOOP;
	set_title(image, title);
	return FOLD_PUT;
}

static FoldResult
fold_rename(const State *state, Event *event, const Record *record, Image *image)
{
	Value title;

	if (!event_text(event, "title", &state->schema->attrs[ATTR_TITLE], true, &title))
		return FOLD_BAD;
	if (!record)
		return FOLD_NOOP;
	image_keep_values(state, record, image);
	set_title(image, title);
	return FOLD_PUT;
}

static const EventKind events[] = {{"create", fold_create},
								   {"rename", fold_rename},
								   {"complete", event_fold_set},
								   {"reopen", event_fold_clear},
								   {"delete", event_fold_remove}};

const ModelKind tasks_kind = {
	.name = "tasks",
	.record = "task",
	.type = "task",
	.schema = {.nattrs = 3,
			   .attrs = {[ATTR_DATA] = {"data", ATTR_JSONB, false, MODEL_MAX_TEXT},
						 [ATTR_TITLE] = {"title", ATTR_TEXT, false, MODEL_MAX_TEXT},
						 [ATTR_SCOPE] = {"scope", ATTR_TEXT, true, MAX_SCOPE}},
			   .search = ATTR_TITLE},
	.nevents = lengthof(events),
	.events = events,
	.nfilters = 4,
	.filters = {{"status", FILTER_STATUS, 0},
				{"title_contains", FILTER_SEARCH, ATTR_TITLE},
				{"scope", FILTER_VALUE, ATTR_SCOPE},
				{"ids", FILTER_IDS, 0}},
	.states = {"pending", "completed"},
	.ncolumns = 7,
	.columns = {{COLUMN_ID, 0},
				{COLUMN_ATTR, ATTR_TITLE},
				{COLUMN_STATUS, 0},
				{COLUMN_ATTR, ATTR_SCOPE},
				{COLUMN_ATTR, ATTR_DATA},
				{COLUMN_CREATED, 0},
				{COLUMN_UPDATED, 0}},
};

/* ------------------------------------------------------------------- SQL */

/* task_create(title, scope, data, id, model) -> id */
Datum
netbus_task_create(PG_FUNCTION_ARGS)
{
	Model *model = model_open_to_write(fcinfo, &tasks_kind, 4);
	text *title = arg_sized_text(fcinfo, 0, "title", true, MODEL_MAX_TEXT);
	text *scope = arg_sized_text(fcinfo, 1, "scope", false, MAX_SCOPE);
	Jsonb *data = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	int64 id = PG_ARGISNULL(3) ? model_new_id() : PG_GETARG_INT64(3);
	JsonbParseState *parse;

	if (data)
		arg_check_size("data", VARSIZE(data) - VARHDRSZ, MODEL_MAX_TEXT);
	if (!PG_ARGISNULL(3) && record_visible(model, id))
		ereport(ERROR, (errcode(ERRCODE_UNIQUE_VIOLATION),
						errmsg("task %lld already exists", (long long) id),
						errhint("Leave out \"id\" to have one generated.")));
	event_check_memory(model, OVERHEAD + VARSIZE_ANY(title) + (scope ? VARSIZE_ANY(scope) : 0) +
								  (data ? VARSIZE(data) : 0));
	event_begin(&parse, "create", id);
	event_put_text(&parse, "title", VARDATA_ANY(title), VARSIZE_ANY_EXHDR(title));
	if (scope)
		event_put_text(&parse, "scope", VARDATA_ANY(scope), VARSIZE_ANY_EXHDR(scope));
	if (data)
		event_put_jsonb(&parse, "data", data);
	event_publish(model, &parse, false);
	PG_RETURN_INT64(id);
}

/* task_rename(id, title, model) -> it was there */
Datum
netbus_task_rename(PG_FUNCTION_ARGS)
{
	Model *model = model_open_to_update(fcinfo, &tasks_kind, 2);
	text *title = arg_sized_text(fcinfo, 1, "title", true, MODEL_MAX_TEXT);
	int64 id = arg_int8(fcinfo, 0, "id");
	JsonbParseState *parse;

	if (!record_visible(model, id))
		PG_RETURN_BOOL(false);
	event_check_memory(model, VARSIZE_ANY(title));
	event_begin(&parse, "rename", id);
	event_put_text(&parse, "title", VARDATA_ANY(title), VARSIZE_ANY_EXHDR(title));
	event_publish(model, &parse, false);
	PG_RETURN_BOOL(true);
}

Datum
netbus_task_complete(PG_FUNCTION_ARGS)
{
	return event_update(fcinfo, &tasks_kind, "complete", false);
}

Datum
netbus_task_reopen(PG_FUNCTION_ARGS)
{
	return event_update(fcinfo, &tasks_kind, "reopen", false);
}

Datum
netbus_task_delete(PG_FUNCTION_ARGS)
{
	return event_update(fcinfo, &tasks_kind, "delete", true);
}
