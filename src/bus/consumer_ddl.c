/*-------------------------------------------------------------------------
 *
 * consumer_ddl.c
 *		Creating, changing, moving and dropping consumers from SQL.
 *
 * All of it is part of the transaction.  What members must see is stored in shared
 * memory by the commit (claim.c), and the log's table is invalidated, so that every
 * process reads the consumer's options again.
 *
 * Moving and dropping need all shards: others are kept from claiming, and those
 * who have some are waited for.
 *
 * Locks: the log's table as a reader has it; on the consumer, one for whoever changes
 * it (an object lock, by a hash of its name).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/claim.h"
#include "bus/consumer_ddl.h"
#include "bus/rows.h"
#include "bus/start.h"

#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"

PG_FUNCTION_INFO_V1(netbus_create_consumer);
PG_FUNCTION_INFO_V1(netbus_alter_consumer);
PG_FUNCTION_INFO_V1(netbus_drop_consumer);
PG_FUNCTION_INFO_V1(netbus_pause);
PG_FUNCTION_INFO_V1(netbus_resume);
PG_FUNCTION_INFO_V1(netbus_seek);

static const char valid_options[] = "Options are \"filter\", \"max_deliveries\", "
									"\"dead_letter_log\" and \"hold\".";

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

/* ---------------------------------------------------------------- options */

static void
set_max_deliveries(Consumer *consumer, int max)
{
	if (max < 1 || max > 1000000)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid value for option \"max_deliveries\": %d", max),
						errhint("Valid values are 1 to 1000000.")));
	consumer->max_deliveries = max;
}

/* The caller must be able to publish there, for it is with his rights that it will be done. */
static void
set_dead_letter_log(Consumer *consumer, const char *name)
{
	NbLog *log = nb_log_open(name, RowExclusiveLock, ACL_INSERT);

	if (log->options.format != LOG_FORMAT_JSONB)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("log \"%s\" cannot be a dead-letter log", name),
						errdetail("Its format is \"bytea\"."), errhint("Use a jsonb log.")));
	if (log->relid == consumer->key.relid)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a log cannot be its own dead-letter log")));
	consumer->dead_letter_log = log->relid;
}

static void
set_hold(Consumer *consumer, const NbLog *log, const char *value)
{
	if (strcmp(value, "unlimited") == 0)
		consumer->hold = CONSUMER_UNLIMITED;
	else
	{
		consumer->hold = DatumGetInt64(
			DirectFunctionCall1(pg_size_bytes, PointerGetDatum(cstring_to_text(value))));
		if (consumer->hold <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid value for option \"hold\": \"%s\"", value),
					 errhint("Valid values are \"unlimited\" and sizes, such as \"10GB\".")));
	}
	if (nb_log_durable(log))
		return;
	if (consumer->hold != CONSUMER_UNLIMITED)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"hold\" of a consumer of a memory log is \"unlimited\", or not set"),
			 errdetail("It is the ring that limits what such a log can hold.")));
	if (log->options.backpressure == LOG_DROP_OLDEST)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("log \"%s\" evicts events whether or not they were read", log->name),
						errdetail("Its backpressure is \"drop_oldest\"."),
						errhint("SELECT netbus.alter_log(%s, 'backpressure', 'block') first.",
								quote_literal_cstr(log->name))));
}

static void
set_filter(Consumer *consumer, Jsonb *filter)
{
	(void) filter_compile(filter); /* says what is wrong */
	consumer->filter = filter;
}

static void
check_options(const Consumer *consumer)
{
	if (consumer->max_deliveries > 0 && !OidIsValid(consumer->dead_letter_log))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"max_deliveries\" needs a dead_letter_log"),
						errdetail("That is where events go which have failed so often."),
						errhint("Set option \"dead_letter_log\" first.")));
}

/* Set an option given as text; NULL: as if it had not been given. */
static void
alter_option(Consumer *consumer, const NbLog *log, const char *option, const char *value)
{
	if (strcmp(option, "filter") == 0)
	{
		consumer->filter = NULL;
		if (value)
			set_filter(consumer,
					   DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(value))));
	}
	else if (strcmp(option, "max_deliveries") == 0)
	{
		consumer->max_deliveries = 0;
		if (value)
			set_max_deliveries(consumer, pg_strtoint32(value));
	}
	else if (strcmp(option, "dead_letter_log") == 0)
	{
		consumer->dead_letter_log = InvalidOid;
		if (value)
			set_dead_letter_log(consumer, value);
	}
	else if (strcmp(option, "hold") == 0)
	{
		consumer->hold = 0;
		if (value)
			set_hold(consumer, log, value);
	}
	else
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" of a consumer does not exist", option),
						errhint("%s", valid_options)));
}

/* ----------------------------------------------------------------- starts */

