// The native engine through its typed face: what the contract cases (test/contract) cannot ask of a fake. Skipped without the addon.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { loadAddon } from './addon.js';
import { writeArtifact } from './artifact/write.js';
import type { ArtifactTensor } from './artifact/write.js';
import { DEFAULT_ATTENTION } from './attention.js';
import { createEngine, inspectArtifact } from './engine.js';
import { EngineError } from './errors.js';
import type { BlockId, Engine, EngineErrorCode, EngineOptions, SamplingState, SequenceId } from './index.js';

const BASE = {
  model: { kind: 'dummy', shape: 'tiny-llama' },
  threads: 2,
  blocks: 64,
  maxBatchTokens: 2048,
} as const;
const GREEDY: SamplingState = {
  seed: 1n,
  choice: 0,
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
};
const blocks = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => (from + i) as BlockId);
const tokens = (count: number) => Array.from({ length: count }, (_, i) => (i * 37 + 11) % 1000);
const code =
  (expected: EngineErrorCode, part = '') =>
  (error: unknown) => {
    assert.ok(error instanceof EngineError, String(error));
    assert.equal(error.code, expected, error.message);
    assert.ok(error.message.includes(part), error.message);
    return true;
  };

async function withEngine(
  options: Partial<EngineOptions>,
  body: (engine: Engine) => Promise<void>,
): Promise<void> {
  const engine = await createEngine({
    ...BASE,
    attention: { ...DEFAULT_ATTENTION, crossover: 0 },
    ...options,
  });
  try {
    await body(engine);
  } finally {
    await engine.dispose();
  }
}

/** Prefills `prompt` densely and decodes `count` tokens; block ids from `first` on. */
async function generate(
  engine: Engine,
  prompt: number[],
  count: number,
  slot: 0 | 1,
  first: number,
): Promise<number[]> {
  const sequence = engine.openSequence({ sampling: GREEDY, slot });
  const appendBlocks = blocks(first, first + Math.ceil((prompt.length + count) / 64));
  engine.submit({
    rows: [{ sequence, position: 0, tokens: prompt, phase: 'prompt', appendBlocks, sample: true }],
  });
  const out: number[] = [];
  for (let i = 0; i < count; i++) {
    const token = (await engine.collect()).rows[0]?.token;
    assert.ok(token !== undefined);
    out.push(token);
    if (i + 1 === count) break;
    engine.submit({
      rows: [{ sequence, position: prompt.length + i, tokens: [-1], phase: 'generated', sample: true }],
    });
  }
  engine.submit({ rows: [], close: [sequence] });
  await engine.collect();
  return out;
}

