// Artifacts of seeded random weights for whatever model an engine has: what the contract and swap tests load.
import type { EngineInfo } from '@spotlight/cuda';
import { writeArtifact } from '@spotlight/cuda/artifact';
import { mix } from '../fakes/kv-store.js';

/** [async] Writes a linear-asym artifact of 128 bits for every layer. */
export async function writeRandomArtifact(
  path: string,
  { model, fingerprint }: EngineInfo,
  seed: number,
): Promise<void> {
  const { headDim, queryHeads, kvHeads, layers } = model;
  const bits = 128;
  let drawn = 0;
  const weights = (heads: number): { shape: number[]; data: Float32Array } => ({
    shape: [heads, headDim, bits],
    // Uniform is as good as normal here: a code is a sign.
    data: Float32Array.from({ length: heads * headDim * bits }, () => mix(seed, ++drawn) / 2 ** 31 - 1),
  });
  const tensors = new Map<string, { shape: number[]; data: Float32Array }>();
  for (let layer = 0; layer < layers; layer++) {
    tensors.set(`layers.${layer}.key.weight`, weights(kvHeads));
    tensors.set(`layers.${layer}.query.weight`, weights(queryHeads));
  }
  await writeArtifact(path, tensors, { model_fingerprint: fingerprint });
}
