/*-------------------------------------------------------------------------
 *
 * consumer_stat.c
 *		The rows of netbus.stat_consumer: a row for each shard of each consumer.
 *
 * What is in shared memory is copied under the slot's lock.  On a standby there is
 * nothing: there the rows of tables tell the positions, and nothing else is known.
 * A log that somebody has locked is left out, for a view must not wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/consumer.h"
#include "bus/reader.h"

#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define COLUMNS 19

PG_FUNCTION_INFO_V1(netbus_stat_consumer);

/* Where a log's shard is, for the lag of all its consumers. */
typedef struct ShardEnds
{
	uint64 head;
	uint64 floor;
} ShardEnds;

static ShardEnds
shard_ends(NbLog *log, int shard)
{
	Ring *ring = log_ring(log->shared, shard);
	ShardEnds ends;

	ends.head = reader_head(log, shard);
	ends.floor = pg_atomic_read_u64(nb_log_durable(log) ? &ring->log_floor : &ring->floor_seq);
	return ends;
}

/* The time of the first event behind a seq, of 1970; 0: there is none. */
static int64
oldest_unread(NbLog *log, int shard, uint64 after_seq)
{
	int damaged = nb_damaged_frames;
	volatile int64 ts = 0;
	Reader reader;
	ReaderEvent event;

	/* Damage is for readers to report: a view shows what it can. */
	nb_damaged_frames = NB_DAMAGED_SKIP;
	PG_TRY();
	{
		reader_open(&reader, log, shard, after_seq);
		if (reader_next(&reader, 1, &event))
			ts = event.ts;
		reader_close(&reader);
	}
	PG_FINALLY();
	{
		nb_damaged_frames = damaged;
	}
	PG_END_TRY();
	return ts;
}

static void
put_row(ReturnSetInfo *rsinfo, NbLog *log, const Consumer *options, int shard,
		const ConsumerShard *slot, const ConsumerShared *shared)
{
	ShardEnds ends = shard_ends(log, shard);
	uint64 from = Max(slot->position + 1, ends.floor) - 1;
	uint64 behind = ends.head > from ? ends.head - from : 0;
	/* What comes again, or is done, out of turn does not lag. */
	uint64 lag = behind - Min(behind, slot->ahead);
	int64 oldest = lag > 0 ? oldest_unread(log, shard, slot->position) : 0;
	Datum values[COLUMNS] = {0};
	bool nulls[COLUMNS] = {0};
	int n = 0;

	values[n++] = CStringGetTextDatum(log->name);
	values[n++] = CStringGetTextDatum(NameStr(options->key.name));
	values[n++] = CStringGetTextDatum(GetUserNameFromId(options->owner, true)
										  ? GetUserNameFromId(options->owner, true)
										  : "unknown");
	values[n++] = Int32GetDatum(shard);
	values[n++] = Int64GetDatum(slot->position);
	values[n++] = Int64GetDatum(lag);
	nulls[n] = oldest == 0 && lag > 0;
	values[n++] = Float8GetDatum(oldest == 0 ? 0 : Max(0, nb_now_us() - oldest) / 1e6);
	nulls[n] = slot->holder < 0;
	values[n++] = Int32GetDatum(slot->holder_pid);
	nulls[n] = slot->holder < 0;
	values[n++] = TimestampTzGetDatum(NB_EPOCH_TO_TIMESTAMPTZ(slot->held_since));
	values[n++] =
		Int32GetDatum(shared ? pg_atomic_read_u32((pg_atomic_uint32 *) &shared->waiting) : 0);
	values[n++] = BoolGetDatum(options->paused);
	values[n++] = Int32GetDatum(slot->nretries - slot->settled);
	/* Counters are those of the server that consumes. */
	for (int i = n; !shared && i < n + 6; i++)
		nulls[i] = true;
	values[n++] = Int64GetDatum(slot->counters.deliveries);
	values[n++] = Int64GetDatum(slot->counters.redeliveries);
	values[n++] = Int64GetDatum(slot->counters.acknowledged);
	values[n++] = Int64GetDatum(slot->counters.filtered);
	values[n++] = Int64GetDatum(slot->counters.dead_letters);
	values[n++] = Int64GetDatum(slot->counters.lost);
	nulls[n] = lag == 0 || !shared;
	values[n++] = TimestampTzGetDatum(NB_EPOCH_TO_TIMESTAMPTZ(Max(slot->advanced_at, oldest)));
	Assert(n == COLUMNS);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static ConsumerShared *
find_shared(ConsumerShared **list, int count, uint64 id)
{
	for (int i = 0; i < count; i++)
		if (pg_atomic_read_u64(&list[i]->id) == id)
			return list[i];
	return NULL;
}

static void
put_consumer(ReturnSetInfo *rsinfo, const ProgressConsumer *consumer, ConsumerShared *shared)
{
	NbLog *log = nb_log_peek(consumer->options.key.relid);

	for (int shard = 0; log && shard < Min(consumer->shards, log->options.shards); shard++)
	{
		ConsumerShard slot = {.holder = -1};

		if (shared)
		{
			SpinLockAcquire(&shared->shard[shard].lock);
			slot = shared->shard[shard];
			SpinLockRelease(&shared->shard[shard].lock);
		}
		else
		{
			const ProgressShard *state = &consumer->shard[shard];

			slot.position = state->position;
			slot.nretries = state->nretries;
			for (int i = 0; i < state->nretries; i++)
			{
				slot.ahead += state->retries[i].retry.seq > state->position;
				slot.settled += state->retries[i].retry.due == CONSUMER_NEVER;
			}
		}
		put_row(rsinfo, log, &consumer->options, shard, &slot, shared);
	}
	if (log)
		UnlockRelationOid(log->relid, AccessShareLock);
}

/* Without the tables' positions, of consumers that are in shared memory. */
static void
note_consumer(const Consumer *options, const uint64 *starts, int shards, TransactionId creator,
			  void *arg)
{
	ProgressConsumer *consumer = palloc0(sizeof(ProgressConsumer));
	List **list = arg;

	consumer->id = options->id;
	consumer->options = *options;
	consumer->shards = shards;
	*list = lappend(*list, consumer);
}

void
consumer_stats_reset(void)
{
	int count;
	ConsumerShared **list;

	if (RecoveryInProgress())
		return; /* where there are no counters */
	consumer_load();
	list = consumer_list(&count);
	for (int i = 0; i < count; i++)
		for (int shard = 0; shard < list[i]->shards; shard++)
		{
			ConsumerShard *slot = &list[i]->shard[shard];

			SpinLockAcquire(&slot->lock);
			memset(&slot->counters, 0, sizeof(slot->counters));
			SpinLockRelease(&slot->lock);
		}
}

Datum
netbus_stat_consumer(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	nb_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	if (RecoveryInProgress())
	{
		HASH_SEQ_STATUS status;
		ProgressConsumer *consumer;

		hash_seq_init(&status, progress_read(false));
		while ((consumer = hash_seq_search(&status)) != NULL)
			put_consumer(rsinfo, consumer, NULL);
	}
	else
	{
		List *consumers = NIL;
		ListCell *lc;
		int count;
		ConsumerShared **list;

		consumer_load();
		list = consumer_list(&count);
		consumer_catalog_scan(note_consumer, &consumers);
		foreach(lc, consumers)
		{
			ProgressConsumer *consumer = lfirst(lc);
			ConsumerShared *shared = find_shared(list, count, consumer->id);

			if (shared)
				put_consumer(rsinfo, consumer, shared);
		}
	}
	return (Datum) 0;
}
