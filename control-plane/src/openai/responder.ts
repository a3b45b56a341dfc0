// From an OpenAiRequest to its answer, streamed or whole. One call may be several requests (one a prompt); the first that
// fails ends them all, since half an answer with a 200 is worse than an error.
import { Inject, Injectable } from '@nestjs/common';
import type { RequestUpdate, Usage } from '@spotlight/proto';
import type { ServerResponse } from 'node:http';
import type { ServiceError } from '../errors/service-error.js';
import { toServiceError } from '../errors/service-error.js';
import { CREDIT_WINDOW, CreditWindow } from '../inference/credit-window.js';
import type { Generation, GenerationSink } from '../inference/generation-request.js';
import { InferenceService } from '../inference/inference.service.js';
import type { RequestRecord } from '../telemetry/request-log.js';
import { recordOf } from '../telemetry/request-log.js';
import type { AnswerHead, AnswerShape } from './answer-shape.js';
import { ChunkFrame } from './chunk-frame.js';
import { Collector } from './collector.js';
import type { OpenAiRequest } from './openai-request.js';
import { SseWriter } from './sse-writer.js';

export interface Asked {
  readonly request: OpenAiRequest;
  readonly shape: AnswerShape;
  readonly sessionId: string | undefined;
  readonly response: ServerResponse;
}

interface Recorded extends Asked {
  readonly record: RequestRecord;
}

@Injectable()
export class Responder {
  constructor(@Inject(InferenceService) private readonly inference: Pick<InferenceService, 'generate'>) {}

  /** Resolves when the answer is written or the client has gone; rejects with a ServiceError while no header is out. */
  answer(asked: Asked): Promise<void> {
    // The client may have left while its body or key was read; its `close` will not come again.
    if (asked.response.closed) return Promise.resolve();
    const recorded = { ...asked, record: recordOf(asked.response) };
    return asked.request.stream ? this.#stream(recorded) : this.#whole(recorded);
  }

  #stream(asked: Recorded): Promise<void> {
    const { request, shape, record, response } = asked;
    return new Promise((resolve, reject) => {
      const run = new Run(asked, this.inference);
      let frame: ChunkFrame | undefined;
      const writer = new SseWriter(response, () => run.headers(), {
        onDrain: () => {
          for (const window of windows) window.release();
        },
        onGone: () => {
          run.cancel();
          resolve();
        },
      });
      const windows = request.prompts.map(
        (_, prompt) =>
          new CreditWindow((steps) => {
            run.credit(prompt, steps);
          }),
      );
      run.start(CREDIT_WINDOW, {
        onUpdate: (prompt, update) => {
          frame ??= new ChunkFrame(run.head, shape.chunkObject, request.includeUsage);
          const payloads: string[] = [];
          for (const delta of update.deltas) {
            const choice = shape.choice(run.index(prompt, delta.choice), delta);
            if (choice !== undefined) payloads.push(frame.chunk(choice));
          }
          writer.events(payloads);
          if (update.deltas.length > 0) windows[prompt]?.consumed(writer.open);
        },
        onDone: (usage) => {
          if (frame !== undefined && request.includeUsage) writer.events([frame.usage(usage)]);
          writer.end();
          resolve();
        },
        onError: (error) => {
          if (writer.opened) {
            record.outcome = error.row.name;
            writer.fail(error);
            resolve();
          } else {
            writer.abandon();
            reject(error);
          }
        },
      });
    });
  }

  #whole(asked: Recorded): Promise<void> {
    const { shape, response } = asked;
    return new Promise((resolve, reject) => {
      const run = new Run(asked, this.inference);
      const collector = new Collector();
      response.on('close', () => {
        run.cancel();
        resolve();
      });
      run.start(0, {
        onUpdate: (prompt, update) => {
          for (const delta of update.deltas) collector.add(run.index(prompt, delta.choice), delta);
        },
        onDone: (usage) => {
          const text = JSON.stringify(shape.whole(run.head, collector.finished(), usage));
          response
            .writeHead(200, {
              ...run.headers(),
              'content-type': 'application/json; charset=utf-8',
              'content-length': Buffer.byteLength(text),
            })
            .end(text);
        },
        onError: reject,
      });
    });
  }
}

interface RunEvents {
  onUpdate(prompt: number, update: RequestUpdate): void;
  onDone(usage: Usage): void;
  onError(error: ServiceError): void;
}

/** The requests of one call, one a prompt, as a single thing that runs, fails or is cancelled. */
class Run {
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
    const { request, record, sessionId } = this.asked;
    const fail = (error: ServiceError): void => {
      if (this.#ended) return;
      this.cancel();
      events.onError(error);
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
    this.#ended = true;
    for (const generation of this.#generations) generation.cancel();
  }

  #sink(prompt: number, events: RunEvents, fail: (error: ServiceError) => void): GenerationSink {
    return {
      onUpdate: (update) => {
        if (this.#ended) return;
        try {
          this.#begin(update);
          this.#usages[prompt] = update.usage ?? this.#usages[prompt];
          events.onUpdate(prompt, update);
          if (!update.done) return;
          this.#left -= 1;
          if (this.#left > 0) return;
          const usage = total(this.#usages);
          this.asked.record.usage = usage;
          events.onDone(usage);
          this.#ended = true;
        } catch (error) {
          fail(toServiceError(error));
        }
      },
      onError: fail,
    };
  }

  #begin(update: RequestUpdate): void {
    if (this.#head !== undefined) return;
    const { record, request, shape } = this.asked;
    const [first] = this.#generations;
    if (first === undefined) throw new Error('an update came before its request had started');
    this.#artifactDigest = update.artifactDigest;
    record.model = first.model.id;
    record.workerId = first.workerId;
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
