// A worker as the admin API tells it: its row, and over it what is live. Pure.
import type { WorkerSnapshot } from '../workers/api.js';
import type { WorkerRow } from '../workers/registry.js';

export interface WorkerView {
  readonly id: string;
  readonly state: string;
  /** Why the state is not ready; empty when there is nothing to say. */
  readonly message: string;
  readonly address: string;
  readonly model: string;
  readonly fingerprint: string;
  readonly device: string;
  readonly version: string;
  readonly firstSeen: Date;
  readonly lastSeen: Date;
  /** Desired: finish what runs, take nothing new. */
  readonly drain: boolean;
  /** Of the last directive in force and of the one desired; they differ while the worker reconciles. */
  readonly generation: { readonly inForce: number | null; readonly desired: number };
  /** Null for a worker that is not here now. */
  readonly live: {
    /** Of the hardware, such as "NVIDIA H200". */
    readonly deviceName: string;
    readonly running: number;
    readonly waiting: number;
    readonly inFlight: number;
    readonly freeBlocks: number;
    readonly totalBlocks: number;
    readonly lastStepAgeMs: number;
    readonly slots: readonly { slot: number; artifactDigest: string; active: boolean; rehashed: number }[];
  } | null;
}

export function workerView(
  row: WorkerRow,
  live: WorkerSnapshot | undefined,
  detail: { readonly message: string; readonly generation: bigint } | undefined,
): WorkerView {
  return {
    id: row.id,
    // A row may still say ready when the server was killed before the worker left.
    state: live?.state ?? 'lost',
    message: detail?.message ?? '',
    address: live?.address ?? row.address,
    model: row.modelId,
    fingerprint: row.modelFingerprint,
    device: row.device,
    version: row.version,
    firstSeen: row.firstSeen,
    lastSeen: live ? new Date() : row.lastSeen,
    drain: row.drain,
    generation: { inForce: detail ? Number(detail.generation) : null, desired: Number(row.generation) },
    live: live
      ? {
          deviceName: live.deviceName,
          running: live.load.running,
          waiting: live.load.waiting,
          inFlight: live.inFlight,
          freeBlocks: live.load.freeBlocks,
          totalBlocks: live.load.totalBlocks,
          lastStepAgeMs: live.lastStepAgeMs,
          slots: live.slots.map(({ slot, artifactDigest, active, rehashed }) => ({
            slot,
            artifactDigest,
            active,
            rehashed,
          })),
        }
      : null,
  };
}
