/*-------------------------------------------------------------------------
 *
 * watch.h
 *		Watches: who wants to know when the result of a query changes, or a log grows.
 *
 *		watch_catalog.c		the rows of netbus.catalog_watch: which watches there are
 *		watch_ddl.c			making and dropping them from SQL
 *		watch_args.c		their filters, from SQL to jsonb and back
 *		watch_shared.c		what all processes see of them; settings
 *		watch_job.c			the worker's job: which watches it has, what runs when
 *		matcher.c			from a changed record to the watches that it concerns
 *		window.c			what happened to the rows of a watch since it was last told
 *		notify.c			telling it, by NOTIFY
 *		watch_log.c			watches of logs
 *		log_index.c			from an event of a log to the watches that it may concern
 *		delta.c, watch_next.c	what is kept for those who pull, and pulling it
 *		watch_stat.c		statistics
 *
 * A row comes into being with the transaction that makes it, whose commit then calls the
 * worker (watch_note_change()).  Before the worker folds another event it reads
 * the rows: so nothing that was committed later is missed.  From then on it
 * decides at each change, with no lock and in its own memory, which watches the
 * change concerns, collects that for each of them, and notifies them when
 * their windows end.
 *
 * Nothing of this is in the way of the fold: an error in reading rows, matching or
 * notifying is noted, costs the watches concerned a note that they have to read
 * anew ("resync"), and is tried again later.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_WATCH_H
#define NETBUS_WATCH_H

#include "cortex/model.h"

#include "lib/pairingheap.h"
#include "storage/itemptr.h"
#include "utils/dsa.h"

#include "watch/delta.h"
#include "watch/window.h"

#define WATCH_TABLE      "catalog_watch"
#define WATCH_LOG        MODEL_KINDS /* a kind besides those of models */
#define WATCH_MAX_ERROR  160         /* bytes of a message that are kept, with the final zero */
#define WATCH_MAX_KEYS   1000        /* index entries of one watch; with more it has none */
#define WATCH_MAX_FILTER (64 * 1024) /* bytes */

/* ------------------------------------------------------------------- rows */

/* A row of netbus.catalog_watch. */
typedef struct WatchRow
{
	int64 id;
	Oid owner;
	Oid log;                   /* its table */
	int kind;                  /* of the model, or WATCH_LOG */
	char channel[NAMEDATALEN]; /* "": it is only pulled */
	Jsonb *filter;             /* NULL: none */
	int64 debounce;            /* microseconds */
	bool ids;                  /* payload: ids; else none */
	TimestampTz created;
	int nstarts; /* per shard: what was stable when it was made */
	uint64 *starts;

	/* Which version of the row it is. */
	TransactionId xmin;
	ItemPointerData tid;
} WatchRow;

/* watch_catalog.c */

/*
 * Call visit() for every row, in a context that is reset after each, but for those of which
 * known(), if it is not NULL, says that they are known in that version.  False: the table is
 * locked.
 */
typedef bool (*WatchKnown)(int64 id, TransactionId xmin, ItemPointer tid);
typedef void (*WatchVisitor)(const WatchRow *row, void *arg);
extern bool watch_catalog_scan(WatchKnown known, WatchVisitor visit, void *arg);

/* Read a row by its id, into CurrentMemoryContext.  False: there is none. */
extern bool watch_catalog_get(int64 id, WatchRow *row);

/* The watch that is the same but for debounce and payload; 0: none. */
extern int64 watch_catalog_find(const WatchRow *row);
extern int watch_catalog_count(Oid owner);
extern void watch_catalog_insert(WatchRow *row); /* gives it an id */
extern void watch_catalog_update(const WatchRow *row);
extern void watch_catalog_delete(int64 id);
extern bool watch_catalog_forget_log(Oid log); /* true: it had some */

/* Whoever is about to change a watch, or to make one for that owner, waits for us, to the end of the transaction. */
typedef enum WatchLock
{
	WATCH_LOCK_OWNER,
	WATCH_LOCK_ID,
} WatchLock;

extern void watch_catalog_lock(WatchLock what, int64 which);

/* watch_ddl.c */
extern void watch_ddl_init(void);

/* watch_args.c */

/*
 * The filter arguments of a call as jsonb: {"tag": "a", "created_from": "2024-..."}, only
 * those that are given, in one form however they were written; NULL: none is.  fcinfo: the
 * arguments of query_filter(), which has found no fault with them.
 */
extern Jsonb *watch_args_encode(FunctionCallInfo fcinfo, const ModelKind *kind);

/* And back: a filter in CurrentMemoryContext.  Errors: INVALID_PARAMETER_VALUE, for a row that nobody of us has written. */
extern void watch_args_decode(Jsonb *args, const ModelKind *kind, RecordFilter *filter);

