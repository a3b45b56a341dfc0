// swap: artifacts changed to and fro on the real system (control plane, CPU workers, default model) under concurrent streams: streams
// that failed, tokens against those of the artifact alone, times between tokens during swaps against those without, time from upload
// to done; then a bad artifact until it is taken back. --kills instead kills processes with -9 at random moments of rollouts.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { TemporaryPostgres } from '@spotlight/control-plane/storage/temporary-postgres.fixture.js';
import { rollOutBad, rollOutUnderKills, swapUnderLoad } from '../swap/scenarios.js';
import type { StreamOrder } from '../swap/streams.js';
import { SwapSystem } from '../swap/system.js';
import { generator, variant } from '../swap/variant.js';
import { quantile } from './bench.js';
import type { Bench, BenchLine, BenchOptions } from './bench.js';

const LIMIT_MS = 300_000;

/** Plain text of several lengths. */
function promptsOf(count: number, chars: number): string[] {
  const sentence =
    'The keeper of the lighthouse wrote down every ship that passed, its flag, its course and the weather. ';
  return Array.from({ length: count }, (_, i) => {
    const length = Math.round((chars * (i + 1)) / count);
    return `Log ${i}. ${sentence.repeat(Math.ceil(length / sentence.length)).slice(0, length)}`;
  });
}

async function shippedArtifact(): Promise<Buffer> {
  const folder = fileURLToPath(new URL('../artifacts', import.meta.resolve('@spotlight/worker/main.js')));
  const [name] = (await readdir(folder)).filter((file) => file.endsWith('.safetensors')).sort();
  if (name === undefined) throw new Error(`no artifact ships in ${folder}`);
  return readFile(join(folder, name));
}

