/*-------------------------------------------------------------------------
 *
 * query.c
 *		Queries of models from SQL.
 *
 * Arguments become a filter; the filter is run in steps, each under the
 * model's lock.  What matches is copied during a step, as a row (row.c); a record
 * is always copied whole.  Where only lower() of the database can tell whether a
 * text has a substring, it is asked afterwards, about a copy.
 *
 * Between two steps of a long query the fold goes on: such a query sees each record
 * as of some moment after the query began, not all of them as of the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cortex/model.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/supportnodes.h"
#include "optimizer/optimizer.h"
#include "utils/selfuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define STEP_BUDGET 2000
#define STEP_BYTES  (256 * 1024) /* copied in a step, about */

PG_FUNCTION_INFO_V1(netbus_memories);
PG_FUNCTION_INFO_V1(netbus_memory);
PG_FUNCTION_INFO_V1(netbus_memory_count);
PG_FUNCTION_INFO_V1(netbus_tasks);
PG_FUNCTION_INFO_V1(netbus_task);
PG_FUNCTION_INFO_V1(netbus_task_count);
PG_FUNCTION_INFO_V1(netbus_query_support);

/* Arguments behind those of the kind. */
enum
{
	ARG_CREATED_FROM,
	ARG_CREATED_TO,
	ARG_UPDATED_FROM,
	ARG_UPDATED_TO,
	ARG_COUNT_MODEL,
	ARG_ORDER = ARG_COUNT_MODEL, /* not of counts */
	ARG_MAX_ROWS,
	ARG_AFTER_AT,
	ARG_AFTER_ID,
	ARG_MODEL
};

static const struct
{
	const char *name;
	Order order;
	bool backward;
} orders[] = {{"created_desc", ORDER_CREATED, true}, {"created_asc", ORDER_CREATED, false},
			  {"updated_desc", ORDER_UPDATED, true}, {"updated_asc", ORDER_UPDATED, false},
			  {"id_desc", ORDER_ID, true},           {"id_asc", ORDER_ID, false}};

/* ---------------------------------------------------------------- filters */

static Value
text_value(text *value)
{
	Value result = {VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};

	return result;
}

static void
add_term(RecordFilter *filter, int attr, int n, Value *values)
{
	TermFilter *term = &filter->terms[filter->nterms++];

	term->attr = attr;
	term->n = n;
	term->values = values;
}

/* Make room for that many more. */
static void
reserve_terms(RecordFilter *filter, int more)
{
	if (!filter->terms)
		filter->terms = palloc(sizeof(TermFilter) * (MODEL_MAX_FILTERS + more));
	else if (more > 0)
		filter->terms = repalloc(filter->terms,
								 sizeof(TermFilter) * (filter->nterms + MODEL_MAX_FILTERS + more));
}

static void
add_search(RecordFilter *filter, text *needle)
{
	char *lowered =
		str_tolower(VARDATA_ANY(needle), VARSIZE_ANY_EXHDR(needle), DEFAULT_COLLATION_OID);
	Size len = strlen(lowered);

	if (len == 0)
		return;
	filter->search = true;
	filter->search_uncertain = !fold_case_is_ascii();
	for (Size i = 0; i < len; i++)
		filter->search_beyond_ascii |= IS_HIGHBIT_SET(lowered[i]);
	needle_init(&filter->needle, lowered, len);
}

#define ST_SORT          sort_ids
#define ST_ELEMENT_TYPE  int64
#define ST_COMPARE(a, b) (*(a) < *(b) ? -1 : *(a) > *(b))
#define ST_SCOPE         static
#define ST_DECLARE
#define ST_DEFINE
#include "lib/sort_template.h"

void
query_filter_ids(RecordFilter *filter, ArrayType *array)
{
	int n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	int kept = 0;

	if (array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"ids\" must not contain nulls")));
	filter->by_ids = true;
	filter->ids = palloc(sizeof(int64) * Max(n, 1));
	memcpy(filter->ids, ARR_DATA_PTR(array), sizeof(int64) * n);
	sort_ids(filter->ids, n);
	for (int i = 0; i < n; i++)
		if (kept == 0 || filter->ids[i] != filter->ids[kept - 1])
			filter->ids[kept++] = filter->ids[i];
	filter->nids = kept;
}

