import assert from 'node:assert/strict';
import { hash64, prefixHashes } from './hash.js';
import { PrefixIndex } from './prefix-index.js';

describe('prefixHashes', () => {
  it('agree exactly as far as prompts begin alike', () => {
    const a = Buffer.alloc(10_000, 'a');
    const b = Buffer.concat([a.subarray(0, 5_000), Buffer.alloc(5_000, 'b')]);
    const [left, right] = [prefixHashes(a), prefixHashes(b)];
    assert.equal(left.length, 9);
    assert.deepEqual(left.slice(0, 4), right.slice(0, 4));
    for (let i = 4; i < 9; i++) assert.notEqual(left[i], right[i]);
  });

  it('of a conversation that goes on begin with those of its last turn', () => {
    const turn = Buffer.alloc(3_000_000, 'conversation ');
    const next = Buffer.concat([turn, Buffer.from('and one more')]);
    assert.deepEqual(prefixHashes(next).slice(0, prefixHashes(turn).length), prefixHashes(turn));
    assert.ok(prefixHashes(turn).length < 300, 'few enough to look up');
  });

  it('leave out what is shorter than a chunk', () => {
    assert.deepEqual(prefixHashes(Buffer.alloc(1023)), []);
    assert.equal(prefixHashes(Buffer.alloc(1024)).length, 1);
  });

  it('agree between replicas: SHA-1, with no seed of the process', () => {
    assert.equal(hash64('spotlight'), 0x6e91db97823cfd29n);
  });
});

describe('PrefixIndex', () => {
  it('tells how many leading chunks each worker has seen', () => {
    const index = new PrefixIndex(100);
    index.record([1n, 2n, 3n], 'a');
    index.record([1n, 2n, 9n], 'b');
    assert.deepEqual([...index.match([1n, 2n, 3n, 4n])].sort(), [
      ['a', 3],
      ['b', 2],
    ]);
    assert.deepEqual([...index.match([5n, 1n])], [], 'a chunk counts only after those before it');
    assert.deepEqual([...index.match([])], []);
  });

  it('stays within its bound and keeps what is used', () => {
    const index = new PrefixIndex(100);
    index.record([1n, 2n], 'a');
    for (let i = 0; i < 1000; i++) {
      index.record([BigInt(1000 + i)], 'b');
      if (i % 50 === 0) index.record([1n, 2n], 'a');
      assert.ok(index.size <= 100);
    }
    assert.equal(index.match([1n, 2n]).get('a'), 2);
    assert.equal(index.match([1000n]).size, 0);
  });

  it('drops the deep chunks of a prompt before its first ones', () => {
    const index = new PrefixIndex(4);
    index.record([1n, 2n, 3n, 4n], 'a');
    index.record([9n], 'a');
    assert.equal(index.match([1n, 2n, 3n, 4n]).get('a'), 3);
  });

  it('holds a prompt longer than itself without growing', () => {
    const index = new PrefixIndex(10);
    index.record(
      Array.from({ length: 50 }, (_, i) => BigInt(i)),
      'a',
    );
    assert.equal(index.size, 10);
    assert.equal(index.match([0n, 1n]).get('a'), 2);
  });

  it('bounds the workers of a chunk, newest kept', () => {
    const index = new PrefixIndex(10);
    for (let i = 0; i < 20; i++) index.record([1n], `w${i}`);
    const holders = [...index.match([1n]).keys()];
    assert.equal(holders.length, 8);
    assert.ok(holders.includes('w19') && !holders.includes('w0'));
  });

  it('forgets a worker that left, and what it had when it comes again', () => {
    const index = new PrefixIndex(10);
    index.record([1n], 'a');
    index.forget('a');
    assert.equal(index.match([1n]).size, 0);
    index.record([2n], 'a');
    assert.equal(index.match([1n]).size, 0);
    assert.equal(index.match([2n]).get('a'), 1);
    index.forget('unknown');
  });
});
