/*-------------------------------------------------------------------------
 *
 * watch_catalog.c
 *		The rows of netbus.catalog_watch: which watches there are.
 *
 * Rows are read and written below SQL, for no user has a right on the table.  A
 * watch is found by its id, or by what makes it the same as another: owner, log, and
 * a fingerprint of kind, channel and filter.
 *
 * Locks: whoever changes watches holds an object lock on what he changes
 * (watch_catalog_lock()).  The worker takes the table's lock only if it is free.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "watch/watch.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define SEQUENCE    "catalog_watch_id"
#define OWNER_INDEX "catalog_watch_owner_log_fingerprint_key"
#define LOG_INDEX   "catalog_watch_log_idx"

/* Its columns */
enum
{
	COL_ID = 1,
	COL_OWNER,
	COL_LOG,
	COL_KIND,
	COL_CHANNEL,
	COL_FILTER,
	COL_DEBOUNCE,
	COL_PAYLOAD,
	COL_CREATED,
	COL_STARTS,
	COL_FINGERPRINT,
	COLUMNS = COL_FINGERPRINT
};

static Oid
index_of(Relation rel, const char *name)
{
	return get_relname_relid(name, RelationGetNamespace(rel));
}

static const char *
kind_name(int kind)
{
	return kind == WATCH_LOG ? "log" : model_kinds[kind]->name;
}

/* -1: there is no such kind. */
static int
kind_by_name(const char *name)
{
	for (int i = 0; i <= WATCH_LOG; i++)
		if (strcmp(kind_name(i), name) == 0)
			return i;
	return -1;
}

/* What is dumped and restored may be anything: false for a row that makes no sense. */
static bool
read_row(Relation rel, HeapTuple tuple, WatchRow *row)
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS];
	ArrayType *starts;

	heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
	memset(row, 0, sizeof(WatchRow));
	row->id = DatumGetInt64(values[COL_ID - 1]);
	row->owner = DatumGetObjectId(values[COL_OWNER - 1]);
	row->log = DatumGetObjectId(values[COL_LOG - 1]);
	row->kind = kind_by_name(TextDatumGetCString(values[COL_KIND - 1]));
	if (!nulls[COL_CHANNEL - 1])
		strlcpy(row->channel, NameStr(*DatumGetName(values[COL_CHANNEL - 1])), NAMEDATALEN);
	if (!nulls[COL_FILTER - 1])
		row->filter = DatumGetJsonbPCopy(values[COL_FILTER - 1]);
	row->debounce = DatumGetInt64(values[COL_DEBOUNCE - 1]);
	row->ids = strcmp(TextDatumGetCString(values[COL_PAYLOAD - 1]), "ids") == 0;
	row->created = DatumGetTimestampTz(values[COL_CREATED - 1]);
	starts = DatumGetArrayTypePCopy(values[COL_STARTS - 1]);
	if (ARR_NDIM(starts) != 1 || ARR_HASNULL(starts) || ARR_ELEMTYPE(starts) != INT8OID ||
		ARR_DIMS(starts)[0] > LOG_MAX_SHARDS)
		return false;
	row->nstarts = ARR_DIMS(starts)[0];
	row->starts = (uint64 *) ARR_DATA_PTR(starts);
	row->xmin = HeapTupleHeaderGetXmin(tuple->t_data);
	row->tid = tuple->t_self;
	return row->kind >= 0 && row->debounce >= 0;
}

bool
watch_catalog_scan(WatchKnown known, WatchVisitor visit, void *arg)
{
	Oid table = nb_catalog_table(WATCH_TABLE);
	MemoryContext context;
	MemoryContext old;
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;

	if (!OidIsValid(table))
		return true; /* before ALTER EXTENSION .. UPDATE, or after DROP EXTENSION: none */
	/* Who drops the extension has it locked: do not wait for him. */
	if (!ConditionalLockRelationOid(table, AccessShareLock))
		return false;
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table)))
		return true;
	rel = table_open(table, NoLock);
	context =
		AllocSetContextCreate(CurrentMemoryContext, "netbus watch row", ALLOCSET_DEFAULT_SIZES);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool isnull;
		int64 id = DatumGetInt64(heap_getattr(tuple, COL_ID, RelationGetDescr(rel), &isnull));
		WatchRow row;

		if (known && known(id, HeapTupleHeaderGetXmin(tuple->t_data), &tuple->t_self))
			continue;
		old = MemoryContextSwitchTo(context);
		if (read_row(rel, tuple, &row))
			visit(&row, arg);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	systable_endscan(scan);
	MemoryContextDelete(context);
	table_close(rel, NoLock);
	return true;
}

