/*-------------------------------------------------------------------------
 *
 * catalog.c
 *		The tables that netbus keeps about logs, and the seqs they promise.
 *
 * netbus.catalog_log holds the options of every log, keyed by its table (a
 * regclass, so that it is dumped as a name and follows renames).  Users have
 * no right on it: the functions of ddl.c write it.
 *
 * A seq is never issued twice, not even one that a crash has lost, because a
 * reader may have seen it.  So every log owns a SEQUENCE that is always ahead
 * of the seqs in use, by steps of SEQ_STEP, and on disk before a seq above the
 * former value is issued.  After an unclean stop the shards continue above
 * it.  After a clean stop they continue exactly where they were, which the
 * worker has written to netbus.catalog_position together with the sequence's
 * value at that time: a row is believed only while the sequence still has that
 * value, and issuing the first seq moves it on.
 *
 * A server that was promoted or restored may not know how far the seqs went,
 * for the WAL record that says so may be what it lacks.  Therefore the low
 * bits of the sequence's value hold the timeline it was set on; where that is
 * not today's, shards continue at the next multiple of 2^40.
 *
 * Locks: none of our own.  The callers' lock on the log's table, and
 * ShareUpdateExclusiveLock on the sequence while it is moved.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/redex_internal.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#define SEQ_TLI_BITS 20
#define SEQ_TLI_MASK ((UINT64CONST(1) << SEQ_TLI_BITS) - 1)
#define SEQ_STEP     (UINT64CONST(16) << SEQ_TLI_BITS)
#define SEQ_MAX      (UINT64CONST(1) << 62)
#define SEQ_EPOCH    (UINT64CONST(1) << 40)

/* Columns of netbus.catalog_log */
enum
{
	COL_LOG = 1,
	COL_SHARDS,
	COL_DURABILITY,
	COL_FORMAT,
	COL_RING_SIZE,
	COL_BACKPRESSURE,
	COL_INCARNATION
};

Oid
catalog_namespace(void)
{
	return get_namespace_oid(NB_SCHEMA, true);
}

/* A relation of our schema by name. */
Oid
catalog_relation(const char *name)
{
	Oid nsp = catalog_namespace();

	return OidIsValid(nsp) ? get_relname_relid(name, nsp) : InvalidOid;
}

/*
 * One of our own tables.  Anybody may have a schema called netbus in a database
 * without the extension, and our hooks run there, too: so it must be a member
 * of the extension.  InvalidOid where that is missing or being dropped.
 */
Oid
catalog_table(const char *name)
{
	Oid relid = catalog_relation(name);
	Oid extension;

	if (!OidIsValid(relid))
		return InvalidOid;
	extension = get_extension_oid(NB_EXTENSION, true);
	if (!OidIsValid(extension) || getExtensionOfObject(RelationRelationId, relid) != extension)
		return InvalidOid;
	return relid;
}

/* A column that must be there and must not be null. */
static Datum
catalog_column(Relation rel, HeapTuple tuple, int column)
{
	bool isnull = true;
	Datum value = 0;

	if (column <= RelationGetNumberOfAttributes(rel))
		value = heap_getattr(tuple, column, RelationGetDescr(rel), &isnull);
	if (isnull)
		elog(ERROR, "table \"%s\" has lost column %d", RelationGetRelationName(rel), column);
	return value;
}

bool
nb_log_name_valid(const char *name)
{
	Size len = strlen(name);

	return len > 0 && len <= LOG_MAX_NAME && name[0] >= 'a' && name[0] <= 'z' &&
		   strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == len;
}

/* The log's name by its table's; NULL if the table is gone. */
const char *
catalog_log_name(Oid relid)
{
	char *table = get_rel_name(relid);

	if (!table || strncmp(table, LOG_TABLE_PREFIX, strlen(LOG_TABLE_PREFIX)) != 0)
		return NULL;
	return table + strlen(LOG_TABLE_PREFIX);
}

