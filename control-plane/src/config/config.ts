// Reads flags and SPOTLIGHT_* variables into one frozen record; nothing else in the control plane reads the environment.
// All bad values of a start are named in one error, since fixing them one restart at a time wastes the operator's day.
import { contradictionIn } from '@spotlight/proto/transport';
import type { SettingName } from './settings.js';
import { flagOf, SETTING_NAMES, SETTINGS, variableOf } from './settings.js';
import { BadValue } from './values.js';

type Settings = typeof SETTINGS;
type Value<N extends SettingName> =
  ReturnType<Settings[N]['parse']> | (Settings[N]['fallback'] extends undefined ? undefined : never);

/** Every setting by its name (durations in ms, sizes in bytes), and what follows from them. */
export type Config = { readonly [N in SettingName]: Value<N> } & {
  /** False only when bound to loopback with auth=auto: then requests need no API key and workers no token. */
  readonly keysRequired: boolean;
};

/** Nest injection token of the Config. */
export const CONFIG = Symbol('config');

/** Flags as parsed from a command line, by setting name, still text. */
export type Flags = Partial<Readonly<Record<SettingName, string>>>;

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  constructor(readonly problems: readonly string[]) {
    super(problems.join('\n'));
  }
}

/**
 * @param environment variables; unknown SPOTLIGHT_* names are other programs' business and pass
 * @throws ConfigError naming every bad value, where it came from and what would be right
 */
export function loadConfig(
  flags: Flags = {},
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Config {
  const problems: string[] = [];
  const values = new Map<SettingName, unknown>();
  for (const name of SETTING_NAMES) {
    const fromVariable = environment[variableOf(name)];
    // An empty variable is how compose files and charts say "not set".
    const variable = fromVariable === '' ? undefined : fromVariable;
    const raw = flags[name] ?? variable ?? SETTINGS[name].fallback;
    if (raw === undefined) continue;
    try {
      values.set(name, SETTINGS[name].parse(raw));
    } catch (error) {
      if (!(error instanceof BadValue)) throw error;
      const source = flags[name] === undefined ? variableOf(name) : `--${flagOf(name)}`;
      const secret = 'secret' in SETTINGS[name];
      problems.push(`${source}${secret ? '' : ` "${raw}"`}: ${error.message} (${SETTINGS[name].help})`);
    }
  }
  const config = Object.fromEntries(values) as unknown as { [N in SettingName]: Value<N> };
  if (problems.length === 0) problems.push(...contradictions(config));
  if (problems.length > 0) throw new ConfigError(problems);
  return Object.freeze({ ...config, keysRequired: config.auth === 'required' || !isLoopback(config.host) });
}

function contradictions(config: { readonly [N in SettingName]: Value<N> }): string[] {
  const problems: string[] = [];
  if (config.leaseTimeout < 3 * config.reportInterval) {
    problems.push(
      `--lease-timeout ${config.leaseTimeout}ms: must be at least three times --report-interval ` +
        `(${config.reportInterval}ms), or one late report loses a worker`,
    );
  }
  if (config.hedgeAfter !== 0 && config.hedgeAfter < 2 * config.reportInterval) {
    problems.push(
      `--hedge-after ${config.hedgeAfter}ms: must be at least twice --report-interval ` +
        `(${config.reportInterval}ms), or a worker between two reports looks hung; 0s turns it off`,
    );
  }
  const transport = contradictionIn(config);
  if (transport !== undefined) problems.push(transport);
  if (config.httpPort !== 0 && config.httpPort === config.grpcPort) {
    problems.push(`--grpc-port ${config.grpcPort}: is --http-port as well; give the two doors two ports`);
  }
  return problems;
}

/** 127.0.0.0/8, ::1 and localhost: addresses that no other machine can reach. */
export function isLoopback(host: string): boolean {
  const bare = host.toLowerCase().replace(/^\[|\]$/g, '');
  return /^127(\.\d{1,3}){3}$/.test(bare) || bare === '::1' || bare === 'localhost';
}
