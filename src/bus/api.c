/*-------------------------------------------------------------------------
 *
 * api.c
 *		The functions of netbus.h, for other extensions.
 *
 * They are found through a rendezvous variable, so that nothing has to be
 * linked and a server without netbus gives a plain error.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "netbus.h"

#include "bus/publisher.h"
#include "bus/reader.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* A publisher as the caller knows it: by name, because the log may change under it. */
struct NetbusPublisher
{
	Publisher *publisher;
	uint64 generation;
	char name[NAMEDATALEN];
};

struct NetbusReader
{
	Reader reader;
};

static NetbusPublisher *
api_publisher(const char *log)
{
	NetbusPublisher *result = MemoryContextAlloc(TopTransactionContext, sizeof(NetbusPublisher));

	result->publisher = publisher_open(log);
	result->generation = nb_log_generation;
	strlcpy(result->name, log, NAMEDATALEN);
	return result;
}

static inline Publisher *
ready(NetbusPublisher *publisher)
{
	if (unlikely(publisher->generation != nb_log_generation ||
				 !publisher_ready(publisher->publisher)))
	{
		publisher->publisher = publisher_open(publisher->name);
		publisher->generation = nb_log_generation;
	}
	return publisher->publisher;
}

/* Append an event, parsed where the log wants jsonb. */
static inline bool
append(Publisher *publisher, bool transactional, const char *key, uint32 key_len,
	   const void *payload, uint32 payload_len)
{
	if (publisher->log->options.format == LOG_FORMAT_JSONB)
	{
		bool accepted;
		Jsonb *jsonb;

		pg_verifymbstr(payload, payload_len, false);
		jsonb = publisher_parse_json(payload, payload_len);
		accepted = publisher_append(publisher, transactional, key, key_len, VARDATA(jsonb),
									VARSIZE(jsonb) - VARHDRSZ);
		pfree(jsonb);
		return accepted;
	}
	return publisher_append(publisher, transactional, key, key_len, payload, payload_len);
}

static bool
api_publish(NetbusPublisher *handle, const void *payload, uint32 payload_len, const char *key,
			uint32 key_len, bool transactional)
{
	Publisher *publisher = ready(handle);

	if (!transactional && publisher->log->options.format == LOG_FORMAT_BYTEA &&
		frame_size(1, (uint64) payload_len + sizeof(uint16) + key_len) <= RING_SMALL)
		return publisher_append_small(publisher, publisher_shard(publisher, key, key_len), key,
									  key_len, payload, payload_len);
	return append(publisher, transactional, key, key_len, payload, payload_len) &&
		   (transactional || publisher_flush_immediate(publisher) == 0);
}

static int
api_publish_batch(NetbusPublisher *handle, const NetbusEvent *events, int n, bool transactional)
{
	Publisher *publisher = ready(handle);
	int accepted = 0;

	for (int i = 0; i < n; i++)
		accepted += append(publisher, transactional, events[i].key, events[i].key_len,
						   events[i].payload, events[i].payload_len);
	if (!transactional)
		accepted -= publisher_flush_immediate(publisher);
	return accepted;
}

static int
api_publish_fixed(NetbusPublisher *handle, const void *payloads, uint32 payload_len, int n,
				  bool transactional)
{
	Publisher *publisher = ready(handle);
	const char *payload = payloads;
	bool bytea = publisher->log->options.format == LOG_FORMAT_BYTEA;
	int accepted = 0;

	while (n > 0)
	{
		int done = 0;

		/* As many as the chunk takes, in one copy; the general way where none fits. */
		if (bytea)
			done = publisher_append_fixed(publisher, transactional, payload, payload_len, n);
		accepted += done;
		if (done == 0)
		{
			accepted += append(publisher, transactional, NULL, 0, payload, payload_len);
			done = 1;
		}
		payload += (Size) payload_len * done;
		n -= done;
	}
	if (!transactional)
		accepted -= publisher_flush_immediate(publisher);
	return accepted;
}

static NetbusReader *
api_reader(const char *log_name, int shard, uint64 after_seq)
{
	NbLog *log = nb_log_open(log_name, AccessShareLock, ACL_SELECT);
	NetbusReader *result;

	if (shard < 0 || shard >= log->options.shards)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("log \"%s\" has no shard %d", log_name, shard)));
	result = palloc(sizeof(NetbusReader));
	reader_open(&result->reader, log, shard, after_seq);
	return result;
}

/*
 * Hand out what one frame holds: the events point into the reader's copy of
 * it, which the next frame replaces.
 */
static int
api_read(NetbusReader *handle, NetbusEvent *events, int max, long wait_ms)
{
	Reader *reader = &handle->reader;
	int64 deadline = nb_now_us() + (int64) wait_ms * 1000;
	ReaderEvent event;
	int n = 0;

	while (!reader_next(reader, UINT32_MAX, &event))
		if (!reader_wait(reader, deadline))
			return 0;
	for (;;)
	{
		NetbusEvent *to = &events[n++];

		to->key = event.event.key;
		to->key_len = event.event.key_len;
		to->payload = event.event.payload;
		to->payload_len = event.event.payload_len;
		to->seq = event.seq;
		to->ts = event.ts;
		if (n == max || reader->next == reader->to || !reader_next(reader, UINT32_MAX, &event))
			return n;
	}
}

static uint64
api_lost(NetbusReader *handle)
{
	return handle->reader.lost;
}

static void
api_close(NetbusReader *handle)
{
	reader_close(&handle->reader);
	pfree(handle);
}

void
bus_api_init(void)
{
	static const NetbusApi api = {.version = NETBUS_API_VERSION,
								  .publisher = api_publisher,
								  .publish = api_publish,
								  .publish_batch = api_publish_batch,
								  .publish_fixed = api_publish_fixed,
								  .reader = api_reader,
								  .read = api_read,
								  .lost = api_lost,
								  .close = api_close};

	*find_rendezvous_variable(NETBUS_API_VARIABLE) = (void *) &api;
}
