// A Serve stream that HTTP/2 holds back: what the steps meanwhile cost in credits comes back to the requests.
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { ServeResponse } from '@spotlight/proto';
import { ServeRequest } from '@spotlight/proto';
import { pino } from 'pino';
import type { PromptEncoder } from './prompt.js';
import { FakeEngine } from './fake-engine.js';
import { ServeStream } from './serve-stream.js';

class Call extends EventEmitter {
  readonly written: ServeResponse[] = [];
  full = false;

  write(message: ServeResponse): boolean {
    this.written.push(message);
    return !this.full;
  }

  end(): void {
    this.emit('cancelled');
  }
}

describe('a Serve stream that is held back', () => {
  it('gives back the credits of steps that went out inside another', async () => {
    const engine = new FakeEngine();
    const call = new Call();
    const encoder: PromptEncoder = {
      encode: () => Promise.resolve([1]),
      encodeChat: () => Promise.resolve([1]),
    };
    new ServeStream(call as never, engine, encoder, () => undefined, pino({ level: 'silent' }));
    for (const requestId of ['a', 'b']) {
      const value = { requestId, credits: 8, prompt: { $case: 'text' as const, value: 'x' } };
      call.emit('data', ServeRequest.fromPartial({ message: { $case: 'submit', value } }));
    }
    await engine.until(() => engine.submitted.length === 2);
    call.full = true;
    engine.token('a', '1'); // Goes out, and fills the stream.
    for (const text of ['2', '3', '4']) engine.token('a', text);
    engine.token('b', '1');
    assert.equal(call.written.length, 1);

    call.full = false;
    call.emit('drain');
    const texts = call.written.map(({ updates }) =>
      updates.map(({ requestId, deltas }) => `${requestId} ${deltas[0]?.text ?? ''}`),
    );
    assert.deepEqual(texts, [['a 1'], ['a 234', 'b 1']]);
    assert.deepEqual(engine.calls, ['credit a 2'], 'a has paid for four steps and two updates went out');
  });
});