static void
set_status(RecordFilter *filter, const ModelKind *kind, const char *name)
{
	for (int i = 0; i < STATE_MAX_STATES; i++)
		if (strcmp(kind->states[i], name) == 0)
		{
			filter->state = i;
			return;
		}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid status: \"%s\"", name),
			 errhint("Valid values are \"%s\", \"%s\".", kind->states[0], kind->states[1])));
}

static void
add_filter(FunctionCallInfo fcinfo, int n, const ModelKind *kind, RecordFilter *filter)
{
	const FilterArg *arg = &kind->filters[n];
	Value *values;
	int count;

	switch (arg->what)
	{
		case FILTER_VALUE:
			values = palloc(sizeof(Value));
			*values = text_value(PG_GETARG_TEXT_PP(n));
			reserve_terms(filter, 0);
			add_term(filter, arg->attr, 1, values);
			break;
		case FILTER_ANY:
			count = arg_tags(fcinfo, n, arg->name, &values);
			reserve_terms(filter, 0);
			if (count > 0)
				add_term(filter, arg->attr, count, values);
			break;
		case FILTER_ALL:
			count = arg_tags(fcinfo, n, arg->name, &values);
			reserve_terms(filter, count);
			for (int i = 0; i < count; i++)
				add_term(filter, arg->attr, 1, &values[i]);
			break;
		case FILTER_FLAG:
			filter->state = PG_GETARG_BOOL(n);
			break;
		case FILTER_STATUS:
			set_status(filter, kind, text_to_cstring(PG_GETARG_TEXT_PP(n)));
			break;
		case FILTER_SEARCH:
			add_search(filter, PG_GETARG_TEXT_PP(n));
			break;
		case FILTER_IDS:
			query_filter_ids(filter, PG_GETARG_ARRAYTYPE_P(n));
			break;
	}
}

static void
set_order(RecordFilter *filter, const char *name)
{
	StringInfoData list;

	for (int i = 0; i < lengthof(orders); i++)
		if (strcmp(orders[i].name, name) == 0)
		{
			filter->order = orders[i].order;
			filter->backward = orders[i].backward;
			return;
		}
	initStringInfo(&list);
	for (int i = 0; i < lengthof(orders); i++)
		appendStringInfo(&list, "%s\"%s\"", i == 0 ? "" : ", ", orders[i].name);
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid order: \"%s\"", name),
					errhint("Valid values are %s.", list.data)));
}

/* The arguments by which rows are ordered and paged. */
static void
parse_paging(FunctionCallInfo fcinfo, int first, RecordFilter *filter)
{
	bool has_at = !PG_ARGISNULL(first + ARG_AFTER_AT);
	bool has_id = !PG_ARGISNULL(first + ARG_AFTER_ID);

	if (PG_ARGISNULL(first + ARG_ORDER))
		arg_null("order_by");
	set_order(filter, text_to_cstring(PG_GETARG_TEXT_PP(first + ARG_ORDER)));
	if (!PG_ARGISNULL(first + ARG_MAX_ROWS))
	{
		int32 max_rows = PG_GETARG_INT32(first + ARG_MAX_ROWS);

		if (max_rows < 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("argument \"max_rows\" must not be negative")));
		filter->max_rows = max_rows;
	}
	if (!has_at && !has_id)
		return;
	if (!has_id || (!has_at && filter->order != ORDER_ID))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("arguments \"after_at\" and \"after_id\" go together"),
				 filter->order == ORDER_ID
					 ? errhint("In this order \"after_id\" is enough.")
					 : errhint("Pass the %s time and the id of the last row of the page before.",
							   filter->order == ORDER_UPDATED ? "updated" : "created")));
	filter->after = true;
	filter->after_key.id = PG_GETARG_INT64(first + ARG_AFTER_ID);
	filter->after_key.at = filter->order == ORDER_ID ? filter->after_key.id
													 : PG_GETARG_TIMESTAMPTZ(first + ARG_AFTER_AT);
}

/* A bound in time: [from, to) in SQL, both inclusive in a filter. */
static void
set_bounds(FunctionCallInfo fcinfo, int n, int64 *from, int64 *to)
{
	*from = PG_ARGISNULL(n) ? PG_INT64_MIN : PG_GETARG_TIMESTAMPTZ(n);
	*to = PG_ARGISNULL(n + 1) ? PG_INT64_MAX : PG_GETARG_TIMESTAMPTZ(n + 1);
	if (!PG_ARGISNULL(n + 1) && *to > PG_INT64_MIN)
		(*to)--;
}

