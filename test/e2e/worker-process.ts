// A real worker as a process, started as an operator starts it, and a plain client of its Worker service.
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import { credentials } from '@grpc/grpc-js';
import type { Delta, RequestUpdate, ServeResponse } from '@spotlight/proto';
import { EncodeRequest, ServeRequest, Submit, WorkerClient } from '@spotlight/proto';

export const ENTRY = fileURLToPath(new URL('../../../worker/dist/main.js', import.meta.url));

export interface Announced {
  readonly workerId: string;
  readonly grpc: string;
  readonly metrics: string;
  readonly model: string;
  readonly backend: string;
  readonly artifact: string;
}

/** Everything a request gave, joined over its updates. */
export interface Outcome {
  readonly updates: readonly RequestUpdate[];
  readonly deltas: readonly Delta[];
  readonly text: string;
  readonly tokenIds: readonly number[];
}

export interface Running {
  /** Its first update is here. */
  readonly begun: Promise<void>;
  readonly ended: Promise<Outcome>;
  cancel(): void;
}

export class WorkerProcess {
  private readonly waiting = new Map<
    string,
    { updates: RequestUpdate[]; begin: () => void; done: (updates: RequestUpdate[]) => void }
  >();
  private stream: ClientDuplexStream<ServeRequest, ServeResponse> | undefined;
  private requests = 0;
  readonly client: WorkerClient;
  /** Of the newest message of the stream. */
  step = 0n;

  private constructor(
    readonly child: ChildProcess,
    readonly announced: Announced,
  ) {
    this.client = new WorkerClient(announced.grpc, credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
    });
  }

  /** @throws with what the worker wrote to stderr when it ends before it is ready */
  static async start(
    flags: readonly string[] = [],
    environment: Readonly<Record<string, string>> = {},
  ): Promise<WorkerProcess> {
    const args = [ENTRY, '--grpc-port', '0', '--metrics-port', '0', '--announce', '--exit-with-parent'];
    const child = spawn(process.execPath, [...args, ...flags], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, SPOTLIGHT_LOG_LEVEL: 'warn', ...environment },
    });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (errors = (errors + text).slice(-10_000)));
    const line = await new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stdout }).once('line', resolve);
      child.once('exit', (code) => {
        reject(new Error(`the worker ended with status ${code}: ${errors}`));
      });
    });
    return new WorkerProcess(child, JSON.parse(line) as Announced);
  }

  /** Runs one request to its end. */
  run(submit: Omit<Partial<Submit>, 'requestId'>): Promise<Outcome> {
    return this.begin(submit).ended;
  }

  /** Starts one request; `cancel` may come at any moment. */
  begin(submit: Omit<Partial<Submit>, 'requestId'>): Running {
    const requestId = `r${++this.requests}`;
    let begin: () => void = () => undefined;
    const begun = new Promise<void>((resolve) => (begin = resolve));
    const ended = new Promise<RequestUpdate[]>((done) => {
      this.waiting.set(requestId, { updates: [], begin, done });
    });
    const stream = this.open();
    stream.write(
      ServeRequest.fromPartial({
        message: { $case: 'submit', value: Submit.fromPartial({ ...submit, requestId }) },
      }),
    );
    return {
      begun,
      ended: ended.then(outcomeOf),
      cancel: () => {
        stream.write(ServeRequest.fromPartial({ message: { $case: 'cancel', value: { requestId } } }));
      },
    };
  }

  encode(prompt: EncodeRequest['prompt']): Promise<number[]> {
    return new Promise((resolve, reject) => {
      this.client.encode(EncodeRequest.fromPartial({ prompt }), (error, reply) => {
        if (error) reject(error);
        else resolve(reply.tokenIds);
      });
    });
  }

  async get(path: string): Promise<{ readonly status: number; readonly body: string }> {
    const response = await fetch(`http://${this.announced.metrics}${path}`);
    return { status: response.status, body: await response.text() };
  }

  /** Its exit status, or the signal that ended it. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string | null> {
    const { exitCode, signalCode } = this.child;
    if (exitCode !== null || signalCode !== null) return exitCode ?? signalCode;
    const ended = new Promise<number | string | null>((resolve) => {
      this.child.once('exit', (code, by) => {
        resolve(code ?? by);
      });
    });
    this.child.kill(signal);
    const status = await ended;
    this.client.close();
    return status;
  }

  private open(): ClientDuplexStream<ServeRequest, ServeResponse> {
    if (this.stream !== undefined) return this.stream;
    const stream = this.client.serve();
    stream.on('data', ({ step, updates }: ServeResponse) => {
      if (step > 0n) this.step = step;
      for (const update of updates) {
        const request = this.waiting.get(update.requestId);
        request?.updates.push(update);
        request?.begin();
        if (!update.done || request === undefined) continue;
        this.waiting.delete(update.requestId);
        request.done(request.updates);
      }
    });
    stream.on('error', () => undefined);
    this.stream = stream;
    return stream;
  }
}

function outcomeOf(updates: readonly RequestUpdate[]): Outcome {
  const deltas = updates.flatMap((update) => update.deltas);
  const text = deltas.map((delta) => delta.text).join('');
  return { updates, deltas, text, tokenIds: deltas.flatMap((delta) => delta.tokenIds) };
}
