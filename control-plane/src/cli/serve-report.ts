// What `spotlight serve` tells on stdout: lines for people, or one JSON object an event (--json). Logs go to stderr.
import type { WorkerSnapshot } from '../workers/api.js';

export interface Listening {
  readonly httpUrl: string;
  readonly grpcAddress: string;
  /** The admin key made at the first start; it is shown once and never again. */
  readonly newAdminKey: string | undefined;
}

export class ServeReport {
  /** What is told of workers before the doors: they start meanwhile, and `listening` is the first event. */
  private early: (() => void)[] | undefined = [];

  constructor(private readonly json: boolean) {}

  listening({ httpUrl, grpcAddress, newAdminKey }: Listening): void {
    this.tell({ event: 'listening', http: httpUrl, grpc: grpcAddress, adminKey: newAdminKey }, [
      `HTTP   ${httpUrl}/v1`,
      `gRPC   ${grpcAddress}`,
      ...(newAdminKey === undefined ? [] : [`Admin key, shown this once: ${newAdminKey}`]),
    ]);
    const { early } = this;
    this.early = undefined;
    for (const tell of early ?? []) tell();
  }

  workerStarted(name: string, pid: number): void {
    this.later(() => {
      this.tell({ event: 'worker', name, state: 'started', pid }, [`${name} starting (process ${pid})`]);
    });
  }

  workerExited(name: string, how: string, waitMs: number | undefined): void {
    const next =
      waitMs === undefined ? 'giving up: see its message above' : `starting again in ${waitMs / 1000} s`;
    this.later(() => {
      this.tell({ event: 'worker', name, state: 'exited', how, restartInMs: waitMs }, [
        `${name} ended with ${how}, ${next}`,
      ]);
    });
  }

  ready(workers: readonly WorkerSnapshot[]): void {
    const served = workers
      .filter((worker) => worker.state === 'ready')
      .map(({ model, device, deviceName, metricsAddress }) => ({
        model: model.id,
        backend: model.backend,
        device,
        deviceName,
        metrics: metricsAddress,
      }));
    this.tell({ event: 'ready', workers: served }, [
      ...served.map(
        ({ model, backend, device, deviceName, metrics }) =>
          `${model} on ${device} (${deviceName}), ${backend} attention, metrics at http://${metrics}/metrics`,
      ),
      'ready',
    ]);
  }

  stopping(signal: string): void {
    this.tell({ event: 'stopping', signal }, ['stopping: running requests may finish']);
  }

  private later(tell: () => void): void {
    if (this.early === undefined) tell();
    else this.early.push(tell);
  }

  private tell(event: object, lines: readonly string[]): void {
    process.stdout.write(this.json ? `${JSON.stringify(event)}\n` : `${lines.join('\n')}\n`);
  }
}
