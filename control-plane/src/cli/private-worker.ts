// A worker for one request: started as a process, waited for by letting it join a Fleet door that only it knows, then used over
// the same Serve stream as the control plane uses. No Nest, no database: the way is R4 to R9 without the doors before it.
import { randomUUID } from 'node:crypto';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { GenerateRequest, Hello, JoinRequest, JoinResponse, RequestUpdate } from '@spotlight/proto';
import { FleetService, GenerateResponse, SamplingParams, Submit, WorkerState } from '@spotlight/proto';
import { ServiceError } from '../errors/service-error.js';
import { withSeed } from '../inference/seed.js';
import { WorkerChannel } from '../workers/worker-channel.js';
import { CliError } from './cli-error.js';
import type { TextSource } from './generate.js';
import { ownedWorkerFlags, workerEntry } from './worker-options.js';
import { WorkerSupervisor } from './worker-supervisor.js';

const CONNECT_MS = 10_000;

/** A Fleet door on loopback that resolves `ready` with the Hello of the first worker that reports READY. */
async function openDoor(): Promise<{ address: string; ready: Promise<Hello>; close: () => void }> {
  const server = new Server();
  const ready = new Promise<Hello>((resolve) => {
    server.addService(FleetService, {
      join: (call: ServerDuplexStream<JoinRequest, JoinResponse>) => {
        let hello: Hello | undefined;
        call.on('data', ({ message }: JoinRequest) => {
          if (message?.$case === 'hello') hello = message.value;
          else if (message?.value.state === WorkerState.READY && hello !== undefined) resolve(hello);
        });
      },
    });
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
      if (error) reject(error);
      else resolve(bound);
    });
  });
  return {
    address: `127.0.0.1:${port}`,
    ready,
    close: () => {
      server.forceShutdown();
    },
  };
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const stop = (): void => {
      reject(new CliError('interrupted'));
    };
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
  });
}

/**
 * @param flags the worker's own flags
 * @throws CliError when the worker ends before it is ready; its own message has gone to stderr
 */
export async function startPrivateWorker(flags: readonly string[], signal: AbortSignal): Promise<TextSource> {
  const entry = workerEntry();
  const door = await openDoor();
  let fail: (error: Error) => void = () => undefined;
  const failed = new Promise<never>((_resolve, reject) => {
    fail = reject;
  });
  // Rejects after the race below as well, when nobody listens any more: the request then ends as WORKER_LOST.
  failed.catch(() => undefined);
  const supervisor = new WorkerSupervisor({
    mayRestart: () => false,
    events: {
      started: () => undefined,
      exited: (_name, how) => {
        fail(new CliError(`The worker ended with ${how} before it was ready; its message is above.`));
      },
    },
  });
  supervisor.start({
    name: 'private worker',
    args: [entry, ...ownedWorkerFlags(door.address, 0, 'private'), ...flags],
    // The request's text is what the user waits for; a worker that does its work has nothing to say.
    // It is reached on loopback by this process alone, in the clear, whatever a fleet's variables say.
    env: {
      SPOTLIGHT_LOG_LEVEL: process.env['SPOTLIGHT_LOG_LEVEL'] ?? 'error',
      ...{ SPOTLIGHT_TLS_CERT: '', SPOTLIGHT_TLS_KEY: '', SPOTLIGHT_TLS_CA: '', SPOTLIGHT_TLS_NAME: '' },
    },
  });
  const stop = async (): Promise<void> => {
    await supervisor.stop();
    door.close();
  };
  try {
    const hello = await Promise.race([door.ready, failed, aborted(signal)]);
    const channel = new WorkerChannel(hello.serveAddress);
    await channel.whenConnected(CONNECT_MS);
    return new PrivateWorker(channel, hello.description?.model?.id ?? '', stop);
  } catch (error) {
    await stop();
    throw error;
  }
}

class PrivateWorker implements TextSource {
  constructor(
    private readonly channel: WorkerChannel,
    private readonly model: string,
    private readonly stop: () => Promise<void>,
  ) {}

  generate(
    request: GenerateRequest,
    onChunk: (chunk: GenerateResponse) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const requestId = randomUUID();
    const sampling = withSeed(request.sampling ?? SamplingParams.fromPartial({}));
    const submit = Submit.fromPartial({
      requestId,
      prompt: request.prompt,
      sampling,
      attention: request.attention,
      timeoutMs: request.timeoutMs,
    });
    let artifactDigest = '';
    const toChunk = (update: RequestUpdate): GenerateResponse => {
      artifactDigest = update.artifactDigest || artifactDigest;
      const { deltas, usage } = update;
      return GenerateResponse.fromPartial({
        requestId,
        model: this.model,
        deltas,
        usage,
        artifactDigest,
        seed: sampling.seed,
      });
    };
    return new Promise((resolve, reject) => {
      const call = this.channel.submit(submit, {
        onUpdate: (update) => {
          if (update.error !== undefined) reject(ServiceError.fromWire(update.error));
          else onChunk(toChunk(update));
          if (update.done) resolve();
        },
        onLost: reject,
      });
      const cancel = (): void => {
        call.cancel();
        resolve();
      };
      signal.addEventListener('abort', cancel, { once: true });
      if (signal.aborted) cancel();
    });
  }

  async close(): Promise<void> {
    this.channel.close('this command ends');
    await this.stop();
  }
}
