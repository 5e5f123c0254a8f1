/*-------------------------------------------------------------------------
 *
 * claim.c
 *		Receiving joins the transaction.
 *
 * A claim is a shard of a consumer that this transaction holds, with what it has
 * been given from it and what it has said of that.  It lasts to the end of the
 * transaction, or of the subtransaction that made it if that is rolled back.
 *
 *	before the commit	rows are inserted that say where the shard will be
 *	commit				the same is stored in the shard's slot; the shard is free
 *	abort				a delivery has failed: it is counted; the shard is free
 *
 * (claim_outcome.c.)  Savepoints: the first change of a claim in a subtransaction notes
 * how it was (a mark), as builders do it.
 *
 * What the filter passes over before anything is delivered is no matter of the
 * transaction: the position moves at once, in shared memory only, and is written
 * with the next row.
 *
 * Whose fault is it?  A delivery that fails says nothing of which event it was. So
 * when a batch has failed max_deliveries times its events are delivered one by one
 * (receive.c), and one that fails alone is set aside.  "Alone" means that the
 * transaction was given nothing else, of any consumer.
 *
 * The worker does what must last although the transaction does not: record that a
 * delivery is made again, and set an event aside.  A holder asks for it in the slot
 * and waits; while the worker is at it the shard stays busy, also if the holder goes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/claim_internal.h"
#include "bus/hold.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

/* How often one who waits for a shard looks by himself. */
#define LOOK_MS 100

/* A consumer whose shards are all ours, and that nobody else may claim. */
typedef struct Exclusive
{
	struct Exclusive *next;
	ConsumerShared *shared;
	int level;
} Exclusive;

/* A consumer that was asked for events. */
typedef struct Received
{
	struct Received *next;
	uint64 id;
} Received;

static Claim *claims = NULL;
static Received *received = NULL;
static Exclusive *exclusives = NULL;
static ConsumerDatabase *database = NULL; /* if there are claims */
static bool ended = false;                /* it is too late for more */
static uint32 rollbacks = 0;              /* to savepoints, of all transactions */

/* ------------------------------------------------------------- claiming */

void
claim_check_may(void)
{
	if (ended)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot receive while the transaction is being committed")));
}

/* Does a memory log keep its events for that consumer? */
static inline bool
keeps_events(const NbLog *log, ConsumerShared *shared)
{
	return !nb_log_durable(log) && pg_atomic_read_u64(&shared->hold) != 0;
}

/* Does somebody else want all shards? */
static inline bool
others_excluded(ConsumerShared *shared)
{
	uint32 who = pg_atomic_read_u32(&shared->exclusive);

	return who != 0 && who != NB_MY_PROCNO + 1;
}

Claim *
claim_take(const Consumer *consumer, NbLog *log, int shard)
{
	ConsumerShared *shared = consumer->shared;
	ConsumerShard *slot = &shared->shard[shard];
	Claim *claim;
	bool free;

	claim_check_may();
	if (others_excluded(shared) || slot->holder >= 0)
		return NULL;
	database = consumer_database();
	claim = MemoryContextAllocZero(TopTransactionContext, sizeof(Claim));
	/* Who wants all shards looks at the holders, under the lock, after he has said so. */
	SpinLockAcquire(&slot->lock);
	free = slot->holder < 0 && slot->request == REQUEST_NONE && !others_excluded(shared) &&
		   pg_atomic_read_u64(&shared->id) == consumer->id &&
		   pg_atomic_read_u32(&shared->dropped) == 0;
	if (free)
	{
		slot->holder = NB_MY_PROCNO;
		slot->holder_pid = MyProcPid;
		slot->held_since = nb_now_us();
	}
	SpinLockRelease(&slot->lock);
	if (!free)
	{
		pfree(claim);
		return NULL;
	}

	claim->consumer = *consumer;
	claim->consumer.filter = NULL;
	claim->log = log;
	claim->shared = shared;
	claim->slot = slot;
	claim->shard = shard;
	claim->level = GetCurrentTransactionNestLevel();
	claim->base = slot->position;
	claim->now.scanned_to = claim->now.delivered_to = claim->now.acked_to = slot->position;
	nb_log_pin(log);
	claim->next = claims;
	claims = claim;
	/* From here on an error releases it. */
	claim->retries = consumer_retries(slot);
	return claim;
}

/* Tell the ring how far the consumer is; its position moves also when nothing is delivered. */
static void
move_hold(Claim *claim)
{
	Ring *ring = log_ring(claim->log->shared, claim->shard);

	if (!keeps_events(claim->log, claim->shared))
		return;
	(void) ring_set_hold(ring, claim->consumer.id, hold_from(claim->slot));
	/* Somebody may have ended the hold meanwhile. */
	if (!keeps_events(claim->log, claim->shared))
		(void) ring_set_hold(ring, claim->consumer.id, PG_UINT64_MAX);
}

/* Make the shard free; what is in it is true.  Cannot fail. */
static void
free_slot(Claim *claim)
{
	ConsumerShard *slot = claim->slot;

	move_hold(claim);
	SpinLockAcquire(&slot->lock);
	if (slot->request != REQUEST_NONE && slot->request_state != REQUEST_TAKEN)
		slot->request = REQUEST_NONE;
	slot->holder = -1;
	SpinLockRelease(&slot->lock);
	nb_log_unpin(claim->log);
}

