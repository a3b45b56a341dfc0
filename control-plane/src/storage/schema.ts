// Every table, once. `npm run migrations -w control-plane -- NAME` writes the SQL for a change; the same files run on PGlite and
// on Postgres 15, so nothing newer than 15 may appear here. Times carry zones; ids are text that people can read in a log.
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  index,
  integer,
  jsonb,
  pgSequence,
  pgTable,
  primaryKey,
  real,
  text,
  timestamp,
  unique,
  uniqueIndex,
} from 'drizzle-orm/pg-core';
import type { Mark } from '../rollouts/counters.js';
import type { Reading } from '../rollouts/gates.js';
import type { Outcome, Phase, Plan } from '../rollouts/rollout.js';

const moment = (name: string): ReturnType<typeof timestamp<string, 'date'>> =>
  timestamp(name, { withTimezone: true, mode: 'date' });

/** Numbers of a ModelDescription that say what the model is, kept for the console and for later fingerprint checks. */
export interface ModelDims {
  readonly architecture: string;
  readonly layers: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  readonly maxModelLen: number;
}

/** Models any worker has ever served. One id under two fingerprints is two rows. */
export const models = pgTable(
  'models',
  {
    id: text('id').notNull(),
    fingerprint: text('fingerprint').notNull(),
    dims: jsonb('dims').$type<ModelDims>().notNull(),
    source: text('source').notNull(),
    firstSeen: moment('first_seen').notNull().defaultNow(),
    lastSeen: moment('last_seen').notNull().defaultNow(),
  },
  (table) => [primaryKey({ columns: [table.id, table.fingerprint] })],
);

/** An artifact a worker should hold; new requests that pin nothing run under the active one. */
export interface DesiredArtifact {
  readonly digest: string;
  readonly active: boolean;
}

/** Workers seen, and the desired state that outlives a restart of either side. */
export const workers = pgTable('workers', {
  id: text('id').primaryKey(),
  address: text('address').notNull(),
  modelId: text('model_id').notNull(),
  modelFingerprint: text('model_fingerprint').notNull(),
  device: text('device').notNull(),
  version: text('version').notNull(),
  /** As last reported, or `lost` after the lease ended. */
  state: text('state').notNull(),
  firstSeen: moment('first_seen').notNull().defaultNow(),
  lastSeen: moment('last_seen').notNull().defaultNow(),
  drain: boolean('drain').notNull().default(false),
  /** The artifacts to hold, at most two; none leaves the worker with what it came with. */
  slots: jsonb('slots').$type<readonly DesiredArtifact[]>().notNull().default([]),
  /** Of the directive that carries this desired state; drawn from directive_generation at each change. */
  generation: bigint('generation', { mode: 'bigint' })
    .notNull()
    .default(sql`0`),
});

export const directiveGeneration = pgSequence('directive_generation', { startWith: 1 });

/** API keys: the key itself is never stored, only its SHA-256 (256 random bits need no slow hash). */
export const apiKeys = pgTable('api_keys', {
  id: text('id').primaryKey(),
  /** The key's public part, for lookup and for telling keys apart in a list. */
  prefix: text('prefix').notNull().unique(),
  hash: text('hash').notNull(),
  name: text('name').notNull(),
  scopes: text('scopes').array().notNull(),
  created: moment('created').notNull().defaultNow(),
  lastUsed: moment('last_used'),
  revoked: moment('revoked'),
  /** Good until then; null: until revoked. */
  expires: moment('expires'),
  /** Limits over all replicas; null: none. */
  requestsPerMinute: integer('requests_per_minute'),
  tokensPerMinute: bigint('tokens_per_minute', { mode: 'number' }),
  concurrentRequests: integer('concurrent_requests'),
  /** Prompt and generated tokens in the key's life. */
  tokenBudget: bigint('token_budget', { mode: 'number' }),
});

/** What a key has used, by minute of the epoch; minute 0 is its whole life. Requests are counted when a replica leases them. */
export const keyUsage = pgTable(
  'key_usage',
  {
    keyId: text('key_id').notNull(),
    kind: text('kind').$type<'requests' | 'tokens'>().notNull(),
    minute: integer('minute').notNull(),
    used: bigint('used', { mode: 'number' }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.keyId, table.kind, table.minute] })],
);

