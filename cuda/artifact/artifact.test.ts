// Writing, importing and refusing artifacts on real files in a temporary folder.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { EngineError } from '../errors.js';
import { importArtifact } from './import.js';
import { readSafetensors, writeSafetensors } from './safetensors.js';
import { toBf16, writeArtifact } from './write.js';
import type { EngineErrorCode } from '../errors.js';
import type { ArtifactTensor } from './write.js';

const FINGERPRINT = 'ab'.repeat(32);

function tensor(...shape: number[]): ArtifactTensor {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return { shape, data: Float32Array.from({ length: size }, (_, i) => Math.sin(i + shape.length)) };
}

function linear(): Map<string, ArtifactTensor> {
  return new Map([
    ['layers.2.query.weight', tensor(4, 8, 32)],
    ['layers.2.key.weight', tensor(2, 8, 32)],
    ['layers.0.query.weight', tensor(4, 8, 32)],
    ['layers.0.key.weight', tensor(2, 8, 32)],
  ]);
}

async function refuses(code: EngineErrorCode, text: RegExp, work: Promise<unknown>): Promise<void> {
  await assert.rejects(work, (error: unknown) => {
    assert.ok(error instanceof EngineError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, text);
    return true;
  });
}

describe('artifact', () => {
  let folder = '';
  const at = (name: string): string => join(folder, name);
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-artifact-'));
  });
  after(async () => {
    await rm(folder, { recursive: true });
  });

  it('rounds to BF16 to nearest, ties to even', () => {
    const bits = new Uint32Array([0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0xbf80ffff]);
    assert.deepEqual([...toBf16(new Float32Array(bits.buffer))], [0x3f80, 0x3f82, 0x3f81, 0x3f80, 0xbf81]);
  });

  it('writes the same bytes whatever the order of tensors and metadata, with data aligned', async () => {
    const layout = await writeArtifact(at('a'), linear(), { recipe: 'r', model_fingerprint: FINGERPRINT });
    await writeArtifact(at('b'), new Map([...linear()].reverse()), {
      model_fingerprint: FINGERPRINT,
      recipe: 'r',
    });
    const bytes = await readFile(at('a'));
    assert.deepEqual(bytes, await readFile(at('b')));
    assert.equal((8 + Number(bytes.readBigUInt64LE(0))) % 64, 0);
    assert.deepEqual(layout, {
      encoder: 'linear-asym',
      bits: 32,
      headDim: 8,
      queryHeads: 4,
      kvHeads: 2,
      layers: [0, 2],
    });
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.includes('partial')),
      [],
    );
  });

  it('reads back what it wrote, and says what it is in metadata', async () => {
    await writeArtifact(at('c'), linear(), { model_fingerprint: FINGERPRINT });
    const { tensors, metadata } = await readSafetensors(at('c'));
    assert.deepEqual(metadata, {
      format: 'spotlight-artifact-1',
      encoder: 'linear-asym',
      bits: '32',
      head_dim: '8',
      query_heads: '4',
      kv_heads: '2',
      model_fingerprint: FINGERPRINT,
    });
    assert.deepEqual([...tensors.keys()], [...linear().keys()].sort());
    const stored = tensors.get('layers.0.key.weight');
    assert.equal(stored?.dtype, 'BF16');
    const wanted = toBf16(tensor(2, 8, 32).data);
    assert.deepEqual(
      Array.from(wanted, (_, i) => stored.data.readUInt16LE(2 * i)),
      [...wanted],
    );
  });

  it('takes the mlp form with its KV heads told by metadata', async () => {
    const mlp = new Map([
      ['layers.1.mlp.w1', tensor(4, 8, 16)],
      ['layers.1.mlp.b1', tensor(4, 16)],
      ['layers.1.mlp.w2', tensor(4, 16, 64)],
      ['layers.1.mlp.b2', tensor(4, 64)],
    ]);
    const layout = await writeArtifact(at('m'), mlp, { model_fingerprint: FINGERPRINT, kv_heads: '2' });
    assert.equal(layout.encoder, 'mlp');
    assert.equal(layout.bits, 64);
    await refuses(
      'INVALID_ARGUMENT',
      /metadata\.kv_heads/,
      writeArtifact(at('x'), mlp, { model_fingerprint: FINGERPRINT }),
    );
    mlp.set('layers.1.mlp.b2', tensor(4, 32));
    await refuses(
      'INVALID_ARGUMENT',
      /layers\.1\.mlp\.b2: shape \[4, 32\] where \[4, 64\]/,
      writeArtifact(at('x'), mlp, { model_fingerprint: FINGERPRINT, kv_heads: '2' }),
    );
  });

  it('refuses tensors and metadata that disagree, naming them', async () => {
    const metadata = { model_fingerprint: FINGERPRINT };
    const changed = (name: string, value?: ArtifactTensor): Map<string, ArtifactTensor> => {
      const tensors = linear();
      if (value === undefined) tensors.delete(name);
      else tensors.set(name, value);
      return tensors;
    };
    const nan = tensor(2, 8, 32);
    nan.data[3] = Number.NaN;
    const cases: [RegExp, Map<string, ArtifactTensor>, Record<string, string>][] = [
      [/layers\.2\.key\.weight: missing/, changed('layers.2.key.weight'), metadata],
      [/layers\.2\.key\.weight: shape/, changed('layers.2.key.weight', tensor(2, 8, 64)), metadata],
      [/layers\.0\.key\.weight: value 3 is NaN/, changed('layers.0.key.weight', nan), metadata],
      [/model\.embed: not a tensor/, changed('model.embed', tensor(1)), metadata],
      [
        /3 KV heads|divide/,
        new Map([
          ['layers.0.key.weight', tensor(3, 8, 32)],
          ['layers.0.query.weight', tensor(4, 8, 32)],
        ]),
        metadata,
      ],
      [/metadata\.model_fingerprint/, linear(), { model_fingerprint: 'AB' }],
      [/metadata\.bits: 64 where the tensors say 32/, linear(), { ...metadata, bits: '64' }],
      [/none given/, new Map(), metadata],
    ];
    for (const [text, tensors, meta] of cases)
      await refuses('INVALID_ARGUMENT', text, writeArtifact(at('x'), tensors, meta));
    assert.ok(!(await readdir(folder)).includes('x'));
  });

  it('imports a raw float32 file from the command line', async () => {
    const raw = new Map(
      [...linear()].map(([name, { shape, data }]) => [
        name,
        { dtype: 'F32' as const, shape, data: Buffer.from(data.buffer) },
      ]),
    );
    await writeSafetensors(at('raw'), { tensors: raw, metadata: {} });
    await writeFile(at('meta.json'), JSON.stringify({ budget: 0.02, corpus: 'd1', quality: { iou: 0.4 } }));
    const { stdout } = await promisify(execFile)(process.execPath, [
      join(import.meta.dirname, 'import.js'),
      ...[
        '--in',
        at('raw'),
        '--out',
        at('artifact'),
        '--meta',
        at('meta.json'),
        '--fingerprint',
        FINGERPRINT,
      ],
    ]);
    assert.match(stdout, /linear-asym, 32 bits, 2 layers, 4 query and 2 KV heads of 8/);
    const { metadata } = await readSafetensors(at('artifact'));
    assert.equal(metadata['budget'], '0.02');
    assert.equal(metadata['corpus'], 'd1');
    assert.equal(metadata['quality'], '{"iou":0.4}');

    await writeArtifact(at('direct'), linear(), {
      ...{ budget: '0.02', corpus: 'd1', quality: '{"iou":0.4}' },
      model_fingerprint: FINGERPRINT,
    });
    assert.deepEqual(await readFile(at('artifact')), await readFile(at('direct')));
  });

  it('refuses a damaged raw file at every cut, and a missing one', async () => {
    await writeArtifact(at('whole'), linear(), { model_fingerprint: FINGERPRINT });
    const bytes = await readFile(at('whole'));
    const header = 8 + Number(bytes.readBigUInt64LE(0));
    for (const cut of [0, 7, 8, 9, header - 1, header, header + 1, bytes.length - 1]) {
      await writeFile(at('cut'), bytes.subarray(0, cut));
      await refuses('ARTIFACT_CORRUPT', /cut: /, readSafetensors(at('cut')));
    }
    await writeFile(at('cut'), Buffer.concat([bytes, Buffer.alloc(1)]));
    await refuses('ARTIFACT_CORRUPT', /header tells of/, readSafetensors(at('cut')));
    const missing = importArtifact({
      input: at('absent'),
      output: at('x'),
      meta: at('meta.json'),
      fingerprint: FINGERPRINT,
    });
    await refuses('ARTIFACT_NOT_FOUND', /absent: cannot be read/, missing);
  });
});