void
query_filter(FunctionCallInfo fcinfo, const ModelKind *kind, RecordFilter *filter)
{
	memset(filter, 0, sizeof(RecordFilter));
	filter->state = FILTER_ANY_STATE;
	filter->max_rows = PG_UINT64_MAX;
	for (int i = 0; i < kind->nfilters; i++)
		if (!PG_ARGISNULL(i))
			add_filter(fcinfo, i, kind, filter);
	set_bounds(fcinfo, kind->nfilters + ARG_CREATED_FROM, &filter->created_from,
			   &filter->created_to);
	set_bounds(fcinfo, kind->nfilters + ARG_UPDATED_FROM, &filter->updated_from,
			   &filter->updated_to);
}

/* ------------------------------------------------------------------- rows */

#define FIRST_ROWS 16 /* for which memory is asked at first */
#define FIRST_ROOM (64 * 1024)
#define KEEP_ROOM  (1024 * 1024)

/* For rows that nobody keeps.  Itself it is kept from one query to the next; queries do not nest. */
static QueryRows scratch;

typedef struct Execution
{
	Model *model;
	const RecordFilter *filter;
	QueryRows *rows;
	Size start;  /* of what this step finds */
	uint64 most; /* rows */
} Execution;

static QueryRow *
reserve_row(const Execution *query, Size bytes)
{
	QueryRows *rows = query->rows;

	if (rows->len + bytes > rows->room)
	{
		Size first = Min(bytes * Min(query->most, FIRST_ROWS), FIRST_ROOM);
		Size room = Max(Max(rows->room * 2, first), rows->len + bytes);

		rows->data = rows->data ? repalloc_huge(rows->data, room)
								: MemoryContextAllocHuge(rows->context, room);
		rows->room = room;
	}
	return (QueryRow *) (rows->data + rows->len);
}

/* Called under the model's lock. */
static bool
copy_record(void *arg, const Record *record, bool certain)
{
	Execution *query = arg;
	QueryRows *rows = query->rows;
	const Schema *schema = &query->model->kind->schema;
	const Blob *blob = state_blob(&query->model->state, record);
	Size most = sizeof(QueryRow);
	Value text = {NULL, 0};
	QueryRow *row;

	if (certain && !rows->type)
		return true; /* counted */
	if (rows->type)
		most += row_max_bytes(rows->type, blob);
	if (!certain)
		text = blob_value(blob, schema->nattrs, schema->search);
	row = reserve_row(query, MAXALIGN(most + text.len));
	row->certain = certain;
	row->len = rows->type ? row_write((char *) (row + 1), rows->type, record, blob) : 0;
	row->text_len = text.len;
	if (text.len > 0)
		memcpy((char *) (row + 1) + row->len, text.data, text.len);
	row->bytes = MAXALIGN(sizeof(QueryRow) + row->len + row->text_len);
	rows->len += row->bytes;
	return rows->len - query->start < STEP_BYTES;
}

static void *
resize(void *memory, size_t bytes)
{
	return memory ? repalloc_huge(memory, bytes)
				  : MemoryContextAllocHuge(CurrentMemoryContext, bytes);
}

/* Does lower() of the database say that what was copied matches? */
static bool
confirm(const Execution *query, const QueryRow *row)
{
	const Needle *needle = &query->filter->needle;

	return text_contains((const char *) (row + 1) + row->len, row->text_len, needle->text,
						 needle->len);
}

/* Go through what a step has found.  Returns how many rows it is, at most max_rows. */
static uint64
take_rows(Execution *query, uint64 max_rows)
{
	QueryRows *rows = query->rows;
	Size end = rows->len;
	uint64 n = 0;

	rows->len = query->start;
	for (Size at = query->start; at < end && n < max_rows;)
	{
		QueryRow *row = (QueryRow *) (rows->data + at);
		Size bytes = row->bytes;

		at += bytes;
		if (!row->certain && !confirm(query, row))
			continue;
		n++;
		if (!rows->type)
			continue;
		rows->full |= rows->len + bytes > rows->limit;
		if (rows->full)
		{
			HeapTupleData tuple = {.t_len = row->len, .t_data = (HeapTupleHeader) (row + 1)};

			rows->put(rows, &tuple);
			continue;
		}
		if ((char *) row != rows->data + rows->len)
			memmove(rows->data + rows->len, row, bytes);
		rows->len += bytes;
	}
	return n;
}

