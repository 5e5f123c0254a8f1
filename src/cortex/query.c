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
add_term(Filter *filter, int attr, int n, Value *values)
{
	TermFilter *term = &filter->terms[filter->nterms++];

	term->attr = attr;
	term->n = n;
	term->values = values;
}

/* Make room for that many more. */
static void
reserve_terms(Filter *filter, int more)
{
	if (!filter->terms)
		filter->terms = palloc(sizeof(TermFilter) * (MODEL_MAX_FILTERS + more));
	else if (more > 0)
		filter->terms = repalloc(filter->terms,
								 sizeof(TermFilter) * (filter->nterms + MODEL_MAX_FILTERS + more));
}

static void
add_search(Filter *filter, text *needle)
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

static int
compare_int64(const void *a, const void *b)
{
	int64 x = *(const int64 *) a;
	int64 y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

void
query_filter_ids(Filter *filter, ArrayType *array)
{
	int n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	int kept = 0;

	if (array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"ids\" must not contain nulls")));
	filter->by_ids = true;
	filter->ids = palloc(sizeof(int64) * Max(n, 1));
	memcpy(filter->ids, ARR_DATA_PTR(array), sizeof(int64) * n);
	qsort(filter->ids, n, sizeof(int64), compare_int64);
	for (int i = 0; i < n; i++)
		if (kept == 0 || filter->ids[i] != filter->ids[kept - 1])
			filter->ids[kept++] = filter->ids[i];
	filter->nids = kept;
}

