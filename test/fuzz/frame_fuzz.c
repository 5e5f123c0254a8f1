/*-------------------------------------------------------------------------
 *
 * frame_fuzz.c
 *		Any bytes are a frame or an error, and a frame can be walked.
 *
 * link: src/core/hash.c src/core/hash_avx2.c
 *
 * The last byte of the input says how the rest is repaired first, because a
 * length that fits can hardly be guessed, and a checksum not at all.  Its low
 * two bits:
 *
 *		0	not at all
 *		1	the checksum
 *		2	also version, kind, flags, state, length, body bytes and seqs
 *		3	also the end offsets: sorted, the last one at the bodies' end
 *
 * The other bits leave the checksum or the seqs out of it, and set the size of
 * the padding, so that each error can still be reached.
 *
 * Beyond what the sanitizers see, the properties that the callers of
 * frame_check() rely on are asserted here.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redex/frame.h"

#define require(condition)                                                            \
	do                                                                                \
	{                                                                                 \
		if (!(condition))                                                             \
		{                                                                             \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                  \
		}                                                                             \
	} while (0)

enum
{
	REPAIR_NOTHING,
	REPAIR_CHECKSUM,
	REPAIR_HEADER,
	REPAIR_OFFSETS
};

#define REPAIR_MASK    0x03
#define LEAVE_CHECKSUM 0x04
#define LEAVE_SEQS     0x08
#define PADDING_SHIFT  5

extern volatile unsigned bytes_read;
volatile unsigned bytes_read;

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
repair_header(FrameHeader *frame, size_t len, int mode)
{
	static const uint8_t kinds[] = {FRAME_DATA, FRAME_PAD, FRAME_SEAL};
	uint32_t padding = mode >> PADDING_SHIFT;

	if (len < sizeof(FrameHeader))
		return;

	frame->version = FRAME_VERSION;
	frame->kind = kinds[frame->kind % 3];
	frame->flags &= FRAME_ALL_FLAGS;
	if ((mode & LEAVE_SEQS) == 0)
	{
		frame->base_seq = frame->base_seq >> 2 | 1;
		frame->stable_seq >>= 1;
	}

	len = len / FRAME_ALIGN * FRAME_ALIGN;
	if (frame->kind == FRAME_DATA)
	{
		frame->count %= 1 + (len - sizeof(FrameHeader)) / sizeof(uint32_t);
		frame->body_bytes = len - sizeof(FrameHeader) - frame->count * sizeof(uint32_t);
		if (frame->body_bytes >= padding)
			frame->body_bytes -= padding;
	}
	else if (frame->kind != FRAME_PAD)
	{
		frame->body_bytes = 0;
		len = sizeof(FrameHeader);
	}
	frame->word = frame_word(FRAME_PENDING + frame_word_state(frame->word) % FRAME_ABORTED, len);
}

static int
compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *) a;
	uint32_t y = *(const uint32_t *) b;

	return (x > y) - (x < y);
}

static void
repair_offsets(FrameHeader *frame, size_t len)
{
	uint32_t *offsets = frame_offsets(frame);

	if (len < sizeof(FrameHeader) || frame->kind != FRAME_DATA || frame->count == 0)
		return;

	for (uint32_t i = 0; i < frame->count; i++)
		offsets[i] %= frame->body_bytes + UINT64_C(1);
	qsort(offsets, frame->count, sizeof(uint32_t), compare);
	offsets[frame->count - 1] = frame->body_bytes;
}

/* Read all that the events point to; they have to lie one behind the other. */
static void
walk(const FrameHeader *frame, size_t len)
{
	const char *end = frame_bodies(frame);
	uint64_t last_seq = frame_last_seq(frame);
	unsigned sum = 0;

	require(last_seq >= frame->base_seq && last_seq <= INT64_MAX);

	for (uint32_t i = 0; i < frame->count; i++)
	{
		FrameEvent event;

		frame_event(frame, i, &event);
		if (event.key != NULL)
		{
			require((frame->flags & FRAME_KEYS) != 0 && event.key_len <= FRAME_MAX_KEY);
			require(event.key == end + 2);
			require(event.payload == event.key + event.key_len);
		}
		else
		{
			require(event.key_len == 0);
			require(event.payload == end + ((frame->flags & FRAME_KEYS) != 0 ? 2 : 0));
		}

		for (uint32_t j = 0; j < event.key_len; j++)
			sum += (unsigned char) event.key[j];
		for (uint32_t j = 0; j < event.payload_len; j++)
			sum += (unsigned char) event.payload[j];
		end = event.payload + event.payload_len;
	}
	/* or the compiler would leave out the reading */
	bytes_read = sum;
	require(end == frame_bodies(frame) + frame->body_bytes);
	require(end <= (const char *) frame + len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int mode;
	int repair;
	size_t len;
	FrameHeader *frame;
	FrameError plain;
	FrameError verified;

	if (size == 0)
		return 0;
	mode = data[size - 1];
	repair = mode & REPAIR_MASK;
	len = size - 1;

	/* an allocation of exactly that size, which malloc aligns */
	frame = malloc(len);
	if (frame == NULL)
		return 0;
	memcpy(frame, data, len);

	if (repair >= REPAIR_HEADER)
		repair_header(frame, len, mode);
	if (repair >= REPAIR_OFFSETS)
		repair_offsets(frame, len);

	plain = frame_check(frame, len, false);
	if (plain == FRAME_OK && repair >= REPAIR_CHECKSUM && (mode & LEAVE_CHECKSUM) == 0 &&
		frame->kind != FRAME_PAD)
		frame->checksum = frame_checksum_whole(frame);
	verified = frame_check(frame, len, true);

	require(frame_error_text(verified) != NULL);
	require(verified == plain || (plain == FRAME_OK && verified == FRAME_ERR_CHECKSUM));

	if (plain == FRAME_OK)
	{
		uint32_t length = frame_word_length(frame->word);

		require(length >= FRAME_ALIGN && length % FRAME_ALIGN == 0 && length <= len);
		require(frame_check(frame, length, true) == verified);
		require(frame_check(frame, length - 1, true) == FRAME_ERR_SHORT);
		if (frame->kind == FRAME_DATA)
			walk(frame, len);
	}
	if (len > 0)
		require(frame_check((char *) frame + 1, len - 1, true) == FRAME_ERR_ALIGN);

	free(frame);
	return 0;
}
