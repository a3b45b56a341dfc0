// Texts and JSONL that the user gives: documents for perplexity, questions with answers, multiple choice. Every wrong line is told by
// file and number.
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';

export class SourceError extends Error {
  override readonly name = 'SourceError';
}

export interface Document {
  readonly name: string;
  readonly text: string;
}

/** Of files and folders (their files, by name). @throws SourceError when there is none */
export function readTexts(paths: readonly string[]): Document[] {
  const files = paths.flatMap((path) =>
    statSync(path).isDirectory()
      ? readdirSync(path)
          .sort()
          .map((name) => join(path, name))
          .filter((file) => statSync(file).isFile())
      : [path],
  );
  if (files.length === 0) throw new SourceError(`${paths.join(', ')}: no files to read`);
  return files.map((file) => ({ name: basename(file), text: readFileSync(file, 'utf8') }));
}

export interface Question {
  readonly dataset: string;
  readonly context: string;
  readonly input: string;
  readonly answers: readonly string[];
  readonly classes: readonly string[];
}

/** LongBench's format, a line each: {context, input, answers, dataset?, all_classes?}. @throws SourceError */
export function readQuestions(file: string): Question[] {
  return lines(file).map(({ value, where }) => ({
    dataset: optionalText(value, 'dataset', where) ?? basename(file).replace(/\.jsonl$/, ''),
    context: text(value, 'context', where),
    input: text(value, 'input', where),
    answers: texts(value, 'answers', where),
    classes:
      value['all_classes'] === undefined || value['all_classes'] === null
        ? []
        : texts(value, 'all_classes', where),
  }));
}

/** Where a prompt has the context. */
export const CONTEXT = '{context}';
/** Data set -> its prompt, with {context} once and {input}. */
export type Prompts = ReadonlyMap<string, string>;

/** The form of LongBench's own dataset2prompt.json. @throws SourceError */
export function readPrompts(file: string): Prompts {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new SourceError(`${file}: not JSON: ${error.message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new SourceError(`${file}: must be an object, data set by data set`);
  return new Map(
    Object.entries(value).map(([dataset, prompt]: [string, unknown]) => {
      if (typeof prompt !== 'string' || prompt.split(CONTEXT).length !== 2)
        throw new SourceError(`${file}: ${dataset} must be a text with ${CONTEXT} in it, once`);
      return [dataset, prompt];
    }),
  );
}

export interface Choice {
  readonly question: string;
  readonly choices: readonly string[];
  /** Index of the right one. */
  readonly answer: number;
}

/** A line each: {question, choices, answer}; the answer by index, or by letter (A is the first). @throws SourceError */
export function readChoices(file: string): Choice[] {
  return lines(file).map(({ value, where }) => {
    const choices = texts(value, 'choices', where);
    const given = value['answer'];
    const answer = typeof given === 'string' && /^[A-Z]$/.test(given) ? given.charCodeAt(0) - 65 : given;
    if (typeof answer !== 'number' || !Number.isInteger(answer) || choices[answer] === undefined)
      throw new SourceError(
        `${where}: answer must be the index or letter of one of the ${choices.length} choices`,
      );
    return { question: text(value, 'question', where), choices, answer };
  });
}

interface Line {
  readonly value: Readonly<Record<string, unknown>>;
  readonly where: string;
}

function lines(file: string): Line[] {
  const found = readFileSync(file, 'utf8')
    .split('\n')
    .map((line, i) => ({ line, where: `${file}:${i + 1}` }))
    .filter(({ line }) => line.trim() !== '')
    .map(({ line, where }) => {
      let value: unknown;
      try {
        value = JSON.parse(line);
      } catch (error) {
        throw new SourceError(`${where}: not JSON: ${(error as Error).message}`);
      }
      if (typeof value !== 'object' || value === null || Array.isArray(value))
        throw new SourceError(`${where}: must be a JSON object`);
      return { value: value as Line['value'], where };
    });
  if (found.length === 0) throw new SourceError(`${file}: has no line`);
  return found;
}

function optionalText(value: Line['value'], field: string, where: string): string | undefined {
  const found = value[field];
  if (found === undefined || typeof found === 'string') return found;
  throw new SourceError(`${where}: ${field} must be a string`);
}

function text(value: Line['value'], field: string, where: string): string {
  const found = optionalText(value, field, where);
  if (found === undefined) throw new SourceError(`${where}: ${field} is missing`);
  return found;
}

function texts(value: Line['value'], field: string, where: string): string[] {
  const found = value[field];
  if (Array.isArray(found) && found.length > 0 && found.every((entry) => typeof entry === 'string'))
    return found;
  throw new SourceError(`${where}: ${field} must be a list of strings`);
}
