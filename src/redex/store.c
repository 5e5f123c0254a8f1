/*-------------------------------------------------------------------------
 *
 * store.c
 *		Rows of frames: inserting them and scanning them, below SQL.
 *
 * The heap and its primary key (shard, base_seq) do the work; what is left out is
 * the executor, because one event a transaction leaves no room for it: a tuple
 * is built in place, with the frame assembled where the column's bytes go, and
 * given to heap_insert() and to index_insert() for every index that takes
 * insertions (also one that somebody is just building concurrently).  This is
 * sound only because catalog_check_table() refuses whatever the executor would
 * look at besides: triggers, rules, constraints, expression and partial
 * indexes, other access methods.
 *
 * Scans use the latest snapshot, not that of the statement: a frame that has
 * left the ring since the statement began would otherwise be a false hole.  A
 * scan across segments merges them: it takes the table with the lowest next
 * row and stays there until another one has a lower one.
 *
 * Locks: on tables and indexes as the executor takes them.  A segment that is
 * scanned cannot be truncated until the scan leaves it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/redex_internal.h"
#include "redex/store.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/index.h"
#include "catalog/pg_type.h"
#include "commands/tablecmds.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/freespace.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Columns of a log's table. */
enum
{
	COL_BASE_SEQ = 1,
	COL_SHARD,
	COL_EVENTS,
	COL_FRAME,
	STORE_COLUMNS = COL_FRAME
};

/* Where a row's columns and its frames are, as heap_form_tuple() would lay it out. */
#define STORE_HOFF         MAXALIGN(SizeofHeapTupleHeader)
#define STORE_FRAME_OFFSET (STORE_HOFF + 16 + VARHDRSZ)

StaticAssertDecl(STORE_HOFF == 24, "the fixed part of a log's row");

/* Rows are built by hand: better an error than garbage if somebody got past all other checks. */
static void
check_columns(Relation rel)
{
	static const Oid types[STORE_COLUMNS] = {INT8OID, INT4OID, INT4OID, BYTEAOID};
	TupleDesc desc = RelationGetDescr(rel);
	bool sound = desc->natts == STORE_COLUMNS;

	for (int i = 0; i < STORE_COLUMNS && sound; i++)
		sound = TupleDescAttr(desc, i)->atttypid == types[i];
	if (!sound)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
						errmsg("columns of table \"%s\" are not those of netbus.frame",
							   RelationGetRelationName(rel))));
}

void
store_open(StoreWriter *writer, Oid table, bool bulk)
{
	List *indexes;
	ListCell *lc;

	memset(writer, 0, sizeof(StoreWriter));
	writer->rel = table_open(table, RowExclusiveLock);
	check_columns(writer->rel);
	indexes = RelationGetIndexList(writer->rel);
	foreach(lc, indexes)
	{
		Relation index = index_open(lfirst_oid(lc), RowExclusiveLock);
		IndexInfo *info = BuildIndexInfo(index);

		if (info->ii_Expressions != NIL || info->ii_Predicate != NIL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
							errmsg("table \"%s\" has expression or partial indexes",
								   RelationGetRelationName(writer->rel))));

		if (!info->ii_ReadyForInserts)
		{
			index_close(index, NoLock);
			continue;
		}
		if (writer->nindexes == STORE_MAX_INDEXES)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							errmsg("table \"%s\" has more than %d indexes",
								   RelationGetRelationName(writer->rel), STORE_MAX_INDEXES)));
		writer->indexes[writer->nindexes] = index;
		writer->infos[writer->nindexes++] = info;
	}
	list_free(indexes);
	/* Many rows look for free pages only if there is one: extending is what they do best. */
	if (bulk)
		writer->bulk = GetBulkInsertState();
	if (bulk && GetPageWithFreeSpace(writer->rel, STORE_ROW_BYTES) == InvalidBlockNumber)
		writer->options = HEAP_INSERT_SKIP_FSM;
}

char *
store_row(StoreWriter *writer, Size bytes)
{
	if (bytes > writer->room)
	{
		if (writer->tuple)
			pfree(writer->tuple);
		writer->room = Max(bytes, STORE_ROW_BYTES);
		writer->tuple = palloc(STORE_FRAME_OFFSET + writer->room);
		memset(writer->tuple, 0, STORE_FRAME_OFFSET);
	}
	return writer->tuple + STORE_FRAME_OFFSET;
}

