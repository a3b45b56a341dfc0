// The step ABI's contract: cases every engine passes, the native one and the fake. They compare an engine with itself
// (the same tokens by another way), so that they hold for any weights; greedy draws, so that a seed is not in the way.
import assert from 'node:assert/strict';
import type { AttentionSettings, Batch, Engine, SequenceId } from '@spotlight/cuda';
import { BLOCK_SIZE, EngineError, LAST_SAMPLE } from '@spotlight/cuda';
import { Sequence, greedy, ids, rejectsWith, run, throwsWith } from './sequence.js';

export interface ContractOptions {
  readonly blocks: number;
  readonly maxBatchTokens: number;
  readonly maxSequences: number;
  readonly attention: AttentionSettings;
}

export type OpenEngine = (options: ContractOptions) => Promise<Engine>;

const OPTIONS: ContractOptions = {
  blocks: 24,
  maxBatchTokens: 160,
  maxSequences: 6,
  attention: {
    backend: 'spotlight',
    fraction: 0.02,
    minTokens: 256,
    sink: 4,
    recent: 64,
    tail: 'block-mean',
    tailFrom: 2,
    crossover: 0,
  },
};

const prompt = (length: number, salt = 0): number[] =>
  Array.from({ length }, (_, i) => 11 + ((i * 37 + salt * 101 + ((i * i) % 53)) % 200));

export function engineContract(name: string, open: OpenEngine): void {
  describe(`engine contract: ${name}`, function () {
    this.timeout(120_000);
    let engine: Engine;

    before(async () => {
      engine = await open(OPTIONS);
    });
    after(() => engine.dispose());
    afterEach(() => {
      assert.equal(engine.stats().inFlight, 0, 'a case leaves nothing in flight');
      assert.equal(engine.stats().openSequences, 0, 'a case closes its sequences');
    });

    describeSteps(() => engine);
    describeBlocks(() => engine);
    describeSampling(() => engine);
    describeRefusals(() => engine);

    it('reports what it was opened with', () => {
      const { info } = engine;
      assert.equal(info.blocks, OPTIONS.blocks);
      assert.equal(info.maxBatchTokens, OPTIONS.maxBatchTokens);
      assert.equal(info.maxSequences, OPTIONS.maxSequences);
      assert.match(info.fingerprint, /^[0-9a-f]{64}$/);
      assert(info.model.vocabSize > 211 && info.model.maxModelLen >= OPTIONS.blocks * BLOCK_SIZE);
    });

    it('disposes once, steps in flight first, and refuses every call after', async () => {
      const other = await open(OPTIONS);
      const sequence = new Sequence(other, greedy(), ids(0));
      other.submit({ rows: [sequence.row(prompt(30), { sample: true })] });
      await Promise.all([other.dispose(), other.dispose()]);
      await other.dispose();
      throwsWith('ENGINE_DISPOSED', () => other.openSequence(greedy()));
      throwsWith('ENGINE_DISPOSED', () => other.submit({ rows: [] }));
      await rejectsWith('ENGINE_DISPOSED', () => other.collect());
    });

    it('works beside a second engine in one process', async () => {
      const other = await open(OPTIONS);
      const [mine, theirs] = await Promise.all([
        generate(engine, prompt(40), 3),
        generate(other, prompt(40), 3),
      ]);
      assert.deepEqual(mine, theirs);
      await other.dispose();
    });
  });
}

/** Greedy tokens after a prompt in one row, each fed back by number. Uses the first blocks of the pool. */
async function generate(engine: Engine, tokens: readonly number[], count: number): Promise<number[]> {
  const sequence = new Sequence(engine, greedy(), ids(0, 1, 2, 3, 4, 5));
  const drawn: number[] = [];
  let row = sequence.row(tokens, { sample: true });
  for (let i = 0; i < count; i++) {
    const token = await sequence.draw(row);
    drawn.push(token);
    row = sequence.row([token], { phase: 'generated', sample: true });
  }
  await sequence.close();
  return drawn;
}

