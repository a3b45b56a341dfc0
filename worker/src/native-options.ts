// Settings -> what the native module is opened with. Attention settings not given stay the native module's own.
import { freemem } from 'node:os';
import type { ArtifactInfo, AttentionSettings, Engine, EngineOptions, ModelSource } from '@spotlight/cuda';
import { settingsOver } from './artifact/recommendation.js';
import type { Recommendation } from './artifact/recommendation.js';
import type { Config } from './config/config.js';

const KV_MOST_BYTES = 4 * 2 ** 30;
const KV_LEAST_BYTES = 256 * 2 ** 20;

/** A GPU of this machine, as the native module finds it. */
export interface Gpu {
  readonly name: string;
  /** Why the engine cannot run on it; absent or empty when it can. */
  readonly problem?: string;
}

export interface Gpus {
  readonly devices: readonly Gpu[];
  /** A sentence for each thing that an engine on a GPU needs and that is not here. */
  readonly missing: readonly string[];
}

/** What the worker needs of the native module; handed in, so that the start runs in tests without an addon. */
export interface NativeModule {
  createEngine(options: EngineOptions): Promise<Engine>;
  inspectArtifact(path: string): Promise<ArtifactInfo>;
  settingsDigest(settings: AttentionSettings): string;
  readonly DEFAULT_ATTENTION: AttentionSettings;
  /** Absent in a native module that knows no GPU. */
  devices?(): Promise<Gpus>;
}

/** The device to open: the one asked for, or by `auto` a GPU when one can be used. */
export function chooseDevice(asked: Config['device'], { devices, missing }: Gpus): 'cpu' | 'cuda' {
  if (asked !== 'auto') return asked;
  const usable = devices.some(({ problem = '' }) => problem === '');
  return usable && missing.length === 0 ? 'cuda' : 'cpu';
}

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

function withoutAbsent<T extends object>(settings: T): Given<T> {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as Given<T>;
}

export function engineOptions(
  config: Config,
  device: 'cpu' | 'cuda',
  model: ModelSource,
  attention: AttentionSettings,
  freeMemory = freemem(),
): EngineOptions {
  const { threads, maxBatchTokens, maxSequences, codeBits, isa, kvMemory } = config;
  const quarter = Math.max(KV_LEAST_BYTES, Math.min(KV_MOST_BYTES, Math.floor(freeMemory / 4)));
  return {
    // Of a GPU only the native engine knows what is free once the weights are in: without a size it takes that.
    ...withoutAbsent({
      threads,
      maxBatchTokens,
      maxSequences,
      codeBits,
      kvBytes: kvMemory ?? (device === 'cpu' ? quarter : undefined),
    }),
    model,
    device,
    isa,
    ...(config.attentionSelectors && { selectors: true }),
    attention,
  };
}

/** The deployment's attention settings: those given over what the artifact recommends, over the defaults. */
export function attentionSettings(
  config: Config,
  defaults: AttentionSettings,
  recommended: Recommendation = {},
): AttentionSettings {
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
  return settingsOver(settingsOver(defaults, recommended), given);
}
