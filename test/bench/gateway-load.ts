// Open-loop load over HTTP: requests start when their time has come, whatever became of those before, so a slow gateway shows as
// latency and not as a lower rate. Raw node:http with the cheapest reading that still finds every token's time.
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { FAKE_MODEL } from '../fakes/worker.js';
import { clock } from './clock.js';

export interface LoadOptions {
  readonly url: string;
  readonly rate: number;
  readonly seconds: number;
  readonly tokens: number;
  readonly promptChars: number;
}

export interface LoadResult {
  /** Milliseconds a request: to the worker and back with the first token, less the worker's own time. */
  readonly request: number[];
  /** Milliseconds a request: its way up alone, from the client's send to the worker's receipt. */
  readonly up: number[];
  /** Milliseconds a token: from the worker's write to the client's read. */
  readonly token: number[];
  readonly failures: number;
}

export async function drive(options: LoadOptions): Promise<LoadResult> {
  const agent = new Agent({ keepAlive: true, maxSockets: Infinity, scheduling: 'fifo' });
  const result = { request: [] as number[], up: [] as number[], token: [] as number[], failures: 0 };
  const body = JSON.stringify({
    model: FAKE_MODEL,
    messages: [{ role: 'user', content: 'lorem ipsum '.repeat(options.promptChars / 12) }],
    max_tokens: options.tokens,
    stream: true,
  });
  const pending: Promise<void>[] = [];
  const begin = performance.now();
  const random = generator(7);
  for (let due = 0; due < options.seconds * 1000; due += (-Math.log(1 - random()) * 1000) / options.rate) {
    const wait = begin + due - performance.now();
    if (wait >= 1) await sleep(wait);
    pending.push(
      one(agent, options.url, body, options.tokens, result).catch(() => {
        result.failures += 1;
      }),
    );
  }
  await Promise.all(pending);
  agent.destroy();
  return result;
}

function one(
  agent: Agent,
  url: string,
  body: string,
  tokens: number,
  result: { request: number[]; up: number[]; token: number[] },
): Promise<void> {
  return new Promise((resolve, reject) => {
    let seen = 0;
    const sent = clock();
    const call = request(`${url}/v1/chat/completions`, {
      agent,
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
    });
    call.on('error', reject);
    call.on('response', (response) => {
      response.setEncoding('latin1');
      let rest = '';
      response.on('data', (text: string) => {
        const now = clock();
        rest += text;
        const end = rest.lastIndexOf('\n\n') + 1;
        for (const match of rest.slice(0, end).matchAll(/"content":"(\d*),(\d+);"/g)) {
          const written = BigInt(match[2] ?? 0);
          if (match[1] !== '') {
            const up = BigInt(match[1] ?? 0) - sent;
            result.up.push(milliseconds(up));
            result.request.push(milliseconds(up + now - written));
          }
          result.token.push(milliseconds(now - written));
          seen += 1;
        }
        rest = rest.slice(end);
      });
      response.on('end', () => {
        if (response.statusCode === 200 && seen === tokens) resolve();
        else reject(new Error(`status ${String(response.statusCode)}, ${seen} tokens`));
      });
    });
    call.end(body);
  });
}

function milliseconds(nanoseconds: bigint): number {
  return Number(nanoseconds) / 1e6;
}

/** Numbers in [0, 1), the same every run (xorshift32): two runs see the same arrivals. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
