// What a swap must stand, for the benchmark at full count and for CI at a few: artifacts changed to and fro under load, a bad one taken
// back by its gate, and everything killed with -9 at random moments. They measure and count; their callers say what is too much.
import type { RolloutDetail } from '@spotlight/control-plane/rollouts/rollout-view.js';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Comparison, StreamOrder, StreamOutcome } from './streams.js';
import { compare, interToken, Load, references } from './streams.js';
import type { SwapSystem, Victim } from './system.js';
import type { Artifact } from './variant.js';

/** Goes through every phase, and is held up by nothing but what it needs. */
export const QUICK_PLAN = {
  share: 0.5,
  waves: [0.5, 1],
  holdMs: 0,
  timeoutMs: 120_000,
  gates: {
    minRequests: 1,
    keptMassDrop: null,
    iouDrop: null,
    errorRateRise: 0.02,
    firstTokenRatio: null,
    interTokenRatio: null,
  },
} as const;

/** Gates on the quality alone: what the machine's other load does to times is not the artifact's. */
export const QUALITY_PLAN = {
  ...QUICK_PLAN,
  waves: [1],
  holdMs: 600_000,
  gates: { ...QUICK_PLAN.gates, minRequests: 10, minQualitySamples: 50, keptMassDrop: 0.03, iouDrop: 0.1 },
} as const;

export interface SwapsResult {
  readonly outcomes: readonly StreamOutcome[];
  readonly failures: readonly StreamOutcome[];
  readonly comparison: Comparison;
  /** ms between tokens. */
  readonly during: readonly number[];
  readonly between: readonly number[];
  /** ms from the order to done, a swap. */
  readonly durations: readonly number[];
  readonly rollouts: readonly RolloutDetail[];
}

export interface SwapsOptions {
  readonly system: SwapSystem;
  /** The one that is active, and another; both uploaded. */
  readonly artifacts: readonly [string, string];
  readonly swaps: number;
  readonly streams: number;
  readonly order: StreamOrder;
  /** Rest after each swap, in which times without one are measured. */
  readonly restMs: number;
  readonly limitMs: number;
  readonly log: (message: string) => void;
}

/** Answers under both artifacts alone, then swaps to and fro under load. */
export async function swapUnderLoad(options: SwapsOptions): Promise<SwapsResult> {
  const { system, artifacts, swaps, streams, order, restMs, limitMs, log } = options;
  const [first, second] = artifacts;
  const alone = [...(await references(order))];
  await swapIdle(system, second, limitMs);
  alone.push(...(await references(order)));
  await swapIdle(system, first, limitMs);
  log(`references: ${new Set(alone.map(({ artifact }) => artifact)).size} artifacts`);

  const load = new Load(() => order, streams);
  await sleep(restMs);
  const spans: [number, number][] = [];
  const rollouts: RolloutDetail[] = [];
  for (let i = 0; i < swaps; i++) {
    const startedAt = performance.now();
    const done = await swap(system, i % 2 === 0 ? second : first, limitMs);
    rollouts.push(done);
    spans.push([startedAt, performance.now()]);
    log(`swap ${i + 1} of ${swaps}: ${done.phase} after ${Math.round(performance.now() - startedAt)} ms`);
    await sleep(restMs);
  }
  const outcomes = await load.stop();
  const { within, without } = interToken(outcomes, spans);
  return {
    outcomes,
    failures: outcomes.filter(({ failure }) => failure !== undefined),
    comparison: compare(outcomes, alone),
    during: within,
    between: without,
    durations: spans.map(([start, end]) => end - start),
    rollouts,
  };
}

async function swap(system: SwapSystem, digest: string, limitMs: number): Promise<RolloutDetail> {
  return system.ended(await system.order(digest, QUICK_PLAN, limitMs), limitMs);
}

/** Nobody sends the requests that a canary waits for. */
async function swapIdle(system: SwapSystem, digest: string, limitMs: number): Promise<void> {
  const id = await system.order(digest, QUICK_PLAN, limitMs);
  await system.client.ask('POST', `rollouts/${id}/promote`, {});
  await system.ended(id, limitMs);
}

export interface BadResult {
  /** Whether its validation let it pass by itself. */
  readonly passed: boolean;
  readonly rollout: RolloutDetail;
  readonly outcomes: readonly StreamOutcome[];
  /** ms from the order to the end. */
  readonly durationMs: number;
}

/** A bad artifact, forced through its validation and rolled out under load. */
export async function rollOutBad(
  system: SwapSystem,
  bad: Artifact,
  order: StreamOrder,
  streams: number,
  limitMs: number,
): Promise<BadResult> {
  const { passed } = await system.upload(bad);
  if (!passed) await system.upload(bad, true);
  const load = new Load(() => order, streams);
  try {
    const startedAt = performance.now();
    const rollout = await system.ended(await system.order(bad.digest, QUALITY_PLAN, limitMs), limitMs);
    return { passed, rollout, outcomes: load.outcomes, durationMs: performance.now() - startedAt };
  } finally {
    await load.stop();
  }
}

