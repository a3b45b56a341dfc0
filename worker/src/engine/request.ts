// The record that travels: a request and its choices, each choice one native sequence at a time. Stored lengths are few:
// `computed` positions have been submitted, `retired` have certainly been written, `pending` draws are in flight; all
// else follows. A choice keeps its tokens for life and loses only its blocks and sequence when it is preempted.
import type { BlockId, SequenceId, SlotId } from '@spotlight/cuda';
import { FinishReason } from '@spotlight/proto';
import type { Delta, Error as WireError, TokenLogprob } from '@spotlight/proto';
import { BlockTable } from '../kv/block-table.js';
import { KeyChain } from '../kv/key-chain.js';
import type { EngineRequest, Measure, Resumed, TokenTexts } from './api.js';
import type { Client } from './clients.js';
import { StopRules } from './stop-rules.js';
import type { ResolvedAttention, ResolvedRequest, ResolvedSampling } from './validate.js';

export type Phase = 'prompt' | 'generated';

/** What a request takes from the moment it is submitted at. */
export interface Birth {
  /** Order of arrival; never reused. */
  readonly arrival: number;
  /** performance.now(). */
  readonly at: number;
  readonly slot: SlotId;
  readonly artifactDigest: string;
  /** Cache salt from the first generated token on; undefined when generated tokens attend densely. */
  readonly salt: string | undefined;
  /** Whether generated tokens retrieve by the artifact, where their context is long enough. */
  readonly retrieves: boolean;
  /** First position the salt covers; default: that of the first generated token. */
  readonly saltFrom?: number;
  readonly texts: TokenTexts;
  readonly client: Client;
}

export class Choice {
  readonly generated: number[] = [];
  /** Blocks it holds, the native table's in the same order. */
  readonly table = new BlockTable();
  readonly stops: StopRules;
  chain: KeyChain;
  sequence: SequenceId | undefined;
  /** Blocks of `table` the native sequence knows. */
  sentBlocks = 0;
  /** Block whose contents the table's last block takes before its first row; held until that row is submitted. */
  copyFrom: BlockId | undefined;
  computed = 0;
  retired = 0;
  /** Full blocks offered to the prefix cache. */
  registered = 0;
  pending = 0;
  /** Counts the native sequences it has had: a result of an older one writes no books of blocks. */
  incarnation = 0;
  /** Text units the client already has (resume); not sent again. */
  skip: number;
  echoed: boolean;
  lastTokenAt = 0;
  /** News not sent yet. */
  delta: Delta | undefined;

  constructor(
    readonly request: Request,
    readonly index: number,
    resume: Resumed | undefined,
    texts: TokenTexts,
  ) {
    const { sampling } = request;
    this.stops = new StopRules(
      {
        stop: sampling.stop,
        stopTokenIds: sampling.stopTokenIds,
        endTokenIds: sampling.ignoreEos ? new Set() : texts.stopTokenIds,
        minTokens: sampling.minTokens,
        maxTokens: sampling.maxTokens,
      },
      texts.openStream({ skipSpecial: true }),
    );
    this.skip = resume?.emittedChars ?? 0;
    // The echo goes out with a choice's first news, so a choice that has news has its echo.
    this.echoed =
      !sampling.echo || (resume !== undefined && (resume.tokenIds.length > 0 || resume.finished === true));
    this.chain = request.openChain(this);
  }

  get finished(): boolean {
    return this.stops.finish !== FinishReason.UNSPECIFIED;
  }

  /** Tokens known here: the prompt and what was drawn and collected. */
  get known(): number {
    return this.request.prompt.length + this.generated.length;
  }

  /** Whether another draw may be submitted. */
  get mayDraw(): boolean {
    return this.generated.length + this.pending < this.request.sampling.maxTokens;
  }

  tokenAt(position: number): number {
    const { prompt } = this.request;
    const token = position < prompt.length ? prompt[position] : this.generated[position - prompt.length];
    if (token === undefined) throw new RangeError(`position ${position} of ${this.known} known tokens`);
    return token;
  }

  /** Known tokens [from, to), which do not cross the prompt's end. */
  tokens(from: number, to: number): ArrayLike<number> {
    const { prompt } = this.request;
    if (from < prompt.length) return prompt.subarray(from, to);
    return this.generated.slice(from - prompt.length, to - prompt.length);
  }

