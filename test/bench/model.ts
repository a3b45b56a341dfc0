// Opens a model for benchmarks and tests that drive the native engine themselves: weights, tokenizer and the artifact made for it.
// The default is what `npm start` serves.
import { createEngine, DEFAULT_ATTENTION, inspectArtifact } from '@spotlight/cuda';
import type { AttentionSettings, Engine } from '@spotlight/cuda';
import { findArtifact } from '@spotlight/worker/artifact/find.js';
import { defaultCacheFolder } from '@spotlight/worker/models/cache-folder.js';
import { DEFAULT_MODEL } from '@spotlight/worker/models/default-model.js';
import { resolveModel } from '@spotlight/worker/models/resolve.js';
import { definitionFromFolder } from '@spotlight/worker/tokenizer/from-folder.js';
import { definitionFromGguf } from '@spotlight/worker/tokenizer/from-gguf.js';
import { Tokenizer } from '@spotlight/worker/tokenizer/tokenizer.js';

export interface OpenOptions {
  readonly model?: string;
  readonly artifact?: string;
  readonly device?: 'cpu' | 'cuda';
  readonly threads?: number;
  readonly blocks: number;
  /** Default 4. */
  readonly maxSequences?: number;
  readonly maxBatchTokens?: number;
  /** Over the default settings. */
  readonly attention: Partial<AttentionSettings>;
  readonly log: (message: string) => void;
}

export interface OpenModel {
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
  /** File or folder of the weights. */
  readonly path: string;
}

export async function openModel(options: OpenOptions): Promise<OpenModel> {
  const resolved = await resolveModel(options.model ?? DEFAULT_MODEL.id, {
    cache: process.env['SPOTLIGHT_CACHE'] ?? defaultCacheFolder(),
    hubUrl: process.env['HF_ENDPOINT'] ?? 'https://huggingface.co',
    hubToken: process.env['HF_TOKEN'],
    say: options.log,
  });
  if (resolved.source.kind === 'dummy')
    throw new Error('a dummy model has no tokenizer: give a file, a folder or an id');
  const { path } = resolved.source;
  const { device, threads, blocks, maxSequences = 4, maxBatchTokens } = options;
  const engine = await createEngine({
    model: resolved.source,
    ...(device && { device }),
    ...(threads && { threads }),
    ...(maxBatchTokens && { maxBatchTokens }),
    blocks,
    maxSequences,
    attention: { ...DEFAULT_ATTENTION, ...options.attention },
  });
  const { fingerprint, model } = engine.info;
  const setting = options.artifact ?? 'auto';
  const artifact = await findArtifact({ setting, fingerprint, inspect: inspectArtifact });
  if (artifact.path === undefined)
    throw new Error(`no artifact for ${path}: ${artifact.reason}; give one by --artifact`);
  await engine.loadArtifact(0, artifact.path);
  const metadata = engine.tokenizerMetadata();
  const definition =
    metadata === undefined ? await definitionFromFolder(path) : definitionFromGguf(metadata, path);
  return { engine, path, tokenizer: await Tokenizer.create(definition, model.eosTokenIds) };
}
