"""psycopg 3: watches, by LISTEN and by watch_next, and the lines that README has for it.

Two clients have a copy of a query's result while others write at random (SEED=... for the
same again): one pulls, the other is README's.  Whatever is waited for has a deadline;
what there is when that is missed is printed.
"""

import json
import os
import random
import select
import threading
import time
import traceback

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from checks import is_, one, readme, report

DEADLINE = 60
SEED = int(os.environ.get('SEED') or time.time() * 1000)
NEXT = 'SELECT seq::text, op, record FROM netbus.watch_next(%s, %s, %s, %s)'
STORE = 'SELECT netbus.memory_store(%s, %s, id => %s, scope => %s)'
RETAG = 'SELECT netbus.memory_retag(%s, %s)'
DELETE = 'SELECT netbus.memory_delete(%s)'


def connect():
    return psycopg.connect(autocommit=True, options=f'-c statement_timeout={DEADLINE}s')


def print_state(c, **more):
    """What there is, when it is not what was waited for."""
    print('missed:', more)
    print('head:', one(c, "SELECT netbus.head('memories')"))
    for view in ('stat_watch', 'stat_model', 'stat_worker'):
        for row in c.cursor(row_factory=dict_row).execute(f'SELECT * FROM netbus.{view}'):
            print(f'{view}:', row)
    print('writes:', c.execute("SELECT seq, payload FROM netbus.read('memories') ORDER BY seq DESC LIMIT 5").fetchall())


def until(c, done, name, **state):
    """A check that holds some time before the deadline."""
    ends = time.monotonic() + DEADLINE
    while not (ok := done()) and time.monotonic() < ends:
        time.sleep(0.02)
    report(ok, name)
    if not ok:
        print_state(c, **state)
    return ok


class Listener:
    """A connection that listens, and what it was told."""

    def __init__(self, channel):
        self.c = connect()
        self.told = []
        self.c.add_notify_handler(lambda n: self.told.append(json.loads(n.payload)))
        self.c.execute('LISTEN ' + channel)

    def next(self):
        ends = time.monotonic() + DEADLINE
        while not self.told and time.monotonic() < ends:
            select.select([self.c.fileno()], [], [], 0.2)
            self.c.execute('SELECT')
        if not self.told:
            print_state(self.c, told='nothing')
            raise TimeoutError('no notification')
        return self.told.pop(0)


def note(watch, seqs, entered=(), changed=(), left=()):
    return {'watch': watch, 'seq': [str(seqs[0]), str(seqs[-1])], 'entered': list(entered), 'changed': list(changed),
            'left': list(left)}


def head(c):
    return one(c, "SELECT netbus.head('memories')")


def notes(c):
    listener = Listener('py_notes')
    make = "SELECT netbus.watch_memories('py_notes', tag => 'red', debounce => '0')::text"
    watch = one(c, make)
    is_(one(c, make), watch, 'watch: the same again is the same')
    big = 2**62
    one(c, STORE, 'a', ['red'], big, None)
    is_(listener.next(), note(watch, [head(c)], entered=[str(big)]), 'note: entered, ids and seqs are strings')
    one(c, RETAG, big, ['red', 'green'])
    is_(listener.next(), note(watch, [head(c)], changed=[str(big)]), 'note: changed')
    one(c, RETAG, big, ['green'])
    is_(listener.next(), note(watch, [head(c)], left=[str(big)]), 'note: left, by another tag')
    one(c, STORE, 'b', ['green'], 2, None)  # that is nothing
    one(c, RETAG, big, ['red'])
    listener.next()
    one(c, DELETE, big)
    is_(listener.next(), note(watch, [head(c)], left=[str(big)]), 'note: left, being deleted')
    with c.transaction(force_rollback=True):
        one(c, STORE, 'never', ['red'], 3, None)
    one(c, STORE, 'c', ['red'], 4, None)
    is_(listener.next(), note(watch, [head(c)], entered=['4']), 'note: nothing of what was rolled back')
    is_(one(c, 'SELECT netbus.unwatch(%s)', int(watch)), True, 'unwatch')


