// From an OpenAiRequest to its answer on the wire, streamed or whole. What runs behind it is answer-run.ts.
import { Inject, Injectable } from '@nestjs/common';
import type { ServerResponse } from 'node:http';
import type { Ticket } from '../auth/key-limiter.js';
import { KeyLimiter } from '../auth/key-limiter.js';
import { CREDIT_WINDOW, CreditWindow } from '../inference/credit-window.js';
import { InferenceService } from '../inference/inference.service.js';
import type { RequestRecord } from '../telemetry/request-log.js';
import { recordOf } from '../telemetry/request-log.js';
import { AnswerRun } from './answer-run.js';
import type { Asked, Recorded } from './answer-run.js';
import { ChunkFrame } from './chunk-frame.js';
import { Collector } from './collector.js';
import { SseWriter } from './sse-writer.js';

@Injectable()
export class Responder {
  constructor(
    @Inject(InferenceService) private readonly inference: Pick<InferenceService, 'generate'>,
    @Inject(KeyLimiter) private readonly limiter: Pick<KeyLimiter, 'enter' | 'headers'>,
  ) {}

  /** Resolves when the answer is written or the client has gone; rejects with a ServiceError while no header is out. */
  async answer(asked: Asked): Promise<void> {
    const { response } = asked;
    const record = recordOf(response);
    const ticket = await this.#enter(record, response);
    try {
      // The client may have left while its body or key was read; its `close` will not come again.
      if (response.closed) return;
      const recorded = { ...asked, record };
      await (asked.request.stream ? this.#stream(recorded) : this.#whole(recorded));
    } finally {
      ticket.leave(record.tokens);
    }
  }

  /** A refusal carries the headers as well: they say when to come again. */
  async #enter({ caller, limits }: RequestRecord, response: ServerResponse): Promise<Ticket> {
    try {
      return await this.limiter.enter(caller, limits);
    } finally {
      for (const [name, value] of Object.entries(this.limiter.headers(caller)))
        response.setHeader(name, value);
    }
  }

  #stream(asked: Recorded): Promise<void> {
    const { request, shape, record, response } = asked;
    return new Promise((resolve, reject) => {
      const run = new AnswerRun(asked, this.inference);
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
            record.fail(error);
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
      const run = new AnswerRun(asked, this.inference);
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
