// Ten thousand steps (SPOTLIGHT_SOAK_STEPS: another number) of the default model on a GPU through the worker's loop, under random load
// in a pool far too small for it: requests come, are preempted, stream, and are cancelled at any moment. Memory of the card and of
// the process stays what it was, the audit finds nothing, and no request ends with an error.
import assert from 'node:assert/strict';
import { DEFAULT_ATTENTION, devices } from '@spotlight/cuda';
import type { Engine } from '@spotlight/cuda';
import { FinishReason, SamplingParams } from '@spotlight/proto';
import { EngineLoop } from '@spotlight/worker/engine/engine.js';
import { silentObserver } from '@spotlight/worker/engine/observer.js';
import type { Tokenizer } from '@spotlight/worker/tokenizer/tokenizer.js';
import { pino } from 'pino';
import { openModel } from '@spotlight/worker/eval/open-model.js';
import { Dice } from '../engine/dice.js';
import { Consumer } from '../engine/harness.js';
import { DEVICE, needGpu } from './gpu.js';

const STEPS = Number(process.env['SPOTLIGHT_SOAK_STEPS'] ?? 10_000);
const LIVE = 24;
const MEBI = 2 ** 20;

describe('the worker’s loop on a GPU under random load', () => {
  let native: Engine | undefined;
  let tokenizer: Tokenizer;

  before(async function () {
    this.timeout(300_000);
    await needGpu(this);
    ({ engine: native, tokenizer } = await openModel({
      device: DEVICE,
      blocks: 48,
      maxSequences: 16,
      maxBatchTokens: 256,
      attention: { minTokens: 96, crossover: 0 },
      log: (message) => process.stderr.write(`${message}\n`),
    }));
  });
  after(() => native?.dispose());

  it(`runs ${STEPS} steps and leaves nothing behind`, async () => {
    assert(native);
    const engine = native;
    const problems: string[] = [];
    let preemptions = 0;
    const loop = new EngineLoop({
      native: engine,
      texts: tokenizer,
      attention: { ...DEFAULT_ATTENTION, minTokens: 96, crossover: 0 },
      settingsDigest: 'soak',
      log: pino({ level: 'silent' }),
      observer: {
        ...silentObserver,
        auditFailed: (problem) => problems.push(problem),
        preempted: () => preemptions++,
      },
    });
    const dice = new Dice(11);
    const consumer = new Consumer();
    let [count, finished, cancelled] = [0, 0, 0];

    const one = async (): Promise<void> => {
      const requestId = `soak-${count++}`;
      const seen = consumer.expect(requestId);
      // Admission leaves everyone's next block free: only who is far from done when it is full, too, takes another's.
      const long = dice.chance(0.15);
      const promptTokens = Array.from({ length: long ? dice.int(500, 1200) : dice.int(1, 200) }, () =>
        dice.int(100, 40_000),
      );
      const refused = loop.submit(
        {
          requestId,
          promptTokens,
          attention: undefined,
          resume: new Map(),
          credits: undefined,
          deadline: undefined,
          artifactDigest: '',
          sampling: SamplingParams.fromPartial({
            seed: BigInt(dice.int(0, 1000)),
            temperature: dice.pick([0, 0.8]),
            maxTokens: !long && dice.chance(0.6) ? dice.int(200, 500) : dice.int(1, 100),
            n: dice.chance(0.2) ? 2 : 1,
            ignoreEos: true,
            logprobs: dice.chance(0.1) ? 2 : undefined,
            frequencyPenalty: dice.chance(0.1) ? 0.5 : undefined,
          }),
        },
        consumer,
      );
      assert.equal(refused, undefined, refused?.message);
      if (dice.chance(0.15)) {
        await new Promise((resolve) => setTimeout(resolve, dice.int(0, 200)));
        loop.cancel(requestId, consumer);
      }
      await seen.done;
      assert.equal(seen.error, undefined, seen.error?.message);
      if (seen.choices.some((choice) => choice.finish === FinishReason.CANCELLED)) cancelled++;
      else finished++;
      consumer.seen.delete(requestId);
    };
    const begin = performance.now();
    let told = 0;
    const runUntil = async (steps: number): Promise<void> => {
      const stream = async (): Promise<void> => {
        while (engine.stats().steps < steps) {
          await one();
          if (engine.stats().steps < told) continue;
          const seconds = ((performance.now() - begin) / 1000).toFixed(1);
          process.stderr.write(
            `step ${told}, ${seconds} s: ${finished} finished, ${cancelled} cancelled, ${preemptions} preempted\n`,
          );
          told += STEPS / 10;
        }
      };
      await Promise.all(Array.from({ length: LIVE }, stream));
    };
    const memory = async (): Promise<{ card: number; process: number }> => {
      const free = DEVICE === 'cpu' ? 0 : (await devices()).devices[0]?.freeBytes;
      assert.ok(free !== undefined, 'the driver does not say how much memory is free');
      return { card: free, process: process.memoryUsage.rss() };
    };

    await runUntil(STEPS / 10); // by then every graph has been made and the compiler has settled
    const before = await memory();
    await runUntil(STEPS);
    const after = await memory();
    while (loop.load().running + loop.load().waiting > 0 || loop.health().busy)
      await new Promise((resolve) => setTimeout(resolve, 5));
    await loop.stop();

    assert.deepEqual(problems, []);
    const { freeBlocks, totalBlocks } = loop.load();
    assert.equal(freeBlocks, totalBlocks);
    assert.equal(engine.stats().openSequences, 0);
    assert.ok(before.card - after.card < 64 * MEBI, `${(before.card - after.card) / MEBI} MiB of the card`);
    assert.ok(after.process - before.process < 256 * MEBI, `${(after.process - before.process) / MEBI} MiB`);
    assert.ok(
      finished > STEPS / 100 && cancelled > STEPS / 1000 && preemptions > STEPS / 1000,
      `${finished} ${cancelled} ${preemptions}`,
    );
    assert.ok(engine.stats().sparseRows > STEPS / 10, 'hardly a row was sparse');
  }).timeout(600_000);
});
