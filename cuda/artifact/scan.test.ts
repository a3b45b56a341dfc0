// The streaming reader against files of the writer: whole, in pieces of every size, and damaged everywhere.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EngineError } from '../errors.js';
import { FiniteCheck } from './finite.js';
import { writeSafetensors } from './safetensors.js';
import type { RawTensor } from './safetensors.js';
import type { ScannedArtifact } from './scan.js';
import { ArtifactScan } from './scan.js';
import { writeArtifact } from './write.js';

const FINGERPRINT = 'ab'.repeat(32);

function scan(bytes: Buffer, piece = bytes.length): ScannedArtifact {
  const reader = new ArtifactScan('the upload');
  for (let at = 0; at < bytes.length; at += piece) reader.push(bytes.subarray(at, at + piece));
  return reader.end();
}

function refuses(bytes: Buffer, text: RegExp, piece?: number): void {
  assert.throws(
    () => scan(bytes, piece),
    (error: unknown) => {
      assert.ok(error instanceof EngineError, String(error));
      assert.equal(error.code, 'ARTIFACT_CORRUPT');
      assert.match(error.message, text);
      return true;
    },
  );
}

describe('ArtifactScan', () => {
  let folder = '';
  let bytes: Buffer;
  const values = (size: number): Float32Array => Float32Array.from({ length: size }, (_, i) => Math.sin(i));
  const METADATA = {
    ...{ format: 'spotlight-artifact-1', encoder: 'linear-asym', bits: '32', head_dim: '8' },
    ...{ query_heads: '4', kv_heads: '2', model_fingerprint: FINGERPRINT },
  };

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-scan-'));
    const path = join(folder, 'artifact');
    const tensors = new Map(
      [2, 0].flatMap((layer) => [
        [`layers.${layer}.query.weight`, { shape: [4, 8, 32], data: values(1024) }],
        [`layers.${layer}.key.weight`, { shape: [2, 8, 32], data: values(512) }],
      ]) as [string, { shape: number[]; data: Float32Array }][],
    );
    await writeArtifact(path, tensors, { model_fingerprint: FINGERPRINT, recipe: 'r' });
    bytes = await readFile(path);
  });
  after(() => rm(folder, { recursive: true }));

  /** A file of any tensors and metadata, as no writer of ours would make it. */
  async function file(tensors: Record<string, RawTensor>, metadata: Record<string, string>): Promise<Buffer> {
    const path = join(folder, 'raw');
    await writeSafetensors(path, { tensors: new Map(Object.entries(tensors)), metadata });
    return readFile(path);
  }
  const raw = (dtype: RawTensor['dtype'], shape: number[]): RawTensor => ({
    dtype,
    shape,
    data: Buffer.alloc(shape.reduce((product, extent) => product * extent, dtype === 'F32' ? 4 : 2)),
  });
  const linear = (): Record<string, RawTensor> => ({
    'layers.0.key.weight': raw('F32', [2, 8, 32]),
    'layers.0.query.weight': raw('F16', [4, 8, 32]),
  });

  it('says what the file is, alike in pieces of any size', () => {
    const whole = scan(bytes);
    assert.equal(whole.digest, createHash('sha256').update(bytes).digest('hex'));
    const { digest: _digest, metadata, ...facts } = whole;
    assert.deepEqual(facts, {
      size: bytes.length,
      encoder: 'linear-asym',
      bits: 32,
      headDim: 8,
      queryHeads: 4,
      kvHeads: 2,
      layers: [0, 2],
      fingerprint: FINGERPRINT,
    });
    assert.equal(metadata['recipe'], 'r');
    for (const piece of [1, 2, 3, 7, 8, 9, 63, 64, 1000, bytes.length - 1]) {
      assert.deepEqual(scan(bytes, piece), whole, `pieces of ${piece}`);
    }
  });

  it('refuses a file cut anywhere, and one that goes on', () => {
    const start = 8 + Number(bytes.readBigUInt64LE(0));
    for (const cut of [0, 7, 8, 9, start - 1, start, start + 1, bytes.length - 1]) {
      refuses(bytes.subarray(0, cut), /the upload: (shorter|truncated)/, 100);
    }
    refuses(Buffer.concat([bytes, Buffer.alloc(1)]), /more bytes than the 6144 of tensors/, 100);
  });

  it('finds a value that is no number wherever a piece is cut', async () => {
    for (const [dtype, word, at] of [
      ['F32', 0x7f80_0000, 511],
      ['F32', 0xffc0_0001, 0],
      ['BF16', 0x7f80, 77],
      ['BF16', 0xff81, 511],
      ['F16', 0x7c00, 3],
      ['F16', 0xfe00, 510],
    ] as const) {
      const key = raw(dtype, [2, 8, 32]);
      if (dtype === 'F32') key.data.writeUInt32LE(word, 4 * at);
      else key.data.writeUInt16LE(word, 2 * at);
      const damaged = await file({ ...linear(), 'layers.0.key.weight': key }, METADATA);
      for (const piece of [1, 3, 64, damaged.length]) {
        refuses(damaged, new RegExp(`layers\\.0\\.key\\.weight: value ${at} is NaN or infinite`), piece);
      }
    }
  });

  it('lets the largest finite values pass', () => {
    const pass = (dtype: RawTensor['dtype'], hex: string): unknown =>
      new FiniteCheck(dtype).push(Buffer.from(hex, 'hex'));
    assert.equal(pass('F32', 'ffff7f7fffff7fff'), undefined);
    assert.equal(pass('BF16', '7f7f7fff'), undefined);
    assert.equal(pass('F16', 'ff7bfffb'), undefined);
  });

  it('refuses metadata that disagrees with the tensors, and what is missing, by name', async () => {
    const cases: [RegExp, Record<string, RawTensor>, Record<string, string>][] = [
      [/metadata format is missing/, linear(), {}],
      [/metadata format is v9; this reads/, linear(), { ...METADATA, format: 'v9' }],
      [/metadata bits is 64 where the tensors say 32/, linear(), { ...METADATA, bits: '64' }],
      [/metadata encoder is mlp where/, linear(), { ...METADATA, encoder: 'mlp' }],
      [/model_fingerprint is not 64/, linear(), { ...METADATA, model_fingerprint: 'AB' }],
      [/layers\.0\.query\.weight: missing/, { 'layers.0.key.weight': raw('F32', [2, 8, 32]) }, METADATA],
      [/model\.embed: not a tensor/, { 'model.embed': raw('F32', [1]) }, METADATA],
      [/none given/, {}, METADATA],
    ];
    for (const [text, tensors, metadata] of cases) refuses(await file(tensors, metadata), text);
  });

  it('refuses a header that is no header', () => {
    const headed = (text: string | Buffer, length = Buffer.byteLength(text)): Buffer => {
      const head = Buffer.alloc(8);
      head.writeBigUInt64LE(BigInt(length));
      return Buffer.concat([head, Buffer.from(text)]);
    };
    refuses(headed('nonsense'), /header is not JSON/);
    refuses(headed('[]'), /header is not an object/);
    refuses(headed(Buffer.from([0x7b, 0xff, 0x7d])), /header is not UTF-8/);
    refuses(headed('', 2 ** 30), /header of 1073741824 bytes; at most/);
    refuses(headed('{"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}'), /dtype I8 is not/);
    refuses(headed('{"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'), /metadata format/);
  });
});
