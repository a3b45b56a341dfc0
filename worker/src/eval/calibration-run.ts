// `spotlight eval --calibrate`: the search of calibrate.ts over windows of the given texts, and the file it leaves: attention settings
// that a deployment can take as they are, with what they were measured on.
import { writeFileSync } from 'node:fs';
import type { AttentionSettings, LayerSettings } from '@spotlight/cuda';
import { calibrate, layersText } from './calibrate.js';
import type { Layers } from './calibrate.js';
import type { OpenModel } from './open-model.js';
import type { EvalOptions } from './options.js';
import { readTexts, SourceError } from './sources.js';
import { probePositions } from './tasks/windows.js';
import { runWindow } from './window.js';

/** What a deployment reads: under `attention`, settings over its own. */
export interface Recommendation {
  readonly format: 1;
  readonly fingerprint: string;
  readonly artifact: string;
  readonly attention: Pick<
    AttentionSettings,
    'backend' | 'minTokens' | 'sink' | 'recent' | 'tail' | 'tailFrom' | 'layers'
  >;
  /** The same as a flag of the worker. */
  readonly attentionLayers: string;
  readonly measured: {
    readonly command: string;
    readonly bound: number;
    readonly perplexityLoss: number;
    readonly texts: readonly string[];
    readonly windows: number;
    readonly length: number;
  };
}

/** Ways of a layer: every budget with the tail and without, cheapest first. A tail reads a row a block. */
function waysOf(budgets: readonly number[]): LayerSettings[] {
  const tailShare = 1 / 64;
  const cost = ({ mode, fraction = 1 }: LayerSettings): number =>
    fraction + (mode === 'sparse-tail' ? tailShare : 0);
  return budgets
    .flatMap((fraction): LayerSettings[] => [
      { mode: 'sparse', fraction },
      { mode: 'sparse-tail', fraction },
    ])
    .sort((a, b) => cost(a) - cost(b));
}

/** [async] Writes the file and returns what it says in a line. */
export async function runCalibration(
  { engine, tokenizer, artifact }: OpenModel,
  options: EvalOptions & { readonly calibrate: string },
  command: string,
  say: (line: string) => void,
): Promise<string> {
  if (artifact === undefined)
    throw new SourceError('--calibrate: there is no artifact to calibrate for; give one by --artifact');
  const { length, windows, minTokens, sink, recent, densePrefix, bound, budgets } = options;
  const { layers } = engine.info.model;
  const texts: { name: string; ids: number[] }[] = [];
  for (const { name, text } of readTexts(options.texts)) {
    const ids = await tokenizer.encode(text, { addSpecialTokens: false });
    for (let w = 0; w < Math.min(windows, Math.floor(ids.length / length)); w++)
      texts.push({ name, ids: ids.slice(w * length, (w + 1) * length) });
  }
  if (texts.length === 0)
    throw new SourceError(`--calibrate: no text has ${length} tokens; give less by --length`);
  const base = {
    backend: 'spotlight',
    tail: 'block-mean',
    tailFrom: 0,
    crossover: 0,
    minTokens,
    sink,
    recent,
  } as const;
  const nlls = async (settings: Layers | undefined, probes: readonly number[] = []) => {
    const results = [];
    for (const { ids } of texts)
      results.push(
        await runWindow(engine, ids, {
          phase: settings === undefined ? 'prompt' : 'generated',
          attention:
            settings === undefined
              ? { backend: 'dense' }
              : { ...base, layers: Object.fromEntries(settings.entries()) },
          ...{ densePrefix, probes },
        }),
      );
    return results;
  };
  const meanNll = (results: readonly { readonly nll: number }[]): number =>
    results.reduce((sum, { nll }) => sum + nll, 0) / results.length;
  const dense = meanNll(await nlls(undefined));
  // Layers whose selections keep most of the attention go first.
  const ways = waysOf(budgets);
  const first = ways[0] ?? { mode: 'sparse' };
  const every = Array.from({ length: layers }, () => first);
  const kept = new Array<number>(layers).fill(0);
  for (const { probes } of await nlls(every, probePositions(length, densePrefix)))
    for (const { layer, keptMass } of probes.flatMap(({ quality }) => quality))
      kept[layer] = (kept[layer] ?? 0) + keptMass;
  const order = kept.map((_, layer) => layer).sort((a, b) => (kept[b] ?? 0) - (kept[a] ?? 0));
  const found = await calibrate({
    ...{ layers, ways, order, bound, say },
    loss: async (settings) => Math.exp(meanNll(await nlls(settings)) - dense) - 1,
  });
  const recommendation: Recommendation = {
    format: 1,
    fingerprint: engine.info.fingerprint,
    artifact: artifact.digest,
    attention: {
      backend: 'spotlight',
      ...{ minTokens, sink, recent, tailFrom: 0 },
      tail: 'block-mean',
      layers: Object.fromEntries(found.layers.entries()),
    },
    attentionLayers: layersText(found.layers),
    measured: {
      ...{ command, bound, perplexityLoss: found.loss },
      texts: [...new Set(texts.map(({ name }) => name))],
      ...{ windows, length },
    },
  };
  writeFileSync(options.calibrate, `${JSON.stringify(recommendation, null, 2)}\n`);
  return `${recommendation.attentionLayers}: ${(found.loss * 100).toFixed(2)}% above dense, ${found.runs} runs; written to ${options.calibrate}`;
}
