/*-------------------------------------------------------------------------
 *
 * publisher.c
 *		Publishing joins the transaction.
 *
 * publish() only appends to builders in private memory: what can wait or fail
 * for want of rights or size does so here, holding nothing but a lock on the
 * log's table.  At pre-commit, after deferred triggers and before anything
 * irrevocable, every builder claims its seqs and bytes and copies its frames;
 * an error there still rolls the transaction back.  At commit or abort the
 * claims are resolved, which cannot fail: PostgreSQL turns an error after the
 * commit record into a PANIC.  The commit callback runs when the transaction
 * has left the ProcArray and before its locks are released, so whoever sees the
 * events also sees the rows, and the log cannot be dropped in between.
 * (As async.c divides the work of NOTIFY.)
 *
 * Events that do not wait for the transaction are claimed, copied and resolved
 * by the call itself.
 *
 * A log created or dropped by the transaction needs no special care: the lock
 * it holds keeps others out, and at pre-commit we look whether it still exists.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/publisher.h"

#include "bus/backpressure.h"
#include "bus/claim.h"
#include "bus/consumer.h"
#include "bus/hold.h"
#include "bus/receive.h"
#include "redex/store.h"

#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

static Publisher *enlisted = NULL;  /* publishers of this transaction */
static bool precommit_done = false; /* nothing may be published any more */

static Publisher *
publisher_of(NbLog *log)
{
	Publisher *publisher = log->publisher;
	Ring *ring = log_ring(log->shared, 0);
	BuilderLimits *limits;

	if (!publisher)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
		int shards = log->shared->shards;
		Publisher *made = palloc0(sizeof(Publisher));

		made->log = log;
		made->builders = palloc0(shards * sizeof(Builder));
		made->immediate = palloc0(shards * sizeof(Builder));
		for (int i = 0; i < shards; i++)
		{
			made->builders[i].limits = &made->limits;
			made->immediate[i].limits = &made->immediate_limits;
			made->builders[i].shard = made->immediate[i].shard = i;
			made->builders[i].level = made->immediate[i].level = 1;
		}
		MemoryContextSwitchTo(old);
		log->publisher = publisher = made;
	}

	limits = &publisher->limits;
	limits->log = log;
	limits->flags = log->options.format == LOG_FORMAT_JSONB ? FRAME_JSONB : 0;
	limits->transactional = true;
	limits->rows_all = log->options.durability == LOG_COMMIT;
	limits->max_frame = limits->max_single = ring->max_frame;
	limits->max_bytes = ring->size / 4;
	limits->keep_newest = log->options.backpressure == LOG_DROP_OLDEST;
	limits->claim_flags = limits->keep_newest ? RING_MAY_SKIP | RING_MAY_LOSE : 0;
	limits->policed =
		log->options.backpressure == LOG_DROP_NEWEST || log->options.backpressure == LOG_SAMPLE;
	limits->throttled =
		log->options.backpressure == LOG_BLOCK || log->options.backpressure == LOG_FAIL;
	if (nb_log_durable(log))
		limits->max_frame = Min(ring->max_frame, STORE_ROW_BYTES);
	publisher->immediate_limits = *limits;
	publisher->immediate_limits.transactional = false;
	if (nb_log_durable(log))
	{
		/* What the ring does not take goes by way of the table. */
		limits->max_frame = STORE_ROW_BYTES;
		limits->max_single = FRAME_MAX_LENGTH - 1;
		limits->max_bytes = PG_UINT64_MAX / 2;
		limits->keep_newest = false;
		limits->claim_flags |= RING_MAY_SKIP | RING_TO_TABLE;
	}
	return publisher;
}

/* redex forgets a log: nothing of ours is in use, or it would be pinned. */
static void
publisher_free(NbLog *log)
{
	Publisher *publisher = log->publisher;

	if (!publisher)
		return;
	for (int i = 0; i < log->options.shards; i++)
	{
		if (publisher->builders[i].marks)
			pfree(publisher->builders[i].marks);
		if (publisher->immediate[i].marks)
			pfree(publisher->immediate[i].marks);
	}
	pfree(publisher->builders);
	pfree(publisher->immediate);
	pfree(publisher);
	log->publisher = NULL;
}

