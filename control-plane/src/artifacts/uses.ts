// Who else holds on to an artifact. A room that does (a rollout under way) adds its question here, and neither retiring nor deleting
// happens under it: this room asks all of them inside its own transaction, after the artifact's row is locked.
import { Injectable } from '@nestjs/common';
import { ErrorCode } from '@spotlight/proto';
import { ServiceError } from '../errors/service-error.js';
import type { Transaction } from '../storage/storage.js';
import { shortDigest } from './states.js';

/** What uses the artifact, as in "rollout 7 of deployment x"; undefined when nothing does. */
export type UseQuestion = (db: Transaction, digest: string) => Promise<string | undefined>;

@Injectable()
export class ArtifactUses {
  readonly #questions: UseQuestion[] = [];

  add(question: UseQuestion): void {
    this.#questions.push(question);
  }

  /** @throws ServiceError FAILED_PRECONDITION `artifact_in_use` */
  async refuseIfUsed(db: Transaction, digest: string, wanted: string): Promise<void> {
    for (const question of this.#questions) {
      const user = await question(db, digest);
      if (user === undefined) continue;
      throw new ServiceError(
        ErrorCode.FAILED_PRECONDITION,
        `Artifact ${shortDigest(digest)} is in use by ${user}: end that first; it cannot be ${wanted}.`,
        { field: 'digest', openaiCode: 'artifact_in_use' },
      );
    }
  }
}
