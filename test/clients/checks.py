"""What the tests with psycopg share."""

import pathlib
import re
import time

import psycopg


def report(ok, name, detail=''):
    print(('ok' if ok else 'not ok') + ' - ' + name, flush=True)
    if not ok:
        print(detail, flush=True)


def is_(got, expected, name):
    report(got == expected, name, f'got {got!r}, expected {expected!r}')


def one(connection, sql, *args):
    return connection.execute(sql, args).fetchone()[0]


def fails(connection, sql, args, sqlstate, words, name):
    """The call must fail with this SQLSTATE, and the words in message, detail or hint."""
    try:
        connection.execute(sql, args)
        report(False, name, 'it did not fail')
    except psycopg.Error as error:
        diag = error.diag
        told = ' '.join(filter(None, (diag.message_primary, diag.message_detail, diag.message_hint)))
        report(diag.sqlstate == sqlstate and words in told, name, f'{diag.sqlstate}: {told}')


def in_wait(c, other):
    """Until the other connection waits for events."""
    for _ in range(500):
        if one(c, "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = %s", other.info.backend_pid):
            return
        time.sleep(0.01)


def readme(language):
    """The lines in that language that README has about watches."""
    text = (pathlib.Path(__file__).parents[2] / 'README.md').read_text(encoding='utf-8')
    section = re.search(r'^## Watchers\n(.*?)^## ', text, re.S | re.M).group(1)
    return re.search(rf'^```{language}\n(.*?)^```', section, re.S | re.M).group(1)
