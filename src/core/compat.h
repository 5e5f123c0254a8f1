/*-------------------------------------------------------------------------
 *
 * compat.h
 *		What differs between the PostgreSQL versions that netbus supports.
 *
 * PostgreSQL 15 is the oldest.  Every version test of the project is here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_COMPAT_H
#define NETBUS_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "netbus needs PostgreSQL 15 or later"
#endif

#include "storage/proc.h"

/* Index of this process in ProcGlobal->allProcs; below MaxBackends for backends and workers. */
#if PG_VERSION_NUM >= 170000
#define NB_MY_PROCNO ((int) MyProcNumber)
#else
#define NB_MY_PROCNO (MyProc->pgprocno)
#endif

/* dshash parameters got a copy function in 17. */
#if PG_VERSION_NUM >= 170000
#define NB_DSHASH_BINARY dshash_memcmp, dshash_memhash, dshash_memcpy
#else
#define NB_DSHASH_BINARY dshash_memcmp, dshash_memhash
#endif

/* Before the whole declaration, as since 18. */
#ifndef pg_noreturn
#define pg_noreturn pg_attribute_noreturn()
#endif

/* Object ownership has one function for all catalogs since 16. */
#if PG_VERSION_NUM >= 160000
#define nb_owns_database(database, role) object_ownercheck(DatabaseRelationId, database, role)
#define nb_owns_table(table, role)       object_ownercheck(RelationRelationId, table, role)
#else
#define nb_owns_database(database, role) pg_database_ownercheck(database, role)
#define nb_owns_table(table, role)       pg_class_ownercheck(table, role)
#endif

/* So have rights. */
#if PG_VERSION_NUM >= 160000
#define nb_function_aclcheck(function, role) \
	object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE)
#else
#define nb_function_aclcheck(function, role) pg_proc_aclcheck(function, role, ACL_EXECUTE)
#endif

/* datconnlimit of a database whose DROP DATABASE was interrupted; since 15.4. */
#ifdef DATCONNLIMIT_INVALID_DB
#define NB_CONNLIMIT_INVALID DATCONNLIMIT_INVALID_DB
#else
#define NB_CONNLIMIT_INVALID (-2)
#endif

/* Index access methods may keep something between insertions since 17. */
#if PG_VERSION_NUM >= 170000
#define nb_index_insert_cleanup(index, info) index_insert_cleanup(index, info)
#else
#define nb_index_insert_cleanup(index, info) ((void) 0)
#endif

/* TRUNCATE of one table, without looking at rights; knows who runs triggers since 16. */
#if PG_VERSION_NUM >= 160000
#define nb_execute_truncate(rel, logged)                                                  \
	ExecuteTruncateGuts(list_make1(rel), list_make1_oid(RelationGetRelid(rel)), (logged), \
						DROP_RESTRICT, false, false)
#else
#define nb_execute_truncate(rel, logged)                                                  \
	ExecuteTruncateGuts(list_make1(rel), list_make1_oid(RelationGetRelid(rel)), (logged), \
						DROP_RESTRICT, false)
#endif

/* The planner's guess at an array's length looks at statistics since 17. */
#if PG_VERSION_NUM >= 170000
#define nb_estimate_array_length(root, node) estimate_array_length(root, node)
#else
#define nb_estimate_array_length(root, node) estimate_array_length(node)
#endif

/* A primary key may be deferrable, which ours are not; since 18. */
#if PG_VERSION_NUM >= 180000
#define nb_primary_key(rel) RelationGetPrimaryKeyIndex(rel, false)
#else
#define nb_primary_key(rel) RelationGetPrimaryKeyIndex(rel)
#endif

/* Index scans count for EXPLAIN since 18. */
#if PG_VERSION_NUM >= 180000
#define nb_index_beginscan(rel, index, snapshot, nkeys, norderbys) \
	index_beginscan(rel, index, snapshot, NULL, nkeys, norderbys)
#else
#define nb_index_beginscan(rel, index, snapshot, nkeys, norderbys) \
	index_beginscan(rel, index, snapshot, nkeys, norderbys)
#endif

/* Columns may be of OLD or NEW since 18. */
#if PG_VERSION_NUM >= 180000
#define nb_expand_rte(rte, index, vars) \
	expandRTE(rte, index, 0, VAR_RETURNING_DEFAULT, -1, false, NULL, vars)
#else
#define nb_expand_rte(rte, index, vars) expandRTE(rte, index, 0, -1, false, NULL, vars)
#endif

/* An empty message of its own, not flushed; could be since 17. */
#if PG_VERSION_NUM >= 170000
#define nb_log_logical_message(prefix) LogLogicalMessage(prefix, "", 0, false, false)
#else
#define nb_log_logical_message(prefix) LogLogicalMessage(prefix, "", 0, false)
#endif

/* EXPLAIN's output functions have a header of their own since 18. */
#if PG_VERSION_NUM >= 180000
#define NB_EXPLAIN_FORMAT_H "commands/explain_format.h"
#else
#define NB_EXPLAIN_FORMAT_H "commands/explain.h"
#endif

#endif /* NETBUS_COMPAT_H */
