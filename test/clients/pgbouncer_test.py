"""A pool in transaction mode: every transaction may run in another backend.

PGPORT is that of pgbouncer, SERVER_PORT the server's own.  The pool has two
backends, so what a call leaves behind in one of them would show.
"""

import os
import threading
import time

import psycopg
from psycopg.types.json import Jsonb

from checks import fails, is_, one

RECEIVE = 'SELECT seq, payload, deliveries FROM netbus.receive(%s, %s, %s)'
ACK = 'SELECT netbus.ack(%s, %s)'
PID = 'SELECT pg_backend_pid()'
ASKED = ('pooled', 'c')
NEXT = 'SELECT seq, op, record FROM netbus.watch_next(%s, %s, wait => %s)'
STORE = "SELECT netbus.memory_store('pooled', %s, id => %s)"


def connect(**options):
    # Statements that were prepared stay in one backend.
    return psycopg.connect(prepare_threshold=None, **options)


def publishing(c, other):
    one(c, "SELECT netbus.create_log('pooled')")
    one(c, "SELECT netbus.create_consumer('pooled', 'c', 'earliest')")
    pids = set()
    for i in range(20):
        # The second transaction gets the backend that the first one has not.
        with other.transaction():
            pids.add(one(other, PID))
            pids.add(one(c, PID))
            one(c, 'SELECT netbus.publish(%s, %s)', 'pooled', Jsonb(2 * i))
            one(other, 'SELECT netbus.publish(%s, %s)', 'pooled', Jsonb(2 * i + 1))
    is_(len(pids), 2, 'transactions run in two backends')
    is_([r[0] for r in c.execute("SELECT payload FROM netbus.read('pooled')")], list(range(40)), 'publish from two transactions')
    is_(len(c.execute("SELECT seq FROM netbus.tail('pooled', 30, wait => '1 s')").fetchall()), 10, 'tail')

    cursor = 'earliest'
    seen = []
    for i in range(4):
        rows = c.execute('SELECT payload, next_cursor FROM netbus.poll(%s, %s, 10)', ('pooled', cursor)).fetchall()
        seen += [r[0] for r in rows]
        cursor = rows[-1][1]
    is_(seen, list(range(40)), 'poll: the cursor goes from backend to backend')


def consuming(c, other):
    c.execute('CREATE TABLE pooled_done (seq bigint, n int, deliveries int)')
    fails(c, ACK, ASKED, '55000', 'BEGIN first', 'ack in a transaction of its own')
    seen = []
    pids = set()
    for i in range(4):
        mine, its = (c, other) if i % 2 else (other, c)
        with mine.transaction():
            pids.add(one(mine, PID))
            seen += [r[1] for r in mine.execute(RECEIVE, (*ASKED, 5))]
            with its.transaction():
                pids.add(one(its, PID))
                if its.execute(RECEIVE, (*ASKED, 5)).fetchall():
                    seen.append('taken twice')
            one(mine, ACK, *ASKED)
    is_(seen, list(range(20)), 'receive and ack in BEGIN..COMMIT')
    is_(len(pids), 2, 'receive: in two backends')

    # A client that goes in the middle: the pool ends its transaction.
    with connect() as lost:
        rows = lost.execute(RECEIVE, (*ASKED, 5)).fetchall()
        lost.cursor().executemany('INSERT INTO pooled_done VALUES (%s, %s, %s)', rows)
        lost.close()

    stop = threading.Event()
    errors = []

    def loop():
        try:
            with connect() as worker:
                while not stop.is_set():
                    with worker.transaction():
                        got = worker.execute(RECEIVE.replace(')', ", wait => '50 ms')"), (*ASKED, 3)).fetchall()
                        worker.cursor().executemany('INSERT INTO pooled_done VALUES (%s, %s, %s)', got)
                        if got:
                            one(worker, ACK, *ASKED)
        except psycopg.Error as error:
            errors.append(error)

    with psycopg.connect(autocommit=True, port=os.environ['SERVER_PORT']) as direct:
        threads = [threading.Thread(target=loop) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(3000):
            if one(direct, 'SELECT count(*) FROM pooled_done') >= 20 or errors:
                break
            stop.wait(0.01)
        stop.set()
        for thread in threads:
            thread.join()
        is_(errors, [], 'four workers, two backends: no error')
        is_(direct.execute('SELECT n, deliveries FROM pooled_done ORDER BY 1').fetchall(),
            [(n, 2 if n < 25 else 1) for n in range(20, 40)], 'every event exactly once, those of a lost client again')
        is_(direct.execute("SELECT lag, holder_pid FROM netbus.stat_consumer WHERE log = 'pooled'").fetchone(), (0, None),
            'nothing is left, nothing held')


def watching(c, other):
    """LISTEN would be in one of the backends; pulling works in any."""
    one(c, "SELECT netbus.create_model('memories', 'default', if_not_exists => true)")
    watch = one(c, "SELECT netbus.watch_memories(NULL, tag => 'pooled')")
    pids = set()
    seq = None
    ops = []
    rows = {}
    for i in range(12):
        mine, its = (c, other) if i % 2 else (other, c)
        with its.transaction():
            pids.add(one(its, PID))
            # What is being changed here is pulled by the next, from the other backend.
            one(its, STORE, ['pooled'] if i % 3 else [], i % 4)
            with mine.transaction():
                pids.add(one(mine, PID))
                for seq, op, record in mine.execute(NEXT, (watch, seq, '0')).fetchall():
                    ops.append(op)
                    if op == 'left':
                        del rows[record['id']]
                    elif record:
                        rows[record['id']] = record['tags']
    is_(len(pids), 2, 'watch_next: in two backends')
    for seq, op, record in c.execute(NEXT, (watch, seq, '60 s')).fetchall():
        rows[record['id']] = record['tags']
    is_(rows, dict(c.execute("SELECT id::text, tags FROM netbus.memories(tag => 'pooled')").fetchall()),
        'watch_next: the changes make up what there is')
    is_(sorted(set(ops)), ['changed', 'entered', 'left', 'ready'], 'watch_next: and were of all kinds')

    waiting = []
    thread = threading.Thread(target=lambda: waiting.extend(other.execute(NEXT, (watch, seq, '60 s')).fetchall()))
    thread.start()
    with psycopg.connect(autocommit=True, port=os.environ['SERVER_PORT']) as direct:
        for _ in range(3000):
            if one(direct, "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'watch_next' AND wait_event_type = 'Extension'"):
                break
            time.sleep(0.01)
    one(c, STORE, ['pooled'], 99)
    thread.join()
    is_([(op, record['id']) for _, op, record in waiting], [('entered', '99')], 'watch_next: one that waits is woken through the pool')


with connect(autocommit=True) as connection, connect(autocommit=True) as second:
    publishing(connection, second)
    consuming(connection, second)
    watching(connection, second)
print('done')
