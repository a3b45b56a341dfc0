// What an artifact's tensor names and shapes say: encoder, bits, heads, layers. Pure, so that writing and importing agree.
// Shapes are the authority; metadata only adds what they cannot show (an mlp encoder's KV heads).
import { EngineError } from '../errors.js';

export interface ArtifactLayout {
  readonly encoder: 'linear-asym' | 'mlp';
  readonly bits: number;
  readonly headDim: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  /** Layers that carry codes, ascending. */
  readonly layers: readonly number[];
}

type Shapes = ReadonlyMap<string, readonly number[]>;

const NAME = /^layers\.(0|[1-9]\d{0,3})\.(key\.weight|query\.weight|mlp\.(?:w1|b1|w2|b2))$/;
const PARTS = {
  'linear-asym': ['key.weight', 'query.weight'],
  mlp: ['mlp.w1', 'mlp.b1', 'mlp.w2', 'mlp.b2'],
} as const;

function refuse(what: string): EngineError {
  return new EngineError('INVALID_ARGUMENT', what);
}

function expectShape(shapes: Shapes, name: string, wanted: readonly number[]): void {
  const shape = shapes.get(name);
  if (shape === undefined) throw refuse(`${name}: missing`);
  if (shape.length !== wanted.length || shape.some((extent, i) => extent !== wanted[i]))
    throw refuse(`${name}: shape [${shape.join(', ')}] where [${wanted.join(', ')}] is due`);
}

function shapeOf(shapes: Shapes, name: string, rank: number): readonly number[] {
  const shape = shapes.get(name);
  if (shape === undefined) throw refuse(`${name}: missing`);
  if (shape.length !== rank || shape.some((extent) => extent < 1))
    throw refuse(`${name}: shape [${shape.join(', ')}] where ${rank} extents above zero are due`);
  return shape;
}

function layersOf(shapes: Shapes): { layers: number[]; encoder: ArtifactLayout['encoder'] } {
  const layers = new Set<number>();
  const encoders = new Set<ArtifactLayout['encoder']>();
  for (const name of shapes.keys()) {
    const match = NAME.exec(name);
    if (match === null) throw refuse(`${name}: not a tensor of an artifact`);
    layers.add(Number(match[1]));
    encoders.add((match[2] ?? '').startsWith('mlp') ? 'mlp' : 'linear-asym');
  }
  const [encoder, other] = encoders;
  if (encoder === undefined) throw refuse('tensors: none given');
  if (other !== undefined) throw refuse('tensors: key/query and mlp weights in one artifact');
  return { layers: [...layers].sort((a, b) => a - b), encoder };
}

/** Reads the layout from tensor shapes. Throws EngineError INVALID_ARGUMENT naming the tensor that is missing, unknown or misshapen. */
export function readLayout(shapes: Shapes, metadata: Readonly<Record<string, string>>): ArtifactLayout {
  const { layers, encoder } = layersOf(shapes);
  const first = `layers.${layers[0] ?? 0}`;
  const named = (layer: number, part: number): string => `layers.${layer}.${PARTS[encoder][part] ?? ''}`;
  let layout: ArtifactLayout;
  if (encoder === 'linear-asym') {
    const [kvHeads = 0, headDim = 0, bits = 0] = shapeOf(shapes, `${first}.key.weight`, 3);
    const [queryHeads = 0] = shapeOf(shapes, `${first}.query.weight`, 3);
    layout = { encoder, bits, headDim, queryHeads, kvHeads, layers };
    for (const layer of layers) {
      expectShape(shapes, named(layer, 0), [kvHeads, headDim, bits]);
      expectShape(shapes, named(layer, 1), [queryHeads, headDim, bits]);
    }
  } else {
    const [queryHeads = 0, headDim = 0, hidden = 0] = shapeOf(shapes, `${first}.mlp.w1`, 3);
    const [, , bits = 0] = shapeOf(shapes, `${first}.mlp.w2`, 3);
    const kvHeads = Number(metadata['kv_heads'] ?? Number.NaN);
    if (!Number.isInteger(kvHeads) || kvHeads < 1)
      throw refuse('metadata.kv_heads: an mlp artifact must say how many KV heads its model has');
    layout = { encoder, bits, headDim, queryHeads, kvHeads, layers };
    for (const layer of layers) {
      expectShape(shapes, named(layer, 0), [queryHeads, headDim, hidden]);
      expectShape(shapes, named(layer, 1), [queryHeads, hidden]);
      expectShape(shapes, named(layer, 2), [queryHeads, hidden, bits]);
      expectShape(shapes, named(layer, 3), [queryHeads, bits]);
    }
  }
  if (layout.queryHeads % layout.kvHeads !== 0)
    throw refuse(`tensors: ${layout.queryHeads} query heads do not divide by ${layout.kvHeads} KV heads`);
  if (layout.bits % 32 !== 0) throw refuse(`tensors: ${layout.bits} bits a code; must be a multiple of 32`);
  return layout;
}
