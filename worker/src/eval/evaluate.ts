// An evaluation from its options to its report: opens the model, lines up the cases of each task, runs every method on them, and
// writes tables and files. Nothing in what it writes depends on when or where it ran.
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { BLOCK_SIZE, selectors as selectorTable } from '@spotlight/cuda';
import type { ArtifactInfo } from '@spotlight/cuda';
import { layersText, RECOMMENDED, recommendationOf } from '../artifact/recommendation.js';
import type { Recommendation } from '../artifact/recommendation.js';
import { runCalibration } from './calibration-run.js';
import type { Method } from './methods.js';
import { BY_RECOMMENDATION, parseMethods, withTails } from './methods.js';
import { openModel } from './open-model.js';
import type { OpenModel } from './open-model.js';
import type { EvalOptions } from './options.js';
import { UsageError } from './options.js';
import { htmlReport } from './report/html.js';
import { summaries, summaryText } from './report/summary.js';
import { methodTable, table } from './report/table.js';
import { readChoices, readPrompts, readQuestions, readTexts } from './sources.js';
import type { Document } from './sources.js';
import { fewshotCases } from './tasks/fewshot.js';
import { fidelityCases } from './tasks/fidelity.js';
import { needleCases } from './tasks/needle.js';
import { qaCases } from './tasks/qa.js';
import type { Lab } from './tasks/task.js';
import { windowCases } from './tasks/windows.js';
import type { Case, Row } from './trial.js';
import { runCases, toRows } from './trial.js';

export interface EvalOutput {
  /** For people; absent where JSON goes to standard output. */
  readonly write: (text: string) => void;
  /** Progress. */
  readonly say: (line: string) => void;
}

interface Measured {
  readonly rows: readonly Row[];
  /** By --time-limit, before all cases had run. */
  readonly stopped: boolean;
}

/** [async] @param command what a user types to get the same again */
export async function evaluate(
  options: EvalOptions,
  command: string,
  { write, say }: EvalOutput,
): Promise<void> {
  if (options.listMethods) {
    write(`${methodTable(selectorTable())}\n`);
    return;
  }
  const { tasks, length, needle, minTokens, device, threads } = options;
  const longest = Math.max(
    tasks.some((task) => task !== 'needle') || options.calibrate !== undefined ? length : 0,
    ...(tasks.includes('needle') ? needle.lengths : []),
  );
  const opened = await openModel({
    ...{ model: options.model, artifact: options.artifact, device, log: say },
    ...(threads !== undefined && { threads }),
    // A block of room: a row may end where a context does.
    blocks: Math.ceil(longest / BLOCK_SIZE) + 1,
    selectors: wantsSelectors(options),
    attention: { minTokens, crossover: 0 },
  });
  try {
    const { maxModelLen } = opened.engine.info.model;
    if (longest > maxModelLen)
      throw new UsageError(
        `--length, --needle-lengths: ${longest} tokens, the model's contexts end at ${maxModelLen}`,
      );
    if (options.calibrate !== undefined) {
      const { calibrate } = options;
      write(`${await runCalibration(opened, { ...options, calibrate }, command, say)}\n`);
      return;
    }
    report(options, command, opened, await run(options, opened, say), write);
  } finally {
    await opened.engine.dispose();
  }
}

async function run(
  options: EvalOptions,
  { engine, tokenizer, artifact }: OpenModel,
  say: EvalOutput['say'],
): Promise<Measured> {
  const started = performance.now();
  const { model } = engine.info;
  const selectors = wantsSelectors(options) ? selectorTable() : [];
  const recommended = artifact === undefined ? undefined : recommendationOf(artifact);
  const facts = {
    ...{ model, selectors, recommended },
    codeBits: artifact === undefined ? undefined : codeBitsOf(artifact),
    codeLayers: artifact?.layers,
  };
  const given = options.tail ? withTails(options.methods, selectors) : options.methods;
  const also = recommended !== undefined && options.recommended && given.includes('spotlight');
  const methods = parseMethods(also ? [...given, BY_RECOMMENDATION] : given, facts);
  const oracle = options.equalBytes ? parseMethods(['oracle'], facts)[0] : undefined;
  const { denseLayers, tailFrom, sink, recent } = options;
  let stopped = false;
  const plan = {
    mayGoOn: () => {
      stopped = options.timeLimit !== undefined && performance.now() - started > options.timeLimit * 1000;
      if (stopped) say(`stopped by --time-limit after ${options.timeLimit} s`);
      return !stopped;
    },
    ...{ methods, budgets: options.budgets, leastTokens: options.minTokens, model, oracle, say },
    options: { denseLayers, tailFrom, sink, recent },
  };
  const lab: Lab = { engine, tokenizer, seed: options.seed, length: options.length };
  const cases = casesOf(options, lab, parseMethods(['dense'], facts)[0] as Method);
  return { rows: toRows(await runCases(cases, plan)), stopped };
}

