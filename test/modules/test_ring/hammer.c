/*-------------------------------------------------------------------------
 *
 * hammer.c
 *		Several processes at one ring: producers, readers, and an auditor.
 *
 * Producers claim, copy and resolve as publishers do, and note the fate of
 * every seq in a table beside the ring.  Readers follow without a lock, are
 * overtaken on purpose, and compare what they meet with that table; what they
 * have not met they must have been told of, and for a good reason.  The session
 * that called looks at the ring under its lock as fast as it can.
 *
 * The seq limit is where the producers stop.
 *
 *-------------------------------------------------------------------------
 */
#include "test_ring.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/wait_event.h"

PG_FUNCTION_INFO_V1(test_ring_hammer);
PG_FUNCTION_INFO_V1(test_ring_ping_pong);

extern PGDLLEXPORT void test_ring_worker(Datum arg);

#define MAX_WORKERS   12
#define HANG_MS       60000 /* a process that waits so long was not woken */
#define RAISE_STEPS   8     /* rounds in which the seq limit rises to its end */
#define CLAIM_FRAMES  4
#define HOLD_EVERY    400 /* operations of producer 0 between claims held until the ring is full */
#define DAWDLE_EVERY  300 /* frames of reader 0 between waits until it is overtaken */
#define RESTART_EVERY 700 /* frames between jumps of a reader to another seq */

typedef enum Role
{
	PRODUCER,
	READER,
	PONG
} Role;

/* What became of a seq. */
typedef enum Fate
{
	FATE_NONE, /* not decided, or no producer knows: a small append without room */
	FATE_COMMITTED,
	FATE_ABORTED,
	FATE_SKIPPED /* got a seq but no bytes */
} Fate;

/* With the length, as far as it fits, because short events say nothing else. */
#define fate_word(fate, producer, len, counter) \
	((uint64) (fate) << 62 | (uint64) (producer) << 56 | (uint64) ((len) &0xFFFF) << 40 | (counter))
#define word_fate(word)     ((Fate) ((word) >> 62))
#define word_producer(word) ((uint32) ((word) >> 56 & 0x3F))
#define word_length(word)   ((uint32) ((word) >> 40 & 0xFFFF))
#define word_counter(word)  ((word) & ((UINT64CONST(1) << 40) - 1))

/* In a DSM segment; the fates and one or two rings follow. */
typedef struct Hammer
{
	uint32 events; /* seqs 1 to this */
	uint32 size;
	Role roles[MAX_WORKERS];
	int indexes[MAX_WORKERS]; /* within their role */
	int nworkers;
	Size fates_off; /* pg_atomic_uint64[events + 1] */
	Size rings_off;
	Size ring_stride;
	pg_atomic_uint32 next_worker;
	pg_atomic_uint32 producing; /* producers still at it */
	pg_atomic_uint32 failed;
	char failure[256];          /* of the first that failed */
	pg_atomic_uint64 aborted;   /* events */
	pg_atomic_uint64 skipped;   /* events of committed claims without bytes */
	pg_atomic_uint64 unknown;   /* events of small appends without room */
	pg_atomic_uint64 rejected;  /* events */
	pg_atomic_uint64 given_up;  /* frames */
	pg_atomic_uint64 overtaken; /* readers, how often */
	pg_atomic_uint64 events_read;
} Hammer;

static Hammer *hammer = NULL; /* in a worker: whom to tell of a failure */

#define hammer_ring(h, i) ((Ring *) ((char *) (h) + (h)->rings_off + (i) * (h)->ring_stride))
#define hammer_fates(h)   ((pg_atomic_uint64 *) ((char *) (h) + (h)->fates_off))

static void
tell_failure(const char *message)
{
	if (pg_atomic_exchange_u32(&hammer->failed, 1) == 0)
		strlcpy(hammer->failure, message, sizeof(hammer->failure));
}

static bool
failed(Hammer *h)
{
	return pg_atomic_read_u32(&h->failed) != 0;
}

/* --------------------------------------------------------------- producers */

typedef struct Producer
{
	Hammer *h;
	Ring *ring;
	int me;
	uint64 counter; /* of its next event */
	pg_prng_state random;
} Producer;

