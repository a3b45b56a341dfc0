#!/usr/bin/env node
// `spotlight`: one command for serving, generating, training and benchmarking. Heavy modules (Nest, the native module) are loaded by the
// command that needs them, so that --help answers at once. What fails ends as one line on stderr: 1 failed, 2 wrong usage.
import { Command, CommanderError } from 'commander';
import { addArtifactCommand } from './artifact.js';
import { addBenchCommand } from './bench.js';
import { describeFailure, CliError, EXIT } from './cli-error.js';
import { addEvalCommand } from './eval.js';
import { addGenerateCommand } from './generate.js';
import { addKeyCommand } from './key.js';
import { addRolloutCommand } from './rollout.js';
import { addServeCommand } from './serve.js';
import { addTrainCommand } from './train.js';
import { addWorkerCommand } from './worker.js';
import { VERSION } from './version.js';

const LEFT_OPEN_MS = 1_000;

export function buildProgram(): Command {
  const program = new Command('spotlight')
    .description(
      'Long-context LLM serving with Spotlight retrieval attention. "spotlight serve" needs no flag: it serves the default model.',
    )
    .version(VERSION, '-V, --version')
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .showHelpAfterError('("spotlight COMMAND --help" lists every flag)')
    .exitOverride()
    .addHelpText(
      'after',
      `
Every flag of "serve" can be given as a variable too: --http-port is SPOTLIGHT_HTTP_PORT.`,
    );
  addServeCommand(program);
  addWorkerCommand(program);
  addGenerateCommand(program);
  addTrainCommand(program);
  addEvalCommand(program);
  addArtifactCommand(program);
  addRolloutCommand(program);
  addKeyCommand(program);
  addBenchCommand(program);
  return program;
}

async function main(): Promise<void> {
  try {
    await buildProgram().parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) {
      // Commander has printed its line already; its own status for a wrong command line is 1.
      process.exitCode = error.exitCode === 0 ? 0 : EXIT.usage;
      return;
    }
    const line = describeFailure(error);
    process.stderr.write(
      line === undefined
        ? `spotlight: unexpected failure\n${error instanceof Error ? error.stack : String(error)}\n`
        : `spotlight: ${line}\n`,
    );
    process.exitCode = error instanceof CliError ? error.exitCode : EXIT.failure;
    // Whatever a failed start left open must not keep the command from ending.
    setTimeout(() => process.exit(), LEFT_OPEN_MS).unref();
  }
}

await main();
