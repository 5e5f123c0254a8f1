/*-------------------------------------------------------------------------
 *
 * receive.c
 *		receive in SQL: what is handed out, to whom and when.
 *
 * A call of receive() hands out events of one shard: one that this transaction
 * holds already and that has more, else the next free one, going round.  What it
 * may hand out is chosen before the first row:
 *
 *	- retries that are due, or new events, taking turns where there are both;
 *	- of a batch that has failed, no more than that batch, so that it stays
 *	  known what has failed how often;
 *	- once it has failed max_deliveries times, its events one at a time, each in
 *	  a transaction that gets nothing else; and one that fails alone goes to the
 *	  dead-letter log, by the worker, before anything is handed out.
 *
 * From the second delivery on, the worker writes down that there is one before it is
 * made (for consumers with max_deliveries): a crash of the server leaves that row.
 * So it does with the first delivery of a shard after a start, when nobody knows what
 * was being delivered before.
 *
 * Waiting.  Of the members of a consumer that wait, one is the lookout: it is
 * woken by the rings.  Whoever stops waiting wakes one of the others, which becomes
 * the lookout if there is none; so does whoever frees a shard.  Thus a commit wakes
 * one member, however many wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/claim.h"
#include "bus/reader.h"
#include "bus/receive.h"
#include "bus/rows.h"

#include "access/xact.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define COLD_POLL_MS 50   /* without a live ring nobody wakes us */
#define LOOK_MS      1000 /* how often a member that is no lookout looks by itself */

PG_FUNCTION_INFO_V1(netbus_receive);
PG_FUNCTION_INFO_V1(netbus_receive_raw);

/* A call of receive(): what it hands out. */
typedef struct Delivery
{
	RowHeaders headers;
	bool raw;
	NbLog *log;
	Consumer *consumer;
	uint64 id;
	int max_deliveries;
	Filter *filter;
	uint64 left;                 /* rows still wanted */
	bool closed[LOG_MAX_SHARDS]; /* what it has must not go to this transaction */
	uint64 seen[LOG_MAX_SHARDS]; /* there was nothing up to this seq */

	MemoryContext context; /* of all this */
	Claim *claim;
	int shard;        /* the claim's */
	Reader reader;    /* open if reader.log is set */
	uint64 passed_to; /* what the reader has passed up to here is counted: */
	uint64 filtered;
	uint64 lost;
	uint32 met;       /* retries that the reader has come by since */
	uint64 limit_to;  /* hand out nothing beyond; 0: no such limit */
	uint32 rollbacks; /* claim_rollbacks() when the claim was known to be ours */
	uint64 at;        /* where the claim was left: claim->now.scanned_to */
	int nqueue;       /* retries to hand out; 0: new events */
	int next;
	ConsumerRetry *queue;
} Delivery;

/* ------------------------------------------------------------- choosing */

static void
open_reader(Delivery *d, uint64 after_seq, bool only_one)
{
	MemoryContext old = MemoryContextSwitchTo(d->context);

	reader_open(&d->reader, d->log, d->claim->shard, after_seq);
	MemoryContextSwitchTo(old);
	d->reader.only_one = only_one;
	if (!only_one)
		d->reader.filter = d->filter;
	d->filtered = d->lost = 0;
	d->passed_to = after_seq;
	d->met = 0;
}

static void
close_reader(Delivery *d)
{
	reader_close(&d->reader);
}

/*
 * What the reader has passed over since we asked last.  Retries that it did not come
 * by were lost or filtered, too, but are accounted for as retries.
 */
static void
take_passed(Delivery *d, uint64 *filtered, uint64 *lost)
{
	const ConsumerShard *slot = d->claim->slot;
	uint64 missed = 0;

	*filtered = d->reader.filtered - d->filtered;
	*lost = d->reader.lost - d->lost;
	if (unlikely(slot->nretries > 0 && *filtered + *lost > 0))
	{
		missed = consumer_count_retries(slot, d->claim->retries, d->passed_to, d->reader.after_seq);
		missed -= Min(missed, d->met);
		*filtered -= Min(*filtered, missed - Min(*lost, missed));
		*lost -= Min(*lost, missed);
	}
	d->filtered = d->reader.filtered;
	d->lost = d->reader.lost;
	d->passed_to = d->reader.after_seq;
	d->met = 0;
}

