/*-------------------------------------------------------------------------
 *
 * latency.c
 *		From a commit on one connection to its receipt on another.
 *
 * usage: latency tail|receive|notify|watch[-paced] COUNT [LOG]
 *
 * A closed loop in one process: connection B waits (in netbus.tail(), in
 * netbus.receive(), which is acknowledged and committed afterwards, or for a
 * notification), A publishes, notifies, or stores a memory that somebody has made
 * a watch for, and when B has it the next one follows; paced: 100 microseconds later, so that B is surely asleep (busy
 * waiting, because the wake-up of an idle CPU is not what we measure).  The
 * time runs from before the statement is sent on A until B has the payload.
 * Prints median and p99 in microseconds.
 *
 *-------------------------------------------------------------------------
 */
#include <libpq-fe.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAYLOAD 100
#define WARM_UP 200

static PGconn *a;
static PGconn *b;

static void
fail(const char *what, PGconn *conn)
{
	fprintf(stderr, "latency: %s: %s\n", what, PQerrorMessage(conn));
	exit(1);
}

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static PGconn *
connect_db(void)
{
	PGconn *conn = PQconnectdb("");

	if (PQstatus(conn) != CONNECTION_OK)
		fail("connect", conn);
	PQclear(PQexec(conn, "SET synchronous_commit = off"));
	return conn;
}

static void
prepare(PGconn *conn, const char *name, const char *sql)
{
	PGresult *result = PQprepare(conn, name, sql, 0, NULL);

	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		fail("prepare", conn);
	PQclear(result);
}

/* Wait until the socket has something, and take it in. */
static void
take_in(PGconn *conn)
{
	struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};

	if (poll(&fd, 1, 10000) != 1)
	{
		fprintf(stderr, "latency: nothing came\n");
		exit(1);
	}
	if (!PQconsumeInput(conn))
		fail("read", conn);
}

/* The result of a query sent before. */
static PGresult *
get_result(PGconn *conn)
{
	PGresult *result;
	PGresult *end;

	while (PQisBusy(conn))
		take_in(conn);
	result = PQgetResult(conn);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		fail("query", conn);
	while ((end = PQgetResult(conn)) != NULL)
		PQclear(end);
	return result;
}

static void
send_prepared(PGconn *conn, const char *name, const char *parameter)
{
	if (!PQsendQueryPrepared(conn, name, parameter != NULL, &parameter, NULL, NULL, 0) ||
		PQflush(conn) != 0)
		fail("send", conn);
}

static void
execute(PGconn *conn, const char *name)
{
	PGresult *result = PQexecPrepared(conn, name, 0, NULL, NULL, NULL, 0);

	if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
		fail(name, conn);
	PQclear(result);
}

static void
expect(const char *got, const char *payload)
{
	if (strcmp(got, payload) != 0)
	{
		fprintf(stderr, "latency: got \"%s\" instead of \"%s\"\n", got, payload);
		exit(1);
	}
}

static int
compare(const void *x, const void *y)
{
	int64_t i = *(const int64_t *) x;
	int64_t j = *(const int64_t *) y;

	return (i > j) - (i < j);
}

int
main(int argc, char **argv)
{
	int count = argc > 2 ? atoi(argv[2]) : 0;
	bool tail;
	bool receive;
	bool watch;
	bool paced;
	const char *log = argc > 3 ? argv[3] : "lat";
	int64_t *times;
	char sql[128];
	char seq[32];
	char payload[PAYLOAD + 1];

	if (count <= 0)
		return 2;
	tail = strncmp(argv[1], "tail", 4) == 0;
	receive = strncmp(argv[1], "receive", 7) == 0;
	watch = strncmp(argv[1], "watch", 5) == 0;
	paced = strstr(argv[1], "-paced") != NULL;
	times = calloc(count, sizeof(*times));
	a = connect_db();
	b = connect_db();
	if (tail || receive)
	{
		snprintf(sql, sizeof(sql), "SELECT netbus.publish('%s', $1::bytea)", log);
		prepare(a, "send", sql);
		PQclear(PQexec(b, "SET bytea_output = escape"));
	}
	if (tail)
	{
		PGresult *result;

		snprintf(sql, sizeof(sql), "SELECT netbus.head('%s')", log);
		result = PQexec(b, sql);
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
			fail("head", b);
		snprintf(seq, sizeof(seq), "%s", PQgetvalue(result, 0, 0));
		PQclear(result);
		snprintf(sql, sizeof(sql),
				 "SELECT seq, payload FROM netbus.tail_raw('%s', $1, wait => '5 s')", log);
		prepare(b, "wait", sql);
	}
	else if (receive)
	{
		prepare(b, "begin", "BEGIN");
		snprintf(sql, sizeof(sql),
				 "SELECT seq, payload FROM netbus.receive_raw('%s', 'c', wait => '5 s')", log);
		prepare(b, "wait", sql);
		snprintf(sql, sizeof(sql), "SELECT netbus.ack('%s', 'c')", log);
		prepare(b, "ack", sql);
		prepare(b, "commit", "COMMIT");
	}
	else
	{
		prepare(a, "send",
				watch ? "SELECT netbus.memory_store($1, '{lat}', model => 'lat')"
					  : "SELECT pg_notify('lat', $1)");
		PQclear(PQexec(b, "LISTEN lat"));
	}

	for (int i = -WARM_UP; i < count; i++)
	{
		PGnotify *notify = NULL;
		PGresult *sent;
		int64_t start;

		snprintf(payload, sizeof(payload), "%0*d", PAYLOAD, i + WARM_UP);
		if (tail)
			send_prepared(b, "wait", seq);
		if (receive)
		{
			execute(b, "begin");
			send_prepared(b, "wait", NULL);
		}
		start = now_ns();
		if (paced)
			while (now_ns() < start + 100000)
				;

		start = now_ns();
		send_prepared(a, "send", payload);
		if (tail || receive)
		{
			PGresult *result = get_result(b);

			if (i >= 0)
				times[i] = now_ns() - start;
			if (PQntuples(result) != 1)
				fail("not one event", b);
			snprintf(seq, sizeof(seq), "%s", PQgetvalue(result, 0, 0));
			expect(PQgetvalue(result, 0, 1), payload);
			PQclear(result);
		}
		else
		{
			while ((notify = PQnotifies(b)) == NULL)
				take_in(b);
			if (i >= 0)
				times[i] = now_ns() - start;
			if (!watch)
				expect(notify->extra, payload);
		}
		sent = get_result(a);
		if (watch && !strstr(notify->extra, PQgetvalue(sent, 0, 0)))
			expect(notify->extra, PQgetvalue(sent, 0, 0));
		PQfreemem(notify);
		PQclear(sent);
		if (receive)
		{
			execute(b, "ack");
			execute(b, "commit");
		}
	}

	qsort(times, count, sizeof(*times), compare);
	printf("%.1f %.1f\n", times[count / 2] / 1e3, times[(int) (count * 0.99)] / 1e3);
	PQfinish(a);
	PQfinish(b);
	return 0;
}
