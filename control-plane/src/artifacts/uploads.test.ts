// Uploads and admission on a real database, over both blob stores, with crashes between the steps that a kill -9 can fall into.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { ErrorCode } from '@spotlight/proto';
import { eq, inArray } from 'drizzle-orm';
import { pino } from 'pino';
import { artifacts, artifactUploads, auditLog } from '../storage/schema.js';
import type { Storage } from '../storage/storage.js';
import type { TemporaryStorage } from '../storage/temporary-storage.fixture.js';
import { temporaryStorage } from '../storage/temporary-storage.fixture.js';
import { Admission } from './admission.js';
import type { ArtifactFile } from './artifact-file.fixture.js';
import { artifactFile, DIMS, FINGERPRINT } from './artifact-file.fixture.js';
import { artifactRow } from './artifact-row.fixture.js';
import type { BlobStore } from './blobs/blob-store.js';
import { FolderStore } from './blobs/folder-store.js';
import type { S3Server } from './blobs/s3-server.fixture.js';
import { startS3 } from './blobs/s3-server.fixture.js';
import { S3Store } from './blobs/s3-store.js';
import { Sweep } from './sweep.js';
import { Uploads } from './uploads.js';

const registry = {
  models: () =>
    Promise.resolve([
      {
        ...{ id: 'm', fingerprint: FINGERPRINT, dims: DIMS, source: '' },
        ...{ firstSeen: new Date(), lastSeen: new Date() },
      },
    ]),
};

