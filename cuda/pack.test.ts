import assert from 'node:assert/strict';
import { EngineError } from './errors.js';
import { packBatch, unpackResult } from './pack.js';
import type { BlockId, SequenceId } from './types.js';

const sequence = (id: number) => id as SequenceId;
const block = (id: number) => id as BlockId;

describe('packBatch', () => {
  // The same numbers as engine/batch_test.cc reads: the layout is held from both sides.
  it('lays a batch out as the native side reads it', () => {
    const packed = packBatch({
      rows: [
        {
          sequence: sequence(7),
          position: 64,
          tokens: Int32Array.of(-1, 11),
          phase: 'generated',
          appendBlocks: [block(30)],
          sample: true,
        },
        {
          sequence: sequence(8),
          position: 0,
          tokens: [9],
          phase: 'prompt',
          sample: false,
          promptLogprobs: true,
          topPromptLogprobs: 5,
          nextToken: 42,
          trace: true,
          quality: { layer: 2 },
        },
      ],
      copies: [{ from: block(3), to: block(4) }],
      close: [sequence(6)],
    });
    const rows = [7, 64, 1 | 2, 2, 1, 0, -1, -1, 11, 30, 8, 0, 4 | 8 | 16, 1, 0, 5, 42, 2, -1, 9];
    assert.deepEqual([...packed], [2, 1, 1, ...rows, 3, 4, 6]);
  });

  it('packs a batch that only closes', () => {
    assert.deepEqual([...packBatch({ rows: [], close: [sequence(5)] })], [0, 0, 1, 5]);
  });

  it('refuses by name what int32 would turn into another number', () => {
    const row = { sequence: sequence(1), position: 0, tokens: [1], phase: 'prompt', sample: false } as const;
    for (const [wrong, field] of [
      [{ ...row, position: 2 ** 31 }, 'rows[0].position'],
      [{ ...row, position: 0.5 }, 'rows[0].position'],
      [{ ...row, tokens: [1, NaN] }, 'rows[0].tokens[1]'],
      [{ ...row, nextToken: Infinity }, 'rows[0].nextToken'],
    ] as const) {
      assert.throws(
        () => packBatch({ rows: [wrong] }),
        (error) =>
          error instanceof EngineError && error.code === 'INVALID_ARGUMENT' && error.message.includes(field),
      );
    }
  });
});

describe('unpackResult', () => {
  const unpack = (ints: number[], floats: number[] = []) =>
    unpackResult(
      { step: 3, seconds: 0.5, ints: Int32Array.from(ints), floats: Float32Array.from(floats) },
      2,
      1,
    );

  it('reads what the native side packs (engine/batch_test.cc)', () => {
    const result = unpack(
      [1, 5, 0, 2, 6, 1 | 2 | 4 | 16, 6, 2, 6, 3, 1, 4, 0, 2, 0, 9, 0, 1, 1, 0, 3, -1, 8],
      [-0.5, -0.5, -1.5, -2, 0.25, 0.5, 0.75],
    );
    assert.equal(result.step, 3);
    assert.equal(result.seconds, 0.5);
    assert.deepEqual(result.rows, [
      { sequence: 1, token: 5 },
      {
        sequence: 2,
        token: 6,
        logprobs: {
          token: 6,
          logprob: -0.5,
          topTokens: Int32Array.of(6, 3),
          topLogprobs: Float32Array.of(-0.5, -1.5),
        },
        promptLogprobs: [
          { token: 4, logprob: -2, topTokens: new Int32Array(0), topLogprobs: new Float32Array(0) },
        ],
        trace: [[Int32Array.of(0, 9)], [new Int32Array(0)]],
        quality: [{ layer: 1, kvHead: 0, iou: 0.25, keptMass: 0.5, bestMass: 0.75 }],
      },
      { sequence: 3, corrupted: true },
    ]);
  });

  it('gives a row that drew nothing no token', () => {
    assert.deepEqual(unpack([4, -1, 0]).rows, [{ sequence: 4 }]);
  });

  it('reads no rows', () => {
    assert.deepEqual(unpack([]).rows, []);
  });
});