/* The next event that is not among the retries. */
static bool
next_new_event(Delivery *d, ReaderEvent *event)
{
	for (; reader_next(&d->reader, d->left, event); d->met++)
		if (likely(d->claim->slot->nretries == 0) ||
			!consumer_find_retry(d->claim->slot, d->claim->retries, event->seq))
			return true;
	return false;
}

/* Have the worker move an event to the dead-letter log.  False, with a warning: it cannot. */
static bool
set_aside(Delivery *d, uint64 seq)
{
	Claim *claim = d->claim;
	ConsumerFailure none = {0};

	if (!claim_request(claim, REQUEST_SET_ASIDE, seq, none))
	{
		ereport(WARNING, (errcode(ERRCODE_WARNING),
						  errmsg("could not set aside event %llu of log \"%s\" shard %d",
								 (unsigned long long) seq, d->log->name, claim->shard),
						  errdetail("It has failed too often, and is delivered once more."),
						  errhint("The view netbus.stat_worker tells why.")));
		return false;
	}
	claim_moved(claim);
	return true;
}

static bool
choose_retries(Delivery *d)
{
	Claim *claim = d->claim;
	ConsumerShard *slot = claim->slot;
	int64 now = nb_now_us();
	int max = d->max_deliveries;
	bool record = false;
	bool single = false;

	if (slot->next_due > now)
		return false;
	d->queue = palloc(Min(d->left, slot->nretries) * sizeof(ConsumerRetry));
again:
	d->nqueue = d->next = 0;
	for (uint32 i = 0; i < slot->nretries && d->nqueue < d->left; i++)
	{
		ConsumerRetry *retry = &claim->retries[i];

		if (retry->due > now || claim_verdict(claim, retry->seq))
			continue;
		if (max > 0 && retry->attempts >= max)
		{
			if (claim_delivered() > 0 || d->nqueue > 0)
				continue;
			if (retry->alone && set_aside(d, retry->seq))
				goto again;
			single = true;
		}
		record |= max > 0 && (retry->attempts > 0 || slot->unsure);
		d->queue[d->nqueue++] = *retry;
		if (single)
			break;
	}
	if (d->nqueue == 0)
		return false;
	if (record)
	{
		ConsumerFailure delivery = {.alone = single};

		SpinLockAcquire(&slot->lock);
		for (int i = 0; i < d->nqueue; i++)
			consumer_find_retry(slot, claim->retries, d->queue[i].seq)->recording = true;
		SpinLockRelease(&slot->lock);
		(void) claim_request(claim, REQUEST_RECORD, 0, delivery);
	}
	claim_touch(claim);
	claim->now.single = single;
	return true;
}

/* Leaves the reader before the first event to hand out. */
static bool
choose_new(Delivery *d)
{
	Claim *claim = d->claim;
	ConsumerShard *slot = claim->slot;
	ConsumerFailure failure;
	ConsumerFailure record;
	int max = d->max_deliveries;
	bool again;

	d->nqueue = 0;
	do
	{
		ReaderEvent event;
		uint64 filtered;
		uint64 lost;
		bool found;

		again = false;
		memset(&record, 0, sizeof(record));
		d->limit_to = 0;
		open_reader(d, claim->now.scanned_to, false);
		found = next_new_event(d, &event);
		take_passed(d, &filtered, &lost);
		claim_skip(claim, found ? event.seq - 1 : d->reader.after_seq, filtered, lost);
		if (!found)
		{
			close_reader(d);
			return false;
		}
		failure = slot->failure;
		if (failure.attempts > 0 && event.seq <= failure.failed_to)
		{
			d->limit_to = failure.failed_to;
			record = failure;
			record.attempts++;
			record.alone = false;
			if (max > 0 && failure.attempts >= max)
			{
				if (claim_delivered() > 0)
				{
					close_reader(d);
					d->closed[claim->shard] = true;
					return false;
				}
				if (failure.alone && failure.failed_to == event.seq)
				{
					close_reader(d);
					again = set_aside(d, event.seq);
					if (!again)
					{
						open_reader(d, claim->now.scanned_to, false);
						(void) next_new_event(d, &event);
					}
				}
				if (!again)
				{
					claim_touch(claim);
					claim->now.single = true;
					d->left = 1;
					record.alone = true;
					record.failed_to = event.seq;
				}
			}
		}
		else if (slot->unsure)
		{
			record.attempts = 1;
			record.failed_to = Max(
				event.seq, pg_atomic_read_u64(&log_ring(d->log->shared, claim->shard)->stable_seq));
		}
	} while (again);

	reader_unread(&d->reader);
	if (max > 0 && record.attempts > 0 && !claim->now.recorded)
	{
		(void) claim_request(claim, REQUEST_RECORD, 0, record);
		claim_touch(claim);
		claim->now.recorded = true;
	}
	return true;
}

