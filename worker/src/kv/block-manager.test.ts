import assert from 'node:assert/strict';
import type { BlockId } from '@spotlight/cuda';
import { auditBlocks } from './audit.js';
import { BlockManager } from './block-manager.js';
import { BlockTable } from './block-table.js';

const tableOf = (manager: BlockManager, count: number): BlockTable => {
  const table = new BlockTable();
  for (let i = 0; i < count; i++) table.push(manager.allocate());
  return table;
};

describe('BlockManager', () => {
  it('hands out every block once and refuses one more', () => {
    const manager = new BlockManager(5);
    const table = tableOf(manager, 5);
    assert.equal(new Set(table.slice(0)).size, 5);
    assert.equal(manager.canAllocate(1), false);
    assert.throws(() => manager.allocate(), RangeError);
    assert.deepEqual(auditBlocks(manager, [table]), []);
  });

  it('keeps a released block until the last step that may write to it has retired', () => {
    const manager = new BlockManager(4);
    const table = tableOf(manager, 4);
    manager.retire(6);
    manager.release(table, 7);
    assert.equal(manager.available, 0);
    assert.equal(manager.retiringCount, 4);
    assert.deepEqual(auditBlocks(manager, []), []);
    manager.retire(7);
    assert.equal(manager.freeCount, 4);
    assert.equal(manager.retiringCount, 0);
    assert.deepEqual(auditBlocks(manager, []), []);
  });

  it('frees at once when nothing submitted since is in flight', () => {
    const manager = new BlockManager(2);
    manager.retire(3);
    manager.release(tableOf(manager, 2), 3);
    assert.equal(manager.freeCount, 2);
  });

  it('frees a shared block when its last holder leaves', () => {
    const manager = new BlockManager(2);
    const a = tableOf(manager, 1);
    const b = new BlockTable();
    b.push(a.at(0));
    manager.share(a.at(0));
    manager.release(a, 0);
    assert.equal(manager.freeCount, 1);
    assert.equal(manager.holders(b.at(0)), 1);
    manager.release(b, 0);
    assert.equal(manager.freeCount, 2);
  });

  it('reclaims cached blocks only when none is free, those used longest ago first, ends of chains before beginnings', () => {
    const manager = new BlockManager(4);
    const first = tableOf(manager, 2);
    const second = tableOf(manager, 1);
    const [a0, a1] = first.slice(0);
    const [b0] = second.slice(0);
    assert(a0 !== undefined && a1 !== undefined && b0 !== undefined);
    manager.cache.register(a0, 'a0');
    manager.cache.register(a1, 'a1');
    manager.cache.register(b0, 'b0');
    manager.release(first, 0);
    manager.release(second, 0);
    assert.deepEqual([manager.freeCount, manager.available], [1, 4]);
    manager.allocate();
    assert(['a0', 'a1', 'b0'].every((key) => manager.cache.find(key) !== undefined));
    assert.deepEqual([manager.allocate(), manager.allocate(), manager.allocate()], [a1, a0, b0]);
    assert.equal(manager.cache.find('a0'), undefined);
  });

  it('takes a cached block out of the reclaimable ones when it is shared again', () => {
    const manager = new BlockManager(1);
    const table = tableOf(manager, 1);
    manager.cache.register(table.at(0), 'key');
    manager.release(table, 0);
    const found = manager.cache.find('key');
    assert(found !== undefined);
    manager.share(found);
    assert.equal(manager.canAllocate(1), false);
    manager.releaseOne(found, 0);
    assert.equal(manager.canAllocate(1), true);
    assert.deepEqual(auditBlocks(manager, []), []);
  });

  it('forgets cached blocks at once, and held ones when they are released', () => {
    const manager = new BlockManager(2);
    const held = tableOf(manager, 1);
    const cached = tableOf(manager, 1);
    manager.cache.register(held.at(0), 'held');
    manager.cache.register(cached.at(0), 'cached');
    manager.release(cached, 0);
    manager.forgetCached();
    assert.equal(manager.freeCount, 1);
    assert.equal(manager.cache.find('held'), undefined);
    manager.release(held, 0);
    assert.equal(manager.freeCount, 2);
    assert.deepEqual(auditBlocks(manager, []), []);
  });

  it('forgets one key: a block nobody holds is free, one that is held is no longer found', () => {
    const manager = new BlockManager(3);
    const held = tableOf(manager, 1);
    const cached = tableOf(manager, 2);
    manager.cache.register(held.at(0), 'held');
    manager.cache.register(cached.at(0), 'cached');
    manager.cache.register(cached.at(1), 'other');
    manager.release(cached, 0);
    for (const key of ['held', 'cached', 'unknown']) manager.forget(key);
    assert.equal(manager.cache.find('held'), undefined);
    assert.equal(manager.cache.find('cached'), undefined);
    assert.notEqual(manager.cache.find('other'), undefined);
    assert.equal(manager.freeCount, 1);
    assert.deepEqual(auditBlocks(manager, [held]), []);
    manager.release(held, 0);
    assert.equal(manager.freeCount, 2);
    assert.deepEqual(auditBlocks(manager, []), []);
  });

  it('refuses to end a hold that nobody has', () => {
    const manager = new BlockManager(1);
    assert.throws(() => {
      manager.releaseOne(0 as BlockId, 0);
    }, /released more often/);
  });
});

describe('auditBlocks', () => {
  it('finds a block whose table was lost, and one that two tables hold on one count', () => {
    const manager = new BlockManager(3);
    const table = tableOf(manager, 2);
    assert.equal(auditBlocks(manager, []).length, 2);
    const twice = new BlockTable();
    twice.push(table.at(0));
    assert.match(auditBlocks(manager, [table, twice]).join(), /counts 1 holders and has 2/);
  });
});
