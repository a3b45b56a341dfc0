// What the end-to-end tests cannot time: a client that leaves at an awkward moment, a prompt of several that fails.
import { ErrorCode, ModelDescription, RequestUpdate, SamplingParams } from '@spotlight/proto';
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { invalidArgument, ServiceError } from '../errors/service-error.js';
import type { Generation, GenerationRequest, GenerationSink } from '../inference/generation-request.js';
import { createLog } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { RequestLog } from '../telemetry/request-log.js';
import { CompletionShape } from './completion-shape.js';
import type { OpenAiRequest } from './openai-request.js';
import { Responder } from './responder.js';

class FakeInference {
  readonly running: { request: GenerationRequest; sink: GenerationSink; cancelled: boolean }[] = [];
  refuseAfter = Number.POSITIVE_INFINITY;

  generate(request: GenerationRequest, sink: GenerationSink): Generation {
    if (this.running.length >= this.refuseAfter) throw new ServiceError(ErrorCode.OVERLOADED, 'Full.');
    const run = { request, sink, cancelled: false };
    this.running.push(run);
    return {
      model: ModelDescription.fromPartial({ id: 'm', fingerprint: 'f' }),
      seed: 1n,
      replays: 0,
      usage: undefined,
      workerId: 'w',
      credit: () => undefined,
      cancel: () => {
        run.cancelled = true;
      },
    };
  }
}

const asked = (over: Partial<OpenAiRequest>): OpenAiRequest => ({
  model: 'm',
  prompts: [
    { $case: 'text', value: 'one' },
    { $case: 'text', value: 'two' },
  ],
  sampling: SamplingParams.fromPartial({}),
  attention: undefined,
  timeoutMs: undefined,
  stream: false,
  logprobs: false,
  includeUsage: false,
  returnTokenIds: false,
  ...over,
});

describe('Responder', () => {
  let server: Server | undefined;
  afterEach(() => {
    server?.closeAllConnections();
    server?.close();
  });

  /** A response whose client can be made to leave. */
  async function open(): Promise<{ response: ServerResponse; leave: () => Promise<void> }> {
    const log = new RequestLog(createLog('silent'), new Metrics());
    const listening = createServer();
    server = listening;
    const arrived = once(listening, 'request') as Promise<
      [Parameters<typeof log.middleware>[0], ServerResponse]
    >;
    await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
    const client = connect((listening.address() as AddressInfo).port, '127.0.0.1');
    client.on('error', () => undefined);
    client.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
    const [request, response] = await arrived;
    log.middleware(request, response, () => undefined);
    const leave = async (): Promise<void> => {
      const closed = once(response, 'close');
      client.destroy();
      await closed;
    };
    return { response, leave };
  }

  const answer = (
    inference: FakeInference,
    request: OpenAiRequest,
    response: ServerResponse,
  ): Promise<void> =>
    new Responder(inference, {
      enter: () => Promise.resolve({ leave: () => undefined }),
      headers: () => ({}),
    }).answer({
      request,
      shape: new CompletionShape(request),
      sessionId: undefined,
      response,
    });

  for (const stream of [true, false]) {
    const how = stream ? 'streamed' : 'whole';

    it(`${how}: starts nothing for a client that has left already`, async () => {
      const inference = new FakeInference();
      const { response, leave } = await open();
      await leave();
      await answer(inference, asked({ stream }), response);
      assert.equal(inference.running.length, 0);
    });

    it(`${how}: cancels all prompts when the client leaves`, async () => {
      const inference = new FakeInference();
      const { response, leave } = await open();
      const answered = answer(inference, asked({ stream }), response);
      await leave();
      await answered;
      assert.deepEqual(
        inference.running.map(({ cancelled }) => cancelled),
        [true, true],
      );
    });

    it(`${how}: one prompt that fails ends the others, with its own status`, async () => {
      const inference = new FakeInference();
      const { response } = await open();
      const answered = answer(inference, asked({ stream }), response);
      await new Promise((resolve) => setImmediate(resolve)); // Its key's limits are asked first.
      inference.running[1]?.sink.onError(invalidArgument('prompt', 'Too long.'));
      inference.running[0]?.sink.onUpdate(
        RequestUpdate.fromPartial({ deltas: [{ choice: 0, text: 'late' }] }),
      );
      await assert.rejects(answered, { field: 'prompt' });
      assert.equal(response.headersSent, false);
      assert.equal(inference.running[0]?.cancelled, true);
    });

    it(`${how}: a prompt that is not admitted takes back those before it`, async () => {
      const inference = new FakeInference();
      inference.refuseAfter = 1;
      const { response } = await open();
      await assert.rejects(answer(inference, asked({ stream }), response), { code: ErrorCode.OVERLOADED });
      assert.equal(inference.running[0]?.cancelled, true);
    });
  }
});
