// The worker's gRPC server: Worker, grpc.health.v1 and reflection on one port.
// Messages may be large (a prompt of a million ids) and streams long-lived, hence the limits and pings below.
import type { ServerCredentials } from '@grpc/grpc-js';
import { Server } from '@grpc/grpc-js';
import { WorkerService } from '@spotlight/proto';
import { addReflection } from '@spotlight/proto/reflection';
import { Transport } from '@spotlight/proto/transport';
import type { ServingStatusMap } from 'grpc-health-check';
import { HealthImplementation } from 'grpc-health-check';
import { BindError, joinAddress } from './address.js';
import type { ServeStream } from './serve-stream.js';
import type { ServiceParts } from './worker-service.js';
import { workerService } from './worker-service.js';

const SERVICE = 'spotlight.v1.Worker';
const MESSAGE_BYTES = 64 * 2 ** 20;

export class WorkerGrpcServer {
  private constructor(
    private readonly server: Server,
    private readonly health: HealthImplementation,
    private readonly streams: ReadonlySet<ServeStream>,
    /** host:port; the port that was bound when 0 was asked for. */
    readonly address: string,
  ) {}

  /** @throws BindError with one line that says what to do, such as for a port in use */
  static async listen(
    host: string,
    port: number,
    parts: ServiceParts,
    transport = Transport.plain,
  ): Promise<WorkerGrpcServer> {
    const server = new Server({
      'grpc.max_receive_message_length': MESSAGE_BYTES,
      'grpc.max_send_message_length': MESSAGE_BYTES,
      'grpc.keepalive_time_ms': 20_000,
      'grpc.keepalive_timeout_ms': 10_000,
    });
    const streams = new Set<ServeStream>();
    server.addService(WorkerService, workerService(parts, streams));
    const health = new HealthImplementation(statuses('NOT_SERVING'));
    health.addToServer(server);
    addReflection(server, [SERVICE]);
    const bound = await bind(server, host, port, transport.serverCredentials());
    return new WorkerGrpcServer(server, health, streams, joinAddress(host, bound));
  }

  setServing(serving: boolean): void {
    for (const [name, status] of Object.entries(statuses(serving ? 'SERVING' : 'NOT_SERVING'))) {
      this.health.setStatus(name, status);
    }
  }

  /** Ends every stream and takes no new one; what has not gone out after `graceMs` is cut. */
  async close(graceMs: number): Promise<void> {
    for (const stream of this.streams) stream.end();
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        this.server.forceShutdown();
        resolve();
      }, graceMs);
      this.server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

function statuses(value: 'SERVING' | 'NOT_SERVING'): ServingStatusMap {
  return { '': value, [SERVICE]: value };
}

async function bind(
  server: Server,
  host: string,
  port: number,
  credentials: ServerCredentials,
): Promise<number> {
  try {
    return await new Promise<number>((resolve, reject) => {
      server.bindAsync(joinAddress(host, port), credentials, (error, bound) => {
        if (error === null) resolve(bound);
        else reject(error);
      });
    });
  } catch (error) {
    const { message } = error as Error;
    const cause = message.includes('EADDRINUSE')
      ? `port ${port} on ${host} is in use: stop what listens there or give another --grpc-port (0 takes a free one)`
      : `cannot listen on ${joinAddress(host, port)}: ${message}`;
    throw new BindError(cause, { cause: error });
  }
}
