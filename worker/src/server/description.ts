// What the worker says of itself: the answer to Describe, and part of its Hello to every control plane.
import type { AttentionSettings, EngineInfo } from '@spotlight/cuda';
import { BLOCK_SIZE } from '@spotlight/cuda';
import type { DescribeResponse } from '@spotlight/proto';
import type { SlotTable } from '../artifact/slots.js';

export interface DescriptionParts {
  readonly workerId: string;
  readonly version: string;
  readonly modelId: string;
  readonly origin: string;
  readonly info: EngineInfo;
  readonly maxModelLen: number;
  readonly attention: AttentionSettings;
  readonly settingsDigest: string;
  readonly slots: Pick<SlotTable, 'list' | 'artifact'>;
  readonly maxWaiting: number;
}

export function describeWorker(parts: DescriptionParts): DescribeResponse {
  const { info, slots } = parts;
  const { architecture, layers, queryHeads, kvHeads, headDim, vocabSize } = info.model;
  return {
    workerId: parts.workerId,
    version: parts.version,
    model: {
      id: parts.modelId,
      fingerprint: info.fingerprint,
      architecture,
      layers,
      queryHeads,
      kvHeads,
      headDim,
      vocabSize,
      maxModelLen: parts.maxModelLen,
      source: parts.origin,
      backend: effectiveBackend(parts.attention, slots),
      settingsDigest: parts.settingsDigest,
    },
    device: info.device,
    deviceName: info.deviceName,
    slots: slots.list(),
    blockSize: BLOCK_SIZE,
    totalBlocks: info.blocks,
    maxRequests: info.maxSequences,
    maxWaiting: parts.maxWaiting,
  };
}

/** What a request gets without overrides: without an artifact nothing can be retrieved. */
export function effectiveBackend(
  attention: Pick<AttentionSettings, 'backend'>,
  slots: Pick<SlotTable, 'artifact'>,
): 'dense' | 'spotlight' {
  return slots.artifact === undefined ? 'dense' : attention.backend;
}
