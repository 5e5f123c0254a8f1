/*-------------------------------------------------------------------------
 *
 * model.c
 *		Random operations on a ring beside a model that keeps everything.
 *
 * The model is a list of all frames there ever were and a list of open claims;
 * nothing in it wraps or is evicted.  After each operation it is compared with
 * the ring: positions, counters, what a reader that starts anywhere meets.
 * Where the ring may choose, in what it evicts or gives up, the model says
 * whether the choice was allowed and whether it was necessary.
 *
 *-------------------------------------------------------------------------
 */
#include "test_ring.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"

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
	FrameState state;
} ModelFrame;

typedef struct ModelClaim
{
	bool open;
	uint64 start_pos;
	uint64 first_seq; /* of the skipped events */
	uint64 skipped;
	int first; /* its frames in the list */
	int nframes;
} ModelClaim;

typedef struct Model
{
	Ring *ring;
	pg_prng_state random;
	ModelFrame *frames; /* in the order of positions */
	int nframes;
	int max_frames;
	int floor; /* index of the first frame that the ring retains */
	ModelClaim claims[PROCESSES];
	uint64 next_seq;
	uint64 claim_pos;
	RingCounters counters;
	bool given_up;
} Model;

static uint32
pick(Model *m, uint32 n)
{
	return pg_prng_uint64_range(&m->random, 0, n - 1);
}

