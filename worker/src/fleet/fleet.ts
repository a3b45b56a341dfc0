// A4, A5: joins every control plane given and keeps them told: a report on every interval, and at once when something changed.
import type { ArtifactSlot, ArtifactStats, DescribeResponse, Hello, Load } from '@spotlight/proto';
import { Report } from '@spotlight/proto';
import type { Logger } from 'pino';
import type { WorkerStatus } from '../telemetry/health.js';
import type { BackoffLimits } from './backoff.js';
import type { DesiredState } from './desired-state.js';
import type { Dial } from './dial.js';
import { ControlPlaneLink } from './link.js';

const INTERVAL_MS = 1000;
const LEAST_INTERVAL_MS = 50;
const STARTED = BigInt(Math.round(performance.timeOrigin));

export interface FleetOptions {
  readonly controlPlanes: readonly string[];
  readonly serveAddress: string;
  readonly metricsAddress: string;
  readonly joinToken: string;
  readonly dial: Dial;
  readonly describe: () => DescribeResponse;
  readonly load: () => Load;
  readonly slots: {
    list(): ArtifactSlot[];
    /** Calls back after every change that list() would show. */
    onChange(listener: () => void): void;
  };
  /** What requests met under each artifact. */
  readonly stats: () => ArtifactStats[];
  readonly status: WorkerStatus;
  readonly desired: DesiredState;
  readonly log: Logger;
  readonly backoff?: BackoffLimits;
}

export class Fleet {
  private readonly links: readonly ControlPlaneLink[];
  private readonly unsubscribe: () => void;
  private timer: NodeJS.Timeout;
  private intervalMs = INTERVAL_MS;

  constructor(private readonly options: FleetOptions) {
    const backoff = options.backoff ?? { firstMs: 200, mostMs: 10_000 };
    this.links = options.controlPlanes.map(
      (address) =>
        new ControlPlaneLink({
          address,
          dial: options.dial,
          hello: () => this.hello(),
          report: () => this.report(),
          onDirective: (directive) => {
            if (!options.desired.apply(directive)) {
              options.log.warn(
                { controlPlane: address, generation: String(directive.generation) },
                'an older directive was ignored',
              );
              return;
            }
            if (directive.reportIntervalMs > 0) this.setInterval(directive.reportIntervalMs);
            this.reportAll();
          },
          log: options.log,
          backoff,
        }),
    );
    this.unsubscribe = options.status.onChange(() => {
      this.reportAll();
    });
    options.slots.onChange(() => {
      this.reportAll();
    });
    this.timer = this.startTimer();
    for (const link of this.links) link.open();
  }

  /** [async] Says a last time how things are, and ends every lease. */
  async leave(): Promise<void> {
    this.unsubscribe();
    clearInterval(this.timer);
    await Promise.all(this.links.map((link) => link.leave()));
  }

  private hello(): Hello {
    const { serveAddress, metricsAddress, joinToken, describe } = this.options;
    return { serveAddress, metricsAddress, joinToken, description: describe() };
  }

  private report(): Report {
    const { status, load, slots, stats, desired } = this.options;
    const { state, reason } = status.judgement;
    return Report.fromPartial({
      state,
      load: load(),
      slots: slots.list(),
      generation: desired.generation,
      lastStepAgeMs: status.lastStepAgeMs,
      message: [reason, desired.message].filter((part) => part !== '').join('; '),
      stats: stats(),
      startedUnixMs: STARTED,
    });
  }

  private reportAll(): void {
    for (const link of this.links) link.report();
  }

  private setInterval(ms: number): void {
    const next = Math.max(LEAST_INTERVAL_MS, ms);
    if (next === this.intervalMs) return;
    this.intervalMs = next;
    clearInterval(this.timer);
    this.timer = this.startTimer();
  }

  private startTimer(): NodeJS.Timeout {
    return setInterval(() => {
      this.reportAll();
    }, this.intervalMs);
  }
}