def windows(c):
    listener = Listener('py_windows')
    watch = one(c, "SELECT netbus.watch_memories('py_windows', tag => 'slow', debounce => '1 s')::text")
    before = head(c)
    with c.transaction():
        one(c, STORE, 'a', ['slow'], 10, None)
        one(c, STORE, 'there and gone', ['slow'], 11, None)
        one(c, STORE, 'a, again', ['slow', 'green'], 10, None)
        one(c, STORE, 'b', ['slow'], 12, None)
        one(c, STORE, 'there and gone', ['green'], 11, None)
    is_(listener.next(), note(watch, [before + 1, before + 5], entered=['10', '12']), 'window: five changes are one note')
    # What was told is counted after that.
    counted = 'SELECT (matches, notifications, coalesced) = (5, 1, 2) FROM netbus.stat_watch WHERE watch = %s'
    until(c, lambda: one(c, counted, watch), 'window: and are counted so')

    # So many that they are too many in whatever windows they fall.
    overflow = None
    ends = time.monotonic() + DEADLINE
    while not overflow and time.monotonic() < ends:
        one(c, 'SELECT cardinality(netbus.memories_store(%s))',
            Jsonb([{'content': 'x', 'tags': ['slow'], 'id': 1000 + i} for i in range(3000)]))
        last = head(c)
        told = listener.next()
        while int(told['seq'][1]) < last:
            overflow = overflow or 'overflow' in told and told
            told = listener.next()
        overflow = overflow or 'overflow' in told and told
    is_(overflow and sorted(overflow), ['overflow', 'seq', 'watch'], 'overflow: a note without ids')
    until(c, lambda: one(c, 'SELECT overflows > 0 FROM netbus.stat_watch WHERE watch = %s', watch), 'overflow: is counted')
    one(c, "SELECT count(netbus.memory_delete(id)) FROM netbus.memories(tag => 'slow')")
    one(c, 'SELECT netbus.unwatch(%s)', int(watch))


class Mirror:
    """Rows by nothing but watch_next."""

    def __init__(self, watch):
        self.c = connect()
        self.watch = watch
        self.seq = None
        self.rows = {}
        self.calls = 0
        self.problems = []

    def pull(self, max_events=7, wait='0'):
        got = self.c.execute(NEXT, (self.watch, self.seq, max_events, wait)).fetchall()
        self.calls += 1
        if self.seq is None and [row for row in got[:-1] if row[1] != 'current']:
            self.problems.append('not only rows that there are')
        for seq, op, record in got:
            id = record and record['id']
            if op == 'resync':
                self.rows.clear()
            elif op == 'ready':
                pass
            elif not isinstance(id, str):
                self.problems.append(f'{op} {seq}: id {id!r}')
            elif (op in ('current', 'entered')) == (id in self.rows):
                self.problems.append(f'{op} {seq}: {id} was {"a" if id in self.rows else "no"} row')
            elif op == 'left':
                self.problems += [f'left {seq}: {record}'] * (len(record) > 1)
                del self.rows[id]
            else:
                self.rows[id] = record
            if seq is not None and self.seq is not None and int(seq) <= int(self.seq) and op not in ('current', 'ready'):
                self.problems.append(f'{op} {seq} after {self.seq}')
            self.seq = seq
        return len(got)


def in_rows(c, columns, filter):
    """What the query returns, by id."""
    return {row[0]: row for row in c.execute(f'SELECT id::text, {columns} FROM netbus.memories({filter})')}


def write(c, rng, transactions):
    """Change some ids, in transactions of which some are rolled back, as a whole or in part."""
    for n in range(transactions):
        with c.transaction(force_rollback=rng.random() < 0.25):
            for m in range(rng.randint(1, 4)):
                with c.transaction(force_rollback=rng.random() < 0.2):
                    id = rng.randint(1, 40)
                    tags = rng.sample(['red', 'green', 'blue'], rng.randint(0, 3))
                    match rng.randrange(5):
                        case 0 | 1:
                            one(c, STORE, f'{n} {m} ' + 'ü' * rng.randint(0, 300), tags, id, rng.choice(['kitchen', 'hall', None]))
                        case 2:
                            one(c, RETAG, id, tags)
                        case 3:
                            one(c, 'SELECT netbus.memory_pin(%s)', id)
                        case 4:
                            one(c, DELETE, id)


