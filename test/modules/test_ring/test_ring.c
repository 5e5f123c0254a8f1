/*-------------------------------------------------------------------------
 *
 * test_ring.c
 *		The ring, case by case, in one process.
 *
 * A process has one claim per ring, so here one process plays many: a claim
 * belongs to the process number that is in force when it is made.  Nothing but
 * functions of the ring, which take no lock but its own, runs meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "test_ring.h"

#include "miscadmin.h"
#include "utils/memutils.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(test_ring_wrap);
PG_FUNCTION_INFO_V1(test_ring_sizes);
PG_FUNCTION_INFO_V1(test_ring_eviction);
PG_FUNCTION_INFO_V1(test_ring_order);
PG_FUNCTION_INFO_V1(test_ring_skipped);
PG_FUNCTION_INFO_V1(test_ring_overtaken);
PG_FUNCTION_INFO_V1(test_ring_room);
PG_FUNCTION_INFO_V1(test_ring_full);
PG_FUNCTION_INFO_V1(test_ring_clock);
PG_FUNCTION_INFO_V1(test_ring_limit);
PG_FUNCTION_INFO_V1(test_ring_write_behind);
PG_FUNCTION_INFO_V1(test_ring_write_through);
PG_FUNCTION_INFO_V1(test_ring_seals);
PG_FUNCTION_INFO_V1(test_ring_segments);
PG_FUNCTION_INFO_V1(test_ring_purging);

#define NO_LIMIT ((uint64) PG_INT64_MAX)
#define SIZE     RING_MIN_SIZE /* of most rings here */
#define TERM     (SIZE / RING_TERMS)

void (*test_failed_hook)(const char *message) = NULL;

pg_noreturn void
test_failed(const char *file, int line, const char *condition, uint64 found, uint64 expected)
{
	char message[256];
	const char *name = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;

	if (found == expected)
		snprintf(message, sizeof(message), "%s:%d: not true: %s", name, line, condition);
	else
		snprintf(message, sizeof(message), "%s:%d: not true: %s (%llu, %llu)", name, line,
				 condition, (unsigned long long) found, (unsigned long long) expected);
	if (test_failed_hook)
		test_failed_hook(message);
	elog(ERROR, "%s", message);
	pg_unreachable();
}

Ring *
make_ring(uint64 size, RingBacking backing, uint64 next_seq, uint64 limit)
{
	char *memory =
		MemoryContextAllocHuge(CurrentMemoryContext, ring_shmem_size(size) + PG_CACHE_LINE_SIZE);
	Ring *ring = (Ring *) TYPEALIGN(PG_CACHE_LINE_SIZE, memory);

	ring_init(ring, size, backing, next_seq, 0);
	ring_raise_limit(ring, 0, limit);
	return ring;
}

/* Change the number of this process; returns what it was. */
static int
become(int procno)
{
	int former = NB_MY_PROCNO;

#if PG_VERSION_NUM >= 170000
	MyProcNumber = procno;
#else
	MyProc = &ProcGlobal->allProcs[procno];
#endif
	return former;
}

RingResult
claim_as(int procno, Ring *ring, const RingFrame *frames, int nframes, uint64 skipped, int flags,
		 RingGrant *grant)
{
	int self = become(procno);
	RingResult result =
		ring_claim(ring, frames, nframes, skipped, skipped * SKIPPED_BYTES, flags, grant);

	(void) become(self);
	return result;
}

void
resolve_as(int procno, Ring *ring, bool commit)
{
	int self = become(procno);

	ring_resolve(ring, commit);
	(void) become(self);
}

/* ------------------------------------------------------- events and frames */

typedef struct EventHead
{
	uint64 hash; /* of the rest */
	uint64 counter;
	uint32 producer;
	uint32 len;
} EventHead;

StaticAssertDecl(sizeof(EventHead) == EVENT_MIN, "an event's head has no padding");

void
fill_event(char *to, uint32 len, uint32 producer, uint64 counter)
{
	EventHead head = {0, counter, producer, len};

	if (len < EVENT_MIN)
	{
		memset(to, 0xA0 + len, len);
		return;
	}
	memcpy(to, &head, sizeof(head));
	for (uint32 i = EVENT_MIN; i < len; i++)
		to[i] = (char) (counter * 31 + producer + i);
	head.hash = nb_hash64(to + sizeof(uint64), len - sizeof(uint64), 0);
	memcpy(to, &head.hash, sizeof(uint64));
}

/* Sets *producer and *counter only where the event is large enough to say. */
bool
event_is_whole(const char *event, uint32 len, uint32 *producer, uint64 *counter)
{
	EventHead head;

	if (len < EVENT_MIN)
	{
		for (uint32 i = 0; i < len; i++)
			if ((uint8) event[i] != 0xA0 + len)
				return false;
		return true;
	}
	memcpy(&head, event, sizeof(head));
	*producer = head.producer;
	*counter = head.counter;
	return head.len == len &&
		   head.hash == nb_hash64(event + sizeof(uint64), len - sizeof(uint64), 0);
}

RingFrame
frame_of(uint32 count, uint32 body_bytes)
{
	RingFrame info = {frame_size(count, body_bytes), count, body_bytes};

	return info;
}

RingFrame
frame_of_length(uint32 length)
{
	return frame_of(1, length - sizeof(FrameHeader) - sizeof(uint32));
}

uint32
event_length(const RingFrame *info, uint32 i)
{
	return (uint64) info->body_bytes * (i + 1) / info->count -
		   (uint64) info->body_bytes * i / info->count;
}

uint64
fill_frame(FrameHeader *frame, const RingFrame *info, uint32 producer, uint64 counter)
{
	uint32 *offsets = frame_offsets(frame);
	char *bodies = (char *) (offsets + info->count);
	uint32 end = 0;

	for (uint32 i = 0; i < info->count; i++)
	{
		uint32 len = event_length(info, i);

		fill_event(bodies + end, len, producer, counter + i);
		end += len;
		offsets[i] = end;
	}
	memset(bodies + end, 0, (char *) frame + info->length - (bodies + end));
	return frame_hash_offsets(offsets, info->count, frame_hash_bodies(bodies, end));
}

void
write_claim(Ring *ring, const RingFrame *frames, int nframes, const RingGrant *grant,
			uint32 producer, uint64 counter)
{
	uint64 pos = grant->start_pos;
	uint64 seq = grant->first_seq;

	for (int i = 0; i < nframes; i++)
	{
		if (i >= grant->first)
		{
			FrameHeader *frame = ring_put(ring, &pos, frames[i].length);
			uint64 hash = fill_frame(frame, &frames[i], producer, counter);

			ring_put_header(ring, frame, pos, &frames[i], 0, seq, grant, hash);
			seq += frames[i].count;
		}
		counter += frames[i].count;
	}
}

RingResult
append_small(Ring *ring, uint32 count, uint32 body_bytes, uint32 producer, uint64 counter,
			 int flags, uint64 *seq)
{
	union
	{
		FrameHeader header;
		char bytes[RING_SMALL];
	} frame;
	RingFrame info = frame_of(count, body_bytes);
	uint64 hash;
	RingResult result;

	memset(&frame.header, 0, sizeof(FrameHeader));
	frame.header.count = count;
	frame.header.body_bytes = body_bytes;
	hash = fill_frame(&frame.header, &info, producer, counter);
	result = ring_append_small(ring, &frame.header, info.length, hash, flags);
	*seq = frame.header.base_seq;
	return result;
}

/* ------------------------------------------------------------ what must hold */

