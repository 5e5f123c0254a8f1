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
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_subscription_rel.h"
#include "catalog/pg_inherits.h"
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
	COL_INCARNATION,
	COL_SAMPLE_RATE, /* from here on missing before ALTER EXTENSION UPDATE to 0.2.0 */
	COL_RETENTION_EVENTS,
	COL_RETENTION_BYTES,
	COL_RETENTION_AGE,
	COL_FLUSH_INTERVAL,
	COL_FLUSH_EVENTS
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
nb_catalog_table(const char *name)
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

Relation
nb_catalog_open(const char *name, int columns, LOCKMODE lockmode)
{
	Oid table = nb_catalog_table(name);
	Relation rel;

	if (!OidIsValid(table))
		nb_outdated_extension();
	rel = table_open(table, lockmode);
	if (RelationGetNumberOfAttributes(rel) != columns)
		elog(ERROR, "table \"%s\" has other columns than expected", name);
	return rel;
}

/*
 * Are our tables those of this version of the library?  Before ALTER EXTENSION
 * UPDATE they lack columns.
 */
bool
catalog_current(void)
{
	Oid table = nb_catalog_table("catalog_log");

	return OidIsValid(table) && get_attnum(table, "flush_events") != InvalidAttrNumber;
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

/* A column that may be null or missing: then false. */
static bool
catalog_optional(Relation rel, HeapTuple tuple, int column, Datum *value)
{
	bool isnull = true;

	if (column <= RelationGetNumberOfAttributes(rel))
		*value = heap_getattr(tuple, column, RelationGetDescr(rel), &isnull);
	return !isnull;
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
nb_log_name_of(Oid relid)
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
	return systable_beginscan(rel, nb_primary_key(rel), true, NULL, 1, &key);
}

/* Read a log's options.  False if the table is no log. */
bool
catalog_get_log(Oid relid, LogOptions *options)
{
	Oid table = nb_catalog_table("catalog_log");
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
		Datum value;

		options->shards = DatumGetInt32(catalog_column(rel, tuple, COL_SHARDS));
		options->durability =
			option_durability(TextDatumGetCString(catalog_column(rel, tuple, COL_DURABILITY)));
		options->format =
			option_format(TextDatumGetCString(catalog_column(rel, tuple, COL_FORMAT)));
		options->ring_size = DatumGetInt64(catalog_column(rel, tuple, COL_RING_SIZE));
		options->backpressure = option_backpressure(
			catalog_optional(rel, tuple, COL_BACKPRESSURE, &value) ? TextDatumGetCString(value)
																   : NULL,
			options->durability);
		options->incarnation = DatumGetInt64(catalog_column(rel, tuple, COL_INCARNATION));
		options->sample_rate = catalog_optional(rel, tuple, COL_SAMPLE_RATE, &value)
								   ? DatumGetFloat8(value)
								   : LOG_NO_SAMPLE_RATE;
		options->retention_events =
			catalog_optional(rel, tuple, COL_RETENTION_EVENTS, &value) ? DatumGetInt64(value) : 0;
		options->retention_bytes =
			catalog_optional(rel, tuple, COL_RETENTION_BYTES, &value) ? DatumGetInt64(value) : 0;
		if (!catalog_optional(rel, tuple, COL_RETENTION_AGE, &value) ||
			!option_interval_us(DatumGetIntervalP(value), &options->retention_age))
			options->retention_age = 0;
		options->flush_interval = catalog_optional(rel, tuple, COL_FLUSH_INTERVAL, &value)
									  ? DatumGetInt32(value)
									  : LOG_FLUSH_INTERVAL;
		options->flush_events =
			catalog_optional(rel, tuple, COL_FLUSH_EVENTS, &value) ? DatumGetInt32(value) : 0;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return HeapTupleIsValid(tuple);
}

/* Delete the rows of a table that is being dropped, if it was a log: in all tables whose key begins with it. */
void
catalog_forget_log(Oid relid)
{
	static const char *const tables[] = {"catalog_log", "catalog_position", "catalog_consumer"};

	for (int i = 0; i < lengthof(tables); i++)
	{
		Oid table = nb_catalog_table(tables[i]);
		Relation rel;
		SysScanDesc scan;
		HeapTuple tuple;

		if (!OidIsValid(table) || table == relid)
			continue;
		rel = table_open(table, RowExclusiveLock);
		if (OidIsValid(nb_primary_key(rel)))
		{
			scan = scan_log_rows(rel, relid);
			while (HeapTupleIsValid(tuple = systable_getnext(scan)))
				simple_heap_delete(rel, &tuple->t_self);
			systable_endscan(scan);
		}
		table_close(rel, RowExclusiveLock);
	}
}

/*
 * The segments are found as what they are, the children of the log's table, so
 * nothing else may inherit from it.
 */
int
catalog_segments(Oid relid, Oid *tables)
{
	List *children = find_inheritance_children(relid, NoLock);
	int count = list_length(children);
	ListCell *lc;
	int n = 0;

	if (count != 0 && count != LOG_SEGMENTS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("table \"%s.%s\" cannot be used as a log", NB_SCHEMA, get_rel_name(relid)),
				 errdetail("Tables that inherit from it: %d. A log has %d segments, or none.",
						   count, LOG_SEGMENTS),
				 errhint("Undo the change, or create another log.")));
	foreach(lc, children)
		tables[n++] = lfirst_oid(lc);
	list_free(children);
	return count;
}

