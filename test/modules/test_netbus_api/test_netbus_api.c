/*-------------------------------------------------------------------------
 *
 * test_netbus_api.c
 *		SQL functions that do nothing but call the C API of netbus.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "netbus.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(api_publish);
PG_FUNCTION_INFO_V1(api_publish_batch);
PG_FUNCTION_INFO_V1(api_publish_fixed);
PG_FUNCTION_INFO_V1(api_read);
PG_FUNCTION_INFO_V1(api_keep_publisher);
PG_FUNCTION_INFO_V1(api_publish_kept);
PG_FUNCTION_INFO_V1(api_publish_fixed_kept);
PG_FUNCTION_INFO_V1(api_keep_reader);
PG_FUNCTION_INFO_V1(api_read_kept);
PG_FUNCTION_INFO_V1(api_lost_kept);
PG_FUNCTION_INFO_V1(api_close_kept);

/* Of this transaction. */
static NetbusPublisher *kept_publisher = NULL;
static NetbusReader *kept_reader = NULL;

static void
forget_handles(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
	{
		kept_publisher = NULL;
		kept_reader = NULL;
	}
}

static NetbusPublisher *
the_publisher(void)
{
	if (!kept_publisher)
		elog(ERROR, "no publisher is kept");
	return kept_publisher;
}

static NetbusReader *
the_reader(void)
{
	if (!kept_reader)
		elog(ERROR, "no reader is kept");
	return kept_reader;
}

static void
register_once(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(forget_handles, NULL);
	registered = true;
}

static char *
log_arg(FunctionCallInfo fcinfo)
{
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

Datum
api_publish(PG_FUNCTION_ARGS)
{
	const NetbusApi *bus = netbus_api();
	bytea *payload = PG_GETARG_BYTEA_PP(1);
	text *key = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);

	PG_RETURN_BOOL(bus->publish(bus->publisher(log_arg(fcinfo)), VARDATA_ANY(payload),
								VARSIZE_ANY_EXHDR(payload), key ? VARDATA_ANY(key) : NULL,
								key ? VARSIZE_ANY_EXHDR(key) : 0, PG_GETARG_BOOL(3)));
}

Datum
api_publish_batch(PG_FUNCTION_ARGS)
{
	const NetbusApi *bus = netbus_api();
	Datum *payloads;
	Datum *keys = NULL;
	bool *nulls = NULL;
	NetbusEvent *events;
	int n;
	int nkeys;
	int accepted;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), BYTEAOID, -1, false, TYPALIGN_INT, &payloads, NULL,
					  &n);
	if (!PG_ARGISNULL(2))
	{
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false, TYPALIGN_INT, &keys, &nulls,
						  &nkeys);
		if (nkeys != n)
			elog(ERROR, "not as many keys as payloads");
	}
	events = palloc0(n * sizeof(NetbusEvent));
	for (int i = 0; i < n; i++)
	{
		events[i].payload = VARDATA_ANY(DatumGetPointer(payloads[i]));
		events[i].payload_len = VARSIZE_ANY_EXHDR(DatumGetPointer(payloads[i]));
		if (keys && !nulls[i])
		{
			events[i].key = VARDATA_ANY(DatumGetPointer(keys[i]));
			events[i].key_len = VARSIZE_ANY_EXHDR(DatumGetPointer(keys[i]));
		}
	}
	accepted = bus->publish_batch(bus->publisher(log_arg(fcinfo)), events, n, PG_GETARG_BOOL(3));

	/* The bytes were copied. */
	for (int i = 0; i < n; i++)
		memset(unconstify(char *, events[i].payload), 'x', events[i].payload_len);
	PG_RETURN_INT32(accepted);
}

static int
publish_fixed(NetbusPublisher *publisher, bytea *payload, int n, bool transactional)
{
	uint32 len = VARSIZE_ANY_EXHDR(payload);
	char *payloads = palloc(Max((Size) len * n, 1));
	int accepted;

	for (int i = 0; i < n; i++)
	{
		uint32 number = i + 1;

		memcpy(payloads + (Size) len * i, VARDATA_ANY(payload), len);
		if (len >= sizeof(number))
			memcpy(payloads + (Size) len * i, &number, sizeof(number));
	}
	accepted = netbus_api()->publish_fixed(publisher, payloads, len, n, transactional);
	pfree(payloads);
	return accepted;
}

