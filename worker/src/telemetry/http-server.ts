// The worker's HTTP door for machines that watch it: /metrics for Prometheus, /healthz for readiness, /livez for liveness.
// It opens before the model loads, so that a probe sees "starting" instead of a refused connection.
import type { RequestListener, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { WorkerState } from '@spotlight/proto';
import type { HttpsOptions } from '@spotlight/proto/transport';
import type { Registry } from 'prom-client';
import { BindError, joinAddress } from '../server/address.js';
import type { WorkerStatus } from './health.js';

export class WatchServer {
  private constructor(
    private readonly server: Server,
    /** host:port as bound. */
    readonly address: string,
  ) {}

  /** @throws BindError */
  static async listen(
    host: string,
    port: number,
    registry: Registry,
    status: WorkerStatus,
    https?: HttpsOptions,
  ): Promise<WatchServer> {
    const answer: RequestListener = (request, response) => {
      const path = (request.url ?? '/').split('?')[0];
      if (request.method !== 'GET' && request.method !== 'HEAD') {
        send(response, 405, 'text/plain', 'only GET is served here\n');
      } else if (path === '/metrics') {
        registry.metrics().then(
          (text) => {
            send(response, 200, registry.contentType, text);
          },
          (error: unknown) => {
            send(response, 500, 'text/plain', `${(error as Error).message}\n`);
          },
        );
      } else if (path === '/healthz') {
        sendHealth(response, status.judgement.state === WorkerState.READY, status);
      } else if (path === '/livez') {
        sendHealth(response, status.judgement.state !== WorkerState.DEAD, status);
      } else {
        send(response, 404, 'text/plain', 'served here: /metrics /healthz /livez\n');
      }
    };
    const server = https === undefined ? createServer(answer) : createSecureServer(https, answer);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        const inUse = `port ${port} on ${host} is in use: stop what listens there or give another --metrics-port (0 takes a free one)`;
        const message =
          error.code === 'EADDRINUSE'
            ? inUse
            : `cannot listen on ${joinAddress(host, port)}: ${error.message}`;
        reject(new BindError(message, { cause: error }));
      });
      server.listen(port, host, resolve);
    });
    return new WatchServer(server, joinAddress(host, (server.address() as AddressInfo).port));
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

function sendHealth(response: ServerResponse, healthy: boolean, status: WorkerStatus): void {
  const { state, reason } = status.judgement;
  const body = { state: WorkerState[state].toLowerCase(), reason, lastStepAgeMs: status.lastStepAgeMs };
  send(response, healthy ? 200 : 503, 'application/json', `${JSON.stringify(body)}\n`);
}

function send(response: ServerResponse, code: number, type: string, body: string): void {
  response.writeHead(code, { 'Content-Type': type, 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}
