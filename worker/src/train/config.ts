// The command line of a training, one table: flag, parser, default, help. What is not given of the recipe stays the native
// module's default for the encoder.
import { parseArgs } from 'node:util';
import type { Recipe } from '@spotlight/cuda';
import { ConfigError } from '../config/config.js';
import type { Parser } from '../config/values.js';
import { BadValue, duration, integer, oneOf, share, text, url } from '../config/values.js';

const positive: Parser<number> = (raw) => {
  const value = raw.trim() === '' ? Number.NaN : Number(raw);
  if (!(Number.isFinite(value) && value > 0)) throw new BadValue('must be a number above 0');
  return value;
};

const portion: Parser<number> = (raw) => {
  const value = raw.trim() === '' ? Number.NaN : Number(raw);
  if (!(value >= 0 && value <= 1)) throw new BadValue('must be a number from 0 to 1');
  return value;
};

/** `0,1,5-7` -> ascending indexes; an empty text is none. */
const layerList: Parser<readonly number[]> = (raw) => {
  const layers = new Set<number>();
  for (const part of raw.split(',').filter((each) => each.trim() !== '')) {
    const match = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part.trim());
    const [, first, last = first] = match ?? [];
    if (first === undefined || Number(last) < Number(first))
      throw new BadValue('must be layers such as 0,1 or 0-3');
    for (let layer = Number(first); layer <= Number(last); layer++) layers.add(layer);
  }
  return [...layers].sort((a, b) => a - b);
};

interface Flag<T> {
  readonly parse: Parser<T>;
  /** Shown in the help; undefined: may be absent. */
  readonly fallback?: string;
  readonly value: string;
  readonly help: string;
  readonly many?: true;
}

const FLAGS = {
  corpus: {
    parse: text,
    value: 'path',
    many: true,
    help: 'text file, folder of texts, or .jsonl; may be repeated (required)',
  },
  out: { parse: text, value: 'file', help: 'the artifact to write, a .safetensors file (required)' },
  model: {
    parse: text,
    value: 'path',
    fallback: 'smollm2-135m-instruct',
    help: 'GGUF file, Hugging Face folder or id, or dummy:SHAPE[:seed]',
  },
  device: { parse: oneOf('cpu', 'cuda'), value: 'name', fallback: 'cpu', help: 'cpu or cuda' },
  threads: {
    parse: integer(1, 512),
    value: 'n',
    help: 'compute threads (all cores); the result is the same',
  },
  encoder: {
    parse: oneOf('linear-asym', 'mlp'),
    value: 'name',
    fallback: 'linear-asym',
    help: "linear-asym (one code a KV head) or mlp (the paper's, one a query head)",
  },
  bits: { parse: integer(32, 1024), value: 'n', help: 'of a code, a multiple of 32 (128)' },
  hidden: { parse: integer(16, 4096), value: 'n', help: "width of an mlp's hidden layer (128)" },
  'dense-layers': { parse: layerList, value: 'list', help: 'layers that get no codes, such as 0,1 (none)' },
  steps: { parse: integer(1, 1_000_000), value: 'n', help: 'texts to train on (2500; mlp: 500)' },
  updates: { parse: integer(1, 64), value: 'n', help: 'of the weights, a step (1)' },
  seq: {
    parse: integer(64, 2 ** 30),
    value: 'tokens',
    help: "of a text (8192, at most the model's context)",
  },
  seed: { parse: integer(0, Number.MAX_SAFE_INTEGER), value: 'n', help: 'of weights, texts and draws (0)' },
  rows: { parse: integer(1, 65_536), value: 'n', help: 'queries an update (96)' },
  budget: { parse: share, value: 'share', help: 'of the tokens that a query should find (0.02)' },
  top: {
    parse: integer(1, 1024),
    value: 'n',
    help: 'tokens to be found, drawn a query and head (128; mlp: 64)',
  },
  other: { parse: integer(1, 1024), value: 'n', help: 'other tokens drawn (384; mlp: 192)' },
  border: { parse: portion, value: 'share', help: 'of the others, from the ranks just below (0.5; mlp: 0)' },
  keys: {
    parse: oneOf('signs', 'soft'),
    value: 'how',
    help: 'while training: signs, as served, or soft (signs; mlp: soft)',
  },
  'key-gamma': { parse: positive, value: 'x', help: 'slope of what stands for a sign (8; mlp: 64)' },
  sharpness: { parse: positive, value: 'x', help: "of the loss, by a score's lead (0.25; mlp: 1)" },
  lr: { parse: positive, value: 'x', help: 'highest learning rate (0.008; mlp: 0.001)' },
  validation: {
    parse: text,
    value: 'path',
    many: true,
    help: 'texts to measure on (default: some of the corpus, kept out of training)',
  },
  'validation-texts': {
    parse: integer(1, 1000),
    value: 'n',
    fallback: '4',
    help: 'how many, before and after',
  },
  'text-field': { parse: text, value: 'name', fallback: 'text', help: 'of the objects in a .jsonl' },
  'checkpoint-every': {
    parse: duration,
    value: 'time',
    fallback: '60s',
    help: 'how often the state is saved, beside the artifact',
  },
  cache: { parse: text, value: 'folder', help: 'folder of downloaded models (~/.cache/spotlight)' },
  'hub-url': { parse: url, value: 'url', fallback: 'https://huggingface.co', help: 'the model hub' },
} as const satisfies Record<string, Flag<unknown>>;

