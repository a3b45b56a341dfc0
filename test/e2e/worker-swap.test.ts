// A3-A7 on a real worker with the default model: another artifact is fetched, loaded, rehashed for and made active under running
// streams, rolled back and let go, and none of them notices; what a request draws is what its artifact draws alone.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ServiceError } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { readSafetensors, writeArtifact } from '@spotlight/cuda/artifact';
import { ErrorCode, FinishReason, SamplingParams, SlotState } from '@spotlight/proto';
import type { Submit, ValidateResponse } from '@spotlight/proto';
import { FakeControlPlane } from '../fakes/control-plane.js';
import { mix } from '../fakes/kv-store.js';
import type { Outcome } from './worker-process.js';
import { WorkerProcess } from './worker-process.js';

const SHIPPED = fileURLToPath(
  new URL('../../../worker/artifacts/smollm2-135m-instruct.linear-asym-128.safetensors', import.meta.url),
);
/** Two choices nearer than this may swap between two ways to sum the same numbers. */
const NEAR = 0.05;
const TOKENS = 24;
const FLAGS = ['--attention-crossover', '0', '--kv-memory', '256MiB', '--quality-rate', '0.2'];
const SHARED = Array.from(
  { length: 34 },
  (_, i) => `Day ${i + 1}: wind ${['north', 'east', 'south'][i % 3]}.`,
);

/** About 300 tokens, most of them shared by all: past the 256 that are always read. */
const prompt = (i: number): Submit['prompt'] => ({
  $case: 'text',
  value: `${SHARED.join('\n')}\nShip ${i} sailed on day`,
});
const submit = (i: number, tokens: number, artifactDigest = ''): Omit<Partial<Submit>, 'requestId'> => ({
  prompt: prompt(i),
  artifactDigest,
  sampling: SamplingParams.fromPartial({ temperature: 0, maxTokens: tokens, ignoreEos: true, logprobs: 2 }),
});

/** The shipped artifact with every weight changed: by a little it is much the same, by a lot it is another. */
async function variant(path: string, noise: number, change: { bits?: number } = {}): Promise<Buffer> {
  const { tensors, metadata } = await readSafetensors(SHIPPED);
  const { bits = 128 } = change;
  let drawn = 0;
  const made = new Map(
    [...tensors].map(([name, { shape, data }]) => {
      const words = new Uint16Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.length));
      const values = Float32Array.from(
        words,
        (word) => new Float32Array(Uint32Array.of(word << 16).buffer)[0] ?? 0,
      );
      const [heads = 0, dim = 0, width = 0] = shape;
      const out = new Float32Array(heads * dim * bits);
      for (let row = 0; row < heads * dim; row++) {
        for (let bit = 0; bit < bits; bit++) {
          const random = mix(7, ++drawn) / 2 ** 31 - 1;
          out[row * bits + bit] =
            (1 - noise) * (values[row * width + (bit % width)] ?? 0) + noise * 0.2 * random;
        }
      }
      return [name, { shape: [heads, dim, bits], data: out }];
    }),
  );
  await writeArtifact(path, made, { model_fingerprint: metadata['model_fingerprint'] ?? '' });
  return readFile(path);
}

const digestOf = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** Asserts that `actual` begins as `expected` does, up to the first near-tie. */
function sameTokens(actual: Outcome, expected: Outcome, what: string): void {
  const differs = actual.tokenIds.findIndex((id, at) => id !== expected.tokenIds[at]);
  if (differs < 0) return;
  const [best, next] = expected.deltas.flatMap(({ logprobs }) => logprobs)[differs]?.top ?? [];
  const margin = (best?.logprob ?? 0) - (next?.logprob ?? -Infinity);
  assert.ok(margin < NEAR, `${what} differs at token ${differs}, where the margin is ${margin}`);
}

