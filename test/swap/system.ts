// The real system for swaps: a control plane and workers as processes of their own, so that each can be killed with -9 and started
// again in its place, and the operator's part of it over the admin API.
import { AdminClient, Refused, Unanswered } from '@spotlight/control-plane/cli/admin-client.js';
import { push } from '@spotlight/control-plane/cli/artifact-push.js';
import type { RolloutDetail } from '@spotlight/control-plane/rollouts/rollout-view.js';
import { hasEnded } from '@spotlight/control-plane/rollouts/rollout.js';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Child, eventually } from '../chaos/child.js';
import type { Artifact } from './variant.js';

const SERVE = fileURLToPath(import.meta.resolve('@spotlight/control-plane/cli/main.js'));
const REAL_WORKER = fileURLToPath(import.meta.resolve('@spotlight/worker/main.js'));

export interface SystemOptions {
  readonly workers: number;
  /** Runs one worker; the real one when absent. */
  readonly workerScript?: string;
  readonly workerFlags?: readonly string[];
  readonly databaseUrl?: string;
  readonly readyMs?: number;
}

/** What can be killed: the control plane, or a worker by its index. */
export type Victim = 'control plane' | number;

export class SwapSystem {
  readonly http: string;
  readonly #grpcPort: number;
  readonly #workers: (Child | undefined)[];
  readonly #onExit = (): void => {
    for (const child of [this.#controlPlane, ...this.#workers]) child?.process.kill('SIGKILL');
  };
  #controlPlane: Child | undefined;

  private constructor(
    private readonly folder: string,
    private readonly options: SystemOptions,
    private readonly httpPort: number,
    grpcPort: number,
  ) {
    this.http = `http://127.0.0.1:${httpPort}`;
    this.#grpcPort = grpcPort;
    this.#workers = Array.from({ length: options.workers }, () => undefined);
    // Whoever ends early must not leave a fleet behind.
    process.once('exit', this.#onExit);
  }

  /** Resolves when every worker is ready and the deployment has its artifact with its bytes. */
  static async start(options: SystemOptions): Promise<SwapSystem> {
    const folder = await mkdtemp(join(tmpdir(), 'spotlight-swap-'));
    const [http, grpc] = await freePorts();
    const system = new SwapSystem(folder, options, http, grpc);
    try {
      await system.startControlPlane();
      await Promise.all(system.#workers.map((_, index) => system.startWorker(index)));
      await system.settled(options.readyMs ?? 120_000);
    } catch (error) {
      await system.close();
      throw error;
    }
    return system;
  }

  get client(): AdminClient {
    return new AdminClient({ url: this.http });
  }

  async startControlPlane(): Promise<void> {
    this.#controlPlane = await Child.start(SERVE, [
      ...['serve', '--json', '--workers', '0', '--log-level', 'fatal'],
      ...['--http-port', String(this.httpPort), '--grpc-port', String(this.#grpcPort)],
      ...['--data', join(this.folder, 'data'), '--artifact-store', join(this.folder, 'artifacts')],
      ...['--report-interval', '250ms', '--lease-timeout', '3s', '--rollout-interval', '200ms'],
      ...(this.options.databaseUrl === undefined ? [] : ['--database-url', this.options.databaseUrl]),
    ]);
  }

  async startWorker(index: number): Promise<void> {
    this.#workers[index] = await Child.start(this.options.workerScript ?? REAL_WORKER, [
      ...['--join', `127.0.0.1:${this.#grpcPort}`, '--worker-id', `worker-${index}`, '--announce'],
      ...['--grpc-port', '0', '--metrics-port', '0', '--log-level', 'fatal'],
      ...['--artifact-cache', join(this.folder, `fetched-${index}`)],
      ...(this.options.workerFlags ?? []),
    ]);
  }

  /** kill -9, and started again at once. Resolves when it runs, which is before it is ready. */
  async killAndRestart(victim: Victim): Promise<void> {
    if (victim === 'control plane') {
      await this.#controlPlane?.kill();
      await this.startControlPlane();
      return;
    }
    await this.#workers[victim]?.kill();
    await this.startWorker(victim);
  }

  /** Waits until every worker is ready. */
  async settled(limitMs = 60_000): Promise<void> {
    await eventually(
      async () => {
        const answer = await this.asked<{ workers: { state: string; live: unknown }[] }>('workers');
        const ready = answer?.workers.filter(({ state, live }) => state === 'ready' && live !== null) ?? [];
        if (ready.length !== this.options.workers) return false;
        const active = (await this.deployment())?.activeArtifact;
        if (active === null || active === undefined) return false;
        const artifact = await this.asked<{ size: number | null }>(`artifacts/${active}`);
        return typeof artifact?.size === 'number';
      },
      'every worker to be ready and the bytes of their artifact to be here',
      limitMs,
    );
  }

  async deployment(): Promise<{ readonly id: string; readonly activeArtifact: string | null } | undefined> {
    const answer = await this.asked<{ deployments: { id: string; activeArtifact: string | null }[] }>(
      'deployments',
    );
    return answer?.deployments[0];
  }

  /** Uploads and validates an artifact that may be here already. */
  async upload(artifact: Artifact, force = false): Promise<{ readonly passed: boolean }> {
    const path = join(this.folder, `${artifact.digest}.safetensors`);
    await writeFile(path, artifact.bytes);
    await push(this.client, path, {
      parent: undefined,
      rangeBytes: 2 ** 24,
      patienceMs: 60_000,
      onProgress: () => undefined,
      onTrouble: () => undefined,
    });
    return this.client.ask<{ passed: boolean }>('POST', `artifacts/${artifact.digest}/validate`, { force });
  }

  /** Orders a rollout; again when the order or its answer was lost. Returns its id. */
  async order(digest: string, plan: Record<string, unknown>, limitMs = 60_000): Promise<string> {
    const deadline = performance.now() + limitMs;
    for (;;) {
      try {
        return (await this.client.try<RolloutDetail>('POST', 'rollouts', { artifact: digest, plan })).id;
      } catch (error) {
        if (error instanceof Refused && error.code === 'rollout_under_way') {
          const { rollouts } = await this.client.ask<{ rollouts: RolloutDetail[] }>(
            'GET',
            'rollouts?limit=1',
          );
          const [mine] = rollouts;
          if (mine?.candidate === digest) return mine.id;
        }
        const lost = error instanceof Unanswered || (error instanceof Refused && error.status === 503);
        if (!lost || performance.now() > deadline) throw error;
        await sleep(100);
      }
    }
  }

  /** Follows a rollout to its end, whoever is killed meanwhile. */
  async ended(id: string, limitMs: number): Promise<RolloutDetail> {
    let last: RolloutDetail | undefined;
    await eventually(
      async () => {
        last = (await this.asked<RolloutDetail>(`rollouts/${id}`)) ?? last;
        return last !== undefined && hasEnded(last.phase);
      },
      `rollout ${id} to end`,
      limitMs,
    ).catch((error: unknown) => {
      const { events: _events, plan: _plan, ...where } = last ?? {};
      throw new Error(`${String(error)}: ${JSON.stringify(where)}`);
    });
    if (last === undefined) throw new Error('a rollout has ended and was never seen');
    return last;
  }

  /** undefined while the control plane or its database is away. */
  async asked<T>(path: string): Promise<T | undefined> {
    try {
      return await this.client.try<T>('GET', path);
    } catch (error) {
      if (
        error instanceof Unanswered ||
        (error instanceof Refused && (error.status === 503 || error.status === 404))
      )
        return undefined;
      throw error;
    }
  }

  async close(): Promise<void> {
    process.off('exit', this.#onExit);
    await Promise.all([this.#controlPlane?.kill(), ...this.#workers.map((worker) => worker?.kill())]);
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** Two ports that are free now: what is killed must come back where the others know it. */
async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()];
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve, reject) => {
          server.once('error', reject);
          server.listen(0, '127.0.0.1', () => {
            const address = server.address();
            if (address !== null && typeof address === 'object') resolve(address.port);
            else reject(new Error('a server has no port'));
          });
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  const [http = 0, grpc = 0] = ports;
  return [http, grpc];
}
