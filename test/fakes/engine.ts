// A native engine without a model: it keeps every rule of the step ABI, and draws tokens from a hash of the sequence's
// whole content read through a simulated block store (kv-store.ts), so that policy tests catch mistakes in block tables
// and copies exactly. Steps run one after another, each after a set time, two in flight.
import { setImmediate, setTimeout } from 'node:timers/promises';
import { EngineError, LAST_SAMPLE, MAX_STEPS_IN_FLIGHT } from '@spotlight/cuda';
import type {
  ArtifactInfo,
  AttentionSettings,
  Batch,
  BatchRow,
  BlockId,
  Engine,
  EngineInfo,
  EngineStats,
  Logprobs,
  Quality,
  RowResult,
  SequenceId,
  SequenceOptions,
  SlotId,
  StepId,
  StepResult,
  TokenizerMetadata,
} from '@spotlight/cuda';
import { checkBatch, checkSequence } from './abi-rules.js';
import { fakeArtifact, fakeInfo, fakeSettings } from './engine-info.js';
import { KvStore, mix, mixText } from './kv-store.js';

export interface FakeEngineOptions {
  readonly blocks?: number;
  readonly maxBatchTokens?: number;
  readonly maxSequences?: number;
  readonly vocabSize?: number;
  readonly maxModelLen?: number;
  readonly decodeSizes?: readonly number[];
  readonly eosTokenIds?: readonly number[];
  readonly attention?: Partial<AttentionSettings>;
  /** Digests of the artifacts in slots 0 and 1 at the start. */
  readonly artifacts?: readonly string[];
  /** Milliseconds a step takes; 0 is one turn of the event loop. */
  readonly stepMs?: number | ((batch: Batch) => number);
  /** The step that faults, counted from 1. */
  readonly dieAtStep?: number;
  /** Rows whose first position becomes NaN: what attends to it from then on is corrupted. */
  readonly damages?: (row: BatchRow, step: number) => boolean;
  /** Checks no rule and draws from the last position alone: a bench must not measure the fake. */
  readonly lean?: boolean;
}

/** What the fake keeps of one open sequence. */
export interface FakeSequence {
  readonly id: SequenceId;
  readonly options: SequenceOptions;
  readonly table: number[];
  /** Next position a row may start at; undefined before the first row of a sequence opened with blocks. */
  next: number | undefined;
  /** Whether a row submitted so far draws. */
  draws: boolean;
  lastSample: number;
  /** Order-free sums over tokens that penalties look at. */
  penalty: number;
}

interface Step {
  /** Blocks of its rows' tables. */
  readonly written: readonly number[];
  readonly done: Promise<StepResult>;
}

/** What rehashing a block takes. */
const REHASH_SECONDS = 0.001;

export class FakeEngine implements Engine {
  readonly info: EngineInfo;
  readonly artifacts: (ArtifactInfo | undefined)[];
  /** Open sequences' tables that hold each block. */
  readonly tables: Int32Array;
  /** Rows in flight whose tables hold each block. */
  readonly inFlight: Int32Array;
  readonly sequences = new Map<SequenceId, FakeSequence>();
  #settings: AttentionSettings;
  readonly #store: KvStore;
  readonly #queue: Step[] = [];
  #tail: Promise<unknown> = Promise.resolve();
  #opened = 0;
  #steps = 0;
  #tokens = 0;
  #busySeconds = 0;
  #dead: EngineError | undefined;
  #disposed = false;

  constructor(private readonly options: FakeEngineOptions = {}) {
    this.#settings = { ...fakeSettings, ...options.attention };
    const blocks = options.blocks ?? 64;
    this.#store = new KvStore(blocks);
    this.tables = new Int32Array(blocks);
    this.inFlight = new Int32Array(blocks);
    this.info = fakeInfo(options, blocks);
    this.artifacts = [0, 1].map((slot) => fakeArtifact(options.artifacts?.[slot], this.info));
  }

