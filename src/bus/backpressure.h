/*-------------------------------------------------------------------------
 *
 * backpressure.h
 *		What a publisher does when the ring has no room.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_BACKPRESSURE_H
#define NETBUS_BACKPRESSURE_H

#include "bus/builder.h"

/*
 * Before memory for more events is taken, so that this transaction has "bytes"
 * of them for a shard: policy "block" waits for room (interruptibly, at most
 * netbus.wait_timeout, holding no claim), "fail" is an error if there is none.
 * Errors: INSUFFICIENT_RESOURCES.
 */
extern void backpressure_wait(const BuilderLimits *limits, int shard, uint64 bytes);

/*
 * Policies "drop_newest" and "sample": is an event accepted that makes it
 * "bytes" for this shard?  If not, it is counted.
 */
extern bool backpressure_admit(const BuilderLimits *limits, int shard, uint64 bytes);

/*
 * A claim found no room for "bytes".  True: try again.  False: the events are
 * refused, and counted.  Or an error, as the policy says.  *deadline is 0 at
 * first: however often a call tries, it waits no longer than once.
 */
extern bool backpressure_full(const BuilderLimits *limits, int shard, uint64 bytes, uint64 events,
							  int64 *deadline);

/* At the end of a (sub)transaction: we do not wait any more.  Cannot fail. */
extern void backpressure_end_wait(void);

#endif /* NETBUS_BACKPRESSURE_H */