/* Sums over pending claims: what they add to "retained" that no term and no segment has. */
static void
pending_totals(Ring *ring, uint64 *events, uint64 *bytes)
{
	for (int32 i = ring->head; i >= 0; i = ring_claims(ring)[i].next)
	{
		RingClaim *claim = &ring_claims(ring)[i];

		if (claim->to_table)
		{
			*events += claim->skipped;
			*bytes += claim->skipped_bytes;
		}
		if (ring->backing == RING_WRITE_THROUGH)
		{
			*events += claim->events;
			*bytes += claim->bytes;
		}
	}
}

void
check_ring(Ring *ring, uint64 base)
{
	Ring copy;
	RingCounters *c = &copy.counters;
	uint64 floor;
	uint64 stable;
	uint64 persisted;
	uint64 events = 0;
	uint64 bytes = 0;

	SpinLockAcquire(&ring->lock);
	memcpy(&copy, ring, sizeof(Ring));
	pending_totals(ring, &events, &bytes);
	SpinLockRelease(&ring->lock);

	floor = pg_atomic_read_u64(&copy.floor_pos);
	stable = pg_atomic_read_u64(&copy.stable_pos);
	persisted = pg_atomic_read_u64(&copy.persisted_pos);
	check(floor <= stable);
	check(stable <= copy.claim_pos);
	check(copy.claim_pos <= floor + copy.size);
	check(persisted <= stable);
	check(floor % FRAME_ALIGN == 0 && stable % FRAME_ALIGN == 0 && persisted % FRAME_ALIGN == 0 &&
		  copy.claim_pos % FRAME_ALIGN == 0);
	check((copy.head < 0) == (copy.tail < 0));
	check(copy.head >= 0 || stable == copy.claim_pos);

	check_is(c->accepted + c->rejected + c->sampled_out, c->offered);
	check_is(c->retained + c->expired + c->evicted + c->aborted, c->accepted);
	check_is(c->accepted, copy.next_seq - base);
	check(copy.next_seq - 1 <= copy.seq_limit);
	check(pg_atomic_read_u64(&copy.stable_seq) < copy.next_seq);
	check(pg_atomic_read_u64(&copy.floor_seq) <= copy.next_seq);
	check(pg_atomic_read_u64(&copy.persisted_seq) <= pg_atomic_read_u64(&copy.stable_seq));
	check(copy.hole_seq < copy.next_seq && copy.sealed_seq < copy.next_seq);
	check(copy.oldest_segment <= copy.segment &&
		  copy.segment < copy.oldest_segment + RING_SEGMENTS);

	for (int i = 0; i < RING_TERM_SLOTS; i++)
	{
		RingTerm *t = &copy.terms[i];

		if (t->term == 0)
			continue;
		check_is((t->term - 1) % RING_TERM_SLOTS, i);
		check_is(t->first_pos >> copy.term_shift, t->term - 1);
		check(t->first_pos >= floor && t->first_pos < copy.claim_pos);
		check(t->first_seq >= pg_atomic_read_u64(&copy.floor_seq) && t->first_seq < copy.next_seq);
		check(t->events == 0 || copy.backing != RING_WRITE_THROUGH);
		events += t->events;
		bytes += t->bytes;
	}
	for (uint32 n = copy.oldest_segment; n <= copy.segment; n++)
	{
		RingSegment *segment = &copy.segments[n % RING_SEGMENTS];

		check(segment->events == 0 || copy.backing != RING_UNBACKED);
		check(segment->first_ts <= segment->last_ts);
		events += segment->events;
		bytes += segment->bytes;
	}
	check_is(events, c->retained);
	check_is(bytes, c->retained_bytes);
}

void
check_quiet_ring(Ring *ring)
{
	uint64 pos = pg_atomic_read_u64(&ring->floor_pos);
	uint64 seq = pg_atomic_read_u64(&ring->floor_seq);
	uint64 events = 0;
	uint64 bytes = 0;
	int64 ts = 0;
	bool first = true;

	check_is(pg_atomic_read_u64(&ring->stable_pos), ring->claim_pos);
	check_is(pg_atomic_read_u64(&ring->stable_seq), ring->next_seq - 1);
	check(ring->head == -1 && ring->tail == -1);

	while (pos < ring->claim_pos)
	{
		FrameHeader header;
		FrameHeader *frame = ring_frame(ring, pos);
		uint32 length;
		FrameState state;

		check(ring_get_header(ring, pos, &header));
		length = frame_word_length(header.word);
		state = frame_word_state(header.word);
		check(state == FRAME_READY || state == FRAME_ABORTED);
		check_is(frame_check(frame, ring->size - (pos & ring->mask), true), FRAME_OK);
		if (header.kind == FRAME_PAD)
		{
			check_is((pos + length) & ring->mask, 0);
			check_is(state, FRAME_READY);
			pos += length;
			continue;
		}

		check_is(header.kind, FRAME_DATA);
		check_is(header.position, pos);
		check_is(header.origin, ring->origin);
		check(header.stable_seq < header.base_seq);
		check(header.ts >= ts);
		check(first ? header.base_seq == seq : header.base_seq >= seq);

		/* Finding stops at a block's first frame: at most one block before. */
		for (uint64 s = header.base_seq - 1; s < frame_last_seq(&header); s++)
		{
			uint64 found = ring_find(ring, s);

			check(found <= pos);
			check(pos - found < UINT64CONST(1) << ring->block_shift);
		}
		for (uint32 i = 0; i < header.count; i++)
		{
			FrameEvent event;
			uint32 producer;
			uint64 counter;

			frame_event(frame, i, &event);
			check(event_is_whole(event.payload, event.payload_len, &producer, &counter));
		}
		/* Of a ring with a table, others are counted where the table is. */
		if (state == FRAME_READY &&
			(ring->backing == RING_UNBACKED || (ring->backing == RING_WRITE_BEHIND &&
												pos >= pg_atomic_read_u64(&ring->persisted_pos))))
		{
			events += header.count;
			bytes += header.body_bytes;
		}
		first = false;
		ts = header.ts;
		seq = frame_last_seq(&header) + 1;
		pos += length;
	}
	check_is(pos, ring->claim_pos);
	check(seq <= ring->next_seq);
	for (uint32 n = ring->oldest_segment; n <= ring->segment; n++)
	{
		events += ring->segments[n % RING_SEGMENTS].events;
		bytes += ring->segments[n % RING_SEGMENTS].bytes;
	}
	check_is(events, ring->counters.retained);
	check_is(bytes, ring->counters.retained_bytes);
}

/* ------------------------------------------------------------------- cases */

/* Publish one frame, as one transaction. */
static void
put(Ring *ring, RingFrame info)
{
	RingGrant grant;

	check_is(claim_as(0, ring, &info, 1, 0, DROP, &grant), RING_OK);
	write_claim(ring, &info, 1, &grant, 0, grant.first_seq);
	resolve_as(0, ring, true);
}

static void
claim(int procno, Ring *ring, RingFrame info, RingGrant *grant)
{
	check_is(claim_as(procno, ring, &info, 1, 0, DROP, grant), RING_OK);
	write_claim(ring, &info, 1, grant, procno, grant->first_seq);
}

static uint64
floor_of(Ring *ring)
{
	return pg_atomic_read_u64(&ring->floor_pos);
}

static uint64
stable_seq_of(Ring *ring)
{
	return pg_atomic_read_u64(&ring->stable_seq);
}

