// Whether the ports of a start can be bound, asked before anything slow begins: a port in use is told in milliseconds, not after
// a database has been made. What takes a port between the question and the bind is told by the bind.
import { createServer } from 'node:net';
import type { Door } from './errors/bind-error.js';
import { bindError } from './errors/bind-error.js';

export interface WantedPort {
  readonly door: Door;
  readonly host: string;
  /** 0 is always free. */
  readonly port: number;
}

/** [async] @throws ServiceError FAILED_PRECONDITION for the first that cannot be bound, naming port and flag */
export async function checkPorts(wanted: readonly WantedPort[]): Promise<void> {
  for (const { door, host, port } of wanted) {
    if (port === 0) continue;
    await bindOnce(host.replace(/^\[|\]$/g, ''), port).catch((error: unknown) => {
      throw bindError(door, host, port, error);
    });
  }
}

function bindOnce(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen({ host, port, exclusive: true }, () => {
      server.close(() => {
        resolve();
      });
    });
  });
}
