/*-------------------------------------------------------------------------
 *
 * stats.c
 *		netbus.stats_reset(): the counters of the views stat_* begin anew.
 *
 * Each subsystem counts on its own, in shared memory; here is only who they
 * are.  What a view shows of the present (lag, records, what is retained) is no
 * counter and stays.
 *
 *-------------------------------------------------------------------------
 */
#include "core/core.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#define MAX_KINDS 8

static struct
{
	const char *name;
	void (*reset)(void);
} kinds[MAX_KINDS];

static int nkinds = 0;

void
nb_stats_add(const char *kind, void (*reset)(void))
{
	Assert(nkinds < MAX_KINDS);
	kinds[nkinds].name = kind;
	kinds[nkinds++].reset = reset;
}

static void
no_such_kind(const char *name)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < nkinds; i++)
		appendStringInfo(&names, "%s\"%s\"", i > 0 ? ", " : "", kinds[i].name);
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid kind of statistics: \"%s\"", name),
					errhint("Valid values are %s.", names.data)));
}

PG_FUNCTION_INFO_V1(netbus_stats_reset);

/* stats_reset(kind) */
Datum
netbus_stats_reset(PG_FUNCTION_ARGS)
{
	char *name = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool found = false;

	nb_require_preload();
	for (int i = 0; i < nkinds; i++)
		if (!name || strcmp(kinds[i].name, name) == 0)
		{
			kinds[i].reset();
			found = true;
		}
	if (!found)
		no_such_kind(name);
	PG_RETURN_VOID();
}