const SWITCHES = {
  resume: 'go on with the training that was stopped or killed, to the same artifact',
  json: 'every event as one JSON line on stdout, and no progress bar',
} as const;

type Flags = typeof FLAGS;
type Name = keyof Flags;
type Parsed<N extends Name> = ReturnType<Flags[N]['parse']>;
type Given = { [N in Name]: Parsed<N> | undefined };

export interface TrainConfig {
  readonly corpus: readonly string[];
  readonly out: string;
  readonly model: string;
  readonly device: 'cpu' | 'cuda';
  readonly threads: number | undefined;
  readonly encoder: Recipe['encoder'];
  /** What was given of the recipe. */
  readonly recipe: Partial<Recipe>;
  readonly validation: readonly string[];
  readonly validationTexts: number;
  readonly textField: string;
  readonly checkpointEveryMs: number;
  readonly cache: string | undefined;
  readonly hubUrl: string;
  readonly resume: boolean;
  readonly json: boolean;
}

/** @throws ConfigError naming every bad flag and what would be right */
export function loadTrainConfig(args: readonly string[]): TrainConfig {
  const options = {
    ...Object.fromEntries(
      Object.entries(FLAGS).map(
        ([name, flag]) => [name, { type: 'string', multiple: 'many' in flag }] as const,
      ),
    ),
    ...Object.fromEntries(Object.keys(SWITCHES).map((name) => [name, { type: 'boolean' }] as const)),
  };
  let values: Record<string, unknown>;
  try {
    ({ values } = parseArgs({ args: [...args], options }));
  } catch (error) {
    throw new ConfigError([error instanceof Error ? error.message : String(error)]);
  }
  const problems: string[] = [];
  const given: Record<string, unknown> = {};
  const lists: Record<string, string[]> = {};
  for (const [name, flag] of Object.entries(FLAGS) as [Name, Flag<unknown>][]) {
    const raw = values[name] ?? flag.fallback;
    if (raw === undefined) continue;
    try {
      if (Array.isArray(raw)) lists[name] = raw.map((each: string) => String(flag.parse(each)));
      else given[name] = flag.parse(raw as string);
    } catch (error) {
      if (!(error instanceof BadValue)) throw error;
      problems.push(`--${name}: ${JSON.stringify(raw)} ${error.message}`);
    }
  }
  const { corpus = [], validation = [] } = lists;
  if (corpus.length === 0) problems.push('--corpus: name a text file, a folder of texts or a .jsonl');
  if (values['out'] === undefined) problems.push('--out: name the artifact file to write');
  if (problems.length > 0) throw new ConfigError(problems);
  const flags = given as Given;
  return {
    corpus,
    validation,
    out: flags.out ?? '',
    model: flags.model ?? '',
    device: flags.device ?? 'cpu',
    threads: flags.threads,
    encoder: flags.encoder ?? 'linear-asym',
    recipe: recipeOf(flags),
    validationTexts: flags['validation-texts'] ?? 1,
    textField: flags['text-field'] ?? '',
    checkpointEveryMs: flags['checkpoint-every'] ?? 0,
    cache: flags.cache,
    hubUrl: flags['hub-url'] ?? '',
    resume: values['resume'] === true,
    json: values['json'] === true,
  };
}

function recipeOf(flags: Given): Partial<Recipe> {
  const named = {
    bits: flags.bits,
    hidden: flags.hidden,
    denseLayers: flags['dense-layers'],
    steps: flags.steps,
    updates: flags.updates,
    sequence: flags.seq,
    seed: flags.seed,
    rows: flags.rows,
    budget: flags.budget,
    top: flags.top,
    other: flags.other,
    border: flags.border,
    signKeys: flags.keys === undefined ? undefined : flags.keys === 'signs',
    keyGamma: flags['key-gamma'],
    sharpness: flags.sharpness,
    learningRate: flags.lr,
  };
  return Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined));
}

export function trainHelp(): string {
  const rows = [
    ...(Object.entries(FLAGS) as [Name, Flag<unknown>][]).map(
      ([name, { value, help, fallback }]) =>
        [`--${name} <${value}>`, fallback === undefined ? help : `${help} (${fallback})`] as const,
    ),
    ...Object.entries(SWITCHES).map(([name, help]) => [`--${name}`, help] as const),
  ];
  const width = Math.max(...rows.map(([left]) => left.length));
  return [
    'Usage: spotlight train --corpus PATH --out FILE [flags]',
    '',
    'Trains the hash codes of a model on texts, with the model itself frozen, and writes an artifact that "spotlight serve',
    '--artifact FILE" takes. Beside FILE lie its log (.log.jsonl), its loss as a plot (.loss.svg) and, until it is done, its state',
    '(.checkpoint): stopped by Ctrl-C or killed, it goes on with --resume and ends in the very same bytes.',
    '',
    ...rows.map(([left, help]) => `  ${left.padEnd(width)}  ${help}`),
    '',
    'Example: spotlight train --corpus texts/ --corpus more.jsonl --steps 200 --seq 4096 --out codes.safetensors',
    '',
  ].join('\n');
}
