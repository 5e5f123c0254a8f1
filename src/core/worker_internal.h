/*-------------------------------------------------------------------------
 *
 * worker_internal.h
 *		What launcher.c, worker.c, lifecycle.c and stat_worker.c share.
 *
 * The launcher is the only one that starts workers and the only one that
 * frees slots. A worker reports its own state. Sessions ask for things: by a
 * hold, by a bit in a slot's requests, or by an entry in the launcher's queue.
 *
 *	   FREE --launcher--> WAITING --launcher--> STARTING --worker--> RUNNING
 *		^					 ^						|					|
 *		|					 |						+------ worker -----+
 *		|					 |									|
 *		+----- launcher -----+----------- launcher ---------- EXITED
 *
 * A process counts as gone when its slot says EXITED: by then it has left the
 * array of backends that DROP DATABASE looks at.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_WORKER_INTERNAL_H
#define NETBUS_WORKER_INTERNAL_H

#include "core/core.h"

#include "datatype/timestamp.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

/* Slots beyond netbus.max_databases, for looking into databases that may not have netbus. */
#define NB_SPARE_SLOTS 4

/* Queued visits; more become one visit to every database. */
#define NB_MAX_VISITS 64

/* Bytes of an error message that are kept, with the final zero. */
#define NB_ERROR_SIZE 256

#define NB_NO_PROC PG_UINT32_MAX

typedef enum NbSlotState
{
	NB_SLOT_FREE,
	NB_SLOT_WAITING,  /* the launcher shall start a process, not before next_start */
	NB_SLOT_STARTING, /* registered with the postmaster, or started and not yet at work */
	NB_SLOT_RUNNING,
	NB_SLOT_EXITED /* see "result" */
} NbSlotState;

/* Why a worker has left. */
typedef enum NbResult
{
	NB_RESULT_ERROR,  /* raised an error, or was terminated */
	NB_RESULT_ABSENT, /* the database does not have the extension */
	NB_RESULT_FULL,   /* it has, but netbus.max_databases others are served */
	NB_RESULT_ASIDE,  /* was asked to step aside */
	NB_RESULT_STOPPED /* the server is shutting down */
} NbResult;

/* What others can ask of a worker: each sets a bit, then the worker's latch. */
#define NB_REQUEST_RUN        0x01 /* there is work for the jobs */
#define NB_REQUEST_STEP_ASIDE 0x02
#define NB_REQUEST_LOOK       0x04 /* is the extension still there? */

/* "Lock" is NbWorkerShared.lock; whoever writes holds it exclusively. */
typedef struct NbWorkerSlot
{
	/* Written under the lock; also read without, by nb_worker_wake(). */
	pg_atomic_uint32 database; /* InvalidOid in a free slot */
	pg_atomic_uint32 procno;   /* NB_NO_PROC without a process */

	/* No lock: set by anybody, taken by the worker. */
	pg_atomic_uint32 requests; /* NB_REQUEST_* */

	/* All below: lock. */
	NbSlotState state;
	NbResult result;   /* of the last process, when EXITED */
	uint32 generation; /* counts the starts: a process that comes too late finds another */
	int pid;           /* 0 without a process */
	bool known;        /* has the extension: counts against netbus.max_databases */
	bool revisit;      /* look again after this process has gone */
	int errors;        /* failures in a row, for the back-off */
	int restarts;      /* starts after a failure */
	TimestampTz started;
	TimestampTz last_error_at; /* 0: never */
	char last_error[NB_ERROR_SIZE];

	/* Lock, like the others; on the clock of nb_monotonic_ms(). */
	int64 next_start;
	int64 registered;
} NbWorkerSlot;

/* A session wants a database for itself. */
typedef struct NbHold
{
	Oid database;
	int procno; /* the holder */
} NbHold;

typedef struct NbWorkerShared
{
	LWLock *lock; /* tranche netbus_worker; constant */

	/* Broadcast when a process has left its slot; has a lock of its own. */
	ConditionVariable left;

	/* Written by the launcher; also read without the lock, for waking it. */
	pg_atomic_uint32 launcher_procno;

	/* All below: lock. */
	int launcher_pid;
	int launcher_restarts;
	TimestampTz launcher_started; /* 0: never */
	TimestampTz launcher_error_at;
	char launcher_error[NB_ERROR_SIZE];

	bool visit_all;
	int nvisits;
	Oid visits[NB_MAX_VISITS];

	int nholds;
	int max_holds;
	NbHold *holds; /* constant; the array behind the slots */

	int nslots; /* constant */
	NbWorkerSlot slots[FLEXIBLE_ARRAY_MEMBER];
} NbWorkerShared;

extern NbWorkerShared *nb_workers;

/* worker.c; callers hold the lock */
extern NbWorkerSlot *nb_worker_find(Oid database);
extern bool nb_worker_held(Oid database);
extern int nb_worker_count_known(void);

/* worker.c, for the exit of any process of ours */
extern void nb_capture_errors(void);
extern const char *nb_captured_error(void);
extern bool nb_server_is_stopping(void);

/* launcher.c; cannot fail, callable after commit */
extern void nb_launcher_wake(void);
extern void nb_launcher_visit(Oid database);
extern void nb_launcher_register(void);

/* lifecycle.c */
extern void nb_lifecycle_init(void);

/* The entry points that the postmaster looks up by name. */
extern PGDLLEXPORT void netbus_launcher_main(Datum arg);
extern PGDLLEXPORT void netbus_worker_main(Datum arg);

/* A clock for intervals, which nobody can set. */
static inline int64
nb_monotonic_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

#endif /* NETBUS_WORKER_INTERNAL_H */
