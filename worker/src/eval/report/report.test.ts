import assert from 'node:assert/strict';
import type { Row } from '../trial.js';
import { htmlReport } from './html.js';
import { heatMap, lineChart } from './plots.js';
import { summaries, summaryText } from './summary.js';
import { bytesText, figure, table } from './table.js';

const row = (more: Partial<Row>): Row => ({
  ...{
    task: 'ppl',
    group: 'book',
    metric: 'perplexity',
    method: 'quest',
    budget: 0.02,
    indexBits: 128,
    value: 23.456789,
  },
  ...{ context: 8192, rows: 163.4, bytes: 2_345_678, ...more },
});

describe('the report', () => {
  it('prints a row with its bytes and exact top-k beside', () => {
    const lines = table([
      row({ ratio: 1.0523, equal: { tokens: 291, value: 22.9 } }),
      row({ group: 'layer 1', detail: true }),
    ]).split('\n');
    assert.equal(lines.length, 2);
    assert.match(
      lines[1] ?? '',
      /^ppl +book +quest +2% +perplexity +23\.46 +1\.052 +163 +2\.346 MB +22\.9 \(291 tokens\)$/,
    );
  });

  it('sums a task up as one line a method, exact top-k at as many bytes in brackets', () => {
    const [texts, needles, ...more] = summaries([
      row({ group: 'book-one.txt', method: 'dense', budget: 1, bytes: 2e8, rows: 8192 }),
      row({ group: 'math-two.tex', method: 'dense', budget: 1, value: 4, bytes: 2e8, rows: 8192 }),
      row({ group: 'book-one.txt', equal: { tokens: 291, value: 22.9 } }),
      row({ group: 'math-two.tex', value: 5 }),
      row({ task: 'iou', group: 'all', metric: 'IoU', value: 0.4321, equal: { tokens: 291, value: 1 } }),
      row({ task: 'iou', group: 'layer 3', metric: 'IoU', value: 0.4, detail: true }),
      row({ task: 'needle', group: 'uuid', metric: 'question sparse', value: 1 }),
    ]);
    assert.equal(more.length, 0);
    assert.deepEqual(texts?.head.slice(5), ['perplexity, book', 'perplexity, math', 'IoU']);
    assert.deepEqual(texts.lines, [
      ['dense', '', '', '8192', '200 MB', '23.46', '4', ''],
      ['quest', '2%', '128', '163', '2.346 MB', '23.46 [22.9]', '5', '0.4321'],
    ]);
    assert.deepEqual(needles?.head.slice(5), ['question sparse, uuid']);
    assert.match(summaryText(texts), /^perplexity and selections .*\nmethod +budget /);
  });

  it('shows figures of four digits', () => {
    assert.deepEqual([figure(0.000123456), figure(1234567), figure(undefined)], ['0.0001235', '1235000', '']);
    assert.equal(bytesText(12_345), '12.35 kB');
  });

  it('draws lines, a single point, and nothing without points', () => {
    const chart = {
      title: 'a < b',
      xLabel: 'x',
      yLabel: 'y',
      series: [
        {
          name: 'm',
          points: [
            [1, 2],
            [4, 3],
          ] as const,
        },
      ],
    };
    const drawn = lineChart(chart);
    assert.match(drawn, /a &lt; b/);
    assert.equal(drawn.match(/<circle/g)?.length, 2);
    assert(!/NaN|undefined|Infinity/.test(drawn));
    assert(!/NaN/.test(lineChart({ ...chart, logX: true, series: [{ name: 'm', points: [[3, 2]] }] })));
    assert.equal(lineChart({ ...chart, series: [] }), '');
    const cut = lineChart({ ...chart, mostY: 2.5 });
    assert.equal(cut.match(/<circle/g)?.length, 1);
    assert.match(cut, /m \(above: 1\)/);
    const coloured = lineChart({ ...chart, series: [{ ...chart.series[0]!, colour: 3 }] });
    assert(coloured.includes('#5f4bb6') && !drawn.includes('#5f4bb6'));
    const many = Array.from({ length: 12 }, (_, i) => ({ ...chart.series[0]!, name: `m${i}` }));
    assert.equal(lineChart({ ...chart, series: many }).match(/stroke-dasharray/g)?.length, 2);
  });

  it('draws a heat map with a cell a value', () => {
    const map = heatMap({
      ...{ title: 't', xLabel: 'x', yLabel: 'y' },
      columns: ['1', '2'],
      rows: ['0%'],
      values: [[1, undefined]],
    });
    assert.match(map, />100%</);
    assert.equal(map.match(/<rect/g)?.length, 2);
  });

  it('is one page without other files, the same every time, and escapes what it shows', () => {
    const rows = [
      row({ group: '<script>' }),
      row({ method: 'dense', budget: 1, bytes: 1e8 }),
      row({ task: 'iou', group: 'layer 3', metric: 'IoU', value: 0.4, detail: true }),
      row({ task: 'iou', group: 'position 512', metric: 'IoU', value: 0.4, detail: true }),
      row({
        task: 'needle',
        group: 'uuid 1024 tokens, depth 50%',
        metric: 'question sparse',
        value: 1,
        detail: true,
      }),
    ];
    const report = { command: 'spotlight eval --texts <x>', facts: [['model', 'm']] as const, rows };
    const page = htmlReport(report);
    assert.equal(page, htmlReport(report));
    assert(!page.includes('<script>') && !/(src|href)=/.test(page));
    for (const words of [
      '--texts &lt;x&gt;',
      'IoU by layer',
      'IoU by position',
      'uuid, question sparse: quest 2%',
    ])
      assert(page.includes(words), words);
  });
});
