// Removes what nobody will come back for: uploads untouched for a day, with the bytes they are or had become before a crash. Only bytes of
// uploads that this database knew are ever removed as blobs: a store may hold another installation's too.
import type { OnModuleDestroy, OnModuleInit } from '@nestjs/common';
import { Inject, Injectable } from '@nestjs/common';
import { lt } from 'drizzle-orm';
import { artifactUploads } from '../storage/schema.js';
import { Storage } from '../storage/storage.js';
import type { Log } from '../telemetry/log.js';
import { LOG } from '../telemetry/log.js';
import { uploadOf } from './admission.js';
import type { BlobStore } from './blobs/blob-store.js';
import { BLOB_STORE } from './blobs/blob-store.js';

const KEEP_MS = 24 * 3_600_000;
const EVERY_MS = 3_600_000;
/** A start has better things to do. */
const FIRST_MS = 60_000;

@Injectable()
export class Sweep implements OnModuleInit, OnModuleDestroy {
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'query'>,
    @Inject(BLOB_STORE) private readonly blobs: BlobStore,
    @Inject(LOG) private readonly log: Log,
  ) {}

  onModuleInit(): void {
    this.#plan(FIRST_MS);
  }

  /** A sweep under way is not waited for: cut short it is as good. */
  onModuleDestroy(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  /** @param now ms; what was last touched a day before it goes */
  async sweep(now = Date.now()): Promise<void> {
    const limit = new Date(now - KEEP_MS);
    const staged = (await this.blobs.uploads()).filter(({ changed }) => changed < limit);
    // The rows first: a completion under way finds its own gone and registers nothing.
    const expired = await this.storage.query((db) =>
      db
        .delete(artifactUploads)
        .where(lt(artifactUploads.touched, limit))
        .returning({ id: artifactUploads.id }),
    );
    const ids = new Set(expired.map(({ id }) => id));
    for (const id of ids) await this.blobs.discard(id);
    if (ids.size > 0) {
      for (const { name } of await this.blobs.blobs())
        if (ids.has(uploadOf(name))) await this.blobs.remove(name);
    }
    const open = await this.storage.query((db) =>
      db.select({ id: artifactUploads.id }).from(artifactUploads),
    );
    const uploads = new Set(open.map(({ id }) => id));
    for (const { name } of staged) if (!uploads.has(name)) await this.blobs.discard(name);
  }

  #plan(afterMs: number): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      this.sweep()
        .catch((error: unknown) => {
          if (!this.#closed)
            this.log.warn({ err: error, place: this.blobs.place }, 'old uploads could not be swept');
        })
        .finally(() => {
          this.#plan(EVERY_MS);
        });
    }, afterMs);
    this.#timer.unref();
  }
}
