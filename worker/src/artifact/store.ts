// A5: artifacts on this worker's disk, by digest. A file under its digest's name is whole and has been hashed; a part is a
// beginning of it and is gone on with, after a cut connection as after a restart. Workers of one machine share the folder.
import { createWriteStream } from 'node:fs';
import { mkdir, readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { checkSpace, fileSize, putInPlace, sha256Of, withLock } from '../models/cache-folder.js';

const DIGEST = /^[0-9a-f]{64}$/;
/** Artifacts kept besides those in use: a rollback needs no transfer. */
const KEPT = 8;

export type StoreErrorCode =
  | 'NOT_FOUND' // no control plane has it
  | 'MISMATCH' // the bytes are not those of the digest
  | 'UNREACHABLE' // it could not be transferred now; what came is kept
  | 'INVALID'; // no digest

export class StoreError extends Error {
  override readonly name = 'StoreError';
  constructor(
    readonly code: StoreErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

export interface Piece {
  readonly chunk: Uint8Array;
  /** Of the whole file. */
  readonly totalBytes: number;
}

/** The bytes of an artifact from `offset` on. Throws StoreError. */
export type Source = (digest: string, offset: number) => AsyncIterable<Piece>;

export class ArtifactStore {
  readonly #own = new Map<string, string>();

  /** @param folder made when it is first needed */
  constructor(
    private readonly folder: string,
    private readonly source: Source,
    private readonly say: (line: string) => void,
  ) {}

  /** A file that lies elsewhere and stays there: what the worker came with. */
  know(digest: string, path: string): void {
    this.#own.set(digest, path);
  }

  /** [async] Path of the whole file; undefined when it would have to be fetched. */
  async find(digest: string): Promise<string | undefined> {
    if (!DIGEST.test(digest))
      throw new StoreError('INVALID', `"${digest}" is no digest: 64 lower-case hex digits`);
    const own = this.#own.get(digest);
    if (own !== undefined && (await fileSize(own)) !== undefined) return own;
    const path = this.#path(digest);
    if ((await fileSize(path)) === undefined) return undefined;
    const now = new Date();
    // Best effort: the age decides only what is thrown away first.
    await utimes(path, now, now).catch(() => undefined);
    return path;
  }

  /** [async] Path of the whole file, fetched when it is not here. @throws StoreError, ModelError NO_SPACE */
  async fetch(digest: string): Promise<string> {
    const found = await this.find(digest);
    if (found !== undefined) return found;
    await mkdir(this.folder, { recursive: true });
    const path = this.#path(digest);
    return withLock(
      `${path}.lock`,
      (pid) => {
        this.say(`process ${pid} is fetching artifact ${digest}, waiting for it`);
      },
      async () => {
        if ((await fileSize(path)) === undefined) await this.#transfer(digest, path);
        return path;
      },
    );
  }

  /** [async] The bytes turned out to be no artifact, or damaged on disk: they are fetched anew the next time. */
  async discard(digest: string): Promise<void> {
    if (DIGEST.test(digest)) await rm(this.#path(digest), { force: true });
  }

  /** [async] Throws away what was used longest ago, up to KEPT and those `inUse`. */
  async prune(inUse: ReadonlySet<string>): Promise<void> {
    const names = await readdir(this.folder).catch(() => []);
    const files: { readonly path: string; readonly used: number }[] = [];
    for (const name of names) {
      const digest = /^([0-9a-f]{64})\.safetensors$/.exec(name)?.[1];
      if (digest === undefined || inUse.has(digest)) continue;
      const path = join(this.folder, name);
      const used = await stat(path).then(
        ({ mtimeMs }) => mtimeMs,
        () => undefined,
      );
      if (used !== undefined) files.push({ path, used });
    }
    files.sort((a, b) => b.used - a.used);
    for (const { path } of files.slice(KEPT)) await rm(path, { force: true });
  }

  #path(digest: string): string {
    return join(this.folder, `${digest}.safetensors`);
  }

  async #transfer(digest: string, path: string): Promise<void> {
    const part = `${path}.part`;
    const have = (await fileSize(part)) ?? 0;
    const { done, total } = await this.#append(digest, part, have);
    if (done < total)
      throw new StoreError('UNREACHABLE', `the transfer ended after ${done} of ${total} bytes`);
    const actual = await sha256Of(part);
    if (done > total || actual !== digest) {
      await rm(part, { force: true });
      throw new StoreError(
        'MISMATCH',
        `the ${done} bytes fetched for artifact ${digest} have digest ${actual}: what the registry holds is damaged`,
      );
    }
    await putInPlace(part, path);
  }

  async #append(digest: string, part: string, have: number): Promise<{ done: number; total: number }> {
    let done = have;
    let total = -1;
    const file = createWriteStream(part, { flags: 'a' });
    // Its error comes by the promise; without a listener it would end the process.
    const closed = new Promise<void>((resolve, reject) => {
      file.once('close', resolve);
      file.once('error', reject);
    });
    closed.catch(() => undefined);
    try {
      for await (const { chunk, totalBytes } of this.source(digest, have)) {
        if (total === -1 && totalBytes > have) await checkSpace(this.folder, totalBytes - have);
        total = totalBytes;
        done += chunk.length;
        // Drained or broken: in either case there is nothing more to wait for.
        if (!file.write(chunk))
          await Promise.race([new Promise<void>((resolve) => file.once('drain', resolve)), closed]);
      }
    } finally {
      file.end();
      await closed;
    }
    if (total === -1) throw new StoreError('UNREACHABLE', 'the control plane sent nothing');
    return { done, total };
  }
}
