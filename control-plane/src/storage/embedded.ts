// The default database: PGlite in a worker_thread behind a Unix socket, one process at a time, pool of one.
// If the thread dies the next query finds a new one: acknowledged rows are on disk, and the lock is still ours.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { ErrorCode } from '@spotlight/proto';
import type { Log } from '../telemetry/log.js';
import { ServiceError } from '../errors/service-error.js';
import { dataDirError, prepareDataDir } from './data-dir.js';
import { LockFile } from './lock-file.js';
import type { PGliteThreadData, PGliteThreadMessage } from './pglite-thread.js';

/** The name `pg` looks for in a socket folder. */
const SOCKET_NAME = '.s.PGSQL.5432';
/** sun_path holds 108 bytes with its end mark on Linux, 104 elsewhere. */
const MAX_SOCKET_PATH = 103;
const REOPEN_MS = 1_000;
const CLOSE_MS = 10_000;

export type StartThread = (data: PGliteThreadData) => Worker;

const pgliteThread: StartThread = (workerData) =>
  new Worker(new URL('./pglite-thread.js', import.meta.url), { workerData });

export class EmbeddedDatabase {
  readonly socketDir: string;
  readonly #ownSocketDir: boolean;
  #thread: Worker | undefined;
  #closing = false;

  private constructor(
    private readonly dataDir: string,
    private readonly lock: LockFile,
    private readonly log: Log,
    private readonly startThread: StartThread,
  ) {
    this.#ownSocketDir = Buffer.byteLength(join(dataDir, SOCKET_NAME)) > MAX_SOCKET_PATH;
    this.socketDir = this.#ownSocketDir ? mkdtempSync(join(tmpdir(), 'spotlight-')) : dataDir;
  }

  /** Takes the data folder for this process, in milliseconds; `open` then takes the seconds. */
  static async claim(
    dataDir: string,
    log: Log,
    startThread: StartThread = pgliteThread,
  ): Promise<EmbeddedDatabase> {
    prepareDataDir(dataDir);
    try {
      const lock = await LockFile.acquire(join(dataDir, 'lock'));
      return new EmbeddedDatabase(dataDir, lock, log, startThread);
    } catch (error) {
      if (error instanceof Error && 'syscall' in error) throw dataDirError(dataDir, error);
      throw error;
    }
  }

  /** Resolves when the socket answers: about 2 s the first time, 0.5 s later. */
  async open(): Promise<void> {
    const thread = this.startThread({
      folder: join(this.dataDir, 'pglite'),
      socketPath: join(this.socketDir, SOCKET_NAME),
    });
    this.#thread = thread;
    await new Promise<void>((resolve, reject) => {
      thread.once('message', (message: PGliteThreadMessage) => {
        if (message.kind === 'open') resolve();
        else reject(openError(this.dataDir, message.error));
      });
      thread.once('error', (error) => {
        reject(openError(this.dataDir, error));
      });
      thread.once('exit', () => {
        reject(openError(this.dataDir, new Error('its thread ended')));
      });
    });
    thread.on('error', (error) => {
      this.log.error({ err: error }, 'the embedded database failed');
    });
    thread.once('exit', () => {
      this.#reopenLater();
    });
  }

  async close(): Promise<void> {
    this.#closing = true;
    const thread = this.#thread;
    if (thread !== undefined) {
      const ended = new Promise<void>((resolve) =>
        thread.once('exit', () => {
          resolve();
        }),
      );
      thread.postMessage('close');
      const timer = setTimeout(() => void thread.terminate(), CLOSE_MS);
      await ended;
      clearTimeout(timer);
    }
    if (this.#ownSocketDir) rmSync(this.socketDir, { recursive: true, force: true });
    this.lock.release();
  }

  #reopenLater(): void {
    if (this.#closing) return;
    this.log.warn({ folder: this.dataDir }, 'the embedded database stopped; opening it again');
    setTimeout(() => {
      if (this.#closing) return;
      this.open().catch((error: unknown) => {
        this.log.error({ err: error }, 'the embedded database did not open again');
        this.#reopenLater();
      });
    }, REOPEN_MS).unref();
  }
}

/** PGlite says little of why it could not open; a folder that was writable a moment ago is damaged, or its disk is full. */
function openError(dataDir: string, error: Error): ServiceError {
  return new ServiceError(
    ErrorCode.FAILED_PRECONDITION,
    `The database in ${join(dataDir, 'pglite')} did not open (${error.message}): it is damaged, of another version, or its ` +
      'disk is full. Restore a copy of it, or move it away to begin with an empty one.',
    { field: 'data', cause: error },
  );
}
