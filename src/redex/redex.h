/*-------------------------------------------------------------------------
 *
 * redex.h
 *		Logs: their catalog, their shared memory, their frames and rings.
 *
 * Knows nothing of calls and transactions: what is buffered, routed and
 * filtered is the business of those who stand on it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_REDEX_H
#define NETBUS_REDEX_H

#include "core/core.h"

#include "storage/dsm.h"
#include "storage/lockdefs.h"
#include "utils/acl.h"
#include "utils/relcache.h"

#include "redex/frame.h"
#include "redex/ring.h"

#define LOG_MAX_NAME     48 /* bytes of a log's name */
#define LOG_MAX_SHARDS   256
#define LOG_TABLE_PREFIX "log_"

typedef enum LogDurability
{
	LOG_MEMORY, /* lost at restart */
	LOG_ASYNC,  /* a worker persists what is published, soon */
	LOG_COMMIT, /* durable with the publishing transaction */
} LogDurability;

typedef enum LogFormat
{
	LOG_FORMAT_JSONB,
	LOG_FORMAT_BYTEA,
} LogFormat;

/* What publish() does when free space is short. */
typedef enum LogBackpressure
{
	LOG_BLOCK,
	LOG_FAIL,
	LOG_DROP_NEWEST,
	LOG_DROP_OLDEST,
	LOG_SAMPLE,
} LogBackpressure;

typedef struct LogOptions
{
	int shards;
	LogDurability durability;
	LogFormat format;
	LogBackpressure backpressure;
	double sample_rate;     /* of LOG_SAMPLE, 0 to 1 */
	uint64 ring_size;       /* bytes of a shard's ring; in force from the next start */
	int64 incarnation;      /* tells a log from a former one of the same OID */
	int64 retention_events; /* of all shards together; 0: no limit */
	int64 retention_bytes;  /* of its tables and their indexes; 0: no limit */
	int64 retention_age;    /* microseconds; 0: no limit */
	int flush_interval;     /* milliseconds that an async log may keep events to itself */
	int flush_events;       /* persist when a shard has so many; 0: by bytes only */
} LogOptions;

#define LOG_SEGMENTS 8 /* tables that a log with retention fills in rotation */

/*
 * Shared state of a log, at the start of its DSM segment; the rings follow.
 * Constant after creation, but for the atomics.
 */
typedef struct LogShared
{
	Oid database;
	Oid relid;
	int64 incarnation;
	int32 shards;
	uint64 ring_size;
	Size ring_stride; /* bytes from one ring to the next */
	Size rings_off;
	pg_atomic_uint64 bound;           /* seqs up to here may be issued, 0 until the first publish
								 * after a start; written under ShareUpdateExclusiveLock on
								 * the bound sequence */
	pg_atomic_uint32 live;            /* 1: events are published here; 0: elsewhere; LOG_RETIRED */
	pg_atomic_uint32 attention;       /* LOG_WORK, LOG_URGENT: what the worker has been told */
	pg_atomic_uint32 retention_holds; /* segments that are due, and that somebody is reading */
	pg_atomic_uint32 folded;          /* 1: the worker has to see every event at once */
	int table_order[LOG_SEGMENTS];    /* constant; segment n is tables[table_order[n % ntables]] */

	/* of the worker only */
	bool counted;         /* what the tables hold is in the counters */
	uint32 count_segment; /* until then: where counting is */
	int count_shard;
	uint64 count_seq;
	uint32 truncated;          /* segments below are empty tables again */
	int64 dirty_since;         /* nb_now_us() when it first saw events to persist; 0: none */
	int64 due_at;              /* when it wants to look again; PG_INT64_MAX: when called */
	int64 retry_at;            /* after an error: not before */
	int retry_delay;           /* milliseconds */
	int64 upkeep_at;           /* after an error in counting or retention: these not before */
	int upkeep_delay;          /* milliseconds */
	pg_atomic_uint32 attached; /* processes that have the segment mapped */
} LogShared;

#define LOG_RETIRED 2 /* other rings have taken over, or nobody needs them */

/* Bits of LogShared.attention */
#define LOG_WORK   0x1 /* the worker will look, at once or by a timer */
#define LOG_URGENT 0x2 /* at once */
#define LOG_TIMER  0x4 /* the worker comes by itself, soon enough for LOG_WORK */

#define log_ring(shared, shard) \
	((Ring *) ((char *) (shared) + (shared)->rings_off + (Size) (shard) * (shared)->ring_stride))

/* What a process remembers of a shard. */
typedef struct LogLocal
{
	RingMapped mapped;
	uint64 read_seq; /* where reading stopped last: a seq, */
	uint64 read_pos; /* and the position of what follows it */
} LogLocal;

/*
 * A log as this process knows it.  Valid until the next relcache invalidation
 * of its table; whoever keeps a pointer across statements compares
 * nb_log_generation with what it was.  Freed only by nb_log_open().
 */
typedef struct NbLog
{
	Oid relid; /* hash key */
	char name[NAMEDATALEN];
	bool valid;   /* name, options and bound_relid are current */
	bool checked; /* its table is fit to be a log */
	LogOptions options;
	Oid bound_relid; /* the sequence that bounds the log's seqs */
	bool copy;       /* a subscription fills its table: to be read only, and without rings */
	int ntables;     /* where rows are: segments, else the log's table */
	Oid tables[LOG_SEGMENTS];
	dsm_segment *segment;
	LogShared *shared; /* NULL: not attached */
	int pins;          /* readers and publishers in this transaction */
	void *publisher;   /* of src/bus */

	LogLocal *local; /* per shard */
} NbLog;