/* Is there something in the shard to hand out, as far as can be told without holding it? */
static bool
has_more(const Delivery *d, int shard, uint64 after_seq)
{
	const ConsumerShard *slot = &d->consumer->shared->shard[shard];

	if (nb_log_durable(d->log) && !nb_log_live(d->log))
		return true;
	return pg_atomic_read_u64(&log_ring(d->log->shared, shard)->stable_seq) >
			   Max(after_seq, d->seen[shard]) ||
		   *(volatile const int64 *) &slot->next_due <= nb_now_us();
}

/* Has the shard that is claimed something for us? */
static bool
choose_from(Delivery *d, Claim *claim)
{
	bool retries_last = claim->slot->retries_last;
	uint64 stable = pg_atomic_read_u64(&log_ring(d->log->shared, claim->shard)->stable_seq);

	pg_read_barrier();
	d->claim = claim;
	if ((!retries_last && choose_retries(d)) || choose_new(d) ||
		(retries_last && choose_retries(d)))
		return true;
	d->seen[claim->shard] = stable;
	/* A retry that is due, and yet not for us, has to go to another transaction. */
	d->closed[claim->shard] |= claim->slot->next_due <= nb_now_us();
	return false;
}

/* Was the consumer dropped while we were at it? */
static inline bool
is_gone(const Delivery *d)
{
	return pg_atomic_read_u64(&d->consumer->shared->id) != d->id ||
		   pg_atomic_read_u32(&d->consumer->shared->dropped) != 0;
}

/* Find a shard that has events for us.  False: none has now. */
static bool
choose(Delivery *d)
{
	Consumer *consumer = d->consumer;
	ConsumerShared *shared = consumer->shared;
	uint32 first;

	if (is_gone(d))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("consumer \"%s\" of log \"%s\" was just dropped",
							   NameStr(consumer->key.name), d->log->name)));
	if (pg_atomic_read_u32(&shared->paused))
		return false;
	for (Claim *claim = claim_first(); claim; claim = claim->next)
	{
		if (claim->consumer.id != d->id || d->closed[claim->shard])
			continue;
		claim_settle(claim);
		if (has_more(d, claim->shard, claim->now.scanned_to) && choose_from(d, claim))
			return true;
	}

	first = pg_atomic_fetch_add_u32(&shared->next_shard, 1);
	for (int i = 0; i < shared->shards; i++)
	{
		int shard = (first + i) % shared->shards;
		ConsumerShard *slot = &shared->shard[shard];
		Claim *claim;

		if (d->closed[shard] || slot->holder >= 0 || !has_more(d, shard, slot->position))
			continue;
		claim = claim_take(consumer, d->log, shard);
		if (!claim)
			continue;
		if (choose_from(d, claim))
			return true;
		if (slot->position - slot->stored < CLAIM_SKIP_ROW_EVENTS)
			claim_release(claim);
	}
	return false;
}

/* -------------------------------------------------------------- waiting */

/* What this process waits for. */
static ConsumerShared *waiting_for = NULL;
static NbLog *waiting_at = NULL; /* its rings wake us: we are the lookout */

void
receive_end_wait(void)
{
	ConsumerShared *shared = waiting_for;
	uint32 me = NB_MY_PROCNO + 1;

	if (likely(!shared))
		return;
	waiting_for = NULL;
	nb_waiters_remove(consumer_waiters(shared));
	if (waiting_at)
	{
		for (int i = 0; i < waiting_at->shared->shards; i++)
			nb_waiters_remove(ring_waiters(log_ring(waiting_at->shared, i)));
		waiting_at = NULL;
		(void) pg_atomic_compare_exchange_u32(&shared->lookout, &me, 0);
	}
	/* Somebody else shall look out, or take what we have been woken for. */
	if (pg_atomic_sub_fetch_u32(&shared->waiting, 1) > 0)
		consumer_wake_one(shared);
}

/* Could any shard be had? */
static bool
may_claim(const Delivery *d)
{
	ConsumerShared *shared = d->consumer->shared;
	uint32 others = pg_atomic_read_u32(&shared->exclusive);

	return pg_atomic_read_u32(&shared->paused) == 0 && (others == 0 || others == NB_MY_PROCNO + 1);
}

