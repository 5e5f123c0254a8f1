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
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/redex_internal.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
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
#include "utils/timestamp.h"

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

static void
check_owner(Oid relid, const char *name)
{
	if (!pg_class_ownercheck(relid, GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of log \"%s\"", name)));
}

/* What all of these functions refuse: a standby, a read-only transaction, and index or view code. */
static void
check_may_change(const char *function)
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

/* The part of create_log() that runs as the bootstrap superuser. */
static void
create_log_objects(const char *name, const LogOptions *options, const char *backpressure,
				   const char *owner)
{
	Oid nsp = catalog_namespace();
	char *pkey = ChooseRelationName("pkey", NULL, name, nsp, true);
	char *bound = ChooseRelationName("bound", NULL, name, nsp, false);

	SPI_connect();
	execute("CREATE TABLE netbus.log_%s OF netbus.frame ("
			" base_seq WITH OPTIONS NOT NULL, shard WITH OPTIONS NOT NULL,"
			" events WITH OPTIONS NOT NULL, frame WITH OPTIONS NOT NULL,"
			" CONSTRAINT %s PRIMARY KEY (shard, base_seq))"
			" WITH (toast_tuple_target = 8160, vacuum_truncate = off)",
			name, quote_identifier(pkey));
	execute("ALTER TABLE netbus.log_%s ALTER frame SET STORAGE EXTERNAL", name);
	execute("CREATE TRIGGER netbus_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE"
			" ON netbus.log_%s FOR EACH STATEMENT EXECUTE FUNCTION netbus.guard()",
			name);
	/* Its value tells the timeline from the beginning: see catalog.c. */
	execute("CREATE SEQUENCE netbus.%s MINVALUE 0 START %u OWNED BY netbus.log_%s.base_seq",
			quote_identifier(bound), GetWALInsertionTimeLine(), name);
	execute("ALTER TABLE netbus.log_%s OWNER TO %s", name, quote_identifier(owner));
	/* Against accidents: only netbus moves it. */
	execute("REVOKE ALL ON SEQUENCE netbus.%s FROM %s", quote_identifier(bound),
			quote_identifier(owner));
	execute("INSERT INTO netbus.catalog_log"
			" VALUES ('netbus.log_%s', %d, '%s', '%s', " UINT64_FORMAT ", %s, " INT64_FORMAT ")",
			name, options->shards, durability_name(options->durability),
			format_name(options->format), options->ring_size,
			backpressure ? quote_literal_cstr(backpressure) : "NULL", options->incarnation);
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
 * create_log(log, shards, durability, format, ring_size, backpressure, if_not_exists) -> created
 */
Datum
netbus_create_log(PG_FUNCTION_ARGS)
{
	char *name = text_arg(fcinfo, 0, "log", false);
	char *backpressure = text_arg(fcinfo, 5, "backpressure", true);
	bool if_not_exists = !PG_ARGISNULL(6) && PG_GETARG_BOOL(6);
	char table[NAMEDATALEN];
	LogOptions options;
	SavedUser saved;

	check_may_change("netbus.create_log()");
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
	options.ring_size = option_ring_size(text_arg(fcinfo, 4, "ring_size", false));
	options.backpressure = option_backpressure(backpressure, options.durability);
	options.incarnation = nb_now_us();

	/* Whoever creates a log of the same name waits for us, to learn whether it exists. */
	LockDatabaseObject(catalog_table("catalog_log"),
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
	create_log_objects(name, &options, backpressure, GetUserNameFromId(saved.user, false));
	end_as_superuser(&saved);

	/* Make the rings at once, so that a lack of shared memory shows here. */
	nb_log_open(name, AccessShareLock, ACL_SELECT);
	PG_RETURN_BOOL(true);
}

/* alter_log(log, option, value) -> true */
Datum
netbus_alter_log(PG_FUNCTION_ARGS)
{
	char *name = text_arg(fcinfo, 0, "log", false);
	char *option = text_arg(fcinfo, 1, "option", false);
	char *value = text_arg(fcinfo, 2, "value", true);
	Oid relid;
	LogOptions options;
	SavedUser saved;

	check_may_change("netbus.alter_log()");
	relid = open_owned_log(name, ShareUpdateExclusiveLock, false);
	catalog_get_log(relid, &options);

	begin_as_superuser(&saved);
	SPI_connect();
	if (strcmp(option, "ring_size") == 0)
		execute("UPDATE netbus.catalog_log SET ring_size = " UINT64_FORMAT
				" WHERE log = 'netbus.log_%s'::pg_catalog.regclass",
				option_ring_size(value ? value : "4MB"), name);
	else if (strcmp(option, "backpressure") == 0)
	{
		option_backpressure(value, options.durability);
		execute("UPDATE netbus.catalog_log SET backpressure = %s"
				" WHERE log = 'netbus.log_%s'::pg_catalog.regclass",
				value ? quote_literal_cstr(value) : "NULL", name);
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" of a log cannot be altered or does not exist", option),
				 errhint("Options that can be altered are \"ring_size\", \"backpressure\".")));
	SPI_finish();
	end_as_superuser(&saved);

	CacheInvalidateRelcacheByRelid(relid);
	PG_RETURN_BOOL(true);
}

