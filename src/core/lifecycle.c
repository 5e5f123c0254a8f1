/*-------------------------------------------------------------------------
 *
 * lifecycle.c
 *		What sessions tell the launcher and the workers, by way of hooks.
 *
 * Extension comes or goes. The object access hook sees CREATE EXTENSION netbus
 * and its removal by whatever command (DROP EXTENSION, DROP ... CASCADE, DROP
 * OWNED). Nobody else can see it before it is committed, so it is noted here
 * and told at commit; a rolled-back one is forgotten. The same hook sees new
 * databases, which may be copies of one with the extension, and changes of
 * pg_database, which may allow connections.
 *
 * Commands that need a database for themselves: DROP DATABASE, CREATE DATABASE
 * with a template, ALTER DATABASE ... RENAME and ... SET TABLESPACE fail while
 * any process is connected to it, after waiting for 5 seconds. A worker always
 * is. So before such a command the session puts a hold on the database, asks
 * the worker to step aside and waits until it has; the launcher starts none
 * there as long as the hold exists.
 *
 * A hold lasts until the end of the transaction, because that is how long
 * these commands lock the database. The transaction callbacks run in every
 * case, also when an error or FATAL ends the session; and as kill -9 resets
 * shared memory, no hold can be left behind. ALTER DATABASE ... SET TABLESPACE
 * commits in the middle; a worker started then waits in its start-up for the
 * lock that the command keeps.
 *
 * Only those who may run the command get a hold. The checks are the server's
 * own, done early, so that nobody else can keep a worker from its work.
 *
 * What runs at commit or abort takes one lightweight lock and sets latches. It
 * allocates nothing and raises nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "core/worker_internal.h"

#include <signal.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/indexing.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/*
 * A worker is asked first, then terminated, then left to the command, whose
 * own error says who is in the way.
 */
#define ASIDE_TERMINATE_MS 5000
#define ASIDE_GIVE_UP_MS   10000

/* Of one transaction; more visits become a visit to every database. */
#define MAX_PENDING 8

static object_access_hook_type prev_object_access_hook = NULL;
static ProcessUtility_hook_type prev_process_utility_hook = NULL;

/* What this transaction tells the launcher if it commits. */
static Oid pending_visits[MAX_PENDING];
static int npending_visits = 0;
static bool pending_all = false;

/* The extension has come or gone, in this database. */
static bool extension_created = false;
static bool extension_dropped = false;

/* Databases that this transaction holds; holds beyond the array are not taken. */
static Oid held[MAX_PENDING];
static int nheld = 0;

/* ---------------------------------------------------------------------
 * The extension and pg_database
 * --------------------------------------------------------------------- */

/*
 * Its row is not visible to a normal scan yet right after it was inserted, so
 * look with SnapshotSelf.
 */
static bool
is_netbus(Oid extension)
{
	Relation rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple tuple;
	bool result = false;

	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		result =
			strcmp(NameStr(((Form_pg_extension) GETSTRUCT(tuple))->extname), NB_EXTENSION) == 0;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

static void
visit_at_commit(Oid database)
{
	for (int i = 0; i < npending_visits; i++)
		if (pending_visits[i] == database)
			return;

	if (npending_visits < MAX_PENDING)
		pending_visits[npending_visits++] = database;
	else
		pending_all = true;
}

static void
netbus_object_access(ObjectAccessType access, Oid classid, Oid objectid, int subid, void *arg)
{
	if (prev_object_access_hook)
		prev_object_access_hook(access, classid, objectid, subid, arg);

	if (classid == ExtensionRelationId)
	{
		if (access == OAT_POST_CREATE && is_netbus(objectid))
			extension_created = true;
		else if (access == OAT_DROP && is_netbus(objectid))
			extension_dropped = true;
	}
	else if (classid == DatabaseRelationId &&
			 (access == OAT_POST_CREATE || access == OAT_POST_ALTER))
		visit_at_commit(objectid);
}

/* ---------------------------------------------------------------------
 * Holds
 * --------------------------------------------------------------------- */

static bool
may_create_databases(void)
{
	HeapTuple tuple;
	bool result;

	if (superuser())
		return true;

	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
	ReleaseSysCache(tuple);
	return result;
}

static bool
is_template(Oid database)
{
	HeapTuple tuple;
	bool result;

	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
	ReleaseSysCache(tuple);
	return result;
}

/*
 * The database that the command needs for itself and that its user may use
 * like that, or InvalidOid. Whatever else is wrong with the command is the
 * server's to say.
 */
static Oid
database_to_hold(Node *stmt)
{
	const char *name = NULL;
	bool copy = false;
	Oid database;
	ListCell *lc;

	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			name = ((DropdbStmt *) stmt)->dbname;
			break;

		case T_CreatedbStmt:
			copy = true;
			name = "template1";
			foreach(lc, ((CreatedbStmt *) stmt)->options)
			{
				DefElem *option = lfirst(lc);

				if (strcmp(option->defname, "template") == 0 && option->arg)
					name = defGetString(option);
			}
			break;

		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_DATABASE)
				name = ((RenameStmt *) stmt)->subname;
			break;

		case T_AlterDatabaseStmt:
			foreach(lc, ((AlterDatabaseStmt *) stmt)->options)
				if (strcmp(((DefElem *) lfirst(lc))->defname, "tablespace") == 0)
					name = ((AlterDatabaseStmt *) stmt)->dbname;
			break;

		default:
			break;
	}
	if (name == NULL)
		return InvalidOid;

	database = get_database_oid(name, true);
	if (!OidIsValid(database))
		return InvalidOid;

	if (copy)
	{
		if (!may_create_databases() ||
			!(is_template(database) || nb_owns_database(database, GetUserId())))
			return InvalidOid;
	}
	else if (database == MyDatabaseId || !nb_owns_database(database, GetUserId()))
		return InvalidOid;
	return database;
}

