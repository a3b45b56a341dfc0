import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { LockFile } from './lock-file.js';

const NONCE = '00000000-0000-4000-8000-000000000000';

describe('LockFile', () => {
  let root: string;
  let path: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'spotlight-lock-'));
    path = join(root, 'lock');
  });
  afterEach(() => {
    rmSync(root, { recursive: true });
  });

  function leftBehind(owner: object): void {
    writeFileSync(path, JSON.stringify({ nonce: NONCE, host: hostname(), started: '', ...owner }));
  }

  it('keeps a second owner out and names the first, until it is released', async () => {
    const lock = await LockFile.acquire(path);
    await assert.rejects(LockFile.acquire(path), {
      name: 'ServiceError',
      message: new RegExp(`in use by process ${process.pid} .*--data`),
    });
    lock.release();
    assert.deepEqual(readdirSync(root), []);
    (await LockFile.acquire(path)).release();
  });

  it('takes over from a process that has died', async () => {
    const child = spawn(process.execPath, ['-e', '']);
    await once(child, 'exit');
    leftBehind({ pid: child.pid });
    (await LockFile.acquire(path)).release();
    assert.deepEqual(readdirSync(root), []);
  });

  it('takes over when the pid came again for another process', async function () {
    if (!existsSync('/proc/self/stat')) {
      process.stderr.write('skipped: without /proc a pid that came again cannot be told\n');
      this.skip();
    }
    leftBehind({ pid: process.pid, started: '1' });
    (await LockFile.acquire(path)).release();
  });

  it('takes over a file of garbage and of nothing', async () => {
    for (const content of ['', '{"pid":', '{"pid":"x"}', `{"nonce":"../../x","pid":1}`]) {
      writeFileSync(path, content);
      (await LockFile.acquire(path)).release();
    }
    assert.deepEqual(readdirSync(root), []);
  });

  it('believes the heartbeat of another host', async () => {
    leftBehind({ pid: 1, host: 'elsewhere' });
    await assert.rejects(LockFile.acquire(path), /process 1 on elsewhere/);
    const old = new Date(Date.now() - 60_000);
    utimesSync(path, old, old);
    (await LockFile.acquire(path)).release();
  });

  it('goes on after a taker that died with the marker in hand', async () => {
    leftBehind({ pid: 0 });
    writeFileSync(
      `${path}.${NONCE}`,
      JSON.stringify({ nonce: NONCE, pid: 0, host: hostname(), started: '' }),
    );
    (await LockFile.acquire(path)).release();
    assert.deepEqual(readdirSync(root), []);
  });

  it('gives a dead owner to exactly one of many takers', async () => {
    for (let round = 0; round < 20; round++) {
      leftBehind({ pid: 0 });
      const results = await Promise.allSettled(Array.from({ length: 8 }, () => LockFile.acquire(path)));
      const winners = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
      assert.equal(winners.length, 1);
      winners[0]!.release();
    }
  });

  it('does not remove a lock that is no longer its own', async () => {
    const lock = await LockFile.acquire(path);
    leftBehind({ pid: 0 });
    lock.release();
    assert.match(readFileSync(path, 'utf8'), new RegExp(NONCE));
  });
});
