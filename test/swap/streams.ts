// Clients that stream without end, each request as soon as its last has ended: every token's time and id, the artifact that answered,
// and how it ended. What runs alone is kept as the reference that the same prompt under the same artifact must give under load.
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

export interface StreamOutcome {
  readonly prompt: number;
  /** First digits of the digest, as every chunk's system_fingerprint names it: the header is silent when it had to go out before the first token. */
  readonly artifact: string;
  readonly tokens: readonly number[];
  /** Of the likeliest token over the next one, in nats, by token. */
  readonly gaps: readonly number[];
  /** performance.now() of each token. */
  readonly times: readonly number[];
  readonly startedAt: number;
  /** undefined when it ended as asked. */
  readonly failure: string | undefined;
}

export interface StreamOrder {
  readonly url: string;
  readonly model?: string;
  readonly prompts: readonly string[];
  readonly maxTokens: number;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Chunk {
  readonly system_fingerprint?: string;
  readonly choices?: readonly {
    readonly token_ids?: readonly number[];
    readonly finish_reason?: string | null;
    readonly logprobs?: { readonly top_logprobs?: readonly Readonly<Record<string, number>>[] } | null;
  }[];
  readonly error?: { readonly code: string; readonly message: string };
}

const SILENT_MS = 60_000;

/** One request to its end; never rejects. */
export function stream(order: StreamOrder, prompt: number, agent: Agent): Promise<StreamOutcome> {
  const tokens: number[] = [];
  const gaps: number[] = [];
  const times: number[] = [];
  const startedAt = performance.now();
  const body = JSON.stringify({
    ...(order.model === undefined ? {} : { model: order.model }),
    prompt: order.prompts[prompt],
    max_tokens: order.maxTokens,
    temperature: 0,
    seed: 7,
    ignore_eos: true,
    logprobs: 2,
    return_token_ids: true,
    stream: true,
  });
  return new Promise((resolve) => {
    let artifact = '';
    let [finished, done] = [false, false];
    const end = (failure: string | undefined): void => {
      resolve({ prompt, artifact, tokens, gaps, times, startedAt, failure });
    };
    const call = request(`${order.url}/v1/completions`, {
      agent,
      method: 'POST',
      headers: { 'content-type': 'application/json', ...order.headers },
      timeout: SILENT_MS,
    });
    call.on('error', (error) => {
      end(error.message);
    });
    call.on('timeout', () => {
      call.destroy(new Error(`nothing came for ${SILENT_MS} ms`));
    });
    call.on('response', (response) => {
      response.setEncoding('utf8');
      let rest = '';
      let error = response.statusCode === 200 ? undefined : `status ${String(response.statusCode)}`;
      response.on('data', (text: string) => {
        const now = performance.now();
        rest += text;
        const lines = rest.split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          if (!line.startsWith('data: ')) continue;
          if (line === 'data: [DONE]') {
            done = true;
            continue;
          }
          const chunk = JSON.parse(line.slice('data: '.length)) as Chunk;
          if (artifact === '') artifact = chunk.system_fingerprint?.replace('fp_', '') ?? '';
          if (chunk.error !== undefined) error = `${chunk.error.code}: ${chunk.error.message}`;
          for (const choice of chunk.choices ?? []) {
            finished ||= typeof choice.finish_reason === 'string';
            for (const top of choice.logprobs?.top_logprobs ?? []) gaps.push(gapOf(Object.values(top)));
            for (const id of choice.token_ids ?? []) {
              tokens.push(id);
              times.push(now);
            }
          }
        }
      });
      response.on('end', () => {
        if (error === undefined && response.statusCode !== 200) error = rest;
        if (error === undefined && !(finished && done)) error = 'truncated';
        if (error === undefined && tokens.length !== order.maxTokens)
          error = `${tokens.length} tokens of ${order.maxTokens}`;
        end(error);
      });
      response.on('error', (failure) => {
        end(failure.message);
      });
    });
    call.end(body);
  });
}

function gapOf(logprobs: readonly number[]): number {
  const [first = 0, second = Number.NEGATIVE_INFINITY] = [...logprobs].sort((a, b) => b - a);
  return first - second;
}

export class Load {
  readonly outcomes: StreamOutcome[] = [];
  readonly #agent = new Agent({ keepAlive: true, maxSockets: Infinity });
  readonly #running: Promise<void>[] = [];
  #stopped = false;
  #next = 0;

  /** @param order `url` is asked anew for each request, since a server may come back elsewhere */
  constructor(
    private readonly order: () => StreamOrder,
    count: number,
  ) {
    for (let i = 0; i < count; i++) this.#running.push(this.#client());
  }

  /** Resolves when the last has ended. */
  async stop(): Promise<readonly StreamOutcome[]> {
    this.#stopped = true;
    await Promise.all(this.#running);
    this.#agent.destroy();
    return this.outcomes;
  }

  async #client(): Promise<void> {
    while (!this.#stopped) {
      const order = this.order();
      const outcome = await stream(order, this.#next++ % order.prompts.length, this.#agent);
      this.outcomes.push(outcome);
      // A server that is away refuses at once; a client would wait too.
      if (outcome.failure !== undefined) await sleep(50);
    }
  }
}

/** The answers that each prompt gets alone, one after the other. */
export async function references(order: StreamOrder): Promise<StreamOutcome[]> {
  const agent = new Agent({ keepAlive: true });
  const alone: StreamOutcome[] = [];
  for (const prompt of order.prompts.keys()) {
    const outcome = await stream(order, prompt, agent);
    if (outcome.failure !== undefined) throw new Error(`a request alone failed: ${outcome.failure}`);
    alone.push(outcome);
  }
  agent.destroy();
  return alone;
}

export interface Comparison {
  readonly compared: number;
  /** Other tokens from a place on where the two likeliest were closer than `tie`. */
  readonly nearTies: number;
  readonly different: readonly Difference[];
}

export interface Difference {
  readonly outcome: StreamOutcome;
  /** Index of the first token that differs. */
  readonly at: number;
  /** Between the two likeliest tokens there, alone; nats. */
  readonly gap: number;
}

/** Streams under load against the same prompt and artifact alone; those of an artifact without a reference are left out. */
export function compare(
  outcomes: readonly StreamOutcome[],
  alone: readonly StreamOutcome[],
  tie = 0.05,
): Comparison {
  const reference = new Map(alone.map((one) => [`${one.prompt} ${one.artifact}`, one]));
  const different: Difference[] = [];
  let [compared, nearTies] = [0, 0];
  for (const outcome of outcomes) {
    const expected = reference.get(`${outcome.prompt} ${outcome.artifact}`);
    if (expected === undefined || outcome.failure !== undefined) continue;
    compared += 1;
    const at = outcome.tokens.findIndex((token, i) => token !== expected.tokens[i]);
    if (at < 0) continue;
    const gap = expected.gaps[at] ?? Number.POSITIVE_INFINITY;
    if (gap < tie) nearTies += 1;
    else different.push({ outcome, at, gap });
  }
  return { compared, nearTies, different };
}

/** Times between tokens of one stream, ms, by whether the later token came within one of the spans. */
export function interToken(
  outcomes: readonly StreamOutcome[],
  spans: readonly (readonly [number, number])[],
): { readonly within: number[]; readonly without: number[] } {
  const within: number[] = [];
  const without: number[] = [];
  for (const { times } of outcomes) {
    for (let i = 1; i < times.length; i++) {
      const [before = 0, at = 0] = [times[i - 1], times[i]];
      (spans.some(([start, end]) => at >= start && at <= end) ? within : without).push(at - before);
    }
  }
  return { within, without };
}
