// cpu-decode: this engine, dense and with Spotlight, against llama.cpp on the same GGUF, threads and prompts in one run.
// The three take turns at every length and round, so that a machine that slows down slows all of them; medians are reported.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { quantile } from './bench.js';
import type { Bench, BenchLine, BenchOptions } from './bench.js';
import { timeGeneration } from './engine-run.js';
import { LlamaPeer } from './llama-peer.js';
import { openModel } from '@spotlight/worker/eval/open-model.js';

const LENGTHS = [128, 2048, 4096, 7900];
const DECODE = 64;
const CONTEXT = 8192;
const WAYS = { dense: { backend: 'dense' }, spotlight: { backend: 'spotlight' } } as const;

/** Plain text long enough for the longest prompt: the project's own sources, since no corpus is part of the project. */
function promptText(file: string | undefined): string {
  if (file !== undefined) return readFileSync(file, 'utf8');
  const sources = [
    '../../../README.md',
    '../../../LICENSE',
    '../../bench/cpu-decode.ts',
    '../../../cuda/types.ts',
  ];
  const text = sources
    .map((path) => readFileSync(fileURLToPath(new URL(path, import.meta.url)), 'utf8'))
    .join('\n');
  return text.repeat(Math.ceil(60_000 / text.length));
}

interface Sample {
  readonly prefill: number;
  readonly decode: number;
}

async function* run({ args, log }: BenchOptions): AsyncGenerator<BenchLine> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      model: { type: 'string' },
      threads: { type: 'string', default: '2' },
      rounds: { type: 'string', default: '3' },
      lengths: { type: 'string', default: LENGTHS.join(',') },
      text: { type: 'string' },
    },
  });
  const threads = Number(values.threads);
  const {
    engine,
    tokenizer,
    path: modelPath,
  } = await openModel({
    ...(values.model === undefined ? {} : { model: values.model }),
    threads,
    log,
    blocks: CONTEXT / 64,
    attention: {},
  });
  const peer = await LlamaPeer.start(modelPath, threads, log);
  try {
    const ids = await tokenizer.encode(promptText(values.text), { addSpecialTokens: false });
    const slowest = new Map<string, number>();
    for (const length of values.lengths.split(',').map(Number)) {
      const prompt = ids.slice(0, length);
      if (prompt.length < length)
        throw new Error(`the text has ${String(ids.length)} tokens, ${String(length)} are needed`);
      const samples: Record<'llama.cpp' | 'dense' | 'spotlight', Sample[]> = {
        'llama.cpp': [],
        dense: [],
        spotlight: [],
      };
      for (let round = 0; round < Number(values.rounds); round++) {
        const theirs = await peer.time(prompt, DECODE, CONTEXT);
        samples['llama.cpp'].push({
          prefill: (length - 1) / theirs.prefillSeconds,
          decode: theirs.decoded / theirs.decodeSeconds,
        });
        for (const [way, attention] of Object.entries(WAYS)) {
          const ours = await timeGeneration(engine, prompt, DECODE, attention);
          samples[way as keyof typeof WAYS].push({
            prefill: length / ours.prefillSeconds,
            decode: DECODE / ours.decodeSeconds,
          });
        }
        log(
          `${String(length)} tokens, round ${String(round + 1)}: ${JSON.stringify(samples, (_, v: unknown) => (typeof v === 'number' ? Math.round(v * 10) / 10 : v))}`,
        );
      }
      for (const metric of ['decode', 'prefill'] as const) {
        const median = (way: keyof typeof samples): number =>
          quantile(
            samples[way].map((sample) => sample[metric]),
            0.5,
          );
        const baseline = median('llama.cpp');
        const line = { bench: 'cpu-decode', metric, unit: 'tokens/s' };
        yield { ...line, case: `llama.cpp ${String(length)}`, value: baseline };
        for (const way of ['dense', 'spotlight'] as const) {
          const value = median(way);
          yield { ...line, case: `${way} ${String(length)}`, value, baseline, ratio: value / baseline };
          const first = slowest.get(`${way} ${metric}`);
          if (first === undefined) slowest.set(`${way} ${metric}`, value);
          else if (metric === 'decode') {
            const seconds = { metric: 'decode time over the shortest case', unit: 'x' };
            yield { bench: 'cpu-decode', case: `${way} ${String(length)}`, ...seconds, value: first / value };
          }
        }
      }
    }
  } finally {
    peer.stop();
    await engine.dispose();
  }
}

export const bench: Bench = {
  name: 'cpu-decode',
  summary: 'decode and prefill tokens/s of this engine, dense and spotlight, against llama.cpp in one run',
  flags: [
    '--rounds N (default 3)   --lengths 128,2048,4096,7900   --threads N (default 2)   --text FILE   --model SPEC',
  ],
  run,
};
