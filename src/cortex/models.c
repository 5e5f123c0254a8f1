/*-------------------------------------------------------------------------
 *
 * models.c
 *		Which models there are: creating, dropping and opening them.
 *
 * netbus.catalog_model says which logs are models, of which kind and by which
 * name; it is keyed by the log's table and dumped by pg_dump.  The log of model m
 * of kind k is called k_m, and that of the default model k; it is an ordinary log, and
 * whoever may SELECT from or INSERT into its table may query or change the model.  A
 * default model comes into being with the first write to it by somebody who may create
 * models, and is his: others could do nothing with it before he has granted them rights.
 *
 * The state is what all events of the log add up to, and is built anew from them where
 * there is no snapshot, as after pg_restore.  So nothing of the log is ever cut off:
 * retention and purge() are refused.
 *
 * A row goes with its log, however that is dropped.  The worker is told at
 * commit that there is something to look at.  It gives back the memory of models
 * that are no more; of a database that is dropped, who drops it does.
 *
 * Locks: an object lock on the catalog while a model is created; the locks of
 * nb_log_open().
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
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#define MODEL_TABLE "catalog_model"

enum
{
	COL_LOG = 1,
	COL_KIND,
	COL_MODEL,
	COLUMNS = COL_MODEL
};

PG_FUNCTION_INFO_V1(netbus_create_model);
PG_FUNCTION_INFO_V1(netbus_drop_model);

extern Datum netbus_create_log(PG_FUNCTION_ARGS);
extern Datum netbus_drop_log(PG_FUNCTION_ARGS);

const ModelKind *const model_kinds[MODEL_KINDS] = {&memories_kind, &tasks_kind};

/* What this process has found in the catalog. */
typedef struct ModelName
{
	struct
	{
		int kind;
		char name[NAMEDATALEN];
	} key;
	Oid log;
	uint64 generation;
} ModelName;

static HTAB *names = NULL;
static bool ddl_in_xact = false;
static Oid database_dropped = InvalidOid;
static object_access_hook_type prev_object_access_hook = NULL;

static int
kind_index(const ModelKind *kind)
{
	for (int i = 0; i < MODEL_KINDS; i++)
		if (model_kinds[i] == kind)
			return i;
	return -1;
}

int
model_kind_index(const char *name)
{
	for (int i = 0; i < MODEL_KINDS; i++)
		if (strcmp(model_kinds[i]->name, name) == 0)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid kind of model: \"%s\"", name),
			 errhint("Valid values are \"%s\", \"%s\".", memories_kind.name, tasks_kind.name)));
}

static bool
name_valid(const char *name)
{
	return nb_log_name_valid(name) && strlen(name) <= MODEL_MAX_NAME;
}

static char *
model_log_name(const ModelKind *kind, const char *name)
{
	return strcmp(name, MODEL_DEFAULT) == 0 ? pstrdup(kind->name)
											: psprintf("%s_%s", kind->name, name);
}

static Oid
catalog_or_error(void)
{
	Oid relid = nb_catalog_table(MODEL_TABLE);

	if (!OidIsValid(relid))
		nb_outdated_extension();
	return relid;
}

static bool
read_row(Relation rel, HeapTuple tuple, ModelRow *row)
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS];
	char *kind;

	heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
	if (nulls[COL_LOG - 1] || nulls[COL_KIND - 1] || nulls[COL_MODEL - 1])
		return false;
	row->log = DatumGetObjectId(values[COL_LOG - 1]);
	kind = TextDatumGetCString(values[COL_KIND - 1]);
	row->kind = -1;
	for (int i = 0; i < MODEL_KINDS; i++)
		if (strcmp(model_kinds[i]->name, kind) == 0)
			row->kind = i;
	strlcpy(row->name, TextDatumGetCString(values[COL_MODEL - 1]), NAMEDATALEN);
	return row->kind >= 0;
}

