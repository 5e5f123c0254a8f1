/*-------------------------------------------------------------------------
 *
 * settings.c
 *		The settings of core, and the check that netbus was preloaded.
 *
 * A part that has settings of its own defines them in its init function.
 * _PG_init() reserves the prefix "netbus" after all of them: reserving throws
 * away whatever the configuration file says about names that are not defined
 * by then.
 *
 *-------------------------------------------------------------------------
 */
#include "core/core.h"

#include "utils/guc.h"

#define NB_MAX_EVENT_SIZE_KB (16 * 1024)

int nb_max_event_size = NB_MAX_EVENT_SIZE_KB;
int nb_publish_buffer = 16 * 1024;
int nb_max_databases = 16;
int nb_wait_timeout = 60 * 1000;
int nb_damaged_frames = NB_DAMAGED_ERROR;

static const struct config_enum_entry damaged_frames_options[] = {
	{"error", NB_DAMAGED_ERROR, false}, {"skip", NB_DAMAGED_SKIP, false}, {NULL, 0, false}};

#ifdef NETBUS_DEBUG
char *nb_debug_point = NULL;
#endif

bool nb_preloaded = false;

void
nb_settings_init(void)
{
	DefineCustomIntVariable("netbus.max_event_size", "Sets the maximum size of one event.",
							"A larger event is refused when it is published.", &nb_max_event_size,
							NB_MAX_EVENT_SIZE_KB, 1, NB_MAX_EVENT_SIZE_KB, PGC_SUSET, GUC_UNIT_KB,
							NULL, NULL, NULL);

	DefineCustomIntVariable("netbus.publish_buffer",
							"Sets the memory for building events that a session keeps between "
							"transactions.",
							"A transaction may use more, and gives the surplus back when it ends.",
							&nb_publish_buffer, 16 * 1024, 0, 1024 * 1024, PGC_USERSET, GUC_UNIT_KB,
							NULL, NULL, NULL);

	DefineCustomIntVariable("netbus.max_databases",
							"Sets the maximum number of databases that netbus can serve.",
							"Each of them also needs one of max_worker_processes.",
							&nb_max_databases, 16, 1, 1000, PGC_POSTMASTER, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("netbus.wait_timeout",
							"Sets the maximum time that a call waits for another process.",
							"Publishing to a log that is full fails after that time, and flush() "
							"returns false.",
							&nb_wait_timeout, 60 * 1000, 1, 24 * 3600 * 1000, PGC_USERSET,
							GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomEnumVariable("netbus.damaged_frames",
							 "Selects what a reader does with a row that is no valid frame.",
							 "With \"error\" it fails; with \"skip\" it goes on and counts the row "
							 "in netbus.stat_log.",
							 &nb_damaged_frames, NB_DAMAGED_ERROR, damaged_frames_options,
							 PGC_USERSET, 0, NULL, NULL, NULL);

#ifdef NETBUS_DEBUG
	DefineCustomStringVariable(
		"netbus.debug_point", "Stops or fails a process at a named point of the code.",
		"The value is \"name:action\"; actions are error, panic, kill and wait.", &nb_debug_point,
		"", PGC_SUSET, 0, NULL, NULL, NULL);
#endif
}

void
nb_require_preload(void)
{
	if (likely(nb_preloaded))
		return;

	ereport(ERROR, (errcode(ERRCODE_NB_NOT_PRELOADED),
					errmsg("netbus must be loaded through shared_preload_libraries"),
					errhint("Add netbus to shared_preload_libraries in postgresql.conf, "
							"then restart the server.")));
}