describe('uploads', function () {
  this.timeout(60_000);
  let database: TemporaryStorage;
  let root: string;
  let s3: S3Server;
  let seed = 100;

  before(async () => {
    database = await temporaryStorage();
    root = mkdtempSync(join(tmpdir(), 'spotlight-uploads-'));
    s3 = await startS3('uploads');
  });
  after(async () => {
    await database.remove();
    await s3.close();
    rmSync(root, { recursive: true });
  });

  function parts(
    blobs: BlobStore,
    storage: Pick<Storage, 'query' | 'transaction'> = database.storage,
  ): Uploads {
    const admission = new Admission(storage, blobs, registry);
    return new Uploads(storage, blobs, admission, { maxArtifact: 2 ** 30 });
  }
  const announce = (file: ArtifactFile): Parameters<Uploads['begin']>[0] => ({
    size: file.bytes.length,
    digest: file.digest,
    parent: undefined,
    source: 'upload',
  });
  const body = (bytes: Buffer): Readable => Readable.from([bytes]);
  const rowsOf = (digest: string): Promise<(typeof artifacts.$inferSelect)[]> =>
    database.storage.query((db) => db.select().from(artifacts).where(eq(artifacts.digest, digest)));

  function sharedCases(open: () => BlobStore): void {
    let blobs: BlobStore;
    let file: ArtifactFile;
    beforeEach(async () => {
      blobs = open();
      file = await artifactFile(seed++);
    });

    it('become an artifact with its bytes, and nothing is left of them', async () => {
      const uploads = parts(blobs);
      const { id } = await uploads.begin(announce(file));
      await uploads.append(id, 0, body(file.bytes.subarray(0, 5000)), 5000);
      await uploads.append(id, 5000, body(file.bytes.subarray(5000)), undefined);
      const { artifact, created } = await uploads.complete(id, 'k');
      assert.equal(created, true);
      assert.equal(await blobs.size(artifact.blob!), file.bytes.length);
      assert.equal(await blobs.staged(id), 0);
      await assert.rejects(uploads.get(id), { code: ErrorCode.NOT_FOUND });
    });

    it('are completed again after a crash before the row was written', async () => {
      const crashing: Pick<Storage, 'query' | 'transaction'> = {
        query: (work) => database.storage.query(work),
        transaction: () => Promise.reject(new Error('killed')),
      };
      const { id } = await parts(blobs).begin(announce(file));
      await parts(blobs).append(id, 0, body(file.bytes), undefined);
      await assert.rejects(parts(blobs, crashing).complete(id, 'k'), /killed/);
      assert.deepEqual(await rowsOf(file.digest), []);
      // The bytes have become a blob already; a new process knows nothing of that but what lies there.
      const { artifact } = await parts(blobs).complete(id, 'k');
      assert.equal(artifact.state, 'draft');
      assert.equal(await blobs.staged(id), 0);
    });

    it('of the same bytes that end together leave one artifact, one blob and one line', async () => {
      const before = (await blobs.blobs()).length;
      const uploads = parts(blobs);
      const receive = (): ReturnType<Uploads['receive']> =>
        uploads.receive({ ...announce(file), digest: undefined }, body(file.bytes), 'k');
      const both = await Promise.all([receive(), receive()]);
      assert.deepEqual(both.map(({ created }) => created).sort(), [false, true]);
      assert.equal((await blobs.blobs()).length, before + 1);
      const lines = await database.storage.query((db) =>
        db.select().from(auditLog).where(eq(auditLog.object, file.digest)),
      );
      assert.equal(lines.length, 1);
    });

    it('are completed once however many ask', async () => {
      const uploads = parts(blobs);
      const { id } = await uploads.begin(announce(file));
      await uploads.append(id, 0, body(file.bytes), undefined);
      const answers = await Promise.all([uploads.complete(id, 'k'), uploads.complete(id, 'k')]);
      assert.equal(answers[0].artifact.digest, answers[1].artifact.digest);
    });

    it('bring the bytes of what was known by name only', async () => {
      await database.storage.query((db) =>
        db
          .insert(artifacts)
          .values(artifactRow(file.digest, { state: 'active', blob: null, size: null, layers: null })),
      );
      const { artifact, created } = await parts(blobs).receive(announce(file), body(file.bytes), 'k');
      assert.equal(created, true);
      assert.deepEqual([artifact.state, artifact.size, artifact.layers], ['active', file.bytes.length, [0]]);
    });

    it('are dropped on request', async () => {
      const uploads = parts(blobs);
      const { id } = await uploads.begin(announce(file));
      await uploads.append(id, 0, body(file.bytes.subarray(0, 100)), 100);
      await uploads.cancel(id);
      assert.equal(await blobs.staged(id), 0);
      await assert.rejects(uploads.cancel(id), { code: ErrorCode.NOT_FOUND });
    });

    it('that nobody comes back for are swept, also those that a crash left as a blob', async () => {
      const uploads = parts(blobs);
      const sweep = new Sweep(database.storage, blobs, pino({ level: 'silent' }));
      const kept = await uploads.receive(announce(file), body(file.bytes), 'k');
      const { id } = await uploads.begin(announce(await artifactFile(seed++)));
      await uploads.append(id, 0, body(Buffer.alloc(100)), 100);
      const crashed = await uploads.begin(announce(await artifactFile(seed++)));
      await blobs.append(crashed.id, 0, body(Buffer.alloc(100)));
      await blobs.commit(crashed.id, `${crashed.digest!}-${crashed.id}`);
      await blobs.append('no-row', 0, body(Buffer.alloc(100)));
      await blobs.append('other', 0, body(Buffer.alloc(100)));
      await blobs.commit('other', 'of-another-installation');

      await sweep.sweep();
      assert.equal(await blobs.staged(id), 100);
      assert.equal(await blobs.size(`${crashed.digest!}-${crashed.id}`), 100);
      assert.equal(await blobs.staged('no-row'), 100);

      await database.storage.query((db) =>
        db
          .update(artifactUploads)
          .set({ touched: new Date(0) })
          .where(inArray(artifactUploads.id, [id, crashed.id])),
      );
      await sweep.sweep(Date.now() + 25 * 3_600_000);
      assert.equal(await blobs.staged(id), 0);
      await assert.rejects(uploads.get(id), { code: ErrorCode.NOT_FOUND });
      assert.equal(await blobs.size(`${crashed.digest!}-${crashed.id}`), undefined);
      assert.equal(await blobs.staged('no-row'), 0);
      assert.equal(await blobs.size('of-another-installation'), 100);
      await assert.rejects(uploads.complete(id, 'k'), { code: ErrorCode.NOT_FOUND });
      assert.equal(await blobs.size(kept.artifact.blob!), file.bytes.length);
    });
  }

  describe('in a folder', () => {
    sharedCases(() => new FolderStore(root));
  });
  describe('in S3', () => {
    sharedCases(() => new S3Store(s3.client, 'uploads', 'prefix'));
  });
});
