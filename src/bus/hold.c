/*-------------------------------------------------------------------------
 *
 * hold.c
 *		Consumers that keep a log from forgetting what they have not done.
 *
 * A durable log asks before a segment expires: it stays while a consumer with a hold
 * is not through with it, unless more is stored from there on than the hold says.
 * A memory log is told by its consumers instead how far they are (claim.c), since its
 * publishers have no time to ask; this begins when its rings are made.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/hold.h"

#include "bus/consumer.h"

#include "miscadmin.h"

uint64
hold_from(ConsumerShard *slot)
{
	uint64 seq;

	SpinLockAcquire(&slot->lock);
	seq = slot->first_retry > 0 ? Min(slot->position, slot->first_retry - 1) : slot->position;
	SpinLockRelease(&slot->lock);
	return seq;
}

static bool
is_needed(NbLog *log, const uint64 *last_seqs, uint64 bytes)
{
	static bool loaded = false;
	int count;
	ConsumerShared **list;
	bool needed = false;

	/* The worker asks, before any consumer may have been used. */
	if (!loaded)
		consumer_load();
	loaded = true;
	list = consumer_list(&count);
	for (int i = 0; i < count && !needed; i++)
	{
		int64 hold = pg_atomic_read_u64(&list[i]->hold);

		if (list[i]->relid != log->relid || hold == 0 ||
			(hold != CONSUMER_UNLIMITED && bytes > hold))
			continue;
		for (int shard = 0; shard < Min(list[i]->shards, log->options.shards); shard++)
			needed |= hold_from(&list[i]->shard[shard]) < last_seqs[shard];
	}
	pfree(list);
	return needed;
}

static void
begin_holds(NbLog *log)
{
	int count;
	ConsumerShared **list;

	consumer_load();
	list = consumer_list(&count);
	for (int i = 0; i < count; i++)
		if (list[i]->relid == log->relid && pg_atomic_read_u64(&list[i]->hold) != 0)
			for (int shard = 0; shard < Min(list[i]->shards, log->options.shards); shard++)
				(void) ring_set_hold(log_ring(log->shared, shard), pg_atomic_read_u64(&list[i]->id),
									 hold_from(&list[i]->shard[shard]));
	pfree(list);
}

void
hold_init(void)
{
	nb_log_needed_hook = is_needed;
	nb_log_made_hook = begin_holds;
}
