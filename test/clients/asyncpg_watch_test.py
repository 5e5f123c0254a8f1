"""asyncpg: it calls back for each notification, whatever the connection does; parameters go as bigint and interval."""

import asyncio
import json
from datetime import timedelta

import asyncpg

from checks import is_, report

DEADLINE = 60
NEXT = 'SELECT seq, op, record FROM netbus.watch_next($1, $2, wait => $3)'
STORE = "SELECT netbus.memory_store('from asyncpg', $1, id => $2)"
RETAG = 'SELECT netbus.memory_retag($1, $2)'
DELETE = 'SELECT netbus.memory_delete($1)'
BIG = 2**62


async def notes(c, other):
    told = asyncio.Queue()
    await c.add_listener('async_notes', lambda connection, pid, channel, payload: told.put_nowait(json.loads(payload)))
    watch = await c.fetchval("SELECT netbus.watch_memories('async_notes', tag => 'async', debounce => '0')")

    async def is_told(op, id, name):
        try:
            note = await asyncio.wait_for(told.get(), DEADLINE)
        except asyncio.TimeoutError:
            note = [dict(row) for row in await c.fetch('SELECT * FROM netbus.stat_watch')]
        seq = str(await c.fetchval("SELECT netbus.head('memories')"))
        is_(note, {'watch': str(watch), 'seq': [seq, seq], 'entered': [], 'changed': [], 'left': [], op: [str(id)]}, name)

    await other.execute(STORE, ['async'], BIG)
    await is_told('entered', BIG, 'note: entered, ids and seqs are strings')
    await other.execute(RETAG, BIG, ['async', 'more'])
    await is_told('changed', BIG, 'note: changed')
    # The connection that listens makes the change, too.
    await c.execute(RETAG, BIG, ['else'])
    await is_told('left', BIG, 'note: left')
    await c.fetchval('SELECT netbus.unwatch($1)', watch)


async def pull(c, other):
    watch = await c.fetchval("SELECT netbus.watch_memories(NULL, tag => 'pulled')")
    await other.execute(STORE, ['pulled'], 1)
    rows = await c.fetch(NEXT, watch, None, timedelta(0))
    is_([(op, record and json.loads(record)['id']) for seq, op, record in rows], [('current', '1'), ('ready', None)],
        'watch_next: the rows there are, the id is a string')
    seq = rows[-1]['seq']
    waiting = asyncio.ensure_future(c.fetch(NEXT, watch, seq, timedelta(seconds=DEADLINE)))
    await asyncio.sleep(0)
    await other.execute(STORE, ['pulled'], BIG)
    rows = await waiting
    report(rows[0]['seq'] > seq, 'watch_next: a seq is an int', rows)
    is_([(op, json.loads(record)['id']) for _, op, record in rows], [('entered', str(BIG))], 'watch_next: has waited')
    await other.execute(DELETE, 1)
    rows = await c.fetch(NEXT, watch, rows[-1]['seq'], timedelta(seconds=DEADLINE))
    is_([(op, json.loads(record)) for _, op, record in rows], [('left', {'id': '1'})], 'watch_next: left')
    is_(await c.fetch(NEXT, watch, rows[-1]['seq'], timedelta(milliseconds=10)), [], 'watch_next: nothing more')


async def main():
    c, other = await asyncpg.connect(), await asyncpg.connect()
    await other.execute("SELECT netbus.create_model('memories', 'default', if_not_exists => true)")
    await notes(c, other)
    await pull(c, other)
    await c.close()
    await other.close()
    print('done')


asyncio.run(asyncio.wait_for(main(), 5 * DEADLINE))
