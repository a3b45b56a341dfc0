import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { BenchLine } from './bench.js';
import { crossing, crossovers } from './crossover.js';

const unsaid = (message: string): void => {
  throw new Error(message);
};
const races = (...ratios: readonly (readonly [context: number, dense: number, ours: number])[]) =>
  ratios.map(([context, dense, ours]) => ({ context, dense, ours }));

describe('crossing', () => {
  it('is where the lines of a log-log plot meet, in whole blocks', () => {
    // Dense doubles with the context, ours stands still: they meet where dense has grown by sqrt(2).
    const at = crossing(races([4096, 10, 10 * Math.SQRT2], [8192, 20, 10 * Math.SQRT2]));
    assert.equal(at, Math.ceil((4096 * Math.SQRT2) / 64) * 64);
  });
  it('is the first context measured when ours wins everywhere', () => {
    assert.equal(crossing(races([2048, 20, 10], [1024, 11, 10])), 1024);
  });
  it('is undefined when dense wins at the longest context, whatever happened before', () => {
    assert.equal(crossing(races([1024, 9, 10], [2048, 11, 10], [4096, 9, 10])), undefined);
    assert.equal(crossing([]), undefined);
  });
  it('counts from the last loss, since below it the deployment would lose somewhere', () => {
    const at = crossing(races([1024, 11, 10], [2048, 10, 11], [4096, 20, 10])) ?? 0;
    assert.ok(at > 2048 && at < 4096, String(at));
  });
});

describe('crossovers', () => {
  const line = (shape: string, batch: number, context: number, metric: string, value: number): BenchLine => ({
    ...{ bench: 'attention', case: `${shape} ${batch}x${context}`, metric, value, unit: 'us' },
  });
  const race = (shape: string, batch: number, context: number, dense: number, ours: number): BenchLine[] => [
    line(shape, batch, context, 'dense cuDNN', dense),
    line(shape, batch, context, 'dense FlashInfer', dense * 2),
    line(shape, batch, context, 'spotlight, tail', ours),
  ];

  it('takes as the default the worst of batch 1 in bytes, whatever wider batches say', () => {
    const lines = [
      ...race('qwen2.5-7b', 1, 1024, 20, 10),
      ...race('llama-3-8b', 1, 4096, 20, 10),
      ...race('qwen2.5-7b', 8, 65_536, 20, 10),
      line('qwen2.5-7b', 1, 1024, 'hash', 3),
    ];
    const found = crossovers(lines, unsaid);
    assert.deepEqual(
      found.map(({ case: name, value }) => [name, value]),
      [
        ['qwen2.5-7b batch 1', 1024],
        ['llama-3-8b batch 1', 4096],
        ['qwen2.5-7b batch 8', 65_536],
        ['batch 1, 512 values of K', 8192],
      ],
    );
  });
  it('knows no default while dense wins one of batch 1', () => {
    const said: string[] = [];
    const lines = [...race('qwen2.5-7b', 1, 1024, 20, 10), ...race('llama-3-8b', 1, 4096, 10, 20)];
    const found = crossovers(lines, (message) => said.push(message));
    assert.deepEqual(
      found.map(({ case: name }) => name),
      ['qwen2.5-7b batch 1'],
    );
    assert.match(said.join(), /llama-3-8b batch 1/);
  });
});

describe('the crossover of a GPU', () => {
  it('is what the command in front of it prints of the results that are kept', () => {
    const root = fileURLToPath(new URL('../../../', import.meta.url));
    const source = readFileSync(`${root}cuda/attention/crossover.cc`, 'utf8');
    const table = [...source.matchAll(/bench -- crossover --from (\S+)\n\s*\{"(sm_\d+)", ([\d']+)\}/g)];
    assert.ok(table.length > 0, 'no line of the table was found');
    for (const [, file = '', isa = '', tokens = ''] of table) {
      const lines = readFileSync(root + file, 'utf8')
        .trim()
        .split('\n');
      const found = crossovers(
        lines.map((text) => JSON.parse(text) as BenchLine),
        unsaid,
      );
      const value = found.find(({ metric }) => metric === 'default')?.value;
      assert.equal(
        Number(tokens.replaceAll("'", '')),
        value,
        `${isa}: set cuda/attention/crossover.cc to this`,
      );
    }
  });
});
