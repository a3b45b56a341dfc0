// The native engine keeps the contract, with seeded random weights of a small shape. Needs the built addon.
import { createEngine, EngineError } from '@spotlight/cuda';
import { damagedModel } from './damaged-model.js';
import { corruptionContract } from './engine-corruption.js';
import { CONTRACT_OPTIONS, engineContract } from './engine.js';
import type { ContractOptions } from './engine.js';

const open = (options: ContractOptions) =>
  createEngine({ ...options, model: { kind: 'dummy', shape: 'smollm2-135m', layers: 2 }, threads: 2 });

describe('with the addon', () => {
  before(async function () {
    this.timeout(60_000);
    try {
      const engine = await open(CONTRACT_OPTIONS);
      await engine.dispose();
    } catch (error) {
      if (!(error instanceof EngineError) || error.code !== 'ADDON_MISSING') throw error;
      process.stderr.write(`skipped: ${error.message}\n`);
      this.skip();
    }
  });
  engineContract('native', open);
  const folder = damagedModel();
  corruptionContract('native', (options) =>
    createEngine({ ...options, model: { kind: 'safetensors', path: folder() }, threads: 2 }),
  );
});
