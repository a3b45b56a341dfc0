// `spotlight key create|list|limit|revoke`: API keys, their limits and workers' join tokens on a running server. A key is printed once,
// when it is made.
import type { Command } from 'commander';
import { Option } from 'commander';
import type { KeyInfo } from '../auth/key-store.js';
import type { KeyLimits } from '../auth/limits.js';
import { SCOPES } from '../auth/scopes.js';
import type { AdminFlags } from './admin-client.js';
import { addAdminOptions, AdminClient } from './admin-client.js';
import { CliError, EXIT } from './cli-error.js';
import { printRows, printTable } from './table.js';

/** As JSON has it. */
type Key = Omit<KeyInfo, 'created' | 'lastUsed' | 'expires'> & {
  readonly created: string;
  readonly lastUsed: string | null;
  readonly expires: string | null;
};

interface Flags extends AdminFlags {
  readonly json?: true;
}
interface TermFlags extends Flags {
  readonly requestsPerMinute?: number | null;
  readonly tokensPerMinute?: number | null;
  readonly concurrent?: number | null;
  readonly budget?: number | null;
  readonly expires?: string | null;
}
interface CreateFlags extends TermFlags {
  readonly scope: readonly string[];
}

const UNITS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A whole number from 1 on; `none` takes a limit away. */
export function parseLimit(text: string): number | null {
  if (text === 'none') return null;
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || !Number.isSafeInteger(value)) {
    throw new CliError(`"${text}" is no limit: give a whole number from 1 on, or none.`, EXIT.usage);
  }
  return value;
}

/** `90m`, `12h` or `30d` from now, a date, or `never`; as RFC 3339. */
export function parseEnd(text: string, now = Date.now()): string | null {
  if (text === 'never') return null;
  const span = /^(\d+)([mhd])$/.exec(text);
  const at = span === null ? Date.parse(text) : now + Number(span[1]) * (UNITS[span[2] ?? ''] ?? Number.NaN);
  if (!Number.isFinite(at) || at <= now || at > 8.64e15) {
    throw new CliError(`--expires "${text}" must be 90m, 12h, 30d, a date to come, or never.`, EXIT.usage);
  }
  return new Date(at).toISOString();
}

function terms(flags: TermFlags): { limits: Partial<KeyLimits>; expires?: string | null } {
  const { requestsPerMinute, tokensPerMinute, concurrent, budget, expires } = flags;
  return {
    limits: {
      ...(requestsPerMinute === undefined ? {} : { requestsPerMinute }),
      ...(tokensPerMinute === undefined ? {} : { tokensPerMinute }),
      ...(concurrent === undefined ? {} : { concurrentRequests: concurrent }),
      ...(budget === undefined ? {} : { tokenBudget: budget }),
    },
    ...(expires === undefined ? {} : { expires }),
  };
}

function limitsText({
  requestsPerMinute,
  tokensPerMinute,
  concurrentRequests,
  tokenBudget,
}: KeyLimits): string {
  const parts = [
    [requestsPerMinute, 'requests/min'],
    [tokensPerMinute, 'tokens/min'],
    [concurrentRequests, 'at once'],
    [tokenBudget, 'tokens in all'],
  ] as const;
  const given = parts.flatMap(([limit, unit]) => (limit === null ? [] : [`${limit} ${unit}`]));
  return given.length === 0 ? 'none' : given.join(', ');
}

function show(key: Key & { readonly key?: string }, json: true | undefined): void {
  if (json) {
    process.stdout.write(`${JSON.stringify(key)}\n`);
    return;
  }
  printRows([
    ...(key.key === undefined ? [] : ([['key', key.key]] as const)),
    ['id', key.id],
    ['name', key.name],
    ['scopes', key.scopes.join(' ')],
    ['limits', limitsText(key.limits)],
    ['expires', key.expires ?? 'never'],
  ]);
}

function addTerms(command: Command): Command {
  return command
    .option('--requests-per-minute <n>', 'requests a minute, over all replicas; none: no limit', parseLimit)
    .option('--tokens-per-minute <n>', 'prompt and generated tokens a minute', parseLimit)
    .option('--concurrent <n>', 'requests under way at once', parseLimit)
    .option('--budget <tokens>', 'tokens in the life of the key', parseLimit)
    .option('--expires <when>', '90m, 12h, 30d, a date, or never', (text) => parseEnd(text))
    .option('--json', 'one JSON object');
}

export function addKeyCommand(program: Command): void {
  const key = program
    .command('key')
    .description('API keys, their limits, and join tokens (keys of scope worker)');
  addAdminOptions(
    addTerms(key.command('create').description('make a key; it is printed once').argument('<name>')),
  )
    .addOption(new Option('--scope <scope...>', 'what it may do').choices(SCOPES).default(['generate']))
    .action(async (name: string, flags: CreateFlags) => {
      const body = { name, scopes: flags.scope, ...terms(flags) };
      show(await new AdminClient(flags).ask<Key & { key: string }>('POST', 'keys', body), flags.json);
    });
  addAdminOptions(
    key.command('list').description('keys that are good, latest first').option('--json', 'one JSON object'),
  ).action(async (flags: Flags) => {
    const { keys } = await new AdminClient(flags).ask<{ keys: readonly Key[] }>('GET', 'keys');
    if (flags.json) {
      process.stdout.write(`${JSON.stringify({ keys })}\n`);
      return;
    }
    printTable(
      ['ID', 'NAME', 'SCOPES', 'LIMITS', 'EXPIRES', 'LAST USED'],
      keys.map(({ id, name, scopes, limits, expires, lastUsed }) => [
        id,
        name,
        scopes.join(' '),
        limitsText(limits),
        expires ?? 'never',
        lastUsed ?? 'never',
      ]),
    );
  });
  addAdminOptions(
    addTerms(key.command('limit').description('change limits of a key, or when it ends').argument('<id>')),
  ).action(async (id: string, flags: TermFlags) => {
    show(
      await new AdminClient(flags).ask<Key>('PATCH', `keys/${encodeURIComponent(id)}`, terms(flags)),
      flags.json,
    );
  });
  addAdminOptions(key.command('revoke').description('take a key back for good').argument('<id>')).action(
    async (id: string, flags: Flags) => {
      await new AdminClient(flags).ask('DELETE', `keys/${encodeURIComponent(id)}`);
      process.stdout.write(`revoked ${id}\n`);
    },
  );
}