static uint32
pick(pg_prng_state *random, uint32 n)
{
	return pg_prng_uint64_range(random, 0, n - 1);
}

static void
set_fates(Producer *p, uint64 seq, const RingFrame *info, Fate fate, uint64 counter)
{
	for (uint32 i = 0; i < info->count; i++)
	{
		pg_atomic_uint64 *word = &hammer_fates(p->h)[seq + i];

		check(seq + i <= p->h->events);
		check_is(pg_atomic_read_u64(word), 0); /* no seq is issued twice */
		pg_atomic_write_u64(word, fate_word(fate, p->me, event_length(info, i), counter + i));
	}
}

/* As nb_log_raise_bound() does it, in a few steps.  False: it is the end. */
static bool
raise_limit(Producer *p)
{
	uint64 limit = p->ring->seq_limit;

	if (limit >= p->h->events)
		return false;
	ring_raise_limit(p->ring, 0, Min(p->h->events, limit + p->h->events / RAISE_STEPS));
	return true;
}

/* What others had to give up so far. */
static uint64
given_up_so_far(Hammer *h)
{
	return pg_atomic_read_u64(&h->given_up) + pg_atomic_read_u64(&h->unknown) +
		   pg_atomic_read_u64(&h->rejected);
}

/* Keep a claim open until the ring is full, or nobody else is there to fill it. */
static void
hold_claim(Producer *p)
{
	uint64 before = given_up_so_far(p->h);

	while (given_up_so_far(p->h) == before && pg_atomic_read_u32(&p->h->producing) > 1 &&
		   !failed(p->h))
		pg_usleep(100);
}

/* The ring is full: whoever holds it up should get a processor. */
static void
let_others_run(void)
{
	pg_usleep(200);
}

static RingFrame
random_frame(Producer *p, uint32 max_length)
{
	uint32 room = max_length - sizeof(FrameHeader);
	uint32 count;

	switch (pick(&p->random, 20))
	{
		case 0:
			return frame_of(1, 0);
		case 1:
			return frame_of_length(max_length & ~7);
		case 2:
		case 3:
			break;
		default:
			room = Min(room, 600);
	}
	count = 1 + pick(&p->random, Min(20, room / 32));
	return frame_of(count, pick(&p->random, room - count * sizeof(uint32)));
}

/* The ring had no room, and nothing was to be dropped. */
static bool
refused(Producer *p, uint32 events)
{
	ring_reject(p->ring, events, false);
	pg_atomic_fetch_add_u64(&p->h->rejected, events);
	let_others_run();
	return true;
}

static bool
produce_claim(Producer *p, int operation)
{
	RingFrame frames[CLAIM_FRAMES];
	RingFrame without_bytes;
	RingGrant grant;
	uint32 room = p->ring->size / 4;
	uint32 skipped = pick(&p->random, 10) == 0 ? pick(&p->random, 10) : 0;
	uint32 count = 0;
	uint32 given_up = 0;
	uint64 seq;
	uint64 counter = p->counter;
	bool commit = pick(&p->random, 5) > 0;
	int flags = pick(&p->random, 4) > 0 ? DROP : 0;
	Fate fate = commit ? FATE_COMMITTED : FATE_ABORTED;
	RingResult result;
	int n = 0;

	for (int wanted = 1 + pick(&p->random, CLAIM_FRAMES); n < wanted && room >= 128; n++)
	{
		frames[n] = random_frame(p, Min(room, p->ring->max_frame));
		room -= frames[n].length;
		count += frames[n].count;
	}
	while ((result = ring_claim(p->ring, frames, n, skipped, 0, flags, &grant)) == RING_SEQ_LIMIT)
		if (!raise_limit(p))
			return false;
	if (result == RING_FULL)
		return refused(p, count + skipped);
	write_claim(p->ring, frames, n, &grant, p->me, counter);
	p->counter += count;

	/* Their fates are known before anybody can meet them. */
	for (int i = 0; i < n; counter += frames[i++].count)
		if (i < grant.first)
			given_up += frames[i].count;
	without_bytes = frame_of(skipped + given_up, 0);
	set_fates(p, grant.first_seq - skipped - given_up, &without_bytes, FATE_SKIPPED, 0);
	seq = grant.first_seq;
	counter = p->counter - count + given_up;
	for (int i = grant.first; i < n; i++)
	{
		set_fates(p, seq, &frames[i], fate, counter);
		seq += frames[i].count;
		counter += frames[i].count;
	}

	if (p->me == 0 && operation % HOLD_EVERY == HOLD_EVERY / 2)
		hold_claim(p);
	else if (pick(&p->random, 100) == 0)
		pg_usleep(1);
	if (commit)
		pg_atomic_fetch_add_u64(&p->h->skipped, skipped + given_up);
	else
		pg_atomic_fetch_add_u64(&p->h->aborted, skipped + count);
	pg_atomic_fetch_add_u64(&p->h->given_up, grant.first);
	ring_resolve(p->ring, commit);
	if (grant.first > 0)
		let_others_run();
	return true;
}

