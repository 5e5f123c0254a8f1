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
 * Of a durable log, what the ring has no more (or never had: a gap) is in the
 * table.  The reader loads stable and the ring's floor, then scans rows with a
 * snapshot taken after that: whatever is resolved is a row in it, or still in
 * the ring.  A gap between rows is a hole that an aborted transaction or a crash
 * has left; below the log's floor events are lost.
 *
 * Without a live ring (on a standby, in a copy that a subscription fills) rows
 * are all there is.  A contiguous run of rows can be read as it stands; a gap may
 * be a transaction that is still open where the rows come from, unless a later
 * frame says that everything was resolved up to behind it.
 *
 * Where reading stopped is kept per log and shard, so that the next call that
 * continues there finds its place at once.
 *
 * A reader that waits adds itself to the ring's waiters and is woken by
 * whoever moves stable; only without a live ring it has to poll.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/reader.h"

#include "bus/jsonb_check.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_bitutils.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#define INITIAL_BODIES  (8 * 1024)
#define INITIAL_OFFSETS 64
#define MAX_CHUNK       1024
#define MAX_COPY        (64 * 1024) /* bytes at a time, or one event: stays in the cache */
#define COLD_POLL_MS    50

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

static inline void *
allocate(Reader *reader, Size size)
{
	return reader->scratch ? scratch_alloc(reader->scratch, size)
						   : MemoryContextAllocHuge(reader->context, size);
}

static inline void
release(Reader *reader, void *buffer)
{
	if (buffer && !reader->scratch)
		pfree(buffer);
}

void
reader_close(Reader *reader)
{
	if (!reader->log)
		return;

	/* Remember the place: pos is that of the frame with the next event, or before it. */
	if (reader->positioned && !reader->from_row)
	{
		reader->log->local[reader->shard].read_seq = reader->after_seq;
		reader->log->local[reader->shard].read_pos = reader->pos;
	}
	if (reader->scan)
		store_scan_end(reader->scan);
	reader->scan = NULL;
	nb_log_unpin(reader->log);
	reader->log = NULL;
	release(reader, reader->copied_offsets);
	release(reader, reader->copied_bodies);
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

		release(reader, reader->copied_offsets);
		reader->copied_offsets = allocate(reader, room * sizeof(uint32));
		reader->max_offsets = room;
	}
	if (bytes > reader->max_bodies || !reader->copied_bodies)
	{
		Size room = pg_nextpower2_size_t(Max(INITIAL_BODIES, bytes));

		release(reader, reader->copied_bodies);
		reader->copied_bodies = allocate(reader, room);
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
	want = Min(want, Max(1, MAX_COPY / (header->body_bytes / to + 1)));
	if (to - from > want)
		to = from + want;

	reserve(reader, to - from, 0);
	while ((copied =
				ring_get_events(reader->ring, reader->pos, header, from, to, reader->copied_offsets,
								reader->copied_bodies, reader->max_bodies)) < -1)
		reserve(reader, to - from, -2 - copied);
	if (copied < 0)
		return false;
	reader->offsets = reader->copied_offsets;
	reader->bodies = reader->copied_bodies;
	reader->from = reader->next = from;
	reader->to = to;
	reader->from_row = false;
	return true;
}

/* Events behind our place are gone. */
static inline void
count_lost(Reader *reader, uint64 events)
{
	if (!(reader->from_oldest && reader->after_seq == 0))
		reader->lost += events;
}

/* Pass over everything up to seq; what we had not seen before first_seq is lost. */
static void
pass(Reader *reader, uint64 first_seq, uint64 last_seq)
{
	if (first_seq > reader->after_seq + 1)
		count_lost(reader, first_seq - reader->after_seq - 1);
	reader->after_seq = last_seq;
}