void
store_insert(StoreWriter *writer, int shard, uint64 base_seq, int events, Size bytes)
{
	HeapTupleHeader header = (HeapTupleHeader) writer->tuple;
	char *columns = writer->tuple + STORE_HOFF;
	HeapTupleData tuple;
	Datum row[STORE_COLUMNS];

	CHECK_FOR_INTERRUPTS();
	memset(header, 0, STORE_HOFF);
	HeapTupleHeaderSetNatts(header, STORE_COLUMNS);
	header->t_infomask |= HEAP_HASVARWIDTH;
	header->t_hoff = STORE_HOFF;
	memcpy(columns, &base_seq, sizeof(int64));
	memcpy(columns + 8, &shard, sizeof(int32));
	memcpy(columns + 12, &events, sizeof(int32));
	SET_VARSIZE(columns + 16, VARHDRSZ + bytes);

	tuple.t_len = STORE_FRAME_OFFSET + bytes;
	tuple.t_tableOid = RelationGetRelid(writer->rel);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_data = header;
	heap_insert(writer->rel, &tuple, GetCurrentCommandId(true), writer->options, writer->bulk);

	row[COL_BASE_SEQ - 1] = Int64GetDatum(base_seq);
	row[COL_SHARD - 1] = Int32GetDatum(shard);
	row[COL_EVENTS - 1] = Int32GetDatum(events);
	row[COL_FRAME - 1] = PointerGetDatum(columns + 16);
	for (int i = 0; i < writer->nindexes; i++)
	{
		IndexInfo *info = writer->infos[i];
		Datum values[INDEX_MAX_KEYS];
		bool nulls[INDEX_MAX_KEYS] = {false};

		for (int k = 0; k < info->ii_NumIndexAttrs; k++)
			values[k] = row[info->ii_IndexAttrNumbers[k] - 1];
		index_insert(writer->indexes[i], values, nulls, &tuple.t_self, writer->rel,
					 info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, info);
	}
}

void
store_close(StoreWriter *writer)
{
	if (!writer->rel)
		return;
	for (int i = 0; i < writer->nindexes; i++)
	{
		nb_index_insert_cleanup(writer->indexes[i], writer->infos[i]);
		index_close(writer->indexes[i], NoLock);
		pfree(writer->infos[i]);
	}
	if (writer->bulk)
		FreeBulkInsertState(writer->bulk);
	if (writer->tuple)
		pfree(writer->tuple);
	table_close(writer->rel, NoLock);
	writer->rel = NULL;
}

/* ------------------------------------------------------------------ scans */

static void
key_shard(ScanKey key, int shard)
{
	ScanKeyInit(key, 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(shard));
}

static void
key_seq(ScanKey key, StrategyNumber strategy, uint64 seq)
{
	ScanKeyInit(key, 2, strategy, strategy == BTGreaterEqualStrategyNumber ? F_INT8GE : F_INT8LE,
				Int64GetDatum(Min(seq, (uint64) PG_INT64_MAX)));
}

/* The primary key, opened. */
static Relation
open_index(Relation rel)
{
	Oid index = nb_primary_key(rel);

	check_columns(rel);

	if (!OidIsValid(index))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("table \"%s\" has lost its primary key", RelationGetRelationName(rel)),
				 errhint("Add PRIMARY KEY (shard, base_seq) again.")));
	return index_open(index, AccessShareLock);
}

static uint64
slot_base_seq(TupleTableSlot *slot)
{
	bool isnull;

	return DatumGetInt64(slot_getattr(slot, COL_BASE_SEQ, &isnull));
}

static uint64
slot_last_seq(TupleTableSlot *slot)
{
	bool isnull;

	return slot_base_seq(slot) + Max(1, DatumGetInt32(slot_getattr(slot, COL_EVENTS, &isnull))) - 1;
}

/* Start an index scan of [from, to]. */
static IndexScanDesc
begin_range(Relation rel, Relation index, Snapshot snapshot, int shard, uint64 from, uint64 to)
{
	ScanKeyData keys[3];
	IndexScanDesc scan = nb_index_beginscan(rel, index, snapshot, lengthof(keys), 0);

	key_shard(&keys[0], shard);
	key_seq(&keys[1], BTGreaterEqualStrategyNumber, from);
	key_seq(&keys[2], BTLessEqualStrategyNumber, to);
	index_rescan(scan, keys, lengthof(keys), NULL, 0);
	return scan;
}

