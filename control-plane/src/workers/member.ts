// One worker while its lease lives: what it said in its Hello, its last report, its channel, and the snapshot made of them.
// Mutable, and reached by fleet.ts only; everyone else sees the frozen snapshot.
import type { ArtifactSlot, ArtifactStats, Directive, Load, Report } from '@spotlight/proto';
import { Load as LoadMessage, WorkerState } from '@spotlight/proto';
import type { ServiceError } from '../errors/service-error.js';
import { invalidArgument } from '../errors/service-error.js';
import type { WorkerSnapshot } from './api.js';
import type { CheckedHello } from './hello.js';
import type { WorkerChannel } from './worker-channel.js';

/** The Join stream as the fleet needs it. */
export interface Lease {
  send(directive: Directive): void;
  /** Ends the stream with this error; the worker may come again. */
  end(error: ServiceError): void;
}

type State = WorkerSnapshot['state'];

const STATES: Readonly<Partial<Record<WorkerState, State>>> = {
  [WorkerState.STARTING]: 'starting',
  [WorkerState.READY]: 'ready',
  [WorkerState.DEGRADED]: 'degraded',
  [WorkerState.DRAINING]: 'draining',
  [WorkerState.DEAD]: 'dead',
};

let joinings = 0;

export class Member {
  readonly incarnation: string;
  /** performance.now() of the last sign of life on either stream. */
  heardAt = performance.now();
  /** Why the state is not ready, in the worker's or our own words. */
  message = '';
  /** Of the last directive the worker has fully in force. */
  generation = 0n;
  /** What it has counted by artifact since its process started, and when that was. */
  stats: readonly ArtifactStats[] = [];
  startedUnixMs = 0;
  /** Desired; holds from the moment it is asked for, before the worker confirms. */
  drain = false;
  /** Silent for several report intervals; not yet long enough to be lost. */
  silent = false;
  #reported: State = 'starting';
  #load: Load;
  #slots: readonly ArtifactSlot[];
  #lastStepAgeMs = 0;
  #steppedAt = performance.now();
  #snapshot: WorkerSnapshot | undefined;

  constructor(
    readonly hello: CheckedHello,
    readonly lease: Lease,
    readonly channel: WorkerChannel,
  ) {
    const { slots, totalBlocks } = hello.description;
    this.incarnation = `${hello.workerId}#${++joinings}`;
    this.#slots = Object.freeze([...slots]);
    this.#load = LoadMessage.fromPartial({ freeBlocks: totalBlocks, totalBlocks });
  }

  get id(): string {
    return this.hello.workerId;
  }

  /** A worker counts as ready only when both agree: its own report, and a stream on which requests can run. */
  get state(): State {
    if (this.#reported === 'dead') return 'dead';
    if (this.drain || this.#reported === 'draining') return 'draining';
    if (this.silent) return 'degraded';
    if (this.#reported === 'ready' && !this.channel.connected) return 'starting';
    return this.#reported;
  }

  /** @throws ServiceError INVALID_ARGUMENT for a state this build does not know */
  report(report: Report): void {
    const state = STATES[report.state];
    if (state === undefined) {
      throw invalidArgument('report.state', `report.state ${report.state} is no state a worker can be in.`);
    }
    this.#reported = state;
    this.#slots = Object.freeze(report.slots);
    this.#lastStepAgeMs = report.lastStepAgeMs;
    // An age of 0 says that nothing waits. The newest word wins: a report may be older than a step already seen.
    this.#steppedAt = Math.max(this.#steppedAt, performance.now() - report.lastStepAgeMs);
    this.generation = report.generation;
    this.message = report.message;
    this.stats = report.stats;
    this.startedUnixMs = Number(report.startedUnixMs);
    if (report.load) this.load(report.load);
    this.touch();
  }

  /** @param stepped the load came with a step that has just ended */
  load(load: Load, stepped = false): void {
    this.#load = Object.freeze(load);
    if (stepped) this.#steppedAt = performance.now();
    this.touch();
  }

  /** A sign of life; the next snapshot is made anew. */
  touch(): void {
    this.heardAt = performance.now();
    this.silent = false;
    this.#snapshot = undefined;
  }

  snapshot(): WorkerSnapshot {
    const { state, channel, hello } = this;
    const last = this.#snapshot;
    if (last?.inFlight === channel.inFlight && last.state === state) return last;
    const { description } = hello;
    this.#snapshot = Object.freeze({
      workerId: hello.workerId,
      incarnation: this.incarnation,
      address: hello.address,
      metricsAddress: hello.metricsAddress,
      model: hello.model,
      slots: this.#slots,
      state,
      load: this.#load,
      inFlight: channel.inFlight,
      maxRequests: description.maxRequests,
      maxWaiting: description.maxWaiting,
      blockSize: description.blockSize,
      device: description.device,
      deviceName: description.deviceName,
      lastStepAgeMs: this.#lastStepAgeMs,
      steppedAt: this.#steppedAt,
    });
    return this.#snapshot;
  }
}
