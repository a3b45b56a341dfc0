// Settings -> what the native module is opened with. Attention settings not given stay the native module's own.
import { freemem } from 'node:os';
import type { ArtifactInfo, AttentionSettings, Engine, EngineOptions, ModelSource } from '@spotlight/cuda';
import type { Config } from './config/config.js';

const KV_MOST_BYTES = 4 * 2 ** 30;
const KV_LEAST_BYTES = 256 * 2 ** 20;

/** What the worker needs of the native module; handed in, so that the start runs in tests without an addon. */
export interface NativeModule {
  createEngine(options: EngineOptions): Promise<Engine>;
  inspectArtifact(path: string): Promise<ArtifactInfo>;
  settingsDigest(settings: AttentionSettings): string;
  readonly DEFAULT_ATTENTION: AttentionSettings;
}

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

function withoutAbsent<T extends object>(settings: T): Given<T> {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as Given<T>;
}

export function engineOptions(
  config: Config,
  model: ModelSource,
  attention: AttentionSettings,
  freeMemory = freemem(),
): EngineOptions {
  const { device, threads, maxBatchTokens, maxSequences, codeBits, isa, kvMemory } = config;
  const quarter = Math.max(KV_LEAST_BYTES, Math.min(KV_MOST_BYTES, Math.floor(freeMemory / 4)));
  return {
    ...withoutAbsent({ device, threads, maxBatchTokens, maxSequences, codeBits }),
    model,
    isa,
    kvBytes: kvMemory ?? quarter,
    attention,
  };
}

/** The deployment's attention settings: those given over the defaults. */
export function attentionSettings(config: Config, defaults: AttentionSettings): AttentionSettings {
  const given = withoutAbsent({
    backend: config.attentionBackend,
    fraction: config.attentionFraction,
    minTokens: config.attentionMinTokens,
    sink: config.attentionSink,
    recent: config.attentionRecent,
    tail: config.attentionTail,
    tailFrom: config.attentionTailFrom,
    crossover: config.attentionCrossover,
    layers: config.attentionLayers,
  });
  return { ...defaults, ...given };
}
