/*-------------------------------------------------------------------------
 *
 * ring.c
 *		Claiming, resolving, evicting and reading the ring of a shard.
 *
 * ring.h tells how a ring works; what it knows of the tables behind it is in
 * ring_rows.c.  What holds under the spinlock is short and bounded: a claim
 * visits its own frames, a resolve unlinks one entry, an eviction moves over at
 * most RING_TERM_SLOTS terms.
 *
 * Memory ordering.  floor_pos is stored, and a write barrier issued, before
 * any byte of the freed range is written (evict_for).  A resolver's stores to
 * the frames come before its store of stable_pos, because taking the spinlock
 * is a full barrier on the platforms that have one and releasing it orders
 * earlier stores; the write barrier in ring_publish_stable() says so for the rest.
 * A reader loads stable_pos, read barrier, bytes, read barrier, floor_pos.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/ring_internal.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/proc.h"

static uint64
block_shift_for(uint64 size)
{
	uint64 block = Max(size / RING_BLOCKS, RING_MIN_BLOCK);

	return pg_leftmost_one_pos64(block);
}

Size
ring_shmem_size(uint64 size)
{
	Size total = MAXALIGN(sizeof(Ring));

	total += sizeof(RingBlock) * (size >> block_shift_for(size));
	total += sizeof(RingClaim) * MaxBackends;
	total = MAXALIGN(total) + 2 * MAXALIGN(nb_waiters_size());
	total = TYPEALIGN(PG_CACHE_LINE_SIZE, total) + size;
	return TYPEALIGN(PG_CACHE_LINE_SIZE, total);
}

void
ring_init(Ring *ring, uint64 size, RingBacking backing, uint64 next_seq, int64 last_ts)
{
	Size off = MAXALIGN(sizeof(Ring));

	Assert((size & (size - 1)) == 0 && size >= RING_MIN_SIZE && size <= RING_MAX_SIZE);
	Assert(next_seq > 0);

	memset(ring, 0, sizeof(Ring));
	ring->size = size;
	ring->mask = size - 1;
	ring->term_shift = pg_leftmost_one_pos64(size / RING_TERMS);
	ring->block_shift = block_shift_for(size);
	ring->block_mask = (size >> ring->block_shift) - 1;
	ring->max_frame = size / 8;
	ring->origin = GetSystemIdentifier();

	ring->blocks_off = off;
	off += sizeof(RingBlock) * (ring->block_mask + 1);
	ring->claims_off = off;
	off += sizeof(RingClaim) * MaxBackends;
	ring->waiters_off = off = MAXALIGN(off);
	off += MAXALIGN(nb_waiters_size());
	ring->room_off = off;
	off += MAXALIGN(nb_waiters_size());
	ring->data_off = TYPEALIGN(PG_CACHE_LINE_SIZE, off);

	/*
	 * Touch the bytes now, so that publishers do not pay for the kernel's
	 * clearing of each page.
	 */
	memset((char *) ring + ring->data_off, 0, size);

	/* An index entry is valid if its position lies in its block: none does. */
	memset(ring_blocks(ring), 0xFF, sizeof(RingBlock) * (ring->block_mask + 1));
	memset(ring_claims(ring), 0, sizeof(RingClaim) * MaxBackends);
	nb_waiters_init(ring_waiters(ring));
	nb_waiters_init(ring_room(ring));

	SpinLockInit(&ring->lock);
	ring->head = ring->tail = -1;
	ring->backing = backing;
	ring->start_seq = ring->next_seq = next_seq;
	ring->seq_limit = ring->sealed_seq = next_seq - 1;
	ring->last_ts = last_ts;
	pg_atomic_init_u64(&ring->stable_pos, 0);
	pg_atomic_init_u64(&ring->stable_seq, next_seq - 1);
	pg_atomic_init_u64(&ring->floor_pos, 0);
	pg_atomic_init_u64(&ring->floor_seq, next_seq);
	pg_atomic_init_u64(&ring->log_floor, 0);
	pg_atomic_init_u64(&ring->persisted_pos, 0);
	pg_atomic_init_u64(&ring->persisted_seq, next_seq - 1);
	pg_atomic_init_u64(&ring->held_pos, PG_UINT64_MAX);
	pg_atomic_init_u32(&ring->blocked, 0);
}

