// `spotlight eval --calibrate`: the search of calibrate.ts over windows of the given texts, and the file it leaves: the artifact's
// weights with the settings found as their recommendation, a new artifact that names the one it was made of.
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { annotateArtifact } from '@spotlight/cuda';
import type { LayerSettings } from '@spotlight/cuda';
import type { Recommendation } from '../artifact/recommendation.js';
import { layersText, RECOMMENDED, RECOMMENDED_ON } from '../artifact/recommendation.js';
import { calibrate } from './calibrate.js';
import type { Layers } from './calibrate.js';
import type { OpenModel } from './open-model.js';
import type { EvalOptions } from './options.js';
import { readTexts, SourceError } from './sources.js';
import { windowsOf } from './tasks/task.js';
import { probePositions } from './tasks/windows.js';
import { runWindow } from './window.js';

/** What --json keeps of it. */
interface CalibrationRecord {
  readonly format: 1;
  readonly command: string;
  readonly fingerprint: string;
  /** Calibrated, and written with what it recommends now. */
  readonly artifacts: { readonly from: string; readonly to: string };
  readonly attention: Recommendation;
  /** Its layers as a flag of the worker. */
  readonly attentionLayers: string;
  readonly measured: Measured;
}

/** What the artifact's own metadata keeps: nothing of where it ran, so that the same texts give the same bytes. */
interface Measured {
  readonly bound: number;
  readonly perplexityLoss: number;
  /** Name and SHA-256. */
  readonly texts: Readonly<Record<string, string>>;
  readonly windows: number;
  readonly length: number;
  readonly densePrefix: number;
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
  { engine, tokenizer, artifact, artifactPath }: OpenModel,
  options: EvalOptions & { readonly calibrate: string },
  command: string,
  say: (line: string) => void,
): Promise<string> {
  if (artifact === undefined || artifactPath === undefined)
    throw new SourceError('--calibrate: there is no artifact to calibrate for; give one by --artifact');
  const { length, windows, minTokens, sink, recent, densePrefix, bound, budgets } = options;
  const { layers } = engine.info.model;
  const documents = readTexts(options.texts);
  const digests = Object.fromEntries(
    documents.map(({ name, text }) => [name, createHash('sha256').update(text).digest('hex')]),
  );
  const lab = { engine, tokenizer, seed: options.seed, length };
  const texts = await windowsOf(lab, documents, windows);
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
  const recommended: Recommendation = {
    ...{ minTokens, sink, recent, tailFrom: 0 },
    tail: 'block-mean',
    layers: Object.fromEntries(found.layers.entries()),
  };
  const measured: Measured = {
    ...{ bound, perplexityLoss: found.loss, texts: digests },
    ...{ windows, length, densePrefix },
  };
  const digest = await annotateArtifact(artifactPath, options.calibrate, {
    [RECOMMENDED]: JSON.stringify(recommended),
    [RECOMMENDED_ON]: JSON.stringify(measured),
  });
  const attentionLayers = layersText(found.layers);
  if (options.json !== undefined) {
    const record: CalibrationRecord = {
      ...{ format: 1, command, fingerprint: engine.info.fingerprint },
      artifacts: { from: artifact.digest, to: digest },
      ...{ attention: recommended, attentionLayers, measured },
    };
    writeFileSync(options.json, `${JSON.stringify(record, null, 2)}\n`);
  }
  return `${attentionLayers}: ${(found.loss * 100).toFixed(2)}% above dense, ${found.runs} runs; written to ${options.calibrate}, artifact ${digest}`;
}
