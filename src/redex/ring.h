/*-------------------------------------------------------------------------
 *
 * ring.h
 *		The hot tail of one shard: a ring of frames in shared memory.
 *
 * Positions are 64-bit byte counts that only grow; a position's place in the
 * ring is its low bits.  Frames start on 8-byte boundaries and never wrap: a
 * pad frame fills the end.  Three positions divide the ring:
 *
 *		floor <= stable <= claim <= floor + size
 *
 *		[floor, stable)		resolved frames: readers copy them
 *		[stable, claim)		the first frame here is pending
 *		[claim, floor+size)	free
 *
 * Writing takes two steps.  A claim takes a range of seqs and bytes under the
 * spinlock, for all frames that a transaction has for this shard; the frames
 * are then copied in without a lock, in state pending.  Resolving sets the
 * state of each frame to ready or aborted, removes the claim from the list of
 * pending claims and moves stable up to the first claim that is still there.
 * So events appear in seq order, whoever commits first, and a claim that
 * aborts leaves a hole.  A process has at most one claim per ring: claim
 * entries are an array indexed by process number, linked in claim order.
 *
 * Eviction moves the floor over whole terms (1/16 of the ring), never beyond
 * stable; per-term totals keep the counters exact without visiting frames.
 *
 * A ring may be backed by a table.  Written through, the rows are part of the
 * transaction that claims: whatever is resolved may be evicted.  Written
 * behind, a worker persists resolved frames later and moves "persisted" up:
 * eviction stops there, unless events may be lost.  Either way a claim for which
 * the ring has no room may skip it: its leading frames get seqs and no bytes
 * here, and a reader who finds the gap looks for them in the table.
 *
 * An unbacked ring may be held: readers that must not lose anything tell how far they
 * are, and eviction stops at the term where the slowest is, unless events may be lost.
 *
 * Readers take no lock.  They load stable, copy a frame that lies below it,
 * and then look at the floor: if it has passed the frame's position, what they
 * copied may be torn and is thrown away.  A claimer moves the floor first and
 * issues a write barrier before it touches the bytes it freed.
 *
 * To find a seq, a sparse index keeps the first frame of every 1/1024 of the
 * ring.
 *
 * The layout follows Aeron's log buffers (terms, pads, the length word); the
 * list of pending claims takes the place of its one-writer-per-slot rule.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_RING_H
#define NETBUS_RING_H

#include "core/core.h"

#include "storage/spin.h"

#include "redex/frame.h"

#define RING_MIN_SIZE   (64 * 1024)
#define RING_MAX_SIZE   (1024 * 1024 * 1024)
#define RING_TERMS      16   /* terms per ring */
#define RING_TERM_SLOTS 32   /* > RING_TERMS + 1: live terms never share a slot */
#define RING_BLOCKS     1024 /* entries of the sparse index, at most */
#define RING_MIN_BLOCK  4096
#define RING_SEGMENTS   8  /* tables filled in rotation */
#define RING_MAX_HOLDS  16 /* readers for whom a ring keeps events */

typedef enum RingBacking
{
	RING_UNBACKED,      /* what is evicted is gone */
	RING_WRITE_BEHIND,  /* rows follow */
	RING_WRITE_THROUGH, /* rows are part of the transaction */
} RingBacking;

/* What a claim may do where the ring has no room. */
#define RING_MAY_SKIP 0x1 /* leave leading frames out of the ring */
#define RING_MAY_LOSE 0x2 /* evict what is not persisted */
#define RING_TO_TABLE 0x4 /* frames left out are rows of the table: not lost */

/* The first frame that starts in a block of the ring, for finding a seq. */
typedef struct RingBlock
{
	uint64 pos;
	uint64 seq;
} RingBlock;

/* Totals over the frames that start in a term. */
typedef struct RingTerm
{
	uint64 term;      /* term number + 1; 0: slot never used */
	uint64 first_pos; /* first frame that starts in it */
	uint64 first_seq;
	uint64 events; /* that are nowhere else: not aborted, in no table */
	uint64 bytes;  /* of their bodies */
} RingTerm;