/* Nothing but what is to be put(), or counted. */
static QueryRows *
use_scratch(const RowType *type)
{
	scratch.type = type;
	scratch.limit = 0;
	scratch.context = TopMemoryContext;
	scratch.len = 0;
	scratch.full = true;
	if (scratch.room > KEEP_ROOM)
	{
		pfree(scratch.data);
		scratch.data = NULL;
		scratch.room = 0;
	}
	return &scratch;
}

/* Run a query.  Returns how many matches there are. */
static uint64
run_query(Model *model, const RecordFilter *filter, QueryRows *rows)
{
	Execution query = {.model = model, .filter = filter, .rows = rows, .most = filter->max_rows};
	Select select;
	uint64 n = 0;

	select_init(&select, &model->state, filter);
	select.emit = rows->type || filter->search ? copy_record : NULL;
	select.arg = &query;
	select.resize = resize;
	while (!select.done)
	{
		query.start = rows->len;
		model_lock(model);
		select_step(&select, STEP_BUDGET);
		model_unlock(model);
		if (select.unsorted)
			select_sort(&select);
		n += take_rows(&query, filter->max_rows - n);
		if (n >= filter->max_rows)
			break;
		CHECK_FOR_INTERRUPTS();
	}
	if (select.matches)
		pfree(select.matches);
	return rows->type ? n : n + select.rows;
}

int
query_nargs(const ModelKind *kind)
{
	return kind->nfilters + ARG_MODEL + 1;
}

static void
call_many(FunctionCallInfo fcinfo, const ModelKind *kind, QueryRows *rows)
{
	RecordFilter filter;
	Model *model;

	query_filter(fcinfo, kind, &filter);
	parse_paging(fcinfo, kind->nfilters, &filter);
	model = model_open(kind, model_arg(fcinfo, kind->nfilters + ARG_MODEL), ACL_SELECT);
	if (model && model_await(model))
		(void) run_query(model, &filter, rows);
}

static void
call_one(FunctionCallInfo fcinfo, const ModelKind *kind, QueryRows *rows)
{
	Execution query = {.rows = rows, .most = 1};
	ArenaRef ref;

	if (PG_ARGISNULL(0))
		arg_null("id");
	query.model = model_open(kind, model_arg(fcinfo, 1), ACL_SELECT);
	if (!query.model || !model_await(query.model))
		return;
	model_lock(query.model);
	ref = state_find(&query.model->state, PG_GETARG_INT64(0));
	if (ref)
		(void) copy_record(&query, state_record(&query.model->state, ref), true);
	model_unlock(query.model);
	(void) take_rows(&query, 1);
}

void
query_call(FunctionCallInfo fcinfo, const ModelKind *kind, bool one, QueryRows *rows)
{
	if (one)
		call_one(fcinfo, kind, rows);
	else
		call_many(fcinfo, kind, rows);
}

/* Where rows go if the functions are called as such, which in FROM they hardly are: see scan.c. */
static Tuplestorestate *result;

static void
put_result(QueryRows *rows, const HeapTuple row)
{
	tuplestore_puttuple(result, row);
}

static Datum
query_rows(FunctionCallInfo fcinfo, const ModelKind *kind, bool one)
{
	RowType type;
	QueryRows *rows;

	InitMaterializedSRF(fcinfo, 0);
	row_type_init(&type, kind, ALL_COLUMNS);
	rows = use_scratch(&type);
	rows->put = put_result;
	result = ((ReturnSetInfo *) fcinfo->resultinfo)->setResult;
	query_call(fcinfo, kind, one, rows);
	return (Datum) 0;
}

