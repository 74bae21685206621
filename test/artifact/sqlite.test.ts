import { spawn } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { SqliteDatabase, type SqliteRow } from '../../lib/artifact/sqlite/database.js';
import { hasTool, itNeeds, run } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';

/** Rows as `quote()` of the sqlite3 program prints them. */
const quoted = (rows: Iterable<SqliteRow>) =>
  [...rows].map((r) =>
    [r.id, ...r.values.slice(1)]
      .map((v) =>
        v === null
          ? 'NULL'
          : v instanceof Uint8Array
            ? `X'${Buffer.from(v).toString('hex').toUpperCase()}'`
            : typeof v === 'string'
              ? `'${v}'`
              : String(v),
      )
      .join('|'),
  );
const FILL = `create table t(id integer primary key, b blob, s text, n);
  with recursive c(i) as (select 1 union all select i+1 from c where i<400)
  insert into t select i*3, randomblob((i*i)%9000), 'häß '||i, case i%7 when 0 then null when 1 then i when 2 then -i*100000 when 3 then i*10000000000 when 4 then -9007199254740993-i when 5 then 0 else i*70000 end from c;
  delete from t where id%5=0; insert into t values(5000000000,x'00','',1);`;
const LIST = 'select id, quote(b), quote(s), quote(n) from t order by id;';

describe('SQLite files', () => {
  for (const pageSize of [512, 1024, 4096, 65536])
    for (const encoding of ['UTF-8', 'UTF-16le', 'UTF-16be'])
      itNeeds('sqlite3')(`${encoding}, pages of ${pageSize} bytes: all rows as sqlite3 prints them`, () => {
        const file = join(temporaryFolder(), 'a.db');
        run('sqlite3', [file], { input: `pragma page_size=${pageSize}; pragma encoding='${encoding}'; ${FILL}` });
        const want = run('sqlite3', [file, LIST]).trimEnd().split('\n');
        const problems: string[] = [];
        expect(quoted(new SqliteDatabase(readFileSync(file)).rows('t', problems))).toEqual(want);
        expect(problems).toEqual([]);
        expect(want.length).toBeGreaterThan(300);
      });

  const live = hasTool('sqlite3') ? it : itNeeds('sqlite3');
  live('a write-ahead log: committed frames count, open and damaged ones do not', async () => {
    const dir = temporaryFolder();
    const file = join(dir, 'w.db');
    run('sqlite3', [file], { input: `pragma page_size=1024; ${FILL}` });
    // Kept open, so that the log is not folded in; the copy is what a crashed guest's disk has.
    const child = spawn('sqlite3', [file], { stdio: ['pipe', 'pipe', 'inherit'] });
    const says = (sql: string) =>
      new Promise<string>((done) => {
        let all = '';
        const on = (d: Buffer) => {
          all += d.toString();
          if (!all.includes('#end\n')) return;
          child.stdout.off('data', on);
          done(all.replace('#end\n', ''));
        };
        child.stdout.on('data', on);
        child.stdin.write(`${sql}\nselect '#end';\n`);
      });
    await says(`pragma journal_mode=wal; pragma wal_autocheckpoint=0;`);
    await says(
      `update t set s='changed' where id%2=0; insert into t select 7000000000+id, zeroblob(20000), 'new', null from t limit 20;`,
    );
    const committed = (await says(LIST)).trimEnd().split('\n');
    // The cache spills an open transaction into the log.
    await says(`pragma cache_size=5; begin; update t set s='open', b=zeroblob(3000);`);
    copyFileSync(file, join(dir, 'c.db'));
    copyFileSync(`${file}-wal`, join(dir, 'c.db-wal'));
    child.stdin.end('rollback;\n');
    await new Promise((done) => child.on('close', done));
    const base = readFileSync(join(dir, 'c.db'));
    const wal = readFileSync(join(dir, 'c.db-wal'));
    const read = (log?: Uint8Array) => quoted(new SqliteDatabase(base, log).rows('t', []));
    expect(read(wal)).toEqual(committed);
    // A wrong salt makes the log another one's: only the file counts, which knows nothing of the changes.
    const stale = Uint8Array.from(wal);
    stale[16]! ^= 1;
    expect(read(stale)).toEqual(read());
    expect(read()).not.toEqual(committed);
    // A flipped bit in the third frame ends the log before it, as sqlite3 itself sees it.
    const broken = Uint8Array.from(wal);
    broken[32 + (24 + 1024) * 2 + 500]! ^= 1;
    expect(read(broken)).toEqual(read());
    expect(existsSync(join(dir, 'c.db-wal'))).toBe(true);
  });
});