function describeSteps(engine: () => Engine): void {
  it('retires steps in order, two in flight, and refuses a third', async () => {
    const sequence = new Sequence(engine(), greedy(), ids(0, 1, 2));
    const first = engine().submit({ rows: [sequence.row(prompt(30), { sample: true })] });
    const second = engine().submit({
      rows: [sequence.row([LAST_SAMPLE], { phase: 'generated', sample: true })],
    });
    assert.equal(second, first + 1);
    const third = sequence.peek([LAST_SAMPLE], { phase: 'generated', sample: true });
    throwsWith('QUEUE_FULL', () => engine().submit({ rows: [third] }));
    assert.equal((await engine().collect()).step, first);
    assert.equal((await engine().collect()).step, second);
    await sequence.close();
  });

  it('feeds its own last sample as it would that token by number', async () => {
    const expected = await generate(engine(), prompt(70), 6);
    const sequence = new Sequence(engine(), greedy(), ids(6, 7, 8));
    const drawn: (number | undefined)[] = [];
    engine().submit({ rows: [sequence.row(prompt(70), { sample: true })] });
    for (let i = 1; i < 6; i++) {
      engine().submit({ rows: [sequence.row([LAST_SAMPLE], { phase: 'generated', sample: true })] });
      drawn.push((await engine().collect()).rows[0]?.token);
    }
    drawn.push((await engine().collect()).rows[0]?.token);
    assert.deepEqual(drawn, expected);
    await sequence.close();
  });

  it('gives results in the order of rows, with tokens only for rows that sample', async () => {
    const a = new Sequence(engine(), greedy(), ids(0));
    const b = new Sequence(engine(), greedy(), ids(1));
    const { rows, seconds } = await run(engine(), {
      rows: [a.row(prompt(20), { sample: false }), b.row(prompt(20, 1), { sample: true })],
    });
    assert.deepEqual(
      rows.map((row) => row.sequence),
      [a.id, b.id],
    );
    assert.equal(rows[0]?.token, undefined);
    assert.equal(typeof rows[1]?.token, 'number');
    assert(seconds >= 0);
    await run(engine(), { rows: [], close: [a.id, b.id] });
  });

  it('draws the same tokens however the prompt is cut and whoever runs beside it', async () => {
    const expected = await generate(engine(), prompt(100), 4);
    const sequence = new Sequence(engine(), greedy(), ids(8, 9, 10));
    const other = new Sequence(engine(), greedy(), ids(11));
    await run(engine(), {
      rows: [
        other.row(prompt(13, 2), { sample: true }),
        sequence.row(prompt(100).slice(0, 37), { sample: false }),
      ],
    });
    await run(engine(), { rows: [sequence.row(prompt(100).slice(37, 99), { sample: false })] });
    const drawn: number[] = [];
    let row = sequence.row(prompt(100).slice(99), { sample: true });
    for (let i = 0; i < 4; i++) {
      const step: Batch = { rows: [other.row([LAST_SAMPLE], { phase: 'generated', sample: true }), row] };
      const token = (await run(engine(), step)).rows[1]?.token ?? -1;
      drawn.push(token);
      row = sequence.row([token], { phase: 'generated', sample: true });
    }
    assert.deepEqual(drawn, expected);
    await run(engine(), { rows: [], close: [sequence.id, other.id] });
  });

  it('runs generated tokens again in one row as it drew them one by one', async () => {
    const expected = await generate(engine(), prompt(60), 8);
    const sequence = new Sequence(engine(), greedy(), ids(3, 4));
    await run(engine(), { rows: [sequence.row(prompt(60), { sample: false })] });
    const again = sequence.row(expected.slice(0, 7), { phase: 'generated', sample: true });
    assert.equal(await sequence.draw(again), expected[7]);
    await sequence.close();
  });

  it('closes a sequence in a batch without rows', async () => {
    const sequence = new Sequence(engine(), greedy(), []);
    assert.equal(engine().stats().openSequences, 1);
    const { rows } = await run(engine(), { rows: [], close: [sequence.id] });
    assert.deepEqual(rows, []);
    assert.equal(engine().stats().openSequences, 0);
  });

  it('counts steps and tokens', async () => {
    const before = engine().stats();
    await generate(engine(), prompt(10), 2);
    const after = engine().stats();
    assert.equal(after.tokens - before.tokens, 11);
    assert.equal(after.steps - before.steps, 3);
    assert(after.busySeconds >= before.busySeconds);
  });
}

