// The life of a worker process. It ends by SIGTERM or SIGINT (running requests finish first; a second signal ends it at once), by
// the end of its parent under --exit-with-parent, with one line that says why it cannot start, or with status 1 when its engine has
// died: a device that faulted is only whole again in a new process, and starting that is the supervisor's part.
import { logVerbosity, setLogVerbosity } from '@grpc/grpc-js';
import { boot } from './boot.js';
import type { Config } from './config/config.js';
import { ConfigError, helpText, loadConfig } from './config/config.js';
import type { NativeModule } from './native-options.js';
import { makeLog } from './telemetry/log.js';
import type { Worker } from './worker.js';

/** Errors of the start that are the operator's to fix: their message is all there is to say. */
const PLAIN = ['ConfigError', 'ModelError', 'TokenizerError', 'EngineError', 'BindError', 'TransportError'];

/** Longest time from the engine's death, or the end of the shutdown timeout, to the end of the process, whatever hangs. */
const LAST_MS = 5000;

/** [async] Runs on the native module given until the process ends. */
export async function runWorker(native: NativeModule): Promise<void> {
  if (process.argv.includes('--help') || process.argv.includes('-h')) {
    process.stdout.write(helpText());
    return;
  }
  try {
    await live(loadConfig(), native);
  } catch (error) {
    const plain = error instanceof Error && PLAIN.includes(error.name);
    process.stderr.write(`${plain ? error.message : ((error as Error).stack ?? String(error))}\n`);
    process.exit(error instanceof ConfigError ? 2 : 1);
  }
}

async function live(config: Config, native: NativeModule): Promise<void> {
  const log = makeLog(config.logLevel);
  // grpc-js writes to stderr itself; what it has to say comes as errors, which are logged where they are handled.
  setLogVerbosity(logVerbosity.NONE);
  const starting = boot(config, native, log);
  let ready = false;
  let stopping = false;
  /** Ends the process with this status once `close` is done, with 1 when that fails, and the hard way when it takes longer. */
  const end = (status: number, withinMs: number, close: (worker: Worker) => Promise<void>): void => {
    setTimeout(killSelf, withinMs);
    // Already on its way: the same doors are closing.
    if (stopping) return;
    stopping = true;
    starting.then(close).then(
      () => process.exit(status),
      (error: unknown) => {
        log.fatal({ err: error }, 'the worker could not stop cleanly');
        process.exit(1);
      },
    );
  };
  const stop = (reason: string): void => {
    if (stopping) return;
    log.info({ reason }, 'stopping');
    // While starting there is nothing to finish.
    if (!ready) process.exit(1);
    end(0, config.shutdownTimeout + LAST_MS, (worker) => worker.stop(config.shutdownTimeout));
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      // The second one means now.
      if (stopping) killSelf();
      else stop(signal);
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

  const message = await worker.died;
  log.fatal({ message }, 'the engine is dead: this process ends, so that its supervisor starts another');
  end(1, LAST_MS, () => worker.abandon());
}

/**
 * Without exit handlers: the native module's waits for the steps in flight, and a device may never answer.
 */
function killSelf(): void {
  process.kill(process.pid, 'SIGKILL');
}