/* A ring that is full up to "left" bytes before its end. */
static Ring *
nearly_full(uint32 left)
{
	Ring *ring = make_ring(SIZE, RING_UNBACKED, 1, NO_LIMIT);
	uint64 last = SIZE - left - 7 * (SIZE / 8);

	for (int i = 0; i < 7; i++)
		put(ring, frame_of_length(SIZE / 8));
	while (last > 0)
	{
		/* No rest that is smaller than a frame. */
		uint64 length = last <= SIZE / 8 ? last : SIZE / 16;

		put(ring, frame_of_length(length));
		last -= length;
	}
	check_is(ring->claim_pos, SIZE - left);
	check_is(floor_of(ring), 0);
	return ring;
}

Datum
test_ring_wrap(PG_FUNCTION_ARGS)
{
	static const uint32 lefts[] = {0, 8, 16, 56, 64, 72, 512, 4096};

	for (int i = 0; i < lengthof(lefts); i++)
	{
		uint32 left = lefts[i];
		uint32 length = Max(left + 8, 72);
		Ring *ring = nearly_full(left);
		FrameHeader header;
		uint64 ignored;

		/* One that is 8 bytes too long goes to the start, behind a pad. */
		if (length <= RING_SMALL)
			check_is(
				append_small(ring, 1, frame_of_length(length).body_bytes, 1, 1, DROP, &ignored),
				RING_OK);
		else
			put(ring, frame_of_length(length));
		check_is(ring->claim_pos, SIZE + length);
		check(ring_get_header(ring, SIZE, &header));
		check_is(header.position, SIZE);
		if (left > 0)
		{
			check(ring_get_header(ring, SIZE - left, &header));
			check_is(header.kind, FRAME_PAD);
			check_is(frame_word_length(header.word), left);
		}
		check_ring(ring, 1);
		check_quiet_ring(ring);

		/* And several, of which the second meets the end. */
		if (left >= 72)
		{
			RingFrame frames[3] = {frame_of(1, 0), frame_of_length(left), frame_of(3, 100)};
			RingGrant grant;

			ring = nearly_full(left);
			check_is(claim_as(3, ring, frames, 3, 0, DROP, &grant), RING_OK);
			check_is(grant.first, 0);
			write_claim(ring, frames, 3, &grant, 0, 1);
			check_ring(ring, 1);
			resolve_as(3, ring, true);
			check_quiet_ring(ring);
		}

		/* One that just fits ends where the ring does. */
		if (left >= 72)
		{
			ring = nearly_full(left);
			put(ring, frame_of_length(left));
			check_is(ring->claim_pos, SIZE);
			put(ring, frame_of(1, 0));
			check(ring_get_header(ring, SIZE, &header));
			check_is(header.position, SIZE);
			check_quiet_ring(ring);
		}
	}
	PG_RETURN_VOID();
}

Datum
test_ring_sizes(PG_FUNCTION_ARGS)
{
	check(RING_MAX_SIZE / 8 < FRAME_MAX_LENGTH);
	check(ring_shmem_size(RING_MAX_SIZE) > RING_MAX_SIZE);

	/* Only small ones: making a ring touches all of it. */
	for (uint64 size = RING_MIN_SIZE; size <= 16 * 1024 * 1024; size *= 2)
	{
		Ring *ring = make_ring(size, RING_UNBACKED, 1, NO_LIMIT);
		RingFrame frames[2];
		RingGrant grant;

		check(ring->data_off + size <= ring_shmem_size(size));
		check(ring->data_off % PG_CACHE_LINE_SIZE == 0);
		check(ring->waiters_off + nb_waiters_size() <= ring->data_off);
		check_is(ring->max_frame, size / 8);
		check_is(UINT64CONST(1) << ring->term_shift, size / RING_TERMS);
		check(ring->block_mask < RING_BLOCKS);
		check_is((uint64) (ring->block_mask + 1) << ring->block_shift, size);

		/* Frames as large as can be, and claims as large as can be. */
		frames[0] = frames[1] = frame_of_length(ring->max_frame);
		for (int i = 0; i < 40; i++)
		{
			if (i % 3 == 0)
				put(ring, frame_of(1, 0));
			check_is(claim_as(1, ring, frames, 2, 0, DROP, &grant), RING_OK);
			check_is(grant.first, 0);
			write_claim(ring, frames, 2, &grant, 1, grant.first_seq);
			check_ring(ring, 1);
			resolve_as(1, ring, i % 5 != 0);
			check_ring(ring, 1);
			check_quiet_ring(ring);
		}
	}
	PG_RETURN_VOID();
}

Datum
test_ring_eviction(PG_FUNCTION_ARGS)
{
	Ring *ring = make_ring(SIZE, RING_UNBACKED, 1, NO_LIMIT);
	RingGrant grant;

	/* Four frames of two events a term, until the ring is full to the last byte. */
	for (int i = 0; i < 64; i++)
		put(ring, frame_of(2, 1024 - 72));
	check_is(ring->claim_pos, SIZE);
	check_is(floor_of(ring), 0);
	check_is(ring->counters.evicted, 0);

	/* The next one costs a term, and the three after it nothing. */
	for (int i = 0; i < 8; i++)
	{
		put(ring, frame_of(2, 1024 - 72));
		check_is(floor_of(ring), (i / 4 + 1) * TERM);
		check_is(ring->counters.evicted, (i / 4 + 1) * 8);
		check_is(pg_atomic_read_u64(&ring->floor_seq), (i / 4 + 1) * 8 + 1);
		check_quiet_ring(ring);
	}

	/* A claim that stays open keeps all that is not before it. */
	claim(1, ring, frame_of(1, 0), &grant);
	for (int i = 0; i < 200; i++)
	{
		put(ring, frame_of_length(1024));
		check(floor_of(ring) <= grant.start_pos);
		check_ring(ring, 1);
	}
	check(floor_of(ring) + TERM > grant.start_pos);
	check(ring->claim_pos + 1024 > floor_of(ring) + SIZE);
	check_is(stable_seq_of(ring), grant.first_seq - 1);
	resolve_as(1, ring, false);
	check_is(ring->counters.aborted, 1);
	check_ring(ring, 1);
	check_quiet_ring(ring);

	/* Frames of two terms; then small ones again, term by term. */
	ring = make_ring(SIZE, RING_UNBACKED, 1, NO_LIMIT);
	for (int i = 0; i < 30; i++)
	{
		put(ring, frame_of_length(SIZE / 8));
		check_is(floor_of(ring) % (SIZE / 8), 0);
		check_is(ring->claim_pos - floor_of(ring), Min(i + 1, 8) * (SIZE / 8));
	}
	put(ring, frame_of(1, 0));
	check_is(ring->claim_pos - floor_of(ring), 7 * (SIZE / 8) + 72);
	check_quiet_ring(ring);
	PG_RETURN_VOID();
}

Datum
test_ring_order(PG_FUNCTION_ARGS)
{
	Ring *ring = make_ring(SIZE, RING_UNBACKED, 101, NO_LIMIT);
	RingGrant grants[4];
	FrameHeader header;

	for (int i = 0; i < 4; i++)
		claim(i, ring, frame_of(10, 100), &grants[i]);
	check_is(stable_seq_of(ring), 100);
	check_is(pg_atomic_read_u64(&ring->stable_pos), 0);

	/* Events appear in seq order, whoever ends first. */
	resolve_as(3, ring, true);
	check_is(stable_seq_of(ring), 100);
	check_ring(ring, 101);
	resolve_as(1, ring, false);
	check_is(stable_seq_of(ring), 100);
	check_ring(ring, 101);
	resolve_as(0, ring, true);
	check_is(stable_seq_of(ring), 120);
	check_is(pg_atomic_read_u64(&ring->stable_pos), grants[2].start_pos);
	check_ring(ring, 101);

	/* A frame says how far the shard was stable when it was claimed. */
	claim(1, ring, frame_of(1, 1), &grants[1]);
	check_is(grants[1].first_seq, 141);
	check(ring_get_header(ring, grants[1].start_pos, &header));
	check_is(header.stable_seq, 120);
	check_is(frame_word_state(header.word), FRAME_PENDING);

	resolve_as(2, ring, true);
	check_is(stable_seq_of(ring), 140);
	resolve_as(1, ring, true);
	check_is(stable_seq_of(ring), 141);
	check_is(ring->counters.aborted, 10);
	check_is(ring->counters.retained, 31);
	check_quiet_ring(ring);
	PG_RETURN_VOID();
}