static bool
produce_small(Producer *p)
{
	RingFrame info = random_frame(p, RING_SMALL);
	int flags = pick(&p->random, 4) > 0 ? DROP : 0;
	RingResult result;
	uint64 seq;

	while ((result = append_small(p->ring, info.count, info.body_bytes, p->me, p->counter, flags,
								  &seq)) == RING_SEQ_LIMIT)
		if (!raise_limit(p))
			return false;
	if (result == RING_FULL)
		return refused(p, info.count);
	if (seq != 0)
		set_fates(p, seq, &info, FATE_COMMITTED, p->counter);
	else
	{
		pg_atomic_fetch_add_u64(&p->h->unknown, info.count);
		let_others_run();
	}
	p->counter += info.count;
	return true;
}

static void
produce(Hammer *h, int me)
{
	Producer producer = {.h = h, .ring = hammer_ring(h, 0), .me = me, .counter = 1};

	pg_prng_seed(&producer.random, me + 1);
	for (int i = 0; !failed(h); i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!(pick(&producer.random, 3) == 0 ? produce_small(&producer)
											 : produce_claim(&producer, i)))
			break;
	}
	pg_atomic_fetch_sub_u32(&h->producing, 1);
	(void) nb_waiters_wake(ring_waiters(producer.ring));
}

/* ----------------------------------------------------------------- readers */

typedef struct HammerReader
{
	Hammer *h;
	Ring *ring;
	int me;
	pg_prng_state random;
	char *buffer; /* of a whole frame */
	uint32 *offsets;
	uint64 pos;
	uint64 start_seq; /* of the present run */
	uint64 after_seq; /* all up to here is accounted for */
	uint64 seen;      /* in this run */
	uint64 lost;
	uint64 aborted;
	int64 ts;
	uint64 stable_seq;
	uint64 counters[MAX_WORKERS]; /* of the last event of each producer */
	uint64 *holes;                /* lost though the floor had not passed them */
	int nholes;
	int max_holes;
} HammerReader;

/* The fate of a seq that is stable; its producer may be about to write it. */
static uint64
fate_of(HammerReader *r, uint64 seq)
{
	pg_atomic_uint64 *word = &hammer_fates(r->h)[seq];

	check(seq > 0 && seq <= r->h->events);
	while (pg_atomic_read_u64(word) == 0)
	{
		CHECK_FOR_INTERRUPTS();
		check(!failed(r->h));
		pg_usleep(10);
	}
	return pg_atomic_read_u64(word);
}

static void
pass_gap(HammerReader *r, uint64 first_seq)
{
	uint64 floor_seq = pg_atomic_read_u64(&r->ring->floor_seq);

	for (uint64 seq = r->after_seq + 1; seq < first_seq; seq++)
	{
		r->lost++;
		if (seq < floor_seq)
			continue;
		if (r->nholes == r->max_holes)
			r->holes = repalloc_huge(r->holes, (r->max_holes *= 2) * sizeof(uint64));
		r->holes[r->nholes++] = seq;
	}
	r->after_seq = Max(r->after_seq, first_seq - 1);
}