void
ring_raise_limit(Ring *ring, uint64 next_seq, uint64 limit)
{
	SpinLockAcquire(&ring->lock);
	if (next_seq > ring->next_seq)
	{
		bool empty = pg_atomic_read_u64(&ring->floor_pos) == ring->claim_pos;
		uint64 former = ring->next_seq;

		ring->next_seq = next_seq;
		if (ring->claim_pos == 0)
			ring->start_seq = next_seq;
		if (empty)
			pg_atomic_write_u64(&ring->floor_seq, next_seq);
		if (ring->head < 0)
			pg_atomic_write_u64(&ring->stable_seq, next_seq - 1);
		if (pg_atomic_read_u64(&ring->persisted_seq) == former - 1)
			pg_atomic_write_u64(&ring->persisted_seq, next_seq - 1);
	}
	ring->seq_limit = Max(ring->seq_limit, limit);
	SpinLockRelease(&ring->lock);
}

/* Where a frame of that length goes if the next free byte is at pos. */
static inline uint64
place(const Ring *ring, uint64 pos, uint32 length)
{
	uint64 left = ring->size - (pos & ring->mask);

	return left >= length ? pos : pos + left;
}

static inline uint64
stable_pos_locked(Ring *ring)
{
	return ring->head < 0 ? ring->claim_pos : ring_claims(ring)[ring->head].start_pos;
}

/*
 * Where the floor goes if the term it is in is evicted: to the first frame that
 * starts in a later term (large frames span terms), else to the claim position.
 * Under the lock.
 */
static uint64
floor_after(Ring *ring, uint64 floor, uint64 *floor_seq)
{
	uint64 last = ring->claim_pos >> ring->term_shift;

	for (uint64 n = (floor >> ring->term_shift) + 1; n <= last; n++)
	{
		RingTerm *t = &ring->terms[n % RING_TERM_SLOTS];

		if (t->term == n + 1)
		{
			*floor_seq = t->first_seq;
			return t->first_pos;
		}
	}
	*floor_seq = ring->next_seq;
	return ring->claim_pos;
}

/* Nothing at or above is evicted.  Under the lock. */
static inline uint64
evict_limit(Ring *ring, int flags)
{
	uint64 limit = stable_pos_locked(ring);

	if (ring->backing == RING_WRITE_BEHIND && !(flags & RING_MAY_LOSE))
		limit = Min(limit, pg_atomic_read_u64(&ring->persisted_pos));
	else if (ring->backing == RING_UNBACKED && !(flags & RING_MAY_LOSE))
		limit = Min(limit, pg_atomic_read_u64(&ring->held_pos));
	return limit;
}

/* Move the floor up over whole terms; what they alone have had is evicted.  Under the lock. */
static void
evict_to(Ring *ring, uint64 new_floor)
{
	uint64 floor = pg_atomic_read_u64(&ring->floor_pos);
	uint64 floor_seq = pg_atomic_read_u64(&ring->floor_seq);

	while (floor < new_floor)
	{
		uint64 next = floor_after(ring, floor, &floor_seq);
		RingTerm *t = &ring->terms[(floor >> ring->term_shift) % RING_TERM_SLOTS];

		if (t->term == (floor >> ring->term_shift) + 1)
		{
			ring->counters.evicted += t->events;
			ring->counters.retained -= t->events;
			ring->counters.retained_bytes -= t->bytes;
			if (t->events > 0)
				ring->hole_seq = Max(ring->hole_seq, floor_seq - 1);
			t->term = 0;
		}
		floor = next;
	}
	pg_atomic_write_u64(&ring->floor_seq, floor_seq);
	pg_atomic_write_u64(&ring->floor_pos, new_floor);
	pg_write_barrier();
}

/*
 * Make room for bytes up to claim_pos + need by evicting terms.  False, and
 * nothing evicted, if something is in the way that must stay.  Under the lock.
 */
