/*-------------------------------------------------------------------------
 *
 * progress.c
 *		Rows that make the positions of consumers durable.
 *
 * Nothing is updated: each row of netbus.catalog_ack_0 or _1 says what is true of
 * a shard of a consumer from a generation on, and the row with the highest one
 * counts.  There are two kinds: about the position and what fails behind it, and about
 * one event that is to come again.  Generations grow by one with every transaction that
 * changes something, which only a holder of the shard does; so their order is that
 * of the commits.
 *
 * One table takes rows (ConsumerDatabase.current) while the other is emptied, in three
 * steps, each in a transaction of the worker:
 *
 *		copy		what only the former table knows is copied to the current one
 *		(wait)		until the current one is large
 *		truncate	the former one, which then becomes the current one
 *
 * The wait is for pg_dump, which takes its snapshot before it locks tables: truncated
 * right after the copy, the former table would look empty and the current one not
 * have the copies yet.  TRUNCATE and not DELETE, so that it works with any old snapshot
 * around, and nothing is left for VACUUM.
 *
 * Their name has a second purpose: pg_restore fills tables in the order of names, so that
 * the rows are there when a consumer is.
 *
 * Locks: who inserts has RowExclusiveLock on the table and looks at "current" once
 * more when he has it.  The copy takes ShareRowExclusiveLock, so that no insertion is
 * under way in the former table, and the truncation AccessExclusiveLock; both only if
 * they are free.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/consumer.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "commands/tablecmds.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#ifdef NETBUS_DEBUG
#define ROTATE_ROWS 500 /* tests are to see it */
#else
#define ROTATE_ROWS 400000 /* some 32 MB */
#endif
#define ROWS_PER_PAGE   100
#define ROTATE_RETRY_MS 1000

static const char *const tables[] = {"catalog_ack_0", "catalog_ack_1"};

/* Their columns */
enum
{
	COL_CONSUMER = 1,
	COL_SHARD,
	COL_GENERATION,
	COL_POSITION,
	COL_ATTEMPTS,
	COL_ALONE,
	COL_FAILED_TO,
	COL_RESET,
	COL_RETRY_SEQ, /* null: about the position */
	COL_RETRY_DUE, /* null: it does not come again */
	COL_REASON,
	COLUMNS = COL_REASON
};

/* OIDs of the tables, looked up once per generation of logs. */
static Oid
table_oid(int which)
{
	static Oid oids[lengthof(tables)];
	static uint64 generation = 0;

	if (generation != nb_log_generation)
	{
		for (int i = 0; i < lengthof(tables); i++)
			oids[i] = nb_catalog_table(tables[i]);
		generation = nb_log_generation;
	}
	if (!OidIsValid(oids[which]))
		nb_outdated_extension();
	return oids[which];
}

/* Open the table that takes rows. */
static Relation
open_current(ConsumerDatabase *database)
{
	for (;;)
	{
		int current = pg_atomic_read_u32(&database->current);
		Relation rel = table_open(table_oid(current), RowExclusiveLock);

		if (current == pg_atomic_read_u32(&database->current))
			return rel;
		table_close(rel, NoLock);
	}
}

static void
insert_row(Relation rel, const ProgressRow *row)
{
	Datum values[COLUMNS] = {0};
	bool nulls[COLUMNS] = {0};
	ConsumerFailure failure = row->failure;
	HeapTuple tuple;

	if (row->retry)
	{
		failure.attempts = row->retry->attempts;
		failure.alone = row->retry->alone;
	}
	values[COL_CONSUMER - 1] = Int64GetDatum(row->id);
	values[COL_SHARD - 1] = Int32GetDatum(row->shard);
	values[COL_GENERATION - 1] = Int64GetDatum(row->generation);
	values[COL_POSITION - 1] = Int64GetDatum(row->position);
	values[COL_ATTEMPTS - 1] = Int32GetDatum(failure.attempts);
	values[COL_ALONE - 1] = BoolGetDatum(failure.alone);
	values[COL_FAILED_TO - 1] = Int64GetDatum(failure.failed_to);
	values[COL_RESET - 1] = BoolGetDatum(row->reset);
	nulls[COL_RETRY_SEQ - 1] = row->retry == NULL;
	nulls[COL_RETRY_DUE - 1] = row->retry == NULL || row->retry_gone;
	nulls[COL_REASON - 1] = row->retry == NULL || row->retry->reason[0] == '\0';
	if (row->retry)
	{
		values[COL_RETRY_SEQ - 1] = Int64GetDatum(row->retry->seq);
		values[COL_RETRY_DUE - 1] = TimestampTzGetDatum(
			row->retry->due == CONSUMER_NEVER ? DT_NOEND
											  : NB_EPOCH_TO_TIMESTAMPTZ(row->retry->due));
	}
	if (!nulls[COL_REASON - 1])
		values[COL_REASON - 1] = CStringGetTextDatum(row->retry->reason);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	simple_heap_insert(rel, tuple);
	heap_freetuple(tuple);
}