Datum
test_ring_skipped(PG_FUNCTION_ARGS)
{
	Ring *ring = make_ring(SIZE, RING_UNBACKED, 1, NO_LIMIT);
	RingFrame info = frame_of(3, 30);
	RingGrant grant;

	/* Events without bytes come first. */
	check_is(claim_as(1, ring, &info, 1, 5, DROP, &grant), RING_OK);
	write_claim(ring, &info, 1, &grant, 1, 1);
	check_is(grant.first_seq, 6);
	check_is(stable_seq_of(ring), 0);
	check_is(ring->counters.evicted, 5);
	check_is(ring->counters.retained, 3);
	check_ring(ring, 1);
	resolve_as(1, ring, true);
	check_is(stable_seq_of(ring), 8);
	check_is(pg_atomic_read_u64(&ring->floor_seq), 6);
	check_is(ring->counters.evicted, 5);
	check_quiet_ring(ring);

	/* Aborted, they are aborted and not evicted. */
	check_is(claim_as(1, ring, &info, 1, 7, DROP, &grant), RING_OK);
	write_claim(ring, &info, 1, &grant, 1, 1);
	resolve_as(1, ring, false);
	check_is(ring->counters.evicted, 5);
	check_is(ring->counters.aborted, 10);
	check_is(stable_seq_of(ring), 18);
	check_ring(ring, 1);
	check_quiet_ring(ring);

	/* Nothing but such events: seqs without bytes. */
	check_is(claim_as(1, ring, NULL, 0, 100, DROP, &grant), RING_OK);
	check_is(stable_seq_of(ring), 18);
	resolve_as(1, ring, true);
	check_is(stable_seq_of(ring), 118);
	check_is(ring->counters.evicted, 105);
	check_is(ring->counters.retained, 3);
	check_ring(ring, 1);
	check_quiet_ring(ring);

	/* The same in a ring that has never held anything. */
	ring = make_ring(SIZE, RING_UNBACKED, 1, NO_LIMIT);
	check_is(claim_as(1, ring, NULL, 0, 100, DROP, &grant), RING_OK);
	resolve_as(1, ring, true);
	check_is(stable_seq_of(ring), 100);
	check_is(pg_atomic_read_u64(&ring->floor_seq), 101);
	check_ring(ring, 1);
	put(ring, info);
	check_is(pg_atomic_read_u64(&ring->floor_seq), 101);
	check_quiet_ring(ring);
	PG_RETURN_VOID();
}

Datum
test_ring_overtaken(PG_FUNCTION_ARGS)
{
	Ring *ring = make_ring(SIZE, RING_UNBACKED, 1, NO_LIMIT);
	RingFrame info = frame_of(4, 1024 - 80);
	FrameHeader header;
	uint32 offsets[4];
	char bodies[1024];

	for (int i = 0; i < 64; i++)
		put(ring, info);

	/* Any part of the events of a frame, and how much room that takes. */
	check(ring_get_header(ring, 0, &header));
	for (uint32 from = 0; from < 4; from++)
		for (uint32 to = from + 1; to <= 4; to++)
		{
			uint32 bytes = 0;
			uint32 end = 0;
			uint32 producer;
			uint64 counter;

			for (uint32 i = from; i < to; i++)
				bytes += event_length(&info, i);
			check_is(ring_get_events(ring, 0, &header, from, to, offsets, bodies, bytes - 1),
					 (uint64) (-2 - (int64) bytes));
			check_is(ring_get_events(ring, 0, &header, from, to, offsets, bodies, bytes), bytes);
			for (uint32 i = from; i < to; i++)
			{
				check(event_is_whole(bodies + end, offsets[i - from] - end, &producer, &counter));
				check_is(counter, 1 + i);
				end = offsets[i - from];
			}
			check_is(end, bytes);
		}

	/* Given up, though not overwritten yet: a term is more than the frame that needs it. */
	put(ring, frame_of(1, 0));
	check(!ring_get_header(ring, 0, &header));
	check(!ring_get_header(ring, 3 * 1024, &header));
	check_is(ring_get_events(ring, 3 * 1024, &header, 0, 4, offsets, bodies, sizeof(bodies)), -1);
	check(ring_get_header(ring, TERM, &header));

	/* Overwritten, one frame by many others. */
	for (int i = 0; i < 200; i++)
		put(ring, frame_of(i % 7 + 1, i * 37 % 3000));
	check_is(ring_get_events(ring, TERM, &header, 0, 4, offsets, bodies, sizeof(bodies)), -1);
	check_is(ring_get_events(ring, TERM, &header, 0, 4, offsets, bodies, 1), -1);
	check(!ring_get_header(ring, TERM, &header));
	check_quiet_ring(ring);

	/* Asked for what is gone, or not there yet. */
	check_is(ring_find(ring, 0), floor_of(ring));
	check_is(ring_find(ring, 1), floor_of(ring));
	check(ring_find(ring, ring->next_seq + 1000) < ring->claim_pos);
	PG_RETURN_VOID();
}

Datum
test_ring_room(PG_FUNCTION_ARGS)
{
	Ring *ring = make_ring(SIZE, RING_UNBACKED, 1, NO_LIMIT);
	RingFrame frames[4] = {frame_of(10, 4096 - 104), frame_of(20, 4096 - 144), frame_of(30, 984),
						   frame_of(40, 0)};
	RingGrant held;
	RingGrant grant;
	uint64 seq;

	/* An open claim at the start, and 5,000 bytes left before it. */
	claim(1, ring, frame_of_length(SIZE - 5000 - 58 * 1024), &held);
	for (int i = 0; i < 58; i++)
		put(ring, frame_of_length(1024));
	check_is(SIZE - ring->claim_pos, 5000);

	/* The newest that there is room for: the last two, and no pad. */
	seq = ring->next_seq;
	check(frames[1].length + frames[2].length + frames[3].length > 5000);
	check_is(claim_as(2, ring, frames, 4, 3, DROP, &grant), RING_OK);
	check_is(grant.first, 2);
	check_is(grant.first_seq, seq + 3 + 10 + 20);
	check_is(ring->counters.evicted, 33);
	check_is(ring->next_seq, seq + 3 + 100);
	write_claim(ring, frames, 4, &grant, 2, seq);
	check_ring(ring, 1);
	resolve_as(2, ring, false);
	check_is(ring->counters.evicted, 0);
	check_is(ring->counters.aborted, 103);
	check_ring(ring, 1);

	/* Nothing at all for one that would have to wrap, by either way. */
	check_is(claim_as(2, ring, frames, 1, 0, DROP, &grant), RING_OK);
	check_is(grant.first, 1);
	check_is(ring->counters.evicted, 10);
	resolve_as(2, ring, true);
	check_is(stable_seq_of(ring), 0);
	for (int i = 0; i < 3; i++)
		put(ring, frame_of_length(1024));
	put(ring, frame_of_length(SIZE - ring->claim_pos - 64));
	check_is(append_small(ring, 1, 400, 3, 3, DROP, &seq), RING_OK);
	check_is(seq, 0);
	check_is(ring->counters.evicted, 11);
	check_ring(ring, 1);

	resolve_as(1, ring, true);
	check_is(stable_seq_of(ring), ring->next_seq - 1);
	check_is(append_small(ring, 1, 400, 3, 3, DROP, &seq), RING_OK);
	check_is(seq, ring->next_seq - 1);
	check_ring(ring, 1);
	check_quiet_ring(ring);
	PG_RETURN_VOID();
}

