// One case file for both stores, the folder and S3.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ErrorCode } from '@spotlight/proto';
import { loadConfig } from '../../config/config.js';
import { openBlobStore } from './blob-place.js';
import type { BlobStore } from './blob-store.js';
import { FolderStore } from './folder-store.js';
import type { S3Server } from './s3-server.fixture.js';
import { startS3 } from './s3-server.fixture.js';
import { S3Store } from './s3-store.js';

async function* pieces(bytes: Buffer, size: number, breaksAt = Infinity): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) {
    if (at >= breaksAt) throw new Error('the connection broke');
    yield await Promise.resolve(bytes.subarray(at, at + size));
  }
}

async function gather(body: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function sharedCases(open: () => BlobStore): void {
  let store: BlobStore;
  let round = 0;
  let id = '';
  beforeEach(() => {
    store = open();
    id = `upload-${++round}`;
  });
  const bytes = randomBytes(9_000_000);

  it('makes a blob of an upload, read whole or from any byte', async () => {
    assert.equal(await store.staged(id), 0);
    assert.equal(await store.append(id, 0, pieces(bytes, 100_000)), bytes.length);
    assert.equal(await store.staged(id), bytes.length);
    assert.equal(await store.size(`blob-${id}`), undefined);
    await store.commit(id, `blob-${id}`);
    assert.equal(await store.size(`blob-${id}`), bytes.length);
    assert.ok((await gather(store.read(`blob-${id}`, 0))).equals(bytes));
    for (const offset of [1, 5_000_000, bytes.length - 1]) {
      assert.ok(
        (await gather(store.read(`blob-${id}`, offset))).equals(bytes.subarray(offset)),
        String(offset),
      );
    }
    await store.discard(id);
    assert.equal(await store.staged(id), 0);
  });

  it('keeps what came before a break, and goes on from there', async () => {
    await assert.rejects(store.append(id, 0, pieces(bytes, 70_000, 700_000)), /the connection broke/);
    const held = await store.staged(id);
    assert.equal(held, 700_000);
    await store.append(id, held, pieces(bytes.subarray(held, 8_000_000), 1_000_000));
    await store.append(id, 8_000_000, pieces(bytes.subarray(8_000_000), 1_000_000));
    assert.ok((await gather(store.readStaged(id))).equals(bytes));
  });

  it('commits again after a crash between the commit and whoever waited for it', async () => {
    await store.append(id, 0, pieces(bytes.subarray(0, 1000), 100));
    await store.commit(id, `blob-${id}`);
    await store.commit(id, `blob-${id}`);
    assert.equal(await store.size(`blob-${id}`), 1000);
  });

  it('lists what lies there, and removes it more than once', async () => {
    await store.append(id, 0, pieces(bytes.subarray(0, 10), 10));
    await store.commit(id, `blob-${id}`);
    await store.append(`${id}-open`, 0, pieces(bytes.subarray(0, 10), 10));
    const begun = new Date(Date.now() - 60_000);
    const uploads = await store.uploads();
    assert.ok(uploads.some(({ name, changed }) => name === `${id}-open` && changed > begun));
    const blobs = await store.blobs();
    assert.ok(blobs.some(({ name, changed }) => name === `blob-${id}` && changed > begun));
    for (let again = 0; again < 2; again++) {
      await store.remove(`blob-${id}`);
      await store.discard(`${id}-open`);
    }
    assert.equal(await store.size(`blob-${id}`), undefined);
    assert.ok(!(await store.uploads()).some(({ name }) => name === `${id}-open`));
  });

  it('stops reading when nobody listens any more', async () => {
    await store.append(id, 0, pieces(bytes, 1_000_000));
    for await (const chunk of store.readStaged(id)) {
      assert.ok(chunk.length > 0);
      break;
    }
  });
}

describe('artifact bytes in a folder', () => {
  let root: string;
  before(() => {
    root = mkdtempSync(join(tmpdir(), 'spotlight-blobs-'));
  });
  after(() => {
    rmSync(root, { recursive: true });
  });
  sharedCases(() => new FolderStore(root));

  it('is empty before anything was written, and lies in the data folder unless told otherwise', async () => {
    const store = await openBlobStore(loadConfig({ data: join(root, 'data') }, {}));
    assert.equal(store.place, join(root, 'data', 'artifacts'));
    assert.deepEqual([await store.uploads(), await store.blobs()], [[], []]);
    const elsewhere = await openBlobStore(loadConfig({ artifactStore: '/srv/artifacts' }, {}));
    assert.equal(elsewhere.place, '/srv/artifacts');
  });

  it('is for its owner alone', async () => {
    const path = join(root, 'private');
    const store = new FolderStore(path);
    await store.append('u', 0, pieces(Buffer.from('x'), 1));
    for (const name of ['', 'uploads', 'uploads/u'])
      assert.equal(statSync(join(path, name)).mode & 0o077, 0, name);
  });

  it('names the folder when it cannot be used', async () => {
    const file = join(root, 'file');
    writeFileSync(file, '');
    const store = new FolderStore(file);
    await assert.rejects(store.append('u', 0, pieces(Buffer.from('x'), 1)), {
      code: ErrorCode.FAILED_PRECONDITION,
      message: /file has a file where a folder is needed/,
    });
  });
});

describe('artifact bytes in S3', function () {
  this.timeout(30_000);
  let server: S3Server;
  before(async () => {
    server = await startS3('artifacts');
  });
  after(() => server.close());
  sharedCases(() => new S3Store(server.client, 'artifacts', 'some/prefix'));

  it('is told by its address, with an endpoint of one that is not AWS', async () => {
    const config = loadConfig({ artifactStore: 's3://artifacts/p/', s3Endpoint: server.endpoint }, {});
    const store = await openBlobStore(config);
    assert.equal(store.place, 's3://artifacts/p');
  });

  it('passes over a piece that a slower connection left behind a hole', async () => {
    const store = new S3Store(server.client, 'artifacts', '');
    await store.append('u', 0, pieces(Buffer.from('abc'), 3));
    await store.append('u', 10, pieces(Buffer.from('zzz'), 3));
    assert.equal(await store.staged('u'), 3);
    await store.append('u', 3, pieces(Buffer.from('def'), 3));
    assert.equal((await gather(store.readStaged('u'))).toString(), 'abcdef');
    await store.discard('u');
    assert.deepEqual(await store.uploads(), []);
  });

  it('says what is wrong with the bucket, and what passes by itself', async () => {
    const missing = new S3Store(server.client, 'no-such-bucket', '');
    await assert.rejects(missing.uploads(), {
      code: ErrorCode.FAILED_PRECONDITION,
      message: /s3:\/\/no-such-bucket names a bucket that does not exist/,
    });
    const gone = await startS3('b');
    const client = gone.connect();
    await new S3Store(client, 'b', '').uploads();
    await gone.close();
    await assert.rejects(new S3Store(client, 'b', '').uploads(), { code: ErrorCode.UNAVAILABLE });
    client.destroy();
  });
});
