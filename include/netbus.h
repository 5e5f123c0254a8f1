/*-------------------------------------------------------------------------
 *
 * netbus.h
 *		Publishing to and reading from netbus logs in C, without SQL.
 *
 * For other extensions.  There is nothing to link against: netbus_api() finds
 * the functions of the netbus that the server has loaded.
 *
 *		const NetbusApi *bus = netbus_api();
 *		NetbusPublisher *pub = bus->publisher("orders");
 *		bus->publish(pub, data, len, NULL, 0, true);
 *
 * All functions must be called in a transaction, raise errors with ereport(),
 * and check the rights of the current user as the SQL functions do.  Publishers
 * and readers end with the transaction.  In a jsonb log a payload is the text
 * of a JSON value when published and the binary of a jsonb (without varlena
 * header) when read; in a bytea log it is any bytes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_H
#define NETBUS_H

#include "postgres.h"
#include "fmgr.h"

#define NETBUS_API_VERSION  2
#define NETBUS_API_VARIABLE "netbus_api"

typedef struct NetbusPublisher NetbusPublisher;
typedef struct NetbusReader NetbusReader;

typedef struct NetbusEvent
{
	const char *key; /* NULL: no key; not terminated */
	const char *payload;
	uint32 key_len;     /* bytes, at most 1024 */
	uint32 payload_len; /* bytes */
	uint64 seq;         /* set by read() only */
	int64 ts;           /* microseconds since 1970-01-01 UTC; set by read() only */
} NetbusEvent;

typedef struct NetbusApi
{
	uint32 version; /* NETBUS_API_VERSION */

	/* Open a log for publishing (right INSERT).  Takes RowExclusiveLock on its table. */
	NetbusPublisher *(*publisher)(const char *log);

	/*
	 * Publish one event.  With transactional it appears when the transaction
	 * commits, without at once (not in a log with durability "commit").  The
	 * bytes are copied.  False: the log's policy, drop_newest or sample, refuses it.
	 */
	bool (*publish)(NetbusPublisher *publisher, const void *payload, uint32 payload_len,
					const char *key, uint32 key_len, bool transactional);

	/* Publish n events; those of one shard stay in order.  Returns how many were accepted. */
	int (*publish_batch)(NetbusPublisher *publisher, const NetbusEvent *events, int n,
						 bool transactional);

	/* Publish n events without key, each of the same length, that lie back to back. */
	int (*publish_fixed)(NetbusPublisher *publisher, const void *payloads, uint32 payload_len,
						 int n, bool transactional);

	/*
	 * Open one shard of a log for reading after a seq (right SELECT).  Takes
	 * AccessShareLock on its table.  Allocated in CurrentMemoryContext.
	 */
	NetbusReader *(*reader)(const char *log, int shard, uint64 after_seq);

	/*
	 * Read up to max events (> 0), waiting up to wait_ms milliseconds for the first;
	 * returns how many.  They point into the reader and last until the next
	 * call.  Less than max does not mean that there are no more: 0 does.
	 */
	int (*read)(NetbusReader *reader, NetbusEvent *events, int max, long wait_ms);

	/* Events that were gone before this reader came to them, so far. */
	uint64 (*lost)(NetbusReader *reader);

	void (*close)(NetbusReader *reader);
} NetbusApi;

static inline const NetbusApi *
netbus_api(void)
{
	const NetbusApi **variable = (const NetbusApi **) find_rendezvous_variable(NETBUS_API_VARIABLE);

	if (*variable == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("netbus is not loaded"),
				 errhint("Add netbus to shared_preload_libraries and restart the server.")));
	if ((*variable)->version != NETBUS_API_VERSION)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("netbus has API version %u, but version %d is needed",
							   (*variable)->version, NETBUS_API_VERSION)));
	return *variable;
}

#endif /* NETBUS_H */
