import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { ArtifactInfo } from '@spotlight/cuda';
import { findArtifact } from './find.js';
import { SlotTable } from './slots.js';

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
  it('knows what is loaded, which slot is active, and counts the loads of a slot', async () => {
    const artifacts: (ArtifactInfo | undefined)[] = [undefined, undefined];
    const slots = new SlotTable({
      artifacts,
      loadArtifact: (slot, path) => {
        artifacts[slot] = info({ digest: path });
        return Promise.resolve(info({ digest: path }));
      },
    });
    assert.equal(slots.artifact?.digest, undefined);
    assert.deepEqual(
      slots.list().map(({ slot, active, artifactDigest, epoch }) => [slot, active, artifactDigest, epoch]),
      [
        [0, true, '', 0n],
        [1, false, '', 0n],
      ],
    );
    await slots.load(0, 'one');
    await slots.load(1, 'two');
    await slots.load(1, 'three');
    slots.activate(1);
    assert.equal(slots.active, 1);
    assert.equal(slots.artifact?.digest, 'three');
    assert.deepEqual(
      slots.list().map(({ active, artifactDigest, epoch, bits }) => [active, artifactDigest, epoch, bits]),
      [
        [false, 'one', 1n, 128],
        [true, 'three', 2n, 128],
      ],
    );
    assert.throws(() => {
      slots.activate(2);
    }, RangeError);
  });
});