/*
 * Begin a backward scan at the row that would hold seq.  A row with several
 * events has at most STORE_ROW_EVENTS: without that bound the index would be
 * asked about the rest of the page.
 */
static IndexScanDesc
begin_at(Relation rel, Relation index, Snapshot snapshot, int shard, uint64 seq)
{
	return begin_range(rel, index, snapshot, shard,
					   seq > STORE_ROW_EVENTS ? seq - STORE_ROW_EVENTS : 0, seq);
}

/* The seq of the first row of a table that ends at or behind scan->next_seq; PG_UINT64_MAX: none. */
static uint64
first_row(StoreScan *scan, Relation rel, Relation index, TupleTableSlot *slot)
{
	IndexScanDesc probe;
	uint64 found = PG_UINT64_MAX;

	if (!scan->positioned && scan->next_seq > 1)
	{
		probe = begin_at(rel, index, scan->snapshot, scan->shard, scan->next_seq);
		if (index_getnext_slot(probe, BackwardScanDirection, slot) &&
			slot_last_seq(slot) >= scan->next_seq)
			found = slot_base_seq(slot);
		index_endscan(probe);
	}
	if (found == PG_UINT64_MAX && scan->ntables > 1)
	{
		probe = begin_range(rel, index, scan->snapshot, scan->shard, scan->next_seq, scan->to_seq);
		if (index_getnext_slot(probe, ForwardScanDirection, slot))
			found = slot_base_seq(slot);
		index_endscan(probe);
	}
	else if (found == PG_UINT64_MAX)
		found = scan->next_seq; /* the only table: the scan itself will find out */
	ExecClearTuple(slot);
	return found;
}

/* Leave the table that is being scanned, and let it be truncated. */
static void
leave_table(StoreScan *scan)
{
	if (!scan->rel)
		return;
	if (scan->scan)
		index_endscan(scan->scan);
	scan->scan = NULL;
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, AccessShareLock);
	table_close(scan->rel, AccessShareLock);
	scan->rel = NULL;
}

/* Go to the table that has the next row.  False: none has. */
static bool
enter_table(StoreScan *scan)
{
	uint64 best = PG_UINT64_MAX;
	MemoryContext old = MemoryContextSwitchTo(scan->context);

	leave_table(scan);
	scan->switch_seq = PG_UINT64_MAX;
	for (int i = 0; i < scan->ntables; i++)
	{
		Relation rel = table_open(scan->tables[i], AccessShareLock);
		Relation index = open_index(rel);
		TupleTableSlot *slot = table_slot_create(rel, NULL);
		uint64 first = first_row(scan, rel, index, slot);

		if (first < best)
		{
			leave_table(scan);
			scan->switch_seq = best;
			best = first;
			scan->rel = rel;
			scan->index = index;
			scan->slot = slot;
		}
		else
		{
			scan->switch_seq = Min(scan->switch_seq, first);
			ExecDropSingleTupleTableSlot(slot);
			index_close(index, AccessShareLock);
			table_close(rel, AccessShareLock);
		}
	}
	scan->positioned = true;
	if (scan->rel)
		scan->scan =
			begin_range(scan->rel, scan->index, scan->snapshot, scan->shard, best, scan->to_seq);
	MemoryContextSwitchTo(old);
	return scan->rel != NULL;
}

StoreScan *
store_scan_begin(NbLog *log, int shard, uint64 from_seq, uint64 to_seq)
{
	StoreScan *scan = palloc0(sizeof(StoreScan));

	scan->context = CurrentMemoryContext;
	scan->log = log;
	scan->shard = shard;
	scan->next_seq = from_seq;
	scan->to_seq = Min(to_seq, (uint64) PG_INT64_MAX);
	scan->single = from_seq == to_seq;
	scan->ntables = log->ntables;
	memcpy(scan->tables, log->tables, log->ntables * sizeof(Oid));
	scan->snapshot = RegisterSnapshot(GetLatestSnapshot());
	return scan;
}

