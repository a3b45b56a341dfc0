// `spotlight serve`: the control plane in this process and its workers in processes of their own, until Ctrl-C.
// The workers join over gRPC as any other would, so one machine runs the same way as a fleet does.
import { randomBytes } from 'node:crypto';
import { availableParallelism, hostname } from 'node:os';
import type { Command } from 'commander';
import { Option } from 'commander';
import type { Config, Flags } from '../config/config.js';
import { ConfigError, loadConfig } from '../config/config.js';
import { flagOf, SETTING_NAMES, SETTINGS, variableOf } from '../config/settings.js';
import { checkPorts } from '../free-ports.js';
import { CliError, EXIT } from './cli-error.js';
import { numberIn } from './generation-options.js';
import { ServeReport } from './serve-report.js';
import type { WorkerFlags } from './worker-options.js';
import { addDeploymentOptions, ownedWorkerFlags, workerEntry, workerFlags } from './worker-options.js';
import { WorkerSupervisor } from './worker-supervisor.js';

interface ServeFlags extends Flags, WorkerFlags {
  readonly workers: number;
  readonly metricsPort: number;
  readonly json?: true;
}

function readConfig(flags: Flags): Config {
  try {
    return loadConfig(flags);
  } catch (error) {
    if (error instanceof ConfigError) throw new CliError(error.message, EXIT.usage, { cause: error });
    throw error;
  }
}

/** Where a worker of this machine reaches a port bound to `host`: a wildcard is no address to dial. */
export function dialAddress(host: string, port: number): string {
  const bare = host.replace(/^\[|\]$/g, '');
  if (bare === '0.0.0.0') return `127.0.0.1:${port}`;
  if (bare === '::') return `[::1]:${port}`;
  return bare.includes(':') ? `[${bare}]:${port}` : `${bare}:${port}`;
}

/**
 * One name a place, whichever process fills it: a worker that is started again is the same worker to the fleet, its row and its
 * directives. The port tells apart the servers of one machine.
 */
export function workerName(index: number, host: string, grpcPort: number): string {
  return `worker-${index}@${host.replace(/[^A-Za-z0-9._-]/g, '-').slice(0, 64)}:${grpcPort}`;
}

/** Flags of worker `index`: its gRPC port is its own business, its metrics port counts up from the first one's. */
export function workerArguments(
  index: number,
  flags: Pick<ServeFlags, 'metricsPort' | 'workers'> & WorkerFlags,
  join: string,
  name: string,
): string[] {
  const shared = Math.max(1, Math.floor(availableParallelism() / flags.workers));
  return [
    ...ownedWorkerFlags(join, flags.metricsPort === 0 ? 0 : flags.metricsPort + index, name),
    ...workerFlags(flags.workers > 1 ? { ...flags, threads: flags.threads ?? String(shared) } : flags),
  ];
}

/** TLS flags of the workers that this command starts: they join the same doors and are dialled back as any other worker is. */
export function ownTlsFlags(config: Pick<Config, 'tlsCert' | 'tlsKey' | 'tlsCa' | 'tlsName'>): string[] {
  if (config.tlsCert !== undefined && config.tlsCa === undefined) {
    throw new CliError(
      '--tls-cert without --tls-ca: the workers of this command could not check the door they join; give the authority, or start with --workers 0.',
      EXIT.usage,
    );
  }
  return (['tlsCert', 'tlsKey', 'tlsCa', 'tlsName'] as const).flatMap((name) => {
    const value = config[name];
    return value === undefined ? [] : [`--${flagOf(name)}`, value];
  });
}

