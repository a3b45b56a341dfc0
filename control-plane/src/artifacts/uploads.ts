// Uploads: announced, sent in ranges from the front, completed. How far one has come is what the blob store holds, so a range that was
// cut short counts as far as it came, also over kill -9. One connection writes an upload at a time; a newer one takes over, since
// the older is most often a dead client's.
import { Inject, Injectable } from '@nestjs/common';
import { ErrorCode } from '@spotlight/proto';
import { and, asc, eq, sql } from 'drizzle-orm';
import { randomUUID } from 'node:crypto';
import type { Readable } from 'node:stream';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.js';
import { invalidArgument, ServiceError } from '../errors/service-error.js';
import { artifacts, artifactUploads } from '../storage/schema.js';
import { Storage } from '../storage/storage.js';
import type { Admitted } from './admission.js';
import { Admission } from './admission.js';
import type { BlobStore } from './blobs/blob-store.js';
import { BLOB_STORE } from './blobs/blob-store.js';
import { shortDigest } from './states.js';

type UploadRow = typeof artifactUploads.$inferSelect;

export interface Announcement {
  /** Bytes. */
  readonly size: number;
  /** SHA-256 hex; undefined takes what comes, for a body sent in one request. */
  readonly digest: string | undefined;
  readonly parent: string | undefined;
  readonly source: string;
}

export interface UploadView {
  readonly id: string;
  readonly size: number;
  /** Bytes that are safe here; the next range begins at this one. */
  readonly offset: number;
  readonly digest: string | null;
  readonly created: Date;
}

