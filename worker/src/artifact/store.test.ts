import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { Piece } from './store.js';
import { ArtifactStore, StoreError } from './store.js';

const bytes = randomBytes(100_000);
const digest = createHash('sha256').update(bytes).digest('hex');

describe('ArtifactStore', () => {
  let folder: string;
  /** Offsets asked for. */
  let asked: number[];
  let serve: (digest: string, offset: number) => AsyncIterable<Piece>;
  let store: ArtifactStore;
  beforeEach(async () => {
    folder = join(await mkdtemp(join(tmpdir(), 'spotlight-store-')), 'artifacts');
    asked = [];
    serve = (_digest, offset) => pieces(bytes, offset);
    store = open();
  });
  afterEach(() => rm(join(folder, '..'), { recursive: true }));
  const open = (): ArtifactStore =>
    new ArtifactStore(
      folder,
      (wanted, offset) => {
        asked.push(offset);
        return serve(wanted, offset);
      },
      () => undefined,
    );
  const code =
    (expected: string) =>
    (error: unknown): boolean =>
      error instanceof StoreError && error.code === expected;

  async function* pieces(content: Buffer, offset: number, until = content.length): AsyncGenerator<Piece> {
    if (offset >= until) yield { chunk: new Uint8Array(), totalBytes: content.length };
    for (let at = offset; at < until; at += 30_000) {
      await setImmediate();
      yield { chunk: content.subarray(at, Math.min(at + 30_000, until)), totalBytes: content.length };
    }
  }

  it('fetches once, whole, and finds it again', async () => {
    assert.equal(await store.find(digest), undefined);
    const path = await store.fetch(digest);
    assert.deepEqual(await readFile(path), bytes);
    assert.equal(await open().fetch(digest), path);
    assert.equal(await store.find(digest), path);
    assert.deepEqual(asked, [0]);
    assert.deepEqual(await readdir(folder), [`${digest}.safetensors`]);
  });

  it('goes on where a transfer broke off, also after a restart', async () => {
    serve = async function* (_digest, offset) {
      yield* pieces(bytes, offset, 70_000);
      throw new StoreError('UNREACHABLE', 'cut');
    };
    await assert.rejects(store.fetch(digest), code('UNREACHABLE'));
    assert.equal(await store.find(digest), undefined, 'a part is not the file');
    serve = (_digest, offset) => pieces(bytes, offset, 95_000);
    await assert.rejects(open().fetch(digest), /ended after 95000 of 100000 bytes/);
    serve = (_digest, offset) => pieces(bytes, offset);
    assert.deepEqual(await readFile(await open().fetch(digest)), bytes);
    assert.deepEqual(asked, [0, 70_000, 95_000]);
  });

  it('takes a part that is whole already', async () => {
    await mkdir(folder);
    await writeFile(join(folder, `${digest}.safetensors.part`), bytes);
    assert.deepEqual(await readFile(await store.fetch(digest)), bytes);
    assert.deepEqual(asked, [100_000]);
  });

  it('throws away bytes of another digest, and fetches from the beginning the next time', async () => {
    const wrong = Buffer.from(bytes);
    wrong[5] = (wrong[5] ?? 0) ^ 1;
    serve = (_digest, offset) => pieces(wrong, offset);
    await assert.rejects(store.fetch(digest), code('MISMATCH'));
    assert.deepEqual(await readdir(folder), []);
    serve = (_digest, offset) => pieces(bytes, offset);
    await store.fetch(digest);
    assert.deepEqual(asked, [0, 0]);
  });

  it('transfers once for two who ask at the same time', async () => {
    const [one, two] = await Promise.all([store.fetch(digest), open().fetch(digest)]);
    assert.equal(one, two);
    assert.deepEqual(asked, [0]);
  });

  it('knows what the worker came with, and refuses what is no digest', async () => {
    const own = join(folder, '..', 'own.safetensors');
    await writeFile(own, 'x');
    store.know('a'.repeat(64), own);
    assert.equal(await store.fetch('a'.repeat(64)), own);
    await assert.rejects(store.find('../../etc/passwd'), code('INVALID'));
    assert.deepEqual(asked, []);
  });

  it('keeps what is in use and the eight used last', async () => {
    await mkdir(folder);
    const names = Array.from({ length: 12 }, (_, i) => i.toString(16).repeat(64).slice(0, 64));
    for (const [i, name] of names.entries()) {
      await writeFile(join(folder, `${name}.safetensors`), 'x');
      await utimes(join(folder, `${name}.safetensors`), 1000 + i, 1000 + i);
    }
    await store.prune(new Set([names[1] ?? '']));
    const left = (await readdir(folder)).map((name) => name[0]);
    assert.deepEqual(left.sort(), ['1', '4', '5', '6', '7', '8', '9', 'a', 'b'].sort());
    await store.discard(names[11] ?? '');
    assert.equal((await readdir(folder)).length, 8);
  });
});
