// node-postgres: the calls that its users write, parameter by parameter.
//
// What makes it special: it sends every parameter as text without a type. An
// object travels as JSON, an array as the text of a PostgreSQL array, a Buffer
// as bytes; and a bigint comes back as a string, for a number would lose digits.
'use strict';

const { Client } = require('pg');
const checks = require('./checks.js');
const { report, is, one, column, fails, waits } = checks;

const PUBLISH = 'SELECT netbus.publish($1, $2)';
const BATCH = 'SELECT netbus.publish_batch($1, $2)';

let client;

// An array without a type: published right, or refused with a hint to cast.
async function worksOrFails(values, expected, name) {
	try {
		is(await one(BATCH, ...values), expected, name);
	} catch (error) {
		const clear = ['22P02', '22023', '42804'].includes(error.code) && /cast/i.test(error.hint || '');
		report(clear, name, `${error.code}: ${error.message} ${error.hint}`);
	}
}

let logs = 0;

async function newLog(options = '') {
	const name = `node_${++logs}`;
	await client.query(`SELECT netbus.create_log($1${options})`, [name]);
	return name;
}

const payloads = (log) => column('SELECT payload FROM netbus.read($1)', log);

async function publishOne() {
	const log = await newLog(", durability => 'memory'");
	is(await one(PUBLISH, log, { a: 1 }), true, 'publish: object');
	is(await one(PUBLISH, log, '{"a": 2}'), true, 'publish: string');
	is(await one(PUBLISH, log, JSON.stringify(['ü', null])), true, 'publish: JSON.stringify of an array');
	is(await one(PUBLISH, log, Buffer.from('{"a": 3}')), true, 'publish: Buffer of JSON');
	is(await one(PUBLISH, log, 4), true, 'publish: number');
	is(await payloads(log), [{ a: 1 }, { a: 2 }, ['ü', null], { a: 3 }, 4], 'publish: read back as values');

	is(await one('SELECT netbus.publish($1, $2, key => $3)', log, '1', 'k'), true, 'publish: with a key');
	is(await one('SELECT netbus.publish($1, $2, $3, $4)', log, '2', 7, false), true, 'publish: all by position, a number as key');
	is(await one('SELECT netbus.publish($1, $2, $3)', log, '3', null), true, 'publish: null as key');
	is(await column('SELECT key FROM netbus.read($1, 5)', log), ['k', '7', null], 'publish: the keys are read back');

	await fails(PUBLISH, [log, 'hello'], '22P02', 'Token "hello" is invalid', 'publish: string that is no JSON');
	await fails(PUBLISH, [log, null], '22004', 'payload', 'publish: null');
	await fails(PUBLISH, [log, undefined], '22004', 'payload', 'publish: undefined');
	await fails(PUBLISH, [log, [1, 2]], '22P02', 'json', 'publish: an array, which is no JSON on the wire');
	await fails(PUBLISH, ['nowhere', {}], '42704', "netbus.create_log('nowhere')", 'publish: a log that does not exist');

	const raw = await newLog(", format => 'bytea'");
	const bytes = Buffer.from([0, 255, 10]);
	is(await one('SELECT netbus.publish($1, $2::bytea)', raw, bytes), true, 'publish: Buffer, cast');
	await fails(PUBLISH, [raw, Buffer.from('text')], '42804', 'bytea', 'publish: Buffer without a cast into a bytea log');
	await fails(PUBLISH, [raw, 'text'], '42804', 'bytea', 'publish: string into a bytea log');
	const [back] = await column('SELECT payload FROM netbus.read_raw($1)', raw);
	report(Buffer.isBuffer(back) && back.equals(bytes), 'publish: bytes come back as a Buffer', back);
}

async function publishBatch() {
	const log = await newLog();
	is(await one(BATCH, log, JSON.stringify([{ n: 1 }, { n: 2 }])), 2, 'publish_batch: JSON.stringify of an array');
	is(await one('SELECT netbus.publish_batch($1, $2::jsonb[])', log, [{ n: 3 }, { n: 4 }]), 2, 'publish_batch: objects, cast to jsonb[]');
	is(await one('SELECT netbus.publish_batch($1, $2::text[])', log, ['{"n":5}', '{"n":6}']), 2, 'publish_batch: strings, cast to text[]');
	is((await payloads(log)).map((p) => p.n), [1, 2, 3, 4, 5, 6], 'publish_batch: in order');

	is(await one(BATCH, log, '[]'), 0, 'publish_batch: JSON of an empty array');
	is(await one('SELECT netbus.publish_batch($1, $2::jsonb[])', log, []), 0, 'publish_batch: empty array, cast');
	await worksOrFails([log, [{ n: 1 }, { n: 2 }]], 2, 'publish_batch: array of objects without a cast');
	await worksOrFails([log, ['{}', '{}']], 2, 'publish_batch: array of strings without a cast');
	await worksOrFails([log, []], 0, 'publish_batch: empty array without a cast');
	await fails(BATCH, [log, { n: 1 }], '22023', 'JSON array', 'publish_batch: an object');
	await fails(BATCH, [log, null], '22004', 'payloads', 'publish_batch: null');
	await fails('SELECT netbus.publish_batch($1, $2::jsonb[])', [log, [{}, null]], '22004', 'null',
		'publish_batch: null among the payloads');

	const keyed = await newLog(', shards => 4');
	const keys = 'SELECT netbus.publish_batch($1, $2, keys => $3)';
	is(await one(keys, keyed, '[1, 2, 3]', ['a', null, 'a']), 3, 'publish_batch: keys, one of them null');
	is(await column('SELECT payload FROM netbus.read($1, key => $2)', keyed, 'a'), [1, 3], 'publish_batch: events of a key');
	is(await one(keys, keyed, '[1]', null), 1, 'publish_batch: null as keys');
	is(await one(keys, keyed, '[]', []), 0, 'publish_batch: no payloads and no keys');
	await fails(keys, [keyed, '[1, 2]', []], '2202E', 'keys', 'publish_batch: empty array of keys');

	const raw = await newLog(", format => 'bytea'");
	const buffers = [Buffer.from('a'), Buffer.from([0, 255]), Buffer.alloc(0)];
	is(await one('SELECT netbus.publish_batch($1, $2::bytea[])', raw, buffers), 3, 'publish_batch: Buffers, cast to bytea[]');
	const back = await column('SELECT payload FROM netbus.read_raw($1)', raw);
	report(Buffer.concat(back).equals(Buffer.concat(buffers)) && back.length === 3, 'publish_batch: they come back as they were');
	await worksOrFails([raw, buffers], 3, 'publish_batch: Buffers without a cast');
}

