// `spotlight artifact import` and `diff` as a user runs them.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { exportArtifact } from '@spotlight/cuda';
import type { ModelInfo, Recipe, TrainerInfo } from '@spotlight/cuda';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
const PTH = fileURLToPath(new URL('../../../cuda/artifact/pth/fixture/parameters.pth', import.meta.url));

function spotlight(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [MAIN, 'artifact', ...args], {
    encoding: 'utf8',
    input: '',
    timeout: 60_000,
  });
}

describe('spotlight artifact', function () {
  this.timeout(60_000);
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'spotlight-artifact-cli-'));
  });
  after(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  it('diff ends with 0 between twins and with 1, and the difference, between others', async () => {
    const info = {
      model: { kvHeads: 1, queryHeads: 2, headDim: 16 } as ModelInfo,
      fingerprint: 'ab'.repeat(32),
      layers: [0],
      headSize: 512,
      layerSize: 1536,
    } as unknown as TrainerInfo;
    const recipe = { encoder: 'linear-asym', bits: 32, budget: 0.02, denseLayers: [] } as unknown as Recipe;
    const [a, b, twin] = ['a', 'b', 'twin'].map((name) => join(folder, name));
    const weights = Float32Array.from({ length: 1536 }, (_, i) => Math.sin(i));
    await exportArtifact(a ?? '', info, recipe, weights, { corpus_digest: 'one' });
    await exportArtifact(
      b ?? '',
      info,
      recipe,
      weights.map((value) => value + 0.5),
      { corpus_digest: 'two' },
    );
    copyFileSync(a ?? '', twin ?? '');
    const same = spotlight('diff', a ?? '', twin ?? '');
    assert.deepEqual([same.status, same.stdout], [0, 'no difference\n'], same.stderr);
    const other = spotlight('diff', a ?? '', b ?? '');
    assert.equal(other.status, 1);
    assert.match(
      other.stdout,
      /metadata corpus_digest:\n {2}- one\n {2}\+ two\nlayer 0: distance 0\.70\d, cosine 0\.8/,
    );
    const damaged = spotlight('diff', a ?? '', PTH);
    assert.equal(damaged.status, 1);
    assert.match(damaged.stderr, /^spotlight: .*parameters\.pth/);
  });

  it("import refuses another model's checkpoint in one line, and leaves nothing behind", () => {
    const out = join(folder, 'imported.safetensors');
    const { status, stderr } = spotlight('import', PTH, '--model', 'dummy:smollm2-135m', '--out', out);
    assert.equal(status, 1);
    assert.match(stderr, /^spotlight: .*made for 2 layers, the model has 30\n$/);
    assert.ok(!existsSync(out));
    const nowhere = spotlight('import', PTH, '--model', '/nowhere.gguf', '--out', out);
    assert.equal(nowhere.status, 2);
    assert.match(nowhere.stderr, /--model \/nowhere\.gguf does not exist/);
  });
});
