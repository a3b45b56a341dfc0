// Host time a decode step: how long the worker's JS thread is busy a step, its native step a stub that sleeps, everything
// else real: scheduling, packing, stop rules, detokenising, metrics, protobuf, and the gRPC stream to a reader in this
// process. The baseline is a bare gRPC stream that writes one empty message a step, measured in the same run: what waking,
// HTTP/2 and the kernel take on this machine before a single token is told.
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { credentials } from '@grpc/grpc-js';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import { SamplingParams, ServeRequest, WorkerClient } from '@spotlight/proto';
import type { ServeResponse, Submit } from '@spotlight/proto';
import { quantile } from './bench.js';
import type { Bench, BenchLine, BenchOptions } from './bench.js';
import type { Sample } from './scheduler-process.js';

const REQUESTS = [1, 16, 64, 256];
/** Every step is a turn of the event loop and a message of its own; a longer sleep measures other processes' use of the caches. */
const STEP_MS = 2;
const WINDOW = 100;

async function* run({ args, log }: BenchOptions): AsyncIterable<BenchLine> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      steps: { type: 'string', default: '1500' },
      requests: { type: 'string', multiple: true, default: REQUESTS.map(String) },
    },
  });
  const steps = Number(values.steps);
  log('floor: a bare gRPC stream');
  const floor = await measure('floor', 1, steps);
  for (const requests of values.requests.map(Number)) {
    log(`${requests} requests, ${steps} steps`);
    const { activeMs, cpuMs, perStep } = await measure('worker', requests, steps);
    const line = { bench: 'scheduler', case: `${requests} requests` };
    const ratio = activeMs / floor.activeMs;
    yield {
      ...line,
      metric: 'host time a step',
      value: activeMs,
      unit: 'ms',
      baseline: floor.activeMs,
      ratio,
    };
    yield { ...line, metric: 'host time a token', value: (activeMs * 1000) / requests, unit: 'us' };
    yield { ...line, metric: 'process CPU a step', value: cpuMs, unit: 'ms' };
    yield { ...line, metric: 'updates received a step', value: perStep, unit: 'updates' };
  }
}

export const bench: Bench = {
  name: 'scheduler',
  summary: 'host time a decode step at 1, 16, 64 and 256 requests, the native step stubbed',
  flags: [
    '--steps N      steps measured a case, default 1500',
    '--requests N   a case, may be repeated; default 1, 16, 64 and 256',
  ],
  run,
};

/** Means a step within a window; the median window is reported, so that a neighbour's burst is not. */
interface Measured {
  readonly activeMs: number;
  readonly cpuMs: number;
  readonly perStep: number;
}

async function measure(role: 'worker' | 'floor', requests: number, steps: number): Promise<Measured> {
  const child = fork(fileURLToPath(new URL('./scheduler-process.js', import.meta.url)), [
    role,
    String(STEP_MS),
  ]);
  let client: WorkerClient | undefined;
  try {
    const [address] = (await once(child, 'message')) as [string];
    client = new WorkerClient(address, credentials.createInsecure());
    const stream = client.serve();
    stream.on('error', () => undefined); // The worker is killed at the end.
    const reader = new Reader(stream);
    for (let i = 0; i < requests; i++) stream.write(ServeRequest.fromPartial({ message: submit(i) }));
    if (role === 'worker') await reader.allRunning(requests);
    await setTimeout(STEP_MS * 300); // Until the compiler has settled.
    const windows: Measured[] = [];
    for (let done = 0; done < steps; done += WINDOW) {
      const before = await sample(child);
      const read = reader.updates;
      await setTimeout(STEP_MS * WINDOW);
      const after = await sample(child);
      const taken = after.steps - before.steps;
      windows.push({
        activeMs: (after.activeMs - before.activeMs) / taken,
        cpuMs: (after.cpuMs - before.cpuMs) / taken,
        perStep: (reader.updates - read) / taken,
      });
    }
    const median = (of: (window: Measured) => number): number => quantile(windows.map(of), 0.5);
    return {
      activeMs: median(({ activeMs }) => activeMs),
      cpuMs: median(({ cpuMs }) => cpuMs),
      perStep: median(({ perStep }) => perStep),
    };
  } finally {
    client?.close();
    child.kill();
    await once(child, 'exit');
  }
}

function submit(i: number): { readonly $case: 'submit'; readonly value: Submit } {
  const prompt = Array.from({ length: 16 + (i % 48) }, (_, p) => 256 + ((i * 31 + p * 7) % 4000));
  return {
    $case: 'submit',
    value: {
      requestId: `bench-request-000000000000000${i}`.slice(-36),
      prompt: { $case: 'tokenIds', value: { ids: prompt } },
      sampling: SamplingParams.fromPartial({ seed: BigInt(i), ignoreEos: true, stop: ['\n\nUser:'] }),
      attention: undefined,
      resume: [],
      credits: 0,
      artifactDigest: '',
    },
  };
}

class Reader {
  updates = 0;
  readonly #seen = new Set<string>();
  #expected = Infinity;
  #all: () => void = () => undefined;

  constructor(stream: ClientDuplexStream<ServeRequest, ServeResponse>) {
    stream.on('data', (response: ServeResponse) => {
      if (this.#seen.size < this.#expected)
        for (const update of response.updates) this.#seen.add(update.requestId);
      if (this.#seen.size === this.#expected) this.#all();
      this.updates += response.updates.length;
    });
  }

  async allRunning(requests: number): Promise<void> {
    this.#expected = requests;
    if (this.#seen.size < requests) await new Promise<void>((resolve) => (this.#all = resolve));
  }
}

async function sample(child: ChildProcess): Promise<Sample> {
  child.send('sample');
  const [told] = (await once(child, 'message')) as [Sample];
  return told;
}