/*
 * Segments belong to the log as its index does: DROP TABLE takes them along.
 * For PostgreSQL a child is an object that stands in the way of that; so turn
 * the dependency that inheritance has made into an automatic one.
 */
void
catalog_own_segments(Oid relid)
{
	List *children = find_inheritance_children(relid, NoLock);
	ObjectAddress table;
	ListCell *lc;

	if (list_length(children) != LOG_SEGMENTS)
		return; /* whose they are is not sure */
	ObjectAddressSet(table, RelationRelationId, relid);
	foreach(lc, children)
	{
		ObjectAddress segment;

		ObjectAddressSet(segment, RelationRelationId, lfirst_oid(lc));
		if (deleteDependencyRecordsForSpecific(RelationRelationId, segment.objectId,
											   DEPENDENCY_NORMAL, RelationRelationId, relid) > 0)
			recordDependencyOn(&segment, &table, DEPENDENCY_AUTO);
	}
	list_free(children);
}

/*
 * What is wrong with the triggers of a table: it has the guard, enabled, and no
 * other.  We write to tables with statements, too, so what is called
 * netbus_guard must be just that.
 */
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
		if (get_func_namespace(trigger->tgfoid) != catalog_namespace() ||
			strcmp(get_func_name(trigger->tgfoid), "guard") != 0 || trigger->tgqual)
			return "Its trigger netbus_guard is another than netbus has made.";
		guarded = trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN;
	}
	return guarded ? NULL : "Its trigger netbus_guard is missing or disabled.";
}

/* What is wrong with the indexes of a table: it has its primary key, and none that we could not keep up. */
static const char *
check_indexes(Relation rel)
{
	List *indexes = RelationGetIndexList(rel);
	const char *reason = NULL;
	bool keyed = false;
	ListCell *lc;

	foreach(lc, indexes)
	{
		Relation index = relation_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (!heap_attisnull(index->rd_indextuple, Anum_pg_index_indexprs, NULL) ||
			!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
			reason = "It has expression or partial indexes.";
		else if (form->indisexclusion)
			reason = "It has exclusion constraints.";
		else if (form->indisunique && !form->indimmediate)
			reason = "It has deferrable constraints.";
		else if (form->indisprimary && form->indisvalid && form->indnatts == 2 &&
				 form->indkey.values[0] == get_attnum(RelationGetRelid(rel), "shard") &&
				 form->indkey.values[1] == get_attnum(RelationGetRelid(rel), "base_seq"))
			keyed = true;
		relation_close(index, AccessShareLock);
	}
	list_free(indexes);
	return reason || keyed ? reason : "Its primary key is not a valid one on (shard, base_seq).";
}

/* Are the columns those of netbus.frame?  Of a table OF that type they are. */
static bool
has_frame_columns(Relation rel)
{
	static const struct
	{
		const char *name;
		Oid type;
	} columns[] = {
		{"base_seq", INT8OID}, {"shard", INT4OID}, {"events", INT4OID}, {"frame", BYTEAOID}};
	TupleDesc desc = RelationGetDescr(rel);

	if (desc->natts != lengthof(columns))
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (attr->attisdropped || attr->attgenerated || attr->atttypid != columns[i].type ||
			strcmp(NameStr(attr->attname), columns[i].name) != 0)
			return false;
	}
	return true;
}

