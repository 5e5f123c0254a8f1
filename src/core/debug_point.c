/*-------------------------------------------------------------------------
 *
 * debug_point.c
 *		Named places where a crash test stops or fails a process.
 *
 * A point that must not fail sits between claim and resolve, or after commit:
 * perhaps in a critical section, with a lock held and interrupts off. There
 * nothing is allocated, no error raised, no signal served and no latch
 * touched; all that happens is reading the setting, stat() and sleeping.
 *
 * A waiting process shows the wait event Extension in pg_stat_activity, so
 * that a test can see that it has arrived. A wait ends by itself after some
 * minutes: a test that died must not leave a server that cannot stop.
 *
 *-------------------------------------------------------------------------
 */
#include "core/core.h"

#ifdef NETBUS_DEBUG

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "utils/guc.h"

#define DEBUG_CONTINUE_FILE "netbus_debug_continue"
#define DEBUG_WAIT_SECONDS  300
#define DEBUG_POLL_MS       10

/* Is this what the setting asks for at the named point? */
static bool
wanted(const char *name, const char *action)
{
	const char *value = nb_debug_point;
	size_t len = strlen(name);

	return value != NULL && strncmp(value, name, len) == 0 && value[len] == ':' &&
		   strcmp(value + len + 1, action) == 0;
}

static void
wait_here(const char *name, bool may_fail)
{
	struct stat st;

	pgstat_report_wait_start(PG_WAIT_EXTENSION);
	for (int i = 0; i < DEBUG_WAIT_SECONDS * 1000 / DEBUG_POLL_MS; i++)
	{
		/* The working directory of a server process is the data directory. */
		if (stat(DEBUG_CONTINUE_FILE, &st) == 0)
			break;
		pg_usleep(DEBUG_POLL_MS * 1000L);

		if (!may_fail)
			continue;
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (!wanted(name, "wait"))
			break;
	}
	pgstat_report_wait_end();
}

void
nb_debug_point_hit(const char *name, bool may_fail)
{
	if (wanted(name, "wait"))
		wait_here(name, may_fail);
	else if (wanted(name, "panic"))
		abort();
	else if (wanted(name, "kill"))
	{
		kill(getpid(), SIGKILL);
		pause();
	}
	else if (may_fail && wanted(name, "error"))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("debug point \"%s\"", name)));
}

#endif /* NETBUS_DEBUG */
