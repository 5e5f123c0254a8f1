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
	if (OidIsValid(relid))
	{
		log = hash_search(logs, &relid, HASH_FIND, NULL);
		if (!log)
			return;
		invalidate(log);
	}
	else
	{
		hash_seq_init(&status, logs);
		while ((log = hash_seq_search(&status)) != NULL)
			invalidate(log);
	}
	nb_log_generation++;
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

static void
create_rings(NbLog *log)
{
	LogOptions *options = &log->options;
	Size rings_off = TYPEALIGN(PG_CACHE_LINE_SIZE, sizeof(LogShared));
	Size stride = ring_shmem_size(options->ring_size);
	uint64 *next_seq = palloc(options->shards * sizeof(uint64));
	RegistryEntry entry;
	ErrorContextCallback context;
	dsm_segment *segment;
	LogShared *shared;
	Relation rel;
	bool inserted;

	catalog_first_seqs(log, next_seq);

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
	pg_atomic_init_u32(&shared->positioned, !RecoveryInProgress());
	pg_atomic_init_u32(&shared->attached, 0);
	for (int i = 0; i < options->shards; i++)
	{
		CHECK_FOR_INTERRUPTS();
		ring_init(log_ring(shared, i), options->ring_size, next_seq[i]);
	}
	pfree(next_seq);

	memset(&entry, 0, sizeof(entry));
	entry.key.database = MyDatabaseId;
	entry.key.relid = log->relid;
	entry.incarnation = options->incarnation;
	entry.handle = dsm_segment_handle(segment);
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
		adopt_segment(log, segment);
	else
	{
		/* Somebody was faster: theirs it is. */
		dsm_unpin_segment(entry.handle);
		dsm_detach(segment);
	}
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
			adopt_segment(log, segment);
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
	bool found;

	nb_require_preload();
	if (!logs)
		log_table_init();
	/* Also those that nobody asks for any more: their memory must go. */
	if (stale_logs)
		forget_dropped_logs();
	log = hash_search(logs, &relid, HASH_FIND, NULL);
	if (log && log->valid)
		return log;

	generation = nb_log_generation;
	name = catalog_log_name(relid);
	if (!name || !catalog_get_log(relid, &options))
		return NULL;

	log = hash_search(logs, &relid, HASH_ENTER, &found);
	if (!found)
	{
		memset(log, 0, sizeof(NbLog));
		log->relid = relid;
	}
	else if (log->options.incarnation != options.incarnation)
		forget_details(log);
	strlcpy(log->name, name, NAMEDATALEN);
	log->options = options;
	log->bound_relid = catalog_bound_sequence(relid);
	if (!log->shared)
		attach_rings(log);
	log->valid = generation == nb_log_generation; /* else it changed while we looked */
	log->checked = false;
	return log;
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
		catalog_check_table(relid, name);
		if (!OidIsValid(log->bound_relid))
			ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
							errmsg("log \"%s\" has lost the sequence that bounds its seqs", name),
							errhint("Drop the log and create it again.")));
		log->checked = true;
	}
	return log;
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

	LockRelationOid(log->bound_relid, ShareUpdateExclusiveLock);
	if (!pg_atomic_read_u32(&shared->positioned))
	{
		/* The rings were made in recovery, before the timeline was known. */
		uint64 *next_seq = palloc(log->options.shards * sizeof(uint64));

		catalog_first_seqs(log, next_seq);
		for (int i = 0; i < log->options.shards; i++)
		{
			ring_raise_limit(log_ring(shared, i), next_seq[i], 0);
			seq = Max(seq, next_seq[i]);
		}
		pfree(next_seq);
		pg_atomic_write_u32(&shared->positioned, 1);
	}
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

	if (get_rel_namespace(relid) != catalog_namespace() || !catalog_log_name(relid) ||
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
			if (get_rel_relkind(object_id) == RELKIND_RELATION && catalog_log_name(object_id) &&
				get_rel_namespace(object_id) == catalog_namespace())
			{
				catalog_forget_log(object_id);
				ddl_in_xact = true;
			}
			break;
		case OAT_POST_ALTER:
			if (get_rel_relkind(object_id) == RELKIND_RELATION)
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

/* The logs of this database that have rings, opened.  In a transaction. */
static List *
logs_with_rings(void)
{
	List *result = NIL;
	int count;
	RegistryEntry *list = registry_list(&count);

	for (int i = 0; i < count; i++)
	{
		NbLog *log;

		if (list[i].key.database != MyDatabaseId ||
			!ConditionalLockRelationOid(list[i].key.relid, AccessShareLock))
			continue;
		log = log_by_relid(list[i].key.relid);
		if (log)
			result = lappend(result, log);
	}
	return result;
}

static long
log_job_run(void)
{
	StartTransactionCommand();
	/* Whoever drops a log wakes us before his invalidations are sent: believe no cache. */
	InvalidateSystemCaches();
	registry_reap(true);
	CommitTransactionCommand();
	return -1;
}

/* Does any other process have rings of this database mapped? */
static bool
log_job_busy(void)
{
	bool busy = false;
	ListCell *lc;

	StartTransactionCommand();
	foreach(lc, logs_with_rings())
	{
		NbLog *log = lfirst(lc);

		if (pg_atomic_read_u32(&log->shared->attached) > 1)
			busy = true;
	}
	CommitTransactionCommand();
	return busy;
}

/* Save the positions of one log.  What is wrong with it must not cost the others theirs. */
static void
save_positions(Oid relid)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		NbLog *log = NULL;

		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		if (ConditionalLockRelationOid(relid, AccessShareLock))
			log = log_by_relid(relid);
		if (log && OidIsValid(log->bound_relid) && pg_atomic_read_u32(&log->shared->positioned))
			catalog_save_positions(log);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		EmitErrorReport();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
}

static void
log_job_shutdown(void)
{
	int count;
	RegistryEntry *list = registry_list(&count);

	for (int i = 0; i < count; i++)
		if (list[i].key.database == MyDatabaseId)
			save_positions(list[i].key.relid);
}

void
nb_redex_init(void)
{
	static const NbWorkerJob job = {"logs", log_job_run, log_job_busy, log_job_shutdown};

	nb_worker_add_job(&job);
	prev_object_access_hook = object_access_hook;
	object_access_hook = log_object_access;
	RegisterXactCallback(log_xact_callback, NULL);
}
