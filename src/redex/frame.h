/*-------------------------------------------------------------------------
 *
 * frame.h
 *		The frame: 1..n contiguous events of one shard, self-describing.
 *
 * A frame is the one unit that netbus stores, keeps hot and ships: the same
 * bytes lie in a shard's ring, in a row of the log's table and on a link.
 *
 *		+--------+----------------------+---------------------------+-----+
 *		| header | end offset per event | bodies, back to back      | pad |
 *		| 64 B   | count * u32          | body_bytes                | 0-7 |
 *		+--------+----------------------+---------------------------+-----+
 *
 * End offset i is the distance from the first body byte to the end of body i,
 * so body i spans [end(i-1), end(i)), with end(-1) = 0.  With FRAME_KEYS set
 * every body starts with a u16 key length (FRAME_NO_KEY: none) and the key's
 * bytes; the payload is the rest.  All integers are little-endian in memory
 * order; a frame starts on an 8-byte boundary and its length is a multiple
 * of 8.  The padding behind the bodies is zero: whoever writes a frame must zero
 * it, since the checksum does not cover it and frame_check() tests it instead.
 *
 * A pad fills the end of a ring, because a frame never wraps; it has no events
 * and only its first 8 bytes are meaningful, since they may be all there is.
 * A seal is an empty frame that carries a stable seq past a hole.
 *
 * The checksum covers everything but the word that changes when the frame
 * is resolved.  It is computed in three steps, so that the bodies are hashed
 * while they are in cache, long before seq and position are known:
 *
 *		checksum = xxh3(header[4..56), seed = xxh3(offsets, seed = xxh3(bodies)))
 *
 * This file and frame.c are plain C: no palloc, no ereport, no locks.  Every
 * function may be called anywhere.  A decoder never trusts a length.
 *
 * The method of a length word that is written last, and of pad records, is
 * that of Aeron's log buffers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_FRAME_H
#define NETBUS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FRAME_VERSION    1
#define FRAME_ALIGN      8
#define FRAME_NO_KEY     0xFFFF               /* key length of an event without key */
#define FRAME_MAX_KEY    1024                 /* bytes of a key */
#define FRAME_MAX_LENGTH ((uint32_t) 1 << 28) /* exclusive */

/* The word: 4 bits of state above 28 bits of length in bytes. */
#define FRAME_LENGTH_MASK (FRAME_MAX_LENGTH - 1)
#define FRAME_STATE_SHIFT 28

typedef enum FrameState
{
	FRAME_EMPTY = 0,   /* never written */
	FRAME_PENDING = 1, /* claimed, its transaction is open */
	FRAME_READY = 2,   /* visible */
	FRAME_ABORTED = 3, /* never to be seen */
} FrameState;

/* No two of them differ in one bit only. */
typedef enum FrameKind
{
	FRAME_DATA = 1,
	FRAME_PAD = 2,
	FRAME_SEAL = 4,
} FrameKind;

#define FRAME_KEYS      0x0001 /* bodies start with a key */
#define FRAME_JSONB     0x0002 /* payloads are jsonb containers */
#define FRAME_ALL_FLAGS 0x0003

typedef struct FrameHeader
{
	uint32_t word;       /* state and length; written last */
	uint8_t version;     /* FRAME_VERSION */
	uint8_t kind;        /* FrameKind */
	uint16_t flags;      /* FRAME_KEYS, FRAME_JSONB */
	uint32_t count;      /* events */
	uint32_t body_bytes; /* bytes of all bodies */
	uint64_t base_seq;   /* seq of the first event */
	uint64_t stable_seq; /* the shard's stable seq at the claim */
	int64_t ts;          /* microseconds since 1970-01-01 UTC */
	uint64_t position;   /* ring position of this frame */
	uint64_t origin;     /* system identifier of the server it is from */
	uint64_t checksum;
} FrameHeader;