/* What one of the tables in rotation holds of this shard, as far as counted. */
typedef struct RingSegment
{
	uint64 events;
	uint64 bytes;   /* of bodies */
	int64 first_ts; /* 0: empty */
	int64 last_ts;
} RingSegment;

/* A pending claim, at the index of its process. */
typedef struct RingClaim
{
	int32 prev; /* neighbours in claim order, -1: none */
	int32 next;
	int32 pid;
	uint64 first_seq;
	uint64 start_pos;
	uint64 end_pos;
	uint64 skipped; /* leading events that got seqs but no bytes */
	uint64 skipped_bytes;
	uint64 events; /* events in the frames */
	uint64 bytes;  /* body bytes in the frames */
	uint64 stable_seq;
	int64 ts;
	uint32 segment; /* into which rows of this claim go */
	bool to_table;  /* skipped ones are rows */
} RingClaim;

/* A reader for whom an unbacked ring keeps what he has not read. */
typedef struct RingHold
{
	uint64 id;  /* 0: unused */
	uint64 seq; /* he has read up to here */
} RingHold;

typedef struct RingCounters
{
	uint64 offered;  /* = accepted + rejected + sampled_out */
	uint64 accepted; /* = retained + expired + evicted + aborted */
	uint64 rejected;
	uint64 sampled_out;
	uint64 evicted; /* from the ring, and in no table */
	uint64 expired; /* from the table, by retention or purge */
	uint64 aborted;
	uint64 retained;       /* events in ring or table, pending ones included */
	uint64 retained_bytes; /* their body bytes */
	uint64 blocked_us;     /* time that publishers waited for room */
	uint64 damaged;        /* rows that were no frames, skipped by readers */
	uint64 wakeups;        /* latches set for readers */
} RingCounters;

/*
 * The control block of a ring; index, terms, claims, waiters and the bytes
 * follow it at the given distances.  Lives in a DSM segment: no pointers.
 */
typedef struct Ring
{
	/* constant after ring_init() */
	uint64 size;
	uint64 mask;
	uint32 term_shift;
	uint32 block_shift;
	uint32 block_mask;
	uint32 max_frame; /* bytes of one frame, at most */
	Size blocks_off;  /* RingBlock[block_mask + 1] */
	Size claims_off;  /* RingClaim[MaxBackends] */
	Size waiters_off; /* NbWaiters: readers, for stable */
	Size room_off;    /* NbWaiters: publishers, for room; flush(), for persisted */
	Size data_off;    /* size bytes */
	uint64 origin;    /* system identifier, for frame headers */
	RingBacking backing;

	/* written by claimers and resolvers, under lock */
	pg_attribute_aligned(PG_CACHE_LINE_SIZE) slock_t lock;
	int32 head;            /* lock; oldest pending claim, -1: none */
	int32 tail;            /* lock; newest */
	uint64 start_seq;      /* lock; the first that this ring issued */
	uint64 next_seq;       /* lock */
	uint64 seq_limit;      /* lock; highest seq that may be issued */
	uint64 claim_pos;      /* lock */
	int64 last_ts;         /* lock */
	uint64 hole_seq;       /* lock; highest seq without an event in ring or table */
	uint64 sealed_seq;     /* lock; highest stable seq that a row's frame carries */
	uint64 seal_seen;      /* of the worker: next_seq when it last saw that a seal was needed */
	uint32 segment;        /* lock; the segment now filled: serial number, never reused */
	uint32 oldest_segment; /* lock; the oldest that is not expired */
	RingCounters counters; /* lock */
	RingTerm terms[RING_TERM_SLOTS];     /* lock */
	RingSegment segments[RING_SEGMENTS]; /* lock; by serial number modulo RING_SEGMENTS */
	RingHold holds[RING_MAX_HOLDS];      /* lock */

	/* written under lock, read without */
	pg_attribute_aligned(PG_CACHE_LINE_SIZE) pg_atomic_uint64 stable_pos;
	pg_atomic_uint64 stable_seq;
	pg_atomic_uint64 floor_pos;
	pg_atomic_uint64 floor_seq;     /* lowest seq in the ring, next_seq if none */
	pg_atomic_uint64 log_floor;     /* lowest seq retained, in ring or table; never decreases */
	pg_atomic_uint64 persisted_pos; /* written behind: frames below are rows or aborted */
	pg_atomic_uint64 persisted_seq;
	pg_atomic_uint64 held_pos; /* bytes from here on are held; PG_UINT64_MAX: none are */

	pg_atomic_uint32 blocked; /* publishers waiting for room; atomic add */
} Ring;

