/*-------------------------------------------------------------------------
 *
 * snapshot.c
 *		Snapshots: the state of models in tables, so that a start need not fold
 *		whole logs.
 *
 * Two tables are filled in rotation; the one with the older snapshots is truncated
 * and gets new ones of all models of the database.  A snapshot consists of parts, rows
 * that fill a page, and of a manifest, which is written last: without it the
 * parts mean nothing.
 *
 * Nobody waits for a snapshot: the worker writes a part of it each time it comes by,
 * in transactions of their own, and folds in between.  So records are of different
 * moments.  The manifest has the seq that was folded when the snapshot began, and each
 * record the seq of its last event; a start folds the log from the former on and skips,
 * record by record, what the latter says is in already.  What was removed meanwhile
 * and comes back that way is removed again by the same log.
 *
 * Records come by created, so that a start appends them to most lists; those by updated
 * and by id, where they would come into any place, are made when all are there.
 *
 * A snapshot is believed if its checksums, its version and the log's
 * incarnation are right, and if the log has got as far as it says.  Otherwise
 * there is a WARNING, and the older one or the log itself serves.
 *
 * Locks: AccessExclusiveLock on the table that is truncated, if it is free.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cortex/model.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "redex/store.h"

#define SNAPSHOT_VERSION 1
#define SNAPSHOT_MAGIC   0x4e625333
#define PART_BYTES       8000
#define SLICE_BYTES      (2 * 1024 * 1024)
#define MANIFEST_PART    (-1)
#define POLL_MS          20
#define DUE_MS           1000

PG_FUNCTION_INFO_V1(netbus_snapshot_model);

enum
{
	COL_LOG = 1,
	COL_RECORDS,
	COL_PART,
	COL_DATA,
	COLUMNS = COL_DATA
};

static const char *const tables[2] = {"catalog_snapshot_a", "catalog_snapshot_b"};

typedef struct Manifest
{
	uint64 hash; /* of what follows */
	uint32 magic;
	uint32 version;
	int64 incarnation; /* of the log */
	uint64 seq;        /* folded when it began */
	uint64 cycle;      /* counts snapshots of the database */
	uint64 records;
	int64 parts;
} Manifest;

typedef struct PartHeader
{
	uint64 hash; /* of what follows */
	uint32 records;
	uint32 bytes; /* of records */
} PartHeader;

/* Followed by the blob, filled up to a multiple of 8. */
typedef struct SavedRecord
{
	int64 id;
	int64 created;
	int64 updated;
	uint64 seq;
	uint32 flags;
	uint32 blob_bytes;
} SavedRecord;

struct SnapshotLoad
{
	int which; /* of the tables */
	Oid table;
	Manifest manifest;
	int64 part;
	uint64 records;
};

/* What is being written. */
static struct
{
	bool active;
	bool known;   /* cycle and target are */
	uint64 cycle; /* of the newest snapshots there are */
	int target;   /* table for the next */
	int64 last_at;
	uint64 events; /* of all models at that time */

	Oid *logs; /* of the models to do */
	int nlogs;
	int current;
	bool begun; /* that one */
	uint32 generation;
	Manifest manifest;
	PostingKey at;
} writing;

static SysScanDesc
scan_part(Relation rel, Oid log, int64 part)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], COL_LOG, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(log));
	ScanKeyInit(&keys[1], COL_PART, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(part));
	return systable_beginscan(rel, nb_primary_key(rel), true, NULL, 2, keys);
}

/* Copy a part, palloc'd, aligned; NULL: there is none. */
static char *
copy_part(Relation rel, Oid log, int64 part, Size *bytes)
{
	SysScanDesc scan = scan_part(rel, log, part);
	HeapTuple tuple = systable_getnext(scan);
	char *copy = NULL;

	if (HeapTupleIsValid(tuple))
	{
		bool isnull;
		Datum value = heap_getattr(tuple, COL_DATA, RelationGetDescr(rel), &isnull);

		if (!isnull)
		{
			struct varlena *data = PG_DETOAST_DATUM_PACKED(value);

			*bytes = VARSIZE_ANY_EXHDR(data);
			copy = palloc(*bytes + 1);
			memcpy(copy, VARDATA_ANY(data), *bytes);
		}
	}
	systable_endscan(scan);
	return copy;
}

/*
 * copy_part(), where an error that says that the table is damaged is but a warning,
 * and *unreadable then true: we can do without.
 */
