// The HTTP door as curl sees it: bad input, headers, keys, probes, metrics, and how it stops.
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { loadConfig } from '@spotlight/control-plane/config/config.js';
import { startControlPlane } from '@spotlight/control-plane/start.js';
import type { FakeWorker } from '../fakes/worker.js';
import { FAKE_ARTIFACT, FAKE_MODEL } from '../fakes/worker.js';
import type { Gateway } from './gateway.js';
import { START_MS, startGateway, until } from './gateway.js';

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
  };
}

const JSON_TYPE = { 'content-type': 'application/json' };
const CHAT = '/v1/chat/completions';
const messages = [{ role: 'user', content: 'hi' }];

async function ask(url: string, init?: RequestInit): Promise<Answer> {
  const response = await fetch(url, init);
  return { status: response.status, headers: response.headers, text: await response.text() };
}

const post = (
  url: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<Answer> => ask(url, { method: 'POST', headers: { ...JSON_TYPE, ...headers }, body });

const errorOf = ({ text }: Answer): ErrorBody['error'] => (JSON.parse(text) as ErrorBody).error;

describe('HTTP door', () => {
  let gateway: Gateway;

  before(async function () {
    this.timeout(START_MS);
    gateway = await startGateway({ maxBody: '1MiB' });
  });
  afterEach(() => gateway.dismiss());
  after(() => gateway.close());

  const at = (path: string): string => gateway.http + path;

  it('answers every bad request with a 4xx that names what is wrong', async () => {
    await gateway.worker({ workerId: 'w1', maxModelLen: 100 });
    const long = { messages: [{ role: 'user', content: 'word '.repeat(200) }] };
    const cases: [
      status: number,
      param: string | null,
      code: string | null,
      path: string,
      body: string | Uint8Array<ArrayBuffer>,
    ][] = [
      [400, null, 'invalid_request', CHAT, '{"messages": ['],
      [400, null, 'invalid_utf8', CHAT, new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d])],
      [400, null, null, CHAT, '[]'],
      [400, null, null, CHAT, '"text"'],
      [400, 'messages', 'missing_required_parameter', CHAT, '{}'],
      [400, 'max_tokens', 'invalid_value', CHAT, JSON.stringify({ messages, max_tokens: -1 })],
      [400, 'messages', 'context_length_exceeded', CHAT, JSON.stringify(long)],
      [400, 'messages', 'context_length_exceeded', CHAT, JSON.stringify({ ...long, stream: true })],
      [
        400,
        'prompt',
        'context_length_exceeded',
        '/v1/completions',
        JSON.stringify({ prompt: 'word '.repeat(200) }),
      ],
      [404, 'model', 'model_not_found', CHAT, JSON.stringify({ messages, model: 'gpt-9' })],
      [
        400,
        'tools',
        'unsupported_parameter',
        CHAT,
        JSON.stringify({ messages, tools: [{ type: 'function' }] }),
      ],
      [400, 'prompt', 'missing_required_parameter', '/v1/completions', '{}'],
      [400, 'prompt', null, '/v1/completions', '{"prompt": ""}'],
      [413, null, 'request_too_large', CHAT, ' '.repeat(2 ** 20 + 1)],
      [400, 'prompt', 'invalid_value', '/tokenize', '{}'],
      [404, null, 'unknown_url', '/v1/nothing', '{}'],
    ];
    for (const [status, param, code, path, body] of cases) {
      const answer = await post(at(path), body);
      const { type, ...error } = errorOf(answer);
      const told = `${path} ${typeof body === 'string' ? body.slice(0, 60) : 'bytes'}: ${answer.text}`;
      assert.deepEqual(
        [answer.status, error.param, error.code, type],
        [status, param, code, 'invalid_request_error'],
        told,
      );
    }
    assert.match(errorOf(await post(at(CHAT), JSON.stringify(long))).message, /at most 99/);
  });

  it('asks for JSON when the body says it is something else', async () => {
    const answer = await post(at(CHAT), JSON.stringify({ messages }), { 'content-type': 'text/plain' });
    assert.equal(answer.status, 400);
    assert.match(errorOf(answer).message, /application\/json/);
    const latin = await post(at(CHAT), JSON.stringify({ messages }), {
      'content-type': 'application/json; charset=latin1',
    });
    assert.equal(latin.status, 415);
  });

  it('echoes a request id that can stand in a header and makes one otherwise', async () => {
    const mine = await ask(at('/livez'), { headers: { 'x-request-id': 'abc/1' } });
    assert.equal(mine.headers.get('x-request-id'), 'abc/1');
    const odd = await ask(at('/livez'), { headers: { 'x-request-id': 'a b' } });
    assert.match(odd.headers.get('x-request-id') ?? '', /^[0-9a-f-]{36}$/);
  });

  it('streams the raw events of a chat, usage last', async () => {
    await gateway.worker({ workerId: 'w1' });
    const body = {
      messages,
      max_tokens: 3,
      seed: 4,
      stream: true,
      stream_options: { include_usage: true },
      return_token_ids: true,
    };
    const { text, headers } = await post(at(CHAT), JSON.stringify(body));
    assert.equal(headers.get('content-type'), 'text/event-stream; charset=utf-8');
    assert.equal(headers.get('x-spotlight-artifact'), FAKE_ARTIFACT);
    assert.equal(headers.get('x-spotlight-seed'), '4');
    const events = text.trimEnd().split('\n\n');
    assert.equal(events.length, 5);
    assert.equal(events.at(-1), 'data: [DONE]');
    const chunks = events
      .slice(0, -1)
      .map((event) => JSON.parse(event.slice('data: '.length)) as Record<string, unknown>);
    assert.deepEqual(
      chunks.map(({ object }) => object),
      Array.from({ length: 4 }, () => 'chat.completion.chunk'),
    );
    assert.equal(chunks[0]?.['usage'], null);
    assert.deepEqual(chunks.at(-1)?.['choices'], []);
    const ids = chunks.flatMap(({ choices }) =>
      (choices as { token_ids?: number[] }[]).flatMap((choice) => choice.token_ids ?? []),
    );
    assert.equal(ids.length, 3);
  });

  it('passes attention overrides, session and sampling on to the worker', async () => {
    const worker = await gateway.worker({ workerId: 'w1' });
    const attention = { backend: 'dense', fraction: 0.25, tail: 'none', dense_prefix_tokens: 7 };
    await post(at('/v1/completions'), JSON.stringify({ prompt: [1, 2, 3], attention, echo: true, top_k: 5 }));
    const [submit] = worker.submits;
    assert.deepEqual(submit?.prompt, { $case: 'tokenIds', value: { ids: [1, 2, 3] } });
    assert.deepEqual(submit.attention, { backend: 'dense', fraction: 0.25, tail: 2, densePrefixTokens: 7 });
    assert.deepEqual(
      [submit.sampling?.echo, submit.sampling?.topK, submit.sampling?.maxTokens],
      [true, 5, 16],
    );
    assert.ok((submit.sampling?.seed ?? -1n) >= 0n);
  });

  it('keeps a session on its worker', async () => {
    const workers = [await gateway.worker({ workerId: 'w1' }), await gateway.worker({ workerId: 'w2' })];
    for (let turn = 0; turn < 6; turn++) {
      const body = JSON.stringify({ messages: [{ role: 'user', content: `turn ${turn}` }], max_tokens: 1 });
      await post(at(CHAT), body, { 'x-session-id': 'chat-7' });
    }
    assert.deepEqual(workers.map(({ submits }) => submits.length).sort(), [0, 6]);
  });

  it('tokenizes text and chats in vLLM’s shape', async () => {
    await gateway.worker({ workerId: 'w1' });
    const body = JSON.stringify({ model: FAKE_MODEL, prompt: 'some words', return_token_strs: true });
    const told = JSON.parse((await post(at('/tokenize'), body)).text) as {
      count: number;
      tokens: number[];
      token_strs: string[];
      max_model_len: number;
    };
    assert.equal(told.count, told.tokens.length);
    assert.equal(told.token_strs.join(''), 'some words');
    assert.equal(told.max_model_len, 8192);
    const chat = JSON.parse((await post(at('/tokenize'), JSON.stringify({ messages }))).text) as {
      count: number;
      token_strs: null;
    };
    assert.ok(chat.count > 0);
    assert.equal(chat.token_strs, null);
  });

  it('tells how a model is served, and finds one whose name has slashes', async () => {
    await gateway.worker({ workerId: 'w1', model: 'org/model-1', artifactDigest: '' });
    const { data } = JSON.parse((await ask(at('/v1/models'))).text) as {
      data: { spotlight: Record<string, unknown> }[];
    };
    assert.equal(data.length, 1);
    const one = await ask(at('/v1/models/org/model-1'));
    assert.equal(one.status, 200);
    assert.deepEqual(JSON.parse(one.text), data[0]);
    const { fingerprint, ...spotlight } = data[0]?.spotlight ?? {};
    assert.deepEqual(spotlight, { backend: 'dense', artifact_digest: null, workers: 1, devices: ['fake'] });
    assert.equal(typeof fingerprint, 'string');
  });

  it('serves probes and metrics', async () => {
    await gateway.worker({ workerId: 'w1' });
    await post(at(CHAT), JSON.stringify({ messages, max_tokens: 2 }));
    for (const path of ['/livez', '/readyz', '/healthz'])
      assert.equal((await ask(at(path))).status, 200, path);
    const count =
      /spotlight:gateway_requests_total\{door="http",route="\/v1\/chat\/completions",outcome="ok"\} [1-9]/;
    // The count is made when the response closes, a moment after its last byte.
    let metrics = '';
    for (let tries = 0; tries < 50 && !count.test(metrics); tries++)
      metrics = (await ask(at('/metrics'))).text;
    assert.match(metrics, count);
    assert.match(metrics, /spotlight:worker_state\{worker="w1",state="ready"\} 1/);
    assert.match(
      metrics,
      /spotlight:gateway_completion_tokens_total\{model="fake-135m",artifact="5eed5eed5eed"\} \d+/,
    );
    assert.match(metrics, /spotlight:gateway_requests_in_flight 0/);
  });

  it('ends a request at its timeout with 504 and frees it', async () => {
    const worker = await gateway.worker({ workerId: 'w1', stepMs: 10 });
    const answer = await post(at(CHAT), JSON.stringify({ messages, max_tokens: 5000, timeout_ms: 100 }));
    assert.deepEqual([answer.status, errorOf(answer).code], [504, 'deadline_exceeded']);
    await until(() => worker.running === 0, 'the worker to be idle');
  });

  it('frees every one of 200 requests cancelled at random moments', async function () {
    this.timeout(30_000);
    const worker = await gateway.worker({ workerId: 'w1', stepMs: 1 });
    const body = JSON.stringify({ messages, max_tokens: 5000, stream: true });
    await Promise.all(
      Array.from({ length: 200 }, async (_, index) => {
        const abort = new AbortController();
        setTimeout(
          () => {
            abort.abort();
          },
          (index * 37) % 150,
        );
        const init = { method: 'POST', headers: JSON_TYPE, body, signal: abort.signal };
        await assert.rejects(fetch(at(CHAT), init).then((response) => response.text()));
      }),
    );
    // Requests whose client left early may still be on their way in, so both ends must come to rest.
    const inFlight = async (): Promise<number> =>
      Number(/^spotlight:gateway_requests_in_flight (\d+)$/m.exec((await ask(at('/metrics'))).text)?.[1]);
    const since = performance.now();
    for (;;) {
      const left = [worker.running, await inFlight()];
      if (left.every((count) => count === 0)) break;
      assert.ok(performance.now() - since < 15_000, `left on the worker and in flight: ${left.join(', ')}`);
    }
  });
});

