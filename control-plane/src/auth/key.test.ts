import assert from 'node:assert/strict';
import { hashKey, makeKey, prefixOf, sameHash, sameSecret } from './key.js';
import { allows, isScope } from './scopes.js';

describe('API keys', () => {
  it('carry 256 random bits and a prefix that finds them', () => {
    const made = Array.from({ length: 100 }, makeKey);
    assert.equal(new Set(made.map(({ key }) => key)).size, 100);
    for (const { key, prefix, hash } of made) {
      assert.equal(prefixOf(key), prefix);
      assert.equal(hashKey(key), hash);
      assert.match(hash, /^[0-9a-f]{64}$/);
      const secret = key.slice(key.indexOf(prefix) + prefix.length + 1);
      assert.equal(Buffer.from(secret, 'base64url').length, 32);
      assert.ok(!hash.includes(secret));
    }
  });

  it('of another form have no prefix', () => {
    const { key } = makeKey();
    for (const text of ['', 'sk-other', key.slice(0, -1), `${key}x`, key.toUpperCase(), ` ${key}`]) {
      assert.equal(prefixOf(text), undefined, text);
    }
  });

  it('compare by their whole content', () => {
    assert.ok(sameSecret('a secret', 'a secret'));
    for (const other of ['a secreT', 'a secret ', '', 'a']) assert.ok(!sameSecret('a secret', other));
    assert.ok(!sameHash(hashKey('x'), ''));
    assert.ok(!sameHash('zz', 'yy'.repeat(32)));
  });
});

describe('scopes', () => {
  it('admin includes the others, and no other does', () => {
    assert.ok(allows(['admin'], 'generate') && allows(['admin'], 'worker'));
    assert.ok(allows(['generate', 'worker'], 'worker'));
    assert.ok(!allows(['generate'], 'admin') && !allows(['worker'], 'generate') && !allows([], 'generate'));
    assert.ok(isScope('admin') && !isScope('root'));
  });
});
