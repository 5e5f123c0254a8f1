/*-------------------------------------------------------------------------
 *
 * consumer_catalog.c
 *		The rows of netbus.catalog_consumer: which consumers there are.
 *
 * Keyed by the log's table, a regclass, and the name.  Rows are read and
 * written below SQL, for no user has a right on the table; those who change one
 * hold a lock on the consumer's name (consumer_ddl.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/consumer.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#define TABLE "catalog_consumer"

/* Its columns */
enum
{
	COL_LOG = 1,
	COL_CONSUMER,
	COL_ID,
	COL_OWNER,
	COL_STARTS, /* the position of each shard before the first row about progress */
	COL_PAUSED,
	COL_FILTER,
	COL_MAX_DELIVERIES,
	COL_DEAD_LETTER_LOG,
	COL_HOLD,
	COLUMNS = COL_HOLD
};

/* Of one consumer, or of all if name is NULL. */
static SysScanDesc
begin_scan(Relation rel, Oid relid, const char *name, ScanKeyData *keys)
{
	if (!name)
		return systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	ScanKeyInit(&keys[0], COL_LOG, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	ScanKeyInit(&keys[1], COL_CONSUMER, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum(name));
	return systable_beginscan(rel, nb_primary_key(rel), true, NULL, 2, keys);
}

bool
consumer_catalog_lock(void)
{
	static const char *const tables[] = {TABLE, "catalog_ack_0", "catalog_ack_1"};

	for (int i = 0; i < lengthof(tables); i++)
	{
		Oid table = nb_catalog_table(tables[i]);

		/* Who drops the extension locks them in an order of his own: do not wait for him. */
		if (!OidIsValid(table) || !ConditionalLockRelationOid(table, AccessShareLock) ||
			!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table)))
			return false;
	}
	return true;
}

static void
read_row(Relation rel, HeapTuple tuple, Consumer *consumer)
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS];

	heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
	memset(consumer, 0, sizeof(Consumer));
	consumer->generation = nb_log_generation;
	consumer->key.relid = DatumGetObjectId(values[COL_LOG - 1]);
	strlcpy(NameStr(consumer->key.name), NameStr(*DatumGetName(values[COL_CONSUMER - 1])),
			NAMEDATALEN);
	consumer->id = DatumGetInt64(values[COL_ID - 1]);
	consumer->owner = DatumGetObjectId(values[COL_OWNER - 1]);
	consumer->paused = DatumGetBool(values[COL_PAUSED - 1]);
	if (!nulls[COL_FILTER - 1])
		consumer->filter = DatumGetJsonbPCopy(values[COL_FILTER - 1]);
	if (!nulls[COL_MAX_DELIVERIES - 1])
		consumer->max_deliveries = DatumGetInt32(values[COL_MAX_DELIVERIES - 1]);
	if (!nulls[COL_DEAD_LETTER_LOG - 1])
		consumer->dead_letter_log = DatumGetObjectId(values[COL_DEAD_LETTER_LOG - 1]);
	if (!nulls[COL_HOLD - 1])
		consumer->hold = DatumGetInt64(values[COL_HOLD - 1]);
}

