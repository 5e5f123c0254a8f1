/*-------------------------------------------------------------------------
 *
 * builder.h
 *		Frames under construction: the events of one transaction for one shard.
 *
 * A builder is a list of chunks; a chunk has exactly the capacity of a frame.
 * Bodies grow from its front and end offsets from its back, so that an event
 * costs one copy and no allocation.  The bodies are hashed when a chunk is
 * full, while they are in cache.
 *
 *		+-------+------------------------+ - - - - - +---------------------+
 *		| Chunk | bodies, back to back ->|   free    |<- end offsets       |
 *		+-------+------------------------+ - - - - - +---------------------+
 *
 * Savepoints: the first event of a subtransaction records how far the builder
 * was (a mark).  Rolling back truncates to the mark; releasing hands the mark
 * to the parent, or drops it if the parent has an older one.  Chunks that were
 * given up for newer ones do not come back when those are rolled back.
 *
 * Chunks come in two sizes and are kept from one transaction to the next, up
 * to netbus.publish_buffer, because the page faults of fresh memory cost more
 * than everything else that publishing does.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_BUILDER_H
#define NETBUS_BUILDER_H

#include "redex/redex.h"

typedef struct Chunk
{
	struct Chunk *next;
	uint64 ordinal;   /* 1, 2, ... within its builder */
	uint64 body_hash; /* if hashed */
	uint32 capacity;  /* bytes for bodies and offsets, a multiple of 8 */
	uint32 body_len;
	uint32 count;
	uint16 flags; /* FRAME_KEYS, FRAME_JSONB */
	bool hashed;
	uint8 size_class;
	const FrameHeader *frame; /* once claimed: its place in the ring, NULL: it has none */
	char data[FLEXIBLE_ARRAY_MEMBER];
} Chunk;

typedef struct BuilderMark
{
	int level;    /* nesting level of the subtransaction */
	uint32 count; /* events and bytes of the last chunk before it */
	uint32 body_len;
	uint64 ordinal;  /* of that chunk, 0: none */
	uint64 appended; /* events before it */
} BuilderMark;

struct BuilderLimits;

typedef struct Builder
{
	const struct BuilderLimits *limits;
	Chunk *first;
	Chunk *last;
	uint64 closed_bytes; /* frame sizes of all chunks but the last */
	uint64 appended;     /* events, those given up included */
	uint64 expected;     /* bytes that are about to come, if known: sizes the first chunk */
	uint64 ordinals;     /* chunks so far */
	int chunks;
	int level; /* of the newest mark; 1 if there is none */
	int nmarks;
	int max_marks;
	BuilderMark *marks;
	struct Builder *next; /* in the list of those with events, by its owner */
	bool listed;
	bool claimed; /* its ring has a claim of ours */
	RingGrant grant;
	int shard;
} Builder;

/* What limits a builder: properties of the log, and whether its events wait for the commit. */
typedef struct BuilderLimits
{
	uint32 max_frame;   /* bytes of a frame with several events */
	uint32 max_single;  /* bytes of a frame with one event */
	uint64 max_bytes;   /* bytes of all frames: a quarter of the ring, if they have to fit there */
	bool keep_newest;   /* beyond that give up the oldest, else fail */
	bool transactional; /* events wait for the commit */
	bool rows_all;      /* every frame is a row */
	bool policed;       /* a policy looks at each event: drop_newest, sample */
	bool throttled;     /* it looks at each chunk: block, fail */
	int claim_flags;    /* RING_MAY_SKIP ... */
	uint16 flags;       /* FRAME_JSONB or 0 */
	NbLog *log;
} BuilderLimits;

#define chunk_frame_size(chunk) frame_size((chunk)->count, (chunk)->body_len)
#define chunk_end_offset(chunk, i) \
	(((uint32 *) ((chunk)->data + (chunk)->capacity))[-1 - (int64) (i)])

/* Make room for an event of that many body bytes: a new chunk, or an error. */
extern void builder_grow(Builder *builder, uint64 body_len, bool keys);
extern void builder_mark(Builder *builder, int level);
extern void builder_end_level(Builder *builder, int level, bool commit);
extern void builder_reset(Builder *builder);

/* Raise the log's bound as far as builder_claim() will need it: may write WAL and wait. */
extern void builder_prepare(Builder *builder, NbLog *log);

/*
 * Claim room in the ring for everything in the builder, and copy it there.  May
 * fail until the claim is made, from then on nothing does.  Afterwards
 * builder->claimed; the chunks stay until builder_reset().  False: the log's
 * policy has refused all of it, and it is counted.
 */
extern bool builder_claim(Builder *builder);

/* Will there be rows for sure: is there more than a ring can take? */
extern bool builder_needs_rows(const Builder *builder);

/* Are there rows to insert for a claimed builder?  builder_insert_rows() does it; it may fail. */
extern bool builder_has_rows(const Builder *builder);
extern void builder_insert_rows(Builder *builder);

/* At the end of a transaction: give back memory beyond netbus.publish_buffer. */
extern void builder_trim_memory(void);

/*
 * Append an event.  level is the current transaction nesting level (1 for
 * events that do not wait for a transaction).
 */
static inline void
builder_append(Builder *builder, int level, const char *key, uint32 key_len, const void *payload,
			   uint32 payload_len)
{
	Chunk *chunk;
	char *to;
	uint64 body_len;

	if (unlikely(level != builder->level))
		builder_mark(builder, level);

	for (;;)
	{
		bool keys;

		chunk = builder->last;
		keys = key != NULL || (chunk && (chunk->flags & FRAME_KEYS));
		body_len = (uint64) payload_len + (keys ? sizeof(uint16) + key_len : 0);
		if (likely(chunk != NULL && !chunk->hashed &&
				   (key == NULL || (chunk->flags & FRAME_KEYS)) &&
				   chunk->body_len + body_len + (chunk->count + 1) * sizeof(uint32) <=
					   chunk->capacity))
			break;
		builder_grow(builder, payload_len + (key ? sizeof(uint16) + key_len : 0), key != NULL);
	}

	to = chunk->data + chunk->body_len;
	if (chunk->flags & FRAME_KEYS)
	{
		uint16 prefix = key ? key_len : FRAME_NO_KEY;

		memcpy(to, &prefix, sizeof(prefix));
		to += sizeof(prefix);
		if (key)
		{
			memcpy(to, key, key_len);
			to += key_len;
		}
	}
	memcpy(to, payload, payload_len);
	chunk->body_len += body_len;
	chunk_end_offset(chunk, chunk->count) = chunk->body_len;
	chunk->count++;
	builder->appended++;
}

#endif /* NETBUS_BUILDER_H */
