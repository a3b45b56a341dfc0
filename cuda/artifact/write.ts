// Writes the project's artifact: float32 tensors stored as BF16, metadata checked against the tensors' shapes.
// BF16 is enough because a code is a sign: the weights' rounding moves only bits that were near zero anyway.
import { EngineError } from '../errors.js';
import { readLayout } from './layout.js';
import { writeSafetensors } from './safetensors.js';
import type { ArtifactLayout } from './layout.js';

export const ARTIFACT_FORMAT = 'spotlight-artifact-1';

export interface ArtifactTensor {
  readonly shape: readonly number[];
  /** Row-major. */
  readonly data: Float32Array;
}

/** BF16 bits of finite float32 values, to nearest with ties to even. */
export function toBf16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(bits, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16);
}

function checkTensor(name: string, { shape, data }: ArtifactTensor): void {
  const size = shape.reduce((product, extent) => product * extent, 1);
  if (size !== data.length)
    throw new EngineError('INVALID_ARGUMENT', `${name}: ${data.length} values where its shape needs ${size}`);
  const at = data.findIndex((value) => !Number.isFinite(value));
  if (at >= 0) throw new EngineError('INVALID_ARGUMENT', `${name}: value ${at} is ${data[at] ?? 0}`);
}

/**
 * Writes tensors as one artifact file at `path` and returns the layout read from their shapes.
 * `metadata` must hold model_fingerprint (64 hex digits), and for the mlp encoder kv_heads, which no tensor shows; format, encoder,
 * bits and head counts are filled in. Throws EngineError INVALID_ARGUMENT naming the tensor or metadata field.
 */
export async function writeArtifact(
  path: string,
  tensors: ReadonlyMap<string, ArtifactTensor>,
  metadata: Readonly<Record<string, string>>,
): Promise<ArtifactLayout> {
  for (const [name, tensor] of tensors) checkTensor(name, tensor);
  const layout = readLayout(new Map([...tensors].map(([name, { shape }]) => [name, shape])), metadata);
  if (!/^[0-9a-f]{64}$/.test(metadata['model_fingerprint'] ?? ''))
    throw new EngineError('INVALID_ARGUMENT', 'metadata.model_fingerprint: must be 64 lower-case hex digits');

  const derived: Record<string, string> = {
    format: ARTIFACT_FORMAT,
    encoder: layout.encoder,
    bits: String(layout.bits),
    head_dim: String(layout.headDim),
    query_heads: String(layout.queryHeads),
    kv_heads: String(layout.kvHeads),
  };
  for (const [key, value] of Object.entries(derived)) {
    const given = metadata[key];
    if (given !== undefined && given !== value)
      throw new EngineError('INVALID_ARGUMENT', `metadata.${key}: ${given} where the tensors say ${value}`);
  }
  await writeSafetensors(path, {
    metadata: { ...metadata, ...derived },
    tensors: new Map(
      [...tensors].map(([name, { shape, data }]) => {
        const words = toBf16(data);
        return [name, { dtype: 'BF16', shape, data: Buffer.from(words.buffer, 0, words.byteLength) }];
      }),
    ),
  });
  return layout;
}