/* Could we have that one, or have we?  Sets from where on. */
static bool
is_open(const Delivery *d, int shard, uint64 *after_seq)
{
	const volatile ConsumerShard *slot = &d->consumer->shared->shard[shard];
	int32 holder = slot->holder;

	*after_seq = slot->position;
	if (d->closed[shard])
		return false;
	if (holder >= 0)
	{
		Claim *claim = holder == NB_MY_PROCNO ? claim_find(d->id, shard) : NULL;

		if (claim)
			*after_seq = claim->now.scanned_to;
		return claim != NULL;
	}
	return slot->request == REQUEST_NONE;
}

/* Could a shard be had, and has it something? */
static bool
something_to_do(const Delivery *d)
{
	uint64 after_seq;

	for (int i = 0; i < d->consumer->shared->shards && may_claim(d); i++)
		if (is_open(d, i, &after_seq) && has_more(d, i, after_seq))
			return true;
	return false;
}

/*
 * Microseconds until a retry is due that we could have.  Those of other shards may be due
 * for long: whoever frees one wakes us.
 */
static int64
until_due(const Delivery *d)
{
	int64 due = CONSUMER_NEVER;
	int64 now = nb_now_us();
	uint64 after_seq;

	for (int i = 0; i < d->consumer->shared->shards && may_claim(d); i++)
		if (is_open(d, i, &after_seq))
			due = Min(due, *(volatile const int64 *) &d->consumer->shared->shard[i].next_due);
	return due == CONSUMER_NEVER ? PG_INT64_MAX : Max(due - now, 0);
}

/* Sleep until there may be something for us.  False: the time is up. */
static bool
wait_for_more(Delivery *d, int64 deadline)
{
	ConsumerShared *shared = d->consumer->shared;
	bool live = !nb_log_durable(d->log) || nb_log_live(d->log);
	bool ready = false;

	waiting_for = shared;
	pg_atomic_fetch_add_u32(&shared->waiting, 1);
	for (;;)
	{
		int64 left = deadline - nb_now_us();
		uint32 nobody = 0;
		int64 sleep;

		nb_waiters_add(consumer_waiters(shared));
		if (!waiting_at &&
			pg_atomic_compare_exchange_u32(&shared->lookout, &nobody, NB_MY_PROCNO + 1))
			waiting_at = d->log;
		for (int i = 0; waiting_at && i < shared->shards; i++)
			nb_waiters_add(ring_waiters(log_ring(d->log->shared, i)));
		ready = is_gone(d) || (left > 0 && live && something_to_do(d));
		if (ready || left <= 0)
			break;
		sleep = Min(left, until_due(d));
		if (!live)
			sleep = Min(sleep, COLD_POLL_MS * INT64CONST(1000));
		if (!waiting_at)
			sleep = Min(sleep, LOOK_MS * INT64CONST(1000));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (sleep + 999) / 1000, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (!live)
		{
			ready = true; /* or not: the caller looks */
			break;
		}
	}
	receive_end_wait();
	return ready;
}

/* --------------------------------------------------------------- receive */

static bool
next_retry(Delivery *d, ReaderEvent *event)
{
	while (d->next < d->nqueue)
	{
		ConsumerRetry *retry = &d->queue[d->next++];
		bool found;

		if (claim_verdict(d->claim, retry->seq))
			continue; /* another call has handed it out */
		close_reader(d);
		open_reader(d, retry->seq - 1, true);
		found = reader_next(&d->reader, 1, event) && event->seq == retry->seq;
		claim_touch(d->claim);
		if (!found)
			retry->due = CONSUMER_NEVER;
		claim_add_verdict(d->claim, found ? VERDICT_DELIVERED : VERDICT_GONE, retry, true);
		if (found)
			return true;
	}
	return false;
}

/*
 * Rows may be asked for one at a time, with anything in between: a rollback to a
 * savepoint, or another call that goes on in the same shard.  Then these rows end.
 */
static inline bool
may_go_on(Delivery *d)
{
	if (unlikely(d->rollbacks != claim_rollbacks()))
	{
		if (claim_find(d->id, d->shard) != d->claim)
			return false;
		d->rollbacks = claim_rollbacks();
	}
	return d->nqueue > 0 || d->claim->now.scanned_to == d->at;
}

