/*-------------------------------------------------------------------------
 *
 * log.c
 *		Logs as a process knows them: opening, attaching, forgetting.
 *
 * A process keeps what it has learned of a log (options, rings) in a hash
 * table by the OID of the log's table.  A relcache invalidation of the table,
 * which every change of the log causes, marks it as out of date; the next
 * nb_log_open() loads it anew.  nb_log_generation counts such events, so that
 * callers may keep a pointer and see by one comparison that it still holds.
 *
 * The rings live in a DSM segment per log, made by whoever opens the log first
 * after a start of the server and mapped until the process ends or the log is
 * dropped.  The caller's lock on the table (any mode, to the end of the
 * transaction) is what keeps the log from being dropped under its feet.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/redex_internal.h"
#include "redex/store.h"

#include "access/relation.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/sinval.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "access/genam.h"

uint64 nb_log_generation = 1;
void (*nb_log_forget_hook)(NbLog *log) = NULL;
void (*nb_log_made_hook)(NbLog *log) = NULL;
bool (*nb_log_needed_hook)(NbLog *log, const uint64 *last_seqs, uint64 bytes) = NULL;
void (*nb_log_cut_hook)(Oid relid, const char *name) = NULL;

int nb_log_pins = 0;

static HTAB *logs = NULL;             /* NbLog by relid */
static bool stale_logs = false;       /* some may belong to dropped tables */
static bool database_dropped = false; /* by this transaction */
static bool ddl_in_xact = false;      /* a log was created or dropped */
static object_access_hook_type prev_object_access_hook = NULL;

static void
invalidate(NbLog *log)
{
	log->valid = false;
	stale_logs = true;
}

/* relcache callback: something about a table, or about all tables, changed. */
static void
log_relcache_callback(Datum arg, Oid relid)
{
	NbLog *log;
	HASH_SEQ_STATUS status;

	if (!logs)
		return;
	if (OidIsValid(relid) && (log = hash_search(logs, &relid, HASH_FIND, NULL)) != NULL)
		invalidate(log);
	else
	{
		bool any = false;

		/* One of their segments, or all. */
		hash_seq_init(&status, logs);
		while ((log = hash_seq_search(&status)) != NULL)
		{
			bool mine = !OidIsValid(relid);

			for (int i = 0; i < log->ntables && !mine; i++)
				mine = log->tables[i] == relid;
			if (mine)
				invalidate(log);
			any |= mine;
		}
		if (!any)
			return;
	}
	nb_log_generation++;
}

/* syscache callback: a table was subscribed, or is not any more. */
static void
log_subscription_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	log_relcache_callback((Datum) 0, InvalidOid);
}

/* syscache callback: a role or a membership changed, hence perhaps rights. */
static void
log_rights_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	nb_log_generation++;
}