/* A claimant that must not drop anything is refused, and nothing has happened. */
Datum
test_ring_full(PG_FUNCTION_ARGS)
{
	Ring *ring = make_ring(SIZE, RING_UNBACKED, 1, NO_LIMIT);
	RingFrame frames[2] = {frame_of(7, 4096 - 92), frame_of(9, 1024)};
	RingCounters before;
	RingGrant held;
	RingGrant grant;
	uint64 next_seq;
	uint64 claim_pos;
	uint64 seq;

	check_is(claim_as(1, ring, frames, 2, 0, 0, &held), RING_OK);
	check_is(held.first, 0);
	write_claim(ring, frames, 2, &held, 1, 1);
	while (ring->claim_pos + 5000 < SIZE)
		put(ring, frame_of_length(1024));
	next_seq = ring->next_seq;
	claim_pos = ring->claim_pos;
	before = ring->counters;

	for (int flags = 0; flags <= 7; flags++)
	{
		if (flags & RING_MAY_SKIP)
			continue;
		check_is(claim_as(2, ring, frames, 2, 3, flags, &grant), RING_FULL);
		check_is(ring->next_seq, next_seq);
		check_is(ring->claim_pos, claim_pos);
		check_is(memcmp(&before, &ring->counters, sizeof(before)), 0);
	}
	check_ring(ring, 1);

	/* A smaller one still has room; then nothing has. */
	check_is(claim_as(2, ring, &frames[1], 1, 0, 0, &grant), RING_OK);
	write_claim(ring, &frames[1], 1, &grant, 2, 1);
	resolve_as(2, ring, true);
	while (append_small(ring, 2, 400, 3, 1, 0, &seq) == RING_OK)
		check(seq != 0);
	before = ring->counters;
	check_is(append_small(ring, 2, 400, 3, 1, 0, &seq), RING_FULL);
	check_is(seq, 0);
	check_is(memcmp(&before, &ring->counters, sizeof(before)), 0);

	/* Whoever gives up says so. */
	ring_reject(ring, 100, false);
	ring_reject(ring, 10, true);
	check_is(ring->counters.rejected, 100);
	check_is(ring->counters.sampled_out, 10);
	check_is(ring->counters.offered, before.offered + 110);
	check_is(ring->counters.accepted, before.accepted);
	check_ring(ring, 1);

	resolve_as(1, ring, true);
	check_is(claim_as(2, ring, frames, 2, 3, 0, &grant), RING_OK);
	write_claim(ring, frames, 2, &grant, 2, 1);
	resolve_as(2, ring, true);
	check_ring(ring, 1);
	check_quiet_ring(ring);
	PG_RETURN_VOID();
}

Datum
test_ring_clock(PG_FUNCTION_ARGS)
{
	Ring *ring = make_ring(SIZE, RING_UNBACKED, 1, NO_LIMIT);
	int64 before = nb_now_us();
	int64 ahead = before + INT64CONST(3600000000);
	FrameHeader header;
	RingGrant grant;
	uint64 seq;

	claim(1, ring, frame_of(1, 0), &grant);
	check(grant.ts >= before && grant.ts <= nb_now_us());
	resolve_as(1, ring, true);

	/* The clock was an hour ahead, and is set right. */
	ring->last_ts = ahead;
	claim(1, ring, frame_of(1, 0), &grant);
	check_is(grant.ts, ahead);
	resolve_as(1, ring, true);
	check_is(append_small(ring, 1, 0, 1, 1, DROP, &seq), RING_OK);
	check(ring_get_header(ring, 144, &header));
	check_is(header.ts, ahead);
	check_is(ring->last_ts, ahead);

	/* A bound holds for later claims whatever the clock says, and stays below pending ones. */
	check_is(ring_last_ts(ring), ahead);
	check_is(ring_ts_bound(ring, ahead + 5), ahead + 5);
	check_is(ring_last_ts(ring), ahead + 5);
	claim(1, ring, frame_of(1, 0), &grant);
	check_is(grant.ts, ahead + 5);
	check_is(ring_ts_bound(ring, ahead + 9), ahead + 5);
	check_is(ring_ts_bound(ring, ahead + 2), ahead + 2);
	claim(2, ring, frame_of(1, 0), &grant);
	check_is(grant.ts, ahead + 9);
	check_is(ring_ts_bound(ring, ahead + 20), ahead + 5);
	resolve_as(1, ring, false);
	check_is(ring_ts_bound(ring, ahead + 20), ahead + 9);
	resolve_as(2, ring, true);
	check_is(ring_ts_bound(ring, ahead + 20), ahead + 20);
	check_quiet_ring(ring);
	PG_RETURN_VOID();
}

Datum
test_ring_limit(PG_FUNCTION_ARGS)
{
	Ring *ring = make_ring(SIZE, RING_UNBACKED, 7, 0);
	RingFrame info = frame_of(10, 0);
	RingGrant grant;
	uint64 seq;

	/* A new ring may issue none, and a refusal changes nothing. */
	check_is(ring->seq_limit, 6);
	check_is(claim_as(1, ring, &info, 1, 0, DROP, &grant), RING_SEQ_LIMIT);
	check_is(append_small(ring, 1, 0, 1, 1, DROP, &seq), RING_SEQ_LIMIT);
	check_is(ring->counters.offered, 0);
	check_is(ring->next_seq, 7);
	check_is(ring->head, -1);

	/* Up to the limit and not beyond, skipped events included. */
	ring_raise_limit(ring, 0, 20);
	check_is(claim_as(1, ring, &info, 1, 5, DROP, &grant), RING_SEQ_LIMIT);
	check_is(claim_as(1, ring, &info, 1, 4, DROP, &grant), RING_OK);
	write_claim(ring, &info, 1, &grant, 1, 1);
	resolve_as(1, ring, true);
	check_is(append_small(ring, 1, 0, 1, 1, DROP, &seq), RING_SEQ_LIMIT);
	check_ring(ring, 7);

	/* It never falls. */
	ring_raise_limit(ring, 0, 15);
	check_is(ring->seq_limit, 20);
	ring_raise_limit(ring, 0, 21);
	check_is(append_small(ring, 1, 0, 1, 1, DROP, &seq), RING_OK);
	check_is(seq, 21);
	check_is(append_small(ring, 1, 0, 1, 1, DROP, &seq), RING_SEQ_LIMIT);
	check_quiet_ring(ring);

	/* A ring made in recovery learns later where it starts. */
	ring = make_ring(SIZE, RING_UNBACKED, 5, 0);
	ring_raise_limit(ring, UINT64CONST(1) << 40, (UINT64CONST(1) << 40) + 10);
	check_is(stable_seq_of(ring), (UINT64CONST(1) << 40) - 1);
	check_is(pg_atomic_read_u64(&ring->floor_seq), UINT64CONST(1) << 40);
	check_is(append_small(ring, 1, 0, 1, 1, DROP, &seq), RING_OK);
	check_is(seq, UINT64CONST(1) << 40);
	check_ring(ring, UINT64CONST(1) << 40);
	check_quiet_ring(ring);
	PG_RETURN_VOID();
}