/* Before the oldest event there is: what is gone already is not lost to a consumer that starts there. */
static uint64
oldest_position(NbLog *log, int shard)
{
	Ring *ring = log_ring(log->shared, shard);
	uint64 floor = pg_atomic_read_u64(nb_log_durable(log) ? &ring->log_floor : &ring->floor_seq);

	return floor > 0 ? floor - 1 : 0;
}

/* Where the shards begin: their last seqs before. */
static void
find_starts(NbLog *log, const char *start_at, uint64 *positions)
{
	int64 seq;
	char *end;

	if (strncmp(start_at, "seq:", 4) != 0)
	{
		Cursor cursor;

		(void) start_resolve(log, start_at, "start_at", &cursor);
		for (int i = 0; i < log->options.shards; i++)
			positions[i] = cursor.known[i] ? cursor.seqs[i] : oldest_position(log, i);
		return;
	}
	errno = 0;
	seq = strtoll(start_at + 4, &end, 10);
	if (end == start_at + 4 || *end != '\0' || errno != 0 || seq < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid start: \"%s\"", start_at),
				 errhint("Use \"seq:\" and the seq of the first event that is wanted, from 1.")));
	if (log->options.shards > 1)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("log \"%s\" has %d shards, and cannot be started at one seq", log->name,
					log->options.shards),
			 errhint("Use \"earliest\", \"latest\", a timestamp, or a cursor of netbus.poll().")));
	positions[0] = seq - 1;
}

/* -------------------------------------------------------------- functions */

static void
check_may_change(const char *function)
{
	nb_check_may_change(function);
	PreventCommandIfParallelMode(function);
}

/* Whoever changes a consumer of that name waits for us. */
static void
lock_name(const NbLog *log, const char *name)
{
	LockDatabaseObject(
		nb_catalog_table("catalog_consumer"),
		hash_combine(hash_bytes((const unsigned char *) name, strlen(name)), log->relid), 0,
		ExclusiveLock);
}

static void
new_consumer(Consumer *consumer, const NbLog *log, const char *name)
{
	memset(consumer, 0, sizeof(Consumer));
	consumer->key.relid = log->relid;
	strlcpy(NameStr(consumer->key.name), name, NAMEDATALEN);
	/* Unique in the database: the table has an index on it. */
	consumer->id = ((uint64) nb_now_us() << 11) | (MyProcPid & 0x7FF);
	consumer->owner = GetUserId();
}

static Consumer *
insert_consumer(NbLog *log, Consumer *consumer, const uint64 *positions)
{
	Consumer *made;

	/* Before the change, whose end of command makes us obey it; and on abort we forget what we knew. */
	CacheInvalidateRelcacheByRelid(log->relid);
	consumer_catalog_insert(consumer, positions, log->options.shards);
	made = consumer_open(log, NameStr(consumer->key.name));
	claim_add_action(ACTION_CREATE, made, log);
	return made;
}

/* create_consumer(log, consumer, start_at, filter, max_deliveries, dead_letter_log, hold, if_not_exists) -> created */
Datum
netbus_create_consumer(PG_FUNCTION_ARGS)
{
	char *log_name = text_arg(fcinfo, 0, "log", false);
	char *name = text_arg(fcinfo, 1, "consumer", false);
	char *start_at = text_arg(fcinfo, 2, "start_at", false);
	bool if_not_exists = !PG_ARGISNULL(7) && PG_GETARG_BOOL(7);
	uint64 positions[LOG_MAX_SHARDS];
	NbLog *log;
	Consumer consumer;
	Consumer existing;

	check_may_change("netbus.create_consumer()");
	if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME), errmsg("invalid consumer name: \"%s\"", name),
				 errhint("Use 1 to %d bytes.", NAMEDATALEN - 1)));
	log = nb_log_open(log_name, AccessShareLock, ACL_SELECT);
	lock_name(log, name);
	if (consumer_catalog_get(log->relid, name, &existing))
	{
		if (!if_not_exists)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("consumer \"%s\" of log \"%s\" already exists", name, log->name)));
		ereport(NOTICE, (errmsg("consumer \"%s\" of log \"%s\" already exists, skipping", name,
								log->name)));
		PG_RETURN_BOOL(false);
	}
	new_consumer(&consumer, log, name);
	if (!PG_ARGISNULL(3))
		set_filter(&consumer, PG_GETARG_JSONB_P(3));
	if (!PG_ARGISNULL(4))
		set_max_deliveries(&consumer, PG_GETARG_INT32(4));
	if (!PG_ARGISNULL(5))
		set_dead_letter_log(&consumer, text_to_cstring(PG_GETARG_TEXT_PP(5)));
	if (!PG_ARGISNULL(6))
		set_hold(&consumer, log, text_to_cstring(PG_GETARG_TEXT_PP(6)));
	check_options(&consumer);
	find_starts(log, start_at, positions);
	(void) insert_consumer(log, &consumer, positions);
	PG_RETURN_BOOL(true);
}

