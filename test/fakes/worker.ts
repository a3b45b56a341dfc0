// A worker without an engine: it joins control planes and serves as a real one does (one message a step with the deltas of
// all requests, credits, cancels, loads), but its tokens are scripted. Faults are methods; `kill` looks to others like kill -9.
import type { ClientDuplexStream, ServerDuplexStream } from '@grpc/grpc-js';
import { credentials, Server, ServerCredentials, status } from '@grpc/grpc-js';
import type {
  DescribeResponse,
  Error as WireError,
  JoinRequest,
  JoinResponse,
  Load,
  RequestUpdate,
  ServeRequest,
  ServeResponse,
  Submit,
  WorkerServer,
} from '@spotlight/proto';
import {
  DescribeResponse as Description,
  ErrorCode,
  FleetClient,
  Report,
  WorkerService,
  WorkerState,
} from '@spotlight/proto';
import { RunningRequest } from './running.js';
import type { Scripted } from './script.js';
import { fakeTokenCount, fakeTokens, promptText, words } from './script.js';

export interface FakeWorkerOptions {
  readonly workerId: string;
  /** gRPC addresses of control planes. */
  readonly join: readonly string[];
  readonly joinToken?: string;
  readonly model?: string;
  readonly maxModelLen?: number;
  /** Empty serves densely. */
  readonly artifactDigest?: string;
  /** Milliseconds between steps; 0 steps as fast as the event loop turns. */
  readonly stepMs?: number;
  readonly maxRequests?: number;
  readonly maxWaiting?: number;
  readonly script?: Scripted;
  /** What ReadArtifact hands out; without it the worker says that it has none. */
  readonly artifactBytes?: Buffer;
  /** What Validate measures of an artifact: its IoU and kept mass. */
  readonly quality?: (digest: string) => number;
}

type ServeCall = ServerDuplexStream<ServeRequest, ServeResponse>;

export const FAKE_MODEL = 'fake-135m';
export const FAKE_ARTIFACT = '5eed'.repeat(16);
/** Of every fake worker's model; its dims are in the description below. */
export const FAKE_FINGERPRINT = 'f1'.repeat(32);
const TOTAL_BLOCKS = 1024;
const BLOCK = 64;

export class FakeWorker {
  /** Every submit ever taken, in order. */
  readonly submits: Submit[] = [];
  /** Ids of requests cancelled by the control plane. */
  readonly cancelled: string[] = [];
  /** Digests of artifacts it was asked to measure. */
  readonly validated: string[] = [];
  readonly #server = new Server({ 'grpc.max_receive_message_length': -1 });
  readonly #streams = new Map<ServeCall, Map<string, RunningRequest>>();
  readonly #joins: { client: FleetClient; call: ClientDuplexStream<JoinRequest, JoinResponse> }[] = [];
  readonly #options: Required<Omit<FakeWorkerOptions, 'joinToken'>> & { readonly joinToken: string };
  #step = 0n;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #reporter: NodeJS.Timeout | undefined;
  #address = '';
  #state = WorkerState.READY;
  #refusal: WireError | undefined;
  #closed = false;

