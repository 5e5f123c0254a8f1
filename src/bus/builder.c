/*-------------------------------------------------------------------------
 *
 * builder.c
 *		Chunks, marks, and the way of a builder's frames into a ring.
 *
 * See builder.h.  Memory: slabs of 4 MB in a context of our own, aligned for
 * huge pages and cut into chunks of two sizes, which go to free lists.  An
 * event too large for a chunk gets one of its own, allocated and freed singly.
 * All of it is private to the process; no locks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/backpressure.h"

#include <sys/mman.h>

#include "redex/store.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define CHUNK_SMALL (8 * 1024) /* with the Chunk header */
#define CHUNK_LARGE (256 * 1024)
#define SLAB_SIZE   (4 * 1024 * 1024)
#define SLAB_ALIGN  (2 * 1024 * 1024) /* a huge page */

enum
{
	CLASS_SMALL,
	CLASS_LARGE,
	CLASS_SINGLE /* palloc'd for one event */
};

static const uint32 class_sizes[] = {CHUNK_SMALL, CHUNK_LARGE};

static MemoryContext chunk_context = NULL;
static Chunk *free_chunks[CLASS_SINGLE];
static char *slab_next[CLASS_SINGLE]; /* the part of a slab not yet cut */
static char *slab_end[CLASS_SINGLE];
static Size slab_bytes = 0; /* of all slabs */

/* A chunk of a class that is not yet on the free list. */
static Chunk *
cut_chunk(int size_class)
{
	Chunk *chunk;

	if (slab_next[size_class] == slab_end[size_class])
	{
		/* The first small chunks come from a small slab: most sessions need no more. */
		bool first = size_class == CLASS_SMALL && !slab_end[CLASS_SMALL];
		Size size = first ? 32 * CHUNK_SMALL : SLAB_SIZE;
		Size slack = first ? 0 : SLAB_ALIGN;
		char *slab = MemoryContextAllocHuge(chunk_context, size + slack);

		if (slack)
		{
			slab = (char *) TYPEALIGN(SLAB_ALIGN, slab);
#ifdef MADV_HUGEPAGE
			(void) madvise(slab, size, MADV_HUGEPAGE);
#endif
		}
		slab_bytes += size;
		slab_next[size_class] = slab;
		slab_end[size_class] = slab + size;
	}
	chunk = (Chunk *) slab_next[size_class];
	slab_next[size_class] += class_sizes[size_class];
	return chunk;
}

static Chunk *
alloc_chunk(uint64 need, uint32 max_capacity, bool small)
{
	Chunk *chunk;
	int size_class;
	uint32 capacity;

	if (!chunk_context)
		chunk_context =
			AllocSetContextCreate(TopMemoryContext, "netbus builder", ALLOCSET_DEFAULT_SIZES);

	if (need > CHUNK_LARGE - sizeof(Chunk))
		size_class = CLASS_SINGLE;
	else if (small && need <= CHUNK_SMALL - sizeof(Chunk))
		size_class = CLASS_SMALL;
	else
		size_class = CLASS_LARGE;

	if (size_class == CLASS_SINGLE)
	{
		capacity = TYPEALIGN(FRAME_ALIGN, need);
		chunk = MemoryContextAllocHuge(chunk_context, sizeof(Chunk) + capacity);
	}
	else
	{
		capacity = class_sizes[size_class] - sizeof(Chunk);
		chunk = free_chunks[size_class];
		if (chunk)
			free_chunks[size_class] = chunk->next;
		else
			chunk = cut_chunk(size_class);
	}
	chunk->next = NULL;
	chunk->capacity = Min(capacity, max_capacity) & ~(FRAME_ALIGN - 1);
	chunk->size_class = size_class;
	chunk->body_len = 0;
	chunk->count = 0;
	chunk->flags = 0;
	chunk->hashed = false;
	chunk->frame = NULL;
	return chunk;
}

static void
free_chunk(Chunk *chunk)
{
	if (chunk->size_class == CLASS_SINGLE)
	{
		pfree(chunk);
		return;
	}
	chunk->next = free_chunks[chunk->size_class];
	free_chunks[chunk->size_class] = chunk;
}

void
builder_trim_memory(void)
{
	if (slab_bytes <= (Size) nb_publish_buffer * 1024)
		return;
	MemoryContextReset(chunk_context);
	memset(free_chunks, 0, sizeof(free_chunks));
	memset(slab_next, 0, sizeof(slab_next));
	memset(slab_end, 0, sizeof(slab_end));
	slab_bytes = 0;
}