/* -------------------------------------------------------- rings with a table */

/*
 * What the worker tells a ring once [from, to) is persisted: sums of the frames
 * there that are ready.
 */
typedef struct Batch
{
	uint64 to_pos;
	uint64 to_seq;
	uint64 events;
	uint64 max_stable;
	RingTotals totals[RING_TERM_SLOTS];
} Batch;

/* Copy "frames" frames from pos on: that far the worker looks, and no further. */
static void
copy_batch(Ring *ring, uint64 pos, int frames, Batch *batch)
{
	memset(batch, 0, sizeof(Batch));
	while (frames > 0 && pos < pg_atomic_read_u64(&ring->stable_pos))
	{
		RingTotals *total = &batch->totals[(pos >> ring->term_shift) % RING_TERM_SLOTS];
		FrameHeader header;

		check(ring_get_header(ring, pos, &header));
		if (header.kind == FRAME_DATA)
		{
			frames--;
			batch->to_seq = frame_last_seq(&header);
			if (frame_word_state(header.word) == FRAME_READY)
			{
				total->term = (pos >> ring->term_shift) + 1;
				total->events += header.count;
				total->bytes += header.body_bytes;
				batch->events += header.count;
				batch->max_stable = header.stable_seq;
			}
		}
		pos += frame_word_length(header.word);
	}
	batch->to_pos = pos;
}

static void
persisted(Ring *ring, const Batch *batch)
{
	ring_persisted(ring, batch->to_pos, batch->to_seq, batch->totals, batch->max_stable, 1, 1,
				   ring->segment);
}

#define WHOLE 1024 /* a frame of that length, four a term, with two events */

static RingResult
try_put(Ring *ring, int flags)
{
	RingFrame info = frame_of(2, WHOLE - 72);
	RingGrant grant;
	RingResult result = claim_as(0, ring, &info, 1, 0, flags, &grant);

	if (result == RING_OK)
	{
		write_claim(ring, &info, 1, &grant, 0, grant.first_seq);
		resolve_as(0, ring, true);
	}
	return result;
}

Datum
test_ring_write_behind(PG_FUNCTION_ARGS)
{
	Ring *ring = make_ring(SIZE, RING_WRITE_BEHIND, 1, NO_LIMIT);
	RingCounters *c = &ring->counters;
	RingFrame info = frame_of(2, WHOLE - 72);
	RingFrame frames[3] = {frame_of(3, 100), frame_of(4, 200), info};
	RingGrant held;
	RingGrant grant;
	Batch batch;
	Batch second;
	uint64 seq;

	check_is(pg_atomic_read_u64(&ring->persisted_seq), 0);

	/* Nothing is persisted: a full ring stays as it is. */
	for (int i = 0; i < 64; i++)
		check_is(try_put(ring, 0), RING_OK);
	check_is(try_put(ring, 0), RING_FULL);
	check_is(append_small(ring, 1, 0, 1, 1, 0, &seq), RING_FULL);
	check_is(ring_free(ring, 0), 0);
	check_is(floor_of(ring), 0);
	check_is(c->retained, 128);
	check_is(c->accepted, 128);
	check_is(c->evicted, 0);
	check_ring(ring, 1);

	/* Less than a term does not help, a term does; rows are not evicted when they leave the ring. */
	copy_batch(ring, 0, 3, &batch);
	persisted(ring, &batch);
	check_is(pg_atomic_read_u64(&ring->persisted_pos), 3 * WHOLE);
	check_is(pg_atomic_read_u64(&ring->persisted_seq), 6);
	check_is(ring->segments[0].events, 6);
	check_is(try_put(ring, 0), RING_FULL);
	copy_batch(ring, batch.to_pos, 2, &batch);
	persisted(ring, &batch);
	for (int i = 0; i < 4; i++)
		check_is(try_put(ring, 0), RING_OK);
	check_is(try_put(ring, 0), RING_FULL);
	check_is(floor_of(ring), TERM);
	check_is(c->evicted, 0);
	check_is(c->retained, 136);
	check_is(ring->segments[0].events, 10);
	check_ring(ring, 1);
	check_quiet_ring(ring);

	/* Leading frames go by way of the table, and are no less retained. */
	check_is(claim_as(1, ring, frames, 3, 5, RING_MAY_SKIP | RING_TO_TABLE, &grant), RING_OK);
	check_is(grant.first, 3);
	check_is(grant.first_seq, 137 + 5 + 9);
	check_is(c->retained, 136 + 14);
	check_is(c->evicted, 0);
	check_ring(ring, 1);
	resolve_as(1, ring, true);
	check_is(c->retained, 136 + 14);
	check_is(ring->segments[0].events, 10 + 14);
	check_is(ring->segments[0].bytes,
			 5 * (WHOLE - 72) + 5 * SKIPPED_BYTES + 100 + 200 + WHOLE - 72);
	check_ring(ring, 1);
	check_quiet_ring(ring);

	/* If that aborts they are aborted, and no rows. */
	check_is(claim_as(1, ring, frames, 3, 5, RING_MAY_SKIP | RING_TO_TABLE, &grant), RING_OK);
	resolve_as(1, ring, false);
	check_is(c->aborted, 14);
	check_is(c->retained, 150);
	check_is(ring->segments[0].events, 24);
	check_ring(ring, 1);

	/* Without a table to go to they are evicted. */
	check_is(claim_as(1, ring, frames, 3, 5, RING_MAY_SKIP, &grant), RING_OK);
	check_is(grant.first, 3);
	resolve_as(1, ring, true);
	check_is(c->evicted, 14);
	check_is(append_small(ring, 1, 0, 1, 1, RING_MAY_SKIP, &seq), RING_OK);
	check_is(seq, 0);
	check_is(c->evicted, 15);
	check_ring(ring, 1);

	/* Who may lose events evicts what is not persisted; of the first term here, all but a frame. */
	copy_batch(ring, 5 * WHOLE, 8, &batch);
	check_is(batch.events, 16);
	for (int i = 0; i < 5; i++)
		check_is(try_put(ring, DROP), RING_OK);
	check_is(floor_of(ring), 3 * TERM);
	check_is(c->evicted, 15 + 6 + 8);
	check_is(c->retained, 150 + 10 - 14);
	check_ring(ring, 1);

	/* The worker had copied these before, and more: they are rows after all. */
	persisted(ring, &batch);
	check_is(c->evicted, 15);
	check_is(c->retained, 160);
	check_is(ring->segments[0].events, 24 + 16);
	check_is(pg_atomic_read_u64(&ring->persisted_pos), 13 * WHOLE);
	check_ring(ring, 1);
	check_quiet_ring(ring);

	/* Two batches of one term, between which it is evicted. */
	copy_batch(ring, 13 * WHOLE, 1, &batch);
	copy_batch(ring, 14 * WHOLE, 1, &second);
	persisted(ring, &batch);
	check_is(c->evicted, 15);
	for (int i = 0; i < 4; i++)
		check_is(try_put(ring, DROP), RING_OK);
	check_is(floor_of(ring), 4 * TERM);
	check_is(c->evicted, 15 + 4);
	persisted(ring, &second);
	check_is(c->evicted, 15 + 2);
	check_ring(ring, 1);
	/* What is evicted and no row is behind persisted as well. */
	check_is(pg_atomic_read_u64(&ring->persisted_pos), 15 * WHOLE);
	check_is(try_put(ring, 0), RING_OK);
	check_is(try_put(ring, 0), RING_OK);
	check_is(try_put(ring, 0), RING_OK);
	check_is(try_put(ring, 0), RING_FULL);
	check_ring(ring, 1);
	check_quiet_ring(ring);

	/* An open claim is in the way of everybody, and its abort is not persisted. */
	ring = make_ring(SIZE, RING_WRITE_BEHIND, 1, NO_LIMIT);
	c = &ring->counters;
	claim(1, ring, info, &held);
	while (try_put(ring, RING_MAY_LOSE) == RING_OK)
		check_ring(ring, 1);
	check_is(floor_of(ring), 0);
	check_is(c->retained, 128);
	copy_batch(ring, 0, 1, &batch);
	check_is(batch.to_pos, 0);
	resolve_as(1, ring, false);
	check_is(c->aborted, 2);
	copy_batch(ring, 0, 4, &batch);
	check_is(batch.events, 6);
	persisted(ring, &batch);
	check_is(c->retained, 126);
	check_is(ring->segments[0].events, 6);
	check_is(try_put(ring, 0), RING_OK);
	check_is(c->evicted, 0);
	check_ring(ring, 1);
	check_quiet_ring(ring);
	PG_RETURN_VOID();
}

