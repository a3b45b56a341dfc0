// The workers of a deployment as the rule wants to see them, made of what they report and what their rows tell them. Every replica
// sees the whole fleet, so every replica can make it.
import { Inject, Injectable } from '@nestjs/common';
import { SlotState } from '@spotlight/proto';
import type { DeploymentKey } from '../deployments/deployment-id.js';
import { isOf } from '../deployments/deployments.service.js';
import type { DesiredArtifact } from '../storage/schema.js';
import type { WorkerSnapshot } from '../workers/api.js';
import { Fleet } from '../workers/fleet.js';
import type { Mark } from './counters.js';
import { countersOf } from './counters.js';
import type { RolloutWorker } from './decide.js';
import type { DirectedWorker } from './desired-slots.js';

/** Of its row. */
export interface WorkerRow {
  readonly id: string;
  readonly modelId: string;
  readonly modelFingerprint: string;
  readonly generation: bigint;
  readonly slots: readonly DesiredArtifact[];
}

export type SeenWorker = RolloutWorker & DirectedWorker;

@Injectable()
export class RolloutWorkers {
  /** Since when a worker says that it cannot hold an artifact, by both. */
  readonly #failing = new Map<string, number>();

  constructor(@Inject(Fleet) private readonly fleet: Pick<Fleet, 'snapshots' | 'detail'>) {}

  /** Those joined and not dead, by name. A worker without a row was never told anything. */
  of(
    deployment: DeploymentKey,
    candidate: string | undefined,
    rows: ReadonlyMap<string, WorkerRow>,
  ): SeenWorker[] {
    return this.fleet
      .snapshots()
      .filter((worker) => worker.state !== 'dead' && isOf(worker, deployment))
      .sort((a, b) => (a.workerId < b.workerId ? -1 : 1))
      .map((worker) => this.#see(worker, candidate, rows.get(worker.workerId)));
  }

  #see(worker: WorkerSnapshot, candidate: string | undefined, row: WorkerRow | undefined): SeenWorker {
    const id = worker.workerId;
    const detail = this.fleet.detail(id);
    return {
      id,
      ready: worker.state === 'ready',
      holds: held(worker),
      active: worker.slots.find((slot) => slot.active)?.artifactDigest ?? '',
      told: row?.slots ?? [],
      inForce: (detail?.generation ?? 0n) >= (row?.generation ?? 0n),
      failure: this.#failure(worker, candidate),
      counters: countersOf(detail?.startedUnixMs ?? 0, detail?.stats ?? []),
    };
  }

  #failure(worker: WorkerSnapshot, candidate: string | undefined): SeenWorker['failure'] {
    if (candidate === undefined) return undefined;
    const key = `${worker.workerId} ${candidate}`;
    const slot = worker.slots.find(
      ({ state, pendingDigest }) => state === SlotState.FAILED && pendingDigest === candidate,
    );
    if (slot === undefined) {
      this.#failing.delete(key);
      return undefined;
    }
    const now = performance.now();
    const since = this.#failing.get(key) ?? now;
    this.#failing.set(key, since);
    return { message: slot.message, forMs: now - since };
  }
}

/** Digests that requests may be pinned to here: every cached block has their codes. */
export function held({ slots }: Pick<WorkerSnapshot, 'slots'>): string[] {
  return slots.flatMap(({ artifactDigest, state }) =>
    artifactDigest !== '' && state === SlotState.READY ? [artifactDigest] : [],
  );
}

/** A copy of the counters of a rollout's two artifacts. */
export function markOf(workers: readonly RolloutWorker[], digests: readonly string[], atMs: number): Mark {
  return {
    atMs,
    workers: Object.fromEntries(
      workers.map(({ id, counters }) => [
        id,
        {
          startedMs: counters.startedMs,
          byArtifact: Object.fromEntries(
            Object.entries(counters.byArtifact).filter(([digest]) => digests.includes(digest)),
          ),
        },
      ]),
    ),
  };
}
