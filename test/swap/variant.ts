// Other artifacts made of the one that ships, so that swaps have something to swap without a trainer: some weights change their sign.
// Few make a slightly different one, half of them make random weights with the right magnitudes, which is as bad as one can get.
import { createHash } from 'node:crypto';

export interface Artifact {
  readonly bytes: Buffer;
  readonly digest: string;
}

interface Header {
  readonly __metadata__?: Readonly<Record<string, string>>;
  readonly [tensor: string]: unknown;
}

const BYTES: Readonly<Record<string, number>> = { F64: 8, F32: 4, F16: 2, BF16: 2 };

/**
 * @param shipped a safetensors file
 * @param flipped part of the weights whose sign changes, in [0, 1]
 */
export function variant(shipped: Buffer, name: string, flipped: number, seed: number): Artifact {
  const length = Number(shipped.readBigUInt64LE(0));
  const header = JSON.parse(shipped.toString('utf8', 8, 8 + length)) as Header;
  const body = Buffer.from(shipped.subarray(8 + length));
  const random = generator(seed);
  for (const [tensor, value] of Object.entries(header)) {
    if (tensor === '__metadata__') continue;
    const {
      dtype,
      data_offsets: [start, end],
    } = value as { dtype: string; data_offsets: [number, number] };
    const size = BYTES[dtype];
    if (size === undefined) throw new Error(`${tensor} holds ${dtype}, which is no kind of float`);
    for (let at = start + size - 1; at < end; at += size) {
      // Little-endian: the sign is the top bit of the last byte.
      if (random() < flipped) body[at] = (body[at] ?? 0) ^ 0x80;
    }
  }
  const text = JSON.stringify({ ...header, __metadata__: { ...header.__metadata__, variant: name } });
  const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8, ' '));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  const bytes = Buffer.concat([size, padded, body]);
  return { bytes, digest: createHash('sha256').update(bytes).digest('hex') };
}

/** Numbers in [0, 1), the same every run (xorshift32). */
export function generator(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
