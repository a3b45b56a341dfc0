// Texts of equal length out of a corpus, in an order that a seed decides: text i is found by its place, read and tokenised when
// it is asked for, so that a resumed training reads on where it stopped without reading what came before.
import { open } from 'node:fs/promises';
import type { CorpusIndex, Document } from './corpus-index.js';
import { CorpusError, indexCorpus } from './corpus-index.js';

/** The part of a tokenizer that a corpus needs. */
export interface TextEncoder {
  encode(text: string, options: { readonly addSpecialTokens: boolean }): Promise<number[]>;
}

export interface CorpusOptions {
  /** Tokens of a text. */
  readonly sequence: number;
  readonly seed: number;
  /** Of a .jsonl's objects. */
  readonly textField: string;
  /** Put between two documents; undefined: nothing. */
  readonly separator: number | undefined;
  /** How many texts to keep out of training; at most a twentieth of all, but one. */
  readonly heldOut: number;
}

const SAMPLES = 16;
const SAMPLE_BYTES = 16_384;
/** Room in a window for texts that are denser than the samples were. */
const SLACK = 1.02;

/** Numbers in [0, 1) from a 32-bit state (mulberry32). */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** 0 to count - 1 in an order that seed and epoch decide. */
export function shuffled(count: number, seed: number, epoch: number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  const random = generator(
    (seed % 2 ** 32) ^
      Math.imul(Math.floor(seed / 2 ** 32) + 1, 0x9e3779b1) ^
      Math.imul(epoch + 1, 0x85ebca6b),
  );
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const swapped = order[i] ?? 0;
    order[i] = order[j] ?? 0;
    order[j] = swapped;
  }
  return order;
}

/** Windows to train on. Where text is denser than the samples a window reads on into the next, so neighbours of those kept stay out, too. */
function apartFrom(kept: Uint32Array, windows: number): Uint32Array {
  const all = Uint32Array.from({ length: windows }, (_, i) => i);
  const apart = all.filter((i) => kept.every((other) => Math.abs(i - other) > 1));
  return apart.length > 0 ? apart : all.filter((i) => !kept.includes(i));
}

export class Corpus {
  private epoch = -1;
  private order: Uint32Array = new Uint32Array();

  private constructor(
    private readonly index: CorpusIndex,
    private readonly encoder: TextEncoder,
    private readonly options: CorpusOptions,
    private readonly bytesPerToken: number,
    private readonly training: Uint32Array,
    private readonly kept: Uint32Array,
  ) {}

  get digest(): string {
    return this.index.digest;
  }
  /** Texts of an epoch. */
  get texts(): number {
    return this.training.length;
  }
  get heldOutTexts(): number {
    return this.kept.length;
  }

  /** [async] @throws CorpusError */
  static async open(paths: readonly string[], encoder: TextEncoder, options: CorpusOptions): Promise<Corpus> {
    const index = await indexCorpus(paths);
    const bytesPerToken = await sampleDensity(index, encoder, options);
    const total = index.starts[index.documents.length] ?? 0;
    const windows = Math.floor(total / (options.sequence * bytesPerToken * SLACK));
    if (windows < (options.heldOut > 0 ? 2 : 1)) {
      throw new CorpusError(
        `${paths.join(', ')}: holds about ${Math.round(total / bytesPerToken)} tokens, too few for texts of ${options.sequence}. Give more text, or shorter ones by --seq.`,
      );
    }
    const held = options.heldOut > 0 ? Math.max(1, Math.min(options.heldOut, Math.floor(windows / 20))) : 0;
    const kept = Uint32Array.from({ length: held }, (_, i) => Math.floor(((i + 0.5) * windows) / held));
    const training = apartFrom(kept, windows);
    return new Corpus(index, encoder, options, bytesPerToken, training, kept);
  }

  /** [async] Tokens of the text that step 0, 1, ... trains on. */
  async text(step: number): Promise<number[]> {
    const epoch = Math.floor(step / this.training.length);
    if (epoch !== this.epoch) {
      this.order = shuffled(this.training.length, this.options.seed, epoch);
      this.epoch = epoch;
    }
    return this.window(this.training[this.order[step % this.training.length] ?? 0] ?? 0);
  }

  /** [async] Tokens of the i-th text kept out of training. */
  async heldOut(i: number): Promise<number[]> {
    return this.window(this.kept[i] ?? 0);
  }