async function* run({ args, log }: BenchOptions): AsyncGenerator<BenchLine> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      swaps: { type: 'string', default: '100' },
      streams: { type: 'string', default: '32' },
      workers: { type: 'string', default: '2' },
      tokens: { type: 'string', default: '64' },
      'prompt-chars': { type: 'string', default: '1200' },
      'rest-ms': { type: 'string', default: '2000' },
      kills: { type: 'string' },
      postgres: { type: 'boolean', default: false },
      seed: { type: 'string', default: '1' },
    },
  });
  const streams = Number(values.streams);
  const workers = Number(values.workers);
  const postgres = values.postgres ? await TemporaryPostgres.start({ durable: true }) : undefined;
  if (typeof postgres === 'string') throw new Error(`--postgres: ${postgres}`);
  const bytes = await shippedArtifact();
  const [other, bad] = [variant(bytes, 'other', 0.02, 3), variant(bytes, 'random', 0.5, 5)];
  const threads = String(Math.max(1, Math.floor(2 / workers)));
  let system: SwapSystem | undefined;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  try {
    system = await SwapSystem.start({
      workers,
      workerFlags: ['--threads', threads, '--kv-memory', '512MiB', '--quality-rate', '0.25'],
      ...(postgres === undefined ? {} : { databaseUrl: postgres.url(await postgres.create()) }),
    });
    const active = (await system.deployment())?.activeArtifact;
    if (typeof active !== 'string') throw new Error('the deployment has no artifact');
    const order: StreamOrder = {
      url: system.http,
      prompts: promptsOf(8, Number(values['prompt-chars'])),
      maxTokens: Number(values.tokens),
    };
    const name = `${workers} CPU workers, ${streams} streams`;
    const uploadedAt = performance.now();
    await system.upload(other, true);
    const uploadMs = performance.now() - uploadedAt;
    const artifacts = [active, other.digest] as const;

    if (values.kills !== undefined) {
      const result = await rollOutUnderKills({
        system,
        artifacts,
        kills: Number(values.kills),
        victims: ['control plane', ...Array.from({ length: workers }, (_, i) => i)],
        streams,
        order,
        random: generator(Number(values.seed)),
        limitMs: LIMIT_MS,
        log,
        ...(postgres === undefined
          ? {}
          : {
              killDatabase: async () => {
                await postgres.kill();
                await postgres.again();
              },
            }),
      });
      const line = { bench: 'swap', case: `${name}, ${values.kills} kills`, unit: '' };
      yield {
        ...line,
        metric: 'rollouts done',
        value: result.rollouts.filter(({ phase }) => phase === 'done').length,
        baseline: result.rollouts.length,
        unit: 'rollouts',
      };
      yield { ...line, metric: 'acknowledged rollouts lost', value: result.lost.length, unit: 'rollouts' };
      yield {
        ...line,
        metric: 'rollouts not fully in the audit log',
        value: result.unlogged.length,
        unit: 'rollouts',
      };
      yield {
        ...line,
        metric: 'streams failed, those through a killed door aside',
        value: result.failures.length,
        baseline: result.streams,
        unit: 'streams',
      };
      for (const [victim, count] of Object.entries(result.killed)) {
        yield { ...line, metric: `kills of ${victim}`, value: count, unit: 'kills' };
      }
      for (const { failure } of result.failures.slice(0, 5)) log(`failed: ${failure ?? ''}`);
      return;
    }

    const result = await swapUnderLoad({
      system,
      artifacts,
      swaps: Number(values.swaps),
      streams,
      order,
      restMs: Number(values['rest-ms']),
      limitMs: LIMIT_MS,
      log,
    });
    const line = { bench: 'swap', case: `${name}, ${values.swaps} swaps` };
    const { compared, nearTies, different } = result.comparison;
    const [during, between] = [quantile(result.during, 0.95), quantile(result.between, 0.95)];
    const done = result.rollouts.filter(({ phase }) => phase === 'done').length;
    yield { ...line, metric: 'swaps done', value: done, unit: 'swaps', baseline: result.rollouts.length };
    yield {
      ...line,
      metric: 'streams failed or truncated',
      value: result.failures.length,
      unit: 'streams',
      baseline: result.outcomes.length,
    };
    yield {
      ...line,
      metric: 'streams with other tokens than alone',
      value: different.length,
      unit: 'streams',
      baseline: compared,
    };
    yield {
      ...line,
      metric: 'streams that differ at a near-tie',
      value: nearTies,
      unit: 'streams',
      baseline: compared,
    };
    yield {
      ...line,
      metric: 'between tokens p95, during swaps',
      value: during,
      unit: 'ms',
      baseline: between,
      ratio: during / between,
    };
    yield { ...line, metric: 'from order to done p50', value: quantile(result.durations, 0.5), unit: 'ms' };
    yield { ...line, metric: 'from order to done p95', value: quantile(result.durations, 0.95), unit: 'ms' };
    yield {
      ...line,
      metric: 'from upload to done',
      value: uploadMs + (result.durations[0] ?? Number.NaN),
      unit: 'ms',
      note: 'upload and validation idle, then the first swap',
    };
    for (const { failure } of result.failures.slice(0, 5)) log(`failed: ${failure ?? ''}`);
    for (const { outcome, at, gap } of different.slice(0, 10)) {
      log(
        `prompt ${outcome.prompt}, artifact ${outcome.artifact}: other tokens from ${at} on, ${gap.toFixed(3)} nats apart alone`,
      );
    }

    const taken = await rollOutBad(system, bad, order, streams, LIMIT_MS);
    log(
      `random weights: ${taken.passed ? 'passed' : 'rejected by'} validation; ${taken.rollout.phase}: ${taken.rollout.reason}`,
    );
    yield {
      ...line,
      metric: 'random weights taken back',
      value: taken.rollout.phase === 'rolled_back' ? 1 : 0,
      unit: 'rollouts',
      baseline: 1,
    };
    yield {
      ...line,
      metric: 'random weights, from order to taken back',
      value: taken.durationMs,
      unit: 'ms',
    };
    yield {
      ...line,
      metric: 'streams failed under random weights',
      value: taken.outcomes.filter(({ failure }) => failure !== undefined).length,
      unit: 'streams',
      baseline: taken.outcomes.length,
    };
  } finally {
    await system?.close();
    await postgres?.remove();
  }
}

export const bench: Bench = {
  name: 'swap',
  summary:
    'artifacts changed under load on real CPU workers: failed streams, tokens, time between tokens; --kills',
  flags: [
    '--swaps N (100)   --streams N (32)   --workers N (2)   --tokens N (64)   --prompt-chars N (1200)   --rest-ms N (2000)',
    '--kills N: kill -9 at N random moments of rollouts instead   --postgres: on a Postgres of its own, killed as well   --seed N (1)',
  ],
  run,
};
