// The admin API's answers and paging as schemas: the OpenAPI document is made of them, and tests hold real answers against them.
import { z } from 'zod';
import { ARTIFACT_STATES } from '../artifacts/states.js';

const moment = z.iso.datetime();
const digest = z.string().regex(/^[0-9a-f]{64}$/);
const record = z.record(z.string(), z.unknown());

export const DIGEST = digest;
export const STATE = z.enum(ARTIFACT_STATES);

/** Of a list's query: how many to a page. */
export const LIMIT = z.coerce.number().int().min(1).max(1000).default(100);

const QUALITY = z.strictObject({
  iou: z.number(),
  keptMass: z.number(),
  layers: z.array(z.strictObject({ layer: z.number(), iou: z.number(), keptMass: z.number() })),
  workerId: z.string(),
  device: z.string(),
  settingsDigest: z.string(),
  at: moment,
  forcedOver: z.string().optional(),
});

export const ARTIFACT = z.strictObject({
  digest,
  state: STATE,
  reason: z.string(),
  encoder: z.string(),
  bits: z.number(),
  headDim: z.number(),
  queryHeads: z.number(),
  kvHeads: z.number(),
  layers: z.array(z.number()).nullable(),
  fingerprint: z.string(),
  size: z.number().nullable(),
  parent: z.string().nullable(),
  source: z.string(),
  quality: QUALITY.nullable(),
  metadata: z.record(z.string(), z.string()).nullable(),
  deployments: z.array(z.string()),
  created: moment,
  changed: moment,
});

export const ADMITTED = z.strictObject({ created: z.boolean(), artifact: ARTIFACT });

export const VERDICT = z.strictObject({
  passed: z.boolean(),
  reason: z.string(),
  deployment: z.string(),
  baseline: QUALITY.nullable(),
  artifact: ARTIFACT,
});

export const UPLOAD = z.strictObject({
  id: z.string(),
  size: z.number(),
  offset: z.number(),
  digest: digest.nullable(),
  created: moment,
});

export const DEPLOYMENT = z.strictObject({
  id: z.string(),
  description: z.string(),
  model: z.string(),
  fingerprint: z.string(),
  settingsDigest: z.string(),
  settings: record.nullable(),
  activeArtifact: z.string().nullable(),
  activatedBy: z.enum(['join', 'rollout', 'operator']),
  generation: z.number(),
  leastQuality: z.number(),
  workers: z.number(),
  created: moment,
  changed: moment,
});

export const AUDIT_ENTRY = z.strictObject({
  id: z.number(),
  at: moment,
  actor: z.string(),
  action: z.string(),
  kind: z.string(),
  object: z.string(),
  before: record.nullable(),
  after: record.nullable(),
  reason: z.string(),
});

const most = (limit: number): z.ZodNullable<z.ZodInt> => z.int().min(1).max(limit).nullable();

/** Over all replicas; null: no limit. */
export const KEY_LIMITS = z.strictObject({
  requestsPerMinute: most(2 ** 31 - 1),
  tokensPerMinute: most(Number.MAX_SAFE_INTEGER),
  concurrentRequests: most(2 ** 31 - 1),
  tokenBudget: most(Number.MAX_SAFE_INTEGER),
});

export const KEY = z.strictObject({
  id: z.string(),
  prefix: z.string(),
  name: z.string(),
  scopes: z.array(z.string()),
  created: moment,
  lastUsed: moment.nullable(),
  expires: moment.nullable(),
  limits: KEY_LIMITS,
});

export const MODEL = z.strictObject({
  id: z.string(),
  fingerprint: z.string(),
  dims: record,
  source: z.string(),
  firstSeen: moment,
  lastSeen: moment,
  workers: z.number(),
  backend: z.string().nullable(),
  artifactDigest: z.string().nullable(),
});

export const WORKER = z.object({
  id: z.string(),
  state: z.string(),
  message: z.string(),
  address: z.string(),
  model: z.string(),
  fingerprint: z.string(),
  device: z.string(),
  version: z.string(),
  firstSeen: moment,
  lastSeen: moment,
  drain: z.boolean(),
  generation: z.object({ inForce: z.number().nullable(), desired: z.number() }),
  live: record.nullable(),
});
