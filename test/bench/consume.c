/*-------------------------------------------------------------------------
 *
 * consume.c
 *		Consuming in batches through libpq: how many events in how many milliseconds.
 *
 * usage: consume netbus|netbus_raw LOG CONSUMER BATCH
 *		  consume pgmq|pgmq_apart SCHEMA QUEUE BATCH
 *		  consume pgq QUEUE CONSUMER BATCH
 *
 * Consumes until nothing is left, with prepared statements.  Acknowledging a batch and
 * asking for the next one take one round trip (pipeline mode); with pgmq both are
 * then in one transaction, but for pgmq_apart.  PgQ's batches are as large as its
 * ticks: it is their rows that come by the batch, from a cursor.
 *
 * Payloads come as text; with netbus_raw as they are, in binary.
 *
 *-------------------------------------------------------------------------
 */
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static PGconn *conn;
static long events;
static long bytes;

static void
fail(const char *what)
{
	fprintf(stderr, "consume: %s: %s\n", what, PQerrorMessage(conn));
	exit(1);
}

static double
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e3 + ts.tv_nsec / 1e6;
}

static PGresult *
checked(PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && status != PGRES_PIPELINE_SYNC)
		fail("query");
	return result;
}

static void
prepare(const char *name, const char *sql)
{
	PQclear(checked(PQprepare(conn, name, sql, 0, NULL)));
}

static void
send_prepared(const char *name, const char *parameter, int format)
{
	if (!PQsendQueryPrepared(conn, name, parameter != NULL, &parameter, NULL, NULL, format))
		fail("send");
}

/* The results of what was sent: of the last one, which is the batch. */
static PGresult *
end_trip(void)
{
	PGresult *batch = NULL;

	if (!PQpipelineSync(conn))
		fail("sync");
	for (;;)
	{
		PGresult *result = PQgetResult(conn);

		if (!result)
			continue; /* between two statements */
		if (PQresultStatus(checked(result)) == PGRES_PIPELINE_SYNC)
		{
			PQclear(result);
			return batch;
		}
		PQclear(batch);
		batch = result;
	}
}

/* Have a look at each row: id and payload. */
static int
take(const PGresult *batch)
{
	int rows = PQntuples(batch);

	for (int i = 0; i < rows; i++)
		bytes += PQgetlength(batch, i, 1) + (PQgetvalue(batch, i, 1)[0] == 0);
	events += rows;
	return rows;
}

static void
consume_netbus(char **args, bool raw)
{
	char sql[256];
	int rows;

	prepare("begin", "BEGIN");
	prepare("commit", "COMMIT");
	snprintf(sql, sizeof(sql), "SELECT seq, payload FROM netbus.receive%s('%s', '%s', %s)",
			 raw ? "_raw" : "", args[0], args[1], args[2]);
	prepare("receive", sql);
	snprintf(sql, sizeof(sql), "SELECT netbus.ack('%s', '%s')", args[0], args[1]);
	prepare("ack", sql);
	PQenterPipelineMode(conn);
	send_prepared("begin", NULL, 0);
	do
	{
		PGresult *batch;

		send_prepared("receive", NULL, raw);
		batch = end_trip();
		rows = take(batch);
		PQclear(batch);
		send_prepared("ack", NULL, 0);
		send_prepared("commit", NULL, 0);
		if (rows > 0)
			send_prepared("begin", NULL, 0);
	} while (rows > 0);
	PQclear(end_trip());
}

static void
consume_pgmq(char **args, bool apart)
{
	char *ids = malloc(atoi(args[2]) * 24 + 3);
	char sql[256];
	int rows;

	snprintf(sql, sizeof(sql), "SELECT msg_id, message FROM %s.read('%s', 60, %s)", args[0],
			 args[1], args[2]);
	prepare("read", sql);
	snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s.delete('%s', $1::bigint[])", args[0],
			 args[1]);
	prepare("delete", sql);
	PQenterPipelineMode(conn);
	do
	{
		PGresult *batch;
		char *end = ids;

		send_prepared("read", NULL, 0);
		batch = end_trip();
		rows = take(batch);
		*end++ = '{';
		for (int i = 0; i < rows; i++)
			end += sprintf(end, "%s%s", i > 0 ? "," : "", PQgetvalue(batch, i, 0));
		strcpy(end, "}");
		PQclear(batch);
		send_prepared("delete", ids, 0);
		if (apart)
			PQclear(end_trip());
	} while (rows > 0);
	if (!apart)
		PQclear(end_trip());
	free(ids);
}

static void
consume_pgq(char **args)
{
	char sql[256];
	PGresult *result;

	snprintf(sql, sizeof(sql), "SELECT pgq.next_batch('%s', '%s')", args[0], args[1]);
	prepare("next", sql);
	snprintf(sql, sizeof(sql), "FETCH %s FROM batch", args[2]);
	for (;;)
	{
		char id[32];
		char open[256];

		PQclear(checked(PQexec(conn, "BEGIN")));
		result = checked(PQexecPrepared(conn, "next", 0, NULL, NULL, NULL, 0));
		if (PQgetisnull(result, 0, 0))
			break;
		snprintf(id, sizeof(id), "%s", PQgetvalue(result, 0, 0));
		PQclear(result);
		snprintf(open, sizeof(open),
				 "SELECT ev_id, ev_data FROM pgq.get_batch_cursor(%s, 'batch', %s)", id, args[2]);
		result = checked(PQexec(conn, open));
		while (take(result) > 0)
		{
			/* Its columns: ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ... */
			PQclear(result);
			result = checked(PQexec(conn, sql));
		}
		PQclear(result);
		PQclear(checked(PQexec(conn, "CLOSE batch")));
		snprintf(open, sizeof(open), "SELECT pgq.finish_batch(%s)", id);
		PQclear(checked(PQexec(conn, open)));
		PQclear(checked(PQexec(conn, "COMMIT")));
	}
	PQclear(result);
	PQclear(checked(PQexec(conn, "COMMIT")));
}

int
main(int argc, char **argv)
{
	double start;

	if (argc != 5)
		return 2;
	conn = PQconnectdb("");
	if (PQstatus(conn) != CONNECTION_OK)
		fail("connect");
	start = now_ms();
	if (strncmp(argv[1], "netbus", 6) == 0)
		consume_netbus(argv + 2, strcmp(argv[1], "netbus_raw") == 0);
	else if (strncmp(argv[1], "pgmq", 4) == 0)
		consume_pgmq(argv + 2, strcmp(argv[1], "pgmq_apart") == 0);
	else if (strcmp(argv[1], "pgq") == 0)
		consume_pgq(argv + 2);
	else
		return 2;
	printf("%ld %.3f\n", events, now_ms() - start);
	PQfinish(conn);
	return bytes == 0;
}