static char *
read_part(Relation rel, Oid log, int64 part, Size *bytes, bool *unreadable)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char *volatile copy = NULL;

	*unreadable = false;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		copy = copy_part(rel, log, part, bytes);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_TO_CATEGORY(ERRCODE_DATA_CORRUPTED) &&
			ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_TO_CATEGORY(ERRCODE_IO_ERROR))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		error->elevel = WARNING;
		ThrowErrorData(error);
		*unreadable = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return copy;
}

/* The manifest of a model's snapshot in one of the tables.  False: there is none that is sound. */
static bool
read_manifest(Oid table, Oid log, Manifest *manifest)
{
	Relation rel = table_open(table, AccessShareLock);
	Size bytes = 0;
	bool unreadable;
	char *data = read_part(rel, log, MANIFEST_PART, &bytes, &unreadable);
	bool sound = false;

	if (data && bytes == sizeof(Manifest))
	{
		memcpy(manifest, data, sizeof(Manifest));
		sound = manifest->magic == SNAPSHOT_MAGIC && manifest->version == SNAPSHOT_VERSION &&
				manifest->hash == nb_hash64(data + sizeof(uint64), bytes - sizeof(uint64), 0);
	}
	if ((data && !sound) || unreadable)
		ereport(WARNING,
				(errmsg("skipping a snapshot in table \"%s\" that is damaged or of another "
						"version",
						RelationGetRelationName(rel))));
	table_close(rel, AccessShareLock);
	return sound;
}

/* ---------------------------------------------------------------- loading */

SnapshotLoad *
snapshot_open(Model *model, uint64 head)
{
	SnapshotLoad *load = NULL;
	Manifest best = {0};
	Oid best_table = InvalidOid;
	int which = 0;

	for (int i = 0; i < 2; i++)
	{
		Oid table = nb_catalog_table(tables[i]);
		Manifest manifest;

		if (!OidIsValid(table) || !read_manifest(table, model->relid, &manifest))
			continue;
		if (manifest.incarnation != model->log->options.incarnation || manifest.seq > head)
		{
			ereport(WARNING,
					(errmsg("skipping a snapshot of model \"%s\" of %s that is not of this log",
							model->name, model->kind->name)));
			continue;
		}
		if (manifest.cycle == model->damaged[i])
			continue; /* not twice */
		if (manifest.cycle > best.cycle)
		{
			best = manifest;
			best_table = table;
			which = i;
		}
	}
	if (OidIsValid(best_table))
	{
		load = MemoryContextAllocZero(TopMemoryContext, sizeof(SnapshotLoad));
		load->which = which;
		load->table = best_table;
		load->manifest = best;
		model->state.filling = true;
	}
	return load;
}

/* Is a blob what state.c makes of this schema's values? */
static bool
blob_sound(const Schema *schema, const Blob *blob, Size bytes)
{
	Size head = (const char *) blob_digest(blob, schema->nattrs) - (const char *) blob;
	uint32 end = 0;

	if (bytes < head || blob->bytes != bytes || head + blob->digest_words * sizeof(uint64) > bytes)
		return false;
	for (int i = 0; i < schema->nattrs; i++)
	{
		if (blob->ends[i] < end)
			return false;
		end = blob->ends[i];
	}
	return head + blob->digest_words * sizeof(uint64) + end == bytes;
}

/* Put the records of a part into the state.  False: it is damaged. */
static bool
load_part(SnapshotLoad *load, Model *model, char *data, Size bytes)
{
	State *state = &model->state;
	const Schema *schema = state->schema;
	PartHeader *header = (PartHeader *) data;
	Size at = sizeof(PartHeader);

	if (bytes < sizeof(PartHeader) || header->bytes != bytes - sizeof(PartHeader) ||
		header->hash != nb_hash64(data + sizeof(uint64), bytes - sizeof(uint64), 0))
		return false;
	for (uint32 i = 0; i < header->records; i++)
	{
		SavedRecord *saved = (SavedRecord *) (data + at);
		const Blob *blob = (const Blob *) (saved + 1);
		Image image;

		if (at + sizeof(SavedRecord) > bytes ||
			at + sizeof(SavedRecord) + saved->blob_bytes > bytes ||
			!blob_sound(schema, blob, saved->blob_bytes))
			return false;
		image.id = saved->id;
		image.created = saved->created;
		image.updated = saved->updated;
		image.seq = saved->seq;
		image.flags = saved->flags;
		image.same_values = false;
		for (int a = 0; a < schema->nattrs; a++)
			image.values[a] = blob_value(blob, schema->nattrs, a);
		state_put(state, &image);
		at += sizeof(SavedRecord) + TYPEALIGN(8, saved->blob_bytes);
	}
	load->records += header->records;
	return true;
}