/* A record as jsonb, with its id and times as strings; of a record that is gone: the id. */
extern Jsonb *watch_record_jsonb(const ModelKind *kind, const Record *record, const Blob *blob);
extern Jsonb *watch_id_jsonb(int64 id);

/* ----------------------------------------------------------- shared state */

/*
 * A watch as all processes see it, by its id, in a dshash table whose partition
 * locks ("lock") guard it.  Made and removed by the worker of the database only: so the worker
 * may keep a pointer and, where it says so, write without the lock.
 */
typedef struct WatchKey
{
	int64 id;
	Oid database;
	Oid pad; /* zero */
} WatchKey;

typedef struct WatchShared
{
	WatchKey key; /* must be first */

	/* Lock.  Which watch it is: ids begin anew with the extension. */
	Oid log;
	TimestampTz created;

	/* By the worker, without lock. */
	pg_atomic_uint32 active; /* 1: it sees all changes from here on */
	pg_atomic_uint32
		pending; /* 1: there is something to tell that is in the worker's memory only */
	pg_atomic_uint64 matches;
	pg_atomic_uint64 notifications;
	pg_atomic_uint64 coalesced;
	pg_atomic_uint64 overflows;
	pg_atomic_uint64 resyncs;
	pg_atomic_uint64 errors;
	pg_atomic_uint64 notified_at; /* nb_now_us(); 0: never */

	/* Lock. */
	int64 error_at; /* nb_now_us(); 0: never */
	char last_error[WATCH_MAX_ERROR];

	/* Of a watch that is pulled: lock, and the worker may read the pointer without. */
	dsa_pointer_atomic deltas;     /* DeltaRing; invalid: nobody pulls it */
	pg_atomic_uint64 pulled_at;    /* nb_now_us(); by whoever pulls, without lock */
	pg_atomic_uint64 wanted_until; /* nb_now_us(); likewise: somebody may wait until then */

	/* Of a watch of a log, by the worker: per shard, up to where events have been told. */
	int shards;
	dsa_pointer positions; /* uint64[shards], invalid: none */
} WatchShared;

extern int watch_max_per_role; /* netbus.max_watches_per_role */
extern int watch_buffer;       /* kB; netbus.watch_buffer */
extern int watch_memory;       /* MB; netbus.watch_memory */
extern int watch_idle_timeout; /* s; netbus.watch_idle_timeout */

/* watch_shared.c */
extern void watch_shared_attach(void);
extern dsa_area *watch_area(void);

/* The watch with that id, locked; NULL: there is none. */
extern WatchShared *watch_shared_find(int64 id, bool exclusive);
extern void watch_shared_release(WatchShared *shared);

/* The same, of a row: not one that had the same id before. */
extern WatchShared *watch_shared_of(const WatchRow *row, bool exclusive);

/* Of the worker. */
extern WatchShared *watch_shared_make(const WatchRow *row, bool *existed); /* not locked */
extern void watch_shared_remove(int64 id);

/* Remove what databases that are gone have left behind, and watches of ours that are not known.  In a transaction. */
extern void watch_shared_reap(bool (*known)(int64 id));

/* Make a ring for its deltas, if it has none.  Under the exclusive lock.  False: no memory. */
extern bool watch_shared_keep_deltas(WatchShared *shared);
extern void watch_shared_drop_deltas(WatchShared *shared);

/* When this life of the server began: watches made before have missed something. */
extern TimestampTz watch_life_began(void);

/* Of the worker, before it reads rows: that of a standby begins when it is promoted. */
extern void watch_note_promotion(void);

/* Counts transactions that have changed watches, of all databases. */
extern uint64 watch_changes(void);
extern void watch_note_change(void); /* cannot fail */

/* Processes that wait for deltas of a watch, and of some others. */
extern NbWaiters *watch_waiters(int64 id);

/* ----------------------------------------------------------- the worker's */

struct WatchedLog;
struct LogReading;

