/*-------------------------------------------------------------------------
 *
 * ring_rows.c
 *		What a ring knows of the tables behind it: rows, segments, seals.
 *
 * The rows of a log with retention lie in tables filled in rotation, the
 * segments.  They have serial numbers, and a ring has the totals of what those
 * from oldest_segment to segment hold of its shard.  Each claim carries the
 * segment into which its rows go: after a rotation the former one is in use
 * until the claims that are older are resolved.
 *
 * An event that is retained is counted once, wherever it is.  One that is in the
 * ring only is in the totals of its term, so that evicting the term loses it; one
 * that is a row is in those of its segment.  ring_persisted() moves it from there
 * to here; a row that is written through comes here at once, in ring_resolve().
 *
 * Readers of the rows alone cannot tell a hole from events that are yet to come,
 * unless a later row's stable seq vouches for it.  hole_seq is the highest seq
 * without an event, sealed_seq the highest that is vouched for.  A hole above
 * that, with seqs behind it, gets a seal: a row without events, but with a seq.
 *
 * All of it is for the worker, for after a commit, or for who makes the rings;
 * it holds the spinlock for a few assignments, or one per term, and cannot fail.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/ring_internal.h"

void
ring_persisted(Ring *ring, uint64 to_pos, uint64 to_seq, const RingTotals *totals,
			   uint64 max_stable, int64 first_ts, int64 last_ts, uint32 segment)
{
	uint64 events = 0;
	uint64 bytes = 0;

	SpinLockAcquire(&ring->lock);
	for (int i = 0; i < RING_TERM_SLOTS; i++)
	{
		const RingTotals *total = &totals[i];
		RingTerm *t = &ring->terms[i];

		if (total->term == 0)
			continue;
		events += total->events;
		bytes += total->bytes;
		if (t->term == total->term)
		{
			t->events -= total->events;
			t->bytes -= total->bytes;
		}
		else
		{
			/* Evicted, and counted so unless that was reset, while we were writing the rows: there they are. */
			uint64 counted = Min(total->events, ring->counters.evicted);

			ring->counters.evicted -= counted;
			ring->counters.offered += total->events - counted;
			ring->counters.accepted += total->events - counted;
			ring->counters.retained += total->events;
			ring->counters.retained_bytes += total->bytes;
		}
	}
	ring_add_rows(ring, segment, events, bytes, first_ts, last_ts);
	ring->sealed_seq = Max(ring->sealed_seq, max_stable);
	if (to_pos > pg_atomic_read_u64(&ring->persisted_pos))
		pg_atomic_write_u64(&ring->persisted_pos, to_pos);
	if (to_seq > pg_atomic_read_u64(&ring->persisted_seq))
		pg_atomic_write_u64(&ring->persisted_seq, to_seq);
	SpinLockRelease(&ring->lock);
	nb_waiters_wake(ring_room(ring));
}

void
ring_count_found(Ring *ring, uint32 segment, uint64 events, uint64 bytes, int64 first_ts,
				 int64 last_ts)
{
	SpinLockAcquire(&ring->lock);
	if (segment >= ring->oldest_segment)
	{
		ring_add_rows(ring, segment, events, bytes, first_ts, last_ts);
		ring->counters.offered += events;
		ring->counters.accepted += events;
		ring->counters.retained += events;
		ring->counters.retained_bytes += bytes;
	}
	SpinLockRelease(&ring->lock);
}

void
ring_rotate(Ring *ring, uint32 segment)
{
	SpinLockAcquire(&ring->lock);
	ring->segment = segment;
	memset(&ring->segments[segment % RING_SEGMENTS], 0, sizeof(RingSegment));
	SpinLockRelease(&ring->lock);
}

bool
ring_segment_in_use(Ring *ring, uint32 segment)
{
	bool in_use;

	SpinLockAcquire(&ring->lock);
	in_use = segment >= ring->segment ||
			 (ring->head >= 0 && ring_claims(ring)[ring->head].segment <= segment);
	SpinLockRelease(&ring->lock);
	return in_use;
}

void
ring_raise_floor(Ring *ring, uint64 floor_seq)
{
	SpinLockAcquire(&ring->lock);
	ring_raise_floor_locked(ring, floor_seq);
	SpinLockRelease(&ring->lock);
}

void
ring_expire_rows(Ring *ring, uint32 segment, uint64 events, uint64 bytes, uint64 new_floor)
{
	RingSegment *s = &ring->segments[segment % RING_SEGMENTS];

	SpinLockAcquire(&ring->lock);
	events = Min(events, s->events);
	bytes = events == s->events ? s->bytes : Min(bytes, s->bytes);
	s->events -= events;
	s->bytes -= bytes;
	ring->counters.retained -= events;
	ring->counters.retained_bytes -= bytes;
	ring->counters.expired += events;
	ring_raise_floor_locked(ring, new_floor);
	SpinLockRelease(&ring->lock);
}

void
ring_drop_segment(Ring *ring)
{
	SpinLockAcquire(&ring->lock);
	memset(&ring->segments[ring->oldest_segment % RING_SEGMENTS], 0, sizeof(RingSegment));
	ring->oldest_segment++;
	SpinLockRelease(&ring->lock);
}

/* Under the lock. */
static inline bool
needs_seal(const Ring *ring)
{
	return ring->hole_seq > ring->sealed_seq && ring->hole_seq < ring->next_seq - 1;
}

bool
ring_needs_seal(Ring *ring, bool *settled)
{
	bool needed;

	SpinLockAcquire(&ring->lock);
	needed = needs_seal(ring);
	*settled = needed && ring->seal_seen == ring->next_seq;
	ring->seal_seen = needed ? ring->next_seq : 0;
	SpinLockRelease(&ring->lock);
	return needed;
}

bool
ring_take_seal(Ring *ring, uint64 *seal_seq, uint64 *stable_seq, int64 *ts)
{
	bool needed;

	SpinLockAcquire(&ring->lock);
	needed = ring->head < 0 && needs_seal(ring) && ring->next_seq <= ring->seq_limit;
	if (needed)
	{
		*stable_seq = ring->next_seq - 1;
		*seal_seq = ring->next_seq++;
		*ts = ring_take_ts(ring);
		(void) ring_publish_stable(ring);
		if (pg_atomic_read_u64(&ring->floor_pos) == ring->claim_pos)
			pg_atomic_write_u64(&ring->floor_seq, ring->next_seq);
	}
	SpinLockRelease(&ring->lock);
	return needed;
}

void
ring_sealed(Ring *ring, uint64 stable_seq)
{
	SpinLockAcquire(&ring->lock);
	ring->sealed_seq = Max(ring->sealed_seq, stable_seq);
	SpinLockRelease(&ring->lock);
}