Consumer *
consumer_ensure(NbLog *log, const char *name)
{
	uint64 positions[LOG_MAX_SHARDS];
	Consumer consumer;

	lock_name(log, name);
	if (consumer_catalog_get(log->relid, name, &consumer))
		return consumer_open(log, name);
	new_consumer(&consumer, log, name);
	find_starts(log, "earliest", positions);
	return insert_consumer(log, &consumer, positions);
}

/*
 * The consumer of a call that only its owner, the members of that role or an admin may
 * make, as this command finds it.
 */
static Consumer
owned_consumer(FunctionCallInfo fcinfo, const char *function, NbLog **log)
{
	Consumer result;
	char *log_name = text_arg(fcinfo, 0, "log", false);
	char *name = text_arg(fcinfo, 1, "consumer", false);
	Consumer *consumer;

	check_may_change(function);
	*log = nb_log_open(log_name, AccessShareLock, ACL_SELECT);
	lock_name(*log, name);
	consumer = consumer_open(*log, name);
	if (!has_privs_of_role(GetUserId(), consumer->owner) &&
		!has_privs_of_role(GetUserId(), get_role_oid("netbus_admin", false)))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of consumer \"%s\" of log \"%s\"", name, log_name)));
	if (!consumer_catalog_get((*log)->relid, name, &result))
		elog(ERROR, "consumer \"%s\" has no row", name);
	result.shared = consumer->shared;
	return result;
}

/* Have every process read the options again. */
static void
store_options(const Consumer *consumer)
{
	CacheInvalidateRelcacheByRelid(consumer->key.relid);
	consumer_catalog_update(consumer);
}

/* alter_consumer(log, consumer, option, value) -> true */
Datum
netbus_alter_consumer(PG_FUNCTION_ARGS)
{
	NbLog *log;
	Consumer altered = owned_consumer(fcinfo, "netbus.alter_consumer()", &log);
	char *option = text_arg(fcinfo, 2, "option", false);

	alter_option(&altered, log, option, text_arg(fcinfo, 3, "value", true));
	check_options(&altered);
	if (strcmp(option, "hold") == 0)
		claim_add_action(ACTION_HOLD, &altered, log);
	store_options(&altered);
	PG_RETURN_BOOL(true);
}

static Datum
set_paused(FunctionCallInfo fcinfo, bool paused)
{
	NbLog *log;
	Consumer altered = owned_consumer(fcinfo, paused ? "netbus.pause()" : "netbus.resume()", &log);

	if (altered.paused == paused)
		PG_RETURN_BOOL(false);
	altered.paused = paused;
	claim_add_action(paused ? ACTION_PAUSE : ACTION_RESUME, &altered, log);
	store_options(&altered);
	PG_RETURN_BOOL(true);
}

/* pause(log, consumer) -> was it not? */
Datum
netbus_pause(PG_FUNCTION_ARGS)
{
	return set_paused(fcinfo, true);
}

/* resume(log, consumer) -> was it paused? */
Datum
netbus_resume(PG_FUNCTION_ARGS)
{
	return set_paused(fcinfo, false);
}

/* drop_consumer(log, consumer, if_exists) -> dropped */
Datum
netbus_drop_consumer(PG_FUNCTION_ARGS)
{
	bool if_exists = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	NbLog *log;
	Consumer dropped;

	if (if_exists)
	{
		char *log_name = text_arg(fcinfo, 0, "log", false);
		char *name = text_arg(fcinfo, 1, "consumer", false);

		log = nb_log_open(log_name, AccessShareLock, ACL_SELECT);
		if (!consumer_catalog_get(log->relid, name, &dropped))
		{
			ereport(NOTICE, (errmsg("consumer \"%s\" of log \"%s\" does not exist, skipping", name,
									log_name)));
			PG_RETURN_BOOL(false);
		}
	}
	dropped = owned_consumer(fcinfo, "netbus.drop_consumer()", &log);
	claim_take_all(&dropped, log);
	claim_add_action(ACTION_DROP, &dropped, log);
	CacheInvalidateRelcacheByRelid(log->relid);
	consumer_catalog_delete(&dropped);
	PG_RETURN_BOOL(true);
}

/* seek(log, consumer, start_at) -> true */
Datum
netbus_seek(PG_FUNCTION_ARGS)
{
	NbLog *log;
	Consumer consumer = owned_consumer(fcinfo, "netbus.seek()", &log);
	char *start_at = text_arg(fcinfo, 2, "start_at", false);
	uint64 positions[LOG_MAX_SHARDS];

	claim_take_all(&consumer, log);
	find_starts(log, start_at, positions);
	for (int i = 0; i < log->options.shards; i++)
	{
		Claim *claim = claim_find(consumer.id, i);

		claim_touch(claim);
		claim->now.acked_to = claim->now.scanned_to = claim->now.delivered_to = positions[i];
		claim->now.seek = true;
	}
	PG_RETURN_BOOL(true);
}