/* A watch as the worker has it. */
typedef struct Watch
{
	int64 id;              /* hash key */
	MemoryContext context; /* of what it points to */
	WatchRow row;
	struct WatchedLog *log;
	int place; /* in log->watches */
	WatchShared *shared;
	RecordFilter *filter;        /* of a WATCH_LOG: NULL */
	struct Filter *event_filter; /* of a WATCH_LOG (src/bus/filter.h), NULL: all events */

	uint64 after_seq; /* what a model changed up to here is not for it */
	bool waits;       /* until the model is loaded: nothing is for it */
	bool lost;        /* it has missed something, and has to be told so */
	bool seen;        /* by the scan that is going on */

	/* matcher.c */
	uint64 *keys; /* where it is in the index */
	int nkeys;
	int *
		counter; /* entries of the index, of the log and of one kind: these among them; NULL: it is not there */
	uint64 stamp; /* of the change that is being looked at: */
	bool was;     /* the record matched before it */
	bool is;      /* it matches now */

	/* notify.c */
	Window window;
	pairingheap_node node; /* if queued */
	bool queued;
	int64 due;       /* nb_now_us() */
	int retry_delay; /* milliseconds; 0: the last attempt did not fail */

	struct LogTelling *telling; /* of a WATCH_LOG, see watch_log.c */
} Watch;

/* A log that is watched. */
typedef struct WatchedLog
{
	Oid relid; /* hash key */
	int nwatches;
	int room;
	Watch **watches;

	/* matcher.c; of those that watch the records of its model */
	int nmodel;
	int ngeneral; /* that the index does not know */
	int general_room;
	Watch **general;
	int attr_keys[STATE_MAX_ATTRS]; /* entries of the index by attribute, */
	int state_keys;                 /* by state, */
	int id_keys;                    /* by id */
	bool looking;                   /* at a change; in between: the last look has not ended well */
	int64 blind_until; /* nb_now_us(); until then changes are not looked at; 0: they are */
	int blind_delay;   /* milliseconds */

	/* Of those that watch its events. */
	struct LogReading *reading; /* watch_log.c */
	struct LogIndex *index;     /* log_index.c; NULL: not built */
} WatchedLog;

/* watch_job.c */
extern void watch_job_init(void);
extern WatchedLog *watched_log(Oid relid); /* NULL: nobody watches it */

/* Is there a watch that was committed, perhaps, before an event that has just been read?  Then that has to wait. */
extern bool watch_must_load(void);

/*
 * It has missed something, up to a seq: whoever gets its notes or pulls it has to read
 * anew.  0: whoever pulls it has not.
 */
extern void watch_lose(Watch *watch, uint64 seq);

/* Changes that were made without being seen: true for a model that has any, which then are as if they had been. */
extern bool watch_model_lost(ModelSlot *slot);
extern void watch_lose_model(WatchedLog *log, ModelSlot *slot);
extern void watch_note_error(Watch *watch, const char *message);

/*
 * Run a part of the job outside a transaction.  An error costs only this part; it is
 * logged, and returned as a message in CurrentMemoryContext.  NULL: there was none.
 */
extern char *watch_guarded(void (*part)(void *arg), void *arg);

/* matcher.c */
extern void matcher_add(Watch *watch);
extern void matcher_remove(Watch *watch);
extern void matcher_before(Model *model, uint64 seq, int64 id, const Record *record);
extern void matcher_after(Model *model, uint64 seq, int64 id, const Record *record);
extern bool matcher_sees(WatchedLog *log,
						 ModelSlot *slot); /* of one that was blind: not any more */

/* notify.c */
extern void notify_queue(Watch *watch, int64 due); /* not later than that */
extern void notify_forget(Watch *watch);

/* Notify those that are due; all: whenever they are due.  In how many milliseconds to come again; -1: not. */
extern long notify_run(bool all);
extern void *watch_resize(void *memory, size_t bytes); /* for windows */

/* watch_log.c */
extern void watch_log_add(Watch *watch, bool known);
extern void watch_log_remove(Watch *watch);
extern void watch_log_free(WatchedLog *log);
extern long watch_log_run(WatchedLog *log);
extern bool watch_log_begun(const Watch *watch);                    /* the log has been read */
extern bool watch_log_idle(const Watch *watch);                     /* nothing to tell */
extern void watch_log_seqs(const Watch *watch, StringInfo payload); /* the seqs of a note */
extern void watch_log_told(Watch *watch);                           /* the note has gone out */

/* log_index.c */
struct ReaderEvent;
typedef struct LogIndex LogIndex;
typedef void (*LogIndexVisitor)(Watch *watch, int shard, const struct ReaderEvent *event);

/* Call visit() for the watches that an event may concern, perhaps also others; once for each. */
extern void log_index_match(WatchedLog *log, const struct ReaderEvent *event, LogIndexVisitor visit,
							int shard);
extern void log_index_forget(WatchedLog *log); /* its watches of events change */

/* watch_stat.c: the counters of stat_watch, of all watches of this database */
extern void watch_stats_reset(void);

/* ------------------------------------------------------------------ setup */

extern Size nb_watch_shmem_size(void);
extern void nb_watch_shmem_request(void);
extern void nb_watch_shmem_init(void);
extern void nb_watch_init(void);

#endif /* NETBUS_WATCH_H */
