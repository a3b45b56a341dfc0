// The rule of a rollout, and the only place it stands: from its row, what the workers report and the clock to the one next move.
// Level-triggered: it asks what is, never what was said, so it may be asked again at any moment and by any replica. Pure.
import type { WorkerCounters } from './counters.js';
import { NOTHING, since } from './counters.js';
import type { Mark } from './counters.js';
import type { Reading } from './gates.js';
import { readGates } from './gates.js';
import type { Outcome, Phase, Plan } from './rollout.js';
import { hasEnded } from './rollout.js';

/** The row, as far as the rule needs it. */
export interface RolloutState {
  /** The artifact it began from, which it goes back to. */
  readonly stable: string;
  readonly candidate: string;
  /** The deployment's artifact now: the stable one, unless somebody changed it past the rollout. */
  readonly active: string | null;
  readonly phase: Phase;
  readonly paused: boolean;
  /** An operator asked to go through to the end without gates and waiting. */
  readonly forced: boolean;
  /** Index into plan.waves, while the phase is `waves`. */
  readonly wave: number;
  readonly plan: Plan;
  /** How it ends once everything is taken back; set while rolling back. */
  readonly outcome: Outcome | null;
  readonly phaseStartedMs: number;
  /** When the phase's workers were in place, from which its hold counts; null before. */
  readonly heldSinceMs: number | null;
  /** Counters when the hold began, and when the canary's did. */
  readonly mark: Mark | null;
  readonly origin: Mark | null;
}

/** A worker of the deployment that is joined now. */
export interface RolloutWorker {
  readonly id: string;
  /** Takes new requests. One that starts or drains is not waited for. */
  readonly ready: boolean;
  /** Digests whose every cached block has codes: those that requests may be pinned to. */
  readonly holds: readonly string[];
  /** What requests that pin nothing run under; '' is dense. */
  readonly active: string;
  /** The newest directive is in force. */
  readonly inForce: boolean;
  /** Why it cannot hold the candidate, and for how long it has said so. */
  readonly failure: { readonly message: string; readonly forMs: number } | undefined;
  readonly counters: WorkerCounters;
}

export type Decision =
  /** Something is on its way, or time or samples are lacking. */
  | { readonly kind: 'wait'; readonly why: string }
  /** The phase's workers are in place: its hold and its counters begin. */
  | { readonly kind: 'hold' }
  | { readonly kind: 'enter'; readonly phase: 'canary' | 'waves'; readonly wave: number }
  | { readonly kind: 'roll_back'; readonly outcome: Outcome; readonly reason: string }
  | { readonly kind: 'end'; readonly phase: 'done' | Outcome; readonly reason?: string };

export interface Decided {
  readonly decision: Decision;
  /** What the gates say, where the phase has any. */
  readonly readings: readonly Reading[];
}

/** How long a worker may say that it cannot hold the candidate, since it tries again by itself. */
export const FAILURE_GRACE_MS = 15_000;

export function decide(rollout: RolloutState, workers: readonly RolloutWorker[], nowMs: number): Decided {
  if (hasEnded(rollout.phase)) return without({ kind: 'wait', why: 'it has ended' });
  if (rollout.phase === 'rolling_back') return without(rollingBack(rollout, workers, nowMs));
  if (rollout.active !== rollout.stable) {
    const reason = `the deployment's artifact was changed to ${rollout.active ?? 'none'} meanwhile`;
    return without({ kind: 'roll_back', outcome: 'failed', reason });
  }
  const ready = workers.filter((worker) => worker.ready);
  if (rollout.phase === 'staging') return without(staging(rollout, ready, nowMs));
  return serving(rollout, ready, nowMs);
}

/** How many of `count` workers a wave takes. */
export function waveSize(plan: Plan, wave: number, count: number): number {
  return Math.ceil((plan.waves[wave] ?? 1) * count - 1e-9);
}

function staging(rollout: RolloutState, ready: readonly RolloutWorker[], nowMs: number): Decision {
  const lacking = ready.filter((worker) => !worker.holds.includes(rollout.candidate));
  const stuck = lacking.find(({ failure }) => failure !== undefined && failure.forMs >= FAILURE_GRACE_MS);
  if (stuck?.failure !== undefined) {
    return {
      kind: 'roll_back',
      outcome: 'failed',
      reason: `${stuck.id} cannot hold it: ${stuck.failure.message}`,
    };
  }
  if (ready.length > 0 && lacking.length === 0) {
    if (rollout.paused) return { kind: 'wait', why: 'paused' };
    if (rollout.forced) return { kind: 'enter', phase: 'waves', wave: rollout.plan.waves.length - 1 };
    if (rollout.plan.share === 0) return { kind: 'enter', phase: 'waves', wave: 0 };
    return { kind: 'enter', phase: 'canary', wave: 0 };
  }
  const why =
    ready.length === 0
      ? 'no worker of the deployment is ready'
      : `${ready.length - lacking.length} of ${ready.length} workers hold it`;
  return tooLate(rollout, nowMs, why) ?? { kind: 'wait', why };
}

