/*-------------------------------------------------------------------------
 *
 * poll.c
 *		poll: pages of events from all shards of a log.
 *
 * A page is read in full first, because each of its rows carries what is
 * known only then: the cursor behind it, what was lost, and whether there is
 * more.  Rows are then formed one by one, as those of read().
 *
 * Ordering "none" goes round the shards and gives each its share of what is
 * left of the page; the shares of those that have less go to the others.  The
 * cursor remembers where the next page begins its round, so that also pages
 * with fewer events than there are shards serve them all.
 *
 * Ordering "ts" merges the shards by (ts, shard, seq).  That order holds
 * across pages only if nothing appears later that belongs before what was
 * returned.  So poll takes a time T0 and visits the lock of each ring.  There it
 * sees to it that later claims get no timestamp below T0, and it notes the
 * timestamp of the oldest claim that is pending: what has a lower one is
 * resolved.  The page then has events before the bound only, the lowest of T0 and those
 * timestamps.  T0 is above all timestamps issued so far, so that a clock that
 * was set back delays nothing.  All of this needs live rings.
 *
 * A poll that waits sleeps on all shards.  With ordering "ts" it does not wait
 * for shards that have events behind the bound, but for the pending claim that
 * holds them back: its resolution moves its shard's stable seq.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/rows.h"
#include "bus/start.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define MAX_PAGE_BYTES (64 * 1024 * 1024) /* of events, but for the last one */
#define MERGE_AHEAD    16                 /* events copied beyond a shard's share */

PG_FUNCTION_INFO_V1(netbus_poll);
PG_FUNCTION_INFO_V1(netbus_poll_raw);

/* An event of the page; key and payload follow it. */
typedef struct PageEvent
{
	struct PageEvent *next;
	int shard;
	ReaderEvent event;
} PageEvent;

typedef struct PollShard
{
	Reader reader;
	uint64 start_seq;
	bool dry;         /* nothing wanted is left */
	bool blocked;     /* the next event is behind the bound */
	ReaderEvent head; /* of the merge: the next event */
	PageEvent *first; /* of the page, with ordering none */
	PageEvent **append;
} PollShard;

typedef struct Poll
{
	char log[NAMEDATALEN];
	RowHeaders headers;
	RowTail tail;
	bool raw;
	bool by_ts;
	int nshards;
	PollShard *shards; /* those that are polled, ascending */
	Cursor cursor;
	uint64 left; /* events wanted */

	/* bound of ordering "ts": events before (bound_ts, bound_shard), and that of the shard */
	int64 bound_ts;
	int bound_shard; /* of the pending claim; -1: it is T0 */

	PageEvent *page;    /* the next one to hand out */
	PageEvent **append; /* with ordering "ts" */
	Size page_bytes;
	Scratch *scratch; /* of the page, and of readers */
	bool bare;        /* a row without event is due */
} Poll;

static inline bool
page_full(const Poll *poll)
{
	return poll->left == 0 || poll->page_bytes >= MAX_PAGE_BYTES;
}

/* Copy an event to the end of a list of the page. */
static void
page_append(Poll *poll, int shard, const ReaderEvent *event, PageEvent ***append)
{
	const FrameEvent *e = &event->event;
	Size size = sizeof(PageEvent) + e->key_len + e->payload_len;
	PageEvent *copy = scratch_alloc(poll->scratch, size);
	char *bytes = (char *) (copy + 1);

	copy->next = NULL;
	copy->shard = shard;
	copy->event = *event;
	copy->event.event.payload = memcpy(bytes, e->payload, e->payload_len);
	if (e->key)
		copy->event.event.key = memcpy(bytes + e->payload_len, e->key, e->key_len);
	**append = copy;
	*append = &copy->next;
	poll->page_bytes += size;
	poll->left--;
}

