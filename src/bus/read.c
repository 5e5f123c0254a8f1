/*-------------------------------------------------------------------------
 *
 * read.c
 *		read, tail, get and head in SQL.
 *
 * Reads are not snapshot reads: they see every event that is committed, also
 * in REPEATABLE READ.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/rows.h"

#include "funcapi.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(netbus_read);
PG_FUNCTION_INFO_V1(netbus_read_raw);
PG_FUNCTION_INFO_V1(netbus_tail);
PG_FUNCTION_INFO_V1(netbus_tail_raw);
PG_FUNCTION_INFO_V1(netbus_get);
PG_FUNCTION_INFO_V1(netbus_get_raw);
PG_FUNCTION_INFO_V1(netbus_head);

/* State of a row-returning call. */
typedef struct ReadState
{
	Reader reader;
	uint64 left;    /* rows still wanted */
	bool raw;       /* payload as bytea */
	bool warn_lost; /* tell of events that were gone */
	RowHeaders headers;
} ReadState;

/* The shard to read: as given, or the key's, or the only one. */
static int
choose_shard(FunctionCallInfo fcinfo, NbLog *log, int shard_arg, bool takes_key, const char *key,
			 uint32 key_len)
{
	if (!PG_ARGISNULL(shard_arg))
	{
		check_shard(log, PG_GETARG_INT32(shard_arg));
		return PG_GETARG_INT32(shard_arg);
	}
	if (log->options.shards == 1)
		return 0;
	if (key)
		return nb_log_shard_of_key(log, key, key_len);
	ereport(
		ERROR,
		(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		 errmsg("log \"%s\" has %d shards: say which to read", log->name, log->options.shards),
		 takes_key
			 ? errhint(
				   "Pass shard => 0 to %d, or key => to read the events of a key. netbus.poll() reads all shards.",
				   log->options.shards - 1)
			 : errhint("Pass shard => 0 to %d.", log->options.shards - 1)));
}

/* End of a result set, also of one that the executor leaves early. */
static void
close_reader_callback(Datum arg)
{
	reader_close(&((ReadState *) DatumGetPointer(arg))->reader);
}

/* First call of a row-returning function: open the log and find the place. */
static ReadState *
begin_read(FunctionCallInfo fcinfo, bool raw, int shard_arg, int key_arg, int filter_arg,
		   uint64 after_seq, uint64 limit)
{
	FuncCallContext *funcctx = SRF_FIRSTCALL_INIT();
	MemoryContext old = MemoryContextSwitchTo(funcctx->multi_call_memory_ctx);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ReadState *state = palloc0(sizeof(ReadState));
	NbLog *log = nb_log_open(arg_text(fcinfo, 0, "log"), AccessShareLock, ACL_SELECT);
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
	if (filter_arg >= 0)
		state->reader.filter = arg_filter(fcinfo, filter_arg);
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
		SRF_RETURN_NEXT(funcctx, row_form(&state->headers, state->reader.log->name,
										  state->reader.shard, &event, state->raw, NULL));
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
	int64 after_seq = arg_int8(fcinfo, n, "after_seq");

	if (after_seq < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("after_seq must not be negative")));
	return after_seq;
}

/* read(log, after_seq, shard, key, max_events, filter) */
static Datum
read_common(FunctionCallInfo fcinfo, bool raw)
{
	if (SRF_IS_FIRSTCALL())
	{
		uint64 after_seq = after_seq_arg(fcinfo, 1);
		ReadState *state = begin_read(fcinfo, raw, 2, 3, 5, after_seq, arg_max_events(fcinfo, 4));

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

/* tail(log, after_seq, shard, key, max_events, wait, filter) */
static Datum
tail_common(FunctionCallInfo fcinfo, bool raw)
{
	if (SRF_IS_FIRSTCALL())
	{
		uint64 after_seq = after_seq_arg(fcinfo, 1);
		int64 deadline = arg_deadline(fcinfo, 5, "wait");
		ReadState *state = begin_read(fcinfo, raw, 2, 3, 6, after_seq, arg_max_events(fcinfo, 4));
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
		int64 seq = arg_int8(fcinfo, 1, "seq");
		ReadState *state =
			begin_read(fcinfo, raw, 2, -1, -1, seq > 0 ? seq - 1 : 0, seq > 0 ? 1 : 0);
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
	NbLog *log = nb_log_open(arg_text(fcinfo, 0, "log"), AccessShareLock, ACL_SELECT);
	int shard = choose_shard(fcinfo, log, 1, false, NULL, 0);

	PG_RETURN_INT64(reader_head(log, shard));
}
