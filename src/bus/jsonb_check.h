/*-------------------------------------------------------------------------
 *
 * jsonb_check.h
 *		Are these bytes a jsonb?
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_JSONB_CHECK_H
#define NETBUS_JSONB_CHECK_H

#include "postgres.h"

/*
 * True if the bytes, which may lie at any alignment, are a jsonb (without its
 * varlena header) that PostgreSQL's functions can walk without leaving them:
 * every offset, length and nesting is checked, strings are valid in the
 * database's encoding, numbers have the digits that they say.  Whether keys are sorted is not.
 */
extern bool jsonb_check(const char *bytes, Size len);

#endif /* NETBUS_JSONB_CHECK_H */