@Injectable()
export class Uploads {
  readonly #writers = new Map<string, { stop(): void; readonly done: Promise<unknown> }>();
  readonly #completing = new Map<string, Promise<Admitted>>();

  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'query' | 'transaction'>,
    @Inject(BLOB_STORE) private readonly blobs: BlobStore,
    @Inject(Admission) private readonly admission: Admission,
    @Inject(CONFIG) private readonly config: Pick<Config, 'maxArtifact'>,
  ) {}

  /**
   * An upload of the same bytes that is open already goes on where it stands: a client that was restarted needs no memory of it.
   * @throws ServiceError INVALID_ARGUMENT `artifact_too_large`, CONFLICT `artifact_exists`
   */
  async begin(announcement: Announcement): Promise<UploadView> {
    const { size, digest, parent, source } = announcement;
    const { maxArtifact } = this.config;
    if (size > maxArtifact) {
      throw invalidArgument(
        'size',
        `The artifact is ${size} bytes large and this server takes ${maxArtifact} (--max-artifact).`,
        'artifact_too_large',
      );
    }
    if (digest !== undefined) {
      await this.#refuseKnown(digest);
      const open = await this.#open(digest, size);
      if (open !== undefined) return view(open, await this.blobs.staged(open.id));
    }
    const rows = await this.storage.query((db) =>
      db.insert(artifactUploads).values({ id: randomUUID(), size, digest, parent, source }).returning(),
    );
    const [row] = rows;
    if (row === undefined) throw new Error('insert returned no row');
    return view(row, 0);
  }

  /** @throws ServiceError NOT_FOUND */
  async get(id: string): Promise<UploadView> {
    const row = await this.#row(id);
    return view(row, await this.blobs.staged(id));
  }

  /**
   * Adds a range. Ends the connection that wrote this upload before, if it still seems to.
   * @param length bytes of the body where they are known
   * @throws ServiceError CONFLICT `offset_mismatch` (ask for the upload and go on from its offset), INVALID_ARGUMENT `upload_too_long`,
   * CANCELLED when the body broke off
   */
  async append(id: string, offset: number, body: Readable, length: number | undefined): Promise<UploadView> {
    const row = await this.#row(id);
    for (let older = this.#writers.get(id); older !== undefined; older = this.#writers.get(id)) {
      older.stop();
      await older.done;
    }
    const work = this.#append(row, offset, body, length);
    const done = work.then(
      () => undefined,
      () => undefined,
    );
    const writer = { done, stop: () => body.destroy(new Error('overtaken')) };
    this.#writers.set(id, writer);
    try {
      return view(row, await work);
    } finally {
      if (this.#writers.get(id) === writer) this.#writers.delete(id);
    }
  }

  /** Once however many ask. @throws ServiceError as Admission.admit, CONFLICT `upload_busy` while a range is being sent */
  async complete(id: string, actor: string): Promise<Admitted> {
    const running = this.#completing.get(id);
    if (running !== undefined) return running;
    const work = this.#complete(id, actor).finally(() => this.#completing.delete(id));
    this.#completing.set(id, work);
    return work;
  }

  /** A whole file in one request: begin, the one range and complete; nothing is left when any of it fails. */
  async receive(announcement: Announcement, body: Readable, actor: string): Promise<Admitted> {
    const { id } = await this.begin(announcement);
    try {
      await this.append(id, 0, body, announcement.size);
      return await this.complete(id, actor);
    } catch (error) {
      // What cannot be dropped now is swept; the caller wants to know what went wrong first.
      await this.admission.drop(id).catch(() => undefined);
      throw error;
    }
  }

  /** @throws ServiceError NOT_FOUND */
  async cancel(id: string): Promise<void> {
    await this.#row(id);
    const writer = this.#writers.get(id);
    writer?.stop();
    await writer?.done;
    await this.admission.drop(id);
  }

  async #append(
    { id, size }: UploadRow,
    offset: number,
    body: Readable,
    length: number | undefined,
  ): Promise<number> {
    if (length !== undefined && offset + length > size) throw tooLong(size);
    const held = await this.blobs.staged(id);
    if (offset !== held) {
      throw new ServiceError(
        ErrorCode.CONFLICT,
        `The upload has ${held} bytes and this range begins at ${offset}; send what follows byte ${held}.`,
        { field: 'upload-offset', openaiCode: 'offset_mismatch' },
      );
    }
    const reached = await this.blobs.append(id, offset, bounded(body, size - offset, size));
    await this.storage.query((db) =>
      db
        .update(artifactUploads)
        .set({ touched: sql`now()` })
        .where(eq(artifactUploads.id, id)),
    );
    return reached;
  }

  async #complete(id: string, actor: string): Promise<Admitted> {
    const row = await this.#row(id);
    if (this.#writers.has(id)) {
      throw new ServiceError(ErrorCode.CONFLICT, 'A range of this upload is still being sent; wait for it.', {
        openaiCode: 'upload_busy',
      });
    }
    const { size, source } = row;
    const digest = row.digest ?? undefined;
    return this.admission.admit({
      upload: id,
      announced: true,
      size,
      digest,
      parent: row.parent ?? undefined,
      source,
      actor,
    });
  }

  async #refuseKnown(digest: string): Promise<void> {
    const rows = await this.storage.query((db) =>
      db.select().from(artifacts).where(eq(artifacts.digest, digest)),
    );
    const [known] = rows;
    if (known === undefined || known.blob === null) return;
    throw new ServiceError(
      ErrorCode.CONFLICT,
      `Artifact ${shortDigest(digest)} is here already, as ${known.state}.`,
      { field: 'digest', openaiCode: 'artifact_exists' },
    );
  }

  async #open(digest: string, size: number): Promise<UploadRow | undefined> {
    const rows = await this.storage.query((db) =>
      db
        .select()
        .from(artifactUploads)
        .where(and(eq(artifactUploads.digest, digest), eq(artifactUploads.size, size)))
        .orderBy(asc(artifactUploads.created))
        .limit(1),
    );
    return rows[0];
  }

  async #row(id: string): Promise<UploadRow> {
    const rows = await this.storage.query((db) =>
      db.select().from(artifactUploads).where(eq(artifactUploads.id, id)),
    );
    const [row] = rows;
    if (row !== undefined) return row;
    throw new ServiceError(
      ErrorCode.NOT_FOUND,
      `There is no upload "${id}"; it is complete, or was dropped. Begin another.`,
      { field: 'id', openaiCode: 'upload_not_found' },
    );
  }
}

function view({ id, size, digest, created }: UploadRow, offset: number): UploadView {
  return { id, size, offset, digest, created };
}

function tooLong(size: number): ServiceError {
  return invalidArgument(
    'upload-offset',
    `The range goes beyond the ${size} bytes that were announced; announce the file's own size.`,
    'upload_too_long',
  );
}

/** The body up to `room` bytes; what breaks it off is told as one error, whoever did. */
async function* bounded(body: Readable, room: number, size: number): AsyncGenerator<Buffer> {
  let left = room;
  try {
    // Not destroyed when the range is refused half-way: the answer that says why leaves by the same connection.
    for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      left -= chunk.length;
      if (left < 0) throw tooLong(size);
      yield chunk;
    }
  } catch (error) {
    if (error instanceof ServiceError) throw error;
    throw new ServiceError(ErrorCode.CANCELLED, 'The range broke off; what came is kept, go on from there.', {
      openaiCode: 'upload_broken',
    });
  }
}
