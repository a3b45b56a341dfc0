// A gRPC client that knows nothing of this project: it reads the services from reflection and calls them with plain grpc-js.
import type { Client, ClientReadableStream, Metadata, ServiceDefinition, ServiceError } from '@grpc/grpc-js';
import { credentials, makeClientConstructor, status } from '@grpc/grpc-js';
import { Error as WireError, ErrorCode, FinishReason } from '@spotlight/proto';
import assert from 'node:assert/strict';
import { FAKE_ARTIFACT, FAKE_MODEL } from '../fakes/worker.js';
import type { Gateway } from './gateway.js';
import { START_MS, startGateway, until } from './gateway.js';
import { reflect } from './reflection-client.js';

interface Chunk {
  request_id: string;
  model: string;
  deltas: { choice: number; token_ids: number[]; text: string; finish_reason: string }[];
  usage: { prompt_tokens: number; completion_tokens: number } | null;
  artifact_digest: string;
  seed: string;
}

interface GenerationClient extends Client {
  generate(request: object, metadata?: Metadata): ClientReadableStream<Chunk>;
  tokenize(request: object, done: (error: ServiceError | null, answer: Tokens) => void): void;
  listModels(
    request: object,
    done: (error: ServiceError | null, answer: { models: { id: string }[] }) => void,
  ): void;
}

interface Tokens {
  token_ids: number[];
  tokens: Buffer[];
  max_model_len: number;
}

