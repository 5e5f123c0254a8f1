/*-------------------------------------------------------------------------
 *
 * await.c
 *		Waiting until a model is folded as far as somebody must see.
 *
 * What a query must see is a seq: the highest one committed when it was called.
 * If that is not folded yet the session enters itself into the model's list of
 * waiters, which is ordered by seq; after each step the worker takes off, and
 * wakes, those whose seq is folded, and nobody else.  An entry that an error
 * left behind is removed when the same process waits again, and costs a
 * spurious wake-up at most.
 *
 * Locks: a spinlock for all waiters.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cortex/model.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/wait_event.h"

#define SLOT_POLL_MS 5
#define NO_SLOT_US   500000 /* before a model without a slot counts as one too many */
#define WAKE_BATCH   32

/* A process that waits, at its index in ProcGlobal->allProcs; waiters_lock. */
typedef struct ModelWaiter
{
	int32 slot; /* -1: it is in no list */
	int32 prev;
	int32 next;
	uint64 seq;
} ModelWaiter;

typedef struct WaitersShared
{
	slock_t lock;
	ModelWaiter waiters[FLEXIBLE_ARRAY_MEMBER];
} WaitersShared;

static WaitersShared *waiters = NULL;

#define waiter_at(i) (&waiters->waiters[i])

Size
await_shmem_size(void)
{
	return add_size(offsetof(WaitersShared, waiters),
					mul_size(MaxBackends + NUM_AUXILIARY_PROCS, sizeof(ModelWaiter)));
}

void
await_shmem_init(void)
{
	bool found;

	waiters = ShmemInitStruct("netbus model waiters", await_shmem_size(), &found);
	if (found)
		return;
	SpinLockInit(&waiters->lock);
	for (int i = 0; i < MaxBackends + NUM_AUXILIARY_PROCS; i++)
		waiter_at(i)->slot = -1;
}

static void
unlink_waiter(ModelWaiter *waiter)
{
	ModelSlot *slot = &model_slots()[waiter->slot];

	if (waiter->prev >= 0)
		waiter_at(waiter->prev)->next = waiter->next;
	else
		slot->first_waiter = waiter->next;
	if (waiter->next >= 0)
		waiter_at(waiter->next)->prev = waiter->prev;
	else
		slot->last_waiter = waiter->prev;
	waiter->slot = -1;
	pg_atomic_write_u64(&slot->first_wanted, slot->first_waiter < 0
												 ? PG_UINT64_MAX
												 : waiter_at(slot->first_waiter)->seq);
}

static void
enlist(ModelSlot *slot, uint64 seq)
{
	int me = NB_MY_PROCNO;
	ModelWaiter *waiter = waiter_at(me);
	int32 before;

	SpinLockAcquire(&waiters->lock);
	if (waiter->slot >= 0)
		unlink_waiter(waiter);
	/* Most want what is newest. */
	before = slot->last_waiter;
	while (before >= 0 && waiter_at(before)->seq > seq)
		before = waiter_at(before)->prev;
	waiter->slot = slot - model_slots();
	waiter->seq = seq;
	waiter->prev = before;
	waiter->next = before >= 0 ? waiter_at(before)->next : slot->first_waiter;
	if (waiter->next >= 0)
		waiter_at(waiter->next)->prev = me;
	else
		slot->last_waiter = me;
	if (before >= 0)
		waiter_at(before)->next = me;
	else
		slot->first_waiter = me;
	pg_atomic_write_u64(&slot->first_wanted, waiter_at(slot->first_waiter)->seq);
	SpinLockRelease(&waiters->lock);
	pg_memory_barrier();
}

static void
delist(void)
{
	ModelWaiter *waiter = waiter_at(NB_MY_PROCNO);

	SpinLockAcquire(&waiters->lock);
	if (waiter->slot >= 0)
		unlink_waiter(waiter);
	SpinLockRelease(&waiters->lock);
}

/* Wake those whose seq is folded.  By the worker, after it has written folded_seq. */
void
model_wake(ModelSlot *slot)
{
	uint64 folded = pg_atomic_read_u64(&slot->folded_seq);

	pg_memory_barrier();
	while (pg_atomic_read_u64(&slot->first_wanted) <= folded)
	{
		int woken[WAKE_BATCH];
		int n = 0;

		SpinLockAcquire(&waiters->lock);
		while (n < WAKE_BATCH && slot->first_waiter >= 0 &&
			   waiter_at(slot->first_waiter)->seq <= folded)
		{
			woken[n++] = slot->first_waiter;
			unlink_waiter(waiter_at(slot->first_waiter));
		}
		SpinLockRelease(&waiters->lock);
		for (int i = 0; i < n; i++)
			SetLatch(&ProcGlobal->allProcs[woken[i]].procLatch);
	}
}

