/*-------------------------------------------------------------------------
 *
 * model.c
 *		Random operations on a ring beside a model that keeps everything.
 *
 * The model is a list of all frames there ever were, the fate of every seq, a
 * list of open claims, and what the segments of a table hold; nothing in it
 * wraps or is evicted.  After each operation it is compared with the ring:
 * positions, counters, what a reader that starts anywhere meets.  Where the
 * ring may choose, in what it evicts or leaves out, the model says whether the
 * choice was allowed and whether it was necessary.
 *
 * A ring with a table has a worker, too, of which the table is left out:
 * persisting takes two steps, between which anything else may happen.
 *
 *-------------------------------------------------------------------------
 */
#include "test_ring.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(test_ring_model);

#define PROCESSES   8
#define MAX_FRAMES  6 /* of a claim */
#define CHECK_EVERY 64

typedef struct ModelFrame
{
	uint64 pos;
	uint64 seq;
	RingFrame info;
	int64 ts;
	uint64 stable_seq; /* in its header */
	FrameState state;
	bool persisted; /* written behind: it is a row */
	bool lost;      /* evicted before it was one */
} ModelFrame;

typedef struct ModelClaim
{
	bool open;
	uint64 start_pos;
	uint64 first_seq; /* of the skipped events */
	uint64 skipped;
	uint64 skipped_bytes;
	bool to_table;
	uint32 segment;
	int64 ts;
	uint64 stable_seq;
	int first; /* its frames in the list */
	int nframes;
} ModelClaim;

/* Of a seq that was issued. */
typedef enum ModelFate
{
	PENDING,
	PRESENT, /* an event in ring or table, now or once */
	HOLE,
	SEAL
} ModelFate;

/* What the worker has copied, and is about to commit. */
typedef struct ModelBatch
{
	bool open;
	int first; /* frames */
	int end;
	uint64 to_pos;
	uint64 to_seq;
	uint64 max_stable;
	int64 first_ts;
	int64 last_ts;
	RingTotals totals[RING_TERM_SLOTS];
} ModelBatch;

typedef struct Model
{
	Ring *ring;
	pg_prng_state random;
	ModelFrame *frames; /* in the order of positions */
	int nframes;
	int max_frames;
	int floor;    /* index of the first frame that the ring retains */
	uint8 *fates; /* by seq */
	uint64 max_fates;
	ModelClaim claims[PROCESSES];
	uint64 next_seq;
	uint64 claim_pos;
	RingCounters counters;
	bool given_up;

	/* of a ring with a table */
	ModelBatch batch;
	uint64 persisted_pos;
	uint64 persisted_seq;
	RingSegment *segments; /* by serial number */
	uint32 segment;
	uint32 oldest_segment;
	uint64 log_floor;
	uint64 sealed_seq;
	uint64 seals;
	uint64 seal_seen;  /* next_seq when a seal was last found to be needed, else 0 */
	uint64 recovered;  /* events persisted although evicted */
	uint64 forgotten;  /* events accepted, before the counters were reset */
	RingCounters past; /* some of these */
} Model;

static uint32
pick(Model *m, uint32 n)
{
	return pg_prng_uint64_range(&m->random, 0, n - 1);
}

static ModelFrame *
model_frame(Model *m, uint64 pos, uint64 seq, RingFrame info, int64 ts, uint64 stable_seq,
			FrameState state)
{
	ModelFrame *f;

	if (m->nframes == m->max_frames)
		m->frames = repalloc_huge(m->frames, (m->max_frames *= 2) * sizeof(ModelFrame));
	f = &m->frames[m->nframes++];
	memset(f, 0, sizeof(ModelFrame));
	f->pos = pos;
	f->seq = seq;
	f->info = info;
	f->ts = ts;
	f->stable_seq = stable_seq;
	f->state = state;
	return f;
}

static void
set_fates(Model *m, uint64 first, uint64 count, ModelFate fate)
{
	while (first + count > m->max_fates)
	{
		m->fates = repalloc_huge(m->fates, m->max_fates * 2);
		memset(m->fates + m->max_fates, PENDING, m->max_fates);
		m->max_fates *= 2;
	}
	memset(m->fates + first, fate, count);
}

static void
add_rows(Model *m, uint32 segment, uint64 events, uint64 bytes, int64 first_ts, int64 last_ts)
{
	RingSegment *s = &m->segments[segment];

	s->events += events;
	s->bytes += bytes;
	if (first_ts != 0)
		s->first_ts = s->first_ts == 0 ? first_ts : Min(s->first_ts, first_ts);
	s->last_ts = Max(s->last_ts, last_ts);
}

