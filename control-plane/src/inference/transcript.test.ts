import { FinishReason, RequestUpdate } from '@spotlight/proto';
import assert from 'node:assert/strict';
import { Transcript } from './transcript.js';

const usage = (
  promptTokens: number,
  completionTokens: number,
  cachedTokens: number,
): RequestUpdate['usage'] => ({
  promptTokens,
  completionTokens,
  cachedTokens,
});

describe('Transcript', () => {
  it('keeps tokens, text lengths and ends by choice', () => {
    const transcript = new Transcript(false, 100);
    assert.equal(transcript.begun, false);
    transcript.take(
      RequestUpdate.fromPartial({
        deltas: [
          { choice: 0, tokenIds: [1], text: 'a' },
          { choice: 2, tokenIds: [7], text: '' },
        ],
      }),
    );
    transcript.take(
      RequestUpdate.fromPartial({
        deltas: [
          { choice: 0, tokenIds: [2, 3], text: '🙂é', finishReason: FinishReason.STOP },
          { choice: 2, tokenIds: [8], text: 'bc' },
        ],
      }),
    );
    assert.deepEqual(transcript.resume(), [
      { choice: 0, tokenIds: [1, 2, 3], emittedChars: 4, finished: true },
      { choice: 2, tokenIds: [7, 8], emittedChars: 2, finished: false },
    ]);
    assert.equal(transcript.tokens, 5);
  });

  it('knows the echoed prompt from what was generated, at the first news of each choice', () => {
    const transcript = new Transcript(true, 100);
    transcript.take(
      RequestUpdate.fromPartial({
        deltas: [{ choice: 0, tokenIds: [90, 91, 1], text: 'Hi a' }],
        usage: usage(2, 1, 0),
      }),
    );
    transcript.take(
      RequestUpdate.fromPartial({
        deltas: [
          { choice: 0, tokenIds: [2], text: 'b' },
          { choice: 1, tokenIds: [90, 91, 5, 6], text: 'Hi xy' },
        ],
      }),
    );
    assert.deepEqual(transcript.resume(), [
      { choice: 0, tokenIds: [1, 2], emittedChars: 5, finished: false },
      { choice: 1, tokenIds: [5, 6], emittedChars: 5, finished: false },
    ]);
    assert.equal(transcript.tokens, 4);
  });

  it('gives up keeping past its length, and still counts', () => {
    const transcript = new Transcript(false, 3);
    transcript.take(RequestUpdate.fromPartial({ deltas: [{ tokenIds: [1, 2, 3], text: 'abc' }] }));
    assert.equal(transcript.kept, true);
    transcript.take(RequestUpdate.fromPartial({ deltas: [{ tokenIds: [4], text: 'd' }] }));
    transcript.take(RequestUpdate.fromPartial({ deltas: [{ tokenIds: [5], text: 'e' }] }));
    assert.deepEqual([transcript.kept, transcript.tokens], [false, 5]);
    assert.throws(() => transcript.resume());
  });

  it('stays with the cached tokens that were told first', () => {
    const transcript = new Transcript(false, 3);
    assert.equal(transcript.usage(undefined), undefined);
    assert.deepEqual(transcript.usage(usage(10, 1, 4)), usage(10, 1, 4));
    assert.deepEqual(transcript.usage(usage(10, 9, 0)), usage(10, 9, 4));
  });
});