static void
set_status(Filter *filter, const ModelKind *kind, const char *name)
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
add_filter(FunctionCallInfo fcinfo, int n, const ModelKind *kind, Filter *filter)
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
set_order(Filter *filter, const char *name)
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
parse_paging(FunctionCallInfo fcinfo, int first, Filter *filter)
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
query_filter(FunctionCallInfo fcinfo, const ModelKind *kind, Filter *filter)
{
	memset(filter, 0, sizeof(Filter));
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

/*
 * What a step has found: its row, if rows are wanted, and the text that is
 * searched, if that has to be looked at again.
 */
typedef struct Copy
{
	uint32 bytes; /* of all, a multiple of 8 */
	uint32 row_len;
	uint32 text_len; /* behind the row */
	bool certain;
} Copy;

/* Copies back to back.  Kept from one query to the next; queries do not nest. */
static char *copies = NULL;
static Size copies_room = 0;

#define FIRST_COPIES (32 * 1024)
#define KEEP_COPIES  (1024 * 1024)

typedef struct Execution
{
	Model *model;
	const Filter *filter;
	const RowType *type; /* NULL: no rows */
	uint32 columns;
	Size len; /* of the copies */
} Execution;

static Copy *
reserve_copy(const Execution *query, Size bytes)
{
	if (query->len + bytes > copies_room)
	{
		Size room = Max(Max(copies_room * 2, FIRST_COPIES), query->len + bytes);

		copies =
			copies ? repalloc_huge(copies, room) : MemoryContextAllocHuge(TopMemoryContext, room);
		copies_room = room;
	}
	return (Copy *) (copies + query->len);
}

/* Called under the model's lock. */
static bool
copy_record(void *arg, const Record *record, bool certain)
{
	Execution *query = arg;
	const ModelKind *kind = query->model->kind;
	const Blob *blob = state_blob(&query->model->state, record);
	Size most = sizeof(Copy);
	Value text = {NULL, 0};
	Copy *copy;

	if (certain && !query->type)
		return true; /* counted */
	if (query->type)
		most += row_max_bytes(kind, query->type, blob);
	if (!certain)
		text = blob_value(blob, kind->schema.nattrs, kind->schema.search);
	copy = reserve_copy(query, TYPEALIGN(8, most + text.len));
	copy->certain = certain;
	copy->row_len = query->type ? row_write((char *) (copy + 1), kind, query->type, query->columns,
											record, blob)
								: 0;
	copy->text_len = text.len;
	if (text.len > 0)
		memcpy((char *) (copy + 1) + copy->row_len, text.data, text.len);
	copy->bytes = TYPEALIGN(8, sizeof(Copy) + copy->row_len + copy->text_len);
	query->len += copy->bytes;
	return query->len < STEP_BYTES;
}

static void *
resize(void *memory, size_t bytes)
{
	return memory ? repalloc_huge(memory, bytes)
				  : MemoryContextAllocHuge(CurrentMemoryContext, bytes);
}

/* Does lower() of the database say that what was copied matches? */
static bool
confirm(const Execution *query, const Copy *copy)
{
	const Needle *needle = &query->filter->needle;

	return text_contains((const char *) (copy + 1) + copy->row_len, copy->text_len, needle->text,
						 needle->len);
}

static inline void
put_row(RowSink *sink, Copy *copy)
{
	sink->put(sink, (HeapTupleHeader) (copy + 1), copy->row_len);
}

/*
 * Run a query: put the rows, with those columns, into sink, or only count them if that is
 * NULL.  Returns how many there are.
 */
static uint64
run_query(Model *model, const Filter *filter, const RowType *type, uint32 columns, RowSink *sink)
{
	Execution query = {.model = model, .filter = filter, .type = type, .columns = columns};
	Select select;
	uint64 rows = 0;

	select_init(&select, &model->state, filter);
	select.emit = sink || filter->search ? copy_record : NULL;
	select.arg = &query;
	select.resize = resize;
	while (!select.done)
	{
		query.len = 0;
		model_lock(model);
		select_step(&select, STEP_BUDGET);
		model_unlock(model);
		if (select.unsorted)
			select_sort(&select);
		for (Size at = 0; at < query.len;)
		{
			Copy *copy = (Copy *) (copies + at);

			at += copy->bytes;
			if (!copy->certain && !confirm(&query, copy))
				continue;
			if (rows == filter->max_rows)
				break;
			rows++;
			if (sink)
				put_row(sink, copy);
		}
		if (rows >= filter->max_rows)
			break;
		CHECK_FOR_INTERRUPTS();
	}
	if (select.matches)
		pfree(select.matches);
	if (copies_room > KEEP_COPIES)
	{
		pfree(copies);
		copies = NULL;
		copies_room = 0;
	}
	return sink ? rows : rows + select.rows;
}

int
query_nargs(const ModelKind *kind)
{
	return kind->nfilters + ARG_MODEL + 1;
}

static void
call_many(FunctionCallInfo fcinfo, const ModelKind *kind, uint32 columns, RowSink *sink)
{
	Filter filter;
	Model *model;

	query_filter(fcinfo, kind, &filter);
	parse_paging(fcinfo, kind->nfilters, &filter);
	model = model_open(kind, model_arg(fcinfo, kind->nfilters + ARG_MODEL), ACL_SELECT);
	if (model && model_await(model))
		(void) run_query(model, &filter, row_type(fcinfo->flinfo->fn_oid, kind), columns, sink);
}

static void
call_one(FunctionCallInfo fcinfo, const ModelKind *kind, uint32 columns, RowSink *sink)
{
	Execution query = {.columns = columns};
	ArenaRef ref;

	if (PG_ARGISNULL(0))
		arg_null("id");
	query.model = model_open(kind, model_arg(fcinfo, 1), ACL_SELECT);
	if (!query.model || !model_await(query.model))
		return;
	query.type = row_type(fcinfo->flinfo->fn_oid, kind);
	model_lock(query.model);
	ref = state_find(&query.model->state, PG_GETARG_INT64(0));
	if (ref)
		(void) copy_record(&query, state_record(&query.model->state, ref), true);
	model_unlock(query.model);
	if (ref)
		put_row(sink, (Copy *) copies);
}

void
query_call(FunctionCallInfo fcinfo, const ModelKind *kind, bool one, uint32 columns, RowSink *sink)
{
	if (one)
		call_one(fcinfo, kind, columns, sink);
	else
		call_many(fcinfo, kind, columns, sink);
}

/* Where rows go if the functions are called as such, which in FROM they mostly are not: see scan.c. */
typedef struct StoreSink
{
	RowSink sink;
	Tuplestorestate *store;
} StoreSink;

static void
store_row(RowSink *sink, HeapTupleHeader row, uint32 len)
{
	HeapTupleData tuple = {.t_len = len, .t_data = row};

	tuplestore_puttuple(((StoreSink *) sink)->store, &tuple);
}

static Datum
query_rows(FunctionCallInfo fcinfo, const ModelKind *kind, bool one)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	StoreSink sink = {.sink = {store_row}};

	InitMaterializedSRF(fcinfo, 0);
	sink.store = rsinfo->setResult;
	query_call(fcinfo, kind, one, ALL_COLUMNS, &sink.sink);
	return (Datum) 0;
}

static Datum
query_count(FunctionCallInfo fcinfo, const ModelKind *kind)
{
	Filter filter;
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
	PG_RETURN_INT64(known ? count : run_query(model, &filter, NULL, 0, NULL));
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