static void
model_frame(Model *m, uint64 pos, uint64 seq, RingFrame info, int64 ts, FrameState state)
{
	ModelFrame *f;

	if (m->nframes == m->max_frames)
		m->frames = repalloc_huge(m->frames, (m->max_frames *= 2) * sizeof(ModelFrame));
	f = &m->frames[m->nframes++];
	f->pos = pos;
	f->seq = seq;
	f->info = info;
	f->ts = ts;
	f->state = state;
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

/*
 * Follow the ring's floor, after an operation before which the ring was stable
 * up to "stable" and claimed up to "claimed".
 */
static void
follow_floor(Model *m, uint64 stable, uint64 claimed)
{
	uint64 floor = pg_atomic_read_u64(&m->ring->floor_pos);
	uint64 former = m->floor < m->nframes ? m->frames[m->floor].pos : claimed;
	uint64 last_term_start = former;

	check(floor >= former || m->floor == 0);
	check(floor <= stable);
	while (m->floor < m->nframes && m->frames[m->floor].pos < floor)
	{
		ModelFrame *f = &m->frames[m->floor];

		if (begins_term(m, m->floor))
			last_term_start = f->pos;
		check(f->state != FRAME_PENDING);
		if (f->state == FRAME_READY)
		{
			m->counters.evicted += f->info.count;
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
		check(m->given_up || m->claim_pos > last_term_start + m->ring->size);
	}
}

/* Could the ring have had room for up to "end", by evicting all it may? */
static bool
has_room(const Model *m, uint64 stable, uint64 end)
{
	uint64 best = 0;

	for (int i = m->nframes - 1; i >= 0 && best == 0; i--)
		if (m->frames[i].pos <= stable && begins_term(m, i))
			best = m->frames[i].pos;
	if (stable == m->claim_pos)
		best = stable;
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
	uint64 pos;
	uint64 claimed = m->claim_pos;
	uint64 seq;
	bool may_drop = pick(m, 4) > 0;
	int n = 0;

	for (int wanted = pick(m, MAX_FRAMES + 1); n < wanted && room >= 128; n++)
	{
		frames[n] = random_frame(m, Min(room, m->ring->max_frame));
		room -= frames[n].length;
		total += frames[n].count;
	}
	c->skipped = pick(m, 4) == 0 || n == 0 ? 1 + pick(m, 20) : 0;
	model_stable(m, &stable, &stable_seq);

	if (!may_drop)
	{
		bool fits;

		pos = m->claim_pos;
		for (int i = 0; i < n; i++)
			pos = model_place(m, pos, frames[i].length) + frames[i].length;
		fits = n == 0 || has_room(m, stable, pos);
		check_is(claim_as(proc, m->ring, frames, n, c->skipped, false, &grant),
				 fits ? RING_OK : RING_FULL);
		if (!fits)
		{
			m->counters.offered += total + c->skipped;
			m->counters.rejected += total + c->skipped;
			m->given_up = true;
			follow_floor(m, stable, claimed);
			return;
		}
	}
	else
		check_is(claim_as(proc, m->ring, frames, n, c->skipped, true, &grant), RING_OK);
	write_claim(m->ring, frames, n, &grant, proc, m->next_seq);

	/* Given up only what had to be. */
	check(grant.first >= 0 && grant.first <= n);
	m->given_up = grant.first > 0;
	for (int first = Max(0, grant.first - 1); first <= grant.first && first < n; first++)
	{
		pos = m->claim_pos;
		for (int i = first; i < n; i++)
			pos = model_place(m, pos, frames[i].length) + frames[i].length;
		check_is(has_room(m, stable, pos), first == grant.first);
	}
	m->counters.offered += total + c->skipped;
	m->counters.accepted += total + c->skipped;
	for (int i = 0; i < grant.first; i++)
		c->skipped += frames[i].count;
	m->counters.evicted += c->skipped;

	c->open = true;
	c->first_seq = m->next_seq;
	c->start_pos = m->claim_pos;
	c->first = m->nframes;
	c->nframes = n - grant.first;
	check_is(grant.first_seq, m->next_seq + c->skipped);
	check_is(grant.start_pos, m->claim_pos);
	check_is(grant.stable_seq, stable_seq - 1);
	pos = m->claim_pos;
	seq = grant.first_seq;
	for (int i = grant.first; i < n; i++)
	{
		pos = model_place(m, pos, frames[i].length);
		model_frame(m, pos, seq, frames[i], grant.ts, FRAME_PENDING);
		pos += frames[i].length;
		seq += frames[i].count;
		m->counters.retained += frames[i].count;
		m->counters.retained_bytes += frames[i].body_bytes;
	}
	m->claim_pos = pos;
	m->next_seq = seq;
	follow_floor(m, stable, claimed);
}

static void
do_resolve(Model *m, int proc, bool commit)
{
	ModelClaim *c = &m->claims[proc];

	resolve_as(proc, m->ring, commit);
	c->open = false;
	for (int i = c->first; i < c->first + c->nframes; i++)
	{
		ModelFrame *f = &m->frames[i];

		f->state = commit ? FRAME_READY : FRAME_ABORTED;
		if (!commit)
		{
			m->counters.aborted += f->info.count;
			m->counters.retained -= f->info.count;
			m->counters.retained_bytes -= f->info.body_bytes;
		}
	}
	if (!commit)
	{
		m->counters.aborted += c->skipped;
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
	uint64 seq;
	uint64 pos = model_place(m, m->claim_pos, info.length);
	bool may_drop = pick(m, 4) > 0;
	RingResult result;

	model_stable(m, &stable, &stable_seq);
	result =
		append_small(m->ring, info.count, info.body_bytes, PROCESSES, m->next_seq, may_drop, &seq);
	check_is(has_room(m, stable, pos + info.length), seq != 0);
	check_is(result, seq != 0 || may_drop ? RING_OK : RING_FULL);
	m->given_up = seq == 0;
	m->counters.offered += info.count;
	if (result == RING_FULL)
	{
		m->counters.rejected += info.count;
		follow_floor(m, stable, claimed);
		return;
	}
	m->counters.accepted += info.count;
	if (seq != 0)
	{
		check_is(seq, m->next_seq);
		model_frame(m, pos, seq, info, m->ring->last_ts, FRAME_READY);
		m->claim_pos = pos + info.length;
		m->counters.retained += info.count;
		m->counters.retained_bytes += info.body_bytes;
	}
	else
		m->counters.evicted += info.count;
	m->next_seq += info.count;
	follow_floor(m, stable, claimed);
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
	check_is(ring->counters.evicted, m->counters.evicted);
	check_is(ring->counters.aborted, m->counters.aborted);
	check_is(ring->counters.retained, m->counters.retained);
	check_is(ring->counters.retained_bytes, m->counters.retained_bytes);
	if (m->floor < m->nframes)
		check_is(pg_atomic_read_u64(&ring->floor_seq), m->frames[m->floor].seq);
	check_ring(ring, 1);
}

Datum
test_ring_model(PG_FUNCTION_ARGS)
{
	int operations = PG_GETARG_INT32(1);
	Model model = {0};
	Model *m = &model;
	bool given_up = false;
	TupleDesc desc;
	Datum values[4];
	bool nulls[4] = {0};

	pg_prng_seed(&m->random, PG_GETARG_INT64(0));
	m->ring = make_ring(PG_GETARG_INT32(2), 1, PG_INT64_MAX);
	m->next_seq = 1;
	m->max_frames = 1024;
	m->frames = palloc(m->max_frames * sizeof(ModelFrame));

	for (int i = 0; i < operations; i++)
	{
		int proc = pick(m, PROCESSES);
		/* Phases in which claims stay open until the ring is full. */
		bool reluctant = i / 500 % 3 == 2;

		CHECK_FOR_INTERRUPTS();
		if (pick(m, 3) == 0)
			do_append(m);
		else if (!m->claims[proc].open)
			do_claim(m, proc);
		else if (!reluctant || pick(m, 50) == 0)
			do_resolve(m, proc, pick(m, 4) > 0);
		given_up |= m->given_up;

		compare(m);
		compare_walk(m);
		if (i % CHECK_EVERY == 0)
			compare_all(m);
	}
	for (int proc = 0; proc < PROCESSES; proc++)
		if (m->claims[proc].open)
			do_resolve(m, proc, true);
	compare(m);
	compare_all(m);
	check_quiet_ring(m->ring);

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = BoolGetDatum(m->claim_pos > 10 * m->ring->size);
	values[1] = BoolGetDatum(given_up);
	values[2] = BoolGetDatum(m->counters.evicted > 0);
	values[3] = BoolGetDatum(m->counters.aborted > 0);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