/* Counts changes in what this process knows of logs. */
extern uint64 nb_log_generation;

/* registry.c */
extern Size nb_registry_shmem_size(void);
extern void nb_registry_shmem_init(void);

/* log.c */
extern void nb_redex_init(void);

/*
 * Open a log by name: lock its table in that mode until the end of the
 * transaction, check that the current user has that right on it
 * (ACL_INSERT to publish, ACL_SELECT to read), load what is not known yet and
 * attach its rings.  Errors: UNDEFINED_OBJECT, INSUFFICIENT_PRIVILEGE,
 * INVALID_TABLE_DEFINITION for a table that is not a log's any more,
 * OUT_OF_MEMORY / INSUFFICIENT_RESOURCES if the rings do not fit.
 */
extern NbLog *nb_log_open(const char *name, LOCKMODE lockmode, AclMode right);

/*
 * For statistics: a log of this database by its table, locked (AccessShareLock, for the
 * caller to release), whatever the rights.  NULL: it is gone, or somebody has it locked.
 */
extern NbLog *nb_log_peek(Oid relid);

/* Let the log's shards issue seqs up to at least "seq".  May write WAL, wait and fail: never between claim and resolve. */
extern void nb_log_raise_bound(NbLog *log, uint64 seq);

/* Does the log have rows? */
#define nb_log_durable(log) ((log)->options.durability != LOG_MEMORY)

/*
 * Are the rings what tells which events there are?  Not on a standby, nor in a
 * copy that a subscription fills: there the rows have to.
 */
static inline bool
nb_log_live(NbLog *log)
{
	return !log->copy && pg_atomic_read_u32(&log->shared->live) == 1;
}

/* The table for rows of a segment. */
static inline Oid
nb_log_table(const NbLog *log, uint32 segment)
{
	return log->tables[log->shared->table_order[segment % log->ntables]];
}

extern void nb_log_call_worker(NbLog *log, uint32 bits);

/* Have the worker look after a log.  Cannot fail: callable after commit. */
static inline void
nb_log_notice(NbLog *log, uint32 bits)
{
	if ((pg_atomic_read_u32(&log->shared->attention) & bits) != bits)
		nb_log_call_worker(log, bits);
}

/* Have the worker persist what a shard of an async log has, soon or at once.  Cannot fail. */
extern void nb_log_notice_events(NbLog *log, int shard);

/*
 * Wait until everything that was stable when called is persisted, at most
 * netbus.wait_timeout.  False: it is not.  Interruptible; holds no claim.
 */
extern bool nb_log_flush(NbLog *log);

/* The shard of a key: its hash scaled to 0 .. shards - 1 (multiply-shift). */
static inline int
nb_log_shard_of_key(const NbLog *log, const char *key, uint32 key_len)
{
	return ((nb_hash64(key, key_len, 0) >> 32) * (uint32) log->options.shards) >> 32;
}

/*
 * Before a claim: lock the segment into which its rows will go, and the one that may
 * be next by then (RowExclusiveLock), and see that they are still fit for it.
 * May wait and fail.
 */
extern void nb_log_lock_rows(NbLog *log);

/* Counts transactions that have created, dropped or altered logs, of all databases. */
extern uint64 nb_log_changes(void);

/* Does the log's table still exist, as this transaction sees it? */
extern bool nb_log_exists(NbLog *log);

/* While a log is pinned it is not forgotten.  Pins end with the transaction. */
extern int nb_log_pins; /* of all logs */

static inline void
nb_log_pin(NbLog *log)
{
	log->pins++;
	nb_log_pins++;
}

static inline void
nb_log_unpin(NbLog *log)
{
	log->pins--;
	nb_log_pins--;
}

/* Called before a log is forgotten, for what src/bus keeps in log->publisher. */
extern void (*nb_log_forget_hook)(NbLog *log);

/* Called when the rings of a memory log have been made, before anybody publishes there.  In a transaction. */
extern void (*nb_log_made_hook)(NbLog *log);

/*
 * Does anybody still need an event of a durable log that is about to expire?  last_seqs:
 * per shard, the last one that would; bytes: what is stored from the first of them on.  In
 * a transaction of the worker.
 */
extern bool (*nb_log_needed_hook)(NbLog *log, const uint64 *last_seqs, uint64 bytes);

/*
 * Called before the owner of a log has events cut off, by purge() or by a retention that he sets.  May refuse, by an error.
 */
extern void (*nb_log_cut_hook)(Oid relid, const char *name);

/*
 * One of the tables that the extension has, by name; InvalidOid where it has not, or is
 * being dropped.  nb_outdated_extension() is the error for what must be there.
 */
extern Oid nb_catalog_table(const char *name);
pg_noreturn extern void nb_outdated_extension(void);

/* Open one of these tables, which must be there with so many columns. */
extern Relation nb_catalog_open(const char *name, int columns, LOCKMODE lockmode);

/*
 * For functions that change what there is, named for the error: refuse on a standby, in a
 * read-only transaction, and inside security-restricted operations.
 */
extern void nb_check_may_change(const char *function);

/* A log's name by its table; NULL if that is gone, or no log's. */
extern const char *nb_log_name_of(Oid relid);

/* Is that a name that a log may have? */
extern bool nb_log_name_valid(const char *name);

#endif /* NETBUS_REDEX_H */