async function serve(flags: ServeFlags, more: readonly string[]): Promise<void> {
  const stray = more[0];
  if (stray !== undefined && !stray.startsWith('-')) {
    throw new CliError(`"${stray}" is no flag. "spotlight serve --help" lists them.`, EXIT.usage);
  }
  const given = readConfig(flags);
  const entry = flags.workers > 0 ? workerEntry() : '';
  // The workers below join with a token of this run, so that they need no key even where others do.
  const joinToken = randomBytes(24).toString('base64url');
  const config: Config = { ...given, joinTokens: [...given.joinTokens, joinToken] };
  const report = new ServeReport(flags.json ?? false);

  await checkPorts(
    Array.from({ length: flags.metricsPort === 0 ? 0 : flags.workers }, (_, index) => ({
      door: 'metrics',
      host: '127.0.0.1',
      port: flags.metricsPort + index,
    })),
  );

  let end: (exitCode: number) => void = () => undefined;
  const ended = new Promise<number>((resolve) => {
    end = resolve;
  });
  let anyReady = false;
  const supervisor = new WorkerSupervisor({
    mayRestart: () => anyReady,
    events: {
      started: (name, pid) => {
        report.workerStarted(name, pid);
      },
      exited: (name, how, waitMs) => {
        report.workerExited(name, how, waitMs);
        if (waitMs === undefined) end(EXIT.failure);
      },
    },
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      report.stopping(signal);
      end(0);
    });
  }
  const tlsFlags = flags.workers > 0 ? ownTlsFlags(config) : [];
  const startWorkers = (grpcPort: number): void => {
    const join = dialAddress(config.host, grpcPort);
    for (let index = 0; index < flags.workers; index += 1) {
      const own = workerArguments(index, flags, join, workerName(index, hostname(), grpcPort));
      supervisor.start({
        name: `worker ${index}`,
        args: [entry, ...own, ...tlsFlags, '--log-level', config.logLevel, ...more],
        env: { SPOTLIGHT_JOIN_TOKEN: joinToken },
      });
    }
  };

  const { startControlPlane } = await import('../start.js');
  // Models load while the database opens: both take seconds, and neither needs the other.
  const controlPlane = await startControlPlane(config, startWorkers).catch(async (error: unknown) => {
    await supervisor.stop();
    throw error;
  });
  report.listening(controlPlane);
  void controlPlane.ready.then(() => {
    anyReady = true;
    report.ready(controlPlane.fleet.snapshots());
  });

  process.exitCode = await ended;
  // The doors close first and wait for running requests; only then may the workers that run them end.
  await controlPlane.close();
  await supervisor.stop();
}

export function addServeCommand(program: Command): void {
  const command = program
    .command('serve')
    .summary('serve a model: OpenAI HTTP API, gRPC API, workers')
    .description(
      'Starts the control plane and its workers, and prints "ready" when the first request would be answered.',
    )
    .optionsGroup('Workers:')
    .addOption(
      new Option('--workers <n>', 'worker processes; 0 waits for others to join')
        .env('SPOTLIGHT_WORKERS')
        .argParser(numberIn(0, 64, true))
        .default(1),
    );
  addDeploymentOptions(command)
    .addOption(
      new Option(
        '--metrics-port <port>',
        "port of the first worker's /metrics, the others take the next ones; 0 picks free ones",
      )
        .env('SPOTLIGHT_METRICS_PORT')
        .argParser(numberIn(0, 65_535, true))
        .default(9100),
    )
    .argument('[flags...]', 'after "--": further flags for every worker, see "spotlight worker --help"')
    .optionsGroup('Control plane (each also a variable, as SPOTLIGHT_HTTP_PORT for --http-port):');
  for (const name of SETTING_NAMES) {
    const setting = SETTINGS[name];
    if ('secret' in setting && setting.secret === 'env') continue;
    const fallback = setting.fallback === undefined ? '' : ` (default: ${setting.fallback || 'none'})`;
    command.option(`--${flagOf(name)} <value>`, `${setting.help}${fallback}`);
  }
  const variables = SETTING_NAMES.flatMap((name) => {
    const setting = SETTINGS[name];
    return 'secret' in setting && setting.secret === 'env'
      ? [`  ${variableOf(name).padEnd(24)} ${setting.help}`]
      : [];
  });
  command
    .optionsGroup('Options:')
    .option('--json', 'one JSON object an event and line on stdout: listening, worker, ready, stopping')
    .addHelpText(
      'after',
      `
Variables only, because a command line is public on its machine:
${variables.join('\n')}

Examples:
  spotlight serve
  spotlight serve --model ./models/qwen --http-port 9000 --workers 2
  spotlight serve --workers 0 --host 0.0.0.0     (workers join from elsewhere: spotlight worker --join HOST:50051)`,
    )
    .action((more: string[], flags: ServeFlags) => serve(flags, more));
}
