// The trainer through its typed face, and what it leaves on disk: checkpoints that cannot lie, artifacts that the serving engine loads.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Recipe, Trainer } from '../index.js';
import {
  createTrainer,
  defaultRecipe,
  EngineError,
  exportArtifact,
  inspectArtifact,
  readCheckpoint,
  writeCheckpoint,
} from '../index.js';

const TINY: Partial<Recipe> = {
  bits: 64,
  hidden: 32,
  steps: 3,
  sequence: 256,
  rows: 8,
  top: 8,
  other: 24,
  denseLayers: [0],
};

function trainer(encoder: Recipe['encoder'], more: Partial<Recipe> = {}): Promise<Trainer> {
  const model = { kind: 'dummy', shape: 'smollm2-135m', layers: 2, maxModelLen: 512 } as const;
  return createTrainer({ model, threads: 1, recipe: { ...defaultRecipe(encoder), ...TINY, ...more } });
}

const text = (number: number): Int32Array =>
  Int32Array.from({ length: 256 }, (_, i) => ((i * 7919) ^ (number * 104_729)) % 500);

const refusal = (code: string, part: RegExp) => (error: unknown) => {
  assert.ok(error instanceof EngineError, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, part);
  return true;
};

describe('createTrainer', function () {
  this.timeout(30_000);
  let folder: string;
  const open: Trainer[] = [];
  const made = async (...args: Parameters<typeof trainer>): Promise<Trainer> => {
    const one = await trainer(...args);
    open.push(one);
    return one;
  };
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-train-'));
  });
  afterEach(async () => {
    await Promise.all(open.splice(0).map((each) => each.dispose()));
    await rm(folder, { recursive: true, force: true });
  });

  for (const encoder of ['linear-asym', 'mlp'] as const) {
    it(`trains, saves and exports ${encoder}`, async () => {
      const one = await made(encoder);
      assert.deepEqual(one.info.layers, [1]);
      const first = await one.step(text(0));
      assert.equal(first?.step, 1);
      assert.ok(first.loss > 0 && first.layers.length === 1);
      const quality = await one.measure(text(9), 8);
      assert.ok(quality !== undefined && quality.iou > 0 && quality.iou < 1 && quality.mass > 0);

      const path = join(folder, 'a.checkpoint');
      await writeCheckpoint(path, await one.save(), { recipe: 'r' });
      const other = await made(encoder);
      await other.load(await readCheckpoint(path, { recipe: 'r' }));
      for (const each of [one, other]) {
        await each.step(text(1));
        await exportArtifact(
          join(folder, `${open.indexOf(each)}.safetensors`),
          each.info,
          each.recipe,
          (await each.save()).weights,
          {
            corpus_digest: 'c',
          },
        );
      }
      const [a, b] = await Promise.all([
        inspectArtifact(join(folder, '0.safetensors')),
        inspectArtifact(join(folder, '1.safetensors')),
      ]);
      assert.equal(a.digest, b.digest);
      assert.equal(a.fingerprint, one.info.fingerprint);
      assert.deepEqual(a.layers, [1]);
      assert.equal(a.encoder, encoder);
      assert.deepEqual(JSON.parse(a.metadata['recipe'] ?? ''), one.recipe);
      assert.equal(a.metadata['dense_layers'], '0');
    });
  }

  it('cancels a step, which then has changed nothing', async () => {
    const one = await made('linear-asym', { steps: 1000 });
    // A step of so short a text may end before the call reaches it: then the next is tried.
    for (let tries = 1; tries <= 100; tries++) {
      const before = await one.save();
      const step = one.step(text(0));
      one.cancel();
      if ((await step) !== undefined) continue;
      assert.deepEqual(await one.save(), before);
      assert.equal((await one.step(text(0)))?.step, tries);
      return;
    }
    assert.fail('a hundred steps ended before they could be cancelled');
  });

  it('refuses mistakes by name', async () => {
    await assert.rejects(trainer('linear-asym', { bits: 33 }), refusal('INVALID_ARGUMENT', /^bits: 33/));
    await assert.rejects(trainer('linear-asym', { rows: 1.5 }), refusal('INVALID_ARGUMENT', /^recipe\.rows/));
    const one = await made('linear-asym');
    await assert.rejects(one.step([1, 2, 3]), refusal('INVALID_ARGUMENT', /^tokens/));
    const step = one.step(text(0));
    await assert.rejects(one.step(text(1)), refusal('INVALID_ARGUMENT', /at work/));
    await step;
    await assert.rejects(
      one.load({
        step: 1,
        weights: new Float32Array(3),
        first: new Float32Array(3),
        second: new Float32Array(3),
      }),
      refusal('INVALID_ARGUMENT', /^state/),
    );
    await one.dispose();
    await assert.rejects(one.save(), refusal('ENGINE_DISPOSED', /disposed/));
  });
});

describe('readCheckpoint', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-checkpoint-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('refuses another training, a bent file and a lying one', async () => {
    const path = join(folder, 'a.checkpoint');
    const state = {
      step: 5,
      weights: Float32Array.of(1, 2),
      first: Float32Array.of(3, 4),
      second: Float32Array.of(5, 6),
    };
    await writeCheckpoint(path, state, { recipe: 'r', corpus_digest: 'c' });
    assert.deepEqual(await readCheckpoint(path, { recipe: 'r', corpus_digest: 'c' }), state);
    await assert.rejects(
      readCheckpoint(path, { recipe: 'r', corpus_digest: 'd' }),
      refusal('INVALID_ARGUMENT', /its corpus_digest is c, this training's is d/),
    );
    const bytes = await readFile(path);
    const spoiled = async (spoil: (copy: Buffer) => Buffer): Promise<void> => {
      await writeFile(path, spoil(Buffer.from(bytes)));
      await assert.rejects(readCheckpoint(path, {}), refusal('ARTIFACT_CORRUPT', /./));
    };
    await spoiled((copy) => copy.subarray(0, copy.length - 1));
    await spoiled((copy) => {
      copy.writeUInt8(copy.readUInt8(copy.length - 2) ^ 1, copy.length - 2);
      return copy;
    });
    await spoiled((copy) =>
      Buffer.from(copy.toString('latin1').replace('"step":"5"', '"step":"6"'), 'latin1'),
    );
    await assert.rejects(readCheckpoint(join(folder, 'none'), {}), refusal('ARTIFACT_NOT_FOUND', /none/));
  });
});
