/*-------------------------------------------------------------------------
 *
 * core.h
 *		What every part of netbus uses: settings, workers, waiting, clock,
 *		debug points.  Uses no other part.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_CORE_H
#define NETBUS_CORE_H

#include "postgres.h"

#include <time.h>

#include "fmgr.h"
#include "port/atomics.h"
#include "storage/proc.h"

#include "core/compat.h"
#include "core/hash.h"

#define NB_SCHEMA    "netbus"
#define NB_EXTENSION "netbus"

/* Our own error codes are listed in the README. */
#define ERRCODE_NB_NOT_PRELOADED ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE

/*
 * Settings (settings.c).  All but those that size shared memory may change
 * with a reload.
 */
extern int nb_max_event_size; /* kB of one event; netbus.max_event_size */
extern int nb_publish_buffer; /* kB of builder memory a session keeps; netbus.publish_buffer */
extern int nb_max_databases;  /* worker slots; netbus.max_databases */
extern int nb_wait_timeout;   /* ms that any call waits for another process; netbus.wait_timeout */
extern int nb_damaged_frames; /* NbDamagedFrames; netbus.damaged_frames */

typedef enum NbDamagedFrames
{
	NB_DAMAGED_ERROR,
	NB_DAMAGED_SKIP,
} NbDamagedFrames;

#ifdef NETBUS_DEBUG
extern char *nb_debug_point; /* "name:action", see debug_point() */
#endif
extern void nb_settings_init(void);

/*
 * True in a server that has netbus in shared_preload_libraries.  Without,
 * shared memory is missing and nothing but the error below works.
 */
extern bool nb_preloaded;
extern void nb_require_preload(void);

/*
 * Clock: microseconds since 1970-01-01 UTC.  Reads the clock through the
 * vDSO; takes no lock, cannot fail.
 */
static inline int64
nb_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* From our clock to timestamptz, which counts from 2000-01-01. */
#define NB_EPOCH_TO_TIMESTAMPTZ(us) \
	((us) - (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000000))

#define NB_TIMESTAMPTZ_TO_EPOCH(ts) \
	((ts) + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000000))

/*
 * A set of sleeping processes (waiters.c), in shared memory.
 *
 * One bit a process, by its index in ProcGlobal->allProcs.  A sleeper adds
 * itself, re-checks its condition and then waits for its latch; a waker first
 * makes the condition true, then calls nb_waiters_wake().  Both calls are full
 * barriers, so that one of the two always sees the other.  Waking empties the
 * set; a bit left behind by a process that is gone costs somebody a spurious
 * wake-up and nothing else.
 */
typedef struct NbWaiters
{
	pg_atomic_uint32 sleeping;                    /* nonzero: some bit may be set; full barriers */
	uint32 words;                                 /* constant after init */
	pg_atomic_uint64 bits[FLEXIBLE_ARRAY_MEMBER]; /* fetch_or, exchange */
} NbWaiters;

extern Size nb_waiters_size(void);
extern void nb_waiters_init(NbWaiters *waiters);
extern void nb_waiters_add(NbWaiters *waiters);
extern void nb_waiters_remove(NbWaiters *waiters);

/* Wakes all; returns how many.  Cannot fail, allocates nothing: callable after commit. */
extern int nb_waiters_wake_slow(NbWaiters *waiters);

/* Wakes one, if any sleeps; returns how many.  Likewise. */
extern int nb_waiters_wake_one(NbWaiters *waiters);

static inline int
nb_waiters_wake(NbWaiters *waiters)
{
	pg_memory_barrier();
	if (likely(pg_atomic_read_u32(&waiters->sleeping) == 0))
		return 0;
	return nb_waiters_wake_slow(waiters);
}

/*
 * Workers (worker.c): one launcher per server, one worker per database that
 * has the extension.
 *
 * A job is a piece of work that a database's worker does.  run() is called
 * outside a transaction, connected to the database, whenever the worker was
 * woken or the time that the last run() asked for has come; it returns the
 * milliseconds until it wants to be called again, or -1 for "when woken".
 * shutdown() is called once at a clean shutdown of the server, after the last
 * publisher is gone.  Both may raise errors: the worker then exits, the error
 * is shown in netbus.stat_worker, and the launcher starts it anew after a
 * back-off.  At a shutdown the other jobs are still run and shut down.  Jobs
 * are added in _PG_init() only.
 */
typedef struct NbWorkerJob
{
	const char *name;
	long (*run)(void);
	bool (*busy)(void); /* at shutdown: are publishers still attached? */
	void (*shutdown)(void);
} NbWorkerJob;

extern void nb_worker_add_job(const NbWorkerJob *job);

/*
 * True in a worker that is about to leave, at a shutdown of the server or
 * because somebody wants to rename, copy or drop the database: run() should
 * then finish all there is, without waiting for a batch or an interval.
 */
extern bool nb_worker_draining;

/*
 * Have the worker of a database, if it runs, run its jobs.  Call it after what
 * makes the work visible.  Takes no lock and cannot fail: callable after commit.
 */
extern void nb_worker_wake(Oid database);

/*
 * In a worker, outside a transaction: a job goes on after an error, and
 * netbus.stat_worker shows what it was.  The text is copied.
 */
extern void nb_worker_note_error(const char *message);

/*
 * In a worker, in a PG_CATCH() that goes on, with interrupts held: report the error, end its
 * transaction, note it.  Leaves CurrentMemoryContext at context, where the message is
 * that is returned.
 */
extern char *nb_worker_give_up(MemoryContext context);

/*
 * Statistics (stats.c): reset() sets the counters of a view stat_<kind> to zero, for
 * the objects of this database.  Called in a transaction; may raise errors.  In
 * _PG_init() only.
 */
extern void nb_stats_add(const char *kind, void (*reset)(void));

extern Size nb_worker_shmem_size(void);
extern void nb_worker_shmem_init(void);
extern void nb_worker_init(void);

/*
 * Debug points: places where a crash test can stop or fail a process.
 *
 * Compiled only with NETBUS_DEBUG.  SET netbus.debug_point = 'name:action',
 * with action error (ereport ERROR), panic (abort()), kill (SIGKILL to
 * oneself) or wait (sleep until a file netbus_debug_continue appears in the
 * data directory, or the setting changes).  A debug point between claim and
 * resolve, or after commit, is written with debug_point_noerror(): it ignores
 * "error".
 */
#ifdef NETBUS_DEBUG
extern void nb_debug_point_hit(const char *name, bool may_fail);
#define debug_point(name)                                  \
	do                                                     \
	{                                                      \
		if (unlikely(nb_debug_point && nb_debug_point[0])) \
			nb_debug_point_hit(name, true);                \
	} while (0)
#define debug_point_noerror(name)                          \
	do                                                     \
	{                                                      \
		if (unlikely(nb_debug_point && nb_debug_point[0])) \
			nb_debug_point_hit(name, false);               \
	} while (0)
#else
#define debug_point(name)         ((void) 0)
#define debug_point_noerror(name) ((void) 0)
#endif

#endif /* NETBUS_CORE_H */
