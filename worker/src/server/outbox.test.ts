import assert from 'node:assert/strict';
import { Delta, FinishReason, Load, RequestUpdate } from '@spotlight/proto';
import { Outbox } from './outbox.js';

const update = (requestId: string, delta: Partial<Delta>, more: Partial<RequestUpdate> = {}): RequestUpdate =>
  RequestUpdate.fromPartial({ requestId, deltas: [Delta.fromPartial(delta)], ...more });

describe('outbox', () => {
  it('joins the updates of several steps, choice by choice, in order', () => {
    const outbox = new Outbox();
    outbox.add(
      3,
      [update('a', { tokenIds: [1], text: 'x' }, { artifactDigest: 'd' }), update('b', { text: 'B' })],
      Load.create(),
    );
    outbox.add(4, [update('a', { choice: 1, tokenIds: [9] }), update('c', {})], Load.create({ running: 2 }));
    outbox.add(
      5,
      [
        update(
          'a',
          {
            tokenIds: [2, 3],
            text: 'yz',
            finishReason: FinishReason.STOP,
            stopReason: { $case: 'stopTokenId', value: 3 },
          },
          { done: true, usage: { promptTokens: 1, completionTokens: 4, cachedTokens: 0 } },
        ),
      ],
      undefined,
    );
    const { message, spared } = outbox.take();
    assert.equal(message.step, 5n);
    assert.equal(message.load?.running, 2);
    assert.deepEqual(
      message.updates.map(({ requestId }) => requestId),
      ['a', 'b', 'c'],
    );
    const [a] = message.updates;
    assert.deepEqual(a?.deltas[0], {
      choice: 0,
      tokenIds: [1, 2, 3],
      text: 'xyz',
      logprobs: [],
      finishReason: FinishReason.STOP,
      stopReason: { $case: 'stopTokenId', value: 3 },
    });
    assert.deepEqual(a.deltas[1]?.tokenIds, [9]);
    assert.ok(a.done && a.artifactDigest === 'd' && a.usage?.completionTokens === 4);
    assert.deepEqual([...spared], [['a', 2]], 'a gave the news of three steps in one update');
    assert.ok(outbox.empty);
    const again = outbox.take();
    assert.deepEqual([again.message.updates.length, again.spared.size], [0, 0]);
  });
});
