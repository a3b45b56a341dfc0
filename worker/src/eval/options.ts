// The command line of `spotlight eval`: one table of flags, read into one record, and printed as the help. Every wrong value is named
// with what would be right; nothing of the model is known here yet.
import { parseArgs } from 'node:util';
import { NEEDLES } from './haystack.js';
import type { Needle } from './haystack.js';

export const TASKS = ['iou', 'ppl', 'needle', 'fidelity', 'qa', 'fewshot'] as const;
export type Task = (typeof TASKS)[number];

export class UsageError extends Error {
  override readonly name = 'UsageError';
}

interface Flag {
  readonly value?: string;
  readonly fallback?: string;
  readonly help: string;
  readonly repeated?: true;
}

/** In the order of the help. */
const FLAGS = {
  tasks: { value: 'LIST', fallback: 'iou,ppl,needle,fidelity', help: `any of ${TASKS.join(', ')}` },
  methods: {
    value: 'LIST',
    fallback: 'dense,oracle,spotlight,window,lsh,quest',
    help: 'methods side by side, such as spotlight or spotlight+tail, or all; --list-methods tells all',
  },
  budget: {
    value: 'LIST',
    fallback: '0.02',
    help: 'shares of the context retrieved a KV head; more than one is a sweep',
  },
  tail: { help: 'also run every method that can have it with the block tail (+tail)' },
  'no-recommended': {
    help: 'beside spotlight, do not run it by the settings its artifact recommends (spotlight+recommended)',
  },
  texts: {
    value: 'PATH',
    repeated: true,
    help: 'text file or folder for iou, ppl and fidelity; may be repeated',
  },
  windows: { value: 'N', fallback: '1', help: 'windows (or prompts) of a text' },
  length: { value: 'TOKENS', fallback: '8192', help: 'tokens of a window, of a prompt, most of a context' },
  'dense-prefix': {
    value: 'TOKENS',
    fallback: '0',
    help: 'iou, ppl: leading tokens of a window that attend densely and are not scored; evicting methods need some',
  },
  'needle-kinds': { value: 'LIST', fallback: NEEDLES.join(','), help: 'needle: what is hidden' },
  'needle-lengths': { value: 'LIST', fallback: '1024,2048,4096,8192', help: 'needle: tokens in all' },
  'needle-depths': { value: 'LIST', fallback: '0,0.25,0.5,0.75,1', help: 'needle: places, 0 first, 1 last' },
  'needle-repeats': { value: 'N', fallback: '1', help: 'needle: haystacks a cell' },
  qa: {
    value: 'FILE',
    repeated: true,
    help: 'qa: JSONL of LongBench: context, input, answers, dataset, all_classes',
  },
  'qa-prompts': {
    value: 'FILE',
    help: "qa: prompts by data set with {context} and {input}, as LongBench's dataset2prompt.json; default: the context, then Question and Answer",
  },
  'answer-tokens': { value: 'N', fallback: '64', help: 'qa: most tokens of an answer' },
  fewshot: { value: 'FILE', help: 'fewshot: JSONL: question, choices, answer (index or letter)' },
  shots: { value: 'N', fallback: '5', help: 'fewshot: leading lines that are solved examples' },
  'min-tokens': { value: 'N', fallback: '128', help: 'least tokens retrieved a KV head' },
  sink: { value: 'N', fallback: '4', help: 'first tokens always read, where a method has such' },
  recent: { value: 'N', fallback: '64', help: 'newest tokens always read, where a method has such' },
  'dense-layers': { value: 'N', fallback: '0', help: 'leading layers that attend densely' },
  'tail-from': { value: 'LAYER', fallback: '2', help: 'first layer that uses the tail' },
  'no-equal-bytes': { help: 'do not run exact top-k at as many bytes beside each method: half the time' },
  model: { value: 'MODEL', fallback: 'smollm2-135m-instruct', help: 'GGUF file, Hugging Face folder or id' },
  artifact: {
    value: 'FILE',
    fallback: 'auto',
    help: 'hash artifact; auto takes what ships for the model, none',
  },
  device: { value: 'NAME', fallback: 'cpu', help: 'cpu or cuda' },
  threads: { value: 'N', help: 'compute threads; default: physical cores' },
  seed: { value: 'N', fallback: '1', help: 'of generated haystacks' },
  'time-limit': {
    value: 'SECONDS',
    help: 'begin no case (a window, a haystack, a question) after so long, and report what was measured',
  },
  json: { value: 'FILE', help: 'write everything as JSON; - is standard output, then without the table' },
  html: { value: 'FILE', help: 'write one page with tables and plots that needs no other file' },
  calibrate: {
    value: 'FILE',
    help: "choose each layer's mode and budget under --bound on the texts, and write the artifact anew with them as its recommendation",
  },
  bound: {
    value: 'X',
    fallback: '0.01',
    help: 'calibrate: most loss of perplexity against dense, 0.01 is 1%',
  },
  'list-methods': { help: 'print the methods, their rules, index bits and papers, and end' },
  quiet: { help: 'no progress on standard error' },
  help: { help: 'print this' },
} as const satisfies Readonly<Record<string, Flag>>;