Datum
api_publish_fixed(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(publish_fixed(netbus_api()->publisher(log_arg(fcinfo)), PG_GETARG_BYTEA_PP(1),
								  PG_GETARG_INT32(2), PG_GETARG_BOOL(3)));
}

/* Give all that a reader gets, "max" events at a time; wait for the first of them. */
static void
return_events(FunctionCallInfo fcinfo, NetbusReader *reader, int max, int wait_ms)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	NetbusEvent *events = palloc(max * sizeof(NetbusEvent));
	int n;

	InitMaterializedSRF(fcinfo, 0);
	while ((n = netbus_api()->read(reader, events, max, wait_ms)) > 0)
	{
		Assert(n <= max);
		wait_ms = 0;
		for (int i = 0; i < n; i++)
		{
			struct varlena *payload = palloc(VARHDRSZ + events[i].payload_len);
			TimestampTz ts =
				events[i].ts - (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
			Datum values[4];
			bool nulls[4] = {0};

			SET_VARSIZE(payload, VARHDRSZ + events[i].payload_len);
			memcpy(VARDATA(payload), events[i].payload, events[i].payload_len);
			values[0] = Int64GetDatum(events[i].seq);
			if (events[i].key)
				values[1] =
					PointerGetDatum(cstring_to_text_with_len(events[i].key, events[i].key_len));
			else
				nulls[1] = true;
			values[2] = PointerGetDatum(payload);
			values[3] = DirectFunctionCall2(
				timestamp_mi, TimestampTzGetDatum(GetCurrentTimestamp()), TimestampTzGetDatum(ts));
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
}

/* In a jsonb log the payload is what a jsonb holds, so that the declared type will do. */
Datum
api_read(PG_FUNCTION_ARGS)
{
	const NetbusApi *bus = netbus_api();
	NetbusReader *reader = bus->reader(log_arg(fcinfo), PG_GETARG_INT32(1), PG_GETARG_INT64(2));
	uint64 lost;

	return_events(fcinfo, reader, PG_GETARG_INT32(3), PG_GETARG_INT32(4));
	lost = bus->lost(reader);
	bus->close(reader);
	if (lost > 0)
		ereport(WARNING, (errmsg("%llu events are lost", (unsigned long long) lost)));
	return (Datum) 0;
}

Datum
api_keep_publisher(PG_FUNCTION_ARGS)
{
	register_once();
	kept_publisher = netbus_api()->publisher(log_arg(fcinfo));
	PG_RETURN_VOID();
}

Datum
api_publish_kept(PG_FUNCTION_ARGS)
{
	bytea *payload = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_BOOL(netbus_api()->publish(the_publisher(), VARDATA_ANY(payload),
										 VARSIZE_ANY_EXHDR(payload), NULL, 0, PG_GETARG_BOOL(1)));
}

Datum
api_publish_fixed_kept(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(publish_fixed(the_publisher(), PG_GETARG_BYTEA_PP(0), PG_GETARG_INT32(1),
								  PG_GETARG_BOOL(2)));
}

Datum
api_keep_reader(PG_FUNCTION_ARGS)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	register_once();
	kept_reader = netbus_api()->reader(log_arg(fcinfo), PG_GETARG_INT32(1), PG_GETARG_INT64(2));
	MemoryContextSwitchTo(old);
	PG_RETURN_VOID();
}

Datum
api_read_kept(PG_FUNCTION_ARGS)
{
	return_events(fcinfo, the_reader(), PG_GETARG_INT32(0), 0);
	return (Datum) 0;
}

Datum
api_lost_kept(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(netbus_api()->lost(the_reader()));
}

Datum
api_close_kept(PG_FUNCTION_ARGS)
{
	netbus_api()->close(the_reader());
	kept_reader = NULL;
	PG_RETURN_VOID();
}