/* Why a table cannot hold frames; NULL if it can. */
static const char *
check_table(Relation rel, bool segment)
{
	Form_pg_class form = RelationGetForm(rel);
	const char *reason;

	if (form->relkind != RELKIND_RELATION)
		return "It is not a table.";
	if (!has_frame_columns(rel) ||
		(!segment &&
		 form->reloftype != GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("frame"),
											ObjectIdGetDatum(catalog_namespace()))))
		return "Its columns are not those of netbus.frame.";
	if (form->relam != HEAP_TABLE_AM_OID)
		return "Its access method is not heap.";
	if (form->relrowsecurity || form->relforcerowsecurity)
		return "It has row-level security.";
	if (rel->rd_rules && rel->rd_rules->numLocks > 0)
		return "It has rules.";
	if (RelationGetDescr(rel)->constr && RelationGetDescr(rel)->constr->num_check > 0)
		return "It has check constraints.";
	if (form->relpersistence != RELPERSISTENCE_PERMANENT)
		return "It is unlogged.";
	if (RelationGetStatExtList(rel) != NIL)
		return "It has extended statistics.";
	/* Deferrable constraints are triggers, too. */
	reason = check_indexes(rel);
	return reason ? reason : check_triggers(rel);
}

/* As check_table(), for what a segment must be besides. */
static const char *
check_segment(Relation rel, Oid owner)
{
	List *children = find_inheritance_children(RelationGetRelid(rel), NoLock);
	bool parent = children != NIL;

	list_free(children);
	if (parent)
		return "Other tables inherit from it.";
	if (OidIsValid(owner) && RelationGetForm(rel)->relowner != owner)
		return "Its owner is not that of the log.";
	if (RelationGetNamespace(rel) != catalog_namespace())
		return "It has been moved to another schema.";
	return check_table(rel, true);
}

static void
segment_error(const char *segment, const char *name, const char *reason)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
			 errmsg("table \"%s\" cannot be used as a segment of log \"%s\"", segment, name),
			 errdetail_internal("%s", reason), errhint("Undo the change, or create another log.")));
}

/*
 * Is the table still what create_log() made?  Frames are inserted below
 * triggers and constraints, so whatever would have to be checked or fired for
 * a row cannot be allowed there.  The caller has locked it.  With a log's table
 * its segments are checked, each under a lock that is not kept.
 */
void
catalog_check_table(Oid relid, const char *name, bool segment)
{
	Relation rel = table_open(relid, NoLock);
	Oid owner = RelationGetForm(rel)->relowner;
	const char *reason;
	Oid segments[LOG_SEGMENTS];
	int count;

	if (segment)
	{
		reason = check_segment(rel, InvalidOid);
		if (reason)
			segment_error(RelationGetRelationName(rel), name, reason);
		table_close(rel, NoLock);
		return;
	}

	reason = check_table(rel, false);
	table_close(rel, NoLock);
	if (reason)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
						errmsg("table \"%s.log_%s\" cannot be used as a log", NB_SCHEMA, name),
						errdetail_internal("%s", reason),
						errhint("Undo the change, or create another log.")));

	count = catalog_segments(relid, segments);
	for (int i = 0; i < count; i++)
	{
		rel = try_relation_open(segments[i], AccessShareLock);
		if (!rel)
		{
			/* Dropped since: look again. */
			catalog_check_table(relid, name, false);
			return;
		}
		reason = check_segment(rel, owner);
		if (reason)
			segment_error(RelationGetRelationName(rel), name, reason);
		relation_close(rel, AccessShareLock);
	}
}

