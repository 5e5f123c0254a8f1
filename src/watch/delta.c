/*-------------------------------------------------------------------------
 *
 * delta.c
 *		The last changes of a watch, kept for those who pull them.
 *
 * A ring of bytes.  A delta is never split: where one does not fit behind the newest, the
 * rest up to the end stays unused ("wrap") and it goes to the beginning.  The
 * deltas lie in [head, tail), or in [head, wrap) and [0, tail) where tail is not behind
 * head.
 *
 *	 0            tail         head              wrap     size
 *	 | newer deltas |   free     | older deltas    | unused |
 *
 *-------------------------------------------------------------------------
 */
#include "watch/delta.h"

#include <string.h>

void
delta_init(DeltaRing *ring, uint32_t size, uint64_t after_seq)
{
	memset(ring, 0, offsetof(DeltaRing, data));
	ring->size = size;
	ring->after_seq = after_seq;
}

void
delta_forget(DeltaRing *ring, uint64_t after_seq)
{
	delta_init(ring, ring->size, after_seq);
}

/* Is all of it in one piece? */
static inline bool
in_one_piece(const DeltaRing *ring)
{
	return ring->count == 0 || ring->tail > ring->head;
}

static void
evict(DeltaRing *ring)
{
	const Delta *oldest = (const Delta *) (ring->data + ring->head);

	ring->after_seq = oldest->seq;
	ring->count--;
	ring->head += oldest->bytes;
	if (ring->count == 0)
		ring->head = ring->tail = 0;
	else if (ring->tail <= ring->head && ring->head == ring->wrap)
		ring->head = 0;
}

/* Where so many bytes are free, as tail then is; false: nowhere. */
static bool
make_place(DeltaRing *ring, uint32_t bytes)
{
	if (!in_one_piece(ring))
		return ring->head - ring->tail >= bytes;
	if (ring->count == 0)
		ring->head = ring->tail = 0;
	if (ring->size - ring->tail >= bytes)
		return true;
	if (ring->head < bytes)
		return false;
	ring->wrap = ring->tail;
	ring->tail = 0;
	return true;
}

void
delta_append(DeltaRing *ring, uint64_t seq, int64_t id, uint32_t op, const void *first,
			 uint32_t first_len, const void *second, uint32_t second_len)
{
	uint64_t len = (uint64_t) first_len + second_len;
	uint64_t bytes = (sizeof(Delta) + len + 7) & ~(uint64_t) 7;
	Delta *delta;

	if (bytes > ring->size)
	{
		delta_forget(ring, seq);
		return;
	}
	while (!make_place(ring, bytes))
		evict(ring);
	delta = (Delta *) (ring->data + ring->tail);
	delta->seq = seq;
	delta->id = id;
	delta->bytes = bytes;
	delta->len = len;
	delta->op = op;
	delta->pad = 0;
	if (first_len > 0)
		memcpy(delta + 1, first, first_len);
	if (second_len > 0)
		memcpy((char *) (delta + 1) + first_len, second, second_len);
	ring->tail += bytes;
	ring->count++;
}

const Delta *
delta_next(const DeltaRing *ring, const Delta *delta)
{
	uint32_t at;

	if (ring->count == 0)
		return NULL;
	if (!delta)
		return (const Delta *) (ring->data + ring->head);
	at = (const char *) delta - ring->data + delta->bytes;
	if (at == ring->tail)
		return NULL;
	if (ring->tail <= ring->head && at == ring->wrap)
		at = 0;
	return (const Delta *) (ring->data + at);
}
