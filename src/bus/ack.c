/*-------------------------------------------------------------------------
 *
 * ack.c
 *		ack and nack in SQL: what a transaction says of what it has received.
 *
 * Both only take note (claim_outcome.c); what they say becomes true at commit.  A
 * refused event that is to go to the dead-letter log is published there at once, which
 * also waits for the commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/claim.h"
#include "bus/reader.h"
#include "bus/rows.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(netbus_ack);
PG_FUNCTION_INFO_V1(netbus_nack);

/* The consumer of a call that needs a receive() before it in the same transaction. */
static Consumer *
received_consumer(FunctionCallInfo fcinfo, NbLog **log)
{
	const char *name = arg_text(fcinfo, 1, "consumer");
	Consumer *consumer;

	*log = nb_log_open(arg_text(fcinfo, 0, "log"), AccessShareLock, ACL_SELECT);
	consumer = consumer_open(*log, name);
	if (!claim_received(consumer->id))
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("nothing was received from consumer \"%s\" of log \"%s\" in this transaction",
					name, (*log)->name),
			 errhint("Call netbus.receive() and this function in one transaction: BEGIN first, or "
					 "turn autocommit off.")));
	return consumer;
}

static void
not_received(const NbLog *log, int shard, int64 seq)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("event %lld of log \"%s\" shard %d was not received in this transaction",
						   (long long) seq, log->name, shard)));
}

/* Acknowledge the retries up to a seq that nothing else was said of.  Returns how many. */
static uint64
ack_retries(Claim *claim, uint64 to_seq)
{
	uint64 events = 0;
	int n = claim->now.nverdicts;

	for (int i = 0; i < n; i++)
	{
		ConsumerRetry retry = claim->verdicts[i].retry;

		if (claim->verdicts[i].kind != VERDICT_DELIVERED || retry.seq > to_seq ||
			claim_verdict(claim, retry.seq)->kind != VERDICT_DELIVERED)
			continue;
		retry.due = CONSUMER_NEVER;
		claim_add_verdict(claim, VERDICT_ACKED, &retry, true);
		events++;
	}
	return events;
}

static uint64
ack_claim(Claim *claim, uint64 to_seq)
{
	uint64 events;

	claim_touch(claim);
	events = ack_retries(claim, to_seq);
	if (to_seq >= claim->now.delivered_to)
		to_seq = claim->now.scanned_to;
	if (to_seq > claim->now.acked_to)
	{
		events += claim_count_events(claim, to_seq);
		claim->now.acked_to = to_seq;
	}
	claim->now.acked += events;
	return events;
}

/* ack(log, consumer, shard, seq) -> events acknowledged */
Datum
netbus_ack(PG_FUNCTION_ARGS)
{
	NbLog *log;
	Consumer *consumer = received_consumer(fcinfo, &log);
	bool every = PG_ARGISNULL(2);
	int shard = every ? 0 : PG_GETARG_INT32(2);
	uint64 to_seq = PG_UINT64_MAX;
	uint64 events = 0;
	bool found = false;

	if (!PG_ARGISNULL(3))
	{
		if (every && log->options.shards > 1)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("log \"%s\" has %d shards: say of which seq is", log->name,
								   log->options.shards),
							errhint("Pass shard => 0 to %d.", log->options.shards - 1)));
		every = false;
		to_seq = PG_GETARG_INT64(3);
		if (PG_GETARG_INT64(3) < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("seq must not be negative")));
	}
	for (Claim *claim = claim_first(); claim; claim = claim->next)
	{
		if (claim->consumer.id != consumer->id || !(every || claim->shard == shard))
			continue;
		found = true;
		claim_settle(claim);
		if (to_seq != PG_UINT64_MAX && to_seq > claim->now.delivered_to &&
			!claim_verdict(claim, to_seq))
			not_received(log, shard, to_seq);
		events += ack_claim(claim, to_seq);
	}
	if (!every && !found)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("nothing of shard %d of log \"%s\" was received in this transaction",
							   shard, log->name)));
	PG_RETURN_INT64(events);
}

/* How an event is refused. */
typedef enum NackMode
{
	NACK_RETRY,
	NACK_RELEASE,
	NACK_POISON,
} NackMode;

static NackMode
nack_mode(FunctionCallInfo fcinfo, int n)
{
	const char *mode;

	if (PG_ARGISNULL(n))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"mode\" must not be null")));
	mode = text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (strcmp(mode, "retry") == 0)
		return NACK_RETRY;
	if (strcmp(mode, "release") == 0)
		return NACK_RELEASE;
	if (strcmp(mode, "poison") == 0)
		return NACK_POISON;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid mode: \"%s\"", mode),
					errhint("Valid modes are \"retry\", \"release\" and \"poison\".")));
}