/* The sequence that bounds the log's seqs: the one its table owns; InvalidOid if it was dropped. */
Oid
catalog_bound_sequence(Oid relid)
{
	List *owned = getOwnedSequences(relid);

	if (owned == NIL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
						errmsg("log \"%s\" has lost the sequence that bounds its seqs",
							   nb_log_name_of(relid)),
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
	Oid table = nb_catalog_table("catalog_position");
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
	/* Before ALTER EXTENSION .. UPDATE there is no place for the totals. */
	const char *sql =
		catalog_current()
			? "INSERT INTO netbus.catalog_position (log, shard, next_seq, bound, events, bytes)"
			  " VALUES ($1::oid, $2, $3, $4, $5, $6)"
			  " ON CONFLICT (log, shard) DO UPDATE SET next_seq = excluded.next_seq,"
			  " bound = excluded.bound, events = excluded.events, bytes = excluded.bytes"
			: "INSERT INTO netbus.catalog_position VALUES ($1::oid, $2, $3, $4)"
			  " ON CONFLICT (log, shard) DO UPDATE"
			  " SET next_seq = excluded.next_seq, bound = excluded.bound";

	SPI_connect();
	for (int i = 0; i < log->options.shards; i++)
	{
		Ring *ring = log_ring(log->shared, i);
		int64 events = 0;
		int64 bytes = 0;
		Oid types[6] = {OIDOID, INT4OID, INT8OID, INT8OID, INT8OID, INT8OID};
		Datum args[6];

		for (int n = 0; n < RING_SEGMENTS; n++)
		{
			events += ring->segments[n].events;
			bytes += ring->segments[n].bytes;
		}
		/* Not counted yet: the next start has to count from the beginning. */
		if (nb_log_durable(log) && !log->shared->counted)
			events = -1;
		args[0] = ObjectIdGetDatum(log->relid);
		args[1] = Int32GetDatum(i);
		args[2] = Int64GetDatum(ring->next_seq);
		args[3] = Int64GetDatum(value);
		args[4] = Int64GetDatum(events);
		args[5] = Int64GetDatum(bytes);
		if (SPI_execute_with_args(sql, catalog_current() ? 6 : 4, types, args, NULL, false, 0) !=
			SPI_OK_INSERT)
			elog(ERROR, "could not save the positions of log \"%s\"", log->name);
	}
	SPI_finish();
}

/* Columns of netbus.catalog_position */
enum
{
	POSITION_SHARD = 2,
	POSITION_NEXT_SEQ,
	POSITION_BOUND,
	POSITION_EVENTS,
	POSITION_BYTES
};

void
catalog_saved_totals(NbLog *log, SavedTotals *totals)
{
	Oid table = nb_catalog_table("catalog_position");
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;

	if (!OidIsValid(table))
		return;
	rel = table_open(table, AccessShareLock);
	scan = scan_log_rows(rel, log->relid);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		int shard = DatumGetInt32(catalog_column(rel, tuple, POSITION_SHARD));

		if (shard < 0 || shard >= log->options.shards)
			continue;
		if (DatumGetInt64(catalog_column(rel, tuple, POSITION_EVENTS)) < 0)
			continue;
		totals[shard].next_seq = DatumGetInt64(catalog_column(rel, tuple, POSITION_NEXT_SEQ));
		totals[shard].events = DatumGetInt64(catalog_column(rel, tuple, POSITION_EVENTS));
		totals[shard].bytes = DatumGetInt64(catalog_column(rel, tuple, POSITION_BYTES));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* The totals of the last clean stop are not those of the tables any more. */
void
catalog_forget_totals(Oid relid)
{
	Oid table = nb_catalog_table("catalog_position");
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;

	if (!OidIsValid(table))
		return;
	rel = table_open(table, RowExclusiveLock);
	scan = scan_log_rows(rel, relid);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		simple_heap_delete(rel, &tuple->t_self);
	systable_endscan(scan);
	table_close(rel, RowExclusiveLock);
}

bool
catalog_is_copy(const NbLog *log)
{
	Relation rel = table_open(SubscriptionRelRelationId, AccessShareLock);
	bool found = false;

	for (int i = 0; i < log->ntables && !found; i++)
	{
		ScanKeyData key;
		SysScanDesc scan;

		ScanKeyInit(&key, Anum_pg_subscription_rel_srrelid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(log->tables[i]));
		scan = systable_beginscan(rel, SubscriptionRelSrrelidSrsubidIndexId, true, NULL, 1, &key);
		found = HeapTupleIsValid(systable_getnext(scan));
		systable_endscan(scan);
	}
	table_close(rel, AccessShareLock);
	return found;
}

bool
catalog_has_keys(const NbLog *log)
{
	for (int i = 0; i < log->ntables; i++)
	{
		Relation rel = table_open(log->tables[i], AccessShareLock);
		bool has = OidIsValid(nb_primary_key(rel)) && has_frame_columns(rel);

		table_close(rel, AccessShareLock);
		if (!has)
			return false;
	}
	return true;
}