  /** [async] Tokens of `count` texts spread evenly over the corpus, for one that is only measured on. */
  async spread(count: number): Promise<number[][]> {
    const texts: number[][] = [];
    const some = Math.min(count, this.training.length);
    for (let i = 0; i < some; i++)
      texts.push(await this.window(this.training[Math.floor((i * this.training.length) / some)] ?? 0));
    return texts;
  }

  private async window(number: number): Promise<number[]> {
    const { documents, starts } = this.index;
    const { sequence, separator } = this.options;
    const start = number * sequence * this.bytesPerToken * SLACK;
    const first = documentAt(starts, start);
    const ids: number[] = [];
    // Behind the last document the first follows: where the end is denser than the samples, a text must still get its length.
    for (let i = 0; ids.length < sequence; i++) {
      const document = documents[(first + i) % documents.length];
      if (document === undefined || i > documents.length) throw new CorpusError('no text in the corpus');
      if (ids.length > 0 && separator !== undefined) ids.push(separator);
      const from = i === 0 ? Math.floor(start - (starts[first] ?? 0)) : 0;
      const more = await this.tokens(document, from, sequence - ids.length);
      for (const id of more) ids.push(id);
    }
    return ids.slice(0, sequence);
  }

  /** At least `wanted` tokens from byte `from` of a document on, or all there are. */
  private async tokens(document: Document, from: number, wanted: number): Promise<number[]> {
    if (document.json) {
      const text = await jsonText(document, this.options.textField);
      const part = text.slice(Math.floor((text.length * from) / document.bytes));
      const whole = from === 0 ? part : part.slice(part.search(/\s/) + 1);
      return this.encoder.encode(whole, { addSpecialTokens: false });
    }
    for (let bytes = Math.ceil(wanted * this.bytesPerToken * 1.25) + 64; ; bytes *= 2) {
      const text = await readText(document, from, bytes);
      const ids = await this.encoder.encode(text, { addSpecialTokens: false });
      if (ids.length >= wanted || from + bytes >= document.bytes) return ids;
    }
  }
}

/** Index of the document that holds byte `at` of all. */
function documentAt(starts: Float64Array, at: number): number {
  let low = 0;
  let high = starts.length - 2;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((starts[middle] ?? 0) <= at) low = middle;
    else high = middle - 1;
  }
  return low;
}

async function readBytes({ path, offset, bytes }: Document, from: number, count: number): Promise<Buffer> {
  const file = await open(path);
  try {
    const wanted = Math.max(0, Math.min(count, bytes - from));
    const { buffer, bytesRead } = await file.read(Buffer.alloc(wanted), 0, wanted, offset + from);
    if (bytesRead < wanted) throw new CorpusError(`${path}: became shorter while training`);
    return buffer;
  } finally {
    await file.close();
  }
}

/** Text of a byte range, whole words but at the document's ends. */
async function readText(document: Document, from: number, count: number): Promise<string> {
  const text = new TextDecoder().decode(await readBytes(document, from, count));
  const start = from === 0 ? 0 : text.search(/\s/) + 1;
  const end = from + count >= document.bytes ? text.length : text.search(/\s\S*$/);
  return end > start ? text.slice(start, end) : text;
}

async function jsonText(document: Document, field: string): Promise<string> {
  const line = (await readBytes(document, 0, document.bytes)).toString('utf8');
  const at = `${document.path}: the line at byte ${document.offset}`;
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new CorpusError(`${at} is not JSON: ${(error as Error).message}`);
  }
  const found =
    typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[field] : undefined;
  if (typeof found !== 'string')
    throw new CorpusError(`${at} has no text "${field}" (--text-field names it)`);
  return found;
}

/** Bytes a token, over samples spread evenly through the corpus. */
async function sampleDensity(
  index: CorpusIndex,
  encoder: TextEncoder,
  { textField }: CorpusOptions,
): Promise<number> {
  const { documents, starts } = index;
  const total = starts[documents.length] ?? 0;
  let bytes = 0;
  let tokens = 0;
  for (let i = 0; i < SAMPLES; i++) {
    const at = Math.floor((total * i) / SAMPLES);
    const number = documentAt(starts, at);
    const document = documents[number];
    if (document === undefined) break;
    const from = at - (starts[number] ?? 0);
    // Of a .jsonl the line's own bytes count: that is what windows are measured in.
    const text = document.json
      ? await jsonText(document, textField)
      : await readText(document, from, SAMPLE_BYTES);
    bytes += document.json ? document.bytes : Buffer.byteLength(text);
    tokens += (await encoder.encode(text, { addSpecialTokens: false })).length;
  }
  if (tokens === 0) throw new CorpusError('the corpus has no text in it');
  return bytes / tokens;
}