  private constructor(options: FakeWorkerOptions) {
    this.#options = {
      joinToken: '',
      model: FAKE_MODEL,
      maxModelLen: 8192,
      artifactDigest: FAKE_ARTIFACT,
      stepMs: 0,
      maxRequests: 256,
      maxWaiting: 256,
      script: words,
      artifactBytes: Buffer.alloc(0),
      quality: () => 0.5,
      ...options,
    };
  }

  /** Resolves when the worker serves and has said hello to every control plane. */
  static async start(options: FakeWorkerOptions): Promise<FakeWorker> {
    const worker = new FakeWorker(options);
    await worker.#listen();
    for (const address of options.join) worker.#join(address);
    return worker;
  }

  /** host:port of its Worker service. */
  get address(): string {
    return this.#address;
  }

  get running(): number {
    let count = 0;
    for (const requests of this.#streams.values()) count += requests.size;
    return count;
  }

  get paused(): number {
    return [...this.#streams.values()]
      .flatMap((requests) => [...requests.values()])
      .filter((one) => one.paused).length;
  }

  /** Every later submit is answered with this error; undefined takes requests again. */
  refuse(error: WireError | undefined): void {
    this.#refusal = error;
  }

  setState(state: WorkerState, message = ''): void {
    this.#state = state;
    for (const { call } of this.#joins) this.#report(call, message);
  }

  /** Ends one running request with an error, as a worker does whose engine failed on it. */
  fail(error: WireError): void {
    for (const [call, requests] of this.#streams) {
      for (const requestId of requests.keys()) this.#send(call, [ended(requestId, error)]);
      requests.clear();
    }
  }

  /** Streams break without a word and the port closes. */
  kill(): void {
    this.#stop();
    this.#server.forceShutdown();
    for (const { client, call } of this.#joins) {
      call.cancel();
      client.close();
    }
  }

  async close(): Promise<void> {
    this.kill();
    await new Promise((resolve) => setImmediate(resolve));
  }

  async #listen(): Promise<void> {
    const handlers: Pick<WorkerServer, 'serve' | 'describe' | 'encode' | 'validate' | 'readArtifact'> = {
      serve: (call) => {
        this.#serve(call);
      },
      describe: (_call, callback) => {
        callback(null, this.#description());
      },
      encode: (call, callback) => {
        const tokens = fakeTokens(promptText(call.request.prompt));
        callback(null, { tokenIds: tokens.map(({ id }) => id), tokens: tokens.map(({ bytes }) => bytes) });
      },
      validate: ({ request }, callback) => {
        this.validated.push(request.artifactDigest);
        const quality = this.#options.quality(request.artifactDigest);
        const layers = [{ layer: 0, iou: quality, keptMass: quality }];
        callback(null, { layers, iou: quality, keptMass: quality, tokens: 100, samples: 3 });
      },
      readArtifact: (call) => {
        const { artifactBytes, artifactDigest } = this.#options;
        if (artifactBytes.length === 0 || call.request.artifactDigest !== artifactDigest) {
          call.emit('error', { code: status.NOT_FOUND, details: 'this worker did not come with it' });
          return;
        }
        for (let at = 0; at < artifactBytes.length; at += 1000)
          call.write({ chunk: artifactBytes.subarray(at, at + 1000) });
        call.end();
      },
    };
    this.#server.addService(WorkerService, handlers);
    const port = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
        if (error === null) resolve(bound);
        else reject(error);
      });
    });
    this.#address = `127.0.0.1:${port}`;
    if (this.#options.stepMs > 0) {
      this.#timer = setInterval(() => {
        this.#runStep();
      }, this.#options.stepMs);
    }
  }

  #serve(call: ServeCall): void {
    const requests = new Map<string, RunningRequest>();
    this.#streams.set(call, requests);
    call.on('data', ({ message }: ServeRequest) => {
      switch (message?.$case) {
        case 'submit':
          this.#submit(call, requests, message.value);
          break;
        case 'cancel':
          if (requests.delete(message.value.requestId)) this.cancelled.push(message.value.requestId);
          break;
        case 'credit':
          requests.get(message.value.requestId)?.credit(message.value.credits);
          this.#wake();
          break;
        case undefined:
          break;
      }
    });
    const gone = (): void => {
      this.#streams.delete(call);
    };
    call.on('end', () => {
      call.end();
      gone();
    });
    call.on('cancelled', gone);
    call.on('error', gone);
  }

  #submit(call: ServeCall, requests: Map<string, RunningRequest>, submit: Submit): void {
    this.submits.push(submit);
    const refusal = this.#refusal ?? this.#tooLong(submit);
    if (refusal !== undefined) {
      this.#send(call, [ended(submit.requestId, refusal)]);
      return;
    }
    const { script, artifactDigest } = this.#options;
    requests.set(submit.requestId, new RunningRequest(submit, script(submit), artifactDigest));
    this.#wake();
  }

  #tooLong(submit: Submit): WireError | undefined {
    const tokens = fakeTokenCount(promptText(submit.prompt));
    const { maxModelLen } = this.#options;
    if (tokens < maxModelLen) return undefined;
    const message = `The prompt has ${tokens} tokens; this model takes at most ${maxModelLen - 1}.`;
    return { code: ErrorCode.PROMPT_TOO_LONG, message, field: 'prompt', retryable: false };
  }

  #wake(): void {
    if (this.#options.stepMs > 0 || this.#immediate !== undefined || this.#closed) return;
    this.#immediate = setImmediate(() => {
      this.#immediate = undefined;
      if (this.#runStep()) this.#wake();
    });
  }

  /** Whether anything moved: without a pace the next step follows at once. */
  #runStep(): boolean {
    this.#step += 1n;
    let moved = false;
    for (const [call, requests] of this.#streams) {
      const updates: RequestUpdate[] = [];
      for (const request of requests.values()) {
        const update = request.step();
        moved ||= !request.paused;
        if (update === undefined) continue;
        updates.push(update);
        if (update.done) requests.delete(request.requestId);
      }
      if (updates.length > 0) this.#send(call, updates);
    }
    return moved;
  }

  #send(call: ServeCall, updates: RequestUpdate[]): void {
    call.write({ step: this.#step, updates, load: this.#load() });
  }

  #load(): Load {
    const running = this.running;
    return {
      running,
      waiting: 0,
      freeBlocks: TOTAL_BLOCKS - running,
      totalBlocks: TOTAL_BLOCKS,
      waitingTokens: 0,
    };
  }

  #join(address: string): void {
    const client = new FleetClient(address, credentials.createInsecure());
    const call = client.join();
    this.#joins.push({ client, call });
    call.on('error', () => undefined); // The control plane went away; a test that needs a rejoin starts another fake.
    call.on('data', ({ directive }: JoinResponse) => {
      if (directive?.drain === true && this.#state === WorkerState.READY) this.#state = WorkerState.DRAINING;
      this.#reporter ??= setInterval(() => {
        for (const join of this.#joins) this.#report(join.call, '');
      }, directive?.reportIntervalMs ?? 1000);
    });
    call.write({
      message: {
        $case: 'hello',
        value: {
          serveAddress: this.#address,
          metricsAddress: this.#address,
          description: this.#description(),
          joinToken: this.#options.joinToken,
        },
      },
    });
    this.#report(call, '');
  }

  #report(call: ClientDuplexStream<JoinRequest, JoinResponse>, message: string): void {
    const { slots } = this.#description();
    const value = Report.fromPartial({ state: this.#state, load: this.#load(), slots, message });
    call.write({ message: { $case: 'report', value } });
  }

  #description(): DescribeResponse {
    const { workerId, model, maxModelLen, artifactDigest, maxRequests, maxWaiting } = this.#options;
    const dense = artifactDigest === '';
    return Description.fromPartial({
      workerId,
      version: '0.1.0',
      model: {
        id: model,
        fingerprint: FAKE_FINGERPRINT,
        architecture: 'llama',
        layers: 30,
        queryHeads: 9,
        kvHeads: 3,
        headDim: 64,
        vocabSize: 49_152,
        maxModelLen,
        source: 'scripted',
        backend: dense ? 'dense' : 'spotlight',
        settingsDigest: 'd1'.repeat(32),
        settings: JSON.stringify({ backend: dense ? 'dense' : 'spotlight' }),
      },
      device: 'cpu',
      deviceName: 'fake',
      slots: dense
        ? []
        : [
            {
              slot: 0,
              artifactDigest,
              active: true,
              epoch: 1n,
              encoder: 'linear-asym',
              bits: 128,
              rehashed: 1,
            },
          ],
      blockSize: BLOCK,
      totalBlocks: TOTAL_BLOCKS,
      maxRequests,
      maxWaiting,
    });
  }

  #stop(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    clearInterval(this.#reporter);
    clearImmediate(this.#immediate);
  }
}

function ended(requestId: string, error: WireError): RequestUpdate {
  return { requestId, deltas: [], usage: undefined, error, done: true, artifactDigest: '' };
}
