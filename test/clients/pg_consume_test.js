// node-postgres: workers that consume, in one transaction with their own table.
//
// Run with an argument, LOG, it is a worker that receives and never commits: it
// says so and waits to be killed.
'use strict';

const { spawn } = require('child_process');
const { Client, Pool } = require('pg');
const checks = require('./checks.js');
const { report, is, one, column, fails, waits } = checks;

const RECEIVE = 'SELECT shard, seq, payload, deliveries FROM netbus.receive($1, $2, $3)';
const WAIT = RECEIVE.replace(')', ', wait => $4)');
const ACK = 'SELECT netbus.ack($1, $2)';
const NACK = 'SELECT netbus.nack($1, $2, $3, $4, $5)';
const EVENTS = 4000;
const BATCH = 50;

// A batch in the transaction that is open: how many events it had.
async function work(client, log, wait = '0') {
	const { rows } = await client.query(WAIT, [log, 'workers', BATCH, wait]);
	await client.query(
		'INSERT INTO node_done SELECT * FROM jsonb_to_recordset($1) AS r(shard int, seq bigint, payload int, deliveries int)',
		[JSON.stringify(rows)]
	);
	return rows.length;
}

async function neverCommit(log) {
	const client = new Client();
	await client.connect();
	await client.query('BEGIN');
	console.log(await work(client, log));
	process.stdin.resume();
}

async function newConsumer(log, events, options = '') {
	await one('SELECT netbus.create_log($1)', log);
	for (let i = 1; i <= events; i++) await one('SELECT netbus.publish($1, $2)', log, i);
	await one(`SELECT netbus.create_consumer($1, $2, 'earliest'${options})`, log, 'c');
	return [log, 'c'];
}

// In a transaction.
async function transaction(body) {
	await checks.client.query('BEGIN');
	await body();
	await checks.client.query('COMMIT');
}

async function rows(text, ...values) {
	return (await checks.client.query({ text, values, rowMode: 'array' })).rows;
}

async function workers() {
	const log = 'node_orders';
	await one('SELECT netbus.create_log($1, shards => 4)', log);
	await one("SELECT netbus.create_consumer($1, 'workers', 'earliest')", log);
	await checks.client.query('CREATE TABLE node_done (shard int, seq bigint, n int, deliveries int)');
	await one("SELECT count(netbus.publish($1, to_jsonb(i), key => 'key ' || i)) FROM generate_series(1, $2) i", log, EVENTS);

	// Two have a shard each, and their rows: one is killed, one loses its connection.
	const killed = spawn(process.execPath, [__filename, log], { stdio: ['pipe', 'pipe', 'inherit'] });
	const said = await new Promise((resolve) => killed.stdout.once('data', resolve));
	is(Number(said), BATCH, 'workers: one in another process has a batch');
	const lost = new Client();
	lost.on('error', () => {});
	await lost.connect();
	await lost.query('BEGIN');
	is(await work(lost, log), BATCH, 'workers: and one more');

	const pool = new Pool({ max: 3 });
	let stop = false;
	async function loop() {
		while (!stop) {
			const client = await pool.connect();
			try {
				await client.query('BEGIN');
				if ((await work(client, log, '100 ms')) > 0) await client.query(ACK, [log, 'workers']);
				await client.query('COMMIT');
			} finally {
				client.release();
			}
		}
	}
	const loops = Promise.allSettled([loop(), loop(), loop()]);
	const deadline = Date.now() + 60000;
	for (let count = 0; count < EVENTS && Date.now() < deadline; ) {
		count = Number(await one('SELECT count(*) FROM node_done'));
		if (count > 0 && !killed.killed) {
			killed.kill('SIGKILL');
			lost.connection.stream.destroy();
		}
		await new Promise((resolve) => setTimeout(resolve, 10));
	}
	stop = true;
	const failed = (await loops).filter((l) => l.status === 'rejected').map((l) => l.reason.message);
	await pool.end();

	is(failed, [], 'workers: no error');
	is(await rows('SELECT count(*), count(DISTINCT (shard, seq)), count(DISTINCT n) FROM node_done'),
		[[EVENTS, EVENTS, EVENTS].map(String)], 'workers: every event exactly once');
	is(await rows('SELECT deliveries, count(*) FROM node_done GROUP BY 1 ORDER BY 1'),
		[[1, String(EVENTS - 2 * BATCH)], [2, String(2 * BATCH)]], 'workers: what the lost ones had came a second time');
	is(await rows('SELECT sum(acknowledged)::int, sum(lag)::int, count(holder_pid)::int FROM netbus.stat_consumer WHERE log = $1', log),
		[[EVENTS, 0, 0]], 'workers: the statistics agree');
}

