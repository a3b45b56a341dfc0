// The rules of the step ABI as the fake engine keeps them: what throws INVALID_ARGUMENT, and the message that names the
// row. Checked in full before anything changes, as the native engine does.
import { BLOCK_SIZE, EngineError, LAST_SAMPLE } from '@spotlight/cuda';
import type { Batch, BatchRow, SequenceId, SequenceOptions } from '@spotlight/cuda';
import type { FakeEngine, FakeSequence } from './engine.js';

export function checkSequence(engine: FakeEngine, options: SequenceOptions): void {
  const { info } = engine;
  if (engine.sequences.size >= info.maxSequences) wrong(`${info.maxSequences} sequences are open already`);
  const { sampling, attention, slot } = options;
  if (sampling.temperature < 0 || !Number.isFinite(sampling.temperature))
    wrong('sampling.temperature is negative');
  if (sampling.topP <= 0 || sampling.topP > 1) wrong('sampling.topP is not in (0, 1]');
  if (sampling.minP < 0 || sampling.minP > 1) wrong('sampling.minP is not in [0, 1]');
  if (sampling.repetitionPenalty <= 0) wrong('sampling.repetitionPenalty is not positive');
  const { fraction } = attention ?? {};
  if (fraction !== undefined && (fraction <= 0 || fraction > 1)) wrong('attention.fraction is not in (0, 1]');
  if ((attention?.crossover ?? 0) < 0) wrong('attention.crossover is negative');
  if (![0, 1].includes(slot)) wrong(`slot is ${slot}`);
  checkBlocks(engine, options.blocks ?? [], [], 'blocks');
}

export function checkBatch(engine: FakeEngine, batch: Batch): void {
  const closed = checkClose(engine, batch.close ?? []);
  const { info } = engine;
  if (batch.rows.length === 0 && closed.size === 0) wrong('rows is empty and nothing is closed');
  if (batch.rows.length > info.maxSequences)
    wrong(`rows has ${batch.rows.length} entries, most are ${info.maxSequences}`);
  const tokens = batch.rows.reduce((sum, row) => sum + row.tokens.length, 0);
  if (tokens > info.maxBatchTokens) wrong(`rows hold ${tokens} tokens, most are ${info.maxBatchTokens}`);
  for (const { from, to } of batch.copies ?? []) {
    checkBlock(engine, from, 'copies');
    checkBlock(engine, to, 'copies');
    if (from === to) wrong(`copies: block ${from} to itself`);
    if (holdersAfter(engine, to, closed) > 1) wrong(`copies: block ${to} is in more than one open sequence`);
  }
  const seen = new Set<SequenceId>();
  batch.rows.forEach((row, index) => {
    const where = `rows[${index}]`;
    const sequence = engine.sequences.get(row.sequence);
    if (sequence === undefined || closed.has(row.sequence))
      wrong(`${where}: sequence ${row.sequence} is not open`);
    if (seen.has(row.sequence)) wrong(`${where}: sequence ${row.sequence} has two rows`);
    seen.add(row.sequence);
    checkRow(engine, row, sequence, where, closed);
  });
}

function checkClose(engine: FakeEngine, close: readonly SequenceId[]): ReadonlySet<SequenceId> {
  const closed = new Set<SequenceId>();
  for (const id of close) {
    if (!engine.sequences.has(id) || closed.has(id)) wrong(`close: sequence ${id} is not open`);
    closed.add(id);
  }
  return closed;
}

function checkRow(
  engine: FakeEngine,
  row: BatchRow,
  sequence: FakeSequence,
  where: string,
  closed: ReadonlySet<SequenceId>,
): void {
  const { vocabSize, maxModelLen, layers, kvHeads } = engine.info.model;
  const end = row.position + row.tokens.length;
  if (row.tokens.length === 0) wrong(`${where}.tokens is empty`);
  if (end > maxModelLen) wrong(`${where} ends at ${end}, the model holds ${maxModelLen}`);
  const fits = Math.ceil(row.position / BLOCK_SIZE) === sequence.table.length;
  if (sequence.next === undefined ? !fits : row.position !== sequence.next) {
    wrong(
      `${where}.position is ${row.position}, ${sequence.next ?? `within block ${sequence.table.length - 1}`} is next`,
    );
  }
  for (let i = 0; i < row.tokens.length; i++) {
    const token = row.tokens[i] ?? NaN;
    if (token === LAST_SAMPLE && i === 0 && sequence.draws) continue;
    if (!Number.isInteger(token) || token < 0 || token >= vocabSize)
      wrong(`${where}.tokens[${i}] is ${token}`);
  }
  if (row.nextToken !== undefined && row.promptLogprobs !== true)
    wrong(`${where}.nextToken without promptLogprobs`);
  if ((row.quality?.layer ?? 0) >= layers || (row.quality?.kvHead ?? 0) >= kvHeads)
    wrong(`${where}.quality names a layer or KV head the model lacks`);
  const appended = row.appendBlocks ?? [];
  checkBlocks(engine, appended, sequence.table, `${where}.appendBlocks`);
  for (const block of appended) {
    // Stricter than the native engine: the design frees a block when the steps in flight that know it have retired.
    if ((engine.inFlight[block] ?? 0) > 0)
      wrong(`${where}.appendBlocks: block ${block} is known to a step in flight`);
  }
  const table = [...sequence.table, ...appended];
  if (table.length * BLOCK_SIZE < end)
    wrong(`${where} needs ${Math.ceil(end / BLOCK_SIZE)} blocks, has ${table.length}`);
  const own = new Set(sequence.table);
  for (let at = Math.floor(row.position / BLOCK_SIZE); at * BLOCK_SIZE < end; at++) {
    const block = table[at] ?? -1;
    const others = holdersAfter(engine, block, closed) - (own.has(block) ? 1 : 0);
    if (others > 0) wrong(`${where} writes block ${block}, which another open sequence holds`);
  }
}

/** Open sequences that hold the block once `closed` are gone. */
function holdersAfter(engine: FakeEngine, block: number, closed: ReadonlySet<SequenceId>): number {
  let holders = engine.tables[block] ?? 0;
  for (const id of closed) if (engine.sequences.get(id)?.table.includes(block) === true) holders--;
  return holders;
}

function checkBlocks(
  engine: FakeEngine,
  blocks: readonly number[],
  before: readonly number[],
  where: string,
): void {
  const seen = new Set(before);
  for (const block of blocks) {
    checkBlock(engine, block, where);
    if (seen.has(block)) wrong(`${where}: block ${block} stands in the table twice`);
    seen.add(block);
  }
}

function checkBlock(engine: FakeEngine, block: number, where: string): void {
  if (!Number.isInteger(block) || block < 0 || block >= engine.info.blocks)
    wrong(`${where}: no block ${block}`);
}

function wrong(message: string): never {
  throw new EngineError('INVALID_ARGUMENT', message);
}
