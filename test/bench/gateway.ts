// gateway: what the control plane adds to a request and to each token of a stream, and the CPU it takes, at a fixed rate against
// a fake worker. Client, gateway and worker are three processes. The same load runs against the worker's process alone first:
// that baseline holds the client's own reading and the machine's noise, and `added` is what the gateway's percentile is above it.
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { quantile } from './bench.js';
import type { Bench, BenchLine, BenchOptions } from './bench.js';
import type { LoadResult } from './gateway-load.js';
import { drive } from './gateway-load.js';
import type { Command, Report } from './gateway-process.js';

const ENTRY = fileURLToPath(new URL('gateway-process.js', import.meta.url));

/** Percentiles of the whole table; p50 and p95 have the targets 1 ms and 5 ms. */
const QUANTILES = { p50: 0.5, p95: 0.95, p99: 0.99 } as const;

/** What is measured, by its name in the table; a request is its way up and its first token's way down. */
const MEASURES = { request: 'a request', up: 'a way up', token: 'a token' } as const;

class Child {
  readonly #process: ChildProcess;

  constructor(...args: string[]) {
    // The log is written as in service, but nowhere.
    this.#process = fork(ENTRY, args, { stdio: ['ignore', 'inherit', 'ignore', 'ipc'] });
  }

  send(command: Command): void {
    this.#process.send(command);
  }

  next<T extends Report['told']>(told: T): Promise<Extract<Report, { told: T }>> {
    return new Promise((resolve, reject) => {
      const onExit = (code: number | null): void => {
        reject(new Error(`${this.#process.spawnargs.join(' ')} ended with ${String(code)}`));
      };
      const onMessage = (report: Report): void => {
        if (report.told !== told) return;
        this.#process.off('message', onMessage);
        this.#process.off('exit', onExit);
        resolve(report as Extract<Report, { told: T }>);
      };
      this.#process.on('message', onMessage);
      this.#process.once('exit', onExit);
    });
  }

  async close(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = new Promise((resolve) => this.#process.once('exit', resolve));
    this.send({ ask: 'close' });
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), 15_000);
    await exited;
    clearTimeout(timer);
  }
}

async function* run({ args, log }: BenchOptions): AsyncGenerator<BenchLine> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rate: { type: 'string', default: '200' },
      seconds: { type: 'string', default: '20' },
      tokens: { type: 'string', default: '16' },
      'step-ms': { type: 'string', default: '10' },
      'prompt-chars': { type: 'string', default: '1200' },
    },
  });
  const rate = Number(values.rate);
  const tokens = Number(values.tokens);
  const dataDir = await mkdtemp(join(tmpdir(), 'spotlight-bench-'));
  const gateway = new Child('gateway', dataDir);
  const children = [gateway];
  try {
    const { http, grpc } = await gateway.next('listening');
    const joined = gateway.next('joined');
    const worker = new Child('worker', grpc, values['step-ms']);
    children.unshift(worker);
    const bare = await worker.next('bare');
    await joined;
    const load = { rate, tokens, promptChars: Number(values['prompt-chars']) };
    const measure = async (url: string, what: string): Promise<LoadResult> => {
      log(`${what}: warming up for 5 s, then ${rate} requests/s of ${tokens} tokens for ${values.seconds} s`);
      await drive({ ...load, url, seconds: 5 });
      return drive({ ...load, url, seconds: Number(values.seconds) });
    };
    const cpu = async (): Promise<number> => {
      const told = gateway.next('cpu');
      gateway.send({ ask: 'cpu' });
      return (await told).microseconds;
    };
    const direct = await measure(bare.http, 'without the gateway');
    const before = await cpu();
    const through = await measure(http, 'through the gateway');
    const spent = (await cpu()) - before;

    const line = { bench: 'gateway', case: `${rate} req/s, ${tokens} tokens at ${values['step-ms']} ms` };
    for (const [name, q] of Object.entries(QUANTILES)) {
      for (const [of, what] of Object.entries(MEASURES) as [keyof typeof MEASURES, string][]) {
        const value = quantile(through[of], q);
        const baseline = quantile(direct[of], q);
        yield { ...line, metric: `${what} ${name}`, value, unit: 'ms', baseline, ratio: value / baseline };
        yield { ...line, metric: `added ${what} ${name}`, value: value - baseline, unit: 'ms' };
      }
    }
    // The CPU of the warm-up counts in both.
    const served = (through.request.length * (Number(values.seconds) + 5)) / Number(values.seconds);
    yield { ...line, metric: 'CPU a request', value: spent / 1000 / served, unit: 'ms' };
    yield { ...line, metric: 'requests', value: through.request.length, unit: 'requests' };
    yield { ...line, metric: 'failures', value: through.failures + direct.failures, unit: 'requests' };
  } finally {
    for (const child of children) await child.close();
    await rm(dataDir, { recursive: true, force: true });
  }
}

export const bench: Bench = {
  name: 'gateway',
  summary: 'latency and CPU the control plane adds to a streamed request, against a fake worker',
  flags: ['--rate N (200)   --seconds N (20)   --tokens N (16)   --step-ms N (10)   --prompt-chars N (1200)'],
  run,
};
