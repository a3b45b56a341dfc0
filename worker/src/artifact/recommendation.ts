// The attention settings an artifact recommends, as `spotlight eval --calibrate` found them. They travel in the file's metadata, as a new
// file of the same weights: who has the artifact has them, in a registry, on a worker and on a researcher's disk alike, and what was
// rolled out and measured is named by one digest. Pure.
import { EngineError } from '@spotlight/cuda';
import type { ArtifactInfo, AttentionSettings, LayerSettings } from '@spotlight/cuda';

/** Metadata entry: the settings as JSON. */
export const RECOMMENDED = 'recommended_attention';
/** Metadata entry: on what they were found, as JSON. */
export const RECOMMENDED_ON = 'recommended_on';

/** Backend and crossover are not an artifact's business: one it implies, the other is the device's. */
export type Recommendation = Partial<Omit<AttentionSettings, 'backend' | 'crossover'>>;

const MODES: readonly string[] = ['dense', 'sparse', 'sparse-tail'];

/** @throws EngineError ARTIFACT_CORRUPT naming the field; undefined: the artifact recommends nothing */
export function recommendationOf({ metadata }: Pick<ArtifactInfo, 'metadata'>): Recommendation | undefined {
  const text = metadata[RECOMMENDED];
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw corrupt('', `is not JSON: ${(error as Error).message}`);
  }
  const settings = record(value, '');
  const known: Record<string, (value: unknown, field: string) => unknown> = {
    fraction: share,
    minTokens: count,
    sink: count,
    recent: count,
    tail: (one, field) =>
      one === 'block-mean' || one === 'none' ? one : refuse(field, 'block-mean or none'),
    tailFrom: count,
    layers: layersOf,
  };
  return Object.fromEntries(
    Object.entries(settings).map(([name, one]) => {
      const read = Object.hasOwn(known, name) ? known[name] : undefined;
      if (read === undefined) throw corrupt(`.${name}`, 'is unknown to this version');
      return [name, read(one, `.${name}`)];
    }),
  );
}

/**
 * Settings over others: a fraction given without layers stands above those of single layers, as a request's does above the deployment's.
 */
export function settingsOver<T extends Partial<AttentionSettings>>(
  base: T,
  given: Partial<AttentionSettings>,
): T {
  const all = { ...base, ...given };
  if (given.fraction === undefined || given.layers !== undefined || base.layers === undefined) return all;
  const layers = Object.entries(base.layers).map(([layer, { mode }]) => [layer, { mode }] as const);
  return { ...all, layers: Object.fromEntries(layers) };
}

/** The form of --attention-layers: `0-1:dense,2-29:sparse-tail:0.02`. */
export function layersText(layers: Readonly<Record<number, LayerSettings>>): string {
  const word = ({ mode, fraction }: LayerSettings): string =>
    mode + (fraction === undefined ? '' : `:${fraction}`);
  const spans: { from: number; to: number; word: string }[] = [];
  const ordered = Object.entries(layers)
    .map(([layer, settings]) => ({ layer: Number(layer), word: word(settings) }))
    .sort((a, b) => a.layer - b.layer);
  for (const { layer, word: own } of ordered) {
    const last = spans.at(-1);
    if (last?.to === layer - 1 && last.word === own) last.to = layer;
    else spans.push({ from: layer, to: layer, word: own });
  }
  return spans.map(({ from, to, word: own }) => `${from === to ? from : `${from}-${to}`}:${own}`).join(',');
}

function layersOf(value: unknown, field: string): Record<number, LayerSettings> {
  return Object.fromEntries(
    Object.entries(record(value, field)).map(([layer, one]) => {
      const own = `${field}.${layer}`;
      if (!/^\d{1,4}$/.test(layer)) throw corrupt(own, 'is no index of a layer');
      const { mode, fraction, ...more } = record(one, own);
      const [stray] = Object.keys(more);
      if (stray !== undefined) throw corrupt(`${own}.${stray}`, 'is unknown to this version');
      if (typeof mode !== 'string' || !MODES.includes(mode)) return refuse(`${own}.mode`, MODES.join(', '));
      const settings = { mode: mode as LayerSettings['mode'] };
      return [layer, fraction === undefined ? settings : { ...settings, fraction: share(fraction, own) }];
    }),
  );
}

function record(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return refuse(field, 'an object');
  return value as Record<string, unknown>;
}

function share(value: unknown, field: string): number {
  if (typeof value !== 'number' || !(value > 0 && value <= 1))
    return refuse(field, 'a number above 0 and at most 1');
  return value;
}

function count(value: unknown, field: string): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value >= 2 ** 31)
    return refuse(field, 'a whole number, 0 or more');
  return value;
}

function refuse(field: string, right: string): never {
  throw corrupt(field, `must be ${right}`);
}

function corrupt(field: string, what: string): EngineError {
  return new EngineError('ARTIFACT_CORRUPT', `metadata.${RECOMMENDED}${field}: ${what}`);
}