static void
hash_chunk(Chunk *chunk)
{
	if (chunk->hashed)
		return;
	chunk->body_hash = frame_hash_bodies(chunk->data, chunk->body_len);
	chunk->hashed = true;
}

/* Give up the oldest chunk: its events will be counted as evicted. */
static void
drop_first(Builder *builder)
{
	Chunk *chunk = builder->first;

	builder->first = chunk->next;
	builder->closed_bytes -= chunk_frame_size(chunk);
	builder->chunks--;
	free_chunk(chunk);
}

void
builder_grow(Builder *builder, uint64 body_len, bool keys)
{
	const BuilderLimits *limits = builder->limits;
	uint32 max_frame = limits->max_frame;
	uint64 need = body_len + sizeof(uint32);
	uint64 room;
	Chunk *chunk;

	if (body_len > (uint64) nb_max_event_size * 1024 + FRAME_MAX_KEY + sizeof(uint16))
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("event of %llu bytes is too large", (unsigned long long) body_len),
						errdetail("netbus.max_event_size is %d kB.", nb_max_event_size)));
	if (frame_size(1, body_len) > limits->max_single)
		ereport(
			ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("event of %llu bytes does not fit into log \"%s\"",
					(unsigned long long) body_len, limits->log->name),
			 errdetail("A frame of this log has at most %u bytes, an eighth of its ring.",
					   limits->max_single),
			 errhint("Raise the log's ring_size with netbus.alter_log() and restart the server.")));
	max_frame = Max(max_frame, frame_size(1, body_len));

	if (builder->last)
	{
		hash_chunk(builder->last);
		builder->closed_bytes += chunk_frame_size(builder->last);
	}

	/* All frames together take a quarter of the ring at most. */
	while (builder->closed_bytes + frame_size(1, body_len) > limits->max_bytes)
	{
		if (!limits->keep_newest)
		{
			uint64 bytes = builder->closed_bytes;

			builder->closed_bytes -= chunk_frame_size(builder->last);
			ring_reject(log_ring(limits->log->shared, builder->shard), 1, false);
			ereport(
				ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("transaction publishes more than log \"%s\" can take", limits->log->name),
				 errdetail(
					 "The events of a transaction may fill a quarter of a ring, %llu bytes; there are %llu bytes already.",
					 (unsigned long long) limits->max_bytes, (unsigned long long) bytes),
				 errhint("Publish less per transaction, or raise the log's ring_size.")));
		}
		if (builder->first == builder->last)
			builder->last = NULL;
		drop_first(builder);
	}

	room = limits->max_bytes - builder->closed_bytes;
	if (limits->keep_newest)
		room = Max(room, max_frame);
	room = Min(room, max_frame) - sizeof(FrameHeader);
	if (limits->throttled)
		backpressure_wait(limits, builder->shard,
						  builder->closed_bytes + sizeof(FrameHeader) + need);
	chunk = alloc_chunk(need, room,
						max_frame <= CHUNK_SMALL ||
							(builder->appended == 0 && builder->expected <= CHUNK_SMALL));
	chunk->flags = limits->flags | (keys ? FRAME_KEYS : 0);
	chunk->ordinal = ++builder->ordinals;
	if (builder->last)
		builder->last->next = chunk;
	else
		builder->first = chunk;
	builder->last = chunk;
	builder->chunks++;

	/* With the whole new chunk in view, so that the claim never exceeds it. */
	while (builder->first != chunk &&
		   builder->closed_bytes + sizeof(FrameHeader) + chunk->capacity > limits->max_bytes)
		drop_first(builder);
}

void
builder_mark(Builder *builder, int level)
{
	BuilderMark *mark;

	if (level < builder->level)
		elog(ERROR, "netbus builder is at subtransaction level %d, expected %d", builder->level,
			 level);
	if (builder->nmarks == builder->max_marks)
	{
		int room = Max(8, builder->max_marks * 2);

		if (!builder->marks)
			builder->marks = MemoryContextAlloc(TopMemoryContext, room * sizeof(BuilderMark));
		else
			builder->marks = repalloc(builder->marks, room * sizeof(BuilderMark));
		builder->max_marks = room;
	}
	mark = &builder->marks[builder->nmarks++];
	mark->level = level;
	mark->appended = builder->appended;
	mark->ordinal = builder->last ? builder->last->ordinal : 0;
	mark->count = builder->last ? builder->last->count : 0;
	mark->body_len = builder->last ? builder->last->body_len : 0;
	builder->level = level;
}