/** Canary and waves: in place, then held, then on. */
function serving(rollout: RolloutState, ready: readonly RolloutWorker[], nowMs: number): Decided {
  const missing = outOfPlace(rollout, ready);
  if (rollout.heldSinceMs === null || rollout.mark === null) {
    if (missing === undefined) return without({ kind: 'hold' });
    return without(tooLate(rollout, nowMs, missing) ?? { kind: 'wait', why: missing });
  }
  const readings = judge(rollout, rollout.mark, ready);
  // A gate that falls takes a rollout back whether it is paused or its workers are in place; only an operator's word is above it.
  const fallen = readings.filter(({ verdict }) => verdict === 'fell');
  if (fallen.length > 0 && !rollout.forced) {
    const reason = fallen.map(({ text }) => text).join('; ');
    return { decision: { kind: 'roll_back', outcome: 'rolled_back', reason }, readings };
  }
  return { decision: onward(rollout, readings, missing, nowMs), readings };
}

function onward(
  rollout: RolloutState,
  readings: readonly Reading[],
  missing: string | undefined,
  nowMs: number,
): Decision {
  if (rollout.paused) return { kind: 'wait', why: 'paused' };
  if (missing !== undefined) return tooLate(rollout, nowMs, missing) ?? { kind: 'wait', why: missing };
  const last = rollout.plan.waves.length - 1;
  if (rollout.forced) {
    return rollout.phase === 'waves' && rollout.wave === last
      ? { kind: 'end', phase: 'done' }
      : { kind: 'enter', phase: 'waves', wave: last };
  }
  const left = (rollout.heldSinceMs ?? nowMs) + rollout.plan.holdMs - nowMs;
  if (left > 0) return { kind: 'wait', why: `held for ${Math.ceil(left / 1000)} s more` };
  const few = readings.filter(({ verdict }) => verdict === 'too_few_samples');
  if (few.length > 0) {
    const why = few.map(({ text }) => text).join('; ');
    return tooLate(rollout, nowMs, why) ?? { kind: 'wait', why };
  }
  if (rollout.phase === 'canary') return { kind: 'enter', phase: 'waves', wave: 0 };
  return rollout.wave < last
    ? { kind: 'enter', phase: 'waves', wave: rollout.wave + 1 }
    : { kind: 'end', phase: 'done' };
}

/** What the phase's workers lack, in words. */
function outOfPlace(rollout: RolloutState, ready: readonly RolloutWorker[]): string | undefined {
  if (ready.length === 0) return 'no worker of the deployment is ready';
  if (rollout.phase === 'canary') {
    return ready.some((worker) => worker.holds.includes(rollout.candidate))
      ? undefined
      : 'no worker holds it any more';
  }
  const wanted = waveSize(rollout.plan, rollout.wave, ready.length);
  const flipped = ready.filter((worker) => worker.active === rollout.candidate).length;
  return flipped >= wanted ? undefined : `${flipped} of ${wanted} workers answer under it`;
}

function judge(rollout: RolloutState, mark: Mark, ready: readonly RolloutWorker[]): Reading[] {
  const now = Object.fromEntries(ready.map((worker) => [worker.id, worker.counters]));
  const { stable, candidate, origin, plan } = rollout;
  return readGates(
    plan.gates,
    since(mark, now, candidate),
    since(mark, now, stable),
    origin === null ? NOTHING : since(origin, now, stable),
  );
}

function rollingBack(rollout: RolloutState, workers: readonly RolloutWorker[], nowMs: number): Decision {
  const outcome = rollout.outcome ?? 'failed';
  const away = workers.filter((worker) => !worker.inForce || worker.active !== rollout.active);
  if (away.length === 0) return { kind: 'end', phase: outcome };
  const names = away.map(({ id }) => id).join(', ');
  const why = `not yet back under the artifact before: ${names}`;
  if (nowMs - rollout.phaseStartedMs < rollout.plan.timeoutMs) return { kind: 'wait', why };
  return { kind: 'end', phase: 'failed', reason: `still ${why}` };
}

function tooLate(rollout: RolloutState, nowMs: number, why: string): Decision | undefined {
  if (rollout.paused || nowMs - rollout.phaseStartedMs < rollout.plan.timeoutMs) return undefined;
  const reason = `the phase took longer than ${Math.round(rollout.plan.timeoutMs / 1000)} s: ${why}`;
  return { kind: 'roll_back', outcome: 'failed', reason };
}

function without(decision: Decision): Decided {
  return { decision, readings: [] };
}
