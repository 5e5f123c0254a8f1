/*-------------------------------------------------------------------------
 *
 * consumer.h
 *		Consumers: named positions in a log, whose members share its shards.
 *
 * A shard of a consumer is free, held or busy:
 *
 *		free	anybody may claim it, and then has it to the end of the transaction
 *		held	only the holder changes what is in it
 *		busy	the worker changes it on behalf of a holder, who may have gone meanwhile
 *
 * What a holder has done becomes true at the commit: rows inserted before it
 * make it durable (progress.c), the commit callback stores it in shared memory, then
 * frees the shard, then wakes one member that waits (claim.c).  An abort frees it as
 * it was, but for one more failed delivery.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_CONSUMER_H
#define NETBUS_CONSUMER_H

#include "bus/bus.h"

#include "storage/spin.h"
#include "utils/dsa.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"

#define CONSUMER_MAX_RETRIES 4096         /* per shard */
#define CONSUMER_REASON      96           /* bytes of a reason that are kept, with the final zero */
#define CONSUMER_NEVER       PG_INT64_MAX /* due: it is done, and the position has yet to pass it */
#define CONSUMER_UNLIMITED   (-1)         /* hold; 0: none */

/* An event that comes again later, or (CONSUMER_NEVER) not at all, whatever the position says. */
typedef struct ConsumerRetry
{
	uint64 seq;
	int64 due;       /* microseconds since 1970 */
	uint32 attempts; /* deliveries that have failed */
	bool alone;      /* the last of them was of this event alone */
	bool recording;  /* the worker shall record that it is being delivered */
	bool recorded;   /* it has: rows tell of one attempt more */
	char reason[CONSUMER_REASON];
} ConsumerRetry;

/* How often the events behind the position, up to failed_to, have been delivered in vain. */
typedef struct ConsumerFailure
{
	uint32 attempts; /* 0: never */
	bool alone;      /* the last time there was only one event, failed_to */
	uint64 failed_to;
} ConsumerFailure;

/* What a holder asks of the worker, since it must last whatever becomes of his transaction. */
typedef enum ConsumerRequest
{
	REQUEST_NONE,
	REQUEST_RECORD,    /* write down the delivery that is about to be made */
	REQUEST_SET_ASIDE, /* move an event to the dead-letter log */
} ConsumerRequest;

typedef enum ConsumerRequestState
{
	REQUEST_OPEN,  /* nobody has taken it */
	REQUEST_TAKEN, /* the worker has: the shard is busy */
	REQUEST_DONE,
	REQUEST_FAILED, /* the server log and netbus.stat_worker say why */
} ConsumerRequestState;

typedef struct ConsumerCounters
{
	uint64 deliveries;   /* events handed out, those handed out again included */
	uint64 redeliveries; /* of these, those handed out again */
	uint64 acknowledged; /* events */
	uint64 filtered;     /* events that the filter has passed over */
	uint64 dead_letters; /* events that went to the dead-letter log */
	uint64 lost;         /* events that were gone before they were read */
} ConsumerCounters;

/*
 * One shard of a consumer.  "lock" is held for a few stores.  A field marked
 * "holder" is written by the holder (while the shard is busy: by the worker) under
 * the lock, so he may read it without.
 */
typedef struct ConsumerShard
{
	slock_t lock;
	int32 holder;     /* lock; index in ProcGlobal->allProcs, -1: none */
	int32 holder_pid; /* lock */
	int64 held_since; /* lock; microseconds since 1970 */

	uint64 position;         /* holder; every event up to here is done or among the retries */
	uint64 stored;           /* holder; the position that rows tell */
	uint64 generation;       /* holder; of the newest row */
	ConsumerFailure failure; /* holder */
	bool unsure;   /* holder; nobody has noted what was being delivered when the server stopped */
	bool recorded; /* holder; rows tell of one attempt more than "failure" */
	bool retries_last;         /* holder; retries and new events take turns */
	int64 advanced_at;         /* holder; when the position moved, microseconds since 1970 */
	ConsumerCounters counters; /* lock */

	dsa_pointer
		retries; /* holder; ConsumerRetry[max_retries] in the order of seq; outlives the consumer */
	uint32 nretries;    /* holder */
	uint32 ahead;       /* holder; of these, beyond the position */
	uint32 settled;     /* holder; of these, done */
	uint32 max_retries; /* holder */
	int64 next_due;     /* holder; the earliest of the retries, CONSUMER_NEVER: none */
	uint64 first_retry; /* holder; the lowest seq that comes again, 0: none does */

	ConsumerRequest request;            /* lock */
	ConsumerRequestState request_state; /* lock */
	uint64 request_seq;                 /* holder; what to set aside */
	ConsumerFailure
		request_failure; /* holder; what to record, if attempts > 0; of retries: alone */
} ConsumerShard;