Publisher *
publisher_open(const char *log_name)
{
	NbLog *log;
	Publisher *publisher;
	int context;
	Oid user;

	PreventCommandIfReadOnly("netbus.publish()");
	PreventCommandIfParallelMode("netbus.publish()");
	GetUserIdAndSecContext(&user, &context);
	if (context & SECURITY_RESTRICTED_OPERATION)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot publish to log \"%s\" within a security-restricted operation",
						log_name)));
	if (precommit_done)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot publish to log \"%s\" while the transaction is being committed",
						log_name)));

	log = nb_log_open(log_name, RowExclusiveLock, ACL_INSERT);
	if (log->copy)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot publish to log \"%s\": it is a copy that a subscription fills",
						log_name),
				 errhint("Publish where it comes from, or drop the subscription.")));
	publisher = publisher_of(log);
	publisher->user = user;

	/* The first since the server's start: better wait for WAL here than while committing. */
	if (unlikely(pg_atomic_read_u64(&log->shared->bound) == 0))
		nb_log_raise_bound(log, 1);
	if (!publisher->enlisted)
	{
		publisher->lock_level = GetCurrentTransactionNestLevel();
		publisher->keyless_shard = -1;
		publisher->enlisted = true;
		/* Still listed if a rolled back savepoint took only its lock. */
		for (Publisher *p = enlisted; p; p = p->next)
			if (p == publisher)
				return publisher;
		nb_log_pin(log);
		publisher->next = enlisted;
		enlisted = publisher;
	}
	return publisher;
}

/*
 * Spread transactions over the shards, and keep the keyless events of each
 * together: a hash of the process and of how many transactions it has spread.
 */
void
publisher_choose_shard(Publisher *publisher)
{
	static uint64 transactions = 0;
	uint64 seed[2] = {(uint64) MyProcPid, transactions++};
	uint64 high = nb_hash64(seed, sizeof(seed), 0) >> 32;

	publisher->keyless_shard = (high * (uint32) publisher->log->options.shards) >> 32;
}

Jsonb *
publisher_parse_json(const char *text, int len)
{
	char *string = pnstrdup(text, len);
	Jsonb *result = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(string)));

	pfree(string);
	return result;
}

void
publisher_check_key(uint32 key_len)
{
	if (key_len > FRAME_MAX_KEY)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("key of %u bytes is too long", key_len),
						errdetail("A key has at most %d bytes.", FRAME_MAX_KEY)));
}

void
publisher_too_large(uint64 payload_len)
{
	ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					errmsg("event of %llu bytes is too large", (unsigned long long) payload_len),
					errdetail("netbus.max_event_size is %d kB.", nb_max_event_size)));
}

void
publisher_refuse_immediate(const Publisher *publisher)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("log \"%s\" takes events with their transaction only", publisher->log->name),
			 errdetail("Its durability is \"commit\"."),
			 errhint("Leave out \"transactional => false\", or use a log with durability "
					 "\"async\" or \"memory\".")));
}

bool
publisher_admit(const Builder *builder, uint32 key_len, uint32 payload_len)
{
	return backpressure_admit(builder->limits, builder->shard,
							  builder->closed_bytes +
								  (builder->last ? chunk_frame_size(builder->last) : 0) +
								  frame_size(1, (uint64) payload_len + key_len + sizeof(uint16)));
}