#define ring_blocks(ring)  ((RingBlock *) ((char *) (ring) + (ring)->blocks_off))
#define ring_claims(ring)  ((RingClaim *) ((char *) (ring) + (ring)->claims_off))
#define ring_waiters(ring) ((NbWaiters *) ((char *) (ring) + (ring)->waiters_off))
#define ring_room(ring)    ((NbWaiters *) ((char *) (ring) + (ring)->room_off))
#define ring_frame(ring, pos) \
	((FrameHeader *) ((char *) (ring) + (ring)->data_off + ((pos) & (ring)->mask)))

/* What a claim needs to know of a frame. */
typedef struct RingFrame
{
	uint32 length; /* frame_size() */
	uint32 count;
	uint32 body_bytes;
} RingFrame;

/* What a claim gives. */
typedef struct RingGrant
{
	uint64 first_seq; /* of the first frame that has bytes */
	uint64 start_pos; /* where ring_put() starts */
	uint64 stable_seq;
	int64 ts;
	uint32 segment; /* for the rows of this claim */
	int first;      /* index of the first frame that has bytes */
} RingGrant;

typedef enum RingResult
{
	RING_OK,
	RING_SEQ_LIMIT, /* nothing claimed: raise the seq limit first */
	RING_FULL,      /* nothing claimed nor counted */
} RingResult;

/* Bytes of shared memory for a ring of that size. */
extern Size ring_shmem_size(uint64 size);

/*
 * Make a ring whose first event gets next_seq and no timestamp before last_ts.
 * seq_limit starts at next_seq - 1.
 */
extern void ring_init(Ring *ring, uint64 size, RingBacking backing, uint64 next_seq, int64 last_ts);

/*
 * What of a ring this process has mapped, by position: [from, to).  Private
 * to the process; zero at first.
 */
typedef struct RingMapped
{
	uint64 from;
	uint64 to;
} RingMapped;

extern void ring_map_slow(Ring *ring, RingMapped *mapped, uint64 pos, uint64 end);

/*
 * Before a claim of so many bytes: see to it that writing them causes no page
 * faults.  A hint only, for claim_pos may have moved when the claim is made.
 */
static inline void
ring_map(Ring *ring, RingMapped *mapped, uint64 bytes)
{
	uint64 pos = *(volatile uint64 *) &ring->claim_pos;

	if (unlikely(pos + bytes > mapped->to) && mapped->to - mapped->from < ring->size)
		ring_map_slow(ring, mapped, pos, pos + bytes);
}

/*
 * Claim seqs and bytes for frames[0..nframes), of which the first is preceded
 * by "skipped" events (of skipped_bytes) without bytes in the ring.  Evicts
 * terms to make room.  Where what must stay leaves too little, leading frames
 * are left out with RING_MAY_SKIP, and grant->first tells how many; without it
 * the result is RING_FULL.  Their sum of lengths is at most a quarter of the ring.
 * Takes the spinlock; cannot fail.  After RING_OK the caller writes the frames
 * from grant->first on with ring_put() and must reach ring_resolve(); between
 * the two calls nothing may fail or be interrupted before the last frame is
 * written.
 */
extern RingResult ring_claim(Ring *ring, const RingFrame *frames, int nframes, uint64 skipped,
							 uint64 skipped_bytes, int flags, RingGrant *grant);

/*
 * The frame to write next, whose length is given: writes a pad if it would
 * wrap, moves *pos past the frame, and returns where the caller puts offsets
 * and bodies.  ring_put_header() then completes it.
 */
