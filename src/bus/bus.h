/*-------------------------------------------------------------------------
 *
 * bus.h
 *		What happens per call and per transaction: publishing and reading.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_BUS_H
#define NETBUS_BUS_H

#include "core/core.h"
#include "redex/redex.h"

extern void nb_bus_init(void);

#endif /* NETBUS_BUS_H */
