// Removes what nobody will come back for: uploads untouched for a day, and bytes without a row, which a kill -9 between two steps leaves.
// Age protects what is on its way: bytes are there before their row is.
import type { OnModuleDestroy, OnModuleInit } from '@nestjs/common';
import { Inject, Injectable } from '@nestjs/common';
import { lt } from 'drizzle-orm';
import { artifacts, artifactUploads } from '../storage/schema.js';
import { Storage } from '../storage/storage.js';
import type { Log } from '../telemetry/log.js';
import { LOG } from '../telemetry/log.js';
import type { BlobStore, StoredName } from './blobs/blob-store.js';
import { BLOB_STORE } from './blobs/blob-store.js';

const KEEP_MS = 24 * 3_600_000;
const EVERY_MS = 3_600_000;
/** A start has better things to do. */
const FIRST_MS = 60_000;

@Injectable()
export class Sweep implements OnModuleInit, OnModuleDestroy {
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'query'>,
    @Inject(BLOB_STORE) private readonly blobs: BlobStore,
    @Inject(LOG) private readonly log: Log,
  ) {}

  onModuleInit(): void {
    this.#plan(FIRST_MS);
  }

  async onModuleDestroy(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** @param now ms; what was last touched a day before it goes */
  async sweep(now = Date.now()): Promise<void> {
    const limit = new Date(now - KEEP_MS);
    const old = ({ changed }: StoredName): boolean => changed < limit;
    // Names first and rows after: what is registered between the two is found among the rows.
    const staged = (await this.blobs.uploads()).filter(old);
    const blobs = (await this.blobs.blobs()).filter(old);
    await this.storage.query((db) => db.delete(artifactUploads).where(lt(artifactUploads.touched, limit)));
    const open = await this.storage.query((db) =>
      db.select({ id: artifactUploads.id }).from(artifactUploads),
    );
    const known = await this.storage.query((db) => db.select({ blob: artifacts.blob }).from(artifacts));
    const uploads = new Set(open.map(({ id }) => id));
    const registered = new Set(known.map(({ blob }) => blob));
    for (const { name } of staged) if (!uploads.has(name)) await this.blobs.discard(name);
    for (const { name } of blobs) if (!registered.has(name)) await this.blobs.remove(name);
  }

  #plan(afterMs: number): void {
    this.#timer = setTimeout(() => {
      this.#running = this.sweep()
        .catch((error: unknown) => {
          this.log.warn({ err: error, place: this.blobs.place }, 'old uploads could not be swept');
        })
        .then(() => {
          this.#plan(EVERY_MS);
        });
    }, afterMs);
    this.#timer.unref();
  }
}
