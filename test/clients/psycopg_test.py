"""psycopg 3: the calls that its users write, parameter by parameter.

What makes it special: a str travels as "unknown", a list of str as the text of
an array of unknown type, a small int as smallint.
"""

import threading
import time
from datetime import timedelta

import psycopg
from psycopg.types.json import Json, Jsonb

from checks import fails, in_wait, is_, one, report

PUBLISH = 'SELECT netbus.publish(%s, %s)'
BATCH = 'SELECT netbus.publish_batch(%s, %s)'
BATCH_KEYS = 'SELECT netbus.publish_batch(%s, %s::jsonb[], keys => %s)'
LINES = 'SELECT netbus.publish_lines(%s, %s)'

logs = 0


def new_log(connection, **options):
    """A fresh log and its name."""
    global logs
    logs += 1
    name = f'psycopg_{logs}'
    given = ''.join(f', {option} => %s' for option in options)
    connection.execute(f'SELECT netbus.create_log(%s{given})', (name, *options.values()))
    return name


def payloads(connection, log):
    return [row[0] for row in connection.execute('SELECT payload FROM netbus.read(%s)', (log,))]


def bytes_of(connection, log):
    return [row[0] for row in connection.execute('SELECT payload FROM netbus.read_raw(%s)', (log,))]


def publish_one(c):
    log = new_log(c, durability='memory')
    is_(one(c, PUBLISH, log, '{"a": 1}'), True, 'publish: str')
    is_(one(c, PUBLISH, log, Json({'a': 2})), True, 'publish: Json')
    is_(one(c, PUBLISH, log, Jsonb({'a': [3, None, 'ü']})), True, 'publish: Jsonb')
    is_(one(c, PUBLISH, log, '"text"'), True, 'publish: a JSON string')
    is_(payloads(c, log), [{'a': 1}, {'a': 2}, {'a': [3, None, 'ü']}, 'text'], 'publish: read back as Python values')

    is_(c.execute('SELECT netbus.publish(%(log)s, %(event)s, key => %(key)s)',
                  {'log': log, 'event': Jsonb(1), 'key': 'k'}).fetchone()[0], True, 'publish: named parameters and a key')
    is_(one(c, 'SELECT netbus.publish(%s, %s, %s, %s)', log, '2', 'k', False), True, 'publish: all by position')
    is_(one(c, 'SELECT netbus.publish(%s, %s, key => %s)', log, '3', None), True, 'publish: a NULL key')
    is_(c.execute('SELECT key FROM netbus.read(%s) WHERE seq > 4', (log,)).fetchall(), [('k',), ('k',), (None,)],
        'publish: the keys are read back')
    is_([r[0] for r in c.execute('SELECT payload FROM netbus.read(%s, key => %s)', (log, 'k'))], [1, 2], 'read: by key')

    head = one(c, 'SELECT netbus.head(%s)', log)
    fails(c, PUBLISH, (log, 'hello'), '22P02', 'Token "hello" is invalid', 'publish: str that is no JSON')
    fails(c, PUBLISH, (log, None), '22004', 'payload', 'publish: None as payload')
    fails(c, PUBLISH, (None, '1'), '22004', 'log', 'publish: None as log')
    fails(c, PUBLISH, (log, b'{}'), '42804', 'convert_from', 'publish: bytes into a jsonb log')
    fails(c, PUBLISH, ('nowhere', '{}'), '42704', "netbus.create_log('nowhere')", 'publish: a log that does not exist')
    is_(one(c, 'SELECT netbus.head(%s)', log), head, 'publish: calls that fail leave nothing')

    raw = new_log(c, format='bytea')
    is_(one(c, PUBLISH, raw, b'\x00\xff'), True, 'publish: bytes')
    is_(one(c, PUBLISH, raw, memoryview(b'view')), True, 'publish: memoryview')
    is_(one(c, PUBLISH, raw, b''), True, 'publish: no bytes')
    is_(bytes_of(c, raw), [b'\x00\xff', b'view', b''], 'publish: bytes come back as they were')
    fails(c, PUBLISH, (raw, 'abc'), '42804', 'bytea', 'publish: str into a bytea log')
    fails(c, PUBLISH, (raw, Jsonb({})), '42804', 'bytea', 'publish: Jsonb into a bytea log')
    fails(c, 'SELECT * FROM netbus.read(%s)', (raw,), '22P02', 'netbus.read_raw()', 'read: bytes that are no text')


