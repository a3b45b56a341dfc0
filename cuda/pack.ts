// Batches and results as flat arrays: the layout of engine/batch.h, in the order in which both sides read it. One typed array a
// step costs a microsecond to hand over; an object a row and a call a field would cost more than scheduling the step.
import { EngineError } from './errors.js';
import type {
  Batch,
  BatchRow,
  Logprobs,
  Quality,
  RowResult,
  SequenceId,
  StepId,
  StepResult,
} from './types.js';

const GENERATED = 1;
const SAMPLE = 2;
const PROMPT_LOGPROBS = 4;
const TRACE = 8;
const QUALITY = 16;
const ROW_WORDS = 7;
const QUALITY_WORDS = 2;

const HAS_LOGPROBS = 1;
const HAS_PROMPT_LOGPROBS = 2;
const HAS_TRACE = 4;
const IS_CORRUPTED = 8;
const HAS_QUALITY = 16;

/** What the addon answers a step with. */
export interface PackedResult {
  readonly step: number;
  readonly seconds: number;
  readonly ints: Int32Array;
  readonly floats: Float32Array;
}

function flagsOf(row: BatchRow): number {
  return (
    (row.phase === 'generated' ? GENERATED : 0) |
    (row.sample ? SAMPLE : 0) |
    (row.promptLogprobs === true ? PROMPT_LOGPROBS : 0) |
    (row.trace === true ? TRACE : 0) |
    (row.quality === undefined ? 0 : QUALITY)
  );
}

/** Integers cross as int32; what does not fit would silently become another number. */
function int32(value: number, field: string): number {
  if ((value | 0) !== value)
    throw new EngineError('INVALID_ARGUMENT', `${field}: ${value} is not a 32-bit integer`);
  return value;
}

/** Packs a batch for the addon. Throws INVALID_ARGUMENT for what is not a 32-bit integer; the engine checks the rest. */
export function packBatch(batch: Batch): Int32Array {
  const { rows, copies = [], close = [] } = batch;
  let size = 3 + 2 * copies.length + close.length;
  for (const row of rows) {
    size += ROW_WORDS + row.tokens.length + (row.appendBlocks?.length ?? 0);
    if (row.quality !== undefined) size += QUALITY_WORDS;
  }
  const packed = new Int32Array(size);
  packed[0] = rows.length;
  packed[1] = copies.length;
  packed[2] = close.length;
  let at = 3;
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i] as BatchRow;
    const blocks = row.appendBlocks ?? [];
    packed[at++] = int32(row.sequence, `rows[${i}].sequence`);
    packed[at++] = int32(row.position, `rows[${i}].position`);
    packed[at++] = flagsOf(row);
    packed[at++] = row.tokens.length;
    packed[at++] = blocks.length;
    packed[at++] = int32(row.topPromptLogprobs ?? 0, `rows[${i}].topPromptLogprobs`);
    packed[at++] = int32(row.nextToken ?? -1, `rows[${i}].nextToken`);
    if (row.quality !== undefined) {
      packed[at++] = int32(row.quality.layer ?? -1, `rows[${i}].quality.layer`);
      packed[at++] = int32(row.quality.kvHead ?? -1, `rows[${i}].quality.kvHead`);
    }
    for (let t = 0; t < row.tokens.length; t++)
      packed[at++] = int32(row.tokens[t] as number, `rows[${i}].tokens[${t}]`);
    for (const block of blocks) packed[at++] = int32(block, `rows[${i}].appendBlocks`);
  }
  for (const copy of copies) {
    packed[at++] = int32(copy.from, 'copies.from');
    packed[at++] = int32(copy.to, 'copies.to');
  }
  for (const sequence of close) packed[at++] = int32(sequence, 'close');
  return packed;
}

class Reader {
  private int = 0;
  private float = 0;
  constructor(
    private readonly ints: Int32Array,
    private readonly floats: Float32Array,
  ) {}
  next(): number {
    return this.ints[this.int++] as number;
  }
  /** A view, no copy. */
  take(count: number): Int32Array {
    this.int += count;
    return this.ints.subarray(this.int - count, this.int);
  }
  logprobs(): Logprobs {
    const token = this.next();
    const top = this.next();
    const topTokens = this.take(top);
    const logprob = this.floats[this.float++] as number;
    this.float += top;
    return { token, logprob, topTokens, topLogprobs: this.floats.subarray(this.float - top, this.float) };
  }
  quality(): Quality {
    const layer = this.next();
    const kvHead = this.next();
    const [iou, keptMass, bestMass] = this.floats.subarray(this.float, this.float + 3);
    this.float += 3;
    return { layer, kvHead, iou: iou ?? 0, keptMass: keptMass ?? 0, bestMass: bestMass ?? 0 };
  }
  get done(): boolean {
    return this.int === this.ints.length;
  }
}

/** Unpacks a step's result. layers and kvHeads shape the traces. */
export function unpackResult(packed: PackedResult, layers: number, kvHeads: number): StepResult {
  const reader = new Reader(packed.ints, packed.floats);
  const rows: RowResult[] = [];
  while (!reader.done) {
    const sequence = reader.next() as SequenceId;
    const token = reader.next();
    const flags = reader.next();
    if (flags === 0) {
      rows.push(token >= 0 ? { sequence, token } : { sequence });
      continue;
    }
    const logprobs = flags & HAS_LOGPROBS ? reader.logprobs() : undefined;
    const promptLogprobs =
      flags & HAS_PROMPT_LOGPROBS
        ? Array.from({ length: reader.next() }, () => reader.logprobs())
        : undefined;
    const trace =
      flags & HAS_TRACE
        ? Array.from({ length: layers }, () =>
            Array.from({ length: kvHeads }, () => reader.take(reader.next())),
          )
        : undefined;
    const quality =
      flags & HAS_QUALITY ? Array.from({ length: reader.next() }, () => reader.quality()) : undefined;
    rows.push({
      sequence,
      ...(token >= 0 && { token }),
      ...(logprobs && { logprobs }),
      ...(promptLogprobs && { promptLogprobs }),
      ...(trace && { trace }),
      ...(quality && { quality }),
      ...(flags & IS_CORRUPTED && { corrupted: true }),
    });
  }
  return { step: packed.step as StepId, rows, seconds: packed.seconds };
}
