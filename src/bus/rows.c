/*-------------------------------------------------------------------------
 *
 * rows.c
 *		Events as rows, and the arguments of functions that return them.
 *
 * All functions that return events hand out a row per call, so that in a target
 * list they stream.  A row is formed by filling in a copy of a header that is
 * made once: heap_form_tuple() would cost as much as all the rest of reading.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/rows.h"

#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#define MAX_ROW_HEADERS 16 /* of functions; more take turns */
#define ROW_COLUMNS     5
#define ROW_MAX_COLUMNS 8 /* what one byte of null bitmap takes */
#define ROW_KEY         3

/* A header for rows of which some of the leading columns are null. */
static void
make_header(TupleDesc desc, int first_null, int last_null, char *header)
{
	Datum values[ROW_MAX_COLUMNS] = {0};
	bool nulls[ROW_MAX_COLUMNS] = {false};
	text *empty = cstring_to_text("");
	HeapTuple tuple;

	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attlen == -1)
			values[i] = PointerGetDatum(empty);
		nulls[i] = i >= first_null && i <= last_null;
	}
	tuple = heap_form_tuple(desc, values, nulls);
	memset(header, 0, ROW_HOFF);
	memcpy(header, tuple->t_data, Min(ROW_HOFF, tuple->t_data->t_hoff));
	((HeapTupleHeader) header)->t_hoff = ROW_HOFF;
	heap_freetuple(tuple);
	pfree(empty);
}

const RowHeaders *
row_headers(FunctionCallInfo fcinfo)
{
	static RowHeaders cache[MAX_ROW_HEADERS];
	static int next = 0;
	RowHeaders *headers;
	TupleDesc desc;

	for (int i = 0; i < MAX_ROW_HEADERS; i++)
		if (cache[i].function == fcinfo->flinfo->fn_oid)
			return &cache[i];

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
		desc->natts < ROW_COLUMNS || desc->natts > ROW_MAX_COLUMNS)
		elog(ERROR, "return type must be a row type of %d to %d columns", ROW_COLUMNS,
			 ROW_MAX_COLUMNS);
	desc = BlessTupleDesc(desc);
	headers = &cache[next++ % MAX_ROW_HEADERS];
	headers->function = InvalidOid;
	make_header(desc, ROW_COLUMNS, 0, headers->keyed);
	make_header(desc, ROW_KEY, ROW_KEY, headers->keyless);
	make_header(desc, 0, ROW_COLUMNS - 1, headers->bare);
	headers->function = fcinfo->flinfo->fn_oid;
	return headers;
}

#define HINT_RAW "Read bytes with the _raw form of the function, such as netbus.read_raw()."

/* Which event it was whose bytes are no JSON. */
typedef struct EventName
{
	const char *log;
	uint64 seq;
} EventName;

static void
json_error_callback(void *arg)
{
	EventName *name = arg;

	errcontext("event %llu of log \"%s\"", (unsigned long long) name->seq, name->log);
	errhint(HINT_RAW);
}

struct varlena *
row_convert_payload(const ReaderEvent *event, bool raw, const char *log)
{
	EventName name = {log, event->seq};
	ErrorContextCallback where;
	struct varlena *value;
	char *text;

	if (raw)
	{
		/* The text of a jsonb, as bytes. */
		value = palloc(VARHDRSZ + event->event.payload_len);
		SET_VARSIZE(value, VARHDRSZ + event->event.payload_len);
		memcpy(VARDATA(value), event->event.payload, event->event.payload_len);
		text = JsonbToCString(NULL, (JsonbContainer *) VARDATA(value), event->event.payload_len);
		return (struct varlena *) cstring_to_text(text);
	}

	/* Bytes that hold JSON. */
	text = pnstrdup(event->event.payload, event->event.payload_len);
	if (strlen(text) != event->event.payload_len ||
		!pg_verifymbstr(text, event->event.payload_len, true))
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("event %llu of log \"%s\" is not text",
							   (unsigned long long) event->seq, log),
						errhint(HINT_RAW)));
	where.callback = json_error_callback;
	where.arg = &name;
	where.previous = error_context_stack;
	error_context_stack = &where;
	value = (struct varlena *) DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	error_context_stack = where.previous;
	return value;
}

Datum
row_form_bare(const RowHeaders *headers, const RowTail *tail)
{
	HeapTupleHeader row = palloc(ROW_HOFF + tail->len[0]);

	memcpy(row, headers->bare, ROW_HOFF);
	HeapTupleHeaderSetDatumLength(row, ROW_HOFF + tail->len[0]);
	memcpy((char *) row + ROW_HOFF, tail->bytes[0], tail->len[0]);
	return PointerGetDatum(row);
}

uint64
arg_max_events(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		arg_null("max_events");
	if (PG_GETARG_INT32(n) < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("max_events must not be negative")));
	return PG_GETARG_INT32(n);
}

Filter *
arg_filter(FunctionCallInfo fcinfo, int n)
{
	/* Before ALTER EXTENSION netbus UPDATE from 0.2.0 there is no such argument. */
	if (n >= PG_NARGS() || PG_ARGISNULL(n))
		return NULL;
	return filter_compile(PG_GETARG_JSONB_P(n));
}

void
check_shard(NbLog *log, int shard)
{
	if (shard < 0 || shard >= log->options.shards)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("log \"%s\" has no shard %d", log->name, shard),
						log->options.shards == 1
							? errhint("Its only shard is 0.")
							: errhint("Its shards are 0 to %d.", log->options.shards - 1)));
}