/* Cannot fail. */
static void
unlink_claim(Claim *claim)
{
	Claim **link = &claims;

	while (*link != claim)
		link = &(*link)->next;
	*link = claim->next;
}

void
claim_release(Claim *claim)
{
	Assert(claim->now.events == 0 && claim->now.retries == 0);
	unlink_claim(claim);
	free_slot(claim);
	consumer_wake_one(claim->shared);
}

/* Does anybody hold a shard, or is the worker busy with one? */
static bool
all_free(ConsumerShared *shared, int *pid)
{
	for (int i = 0; i < shared->shards; i++)
	{
		ConsumerShard *slot = &shared->shard[i];
		bool is_free;

		SpinLockAcquire(&slot->lock);
		is_free = slot->holder < 0 && slot->request == REQUEST_NONE;
		*pid = slot->holder >= 0 ? slot->holder_pid : 0;
		SpinLockRelease(&slot->lock);
		if (!is_free)
			return false;
	}
	return true;
}

/* Let others claim again where we were alone, from a nesting level on.  Cannot fail. */
static void
give_back_exclusives(int level)
{
	for (Exclusive **link = &exclusives; *link;)
	{
		ConsumerShared *shared = (*link)->shared;
		uint32 me = NB_MY_PROCNO + 1;

		if ((*link)->level < level)
		{
			link = &(*link)->next;
			continue;
		}
		*link = (*link)->next;
		nb_waiters_remove(consumer_waiters(shared));
		(void) pg_atomic_compare_exchange_u32(&shared->exclusive, &me, 0);
		consumer_wake_all(shared);
	}
}

static void
in_use(const Consumer *consumer, const NbLog *log, int pid)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_IN_USE),
		 errmsg("consumer \"%s\" of log \"%s\" is in use", NameStr(consumer->key.name), log->name),
		 pid != 0 ? errdetail("Process %d has received from it and is still at work.", pid)
				  : errdetail("Another process is about to change it."),
		 errhint("Try again, or raise netbus.wait_timeout.")));
}

/* Keep others from claiming, and wait until the last one has let go. */
static void
exclude_others(const Consumer *consumer, const NbLog *log)
{
	ConsumerShared *shared = consumer->shared;
	int64 deadline = nb_now_us() + (int64) nb_wait_timeout * 1000;
	Exclusive *mine = MemoryContextAllocZero(TopTransactionContext, sizeof(Exclusive));
	bool alone = false;

	mine->shared = shared;
	mine->level = GetCurrentTransactionNestLevel();
	for (;;)
	{
		int64 left = deadline - nb_now_us();
		uint32 nobody = 0;
		int pid = 0;

		CHECK_FOR_INTERRUPTS();
		if (!alone && pg_atomic_compare_exchange_u32(&shared->exclusive, &nobody, NB_MY_PROCNO + 1))
		{
			alone = true;
			mine->next = exclusives;
			exclusives = mine;
		}
		if (alone)
		{
			nb_waiters_add(consumer_waiters(shared));
			if (all_free(shared, &pid))
				break;
		}
		if (left <= 0)
			in_use(consumer, log, pid);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min((left + 999) / 1000, LOOK_MS), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	nb_waiters_remove(consumer_waiters(shared));
}

void
claim_take_all(const Consumer *consumer, NbLog *log)
{
	ConsumerShared *shared = consumer->shared;

	claim_check_may();
	for (Claim *c = claims; c; c = c->next)
		if (c->shared == shared)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("consumer \"%s\" of log \"%s\" is in use by this transaction",
								   NameStr(consumer->key.name), log->name),
							errhint("Commit first.")));
	exclude_others(consumer, log);
	for (int i = 0; i < shared->shards; i++)
		if (!claim_take(consumer, log, i))
			in_use(consumer, log, 0);
}

Claim *
claim_first(void)
{
	return claims;
}

Claim *
claim_find(uint64 id, int shard)
{
	for (Claim *c = claims; c; c = c->next)
		if (c->consumer.id == id && c->shard == shard)
			return c;
	return NULL;
}

uint32
claim_rollbacks(void)
{
	return rollbacks;
}

void
claim_note_receive(uint64 id)
{
	Received *r;

	claim_check_may();
	if (claim_received(id))
		return;
	r = MemoryContextAlloc(TopTransactionContext, sizeof(Received));
	r->id = id;
	r->next = received;
	received = r;
}

bool
claim_received(uint64 id)
{
	for (Received *r = received; r; r = r->next)
		if (r->id == id)
			return true;
	return false;
}

uint64
claim_delivered(void)
{
	return claim_events;
}

bool
claim_may_deliver(void)
{
	for (Claim *c = claims; c; c = c->next)
		if (c->now.single)
			return false;
	return true;
}

bool
claim_keeps_events(const NbLog *log, int shard)
{
	for (Claim *c = claims; c; c = c->next)
		if (c->log == log && c->shard == shard && keeps_events(log, c->shared))
			return true;
	return false;
}

