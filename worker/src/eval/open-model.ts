// Opens a model for what drives the native engine itself (evaluation, benchmarks, tests): weights, tokenizer and the artifact made
// for it. The default is what `npm start` serves.
import { createEngine, DEFAULT_ATTENTION, inspectArtifact } from '@spotlight/cuda';
import type { ArtifactInfo, AttentionSettings, Engine } from '@spotlight/cuda';
import { findArtifact } from '../artifact/find.js';
import { defaultCacheFolder } from '../models/cache-folder.js';
import { DEFAULT_MODEL } from '../models/default-model.js';
import { resolveModel } from '../models/resolve.js';
import { definitionFromFolder } from '../tokenizer/from-folder.js';
import { definitionFromGguf } from '../tokenizer/from-gguf.js';
import { Tokenizer } from '../tokenizer/tokenizer.js';

export interface OpenOptions {
  readonly model?: string;
  /** A file; "auto" (the default) takes what ships for the model and throws when nothing does, "none" goes without. */
  readonly artifact?: string;
  readonly device?: 'cpu' | 'cuda';
  readonly threads?: number;
  readonly blocks: number;
  /** Default 4. */
  readonly maxSequences?: number;
  readonly maxBatchTokens?: number;
  /** Whether sequences may name evaluation methods. Default false. */
  readonly selectors?: boolean;
  /** Over the default settings. */
  readonly attention: Partial<AttentionSettings>;
  readonly log: (message: string) => void;
}

export interface OpenModel {
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
  /** In slot 0. */
  readonly artifact: ArtifactInfo | undefined;
  readonly artifactPath: string | undefined;
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
  const { device, threads, blocks, maxSequences = 4, maxBatchTokens, selectors } = options;
  const engine = await createEngine({
    model: resolved.source,
    ...(device && { device }),
    ...(threads && { threads }),
    ...(maxBatchTokens && { maxBatchTokens }),
    ...(selectors && { selectors }),
    blocks,
    maxSequences,
    attention: { ...DEFAULT_ATTENTION, ...options.attention },
  });
  const { fingerprint, model } = engine.info;
  const setting = options.artifact ?? 'auto';
  const found = await findArtifact({ setting, fingerprint, inspect: inspectArtifact });
  if (found.path === undefined && setting !== 'none')
    throw new Error(`no artifact for ${path}: ${found.reason}; give one by --artifact`);
  const artifact = found.path === undefined ? undefined : await engine.loadArtifact(0, found.path);
  const metadata = engine.tokenizerMetadata();
  const definition =
    metadata === undefined ? await definitionFromFolder(path) : definitionFromGguf(metadata, path);
  return {
    engine,
    path,
    artifact,
    artifactPath: found.path,
    tokenizer: await Tokenizer.create(definition, model.eosTokenIds),
  };
}
