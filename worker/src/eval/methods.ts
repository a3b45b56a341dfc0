// What `--methods` names, as attention settings and as bytes. Pure. A method is a backend, with or without the block tail; budgets
// are tokens a KV head, so that every row of a table can say what a decode step reads and which exact top-k would read as much.
import { DEFAULT_ATTENTION } from '@spotlight/cuda';
import type {
  AttentionSettings,
  BackendName,
  LayerSettings,
  ModelInfo,
  SelectorInfo,
  Tail,
} from '@spotlight/cuda';
import type { Recommendation } from '../artifact/recommendation.js';
import { settingsOver } from '../artifact/recommendation.js';

const TAIL = '+tail';
/** Spotlight by the settings that its artifact recommends. */
export const BY_RECOMMENDATION = 'spotlight+recommended';
/** Dense attention, every selector, Spotlight. */
const ALL = 'all';
const BLOCK = 64;
const HALF_BYTES = 2;

export interface Method {
  /** As in tables: the backend, "+tail" where it is on. */
  readonly name: string;
  readonly backend: BackendName;
  readonly tail: boolean;
  /** Of the index it reads, a token and KV head; a method that evicts keeps it for the tokens it has. */
  readonly indexBits: number;
  readonly evicts: boolean;
  /** Reads every key to choose: the keys of what it chose are read already. */
  readonly readsKeys: boolean;
  /** Layers it attends to densely whatever is asked, for want of codes. */
  readonly codeless?: readonly number[];
  /** These settings decide, no budget of the command line. */
  readonly recommended?: Recommendation;
}

export class MethodError extends Error {
  override readonly name = 'MethodError';
}

export interface MethodFacts {
  readonly model: Pick<ModelInfo, 'headDim' | 'layers'>;
  readonly selectors: readonly SelectorInfo[];
  /** Code bits a token and KV head of the artifact; undefined without one. */
  readonly codeBits: number | undefined;
  /** Layers that have codes; absent: all. */
  readonly codeLayers?: readonly number[] | undefined;
  readonly recommended?: Recommendation | undefined;
}

/** @throws MethodError naming what there is */
export function parseMethods(names: readonly string[], facts: MethodFacts): Method[] {
  const methods = spelledOut(names, facts.selectors).map((name) => parseMethod(name, facts));
  return methods.filter(({ name }, i) => methods.findIndex((other) => other.name === name) === i);
}

function parseMethod(name: string, facts: MethodFacts): Method {
  const { model, selectors, codeBits, codeLayers, recommended } = facts;
  const tail = name.endsWith(TAIL);
  const base = tail ? name.slice(0, -TAIL.length) : name;
  const none = { name, tail, indexBits: 0, evicts: false, readsKeys: false };
  if (name === 'dense') return { ...none, backend: 'dense' };
  if (base === 'spotlight' || name === BY_RECOMMENDATION) {
    if (codeBits === undefined)
      throw new MethodError('spotlight needs an artifact for this model; give one by --artifact');
    const all = Array.from({ length: model.layers }, (_, layer) => layer);
    const codeless = codeLayers === undefined ? [] : all.filter((layer) => !codeLayers.includes(layer));
    if (name === BY_RECOMMENDATION) {
      if (recommended === undefined)
        throw new MethodError(
          `${name}: the artifact recommends no settings; --calibrate makes one of the same weights that does`,
        );
      const own = recommended.tail !== 'none';
      return { ...none, tail: own, backend: 'spotlight', indexBits: codeBits, codeless, recommended };
    }
    return { ...none, backend: 'spotlight', indexBits: codeBits, codeless };
  }
  const info = selectors.find((selector) => selector.name === base);
  if (info === undefined) {
    const known = ['dense', 'spotlight', ...selectors.map((selector) => selector.name)];
    throw new MethodError(`no method is called "${name}"; there are ${known.join(', ')}, some with ${TAIL}`);
  }
  if (tail && !info.tail)
    throw new MethodError(
      `${base} has no tail: ${info.evicts ? 'what it evicts is gone' : 'its weights speak for the rest'}`,
    );
  // The oracle is the bound: its index counts for nothing.
  const indexBits = base === 'oracle' ? 0 : info.indexBits + info.indexBitsPerDim * model.headDim;
  const readsKeys = base !== 'oracle' && indexBits >= 16 * model.headDim;
  return { name, tail, backend: info.name, indexBits, evicts: info.evicts, readsKeys };
}

/** The names with "+tail" added for those that can have it. */
export function withTails(names: readonly string[], selectors: readonly SelectorInfo[]): string[] {
  const can = (name: string): boolean =>
    name === 'spotlight' || selectors.some((selector) => selector.name === name && selector.tail);
  return spelledOut(names, selectors).flatMap((name) =>
    can(name) && !names.includes(name + TAIL) ? [name, name + TAIL] : [name],
  );
}

/** "all" as what it stands for. */
function spelledOut(names: readonly string[], selectors: readonly SelectorInfo[]): string[] {
  const every = ['dense', ...selectors.map(({ name }) => name), 'spotlight'];
  return names.flatMap((name) => (name === ALL ? every : [name]));
}

