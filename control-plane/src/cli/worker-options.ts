// The flags that the CLI hands on to the workers it starts, as the worker names them. Values stay text: the worker
// parses and checks them, and its message is the one the user sees. "serve" takes any other of them after "--".
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { Option } from 'commander';
import { CliError } from './cli-error.js';

export interface WorkerFlags {
  readonly model?: string;
  readonly artifact?: string;
  readonly device?: string;
  readonly threads?: string;
  readonly kvMemory?: string;
  readonly servedModelName?: string;
  readonly attentionBackend?: string;
  readonly attentionFraction?: string;
  readonly attentionRecommended?: string;
}

type WorkerOption = readonly [flag: string, name: keyof WorkerFlags, value: string, help: string];

/** What a model to run needs, for one request or for many. */
const MODEL_OPTIONS: readonly WorkerOption[] = [
  ['model', 'model', 'path', 'GGUF file, Hugging Face folder or id (default: SmolLM2-135M-Instruct)'],
  ['artifact', 'artifact', 'path', 'hash artifact; "none" serves dense (default: what ships for the model)'],
  ['device', 'device', 'name', 'auto, cpu or cuda (default: auto, a GPU when there is one that can be used)'],
  ['threads', 'threads', 'n', 'compute threads of a worker (default: all cores, shared among the workers)'],
  [
    'attention-recommended',
    'attentionRecommended',
    'way',
    'use or ignore: attention settings that the artifact recommends (default: use)',
  ],
  [
    'kv-memory',
    'kvMemory',
    'size',
    'memory of the cache blocks of a worker, such as 2GiB (default: what a GPU has free)',
  ],
];

/** What a deployment decides for all its requests. */
const DEPLOYMENT_OPTIONS: readonly WorkerOption[] = [
  ['served-model-name', 'servedModelName', 'name', "the name clients use (default: the model's own)"],
  [
    'attention-backend',
    'attentionBackend',
    'name',
    'dense or spotlight (default: spotlight with an artifact)',
  ],
  ['attention-fraction', 'attentionFraction', 'x', 'share of the context retrieved for a generated token'],
];

function addOptions(command: Command, options: readonly WorkerOption[]): Command {
  for (const [flag, , value, help] of options) {
    const variable = `SPOTLIGHT_${flag.replaceAll('-', '_').toUpperCase()}`;
    command.addOption(new Option(`--${flag} <${value}>`, help).env(variable));
  }
  return command;
}

export function addModelOptions(command: Command): Command {
  return addOptions(command, MODEL_OPTIONS);
}

export function addDeploymentOptions(command: Command): Command {
  return addOptions(command, [...MODEL_OPTIONS, ...DEPLOYMENT_OPTIONS]);
}

/** The given ones as a worker's command line. */
export function workerFlags(flags: WorkerFlags): string[] {
  return [...MODEL_OPTIONS, ...DEPLOYMENT_OPTIONS].flatMap(([flag, name]) => {
    const value = flags[name];
    return value === undefined ? [] : [`--${flag}`, value];
  });
}

/** The worker's entry file. The CLI starts it as a process and never imports it. */
export function workerEntry(): string {
  const path = fileURLToPath(import.meta.resolve('@spotlight/worker/main.js'));
  if (!existsSync(path))
    throw new CliError('The worker is not built. Run "npm run setup" in a clone of the project.');
  return path;
}

/** Flags of every worker that the CLI starts: reached on loopback only, and never outliving the CLI, however that ends. */
export function ownedWorkerFlags(join: string, metricsPort: number, workerId: string): string[] {
  return [
    ...['--worker-id', workerId, '--join', join, '--host', '127.0.0.1', '--grpc-port', '0'],
    ...['--metrics-port', String(metricsPort), '--exit-with-parent'],
  ];
}