/* All models of the database, palloc'd. */
ModelRow *
models_list(int *count)
{
	Oid relid = nb_catalog_table(MODEL_TABLE);
	ModelRow *rows = palloc(sizeof(ModelRow) * 8);
	int room = 8;
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;

	*count = 0;
	if (!OidIsValid(relid))
		return rows;
	rel = table_open(relid, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (*count == room)
			rows = repalloc(rows, sizeof(ModelRow) * (room *= 2));
		if (read_row(rel, tuple, &rows[*count]))
			(*count)++;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return rows;
}

/* relcache callback: a log may be gone, also one that nobody here has opened. */
static void
names_relcache_callback(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	ModelName *known;

	hash_seq_init(&status, names);
	while ((known = hash_seq_search(&status)) != NULL)
		if (!OidIsValid(relid) || known->log == relid)
			known->generation = 0;
}

/* The log of a model; InvalidOid: there is no such model. */
static Oid
find_log(const ModelKind *kind, const char *name)
{
	ModelName key;
	ModelName *known;
	uint64 generation = nb_log_generation;
	ModelRow *rows;
	Oid log = InvalidOid;
	int count;

	memset(&key, 0, sizeof(key));
	key.key.kind = kind_index(kind);
	strlcpy(key.key.name, name, NAMEDATALEN);
	if (!names)
	{
		HASHCTL ctl = {
			.keysize = sizeof(key.key), .entrysize = sizeof(ModelName), .hcxt = TopMemoryContext};

		names = hash_create("netbus model names", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		CacheRegisterRelcacheCallback(names_relcache_callback, (Datum) 0);
	}
	known = hash_search(names, &key.key, HASH_FIND, NULL);
	if (known && known->generation == generation)
		return known->log;

	(void) catalog_or_error();
	rows = models_list(&count);
	for (int i = 0; i < count; i++)
		if (rows[i].kind == key.key.kind && strcmp(rows[i].name, name) == 0 &&
			get_rel_name(rows[i].log))
			log = rows[i].log;
	pfree(rows);
	if (OidIsValid(log))
	{
		known = hash_search(names, &key.key, HASH_ENTER, NULL);
		known->log = log;
		known->generation = generation;
	}
	else if (known)
		hash_search(names, &key.key, HASH_REMOVE, NULL);
	return log;
}

/* Make a model and its log, owned by the current user.  False: it exists. */
static bool
create_model(const ModelKind *kind, const char *name)
{
	LOCAL_FCINFO(fcinfo, 13);
	Interval flush_interval = {.time = 10000}; /* the default; commit logs have no use for it */
	Oid relid = catalog_or_error();
	char *log_name = model_log_name(kind, name);
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {0};
	Relation rel;
	Oid log;

	/* Whoever creates a model waits for us, to learn whether it exists. */
	LockDatabaseObject(relid, hash_bytes((unsigned char *) log_name, strlen(log_name)), 0,
					   ExclusiveLock);
	AcceptInvalidationMessages();
	nb_log_generation++; /* what is remembered may be of a drop, or rolled back */
	if (OidIsValid(find_log(kind, name)))
		return false;
	if (OidIsValid(get_relname_relid(psprintf(LOG_TABLE_PREFIX "%s", log_name),
									 get_namespace_oid(NB_SCHEMA, false))))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
						errmsg("cannot create model \"%s\" of %s: log \"%s\" exists already", name,
							   kind->name, log_name),
						errhint("Rename that log's table, or choose another name for the model.")));
	if (!model_has_free_slot())
		model_slots_exhausted();

	InitFunctionCallInfoData(*fcinfo, NULL, 13, InvalidOid, NULL, NULL);
	for (int i = 0; i < 13; i++)
		fcinfo->args[i].isnull = true;
	fcinfo->args[0].value = CStringGetTextDatum(log_name);
	fcinfo->args[1].value = Int32GetDatum(1);
	fcinfo->args[2].value = CStringGetTextDatum("commit");
	fcinfo->args[3].value = CStringGetTextDatum("jsonb");
	fcinfo->args[4].value = CStringGetTextDatum("4MB");
	for (int i = 0; i <= 4; i++)
		fcinfo->args[i].isnull = false;
	fcinfo->args[10].value = IntervalPGetDatum(&flush_interval);
	fcinfo->args[10].isnull = false;
	(void) netbus_create_log(fcinfo);
	log = get_relname_relid(psprintf(LOG_TABLE_PREFIX "%s", log_name),
							get_namespace_oid(NB_SCHEMA, false));

	rel = table_open(relid, RowExclusiveLock);
	values[COL_LOG - 1] = ObjectIdGetDatum(log);
	values[COL_KIND - 1] = CStringGetTextDatum(kind->name);
	values[COL_MODEL - 1] = CStringGetTextDatum(name);
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, nulls));
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
	model_local(log, kind_index(kind))->creator = GetTopTransactionId();
	ddl_in_xact = true;
	return true;
}