static HeapTuple
find_by_id(Relation rel, int64 id, SysScanDesc *scan)
{
	ScanKeyData key;

	ScanKeyInit(&key, COL_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	*scan = systable_beginscan(rel, nb_primary_key(rel), true, NULL, 1, &key);
	return systable_getnext(*scan);
}

bool
watch_catalog_get(int64 id, WatchRow *row)
{
	Relation rel = nb_catalog_open(WATCH_TABLE, COLUMNS, AccessShareLock);
	SysScanDesc scan;
	HeapTuple tuple = find_by_id(rel, id, &scan);
	bool found = HeapTupleIsValid(tuple) && read_row(rel, tuple, row);

	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* Of kind, channel and filter: two watches with the same one are the same. */
static uint64
fingerprint(const WatchRow *row)
{
	uint64 hash = nb_hash64(row->channel, strlen(row->channel), row->kind);

	return row->filter ? nb_hash64(row->filter, VARSIZE(row->filter), hash) : hash;
}

int64
watch_catalog_find(const WatchRow *row)
{
	Relation rel = nb_catalog_open(WATCH_TABLE, COLUMNS, AccessShareLock);
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple tuple;
	int64 id = 0;
	bool isnull;

	ScanKeyInit(&keys[0], COL_OWNER, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(row->owner));
	ScanKeyInit(&keys[1], COL_LOG, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(row->log));
	ScanKeyInit(&keys[2], COL_FINGERPRINT, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum((int64) fingerprint(row)));
	scan = systable_beginscan(rel, index_of(rel, OWNER_INDEX), true, NULL, 3, keys);
	if (HeapTupleIsValid(tuple = systable_getnext(scan)))
		id = DatumGetInt64(heap_getattr(tuple, COL_ID, RelationGetDescr(rel), &isnull));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return id;
}

int
watch_catalog_count(Oid owner)
{
	Relation rel = nb_catalog_open(WATCH_TABLE, COLUMNS, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	int count = 0;

	ScanKeyInit(&key, COL_OWNER, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(owner));
	scan = systable_beginscan(rel, index_of(rel, OWNER_INDEX), true, NULL, 1, &key);
	while (HeapTupleIsValid(systable_getnext(scan)))
		count++;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return count;
}

void
watch_catalog_lock(WatchLock what, int64 which)
{
	Oid table = nb_catalog_table(WATCH_TABLE);

	if (!OidIsValid(table))
		nb_outdated_extension();
	LockDatabaseObject(table, (Oid) (which ^ which >> 32), what, ExclusiveLock);
}

void
watch_catalog_insert(WatchRow *row)
{
	Relation rel = nb_catalog_open(WATCH_TABLE, COLUMNS, RowExclusiveLock);
	Datum values[COLUMNS] = {0};
	bool nulls[COLUMNS] = {0};
	Datum starts[LOG_MAX_SHARDS];
	NameData channel;
	HeapTuple tuple;

	row->id = nextval_internal(get_relname_relid(SEQUENCE, RelationGetNamespace(rel)), false);
	namestrcpy(&channel, row->channel);
	for (int i = 0; i < row->nstarts; i++)
		starts[i] = Int64GetDatum(row->starts[i]);
	values[COL_ID - 1] = Int64GetDatum(row->id);
	values[COL_OWNER - 1] = ObjectIdGetDatum(row->owner);
	values[COL_LOG - 1] = ObjectIdGetDatum(row->log);
	values[COL_KIND - 1] = CStringGetTextDatum(kind_name(row->kind));
	values[COL_CHANNEL - 1] = NameGetDatum(&channel);
	nulls[COL_CHANNEL - 1] = row->channel[0] == '\0';
	values[COL_FILTER - 1] = JsonbPGetDatum(row->filter);
	nulls[COL_FILTER - 1] = row->filter == NULL;
	values[COL_DEBOUNCE - 1] = Int64GetDatum(row->debounce);
	values[COL_PAYLOAD - 1] = CStringGetTextDatum(row->ids ? "ids" : "none");
	values[COL_CREATED - 1] = TimestampTzGetDatum(row->created);
	values[COL_STARTS - 1] = PointerGetDatum(construct_array(
		starts, row->nstarts, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[COL_FINGERPRINT - 1] = Int64GetDatum((int64) fingerprint(row));
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

void
watch_catalog_update(const WatchRow *row)
{
	Relation rel = nb_catalog_open(WATCH_TABLE, COLUMNS, RowExclusiveLock);
	Datum values[COLUMNS] = {0};
	bool nulls[COLUMNS] = {0};
	bool replace[COLUMNS] = {0};
	SysScanDesc scan;
	HeapTuple tuple = find_by_id(rel, row->id, &scan);

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "watch " INT64_FORMAT " has no row", row->id);
	values[COL_DEBOUNCE - 1] = Int64GetDatum(row->debounce);
	values[COL_PAYLOAD - 1] = CStringGetTextDatum(row->ids ? "ids" : "none");
	replace[COL_DEBOUNCE - 1] = replace[COL_PAYLOAD - 1] = true;
	tuple = heap_modify_tuple(tuple, RelationGetDescr(rel), values, nulls, replace);
	CatalogTupleUpdate(rel, &tuple->t_self, tuple);
	heap_freetuple(tuple);
	systable_endscan(scan);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

void
watch_catalog_delete(int64 id)
{
	Relation rel = nb_catalog_open(WATCH_TABLE, COLUMNS, RowExclusiveLock);
	SysScanDesc scan;
	HeapTuple tuple = find_by_id(rel, id, &scan);

	if (HeapTupleIsValid(tuple))
		CatalogTupleDelete(rel, &tuple->t_self);
	systable_endscan(scan);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/* The log is being dropped, and all else may be, too. */
bool
watch_catalog_forget_log(Oid log)
{
	Oid table = nb_catalog_table(WATCH_TABLE);
	Relation rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple tuple;
	Oid index;
	bool any = false;

	if (!OidIsValid(table))
		return false;
	rel = table_open(table, RowExclusiveLock);
	index = index_of(rel, LOG_INDEX);
	ScanKeyInit(&key, COL_LOG, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(log));
	scan = systable_beginscan(rel, index, OidIsValid(index), NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		CatalogTupleDelete(rel, &tuple->t_self);
		any = true;
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
	return any;
}
