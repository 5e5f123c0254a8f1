/*-------------------------------------------------------------------------
 *
 * hold.h
 *		Consumers that keep a log from forgetting what they have not done.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_HOLD_H
#define NETBUS_HOLD_H

#include "bus/consumer.h"

/* The seq up to which nothing of a shard is needed any more.  Takes the slot's lock; cannot fail. */
extern uint64 hold_from(ConsumerShard *slot);

extern void hold_init(void);

#endif /* NETBUS_HOLD_H */
