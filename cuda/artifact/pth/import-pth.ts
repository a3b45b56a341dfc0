// The paper authors' checkpoint (.pth: a flat list W1, b1, W2, b2 a layer, every layer) into the project's artifact, its codes a query
// head served as they are (encoder mlp). The file is untrusted: nothing in it is executed, and every size is checked.
import { readFile } from 'node:fs/promises';
import { EngineError } from '../../errors.js';
import { fromHalf } from '../half.js';
import type { ArtifactLayout } from '../layout.js';
import type { ArtifactTensor } from '../write.js';
import { writeArtifact } from '../write.js';
import type { TensorView } from './unpickle.js';
import { unpickleTensors } from './unpickle.js';
import { readZip } from './zip.js';

const PARTS = ['w1', 'b1', 'w2', 'b2'] as const;
const MOST_VALUES = 2 ** 28;

function corrupt(what: string): EngineError {
  return new EngineError('ARTIFACT_CORRUPT', what);
}

const WIDTH = { F32: 4, F16: 2, BF16: 2 } as const;
const HALVES = new DataView(new ArrayBuffer(4));

function valueAt(data: Buffer, dtype: TensorView['dtype'], index: number): number {
  if (dtype === 'F32') return data.readFloatLE(4 * index);
  const word = data.readUInt16LE(2 * index);
  if (dtype === 'F16') return fromHalf(word);
  HALVES.setUint32(0, word << 16);
  return HALVES.getFloat32(0);
}

/** A tensor's values in row-major order, whatever its strides. */
function gather(name: string, view: TensorView, data: Buffer | undefined): ArtifactTensor {
  const { dtype, shape, stride, offset, elements } = view;
  if (data === undefined) throw corrupt(`${name}: its storage ${view.storage} is not in the file`);
  if (data.length !== elements * WIDTH[dtype])
    throw corrupt(`${name}: a storage of ${data.length} bytes where ${elements} values of ${dtype} are due`);
  const count = shape.reduce((product, extent) => product * extent, 1);
  const last = shape.reduce((at, extent, i) => at + (extent - 1) * (stride[i] ?? 0), offset);
  if (!(count >= 1 && count <= MOST_VALUES)) throw corrupt(`${name}: shape [${shape.join(', ')}]`);
  if (!(last < elements)) throw corrupt(`${name}: reaches value ${last} of a storage of ${elements}`);
  const values = new Float32Array(count);
  if (
    shape.every(
      (_, axis) => stride[axis] === shape.slice(axis + 1).reduce((size, extent) => size * extent, 1),
    )
  ) {
    for (let i = 0; i < count; i++) values[i] = valueAt(data, dtype, offset + i);
    return { shape, data: values };
  }
  const at = shape.map(() => 0);
  for (let i = 0; i < count; i++) {
    values[i] = valueAt(
      data,
      dtype,
      at.reduce((sum, index, axis) => sum + index * (stride[axis] ?? 0), offset),
    );
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at[axis] = (at[axis] ?? 0) + 1;
      if ((at[axis] ?? 0) < (shape[axis] ?? 0)) break;
      at[axis] = 0;
    }
  }
  return { shape, data: values };
}

/** (1, heads, 1, width) biases and (1, heads, in, out) weights as the artifact has them: without extents that are always 1. */
function squeeze(name: string, part: (typeof PARTS)[number], tensor: ArtifactTensor): ArtifactTensor {
  const [one, heads = 0, rows = 0, columns = 0] = tensor.shape;
  if (tensor.shape.length !== 4 || one !== 1 || (part.startsWith('b') && rows !== 1))
    throw corrupt(
      `${name}: shape [${tensor.shape.join(', ')}], due is [1, heads, ${part.startsWith('b') ? '1' : 'in'}, out]`,
    );
  return { shape: part.startsWith('b') ? [heads, columns] : [heads, rows, columns], data: tensor.data };
}

/** Tensors of a .pth by the artifact's names. Throws EngineError ARTIFACT_CORRUPT. */
export function readPth(file: Buffer): Map<string, ArtifactTensor> {
  const entries = readZip(file);
  const pickles = [...entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  const [pickle] = pickles;
  if (pickle === undefined || pickles.length > 1)
    throw corrupt('not what torch.save writes: one data.pkl in one folder is due');
  const root = pickle.slice(0, -'data.pkl'.length);
  const order = entries.get(`${root}byteorder`);
  if (order !== undefined && order.toString('utf8') !== 'little')
    throw corrupt('saved on a big-endian machine: not supported');
  const views = unpickleTensors(entries.get(pickle) ?? Buffer.alloc(0));
  if (views.length === 0 || views.length % PARTS.length !== 0)
    throw corrupt(`a list of ${views.length} tensors; the authors' have four a layer (W1, b1, W2, b2)`);
  const tensors = new Map<string, ArtifactTensor>();
  views.forEach((view, i) => {
    const part = PARTS[i % PARTS.length] ?? 'w1';
    const name = `layers.${Math.floor(i / PARTS.length)}.mlp.${part}`;
    tensors.set(name, squeeze(name, part, gather(name, view, entries.get(`${root}data/${view.storage}`))));
  });
  return tensors;
}

export interface PthImport {
  readonly input: string;
  readonly output: string;
  /** Of the model the checkpoint was trained for; its shapes must agree. */
  readonly model: {
    readonly fingerprint: string;
    readonly layers: number;
    readonly queryHeads: number;
    readonly kvHeads: number;
    readonly headDim: number;
  };
  /** What else to record: recipe, corpus, source. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** [async] Writes `output`. Throws EngineError ARTIFACT_NOT_FOUND, ARTIFACT_CORRUPT, or ARTIFACT_MISMATCH for another model's. */
export async function importPth({ input, output, model, metadata }: PthImport): Promise<ArtifactLayout> {
  const file = await readFile(input).catch((error: unknown) => {
    throw new EngineError('ARTIFACT_NOT_FOUND', `${input}: cannot be read`, { cause: error });
  });
  let tensors: Map<string, ArtifactTensor>;
  try {
    tensors = readPth(file);
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    throw new EngineError(error.code, `${input}: ${error.message}`, { cause: error });
  }
  const layers = tensors.size / PARTS.length;
  const [queryHeads = 0, headDim = 0] = tensors.get('layers.0.mlp.w1')?.shape ?? [];
  for (const [what, theirs, ours] of [
    ['layers', layers, model.layers],
    ['query heads', queryHeads, model.queryHeads],
    ['values a head', headDim, model.headDim],
  ] as const)
    if (theirs !== ours)
      throw new EngineError(
        'ARTIFACT_MISMATCH',
        `${input}: made for ${theirs} ${what}, the model has ${ours}`,
      );
  return writeArtifact(output, tensors, {
    ...metadata,
    kv_heads: String(model.kvHeads),
    model_fingerprint: model.fingerprint,
    dense_layers: '',
  });
}
