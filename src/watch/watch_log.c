/*-------------------------------------------------------------------------
 *
 * watch_log.c
 *		Watches of logs: which new events match, and telling how far.
 *
 * The worker reads a watched log once for all its watches, as any reader does, and asks
 * of each event the filters that it may pass (log_index.c).  A watch is told per shard
 * the first and the last seq that matched, and how many events did.
 *
 * Up to where a watch has been told is in shared memory (WatchShared.positions): the log
 * itself keeps what was published, so a worker that takes over reads on from there and
 * loses nothing.  After a start of the server reading begins with what is new, and the
 * watch is told so; likewise where the log does not reach as far as the watch has been
 * told, as when a dump has brought the watch but no events of a memory log.
 *
 * Locks: AccessShareLock on the log's table while it is read, only if it is free at once.
 * Positions are written by the worker without a lock, and read by its successor.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "watch/watch.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "bus/reader.h"

#define SLICE_US      20000
#define CHECK_EVERY   128 /* events between two looks at the clock */
#define LOCK_RETRY_MS 20
#define COPY_POLL_MS  100 /* of a log that a subscription fills */
#define MOVE_EVERY_US 1000000
#define MIN_RETRY_MS  100
#define MAX_RETRY_MS  10000
#define FROM_HEAD     PG_UINT64_MAX /* a position: what is new when the log is first read */

/* What a watch has to be told of its log. */
typedef struct LogTelling
{
	uint64 events;
	struct
	{
		uint64 from;  /* events up to here are not for it */
		uint64 first; /* 0: none */
		uint64 last;
	} shard[FLEXIBLE_ARRAY_MEMBER];
} LogTelling;

/* How far a log has been read. */
typedef struct LogReading
{
	NbLog *log; /* as it was in */
	uint64 generation;
	bool begun;
	int64 retry_at;
	int retry_delay;
	long next;      /* of the run that is going on: when to come again */
	bool to_move;   /* something was read since */
	int64 moved_at; /* positions of those who had nothing to be told were last moved */
	int shards;
	uint64 read_to[FLEXIBLE_ARRAY_MEMBER];
} LogReading;

/* --------------------------------------------------------------- watches */

static uint64 *
positions_of(const Watch *watch)
{
	return dsa_get_address(watch_area(), watch->shared->positions);
}

/* known: a former worker has served it. */
void
watch_log_add(Watch *watch, bool known)
{
	WatchedLog *log = watch->log;
	WatchShared *shared = watch->shared;
	int shards = watch->row.nstarts;
	LogTelling *telling = palloc0(offsetof(LogTelling, shard) + shards * sizeof(telling->shard[0]));
	bool kept = known && DsaPointerIsValid(shared->positions) && shared->shards == shards;
	LogReading *reading = log->reading;
	bool anew = false;

	if (!kept)
	{
		dsa_pointer positions =
			dsa_allocate_extended(watch_area(), shards * sizeof(uint64), DSA_ALLOC_NO_OOM);

		if (!DsaPointerIsValid(positions))
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("no memory for another watch"),
							errhint("Raise netbus.watch_memory.")));
		if (DsaPointerIsValid(shared->positions))
			dsa_free(watch_area(), shared->positions);
		shared->positions = positions;
		shared->shards = shards;
		for (int i = 0; i < shards; i++)
			positions_of(watch)[i] =
				watch->row.created < watch_life_began() ? FROM_HEAD : watch->row.starts[i];
	}
	if (!reading)
	{
		reading = MemoryContextAllocZero(TopMemoryContext,
										 offsetof(LogReading, read_to) + shards * sizeof(uint64));
		reading->shards = shards;
		for (int i = 0; i < shards; i++)
			reading->read_to[i] = PG_UINT64_MAX;
		log->reading = reading;
	}
	for (int i = 0; i < shards; i++)
	{
		uint64 *position = &positions_of(watch)[i];

		if (reading->begun && *position == FROM_HEAD && i < reading->shards)
		{
			*position = reading->read_to[i];
			anew = true;
		}
		telling->shard[i].from = *position;
		if (!reading->begun && i < reading->shards)
			reading->read_to[i] = Min(reading->read_to[i], *position);
	}
	watch->telling = telling;
	log_index_forget(log);
	if (anew)
		watch_lose(watch, 0);
}

void
watch_log_remove(Watch *watch)
{
	watch->telling = NULL; /* its memory goes with the context */
	if (watch->log)
		log_index_forget(watch->log);
}

