/*-------------------------------------------------------------------------
 *
 * reader.h
 *		Walking one shard of a log, event by event.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_READER_H
#define NETBUS_READER_H

#include "bus/bus.h"
#include "bus/filter.h"
#include "bus/scratch.h"
#include "redex/store.h"

/*
 * A position in a shard, and the events copied from the frame there, or the
 * row whose frames are being handed out.  Private
 * to the process.  The log is locked until the end of the transaction and
 * pinned while the reader is open.
 */
typedef struct Reader
{
	NbLog *log;
	Ring *ring;
	int shard;
	MemoryContext context; /* of the buffers, unless they are in */
	Scratch *scratch;      /* this; NULL: they are not */
	uint64 after_seq;      /* last seq passed */
	uint64 pos;            /* where the next frame is, if positioned */
	bool positioned;
	uint64 lost;     /* events that were gone when we came to them */
	const char *key; /* only events with this key; NULL: all */
	uint32 key_len;
	const Filter *filter; /* only events that match; NULL: all */
	uint32 chunk;         /* with key or filter: events copied at a time, grows */
	uint64 filtered;      /* events that did not match */
	bool only_one;        /* nothing but event after_seq + 1 is wanted */
	bool from_oldest;     /* until the first event, what is gone does not count as lost */
	bool ring_only;       /* rows must not be read: there is no lock on the table */
	bool wants_rows;      /* ring_only has kept us from going on */

	/* the frame at hand, or a part of it: events [from, to), the next one first */
	FrameHeader header;
	uint32 from;
	uint32 to;
	uint32 next;
	bool from_row;         /* it lies in row; else it was copied from pos of the ring */
	const uint32 *offsets; /* end offsets of events from.., relative to bodies */
	const char *bodies;
	uint32 *copied_offsets;
	uint32 max_offsets;
	char *copied_bodies;
	Size max_bodies;

	/* rows of the table, where the ring has nothing */
	StoreScan *scan; /* NULL: none open */
	uint64 scan_to;  /* what it covers */
	StoreRow row;
	Size row_at;       /* bytes of row that are handed out */
	uint64 row_stable; /* without a live ring: up to here all is resolved */
	uint64 reported;   /* damaged events of the scan that count as lost already */
} Reader;

typedef struct ReaderEvent
{
	uint64 seq;
	int64 ts;         /* microseconds since 1970-01-01 UTC */
	FrameEvent event; /* points into the reader, until its next call */
	uint16 flags;     /* of the frame: FRAME_JSONB */
} ReaderEvent;

/* Start reading after a seq.  Buffers are allocated in the current context. */
extern void reader_open(Reader *reader, NbLog *log, int shard, uint64 after_seq);
extern void reader_close(Reader *reader);

/*
 * The next event, of those that are stable and have the reader's key and match its
 * filter.  False: there is none now, and after_seq is behind those that did
 * not match.  At most "want" (> 0) more events will be asked for: bounds what
 * is copied.  Interruptible.
 */
extern bool reader_next(Reader *reader, uint64 want, ReaderEvent *event);

/* Take back the last reader_next(), which returned true: the next one returns that event again. */
extern void reader_unread(Reader *reader);

/* The shard's stable seq: of the ring if that is live, else as the rows tell it. */
extern uint64 reader_head(NbLog *log, int shard);

/*
 * Sleep until the shard has something past this reader, or the deadline
 * (nb_now_us() time) has come.  False: it has.  Interruptible.
 */
extern bool reader_wait(Reader *reader, int64 deadline);

/* The same for several shards of a log: until one of them has something. */
extern bool readers_wait(Reader **readers, int n, int64 deadline);

#endif /* NETBUS_READER_H */