static void
no_such_model(const ModelKind *kind, const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("model \"%s\" of %s does not exist", name, kind->name),
					errhint("Create it with SELECT netbus.create_model('%s', %s).", kind->name,
							quote_literal_cstr(name))));
}

/* Only who may create models brings the default one into being. */
static void
check_may_create_default(const ModelKind *kind)
{
	if (!has_privs_of_role(GetUserId(), get_role_oid("netbus_admin", false)))
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("model \"%s\" of %s does not exist", MODEL_DEFAULT, kind->name),
			 errdetail(
				 "It comes into being when a member of role netbus_admin first writes to it."),
			 errhint(
				 "Have one call SELECT netbus.create_model('%s', '%s') and grant you INSERT on table netbus.log_%s.",
				 kind->name, MODEL_DEFAULT, kind->name)));
}

/* Lock the log and check the rights on it. */
static void
open_log(Model *model, const char *name, AclMode right)
{
	model->log = nb_log_open(name, AccessShareLock, right);
	if (model->log_generation != nb_log_generation || model->user != GetUserId())
		model->rights = 0;
	model->log_generation = nb_log_generation;
	model->user = GetUserId();
	model->rights |= right;
}

/*
 * Open a model: lock its log (AccessShareLock, to the end of the transaction) and
 * check that the current user has that right on it.  NULL: the default model,
 * which does not exist yet, to be queried.
 */
Model *
model_open(const ModelKind *kind, text *name_arg, AclMode right)
{
	char name[NAMEDATALEN];
	const char *table;
	Model *model;
	Oid log;
	bool missing = false;

	nb_require_preload();
	if (!name_arg)
		arg_null("model");
	text_to_cstring_buffer(name_arg, name, sizeof(name));
	for (;;)
	{
		log = find_log(kind, name);
		if (!OidIsValid(log))
		{
			if (strcmp(name, MODEL_DEFAULT) != 0)
				no_such_model(kind, name);
			if (right == ACL_SELECT)
				return NULL;
			check_may_create_default(kind);
			(void) create_model(kind, name);
			continue;
		}
		model = model_local(log, kind_index(kind));
		if (likely(model->log_generation == nb_log_generation && model->user == GetUserId() &&
				   (model->rights & right) == right && model->log->valid && model->log->checked))
		{
			LockRelationOid(log, AccessShareLock);
			if (likely(model->log_generation == nb_log_generation))
				return model;
		}
		/* Whoever may have it waits for who is dropping it. */
		if (pg_class_aclcheck_ext(log, GetUserId(), right, &missing) == ACLCHECK_OK)
			LockRelationOid(log, AccessShareLock);
		table = get_rel_name(log);
		if (!table)
		{
			/* Dropped while we looked. */
			nb_log_generation++;
			continue;
		}
		strlcpy(model->name, name, NAMEDATALEN);
		open_log(model, table + strlen(LOG_TABLE_PREFIX), right);
		return model;
	}
}

/* For the planner: how many records a model has; -1: not known. */
double
model_records(const ModelKind *kind, const char *name)
{
	Oid log = nb_preloaded && OidIsValid(nb_catalog_table(MODEL_TABLE)) ? find_log(kind, name)
																		: InvalidOid;
	ModelSlot *slot = OidIsValid(log) ? model_find_slot(log) : NULL;

	return slot ? (double) *(volatile uint64 *) &slot->state.by_created.count : -1;
}