static void
log_table_init(void)
{
	HASHCTL ctl;

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(NbLog);
	ctl.hcxt = TopMemoryContext;
	logs = hash_create("netbus logs", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(log_relcache_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, log_rights_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, log_rights_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(SUBSCRIPTIONRELMAP, log_subscription_callback, (Datum) 0);
}

static void
count_detach(dsm_segment *segment, Datum arg)
{
	LogShared *shared = (LogShared *) DatumGetPointer(arg);

	pg_atomic_fetch_sub_u32(&shared->attached, 1);
}

/* Map a segment for the rest of the process's life. */
static void
adopt_segment(NbLog *log, dsm_segment *segment)
{
	dsm_pin_mapping(segment);
	log->segment = segment;
	log->shared = dsm_segment_address(segment);
	pg_atomic_fetch_add_u32(&log->shared->attached, 1);
	on_dsm_detach(segment, count_detach, PointerGetDatum(log->shared));
	log->local = MemoryContextAllocZero(TopMemoryContext, log->options.shards * sizeof(LogLocal));
}

/* Let go of all that hangs on a log whose table is gone. */
static void
forget_details(NbLog *log)
{
	dsm_segment *segment = log->segment;

	if (nb_log_forget_hook)
		nb_log_forget_hook(log);
	if (log->local)
		pfree(log->local);
	log->local = NULL;
	log->segment = NULL;
	log->shared = NULL;
	if (segment)
		dsm_detach(segment);
}

/* Error context: why the rings of a log could not be made. */
static void
ring_error_callback(void *arg)
{
	NbLog *log = arg;

	errcontext("allocating %d ring(s) of %zu kB for log \"%s\" in shared memory",
			   log->options.shards, (Size) log->options.ring_size / 1024, log->name);
	if (geterrcode() == ERRCODE_INSUFFICIENT_RESOURCES)
		errhint(
			"Every log uses one dynamic shared memory segment, whose number grows with max_connections.");
	else if (geterrcode() == ERRCODE_OUT_OF_MEMORY || geterrcode() == ERRCODE_DISK_FULL)
		errhint(
			"Enlarge the server's /dev/shm, or create the log with fewer shards or a smaller ring_size.");
}

/*
 * Where the shards of a log start: from the catalog, and from what its tables
 * hold.  A ring that is not live issues nothing: it starts behind the rows.
 */
typedef struct LogStart
{
	uint64 *next_seq; /* per shard */
	StoreEnds *ends;  /* per shard, over all tables */
} LogStart;

static void
find_start(NbLog *log, bool live, LogStart *start)
{
	int shards = log->options.shards;

	start->next_seq = palloc(shards * sizeof(uint64));
	start->ends = palloc0(shards * sizeof(StoreEnds));
	if (live || !nb_log_durable(log))
		catalog_first_seqs(log, start->next_seq);
	for (int i = 0; i < shards; i++)
	{
		if (!live && nb_log_durable(log))
			start->next_seq[i] = 1;
		start->ends[i].empty = true;
		if (nb_log_durable(log))
			store_ends(log, InvalidOid, i, &start->ends[i]);
		if (!start->ends[i].empty)
			start->next_seq[i] = Max(start->next_seq[i], start->ends[i].last_seq + 1);
	}
}

/* Was the one table filled before the other? */
static bool
filled_before(const StoreEnds *a, const StoreEnds *b, int shards)
{
	int64 ts_a = PG_INT64_MAX;
	int64 ts_b = PG_INT64_MAX;

	for (int i = 0; i < shards; i++)
	{
		if (!a[i].empty && !b[i].empty)
			return a[i].first_seq < b[i].first_seq;
		if (!a[i].empty)
			ts_a = Min(ts_a, a[i].first_ts);
		if (!b[i].empty)
			ts_b = Min(ts_b, b[i].first_ts);
	}
	return ts_a < ts_b;
}

/*
 * In which order the segments were filled, the empty ones last: segment n is
 * tables[order[n]].  Returns how many are not empty.
 */
static int
order_segments(NbLog *log, int *order, StoreEnds **ends)
{
	int shards = log->options.shards;
	int used = 0;
	int n = 0;
	bool empty[LOG_SEGMENTS];

	for (int t = 0; t < log->ntables; t++)
	{
		empty[t] = true;
		ends[t] = palloc0(shards * sizeof(StoreEnds));
		for (int i = 0; i < shards; i++)
		{
			store_ends(log, log->tables[t], i, &ends[t][i]);
			empty[t] &= ends[t][i].empty;
		}
	}
	for (int t = 0; t < log->ntables; t++)
	{
		int at = used;

		if (empty[t])
			continue;
		for (; at > 0 && filled_before(ends[t], ends[order[at - 1]], shards); at--)
			order[at] = order[at - 1];
		order[at] = t;
		used++;
	}
	n = used;
	for (int t = 0; t < log->ntables; t++)
		if (empty[t])
			order[n++] = t;
	return used;
}

/* Tell the rings which segments there are. */
static void
init_segments(NbLog *log, LogShared *shared)
{
	StoreEnds *ends[LOG_SEGMENTS];
	int used = 1;

	if (log->ntables > 1)
		used = Max(1, order_segments(log, shared->table_order, ends));
	for (int i = 0; i < shared->shards; i++)
	{
		Ring *ring = log_ring(shared, i);

		ring->oldest_segment = 0;
		ring->segment = used - 1;
		for (int n = 0; log->ntables > 1 && n < used; n++)
		{
			StoreEnds *e = &ends[shared->table_order[n]][i];

			ring->segments[n].first_ts = e->empty ? 0 : e->first_ts;
			ring->segments[n].last_ts = e->empty ? 0 : e->last_ts;
		}
	}
}

/* Should the log's rings be live: can events be published here? */
static bool
wants_live(const NbLog *log)
{
	return !log->copy && !RecoveryInProgress();
}

static RingBacking
ring_backing(LogDurability durability)
{
	return durability == LOG_COMMIT  ? RING_WRITE_THROUGH
		   : durability == LOG_ASYNC ? RING_WRITE_BEHIND
									 : RING_UNBACKED;
}

static void
create_rings(NbLog *log)
{
	LogOptions *options = &log->options;
	Size rings_off = TYPEALIGN(PG_CACHE_LINE_SIZE, sizeof(LogShared));
	Size stride = ring_shmem_size(options->ring_size);
	LogStart start;
	RegistryEntry entry;
	ErrorContextCallback context;
	dsm_segment *segment;
	LogShared *shared;
	Relation rel;
	bool live = wants_live(log);
	bool inserted;

	find_start(log, live, &start);

	context.callback = ring_error_callback;
	context.arg = log;
	context.previous = error_context_stack;
	error_context_stack = &context;
	segment = dsm_create(add_size(rings_off, mul_size(stride, options->shards)), 0);
	error_context_stack = context.previous;

	shared = dsm_segment_address(segment);
	memset(shared, 0, sizeof(LogShared));
	shared->database = MyDatabaseId;
	shared->relid = log->relid;
	shared->incarnation = options->incarnation;
	shared->shards = options->shards;
	shared->ring_size = options->ring_size;
	shared->ring_stride = stride;
	shared->rings_off = rings_off;
	pg_atomic_init_u64(&shared->bound, 0);
	pg_atomic_init_u32(&shared->live, live);
	pg_atomic_init_u32(&shared->attached, 0);
	/* The worker counts what there is, whenever it comes by. */
	pg_atomic_init_u32(&shared->attention, nb_log_durable(log) ? LOG_WORK | LOG_URGENT : 0);
	pg_atomic_init_u32(&shared->retention_holds, 0);
	pg_atomic_init_u32(&shared->folded, 0);
	for (int i = 0; i < options->shards; i++)
	{
		Ring *ring = log_ring(shared, i);
		StoreEnds *ends = &start.ends[i];

		CHECK_FOR_INTERRUPTS();
		ring_init(ring, options->ring_size, ring_backing(options->durability), start.next_seq[i],
				  ends->empty ? 0 : ends->last_ts);
		if (!ends->empty)
			ring_raise_floor(ring, ends->first_seq);
		else if (nb_log_durable(log) && live)
			ring_raise_floor(ring, start.next_seq[i]);
		if (!ends->empty && ends->last_base_seq > ends->stable_seq + 1)
		{
			/* There may be a hole that no row vouches for. */
			ring->sealed_seq = ends->stable_seq;
			ring->hole_seq = ends->last_base_seq - 1;
		}
	}
	if (nb_log_durable(log))
		init_segments(log, shared);

	memset(&entry, 0, sizeof(entry));
	entry.key.database = MyDatabaseId;
	entry.key.relid = log->relid;
	entry.incarnation = options->incarnation;
	entry.handle = dsm_segment_handle(segment);
	entry.durable = nb_log_durable(log);
	rel = table_open(log->relid, NoLock);
	if (rel->rd_createSubid != InvalidSubTransactionId)
	{
		entry.creator = GetTopTransactionId();
		ddl_in_xact = true;
	}
	table_close(rel, NoLock);

	registry_reap(false);
	dsm_pin_segment(segment);
	PG_TRY();
	{
		inserted = registry_insert(&entry);
	}
	PG_CATCH();
	{
		dsm_unpin_segment(entry.handle);
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (inserted)
	{
		adopt_segment(log, segment);
		if (nb_log_durable(log))
			nb_worker_wake(MyDatabaseId);
		else if (nb_log_made_hook)
			nb_log_made_hook(log);
	}
	else
	{
		/* Somebody was faster: theirs it is. */
		dsm_unpin_segment(entry.handle);
		dsm_detach(segment);
	}
}

/* Take rings out of service: whoever has them mapped sees it when he next opens the log. */
static void
retire(LogShared *shared, const RegistryEntry *entry)
{
	pg_atomic_write_u32(&shared->live, LOG_RETIRED);
	registry_remove(entry);
}

/* Map the log's rings, making them if this is the first use since the start. */
static void
attach_rings(NbLog *log)
{
	while (!log->shared)
	{
		RegistryEntry entry;
		dsm_segment *segment;

		CHECK_FOR_INTERRUPTS();
		if (!registry_find(log->relid, &entry))
			create_rings(log);
		else if (entry.incarnation != log->options.incarnation)
			registry_remove(&entry);
		else if ((segment = dsm_attach(entry.handle)) != NULL)
		{
			LogShared *shared = dsm_segment_address(segment);

			if (pg_atomic_read_u32(&shared->live) == wants_live(log))
				adopt_segment(log, segment);
			else
			{
				retire(shared, &entry);
				dsm_detach(segment);
			}
		}
	}
}

/*
 * Is what this process has mapped of no use any more: made in recovery, which
 * has ended, or before a subscription came or went?  Not while it is in use
 * here, nor before the worker has persisted what it holds.
 */
static bool
outlived(NbLog *log)
{
	uint32 live = pg_atomic_read_u32(&log->shared->live);

	if (likely(live == wants_live(log)) || log->pins > 0)
		return false;
	if (live && log->options.durability == LOG_ASYNC)
		for (int i = 0; i < log->options.shards; i++)
		{
			Ring *ring = log_ring(log->shared, i);

			if (pg_atomic_read_u64(&ring->persisted_seq) < pg_atomic_read_u64(&ring->stable_seq))
				return false;
		}
	return true;
}

/*
 * The table may have been truncated, restored or rewritten: look what it holds
 * now, so that no seq in it is issued again and readers know what is gone.
 * What is visible in a snapshot taken after "sure" was loaded is all up to there.
 */
static void
refresh_rings(NbLog *log)
{
	for (int i = 0; i < log->options.shards; i++)
	{
		Ring *ring = log_ring(log->shared, i);
		uint64 sure = pg_atomic_read_u64(
			log->options.durability == LOG_COMMIT ? &ring->stable_seq : &ring->persisted_seq);
		StoreEnds ends;

		pg_read_barrier();
		store_ends(log, InvalidOid, i, &ends);
		if (!ends.empty)
			ring_raise_limit(ring, ends.last_seq + 1, 0);
		if (nb_log_live(log))
			ring_raise_floor(ring, ends.empty ? sure + 1 : Min(ends.first_seq, sure + 1));
		else
			ring_raise_floor(ring, ends.empty ? pg_atomic_read_u64(&ring->stable_seq) + 1
											  : ends.first_seq);
	}
}

/* Let go of logs whose table is gone.  None of them is in use: uses pin. */
static void
forget_dropped_logs(void)
{
	HASH_SEQ_STATUS status;
	NbLog *log;

	stale_logs = false;
	hash_seq_init(&status, logs);
	while ((log = hash_seq_search(&status)) != NULL)
	{
		if (log->valid || SearchSysCacheExists1(RELOID, ObjectIdGetDatum(log->relid)))
			continue;
		if (log->pins > 0)
		{
			stale_logs = true;
			continue;
		}
		forget_details(log);
		hash_search(logs, &log->relid, HASH_REMOVE, NULL);
		nb_log_generation++;
	}
}

/*
 * The log of a table that the caller has locked.  NULL if it is no log, or
 * not one any more.
 */
NbLog *
log_by_relid(Oid relid)
{
	NbLog *log;
	LogOptions options;
	const char *name;
	uint64 generation;
	bool readable;
	bool found;

	nb_require_preload();
	if (!logs)
		log_table_init();
	/* Also those that nobody asks for any more: their memory must go. */
	if (stale_logs)
		forget_dropped_logs();
	log = hash_search(logs, &relid, HASH_FIND, NULL);
	if (log && log->valid && !outlived(log))
		return log;

	generation = nb_log_generation;
	name = nb_log_name_of(relid);
	if (!name || !catalog_get_log(relid, &options))
		return NULL;
	ddl_check_rewritten(name, options.incarnation);

	log = hash_search(logs, &relid, HASH_ENTER, &found);
	if (!found)
	{
		memset(log, 0, sizeof(NbLog));
		log->relid = relid;
	}
	else if (log->options.incarnation != options.incarnation)
	{
		if (log->pins > 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("log \"%s\" has got other tables since this transaction used it", name),
					 errhint("Try the transaction again.")));
		forget_details(log);
	}
	strlcpy(log->name, name, NAMEDATALEN);
	log->options = options;
	log->bound_relid = catalog_bound_sequence(relid);
	log->ntables = 0;
	if (nb_log_durable(log))
		log->ntables = catalog_segments(relid, log->tables);
	if (log->ntables == 0)
		log->tables[log->ntables++] = relid;
	log->copy = nb_log_durable(log) && catalog_is_copy(log);
	readable = !nb_log_durable(log) || catalog_has_keys(log);
	if (log->shared && outlived(log))
		forget_details(log);
	if (!log->shared)
	{
		if (!readable)
			catalog_check_table(relid, name, false); /* says what is wrong */
		attach_rings(log);
	}
	/* Also after attaching: perhaps nobody has looked since the table changed. */
	if (nb_log_durable(log) && readable)
		refresh_rings(log);
	log->valid = generation == nb_log_generation; /* else it changed while we looked */
	log->checked = false;
	return log;
}

void
log_note_ddl(void)
{
	ddl_in_xact = true;
}

void
log_forget_dropped(void)
{
	if (logs && stale_logs)
		forget_dropped_logs();
}

LogShared *
log_mapped(const RegistryEntry *entry)
{
	NbLog *log = logs ? hash_search(logs, &entry->key.relid, HASH_FIND, NULL) : NULL;

	return log && log->segment && dsm_segment_handle(log->segment) == entry->handle ? log->shared
																					: NULL;
}

static void
no_such_log(const char *name)
{
	if (!nb_log_name_valid(name))
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("log \"%s\" does not exist", name),
			 errdetail(
				 "A log's name has at most %d characters: a lower-case letter, then lower-case letters, digits and underscores.",
				 LOG_MAX_NAME)));
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("log \"%s\" does not exist", name),
					errhint("Create it with SELECT netbus.create_log('%s').", name)));
}