static void
meet_event(HammerReader *r, uint64 seq, const char *event, uint32 len)
{
	uint64 fate = fate_of(r, seq);
	uint32 producer = word_producer(fate);
	uint64 counter = word_counter(fate);

	check(word_fate(fate) == FATE_COMMITTED);
	check_is(len & 0xFFFF, word_length(fate));
	check(event_is_whole(event, len, &producer, &counter));
	check_is(producer, word_producer(fate));
	check_is(counter, word_counter(fate));
	check(producer < MAX_WORKERS && counter > r->counters[producer]);
	r->counters[producer] = counter;
	check_is(seq, r->after_seq + 1);
	r->after_seq = seq;
	r->seen++;
}

/* The bytes of a frame as they are in the ring.  False: overtaken meanwhile. */
static bool
meet_whole_frame(HammerReader *r, const FrameHeader *header)
{
	uint32 length = frame_word_length(header->word);
	FrameHeader *frame = (FrameHeader *) r->buffer;

	check(length <= r->ring->max_frame);
	memcpy(r->buffer, ring_frame(r->ring, r->pos), length);
	pg_read_barrier();
	if (pg_atomic_read_u64(&r->ring->floor_pos) > r->pos)
		return false;
	check_is(memcmp(frame, header, sizeof(FrameHeader)), 0);
	check_is(frame_check(frame, length, true), FRAME_OK);
	for (uint32 i = r->after_seq + 1 - header->base_seq; i < header->count; i++)
	{
		FrameEvent event;

		frame_event(frame, i, &event);
		meet_event(r, header->base_seq + i, event.payload, event.payload_len);
	}
	return true;
}

/* Some of its events, as the readers of netbus take them. */
static bool
meet_part_of_frame(HammerReader *r, const FrameHeader *header)
{
	uint32 from = r->after_seq + 1 - header->base_seq;
	uint32 to = from + 1 + pick(&r->random, header->count - from);
	uint64 room = pick(&r->random, 2) == 0 ? 0 : r->ring->max_frame;
	int64 bytes = ring_get_events(r->ring, r->pos, header, from, to, r->offsets, r->buffer, room);

	if (bytes < -1)
	{
		room = -2 - bytes;
		check(room <= r->ring->max_frame);
		bytes = ring_get_events(r->ring, r->pos, header, from, to, r->offsets, r->buffer, room);
	}
	if (bytes == -1)
		return false;
	check(bytes >= 0 && bytes <= header->body_bytes);
	check_is(r->offsets[to - from - 1], bytes);
	for (uint32 i = 0; i < to - from; i++)
	{
		uint32 start = i == 0 ? 0 : r->offsets[i - 1];

		check(start <= r->offsets[i]);
		meet_event(r, header->base_seq + from + i, r->buffer + start, r->offsets[i] - start);
	}
	return true;
}

/* Begin anew, after some seq that there has been. */
static void
start_run(HammerReader *r)
{
	uint64 stable = pg_atomic_read_u64(&r->ring->stable_seq);

	check_is(r->seen + r->lost + r->aborted, r->after_seq - r->start_seq);
	r->start_seq = r->after_seq = pg_prng_uint64_range(&r->random, 0, stable);
	r->pos = ring_find(r->ring, r->after_seq);
	r->seen = r->lost = r->aborted = 0;
	r->ts = 0;
	r->stable_seq = 0;
	memset(r->counters, 0, sizeof(r->counters));
}

static void
wait_for_more(HammerReader *r)
{
	NbWaiters *waiters = ring_waiters(r->ring);

	for (;;)
	{
		int events;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		nb_waiters_add(waiters);
		if (pg_atomic_read_u64(&r->ring->stable_pos) > r->pos ||
			pg_atomic_read_u32(&r->h->producing) == 0 || failed(r->h))
			break;
		events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, HANG_MS,
						   PG_WAIT_EXTENSION);
		check((events & WL_TIMEOUT) == 0);
	}
	nb_waiters_remove(waiters);
}