  /** Forgets sequence and blocks, which have been given back; tokens stay. */
  vacate(): void {
    this.sequence = undefined;
    this.copyFrom = undefined;
    this.sentBlocks = 0;
    this.computed = 0;
    this.retired = 0;
    this.registered = 0;
    this.incarnation++;
  }
}

export class Request {
  readonly id: string;
  readonly prompt: Int32Array;
  readonly sampling: ResolvedSampling;
  readonly attention: ResolvedAttention;
  readonly deadline: number | undefined;
  readonly slot: SlotId;
  readonly artifactDigest: string;
  readonly arrival: number;
  readonly submittedAt: number;
  readonly client: Client;
  readonly choices: readonly Choice[];
  /** First position of the generated phase. */
  readonly boundary: number;

  state: 'waiting' | 'running' | 'done' = 'waiting';
  /** The choice that fills the prompt while others wait to fork from it; undefined once all run. */
  filler: Choice | undefined;
  credits: number;
  error: WireError | undefined;
  cancelled = false;
  /** Log-probabilities of prompt tokens from the second on, for echo. */
  promptLogprobs: TokenLogprob[] = [];
  cachedTokens: number | undefined;
  admittedAt: number | undefined;
  firstTokenAt: number | undefined;
  preemptions = 0;
  /** Blocks its last attempt at admission lacked room for: it is not looked up again until there may be room. */
  blocksNeeded = 0;
  /** Stands in its client's list of news. */
  listed = false;
  announced = false;
  /** Generated tokens retrieve by the artifact, where their context is long enough. */
  readonly retrieves: boolean;
  /** Set for a request that only measures its artifact. */
  readonly measure: Measure | undefined;
  readonly #salt: string | undefined;
  readonly #saltFrom: number | undefined;

  constructor(source: EngineRequest, resolved: ResolvedRequest, birth: Birth) {
    this.id = source.requestId;
    this.prompt = Int32Array.from(source.promptTokens);
    this.sampling = resolved.sampling;
    this.attention = resolved.attention;
    this.deadline = source.deadline;
    this.credits = source.credits ?? Number.POSITIVE_INFINITY;
    this.slot = birth.slot;
    this.artifactDigest = birth.artifactDigest;
    this.arrival = birth.arrival;
    this.submittedAt = birth.at;
    this.client = birth.client;
    this.#salt = birth.salt;
    this.#saltFrom = birth.saltFrom;
    this.retrieves = birth.retrieves;
    this.measure = source.measure;
    this.boundary = Math.min(this.prompt.length, resolved.attention.densePrefixTokens ?? this.prompt.length);
    if (this.prompt.length === 0) throw new RangeError('a request has at least one prompt token');
    if (this.credits <= 0) throw new RangeError('a request is born with credit');
    this.choices = Array.from(
      { length: resolved.sampling.n },
      (_, index) => new Choice(this, index, source.resume.get(index), birth.texts),
    );
  }

  /** Without credit nothing more is drawn; blocks are kept. */
  get paused(): boolean {
    return this.credits <= 0;
  }

  /** The artifact whose figures its tokens count to; '' when it has no part in them. */
  get measuredAs(): string {
    return this.retrieves ? this.artifactDigest : '';
  }

  get wantsPromptLogprobs(): boolean {
    return this.sampling.echo && this.sampling.logprobs !== undefined;
  }

  /** Prompt log-probabilities are still to be computed: cached blocks would swallow them. */
  get lacksPromptLogprobs(): boolean {
    return (
      this.wantsPromptLogprobs &&
      this.promptLogprobs.length < this.prompt.length - 1 &&
      this.choices.some((choice) => !choice.echoed)
    );
  }

  get hasPenalty(): boolean {
    const { presencePenalty, frequencyPenalty, repetitionPenalty } = this.sampling;
    return presencePenalty !== 0 || frequencyPenalty !== 0 || repetitionPenalty !== 1;
  }

  get completionTokens(): number {
    let sum = 0;
    for (const choice of this.choices) sum += choice.generated.length;
    return sum;
  }

  unfinished(): Choice[] {
    return this.choices.filter((choice) => !choice.finished);
  }

  phaseAt(position: number): Phase {
    return position < this.boundary ? 'prompt' : 'generated';
  }

  /** Keys of the choice's blocks; `known` are those another choice has computed. */
  openChain(choice: Choice, known: readonly string[] = []): KeyChain {
    return new KeyChain(
      (position) => choice.tokenAt(position),
      this.#salt,
      this.#saltFrom ?? this.boundary,
      known,
    );
  }
}