/* Has the current user that right on the table?  Asked before the lock is taken, as for any table. */
static void
check_right(Oid relid, const char *name, AclMode right)
{
	bool missing = false; /* dropped meanwhile: the caller looks again */

	if (pg_class_aclcheck_ext(relid, GetUserId(), right, &missing) != ACLCHECK_OK && !missing)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for log \"%s\"", name),
				 errhint("The owner of the log can GRANT %s ON %s.%s TO %s.",
						 right == ACL_INSERT ? "INSERT" : "SELECT", NB_SCHEMA, get_rel_name(relid),
						 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

NbLog *
nb_log_open(const char *name, LOCKMODE lockmode, AclMode right)
{
	char table[NAMEDATALEN];
	Oid relid;
	NbLog *log;

	nb_require_preload();
	if (!nb_log_name_valid(name))
		no_such_log(name);
	snprintf(table, sizeof(table), LOG_TABLE_PREFIX "%s", name);

	/* As RangeVarGetRelid() does it: look up, lock, and look again if anything changed meanwhile. */
	for (;;)
	{
		uint64 seen = SharedInvalidMessageCounter;

		relid = catalog_relation(table);
		if (!OidIsValid(relid))
			no_such_log(name);
		check_right(relid, name, right);
		LockRelationOid(relid, lockmode);
		if (seen == SharedInvalidMessageCounter)
			break;
		if (catalog_relation(table) == relid)
		{
			check_right(relid, name, right);
			break;
		}
		UnlockRelationOid(relid, lockmode);
	}

	log = log_by_relid(relid);
	if (!log)
		no_such_log(name);
	if (!log->checked)
	{
		catalog_check_table(relid, name, false);
		if (!OidIsValid(log->bound_relid))
			ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
							errmsg("log \"%s\" has lost the sequence that bounds its seqs", name),
							errhint("Drop the log and create it again.")));
		log->checked = true;
	}
	return log;
}

