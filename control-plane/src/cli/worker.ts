// `spotlight worker`: the worker's own entry with every flag passed through, so that its flags have one definition and one help.
import { spawn } from 'node:child_process';
import type { Command } from 'commander';
import { workerEntry } from './worker-options.js';

export function addWorkerCommand(program: Command): void {
  program
    .command('worker')
    .description(
      'run one worker process that joins a control plane ("spotlight worker --help" lists its flags)',
    )
    .argument('[flags...]', 'flags of the worker')
    .helpOption(false)
    .allowUnknownOption()
    .passThroughOptions()
    .action(async (flags: string[]) => {
      const child = spawn(process.execPath, [workerEntry(), ...flags], { stdio: 'inherit' });
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
      process.exitCode = await new Promise<number>((resolve, reject) => {
        child.once('error', reject);
        child.once('exit', (code) => {
          resolve(code ?? 1);
        });
      });
    });
}
