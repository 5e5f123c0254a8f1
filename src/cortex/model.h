/*-------------------------------------------------------------------------
 *
 * model.h
 *		What the files of src/cortex share: kinds of models, and models.
 *
 * A kind is declared once (memories.c, tasks.c): its attributes and the events
 * that change a record.  A model is a log of that kind and the state that the
 * worker of the database folds it into.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_MODEL_H
#define NETBUS_MODEL_H

#include "cortex/cortex.h"

#include "access/htup_details.h"
#include "storage/dsm.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/acl.h"
#include "utils/jsonb.h"

#include "bus/publisher.h"
#include "core/args.h"
#include "cortex/select.h"
#include "cortex/state.h"

#define MODEL_DEFAULT  "default"
#define MODEL_MAX_NAME 38 /* with "memories_" before it, it is a log's name */
#define MODEL_EXTENTS  160
#define MODEL_MAX_TEXT (1024 * 1024) /* bytes of content */
#define MODEL_MAX_TAG  256
#define MODEL_MAX_TAGS STATE_MAX_TEXTS

/* ------------------------------------------------------------------ kinds */

/* An event that is being folded. */
typedef struct Event
{
	JsonbContainer *object;
	uint64 seq;
	int64 id;
	int64 ts;           /* microseconds since 2000 */
	const char *reason; /* why it is set aside */
} Event;

typedef enum FoldResult
{
	FOLD_PUT,    /* image is the record now */
	FOLD_REMOVE, /* the record goes */
	FOLD_NOOP,   /* nothing to do for this event */
	FOLD_BAD,    /* set it aside, for event->reason */
} FoldResult;

/*
 * An event by which a kind's records change.  fold() gets the image of the
 * record as it is, or of a new one with nothing but id and times.
 */
typedef struct EventKind
{
	const char *op;
	FoldResult (*fold)(const State *state, Event *event, const Record *record, Image *image);
} EventKind;

/* An argument of the functions that query a kind, in their order. */
typedef struct FilterArg
{
	const char *name;
	enum
	{
		FILTER_VALUE,  /* text: a value of attr */
		FILTER_ANY,    /* text[]: any of these */
		FILTER_ALL,    /* text[]: all of these */
		FILTER_FLAG,   /* boolean: the state */
		FILTER_STATUS, /* text: the state by name */
		FILTER_SEARCH, /* text: a substring of the searched attribute */
		FILTER_IDS,    /* bigint[] */
	} what;
	int attr;
} FilterArg;

#define MODEL_MAX_FILTERS 8

/* A column of a row. */
typedef struct RowColumn
{
	enum
	{
		COLUMN_ID,
		COLUMN_ATTR,   /* an attribute */
		COLUMN_FLAG,   /* the state, as boolean */
		COLUMN_STATUS, /* the state, by name */
		COLUMN_CREATED,
		COLUMN_UPDATED,
	} what;
	int attr;
} RowColumn;

#define MODEL_MAX_COLUMNS 16

typedef struct ModelKind
{
	const char *name;   /* also of the default model's log */
	const char *record; /* what one of its records is called */
	const char *type;   /* of a row, in our schema */
	Schema schema;
	int nevents;
	const EventKind *events;

	/* Queries: these arguments, then the common ones (query.c). */
	int nfilters;
	FilterArg filters[MODEL_MAX_FILTERS];
	const char *states[STATE_MAX_STATES]; /* names for FILTER_STATUS and COLUMN_STATUS */

	/* The columns of a row, as its type has them. */
	int ncolumns;
	RowColumn columns[MODEL_MAX_COLUMNS];
} ModelKind;

#define MODEL_KINDS 2
extern const ModelKind *const model_kinds[MODEL_KINDS];
extern const ModelKind memories_kind;
extern const ModelKind tasks_kind;

extern int model_kind_index(const char *name); /* error if there is none */

/* ----------------------------------------------------------- shared state */

typedef enum ModelPhase
{
	MODEL_LOADING, /* not yet, or not any more, what the log says */
	MODEL_READY,
} ModelPhase;

/*
 * A model in the main shared memory segment.  Its lock, of tranche
 * netbus_model, is held shared by readers, for microseconds, and exclusively
 * by the worker around each change.
 */