void
watch_log_free(WatchedLog *log)
{
	if (log->reading)
		pfree(log->reading);
	log->reading = NULL;
	log_index_forget(log);
}

bool
watch_log_begun(const Watch *watch)
{
	return watch->log->reading->begun;
}

bool
watch_log_idle(const Watch *watch)
{
	return watch->telling->events == 0;
}

void
watch_log_seqs(const Watch *watch, StringInfo payload)
{
	const LogTelling *telling = watch->telling;
	bool first = true;

	if (watch->lost)
	{
		/* Whatever comes later it is told. */
		appendStringInfoString(payload, ",\"resync\":true,\"seq\":{");
		for (int i = 0; i < watch->log->reading->shards; i++)
			appendStringInfo(payload, "%s\"%d\":\"" UINT64_FORMAT "\"", i == 0 ? "" : ",", i,
							 watch->log->reading->read_to[i]);
		appendStringInfoChar(payload, '}');
		return;
	}
	appendStringInfo(payload, ",\"events\":\"" UINT64_FORMAT "\",\"seq\":{", telling->events);
	for (int i = 0; i < watch->row.nstarts; i++)
	{
		if (telling->shard[i].first == 0)
			continue;
		appendStringInfo(payload, "%s\"%d\":[\"" UINT64_FORMAT "\",\"" UINT64_FORMAT "\"]",
						 first ? "" : ",", i, telling->shard[i].first, telling->shard[i].last);
		first = false;
	}
	appendStringInfoChar(payload, '}');
}

/* All that has been read is told. */
static void
move_positions(Watch *watch)
{
	const LogReading *reading = watch->log->reading;
	uint64 *positions = positions_of(watch);

	for (int i = 0; i < watch->row.nstarts && i < reading->shards; i++)
		if (reading->begun)
			positions[i] = Max(positions[i], reading->read_to[i]);
}

void
watch_log_told(Watch *watch)
{
	LogTelling *telling = watch->telling;

	telling->events = 0;
	for (int i = 0; i < watch->row.nstarts; i++)
		telling->shard[i].first = telling->shard[i].last = 0;
	move_positions(watch);
}

/* --------------------------------------------------------------- reading */

/* When the log is read for the first time: where do those begin that it does not reach? */
static void
begin_reading(WatchedLog *log)
{
	LogReading *reading = log->reading;

	for (int s = 0; s < reading->shards && s < reading->log->options.shards; s++)
	{
		uint64 head = reader_head(reading->log, s);

		reading->read_to[s] = Min(reading->read_to[s], head);
		for (int i = 0; i < log->nwatches; i++)
		{
			Watch *watch = log->watches[i];

			if (!watch->telling || s >= watch->row.nstarts || watch->telling->shard[s].from <= head)
				continue;
			watch->telling->shard[s].from = positions_of(watch)[s] = head;
			watch->lost = true;
		}
	}
	reading->begun = true;
	for (int i = 0; i < log->nwatches; i++)
		if (log->watches[i]->telling && log->watches[i]->lost)
			watch_lose(log->watches[i], 0);
}

/* An event: does it concern this watch? */
static void
match_event(Watch *watch, int shard, const ReaderEvent *event)
{
	LogTelling *telling = watch->telling;
	WatchShared *shared = watch->shared;

	if (shard >= watch->row.nstarts || event->seq <= telling->shard[shard].from)
		return;
	telling->shard[shard].from = event->seq;
	if (watch->event_filter && !filter_match(watch->event_filter, event->flags,
											 event->event.payload, event->event.payload_len))
		return;
	pg_atomic_fetch_add_u64(&shared->matches, 1);
	if (telling->events++ > 0)
		pg_atomic_fetch_add_u64(&shared->coalesced, 1);
	if (telling->shard[shard].first == 0)
		telling->shard[shard].first = event->seq;
	telling->shard[shard].last = event->seq;
	if (!watch->queued)
		notify_queue(watch, nb_now_us() + watch->row.debounce);
}

/* Events were gone before we came to them. */
static void
lose_events(WatchedLog *log)
{
	for (int i = 0; i < log->nwatches; i++)
		if (log->watches[i]->telling)
			watch_lose(log->watches[i], 0);
}

