import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { ArtifactInfo } from '@spotlight/cuda';
import { findArtifact } from './find.js';
import { SlotTable } from './slots.js';
import { misfit } from './suits.js';

const info = (parts: Partial<ArtifactInfo>): ArtifactInfo => ({
  digest: 'aa',
  format: 1,
  encoder: 'linear-asym',
  bits: 128,
  headDim: 64,
  queryHeads: 9,
  kvHeads: 3,
  layers: [0],
  fingerprint: 'f1',
  metadata: {},
  ...parts,
});

describe('findArtifact', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-artifacts-'));
    for (const name of ['a.safetensors', 'b.safetensors', 'notes.md'])
      await writeFile(join(folder, name), '');
  });
  afterEach(() => rm(folder, { recursive: true }));
  const inspect = (path: string): Promise<ArtifactInfo> =>
    Promise.resolve(info({ fingerprint: basename(path).startsWith('b') ? 'f2' : 'f1' }));

  it('takes what ships for the fingerprint of the model', async () => {
    const choice = await findArtifact({ setting: 'auto', fingerprint: 'f2', inspect, folder });
    assert.equal(choice.path, join(folder, 'b.safetensors'));
  });

  it('finds none for another model, and none in a folder that is not there', async () => {
    const choice = await findArtifact({ setting: 'auto', fingerprint: 'f3', inspect, folder });
    assert.equal(choice.path, undefined);
    assert.match(choice.reason, /no artifact ships for this model \(fingerprint f3\)/);
    const absent = join(folder, 'absent');
    assert.equal(
      (await findArtifact({ setting: 'auto', fingerprint: 'f1', inspect, folder: absent })).path,
      undefined,
    );
  });

  it('does as it is told', async () => {
    const never = (): Promise<ArtifactInfo> => assert.fail('nothing is to be inspected');
    const find = (setting: string): ReturnType<typeof findArtifact> =>
      findArtifact({ setting, fingerprint: 'f1', inspect: never, folder });
    assert.equal((await find('none')).path, undefined);
    assert.equal((await find('/x/y.safetensors')).path, '/x/y.safetensors');
  });
});

describe('SlotTable', () => {
  let artifacts: (ArtifactInfo | undefined)[];
  let loading: Promise<void>;
  let slots: SlotTable;
  beforeEach(() => {
    artifacts = [undefined, undefined];
    loading = Promise.resolve();
    slots = new SlotTable({
      artifacts,
      loadArtifact: async (slot, path) => {
        await loading;
        if (path === 'bad') throw new Error('bad file');
        return (artifacts[slot] = info({ digest: path }));
      },
      unloadArtifact: (slot) => {
        artifacts[slot] = undefined;
        return Promise.resolve();
      },
    });
  });
  const shown = (): unknown[] =>
    slots.list().map(({ artifact, active, epoch }) => [artifact?.digest, active, epoch]);

  it('knows what is loaded, which slot is active, and counts the loads of a slot', async () => {
    assert.equal(slots.artifact?.digest, undefined);
    assert.deepEqual(shown(), [
      [undefined, true, 0n],
      [undefined, false, 0n],
    ]);
    await slots.load(0, 'one');
    await slots.load(1, 'two');
    await slots.load(1, 'three');
    slots.activate(1);
    assert.equal(slots.active, 1);
    assert.equal(slots.artifact?.digest, 'three');
    assert.deepEqual(shown(), [
      ['one', false, 1n],
      ['three', true, 2n],
    ]);
    assert.deepEqual([slots.find('one'), slots.find('three'), slots.find('two')], [0, 1, undefined]);
    await slots.unload(0);
    assert.equal(slots.find('one'), undefined);
    await assert.rejects(slots.unload(1), RangeError, 'the active slot is never emptied');
  });

  it('lets no request into a slot that is changing or measured, and tells listeners before one can come', async () => {
    await slots.load(0, 'one');
    await slots.load(1, 'two');
    const told: unknown[] = [];
    slots.onChange((slot, loaded) => told.push([slot, loaded, slots.find('three')]));
    let go: () => void = () => undefined;
    loading = new Promise((resolve) => (go = resolve));
    const loaded = slots.load(1, 'three', { closed: true });
    assert.equal(slots.find('two'), undefined);
    assert.throws(() => {
      slots.activate(1);
    }, RangeError);
    go();
    await loaded;
    assert.equal(told.length, 0, 'nobody may use what is only measured');
    assert.equal(slots.find('three'), undefined, 'closed until it is emptied');
    await slots.unload(1);
    assert.deepEqual(told.slice(), [[1, false, undefined]]);
    await slots.load(1, 'three');
    assert.deepEqual(told.at(-1), [1, true, undefined]);
    assert.equal(slots.find('three'), 1);
  });

  it('keeps what it has when a file is bad', async () => {
    await slots.load(1, 'two');
    await assert.rejects(slots.load(1, 'bad'), /bad file/);
    assert.equal(slots.find('two'), 1);
  });
});

describe('misfit', () => {
  it('says what cannot stand beside what is served', () => {
    const served = info({ layers: [2, 3, 4, 7] });
    assert.equal(misfit(info({ digest: 'bb', layers: [2, 3, 4, 7] }), served), undefined);
    const reason = misfit(info({ digest: 'bb', encoder: 'mlp', bits: 256, layers: [0, 1] }), served) ?? '';
    assert.match(reason, /encoder mlp where linear-asym/);
    assert.match(reason, /256 bits a code where 128/);
    assert.match(reason, /codes of layers 0-1 where those of 2-4, 7/);
    assert.match(reason, /roll it out to workers started with it/);
  });
});