static inline bool
is_folded(ModelSlot *slot, uint64 seq)
{
	return pg_atomic_read_u32(&slot->phase) == MODEL_READY &&
		   pg_atomic_read_u64(&slot->folded_seq) >= seq;
}

/*
 * We have a lock on the model's log.  If the worker gets none, and needs it to read rows,
 * somebody waits for a stronger one, hence for us, and we wait for the worker: PostgreSQL
 * cannot know that.
 */
static void
check_deadlock(Model *model, uint32 *refused, int64 *refused_at)
{
	uint32 now_refused = pg_atomic_read_u32(&model->slot->refused);

	if (now_refused <= *refused)
	{
		*refused = now_refused;
		*refused_at = 0;
	}
	else if (*refused_at == 0)
		*refused_at = nb_now_us();
	else if (nb_now_us() >= *refused_at + (int64) DeadlockTimeout * 1000)
		ereport(
			ERROR,
			(errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
			 errmsg("model \"%s\" of %s cannot be folded while another session waits for this "
					"one's lock on its log",
					model->name, model->kind->name),
			 errdetail("This session waits until it is folded, and the worker for the other one."),
			 errhint("The other one drops the model, or changes the log's table. Try again.")));
}

bool
model_wait(Model *model, uint64 seq, int64 deadline)
{
	int64 start = nb_now_us();
	uint32 refused = PG_UINT32_MAX; /* what is from before we came does not count */
	int64 refused_at = 0;
	bool called = false;
	bool done;

	for (;;)
	{
		int64 left = deadline - nb_now_us();
		bool known = model_has_slot(model);

		if (known)
			enlist(model->slot, seq);
		done = known && is_folded(model->slot, seq);
		if (done || left <= 0)
			break;
		if (!known && nb_now_us() > start + NO_SLOT_US && !model_has_free_slot())
			model_slots_exhausted();
		if (known)
			check_deadlock(model, &refused, &refused_at);
		if (!called)
		{
			/* Perhaps it does not know the model, as after pg_restore. */
			if (!known)
				model_note_change();
			else
				nb_worker_wake(MyDatabaseId);
			called = true;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 known ? Min((left + 999) / 1000, 1000) : SLOT_POLL_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	delist();
	return done;
}

uint64
model_committed_seq(Model *model)
{
	Ring *ring = log_ring(model->log->shared, 0);

	if (!nb_log_live(model->log))
		return 0; /* a copy: what its worker has seen has to do */
	/* One load, if nothing is new. */
	if (model->slot &&
		pg_atomic_read_u64(&model->slot->folded_seq) >= *(volatile uint64 *) &ring->next_seq - 1)
		return 0;
	return ring_committed_seq(ring);
}

/* Has this transaction created it?  Then nobody folds it yet. */
static bool
is_new(Model *model)
{
	if (likely(!TransactionIdIsValid(model->creator)))
		return false;
	if (TransactionIdIsCurrentTransactionId(model->creator))
		return true;
	model->creator = InvalidTransactionId;
	return false;
}

bool
model_await(Model *model)
{
	uint64 seq = 0;

	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("models are not folded on a standby"),
						errhint("Ask the primary, or read the model's log.")));
	if (is_new(model))
		return false;
	(void) model_has_slot(model);
	if (model_read_consistency == READ_COMMITTED_EVENTS)
		seq = model_committed_seq(model);
	else if (model_read_consistency == READ_SESSION_EVENTS)
		seq = model->session_seq;
	if (likely(model->slot && is_folded(model->slot, seq)))
		return true;
	if (!model_wait(model, seq, nb_now_us() + (int64) nb_wait_timeout * 1000))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 model->slot && pg_atomic_read_u32(&model->slot->phase) == MODEL_READY
					 ? errmsg("model \"%s\" of %s has not been folded up to what is committed",
							  model->name, model->kind->name)
					 : errmsg("model \"%s\" of %s is not ready", model->name, model->kind->name),
				 errdetail("netbus.wait_timeout is %d ms.", nb_wait_timeout),
				 errhint("The views netbus.stat_model and netbus.stat_worker tell what it does.")));
	return true;
}
