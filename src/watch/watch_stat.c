/*-------------------------------------------------------------------------
 *
 * watch_stat.c
 *		The rows of netbus.stat_watch: what became of each watch.
 *
 * Whose watches a role sees is for the view to say.  What is in shared memory is copied
 * under the lock of the watch, one after the other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "watch/watch.h"

#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define COLUMNS 14

PG_FUNCTION_INFO_V1(netbus_stat_watch);

static void
put_time(Datum *value, bool *null, int64 us)
{
	*null = us == 0;
	*value = TimestampTzGetDatum(NB_EPOCH_TO_TIMESTAMPTZ(us));
}

static void
put_row(const WatchRow *row, void *arg)
{
	ReturnSetInfo *rsinfo = arg;
	WatchShared *shared = watch_shared_of(row, false);
	WatchShared copy;
	DeltaRing *ring = NULL;
	int64 kept = 0;
	int64 kept_bytes = 0;
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {0};
	int n = 0;

	if (shared)
	{
		copy = *shared;
		if (DsaPointerIsValid(dsa_pointer_atomic_read(&shared->deltas)))
		{
			ring = dsa_get_address(watch_area(), dsa_pointer_atomic_read(&shared->deltas));
			kept = ring->count;
			kept_bytes = delta_ring_bytes(ring->size);
		}
		watch_shared_release(shared);
	}
	values[n++] = Int64GetDatum(row->id);
	values[n++] =
		CStringGetTextDatum(shared && pg_atomic_read_u32(&copy.active) ? "active" : "starting");
	if (!shared)
		memset(nulls + n, true, COLUMNS - n);
	else
	{
		values[n++] = Int64GetDatum(pg_atomic_read_u64(&copy.matches));
		values[n++] = Int64GetDatum(pg_atomic_read_u64(&copy.notifications));
		values[n++] = Int64GetDatum(pg_atomic_read_u64(&copy.coalesced));
		values[n++] = Int64GetDatum(pg_atomic_read_u64(&copy.overflows));
		values[n++] = Int64GetDatum(pg_atomic_read_u64(&copy.resyncs));
		put_time(&values[n], &nulls[n], pg_atomic_read_u64(&copy.notified_at));
		n++;
		values[n++] = Int64GetDatum(pg_atomic_read_u64(&copy.errors));
		nulls[n] = copy.error_at == 0;
		values[n++] = CStringGetTextDatum(copy.last_error);
		put_time(&values[n], &nulls[n], copy.error_at);
		n++;
		values[n++] = Int64GetDatum(kept);
		values[n++] = Int64GetDatum(kept_bytes);
		put_time(&values[n], &nulls[n], pg_atomic_read_u64(&copy.pulled_at));
		n++;
		Assert(n == COLUMNS);
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Rows of the view stat_watch. */
Datum
netbus_stat_watch(PG_FUNCTION_ARGS)
{
	nb_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	if (!RecoveryInProgress())
		(void) watch_catalog_scan(NULL, put_row, fcinfo->resultinfo);
	return (Datum) 0;
}

static void
reset_watch(const WatchRow *row, void *arg)
{
	WatchShared *shared = watch_shared_of(row, true);

	if (!shared)
		return;
	pg_atomic_write_u64(&shared->matches, 0);
	pg_atomic_write_u64(&shared->notifications, 0);
	pg_atomic_write_u64(&shared->coalesced, 0);
	pg_atomic_write_u64(&shared->overflows, 0);
	pg_atomic_write_u64(&shared->resyncs, 0);
	pg_atomic_write_u64(&shared->errors, 0);
	watch_shared_release(shared);
}

void
watch_stats_reset(void)
{
	if (!RecoveryInProgress())
		(void) watch_catalog_scan(NULL, reset_watch, NULL);
}
