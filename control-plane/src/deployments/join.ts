// Makes deployments of what joins: the first worker of a model under its settings makes the row, and the artifact it came with is
// the active one from the start. Level-triggered: every change of the fleet is compared with what is known to be in the database,
// so a lost moment or a database that was away is made up for at the next look.
import type { OnModuleDestroy, OnModuleInit } from '@nestjs/common';
import { Inject, Injectable } from '@nestjs/common';
import type { ArtifactSlot } from '@spotlight/proto';
import { and, eq, sql } from 'drizzle-orm';
import { audit } from '../audit/audit-log.js';
import { invalidArgument, ServiceError } from '../errors/service-error.js';
import { artifacts, deployments } from '../storage/schema.js';
import { isStorable } from '../storage/storable.js';
import type { Transaction } from '../storage/storage.js';
import { Storage } from '../storage/storage.js';
import type { Log } from '../telemetry/log.js';
import { LOG } from '../telemetry/log.js';
import type { WorkerFleet, WorkerSnapshot } from '../workers/api.js';
import { WORKER_FLEET } from '../workers/api.js';
import type { DeploymentKey } from './deployment-id.js';
import { deploymentIds } from './deployment-id.js';
import type { DeploymentRow } from './deployment-rows.js';
import { activate } from './deployment-rows.js';
import { isOf, keyOf } from './deployments.service.js';

const AGAIN_MS = 2_000;
const DIGEST = /^[0-9a-f]{64}$/;
const MAX_SETTINGS = 65_536;

@Injectable()
export class DeploymentJoin implements OnModuleInit, OnModuleDestroy {
  /** Worker -> what has been settled for it; asked again when it comes with something else. */
  readonly #settled = new Map<string, string>();
  #running: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #unsubscribe: () => void = () => undefined;
  #closed = false;

  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'transaction'>,
    @Inject(WORKER_FLEET) private readonly fleet: Pick<WorkerFleet, 'snapshots' | 'onChange'>,
    @Inject(LOG) private readonly log: Log,
  ) {}

  onModuleInit(): void {
    this.#unsubscribe = this.fleet.onChange(() => void this.look());
  }

  async onModuleDestroy(): Promise<void> {
    this.#closed = true;
    this.#unsubscribe();
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** Settles every worker that is here, one after another; resolves when done and never rejects. */
  look(): Promise<void> {
    this.#running = this.#running.then(() => this.#look());
    return this.#running;
  }

  async #look(): Promise<void> {
    const workers = this.fleet.snapshots();
    const here = new Set(workers.map(({ workerId }) => workerId));
    for (const id of this.#settled.keys()) if (!here.has(id)) this.#settled.delete(id);
    for (const worker of workers) {
      const came = JSON.stringify([keyOf(worker), cameWith(worker)?.artifactDigest ?? '']);
      if (this.#closed || this.#settled.get(worker.workerId) === came) continue;
      try {
        await this.settle(worker);
        this.#settled.set(worker.workerId, came);
      } catch (error) {
        this.log.warn({ err: error, worker: worker.workerId }, 'its deployment could not be written yet');
        this.#timer ??= setTimeout(() => {
          this.#timer = undefined;
          void this.look();
        }, AGAIN_MS).unref();
        return;
      }
    }
  }

  /** [async] The deployment of a worker, made when there is none. */
  settle(worker: WorkerSnapshot): Promise<DeploymentRow> {
    const key = keyOf(worker);
    const slot = cameWith(worker);
    return this.storage.transaction(async (db) => {
      const row = await findOrCreate(db, key, worker);
      if (slot === undefined || row.activeArtifact === slot.artifactDigest) return row;
      if (!this.#takes(row, key)) return row;
      return this.#adopt(db, row, slot, worker);
    });
  }

  /** Whether what a worker came with replaces what is active: only while that is no more than what another had come with, and gone. */
  #takes(row: DeploymentRow, key: DeploymentKey): boolean {
    if (row.activeArtifact === null) return true;
    // Also what a rollout has already put on some workers does not count: it has pinned the deployment first.
    if (row.activatedBy !== 'join') return false;
    return !this.fleet
      .snapshots()
      .some((other) => isOf(other, key) && cameWith(other)?.artifactDigest === row.activeArtifact);
  }

  async #adopt(
    db: Transaction,
    row: DeploymentRow,
    slot: ArtifactSlot,
    worker: WorkerSnapshot,
  ): Promise<DeploymentRow> {
    const actor = `worker:${worker.workerId}`;
    try {
      await registerUnread(db, slot, worker, actor);
      return await activate(db, {
        deployment: row.id,
        digest: slot.artifactDigest,
        actor,
        by: 'join',
        reason: 'a worker came with it',
      });
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      this.log.warn(
        { worker: worker.workerId, artifact: slot.artifactDigest, reason: error.message },
        'a worker came with an artifact that is not to be used; start it with another',
      );
      return row;
    }
  }
}