/* When the event comes again: after "delay", which only a retry can have. */
static int64
nack_due(FunctionCallInfo fcinfo, int n, NackMode mode)
{
	Interval *delay;
	double us;

	if (PG_ARGISNULL(n))
		return nb_now_us();
	if (mode != NACK_RETRY)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("delay goes with mode \"retry\" only")));
	delay = PG_GETARG_INTERVAL_P(n);
	us = (double) delay->time +
		 ((double) delay->day + (double) delay->month * DAYS_PER_MONTH) * USECS_PER_DAY;
	if (us < 0 || us > 1e16)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("delay must not be negative, nor longer than 300 years")));
	return nb_now_us() + (int64) us;
}

/* Publish an event that was delivered to the dead-letter log. */
static void
bury(Claim *claim, const Consumer *consumer, uint64 seq, const char *reason, uint32 attempts)
{
	Reader reader;
	ReaderEvent event;

	reader_open(&reader, claim->log, claim->shard, seq - 1);
	reader.only_one = true;
	if (!reader_next(&reader, 1, &event) || event.seq != seq)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("event %llu of log \"%s\" is not retained any more",
							   (unsigned long long) seq, claim->log->name)));
	dead_letter_publish(consumer, claim->log, claim->shard, &event, reason, attempts);
	reader_close(&reader);
}

/* nack(log, consumer, shard, seq, reason, mode, delay) -> does it come again? */
Datum
netbus_nack(PG_FUNCTION_ARGS)
{
	NbLog *log;
	Consumer *consumer = received_consumer(fcinfo, &log);
	NackMode mode = nack_mode(fcinfo, 5);
	int64 due = nack_due(fcinfo, 6, mode);
	const char *reason = PG_ARGISNULL(4) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(4));
	int shard;
	int64 seq;
	Claim *claim;
	Verdict *former;
	ConsumerRetry retry;
	bool is_retry;
	bool dead;

	if (PG_ARGISNULL(2) || PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", PG_ARGISNULL(2) ? "shard" : "seq")));
	shard = PG_GETARG_INT32(2);
	seq = PG_GETARG_INT64(3);
	claim = claim_find(consumer->id, shard);
	if (claim)
		claim_settle(claim);
	former = claim && seq > 0 ? claim_verdict(claim, seq) : NULL;
	if (!claim || seq <= 0 || !(former || claim_has_event(claim, seq)) ||
		(former && former->kind == VERDICT_GONE))
		not_received(log, shard, seq);
	is_retry = former && former->is_retry;
	if ((former && (former->kind == VERDICT_ACKED || former->kind == VERDICT_DEAD)) ||
		(!is_retry && seq <= claim->now.acked_to))
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("event %lld of log \"%s\" shard %d is %s already", (long long) seq, log->name,
					shard, former && former->kind == VERDICT_DEAD ? "set aside" : "acknowledged")));

	/* How it was before this delivery. */
	memset(&retry, 0, sizeof(retry));
	if (is_retry)
		retry = *consumer_find_retry(claim->slot, claim->retries, seq);
	retry.seq = seq;
	retry.recording = retry.recorded = false;
	if (!is_retry && seq <= claim->slot->failure.failed_to)
		retry.attempts = claim->slot->failure.attempts;
	if (mode != NACK_RELEASE)
		retry.attempts++;
	if (reason[0] != '\0' || !is_retry)
		strlcpy(retry.reason,
				pnstrdup(reason, pg_mbcliplen(reason, strlen(reason), CONSUMER_REASON - 1)),
				CONSUMER_REASON);

	dead = mode == NACK_POISON || (mode == NACK_RETRY && consumer->max_deliveries > 0 &&
								   retry.attempts >= consumer->max_deliveries);
	if (dead && !OidIsValid(consumer->dead_letter_log))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("consumer \"%s\" of log \"%s\" has no dead-letter log",
							   NameStr(consumer->key.name), log->name),
						errhint("Give it one with netbus.alter_consumer().")));
	if (dead)
		bury(claim, consumer, seq, retry.reason[0] != '\0' ? retry.reason : "refused",
			 retry.attempts);

	claim_touch(claim);
	if (!is_retry)
	{
		uint32 reserved = 1;

		for (int i = 0; i < claim->now.nverdicts; i++)
			reserved += !claim->verdicts[i].is_retry;
		consumer_reserve_retries(claim->slot, reserved);
		claim->retries = consumer_retries(claim->slot);
	}
	retry.due = dead ? CONSUMER_NEVER : due;
	retry.alone = false;
	claim_add_verdict(claim,
					  dead                   ? VERDICT_DEAD
					  : mode == NACK_RELEASE ? VERDICT_RELEASE
											 : VERDICT_RETRY,
					  &retry, is_retry);
	PG_RETURN_BOOL(!dead);
}
