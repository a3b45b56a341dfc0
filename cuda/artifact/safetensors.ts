// Reads and writes safetensors files whole: u64 header length, JSON header, tensor bytes without holes.
// Strict on the way in, as the native reader is: an importer must not turn a damaged file into a sound-looking artifact.
import { open, readFile, rename, rm } from 'node:fs/promises';
import { EngineError } from '../errors.js';
import { corrupt, parseHeader } from './header.js';
import type { Dtype } from './header.js';

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

const MAX_HEADER = 100_000_000;

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

  const { tensors: entries, metadata, dataBytes } = parseHeader(path, file.toString('utf8', 8, start));
  if (start + dataBytes !== file.length)
    throw corrupt(path, `${file.length - start} bytes of tensors where the header tells of ${dataBytes}`);
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