static bool
evict_for(Ring *ring, uint64 need, int flags)
{
	uint64 floor = pg_atomic_read_u64(&ring->floor_pos);
	uint64 target;
	uint64 new_floor;
	uint64 limit;
	uint64 floor_seq = 0;

	if (likely(ring->claim_pos + need - floor <= ring->size))
		return true;

	limit = evict_limit(ring, flags);
	target = ring->claim_pos + need - ring->size;
	for (new_floor = floor; new_floor < target;)
	{
		uint64 next = floor_after(ring, new_floor, &floor_seq);

		if (next > limit || next == new_floor)
			return false;
		new_floor = next;
	}
	evict_to(ring, new_floor);
	return true;
}

/* Enter a frame at pos into the term totals and the index.  Under the lock. */
static inline void
enter_frame(Ring *ring, uint64 pos, uint64 seq, uint64 events, uint64 bytes)
{
	uint64 term = pos >> ring->term_shift;
	RingTerm *t = &ring->terms[term % RING_TERM_SLOTS];
	uint64 block = pos >> ring->block_shift;
	RingBlock *b = &ring_blocks(ring)[block & ring->block_mask];

	if (t->term != term + 1)
	{
		t->term = term + 1;
		t->first_pos = pos;
		t->first_seq = seq;
		t->events = 0;
		t->bytes = 0;
	}
	if (ring->backing != RING_WRITE_THROUGH)
	{
		t->events += events;
		t->bytes += bytes;
	}
	if (b->pos >> ring->block_shift != block)
	{
		b->pos = pos;
		b->seq = seq;
	}
}

/* Into an empty ring: the frame about to be added is the lowest.  Under the lock, before claim_pos moves. */
static inline void
note_floor(Ring *ring, uint64 seq)
{
	if (unlikely(pg_atomic_read_u64(&ring->floor_pos) == ring->claim_pos))
		pg_atomic_write_u64(&ring->floor_seq, seq);
}

/*
 * After the lock is released: wake readers, and publishers that wait for room.
 * Counting takes the lock again, only when somebody slept.
 */
static inline void
wake_readers(Ring *ring)
{
	int woken = nb_waiters_wake(ring_waiters(ring));

	if (woken > 0)
	{
		SpinLockAcquire(&ring->lock);
		ring->counters.wakeups += woken;
		SpinLockRelease(&ring->lock);
	}
	if (unlikely(pg_atomic_read_u32(&ring->blocked) > 0))
		nb_waiters_wake(ring_room(ring));
}

/*
 * How many bytes frames[first..nframes) take from claim_pos on, pad included.
 * A run of frames of at most a quarter of the ring meets its end only once.
 */
static uint64
span_of(const Ring *ring, const RingFrame *frames, int first, int nframes)
{
	uint64 pos = ring->claim_pos;

	for (int i = first; i < nframes; i++)
		pos = place(ring, pos, frames[i].length) + frames[i].length;
	return pos - ring->claim_pos;
}

/*
 * A first write to a page of shared memory costs a fault of its own, a first
 * read maps the pages around it as well (64 kB of them on Linux): a tenth of
 * the cost.  So read a byte every 64 kB, somewhat ahead.
 */
#define MAP_STRIDE (64 * 1024)
#define MAP_AHEAD  (4 * MAP_STRIDE)

void
ring_map_slow(Ring *ring, RingMapped *mapped, uint64 pos, uint64 end)
{
	const char *data = (const char *) ring + ring->data_off;

	if (pos > mapped->to || mapped->to == 0)
		mapped->from = mapped->to = pos;
	for (end += MAP_AHEAD; mapped->to < end; mapped->to += MAP_STRIDE)
		(void) *(const volatile char *) (data + (mapped->to & ring->mask));
}

void
ring_reject(Ring *ring, uint64 events, bool sampled)
{
	SpinLockAcquire(&ring->lock);
	ring->counters.offered += events;
	if (sampled)
		ring->counters.sampled_out += events;
	else
		ring->counters.rejected += events;
	SpinLockRelease(&ring->lock);
}

void
ring_count_blocked(Ring *ring, uint64 us)
{
	SpinLockAcquire(&ring->lock);
	ring->counters.blocked_us += us;
	SpinLockRelease(&ring->lock);
}

void
ring_count_damaged(Ring *ring)
{
	SpinLockAcquire(&ring->lock);
	ring->counters.damaged++;
	SpinLockRelease(&ring->lock);
}