static uint64
model_place(const Model *m, uint64 pos, uint32 length)
{
	uint64 end = (pos / m->ring->size + 1) * m->ring->size;

	return pos + length <= end ? pos : end;
}

/* The first position that is not resolved, and the first seq. */
static void
model_stable(const Model *m, uint64 *pos, uint64 *seq)
{
	*pos = m->claim_pos;
	*seq = m->next_seq;
	for (int i = 0; i < PROCESSES; i++)
	{
		const ModelClaim *c = &m->claims[i];

		if (c->open && c->first_seq < *seq)
		{
			*pos = c->start_pos;
			*seq = c->first_seq;
		}
	}
}

static uint64
term_of(const Model *m, uint64 pos)
{
	return pos / (m->ring->size / RING_TERMS);
}

/* Does a term begin, as far as frames go, with frame i? */
static bool
begins_term(const Model *m, int i)
{
	return i == 0 || term_of(m, m->frames[i].pos) != term_of(m, m->frames[i - 1].pos);
}

/* Nothing at or above may be evicted by a claim with these flags. */
static uint64
evict_limit(const Model *m, int flags)
{
	uint64 stable;
	uint64 seq;

	model_stable(m, &stable, &seq);
	if (m->ring->backing == RING_WRITE_BEHIND && !(flags & RING_MAY_LOSE))
		return Min(stable, m->persisted_pos);
	return stable;
}

static uint64
model_floor(const Model *m, uint64 claimed)
{
	return m->floor < m->nframes ? m->frames[m->floor].pos : claimed;
}

/*
 * Follow the ring's floor, after an operation before which frames below
 * "limit" might be evicted and the ring was claimed up to "claimed".  purged:
 * all that can be, and its events are expired.
 */
static void
follow_floor(Model *m, uint64 limit, uint64 claimed, bool purged)
{
	uint64 floor = pg_atomic_read_u64(&m->ring->floor_pos);
	uint64 former = model_floor(m, claimed);
	uint64 last_term_start = former;

	check(floor >= former || m->floor == 0);
	check(floor <= Max(limit, former));
	while (m->floor < m->nframes && m->frames[m->floor].pos < floor)
	{
		ModelFrame *f = &m->frames[m->floor];

		if (begins_term(m, m->floor))
			last_term_start = f->pos;
		check(f->state != FRAME_PENDING);
		if (f->state == FRAME_READY && m->ring->backing != RING_WRITE_THROUGH && !f->persisted)
		{
			f->lost = true;
			set_fates(m, f->seq, f->info.count, HOLE);
			*(purged ? &m->counters.expired : &m->counters.evicted) += f->info.count;
			m->counters.retained -= f->info.count;
			m->counters.retained_bytes -= f->info.body_bytes;
		}
		m->floor++;
	}
	if (m->floor > 0 && m->floor < m->nframes && floor != former)
	{
		/* To the start of a term, and the one before it was in the way. */
		check(m->frames[m->floor].pos == floor);
		check(begins_term(m, m->floor) || floor == claimed);
		check(purged || m->given_up || m->claim_pos > last_term_start + m->ring->size);
	}
}

/* Could the ring have had room for up to "end", by evicting all it may? */
static bool
has_room(const Model *m, uint64 limit, uint64 end)
{
	uint64 best = 0;

	for (int i = m->nframes - 1; i >= 0 && best == 0; i--)
		if (m->frames[i].pos <= limit && begins_term(m, i))
			best = m->frames[i].pos;
	if (limit == m->claim_pos)
		best = limit;
	best = Max(best, model_floor(m, m->claim_pos));
	return end <= best + m->ring->size;
}

static RingFrame
random_frame(Model *m, uint32 max_length)
{
	uint32 room = max_length - sizeof(FrameHeader);
	uint32 count;

	/* Small ones mostly, sometimes as large as can be. */
	switch (pick(m, 10))
	{
		case 0:
			return frame_of(1, 0);
		case 1:
			return frame_of_length(max_length & ~7);
		case 2:
			return frame_of(room / sizeof(uint32), 0);
		case 3:
			break;
		default:
			room = Min(room, 700);
	}
	count = 1 + pick(m, Min(40, room / 32));
	return frame_of(count, pick(m, room - count * sizeof(uint32)));
}

