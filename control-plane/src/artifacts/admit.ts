// The part of admission that needs no worker: whether an artifact, already read and found sound, fits a model that is served here. Pure.
import type { ArtifactLayout, ScannedArtifact } from '@spotlight/cuda/artifact';
import { EngineError } from '@spotlight/cuda/artifact';
import { ErrorCode } from '@spotlight/proto';
import { invalidArgument, ServiceError } from '../errors/service-error.js';
import type { ModelDims } from '../storage/schema.js';
import { isStorable } from '../storage/storable.js';
import { shortDigest } from './states.js';

export interface KnownModel {
  readonly id: string;
  readonly fingerprint: string;
  readonly dims: ModelDims;
}

type Facts = Pick<ScannedArtifact, 'fingerprint' | 'metadata'> & ArtifactLayout;

/** Why the artifact is not taken; undefined when it is. */
export function whyNotAdmitted(facts: Facts, models: readonly KnownModel[]): ServiceError | undefined {
  const unstorable = Object.entries(facts.metadata).find(([name, value]) => !isStorable(name + value));
  if (unstorable !== undefined) {
    return corrupt(`the metadata entry ${JSON.stringify(unstorable[0].slice(0, 50))} is no plain text`);
  }
  const model = models.find(({ fingerprint }) => fingerprint === facts.fingerprint);
  if (model === undefined) {
    const served = models.map(({ id, fingerprint }) => `${id} (${shortDigest(fingerprint)})`);
    return mismatch(
      `was made for model ${shortDigest(facts.fingerprint)}, which has never been served here` +
        (served.length === 0
          ? '; start a worker of that model first'
          : `; served here: ${served.join(', ')}`),
    );
  }
  const { dims } = model;
  for (const [name, has, needs] of [
    ['head_dim', facts.headDim, dims.headDim],
    ['query_heads', facts.queryHeads, dims.queryHeads],
    ['kv_heads', facts.kvHeads, dims.kvHeads],
  ] as const) {
    if (has !== needs) return mismatch(`has ${name} ${has}, and model ${model.id} has ${needs}`);
  }
  const last = facts.layers.at(-1) ?? 0;
  if (last >= dims.layers) {
    return mismatch(`carries codes for layer ${last}, and model ${model.id} has ${dims.layers} layers`);
  }
  return undefined;
}

/** What the reader threw, for the client; anything that is not about the file passes. */
export function unreadable(error: unknown): unknown {
  if (!(error instanceof EngineError)) return error;
  return invalidArgument('', `The artifact cannot be read: ${error.message}.`, 'artifact_corrupt');
}

function corrupt(what: string): ServiceError {
  return invalidArgument('', `The artifact cannot be read: ${what}.`, 'artifact_corrupt');
}

function mismatch(what: string): ServiceError {
  return new ServiceError(ErrorCode.FAILED_PRECONDITION, `The artifact ${what}.`, {
    openaiCode: 'artifact_mismatch',
  });
}
