/*-------------------------------------------------------------------------
 *
 * consumer_ddl.h
 *		Creating consumers from C.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_CONSUMER_DDL_H
#define NETBUS_CONSUMER_DDL_H

#include "bus/consumer.h"

/* The consumer of that name; if there is none, one without options that starts at the earliest event. */
extern Consumer *consumer_ensure(NbLog *log, const char *name);

#endif /* NETBUS_CONSUMER_DDL_H */