/* What the publishers of a log with such a ring may ask for, and a bit more. */
static int
random_flags(Model *m, bool transactional)
{
	static const int unbacked[] = {0, DROP, DROP, DROP, RING_MAY_SKIP};
	static const int behind[] = {0, RING_MAY_LOSE, RING_MAY_SKIP, DROP};
	static const int behind_transactional[] = {RING_MAY_SKIP | RING_TO_TABLE, DROP | RING_TO_TABLE};

	switch (m->ring->backing)
	{
		case RING_UNBACKED:
			return unbacked[pick(m, lengthof(unbacked))];
		case RING_WRITE_BEHIND:
			if (transactional && pick(m, 3) > 0)
				return behind_transactional[pick(m, lengthof(behind_transactional))];
			return behind[pick(m, lengthof(behind))];
		case RING_WRITE_THROUGH:
			return behind_transactional[pick(m, lengthof(behind_transactional))];
	}
	return 0;
}

/* What a publisher does whose claim failed. */
static void
do_reject(Model *m, uint64 events)
{
	bool sampled = pick(m, 3) == 0;

	ring_reject(m->ring, events, sampled);
	m->counters.offered += events;
	*(sampled ? &m->counters.sampled_out : &m->counters.rejected) += events;
}

static void
do_claim(Model *m, int proc)
{
	ModelClaim *c = &m->claims[proc];
	RingFrame frames[MAX_FRAMES];
	RingGrant grant;
	uint32 room = m->ring->size / 4;
	uint64 total = 0;
	uint64 stable;
	uint64 stable_seq;
	uint64 limit;
	uint64 pos;
	uint64 claimed = m->claim_pos;
	uint64 seq;
	int flags = random_flags(m, true);
	int n = 0;

	for (int wanted = pick(m, MAX_FRAMES + 1); n < wanted && room >= 128; n++)
	{
		frames[n] = random_frame(m, Min(room, m->ring->max_frame));
		room -= frames[n].length;
		total += frames[n].count;
	}
	c->skipped = pick(m, 4) == 0 || n == 0 ? 1 + pick(m, 20) : 0;
	c->skipped_bytes = c->skipped * SKIPPED_BYTES;
	model_stable(m, &stable, &stable_seq);
	limit = evict_limit(m, flags);

	if (!(flags & RING_MAY_SKIP))
	{
		bool fits;

		pos = m->claim_pos;
		for (int i = 0; i < n; i++)
			pos = model_place(m, pos, frames[i].length) + frames[i].length;
		fits = n == 0 || has_room(m, limit, pos);
		check_is(claim_as(proc, m->ring, frames, n, c->skipped, flags, &grant),
				 fits ? RING_OK : RING_FULL);
		if (!fits)
		{
			m->given_up = true;
			follow_floor(m, limit, claimed, false);
			do_reject(m, total + c->skipped);
			return;
		}
	}
	else
		check_is(claim_as(proc, m->ring, frames, n, c->skipped, flags, &grant), RING_OK);
	write_claim(m->ring, frames, n, &grant, proc, m->next_seq);

	/* Left out only what had to be. */
	check(grant.first >= 0 && grant.first <= n);
	m->given_up = grant.first > 0;
	for (int first = Max(0, grant.first - 1); first <= grant.first && first < n; first++)
	{
		pos = m->claim_pos;
		for (int i = first; i < n; i++)
			pos = model_place(m, pos, frames[i].length) + frames[i].length;
		check_is(has_room(m, limit, pos), first == grant.first);
	}
	m->counters.offered += total + c->skipped;
	m->counters.accepted += total + c->skipped;
	for (int i = 0; i < grant.first; i++)
	{
		c->skipped += frames[i].count;
		c->skipped_bytes += frames[i].body_bytes;
	}
	c->to_table = (flags & RING_TO_TABLE) != 0;
	if (c->to_table)
	{
		m->counters.retained += c->skipped;
		m->counters.retained_bytes += c->skipped_bytes;
	}
	else
		m->counters.evicted += c->skipped;

	c->open = true;
	c->first_seq = m->next_seq;
	c->start_pos = m->claim_pos;
	c->segment = m->segment;
	c->ts = grant.ts;
	c->stable_seq = grant.stable_seq;
	c->first = m->nframes;
	c->nframes = n - grant.first;
	check_is(grant.first_seq, m->next_seq + c->skipped);
	check_is(grant.start_pos, m->claim_pos);
	/* Rows that overtake what the worker has yet to persist must not vouch for it. */
	if (c->to_table && c->skipped > 0 && m->ring->backing == RING_WRITE_BEHIND)
		check_is(grant.stable_seq, Min(stable_seq - 1, m->persisted_seq));
	else
		check_is(grant.stable_seq, stable_seq - 1);
	check_is(grant.segment, m->segment);
	set_fates(m, m->next_seq, c->skipped, PENDING);
	pos = m->claim_pos;
	seq = grant.first_seq;
	for (int i = grant.first; i < n; i++)
	{
		pos = model_place(m, pos, frames[i].length);
		model_frame(m, pos, seq, frames[i], grant.ts, grant.stable_seq, FRAME_PENDING);
		set_fates(m, seq, frames[i].count, PENDING);
		pos += frames[i].length;
		seq += frames[i].count;
		m->counters.retained += frames[i].count;
		m->counters.retained_bytes += frames[i].body_bytes;
	}
	m->claim_pos = pos;
	m->next_seq = seq;
	follow_floor(m, limit, claimed, false);
}