void
nb_log_lock_rows(NbLog *log)
{
	const Ring *ring = log_ring(log->shared, 0); /* all shards have the same segments */
	uint32 segment;

	if (log->ntables == 1)
		return; /* locked since it was opened */
	do
	{
		segment = ring->segment;
		LockRelationOid(nb_log_table(log, segment), RowExclusiveLock);
		LockRelationOid(nb_log_table(log, segment + 1), RowExclusiveLock);
		if (!log->valid)
		{
			if (log_by_relid(log->relid) != log)
				elog(ERROR, "log \"%s\" has gone", log->name);
			catalog_check_table(log->relid, log->name, false);
		}
	} while (!log->valid || segment != ring->segment);
}

bool
nb_log_exists(NbLog *log)
{
	return log->valid || SearchSysCacheExists1(RELOID, ObjectIdGetDatum(log->relid));
}

void
nb_log_raise_bound(NbLog *log, uint64 seq)
{
	LogShared *shared = log->shared;

	if (!nb_log_live(log))
		elog(ERROR, "log \"%s\" cannot issue seqs here", log->name);
	LockRelationOid(log->bound_relid, ShareUpdateExclusiveLock);
	if (pg_atomic_read_u64(&shared->bound) < seq)
		pg_atomic_write_u64(&shared->bound, catalog_raise_bound(log, seq));
	for (int i = 0; i < log->options.shards; i++)
		ring_raise_limit(log_ring(shared, i), 0, pg_atomic_read_u64(&shared->bound));
	UnlockRelationOid(log->bound_relid, ShareUpdateExclusiveLock);
}

