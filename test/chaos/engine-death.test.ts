// A device that faults under load, in a whole worker process under the supervisor of `spotlight serve`: the worker says that it is
// dead and why, its requests end with an error that may be tried again, it ends by itself, and the next one serves.
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { WorkerSupervisor } from '@spotlight/control-plane/cli/worker-supervisor.js';
import type { Gateway } from '../e2e/gateway.js';
import { START_MS, startGateway } from '../e2e/gateway.js';
import { FAKE_MODEL } from '../fakes/worker.js';
import { eventually } from './child.js';
import { completion } from './completion.js';

const WORKER = fileURLToPath(new URL('./faulty-worker.main.js', import.meta.url));
const FAULT_STEP = 100;

describe('a worker whose device faults', () => {
  let gateway: Gateway;
  let supervisor: WorkerSupervisor;
  const exits: { how: string; waitMs: number | undefined; at: number }[] = [];
  const pids: number[] = [];
  const states: string[] = [];

  before(async function () {
    this.timeout(START_MS);
    gateway = await startGateway();
    gateway.controlPlane.fleet.onChange(() => {
      for (const { workerId, state } of gateway.controlPlane.fleet.snapshots())
        states.push(`${workerId} ${state}`);
    });
    supervisor = new WorkerSupervisor({
      mayRestart: () => true,
      events: {
        started: (_name, pid) => pids.push(pid),
        exited: (_name, how, waitMs) => exits.push({ how, waitMs, at: performance.now() }),
      },
    });
    supervisor.start({
      name: 'worker 0',
      args: [
        WORKER,
        ...['--join', gateway.grpc, '--grpc-port', '0', '--metrics-port', '0', '--worker-id', 'faulty'],
        ...['--model', 'dummy:fake', '--served-model-name', FAKE_MODEL, '--artifact', 'none'],
        ...['--exit-with-parent', '--log-level', 'silent'],
      ],
      env: { FAULT_STEP: String(FAULT_STEP) },
    });
    await eventually(ready, 'the worker');
  });
  after(async () => {
    await supervisor.stop();
    await gateway.close();
  });

  const ready = (): boolean => gateway.controlPlane.fleet.snapshots().some(({ state }) => state === 'ready');

  it('tells its requests, says that it is dead, and ends with status 1', async () => {
    const running = Array.from({ length: 8 }, (_, i) => completion(gateway.http, `request ${i}`, 1000));
    await Promise.all(running.map((one) => one.begun));
    const outcomes = await Promise.all(running.map((one) => one.ended));
    for (const { error } of outcomes) {
      assert.equal(error?.code, 'worker_lost');
      assert.match(error.message, new RegExp(`device fault in step ${FAULT_STEP}`));
    }
    await eventually(() => exits.length === 1, 'the worker to end');
    const told = Math.max(...outcomes.map(({ endedAt }) => endedAt));
    const [exit] = exits;
    assert.deepEqual([exit?.how, exit?.waitMs], ['status 1', 500]);
    assert.ok((exit?.at ?? Infinity) - told < 4000, 'it does not wait for what never answers');
    assert.ok(states.includes('faulty dead'), states.join(', '));
  }).timeout(30_000);

  it('is started again and serves', async () => {
    await eventually(ready, 'the next worker');
    assert.equal(pids.length, 2);
    const { tokens, error } = await completion(gateway.http, 'after', 5).ended;
    assert.deepEqual([tokens, error], [5, undefined]);
  }).timeout(30_000);
});
