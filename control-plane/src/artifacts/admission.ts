// Bytes at rest in the blob store become a registered artifact: read once through, compared with the models known here, committed, and
// written down. kill -9 between any two of these leaves an upload that can be completed again, or an artifact; never half of one.
import { Inject, Injectable } from '@nestjs/common';
import type { ScannedArtifact } from '@spotlight/cuda/artifact';
import { ArtifactScan } from '@spotlight/cuda/artifact';
import { ErrorCode } from '@spotlight/proto';
import { and, eq, isNull, sql } from 'drizzle-orm';
import { audit } from '../audit/audit-log.js';
import { invalidArgument, ServiceError } from '../errors/service-error.js';
import { artifacts, artifactUploads } from '../storage/schema.js';
import type { Transaction } from '../storage/storage.js';
import { Storage } from '../storage/storage.js';
import { Registry } from '../workers/registry.js';
import { unreadable, whyNotAdmitted } from './admit.js';
import type { ArtifactRow } from './artifact-rows.js';
import type { BlobStore } from './blobs/blob-store.js';
import { BLOB_STORE } from './blobs/blob-store.js';
import { shortDigest } from './states.js';

export interface Candidate {
  /** Upload whose bytes are all here. */
  readonly upload: string;
  /** It has a row, which must still be there when the artifact's is written. */
  readonly announced: boolean;
  readonly size: number;
  /** What the bytes are said to be; undefined takes what they are. */
  readonly digest: string | undefined;
  readonly parent: string | undefined;
  readonly source: string;
  readonly actor: string;
}

export interface Admitted {
  readonly artifact: ArtifactRow;
  /** False when the same bytes had been registered before. */
  readonly created: boolean;
}

const DIGEST = /^[0-9a-f]{64}$/;

@Injectable()
export class Admission {
  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'query' | 'transaction'>,
    @Inject(BLOB_STORE) private readonly blobs: BlobStore,
    @Inject(Registry) private readonly registry: Pick<Registry, 'models'>,
  ) {}

  /**
   * @throws ServiceError INVALID_ARGUMENT `digest_mismatch` or `artifact_corrupt`, FAILED_PRECONDITION `artifact_mismatch` (the upload
   * can never be admitted and is dropped) or `upload_incomplete` (it can go on)
   */
  async admit(candidate: Candidate): Promise<Admitted> {
    const body = await this.#bytesOf(candidate);
    let facts: ScannedArtifact;
    try {
      facts = await this.#check(candidate, body);
    } catch (error) {
      if (error instanceof ServiceError && isFinal(error)) await this.drop(candidate.upload);
      throw error;
    }
    const blob = blobName(facts.digest, candidate.upload);
    await this.blobs.commit(candidate.upload, blob);
    const admitted = await this.storage.transaction((db) => register(db, facts, blob, candidate));
    // From here on the artifact is in force; what is left over is nobody's and would be swept too.
    if (admitted.artifact.blob !== blob) await this.blobs.remove(blob);
    await this.blobs.discard(candidate.upload);
    return admitted;
  }

  /** The bytes first: a row without them would only say 0 of so many. */
  async drop(upload: string): Promise<void> {
    await this.blobs.discard(upload);
    await this.storage.query((db) => db.delete(artifactUploads).where(eq(artifactUploads.id, upload)));
  }

  /** Of the upload, or of the blob it became before a crash. */
  async #bytesOf({ upload, size, digest }: Candidate): Promise<AsyncIterable<Buffer>> {
    const staged = await this.blobs.staged(upload);
    if (staged === size) return this.blobs.readStaged(upload);
    if (digest !== undefined && (await this.blobs.size(blobName(digest, upload))) === size) {
      return this.blobs.read(blobName(digest, upload), 0);
    }
    throw new ServiceError(
      ErrorCode.FAILED_PRECONDITION,
      `The upload has ${staged} of ${size} bytes; send the rest from there, then complete it.`,
      { openaiCode: 'upload_incomplete' },
    );
  }

  async #check({ digest }: Candidate, body: AsyncIterable<Buffer>): Promise<ScannedArtifact> {
    const scan = new ArtifactScan('the upload');
    let facts: ScannedArtifact;
    try {
      for await (const chunk of body) scan.push(chunk);
      facts = scan.end();
    } catch (error) {
      throw unreadable(error);
    }
    if (digest !== undefined && facts.digest !== digest) {
      throw invalidArgument(
        'digest',
        `The bytes have the digest ${facts.digest}, not ${digest}; push the file again.`,
        'digest_mismatch',
      );
    }
    const refusal = whyNotAdmitted(facts, await this.registry.models());
    if (refusal !== undefined) throw refusal;
    return facts;
  }
}

function isFinal(error: ServiceError): boolean {
  return ['digest_mismatch', 'artifact_corrupt', 'artifact_mismatch'].includes(error.openaiCode ?? '');
}

/** Of one upload alone, and the same when it is completed again. */
function blobName(digest: string, upload: string): string {
  return `${digest}-${upload}`;
}

/** Id of the upload that a blob was. */
export function uploadOf(blob: string): string {
  return blob.slice(blob.indexOf('-') + 1);
}

async function register(
  db: Transaction,
  facts: ScannedArtifact,
  blob: string,
  { upload, announced, parent, source, actor }: Candidate,
): Promise<Admitted> {
  const { digest, size, fingerprint, metadata } = facts;
  const { encoder, bits, headDim, queryHeads, kvHeads } = facts;
  const told = metadata['parent'];
  const bytes = { size, metadata, blob, layers: [...facts.layers] };
  const rows = await db.delete(artifactUploads).where(eq(artifactUploads.id, upload)).returning();
  if (announced && rows.length === 0) {
    throw new ServiceError(
      ErrorCode.CONFLICT,
      'The upload was dropped or completed meanwhile; look for the artifact, or push it again.',
      { openaiCode: 'upload_not_found' },
    );
  }
  const [made] = await db
    .insert(artifacts)
    .values({
      ...{ digest, fingerprint, encoder, bits, headDim, queryHeads, kvHeads, ...bytes, source },
      state: 'draft',
      parent: parent ?? (told !== undefined && DIGEST.test(told) ? told : null),
    })
    .onConflictDoNothing()
    .returning();
  if (made !== undefined) {
    await audit(db, {
      ...{ actor, action: 'artifact.create', kind: 'artifact', object: digest },
      after: { state: made.state, size, fingerprint, source, parent: made.parent },
    });
    return { artifact: made, created: true };
  }
  // Known before: by its bytes, or only by name from the worker that came with it.
  const [filled] = await db
    .update(artifacts)
    .set({ ...bytes, changed: sql`now()` })
    .where(and(eq(artifacts.digest, digest), isNull(artifacts.blob)))
    .returning();
  if (filled !== undefined) {
    await audit(db, {
      ...{ actor, action: 'artifact.bytes', kind: 'artifact', object: digest },
      after: { size, source },
    });
    return { artifact: filled, created: true };
  }
  const [known] = await db.select().from(artifacts).where(eq(artifacts.digest, digest));
  if (known === undefined)
    throw new Error(`artifact ${shortDigest(digest)} vanished while it was registered`);
  return { artifact: known, created: false };
}