/* All records are in the state: make the lists in other orders than that of the parts. */
static void
complete(State *state)
{
	Size bytes = sizeof(PostingEntry) * (state->shared->by_created.count + 1);
	PostingEntry *entries = palloc_extended(bytes, MCXT_ALLOC_HUGE);
	PostingEntry *scratch = palloc_extended(bytes, MCXT_ALLOC_HUGE);

	state_complete(state, entries, scratch);
	pfree(entries);
	pfree(scratch);
}

bool
snapshot_load(SnapshotLoad *load, Model *model, int64 deadline, uint64 *seq, bool *valid)
{
	Relation rel;
	bool done = false;

	*valid = true;
	if (get_rel_name(load->table) == NULL)
		*valid = false;
	else
	{
		rel = table_open(load->table, AccessShareLock);
		while (*valid && !(done = load->part >= load->manifest.parts) && nb_now_us() < deadline)
		{
			Size bytes = 0;
			bool unreadable;
			char *data = read_part(rel, model->relid, load->part++, &bytes, &unreadable);

			*valid = data != NULL && load_part(load, model, data, bytes);
			if (data)
				pfree(data);
			debug_point("snapshot_load");
			CHECK_FOR_INTERRUPTS();
		}
		table_close(rel, AccessShareLock);
	}
	if (*valid && !done)
		return false;
	if (*valid && load->records != load->manifest.records)
		*valid = false;
	*seq = load->manifest.seq;
	if (!*valid)
	{
		ereport(WARNING, (errmsg("skipping a damaged snapshot of model \"%s\" of %s", model->name,
								 model->kind->name)));
		model->damaged[load->which] = load->manifest.cycle;
	}
	else
	{
		complete(&model->state);
		pg_atomic_write_u64(&model->slot->snapshot_seq, load->manifest.seq);
		pg_atomic_write_u64(&model->slot->snapshot_at, nb_now_us());
	}
	return true;
}

void
snapshot_close(SnapshotLoad *load)
{
	pfree(load);
}

/* ---------------------------------------------------------------- writing */

/*
 * Find out which table is to be overwritten: the older one, unless the newer one was not
 * finished and lacks what the older one has.  In a transaction.
 */
static bool
find_target(Model **models, int nmodels)
{
	uint64 cycles[2] = {0, 0};
	int only[2] = {0, 0}; /* models that this table has and the other has not */

	for (int m = 0; m < nmodels; m++)
	{
		bool has[2];

		for (int i = 0; i < 2; i++)
		{
			Oid table = nb_catalog_table(tables[i]);
			Manifest manifest;

			if (!OidIsValid(table))
				return false;
			has[i] = read_manifest(table, models[m]->relid, &manifest) &&
					 manifest.cycle != models[m]->damaged[i];
			if (has[i])
				cycles[i] = Max(cycles[i], manifest.cycle);
		}
		only[0] += has[0] && !has[1];
		only[1] += has[1] && !has[0];
	}
	writing.cycle = Max(cycles[0], cycles[1]);
	writing.target = cycles[0] <= cycles[1] ? 0 : 1;
	if (only[writing.target] > 0 && only[writing.target ^ 1] == 0)
		writing.target ^= 1;
	writing.known = true;
	return true;
}

static uint64
count_events(Model **models, int nmodels)
{
	uint64 events = 0;

	for (int i = 0; i < nmodels; i++)
		events += pg_atomic_read_u64(&models[i]->slot->events);
	return events;
}

/* Is it time?  *wait: if not, when to look again. */
static bool
is_due(Model **models, int nmodels, long *wait)
{
	bool wanted = false;
	int64 now = nb_now_us();
	uint64 events = count_events(models, nmodels);

	*wait = -1;
	for (int i = 0; i < nmodels; i++)
	{
		if (pg_atomic_read_u32(&models[i]->slot->phase) != MODEL_READY)
			return false;
		wanted |= pg_atomic_read_u32(&models[i]->slot->snapshot_wanted) != 0;
	}
	if (events < writing.events)
		writing.events = events; /* a model has gone, or was built anew */
	if (wanted)
		return true;
	if (writing.last_at == 0)
		writing.last_at = now;
	if (model_snapshot_interval == 0 || events - writing.events < model_snapshot_events)
		return false;
	if (now < writing.last_at + (int64) model_snapshot_interval * 1000000)
	{
		*wait = (writing.last_at - now) / 1000 + (long) model_snapshot_interval * 1000 + 1;
		return false;
	}
	return true;
}

