// The Worker service over real gRPC on a free port, with a fake engine and a small tokenizer behind it.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import { credentials, status } from '@grpc/grpc-js';
import type {
  ReadArtifactResponse,
  RequestUpdate,
  ServeResponse,
  Submit,
  ValidateResponse,
} from '@spotlight/proto';
import {
  DescribeResponse,
  EncodeRequest,
  ErrorCode,
  FinishReason,
  ServeRequest,
  WorkerClient,
} from '@spotlight/proto';
import { pino } from 'pino';
import { refusal } from '../engine/refusal.js';
import { definitionFromGguf } from '../tokenizer/from-gguf.js';
import { byteLevelMetadata } from '../tokenizer/small-vocabulary.js';
import { MeasureError } from '../fleet/reconciler.js';
import { Tokenizer } from '../tokenizer/tokenizer.js';
import { FakeEngine } from './fake-engine.js';
import { WorkerGrpcServer } from './server.js';

const log = pino({ level: 'silent' });

/** A Serve stream as a control plane holds it: messages are kept until asked for. */
class Stream {
  readonly messages: ServeResponse[] = [];
  ended = false;
  private wake: () => void = () => undefined;

  constructor(readonly call: ClientDuplexStream<ServeRequest, ServeResponse>) {
    call.on('data', (message: ServeResponse) => {
      this.messages.push(message);
      this.wake();
    });
    call.on('end', () => {
      this.ended = true;
      this.wake();
    });
    call.on('error', () => {
      this.wake();
    });
  }

  submit(submit: Partial<Submit>): void {
    this.call.write(ServeRequest.fromPartial({ message: { $case: 'submit', value: submit } }));
  }

  cancel(requestId: string): void {
    this.call.write(ServeRequest.fromPartial({ message: { $case: 'cancel', value: { requestId } } }));
  }

  credit(requestId: string, credits: number): void {
    this.call.write(
      ServeRequest.fromPartial({ message: { $case: 'credit', value: { requestId, credits } } }),
    );
  }

  async until(ready: () => boolean): Promise<void> {
    while (!ready()) await new Promise<void>((resolve) => (this.wake = resolve));
  }

  updates(requestId: string): RequestUpdate[] {
    return this.messages.flatMap(({ updates }) => updates).filter((update) => update.requestId === requestId);
  }

  async last(requestId: string): Promise<RequestUpdate> {
    await this.until(() => this.updates(requestId).some(({ done }) => done));
    return this.updates(requestId).at(-1)!;
  }
}

const text = (value: string): Submit['prompt'] => ({ $case: 'text', value });

async function validate(digest: string): Promise<ValidateResponse> {
  await Promise.resolve();
  if (digest.startsWith('b')) throw new MeasureError('UNAVAILABLE', 'both slots are taken');
  if (digest.startsWith('c')) throw new RangeError('a bug');
  return {
    layers: [{ layer: 3, iou: 0.5, keptMass: 0.75 }],
    iou: 0.5,
    keptMass: 0.75,
    tokens: 9,
    samples: 1,
  };
}