def publish_batch(c):
    log = new_log(c)
    is_(one(c, BATCH, log, [Jsonb({'n': 1}), Jsonb({'n': 2})]), 2, 'publish_batch: list of Jsonb')
    is_(one(c, BATCH, log, Jsonb([{'n': 3}, {'n': 4}])), 2, 'publish_batch: Jsonb of a list')
    is_(one(c, BATCH, log, '[{"n": 5}, {"n": 6}]'), 2, 'publish_batch: str that is a JSON array')
    is_(one(c, 'SELECT netbus.publish_batch(%s, %s::text[])', log, ['{"n": 7}', '{"n": 8}']), 2,
        'publish_batch: list of str, cast to text[]')
    is_(one(c, 'SELECT netbus.publish_batch(%s, %s::jsonb[])', log, ['{"n": 9}', '{"n": 10}']), 2,
        'publish_batch: list of str, cast to jsonb[]')
    is_([p['n'] for p in payloads(c, log)], list(range(1, 11)), 'publish_batch: in order')

    is_(one(c, BATCH, log, '[]'), 0, 'publish_batch: empty JSON array')
    is_(one(c, BATCH, log, Jsonb([])), 0, 'publish_batch: Jsonb of an empty list')
    is_(one(c, 'SELECT netbus.publish_batch(%s, %s::jsonb[])', log, []), 0, 'publish_batch: empty list, cast')
    works_or_fails(c, (log, ['{"n": 1}', '{"n": 2}']), 2, 'publish_batch: list of str without cast')
    works_or_fails(c, (log, []), 0, 'publish_batch: empty list without cast')
    fails(c, BATCH, (log, None), '22004', 'payloads', 'publish_batch: None')
    fails(c, BATCH, (log, '"text"'), '22023', 'JSON array', 'publish_batch: JSON that is no array')
    fails(c, 'SELECT netbus.publish_batch(%s, %s::jsonb[])', (log, ['{}', None]), '22004', 'null',
          'publish_batch: None among the payloads')
    fails(c, 'SELECT netbus.publish_batch(%s, %s::text[])', (log, ['{}', '{']), '22P02', 'ended unexpectedly',
          'publish_batch: one payload that is no JSON')

    keyed = new_log(c, shards=4)
    is_(one(c, BATCH_KEYS, keyed, ['1', '2', '3'], ['a', None, 'a']), 3, 'publish_batch: keys, one of them None')
    is_([r[0] for r in c.execute('SELECT payload FROM netbus.read(%s, key => %s)', (keyed, 'a'))], [1, 3],
        'publish_batch: events of a key')
    is_(one(c, BATCH_KEYS, keyed, ['1', '2'], [None, None]), 2, 'publish_batch: keys, all of them None')
    is_(one(c, BATCH_KEYS, keyed, ['1', '2'], None), 2, 'publish_batch: None as keys')
    is_(one(c, BATCH_KEYS, keyed, [], []), 0, 'publish_batch: no payloads and no keys')
    fails(c, BATCH_KEYS, (keyed, ['1', '2'], []), '2202E', 'keys', 'publish_batch: empty list of keys')

    raw = new_log(c, format='bytea', ring_size='16MB')
    is_(one(c, BATCH, raw, [b'a', b'\x00\xff', b'']), 3, 'publish_batch: list of bytes')
    is_(bytes_of(c, raw), [b'a', b'\x00\xff', b''], 'publish_batch: bytes come back as they were')
    fails(c, BATCH, (log, [b'{}']), '42804', 'convert_from', 'publish_batch: list of bytes into a jsonb log')
    many = [i.to_bytes(4, 'big') * 25 for i in range(20000)]
    is_(sum(one(c, BATCH, raw, many[i:i + 1000]) for i in range(0, len(many), 1000)), len(many),
        'publish_batch: 20,000 events by the thousand')
    got = [r[0] for r in c.execute('SELECT payload FROM netbus.read_raw(%s, 3, max_events => 100000)', (raw,))]
    report(got == many, 'publish_batch: all of them come back in order')


def works_or_fails(c, args, expected, name):
    """A driver's array without a type: published right, or refused with a hint to cast."""
    try:
        is_(one(c, BATCH, *args), expected, name)
    except psycopg.Error as error:
        report(error.sqlstate in ('22P02', '22023') and 'cast' in (error.diag.message_hint or ''), name, str(error))


