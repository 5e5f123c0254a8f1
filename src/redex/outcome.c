/*-------------------------------------------------------------------------
 *
 * outcome.c
 *		What the rings are told once the transaction has committed.
 *
 * The worker, purge() and alter_log() change rows of a log in a transaction.
 * The rings must hear of it if that commits, and only then, and no error may
 * come in between.  So what there will be to tell is collected before, in memory
 * of the transaction, and told in the commit callback, which allocates nothing
 * and cannot fail.
 *
 * A transaction with outcomes cannot be prepared: the rings would not hear of
 * COMMIT PREPARED.  Nothing undoes an outcome when a savepoint is rolled back:
 * behind one purge(), and alter_log() where it moves rows, refuse to run.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redex/redex_internal.h"

#include "access/xact.h"
#include "utils/memutils.h"

/* Of the current transaction, the last one first.  In TopTransactionContext. */
static Outcome *outcomes = NULL;

Outcome *
outcome_add(NbLog *log, int shard, OutcomeKind kind)
{
	Outcome *outcome = MemoryContextAllocZero(TopTransactionContext, sizeof(Outcome));

	nb_log_pin(log);
	outcome->shared = log->shared;
	outcome->ring = log_ring(log->shared, shard);
	outcome->kind = kind;
	outcome->next = outcomes;
	outcomes = outcome;
	return outcome;
}

static void
outcome_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE && outcomes)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot PREPARE a transaction that has purged or altered a log")));
	if (event == XACT_EVENT_COMMIT)
		for (Outcome *o = outcomes; o; o = o->next)
		{
			if (o->kind == OUTCOME_PERSISTED)
				ring_persisted(o->ring, o->to_pos, o->to_seq, o->totals, o->max_stable, o->first_ts,
							   o->last_ts, o->segment);
			else if (o->kind == OUTCOME_TRUNCATED)
				o->shared->truncated = Max(o->shared->truncated, o->segment + 1);
			else if (o->kind == OUTCOME_SEALED)
				ring_sealed(o->ring, o->to_seq);
			else
				ring_expire_rows(o->ring, o->segment, o->events, o->bytes, o->to_seq);
		}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		outcomes = NULL;
}

void
outcome_init(void)
{
	RegisterXactCallback(outcome_xact_callback, NULL);
}
