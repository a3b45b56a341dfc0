// A step on its way: which tokens of which choices run (Plan), and the batch the native engine takes of it. The plan is
// kept until the step has retired and then used again, since a plan a step would be the loop's largest garbage.
import { LAST_SAMPLE } from '@spotlight/cuda';
import type { Batch, BatchRow, BlockId, Engine, SequenceId, SequenceOptions } from '@spotlight/cuda';
import type { Probe } from './quality.js';
import type { Choice, Request } from './request.js';
import type { SequenceMemory } from './sequence-memory.js';

const LAST_DRAWN: readonly number[] = [LAST_SAMPLE];

export class Plan {
  readonly choices: Choice[] = [];
  readonly start: Int32Array;
  readonly count: Int32Array;
  /** 1 where the row draws a token. */
  readonly draws: Uint8Array;
  /** 1 where the row's prompt log-probabilities are wanted. */
  readonly reads: Uint8Array;
  readonly incarnation: Int32Array;
  /** Tokens of all rows. */
  tokens = 0;
  /** Tokens of rows that draw after one new token. */
  decodeTokens = 0;
  /** Sequences the batch closes. */
  closes = 0;
  step = 0;
  /** The row that is measured. */
  probe: Probe | undefined;

  constructor(maxRows: number) {
    this.start = new Int32Array(maxRows);
    this.count = new Int32Array(maxRows);
    this.draws = new Uint8Array(maxRows);
    this.reads = new Uint8Array(maxRows);
    this.incarnation = new Int32Array(maxRows);
  }

  get rows(): number {
    return this.choices.length;
  }

  clear(): void {
    this.choices.length = 0;
    this.tokens = 0;
    this.decodeTokens = 0;
    this.closes = 0;
    this.step = 0;
    this.probe = undefined;
  }

  /** Tokens [start, start + count) of the choice run in this step. */
  add(choice: Choice, start: number, count: number, draws: boolean, reads = false): void {
    const row = this.choices.length;
    this.choices.push(choice);
    this.start[row] = start;
    this.count[row] = count;
    this.draws[row] = draws ? 1 : 0;
    this.reads[row] = reads ? 1 : 0;
    this.incarnation[row] = choice.incarnation;
    this.tokens += count;
    if (draws && count === 1) this.decodeTokens++;
  }

  /** Takes a request's rows out again, before the plan is packed. */
  drop(request: Request): void {
    const rows = this.choices.map((choice, row) => ({
      choice,
      start: this.start[row] ?? 0,
      count: this.count[row] ?? 0,
      draws: this.draws[row] === 1,
      reads: this.reads[row] === 1,
    }));
    this.clear();
    for (const { choice, start, count, draws, reads } of rows) {
      if (choice.request !== request) this.add(choice, start, count, draws, reads);
    }
  }

  end(row: number): number {
    return (this.start[row] ?? 0) + (this.count[row] ?? 0);
  }
}

/** What opening a choice's native sequence takes: everything before position `computed` is filled. */
export function sequenceOptions(choice: Choice, endTokens: ReadonlySet<number>): SequenceOptions {
  const { request, index } = choice;
  const { sampling, attention } = request;
  const banned = sampling.minTokens > 0 ? new Set(sampling.stopTokenIds) : undefined;
  if (banned !== undefined && !sampling.ignoreEos) for (const id of endTokens) banned.add(id);
  return {
    sampling: {
      seed: sampling.seed,
      choice: index,
      temperature: sampling.temperature,
      topK: sampling.topK,
      topP: sampling.topP,
      minP: sampling.minP,
      presencePenalty: sampling.presencePenalty,
      frequencyPenalty: sampling.frequencyPenalty,
      repetitionPenalty: sampling.repetitionPenalty,
      ...(sampling.logitBias === undefined ? {} : { logitBias: sampling.logitBias }),
      ...(banned === undefined
        ? {}
        : { banned: [...banned], bannedUntil: request.prompt.length + sampling.minTokens }),
      ...(sampling.logprobs === undefined ? {} : { logprobs: sampling.logprobs }),
    },
    attention: {
      ...(attention.backend === undefined ? {} : { backend: attention.backend }),
      ...(attention.fraction === undefined ? {} : { fraction: attention.fraction }),
      ...(attention.tail === undefined ? {} : { tail: attention.tail }),
      // What is measured retrieves, however short the text.
      ...(request.measure === undefined ? {} : { crossover: 0 }),
    },
    slot: request.slot,
    ...(request.hasPenalty
      ? { promptTokens: request.prompt, generatedTokens: Int32Array.from(choice.generated) }
      : {}),
    blocks: choice.table.slice(0, choice.sentBlocks),
  };
}

/** The batch of a plan whose choices all have sequences. Changes nothing: submitted() does, once the step is queued. */
export function pack(plan: Plan, memory: SequenceMemory): Batch {
  const rows: BatchRow[] = [];
  let copies: { from: BlockId; to: BlockId }[] | undefined;
  for (let row = 0; row < plan.rows; row++) {
    const choice = plan.choices[row];
    if (choice?.sequence === undefined) throw new RangeError(`row ${row} has no sequence`);
    rows.push(packRow(plan, row, choice, choice.sequence));
    if (choice.copyFrom !== undefined) {
      copies ??= [];
      copies.push({ from: choice.copyFrom, to: choice.table.at(choice.sentBlocks - 1) });
    }
  }
  return {
    rows,
    ...(copies === undefined ? {} : { copies }),
    ...(memory.closing.length === 0 ? {} : { close: memory.closing.slice() }),
  };
}

function packRow(plan: Plan, row: number, choice: Choice, sequence: SequenceId): BatchRow {
  const { request, table } = choice;
  const position = plan.start[row] ?? 0;
  const end = plan.end(row);
  const known = choice.known;
  const packed: { -readonly [K in keyof BatchRow]: BatchRow[K] } = {
    sequence,
    position,
    tokens: position >= known ? LAST_DRAWN : choice.tokens(position, end),
    phase: request.phaseAt(position),
    sample: plan.draws[row] === 1,
  };
  if (table.length > choice.sentBlocks) packed.appendBlocks = table.slice(choice.sentBlocks);
  if (plan.probe?.row === row) packed.quality = { layer: plan.probe.layer, kvHead: plan.probe.kvHead };
  else if (request.measure !== undefined && packed.phase === 'generated') packed.quality = {};
  if (plan.reads[row] === 1) {
    packed.promptLogprobs = true;
    packed.topPromptLogprobs = request.sampling.logprobs ?? 0;
    if (end < request.prompt.length) packed.nextToken = choice.tokenAt(end);
  }
  return packed;
}

/** The step is queued: what the plan says has become true of its choices. */
export function submitted(plan: Plan, step: number, memory: SequenceMemory): void {
  plan.step = step;
  plan.closes = memory.closing.length;
  memory.closing.length = 0;
  memory.submitted = step;
  for (let row = 0; row < plan.rows; row++) {
    const choice = plan.choices[row];
    if (choice === undefined) continue;
    choice.computed = plan.end(row);
    choice.sentBlocks = choice.table.length;
    if (plan.draws[row] === 1) choice.pending++;
    memory.copied(choice);
  }
}

/** Opens the native sequence of a choice that has none. Throws what the native engine says of its options. */
export function open(choice: Choice, native: Engine, endTokens: ReadonlySet<number>, filled: number): void {
  choice.sentBlocks = filled;
  choice.sequence = native.openSequence(sequenceOptions(choice, endTokens));
}