function describeBlocks(engine: () => Engine): void {
  it('continues on blocks another sequence filled (prefix hit)', async () => {
    const expected = await generate(engine(), prompt(140), 3);
    const filler = new Sequence(engine(), greedy(), ids(10, 11));
    await run(engine(), { rows: [filler.row(prompt(140).slice(0, 128), { sample: false })] });
    await filler.close();
    const sequence = new Sequence(engine(), { ...greedy(), blocks: ids(10, 11) }, ids(12), 128);
    const drawn = [await sequence.draw(sequence.row(prompt(140).slice(128), { sample: true }))];
    for (let i = 1; i < 3; i++) {
      drawn.push(await sequence.draw(sequence.row([LAST_SAMPLE], { phase: 'generated', sample: true })));
    }
    assert.deepEqual(drawn, expected);
    await sequence.close();
  });

  it('forks on a copy of a partly filled block, and neither side disturbs the other', async () => {
    const tokens = prompt(100);
    const expected = await generate(engine(), tokens, 3);
    const base = new Sequence(engine(), greedy(), ids(6, 7));
    await run(engine(), { rows: [base.row(tokens.slice(0, 99), { sample: false })] });
    const fork = new Sequence(engine(), { ...greedy(), blocks: ids(6, 20) }, [], 99);
    const { rows } = await run(engine(), {
      copies: [{ from: ids(7)[0] ?? assert.fail(), to: ids(20)[0] ?? assert.fail() }],
      rows: [
        base.row([tokens[0] ?? 0, tokens[1] ?? 0], { sample: false }),
        fork.row(tokens.slice(99), { sample: true }),
      ],
    });
    const drawn = [rows[1]?.token];
    for (let i = 1; i < 3; i++) {
      const step = {
        rows: [
          base.row([tokens[i] ?? 0], { phase: 'generated' as const, sample: true }),
          fork.row([LAST_SAMPLE], { phase: 'generated' as const, sample: true }),
        ],
      };
      drawn.push((await run(engine(), step)).rows[1]?.token);
    }
    assert.deepEqual(drawn, expected);
    await run(engine(), { rows: [], close: [base.id, fork.id] });
  });

  it('writes a block again for another sequence once the first is closed', async () => {
    const expected = await generate(engine(), prompt(50, 3), 3);
    await generate(engine(), prompt(50, 4), 3);
    assert.deepEqual(await generate(engine(), prompt(50, 3), 3), expected);
  });

  it('closes and opens in one batch, blocks passing from one to the other', async () => {
    const expected = await generate(engine(), prompt(50, 5), 1);
    const old = new Sequence(engine(), greedy(), ids(2));
    await run(engine(), { rows: [old.row(prompt(60, 6), { sample: false })] });
    const next = new Sequence(engine(), greedy(), ids(2));
    const { rows } = await run(engine(), {
      rows: [next.row(prompt(50, 5), { sample: true })],
      close: [old.id],
    });
    assert.deepEqual([rows[0]?.token], expected);
    await next.close();
  });
}

