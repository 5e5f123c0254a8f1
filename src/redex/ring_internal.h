/*-------------------------------------------------------------------------
 *
 * ring_internal.h
 *		What ring.c and ring_rows.c share: steps under the spinlock of a ring.
 *
 * Inline, because the paths of publishing and committing go through them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_RING_INTERNAL_H
#define NETBUS_RING_INTERNAL_H

#include "redex/ring.h"

/* The clock under the lock, so that timestamps of a shard never decrease. */
static inline int64
ring_take_ts(Ring *ring)
{
	int64 now = nb_now_us();

	if (likely(now > ring->last_ts))
		ring->last_ts = now;
	return ring->last_ts;
}

/* Publish how far the ring is resolved.  Under the lock. */
static inline bool
ring_publish_stable(Ring *ring)
{
	uint64 pos;
	uint64 seq;

	if (ring->head < 0)
	{
		pos = ring->claim_pos;
		seq = ring->next_seq - 1;
	}
	else
	{
		RingClaim *claim = &ring_claims(ring)[ring->head];

		pos = claim->start_pos;
		seq = claim->first_seq - 1;
	}
	if (pg_atomic_read_u64(&ring->stable_seq) == seq)
		return false;
	pg_write_barrier();
	pg_atomic_write_u64(&ring->stable_pos, pos);
	pg_atomic_write_u64(&ring->stable_seq, seq);
	return true;
}

/* Count rows of a segment.  Under the lock. */
static inline void
ring_add_rows(Ring *ring, uint32 segment, uint64 events, uint64 bytes, int64 first_ts,
			  int64 last_ts)
{
	RingSegment *s = &ring->segments[segment % RING_SEGMENTS];

	s->events += events;
	s->bytes += bytes;
	if (first_ts != 0 && (s->first_ts == 0 || first_ts < s->first_ts))
		s->first_ts = first_ts;
	s->last_ts = Max(s->last_ts, last_ts);
}

/* Nothing below is retained, in ring or table.  Under the lock. */
static inline void
ring_raise_floor_locked(Ring *ring, uint64 floor_seq)
{
	if (floor_seq > pg_atomic_read_u64(&ring->log_floor))
		pg_atomic_write_u64(&ring->log_floor, floor_seq);
}

#endif /* NETBUS_RING_INTERNAL_H */
