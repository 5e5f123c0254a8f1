/*-------------------------------------------------------------------------
 *
 * watch_ddl.c
 *		Making and dropping watches from SQL.
 *
 * All of it is part of the transaction: a row that is inserted, changed or deleted.  The
 * commit calls the worker, which reads the rows before it folds what is committed
 * later.  That is why an own callback comes before that of src/bus, which makes
 * events visible: the last one that is registered is the first one called.
 *
 * An application makes its watches whenever it starts, so the same one again is
 * the one that is there; only its debounce and payload may be new.
 *
 * A row goes with its log, however that is dropped.  Rows that come in other ways than
 * through here, as when a dump is restored, are noticed by a trigger.
 *
 * Locks: the log's table as a reader has it; on a watch, one for whoever changes it or
 * makes one like it (an object lock).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "watch/watch.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "datatype/timestamp.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/scansup.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "bus/reader.h"

#define MAX_DEBOUNCE_US ((int64) 24 * 3600 * USECS_PER_SEC)

PG_FUNCTION_INFO_V1(netbus_watch_memories);
PG_FUNCTION_INFO_V1(netbus_watch_tasks);
PG_FUNCTION_INFO_V1(netbus_watch_log);
PG_FUNCTION_INFO_V1(netbus_unwatch);
PG_FUNCTION_INFO_V1(netbus_watch_changed);

static bool ddl_in_xact = false;
static object_access_hook_type prev_object_access_hook = NULL;

/* -------------------------------------------------------------- arguments */

static void
bad_channel(const char *text, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_NAME), errmsg("invalid channel name: \"%s\"", text),
			 errdetail_internal("%s", detail),
			 errhint("Write it as in LISTEN: letters, digits and underscores, or in double quotes, "
					 "such as '\"my-channel\"'.")));
}

/* A channel as LISTEN takes it: an identifier, folded to lower case unless it is quoted. */
static void
parse_channel(const char *text, char *channel)
{
	int len = strlen(text);
	char *name = palloc(len + 1);
	int n = 0;

	if (text[0] == '"')
	{
		for (int i = 1; i < len - 1; i++)
		{
			if (text[i] == '"' && (text[++i] != '"' || i == len - 1))
				bad_channel(text, "A double quote within the name must be doubled.");
			name[n++] = text[i];
		}
		if (len < 2 || text[len - 1] != '"')
			bad_channel(text, "The closing double quote is missing.");
		name[n] = '\0';
	}
	else
	{
		for (int i = 0; i < len; i++)
		{
			unsigned char c = text[i];
			bool letter =
				(c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || IS_HIGHBIT_SET(c);

			if (!letter && (i == 0 || ((c < '0' || c > '9') && c != '$')))
				bad_channel(text, "It is not an identifier.");
		}
		name = downcase_identifier(text, len, false, false);
		n = strlen(name);
	}
	if (n == 0)
		bad_channel(text, "It is empty.");
	if (n >= NAMEDATALEN)
		bad_channel(text, psprintf("It has %d bytes, at most %d are allowed.", n, NAMEDATALEN - 1));
	strlcpy(channel, name, NAMEDATALEN);
}

static int64
debounce_arg(FunctionCallInfo fcinfo, int n)
{
	Interval *interval;
	double us;

	if (PG_ARGISNULL(n))
		arg_null("debounce");
	interval = PG_GETARG_INTERVAL_P(n);
	us = (double) interval->time +
		 ((double) interval->day + (double) interval->month * DAYS_PER_MONTH) * USECS_PER_DAY;
	if (us < 0 || us > MAX_DEBOUNCE_US)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("debounce must be from 0 to 1 day")));
	return (int64) us;
}

static bool
payload_arg(FunctionCallInfo fcinfo, int n)
{
	char *payload;

	if (PG_ARGISNULL(n))
		arg_null("payload");
	payload = text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (strcmp(payload, "ids") != 0 && strcmp(payload, "none") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid payload: \"%s\"", payload),
						errhint("Valid values are \"ids\", \"none\".")));
	return strcmp(payload, "ids") == 0;
}

