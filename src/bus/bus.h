/*-------------------------------------------------------------------------
 *
 * bus.h
 *		What happens per call and per transaction: publishing, reading, consuming.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_BUS_H
#define NETBUS_BUS_H

#include "core/core.h"
#include "redex/redex.h"

extern void nb_bus_init(void);

/* consumer.c */
extern Size nb_consumer_shmem_size(void);
extern void nb_consumer_shmem_init(void);

#endif /* NETBUS_BUS_H */
