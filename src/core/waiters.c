/*-------------------------------------------------------------------------
 *
 * waiters.c
 *		A set of sleeping processes in shared memory, without a lock.
 *
 * The set is one bit a process, found by its index in ProcGlobal->allProcs,
 * and a flag "sleeping" that keeps the waker's usual case, nobody sleeps, at
 * one load. Use it like this:
 *
 *	sleeper									waker
 *	  for (;;)								  make the condition true
 *		  ResetLatch(MyLatch)				  nb_waiters_wake()
 *		  nb_waiters_add()
 *		  if condition: break
 *		  WaitLatch(MyLatch)
 *	  nb_waiters_remove()
 *
 * Waking empties the set, so a sleeper adds itself anew each time round.
 *
 * Why no wake-up is lost.
 *
 *	Sleeper:	S1 set own bit		S2 sleeping = 1			S3 look at the condition
 *	Waker:		W1 condition true	W2 look at sleeping		W3 sleeping = 0		W4 take the bits
 *
 * S1, S2 and W3 are atomic read-modify-writes and thus full barriers, and W1
 * and W2 have one between them. So everybody sees the steps of one process in
 * that order; and where one side writes x then reads y while the other writes
 * y then reads x, at least one of them reads what the other wrote.
 *
 * - Sleeper and one waker. If W2 sees 0, then S2 comes after W2, hence after
 *	 W1, and S3 sees the condition true. If W2 sees 1, the waker goes on:
 *	 either S1 comes before W4, and the bit is taken and the latch set; or S1,
 *	 and S3 behind it, come after W4 and so after W1, and S3 sees the condition.
 *
 * - A waker that clears the flag while a sleeper adds itself must leave either
 *	 the flag or no bit behind. If S2 comes before W3, then so does S1, and W4
 *	 takes the bit. If S2 comes after W3, the flag stays 1 whether or not W4
 *	 still takes the bit: at worst the next waker looks in vain. This is why
 *	 the sleeper sets its bit first, and the waker clears the flag first.
 *
 * - Two wakers. The second may see 0 at W2 because the first has cleared the
 *	 flag but not taken our bit yet. The first will: nothing between W3 and the
 *	 end of W4 can fail. We then wake, and look at the condition again; if that
 *	 is still before the second waker's W1, we have added ourselves anew before
 *	 looking, and the first case says that one of us sees the other: its W2 saw
 *	 0 before our new S2, so its W1 is before our new S3.
 *
 * - A waker that takes one bit only leaves the flag, for there may be others. When
 *	 it finds no bit it clears the flag and looks once more, as above; what it
 *	 takes then, it may have cleared the flag for others, too: it sets it again.
 *
 * A bit of a process that is gone or has stopped waiting costs some process a
 * spurious wake-up, which every user of a latch must expect anyway.
 *
 *-------------------------------------------------------------------------
 */
#include "core/core.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/latch.h"

static inline uint32
waiters_words(void)
{
	return (MaxBackends + NUM_AUXILIARY_PROCS + 63) / 64;
}

Size
nb_waiters_size(void)
{
	return offsetof(NbWaiters, bits) + waiters_words() * sizeof(pg_atomic_uint64);
}

void
nb_waiters_init(NbWaiters *waiters)
{
	waiters->words = waiters_words();
	pg_atomic_init_u32(&waiters->sleeping, 0);
	for (uint32 i = 0; i < waiters->words; i++)
		pg_atomic_init_u64(&waiters->bits[i], 0);
}

void
nb_waiters_add(NbWaiters *waiters)
{
	uint32 procno = NB_MY_PROCNO;

	Assert(procno / 64 < waiters->words);

	pg_atomic_fetch_or_u64(&waiters->bits[procno / 64], UINT64CONST(1) << (procno % 64));
	pg_atomic_exchange_u32(&waiters->sleeping, 1);
}

/*
 * Leaves the flag alone: whether others sleep is not ours to say.
 */
void
nb_waiters_remove(NbWaiters *waiters)
{
	uint32 procno = NB_MY_PROCNO;

	pg_atomic_fetch_and_u64(&waiters->bits[procno / 64], ~(UINT64CONST(1) << (procno % 64)));
}

int
nb_waiters_wake_slow(NbWaiters *waiters)
{
	int woken = 0;

	if (pg_atomic_exchange_u32(&waiters->sleeping, 0) == 0)
		return 0; /* another waker is at it */

	for (uint32 i = 0; i < waiters->words; i++)
	{
		uint64 bits;

		/* Most words are empty: reading first leaves their cache line shared. */
		if (pg_atomic_read_u64(&waiters->bits[i]) == 0)
			continue;

		bits = pg_atomic_exchange_u64(&waiters->bits[i], 0);
		while (bits != 0)
		{
			uint32 procno = i * 64 + pg_rightmost_one_pos64(bits);

			bits &= bits - 1;
			SetLatch(&ProcGlobal->allProcs[procno].procLatch);
			woken++;
		}
	}
	return woken;
}

/* Take the first bit there is.  False: none. */
static bool
wake_first(NbWaiters *waiters)
{
	for (uint32 i = 0; i < waiters->words; i++)
	{
		uint64 bits;

		while ((bits = pg_atomic_read_u64(&waiters->bits[i])) != 0)
		{
			int n = pg_rightmost_one_pos64(bits);
			uint64 mask = UINT64CONST(1) << n;

			if ((pg_atomic_fetch_and_u64(&waiters->bits[i], ~mask) & mask) == 0)
				continue; /* another waker has it */
			SetLatch(&ProcGlobal->allProcs[i * 64 + n].procLatch);
			return true;
		}
	}
	return false;
}

int
nb_waiters_wake_one(NbWaiters *waiters)
{
	pg_memory_barrier();
	if (likely(pg_atomic_read_u32(&waiters->sleeping) == 0))
		return 0;
	if (wake_first(waiters))
		return 1;
	pg_atomic_exchange_u32(&waiters->sleeping, 0);
	if (!wake_first(waiters))
		return 0;
	pg_atomic_exchange_u32(&waiters->sleeping, 1);
	return 1;
}