/* Empty the table and begin.  In a transaction.  False: it is in use. */
static bool
begin_writing(Model **models, int nmodels)
{
	Oid table;

	if (!writing.known && !find_target(models, nmodels))
		return false;
	table = nb_catalog_table(tables[writing.target]);
	if (!OidIsValid(table) || !ConditionalLockRelationOid(table, AccessExclusiveLock))
		return false;
	if (!store_truncate(table))
		return false;
	if (writing.logs)
		pfree(writing.logs);
	writing.logs = MemoryContextAlloc(TopMemoryContext, sizeof(Oid) * nmodels);
	for (int i = 0; i < nmodels; i++)
		writing.logs[i] = models[i]->relid;
	writing.nlogs = nmodels;
	writing.current = 0;
	writing.begun = false;
	writing.events = count_events(models, nmodels);
	debug_point("snapshot_begin");
	return true;
}

static void
insert_part(Relation rel, CatalogIndexState indexes, Oid log, int records, int64 part,
			struct varlena *data)
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {0};
	HeapTuple tuple;

	values[COL_LOG - 1] = ObjectIdGetDatum(log);
	values[COL_RECORDS - 1] = Int32GetDatum(records);
	values[COL_PART - 1] = Int64GetDatum(part);
	values[COL_DATA - 1] = PointerGetDatum(data);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsertWithInfo(rel, tuple, indexes);
	heap_freetuple(tuple);
}

/* Finish the part in the buffer. */
static void
write_part(Relation rel, CatalogIndexState indexes, Oid log, StringInfo part, uint32 records)
{
	PartHeader *header = (PartHeader *) (part->data + 8);

	if (records == 0)
		return;
	header->records = records;
	header->bytes = part->len - 8 - sizeof(PartHeader);
	header->hash = nb_hash64((char *) header + sizeof(uint64), part->len - 8 - sizeof(uint64), 0);
	SET_VARSIZE(part->data + 4, part->len - 4);
	insert_part(rel, indexes, log, records, writing.manifest.parts++,
				(struct varlena *) (part->data + 4));
	writing.manifest.records += records;
	part->len = 8 + sizeof(PartHeader);
}

/* Write parts of the current model.  True: all of them. */
static bool
write_records(Model *model, Relation rel, CatalogIndexState indexes, int64 deadline)
{
	const State *state = &model->state;
	PostingCursor cursor;
	StringInfoData part;
	uint32 records = 0;
	Size written = 0;

	/* A varlena header lies before the parts, which are aligned to 8 bytes. */
	initStringInfo(&part);
	enlargeStringInfo(&part, PART_BYTES);
	part.len = 8 + sizeof(PartHeader);
	cursor_open(&cursor, &state->map, &state->shared->by_created, false);
	cursor_seek(&cursor, writing.at);
	for (; cursor.valid; cursor_next(&cursor))
	{
		const Record *record = state_record(state, cursor.record);
		const Blob *blob = state_blob(state, record);
		SavedRecord *saved;
		Size bytes = sizeof(SavedRecord) + TYPEALIGN(8, blob->bytes);

		if (records > 0 && part.len + bytes > PART_BYTES)
		{
			written += part.len;
			write_part(rel, indexes, model->relid, &part, records);
			records = 0;
			if (written > SLICE_BYTES || nb_now_us() > deadline)
			{
				/* Go on with this one. */
				writing.at = cursor_key(&cursor);
				pfree(part.data);
				return false;
			}
		}
		enlargeStringInfo(&part, bytes);
		saved = (SavedRecord *) (part.data + part.len);
		saved->id = record->id;
		saved->created = record->created;
		saved->updated = record->updated;
		saved->seq = record->seq;
		saved->flags = record->flags;
		saved->blob_bytes = blob->bytes;
		memcpy(saved + 1, blob, blob->bytes);
		memset((char *) (saved + 1) + blob->bytes, 0, bytes - sizeof(SavedRecord) - blob->bytes);
		part.len += bytes;
		records++;
	}
	write_part(rel, indexes, model->relid, &part, records);
	pfree(part.data);
	return true;
}

static void
write_manifest(Model *model, Relation rel, CatalogIndexState indexes)
{
	Manifest *manifest = &writing.manifest;
	struct varlena *data = palloc(VARHDRSZ + sizeof(Manifest));

	manifest->hash =
		nb_hash64((char *) manifest + sizeof(uint64), sizeof(Manifest) - sizeof(uint64), 0);
	SET_VARSIZE(data, VARHDRSZ + sizeof(Manifest));
	memcpy(VARDATA(data), manifest, sizeof(Manifest));
	insert_part(rel, indexes, model->relid, 0, MANIFEST_PART, data);
}

