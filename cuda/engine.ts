// The Engine of types.ts over the addon's object: packs, unpacks, and turns what the addon throws into EngineError.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { loadAddon } from './addon.js';
import type { NativeEngine } from './addon.js';
import { EngineError, toEngineError } from './errors.js';
import { packBatch, unpackResult } from './pack.js';
import type {
  ArtifactInfo,
  AttentionSettings,
  Batch,
  BlockId,
  Devices,
  Engine,
  EngineInfo,
  EngineOptions,
  EngineStats,
  SelectorInfo,
  SequenceId,
  SequenceOptions,
  SlotId,
  StepId,
  StepResult,
  TokenizerMetadata,
} from './types.js';

function wrap<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw toEngineError(error);
  }
}

async function wrapAsync<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw toEngineError(error);
  }
}

/** SHA-256 of a file, streamed: an artifact's identity. Throws ARTIFACT_NOT_FOUND when it cannot be read. */
async function fileDigest(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    await pipeline(createReadStream(path), hash);
  } catch (error) {
    throw new EngineError('ARTIFACT_NOT_FOUND', `${path}: ${(error as Error).message}`, { cause: error });
  }
  return hash.digest('hex');
}

class NativeBackedEngine implements Engine {
  readonly artifacts: (ArtifactInfo | undefined)[] = [undefined, undefined];
  private disposing: Promise<void> | undefined;

  constructor(
    private readonly native: NativeEngine,
    readonly info: EngineInfo,
  ) {}

  setAttention(settings: AttentionSettings): void {
    wrap(() => {
      this.native.setAttention(settings);
    });
  }

  openSequence(options: SequenceOptions): SequenceId {
    const { logitBias, ...sampling } = options.sampling;
    const bias = logitBias && {
      biasTokens: [...logitBias.keys()],
      biasValues: Float32Array.from(logitBias.values()),
    };
    return wrap(() =>
      this.native.openSequence({ ...options, sampling: { ...sampling, ...bias } }),
    ) as SequenceId;
  }

  submit(batch: Batch): StepId {
    return wrap(() => this.native.submit(packBatch(batch))) as StepId;
  }

  async collect(): Promise<StepResult> {
    const packed = await wrapAsync(() => this.native.collect());
    return unpackResult(packed, this.info.model.layers, this.info.model.kvHeads);
  }

  async loadArtifact(slot: SlotId, path: string): Promise<ArtifactInfo> {
    const digest = await fileDigest(path);
    const native = await wrapAsync(() => this.native.loadArtifact(slot, path, this.info.fingerprint));
    const info = { digest, ...native };
    this.artifacts[slot] = info;
    return info;
  }

  async unloadArtifact(slot: SlotId): Promise<void> {
    await wrapAsync(() => this.native.unloadArtifact(slot));
    this.artifacts[slot] = undefined;
  }

  async rehash(slot: SlotId, blocks: readonly BlockId[], filled: readonly number[]): Promise<number> {
    return wrapAsync(() => this.native.rehash(slot, blocks, filled));
  }

  async fill(blocks: readonly BlockId[], seed: number): Promise<void> {
    await wrapAsync(() => this.native.fill(blocks, seed));
  }

  stats(): EngineStats {
    return wrap(() => this.native.stats());
  }

  tokenizerMetadata(): TokenizerMetadata | undefined {
    return wrap(() => this.native.tokenizer());
  }

  dispose(): Promise<void> {
    this.disposing ??= wrapAsync(() => this.native.dispose());
    return this.disposing;
  }
}

/**
 * Opens a model and starts an engine. Rejects with MODEL_NOT_FOUND, MODEL_CORRUPT, MODEL_UNSUPPORTED, INVALID_ARGUMENT naming
 * the option, OUT_OF_MEMORY, or ADDON_MISSING.
 */
export async function createEngine(options: EngineOptions): Promise<Engine> {
  const addon = loadAddon();
  const native = await wrapAsync(() => addon.createEngine(options));
  const { fingerprintText, ...info } = native.info();
  const fingerprint = createHash('sha256').update(fingerprintText).digest('hex');
  return new NativeBackedEngine(native, { ...info, fingerprint });
}

/** What an artifact file says of itself, fully checked. Rejects with ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT. */
export async function inspectArtifact(path: string): Promise<ArtifactInfo> {
  const addon = loadAddon();
  const digest = await fileDigest(path);
  return { digest, ...(await wrapAsync(() => addon.inspectArtifact(path))) };
}

/** What each evaluation method does, in the order of tables. Throws ADDON_MISSING. */
export function selectors(): readonly SelectorInfo[] {
  return loadAddon().selectors();
}

/**
 * The GPUs of this machine and what is missing to use one. Makes no context on any of them. The first call takes up to a second,
 * off the JS thread: it loads the driver and the libraries. Rejects with ADDON_MISSING alone: a machine without GPU has no devices.
 */
export async function devices(): Promise<Devices> {
  const addon = loadAddon();
  return wrapAsync(() => addon.devices());
}
