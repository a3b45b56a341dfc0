// Reads the command line and SPOTLIGHT_* variables into one frozen record; nothing else in the worker reads either.
// All bad values of a start are named in one error, since fixing them one restart at a time wastes the operator's day.
import { parseArgs } from 'node:util';
import type { Setting, SettingName } from './settings.js';
import { flagOf, SETTING_NAMES, SETTINGS, variableOf } from './settings.js';
import { BadValue } from './values.js';

type Settings = typeof SETTINGS;
type Value<N extends SettingName> =
  ReturnType<Settings[N]['parse']> | (Settings[N]['fallback'] extends undefined ? undefined : never);

/** Every setting by its name: durations in ms, sizes in bytes. */
export type Config = { readonly [N in SettingName]: Value<N> };

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  constructor(readonly problems: readonly string[]) {
    super(problems.join('\n'));
  }
}

const settingOf = (name: SettingName): Setting<unknown> => SETTINGS[name];
const SWITCHES: readonly SettingName[] = ['announce', 'exitWithParent', 'attentionSelectors'];
const isSwitch = (name: SettingName): boolean => SWITCHES.includes(name);

/**
 * @param args the command line after the script, such as ['--grpc-port', '0']
 * @throws ConfigError naming every bad value, where it came from and what would be right
 */
export function loadConfig(
  args: readonly string[] = process.argv.slice(2),
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Config {
  const flags = readFlags(args);
  const problems: string[] = [];
  const values = new Map<SettingName, unknown>();
  for (const name of SETTING_NAMES) {
    const { parse, fallback, help, secret } = settingOf(name);
    const found = flags.get(name) ?? fromEnvironment(name, environment);
    const raw = found?.text ?? fallback;
    if (raw === undefined) continue;
    try {
      values.set(name, parse(raw));
    } catch (error) {
      if (!(error instanceof BadValue)) throw error;
      const shown = secret === true ? '' : ` "${raw}"`;
      problems.push(`${found?.source ?? flagOf(name)}${shown}: ${error.message} (${help})`);
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return Object.freeze(Object.fromEntries(values)) as Config;
}

interface Found {
  readonly text: string;
  readonly source: string;
}

function fromEnvironment(
  name: SettingName,
  environment: Readonly<Record<string, string | undefined>>,
): Found | undefined {
  const { alias } = settingOf(name);
  for (const source of alias === undefined ? [variableOf(name)] : [variableOf(name), alias]) {
    const text = environment[source];
    // An empty variable is how compose files and charts say "not set".
    if (text !== undefined && text !== '') return { text, source };
  }
  return undefined;
}

function readFlags(args: readonly string[]): ReadonlyMap<SettingName, Found> {
  const names = SETTING_NAMES.filter((name) => settingOf(name).secret !== true);
  const options = Object.fromEntries(
    names.map((name) => [
      flagOf(name),
      { type: isSwitch(name) ? ('boolean' as const) : ('string' as const), multiple: true },
    ]),
  );
  let values: Readonly<Record<string, unknown>>;
  try {
    ({ values } = parseArgs({ args: [...args], options, strict: true }));
  } catch (error) {
    throw new ConfigError([`${(error as Error).message.split('. ')[0] ?? ''} (--help lists the flags)`]);
  }
  const flags = new Map<SettingName, Found>();
  for (const name of names) {
    const given = values[flagOf(name)] as readonly (string | boolean)[] | undefined;
    if (given === undefined) continue;
    const text = settingOf(name).repeated === true ? given.join(',') : String(given.at(-1));
    flags.set(name, { text, source: `--${flagOf(name)}` });
  }
  return flags;
}

/** What --help prints. */
export function helpText(): string {
  const lines = SETTING_NAMES.map((name) => {
    const { fallback, help, secret, alias } = settingOf(name);
    const flag = secret === true ? '(no flag)' : `--${flagOf(name)}`;
    const variables = [variableOf(name), ...(alias === undefined ? [] : [alias])].join(', ');
    return `  ${flag.padEnd(24)} ${help}${fallback === undefined ? '' : ` [${fallback}]`}\n${' '.repeat(27)}${variables}`;
  });
  return `Usage: node worker/dist/main.js [flags]\nRuns one worker: loads a model, serves it over gRPC, joins control planes.\n\n${lines.join('\n')}\n`;
}
