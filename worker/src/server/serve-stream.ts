// R4: one Serve stream: requests and cancels down, one message a step up. This is the stream's only writer.
// Encoding is asynchronous, so what comes for a request meanwhile (cancel, credit) waits on its entry and keeps its order.
import type { ServerDuplexStream } from '@grpc/grpc-js';
import type {
  Load,
  RequestUpdate,
  ServeRequest,
  ServeResponse,
  Submit,
  Error as WireError,
} from '@spotlight/proto';
import { ErrorCode, FinishReason, SamplingParams } from '@spotlight/proto';
import type { Logger } from 'pino';
import type { RequestEngine, UpdateSink } from '../engine/api.js';
import { refusal } from '../engine/refusal.js';
import { PromptError } from '../tokenizer/errors.js';
import { Outbox } from './outbox.js';
import type { PromptEncoder } from './prompt.js';
import { encodePrompt } from './prompt.js';

type ServeCall = Pick<ServerDuplexStream<ServeRequest, ServeResponse>, 'on' | 'write' | 'end'>;

/** A request whose prompt is being encoded: the engine does not know it yet. */
interface Arriving {
  cancelled: boolean;
  credits: number;
}

export class ServeStream implements UpdateSink {
  private readonly arriving = new Map<string, Arriving>();
  /** Requests in the engine's hands whose last update has not come. */
  private readonly live = new Set<string>();
  private readonly outbox = new Outbox();
  private blocked = false;
  private closed = false;
  private halfClosed = false;

  constructor(
    private readonly call: ServeCall,
    private readonly engine: RequestEngine,
    private readonly encoder: PromptEncoder,
    /** Why no new request is taken now; undefined when they are. */
    private readonly closedFor: () => string | undefined,
    private readonly log: Logger,
  ) {
    call.on('data', (request: ServeRequest) => {
      this.receive(request);
    });
    call.on('drain', () => {
      this.blocked = false;
      this.release();
      this.endWhenDone();
    });
    // The client sends no more, but still reads: what runs is finished, then the stream ends.
    call.on('end', () => {
      this.halfClosed = true;
      this.endWhenDone();
    });
    for (const event of ['cancelled', 'close', 'error'] as const) {
      call.on(event, () => {
        this.close();
      });
    }
  }

  send(step: number, updates: RequestUpdate[], load: Load): void {
    if (this.closed) return;
    for (const update of updates) {
      if (update.done || update.error !== undefined) this.live.delete(update.requestId);
    }
    if (this.blocked) this.outbox.add(step, updates, load);
    else this.write({ step: BigInt(step), updates, load });
    this.endWhenDone();
  }

  /** Ends the stream: what is held goes out, what is still running is cancelled. */
  end(): void {
    if (this.closed) return;
    if (!this.outbox.empty) this.call.write(this.outbox.take().message);
    this.close();
    this.call.end();
  }

  private receive({ message }: ServeRequest): void {
    switch (message?.$case) {
      case 'submit':
        void this.submit(message.value);
        return;
      case 'cancel': {
        const arriving = this.arriving.get(message.value.requestId);
        if (arriving === undefined) this.engine.cancel(message.value.requestId, this);
        else arriving.cancelled = true;
        return;
      }
      case 'credit': {
        const { requestId, credits } = message.value;
        const arriving = this.arriving.get(requestId);
        if (arriving === undefined) this.engine.credit(requestId, this, credits);
        else arriving.credits += credits;
        return;
      }
      default:
        this.refuse(
          '',
          refusal(
            ErrorCode.INVALID_ARGUMENT,
            'the message is empty: send submit, cancel or credit',
            'message',
          ),
        );
    }
  }

