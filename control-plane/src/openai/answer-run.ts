// The requests of one HTTP call, one a prompt, as a single thing that runs, fails or is cancelled. The first that fails ends them
// all, since half an answer with a 200 is worse than an error.
import type { RequestUpdate, Usage } from '@spotlight/proto';
import type { ServerResponse } from 'node:http';
import type { ServiceError } from '../errors/service-error.js';
import { toServiceError } from '../errors/service-error.js';
import type { Generation, GenerationSink } from '../inference/generation-request.js';
import type { InferenceService } from '../inference/inference.service.js';
import type { ArtifactWish } from '../rollouts/canary.js';
import type { RequestRecord } from '../telemetry/request-log.js';
import type { AnswerHead, AnswerShape } from './answer-shape.js';
import type { OpenAiRequest } from './openai-request.js';

export interface Asked {
  readonly request: OpenAiRequest;
  readonly shape: AnswerShape;
  readonly sessionId: string | undefined;
  readonly wish?: ArtifactWish;
  readonly response: ServerResponse;
}

export interface Recorded extends Asked {
  readonly record: RequestRecord;
}

export interface RunEvents {
  onUpdate(prompt: number, update: RequestUpdate): void;
  onDone(usage: Usage): void;
  onError(error: ServiceError): void;
}

export class AnswerRun {
  readonly #generations: Generation[] = [];
  readonly #usages: (Usage | undefined)[];
  readonly #created = Math.floor(Date.now() / 1000);
  #head: AnswerHead | undefined;
  #artifactDigest = '';
  #left: number;
  #ended = false;

  constructor(
    private readonly asked: Recorded,
    private readonly inference: Pick<InferenceService, 'generate'>,
  ) {
    this.#left = asked.request.prompts.length;
    this.#usages = asked.request.prompts.map(() => undefined);
  }

  /** Known from the first update on. */
  get head(): AnswerHead {
    if (this.#head === undefined) throw new Error('an answer has no head before its first update');
    return this.#head;
  }

  index(prompt: number, choice: number): number {
    return prompt * (this.asked.request.sampling.n ?? 1) + choice;
  }

  headers(): Record<string, string> {
    const [first] = this.#generations;
    return {
      ...(this.#artifactDigest === '' ? {} : { 'x-spotlight-artifact': this.#artifactDigest }),
      ...(first === undefined ? {} : { 'x-spotlight-seed': String(first.seed) }),
    };
  }

  start(credits: number, events: RunEvents): void {
    const { request, record, sessionId, wish = {} } = this.asked;
    const fail = (error: ServiceError): void => {
      if (this.#ended) return;
      this.cancel();
      events.onError(this.#inClientsWords(error));
    };
    try {
      for (const [index, prompt] of request.prompts.entries()) {
        const generation = this.inference.generate(
          {
            requestId: request.prompts.length === 1 ? record.requestId : `${record.requestId}.${index}`,
            model: request.model,
            prompt,
            sampling: request.sampling,
            attention: request.attention,
            sessionId,
            wish,
            caller: record.caller,
            timeoutMs: request.timeoutMs,
            receivedAt: record.receivedAt,
            credits,
          },
          this.#sink(index, events, fail),
        );
        this.#generations.push(generation);
      }
    } catch (error) {
      fail(toServiceError(error));
    }
  }

  credit(prompt: number, steps: number): void {
    this.#generations[prompt]?.credit(steps);
  }

  /** Idempotent; nothing is told afterwards. */
  cancel(): void {
    if (!this.#ended) {
      this.#noteWorker();
      const usages = this.#generations.map(({ usage }) => usage);
      if (usages.some((usage) => usage !== undefined)) this.asked.record.usage = total(usages);
    }
    this.#ended = true;
    for (const generation of this.#generations) generation.cancel();
  }

  #sink(prompt: number, events: RunEvents, fail: (error: ServiceError) => void): GenerationSink {
    return {
      onUpdate: (update) => {
        if (this.#ended) return;
        this.#begin(update);
        this.#usages[prompt] = update.usage ?? this.#usages[prompt];
        events.onUpdate(prompt, update);
        if (!update.done) return;
        this.#noteWorker();
        this.#left -= 1;
        if (this.#left > 0) return;
        const usage = total(this.#usages);
        this.asked.record.usage = usage;
        events.onDone(usage);
        this.#ended = true;
      },
      onError: fail,
    };
  }

  /** Workers may change on the way. */
  #noteWorker(): void {
    const { record } = this.asked;
    record.workerId = this.#generations[0]?.workerId;
    record.replays = this.#generations.reduce((sum, { replays }) => sum + replays, 0);
  }

  /** Workers know a prompt; a chat's client wrote messages. */
  #inClientsWords(error: ServiceError): ServiceError {
    const chat = this.asked.request.prompts[0]?.$case === 'chat';
    return chat && error.field === 'prompt' ? error.withField('messages') : error;
  }

  #begin(update: RequestUpdate): void {
    if (this.#head !== undefined) return;
    const { record, request, shape } = this.asked;
    const [first] = this.#generations;
    if (first === undefined) throw new Error('an update came before its request had started');
    this.#artifactDigest = update.artifactDigest;
    record.model = first.model.id;
    this.#noteWorker();
    this.#head = {
      id: `${shape.idPrefix}-${record.requestId}`,
      created: this.#created,
      model: request.model === '' ? first.model.id : request.model,
      system_fingerprint: `fp_${(update.artifactDigest === '' ? first.model.fingerprint : update.artifactDigest).slice(0, 12)}`,
    };
  }
}

/** Sums over prompts; each prompt is counted once however many choices it has. */
function total(usages: readonly (Usage | undefined)[]): Usage {
  const sum: Usage = { promptTokens: 0, completionTokens: 0, cachedTokens: 0 };
  for (const usage of usages) {
    sum.promptTokens += usage?.promptTokens ?? 0;
    sum.completionTokens += usage?.completionTokens ?? 0;
    sum.cachedTokens += usage?.cachedTokens ?? 0;
  }
  return sum;
}
