import assert from 'node:assert/strict';
import { Counter, Histogram, Registry } from 'prom-client';
import { StepCounter, StepHistogram } from './step-histogram.js';

const labels = { model_name: 'm', engine: '0' };
const buckets = [0.01, 0.1, 1];
const VALUES = [0.005, 0.01, 0.0100001, 0.5, 1, 7, 0];

const lines = async (registry: Registry): Promise<string[]> =>
  (await registry.metrics()).trim().split('\n').sort();

describe('StepHistogram', () => {
  it("writes what prom-client's own histogram writes", async () => {
    const [ours, theirs] = [new Registry(), new Registry()];
    const histogram = new StepHistogram({ name: 'x:seconds', help: 'h', labels, registers: [ours] }, buckets);
    const reference = new Histogram({
      name: 'x:seconds',
      help: 'h',
      labelNames: ['model_name', 'engine'],
      buckets,
      registers: [theirs],
    });
    reference.zero(labels);
    assert.deepEqual(await lines(ours), await lines(theirs));
    histogram.addAll(Float64Array.from([...VALUES, 99]), VALUES.length);
    histogram.add(2);
    for (const value of [...VALUES, 2]) reference.observe(labels, value);
    assert.deepEqual(await lines(ours), await lines(theirs));
  });
});

describe('StepCounter', () => {
  it("writes what prom-client's own counter writes", async () => {
    const [ours, theirs] = [new Registry(), new Registry()];
    const counter = new StepCounter({ name: 'x:total', help: 'h', labels, registers: [ours] });
    const reference = new Counter({
      name: 'x:total',
      help: 'h',
      labelNames: ['model_name', 'engine'],
      registers: [theirs],
    });
    reference.inc(labels, 0);
    assert.deepEqual(await lines(ours), await lines(theirs));
    counter.add(3);
    counter.add(4);
    reference.inc(labels, 7);
    assert.deepEqual(await lines(ours), await lines(theirs));
  });
});
