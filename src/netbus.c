/*-------------------------------------------------------------------------
 *
 * netbus.c
 *		Entry point of the module: settings, shared memory, hooks, workers.
 *
 * The server must load netbus through shared_preload_libraries, because it
 * needs shared memory, transaction callbacks in every backend and a launcher.
 * Loaded any other way it defines nothing: its functions then say so, which
 * lets CREATE EXTENSION, pg_dump and pg_upgrade work.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#include "bus/bus.h"
#include "cortex/cortex.h"
#include "redex/redex.h"
#include "watch/watch.h"

PG_MODULE_MAGIC;

void _PG_init(void);

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void
netbus_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	RequestAddinShmemSpace(nb_worker_shmem_size());
	RequestAddinShmemSpace(nb_registry_shmem_size());
	RequestAddinShmemSpace(nb_consumer_shmem_size());
	RequestNamedLWLockTranche("netbus_worker", 1);
	RequestNamedLWLockTranche("netbus_registry", 1);
	RequestNamedLWLockTranche("netbus_consumer", 1);
	nb_cortex_shmem_request();
	nb_watch_shmem_request();
}

static void
netbus_shmem_startup(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	nb_worker_shmem_init();
	nb_registry_shmem_init();
	nb_consumer_shmem_init();
	nb_cortex_shmem_init();
	nb_watch_shmem_init();
	LWLockRelease(AddinShmemInitLock);
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;

	nb_preloaded = true;
	nb_settings_init();

	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = netbus_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = netbus_shmem_startup;

	nb_worker_init();
	nb_redex_init();
	nb_bus_init();
	nb_cortex_init();
	nb_watch_init();

	/* Last: this discards settings in the configuration file that nobody has defined. */
	MarkGUCPrefixReserved("netbus");
}
