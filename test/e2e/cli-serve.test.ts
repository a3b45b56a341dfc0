// `spotlight serve` as a process with a scripted worker that joins from outside: its events in order, a request through
// `spotlight generate --url`, the admin key shown once, and an orderly end.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { FAKE_MODEL, FakeWorker } from '../fakes/worker.js';

const MAIN = fileURLToPath(import.meta.resolve('@spotlight/control-plane/cli/main.js'));

interface ServeEvent {
  readonly event: string;
  readonly http?: string;
  readonly grpc?: string;
  readonly adminKey?: string;
  readonly workers?: { readonly model: string }[];
}

class ServeProcess {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly exited: Promise<number | null>;

  constructor(dataDir: string) {
    this.#child = spawn(
      process.execPath,
      [
        ...[MAIN, 'serve', '--json', '--workers', '0', '--http-port', '0', '--grpc-port', '0'],
        ...['--data', dataDir, '--log-level', 'error'],
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const { stdout } = this.#child;
    assert.ok(stdout);
    this.#lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
    this.exited = new Promise((resolve) => this.#child.once('exit', resolve));
  }

  async next(): Promise<ServeEvent> {
    const line = await this.#lines.next();
    assert.ok(line.done !== true, 'the server ended');
    return JSON.parse(line.value) as ServeEvent;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
}

async function generate(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [MAIN, 'generate', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const code = new Promise<number | null>((resolve) => child.once('exit', resolve));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await code, stdout, stderr };
}

describe('spotlight serve', () => {
  let folder: string;
  let serve: ServeProcess | undefined;
  let worker: FakeWorker | undefined;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-serve-'));
  });

  afterEach(async () => {
    await worker?.close();
    worker = undefined;
    serve?.kill('SIGKILL');
    await serve?.exited;
  });

  after(() => rm(folder, { recursive: true, force: true }));

  it('listens, is ready once a worker is, answers, and ends at SIGTERM', async () => {
    serve = new ServeProcess(join(folder, 'data'));
    const listening = await serve.next();
    assert.equal(listening.event, 'listening');
    assert.match(listening.adminKey ?? '', /^sk-/);
    const grpc = listening.grpc ?? '';

    const before = await generate('hello', '--url', grpc);
    assert.equal(before.code, 1);
    assert.match(before.stderr, /^spotlight: .*worker/i, 'no worker has joined yet');

    worker = await FakeWorker.start({ workerId: 'fake', join: [grpc] });
    const ready = await serve.next();
    assert.equal(ready.event, 'ready');
    assert.deepEqual(
      ready.workers?.map(({ model }) => model),
      [FAKE_MODEL],
    );

    const after = await generate('hello', '--url', grpc, '--max-tokens', '5', '--seed', '3');
    assert.equal(after.code, 0, after.stderr);
    assert.match(after.stderr, /5 tokens.*seed 3/);
    assert.equal(worker.submits.at(-1)?.sampling?.maxTokens, 5);

    serve.kill('SIGTERM');
    assert.equal((await serve.next()).event, 'stopping');
    assert.equal(await serve.exited, 0);
  });

  it('says at once that a port is in use, before it makes a database', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const data = join(folder, 'unmade');
    for (const flag of ['--http-port', '--grpc-port', '--metrics-port']) {
      const ports = { '--http-port': 0, '--grpc-port': 0, '--metrics-port': 0, [flag]: port };
      const child = spawn(
        process.execPath,
        [
          MAIN,
          'serve',
          '--data',
          data,
          ...Object.entries(ports).flatMap(([name, value]) => [name, `${value}`]),
        ],
        { stdio: ['ignore', 'ignore', 'pipe'] },
      );
      const code = once(child, 'exit');
      const stderr = await text(child.stderr);
      assert.deepEqual(await code, [1, null]);
      assert.match(stderr, new RegExp(`^spotlight: .*127.0.0.1:${port} is in use.*${flag}`));
      assert.ok(!existsSync(data));
    }
    taken.close();
  });

  it('shows the admin key at the first start only', async () => {
    serve = new ServeProcess(join(folder, 'data'));
    const { event, adminKey } = await serve.next();
    assert.equal(event, 'listening');
    assert.equal(adminKey, undefined);
  });
}).timeout(120_000);