void
ring_reset_counters(Ring *ring)
{
	RingCounters counters = {0};

	SpinLockAcquire(&ring->lock);
	counters.retained = ring->counters.retained;
	counters.retained_bytes = ring->counters.retained_bytes;
	/* What a pending claim has had to skip is taken back if it is aborted. */
	for (int32 i = ring->head; i >= 0; i = ring_claims(ring)[i].next)
		if (!ring_claims(ring)[i].to_table)
			counters.evicted += ring_claims(ring)[i].skipped;
	counters.offered = counters.accepted = counters.retained + counters.evicted;
	ring->counters = counters;
	SpinLockRelease(&ring->lock);
}

RingResult
ring_claim(Ring *ring, const RingFrame *frames, int nframes, uint64 skipped, uint64 skipped_bytes,
		   int flags, RingGrant *grant)
{
	RingClaim *claim = &ring_claims(ring)[NB_MY_PROCNO];
	uint64 total = skipped;
	uint64 pos;
	uint64 seq;
	int first = 0;

	for (int i = 0; i < nframes; i++)
		total += frames[i].count;

	SpinLockAcquire(&ring->lock);
	if (unlikely(ring->next_seq + total - 1 > ring->seq_limit))
	{
		SpinLockRelease(&ring->lock);
		return RING_SEQ_LIMIT;
	}

	while (first < nframes && !evict_for(ring, span_of(ring, frames, first, nframes), flags))
	{
		if (!(flags & RING_MAY_SKIP))
		{
			SpinLockRelease(&ring->lock);
			return RING_FULL;
		}
		for (int n = Max(1, (nframes - first) / 16); n > 0; n--)
		{
			skipped_bytes += frames[first].body_bytes;
			skipped += frames[first++].count;
		}
	}

	seq = ring->next_seq + skipped;
	pos = ring->claim_pos;

	claim->pid = MyProcPid;
	claim->first_seq = ring->next_seq;
	claim->start_pos = pos;
	claim->skipped = skipped;
	claim->skipped_bytes = skipped_bytes;
	claim->events = total - skipped;
	claim->bytes = 0;
	claim->ts = ring_take_ts(ring);
	claim->segment = ring->segment;
	claim->to_table = (flags & RING_TO_TABLE) != 0;
	claim->stable_seq = pg_atomic_read_u64(&ring->stable_seq);

	grant->first = first;
	grant->first_seq = seq;
	grant->start_pos = pos;
	grant->stable_seq = claim->stable_seq;
	grant->ts = claim->ts;
	grant->segment = claim->segment;

	for (int i = first; i < nframes; i++)
	{
		pos = place(ring, pos, frames[i].length);
		enter_frame(ring, pos, seq, frames[i].count, frames[i].body_bytes);
		claim->bytes += frames[i].body_bytes;
		seq += frames[i].count;
		pos += frames[i].length;
	}
	if (skipped > 0 && claim->to_table && ring->backing == RING_WRITE_BEHIND)
	{
		/* These rows come before those of frames that the worker has yet to persist. */
		claim->stable_seq = Min(claim->stable_seq, pg_atomic_read_u64(&ring->persisted_seq));
		grant->stable_seq = claim->stable_seq;
	}
	claim->end_pos = pos;
	note_floor(ring, grant->first_seq);

	ring->claim_pos = pos;
	ring->next_seq = seq;
	ring->counters.offered += total;
	ring->counters.accepted += total;
	ring->counters.retained += claim->events;
	ring->counters.retained_bytes += claim->bytes;
	if (claim->to_table)
	{
		ring->counters.retained += skipped;
		ring->counters.retained_bytes += skipped_bytes;
	}
	else if (skipped > 0)
	{
		ring->counters.evicted += skipped;
		ring->hole_seq = Max(ring->hole_seq, grant->first_seq - 1);
	}

	claim->next = -1;
	claim->prev = ring->tail;
	if (ring->tail >= 0)
		ring_claims(ring)[ring->tail].next = NB_MY_PROCNO;
	else
		ring->head = NB_MY_PROCNO;
	ring->tail = NB_MY_PROCNO;
	SpinLockRelease(&ring->lock);

	return RING_OK;
}