/** Requests of a key that a replica may have under way, until its lease ends. */
export const keySlots = pgTable(
  'key_slots',
  {
    keyId: text('key_id').notNull(),
    /** The replica's process. */
    holder: text('holder').notNull(),
    slots: integer('slots').notNull(),
    expires: moment('expires').notNull(),
  },
  (table) => [primaryKey({ columns: [table.keyId, table.holder] })],
);

/** Facts of the installation, one a row, such as whether the first admin key has been shown. */
export const settings = pgTable('settings', {
  name: text('name').primaryKey(),
  value: jsonb('value').$type<unknown>().notNull(),
  updated: moment('updated').notNull().defaultNow(),
});

/** `rejected` is a draft that failed its validation; artifacts/states.ts holds the moves between them. */
export type ArtifactState = 'draft' | 'validated' | 'active' | 'retired' | 'rejected';

/** What a worker measured of an artifact on its built-in text. Shares in [0, 1]. */
export interface ArtifactQuality {
  readonly iou: number;
  readonly keptMass: number;
  readonly layers: readonly { readonly layer: number; readonly iou: number; readonly keptMass: number }[];
  readonly workerId: string;
  readonly device: string;
  /** Digest of the attention settings it was measured under. */
  readonly settingsDigest: string;
  /** ISO 8601. */
  readonly at: string;
  /** The bar it did not reach, when an operator forced it through. */
  readonly forcedOver?: string;
}

/** Hash artifacts by the SHA-256 of their bytes. What a worker came with is known before its bytes are: then the nullable ones are null. */
export const artifacts = pgTable(
  'artifacts',
  {
    digest: text('digest').primaryKey(),
    state: text('state').$type<ArtifactState>().notNull(),
    /** Why it was rejected or retired; empty otherwise. */
    reason: text('reason').notNull().default(''),
    /** Of the model it was made for. */
    fingerprint: text('fingerprint').notNull(),
    encoder: text('encoder').$type<'linear-asym' | 'mlp'>().notNull(),
    /** Of a key code. */
    bits: integer('bits').notNull(),
    headDim: integer('head_dim').notNull(),
    queryHeads: integer('query_heads').notNull(),
    kvHeads: integer('kv_heads').notNull(),
    /** Layers that carry codes, ascending; the others attend densely. */
    layers: integer('layers').array(),
    /** Every metadata entry of the file, as text. */
    metadata: jsonb('metadata').$type<Readonly<Record<string, string>>>(),
    /** Bytes. */
    size: bigint('size', { mode: 'number' }),
    /** Where the blob store has the bytes: a name of its own for each registration, so that a delete cannot meet a new push. */
    blob: text('blob'),
    /** Lineage: the artifact it was trained on from, which need not be here, and who handed it in: `upload`, `worker:ID`, `job:ID`. */
    parent: text('parent'),
    source: text('source').notNull(),
    quality: jsonb('quality').$type<ArtifactQuality>(),
    created: moment('created').notNull().defaultNow(),
    changed: moment('changed').notNull().defaultNow(),
  },
  (table) => [index('artifacts_fingerprint').on(table.fingerprint)],
);

/** Uploads under way. How far one has come is what the blob store holds of it; a row only says that somebody still cares. */
export const artifactUploads = pgTable('artifact_uploads', {
  id: text('id').primaryKey(),
  /** Bytes announced. */
  size: bigint('size', { mode: 'number' }).notNull(),
  /** Announced digest, checked at the end. */
  digest: text('digest'),
  parent: text('parent'),
  source: text('source').notNull(),
  created: moment('created').notNull().defaultNow(),
  touched: moment('touched').notNull().defaultNow(),
});

