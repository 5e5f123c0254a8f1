/*-------------------------------------------------------------------------
 *
 * claim_outcome.c
 *		What a claim has been given, what was said of it, and what becomes of that.
 *
 * What was delivered from the log is kept as runs of seqs, and as verdicts what is
 * special about one event: that it came as a retry, or was refused.  Both only grow,
 * so that going back to a savepoint is cutting them off.
 *
 * At commit the position moves to what was acknowledged, and the verdicts are merged
 * into the retries, in rows before it and in the slot after it.  An abort counts a
 * delivery that has failed.  Neither allocates nor fails: memory for retries is
 * reserved when they are asked for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/claim_internal.h"

#include "access/xact.h"
#include "utils/memutils.h"

uint64 claim_events = 0;

/* ------------------------------------------------------ what was received */

/* Double an array in TopTransactionContext when it is full. */
static void *
grow(void *array, int n, int *max, Size size)
{
	if (n < *max)
		return array;
	*max = Max(8, *max * 2);
	return array ? repalloc_huge(array, *max * size)
				 : MemoryContextAlloc(TopTransactionContext, *max * size);
}

void
claim_touch(Claim *claim)
{
	int level = GetCurrentTransactionNestLevel();
	ClaimMark *mark;

	if (likely(level == (claim->nmarks > 0 ? claim->marks[claim->nmarks - 1].level : claim->level)))
		return;
	claim->marks = grow(claim->marks, claim->nmarks, &claim->max_marks, sizeof(ClaimMark));
	mark = &claim->marks[claim->nmarks++];
	mark->level = level;
	mark->before = claim->now;
}

void
claim_note_event(Claim *claim, uint64 seq)
{
	ClaimProgress *now = &claim->now;

	if (now->nruns > 0 && now->run_to + 1 == seq && now->filtered == 0 && now->lost == 0)
		claim->runs[now->nruns - 1].to = seq;
	else
	{
		ClaimRun run = {seq, seq, now->filtered, now->lost};

		claim->runs = grow(claim->runs, now->nruns, &claim->max_runs, sizeof(ClaimRun));
		claim->runs[now->nruns++] = run;
		now->filtered = now->lost = 0;
	}
	now->run_to = now->delivered_to = now->scanned_to = seq;
	now->events++;
	claim->failed = false;
	claim_events++;
}

Verdict *
claim_verdict(Claim *claim, uint64 seq)
{
	for (int i = claim->now.nverdicts - 1; i >= 0; i--)
		if (claim->verdicts[i].retry.seq == seq)
			return &claim->verdicts[i];
	return NULL;
}

Verdict *
claim_add_verdict(Claim *claim, VerdictKind kind, const ConsumerRetry *retry, bool is_retry)
{
	Verdict verdict = {kind, is_retry, *retry};

	claim->verdicts =
		grow(claim->verdicts, claim->now.nverdicts, &claim->max_verdicts, sizeof(Verdict));
	claim->verdicts[claim->now.nverdicts] = verdict;
	if (kind == VERDICT_DELIVERED)
	{
		claim->now.retries++;
		claim_events++;
	}
	return &claim->verdicts[claim->now.nverdicts++];
}

