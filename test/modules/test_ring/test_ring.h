/*-------------------------------------------------------------------------
 *
 * test_ring.h
 *		What the tests of the ring share: checks, events that vouch for
 *		themselves, and frames of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEST_RING_H
#define TEST_RING_H

#include "postgres.h"

#include "common/pg_prng.h"

#include "redex/ring.h"

/*
 * Raise an error that tells where; in a worker the test's shared memory gets
 * the message, too.
 */
#define check(condition)                                       \
	do                                                         \
	{                                                          \
		if (unlikely(!(condition)))                            \
			test_failed(__FILE__, __LINE__, #condition, 0, 0); \
	} while (0)

/* Likewise, for two numbers. */
#define check_is(found, expected)                                                       \
	do                                                                                  \
	{                                                                                   \
		uint64 found_ = (found);                                                        \
		uint64 expected_ = (expected);                                                  \
                                                                                        \
		if (unlikely(found_ != expected_))                                              \
			test_failed(__FILE__, __LINE__, #found " = " #expected, found_, expected_); \
	} while (0)

extern void (*test_failed_hook)(const char *message);
extern pg_noreturn void test_failed(const char *file, int line, const char *condition, uint64 found,
									uint64 expected);

/* A ring in private memory. */
extern Ring *make_ring(uint64 size, RingBacking backing, uint64 next_seq, uint64 limit);

/* Flags of a claim that always succeeds, as in a memory log that drops its oldest. */
#define DROP (RING_MAY_SKIP | RING_MAY_LOSE)

/* Body bytes of an event without a place in the ring. */
#define SKIPPED_BYTES 7

/* What ring_claim() and its like do for the process with that number. */
extern RingResult claim_as(int procno, Ring *ring, const RingFrame *frames, int nframes,
						   uint64 skipped, int flags, RingGrant *grant);
extern void resolve_as(int procno, Ring *ring, bool commit);

/*
 * Events.  Of one with at least EVENT_MIN bytes every byte follows from the
 * producer and the counter, which are in it; of a shorter one from its length.
 */
#define EVENT_MIN 24
extern void fill_event(char *to, uint32 len, uint32 producer, uint64 counter);
extern bool event_is_whole(const char *event, uint32 len, uint32 *producer, uint64 *counter);

/* Set a frame's length, from count and body bytes. */
extern RingFrame frame_of(uint32 count, uint32 body_bytes);

/* A frame of a length that is a multiple of 8, with one event. */
extern RingFrame frame_of_length(uint32 length);

/* Bytes of event i of a frame: its bodies are shared out evenly. */
extern uint32 event_length(const RingFrame *info, uint32 i);

/* Write the end offsets and bodies of a frame; event i has counter "counter" + i. */
extern uint64 fill_frame(FrameHeader *frame, const RingFrame *info, uint32 producer,
						 uint64 counter);

/* Write the frames of a claim, as builder_claim() does. */
extern void write_claim(Ring *ring, const RingFrame *frames, int nframes, const RingGrant *grant,
						uint32 producer, uint64 counter);

/* Append as by ring_append_small(); *seq is 0 if the ring had no room. */
extern RingResult append_small(Ring *ring, uint32 count, uint32 body_bytes, uint32 producer,
							   uint64 counter, int flags, uint64 *seq);

/*
 * What must hold at every instant.  Looks at a copy made under the lock, so
 * that it may be called while others use the ring.  next_seq - base events have
 * been accepted: base is the first seq, plus seals, minus what a table held.
 */
extern void check_ring(Ring *ring, uint64 base);

/*
 * What must hold of a ring that nobody uses: every frame is whole, resolved,
 * in order and where ring_find() says, and the totals are those of the frames.
 */
extern void check_quiet_ring(Ring *ring);

#endif /* TEST_RING_H */
