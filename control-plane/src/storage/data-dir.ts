// Makes the data folder usable or says why it cannot be: every reason here is the operator's to fix, so each is one sentence
// naming the folder. Probes by writing, since permission bits say nothing of read-only mounts and full disks.
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ErrorCode } from '@spotlight/proto';
import { ServiceError } from '../errors/service-error.js';

/** A fresh embedded database takes about 40 MiB, and its write-ahead log grows by segments of 16 MiB. */
const LEAST_FREE_BYTES = 128 * 2 ** 20;

/** @throws ServiceError FAILED_PRECONDITION when the folder cannot be made or written, or its disk is nearly full */
export function prepareDataDir(path: string): void {
  const probe = join(path, `.probe-${process.pid}`);
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    writeFileSync(probe, 'x', { flush: true });
    rmSync(probe);
  } catch (error) {
    throw dataDirError(path, error);
  }
  const { bavail, bsize } = statfsSync(path);
  if (bavail * bsize < LEAST_FREE_BYTES) {
    throw new ServiceError(
      ErrorCode.FAILED_PRECONDITION,
      `The disk of the data folder ${path} has ${Math.floor((bavail * bsize) / 2 ** 20)} MiB free and needs ` +
        `${LEAST_FREE_BYTES / 2 ** 20} MiB; free some, or choose another with --data.`,
      { field: 'data' },
    );
  }
}

const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'may not be written by this user',
  EPERM: 'may not be written by this user',
  EROFS: 'is on a read-only file system',
  ENOSPC: 'is on a full disk',
  EDQUOT: 'is over its disk quota',
  ENOTDIR: 'has a file where a folder is needed',
  EEXIST: 'has a file where a folder is needed',
};

/** Reads a file-system error about the data folder as one sentence with what to do. */
export function dataDirError(path: string, error: unknown): ServiceError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const reason =
    REASONS[code] ?? `cannot be used (${error instanceof Error ? error.message : String(error)})`;
  return new ServiceError(
    ErrorCode.FAILED_PRECONDITION,
    `The data folder ${path} ${reason}; fix that, or choose another with --data.`,
    { field: 'data', cause: error },
  );
}
