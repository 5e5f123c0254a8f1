/*-------------------------------------------------------------------------
 *
 * ddl.c
 *		Creating, altering, dropping and listing logs from SQL.
 *
 * A log named x is a table netbus.log_x of type netbus.frame (so that DROP
 * EXTENSION ... CASCADE takes it along and its columns cannot be changed), with
 * a primary key, a trigger that refuses direct writes, and a sequence that the
 * table owns.  The schema belongs to the extension's owner, and nobody needs
 * CREATE on it: these functions act as the bootstrap superuser for as long as
 * the statements run, then give the table to the caller.
 *
 * A log with retention has segments: LOG_SEGMENTS tables that inherit from its
 * table and hold its frames in its place, so that the oldest can go by TRUNCATE.
 * They are made with the first retention and stay from then on.  Everything
 * that makes the log's table what it is holds for them: key, guard, owner,
 * storage.  They depend on it as its index does, so that whatever drops the
 * table drops them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/redex_internal.h"
#include "redex/store.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/tablecmds.h"
#include "commands/tablecmds.h"
#include "commands/tablespace.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* What the tables of frames are made with: a frame of a durable log fills a page. */
#define TABLE_OPTIONS "WITH (toast_tuple_target = 8160, vacuum_truncate = off)"

#define CREATE_FIRST_OPTION 4  /* argument of create_log() */
#define CREATE_OLD_NARGS    7  /* of the one in version 0.1.0, before ALTER EXTENSION UPDATE */
#define STAT_COLUMNS        24 /* of stat_log */

bool ddl_guard_lifted = false;

/* The incarnations that a transaction has given to logs whose rows it moved. */
#define MAX_REWRITTEN 8

static TransactionId rewriting_xid = InvalidTransactionId;
static int64 rewritten[MAX_REWRITTEN];
static int nrewritten = 0;

PG_FUNCTION_INFO_V1(netbus_create_log);
PG_FUNCTION_INFO_V1(netbus_alter_log);
PG_FUNCTION_INFO_V1(netbus_drop_log);
PG_FUNCTION_INFO_V1(netbus_guard);
PG_FUNCTION_INFO_V1(netbus_stat_log);

/* Text argument as a C string; NULL for a null that is allowed. */
static char *
text_arg(FunctionCallInfo fcinfo, int n, const char *name, bool null_allowed)
{
	if (!PG_ARGISNULL(n))
		return text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (!null_allowed)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" must not be null", name)));
	return NULL;
}

/* Run a utility statement through SPI. */
static void execute(const char *format, ...) pg_attribute_printf(1, 2);

static void
execute(const char *format, ...)
{
	StringInfoData sql;
	int result;

	initStringInfo(&sql);
	for (;;)
	{
		va_list args;
		int needed;

		va_start(args, format);
		needed = appendStringInfoVA(&sql, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&sql, needed);
	}
	result = SPI_execute(sql.data, false, 0);
	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", sql.data, SPI_result_code_string(result));
	pfree(sql.data);
}

/* Error: called through SQL objects of a version that cannot do that. */
void
nb_outdated_extension(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("extension \"%s\" is of an older version than its library", NB_EXTENSION),
			 errhint("Run ALTER EXTENSION %s UPDATE.", NB_EXTENSION)));
}

static void
check_owner(Oid relid, const char *name)
{
	if (!nb_owns_table(relid, GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of log \"%s\"", name)));
}

/* What all of these functions refuse: a standby, a read-only transaction, and index or view code. */
void
nb_check_may_change(const char *function)
{
	nb_require_preload();
	PreventCommandIfReadOnly(function);
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot execute %s within a security-restricted operation", function)));
}

/* Lock the table of a log that the current user owns; error otherwise. */
static Oid
open_owned_log(const char *name, LOCKMODE lockmode, bool missing_ok)
{
	char table[NAMEDATALEN];
	Oid relid = InvalidOid;
	LogOptions options;

	nb_require_preload();
	if (nb_log_name_valid(name))
	{
		snprintf(table, sizeof(table), LOG_TABLE_PREFIX "%s", name);
		relid = catalog_relation(table);
	}
	while (OidIsValid(relid))
	{
		Oid locked = relid;

		check_owner(relid, name);
		LockRelationOid(locked, lockmode);

		/* Dropped or renamed while we waited?  Then look again. */
		relid = catalog_relation(table);
		if (relid == locked)
		{
			check_owner(relid, name);
			break;
		}
		UnlockRelationOid(locked, lockmode);
	}
	if (OidIsValid(relid) && catalog_get_log(relid, &options))
		return relid;
	if (!missing_ok)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("log \"%s\" does not exist", name),
				 errhint("The view netbus.logs lists the logs there are.")));
	ereport(NOTICE, (errmsg("log \"%s\" does not exist, skipping", name)));
	return InvalidOid;
}