describe('a worker whose artifact is swapped', () => {
  let folder: string;
  let plane: FakeControlPlane;
  let worker: WorkerProcess;
  let a: string;
  let b: string;
  const start = (): Promise<WorkerProcess> =>
    WorkerProcess.start([
      ...FLAGS,
      ...['--join', plane.address, '--worker-id', 'w', '--artifact-cache', join(folder, 'cache')],
    ]);

  before(async function () {
    this.timeout(120_000);
    folder = await mkdtemp(join(tmpdir(), 'spotlight-swap-'));
    plane = await FakeControlPlane.start();
    a = digestOf(await readFile(SHIPPED));
    const other = await variant(join(folder, 'b.safetensors'), 0.5);
    b = digestOf(other);
    plane.artifacts.set(b, other);
    worker = await start();
  });
  after(async () => {
    await worker.end();
    plane.stop();
    await rm(folder, { recursive: true });
  });

  it('stages, flips, rolls back and lets go under ten streams, and no stream notices', async () => {
    const alone: Outcome[] = [];
    for (let i = 0; i < 10; i++) alone.push(await worker.run(submit(i, TOKENS)));
    // Streams that come one after another for as long as the swap takes.
    let over = false;
    const streams = Array.from({ length: 10 }, async (_, i) => {
      for (let round = 0; round < 2 || !over; round++) {
        const outcome = await worker.run(submit(i, TOKENS));
        const digest = outcome.updates[0]?.artifactDigest ?? '';
        assert.equal(outcome.updates.at(-1)?.error, undefined, `stream ${i}, round ${round}`);
        assert.equal(outcome.deltas.at(-1)?.finishReason, FinishReason.LENGTH);
        assert.equal(outcome.tokenIds.length, TOKENS);
        if (digest === a) sameTokens(outcome, alone[i] ?? assert.fail(), `stream ${i}, round ${round}`);
      }
    });

    plane.breakAfter = 1_000_000;
    const staged = plane.want(`${a}*`, b);
    await plane.until('staged', ({ generation }) => generation === staged, 60_000);
    const fetches = plane.fetches.get(b) ?? [];
    assert.equal(fetches.length, 2, 'one transfer, gone on with where it broke off');
    assert.ok((fetches[1] ?? 0) > 0 && (fetches[1] ?? 0) <= 1_000_000);
    assert.deepEqual(
      [plane.slot(a)?.active, plane.slot(b)?.active, plane.slot(b)?.state, plane.slot(b)?.rehashed],
      [true, false, SlotState.READY, 1],
    );

    // A canary inside the worker: both serve at once, by pin.
    const pinned = await Promise.all([worker.run(submit(20, 20, b)), worker.run(submit(20, 20, a))]);
    assert.deepEqual(
      pinned.map(({ updates }) => updates[0]?.artifactDigest),
      [b, a],
    );

    const before = worker.step;
    const flipped = plane.want(a, `${b}*`);
    await plane.until('flipped', ({ slots }) =>
      slots.some((slot) => slot.active && slot.artifactDigest === b),
    );
    assert.ok(worker.step - before <= 2n, `the flip took ${worker.step - before} steps`);
    await plane.until('in force', ({ generation }) => generation === flipped);
    // These begin under the other artifact and keep it through the rollback.
    const kept = [1, 2, 3].map((i) => ({ i, running: worker.begin(submit(i, TOKENS)) }));
    await Promise.all(kept.map(({ running }) => running.begun));

    plane.want(`${a}*`, b);
    await plane.until('rolled back', ({ slots }) =>
      slots.some((slot) => slot.active && slot.artifactDigest === a),
    );
    assert.equal((await worker.run(submit(22, 5))).updates[0]?.artifactDigest, a);
    over = true;
    await Promise.all(streams);

    plane.want(`${a}*`);
    await plane.until('let go', ({ slots }) => slots.every(({ artifactDigest }) => artifactDigest !== b));
    const under = await Promise.all(
      kept.map(async ({ i, running }) => ({ i, outcome: await running.ended })),
    );
    for (const { outcome } of under) {
      assert.equal(outcome.updates[0]?.artifactDigest, b);
      assert.equal(outcome.tokenIds.length, TOKENS);
    }

    const stats = new Map(plane.last?.stats.map((each) => [each.artifactDigest, each]));
    for (const digest of [a, b]) {
      const own = stats.get(digest) ?? assert.fail(`no figures of ${digest}`);
      assert.ok(own.requestsFinished > 0n && own.tokens > 0n && own.requestsFailed === 0n, digest);
      const samples = Number(own.qualitySamples);
      assert.ok(samples > 0, 'rows were measured');
      for (const sum of [own.iouSum, own.keptMassSum]) assert.ok(sum > 0 && sum < samples, `${sum}`);
      assert.ok(own.interToken?.counts.some((count) => count > 0n));
    }
    const { body } = await worker.get('/metrics');
    assert.match(body, new RegExp(`spotlight:artifact_tokens_total\\{.*digest="${b}"\\} [1-9]`));

    // What ran under the other artifact is what it draws alone.
    const beside = await WorkerProcess.start([...FLAGS, '--artifact', join(folder, 'b.safetensors')]);
    try {
      for (const { i, outcome } of under)
        sameTokens(outcome, await beside.run(submit(i, TOKENS)), `stream ${i} under the other artifact`);
      sameTokens(pinned[0], await beside.run(submit(20, 20)), 'the canary');
    } finally {
      await beside.end();
    }
  }).timeout(240_000);

  it('is killed in the middle of it, and ends in the same state without another transfer', async () => {
    plane.want(`${a}*`, b);
    await new Promise((resolve) => setTimeout(resolve, 150));
    await worker.end('SIGKILL');
    const transfers = plane.fetches.get(b)?.length;
    const wanted = plane.want(a, `${b}*`);
    worker = await start();
    await plane.until('in force', ({ generation }) => generation === wanted, 60_000);
    assert.ok(plane.slot(b)?.active);
    assert.equal(plane.fetches.get(b)?.length, transfers);
    const [canary, own] = await Promise.all([worker.run(submit(1, 5, a)), worker.run(submit(1, 5))]);
    assert.deepEqual(
      [canary, own].map(({ updates }) => updates[0]?.artifactDigest),
      [a, b],
    );
    const back = plane.want(`${a}*`);
    await plane.until(
      'back',
      ({ generation, slots }) => generation === back && slots.every((slot) => slot.artifactDigest !== b),
    );
  }).timeout(120_000);

  it('says what it cannot hold, and goes on with what it has', async () => {
    const narrow = await variant(join(folder, 'narrow.safetensors'), 0, { bits: 64 });
    const garbage = Buffer.from('no artifact at all'.repeat(1000));
    for (const bytes of [narrow, garbage]) plane.artifacts.set(digestOf(bytes), bytes);
    plane.artifacts.set('d'.repeat(64), narrow);
    for (const [digest, message] of [
      [digestOf(narrow), /64 bits a code where 128 are served.*roll it out to workers started with it/],
      [digestOf(garbage), /header|safetensors|truncated/],
      ['d'.repeat(64), /have digest [0-9a-f]{64}/],
      ['e'.repeat(64), /has no artifact e{64}: the registry has no such artifact/],
    ] as const) {
      const generation = plane.want(`${a}*`, digest);
      const report = await plane.until('refused', ({ slots }) =>
        slots.some((slot) => slot.state === SlotState.FAILED && slot.pendingDigest === digest),
      );
      assert.match(
        report.slots.find(({ pendingDigest }) => pendingDigest === digest)?.message ?? '',
        message,
      );
      assert.match(report.message, message);
      assert.notEqual(report.generation, generation);
      assert.ok(plane.slot(a)?.active);
    }
    const { updates } = await worker.run(submit(1, 5, digestOf(narrow)));
    const error = updates.at(-1)?.error;
    assert.equal(error?.code, ErrorCode.FAILED_PRECONDITION);
    assert.ok(error.retryable, 'another worker may hold it');
    plane.want(`${a}*`);
    await plane.until('forgotten', ({ slots }) => slots.every(({ pendingDigest }) => pendingDigest === ''));
  }).timeout(60_000);

  it('measures artifacts on its own text before anyone is served by them', async () => {
    const random = await variant(join(folder, 'random.safetensors'), 1);
    plane.artifacts.set(digestOf(random), random);
    const validate = (artifactDigest: string): Promise<ValidateResponse> =>
      new Promise((resolve, reject) => {
        worker.client.validate({ artifactDigest }, (error, reply) => {
          if (error) reject(error);
          else resolve(reply);
        });
      });
    // Beside a request that runs on.
    const running = worker.run(submit(3, 60));
    const bad = await validate(digestOf(random));
    const good = await validate(a);
    assert.equal((await running).deltas.at(-1)?.finishReason, FinishReason.LENGTH);
    for (const { layers, tokens, samples, iou, keptMass } of [good, bad]) {
      assert.equal(layers.length, 30);
      assert.deepEqual(
        layers.map(({ layer }) => layer),
        layers.map((_, i) => i),
      );
      assert.ok(tokens > 1000 && samples >= 30 * 3 * 20, `${tokens} tokens, ${samples} samples`);
      assert.ok(iou > 0 && iou < 1 && keptMass > 0 && keptMass < 1);
    }
    assert.ok(good.iou > bad.iou + 0.05 && good.keptMass > bad.keptMass, JSON.stringify([good.iou, bad.iou]));
    assert.ok(
      plane.last?.slots.some((slot) => slot.state === SlotState.EMPTY),
      'the slot is empty again',
    );
    await assert.rejects(validate('e'.repeat(64)), (error: ServiceError) => error.code === status.NOT_FOUND);
    await assert.rejects(
      validate(digestOf(await readFile(join(folder, 'narrow.safetensors')))),
      (error: ServiceError) =>
        error.code === status.FAILED_PRECONDITION && /64 bits a code/.test(error.details),
    );
  }).timeout(120_000);
});