/* The next frame of the row at hand that has events after after_seq.  False: none. */
static bool
next_frame_of_row(Reader *reader)
{
	while (reader->row_at < reader->row.bytes)
	{
		const FrameHeader *frame = (const FrameHeader *) (reader->row.frames + reader->row_at);

		reader->row_at += frame_word_length(frame->word);
		if (frame->kind != FRAME_DATA || frame_last_seq(frame) <= reader->after_seq)
			continue;
		reader->header = *frame;
		reader->offsets = frame_offsets(frame);
		reader->bodies = frame_bodies(frame);
		reader->from = 0;
		reader->to = frame->count;
		reader->next =
			reader->after_seq >= frame->base_seq ? reader->after_seq + 1 - frame->base_seq : 0;
		reader->from_row = true;
		return true;
	}
	return false;
}

static void
end_scan(Reader *reader)
{
	store_scan_end(reader->scan);
	reader->scan = NULL;
	reader->row.bytes = reader->row_at = 0;
}

/*
 * Neither ring nor table has the seqs up to that one: a hole, or what an async log
 * with drop_oldest has evicted before it was persisted.
 */
static void
pass_gap(Reader *reader, uint64 to_seq)
{
	uint64 floor = pg_atomic_read_u64(&reader->ring->log_floor);

	if (reader->log->options.durability == LOG_ASYNC &&
		reader->log->options.backpressure == LOG_DROP_OLDEST)
		count_lost(reader, to_seq - reader->after_seq);
	else if (floor > reader->after_seq + 1 && nb_log_live(reader->log))
		count_lost(reader, Min(floor - 1, to_seq) - reader->after_seq); /* expired meanwhile */
	reader->after_seq = to_seq;
}

/* Scan rows from after_seq + 1 up to a seq.  False: that must not be. */
static bool
begin_scan(Reader *reader, uint64 to_seq)
{
	MemoryContext old;

	reader->wants_rows = reader->ring_only;
	if (reader->wants_rows)
		return false;
	old = MemoryContextSwitchTo(reader->context);
	if (reader->only_one)
		to_seq = Min(to_seq, reader->after_seq + 1);
	reader->scan = store_scan_begin(reader->log, reader->shard, reader->after_seq + 1, to_seq);
	reader->scan_to = to_seq;
	reader->reported = 0;
	MemoryContextSwitchTo(old);
	return true;
}

/*
 * The next events from rows.  False: the scan is over, and after_seq is where
 * it ends, or (without a live ring) where what can be told ends.
 */
static bool
fill_from_rows(Reader *reader, bool live)
{
	for (;;)
	{
		if (next_frame_of_row(reader))
		{
			if (reader->header.base_seq > reader->after_seq + 1)
				pass_gap(reader, reader->header.base_seq - 1);
			return true;
		}
		if (reader->row.bytes > 0)
			reader->after_seq =
				Max(reader->after_seq, reader->row.base_seq + Max(reader->row.events, 1) - 1);
		reader->row.bytes = reader->row_at = 0;
		if (!store_scan_next(reader->scan, &reader->row))
		{
			if (live && reader->scan_to > reader->after_seq)
				pass_gap(reader, reader->scan_to);
			reader->lost += reader->scan->damaged - reader->reported;
			end_scan(reader);
			return false;
		}
		reader->lost += reader->scan->damaged - reader->reported;
		reader->reported = reader->scan->damaged;
		reader->row_at = 0;
		if (!live && reader->row.base_seq > reader->after_seq + 1 + reader->scan->damaged &&
			reader->row.base_seq - 1 > reader->row_stable)
		{
			/* Perhaps somebody has yet to commit what belongs in between. */
			end_scan(reader);
			return false;
		}
	}
}

/* Without a live ring. */
static bool
fill_cold(Reader *reader)
{
	StoreEnds ends;
	uint64 floor = pg_atomic_read_u64(&reader->ring->log_floor);

	store_ends(reader->log, InvalidOid, reader->shard, &ends);
	if (ends.empty || ends.last_seq <= reader->after_seq)
		return false;
	reader->row_stable = ends.stable_seq;
	if (reader->only_one && reader->after_seq >= ends.stable_seq &&
		reader->after_seq >= reader_head(reader->log, reader->shard))
		return false;
	if (floor > reader->after_seq + 1 && floor <= ends.first_seq && floor - 1 <= ends.stable_seq)
		pass(reader, floor, floor - 1);
	return begin_scan(reader, PG_INT64_MAX) && fill_from_rows(reader, false);
}