describe('plain gRPC client', () => {
  let gateway: Gateway;
  let client: GenerationClient;

  before(async function () {
    this.timeout(START_MS);
    gateway = await startGateway();
    const definition = await reflect(gateway.grpc, 'spotlight.v1.Generation');
    const service = definition['spotlight.v1.Generation'];
    assert.ok(service !== undefined, 'reflection gave no Generation service');
    const Generation = makeClientConstructor(service as ServiceDefinition, 'Generation');
    client = new Generation(gateway.grpc, credentials.createInsecure()) as unknown as GenerationClient;
  });
  afterEach(() => gateway.dismiss());
  after(async () => {
    client.close();
    await gateway.close();
  });

  const collect = (call: ClientReadableStream<Chunk>): Promise<Chunk[]> =>
    new Promise((resolve, reject) => {
      const chunks: Chunk[] = [];
      call.on('data', (chunk: Chunk) => chunks.push(chunk));
      call.on('end', () => {
        resolve(chunks);
      });
      call.on('error', reject);
    });

  const failure = async (request: object): Promise<{ error: ServiceError; detail: WireError }> => {
    const error = await collect(client.generate(request)).then(
      () => assert.fail('the call succeeded'),
      (thrown: unknown) => thrown as ServiceError,
    );
    const [bytes] = error.metadata.get('spotlight-error-bin');
    assert.ok(Buffer.isBuffer(bytes), 'no error details in the trailers');
    return { error, detail: WireError.decode(bytes) };
  };

  it('streams chunks with token ids, text, usage, seed and artifact', async () => {
    await gateway.worker({ workerId: 'w1' });
    const chunks = await collect(
      client.generate({ text: 'hello', sampling: { max_tokens: 6, seed: '11' }, request_id: 'mine' }),
    );
    assert.equal(chunks.length, 6);
    const last = chunks.at(-1);
    assert.equal(last?.deltas[0]?.finish_reason, 'FINISH_REASON_LENGTH');
    assert.equal(last.usage?.completion_tokens, 6);
    for (const chunk of chunks) {
      assert.deepEqual([chunk.request_id, chunk.model, chunk.seed], ['mine', FAKE_MODEL, '11']);
      assert.equal(chunk.artifact_digest, FAKE_ARTIFACT);
      assert.equal(chunk.deltas[0]?.token_ids.length, 1);
    }
  });

  it('gives the text that the HTTP door gives', async () => {
    await gateway.worker({ workerId: 'w1' });
    const sampling = { max_tokens: 12, seed: '5' };
    const chunks = await collect(
      client.generate({ chat: { messages: [{ role: 'user', content: 'same?' }] }, sampling }),
    );
    const response = await fetch(`${gateway.http}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ messages: [{ role: 'user', content: 'same?' }], max_tokens: 12, seed: 5 }),
    });
    const answer = (await response.json()) as { choices: { message: { content: string } }[] };
    assert.equal(
      chunks.map(({ deltas }) => deltas[0]?.text ?? '').join(''),
      answer.choices[0]?.message.content,
    );
  });

  it('fills request id and seed when the client gives none', async () => {
    await gateway.worker({ workerId: 'w1' });
    const [chunk] = await collect(client.generate({ text: 'x', sampling: { max_tokens: 1 } }));
    assert.match(chunk?.request_id ?? '', /^[0-9a-f-]{36}$/);
    assert.match(chunk?.seed ?? '', /^\d+$/);
  });

  it('tokenizes and lists models', async () => {
    await gateway.worker({ workerId: 'w1' });
    const tokens = await new Promise<Tokens>((resolve, reject) => {
      client.tokenize({ text: 'some words' }, (error, answer) => {
        if (error === null) resolve(answer);
        else reject(error);
      });
    });
    assert.equal(Buffer.concat(tokens.tokens).toString(), 'some words');
    assert.equal(tokens.token_ids.length, tokens.tokens.length);
    assert.equal(tokens.max_model_len, 8192);
    const models = await new Promise<{ id: string }[]>((resolve, reject) => {
      client.listModels({}, (error, answer) => {
        if (error === null) resolve(answer.models);
        else reject(error);
      });
    });
    assert.deepEqual(
      models.map(({ id }) => id),
      [FAKE_MODEL],
    );
  });

  it('names the field at fault, with the status of the table', async () => {
    await gateway.worker({ workerId: 'w1', maxModelLen: 64 });
    const bad = await failure({ text: 'x', sampling: { temperature: -1 } });
    assert.equal(bad.error.code, status.INVALID_ARGUMENT);
    assert.equal(bad.detail.field, 'sampling.temperature');
    const long = await failure({ text: 'word '.repeat(100) });
    assert.equal(long.error.code, status.INVALID_ARGUMENT);
    assert.equal(long.detail.code, ErrorCode.PROMPT_TOO_LONG);
    assert.match(long.error.details, /at most 63/);
    const unknown = await failure({ model: 'other', text: 'x' });
    assert.equal(unknown.error.code, status.NOT_FOUND);
    const nothing = await failure({});
    assert.equal(nothing.detail.field, 'prompt');
  });

  it('says UNAVAILABLE and retryable without a worker', async () => {
    const { error, detail } = await failure({ text: 'x' });
    assert.equal(error.code, status.UNAVAILABLE);
    assert.equal(detail.retryable, true);
  });

  it('frees the request on the worker when the call is cancelled', async () => {
    const worker = await gateway.worker({ workerId: 'w1', stepMs: 5 });
    const call = client.generate({ text: 'long', sampling: { max_tokens: 5000 } });
    call.on('error', () => undefined);
    call.once('data', () => {
      call.cancel();
    });
    await until(() => worker.cancelled.length === 1, 'the cancel to arrive');
    assert.equal(worker.running, 0);
  });

  it('ends a request at its timeout and frees it', async () => {
    const worker = await gateway.worker({ workerId: 'w1', stepMs: 10 });
    const { error } = await failure({ text: 'slow', sampling: { max_tokens: 5000 }, timeout_ms: 150 });
    assert.equal(error.code, status.DEADLINE_EXCEEDED);
    await until(() => worker.running === 0, 'the worker to be idle');
  });

  it('stops the worker while the call is paused, and loses nothing', async function () {
    this.timeout(30_000);
    const worker = await gateway.worker({
      workerId: 'w1',
      script: () => ({
        promptTokens: 1,
        finish: FinishReason.STOP,
        choices: [
          Array.from({ length: 2000 }, (_, index) => ({ id: index, text: `${index}`.padEnd(4096, '.') })),
        ],
      }),
    });
    const call = client.generate({ text: 'fast' });
    // A grpc-js client pushes back only once it has begun to read.
    const first = await new Promise<Chunk>((resolve) => {
      call.once('data', (chunk: Chunk) => {
        call.pause();
        resolve(chunk);
      });
    });
    await until(() => worker.paused === 1, 'the worker to run out of credits');
    const rest = collect(call);
    call.resume();
    const chunks = [first, ...(await rest)];
    assert.equal(chunks.length, 2000);
    assert.ok(chunks.every(({ deltas }, index) => deltas[0]?.token_ids[0] === index));
  });

  it('loses its worker with a retryable error', async () => {
    const worker = await gateway.worker({ workerId: 'w1', stepMs: 5 });
    const call = client.generate({ text: 'doomed', sampling: { max_tokens: 5000 } });
    call.once('data', () => {
      worker.kill();
    });
    const error = await collect(call).then(
      () => assert.fail('the call succeeded'),
      (thrown: unknown) => thrown as ServiceError,
    );
    assert.equal(error.code, status.UNAVAILABLE);
    const [bytes] = error.metadata.get('spotlight-error-bin');
    assert.equal(WireError.decode(bytes as Buffer).code, ErrorCode.WORKER_LOST);
  });
});