/* The last run that begins at or before seq; -1: none. */
static int
run_before(const Claim *claim, uint64 seq)
{
	int lo = 0;
	int hi = claim->now.nruns;

	while (lo < hi)
	{
		int mid = (lo + hi) / 2;

		if (claim->runs[mid].from <= seq)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo - 1;
}

static inline uint64
run_end(const Claim *claim, int run)
{
	return run == claim->now.nruns - 1 ? claim->now.run_to : claim->runs[run].to;
}

bool
claim_has_event(const Claim *claim, uint64 seq)
{
	int run = run_before(claim, seq);

	return run >= 0 && seq <= run_end(claim, run);
}

uint64
claim_count_events(const Claim *claim, uint64 to_seq)
{
	uint64 events = 0;

	for (int i = run_before(claim, to_seq); i >= 0 && run_end(claim, i) > claim->now.acked_to; i--)
	{
		uint64 from = Max(claim->runs[i].from, claim->now.acked_to + 1);

		events += Min(run_end(claim, i), to_seq) - from + 1;
	}
	for (int i = 0; i < claim->now.nverdicts; i++)
	{
		const Verdict *v = &claim->verdicts[i];

		if (!v->is_retry && v->retry.seq > claim->now.acked_to && v->retry.seq <= to_seq &&
			claim_verdict((Claim *) claim, v->retry.seq) == v)
			events--;
	}
	return events;
}

void
claim_skip(Claim *claim, uint64 to_seq, uint64 filtered, uint64 lost)
{
	ConsumerShard *slot = claim->slot;

	if (claim->now.events > 0 || claim->nmarks > 0 || claim->now.acked_to != claim->base)
	{
		claim_touch(claim);
		claim->now.scanned_to = Max(claim->now.scanned_to, to_seq);
		claim->now.filtered += filtered;
		claim->now.lost += lost;
		return;
	}
	SpinLockAcquire(&slot->lock);
	if (to_seq > slot->position)
	{
		slot->position = to_seq;
		slot->advanced_at = nb_now_us();
	}
	slot->counters.filtered += filtered;
	slot->counters.lost += lost;
	if (slot->failure.attempts > 0 && slot->position >= slot->failure.failed_to)
		memset(&slot->failure, 0, sizeof(slot->failure));
	if (slot->nretries > 0)
		consumer_retries_changed(slot, claim->retries);
	SpinLockRelease(&slot->lock);
	claim->base = slot->position;
	claim->now.scanned_to = claim->now.delivered_to = claim->now.acked_to = slot->position;
}

/* ---------------------------------------------------------- before the commit */

/* What a verdict does to the retries. */
typedef enum RetryChange
{
	RETRY_KEEP,
	RETRY_REMOVE,
	RETRY_PUT,
} RetryChange;

static RetryChange
change_of(const Claim *claim, const Verdict *verdict, uint64 position)
{
	bool behind = verdict->retry.seq <= position;

	switch (verdict->kind)
	{
		case VERDICT_DELIVERED:
			return RETRY_KEEP;
		case VERDICT_RELEASE:
			/* Not acknowledged, it comes again with the others. */
			return verdict->is_retry || behind ? RETRY_PUT : RETRY_KEEP;
		case VERDICT_RETRY:
			return RETRY_PUT;
		case VERDICT_ACKED:
		case VERDICT_GONE:
		case VERDICT_DEAD:
			/* Ahead of the position, that it is done has to be remembered. */
			return !behind ? RETRY_PUT : verdict->is_retry ? RETRY_REMOVE : RETRY_KEEP;
	}
	return RETRY_KEEP;
}

static int
compare_verdicts(const void *a, const void *b)
{
	const Verdict *x = *(const Verdict *const *) a;
	const Verdict *y = *(const Verdict *const *) b;

	if (x->retry.seq != y->retry.seq)
		return x->retry.seq < y->retry.seq ? -1 : 1;
	return x < y ? -1 : 1;
}

/* Note which verdicts count: the last one on each seq, in the order of seq. */
static void
note_last_verdicts(Claim *claim)
{
	int n = 0;

	claim->nlast = 0;
	if (claim->now.nverdicts == 0 || claim->now.seek)
		return;
	claim->last =
		MemoryContextAlloc(TopTransactionContext, claim->now.nverdicts * sizeof(Verdict *));
	for (int i = 0; i < claim->now.nverdicts; i++)
		claim->last[i] = &claim->verdicts[i];
	qsort(claim->last, claim->now.nverdicts, sizeof(Verdict *), compare_verdicts);
	for (int i = 0; i < claim->now.nverdicts; i++)
	{
		if (n > 0 && claim->last[n - 1]->retry.seq == claim->last[i]->retry.seq)
			n--;
		claim->last[n++] = claim->last[i];
	}
	claim->nlast = n;
}

void
claim_insert_rows(Claim *claim)
{
	ConsumerShard *slot = claim->slot;
	uint64 position = claim->now.acked_to;
	ProgressRow *rows;
	int n = 0;

	note_last_verdicts(claim);
	rows = palloc0((claim->nlast + slot->nretries + 1) * sizeof(ProgressRow));
	for (int i = 0; i < claim->nlast; i++)
	{
		RetryChange change = change_of(claim, claim->last[i], position);

		if (change == RETRY_KEEP)
			continue;
		rows[n].retry = &claim->last[i]->retry;
		rows[n++].retry_gone = change == RETRY_REMOVE;
	}
	/* What was recorded, and has not failed after all. */
	for (uint32 i = 0; i < slot->nretries && !claim->now.seek; i++)
	{
		const Verdict *v;

		if (!claim->retries[i].recorded)
			continue;
		v = claim_verdict(claim, claim->retries[i].seq);
		if (!v || change_of(claim, v, position) == RETRY_KEEP)
			rows[n++].retry = &claim->retries[i];
	}
	if (position != claim->base || claim->now.seek || slot->recorded ||
		position - slot->stored >= CLAIM_SKIP_ROW_EVENTS)
	{
		rows[n].position = position;
		rows[n].reset = claim->now.seek;
		if (position < slot->failure.failed_to && !claim->now.seek)
			rows[n].failure = slot->failure;
		n++;
		claim->stored = position;
	}
	else
		claim->stored = slot->stored;
	for (int i = 0; i < n; i++)
	{
		rows[i].id = claim->consumer.id;
		rows[i].shard = claim->shard;
		rows[i].generation = slot->generation + 1;
	}
	claim->changed = n > 0;
	if (n > 0)
	{
		progress_insert(rows, n);
		debug_point("ack");
	}
	pfree(rows);
}

/* ------------------------------------------------------------- the end of it */

/* What was passed over is counted as far as it is acknowledged. */
static void
count_passed(Claim *claim, ConsumerCounters *counters)
{
	for (int i = 0; i < claim->now.nruns && claim->runs[i].from <= claim->now.acked_to; i++)
	{
		counters->filtered += claim->runs[i].filtered;
		counters->lost += claim->runs[i].lost;
	}
	if (claim->now.acked_to >= claim->now.scanned_to)
	{
		counters->filtered += claim->now.filtered;
		counters->lost += claim->now.lost;
	}
}

/* Under the lock: somebody may be resetting them. */
static void
add_counters(ConsumerCounters *to, const ConsumerCounters *from)
{
	to->deliveries += from->deliveries;
	to->redeliveries += from->redeliveries;
	to->acknowledged += from->acknowledged;
	to->filtered += from->filtered;
	to->dead_letters += from->dead_letters;
	to->lost += from->lost;
}

static void
count_delivered(Claim *claim, ConsumerCounters *counters)
{
	const ConsumerFailure *failure = &claim->slot->failure;

	counters->deliveries += claim->now.events + claim->now.retries;
	counters->redeliveries += claim->now.retries;
	for (int i = 0; failure->attempts > 0 && i < claim->now.nruns; i++)
		if (claim->runs[i].from <= failure->failed_to)
			counters->redeliveries +=
				Min(run_end(claim, i), failure->failed_to) - claim->runs[i].from + 1;
}

/*
 * Merge the verdicts into the retries; both are in the order of seq.  The retries are the
 * holder's alone: no lock, which would be held for long where there are many.
 */
static void
apply_verdicts(Claim *claim, ConsumerCounters *counters)
{
	ConsumerShard *slot = claim->slot;
	ConsumerRetry *retries = claim->retries;
	uint64 position = claim->now.acked_to;
	uint32 kept = 0;
	uint32 next = 0;
	uint32 added = 0;
	uint32 to;

	if (claim->now.seek)
		slot->nretries = 0;
	for (uint32 i = 0; i < slot->nretries; i++)
		retries[i].recorded = false;

	/* What is among the retries goes, stays, or changes. */
	for (int i = 0; i < claim->nlast; i++)
	{
		const Verdict *v = claim->last[i];
		RetryChange change = change_of(claim, v, position);
		bool found;

		counters->dead_letters += v->kind == VERDICT_DEAD;
		counters->lost += v->kind == VERDICT_GONE;
		while (next < slot->nretries && retries[next].seq < v->retry.seq)
			retries[kept++] = retries[next++];
		found = next < slot->nretries && retries[next].seq == v->retry.seq;
		if (found && change != RETRY_REMOVE)
			retries[kept++] = change == RETRY_PUT ? v->retry : retries[next];
		added += !found && change == RETRY_PUT;
		next += found;
	}
	while (next < slot->nretries)
		retries[kept++] = retries[next++];

	/* What is not is put there, from the end; there is room. */
	Assert(kept + added <= slot->max_retries);
	slot->nretries = kept + added;
	to = slot->nretries;
	for (int i = claim->nlast - 1; added > 0; i--)
	{
		const Verdict *v = claim->last[i];

		if (change_of(claim, v, position) != RETRY_PUT)
			continue;
		while (kept > 0 && retries[kept - 1].seq > v->retry.seq)
			retries[--to] = retries[--kept];
		if (kept > 0 && retries[kept - 1].seq == v->retry.seq)
			continue;
		retries[--to] = v->retry;
		added--;
	}
}

void
claim_commit(Claim *claim)
{
	ConsumerShard *slot = claim->slot;
	uint64 position = claim->now.acked_to;
	ConsumerCounters counters = {0};

	count_delivered(claim, &counters);
	count_passed(claim, &counters);
	counters.acknowledged += claim->now.acked;
	apply_verdicts(claim, &counters);

	SpinLockAcquire(&slot->lock);
	add_counters(&slot->counters, &counters);
	if (position != slot->position)
	{
		slot->position = position;
		slot->advanced_at = nb_now_us();
	}
	slot->stored = claim->stored;
	slot->recorded = false;
	if (claim->changed)
		slot->generation++;
	if (position >= slot->failure.failed_to || claim->now.seek)
		memset(&slot->failure, 0, sizeof(slot->failure));
	if (claim->now.events + claim->now.retries > 0)
	{
		slot->unsure = false;
		slot->retries_last = claim->now.retries > 0;
	}
	SpinLockRelease(&slot->lock);
	if (claim->retries)
		consumer_retries_changed(slot, claim->retries);
}

/* What was delivered since has failed.  alone: there was one event in all.  Under the slot's lock. */
static void
count_failure(Claim *claim, const ClaimProgress *since, bool alone)
{
	ConsumerShard *slot = claim->slot;

	if (claim->now.events > since->events)
	{
		/* Nested transactions that end together count once. */
		slot->failure.attempts += !claim->failed;
		slot->recorded = false;
		slot->failure.alone = alone;
		slot->failure.failed_to =
			Max(claim->now.delivered_to, claim->failed ? slot->failure.failed_to : 0);
		claim->failed = true;
	}
	for (int i = since->nverdicts; i < claim->now.nverdicts; i++)
	{
		ConsumerRetry *retry;

		if (claim->verdicts[i].kind != VERDICT_DELIVERED)
			continue;
		retry = consumer_find_retry(slot, claim->retries, claim->verdicts[i].retry.seq);
		if (retry)
		{
			retry->attempts++;
			retry->alone = alone;
			retry->recorded = false;
		}
	}
}

void
claim_abort(Claim *claim, bool alone)
{
	ClaimProgress nothing = {0};
	ConsumerShard *slot = claim->slot;

	if (claim->now.events + claim->now.retries == 0)
		return;
	SpinLockAcquire(&slot->lock);
	count_delivered(claim, &slot->counters);
	slot->unsure = false;
	slot->retries_last = claim->now.retries > 0;
	count_failure(claim, &nothing, alone);
	SpinLockRelease(&slot->lock);
}

void
claim_undo_to(Claim *claim, const ClaimProgress *before, bool alone)
{
	ConsumerShard *slot = claim->slot;

	SpinLockAcquire(&slot->lock);
	slot->counters.deliveries +=
		claim->now.events + claim->now.retries - before->events - before->retries;
	count_failure(claim, before, alone);
	SpinLockRelease(&slot->lock);
	claim_events -= claim->now.events + claim->now.retries - before->events - before->retries;
	claim->now = *before;
	if (claim->now.nruns > 0)
		claim->runs[claim->now.nruns - 1].to = claim->now.run_to;
}
