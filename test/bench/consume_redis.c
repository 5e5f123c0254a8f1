/*-------------------------------------------------------------------------
 *
 * consume_redis.c
 *		The same as consume.c, with a stream of Redis: XREADGROUP and XACK.
 *
 * usage: consume_redis SOCKET EVENTS BATCH
 *
 * Fills a stream first, whose entries have a field of 100 bytes, and consumes it.  A batch's
 * acknowledgement and the request for the next one go in one round trip.
 *
 *-------------------------------------------------------------------------
 */
#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FILL_AT_ONCE 1000

static redisContext *redis;

static double
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e3 + ts.tv_nsec / 1e6;
}

static redisReply *
reply(void)
{
	void *r;

	if (redisGetReply(redis, &r) != REDIS_OK || ((redisReply *) r)->type == REDIS_REPLY_ERROR)
	{
		fprintf(stderr, "consume_redis: %s\n",
				redis->err ? redis->errstr : ((redisReply *) r)->str);
		exit(1);
	}
	return r;
}

static void
fill(long events)
{
	char payload[101];

	redisAppendCommand(redis, "DEL stream");
	freeReplyObject(reply());
	memset(payload, 'x', 100);
	payload[100] = '\0';
	for (long i = 0; i < events; i += FILL_AT_ONCE)
	{
		for (int n = 0; n < FILL_AT_ONCE; n++)
			redisAppendCommand(redis, "XADD stream * payload %s", payload);
		for (int n = 0; n < FILL_AT_ONCE; n++)
			freeReplyObject(reply());
	}
	redisAppendCommand(redis, "XGROUP CREATE stream c 0");
	freeReplyObject(reply());
}

int
main(int argc, char **argv)
{
	int batch = argc == 4 ? atoi(argv[3]) : 0;
	const char **ack;
	long events = 0;
	double start;
	bool acked = false;

	if (batch <= 0)
		return 2;
	redis = redisConnectUnix(argv[1]);
	if (!redis || redis->err)
		return 1;
	fill(atol(argv[2]));
	ack = calloc(batch + 3, sizeof(*ack));
	ack[0] = "XACK";
	ack[1] = "stream";
	ack[2] = "c";

	start = now_ms();
	for (;;)
	{
		redisReply *r;
		redisReply *entries;

		redisAppendCommand(redis, "XREADGROUP GROUP c me COUNT %d STREAMS stream >", batch);
		if (acked)
			freeReplyObject(reply());
		r = reply();
		if (r->type == REDIS_REPLY_NIL)
		{
			freeReplyObject(r);
			break;
		}
		entries = r->element[0]->element[1];
		for (size_t i = 0; i < entries->elements; i++)
			ack[3 + i] = entries->element[i]->element[0]->str;
		events += entries->elements;
		redisAppendCommandArgv(redis, 3 + (int) entries->elements, ack, NULL);
		freeReplyObject(r);
		acked = true;
	}
	printf("%ld %.3f\n", events, now_ms() - start);
	redisFree(redis);
	return 0;
}