/** What the worker's new requests run under. */
function cameWith(worker: Pick<WorkerSnapshot, 'slots'>): ArtifactSlot | undefined {
  return worker.slots.find((slot) => slot.active && slot.artifactDigest !== '');
}

async function findOrCreate(
  db: Transaction,
  key: DeploymentKey,
  worker: WorkerSnapshot,
): Promise<DeploymentRow> {
  const own = and(
    eq(deployments.modelId, key.modelId),
    eq(deployments.modelFingerprint, key.modelFingerprint),
    eq(deployments.settingsDigest, key.settingsDigest),
  );
  const settings = parseSettings(worker.model.settings);
  for (const id of deploymentIds(key)) {
    const [found] = await db.select().from(deployments).where(own).for('update');
    if (found !== undefined) return found;
    // A replica that has just made the same one, or another of this name, makes this insert nothing.
    const [made] = await db
      .insert(deployments)
      .values({ id, ...key, settings, activatedBy: 'join', generation: sql`nextval('directive_generation')` })
      .onConflictDoNothing()
      .returning();
    if (made === undefined) continue;
    await audit(db, {
      actor: `worker:${worker.workerId}`,
      action: 'deployment.create',
      kind: 'deployment',
      object: id,
      after: { ...key },
      reason: 'its first worker joined',
    });
    return made;
  }
  const [found] = await db.select().from(deployments).where(own).for('update');
  if (found === undefined) throw new Error(`no name is free for a deployment of ${key.modelId}`);
  return found;
}

/** The row of an artifact that so far only its worker has: the bytes follow by artifacts/adopt.js. */
async function registerUnread(
  db: Transaction,
  slot: ArtifactSlot,
  { model }: WorkerSnapshot,
  actor: string,
): Promise<void> {
  const { artifactDigest: digest, encoder, bits } = slot;
  if (!DIGEST.test(digest))
    throw invalidArgument('artifact_digest', 'Its digest is not 64 lower-case hex digits.');
  if (encoder !== 'linear-asym' && encoder !== 'mlp') {
    throw invalidArgument('encoder', `Its encoder "${encoder}" is not one that this server knows.`);
  }
  const [made] = await db
    .insert(artifacts)
    .values({
      digest,
      state: 'draft',
      fingerprint: model.fingerprint,
      encoder,
      bits,
      headDim: model.headDim,
      queryHeads: model.queryHeads,
      kvHeads: model.kvHeads,
      source: actor,
    })
    .onConflictDoNothing()
    .returning();
  if (made === undefined) return;
  await audit(db, {
    actor,
    action: 'artifact.create',
    kind: 'artifact',
    object: digest,
    after: { state: 'draft' },
    reason: 'a worker came with it',
  });
}

/** For people to read; what is no object, or cannot be stored, is left out. */
function parseSettings(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = text.length > MAX_SETTINGS ? null : JSON.parse(text);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
    return isStorableJson(value) ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** Escapes hide from a look at the text, so it is the strings themselves that are looked at. */
function isStorableJson(value: unknown): boolean {
  if (typeof value === 'string') return isStorable(value);
  if (typeof value !== 'object' || value === null) return true;
  return Object.entries(value).every(([name, entry]) => isStorable(name) && isStorableJson(entry));
}