export interface EvalOptions {
  readonly tasks: readonly Task[];
  readonly methods: readonly string[];
  readonly budgets: readonly number[];
  readonly tail: boolean;
  readonly recommended: boolean;
  readonly texts: readonly string[];
  readonly windows: number;
  readonly length: number;
  readonly densePrefix: number;
  readonly needle: {
    readonly kinds: readonly Needle[];
    readonly lengths: readonly number[];
    readonly depths: readonly number[];
    readonly repeats: number;
  };
  readonly qa: readonly string[];
  readonly qaPrompts: string | undefined;
  readonly answerTokens: number;
  readonly fewshot: string | undefined;
  readonly shots: number;
  readonly minTokens: number;
  readonly sink: number;
  readonly recent: number;
  readonly denseLayers: number;
  readonly tailFrom: number;
  readonly equalBytes: boolean;
  readonly model: string;
  readonly artifact: string;
  readonly device: 'cpu' | 'cuda';
  readonly threads: number | undefined;
  readonly seed: number;
  readonly timeLimit: number | undefined;
  readonly json: string | undefined;
  readonly html: string | undefined;
  readonly calibrate: string | undefined;
  readonly bound: number;
  readonly listMethods: boolean;
  readonly quiet: boolean;
  readonly help: boolean;
}

/** @throws UsageError naming the flag and what would be right */
export function readOptions(args: readonly string[]): EvalOptions {
  const values = parsed(args);
  const text = (name: keyof typeof FLAGS): string | undefined => {
    const { fallback }: Flag = FLAGS[name];
    return (values[name] as string | undefined) ?? fallback;
  };
  const list = (name: keyof typeof FLAGS): string[] =>
    (text(name) ?? '')
      .split(',')
      .map((entry) => entry.trim())
      .filter((entry) => entry !== '');
  const number = (
    name: keyof typeof FLAGS,
    raw: string | undefined,
    least: number,
    most: number,
    whole = true,
  ): number => {
    const value = raw === undefined || raw.trim() === '' ? Number.NaN : Number(raw);
    if (!(value >= least && value <= most) || (whole && !Number.isInteger(value)))
      throw new UsageError(
        `--${name} ${raw ?? ''}: must be ${whole ? 'a whole number' : 'a number'} from ${least} to ${most}`,
      );
    return value;
  };
  const integer = (name: keyof typeof FLAGS, least: number, most = 2 ** 31 - 1): number =>
    number(name, text(name), least, most);
  const numbers = (name: keyof typeof FLAGS, least: number, most: number, whole: boolean): number[] => {
    const all = list(name).map((raw) => number(name, raw, least, most, whole));
    if (all.length === 0) throw new UsageError(`--${name}: is empty`);
    return all;
  };
  const among = <T extends string>(name: keyof typeof FLAGS, known: readonly T[]): T[] =>
    list(name).map((entry) => {
      const found = known.find((one) => one === entry);
      if (found === undefined) throw new UsageError(`--${name} ${entry}: there are ${known.join(', ')}`);
      return found;
    });
  const on = (name: keyof typeof FLAGS): boolean => values[name] === true;
  const [device = 'cpu'] = among('device', ['cpu', 'cuda'] as const);
  const options: EvalOptions = {
    tasks: among('tasks', TASKS),
    methods: list('methods'),
    budgets: numbers('budget', 1e-6, 1, false),
    tail: on('tail'),
    recommended: !on('no-recommended'),
    texts: (values['texts'] as string[] | undefined) ?? [],
    windows: integer('windows', 1),
    length: integer('length', 128),
    densePrefix: integer('dense-prefix', 0),
    needle: {
      kinds: among('needle-kinds', NEEDLES),
      lengths: numbers('needle-lengths', 256, 2 ** 24, true),
      depths: numbers('needle-depths', 0, 1, false),
      repeats: integer('needle-repeats', 1),
    },
    qa: (values['qa'] as string[] | undefined) ?? [],
    qaPrompts: text('qa-prompts'),
    answerTokens: integer('answer-tokens', 1, 4096),
    fewshot: text('fewshot'),
    shots: integer('shots', 0),
    minTokens: integer('min-tokens', 0),
    sink: integer('sink', 0),
    recent: integer('recent', 0),
    denseLayers: integer('dense-layers', 0),
    tailFrom: integer('tail-from', 0),
    equalBytes: !on('no-equal-bytes'),
    model: text('model') ?? '',
    artifact: text('artifact') ?? 'auto',
    device,
    threads: text('threads') === undefined ? undefined : integer('threads', 1, 512),
    seed: integer('seed', 0),
    timeLimit: text('time-limit') === undefined ? undefined : integer('time-limit', 1),
    json: text('json'),
    html: text('html'),
    calibrate: text('calibrate'),
    bound: number('bound', text('bound'), 0, 10, false),
    listMethods: on('list-methods'),
    quiet: on('quiet'),
    help: on('help'),
  };
  check(options);
  return options;
}