/* What frame_check() finds. */
typedef enum FrameError
{
	FRAME_OK = 0,
	FRAME_ERR_SHORT, /* fewer bytes than the frame says */
	FRAME_ERR_ALIGN, /* not on an 8-byte boundary */
	FRAME_ERR_VERSION,
	FRAME_ERR_KIND,
	FRAME_ERR_FLAGS,
	FRAME_ERR_STATE,
	FRAME_ERR_LENGTH, /* length, count and body bytes disagree */
	FRAME_ERR_OFFSET, /* end offsets decrease or overrun */
	FRAME_ERR_KEY,    /* a key overruns its body */
	FRAME_ERR_SEQ,    /* seq 0, or a range beyond 63 bits */
	FRAME_ERR_CHECKSUM,
} FrameError;

/* One event, pointing into its frame. */
typedef struct FrameEvent
{
	const char *key; /* NULL: no key; not terminated */
	uint32_t key_len;
	const char *payload;
	uint32_t payload_len;
} FrameEvent;

#define frame_word(state, length) (((uint32_t) (state) << FRAME_STATE_SHIFT) | (uint32_t) (length))
#define frame_word_state(word)    ((FrameState) ((word) >> FRAME_STATE_SHIFT))
#define frame_word_length(word)   ((word) &FRAME_LENGTH_MASK)

/*
 * Bytes of a data frame with that many events and body bytes, padded.  64 bits
 * wide: the result may exceed what a frame can be, compare it first.
 */
static inline uint64_t
frame_size(uint64_t count, uint64_t body_bytes)
{
	return (sizeof(FrameHeader) + count * sizeof(uint32_t) + body_bytes + FRAME_ALIGN - 1) &
		   ~(uint64_t) (FRAME_ALIGN - 1);
}

static inline uint32_t *
frame_offsets(const FrameHeader *frame)
{
	return (uint32_t *) ((char *) frame + sizeof(FrameHeader));
}

static inline char *
frame_bodies(const FrameHeader *frame)
{
	return (char *) frame + sizeof(FrameHeader) + (size_t) frame->count * sizeof(uint32_t);
}

/* Last seq of a frame that has events. */
static inline uint64_t
frame_last_seq(const FrameHeader *frame)
{
	return frame->base_seq + frame->count - 1;
}

/* Hash of the bodies: the seed of frame_checksum(). */
extern uint64_t frame_hash_bodies(const void *bodies, size_t len);

/* Hash of a frame's end offsets, in order, seeded with the bodies' hash. */
extern uint64_t frame_hash_offsets(const uint32_t *offsets, uint32_t count, uint64_t bodies_hash);

/*
 * The checksum of a frame whose header fields from version to origin are set;
 * offsets_hash is the result of frame_hash_offsets() (for a seal that of no
 * offsets and no bodies).
 */
extern uint64_t frame_checksum(const FrameHeader *frame, uint64_t offsets_hash);

/* The checksum computed anew from header, offsets and bodies of a frame that is structurally sound. */
extern uint64_t frame_checksum_whole(const FrameHeader *frame);

/*
 * Is this a frame?  Checks structure in time O(count): alignment, version,
 * kind, flags, state, length against count, body bytes and len (the bytes
 * that the caller has), end offsets, keys, seq range; a data frame has at
 * least one event.  With verify also the checksum.  Afterwards frame_event()
 * may be called for every i < count.  data may be any bytes.
 */
extern FrameError frame_check(const void *data, size_t len, bool verify);

/* Words for an error code, e.g. "checksum mismatch". */
extern const char *frame_error_text(FrameError error);

/*
 * Event i (0-based, < count) of a data frame that passed frame_check().
 * Inline, since it is called for every event read: a call would double its
 * cost.
 */
static inline void
frame_event(const FrameHeader *frame, uint32_t i, FrameEvent *event)
{
	const uint32_t *offsets = frame_offsets(frame);
	uint32_t start = i > 0 ? offsets[i - 1] : 0;
	const char *body = frame_bodies(frame) + start;
	uint32_t size = offsets[i] - start;

	event->key = NULL;
	event->key_len = 0;

	if ((frame->flags & FRAME_KEYS) != 0)
	{
		uint16_t key_len;

		memcpy(&key_len, body, sizeof(key_len));
		body += sizeof(key_len);
		size -= sizeof(key_len);
		if (key_len != FRAME_NO_KEY)
		{
			event->key = body;
			event->key_len = key_len;
			body += key_len;
			size -= key_len;
		}
	}

	event->payload = body;
	event->payload_len = size;
}

#endif /* NETBUS_FRAME_H */