/* drop_log(log, if_exists) -> dropped */
Datum
netbus_drop_log(PG_FUNCTION_ARGS)
{
	char *name = text_arg(fcinfo, 0, "log", false);
	bool if_exists = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	Oid relid;

	check_may_change("netbus.drop_log()");
	relid = open_owned_log(name, AccessExclusiveLock, if_exists);
	if (!OidIsValid(relid))
		PG_RETURN_BOOL(false);
	SPI_connect();
	execute("DROP TABLE netbus.log_%s", name);
	SPI_finish();
	PG_RETURN_BOOL(true);
}

/* Statement trigger of every log's table: only netbus writes there. */
Datum
netbus_guard(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("netbus.guard() can only be called as a trigger")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot write to table \"%s\" directly: it holds the frames of a log",
					RelationGetRelationName(data->tg_relation)),
			 errhint("Use netbus.publish() to add events and netbus.drop_log() to drop the log.")));
}

/* One row of stat_log, from a ring; under its lock for as long as a copy takes. */
static void
put_ring_stat(ReturnSetInfo *rsinfo, NbLog *log, int shard)
{
	Ring *ring = log_ring(log->shared, shard);
	Datum values[17];
	bool nulls[17] = {0};
	RingCounters counters;
	RingClaim oldest;
	uint64 next_seq;
	uint64 claim_pos;
	uint64 floor_pos;
	uint64 floor_seq;
	uint64 stable_seq;
	bool pending;
	int n = 0;

	SpinLockAcquire(&ring->lock);
	counters = ring->counters;
	next_seq = ring->next_seq;
	claim_pos = ring->claim_pos;
	floor_pos = pg_atomic_read_u64(&ring->floor_pos);
	floor_seq = pg_atomic_read_u64(&ring->floor_seq);
	stable_seq = pg_atomic_read_u64(&ring->stable_seq);
	pending = ring->head >= 0;
	if (pending)
		oldest = ring_claims(ring)[ring->head];
	SpinLockRelease(&ring->lock);

	values[n++] = CStringGetTextDatum(log->name);
	values[n++] = Int32GetDatum(shard);
	values[n++] = Int64GetDatum(next_seq);
	values[n++] = Int64GetDatum(stable_seq);
	values[n++] = Int64GetDatum(floor_seq);
	values[n++] = Int64GetDatum(counters.offered);
	values[n++] = Int64GetDatum(counters.accepted);
	values[n++] = Int64GetDatum(counters.rejected);
	values[n++] = Int64GetDatum(counters.evicted);
	values[n++] = Int64GetDatum(counters.aborted);
	values[n++] = Int64GetDatum(counters.retained);
	values[n++] = Int64GetDatum(counters.retained_bytes);
	values[n++] = Int64GetDatum(claim_pos - floor_pos);
	values[n++] = Int64GetDatum(ring->size);
	values[n++] = Int64GetDatum(counters.wakeups);
	if (pending)
	{
		values[n++] = Int32GetDatum(oldest.pid);
		values[n++] = TimestampTzGetDatum(NB_EPOCH_TO_TIMESTAMPTZ(oldest.ts));
	}
	else
	{
		nulls[n++] = true;
		nulls[n++] = true;
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Rows of the view stat_log: every shard of every log that has rings. */
Datum
netbus_stat_log(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int count;
	RegistryEntry *list;

	nb_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	list = registry_list(&count);
	for (int i = 0; i < count; i++)
	{
		NbLog *log;

		if (list[i].key.database != MyDatabaseId)
			continue;
		/* One that is just being created, dropped or rewritten is left out: a view must not wait. */
		if (!ConditionalLockRelationOid(list[i].key.relid, AccessShareLock))
			continue;
		log = log_by_relid(list[i].key.relid);
		for (int shard = 0; log && shard < log->options.shards; shard++)
			put_ring_stat(rsinfo, log, shard);
		UnlockRelationOid(list[i].key.relid, AccessShareLock);
	}
	return (Datum) 0;
}
