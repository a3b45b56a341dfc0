// R9, R10: what a drawn token becomes for its client. News is built as the wire's own messages and waits on the choice
// until it may go: a request without credit keeps it, later tokens join it, and an error or cancel sends it at once.
import { FinishReason } from '@spotlight/proto';
import type { Delta, Load, RequestUpdate, TokenLogprob, Usage } from '@spotlight/proto';
import type { Logprobs } from '@spotlight/cuda';
import type { TokenTexts } from './api.js';
import type { Client, Clients, SinkFailure } from './clients.js';
import type { Choice, Request } from './request.js';

export class Output {
  constructor(
    private readonly texts: TokenTexts,
    private readonly clients: Clients,
  ) {}

  /** A drawn token and the text it let out. */
  token(choice: Choice, token: number, text: string, logprobs: Logprobs | undefined): void {
    const delta = this.#delta(choice);
    delta.tokenIds.push(token);
    this.text(choice, text);
    if (logprobs !== undefined) delta.logprobs.push(this.logprob(logprobs));
  }

  /** Text beyond what the client has. */
  text(choice: Choice, text: string): void {
    const skipped = Math.min(choice.skip, text.length);
    choice.skip -= skipped;
    const rest = skipped === 0 ? text : text.slice(skipped);
    if (rest !== '') this.#delta(choice).text += rest;
  }

  /** The prompt as echo shows it. */
  promptText(request: Request): string {
    const stream = this.texts.openStream({ skipSpecial: true });
    let text = '';
    for (const token of request.prompt) text += stream.push(token);
    return text + stream.flush();
  }

  /** The choice has ended. */
  finish(choice: Choice): void {
    const delta = this.#delta(choice);
    delta.finishReason = choice.stops.finish;
    delta.stopReason = choice.stops.reason;
  }

  /** The request has news without a token: its end. */
  announce(request: Request): void {
    if (request.listed) return;
    request.listed = true;
    request.client.news.push(request);
  }

  logprob(entry: Logprobs): TokenLogprob {
    const top: TokenLogprob['top'] = [];
    for (let i = 0; i < entry.topTokens.length; i++) {
      const tokenId = entry.topTokens[i] ?? 0;
      top.push({ tokenId, token: this.#bytes(tokenId), logprob: entry.topLogprobs[i] ?? 0 });
    }
    return { tokenId: entry.token, token: this.#bytes(entry.token), logprob: entry.logprob, top };
  }

  /** Turns the news of all requests that may speak into updates and gives them to the sinks. */
  emit(step: number, load: () => Load): SinkFailure[] {
    for (const client of this.clients.withNews()) this.#collect(client);
    return this.clients.send(step, load);
  }

  #collect(client: Client): void {
    const { news } = client;
    for (const request of news) {
      request.listed = false;
      const mustEnd = request.error !== undefined || request.cancelled;
      if (request.paused && !mustEnd) continue;
      client.updates.push(this.#update(request));
      if (request.state === 'done') client.requests.delete(request.id);
    }
    news.length = 0;
  }

  #update(request: Request): RequestUpdate {
    const deltas: Delta[] = [];
    for (const choice of request.choices) {
      if (choice.delta === undefined) continue;
      deltas.push(choice.delta);
      choice.delta = undefined;
    }
    if (deltas.length > 0) request.credits--;
    const done = request.state === 'done';
    const first = !request.announced;
    request.announced = true;
    return {
      requestId: request.id,
      deltas,
      usage: first || done ? usage(request) : undefined,
      error: request.error,
      done,
      artifactDigest: first ? request.artifactDigest : '',
    };
  }

  #delta(choice: Choice): Delta {
    if (choice.delta === undefined) {
      choice.delta = {
        choice: choice.index,
        tokenIds: [],
        text: '',
        logprobs: [],
        finishReason: FinishReason.UNSPECIFIED,
        stopReason: undefined,
      };
      this.announce(choice.request);
    }
    if (!choice.echoed) this.#echo(choice, choice.delta);
    return choice.delta;
  }

  /** The prompt goes out ahead of a choice's first news. */
  #echo(choice: Choice, delta: Delta): void {
    choice.echoed = true;
    const { request } = choice;
    for (const token of request.prompt) delta.tokenIds.push(token);
    this.text(choice, this.promptText(request));
    const [first] = request.prompt;
    if (!request.wantsPromptLogprobs || first === undefined) return;
    delta.logprobs.push({ tokenId: first, token: this.#bytes(first), top: [] });
    for (const entry of request.promptLogprobs) delta.logprobs.push(entry);
  }

  #bytes(token: number): Buffer {
    const bytes = this.texts.bytes(token);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}

function usage(request: Request): Usage {
  return {
    promptTokens: request.prompt.length,
    completionTokens: request.completionTokens,
    cachedTokens: request.cachedTokens ?? 0,
  };
}