/*
 * A consumer in shared memory.  The memory is never used for anything else: that of a
 * consumer that is gone becomes another's, so whoever has kept a pointer for too
 * long finds another id, not another thing.
 */
typedef struct ConsumerShared
{
	pg_atomic_uint64 id; /* 0: unused; written under the lock of all consumers, read without */
	dsa_pointer next;    /* lock of all consumers; of the database, or unused */

	/* constant while id is */
	Oid database;
	Oid relid;             /* the log's table */
	TransactionId creator; /* transaction that created it and put it here, or invalid */
	int32 shards;
	int32 size_class;
	Size waiters_off; /* NbWaiters: members that wait */

	pg_atomic_uint32 paused;  /* 1: hands out nothing */
	pg_atomic_uint32 dropped; /* 1: is being dropped; never 0 again */
	pg_atomic_uint64 hold;    /* bytes that it holds back retention for, CONSUMER_UNLIMITED, or 0 */
	pg_atomic_uint32 next_shard; /* where the next member looks first */
	pg_atomic_uint32
		lookout; /* procno + 1 of the waiting member that is woken by the rings; 0: none */
	pg_atomic_uint32
		exclusive; /* procno + 1 of who wants all shards, and keeps others from claiming; 0: nobody */
	pg_atomic_uint32 waiting; /* members that wait, until they know of a consumer dropped before */
	ConsumerShard shard[FLEXIBLE_ARRAY_MEMBER];
} ConsumerShared;

#define consumer_waiters(shared) ((NbWaiters *) ((char *) (shared) + (shared)->waiters_off))

/* What the consumers of a database share; in the main segment. */
typedef struct ConsumerDatabase
{
	Oid database;              /* lock of all consumers; InvalidOid: unused */
	dsa_pointer first;         /* lock of all consumers; list of ConsumerShared */
	pg_atomic_uint32 requests; /* 1: some shard has a request */
	pg_atomic_uint32 reap;     /* 1: there may be consumers that do not exist any more */
	pg_atomic_uint32
		current;           /* which of the two progress tables takes rows; written by the worker */
	pg_atomic_uint32 rows; /* inserted there since that began */
	bool counted;          /* worker; rows includes what was there when the server started */
} ConsumerDatabase;

/*
 * A consumer as this process knows it, from netbus.catalog_consumer.  Valid while
 * nb_log_generation is what it was.
 */
typedef struct ConsumerKey
{
	Oid relid;
	NameData name;
} ConsumerKey;

typedef struct Consumer
{
	ConsumerKey key;   /* must be first */
	uint64 generation; /* nb_log_generation when it was read */
	uint64 id;
	Oid owner;
	int max_deliveries;  /* 0: no limit */
	Oid dead_letter_log; /* its table; InvalidOid: none */
	int64 hold;
	bool paused;
	Jsonb *filter; /* in TopMemoryContext; NULL: none */
	ConsumerShared *shared;
} Consumer;

/* ---------------------------------------------------------------- consumer.c */

/*
 * The consumer of that name of an open log, with its place in shared memory.  Error:
 * UNDEFINED_OBJECT.  Reads the catalog if something may have changed, and the
 * tables of positions if this is the first use since the start of the server.
 */
extern Consumer *consumer_open(NbLog *log, const char *name);

/* This database's state, made at first use. */
extern ConsumerDatabase *consumer_database(void);

/* All consumers of this database in shared memory, palloc'd.  They may be dropped meanwhile. */
extern ConsumerShared **consumer_list(int *count);

/* Put all consumers of this database into shared memory that are not there yet. */
extern void consumer_load(void);

/* consumer_stat.c: the counters of stat_consumer, of all consumers of this database */
extern void consumer_stats_reset(void);

/* Free what belongs to consumers that do not exist any more.  By the worker, in a transaction. */
extern void consumer_reap(void);

/* The retries of a shard; valid while it is held.  May map memory, and so fail. */
extern ConsumerRetry *consumer_retries(ConsumerShard *slot);