def publish_lines(c):
    log = new_log(c)
    is_(one(c, LINES, log, '{"n": 1}\n\n{"n": 2}\r\n{"n": 3}'), 3, 'publish_lines: str')
    is_(one(c, LINES, log, b'{"n": 4}\n'), 1, 'publish_lines: bytes')
    is_(one(c, LINES, log, ''), 0, 'publish_lines: empty str')
    is_([p['n'] for p in payloads(c, log)], [1, 2, 3, 4], 'publish_lines: in order')
    fails(c, LINES, (log, '{}\n{'), '22P02', 'ended unexpectedly', 'publish_lines: a line that is no JSON')
    try:
        c.execute(LINES, (log, '{}\n{'))
    except psycopg.Error as error:
        report('line 2 of publish_lines()' in (error.diag.context or ''), 'publish_lines: says which line')


def transactions():
    with psycopg.connect() as c, psycopg.connect(autocommit=True) as other:
        log = new_log(c)
        c.commit()
        one(c, PUBLISH, log, '1')
        is_(payloads(other, log), [], 'transaction: nothing before the commit')
        c.commit()
        is_(payloads(other, log), [1], 'transaction: all after it')
        one(c, PUBLISH, log, '2')
        c.rollback()
        is_(payloads(other, log), [1], 'transaction: nothing after a rollback')
        with c.transaction():
            one(c, PUBLISH, log, '3')
            try:
                with c.transaction():
                    one(c, PUBLISH, log, '4')
                    raise psycopg.Rollback()
            except psycopg.Rollback:
                pass
            one(c, PUBLISH, log, '5')
        c.commit()
        is_(payloads(other, log), [1, 3, 5], 'transaction: an inner one that was rolled back')
        is_(one(other, PUBLISH, log, '6'), True, 'transaction: autocommit')
        is_(payloads(c, log), [1, 3, 5, 6], 'transaction: autocommit is visible at once')


def reading(c):
    log = new_log(c)
    for i in range(100):
        one(c, PUBLISH, log, Jsonb({'n': i}))
    read = 'SELECT seq FROM netbus.read(%s, %s, max_events => %s)'
    is_(c.execute(read, (log, 0, 2)).fetchall(), [(1,), (2,)], 'read: int parameters')
    is_(c.execute(read, (log, '98', '5')).fetchall(), [(99,), (100,)], 'read: str parameters')
    is_(c.execute(read, (log, 2**62, 5)).fetchall(), [], 'read: a seq that needs 64 bits')
    is_(c.execute(read, (log, 0, 0)).fetchall(), [], 'read: max_events 0')
    fails(c, read, (log, None, 5), '22004', 'after_seq', 'read: None as after_seq')
    fails(c, read, (log, -1, 5), '22023', 'after_seq', 'read: a negative seq')
    row = c.execute('SELECT * FROM netbus.get(%s, %s)', (log, 7)).fetchone()
    is_((row[0], row[1], row[3], row[4]), (0, 7, None, {'n': 6}), 'get: one event')
    report(row[2].tzinfo is not None and abs(time.time() - row[2].timestamp()) < 600, 'get: ts is a time with zone')
    is_(c.execute('SELECT * FROM netbus.get(%s, %s)', (log, 101)).fetchone(), None, 'get: no row where there is no event')
    is_(c.execute('SELECT seq FROM netbus.read(%s, 98)', (log,), binary=True).fetchall(), [(99,), (100,)], 'read: binary results')
    is_(c.execute('SELECT payload FROM netbus.read_raw(%s, 99)', (log,)).fetchone()[0], b'{"n": 99}', 'read_raw: JSON as bytes')

    for i in range(12):
        rows = c.execute('SELECT seq FROM netbus.read(%s, %s)', (log, 98), prepare=True).fetchall()
        one_more = c.execute(PUBLISH, (log, '1'), prepare=True).fetchone()[0]
        if rows[:2] != [(99,), (100,)] or len(rows) != 2 + i or not one_more:
            break
    else:
        i += 1
    is_(i, 12, 'prepared statements: publish and read, twelve times')

    with c.transaction(), c.cursor(name='events') as cursor:
        cursor.itersize = 7
        cursor.execute('SELECT seq, payload FROM netbus.read(%s, max_events => 50)', (log,))
        first = cursor.fetchmany(3)
        one(c, PUBLISH, log, '"while the cursor is open"')
        rest = cursor.fetchall()
        is_([r[0] for r in first + rest], list(range(1, 51)), 'server-side cursor over read')
    with c.transaction(), c.cursor(name='streamed') as cursor:
        cursor.execute("SELECT (netbus.read(%s)).seq", (log,))
        is_(cursor.fetchmany(2), [(1,), (2,)], 'server-side cursor over read in the target list, closed early')
    is_(c.execute('SELECT count(*) FROM netbus.read(%s, 112)', (log,)).fetchone()[0], 1, 'reading goes on after that')