/* The name of a model, as model_open() takes it. */
text *
model_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : PG_GETARG_TEXT_PP(n);
}

static void
check_may_write(FunctionCallInfo fcinfo)
{
	if (unlikely(XactReadOnly))
		PreventCommandIfReadOnly(psprintf("netbus.%s()", get_func_name(fcinfo->flinfo->fn_oid)));
}

/* The model that argument n names, for a function that adds to it. */
Model *
model_open_to_write(FunctionCallInfo fcinfo, const ModelKind *kind, int n)
{
	check_may_write(fcinfo);
	return model_open(kind, model_arg(fcinfo, n), ACL_INSERT);
}

/* For one that changes a record.  NULL: the default model, which does not exist yet. */
Model *
model_open_to_update(FunctionCallInfo fcinfo, const ModelKind *kind, int n)
{
	text *name = model_arg(fcinfo, n);

	check_may_write(fcinfo);
	nb_require_preload();
	if (name && VARSIZE_ANY_EXHDR(name) == strlen(MODEL_DEFAULT) &&
		memcmp(VARDATA_ANY(name), MODEL_DEFAULT, strlen(MODEL_DEFAULT)) == 0 &&
		!OidIsValid(find_log(kind, MODEL_DEFAULT)))
		return NULL;
	return model_open(kind, name, ACL_INSERT);
}

/* The model of a log that the current user may read; error if it is none. */
Model *
model_open_by_log(const char *log_name)
{
	NbLog *log = nb_log_open(log_name, AccessShareLock, ACL_SELECT);
	int count;
	ModelRow *rows = models_list(&count);

	for (int i = 0; i < count; i++)
		if (rows[i].log == log->relid)
		{
			Model *model = model_local(log->relid, rows[i].kind);

			strlcpy(model->name, rows[i].name, NAMEDATALEN);
			open_log(model, log_name, ACL_SELECT);
			return model;
		}
	ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
					errmsg("log \"%s\" is not the log of a model", log_name),
					errhint("The view netbus.stat_model lists the models.")));
}

/* ------------------------------------------------------------------- SQL */

/* create_model(kind, model, if_not_exists) -> created */
Datum
netbus_create_model(PG_FUNCTION_ARGS)
{
	const ModelKind *kind = model_kinds[model_kind_index(arg_text(fcinfo, 0, "kind"))];
	char *name = arg_text(fcinfo, 1, "model");
	bool if_not_exists = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);

	nb_require_preload();
	PreventCommandIfReadOnly("netbus.create_model()");
	if (!name_valid(name))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_NAME), errmsg("invalid model name: \"%s\"", name),
			 errhint(
				 "Use at most %d characters: a lower-case letter, then lower-case letters, digits and underscores.",
				 MODEL_MAX_NAME)));
	if (!create_model(kind, name))
	{
		if (!if_not_exists)
			ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
							errmsg("model \"%s\" of %s already exists", name, kind->name)));
		ereport(NOTICE, (errmsg("model \"%s\" of %s already exists, skipping", name, kind->name)));
		PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(true);
}

/*
 * The log of a model to be dropped, locked if it is the current user's.  InvalidOid:
 * there is no such model.
 */
static Oid
lock_to_drop(const ModelKind *kind, const char *name)
{
	Oid locked = InvalidOid;

	for (;;)
	{
		Oid log;

		nb_log_generation++; /* as create_model() */
		log = find_log(kind, name);
		if (log == locked)
			return log;
		/* Dropped while we waited, and perhaps made anew. */
		if (OidIsValid(locked))
			UnlockRelationOid(locked, AccessExclusiveLock);
		if (!OidIsValid(log) || !nb_owns_table(log, GetUserId()))
			return log;
		LockRelationOid(log, AccessExclusiveLock);
		locked = log;
	}
}

