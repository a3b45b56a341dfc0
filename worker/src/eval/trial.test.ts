import assert from 'node:assert/strict';
import type { Method } from './methods.js';
import type { Case, Plan, Result } from './trial.js';
import { runCases, toRows } from './trial.js';

const method = (name: string, backend: Method['backend']): Method => ({
  ...{ name, backend, tail: false, indexBits: 0, evicts: false, readsKeys: false },
});
const oracle = method('oracle', 'oracle');
const plan: Plan = {
  methods: [method('dense', 'dense'), oracle, { ...method('quest', 'quest'), indexBits: 128 }],
  ...{ budgets: [0.1, 0.5], leastTokens: 0, oracle },
  options: { denseLayers: 0, tailFrom: 0, sink: 0, recent: 0 },
  model: { layers: 1, kvHeads: 1, headDim: 64 },
  say: () => undefined,
};

async function* once(...cases: Case[]): AsyncGenerator<Case> {
  for (const one of cases) yield await Promise.resolve(one);
}

describe('runCases', () => {
  it('runs each method once a budget, dense once, and exact top-k at as many bytes beside each', async () => {
    const ran: string[] = [];
    const results = await runCases(
      once({
        ...{ task: 't', name: 'c', context: 1000 },
        run: ({ method: { name }, tokens }) => {
          ran.push(`${name} ${tokens}`);
          const measured = [{ group: 'g', metric: 'm', value: tokens }];
          return Promise.resolve({ measured, rowsRead: name === 'dense' ? undefined : tokens });
        },
      }),
      plan,
    );
    // 1000 codes of 16 bytes are 62.5 rows of 256.
    assert.deepEqual(ran, [
      'dense 1000',
      'oracle 100',
      'quest 100',
      'oracle 163',
      'oracle 500',
      'quest 500',
      'oracle 563',
    ]);
    assert.deepEqual(
      results.map(({ method: name, budget, rows, equalTokens, equalValue }) => [
        name,
        budget,
        rows,
        equalTokens,
        equalValue,
      ]),
      [
        ['dense', 1, 1000, undefined, undefined],
        ['oracle', 0.1, 100, 100, 100],
        ['quest', 0.1, 100, 163, 163],
        ['oracle', 0.5, 500, 500, 500],
        ['quest', 0.5, 500, 563, 563],
      ],
    );
  });
});

describe('a limit', () => {
  it('ends a run between two cases, never before the first', async () => {
    const one = (name: string): Case => ({
      ...{ task: 't', name, context: 1000 },
      run: () => Promise.resolve({ measured: [{ group: name, metric: 'm', value: 1 }], rowsRead: undefined }),
    });
    const methods = [method('dense', 'dense')];
    const asked: boolean[] = [true, false];
    const groups = async (mayGoOn: () => boolean) =>
      (await runCases(once(one('a'), one('b'), one('c')), { ...plan, methods, mayGoOn })).map(
        ({ group }) => group,
      );
    assert.deepEqual(await groups(() => asked.shift() ?? false), ['a', 'b']);
    assert.deepEqual(await groups(() => false), ['a']);
  });
});

describe('exact top-k at as many bytes', () => {
  it('runs once for what reads as much to 1%, and settings that are recommended once for all budgets', async () => {
    const ran: string[] = [];
    const bits = (name: string, indexBits: number) => ({ ...method(name, 'quest'), indexBits });
    const recommended = { layers: { 0: { mode: 'sparse', fraction: 0.25 } } } as const;
    const results = await runCases(
      once({
        ...{ task: 't', name: 'c', context: 1000 },
        run: ({ method: { name }, tokens, attention }) => {
          ran.push(`${name} ${tokens}`);
          const measured = [{ group: 'g', metric: 'm', value: attention.layers?.[0]?.fraction ?? 0 }];
          return Promise.resolve({ measured, rowsRead: tokens });
        },
      }),
      {
        ...plan,
        methods: [
          bits('one', 128),
          bits('two', 130),
          { ...method('spotlight+recommended', 'spotlight'), recommended },
        ],
      },
    );
    // 163 and 163.5 rows; the recommended settings ask for no budget.
    assert.equal(ran.filter((run) => run.startsWith('oracle 16')).length, 1);
    assert.equal(ran.filter((run) => run.startsWith('spotlight+recommended')).length, 1);
    const own = results.filter(({ method: name }) => name === 'spotlight+recommended');
    assert.deepEqual(
      own.map(({ budget, value, indexBits }) => [budget, value, indexBits]),
      [[0.25, 0.25, 0]],
    );
  });
});

describe('toRows', () => {
  const result = (more: Partial<Result>): Result => ({
    ...{
      task: 'ppl',
      group: 'book',
      metric: 'nll',
      method: 'dense',
      indexBits: 0,
      budget: 1,
      value: 1,
      context: 8,
      rows: 8,
      bytes: 64,
    },
    ...more,
  });

  it('averages trials, and log-likelihoods into perplexities beside dense ones', () => {
    const rows = toRows([
      result({ value: 1 }),
      result({ value: 3 }),
      result({ method: 'quest', budget: 0.1, value: 2.5, rows: 2, bytes: 20, equalTokens: 3, equalValue: 2 }),
      result({ method: 'quest', budget: 0.1, value: 3.5, rows: 4, bytes: 40, equalTokens: 5, equalValue: 4 }),
    ]);
    assert.equal(rows.length, 2);
    const [dense, quest] = rows;
    assert(dense !== undefined && quest !== undefined);
    assert.equal(dense.metric, 'perplexity');
    assert.equal(dense.value, Math.exp(2));
    assert.equal(dense.ratio, 1);
    assert.equal(quest.ratio, Math.exp(3) / Math.exp(2));
    assert.deepEqual([quest.rows, quest.bytes], [3, 30]);
    assert.deepEqual(quest.equal, { tokens: 4, value: Math.exp(3) });
  });

  it('keeps groups, metrics and budgets apart', () => {
    const of = { task: 'needle', metric: 'found' };
    const rows = toRows([
      result({ ...of, group: 'a', value: 0 }),
      result({ ...of, group: 'a', value: 1 }),
      result({ ...of, group: 'a', budget: 0.5, value: 1 }),
      result({ ...of, group: 'b', value: 1, detail: true }),
    ]);
    assert.deepEqual(
      rows.map(({ group, budget, value, detail, ratio }) => [group, budget, value, detail, ratio]),
      [
        ['a', 1, 0.5, undefined, undefined],
        ['a', 0.5, 1, undefined, undefined],
        ['b', 1, 1, true, undefined],
      ],
    );
  });
});