FrameHeader *
ring_put(Ring *ring, uint64 *pos, uint32 length)
{
	uint64 at = place(ring, *pos, length);

	if (at != *pos)
	{
		FrameHeader *pad = ring_frame(ring, *pos);

		/* At the very end there may be room for no more than these 8 bytes. */
		pad->word = frame_word(FRAME_READY, at - *pos);
		pad->version = FRAME_VERSION;
		pad->kind = FRAME_PAD;
		pad->flags = 0;
	}
	*pos = at + length;
	return ring_frame(ring, at);
}

/* Complete a header: everything but the word. */
static inline void
complete_header(FrameHeader *frame, uint64 origin, uint64 pos, uint64 base_seq, uint64 stable_seq,
				int64 ts, uint64 offsets_hash)
{
	frame->version = FRAME_VERSION;
	frame->kind = FRAME_DATA;
	frame->base_seq = base_seq;
	frame->stable_seq = stable_seq;
	frame->ts = ts;
	frame->position = pos;
	frame->origin = origin;
	frame->checksum = frame_checksum(frame, offsets_hash);
}

void
ring_put_header(Ring *ring, FrameHeader *frame, uint64 end_pos, const RingFrame *info, uint16 flags,
				uint64 base_seq, const RingGrant *grant, uint64 offsets_hash)
{
	frame->flags = flags;
	frame->count = info->count;
	frame->body_bytes = info->body_bytes;
	complete_header(frame, ring->origin, end_pos - info->length, base_seq, grant->stable_seq,
					grant->ts, offsets_hash);
	frame->word = frame_word(FRAME_PENDING, info->length);
}

void
ring_fill_header(const Ring *ring, FrameHeader *frame, const RingFrame *info, uint16 flags,
				 uint64 base_seq, const RingGrant *grant, uint64 offsets_hash)
{
	frame->flags = flags;
	frame->count = info->count;
	frame->body_bytes = info->body_bytes;
	complete_header(frame, ring->origin, grant->start_pos, base_seq, grant->stable_seq, grant->ts,
					offsets_hash);
	frame->word = frame_word(FRAME_READY, info->length);
}

/* Visit the data frames of a claim; pads are passed over. */
static inline FrameHeader *
next_frame(Ring *ring, uint64 *pos, uint64 end)
{
	while (*pos < end)
	{
		FrameHeader *frame = ring_frame(ring, *pos);

		*pos += frame_word_length(frame->word);
		if (frame->kind != FRAME_PAD)
			return frame;
	}
	return NULL;
}

void
ring_resolve(Ring *ring, bool commit)
{
	RingClaim *claim = &ring_claims(ring)[NB_MY_PROCNO];
	uint64 pos = claim->start_pos;
	FrameHeader *frame;
	bool moved;

	pg_write_barrier();
	while ((frame = next_frame(ring, &pos, claim->end_pos)) != NULL)
		frame->word =
			frame_word(commit ? FRAME_READY : FRAME_ABORTED, frame_word_length(frame->word));

	SpinLockAcquire(&ring->lock);
	if (claim->prev >= 0)
		ring_claims(ring)[claim->prev].next = claim->next;
	else
		ring->head = claim->next;
	if (claim->next >= 0)
		ring_claims(ring)[claim->next].prev = claim->prev;
	else
		ring->tail = claim->prev;

	if (likely(commit))
	{
		uint64 rows = claim->to_table ? claim->skipped : 0;
		uint64 bytes = claim->to_table ? claim->skipped_bytes : 0;

		if (ring->backing == RING_WRITE_THROUGH)
		{
			rows += claim->events;
			bytes += claim->bytes;
		}
		if (rows > 0)
		{
			ring_add_rows(ring, claim->segment, rows, bytes, claim->ts, claim->ts);
			ring->sealed_seq = Max(ring->sealed_seq, claim->stable_seq);
		}
	}
	else
	{
		/* Nothing of a pending claim has been evicted: its terms are all live. */
		ring->counters.aborted += claim->events + claim->skipped;
		ring->counters.retained -= claim->events;
		ring->counters.retained_bytes -= claim->bytes;
		if (claim->to_table)
		{
			ring->counters.retained -= claim->skipped;
			ring->counters.retained_bytes -= claim->skipped_bytes;
		}
		else
			ring->counters.evicted -= claim->skipped;
		ring->hole_seq = Max(ring->hole_seq, claim->first_seq + claim->skipped + claim->events - 1);
		pos = claim->start_pos;
		while (ring->backing != RING_WRITE_THROUGH &&
			   (frame = next_frame(ring, &pos, claim->end_pos)) != NULL)
		{
			RingTerm *t = &ring->terms[(frame->position >> ring->term_shift) % RING_TERM_SLOTS];

			t->events -= frame->count;
			t->bytes -= frame->body_bytes;
		}
	}
	moved = ring_publish_stable(ring);
	SpinLockRelease(&ring->lock);

	if (moved)
		wake_readers(ring);
}