/* What is wrong with the frames of a row; FRAME_OK: nothing. */
static FrameError
check_row(const StoreRow *row)
{
	uint64 seq = row->base_seq;
	Size at = 0;

	while (at < row->bytes)
	{
		const FrameHeader *frame = (const FrameHeader *) (row->frames + at);
		FrameError error = frame_check(frame, row->bytes - at, true);

		if (error != FRAME_OK)
			return error;
		if (frame->kind != FRAME_DATA && frame->kind != FRAME_SEAL)
			return FRAME_ERR_KIND;
		if (frame_word_state(frame->word) != FRAME_READY)
			return FRAME_ERR_STATE;
		if (frame->base_seq != seq)
			return FRAME_ERR_SEQ;
		seq += frame->count;
		at += frame_word_length(frame->word);
	}
	return at > 0 && seq == row->base_seq + row->events ? FRAME_OK : FRAME_ERR_SEQ;
}

/* Copy the frames of a slot's row to where they are aligned. */
static void
fetch_row(TupleTableSlot *slot, StoreRow *row, char **buffer, Size *size, MemoryContext context)
{
	bool isnull;
	struct varlena *value;
	struct varlena *plain;

	slot_getallattrs(slot);
	row->base_seq = DatumGetInt64(slot->tts_values[COL_BASE_SEQ - 1]);
	row->events = DatumGetInt32(slot->tts_values[COL_EVENTS - 1]);
	value = (struct varlena *) DatumGetPointer(slot_getattr(slot, COL_FRAME, &isnull));
	plain = pg_detoast_datum_packed(value);
	row->bytes = VARSIZE_ANY_EXHDR(plain);
	if (row->bytes > *size)
	{
		if (*buffer)
			pfree(*buffer);
		*size = Max(row->bytes, BLCKSZ);
		*buffer = MemoryContextAllocHuge(context, *size);
	}
	memcpy(*buffer, VARDATA_ANY(plain), row->bytes);
	row->frames = *buffer;
	if (plain != value)
		pfree(plain);
}

static void
report_damage(StoreScan *scan, const StoreRow *row, FrameError error)
{
	if (nb_damaged_frames == NB_DAMAGED_ERROR)
		ereport(
			ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("log \"%s\" shard %d: events %llu to %llu are damaged", scan->log->name,
					scan->shard, (unsigned long long) row->base_seq,
					(unsigned long long) (row->base_seq + Max(row->events, 1) - 1)),
			 errdetail("A row of table \"%s\": %s.", RelationGetRelationName(scan->rel),
					   frame_error_text(error)),
			 errhint(
				 "Restore the table from a backup, or SET netbus.damaged_frames = 'skip' to read the rest.")));
	scan->damaged += row->events;
	ring_count_damaged(log_ring(scan->log->shared, scan->shard));
}

/* The row that holds the only seq wanted: one index probe a table. */
static bool
find_single(StoreScan *scan, StoreRow *row)
{
	bool found = false;

	for (int i = 0; i < scan->ntables && !found; i++)
	{
		IndexScanDesc probe;

		scan->rel = table_open(scan->tables[i], AccessShareLock);
		scan->index = open_index(scan->rel);
		scan->slot = table_slot_create(scan->rel, NULL);
		probe = begin_at(scan->rel, scan->index, scan->snapshot, scan->shard, scan->to_seq);
		if (index_getnext_slot(probe, BackwardScanDirection, scan->slot) &&
			slot_last_seq(scan->slot) >= scan->to_seq)
		{
			fetch_row(scan->slot, row, &scan->buffer, &scan->buffer_size, scan->context);
			found = true;
		}
		index_endscan(probe);
		if (found)
		{
			FrameError error = check_row(row);

			if (error != FRAME_OK)
			{
				report_damage(scan, row, error);
				found = false;
			}
		}
		leave_table(scan);
	}
	scan->next_seq = scan->to_seq + 1;
	return found;
}

/* The next row of the table at hand, in the scan's memory: what btree notes of dead entries must last. */
static bool
next_slot(StoreScan *scan)
{
	MemoryContext old = MemoryContextSwitchTo(scan->context);
	bool found = index_getnext_slot(scan->scan, ForwardScanDirection, scan->slot);

	MemoryContextSwitchTo(old);
	return found;
}