typedef struct ModelSlot
{
	/* Which it is.  Written under the slots lock and our own; a free one has no database. */
	pg_atomic_uint32 database;
	Oid relid;
	int kind;

	uint32 generation; /* lock; tells one state from the next, also of other models */
	int nextents;      /* lock; written by the worker */
	dsm_handle extents[MODEL_EXTENTS];
	uint32 extent_blocks[MODEL_EXTENTS];
	StateShared state;  /* lock */
	uint64 applied_seq; /* lock; of the last change, if that was made under it */

	pg_atomic_uint32 phase;
	pg_atomic_uint32 changing; /* the worker is within a change: if it dies there, all is lost */
	pg_atomic_uint32 writer_waits; /* readers give way */
	pg_atomic_uint64 folded_seq;   /* every event up to here is folded; written by the worker */
	pg_atomic_uint64
		deletes_to; /* no later event removes a record; raised by publishers before they commit */
	pg_atomic_uint32 deleting; /* transactions that have yet to raise it, and may be seen */
	pg_atomic_uint32
		refused; /* how often in a row the worker could not lock the log, and not go on without */
	pg_atomic_uint64 promised; /* bytes that were published and may not be folded yet */

	/* The last change that the observer has seen; behind applied_seq: one it will not see. By the worker. */
	pg_atomic_uint64 observed_seq;

	/* Those who wait for folded_seq: lists over ModelWaiter, by seq. */
	int32 first_waiter; /* the waiters' spinlock: await.c */
	int32 last_waiter;
	pg_atomic_uint64 first_wanted; /* its seq; PG_UINT64_MAX: nobody waits; read without lock */

	/* Statistics, by the worker; noops and lost may be reset by others. */
	pg_atomic_uint64 events;
	pg_atomic_uint64 events_before; /* of these, before they were last reset; by whoever does */
	pg_atomic_uint64 noops;
	pg_atomic_uint64 errors;
	pg_atomic_uint64 lost;
	pg_atomic_uint64 snapshot_seq;    /* what the newest snapshot covers */
	pg_atomic_uint64 snapshot_at;     /* nb_now_us(), 0: never */
	pg_atomic_uint32 snapshot_wanted; /* somebody calls for one */
} ModelSlot;

extern int model_max;               /* slots; netbus.max_models */
extern int model_memory;            /* MB; netbus.model_memory */
extern int model_snapshot_interval; /* s */
extern int model_snapshot_events;
extern int model_node_id;
extern int model_read_consistency;

typedef enum ReadConsistency
{
	READ_COMMITTED_EVENTS,
	READ_SESSION_EVENTS,
	READ_NOW,
} ReadConsistency;

/* -------------------------------------------------- a process's view of it */

typedef struct Model
{
	Oid relid; /* hash key */
	const ModelKind *kind;
	char name[NAMEDATALEN]; /* of the model */
	ModelSlot *slot;        /* NULL: not found yet */
	uint32 generation;      /* of what is mapped */
	int nmapped;
	dsm_segment *segments[MODEL_EXTENTS];
	char **blocks;
	uint32 max_blocks;
	State state;
	uint64 event_seq; /* of the worker: what is being folded */

	/* Rights and log, good while nb_log_generation has not changed. */
	NbLog *log;
	uint64 log_generation;
	Oid user;
	AclMode rights;

	TransactionId creator; /* the transaction of ours that has created it, if it may still run */
	uint64 session_seq;    /* of the last event that this session has committed, at most */
	bool written;          /* by this transaction; */
	bool deletes;
	uint64 written_bytes;
	ModelSlot *deleting; /* where we count as deleting */
	struct Model *next_written;

	uint64 damaged[2]; /* cycles of snapshots, by table, that the worker has found damaged */
} Model;

/* model.c */
extern Model *model_local(Oid relid, int kind);
extern ModelSlot *model_find_slot(Oid relid);
extern bool model_has_slot(Model *model);
extern ModelSlot *model_take_slot(Oid relid, int kind);
extern void model_free_slot(ModelSlot *slot);
extern void model_free_slots(Oid database);
extern bool model_has_free_slot(void);
pg_noreturn extern void model_slots_exhausted(void);
extern void model_reset(ModelSlot *slot);
extern ModelSlot *model_slots(void);
extern LWLock *model_lock_of(const ModelSlot *slot);
extern void model_adopt(Model *model, ModelSlot *slot); /* of the worker */