function describeSampling(engine: () => Engine): void {
  const draws = async (seed: bigint, choice: number, beside: boolean): Promise<number[]> => {
    const options = greedy({ seed, choice, temperature: 5 });
    const sequence = new Sequence(engine(), options, ids(0, 1));
    const other = beside
      ? new Sequence(engine(), greedy({ seed: 99n, temperature: 5 }), ids(2, 3))
      : undefined;
    const drawn: number[] = [];
    for (let i = 0; i < 6; i++) {
      const spec = { phase: i === 0 ? ('prompt' as const) : ('generated' as const), sample: true };
      const tokens = i === 0 ? prompt(20) : [LAST_SAMPLE];
      const rows = other === undefined ? [] : [other.row(tokens, spec)];
      const result = await run(engine(), { rows: [...rows, sequence.row(tokens, spec)] });
      drawn.push(result.rows.at(-1)?.token ?? -1);
    }
    await run(engine(), { rows: [], close: [sequence.id, ...(other === undefined ? [] : [other.id])] });
    return drawn;
  };

  it('draws by seed, choice and position, not by row or batch', async () => {
    const expected = await draws(5n, 0, false);
    assert.deepEqual(await draws(5n, 0, true), expected);
    assert.notDeepEqual(await draws(6n, 0, false), expected);
    assert.notDeepEqual(await draws(5n, 1, false), expected);
  });

  it('never draws a banned token before its position, and may from there on', async () => {
    const [first, second] = await generate(engine(), prompt(30), 2);
    assert(first !== undefined && second !== undefined);
    const draw = async (bannedUntil: number): Promise<number> => {
      const sequence = new Sequence(engine(), greedy({ banned: [first], bannedUntil }), ids(0));
      const token = await sequence.draw(sequence.row(prompt(30), { sample: true }));
      await sequence.close();
      return token;
    };
    assert.notEqual(await draw(31), first, 'the first drawn token stands at position 30');
    assert.equal(await draw(30), first);
  });

  it('follows a logit bias', async () => {
    const [first] = await generate(engine(), prompt(30), 1);
    const forced = first === 17 ? 18 : 17;
    const sequence = new Sequence(engine(), greedy({ logitBias: new Map([[forced, 100]]) }), ids(0));
    assert.equal(await sequence.draw(sequence.row(prompt(30), { sample: true })), forced);
    await sequence.close();
  });

  it('reports log-probabilities of the drawn token and of the most likely ones, best first', async () => {
    const sequence = new Sequence(engine(), greedy({ logprobs: 4 }), ids(0));
    const { rows } = await run(engine(), { rows: [sequence.row(prompt(30), { sample: true })] });
    const { token, logprobs } = rows[0] ?? assert.fail();
    assert(logprobs);
    assert.equal(logprobs.token, token);
    assert(logprobs.logprob <= 0 && Number.isFinite(logprobs.logprob));
    assert.equal(logprobs.topTokens.length, 4);
    assert.equal(logprobs.topTokens[0], token, 'greedy draws the most likely token');
    const top = [...logprobs.topLogprobs];
    assert.deepEqual(
      top,
      [...top].sort((a, b) => b - a),
    );
    assert(Math.abs((top[0] ?? 0) - logprobs.logprob) < 1e-6);
    await sequence.close();
  });

  it('reports log-probabilities of prompt tokens across the borders of chunks', async () => {
    const tokens = prompt(40);
    const read = async (cuts: readonly number[]): Promise<[number, number][]> => {
      const sequence = new Sequence(engine(), greedy(), ids(0));
      const entries: [number, number][] = [];
      for (let i = 0; i + 1 < cuts.length; i++) {
        const end = cuts[i + 1] ?? 0;
        const nextToken = tokens[end];
        const row = sequence.row(tokens.slice(cuts[i], end), {
          promptLogprobs: true,
          topPromptLogprobs: 2,
          ...(nextToken === undefined ? {} : { nextToken }),
        });
        for (const entry of (await run(engine(), { rows: [row] })).rows[0]?.promptLogprobs ?? []) {
          assert.equal(entry.topTokens.length, 2);
          entries.push([entry.token, entry.logprob]);
        }
      }
      await sequence.close();
      return entries;
    };
    const whole = await read([0, 40]);
    assert.deepEqual(
      whole.map(([token]) => token),
      tokens.slice(1),
    );
    const cut = await read([0, 1, 16, 40]);
    assert.deepEqual(
      cut.map(([token]) => token),
      tokens.slice(1),
    );
    cut.forEach(([, logprob], i) => assert(Math.abs(logprob - (whole[i]?.[1] ?? NaN)) < 1e-2));
  });

  it('counts for penalties what it was opened with and what it drew, not the tokens of rows', async () => {
    const penalties = { frequencyPenalty: 1.5, repetitionPenalty: 1.3, presencePenalty: 0.5 };
    const tokens = prompt(70);
    const promptTokens = Int32Array.from(tokens);
    const sequence = new Sequence(engine(), { ...greedy(penalties), promptTokens }, ids(0, 1));
    const drawn: number[] = [];
    for (let i = 0; i < 6; i++) {
      const spec = { phase: i === 0 ? ('prompt' as const) : ('generated' as const), sample: true };
      drawn.push(await sequence.draw(sequence.row(i === 0 ? tokens : [LAST_SAMPLE], spec)));
    }
    await sequence.close();
    const generatedTokens = Int32Array.from(drawn.slice(0, 5));
    const again = new Sequence(engine(), { ...greedy(penalties), promptTokens, generatedTokens }, ids(2, 3));
    await run(engine(), { rows: [again.row(tokens, { sample: false })] });
    const row = again.row(drawn.slice(0, 5), { phase: 'generated', sample: true });
    assert.equal(await again.draw(row), drawn[5]);
    await again.close();
  });

  it('traces selected positions by layer and KV head', async () => {
    const sequence = new Sequence(engine(), greedy(), ids(0));
    await run(engine(), { rows: [sequence.row(prompt(30), { sample: false })] });
    const row = sequence.row([12], { phase: 'generated', sample: true, trace: true });
    const { trace } = (await run(engine(), { rows: [row] })).rows[0] ?? assert.fail();
    const { layers, kvHeads } = engine().info.model;
    assert.equal(trace?.length, layers);
    for (const heads of trace) {
      assert.equal(heads.length, kvHeads);
      for (const positions of heads)
        assert.deepEqual(
          [...positions],
          [...positions].sort((a, b) => a - b),
        );
    }
    await sequence.close();
  });
}

