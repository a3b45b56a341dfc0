// The ends of requests and choices: what a retired step brings to an end, and what ends from outside (cancel, deadline,
// fault). Every way goes through #leave, so that blocks and seats are given back once.
import type { Quality, RowResult, StepResult } from '@spotlight/cuda';
import { ErrorCode, FinishReason } from '@spotlight/proto';
import type { Error as WireError } from '@spotlight/proto';
import { BLOCK_SIZE } from '@spotlight/cuda';
import type { EngineRequest } from './api.js';
import type { Plan } from './batch.js';
import type { DecodeSet } from './decode-set.js';
import type { EngineObserver } from './observer.js';
import type { Output } from './output.js';
import type { PrefillQueue } from './prefill-queue.js';
import { hasRetrieved } from './quality.js';
import { refusal } from './refusal.js';
import type { Choice, Request } from './request.js';
import type { SequenceMemory } from './sequence-memory.js';
import { TokenTally } from './token-tally.js';

export class Lifecycle {
  readonly #tallies = new Map<string, TokenTally>();

  constructor(
    private readonly memory: SequenceMemory,
    private readonly queue: PrefillQueue,
    private readonly decoding: DecodeSet,
    private readonly output: Output,
    private readonly observer: EngineObserver,
  ) {}

  /** A step has retired: its tokens reach their choices. A choice that has ended meanwhile drops its late token. */
  commit(plan: Plan, result: StepResult, now: number): void {
    for (let row = 0; row < plan.rows; row++) {
      const choice = plan.choices[row];
      const outcome = result.rows[row];
      if (choice !== undefined && outcome !== undefined) this.#commitRow(plan, row, choice, outcome, now);
    }
    this.memory.retire(plan.step, plan.closes);
    this.#tellTokens();
    this.observer.stepped({
      rows: plan.rows,
      promptTokens: plan.tokens - plan.decodeTokens,
      decodeTokens: plan.decodeTokens,
      seconds: result.seconds,
    });
  }

  /** Tokens a lost worker had drawn: run again and never sent again, though text held back there may go out now. */
  resume(request: Request, resume: EngineRequest['resume'], now: number): void {
    // Those that have ended first: the end of the last other one is then the request's.
    for (const choice of request.choices) {
      const part = resume.get(choice.index);
      if (part?.finished !== true) continue;
      for (const token of part.tokenIds) choice.generated.push(token);
      choice.stops.end(FinishReason.STOP);
    }
    for (const choice of request.unfinished()) {
      const part = resume.get(choice.index);
      if (part === undefined) continue;
      if (request.sampling.echo && choice.echoed) this.output.text(choice, this.output.promptText(request));
      for (const token of part.tokenIds) {
        if (choice.finished) break;
        choice.generated.push(token);
        this.output.text(choice, choice.stops.accept(token));
      }
      if (choice.finished) this.#finishChoice(choice, now);
    }
    if (request.state !== 'done' && request.unfinished().length === 0) this.#end(request, now);
  }

  /** Ends the request with CANCELLED. */
  cancel(request: Request, now: number): void {
    request.cancelled = true;
    if (request.state === 'done') {
      this.output.announce(request);
      return;
    }
    for (const choice of request.unfinished()) {
      this.output.text(choice, choice.stops.end(FinishReason.CANCELLED));
      this.#finishChoice(choice, now);
    }
  }

  /** Ends the request with an error; text drawn so far still goes out with it. */
  fail(request: Request, error: WireError, now: number): void {
    if (request.state === 'done') return;
    request.error = error;
    for (const choice of request.unfinished()) {
      choice.stops.end(FinishReason.ERROR);
      this.#leave(choice);
    }
    this.#end(request, now);
  }

  expire(request: Request, now: number): void {
    if (request.state === 'done') {
      this.cancel(request, now);
      return;
    }
    const message = `the deadline passed after ${request.completionTokens} tokens; allow more time or ask for fewer tokens`;
    this.fail(request, refusal(ErrorCode.DEADLINE_EXCEEDED, message), now);
  }

