// What differs between two artifacts: metadata by key, and weights by layer, whose distance is relative so that layers of other
// scales compare: a code is a sign, so what counts is direction.
import { EngineError } from '../errors.js';
import { toFloat32 } from './import.js';
import { readLayout } from './layout.js';
import type { ArtifactLayout } from './layout.js';
import { readSafetensors } from './safetensors.js';
import type { SafetensorsFile } from './safetensors.js';

export interface LayerComparison {
  readonly layer: number;
  /** In both, or which of the two has it. */
  readonly presence: 'both' | 'first' | 'second';
  /** |a - b| / |a| over all values of the layer; absent unless both have it in one shape. */
  readonly distance?: number;
  /** a·b / (|a| |b|) */
  readonly cosine?: number;
}

export interface ArtifactComparison {
  /** Encoder, bits, heads and widths, where they differ. */
  readonly layout: readonly { readonly field: string; readonly first: string; readonly second: string }[];
  readonly metadata: readonly { readonly key: string; readonly first?: string; readonly second?: string }[];
  readonly layers: readonly LayerComparison[];
  /** Whether every weight is the same. */
  readonly sameWeights: boolean;
}

const FIELDS = ['encoder', 'bits', 'headDim', 'queryHeads', 'kvHeads'] as const;

async function read(path: string): Promise<{ file: SafetensorsFile; layout: ArtifactLayout }> {
  const file = await readSafetensors(path);
  try {
    const shapes = new Map([...file.tensors].map(([name, { shape }]) => [name, shape]));
    return { file, layout: readLayout(shapes, file.metadata) };
  } catch (error) {
    throw new EngineError('ARTIFACT_CORRUPT', `${path}: ${(error as Error).message}`, { cause: error });
  }
}

function compareLayer(layer: number, first: SafetensorsFile, second: SafetensorsFile): LayerComparison {
  let [difference, ours, theirs, product] = [0, 0, 0, 0];
  for (const [name, tensor] of first.tensors) {
    if (!name.startsWith(`layers.${layer}.`)) continue;
    const other = second.tensors.get(name);
    if (other?.shape.join() !== tensor.shape.join()) return { layer, presence: 'both' };
    const b = toFloat32(other);
    toFloat32(tensor).forEach((value, i) => {
      const twin = b[i] ?? 0;
      difference += (value - twin) ** 2;
      ours += value ** 2;
      theirs += twin ** 2;
      product += value * twin;
    });
  }
  const distance = difference === 0 ? 0 : Math.sqrt(difference / Math.max(ours, Number.MIN_VALUE));
  const cosine = product / Math.sqrt(Math.max(ours * theirs, Number.MIN_VALUE));
  return { layer, presence: 'both', distance, cosine };
}

/** [async] Throws EngineError ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT. */
export async function compareArtifacts(first: string, second: string): Promise<ArtifactComparison> {
  const [a, b] = [await read(first), await read(second)];
  const layout = FIELDS.filter((field) => a.layout[field] !== b.layout[field]).map((field) => ({
    field,
    first: String(a.layout[field]),
    second: String(b.layout[field]),
  }));
  const keys = [...new Set([...Object.keys(a.file.metadata), ...Object.keys(b.file.metadata)])].sort();
  const metadata = keys.flatMap((key) => {
    const [ours, theirs] = [a.file.metadata[key], b.file.metadata[key]];
    if (ours === theirs) return [];
    return [
      {
        key,
        ...(ours === undefined ? {} : { first: ours }),
        ...(theirs === undefined ? {} : { second: theirs }),
      },
    ];
  });
  const all = [...new Set([...a.layout.layers, ...b.layout.layers])].sort((x, y) => x - y);
  const layers = all.map((layer): LayerComparison => {
    if (!b.layout.layers.includes(layer)) return { layer, presence: 'first' };
    if (!a.layout.layers.includes(layer)) return { layer, presence: 'second' };
    return compareLayer(layer, a.file, b.file);
  });
  return { layout, metadata, layers, sameWeights: layers.every(({ distance }) => distance === 0) };
}
