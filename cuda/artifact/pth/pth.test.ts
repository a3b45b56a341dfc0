// The authors' checkpoints as torch.save writes them (fixture/make.py), and files that mean harm or lie.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EngineError } from '../../errors.js';
import { inspectArtifact } from '../../engine.js';
import { readSafetensors } from '../safetensors.js';
import { importPth, readPth } from './import-pth.js';
import { unpickleTensors } from './unpickle.js';
import { readZip } from './zip.js';

const FIXTURE = fileURLToPath(new URL('../../../artifact/pth/fixture/', import.meta.url));
const fixture = (name: string): Promise<Buffer> => readFile(join(FIXTURE, `${name}.pth`));
const MODEL = { fingerprint: 'ab'.repeat(32), layers: 2, queryHeads: 2, kvHeads: 1, headDim: 4 };

const corrupt = (part: RegExp) => (error: unknown) => {
  assert.ok(error instanceof EngineError, String(error));
  assert.equal(error.code, 'ARTIFACT_CORRUPT');
  assert.match(error.message, part);
  return true;
};

/** A pickle from its parts: numbers are bytes, texts are themselves. */
const pickle = (...parts: (number | string)[]): Buffer =>
  Buffer.concat(
    parts.map((part) => (typeof part === 'number' ? Buffer.of(part) : Buffer.from(part, 'latin1'))),
  );

describe('readPth', () => {
  it('reads parameters as torch saves them', async () => {
    const tensors = readPth(await fixture('parameters'));
    assert.deepEqual(
      [...tensors].slice(0, 5).map(([name, { shape }]) => [name, ...shape]),
      [
        ['layers.0.mlp.w1', 2, 4, 16],
        ['layers.0.mlp.b1', 2, 16],
        ['layers.0.mlp.w2', 2, 16, 32],
        ['layers.0.mlp.b2', 2, 32],
        ['layers.1.mlp.w1', 2, 4, 16],
      ],
    );
    let count = 0;
    for (const { data } of tensors.values()) for (const value of data) assert.equal(value, count++ % 251);
  });

  it('reads other types, strided views and offsets to the same values', async () => {
    const [whole, views] = [readPth(await fixture('parameters')), readPth(await fixture('views'))];
    assert.equal(views.size, 4);
    for (const [name, tensor] of views) assert.deepEqual(tensor, whole.get(name), name);
  });

  it('refuses what is no list of tensors', async () => {
    const file = await fixture('dict');
    assert.throws(
      () => readPth(file),
      corrupt(/opcode 0x7d at byte \d+ is none of a list of tensors; nothing was executed/),
    );
    assert.throws(() => readPth(Buffer.alloc(5000)), corrupt(/no end of a zip/));
    assert.throws(() => readPth(Buffer.alloc(3)), corrupt(/shorter than a zip/));
  });

  it('refuses every truncation and every flipped byte that matters, and never crashes', async () => {
    const file = await fixture('parameters');
    for (let length = 0; length < file.length; length += 97)
      assert.throws(() => readPth(file.subarray(0, length)), corrupt(/./), `cut at ${length}`);
    const sound = readPth(file);
    for (let at = 0; at < file.length; at += 13) {
      const bent = Buffer.from(file);
      bent[at] = (bent[at] ?? 0) ^ 0x41;
      try {
        // What lies between entries (names of local headers, padding) is read by nobody.
        assert.deepEqual(readPth(bent), sound, `byte ${at} changed the values unnoticed`);
      } catch (error) {
        corrupt(/./)(error);
      }
    }
  });
});

