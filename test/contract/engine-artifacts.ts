// The contract's cases of artifact slots: two at once, each sequence under the one it is pinned to for life; codes of older
// blocks made anew by rehash() or before use; and what a selection is worth.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BlockId, Engine, Quality, RowResult, SlotId } from '@spotlight/cuda';
import { CONTRACT_OPTIONS } from './engine.js';
import { writeRandomArtifact } from './random-artifact.js';
import { Sequence, greedy, ids, prompt, rejectsWith, run, throwsWith } from './sequence.js';

/** Past the 256 tokens that are always read, so that codes decide; in rows an engine of 160 tokens a batch takes. */
const LENGTH = 400;
const TABLE = ids(0, 1, 2, 3, 4, 5, 6);

export function describeArtifacts(engine: () => Engine): void {
  let folder: string;
  let paths: readonly [string, string];
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-contract-'));
    paths = [join(folder, 'a.safetensors'), join(folder, 'b.safetensors')];
    await writeRandomArtifact(paths[0], engine().info, 1);
    await writeRandomArtifact(paths[1], engine().info, 2);
  });
  after(() => rm(folder, { recursive: true }));
  afterEach(async () => {
    await engine().unloadArtifact(0);
    await engine().unloadArtifact(1);
  });

  async function fill(sequence: Sequence, until = LENGTH): Promise<void> {
    const tokens = prompt(LENGTH);
    for (let at = 0; at < until; at += 100)
      await run(engine(), { rows: [sequence.row(tokens.slice(at, Math.min(at + 100, until)), {})] });
  }

  /** Three greedy tokens after the prompt, pinned to a slot. */
  async function decode(slot: SlotId, table: readonly BlockId[]): Promise<number[]> {
    const sequence = new Sequence(engine(), { ...greedy(), slot }, table);
    await fill(sequence);
    const drawn = await draw(sequence);
    await sequence.close();
    return drawn;
  }

  async function draw(sequence: Sequence): Promise<number[]> {
    const drawn: number[] = [];
    for (let token = 17; drawn.length < 3; drawn.push(token))
      token = await sequence.draw(sequence.row([token], { phase: 'generated', sample: true }));
    return drawn;
  }

  it('serves two artifacts at once, each sequence by the one it is pinned to', async () => {
    await engine().loadArtifact(0, paths[0]);
    const a = await decode(0, TABLE);
    await engine().unloadArtifact(0);
    await engine().loadArtifact(0, paths[1]);
    const b = await decode(0, TABLE);
    assert.notDeepEqual(a, b, 'the artifact decides what is drawn');
    await engine().unloadArtifact(0);
    const digests = [
      (await engine().loadArtifact(0, paths[0])).digest,
      (await engine().loadArtifact(1, paths[1])).digest,
    ];
    assert.deepEqual(
      engine().artifacts.map((artifact) => artifact?.digest),
      digests,
    );
    const one = new Sequence(engine(), { ...greedy(), slot: 0 }, TABLE);
    const two = new Sequence(engine(), { ...greedy(), slot: 1 }, ids(10, 11, 12, 13, 14, 15, 16));
    await fill(one);
    await fill(two);
    const drawn: [number[], number[]] = [[], []];
    let next = [17, 17];
    for (let i = 0; i < 3; i++) {
      const rows = [one, two].map((sequence, at) =>
        sequence.row([next[at] ?? 0], { phase: 'generated', sample: true }),
      );
      next = (await run(engine(), { rows })).rows.map((row) => row.token ?? -1);
      drawn[0].push(next[0] ?? -1);
      drawn[1].push(next[1] ?? -1);
    }
    assert.deepEqual(drawn, [a, b]);
    await rejectsWith('INVALID_ARGUMENT', () => engine().unloadArtifact(1));
    await rejectsWith('INVALID_ARGUMENT', () => engine().loadArtifact(0, paths[1]));
    await run(engine(), { rows: [], close: [one.id, two.id] });
  });

  for (const way of ['before use', 'by rehash()'] as const) {
    it(`finds blocks that were filled under another artifact, their codes made anew ${way}`, async () => {
      await engine().loadArtifact(1, paths[1]);
      const expected = await decode(1, TABLE);
      await engine().unloadArtifact(1);
      await engine().loadArtifact(0, paths[0]);
      const filler = new Sequence(engine(), { ...greedy(), slot: 0 }, TABLE);
      await fill(filler, 384);
      await filler.close();
      await engine().loadArtifact(1, paths[1]);
      const blocks = TABLE.slice(0, 6);
      if (way === 'by rehash()') {
        const seconds = await engine().rehash(
          1,
          blocks,
          blocks.map(() => 64),
        );
        assert.ok(seconds > 0 && seconds < 60, `${seconds} s`);
      }
      const sequence = new Sequence(engine(), { ...greedy(), slot: 1, blocks }, TABLE.slice(6), 384);
      await run(engine(), { rows: [sequence.row(prompt(LENGTH).slice(384), {})] });
      assert.deepEqual(await draw(sequence), expected);
      await sequence.close();
    });
  }

  it('takes tokens of both slots into both planes from the moment an artifact is in', async () => {
    await engine().loadArtifact(1, paths[1]);
    const expected = await decode(1, TABLE);
    await engine().unloadArtifact(1);
    await engine().loadArtifact(0, paths[0]);
    // Half of the blocks before the second artifact is in, one of them partly; half after.
    const filler = new Sequence(engine(), { ...greedy(), slot: 0 }, TABLE);
    await fill(filler, 200);
    await engine().loadArtifact(1, paths[1]);
    await run(engine(), { rows: [filler.row(prompt(LENGTH).slice(200, 320), {})] });
    await run(engine(), { rows: [filler.row(prompt(LENGTH).slice(320, 384), {})] });
    await filler.close();
    const sequence = new Sequence(
      engine(),
      { ...greedy(), slot: 1, blocks: TABLE.slice(0, 6) },
      TABLE.slice(6),
      384,
    );
    await run(engine(), { rows: [sequence.row(prompt(LENGTH).slice(384), {})] });
    assert.deepEqual(await draw(sequence), expected);
    await sequence.close();
  });

  describe('quality', () => {
    const quality = (row: RowResult | undefined): readonly Quality[] =>
      row?.quality ?? assert.fail('no quality');

    it('is 1 where a row attends densely, and tells what was left out where it retrieves', async () => {
      await engine().loadArtifact(0, paths[0]);
      const sequence = new Sequence(engine(), greedy(), TABLE);
      await fill(sequence);
      const row = sequence.row([17, 18, 19], { phase: 'generated', sample: true, quality: {} });
      const other = new Sequence(engine(), greedy(), ids(10));
      const { rows } = await run(engine(), {
        rows: [other.row(prompt(30), { sample: true, quality: {} }), row],
      });
      for (const { iou, keptMass, bestMass } of quality(rows[0]))
        assert.deepEqual([iou, keptMass, bestMass], [1, 1, 1]);
      for (const { iou, keptMass, bestMass } of quality(rows[1])) {
        assert.ok(iou > 0 && iou < 1, `${iou}`);
        assert.ok(keptMass > 0 && keptMass < bestMass && bestMass < 1, `${keptMass} ${bestMass}`);
      }
      const next = sequence.row([17], { phase: 'generated', sample: true });
      assert.equal((await run(engine(), { rows: [next] })).rows[0]?.quality, undefined);
      await run(engine(), { rows: [], close: [sequence.id, other.id] });
    });

    it('changes no token', async () => {
      await engine().loadArtifact(0, paths[0]);
      const expected = await decode(0, TABLE);
      const sequence = new Sequence(engine(), greedy(), TABLE);
      await fill(sequence);
      const drawn: number[] = [];
      for (let token = 17; drawn.length < 3; drawn.push(token))
        token = await sequence.draw(sequence.row([token], { phase: 'generated', sample: true, quality: {} }));
      assert.deepEqual(drawn, expected);
      await sequence.close();
    });
  });

  it('lets a sequence retrieve in contexts that the deployment serves densely, and the other way round', async () => {
    await engine().loadArtifact(0, paths[0]);
    const sequence = new Sequence(engine(), { ...greedy(), attention: { crossover: 5000 } }, TABLE);
    await fill(sequence);
    const row = sequence.row([17], { phase: 'generated', sample: true, quality: {} });
    const [result] = (await run(engine(), { rows: [row] })).rows;
    assert.ok(result?.quality?.every(({ iou, bestMass }) => iou === 1 && bestMass === 1));
    await sequence.close();
    assert.throws(
      () => engine().openSequence({ ...greedy(), attention: { crossover: -1 } }),
      /attention\.crossover/,
    );
  });

  it('takes other settings between sequences, as an artifact may recommend them, and none while one is open', async () => {
    const { attention } = CONTRACT_OPTIONS;
    const dense = { ...attention, backend: 'dense' } as const;
    const isDense = async (): Promise<boolean> => {
      const sequence = new Sequence(engine(), greedy(), TABLE);
      await fill(sequence);
      const row = sequence.row([17], { phase: 'generated', sample: true, quality: {} });
      const [result] = (await run(engine(), { rows: [row] })).rows;
      await sequence.close();
      return result?.quality?.every(({ iou }) => iou === 1) ?? assert.fail('no quality');
    };
    await engine().loadArtifact(0, paths[0]);
    const sequence = new Sequence(engine(), greedy(), ids(0));
    const refused = throwsWith('INVALID_ARGUMENT', () => {
      engine().setAttention(dense);
    });
    assert.match(refused.message, /^attention: /);
    await sequence.close();
    const wrong = throwsWith('INVALID_ARGUMENT', () => {
      engine().setAttention({ ...dense, fraction: 0 });
    });
    assert.match(wrong.message, /^attention\.fraction: /);
    assert.equal(await isDense(), false, 'what was refused changed nothing');
    engine().setAttention(dense);
    assert.equal(await isDense(), true);
    engine().setAttention(attention);
    assert.equal(await isDense(), false);
  });
}