bool
publisher_append_small(Publisher *publisher, int shard, const char *key, uint32 key_len,
					   const void *payload, uint32 payload_len)
{
	union
	{
		FrameHeader header;
		char bytes[RING_SMALL];
	} frame;
	Ring *ring = log_ring(publisher->log->shared, shard);
	uint32 body_len = payload_len + (key ? sizeof(uint16) + key_len : 0);
	uint32 length = frame_size(1, body_len);
	char *body;
	uint64 hash;
	RingResult result;
	int64 deadline = 0;
	const BuilderLimits *limits = &publisher->immediate_limits;

	frame.header.flags = limits->flags | (key ? FRAME_KEYS : 0);
	frame.header.count = 1;
	frame.header.body_bytes = body_len;
	*frame_offsets(&frame.header) = body_len;
	body = frame_bodies(&frame.header);
	if (key)
	{
		uint16 prefix = key_len;

		memcpy(body, &prefix, sizeof(prefix));
		memcpy(body + sizeof(prefix), key, key_len);
		memcpy(body + sizeof(prefix) + key_len, payload, payload_len);
	}
	else
		memcpy(body, payload, payload_len);
	memset(body + body_len, 0, frame.bytes + length - (body + body_len));
	hash = frame_hash_offsets(frame_offsets(&frame.header), 1, frame_hash_bodies(body, body_len));

	if (unlikely(publisher->limits.rows_all))
		publisher_refuse_immediate(publisher);
	if (unlikely(limits->policed) && !backpressure_admit(limits, shard, length))
		return false;
	ring_map(ring, &publisher->log->local[shard].mapped, length);
	while ((result = ring_append_small(ring, &frame.header, length, hash, limits->claim_flags)) !=
		   RING_OK)
	{
		if (result == RING_SEQ_LIMIT)
			nb_log_raise_bound(publisher->log, ring->next_seq + 1);
		else if (!backpressure_full(limits, shard, length, 1, &deadline))
			return false;
	}
	if (publisher->log->options.durability == LOG_ASYNC)
		nb_log_notice_events(publisher->log, shard);
	return true;
}

int
publisher_append_fixed(Publisher *publisher, bool transactional, const char *payloads,
					   uint32 payload_len, int n)
{
	Builder *builder =
		publisher_builder(publisher, transactional, publisher_shard(publisher, NULL, 0));
	int level = publisher_level(transactional);
	Chunk *chunk;
	uint64 room;

	if (builder->limits->policed)
		return 0;
	/* The first event of a chunk goes the general way, which makes the chunk. */
	if (!builder->last || level != builder->level)
	{
		builder->expected = (payload_len + sizeof(uint32)) * (uint64) n;
		return 0;
	}
	chunk = builder->last;
	if (chunk->hashed || (chunk->flags & FRAME_KEYS))
		return 0;
	room = chunk->capacity - chunk->body_len - (uint64) chunk->count * sizeof(uint32);
	n = Min((uint64) n, room / (payload_len + sizeof(uint32)));
	if (n == 0)
		return 0;

	memcpy(chunk->data + chunk->body_len, payloads, (Size) payload_len * n);
	for (int i = 0; i < n; i++)
		chunk_end_offset(chunk, chunk->count + i) = chunk->body_len + payload_len * (i + 1);
	chunk->body_len += payload_len * n;
	chunk->count += n;
	builder->appended += n;
	return n;
}

/* Take the builders of a kind off the list of those with events, and empty them. */
static void
reset_dirty(Publisher *publisher, bool immediate_only)
{
	Builder **link = &publisher->dirty;

	while (*link)
	{
		Builder *builder = *link;
		bool immediate = builder == &publisher->immediate[builder->shard];

		if (immediate_only && !immediate)
		{
			link = &builder->next;
			continue;
		}
		*link = builder->next;
		builder->listed = false;
		builder_reset(builder);
	}
}

uint64
publisher_flush_immediate(Publisher *publisher)
{
	uint64 refused = 0;

	for (Builder *builder = publisher->dirty; builder; builder = builder->next)
	{
		if (builder != &publisher->immediate[builder->shard] || builder->appended == 0)
			continue;
		if (!builder_claim(builder))
		{
			refused += builder->appended;
			continue;
		}
		builder->claimed = false;
		ring_resolve(log_ring(publisher->log->shared, builder->shard), true);
		if (publisher->log->options.durability == LOG_ASYNC)
			nb_log_notice_events(publisher->log, builder->shard);
		if (pg_atomic_read_u32(&publisher->log->shared->folded))
			nb_worker_wake(publisher->log->shared->database);
	}
	reset_dirty(publisher, true);
	return refused;
}

/*
 * Claim everything that the transaction publishes, and insert what becomes
 * rows.  May fail.  What may have to wait comes first, so that no claim of ours
 * is pending meanwhile.
 */
