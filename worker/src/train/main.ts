// The trainer's entry: node worker/dist/train/main.js [flags]. A process of its own, so that a training that dies takes nothing
// with it. SIGINT or SIGTERM saves the state and ends with 130; a second one, a while later, ends at once.
import { ConfigError } from '../config/config.js';
import { loadTrainConfig, trainHelp } from './config.js';
import { progress } from './progress.js';
import { runSession } from './session.js';

/** Errors that are the caller's to fix: their message is all there is to say. */
const PLAIN = ['ConfigError', 'CorpusError', 'ModelError', 'TokenizerError', 'EngineError'];
const EXIT = { failure: 1, usage: 2, interrupted: 130 } as const;
/** Ctrl-C reaches the whole process group and is then passed on by the CLI as well: both are one. */
const SAME_SIGNAL_MS = 500;

async function main(args: readonly string[]): Promise<number> {
  if (args.length === 0 || args.includes('--help') || args.includes('-h')) {
    process.stdout.write(trainHelp());
    return args.length === 0 ? EXIT.usage : 0;
  }
  const config = loadTrainConfig(args);
  const stop = new AbortController();
  let signalled = 0;
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (stop.signal.aborted && performance.now() - signalled > SAME_SIGNAL_MS)
        process.kill(process.pid, 'SIGKILL');
      signalled = performance.now();
      stop.abort();
    });
  }
  const say = config.json
    ? (event: object) => process.stdout.write(`${JSON.stringify(event)}\n`)
    : progress(process.stderr);
  const notice = (line: string): void => {
    process.stderr.write(`${line}\n`);
  };
  const { digest } = await runSession(config, say, notice, stop.signal);
  return digest === undefined ? EXIT.interrupted : 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const plain = error instanceof Error && PLAIN.includes(error.name);
  process.stderr.write(`${plain ? error.message : ((error as Error).stack ?? String(error))}\n`);
  process.exitCode = error instanceof ConfigError ? EXIT.usage : EXIT.failure;
}