RingResult
ring_append_small(Ring *ring, FrameHeader *frame, uint32 length, uint64 offsets_hash, int flags)
{
	uint64 pos;
	uint64 padded;
	bool fits;
	bool moved;

	Assert(length <= RING_SMALL);

	SpinLockAcquire(&ring->lock);
	if (unlikely(ring->next_seq + frame->count - 1 > ring->seq_limit))
	{
		SpinLockRelease(&ring->lock);
		return RING_SEQ_LIMIT;
	}

	padded = place(ring, ring->claim_pos, length) + length;
	fits = evict_for(ring, padded - ring->claim_pos, flags);
	if (unlikely(!fits && !(flags & RING_MAY_SKIP)))
	{
		SpinLockRelease(&ring->lock);
		return RING_FULL;
	}
	ring->counters.offered += frame->count;
	ring->counters.accepted += frame->count;
	if (likely(fits))
	{
		FrameHeader *target;

		pos = ring->claim_pos;
		target = ring_put(ring, &pos, length);
		complete_header(frame, ring->origin, pos - length, ring->next_seq,
						pg_atomic_read_u64(&ring->stable_seq), ring_take_ts(ring), offsets_hash);
		frame->word = frame_word(FRAME_READY, length);
		memcpy(target, frame, length);
		enter_frame(ring, frame->position, frame->base_seq, frame->count, frame->body_bytes);
		note_floor(ring, frame->base_seq);
		ring->counters.retained += frame->count;
		ring->counters.retained_bytes += frame->body_bytes;
		ring->claim_pos = pos;
	}
	else
	{
		ring->counters.evicted += frame->count;
		ring->hole_seq = ring->next_seq + frame->count - 1;
	}
	ring->next_seq += frame->count;
	moved = ring_publish_stable(ring);
	SpinLockRelease(&ring->lock);

	if (moved)
		wake_readers(ring);
	return RING_OK;
}

uint64
ring_purge(Ring *ring)
{
	uint64 events;
	uint64 evicted;
	uint64 floor;
	uint64 next;
	uint64 seq;

	SpinLockAcquire(&ring->lock);
	events = ring->counters.retained;
	evicted = ring->counters.evicted;
	for (;;)
	{
		floor = pg_atomic_read_u64(&ring->floor_pos);
		next = floor_after(ring, floor, &seq);
		if (next == floor || next > stable_pos_locked(ring))
			break;
		evict_to(ring, next);
	}
	events -= ring->counters.retained;
	ring->counters.evicted = evicted;
	ring->counters.expired += events;
	ring_raise_floor_locked(ring, pg_atomic_read_u64(&ring->stable_seq) + 1);
	SpinLockRelease(&ring->lock);
	return events;
}

int64
ring_last_ts(Ring *ring)
{
	int64 ts;

	SpinLockAcquire(&ring->lock);
	ts = ring->last_ts;
	SpinLockRelease(&ring->lock);
	return ts;
}

int64
ring_ts_bound(Ring *ring, int64 ts)
{
	int64 bound = ts;

	SpinLockAcquire(&ring->lock);
	if (ring->last_ts < ts)
		ring->last_ts = ts;
	if (ring->head >= 0)
		bound = Min(ts, ring_claims(ring)[ring->head].ts); /* in claim order they never decrease */
	SpinLockRelease(&ring->lock);
	return bound;
}

