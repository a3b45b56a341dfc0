// The control plane killed with -9 at random moments while keys are being made: every key whose making was acknowledged is
// there at the next start, and a worker that lived through it rejoins by itself and serves.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Child, eventually } from './child.js';
import { completion } from './completion.js';
import { freePort } from './free-port.js';

const SERVE = fileURLToPath(import.meta.resolve('@spotlight/control-plane/cli/main.js'));
const WORKER = fileURLToPath(new URL('./joining-worker.main.js', import.meta.url));
const ROUNDS = 3;

describe('the control plane killed with -9', () => {
  let dataDir: string;
  let grpcPort: number;
  let server: Child | undefined;
  let worker: Child | undefined;

  before(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'spotlight-chaos-'));
    grpcPort = await freePort();
  });
  after(async () => {
    await server?.kill();
    await worker?.kill();
    await rm(dataDir, { recursive: true, force: true });
  });

  async function start(): Promise<string> {
    server = await Child.start(SERVE, [
      ...['serve', '--json', '--workers', '0', '--http-port', '0', '--grpc-port', String(grpcPort)],
      ...['--data', dataDir, '--log-level', 'fatal'],
    ]);
    assert.equal(server.announced['event'], 'listening');
    return String(server.announced['http']);
  }

  /** Makes keys, two at a time, until the server is gone. */
  async function makeKeys(http: string, acknowledged: string[]): Promise<void> {
    const one = async (): Promise<void> => {
      for (;;) {
        const response = await fetch(`${http}/api/v1/keys`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ name: 'chaos' }),
        }).catch(() => undefined);
        const body = await response?.json().catch(() => undefined);
        if (response === undefined || body === undefined) return;
        assert.equal(response.status, 201, JSON.stringify(body));
        acknowledged.push((body as { id: string }).id);
      }
    };
    await Promise.all([one(), one()]);
  }

  async function keyIds(http: string): Promise<Set<string>> {
    const response = await fetch(`${http}/api/v1/keys`);
    const { keys } = (await response.json()) as { keys: { id: string }[] };
    return new Set(keys.map(({ id }) => id));
  }

  const serves = async (http: string): Promise<boolean> =>
    (await completion(http, 'are you there', 3).ended).tokens === 3;

  it('loses no acknowledged row, and its worker comes back by itself', async () => {
    const acknowledged: string[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const http = await start();
      worker ??= await Child.start(WORKER, ['survivor', `127.0.0.1:${grpcPort}`, '1']);
      await eventually(() => serves(http), 'the worker to serve');
      const before = acknowledged.length;
      const making = makeKeys(http, acknowledged);
      await eventually(() => acknowledged.length > before, 'the first key');
      await sleep(50 + Math.random() * 300);
      await server?.kill();
      await making;
      assert.ok(worker.alive);
    }
    const http = await start();
    const there = await keyIds(http);
    const missing = acknowledged.filter((id) => !there.has(id));
    assert.deepEqual(missing, [], `${missing.length} of ${acknowledged.length} acknowledged keys are gone`);
    assert.ok(acknowledged.length > ROUNDS * 5, `only ${acknowledged.length} keys were made`);

    await eventually(() => serves(http), 'the worker to serve again');
    const response = await fetch(`${http}/api/v1/workers`);
    const { workers } = (await response.json()) as { workers: { id: string; state: string }[] };
    assert.deepEqual(
      workers.map(({ id, state }) => [id, state]),
      [['survivor', 'ready']],
    );
  }).timeout(120_000);
});
