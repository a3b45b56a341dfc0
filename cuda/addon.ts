// Finds and loads the native module: the one built here first (with CUDA, if there is such a build), then the carried build of the
// highest instruction-set level this CPU has. Loaded on first use, so that a program that never makes an engine needs no addon.
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { EngineError } from './errors.js';
import type { PackedResult } from './pack.js';
import type { TrainerInfo, TrainerOptions, TrainerState, TrainQuality, TrainStep } from './train/types.js';
import type {
  ArtifactInfo,
  AttentionSettings,
  Devices,
  EngineInfo,
  EngineOptions,
  EngineStats,
  SelectorInfo,
  TokenizerMetadata,
} from './types.js';

/** The addon's engine object; each method as binding/engine_object.h has it. */
export interface NativeEngine {
  info(): Omit<EngineInfo, 'fingerprint'> & { readonly fingerprintText: string };
  tokenizer(): TokenizerMetadata | undefined;
  setAttention(settings: AttentionSettings): void;
  openSequence(options: object): number;
  submit(batch: Int32Array): number;
  collect(): Promise<PackedResult>;
  loadArtifact(slot: number, path: string, fingerprint: string): Promise<Omit<ArtifactInfo, 'digest'>>;
  unloadArtifact(slot: number): Promise<void>;
  rehash(slot: number, blocks: readonly number[], filled: readonly number[]): Promise<number>;
  fill(blocks: readonly number[], seed: number): Promise<void>;
  stats(): EngineStats;
  dispose(): Promise<void>;
}

/** The addon's trainer object; each method as binding/trainer_object.h has it. */
export interface NativeTrainer {
  info(): Omit<TrainerInfo, 'fingerprint'> & { readonly fingerprintText: string };
  tokenizer(): TokenizerMetadata | undefined;
  step(tokens: Int32Array): Promise<TrainStep | undefined>;
  measure(tokens: Int32Array, rows: number): Promise<TrainQuality | undefined>;
  save(): Promise<TrainerState>;
  load(state: TrainerState): Promise<void>;
  cancel(): void;
  dispose(): Promise<void>;
}

export interface Addon {
  createEngine(options: EngineOptions): Promise<NativeEngine>;
  createTrainer(options: TrainerOptions): Promise<NativeTrainer>;
  inspectArtifact(path: string): Promise<Omit<ArtifactInfo, 'digest'>>;
  selectors(): readonly SelectorInfo[];
  devices(): Promise<Devices>;
}

/** What each level of the x86-64 psABI adds that a Linux kernel reports by flag; highest first. */
const LEVELS: readonly (readonly [string, readonly string[]])[] = [
  ['x86-64-v4', ['avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl']],
  ['x86-64-v3', ['avx', 'avx2', 'bmi1', 'bmi2', 'f16c', 'fma', 'abm', 'movbe']],
  ['x86-64-v2', ['cx16', 'lahf_lm', 'popcnt', 'sse4_1', 'sse4_2', 'ssse3']],
];

/** The levels a CPU with these flags can run, best first: each needs those below it, too. */
export function levelsFor(flags: ReadonlySet<string>): string[] {
  const levels: string[] = [];
  for (const [level, needs] of [...LEVELS].reverse()) {
    if (!needs.every((flag) => flags.has(flag))) break;
    levels.unshift(level);
  }
  return levels;
}

function cpuFlags(): Set<string> {
  try {
    const line = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'));
    return new Set((line?.[1] ?? '').trim().split(/\s+/));
  } catch {
    return new Set();
  }
}

/** Places the addon may be, in the order tried. The package's folder is one up from dist/. */
function candidates(): string[] {
  const room = dirname(import.meta.dirname);
  const carried = join(room, 'prebuilds', `${process.platform}-${process.arch}`);
  return [
    ...(process.env['SPOTLIGHT_ADDON'] ? [process.env['SPOTLIGHT_ADDON']] : []),
    join(room, 'build-cuda', 'Release', 'spotlight.node'),
    join(room, 'build', 'Release', 'spotlight.node'),
    join(room, 'build', 'spotlight.node'),
    ...levelsFor(cpuFlags()).map((level) => join(carried, `spotlight.${level}.node`)),
  ];
}

let loaded: Addon | undefined;

/** Throws ADDON_MISSING with every path tried and why it failed. */
export function loadAddon(): Addon {
  if (loaded) return loaded;
  const require = createRequire(import.meta.url);
  const tried: string[] = [];
  for (const path of candidates()) {
    if (!existsSync(path)) {
      tried.push(`${path}: not there`);
      continue;
    }
    try {
      loaded = require(path) as Addon;
      return loaded;
    } catch (error) {
      tried.push(`${path}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  throw new EngineError(
    'ADDON_MISSING',
    `the native module is not built: run "npm run build -w cuda". Tried:\n  ${tried.join('\n  ')}`,
  );
}
