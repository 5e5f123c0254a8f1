/*-------------------------------------------------------------------------
 *
 * window.h
 *		What happened to the rows of a watch since its last notification.
 *
 * Plain C.  Several changes of one record are one: what counts is whether it was a row
 * when the window began and whether it is one now.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_WINDOW_H
#define NETBUS_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WINDOW_MAX_RECORDS 1024
#define WINDOW_MAX_BYTES   7000 /* of ids in a notification */

typedef enum WatchOp
{
	WATCH_ENTERED,
	WATCH_CHANGED,
	WATCH_LEFT,
} WatchOp;

#define WATCH_OPS 3

typedef struct WindowRecord
{
	int64_t id;
	bool was; /* a row when the window began */
	bool is;  /* a row now */
} WindowRecord;

/* All zero: empty. */
typedef struct Window
{
	uint64_t first_seq; /* 0: nothing happened */
	uint64_t last_seq;
	bool overflow; /* too many records to tell which */
	uint32_t nrecords;
	uint32_t bytes;        /* of their ids, as a notification would have them */
	uint32_t room;         /* a power of two */
	WindowRecord *records; /* in the order in which they first changed */
	uint16_t *places;      /* hash table: index in records + 1; twice the room */
} Window;

/* As realloc(); NULL: no memory for it. */
typedef void *(*WindowResize)(void *memory, size_t bytes);

/*
 * Add a change.  Returns true if the record had changed in this window before.  Without memory
 * the window overflows.
 */
extern bool window_add(Window *window, WatchOp op, int64_t id, uint64_t seq, WindowResize resize);

/* What has become of a record; false: nothing, in the end. */
extern bool window_op(const WindowRecord *record, WatchOp *op);

/* Has nothing happened, in the end? */
extern bool window_idle(const Window *window);

/* Make it empty.  Keeps memory for so many records at most; what is used again and again need not be allocated anew. */
extern void window_clear(Window *window, uint32_t keep, WindowResize resize);

/* Bytes that it takes. */
static inline size_t
window_bytes(const Window *window)
{
	return window->room * (sizeof(WindowRecord) + 2 * sizeof(uint16_t));
}

#endif /* NETBUS_WINDOW_H */
