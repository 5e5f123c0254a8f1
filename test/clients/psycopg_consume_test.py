"""psycopg 3: workers that consume, in one transaction with their own table.

Run with an argument, LOG, it is a worker that receives and never commits: it
says so and waits to be killed.
"""

import random
import subprocess
import sys
import threading
import time
from datetime import timedelta

import psycopg
from psycopg.types.json import Jsonb

from checks import fails, in_wait, is_, one, report

RECEIVE = 'SELECT shard, seq, payload, deliveries FROM netbus.receive(%s, %s, %s)'
WAIT = RECEIVE.replace(')', ', wait => %s)')
ACK = 'SELECT netbus.ack(%s, %s)'
NACK = 'SELECT netbus.nack(%s, %s, %s, %s, %s)'
EVENTS = 4000
BATCH = 50


def work(c, log, wait=timedelta(0)):
    """A batch in the transaction that is open: how many events it had."""
    rows = c.execute(WAIT, (log, 'workers', BATCH, wait)).fetchall()
    with c.cursor() as cursor:
        cursor.executemany('INSERT INTO done VALUES (%s, %s, %s, %s)', rows)
    return len(rows)


def never_commit(log):
    with psycopg.connect() as c:
        print(work(c, log), flush=True)
        sys.stdin.readline()


def new_consumer(c, log, events, consumer='c', **options):
    """A log with events 1, 2, ... and a consumer of it."""
    one(c, 'SELECT netbus.create_log(%s)', log)
    for i in range(events):
        one(c, 'SELECT netbus.publish(%s, %s)', log, Jsonb(i + 1))
    given = ''.join(f', {option} => %s' for option in options)
    one(c, f"SELECT netbus.create_consumer(%s, %s, 'earliest'{given})", log, consumer, *options.values())


