// What `--methods` names, as attention settings and as bytes. Pure. A method is a backend, with or without the block tail; budgets
// are tokens a KV head, so that every row of a table can say what a decode step reads and which exact top-k would read as much.
import type { AttentionSettings, BackendName, ModelInfo, SelectorInfo, Tail } from '@spotlight/cuda';

const TAIL = '+tail';
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
}

export class MethodError extends Error {
  override readonly name = 'MethodError';
}

export interface MethodFacts {
  readonly model: Pick<ModelInfo, 'headDim'>;
  readonly selectors: readonly SelectorInfo[];
  /** Code bits a token and KV head of the artifact; undefined without one. */
  readonly codeBits: number | undefined;
}

/** @throws MethodError naming what there is */
export function parseMethods(names: readonly string[], facts: MethodFacts): Method[] {
  const methods = names.map((name) => parseMethod(name, facts));
  return methods.filter(({ name }, i) => methods.findIndex((other) => other.name === name) === i);
}

function parseMethod(name: string, { model, selectors, codeBits }: MethodFacts): Method {
  const tail = name.endsWith(TAIL);
  const base = tail ? name.slice(0, -TAIL.length) : name;
  const none = { name, tail, indexBits: 0, evicts: false, readsKeys: false };
  if (name === 'dense') return { ...none, backend: 'dense' };
  if (base === 'spotlight') {
    if (codeBits === undefined)
      throw new MethodError('spotlight needs an artifact for this model; give one by --artifact');
    return { ...none, backend: 'spotlight', indexBits: codeBits };
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
  return names.flatMap((name) => (can(name) && !names.includes(name + TAIL) ? [name, name + TAIL] : [name]));
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

/** Settings under which every query retrieves `tokens` a KV head, whatever its context. */
export function settingsOf(
  { backend, tail }: Pick<Method, 'backend' | 'tail'>,
  tokens: number,
  { denseLayers, tailFrom, sink, recent }: BudgetOptions,
): Partial<AttentionSettings> {
  const dense = { mode: 'dense' } as const;
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
    layers: Object.fromEntries(Array.from({ length: denseLayers }, (_, layer) => [layer, dense])),
  };
}

export interface Reading {
  /** Rows of K and V read a KV head, mean. */
  readonly rows: number;
  /** Of a whole decode step of one sequence: index, keys, values and summaries. */
  readonly bytes: number;
}

type Shape = Pick<ModelInfo, 'layers' | 'kvHeads' | 'headDim'>;

/** @param chosen rows that a KV head has read, as counted; undefined: nothing was sparse */
export function reading(
  method: Method,
  chosen: number | undefined,
  context: number,
  model: Shape,
  { denseLayers, tailFrom, recent }: BudgetOptions,
): Reading {
  const row = 2 * model.headDim * HALF_BYTES;
  if (method.backend === 'dense' || chosen === undefined)
    return { rows: context, bytes: model.layers * model.kvHeads * context * row };
  const open = method.tail || method.backend === 'spotlight' ? openBlock(method.backend, recent) : 0;
  const rows = Math.min(context, chosen + open);
  const index = ((method.evicts ? chosen : context) * method.indexBits) / 8;
  const gathered = method.readsKeys ? (rows * row) / 2 : rows * row;
  let bytes = 0;
  for (let layer = 0; layer < model.layers; layer++) {
    const tail = method.tail && layer >= tailFrom ? Math.floor(context / BLOCK) * row : 0;
    bytes += model.kvHeads * (layer < denseLayers ? context * row : index + gathered + tail);
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
