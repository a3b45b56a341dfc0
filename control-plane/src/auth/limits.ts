// What a key may use, and how that is told: OpenAI's x-ratelimit headers and the 429s. Pure.
import { ErrorCode } from '@spotlight/proto';
import { ServiceError } from '../errors/service-error.js';

/** Over all replicas; null: no limit. */
export interface KeyLimits {
  readonly requestsPerMinute: number | null;
  /** Prompt and generated tokens, counted when a request ends. */
  readonly tokensPerMinute: number | null;
  readonly concurrentRequests: number | null;
  /** Prompt and generated tokens in the key's life. */
  readonly tokenBudget: number | null;
}

export const NO_LIMITS: KeyLimits = Object.freeze({
  requestsPerMinute: null,
  tokensPerMinute: null,
  concurrentRequests: null,
  tokenBudget: null,
});

export function isLimited(limits: KeyLimits): boolean {
  return Object.values(limits).some((limit) => limit !== null);
}

/** Minutes of the epoch: windows are fixed, so that all replicas count in the same one. */
export function minuteOf(now: number): number {
  return Math.floor(now / 60_000);
}

/** Whole seconds until the next window, at least 1. */
export function secondsLeft(now: number): number {
  return Math.max(1, Math.ceil(60 - (now % 60_000) / 1000));
}

/** How much a replica leases at once: a twentieth, so that a window costs few queries and little of it lapses unused. */
export function sliceOf(limit: number): number {
  return Math.max(1, Math.ceil(limit / 20));
}

export interface Standing {
  readonly requestsUsed: number;
  readonly tokensUsed: number;
}

export function rateHeaders(
  limits: KeyLimits,
  { requestsUsed, tokensUsed }: Standing,
  now: number,
): Record<string, string> {
  const headers: Record<string, string> = {};
  const add = (name: string, limit: number | null, used: number): void => {
    if (limit === null) return;
    headers[`x-ratelimit-limit-${name}`] = String(limit);
    headers[`x-ratelimit-remaining-${name}`] = String(Math.max(0, limit - used));
    headers[`x-ratelimit-reset-${name}`] = `${secondsLeft(now)}s`;
  };
  add('requests', limits.requestsPerMinute, requestsUsed);
  add('tokens', limits.tokensPerMinute, tokensUsed);
  return headers;
}

export function overRate(what: 'requests' | 'tokens', limit: number, now: number): ServiceError {
  const retryAfterSeconds = secondsLeft(now);
  return new ServiceError(
    ErrorCode.RATE_LIMITED,
    `This API key has used its ${limit} ${what} of this minute; try again in ${retryAfterSeconds} s.`,
    { retryAfterSeconds },
  );
}

export function tooManyAtOnce(limit: number): ServiceError {
  return new ServiceError(
    ErrorCode.RATE_LIMITED,
    `This API key has its ${limit} requests under way; wait for one to end.`,
  );
}

/** Waiting does not help, so clients are told not to. */
export function budgetSpent(budget: number): ServiceError {
  return new ServiceError(
    ErrorCode.RATE_LIMITED,
    `This API key has spent its budget of ${budget} tokens; ask the operator for more.`,
    { openaiCode: 'insufficient_quota', retryable: false },
  );
}
