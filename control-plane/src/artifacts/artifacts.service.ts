// What is done with registered artifacts: found, listed, downloaded, retired, deleted. How they come to be is admission.ts, what they
// are worth is validation.ts.
import { Inject, Injectable } from '@nestjs/common';
import { ErrorCode } from '@spotlight/proto';
import { and, desc, eq, isNotNull, like, sql } from 'drizzle-orm';
import { audit } from '../audit/audit-log.js';
import { invalidArgument, ServiceError } from '../errors/service-error.js';
import type { ArtifactState } from '../storage/schema.js';
import { artifacts, deployments } from '../storage/schema.js';
import { Storage } from '../storage/storage.js';
import type { Log } from '../telemetry/log.js';
import { LOG } from '../telemetry/log.js';
import type { ArtifactRow } from './artifact-rows.js';
import { lockArtifact, moveArtifact, unknownArtifact } from './artifact-rows.js';
import type { ArtifactView } from './artifact-view.js';
import { artifactView } from './artifact-view.js';
import type { BlobStore } from './blobs/blob-store.js';
import { BLOB_STORE } from './blobs/blob-store.js';
import { refusedIn, shortDigest } from './states.js';
import { ArtifactUses } from './uses.js';

export interface ArtifactQuery {
  readonly state?: ArtifactState | undefined;
  readonly fingerprint?: string | undefined;
  /** Digest of the last one of the page before. */
  readonly after?: string | undefined;
  readonly limit: number;
}

/** Bytes of an artifact from a byte on. */
export interface ArtifactBytes {
  readonly digest: string;
  /** Of the whole file. */
  readonly size: number;
  readonly body: AsyncIterable<Buffer>;
}

const DIGEST = /^[0-9a-f]{64}$/;
/** A digest may be cut short as far as it stays the only one. */
const PREFIX = /^[0-9a-f]{6,63}$/;

@Injectable()
export class ArtifactsService {
  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'query' | 'transaction'>,
    @Inject(BLOB_STORE) private readonly blobs: BlobStore,
    @Inject(ArtifactUses) private readonly uses: ArtifactUses,
    @Inject(LOG) private readonly log: Log,
  ) {}

  /** Latest first. @throws ServiceError NOT_FOUND when `after` is not here */
  async list({ state, fingerprint, after, limit }: ArtifactQuery): Promise<ArtifactView[]> {
    const last = after === undefined ? undefined : await this.row(after);
    const [rows, users] = await this.storage.query((db) =>
      Promise.all([
        db
          .select()
          .from(artifacts)
          .where(
            and(
              state === undefined ? undefined : eq(artifacts.state, state),
              fingerprint === undefined ? undefined : eq(artifacts.fingerprint, fingerprint),
              // By the database's own clock: a Date has less digits than its times.
              last === undefined
                ? undefined
                : sql`(${artifacts.created}, ${artifacts.digest}) < (select a.created, a.digest from artifacts a where a.digest = ${last.digest})`,
            ),
          )
          .orderBy(desc(artifacts.created), desc(artifacts.digest))
          .limit(limit),
        db.select().from(deployments).where(isNotNull(deployments.activeArtifact)),
      ]),
    );
    return rows.map((row) => artifactView(row, users));
  }

  /** @param digest whole, or so much of its head that no other has */
  async get(digest: string): Promise<ArtifactView> {
    return this.view(await this.row(digest));
  }

  async view(row: ArtifactRow): Promise<ArtifactView> {
    const users = await this.storage.query((db) =>
      db.select().from(deployments).where(eq(deployments.activeArtifact, row.digest)),
    );
    return artifactView(row, users);
  }

  /** @throws ServiceError NOT_FOUND, INVALID_ARGUMENT for a head that two have */
  async row(digest: string): Promise<ArtifactRow> {
    if (!DIGEST.test(digest) && !PREFIX.test(digest)) throw unknownArtifact(digest);
    const rows = await this.storage.query((db) =>
      db
        .select()
        .from(artifacts)
        .where(like(artifacts.digest, `${digest}%`))
        .limit(2),
    );
    const [row, other] = rows;
    if (row === undefined) throw unknownArtifact(digest);
    if (other === undefined) return row;
    throw invalidArgument('digest', `"${digest}" begins more than one digest; give more of it.`);
  }

  /** @throws ServiceError NOT_FOUND, FAILED_PRECONDITION `artifact_without_bytes`, INVALID_ARGUMENT for an offset beyond the end */
  async bytes(digest: string, offset: number): Promise<ArtifactBytes> {
    const { digest: whole, blob, size } = await this.row(digest);
    if (blob === null || size === null) {
      throw new ServiceError(
        ErrorCode.UNAVAILABLE,
        `The bytes of artifact ${shortDigest(whole)} are not here yet; they come from the worker that has them.`,
        { field: 'digest', openaiCode: 'artifact_without_bytes' },
      );
    }
    if (offset > size) {
      throw invalidArgument('offset', `Byte ${offset} is beyond the artifact's ${size} bytes.`);
    }
    return { digest: whole, size, body: offset === size ? nothing() : this.blobs.read(blob, offset) };
  }

  /** For ever: nothing rolls it out any more. @throws ServiceError FAILED_PRECONDITION while it is active or in use */
  async retire(digest: string, reason: string, actor: string): Promise<ArtifactView> {
    const whole = (await this.row(digest)).digest;
    const row = await this.storage.transaction(async (db) => {
      const locked = await lockArtifact(db, whole);
      await this.uses.refuseIfUsed(db, whole, 'retired');
      return moveArtifact(db, locked, { event: 'retire', actor, reason, wanted: 'retired' });
    });
    return this.view(row);
  }

  /** Row and bytes; the audit log keeps what it was. @throws ServiceError FAILED_PRECONDITION while it is active or in use */
  async remove(digest: string, actor: string): Promise<void> {
    const whole = (await this.row(digest)).digest;
    const row = await this.storage.transaction(async (db) => {
      const locked = await lockArtifact(db, whole);
      if (locked.state === 'active') throw refusedIn('active', whole, 'deleted');
      await this.uses.refuseIfUsed(db, whole, 'deleted');
      await db.delete(artifacts).where(eq(artifacts.digest, whole));
      const { state, size, fingerprint, source, parent } = locked;
      await audit(db, {
        ...{ actor, action: 'artifact.delete', kind: 'artifact', object: whole },
        before: { state, size, fingerprint, source, parent },
      });
      return locked;
    });
    if (row.blob === null) return;
    // Deleted is what the row says; bytes left over are swept.
    await this.blobs.remove(row.blob).catch((error: unknown) => {
      this.log.warn({ err: error, artifact: whole }, 'the bytes of a deleted artifact are still there');
    });
  }
}

async function* nothing(): AsyncGenerator<Buffer> {}
