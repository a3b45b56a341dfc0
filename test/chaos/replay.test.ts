// Real workers on the default model, one of which dies (kill -9) or hangs (SIGSTOP) while it serves half of the streams: every stream
// completes, and its tokens, text, log-probabilities and usage are those of an undisturbed run with the same seed.
import assert from 'node:assert/strict';
import type { SamplingParams } from '@spotlight/proto';
import { GenerateRequest } from '@spotlight/proto';
import type { Gateway } from '../e2e/gateway.js';
import { START_MS, startGateway } from '../e2e/gateway.js';
import { WorkerProcess } from '../e2e/worker-process.js';
import { eventually } from './child.js';
import type { Generating, Got } from './generation.js';
import { assertSame, Client } from './generation.js';

/** Past the crossover, so that its generated tokens retrieve and are run again as they retrieved. */
const story = Array.from(
  { length: 10 },
  (_, i) =>
    `On day ${i + 1} the captain wrote that the wind came from the ${['north', 'east', 'south'][i % 3]}.`,
).join('\n');

const drawn = { temperature: 0.8, topP: 0.95 };
const ask = (value: string, sampling: Partial<SamplingParams>): GenerateRequest =>
  GenerateRequest.fromPartial({
    prompt: { $case: 'text', value },
    sampling: { ignoreEos: true, logprobs: 2, seed: 11n, ...sampling },
  });

const REQUESTS: readonly GenerateRequest[] = [
  ask(`${story}\nOn day 11 the captain`, { temperature: 0, maxTokens: 64 }),
  ask(`${story}\nOn day 12 the sailors`, { ...drawn, maxTokens: 64 }),
  ask('The capital of France is', { temperature: 0, maxTokens: 128 }),
  ask('Once upon a time', { ...drawn, maxTokens: 128, frequencyPenalty: 0.4 }),
  ask('A list of animals:', { ...drawn, maxTokens: 96, n: 2, echo: true }),
  ask('Dear Sir,', { ...drawn, maxTokens: 128, stop: ['~~~', '\n\n\n\n'] }),
];
/**
 * Rows of fewer than eight tokens are computed token by token, as they are when drawn; longer ones by another sum, whose rounding
 * quantised activations make visible. So short steps are what lets two runs be equal to the last bit, whatever runs beside.
 */
const EXACT = ['--step-tokens', '7'];
/** Retrieval from short contexts on, so that a quick test sees tokens run again as they retrieved. */
const SPARSE = ['--attention-crossover', '128', '--attention-min-tokens', '64', '--attention-recent', '32'];
const FLAGS = ['--kv-memory', '256MiB', '--threads', '1', '--log-level', 'silent', ...EXACT, ...SPARSE];

describe('streams on real workers', () => {
  let gateway: Gateway;
  let client: Client;
  let undisturbed: Got[];
  const workers = new Map<string, WorkerProcess>();

  before(async function () {
    this.timeout(START_MS + 60_000);
    gateway = await startGateway({ reportInterval: '200ms', leaseTimeout: '60s', hedgeAfter: '1500ms' });
    client = new Client(gateway.grpc);
    await Promise.all([join('a'), join('b')]);
    await bothReady();
    undisturbed = await Promise.all(start().map((one) => one.ended));
  });
  after(async () => {
    client.close();
    for (const worker of workers.values()) await worker.end('SIGKILL');
    await gateway.close();
  });

  async function join(id: string): Promise<void> {
    const flags = ['--join', gateway.grpc, '--worker-id', id, ...FLAGS];
    workers.set(id, await WorkerProcess.start(flags));
  }
  const snapshots = () => gateway.controlPlane.fleet.snapshots();
  const bothReady = (): Promise<void> =>
    eventually(
      () => snapshots().filter(({ state }) => state === 'ready').length === 2,
      'two workers',
      60_000,
    );
  const start = (): Generating[] => REQUESTS.map((request) => client.generate(request));

  /** Begins all requests and waits until each is well on its way; both workers then serve some. */
  async function underWay(): Promise<Generating[]> {
    await bothReady();
    const running = start();
    await Promise.all(running.map((one) => one.reached(12)));
    for (const { workerId, inFlight } of snapshots()) assert.ok(inFlight > 0, `${workerId} serves none`);
    return running;
  }

  async function sameAsUndisturbed(running: readonly Generating[]): Promise<void> {
    for (const [index, one] of running.entries()) {
      assertSame(await one.ended, undisturbed[index] ?? assert.fail());
    }
  }

  async function replays(reason: string): Promise<number> {
    const metrics = await (await fetch(`${gateway.http}/metrics`)).text();
    return Number(
      new RegExp(`^spotlight:gateway_replays_total\\{reason="${reason}"\\} (\\d+)$`, 'm').exec(
        metrics,
      )?.[1] ?? 0,
    );
  }

  it('survive kill -9 of the worker', async () => {
    const running = await underWay();
    const onA = snapshots().find(({ workerId }) => workerId === 'a')?.inFlight;
    await workers.get('a')?.end('SIGKILL');
    await sameAsUndisturbed(running);
    assert.equal(await replays('worker_lost'), onA);
    await join('a');
  }).timeout(120_000);

  it('survive a worker that hangs', async () => {
    const running = await underWay();
    const onB = snapshots().find(({ workerId }) => workerId === 'b')?.inFlight;
    const worker = workers.get('b');
    worker?.child.kill('SIGSTOP');
    try {
      await sameAsUndisturbed(running);
      assert.equal(await replays('hung'), onB);
    } finally {
      worker?.child.kill('SIGCONT');
    }
    await eventually(() => snapshots().every(({ inFlight }) => inFlight === 0), 'nothing to be left');
    await eventually(() => snapshots().every(({ load }) => load.running === 0), 'the cancels to be heard');
  }).timeout(120_000);
});
