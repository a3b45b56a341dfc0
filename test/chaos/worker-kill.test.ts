// A worker killed with -9 under load: what ran on it goes on elsewhere and no client can tell, new requests go to the other worker,
// and the worker, started again, takes its share. Without another worker, streams end at once with an error that may be tried again.
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import type { Gateway } from '../e2e/gateway.js';
import { START_MS, startGateway } from '../e2e/gateway.js';
import { Child, eventually } from './child.js';
import type { Completion } from './completion.js';
import { completion } from './completion.js';

const WORKER = fileURLToPath(new URL('./joining-worker.main.js', import.meta.url));
const TOKENS = 300;

describe('a worker killed with -9', () => {
  let gateway: Gateway;
  const children = new Map<string, Child>();

  before(async function () {
    this.timeout(START_MS);
    gateway = await startGateway();
    await Promise.all(['a', 'b'].map(join));
    await eventually(() => ready().length === 2, 'both workers');
  });
  after(async () => {
    await Promise.all([...children.values()].map((child) => child.kill()));
    await gateway.close();
  });

  async function join(id: string): Promise<void> {
    children.set(id, await Child.start(WORKER, [id, gateway.grpc, '10']));
  }
  const ready = (): string[] =>
    gateway.controlPlane.fleet.snapshots().flatMap((one) => (one.state === 'ready' ? [one.workerId] : []));
  const inFlight = (id: string): number =>
    gateway.controlPlane.fleet.snapshots().find(({ workerId }) => workerId === id)?.inFlight ?? 0;

  it('is not noticed by a client: every stream goes on elsewhere as if nothing had happened', async () => {
    const run = (): Completion[] =>
      Array.from({ length: 32 }, (_, i) => completion(gateway.http, `request ${i}`, TOKENS, i));
    const undisturbed = await Promise.all(run().map((one) => one.ended));
    const running = run();
    await Promise.all(running.map((one) => one.begun));
    const [onA, onB] = [inFlight('a'), inFlight('b')];
    assert.equal(onA + onB, 32);
    assert.ok(onA > 4 && onB > 4, `both work: ${onA} and ${onB}`);

    await children.get('a')?.kill();
    const outcomes = await Promise.all(running.map((one) => one.ended));
    for (const [i, { error, tokens, text, ids }] of outcomes.entries()) {
      assert.deepEqual([error, tokens, ids.length], [undefined, TOKENS, 1]);
      assert.equal(text, undisturbed[i]?.text);
    }
    const metrics = await (await fetch(`${gateway.http}/metrics`)).text();
    const replays = /^spotlight:gateway_replays_total\{reason="worker_lost"\} (\d+)$/m.exec(metrics)?.[1];
    assert.equal(Number(replays), onA);
    await eventually(() => inFlight('b') === 0, 'b to be idle');
  }).timeout(60_000);

  it('costs an error that may be tried again where no other worker is left', async () => {
    assert.deepEqual(ready(), ['b']);
    const running = Array.from({ length: 8 }, (_, i) => completion(gateway.http, `alone ${i}`, TOKENS));
    await Promise.all(running.map((one) => one.begun));
    const killed = performance.now();
    await children.get('b')?.kill();
    for (const { error, endedAt } of await Promise.all(running.map((one) => one.ended))) {
      assert.equal(error?.code, 'worker_lost');
      assert.match(error.message, /try again/);
      assert.ok(endedAt - killed < 3_000, `told after ${Math.round(endedAt - killed)} ms`);
    }
    await join('b');
    await eventually(() => ready().length === 1, 'b to be back');
  }).timeout(30_000);

  it('sends new requests to the other worker', async () => {
    assert.deepEqual(ready(), ['b']);
    const outcomes = await Promise.all(
      Array.from({ length: 16 }, (_, i) => completion(gateway.http, `after ${i}`, 5).ended),
    );
    for (const { error, tokens } of outcomes) assert.deepEqual([error, tokens], [undefined, 5]);
  }).timeout(30_000);

  it('has it back under its old name as soon as it runs again', async () => {
    await join('a');
    await eventually(() => ready().length === 2, 'a to be back');
    const running = Array.from({ length: 32 }, (_, i) => completion(gateway.http, `again ${i}`, 50));
    await Promise.all(running.map((one) => one.begun));
    assert.ok(inFlight('a') > 4, `${inFlight('a')} of 32 on a`);
    for (const { error } of await Promise.all(running.map((one) => one.ended)))
      assert.equal(error, undefined);
  }).timeout(30_000);
});