  #commitRow(plan: Plan, row: number, choice: Choice, outcome: RowResult, now: number): void {
    const draws = plan.draws[row] === 1;
    if (draws) choice.pending--;
    if (choice.finished) return;
    if (outcome.corrupted === true) {
      this.#corrupted(choice, now);
      return;
    }
    if (outcome.quality !== undefined) this.#measure(choice.request, outcome.quality);
    if (plan.incarnation[row] === choice.incarnation) {
      choice.retired = plan.end(row);
      this.#register(choice);
      if (plan.reads[row] === 1 && outcome.promptLogprobs !== undefined) {
        for (const entry of outcome.promptLogprobs)
          choice.request.promptLogprobs.push(this.output.logprob(entry));
      }
    }
    if (draws) this.#accept(choice, outcome, now);
    else if (!choice.mayDraw && choice.retired >= choice.known) {
      this.output.text(choice, choice.stops.end(FinishReason.LENGTH));
      this.#finishChoice(choice, now);
    }
  }

  #measure({ measure, measuredAs: artifactDigest }: Request, samples: readonly Quality[]): void {
    for (const sample of samples) {
      if (!hasRetrieved(sample)) continue;
      if (measure !== undefined) measure.take(sample);
      else this.observer.quality({ artifactDigest, iou: sample.iou, keptMass: sample.keptMass });
    }
  }

  #accept(choice: Choice, outcome: RowResult, now: number): void {
    const { token } = outcome;
    const { request } = choice;
    if (token === undefined) throw new RangeError(`a row of request ${request.id} drew no token`);
    choice.generated.push(token);
    this.#time(choice, now);
    this.output.token(choice, token, choice.stops.accept(token), outcome.logprobs);
    if (choice.finished) this.#finishChoice(choice, now);
  }

  /**
   * The row's logits held nothing finite. Where the damage began is unknown, so every block of the choice's beginning is
   * forgotten, those another request wrote too: found again, it would end the next request alike.
   */
  #corrupted(choice: Choice, now: number): void {
    const { request } = choice;
    const full = Math.floor(choice.known / BLOCK_SIZE);
    for (let block = 0; block < full; block++) this.memory.blocks.forget(choice.chain.key(block));
    this.observer.corrupted();
    const message = `the model's logits were not finite after ${request.completionTokens} tokens; its weights may be damaged, or this prompt overflows it`;
    this.fail(request, refusal(ErrorCode.INTERNAL, message), now);
  }

  #time(choice: Choice, now: number): void {
    const { request } = choice;
    const { measuredAs } = request;
    if (request.firstTokenAt === undefined) {
      request.firstTokenAt = now;
      this.observer.firstToken((now - request.submittedAt) / 1000, measuredAs);
    }
    let tally = this.#tallies.get(measuredAs);
    if (tally === undefined) this.#tallies.set(measuredAs, (tally = new TokenTally(measuredAs)));
    tally.add(choice.lastTokenAt > 0 ? (now - choice.lastTokenAt) / 1000 : undefined);
    choice.lastTokenAt = now;
  }

  #tellTokens(): void {
    for (const tally of this.#tallies.values()) {
      // An artifact that drew nothing in this step may never draw again.
      if (tally.drawn === 0) this.#tallies.delete(tally.artifactDigest);
      else this.observer.tokens(tally);
      tally.clear();
    }
  }

  /** Offers the choice's full, written blocks to the prefix cache. */
  #register(choice: Choice): void {
    const full = Math.floor(Math.min(choice.retired, choice.known) / BLOCK_SIZE);
    for (; choice.registered < full; choice.registered++) {
      this.memory.blocks.cache.register(
        choice.table.at(choice.registered),
        choice.chain.key(choice.registered),
      );
    }
  }

  #finishChoice(choice: Choice, now: number): void {
    const { request } = choice;
    this.output.finish(choice);
    this.#leave(choice);
    if (request.choices.every((other) => other.finished)) this.#end(request, now);
  }

  #leave(choice: Choice): void {
    this.decoding.leave(choice);
    if (choice.request.state === 'running') this.memory.vacate(choice);
  }

  #end(request: Request, now: number): void {
    this.queue.leave(request);
    request.filler = undefined;
    request.state = 'done';
    this.output.announce(request);
    // Not a client's: it would count as one.
    if (request.measure !== undefined) return;
    const span = (from: number | undefined, to: number | undefined): number | undefined =>
      from === undefined || to === undefined ? undefined : (to - from) / 1000;
    this.observer.finished({
      artifactDigest: request.measuredAs,
      finishReasons: request.choices.map((choice) => choice.stops.finish),
      error: request.error?.code,
      promptTokens: request.prompt.length,
      cachedTokens: request.cachedTokens ?? 0,
      completionTokens: request.completionTokens,
      choices: request.choices.length,
      maxTokens: request.sampling.maxTokens,
      preemptions: request.preemptions,
      endToEnd: (now - request.submittedAt) / 1000,
      queued: span(request.submittedAt, request.admittedAt),
      prefill: span(request.admittedAt, request.firstTokenAt),
      decode: span(request.firstTokenAt, now),
    });
  }
}