export interface KillsOptions {
  readonly system: SwapSystem;
  readonly artifacts: readonly [string, string];
  readonly kills: number;
  readonly victims: readonly Victim[];
  readonly streams: number;
  readonly order: StreamOrder;
  readonly random: () => number;
  readonly limitMs: number;
  readonly log: (message: string) => void;
  /** Kills the database and starts it again; undefined where it is in the control plane. */
  readonly killDatabase?: () => Promise<void>;
}

export interface KillsResult {
  readonly rollouts: readonly RolloutDetail[];
  /** Rollouts whose order was acknowledged and that are gone. */
  readonly lost: readonly string[];
  /** Moves of rollouts that the audit log does not hold exactly once. */
  readonly unlogged: readonly string[];
  /** Streams that failed while no control plane was killed under them. */
  readonly failures: readonly StreamOutcome[];
  readonly streams: number;
  readonly replays: number;
  readonly killed: Readonly<Record<string, number>>;
}

/** The longest pause before a kill: a quick rollout takes about as long. */
const MOST_PAUSE_MS = 2_500;

/** Rollouts to and fro under load, while what runs them is killed. Each is followed to its end. */
export async function rollOutUnderKills(options: KillsOptions): Promise<KillsResult> {
  const { system, artifacts, kills, victims, streams, order, random, limitMs, log } = options;
  const rollouts: RolloutDetail[] = [];
  const doors: [number, number][] = [];
  const killed: Record<string, number> = {};
  const load = new Load(() => order, streams);
  let left = kills;
  while (left > 0) {
    const active = (await system.deployment())?.activeArtifact;
    const next = artifacts[0] === active ? artifacts[1] : artifacts[0];
    const id = await system.order(next, QUICK_PLAN, limitMs);
    const state = { over: false };
    const ending = system.ended(id, limitMs).finally(() => {
      state.over = true;
    });
    ending.catch(() => undefined);
    while (left > 0 && !state.over) {
      await sleep(random() * MOST_PAUSE_MS);
      const choices: (Victim | 'database')[] = [...victims];
      if (options.killDatabase !== undefined) choices.push('database');
      const victim = choices[Math.floor(random() * choices.length)] ?? 0;
      const name = typeof victim === 'number' ? `worker ${victim}` : victim;
      left -= 1;
      killed[name] = (killed[name] ?? 0) + 1;
      log(`kill ${kills - left} of ${kills}: ${name}`);
      const at = performance.now();
      if (victim === 'database') await options.killDatabase?.();
      else await system.killAndRestart(victim);
      if (victim === 'control plane') doors.push([at, performance.now()]);
      // Two workers away at once leave nobody to go on with a stream, which is another promise than the one tried here.
      if (typeof victim === 'number') await system.settled(limitMs);
    }
    const done = await ending;
    rollouts.push(done);
    log(`${done.id}: ${done.phase}${done.reason === '' ? '' : ` (${done.reason})`}`);
  }
  await system.settled(limitMs);
  const outcomes = await load.stop();
  const replays = await replaysOf(system);
  const underKill = ({ startedAt, times }: StreamOutcome): boolean => {
    const last = times.at(-1) ?? startedAt;
    return doors.some(([from, to]) => startedAt <= to + 1_000 && last >= from - 1_000);
  };
  return {
    rollouts,
    lost: await missing(system, rollouts),
    unlogged: (await Promise.all(rollouts.map((rollout) => unlogged(system, rollout)))).flat(),
    failures: outcomes.filter((one) => one.failure !== undefined && !underKill(one)),
    streams: outcomes.length,
    replays,
    killed,
  };
}

async function missing(system: SwapSystem, rollouts: readonly RolloutDetail[]): Promise<string[]> {
  const { rollouts: there } = await system.client.ask<{ rollouts: { id: string }[] }>(
    'GET',
    'rollouts?limit=200',
  );
  return rollouts.map(({ id }) => id).filter((id) => !there.some((each) => each.id === id));
}

async function unlogged(system: SwapSystem, { id }: RolloutDetail): Promise<string[]> {
  const { events } = await system.client.ask<RolloutDetail>('GET', `rollouts/${id}`);
  const { entries } = await system.client.ask<{ entries: { action: string }[] }>(
    'GET',
    `audit?kind=rollout&object=${id}&limit=1000`,
  );
  const logged = entries.map(({ action }) => action.replace('rollout.', '')).reverse();
  const moves = events.map(({ kind }) => kind);
  return logged.join() === moves.join() ? [] : [`${id}: ${moves.join()} is logged as ${logged.join()}`];
}

/** Since the control plane was started last. */
async function replaysOf(system: SwapSystem): Promise<number> {
  const text = await (await fetch(`${system.http}/metrics`)).text();
  return [...text.matchAll(/^spotlight:gateway_replays_total\{[^}]*\} (\d+)$/gm)].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  );
}
