/*-------------------------------------------------------------------------
 *
 * frame.c
 *		Checksums and checks of frames; frame.h has the format.
 *
 * Frames come from places that may lie: a table that somebody wrote to, a
 * disk, a link, a ring whose bytes were overwritten while they were copied.
 * frame_check() therefore believes no field before it has compared it with
 * what is known by then, in this order:
 *
 *	1. the first 8 bytes, which every frame has: version, kind, flags, state;
 *	2. the length, against the bytes at hand; only then is the rest of the
 *	   header read (a pad ends here: it may be no longer than those 8 bytes);
 *	3. count and body bytes, which together must give exactly that length, in
 *	   64 bits, where they cannot overflow; only then are the offsets read;
 *	4. the offsets, which must not decrease and must end at body_bytes; only
 *	   then are the keys' lengths read;
 *	5. each key against its body;
 *	6. on demand the checksum.
 *
 * What passed can be walked with frame_event(), which checks nothing.  The
 * bytes must not change meanwhile: a reader of a ring copies first.
 *
 * The length is not under the checksum, being in the word, but step 3 derives
 * it from fields that are.  The padding behind the bodies is not either; it
 * has to be zero, and as it is the checksum that vouches for every byte,
 * non-zero padding is reported as a wrong checksum.  So one flipped bit in a
 * frame is always found, unless it turns one valid state into another or lies
 * in a pad, which has no checksum; no bit turns one kind into another.
 *
 *-------------------------------------------------------------------------
 */
#include "redex/frame.h"

#include <string.h>

#include "core/hash.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "frames are little-endian and are used in place"
#endif

/* Seqs are int8 in SQL. */
#define FRAME_MAX_SEQ ((uint64_t) INT64_MAX)

_Static_assert(sizeof(FrameHeader) == 64, "frame header must be 64 bytes");
_Static_assert(offsetof(FrameHeader, version) == sizeof(uint32_t),
			   "the checksum must start right behind the word");
_Static_assert(offsetof(FrameHeader, count) == FRAME_ALIGN,
			   "word, version, kind and flags must fit in the smallest pad");
_Static_assert(offsetof(FrameHeader, checksum) == 56, "the checksum must be the last field");

uint64_t
frame_hash_bodies(const void *bodies, size_t len)
{
	return nb_hash64(bodies, len, 0);
}

uint64_t
frame_hash_offsets(const uint32_t *offsets, uint32_t count, uint64_t bodies_hash)
{
	return nb_hash64(offsets, (size_t) count * sizeof(uint32_t), bodies_hash);
}

uint64_t
frame_checksum(const FrameHeader *frame, uint64_t offsets_hash)
{
	const size_t start = offsetof(FrameHeader, version);

	return nb_hash64((const char *) frame + start, offsetof(FrameHeader, checksum) - start,
					 offsets_hash);
}

uint64_t
frame_checksum_whole(const FrameHeader *frame)
{
	uint64_t hash;

	if (frame->kind == FRAME_DATA)
	{
		hash = frame_hash_bodies(frame_bodies(frame), frame->body_bytes);
		hash = frame_hash_offsets(frame_offsets(frame), frame->count, hash);
	}
	else
	{
		hash = frame_hash_bodies(NULL, 0);
		hash = frame_hash_offsets(NULL, 0, hash);
	}

	return frame_checksum(frame, hash);
}

/* Do the end offsets never decrease, and end at body_bytes?  count > 0. */
static bool
offsets_are_sound(const uint32_t *offsets, uint32_t count, uint32_t body_bytes)
{
	uint32_t prev = 0;
	bool decreases = false;

	/* no branch per event: sound frames are what there is */
	for (uint32_t i = 0; i < count; i++)
	{
		decreases |= offsets[i] < prev;
		prev = offsets[i];
	}

	return !decreases && prev == body_bytes;
}

/* Does every body hold the key it announces?  The offsets are sound. */
static bool
keys_are_sound(const uint32_t *offsets, uint32_t count, const char *bodies)
{
	uint32_t start = 0;

	for (uint32_t i = 0; i < count; i++)
	{
		uint32_t size = offsets[i] - start;
		uint16_t key_len;

		if (size < sizeof(key_len))
			return false;
		memcpy(&key_len, bodies + start, sizeof(key_len));
		if (key_len != FRAME_NO_KEY &&
			(key_len > FRAME_MAX_KEY || key_len > size - sizeof(key_len)))
			return false;

		start = offsets[i];
	}

	return true;
}

