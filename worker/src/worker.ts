// A worker that serves, and how it ends: nothing new is admitted, what runs gets its time, then the doors close.
import type { Engine } from '@spotlight/cuda';
import type { Logger } from 'pino';
import type { EngineLoop } from './engine/engine.js';
import type { Fleet } from './fleet/fleet.js';
import type { Reconciler } from './fleet/reconciler.js';
import type { WorkerGrpcServer } from './server/server.js';
import type { WorkerStatus } from './telemetry/health.js';
import type { WatchServer } from './telemetry/http-server.js';

const CLOSE_MS = 2000;
const POLL_MS = 20;

/** What --announce prints, as one JSON line. */
export interface Announcement {
  readonly event: 'ready';
  readonly workerId: string;
  /** host:port of the Worker service. */
  readonly grpc: string;
  /** host:port of /metrics, /healthz and /livez. */
  readonly metrics: string;
  readonly model: string;
  readonly backend: string;
  /** SHA-256 hex; '' when served dense. */
  readonly artifact: string;
}

export interface WorkerParts {
  readonly loop: EngineLoop;
  readonly native: Engine;
  readonly reconciler: Pick<Reconciler, 'stop'>;
  readonly grpc: WorkerGrpcServer;
  readonly watch: WatchServer;
  readonly fleet: Fleet;
  readonly status: WorkerStatus;
  readonly log: Logger;
}

export class Worker {
  constructor(
    readonly announcement: Announcement,
    private readonly parts: WorkerParts,
  ) {}

  /** [async] Ends within `timeoutMs` and the little time that closing takes. */
  async stop(timeoutMs: number): Promise<void> {
    const { loop, native, reconciler, grpc, watch, fleet, status, log } = this.parts;
    const until = performance.now() + timeoutMs;
    log.info(loop.load(), 'nothing new is admitted');
    // Routers learn it first, and the streams stay: what runs still has to go out on them.
    grpc.setServing(false);
    status.drain('shutdown', true);
    loop.drain();
    while (this.busy() && performance.now() < until)
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (this.busy()) log.warn(loop.load(), 'the shutdown timeout is over, requests are ended');
    reconciler.stop();
    await loop.stop();
    await fleet.leave();
    await grpc.close(CLOSE_MS);
    // Before the engine: what is scraped asks it.
    await watch.close();
    await native.dispose();
    status.stop();
    log.info('stopped');
  }

  /** Resolves with the fault's message once the engine is dead and every request has been told. */
  get died(): Promise<string> {
    return this.parts.loop.died;
  }

  /**
   * [async] After the engine's death: the control planes hear of it, what requests were told goes out, the doors close. The
   * native engine is left as it is, since a device that faulted may never answer; it ends with the process.
   */
  async abandon(): Promise<void> {
    const { grpc, fleet, status } = this.parts;
    status.check();
    grpc.setServing(false);
    await fleet.leave();
    await grpc.close(CLOSE_MS);
  }

  private busy(): boolean {
    const { running, waiting } = this.parts.loop.load();
    return running + waiting > 0;
  }
}