static void
claim_all(void)
{
	for (Publisher *publisher = enlisted; publisher; publisher = publisher->next)
	{
		bool rows = publisher->limits.rows_all;

		if (!publisher->dirty || !nb_log_exists(publisher->log))
			continue;
		if (rows)
			(void) GetCurrentTransactionId();
		for (Builder *builder = publisher->dirty; builder; builder = builder->next)
			if (builder->appended > 0)
			{
				builder_prepare(builder, publisher->log);
				rows |= builder_needs_rows(builder);
			}
		if (rows)
			nb_log_lock_rows(publisher->log);
	}
	for (Publisher *publisher = enlisted; publisher; publisher = publisher->next)
	{
		publisher->enlisted = false;
		if (!publisher->dirty || !nb_log_exists(publisher->log))
			continue;
		for (Builder *builder = publisher->dirty; builder; builder = builder->next)
		{
			if (builder->appended == 0 || !builder_claim(builder))
				continue;
			debug_point("copied");
			if (builder_has_rows(builder))
				builder_insert_rows(builder);
		}
	}
	if (enlisted)
		debug_point("claimed");
}

/* Resolve what was claimed, and forget the rest.  Cannot fail. */
static void
resolve_all(bool commit)
{
	Publisher *publisher;

	while ((publisher = enlisted) != NULL)
	{
		NbLog *log = publisher->log;

		for (Builder *builder = publisher->dirty; builder; builder = builder->next)
		{
			if (!builder->claimed)
				continue;
			builder->claimed = false;
			ring_resolve(log_ring(log->shared, builder->shard), commit);
			if (log->options.durability == LOG_ASYNC)
				nb_log_notice_events(log, builder->shard);
			else if (log->options.durability == LOG_COMMIT && (!commit || log->ntables > 1))
				nb_log_notice(log, LOG_WORK); /* a hole to seal, rows to retain */
			if (pg_atomic_read_u32(&log->shared->folded))
				nb_worker_wake(log->shared->database);
		}
		reset_dirty(publisher, false);
		publisher->enlisted = false;
		nb_log_unpin(log);
		enlisted = publisher->next;
	}
	builder_trim_memory();
}

static void
bus_xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			precommit_done = true;
			claim_precommit(); /* may wait for a lock: while no claim of ours is pending */
			claim_all();
			break;
		case XACT_EVENT_COMMIT:
			debug_point_noerror("commit");
			/* FALLTHROUGH */
		case XACT_EVENT_ABORT:
			if (enlisted)
				resolve_all(event == XACT_EVENT_COMMIT);
			claim_xact_end(event == XACT_EVENT_COMMIT);
			backpressure_end_wait();
			receive_end_wait();
			precommit_done = false;
			break;
		case XACT_EVENT_PRE_PREPARE:
			claim_check_prepare();
			if (enlisted)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has published to a log")));
			break;
		default:
			break;
	}
}

static void
bus_subxact_callback(SubXactEvent event, SubTransactionId my, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		backpressure_end_wait();
		receive_end_wait();
	}
	if (event == SUBXACT_EVENT_COMMIT_SUB || event == SUBXACT_EVENT_ABORT_SUB)
		claim_subxact_end(level, event == SUBXACT_EVENT_COMMIT_SUB);
	if (!enlisted || (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB))
		return;
	for (Publisher *publisher = enlisted; publisher; publisher = publisher->next)
	{
		for (Builder *builder = publisher->dirty; builder; builder = builder->next)
			builder_end_level(builder, level, event == SUBXACT_EVENT_COMMIT_SUB);
		if (publisher->lock_level >= level)
		{
			if (event == SUBXACT_EVENT_COMMIT_SUB)
				publisher->lock_level = level - 1;
			else
				publisher->enlisted = false; /* the lock is gone: open it again */
		}
		/* A call that failed half-way leaves events that must not go out. */
		if (event == SUBXACT_EVENT_ABORT_SUB)
			reset_dirty(publisher, true);
	}
}

void
nb_bus_init(void)
{
	nb_log_forget_hook = publisher_free;
	RegisterXactCallback(bus_xact_callback, NULL);
	RegisterSubXactCallback(bus_subxact_callback, NULL);
	bus_api_init();
	hold_init();
	nb_consumer_job_init();
	nb_stats_add("consumer", consumer_stats_reset);
}