/* Take the builder back to where it was at a mark. */
static void
truncate_to(Builder *builder, const BuilderMark *mark)
{
	Chunk *keep = NULL;
	Chunk *chunk;

	/* Chunks that were given up since are not brought back. */
	builder->closed_bytes = 0;
	builder->chunks = 0;
	for (chunk = builder->first; chunk && chunk->ordinal <= mark->ordinal; chunk = chunk->next)
	{
		if (keep)
			builder->closed_bytes += chunk_frame_size(keep);
		keep = chunk;
		builder->chunks++;
	}
	while (chunk)
	{
		Chunk *next = chunk->next;

		free_chunk(chunk);
		chunk = next;
	}
	builder->last = keep;
	if (!keep)
		builder->first = NULL;
	else
	{
		keep->next = NULL;
		if (keep->ordinal == mark->ordinal && keep->count != mark->count)
		{
			keep->count = mark->count;
			keep->body_len = mark->body_len;
			keep->hashed = false;
		}
		if (keep->count == 0)
		{
			/* Only ever the first: an empty chunk is not a frame. */
			free_chunk(keep);
			builder->first = builder->last = NULL;
			builder->chunks = 0;
		}
	}
	builder->appended = mark->appended;
}

void
builder_end_level(Builder *builder, int level, bool commit)
{
	while (builder->nmarks > 0 && builder->marks[builder->nmarks - 1].level >= level)
	{
		BuilderMark *mark = &builder->marks[builder->nmarks - 1];
		int parent = builder->nmarks > 1 ? mark[-1].level : 1;

		if (!commit)
			truncate_to(builder, mark);
		else if (parent < level - 1)
		{
			mark->level = level - 1;
			break;
		}
		builder->nmarks--;
	}
	builder->level = builder->nmarks > 0 ? builder->marks[builder->nmarks - 1].level : 1;
}

void
builder_reset(Builder *builder)
{
	Chunk *chunk = builder->first;

	while (chunk)
	{
		Chunk *next = chunk->next;

		free_chunk(chunk);
		chunk = next;
	}
	builder->first = builder->last = NULL;
	builder->closed_bytes = 0;
	builder->appended = 0;
	builder->expected = 0;
	builder->ordinals = 0;
	builder->chunks = 0;
	builder->level = 1;
	builder->nmarks = 0;
}

/* Copy what follows a frame's header, and zero its padding; returns the hash for the header. */
static uint64
copy_body(const Chunk *chunk, uint32 *offsets, uint32 length)
{
	char *bodies = (char *) (offsets + chunk->count);
	uint32 used = sizeof(FrameHeader) + chunk->count * sizeof(uint32) + chunk->body_len;

	for (uint32 i = 0; i < chunk->count; i++)
		offsets[i] = chunk_end_offset(chunk, i);
	memcpy(bodies, chunk->data, chunk->body_len);
	memset(bodies + chunk->body_len, 0, length - used);
	return frame_hash_offsets(offsets, chunk->count, chunk->body_hash);
}

/* Copy a chunk to its place in the ring, as a frame. */
static void
copy_chunk(Ring *ring, Chunk *chunk, const RingFrame *info, uint64 *pos, uint64 seq,
		   const RingGrant *grant)
{
	FrameHeader *frame = ring_put(ring, pos, info->length);
	uint64 hash = copy_body(chunk, frame_offsets(frame), info->length);

	ring_put_header(ring, frame, *pos, info, chunk->flags, seq, grant, hash);
	chunk->frame = frame;
}

void
builder_prepare(Builder *builder, NbLog *log)
{
	uint64 last_seq = log_ring(log->shared, builder->shard)->next_seq + builder->appended - 1;

	if (unlikely(last_seq > log_ring(log->shared, builder->shard)->seq_limit))
		nb_log_raise_bound(log, last_seq);
}

static inline RingFrame
chunk_info(const Chunk *chunk)
{
	RingFrame info = {chunk_frame_size(chunk), chunk->count, chunk->body_len};

	return info;
}