describe('unpickleTensors', () => {
  it('executes nothing: every other name and opcode is refused by name', () => {
    const call = pickle(0x80, 2, 'cposix\nsystem\n', 'X', 2, 0, 0, 0, 'ls', 0x85, 'R.');
    assert.throws(
      () => unpickleTensors(call),
      corrupt(/names "posix system" at byte 2.*nothing was executed/),
    );
    const stack = pickle(0x80, 4, 0x8c, 8, 'builtins', 0x8c, 4, 'eval', 0x93, '.');
    assert.throws(() => unpickleTensors(stack), corrupt(/names "builtins eval"/));
    for (const opcode of [0x81, 0x62, 0x69, 0x6f, 0x82, 0x50, 0x92, 0x7d, 0x4e, 0x49, 0x53, 0x56, 0x30])
      assert.throws(
        () => unpickleTensors(pickle(0x80, 2, 0x5d, opcode, 0x5d, '.')),
        corrupt(new RegExp(`opcode 0x${opcode.toString(16)} at byte 3`)),
      );
    // A name that is allowed, called with what it is never called with.
    const odd = pickle(0x80, 2, 'ctorch._utils\n_rebuild_tensor_v2\n', 0x29, 'R.');
    assert.throws(() => unpickleTensors(odd), corrupt(/a call of torch\._utils _rebuild_tensor_v2/));
    const storage = pickle(0x80, 2, 'ctorch\nFloatStorage\n', 0x29, 'R.');
    assert.throws(() => unpickleTensors(storage), corrupt(/a call of torch FloatStorage/));
  });

  it('refuses broken programs', () => {
    for (const [program, part] of [
      [pickle(0x80, 2), /truncated/],
      [pickle(0x80, 9, '.'), /protocol/],
      [pickle('.'), /empty stack/],
      [pickle('(', '.'), /empty stack/],
      [pickle('e.'), /no mark/],
      [pickle('K', 1, 'K', 2, 'a.'), /no list/],
      [pickle('h', 3, '.'), /recalls 3/],
      [pickle(']K', 1, 'a.'), /entry 0 of its list is a number/],
      [pickle('X', 255, 255, 255, 255, 'x.'), /truncated/],
      [pickle(')', 'Q.'), /no storage/],
    ] as const)
      assert.throws(() => unpickleTensors(program), corrupt(part));
    const deep = Buffer.concat([Buffer.alloc(200_000, '('), pickle('.')]);
    assert.throws(() => unpickleTensors(deep), corrupt(/empty stack/));
  });
});

describe('readZip', () => {
  it('refuses compressed, encrypted, doubled and lying entries', async () => {
    const file = await fixture('views');
    const directory = file.indexOf(Buffer.from('PK\x01\x02', 'latin1'));
    const bent = (at: number, value: number): Buffer => {
      const copy = Buffer.from(file);
      copy.writeUInt16LE(value, directory + at);
      return copy;
    };
    assert.ok(readZip(file).size > 4);
    assert.throws(() => readZip(bent(8, 1)), corrupt(/encrypted/));
    assert.throws(() => readZip(bent(10, 8)), corrupt(/compressed/));
    assert.throws(() => readZip(bent(24, 9)), corrupt(/stored in/));
    assert.throws(() => readZip(bent(16, 9)), corrupt(/checksum/));
    assert.throws(() => readZip(bent(42, 0x7000)), corrupt(/no entry where the directory says/));
    const end = file.length - 22;
    const many = Buffer.from(file);
    many.writeUInt16LE(60_000, end + 10);
    assert.throws(() => readZip(many), corrupt(/damaged directory/));
  });
});

describe('importPth', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-pth-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));
  const run = (model: Partial<typeof MODEL> = {}, name = 'parameters'): ReturnType<typeof importPth> =>
    importPth({
      input: join(FIXTURE, `${name}.pth`),
      output: join(folder, 'a.safetensors'),
      model: { ...MODEL, ...model },
      metadata: { source: 'fixture' },
    });

  it('writes an artifact that the serving reader takes, with the very bits of the checkpoint', async () => {
    const layout = await run();
    assert.deepEqual(layout.layers, [0, 1]);
    const info = await inspectArtifact(join(folder, 'a.safetensors'));
    assert.equal(info.encoder, 'mlp');
    assert.deepEqual([info.bits, info.queryHeads, info.kvHeads, info.headDim], [32, 2, 1, 4]);
    assert.equal(info.metadata['source'], 'fixture');
    const { tensors } = await readSafetensors(join(folder, 'a.safetensors'));
    const zip = readZip(await fixture('parameters'));
    assert.deepEqual(tensors.get('layers.1.mlp.w2')?.data, zip.get('parameters/data/6'));
  });

  it('refuses another model, a list of another length and values that are no numbers', async () => {
    const mismatch = (part: RegExp) => (error: unknown) => {
      assert.ok(error instanceof EngineError && error.code === 'ARTIFACT_MISMATCH', String(error));
      assert.match(error.message, part);
      return true;
    };
    await assert.rejects(run({ layers: 28 }), mismatch(/made for 2 layers, the model has 28/));
    await assert.rejects(run({ queryHeads: 28 }), mismatch(/made for 2 query heads, the model has 28/));
    await assert.rejects(run({ headDim: 128 }), mismatch(/made for 4 values a head, the model has 128/));
    await assert.rejects(run({ layers: 1 }, 'none'), /none\.pth: cannot be read/);
    await writeFile(join(folder, 'cut.pth'), (await fixture('parameters')).subarray(0, 4000));
    await assert.rejects(
      importPth({ input: join(folder, 'cut.pth'), output: join(folder, 'b'), model: MODEL, metadata: {} }),
      corrupt(/cut\.pth: zip: no end/),
    );
  });
});
