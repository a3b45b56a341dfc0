// Brings the bytes of what workers came with into the registry, so that an artifact nobody pushed can be downloaded, fetched by other
// workers and rolled back to. Level-triggered: whatever active artifact has no bytes here is asked of a worker that has it, again and
// again until it is here.
import type { OnModuleDestroy, OnModuleInit } from '@nestjs/common';
import { Inject, Injectable } from '@nestjs/common';
import { isNull } from 'drizzle-orm';
import { randomUUID } from 'node:crypto';
import { DeploymentJoin } from '../deployments/join.js';
import { artifacts } from '../storage/schema.js';
import { Storage } from '../storage/storage.js';
import type { Log } from '../telemetry/log.js';
import { LOG } from '../telemetry/log.js';
import { Fleet } from '../workers/fleet.js';
import { Admission } from './admission.js';
import type { BlobStore } from './blobs/blob-store.js';
import { BLOB_STORE } from './blobs/blob-store.js';

const FIRST_WAIT_MS = 5_000;
const MAX_WAIT_MS = 10 * 60_000;

@Injectable()
export class Adoption implements OnModuleInit, OnModuleDestroy {
  #running: Promise<void> | undefined;
  #again = false;
  #timer: NodeJS.Timeout | undefined;
  /** Doubles while nobody can hand the bytes over; a change of the fleet is a new hope. */
  #waitMs = FIRST_WAIT_MS;
  #unsubscribe: () => void = () => undefined;
  readonly #closing = new AbortController();

  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'query'>,
    @Inject(BLOB_STORE) private readonly blobs: BlobStore,
    @Inject(Admission) private readonly admission: Pick<Admission, 'admit' | 'drop'>,
    @Inject(DeploymentJoin) private readonly join: Pick<DeploymentJoin, 'look'>,
    @Inject(Fleet) private readonly fleet: Pick<Fleet, 'snapshots' | 'onChange' | 'readArtifact'>,
    @Inject(LOG) private readonly log: Log,
  ) {}

  onModuleInit(): void {
    this.#unsubscribe = this.fleet.onChange(() => {
      this.#waitMs = FIRST_WAIT_MS;
      void this.look();
    });
  }

  async onModuleDestroy(): Promise<void> {
    // A worker that hangs must not hold up a stop.
    this.#closing.abort();
    this.#unsubscribe();
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** One look at a time; one asked for meanwhile follows it. Resolves when none is left, never rejects. */
  look(): Promise<void> {
    this.#again = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #run(): Promise<void> {
    while (this.#again && !this.#closing.signal.aborted) {
      this.#again = false;
      // The rows of what has just joined come first.
      await this.join.look();
      await this.#adoptAll();
    }
  }

  async #adoptAll(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    let left = false;
    try {
      const wanted = await this.storage.query((db) =>
        db.select({ digest: artifacts.digest }).from(artifacts).where(isNull(artifacts.blob)),
      );
      for (const { digest } of wanted) left = !(await this.#adopt(digest)) || left;
    } catch (error) {
      this.log.warn({ err: error }, 'which artifacts have no bytes could not be read');
      left = true;
    }
    if (!left || this.#closing.signal.aborted) return;
    this.#timer = setTimeout(() => void this.look(), this.#waitMs).unref();
    this.#waitMs = Math.min(2 * this.#waitMs, MAX_WAIT_MS);
  }

  async #adopt(digest: string): Promise<boolean> {
    const holders = this.fleet
      .snapshots()
      .filter(({ slots, state }) => state !== 'dead' && slots.some((slot) => slot.artifactDigest === digest));
    for (const { workerId } of holders) {
      if (this.#closing.signal.aborted) return false;
      const upload = randomUUID();
      try {
        const size = await this.blobs.append(
          upload,
          0,
          this.fleet.readArtifact(workerId, digest, this.#closing.signal),
        );
        const source = `worker:${workerId}`;
        await this.admission.admit({
          upload,
          announced: false,
          size,
          digest,
          parent: undefined,
          source,
          actor: source,
        });
        this.log.info(
          { worker: workerId, artifact: digest, size },
          'the artifact a worker came with is here',
        );
        return true;
      } catch (error) {
        this.log.warn({ err: error, worker: workerId, artifact: digest }, 'an artifact could not be adopted');
        await this.admission.drop(upload).catch(() => undefined);
      }
    }
    return false;
  }
}