bool
consumer_catalog_get(Oid relid, const char *name, Consumer *consumer)
{
	Relation rel = nb_catalog_open(TABLE, COLUMNS, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan = begin_scan(rel, relid, name, keys);
	HeapTuple tuple = systable_getnext(scan);
	bool found = HeapTupleIsValid(tuple);

	if (found)
		read_row(rel, tuple, consumer);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* What is dumped and restored may be anything: a row with holes in its starts is passed over. */
static uint64 *
read_starts(Relation rel, HeapTuple tuple, int *shards)
{
	bool isnull;
	ArrayType *array =
		DatumGetArrayTypePCopy(heap_getattr(tuple, COL_STARTS, RelationGetDescr(rel), &isnull));

	*shards = 0;
	if (ARR_NDIM(array) != 1 || ARR_HASNULL(array) || ARR_ELEMTYPE(array) != INT8OID ||
		ARR_DIMS(array)[0] > LOG_MAX_SHARDS)
		return NULL;
	*shards = ARR_DIMS(array)[0];
	return (uint64 *) ARR_DATA_PTR(array);
}

void
consumer_catalog_scan(ConsumerVisitor visit, void *arg)
{
	Oid table = nb_catalog_table(TABLE);
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;

	if (!OidIsValid(table))
		return; /* before ALTER EXTENSION .. UPDATE */
	rel = try_table_open(table, AccessShareLock);
	if (!rel)
		return; /* dropped since */
	scan = begin_scan(rel, InvalidOid, NULL, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);
		Consumer consumer;
		int shards;
		uint64 *starts = read_starts(rel, tuple, &shards);

		read_row(rel, tuple, &consumer);
		if (starts)
			visit(&consumer, starts, shards,
				  TransactionIdIsCurrentTransactionId(xmin) ? GetTopTransactionId()
															: InvalidTransactionId,
				  arg);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* The columns that can be altered. */
static void
option_columns(const Consumer *consumer, Datum *values, bool *nulls)
{
	values[COL_PAUSED - 1] = BoolGetDatum(consumer->paused);
	values[COL_FILTER - 1] = JsonbPGetDatum(consumer->filter);
	nulls[COL_FILTER - 1] = consumer->filter == NULL;
	values[COL_MAX_DELIVERIES - 1] = Int32GetDatum(consumer->max_deliveries);
	nulls[COL_MAX_DELIVERIES - 1] = consumer->max_deliveries == 0;
	values[COL_DEAD_LETTER_LOG - 1] = ObjectIdGetDatum(consumer->dead_letter_log);
	nulls[COL_DEAD_LETTER_LOG - 1] = !OidIsValid(consumer->dead_letter_log);
	values[COL_HOLD - 1] = Int64GetDatum(consumer->hold);
	nulls[COL_HOLD - 1] = consumer->hold == 0;
}

void
consumer_catalog_insert(const Consumer *consumer, const uint64 *starts, int shards)
{
	Relation rel = nb_catalog_open(TABLE, COLUMNS, RowExclusiveLock);
	Datum values[COLUMNS] = {0};
	bool nulls[COLUMNS] = {0};
	Datum elements[LOG_MAX_SHARDS];
	HeapTuple tuple;

	for (int i = 0; i < shards; i++)
		elements[i] = Int64GetDatum(starts[i]);
	values[COL_LOG - 1] = ObjectIdGetDatum(consumer->key.relid);
	values[COL_CONSUMER - 1] = NameGetDatum(&consumer->key.name);
	values[COL_ID - 1] = Int64GetDatum(consumer->id);
	values[COL_OWNER - 1] = ObjectIdGetDatum(consumer->owner);
	values[COL_STARTS - 1] = PointerGetDatum(construct_array(
		elements, shards, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	option_columns(consumer, values, nulls);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/* Change the row of a consumer, or delete it if there is nothing to replace. */
static void
change_row(const Consumer *consumer, bool delete_it)
{
	Relation rel = nb_catalog_open(TABLE, COLUMNS, RowExclusiveLock);
	ScanKeyData keys[2];
	SysScanDesc scan = begin_scan(rel, consumer->key.relid, NameStr(consumer->key.name), keys);
	HeapTuple tuple = systable_getnext(scan);

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "consumer \"%s\" has no row", NameStr(consumer->key.name));
	if (delete_it)
		CatalogTupleDelete(rel, &tuple->t_self);
	else
	{
		Datum values[COLUMNS] = {0};
		bool nulls[COLUMNS] = {0};
		bool replace[COLUMNS] = {0};

		option_columns(consumer, values, nulls);
		for (int i = COL_PAUSED; i <= COL_HOLD; i++)
			replace[i - 1] = true;
		tuple = heap_modify_tuple(tuple, RelationGetDescr(rel), values, nulls, replace);
		CatalogTupleUpdate(rel, &tuple->t_self, tuple);
		heap_freetuple(tuple);
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

void
consumer_catalog_update(const Consumer *consumer)
{
	change_row(consumer, false);
}

void
consumer_catalog_delete(const Consumer *consumer)
{
	change_row(consumer, true);
}