Datum
test_ring_write_through(PG_FUNCTION_ARGS)
{
	Ring *ring = make_ring(SIZE, RING_WRITE_THROUGH, 1, NO_LIMIT);
	RingCounters *c = &ring->counters;
	RingFrame frames[3] = {frame_of(3, 100), frame_of(4, 200), frame_of(5, 300)};
	int flags = RING_MAY_SKIP | RING_TO_TABLE;
	RingGrant held;
	RingGrant grant;

	/* Whatever is resolved makes room, and is retained. */
	for (int i = 0; i < 1000; i++)
	{
		check_is(claim_as(1, ring, frames, 3, i % 2, flags, &grant), RING_OK);
		check_is(grant.first, 0);
		write_claim(ring, frames, 3, &grant, 1, grant.first_seq);
		check_is(c->retained, i * 12 + (i + 1) / 2 + 12);
		check_ring(ring, 1);
		resolve_as(1, ring, true);
		check_is(ring->segments[0].events, c->retained);
		check_ring(ring, 1);
	}
	check(floor_of(ring) > SIZE);
	check_is(c->evicted, 0);
	check_is(c->accepted, 12500);
	check_is(c->retained, 12500);
	check_is(c->retained_bytes, 600000 + 500 * SKIPPED_BYTES);
	check_is(ring->segments[0].bytes, c->retained_bytes);
	check_is(ring->segments[0].last_ts, ring->last_ts);
	check_quiet_ring(ring);

	/* What aborts never was a row, in the ring or not. */
	check_is(claim_as(1, ring, frames, 3, 7, flags, &held), RING_OK);
	write_claim(ring, frames, 3, &held, 1, 1);
	check_is(c->retained, 12519);
	for (int i = 0; i < 100; i++)
	{
		check_is(claim_as(2, ring, frames, 3, 0, flags, &grant), RING_OK);
		write_claim(ring, frames, 3, &grant, 2, 1);
		resolve_as(2, ring, i % 2 == 0);
		check_ring(ring, 1);
	}
	/* Behind the open claim the ring filled up, and nobody noticed. */
	check(grant.first == 3);
	check(floor_of(ring) <= held.start_pos);
	check_is(c->evicted, 0);
	check_is(c->aborted, 600);
	resolve_as(1, ring, false);
	check_is(c->aborted, 619);
	check_is(c->retained, 12500 + 600);
	check_is(ring->segments[0].events, c->retained);
	check_ring(ring, 1);
	check_quiet_ring(ring);
	PG_RETURN_VOID();
}

/* Take a seal, and write it. */
static void
seal(Ring *ring)
{
	uint64 next_seq = ring->next_seq;
	uint64 seal_seq;
	uint64 stable_seq;
	int64 ts;

	check(ring_take_seal(ring, &seal_seq, &stable_seq, &ts));
	check_is(seal_seq, next_seq);
	check_is(stable_seq, next_seq - 1);
	check_is(ring->next_seq, next_seq + 1);
	check_is(stable_seq_of(ring), next_seq);
	ring_sealed(ring, stable_seq);
}

/* A hole is sealed once there is something behind it, and nothing happens any more. */
Datum
test_ring_seals(PG_FUNCTION_ARGS)
{
	Ring *ring = make_ring(SIZE, RING_WRITE_THROUGH, 1, NO_LIMIT);
	RingFrame info = frame_of(2, 10);
	RingGrant grants[3];
	RingCounters before;
	Batch batch;
	uint64 seq;
	uint64 stable_seq;
	int64 ts;
	bool settled;

	/* No hole, or nothing behind it. */
	check(!ring_needs_seal(ring, &settled) && !settled);
	check(!ring_take_seal(ring, &seq, &stable_seq, &ts));
	put(ring, info);
	check(!ring_needs_seal(ring, &settled) && !settled);

	/* Behind it is what was claimed before it became one: its rows do not tell. */
	claim(1, ring, info, &grants[0]);
	claim(2, ring, info, &grants[1]);
	resolve_as(2, ring, true);
	check(!ring_needs_seal(ring, &settled) && !settled);
	resolve_as(1, ring, false);
	check(ring_needs_seal(ring, &settled) && !settled);
	check(ring_needs_seal(ring, &settled) && settled);
	check(ring_needs_seal(ring, &settled) && settled);

	/* It has moved on; and what is claimed now tells. */
	claim(1, ring, info, &grants[2]);
	check_is(grants[2].stable_seq, 6);
	check(ring_needs_seal(ring, &settled) && !settled);
	check(!ring_take_seal(ring, &seq, &stable_seq, &ts));
	check_is(ring->next_seq, 9);
	resolve_as(1, ring, true);
	check(!ring_needs_seal(ring, &settled) && !settled);
	check_is(ring->sealed_seq, 6);

	/* A seal has a seq, and is no event. */
	claim(1, ring, info, &grants[0]);
	put(ring, info);
	resolve_as(1, ring, false);
	before = ring->counters;
	check(ring_needs_seal(ring, &settled));
	seal(ring);
	check(!ring_needs_seal(ring, &settled));
	check(!ring_take_seal(ring, &seq, &stable_seq, &ts));
	check_is(memcmp(&before, &ring->counters, sizeof(before)), 0);
	check_ring(ring, 1 + 1);
	check_quiet_ring(ring);
	put(ring, info);
	check(!ring_needs_seal(ring, &settled));
	check_ring(ring, 1 + 1);

	/* No seq is left for one. */
	ring = make_ring(SIZE, RING_WRITE_THROUGH, 1, 4);
	claim(1, ring, info, &grants[0]);
	put(ring, info);
	resolve_as(1, ring, false);
	check(ring_needs_seal(ring, &settled));
	check(!ring_take_seal(ring, &seq, &stable_seq, &ts));
	ring_raise_limit(ring, 0, 5);
	seal(ring);
	check_is(pg_atomic_read_u64(&ring->floor_seq), 1);
	check_ring(ring, 1 + 1);

	/* Written behind: rows tell when they are rows, and what is lost is a hole. */
	ring = make_ring(SIZE, RING_WRITE_BEHIND, 1, NO_LIMIT);
	claim(1, ring, info, &grants[0]);
	put(ring, info);
	resolve_as(1, ring, false);
	put(ring, info);
	copy_batch(ring, 0, 2, &batch);
	persisted(ring, &batch);
	check(ring_needs_seal(ring, &settled));
	copy_batch(ring, batch.to_pos, 1, &batch);
	check_is(batch.max_stable, 4);
	persisted(ring, &batch);
	check(!ring_needs_seal(ring, &settled));
	for (int i = 0; i < 65; i++)
		check_is(try_put(ring, DROP), RING_OK);
	check(ring->counters.evicted > 0);
	check(ring_needs_seal(ring, &settled));
	copy_batch(ring, floor_of(ring), 1000, &batch);
	persisted(ring, &batch);
	check(!ring_needs_seal(ring, &settled));
	check_is(ring_free(ring, 0), SIZE - TERM);

	/* In an empty ring. */
	ring = make_ring(SIZE, RING_WRITE_BEHIND, 1, NO_LIMIT);
	ring->hole_seq = 3; /* as found in the table */
	ring_raise_limit(ring, 10, NO_LIMIT);
	ring->sealed_seq = 0;
	check_is(pg_atomic_read_u64(&ring->persisted_seq), 9);
	seal(ring);
	check_is(pg_atomic_read_u64(&ring->floor_seq), 11);
	put(ring, info);
	check_is(pg_atomic_read_u64(&ring->floor_seq), 11);
	check_quiet_ring(ring);
	PG_RETURN_VOID();
}