static Oid
owner_of(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* "TABLESPACE x" of a relation, after that prefix; nothing for the database's own. */
static char *
tablespace_clause(const char *prefix, Oid relid)
{
	Oid tablespace = get_rel_tablespace(relid);

	if (!OidIsValid(tablespace))
		return "";
	return psprintf("%sTABLESPACE %s", prefix, quote_identifier(get_tablespace_name(tablespace)));
}

static void
create_guard(const char *table)
{
	execute("CREATE TRIGGER netbus_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE"
			" ON netbus.%s FOR EACH STATEMENT EXECUTE FUNCTION netbus.guard()",
			table);
}

/* Make the segments of a log that has none.  As superuser, within SPI.  Returns the first. */
static const char *
create_segments(Oid relid, const char *name)
{
	Oid nsp = catalog_namespace();
	const char *owner = quote_identifier(GetUserNameFromId(owner_of(relid), false));
	char *tablespace = tablespace_clause(" ", relid);
	char *index_tablespace;
	char *first = NULL;
	Relation rel = table_open(relid, NoLock);

	index_tablespace = tablespace_clause(" USING INDEX ", nb_primary_key(rel));
	table_close(rel, NoLock);
	for (int i = 1; i <= LOG_SEGMENTS; i++)
	{
		char *segment = ChooseRelationName(psprintf("segment_%d", i), NULL, name, nsp, false);
		char *pkey = ChooseRelationName(psprintf("pkey_%d", i), NULL, name, nsp, true);

		execute("CREATE TABLE netbus.%s (CONSTRAINT %s PRIMARY KEY (shard, base_seq)%s)"
				" INHERITS (netbus.log_%s) " TABLE_OPTIONS "%s",
				segment, pkey, index_tablespace, name, tablespace);
		execute("ALTER TABLE netbus.%s ALTER frame SET STORAGE EXTERNAL", segment);
		create_guard(segment);
		execute("ALTER TABLE netbus.%s OWNER TO %s", segment, owner);
		if (!first)
			first = segment;
	}
	catalog_own_segments(relid);
	return first;
}

/*
 * Has this transaction moved the rows of the log that has this incarnation?
 * Others have its former rings until the commit, and after a rollback again.
 */
static bool
rewritten_here(int64 incarnation)
{
	if (nrewritten == 0 || rewriting_xid != GetTopTransactionIdIfAny())
		return false;
	for (int i = 0; i < nrewritten; i++)
		if (rewritten[i] == incarnation)
			return true;
	return false;
}

void
ddl_check_rewritten(const char *name, int64 incarnation)
{
	if (rewritten_here(incarnation))
		ereport(
			ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg(
				 "cannot use log \"%s\" in the transaction that has given it its first retention",
				 name),
			 errhint("Commit first.")));
}

/* Before rows are moved: nothing of this transaction may be on its way to where they were. */
static void
check_may_rewrite(Oid relid, const char *name)
{
	NbLog *log = log_by_relid(relid);
	Relation rel;

	if (IsSubTransaction())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot give log \"%s\" its first retention behind a savepoint", name),
				 errdetail("A block with EXCEPTION in PL/pgSQL is one, too.")));
	rel = table_open(relid, NoLock);
	CheckTableNotInUse(rel, "netbus.alter_log()");
	table_close(rel, NoLock);
	if (log && log->pins > 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot give log \"%s\" its first retention in a transaction that uses the log",
					name),
			 errhint("Commit, or close what reads it, first.")));
	if (rewriting_xid != GetTopTransactionId())
	{
		rewriting_xid = GetTopTransactionId();
		nrewritten = 0;
	}
	if (nrewritten == MAX_REWRITTEN)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("cannot give more than %d logs their first retention in one transaction",
						MAX_REWRITTEN)));
}

/*
 * Move the rows of a log into its first segment.  Without SQL: planning a
 * statement over somebody's table may run code of his.
 */
