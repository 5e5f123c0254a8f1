/*-------------------------------------------------------------------------
 *
 * start.c
 *		Where reading of a log starts, as a user says it.
 *
 * A cursor names its log by the OID of the log's table and by its incarnation, and
 * one of the two has to fit: the first retention of a log changes its
 * incarnation, pg_restore the OID, and a log that was dropped and created
 * again has neither.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/start.h"

#include "bus/reader.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

StaticAssertDecl(CURSOR_MAX_SHARDS == LOG_MAX_SHARDS, "a cursor has room for all shards");

#define HINT_START \
	"Valid are \"earliest\", \"latest\", a timestamp, and the next_cursor that netbus.poll() has returned for this log."

/* The first event after a seq. */
static bool
probe(NbLog *log, int shard, uint64 after_seq, ReaderEvent *event)
{
	Reader reader;
	bool found;

	reader_open(&reader, log, shard, after_seq);
	found = reader_next(&reader, 1, event);
	reader_close(&reader);
	return found;
}

/*
 * The seq before the first event that is not older than a time: by bisection,
 * because the times of a shard never decrease.
 */
static uint64
seq_before(NbLog *log, int shard, TimestampTz time)
{
	uint64 head = reader_head(log, shard);
	uint64 result = head;
	uint64 lo = 0; /* up to here all are older; behind hi none is */
	uint64 hi = head;

	while (lo < hi)
	{
		/* The oldest event first, because seqs need not start at 1. */
		uint64 mid = lo == 0 && hi == head ? 0 : lo + (hi - lo) / 2;
		ReaderEvent event;

		if (!probe(log, shard, mid, &event) || event.seq > head)
			hi = mid;
		else if (NB_EPOCH_TO_TIMESTAMPTZ(event.ts) < time)
			lo = event.seq;
		else
		{
			hi = mid;
			result = event.seq - 1;
		}
	}
	return result;
}

static void
time_error_callback(void *arg)
{
	errcode(ERRCODE_INVALID_PARAMETER_VALUE);
	errcontext("argument \"%s\"", (const char *) arg);
	errhint(HINT_START);
}

static TimestampTz
parse_time(const char *text, const char *argument)
{
	ErrorContextCallback where;
	TimestampTz time;

	where.callback = time_error_callback;
	where.arg = unconstify(char *, argument);
	where.previous = error_context_stack;
	error_context_stack = &where;
	time = DatumGetTimestampTz(DirectFunctionCall3(
		timestamptz_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	error_context_stack = where.previous;
	return time;
}

static void
decode_cursor(NbLog *log, const char *text, const char *argument, Cursor *cursor)
{
	static const char *const reasons[] = {
		[CURSOR_ERR_PREFIX] = "It is of a version that this netbus does not know.",
		[CURSOR_ERR_TEXT] = "It is incomplete, or has characters that do not belong there.",
		[CURSOR_ERR_CHECKSUM] = "Its checksum is wrong.",
		[CURSOR_ERR_VALUE] = "A number in it is out of range.",
	};
	CursorError error = cursor_decode(text, strlen(text), cursor);

	if (error != CURSOR_OK)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" is no valid cursor", argument),
						errdetail_internal("%s", reasons[error]), errhint(HINT_START)));
	if (cursor->relid != log->relid && cursor->incarnation != log->options.incarnation)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" is a cursor of another log than \"%s\"", argument,
							   log->name),
						errdetail("A log that was dropped and created again is another log."),
						errhint("Start with \"earliest\" or \"latest\".")));
	for (int i = log->options.shards; i < CURSOR_MAX_SHARDS; i++)
		if (cursor->known[i])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"%s\" is a cursor with more shards than log \"%s\" has (%d)",
							argument, log->name, log->options.shards)));
}

StartKind
start_resolve(NbLog *log, const char *text, const char *argument, Cursor *cursor)
{
	StartKind kind = START_TIME;
	TimestampTz time = 0;

	/* "c1.", and what a later version may have. */
	if (text[0] == 'c' && strspn(text + 1, "0123456789") > 0)
	{
		decode_cursor(log, text, argument, cursor);
		kind = START_CURSOR;
	}
	else
	{
		memset(cursor, 0, sizeof(Cursor));
		if (strcmp(text, "earliest") == 0)
			kind = START_EARLIEST;
		else if (strcmp(text, "latest") == 0)
			kind = START_LATEST;
		else
			time = parse_time(text, argument);
	}
	cursor->incarnation = log->options.incarnation;
	cursor->relid = log->relid;

	for (int i = 0; i < log->options.shards && (kind == START_LATEST || kind == START_TIME); i++)
	{
		cursor->known[i] = true;
		cursor->seqs[i] = kind == START_LATEST ? reader_head(log, i) : seq_before(log, i, time);
	}
	return kind;
}
