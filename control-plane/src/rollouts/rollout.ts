// What a rollout is: its phases, its plan, and the plan's defaults. Pausing is no phase but a flag beside one: a paused canary keeps
// its share and its gates, it only does not go on, so that a person who looks closer does not switch the safety off.
import { z } from 'zod';

export const PHASES = [
  'staging',
  'canary',
  'waves',
  'rolling_back',
  'done',
  'rolled_back',
  'aborted',
  'failed',
] as const;
export type Phase = (typeof PHASES)[number];

/** Phases that nothing follows. */
export const ENDED = ['done', 'rolled_back', 'aborted', 'failed'] as const satisfies readonly Phase[];
/** How a rollout ends that does not end in `done`: a gate fell, an operator said so, or it could not be carried through. */
export type Outcome = Exclude<(typeof ENDED)[number], 'done'>;

export function hasEnded(phase: Phase): boolean {
  return (ENDED as readonly Phase[]).includes(phase);
}

const share = z.number().min(0).max(1);
const gate = (fallback: number, most: number): z.ZodDefault<z.ZodNullable<z.ZodNumber>> =>
  z.number().min(0).max(most).nullable().default(fallback);

/** Limits on the candidate against the artifact it replaces, measured in the same time. null switches a gate off. */
export const GATES = z.strictObject({
  /** Requests that the candidate must have ended in a phase before it goes on. */
  minRequests: z.int().min(0).max(1_000_000).default(50),
  /** Quality samples, of the candidate and of the other, before their means are compared. */
  minQualitySamples: z.int().min(1).max(1_000_000).default(50),
  /** Most that the mean kept softmax mass may be lower, absolute, beyond what chance may do. */
  keptMassDrop: gate(0.03, 1),
  /** Most that the mean IoU with the exact top may be lower, absolute. */
  iouDrop: gate(0.1, 1),
  /** Most that the share of failed requests may be higher, absolute. */
  errorRateRise: gate(0.02, 1),
  /** Most that the 95th percentile of the time to the first token may be, in multiples of the other's. */
  firstTokenRatio: gate(1.5, 1000),
  /** The same of the time between tokens. */
  interTokenRatio: gate(1.5, 1000),
});
export type Gates = z.output<typeof GATES>;

const DAY_MS = 24 * 3_600_000;

export const PLAN = z.strictObject({
  /** Of requests, answered under the candidate while it is the canary; 0 goes straight to the waves. */
  share: share.default(0.1),
  /** Parts of the workers that take new requests under the candidate, rising to 1. */
  waves: z
    .array(share.gt(0))
    .min(1)
    .max(100)
    .refine((waves) => waves.every((each, i) => each > (waves[i - 1] ?? 0)) && waves.at(-1) === 1, {
      error: 'must rise and end with 1, such as [0.25, 0.5, 1]',
    })
    .default([0.25, 0.5, 1]),
  /** Workers that load the candidate and rehash their caches at one time. */
  stageAtOnce: z.int().min(1).max(10_000).default(4),
  /** Least time of the canary and of each wave, from the moment its workers are in place. */
  holdMs: z.int().min(0).max(DAY_MS).default(60_000),
  /** Longest time of a phase; one that is not through by then is taken back. */
  timeoutMs: z
    .int()
    .min(1_000)
    .max(30 * DAY_MS)
    .default(3_600_000),
  gates: GATES.prefault({}),
});
export type Plan = z.output<typeof PLAN>;