bool
builder_claim(Builder *builder)
{
	const BuilderLimits *limits = builder->limits;
	NbLog *log = limits->log;
	Ring *ring = log_ring(log->shared, builder->shard);
	RingFrame local[64];
	RingFrame *frames = local;
	RingResult result;
	int64 deadline = 0;
	uint64 bytes = 0;
	uint64 skipped = builder->appended;
	uint64 skipped_bytes = 0;
	Chunk *from; /* the first that may go into the ring */
	uint64 pos;
	uint64 seq;
	int n = 0;

	Assert(!builder->claimed && builder->appended > 0);

	/* The newest that fill a quarter of the ring, and are each no larger than a frame there. */
	from = builder->first;
	for (Chunk *chunk = builder->first; chunk; chunk = chunk->next)
	{
		hash_chunk(chunk);
		bytes += chunk_frame_size(chunk);
		n++;
		while (from != chunk->next &&
			   (bytes > ring->size / 4 || chunk_frame_size(chunk) > ring->max_frame))
		{
			bytes -= chunk_frame_size(from);
			skipped_bytes += from->body_len;
			from = from->next;
			n--;
		}
	}
	if (n > lengthof(local))
		frames = palloc(n * sizeof(RingFrame));
	n = 0;
	for (Chunk *chunk = from; chunk; chunk = chunk->next)
	{
		frames[n++] = chunk_info(chunk);
		skipped -= chunk->count;
	}
	ring_map(ring, &log->local[builder->shard].mapped, bytes);
	debug_point("claim");
	for (;;)
	{
		result = ring_claim(ring, frames, n, skipped, skipped_bytes, limits->claim_flags,
							&builder->grant);
		if (result == RING_OK)
			break;
		if (result == RING_SEQ_LIMIT)
			builder_prepare(builder, log);
		else if (!backpressure_full(limits, builder->shard, bytes, builder->appended, &deadline))
		{
			if (frames != local)
				pfree(frames);
			return false;
		}
	}
	builder->claimed = true;

	/* No error, no interrupt, no allocation from here to the last copy. */
	pos = builder->grant.start_pos;
	seq = builder->grant.first_seq;
	n = 0;
	for (Chunk *chunk = from; chunk; chunk = chunk->next, n++)
	{
		if (n < builder->grant.first)
			continue;
		copy_chunk(ring, chunk, &frames[n], &pos, seq, &builder->grant);
		debug_point_noerror("copy");
		seq += chunk->count;
	}
	if (frames != local)
		pfree(frames);
	return true;
}

bool
builder_needs_rows(const Builder *builder)
{
	const BuilderLimits *limits = builder->limits;

	return limits->rows_all || ((limits->claim_flags & RING_TO_TABLE) &&
								builder->closed_bytes + chunk_frame_size(builder->last) >
									log_ring(limits->log->shared, builder->shard)->size / 4);
}

bool
builder_has_rows(const Builder *builder)
{
	return builder->claimed &&
		   (builder->limits->rows_all ||
			((builder->limits->claim_flags & RING_TO_TABLE) && !builder->first->frame));
}

void
builder_insert_rows(Builder *builder)
{
	const BuilderLimits *limits = builder->limits;
	const Ring *ring = log_ring(limits->log->shared, builder->shard);
	uint64 seq = builder->grant.first_seq;
	StoreWriter writer;

	/* Where the first chunk's seqs begin. */
	for (Chunk *chunk = builder->first; chunk; chunk = chunk->next)
		if (!chunk->frame)
			seq -= chunk->count;

	PushActiveSnapshot(GetTransactionSnapshot()); /* TOAST wants one */
	store_open(&writer, nb_log_table(limits->log, builder->grant.segment), builder->chunks > 2);
	for (Chunk *chunk = builder->first; chunk; chunk = chunk->next)
	{
		RingFrame info = chunk_info(chunk);
		char *row;

		if (chunk->frame && !limits->rows_all)
			break;
		debug_point("row");
		row = store_row(&writer, info.length);
		if (chunk->frame)
		{
			uint32 word = frame_word(FRAME_READY, info.length);

			/* Pending, so nobody evicts it. */
			memcpy(row, chunk->frame, info.length);
			memcpy(row, &word, sizeof(word));
		}
		else
		{
			FrameHeader header;
			uint64 hash = copy_body(chunk, (uint32 *) (row + sizeof(FrameHeader)), info.length);

			ring_fill_header(ring, &header, &info, chunk->flags, seq, &builder->grant, hash);
			memcpy(row, &header, sizeof(header));
		}
		store_insert(&writer, builder->shard, seq, chunk->count, info.length);
		seq += chunk->count;
	}
	store_close(&writer);
	PopActiveSnapshot();
}