void
progress_insert(const ProgressRow *rows, int nrows)
{
	ConsumerDatabase *database = consumer_database();
	Relation rel = open_current(database);

	for (int i = 0; i < nrows; i++)
		insert_row(rel, &rows[i]);
	table_close(rel, NoLock);
	if (pg_atomic_fetch_add_u32(&database->rows, nrows) / ROTATE_ROWS !=
		pg_atomic_read_u32(&database->rows) / ROTATE_ROWS)
		nb_worker_wake(MyDatabaseId);
}

/* --------------------------------------------------------------- reading */

typedef struct ReadArgs
{
	HTAB *consumers;
	HTAB *present; /* ids to leave out; NULL: none */
} ReadArgs;

static void
add_consumer(const Consumer *options, const uint64 *starts, int shards, TransactionId creator,
			 void *arg)
{
	ReadArgs *args = arg;
	ProgressConsumer *consumer;

	if (args->present && hash_search(args->present, &options->id, HASH_FIND, NULL))
		return;
	consumer = hash_search(args->consumers, &options->id, HASH_ENTER, NULL);
	consumer->options = *options;
	consumer->creator = creator;
	consumer->shards = shards;
	consumer->shard = palloc0(shards * sizeof(ProgressShard));
	for (int i = 0; i < shards; i++)
		consumer->shard[i].position = starts[i];
}

static ProgressRetry *
retry_of(ProgressShard *state, uint64 seq)
{
	int at = 0;

	while (at < state->nretries && state->retries[at].retry.seq < seq)
		at++;
	if (at < state->nretries && state->retries[at].retry.seq == seq)
		return &state->retries[at];
	if (state->nretries == state->max_retries)
	{
		state->max_retries = Max(16, state->max_retries * 2);
		if (!state->retries)
			state->retries = palloc(state->max_retries * sizeof(ProgressRetry));
		else
			state->retries =
				repalloc_huge(state->retries, state->max_retries * sizeof(ProgressRetry));
	}
	memmove(&state->retries[at + 1], &state->retries[at],
			(state->nretries - at) * sizeof(ProgressRetry));
	memset(&state->retries[at], 0, sizeof(ProgressRetry));
	state->retries[at].retry.seq = seq;
	state->nretries++;
	return &state->retries[at];
}

/* Take a row into account, whatever came before. */
static void
apply_row(ProgressShard *state, const Datum *values, const bool *nulls, int table)
{
	uint64 generation = DatumGetInt64(values[COL_GENERATION - 1]);
	ConsumerFailure failure = {DatumGetInt32(values[COL_ATTEMPTS - 1]),
							   DatumGetBool(values[COL_ALONE - 1]),
							   DatumGetInt64(values[COL_FAILED_TO - 1])};

	state->generation = Max(state->generation, generation);
	if (DatumGetBool(values[COL_RESET - 1]) && generation >= state->reset)
	{
		state->reset = generation;
		state->reset_table = table;
	}
	if (nulls[COL_RETRY_SEQ - 1])
	{
		if (generation >= state->position_generation)
		{
			state->position = DatumGetInt64(values[COL_POSITION - 1]);
			state->failure = failure;
			state->position_generation = generation;
			state->table = table;
		}
	}
	else
	{
		ProgressRetry *r = retry_of(state, DatumGetInt64(values[COL_RETRY_SEQ - 1]));

		r->in[table] = true;
		if (generation < r->generation)
			return;
		r->generation = generation;
		r->table = table;
		r->gone = nulls[COL_RETRY_DUE - 1];
		r->retry.attempts = failure.attempts;
		r->retry.alone = failure.alone;
		if (!r->gone)
		{
			TimestampTz due = DatumGetTimestampTz(values[COL_RETRY_DUE - 1]);

			r->retry.due = TIMESTAMP_IS_NOEND(due) ? CONSUMER_NEVER : NB_TIMESTAMPTZ_TO_EPOCH(due);
		}
		r->retry.reason[0] = '\0';
		if (!nulls[COL_REASON - 1])
			strlcpy(r->retry.reason, TextDatumGetCString(values[COL_REASON - 1]), CONSUMER_REASON);
	}
}

