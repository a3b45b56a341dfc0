// What this worker serves, settled once at start: the model, its limits, its attention settings. One record, read by the
// engine, the metrics, Describe and the log, so that they cannot disagree.
import { readFileSync } from 'node:fs';
import type { AttentionSettings, BackendName, EngineInfo } from '@spotlight/cuda';
import { BLOCK_SIZE } from '@spotlight/cuda';
import type { ArtifactSlot, DescribeResponse } from '@spotlight/proto';
import type { SlotTable } from './artifact/slots.js';
import type { Config } from './config/config.js';
import type { ResolvedModel } from './models/resolve.js';

const MAX_WAITING = 512;

export interface Deployment {
  readonly modelName: string;
  /** File, folder or hub id. */
  readonly origin: string;
  readonly info: EngineInfo;
  /** Tokens: the model's own, or less by --max-model-len. */
  readonly maxModelLen: number;
  readonly maxWaiting: number;
  /** `backend` is what a request gets without overrides once there is an artifact to retrieve with. */
  readonly attention: AttentionSettings;
  readonly settingsDigest: string;
}

export function settle(
  config: Config,
  model: ResolvedModel,
  info: EngineInfo,
  settings: AttentionSettings,
  digest: (settings: AttentionSettings) => string,
): Deployment {
  // With the crossover in force: what requests did on one device is not what they would do on another.
  const attention: AttentionSettings = { ...settings, crossover: info.crossover };
  return {
    modelName: config.servedModelName ?? model.id,
    origin: model.origin,
    info,
    maxModelLen: Math.min(info.model.maxModelLen, config.maxModelLen ?? info.model.maxModelLen),
    maxWaiting: config.maxWaiting ?? MAX_WAITING,
    attention,
    settingsDigest: digest(attention),
  };
}

/** What a request gets without overrides now. */
export function backendOf({ attention }: Deployment, slots: Pick<SlotTable, 'artifact'>): BackendName {
  return slots.artifact === undefined && attention.backend === 'spotlight' ? 'dense' : attention.backend;
}

/** The answer to Describe, and part of the Hello to every control plane. */
export function describeWorker(
  deployment: Deployment,
  workerId: string,
  backend: BackendName,
  slots: ArtifactSlot[],
): DescribeResponse {
  const { info } = deployment;
  const { architecture, layers, queryHeads, kvHeads, headDim, vocabSize } = info.model;
  return {
    workerId,
    version: packageVersion,
    model: {
      id: deployment.modelName,
      fingerprint: info.fingerprint,
      architecture,
      layers,
      queryHeads,
      kvHeads,
      headDim,
      vocabSize,
      maxModelLen: deployment.maxModelLen,
      source: deployment.origin,
      backend,
      settingsDigest: deployment.settingsDigest,
      settings: JSON.stringify(deployment.attention),
    },
    device: info.device,
    deviceName: info.deviceName,
    slots,
    blockSize: BLOCK_SIZE,
    totalBlocks: info.blocks,
    maxRequests: info.maxSequences,
    maxWaiting: deployment.maxWaiting,
  };
}

const packageVersion = (
  JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
).version;
