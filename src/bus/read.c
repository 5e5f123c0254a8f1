/*-------------------------------------------------------------------------
 *
 * read.c
 *		read, tail, get and head in SQL.
 *
 * Reads are not snapshot reads: they see every event that is committed, also
 * in REPEATABLE READ.  All row-returning functions hand out a row per call, so
 * that in a target list they stream; rows are formed by filling in a copy of
 * a header made once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/reader.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#define MAX_WAIT_US INT64CONST(60000000) /* a waiting call pins xmin */

PG_FUNCTION_INFO_V1(netbus_read);
PG_FUNCTION_INFO_V1(netbus_read_raw);
PG_FUNCTION_INFO_V1(netbus_tail);
PG_FUNCTION_INFO_V1(netbus_tail_raw);
PG_FUNCTION_INFO_V1(netbus_get);
PG_FUNCTION_INFO_V1(netbus_get_raw);
PG_FUNCTION_INFO_V1(netbus_head);

/*
 * Headers of result rows with and without a key, as heap_form_tuple() makes
 * them.  A function's row type never changes, and stays registered in a process
 * that has blessed it: so they are made once for each function.
 */
typedef struct RowHeaders
{
	Oid function;
	char keyed[MAXALIGN(SizeofHeapTupleHeader + 1)];
	char keyless[MAXALIGN(SizeofHeapTupleHeader + 1)];
} RowHeaders;

/* State of a row-returning call. */
typedef struct ReadState
{
	Reader reader;
	uint64 left;    /* rows still wanted */
	bool raw;       /* payload as bytea */
	bool warn_lost; /* tell of events that were gone */
	RowHeaders headers;
} ReadState;

#define MAX_ROW_HEADERS 8 /* of functions; more take turns */

/* Fixed part of a row: shard, seq, ts.  Alignment is that of the row type. */
typedef struct RowPrefix
{
	int32 shard;
	int64 seq;
	int64 ts;
} RowPrefix;

#define ROW_HOFF    MAXALIGN(SizeofHeapTupleHeader + 1)
#define ROW_COLUMNS 5

static char *
required_name(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"log\" must not be null")));
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

static int64
required_int8(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" must not be null", name)));
	return PG_GETARG_INT64(n);
}

/* The shard to read: as given, or the key's, or the only one. */
static int
choose_shard(FunctionCallInfo fcinfo, NbLog *log, int shard_arg, bool takes_key, const char *key,
			 uint32 key_len)
{
	if (!PG_ARGISNULL(shard_arg))
	{
		int shard = PG_GETARG_INT32(shard_arg);

		if (shard < 0 || shard >= log->options.shards)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("log \"%s\" has no shard %d", log->name, shard),
							log->options.shards == 1
								? errhint("Its only shard is 0.")
								: errhint("Its shards are 0 to %d.", log->options.shards - 1)));
		return shard;
	}
	if (log->options.shards == 1)
		return 0;
	if (key)
		return nb_log_shard_of_key(log, key, key_len);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("log \"%s\" has %d shards: say which to read", log->name, log->options.shards),
			 takes_key ? errhint("Pass shard => 0 to %d, or key => to read the events of a key.",
								 log->options.shards - 1)
					   : errhint("Pass shard => 0 to %d.", log->options.shards - 1)));
}

/* A header for rows with or without a key, for form_row() to copy. */
static void
make_header(TupleDesc desc, bool keyed, char *header)
{
	Datum values[ROW_COLUMNS] = {0};
	bool nulls[ROW_COLUMNS] = {false, false, false, !keyed, false};
	text *empty = cstring_to_text("");
	HeapTuple tuple;

	values[3] = values[4] = PointerGetDatum(empty);
	tuple = heap_form_tuple(desc, values, nulls);
	memset(header, 0, ROW_HOFF);
	memcpy(header, tuple->t_data, Min(ROW_HOFF, tuple->t_data->t_hoff));
	((HeapTupleHeader) header)->t_hoff = ROW_HOFF;
	heap_freetuple(tuple);
	pfree(empty);
}

static const RowHeaders *
row_headers(FunctionCallInfo fcinfo)
{
	static RowHeaders cache[MAX_ROW_HEADERS];
	static int next = 0;
	RowHeaders *headers;
	TupleDesc desc;

	for (int i = 0; i < MAX_ROW_HEADERS; i++)
		if (cache[i].function == fcinfo->flinfo->fn_oid)
			return &cache[i];

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);
	headers = &cache[next++ % MAX_ROW_HEADERS];
	headers->function = InvalidOid;
	make_header(desc, true, headers->keyed);
	make_header(desc, false, headers->keyless);
	headers->function = fcinfo->flinfo->fn_oid;
	return headers;
}