/*
 * A log's table must keep a name by which the log can be addressed.  Called
 * after ALTER TABLE of any table; the new row is visible to SnapshotSelf only.
 */
static void
check_renamed_table(Oid relid)
{
	Relation rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple tuple;
	LogOptions options;

	if (get_rel_namespace(relid) != catalog_namespace() || !nb_log_name_of(relid) ||
		!catalog_get_log(relid, &options))
		return;

	rel = table_open(RelationRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, ClassOidIndexId, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);
		const char *name = NameStr(form->relname);

		if (form->relnamespace != catalog_namespace())
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot move the table of a log out of schema \"%s\"", NB_SCHEMA)));
		if (strncmp(name, LOG_TABLE_PREFIX, strlen(LOG_TABLE_PREFIX)) != 0 ||
			!nb_log_name_valid(name + strlen(LOG_TABLE_PREFIX)))
			ereport(ERROR, (errcode(ERRCODE_INVALID_NAME),
							errmsg("cannot rename the table of a log to \"%s\"", name),
							errhint("Rename it to " LOG_TABLE_PREFIX
									"<name>: the log's name follows it.")));
		ddl_follow_owner(relid, form->relowner);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static void
log_object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (prev_object_access_hook)
		prev_object_access_hook(access, class_id, object_id, sub_id, arg);

	if (class_id == DatabaseRelationId && access == OAT_DROP)
		database_dropped = true;
	if (class_id != RelationRelationId || sub_id != 0)
		return;
	switch (access)
	{
		case OAT_DROP:
			if (get_rel_relkind(object_id) == RELKIND_RELATION && nb_log_name_of(object_id) &&
				get_rel_namespace(object_id) == catalog_namespace())
			{
				catalog_forget_log(object_id);
				ddl_in_xact = true;
			}
			break;
		case OAT_POST_ALTER:
			if (get_rel_relkind(object_id) != RELKIND_RELATION ||
				get_rel_namespace(object_id) != catalog_namespace())
				break;
			check_renamed_table(object_id);
			break;
		default:
			break;
	}
}

