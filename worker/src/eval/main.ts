// The evaluator's entry: node worker/dist/eval/main.js [flags], a process of its own that "spotlight eval" starts as it starts workers.
// Ends with 2 for a wrong command line and 1 for what failed, each as one line.
import { evaluate } from './evaluate.js';
import { helpText, readOptions } from './options.js';

/** Errors that are the user's to mend: their message is all there is to say. */
const PLAIN = [
  'UsageError',
  'MethodError',
  'SourceError',
  'ModelError',
  'TokenizerError',
  'PromptError',
  'EngineError',
];

function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

async function main(args: readonly string[]): Promise<void> {
  const options = readOptions(args);
  if (options.help) {
    process.stdout.write(helpText());
    return;
  }
  const command = ['spotlight', 'eval', ...args.map(shellWord)].join(' ');
  await evaluate(options, command, {
    write: (text) => process.stdout.write(text),
    say: (line) => {
      if (!options.quiet) process.stderr.write(`${line}\n`);
    },
  });
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const known = error instanceof Error && (PLAIN.includes(error.name) || 'code' in error);
  process.stderr.write(
    `spotlight eval: ${known ? error.message : ((error as Error).stack ?? String(error))}\n`,
  );
  process.exitCode = error instanceof Error && ['UsageError', 'MethodError'].includes(error.name) ? 2 : 1;
}