/* Start a scan of the rows of a log in one of our tables, by its primary key. */
static SysScanDesc
scan_log_rows(Relation rel, Oid relid)
{
	ScanKeyData key;

	ScanKeyInit(&key, COL_LOG, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	return systable_beginscan(rel, RelationGetPrimaryKeyIndex(rel), true, NULL, 1, &key);
}

/* Read a log's options.  False if the table is no log. */
bool
catalog_get_log(Oid relid, LogOptions *options)
{
	Oid table = catalog_table("catalog_log");
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;

	if (!OidIsValid(table))
		return false;
	rel = table_open(table, AccessShareLock);
	scan = scan_log_rows(rel, relid);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Datum backpressure;
		bool isnull;

		options->shards = DatumGetInt32(catalog_column(rel, tuple, COL_SHARDS));
		options->durability =
			option_durability(TextDatumGetCString(catalog_column(rel, tuple, COL_DURABILITY)));
		options->format =
			option_format(TextDatumGetCString(catalog_column(rel, tuple, COL_FORMAT)));
		options->ring_size = DatumGetInt64(catalog_column(rel, tuple, COL_RING_SIZE));
		backpressure = heap_getattr(tuple, COL_BACKPRESSURE, RelationGetDescr(rel), &isnull);
		options->backpressure = option_backpressure(
			isnull ? NULL : TextDatumGetCString(backpressure), options->durability);
		options->incarnation = DatumGetInt64(catalog_column(rel, tuple, COL_INCARNATION));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return HeapTupleIsValid(tuple);
}

/* Delete the rows of a table that is being dropped, if it was a log. */
void
catalog_forget_log(Oid relid)
{
	static const char *const tables[] = {"catalog_log", "catalog_position"};

	for (int i = 0; i < lengthof(tables); i++)
	{
		Oid table = catalog_table(tables[i]);
		Relation rel;
		SysScanDesc scan;
		HeapTuple tuple;

		if (!OidIsValid(table) || table == relid)
			continue;
		rel = table_open(table, RowExclusiveLock);
		if (OidIsValid(RelationGetPrimaryKeyIndex(rel)))
		{
			scan = scan_log_rows(rel, relid);
			while (HeapTupleIsValid(tuple = systable_getnext(scan)))
				simple_heap_delete(rel, &tuple->t_self);
			systable_endscan(scan);
		}
		table_close(rel, RowExclusiveLock);
	}
}

/* What is wrong with the triggers of a log's table: it has the guard, enabled, and no other. */
static const char *
check_triggers(Relation rel)
{
	int count = rel->trigdesc ? rel->trigdesc->numtriggers : 0;
	bool guarded = false;

	for (int i = 0; i < count; i++)
	{
		Trigger *trigger = &rel->trigdesc->triggers[i];

		if (trigger->tgisinternal)
			return "It takes part in a foreign key.";
		if (strcmp(trigger->tgname, "netbus_guard") != 0)
			return "It has triggers of its own.";
		guarded = trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN;
	}
	return guarded ? NULL : "Its trigger netbus_guard is missing or disabled.";
}

/*
 * Is the table still what create_log() made?  Frames are inserted below
 * triggers and constraints, so whatever would have to be checked or fired for
 * a row cannot be allowed there.
 */
void
catalog_check_table(Oid relid, const char *name)
{
	Relation rel = table_open(relid, NoLock);
	Form_pg_class form = RelationGetForm(rel);
	const char *reason = NULL;

	if (form->relkind != RELKIND_RELATION)
		reason = "It is not a table.";
	else if (!OidIsValid(form->reloftype) || form->relnatts != 4 ||
			 form->reloftype != GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
												CStringGetDatum("frame"),
												ObjectIdGetDatum(catalog_namespace())))
		reason = "Its columns are not those of netbus.frame.";
	else if (form->relrowsecurity || form->relforcerowsecurity)
		reason = "It has row-level security.";
	else if (rel->rd_rules && rel->rd_rules->numLocks > 0)
		reason = "It has rules.";
	else if (RelationGetDescr(rel)->constr && RelationGetDescr(rel)->constr->num_check > 0)
		reason = "It has check constraints.";
	else if (form->relpersistence != RELPERSISTENCE_PERMANENT)
		reason = "It is unlogged.";
	else
		reason = check_triggers(rel);
	if (!reason)
	{
		List *indexes = RelationGetIndexList(rel);
		ListCell *lc;

		foreach(lc, indexes)
		{
			Relation index = relation_open(lfirst_oid(lc), AccessShareLock);

			if (!heap_attisnull(index->rd_indextuple, Anum_pg_index_indexprs, NULL) ||
				!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
				reason = "It has expression or partial indexes.";
			relation_close(index, NoLock);
		}
		list_free(indexes);
	}
	table_close(rel, NoLock);

	if (reason)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
						errmsg("table \"%s.log_%s\" cannot be used as a log", NB_SCHEMA, name),
						errdetail_internal("%s", reason),
						errhint("Undo the change, or create another log.")));
}