static void
move_rows(Oid relid, const char *segment)
{
	store_move(relid, catalog_relation(segment));
	if (!store_truncate(relid))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("an index of table \"%s\" is in use", get_rel_name(relid)),
						errhint("Try again.")));
}

/* Write the row of a log.  The options that are given, in the order of log_options, may be less than all. */
static void
insert_log(const char *name, const LogOptions *options, const NullableDatum *values, int nvalues)
{
	StringInfoData columns;
	StringInfoData parameters;
	Oid types[LOG_OPTIONS];
	Datum data[LOG_OPTIONS];
	char nulls[LOG_OPTIONS];

	initStringInfo(&columns);
	initStringInfo(&parameters);
	for (int i = 0; i < nvalues; i++)
	{
		appendStringInfo(&columns, ", %s", log_options[i].column);
		appendStringInfo(&parameters, ", $%d", i + 1);
		types[i] = log_options[i].stored;
		data[i] = values[i].value;
		nulls[i] = values[i].isnull ? 'n' : ' ';
	}
	if (SPI_execute_with_args(
			psprintf(
				"INSERT INTO netbus.catalog_log (log, shards, durability, format, incarnation%s)"
				" VALUES ('netbus.log_%s', %d, '%s', '%s', " INT64_FORMAT "%s)",
				columns.data, name, options->shards, durability_name(options->durability),
				format_name(options->format), options->incarnation, parameters.data),
			nvalues, types, data, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not store the options of log \"%s\"", name);
}

static void
update_log(const char *name, const char *column, Oid type, NullableDatum value)
{
	if (SPI_execute_with_args(psprintf("UPDATE netbus.catalog_log SET %s = $1"
									   " WHERE log = 'netbus.log_%s'::pg_catalog.regclass",
									   column, name),
							  1, &type, &value.value, value.isnull ? "n" : " ", false,
							  0) != SPI_OK_UPDATE)
		elog(ERROR, "could not store option \"%s\" of log \"%s\"", column, name);
}

/* The part of create_log() that runs as the bootstrap superuser. */
static void
create_log_objects(const char *name, const LogOptions *options, const NullableDatum *values,
				   int nvalues, const char *owner)
{
	Oid nsp = catalog_namespace();
	char *table = psprintf(LOG_TABLE_PREFIX "%s", name);
	char *pkey = ChooseRelationName("pkey", NULL, name, nsp, true);
	char *bound = ChooseRelationName("bound", NULL, name, nsp, false);

	SPI_connect();
	execute("CREATE TABLE netbus.%s OF netbus.frame ("
			" base_seq WITH OPTIONS NOT NULL, shard WITH OPTIONS NOT NULL,"
			" events WITH OPTIONS NOT NULL, frame WITH OPTIONS NOT NULL,"
			" CONSTRAINT %s PRIMARY KEY (shard, base_seq)) " TABLE_OPTIONS,
			table, quote_identifier(pkey));
	execute("ALTER TABLE netbus.%s ALTER frame SET STORAGE EXTERNAL", table);
	create_guard(table);
	/* Its value tells the timeline from the beginning: see catalog.c. */
	execute("CREATE SEQUENCE netbus.%s MINVALUE 0 START %u OWNED BY netbus.%s.base_seq",
			quote_identifier(bound), GetWALInsertionTimeLine(), table);
	execute("ALTER TABLE netbus.%s OWNER TO %s", table, quote_identifier(owner));
	/* Against accidents: only netbus moves it. */
	execute("REVOKE ALL ON SEQUENCE netbus.%s FROM %s", quote_identifier(bound),
			quote_identifier(owner));
	insert_log(name, options, values, nvalues);
	if (log_has_retention(options))
		create_segments(catalog_relation(table), name);
	SPI_finish();
}

/* What begin_as_superuser() changes and end_as_superuser() restores; errors restore it, too. */
typedef struct SavedUser
{
	Oid user;
	int context;
	int guc_level;
} SavedUser;

/*
 * Run the statements between these two as the bootstrap superuser, with a
 * search path on which nobody else can put an operator, and without what else
 * the caller has set that a CREATE TABLE heeds.
 */
static void
begin_as_superuser(SavedUser *saved)
{
	static const char *const settings[][2] = {{"search_path", "pg_catalog, pg_temp"},
											  {"default_tablespace", ""},
											  {"default_table_access_method", "heap"}};

	GetUserIdAndSecContext(&saved->user, &saved->context);
	saved->guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, saved->context | SECURITY_LOCAL_USERID_CHANGE);
	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}

