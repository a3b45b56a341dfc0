// Artifacts changed under load on a real control plane and two real worker processes (over the fake engine): no stream fails or gives
// other tokens, a bad artifact is taken back on its own, and what is killed with -9 meanwhile changes no end.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ArtifactTensor } from '@spotlight/cuda/artifact';
import { writeArtifact } from '@spotlight/cuda/artifact';
import { quantile } from '../bench/bench.js';
import { FakeEngine } from '../fakes/engine.js';
import { FAKE_MODEL } from '../fakes/worker.js';
import { rollOutBad, rollOutUnderKills, swapUnderLoad } from '../swap/scenarios.js';
import type { StreamOrder } from '../swap/streams.js';
import { SwapSystem } from '../swap/system.js';
import type { Artifact } from '../swap/variant.js';
import { generator, variant } from '../swap/variant.js';

const WORKER = fileURLToPath(new URL('./swapping-worker.main.js', import.meta.url));
const SWAPS = 10;
const KILLS = 10;
/** Two shared cores are noisy. */
const MOST_P95_RATIO = 1.5;
const LIMIT_MS = 60_000;

describe('artifacts changed under load', function () {
  this.timeout(180_000);
  let folder: string;
  let system: SwapSystem;
  let artifacts: Artifact[];
  let order: StreamOrder;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-swap-test-'));
    const path = join(folder, 'stable.safetensors');
    const stable = await smallArtifact(path);
    artifacts = [stable, variant(stable.bytes, 'other', 0.02, 3), variant(stable.bytes, 'bad', 0.5, 5)];
    const [, other, bad] = artifacts;
    assert.ok(other && bad);
    process.env['BAD_ARTIFACT'] = bad.digest;
    system = await SwapSystem.start({
      workers: 2,
      workerScript: WORKER,
      workerFlags: [
        '--model',
        'dummy:fake',
        '--served-model-name',
        FAKE_MODEL,
        '--artifact',
        path,
        '--quality-rate',
        '0.5',
      ],
    });
    assert.ok((await system.upload(other)).passed);
    const prompts = Array.from({ length: 8 }, (_, i) => `prompt ${i} ${'lorem ipsum '.repeat(8 * i)}`);
    order = { url: system.http, model: FAKE_MODEL, prompts, maxTokens: 48 };
  });
  after(async () => {
    delete process.env['BAD_ARTIFACT'];
    await (system as SwapSystem | undefined)?.close();
    await rm(folder, { recursive: true, force: true });
  });
  const pair = (): [string, string] => [artifacts[0]?.digest ?? '', artifacts[1]?.digest ?? ''];

  it('are noticed by no stream', async () => {
    const result = await swapUnderLoad({
      system,
      artifacts: pair(),
      swaps: SWAPS,
      streams: 16,
      order,
      restMs: 300,
      limitMs: LIMIT_MS,
      log: () => undefined,
    });
    assert.deepEqual(
      result.rollouts.map(({ phase, reason }) => [phase, reason]),
      result.rollouts.map(() => ['done', '']),
    );
    assert.deepEqual(result.failures, []);
    const { compared, nearTies, different } = result.comparison;
    assert.deepEqual([nearTies, different], [0, []], 'tokens are those of the artifact alone');
    assert.equal(compared, result.outcomes.length, 'every stream ran under one of the two');
    assert.ok(compared > 50, `${compared} streams`);
    assert.ok(new Set(result.outcomes.map(({ artifact }) => artifact)).size === 2);
    const ratio = quantile(result.during, 0.95) / quantile(result.between, 0.95);
    assert.ok(ratio <= MOST_P95_RATIO, `p95 between tokens is ${ratio.toFixed(2)}x during a swap`);
  });

  it('are taken back on their own when they are bad, though they were forced through validation', async () => {
    const bad = artifacts[2];
    assert.ok(bad);
    const { passed, rollout, outcomes } = await rollOutBad(system, bad, order, 16, LIMIT_MS);
    assert.equal(passed, false, 'validation rejects it');
    assert.equal(rollout.phase, 'rolled_back', rollout.reason);
    assert.match(rollout.reason, /kept mass 0\.200/);
    assert.deepEqual(
      rollout.events.map(({ kind }) => kind),
      ['start', 'canary', 'hold', 'roll_back', 'rolled_back'],
    );
    assert.ok(outcomes.some(({ artifact }) => artifact !== '' && bad.digest.startsWith(artifact)));
    assert.deepEqual(
      outcomes.filter(({ failure }) => failure !== undefined),
      [],
    );
  });

  it('end the same whatever is killed with -9 meanwhile', async () => {
    const result = await rollOutUnderKills({
      system,
      artifacts: pair(),
      kills: KILLS,
      victims: ['control plane', 0, 1],
      streams: 8,
      order,
      random: generator(11),
      limitMs: LIMIT_MS,
      log: () => undefined,
    });
    for (const { phase, reason } of result.rollouts) assert.equal(phase, 'done', reason);
    assert.deepEqual([result.lost, result.unlogged, result.failures], [[], [], []]);
  });
});

/** For the fake engine's model. */
async function smallArtifact(path: string): Promise<Artifact> {
  const { model, fingerprint } = new FakeEngine().info;
  const random = generator(1);
  const weights = (heads: number): ArtifactTensor => ({
    shape: [heads, model.headDim, 128],
    data: Float32Array.from({ length: heads * model.headDim * 128 }, () => 2 * random() - 1),
  });
  const tensors = new Map<string, ArtifactTensor>();
  for (let layer = 0; layer < model.layers; layer++) {
    tensors.set(`layers.${layer}.key.weight`, weights(model.kvHeads));
    tensors.set(`layers.${layer}.query.weight`, weights(model.queryHeads));
  }
  await writeArtifact(path, tensors, { model_fingerprint: fingerprint });
  const bytes = await readFile(path);
  return { bytes, digest: createHash('sha256').update(bytes).digest('hex') };
}