static void
dawdle(HammerReader *r)
{
	while (pg_atomic_read_u64(&r->ring->floor_pos) <= r->pos &&
		   pg_atomic_read_u32(&r->h->producing) > 0 && !failed(r->h))
		pg_usleep(100);
}

/* A frame that is below stable. */
static void
meet_frame(HammerReader *r)
{
	FrameHeader header;
	uint32 length;
	bool ours;

	if (!ring_get_header(r->ring, r->pos, &header))
	{
		r->pos = pg_atomic_read_u64(&r->ring->floor_pos);
		pg_atomic_fetch_add_u64(&r->h->overtaken, 1);
		return;
	}
	length = frame_word_length(header.word);
	check(length >= FRAME_ALIGN && length % FRAME_ALIGN == 0);
	check((r->pos & r->ring->mask) + length <= r->ring->size);
	if (header.kind == FRAME_PAD)
	{
		check_is((r->pos + length) & r->ring->mask, 0);
		r->pos += length;
		return;
	}
	check_is(header.kind, FRAME_DATA);
	check(frame_word_state(header.word) != FRAME_PENDING);
	check(header.ts >= r->ts && header.stable_seq >= r->stable_seq);
	check(header.stable_seq < header.base_seq);
	r->ts = header.ts;
	r->stable_seq = header.stable_seq;

	if (frame_last_seq(&header) > r->after_seq)
	{
		if (header.base_seq > r->after_seq + 1)
			pass_gap(r, header.base_seq);
		if (frame_word_state(header.word) == FRAME_ABORTED)
		{
			while (r->after_seq < frame_last_seq(&header))
			{
				check(word_fate(fate_of(r, ++r->after_seq)) == FATE_ABORTED);
				r->aborted++;
			}
		}
		else
		{
			if (r->me == 0 && pick(&r->random, DAWDLE_EVERY) == 0)
				dawdle(r);
			ours = pick(&r->random, 2) == 0 ? meet_whole_frame(r, &header)
											: meet_part_of_frame(r, &header);
			if (!ours || r->after_seq < frame_last_seq(&header))
				return; /* again */
		}
	}
	r->pos += length;
}

static void
read_along(Hammer *h, int me)
{
	HammerReader reader = {.h = h, .ring = hammer_ring(h, 0), .me = me};
	HammerReader *r = &reader;
	uint64 total = 0;

	pg_prng_seed(&r->random, 100 + me);
	r->buffer = palloc(r->ring->max_frame);
	r->offsets = palloc(r->ring->max_frame);
	r->max_holes = 1024;
	r->holes = palloc(r->max_holes * sizeof(uint64));
	start_run(r);

	while (!failed(h))
	{
		uint32 producing = pg_atomic_read_u32(&h->producing);
		uint64 stable;

		CHECK_FOR_INTERRUPTS();
		pg_read_barrier();
		stable = pg_atomic_read_u64(&r->ring->stable_pos);
		pg_read_barrier();
		if (r->pos < stable)
			meet_frame(r);
		else if (producing == 0)
			break;
		else
			wait_for_more(r);
		if (pick(&r->random, RESTART_EVERY) == 0)
		{
			total += r->seen;
			start_run(r);
		}
	}
	total += r->seen;
	start_run(r);
	pg_atomic_fetch_add_u64(&h->events_read, total);

	/* All holes have a reason, which is known by now. */
	for (int i = 0; i < r->nholes && !failed(h); i++)
	{
		Fate fate = word_fate(pg_atomic_read_u64(&hammer_fates(h)[r->holes[i]]));

		check(fate == FATE_NONE || fate == FATE_SKIPPED || fate == FATE_ABORTED);
	}
}

/* --------------------------------------------------------------- ping-pong */

/* Wait until the ring has a seq. */
static void
await_seq(Hammer *h, Ring *ring, uint64 seq)
{
	NbWaiters *waiters = ring_waiters(ring);

	for (;;)
	{
		int events;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		nb_waiters_add(waiters);
		if (pg_atomic_read_u64(&ring->stable_seq) >= seq || failed(h))
			break;
		events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, HANG_MS,
						   PG_WAIT_EXTENSION);
		check((events & WL_TIMEOUT) == 0);
	}
	nb_waiters_remove(waiters);
}

