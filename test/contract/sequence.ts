// One native sequence as contract cases drive it: remembers its position and hands out blocks as rows need them.
import assert from 'node:assert/strict';
import { BLOCK_SIZE, EngineError } from '@spotlight/cuda';
import type {
  Batch,
  BatchRow,
  BlockId,
  Engine,
  EngineErrorCode,
  SamplingState,
  SequenceId,
  SequenceOptions,
  StepResult,
} from '@spotlight/cuda';

export const ids = (...blocks: number[]): BlockId[] => blocks as BlockId[];

export function greedy(sampling: Partial<SamplingState> = {}): SequenceOptions {
  return {
    sampling: {
      seed: 1n,
      choice: 0,
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      presencePenalty: 0,
      frequencyPenalty: 0,
      repetitionPenalty: 1,
      ...sampling,
    },
    slot: 0,
  };
}

export async function run(engine: Engine, batch: Batch): Promise<StepResult> {
  engine.submit(batch);
  return engine.collect();
}

export class Sequence {
  readonly id: SequenceId;
  #held: number;

  /** @param blocks given out in order as rows need them, after those of `options.blocks` */
  constructor(
    private readonly engine: Engine,
    options: SequenceOptions,
    private readonly blocks: readonly BlockId[],
    private position = 0,
  ) {
    this.id = engine.openSequence(options);
    this.#held = options.blocks?.length ?? 0;
    this.#given = 0;
  }

  #given: number;

  /** The next row, without taking it: as row(), but a second call gives the same. */
  peek(tokens: readonly number[], spec: Partial<BatchRow>): BatchRow {
    const need = Math.ceil((this.position + tokens.length) / BLOCK_SIZE) - this.#held;
    const appendBlocks = this.blocks.slice(this.#given, this.#given + Math.max(0, need));
    return {
      sequence: this.id,
      position: this.position,
      tokens,
      phase: 'prompt',
      sample: false,
      ...(appendBlocks.length === 0 ? {} : { appendBlocks }),
      ...spec,
    };
  }

  /** The next row; it is taken as submitted. */
  row(tokens: readonly number[], spec: Partial<BatchRow>): BatchRow {
    const row = this.peek(tokens, spec);
    this.position += tokens.length;
    this.#held += row.appendBlocks?.length ?? 0;
    this.#given += row.appendBlocks?.length ?? 0;
    return row;
  }

  /** Runs one row alone and gives the token it drew. */
  async draw(row: BatchRow): Promise<number> {
    const { rows } = await run(this.engine, { rows: [row] });
    assert.equal(rows[0]?.sequence, this.id);
    assert(rows[0].token !== undefined, 'the row drew a token');
    return rows[0].token;
  }

  async close(): Promise<void> {
    await run(this.engine, { rows: [], close: [this.id] });
  }
}

/** Token ids any vocabulary of 211 has, without a period. */
export const prompt = (length: number, salt = 0): number[] =>
  Array.from({ length }, (_, i) => 11 + ((i * 37 + salt * 101 + ((i * i) % 53)) % 200));

/** Greedy tokens after a prompt in one row, each fed back by number. Uses the first blocks of the pool. */
export async function generate(engine: Engine, tokens: readonly number[], count: number): Promise<number[]> {
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

export function throwsWith(code: EngineErrorCode, call: () => unknown): EngineError {
  let thrown: unknown;
  try {
    call();
  } catch (error) {
    thrown = error;
  }
  assert(thrown instanceof EngineError, `${code} was expected, ${String(thrown)} was thrown`);
  assert.equal(thrown.code, code, thrown.message);
  return thrown;
}

export async function rejectsWith(code: EngineErrorCode, call: () => Promise<unknown>): Promise<void> {
  await assert.rejects(call, (error) => error instanceof EngineError && error.code === code);
}
