// Workers and requests for routing tests, idle and small unless told otherwise.
import { Load, ModelDescription } from '@spotlight/proto';
import type { RouteRequest, WorkerSnapshot } from '../workers/api.js';

export function worker(
  workerId: string,
  load: Partial<Load> = {},
  change: Partial<WorkerSnapshot> = {},
): WorkerSnapshot {
  return {
    workerId,
    incarnation: workerId,
    address: `${workerId}:1`,
    metricsAddress: '',
    model: ModelDescription.fromPartial({
      id: 'm',
      fingerprint: 'f',
      backend: 'spotlight',
      maxModelLen: 8192,
    }),
    slots: [],
    state: 'ready',
    load: Load.fromPartial({ freeBlocks: 100, totalBlocks: 100, ...load }),
    inFlight: 0,
    maxRequests: 8,
    maxWaiting: 8,
    blockSize: 64,
    device: 'cpu',
    deviceName: 'Some CPU',
    lastStepAgeMs: 0,
    steppedAt: 0,
    ...change,
  };
}

export function request(change: Partial<RouteRequest> = {}): RouteRequest {
  return {
    model: 'm',
    sessionId: undefined,
    prefixHashes: [],
    promptBytes: 100,
    exclude: new Set(),
    artifactDigest: '',
    replay: undefined,
    ...change,
  };
}