extern FrameHeader *ring_put(Ring *ring, uint64 *pos, uint32 length);

/*
 * Write the header of a frame that ring_put() placed, whose offsets and bodies
 * are written; offsets_hash as for frame_checksum().
 */
extern void ring_put_header(Ring *ring, FrameHeader *frame, uint64 end_pos, const RingFrame *info,
							uint16 flags, uint64 base_seq, const RingGrant *grant,
							uint64 offsets_hash);

/*
 * Resolve this process's claim: make its frames ready or aborted, and wake
 * readers if stable moved.  Takes the spinlock; cannot fail, allocates
 * nothing: callable in commit and abort callbacks.
 */
extern void ring_resolve(Ring *ring, bool commit);

/*
 * Append one small ready frame in a single round of the lock: for events that
 * do not wait for a transaction.  frame is complete, in local memory, but for
 * word, seqs, position, timestamp, origin and checksum; length is at most
 * RING_SMALL.  flags and the result as for ring_claim().
 */
#define RING_SMALL 512
extern RingResult ring_append_small(Ring *ring, FrameHeader *frame, uint32 length,
									uint64 offsets_hash, int flags);

/*
 * Complete a header for a frame that gets no place in the ring: a row that the
 * ring skips.  offsets_hash as for frame_checksum().
 */
extern void ring_fill_header(const Ring *ring, FrameHeader *frame, const RingFrame *info,
							 uint16 flags, uint64 base_seq, const RingGrant *grant,
							 uint64 offsets_hash);

/*
 * Bytes that a claim would find, as far as can be told without the lock: what is
 * free and what may be evicted.
 */
static inline uint64
ring_free(Ring *ring, int flags)
{
	uint64 limit = pg_atomic_read_u64(&ring->stable_pos);
	uint64 used;

	if (ring->backing == RING_WRITE_BEHIND && !(flags & RING_MAY_LOSE))
		limit = Min(limit, pg_atomic_read_u64(&ring->persisted_pos));
	else if (ring->backing == RING_UNBACKED && !(flags & RING_MAY_LOSE))
		limit = Min(limit, pg_atomic_read_u64(&ring->held_pos));
	used = *(volatile uint64 *) &ring->claim_pos - limit;
	/* Terms are evicted whole. */
	used += (UINT64CONST(1) << ring->term_shift);
	return used < ring->size ? ring->size - used : 0;
}

/* Count events that were offered and refused, by policy or by sampling.  Takes the spinlock. */
extern void ring_reject(Ring *ring, uint64 events, bool sampled);

/* Count a publisher's wait for room, in microseconds.  Takes the spinlock. */
extern void ring_count_blocked(Ring *ring, uint64 us);

/* Count a row that is no frame.  Takes the spinlock. */
extern void ring_count_damaged(Ring *ring);

/*
 * Count from now on, as if what is retained were all that was ever offered: both equations
 * go on holding.  Takes the spinlock.
 */
extern void ring_reset_counters(Ring *ring);

/* ring_rows.c: the tables behind a ring */

/* Sums over the frames of a term, by term number modulo RING_TERM_SLOTS. */
typedef struct RingTotals
{
	uint64 term; /* term number + 1; 0: none */
	uint64 events;
	uint64 bytes;
} RingTotals;

/*
 * Of a ring written behind: frames below to_pos, seqs up to to_seq, are rows of
 * a segment now, or aborted; totals[RING_TERM_SLOTS] has the sums of those that
 * became rows, max_stable the highest stable seq that one of them carries.  Wakes who
 * waits for room.  Takes the spinlock; cannot fail: callable after commit.
 */
extern void ring_persisted(Ring *ring, uint64 to_pos, uint64 to_seq, const RingTotals *totals,
						   uint64 max_stable, int64 first_ts, int64 last_ts, uint32 segment);

/* Count events that a table held when the ring was made.  Takes the spinlock. */
extern void ring_count_found(Ring *ring, uint32 segment, uint64 events, uint64 bytes,
							 int64 first_ts, int64 last_ts);

/* Have claims from now on put their rows into that segment.  Takes the spinlock. */
extern void ring_rotate(Ring *ring, uint32 segment);