/*
 * Hold the database and ask its worker to step aside. The lock orders this
 * with the launcher, which looks at the holds before it starts a worker, and
 * with a worker that is just starting.
 */
static void
take_hold(Oid database)
{
	NbWorkerSlot *slot;

	LWLockAcquire(nb_workers->lock, LW_EXCLUSIVE);
	if (nheld < lengthof(held) && nb_workers->nholds < nb_workers->max_holds)
	{
		NbHold *hold = &nb_workers->holds[nb_workers->nholds++];

		hold->database = database;
		hold->procno = NB_MY_PROCNO;
		held[nheld++] = database;
	}
	slot = nb_worker_find(database);
	if (slot)
	{
		pg_atomic_fetch_or_u32(&slot->requests, NB_REQUEST_STEP_ASIDE);
		if (slot->pid != 0)
			SetLatch(&ProcGlobal->allProcs[pg_atomic_read_u32(&slot->procno)].procLatch);
	}
	LWLockRelease(nb_workers->lock);
}

static void
release_holds(void)
{
	for (int i = 0; i < nheld; i++)
	{
		LWLockAcquire(nb_workers->lock, LW_EXCLUSIVE);
		for (int j = 0; j < nb_workers->nholds; j++)
		{
			NbHold *hold = &nb_workers->holds[j];

			if (hold->database == held[i] && hold->procno == NB_MY_PROCNO)
			{
				*hold = nb_workers->holds[--nb_workers->nholds];
				break;
			}
		}
		LWLockRelease(nb_workers->lock);

		nb_launcher_visit(held[i]);
	}
	nheld = 0;
}

static void
wait_until_aside(Oid database)
{
	int64 begin = nb_monotonic_ms();
	bool terminated = false;

	ConditionVariablePrepareToSleep(&nb_workers->left);
	for (;;)
	{
		int64 elapsed = nb_monotonic_ms() - begin;
		NbWorkerSlot *slot;
		bool there;

		LWLockAcquire(nb_workers->lock, LW_SHARED);
		slot = nb_worker_find(database);
		there = slot && (slot->pid != 0 || slot->state == NB_SLOT_STARTING);
		if (there && slot->pid != 0 && elapsed >= ASIDE_TERMINATE_MS && !terminated)
		{
			/* Busy, or behind a lock. Holding ours, we know that it still exists. */
			kill(slot->pid, SIGTERM);
			terminated = true;
		}
		LWLockRelease(nb_workers->lock);

		if (!there || elapsed >= ASIDE_GIVE_UP_MS)
			break;
		(void) ConditionVariableTimedSleep(&nb_workers->left, 100, WAIT_EVENT_BGWORKER_SHUTDOWN);
	}
	ConditionVariableCancelSleep();
}

static void
netbus_process_utility(PlannedStmt *pstmt, const char *query, bool read_only,
					   ProcessUtilityContext context, ParamListInfo params,
					   QueryEnvironment *environment, DestReceiver *dest,
					   QueryCompletion *completion)
{
	Oid database = database_to_hold(pstmt->utilityStmt);

	if (OidIsValid(database))
	{
		take_hold(database);
		wait_until_aside(database);
	}

	if (prev_process_utility_hook)
		prev_process_utility_hook(pstmt, query, read_only, context, params, environment, dest,
								  completion);
	else
		standard_ProcessUtility(pstmt, query, read_only, context, params, environment, dest,
								completion);
}

/* ---------------------------------------------------------------------
 * The end of the transaction
 * --------------------------------------------------------------------- */

/* The worker of this database, if there is one, shall see whether it has to go. */
static void
ask_to_look(void)
{
	NbWorkerSlot *slot;

	LWLockAcquire(nb_workers->lock, LW_SHARED);
	slot = nb_worker_find(MyDatabaseId);
	if (slot)
	{
		pg_atomic_fetch_or_u32(&slot->requests, NB_REQUEST_LOOK);
		if (slot->pid != 0)
			SetLatch(&ProcGlobal->allProcs[pg_atomic_read_u32(&slot->procno)].procLatch);
	}
	LWLockRelease(nb_workers->lock);
}

static void
netbus_lifecycle_xact(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			/* COMMIT PREPARED would not tell us. */
			if (extension_created || extension_dropped)
				ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
								errmsg("cannot PREPARE a transaction that has created or dropped "
									   "extension \"%s\"",
									   NB_EXTENSION)));
			return;

		case XACT_EVENT_COMMIT:
			if (extension_dropped)
				ask_to_look();
			if (extension_created)
				nb_launcher_visit(MyDatabaseId);
			for (int i = 0; i < npending_visits; i++)
				nb_launcher_visit(pending_visits[i]);
			if (pending_all)
				nb_launcher_visit(InvalidOid);
			break;

		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			break;

		default:
			return;
	}

	extension_created = extension_dropped = false;
	npending_visits = 0;
	pending_all = false;
	release_holds();
}

void
nb_lifecycle_init(void)
{
	prev_object_access_hook = object_access_hook;
	object_access_hook = netbus_object_access;
	prev_process_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = netbus_process_utility;
	RegisterXactCallback(netbus_lifecycle_xact, NULL);
}
