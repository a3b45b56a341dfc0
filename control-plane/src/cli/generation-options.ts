// The flags of a generation and the request they make: named as the API's fields are, so that what is learned in one place
// holds in the other. A flag that is absent stays absent in the message; its default is the server's business.
import { readFileSync } from 'node:fs';
import { text as readAll } from 'node:stream/consumers';
import { AttentionSettings, GenerateRequest, SamplingParams, TailMode } from '@spotlight/proto';
import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import { CliError, EXIT } from './cli-error.js';

export interface GenerationFlags {
  readonly file?: string;
  readonly raw?: true;
  readonly system?: string;
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  readonly repetitionPenalty?: number;
  readonly seed?: bigint;
  readonly stop?: string[];
  readonly ignoreEos?: true;
  readonly backend?: string;
  readonly fraction?: number;
  readonly tail?: 'block-mean' | 'none';
  readonly densePrefixTokens?: number;
}

const TAIL_MODES = { 'block-mean': TailMode.BLOCK_MEAN, none: TailMode.NONE } as const;

/** Parses a number in [min, max]; the ends are the API's, so that a mistake is told before a model is loaded. */
export function numberIn(min: number, max: number, whole = false): (raw: string) => number {
  return (raw) => {
    const value = raw.trim() === '' ? NaN : Number(raw);
    if (!(value >= min && value <= max) || (whole && !Number.isInteger(value))) {
      const most = max === Infinity ? `${min} or more` : `from ${min} to ${max}`;
      throw new InvalidArgumentError(`It must be a ${whole ? 'whole ' : ''}number ${most}.`);
    }
    return value;
  };
}

function seed(raw: string): bigint {
  if (!/^\d{1,20}$/.test(raw) || BigInt(raw) >= 1n << 64n) {
    throw new InvalidArgumentError('It must be a whole number from 0 to 2^64 - 1.');
  }
  return BigInt(raw);
}

function append(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value];
}

export function addGenerationOptions(command: Command): Command {
  const whole = (min: number, max: number): ((raw: string) => number) => numberIn(min, max, true);
  return command
    .optionsGroup('Prompt:')
    .option('-f, --file <path>', 'read the prompt from a file ("-" is stdin)')
    .option('--system <text>', "system message before the prompt, in place of the model's own")
    .option('--raw', 'continue the text as it is; without it the prompt is a chat message')
    .optionsGroup('Sampling:')
    .option(
      '-n, --max-tokens <n>',
      'most tokens to generate (default: what the context leaves)',
      whole(1, 2 ** 31),
    )
    .option('--temperature <t>', '0 is greedy (default: 1)', numberIn(0, 100))
    .option('--top-k <n>', 'draw among the n likeliest; 0 keeps all', whole(0, 2 ** 31))
    .option('--top-p <p>', 'draw among the likeliest of mass p', numberIn(0, 1))
    .option('--min-p <p>', 'draw among tokens of at least p times the likeliest', numberIn(0, 1))
    .option('--presence-penalty <x>', 'on tokens generated before', numberIn(-2, 2))
    .option('--frequency-penalty <x>', 'on tokens by how often they were generated', numberIn(-2, 2))
    .option('--repetition-penalty <x>', 'on prompt and generated tokens; 1 is none', numberIn(0, Infinity))
    .option('--seed <n>', 'same seed, same text', seed)
    .option('--stop <text>', 'end before this text; may be given several times', append)
    .option('--ignore-eos', "go on past the model's end of text")
    .optionsGroup('Attention:')
    .option(
      '--backend <name>',
      "attention of generated tokens: dense, spotlight, or an evaluation method where workers offer them (default: the deployment's)",
    )
    .option('--fraction <x>', 'share of the context each generated token retrieves', numberIn(0, 1))
    .addOption(
      new Option('--tail <mode>', 'what unselected tokens contribute').choices(Object.keys(TAIL_MODES)),
    )
    .option(
      '--dense-prefix-tokens <n>',
      'prompt tokens that attend densely; the rest attend as generated ones',
      whole(0, 2 ** 31),
    )
    .optionsGroup('Options:');
}

/** The prompt from the argument, --file or stdin, in this order; a prompt from two places is a mistake. */
export async function readPrompt(argument: string | undefined, flags: GenerationFlags): Promise<string> {
  if (argument !== undefined && flags.file !== undefined) {
    throw new CliError('Give the prompt as an argument or with --file, not both.', EXIT.usage);
  }
  if (argument !== undefined) return argument;
  if (flags.file !== undefined && flags.file !== '-') return decode(readFileSync(flags.file), flags.file);
  if (flags.file === undefined && process.stdin.isTTY) {
    throw new CliError('No prompt: give one as an argument, with --file, or on stdin.', EXIT.usage);
  }
  return readAll(process.stdin);
}

function decode(bytes: Buffer, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new CliError(`${path} is not valid UTF-8. Convert it first, for instance with iconv.`);
  }
}

/** Throws CliError for an empty prompt and for flags that exclude each other. */
export function toGenerateRequest(prompt: string, model: string, flags: GenerationFlags): GenerateRequest {
  if (prompt === '') throw new CliError('The prompt is empty.', EXIT.usage);
  if (flags.raw && flags.system !== undefined) {
    throw new CliError(
      '--system needs the chat template, --raw leaves it out. Drop one of them.',
      EXIT.usage,
    );
  }
  const system = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }];
  return GenerateRequest.fromPartial({
    model,
    prompt: flags.raw
      ? { $case: 'text', value: prompt }
      : { $case: 'chat', value: { messages: [...system, { role: 'user', content: prompt }] } },
    sampling: SamplingParams.fromPartial({
      maxTokens: flags.maxTokens,
      temperature: flags.temperature,
      topK: flags.topK,
      topP: flags.topP,
      minP: flags.minP,
      presencePenalty: flags.presencePenalty,
      frequencyPenalty: flags.frequencyPenalty,
      repetitionPenalty: flags.repetitionPenalty,
      seed: flags.seed,
      stop: flags.stop ?? [],
      ignoreEos: flags.ignoreEos,
    }),
    attention: AttentionSettings.fromPartial({
      backend: flags.backend,
      fraction: flags.fraction,
      tail: flags.tail === undefined ? TailMode.UNSPECIFIED : TAIL_MODES[flags.tail],
      densePrefixTokens: flags.densePrefixTokens,
    }),
  });
}
