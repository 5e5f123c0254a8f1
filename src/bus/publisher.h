/*-------------------------------------------------------------------------
 *
 * publisher.h
 *		What a transaction publishes to a log, from the first event to the
 *		resolved claim.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_PUBLISHER_H
#define NETBUS_PUBLISHER_H

#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/jsonb.h"

#include "bus/builder.h"
#include "bus/bus.h"

/*
 * One per log and process, kept from one transaction to the next.  Private to
 * the process.
 */
typedef struct Publisher
{
	NbLog *log;
	bool enlisted;        /* in this transaction: its table is locked, its rights are checked */
	Oid user;             /* for whom the rights were checked */
	int lock_level;       /* nesting level that holds the table lock */
	int keyless_shard;    /* of this transaction, -1: not chosen */
	BuilderLimits limits; /* of builders, */
	BuilderLimits immediate_limits; /* and of immediate */
	Builder *builders;              /* per shard: events that wait for the commit */
	Builder *immediate;             /* per shard: events of the current call that do not */
	Builder *dirty;                 /* builders with events, either kind */
	struct Publisher *next;         /* enlisted publishers */
} Publisher;

/*
 * The publisher of a log, ready for this transaction: log open, table locked
 * (RowExclusiveLock), rights checked as the current user.  Errors: those of
 * nb_log_open(), READ_ONLY_SQL_TRANSACTION, and FEATURE_NOT_SUPPORTED inside a
 * security-restricted operation or after pre-commit.
 */
extern Publisher *publisher_open(const char *log);

extern void publisher_choose_shard(Publisher *publisher);

/*
 * Publish what a call that does not wait for its transaction has appended.  Returns how
 * many of these events the log's policy has refused after all.
 */
extern uint64 publisher_flush_immediate(Publisher *publisher);

/* An error for a log whose events always wait for their transaction. */
extern void publisher_refuse_immediate(const Publisher *publisher);

/* Does the log's policy take this event?  If not, it is counted. */
extern bool publisher_admit(const Builder *builder, uint32 key_len, uint32 payload_len);

/*
 * An event of a call that does not wait, if it is small: no builder, one lock
 * round.  False: the log's policy refuses it.
 */
extern bool publisher_append_small(Publisher *publisher, int shard, const char *key, uint32 key_len,
								   const void *payload, uint32 payload_len);

/* Text to the jsonb that a jsonb log stores, palloc'd; the error tells where it is wrong. */
extern Jsonb *publisher_parse_json(const char *text, int len);

extern void publisher_check_key(uint32 key_len);
extern void publisher_too_large(uint64 payload_len);

/* Still good for the next event of the same user in this transaction? */
static inline bool
publisher_ready(const Publisher *publisher)
{
	Oid user;
	int context;

	GetUserIdAndSecContext(&user, &context);
	return publisher->enlisted && publisher->user == user &&
		   (context & SECURITY_RESTRICTED_OPERATION) == 0 && !XactReadOnly;
}

/* The shard of an event: by its key, else that of the transaction's keyless events. */
static inline int
publisher_shard(Publisher *publisher, const char *key, uint32 key_len)
{
	if (publisher->log->options.shards == 1)
		return 0;
	if (key)
		return nb_log_shard_of_key(publisher->log, key, key_len);
	if (unlikely(publisher->keyless_shard < 0))
		publisher_choose_shard(publisher);
	return publisher->keyless_shard;
}

static inline void
publisher_list(Publisher *publisher, Builder *builder)
{
	if (unlikely(!builder->listed))
	{
		builder->listed = true;
		builder->next = publisher->dirty;
		publisher->dirty = builder;
	}
}

/* The builder of a shard for events that wait for the commit, or for publisher_flush_immediate(). */
static inline Builder *
publisher_builder(Publisher *publisher, bool transactional, int shard)
{
	Builder *builder = &(transactional ? publisher->builders : publisher->immediate)[shard];

	if (unlikely(!transactional && publisher->limits.rows_all))
		publisher_refuse_immediate(publisher);
	publisher_list(publisher, builder);
	return builder;
}

/* The level at which builder_append() is told that an event is. */
static inline int
publisher_level(bool transactional)
{
	return transactional ? GetCurrentTransactionNestLevel() : 1;
}

/*
 * Append one event of a log's own format to a builder of publisher_builder().
 * False: the log's policy refuses it.
 */
static inline bool
publisher_append_to(Builder *builder, int level, const char *key, uint32 key_len,
					const void *payload, uint32 payload_len)
{
	if (unlikely(payload_len > (uint64) nb_max_event_size * 1024))
		publisher_too_large(payload_len);
	if (unlikely(key_len > FRAME_MAX_KEY))
		publisher_check_key(key_len);
	if (unlikely(builder->limits->policed) && !publisher_admit(builder, key_len, payload_len))
		return false;
	builder_append(builder, level, key, key_len, payload, payload_len);
	return true;
}

/* Likewise, choosing the builder by the key. */
static inline bool
publisher_append(Publisher *publisher, bool transactional, const char *key, uint32 key_len,
				 const void *payload, uint32 payload_len)
{
	int shard = publisher_shard(publisher, key, key_len);

	return publisher_append_to(publisher_builder(publisher, transactional, shard),
							   publisher_level(transactional), key, key_len, payload, payload_len);
}

/*
 * Append up to n events without key, of the same length and back to back, as
 * far as the current chunk of their shard has room; returns how many.
 */
extern int publisher_append_fixed(Publisher *publisher, bool transactional, const char *payloads,
								  uint32 payload_len, int n);

/* api.c */
extern void bus_api_init(void);

#endif /* NETBUS_PUBLISHER_H */