static void
read_table(Relation rel, int which, HTAB *consumers, Snapshot snapshot)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	if (RelationGetNumberOfAttributes(rel) != COLUMNS)
		elog(ERROR, "table \"%s\" has other columns than expected", tables[which]);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		ProgressConsumer *consumer;
		uint64 id;
		int shard;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		id = DatumGetInt64(slot->tts_values[COL_CONSUMER - 1]);
		shard = DatumGetInt32(slot->tts_values[COL_SHARD - 1]);
		consumer = hash_search(consumers, &id, HASH_FIND, NULL);
		if (consumer && shard >= 0 && shard < consumer->shards)
			apply_row(&consumer->shard[shard], slot->tts_values, slot->tts_isnull, which);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

static inline bool
is_void(const ProgressShard *state, const ProgressRetry *r)
{
	return r->gone || r->generation < state->reset ||
		   (r->retry.due == CONSUMER_NEVER && r->retry.seq <= state->position);
}

/* Only retries that are still to come are left. */
static void
drop_void_retries(ProgressShard *state)
{
	int n = 0;

	for (int i = 0; i < state->nretries; i++)
		if (!is_void(state, &state->retries[i]))
			state->retries[n++] = state->retries[i];
	state->nretries = Min(n, CONSUMER_MAX_RETRIES);
}

static HTAB *
ids_present(void)
{
	HASHCTL ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(uint64)};
	HTAB *ids;
	int count;
	ConsumerShared **list = consumer_list(&count);

	ctl.hcxt = CurrentMemoryContext;
	ids = hash_create("netbus consumer ids", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = 0; i < count; i++)
	{
		uint64 id = pg_atomic_read_u64(&list[i]->id);

		(void) hash_search(ids, &id, HASH_ENTER, NULL);
	}
	return ids;
}

/* All that the rows say, also what is void.  Of copies, the one in the table that is read last counts. */
static HTAB *
read_tables(HTAB *present, int first)
{
	HASHCTL ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(ProgressConsumer)};
	ReadArgs args = {NULL, present};

	ctl.hcxt = CurrentMemoryContext;
	args.consumers =
		hash_create("netbus progress", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	consumer_catalog_scan(add_consumer, &args);
	if (hash_get_num_entries(args.consumers) > 0)
	{
		Relation rels[2];
		Snapshot snapshot;

		/*
		 * The snapshot comes after the locks: an older one does not see the copies of
		 * what is truncated before we have the lock.
		 */
		for (int i = 0; i < 2; i++)
			rels[i] = table_open(table_oid(i), AccessShareLock);
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		read_table(rels[first], first, args.consumers, snapshot);
		read_table(rels[1 - first], 1 - first, args.consumers, snapshot);
		UnregisterSnapshot(snapshot);
		for (int i = 0; i < 2; i++)
			table_close(rels[i], AccessShareLock);
	}
	return args.consumers;
}

HTAB *
progress_read(bool missing_only)
{
	HTAB *found = read_tables(missing_only ? ids_present() : NULL, 0);
	HASH_SEQ_STATUS status;
	ProgressConsumer *consumer;

	hash_seq_init(&status, found);
	while ((consumer = hash_seq_search(&status)) != NULL)
		for (int i = 0; i < consumer->shards; i++)
			drop_void_retries(&consumer->shard[i]);
	return found;
}

/* -------------------------------------------------------------- rotation */

/* The table that says that a retry is void. */
static inline int
said_in(const ProgressShard *state, const ProgressRetry *r)
{
	return r->generation < state->reset ? state->reset_table : r->table;
}

/*
 * Copy what a consumer has in the former table only.  That something is void has to be
 * said as long as the other table, which after a restart may be the older one, says
 * what it was.  Returns how many rows it took.
 */
