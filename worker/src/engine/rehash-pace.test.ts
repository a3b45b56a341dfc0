import assert from 'node:assert/strict';
import { RehashPace } from './rehash-pace.js';

/** Runs `steps` of so many seconds, with batches of blocks that take `each` seconds a block. */
function simulate(pace: RehashPace, steps: number, stepSeconds: number, each: number): number[] {
  const delays: number[] = [];
  for (let i = 0; i < steps; i++) {
    pace.stepped(stepSeconds);
    const blocks = pace.blocks(true);
    if (blocks > 0) pace.spent(blocks * each, blocks, true);
    delays.push(blocks * each);
  }
  return delays;
}

describe('the pace of rehashing', () => {
  it('takes its share of the time while requests run, whatever steps and blocks take', () => {
    for (const [stepSeconds, each] of [
      [0.02, 0.0015],
      [0.004, 0.00002],
      [0.3, 0.002],
      [0.005, 0.004],
    ] as const) {
      const delays = simulate(new RehashPace(0.05), 4000, stepSeconds, each);
      const share = delays.reduce((sum, delay) => sum + delay, 0) / (4000 * stepSeconds);
      assert.ok(share > 0.04 && share < 0.0505, `${share} of steps of ${stepSeconds} s`);
    }
  });

  it('never makes one step wait long: what was not used does not pile up', () => {
    const pace = new RehashPace(0.05);
    for (let i = 0; i < 1000; i++) pace.stepped(0.02);
    const delays = simulate(pace, 200, 0.02, 0.0015);
    assert.ok(Math.max(...delays.slice(20)) <= 0.25 * 0.02 + 1e-9);
  });

  it('waits until a batch that took longer than it had earned is paid for', () => {
    const pace = new RehashPace(0.05);
    while (pace.blocks(true) === 0) pace.stepped(0.02);
    pace.spent(0.5, 1, true);
    assert.equal(pace.blocks(true), 0);
    let steps = 0;
    while (pace.blocks(true) === 0) {
      pace.stepped(0.02);
      steps++;
    }
    assert.ok(steps >= 480, `${steps} steps`);
  });

  it('takes all of the time when nothing runs, in batches a newcomer can wait for', () => {
    const pace = new RehashPace(0.05);
    assert.equal(pace.blocks(false), 1, 'nothing is known of a block yet');
    pace.spent(0.001, 1, false);
    for (let i = 0; i < 20; i++) {
      const blocks = pace.blocks(false);
      assert.ok(blocks >= 1 && blocks <= 20);
      pace.spent(blocks * 0.001, blocks, false);
    }
    assert.ok(pace.blocks(false) >= 18);
    assert.equal(pace.blocks(true), 0, 'nothing has been earned');
  });
});