static Datum
query_count(FunctionCallInfo fcinfo, const ModelKind *kind)
{
	RecordFilter filter;
	Model *model;
	uint64 count;
	bool known;

	query_filter(fcinfo, kind, &filter);
	model = model_open(kind, model_arg(fcinfo, kind->nfilters + ARG_COUNT_MODEL), ACL_SELECT);
	if (!model || !model_await(model))
		PG_RETURN_INT64(0);
	model_lock(model);
	known = select_count_fast(&model->state, &filter, &count);
	model_unlock(model);
	PG_RETURN_INT64(known ? count : run_query(model, &filter, use_scratch(NULL)));
}

Datum
netbus_memories(PG_FUNCTION_ARGS)
{
	return query_rows(fcinfo, &memories_kind, false);
}

Datum
netbus_memory(PG_FUNCTION_ARGS)
{
	return query_rows(fcinfo, &memories_kind, true);
}

Datum
netbus_memory_count(PG_FUNCTION_ARGS)
{
	return query_count(fcinfo, &memories_kind);
}

Datum
netbus_tasks(PG_FUNCTION_ARGS)
{
	return query_rows(fcinfo, &tasks_kind, false);
}

Datum
netbus_task(PG_FUNCTION_ARGS)
{
	return query_rows(fcinfo, &tasks_kind, true);
}

Datum
netbus_task_count(PG_FUNCTION_ARGS)
{
	return query_count(fcinfo, &tasks_kind);
}

/* --------------------------------------------------------------- planning */

#define DEFAULT_ROWS  1000 /* of a model that is not known when the query is planned */
#define DEFAULT_TERM  0.01 /* share of the records that have a value, or a substring */
#define DEFAULT_STATE 0.5
#define DEFAULT_RANGE 0.5 /* for each end of a time range */

/* The argument of a call, if it is a constant and not null. */
static Const *
const_arg(List *args, int n)
{
	Node *node = n < list_length(args) ? list_nth(args, n) : NULL;

	return node && IsA(node, Const) && !((Const *) node)->constisnull ? (Const *) node : NULL;
}

static bool
given_arg(List *args, int n)
{
	Node *node = list_nth(args, n);

	return !IsA(node, Const) || !((Const *) node)->constisnull;
}

/*
 * How many rows will there be?  At most max_rows, and as many as there are ids; else of
 * the records that the model has now a share for each filter.  That is enough for the planner
 * to begin a join with these functions where they return little.
 */
static double
estimate_rows(PlannerInfo *root, const ModelKind *kind, List *args)
{
	Const *model = const_arg(args, kind->nfilters + ARG_MODEL);
	double rows = DEFAULT_ROWS;
	double ids = -1;
	Const *limit;

	if (model)
	{
		double records = model_records(kind, TextDatumGetCString(model->constvalue));

		rows = records >= 0 ? records : rows;
	}
	for (int i = 0; i < kind->nfilters + ARG_COUNT_MODEL; i++)
	{
		if (!given_arg(args, i))
			continue;
		if (i >= kind->nfilters)
			rows *= DEFAULT_RANGE;
		else if (kind->filters[i].what == FILTER_IDS)
			ids = nb_estimate_array_length(root, list_nth(args, i));
		else
			rows *= kind->filters[i].what == FILTER_FLAG || kind->filters[i].what == FILTER_STATUS
						? DEFAULT_STATE
						: DEFAULT_TERM;
	}
	if (ids >= 0)
		rows = Min(rows, ids);
	limit = const_arg(args, kind->nfilters + ARG_MAX_ROWS);
	if (limit)
		rows = Min(rows, DatumGetInt32(limit->constvalue));
	return Max(rows, 1);
}

Datum
netbus_query_support(PG_FUNCTION_ARGS)
{
	Node *request = (Node *) PG_GETARG_POINTER(0);
	const ModelKind *kind;
	List *args;
	char *name;

	if (IsA(request, SupportRequestRows))
	{
		SupportRequestRows *rows = (SupportRequestRows *) request;

		if (!rows->node || !IsA(rows->node, FuncExpr))
			PG_RETURN_POINTER(NULL);
		args = ((FuncExpr *) rows->node)->args;
		name = get_func_name(rows->funcid);
		kind = name && strcmp(name, tasks_kind.name) == 0 ? &tasks_kind : &memories_kind;
		if (list_length(args) != query_nargs(kind))
			PG_RETURN_POINTER(NULL);
		rows->rows = estimate_rows(rows->root, kind, args);
		PG_RETURN_POINTER(request);
	}
	PG_RETURN_POINTER(NULL);
}
