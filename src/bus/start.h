/*-------------------------------------------------------------------------
 *
 * start.h
 *		Where reading of a log starts, as a user says it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_START_H
#define NETBUS_START_H

#include "bus/bus.h"
#include "bus/cursor.h"

typedef enum StartKind
{
	START_EARLIEST, /* no shard has a position */
	START_LATEST,   /* every shard's stable seq */
	START_TIME,     /* before the first event that is not older */
	START_CURSOR,   /* what poll() has returned */
} StartKind;

/*
 * Positions in a log from 'earliest', 'latest', a timestamp or a cursor.  They
 * cover all shards of the log, but those without position: there it is the oldest
 * event.  A position may lie beyond the head.  argument is the name of what
 * holds the text, for errors: INVALID_PARAMETER_VALUE.
 */
extern StartKind start_resolve(NbLog *log, const char *text, const char *argument, Cursor *cursor);

#endif /* NETBUS_START_H */