async function publishLines() {
	const log = await newLog();
	const lines = 'SELECT netbus.publish_lines($1, $2)';
	is(await one(lines, log, '{"n": 1}\n{"n": 2}\n'), 2, 'publish_lines: string');
	is(await one(lines, log, Buffer.from('{"n": 3}')), 1, 'publish_lines: Buffer');
	is((await payloads(log)).map((p) => p.n), [1, 2, 3], 'publish_lines: in order');
}

async function reading() {
	const log = await newLog();
	await client.query("SELECT count(netbus.publish($1, to_jsonb(i))) FROM generate_series(1, 100) i", [log]);
	const read = 'SELECT seq FROM netbus.read($1, $2, max_events => $3)';
	is(await column(read, log, 0, 2), ['1', '2'], 'read: a seq is a string');
	is(await column(read, log, '98', '5'), ['99', '100'], 'read: string parameters');
	is(await column(read, log, 98n, 5), ['99', '100'], 'read: BigInt parameter');
	is(await column(read, log, 2n ** 62n, 5), [], 'read: BigInt that a number cannot hold');
	await fails(read, [log, 1.5, 5], '22P02', 'bigint', 'read: a number with a fraction');
	await fails(read, [log, null, 5], '22004', 'after_seq', 'read: null as after_seq');
	const { rows } = await client.query('SELECT * FROM netbus.get($1, $2)', [log, 7]);
	is([rows[0].shard, rows[0].seq, rows[0].key, rows[0].payload], [0, '7', null, 7], 'get: one event');
	report(rows[0].ts instanceof Date, 'get: ts is a Date', rows[0].ts);

	let same = 0;
	for (let i = 0; i < 12; i++) {
		await client.query({ name: 'publish', text: PUBLISH, values: [log, i] });
		const r = await client.query({ name: 'read', text: 'SELECT payload FROM netbus.read($1, $2)', values: [log, 100 + i] });
		same += r.rows.length === 1 && r.rows[0].payload === i;
	}
	is(same, 12, 'prepared statements: publish and read, twelve times');
}

async function transactions() {
	const log = await newLog();
	const other = new Client();
	await other.connect();
	const seen = async () => (await other.query('SELECT payload FROM netbus.read($1)', [log])).rows.map((r) => r.payload);

	await client.query('BEGIN');
	await client.query(PUBLISH, [log, 1]);
	is(await seen(), [], 'transaction: nothing before the commit');
	await client.query('COMMIT');
	is(await seen(), [1], 'transaction: all after it');
	await client.query('BEGIN');
	await client.query(PUBLISH, [log, 2]);
	await client.query('ROLLBACK');
	is(await seen(), [1], 'transaction: nothing after a rollback');

	const tail = 'SELECT payload FROM netbus.tail($1, $2, wait => $3)';
	is((await other.query(tail, [log, 1, '20 ms'])).rows, [], 'tail: no event within the wait');
	const waiting = other.query(tail, [log, 1, '30 s']);
	await waits(other);
	const at = Date.now();
	await client.query(PUBLISH, [log, { wake: 'up' }]);
	is((await waiting).rows, [{ payload: { wake: 'up' } }], 'tail: woken in another connection');
	report(Date.now() - at < 2000, 'tail: by the commit');

	const cancelled = other.query(tail, [log, 2, '30 s']).then(() => 'not', (error) => error.code);
	await waits(other);
	await client.query('SELECT pg_cancel_backend($1)', [other.processID]);
	is(await cancelled, '57014', 'tail: pg_cancel_backend()');
	is(await seen(), [1, { wake: 'up' }], 'tail: the connection works on');
	await other.end();
}

async function main() {
	client = checks.client = new Client();
	await client.connect();
	await publishOne();
	await publishBatch();
	await publishLines();
	await reading();
	await transactions();
	await client.end();
	console.log('done');
}

main().catch((error) => {
	console.log(error.stack);
	process.exit(1);
});
