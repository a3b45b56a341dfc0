// Every table, once. `npm run migrations -w control-plane -- NAME` writes the SQL for a change; the same files run on PGlite and
// on Postgres 15, so nothing newer than 15 may appear here. Times carry zones; ids are text that people can read in a log.
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  jsonb,
  pgSequence,
  pgTable,
  primaryKey,
  text,
  timestamp,
} from 'drizzle-orm/pg-core';

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
});

/** Facts of the installation, one a row, such as whether the first admin key has been shown. */
export const settings = pgTable('settings', {
  name: text('name').primaryKey(),
  value: jsonb('value').$type<unknown>().notNull(),
  updated: moment('updated').notNull().defaultNow(),
});
