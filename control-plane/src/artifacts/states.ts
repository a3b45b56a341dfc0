// An artifact's life as one table: draft -> validated -> active -> retired, with rejected for a draft that failed. Pure; what is
// not in the table is refused with what to do instead. `active` says that at least one deployment answers with it.
import { ErrorCode } from '@spotlight/proto';
import { ServiceError } from '../errors/service-error.js';
import type { ArtifactState } from '../storage/schema.js';

export const ARTIFACT_STATES = ['draft', 'validated', 'active', 'retired', 'rejected'] as const;

/**
 * pass, fail: a validation's verdict. activate, supersede: a deployment takes it, the last one lets it go. adopt: workers came with it
 * on their own command line, which is the operator's word. retire: never again.
 */
export type ArtifactEvent = 'pass' | 'fail' | 'activate' | 'supersede' | 'adopt' | 'retire';

const MOVES: Readonly<Record<ArtifactState, Readonly<Partial<Record<ArtifactEvent, ArtifactState>>>>> = {
  draft: { pass: 'validated', fail: 'rejected', adopt: 'active', retire: 'retired' },
  rejected: { pass: 'validated', fail: 'rejected', adopt: 'active', retire: 'retired' },
  validated: { pass: 'validated', fail: 'rejected', activate: 'active', adopt: 'active', retire: 'retired' },
  // Measuring what is in use changes what is known of it; taking it away is a rollout's business.
  active: { pass: 'active', fail: 'active', activate: 'active', adopt: 'active', supersede: 'validated' },
  retired: {},
};

/** The state after an event; undefined when it may not happen. */
export function nextState(state: ArtifactState, event: ArtifactEvent): ArtifactState | undefined {
  return MOVES[state][event];
}

const ADVICE: Readonly<Record<ArtifactState, string>> = {
  draft: 'is a draft: validate it first',
  rejected: 'was rejected by its validation: validate it again, or choose another',
  validated: 'is not in use',
  active: 'is active: roll out another in its place first',
  retired: 'is retired: choose another, or delete it and push it again',
};

/** FAILED_PRECONDITION whose code names the state: `artifact_retired`, `artifact_active`, … */
export function refusedIn(state: ArtifactState, digest: string, wanted: string, because = ''): ServiceError {
  return new ServiceError(
    ErrorCode.FAILED_PRECONDITION,
    `Artifact ${shortDigest(digest)} ${ADVICE[state]}${because}; it cannot be ${wanted}.`,
    { field: 'digest', openaiCode: `artifact_${state}` },
  );
}

/** Enough of a digest to tell artifacts apart in a sentence. */
export function shortDigest(digest: string): string {
  return digest.slice(0, 12);
}