/* Make room for n more.  Errors: PROGRAM_LIMIT_EXCEEDED beyond CONSUMER_MAX_RETRIES, OUT_OF_MEMORY. */
extern void consumer_reserve_retries(ConsumerShard *slot, uint32 n);

/* Changes to the retries, by the holder; they cannot fail.  find: NULL if there is none. */
extern ConsumerRetry *consumer_find_retry(const ConsumerShard *slot, ConsumerRetry *retries,
										  uint64 seq);
extern uint32 consumer_count_retries(const ConsumerShard *slot, const ConsumerRetry *retries,
									 uint64 after_seq, uint64 to_seq);
extern void consumer_retries_changed(ConsumerShard *slot, ConsumerRetry *retries);

/* Wake one member that waits, or all.  Cannot fail: callable after commit. */
extern void consumer_wake_one(ConsumerShared *shared);
extern void consumer_wake_all(ConsumerShared *shared);

/* ---------------------------------------------------------------- progress.c */

/* A row of netbus.catalog_ack_0 or _1: what is true of a shard from a generation on. */
typedef struct ProgressRow
{
	uint64 id; /* of the consumer */
	int shard;
	uint64 generation;
	uint64 position;
	ConsumerFailure failure;
	bool reset;                 /* what former rows tell of retries is void */
	const ConsumerRetry *retry; /* NULL: the row is about the position and what fails behind it */
	bool retry_gone;            /* there is no retry of that seq any more */
} ProgressRow;

/* Insert rows in the current transaction, which has ended its own work.  May fail. */
extern void progress_insert(const ProgressRow *rows, int nrows);

/* A retry as a row tells it. */
typedef struct ProgressRetry
{
	ConsumerRetry retry;
	uint64 generation;
	bool gone;
	int table;  /* which has the row */
	bool in[2]; /* which have rows about it at all */
} ProgressRetry;

typedef struct ProgressShard
{
	uint64 position;
	ConsumerFailure failure;
	uint64 position_generation; /* of the row about the position; 0: it never moved */
	int table;                  /* which has that row */
	uint64 generation;          /* highest of all rows */
	uint64 reset;               /* rows about retries before this generation are void */
	int reset_table;            /* which has that row */
	int nretries;
	int max_retries;
	ProgressRetry *retries; /* in the order of seq */
} ProgressShard;

/* A consumer as tables tell it. */
typedef struct ProgressConsumer
{
	uint64 id; /* hash key */
	Consumer options;
	TransactionId creator; /* if it is the current transaction */
	int shards;
	ProgressShard *shard;
} ProgressConsumer;

/* What the tables know of all consumers (of logs that exist), or of those not in shared memory, by id. */
extern HTAB *progress_read(bool missing_only);

/* Begin to fill the other table when the current one is large.  By the worker, outside a transaction. */
extern long progress_rotate(void);

/* --------------------------------------------------------- consumer_catalog.c */

/*
 * For the worker, at the beginning of a transaction: see to it that the tables stay to its
 * end (AccessShareLock).  False: they are not there, or somebody has them locked.
 */
extern bool consumer_catalog_lock(void);

/* Read a row of netbus.catalog_consumer into a Consumer (without shared).  False: there is none. */
extern bool consumer_catalog_get(Oid relid, const char *name, Consumer *consumer);

/* Call a function for every row of it.  starts: where the shards began. */
typedef void (*ConsumerVisitor)(const Consumer *consumer, const uint64 *starts, int shards,
								TransactionId creator, void *arg);
extern void consumer_catalog_scan(ConsumerVisitor visit, void *arg);

extern void consumer_catalog_insert(const Consumer *consumer, const uint64 *starts, int shards);
extern void consumer_catalog_update(const Consumer *consumer);
extern void consumer_catalog_delete(const Consumer *consumer);

/* ------------------------------------------------------------ dead_letter.c */

struct ReaderEvent;

/*
 * Publish an event to the consumer's dead-letter log, with the owner's rights; it
 * appears when the transaction commits.  Errors: those of publishing.
 */
extern void dead_letter_publish(const Consumer *consumer, const NbLog *log, int shard,
								const struct ReaderEvent *event, const char *reason,
								uint32 attempts);

/* --------------------------------------------------------- consumer_job.c */

extern void nb_consumer_job_init(void);

#endif /* NETBUS_CONSUMER_H */
