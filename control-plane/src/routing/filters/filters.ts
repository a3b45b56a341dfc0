// The filters, in the order routing.service.ts applies them: each empty result has its own error, so order decides what the client reads.
import { unseen } from '../depth.js';
import type { Filter } from '../policy.js';

export const servesModel: Filter = {
  name: 'model',
  keeps: (worker, request) => worker.model.id === request.model,
};

/** A degraded worker has stopped stepping while work waits; one more request there would only hang. */
export const isReady: Filter = { name: 'ready', keeps: (worker) => worker.state === 'ready' };

/** Not those that have already failed this request; a new process under an old name has not. */
export const notExcluded: Filter = {
  name: 'not-excluded',
  keeps: (worker, request) => !request.exclude.has(worker.incarnation),
};

/** The artifact a request is pinned to: its codes of the context are that artifact's. */
export const holdsArtifact: Filter = {
  name: 'artifact',
  keeps: ({ slots }, { artifactDigest }) =>
    artifactDigest === '' || slots.some((slot) => slot.artifactDigest === artifactDigest),
};

/** Can go on with what another worker began: the same model under the same settings, and it does step. */
export const continues: Filter = {
  name: 'continues',
  keeps: ({ model, steppedAt }, { replay }) =>
    replay === undefined ||
    ((replay.fingerprint ?? model.fingerprint) === model.fingerprint &&
      (replay.settingsDigest ?? model.settingsDigest) === model.settingsDigest &&
      (replay.steppedSince ?? steppedAt) <= steppedAt),
};

/** Room to run or to wait. A worker that takes no waiting requests at all is full when every running place is taken. */
export const hasRoom: Filter = {
  name: 'has-room',
  keeps: (worker) => {
    const { running, waiting } = worker.load;
    if (waiting >= worker.maxWaiting && waiting > 0) return false;
    return running + waiting + unseen(worker) < worker.maxRequests + worker.maxWaiting;
  },
};
