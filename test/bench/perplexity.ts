// perplexity: what the retrieval costs in quality. Every token of a window runs as decode does (sparse_rows): it selects
// k = 163 tokens a KV head under its own causal limit and block closure, from the first token on, with no crossover.
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Bench, BenchLine, BenchOptions } from './bench.js';
import { runWindow } from '@spotlight/worker/eval/window.js';
import { openModel } from '@spotlight/worker/eval/open-model.js';

const WINDOW = 8192;
const TOKENS_SELECTED = 163; // 2% of the window

const MODES = {
  dense: { phase: 'prompt', attention: { backend: 'dense' } },
  spotlight: { phase: 'generated', attention: { backend: 'spotlight' } },
  'spotlight-no-tail': { phase: 'generated', attention: { backend: 'spotlight', tail: 'none' } },
} as const;

async function* run({ args, log }: BenchOptions): AsyncGenerator<BenchLine> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      model: { type: 'string' },
      artifact: { type: 'string' },
      texts: { type: 'string' },
      windows: { type: 'string', default: '4' },
      threads: { type: 'string', default: '2' },
    },
  });
  const folder = values.texts ?? fileURLToPath(new URL('../../../../shared/corpus/eval/', import.meta.url));
  const files = readdirSync(folder).sort();
  const { engine, tokenizer } = await openModel({
    ...(values.model === undefined ? {} : { model: values.model }),
    ...(values.artifact === undefined ? {} : { artifact: values.artifact }),
    threads: Number(values.threads),
    log,
    blocks: WINDOW / 64,
    attention: { fraction: 1e-6, minTokens: TOKENS_SELECTED, crossover: 0 },
  });
  try {
    for (const file of files) {
      const ids = await tokenizer.encode(readFileSync(`${folder}/${file}`, 'utf8'), {
        addSpecialTokens: false,
      });
      const windows = Math.min(Number(values.windows), Math.floor(ids.length / WINDOW));
      let dense: number | undefined;
      for (const [mode, { phase, attention }] of Object.entries(MODES)) {
        let sum = 0;
        for (let w = 0; w < windows; w++) {
          const window = ids.slice(w * WINDOW, (w + 1) * WINDOW);
          const { nll } = await runWindow(engine, window, { phase, attention });
          log(`${file} window ${String(w + 1)}/${String(windows)} ${mode}: ${Math.exp(nll).toFixed(3)}`);
          sum += nll;
        }
        const value = Math.exp(sum / windows);
        const line = { bench: 'perplexity', case: `${file} ${mode}`, metric: 'perplexity', value, unit: '1' };
        yield dense === undefined ? line : { ...line, baseline: dense, ratio: value / dense };
        dense ??= value;
      }
    }
  } finally {
    await engine.dispose();
  }
}

export const bench: Bench = {
  name: 'perplexity',
  summary: 'perplexity dense, with Spotlight, and without the tail, every token sparse; ratios to dense',
  flags: [
    '--texts FOLDER   --windows N (of 8192 tokens a text, default 4)   --model SPEC   --artifact FILE   --threads N',
  ],
  run,
};