/* Get events into the buffers.  False: nothing stable is left. */
static bool
fill(Reader *reader, uint64 want)
{
	Ring *ring = reader->ring;
	FrameHeader *header = &reader->header;
	bool durable = nb_log_durable(reader->log);
	uint64 stable;
	uint64 stable_seq;

	if (reader->scan)
	{
		bool live = nb_log_live(reader->log);

		if (fill_from_rows(reader, live))
			return true;
		if (!live || reader->only_one)
			return false;
		reader->positioned = false;
	}
	else if (durable && !nb_log_live(reader->log))
		return fill_cold(reader);

again:
	stable_seq = pg_atomic_read_u64(&ring->stable_seq);
	pg_read_barrier();
	stable = pg_atomic_read_u64(&ring->stable_pos);
	pg_read_barrier();
	if (reader->after_seq + 1 < pg_atomic_read_u64(&ring->log_floor))
	{
		/* Expired or purged, whether or not the ring still has it. */
		uint64 floor = pg_atomic_read_u64(&ring->log_floor);

		pass(reader, floor, floor - 1);
		reader->positioned = false;
	}
	if (durable && !reader->positioned)
	{
		uint64 floor_seq = pg_atomic_read_u64(&ring->floor_seq);

		if (reader->after_seq < stable_seq && reader->after_seq + 1 < floor_seq)
		{
			if (!begin_scan(reader, Min(stable_seq, floor_seq - 1)))
				return false;
			if (fill_from_rows(reader, true))
				return true;
			if (reader->only_one)
				return false;
			goto again;
		}
	}
	if (!reader->positioned)
		find_position(reader);

	while (reader->pos < stable)
	{
		uint64 length;

		CHECK_FOR_INTERRUPTS();
		if (!ring_get_header(ring, reader->pos, header))
		{
			/* Overtaken: go on with the oldest frame there is, or in the table. */
			if (durable)
			{
				reader->positioned = false;
				goto again;
			}
			reader->pos = pg_atomic_read_u64(&ring->floor_pos);
			stable = pg_atomic_read_u64(&ring->stable_pos);
			pg_read_barrier();
			continue;
		}
		length = frame_word_length(header->word);
		Assert(length >= FRAME_ALIGN && length % FRAME_ALIGN == 0);

		if (header->kind == FRAME_DATA && frame_last_seq(header) > reader->after_seq)
		{
			if (header->base_seq > reader->after_seq + 1)
			{
				if (durable)
				{
					/* The ring has skipped something; a hole if there are no rows. */
					reader->positioned = false;
					if (!begin_scan(reader, header->base_seq - 1))
						return false;
					if (fill_from_rows(reader, true))
						return true;
					if (reader->only_one)
						return false;
					goto again;
				}
				if (frame_word_state(header->word) == FRAME_READY)
					pass(reader, header->base_seq, header->base_seq - 1);
			}
			if (frame_word_state(header->word) == FRAME_READY)
			{
				if (copy_events(reader, want))
					return true;
				continue;
			}
			/* A hole that an aborted transaction has left. */
			pass(reader, header->base_seq, frame_last_seq(header));
		}
		reader->pos += length;
	}

	/* Behind the last frame there may be seqs that the ring has skipped. */
	if (durable && reader->after_seq < stable_seq)
	{
		reader->positioned = false;
		if (!begin_scan(reader, stable_seq))
			return false;
		if (fill_from_rows(reader, true))
			return true;
		if (reader->only_one)
			return false;
		goto again;
	}
	return false;
}

/* A row's frame is sound, but what it says to be jsonb is not. */
static void
report_forged(Reader *reader, uint64 seq)
{
	if (nb_damaged_frames == NB_DAMAGED_ERROR)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("log \"%s\" shard %d: event %llu is damaged", reader->log->name,
							   reader->shard, (unsigned long long) seq),
						errdetail("Its payload is not a jsonb."),
						errhint("SET netbus.damaged_frames = 'skip' to read the rest.")));
	reader->lost++;
	ring_count_damaged(reader->ring);
}

