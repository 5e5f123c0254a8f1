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
} LogDurability;

typedef enum LogFormat
{
	LOG_FORMAT_JSONB,
	LOG_FORMAT_BYTEA,
} LogFormat;

/* What publish() does when free space is short. */
typedef enum LogBackpressure
{
	LOG_DROP_OLDEST,
	LOG_FAIL,
} LogBackpressure;

typedef struct LogOptions
{
	int shards;
	LogDurability durability;
	LogFormat format;
	LogBackpressure backpressure;
	uint64 ring_size;  /* bytes of a shard's ring; in force from the next start */
	int64 incarnation; /* tells a log from a former one of the same OID */
} LogOptions;

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
	pg_atomic_uint64 bound;      /* seqs up to here may be issued, 0 until the first publish
								 * after a start; written under ShareUpdateExclusiveLock on
								 * the bound sequence */
	pg_atomic_uint32 positioned; /* 0: first seqs not yet decided (opened in recovery) */
	pg_atomic_uint32 attached;   /* processes that have the segment mapped */
} LogShared;

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

/* Let the log's shards issue seqs up to at least "seq".  May write WAL, wait and fail: never between claim and resolve. */
extern void nb_log_raise_bound(NbLog *log, uint64 seq);

/* The shard of a key: its hash scaled to 0 .. shards - 1 (multiply-shift). */
static inline int
nb_log_shard_of_key(const NbLog *log, const char *key, uint32 key_len)
{
	return ((nb_hash64(key, key_len, 0) >> 32) * (uint32) log->options.shards) >> 32;
}

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

/* Is that a name that a log may have? */
extern bool nb_log_name_valid(const char *name);

#endif /* NETBUS_REDEX_H */