static int
copy_consumer(Relation to, const ProgressConsumer *consumer, int former)
{
	int copied = 0;

	for (int i = 0; i < consumer->shards; i++)
	{
		const ProgressShard *state = &consumer->shard[i];
		ProgressRow row = {.id = consumer->id,
						   .shard = i,
						   .generation = state->position_generation,
						   .position = state->position,
						   .failure = state->failure,
						   .reset = state->reset == state->position_generation};

		if (state->position_generation > 0 && state->table == former)
		{
			insert_row(to, &row);
			copied++;
		}
		row.reset = false;
		for (int n = 0; n < state->nretries; n++)
		{
			const ProgressRetry *r = &state->retries[n];

			row.retry = &r->retry;
			row.retry_gone = r->gone || r->generation < state->reset;
			row.generation = row.retry_gone ? Max(r->generation, state->reset) : r->generation;
			if (row.retry_gone ? !r->in[1 - former] || said_in(state, r) != former
							   : r->table != former || is_void(state, r))
				continue;
			insert_row(to, &row);
			copied++;
		}
	}
	return copied;
}

/* Returns how many rows it took, -1: somebody has the table. */
static int
copy_former(ConsumerDatabase *database, int former)
{
	HASH_SEQ_STATUS status;
	ProgressConsumer *consumer;
	Relation to;
	int copied = 0;

	if (!ConditionalLockRelationOid(table_oid(former), ShareRowExclusiveLock))
		return -1;
	to = open_current(database);
	hash_seq_init(&status, read_tables(NULL, former));
	while ((consumer = hash_seq_search(&status)) != NULL)
		copied += copy_consumer(to, consumer, former);
	table_close(to, NoLock);
	return copied;
}

/*
 * Empty the former table.  Nothing is left in it that is not in the other, unless a
 * dump was restored meanwhile: then that is copied, and it is not empty yet.
 */
static int
truncate_former(ConsumerDatabase *database, int former)
{
	Oid table = table_oid(former);
	Relation rel;
	int copied;

	if (!ConditionalLockRelationOid(table, AccessExclusiveLock))
		return -1;
	copied = copy_former(database, former);
	if (copied != 0)
		return copied;
	rel = table_open(table, NoLock);
	if (RelationGetNumberOfBlocks(rel) > 0)
		nb_execute_truncate(rel, RelationIsLogicallyLogged(rel) ? list_make1_oid(table) : NIL);
	table_close(rel, NoLock);
	return 0;
}

/* About how many rows the current table has at the start of the server, so that many starts do not fill it. */
static void
count_rows(ConsumerDatabase *database)
{
	Relation rel = open_current(database);

	pg_atomic_fetch_add_u32(&database->rows, RelationGetNumberOfBlocks(rel) * ROWS_PER_PAGE);
	table_close(rel, NoLock);
}

/*
 * Returns in how many milliseconds to come again, -1: when called.  What is copied is
 * known to this worker only; the next one copies again.
 */
long
progress_rotate(void)
{
	static bool copied = false;
	ConsumerDatabase *database = consumer_database();
	int rows;
	int former;

	/* As a rule: the worker asks each time it wakes up. */
	if (copied && pg_atomic_read_u32(&database->rows) < ROTATE_ROWS)
		return -1;
	StartTransactionCommand();
	former = 1 - pg_atomic_read_u32(&database->current);
	if (!OidIsValid(nb_catalog_table(tables[0])))
	{
		CommitTransactionCommand();
		return -1;
	}
	if (!consumer_catalog_lock())
	{
		CommitTransactionCommand();
		return ROTATE_RETRY_MS;
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!database->counted)
		count_rows(database);
	database->counted = true;
	rows = copied ? truncate_former(database, former) : copy_former(database, former);
	debug_point("rotate");
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (rows < 0)
		return ROTATE_RETRY_MS;
	if (!copied || rows > 0)
	{
		/* From here on it is waited, also for what was copied late. */
		if (copied)
			pg_atomic_write_u32(&database->rows, 0);
		copied = true;
		return pg_atomic_read_u32(&database->rows) < ROTATE_ROWS ? -1 : 0;
	}
	copied = false;
	pg_atomic_write_u32(&database->rows, 0);
	pg_memory_barrier();
	pg_atomic_write_u32(&database->current, former);
	return 0;
}