async function transactions() {
	const asked = await newConsumer('node_xact', 6);
	await fails(ACK, asked, '55000', 'BEGIN first', 'autocommit: ack() without receive()');
	await fails(NACK, [...asked, 0, 1, 'no'], '55000', 'BEGIN first', 'autocommit: nack() without receive()');
	is(await rows(RECEIVE, ...asked, 2), [[0, '1', 1, 1], [0, '2', 2, 1]], 'autocommit: receive(), a seq is a string');
	await fails(ACK, asked, '55000', 'BEGIN first', 'autocommit: ack() after it');

	await transaction(async () => {
		const [first, second] = await rows(RECEIVE, ...asked, 3);
		is([first[3], second[3]], [1, 1], 'autocommit: they come again, and that is no failure');
		is(await one('SELECT netbus.ack($1, $2, $3, $4)', ...asked, second[0], second[1]), '2', 'ack: up to a seq, a string');
	});
	await transaction(async () => {
		is((await rows(RECEIVE, ...asked, 1))[0][1], '3', 'ack: goes on behind it');
		is(await one('SELECT netbus.ack($1, $2, seq => $3)', ...asked, 3n), '1', 'ack: a BigInt');
	});
	await checks.client.query('BEGIN');
	await rows(RECEIVE, ...asked, 1);
	await one(ACK, ...asked);
	await checks.client.query('ROLLBACK');
	await transaction(async () => {
		is(await rows(RECEIVE, ...asked, 1), [[0, '4', 4, 2]], 'rollback: it comes again, and is counted');
		await one(ACK, ...asked);
	});
	await transaction(async () => {
		const text = 'SELECT seq, payload FROM netbus.receive_raw($1, $2)';
		const got = await rows(text, ...asked);
		report(got.length === 2 && got[0][0] === '5' && got[0][1].equals(Buffer.from('5')), 'receive_raw: Buffers', got);
		await one(ACK, ...asked);
	});
	let same = 0;
	for (let i = 0; i < 12; i++) {
		await one('SELECT netbus.publish($1, $2)', asked[0], i);
		await transaction(async () => {
			const got = await checks.client.query({ name: 'receive', text: RECEIVE, values: [...asked, 5] });
			const acked = await checks.client.query({ name: 'ack', text: ACK, values: asked });
			same += got.rows.length === 1 && got.rows[0].payload === i && acked.rows[0].ack === '1';
		});
	}
	is(same, 12, 'prepared statements: receive and ack, twelve times');
}

async function refusing() {
	await one("SELECT netbus.create_log('node_dead')");
	const asked = await newConsumer('node_nack', 4, ", max_deliveries => 2, dead_letter_log => 'node_dead'");
	await transaction(async () => {
		const got = await rows(RECEIVE, ...asked, 10);
		is(got.length, 4, 'nack: a batch of four');
		is(await one(NACK, ...asked, 0, got[0][1], 'no such customer'), true, 'nack: it comes again');
		is(await one('SELECT netbus.nack($1, $2, $3, $4, mode => $5)', ...asked, 0, got[1][1], 'release'), true, 'nack: released');
		is(await one('SELECT netbus.nack($1, $2, $3, $4, mode => $5)', ...asked, 0, got[2][1], 'poison'), false, 'nack: poison');
		is(await one(ACK, ...asked), '1', 'nack: the fourth is acknowledged');
	});
	await transaction(async () => {
		is(await rows(RECEIVE, ...asked, 10), [[0, '1', 1, 2], [0, '2', 2, 1]], 'nack: they come again, with the count');
		is(await one(NACK, ...asked, 0, '1', null), false, 'nack: too often, and null as reason');
		is(await one(ACK, ...asked), '1', 'nack: the other is acknowledged');
	});
	is((await column("SELECT seq FROM netbus.read('node_dead')")).length, 2, 'nack: two dead letters');
}

async function waiting() {
	const asked = await newConsumer('node_wait', 0);
	const other = new Client();
	await other.connect();
	const query = { text: WAIT, values: [...asked, 10, '30 s'], rowMode: 'array' };
	const woken = other.query(query);
	await waits(other);
	await one('SELECT netbus.publish($1, $2)', asked[0], { wake: 'up' });
	is((await woken).rows, [[0, '1', { wake: 'up' }, 1]], 'receive: woken in another connection');

	await one('SELECT netbus.seek($1, $2, $3)', ...asked, 'latest');
	const cancelled = other.query(query).then(() => 'not', (error) => error.code);
	await waits(other);
	await one('SELECT pg_cancel_backend($1)', other.processID);
	is(await cancelled, '57014', 'receive: pg_cancel_backend()');
	await other.end();
}

async function main() {
	checks.client = new Client();
	await checks.client.connect();
	await workers();
	await transactions();
	await refusing();
	await waiting();
	await checks.client.end();
	console.log('done');
}

(process.argv[2] ? neverCommit(process.argv[2]) : main()).catch((error) => {
	console.log(error.stack);
	process.exit(1);
});
