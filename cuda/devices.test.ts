import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { devices } from './index.js';

describe('devices', () => {
  it('gives every GPU with what it can do, and why one cannot be used', async () => {
    const found = await devices();
    found.devices.forEach((device, position) => {
      assert.equal(device.index, position);
      assert.ok(device.name.length > 0);
      assert.match(device.computeCapability, /^\d+\.\d$/);
      assert.ok(device.memoryBytes > 0 && (device.freeBytes ?? 0) <= device.memoryBytes);
      assert.equal(device.usable, device.problem === undefined);
    });
    assert.ok(found.devices.length > 0 || found.missing.length > 0);
  });

  it('says without a GPU which of driver, cuBLASLt and cuDNN are missing, and what brings them', () => {
    const script = `
      import('${join(import.meta.dirname, 'index.js')}').then(async ({ devices }) =>
        process.stdout.write(JSON.stringify(await devices())));`;
    // A driver that shows no device, and no folder where the libraries could lie.
    const { stdout, stderr } = spawnSync(process.execPath, ['-e', script], {
      encoding: 'utf8',
      env: {
        ...process.env,
        CUDA_VISIBLE_DEVICES: '',
        SPOTLIGHT_CUDA_LIBS: '',
        SPOTLIGHT_CACHE: '/nonexistent',
      },
    });
    assert.notEqual(stdout, '', stderr);
    const found = JSON.parse(stdout) as Awaited<ReturnType<typeof devices>>;
    assert.deepEqual(found.devices, []);
    assert.ok(found.missing.some((sentence) => /driver/.test(sentence)));
    for (const sentence of found.missing)
      assert.match(sentence, /NVIDIA driver|build of the native module|(cuBLASLt|cuDNN) \(lib.*; run "node /);
  });
});
