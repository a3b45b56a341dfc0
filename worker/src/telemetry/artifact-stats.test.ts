import assert from 'node:assert/strict';
import { ErrorCode, FinishReason } from '@spotlight/proto';
import { Registry } from 'prom-client';
import type { RequestObservation } from '../engine/observer.js';
import { ArtifactStats } from './artifact-stats.js';

const ended = (artifactDigest: string, parts: Partial<RequestObservation>): RequestObservation => ({
  artifactDigest,
  finishReasons: [FinishReason.STOP],
  error: undefined,
  promptTokens: 1,
  cachedTokens: 0,
  completionTokens: 1,
  choices: 1,
  maxTokens: 1,
  preemptions: 0,
  endToEnd: 1,
  queued: 0,
  prefill: 0,
  decode: 0,
  ...parts,
});

describe('ArtifactStats', () => {
  it('adds up by artifact what a gate compares', async () => {
    const stats = new ArtifactStats();
    const registry = new Registry();
    stats.register(registry, 'tiny');
    assert.deepEqual(stats.list(), []);
    stats.firstToken(0.3, 'aa');
    stats.tokens({ artifactDigest: 'aa', drawn: 4, gaps: Float64Array.of(0.02, 0.2, 1000, 7), gapCount: 3 });
    stats.tokens({ artifactDigest: 'bb', drawn: 1, gaps: Float64Array.of(), gapCount: 0 });
    stats.quality({ artifactDigest: 'bb', iou: 0.25, keptMass: 0.5 });
    stats.quality({ artifactDigest: 'bb', iou: 0.5, keptMass: 1 });
    stats.finished(ended('aa', { finishReasons: [FinishReason.STOP, FinishReason.LENGTH] }));
    stats.finished(ended('aa', { finishReasons: [FinishReason.CANCELLED] }));
    stats.finished(ended('aa', { finishReasons: [FinishReason.ERROR], error: ErrorCode.DEADLINE_EXCEEDED }));
    stats.finished(ended('bb', { finishReasons: [FinishReason.ERROR], error: ErrorCode.INTERNAL }));
    const [a, b] = stats.list();
    assert.deepEqual(
      [a?.artifactDigest, a?.requestsFinished, a?.requestsFailed, a?.tokens],
      ['aa', 1n, 0n, 4n],
    );
    assert.deepEqual(
      [b?.artifactDigest, b?.requestsFinished, b?.requestsFailed, b?.tokens],
      ['bb', 0n, 1n, 1n],
    );
    assert.deepEqual([b?.qualitySamples, b?.iouSum, b?.keptMassSum], [2n, 0.75, 1.5]);
    const { bounds = [], counts = [], sum } = a?.interToken ?? {};
    assert.equal(counts.length, bounds.length + 1);
    assert.deepEqual(
      bounds,
      [...bounds].sort((x, y) => x - y),
    );
    assert.equal(counts[bounds.indexOf(0.02)], 1n, 'a bound counts what is as large');
    assert.equal(counts[bounds.indexOf(0.2)], 1n);
    assert.equal(counts.at(-1), 1n);
    assert.equal(sum, 1000.22);
    const text = await registry.metrics();
    assert.match(text, /spotlight:artifact_tokens_total\{model_name="tiny",engine="0",digest="aa"\} 4\n/);
    assert.match(
      text,
      /spotlight:artifact_requests_failed_total\{model_name="tiny",engine="0",digest="bb"\} 1\n/,
    );
    assert.match(
      text,
      /spotlight:artifact_kept_mass_sum_total\{model_name="tiny",engine="0",digest="bb"\} 1\.5\n/,
    );
  });
});