  setAttention(settings: AttentionSettings): void {
    this.#checkAlive();
    if (this.sequences.size > 0 || this.#queue.length > 0)
      throw new EngineError(
        'INVALID_ARGUMENT',
        'attention: set it while no sequence is open and no step runs',
      );
    if (settings.fraction <= 0 || settings.fraction > 1)
      throw new EngineError('INVALID_ARGUMENT', 'attention.fraction: must be above 0 and at most 1');
    this.#settings = settings;
  }

  openSequence(options: SequenceOptions): SequenceId {
    this.#checkAlive();
    if (this.options.lean !== true) checkSequence(this, options);
    const id = ++this.#opened as SequenceId;
    const table = [...(options.blocks ?? [])];
    for (const block of table) count(this.tables, block, 1);
    const seen = [
      ...(options.promptTokens ?? []),
      ...Array.from(options.generatedTokens ?? [], (token) => token + 1e6),
    ];
    this.sequences.set(id, {
      id,
      options,
      table,
      next: table.length === 0 ? 0 : undefined,
      draws: false,
      lastSample: -1,
      penalty: seen.reduce((sum, token) => (sum + mix(token, 7)) >>> 0, 0),
    });
    return id;
  }

  submit(batch: Batch): StepId {
    this.#checkAlive();
    if (this.#queue.length === MAX_STEPS_IN_FLIGHT)
      throw new EngineError('QUEUE_FULL', 'two steps are in flight');
    if (this.options.lean !== true) checkBatch(this, batch);
    for (const id of batch.close ?? []) this.#close(id);
    const sequences = batch.rows.map((row) => this.#enter(row));
    const id = ++this.#steps as StepId;
    const done = this.#tail.then(() => this.#run(id, batch, sequences));
    done.catch(() => undefined);
    this.#tail = done.catch(() => undefined);
    const written = this.options.lean === true ? [] : sequences.flatMap(({ table }) => table);
    for (const block of written) count(this.inFlight, block, 1);
    this.#queue.push({ written, done });
    return id;
  }

  async collect(): Promise<StepResult> {
    this.#checkAlive();
    const step = this.#queue[0];
    if (step === undefined) throw new EngineError('INVALID_ARGUMENT', 'collect(): no step is in flight');
    try {
      return await step.done;
    } finally {
      this.#queue.shift();
      for (const block of step.written) count(this.inFlight, block, -1);
    }
  }

  async loadArtifact(slot: SlotId, path: string): Promise<ArtifactInfo> {
    await this.#settle();
    this.#checkSlotFree(slot);
    const artifact = fakeArtifact(path, this.info);
    if (artifact === undefined) throw new EngineError('ARTIFACT_NOT_FOUND', `no artifact at "${path}"`);
    this.artifacts[slot] = artifact;
    return artifact;
  }

  async unloadArtifact(slot: SlotId): Promise<void> {
    await this.#settle();
    this.#checkSlotFree(slot);
    this.artifacts[slot] = undefined;
  }

  async rehash(_slot: SlotId, blocks: readonly BlockId[], filled: readonly number[]): Promise<number> {
    await this.#settle();
    if (blocks.length !== filled.length)
      throw new EngineError('INVALID_ARGUMENT', 'filled: one entry a block');
    return blocks.length * REHASH_SECONDS;
  }

  readonly fill = () => Promise.reject(new EngineError('INVALID_ARGUMENT', 'fill: no GPU'));

  stats(): EngineStats {
    return {
      steps: this.#steps,
      tokens: this.#tokens,
      inFlight: this.#queue.length,
      openSequences: this.sequences.size,
      busySeconds: this.#busySeconds,
      selectedTokens: 0,
      contextTokens: 0,
      denseFallbackRows: 0,
      sparseRows: 0,
    };
  }

  tokenizerMetadata(): TokenizerMetadata | undefined {
    return undefined;
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#tail;
    this.#queue.length = 0;
  }

  // ---- submitting: host-side books ----------------------------------------------------------------------------------

  #enter(row: BatchRow): FakeSequence {
    const sequence = this.sequences.get(row.sequence);
    if (sequence === undefined) throw new EngineError('INTERNAL', 'a checked row lost its sequence');
    for (const block of row.appendBlocks ?? []) {
      sequence.table.push(block);
      count(this.tables, block, 1);
    }
    sequence.next = row.position + row.tokens.length;
    sequence.draws ||= row.sample;
    return sequence;
  }

  #close(id: SequenceId): void {
    for (const block of this.sequences.get(id)?.table ?? []) count(this.tables, block, -1);
    this.sequences.delete(id);
  }

  // ---- running: what a device does ----------------------------------------------------------------------------------

  async #run(id: StepId, batch: Batch, sequences: readonly FakeSequence[]): Promise<StepResult> {
    const { stepMs = 0 } = this.options;
    const ms = typeof stepMs === 'number' ? stepMs : stepMs(batch);
    const start = performance.now();
    await (ms > 0 ? setTimeout(ms) : setImmediate());
    if (id === this.options.dieAtStep)
      this.#dead ??= new EngineError('ENGINE_DEAD', `device fault in step ${id}`);
    if (this.#dead !== undefined) throw this.#dead;
    for (const { from, to } of batch.copies ?? []) this.#store.copy(from, to);
    const rows = batch.rows.map((row, index) => this.#runRow(id, row, sequences[index]));
    const seconds = (performance.now() - start) / 1000;
    this.#busySeconds += seconds;
    return { step: id, rows, seconds };
  }

  #runRow(step: StepId, row: BatchRow, sequence: FakeSequence | undefined): RowResult {
    if (sequence === undefined) throw new EngineError('INTERNAL', 'a row has no sequence');
    const last = row.position + row.tokens.length - 1;
    const phase = row.phase === 'prompt' ? 0 : this.#sparsePhase(sequence, last);
    const promptLogprobs: Logprobs[] = [];
    for (let i = 0; i < row.tokens.length; i++) {
      const given = row.tokens[i] ?? 0;
      const position = row.position + i;
      this.#store.write(sequence.table, position, given === LAST_SAMPLE ? sequence.lastSample : given, phase);
      if (i === 0 && this.options.damages?.(row, step) === true) this.#store.damage(sequence.table, position);
      const next = i + 1 < row.tokens.length ? row.tokens[i + 1] : row.nextToken;
      if (row.promptLogprobs === true && next !== undefined) {
        const context = this.#store.read(sequence.table, position);
        promptLogprobs.push(this.#logprobs(context, next, row.topPromptLogprobs ?? 0));
      }
    }
    this.#tokens += row.tokens.length;
    // The last position whose logits are wanted; damage reaches everything behind it.
    const wanted = row.sample ? last : row.position + promptLogprobs.length - 1;
    if ((row.sample || promptLogprobs.length > 0) && this.#store.isDamaged(sequence.table, wanted))
      return { sequence: sequence.id, corrupted: true };
    return {
      sequence: sequence.id,
      ...(row.sample ? this.#draw(sequence, last) : {}),
      ...(row.promptLogprobs === true ? { promptLogprobs } : {}),
      ...(row.trace === true ? { trace: this.#trace(phase, last) } : {}),
      ...(row.quality === undefined ? {} : { quality: this.#quality(row.quality, phase) }),
    };
  }

  /** A number for how generated tokens attend; 0, as for prompts, when densely. */
  #sparsePhase(sequence: FakeSequence, position: number): number {
    const { slot, attention } = sequence.options;
    const artifact = this.artifacts[slot];
    const backend = attention?.backend ?? this.#settings.backend;
    if (artifact === undefined || backend === 'dense') return 0;
    const { fraction, tail, crossover = 0 } = { ...this.#settings, ...attention };
    if (position + 1 < crossover) return 0;
    return mixText(`${artifact.digest} ${fraction} ${tail}`) | 1;
  }

  #draw(sequence: FakeSequence, position: number): { token: number; logprobs?: Logprobs } {
    const { sampling } = sequence.options;
    const context =
      this.options.lean === true
        ? this.#store.read(sequence.table, position)
        : this.#store.context(sequence.table, position);
    let h = mix(context, position);
    if (sampling.temperature > 0) h = mix(mix(h, Number(BigInt.asUintN(32, sampling.seed))), sampling.choice);
    const penalised =
      sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0 || sampling.repetitionPenalty !== 1;
    if (penalised) h = mix(h, sequence.penalty);
    let token = forced(sampling.logitBias) ?? h % this.info.model.vocabSize;
    while (this.#mayNotDraw(sequence, token, position + 1)) token = (token + 1) % this.info.model.vocabSize;
    sequence.lastSample = token;
    sequence.penalty = (sequence.penalty + mix(token + 1e6, 7)) >>> 0;
    if (sampling.logprobs === undefined) return { token };
    return { token, logprobs: this.#logprobs(h, token, sampling.logprobs) };
  }

  #mayNotDraw({ options: { sampling } }: FakeSequence, token: number, position: number): boolean {
    if ((sampling.logitBias?.get(token) ?? 0) <= -50) return true;
    return position < (sampling.bannedUntil ?? 0) && sampling.banned?.includes(token) === true;
  }

  /** The token as most likely, then its successors in the vocabulary. */
  #logprobs(context: number, token: number, top: number): Logprobs {
    const best = -((mix(context, token) % 1000) + 1) / 1000;
    const { vocabSize } = this.info.model;
    return {
      token,
      logprob: best,
      topTokens: Int32Array.from({ length: top }, (_, i) => (token + i) % vocabSize),
      topLogprobs: Float32Array.from({ length: top }, (_, i) => best - i),
    };
  }

  /** Alike for every head: all 1 where generated tokens attend densely. */
  #quality(wanted: NonNullable<BatchRow['quality']>, phase: number): Quality[] {
    const { layers, kvHeads } = this.info.model;
    const values =
      phase === 0 ? { iou: 1, keptMass: 1, bestMass: 1 } : { iou: 0.5, keptMass: 0.75, bestMass: 0.875 };
    return Array.from({ length: layers * kvHeads }, (_, i) => ({
      layer: Math.floor(i / kvHeads),
      kvHead: i % kvHeads,
      ...values,
    })).filter(
      ({ layer, kvHead }) => layer === (wanted.layer ?? layer) && kvHead === (wanted.kvHead ?? kvHead),
    );
  }

  #trace(phase: number, position: number): Int32Array[][] {
    const { layers, kvHeads } = this.info.model;
    const selected =
      phase === 0 ? [] : Array.from({ length: Math.min(position + 1, 8) }, (_, i) => position - i).reverse();
    return Array.from({ length: layers }, () =>
      Array.from({ length: kvHeads }, () => Int32Array.from(selected)),
    );
  }

  // ---- state --------------------------------------------------------------------------------------------------------

  #checkAlive(): void {
    if (this.#dead !== undefined) throw this.#dead;
    if (this.#disposed) throw new EngineError('ENGINE_DISPOSED', 'the engine is disposed');
  }

  async #settle(): Promise<void> {
    this.#checkAlive();
    await this.#tail;
  }

  #checkSlotFree(slot: SlotId): void {
    for (const { options } of this.sequences.values()) {
      if (options.slot === slot)
        throw new EngineError('INVALID_ARGUMENT', `slot ${slot} is pinned by open sequences`);
    }
  }
}

function count(counts: Int32Array, block: number, change: number): void {
  counts[block] = (counts[block] ?? 0) + change;
}

function forced(bias: ReadonlyMap<number, number> | undefined): number | undefined {
  for (const [token, value] of bias ?? []) if (value >= 50) return token;
  return undefined;
}
