/*-------------------------------------------------------------------------
 *
 * ring_hold.c
 *		Readers for whom a ring that has no table keeps what they have not read.
 *
 * Each has an entry with the seq up to which it is through.  What evictors look at is
 * the position where the slowest one is, or rather that of its term, because terms are
 * evicted whole.  It is found anew only when one of them moves; until then it may
 * be too low, never too high.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/ring.h"

/* Where the term starts that has the first event behind seq.  Under the lock. */
static uint64
held_from(Ring *ring, uint64 seq)
{
	uint64 pos = pg_atomic_read_u64(&ring->floor_pos);
	uint64 last = ring->claim_pos >> ring->term_shift;

	if (seq >= ring->next_seq - 1)
		return ring->claim_pos;
	for (uint64 n = pos >> ring->term_shift; n <= last; n++)
	{
		RingTerm *t = &ring->terms[n % RING_TERM_SLOTS];

		if (t->term == n + 1 && t->first_seq <= seq + 1)
			pos = Max(pos, t->first_pos);
	}
	return pos;
}

bool
ring_set_hold(Ring *ring, uint64 id, uint64 seq)
{
	RingHold *hold = NULL;
	uint64 lowest = PG_UINT64_MAX;

	SpinLockAcquire(&ring->lock);
	for (int i = 0; i < RING_MAX_HOLDS; i++)
		if (ring->holds[i].id == id || (ring->holds[i].id == 0 && !hold))
			hold = &ring->holds[i];
	if (hold && (seq != PG_UINT64_MAX || hold->id == id))
	{
		hold->id = seq == PG_UINT64_MAX ? 0 : id;
		hold->seq = seq;
		for (int i = 0; i < RING_MAX_HOLDS; i++)
			if (ring->holds[i].id != 0)
				lowest = Min(lowest, ring->holds[i].seq);
		pg_atomic_write_u64(&ring->held_pos,
							lowest == PG_UINT64_MAX ? PG_UINT64_MAX : held_from(ring, lowest));
	}
	SpinLockRelease(&ring->lock);
	if (hold)
		nb_waiters_wake(ring_room(ring));
	return hold != NULL;
}
