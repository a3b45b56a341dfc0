// Which artifact a request is pinned to: by its own wish, else by a hash of its key while a rollout has a canary. The hash is salted
// with the rollout's id, so that it is not the same clients who try every candidate, and replicas agree without a word. Pure.
import { createHash } from 'node:crypto';
import { invalidArgument } from '../errors/service-error.js';
import type { Phase } from './rollout.js';

/** What a client asks for besides its prompt: `canary`, `stable` or a digest, and what its canary share is drawn by. */
export interface ArtifactWish {
  readonly artifact?: string | undefined;
  readonly canaryKey?: string | undefined;
}

/** The artifact a request is to run under; '' is whatever its worker has active. */
export interface ArtifactPin {
  readonly digest: string;
  /** Only a worker that holds it may take the request; otherwise another may, under what is active there. */
  readonly required: boolean;
}

export interface LiveRollout {
  readonly id: string;
  readonly modelId: string;
  readonly stable: string;
  readonly candidate: string;
  readonly phase: Phase;
  readonly share: number;
}

const NO_PIN: ArtifactPin = { digest: '', required: false };
const DIGEST = /^[0-9a-f]{64}$/;

/**
 * @param rollouts those under way of the request's model
 * @param requestId stands in for a key the client does not give
 * @throws ServiceError INVALID_ARGUMENT for a wish that is none of canary, stable and a digest
 */
export function pinOf(rollouts: readonly LiveRollout[], requestId: string, wish: ArtifactWish): ArtifactPin {
  const { artifact, canaryKey } = wish;
  if (artifact !== undefined) return wished(rollouts, artifact);
  const key = canaryKey === undefined || canaryKey === '' ? requestId : canaryKey;
  const chosen = rollouts.find(
    ({ id, phase, share }) => (phase === 'canary' || phase === 'waves') && bucketOf(id, key) < share,
  );
  return chosen === undefined ? NO_PIN : { digest: chosen.candidate, required: false };
}

/** Uniform in [0, 1), the same on every replica. */
export function bucketOf(rolloutId: string, key: string): number {
  return createHash('sha256').update(`${rolloutId}/${key}`).digest().readUIntBE(0, 6) / 2 ** 48;
}

function wished(rollouts: readonly LiveRollout[], artifact: string): ArtifactPin {
  if (DIGEST.test(artifact)) return { digest: artifact, required: true };
  // A client that always asks for one of the two must not break between rollouts, when there is only one.
  const [rollout] = rollouts.filter(({ phase }) => phase !== 'rolling_back');
  if (artifact === 'canary') return rollout ? { digest: rollout.candidate, required: false } : NO_PIN;
  if (artifact === 'stable') return rollout ? { digest: rollout.stable, required: false } : NO_PIN;
  throw invalidArgument(
    'x-spotlight-artifact',
    'x-spotlight-artifact must be canary, stable or the 64 hex digits of an artifact that a worker holds.',
  );
}
