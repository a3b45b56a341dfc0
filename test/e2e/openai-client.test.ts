// The official openai client, unmodified, against the HTTP door with fake workers behind it.
import assert from 'node:assert/strict';
import { ErrorCode, FinishReason, WorkerState } from '@spotlight/proto';
import OpenAI from 'openai';
import { FAKE_ARTIFACT, FAKE_MODEL } from '../fakes/worker.js';
import type { Gateway } from './gateway.js';
import { START_MS, startGateway, until } from './gateway.js';

type ChatBody = Pick<OpenAI.ChatCompletionCreateParams, 'model' | 'messages' | 'max_completion_tokens'>;

/** @param seed beside the client's types, which call it deprecated */
const chat = (content: string, tokens?: number, seed?: number): ChatBody => ({
  model: FAKE_MODEL,
  messages: [{ role: 'user', content }],
  ...(tokens === undefined ? {} : { max_completion_tokens: tokens }),
  ...(seed === undefined ? {} : { seed }),
});

describe('openai client', () => {
  let gateway: Gateway;
  let client: OpenAI;

  before(async function () {
    this.timeout(START_MS);
    gateway = await startGateway();
    client = new OpenAI({ baseURL: `${gateway.http}/v1`, apiKey: 'none', maxRetries: 0 });
  });
  afterEach(() => gateway.dismiss());
  after(() => gateway.close());

  it('answers a chat whole', async () => {
    const worker = await gateway.worker({ workerId: 'w1' });
    const { data, response } = await client.chat.completions
      .create(chat('hello', 5, 7), { headers: { 'x-request-id': 'mine-1' } })
      .withResponse();
    assert.equal(data.object, 'chat.completion');
    assert.equal(data.model, FAKE_MODEL);
    assert.equal(data.id, 'chatcmpl-mine-1');
    assert.equal(
      Object.entries(data).find(([key]) => key === 'system_fingerprint')?.[1],
      `fp_${FAKE_ARTIFACT.slice(0, 12)}`,
    );
    const [choice] = data.choices;
    assert.equal(choice?.finish_reason, 'length');
    assert.equal(choice.message.role, 'assistant');
    assert.equal(choice.message.content?.split(' ').length, 5);
    assert.deepEqual(
      [data.usage?.completion_tokens, data.usage?.total_tokens],
      [5, 5 + (data.usage?.prompt_tokens ?? Number.NaN)],
    );
    assert.equal(response.headers.get('x-spotlight-artifact'), FAKE_ARTIFACT);
    assert.equal(response.headers.get('x-request-id'), 'mine-1');
    assert.equal(worker.submits[0]?.sampling?.seed, 7n);
  });

  it('streams the same text as it answers whole', async () => {
    await gateway.worker({ workerId: 'w1' });
    const whole = await client.chat.completions.create(chat('tell me', 40, 3));
    const stream = await client.chat.completions.create({
      ...chat('tell me', 40, 3),
      stream: true,
      stream_options: { include_usage: true },
    });
    const texts: string[] = [];
    let usage: OpenAI.CompletionUsage | null | undefined;
    let finish: string | null | undefined;
    for await (const chunk of stream) {
      const [choice] = chunk.choices;
      texts.push(choice?.delta.content ?? '');
      finish = choice?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    assert.equal(texts.join(''), whole.choices[0]?.message.content);
    assert.ok(texts.length >= 40, 'a chunk a token');
    assert.equal(finish, 'length');
    assert.deepEqual(usage, whole.usage);
  });

  it('numbers the choices of several prompts through', async () => {
    await gateway.worker({ workerId: 'w1' });
    const completion = await client.completions.create({
      model: FAKE_MODEL,
      prompt: ['one', 'two'],
      n: 2,
      max_tokens: 3,
      seed: 1,
    });
    assert.deepEqual(
      completion.choices.map(({ index }) => index),
      [0, 1, 2, 3],
    );
    const alone = await client.completions.create({
      model: FAKE_MODEL,
      prompt: 'two',
      n: 2,
      max_tokens: 3,
      seed: 1,
    });
    assert.equal(completion.choices[2]?.text, alone.choices[0]?.text);
    assert.equal(completion.choices[3]?.text, alone.choices[1]?.text);
    assert.equal(completion.usage?.completion_tokens, 12);
  });

  it('gives log-probabilities in both shapes', async () => {
    await gateway.worker({ workerId: 'w1' });
    const asked = { ...chat('x', 3), logprobs: true, top_logprobs: 2 };
    const { choices } = await client.chat.completions.create(asked);
    const content = choices[0]?.logprobs?.content ?? [];
    assert.equal(content.map(({ token }) => token).join(''), choices[0]?.message.content);
    assert.deepEqual(
      content.map(({ top_logprobs }) => top_logprobs.length),
      [2, 2, 2],
    );
    const text = await client.completions.create({
      model: FAKE_MODEL,
      prompt: 'x',
      max_tokens: 3,
      logprobs: 1,
    });
    const shape = text.choices[0]?.logprobs;
    assert.equal(shape?.tokens?.join(''), text.choices[0]?.text);
    assert.equal(shape?.text_offset?.[1], shape?.tokens?.[0]?.length);
  });

  it('lists models and finds one by its name', async () => {
    await gateway.worker({ workerId: 'w1' });
    const ids = (await client.models.list()).data.map(({ id }) => id);
    assert.deepEqual(ids, [FAKE_MODEL]);
    assert.equal((await client.models.retrieve(FAKE_MODEL)).id, FAKE_MODEL);
    await assert.rejects(client.models.retrieve('other'), OpenAI.NotFoundError);
  });

  it('frees the request on the worker when the client goes away', async () => {
    const worker = await gateway.worker({ workerId: 'w1', stepMs: 5 });
    const stream = await client.chat.completions.create({ ...chat('long', 5000), stream: true });
    let chunks = 0;
    for await (const _ of stream) {
      chunks += 1;
      if (chunks === 3) break; // The client aborts its connection.
    }
    await until(() => worker.cancelled.length === 1, 'the cancel to arrive');
    assert.equal(worker.running, 0);
  });

  it('stops the worker while a client does not read, and gives it the rest afterwards', async function () {
    this.timeout(30_000);
    const worker = await gateway.worker({
      workerId: 'w1',
      script: () => ({
        promptTokens: 1,
        finish: FinishReason.STOP,
        choices: [
          Array.from({ length: 3000 }, (_, index) => ({ id: index, text: `${index} `.padEnd(4096, '.') })),
        ],
      }),
    });
    const response = await fetch(`${gateway.http}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...chat('fast'), stream: true }),
    });
    await until(() => worker.paused === 1, 'the worker to run out of credits');
    const text = await response.text();
    const events = text.split('\n\n').filter((event) => event.startsWith('data: {'));
    assert.equal(events.length, 3000);
    assert.ok(text.endsWith('data: [DONE]\n\n'));
    assert.equal(worker.running, 0);
  });

  it('tries another worker when the first fails before its first token', async () => {
    const busy = { code: ErrorCode.OVERLOADED, message: 'The queue is full.', field: '', retryable: true };
    const first = await gateway.worker({ workerId: 'w1' });
    const second = await gateway.worker({ workerId: 'w2' });
    for (const worker of [first, second]) {
      first.refuse(worker === first ? busy : undefined);
      second.refuse(worker === second ? busy : undefined);
      // Whichever the router prefers, one of the two runs meets the refusal.
      for (let i = 0; i < 4; i++) {
        const answer = await client.chat.completions.create(chat(`try ${i}`, 2));
        assert.equal(answer.usage?.completion_tokens, 2);
      }
    }
    assert.ok(first.submits.length + second.submits.length > 8, 'no request met a refusal');
  });

  it('ends a stream with a retryable error when its worker dies, and sends new requests to another', async () => {
    const first = await gateway.worker({ workerId: 'w1', stepMs: 5 });
    const stream = await client.chat.completions.create({
      ...chat('doomed', 5000),
      stream: true,
    });
    let chunks = 0;
    const reading = (async () => {
      for await (const _ of stream) {
        chunks += 1;
        if (chunks === 3) first.kill();
      }
    })();
    await assert.rejects(reading, (error: unknown) => {
      assert.ok(error instanceof OpenAI.APIError);
      assert.equal(error.code, 'worker_lost');
      return true;
    });
    await gateway.worker({ workerId: 'w2' });
    const answer = await client.chat.completions.create(chat('next', 2));
    assert.equal(answer.usage?.completion_tokens, 2);
  });

  it('answers 503 with Retry-After when no worker serves', async () => {
    const error = await client.chat.completions.create(chat('anyone?')).catch((thrown: unknown) => thrown);
    assert.ok(error instanceof OpenAI.InternalServerError);
    assert.equal(error.status, 503);
    assert.ok(Number(error.headers.get('retry-after')) >= 1);
  });

  it('sends nothing to a draining worker', async () => {
    const first = await gateway.worker({ workerId: 'w1' });
    await gateway.worker({ workerId: 'w2' });
    first.setState(WorkerState.DRAINING, 'rollout');
    const state = (): string | undefined =>
      gateway.controlPlane.fleet.snapshots().find(({ workerId }) => workerId === 'w1')?.state;
    await until(() => state() === 'draining', 'the state to arrive');
    for (let i = 0; i < 6; i++) await client.chat.completions.create(chat(`n ${i}`, 1));
    assert.equal(first.submits.length, 0);
  });

  it('serves 64 streams at once, each with the text it has alone', async function () {
    this.timeout(30_000);
    await gateway.worker({ workerId: 'w1', stepMs: 2 });
    const ask = async (index: number): Promise<string> => {
      const stream = await client.chat.completions.create({
        ...chat(`stream ${index}`, 30, index),
        stream: true,
      });
      let text = '';
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
      return text;
    };
    const together = await Promise.all(Array.from({ length: 64 }, (_, index) => ask(index)));
    assert.equal(new Set(together).size, 64);
    for (const index of [0, 31, 63]) assert.equal(together[index], await ask(index));
  });
});