#define HINT_RAW "Use netbus.read_raw(), netbus.tail_raw() or netbus.get_raw() to read bytes."

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

/* Payload in the form that the caller wants, where it is not the stored one. */
static struct varlena *
convert_payload(const ReaderEvent *event, bool raw, const char *log)
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

/* The row of an event, as a composite datum. */
static Datum
form_row(ReadState *state, const ReaderEvent *event)
{
	const FrameEvent *e = &event->event;
	bool jsonb = (event->flags & FRAME_JSONB) != 0;
	struct varlena *converted = NULL;
	const char *payload = e->payload;
	Size payload_len = e->payload_len;
	Size off = ROW_HOFF + sizeof(RowPrefix);
	Size payload_off;
	HeapTupleHeader row;
	RowPrefix *prefix;

	if (unlikely(jsonb == state->raw))
	{
		converted = convert_payload(event, state->raw, state->reader.log->name);
		payload = VARDATA(converted);
		payload_len = VARSIZE(converted) - VARHDRSZ;
	}

	payload_off = e->key ? INTALIGN(off + VARHDRSZ + e->key_len) : off;
	row = palloc(payload_off + VARHDRSZ + payload_len);
	memcpy(row, e->key ? state->headers.keyed : state->headers.keyless, ROW_HOFF);
	HeapTupleHeaderSetDatumLength(row, payload_off + VARHDRSZ + payload_len);

	prefix = (RowPrefix *) ((char *) row + ROW_HOFF);
	prefix->shard = state->reader.shard;
	memset((char *) prefix + sizeof(int32), 0, offsetof(RowPrefix, seq) - sizeof(int32));
	prefix->seq = event->seq;
	prefix->ts = NB_EPOCH_TO_TIMESTAMPTZ(event->ts);
	if (e->key)
	{
		SET_VARSIZE((char *) row + off, VARHDRSZ + e->key_len);
		memcpy((char *) row + off + VARHDRSZ, e->key, e->key_len);
		off += VARHDRSZ + e->key_len;
		memset((char *) row + off, 0, payload_off - off);
	}
	SET_VARSIZE((char *) row + payload_off, VARHDRSZ + payload_len);
	memcpy((char *) row + payload_off + VARHDRSZ, payload, payload_len);
	if (converted)
		pfree(converted);
	return PointerGetDatum(row);
}

/* End of a result set, also of one that the executor leaves early. */
static void
close_reader_callback(Datum arg)
{
	reader_close(&((ReadState *) DatumGetPointer(arg))->reader);
}

/* First call of a row-returning function: open the log and find the place. */
static ReadState *
begin_read(FunctionCallInfo fcinfo, bool raw, int shard_arg, int key_arg, uint64 after_seq,
		   uint64 limit)
{
	FuncCallContext *funcctx = SRF_FIRSTCALL_INIT();
	MemoryContext old = MemoryContextSwitchTo(funcctx->multi_call_memory_ctx);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ReadState *state = palloc0(sizeof(ReadState));
	NbLog *log = nb_log_open(required_name(fcinfo), AccessShareLock, ACL_SELECT);
	char *key = NULL;
	uint32 key_len = 0;
	int shard;

	state->headers = *row_headers(fcinfo);
	if (key_arg >= 0 && !PG_ARGISNULL(key_arg))
	{
		key = text_to_cstring(PG_GETARG_TEXT_PP(key_arg));
		key_len = strlen(key);
	}
	shard = choose_shard(fcinfo, log, shard_arg, key_arg >= 0, key, key_len);
	state->raw = raw;
	state->left = limit;
	reader_open(&state->reader, log, shard, after_seq);
	state->reader.key = key;
	state->reader.key_len = key_len;
	RegisterExprContextCallback(rsinfo->econtext, close_reader_callback, PointerGetDatum(state));

	funcctx->user_fctx = state;
	MemoryContextSwitchTo(old);
	return state;
}

/* Every call: the next row, or the end. */
static Datum
next_row(FunctionCallInfo fcinfo)
{
	FuncCallContext *funcctx = SRF_PERCALL_SETUP();
	ReadState *state = funcctx->user_fctx;
	ReaderEvent event;

	if (state->left > 0 && reader_next(&state->reader, state->left, &event))
	{
		state->left--;
		SRF_RETURN_NEXT(funcctx, form_row(state, &event));
	}
	if (state->warn_lost && state->reader.lost > 0)
		ereport(
			WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg(
				 "log \"%s\" shard %d: up to %llu of the events after the given seq are not retained any more",
				 state->reader.log->name, state->reader.shard,
				 (unsigned long long) state->reader.lost)));
	UnregisterExprContextCallback(((ReturnSetInfo *) fcinfo->resultinfo)->econtext,
								  close_reader_callback, PointerGetDatum(state));
	reader_close(&state->reader);
	SRF_RETURN_DONE(funcctx);
}

