// Host time a decode step: how long the worker's JS thread is busy a step, its native step a stub, everything else real:
// scheduling, packing, stop rules, detokenising, metrics, protobuf, and the gRPC stream to a reader in this process.
// Back to back it is the code's own cost; with a sleep between steps, as a device makes it, waking up with cold caches
// comes on top, which is why a bare gRPC stream that writes one empty message a step is measured beside it.
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { BinaryReader } from '@bufbuild/protobuf/wire';
import { Client, credentials } from '@grpc/grpc-js';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import { SamplingParams, ServeRequest, WorkerService } from '@spotlight/proto';
import type { Submit } from '@spotlight/proto';
import { quantile } from './bench.js';
import type { Bench, BenchLine, BenchOptions } from './bench.js';
import type { Sample } from './scheduler-process.js';

const REQUESTS = [1, 16, 64, 256];
const APART_MS = 5;
const WINDOW_MS = 200;

async function* run({ args, log }: BenchOptions): AsyncIterable<BenchLine> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seconds: { type: 'string', default: '3' },
      requests: { type: 'string', multiple: true, default: REQUESTS.map(String) },
    },
  });
  const windows = Math.ceil((Number(values.seconds) * 1000) / WINDOW_MS);
  log('floor: a bare gRPC stream');
  const floor = (await measure('floor', 1, APART_MS, windows)).activeMs;
  for (const requests of values.requests.map(Number)) {
    log(`${requests} requests`);
    const line = { bench: 'scheduler', case: `${requests} requests` };
    const { activeMs, cpuMs, updates } = await measure('worker', requests, 0, windows);
    yield { ...line, metric: 'host time a step', value: activeMs, unit: 'ms' };
    yield { ...line, metric: 'host time a token', value: (activeMs * 1000) / requests, unit: 'us' };
    yield { ...line, metric: 'process CPU a step', value: cpuMs, unit: 'ms' };
    yield { ...line, metric: 'updates received a step', value: updates, unit: 'updates' };
    const apart = (await measure('worker', requests, APART_MS, windows)).activeMs;
    const metric = `host time a step, ${APART_MS} ms apart`;
    yield { ...line, metric, value: apart, unit: 'ms', baseline: floor, ratio: apart / floor };
  }
}

export const bench: Bench = {
  name: 'scheduler',
  summary: 'host time a decode step at 1, 16, 64 and 256 requests, the native step stubbed',
  flags: [
    '--seconds N    measured a case, default 3',
    '--requests N   a case, may be repeated; default 1, 16, 64 and 256',
  ],
  run,
};

/** Means a step within a window; the median window is reported, so that a neighbour's burst is not. */
interface Measured {
  readonly activeMs: number;
  readonly cpuMs: number;
  readonly updates: number;
}

async function measure(
  role: 'worker' | 'floor',
  requests: number,
  stepMs: number,
  windows: number,
): Promise<Measured> {
  const child = fork(fileURLToPath(new URL('./scheduler-process.js', import.meta.url)), [
    role,
    String(stepMs),
  ]);
  let reader: Reader | undefined;
  try {
    const [address] = (await once(child, 'message')) as [string];
    reader = new Reader(address);
    for (let i = 0; i < requests; i++) reader.stream.write(ServeRequest.fromPartial({ message: submit(i) }));
    if (role === 'worker') await reader.allRunning(requests);
    await setTimeout(1000); // Until the compiler has settled.
    const measured: Measured[] = [];
    while (measured.length < windows) {
      const before = await sample(child);
      const read = reader.updates;
      await setTimeout(WINDOW_MS);
      const after = await sample(child);
      const steps = after.steps - before.steps;
      measured.push({
        activeMs: (after.activeMs - before.activeMs) / steps,
        cpuMs: (after.cpuMs - before.cpuMs) / steps,
        updates: (reader.updates - read) / steps,
      });
    }
    const median = (of: (window: Measured) => number): number => quantile(measured.map(of), 0.5);
    return {
      activeMs: median(({ activeMs }) => activeMs),
      cpuMs: median(({ cpuMs }) => cpuMs),
      updates: median(({ updates }) => updates),
    };
  } finally {
    reader?.close();
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

/** Counts updates without decoding them: a slow reader would make the worker join several steps' updates in one message. */
class Reader {
  updates = 0;
  readonly stream: ClientDuplexStream<ServeRequest, number>;
  readonly #client: Client;
  #expected = Infinity;
  #all: () => void = () => undefined;

  constructor(address: string) {
    const { path, requestSerialize } = WorkerService.serve;
    this.#client = new Client(address, credentials.createInsecure());
    this.stream = this.#client.makeBidiStreamRequest(path, requestSerialize, countUpdates);
    this.stream.on('error', () => undefined); // The worker is killed at the end.
    this.stream.on('data', (updates: number) => {
      this.updates += updates;
      if (updates >= this.#expected) this.#all();
    });
  }

  /** Resolves with the first message that has news of every request. */
  async allRunning(requests: number): Promise<void> {
    this.#expected = requests;
    await new Promise<void>((resolve) => (this.#all = resolve));
  }

  close(): void {
    this.#client.close();
  }
}

/** Entries of ServeResponse.updates. */
function countUpdates(message: Buffer): number {
  const reader = new BinaryReader(message);
  let updates = 0;
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag();
    if (field === 2) updates++;
    reader.skip(wire);
  }
  return updates;
}

async function sample(child: ChildProcess): Promise<Sample> {
  child.send('sample');
  const [told] = (await once(child, 'message')) as [Sample];
  return told;
}