static void
end_as_superuser(const SavedUser *saved)
{
	AtEOXact_GUC(false, saved->guc_level);
	SetUserIdAndSecContext(saved->user, saved->context);
}

/*
 * create_log(log, shards, durability, format, options in the order of log_options, if_not_exists) -> created
 */
Datum
netbus_create_log(PG_FUNCTION_ARGS)
{
	char *name = text_arg(fcinfo, 0, "log", false);
	int last = PG_NARGS() - 1;
	bool if_not_exists = !PG_ARGISNULL(last) && PG_GETARG_BOOL(last);
	int nvalues = last - CREATE_FIRST_OPTION;
	NullableDatum values[LOG_OPTIONS];
	char table[NAMEDATALEN];
	LogOptions options;
	SavedUser saved;

	nb_check_may_change("netbus.create_log()");
	if (!nb_log_name_valid(name))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_NAME), errmsg("invalid log name: \"%s\"", name),
			 errhint(
				 "Use at most %d characters: a lower-case letter, then lower-case letters, digits and underscores.",
				 LOG_MAX_NAME)));

	memset(&options, 0, sizeof(options));
	if (PG_ARGISNULL(1) || PG_GETARG_INT32(1) < 1 || PG_GETARG_INT32(1) > LOG_MAX_SHARDS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						PG_ARGISNULL(1)
							? errmsg("argument \"shards\" must not be null")
							: errmsg("invalid value for option \"shards\": %d", PG_GETARG_INT32(1)),
						errhint("Valid values are 1 to %d.", LOG_MAX_SHARDS)));
	options.shards = PG_GETARG_INT32(1);
	options.durability = option_durability(text_arg(fcinfo, 2, "durability", false));
	options.format = option_format(text_arg(fcinfo, 3, "format", false));
	if (PG_NARGS() == CREATE_OLD_NARGS && options.durability != LOG_MEMORY)
		nb_outdated_extension();
	options.sample_rate = LOG_NO_SAMPLE_RATE;
	options.flush_interval = LOG_FLUSH_INTERVAL;
	for (int i = 0; i < nvalues; i++)
		values[i] = option_set(&options, &log_options[i], fcinfo->args[CREATE_FIRST_OPTION + i]);
	options_check(&options, NULL);
	options.incarnation = nb_now_us();

	/* Whoever creates a log of the same name waits for us, to learn whether it exists. */
	LockDatabaseObject(nb_catalog_table("catalog_log"),
					   hash_bytes((unsigned char *) name, strlen(name)), 0, ExclusiveLock);

	snprintf(table, sizeof(table), LOG_TABLE_PREFIX "%s", name);
	if (OidIsValid(catalog_relation(table)))
	{
		LogOptions existing;

		if (!catalog_get_log(catalog_relation(table), &existing))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_TABLE),
					 errmsg("relation \"%s.%s\" exists but is not a log", NB_SCHEMA, table),
					 errhint("Drop it first, for instance if it was restored without its data.")));
		if (!if_not_exists)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("log \"%s\" already exists", name)));
		ereport(NOTICE, (errmsg("log \"%s\" already exists, skipping", name)));
		PG_RETURN_BOOL(false);
	}

	begin_as_superuser(&saved);
	create_log_objects(name, &options, values, nvalues, GetUserNameFromId(saved.user, false));
	end_as_superuser(&saved);

	/* Make the rings at once, so that a lack of shared memory shows here. */
	nb_log_open(name, AccessShareLock, ACL_SELECT);
	PG_RETURN_BOOL(true);
}

static const LogOption *
find_option(const char *name)
{
	const LogOption *option = option_by_name(name);
	StringInfoData list;

	if (option)
		return option;
	initStringInfo(&list);
	for (int i = 0; i < LOG_OPTIONS; i++)
		appendStringInfo(&list, "%s\"%s\"", i == 0 ? "" : ", ", log_options[i].name);
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("option \"%s\" of a log cannot be altered or does not exist", name),
					errhint("Options that can be altered are %s.", list.data)));
}

/*
 * The lock to alter an option with.  The first retention makes segments and
 * moves rows; it takes the strong lock at once, for a weaker one could not be
 * raised without the risk of a deadlock.
 */
