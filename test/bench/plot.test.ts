import assert from 'node:assert/strict';
import { plotAttention } from './attention.js';
import { svg, tokens } from './plot.js';

const plot = { title: 'a < b', xLabel: 'x', yLabel: 'y' };
const points = (text: string): number[][] =>
  [...text.matchAll(/cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, x, y]) => [Number(x), Number(y)]);

describe('svg', () => {
  it('puts equal ratios at equal distances on both axes', () => {
    const drawn = svg({
      ...plot,
      series: [
        {
          name: 's',
          points: [
            [1024, 1],
            [2048, 10],
            [4096, 100],
          ].map(([x, y]) => [x!, y!] as const),
        },
      ],
    });
    const [a, b, c] = points(drawn);
    assert.ok(a && b && c);
    assert.ok(Math.abs(b[0]! - a[0]! - (c[0]! - b[0]!)) < 0.2 && b[0]! > a[0]!, 'x grows evenly');
    assert.ok(Math.abs(a[1]! - b[1]! - (b[1]! - c[1]!)) < 0.2 && b[1]! < a[1]!, 'y grows upwards, evenly');
  });
  it('escapes words, and keeps names apart', () => {
    const drawn = svg({
      ...plot,
      series: [
        { name: 'a&b', points: [[1, 5]] },
        { name: 'c', points: [[1, 5]] },
      ],
    });
    assert.ok(drawn.includes('a &lt; b') && drawn.includes('a&amp;b'));
    const names = [...drawn.matchAll(/y="([\d.]+)" text-anchor="start" style/g)].map(([, y]) => Number(y));
    assert.equal(names.length, 2);
    assert.ok(names[1]! - names[0]! >= 16);
  });
  it('refuses what has no place on a logarithmic axis', () => {
    assert.throws(() => svg({ ...plot, series: [{ name: 's', points: [[1, 0]] }] }), RangeError);
    assert.throws(() => svg({ ...plot, series: [] }), RangeError);
  });
});

describe('tokens', () => {
  it('names powers of two as people do', () => {
    assert.deepEqual([512, 8192, 131072, 2097152, 1000].map(tokens), ['512', '8K', '128K', '2M', '1000']);
  });
});

describe('plotAttention', () => {
  it('draws batch 1 of the first shape and nothing else', () => {
    const line = { bench: 'attention', unit: 'us', value: 10 };
    const drawn = plotAttention([
      { ...line, case: 'device', metric: 'read bandwidth' },
      { ...line, case: 'a 1x1024', metric: 'spotlight' },
      { ...line, case: 'a 8x1024', metric: 'spotlight' },
      { ...line, case: 'a 1x2048', metric: 'hash' },
      { ...line, case: 'b 1x1024', metric: 'spotlight' },
    ]);
    assert.equal(points(drawn ?? '').length, 1);
    assert.equal(plotAttention([{ ...line, case: 'device', metric: 'read bandwidth' }]), undefined);
  });
});