/* drop_model(kind, model, if_exists) -> dropped */
Datum
netbus_drop_model(PG_FUNCTION_ARGS)
{
	const ModelKind *kind = model_kinds[model_kind_index(arg_text(fcinfo, 0, "kind"))];
	char *name = arg_text(fcinfo, 1, "model");
	Oid log;
	char *table;

	nb_require_preload();
	PreventCommandIfReadOnly("netbus.drop_model()");
	log = lock_to_drop(kind, name);
	table = OidIsValid(log) ? get_rel_name(log) : NULL;
	if (!table)
	{
		if (PG_ARGISNULL(2) || !PG_GETARG_BOOL(2))
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
							errmsg("model \"%s\" of %s does not exist", name, kind->name),
							errhint("The view netbus.stat_model lists the models.")));
		ereport(NOTICE, (errmsg("model \"%s\" of %s does not exist, skipping", name, kind->name)));
		PG_RETURN_BOOL(false);
	}
	return DirectFunctionCall2(netbus_drop_log,
							   CStringGetTextDatum(table + strlen(LOG_TABLE_PREFIX)),
							   BoolGetDatum(false));
}

/* ------------------------------------------------------------------ hooks */

/* Somebody wants to cut off events of a log. */
static void
models_cut(Oid log, const char *name)
{
	int count;
	ModelRow *rows = models_list(&count);

	for (int i = 0; i < count; i++)
		if (rows[i].log == log)
			ereport(
				ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot remove events of log \"%s\": model \"%s\" of %s is made of them",
						name, rows[i].name, model_kinds[rows[i].kind]->name),
				 errhint("Delete what is not needed any more with netbus.%s_delete().",
						 model_kinds[rows[i].kind]->record)));
	pfree(rows);
}

/* The table of a log is being dropped: so is the model. */
static void
forget_model(Oid log)
{
	static const char *const tables[] = {MODEL_TABLE, "catalog_model_error"};

	for (int i = 0; i < lengthof(tables); i++)
	{
		Oid relid = nb_catalog_table(tables[i]);
		Relation rel;
		SysScanDesc scan;
		ScanKeyData key;
		HeapTuple tuple;

		if (!OidIsValid(relid))
			continue;
		rel = table_open(relid, RowExclusiveLock);
		if (OidIsValid(nb_primary_key(rel)))
		{
			ScanKeyInit(&key, COL_LOG, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(log));
			scan = systable_beginscan(rel, nb_primary_key(rel), true, NULL, 1, &key);
			while (HeapTupleIsValid(tuple = systable_getnext(scan)))
			{
				simple_heap_delete(rel, &tuple->t_self);
				ddl_in_xact = true;
			}
			systable_endscan(scan);
		}
		table_close(rel, RowExclusiveLock);
	}
}

static void
models_object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (prev_object_access_hook)
		prev_object_access_hook(access, class_id, object_id, sub_id, arg);
	if (access == OAT_DROP && class_id == DatabaseRelationId)
		database_dropped = object_id;
	if (access == OAT_DROP && class_id == RelationRelationId && sub_id == 0 &&
		get_rel_relkind(object_id) == RELKIND_RELATION)
	{
		char *table = get_rel_name(object_id);

		if (table && strncmp(table, LOG_TABLE_PREFIX, strlen(LOG_TABLE_PREFIX)) == 0 &&
			get_rel_namespace(object_id) == get_namespace_oid(NB_SCHEMA, true))
			forget_model(object_id);
	}
}

static void
models_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT && OidIsValid(database_dropped))
		model_free_slots(database_dropped); /* its files are gone already: no way back */
	if (event != XACT_EVENT_PRE_COMMIT)
		database_dropped = InvalidOid;
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
	{
		if (ddl_in_xact)
			model_note_change();
		ddl_in_xact = false;
	}
}

void
models_init(void)
{
	prev_object_access_hook = object_access_hook;
	object_access_hook = models_object_access;
	nb_log_cut_hook = models_cut;
	RegisterXactCallback(models_xact_callback, NULL);
}