/*
 * Read: model_await(), then look, between these two, at model->state.  Nothing that may
 * take long or wait happens in between.
 */
extern void model_lock(Model *model);
extern void model_unlock(Model *model);

extern uint64 model_changes(void);
extern void model_note_change(void);
extern uint64 model_bytes_used(void);
extern int64 model_new_id(void);

/* await.c */
extern Size await_shmem_size(void);
extern void await_shmem_init(void);

/*
 * Wait until what a query shall see is folded.  False: there is nothing to see, because
 * this transaction has only created the model.
 */
extern bool model_await(Model *model);

/* Wait until a seq is folded.  False: the deadline (nb_now_us()) has come. */
extern bool model_wait(Model *model, uint64 seq, int64 deadline);
extern uint64 model_committed_seq(Model *model);
extern void model_wake(ModelSlot *slot);

/*
 * Under the lock: every change up to here is in the state, and no later one.  Not
 * while the model is being loaded.
 */
static inline uint64
model_seq(const Model *model)
{
	return Max(model->slot->applied_seq, pg_atomic_read_u64(&model->slot->folded_seq));
}

/* models.c */
extern Model *model_open(const ModelKind *kind, text *name, AclMode right);
extern Model *model_open_by_log(const char *log);
extern double model_records(const ModelKind *kind, const char *name);
extern Model *model_open_to_write(FunctionCallInfo fcinfo, const ModelKind *kind, int n);
extern Model *model_open_to_update(FunctionCallInfo fcinfo, const ModelKind *kind, int n);
extern text *model_arg(FunctionCallInfo fcinfo, int n);
extern void models_init(void);

/* One row of netbus.catalog_model. */
typedef struct ModelRow
{
	Oid log;
	int kind;
	char name[NAMEDATALEN];
} ModelRow;

extern ModelRow *models_list(int *count);

/* event.c */
extern void event_init(void);
extern void event_begin(JsonbParseState **parse, const char *op, int64 id);
extern void event_put_text(JsonbParseState **parse, const char *key, const char *text, int len);
extern void event_put_jsonb(JsonbParseState **parse, const char *key, Jsonb *value);
extern void event_put_texts(JsonbParseState **parse, const char *key, const Value *texts, int n);
extern void event_put_bool(JsonbParseState **parse, const char *key, bool value);
extern void event_put_time(JsonbParseState **parse, const char *key, int64 us);
extern void event_publish(Model *model, JsonbParseState **parse, bool deletes);
extern void event_put_key(JsonbParseState **parse, const char *key);
extern void event_check_memory(Model *model, uint64 bytes);

extern const EventKind *event_kind(const ModelKind *kind, Event *event);
extern bool event_text(Event *event, const char *key, const Attribute *attr, bool required,
					   Value *value);
extern bool event_texts(Event *event, const char *key, const Attribute *attr, bool required,
						Value *value);
extern bool event_jsonb(Event *event, const char *key, Value *value);
extern bool event_bool(Event *event, const char *key, bool *given, bool *value);
extern bool event_time(Event *event, const char *key, bool *given, int64 *time);
extern void image_keep_values(const State *state, const Record *record, Image *image);

/* Folds of events that have no members: the state is set or cleared, the record goes. */
extern FoldResult event_fold_set(const State *state, Event *event, const Record *record,
								 Image *image);
extern FoldResult event_fold_clear(const State *state, Event *event, const Record *record,
								   Image *image);
extern FoldResult event_fold_remove(const State *state, Event *event, const Record *record,
									Image *image);

/* A function f(id, model) that publishes such an event; false if there is no record with the id. */
extern Datum event_update(FunctionCallInfo fcinfo, const ModelKind *kind, const char *op,
						  bool deletes);

/* args.c: SQL arguments of the functions that write */
extern text *arg_sized_text(FunctionCallInfo fcinfo, int n, const char *name, bool required,
							uint32 max_bytes);
extern int arg_tags(FunctionCallInfo fcinfo, int n, const char *name, Value **texts);
extern int tags_distinct(Value *texts, int n);
extern void arg_check_size(const char *name, uint64 bytes, uint32 max_bytes);
extern bool record_visible(Model *model, int64 id);

