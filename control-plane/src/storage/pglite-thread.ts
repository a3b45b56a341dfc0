// Runs in a worker_thread: PGlite computes on the thread that calls it, and on the main one it would hold up every stream.
// Speaks the Postgres protocol on a Unix socket, so that the rest of the control plane knows one client, `pg`.
import { rmSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { PGlite } from '@electric-sql/pglite';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';

export interface PGliteThreadData {
  readonly folder: string;
  readonly socketPath: string;
}

export type PGliteThreadMessage =
  { readonly kind: 'open' } | { readonly kind: 'failed'; readonly error: Error };

/** A reconnecting client may arrive before the server has noticed that its old connection is gone. */
const CONNECTIONS = 2;

if (parentPort === null) throw new Error('pglite-thread runs as a worker_thread only');
const port = parentPort;
const { folder, socketPath } = workerData as PGliteThreadData;
const tell = (message: PGliteThreadMessage): void => {
  port.postMessage(message);
};

try {
  const db = await PGlite.create(folder);
  // Left behind by a killed process; the lock file says that it is nobody's.
  rmSync(socketPath, { force: true });
  const server = new PGLiteSocketServer({ db, path: socketPath, maxConnections: CONNECTIONS });
  await server.start();
  port.once('message', () => {
    void (async () => {
      await server.stop();
      await db.close();
      rmSync(socketPath, { force: true });
      port.close();
    })();
  });
  tell({ kind: 'open' });
} catch (error) {
  tell({ kind: 'failed', error: error instanceof Error ? error : new Error(String(error)) });
  port.close();
}
