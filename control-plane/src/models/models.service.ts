// What is served now, one entry a model id: derived from live snapshots at each question, so that it cannot disagree with routing.
// The database only adds when a model was first seen, and which models are expected back after a restart.
import { Inject, Injectable } from '@nestjs/common';
import { Model } from '@spotlight/proto';
import type { WorkerFleet, WorkerSnapshot } from '../workers/api.js';
import { WORKER_FLEET } from '../workers/api.js';
import type { ModelDims } from '../storage/schema.js';
import { Registry } from '../workers/registry.js';

/** A model as the database remembers it, and what is served of it now. */
export interface ModelHistory {
  readonly id: string;
  readonly fingerprint: string;
  readonly dims: ModelDims;
  readonly source: string;
  readonly firstSeen: Date;
  readonly lastSeen: Date;
  readonly workers: number;
  readonly backend: string | null;
  readonly artifactDigest: string | null;
}

/** A model whose last worker left this recently is "not available now" rather than "not found". */
const EXPECTED_MS = 10 * 60_000;

@Injectable()
export class ModelsService {
  constructor(
    @Inject(WORKER_FLEET) private readonly fleet: Pick<WorkerFleet, 'snapshots'>,
    @Inject(Registry) private readonly registry: Pick<Registry, 'model' | 'models'>,
  ) {}

  /** Every model with a worker that is not dead, by id. Where workers disagree the most common description is told. */
  served(): Model[] {
    const byId = new Map<string, WorkerSnapshot[]>();
    for (const worker of this.fleet.snapshots()) {
      if (worker.state === 'dead') continue;
      const workers = byId.get(worker.model.id) ?? [];
      workers.push(worker);
      byId.set(worker.model.id, workers);
    }
    return [...byId].sort(([a], [b]) => (a < b ? -1 : 1)).map(([id, workers]) => this.#describe(id, workers));
  }

  /** Whether workers of this model were here a short while ago. */
  isExpected(id: string): boolean {
    const row = this.registry.model(id);
    return row !== undefined && Date.now() - row.lastSeen.getTime() < EXPECTED_MS;
  }

  /** Every model ever served here, latest first. */
  async history(): Promise<ModelHistory[]> {
    const rows = await this.registry.models();
    const snapshots = this.fleet.snapshots();
    return rows.map((row) => {
      const workers = snapshots.filter(
        ({ model, state }) =>
          state !== 'dead' && model.id === row.id && model.fingerprint === row.fingerprint,
      );
      const now = workers.length > 0 ? this.#describe(row.id, workers) : undefined;
      return {
        ...row,
        workers: workers.length,
        backend: now?.backend ?? null,
        artifactDigest: now?.artifactDigest ?? null,
      };
    });
  }

  #describe(id: string, workers: readonly WorkerSnapshot[]): Model {
    const described = workers.map((worker) => ({
      fingerprint: worker.model.fingerprint,
      maxModelLen: worker.model.maxModelLen,
      backend: worker.model.backend,
      artifactDigest: activeArtifact(worker),
    }));
    return Model.fromPartial({
      id,
      ...mostCommon(described),
      workers: workers.length,
      deviceNames: [...new Set(workers.map(({ deviceName }) => deviceName))].sort(),
      createdUnix: BigInt(Math.floor((this.registry.model(id)?.firstSeen.getTime() ?? Date.now()) / 1000)),
    });
  }
}

function activeArtifact(worker: WorkerSnapshot): string {
  return worker.slots.find((slot) => slot.active)?.artifactDigest ?? '';
}

function mostCommon<T extends object>(values: readonly T[]): T | undefined {
  const counts = new Map<string, { value: T; count: number }>();
  for (const value of values) {
    const key = JSON.stringify(value);
    const entry = counts.get(key) ?? { value, count: 0 };
    entry.count++;
    counts.set(key, entry);
  }
  return [...counts.values()].sort((a, b) => b.count - a.count)[0]?.value;
}