static LOCKMODE
lock_to_alter(const char *name, const LogOption *option, bool unset)
{
	Oid segments[LOG_SEGMENTS];
	Oid relid;

	if (unset || strncmp(option->name, "retention_", strlen("retention_")) != 0)
		return ShareUpdateExclusiveLock;
	relid = nb_log_name_valid(name) ? catalog_relation(psprintf(LOG_TABLE_PREFIX "%s", name))
									: InvalidOid;
	return OidIsValid(relid) && catalog_segments(relid, segments) == 0 ? AccessExclusiveLock
																	   : ShareUpdateExclusiveLock;
}

/* alter_log(log, option, value) -> true */
Datum
netbus_alter_log(PG_FUNCTION_ARGS)
{
	char *name = text_arg(fcinfo, 0, "log", false);
	const LogOption *option = find_option(text_arg(fcinfo, 1, "option", false));
	char *text = text_arg(fcinfo, 2, "value", true);
	NullableDatum value;
	Oid relid;
	LogOptions options;
	SavedUser saved;
	Oid segments[LOG_SEGMENTS];
	bool add_segments;

	nb_check_may_change("netbus.alter_log()");
	relid = open_owned_log(name, lock_to_alter(name, option, text == NULL), false);
	catalog_get_log(relid, &options);
	if (get_attnum(nb_catalog_table("catalog_log"), option->column) == InvalidAttrNumber)
		nb_outdated_extension();
	value = option_set(&options, option, option_parse(option, text));
	options_check(&options, option);
	if (log_has_retention(&options) && nb_log_cut_hook)
		nb_log_cut_hook(relid, name);

	add_segments = log_has_retention(&options) && catalog_segments(relid, segments) == 0;
	if (add_segments)
	{
		LockRelationOid(relid, AccessExclusiveLock); /* they may have gone meanwhile */
		check_may_rewrite(relid, name);
		/* Nothing of the owner's making may run when a superuser moves the rows. */
		catalog_check_table(relid, name, false);
	}

	begin_as_superuser(&saved);
	if (add_segments)
		log_prepare_rewrite(relid);
	SPI_connect();
	update_log(name, option->column, option->stored, value);
	if (add_segments)
	{
		int64 incarnation = nb_now_us();
		NullableDatum stored = {Int64GetDatum(incarnation), false};

		move_rows(relid, create_segments(relid, name));
		/* The rings have to be made anew: what they know of rows has changed. */
		rewritten[nrewritten++] = incarnation;
		update_log(name, "incarnation", INT8OID, stored);
	}
	SPI_finish();
	end_as_superuser(&saved);

	CacheInvalidateRelcacheByRelid(relid);
	log_note_ddl(); /* retention may have something to do now */
	PG_RETURN_BOOL(true);
}

void
ddl_follow_owner(Oid relid, Oid owner)
{
	List *segments = find_inheritance_children(relid, NoLock);
	ListCell *lc;

	if (list_length(segments) == LOG_SEGMENTS)
		foreach(lc, segments)
			if (owner_of(lfirst_oid(lc)) != owner)
				ATExecChangeOwner(lfirst_oid(lc), owner, true, AccessExclusiveLock);
	list_free(segments);
}

/* drop_log(log, if_exists) -> dropped */
Datum
netbus_drop_log(PG_FUNCTION_ARGS)
{
	char *name = text_arg(fcinfo, 0, "log", false);
	bool if_exists = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	Oid relid;

	nb_check_may_change("netbus.drop_log()");
	relid = open_owned_log(name, AccessExclusiveLock, if_exists);
	if (!OidIsValid(relid))
		PG_RETURN_BOOL(false);
	catalog_own_segments(relid);
	SPI_connect();
	execute("DROP TABLE netbus.log_%s", name);
	SPI_finish();
	PG_RETURN_BOOL(true);
}

/* Statement trigger of every table of frames: only netbus writes there. */
Datum
netbus_guard(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("netbus.guard() can only be called as a trigger")));
	if (ddl_guard_lifted)
		return PointerGetDatum(NULL);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot write to table \"%s\" directly: it holds the frames of a log",
					RelationGetRelationName(data->tg_relation)),
			 errhint("Use netbus.publish() to add events and netbus.drop_log() to drop the log.")));
}

