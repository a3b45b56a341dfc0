// Pure: a request off the wire -> every value checked and every default filled, or the error that names the field.
// max_tokens is cut to what the context and the block pool leave, never refused: LENGTH tells the client the same.
import { BLOCK_SIZE, SELECTOR_NAMES } from '@spotlight/cuda';
import type { BackendName, ModelInfo, Tail } from '@spotlight/cuda';
import { ErrorCode, TailMode } from '@spotlight/proto';
import type { AttentionSettings, Error as WireError, SamplingParams } from '@spotlight/proto';
import type { EngineRequest } from './api.js';
import { invalid, refusal } from './refusal.js';

const MAX_CHOICES = 128;
const MAX_LOGPROBS = 20;
const MAX_STOP_STRINGS = 16;
const MAX_STOP_LENGTH = 1024;
const MAX_STOP_TOKENS = 256;

/** What a request is checked against. */
export interface RequestLimits {
  readonly model: Pick<ModelInfo, 'vocabSize' | 'maxModelLen'>;
  /** Blocks in the pool. */
  readonly blocks: number;
  /** Sequences that can be open at once. */
  readonly sequences: number;
  /** Whether requests may name evaluation selectors. */
  readonly selectors: boolean;
}

export interface ResolvedSampling {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly repetitionPenalty: number;
  readonly logitBias: ReadonlyMap<number, number> | undefined;
  readonly seed: bigint;
  /** Never more than the context and the pool leave. */
  readonly maxTokens: number;
  readonly minTokens: number;
  readonly stop: readonly string[];
  readonly stopTokenIds: ReadonlySet<number>;
  readonly ignoreEos: boolean;
  readonly logprobs: number | undefined;
  readonly n: number;
  readonly echo: boolean;
}

/** What the request overrides; absent fields are the deployment's. */
export interface ResolvedAttention {
  readonly backend?: BackendName;
  readonly fraction?: number;
  readonly tail?: Tail;
  readonly densePrefixTokens: number | undefined;
}

export interface ResolvedRequest {
  readonly sampling: ResolvedSampling;
  readonly attention: ResolvedAttention;
}

class Refused extends Error {
  constructor(readonly error: WireError) {
    super(error.message);
  }
}

/** `seed` is drawn with when the request has none. */
export function validate(
  request: EngineRequest,
  limits: RequestLimits,
  seed: bigint,
): ResolvedRequest | WireError {
  try {
    checkPrompt(request.promptTokens, limits);
    const attention = resolveAttention(request.attention, limits);
    const sampling = resolveSampling(request.sampling, request.promptTokens.length, limits, seed);
    checkResume(request, sampling, limits);
    return { sampling, attention };
  } catch (error) {
    if (error instanceof Refused) return error.error;
    throw error;
  }
}

export function isRefusal(result: ResolvedRequest | WireError): result is WireError {
  return 'code' in result;
}

/** Tokens a request of one choice may hold, the last drawn one included. */
function contextLimit(limits: RequestLimits): number {
  return Math.min(limits.model.maxModelLen, limits.blocks * BLOCK_SIZE);
}

function checkPrompt(prompt: readonly number[], limits: RequestLimits): void {
  if (prompt.length === 0) refuse('prompt', 'is empty: give at least one token');
  const limit = contextLimit(limits) - 1;
  if (prompt.length > limit) {
    const cause = limit + 1 === limits.model.maxModelLen ? "the model's context" : "the worker's block pool";
    throw new Refused(
      refusal(
        ErrorCode.PROMPT_TOO_LONG,
        `prompt has ${prompt.length} tokens, the limit is ${limit} (${cause} holds ${limit + 1}, one is left to generate)`,
        'prompt',
      ),
    );
  }
  checkTokens('prompt', prompt, limits);
}

function checkTokens(field: string, ids: Iterable<number>, limits: RequestLimits): void {
  const { vocabSize } = limits.model;
  for (const id of ids) {
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
      refuse(field, `holds token id ${id}; ids of this model are 0 to ${vocabSize - 1}`);
    }
  }
}

function resolveSampling(
  params: SamplingParams,
  promptTokens: number,
  limits: RequestLimits,
  seed: bigint,
): ResolvedSampling {
  const n = integer('sampling.n', params.n, 1, 1, Math.min(MAX_CHOICES, limits.sequences));
  const room = tokensLeft(promptTokens, n, limits);
  if (room < 1)
    refuse(
      'sampling.n',
      `is ${n}: so many choices of ${promptTokens} prompt tokens do not fit the worker's block pool`,
    );
  const logprobs =
    params.logprobs === undefined
      ? undefined
      : integer('sampling.logprobs', params.logprobs, 0, 0, MAX_LOGPROBS);
  checkStops(params, limits);
  return {
    temperature: real('sampling.temperature', params.temperature, 1, 0, 1e6),
    topK: integer('sampling.top_k', params.topK, 0, 0, 2 ** 32 - 1),
    topP: real('sampling.top_p', params.topP, 1, 0, 1, 'above 0'),
    minP: real('sampling.min_p', params.minP, 0, 0, 1),
    presencePenalty: real('sampling.presence_penalty', params.presencePenalty, 0, -2, 2),
    frequencyPenalty: real('sampling.frequency_penalty', params.frequencyPenalty, 0, -2, 2),
    repetitionPenalty: real('sampling.repetition_penalty', params.repetitionPenalty, 1, 1e-3, 1e3),
    logitBias: resolveLogitBias(params.logitBias, limits),
    seed: params.seed ?? seed,
    maxTokens: Math.min(integer('sampling.max_tokens', params.maxTokens, room, 0, 2 ** 32 - 1), room),
    minTokens: integer(
      'sampling.min_tokens',
      params.minTokens,
      0,
      0,
      params.maxTokens ?? limits.model.maxModelLen,
    ),
    stop: params.stop,
    stopTokenIds: new Set(params.stopTokenIds),
    ignoreEos: params.ignoreEos ?? false,
    logprobs,
    n,
    echo: params.echo ?? false,
  };
}