static uint64
after_seq_arg(FunctionCallInfo fcinfo, int n)
{
	int64 after_seq = required_int8(fcinfo, n, "after_seq");

	if (after_seq < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("after_seq must not be negative")));
	return after_seq;
}

static uint64
max_events_arg(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"max_events\" must not be null")));
	if (PG_GETARG_INT32(n) < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("max_events must not be negative")));
	return PG_GETARG_INT32(n);
}

/* read(log, after_seq, shard, key, max_events) */
static Datum
read_common(FunctionCallInfo fcinfo, bool raw)
{
	if (SRF_IS_FIRSTCALL())
	{
		uint64 after_seq = after_seq_arg(fcinfo, 1);
		ReadState *state = begin_read(fcinfo, raw, 2, 3, after_seq, max_events_arg(fcinfo, 4));

		state->warn_lost = after_seq > 0;
	}
	return next_row(fcinfo);
}

Datum
netbus_read(PG_FUNCTION_ARGS)
{
	return read_common(fcinfo, false);
}

Datum
netbus_read_raw(PG_FUNCTION_ARGS)
{
	return read_common(fcinfo, true);
}

/* An interval as a time from now in microseconds, at most MAX_WAIT_US. */
static int64
wait_arg(FunctionCallInfo fcinfo, int n)
{
	Interval *wait;
	double us;

	if (PG_ARGISNULL(n))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"wait\" must not be null")));
	wait = PG_GETARG_INTERVAL_P(n);
	us = (double) wait->time +
		 ((double) wait->day + (double) wait->month * DAYS_PER_MONTH) * USECS_PER_DAY;
	if (us < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("wait must not be negative")));
	return us < MAX_WAIT_US ? (int64) us : MAX_WAIT_US;
}

/* tail(log, after_seq, shard, key, max_events, wait) */
static Datum
tail_common(FunctionCallInfo fcinfo, bool raw)
{
	if (SRF_IS_FIRSTCALL())
	{
		uint64 after_seq = after_seq_arg(fcinfo, 1);
		int64 deadline = nb_now_us() + wait_arg(fcinfo, 5);
		ReadState *state = begin_read(fcinfo, raw, 2, 3, after_seq, max_events_arg(fcinfo, 4));
		ReaderEvent event;

		/* Look at the first event, and take that look back. */
		state->warn_lost = after_seq > 0;
		while (state->left > 0 && !reader_next(&state->reader, state->left, &event))
			if (!reader_wait(&state->reader, deadline))
			{
				state->left = 0;
				break;
			}
		if (state->left > 0)
			reader_unread(&state->reader);
	}
	return next_row(fcinfo);
}

Datum
netbus_tail(PG_FUNCTION_ARGS)
{
	return tail_common(fcinfo, false);
}

Datum
netbus_tail_raw(PG_FUNCTION_ARGS)
{
	return tail_common(fcinfo, true);
}

/* get(log, seq, shard): one event, or no row */
static Datum
get_common(FunctionCallInfo fcinfo, bool raw)
{
	if (SRF_IS_FIRSTCALL())
	{
		int64 seq = required_int8(fcinfo, 1, "seq");
		ReadState *state = begin_read(fcinfo, raw, 2, -1, seq > 0 ? seq - 1 : 0, seq > 0 ? 1 : 0);
		ReaderEvent event;

		/* The next event may be a later one. */
		state->reader.only_one = true;
		if (seq > 0 && reader_next(&state->reader, 1, &event) && event.seq == seq)
			reader_unread(&state->reader);
		else
			state->left = 0;
	}
	return next_row(fcinfo);
}

Datum
netbus_get(PG_FUNCTION_ARGS)
{
	return get_common(fcinfo, false);
}

Datum
netbus_get_raw(PG_FUNCTION_ARGS)
{
	return get_common(fcinfo, true);
}

/* head(log, shard): the stable seq */
Datum
netbus_head(PG_FUNCTION_ARGS)
{
	NbLog *log = nb_log_open(required_name(fcinfo), AccessShareLock, ACL_SELECT);
	int shard = choose_shard(fcinfo, log, 1, false, NULL, 0);

	PG_RETURN_INT64(reader_head(log, shard));
}
