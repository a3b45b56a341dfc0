import assert from 'node:assert/strict';
import { prefixHashes } from '../routing/hash.js';
import { canonicalBytes } from './canonical-bytes.js';
import type { Prompt } from './generation-request.js';

const chat = (...messages: [role: string, content: string][]): Prompt => ({
  $case: 'chat',
  value: { messages: messages.map(([role, content]) => ({ role, content, name: '' })) },
});

describe('canonicalBytes', () => {
  it('begins alike for a conversation and its next turn', () => {
    const before = canonicalBytes(chat(['system', 'be brief'], ['user', 'hi']));
    const after = canonicalBytes(
      chat(['system', 'be brief'], ['user', 'hi'], ['assistant', 'hello'], ['user', 'more']),
    );
    assert.deepEqual(after.subarray(0, before.length), before);
    const long = 'x'.repeat(8000);
    const hashes = prefixHashes(canonicalBytes(chat(['user', long])));
    const next = prefixHashes(canonicalBytes(chat(['user', long], ['assistant', 'y'])));
    assert.ok(hashes.length > 0);
    assert.deepEqual(next.slice(0, hashes.length), hashes);
  });

  it('tells fields apart that run together as text', () => {
    const one = canonicalBytes(chat(['user', 'ab']));
    const other = canonicalBytes(chat(['usera', 'b']));
    assert.notDeepEqual(one, other);
  });

  it('takes text as UTF-8 and ids as four bytes each', () => {
    assert.deepEqual([...canonicalBytes({ $case: 'text', value: 'é' })], [0xc3, 0xa9]);
    assert.equal(canonicalBytes({ $case: 'tokenIds', value: { ids: [1, 70_000] } }).length, 8);
  });
});
