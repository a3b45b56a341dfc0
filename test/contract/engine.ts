// The step ABI's contract: cases every engine passes, the native one and the fake. They compare an engine with itself
// (the same tokens by another way), so that they hold for any weights; greedy draws, so that a seed is not in the way.
import assert from 'node:assert/strict';
import { BLOCK_SIZE, LAST_SAMPLE } from '@spotlight/cuda';
import type { AttentionSettings, Batch, Engine } from '@spotlight/cuda';
import { describeArtifacts } from './engine-artifacts.js';
import { describeRefusals } from './engine-refusals.js';
import { describeSampling } from './engine-sampling.js';
import { Sequence, generate, greedy, ids, prompt, rejectsWith, run, throwsWith } from './sequence.js';

export interface ContractOptions {
  readonly blocks: number;
  readonly maxBatchTokens: number;
  readonly maxSequences: number;
  readonly attention: AttentionSettings;
}

export type OpenEngine = (options: ContractOptions) => Promise<Engine>;

export const CONTRACT_OPTIONS: ContractOptions = {
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

export function engineContract(name: string, open: OpenEngine): void {
  describe(`engine contract: ${name}`, function () {
    this.timeout(120_000);
    let engine: Engine;

    before(async () => {
      engine = await open(CONTRACT_OPTIONS);
    });
    after(() => engine.dispose());
    afterEach(() => {
      const { inFlight, openSequences } = engine.stats();
      assert.deepEqual({ inFlight, openSequences }, { inFlight: 0, openSequences: 0 }, 'a case cleans up');
    });

    describeSteps(() => engine);
    describeBlocks(() => engine);
    describeSampling(() => engine);
    describeRefusals(() => engine);
    describeArtifacts(() => engine);

    it('reports what it was opened with', () => {
      const { info } = engine;
      assert.equal(info.blocks, CONTRACT_OPTIONS.blocks);
      assert.equal(info.maxBatchTokens, CONTRACT_OPTIONS.maxBatchTokens);
      assert.equal(info.maxSequences, CONTRACT_OPTIONS.maxSequences);
      assert.match(info.fingerprint, /^[0-9a-f]{64}$/);
      assert(info.model.vocabSize > 211 && info.model.maxModelLen >= CONTRACT_OPTIONS.blocks * BLOCK_SIZE);
    });

    it('disposes once, steps in flight first, and refuses every call after', async () => {
      const other = await open(CONTRACT_OPTIONS);
      const sequence = new Sequence(other, greedy(), ids(0));
      other.submit({ rows: [sequence.row(prompt(30), { sample: true })] });
      await Promise.all([other.dispose(), other.dispose()]);
      await other.dispose();
      throwsWith('ENGINE_DISPOSED', () => other.openSequence(greedy()));
      throwsWith('ENGINE_DISPOSED', () => other.submit({ rows: [] }));
      await rejectsWith('ENGINE_DISPOSED', () => other.collect());
    });

    it('works beside a second engine in one process', async () => {
      const other = await open(CONTRACT_OPTIONS);
      const [mine, theirs] = await Promise.all([
        generate(engine, prompt(40), 3),
        generate(other, prompt(40), 3),
      ]);
      assert.deepEqual(mine, theirs);
      await other.dispose();
    });
  });
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
