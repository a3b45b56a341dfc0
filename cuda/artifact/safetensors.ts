// Reads and writes safetensors files whole: u64 header length, JSON header, tensor bytes without holes.
// Strict on the way in, as the native reader is: an importer must not turn a damaged file into a sound-looking artifact.
import { open, readFile, rename, rm } from 'node:fs/promises';
import { EngineError } from '../errors.js';

export type Dtype = 'F32' | 'F16' | 'BF16';

export interface RawTensor {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Little-endian values, row-major. */
  readonly data: Buffer;
}

export interface SafetensorsFile {
  readonly tensors: ReadonlyMap<string, RawTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

const WIDTH: Readonly<Record<Dtype, number>> = { F32: 4, F16: 2, BF16: 2 };
const MAX_HEADER = 100_000_000;

function corrupt(path: string, what: string): EngineError {
  return new EngineError('ARTIFACT_CORRUPT', `${path}: ${what}`);
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

interface Entry {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

function parseEntry(path: string, name: string, value: unknown): Entry {
  if (!isRecord(value)) throw corrupt(path, `header entry ${name} is not an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isDtype(dtype)) throw corrupt(path, `tensor ${name}: dtype ${String(dtype)} is not F32, F16 or BF16`);
  if (!Array.isArray(shape) || !shape.every(isSize)) throw corrupt(path, `tensor ${name}: bad shape`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize))
    throw corrupt(path, `tensor ${name}: bad data_offsets`);
  const [begin, end] = offsets as [number, number];
  const bytes = shape.reduce((product, size) => product * size, WIDTH[dtype]);
  if (end - begin !== bytes)
    throw corrupt(path, `tensor ${name}: ${end - begin} bytes where its shape needs ${bytes}`);
  return { name, dtype, shape, begin, end };
}

function parseHeader(path: string, text: string): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (error) {
    throw corrupt(path, `header is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!isRecord(header)) throw corrupt(path, 'header is not an object');
  return header;
}

function parseMetadata(path: string, value: unknown): Record<string, string> {
  if (value === undefined) return {};
  if (!isRecord(value)) throw corrupt(path, '__metadata__ is not an object');
  return Object.fromEntries(
    Object.entries(value).map(([key, text]) => {
      if (typeof text !== 'string') throw corrupt(path, `__metadata__.${key} is not a string`);
      return [key, text];
    }),
  );
}

/** Reads a whole safetensors file. Throws EngineError ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT naming path and tensor. */
export async function readSafetensors(path: string): Promise<SafetensorsFile> {
  const file = await readFile(path).catch((error: unknown) => {
    throw new EngineError('ARTIFACT_NOT_FOUND', `${path}: cannot be read`, { cause: error });
  });
  if (file.length < 8) throw corrupt(path, 'shorter than the 8 bytes of a header length');
  const length = file.readBigUInt64LE(0);
  if (length > MAX_HEADER) throw corrupt(path, `header of ${String(length)} bytes; at most ${MAX_HEADER}`);
  const start = 8 + Number(length);
  if (start > file.length) throw corrupt(path, 'truncated inside the header');

  const header = parseHeader(path, file.toString('utf8', 8, start));
  const metadata = parseMetadata(path, header['__metadata__']);
  const entries = Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, value]) => parseEntry(path, name, value))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);

  let reached = 0;
  for (const entry of entries) {
    if (entry.begin !== reached)
      throw corrupt(path, `tensor ${entry.name} overlaps another or leaves a hole`);
    reached = entry.end;
  }
  if (start + reached !== file.length)
    throw corrupt(path, `${file.length - start} bytes of tensors where the header tells of ${reached}`);
  const tensors = new Map(
    entries.map(({ name, dtype, shape, begin, end }) => [
      name,
      { dtype, shape, data: file.subarray(start + begin, start + end) },
    ]),
  );
  return { tensors, metadata };
}

/**
 * Writes tensors in the order of their names, data aligned to 64 bytes, metadata sorted: equal inputs give equal bytes,
 * so an artifact's SHA-256 can be its identity. The file appears whole or not at all.
 */
export async function writeSafetensors(path: string, content: SafetensorsFile): Promise<void> {
  const sorted = [...content.tensors].sort(([a], [b]) => (a < b ? -1 : 1));
  const header: Record<string, unknown> = {
    __metadata__: Object.fromEntries(Object.entries(content.metadata).sort(([a], [b]) => (a < b ? -1 : 1))),
  };
  let reached = 0;
  for (const [name, { dtype, shape, data }] of sorted) {
    header[name] = { dtype, shape, data_offsets: [reached, reached + data.length] };
    reached += data.length;
  }
  const text = Buffer.from(JSON.stringify(header), 'utf8');
  const padded = Buffer.alloc(Math.ceil((8 + text.length) / 64) * 64, ' ');
  padded.writeBigUInt64LE(BigInt(padded.length - 8), 0);
  text.copy(padded, 8);

  const partial = `${path}.${process.pid}.partial`;
  try {
    const file = await open(partial, 'w');
    try {
      await file.writeFile(Buffer.concat([padded, ...sorted.map(([, tensor]) => tensor.data)]));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}