/*
 * A row becomes visible whose frame says that everything up to stable_seq is
 * resolved: who reads the table alone must find it there, now and for ever.
 */
static void
check_vouched(const Model *m, uint64 stable_seq)
{
	int first = m->batch.open ? Min(m->floor, m->batch.first) : m->floor;

	for (int i = first; i < m->nframes && m->frames[i].seq <= stable_seq; i++)
	{
		const ModelFrame *f = &m->frames[i];
		bool copied = m->batch.open && i >= m->batch.first && i < m->batch.end;

		check(f->state != FRAME_PENDING);
		if (f->state == FRAME_READY && m->ring->backing == RING_WRITE_BEHIND)
			check(f->persisted || (f->lost && !copied));
	}
}

static void
do_resolve(Model *m, int proc, bool commit)
{
	ModelClaim *c = &m->claims[proc];
	uint64 rows = c->to_table ? c->skipped : 0;
	uint64 bytes = c->to_table ? c->skipped_bytes : 0;

	resolve_as(proc, m->ring, commit);
	c->open = false;
	set_fates(m, c->first_seq, c->skipped, commit && c->to_table ? PRESENT : HOLE);
	for (int i = c->first; i < c->first + c->nframes; i++)
	{
		ModelFrame *f = &m->frames[i];

		f->state = commit ? FRAME_READY : FRAME_ABORTED;
		set_fates(m, f->seq, f->info.count, commit ? PRESENT : HOLE);
		if (!commit)
		{
			m->counters.aborted += f->info.count;
			m->counters.retained -= f->info.count;
			m->counters.retained_bytes -= f->info.body_bytes;
		}
		else if (m->ring->backing == RING_WRITE_THROUGH)
		{
			rows += f->info.count;
			bytes += f->info.body_bytes;
		}
	}
	if (commit && rows > 0)
	{
		add_rows(m, c->segment, rows, bytes, c->ts, c->ts);
		check_vouched(m, c->stable_seq);
		m->sealed_seq = Max(m->sealed_seq, c->stable_seq);
	}
	if (!commit)
	{
		m->counters.aborted += c->skipped;
		if (c->to_table)
		{
			m->counters.retained -= c->skipped;
			m->counters.retained_bytes -= c->skipped_bytes;
		}
		else
			m->counters.evicted -= c->skipped;
	}
}

static void
do_append(Model *m)
{
	RingFrame info = random_frame(m, RING_SMALL);
	uint64 claimed = m->claim_pos;
	uint64 stable;
	uint64 stable_seq;
	uint64 limit;
	uint64 seq;
	uint64 pos = model_place(m, m->claim_pos, info.length);
	int flags = random_flags(m, false);
	RingResult result;

	model_stable(m, &stable, &stable_seq);
	limit = evict_limit(m, flags);
	result =
		append_small(m->ring, info.count, info.body_bytes, PROCESSES, m->next_seq, flags, &seq);
	check_is(has_room(m, limit, pos + info.length), seq != 0);
	check_is(result, seq != 0 || (flags & RING_MAY_SKIP) ? RING_OK : RING_FULL);
	m->given_up = seq == 0;
	if (result == RING_FULL)
	{
		follow_floor(m, limit, claimed, false);
		do_reject(m, info.count);
		return;
	}
	m->counters.offered += info.count;
	m->counters.accepted += info.count;
	set_fates(m, m->next_seq, info.count, seq != 0 ? PRESENT : HOLE);
	if (seq != 0)
	{
		check_is(seq, m->next_seq);
		model_frame(m, pos, seq, info, m->ring->last_ts, stable_seq - 1, FRAME_READY);
		m->claim_pos = pos + info.length;
		m->counters.retained += info.count;
		m->counters.retained_bytes += info.body_bytes;
	}
	else
		m->counters.evicted += info.count;
	m->next_seq += info.count;
	follow_floor(m, limit, claimed, false);
}