/** Whether the engine must know the methods of the literature. */
function wantsSelectors({ methods, equalBytes, calibrate }: EvalOptions): boolean {
  if (calibrate !== undefined) return false;
  return equalBytes || methods.some((name) => !/^(?:dense|spotlight(?:\+.*)?)$/.test(name));
}

function codeBitsOf({ encoder, bits, queryHeads, kvHeads }: ArtifactInfo): number {
  return encoder === 'mlp' ? (bits * queryHeads) / kvHeads : bits;
}

async function* casesOf(options: EvalOptions, lab: Lab, dense: Method): AsyncGenerator<Case> {
  const { tasks, windows, densePrefix } = options;
  const [perplexity, iou] = [tasks.includes('ppl'), tasks.includes('iou')];
  const documents = options.texts.length === 0 ? [] : readTexts(options.texts);
  if (perplexity || iou) yield* windowCases(lab, { documents, windows, densePrefix, perplexity, iou });
  if (tasks.includes('needle')) yield* needleCases(lab, options.needle, dense);
  if (tasks.includes('fidelity')) yield* fidelityCases(lab, documents, windows, dense);
  if (tasks.includes('qa')) {
    const prompts =
      options.qaPrompts === undefined ? new Map<string, string>() : readPrompts(options.qaPrompts);
    yield* qaCases(lab, options.qa.flatMap(readQuestions), options.answerTokens, prompts);
  }
  if (tasks.includes('fewshot') && options.fewshot !== undefined)
    yield* fewshotCases(lab, readChoices(options.fewshot), options.shots);
}

/** "name 0123456789ab": enough to tell whether a text is the same. */
function digestsOf(documents: readonly Document[]): string {
  const digest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 12);
  return documents.map(({ name, text }) => `${name} ${digest(text)}`).join(', ');
}

function describeRecommendation({ layers = {}, ...rest }: Recommendation): string {
  const settings = Object.entries(rest).map(([name, value]) => `${name} ${value}`);
  return [...settings, layersText(layers)].filter((part) => part !== '').join(', ');
}

function report(
  options: EvalOptions,
  command: string,
  { engine, artifact }: OpenModel,
  { rows, stopped }: Measured,
  write: EvalOutput['write'],
): void {
  const { info } = engine;
  const facts = {
    model: options.model,
    fingerprint: info.fingerprint,
    artifact: artifact === undefined ? 'none' : artifact.digest,
    ...(artifact?.metadata[RECOMMENDED] !== undefined && {
      recommends: describeRecommendation(recommendationOf(artifact) ?? {}),
    }),
    device: `${info.device} ${info.deviceName}, ${info.isa}`,
    seed: String(options.seed),
    ...(options.texts.length > 0 && { texts: digestsOf(readTexts(options.texts)) }),
    ...(stopped && { stopped: `by --time-limit ${options.timeLimit}, before all cases had run` }),
  };
  const json = `${JSON.stringify({ format: 1, command, ...facts, rows }, null, 1)}\n`;
  if (options.json === '-') write(json);
  else write(`${command}\n\n${summaries(rows).map(summaryText).join('\n\n')}\n\n${table(rows)}\n`);
  if (options.json !== undefined && options.json !== '-') writeFileSync(options.json, json);
  if (options.html !== undefined)
    writeFileSync(options.html, htmlReport({ command, facts: Object.entries(facts), rows }));
}
