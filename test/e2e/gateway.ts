// A control plane in this process, on free ports and a data folder of its own, with fake workers that join it as real ones do.
import type { Flags } from '@spotlight/control-plane/config/config.js';
import { loadConfig } from '@spotlight/control-plane/config/config.js';
import type { ControlPlane } from '@spotlight/control-plane/start.js';
import { startControlPlane } from '@spotlight/control-plane/start.js';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FakeWorkerOptions } from '../fakes/worker.js';
import { FakeWorker } from '../fakes/worker.js';

export interface Gateway {
  readonly controlPlane: ControlPlane;
  readonly http: string;
  readonly grpc: string;
  readonly dataDir: string;
  /** Starts a fake worker and waits until the fleet counts it as ready. */
  worker(options: Omit<FakeWorkerOptions, 'join'>): Promise<FakeWorker>;
  /** Closes the workers, so that a test starts with none. */
  dismiss(): Promise<void>;
  close(): Promise<void>;
}

/** A new embedded database takes two seconds, ten times that on a busy machine. */
export const START_MS = 120_000;

export async function startGateway(
  flags: Flags = {},
  environment: Readonly<Record<string, string>> = {},
): Promise<Gateway> {
  const dataDir = await mkdtemp(join(tmpdir(), 'spotlight-e2e-'));
  const config = loadConfig(
    { httpPort: '0', grpcPort: '0', data: dataDir, logLevel: 'silent', drainTimeout: '2s', ...flags },
    environment,
  );
  const controlPlane = await startControlPlane(config);
  let workers: FakeWorker[] = [];
  const dismiss = async (): Promise<void> => {
    await Promise.all(workers.map((worker) => worker.close()));
    workers = [];
    await until(() => controlPlane.fleet.snapshots().length === 0, 'the fleet to be empty');
  };
  return {
    controlPlane,
    http: controlPlane.httpUrl,
    grpc: controlPlane.grpcAddress,
    dataDir,
    async worker(options) {
      const worker = await FakeWorker.start({ ...options, join: [controlPlane.grpcAddress] });
      workers.push(worker);
      const isReady = (): boolean =>
        controlPlane.fleet
          .snapshots()
          .some(({ workerId, state }) => workerId === options.workerId && state === 'ready');
      await until(isReady, `${options.workerId} to be ready`);
      return worker;
    },
    dismiss,
    async close() {
      await dismiss();
      await controlPlane.close();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** Polls, since what is waited for happens in other parts of the process; rejects after 10 s. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  for (let waited = 0; !holds(); waited += 5) {
    if (waited > 10_000) throw new Error(`waited 10 s for ${what}`);
    await sleep(5);
  }
}
