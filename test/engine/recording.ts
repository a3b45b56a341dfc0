// The fake engine with a memory of every batch it took, for tests of what was run and not only of what came out.
import assert from 'node:assert/strict';
import type { Batch, BatchRow, StepId } from '@spotlight/cuda';
import type { EngineLoopOptions } from '@spotlight/worker/engine/options.js';
import { FakeEngine } from '../fakes/engine.js';
import type { FakeEngineOptions } from '../fakes/engine.js';
import { Harness } from './harness.js';

export class RecordingEngine extends FakeEngine {
  readonly batches: Batch[] = [];

  override submit(batch: Batch): StepId {
    const step = super.submit(batch);
    this.batches.push(batch);
    return step;
  }

  get rows(): BatchRow[] {
    return this.batches.flatMap((batch) => batch.rows);
  }
}

export function record(
  fake: FakeEngineOptions = {},
  options: Partial<EngineLoopOptions> = {},
): [Harness, RecordingEngine] {
  const harness = new Harness(fake, options, RecordingEngine);
  assert(harness.native instanceof RecordingEngine);
  return [harness, harness.native];
}