/* Ordering "none": every shard its share of the page. */
static void
collect_in_turn(Poll *poll)
{
	int n = poll->nshards;
	int active = n;
	int first = 0;
	int next;

	while (first < n && poll->shards[first].reader.shard < poll->cursor.first)
		first++;
	first %= n;
	next = first;
	for (int i = 0; i < n; i++)
		poll->shards[i].dry = false;

	while (active > 0 && !page_full(poll))
	{
		int ahead = active; /* shards to come in this round */

		for (int i = 0; i < n && !page_full(poll); i++)
		{
			PollShard *shard = &poll->shards[(first + i) % n];
			uint64 share;
			ReaderEvent event;

			if (shard->dry)
				continue;
			share = (poll->left + ahead - 1) / ahead;
			ahead--;
			while (share > 0 && !page_full(poll) && !shard->dry)
			{
				if (reader_next(&shard->reader, share, &event))
				{
					page_append(poll, shard->reader.shard, &event, &shard->append);
					share--;
				}
				else
				{
					shard->dry = true;
					active--;
				}
			}
			next = (first + i + 1) % n;
		}
	}
	if (next == first)
		next = (next + 1) % n;
	poll->cursor.first = poll->shards[next].reader.shard;
}

/* Up to which time all that there will ever be is resolved in all shards. */
static void
take_bound(Poll *poll)
{
	int64 ts = nb_now_us();

	for (int i = 0; i < poll->nshards; i++)
		ts = Max(ts, ring_last_ts(poll->shards[i].reader.ring) + 1);
	poll->bound_ts = ts;
	poll->bound_shard = -1;
	for (int i = 0; i < poll->nshards; i++)
	{
		int64 bound = ring_ts_bound(poll->shards[i].reader.ring, ts);

		if (bound < poll->bound_ts)
		{
			poll->bound_ts = bound;
			poll->bound_shard = poll->shards[i].reader.shard;
		}
	}
}

/* Of the pending claim's own shard, what is stable comes before it. */
static inline bool
before_bound(const Poll *poll, int shard, int64 ts)
{
	return ts < poll->bound_ts || (ts == poll->bound_ts && shard <= poll->bound_shard);
}

/* To the next event of a shard.  False: there is none before the bound. */
static bool
advance(Poll *poll, PollShard *shard)
{
	uint64 want = poll->left / poll->nshards + MERGE_AHEAD;

	shard->dry = !reader_next(&shard->reader, Min(poll->left, want), &shard->head);
	if (shard->dry)
		return false;
	shard->blocked = !before_bound(poll, shard->reader.shard, shard->head.ts);
	if (shard->blocked)
		reader_unread(&shard->reader);
	return !shard->blocked;
}

/* binaryheap has the greatest on top: that is the event that comes first. */
static int
compare_heads(Datum a, Datum b, void *arg)
{
	const PollShard *x = (const PollShard *) DatumGetPointer(a);
	const PollShard *y = (const PollShard *) DatumGetPointer(b);

	if (x->head.ts != y->head.ts)
		return x->head.ts < y->head.ts ? 1 : -1;
	return x < y ? 1 : -1;
}

/* Ordering "ts": merge the shards.  True: more is left before the bound. */
static bool
collect_by_ts(Poll *poll)
{
	binaryheap *heap = binaryheap_allocate(poll->nshards, compare_heads, NULL);
	bool more;

	take_bound(poll);
	for (int i = 0; i < poll->nshards; i++)
	{
		poll->shards[i].blocked = false;
		if (advance(poll, &poll->shards[i]))
			binaryheap_add_unordered(heap, PointerGetDatum(&poll->shards[i]));
	}
	binaryheap_build(heap);

	while (!binaryheap_empty(heap))
	{
		PollShard *shard = (PollShard *) DatumGetPointer(binaryheap_first(heap));

		page_append(poll, shard->reader.shard, &shard->head, &poll->append);
		if (page_full(poll))
		{
			(void) binaryheap_remove_first(heap);
			break;
		}
		if (advance(poll, shard))
			binaryheap_replace_first(heap, PointerGetDatum(shard));
		else
			(void) binaryheap_remove_first(heap);
	}
	more = !binaryheap_empty(heap);
	while (!binaryheap_empty(heap))
		reader_unread(&((PollShard *) DatumGetPointer(binaryheap_remove_first(heap)))->reader);
	binaryheap_free(heap);
	return more;
}

