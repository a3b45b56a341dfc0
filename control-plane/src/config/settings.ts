// Every setting of the control plane in one table: flag `--http-port`, variable SPOTLIGHT_HTTP_PORT, parser, default, help.
// A flag wins over its variable. Secrets are never echoed, and those marked env have no flag: a command line is public on its machine.
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Parser } from './values.js';
import {
  duration,
  host,
  httpUrl,
  integer,
  list,
  number,
  oneOf,
  port,
  postgresUrl,
  secret,
  size,
  storePlace,
  text,
} from './values.js';

export interface Setting<T> {
  readonly parse: Parser<T>;
  /** Text form, so that --help shows what the parser reads; undefined: the setting may be absent. */
  readonly fallback: string | undefined;
  readonly help: string;
  readonly secret?: 'flag' | 'env';
}

function setting<T>(parse: Parser<T>, fallback: string, help: string): Setting<T> & { fallback: string } {
  return { parse, fallback, help };
}

function optional<T>(parse: Parser<T>, help: string): Setting<T> & { fallback: undefined } {
  return { parse, fallback: undefined, help };
}

const dataHome = process.env['XDG_DATA_HOME'] ?? join(homedir(), '.local', 'share');
const minute = 60_000;

export const SETTINGS = {
  tlsCert: optional(text, 'certificate (PEM) of this process; all its ports then speak TLS'),
  tlsKey: optional(text, 'private key (PEM) of --tls-cert'),
  tlsCa: optional(
    text,
    'authority (PEM) of the fleet: workers are dialled by TLS and checked with it, and whoever connects must show a certificate of it',
  ),
  tlsName: optional(text, 'name that certificates of workers carry, where they are dialled by address'),
  host: setting(host, '127.0.0.1', 'address both doors bind; any but loopback demands API keys'),
  httpPort: setting(port, '8080', 'port of the OpenAI and admin HTTP API; 0 picks a free one'),
  grpcPort: setting(port, '50051', 'port of the gRPC API, where workers join as well; 0 picks a free one'),
  data: setting(text, join(dataHome, 'spotlight'), 'folder of the embedded database and of artifacts'),
  databaseUrl: {
    ...optional(postgresUrl, 'Postgres 15 or newer instead of the embedded database'),
    secret: 'flag',
  },
  databasePool: setting(integer(1, 100), '8', 'connections to Postgres; the embedded database has one'),
  artifactStore: optional(
    storePlace,
    'folder or s3://BUCKET/PREFIX of hash artifacts, shared by all replicas; without it "artifacts" in --data',
  ),
  s3Endpoint: optional(httpUrl, "an S3 server other than AWS's; region and credentials are AWS_* variables"),
  maxArtifact: setting(size(1024, 2 ** 40), '4GiB', 'largest hash artifact taken'),
  auth: setting(
    oneOf('auto', 'required'),
    'auto',
    'auto: keys are demanded unless the host is loopback; required: always',
  ),
  adminKey: {
    ...optional(secret(16), 'an admin key of your own; without it the first start prints one'),
    secret: 'env',
  },
  joinTokens: {
    ...setting(
      list(16),
      '',
      'tokens a worker may join with, comma-separated; a key of scope worker does too',
    ),
    secret: 'env',
  },
  requestTimeout: setting(
    duration(100, 1440 * minute),
    '10m',
    'longest time for one request, waiting included',
  ),
  maxRequests: setting(
    integer(1, 1_000_000),
    '1024',
    'requests admitted at once; more get 503 with Retry-After',
  ),
  maxRequestsPerKey: setting(
    integer(1, 1_000_000),
    '256',
    'requests one API key may have under way; more get 429 with Retry-After',
  ),
  maxBody: setting(size(1024, 2 ** 30), '64MiB', 'largest request body'),
  drainTimeout: setting(
    duration(0, 60 * minute),
    '30s',
    'time that running requests get to finish when the server is stopped',
  ),
  replayLimit: setting(
    integer(0, 100),
    '3',
    'times a stream that has lost its worker is continued on another; then it ends with worker_lost',
  ),
  replayMaxTokens: setting(
    integer(0, 10_000_000),
    '65536',
    'tokens a request may have generated and still be continued elsewhere: they are kept, and run again there',
  ),
  hedgeAfter: setting(
    duration(0, 10 * minute),
    '5s',
    'age of the last step after which requests that wait for a worker go to another; 0s never, else at least two report intervals',
  ),
  reportInterval: setting(duration(50, minute), '1s', 'how often workers report'),
  leaseTimeout: setting(
    duration(200, 10 * minute),
    '10s',
    'silence after which a worker counts as lost; at least three report intervals',
  ),
  rolloutInterval: setting(
    duration(20, minute),
    '1s',
    'how often rollouts are looked after, and workers told what has changed',
  ),
  routeQueueWeight: setting(number(0, 100), '2', 'routing weight of a short queue'),
  routeBlocksWeight: setting(number(0, 100), '1', 'routing weight of free cache blocks'),
  routePrefixWeight: setting(number(0, 100), '3', 'routing weight of a prompt prefix the worker has seen'),
  routeSessionWeight: setting(number(0, 100), '2', "routing weight of the session's own worker"),
  routeImbalance: setting(
    integer(0, 100_000),
    '8',
    'requests a worker may be ahead of the least loaded one before affinity yields',
  ),
  routePrefixEntries: setting(
    integer(1024, 10_000_000),
    '131072',
    'prompt chunks the prefix index remembers, about 200 bytes each',
  ),
  logLevel: setting(
    oneOf('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'),
    'info',
    'least severe log line written',
  ),
} as const satisfies Readonly<Record<string, Setting<unknown>>>;

export type SettingName = keyof typeof SETTINGS;

/** `httpPort` -> `http-port`: the flag without its dashes. */
export function flagOf(name: SettingName): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `httpPort` -> `SPOTLIGHT_HTTP_PORT`. */
export function variableOf(name: SettingName): string {
  return `SPOTLIGHT_${flagOf(name).replaceAll('-', '_').toUpperCase()}`;
}

export const SETTING_NAMES = Object.freeze(Object.keys(SETTINGS) as SettingName[]);