/* The worker copies frames that are not persisted yet, as many as there are or fewer. */
static void
do_copy(Model *m, int most)
{
	ModelBatch *b = &m->batch;
	uint64 from = Max(m->persisted_pos, pg_atomic_read_u64(&m->ring->floor_pos));
	uint64 stable;
	uint64 stable_seq;

	model_stable(m, &stable, &stable_seq);
	memset(b, 0, sizeof(ModelBatch));
	b->open = true;
	b->to_pos = from;
	b->first = m->floor;
	while (b->first < m->nframes && m->frames[b->first].pos < from)
		b->first++;
	for (b->end = b->first; b->end < m->nframes && b->end - b->first < most; b->end++)
	{
		ModelFrame *f = &m->frames[b->end];
		RingTotals *total = &b->totals[term_of(m, f->pos) % RING_TERM_SLOTS];

		if (f->pos >= stable)
			break;
		b->to_pos = f->pos + f->info.length;
		b->to_seq = f->seq + f->info.count - 1;
		if (f->state != FRAME_READY)
			continue;
		total->term = term_of(m, f->pos) + 1;
		total->events += f->info.count;
		total->bytes += f->info.body_bytes;
		b->max_stable = Max(b->max_stable, f->stable_seq);
		b->last_ts = f->ts;
		if (b->first_ts == 0)
			b->first_ts = f->ts;
	}
	if (b->end == m->nframes || m->frames[b->end].pos >= stable)
	{
		b->to_pos = stable;
		b->to_seq = stable_seq - 1;
	}
}

/* Its transaction ends. */
static void
do_persist(Model *m, bool commit)
{
	ModelBatch *b = &m->batch;
	uint64 events = 0;
	uint64 found = 0;
	uint64 counted;
	uint64 bytes = 0;

	b->open = false;
	if (!commit)
		return;
	ring_persisted(m->ring, b->to_pos, b->to_seq, b->totals, b->max_stable, b->first_ts, b->last_ts,
				   m->segment);
	for (int i = b->first; i < b->end; i++)
	{
		ModelFrame *f = &m->frames[i];

		if (f->state != FRAME_READY)
			continue;
		events += f->info.count;
		bytes += f->info.body_bytes;
		f->persisted = true;
		if (f->lost)
		{
			f->lost = false;
			set_fates(m, f->seq, f->info.count, PRESENT);
			m->counters.retained += f->info.count;
			m->counters.retained_bytes += f->info.body_bytes;
			found += f->info.count;
			m->recovered += f->info.count;
		}
	}
	counted = Min(found, m->counters.evicted);
	m->counters.evicted -= counted;
	m->counters.offered += found - counted;
	m->counters.accepted += found - counted;
	m->forgotten -= found - counted;
	add_rows(m, m->segment, events, bytes, b->first_ts, b->last_ts);
	check_vouched(m, b->max_stable);
	m->sealed_seq = Max(m->sealed_seq, b->max_stable);
	m->persisted_pos = Max(m->persisted_pos, b->to_pos);
	m->persisted_seq = Max(m->persisted_seq, b->to_seq);
}

/* The worker goes on to the next segment, or empties the oldest, or a user deletes some rows. */
static void
do_segment(Model *m)
{
	if (pick(m, 2) == 0)
	{
		if (m->segment + 1 - m->oldest_segment < RING_SEGMENTS)
			ring_rotate(m->ring, ++m->segment);
	}
	else if (m->oldest_segment < m->segment && pick(m, 2) == 0)
	{
		RingSegment *s = &m->segments[m->oldest_segment];
		uint64 floor = pg_prng_uint64_range(&m->random, 0, m->next_seq);

		if (ring_segment_in_use(m->ring, m->oldest_segment))
			return;
		ring_expire_rows(m->ring, m->oldest_segment, PG_UINT64_MAX, 0, floor);
		ring_drop_segment(m->ring);
		m->oldest_segment++;
		m->counters.expired += s->events;
		m->counters.retained -= s->events;
		m->counters.retained_bytes -= s->bytes;
		m->log_floor = Max(m->log_floor, floor);
	}
	else
	{
		uint32 n = m->oldest_segment + pick(m, m->segment - m->oldest_segment + 1);
		RingSegment *s = &m->segments[n];
		uint64 events = pg_prng_uint64_range(&m->random, 0, s->events);
		uint64 bytes = events == s->events ? s->bytes : Min(s->bytes, events);
		/* More than it has, because rows that were there before are not counted yet. */
		uint64 surplus = events == s->events ? pick(m, 2) : 0;

		ring_expire_rows(m->ring, n, events + surplus, bytes, 0);
		s->events -= events;
		s->bytes -= bytes;
		m->counters.expired += events;
		m->counters.retained -= events;
		m->counters.retained_bytes -= bytes;
	}
}

