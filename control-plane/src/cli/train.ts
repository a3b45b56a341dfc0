// `spotlight train`: the trainer's own entry with every flag passed through, so that its flags have one definition and one help.
// It runs as a process of its own; Ctrl-C saves its state.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { CliError } from './cli-error.js';

function trainerEntry(): string {
  const path = fileURLToPath(import.meta.resolve('@spotlight/worker/train/main.js'));
  if (!existsSync(path))
    throw new CliError('The trainer is not built. Run "npm run setup" in a clone of the project.');
  return path;
}

export function addTrainCommand(program: Command): void {
  program
    .command('train')
    .description('train the hash codes of a model on texts ("spotlight train --help" lists its flags)')
    .argument('[flags...]', 'flags of the trainer')
    .helpOption(false)
    .allowUnknownOption()
    .passThroughOptions()
    .action(async (flags: string[]) => {
      const child = spawn(process.execPath, [trainerEntry(), ...flags], { stdio: 'inherit' });
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
      process.exitCode = await new Promise<number>((resolve, reject) => {
        child.once('error', reject);
        child.once('exit', (code) => {
          resolve(code ?? 1);
        });
      });
    });
}
