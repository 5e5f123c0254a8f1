/* A ring of deltas keeps the newest that fit, in order, and knows what it does not have. */
#include "watch/delta.h"

#include <stdlib.h>
#include <string.h>

#include "tap.h"

static unsigned int seed = 1;

static unsigned int
rnd(unsigned int n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 8) % n;
}

/* Content that can be told from any other. */
static void
fill(char *data, uint32_t len, uint64_t seq)
{
	for (uint32_t i = 0; i < len; i++)
		data[i] = (char) (seq * 31 + i);
}

/* All that is in the ring is right; returns how many. */
static long
check(const DeltaRing *ring, uint64_t last)
{
	const Delta *delta = NULL;
	uint64_t seq = ring->after_seq;
	uint32_t n = 0;

	while ((delta = delta_next(ring, delta)) != NULL)
	{
		const char *data = (const char *) (delta + 1);

		if ((const char *) delta < ring->data ||
			(const char *) delta + delta->bytes > ring->data + ring->size)
			return -1;
		if (delta->seq != seq + 1 || delta->id != (int64_t) delta->seq * 3 ||
			delta->op != delta->seq % 3)
			return -1;
		for (uint32_t i = 0; i < delta->len; i++)
			if (data[i] != (char) (delta->seq * 31 + i))
				return -1;
		seq = delta->seq;
		if (++n > ring->count)
			return -1;
	}
	return seq == last && n == ring->count ? (long) n : -1;
}

static void
run(uint32_t size, uint32_t max_len, int n)
{
	DeltaRing *ring = malloc(delta_ring_bytes(size));
	char *data = malloc(max_len + 1);
	bool good = true;
	long least = n;
	long most = 0;

	delta_init(ring, size, 0);
	for (uint64_t seq = 1; seq <= (uint64_t) n; seq++)
	{
		uint32_t len = rnd(max_len + 1);
		uint32_t first = rnd(len + 1);
		long kept;

		fill(data, len, seq);
		delta_append(ring, seq, seq * 3, seq % 3, data, first, data + first, len - first);
		kept = check(ring, seq);
		good &= kept >= 0;
		/* It uses what it has: but for one delta, and the rest of a round. */
		if (seq > 100 && max_len * 4 < size)
			good &= kept * (sizeof(Delta) + max_len + 8) >= size / 2 - max_len;
		least = kept < least ? kept : least;
		most = kept > most ? kept : most;
	}
	tap_ok(good, "%u bytes, deltas of up to %u: %ld to %ld kept", size, max_len, least, most);
	free(data);
	free(ring);
}

int
main(void)
{
	DeltaRing *ring = malloc(delta_ring_bytes(256));
	char data[300];

	delta_init(ring, 256, 41);
	tap_ok(delta_next(ring, NULL) == NULL && ring->after_seq == 41, "empty");
	delta_append(ring, 50, 1, 2, NULL, 0, NULL, 0);
	tap_ok(ring->after_seq == 41 && ring->count == 1 && delta_next(ring, NULL)->seq == 50, "one");
	tap_ok(delta_next(ring, delta_next(ring, NULL)) == NULL, "... and no other");
	memset(data, 'x', sizeof(data));
	delta_append(ring, 60, 1, 0, data, 256 - sizeof(Delta), NULL, 0);
	tap_ok(ring->after_seq == 50 && ring->count == 1 && delta_next(ring, NULL)->seq == 60,
		   "one that fills it");
	delta_append(ring, 70, 1, 0, data, 300, NULL, 0);
	tap_ok(ring->after_seq == 70 && ring->count == 0 && !delta_next(ring, NULL),
		   "one that is too large empties it");
	delta_append(ring, 80, 1, 0, data, 10, NULL, 0);
	delta_forget(ring, 90);
	tap_ok(ring->after_seq == 90 && ring->count == 0, "forget");
	free(ring);

	run(64, 0, 1000);
	run(256, 0, 1000);
	run(256, 100, 20000);
	run(4096, 40, 20000);
	run(4096, 1000, 20000);
	run(4096, 5000, 20000);
	run(16384, 700, 20000);
	return tap_done();
}
