// The native engine on a GPU keeps the contract that it keeps on a CPU. Its cases compare draws of steps of other sizes, whose sums
// a GPU adds up in another order: in fp16 and over a small vocabulary two tokens are hardly ever so close that it matters.
import { createEngine } from '@spotlight/cuda';
import { damagedModel } from '../contract/damaged-model.js';
import { corruptionContract } from '../contract/engine-corruption.js';
import { engineContract } from '../contract/engine.js';
import { DEVICE, needGpu } from './gpu.js';

const OPTIONS = { device: DEVICE, dtype: 'fp16' } as const;

describe('with a GPU', () => {
  before(async function () {
    this.timeout(60_000);
    await needGpu(this);
  });
  engineContract(`native, ${DEVICE}`, (options) =>
    createEngine({ ...options, ...OPTIONS, model: { kind: 'dummy', shape: 'tiny-qwen3' } }),
  );
  const folder = damagedModel();
  corruptionContract(`native, ${DEVICE}`, (options) =>
    createEngine({ ...options, ...OPTIONS, model: { kind: 'safetensors', path: folder() } }),
  );
});
