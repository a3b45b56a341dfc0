// Reads an artifact as its bytes stream by, whatever its size in one header's memory: digest, header, metadata, shapes, and every
// value finite. The same rules as the native reader (artifact.cc), which the control plane cannot load; what passes here loads there.
import { createHash } from 'node:crypto';
import { isUtf8 } from 'node:buffer';
import { EngineError } from '../errors.js';
import { FiniteCheck } from './finite.js';
import type { SafetensorsHeader } from './header.js';
import { corrupt, parseHeader } from './header.js';
import type { ArtifactLayout } from './layout.js';
import { readLayout } from './layout.js';
import { ARTIFACT_FORMAT } from './write.js';

/** A header of a thousand layers takes half a megabyte. */
const MAX_HEADER = 16 * 2 ** 20;
const LENGTH_BYTES = 8;

export interface ScannedArtifact extends ArtifactLayout {
  /** SHA-256 of all bytes, hex. */
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
  readonly fingerprint: string;
  /** Every metadata entry, as text. */
  readonly metadata: Readonly<Record<string, string>>;
}

export class ArtifactScan {
  readonly #hash = createHash('sha256');
  #size = 0;
  #head: Buffer[] = [];
  #headBytes = 0;
  /** Of length and header; unknown until the length is. */
  #dataStart: number | undefined;
  #header: SafetensorsHeader | undefined;
  #layout: (ArtifactLayout & { fingerprint: string }) | undefined;
  #tensor = 0;
  #position = 0;
  #finite: FiniteCheck | undefined;

  /** @param source what an error message begins with */
  constructor(private readonly source: string) {}

  /** The next bytes of the file. @throws EngineError ARTIFACT_CORRUPT at the first fault */
  push(chunk: Buffer): void {
    this.#hash.update(chunk);
    this.#size += chunk.length;
    const data = this.#header === undefined ? this.#readHead(chunk) : chunk;
    if (this.#header !== undefined) this.#readData(this.#header, data);
  }

  /** @throws EngineError ARTIFACT_CORRUPT when bytes are missing */
  end(): ScannedArtifact {
    const { source } = this;
    if (this.#header === undefined || this.#layout === undefined) {
      throw corrupt(
        source,
        this.#size < LENGTH_BYTES
          ? 'shorter than the 8 bytes of a header length'
          : 'truncated inside the header',
      );
    }
    if (this.#position !== this.#header.dataBytes) {
      throw corrupt(
        source,
        `truncated: ${this.#position} bytes of tensors where the header tells of ${this.#header.dataBytes}`,
      );
    }
    return {
      ...this.#layout,
      digest: this.#hash.digest('hex'),
      size: this.#size,
      metadata: this.#header.metadata,
    };
  }

  /** Gathers the head; returns what of the chunk lies behind it. */
  #readHead(chunk: Buffer): Buffer {
    this.#head.push(chunk);
    this.#headBytes += chunk.length;
    if (this.#headBytes < LENGTH_BYTES) return chunk.subarray(chunk.length);
    if (this.#dataStart === undefined) {
      this.#head = [Buffer.concat(this.#head)];
      const length = this.#head[0]?.readBigUInt64LE(0) ?? 0n;
      if (length > MAX_HEADER)
        throw corrupt(this.source, `header of ${String(length)} bytes; at most ${MAX_HEADER}`);
      this.#dataStart = LENGTH_BYTES + Number(length);
    }
    if (this.#headBytes < this.#dataStart) return chunk.subarray(chunk.length);
    const head = Buffer.concat(this.#head);
    this.#head = [];
    const bytes = head.subarray(LENGTH_BYTES, this.#dataStart);
    if (!isUtf8(bytes)) throw corrupt(this.source, 'header is not UTF-8');
    const header = parseHeader(this.source, bytes.toString('utf8'));
    this.#layout = describeArtifact(this.source, header);
    this.#header = header;
    return head.subarray(this.#dataStart);
  }

  #readData({ tensors, dataBytes }: SafetensorsHeader, data: Buffer): void {
    if (this.#position + data.length > dataBytes)
      throw corrupt(this.source, `more bytes than the ${dataBytes} of tensors that the header tells of`);
    let from = 0;
    while (from < data.length) {
      const entry = tensors[this.#tensor];
      if (entry === undefined) throw new Error('the header has no tensor for bytes that it counts');
      this.#finite ??= new FiniteCheck(entry.dtype);
      const until = Math.min(data.length, from + entry.end - this.#position);
      const fault = this.#finite.push(data.subarray(from, until));
      if (fault !== undefined)
        throw corrupt(this.source, `tensor ${entry.name}: value ${fault} is NaN or infinite`);
      this.#position += until - from;
      from = until;
      if (this.#position === entry.end) {
        this.#tensor++;
        this.#finite = undefined;
      }
    }
  }
}

/**
 * What header and metadata together say the artifact is: shapes are the authority, metadata must agree.
 * @throws EngineError ARTIFACT_CORRUPT naming the tensor or the metadata entry at fault
 */
export function describeArtifact(
  source: string,
  { tensors, metadata }: SafetensorsHeader,
): ArtifactLayout & { fingerprint: string } {
  const text = (key: string): string => {
    const value = Object.hasOwn(metadata, key) ? metadata[key] : undefined;
    if (value === undefined) throw corrupt(source, `metadata ${key} is missing`);
    return value;
  };
  const format = text('format');
  if (format !== ARTIFACT_FORMAT)
    throw corrupt(source, `metadata format is ${format.slice(0, 100)}; this reads ${ARTIFACT_FORMAT}`);
  const layout = layoutOf(source, tensors, metadata);
  const told: Readonly<Record<string, string>> = {
    encoder: layout.encoder,
    bits: String(layout.bits),
    head_dim: String(layout.headDim),
    query_heads: String(layout.queryHeads),
    kv_heads: String(layout.kvHeads),
  };
  for (const [key, value] of Object.entries(told)) {
    if (text(key) !== value)
      throw corrupt(source, `metadata ${key} is ${text(key).slice(0, 100)} where the tensors say ${value}`);
  }
  const fingerprint = text('model_fingerprint');
  if (!/^[0-9a-f]{64}$/.test(fingerprint))
    throw corrupt(source, 'metadata model_fingerprint is not 64 lower-case hex digits');
  return { ...layout, fingerprint };
}

function layoutOf(
  source: string,
  tensors: SafetensorsHeader['tensors'],
  metadata: SafetensorsHeader['metadata'],
): ArtifactLayout {
  try {
    return readLayout(new Map(tensors.map(({ name, shape }) => [name, shape])), metadata);
  } catch (error) {
    // To whoever writes an artifact a bad shape is a bad argument; in a file it is a damaged file.
    if (error instanceof EngineError) throw corrupt(source, error.message);
    throw error;
  }
}
