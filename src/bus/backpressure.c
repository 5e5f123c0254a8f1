/*-------------------------------------------------------------------------
 *
 * backpressure.c
 *		What a publisher does when the ring has no room.
 *
 * A ring is full when its oldest frame must stay: its transaction is not
 * resolved, or the worker has not persisted it.  All waiting is done in
 * publish(), before anything is claimed, so that nobody waits for somebody who
 * waits; a transaction waits for as much room as it will need, at most a
 * quarter of the ring, which is also the most that a claim takes.  When it
 * claims, others may have been faster: then frames of a durable log go by way of
 * the table, and those of a memory log by policy.
 *
 * Who must not wait for the worker: a transaction that holds a lock which
 * keeps the worker from inserting rows, for instance because it has created
 * the log.
 *
 * Waiters are the ring's "room"; publishers count themselves in ring->blocked,
 * which tells resolvers to wake them and the worker to make haste.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/backpressure.h"
#include "bus/claim.h"

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/rel.h"
#include "utils/wait_event.h"

#define AGAIN_MS     10  /* before a claim that found less room than it seemed is tried again */
#define LOCK_LOOK_MS 200 /* how often a waiter looks whether he is in the worker's way */

/* The ring that this process waits for, NULL: none. */
static Ring *waiting_for = NULL;
static int64 waiting_since;

void
backpressure_end_wait(void)
{
	if (likely(!waiting_for))
		return;
	nb_waiters_remove(ring_room(waiting_for));
	pg_atomic_fetch_sub_u32(&waiting_for->blocked, 1);
	ring_count_blocked(waiting_for, Max(0, nb_now_us() - waiting_since));
	waiting_for = NULL;
}

/* Is anybody waiting for a lock on a table? */
static bool
lock_has_waiters(Oid relid)
{
	LockData *data = GetLockStatusData();
	bool found = false;

	for (int i = 0; i < data->nelements && !found; i++)
	{
		LockInstanceData *lock = &data->locks[i];

		found = lock->locktag.locktag_type == LOCKTAG_RELATION &&
				lock->locktag.locktag_field1 == MyDatabaseId &&
				lock->locktag.locktag_field2 == relid && lock->waitLockMode != NoLock;
	}
	pfree(data->locks);
	pfree(data);
	return found;
}

/*
 * Does this transaction hold a lock that keeps the worker out, or, as we hold
 * one, is somebody waiting behind whom the worker would have to queue?
 */
static bool
keeps_worker_out(NbLog *log)
{
	for (int i = -1; i < log->ntables; i++)
	{
		Relation rel = RelationIdGetRelation(i < 0 ? log->relid : log->tables[i]);
		bool locked;

		if (!RelationIsValid(rel))
			return true;
		locked = CheckRelationLockedByMe(rel, ShareLock, true);
		RelationClose(rel);
		if (locked)
			return true;
	}
	return lock_has_waiters(log->relid);
}

static void
log_full(const BuilderLimits *limits, bool waited)
{
	bool async = limits->log->options.durability == LOG_ASYNC;

	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_RESOURCES), errmsg("log \"%s\" is full", limits->log->name),
		 waited && !keeps_worker_out(limits->log)
			 ? errdetail("Waited %d ms for room, the value of netbus.wait_timeout.",
						 nb_wait_timeout)
		 : async
			 ? errdetail("The oldest events of its ring are not persisted yet.")
			 : errdetail(
				   "A transaction that is still being committed keeps the oldest events of its ring."),
		 async
			 ? errhint(
				   "The view netbus.stat_worker tells whether the worker can persist them; else raise the log's ring_size.")
			 : errhint("Try again, or raise the log's ring_size.")));
}

/*
 * Wait until the ring has room, or what looks like it: the pad that a claim at
 * the ring's end needs is allowed for.  False: time is up, or waiting makes no
 * sense.  *deadline is kept if it is not 0.
 */
