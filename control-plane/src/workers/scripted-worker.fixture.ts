// The worker's side of the hop under a test's hand: a real gRPC server that records what it gets and sends what it is told.
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { Server, ServerCredentials, status } from '@grpc/grpc-js';
import type { RequestUpdate, ServeRequest, WorkerServer } from '@spotlight/proto';
import { DescribeResponse, Hello, ServeResponse, WorkerService } from '@spotlight/proto';
import { setTimeout as sleep } from 'node:timers/promises';

type Message = NonNullable<ServeRequest['message']>;

export class ScriptedWorker {
  readonly received: Message[] = [];
  readonly streams: ServerDuplexStream<ServeRequest, ServeResponse>[] = [];

  private constructor(
    private readonly server: Server,
    readonly port: number,
  ) {}

  static async start(port = 0): Promise<ScriptedWorker> {
    const server = new Server({ 'grpc.max_receive_message_length': -1 });
    const handlers: Pick<WorkerServer, 'serve' | 'describe' | 'encode'> = {
      serve: (call) => {
        worker.streams.push(call);
        call.on('data', ({ message }: ServeRequest) => {
          if (message) worker.received.push(message);
        });
        call.on('error', () => undefined);
        call.on('end', () => {
          call.end();
        });
      },
      describe: (_call, callback) => {
        callback(null, description('described'));
      },
      encode: (call, callback) => {
        if (call.request.prompt?.$case === 'text') {
          callback(null, {
            tokenIds: [...Buffer.from(call.request.prompt.value)],
            tokens: [],
          });
        } else {
          callback({ code: status.INVALID_ARGUMENT, details: 'prompt is missing' });
        }
      },
    };
    server.addService(WorkerService, handlers);
    const bound = await new Promise<number>((resolve, reject) => {
      server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, at) => {
        if (error) reject(error);
        else resolve(at);
      });
    });
    const worker = new ScriptedWorker(server, bound);
    return worker;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** One step's message on the newest stream. */
  send(...updates: Partial<RequestUpdate>[]): void {
    this.streams.at(-1)?.write(ServeResponse.fromPartial({ step: 1n, updates, load: { running: 3 } }));
  }

  /** The cases and request ids received so far, such as `submit r1`. */
  heard(): string[] {
    return this.received.map(({ $case, value }) => `${$case} ${value.requestId}`);
  }

  kill(): void {
    this.server.forceShutdown();
  }
}

function description(workerId: string): DescribeResponse {
  return DescribeResponse.fromPartial({
    workerId,
    version: '1',
    device: 'cpu',
    model: { id: 'm', fingerprint: 'f', backend: 'spotlight', maxModelLen: 8192, vocabSize: 100 },
    slots: [{ slot: 0, artifactDigest: 'd'.repeat(64), active: true }],
    blockSize: 64,
    totalBlocks: 100,
    maxRequests: 8,
    maxWaiting: 8,
  });
}

export function helloOf(workerId: string, serveAddress: string): Hello {
  return Hello.fromPartial({
    serveAddress,
    metricsAddress: '127.0.0.1:9',
    description: description(workerId),
  });
}

/** Polls for what happens in other turns of the loop; rejects after 5 s. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 5_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`waited 5 s for ${what}`);
    await sleep(2);
  }
}