/* text.c: values as SQL has them, and what lower() of the database makes of a text */
extern bool fold_case_is_ascii(void);
extern bool text_has_odd_case(const char *text, uint32 len);
extern bool text_contains(const char *text, uint32 len, const char *needle, uint32 needle_len);

extern Datum value_jsonb(Value value);

/*
 * row.c: records as rows
 *
 * A row is a composite with some columns of a kind, or all of them.
 */
typedef struct RowType
{
	const ModelKind *kind;
	int ncolumns;
	RowColumn columns[MODEL_MAX_COLUMNS];
	Size header_len;
	char header[MAXALIGN(offsetof(HeapTupleHeaderData, t_bits) + (MODEL_MAX_COLUMNS + 7) / 8)];
} RowType;

#define ALL_COLUMNS PG_UINT32_MAX

/* columns: bits. */
extern void row_type_init(RowType *type, const ModelKind *kind, uint32 columns);

/* Write the row of a record, aligned to 8 bytes.  Returns its length. */
extern Size row_max_bytes(const RowType *type, const Blob *blob);
extern Size row_write(char *row, const RowType *type, const Record *record, const Blob *blob);

/*
 * query.c: calls of functions that return rows
 *
 * The rows are left in data, one QueryRow after the other, until that would be more than
 * limit; then put() gets them.
 */
typedef struct QueryRow
{
	uint32 bytes;    /* of all, a multiple of 8 */
	uint32 len;      /* of the row, which follows, */
	uint32 text_len; /* and of the text behind it that is still to be searched */
	bool certain;
} QueryRow;

typedef struct QueryRows
{
	const RowType *type; /* NULL: only to be counted */
	Size limit;
	void (*put)(struct QueryRows *rows, const HeapTuple row);
	MemoryContext context; /* of data */
	char *data;
	Size len;
	Size room;
	bool full; /* all that follows is put() */
} QueryRows;

extern int query_nargs(const ModelKind *kind);

/* Fill in the rows of a call, none yet; one: of memory() or task(). */
extern void query_call(FunctionCallInfo fcinfo, const ModelKind *kind, bool one, QueryRows *rows);

/* scan.c */
extern void scan_init(void);

/* info.c: the counters of stat_model, of all models of this database */
extern void model_stats_reset(void);

/*
 * query.c: the arguments by which a kind is filtered, then the common ones up to
 * updated_to, become a filter in CurrentMemoryContext, which points into them.
 */
#define MODEL_TIME_FILTERS 4 /* created_from, created_to, updated_from, updated_to */
extern void query_filter(FunctionCallInfo fcinfo, const ModelKind *kind, RecordFilter *filter);
extern void query_filter_ids(RecordFilter *filter, ArrayType *ids); /* ascending, no duplicates */

/*
 * fold.c
 *
 * Whoever is to see every change of every model (src/watch).  Called by the worker: before
 * and after each change of a record, with the record as it is then (NULL: it is not
 * there); each change is shown once, also if the state is built anew, unless an
 * error or the end of the process comes in between.  hold(): is the worker to
 * fold nothing, also not what it has just read, until its other jobs have run?
 */
typedef struct ModelObserver
{
	bool (*hold)(void);
	void (*before)(Model *model, uint64 seq, int64 id, const Record *record);
	void (*after)(Model *model, uint64 seq, int64 id, const Record *record);
} ModelObserver;

extern const ModelObserver *model_observer; /* NULL: nobody */

extern void fold_init(void);

/* snapshot.c: of the worker */
typedef struct SnapshotLoad SnapshotLoad;

/* The newest snapshot of a model that its log can go on from; NULL: none.  In a transaction. */
extern SnapshotLoad *snapshot_open(Model *model, uint64 head);

/*
 * Load records until the deadline.  False: there are more.  *seq is where the log goes on,
 * unless the snapshot is damaged: then *valid is false, and the state must be
 * reset.  In a transaction.
 */
extern bool snapshot_load(SnapshotLoad *load, Model *model, int64 deadline, uint64 *seq,
						  bool *valid);

extern void snapshot_close(SnapshotLoad *load);

/*
 * Write some of a snapshot, if one is due or being written.  Outside a
 * transaction.  Returns in how many milliseconds to come again; -1: no more.
 */
extern long snapshot_run(Model **models, int nmodels, int64 deadline);

#endif /* NETBUS_MODEL_H */