/* Some more of the current model.  In a transaction.  True: it is complete. */
static bool
write_some(Model *model, int64 deadline)
{
	Oid table = nb_catalog_table(tables[writing.target]);
	Relation rel;
	CatalogIndexState indexes;
	bool done;

	if (!OidIsValid(table))
		elog(ERROR, "table \"%s\" is missing", tables[writing.target]);
	if (!writing.begun)
	{
		memset(&writing.manifest, 0, sizeof(Manifest));
		writing.manifest.magic = SNAPSHOT_MAGIC;
		writing.manifest.version = SNAPSHOT_VERSION;
		writing.manifest.incarnation = model->log->options.incarnation;
		writing.manifest.seq = pg_atomic_read_u64(&model->slot->folded_seq);
		writing.manifest.cycle = writing.cycle + 1;
		writing.generation = model->slot->generation;
		writing.at.at = writing.at.id = PG_INT64_MIN;
		writing.begun = true;
	}
	rel = table_open(table, RowExclusiveLock);
	indexes = CatalogOpenIndexes(rel);
	done = write_records(model, rel, indexes, deadline);
	debug_point("snapshot");
	if (done)
		write_manifest(model, rel, indexes);
	CatalogCloseIndexes(indexes);
	table_close(rel, RowExclusiveLock);
	return done;
}

long
snapshot_run(Model **models, int nmodels, int64 deadline)
{
	long wait;
	Model *model = NULL;
	bool done;

	if (!writing.active)
	{
		if (!is_due(models, nmodels, &wait))
			return wait;
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		done = begin_writing(models, nmodels);
		PopActiveSnapshot();
		CommitTransactionCommand();
		writing.active = done;
		return done ? 0 : DUE_MS;
	}

	/* An error from here on leaves a table without manifest: begin anew, later. */
	writing.active = false;
	for (int i = 0; i < nmodels && writing.current < writing.nlogs; i++)
		if (models[i]->relid == writing.logs[writing.current])
			model = models[i];
	if (model && writing.begun &&
		(model->slot->generation != writing.generation ||
		 pg_atomic_read_u32(&model->slot->phase) != MODEL_READY))
		return DUE_MS;
	if (model)
	{
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		done = write_some(model, deadline);
		PopActiveSnapshot();
		debug_point("snapshot_commit");
		CommitTransactionCommand();
		writing.active = true;
		if (!done)
			return 0;
		pg_atomic_write_u64(&model->slot->snapshot_at, nb_now_us());
		pg_atomic_write_u64(&model->slot->snapshot_seq, writing.manifest.seq);
		pg_atomic_write_u32(&model->slot->snapshot_wanted, 0);
	}
	writing.current++;
	writing.begun = false;
	writing.active = writing.current < writing.nlogs;
	if (!writing.active)
	{
		writing.cycle++;
		writing.target ^= 1;
		writing.last_at = nb_now_us();
	}
	return 0;
}

/* snapshot_model(kind, model) -> the seq that the snapshot covers */
Datum
netbus_snapshot_model(PG_FUNCTION_ARGS)
{
	const ModelKind *kind;
	Model *model;
	uint64 seq;
	int64 deadline = nb_now_us() + (int64) nb_wait_timeout * 1000;

	if (PG_ARGISNULL(0))
		arg_null("kind");
	kind = model_kinds[model_kind_index(text_to_cstring(PG_GETARG_TEXT_PP(0)))];
	PreventCommandDuringRecovery("netbus.snapshot_model()");
	model = model_open(kind, PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1), ACL_SELECT);
	if (!model)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("model \"%s\" of %s does not exist", MODEL_DEFAULT, kind->name),
						errhint("It comes into being with the first write to it.")));
	if (!nb_owns_table(model->relid, GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of log \"%s\"", model->log->name)));
	if (!model_await(model))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("cannot snapshot a model in the transaction that has created it")));
	seq = pg_atomic_read_u64(&model->slot->folded_seq);
	while (pg_atomic_read_u64(&model->slot->snapshot_seq) < seq ||
		   pg_atomic_read_u64(&model->slot->snapshot_at) == 0)
	{
		if (nb_now_us() > deadline)
			ereport(
				ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the snapshot was not written within netbus.wait_timeout"),
				 errhint("The view netbus.stat_worker tells the worker's state and last error.")));
		pg_atomic_write_u32(&model->slot->snapshot_wanted, 1);
		nb_worker_wake(MyDatabaseId);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_INT64(pg_atomic_read_u64(&model->slot->snapshot_seq));
}