static bool
wait_for_room(const BuilderLimits *limits, Ring *ring, uint64 bytes, int64 *deadline)
{
	bool behind = ring->backing == RING_WRITE_BEHIND;
	bool lock_timeout = LockTimeout > 0 && LockTimeout < nb_wait_timeout;
	bool again = *deadline != 0; /* there looked to be room before: sleep at least once */
	int64 look_at = 0;
	bool ready;

	if (!again)
		*deadline = nb_now_us() + (int64) (lock_timeout ? LockTimeout : nb_wait_timeout) * 1000;
	bytes += Min(bytes, ring->max_frame);

	backpressure_end_wait();
	waiting_since = nb_now_us();
	waiting_for = ring;
	pg_atomic_fetch_add_u32(&ring->blocked, 1);
	for (;;)
	{
		int64 left = *deadline - nb_now_us();

		CHECK_FOR_INTERRUPTS();
		nb_waiters_add(ring_room(ring));
		ready = !again && ring_free(ring, limits->claim_flags) >= bytes;
		if (ready || left <= 0)
			break;
		if (behind && nb_now_us() >= look_at)
		{
			if (keeps_worker_out(limits->log))
			{
				lock_timeout = false;
				break;
			}
			look_at = nb_now_us() + LOCK_LOOK_MS * INT64CONST(1000);
		}
		if (behind)
			nb_log_notice(limits->log, LOG_WORK | LOG_URGENT);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min((left + 999) / 1000, again ? AGAIN_MS : LOCK_LOOK_MS),
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		again = false;
	}
	backpressure_end_wait();
	if (!ready && lock_timeout)
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("canceling statement due to lock timeout"),
						errdetail("Log \"%s\" is full.", limits->log->name)));
	return ready;
}

void
backpressure_wait(const BuilderLimits *limits, int shard, uint64 bytes)
{
	Ring *ring = log_ring(limits->log->shared, shard);
	int64 deadline = 0;

	bytes = Min(bytes, ring->size / 4);
	if (likely(ring_free(ring, limits->claim_flags) >= bytes))
		return;
	if (limits->log->options.backpressure == LOG_FAIL)
	{
		ring_reject(ring, 1, false);
		log_full(limits, false);
	}
	/* Who has not acknowledged yet what fills the ring would wait for himself. */
	if (!claim_keeps_events(limits->log, shard) && wait_for_room(limits, ring, bytes, &deadline))
		return;
	/* What cannot wait for the worker goes by way of the table. */
	if (ring->backing == RING_WRITE_BEHIND && limits->transactional &&
		keeps_worker_out(limits->log))
		return;
	ring_reject(ring, 1, false);
	log_full(limits, deadline != 0);
}

bool
backpressure_admit(const BuilderLimits *limits, int shard, uint64 bytes)
{
	Ring *ring = log_ring(limits->log->shared, shard);
	uint64 room = ring_free(ring, limits->claim_flags);

	/* What a transaction has beyond that goes by way of the table. */
	if (limits->claim_flags & RING_TO_TABLE)
		bytes = Min(bytes, ring->size / 4);

	if (limits->log->options.backpressure == LOG_SAMPLE && room < ring->size / 2 + bytes &&
		pg_prng_double(&pg_global_prng_state) >= limits->log->options.sample_rate)
	{
		ring_reject(ring, 1, true);
		return false;
	}
	if (likely(room >= bytes && bytes <= limits->max_bytes))
		return true;
	ring_reject(ring, 1, false);
	if (ring->backing == RING_WRITE_BEHIND)
		nb_log_notice(limits->log, LOG_WORK | LOG_URGENT);
	return false;
}

bool
backpressure_full(const BuilderLimits *limits, int shard, uint64 bytes, uint64 events,
				  int64 *deadline)
{
	Ring *ring = log_ring(limits->log->shared, shard);

	/* Nothing waits once it is too late to hold no claim. */
	if (limits->log->options.backpressure == LOG_BLOCK && !limits->transactional &&
		!claim_keeps_events(limits->log, shard) && wait_for_room(limits, ring, bytes, deadline))
		return true;
	ring_reject(ring, events, false);
	if (!limits->policed)
		log_full(limits, !limits->transactional && limits->log->options.backpressure == LOG_BLOCK);
	return false;
}