/* Answer every event in the first ring with one in the second. */
static void
pong(Hammer *h)
{
	for (uint64 seq = 1; seq <= h->events && !failed(h); seq++)
	{
		uint64 ignored;

		await_seq(h, hammer_ring(h, 0), seq);
		check_is(append_small(hammer_ring(h, 1), 1, 30, 1, seq, DROP, &ignored), RING_OK);
	}
}

/* ----------------------------------------------------------------- workers */

void
test_ring_worker(Datum arg)
{
	dsm_segment *segment;
	int i;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	segment = dsm_attach(DatumGetUInt32(arg));
	if (!segment)
		elog(ERROR, "the test is over");
	hammer = dsm_segment_address(segment);
	test_failed_hook = tell_failure;

	i = pg_atomic_fetch_add_u32(&hammer->next_worker, 1);
	Assert(i < hammer->nworkers);
	switch (hammer->roles[i])
	{
		case PRODUCER:
			produce(hammer, hammer->indexes[i]);
			break;
		case READER:
			read_along(hammer, hammer->indexes[i]);
			break;
		case PONG:
			pong(hammer);
			break;
	}
	dsm_detach(segment);
}

typedef struct Workers
{
	dsm_segment *segment;
	Hammer *h;
	BackgroundWorkerHandle *handles[MAX_WORKERS];
} Workers;

static Hammer *
make_hammer(Workers *workers, uint32 size, int nrings, uint32 events)
{
	Size fates_off = MAXALIGN(sizeof(Hammer));
	Size rings_off =
		TYPEALIGN(PG_CACHE_LINE_SIZE, fates_off + (events + 1) * sizeof(pg_atomic_uint64));
	Hammer *h;

	memset(workers, 0, sizeof(Workers));
	workers->segment = dsm_create(rings_off + nrings * ring_shmem_size(size), 0);
	workers->h = h = dsm_segment_address(workers->segment);
	memset(h, 0, rings_off);
	h->size = size;
	h->events = events;
	h->fates_off = fates_off;
	h->rings_off = rings_off;
	h->ring_stride = ring_shmem_size(size);
	pg_atomic_init_u32(&h->next_worker, 0);
	pg_atomic_init_u32(&h->producing, 0);
	pg_atomic_init_u32(&h->failed, 0);
	for (uint32 i = 0; i <= events; i++)
		pg_atomic_init_u64(&hammer_fates(h)[i], 0);
	for (int i = 0; i < nrings; i++)
		ring_init(hammer_ring(h, i), size, RING_UNBACKED, 1, 0);
	return h;
}

static void
add_role(Hammer *h, Role role, int index)
{
	h->roles[h->nworkers] = role;
	h->indexes[h->nworkers++] = index;
}

static void
start_workers(Workers *workers)
{
	for (int i = 0; i < workers->h->nworkers; i++)
	{
		BackgroundWorker worker = {0};
		pid_t pid;

		strlcpy(worker.bgw_name, "test_ring", BGW_MAXLEN);
		strlcpy(worker.bgw_type, "test_ring", BGW_MAXLEN);
		strlcpy(worker.bgw_library_name, "test_ring", BGW_MAXLEN);
		strlcpy(worker.bgw_function_name, "test_ring_worker", BGW_MAXLEN);
		worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
		worker.bgw_start_time = BgWorkerStart_ConsistentState;
		worker.bgw_restart_time = BGW_NEVER_RESTART;
		worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(workers->segment));
		worker.bgw_notify_pid = MyProcPid;
		if (!RegisterDynamicBackgroundWorker(&worker, &workers->handles[i]))
			elog(ERROR, "no background worker slot is free");
		(void) WaitForBackgroundWorkerStartup(workers->handles[i], &pid);
	}
}

/* Is any worker still there? */
static bool
working(Workers *workers)
{
	for (int i = 0; i < workers->h->nworkers; i++)
	{
		pid_t pid;

		if (GetBackgroundWorkerPid(workers->handles[i], &pid) != BGWH_STOPPED)
			return true;
	}
	return false;
}