describe('worker server', () => {
  let engine: FakeEngine;
  let tokenizer: Tokenizer;
  let server: WorkerGrpcServer;
  let client: WorkerClient;
  let closedFor: string | undefined;
  let stream: Stream;

  before(async () => {
    tokenizer = await Tokenizer.create(definitionFromGguf(byteLevelMetadata(), 'test.gguf'));
  });
  beforeEach(async () => {
    engine = new FakeEngine();
    closedFor = undefined;
    const describe = (): DescribeResponse =>
      DescribeResponse.fromPartial({ workerId: 'w1', model: { id: 'tiny' } });
    const artifactPath = (digest: string): string | undefined =>
      digest === 'own' ? import.meta.filename : digest === 'gone' ? '/nonexistent/artifact' : undefined;
    const parts = { engine, tokenizer, describe, validate, artifactPath, closedFor: () => closedFor, log };
    server = await WorkerGrpcServer.listen('127.0.0.1', 0, parts);
    client = new WorkerClient(server.address, credentials.createInsecure());
    stream = new Stream(client.serve());
  });
  afterEach(async () => {
    stream.call.cancel();
    client.close();
    await server.close(0);
  });

  it('encodes a prompt, submits it with everything asked for, and streams a message a step', async () => {
    stream.submit({
      requestId: 'a',
      prompt: text('a the'),
      credits: 3,
      timeoutMs: 60_000,
      artifactDigest: 'abc',
      resume: [{ choice: 1, tokenIds: [5], emittedChars: 2, finished: false }],
    });
    await engine.until(() => engine.submitted.length === 1);
    const [request] = engine.submitted;
    assert.deepEqual(request?.promptTokens, [97, 258]);
    assert.equal(request.credits, 3);
    assert.equal(request.artifactDigest, 'abc');
    assert.deepEqual(request.resume.get(1), { tokenIds: [5], emittedChars: 2, finished: false });
    assert.ok(request.deadline! > performance.now() + 30_000);
    engine.token('a', 'x');
    engine.token('a', 'y', true);
    const last = await stream.last('a');
    assert.equal(last.deltas[0]?.finishReason, FinishReason.LENGTH);
    assert.deepEqual(
      stream.messages.map(({ step, load }) => [step, load?.freeBlocks]),
      [
        [1n, 7],
        [2n, 7],
      ],
    );
  });

  it('takes token ids as they are, and unlimited credit and no deadline where none is given', async () => {
    stream.submit({ requestId: 'a', prompt: { $case: 'tokenIds', value: { ids: [7, 8] } } });
    await engine.until(() => engine.submitted.length === 1);
    const [request] = engine.submitted;
    assert.deepEqual(request?.promptTokens, [7, 8]);
    assert.equal(request.credits, undefined);
    assert.equal(request.deadline, undefined);
  });

  it('keeps the order of submit, credit and cancel while a prompt is being encoded', async () => {
    stream.submit({ requestId: 'a', prompt: text('the '.repeat(50_000)), credits: 1 });
    stream.credit('a', 4);
    stream.submit({ requestId: 'b', prompt: text('the '.repeat(50_000)) });
    stream.cancel('b');
    const last = await stream.last('b');
    assert.equal(last.deltas[0]?.finishReason, FinishReason.CANCELLED);
    await engine.until(() => engine.submitted.length === 1);
    assert.equal(engine.submitted[0]?.requestId, 'a');
    assert.equal(engine.submitted[0].credits, 5);
    stream.credit('a', 2);
    stream.cancel('a');
    await engine.until(() => engine.calls.length === 2);
    assert.deepEqual(engine.calls, ['credit a 2', 'cancel a']);
  });

  it('answers what it cannot take with the error of that request alone', async () => {
    engine.refusal = refusal(ErrorCode.OVERLOADED, 'the queue is full');
    stream.submit({ requestId: 'full', prompt: text('in') });
    assert.deepEqual((await stream.last('full')).error, {
      code: ErrorCode.OVERLOADED,
      message: 'the queue is full',
      field: '',
      retryable: true,
    });
    engine.refusal = undefined;
    stream.submit({ requestId: 'none' });
    assert.equal((await stream.last('none')).error?.field, 'prompt');
    stream.submit({ requestId: 'chat', prompt: { $case: 'chat', value: { messages: [] } } });
    assert.match((await stream.last('chat')).error?.message ?? '', /has no chat template/);
    engine.throws = new Error('secret detail');
    stream.submit({ requestId: 'bug', prompt: text('in') });
    assert.equal((await stream.last('bug')).error?.code, ErrorCode.INTERNAL);
    engine.throws = undefined;
    closedFor = 'draining';
    stream.submit({ requestId: 'late', prompt: text('in') });
    assert.deepEqual((await stream.last('late')).error?.code, ErrorCode.UNAVAILABLE);
    closedFor = undefined;
    stream.call.write(ServeRequest.create());
    assert.match((await stream.last('')).error?.message ?? '', /message is empty/);
    stream.submit({ requestId: 'ok', prompt: text('in') });
    await engine.until(() => engine.submitted.at(-1)?.requestId === 'ok');
  });

  it('refuses a request id that is in use, and takes it again when it is free', async () => {
    stream.submit({ requestId: 'a', prompt: text('in') });
    stream.submit({ requestId: 'a', prompt: text('in') });
    assert.equal((await stream.last('a')).error?.field, 'request_id');
    await engine.until(() => engine.submitted.length === 1);
    engine.token('a', 'x', true);
    await stream.until(() => stream.updates('a').length === 2);
    stream.submit({ requestId: 'a', prompt: text('in') });
    await engine.until(() => engine.submitted.length === 2);
  });

  it('holds updates back while the reader does not read, and loses none', async () => {
    stream.submit({ requestId: 'a', prompt: text('in') });
    await engine.until(() => engine.submitted.length === 1);
    stream.call.pause();
    const piece = 'x'.repeat(1000);
    const steps = 3000;
    for (let i = 0; i < steps; i++) {
      engine.token('a', piece, i === steps - 1);
      if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    stream.call.resume();
    await stream.last('a');
    const deltas = stream.updates('a').flatMap((update) => update.deltas);
    assert.equal(deltas.map((delta) => delta.text).join('').length, steps * piece.length);
    assert.equal(deltas.flatMap((delta) => delta.tokenIds).length, steps);
    assert.ok(stream.messages.length < steps / 2, `${stream.messages.length} messages`);
  });

  it('cancels everything of a stream that breaks', async () => {
    stream.submit({ requestId: 'a', prompt: text('in') });
    await engine.until(() => engine.submitted.length === 1);
    stream.call.cancel();
    await engine.until(() => engine.calls.includes('cancelAll'));
  });

  it('finishes what runs on a stream whose client sends no more, then ends it', async () => {
    stream.submit({ requestId: 'a', prompt: text('in') });
    stream.call.end();
    await engine.until(() => engine.submitted.length === 1);
    engine.token('a', 'x', true);
    await stream.until(() => stream.ended);
    assert.equal(stream.updates('a').length, 1);
    assert.deepEqual(engine.calls, []);
  });

  it('describes itself and encodes without running', async () => {
    const described = await new Promise<DescribeResponse>((resolve, reject) => {
      client.describe({}, (error, reply) => {
        if (error) reject(error);
        else resolve(reply);
      });
    });
    assert.equal(described.model?.id, 'tiny');
    const encode = (
      request: Parameters<typeof EncodeRequest.fromPartial>[0],
    ): Promise<readonly [number[], string]> =>
      new Promise((resolve, reject) => {
        client.encode(EncodeRequest.fromPartial(request), (error, reply) => {
          if (error) reject(error);
          else resolve([reply.tokenIds, Buffer.concat(reply.tokens).toString()]);
        });
      });
    assert.deepEqual(await encode({ prompt: text('a the') as never }), [[97, 258], 'a the']);
    await assert.rejects(encode({}), (error: ServiceError) => {
      assert.equal(error.code, status.INVALID_ARGUMENT);
      return error.details.includes('prompt is missing');
    });
  });

  it('hands out the bytes of the artifact it came with, and of no other', async () => {
    const read = async (artifactDigest: string): Promise<Buffer> => {
      const chunks: Buffer[] = [];
      for await (const message of client.readArtifact({ artifactDigest }))
        chunks.push((message as ReadArtifactResponse).chunk);
      return Buffer.concat(chunks);
    };
    assert.deepEqual(await read('own'), await readFile(import.meta.filename));
    await assert.rejects(read('other'), { code: status.NOT_FOUND });
    await assert.rejects(read('gone'), { code: status.INTERNAL });
  });

  it('validates an artifact, or says why not', async () => {
    const ask = (artifactDigest: string): Promise<ValidateResponse> =>
      new Promise((resolve, reject) => {
        client.validate({ artifactDigest }, (error, reply) => {
          if (error) reject(error);
          else resolve(reply);
        });
      });
    assert.deepEqual((await ask('a'.repeat(64))).layers, [{ layer: 3, iou: 0.5, keptMass: 0.75 }]);
    for (const [digest, code, details] of [
      ['b'.repeat(64), status.UNAVAILABLE, /both slots are taken/],
      ['c'.repeat(64), status.INTERNAL, /see its log/],
      ['xyz', status.INVALID_ARGUMENT, /artifact_digest must be 64/],
    ] as const) {
      await assert.rejects(ask(digest), (error: ServiceError) => {
        assert.equal(error.code, code);
        assert.match(error.details, details);
        return true;
      });
    }
  });

  it('says that a port is in use, in one line', async () => {
    const squatter = createServer();
    await new Promise<void>((resolve) => squatter.listen(0, '127.0.0.1', resolve));
    const { port } = squatter.address() as AddressInfo;
    const parts = {
      engine,
      tokenizer,
      describe: () => DescribeResponse.create(),
      validate,
      artifactPath: () => undefined,
      closedFor: () => undefined,
      log,
    };
    await assert.rejects(
      WorkerGrpcServer.listen('127.0.0.1', port, parts),
      new RegExp(`^BindError: port ${port} on 127\\.0\\.0\\.1 is in use: .*--grpc-port`),
    );
    await new Promise((resolve) => squatter.close(resolve));
  });
});
