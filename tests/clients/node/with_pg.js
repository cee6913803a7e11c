// node-postgres against a server on the port given: what a program does with it, asserted.
'use strict';

const assert = require('assert');
const { pipeline } = require('stream/promises');
const { Readable, Writable } = require('stream');
const { Client, Pool } = require('pg');
const Cursor = require('pg-cursor');
const copy = require('pg-copy-streams');

const config = { host: '127.0.0.1', port: Number(process.argv[2]), user: 'ann', database: 'millstream' };

async function types(client) {
  await client.query(`CREATE TABLE n_types (id int PRIMARY KEY, a boolean, b smallint, d bigint, f double precision,
    g numeric(12,4), h text, j bytea, k date, m timestamptz, n interval)`);
  const moment = new Date('2024-02-29T12:34:56.789Z');
  const values = [1, true, -5, '9223372036854775807', 1.5, '12.3400', 'straße', Buffer.from([0, 255]), '1999-12-31', moment, '1 day 02:00:00'];
  await client.query('INSERT INTO n_types VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)', values);
  await client.query('INSERT INTO n_types (id) VALUES ($1)', [2]);
  for (const binary of [false, true]) {
    const { rows, fields } = await client.query({ text: 'SELECT * FROM n_types ORDER BY id', binary });
    assert.deepStrictEqual(fields.map((field) => field.dataTypeID), [23, 16, 21, 20, 701, 1700, 25, 17, 1082, 1184, 1186]);
    assert.strictEqual(rows.length, 2);
    assert.deepStrictEqual([rows[0].a, rows[0].b, rows[0].f, rows[0].h], [true, -5, 1.5, 'straße']);
    assert.deepStrictEqual(rows[0].j, Buffer.from([0, 255]));
    assert.deepStrictEqual(rows[1], { id: 2, a: null, b: null, d: null, f: null, g: null, h: null, j: null, k: null, m: null, n: null });
    if (!binary) {
      assert.deepStrictEqual([rows[0].d, rows[0].g, rows[0].n.days, rows[0].n.hours], ['9223372036854775807', '12.3400', 1, 2]);
      assert.strictEqual(rows[0].m.getTime(), moment.getTime());
    }
  }
}

async function prepared(client) {
  for (let n = 0; n < 3; n++) {
    const { rows } = await client.query({ name: 'by-id', text: 'SELECT h, $2::int + 1 AS more FROM n_types WHERE id = $1', values: [1, n] });
    assert.deepStrictEqual(rows, [{ h: 'straße', more: n + 1 }]);
  }
  const many = await client.query('SELECT 1 AS one; SELECT 2 AS two');
  assert.deepStrictEqual(many.map((result) => result.rows[0]), [{ one: 1 }, { two: 2 }]);
}

async function cursors(client) {
  await client.query('BEGIN');
  const cursor = client.query(new Cursor('SELECT id FROM n_types WHERE id > $1 ORDER BY id', [0]));
  assert.deepStrictEqual(await cursor.read(1), [{ id: 1 }]);
  assert.deepStrictEqual(await cursor.read(5), [{ id: 2 }]);
  assert.deepStrictEqual(await cursor.read(5), []);
  await cursor.close();
  await client.query('COMMIT');
}

async function copying(client) {
  const lines = Array.from({ length: 5000 }, (_, n) => `${n + 10},"name, ${n}"\n`);
  const into = client.query(copy.from('COPY n_types (id, h) FROM STDIN (FORMAT csv)'));
  await pipeline(Readable.from(lines), into);
  assert.strictEqual(into.rowCount, 5000);
  let text = '';
  const sink = new Writable({ write(chunk, _, done) { text += chunk; done(); } });
  await pipeline(client.query(copy.to('COPY (SELECT id, h FROM n_types WHERE id >= 10 ORDER BY id) TO STDOUT (FORMAT csv)')), sink);
  assert.strictEqual(text, lines.join(''));
  const broken = pipeline(Readable.from(['9000,a\nx,b\n']), client.query(copy.from('COPY n_types (id, h) FROM STDIN (FORMAT csv)')));
  await assert.rejects(broken, (error) => error.code === '22P02' && error.where === 'COPY n_types, line 2, column id: "x"');
  assert.deepStrictEqual((await client.query('SELECT count(*) FROM n_types WHERE id >= 9000')).rows, [{ count: '0' }]);
}

async function failures(client) {
  for (const [sql, code] of [
    ['INSERT INTO n_types (id) VALUES (1)', '23505'],
    ['SELECT * FROM nowhere', '42P01'],
    ['SELEKT', '42601'],
    ['SELECT 1 / 0', '22012'],
  ]) {
    await assert.rejects(client.query(sql), (error) => error.code === code, sql);
  }
  await client.query('BEGIN');
  await assert.rejects(client.query('SELECT 1 / 0'), { code: '22012' });
  await assert.rejects(client.query('SELECT 1'), { code: '25P02' });
  assert.strictEqual((await client.query('COMMIT')).command, 'ROLLBACK');
  const endless = 'SELECT count(*) FROM pg_attribute a, pg_attribute b, pg_attribute c, pg_attribute d';
  await client.query("SET statement_timeout = '200ms'");
  await assert.rejects(client.query(endless), { code: '57014' });
  await client.query('RESET statement_timeout');
}

async function pooled() {
  const pool = new Pool({ ...config, max: 3 });
  const found = await Promise.all(Array.from({ length: 20 }, (_, n) => pool.query('SELECT $1::int AS n', [n])));
  assert.deepStrictEqual(found.map((result) => result.rows[0].n), Array.from({ length: 20 }, (_, n) => n));
  await pool.end();
}

(async () => {
  const client = new Client(config);
  await client.connect();
  for (const check of [types, prepared, cursors, copying, failures, pooled]) {
    await check(client);
    console.log(check.name);
  }
  await client.end();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