static void
check_may_change(const char *function)
{
	nb_check_may_change(function);
	PreventCommandIfParallelMode(function);
}

/* ----------------------------------------------------------------- making */

static void
check_limit(Oid owner)
{
	int count = watch_catalog_count(owner);

	if (count >= watch_max_per_role)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("role \"%s\" has too many watches", GetUserNameFromId(owner, false)),
				 errdetail("It has %d, and netbus.max_watches_per_role is %d.", count,
						   watch_max_per_role),
				 errhint("Drop some with netbus.unwatch(); the view netbus.watches lists them.")));
}

/* The watch that a row describes so far: the one there is, or a new one. */
static int64
make(WatchRow *row, NbLog *log)
{
	WatchRow known;
	int64 id;

	row->owner = GetUserId();
	row->log = log->relid;
	if (row->filter && VARSIZE(row->filter) > WATCH_MAX_FILTER)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("filter of a watch is too long"),
				 errdetail("It has %u bytes, at most %d are allowed.", VARSIZE(row->filter),
						   WATCH_MAX_FILTER)));
	/* Others of this role wait: the limit is theirs, too. */
	watch_catalog_lock(WATCH_LOCK_OWNER, row->owner);
	id = watch_catalog_find(row);
	if (id != 0)
		watch_catalog_lock(WATCH_LOCK_ID, id);
	/* It may have been dropped while we waited. */
	if (id != 0 && watch_catalog_get(id, &known))
	{
		if (known.debounce != row->debounce || known.ids != row->ids)
		{
			known.debounce = row->debounce;
			known.ids = row->ids;
			watch_catalog_update(&known);
			ddl_in_xact = true;
		}
		return id;
	}
	check_limit(row->owner);
	row->created = GetCurrentTimestamp();
	row->nstarts = log->options.shards;
	row->starts = palloc(sizeof(uint64) * row->nstarts);
	for (int i = 0; i < row->nstarts; i++)
		row->starts[i] = reader_head(log, i);
	watch_catalog_insert(row);
	ddl_in_xact = true;
	return row->id;
}

/* The model to be watched.  A default model that is not there yet is made, for whoever may write. */
static Model *
open_model(const ModelKind *kind, text *name)
{
	Model *model = model_open(kind, name, ACL_SELECT);

	if (model)
		return model;
	if (!has_privs_of_role(GetUserId(), get_role_oid("netbus_writer", false)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model \"%s\" of %s does not exist", text_to_cstring(name), kind->name),
				 errhint("It comes into being with the first %s, or when a role watches it that "
						 "has the rights of netbus_writer.",
						 kind->record)));
	(void) model_open(kind, name, ACL_INSERT);
	return model_open(kind, name, ACL_SELECT);
}

/* watch_memories and watch_tasks(channel, filters..., debounce, payload, model) -> id */
static Datum
watch_model(FunctionCallInfo fcinfo, const ModelKind *kind, const char *function)
{
	LOCAL_FCINFO(filters, MODEL_MAX_FILTERS + MODEL_TIME_FILTERS);
	int nfilters = kind->nfilters + MODEL_TIME_FILTERS;
	int next = 1 + nfilters;
	WatchRow row = {.kind = model_kind_index(kind->name)};
	RecordFilter filter;
	Model *model;

	check_may_change(function);
	if (!PG_ARGISNULL(0))
		parse_channel(text_to_cstring(PG_GETARG_TEXT_PP(0)), row.channel);
	InitFunctionCallInfoData(*filters, NULL, nfilters, InvalidOid, NULL, NULL);
	for (int i = 0; i < nfilters; i++)
		filters->args[i] = fcinfo->args[1 + i];
	query_filter(filters, kind, &filter); /* says what is wrong */
	row.filter = watch_args_encode(filters, kind);
	row.debounce = debounce_arg(fcinfo, next);
	row.ids = payload_arg(fcinfo, next + 1);
	if (PG_ARGISNULL(next + 2))
		arg_null("model");
	model = open_model(kind, PG_GETARG_TEXT_PP(next + 2));
	PG_RETURN_INT64(make(&row, model->log));
}

