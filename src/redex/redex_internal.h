/*-------------------------------------------------------------------------
 *
 * redex_internal.h
 *		What the files of src/redex share with each other only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_REDEX_INTERNAL_H
#define NETBUS_REDEX_INTERNAL_H

#include "redex/redex.h"

/* catalog.c: the tables that netbus keeps about logs */
extern Oid catalog_namespace(void);
extern Oid catalog_relation(const char *name);
extern Oid catalog_table(const char *name);
extern bool catalog_get_log(Oid relid, LogOptions *options);
extern void catalog_forget_log(Oid relid);
extern void catalog_check_table(Oid relid, const char *name);
extern Oid catalog_bound_sequence(Oid relid);
extern const char *catalog_log_name(Oid relid);

/* The seq that a shard issues first after a start of the server. */
extern void catalog_first_seqs(NbLog *log, uint64 *next_seq);
extern uint64 catalog_raise_bound(NbLog *log, uint64 seq);
extern void catalog_save_positions(NbLog *log);

/* options.c: text to option values, with errors that list what is valid */
extern LogDurability option_durability(const char *value);
extern LogFormat option_format(const char *value);
extern LogBackpressure option_backpressure(const char *value, LogDurability durability);
extern uint64 option_ring_size(const char *value);
extern const char *durability_name(LogDurability durability);
extern const char *format_name(LogFormat format);
extern const char *backpressure_name(LogBackpressure backpressure);

/* registry.c: which logs have rings, and where */
typedef struct RegistryKey
{
	Oid database;
	Oid relid;
} RegistryKey;

typedef struct RegistryEntry
{
	RegistryKey key; /* must be first */
	int64 incarnation;
	dsm_handle handle;
	TransactionId creator; /* open transaction that created the log, or invalid */
} RegistryEntry;

extern bool registry_find(Oid relid, RegistryEntry *entry);
extern bool registry_insert(const RegistryEntry *entry);
extern void registry_remove(const RegistryEntry *entry);
extern RegistryEntry *registry_list(int *count);
extern void registry_reap(bool own_database);

/* log.c */
extern NbLog *log_by_relid(Oid relid);

#endif /* NETBUS_REDEX_INTERNAL_H */
