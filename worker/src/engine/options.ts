// What the loop is given at birth, and what a health check asks of it.
import type { Logger } from 'pino';
import type { IntakeOptions } from './intake.js';
import type { EngineObserver } from './observer.js';

export interface EngineLoopOptions extends IntakeOptions {
  readonly observer: EngineObserver;
  readonly log: Logger;
  /** Requests that may wait for admission. Default 512. */
  readonly maxWaiting?: number;
  /** Most tokens a step. Default: the native engine's. */
  readonly stepTokens?: number;
  /** Most prompt tokens in a step that also decodes. Default 256. */
  readonly mixedPromptTokens?: number;
  /** Share of the time that rehashing may take while requests run. Default 0.05. */
  readonly rehashShare?: number;
  /** Share of the steps in which one row is measured. Default 0: none. */
  readonly qualityRate?: number;
}

/** What a health check asks. */
export interface EngineHealth {
  /** The first fault's message; every request ends with it from then on. */
  readonly dead: string | undefined;
  /** Whether a step is in flight, or should be. */
  readonly busy: boolean;
  /** Since the last step retired, or since work began when that is later. */
  readonly lastStepAgeMs: number;
}