Datum
test_ring_segments(PG_FUNCTION_ARGS)
{
	Ring *ring = make_ring(SIZE, RING_WRITE_THROUGH, 1, NO_LIMIT);
	RingCounters *c = &ring->counters;
	RingFrame info = frame_of(2, 10);
	RingGrant old;
	RingGrant new;
	Batch batch;

	/* What was there before, and what was not counted in time. */
	ring_count_found(ring, 0, 100, 1000, 5, 7);
	check_is(c->retained, 100);
	check_is(c->offered, 100);
	check_is(ring->segments[0].first_ts, 5);
	check_is(ring->segments[0].last_ts, 7);
	check_ring(ring, 1 - 100);
	ring_expire_rows(ring, 0, 30, 300, 31);
	check_is(c->expired, 30);
	check_is(ring->segments[0].bytes, 700);
	check_is(pg_atomic_read_u64(&ring->log_floor), 31);
	ring_expire_rows(ring, 0, 80, 800, 21);
	check_is(c->expired, 100);
	check_is(c->retained, 0);
	check_is(c->retained_bytes, 0);
	check_is(pg_atomic_read_u64(&ring->log_floor), 31);
	ring_raise_floor(ring, 40);
	ring_raise_floor(ring, 35);
	check_is(pg_atomic_read_u64(&ring->log_floor), 40);
	check_ring(ring, 1 - 100);

	/* A claim says where its rows go, and keeps that in use. */
	check(ring_segment_in_use(ring, 0));
	claim(1, ring, info, &old);
	ring_rotate(ring, 1);
	claim(2, ring, info, &new);
	check_is(old.segment, 0);
	check_is(new.segment, 1);
	check(ring_segment_in_use(ring, 0));
	check(ring_segment_in_use(ring, 1));
	ring_rotate(ring, 2);
	resolve_as(2, ring, true);
	check(ring_segment_in_use(ring, 0));
	resolve_as(1, ring, true);
	check(!ring_segment_in_use(ring, 0));
	check(!ring_segment_in_use(ring, 1));
	check(ring_segment_in_use(ring, 2));
	check_is(ring->segments[0].events, 2);
	check_is(ring->segments[1].events, 2);
	check_is(ring->segments[1].first_ts, new.ts);
	check_ring(ring, 1 - 100);

	/* The oldest expires, all of it. */
	ring_expire_rows(ring, 0, PG_UINT64_MAX, 0, 103);
	ring_drop_segment(ring);
	check_is(ring->oldest_segment, 1);
	check_is(c->expired, 102);
	check_is(c->retained, 2);
	check_is(c->retained_bytes, 10);
	check_ring(ring, 1 - 100);
	/* Too late. */
	ring_count_found(ring, 0, 50, 500, 1, 1);
	check_is(c->retained, 2);

	/* Round and round; a slot that is used again starts from nothing. */
	for (uint32 n = 3; n < 50; n++)
	{
		ring_rotate(ring, n);
		put(ring, info);
		check_is(ring->segments[n % RING_SEGMENTS].events, 2);
		check_is(ring->segments[n % RING_SEGMENTS].last_ts, ring->last_ts);
		while (ring->segment - ring->oldest_segment == RING_SEGMENTS - 1)
		{
			check(!ring_segment_in_use(ring, ring->oldest_segment));
			ring_expire_rows(ring, ring->oldest_segment, PG_UINT64_MAX, 0, 0);
			ring_drop_segment(ring);
		}
		check_ring(ring, 1 - 100);
	}
	check_is(c->retained, 2 * (RING_SEGMENTS - 1));
	check_is(c->evicted, 0);

	/* Written behind, rows go where the worker says, also those of events that are older. */
	ring = make_ring(SIZE, RING_WRITE_BEHIND, 1, NO_LIMIT);
	put(ring, info);
	ring_rotate(ring, 1);
	check(!ring_segment_in_use(ring, 0));
	put(ring, info);
	copy_batch(ring, 0, 2, &batch);
	persisted(ring, &batch);
	check_is(ring->segments[0].events, 0);
	check_is(ring->segments[1].events, 4);
	check_ring(ring, 1);
	ring_expire_rows(ring, 0, PG_UINT64_MAX, 0, 0);
	ring_drop_segment(ring);
	check_is(ring->counters.expired, 0);
	check_ring(ring, 1);
	PG_RETURN_VOID();
}

/* Of a ring without a table. */
Datum
test_ring_purging(PG_FUNCTION_ARGS)
{
	Ring *ring = make_ring(SIZE, RING_UNBACKED, 1, NO_LIMIT);
	RingCounters *c = &ring->counters;
	RingFrame info = frame_of(2, WHOLE - 72);
	RingGrant grant;

	check_is(ring_purge(ring), 0);
	for (int i = 0; i < 10; i++)
		put(ring, info);
	claim(1, ring, info, &grant);
	resolve_as(1, ring, false);
	check_is(ring_purge(ring), 20);
	check_is(floor_of(ring), ring->claim_pos);
	check_is(c->expired, 20);
	check_is(c->evicted, 0);
	check_is(c->retained, 0);
	check_is(pg_atomic_read_u64(&ring->floor_seq), 23);
	check_is(pg_atomic_read_u64(&ring->log_floor), 23);
	check_is(ring_purge(ring), 0);
	check_ring(ring, 1);
	check_quiet_ring(ring);

	/* Whole terms below an open claim: here one, and part of one is left. */
	for (int i = 0; i < 4; i++)
		put(ring, info);
	claim(1, ring, info, &grant);
	put(ring, info);
	check_is(ring_purge(ring), 2);
	check_is(floor_of(ring), 3 * TERM);
	check_is(c->retained, 6 + 2 + 2);
	check_is(pg_atomic_read_u64(&ring->log_floor), grant.first_seq);
	check_ring(ring, 1);
	resolve_as(1, ring, true);
	check_is(ring_purge(ring), 10);
	check_is(c->expired, 32);
	check_ring(ring, 1);
	for (int i = 0; i < 200; i++)
	{
		put(ring, info);
		check_ring(ring, 1);
	}
	check_quiet_ring(ring);
	PG_RETURN_VOID();
}