/** Tokens each of n choices may draw: the context's rest, and full blocks shared, the rest of the pool divided by n. */
function tokensLeft(promptTokens: number, n: number, limits: RequestLimits): number {
  const shared = n === 1 ? 0 : Math.floor((promptTokens - 1) / BLOCK_SIZE);
  const own = Math.floor((limits.blocks - shared) / n);
  return Math.min(limits.model.maxModelLen, (shared + own) * BLOCK_SIZE) - promptTokens;
}

function checkStops(params: SamplingParams, limits: RequestLimits): void {
  if (params.stop.length > MAX_STOP_STRINGS) {
    refuse('sampling.stop', `has ${params.stop.length} strings, at most ${MAX_STOP_STRINGS} are allowed`);
  }
  for (const stop of params.stop) {
    if (stop === '') refuse('sampling.stop', 'holds an empty string: every text would end at once');
    if (stop.length > MAX_STOP_LENGTH) {
      refuse(
        'sampling.stop',
        `holds a string of ${stop.length} characters, at most ${MAX_STOP_LENGTH} are allowed`,
      );
    }
  }
  if (params.stopTokenIds.length > MAX_STOP_TOKENS) {
    refuse(
      'sampling.stop_token_ids',
      `has ${params.stopTokenIds.length} ids, at most ${MAX_STOP_TOKENS} are allowed`,
    );
  }
  checkTokens('sampling.stop_token_ids', params.stopTokenIds, limits);
}

function resolveLogitBias(
  bias: SamplingParams['logitBias'],
  limits: RequestLimits,
): ReadonlyMap<number, number> | undefined {
  const entries = Object.entries(bias).map(([id, value]) => [Number(id), value] as const);
  if (entries.length === 0) return undefined;
  const field = 'sampling.logit_bias';
  checkTokens(
    field,
    entries.map(([id]) => id),
    limits,
  );
  for (const [id, value] of entries) real(`${field}[${id}]`, value, 0, -100, 100);
  return new Map(entries);
}

function backendOf(name: string, limits: RequestLimits): BackendName {
  const offered: readonly BackendName[] = ['dense', 'spotlight', ...(limits.selectors ? SELECTOR_NAMES : [])];
  const found = offered.find((backend) => backend === name);
  if (found !== undefined) return found;
  const names = offered.map((backend) => `"${backend}"`);
  const list = `${names.slice(0, -1).join(', ')} or ${names.at(-1) ?? ''}`;
  const known = SELECTOR_NAMES.some((selector) => selector === name);
  const why = known ? '; this worker does not offer evaluation selectors (--attention-selectors)' : '';
  return refuse('attention.backend', `is "${name}"; it may be ${list}${why}`);
}

function resolveAttention(settings: AttentionSettings | undefined, limits: RequestLimits): ResolvedAttention {
  if (settings === undefined) return { densePrefixTokens: undefined };
  const { backend, fraction, densePrefixTokens } = settings;
  const tail = tailOf(settings.tail);
  return {
    ...(backend === undefined ? {} : { backend: backendOf(backend, limits) }),
    ...(fraction === undefined ? {} : { fraction: real('attention.fraction', fraction, 0, 0, 1, 'above 0') }),
    ...(tail === undefined ? {} : { tail }),
    densePrefixTokens:
      densePrefixTokens === undefined
        ? undefined
        : integer('attention.dense_prefix_tokens', densePrefixTokens, 0, 0, 2 ** 32 - 1),
  };
}

function tailOf(mode: TailMode): Tail | undefined {
  switch (mode) {
    case TailMode.UNSPECIFIED:
      return undefined;
    case TailMode.BLOCK_MEAN:
      return 'block-mean';
    case TailMode.NONE:
      return 'none';
    default:
      return refuse('attention.tail', `is unknown (${mode}); give block mean, none or nothing`);
  }
}

function checkResume(request: EngineRequest, sampling: ResolvedSampling, limits: RequestLimits): void {
  const room = tokensLeft(request.promptTokens.length, sampling.n, limits);
  for (const [choice, { tokenIds, emittedChars, finished }] of request.resume) {
    if (!Number.isInteger(choice) || choice < 0 || choice >= sampling.n) {
      refuse('resume.choice', `is ${choice}; this request has choices 0 to ${sampling.n - 1}`);
    }
    if (finished !== true && tokenIds.length > room)
      refuse('resume.token_ids', `has ${tokenIds.length} tokens, the context leaves ${room}`);
    checkTokens('resume.token_ids', tokenIds, limits);
    integer('resume.emitted_chars', emittedChars, 0, 0, 2 ** 32 - 1);
  }
}

function integer(
  field: string,
  value: number | undefined,
  standard: number,
  least: number,
  most: number,
): number {
  if (value === undefined) return standard;
  if (!Number.isInteger(value) || value < least || value > most) {
    refuse(field, `is ${value}; it must be a whole number from ${least} to ${most}`);
  }
  return value;
}

function real(
  field: string,
  value: number | undefined,
  standard: number,
  least: number,
  most: number,
  open?: 'above 0',
): number {
  if (value === undefined) return standard;
  if (!Number.isFinite(value) || value < least || value > most || (open !== undefined && value <= 0)) {
    const above = open === undefined ? `at least ${least}` : 'above 0';
    refuse(field, `is ${value}; it must be ${above} and at most ${most}`);
  }
  return value;
}

function refuse(field: string, message: string): never {
  throw new Refused(invalid(field, message));
}