describe('the native engine', () => {
  let folder: string;
  before(function () {
    try {
      loadAddon();
    } catch (error) {
      process.stdout.write(`skipped: ${(error as Error).message}\n`);
      this.skip();
    }
    folder = mkdtempSync(join(tmpdir(), 'spotlight-engine-'));
  });
  after(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  async function artifact(name: string, fingerprint: string, scale: number, bits = 128): Promise<string> {
    const path = join(folder, name);
    const random = (count: number, salt: number) =>
      Float32Array.from({ length: count }, (_, i) => Math.sin((i + 1) * salt) * scale);
    const tensors = new Map<string, ArtifactTensor>();
    for (let layer = 0; layer < 4; layer++) {
      const of = (heads: number, salt: number) => ({
        shape: [heads, 32, bits],
        data: random(heads * 32 * bits, salt + layer),
      });
      tensors.set(`layers.${layer}.key.weight`, of(2, 1.7));
      tensors.set(`layers.${layer}.query.weight`, of(4, 2.3));
    }
    await writeArtifact(path, tensors, { model_fingerprint: fingerprint });
    return path;
  }

  it('loads an artifact, decodes sparsely with it, counts that, and refuses another model’s', async () => {
    await withEngine({}, async (engine) => {
      const prompt = tokens(1500);
      const { fingerprint } = engine.info;
      assert.match(fingerprint, /^[0-9a-f]{64}$/);
      await generate(engine, prompt, 4, 0, 0);
      assert.equal(engine.stats().sparseRows, 0);
      assert.equal(engine.stats().denseFallbackRows, 3);

      const path = await artifact('good.safetensors', fingerprint, 1);
      const info = await engine.loadArtifact(0, path);
      assert.deepEqual(info.layers, [0, 1, 2, 3]);
      assert.deepEqual(engine.artifacts, [info, undefined]);
      assert.deepEqual(await inspectArtifact(path), info);
      await generate(engine, prompt, 4, 0, 0);
      const stats = engine.stats();
      assert.equal(stats.sparseRows, 3);
      assert.ok(stats.selectedTokens > 0 && stats.selectedTokens < stats.contextTokens / 3);

      const other = 'f'.repeat(64);
      await assert.rejects(
        engine.loadArtifact(1, await artifact('other.safetensors', other, 1)),
        code('ARTIFACT_MISMATCH', fingerprint),
      );
      await assert.rejects(
        engine.loadArtifact(1, await artifact('other.safetensors', other, 1)),
        code('ARTIFACT_MISMATCH', other),
      );
      await assert.rejects(
        engine.loadArtifact(1, await artifact('wide.safetensors', fingerprint, 1, 256)),
        code('ARTIFACT_MISMATCH', 'codeBits 256'),
      );
      await assert.rejects(engine.loadArtifact(1, join(folder, 'none')), code('ARTIFACT_NOT_FOUND', 'none'));
      writeFileSync(join(folder, 'torn'), 'not an artifact');
      await assert.rejects(engine.loadArtifact(1, join(folder, 'torn')), code('ARTIFACT_CORRUPT'));
      assert.deepEqual(engine.artifacts, [info, undefined]);
      await engine.unloadArtifact(0);
      assert.deepEqual(engine.artifacts, [undefined, undefined]);
    });
  });

  it('keeps a slot while sequences are pinned to it', async () => {
    await withEngine({}, async (engine) => {
      const path = await artifact('pinned.safetensors', engine.info.fingerprint, 1);
      const sequence = engine.openSequence({ sampling: GREEDY, slot: 1 });
      await assert.rejects(engine.loadArtifact(1, path), code('INVALID_ARGUMENT', 'slot 1'));
      await assert.rejects(engine.unloadArtifact(1), code('INVALID_ARGUMENT', 'slot 1'));
      await engine.loadArtifact(0, path);
      engine.submit({ rows: [], close: [sequence] });
      await engine.collect();
      const loading = engine.loadArtifact(1, path);
      await loading;
      assert.equal(engine.artifacts[1]?.digest, engine.artifacts[0]?.digest);
    });
  });

  it('scores with codes of its own artifact on blocks filled under another, rehashed by call or on use', async () => {
    const prompt = tokens(1500);
    const full = blocks(0, 23);
    const sequenceOn = (engine: Engine, slot: 0 | 1, given: BlockId[]): SequenceId =>
      engine.openSequence({ sampling: { ...GREEDY, logprobs: 0 }, slot, blocks: given });
    await withEngine({}, async (engine) => {
      const one = await artifact('one.safetensors', engine.info.fingerprint, 1);
      const two = await artifact('two.safetensors', engine.info.fingerprint, -0.4);
      // The same continuation over the cached prompt, once per way of having got its codes.
      const continued = async (slot: 0 | 1) => {
        const sequence = sequenceOn(engine, slot, full);
        const row = {
          sequence,
          position: 1472,
          tokens: prompt.slice(1472),
          phase: 'generated',
          sample: true,
        } as const;
        engine.submit({ rows: [{ ...row, appendBlocks: blocks(40, 41), trace: true }] });
        const result = (await engine.collect()).rows[0];
        engine.submit({ rows: [], close: [sequence] });
        await engine.collect();
        return { logprob: result?.logprobs?.logprob, trace: result?.trace };
      };
      await engine.loadArtifact(0, one);
      await generate(engine, prompt, 1, 0, 0);
      const first = await continued(0);
      await engine.loadArtifact(1, two);
      const onUse = await continued(1);
      assert.notDeepEqual(onUse.trace, first.trace);
      await engine.unloadArtifact(1);
      await engine.loadArtifact(1, two);
      await engine.rehash(
        1,
        full,
        full.map(() => 64),
      );
      assert.deepEqual(await continued(1), onUse);
      assert.deepEqual(await continued(0), first);
      await assert.rejects(engine.rehash(1, [99 as BlockId], [64]), code('INVALID_ARGUMENT', 'blocks[0]'));
      await assert.rejects(engine.rehash(1, full, [64]), code('INVALID_ARGUMENT', 'filled'));
      await assert.rejects(engine.fill([99 as BlockId], 1), code('INVALID_ARGUMENT', 'blocks[0]'));
      await assert.rejects(engine.fill(full, -1), code('INVALID_ARGUMENT', 'seed'));
      await assert.rejects(engine.fill(full, 1), code('INVALID_ARGUMENT', 'fill'));
      assert.deepEqual(await continued(1), onUse);
    });
  });

  it('names the missing model, the wrong option and the wrong type', async () => {
    const open = (options: object) => createEngine({ ...BASE, attention: DEFAULT_ATTENTION, ...options });
    await assert.rejects(
      open({ model: { kind: 'gguf', path: join(folder, 'no.gguf') } }),
      code('MODEL_NOT_FOUND', 'no.gguf'),
    );
    await assert.rejects(open({ model: { kind: 'dummy', shape: 'vast' } }), code('MODEL_NOT_FOUND', 'vast'));
    await assert.rejects(open({ threads: 0 }), code('INVALID_ARGUMENT', 'threads'));
    await assert.rejects(open({ blocks: 'many' }), code('INVALID_ARGUMENT', 'blocks'));
    await assert.rejects(open({ device: 'abacus' }), code('INVALID_ARGUMENT', 'device'));
    await assert.rejects(
      open({ attention: { ...DEFAULT_ATTENTION, tail: 'long' } }),
      code('INVALID_ARGUMENT', 'attention.tail'),
    );
    writeFileSync(join(folder, 'torn.gguf'), 'GGUF');
    await assert.rejects(
      open({ model: { kind: 'gguf', path: join(folder, 'torn.gguf') } }),
      code('MODEL_CORRUPT'),
    );
  });

  it('never holds the JS thread while steps run', async function () {
    this.timeout(60_000);
    await withEngine({ threads: 1 }, async (engine) => {
      const sequence = engine.openSequence({ sampling: GREEDY, slot: 0 });
      const prompt = tokens(512);
      const spent: number[] = [];
      for (let chunk = 0; chunk < 6; chunk++) {
        const batch = {
          rows: [
            {
              sequence,
              position: chunk * 512,
              tokens: prompt,
              phase: 'prompt',
              appendBlocks: blocks(chunk * 8, chunk * 8 + 8),
              sample: true,
            },
          ],
        } as const;
        const before = process.hrtime.bigint();
        engine.submit(batch);
        spent.push(Number(process.hrtime.bigint() - before) / 1e6);
        await engine.collect();
      }
      // The quickest: a shared machine may take the thread away in any one of them.
      assert.ok(Math.min(...spent) < 1, `submit took ${spent.join()} ms`);
      assert.ok(engine.stats().busySeconds > 0);
    });
  });

  it('sleeps when idle', async function () {
    this.timeout(20_000);
    await withEngine({}, async (engine) => {
      await generate(engine, tokens(100), 3, 0, 0);
      await new Promise((resolve) => setTimeout(resolve, 100));
      const before = process.cpuUsage();
      await new Promise((resolve) => setTimeout(resolve, 500));
      const used = process.cpuUsage(before);
      assert.ok(
        used.user + used.system < 100_000,
        `${(used.user + used.system) / 1000} ms of CPU in 500 ms of idling`,
      );
    });
  });

  it('goes down with its JS environment, steps in flight or not', async function () {
    this.timeout(30_000);
    const url = new URL('./index.js', import.meta.url).href;
    const script = `
      const { parentPort } = require('node:worker_threads');
      import(${JSON.stringify(url)}).then(async ({ createEngine, DEFAULT_ATTENTION }) => {
        const engine = await createEngine({ model: { kind: 'dummy', shape: 'tiny-llama' }, threads: 2, blocks: 40, attention: DEFAULT_ATTENTION });
        const sampling = { seed: 1n, choice: 0, temperature: 0, topK: 0, topP: 1, minP: 0, presencePenalty: 0, frequencyPenalty: 0, repetitionPenalty: 1 };
        const sequence = engine.openSequence({ sampling, slot: 0 });
        const row = (position) => ({ rows: [{ sequence, position, tokens: Array(500).fill(7), phase: 'prompt', sample: true,
          appendBlocks: Array.from({ length: 8 }, (_, i) => position / 500 * 8 + i) }] });
        engine.submit(row(0));
        engine.submit(row(500));
        parentPort.postMessage('busy');
      });`;
    for (let round = 0; round < 3; round++) {
      const worker = new Worker(script, { eval: true });
      const failed = new Promise((_, reject) => worker.once('error', reject));
      await Promise.race([new Promise((resolve) => worker.once('message', resolve)), failed]);
      assert.equal(await worker.terminate(), 1);
    }
  });

  it('finishes its steps when process.exit() ends the process under it', async function () {
    this.timeout(60_000);
    const url = new URL('./index.js', import.meta.url).href;
    const script = `
      import { writeSync } from 'node:fs';
      import { createEngine, DEFAULT_ATTENTION } from ${JSON.stringify(url)};
      const model = { kind: 'dummy', shape: 'smollm2-135m', layers: 2 };
      const engine = await createEngine({ model, threads: 2, blocks: 64, maxBatchTokens: 1024, attention: DEFAULT_ATTENTION });
      const sampling = { seed: 1n, choice: 0, temperature: 0, topK: 0, topP: 1, minP: 0, presencePenalty: 0, frequencyPenalty: 0, repetitionPenalty: 1 };
      const sequence = engine.openSequence({ sampling, slot: 0 });
      const row = (position) => ({ rows: [{ sequence, position, tokens: Array(1024).fill(7), phase: 'prompt', sample: true,
        appendBlocks: Array.from({ length: 16 }, (_, i) => position / 64 + i) }] });
      engine.submit(row(0));
      const { seconds } = await engine.collect();
      engine.submit(row(1024));
      engine.submit(row(2048));
      writeSync(1, String(seconds));
      process.exit(7);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [written] = (await once(child.stdout, 'data')) as [Buffer];
    const before = process.hrtime.bigint();
    const ended = await once(child, 'exit');
    const seconds = Number(process.hrtime.bigint() - before) / 1e9;
    assert.deepEqual(ended, [7, null]);
    // Two steps, each longer than the first one: an exit that leaves them running takes milliseconds.
    assert.ok(seconds > Number(String(written)) / 2, `${seconds} s, one step ${String(written)} s`);
  });
});