uint64
ring_find(Ring *ring, uint64 after_seq)
{
	RingBlock *blocks = ring_blocks(ring);
	uint64 found;
	uint64 lo;
	uint64 hi;

	SpinLockAcquire(&ring->lock);
	found = pg_atomic_read_u64(&ring->floor_pos);
	lo = found >> ring->block_shift;
	hi = ring->claim_pos >> ring->block_shift;

	/* The last block whose first frame starts at or before the wanted seq. */
	while (lo <= hi)
	{
		uint64 mid = lo + (hi - lo) / 2;
		uint64 probe = mid;
		RingBlock *b;

		/* A block inside a large frame has no entry: take one further down. */
		while (probe > lo && blocks[probe & ring->block_mask].pos >> ring->block_shift != probe)
			probe--;
		b = &blocks[probe & ring->block_mask];

		if (b->pos >> ring->block_shift == probe && b->pos >= found && b->seq <= after_seq + 1)
		{
			found = b->pos;
			lo = mid + 1;
		}
		else if (b->pos >> ring->block_shift == probe && b->seq > after_seq + 1)
		{
			if (probe == 0)
				break;
			hi = probe - 1;
		}
		else
			lo = mid + 1; /* nothing between lo and mid */
	}
	SpinLockRelease(&ring->lock);
	return found;
}

bool
ring_get_header(Ring *ring, uint64 pos, FrameHeader *header)
{
	FrameHeader *frame = ring_frame(ring, pos);

	header->word = ((volatile FrameHeader *) frame)->word;
	pg_read_barrier();
	if (ring->size - (pos & ring->mask) >= sizeof(FrameHeader))
		memcpy((char *) header + sizeof(uint32), (char *) frame + sizeof(uint32),
			   sizeof(FrameHeader) - sizeof(uint32));
	else
	{
		/* The last bytes of the ring: only a pad fits there. */
		uint64 left = ring->size - (pos & ring->mask);

		memset((char *) header + sizeof(uint32), 0, sizeof(FrameHeader) - sizeof(uint32));
		memcpy((char *) header + sizeof(uint32), (char *) frame + sizeof(uint32),
			   left - sizeof(uint32));
	}
	pg_read_barrier();
	if (unlikely(pg_atomic_read_u64(&ring->floor_pos) > pos))
		return false;
	return header->kind == FRAME_PAD || header->position == pos;
}

int64
ring_get_events(Ring *ring, uint64 pos, const FrameHeader *header, uint32 from, uint32 to,
				uint32 *offsets, char *bodies, uint64 room)
{
	FrameHeader *frame = ring_frame(ring, pos);
	const uint32 *ends = frame_offsets(frame);
	const char *source = (const char *) (ends + header->count);
	uint32 start = from == 0 ? 0 : ((const volatile uint32 *) ends)[from - 1];
	uint32 end = ((const volatile uint32 *) ends)[to - 1];

	Assert(from < to && to <= header->count);

	/* If a writer got here first these may be anything: clamp before use. */
	if (likely(start <= end && end <= header->body_bytes))
	{
		if (unlikely(end - start > room))
		{
			pg_read_barrier();
			if (pg_atomic_read_u64(&ring->floor_pos) > pos)
				return -1;
			return -2 - (int64) (end - start);
		}
		for (uint32 i = from; i < to; i++)
			offsets[i - from] = ends[i] - start;
		memcpy(bodies, source + start, end - start);
	}
	pg_read_barrier();
	if (unlikely(pg_atomic_read_u64(&ring->floor_pos) > pos))
		return -1;
	return (int64) end - start;
}

uint64
ring_committed_seq(Ring *ring)
{
	uint64 seq;
	int32 i;

	SpinLockAcquire(&ring->lock);
	seq = ring->next_seq - 1;
	for (i = ring->tail; i >= 0; i = ring_claims(ring)[i].prev)
	{
		const RingClaim *claim = &ring_claims(ring)[i];

		if (claim->first_seq + claim->skipped + claim->events <= seq)
			break;
		/* Its transaction is over, and others see what it did, but it has yet to resolve. */
		if (!TransactionIdIsValid(*(volatile TransactionId *) &ProcGlobal->allProcs[i].xid))
			break;
		seq = claim->first_seq - 1;
	}
	SpinLockRelease(&ring->lock);
	return seq;
}