/* Has a shard any event behind its place, whether or not it is wanted? */
static bool
shard_has_more(Poll *poll, PollShard *shard)
{
	const Filter *filter = shard->reader.filter;
	ReaderEvent event;
	bool more;

	shard->reader.filter = NULL;
	more = reader_next(&shard->reader, 1, &event);
	if (more)
		reader_unread(&shard->reader);
	shard->reader.filter = filter;
	return more && (!poll->by_ts || before_bound(poll, shard->reader.shard, event.ts));
}

/* Nothing has come: wait until that may change.  False: time is up. */
static bool
wait_for_events(Poll *poll, Reader **readers, int64 deadline)
{
	bool retry = false;
	int n = 0;

	for (int i = 0; i < poll->nshards; i++)
	{
		PollShard *shard = &poll->shards[i];

		if (!shard->blocked)
			readers[n++] = &shard->reader;
		else if (poll->bound_shard < 0 || poll->bound_shard == shard->reader.shard)
			retry = true; /* they are newer than the bound: take another one */
	}
	if (!retry && n > 0)
		return readers_wait(readers, n, deadline);
	CHECK_FOR_INTERRUPTS();
	return nb_now_us() < deadline;
}

/* The columns that all rows of the page share: next_cursor, lost, has_more. */
static void
form_tail(Poll *poll, int64 lost, bool has_more)
{
	char text[CURSOR_MAX_TEXT];
	Size len = cursor_encode(&poll->cursor, text);

	for (int i = 0; i < 2; i++)
	{
		Size start = i * sizeof(int32);
		Size lost_off = MAXALIGN(start + VARHDRSZ + len) - start;
		char *bytes = palloc0(lost_off + sizeof(int64) + sizeof(bool));

		SET_VARSIZE(bytes, VARHDRSZ + len);
		memcpy(bytes + VARHDRSZ, text, len);
		memcpy(bytes + lost_off, &lost, sizeof(int64));
		bytes[lost_off + sizeof(int64)] = has_more;
		poll->tail.bytes[i] = bytes;
		poll->tail.len[i] = lost_off + sizeof(int64) + sizeof(bool);
	}
}

/* Read the page, and note where it ends. */
static void
read_page(Poll *poll, bool moved, int64 deadline)
{
	Reader **readers = palloc(poll->nshards * sizeof(Reader *));
	uint64 left = poll->left;
	uint64 lost = 0;
	bool more = false;

	for (;;)
	{
		if (poll->by_ts)
			more = collect_by_ts(poll);
		else
			collect_in_turn(poll);
		if (poll->left < left || !wait_for_events(poll, readers, deadline))
			break;
	}
	pfree(readers);

	for (int i = 0; i < poll->nshards && !more; i++)
		more = !poll->shards[i].dry && !poll->shards[i].blocked &&
			   shard_has_more(poll, &poll->shards[i]);

	for (int i = 0; i < poll->nshards; i++)
	{
		PollShard *shard = &poll->shards[i];
		Reader *reader = &shard->reader;

		moved |= reader->after_seq != shard->start_seq || reader->lost > 0;
		lost += reader->lost;
		poll->cursor.seqs[reader->shard] = reader->after_seq;
		poll->cursor.known[reader->shard] |= reader->after_seq > 0 || shard->dry;
		reader_close(reader);
	}
	poll->bare = poll->left == left && moved;
	form_tail(poll, lost, more);

	/* Lists of the shards become one. */
	if (!poll->by_ts)
		for (int i = 0; i < poll->nshards; i++)
			if (poll->shards[i].first)
			{
				*poll->append = poll->shards[i].first;
				poll->append = poll->shards[i].append;
			}
}

static bool
by_ts_arg(FunctionCallInfo fcinfo, int n)
{
	char *ordering = arg_text(fcinfo, n, "ordering");

	if (strcmp(ordering, "none") != 0 && strcmp(ordering, "ts") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("unrecognized ordering \"%s\"", ordering),
						errhint("Valid orderings are none, ts.")));
	return ordering[0] == 't';
}