bool
store_scan_next(StoreScan *scan, StoreRow *row)
{
	if (scan->single)
		return scan->next_seq <= scan->to_seq && find_single(scan, row);
	for (;;)
	{
		FrameError error;

		CHECK_FOR_INTERRUPTS();
		if (!scan->rel && (scan->next_seq > scan->to_seq || !enter_table(scan)))
			return false;
		if (!next_slot(scan) || slot_base_seq(scan->slot) >= scan->switch_seq)
		{
			/* The end of this table, or as far as it is next. */
			bool others = scan->switch_seq != PG_UINT64_MAX;

			if (others)
				scan->next_seq = Max(scan->next_seq, scan->switch_seq);
			leave_table(scan);
			if (!others)
			{
				scan->next_seq = scan->to_seq + 1;
				return false;
			}
			continue;
		}
		fetch_row(scan->slot, row, &scan->buffer, &scan->buffer_size, scan->context);
		scan->next_seq = row->base_seq + Max(row->events, 1);
		error = check_row(row);
		if (likely(error == FRAME_OK))
			return true;
		report_damage(scan, row, error);
	}
}

void
store_scan_end(StoreScan *scan)
{
	leave_table(scan);
	UnregisterSnapshot(scan->snapshot);
	if (scan->buffer)
		pfree(scan->buffer);
	pfree(scan);
}

/* Take one end of a table into account. */
static void
note_end(StoreEnds *ends, const StoreRow *row, bool last)
{
	const FrameHeader *frame = (const FrameHeader *) row->frames;
	bool sound = check_row(row) == FRAME_OK;
	uint64 last_seq = row->base_seq + Max(row->events, 1) - 1;

	if (!last && (ends->empty || row->base_seq < ends->first_seq))
	{
		ends->first_seq = row->base_seq;
		ends->first_ts = sound ? frame->ts : 0;
	}
	if (last && (ends->empty || last_seq > ends->last_seq))
	{
		ends->last_base_seq = row->base_seq;
		ends->last_seq = last_seq;
		ends->stable_seq = 0;
		ends->last_ts = 0;
		for (Size at = 0; sound && at < row->bytes; at += frame_word_length(frame->word))
		{
			frame = (const FrameHeader *) (row->frames + at);
			ends->stable_seq = frame->stable_seq;
			ends->last_ts = frame->ts;
		}
	}
}

static void
table_ends(Oid table, int shard, Snapshot snapshot, StoreEnds *ends)
{
	Relation rel = table_open(table, AccessShareLock);
	Relation index = open_index(rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	char *buffer = NULL;
	Size size = 0;
	StoreEnds here = {.empty = true};

	for (int last = 0; last <= 1; last++)
	{
		IndexScanDesc scan = begin_range(rel, index, snapshot, shard, 0, PG_INT64_MAX);

		if (index_getnext_slot(scan, last ? BackwardScanDirection : ForwardScanDirection, slot))
		{
			StoreRow row;

			fetch_row(slot, &row, &buffer, &size, CurrentMemoryContext);
			note_end(&here, &row, last);
			if (last)
				here.empty = false;
		}
		index_endscan(scan);
	}
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	if (buffer)
		pfree(buffer);

	if (here.empty)
		return;
	if (ends->empty || here.first_seq < ends->first_seq)
	{
		ends->first_seq = here.first_seq;
		ends->first_ts = here.first_ts;
	}
	if (ends->empty || here.last_seq > ends->last_seq)
	{
		ends->last_base_seq = here.last_base_seq;
		ends->last_seq = here.last_seq;
		ends->stable_seq = here.stable_seq;
		ends->last_ts = here.last_ts;
	}
	ends->empty = false;
}

void
store_ends(NbLog *log, Oid table, int shard, StoreEnds *ends)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());

	memset(ends, 0, sizeof(StoreEnds));
	ends->empty = true;
	if (OidIsValid(table))
		table_ends(table, shard, snapshot, ends);
	else
		for (int i = 0; i < log->ntables; i++)
			table_ends(log->tables[i], shard, snapshot, ends);
	UnregisterSnapshot(snapshot);
}

/* Bytes of bodies in a row; *ts: the last frame's time.  Of a damaged row nothing is known. */
static uint64
row_bodies(const StoreRow *row, int64 *ts)
{
	const FrameHeader *frame;
	uint64 bytes = 0;

	*ts = PG_INT64_MIN;
	if (check_row(row) != FRAME_OK)
		return 0;
	for (Size at = 0; at < row->bytes; at += frame_word_length(frame->word))
	{
		frame = (const FrameHeader *) (row->frames + at);
		bytes += frame->body_bytes;
		*ts = frame->ts;
	}
	return bytes;
}

