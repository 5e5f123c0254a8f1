// What the tests with node-postgres share; queries go through the client that is set here.
'use strict';

const checks = { client: null, report, is, one, column, fails, waits };
module.exports = checks;

function report(ok, name, detail) {
	console.log((ok ? 'ok' : 'not ok') + ' - ' + name);
	if (!ok) console.log(String(detail));
}

function is(got, expected, name) {
	const [a, b] = [got, expected].map((v) => JSON.stringify(v));
	report(a === b, name, `got ${a}, expected ${b}`);
}

async function one(text, ...values) {
	const result = await checks.client.query({ text, values, rowMode: 'array' });
	return result.rows[0][0];
}

async function column(text, ...values) {
	const result = await checks.client.query({ text, values, rowMode: 'array' });
	return result.rows.map((row) => row[0]);
}

// The call must fail with this SQLSTATE, and the words in message, detail or hint.
async function fails(text, values, sqlstate, words, name) {
	try {
		await checks.client.query(text, values);
		report(false, name, 'it did not fail');
	} catch (error) {
		const told = [error.message, error.detail, error.hint].join(' ');
		report(error.code === sqlstate && told.includes(words), name, `${error.code}: ${told}`);
	}
}

// Until the other connection waits for events.
async function waits(other) {
	for (let i = 0; i < 500; i++) {
		const type = await one('SELECT wait_event_type FROM pg_stat_activity WHERE pid = $1', other.processID);
		if (type === 'Extension') return;
		await new Promise((resolve) => setTimeout(resolve, 10));
	}
}
