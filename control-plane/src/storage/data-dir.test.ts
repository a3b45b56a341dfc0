import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ErrorCode } from '@spotlight/proto';
import { ServiceError } from '../errors/service-error.js';
import { dataDirError, prepareDataDir } from './data-dir.js';

function refusal(path: string): ServiceError {
  try {
    prepareDataDir(path);
  } catch (error) {
    assert.ok(error instanceof ServiceError);
    assert.equal(error.code, ErrorCode.FAILED_PRECONDITION);
    assert.equal(error.field, 'data');
    return error;
  }
  assert.fail('the folder was accepted');
}

describe('prepareDataDir', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'spotlight-data-'));
  });
  afterEach(() => {
    chmodSync(root, 0o700);
    rmSync(root, { recursive: true });
  });

  it('makes the folder, private to its user, and leaves no probe behind', () => {
    const path = join(root, 'a', 'b');
    prepareDataDir(path);
    assert.equal(statSync(path).mode & 0o777, 0o700);
    assert.deepEqual(readdirSync(path), []);
  });

  it('names a file that stands where the folder should', () => {
    const file = join(root, 'file');
    writeFileSync(file, '');
    assert.match(refusal(file).message, /file has a file where a folder is needed; .*--data/);
    assert.match(refusal(join(file, 'below')).message, /has a file where a folder is needed/);
  });

  it('names a folder that may not be written', () => {
    // Root may write whatever permission bits forbid, so a run as root asks as nobody.
    chmodSync(root, 0o500);
    const module = new URL('./data-dir.js', import.meta.url).href;
    const script = `import { prepareDataDir } from ${JSON.stringify(module)};
      try { prepareDataDir(${JSON.stringify(join(root, 'new'))}) } catch (error) { process.stdout.write(error.message) }`;
    const said = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      ...(process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}),
    });
    assert.match(said, /new may not be written by this user; .*--data/);
  });

  it('puts disk trouble in words', () => {
    const full = Object.assign(new Error('write'), { code: 'ENOSPC' });
    assert.match(dataDirError('/d', full).message, /^The data folder \/d is on a full disk; /);
    const readOnly = Object.assign(new Error('open'), { code: 'EROFS' });
    assert.match(dataDirError('/d', readOnly).message, /read-only file system/);
    assert.match(dataDirError('/d', new Error('odd')).message, /cannot be used \(odd\)/);
  });
});