function parsed(args: readonly string[]): Readonly<Record<string, unknown>> {
  const entries = Object.entries(FLAGS as Readonly<Record<string, Flag>>);
  const options = Object.fromEntries(
    entries.map(([name, { value, repeated }]) => [
      name,
      { type: value === undefined ? ('boolean' as const) : ('string' as const), multiple: repeated ?? false },
    ]),
  );
  try {
    return parseArgs({ args: [...args], options, strict: true }).values;
  } catch (error) {
    throw new UsageError(`${(error as Error).message.split('. ')[0] ?? ''} (--help lists the flags)`);
  }
}

function check({
  help,
  listMethods,
  calibrate,
  tasks,
  texts,
  qa,
  fewshot,
  methods,
  length,
  densePrefix,
  json,
}: EvalOptions): void {
  if (help || listMethods) return;
  const reads = tasks.filter((task) => ['iou', 'ppl', 'fidelity'].includes(task));
  if (calibrate !== undefined && texts.length === 0)
    throw new UsageError('--calibrate: give texts by --texts');
  if (calibrate !== undefined && !calibrate.endsWith('.safetensors'))
    throw new UsageError(`--calibrate ${calibrate}: is the artifact to write, a .safetensors file`);
  if (calibrate !== undefined && json === '-')
    throw new UsageError('--json -: a calibration has no rows; name a file for its record');
  if (calibrate !== undefined) return;
  if (tasks.length === 0) throw new UsageError(`--tasks: is empty; there are ${TASKS.join(', ')}`);
  if (methods.length === 0) throw new UsageError('--methods: is empty');
  if (reads.length > 0 && texts.length === 0)
    throw new UsageError(`--tasks ${reads.join(',')}: give texts by --texts (a file or a folder)`);
  if (tasks.includes('qa') && qa.length === 0)
    throw new UsageError('--tasks qa: give questions by --qa FILE');
  if (tasks.includes('fewshot') && fewshot === undefined)
    throw new UsageError('--tasks fewshot: give questions by --fewshot FILE');
  if (densePrefix > length - 2)
    throw new UsageError(`--dense-prefix ${densePrefix}: must leave tokens of --length ${length}`);
}

/** What --help prints. */
export function helpText(): string {
  const lines = Object.entries(FLAGS as Readonly<Record<string, Flag>>).map(
    ([name, { value, fallback, help, repeated }]) => {
      const flag = `--${name}${value === undefined ? '' : ` ${value}`}${repeated ? ' ...' : ''}`;
      return `  ${flag.padEnd(26)} ${help}${fallback === undefined ? '' : ` [${fallback}]`}`;
    },
  );
  return `Usage: spotlight eval [flags]
Compares retrieval methods with dense attention on one model: what they lose, and what a decode step reads for it.

${lines.join('\n')}

Tasks: iou compares selections with the exact top-k by layer and position; ppl is perplexity by document with every token sparse;
needle hides facts by length and depth and decodes the question sparsely; fidelity is agreement of 128 greedy tokens with dense
attention's; qa and fewshot read the files you give. Every row tells the bytes a decode step reads and, beside it, what exact top-k
with a free index gives for as many bytes.

Examples:
  spotlight eval --texts corpus/ --tail --html report.html
  spotlight eval --texts book.txt --tasks ppl --methods dense,oracle,spotlight --budget 0.01,0.02,0.05 --json sweep.json
  spotlight eval --tasks needle --methods dense,spotlight+tail,magicpig --needle-lengths 4096
  spotlight eval --tasks qa --qa hotpotqa.jsonl --methods dense,spotlight+tail,snapkv,h2o
  spotlight eval --texts corpus/ --calibrate calibrated.safetensors --bound 0.01
`;
}
