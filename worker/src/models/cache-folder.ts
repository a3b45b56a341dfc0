// The cache folder: who may write (one process a target, by a lock file), what is whole (renamed into place, so a name
// that exists is complete), and whether there is room.
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { link, mkdir, open, readFile, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ModelError } from './model-error.js';

const SPARE_BYTES = 32 * 2 ** 20;

export function defaultCacheFolder(): string {
  return join(homedir(), '.cache', 'spotlight');
}

/** Size of a file in bytes; undefined when there is none. */
export async function fileSize(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** @throws ModelError NO_SPACE naming both sizes, before anything is fetched */
export async function checkSpace(folder: string, bytes: number): Promise<void> {
  const disk = await statfs(folder);
  const free = disk.bavail * disk.bsize;
  if (free >= bytes + SPARE_BYTES) return;
  throw new ModelError(
    'NO_SPACE',
    `${megabytes(free)} free on the disk of ${folder}, ${megabytes(bytes + SPARE_BYTES)} are needed: make room, ` +
      'or choose another folder by --cache (SPOTLIGHT_CACHE)',
  );
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

/** [async] SHA-256 of a file, hex. */
export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 2 ** 20 }), hash);
  return hash.digest('hex');
}

/** Flushes a finished file to the disk and gives it its name: after a power cut it is whole or not there. */
export async function putInPlace(finished: string, path: string): Promise<void> {
  const file = await open(finished, 'r+');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(finished, path);
}

/**
 * Runs `work` while this process alone holds `path`. The lock of a process that is gone is taken over.
 * @param onWait told once, with the holder's process id, when another process works here
 */
export async function withLock<T>(
  path: string,
  onWait: (pid: number) => void,
  work: () => Promise<T>,
): Promise<T> {
  await mkdir(dirname(path), { recursive: true });
  // Written first and linked into place, so that a lock is never seen without its owner's number.
  const own = `${path}.${randomUUID()}`;
  await writeFile(own, String(process.pid));
  try {
    for (let told = false; !(await tryLink(own, path));) {
      const holder = await holderOf(path);
      if (holder !== undefined && !isAlive(holder)) {
        await rm(path, { force: true });
        continue;
      }
      if (!told && holder !== undefined) onWait(holder);
      told ||= holder !== undefined;
      await sleep(200);
    }
  } finally {
    await rm(own, { force: true });
  }
  try {
    return await work();
  } finally {
    await rm(path, { force: true });
  }
}

async function tryLink(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

async function holderOf(path: string): Promise<number | undefined> {
  try {
    return Number(await readFile(path, 'utf8'));
  } catch {
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
