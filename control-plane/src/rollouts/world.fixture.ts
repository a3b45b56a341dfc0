// A whole fleet in one process for tests of the controller: workers that obey directives as real ones do (level-triggered, lower
// generations ignored, an artifact ready some steps after it was named), requests routed by the real canary, and a real database. Time
// is turned by hand: a step is a moment of the workers and some requests. Messages can be lost and replicas killed between any writes.
import { ArtifactSlot, ArtifactStats, Directive, ModelDescription, SlotState } from '@spotlight/proto';
import { eq } from 'drizzle-orm';
import { pino } from 'pino';
import { artifactRow } from '../artifacts/artifact-row.fixture.js';
import { worker as snapshot } from '../routing/snapshot.fixture.js';
import { artifacts, deployments, rolloutEvents, rollouts, workers as workerRows } from '../storage/schema.js';
import type { Storage } from '../storage/storage.js';
import type { WorkerSnapshot } from '../workers/api.js';
import { DesiredState } from '../workers/desired-state.js';
import type { WorkerDetail } from '../workers/fleet.js';
import { LiveRollouts } from './live-rollouts.js';
import { Reconciler } from './reconciler.js';
import { BOUNDS } from './rollout.fixture.js';
import type { RolloutRow } from './rollout-rows.js';
import { findRollout } from './rollout-rows.js';
import { RolloutViews } from './rollout-view.js';
import { RolloutWorkers } from './rollout-workers.js';
import { PLAN } from './rollout.js';
import { RolloutsService } from './rollouts.service.js';

const log = pino({ level: 'silent' });

/** How requests fare under an artifact. */
export interface Quality {
  readonly kept: number;
  /** Of the requests, failed. */
  readonly failing: number;
}
const GOOD: Quality = { kept: 0.9, failing: 0 };

export type WorldStorage = Pick<Storage, 'query' | 'transaction'>;

export class SimWorker {
  readonly counted = new Map<string, ReturnType<typeof ArtifactStats.fromPartial>>();
  /** Steps until each artifact is ready here. */
  readonly #loading = new Map<string, number>();
  #seen = 0n;
  #wanted: Directive = Directive.fromPartial({});
  #inForce = 0n;
  active: string;
  startedMs = Date.now();
  /** Says so instead of loading it. */
  refuses: string | undefined;
  /** Its join stream is broken. */
  away = false;
  /** Every artifact that new requests ever ran under, in order. */
  readonly history: string[] = [];

  constructor(
    readonly id: string,
    readonly modelId: string,
    private readonly came: string,
    private readonly loadSteps: number,
  ) {
    this.active = came;
    this.#loading.set(came, 0);
  }