/*
 * How many events to copy at once when some may not be wanted: more and more, as
 * long as fill() is called.
 */
static uint64
next_chunk(Reader *reader, uint64 want)
{
	reader->chunk = Max(INITIAL_OFFSETS, Min(reader->chunk * 2, MAX_CHUNK));
	return Max(reader->chunk, want);
}

static inline bool
selected(const Reader *reader, const ReaderEvent *event)
{
	const FrameEvent *e = &event->event;

	if (reader->key && !(e->key && e->key_len == reader->key_len &&
						 memcmp(e->key, reader->key, reader->key_len) == 0))
		return false;
	return !reader->filter ||
		   filter_match(reader->filter, event->flags, e->payload, e->payload_len);
}

bool
reader_next(Reader *reader, uint64 want, ReaderEvent *event)
{
	bool selective = reader->key || reader->filter;

	for (;;)
	{
		uint32 i;
		uint32 start;

		if (reader->next == reader->to &&
			!fill(reader, selective ? next_chunk(reader, want) : want))
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
		if (reader->next == reader->header.count && !reader->from_row)
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
		if (reader->from_row && (event->flags & FRAME_JSONB) &&
			unlikely(!jsonb_check(event->event.payload, event->event.payload_len)))
		{
			report_forged(reader, event->seq);
			continue;
		}
		if (likely(!selective) || selected(reader, event))
			return true;
		reader->filtered++;
		CHECK_FOR_INTERRUPTS();
	}
}

void
reader_unread(Reader *reader)
{
	if (reader->next == reader->header.count && !reader->from_row)
		reader->pos -= frame_word_length(reader->header.word);
	reader->next--;
	reader->after_seq = reader->header.base_seq + reader->next - 1;
}

/* Is there something past this reader?  Events, or a hole. */
static bool
has_more(const Reader *reader)
{
	if (nb_log_durable(reader->log))
		return pg_atomic_read_u64(&reader->ring->stable_seq) > reader->after_seq;
	return pg_atomic_read_u64(&reader->ring->stable_pos) > reader->pos;
}

bool
readers_wait(Reader **readers, int n, int64 deadline)
{
	NbLog *log = readers[0]->log;
	bool live = nb_log_live(log) || !nb_log_durable(log);
	bool ready = false;

	for (;;)
	{
		int64 left = deadline - nb_now_us();

		/* Time is up also where there is something, but never for these readers. */
		if (left <= 0)
			break;
		for (int i = 0; i < n; i++)
		{
			nb_waiters_add(ring_waiters(readers[i]->ring));
			ready |= live && has_more(readers[i]);
		}
		if (ready)
			break;
		left = (left + 999) / 1000;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 live ? left : Min(left, COLD_POLL_MS), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (!live)
		{
			ready = true; /* or not: the caller looks */
			break;
		}
	}
	for (int i = 0; i < n; i++)
		nb_waiters_remove(ring_waiters(readers[i]->ring));
	return ready;
}

bool
reader_wait(Reader *reader, int64 deadline)
{
	return readers_wait(&reader, 1, deadline);
}

uint64
reader_head(NbLog *log, int shard)
{
	Reader reader;
	ReaderEvent event;
	StoreEnds ends;
	uint64 head;

	if (!nb_log_durable(log) || nb_log_live(log))
		return pg_atomic_read_u64(&log_ring(log->shared, shard)->stable_seq);

	/* Everything up to the last frame's stable seq, and the run of rows behind it. */
	store_ends(log, InvalidOid, shard, &ends);
	if (ends.empty)
		return pg_atomic_read_u64(&log_ring(log->shared, shard)->stable_seq);
	reader_open(&reader, log, shard, ends.stable_seq);
	while (reader_next(&reader, UINT32_MAX, &event))
		;
	head = reader.after_seq;
	reader_close(&reader);
	return head;
}
