// node-postgres: watches, by LISTEN and by watch_next, and the lines that README has for it.
'use strict';

const fs = require('fs');
const path = require('path');
const { Client } = require('pg');
const checks = require('./checks.js');
const { report, is, one, fails, waits } = checks;

const NEXT = 'SELECT seq, op, record FROM netbus.watch_next($1, $2, wait => $3)';
const STORE = 'SELECT netbus.memory_store($1, $2, id => $3, scope => $4)';
const RETAG = 'SELECT netbus.memory_retag($1, $2)';
const DELETE = 'SELECT netbus.memory_delete($1)';
const BIG = String(2n ** 62n);
const DEADLINE = 60000;

async function connect() {
	const client = new Client();
	await client.connect();
	return client;
}

// Until there is something, true or not null; with what there is when it never comes.
async function until(get, name) {
	const ends = Date.now() + DEADLINE;
	for (;;) {
		const got = await get();
		if (got) return got;
		if (Date.now() > ends) break;
		await new Promise((resolve) => setTimeout(resolve, 10));
	}
	const { rows } = await checks.client.query("SELECT netbus.head('memories'), w.* FROM netbus.stat_watch w");
	throw new Error(`${name}: not in time; ${JSON.stringify(rows)}`);
}

async function notes() {
	const listener = await connect();
	const told = [];
	listener.on('notification', (n) => told.push(JSON.parse(n.payload)));
	await listener.query('LISTEN node_notes');
	const make = "SELECT netbus.watch_memories('node_notes', tag => 'node', debounce => '0')";
	const watch = await one(make);
	is(await one(make), watch, 'watch: the same again is the same');

	const isTold = async (what, name) => {
		const seq = await one("SELECT netbus.head('memories')");
		is(await until(() => told.shift(), name),
			{ watch, seq: [seq, seq], entered: [], changed: [], left: [], ...what }, name);
	};
	await one(STORE, 'a', ['node'], BIG, null);
	await isTold({ entered: [BIG] }, 'note: entered, ids and seqs are strings');
	await one(RETAG, BIG, ['node', 'more']);
	await isTold({ changed: [BIG] }, 'note: changed');
	await one(RETAG, BIG, ['more']);
	await isTold({ left: [BIG] }, 'note: left');
	await checks.client.query('BEGIN');
	await one(STORE, 'never', ['node'], 2, null);
	await checks.client.query('ROLLBACK');
	await one(RETAG, BIG, ['node']);
	await isTold({ entered: [BIG] }, 'note: nothing of what was rolled back');
	await one(DELETE, BIG);
	await isTold({ left: [BIG] }, 'note: left, being deleted');
	is(await one('SELECT netbus.unwatch($1)', watch), true, 'unwatch: the id is a string');
	await listener.end();
}

async function pull() {
	const other = await connect();
	const next = async (client, seq, wait = '0') => (await client.query(NEXT, [watch, seq, wait])).rows;
	const watch = await one("SELECT netbus.watch_memories(NULL, tag => 'pulled')");
	await one(STORE, 'there', ['pulled'], 1, null);
	const current = await next(checks.client, null);
	is(current.map((row) => [row.op, row.record && row.record.id]), [['current', '1'], ['ready', null]], 'watch_next: the rows there are');
	report(current.every((row) => typeof row.seq === 'string'), 'watch_next: a seq is a string', current);

	const waiting = next(other, current[1].seq, '50 s');
	await waits(other);
	await one(STORE, 'new', ['pulled'], BIG, null);
	const [entered] = await waiting;
	is([entered.op, entered.record.id, entered.record.content], ['entered', BIG, 'new'], 'watch_next: woken in another connection');
	await one(DELETE, 1);
	const left = await next(other, entered.seq, '50 s');
	is(left.map((row) => [row.op, row.record]), [['left', { id: '1' }]], 'watch_next: left');
	is(await next(other, left[0].seq, '10 ms'), [], 'watch_next: nothing more');
	is((await next(other, BigInt(left[0].seq) + 1000000n)).map((row) => [row.seq, row.op]), [[null, 'resync']], 'watch_next: a seq that never was');
	await fails(NEXT, ['9999', null, '0'], '42704', 'does not exist', 'watch_next: a watch that does not exist');
	await other.end();
}

async function readme() {
	const text = fs.readFileSync(path.join(__dirname, '../../README.md'), 'utf8');
	const [, section] = /^## Watchers\n(.*?)^## /ms.exec(text);
	const [, lines] = /^```js\n(.*?)^```/ms.exec(section);
	const AsyncFunction = (async () => {}).constructor;
	const client = await connect();

	await one(STORE, 'The kettle is broken', ['todo'], 7, 'kitchen');
	const rows = await new AsyncFunction('client', lines + '\nreturn rows;')(client);
	report(rows.get('7').content === 'The kettle is broken', 'README: the rows there are', [...rows]);
	const copy = () => JSON.stringify([...rows.values()].sort((a, b) => (a.id < b.id ? -1 : 1)));
	const wanted = () => one("SELECT coalesce(json_agg(r ORDER BY id COLLATE \"C\"), '[]') FROM (SELECT id::text, content, tags FROM netbus.memories(scope => 'kitchen')) r");
	for (let i = 0; i < 300; i++) {
		const id = 1 + (i * 7) % 40;
		if (i % 3 == 2) await one(DELETE, id);
		else await one(STORE, `number ${i}`, i % 2 ? ['todo', 'odd'] : [], id, i % 5 ? 'kitchen' : 'hall');
	}
	const expected = JSON.stringify(await wanted());
	await until(() => copy() === expected, 'README: equal').then(
		() => report(true, 'README: who runs its lines has what there is'),
		(error) => report(false, 'README: who runs its lines has what there is', `${error.message}\n${copy()}\n${expected}`));
	report(expected.length > 100, 'README: which is something', expected);
	await client.end();
}

async function main() {
	checks.client = await connect();
	await one("SELECT netbus.create_model('memories', 'default', if_not_exists => true)");
	await notes();
	await pull();
	await readme();
	await checks.client.end();
	console.log('done');
}

main().catch((error) => {
	console.log(error.stack);
	process.exit(1);
});