def pipeline(c):
    if not psycopg.Pipeline.is_supported():
        print('pipeline mode is not supported by this libpq')
        return
    log = new_log(c)
    with c.pipeline():
        cursors = [c.execute(PUBLISH, (log, Jsonb(i))) for i in range(50)]
        count = c.execute('SELECT count(*) FROM netbus.read(%s)', (log,))
    is_([cursor.fetchone()[0] for cursor in cursors], [True] * 50, 'pipeline: 50 events')
    report(count.fetchone()[0] in (0, 50), 'pipeline: a read in it sees all or nothing')
    is_(payloads(c, log), list(range(50)), 'pipeline: in order')
    try:
        with c.pipeline():
            c.execute(PUBLISH, (log, '50'))
            c.execute(PUBLISH, (log, 'no json'))
            c.execute(PUBLISH, (log, '51'))
        report(False, 'pipeline: an error is reported', 'it was not')
    except psycopg.Error as error:
        is_(error.sqlstate, '22P02', 'pipeline: an error is reported')
    is_(len(payloads(c, log)), 50, 'pipeline: and nothing of its transaction is published')


def tailing(c):
    log = new_log(c)
    tail = 'SELECT seq, payload FROM netbus.tail(%s, %s, wait => %s)'
    at = time.monotonic()
    is_(c.execute(tail, (log, 0, timedelta(milliseconds=150))).fetchall(), [], 'tail: no event within the wait')
    report(0.14 < time.monotonic() - at < 5, 'tail: it waited as long as it should')
    is_(c.execute(tail, (log, 0, '10 ms')).fetchall(), [], 'tail: the wait as str')
    fails(c, tail, (log, 0, None), '22004', 'wait', 'tail: None as wait')

    with psycopg.connect(autocommit=True) as other:
        got = []

        def wait():
            got.extend(other.execute(tail, (log, 0, '30 s')).fetchall())
            got.append(time.monotonic())

        thread = threading.Thread(target=wait)
        thread.start()
        in_wait(c, other)
        with c.transaction():
            one(c, PUBLISH, log, '"wake up"')
            time.sleep(0.1)
            published = time.monotonic()
        thread.join()
        is_(got[:-1], [(1, 'wake up')], 'tail: woken in another connection')
        report(0 <= got[-1] - published < 2, 'tail: by the commit', f'{got[-1] - published} s after it')

        for name, cancel in (
            ('cancel() of the driver', other.cancel),
            ('pg_cancel_backend()', lambda: one(c, 'SELECT pg_cancel_backend(%s)', other.info.backend_pid)),
        ):
            thread_error = []

            def wait_for_cancel():
                try:
                    other.execute(tail, (log, 1, '30 s')).fetchall()
                except psycopg.Error as error:
                    thread_error.append(error.sqlstate)

            at = time.monotonic()
            thread = threading.Thread(target=wait_for_cancel)
            thread.start()
            in_wait(c, other)
            cancel()
            thread.join()
            is_(thread_error, ['57014'], 'tail: ' + name)
            report(time.monotonic() - at < 10, 'tail: ends at once on ' + name)
        is_(other.execute(tail, (log, 0, '1 s')).fetchall(), [(1, 'wake up')], 'tail: the connection works on')

        other.execute("SET statement_timeout = '100 ms'")
        fails(other, tail, (log, 1, '30 s'), '57014', 'statement timeout', 'tail: statement_timeout')


with psycopg.connect(autocommit=True) as connection:
    publish_one(connection)
    publish_batch(connection)
    publish_lines(connection)
    reading(connection)
    pipeline(connection)
    tailing(connection)
transactions()
print('done')
