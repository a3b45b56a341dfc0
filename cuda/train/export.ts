// A2: a training's weights as an artifact's tensors. The state keeps one run of values a head; an mlp's runs hold four tensors
// each, which the artifact wants apart.
import type { ArtifactLayout } from '../artifact/layout.js';
import type { ArtifactTensor } from '../artifact/write.js';
import { writeArtifact } from '../artifact/write.js';
import type { Recipe, TrainerInfo } from './types.js';

function linearLayer(
  tensors: Map<string, ArtifactTensor>,
  name: string,
  values: Float32Array,
  info: TrainerInfo,
  bits: number,
): void {
  const { queryHeads, kvHeads, headDim } = info.model;
  const keys = kvHeads * info.headSize;
  tensors.set(`${name}.key.weight`, { shape: [kvHeads, headDim, bits], data: values.subarray(0, keys) });
  tensors.set(`${name}.query.weight`, { shape: [queryHeads, headDim, bits], data: values.subarray(keys) });
}

function mlpLayer(
  tensors: Map<string, ArtifactTensor>,
  name: string,
  values: Float32Array,
  info: TrainerInfo,
  { bits, hidden }: Recipe,
): void {
  const { queryHeads, headDim } = info.model;
  let from = 0;
  for (const [part, shape] of [
    ['w1', [headDim, hidden]],
    ['b1', [hidden]],
    ['w2', [hidden, bits]],
    ['b2', [bits]],
  ] as const) {
    const size = shape.reduce((product: number, extent) => product * extent, 1);
    const data = new Float32Array(queryHeads * size);
    for (let head = 0; head < queryHeads; head++) {
      const at = head * info.headSize + from;
      data.set(values.subarray(at, at + size), head * size);
    }
    tensors.set(`${name}.mlp.${part}`, { shape: [queryHeads, ...shape], data });
    from += size;
  }
}

/** A state's weights by the artifact's tensor names. */
export function artifactTensors(
  info: TrainerInfo,
  recipe: Recipe,
  weights: Float32Array,
): Map<string, ArtifactTensor> {
  const tensors = new Map<string, ArtifactTensor>();
  info.layers.forEach((layer, i) => {
    const values = weights.subarray(i * info.layerSize, (i + 1) * info.layerSize);
    if (recipe.encoder === 'mlp') mlpLayer(tensors, `layers.${layer}`, values, info, recipe);
    else linearLayer(tensors, `layers.${layer}`, values, info, recipe.bits);
  });
  return tensors;
}

/**
 * Writes a training's weights as an artifact file. Equal weights and metadata give equal bytes, so nothing that differs from run to
 * run, such as a date, belongs into `metadata`. Throws EngineError INVALID_ARGUMENT for weights that are no numbers.
 */
export function exportArtifact(
  path: string,
  info: TrainerInfo,
  recipe: Recipe,
  weights: Float32Array,
  metadata: Readonly<Record<string, string>>,
): Promise<ArtifactLayout> {
  return writeArtifact(path, artifactTensors(info, recipe, weights), {
    ...metadata,
    model_fingerprint: info.fingerprint,
    kv_heads: String(info.model.kvHeads),
    budget: String(recipe.budget),
    dense_layers: recipe.denseLayers.join(' '),
    recipe: JSON.stringify(recipe),
  });
}
