/*-------------------------------------------------------------------------
 *
 * netbus_bench.c
 *		Loops that measure netbus inside the server, through netbus.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "executor/spi.h"
#include "extension/netbus/netbus.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(bench_empty);
PG_FUNCTION_INFO_V1(bench_single);
PG_FUNCTION_INFO_V1(bench_burst);
PG_FUNCTION_INFO_V1(bench_frames);
PG_FUNCTION_INFO_V1(bench_produce);
PG_FUNCTION_INFO_V1(bench_consume);
PG_FUNCTION_INFO_V1(bench_execute);

#define MAX_NS   1000000 /* the histogram's end */
#define READ_MAX 4096    /* events a read() */

static inline int64
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static Datum
make_row(FunctionCallInfo fcinfo, Datum *values)
{
	TupleDesc desc;
	bool nulls[8] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

Datum
bench_empty(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(true);
}

static double
quantile(const uint32 *histogram, int64 n, double q)
{
	int64 left = (int64) (n * q);
	int ns = 0;

	while (ns < MAX_NS && left >= histogram[ns])
		left -= histogram[ns++];
	return ns;
}

/* A time includes one reading of the clock: from after one reading to after the next. */
Datum
bench_single(PG_FUNCTION_ARGS)
{
	const NetbusApi *bus = netbus_api();
	NetbusPublisher *publisher = NULL;
	int64 calls = PG_GETARG_INT64(1);
	uint32 len = PG_GETARG_INT32(2);
	char *payload = palloc0(Max(len, 1));
	uint32 *histogram = palloc0((MAX_NS + 1) * sizeof(uint32));
	int64 start;
	int64 before;
	int64 max = 0;
	Datum values[5];

	if (!PG_ARGISNULL(0))
		publisher = bus->publisher(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	start = before = now_ns();
	for (int64 i = 0; i < calls; i++)
	{
		int64 after;
		int64 ns;

		if (publisher)
			bus->publish(publisher, payload, len, NULL, 0, false);
		after = now_ns();
		ns = after - before;
		before = after;
		histogram[Min(ns, MAX_NS)]++;
		if (ns > max)
			max = ns;
		if ((i & 0xFFFF) == 0)
		{
			CHECK_FOR_INTERRUPTS();
			before = now_ns();
		}
	}
	values[0] = Float8GetDatum(quantile(histogram, calls, 0.5));
	values[1] = Float8GetDatum(quantile(histogram, calls, 0.99));
	values[2] = Float8GetDatum(quantile(histogram, calls, 0.999));
	values[3] = Float8GetDatum((double) (before - start) / calls);
	values[4] = Float8GetDatum((double) max);
	return make_row(fcinfo, values);
}

static int
compare_int64(const void *a, const void *b)
{
	int64 x = *(const int64 *) a;
	int64 y = *(const int64 *) b;

	return (x > y) - (x < y);
}

Datum
bench_burst(PG_FUNCTION_ARGS)
{
	const NetbusApi *bus = netbus_api();
	NetbusPublisher *publisher = bus->publisher(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	int n = PG_GETARG_INT32(1);
	uint32 len = PG_GETARG_INT32(2);
	int bursts = Max(PG_GETARG_INT32(3), 1);
	bool one_by_one = PG_GETARG_BOOL(4);
	char *payloads = palloc((Size) n * len);
	int64 *times = palloc(bursts * sizeof(int64));

	for (Size i = 0; i < (Size) n * len; i++)
		payloads[i] = i * 7;
	for (int b = 0; b < bursts; b++)
	{
		int64 start = now_ns();

		if (one_by_one)
			for (int i = 0; i < n; i++)
				bus->publish(publisher, payloads + (Size) i * len, len, NULL, 0, false);
		else
			bus->publish_fixed(publisher, payloads, len, n, false);
		times[b] = now_ns() - start;
		CHECK_FOR_INTERRUPTS();
	}
	qsort(times, bursts, sizeof(int64), compare_int64);
	PG_RETURN_FLOAT8(times[bursts / 2]);
}

/* A read() hands out events of one frame. */
Datum
bench_frames(PG_FUNCTION_ARGS)
{
	const NetbusApi *bus = netbus_api();
	NetbusReader *reader =
		bus->reader(text_to_cstring(PG_GETARG_TEXT_PP(0)), 0, PG_GETARG_INT64(1));
	NetbusEvent *events = palloc(65536 * sizeof(NetbusEvent));
	int frames = 0;

	while (bus->read(reader, events, 65536, 0) > 0)
		frames++;
	bus->close(reader);
	PG_RETURN_INT32(frames);
}

/* Events carry their number, so that the reader can check what it gets. */
Datum
bench_produce(PG_FUNCTION_ARGS)
{
	const NetbusApi *bus = netbus_api();
	char *log = MemoryContextStrdup(TopMemoryContext, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	double seconds = PG_GETARG_FLOAT8(1);
	int batch = PG_GETARG_INT32(2);
	uint32 len = Max(PG_GETARG_INT32(3), (int) sizeof(uint64));
	int per_transaction = PG_GETARG_INT32(4);
	NetbusEvent *events = MemoryContextAllocZero(TopMemoryContext, batch * sizeof(NetbusEvent));
	char *payloads = MemoryContextAllocZero(TopMemoryContext, (Size) batch * len);
	NetbusPublisher *publisher;
	uint64 number = 0;
	int64 start = now_ns();
	int64 end = start + (int64) (seconds * 1e9);
	int batches = 0;
	Datum values[2];

	for (int i = 0; i < batch; i++)
	{
		events[i].payload = payloads + (Size) i * len;
		events[i].payload_len = len;
	}

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	publisher = bus->publisher(log);
	while (now_ns() < end)
	{
		for (int i = 0; i < batch; i++)
		{
			number++;
			memcpy(payloads + (Size) i * len, &number, sizeof(number));
		}
		bus->publish_batch(publisher, events, batch, per_transaction > 0);
		if (++batches == per_transaction)
		{
			SPI_commit();
			publisher = bus->publisher(log);
			batches = 0;
		}
		CHECK_FOR_INTERRUPTS();
	}
	if (per_transaction > 0)
	{
		SPI_commit();
		publisher = bus->publisher(log);
	}
	start = now_ns() - start;
	bus->publish(publisher, payloads, 0, NULL, 0, false);
	SPI_finish();

	pfree(payloads);
	pfree(events);
	pfree(log);
	values[0] = Int64GetDatum(number);
	values[1] = Float8GetDatum(start / 1e9);
	return make_row(fcinfo, values);
}

Datum
bench_consume(PG_FUNCTION_ARGS)
{
	const NetbusApi *bus = netbus_api();
	NetbusReader *reader =
		bus->reader(text_to_cstring(PG_GETARG_TEXT_PP(0)), 0, PG_GETARG_INT64(1));
	NetbusEvent *events = palloc(READ_MAX * sizeof(NetbusEvent));
	uint64 next_seq = PG_GETARG_INT64(1) + 1;
	uint64 base = next_seq - 1; /* the first event's number is 1 */
	int64 seen = 0;
	int64 bad = 0;
	bool done = false;
	Datum values[3];

	while (!done)
	{
		int n = bus->read(reader, events, READ_MAX, 1000);

		for (int i = 0; i < n && !done; i++)
		{
			uint64 number;

			if (events[i].seq < next_seq)
				bad++;
			next_seq = events[i].seq + 1;
			if (events[i].payload_len == 0)
			{
				done = true;
				break;
			}
			memcpy(&number, events[i].payload, sizeof(number));
			if (number != events[i].seq - base)
				bad++;
			seen++;
		}
		CHECK_FOR_INTERRUPTS();
	}
	values[0] = Int64GetDatum(seen);
	values[1] = Int64GetDatum((int64) bus->lost(reader));
	values[2] = Int64GetDatum(bad);
	bus->close(reader);
	return make_row(fcinfo, values);
}

/* ------------------------------------------------------------- statements */

/* Where rows go: their columns are looked at, and that is all. */
typedef struct Sink
{
	DestReceiver pub;
	uint64 rows;
} Sink;

static void
sink_startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static bool
sink_receive(TupleTableSlot *slot, DestReceiver *self)
{
	slot_getallattrs(slot);
	((Sink *) self)->rows++;
	return true;
}

static void
sink_nothing(DestReceiver *self)
{
}

static int
compare_float8(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return (x > y) - (x < y);
}

/* The rows that a query gives, as parameters of a statement that returns rows. */
static ParamListInfo *
make_parameters(const char *query, Oid **types, int *nparams, uint64 *n)
{
	ParamListInfo *lists;
	TupleDesc desc;

	if (SPI_execute(query, true, 0) != SPI_OK_SELECT || SPI_processed == 0)
		elog(ERROR, "no parameters");
	desc = SPI_tuptable->tupdesc;
	*n = SPI_processed;
	*nparams = desc->natts;
	*types = palloc(sizeof(Oid) * desc->natts);
	lists = palloc(sizeof(ParamListInfo) * *n);
	for (int p = 0; p < desc->natts; p++)
		(*types)[p] = SPI_gettypeid(desc, p + 1);
	for (uint64 i = 0; i < *n; i++)
	{
		lists[i] = makeParamList(desc->natts);
		for (int p = 0; p < desc->natts; p++)
		{
			ParamExternData *param = &lists[i]->params[p];

			param->value = SPI_getbinval(SPI_tuptable->vals[i], desc, p + 1, &param->isnull);
			param->pflags = PARAM_FLAG_CONST;
			param->ptype = (*types)[p];
		}
	}
	return lists;
}

/* execute(statement, parameters, times) -> median us, rows of all */
Datum
bench_execute(PG_FUNCTION_ARGS)
{
	char *statement = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int times = PG_GETARG_INT32(2);
	double *us = palloc(sizeof(double) * Max(times, 1));
	Sink sink = {.pub = {sink_receive, sink_startup, sink_nothing, sink_nothing, DestSQLFunction}};
	ParamListInfo *lists;
	SPIExecuteOptions options = {.read_only = false, .dest = &sink.pub};
	SPIPlanPtr plan;
	Oid *types;
	int nparams;
	uint64 n;
	Datum values[2];

	SPI_connect();
	lists = make_parameters(text_to_cstring(PG_GETARG_TEXT_PP(1)), &types, &nparams, &n);
	plan = SPI_prepare(statement, nparams, types);
	if (!plan)
		elog(ERROR, "could not prepare \"%s\"", statement);
	for (int i = 0; i < times; i++)
	{
		int64 start = now_ns();

		options.params = lists[i % n];
		if (SPI_execute_plan_extended(plan, &options) != SPI_OK_SELECT)
			elog(ERROR, "the statement returns no rows");
		us[i] = (now_ns() - start) / 1000.0;
		CHECK_FOR_INTERRUPTS();
	}
	SPI_finish();
	qsort(us, times, sizeof(double), compare_float8);
	values[0] = Float8GetDatum(us[times / 2]);
	values[1] = Int64GetDatum(sink.rows);
	return make_row(fcinfo, values);
}
