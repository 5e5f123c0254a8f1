/*-------------------------------------------------------------------------
 *
 * reader.c
 *		Walking one shard of a log.
 *
 * A reader copies as many events of a frame as it is asked for, checks that
 * the frame was not overwritten meanwhile, and hands the events out of its copy.
 * If it was, it goes on at the floor and counts the seqs in between as lost,
 * as it does with any gap that no aborted frame explains.
 *
 * Where reading stopped is kept per log and shard, so that the next call that
 * continues there finds its place at once.
 *
 * A reader that waits adds itself to the ring's waiters and is woken by
 * whoever moves stable; it never polls.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/reader.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_bitutils.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#define INITIAL_BODIES  (8 * 1024)
#define INITIAL_OFFSETS 64

void
reader_open(Reader *reader, NbLog *log, int shard, uint64 after_seq)
{
	memset(reader, 0, sizeof(Reader));
	reader->log = log;
	reader->shard = shard;
	reader->ring = log_ring(log->shared, shard);
	reader->context = CurrentMemoryContext;
	reader->after_seq = after_seq;
	nb_log_pin(log);
}

void
reader_close(Reader *reader)
{
	if (!reader->log)
		return;

	/* Remember the place if it is exact: between two events at a frame's end. */
	if (reader->positioned && reader->next == reader->to)
	{
		reader->log->local[reader->shard].read_seq = reader->after_seq;
		reader->log->local[reader->shard].read_pos = reader->pos;
	}
	nb_log_unpin(reader->log);
	reader->log = NULL;
	if (reader->offsets)
		pfree(reader->offsets);
	if (reader->bodies)
		pfree(reader->bodies);
}

static void
find_position(Reader *reader)
{
	uint64 floor_pos = pg_atomic_read_u64(&reader->ring->floor_pos);

	if (reader->log->local[reader->shard].read_seq == reader->after_seq &&
		reader->log->local[reader->shard].read_pos >= floor_pos)
		reader->pos = reader->log->local[reader->shard].read_pos;
	else
		reader->pos = ring_find(reader->ring, reader->after_seq);
	reader->positioned = true;
}

static void
reserve(Reader *reader, uint32 events, Size bytes)
{
	if (events > reader->max_offsets)
	{
		uint32 room = pg_nextpower2_32(Max(INITIAL_OFFSETS, events));

		if (reader->offsets)
			pfree(reader->offsets);
		reader->offsets = MemoryContextAllocHuge(reader->context, room * sizeof(uint32));
		reader->max_offsets = room;
	}
	if (bytes > reader->max_bodies || !reader->bodies)
	{
		Size room = pg_nextpower2_size_t(Max(INITIAL_BODIES, bytes));

		if (reader->bodies)
			pfree(reader->bodies);
		reader->bodies = MemoryContextAllocHuge(reader->context, room);
		reader->max_bodies = room;
	}
}

/*
 * Copy up to "want" events of the frame at our position, which is ready and
 * holds events after after_seq.  False if it was overwritten.
 */
static bool
copy_events(Reader *reader, uint64 want)
{
	FrameHeader *header = &reader->header;
	uint32 from = 0;
	uint32 to = header->count;
	int64 copied;

	if (reader->after_seq >= header->base_seq)
		from = reader->after_seq + 1 - header->base_seq;
	if (to - from > want)
		to = from + want;

	reserve(reader, to - from, 0);
	while ((copied = ring_get_events(reader->ring, reader->pos, header, from, to, reader->offsets,
									 reader->bodies, reader->max_bodies)) < -1)
		reserve(reader, to - from, -2 - copied);
	if (copied < 0)
		return false;
	reader->from = reader->next = from;
	reader->to = to;
	return true;
}

/* Pass over everything up to seq; what we had not seen before first_seq is lost. */
static void
pass(Reader *reader, uint64 first_seq, uint64 last_seq)
{
	if (first_seq > reader->after_seq + 1)
		reader->lost += first_seq - reader->after_seq - 1;
	reader->after_seq = last_seq;
}

/* Get events into the buffers.  False: nothing stable is left. */
static bool
fill(Reader *reader, uint64 want)
{
	Ring *ring = reader->ring;
	FrameHeader *header = &reader->header;
	uint64 stable = pg_atomic_read_u64(&ring->stable_pos);

	pg_read_barrier();
	if (!reader->positioned)
		find_position(reader);

	while (reader->pos < stable)
	{
		uint64 length;

		CHECK_FOR_INTERRUPTS();
		if (!ring_get_header(ring, reader->pos, header))
		{
			/* Overtaken: go on with the oldest frame there is. */
			reader->pos = pg_atomic_read_u64(&ring->floor_pos);
			stable = pg_atomic_read_u64(&ring->stable_pos);
			pg_read_barrier();
			continue;
		}
		length = frame_word_length(header->word);
		Assert(length >= FRAME_ALIGN && length % FRAME_ALIGN == 0);

		if (header->kind == FRAME_DATA && frame_last_seq(header) > reader->after_seq)
		{
			if (frame_word_state(header->word) == FRAME_READY)
			{
				if (header->base_seq > reader->after_seq + 1)
					pass(reader, header->base_seq, header->base_seq - 1);
				if (copy_events(reader, want))
					return true;
				continue;
			}
			/* A hole that an aborted transaction has left. */
			pass(reader, header->base_seq, frame_last_seq(header));
		}
		reader->pos += length;
	}
	return false;
}

bool
reader_next(Reader *reader, uint64 want, ReaderEvent *event)
{
	for (;;)
	{
		uint32 i;
		uint32 start;

		if (reader->next == reader->to && !fill(reader, reader->key ? UINT32_MAX : want))
			return false;

		i = reader->next++ - reader->from;
		start = i == 0 ? 0 : reader->offsets[i - 1];
		event->seq = reader->header.base_seq + reader->next - 1;
		event->ts = reader->header.ts;
		event->flags = reader->header.flags;
		event->event.payload = reader->bodies + start;
		event->event.payload_len = reader->offsets[i] - start;
		event->event.key = NULL;
		event->event.key_len = 0;
		reader->after_seq = event->seq;
		if (reader->next == reader->header.count)
			reader->pos += frame_word_length(reader->header.word);

		if (reader->header.flags & FRAME_KEYS)
		{
			uint16 key_len;

			memcpy(&key_len, event->event.payload, sizeof(key_len));
			event->event.payload += sizeof(key_len);
			event->event.payload_len -= sizeof(key_len);
			if (key_len != FRAME_NO_KEY)
			{
				event->event.key = event->event.payload;
				event->event.key_len = key_len;
				event->event.payload += key_len;
				event->event.payload_len -= key_len;
			}
		}
		if (likely(!reader->key) || (event->event.key && event->event.key_len == reader->key_len &&
									 memcmp(event->event.key, reader->key, reader->key_len) == 0))
			return true;
	}
}

void
reader_unread(Reader *reader)
{
	if (reader->next == reader->header.count)
		reader->pos -= frame_word_length(reader->header.word);
	reader->next--;
	reader->after_seq = reader->header.base_seq + reader->next - 1;
}

bool
reader_wait(Reader *reader, int64 deadline)
{
	NbWaiters *waiters = ring_waiters(reader->ring);
	bool ready;

	for (;;)
	{
		int64 left = deadline - nb_now_us();

		nb_waiters_add(waiters);
		/* Time is up also where there is something, but never for this reader. */
		ready = left > 0 && pg_atomic_read_u64(&reader->ring->stable_pos) > reader->pos;
		if (ready || left <= 0)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (left + 999) / 1000, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	nb_waiters_remove(waiters);
	return ready;
}