uint64
store_delete(Oid table, int shard, uint64 to_seq, int64 before, uint64 *events, uint64 *bytes)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	Relation rel = table_open(table, RowExclusiveLock);
	Relation index = open_index(rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = begin_range(rel, index, snapshot, shard, 0, to_seq);
	char *buffer = NULL;
	Size size = 0;
	uint64 last = 0;

	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		StoreRow row;
		int64 ts;
		uint64 body_bytes;

		CHECK_FOR_INTERRUPTS();
		fetch_row(slot, &row, &buffer, &size, CurrentMemoryContext);
		body_bytes = row_bodies(&row, &ts); /* a damaged one may go */
		if (ts >= before || row.base_seq + Max(row.events, 1) - 1 > to_seq)
			break;
		simple_heap_delete(rel, &slot->tts_tid);
		*events += row.events;
		*bytes += body_bytes;
		last = row.base_seq + Max(row.events, 1) - 1;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(rel, NoLock);
	if (buffer)
		pfree(buffer);
	UnregisterSnapshot(snapshot);
	return last;
}

uint64
store_count(Oid table, int shard, uint64 from_seq, uint64 to_seq, int max_rows, uint64 *events,
			uint64 *bytes)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	Relation rel = table_open(table, AccessShareLock);
	Relation index = open_index(rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = begin_range(rel, index, snapshot, shard, from_seq, to_seq);
	char *buffer = NULL;
	Size size = 0;
	uint64 next = to_seq + 1;

	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		StoreRow row;
		int64 ts;

		CHECK_FOR_INTERRUPTS();
		if (max_rows-- == 0)
		{
			next = slot_base_seq(slot);
			break;
		}
		fetch_row(slot, &row, &buffer, &size, CurrentMemoryContext);
		*bytes += row_bodies(&row, &ts);
		*events += row.events;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	if (buffer)
		pfree(buffer);
	UnregisterSnapshot(snapshot);
	return next;
}

void
store_move(Oid from, Oid to)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	Relation rel = table_open(from, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	StoreWriter writer;
	char *buffer = NULL;
	Size size = 0;

	store_open(&writer, to, true);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		StoreRow row;
		bool isnull;
		int shard = DatumGetInt32(slot_getattr(slot, COL_SHARD, &isnull));

		fetch_row(slot, &row, &buffer, &size, CurrentMemoryContext);
		memcpy(store_row(&writer, row.bytes), row.frames, row.bytes);
		store_insert(&writer, shard, row.base_seq, row.events, row.bytes);
	}
	store_close(&writer);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	if (buffer)
		pfree(buffer);
	UnregisterSnapshot(snapshot);
}

/* Lock the indexes of a table, if they are free. */
static bool
lock_indexes(Relation rel)
{
	List *indexes = RelationGetIndexList(rel);
	ListCell *lc;
	bool locked = true;

	foreach(lc, indexes)
		locked = locked && ConditionalLockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
	list_free(indexes);
	return locked;
}

static void
truncate_locked(Relation rel)
{
	ddl_guard_lifted = true;
	PG_TRY();
	{
		nb_execute_truncate(
			rel, RelationIsLogicallyLogged(rel) ? list_make1_oid(RelationGetRelid(rel)) : NIL);
	}
	PG_FINALLY();
	{
		ddl_guard_lifted = false;
	}
	PG_END_TRY();
	CommandCounterIncrement();
}

bool
store_truncate(Oid table)
{
	Relation rel = table_open(table, NoLock);
	Oid toast = rel->rd_rel->reltoastrelid;
	bool locked = lock_indexes(rel);

	if (locked && OidIsValid(toast))
	{
		locked = ConditionalLockRelationOid(toast, AccessExclusiveLock);
		if (locked)
		{
			Relation toastrel = table_open(toast, NoLock);

			locked = lock_indexes(toastrel);
			table_close(toastrel, NoLock);
		}
	}
	if (locked)
		truncate_locked(rel);
	table_close(rel, NoLock);
	return locked;
}
