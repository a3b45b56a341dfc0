// `spotlight bench NAME`: runs a benchmark of test/bench in a process of its own, as `npm run bench` does, so that what
// the CLI has loaded does not share the measured process. Benchmarks come with a clone, not with an installed package.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { CliError } from './cli-error.js';

export function addBenchCommand(program: Command): void {
  program
    .command('bench')
    .description('run a benchmark of this clone; without a name they are listed')
    .argument('[name]', 'which one')
    .argument('[flags...]', "the benchmark's own flags, such as --json")
    .allowUnknownOption()
    .passThroughOptions()
    .action(async (name: string | undefined, flags: string[]) => {
      const entry = fileURLToPath(new URL('../../../test/dist/bench/main.js', import.meta.url));
      if (!existsSync(entry)) {
        throw new CliError(
          'The benchmarks are not built here. Run "npm run setup" in a clone of the project.',
        );
      }
      const args = name === undefined ? [] : [name];
      const child = spawn(process.execPath, [entry, ...args, ...flags], { stdio: 'inherit' });
      process.exitCode = await new Promise<number>((resolve, reject) => {
        child.once('error', reject);
        child.once('exit', (code) => {
          resolve(code ?? 1);
        });
      });
    });
}