/* Which shards are asked for: wanted[shard].  Returns how many. */
static int
shards_arg(FunctionCallInfo fcinfo, int n, NbLog *log, bool *wanted)
{
	ArrayType *array;
	Datum *values;
	bool *nulls;
	int nvalues;
	int count = 0;

	memset(wanted, PG_ARGISNULL(n), log->options.shards * sizeof(bool));
	if (PG_ARGISNULL(n))
		return log->options.shards;

	array = PG_GETARG_ARRAYTYPE_P(n);
	deconstruct_array(array, INT4OID, sizeof(int32), true, TYPALIGN_INT, &values, &nulls, &nvalues);
	for (int i = 0; i < nvalues; i++)
	{
		int shard = DatumGetInt32(values[i]);

		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("argument \"shards\" must not contain nulls")));
		check_shard(log, shard);
		count += !wanted[shard];
		wanted[shard] = true;
	}
	return count;
}

/* First call: poll(log, cursor, max_events, filter, ordering, shards, wait) */
static void
begin_poll(FunctionCallInfo fcinfo, bool raw)
{
	FuncCallContext *funcctx = SRF_FIRSTCALL_INIT();
	MemoryContext old = MemoryContextSwitchTo(funcctx->multi_call_memory_ctx);
	int64 deadline = arg_deadline(fcinfo, 6, "wait");
	Poll *poll = palloc0(sizeof(Poll));
	NbLog *log = nb_log_open(arg_text(fcinfo, 0, "log"), AccessShareLock, ACL_SELECT);
	char *cursor = arg_text(fcinfo, 1, "cursor");
	Filter *filter = arg_filter(fcinfo, 3);
	bool wanted[LOG_MAX_SHARDS];
	StartKind kind;

	funcctx->user_fctx = poll;
	poll->raw = raw;
	poll->headers = *row_headers(fcinfo);
	strlcpy(poll->log, log->name, NAMEDATALEN);
	poll->left = arg_max_events(fcinfo, 2);
	poll->by_ts = by_ts_arg(fcinfo, 4);
	poll->append = &poll->page;
	poll->nshards = shards_arg(fcinfo, 5, log, wanted);
	if (poll->by_ts && nb_log_durable(log) && !nb_log_live(log))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("ordering \"ts\" is not possible on a standby or a copy of a log"),
				 errdetail("What is being committed where log \"%s\" is written is not known here.",
						   log->name),
				 errhint("Use ordering => 'none', and sort by ts, shard, seq within a page.")));
	kind = start_resolve(log, cursor, "cursor", &poll->cursor);

	if (poll->left > 0 && poll->nshards > 0)
	{
		PollShard *shard = palloc0_array(PollShard, poll->nshards);

		poll->shards = shard;
		poll->scratch = scratch_open();
		for (int i = 0; i < log->options.shards; i++)
		{
			if (!wanted[i])
				continue;
			shard->start_seq = poll->cursor.seqs[i];
			shard->append = &shard->first;
			reader_open(&shard->reader, log, i, shard->start_seq);
			shard->reader.scratch = poll->scratch;
			shard->reader.filter = filter;
			shard->reader.from_oldest = !poll->cursor.known[i];
			shard++;
		}
		read_page(poll, kind == START_LATEST || kind == START_TIME, deadline);
	}
	MemoryContextSwitchTo(old);
}

static Datum
poll_common(FunctionCallInfo fcinfo, bool raw)
{
	FuncCallContext *funcctx;
	Poll *poll;

	if (SRF_IS_FIRSTCALL())
		begin_poll(fcinfo, raw);
	funcctx = SRF_PERCALL_SETUP();
	poll = funcctx->user_fctx;

	if (poll->page)
	{
		PageEvent *event = poll->page;

		poll->page = event->next;
		SRF_RETURN_NEXT(funcctx, row_form(&poll->headers, poll->log, event->shard, &event->event,
										  poll->raw, &poll->tail));
	}
	if (poll->bare)
	{
		poll->bare = false;
		SRF_RETURN_NEXT(funcctx, row_form_bare(&poll->headers, &poll->tail));
	}
	SRF_RETURN_DONE(funcctx);
}

Datum
netbus_poll(PG_FUNCTION_ARGS)
{
	return poll_common(fcinfo, false);
}

Datum
netbus_poll_raw(PG_FUNCTION_ARGS)
{
	return poll_common(fcinfo, true);
}
