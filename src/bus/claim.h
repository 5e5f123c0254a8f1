/*-------------------------------------------------------------------------
 *
 * claim.h
 *		What a transaction has of a consumer: the shards it holds, and what it has
 *		received, acknowledged and refused.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_CLAIM_H
#define NETBUS_CLAIM_H

#include "bus/consumer.h"

/* Events from..to of the log were delivered; what was passed over before "from" is counted. */
typedef struct ClaimRun
{
	uint64 from;
	uint64 to;
	uint64 filtered;
	uint64 lost;
} ClaimRun;

/* What is to become of one event, apart from the others.  The last verdict on a seq counts. */
typedef enum VerdictKind
{
	VERDICT_DELIVERED, /* a retry, and nothing said yet */
	VERDICT_ACKED,     /* a retry */
	VERDICT_GONE,      /* a retry whose event is not there any more */
	VERDICT_RELEASE,
	VERDICT_RETRY,
	VERDICT_DEAD, /* is published to the dead-letter log */
} VerdictKind;

typedef struct Verdict
{
	VerdictKind kind;
	bool is_retry;       /* it was delivered as one, not from the log */
	ConsumerRetry retry; /* as it shall be */
} Verdict;

/* What can be rolled back to a savepoint. */
typedef struct ClaimProgress
{
	uint64 scanned_to;   /* everything up to here was looked at */
	uint64 delivered_to; /* last event delivered */
	uint64 acked_to;     /* acknowledged up to here; the position at the claim: nothing */
	uint64 events;       /* delivered, retries not included */
	uint64 retries;      /* retries delivered */
	uint64 acked;        /* events acknowledged */
	uint64 filtered;     /* since the last run */
	uint64 lost;
	uint64 run_to; /* end of the last run */
	int nruns;
	int nverdicts;
	bool recorded; /* the worker has recorded this delivery */
	bool single;   /* an event that must be alone was delivered: the transaction gets no other */
	bool seek;     /* acked_to is where the position goes, backwards or forwards, and retries go */
} ClaimProgress;

typedef struct ClaimMark
{
	int level;
	ClaimProgress before;
} ClaimMark;

/* A shard held.  In TopTransactionContext. */
typedef struct Claim
{
	struct Claim *next;
	Consumer consumer; /* a copy, without the filter */
	NbLog *log;        /* pinned */
	ConsumerShared *shared;
	ConsumerShard *slot;
	ConsumerRetry *retries; /* mapped; NULL: none */
	int shard;
	int level;     /* nesting level of the subtransaction that has made it */
	uint64 base;   /* position at the claim */
	uint64 stored; /* position that will be in rows at commit */
	bool changed;  /* there are rows that become true at commit */
	bool failed;   /* a rollback to a savepoint was counted, and nothing delivered since */
	ClaimProgress now;
	int nmarks;
	int max_marks;
	ClaimMark *marks;
	int max_runs;
	ClaimRun *runs;
	int max_verdicts;
	Verdict *verdicts;
	int nlast;      /* at commit */
	Verdict **last; /* at commit: the verdicts that count, in the order of seq */
} Claim;

/*
 * Claim a shard for this transaction.  NULL: somebody has it, the worker is busy
 * with it, or the consumer is being dropped.  May fail, claiming nothing.
 */
extern Claim *claim_take(const Consumer *consumer, NbLog *log, int shard);

/* Let go of a shard from which nothing was delivered. */
extern void claim_release(Claim *claim);

/*
 * Claim all shards, waiting up to netbus.wait_timeout for those who have them and
 * keeping others from claiming.  Errors: OBJECT_IN_USE; OBJECT_NOT_IN_PREREQUISITE_STATE
 * if this transaction has received from the consumer.
 */
extern void claim_take_all(const Consumer *consumer, NbLog *log);

/* This transaction's claims, newest first. */
extern Claim *claim_first(void);
extern Claim *claim_find(uint64 id, int shard);

/* Counts rollbacks to savepoints: claims may be gone since. */
extern uint32 claim_rollbacks(void);

/* Note that a consumer was asked for events; was it, in this transaction? */
extern void claim_note_receive(uint64 id);
extern bool claim_received(uint64 id);

/* Events that this transaction has been given, of all consumers; and may it be given more? */
extern uint64 claim_delivered(void);
extern bool claim_may_deliver(void);

/* Events passed over by the filter that are worth a row, lest a restart goes over them again. */
#define CLAIM_SKIP_ROW_EVENTS 10000

/* Before a change to claim->now: remember what a savepoint needs. */
extern void claim_touch(Claim *claim);

/* Note an event that is about to be delivered from the log. */
extern void claim_note_event(Claim *claim, uint64 seq);

/* The verdict on a seq; NULL: none.  Valid until the next one is added. */
extern Verdict *claim_verdict(Claim *claim, uint64 seq);
extern Verdict *claim_add_verdict(Claim *claim, VerdictKind kind, const ConsumerRetry *retry,
								  bool is_retry);

/* Was that event delivered from the log? */
extern bool claim_has_event(const Claim *claim, uint64 seq);

/* How many events of the log are acknowledged if that is done up to a seq? */
extern uint64 claim_count_events(const Claim *claim, uint64 to_seq);

/* Nothing was delivered, and nothing is left up to seq: take note at once, whatever becomes of the transaction. */
extern void claim_skip(Claim *claim, uint64 to_seq, uint64 filtered, uint64 lost);

/*
 * Ask the worker for something that must last, and wait for it, at most
 * netbus.wait_timeout.  False: it could not do it.  Errors: when the time is up.
 */
extern bool claim_request(Claim *claim, ConsumerRequest request, uint64 seq,
						  ConsumerFailure failure);

/*
 * Before a claim is used again: a wait for the worker may have ended with an error that
 * a savepoint has caught, and the worker still be at it.  Waits for it, at most
 * netbus.wait_timeout.
 */
extern void claim_settle_slow(Claim *claim);

static inline void
claim_settle(Claim *claim)
{
	if (unlikely(claim->slot->request != REQUEST_NONE))
		claim_settle_slow(claim);
}

/* The worker may have moved the position: nothing was delivered, at any savepoint. */
extern void claim_moved(Claim *claim);

/*
 * What a statement does to a consumer when it commits: pause, resume, drop, change
 * of hold.  May fail now, but not then.
 */
typedef enum ConsumerAction
{
	ACTION_CREATE,
	ACTION_PAUSE,
	ACTION_RESUME,
	ACTION_DROP,
	ACTION_HOLD,
} ConsumerAction;

extern void claim_add_action(ConsumerAction action, const Consumer *consumer, NbLog *log);

/* Does this transaction hold a shard of a consumer that keeps events in that ring? */
extern bool claim_keeps_events(const NbLog *log, int shard);

/* Called by publisher.c, which has the callbacks of the transaction. */
extern void claim_precommit(void);
extern void claim_check_prepare(void);
extern void claim_xact_end(bool commit);
extern void claim_subxact_end(int level, bool commit);

#endif /* NETBUS_CLAIM_H */
