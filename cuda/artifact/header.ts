// The header of a safetensors file: u64 length, then JSON that names every tensor's type, shape and bytes. Pure, over a text already
// read, so that a file at hand and an upload that streams by are held to the same rules.
import { EngineError } from '../errors.js';

export type Dtype = 'F32' | 'F16' | 'BF16';

export const WIDTH: Readonly<Record<Dtype, number>> = { F32: 4, F16: 2, BF16: 2 };

export interface TensorEntry {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Bytes [begin, end) after the header. */
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  /** In the order of their bytes, which leave no hole. */
  readonly tensors: readonly TensorEntry[];
  readonly metadata: Readonly<Record<string, string>>;
  /** Bytes after the header. */
  readonly dataBytes: number;
}

export function corrupt(source: string, what: string): EngineError {
  return new EngineError('ARTIFACT_CORRUPT', `${source}: ${what}`);
}

/**
 * @param source what an error message begins with: a path, or "the upload"
 * @param text the JSON, without the length before it
 * @throws EngineError ARTIFACT_CORRUPT naming the tensor or entry at fault
 */
export function parseHeader(source: string, text: string): SafetensorsHeader {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (error) {
    throw corrupt(source, `header is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!isRecord(header)) throw corrupt(source, 'header is not an object');
  const metadata = parseMetadata(source, header['__metadata__']);
  const tensors = Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, value]) => parseEntry(source, name, value))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  let dataBytes = 0;
  for (const entry of tensors) {
    if (entry.begin !== dataBytes)
      throw corrupt(source, `tensor ${entry.name} overlaps another or leaves a hole`);
    dataBytes = entry.end;
  }
  return { tensors, metadata, dataBytes };
}

function parseEntry(source: string, name: string, value: unknown): TensorEntry {
  if (!isRecord(value)) throw corrupt(source, `header entry ${name} is not an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isDtype(dtype))
    throw corrupt(source, `tensor ${name}: dtype ${String(dtype)} is not F32, F16 or BF16`);
  if (!Array.isArray(shape) || !shape.every(isSize)) throw corrupt(source, `tensor ${name}: bad shape`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize))
    throw corrupt(source, `tensor ${name}: bad data_offsets`);
  const [begin, end] = offsets as [number, number];
  const bytes = shape.reduce((product, size) => product * size, WIDTH[dtype]);
  if (end - begin !== bytes)
    throw corrupt(source, `tensor ${name}: ${end - begin} bytes where its shape needs ${bytes}`);
  return { name, dtype, shape, begin, end };
}

function parseMetadata(source: string, value: unknown): Record<string, string> {
  if (value === undefined) return {};
  if (!isRecord(value)) throw corrupt(source, '__metadata__ is not an object');
  return Object.fromEntries(
    Object.entries(value).map(([key, text]) => {
      if (typeof text !== 'string') throw corrupt(source, `__metadata__.${key} is not a string`);
      return [key, text];
    }),
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isDtype(value: unknown): value is Dtype {
  return typeof value === 'string' && Object.hasOwn(WIDTH, value);
}
