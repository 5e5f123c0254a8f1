/*-------------------------------------------------------------------------
 *
 * rows.h
 *		Events as rows, and the arguments of functions that return them.
 *
 * A row is (shard int, seq bigint, ts timestamptz, key text, payload jsonb or
 * bytea), and may have a tail: up to three further columns behind payload.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_ROWS_H
#define NETBUS_ROWS_H

#include "bus/filter.h"
#include "bus/reader.h"
#include "core/args.h"

#include "access/htup_details.h"
#include "fmgr.h"

#define ROW_HOFF MAXALIGN(SizeofHeapTupleHeader + 1) /* one byte of null bitmap */

/*
 * Headers of result rows with a key, without one, and with nothing but the tail, as
 * heap_form_tuple() makes them.  A function's row type never changes, and stays
 * registered in a process that has blessed it: so they are made once for each
 * function.
 */
typedef struct RowHeaders
{
	Oid function;
	char keyed[ROW_HOFF];
	char keyless[ROW_HOFF];
	char bare[ROW_HOFF];
} RowHeaders;

/*
 * The columns behind payload as they lie in a row, of which the first is
 * aligned to 4 bytes: made once for rows where it starts on an 8-byte boundary
 * ([0]) and for those where it starts in between ([1]).
 */
typedef struct RowTail
{
	const char *bytes[2];
	Size len[2];
} RowTail;

/* A tail of one int4; the value may change from row to row. */
static inline RowTail
row_tail_int4(const int32 *value)
{
	RowTail tail = {{(const char *) value, (const char *) value}, {sizeof(int32), sizeof(int32)}};

	return tail;
}

/* The headers for the function that is being called.  Copy them: others may take their place. */
extern const RowHeaders *row_headers(FunctionCallInfo fcinfo);

/* Payload in the form that the caller wants, where it is not the stored one. */
extern struct varlena *row_convert_payload(const ReaderEvent *event, bool raw, const char *log);

/* Fixed part of a row: shard, seq, ts.  Alignment is that of the row type. */
typedef struct RowPrefix
{
	int32 shard;
	int64 seq;
	int64 ts;
} RowPrefix;

/*
 * The row of an event of the log named so, as a composite datum in CurrentMemoryContext.
 * raw: payload as bytea.  tail: NULL if the row type has no more columns.
 */
static inline Datum
row_form(const RowHeaders *headers, const char *log, int shard, const ReaderEvent *event, bool raw,
		 const RowTail *tail)
{
	const FrameEvent *e = &event->event;
	bool jsonb = (event->flags & FRAME_JSONB) != 0;
	struct varlena *converted = NULL;
	const char *payload = e->payload;
	Size payload_len = e->payload_len;
	Size off = ROW_HOFF + sizeof(RowPrefix);
	Size payload_off;
	Size end;
	Size tail_off = 0;
	int place = 0;
	HeapTupleHeader row;
	RowPrefix *prefix;

	if (unlikely(jsonb == raw))
	{
		converted = row_convert_payload(event, raw, log);
		payload = VARDATA(converted);
		payload_len = VARSIZE(converted) - VARHDRSZ;
	}

	payload_off = e->key ? INTALIGN(off + VARHDRSZ + e->key_len) : off;
	end = payload_off + VARHDRSZ + payload_len;
	if (tail)
	{
		tail_off = INTALIGN(end);
		place = tail_off == MAXALIGN(tail_off) ? 0 : 1;
		end = tail_off + tail->len[place];
	}
	row = palloc(end);
	memcpy(row, e->key ? headers->keyed : headers->keyless, ROW_HOFF);
	HeapTupleHeaderSetDatumLength(row, end);

	prefix = (RowPrefix *) ((char *) row + ROW_HOFF);
	prefix->shard = shard;
	memset((char *) prefix + sizeof(int32), 0, offsetof(RowPrefix, seq) - sizeof(int32));
	prefix->seq = event->seq;
	prefix->ts = NB_EPOCH_TO_TIMESTAMPTZ(event->ts);
	if (e->key)
	{
		SET_VARSIZE((char *) row + off, VARHDRSZ + e->key_len);
		memcpy((char *) row + off + VARHDRSZ, e->key, e->key_len);
		off += VARHDRSZ + e->key_len;
		memset((char *) row + off, 0, payload_off - off);
	}
	SET_VARSIZE((char *) row + payload_off, VARHDRSZ + payload_len);
	memcpy((char *) row + payload_off + VARHDRSZ, payload, payload_len);
	if (tail)
	{
		off = payload_off + VARHDRSZ + payload_len;
		memset((char *) row + off, 0, tail_off - off);
		memcpy((char *) row + tail_off, tail->bytes[place], tail->len[place]);
	}
	if (converted)
		pfree(converted);
	return PointerGetDatum(row);
}

/* A row without event: all columns before the tail are null. */
extern Datum row_form_bare(const RowHeaders *headers, const RowTail *tail);

extern uint64 arg_max_events(FunctionCallInfo fcinfo, int n);

/* "filter", compiled in CurrentMemoryContext, or NULL. */
extern Filter *arg_filter(FunctionCallInfo fcinfo, int n);

/* Raise an error unless the log has that shard. */
extern void check_shard(NbLog *log, int shard);

#endif /* NETBUS_ROWS_H */