/* The sequence that bounds the log's seqs: the one its table owns; InvalidOid if it was dropped. */
Oid
catalog_bound_sequence(Oid relid)
{
	List *owned = getOwnedSequences(relid);

	if (owned == NIL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
						errmsg("log \"%s\" has lost the sequence that bounds its seqs",
							   catalog_log_name(relid)),
						errhint("Drop the log and create it again.")));
	return linitial_oid(owned);
}

/* last_value of a sequence, read past privileges and caches. */
static uint64
sequence_value(Oid sequence)
{
	Relation rel = relation_open(sequence, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, SnapshotAny, 0, NULL);
	uint64 value = 0;
	bool isnull;

	if (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		value = DatumGetInt64(slot_getattr(slot, SEQ_COL_LASTVAL, &isnull));
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	relation_close(rel, AccessShareLock);
	return value;
}

/* Read the position that was saved for each shard at the last clean stop, if the sequence still vouches for it. */
static void
saved_positions(NbLog *log, uint64 value, uint64 *next_seq)
{
	Oid table = catalog_table("catalog_position");
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;

	if (!OidIsValid(table))
		return;
	rel = table_open(table, AccessShareLock);
	scan = scan_log_rows(rel, log->relid);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		int shard = DatumGetInt32(catalog_column(rel, tuple, 2));

		if (DatumGetInt64(catalog_column(rel, tuple, 4)) == (int64) value && shard >= 0 &&
			shard < log->options.shards)
			next_seq[shard] = DatumGetInt64(catalog_column(rel, tuple, 3));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/*
 * The seq that each shard issues first.  In recovery this is a preview for
 * readers: the timeline that will issue seqs is not known yet.
 */
void
catalog_first_seqs(NbLog *log, uint64 *next_seq)
{
	uint64 value = OidIsValid(log->bound_relid) ? sequence_value(log->bound_relid) : 0;
	uint64 bound = value & ~SEQ_TLI_MASK;
	uint64 first = bound + 1;

	if (value != 0 && !RecoveryInProgress() &&
		(value & SEQ_TLI_MASK) != (GetWALInsertionTimeLine() & SEQ_TLI_MASK))
		first = (bound / SEQ_EPOCH + 1) * SEQ_EPOCH;
	for (int i = 0; i < log->options.shards; i++)
		next_seq[i] = first;
	if (first == bound + 1)
		saved_positions(log, value, next_seq);
}

/*
 * Move the bound past seq, and past where it was, and flush that.  Returns the
 * new bound.  Under ShareUpdateExclusiveLock on the sequence.
 */
uint64
catalog_raise_bound(NbLog *log, uint64 seq)
{
	uint64 former = sequence_value(log->bound_relid);
	uint64 bound =
		(Max(seq, Max(former, pg_atomic_read_u64(&log->shared->bound))) / SEQ_STEP + 1) * SEQ_STEP;
	uint64 value = bound | (GetWALInsertionTimeLine() & SEQ_TLI_MASK);
	Oid user;
	int context;

	if (bound >= SEQ_MAX)
		ereport(ERROR, (errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
						errmsg("seqs of log \"%s\" are used up", log->name),
						errhint("Somebody has set the log's sequence \"%s\" to %llu.",
								get_rel_name(log->bound_relid), (unsigned long long) former)));

	/* The publisher has no right on the sequence, and needs none. */
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
	DirectFunctionCall2(setval_oid, ObjectIdGetDatum(log->bound_relid), Int64GetDatum(value));
	SetUserIdAndSecContext(user, context);
	XLogFlush(XactLastRecEnd); /* setval's record: nobody issues a seq above the old bound before */
	return bound;
}

/*
 * Write where the shards of a log are, at a clean stop: see above.  By the
 * worker, in a transaction of its own.
 */
void
catalog_save_positions(NbLog *log)
{
	uint64 value = sequence_value(log->bound_relid);

	SPI_connect();
	for (int i = 0; i < log->options.shards; i++)
	{
		Ring *ring = log_ring(log->shared, i);
		Oid types[4] = {OIDOID, INT4OID, INT8OID, INT8OID};
		Datum args[4] = {ObjectIdGetDatum(log->relid), Int32GetDatum(i),
						 Int64GetDatum(ring->next_seq), Int64GetDatum(value)};

		if (SPI_execute_with_args("INSERT INTO netbus.catalog_position VALUES ($1::oid, $2, $3, $4)"
								  " ON CONFLICT (log, shard) DO UPDATE"
								  " SET next_seq = excluded.next_seq, bound = excluded.bound",
								  4, types, args, NULL, false, 0) != SPI_OK_INSERT)
			elog(ERROR, "could not save the positions of log \"%s\"", log->name);
	}
	SPI_finish();
}
