/*-------------------------------------------------------------------------
 *
 * args.h
 *		SQL arguments that must not be null, and how long to wait.
 *
 * "name" is the argument's, for the error.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_ARGS_H
#define NETBUS_ARGS_H

#include "fmgr.h"

#include "core/compat.h"

pg_noreturn extern void arg_null(const char *name);

extern char *arg_text(FunctionCallInfo fcinfo, int n, const char *name);
extern int64 arg_int8(FunctionCallInfo fcinfo, int n, const char *name);

/* An interval, as the time (of nb_now_us()) until which to wait: at most 60 s from now, for a waiting call pins xmin. */
extern int64 arg_deadline(FunctionCallInfo fcinfo, int n, const char *name);

#endif /* NETBUS_ARGS_H */