static bool
seqs_are_sound(const FrameHeader *frame)
{
	/* a seal has a seq, for its row's key, but no range */
	uint64_t further = frame->count > 0 ? frame->count - 1 : 0;

	return frame->base_seq > 0 && frame->base_seq <= FRAME_MAX_SEQ - further &&
		   frame->stable_seq <= FRAME_MAX_SEQ;
}

/* Are the bytes between the end of the bodies and the frame's end zero? */
static bool
padding_is_zero(const FrameHeader *frame)
{
	const char *end = (const char *) frame + frame_word_length(frame->word);

	for (const char *p = frame_bodies(frame) + frame->body_bytes; p < end; p++)
	{
		if (*p != 0)
			return false;
	}

	return true;
}

FrameError
frame_check(const void *data, size_t len, bool verify)
{
	const FrameHeader *frame = data;
	FrameHeader start;
	FrameState state;
	uint32_t length;

	if ((uintptr_t) data % FRAME_ALIGN != 0)
		return FRAME_ERR_ALIGN;
	if (len < FRAME_ALIGN)
		return FRAME_ERR_SHORT;

	/* a copy, since *frame may not reach further than these bytes */
	memcpy(&start, data, FRAME_ALIGN);
	state = frame_word_state(start.word);
	length = frame_word_length(start.word);

	if (start.version != FRAME_VERSION)
		return FRAME_ERR_VERSION;
	if (start.kind != FRAME_DATA && start.kind != FRAME_PAD && start.kind != FRAME_SEAL)
		return FRAME_ERR_KIND;
	if ((start.flags & ~FRAME_ALL_FLAGS) != 0)
		return FRAME_ERR_FLAGS;
	if (state < FRAME_PENDING || state > FRAME_ABORTED)
		return FRAME_ERR_STATE;

	if (length % FRAME_ALIGN != 0 ||
		length < (start.kind == FRAME_PAD ? FRAME_ALIGN : sizeof(FrameHeader)))
		return FRAME_ERR_LENGTH;
	if (length > len)
		return FRAME_ERR_SHORT;
	if (start.kind == FRAME_PAD)
		return FRAME_OK;

	if (start.kind == FRAME_DATA)
	{
		if (frame->count == 0 || frame_size(frame->count, frame->body_bytes) != length)
			return FRAME_ERR_LENGTH;
	}
	else
	{
		/* a seal has no events */
		if (frame->count != 0 || frame->body_bytes != 0 || length != sizeof(FrameHeader))
			return FRAME_ERR_LENGTH;
	}

	if (!seqs_are_sound(frame))
		return FRAME_ERR_SEQ;

	if (start.kind == FRAME_DATA)
	{
		const uint32_t *offsets = frame_offsets(frame);

		if (!offsets_are_sound(offsets, frame->count, frame->body_bytes))
			return FRAME_ERR_OFFSET;
		if ((start.flags & FRAME_KEYS) != 0 &&
			!keys_are_sound(offsets, frame->count, frame_bodies(frame)))
			return FRAME_ERR_KEY;
	}

	if (verify)
	{
		if (frame_checksum_whole(frame) != frame->checksum)
			return FRAME_ERR_CHECKSUM;
		if (start.kind == FRAME_DATA && !padding_is_zero(frame))
			return FRAME_ERR_CHECKSUM;
	}

	return FRAME_OK;
}

const char *
frame_error_text(FrameError error)
{
	switch (error)
	{
		case FRAME_OK:
			return "no error";
		case FRAME_ERR_SHORT:
			return "fewer bytes than the frame's length";
		case FRAME_ERR_ALIGN:
			return "not on an 8-byte boundary";
		case FRAME_ERR_VERSION:
			return "unknown format version";
		case FRAME_ERR_KIND:
			return "unknown kind of frame";
		case FRAME_ERR_FLAGS:
			return "unknown flags";
		case FRAME_ERR_STATE:
			return "invalid state";
		case FRAME_ERR_LENGTH:
			return "length, event count and body bytes disagree";
		case FRAME_ERR_OFFSET:
			return "event offsets out of order or out of bounds";
		case FRAME_ERR_KEY:
			return "key longer than its event or than allowed";
		case FRAME_ERR_SEQ:
			return "sequence number out of range";
		case FRAME_ERR_CHECKSUM:
			return "checksum mismatch";
	}

	return "unknown error";
}
