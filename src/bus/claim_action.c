/*-------------------------------------------------------------------------
 *
 * claim_action.c
 *		What statements do to consumers, when their transaction commits.
 *
 * Pausing, resuming, dropping and holding are rows of the catalog at once, and become
 * true in shared memory with the commit, in the order of the statements; a creation
 * that is rolled back has to be taken back there.  What can fail is done by the
 * statement: a memory log's rings hold events from then on already.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/claim_internal.h"
#include "bus/hold.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* What is to happen to a consumer at commit. */
typedef struct PendingAction
{
	struct PendingAction *next;
	ConsumerAction action;
	int level;
	uint64 id;
	uint64 hold;
	ConsumerShared *shared;
	ConsumerDatabase *database;
	NbLog *log; /* pinned; with rings that are held, else NULL */
} PendingAction;

static PendingAction *actions = NULL; /* in the order of the statements */

/* A creation was rolled back to a savepoint: the worker spares it as long as this transaction lasts. */
static ConsumerDatabase *undone = NULL;

/* Does a later action want the rings to keep events for the consumer? */
static bool
hold_pending(uint64 id)
{
	for (PendingAction *a = actions; a; a = a->next)
		if (a->id == id && a->hold != 0 && a->action == ACTION_HOLD)
			return true;
	return false;
}

/* Have the rings keep nothing for the consumer any more. */
static void
end_hold(const PendingAction *action)
{
	for (int i = 0; action->log && i < action->log->shared->shards; i++)
		(void) ring_set_hold(log_ring(action->log->shared, i), action->id, PG_UINT64_MAX);
}

/* The action is not among "actions" any more.  Cannot fail. */
static void
apply_action(PendingAction *action, bool commit)
{
	ConsumerShared *shared = action->shared;

	if (!commit)
	{
		if (action->action == ACTION_CREATE)
		{
			undone = action->database;
			end_hold(action);
		}
		else if (action->action == ACTION_HOLD && pg_atomic_read_u64(&shared->hold) == 0 &&
				 !hold_pending(action->id))
			end_hold(action);
		return;
	}
	switch (action->action)
	{
		case ACTION_CREATE:
			break;
		case ACTION_PAUSE:
			pg_atomic_write_u32(&shared->paused, 1);
			break;
		case ACTION_RESUME:
			pg_atomic_write_u32(&shared->paused, 0);
			break;
		case ACTION_HOLD:
			pg_atomic_write_u64(&shared->hold, action->hold);
			/* Members may have moved on since the rings were told. */
			for (int i = 0; action->hold != 0 && action->log && i < shared->shards; i++)
				(void) ring_set_hold(log_ring(action->log->shared, i), action->id,
									 hold_from(&shared->shard[i]));
			break;
		case ACTION_DROP:
			pg_atomic_write_u32(&shared->dropped, 1);
			pg_atomic_write_u64(&shared->hold, 0);
			pg_atomic_write_u32(&action->database->reap, 1);
			nb_worker_wake(MyDatabaseId);
			break;
	}
	if (pg_atomic_read_u64(&shared->hold) == 0 && !hold_pending(action->id))
		end_hold(action);
	consumer_wake_all(shared);
}

void
claim_add_action(ConsumerAction action, const Consumer *consumer, NbLog *log)
{
	PendingAction *pending;
	PendingAction **link;

	claim_check_may();
	pending = MemoryContextAllocZero(TopTransactionContext, sizeof(PendingAction));
	pending->action = action;
	pending->level = GetCurrentTransactionNestLevel();
	pending->id = consumer->id;
	pending->hold = consumer->hold;
	pending->shared = consumer->shared;
	pending->database = consumer_database();
	if (!nb_log_durable(log))
	{
		pending->log = log;
		nb_log_pin(log);
		/* A new hold begins now; one that ends lasts until the commit. */
		if ((action == ACTION_CREATE || action == ACTION_HOLD) && consumer->hold != 0)
			for (int i = 0; i < log->shared->shards; i++)
				if (!ring_set_hold(log_ring(log->shared, i), consumer->id,
								   hold_from(&consumer->shared->shard[i])))
				{
					for (int n = 0; n < i; n++)
						(void) ring_set_hold(log_ring(log->shared, n), consumer->id, PG_UINT64_MAX);
					ereport(ERROR,
							(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							 errmsg("too many consumers hold events of log \"%s\"", log->name),
							 errdetail("There may be %d.", RING_MAX_HOLDS)));
				}
	}
	link = &actions;
	while (*link)
		link = &(*link)->next;
	*link = pending;
}

bool
claim_has_actions(void)
{
	return actions != NULL;
}

void
claim_actions_end(bool commit)
{
	PendingAction *action;

	while ((action = actions) != NULL)
	{
		actions = action->next;
		apply_action(action, commit);
		if (action->log)
			nb_log_unpin(action->log);
	}
	if (undone)
	{
		pg_atomic_write_u32(&undone->reap, 1);
		nb_worker_wake(MyDatabaseId);
		undone = NULL;
	}
}

void
claim_actions_subxact_end(int level, bool commit)
{
	for (PendingAction **link = &actions; *link;)
	{
		PendingAction *action = *link;

		if (action->level < level)
			link = &action->next;
		else if (commit)
		{
			action->level = level - 1;
			link = &action->next;
		}
		else
		{
			*link = action->next;
			apply_action(action, false);
			if (action->log)
				nb_log_unpin(action->log);
		}
	}
}
