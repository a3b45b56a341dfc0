import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

// As set-up runs it: plain Node, nothing compiled.
const script = join(import.meta.dirname, '../../scripts/gpu.mjs');

function plan(setting: string | undefined, capabilities: readonly string[]): unknown {
  const call = `import('${script}').then(({ cudaPlan }) =>
    process.stdout.write(JSON.stringify(cudaPlan(${setting === undefined ? "''" : `'${setting}'`}, ${JSON.stringify(capabilities)}))))`;
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', call], { encoding: 'utf8' });
  assert.notEqual(stdout, '', stderr);
  return JSON.parse(stdout);
}

describe('cudaPlan', () => {
  it('wants CUDA where a GPU is that the engine runs on, built for that one', () => {
    assert.deepEqual(plan(undefined, ['9.0']), { wanted: true, architectures: '90a-real' });
    assert.deepEqual(plan(undefined, ['8.6', '8.0']), { wanted: true, architectures: '80-real' });
    assert.deepEqual(plan(undefined, ['9.0', '12.0']), {
      wanted: true,
      architectures: '80-virtual;90a-real',
    });
  });

  it('does not for a GPU too old, and then names what ships', () => {
    assert.deepEqual(plan(undefined, ['7.5']), { wanted: false, architectures: '80;90a-real' });
  });

  it('does as SPOTLIGHT_CUDA says, whatever is there', () => {
    assert.deepEqual(plan('0', ['9.0']), { wanted: false, architectures: '90a-real' });
    assert.deepEqual(plan('1', []), { wanted: true, architectures: '80;90a-real' });
  });
});
