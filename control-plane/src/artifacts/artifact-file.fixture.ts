// Artifacts for tests of the registry: small files that are whole and true by every rule, made for one small model unless told
// otherwise. Equal seeds give equal bytes, so a test can name an artifact before it is there.
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ArtifactTensor } from '@spotlight/cuda/artifact';
import { writeArtifact } from '@spotlight/cuda/artifact';
import type { ModelDims } from '../storage/schema.js';

/** Of the model that files are made for unless told otherwise; its dims are below. */
export const FINGERPRINT = 'f1'.repeat(32);
export const DIMS: ModelDims = {
  architecture: 'llama',
  layers: 30,
  queryHeads: 9,
  kvHeads: 3,
  headDim: 64,
  vocabSize: 49_152,
  maxModelLen: 8192,
};

export interface ArtifactFile {
  readonly bytes: Buffer;
  readonly digest: string;
}

export interface ArtifactFileOptions {
  readonly fingerprint?: string;
  /** Of the model's 30. */
  readonly layers?: readonly number[];
  readonly headDim?: number;
  readonly metadata?: Readonly<Record<string, string>>;
}

export async function artifactFile(seed: number, options: ArtifactFileOptions = {}): Promise<ArtifactFile> {
  const { fingerprint = FINGERPRINT, layers = [0], headDim = 64, metadata = {} } = options;
  const tensor = (heads: number): ArtifactTensor => {
    const shape = [heads, headDim, 128];
    return {
      shape,
      data: Float32Array.from({ length: heads * headDim * 128 }, (_, i) => Math.sin(i * seed + 1)),
    };
  };
  const tensors = new Map(
    layers.flatMap((layer): [string, ArtifactTensor][] => [
      [`layers.${layer}.key.weight`, tensor(3)],
      [`layers.${layer}.query.weight`, tensor(9)],
    ]),
  );
  const folder = await mkdtemp(join(tmpdir(), 'spotlight-artifact-file-'));
  try {
    const path = join(folder, 'artifact.safetensors');
    await writeArtifact(path, tensors, { ...metadata, model_fingerprint: fingerprint });
    const bytes = await readFile(path);
    return { bytes, digest: createHash('sha256').update(bytes).digest('hex') };
  } finally {
    await rm(folder, { recursive: true });
  }
}
