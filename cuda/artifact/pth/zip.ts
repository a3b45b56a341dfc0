// Reads a zip as torch.save writes it: entries stored, not compressed, found by the central directory alone. Anything a trick could
// hide in (compression, encryption, several disks, overlapping entries, wrong checksums) is refused.
import { EngineError } from '../../errors.js';

const END = 0x06054b50;
const END64 = 0x06064b50;
const LOCATOR64 = 0x07064b50;
const ENTRY = 0x02014b50;
const LOCAL = 0x04034b50;
const MOST_ENTRIES = 100_000;
const END_BYTES = 22;
const MOST_COMMENT = 65_535;
const FULL32 = 0xffffffff;

function corrupt(what: string): EngineError {
  return new EngineError('ARTIFACT_CORRUPT', `zip: ${what}`);
}

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(data: Uint8Array): number {
  let value = 0xffffffff;
  for (const byte of data) value = (value >>> 8) ^ (CRC[(value ^ byte) & 0xff] ?? 0);
  return (value ^ 0xffffffff) >>> 0;
}

function u64(file: Buffer, at: number): number {
  const value = file.readBigUInt64LE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw corrupt('a size beyond 2^53');
  return Number(value);
}

interface Directory {
  readonly entries: number;
  readonly offset: number;
  readonly bytes: number;
}

function findDirectory(file: Buffer): Directory {
  let end = file.length - END_BYTES;
  const lowest = Math.max(0, end - MOST_COMMENT);
  while (end >= lowest && file.readUInt32LE(end) !== END) end--;
  if (end < lowest)
    throw corrupt('no end of a zip in the file: it is truncated, or none (torch before 1.6 wrote none)');
  const plain = {
    entries: file.readUInt16LE(end + 10),
    bytes: file.readUInt32LE(end + 12),
    offset: file.readUInt32LE(end + 16),
  };
  if (plain.entries !== 0xffff && plain.bytes !== FULL32 && plain.offset !== FULL32) return plain;
  const locator = end - 20;
  if (locator < 0 || file.readUInt32LE(locator) !== LOCATOR64)
    throw corrupt('no zip64 locator where one is due');
  const at = u64(file, locator + 8);
  if (at + 56 > locator || file.readUInt32LE(at) !== END64)
    throw corrupt('no zip64 end where its locator says');
  return { entries: u64(file, at + 32), bytes: u64(file, at + 40), offset: u64(file, at + 48) };
}

interface Entry {
  readonly name: string;
  readonly crc: number;
  readonly bytes: number;
  readonly local: number;
}

/** The sizes and place that an entry of the directory leaves to its zip64 field. */
function wide(file: Buffer, from: number, to: number, wanted: readonly (number | undefined)[]): number[] {
  let at = from;
  while (at + 4 <= to) {
    const id = file.readUInt16LE(at);
    const size = file.readUInt16LE(at + 2);
    if (id === 1) {
      let next = at + 4;
      return wanted.map((value) => {
        if (value !== undefined) return value;
        if (next + 8 > Math.min(to, at + 4 + size)) throw corrupt('a zip64 field that is too short');
        next += 8;
        return u64(file, next - 8);
      });
    }
    at += 4 + size;
  }
  throw corrupt('no zip64 field where one is due');
}

function parseEntry(file: Buffer, at: number, end: number): { entry: Entry; next: number } {
  if (at + 46 > end || file.readUInt32LE(at) !== ENTRY) throw corrupt('a damaged directory');
  const nameBytes = file.readUInt16LE(at + 28);
  const extraBytes = file.readUInt16LE(at + 30);
  const next = at + 46 + nameBytes + extraBytes + file.readUInt16LE(at + 32);
  if (next > end) throw corrupt('a directory entry beyond the directory');
  const name = file.toString('utf8', at + 46, at + 46 + nameBytes);
  if ((file.readUInt16LE(at + 8) & 1) !== 0) throw corrupt(`${name} is encrypted`);
  if (file.readUInt16LE(at + 10) !== 0) throw corrupt(`${name} is compressed; torch.save stores`);
  const packed = file.readUInt32LE(at + 20);
  let bytes = file.readUInt32LE(at + 24);
  let local = file.readUInt32LE(at + 42);
  if (packed === FULL32 || bytes === FULL32 || local === FULL32) {
    const narrow = (value: number): number | undefined => (value === FULL32 ? undefined : value);
    const extra = at + 46 + nameBytes;
    // In the field's own order: size, packed size, place.
    [bytes = 0, , local = 0] = wide(file, extra, extra + extraBytes, [
      narrow(bytes),
      narrow(packed),
      narrow(local),
    ]);
  } else if (packed !== bytes) throw corrupt(`${name}: stored in ${packed} bytes of ${bytes}`);
  return { entry: { name, crc: file.readUInt32LE(at + 16), bytes, local }, next };
}

function dataOf(file: Buffer, { name, crc, bytes, local }: Entry): { data: Buffer; start: number } {
  if (local + 30 > file.length || file.readUInt32LE(local) !== LOCAL)
    throw corrupt(`${name}: no entry where the directory says`);
  const start = local + 30 + file.readUInt16LE(local + 26) + file.readUInt16LE(local + 28);
  if (start + bytes > file.length) throw corrupt(`${name}: ${bytes} bytes reach beyond the file`);
  const data = file.subarray(start, start + bytes);
  if (crc32(data) !== crc) throw corrupt(`${name}: its checksum does not match`);
  return { data, start };
}

/** Entries by name, as views of `file`. Throws EngineError ARTIFACT_CORRUPT. */
export function readZip(file: Buffer): Map<string, Buffer> {
  if (file.length < END_BYTES) throw corrupt('shorter than a zip can be');
  const { entries, offset, bytes } = findDirectory(file);
  if (entries > MOST_ENTRIES) throw corrupt(`${entries} entries; at most ${MOST_ENTRIES}`);
  const end = offset + bytes;
  if (end > file.length) throw corrupt('its directory reaches beyond the file');
  const found = new Map<string, Buffer>();
  const ranges: [number, number][] = [];
  let at = offset;
  for (let i = 0; i < entries; i++) {
    const { entry, next } = parseEntry(file, at, end);
    if (found.has(entry.name)) throw corrupt(`${entry.name} is there twice`);
    const { data, start } = dataOf(file, entry);
    found.set(entry.name, data);
    ranges.push([start, start + data.length]);
    at = next;
  }
  ranges.sort(([a], [b]) => a - b);
  for (const [i, [from]] of ranges.entries())
    if (from < (ranges[i - 1]?.[1] ?? 0)) throw corrupt('entries that overlap');
  return found;
}