/*
 * At the end of a transaction: if it created or dropped a log the worker reaps,
 * and pins of readers that an error has left behind go.  Before the commit of
 * DROP DATABASE we reap ourselves: there may be no worker left to do it.
 */
static void
log_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT && database_dropped)
		registry_reap(false); /* its files are gone already: no way back */
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	database_dropped = false;
	if (ddl_in_xact)
	{
		ddl_in_xact = false;
		registry_note_change();
		nb_worker_wake(MyDatabaseId);
	}
	if (nb_log_pins > 0)
	{
		HASH_SEQ_STATUS status;
		NbLog *log;

		hash_seq_init(&status, logs);
		while ((log = hash_seq_search(&status)) != NULL)
			log->pins = 0;
		nb_log_pins = 0;
	}
}

void
nb_log_call_worker(NbLog *log, uint32 bits)
{
	uint32 former = pg_atomic_fetch_or_u32(&log->shared->attention, bits);

	if ((bits & LOG_URGENT) || !(former & LOG_TIMER))
		nb_worker_wake(log->shared->database);
}

void
nb_log_notice_events(NbLog *log, int shard)
{
	Ring *ring = log_ring(log->shared, shard);
	uint32 bits = LOG_WORK;

	if (pg_atomic_read_u64(&ring->stable_pos) - pg_atomic_read_u64(&ring->persisted_pos) >
			ring->size / 4 ||
		(log->options.flush_events > 0 &&
		 pg_atomic_read_u64(&ring->stable_seq) - pg_atomic_read_u64(&ring->persisted_seq) >=
			 log->options.flush_events))
		bits |= LOG_URGENT;
	nb_log_notice(log, bits);
}

void
nb_redex_init(void)
{

	prev_object_access_hook = object_access_hook;
	object_access_hook = log_object_access;
	/* Called in reverse: outcomes need the pins that this one drops. */
	RegisterXactCallback(log_xact_callback, NULL);
	outcome_init();
	nb_keeper_init();
	nb_stats_add("log", log_stats_reset);
}
