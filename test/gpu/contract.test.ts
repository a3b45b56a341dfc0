// The native engine on a GPU keeps the contract that it keeps on a CPU.
import { createEngine } from '@spotlight/cuda';
import { engineContract } from '../contract/engine.js';
import { needGpu } from './gpu.js';

describe('with a GPU', () => {
  before(async function () {
    this.timeout(60_000);
    await needGpu(this);
  });
  engineContract('native, cuda', (options) =>
    createEngine({
      ...options,
      device: 'cuda',
      model: { kind: 'dummy', shape: 'smollm2-135m', layers: 2 },
    }),
  );
});
