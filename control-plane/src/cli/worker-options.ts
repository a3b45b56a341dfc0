// The flags that the CLI hands on to the workers it starts, as the worker names them. Values stay text: the worker
// parses and checks them, and its message is the one the user sees.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { Option } from 'commander';
import { CliError } from './cli-error.js';

export interface WorkerFlags {
  readonly model?: string;
  readonly artifact?: string;
  readonly threads?: string;
  readonly kvMemory?: string;
}

const WORKER_OPTIONS: readonly [flag: string, name: keyof WorkerFlags, value: string, help: string][] = [
  ['model', 'model', 'path', 'GGUF file, Hugging Face folder or id (default: SmolLM2-135M-Instruct)'],
  ['artifact', 'artifact', 'path', 'hash artifact; "none" serves dense (default: what ships for the model)'],
  ['threads', 'threads', 'n', 'compute threads of a worker (default: all cores, shared among the workers)'],
  ['kv-memory', 'kvMemory', 'size', 'memory of the cache blocks, such as 2GiB'],
];

export function addWorkerOptions(command: Command): Command {
  for (const [flag, , value, help] of WORKER_OPTIONS) {
    const variable = `SPOTLIGHT_${flag.replaceAll('-', '_').toUpperCase()}`;
    command.addOption(new Option(`--${flag} <${value}>`, help).env(variable));
  }
  return command;
}

/** The given ones as a worker's command line. */
export function workerFlags(flags: WorkerFlags): string[] {
  return WORKER_OPTIONS.flatMap(([flag, name]) => {
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