/* Is there an event behind a hole that no row vouches for? */
static bool
must_seal(const Model *m)
{
	bool present = false;

	/* XXX ring_needs_seal() overlooks them if there is a hole at the very end, too. */
	if (m->ring->hole_seq == m->next_seq - 1)
		return false;
	for (uint64 seq = m->next_seq - 1; seq > m->sealed_seq; seq--)
	{
		if (m->fates[seq] == PRESENT)
			present = true;
		else if (m->fates[seq] == HOLE && present)
			return true;
	}
	return false;
}

/* The worker looks whether a seal is needed, and makes one. */
static void
do_seal(Model *m)
{
	uint64 stable;
	uint64 stable_next;
	uint64 seal_seq;
	uint64 stable_seq;
	int64 ts;
	bool settled;
	bool needed = ring_needs_seal(m->ring, &settled);

	if (must_seal(m))
		check(needed);
	check_is(settled, needed && m->seal_seen == m->next_seq);
	m->seal_seen = needed ? m->next_seq : 0;

	/* A seal vouches for all there is: the worker persists that first. */
	if (m->ring->backing == RING_WRITE_BEHIND &&
		(m->batch.open || m->persisted_seq + 1 != m->next_seq))
		return;
	model_stable(m, &stable, &stable_next);
	if (!ring_take_seal(m->ring, &seal_seq, &stable_seq, &ts))
	{
		check(!needed || stable_next < m->next_seq);
		return;
	}
	check(needed);
	check_is(stable_next, m->next_seq);
	check_is(seal_seq, m->next_seq);
	check_is(stable_seq, m->next_seq - 1);
	check(ts >= m->ring->last_ts);
	set_fates(m, m->next_seq++, 1, SEAL);
	m->seals++;
	if (pick(m, 4) == 0)
		return; /* writing it failed */
	ring_sealed(m->ring, stable_seq);
	check_vouched(m, stable_seq);
	m->sealed_seq = Max(m->sealed_seq, stable_seq);
	check(!ring_needs_seal(m->ring, &settled));
	m->seal_seen = 0;
}

static void
do_purge(Model *m)
{
	uint64 claimed = m->claim_pos;
	uint64 expired = m->counters.expired;
	uint64 stable;
	uint64 stable_next;
	uint64 events = ring_purge(m->ring);
	uint64 floor = pg_atomic_read_u64(&m->ring->floor_pos);

	model_stable(m, &stable, &stable_next);
	follow_floor(m, stable, claimed, true);
	check_is(events, m->counters.expired - expired);
	m->log_floor = Max(m->log_floor, stable_next);

	/* Nothing is left but the term in which the first pending frame is. */
	if (stable == claimed)
		check_is(floor, stable);
	for (int i = m->floor; i < m->nframes && m->frames[i].pos <= stable; i++)
		check(i == m->floor || !begins_term(m, i));
}

static void
do_reset(Model *m)
{
	RingCounters before = m->counters;

	ring_reset_counters(m->ring);
	m->past.evicted += before.evicted;
	m->past.aborted += before.aborted;
	m->past.expired += before.expired;
	memset(&m->counters, 0, sizeof(m->counters));
	m->counters.retained = before.retained;
	m->counters.retained_bytes = before.retained_bytes;
	for (int i = 0; i < PROCESSES; i++)
		if (m->claims[i].open && !m->claims[i].to_table)
			m->counters.evicted += m->claims[i].skipped;
	m->counters.accepted = m->counters.retained + m->counters.evicted;
	m->counters.offered = m->counters.accepted;
	m->forgotten += before.accepted - m->counters.accepted;
}