static void
stop_workers(Workers *workers)
{
	if (failed(workers->h))
		elog(ERROR, "%s", workers->h->failure);
	dsm_detach(workers->segment);
}

/* What must hold when all have gone. */
static void
check_end(Hammer *h)
{
	Ring *ring = hammer_ring(h, 0);
	RingCounters *c = &ring->counters;
	uint64 fates[4] = {0};

	check_quiet_ring(ring);
	for (uint64 seq = 1; seq < ring->next_seq; seq++)
		fates[word_fate(pg_atomic_read_u64(&hammer_fates(h)[seq]))]++;
	check_is(fates[FATE_NONE], pg_atomic_read_u64(&h->unknown));
	check_is(c->aborted, pg_atomic_read_u64(&h->aborted));
	check_is(c->rejected, pg_atomic_read_u64(&h->rejected));
	check(fates[FATE_COMMITTED] >= c->retained);
	check_is(c->retained + c->evicted,
			 fates[FATE_COMMITTED] + fates[FATE_NONE] + pg_atomic_read_u64(&h->skipped));
	check(pg_atomic_read_u64(&h->events_read) > 0);
	for (uint64 seq = ring->next_seq; seq <= h->events; seq++)
		check_is(pg_atomic_read_u64(&hammer_fates(h)[seq]), 0);
}

Datum
test_ring_hammer(PG_FUNCTION_ARGS)
{
	int producers = PG_GETARG_INT32(1);
	int readers = PG_GETARG_INT32(2);
	Workers workers;
	Hammer *h;
	Ring *ring;
	TupleDesc desc;
	Datum values[4];
	bool nulls[4] = {0};

	if (producers < 1 || readers < 0 || producers + readers > MAX_WORKERS)
		elog(ERROR, "too many or too few workers");
	h = make_hammer(&workers, PG_GETARG_INT32(0), 1, PG_GETARG_INT32(3));
	ring = hammer_ring(h, 0);
	for (int i = 0; i < producers; i++)
		add_role(h, PRODUCER, i);
	for (int i = 0; i < readers; i++)
		add_role(h, READER, i);
	pg_atomic_write_u32(&h->producing, producers);

	start_workers(&workers);
	PG_TRY();
	{
		while (working(&workers))
		{
			for (int i = 0; i < 100; i++)
				check_ring(ring, 1);
			CHECK_FOR_INTERRUPTS();
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1,
							 PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
		}
	}
	PG_CATCH();
	{
		pg_atomic_write_u32(&h->failed, 1);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (!failed(h))
		check_end(h);

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = BoolGetDatum(ring->claim_pos > 10 * ring->size);
	values[1] = BoolGetDatum(pg_atomic_read_u64(&h->given_up) > 0);
	values[2] = BoolGetDatum(pg_atomic_read_u64(&h->overtaken) > 0);
	values[3] = BoolGetDatum(ring->counters.aborted > 0);
	stop_workers(&workers);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

Datum
test_ring_ping_pong(PG_FUNCTION_ARGS)
{
	int rounds = PG_GETARG_INT32(0);
	Workers workers;
	Hammer *h = make_hammer(&workers, RING_MIN_SIZE, 2, rounds);

	for (int i = 0; i < 2; i++)
		ring_raise_limit(hammer_ring(h, i), 0, rounds);
	add_role(h, PONG, 0);
	start_workers(&workers);
	PG_TRY();
	{
		for (uint64 seq = 1; seq <= rounds; seq++)
		{
			uint64 ignored;

			check_is(append_small(hammer_ring(h, 0), 1, 30, 0, seq, DROP, &ignored), RING_OK);
			await_seq(h, hammer_ring(h, 1), seq);
			if (failed(h))
				break;
		}
	}
	PG_CATCH();
	{
		pg_atomic_write_u32(&h->failed, 1);
		PG_RE_THROW();
	}
	PG_END_TRY();
	while (working(&workers))
		(void) WaitForBackgroundWorkerShutdown(workers.handles[0]);
	stop_workers(&workers);
	PG_RETURN_VOID();
}
