// The worker process: node worker/dist/main.js [flags]. Ends by SIGTERM or SIGINT (running requests finish first; a second
// signal ends it at once), by the end of its parent under --exit-with-parent, or with one line that says why it cannot start.
import { logVerbosity, setLogVerbosity } from '@grpc/grpc-js';
import * as native from '@spotlight/cuda';
import { boot } from './boot.js';
import type { Config } from './config/config.js';
import { ConfigError, helpText, loadConfig } from './config/config.js';
import { makeLog } from './telemetry/log.js';

/** Errors of the start that are the operator's to fix: their message is all there is to say. */
const PLAIN = ['ConfigError', 'ModelError', 'TokenizerError', 'EngineError', 'BindError'];

if (process.argv.includes('--help') || process.argv.includes('-h')) process.stdout.write(helpText());
else await main();

async function main(): Promise<void> {
  try {
    await run(loadConfig());
  } catch (error) {
    const plain = error instanceof Error && PLAIN.includes(error.name);
    process.stderr.write(`${plain ? error.message : ((error as Error).stack ?? String(error))}\n`);
    process.exit(error instanceof ConfigError ? 2 : 1);
  }
}

async function run(config: Config): Promise<void> {
  const log = makeLog(config.logLevel);
  // grpc-js writes to stderr itself; what it has to say comes as errors, which are logged where they are handled.
  setLogVerbosity(logVerbosity.NONE);
  const starting = boot(config, native, log);
  let ready = false;
  let stopping = false;
  const stop = (reason: string): void => {
    if (stopping) return;
    stopping = true;
    log.info({ reason }, 'stopping');
    // While starting there is nothing to finish.
    if (!ready) process.exit(1);
    starting
      .then((worker) => worker.stop(config.shutdownTimeout))
      .then(
        () => process.exit(0),
        (error: unknown) => {
          log.fatal({ err: error }, 'the worker could not stop cleanly');
          process.exit(1);
        },
      );
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      // The second one means now.
      if (stopping) process.exit(1);
      stop(signal);
    });
  }
  if (config.exitWithParent) {
    // Nothing is ever written there: that it closes is the message.
    process.stdin.on('error', () => undefined);
    process.stdin.on('close', () => {
      stop('the parent process is gone');
    });
    process.stdin.resume();
  }
  const worker = await starting;
  ready = true;
  if (config.announce) process.stdout.write(`${JSON.stringify(worker.announcement)}\n`);
}
