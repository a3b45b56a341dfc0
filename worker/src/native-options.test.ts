import assert from 'node:assert/strict';
import { DEFAULT_ATTENTION } from '@spotlight/cuda';
import { loadConfig } from './config/config.js';
import { attentionSettings, chooseDevice, engineOptions } from './native-options.js';

const GIB = 2 ** 30;
const usable = { name: 'NVIDIA H200' };
const old = { name: 'Tesla K80', problem: 'compute capability 3.7 is too old' };

describe('chooseDevice', () => {
  it('takes by auto a GPU that can be used, and the CPU without one', () => {
    assert.equal(chooseDevice('auto', { devices: [], missing: ['no driver'] }), 'cpu');
    assert.equal(chooseDevice('auto', { devices: [old], missing: [] }), 'cpu');
    assert.equal(chooseDevice('auto', { devices: [usable], missing: ['cuBLASLt'] }), 'cpu');
    assert.equal(chooseDevice('auto', { devices: [old, usable], missing: [] }), 'cuda');
  });

  it('takes what is asked for, whatever is there', () => {
    assert.equal(chooseDevice('cuda', { devices: [], missing: [] }), 'cuda');
    assert.equal(chooseDevice('cpu', { devices: [usable], missing: [] }), 'cpu');
  });
});

describe('attentionSettings', () => {
  it('takes what is given over what the artifact recommends, over the defaults', () => {
    const recommended = { minTokens: 32, layers: { 0: { mode: 'dense' } } } as const;
    const settings = (...args: string[]) =>
      attentionSettings(loadConfig(args, {}), DEFAULT_ATTENTION, recommended);
    assert.deepEqual(settings(), { ...DEFAULT_ATTENTION, ...recommended });
    assert.equal(settings('--attention-min-tokens', '64').minTokens, 64);
    assert.deepEqual(settings('--attention-layers', '1:sparse').layers, { 1: { mode: 'sparse' } });
    assert.deepEqual(attentionSettings(loadConfig([], {}), DEFAULT_ATTENTION), DEFAULT_ATTENTION);
  });
});

describe('engineOptions', () => {
  const model = { kind: 'dummy', shape: 'tiny' } as const;
  const attention = {
    backend: 'dense',
    fraction: 0.02,
    minTokens: 256,
    sink: 4,
    recent: 64,
    tail: 'none',
    tailFrom: 2,
    crossover: 0,
  } as const;
  const options = (args: string[], device: 'cpu' | 'cuda', free: number): ReturnType<typeof engineOptions> =>
    engineOptions(loadConfig(args, {}), device, model, attention, free);

  it('gives the CPU a quarter of the free memory within bounds, and lets a GPU take what it has', () => {
    assert.equal(options([], 'cpu', 8 * GIB).kvBytes, 2 * GIB);
    assert.equal(options([], 'cpu', 100 * GIB).kvBytes, 4 * GIB);
    assert.equal(options([], 'cpu', 0).kvBytes, GIB / 4);
    const gpu = options([], 'cuda', 8 * GIB);
    assert.ok(!('kvBytes' in gpu) && !('blocks' in gpu));
    assert.equal(options(['--kv-memory', '3GiB'], 'cuda', 8 * GIB).kvBytes, 3 * GIB);
  });

  it('hands on what is given and leaves the rest to the native module', () => {
    const { device, maxBatchTokens, ...rest } = options(['--max-batch-tokens', '2048'], 'cuda', GIB);
    assert.deepEqual([device, maxBatchTokens], ['cuda', 2048]);
    assert.ok(!('threads' in rest) && !('maxSequences' in rest));
  });
});