/* Frame i of the model, as it is in the ring. */
static void
compare_frame(Model *m, int i)
{
	ModelFrame *f = &m->frames[i];
	FrameHeader header;
	FrameHeader *frame = ring_frame(m->ring, f->pos);

	check(ring_get_header(m->ring, f->pos, &header));
	check_is(header.kind, FRAME_DATA);
	check_is(frame_word_state(header.word), f->state);
	check_is(frame_word_length(header.word), f->info.length);
	check_is(header.position, f->pos);
	check_is(header.base_seq, f->seq);
	check_is(header.count, f->info.count);
	check_is(header.body_bytes, f->info.body_bytes);
	check_is(header.ts, f->ts);
	check(header.stable_seq < header.base_seq);
	check_is(frame_check(frame, f->info.length, true), FRAME_OK);
	for (uint32 n = 0; n < f->info.count; n++)
	{
		FrameEvent event;
		uint32 producer;
		uint64 counter;

		frame_event(frame, n, &event);
		check_is(event.payload_len, event_length(&f->info, n));
		check(event_is_whole(event.payload, event.payload_len, &producer, &counter));
	}
}

/* Everything, frame by frame. */
static void
compare_all(Model *m)
{
	int64 ts = 0;

	for (int i = m->floor; i < m->nframes; i++)
	{
		compare_frame(m, i);
		check(m->frames[i].ts >= ts);
		ts = m->frames[i].ts;
		for (uint64 seq = m->frames[i].seq; seq < m->frames[i].seq + m->frames[i].info.count; seq++)
		{
			uint64 pos = ring_find(m->ring, seq - 1);

			/* At the frame itself, or at one less than a block before it. */
			check(pos <= m->frames[i].pos);
			check(m->frames[i].pos - pos < UINT64CONST(1) << m->ring->block_shift);
		}
	}
}

/* A reader that starts after some seq meets every ready frame from there on. */
static void
compare_walk(Model *m)
{
	uint64 stable = pg_atomic_read_u64(&m->ring->stable_pos);
	uint64 after = pg_prng_uint64_range(&m->random, 0, m->next_seq + 10);
	uint64 pos = ring_find(m->ring, after);
	int i = m->floor;
	FrameHeader header;

	while (i < m->nframes && m->frames[i].pos < pos)
		i++;
	check(i == m->floor || m->frames[i - 1].seq + m->frames[i - 1].info.count - 1 <= after);
	while (pos < stable)
	{
		check(ring_get_header(m->ring, pos, &header));
		check(frame_word_state(header.word) != FRAME_PENDING);
		if (header.kind == FRAME_DATA)
		{
			check(i < m->nframes);
			check_is(header.position, m->frames[i].pos);
			check_is(header.base_seq, m->frames[i].seq);
			check_is(frame_word_state(header.word), m->frames[i].state);
			i++;
		}
		check(frame_word_length(header.word) >= FRAME_ALIGN);
		pos += frame_word_length(header.word);
	}
	check(i == m->nframes || m->frames[i].pos >= stable);
}

static void
compare(Model *m)
{
	Ring *ring = m->ring;
	uint64 stable_pos;
	uint64 stable_seq;

	model_stable(m, &stable_pos, &stable_seq);
	check_is(pg_atomic_read_u64(&ring->stable_seq), stable_seq - 1);
	check_is(pg_atomic_read_u64(&ring->stable_pos), stable_pos);
	check_is(ring->claim_pos, m->claim_pos);
	check_is(ring->next_seq, m->next_seq);
	check_is(ring->counters.offered, m->counters.offered);
	check_is(ring->counters.accepted, m->counters.accepted);
	check_is(ring->counters.rejected, m->counters.rejected);
	check_is(ring->counters.sampled_out, m->counters.sampled_out);
	check_is(ring->counters.evicted, m->counters.evicted);
	check_is(ring->counters.expired, m->counters.expired);
	check_is(ring->counters.aborted, m->counters.aborted);
	check_is(ring->counters.retained, m->counters.retained);
	check_is(ring->counters.retained_bytes, m->counters.retained_bytes);
	if (m->floor < m->nframes)
		check_is(pg_atomic_read_u64(&ring->floor_seq), m->frames[m->floor].seq);
	check_is(pg_atomic_read_u64(&ring->persisted_pos), m->persisted_pos);
	check_is(pg_atomic_read_u64(&ring->persisted_seq), m->persisted_seq);
	check_is(pg_atomic_read_u64(&ring->log_floor), m->log_floor);
	check_is(ring->segment, m->segment);
	check_is(ring->oldest_segment, m->oldest_segment);
	for (uint32 n = m->oldest_segment; n <= m->segment; n++)
	{
		const RingSegment *s = &ring->segments[n % RING_SEGMENTS];
		bool in_use = n >= m->segment;

		for (int i = 0; i < PROCESSES; i++)
			in_use |= m->claims[i].open && m->claims[i].segment <= n;
		check_is(ring_segment_in_use(ring, n), in_use);
		check_is(s->events, m->segments[n].events);
		check_is(s->bytes, m->segments[n].bytes);
		check_is(s->first_ts, m->segments[n].first_ts);
		check_is(s->last_ts, m->segments[n].last_ts);
	}
	check_ring(ring, 1 + m->seals + m->forgotten);
}

