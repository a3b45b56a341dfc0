// Blobs in a folder: `uploads/ID` grows by fsynced writes, `blobs/NAME` appears by a rename. kill -9 leaves an upload that can be
// resumed or a whole blob, and nothing between. Replicas may share the folder if its file system renames atomically.
import { constants } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { dataDirError } from '../../storage/data-dir.js';
import type { BlobStore, StoredName } from './blob-store.js';

const READ_BYTES = 256 * 1024;

export class FolderStore implements BlobStore {
  readonly #uploads: string;
  readonly #blobs: string;

  /** @param place made when first written to */
  constructor(readonly place: string) {
    this.#uploads = join(place, 'uploads');
    this.#blobs = join(place, 'blobs');
  }

  staged(upload: string): Promise<number> {
    return this.#guard(async () => (await sizeOf(join(this.#uploads, upload))) ?? 0);
  }

  async append(upload: string, offset: number, body: AsyncIterable<Buffer>): Promise<number> {
    const file = await this.#guard(async () => {
      await mkdir(this.#uploads, { recursive: true, mode: 0o700 });
      return open(join(this.#uploads, upload), constants.O_WRONLY | constants.O_CREAT, 0o600);
    });
    let position = offset;
    try {
      for await (const chunk of body) {
        await this.#guard(() => writeAll(file, chunk, position));
        position += chunk.length;
      }
    } finally {
      // Also when the body breaks off: what came is kept, and kept means synced.
      await this.#guard(() => file.sync());
      await file.close();
    }
    return position;
  }

  readStaged(upload: string): AsyncIterable<Buffer> {
    return this.#read(join(this.#uploads, upload), 0);
  }

  commit(upload: string, name: string): Promise<void> {
    return this.#guard(async () => {
      await mkdir(this.#blobs, { recursive: true, mode: 0o700 });
      try {
        await rename(join(this.#uploads, upload), join(this.#blobs, name));
      } catch (error) {
        if (!isMissing(error) || (await sizeOf(join(this.#blobs, name))) === undefined) throw error;
      }
      await syncFolder(this.#blobs);
      await syncFolder(this.#uploads);
    });
  }

  discard(upload: string): Promise<void> {
    return this.#guard(() => rm(join(this.#uploads, upload), { force: true }));
  }

  size(name: string): Promise<number | undefined> {
    return this.#guard(() => sizeOf(join(this.#blobs, name)));
  }

  read(name: string, offset: number): AsyncIterable<Buffer> {
    return this.#read(join(this.#blobs, name), offset);
  }

  remove(name: string): Promise<void> {
    return this.#guard(() => rm(join(this.#blobs, name), { force: true }));
  }

  uploads(): Promise<StoredName[]> {
    return this.#guard(() => listed(this.#uploads));
  }

  blobs(): Promise<StoredName[]> {
    return this.#guard(() => listed(this.#blobs));
  }

  async *#read(path: string, offset: number): AsyncGenerator<Buffer> {
    const file = await this.#guard(() => open(path, 'r'));
    try {
      for (let position = offset; ;) {
        // A buffer of its own each time: the one before may still be on its way to a socket.
        const buffer = Buffer.allocUnsafe(READ_BYTES);
        const { bytesRead } = await this.#guard(() => file.read(buffer, 0, READ_BYTES, position));
        if (bytesRead === 0) return;
        position += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await file.close();
    }
  }

  /** Puts what the file system says in words that name the folder. */
  async #guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw dataDirError(this.place, error);
    }
  }
}

async function writeAll(file: FileHandle, chunk: Buffer, position: number): Promise<void> {
  for (let done = 0; done < chunk.length;) {
    const { bytesWritten } = await file.write(chunk, done, chunk.length - done, position + done);
    done += bytesWritten;
  }
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

async function listed(folder: string): Promise<StoredName[]> {
  const names = await readdir(folder).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
  const found: StoredName[] = [];
  for (const name of names) {
    // One that is gone by now was renamed or removed by its owner.
    const status = await stat(join(folder, name)).catch(() => undefined);
    if (status !== undefined) found.push({ name, changed: status.mtime });
  }
  return found;
}

/** A rename is durable when its folder is. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