/* One row of stat_log, from a ring; under its lock for as long as a copy takes. */
static void
put_ring_stat(NbLog *log, int shard, void *arg)
{
	ReturnSetInfo *rsinfo = arg;
	Ring *ring = log_ring(log->shared, shard);
	LogDurability durability = log->options.durability;
	Datum values[STAT_COLUMNS];
	bool nulls[STAT_COLUMNS] = {0};
	RingCounters counters;
	RingClaim oldest;
	uint64 next_seq;
	uint64 claim_pos;
	uint64 floor_pos;
	uint64 floor_seq;
	uint64 stable_seq;
	uint64 persisted_seq;
	bool pending;
	int n = 0;

	SpinLockAcquire(&ring->lock);
	counters = ring->counters;
	next_seq = ring->next_seq;
	claim_pos = ring->claim_pos;
	floor_pos = pg_atomic_read_u64(&ring->floor_pos);
	floor_seq = pg_atomic_read_u64(durability == LOG_MEMORY ? &ring->floor_seq : &ring->log_floor);
	stable_seq = pg_atomic_read_u64(&ring->stable_seq);
	persisted_seq = durability == LOG_ASYNC ? pg_atomic_read_u64(&ring->persisted_seq) : stable_seq;
	pending = ring->head >= 0;
	if (pending)
		oldest = ring_claims(ring)[ring->head];
	SpinLockRelease(&ring->lock);

	values[n++] = CStringGetTextDatum(log->name);
	values[n++] = Int32GetDatum(shard);
	values[n++] = Int64GetDatum(next_seq);
	values[n++] = Int64GetDatum(stable_seq);
	nulls[n] = durability == LOG_MEMORY;
	values[n++] = Int64GetDatum(persisted_seq);
	values[n++] = Int64GetDatum(floor_seq);
	values[n++] = Int64GetDatum(counters.offered);
	values[n++] = Int64GetDatum(counters.accepted);
	values[n++] = Int64GetDatum(counters.rejected);
	values[n++] = Int64GetDatum(counters.sampled_out);
	values[n++] = Int64GetDatum(counters.evicted);
	values[n++] = Int64GetDatum(counters.expired);
	values[n++] = Int64GetDatum(counters.aborted);
	values[n++] = Int64GetDatum(counters.retained);
	values[n++] = Int64GetDatum(counters.retained_bytes);
	values[n++] = Int64GetDatum(claim_pos - floor_pos);
	values[n++] = Int64GetDatum(ring->size);
	values[n++] = Int32GetDatum(pg_atomic_read_u32(&ring->blocked));
	values[n++] = Float8GetDatum(counters.blocked_us / 1000.0);
	values[n++] = Int64GetDatum(counters.damaged);
	values[n++] = Int32GetDatum(pg_atomic_read_u32(&log->shared->retention_holds));
	values[n++] = Int64GetDatum(counters.wakeups);
	nulls[n] = !pending;
	values[n++] = Int32GetDatum(pending ? oldest.pid : 0);
	nulls[n] = !pending;
	values[n++] = TimestampTzGetDatum(pending ? NB_EPOCH_TO_TIMESTAMPTZ(oldest.ts) : 0);
	Assert(n == STAT_COLUMNS);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

NbLog *
nb_log_peek(Oid relid)
{
	NbLog *log = NULL;
	LogOptions options;

	/* One that is just being created, dropped or rewritten is left out: a view must not wait. */
	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return NULL;
	if (nrewritten == 0 || !catalog_get_log(relid, &options) ||
		!rewritten_here(options.incarnation))
		log = log_by_relid(relid);
	if (!log)
		UnlockRelationOid(relid, AccessShareLock);
	return log;
}

/* Call visit() for every shard of every log of this database that has rings. */
static void
visit_rings(void (*visit)(NbLog *log, int shard, void *arg), void *arg)
{
	int count;
	RegistryEntry *list = registry_list(&count);

	for (int i = 0; i < count; i++)
	{
		NbLog *log;

		if (list[i].key.database != MyDatabaseId)
			continue;
		log = nb_log_peek(list[i].key.relid);
		if (!log)
			continue;
		for (int shard = 0; shard < log->options.shards; shard++)
			visit(log, shard, arg);
		UnlockRelationOid(list[i].key.relid, AccessShareLock);
	}
}

/* Rows of the view stat_log. */
Datum
netbus_stat_log(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	nb_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	if (rsinfo->setDesc->natts != STAT_COLUMNS)
		nb_outdated_extension();
	visit_rings(put_ring_stat, rsinfo);
	return (Datum) 0;
}

static void
reset_ring(NbLog *log, int shard, void *arg)
{
	ring_reset_counters(log_ring(log->shared, shard));
}

void
log_stats_reset(void)
{
	visit_rings(reset_ring, NULL);
}