Datum
netbus_watch_memories(PG_FUNCTION_ARGS)
{
	return watch_model(fcinfo, &memories_kind, "netbus.watch_memories()");
}

Datum
netbus_watch_tasks(PG_FUNCTION_ARGS)
{
	return watch_model(fcinfo, &tasks_kind, "netbus.watch_tasks()");
}

/* watch_log(log, channel, filter, debounce) -> id */
Datum
netbus_watch_log(PG_FUNCTION_ARGS)
{
	WatchRow row = {.kind = WATCH_LOG, .ids = true};
	NbLog *log;

	check_may_change("netbus.watch_log()");
	if (PG_ARGISNULL(0))
		arg_null("log");
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"channel\" must not be null"),
				 errhint("New events can be waited for with netbus.tail() and netbus.poll().")));
	parse_channel(text_to_cstring(PG_GETARG_TEXT_PP(1)), row.channel);
	if (!PG_ARGISNULL(2))
	{
		row.filter = PG_GETARG_JSONB_P(2);
		(void) filter_compile(row.filter); /* says what is wrong */
	}
	row.debounce = debounce_arg(fcinfo, 3);
	log = nb_log_open(text_to_cstring(PG_GETARG_TEXT_PP(0)), AccessShareLock, ACL_SELECT);
	PG_RETURN_INT64(make(&row, log));
}

/* --------------------------------------------------------------- dropping */

/* unwatch(watch) -> it was there */
Datum
netbus_unwatch(PG_FUNCTION_ARGS)
{
	WatchRow row;
	int64 id;

	check_may_change("netbus.unwatch()");
	if (PG_ARGISNULL(0))
		arg_null("watch");
	id = PG_GETARG_INT64(0);
	if (!watch_catalog_get(id, &row))
		PG_RETURN_BOOL(false);
	/* Whoever drops the log drops the watch, too; and others may drop it. */
	LockRelationOid(row.log, AccessShareLock);
	watch_catalog_lock(WATCH_LOCK_ID, id);
	if (!watch_catalog_get(id, &row))
		PG_RETURN_BOOL(false);
	if (!has_privs_of_role(GetUserId(), row.owner) &&
		!has_privs_of_role(GetUserId(), get_role_oid("netbus_admin", false)))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of watch %lld", (long long) id)));
	watch_catalog_delete(id);
	ddl_in_xact = true;
	PG_RETURN_BOOL(true);
}

/* Trigger: rows have been changed by a statement, as when a dump is restored. */
Datum
netbus_watch_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("netbus.watch_changed() must be called as a trigger")));
	ddl_in_xact = true;
	PG_RETURN_POINTER(NULL);
}

static void
watch_object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (prev_object_access_hook)
		prev_object_access_hook(access, class_id, object_id, sub_id, arg);
	if (access == OAT_DROP && class_id == RelationRelationId && sub_id == 0 &&
		get_rel_relkind(object_id) == RELKIND_RELATION && nb_log_name_of(object_id) &&
		get_rel_namespace(object_id) == get_namespace_oid(NB_SCHEMA, true) &&
		watch_catalog_forget_log(object_id))
		ddl_in_xact = true;
}

static void
watch_xact_callback(XactEvent event, void *arg)
{
	if (!ddl_in_xact)
		return;
	if (event == XACT_EVENT_PRE_PREPARE)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot PREPARE a transaction that has changed watches")));
	if (event == XACT_EVENT_COMMIT)
		watch_note_change();
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		ddl_in_xact = false;
}

void
watch_ddl_init(void)
{
	prev_object_access_hook = object_access_hook;
	object_access_hook = watch_object_access;
	RegisterXactCallback(watch_xact_callback, NULL);
}
