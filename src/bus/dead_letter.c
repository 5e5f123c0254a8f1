/*-------------------------------------------------------------------------
 *
 * dead_letter.c
 *		Events that were set aside: what a dead-letter log has of them, and how they
 *		come back.
 *
 * A dead-letter log is an ordinary jsonb log.  Its events tell whence they come,
 * why and after how many deliveries, and hold the event as it was: as JSON, or in
 * base64 what is none.  They are published with the rights of the consumer's owner,
 * who has chosen the log; those who receive need none there.
 *
 * Redriving is consuming: a consumer of the dead-letter log, named "redrive" and made
 * at first use, knows how far it has been done.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/claim.h"
#include "bus/consumer_ddl.h"
#include "bus/publisher.h"
#include "bus/reader.h"
#include "bus/rows.h"

#include "common/base64.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define REDRIVE_CONSUMER "redrive"
#define LETTER_ROOM      8192 /* more than a dead letter has besides the payload */

PG_FUNCTION_INFO_V1(netbus_redrive);

/* ------------------------------------------------------------- burying */

static JsonbValue
string_value(const char *string, int len)
{
	JsonbValue value = {.type = jbvString};

	value.val.string.val = (char *) string;
	value.val.string.len = len;
	return value;
}

static void
push_key(JsonbParseState **state, const char *key)
{
	JsonbValue value = string_value(key, strlen(key));

	pushJsonbValue(state, WJB_KEY, &value);
}

static void
push_string(JsonbParseState **state, const char *key, const char *string, int len)
{
	JsonbValue value = string_value(string, len);

	push_key(state, key);
	pushJsonbValue(state, WJB_VALUE, &value);
}

static void
push_int(JsonbParseState **state, const char *key, int64 number)
{
	JsonbValue value = {.type = jbvNumeric};

	value.val.numeric = int64_to_numeric(number);
	push_key(state, key);
	pushJsonbValue(state, WJB_VALUE, &value);
}

/* A jsonb as a value that can be pushed: a scalar is an array of one in binary. */
static void
push_jsonb(JsonbParseState **state, const char *key, const Jsonb *jsonb)
{
	JsonbValue value;

	push_key(state, key);
	if (JB_ROOT_IS_SCALAR(jsonb))
		JsonbExtractScalar((JsonbContainer *) &jsonb->root, &value);
	else
	{
		value.type = jbvBinary;
		value.val.binary.data = (JsonbContainer *) &jsonb->root;
		value.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	}
	pushJsonbValue(state, WJB_VALUE, &value);
}

/* "payload", or "base64" of what is no JSON; where a letter cannot hold that, how large it is. */
static void
push_payload(JsonbParseState **state, const ReaderEvent *event)
{
	const char *bytes = event->event.payload;
	uint32 len = event->event.payload_len;

	if (len > (uint64) nb_max_event_size * 1024 / (event->flags & FRAME_JSONB ? 1 : 2) -
				  Min((uint64) nb_max_event_size * 512, LETTER_ROOM))
		push_int(state, "omitted", len);
	else if (event->flags & FRAME_JSONB)
	{
		Jsonb *jsonb = palloc(VARHDRSZ + len);

		SET_VARSIZE(jsonb, VARHDRSZ + len);
		memcpy(VARDATA(jsonb), bytes, len);
		push_jsonb(state, "payload", jsonb);
	}
	else
	{
		/* Bytes are unsigned there since PostgreSQL 18. */
		char *text = palloc(pg_b64_enc_len(len) + 1);
		int encoded = pg_b64_encode((const void *) bytes, len, text, pg_b64_enc_len(len));

		push_string(state, "base64", text, encoded);
	}
}

void
dead_letter_publish(const Consumer *consumer, const NbLog *log, int shard, const ReaderEvent *event,
					const char *reason, uint32 attempts)
{
	const char *name = nb_log_name_of(consumer->dead_letter_log);
	JsonbParseState *state = NULL;
	Publisher *publisher;
	Jsonb *jsonb;
	Oid user;
	int context;
	char seq[24];
	char *ts;

	if (!name)
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("the dead-letter log of consumer \"%s\" of log \"%s\" does not exist any more",
					NameStr(consumer->key.name), log->name),
			 errhint("Give it another one with netbus.alter_consumer().")));
	snprintf(seq, sizeof(seq), UINT64_FORMAT, event->seq);
	ts = DatumGetCString(DirectFunctionCall1(
		timestamptz_out, TimestampTzGetDatum(NB_EPOCH_TO_TIMESTAMPTZ(event->ts))));

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_string(&state, "log", log->name, strlen(log->name));
	push_string(&state, "consumer", NameStr(consumer->key.name),
				strlen(NameStr(consumer->key.name)));
	push_int(&state, "shard", shard);
	push_string(&state, "seq", seq, strlen(seq));
	push_string(&state, "ts", ts, strlen(ts));
	push_string(&state, "reason", reason, strlen(reason));
	push_int(&state, "attempts", attempts);
	if (event->event.key)
		push_string(&state, "key", event->event.key, event->event.key_len);
	push_payload(&state, event);
	jsonb = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(consumer->owner, context | SECURITY_LOCAL_USERID_CHANGE);
	publisher = publisher_open(name);
	if (publisher->log->options.format != LOG_FORMAT_JSONB)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("dead-letter log \"%s\" is not a jsonb log", name)));
	if (!publisher_append(publisher, true, event->event.key, event->event.key_len, VARDATA(jsonb),
						  VARSIZE(jsonb) - VARHDRSZ))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						errmsg("dead-letter log \"%s\" is full", name)));
	SetUserIdAndSecContext(user, context);
}

