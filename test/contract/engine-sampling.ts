// The contract's cases of drawing: seeds, bans, bias, log-probabilities, penalties, traces.
import assert from 'node:assert/strict';
import { LAST_SAMPLE } from '@spotlight/cuda';
import type { BatchRow, Engine } from '@spotlight/cuda';
import { Sequence, generate, greedy, ids, prompt, run, throwsWith } from './sequence.js';

export function describeSampling(engine: () => Engine): void {
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
    cut.forEach(([, logprob], i) => {
      assert(Math.abs(logprob - (whole[i]?.[1] ?? NaN)) < 1e-2);
    });
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

  it('measures the quality of a selection where a row asks for it', async () => {
    const { layers, kvHeads } = engine().info.model;
    const sequence = new Sequence(engine(), greedy(), ids(0));
    await run(engine(), { rows: [sequence.row(prompt(30), { sample: false })] });
    const ask = (quality: NonNullable<BatchRow['quality']>): BatchRow =>
      sequence.peek([12], { phase: 'generated', sample: true, quality });
    throwsWith('INVALID_ARGUMENT', () => engine().submit({ rows: [ask({ layer: layers })] }));
    const one = { phase: 'generated', sample: true, quality: { layer: 1, kvHead: 0 } } as const;
    const { rows } = await run(engine(), { rows: [sequence.row([12], one)] });
    assert.deepEqual(
      rows[0]?.quality?.map(({ layer, kvHead }) => [layer, kvHead]),
      [[1, 0]],
    );
    const all = { phase: 'generated', sample: true, quality: {} } as const;
    const { quality } = (await run(engine(), { rows: [sequence.row([13], all)] })).rows[0] ?? assert.fail();
    assert.equal(quality?.length, layers * kvHeads);
    for (const { iou, keptMass, bestMass } of quality) {
      assert(iou >= 0 && iou <= 1, String(iou));
      assert(keptMass >= 0 && keptMass <= bestMass + 1e-6 && bestMass <= 1.00001);
    }
    await sequence.close();
  });
}
