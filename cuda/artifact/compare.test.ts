import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compareArtifacts } from './compare.js';
import type { ArtifactTensor } from './write.js';
import { writeArtifact } from './write.js';

const linear = (layers: readonly number[], change = 0, bits = 32): Map<string, ArtifactTensor> =>
  new Map(
    layers.flatMap((layer) =>
      (['key', 'query'] as const).map((side): [string, ArtifactTensor] => {
        const data = Float32Array.from({ length: 2 * 8 * bits }, (_, i) => ((i * 37) % 64) - 32);
        if (layer === 1) data[3] = (data[3] ?? 0) + change;
        return [`layers.${layer}.${side}.weight`, { shape: [2, 8, bits], data }];
      }),
    ),
  );

describe('compareArtifacts', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-compare-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));
  const write = async (
    name: string,
    tensors: Map<string, ArtifactTensor>,
    recipe: string,
  ): Promise<string> => {
    const path = join(folder, name);
    await writeArtifact(path, tensors, { model_fingerprint: 'ab'.repeat(32), recipe });
    return path;
  };

  it('finds nothing between twins', async () => {
    const [a, b] = [await write('a', linear([0, 1]), 'r'), await write('b', linear([0, 1]), 'r')];
    const { layout, metadata, layers, sameWeights } = await compareArtifacts(a, b);
    assert.deepEqual([layout, metadata, sameWeights], [[], [], true]);
    for (const { distance, cosine } of layers) {
      assert.equal(distance, 0);
      assert.ok(Math.abs((cosine ?? 0) - 1) < 1e-12);
    }
  });

  it('names what differs: dims, metadata, layers and how far apart they are', async () => {
    const a = await write('a', linear([0, 1]), 'r');
    const b = await write('b', linear([1, 2], 16), 'other');
    const { metadata, layers, sameWeights } = await compareArtifacts(a, b);
    assert.deepEqual(metadata, [{ key: 'recipe', first: 'r', second: 'other' }]);
    assert.deepEqual(
      layers.map(({ layer, presence }) => [layer, presence]),
      [
        [0, 'first'],
        [1, 'both'],
        [2, 'second'],
      ],
    );
    // 16 in each of two tensors of 512 values whose squares sum to the known mean of 0..63 less 32.
    const norm = Math.sqrt(
      (1024 / 64) * Array.from({ length: 64 }, (_, i) => (i - 32) ** 2).reduce((x, y) => x + y),
    );
    assert.ok(Math.abs((layers[1]?.distance ?? 0) - Math.sqrt(2 * 16 ** 2) / norm) < 1e-6);
    assert.equal(sameWeights, false);
    const wide = await write('c', linear([0, 1], 0, 64), 'r');
    const other = await compareArtifacts(a, wide);
    assert.deepEqual(other.layout, [{ field: 'bits', first: '32', second: '64' }]);
    assert.deepEqual(other.layers[0], { layer: 0, presence: 'both' });
  });

  it('says which file is missing or damaged', async () => {
    const a = await write('a', linear([0]), 'r');
    await assert.rejects(compareArtifacts(a, join(folder, 'none')), /none: cannot be read/);
  });
});