/* ------------------------------------------------------------ redriving */

static const JsonbValue *
field(Jsonb *jsonb, const char *key, enum jbvType type, JsonbValue *value)
{
	if (!JB_ROOT_IS_OBJECT(jsonb) ||
		!getKeyJsonValueFromContainer(&jsonb->root, key, strlen(key), value) || value->type != type)
		return NULL;
	return value;
}

/* The event of a dead letter as the other log takes it.  False: it is no dead letter. */
static bool
original(Jsonb *letter, const NbLog *to, struct varlena **payload)
{
	bool bytea = to->options.format == LOG_FORMAT_BYTEA;
	JsonbValue value;
	JsonbValue *found;

	if (field(letter, "base64", jbvString, &value))
	{
		int room = pg_b64_dec_len(value.val.string.len);
		struct varlena *bytes = palloc(VARHDRSZ + room);
		int len = pg_b64_decode(value.val.string.val, value.val.string.len, (void *) VARDATA(bytes),
								room);

		if (len < 0)
			return false;
		SET_VARSIZE(bytes, VARHDRSZ + len);
		if (!bytea)
		{
			pg_verifymbstr(VARDATA(bytes), len, false);
			bytes = (struct varlena *) publisher_parse_json(VARDATA(bytes), len);
		}
		*payload = bytes;
		return true;
	}
	if (!JB_ROOT_IS_OBJECT(letter))
		return false;
	found = getKeyJsonValueFromContainer(&letter->root, "payload", strlen("payload"), &value);
	if (!found)
		return false;
	*payload = (struct varlena *) JsonbValueToJsonb(found);
	if (bytea)
		*payload = (struct varlena *) cstring_to_text(
			JsonbToCString(NULL, (JsonbContainer *) VARDATA(*payload), VARSIZE(*payload)));
	return true;
}

static bool
redrive_event(Publisher *publisher, const ReaderEvent *event)
{
	Jsonb *letter = palloc(VARHDRSZ + event->event.payload_len);
	struct varlena *payload;

	SET_VARSIZE(letter, VARHDRSZ + event->event.payload_len);
	memcpy(VARDATA(letter), event->event.payload, event->event.payload_len);
	if (!original(letter, publisher->log, &payload))
		return false;
	if (!publisher_append(publisher, true, event->event.key, event->event.key_len, VARDATA(payload),
						  VARSIZE(payload) - VARHDRSZ))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						errmsg("log \"%s\" is full", publisher->log->name)));
	return true;
}

/* Has this transaction redriven from there before? */
static bool
has_all(const Consumer *consumer, const NbLog *log)
{
	for (int i = 0; i < log->options.shards; i++)
		if (!claim_find(consumer->id, i))
			return false;
	return true;
}

/* redrive(dead_letter_log, to_log) -> events published again */
Datum
netbus_redrive(PG_FUNCTION_ARGS)
{
	char *from = arg_text(fcinfo, 0, "dead_letter_log");
	Publisher *publisher;
	NbLog *log;
	Consumer *consumer;
	MemoryContext context;
	MemoryContext old;
	int64 events = 0;
	int64 others = 0;

	PreventCommandIfReadOnly("netbus.redrive()");
	log = nb_log_open(from, AccessShareLock, ACL_SELECT);
	if (log->options.format != LOG_FORMAT_JSONB)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("log \"%s\" is not a jsonb log, as dead-letter logs are", from)));
	publisher = publisher_open(arg_text(fcinfo, 1, "to_log"));
	if (publisher->log == log)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("cannot redrive log \"%s\" into itself", from)));
	consumer = consumer_ensure(log, REDRIVE_CONSUMER);
	if (!has_all(consumer, log))
		claim_take_all(consumer, log);

	context = AllocSetContextCreate(CurrentMemoryContext, "netbus redrive", ALLOCSET_DEFAULT_SIZES);
	for (int shard = 0; shard < log->options.shards; shard++)
	{
		Claim *claim = claim_find(consumer->id, shard);
		Reader reader;
		ReaderEvent event;

		claim_settle(claim);
		claim_touch(claim);
		reader_open(&reader, log, shard, claim->now.scanned_to);
		while (reader_next(&reader, UINT32_MAX, &event))
		{
			old = MemoryContextSwitchTo(context);
			claim_note_event(claim, event.seq);
			if (redrive_event(publisher, &event))
				events++;
			else
				others++;
			MemoryContextSwitchTo(old);
			MemoryContextReset(context);
		}
		claim->now.scanned_to = reader.after_seq;
		claim->now.lost += reader.lost;
		claim->now.acked = claim->now.events;
		claim->now.acked_to = reader.after_seq;
		reader_close(&reader);
	}
	MemoryContextDelete(context);
	if (others > 0)
		ereport(NOTICE, (errmsg("%lld events of log \"%s\" are not dead letters, skipping",
								(long long) others, from)));
	PG_RETURN_INT64(events);
}