function describeRefusals(engine: () => Engine): void {
  const refused = async (message: RegExp, batch: (sequence: Sequence) => Batch): Promise<void> => {
    const expected = await generate(engine(), prompt(30), 1);
    const sequence = new Sequence(engine(), greedy(), ids(20));
    const before = engine().stats();
    const error = throwsWith('INVALID_ARGUMENT', () => engine().submit(batch(sequence)));
    assert.match(error.message, message);
    assert.equal(engine().stats().inFlight, before.inFlight);
    assert.equal(engine().stats().openSequences, before.openSequences);
    const row = sequence.row(prompt(30), { sample: true });
    assert.deepEqual([await sequence.draw(row)], expected, 'a refused batch changes nothing');
    await sequence.close();
  };
  const row = (sequence: Sequence, tokens: readonly number[], change: object = {}): Batch => ({
    rows: [{ ...sequence.peek(tokens, { sample: true }), ...change }],
  });

  const cases: [string, RegExp, (sequence: Sequence) => Batch][] = [
    ['a row past its next position', /^rows\[0\]/, (s) => row(s, prompt(4), { position: 3 })],
    ['a row without tokens', /^rows\[0\]/, (s) => row(s, [])],
    ['a token beyond the vocabulary', /^rows\[0\]/, (s) => row(s, [1, engine().info.model.vocabSize])],
    ['a negative token', /^rows\[0\]/, (s) => row(s, [1, -2])],
    ['the last sample of a sequence that drew none', /^rows\[0\]/, (s) => row(s, [LAST_SAMPLE])],
    ['a block table too short', /^rows\[0\]/, (s) => row(s, prompt(65))],
    [
      'a block beyond the pool',
      /^rows\[0\]/,
      (s) => row(s, prompt(4), { appendBlocks: ids(OPTIONS.blocks) }),
    ],
    ['an unknown sequence', /^rows\[0\]/, (s) => row(s, prompt(4), { sequence: 1_000_000 as SequenceId })],
    ['two rows of one sequence', /^rows\[1\]/, (s) => ({ rows: [...row(s, [1]).rows, ...row(s, [1]).rows] })],
    [
      'more tokens than a batch holds',
      /tokens/,
      (s) => row(s, prompt(161), { appendBlocks: ids(20, 21, 22) }),
    ],
    ['closing an unknown sequence', /close/, () => ({ rows: [], close: [1_000_000 as SequenceId] })],
    [
      'a copy of a block beyond the pool',
      /copies/,
      (s) => ({ ...row(s, [1]), copies: [{ from: ids(0)[0]!, to: ids(99)[0]! }] }),
    ],
  ];
  for (const [what, message, batch] of cases) it(`refuses ${what}, whole`, () => refused(message, batch));

  it('refuses sampling, attention and slots out of range', () => {
    throwsWith('INVALID_ARGUMENT', () => engine().openSequence(greedy({ temperature: -1 })));
    throwsWith('INVALID_ARGUMENT', () => engine().openSequence(greedy({ topP: 0 })));
    throwsWith('INVALID_ARGUMENT', () => engine().openSequence(greedy({ minP: 2 })));
    throwsWith('INVALID_ARGUMENT', () => engine().openSequence({ ...greedy(), attention: { fraction: 0 } }));
    throwsWith('INVALID_ARGUMENT', () => engine().openSequence({ ...greedy(), slot: 2 as 0 }));
    throwsWith('INVALID_ARGUMENT', () => engine().openSequence({ ...greedy(), blocks: ids(OPTIONS.blocks) }));
  });

  it('refuses one sequence more than it was opened for', async () => {
    const all = Array.from({ length: OPTIONS.maxSequences }, () => engine().openSequence(greedy()));
    const error = throwsWith('INVALID_ARGUMENT', () => engine().openSequence(greedy()));
    assert(error instanceof EngineError && error.message.includes(String(OPTIONS.maxSequences)));
    await run(engine(), { rows: [], close: all });
  });
}