/* Read a shard until the deadline.  True: all that there was. */
static bool
read_shard(WatchedLog *log, int shard, int64 deadline)
{
	LogReading *reading = log->reading;
	NbLog *source = reading->log;
	uint64 head = reader_head(source, shard);
	Reader reader;
	ReaderEvent event;
	uint64 n = 0;
	bool done = true;

	if (head <= reading->read_to[shard])
		return true;
	reader_open(&reader, source, shard, reading->read_to[shard]);
	while (reader_next(&reader, UINT32_MAX, &event))
	{
		if (watch_must_load())
		{
			reader_unread(&reader);
			done = false;
			break;
		}
		log_index_match(log, &event, match_event, shard);
		reading->read_to[shard] = event.seq;
		if (++n % CHECK_EVERY == 0)
		{
			CHECK_FOR_INTERRUPTS();
			if (nb_now_us() >= deadline)
			{
				done = false;
				break;
			}
		}
	}
	if (reader.lost > 0)
		lose_events(log);
	reading->read_to[shard] =
		Max(reading->read_to[shard], done ? Max(head, reader.after_seq) : reader.after_seq);
	reader_close(&reader);
	return done;
}

static void
read_log(void *arg)
{
	WatchedLog *log = arg;
	LogReading *reading = log->reading;
	int64 deadline = nb_now_us() + SLICE_US;
	int damaged = nb_damaged_frames;
	const char *name;

	reading->log = NULL;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!ConditionalLockRelationOid(log->relid, AccessShareLock))
		reading->next = LOCK_RETRY_MS;
	else if ((name = nb_log_name_of(log->relid)) != NULL)
	{
		reading->log = nb_log_open(name, AccessShareLock, ACL_SELECT);
		reading->generation = nb_log_generation;
		/* From here on publishers call us; what they did before, we see now. */
		pg_atomic_write_u32(&reading->log->shared->folded, 1);
		pg_memory_barrier();
		nb_damaged_frames = NB_DAMAGED_SKIP;
		PG_TRY();
		{
			if (!reading->begun)
				begin_reading(log);
			for (int s = 0; s < reading->shards && s < reading->log->options.shards; s++)
				if (!read_shard(log, s, deadline))
					reading->next = 0;
		}
		PG_FINALLY();
		{
			nb_damaged_frames = damaged;
		}
		PG_END_TRY();
		if (reading->next < 0 && !nb_log_live(reading->log))
			reading->next = COPY_POLL_MS;
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* Without a transaction: is there nothing to read? */
static bool
nothing_new(const LogReading *reading)
{
	NbLog *source = reading->log;

	if (!source || reading->generation != nb_log_generation || !source->valid || !source->shared ||
		!nb_log_live(source) || !reading->begun || pg_atomic_read_u32(&source->shared->folded) == 0)
		return false;
	for (int s = 0; s < reading->shards && s < source->options.shards; s++)
		if (pg_atomic_read_u64(&log_ring(source->shared, s)->stable_seq) > reading->read_to[s])
			return false;
	return true;
}

/*
 * Those who have nothing to be told have been told up to here.  Only a worker that takes over
 * wants to know, who would otherwise read more: so not at every event.
 */
static void
move_idle(WatchedLog *log, int64 now)
{
	for (int i = 0; i < log->nwatches; i++)
		if (log->watches[i]->telling && log->watches[i]->telling->events == 0)
			move_positions(log->watches[i]);
	log->reading->moved_at = now;
	log->reading->to_move = false;
}

static long
move_in(const LogReading *reading, int64 now)
{
	return Max(reading->moved_at + MOVE_EVERY_US - now, 0) / 1000 + 1;
}

long
watch_log_run(WatchedLog *log)
{
	LogReading *reading = log->reading;
	int64 now = nb_now_us();
	char *message;

	if (reading->to_move && now - reading->moved_at >= MOVE_EVERY_US)
		move_idle(log, now);
	if (nothing_new(reading))
		return reading->to_move ? move_in(reading, now) : -1;
	if (reading->retry_at > now)
		return (reading->retry_at - now) / 1000 + 1;
	reading->next = -1;
	message = watch_guarded(read_log, log);
	if (message)
	{
		for (int i = 0; i < log->nwatches; i++)
			if (log->watches[i]->telling)
				watch_note_error(log->watches[i], message);
		reading->retry_delay = Min(Max(reading->retry_delay * 2, MIN_RETRY_MS), MAX_RETRY_MS);
		reading->retry_at = now + (int64) reading->retry_delay * 1000;
		return reading->retry_delay;
	}
	reading->retry_delay = 0;
	reading->retry_at = 0;
	reading->to_move = true;
	return reading->next >= 0 ? Min(reading->next, move_in(reading, now)) : move_in(reading, now);
}