  direct(directive: Directive): void {
    if (directive.generation < this.#seen) return;
    this.#seen = directive.generation;
    this.#wanted = directive;
    this.#reconcile();
  }

  /** A new process: what it holds is what it was started with. */
  restart(): void {
    this.#loading.clear();
    this.#loading.set(this.came, 0);
    this.active = this.came;
    this.#seen = 0n;
    this.#inForce = 0n;
    this.#wanted = Directive.fromPartial({});
    this.counted.clear();
    this.startedMs = Date.now();
  }

  step(): void {
    for (const [digest, left] of this.#loading) this.#loading.set(digest, Math.max(0, left - 1));
    this.#reconcile();
  }

  holds(digest: string): boolean {
    return this.#loading.get(digest) === 0;
  }

  get names(): string[] {
    return [...this.#loading.keys()];
  }

  count(digest: string, { kept, failing }: Quality, draw: number): void {
    const before = this.counted.get(digest) ?? ArtifactStats.fromPartial({ artifactDigest: digest });
    const failed = draw < failing;
    const histogram = (counts: readonly bigint[] | undefined): { bounds: number[]; counts: bigint[] } => ({
      bounds: BOUNDS,
      counts: [...BOUNDS, 0].map((_, i) => (counts?.[i] ?? 0n) + (i === 1 ? 1n : 0n)),
    });
    this.counted.set(
      digest,
      ArtifactStats.fromPartial({
        artifactDigest: digest,
        requestsFinished: before.requestsFinished + (failed ? 0n : 1n),
        requestsFailed: before.requestsFailed + (failed ? 1n : 0n),
        timeToFirstToken: histogram(before.timeToFirstToken?.counts),
        interToken: histogram(before.interToken?.counts),
        qualitySamples: before.qualitySamples + 10n,
        keptMassSum: before.keptMassSum + 10 * kept,
        iouSum: before.iouSum + 4,
      }),
    );
  }

  get detail(): WorkerDetail {
    return {
      message: '',
      generation: this.#inForce,
      stats: [...this.counted.values()],
      startedUnixMs: this.startedMs,
    };
  }

  get snapshot(): WorkerSnapshot {
    const slots = [...this.#loading].map(([artifactDigest, left], slot) =>
      ArtifactSlot.fromPartial({
        slot,
        artifactDigest,
        active: artifactDigest === this.active,
        state: left === 0 ? SlotState.READY : SlotState.REHASHING,
      }),
    );
    if (this.refuses !== undefined && this.#wants(this.refuses)) {
      const message = 'it is broken';
      slots.push(ArtifactSlot.fromPartial({ state: SlotState.FAILED, pendingDigest: this.refuses, message }));
    }
    const model = { id: this.modelId, fingerprint: 'f1', settingsDigest: 's1', backend: 'spotlight' };
    return snapshot(this.id, {}, { model: ModelDescription.fromPartial(model), slots });
  }

  #wants(digest: string): boolean {
    return this.#wanted.slots.some((slot) => slot.artifactDigest === digest);
  }

  #reconcile(): void {
    const { slots, generation } = this.#wanted;
    for (const { artifactDigest } of slots) {
      if (!this.#loading.has(artifactDigest) && artifactDigest !== this.refuses)
        this.#loading.set(artifactDigest, this.loadSteps);
    }
    const active = slots.find((slot) => slot.active)?.artifactDigest;
    if (active !== undefined && this.holds(active)) this.active = active;
    if (slots.length > 0) {
      for (const digest of this.names)
        if (!this.#wants(digest) && digest !== this.active) this.#loading.delete(digest);
    }
    const done = slots.every(
      (slot) => this.holds(slot.artifactDigest) && slot.active === (slot.artifactDigest === this.active),
    );
    if (done) this.#inForce = generation;
  }
}

/** One control plane's worth of objects; a kill is to drop it and make another. */
export class Replica {
  readonly live: LiveRollouts;
  readonly service: RolloutsService;
  readonly views: RolloutViews;
  readonly #reconciler: Reconciler;
  readonly #desired: DesiredState;
  leads = true;

  constructor(
    storage: WorldStorage,
    private readonly world: World,
  ) {
    const fleet = {
      snapshots: () => world.here.map((worker) => worker.snapshot),
      detail: (id: string) => world.here.find((worker) => worker.id === id)?.detail,
      direct: (id: string, directive: Directive) => {
        if (!world.loses()) world.here.find((worker) => worker.id === id)?.direct(directive);
      },
    };
    const seen = new RolloutWorkers(fleet);
    const registry = { flush: () => world.flush() };
    this.live = new LiveRollouts(storage, fleet);
    this.#reconciler = new Reconciler(storage, registry, seen, log);
    this.#desired = new DesiredState(storage, registry, fleet, { reportInterval: 1 });
    this.service = new RolloutsService(storage, { beat: () => Promise.resolve() });
    this.views = new RolloutViews(storage, seen);
  }

  /** As the loop does, but what fails is the test's affair. */
  async beat(): Promise<void> {
    if (this.leads) await this.#reconciler.look();
    await this.live.refresh();
    await this.#desired.refresh();
  }

  greet(id: string): Promise<void> {
    return this.#desired.greet(id);
  }

  pin(requestId: string): string {
    return this.live.pin(this.world.modelId, requestId, {}).digest;
  }
}

let worlds = 0;

export class World {
  readonly modelId: string;
  readonly stable: string;
  readonly candidate: string;
  readonly workers: SimWorker[];
  readonly quality = new Map<string, Quality>();
  /** Of the directives sent. */
  lossy = 0;
  #draws = 0;
  #requests = 0;

  private constructor(
    readonly storage: Storage,
    workers: number,
    loadSteps: number,
  ) {
    worlds += 1;
    this.modelId = `world-${worlds}`;
    this.stable = digestOf(2 * worlds);
    this.candidate = digestOf(2 * worlds + 1);
    this.workers = Array.from(
      { length: workers },
      (_, i) => new SimWorker(`${this.modelId}-w${i}`, this.modelId, this.stable, loadSteps),
    );
  }

  static async make(storage: Storage, workers = 2, loadSteps = 2): Promise<World> {
    const world = new World(storage, workers, loadSteps);
    const { modelId, stable, candidate } = world;
    await storage.transaction(async (db) => {
      await db.insert(artifacts).values([artifactRow(stable, { state: 'active' }), artifactRow(candidate)]);
      await db.insert(deployments).values({
        id: modelId,
        modelId,
        modelFingerprint: 'f1',
        settingsDigest: 's1',
        activeArtifact: stable,
        activatedBy: 'join',
        generation: 1n,
      });
    });
    return world;
  }

  get here(): SimWorker[] {
    return this.workers.filter((worker) => !worker.away);
  }

  replica(storage: WorldStorage = this.storage): Replica {
    return new Replica(storage, this);
  }

  /** Rows of workers, as the registry writes them behind. */
  async flush(): Promise<void> {
    await this.storage.query((db) =>
      db
        .insert(workerRows)
        .values(
          this.workers.map(({ id, modelId }) => ({
            id,
            modelId,
            address: 'h:1',
            modelFingerprint: 'f1',
            device: 'cpu',
            version: '1',
            state: 'ready',
          })),
        )
        .onConflictDoNothing(),
    );
  }

  loses(): boolean {
    return this.draw() < this.lossy;
  }

  /** A moment of every worker, then requests, one worker after the other. */
  step(replica: Replica, requests = 20): void {
    for (const worker of this.workers) worker.step();
    for (let i = 0; i < requests; i++) {
      this.#requests += 1;
      const pinned = replica.pin(`${this.modelId}-r${this.#requests}`);
      const able = this.here.filter((worker) => pinned === '' || worker.holds(pinned));
      const worker = able[this.#requests % Math.max(1, able.length)];
      if (worker === undefined) throw new Error('a request found no worker');
      const digest = pinned === '' ? worker.active : pinned;
      worker.history.push(digest);
      worker.count(digest, this.quality.get(digest) ?? GOOD, this.draw());
    }
  }

  /** The same numbers every run. */
  draw(): number {
    this.#draws += 1;
    return ((this.#draws * 2654435761) % 2 ** 32) / 2 ** 32;
  }

  start(replica: Replica, plan: Record<string, unknown> = {}): Promise<string> {
    return replica.service.start({
      deployment: this.modelId,
      artifact: this.candidate,
      plan: PLAN.parse({
        share: 0.5,
        waves: [0.5, 1],
        holdMs: 0,
        gates: { minRequests: 20, minQualitySamples: 50 },
        ...plan,
      }),
      force: false,
      actor: 'tester',
      reason: '',
    });
  }

  row(id: string): Promise<RolloutRow> {
    return this.storage.query((db) => findRollout(db, id));
  }

  async active(): Promise<string | null> {
    const [row] = await this.storage.query((db) =>
      db.select().from(deployments).where(eq(deployments.id, this.modelId)),
    );
    return row?.activeArtifact ?? null;
  }

  /** Removes its rows, so that the next world's looks do not see them. */
  async bury(): Promise<void> {
    await this.storage.transaction(async (db) => {
      const own = await db
        .select({ id: rollouts.id })
        .from(rollouts)
        .where(eq(rollouts.deploymentId, this.modelId));
      for (const { id } of own) await db.delete(rolloutEvents).where(eq(rolloutEvents.rolloutId, id));
      await db.delete(rollouts).where(eq(rollouts.deploymentId, this.modelId));
      await db.delete(deployments).where(eq(deployments.id, this.modelId));
      await db.delete(workerRows).where(eq(workerRows.modelId, this.modelId));
    });
  }
}

function digestOf(n: number): string {
  return n.toString(16).padStart(64, '0');
}