/*
 * Is a claim pending whose rows go into a segment up to that one, or is that
 * one still being filled?  Takes the spinlock.
 */
extern bool ring_segment_in_use(Ring *ring, uint32 segment);

/*
 * Rows of a segment are gone, or about to be: their events are expired, and
 * readers see none below new_floor.  PG_UINT64_MAX events: all that the segment has.  Takes the
 * spinlock; cannot fail: callable after commit.
 */
extern void ring_expire_rows(Ring *ring, uint32 segment, uint64 events, uint64 bytes,
							 uint64 new_floor);

/* The oldest segment is expired. */
extern void ring_drop_segment(Ring *ring);

/*
 * A reader has read an unbacked ring up to seq: claims without RING_MAY_LOSE do not evict
 * what is behind, in whole terms.  PG_UINT64_MAX: he holds nothing any more.  Wakes who waits
 * for room.  False: there are RING_MAX_HOLDS others.  Takes the spinlock; cannot fail for a
 * reader that has a hold: callable after commit.
 */
extern bool ring_set_hold(Ring *ring, uint64 id, uint64 seq);

/* Move the lowest retained seq up.  Takes the spinlock. */
extern void ring_raise_floor(Ring *ring, uint64 floor_seq);

/*
 * Those who read without this ring pass a hole only where a later frame's stable
 * seq says that they may.  Is there one that waits for that, and has nothing
 * been claimed since the last time we were asked?  By the worker only.  Takes the spinlock.
 */
extern bool ring_needs_seal(Ring *ring, bool *settled);

/*
 * Take the seq of a seal: *seal_seq is a new seq without an event, *stable_seq the
 * seq before it.  False, and nothing done, if it is not needed any more, or a
 * claim is pending.  By the worker only.  Takes the spinlock.
 */
extern bool ring_take_seal(Ring *ring, uint64 *seal_seq, uint64 *stable_seq, int64 *ts);
extern void ring_sealed(Ring *ring, uint64 stable_seq);

/* ring.c again */

/*
 * Expire the stable events of a ring without table, in whole terms; readers see none
 * below stable.  Returns how many.  Takes the spinlock.
 */
extern uint64 ring_purge(Ring *ring);
/*
 * The highest seq whose transaction has ended; stable may be lower, while an
 * earlier claim is pending.  Takes the spinlock.
 */
extern uint64 ring_committed_seq(Ring *ring);

/* Let seqs up to limit be issued, and issue none below next_seq. */
extern void ring_raise_limit(Ring *ring, uint64 next_seq, uint64 limit);

/* The highest timestamp that was issued, or promised by ring_ts_bound().  Takes the spinlock. */
extern int64 ring_last_ts(Ring *ring);

/*
 * For readers that merge rings by time: from now on no event becomes stable here whose
 * timestamp is below the result, which is the oldest pending claim's
 * timestamp, or ts if that is lower or nothing is pending.  Claims to come get ts at
 * least, whatever the clock says.  Takes the spinlock.
 */
extern int64 ring_ts_bound(Ring *ring, int64 ts);

/*
 * A position at or before the frame that holds the first event after
 * after_seq, at most one block before it.  Takes the spinlock.
 */
extern uint64 ring_find(Ring *ring, uint64 after_seq);

/*
 * Copy the header of the frame at pos, which was below stable.  False if the
 * frame was overwritten meanwhile.
 */
extern bool ring_get_header(Ring *ring, uint64 pos, FrameHeader *header);

/*
 * Copy events [from, to) of a frame that ring_get_header() gave: their end
 * offsets to offsets[] (made relative to the first copied byte) and their
 * bodies to bodies, which has room for "room" bytes.  Returns the bytes copied;
 * -1 if the frame was overwritten meanwhile; -2 - needed if room is too small.
 */
extern int64 ring_get_events(Ring *ring, uint64 pos, const FrameHeader *header, uint32 from,
							 uint32 to, uint32 *offsets, char *bodies, uint64 room);

#endif /* NETBUS_RING_H */