/** A model under one set of attention settings: what a rollout changes the artifact of. Made when its first worker joins. */
export const deployments = pgTable(
  'deployments',
  {
    id: text('id').primaryKey(),
    description: text('description').notNull().default(''),
    modelId: text('model_id').notNull(),
    modelFingerprint: text('model_fingerprint').notNull(),
    settingsDigest: text('settings_digest').notNull(),
    /** The settings themselves; null while only workers that do not tell them have joined. */
    settings: jsonb('settings').$type<Readonly<Record<string, unknown>>>(),
    /** Digest of what new requests are answered with; null serves densely. */
    activeArtifact: text('active_artifact').references(() => artifacts.digest),
    /** `join` while the artifact is what workers came with; a rollout's or an operator's choice outlives their flags. */
    activatedBy: text('activated_by').$type<'join' | 'rollout' | 'operator'>().notNull(),
    /** Drawn from directive_generation at each change of what workers should be. */
    generation: bigint('generation', { mode: 'bigint' }).notNull(),
    /** Least share of the active artifact's measured quality that validation asks of another, in (0, 1]. */
    leastQuality: real('least_quality').notNull().default(0.8),
    created: moment('created').notNull().defaultNow(),
    changed: moment('changed').notNull().defaultNow(),
  },
  (table) => [unique('deployments_of').on(table.modelId, table.modelFingerprint, table.settingsDigest)],
);

/** Who changed what, written in the transaction of the change. The migration's trigger lets nobody change or remove a row. */
export const auditLog = pgTable(
  'audit_log',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    at: moment('at').notNull().defaultNow(),
    /** Id of the key, `local` for the operator of a server without keys, `worker:ID`, or `rollout:ID`. */
    actor: text('actor').notNull(),
    /** Such as `artifact.retire`. */
    action: text('action').notNull(),
    /** Kind and id of what was changed: `artifact`, digest. */
    kind: text('kind').notNull(),
    object: text('object').notNull(),
    before: jsonb('before').$type<Readonly<Record<string, unknown>>>(),
    after: jsonb('after').$type<Readonly<Record<string, unknown>>>(),
    /** Why, in words; empty when nobody said. */
    reason: text('reason').notNull().default(''),
  },
  (table) => [index('audit_log_object').on(table.kind, table.object)],
);

/** Changes of a deployment's artifact under way and past; rollouts/decide.ts holds the moves between phases. */
export const rollouts = pgTable(
  'rollouts',
  {
    id: text('id').primaryKey(),
    deploymentId: text('deployment_id')
      .notNull()
      .references(() => deployments.id),
    /** Digest it began from, and goes back to. */
    stable: text('stable').notNull(),
    candidate: text('candidate').notNull(),
    phase: text('phase').$type<Phase>().notNull(),
    paused: boolean('paused').notNull().default(false),
    /** To go through to the end without gates and waiting. */
    forced: boolean('forced').notNull().default(false),
    /** Index into the plan's waves. */
    wave: integer('wave').notNull().default(0),
    plan: jsonb('plan').$type<Plan>().notNull(),
    /** How it is to end, once it is taken back. */
    outcome: text('outcome').$type<Outcome>(),
    /** Why it is taken back or ended; empty otherwise. */
    reason: text('reason').notNull().default(''),
    /** Counts the changes of the row: who writes names the one it has read, so that of two writers one loses. */
    version: integer('version').notNull().default(0),
    phaseStarted: moment('phase_started').notNull(),
    heldSince: moment('held_since'),
    /** The workers' counters when the hold began, and when the canary's did. */
    mark: jsonb('mark').$type<Mark>(),
    origin: jsonb('origin').$type<Mark>(),
    createdBy: text('created_by').notNull(),
    created: moment('created').notNull().defaultNow(),
    changed: moment('changed').notNull().defaultNow(),
  },
  (table) => [
    uniqueIndex('rollouts_one_a_deployment')
      .on(table.deploymentId)
      .where(sql`${table.phase} in ('staging', 'canary', 'waves', 'rolling_back')`),
    index('rollouts_created').on(table.created),
  ],
);

/** What happened to a rollout, in order: one row a move, written in its transaction. */
export const rolloutEvents = pgTable(
  'rollout_events',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    rolloutId: text('rollout_id')
      .notNull()
      .references(() => rollouts.id),
    at: moment('at').notNull(),
    /** Such as `canary`, `pause`, `roll_back`. */
    kind: text('kind').notNull(),
    phase: text('phase').$type<Phase>().notNull(),
    wave: integer('wave').notNull(),
    actor: text('actor').notNull(),
    reason: text('reason').notNull().default(''),
    /** What the gates said at the move. */
    readings: jsonb('readings').$type<readonly Reading[]>().notNull().default([]),
  },
  (table) => [index('rollout_events_of').on(table.rolloutId, table.id)],
);
