// The one writer of an event stream: it alone knows whether the socket takes more, when to ping, and how a stream ends.
// Headers wait for the first event, so that a request refused by its worker still gets its own HTTP status.
import type { ServerResponse } from 'node:http';
import type { ServiceError } from '../errors/service-error.js';
import { openAiErrorBody } from '../errors/openai-error.js';

/** Proxies close silent connections after 30 to 60 s; a long prompt is silent for longer. */
export const PING_MS = 15_000;

export interface SseEvents {
  /** The socket's buffer has emptied after `write` returned false. */
  onDrain(): void;
  /** The client went away before the end. */
  onGone(): void;
}

export class SseWriter {
  readonly #ping: NodeJS.Timeout;
  #wrote = false;
  #full = false;
  #ended = false;

  constructor(
    private readonly response: ServerResponse,
    private readonly headers: () => Readonly<Record<string, string>>,
    events: SseEvents,
    pingMs = PING_MS,
  ) {
    response.on('drain', () => {
      this.#full = false;
      if (!this.#ended) events.onDrain();
    });
    response.on('close', () => {
      clearInterval(this.#ping);
      if (this.#ended) return;
      this.#ended = true;
      events.onGone();
    });
    this.#ping = setInterval(() => {
      if (this.#wrote) this.#wrote = false;
      else if (!this.#full) this.#write(': ping\n\n');
    }, pingMs);
  }

  /** Whether the client has its headers already: then errors can only be events. */
  get opened(): boolean {
    return this.response.headersSent;
  }

  /** False while the socket's buffer is full; `onDrain` comes when it is not. */
  get open(): boolean {
    return !this.#full;
  }

  /** One event a payload (JSON text), all in one write. */
  events(payloads: readonly string[]): void {
    if (this.#ended || payloads.length === 0) return;
    let text = '';
    for (const payload of payloads) text += `data: ${payload}\n\n`;
    this.#wrote = true;
    this.#write(text);
  }

  end(): void {
    this.#finish('data: [DONE]\n\n');
  }

  /** Only after `opened`: the client has a 200 already, so the error is the last event. */
  fail(error: ServiceError): void {
    this.#finish(`data: ${JSON.stringify(openAiErrorBody(error))}\n\ndata: [DONE]\n\n`);
  }

  /** Stops pings without writing; for an answer that ends as a plain error response. */
  abandon(): void {
    this.#ended = true;
    clearInterval(this.#ping);
  }

  #finish(last: string): void {
    if (this.#ended) return;
    this.abandon();
    this.#openStream();
    this.response.end(last);
  }

  /**
   * Node holds writes back to the next tick, so all streams of one worker step would wait for the last of them; corked by hand
   * each goes out as soon as it is made.
   */
  #write(text: string): void {
    this.#openStream();
    const { socket } = this.response;
    socket?.cork();
    if (!this.response.write(text)) this.#full = true;
    socket?.uncork();
  }

  #openStream(): void {
    if (this.response.headersSent) return;
    this.response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no', // nginx would hold tokens back otherwise
      ...this.headers(),
    });
  }
}