  private async submit(submit: Submit): Promise<void> {
    const { requestId } = submit;
    const arrived = performance.now();
    if (requestId === '' || this.arriving.has(requestId) || this.live.has(requestId)) {
      const message =
        requestId === '' ? 'request_id is empty' : `request_id "${requestId}" runs on this stream already`;
      this.refuse(requestId, refusal(ErrorCode.INVALID_ARGUMENT, message, 'request_id'));
      return;
    }
    const arriving: Arriving = { cancelled: false, credits: submit.credits };
    this.arriving.set(requestId, arriving);
    let outcome: readonly number[] | WireError;
    try {
      outcome = await encodePrompt(submit.prompt, this.encoder);
    } catch (error) {
      outcome = this.encodingError(requestId, error);
    }
    this.arriving.delete(requestId);
    if (this.closed) return;
    if (arriving.cancelled) this.push({ ...ended(requestId), deltas: [cancelledDelta()] });
    else if ('code' in outcome) this.refuse(requestId, outcome);
    else this.start(submit, outcome, arriving, arrived);
    this.endWhenDone();
  }

  private start(submit: Submit, promptTokens: readonly number[], arriving: Arriving, arrived: number): void {
    const { requestId, timeoutMs } = submit;
    const reason = this.closedFor();
    if (reason !== undefined) {
      this.refuse(requestId, refusal(ErrorCode.UNAVAILABLE, reason));
      return;
    }
    this.live.add(requestId);
    let error: WireError | undefined;
    try {
      error = this.engine.submit(
        {
          requestId,
          promptTokens,
          sampling: submit.sampling ?? SamplingParams.fromPartial({}),
          attention: submit.attention,
          resume: new Map(submit.resume.map(({ choice, ...part }) => [choice, part])),
          credits: submit.credits === 0 ? undefined : arriving.credits,
          deadline: timeoutMs === undefined ? undefined : arrived + timeoutMs,
          artifactDigest: submit.artifactDigest,
        },
        this,
      );
    } catch (thrown) {
      this.log.error({ err: thrown, requestId }, 'the engine threw on submit');
      error = refusal(ErrorCode.INTERNAL, 'the worker failed to take the request; see its log');
    }
    if (error !== undefined) this.refuse(requestId, error);
  }

  private encodingError(requestId: string, error: unknown): WireError {
    if (error instanceof PromptError) return refusal(error.code, error.message, error.field);
    this.log.error({ err: error, requestId }, 'encoding failed');
    return refusal(ErrorCode.INTERNAL, 'the worker failed to encode the prompt; see its log', 'prompt');
  }

  private refuse(requestId: string, error: WireError): void {
    this.live.delete(requestId);
    this.push({ ...ended(requestId), error });
  }

  /** An update outside a step. */
  private push(update: RequestUpdate): void {
    const load = this.engine.load();
    if (this.blocked) this.outbox.add(0, [update], load);
    else this.write({ step: 0n, updates: [update], load });
  }

  /** HTTP/2 takes more: what was held back goes out. */
  private release(): void {
    if (this.outbox.empty) return;
    const { message, spared } = this.outbox.take();
    this.write(message);
    // The client counts messages and will give back one credit for several steps; without the rest the request would starve.
    for (const [requestId, steps] of spared) this.engine.credit(requestId, this, steps);
  }

  private write(message: ServeResponse): void {
    if (!this.closed) this.blocked = !this.call.write(message);
  }

  private endWhenDone(): void {
    const idle = this.live.size === 0 && this.arriving.size === 0 && this.outbox.empty;
    if (!this.halfClosed || !idle || this.closed) return;
    this.closed = true;
    this.call.end();
  }

  /** grpc-js says 'cancelled' after an ordinary end as well: closing twice does nothing. */
  private close(): void {
    if (this.closed) return;
    this.closed = true;
    this.engine.cancelAll(this);
  }
}

function ended(requestId: string): RequestUpdate {
  return { requestId, deltas: [], done: true, artifactDigest: '' };
}

function cancelledDelta(): RequestUpdate['deltas'][number] {
  return { choice: 0, tokenIds: [], text: '', logprobs: [], finishReason: FinishReason.CANCELLED };
}
