/*-------------------------------------------------------------------------
 *
 * store.h
 *		The durable part of a log: rows of frames in its table or segments.
 *
 * Writing and scanning rows, below SQL.  A row is one frame, or several
 * contiguous ones that the worker persisted together, and fills a page at most
 * unless it is a single event larger than that.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_STORE_H
#define NETBUS_STORE_H

#include "access/genam.h"
#include "access/heapam.h"
#include "nodes/execnodes.h"

#include "redex/redex.h"

/*
 * Bytes of frames in a row that is one inline tuple and fills a page: 24 of
 * tuple header, 16 of columns, 4 of varlena header, and 8112 make 8156 of the
 * 8160 that a page takes.
 */
#define STORE_ROW_BYTES 8112

/* The most events that such a row can have, each with an offset and no body. */
#define STORE_ROW_EVENTS ((STORE_ROW_BYTES - (int) sizeof(FrameHeader)) / (int) sizeof(uint32))

#define STORE_MAX_INDEXES 16

/* Insertion into one table, within a transaction.  Private to the process. */
typedef struct StoreWriter
{
	Relation rel; /* NULL: not open */
	int nindexes;
	Relation indexes[STORE_MAX_INDEXES]; /* those that take insertions */
	IndexInfo *infos[STORE_MAX_INDEXES];
	BulkInsertState bulk; /* NULL: a row or two */
	int options;          /* of heap_insert() */
	char *tuple;          /* the row being built */
	Size room;            /* for frames */
} StoreWriter;

/*
 * Open a table of a log for insertion: RowExclusiveLock on it and its indexes,
 * kept to the end of the transaction.  Memory comes from the current context.
 * bulk: many rows follow.  Needs an active transaction with an xid.  May fail.
 */
extern void store_open(StoreWriter *writer, Oid table, bool bulk);

/* Room for a row's frames, aligned to 4 bytes; valid until store_insert(). */
extern char *store_row(StoreWriter *writer, Size bytes);

/*
 * Insert the row that was built at store_row(): heap tuple and an entry in
 * every index that takes insertions, as the executor does it but without
 * triggers and constraints, which a log's table does not have.  May fail.
 */
extern void store_insert(StoreWriter *writer, int shard, uint64 base_seq, int events, Size bytes);

extern void store_close(StoreWriter *writer);

/* A row found by a scan; frames is valid until the next call. */
typedef struct StoreRow
{
	uint64 base_seq;
	uint32 events;
	const char *frames; /* 8-byte aligned, checked with checksum */
	Size bytes;
} StoreRow;

/*
 * A scan of the rows of a shard in seq order, across all tables of a log.  It
 * sees what is committed when it begins.  At most one table is locked
 * (AccessShareLock) besides the log's own at any time.
 */
typedef struct StoreScan
{
	NbLog *log;
	int shard;
	uint64 next_seq; /* rows from here on */
	uint64 to_seq;   /* up to here */
	uint64 damaged;  /* events of rows that were skipped */
	bool single;     /* one seq only */

	/* the table being scanned */
	int ntables;
	Oid tables[LOG_SEGMENTS];
	uint64 switch_seq; /* where another table has the next row; PG_UINT64_MAX: none */
	bool positioned;
	Relation rel;
	Relation index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	Snapshot snapshot;
	MemoryContext context;
	char *buffer;
	Size buffer_size;
} StoreScan;

/*
 * Begin a scan of rows that hold events from_seq..to_seq.  Whoever wants all
 * that is stable loads stable_seq before he calls this.  Call in a transaction, on an
 * open log.  End it, or leave it to an abort.
 */
extern StoreScan *store_scan_begin(NbLog *log, int shard, uint64 from_seq, uint64 to_seq);

/*
 * The next row.  False: there is none.  A row whose frames are damaged is an
 * error (DATA_CORRUPTED), or skipped and counted with netbus.damaged_frames =
 * 'skip'.
 */
extern bool store_scan_next(StoreScan *scan, StoreRow *row);
extern void store_scan_end(StoreScan *scan);

/* Ends of a shard, from the tables: what is visible now. */
typedef struct StoreEnds
{
	bool empty;
	uint64 first_seq;
	uint64 last_base_seq; /* of the last row */
	uint64 last_seq;
	uint64 stable_seq; /* the last frame's */
	int64 first_ts;
	int64 last_ts;
} StoreEnds;

/*
 * The first and last row of a shard in one table, or in all tables of the log if
 * table is InvalidOid.  Two index probes a table.
 */
extern void store_ends(NbLog *log, Oid table, int shard, StoreEnds *ends);

/*
 * Add up what the rows of [from_seq, to_seq] of one table hold, at most max_rows
 * of them: *events, and *bytes of bodies.  Returns the seq to go on from,
 * to_seq + 1 when done.
 */
extern uint64 store_count(Oid table, int shard, uint64 from_seq, uint64 to_seq, int max_rows,
						  uint64 *events, uint64 *bytes);

/* Move all rows of one table into another, empty one.  The caller has AccessExclusiveLock on both. */
extern void store_move(Oid from, Oid to);

/*
 * Empty a table, if its indexes and its TOAST table are free, too; else false.  The
 * caller has AccessExclusiveLock on it and has seen that its only trigger is the
 * guard.
 */
extern bool store_truncate(Oid table);

/*
 * Delete the leading rows of a shard, up to to_seq, whose events are all older
 * than "before" (microseconds since 1970).  Adds what they held to *events and
 * *bytes (of bodies); returns the last seq deleted, 0: none.  One caller at a time per log.
 */
extern uint64 store_delete(Oid table, int shard, uint64 to_seq, int64 before, uint64 *events,
						   uint64 *bytes);

#endif /* NETBUS_STORE_H */