def mirrors(c):
    print('SEED', SEED)
    rng = random.Random(SEED)
    write(c, rng, 20)

    mirror = Mirror(one(c, "SELECT netbus.watch_memories(NULL, tag => 'red')"))
    mirror.pull()
    is_(sorted(mirror.rows), sorted(in_rows(c, 'tags', "tag => 'red'")), 'watch_next: the rows there are')

    theirs = {'psycopg': psycopg, 'json': json}
    ended = []

    def follow():
        try:
            exec(compile(readme('python'), 'README.md', 'exec'), theirs)
        except psycopg.OperationalError:
            ended.append('terminated')
        except Exception:
            ended.append(traceback.format_exc())

    errors = []

    def change(seed):
        try:
            with connect() as mine:
                write(mine, random.Random(seed), 200)
        except Exception:
            errors.append(traceback.format_exc())

    writers = [threading.Thread(target=change, args=(rng.random(),), daemon=True) for _ in range(2)]
    for thread in writers:
        thread.start()
    reader = threading.Thread(target=follow, daemon=True)
    reader.start()

    # There may be nothing more to come, so a call that returns nothing has to do.
    ends = time.monotonic() + DEADLINE
    while any(thread.is_alive() for thread in writers) and time.monotonic() < ends:
        mirror.pull(rng.choice([1, 7, 100]), rng.choice(['0', '5 ms', '100 ms']))
    for thread in writers:
        thread.join(1)
    is_((errors, [thread.is_alive() for thread in writers]), ([], [False] * 2), 'writers: have come to their end')
    while mirror.pull() > 0:
        pass
    is_(mirror.problems, [], 'mirror: every change was one of what was there')
    pulled = {id: (id, r['content'], r['tags'], r['scope'], r['pinned']) for id, r in mirror.rows.items()}
    expected = in_rows(c, 'content, tags, scope, pinned', "tag => 'red'")
    report(pulled == expected, f'mirror: who does nothing but pull has what there is', set(map(str, pulled.items())) ^ set(map(str, expected.items())))
    report(mirror.calls > 5 and len(expected) > 0, 'mirror: after many calls', (mirror.calls, len(expected)))
    if pulled != expected:
        print_state(c, mirror=mirror.seq)

    expected = in_rows(c, 'content, tags', "scope => 'kitchen'")
    until(c, lambda: theirs.get('rows') == expected or ended, 'README: so has who runs its lines', rows=theirs.get('rows'), expected=expected)
    one(c, STORE, 'The kettle works', ['done'], 99, 'kitchen')
    until(c, lambda: '99' in theirs['rows'], 'README: and is told of a row', rows=theirs['rows'])
    one(c, DELETE, 99)
    until(c, lambda: '99' not in theirs['rows'], 'README: and when it goes', rows=theirs['rows'])
    is_(ended, [], 'README: its lines run on')
    one(c, 'SELECT pg_terminate_backend(%s)', theirs['listener'].info.backend_pid)
    reader.join(DEADLINE)
    is_(ended, ['terminated'], 'README: they end with the connection')

    # Who waits is woken, and one that waits in vain gets nothing.
    seq = mirror.seq
    waiting = []
    thread = threading.Thread(target=lambda: waiting.append(mirror.pull(wait=f'{DEADLINE - 10} s')), daemon=True)
    thread.start()
    until(c, lambda: one(c, "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = %s", mirror.c.info.backend_pid),
          'watch_next: waits')
    one(c, STORE, 'not seen', ['green'], 100, None)
    one(c, STORE, 'seen', ['red'], 101, None)
    thread.join(DEADLINE)
    is_((waiting, '101' in mirror.rows, int(mirror.seq) > int(seq)), ([1], True, True), 'watch_next: is woken by a change of its rows')
    is_(mirror.pull(wait='10 ms'), 0, 'watch_next: nothing, after its time')


with connect() as connection:
    one(connection, "SELECT netbus.create_model('memories', 'default', if_not_exists => true)")
    notes(connection)
    windows(connection)
    mirrors(connection)
print('done')
