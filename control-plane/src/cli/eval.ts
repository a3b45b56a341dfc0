// `spotlight eval`: the evaluator's own entry with every flag passed through, as "spotlight worker" does: its flags have one definition
// and one help, and the native module runs in a process of its own.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { CliError } from './cli-error.js';

export function addEvalCommand(program: Command): void {
  program
    .command('eval')
    .description(
      'compare retrieval methods on a model: perplexity, IoU, needles, fidelity, QA ("spotlight eval --help" lists its flags)',
    )
    .argument('[flags...]', 'flags of the evaluation')
    .helpOption(false)
    .allowUnknownOption()
    .passThroughOptions()
    .action(async (flags: string[]) => {
      const entry = fileURLToPath(import.meta.resolve('@spotlight/worker/eval/main.js'));
      if (!existsSync(entry))
        throw new CliError('The evaluator is not built. Run "npm run setup" in a clone of the project.');
      const child = spawn(process.execPath, [entry, ...flags], { stdio: 'inherit' });
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
      process.exitCode = await new Promise<number>((resolve, reject) => {
        child.once('error', reject);
        child.once('exit', (code) => {
          resolve(code ?? 1);
        });
      });
    });
}
