/*-------------------------------------------------------------------------
 *
 * redex_internal.h
 *		What the files of src/redex share with each other only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_REDEX_INTERNAL_H
#define NETBUS_REDEX_INTERNAL_H

#include "redex/redex.h"

#include "datatype/timestamp.h"

/* catalog.c: the tables that netbus keeps about logs */
extern Oid catalog_namespace(void);
extern Oid catalog_relation(const char *name);
extern bool catalog_current(void);
extern bool catalog_get_log(Oid relid, LogOptions *options);
extern void catalog_forget_log(Oid relid);
extern void catalog_check_table(Oid relid, const char *name, bool segment);
extern Oid catalog_bound_sequence(Oid relid);

/*
 * The segments of a log, in the order of their OIDs: LOG_SEGMENTS, or none
 * where it never had retention.  Their array has room for LOG_SEGMENTS.  Takes
 * no lock on them.
 */
extern int catalog_segments(Oid relid, Oid *tables);

/* Have the segments go with the log's table; pg_restore does not know that. */
extern void catalog_own_segments(Oid relid);

/* The seq that a shard issues first after a start of the server. */
extern void catalog_first_seqs(NbLog *log, uint64 *next_seq);
extern uint64 catalog_raise_bound(NbLog *log, uint64 seq);
extern void catalog_save_positions(NbLog *log);

/* What the tables of a log held of a shard, below next_seq, at the last clean stop. */
typedef struct SavedTotals
{
	uint64 next_seq;
	uint64 events;
	uint64 bytes;
} SavedTotals;

extern void catalog_saved_totals(NbLog *log, SavedTotals *totals);
extern void catalog_forget_totals(Oid relid);

/* Does a subscription fill one of the log's tables? */
extern bool catalog_is_copy(const NbLog *log);

/* Do all tables of the log have a primary key and the columns of netbus.frame? */
extern bool catalog_has_keys(const NbLog *log);

/* options.c: from SQL to option values and back, with errors that list what is valid */
#define LOG_FLUSH_INTERVAL 10   /* milliseconds, by default */
#define LOG_NO_SAMPLE_RATE (-1) /* sample_rate of a log that was given none */

/* An option that create_log() takes and alter_log() changes. */
typedef struct LogOption
{
	const char *name;    /* in SQL */
	const char *column;  /* of netbus.catalog_log */
	Oid input;           /* type in SQL */
	Oid stored;          /* type of the column */
	const char *initial; /* the default; NULL: none, the column is null */
	bool (*set)(LogOptions *options, NullableDatum *value);
	const char *valid; /* for the hint; NULL: its errors say it themselves */
} LogOption;

#define LOG_OPTIONS 8
extern const LogOption log_options[LOG_OPTIONS];

extern LogDurability option_durability(const char *value);
extern LogFormat option_format(const char *value);
extern LogBackpressure option_backpressure(const char *value, LogDurability durability);
extern bool option_interval_us(const Interval *interval, int64 *us);
extern const LogOption *option_by_name(const char *name);
extern NullableDatum option_parse(const LogOption *option, const char *text);
extern NullableDatum option_set(LogOptions *options, const LogOption *option, NullableDatum value);
extern void options_check(const LogOptions *options, const LogOption *altered);
extern const char *durability_name(LogDurability durability);
extern const char *format_name(LogFormat format);
extern const char *backpressure_name(LogBackpressure backpressure);

static inline bool
log_has_retention(const LogOptions *options)
{
	return options->retention_events > 0 || options->retention_bytes > 0 ||
		   options->retention_age > 0;
}

/* ddl.c */

/*
 * Where true, netbus_guard() lets statements write to tables of logs: around
 * our own, which set it back also in case of an error.  No SQL can set it.
 */
extern bool ddl_guard_lifted;

/*
 * Error if this transaction has given the log its incarnation by moving its
 * rows: rings made now would replace those that others use until the commit.
 */
extern void ddl_check_rewritten(const char *name, int64 incarnation);

/* After the owner of a log's table has changed: its segments follow. */
extern void ddl_follow_owner(Oid relid, Oid owner);

/* registry.c: which logs have rings, and where */
typedef struct RegistryKey
{
	Oid database;
	Oid relid;
} RegistryKey;

typedef struct RegistryEntry
{
	RegistryKey key; /* must be first */
	int64 incarnation;
	dsm_handle handle;
	TransactionId creator; /* open transaction that created the log, or invalid */
	bool durable;          /* something for the worker to keep */
} RegistryEntry;

extern bool registry_find(Oid relid, RegistryEntry *entry);
extern bool registry_insert(const RegistryEntry *entry);
extern void registry_remove(const RegistryEntry *entry);
extern RegistryEntry *registry_list(int *count);
extern uint64 registry_version(void);
extern void registry_reap(bool own_database);
extern void registry_note_change(void);

/* log.c */
extern NbLog *log_by_relid(Oid relid);

/* This transaction changes a log: if it commits, the worker looks at all of them. */
extern void log_note_ddl(void);

/* Unmap the rings of logs that are gone.  In a transaction. */
extern void log_forget_dropped(void);

/* The shared memory of a log, if this process has mapped what the registry says; else NULL. */
extern LogShared *log_mapped(const RegistryEntry *entry);

/* outcome.c: what the rings are told once the transaction has committed */
typedef enum OutcomeKind
{
	OUTCOME_PERSISTED,
	OUTCOME_SEALED,
	OUTCOME_TRUNCATED,
	OUTCOME_PURGED,
} OutcomeKind;

typedef struct Outcome
{
	struct Outcome *next;
	LogShared *shared;
	Ring *ring;
	OutcomeKind kind;
	uint64 to_pos;
	uint64 to_seq; /* of a purge: the new floor */
	uint64 max_stable;
	int64 first_ts;
	int64 last_ts;
	uint32 segment;
	uint64 events; /* of a purge */
	uint64 bytes;
	RingTotals totals[RING_TERM_SLOTS];
} Outcome;

/*
 * Add one, zero but for its log and kind, for the caller to fill in.  The log is
 * pinned, so that it stays mapped until the transaction has ended.
 */
extern Outcome *outcome_add(NbLog *log, int shard, OutcomeKind kind);
extern void outcome_init(void);

/* persist.c: from the ring into rows */

/* Has some shard something in memory only?  *urgent: somebody waits for room there. */
extern bool log_has_unpersisted(NbLog *log, bool *urgent);

/*
 * Insert what an async log has in memory only, in the current transaction.
 * Returns false if there is more.  The log's table is locked.
 */
extern bool log_persist(NbLog *log);

/* Seal holes that have waited long enough.  Returns whether some shard still waits. */
extern bool log_seal(NbLog *log);

/* Before the rows of a log are moved: persist what is in memory only, save its positions. */
extern void log_prepare_rewrite(Oid relid);

/* retain.c: what the tables of a log hold */
#define RETAIN_MS 200 /* between two looks at a log that is in use */

/* Count some more of what the tables held when the rings were made. */
extern void log_count_rows(NbLog *log);

/*
 * Rotate, expire and truncate as far as the limits say.  Returns in how many
 * milliseconds there may be something to do again, -1: not before the log is
 * in use.  active: it has been since we looked last.
 */
extern long log_retain(NbLog *log, bool active);

/* ddl.c: the counters of stat_log, of all logs of this database */
extern void log_stats_reset(void);

/* keeper.c: the worker's job, which calls these */
extern void nb_keeper_init(void);

#endif /* NETBUS_REDEX_INTERNAL_H */