export interface BudgetOptions {
  /** Leading layers that attend densely. */
  readonly denseLayers: number;
  readonly tailFrom: number;
  readonly sink: number;
  readonly recent: number;
}

/** Tokens a KV head of a context: the share of it, at least `least`. */
export function tokensOf(budget: number, context: number, least: number): number {
  return Math.min(context, Math.max(least, 1, Math.floor(budget * context * (1 + 1e-9))));
}

/** Settings under which every query retrieves `tokens` a KV head, whatever its context; those recommended as they are. */
export function settingsOf(
  {
    backend,
    tail,
    codeless = [],
    recommended,
  }: Pick<Method, 'backend' | 'tail' | 'codeless' | 'recommended'>,
  tokens: number,
  { denseLayers, tailFrom, sink, recent }: BudgetOptions,
): Partial<AttentionSettings> {
  const dense = (layers: readonly number[]): Record<number, LayerSettings> =>
    Object.fromEntries(layers.map((layer) => [layer, { mode: 'dense' }]));
  if (recommended !== undefined) {
    const settings = settingsOver(DEFAULT_ATTENTION, recommended);
    return { ...settings, backend, crossover: 0, layers: { ...settings.layers, ...dense(codeless) } };
  }
  const mode: Tail = tail ? 'block-mean' : 'none';
  return {
    backend,
    fraction: 1e-6,
    minTokens: tokens,
    sink,
    recent,
    tail: mode,
    tailFrom,
    crossover: 0,
    layers: dense([...Array.from({ length: denseLayers }, (_, layer) => layer), ...codeless]),
  };
}

export interface Reading {
  /** Rows of K and V read a KV head, mean. */
  readonly rows: number;
  /** Of a whole decode step of one sequence: index, keys, values and summaries. */
  readonly bytes: number;
}

type LayerMode = LayerSettings['mode'];
type Shape = Pick<ModelInfo, 'layers' | 'kvHeads' | 'headDim'>;

/** How a layer attends by these settings. */
export function modeOf(layer: number, { tail, tailFrom = 0, layers }: Partial<AttentionSettings>): LayerMode {
  const own = layers?.[layer]?.mode;
  if (own === 'sparse-tail' && tail === 'none') return 'sparse';
  return own ?? (tail === 'block-mean' && layer >= tailFrom ? 'sparse-tail' : 'sparse');
}

/** Mean over the layers of the share of the context they read; 1 where a layer is dense. */
export function shareOf(attention: Partial<AttentionSettings>, layers: number): number {
  let sum = 0;
  for (let layer = 0; layer < layers; layer++)
    sum +=
      modeOf(layer, attention) === 'dense'
        ? 1
        : (attention.layers?.[layer]?.fraction ?? attention.fraction ?? 1);
  return sum / layers;
}

/**
 * @param chosen rows that a KV head which selects has read, as counted; undefined: nothing was sparse
 * @param attention the method's settings
 */
export function reading(
  method: Method,
  chosen: number | undefined,
  context: number,
  model: Shape,
  attention: Partial<AttentionSettings>,
): Reading {
  const row = 2 * model.headDim * HALF_BYTES;
  if (method.backend === 'dense' || chosen === undefined)
    return { rows: context, bytes: model.layers * model.kvHeads * context * row };
  const reads = method.tail || method.backend === 'spotlight';
  const open = reads ? openBlock(method.backend, attention.recent ?? 0) : 0;
  const rows = Math.min(context, chosen + open);
  const index = ((method.evicts ? chosen : context) * method.indexBits) / 8;
  const gathered = method.readsKeys ? (rows * row) / 2 : rows * row;
  let bytes = 0;
  for (let layer = 0; layer < model.layers; layer++) {
    const mode = modeOf(layer, attention);
    const tail = mode === 'sparse-tail' ? Math.floor(context / BLOCK) * row : 0;
    bytes += model.kvHeads * (mode === 'dense' ? context * row : index + gathered + tail);
  }
  return { rows, bytes };
}

/** Tokens of the open block, read whole, that are not among those chosen for being new; on average over its fillings. */
function openBlock(backend: BackendName, recent: number): number {
  if (backend === 'window') return 0;
  const newest = backend === 'spotlight' ? recent : 0;
  let sum = 0;
  for (let filled = 0; filled < BLOCK; filled++) sum += Math.max(0, filled - newest);
  return sum / BLOCK;
}

/** Tokens a KV head that an exact top-k with a free index reads for as many bytes, its dense layers included. */
export function tokensForBytes(bytes: number, context: number, model: Shape, denseLayers: number): number {
  const row = 2 * model.headDim * HALF_BYTES;
  const sparse = (model.layers - denseLayers) * model.kvHeads * row;
  const left = bytes - denseLayers * model.kvHeads * context * row;
  return Math.max(1, Math.min(context, Math.round(left / Math.max(1, sparse))));
}