void
claim_precommit(void)
{
	ended = true;
	for (Claim *claim = claims; claim; claim = claim->next)
	{
		claim_settle(claim);
		claim_insert_rows(claim);
	}
}

void
claim_check_prepare(void)
{
	if (claims || claim_has_actions())
		ereport(
			ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg(
				 "cannot PREPARE a transaction that has received from a consumer or changed one")));
}

void
claim_xact_end(bool commit)
{
	bool alone = claim_events == 1;
	Claim *claim;

	ended = false;
	received = NULL;
	claim_events = 0;
	while ((claim = claims) != NULL)
	{
		claims = claim->next;
		if (commit)
			claim_commit(claim);
		else
			claim_abort(claim, alone);
		debug_point_noerror("release");
		free_slot(claim);
		consumer_wake_one(claim->shared);
	}
	claim_actions_end(commit);
	give_back_exclusives(0);
}

void
claim_subxact_end(int level, bool commit)
{
	bool alone = claim_events == 1;
	Claim *next;

	rollbacks += !commit;
	for (Claim *claim = claims; claim; claim = next)
	{
		next = claim->next;
		if (commit)
		{
			ClaimMark *last = claim->nmarks > 0 ? &claim->marks[claim->nmarks - 1] : NULL;

			claim->level = Min(claim->level, level - 1);
			if (last && last->level >= level)
			{
				last->level = level - 1;
				/* The parent has a mark of its own, or made the claim. */
				if ((claim->nmarks > 1 && last[-1].level >= last->level) ||
					claim->level >= last->level)
					claim->nmarks--;
			}
			continue;
		}
		if (claim->level >= level)
		{
			unlink_claim(claim);
			claim_abort(claim, alone);
			claim_events -= claim->now.events + claim->now.retries;
			free_slot(claim);
			consumer_wake_one(claim->shared);
			continue;
		}
		while (claim->nmarks > 0 && claim->marks[claim->nmarks - 1].level >= level)
			claim_undo_to(claim, &claim->marks[--claim->nmarks].before, alone);
	}
	claim_actions_subxact_end(level, commit);
	if (!commit)
		give_back_exclusives(level);
	for (Exclusive *e = exclusives; e; e = e->next)
		e->level = Min(e->level, level - 1);
}

/* ---------------------------------------------------------- the worker's help */

/* Take back what the worker has not begun.  False: it has. */
static bool
end_request(ConsumerShard *slot, ConsumerRequestState *state, bool give_up)
{
	bool over;

	SpinLockAcquire(&slot->lock);
	*state = slot->request_state;
	over =
		*state == REQUEST_DONE || *state == REQUEST_FAILED || (give_up && *state == REQUEST_OPEN);
	if (over)
		slot->request = REQUEST_NONE;
	SpinLockRelease(&slot->lock);
	return over;
}

static void
worker_is_late(const Claim *claim)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("could not record that events of log \"%s\" are delivered again", claim->log->name),
		 errdetail("The worker of this database did not do it within %d ms, the value of "
				   "netbus.wait_timeout.",
				   nb_wait_timeout),
		 errhint("The view netbus.stat_worker tells its state and last error.")));
}

static void
wait_for_worker(int64 deadline)
{
	int64 left = Max(deadline - nb_now_us(), 0);

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Min((left + 999) / 1000, LOOK_MS), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

bool
claim_request(Claim *claim, ConsumerRequest request, uint64 seq, ConsumerFailure failure)
{
	ConsumerShard *slot = claim->slot;
	int64 deadline = nb_now_us() + (int64) nb_wait_timeout * 1000;
	ConsumerRequestState state;

	SpinLockAcquire(&slot->lock);
	slot->request_seq = seq;
	slot->request_failure = failure;
	slot->request_state = REQUEST_OPEN;
	slot->request = request;
	SpinLockRelease(&slot->lock);
	pg_atomic_write_u32(&database->requests, 1);
	nb_worker_wake(MyDatabaseId);

	while (!end_request(slot, &state, false))
	{
		if (nb_now_us() >= deadline)
		{
			(void) end_request(slot, &state, true);
			worker_is_late(claim);
		}
		wait_for_worker(deadline);
	}
	return state == REQUEST_DONE;
}

void
claim_settle_slow(Claim *claim)
{
	int64 deadline = nb_now_us() + (int64) nb_wait_timeout * 1000;
	ConsumerRequestState state;

	while (!end_request(claim->slot, &state, true))
	{
		if (nb_now_us() >= deadline)
			worker_is_late(claim);
		wait_for_worker(deadline);
	}
	claim_moved(claim);
}

void
claim_moved(Claim *claim)
{
	claim->base = claim->slot->position;
	for (int i = 0; i <= claim->nmarks; i++)
	{
		ClaimProgress *p = i < claim->nmarks ? &claim->marks[i].before : &claim->now;

		if (p->seek)
			continue;
		p->scanned_to = Max(p->scanned_to, claim->base);
		p->delivered_to = Max(p->delivered_to, claim->base);
		p->acked_to = Max(p->acked_to, claim->base);
	}
}