static bool
next_event(Delivery *d, ReaderEvent *event)
{
	uint64 filtered;
	uint64 lost;
	bool found = false;

	if (d->left == 0 || !may_go_on(d))
		return false;
	if (d->nqueue > 0)
		return next_retry(d, event);

	claim_touch(d->claim);
	if (next_new_event(d, event))
	{
		found = d->limit_to == 0 || event->seq <= d->limit_to;
		if (!found)
			reader_unread(&d->reader);
	}
	take_passed(d, &filtered, &lost);
	d->claim->now.filtered += filtered;
	d->claim->now.lost += lost;
	if (found)
		claim_note_event(d->claim, event->seq);
	else
		d->claim->now.scanned_to = d->reader.after_seq;
	d->at = d->claim->now.scanned_to;
	return found;
}

/* How often has the event been delivered, this time included? */
static int32
deliveries_of(const Delivery *d, const ReaderEvent *event)
{
	const ConsumerFailure *failure = &d->claim->slot->failure;

	if (d->nqueue > 0)
		return d->queue[d->next - 1].attempts + 1;
	return 1 + (event->seq <= failure->failed_to ? failure->attempts : 0);
}

/* End of a result set, also of one that the executor leaves early. */
static void
close_delivery(Datum arg)
{
	close_reader((Delivery *) DatumGetPointer(arg));
}

static Delivery *
begin_receive(FunctionCallInfo fcinfo, bool raw)
{
	FuncCallContext *funcctx = SRF_FIRSTCALL_INIT();
	MemoryContext old = MemoryContextSwitchTo(funcctx->multi_call_memory_ctx);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Delivery *d = palloc0(sizeof(Delivery));
	const char *name = arg_text(fcinfo, 1, "consumer");
	int64 deadline;

	PreventCommandIfReadOnly("netbus.receive()");
	PreventCommandIfParallelMode("netbus.receive()");
	d->context = funcctx->multi_call_memory_ctx;
	d->log = nb_log_open(arg_text(fcinfo, 0, "log"), AccessShareLock, ACL_SELECT);
	d->consumer = consumer_open(d->log, name);
	d->id = d->consumer->id;
	d->max_deliveries = d->consumer->max_deliveries;
	if (d->consumer->filter)
		d->filter = filter_compile(d->consumer->filter);
	d->left = arg_max_events(fcinfo, 2);
	deadline = arg_deadline(fcinfo, 3, "wait");
	d->headers = *row_headers(fcinfo);
	d->raw = raw;
	for (Claim *claim = claim_first(); claim; claim = claim->next)
		if (claim->consumer.id == d->id && claim->now.seek)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("consumer \"%s\" of log \"%s\" was moved by this transaction",
								   name, d->log->name),
							errhint("Commit first.")));
	claim_note_receive(d->id);
	RegisterExprContextCallback(rsinfo->econtext, close_delivery, PointerGetDatum(d));
	funcctx->user_fctx = d;

	while (d->left > 0 && !choose(d))
		if (!claim_may_deliver() || !wait_for_more(d, deadline))
			d->left = 0;
	if (d->left > 0)
	{
		d->shard = d->claim->shard;
		d->at = d->claim->now.scanned_to;
		d->rollbacks = claim_rollbacks();
	}
	MemoryContextSwitchTo(old);
	return d;
}

static Datum
receive_common(FunctionCallInfo fcinfo, bool raw)
{
	FuncCallContext *funcctx;
	Delivery *d;
	ReaderEvent event;

	if (SRF_IS_FIRSTCALL())
		(void) begin_receive(fcinfo, raw);
	funcctx = SRF_PERCALL_SETUP();
	d = funcctx->user_fctx;
	if (next_event(d, &event))
	{
		int32 deliveries = deliveries_of(d, &event);
		RowTail tail = row_tail_int4(&deliveries);

		d->left--;
		SRF_RETURN_NEXT(
			funcctx, row_form(&d->headers, d->log->name, d->claim->shard, &event, d->raw, &tail));
	}
	UnregisterExprContextCallback(((ReturnSetInfo *) fcinfo->resultinfo)->econtext, close_delivery,
								  PointerGetDatum(d));
	close_reader(d);
	SRF_RETURN_DONE(funcctx);
}

/* receive(log, consumer, max_events, wait) */
Datum
netbus_receive(PG_FUNCTION_ARGS)
{
	return receive_common(fcinfo, false);
}

Datum
netbus_receive_raw(PG_FUNCTION_ARGS)
{
	return receive_common(fcinfo, true);
}