describe('HTTP door with keys', () => {
  let gateway: Gateway;
  let worker: FakeWorker;
  const key = 'an-admin-key-for-tests';

  before(async function () {
    this.timeout(START_MS);
    gateway = await startGateway(
      { auth: 'required', maxRequestsPerKey: '1' },
      { SPOTLIGHT_ADMIN_KEY: key, SPOTLIGHT_JOIN_TOKENS: 'join-token-of-tests' },
    );
    worker = await gateway.worker({ workerId: 'w1', joinToken: 'join-token-of-tests', stepMs: 5 });
  });
  after(() => gateway.close());

  it('wants a key on every route but the probes', async () => {
    const body = JSON.stringify({ messages });
    for (const path of ['/v1/models', '/v1/models/x'])
      assert.equal((await ask(gateway.http + path)).status, 401, path);
    for (const path of [CHAT, '/v1/completions', '/tokenize']) {
      const answer = await post(gateway.http + path, body);
      assert.deepEqual([answer.status, errorOf(answer).code], [401, 'invalid_api_key'], path);
      assert.equal(answer.headers.get('www-authenticate'), 'Bearer');
    }
    const wrong = await post(gateway.http + CHAT, body, { authorization: 'Bearer wrong-key' });
    assert.equal(wrong.status, 401);
    for (const path of ['/livez', '/readyz', '/healthz', '/metrics'])
      assert.equal((await ask(gateway.http + path)).status, 200, path);
    const right = await post(gateway.http + CHAT, body, { authorization: `Bearer ${key}` });
    assert.equal(right.status, 200);
  });

  it('answers 429 with Retry-After when a key has its share under way', async () => {
    const authorization = `Bearer ${key}`;
    const abort = new AbortController();
    const body = JSON.stringify({ messages, max_tokens: 5000 });
    const headers = { ...JSON_TYPE, authorization };
    const running = fetch(gateway.http + CHAT, { method: 'POST', headers, body, signal: abort.signal });
    await until(() => worker.running === 1, 'the first request to run');
    const answer = await post(gateway.http + CHAT, body, { authorization });
    assert.deepEqual([answer.status, errorOf(answer).code], [429, 'rate_limit_exceeded']);
    assert.equal(answer.headers.get('retry-after'), '1');
    abort.abort();
    await assert.rejects(running);
    await until(() => worker.running === 0, 'the first request to be gone');
    const after = await post(gateway.http + CHAT, JSON.stringify({ messages, max_tokens: 1 }), {
      authorization,
    });
    assert.equal(after.status, 200);
  });
});