/* All transactions end, and the worker catches up. */
static void
settle(Model *m)
{
	for (int proc = 0; proc < PROCESSES; proc++)
		if (m->claims[proc].open)
			do_resolve(m, proc, pick(m, 2) == 0);
	if (m->ring->backing != RING_WRITE_BEHIND)
		return;
	if (m->batch.open)
		do_persist(m, true);
	do_copy(m, PG_INT32_MAX);
	do_persist(m, true);
}

/* What the worker of a ring with a table does now and then. */
static void
work(Model *m, bool reluctant)
{
	switch (pick(m, reluctant ? 200 : 20))
	{
		case 0:
			if (!m->batch.open)
				do_segment(m);
			break;
		case 1:
			do_seal(m);
			break;
		case 2:
			if (pick(m, 5) == 0)
				settle(m);
			do_seal(m);
			break;
		case 3:
		case 4:
		case 5:
		case 6:
			if (m->ring->backing != RING_WRITE_BEHIND)
				break;
			if (m->batch.open)
				do_persist(m, pick(m, 10) > 0);
			else
				do_copy(m, pick(m, 2) == 0 ? 1 + pick(m, 20) : PG_INT32_MAX);
			break;
	}
}

static RingBacking
backing_named(const char *name)
{
	if (strcmp(name, "unbacked") == 0)
		return RING_UNBACKED;
	if (strcmp(name, "write-behind") == 0)
		return RING_WRITE_BEHIND;
	if (strcmp(name, "write-through") == 0)
		return RING_WRITE_THROUGH;
	elog(ERROR, "no backing is called \"%s\"", name);
}

Datum
test_ring_model(PG_FUNCTION_ARGS)
{
	RingBacking backing = backing_named(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	int operations = PG_GETARG_INT32(2);
	Model model = {0};
	Model *m = &model;
	bool given_up = false;
	TupleDesc desc;
	Datum values[7];
	bool nulls[7] = {0};

	pg_prng_seed(&m->random, PG_GETARG_INT64(0));
	m->ring = make_ring(PG_GETARG_INT32(3), backing, 1, PG_INT64_MAX);
	m->next_seq = 1;
	m->max_frames = 1024;
	m->frames = palloc(m->max_frames * sizeof(ModelFrame));
	m->max_fates = 1024;
	m->fates = palloc0(m->max_fates);
	m->segments = palloc0((operations + 1) * sizeof(RingSegment));

	for (int i = 0; i < operations; i++)
	{
		int proc = pick(m, PROCESSES);
		/* Phases in which claims stay open, and the worker idle, until the ring is full. */
		bool reluctant = i / 500 % 3 == 2;

		CHECK_FOR_INTERRUPTS();
		if (backing != RING_WRITE_THROUGH && pick(m, 3) == 0)
			do_append(m);
		else if (!m->claims[proc].open)
			do_claim(m, proc);
		else if (!reluctant || pick(m, 50) == 0)
			do_resolve(m, proc, pick(m, 4) > 0);
		given_up |= m->given_up;
		compare(m);

		if (backing != RING_UNBACKED)
			work(m, reluctant);
		else if (pick(m, 500) == 0)
			do_purge(m);
		if (pick(m, 300) == 0)
			do_reset(m);
		compare(m);
		compare_walk(m);
		if (i % CHECK_EVERY == 0)
			compare_all(m);
	}
	settle(m);
	compare(m);
	compare_all(m);
	check_quiet_ring(m->ring);

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = BoolGetDatum(m->claim_pos > 10 * m->ring->size);
	values[1] = BoolGetDatum(given_up);
	values[2] = BoolGetDatum(m->past.evicted + m->counters.evicted > 0);
	values[3] = BoolGetDatum(m->past.aborted + m->counters.aborted > 0);
	values[4] = BoolGetDatum(m->past.expired + m->counters.expired > 0);
	values[5] = BoolGetDatum(m->recovered > 0);
	values[6] = BoolGetDatum(m->seals > 0);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