def workers(c):
    log = 'py_orders'
    one(c, 'SELECT netbus.create_log(%s, shards => 4)', log)
    one(c, "SELECT netbus.create_consumer(%s, 'workers', 'earliest')", log)
    c.execute('CREATE TABLE done (shard int, seq bigint, n int, deliveries int)')
    c.execute("SELECT count(netbus.publish(%s, to_jsonb(i), key => 'key ' || i)) FROM generate_series(1, %s) i", (log, EVENTS))

    # Three have a shard each, and their rows: one is killed, one closes, one is terminated.
    process = subprocess.Popen([sys.executable, __file__, log], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    is_(int(process.stdout.readline()), BATCH, 'workers: one in another process has a batch')
    closing, terminated = psycopg.connect(), psycopg.connect()
    is_((work(closing, log), work(terminated, log)), (BATCH, BATCH), 'workers: and two more')
    is_(one(c, 'SELECT count(holder_pid) FROM netbus.stat_consumer WHERE log = %s', log), 3, 'workers: they hold three shards')

    stop = threading.Event()
    errors = []

    def loop():
        try:
            with psycopg.connect() as mine:
                while not stop.is_set():
                    with mine.transaction():
                        if work(mine, log, timedelta(milliseconds=100)) > 0:
                            one(mine, ACK, log, 'workers')
        except psycopg.Error as error:
            errors.append(error)

    threads = [threading.Thread(target=loop) for _ in range(3)]
    for thread in threads:
        thread.start()
    count = 0
    deadline = time.monotonic() + 60
    while count < EVENTS and not errors and time.monotonic() < deadline:
        count = one(c, 'SELECT count(*) FROM done')
        if count > 0 and process.poll() is None:
            process.kill()
            process.wait()
            closing.close()
            one(c, 'SELECT pg_terminate_backend(%s)', terminated.info.backend_pid)
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    terminated.close()

    is_(errors, [], 'workers: no error')
    is_(c.execute('SELECT count(*), count(DISTINCT (shard, seq)), count(DISTINCT n) FROM done').fetchone(),
        (EVENTS, EVENTS, EVENTS), 'workers: every event exactly once')
    is_(c.execute('SELECT deliveries, count(*) FROM done GROUP BY 1 ORDER BY 1').fetchall(),
        [(1, EVENTS - 3 * BATCH), (2, 3 * BATCH)], 'workers: what the lost ones had came a second time')
    is_(c.execute('''SELECT sum(acknowledged), sum(lag), sum(redeliveries), count(holder_pid)
                     FROM netbus.stat_consumer WHERE log = %s''', (log,)).fetchone(),
        (EVENTS, 0, 3 * BATCH, 0), 'workers: the statistics agree')


def transactions(c):
    new_consumer(c, 'py_xact', 10)
    asked = ('py_xact', 'c')
    fails(c, ACK, asked, '55000', 'BEGIN first', 'autocommit: ack() without receive()')
    fails(c, NACK, (*asked, 0, 1, 'no'), '55000', 'BEGIN first', 'autocommit: nack() without receive()')
    is_(c.execute(RECEIVE, (*asked, 2)).fetchall(), [(0, 1, 1, 1), (0, 2, 2, 1)], 'autocommit: receive()')
    fails(c, ACK, asked, '55000', 'BEGIN first', 'autocommit: ack() after it')
    is_(c.execute(RECEIVE, (*asked, 1)).fetchall(), [(0, 1, 1, 1)], 'autocommit: they come again, and that is no failure')

    with c.transaction():
        c.execute(RECEIVE, (*asked, 3))
        c.execute(RECEIVE, (*asked, 2))
        is_(one(c, 'SELECT netbus.ack(%s, %s, seq => %s)', *asked, 4), 4, 'ack: two calls of receive(), up to a seq')
    with c.transaction():
        is_([r[1] for r in c.execute(RECEIVE, (*asked, 2))], [5, 6], 'ack: goes on behind it')
        is_(one(c, 'SELECT netbus.ack(%s, %s, %s, %s)', *asked, 0, 5), 1, 'ack: by position, small ints')
        try:
            with c.transaction():
                is_(one(c, ACK, *asked), 1, 'savepoint: ack')
                raise psycopg.Rollback()
        except psycopg.Rollback:
            pass
    with c.transaction():
        is_(c.execute(RECEIVE, (*asked, 1)).fetchone(), (0, 6, 6, 1), 'savepoint: its ack is undone')
        is_(one(c, ACK, *asked), 1, 'savepoint: ack later')
    with c.transaction(), c.cursor(name='batch') as cursor:
        cursor.execute('SELECT (e).seq, (e).payload FROM (SELECT netbus.receive(%s, %s) e) s', asked)
        is_(cursor.fetchmany(2), [(7, 7), (8, 8)], 'server-side cursor over receive()')
        is_(one(c, ACK, *asked), 2, 'server-side cursor: ack() of what it has fetched')
    with c.transaction():
        rows = c.execute('SELECT shard, seq, payload FROM netbus.receive_raw(%s, %s, wait => %s)', (*asked, '1 s')).fetchall()
        is_(rows, [(0, 9, b'9'), (0, 10, b'10')], 'receive_raw: bytes, the wait as str')
        one(c, ACK, *asked)
    for i in range(12):
        one(c, 'SELECT netbus.publish(%s, %s)', 'py_xact', Jsonb(i))
        with c.transaction():
            got = c.execute(RECEIVE, (*asked, 5), prepare=True).fetchall()
            if got != [(0, 11 + i, i, 1)] or c.execute(ACK, asked, prepare=True).fetchone() != (1,):
                break
    else:
        i += 1
    is_(i, 12, 'prepared statements: receive and ack, twelve times')


def refusing(c):
    one(c, "SELECT netbus.create_log('py_dead')")
    new_consumer(c, 'py_nack', 4, max_deliveries=2, dead_letter_log='py_dead')
    asked = ('py_nack', 'c')
    with c.transaction():
        is_(len(c.execute(RECEIVE, (*asked, 10)).fetchall()), 4, 'nack: a batch of four')
        is_(one(c, NACK, *asked, 0, 1, 'no such customer'), True, 'nack: it comes again')
        is_(one(c, 'SELECT netbus.nack(%s, %s, %s, %s, mode => %s)', *asked, 0, 2, 'release'), True, 'nack: released')
        is_(one(c, 'SELECT netbus.nack(%s, %s, %s, %s, mode => %s, reason => %s)', *asked, 0, 3, 'poison', 'ü'), False,
            'nack: poison')
        is_(one(c, ACK, *asked), 1, 'nack: the fourth is acknowledged')
    with c.transaction():
        is_(c.execute(RECEIVE, (*asked, 10)).fetchall(), [(0, 1, 1, 2), (0, 2, 2, 1)], 'nack: they come again, with the count')
        is_(one(c, NACK, *asked, 0, 1, 'still not'), False, 'nack: too often')
        is_(one(c, ACK, *asked), 1, 'nack: the other is acknowledged')
    is_(c.execute('SELECT count(*) FROM netbus.read(%s)', ('py_dead',)).fetchone(), (2,), 'nack: two dead letters')
    with c.transaction():
        is_(c.execute(RECEIVE, (*asked, 10)).fetchall(), [], 'nack: nothing is left')
    one(c, 'SELECT netbus.publish(%s, %s)', 'py_nack', Jsonb(5))
    with c.transaction():
        c.execute(RECEIVE, (*asked, 10))
        one(c, 'SELECT netbus.nack(%s, %s, %s, %s, delay => %s)', *asked, 0, 5, timedelta(milliseconds=50))
        one(c, ACK, *asked)
    with c.transaction():
        is_(c.execute(WAIT, (*asked, 10, timedelta(seconds=10))).fetchall(), [(0, 5, 5, 2)], 'nack: again after the delay')
        one(c, ACK, *asked)


def deciding_at_random(c):
    """Each event ends once, acknowledged or dead, whatever was said of it before.

    Dead: refused too often, or set aside since too many of its transactions were rolled back.
    """
    one(c, "SELECT netbus.create_log('py_random_dead')")
    new_consumer(c, 'py_random', 300, max_deliveries=4, dead_letter_log='py_random_dead')
    asked = ('py_random', 'c')
    chance = random.Random(5)
    ends = []
    for _ in range(2000):
        ended = []
        with c.transaction() as transaction:
            rows = c.execute(RECEIVE, (*asked, chance.randint(1, 40))).fetchall()
            come_again, refused = set(), set()
            for _, seq, _, _ in chance.sample(rows, chance.randint(0, len(rows))):
                for _ in range(chance.choice((1, 1, 1, 2))):
                    mode = chance.choices(('retry', 'release', 'poison'), (6, 3, 1))[0]
                    if one(c, 'SELECT netbus.nack(%s, %s, 0, %s, mode => %s)', *asked, seq, mode):
                        come_again.add(seq)
                    else:
                        come_again.discard(seq)
                        refused.add(seq)
                        break
            # All of it, or up to some event.
            to = chance.choice(rows)[1] if rows and chance.random() < 0.5 else None
            if to is None:
                one(c, ACK, *asked)
            else:
                one(c, 'SELECT netbus.ack(%s, %s, seq => %s)', *asked, to)
            seqs = {row[1] for row in rows if to is None or row[1] <= to}
            ended = list(seqs - come_again - refused)
            if chance.random() < 0.1:
                ended = []
                raise psycopg.Rollback(transaction)
        ends += ended
        if not rows:
            break
    ends += [int(row[0]) for row in c.execute("SELECT payload->>'seq' FROM netbus.read('py_random_dead')")]
    is_([seq for seq in range(1, 301) if ends.count(seq) != 1], [], 'verdicts at random: each event ends once')
    is_(c.execute("SELECT lag, retries, acknowledged + dead_letters FROM netbus.stat_consumer WHERE log = 'py_random'").fetchone(),
        (0, 0, 300), 'verdicts at random: nothing is left')


def waiting(c):
    new_consumer(c, 'py_wait', 0)
    asked = ('py_wait', 'c', 10, '30 s')
    with psycopg.connect() as other:
        got = []

        def receive():
            try:
                got.extend(other.execute(WAIT, asked).fetchall())
            except psycopg.Error as error:
                got.append(error.sqlstate)

        def start():
            got.clear()
            thread = threading.Thread(target=receive)
            thread.start()
            in_wait(c, other)
            return thread

        thread = start()
        one(c, 'SELECT netbus.publish(%s, %s)', 'py_wait', '"wake up"')
        thread.join()
        is_(got, [(0, 1, 'wake up', 1)], 'receive: woken in another connection')
        one(other, ACK, *asked[:2])
        other.commit()
        thread = start()
        other.cancel()
        thread.join()
        is_(got, ['57014'], 'receive: cancel() of the driver')
        other.rollback()
        one(c, 'SELECT netbus.publish(%s, %s)', 'py_wait', '2')
        receive()
        is_(got[1:], [(0, 2, 2, 1)], 'receive: the connection works on')


if len(sys.argv) > 1:
    never_commit(sys.argv[1])
else:
    with psycopg.connect(autocommit=True) as connection:
        workers(connection)
        transactions(connection)
        refusing(connection)
        deciding_at_random(connection)
        waiting(connection)
    print('done')
