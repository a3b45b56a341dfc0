// `spotlight generate`: text to stdout as it comes, rates to stderr. With --url it is a client of a running server, without
// it a private worker runs for this one request; both are a TextSource, so flags and output are the same.
import type { Delta, GenerateRequest } from '@spotlight/proto';
import { FinishReason, GenerateResponse } from '@spotlight/proto';
import type { Command } from 'commander';
import { Option } from 'commander';
import { CliError, EXIT } from './cli-error.js';
import type { GenerationFlags } from './generation-options.js';
import { addGenerationOptions, numberIn, readPrompt, toGenerateRequest } from './generation-options.js';
import { TokenRate } from './token-rate.js';
import { addModelOptions, workerFlags } from './worker-options.js';
import type { WorkerFlags } from './worker-options.js';

export interface TextSource {
  /** Resolves after the last chunk; rejects with what the server said. Aborting frees the request on the worker. */
  generate(
    request: GenerateRequest,
    onChunk: (chunk: GenerateResponse) => void,
    signal: AbortSignal,
  ): Promise<void>;
  close(): Promise<void>;
}

interface GenerateFlags extends GenerationFlags, WorkerFlags {
  readonly url?: string;
  readonly apiKey?: string;
  readonly timeout?: number;
  readonly json?: true;
  readonly quiet?: true;
}

async function openSource(flags: GenerateFlags, signal: AbortSignal): Promise<TextSource> {
  if (flags.url !== undefined) {
    const { RemoteServer } = await import('./remote-server.js');
    return new RemoteServer(flags.url, flags.apiKey);
  }
  const { startPrivateWorker } = await import('./private-worker.js');
  return startPrivateWorker(workerFlags(flags), signal);
}

/** Writes chunks as they come and remembers what the last line of rates needs. */
class ChunkPrinter {
  private readonly rate = new TokenRate(performance.now());
  private last: GenerateResponse | undefined;
  private end: Delta | undefined;
  private newline = true;

  /** @param abort aborted when the reader of stdout goes away (`| head`): the end of interest, not an error */
  constructor(
    private readonly json: boolean,
    abort: AbortController,
  ) {
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
      abort.abort('EPIPE');
    });
  }

  print(chunk: GenerateResponse): void {
    const now = performance.now();
    this.last = chunk;
    for (const delta of chunk.deltas) {
      this.rate.add(delta.tokenIds.length, now);
      if (delta.finishReason !== FinishReason.UNSPECIFIED) this.end = delta;
      if (!this.json) this.write(delta.text);
    }
    if (this.json) this.write(`${JSON.stringify(GenerateResponse.toJSON(chunk))}\n`);
  }

  /** A shell's prompt belongs on a line of its own, also after an error. */
  finishLine(): void {
    if (!this.newline) this.write('\n');
  }

  /** One line: prompt, time to the first token, rate, end, attention and the seed that gives the same text again. */
  summary(): string {
    const { tokens, firstTokenSeconds, tokensPerSecond } = this.rate.summary();
    const digest = this.last?.artifactDigest ?? '';
    const parts = [
      `${this.last?.usage?.promptTokens ?? 0} prompt tokens`,
      ...(firstTokenSeconds === undefined ? [] : [`first token after ${firstTokenSeconds.toFixed(2)} s`]),
      `${tokens} tokens` +
        (tokensPerSecond === undefined ? '' : ` at ${tokensPerSecond.toFixed(1)} tokens/s`),
      describeEnd(this.end),
      digest === '' ? 'dense attention' : `artifact ${digest.slice(0, 12)}`,
      `seed ${this.last?.seed ?? 0n}`,
    ];
    return `[${parts.join(', ')}]\n`;
  }

  private write(text: string): void {
    if (text === '' || !process.stdout.writable) return;
    this.newline = text.endsWith('\n');
    process.stdout.write(text);
  }
}

function describeEnd(delta: Delta | undefined): string {
  switch (delta?.finishReason) {
    case FinishReason.STOP:
      return delta.stopReason?.$case === 'stopString'
        ? `stopped at "${delta.stopReason.value}"`
        : 'end of text';
    case FinishReason.LENGTH:
      return 'length limit';
    default:
      return 'cancelled';
  }
}

async function generate(prompt: string | undefined, flags: GenerateFlags): Promise<void> {
  const text = await readPrompt(prompt, flags);
  // With --url the model is a name to ask the server for; a private worker serves the one model it was given.
  const request = toGenerateRequest(text, flags.url === undefined ? '' : (flags.model ?? ''), flags);
  if (flags.timeout !== undefined) request.timeoutMs = Math.round(flags.timeout * 1000);
  const abort = new AbortController();
  process.once('SIGINT', () => {
    abort.abort('SIGINT');
  });
  const source = await openSource(flags, abort.signal);
  const printer = new ChunkPrinter(flags.json ?? false, abort);
  try {
    await source.generate(
      request,
      (chunk) => {
        printer.print(chunk);
      },
      abort.signal,
    );
  } catch (error) {
    if (!abort.signal.aborted) throw error;
  } finally {
    printer.finishLine();
    await source.close();
  }
  if (abort.signal.reason === 'SIGINT') throw new CliError('interrupted', EXIT.interrupted);
  if (!flags.quiet) process.stderr.write(printer.summary());
}

export function addGenerateCommand(program: Command): void {
  const command = program
    .command('generate')
    .summary('generate text from a prompt')
    .description(
      'Streams generated text to stdout, rates to stderr. Without --url a private worker is started for this request.',
    )
    .argument('[prompt]', 'the prompt; absent, it is read from --file or stdin');
  addGenerationOptions(command);
  addModelOptions(
    command.optionsGroup('Private worker (with --url only --model applies, as the name to ask for):'),
  );
  command
    .optionsGroup('Running server:')
    .option('--url <host:port>', "a running server's gRPC address, such as 127.0.0.1:50051")
    .addOption(new Option('--api-key <key>', 'API key of that server').env('SPOTLIGHT_API_KEY'))
    .optionsGroup('Options:')
    .option('--timeout <seconds>', 'give up after so long', numberIn(0.001, 86_400))
    .option('--json', 'one JSON object a chunk and line: token ids, text, usage, finish reason, artifact')
    .option('-q, --quiet', 'no rates on stderr')
    .addHelpText(
      'after',
      `
Examples:
  spotlight generate "Why is the sky blue?" --temperature 0
  spotlight generate --file report.txt --system "Summarise the report." --max-tokens 300
  cat notes.txt | spotlight generate --raw --backend dense --json
  spotlight generate "Hello" --url 127.0.0.1:50051`,
    )
    .action(generate);
}