describe('control plane', () => {
  it('lets running requests end when it stops, and takes no new ones', async function () {
    this.timeout(START_MS);
    const gateway = await startGateway();
    await gateway.worker({ workerId: 'w1', stepMs: 20 });
    const running = post(gateway.http + CHAT, JSON.stringify({ messages, max_tokens: 20 }));
    await until(() => gateway.controlPlane.fleet.snapshots()[0]?.inFlight === 1, 'the request to run');
    const closing = gateway.controlPlane.close();
    const refused = await post(gateway.http + CHAT, JSON.stringify({ messages, max_tokens: 1 }));
    assert.equal(refused.status, 503);
    assert.equal((await ask(`${gateway.http}/readyz`)).status, 503);
    const answer = await running;
    assert.equal(answer.status, 200);
    await closing;
    await assert.rejects(ask(`${gateway.http}/livez`));
    await gateway.close();
  });

  it('names the port that is in use', async function () {
    this.timeout(START_MS);
    const squatter = createServer();
    await new Promise<void>((resolve) => squatter.listen(0, '127.0.0.1', resolve));
    const { port } = squatter.address() as AddressInfo;
    try {
      for (const [flags, flag] of [
        [{ httpPort: String(port), grpcPort: '0' }, '--http-port'],
        [{ httpPort: '0', grpcPort: String(port) }, '--grpc-port'],
      ] as const) {
        // A database that nobody answers for: the ports come first.
        const databaseUrl = 'postgres://nobody@127.0.0.1:1/none';
        const config = loadConfig({ ...flags, databaseUrl, logLevel: 'silent' }, {});
        await assert.rejects(startControlPlane(config), (error: Error) => {
          assert.match(error.message, new RegExp(`:${port} is in use.*${flag}`));
          return true;
        });
      }
    } finally {
      squatter.close();
    }
  });
});
