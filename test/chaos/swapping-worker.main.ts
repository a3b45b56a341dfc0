// A real worker process that swaps artifacts: all of the worker but the native module, which is the fake engine here. Artifacts are
// real files, read by the real reader; BAD_ARTIFACT names the digest under which little of the mass is kept.
import { DEFAULT_ATTENTION, inspectArtifact, settingsDigest } from '@spotlight/cuda';
import type { ArtifactInfo, SlotId, StepResult } from '@spotlight/cuda';
import { runWorker } from '@spotlight/worker/run.js';
import { FakeEngine } from '../fakes/engine.js';

const BAD = process.env['BAD_ARTIFACT'];
const STEP_MS = Number(process.env['STEP_MS'] ?? 10);

class SwappingEngine extends FakeEngine {
  override async loadArtifact(slot: SlotId, path: string): Promise<ArtifactInfo> {
    const info = await inspectArtifact(path);
    await super.loadArtifact(slot, info.digest);
    this.artifacts[slot] = info;
    return info;
  }

  override async collect(): Promise<StepResult> {
    const result = await super.collect();
    const rows = result.rows.map((row) => {
      const slot = this.sequences.get(row.sequence)?.options.slot;
      if (slot === undefined || this.artifacts[slot]?.digest !== BAD || row.quality === undefined) return row;
      return { ...row, quality: row.quality.map((each) => ({ ...each, iou: 0.05, keptMass: 0.2 })) };
    });
    return { ...result, rows };
  }
}

await runWorker({
  createEngine: () => Promise.resolve(new SwappingEngine({ stepMs: STEP_MS, blocks: 1024, eosTokenIds: [] })),
  inspectArtifact,
  settingsDigest,
  DEFAULT_ATTENTION,
});
