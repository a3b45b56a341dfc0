// What the fake engine says of itself: its settings, its model, its artifacts.
import { BLOCK_SIZE } from '@spotlight/cuda';
import type { ArtifactInfo, AttentionSettings, EngineInfo } from '@spotlight/cuda';
import type { FakeEngineOptions } from './engine.js';

export const fakeSettings: AttentionSettings = {
  backend: 'spotlight',
  fraction: 0.02,
  minTokens: 256,
  sink: 4,
  recent: 64,
  tail: 'block-mean',
  tailFrom: 2,
  crossover: 0,
};

export function fakeInfo(options: FakeEngineOptions, blocks: number): EngineInfo {
  return {
    model: {
      architecture: 'llama',
      layers: 2,
      hiddenSize: 64,
      intermediateSize: 128,
      queryHeads: 4,
      kvHeads: 2,
      headDim: 16,
      vocabSize: options.vocabSize ?? 256,
      maxModelLen: options.maxModelLen ?? 2048,
      ropeTheta: 10000,
      ropeScaling: 'none',
      rmsNormEps: 1e-5,
      tiedEmbeddings: true,
      eosTokenIds: options.eosTokenIds ?? [0],
      parameters: 1,
      weightBytes: 4,
    },
    fingerprint: 'f'.repeat(64),
    device: 'cpu',
    deviceName: 'fake',
    isa: 'none',
    threads: 1,
    blocks,
    blockBytes: BLOCK_SIZE * 4,
    codeBits: 128,
    maxBatchTokens: options.maxBatchTokens ?? 512,
    maxSequences: options.maxSequences ?? 256,
    decodeSizes: options.decodeSizes ?? [],
    selectors: false,
    crossover: { ...fakeSettings, ...options.attention }.crossover ?? 0,
  };
}

export function fakeArtifact(digest: string | undefined, info: EngineInfo): ArtifactInfo | undefined {
  if (digest === undefined || digest === '') return undefined;
  const { headDim, queryHeads, kvHeads, layers } = info.model;
  return {
    digest,
    format: 1,
    encoder: 'linear-asym',
    bits: 128,
    headDim,
    queryHeads,
    kvHeads,
    layers: Array.from({ length: layers }, (_, i) => i),
    fingerprint: info.fingerprint,
    metadata: {},
  };
}
