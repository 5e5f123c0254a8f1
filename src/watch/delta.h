/*-------------------------------------------------------------------------
 *
 * delta.h
 *		The last changes of a watch, kept for those who pull them.
 *
 * Plain C.  A piece of memory that holds as many of the newest deltas as it has room for;
 * the oldest give way.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_DELTA_H
#define NETBUS_DELTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A change as it is kept, followed by len bytes of data. */
typedef struct Delta
{
	uint64_t seq;
	int64_t id;
	uint32_t bytes; /* of all of it, a multiple of 8 */
	uint32_t len;
	uint32_t op; /* WatchOp */
	uint32_t pad;
} Delta;

/* Holds no absolute pointer.  The caller's lock. */
typedef struct DeltaRing
{
	uint64_t after_seq; /* all deltas behind this one are here */
	uint32_t size;      /* bytes of data */
	uint32_t head;      /* where the oldest is; it ends where no other can start */
	uint32_t tail;      /* behind the newest */
	uint32_t wrap;      /* if tail is before head: where the upper part ends */
	uint32_t count;
	uint32_t pad;
	char data[]; /* 8-byte aligned */
} DeltaRing;

#define delta_ring_bytes(size) (offsetof(DeltaRing, data) + (size))

/* size: a multiple of 8. */
extern void delta_init(DeltaRing *ring, uint32_t size, uint64_t after_seq);

/*
 * Add a delta whose data are in two pieces.  What is too large for the ring empties it.
 */
extern void delta_append(DeltaRing *ring, uint64_t seq, int64_t id, uint32_t op, const void *first,
						 uint32_t first_len, const void *second, uint32_t second_len);

/* The first one, or the one behind another; NULL: none. */
extern const Delta *delta_next(const DeltaRing *ring, const Delta *delta);

/* Whatever comes before a seq is not here. */
extern void delta_forget(DeltaRing *ring, uint64_t after_seq);

#endif /* NETBUS_DELTA_H */
