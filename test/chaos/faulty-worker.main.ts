// A real worker process whose device faults: all of the worker but the native module, which is the fake engine here and dies in
// step FAULT_STEP of each life. Its dispose() never answers, as a device that faulted may not.
import { DEFAULT_ATTENTION, EngineError, settingsDigest } from '@spotlight/cuda';
import { runWorker } from '@spotlight/worker/run.js';
import { FakeEngine } from '../fakes/engine.js';

const FAULT_STEP = Number(process.env['FAULT_STEP']);

class FaultyEngine extends FakeEngine {
  override async dispose(): Promise<void> {
    if (this.stats().steps >= FAULT_STEP) await new Promise(() => undefined);
    return super.dispose();
  }
}

await runWorker({
  createEngine: () =>
    Promise.resolve(new FaultyEngine({ dieAtStep: FAULT_STEP, stepMs: 5, blocks: 512, eosTokenIds: [] })),
  inspectArtifact: (path) =>
    Promise.reject(new EngineError('ARTIFACT_NOT_FOUND', `no artifact at "${path}"`)),
  settingsDigest,
  DEFAULT_ATTENTION,
});
